"""Figures from computed datasets: bands, steps and densities."""

from bayesblina.output.plots.curves import (
    cumulative_hazard,
    cumulative_incidence,
    hazard,
    hazard_ratio_over_time,
    state_occupancy,
    survival,
)
from bayesblina.output.plots.draws import (
    chain_ranks,
    pareto_k,
    power_scaling,
    power_scaling_quantities,
    prior_posterior,
)
from bayesblina.output.plots.estimates import (
    bias_ladder,
    forest,
    hazard_ratio,
)
from bayesblina.output.plots.patients import patient_flow, swimmer
from bayesblina.output.plots.predictive import (
    calibration_ranks,
    martingale_residuals,
    predicted_against_observed,
    prior_predictive,
    replicated_events,
    replicated_simon_makuch,
)
from bayesblina.output.plots.safety import adverse_events
from bayesblina.output.plots.sensitivity import (
    balance,
    scenario_map,
    sceptical_priors,
    specification_curve,
    tipping_points,
    tornado,
)

__all__ = [
    "adverse_events",
    "balance",
    "bias_ladder",
    "calibration_ranks",
    "chain_ranks",
    "cumulative_hazard",
    "cumulative_incidence",
    "forest",
    "hazard",
    "hazard_ratio",
    "hazard_ratio_over_time",
    "martingale_residuals",
    "pareto_k",
    "patient_flow",
    "power_scaling",
    "power_scaling_quantities",
    "predicted_against_observed",
    "prior_posterior",
    "prior_predictive",
    "replicated_events",
    "replicated_simon_makuch",
    "scenario_map",
    "sceptical_priors",
    "specification_curve",
    "state_occupancy",
    "survival",
    "swimmer",
    "tipping_points",
    "tornado",
]
