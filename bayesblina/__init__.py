"""Bayesian survival analysis of treatment phases that patients enter later.

Every public name is loaded when it is first used, so that importing the package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesblina import errors as errors
    from bayesblina import plots as plots
    from bayesblina import simulate as simulate
    from bayesblina import tables as tables
    from bayesblina.bias_analysis import adjust_for_confounder as adjust_for_confounder
    from bayesblina.bias_analysis import (
        adjust_for_misclassification as adjust_for_misclassification,
    )
    from bayesblina.bias_analysis import bounding_factor as bounding_factor
    from bayesblina.bias_analysis import confounding as confounding
    from bayesblina.bias_analysis import e_value as e_value
    from bayesblina.bias_analysis import e_values as e_values
    from bayesblina.bias_analysis import informative_dropout as informative_dropout
    from bayesblina.bias_analysis import tipping_points as tipping_points
    from bayesblina.bootstrap import bayesian_bootstrap as bayesian_bootstrap
    from bayesblina.checks import check as check
    from bayesblina.checks import cure_identifiability as cure_identifiability
    from bayesblina.checks.curves import curve_shift as curve_shift
    from bayesblina.checks.refit import with_refit as with_refit
    from bayesblina.classical import kaplan_meier as kaplan_meier
    from bayesblina.classical import mantel_byar as mantel_byar
    from bayesblina.classical import nelson_aalen as nelson_aalen
    from bayesblina.classical import numbers_at_risk as numbers_at_risk
    from bayesblina.classical import simon_makuch as simon_makuch
    from bayesblina.cohort import Cohort as Cohort
    from bayesblina.cohort import Endpoint as Endpoint
    from bayesblina.cohort import Phase as Phase
    from bayesblina.cohort import Phases as Phases
    from bayesblina.comparison import compare as compare
    from bayesblina.comparison import k_fold as k_fold
    from bayesblina.comparison import leave_one_out as leave_one_out
    from bayesblina.deletion import influence as influence
    from bayesblina.deletion import most_influential as most_influential
    from bayesblina.emulation import WeightedEffect as WeightedEffect
    from bayesblina.emulation import weighted_effect as weighted_effect
    from bayesblina.estimands import average_hazard_ratio as average_hazard_ratio
    from bayesblina.estimands import contrast as contrast
    from bayesblina.estimands import cumulative_hazard as cumulative_hazard
    from bayesblina.estimands import cured_fraction as cured_fraction
    from bayesblina.estimands import hazard as hazard
    from bayesblina.estimands import hazard_ratio as hazard_ratio
    from bayesblina.estimands import median as median
    from bayesblina.estimands import number_needed_to_treat as number_needed_to_treat
    from bayesblina.estimands import rmst as rmst
    from bayesblina.estimands import rmtl as rmtl
    from bayesblina.estimands import state_occupancy as state_occupancy
    from bayesblina.estimands import survival as survival
    from bayesblina.estimands import survival_quantile as survival_quantile
    from bayesblina.estimands import time_in_states as time_in_states
    from bayesblina.exposure import Exposure as Exposure
    from bayesblina.exposure import expose as expose
    from bayesblina.external import borrowing as borrowing
    from bayesblina.fitting import Fit as Fit
    from bayesblina.fitting import fit as fit
    from bayesblina.hazards.definition import FractionPrior as FractionPrior
    from bayesblina.hazards.definition import HazardRatioPrior as HazardRatioPrior
    from bayesblina.hazards.definition import ModelDefinition as ModelDefinition
    from bayesblina.hazards.definition import OddsRatioPrior as OddsRatioPrior
    from bayesblina.hazards.definition import SpreadPrior as SpreadPrior
    from bayesblina.hazards.definition import load_model as load_model
    from bayesblina.ladder import bias_ladder as bias_ladder
    from bayesblina.ladder import cox as cox
    from bayesblina.ladder import ever_never as ever_never
    from bayesblina.ladder import landmark_analysis as landmark_analysis
    from bayesblina.onsets import AdverseEvents as AdverseEvents
    from bayesblina.onsets import adverse_events as adverse_events
    from bayesblina.paper import compare_with_published as compare_with_published
    from bayesblina.paper import published as published
    from bayesblina.planning import SampleSize as SampleSize
    from bayesblina.planning import operating_characteristics as operating_characteristics
    from bayesblina.planning import sample_size as sample_size
    from bayesblina.predictive import calibration as calibration
    from bayesblina.predictive import martingale_residuals as martingale_residuals
    from bayesblina.predictive import replicated_events as replicated_events
    from bayesblina.predictive import replicated_simon_makuch as replicated_simon_makuch
    from bayesblina.prior_curves import prior_predictive as prior_predictive
    from bayesblina.prior_sensitivity import most_sceptical_prior as most_sceptical_prior
    from bayesblina.prior_sensitivity import power_scaling as power_scaling
    from bayesblina.prior_sensitivity import power_scaling_draws as power_scaling_draws
    from bayesblina.prior_sensitivity import sceptical_priors as sceptical_priors
    from bayesblina.prior_sensitivity import scepticism_limit as scepticism_limit
    from bayesblina.question import Question as Question
    from bayesblina.readers import AdamEndpoint as AdamEndpoint
    from bayesblina.readers import DatedEndpoint as DatedEndpoint
    from bayesblina.readers import Repairs as Repairs
    from bayesblina.readers import read_adam as read_adam
    from bayesblina.readers import read_cohort as read_cohort
    from bayesblina.readers import read_counting_process as read_counting_process
    from bayesblina.readers import read_dated_cohort as read_dated_cohort
    from bayesblina.readers import read_history as read_history
    from bayesblina.regimes import From as From
    from bayesblina.regimes import Never as Never
    from bayesblina.regimes import WithPhases as WithPhases
    from bayesblina.report import read_results as read_results
    from bayesblina.report import write_report as write_report
    from bayesblina.safety import event_rate as event_rate
    from bayesblina.safety import event_rates_by_term as event_rates_by_term
    from bayesblina.safety import incidence as incidence
    from bayesblina.safety import paired_incidence as paired_incidence
    from bayesblina.safety import phase_contrast as phase_contrast
    from bayesblina.scan import CohortScan as CohortScan
    from bayesblina.scan import scan_cohort as scan_cohort
    from bayesblina.storage import load as load
    from bayesblina.storage import save as save
    from bayesblina.study_designs import StudyDesign as StudyDesign
    from bayesblina.study_designs import simulate_cohorts as simulate_cohorts
    from bayesblina.summaries import probabilities as probabilities
    from bayesblina.summaries import summarise as summarise
    from bayesblina.weighting import Weighted as Weighted
    from bayesblina.weighting import clone_censor_weight as clone_censor_weight
    from bayesblina.weighting import starting_weights as starting_weights
    from bayesblina.what_if import Scenario as Scenario
    from bayesblina.what_if import Sensitivity as Sensitivity
    from bayesblina.what_if import design_grid as design_grid
    from bayesblina.what_if import load_sensitivity as load_sensitivity
    from bayesblina.what_if import sensitivity as sensitivity
    from bayesblina.what_if.layout import scenarios as scenarios

_HOME = {
    "bayesian_bootstrap": "bootstrap",
    "borrowing": "external",
    "most_sceptical_prior": "prior_sensitivity",
    "power_scaling": "prior_sensitivity",
    "power_scaling_draws": "prior_sensitivity",
    "sceptical_priors": "prior_sensitivity",
    "scepticism_limit": "prior_sensitivity",
    "adjust_for_confounder": "bias_analysis",
    "adjust_for_misclassification": "bias_analysis",
    "bounding_factor": "bias_analysis",
    "confounding": "bias_analysis",
    "e_value": "bias_analysis",
    "e_values": "bias_analysis",
    "informative_dropout": "bias_analysis",
    "tipping_points": "bias_analysis",
    "check": "checks",
    "curve_shift": "checks.curves",
    "with_refit": "checks.refit",
    "cure_identifiability": "checks",
    "compare": "comparison",
    "k_fold": "comparison",
    "leave_one_out": "comparison",
    "kaplan_meier": "classical",
    "mantel_byar": "classical",
    "nelson_aalen": "classical",
    "numbers_at_risk": "classical",
    "simon_makuch": "classical",
    "Cohort": "cohort",
    "Endpoint": "cohort",
    "Phase": "cohort",
    "Phases": "cohort",
    "average_hazard_ratio": "estimands",
    "contrast": "estimands",
    "state_occupancy": "estimands",
    "time_in_states": "estimands",
    "cumulative_hazard": "estimands",
    "cured_fraction": "estimands",
    "hazard": "estimands",
    "hazard_ratio": "estimands",
    "rmtl": "estimands",
    "median": "estimands",
    "number_needed_to_treat": "estimands",
    "rmst": "estimands",
    "survival": "estimands",
    "survival_quantile": "estimands",
    "Exposure": "exposure",
    "expose": "exposure",
    "Fit": "fitting",
    "fit": "fitting",
    "FractionPrior": "hazards.definition",
    "HazardRatioPrior": "hazards.definition",
    "ModelDefinition": "hazards.definition",
    "OddsRatioPrior": "hazards.definition",
    "SpreadPrior": "hazards.definition",
    "load_model": "hazards.definition",
    "calibration": "predictive",
    "martingale_residuals": "predictive",
    "prior_predictive": "prior_curves",
    "replicated_events": "predictive",
    "replicated_simon_makuch": "predictive",
    "Question": "question",
    "compare_with_published": "paper",
    "published": "paper",
    "AdamEndpoint": "readers",
    "DatedEndpoint": "readers",
    "Repairs": "readers",
    "read_adam": "readers",
    "read_cohort": "readers",
    "read_counting_process": "readers",
    "read_dated_cohort": "readers",
    "read_history": "readers",
    "influence": "deletion",
    "most_influential": "deletion",
    "SampleSize": "planning",
    "StudyDesign": "study_designs",
    "operating_characteristics": "planning",
    "sample_size": "planning",
    "simulate_cohorts": "study_designs",
    "bias_ladder": "ladder",
    "cox": "ladder",
    "ever_never": "ladder",
    "landmark_analysis": "ladder",
    "From": "regimes",
    "Never": "regimes",
    "WithPhases": "regimes",
    "read_results": "report",
    "write_report": "report",
    "AdverseEvents": "onsets",
    "CohortScan": "scan",
    "scan_cohort": "scan",
    "adverse_events": "onsets",
    "event_rate": "safety",
    "event_rates_by_term": "safety",
    "incidence": "safety",
    "paired_incidence": "safety",
    "phase_contrast": "safety",
    "load": "storage",
    "save": "storage",
    "probabilities": "summaries",
    "summarise": "summaries",
    "WeightedEffect": "emulation",
    "weighted_effect": "emulation",
    "Weighted": "weighting",
    "clone_censor_weight": "weighting",
    "starting_weights": "weighting",
    "Scenario": "what_if",
    "Sensitivity": "what_if",
    "design_grid": "what_if",
    "load_sensitivity": "what_if",
    "scenarios": "what_if",
    "sensitivity": "what_if",
}
# Before anything can import PyTensor.
importlib.import_module("bayesblina.code_cache").shelter_pytensor()

_MODULES = frozenset({"errors", "plots", "simulate", "tables"})

__all__ = [*_HOME, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name in _MODULES:
        return importlib.import_module(f"bayesblina.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"bayesblina.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'bayesblina' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
