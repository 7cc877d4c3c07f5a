"""Figures from computed datasets: bands, steps and densities."""

from bayesblina.plots.estimates import (
    bias_ladder,
    hazard_ratio,
    survival,
)
from bayesblina.plots.predictive import (
    calibration,
    calibration_ranks,
    martingale_residuals,
    prior_predictive,
    replicated_events,
    replicated_simon_makuch,
)
from bayesblina.plots.sensitivity import (
    balance,
    scenario_map,
    sceptical_priors,
    specification_curve,
    tipping_points,
    tornado,
)

__all__ = [
    "balance",
    "bias_ladder",
    "calibration",
    "calibration_ranks",
    "hazard_ratio",
    "martingale_residuals",
    "prior_predictive",
    "replicated_events",
    "replicated_simon_makuch",
    "scenario_map",
    "sceptical_priors",
    "specification_curve",
    "survival",
    "tipping_points",
    "tornado",
]
