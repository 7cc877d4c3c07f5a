"""The command line: one function for each subcommand, no statistics.

Each command imports what it needs when it runs, so that help comes at once.
"""

from bayesblina.cli.analysis import DEMO_STUDY, report, run, validate, write_demo
from bayesblina.cli.application import (
    ANSWERED,
    BAD_INPUT,
    FAULT,
    INTERRUPTED,
    MARKED,
    NOT_CONVERGED,
    app,
    main,
)
from bayesblina.cli.definitions import models_app
from bayesblina.cli.studies import design, weigh

__all__ = [
    "ANSWERED",
    "BAD_INPUT",
    "DEMO_STUDY",
    "FAULT",
    "INTERRUPTED",
    "MARKED",
    "NOT_CONVERGED",
    "app",
    "design",
    "main",
    "models_app",
    "report",
    "run",
    "validate",
    "weigh",
    "write_demo",
]
