"""The engine of the models of curves held against the package's own sampler."""

from __future__ import annotations

import arviz as az
import numpy as np

import bayesblina as bb
from tests.studies import family_engine as curves
from tests.studies.baseline_fits import BEYOND_REPLICATIONS, cohort_of
from tests.studies.baseline_methods import TIMES, new_cuts, partial_answers, spans
from tests.studies.baseline_settings import ONE_PHASE, Setting
from tests.studies.family_curves import curve_answer

SEED_OF_FITS = 20_261_201
DRAWS, TUNE, CHAINS = 4000, 1000, 2
# The default is held against the sampler in the study of the baseline.
MODELS = tuple(curves.CHANGE)
SCENARIOS = (
    ("early", "step up", 86, 0.5),
    ("late", "pulse", 267, 1.0),
    ("uniform", "falling", 86, 1.0),
    ("early", "rising", 267, 0.5),
    ("clustered", "pulse", 86, 0.5),
    ("early", "early peak", 267, 1.0),
)


def chosen() -> list[Setting]:
    """Six data sets; none of them is one of the study's own."""
    return [
        Setting(ONE_PHASE, entry, baseline, size, ratio, 1, first=BEYOND_REPLICATIONS)
        for entry, baseline, size, ratio in SCENARIOS
    ]


def compare(setting: Setting, model: str) -> dict[str, object]:
    """The engine's posterior of one data set beside the sampler's, and what the gate says."""
    arm = setting.kind
    data = arm.simulate(setting.patients, setting.log_ratio, setting.generator(0))
    cohort, question = cohort_of(setting, data)
    fit = bb.fit(
        cohort,
        question,
        model=model,
        seed=SEED_OF_FITS,
        draws=DRAWS,
        tune=TUNE,
        chains=CHAINS,
        progress=False,
    )
    patients = data.endpoints["y"]
    cuts = new_cuts(data)
    _, _, grid = partial_answers(patients, arm)
    found = curve_answer(model, patients, arm, cuts, grid, survival=True)
    engine = found.answer
    draws = fit.posterior["log_hazard_ratio"].sel(endpoint="y", effect="m")
    logs = fit.posterior["log_baseline"].sel(endpoint="y").values
    ratio = np.exp(draws.values)
    unexposed, exposed = (np.exp(logs) @ spans(cuts, at).T for at in (arm.landmark, arm.start))
    survival = np.concatenate(
        [
            np.exp(-unexposed).mean(axis=(0, 1)),
            np.exp(-ratio[..., None] * exposed).mean(axis=(0, 1)),
        ]
    )
    sds = logs.std(axis=(0, 1))
    assert survival.size == 2 * TIMES.size
    return {
        "model": model,
        "setting": setting.name,
        "converged": fit.converged,
        "difference": (engine.mean - float(draws.mean())) / engine.sd,
        "error": float(az.mcse(draws)) / engine.sd,
        "sd_ratio": float(draws.std()) / engine.sd,
        "survival": float(np.abs(survival - np.concatenate(engine.survival)).max()),
        "log_hazard": float((np.abs(found.log_hazard - logs.mean(axis=(0, 1))) / sds).max()),
        "gate": fit.gate.state,
    }
