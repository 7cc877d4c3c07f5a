"""The golden numbers of the Stanford data, in days, months and years alike.

R 4.2, survival 3.5-3: sums over event times of `survival::heart` and `survival::jasa1`, coxph,
survfit, and the Poisson likelihood of the cells of survSplit.
"""

import runpy

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import DAYS_PER_UNIT
from tests.paths import ROOT

QUESTION = bb.Question(exposed="transplantation", eligible_from="entry")
CUTS = np.array([30.0, 60.0, 90.0, 180.0, 365.0, 730.0])
MANTEL_BYAR = {
    "heart": {
        "expected_reference": 31.40418,
        "expected": 43.59582,
        "variance": 11.2615,
        "chi2": 0.17509,
        "peto_odds_ratio": 1.13280,
        "peto_lower": 0.632,
        "peto_upper": 2.031,
        "pike_odds_ratio": 1.08052,
    },
    "jasa1": {
        "expected_reference": 31.38477,
        "expected": 43.61524,
        "variance": 11.28054,
        "chi2": 0.16999,
        "peto_odds_ratio": 1.13061,
        "pike_odds_ratio": 1.07937,
    },
}
COX = {("heart", "breslow"): 1.13390, ("heart", "efron"): 1.13558, ("jasa1", "efron"): 1.1333}


def table_of(source: str) -> pd.DataFrame:
    if source == "jasa1":
        return pd.read_csv(ROOT / "tests" / "data" / "stanford_jasa1.csv")
    example = runpy.run_path(str(ROOT / "examples" / "stanford_heart.py"))
    table: pd.DataFrame = example["one_row_per_patient"]().reset_index()
    return table.rename(columns={"patient": "id"})


@pytest.fixture(scope="module", params=["days", "months", "years"])
def unit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def cohort_of(source: str, unit: str) -> Cohort:
    table = table_of(source)
    table[["days", "transplant_day"]] /= DAYS_PER_UNIT[unit]
    return bb.read_cohort(
        table,
        patient="id",
        unit=unit,
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
    )


@pytest.mark.parametrize("source", ["heart", "jasa1"])
def test_mantel_byar(source: str, unit: str) -> None:
    found = bb.mantel_byar(cohort_of(source, unit), QUESTION).isel(endpoint=0)
    assert (int(found["observed_reference"]), int(found["observed"])) == (30, 45)
    for name, value in MANTEL_BYAR[source].items():
        # As many digits as the golden number has.
        digits = len(f"{value}".partition(".")[2])
        assert float(found[name]) == pytest.approx(value, abs=0.51 * 10.0**-digits), name


@pytest.mark.parametrize(("source", "ties"), list(COX))
def test_cox(source: str, ties: str, unit: str) -> None:
    row = bb.cox(cohort_of(source, unit), QUESTION, ties=ties).iloc[0]  # type: ignore[arg-type]
    value = COX[source, ties]
    digits = len(f"{value}".partition(".")[2])
    assert row["estimate"] == pytest.approx(value, abs=0.51 * 10.0**-digits)
    if source == "jasa1":
        assert np.log(row["estimate"]) == pytest.approx(0.1252, abs=6e-5)
        error = np.log(row["upper"] / row["lower"]) / (2 * 1.959964)
        assert error == pytest.approx(0.3008, abs=6e-5)


def test_simon_makuch(unit: str) -> None:
    curves = bb.simon_makuch(cohort_of("jasa1", unit), QUESTION)
    times = np.array([30.0, 90.0, 180.0, 365.0]) / DAYS_PER_UNIT[unit]
    for group, expected in (
        ("no transplantation", [0.807, 0.563, 0.443, 0.236]),
        ("transplantation", [0.735, 0.492, 0.431, 0.321]),
    ):
        one = curves[curves["group"] == group]
        at = np.searchsorted(one["time"], times * (1 + 1e-9), side="right") - 1
        np.testing.assert_allclose(one["survival"].to_numpy()[at], expected, atol=5.1e-4)


def test_ever_against_never(unit: str) -> None:
    # R: coxph(Surv(futime, fustat) ~ transplant, jasa), Efron and Breslow alike in both sources.
    for source in ("heart", "jasa1"):
        row = bb.classical.ever_never(cohort_of(source, unit), QUESTION).iloc[0]
        assert row["estimate"] == pytest.approx(0.2662166, rel=1e-6)


def test_piecewise_exponential_maximum_likelihood(unit: str) -> None:
    person_time = bb.person_time(
        cohort_of("jasa1", unit), QUESTION, cuts=CUTS / DAYS_PER_UNIT[unit]
    )
    table = person_time.table.isel(endpoint=0, pattern=0)
    events, time = table["events"].values, table["person_time"].values
    on = np.array([0.0, 1.0])

    def negative(parameter: np.ndarray) -> tuple[float, np.ndarray]:
        log_hazard = parameter[:-1, None] + parameter[-1] * on
        expected = time * np.exp(log_hazard)
        excess = expected - events
        slope = np.append(excess.sum(axis=1), (excess * on).sum())
        return float((expected - events * log_hazard).sum()), slope

    start = np.append(np.log(events.sum(axis=1) / time.sum(axis=1)), 0.0)
    best = minimize(negative, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    assert best.x[-1] == pytest.approx(-0.04457, abs=5.1e-6)
    expected = time * np.exp(best.x[:-1, None] + best.x[-1] * on)
    share = expected @ on / expected.sum(axis=1)
    information = (expected.sum(axis=1) * share * (1 - share)).sum()
    assert information**-0.5 == pytest.approx(0.28023, abs=5.1e-6)
