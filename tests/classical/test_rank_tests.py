"""Mantel-Byar against R and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import bayesblina as bb
from bayesblina.classical.curves import median_time
from bayesblina.core.errors import SpecError
from tests.classical.cohorts import QUESTION, STANFORD, small, stanford

# R 4.2, survival 3.5-3, jasa1: sums over event times; the curves are survfit's.
GOLDEN = {
    "observed": 45,
    "observed_reference": 30,
    "expected": 43.61524,
    "expected_reference": 31.38477,
    "variance": 11.28054,
    "chi2": 0.16999,
    "peto_odds_ratio": 1.13061,
    "pike_odds_ratio": 1.07937,
}


@pytest.mark.parametrize(
    ("per_unit", "unit"),
    [(1.0, "days"), (7.0, "weeks"), (365.25 / 12, "months"), (365.25, "years")],
)
def test_mantel_byar_equals_r_in_any_unit(per_unit: float, unit: str) -> None:
    result = bb.mantel_byar(stanford(per_unit, unit), QUESTION).isel(endpoint=0)
    for name, value in GOLDEN.items():
        assert float(result[name]) == pytest.approx(value, rel=1e-5), name


def test_hand_computed() -> None:
    # Transplanted: b from 2, d from 1. Events at 1 (a), 3 (b), 4 (c); d censored at 5.
    cohort = small([(1, 1, None), (3, 1, 2), (4, 1, None), (5, 0, 1)])
    # 1: nobody transplanted, at risk 4. 3: b, d against c. 4: d against c.
    result = bb.mantel_byar(cohort, QUESTION).isel(endpoint=0)
    expected, variance = 2 / 3 + 1 / 2, 2 / 3 * 1 / 3 + 1 / 4
    assert float(result["observed"]) == 1
    assert float(result["expected"]) == pytest.approx(expected)
    assert float(result["variance"]) == pytest.approx(variance)
    assert float(result["peto_odds_ratio"]) == pytest.approx(np.exp((1 - expected) / variance))
    assert float(result["pike_odds_ratio"]) == pytest.approx((1 / expected) / (2 / (3 - expected)))
    curves = bb.simon_makuch(cohort, QUESTION)
    exposed = curves[curves["group"] == "transplantation"]
    assert exposed["time"].tolist() == [1, 3, 5]
    assert exposed["survival"].tolist() == [1, 0.5, 0.5]
    assert exposed["at_risk"].tolist() == [1, 2, 1]
    # Greenwood on the log-log scale by hand: variance 1 / (2 x 1), at survival 1/2.
    half = norm.isf(0.025) * np.sqrt(0.5) / np.log(2)
    band = exposed.loc[exposed["time"] == 3, ["lower", "upper"]].to_numpy()[0]
    np.testing.assert_allclose(band, [0.5 ** np.exp(half), 0.5 ** np.exp(-half)])
    rest = curves[curves["group"] == "no transplantation"]
    assert rest["survival"].tolist() == [1, 0.75, 0]
    assert median_time(rest) == 4
    assert median_time(exposed.assign(survival=[1, 0.6, 0.6])) == np.inf
    counts = bb.numbers_at_risk(cohort, QUESTION, [0, 1, 2, 3])
    # Who dies at a time, or changes group then, is still counted; at 0 who is there just after it.
    assert counts.loc[counts["group"] == "transplantation", "at_risk"].tolist() == [0, 0, 1, 2]
    assert counts.loc[counts["group"] != "transplantation", "at_risk"].tolist() == [4, 4, 2, 1]


def test_nothing_to_compare() -> None:
    cohort = small([(1, 1, None), (2, 1, None), (3, 0, 2.5)])
    result = bb.mantel_byar(cohort, QUESTION).isel(endpoint=0)
    assert np.isnan(result["peto_odds_ratio"])
    assert np.isnan(result["p_value"])


def test_transplant_belongs_to_neither_group() -> None:
    table = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "months": [6.0, 8.0, 9.0],
            "died": [1, 1, 1],
            "start": [1.0, None, None],
            "sct": [None, 2.0, None],
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="months", event="died"),
        phases=bb.Phases(maintenance="start"),
        transplant="sct",
    )
    question = bb.Question(exposed="maintenance", eligible_from="entry", transplant="phase")
    result = bb.mantel_byar(cohort, question).isel(endpoint=0)
    assert (float(result["observed"]), float(result["observed_reference"])) == (1, 1)
    assert float(result["expected"]) == pytest.approx(1 / 2)


def test_stratified_mantel_byar_equals_r() -> None:
    # R: d <- survival::jasa1; d$half <- ifelse(as.integer(as.character(d$id)) %% 2, "odd", "even")
    # coxph(Surv(start, stop, event) ~ transplant + strata(half), d, ties = "exact")$score, whose
    # test is the Mantel-Haenszel one with ties; and 1 / $var at iter = 0.
    table = pd.read_csv(STANFORD).assign(half=lambda d: np.where(d["id"] % 2, "odd", "even"))
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
        covariates=["half"],
    )
    result = bb.mantel_byar(cohort, QUESTION, strata=["half"]).isel(endpoint=0)
    assert float(result["chi2"]) == pytest.approx(0.154282555, rel=1e-8)
    assert float(result["variance"]) == pytest.approx(10.9683154, rel=1e-8)
    assert float(result["observed"] + result["observed_reference"]) == 75
    plain = bb.mantel_byar(cohort, QUESTION).isel(endpoint=0)
    assert float(plain["chi2"]) == pytest.approx(0.1699896, rel=1e-6)
    for strata, message in (
        (["halves"], "No categorical covariate 'halves'. Nearest: half"),
        ("half", r"such as \['half'\]"),
    ):
        with pytest.raises(SpecError, match=message):
            bb.mantel_byar(cohort, QUESTION, strata=strata)
