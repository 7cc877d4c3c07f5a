"""Cox regressions against R, plain sums and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from tests.classical.tables import NAMED, TRANSPLANT, read
from tests.paths import ROOT

NAN = float("nan")


@pytest.fixture(scope="module")
def jasa1() -> Cohort:
    return read(pd.read_csv(ROOT / "tests" / "data" / "stanford_jasa1.csv"))


def test_cox_equals_r(heart: Cohort, jasa1: Cohort) -> None:
    # R 4.2, survival 3.5-3; tests/data/stanford_heart.R for the adjusted one.
    for ties, expected in (("breslow", 1.13390), ("efron", 1.13558)):
        row = bb.cox(heart, TRANSPLANT, ties=ties).iloc[0]  # type: ignore[arg-type]
        assert row["estimate"] == pytest.approx(expected, abs=6e-6)
    row = bb.cox(jasa1, TRANSPLANT).iloc[0]
    assert np.log(row["estimate"]) == pytest.approx(0.1252, abs=6e-5)
    error = np.log(row["upper"] / row["lower"]) / (2 * 1.959964)
    assert error == pytest.approx(0.3008, abs=6e-5)
    adjusted = bb.cox(heart, TRANSPLANT, adjusted=True).iloc[0]
    found = [adjusted[name] for name in ("estimate", "lower", "upper")]
    np.testing.assert_allclose(found, [1.0162258, 0.5550365, 1.8606254], rtol=1e-6)


def test_any_unit(jasa1: Cohort) -> None:
    table = pd.read_csv(ROOT / "tests" / "data" / "stanford_jasa1.csv")
    table[["days", "transplant_day"]] /= 365.25
    ladders = [
        bb.classical.bias_ladder(jasa1, TRANSPLANT, landmarks=[30.0]),
        bb.classical.bias_ladder(read(table, unit="years"), TRANSPLANT, landmarks=[30 / 365.25]),
    ]
    columns = ["estimate", "lower", "upper", "patients", "events"]
    pd.testing.assert_frame_equal(ladders[0][columns], ladders[1][columns])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(1, 6),
            st.booleans(),
            st.integers(0, 1),
            st.integers(-2, 2),
        ),
        min_size=6,
        max_size=25,
    ),
    st.sampled_from(["efron", "breslow"]),
)
def test_against_plain_sums(rows: list[tuple[int, int, bool, int, int]], ties: str) -> None:
    """The score is zero at the estimate, with the partial likelihood summed event by event."""
    start = np.array([row[0] for row in rows], dtype=float)
    stop = start + np.array([row[1] for row in rows])
    event = np.array([row[2] for row in rows])
    columns = np.array([row[3:] for row in rows], dtype=float)
    fit = fit_cox(start, stop, event, columns, ties=ties)  # type: ignore[arg-type]
    if not np.isfinite(fit.estimate).all():
        return

    def log_likelihood(parameter: np.ndarray) -> float:
        linear = columns @ parameter
        total = 0.0
        for time in np.unique(stop[event]):
            tied = event & (stop == time)
            at_risk = (start < time) & (time <= stop)
            total += linear[tied].sum()
            for index in range(int(tied.sum())):
                gone = index / tied.sum() if ties == "efron" else 0.0
                whole = np.exp(linear[at_risk]).sum() - gone * np.exp(linear[tied]).sum()
                total -= np.log(whole)
        return float(total)

    step = 1e-4
    here = log_likelihood(fit.estimate)
    for direction in np.eye(2):
        moved = [log_likelihood(fit.estimate + sign * step * direction) for sign in (1, -1)]
        assert (moved[0] - moved[1]) / (2 * step) == pytest.approx(0.0, abs=1e-5)
        assert max(moved) <= here + 1e-12
        curvature = -(moved[0] - 2 * here + moved[1]) / step**2
        information = np.linalg.inv(fit.covariance)
        assert curvature == pytest.approx(float(direction @ information @ direction), abs=1e-4)


def test_the_score_test_is_mantel_byars_without_ties() -> None:
    generator = np.random.default_rng(4)
    for _ in range(20):
        time = generator.exponential(10, 40) + 0.1
        start = np.where(generator.random(40) < 0.6, time * generator.random(40), np.nan)
        table = pd.DataFrame(
            {"id": range(40), "days": time, "died": generator.integers(0, 2, 40), "t": start}
        )
        cohort = read(table, unit="months", start="t")
        rows = cohort.to_counting_process()
        fit = fit_cox(
            rows["start"].to_numpy(),
            rows["stop"].to_numpy(),
            rows["event"].to_numpy() == 1,
            (rows["phase"] == "transplantation").to_numpy().astype(np.float64)[:, None],
        )
        compared = bb.mantel_byar(cohort, TRANSPLANT)
        assert fit.score_test == pytest.approx(float(compared["chi2"].values[0]))


def nuisances() -> pd.DataFrame:
    """A phase entered later, a level without events, and columns that repeat each other."""
    place = np.arange(60)
    start, stop = 1.0 + 0.37 * (place * 7 % 29), 2.0 + 0.61 * (place * 11 % 53)
    level = place % 3
    event = (place * 5 % 7 < 5) & (level != 2)
    age = 40.0 + place * 13 % 31
    early = pd.DataFrame({"start": 0.0, "stop": np.minimum(start, stop), "m": 0.0, "id": place})
    late = pd.DataFrame({"start": start, "stop": stop, "m": 1.0, "id": place})[start < stop]
    early["event"], late["event"] = event & (start >= stop), event[start < stop]
    rows = pd.concat([early, late], ignore_index=True)
    who = rows["id"].to_numpy()
    for number, name in enumerate("abc"):
        rows[name] = (level[who] == number).astype(float)
    return rows.assign(age=age[who], again=2 * age[who] + 1, same=rows["m"])


@pytest.mark.parametrize(
    ("columns", "estimate", "error"),
    [
        # R 4.2, survival 3.5-3, tests/data/nuisances.R; NA there for what repeats, and an estimate
        # of 20 or more in size with a standard error without meaning for what runs away.
        (
            ["m", "b", "c"],
            [1.601574100240, 0.235670579818, NAN],
            [0.908456498898, 0.38687441663, NAN],
        ),
        (["m", "a", "b"], [1.601574100240, NAN, NAN], [0.908456498898, NAN, NAN]),
        (
            ["m", "age", "again"],
            [1.62087668379442, -0.00925717372749, NAN],
            [0.9214944802647, 0.0196686471143, NAN],
        ),
        (
            ["m", "c", "age", "again", "b"],
            [1.60388579919842, NAN, 0.00533258080549, NAN, 0.22546018253041],
            [0.9073462837195, NAN, 0.0196737944211, NAN, 0.3884795278931],
        ),
        (
            ["m", "same", "age"],
            [1.62087668379442, NAN, -0.00925717372749],
            [0.9214944802647, NAN, 0.0196686471143],
        ),
        (["m", "a", "b", "c"], [1.601574100240, NAN, NAN, NAN], [0.908456498898, NAN, NAN, NAN]),
    ],
)
def test_nuisances_leave_the_phase_as_r_has_it(
    columns: list[str], estimate: list[float], error: list[float]
) -> None:
    rows = nuisances()
    for unit in (1.0, 1e4):
        matrix = rows[columns].to_numpy(float) * unit
        fit = fit_cox(
            rows["start"].to_numpy(), rows["stop"].to_numpy(), rows["event"].to_numpy(), matrix
        )
        assert fit.converged
        np.testing.assert_allclose(fit.estimate * unit, estimate, rtol=1e-7)
        np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)) * unit, error, rtol=1e-6)


def test_an_offender_is_named() -> None:
    generator = np.random.default_rng(4)
    start, time = generator.exponential(6, 150), generator.exponential(15, 150)
    table = pd.DataFrame({"id": range(150), "days": time, "died": generator.random(150) < 0.7})
    table["died"] = table["died"].astype(int)
    table["t"] = np.where(start < time, start, np.nan)
    table["site"] = generator.choice(["A", "B", "C"], 150)
    table["age"] = generator.normal(50, 10, 150)
    table["months"] = 12 * table["age"] + 5
    table.loc[table["site"] == "C", "died"] = 0

    def adjusted(*names: str) -> pd.Series:
        cohort = bb.read_cohort(
            table,
            patient="id",
            unit="days",
            endpoints={"os": bb.Endpoint(time="days", event="died")},
            phases=bb.Phases(transplantation="t"),
            covariates=list(names),
        )
        return bb.cox(cohort, TRANSPLANT, adjusted=True).iloc[0]

    assert adjusted("site")["note"] == "no finite estimate of site[C]"
    assert np.isfinite(adjusted("site")["estimate"])
    once, twice = adjusted("age"), adjusted("age", "months")
    assert once["note"] == ""
    assert twice["note"] == "no finite estimate of months"
    for name in ("estimate", "lower", "upper"):
        assert twice[name] == pytest.approx(once[name], rel=1e-9)


def test_no_finite_estimate() -> None:
    table = pd.DataFrame(
        {"id": range(6), "days": [1.0, 2, 3, 4, 5, 6], "died": [1, 1, 1, 0, 0, 0], "t": [None] * 6}
    )
    table["t"] = [np.nan, np.nan, np.nan, 0.5, 0.5, 0.5]
    row = bb.cox(read(table, unit="months", start="t"), TRANSPLANT).iloc[0]
    assert np.isnan(row["estimate"])
    assert row["note"] == "no finite estimate"


def test_who_enters_the_phase_at_the_landmark_is_in_it() -> None:
    rows = [(10.0, 1, 4.0), (12.0, 1, 4.0), (9.0, 1, np.nan), (14.0, 0, np.nan), (6.0, 1, np.nan)]
    table = pd.DataFrame(rows, columns=["days", "died", "t"]).assign(id=range(5))
    cohort = read(table, unit="months", start="t")
    row = bb.classical.landmark_analysis(cohort, TRANSPLANT, landmarks=[4.0]).iloc[0]
    assert (row["patients"], row["events"]) == (5, 4)
    assert (row["events_exposed"], row["events_reference"]) == (2, 2)
    fit = fit_cox(
        np.full(5, 4.0),
        table["days"].to_numpy(),
        table["died"].to_numpy() == 1,
        table["t"].notna().to_numpy().astype(np.float64)[:, None],
    )
    assert row["estimate"] == pytest.approx(float(np.exp(fit.estimate[0])), rel=1e-9)


def test_without_the_reference_there_is_nothing_to_compare_with() -> None:
    """All are in another state where the exposed are at risk: no estimate, not another contrast."""
    rows = [(10.0, 1, 1.0, 2.0), (12.0, 1, 1.0, 2.0), (9.0, 1, np.nan, 3.0), (5.0, 1, np.nan, 4.0)]
    table = pd.DataFrame(rows, columns=["t", "d", "one", "two"]).assign(id=range(4))
    table.loc[2:, "two"] = np.nan
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(one="one", two="two"),
    )
    row = bb.cox(cohort, NAMED).iloc[0]
    assert np.isnan(row["estimate"])
    assert row["note"] == "no finite estimate"
