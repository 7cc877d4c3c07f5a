"""The Stanford heart-transplant data through the whole pipeline, against R."""

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

CUTS = (30, 60, 90, 180, 365, 730)
QUESTION = bb.Question(exposed="transplantation", eligible_from="entry")
# tests/data/stanford_jasa1.R
EVENTS = [[17, 6], [7, 7], [2, 10], [2, 5], [2, 9], [0, 2], [0, 6]]
DAYS = [
    [1983, 624.5],
    [828, 1256],
    [445, 1259],
    [731, 3344],
    [769, 5621],
    [427, 7348],
    [670, 6546],
]
LOG_HAZARD_RATIO, STANDARD_ERROR = -0.04456901, 0.28023422


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return bb.read_cohort(
        DATA / "stanford_jasa1.csv",
        patient="id",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
    )


def test_cells_equal_rs_exactly(cohort: Cohort) -> None:
    table = bb.person_time(cohort, QUESTION, cuts=CUTS).table.isel(endpoint=0, pattern=0)
    np.testing.assert_array_equal(table["events"].values, EVENTS)
    np.testing.assert_array_equal(table["person_time"].values, DAYS)


def test_weak_priors_give_the_maximum_likelihood_estimate(cohort: Cohort) -> None:
    weak = bb.load_model("primary").with_priors(
        phases=bb.HazardRatioPrior.from_sd(10.0),
        level=bb.HazardRatioPrior.from_sd(10.0),
        step=bb.HazardRatioPrior.from_sd(30.0),
    )
    fit = bb.fit(cohort, QUESTION, model=weak, cuts=CUTS, seed=1, progress=False)
    assert fit.converged
    ratio = fit.posterior["log_hazard_ratio"]
    assert float(ratio.mean()) == pytest.approx(LOG_HAZARD_RATIO, abs=0.03)
    assert float(ratio.std()) == pytest.approx(STANDARD_ERROR, rel=0.10)


@pytest.mark.parametrize("covariates", [[], ["surgery"]])
def test_the_default_baseline_does_not_move_the_hazard_ratio(covariates: list[str]) -> None:
    data = DATA
    table = pd.read_csv(data / "stanford_jasa1.csv").merge(
        pd.read_csv(data / "stanford_surgery.csv"), on="id"
    )
    table["surgery"] = np.where(table["surgery"] == 1, "yes", "no")
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
        covariates=covariates,
    )
    fit = bb.fit(cohort, QUESTION, seed=1, draws=4000, progress=False)
    assert fit.converged
    (row,) = fit.gate.table.to_dict("records")
    assert row["state"] == "passed"
    # Four Monte-Carlo errors within the bound of 0.25 sds.
    assert abs(row["difference"]) + 4 * row["mcse"] < 0.25 * row["companion_sd"]
    assert row["sd_ratio"] == pytest.approx(1.0, abs=0.1)
