"""What is read off a fit: hazard ratios, curves and times under regimes, by draw."""

from bayesblina.estimands.comparisons import (
    average_hazard_ratio,
    contrast,
    number_needed_to_treat,
)
from bayesblina.estimands.cures import cured_fraction
from bayesblina.estimands.curves import (
    cumulative_hazard,
    hazard,
    median,
    rmst,
    rmtl,
    survival,
    survival_quantile,
)
from bayesblina.estimands.occupancies import state_occupancy, time_in_states
from bayesblina.estimands.ratios import hazard_ratio

__all__ = [
    "average_hazard_ratio",
    "contrast",
    "cumulative_hazard",
    "cured_fraction",
    "hazard",
    "hazard_ratio",
    "median",
    "number_needed_to_treat",
    "rmst",
    "rmtl",
    "state_occupancy",
    "survival",
    "survival_quantile",
    "time_in_states",
]
