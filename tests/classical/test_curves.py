"""Classical curves against R, plain counting and loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Cohort
from tests.classical.cohorts import QUESTION, STANFORD, small, stanford


def test_simon_makuch_equals_r() -> None:
    curves = bb.simon_makuch(stanford(), QUESTION)
    for group, expected in (
        ("no transplantation", [0.807, 0.563, 0.443, 0.236]),
        ("transplantation", [0.735, 0.492, 0.431, 0.321]),
    ):
        one = curves[curves["group"] == group]
        at = np.searchsorted(one["time"], [30, 90, 180, 365], side="right") - 1
        np.testing.assert_allclose(one["survival"].to_numpy()[at], expected, atol=5e-4)


def test_tiny_first_risk_set() -> None:
    # One exposed patient dies alone at 1; the others are exposed from 2.
    cohort = small([(1, 1, 0.5), (5, 1, 2), (6, 0, 2), (7, 0, None)])
    all_counted = bb.simon_makuch(cohort, QUESTION)
    exposed = all_counted[all_counted["group"] == "transplantation"]
    assert exposed["survival"].iloc[-1] == 0
    landmarked = bb.simon_makuch(cohort, QUESTION, landmark=2)
    larger = bb.simon_makuch(cohort, QUESTION, minimum_at_risk=2)
    for curves in (landmarked, larger):
        exposed = curves[curves["group"] == "transplantation"]
        assert exposed["survival"].iloc[-1] == 0.5
    assert landmarked["time"].min() == 2
    # A landmark for the curves keeps those who come under observation later.
    late = small([(5, 1, 3), (6, 0, 2), (5, 1, None)])
    late = replace(
        late,
        endpoints={"survival": replace(late.endpoints["survival"], entry=np.array([2.5, 0, 0]))},
    )
    curves = bb.simon_makuch(late, QUESTION, landmark=1)
    assert curves.loc[curves["group"] == "transplantation", "at_risk"].max() == 2
    only = bb.simon_makuch(late, replace(QUESTION, landmark=1.0))
    assert only.loc[only["group"] == "transplantation", "at_risk"].max() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"mass": 1.0},
        {"mass": 0.0},
        {"minimum_at_risk": 0},
        {"landmark": -1.0},
        {"landmark": np.inf},
    ],
)
def test_impossible_arguments(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(SpecError, match=name):
        bb.simon_makuch(stanford(), QUESTION, **wrong)  # type: ignore[arg-type]
    for curve in (bb.kaplan_meier, bb.classical.nelson_aalen):
        with pytest.raises(SpecError, match=name):
            curve(stanford(), **wrong)  # type: ignore[arg-type]


def test_a_sum_of_hazards_from_a_landmark_on() -> None:
    """Who is gone by then does not count: of four three are left, of whom two die, one by one."""
    cohort = small([(0.25, 1, None), (2.0, 1, None), (3.0, 1, None), (4.0, 0, None)])
    found = bb.classical.nelson_aalen(cohort, landmark=0.5)
    assert found["time"].tolist() == [0.5, 2.0, 3.0, 4.0]
    expected = [0.0, 1 / 3, 1 / 3 + 1 / 2, 1 / 3 + 1 / 2]
    np.testing.assert_allclose(found["cumulative_hazard"], expected, rtol=1e-12)
    assert found["at_risk"].tolist() == [3, 3, 2, 1]
    assert bb.classical.nelson_aalen(cohort, landmark=0.0)["at_risk"].tolist()[0] == 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 1), st.none() | st.integers(0, 8)),
        min_size=2,
        max_size=12,
    )
)
def test_any_cohort_against_plain_counting(rows: list[tuple[int, int, int | None]]) -> None:
    legal = [(float(t), d, None if s is None or s > t else float(s)) for t, d, s in rows]
    cohort = small(legal)
    result = bb.mantel_byar(cohort, QUESTION).isel(endpoint=0)
    observed = expected = variance = 0.0
    for time in sorted({t for t, d, _ in legal if d}):
        at_risk = [(t, d, s is not None and s < time) for t, d, s in legal if t >= time]
        n, n1 = len(at_risk), sum(late for *_, late in at_risk)
        events = sum(d for t, d, _ in at_risk if t == time)
        observed += sum(d and late for t, d, late in at_risk if t == time)
        expected += events * n1 / n
        if n > 1:
            variance += events * n1 / n * (1 - n1 / n) * (n - events) / (n - 1)
    assert float(result["observed"]) == observed
    assert float(result["expected"]) == pytest.approx(expected, abs=1e-9)
    assert float(result["variance"]) == pytest.approx(variance, abs=1e-9)
    counts = bb.numbers_at_risk(cohort, QUESTION, np.arange(10.0))
    total = counts.groupby("time")["at_risk"].sum()
    assert total.tolist() == [sum(t >= max(time, 1) for t, _, _ in legal) for time in range(10)]


def transplanted() -> Cohort:
    """Stanford's transplanted patients, under observation from the transplant on."""
    table = pd.read_csv(STANFORD)
    table = table[table["transplant_day"].notna() & (table["transplant_day"] < table["days"])]
    return bb.read_cohort(
        table.assign(never=np.nan),
        patient="id",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died", entry="transplant_day"),
        phases=bb.Phases(late="never"),
    )


