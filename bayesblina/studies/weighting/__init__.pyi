"""The public names, and the modules that define them."""

from .effect import WeightedEffect as WeightedEffect
from .effect import weighted_effect as weighted_effect
from .weights import Weighted as Weighted
from .weights import clone_censor_weight as clone_censor_weight
from .weights import starting_weights as starting_weights
