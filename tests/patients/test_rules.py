"""Rules for patients' times: each broken once, ties at their edge, and engines against numpy."""

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import bayesblina as bb
from bayesblina.core.errors import DataError, Problem
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.rules import InMemory, PatientColumns, is_after, rules, unit_words

NAN = np.nan
# A patient with whom nothing is wrong.
BASE: dict[str, Any] = {
    "os": 20.0,
    "died": 1,
    "os_entry": 0.5,
    "rfs": 18.0,
    "failed": 1,
    "rfs_entry": 2.0,
    "one": 3.0,
    "one_end": 6.0,
    "two": 8.0,
    "two_end": 12.0,
    "transplant": 15.0,
    "age": 50.0,
}
# What is changed of it, the column that is told, and the words; one line for each rule.
CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"os": -20.0, "rfs": 18.0}, "os", "negative or infinite times"),
    # The only time of a patient, who has phases: they do not come after it.
    (
        {"os": -20.0, "rfs": NAN, "failed": NAN, "rfs_entry": NAN},
        "os",
        "negative or infinite times",
    ),
    ({"rfs": -1.0}, "rfs", "negative or infinite times"),
    ({"rfs": 0.0, "rfs_entry": NAN}, "rfs", "times of 0"),
    ({"rfs": NAN}, "rfs", "missing times"),
    ({"rfs_entry": -2.0}, "rfs_entry", "negative or infinite entry times"),
    ({"rfs_entry": 18.0}, "rfs_entry", "entry at or after the end of follow-up for rfs"),
    ({"os": 1801.0}, "os", "times longer than a life"),
    ({"one": -3.0}, "one", "negative or infinite starts"),
    ({"two": -8.0, "two_end": NAN, "one": NAN, "one_end": NAN}, "two", "negative or infinite star"),
    (
        {"two": 20.5, "two_end": 20.6, "transplant": NAN},
        "two",
        "second starts after the end of follow-up",
    ),
    ({"two_end": 7.0}, "two_end", "second ends before it starts, or without having started"),
    ({"two": NAN}, "two_end", "second ends before it starts, or without having started"),
    ({"one": 9.0, "one_end": NAN}, "two", "second starts before first"),
    ({"one_end": 8.5}, "one_end", "first ends after second has started"),
    ({"transplant": -1.0}, "transplant", "negative or infinite times"),
    ({"transplant": 20.5}, "transplant", "transplant after the end of follow-up"),
    ({"age": NAN}, "age", "missing or infinite values"),
]
COLUMNS: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {
        "os": bb.Endpoint(time="os", event="died", entry="os_entry"),
        "rfs": bb.Endpoint(time="rfs", event="failed", entry="rfs_entry"),
    },
    "phases": bb.Phases.from_dict(
        {
            "first": bb.Phase(start="one", end="one_end"),
            "second": bb.Phase(start="two", end="two_end"),
        }
    ),
    "transplant": "transplant",
    "covariates": ["age"],
}


def table_of(*changes: dict[str, Any]) -> pd.DataFrame:
    """Patients who are changed, and two with whom nothing is wrong."""
    rows = [BASE | change for change in ({}, *changes, {"two": NAN, "two_end": NAN})]
    return pd.DataFrame(rows).assign(id=[f"p{index}" for index in range(len(rows))])


def problems_of(table: pd.DataFrame, read: Any) -> tuple[Problem, ...]:
    try:
        read(table, **COLUMNS)
    except DataError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("change", "column", "words"), CASES, ids=[f"{column}: {words}" for _, column, words in CASES]
)
def test_each_rule_is_told_of_its_patient(change: dict[str, Any], column: str, words: str) -> None:
    """Nothing else is told of it: other rules that hold are not reported as broken."""
    (problem,) = problems_of(table_of(change), bb.read_cohort)
    assert problem.column == column
    assert words in problem.found
    assert problem.patients == ("p1",)
    assert problem.expected.endswith(".")


def test_nothing_is_told_of_good_patients() -> None:
    assert problems_of(table_of(), bb.read_cohort) == ()


