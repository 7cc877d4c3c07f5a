"""Pulls of priors against a grid, and their words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.weaknesses import COLUMNS, pulls, told_pulls
from tests.checks.unsampled import PRIMARY, patients, read, said, unsampled


def test_pulls_are_told_in_numbers() -> None:
    """A pull of 0.5 moves a ratio of 2 to 2 e^0.5; a quarter of an sd is not yet told."""
    row = {
        "endpoint": "os",
        "baseline_pull": 9.0,
        "prior_pull": 0.5,
        "without_prior_median": 2.0,
        "covariate_prior_pull": np.nan,
        "without_covariate_priors_median": np.nan,
        "companion_sd": 0.4,
        "reason": "",
    }
    other = {
        "endpoint": "rfs",
        "prior_pull": -0.1,
        "covariate_prior_pull": -0.2,
        "without_covariate_priors_median": 0.5,
        "reason": "without the prior of the hazard ratio there is no posterior",
    }
    third = {"endpoint": "efs", "prior_pull": 0.1, "reason": "os: something else"}
    table = pd.DataFrame([row, row | other, row | third])
    assert told_pulls(table, exposed="late") == [
        "os: the prior of the hazard ratio moves it from 2.00 to 3.30 (1.2 standard deviations)",
        "rfs: the priors of the covariates move the hazard ratio of late from 0.50 to 0.41 "
        "(0.5 standard deviations)",
        other["reason"],
    ]


def grid_median(table: pd.DataFrame, sd: float) -> float:
    """Median of the log hazard ratio on a grid: a normal prior times the partial likelihood."""
    values = np.linspace(-6.0, 6.0, 24_001)
    time, event = table["t"].to_numpy(), table["e"].to_numpy() == 1
    start = table["s"].fillna(np.inf).to_numpy()
    log = -0.5 * np.square(values / sd)
    for at, exposed in zip(time[event], start[event] < time[event], strict=True):
        inside = time >= at
        late = int((inside & (start < at)).sum())
        log += exposed * values - np.log(inside.sum() - late + late * np.exp(values))
    weight = np.exp(log - log.max())
    return float(values[np.searchsorted(np.cumsum(weight) / weight.sum(), 0.5)])


def test_pulls_equal_those_of_a_grid() -> None:
    table = patients(40, seed=8, ratio=0.25)
    model = PRIMARY.with_priors(phases=bb.HazardRatioPrior.from_sd(0.4))
    fit = unsampled(read(table), model=model)
    row = pulls(fit).iloc[0]
    own, flat = grid_median(table, 0.4), grid_median(table, 1e6)
    # Medians of 4,000 draws, of which the same are taken for both: 0.02 is more than four errors.
    assert row["prior_pull"] == pytest.approx(own - flat, abs=0.02)
    assert np.log(row["without_prior_median"]) == pytest.approx(flat, abs=0.04)
    assert row["baseline_pull"] == 0.0
    # There are no covariates.
    assert np.isnan(row["covariate_prior_pull"])
    assert row["prior_pull"] > 0.25 * row["companion_sd"]
    (words,) = said(fit, "the prior of the hazard ratio moves it")
    assert words.startswith("os: ")


def test_priors_of_covariates_that_pull_are_told() -> None:
    """A covariate with hazard ratio 6 that goes with the phase, and a prior too narrow for it."""
    rng = np.random.default_rng(2)
    size = 160
    severe = rng.random(size) < 0.5
    share = np.where(severe, 0.15, 0.85)
    start = np.where(rng.random(size) < share, rng.uniform(0.2, 2, size), np.inf)
    time = rng.exponential(20.0, size) / np.where(severe, 6.0, 1.0)
    stop = np.minimum(time, 30.0)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "t": stop,
            "e": (time <= 30.0).astype(int),
            "s": np.where(start < stop, start, np.nan),
            "arm": np.where(severe, "b", "a"),
        }
    )
    narrow = PRIMARY.with_priors(covariates=bb.HazardRatioPrior.from_sd(0.35))
    fit = unsampled(read(table, "arm"), model=narrow)
    row = pulls(fit).iloc[0]
    # Less of the difference goes to the covariate, more of it to the phase.
    assert row["covariate_prior_pull"] < -0.25 * row["companion_sd"]
    (words,) = said(fit, "the priors of the covariates move the hazard ratio of late")
    assert f"from {row['without_covariate_priors_median']:.2f} to" in words
    wide = PRIMARY.with_priors(covariates=bb.HazardRatioPrior.from_sd(2.4))
    fit = unsampled(read(table, "arm"), model=wide)
    assert not said(fit, "the priors of the covariates")


def test_nothing_is_pulled_where_nothing_is_compared() -> None:
    fit = unsampled(read(patients()), model=bb.load_model("patient_frailty"))
    table = pulls(fit)
    assert table[list(COLUMNS)].isna().all(axis=None)
    assert told_pulls(table, exposed="late") == []
