"""A fit of so few patients that quadrature predicts each exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from scipy.special import logsumexp

import bayesblina as bb
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.parts import RandomWalk

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


SMALL = bb.Question(exposed="late", eligible_from="entry")


def small_cohort(seed: int = 1, size: int = 20, covariates: Sequence[str] = ("site",)) -> bb.Cohort:
    generator = np.random.default_rng(seed)
    time = generator.exponential(6.0, size).round(2) + 0.5
    start = np.where(np.arange(size) % 2 == 0, 0.25, np.nan)
    table = pd.DataFrame(
        {
            "id": [f"p{index:02d}" for index in range(size)],
            "time": time,
            "event": (generator.random(size) < 0.7).astype(int),
            "start": start,
            "site": generator.choice(["x", "y", "z"], size),
            "arm": generator.choice(["a", "b"], size),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=list(covariates),
    )


def exponential_model() -> ModelDefinition:
    """One hazard, not far from the crude rate; no effects to speak of: the exponential model."""
    nothing = bb.HazardRatioPrior.from_sd(1e-4)
    some = bb.HazardRatioPrior.from_sd(0.2)
    return bb.load_model("primary").with_priors(phases=nothing, covariates=nothing, level=some)


def exact_predictive(
    cohort: bb.Cohort,
    crude: float,
    *,
    weights: np.ndarray | None = None,
    folds: np.ndarray | None = None,
) -> np.ndarray:
    """Log predictive densities of an exponential model without each fold, by quadrature.

    Times the weights, which also multiply the log-likelihood.
    """
    weight = np.ones(cohort.size) if weights is None else weights
    fold = np.arange(cohort.size) if folds is None else folds
    baseline = exponential_model().baseline
    assert isinstance(baseline, RandomWalk)
    time, event = cohort.endpoints["os"].time, cohort.endpoints["os"].event.astype(float)
    log_rate = np.log(crude) + np.linspace(-4.0, 4.0, 2001)[:, None]
    prior = -0.5 * ((log_rate - np.log(crude) - baseline.level.mean) / baseline.level.sd) ** 2
    each = event * log_rate - time * np.exp(log_rate)
    same = (fold[:, None] == fold).astype(float)
    others = prior + (each * weight).sum(axis=1, keepdims=True) - (each * weight) @ same
    density = logsumexp(others + each, axis=0) - logsumexp(others, axis=0)
    return np.asarray(weight * density)


@cache
def exponential_fit() -> bb.Fit:
    return bb.fit(
        small_cohort(),
        SMALL,
        model=exponential_model(),
        cuts=[],
        seed=1,
        draws=4000,
        progress=False,
    )


def crude_rate() -> float:
    one = small_cohort().endpoints["os"]
    return float((one.event.sum() + 0.5) / one.time.sum())


@cache
def family_fit(name: str) -> bb.Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, model=name, seed=1, progress=False)