def columns_of(table: pd.DataFrame) -> PatientColumns:
    values = {name: table[name].to_numpy(dtype=np.float64) for name in BASE}
    return PatientColumns(
        time={"os": values["os"], "rfs": values["rfs"]},
        entry={"os": values["os_entry"], "rfs": values["rfs_entry"]},
        start={"first": values["one"], "second": values["two"]},
        end={"first": values["one_end"], "second": values["two_end"]},
        transplant=values["transplant"],
        covariates={"age": values["age"]},
    )


def test_every_rule_is_broken_above_and_by_infinite_times() -> None:
    """No rule of the package is without a case; infinity breaks what negative times break."""
    table = table_of(*(change for change, _, _ in CASES))
    found = list(rules(columns_of(table), InMemory(), unit="months"))
    broken = {one.found for one in found if one.rows.any()}
    # Of os, first and second some are told above of the other endpoint or phase.
    assert {one.found for one in found} - broken == {
        "entry at or after the end of follow-up for os",
        "first starts after the end of follow-up",
        "first ends before it starts, or without having started",
    }
    infinite = {
        "os.time": {"os": math.inf},
        "rfs.time": {"rfs": math.inf},
        "os.entry": {"os_entry": math.inf},
        "rfs.entry": {"rfs_entry": math.inf},
        "first.start": {"one": math.inf},
        "second.start": {"two": math.inf},
        "first.end": {"one_end": math.inf},
        "second.end": {"two_end": math.inf},
        "transplant": {"transplant": math.inf},
        "age": {"age": -math.inf},
    }
    for role, change in infinite.items():
        table = table_of(change)
        told = [
            one for one in rules(columns_of(table), InMemory(), unit="months") if one.rows.any()
        ]
        assert any(one.role == role and one.rows.tolist() == [False, True, False] for one in told)


def test_an_engine_tells_the_same() -> None:
    """All broken patients in one table: the same columns, words and patients from both."""
    pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    table = table_of(*(change for change, _, _ in CASES))
    memory = problems_of(table, bb.read_cohort)
    engine = problems_of(table, bb.scan_cohort)
    assert len(memory) == len({(column, words) for _, column, words in CASES})

    def told(problems: tuple[Problem, ...]) -> set[tuple[str, str, tuple[str, ...]]]:
        return {(one.column, one.found, tuple(sorted(one.patients))) for one in problems}

    assert told(engine) == told(memory)


# Ties ---------------------------------------------------------------------------------------------


def test_times_within_the_tolerance_are_the_same() -> None:
    for scale in (1e-6, 1.0, 365.25, 1e6):
        near, far = scale * (1 + 0.9 * TIE_TOLERANCE), scale * (1 + 1.1 * TIE_TOLERANCE)
        assert not is_after(near, scale)
        assert is_after(far, scale)
        assert not is_after(scale, far)
    # After the origin is every time above 0; missing times are after nothing, nothing after them.
    values = np.array([0.0, 5e-324, 1.0, NAN])
    assert is_after(values, 0.0).tolist() == [False, True, True, False]
    assert is_after(1.0, values).tolist() == [True, True, False, False]
    assert not is_after(math.inf, math.inf)
    assert is_after(math.inf, 1e300)


times = st.floats(0.0, 1e9)


@given(times, times, times)
def test_after_is_an_order(one: float, two: float, three: float) -> None:
    assert not (is_after(one, two) and is_after(two, one))
    assert is_after(one, two) <= (one > two)
    # A later time is after what an earlier one is after.
    if is_after(one, two):
        assert is_after(max(one, three), two)
        assert is_after(one, min(two, three))


EDGES: list[tuple[dict[str, Any], str, float]] = [
    # The time that is moved to the edge of another one, and whether a tie is allowed.
    ({"rfs_entry": 18.0}, "rfs_entry", 18.0),
    ({"two": 20.0, "two_end": NAN, "transplant": NAN}, "two", 20.0),
    ({"transplant": 20.0}, "transplant", 20.0),
    ({"one_end": 8.0}, "one_end", 8.0),
    ({"one": 8.0, "one_end": NAN}, "one", 8.0),
]


