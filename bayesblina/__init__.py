"""Bayesian survival analysis of treatment phases that patients enter later.

Every public name is loaded when it is first used, so that importing the package is cheap.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesblina.checks.comparison import compare as compare
    from bayesblina.checks.comparison import k_fold as k_fold
    from bayesblina.checks.comparison import leave_one_out as leave_one_out
    from bayesblina.checks.cure import cure_identifiability as cure_identifiability
    from bayesblina.checks.curves import curve_shift as curve_shift
    from bayesblina.checks.deletion import influence as influence
    from bayesblina.checks.deletion import most_influential as most_influential
    from bayesblina.checks.posterior import check as check
    from bayesblina.checks.predictive import calibration as calibration
    from bayesblina.checks.predictive import martingale_residuals as martingale_residuals
    from bayesblina.checks.predictive import replicated_events as replicated_events
    from bayesblina.checks.predictive import replicated_simon_makuch as replicated_simon_makuch
    from bayesblina.checks.prior_curves import prior_predictive as prior_predictive
    from bayesblina.checks.prior_sensitivity import most_sceptical_prior as most_sceptical_prior
    from bayesblina.checks.prior_sensitivity import power_scaling as power_scaling
    from bayesblina.checks.prior_sensitivity import power_scaling_draws as power_scaling_draws
    from bayesblina.checks.prior_sensitivity import sceptical_priors as sceptical_priors
    from bayesblina.checks.prior_sensitivity import scepticism_limit as scepticism_limit
    from bayesblina.checks.refit import with_refit as with_refit
    from bayesblina.classical.curves import kaplan_meier as kaplan_meier
    from bayesblina.classical.curves import mantel_byar as mantel_byar
    from bayesblina.classical.curves import nelson_aalen as nelson_aalen
    from bayesblina.classical.curves import numbers_at_risk as numbers_at_risk
    from bayesblina.classical.curves import simon_makuch as simon_makuch
    from bayesblina.classical.ladder import bias_ladder as bias_ladder
    from bayesblina.classical.ladder import cox as cox
    from bayesblina.classical.ladder import ever_never as ever_never
    from bayesblina.classical.ladder import landmark_analysis as landmark_analysis
    from bayesblina.classical.paper import compare_with_published as compare_with_published
    from bayesblina.classical.paper import published as published
    from bayesblina.core import errors as errors
    from bayesblina.core import tables as tables
    from bayesblina.estimands.comparisons import average_hazard_ratio as average_hazard_ratio
    from bayesblina.estimands.comparisons import contrast as contrast
    from bayesblina.estimands.comparisons import number_needed_to_treat as number_needed_to_treat
    from bayesblina.estimands.cures import cured_fraction as cured_fraction
    from bayesblina.estimands.curves import cumulative_hazard as cumulative_hazard
    from bayesblina.estimands.curves import hazard as hazard
    from bayesblina.estimands.curves import median as median
    from bayesblina.estimands.curves import rmst as rmst
    from bayesblina.estimands.curves import rmtl as rmtl
    from bayesblina.estimands.curves import survival as survival
    from bayesblina.estimands.curves import survival_quantile as survival_quantile
    from bayesblina.estimands.occupancies import state_occupancy as state_occupancy
    from bayesblina.estimands.occupancies import time_in_states as time_in_states
    from bayesblina.estimands.ratios import hazard_ratio as hazard_ratio
    from bayesblina.estimands.regimes import From as From
    from bayesblina.estimands.regimes import Never as Never
    from bayesblina.estimands.regimes import WithPhases as WithPhases
    from bayesblina.estimands.safety import event_rate as event_rate
    from bayesblina.estimands.safety import event_rates_by_term as event_rates_by_term
    from bayesblina.estimands.safety import incidence as incidence
    from bayesblina.estimands.safety import paired_incidence as paired_incidence
    from bayesblina.estimands.safety import phase_contrast as phase_contrast
    from bayesblina.estimands.summaries import probabilities as probabilities
    from bayesblina.estimands.summaries import summarise as summarise
    from bayesblina.hazards.definition import FractionPrior as FractionPrior
    from bayesblina.hazards.definition import HazardRatioPrior as HazardRatioPrior
    from bayesblina.hazards.definition import ModelDefinition as ModelDefinition
    from bayesblina.hazards.definition import OddsRatioPrior as OddsRatioPrior
    from bayesblina.hazards.definition import SpreadPrior as SpreadPrior
    from bayesblina.hazards.definition import load_model as load_model
    from bayesblina.inference.fitting import Fit as Fit
    from bayesblina.inference.fitting import fit as fit
    from bayesblina.inference.storage import load as load
    from bayesblina.inference.storage import save as save
    from bayesblina.output import plots as plots
    from bayesblina.output.report import read_results as read_results
    from bayesblina.output.report import write_report as write_report
    from bayesblina.patients.cohort import Cohort as Cohort
    from bayesblina.patients.cohort import Endpoint as Endpoint
    from bayesblina.patients.cohort import Phase as Phase
    from bayesblina.patients.cohort import Phases as Phases
    from bayesblina.patients.readers import AdamEndpoint as AdamEndpoint
    from bayesblina.patients.readers import DatedEndpoint as DatedEndpoint
    from bayesblina.patients.readers import Repairs as Repairs
    from bayesblina.patients.readers import read_adam as read_adam
    from bayesblina.patients.readers import read_cohort as read_cohort
    from bayesblina.patients.readers import read_counting_process as read_counting_process
    from bayesblina.patients.readers import read_dated_cohort as read_dated_cohort
    from bayesblina.patients.readers import read_history as read_history
    from bayesblina.patients.scan import CohortScan as CohortScan
    from bayesblina.patients.scan import scan_cohort as scan_cohort
    from bayesblina.person_time.cells import Exposure as Exposure
    from bayesblina.person_time.cells import expose as expose
    from bayesblina.person_time.onsets import AdverseEvents as AdverseEvents
    from bayesblina.person_time.onsets import adverse_events as adverse_events
    from bayesblina.person_time.question import Question as Question
    from bayesblina.studies import simulate as simulate
    from bayesblina.studies.bias_analysis import adjust_for_confounder as adjust_for_confounder
    from bayesblina.studies.bias_analysis import (
        adjust_for_misclassification as adjust_for_misclassification,
    )
    from bayesblina.studies.bias_analysis import bounding_factor as bounding_factor
    from bayesblina.studies.bias_analysis import confounding as confounding
    from bayesblina.studies.bias_analysis import e_value as e_value
    from bayesblina.studies.bias_analysis import e_values as e_values
    from bayesblina.studies.bias_analysis import informative_dropout as informative_dropout
    from bayesblina.studies.bias_analysis import tipping_points as tipping_points
    from bayesblina.studies.bootstrap import bayesian_bootstrap as bayesian_bootstrap
    from bayesblina.studies.emulation import WeightedEffect as WeightedEffect
    from bayesblina.studies.emulation import weighted_effect as weighted_effect
    from bayesblina.studies.external import borrowing as borrowing
    from bayesblina.studies.planning import SampleSize as SampleSize
    from bayesblina.studies.planning import operating_characteristics as operating_characteristics
    from bayesblina.studies.planning import sample_size as sample_size
    from bayesblina.studies.study_designs import StudyDesign as StudyDesign
    from bayesblina.studies.study_designs import simulate_cohorts as simulate_cohorts
    from bayesblina.studies.weighting import Weighted as Weighted
    from bayesblina.studies.weighting import clone_censor_weight as clone_censor_weight
    from bayesblina.studies.weighting import starting_weights as starting_weights
    from bayesblina.studies.what_if import Scenario as Scenario
    from bayesblina.studies.what_if import Sensitivity as Sensitivity
    from bayesblina.studies.what_if import design_grid as design_grid
    from bayesblina.studies.what_if import load_sensitivity as load_sensitivity
    from bayesblina.studies.what_if import sensitivity as sensitivity
    from bayesblina.studies.what_if.layout import scenarios as scenarios

_HOME = {
    "bayesian_bootstrap": "studies.bootstrap",
    "borrowing": "studies.external",
    "most_sceptical_prior": "checks.prior_sensitivity",
    "power_scaling": "checks.prior_sensitivity",
    "power_scaling_draws": "checks.prior_sensitivity",
    "sceptical_priors": "checks.prior_sensitivity",
    "scepticism_limit": "checks.prior_sensitivity",
    "adjust_for_confounder": "studies.bias_analysis",
    "adjust_for_misclassification": "studies.bias_analysis",
    "bounding_factor": "studies.bias_analysis",
    "confounding": "studies.bias_analysis",
    "e_value": "studies.bias_analysis",
    "e_values": "studies.bias_analysis",
    "informative_dropout": "studies.bias_analysis",
    "tipping_points": "studies.bias_analysis",
    "check": "checks.posterior",
    "curve_shift": "checks.curves",
    "with_refit": "checks.refit",
    "cure_identifiability": "checks.cure",
    "compare": "checks.comparison",
    "k_fold": "checks.comparison",
    "leave_one_out": "checks.comparison",
    "kaplan_meier": "classical.curves",
    "mantel_byar": "classical.curves",
    "nelson_aalen": "classical.curves",
    "numbers_at_risk": "classical.curves",
    "simon_makuch": "classical.curves",
    "Cohort": "patients.cohort",
    "Endpoint": "patients.cohort",
    "Phase": "patients.cohort",
    "Phases": "patients.cohort",
    "average_hazard_ratio": "estimands.comparisons",
    "contrast": "estimands.comparisons",
    "state_occupancy": "estimands.occupancies",
    "time_in_states": "estimands.occupancies",
    "cumulative_hazard": "estimands.curves",
    "cured_fraction": "estimands.cures",
    "hazard": "estimands.curves",
    "hazard_ratio": "estimands.ratios",
    "rmtl": "estimands.curves",
    "median": "estimands.curves",
    "number_needed_to_treat": "estimands.comparisons",
    "rmst": "estimands.curves",
    "survival": "estimands.curves",
    "survival_quantile": "estimands.curves",
    "Exposure": "person_time.cells",
    "expose": "person_time.cells",
    "Fit": "inference.fitting",
    "fit": "inference.fitting",
    "FractionPrior": "hazards.definition",
    "HazardRatioPrior": "hazards.definition",
    "ModelDefinition": "hazards.definition",
    "OddsRatioPrior": "hazards.definition",
    "SpreadPrior": "hazards.definition",
    "load_model": "hazards.definition",
    "calibration": "checks.predictive",
    "martingale_residuals": "checks.predictive",
    "prior_predictive": "checks.prior_curves",
    "replicated_events": "checks.predictive",
    "replicated_simon_makuch": "checks.predictive",
    "Question": "person_time.question",
    "compare_with_published": "classical.paper",
    "published": "classical.paper",
    "AdamEndpoint": "patients.readers",
    "DatedEndpoint": "patients.readers",
    "Repairs": "patients.readers",
    "read_adam": "patients.readers",
    "read_cohort": "patients.readers",
    "read_counting_process": "patients.readers",
    "read_dated_cohort": "patients.readers",
    "read_history": "patients.readers",
    "influence": "checks.deletion",
    "most_influential": "checks.deletion",
    "SampleSize": "studies.planning",
    "StudyDesign": "studies.study_designs",
    "operating_characteristics": "studies.planning",
    "sample_size": "studies.planning",
    "simulate_cohorts": "studies.study_designs",
    "bias_ladder": "classical.ladder",
    "cox": "classical.ladder",
    "ever_never": "classical.ladder",
    "landmark_analysis": "classical.ladder",
    "From": "estimands.regimes",
    "Never": "estimands.regimes",
    "WithPhases": "estimands.regimes",
    "read_results": "output.report",
    "write_report": "output.report",
    "AdverseEvents": "person_time.onsets",
    "CohortScan": "patients.scan",
    "scan_cohort": "patients.scan",
    "adverse_events": "person_time.onsets",
    "event_rate": "estimands.safety",
    "event_rates_by_term": "estimands.safety",
    "incidence": "estimands.safety",
    "paired_incidence": "estimands.safety",
    "phase_contrast": "estimands.safety",
    "load": "inference.storage",
    "save": "inference.storage",
    "probabilities": "estimands.summaries",
    "summarise": "estimands.summaries",
    "WeightedEffect": "studies.emulation",
    "weighted_effect": "studies.emulation",
    "Weighted": "studies.weighting",
    "clone_censor_weight": "studies.weighting",
    "starting_weights": "studies.weighting",
    "Scenario": "studies.what_if",
    "Sensitivity": "studies.what_if",
    "design_grid": "studies.what_if",
    "load_sensitivity": "studies.what_if",
    "scenarios": "studies.what_if",
    "sensitivity": "studies.what_if",
}
# Before anything can import PyTensor.
importlib.import_module("bayesblina.inference.code_cache").shelter_pytensor()

_MODULES: Mapping[str, str] = {
    "errors": "core.errors",
    "plots": "output.plots",
    "simulate": "studies.simulate",
    "tables": "core.tables",
}

__all__ = [*_HOME, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name in _MODULES:
        return importlib.import_module(f"bayesblina.{_MODULES[name]}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"bayesblina.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'bayesblina' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
