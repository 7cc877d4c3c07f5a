"""Fits without a sampler, of tables that tests make."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

import bayesblina as bb
from bayesblina.checks.weaknesses import weaknesses
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.convergence import Convergence, sampler_settings
from bayesblina.inference.fitting import Fit, Provenance
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort

QUESTION = bb.Question(exposed="late", eligible_from="entry")


PRIMARY = bb.load_model("primary")


def unsampled(
    cohort: Cohort,
    question: bb.Question = QUESTION,
    model: ModelDefinition = PRIMARY,
    weights: list[float] | None = None,
) -> Fit:
    """Take the companion's draws for the fit's: nothing here asks for a baseline."""
    person_time = person_time_for(model, cohort, question, weights=weights)
    companion = partial_posterior(model, person_time, seed=1)
    if companion.draws is None:
        sizes = {"chain": 1, "draw": 2, "endpoint": len(person_time.endpoints), "effect": 1}
        posterior = xr.Dataset(
            {"log_hazard_ratio": (tuple(sizes), np.zeros(tuple(sizes.values())))},
            coords={"endpoint": list(person_time.endpoints)},
        )
    else:
        posterior = companion.draws
    return Fit(
        draws=xr.DataTree.from_dict({"/posterior": posterior}),
        question=question,
        definition=model,
        person_time=person_time,
        convergence=Convergence(table=pd.DataFrame(), criteria=pd.DataFrame({"passed": [True]})),
        provenance=Provenance(
            seed=1,
            settings=sampler_settings(1000, 1000, 4, 1, 1),
            data_hash="",
            versions={},
            seconds={},
            engine="compiled",
        ),
        companion=companion,
    )


def read(table: pd.DataFrame, covariate: str | None = None) -> Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="e")},
        phases=bb.Phases(late="s"),
        covariates=[] if covariate is None else [covariate],
    )


def patients(size: int = 120, *, seed: int = 3, ratio: float = 0.5) -> pd.DataFrame:
    """Exponential times; six in ten start between months 1 and 10 if they live."""
    rng = np.random.default_rng(seed)
    start = np.where(rng.random(size) < 0.6, rng.uniform(1, 10, size), 1e9)
    time = rng.exponential(14.0, size)
    time = np.where(time > start, start + (time - start) / ratio, time)
    stop = np.minimum(time, rng.uniform(20, 36, size))
    return pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "t": stop,
            "e": (time == stop).astype(int),
            "s": np.where(start < stop, start, np.nan),
        }
    )


def said(fit: Fit, words: str) -> list[str]:
    return [one for one in weaknesses(fit) if words in one]