@pytest.mark.parametrize(("change", "column", "at"), EDGES, ids=[one for _, one, _ in EDGES])
def test_ties_with_noise(change: dict[str, Any], column: str, at: float) -> None:
    """A phase or transplant at the very end is none too late; an entry there is."""
    day = 12 / 365.25
    for away, tie in (
        (-0.5 * TIE_TOLERANCE * at, True),
        (0.0, True),
        (0.5 * TIE_TOLERANCE * at, True),
        (0.009 * day, column != "rfs_entry"),
        (0.011 * day, False),
    ):
        moved = change | {column: at + away}
        told = problems_of(table_of(moved), bb.read_cohort)
        if column == "rfs_entry":
            assert [one.column for one in told] == ["rfs_entry"]
        else:
            assert bool(told) == (not tie)
    # Clearly before, the entry is fine too.
    assert not problems_of(table_of(change | {column: at * (1 - 1e-6)}), bb.read_cohort)
    early = change | {column: at * (1 - 2 * TIE_TOLERANCE)}
    assert not problems_of(table_of(early), bb.read_cohort)


def test_lifetimes_are_of_the_unit() -> None:
    for unit, longest in (("days", 54787.5), ("weeks", 54787.5 / 7), ("months", 1800.0)):
        columns = PatientColumns(
            time={"os": np.array([longest, longest * 1.001])},
            entry={"os": np.array([NAN, NAN])},
            start={},
            end={},
        )
        told = [one for one in rules(columns, InMemory(), unit=unit) if one.rows.any()]
        assert [one.found for one in told] == ["times longer than a life"]
        assert told[0].rows.tolist() == [False, True]


@pytest.mark.parametrize(
    ("unit", "median", "impossible", "hint"),
    [
        ("days", 1.0, False, ""),
        ("days", 0.99, True, "Perhaps months or years?"),
        ("months", 20.0, False, ""),
        # 50 years of follow-up at most.
        ("years", 50.0, False, ""),
        ("years", 50.5, True, "Perhaps days or weeks or months?"),
        ("years", 400.0, True, "Perhaps days or weeks?"),
        ("months", 600.0, False, ""),
        ("months", 601.0, True, "Perhaps days or weeks?"),
        # Less than a day, and in no unit between a month and 30 years.
        ("years", 0.002, True, ""),
    ],
)
def test_impossible_units(unit: str, median: float, impossible: bool, hint: str) -> None:
    words = unit_words(unit, median, 2 * median)
    assert (words is not None) == impossible
    if words is not None:
        assert words[0] == f"a median follow-up of {median:.4g} {unit}"
        assert words[1] == f"That is impossible: check the unit.{' ' if hint else ''}{hint}"


# Engines ------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.none(),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 1e-300]),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
)


@cache
def engine() -> Any:
    ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    return ibis, ibis.duckdb.connect()


def verdicts(first: Any, second: Any, arithmetic: Any) -> dict[str, Any]:
    """Everything that rules ask of two columns."""
    return {
        "missing": arithmetic.missing(first),
        "infinite": arithmetic.infinite(first),
        "known": arithmetic.known(first),
        "latest": arithmetic.latest([first]),
        "later": arithmetic.latest([first, second]),
        "after": is_after(first, second),
    }


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # A query takes long; shrinking would take minutes.
    phases=[Phase.explicit, Phase.generate],
)
@given(st.lists(st.tuples(numbers, numbers), min_size=5, max_size=40))
def test_engines_and_numpy_agree(pairs: list[tuple[float | None, float | None]]) -> None:
    """Missing, infinite and negative times, in a column or in several."""
    ibis, connection = engine()
    from bayesblina.patients.scan.reading import InEngine

    columns = [np.array([pair[at] for pair in pairs], dtype=np.float64) for at in (0, 1)]
    frame = pd.DataFrame({"row": range(len(pairs)), "first": columns[0], "second": columns[1]})
    table = ibis.memtable(frame)
    asked = verdicts(table["first"], table["second"], InEngine())
    query = table.select(row=table["row"], **asked).order_by("row")
    found = connection.to_pandas(query)
    expected: dict[str, NDArray[Any]] = verdicts(columns[0], columns[1], InMemory())
    for name, values in expected.items():
        got = found[name]
        if values.dtype == bool:
            # An engine's answer on a missing time is missing, which selects nobody.
            np.testing.assert_array_equal(got.eq(other=True).to_numpy(), values, name)
        else:
            np.testing.assert_array_equal(got.to_numpy(dtype=np.float64), values, name)
