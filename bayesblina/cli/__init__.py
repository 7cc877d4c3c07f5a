"""The command line: one function for each subcommand, no statistics.

Each command imports what it needs when it runs, so that help comes at once.
"""

from bayesblina.cli.analysis import report as report
from bayesblina.cli.analysis import run as run
from bayesblina.cli.application import app as app
from bayesblina.cli.application import main as main
from bayesblina.cli.definitions import models_app as models_app
from bayesblina.cli.demo_study import DEMO_STUDY as DEMO_STUDY
from bayesblina.cli.demo_study import write_demo as write_demo
from bayesblina.cli.intake import validate as validate
from bayesblina.cli.manner import ANSWERED as ANSWERED
from bayesblina.cli.manner import BAD_INPUT as BAD_INPUT
from bayesblina.cli.manner import FAULT as FAULT
from bayesblina.cli.manner import INTERRUPTED as INTERRUPTED
from bayesblina.cli.manner import MARKED as MARKED
from bayesblina.cli.manner import NOT_CONVERGED as NOT_CONVERGED
from bayesblina.cli.planning import design as design
from bayesblina.cli.weighting import weigh as weigh
