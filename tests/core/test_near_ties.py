"""A stay of less than a hundredth of a day before an event is none, wherever patients are held."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.patients.rules import DAYS_PER_UNIT, LONGEST_LIFE_YEARS, NEAR_TIES, InMemory, tie_of
from bayesblina.person_time.cells import front

MONTH = DAYS_PER_UNIT["months"]
GIVEN: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {
        "os": bb.Endpoint(time="os", event="died"),
        "rfs": bb.Endpoint(time="rfs", event="failed"),
    },
    "phases": bb.Phases(
        first=bb.Phase(start="one", end="one_end"), second=bb.Phase(start="two", end="two_end")
    ),
    "transplant": "tx",
}


def patients(away: float, seed: int = 4, size: int = 60) -> pd.DataFrame:
    """Times that meet ends of follow-up, apart by so many days."""
    draw = np.random.default_rng(seed)
    os = draw.uniform(4, 20, size)
    rfs = np.where(draw.random(size) < 0.5, os, os - draw.uniform(1, 3, size))
    one = draw.uniform(0.1, 0.9, size)
    at = np.where(draw.random(size) < 0.5, os, rfs)
    signs = draw.choice([-1.0, 1.0], size) if abs(away) < 0.01 else -1.0
    near = at + signs * abs(away) / MONTH
    which = draw.integers(0, 4, size)
    two = np.where(which == 0, near, np.where(which == 1, np.nan, one + 0.5))
    two_end = np.where(which == 2, near, np.nan)
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "os": os,
            "died": draw.integers(0, 2, size),
            "rfs": rfs,
            "failed": draw.integers(0, 2, size),
            "one": one,
            "one_end": np.where(draw.random(size) < 0.5, two, np.nan),
            "two": two,
            "two_end": two_end,
            "tx": np.where(which == 3, near, np.nan),
        }
    ).assign(failed=lambda table: np.where(table["rfs"] == table["os"], table["died"], 1))


def read(table: pd.DataFrame, way: str) -> Any:
    return read_as(table, way, **GIVEN)


def read_as(table: pd.DataFrame, way: str, **given: Any) -> Any:
    """Patients in memory, in DuckDB that was started for them, or in an engine of another."""
    if way == "scanned":
        return bb.scan_cohort(table, **given)
    if way == "elsewhere":
        import ibis

        return bb.scan_cohort(ibis.memtable(table), **given)
    return bb.read_cohort(table, **given)


@pytest.fixture(
    params=["in memory", "many", "scanned", pytest.param("elsewhere", marks=pytest.mark.slow)]
)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "many":
        monkeypatch.setattr(front, "MANY", 1)
    return str(request.param)


def person_time(cohort: Any, question: bb.Question) -> Any:
    return bb.person_time(cohort, question, cuts=[3.0, 8.0]).table


@pytest.mark.parametrize(
    "choices", [{}, {"transplant": "phase"}, {"lag": 1.0}, {"eligible_from": "first"}]
)
def test_one_answer_wherever_patients_are(way: str, choices: dict[str, Any]) -> None:
    asked = {"eligible_from": "entry", "transplant": "censor"} | choices
    question = bb.Question(exposed="second", phase_end="current", **asked)
    exact = person_time(bb.read_cohort(patients(0.0), **GIVEN), question)
    for away in (2e-6, 0.009):
        found = person_time(read(patients(away), way), question)
        for name in ("events", "person_time"):
            np.testing.assert_allclose(found[name], exact[name], rtol=0, atol=1e-9)
    apart = person_time(read(patients(-0.02), way), question)
    assert not np.allclose(apart["events"], exact["events"])


def test_a_lag_that_ends_at_the_event(way: str) -> None:
    """A phase that counts from seconds before an event has no event."""
    table = patients(0.0)
    table["two"] = table["one"] + 0.5
    table[["one_end", "two_end", "tx"]] = np.nan
    question = bb.Question(
        exposed="second", eligible_from="entry", lag=1.0, transplant="ignore", phase_end="ever"
    )
    for away, none in ((0.008, True), (-0.008, True), (0.02, False)):
        first = np.arange(len(table)) < 25
        table["rfs"] = np.where(first, table["two"] + 1.0 + away / MONTH, table["os"] - 1.0)
        table["failed"] = 1
        found = person_time(read(table, way), question).sel(endpoint="rfs", phase="second")
        assert float(found["events"].sum()) == len(table) - (25 if none else 0)


def test_they_are_counted_in_the_account(way: str) -> None:
    for away in (0.0, 0.005, -0.02):
        table = patients(away)
        touched = table[["two", "two_end", "tx"]].sub(table["os"], axis=0).abs().min(axis=1)
        other = table[["two", "two_end", "tx"]].sub(table["rfs"], axis=0).abs().min(axis=1)
        nearest = np.minimum(touched, other)
        near = (nearest > 1e-9) & (nearest < 0.01 / MONTH)
        counts = read(table, way).account().table
        found = counts.loc[counts["what"] == NEAR_TIES, "patients"]
        assert found.sum() == near.sum() == (0 if away != 0.005 else near.sum())
        assert (away == 0.005) == bool(near.any())


def truncated(values: Any, size: int) -> Any:
    """Numbers as SAS keeps them in so many bytes: the others are 0."""
    bits = np.asarray(values, dtype=np.float64).view(np.uint64)
    return (bits & ~np.uint64((1 << 8 * (8 - size)) - 1)).view(np.float64)


@pytest.mark.parametrize("longest", [20.0, 250.0])
@pytest.mark.parametrize(
    "rounded",
    [
        lambda values: np.float64(np.float32(values)),
        lambda values: truncated(values, 4),
        lambda values: truncated(values, 6),
        lambda values: np.array([float(f"{one:.6g}") for one in values]),
    ],
    ids=["single precision", "SAS, 4 bytes", "SAS, 6 bytes", "six digits"],
)
def test_precision_of_one_column_changes_nothing(
    longest: float, rounded: Callable[[Any], Any]
) -> None:
    draw = np.random.default_rng(3)
    time = draw.uniform(longest / 10, longest, 200)
    same = draw.random(200) < 0.2
    start = np.where(same, time, draw.uniform(0, longest / 10, 200))
    question = bb.Question(exposed="m", eligible_from="entry")

    def estimate(time: Any, start: Any) -> float:
        table = pd.DataFrame({"id": np.arange(200), "t": time, "e": 1, "s": start})
        cohort = bb.read_cohort(
            table,
            patient="id",
            unit="months",
            endpoints=bb.Endpoint(time="t", event="e"),
            phases=bb.Phases(m="s"),
        )
        return float(bb.cox(cohort, question)["estimate"].iloc[0])

    exact = estimate(time, start)
    assert estimate(time, rounded(start)) == pytest.approx(exact, rel=1e-6)
    assert estimate(rounded(time), start) == pytest.approx(exact, rel=1e-6)


def test_three_bytes_are_refused(way: str) -> None:
    """A start on the day of the event would be a tenth of a day before it."""
    draw = np.random.default_rng(3)
    time = draw.uniform(6, 20, 60)
    start = np.where(np.arange(60) < 9, time, draw.uniform(0, 3, 60))

    def read(start: Any) -> Any:
        return read_as(
            pd.DataFrame({"id": np.arange(60), "t": time, "e": 1, "s": start}),
            way,
            patient="id",
            unit="months",
            endpoints=bb.Endpoint(time="t", event="e"),
            phases=bb.Phases(m="s"),
        )

    with pytest.raises(DataError, match="too few digits") as caught:
        read(truncated(start, 3))
    (problem,) = caught.value.problems
    # Of some the rounding is so small that they are near ties.
    apart = (time - truncated(start, 3))[:9]
    assert problem.patients == tuple(str(row) for row in np.flatnonzero(apart * MONTH > 0.01))
    assert (problem.column, problem.expected) == ("s", "Export the column at its full length.")
    # A single number of more digits, in the last row, and the column is another one.
    last = truncated(start, 3)
    last[-1] = start[-1]
    assert read(last).size == 60
    apart = np.where(np.arange(60) < 9, np.nan, start)
    assert read(truncated(apart, 3)).size == 60
    assert read(np.round(4 * start) / 4 * (start < 5)).size == 60


def test_how_near_is_near() -> None:
    """A hundredth of a day, or half a unit of the sixth digit where that is more."""
    for unit, days in DAYS_PER_UNIT.items():
        tie = tie_of(unit)
        for time in (0.5, 3.0, 30.0, 99.0, 101.0, 400.0, 1500.0, 20_000.0):
            if time * days > LONGEST_LIFE_YEARS * DAYS_PER_UNIT["years"]:
                continue
            half = 0.5 * 10.0 ** (np.floor(np.log10(time)) - 5)
            most = max(0.01 / days, half)
            near = [
                bool(tie.near(np.array(time + sign * share * most), np.array(time), InMemory()))
                for share in (0.99, 1.01)
                for sign in (-1, 1)
            ]
            assert near == [True, True, False, False], (unit, time)
    # 5.01 - 5.00 is a little less than a hundredth, and is a hundredth.
    assert not tie_of("days").near(np.array(5.0), np.array(5.01), InMemory())
