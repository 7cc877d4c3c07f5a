"""Confounding by indication of known strength, with feedback: who finds the truth.

uv run python tests/studies/weighting.py --out docs/validation/weighting.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import bayesblina as bb
from bayesblina.files import write_text
from bayesblina.partial_likelihood import fit_cox

Floats = NDArray[np.float64]

QUESTION = bb.Question(exposed="maintenance", eligible_from="entry")
# Worsening raises the hazard of death and lowers that of starting, and so does a baseline
# covariate; starting lowers the hazard of worsening.
DEATH, WORSE_DEATH, COVARIATE_DEATH = 0.03, 1.2, 0.6
START, WORSE_START, COVARIATE_START = 0.12, -1.5, -0.5
WORSENING, START_WORSENING = 0.08, -1.0
CENSORED = (12.0, 30.0)
GRACE = 6.0
PATIENTS = 300
DRAWS = 400
HAZARD_RATIOS = (1.0, 0.5)
TIMES = (12.0, 24.0)
HORIZON = 24.0
# Limits of the truth's Monte-Carlo error.
TRUTH_PATIENTS = 400_000
NEVER = 1e9


def courses(
    random: np.random.Generator,
    patients: int,
    log_hazard_ratio: float,
    *,
    start: Floats | None = None,
) -> dict[str, Floats]:
    """Simulate when patients start, worsen, die and are censored; starts may be given."""
    marker = (random.random(patients) < 0.5).astype(float)
    to_worsen, to_start, to_die = random.exponential(size=(3, patients))
    calm = to_worsen / WORSENING
    if start is None:
        rate = START * np.exp(COVARIATE_START * marker)
        first = to_start / rate
        start = np.where(first < calm, first, calm + (first - calm) / np.exp(WORSE_START))
    worse = np.where(start < calm, start + (calm - start) / np.exp(START_WORSENING), calm)
    # Death: the hazard changes at worsening and at the start.
    rate = DEATH * np.exp(COVARIATE_DEATH * marker)
    points = np.sort(np.stack([np.zeros(patients), worse, start], axis=1), axis=1)
    ends = np.concatenate([points[:, 1:], np.full((patients, 1), np.inf)], axis=1)
    death, passed = np.full(patients, np.inf), np.zeros(patients)
    for piece in range(3):
        low, high = points[:, piece], ends[:, piece]
        hazard = rate * np.exp(WORSE_DEATH * (low >= worse) + log_hazard_ratio * (low >= start))
        inside = np.isinf(death) & (to_die <= passed + hazard * (high - low))
        death = np.where(inside, low + (to_die - passed) / hazard, death)
        passed = passed + np.where(np.isfinite(high), hazard * (high - low), 0.0)
    censored = random.uniform(*CENSORED, patients)
    return {"marker": marker, "worse": worse, "start": start, "death": death, "censored": censored}


def simulated(
    seed: int, *, patients: int = PATIENTS, log_hazard_ratio: float = 0.0
) -> tuple[bb.Cohort, pd.DataFrame]:
    """Patients, and the history of what worsens in them."""
    found = courses(np.random.default_rng(seed), patients, log_hazard_ratio)
    stop = np.minimum(found["death"], found["censored"])
    table = pd.DataFrame(
        {
            "id": np.arange(patients).astype(str),
            "time": stop,
            "event": (found["death"] <= found["censored"]).astype(int),
            "start": np.where(found["start"] < stop, found["start"], np.nan),
            "marker": np.where(found["marker"] == 1, "yes", "no"),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance="start"),
        covariates=["marker"],
        synthetic=True,
    )
    changed = found["worse"] < stop
    later = {"patient": table["id"][changed], "time": found["worse"][changed], "worse": 1.0}
    history = pd.concat(
        [
            pd.DataFrame({"patient": table["id"], "time": 0.0, "worse": 0.0}),
            pd.DataFrame(later),
        ]
    )
    return cohort, history


def _cox(found: dict[str, Floats], columns: Sequence[str] = ()) -> tuple[float, float]:
    """Log hazard ratio of having started, with others as they change; and its standard error."""
    stop = np.minimum(found["death"], found["censored"])
    points = np.sort(np.stack([0 * stop, found["worse"], found["start"]], axis=1), axis=1)
    points = np.minimum(points, stop[:, None])
    low = points.ravel()
    high = np.concatenate([points[:, 1:], stop[:, None]], axis=1).ravel()
    who = np.repeat(np.arange(stop.size), 3)
    rows = high > low
    low, high, who = low[rows], high[rows], who[rows]
    values = {
        "start": low >= found["start"][who],
        "worse": low >= found["worse"][who],
        "marker": found["marker"][who],
    }
    chosen = np.stack([values[name] for name in ("start", *columns)], axis=1).astype(float)
    event = (high == stop[who]) & (found["death"] <= found["censored"])[who]
    fitted = fit_cox(low, high, event, chosen)
    return float(fitted.estimate[0]), float(np.sqrt(fitted.covariance[0, 0]))


def truth(log_hazard_ratio: float, *, patients: int = TRUTH_PATIENTS) -> dict[str, float]:
    """What a huge trial finds, and a study in which starting depends on time alone."""
    random = np.random.default_rng(12345)
    never = courses(random, patients, log_hazard_ratio, start=np.full(patients, NEVER))
    starts = courses(random, patients, log_hazard_ratio, start=random.uniform(0.0, GRACE, patients))
    values = {}
    for name, at in (("12", 12.0), ("24", 24.0)):
        values[f"survival difference at {name}"] = float(
            (starts["death"] > at).mean() - (never["death"] > at).mean()
        )
    values["restricted mean difference"] = float(
        np.minimum(starts["death"], HORIZON).mean() - np.minimum(never["death"], HORIZON).mean()
    )
    arms = {key: np.concatenate([never[key], starts[key]]) for key in never}
    arm = np.concatenate([np.full(patients, NEVER), np.zeros(patients)])
    values["log hazard ratio of the arms"] = _cox({**arms, "start": arm, "worse": arm})[0]
    # Starting at random: at the times at which patients start, whatever they are like.
    observed = courses(random, patients, log_hazard_ratio)
    stop = np.minimum(observed["death"], observed["censored"])
    cells = np.arange(0.0, CENSORED[1], 0.5)
    begun = observed["start"] < stop
    risk = np.minimum(observed["start"], stop)
    spent = np.clip(risk[:, None] - cells, 0.0, 0.5).sum(axis=0)
    rate = np.histogram(observed["start"][begun], np.append(cells, CENSORED[1]))[0] / spent
    total = np.concatenate([[0.0], np.cumsum(rate * 0.5)])
    target = random.exponential(size=patients)
    at_random = np.interp(target, total, np.append(cells, CENSORED[1]), right=NEVER)
    values["log hazard ratio of having started"] = _cox(
        courses(random, patients, log_hazard_ratio, start=at_random)
    )[0]
    return values


def log_ratio(
    cohort: bb.Cohort, question: bb.Question, *, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Posterior mean and sd of the log hazard ratio."""
    fit = bb.fit(
        cohort,
        question,
        seed=1,
        weights=weights,
        cuts=np.arange(1.0, 26.0),
        draws=300,
        tune=400,
        chains=2,
        progress=False,
    )
    found = fit.posterior["log_hazard_ratio"].isel(endpoint=0, effect=0)
    return float(found.mean()), float(found.std())
