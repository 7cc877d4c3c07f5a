"""Endpoints modelled together, against survival that is known: courses with a relapse."""

from __future__ import annotations

import numpy as np
import pandas as pd

import bayesblina as bb
from tests.studies.family_varying import KINDS, QUESTION, cohort_of, course

SEED = 20_261_205
MODELS = ("primary", "correlated", "illness_death")
PATIENTS, HORIZON, STARTED = 267, 24.0, 3.0
MANY = 400_000
REGIMES: tuple[bb.Never | bb.From, ...] = (bb.Never(), bb.From(STARTED))


def truth() -> dict[tuple[str, str], float]:
    """Survival at the horizon under each regime, of very many patients (error below 0.001)."""
    found = {}
    for regime, start in zip(REGIMES, (np.inf, STARTED), strict=True):
        random = np.random.default_rng(SEED)
        free, end = course(np.full(MANY, start), random)[1:3]
        found["rfs", regime.label] = float((free > HORIZON).mean())
        found["os", regime.label] = float((end > HORIZON).mean())
    return found


def analyse(number: int) -> list[dict[str, object]]:
    """Fit all models to one cohort at their defaults."""
    kind = KINDS["illness_death"]
    table = kind.simulate(PATIENTS, np.random.default_rng([SEED, number]))
    cohort = cohort_of(kind, table)
    rows: list[dict[str, object]] = []
    for model in MODELS:
        fit = bb.fit(cohort, QUESTION, model=model, seed=number, progress=False)
        criteria = fit.convergence.criteria.set_index("criterion")["value"]
        found = bb.survival(fit, regimes=list(REGIMES), times=[HORIZON], landmark=0.0)
        values = found["survival"].isel(time=0)
        for endpoint in ("os", "rfs"):
            for regime in REGIMES:
                draws = values.sel(endpoint=endpoint, regime=regime.label).values
                rows.append(
                    {
                        "model": model,
                        "cohort": number,
                        "endpoint": endpoint,
                        "regime": regime.label,
                        "mean": float(draws.mean()),
                        "lower": float(np.quantile(draws, 0.025)),
                        "upper": float(np.quantile(draws, 0.975)),
                        "divergences": int(criteria["divergences"]),
                        "r_hat": float(criteria["largest R-hat"]),
                        "ess": float(criteria["smallest bulk ESS"]),
                        "converged": fit.converged,
                    }
                )
    return rows


def against_truth(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias, RMSE and coverage of survival, by model, endpoint and regime."""
    known = truth()
    value = np.array([known[pair] for pair in zip(rows["endpoint"], rows["regime"], strict=True)])
    error = rows["mean"] - value
    return (
        rows.assign(
            truth=value,
            error=error,
            squared=error**2,
            covered=(rows["lower"] <= value) & (value <= rows["upper"]),
        )
        .groupby(["endpoint", "regime", "model"], sort=False)[
            ["truth", "error", "squared", "covered"]
        ]
        .mean()
    )
