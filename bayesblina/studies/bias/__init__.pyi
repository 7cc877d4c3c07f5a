"""The public names, and the modules that define them."""

from .adjustments import adjust_for_confounder as adjust_for_confounder
from .adjustments import adjust_for_misclassification as adjust_for_misclassification
from .adjustments import bounding_factor as bounding_factor
from .adjustments import confounding as confounding
from .adjustments import e_value as e_value
from .adjustments import e_values as e_values
from .adjustments import tipping_points as tipping_points
from .dropout import informative_dropout as informative_dropout
