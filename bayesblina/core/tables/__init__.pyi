from .checks import account as account
from .checks import adverse_events as adverse_events
from .checks import baseline as baseline
from .checks import convergence as convergence
from .checks import leave_one_out as leave_one_out
from .checks import models as models
from .estimates import bias_ladder as bias_ladder
from .estimates import estimates as estimates
from .estimates import probabilities as probabilities
from .estimates import scenarios as scenarios
from .numbers import BASELINE_MOVES as BASELINE_MOVES
from .numbers import NOT_CONVERGED as NOT_CONVERGED
from .numbers import SYNTHETIC as SYNTHETIC
from .numbers import VISITS as VISITS
from .numbers import Kind as Kind
from .table import Table as Table
from .table import publish as publish
from .table import to_csv as to_csv

__all__: list[str]
