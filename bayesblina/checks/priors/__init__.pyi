from .predictive import prior_predictive as prior_predictive
from .scaling import power_scaling as power_scaling
from .scaling import power_scaling_draws as power_scaling_draws
from .scepticism import Scepticism as Scepticism
from .scepticism import most_sceptical_prior as most_sceptical_prior
from .scepticism import sceptical_priors as sceptical_priors
from .scepticism import scepticism_limit as scepticism_limit
