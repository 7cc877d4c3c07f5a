"""What is read off a fit: hazard ratios, curves and times under regimes, by draw."""

from bayesblina.estimands.comparisons import contrast, number_needed_to_treat
from bayesblina.estimands.curves import (
    cumulative_hazard,
    hazard,
    life_years_lost,
    median,
    rmst,
    survival,
    survival_quantile,
)
from bayesblina.estimands.ratios import hazard_ratio

__all__ = [
    "contrast",
    "cumulative_hazard",
    "hazard",
    "hazard_ratio",
    "life_years_lost",
    "median",
    "number_needed_to_treat",
    "rmst",
    "survival",
    "survival_quantile",
]
