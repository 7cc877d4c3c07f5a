"""What is read off a fit: hazard ratios, curves and times under regimes, by draw."""

from bayesblina.estimands.curves import (
    contrast,
    cumulative_hazard,
    hazard,
    hazard_ratio,
    life_years_lost,
    rmst,
    survival,
    survival_quantile,
)

__all__ = [
    "contrast",
    "cumulative_hazard",
    "hazard",
    "hazard_ratio",
    "life_years_lost",
    "rmst",
    "survival",
    "survival_quantile",
]
