"""The public names, and the modules that define them."""

from .dropout import informative_dropout as informative_dropout
from .misclassification import adjust_for_misclassification as adjust_for_misclassification
from .unmeasured import adjust_for_confounder as adjust_for_confounder
from .unmeasured import bounding_factor as bounding_factor
from .unmeasured import confounding as confounding
from .unmeasured import e_value as e_value
from .unmeasured import e_values as e_values
from .unmeasured import tipping_points as tipping_points
