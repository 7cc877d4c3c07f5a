"""Whether models with many estimated effects converge at their defaults, ten seeds each.

uv run python tests/studies/convergence.py

Patients and adverse events are simulated here, with sites, subgroups and terms that do differ.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.cohort import Cohort
from bayesblina.convergence import Convergence
from bayesblina.fitting import expose_for, fit_exposure, sampler_settings
from bayesblina.safety import AdverseEvents, sample_rates

REPORT = Path(__file__).parents[2] / "docs" / "validation" / "convergence.md"
QUESTION = bb.Question(exposed="late", eligible_from="entry")
LOG_RATIO = np.log(0.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Simulated data and the model that is fitted to them.

    Attributes
    ----------
    name
        What the data are.
    converge
        Fits with a seed at the defaults.
    """

    name: str
    converge: Callable[[int], Convergence]


def cohort_of(size: int, levels: int, *, sd: float, change: float, seed: int) -> Cohort:
    """Patients of unequally large sites; half start the phase, its effect differs by site.

    Hazards fall with time; sites differ by a log-normal factor of sd `sd`, log hazard ratios of the
    phase by a normal one of sd `change`.
    """
    random = np.random.default_rng([seed, size, levels])
    site = random.choice(levels, size=size, p=random.dirichlet(np.full(levels, 5.0)))
    factor = np.exp(sd * random.normal(size=levels))[site]
    ratio = np.exp(LOG_RATIO + change * random.normal(size=levels))[site]
    start = np.where(random.random(size) < 0.5, random.uniform(0.5, 9.0, size), np.inf)
    target = random.exponential(size=size) / (0.09 * factor)
    # Cumulative hazard of 1.6 a month to month 6 and 1 later, exact; the phase multiplies the rest.
    early = np.minimum(start, 6.0)
    before = 1.6 * early + np.maximum(start - 6.0, 0.0)
    later = np.isfinite(start) & (target > before)
    rest = np.where(
        later,
        np.where(later, before, 0.0) + (target - np.where(later, before, 0.0)) / ratio,
        target,
    )
    died = np.where(rest < 9.6, rest / 1.6, 6.0 + rest - 9.6)
    censored = random.uniform(18.0, 60.0, size)
    stop = np.minimum(died, censored)
    return bb.read_cohort(
        pd.DataFrame(
            {
                "id": np.arange(size),
                "months": stop,
                "died": (died <= censored).astype(int),
                "start": np.where(start < stop, start, np.nan),
                "site": [f"s{index:02d}" for index in site],
            }
        ),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died", recorded="exact")},
        phases=bb.Phases(late="start"),
        covariates=["site"],
        synthetic=True,
    )


def adverse_events(terms: int, *, patients: int, seed: int) -> AdverseEvents:
    """Counts of terms that differ ten-fold in frequency, and by half from phase to phase."""
    random = np.random.default_rng([seed, terms])
    time = np.stack(
        [
            random.uniform(1.0, 4.0, patients),
            random.uniform(0.5, 6.0, patients) * (random.random(patients) < 0.35),
            random.uniform(0.5, 12.0, patients) * (random.random(patients) < 0.15),
        ],
        axis=1,
    )
    log_rate = (
        np.log([0.08, 0.04, 0.015])
        + 1.2 * random.normal(size=(terms, 1))
        + 0.4 * random.normal(size=(terms, 3))
    )
    count = random.poisson(np.exp(log_rate) * time.sum(axis=0))
    term, phase = (np.repeat(one.ravel(), count.ravel()) for one in np.indices(count.shape))
    share = time / time.sum(axis=0)
    patient = np.concatenate(
        [random.choice(patients, size=1, p=share[:, place]) for place in phase]
    )
    return AdverseEvents(
        phases=("induction", "consolidation", "maintenance"),
        terms=tuple(f"term {index:03d}" for index in range(terms)),
        person_time=time,
        patient=patient.astype(np.int64),
        phase=phase.astype(np.int64),
        term=term.astype(np.int64),
        unit="months",
        minimum_grade=None,
        synthetic=True,
    )


def of_model(name: str, cohort: Cohort, **roles: str) -> Callable[[int], Convergence]:
    """Fit a model to a cohort at the defaults."""
    model = bb.load_model(name).with_covariates(**roles) if roles else bb.load_model(name)
    exposure = expose_for(model, cohort, QUESTION)
    settings = sampler_settings(1000, 1000, 4, 1, 1)

    def converge(seed: int) -> Convergence:
        fit = fit_exposure(model, exposure, QUESTION, seed=seed, settings=settings, complete=False)
        return fit.convergence

    return converge