@pytest.mark.parametrize("curve", ["kaplan_meier", "nelson_aalen"])
def test_curves_with_delayed_entry_equal_r(curve: str) -> None:
    # R: k <- survfit(Surv(start, stop, event) ~ 1, subset(jasa1, transplant == 1),
    # conf.type = "log-log"); summary(k, times = c(30, 90, 180, 365)); with ctype = 1 and
    # conf.type = "log" the cumulative hazard and its std.chaz.
    table = getattr(bb.classical, curve)(transplanted())
    at = np.searchsorted(table["time"], [30, 90, 180, 365], side="right") - 1
    one = table.iloc[at]
    if curve == "kaplan_meier":
        expected = {
            "survival": [0.735421441, 0.492176643, 0.431270659, 0.321095219],
            "lower": [0.480499471, 0.324130943, 0.280153789, 0.199264341],
            "upper": [0.879102858, 0.640128585, 0.573566076, 0.449318513],
        }
    else:
        total = np.array([0.295861981, 0.691722233, 0.822092076, 1.111200013])
        error = np.array([0.130701705, 0.162212821, 0.172384572, 0.197649678])
        factor = np.exp(norm.isf(0.025) * error / total)
        expected = {
            "cumulative_hazard": list(total),
            "lower": list(total / factor),
            "upper": list(total * factor),
        }
    for column, values in expected.items():
        np.testing.assert_allclose(one[column], values, rtol=1e-8)
    assert table["events"].sum() == 45


def test_curves_by_covariate_are_those_of_each_level() -> None:
    cohort = bb.simulate.blinatumomab_cohort(seed=2)[0]
    table = bb.kaplan_meier(cohort, by="prior_salvage", landmark=3.0)
    raw = bb.simulate.blinatumomab_table(2)
    for level in ("no", "yes"):
        one = table[(table["endpoint"] == "os") & (table["group"] == level)]
        rows = raw[(raw["prior_salvage"] == level) & (raw["os_months"] > 3.0)]
        survival, left = 1.0, len(rows)
        for time, died in rows[["os_months", "died"]].sort_values("os_months").to_numpy():
            if died:
                survival *= 1 - 1 / left
            left -= 1
            here = one[one["time"] <= time]
            assert here["survival"].iloc[-1] == pytest.approx(survival, rel=1e-9)
    with pytest.raises(SpecError, match="No categorical covariate 'sex'"):
        bb.kaplan_meier(cohort, by="sex")
    with pytest.raises(SpecError, match="mass must lie"):
        bb.classical.nelson_aalen(cohort, mass=95)


def test_bootstrap_band_equals_a_loop_over_drawn_studies() -> None:
    cohort = stanford()
    replicates, mass = 40, 0.8
    got = bb.simon_makuch(
        cohort, QUESTION, band="bootstrap", seed=7, replicates=replicates, mass=mass
    )
    weights = np.random.default_rng(7).multinomial(103, np.full(103, 1 / 103), size=replicates)
    raw = pd.read_csv(STANFORD)
    start = raw["transplant_day"].fillna(np.inf).to_numpy()
    time, died = raw["days"].to_numpy(), raw["died"].to_numpy() == 1
    for group, one in got.groupby("group"):
        exposed = group == "transplantation"
        curves = []
        for weight in weights:
            survival, curve = 1.0, []
            for t in one["time"].to_numpy()[1:]:
                inside = (time >= t) & ((start < t) if exposed else (start >= t))
                dead = weight[inside & (time == t) & died].sum()
                if dead:
                    survival *= 1 - dead / weight[inside].sum()
                curve.append(survival)
            curves.append(curve)
        lower, upper = np.quantile(curves, [0.1, 0.9], axis=0)
        np.testing.assert_allclose(one["lower"].to_numpy()[1:], lower, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(one["upper"].to_numpy()[1:], upper, rtol=1e-9, atol=1e-12)
    with pytest.raises(SpecError, match="needs a seed"):
        bb.simon_makuch(cohort, QUESTION, band="bootstrap")


def test_bootstrap_band_agrees_with_greenwoods() -> None:
    """Without delayed entry or changes of phase both estimate the same standard error."""
    generator = np.random.default_rng(3)
    cohort = small([(float(t), 1, None) for t in generator.exponential(10, 800)])
    question = bb.Question(exposed="transplantation", eligible_from="entry")
    one, two = (
        bb.simon_makuch(cohort, question, band=band, seed=1) for band in ("greenwood", "bootstrap")
    )
    middle = slice(100, 700)
    width = [(t["upper"] - t["lower"]).to_numpy()[middle] for t in (one, two)]
    # The percentiles of 1000 replicates are known to about 4 % of the width.
    np.testing.assert_allclose(width[1], width[0], rtol=0.16)
