"""Counting-process rows in and out, by hand."""

import runpy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.datasets import load_stanford_heart_transplants

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from tests.paths import ROOT

NAN = np.nan
OFF = "off treatment"
BEFORE = "before c"
Row = tuple[Any, ...]

# a passes through all states, b is never treated, c comes under observation in m.
VALID: list[Row] = [
    ("a", 0, 2, 0, BEFORE),
    ("a", 2, 5, 0, "c"),
    ("a", 5, 6, 0, OFF),
    ("a", 6, 8, 0, "m"),
    ("a", 8, 9, 1, OFF),
    ("b", 0, 7, 0, ""),
    ("c", 3, 4, 1, "m"),
]


def table(rows: list[Row], **more: Any) -> pd.DataFrame:
    names = ["id", "start", "stop", "event", "phase", "endpoint"]
    return pd.DataFrame(rows, columns=names[: len(rows[0])]).assign(**more)


def read(rows: list[Row] | pd.DataFrame, **options: Any) -> Cohort:
    frame = rows if isinstance(rows, pd.DataFrame) else table(rows)
    options = {
        "patient": "id",
        "start": "start",
        "stop": "stop",
        "event": "event",
        "phase": "phase",
        "phases": ["c", "m"],
        "unit": "months",
        "endpoint": "endpoint" if "endpoint" in frame else None,
        **options,
    }
    return bb.read_counting_process(frame, **options)


def problems_of(rows: Any, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    with pytest.raises(DataError) as caught:
        read(rows, **options)
    return [(item.column, item.found, item.patients) for item in caught.value.problems]


def rows_of(cohort: Cohort, **options: Any) -> list[Row]:
    """The rows a cohort writes, in the form of `VALID`."""
    written = cohort.to_counting_process(**options)
    names = ["patient", "start", "stop", "event", "phase", "endpoint"]
    return [tuple(row) for row in written[names].astype(object).to_numpy().tolist()]


def test_every_row_arrives_where_it_belongs() -> None:
    cohort = read(VALID)
    assert cohort.patients.tolist() == ["a", "b", "c"]
    survival = cohort.endpoints["survival"]
    assert survival.time.tolist() == [9, 7, 4]
    assert survival.event.tolist() == [True, False, True]
    assert survival.entry.tolist() == [0, 0, 3]
    np.testing.assert_array_equal(cohort.phase_start, [[2, 6], [NAN, NAN], [NAN, 3]])
    np.testing.assert_array_equal(cohort.phase_end, [[5, 8], [NAN, NAN], [NAN, NAN]])
    assert cohort.phase_ends_known
    assert not read(VALID[:2]).phase_ends_known
    expected = [(*row[:4], row[4] or BEFORE, "survival") for row in VALID]
    assert rows_of(cohort) == expected


@settings(deadline=None)
@given(order=st.permutations(range(len(VALID))))
def test_rows_may_stand_in_any_order(order: list[int]) -> None:
    cohort = read([VALID[index] for index in order])
    assert cohort.patients.tolist() == list(dict.fromkeys(VALID[index][0] for index in order))
    expected = {(*row[:4], row[4] or BEFORE, "survival") for row in VALID}
    assert set(rows_of(cohort)) == expected
    # A mistake is found in any order too: b's follow-up lies beside c's.
    mistaken = [*VALID, ("b", 8, 9, 0, "")]
    found = problems_of([mistaken[index] for index in (7, *order)])
    assert found == [("start", "gaps between rows", ("b",))]


@pytest.mark.parametrize(
    ("rows", "column", "found"),
    [
        ([("a", 0, 2, 0, ""), ("a", 3, 4, 0, "c")], "start", "gaps between rows"),
        ([("a", 0, 2, 0, ""), ("a", 1, 4, 0, "c")], "start", "rows that overlap"),
        ([("a", 0, 2, 0, ""), ("a", 0, 2, 0, "")], "start", "rows that overlap"),
        ([("a", 0, 9, 0, ""), ("a", 2, 3, 0, "c")], "start", "rows that overlap"),
        ([("a", 0, 2, 1, ""), ("a", 2, 4, 0, "c")], "event", "events before the last row"),
        ([("a", 0, 2, 1, ""), ("a", 2, 4, 1, "c")], "event", "events before the last row"),
        ([("a", 0, 2, 0, "c"), ("a", 2, 4, 0, "")], "phase", "phases that go backwards"),
        ([("a", 0, 2, 0, "m"), ("a", 2, 4, 0, "c")], "phase", "phases that go backwards"),
        (
            [("a", 0, 2, 0, "m"), ("a", 2, 4, 0, OFF), ("a", 4, 5, 0, "c")],
            "phase",
            "phases that go backwards",
        ),
        (
            [("a", 0, 2, 0, "c"), ("a", 2, 4, 0, OFF), ("a", 4, 5, 0, "")],
            "phase",
            "phases that go backwards",
        ),
        ([("a", 0, 2, 0, OFF), ("a", 2, 4, 0, "c")], "phase", f"'{OFF}' before any phase"),
        ([("a", 0, 2, 0, ""), ("a", 2, 4, 0, OFF)], "phase", f"'{OFF}' before any phase"),
        ([("a", 2, 2, 0, "")], "stop", "rows that end at or before they start"),
        ([("a", 2, 1, 0, "")], "stop", "rows that end at or before they start"),
        ([("a", -1, 2, 0, "")], "start", "negative or infinite entry times"),
        ([("a", None, 2, 0, "")], "start", "missing or infinite times"),
        ([("a", 0, "", 0, "")], "stop", "missing or infinite times"),
        ([("a", 0, "1e999", 0, "")], "stop", "missing or infinite times"),
        ([("a", 0, "two", 0, "")], "stop", "values that are not numbers ('two')"),
        ([("a", "0,5", 2, 0, "")], "start", "values that are not numbers ('0,5')"),
        ([("a", 0, 2, None, "")], "event", "values other than 0 and 1"),
        ([("a", 0, 2, 2, "")], "event", "values other than 0 and 1"),
        ([("a", 0, 2, 0, "C")], "phase", "unknown states ('C')"),
        ([("a", 0, 2, 0, "before m")], "phase", "unknown states ('before m')"),
    ],
)
@pytest.mark.parametrize("text", [False, True])
def test_mistakes(rows: list[Row], column: str, found: str, *, text: bool) -> None:
    frame = table([*rows, ("z", 0, 9, 1, "")])
    if text:
        frame = frame.astype("string").astype(object)
    assert problems_of(frame) == [(column, found, ("a",))]


def test_unknown_states_have_near_ones() -> None:
    with pytest.raises(DataError, match=r"Nearest: maintenance\. Name the text .* with before="):
        read([("a", 0, 2, 0, "maintenanc")], phases=["consolidation", "maintenance"])
    labels = {"transplantation": "1"}
    with pytest.raises(DataError, match=r"unknown states \('9'\)") as caught:
        read([("a", 0, 2, 0, 0), ("a", 2, 3, 0, 1)], phases=labels)
    assert "unknown states ('0')" in caught.value.words(show_ids=True)
    cohort = read([("a", 0, 2, 0, 0), ("a", 2, 3, 0, 1)], phases=labels, before="0")
    assert (cohort.phases, cohort.phase_start.tolist()) == (("transplantation",), [[2]])


def test_missing_ids() -> None:
    for blank in ("", None):
        found = problems_of([*VALID, (blank, 0, 5, 0, "")])
        assert found == [("id", "missing ids", ("",))]


def test_everything_wrong_at_once() -> None:
    rows = [
        ("a", 0, "x", 0, "", 1, 2),
        ("b", 0, 2, 1, "c", 1, 2),
        ("b", 3, 2.5, 0, "", 2, 3),
        ("d", 0, 2, 5, "?", 1, ""),
    ]
    frame = pd.DataFrame(
        rows, columns=["id", "start", "stop", "event", "phase", "age", "transplant"]
    )
    found = problems_of(frame, covariates=["age"], transplant="transplant")
    assert found == [
        ("stop", "values that are not numbers ('x')", ("a",)),
        ("event", "values other than 0 and 1", ("d",)),
        ("phase", "unknown states ('?')", ("d",)),
        ("stop", "rows that end at or before they start", ("b",)),
        ("start", "gaps between rows", ("b",)),
        ("event", "events before the last row", ("b",)),
        ("phase", "phases that go backwards", ("b",)),
        ("age", "values that change within a patient", ("b",)),
        ("transplant", "values that change within a patient", ("b",)),
    ]


@pytest.mark.parametrize("column", ["age", "transplant"])
@pytest.mark.parametrize(
    ("values", "same"),
    [
        ([4, 4, 4, 4, 4, 1, 2], True),
        ([4, 4, 4, 4, 3.5, 1, 2], False),
        ([4, 4, NAN, 4, 4, 1, 2], False),
        (["4", "4", "4", "", "4", "1", "2"], False),
    ],
)
def test_what_may_not_change_within_a_patient(
    column: str, values: list[Any], *, same: bool
) -> None:
    frame = table(VALID, **{column: values})
    options: dict[str, Any] = {"covariates": ["age"]} if column == "age" else {"transplant": column}
    if same:
        cohort = read(frame, **options)
        got = cohort.transplant if column == "transplant" else cohort.covariates["age"].values
        assert got is not None
        assert got.tolist() == [4, 1, 2]
    else:
        found = problems_of(frame, **options)
        assert found == [(column, "values that change within a patient", ("a",))]


# More than one endpoint.


def test_endpoints() -> None:
    """rfs: a enters in c, b never; both end before os does."""
    rows = [
        ("a", 0, 2, 0, "", "os"),
        ("a", 2, 9, 1, "c", "os"),
        ("b", 0, 4, 0, "", "os"),
        ("a", 3, 6, 1, "c", "rfs"),
    ]
    cohort = read(rows)
    rfs = cohort.endpoints["rfs"]
    np.testing.assert_array_equal(rfs.entry, [3, NAN])
    np.testing.assert_array_equal(rfs.time, [6, NAN])
    assert rfs.event.tolist() == [True, False]
    assert cohort.phase_start[0, 0] == 2
    assert rows_of(cohort) == [(*row[:4], row[4] or BEFORE, row[5]) for row in rows]
    frame = table(rows)
    frame.loc[3, "endpoint"] = ""
    assert ("endpoint", "missing names of endpoints", ("a",)) in problems_of(frame)


@pytest.mark.parametrize(
    ("os", "rfs"),
    [
        # Starts, or ends, at two times.
        ([(0, 2, ""), (2, 9, "c")], [(0, 3, ""), (3, 9, "c")]),
        ([(0, 5, "c"), (5, 9, OFF)], [(0, 6, "c"), (6, 9, OFF)]),
        # Started for one endpoint, and never for the other.
        ([(0, 2, ""), (2, 9, "c")], [(0, 9, "")]),
        ([(0, 2, ""), (2, 9, "c")], [(4, 9, "")]),
        ([(0, 2, "c"), (2, 9, "m")], [(0, 9, "c")]),
        # Ended for one, and never for the other.
        ([(0, 5, "c"), (5, 9, OFF)], [(0, 9, "c")]),
        ([(0, 5, "c"), (5, 9, OFF)], [(6, 9, "c")]),
        # A first row that begins before the phase started.
        ([(0, 5, ""), (5, 9, "c")], [(3, 9, "c")]),
        ([(0, 5, "c"), (5, 9, "m")], [(3, 9, "m")]),
        # Off treatment while a phase lasts, or after one that ended at an unknown time.
        ([(0, 9, "c")], [(3, 9, OFF)]),
        ([(0, 2, "c")], [(3, 9, OFF)]),
    ],
)
def test_endpoints_must_tell_one_history(os: list[Row], rfs: list[Row]) -> None:
    """Else the rows of one endpoint would be moved to another phase."""
    rows: list[Row] = [("z", 0, 9, 0, "", "os")]
    for name, history in (("os", os), ("rfs", rfs)):
        rows += [("a", start, stop, 0, phase, name) for start, stop, phase in history]
    for order in (1, -1):
        assert problems_of(rows[::order]) == [
            ("phase", "phases that start or end at different times for different endpoints", ("a",))
        ]


def test_a_history_may_be_told_in_parts() -> None:
    """os ends before m starts; rfs enters after c ended, and knows of m only."""
    rows = [
        ("a", 1, 2, 0, BEFORE, "os"),
        ("a", 2, 4, 0, "c", "os"),
        ("a", 4, 6, 0, OFF, "os"),
        ("a", 5, 7, 0, OFF, "rfs"),
        ("a", 7, 9, 1, "m", "rfs"),
    ]
    cohort = read(rows)
    np.testing.assert_array_equal(cohort.phase_start, [[2, 7]])
    np.testing.assert_array_equal(cohort.phase_end, [[4, NAN]])
    assert rows_of(cohort) == rows


# To rows and back.


def by_hand() -> pd.DataFrame:
    """Phase ends, transplants, delayed entry before, in and after phases, and skipped phases."""
    return pd.DataFrame(
        {
            "id": ["p", "q", "r", "s"],
            "time": [10.0, 12.0, 8.0, 9.0],
            "died": [1, 0, 1, 0],
            "rfs": [9.0, 12.0, None, 9.0],
            "failed": [1, 0, None, 1],
            "entry": [1.0, 4.0, None, 7.0],
            "c": [2.0, 3.0, None, None],
            "c_end": [4.0, None, None, None],
            "m": [5.0, None, 8.0, 5.0],
            "m_end": [10.0, None, None, 6.0],
            "sct": [None, 12.0, None, 0.5],
            "group": ["x", "y", "y", "x"],
        }
    )


def wide(frame: pd.DataFrame | None = None) -> Cohort:
    return bb.read_cohort(
        by_hand() if frame is None else frame,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="failed", entry="entry"),
        },
        phases=bb.Phases(c=bb.Phase(start="c", end="c_end"), m=bb.Phase(start="m", end="m_end")),
        covariates=["group"],
        transplant="sct",
    )


WIDE: list[Row] = [
    ("p", 0, 2, 0, BEFORE, "os"),
    ("p", 2, 4, 0, "c", "os"),
    ("p", 4, 5, 0, OFF, "os"),
    ("p", 5, 10, 1, "m", "os"),  # m ends with follow-up
    ("q", 0, 3, 0, BEFORE, "os"),
    ("q", 3, 12, 0, "c", "os"),
    ("r", 0, 8, 1, BEFORE, "os"),  # m starts at death
    ("s", 0, 5, 0, BEFORE, "os"),
    ("s", 5, 6, 0, "m", "os"),
    ("s", 6, 9, 0, OFF, "os"),
    ("p", 1, 2, 0, BEFORE, "rfs"),
    ("p", 2, 4, 0, "c", "rfs"),
    ("p", 4, 5, 0, OFF, "rfs"),
    ("p", 5, 9, 1, "m", "rfs"),
    ("q", 4, 12, 0, "c", "rfs"),
    ("s", 7, 9, 1, OFF, "rfs"),
]


def test_rows_by_hand() -> None:
    cohort = wide()
    assert rows_of(cohort) == WIDE
    table = cohort.to_counting_process()
    assert list(table.columns) == [
        "patient", "endpoint", "start", "stop", "event", "phase", "group", "transplant",
    ]  # fmt: skip
    first = table.groupby("patient").first()
    np.testing.assert_array_equal(first["transplant"], [NAN, 12, NAN, 0.5])
    assert first["group"].tolist() == ["x", "y", "y", "x"]
    assert rows_of(cohort, endpoint="rfs") == WIDE[10:]
    with pytest.raises(SpecError, match=r"no endpoint 'rsf'\. Nearest: rfs"):
        cohort.to_counting_process(endpoint="rsf")


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_round_trip(seed: int | None) -> None:
    rows = wide().to_counting_process()
    given = rows if seed is None else rows.sample(frac=1.0, random_state=seed)
    again = read(given, patient="patient", covariates=["group"], transplant="transplant")
    assert again.phase_ends_known
    assert set(rows_of(again)) == set(WIDE)
    if seed is None:
        pd.testing.assert_frame_equal(again.to_counting_process(), rows)
    assert again.transplant is not None
    expected = dict(zip("pqrs", [NAN, 12, NAN, 0.5], strict=True))
    np.testing.assert_array_equal(again.transplant, [expected[one] for one in again.patients])
    # The questions that the rows can answer have the answers of the table they came from.
    for phase_end in ("ever", "current"):
        question = bb.Question(
            exposed="m", eligible_from="entry", phase_end=phase_end, transplant="phase"
        )
        one, other = (
            bb.person_time(cohort, question, cuts=[4.0]).table.sel(endpoint=["os", "rfs"])
            for cohort in (wide(), again)
        )
        xr.testing.assert_allclose(one, other)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_histories_round_trip(data: st.DataObject) -> None:
    """Whole days, so that ties are common; os is observed throughout, rfs in any part of it."""
    size = data.draw(st.integers(1, 6))
    day = st.integers(0, 12)
    maybe = st.one_of(st.none(), day)
    made = []
    for _ in range(size):
        time = data.draw(st.integers(1, 12))
        c, m = sorted(data.draw(day) for _ in range(2))
        values = [data.draw(st.sampled_from([one, None])) for one in (c, m)]
        starts = [one if one is not None and one <= time else None for one in values]
        ends = [None if one is None else data.draw(maybe) for one in starts]
        ends = [
            None if end is None or start is None or end <= start else end
            for start, end in zip(starts, ends, strict=True)
        ]
        # One phase at a time: the first ends by the start of the second.
        if ends[0] is not None and starts[1] is not None and ends[0] > starts[1]:
            ends[0] = starts[1] if starts[1] > c else None
        entry = data.draw(st.one_of(st.none(), st.integers(0, time - 1)))
        rfs = None if entry is None else data.draw(st.integers(entry + 1, time))
        made.append([time, data.draw(st.sampled_from([0, 1])), rfs, 1, entry, *starts, *ends])
    names = ["time", "died", "rfs", "failed", "entry", "c", "m", "c_end", "m_end"]
    frame = pd.DataFrame(made, columns=names, dtype=float)
    cohort = wide(frame.assign(id=[f"P{row}" for row in range(size)], group="x", sct=NAN))
    again = read(cohort.to_counting_process(), patient="patient")
    assert rows_of(again) == rows_of(cohort)


def test_rows_split_at_cuts() -> None:
    """p, os: cuts at the origin's side, at both starts, in a phase, at the event and after it."""
    cohort = wide()
    table = cohort.to_counting_process(endpoint="os", cuts=[1, 2, 5, 7.5, 10, 20])
    mine = table[table["patient"] == "p"][["start", "stop", "event", "phase", "interval"]]
    assert mine.to_numpy().tolist() == [
        [0, 1, 0, BEFORE, 0],
        [1, 2, 0, BEFORE, 1],
        [2, 4, 0, "c", 2],
        [4, 5, 0, OFF, 2],
        [5, 7.5, 0, "m", 3],
        [7.5, 10, 1, "m", 4],
    ]
    # Entry in an interval, and at a cut.
    table = cohort.to_counting_process(endpoint="rfs", cuts=[4, 8])
    shown = table[["patient", "start", "stop", "event", "phase", "interval"]]
    assert shown.to_numpy().tolist() == [
        ["p", 1, 2, 0, BEFORE, 0],
        ["p", 2, 4, 0, "c", 0],
        ["p", 4, 5, 0, OFF, 1],
        ["p", 5, 8, 0, "m", 1],
        ["p", 8, 9, 1, "m", 2],
        ["q", 4, 8, 0, "c", 1],
        ["q", 8, 12, 0, "c", 2],
        ["s", 7, 8, 0, OFF, 1],
        ["s", 8, 9, 1, OFF, 2],
    ]  # fmt: skip
    whole = cohort.to_counting_process(endpoint="os", cuts=[])
    assert whole["interval"].eq(0).all()
    assert len(whole) == 10
    # Rows that were split are read back as they were before.
    split = cohort.to_counting_process(cuts=[1, 2, 5, 7.5, 10, 20])
    assert rows_of(read(split, patient="patient")) == WIDE


def test_times_that_differ_by_noise_are_the_same() -> None:
    noise = 0.1 + 0.2
    assert noise != 0.3
    for stop, start in ((noise, 0.3), (0.3, noise)):
        rows = [("a", 0, stop, 0, ""), ("a", start, 1, 1, "c"), ("b", 0, start, 0, "")]
        cohort = read(rows, unit="years")
        assert cohort.phase_start.tolist()[0][0] == 0.3
        assert cohort.endpoints["survival"].time.tolist() == [1, 0.3]
        assert rows_of(cohort)[0][2] == rows_of(cohort)[1][1] == 0.3
    assert problems_of([("a", 0.3, noise, 0, "")], unit="years") == [
        ("stop", "rows that end at or before they start", ("a",))
    ]
    # More than noise is a gap, or an overlap.
    for start, found in ((0.3001, "gaps between rows"), (0.2999, "rows that overlap")):
        rows = [("a", 0, 0.3, 0, ""), ("a", start, 1, 1, "c")]
        assert problems_of(rows, unit="years") == [("start", found, ("a",))]


@pytest.mark.parametrize("shuffled", [False, True])
def test_stanford_rows_equal_the_wide_table(*, shuffled: bool) -> None:
    rows = load_stanford_heart_transplants().sort_values(["id", "start"])
    rows["surgery"] = rows["surgery"].map({0: "none", 1: "before"})
    one_row = runpy.run_path(str(ROOT / "examples" / "stanford_heart.py"))["one_row_per_patient"]
    by_table = bb.read_cohort(
        one_row().reset_index(),
        patient="patient",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
        covariates=["age", "surgery"],
    )
    if shuffled:
        # Any order of the rows after each patient's first.
        rows = pd.concat([rows.groupby("id").head(1), rows.groupby("id").tail(-1).iloc[::-1]])
    by_rows = read(
        rows,
        phase="transplant",
        phases={"transplantation": "1"},
        before="0",
        covariates=["age", "surgery"],
        unit="days",
    )
    assert by_rows.size == 103
    assert int(by_rows.endpoints["survival"].event.sum()) == 75
    assert int(np.isfinite(by_rows.phase_start).sum()) == 69
    question = bb.Question(exposed="transplantation", eligible_from="entry")
    first, second = (
        bb.person_time(cohort, question, cuts=[30, 60, 90, 180, 365, 730])
        for cohort in (by_table, by_rows)
    )
    for name in ("table", "people", "episodes"):
        xr.testing.assert_identical(getattr(first, name), getattr(second, name))
    assert first.left_out == second.left_out
    tested = bb.mantel_byar(by_rows, question).isel(endpoint=0)
    assert float(tested["expected"]) == pytest.approx(43.59582, abs=5e-6)


# Calls.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phases": "c"}, "phases and covariates must be lists of names"),
        ({"covariates": "age"}, "phases and covariates must be lists of names"),
        ({"phases": []}, "at least one phase"),
        ({"phases": {"c": "x", "m": "x"}}, "each needs a text of its own"),
        ({"phases": {"c": "1", "m": "2"}, "before": "1"}, "each needs a text of its own"),
        ({"phases": {"c": "", "m": "2"}}, "each needs a text of its own"),
        ({"phases": {"c": OFF, "m": "2"}}, "each needs a text of its own"),
        ({"phases": [OFF]}, f"'{OFF}' has a meaning of its own"),
        ({"before": OFF}, f"before: '{OFF}' means that a phase has ended"),
        ({"covariates": {"x": "ordinal"}}, "unknown type 'ordinal'"),
    ],
)
def test_impossible_calls(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(table(VALID[5:], x=1), **options)


def test_missing_columns_and_no_rows() -> None:
    frame = table(VALID).drop(columns=["id", "stop"])
    found = problems_of(frame, covariates=["age"], transplant="sct")
    assert [column for column, _, _ in found] == ["id", "stop", "age", "sct"]
    assert problems_of(table(VALID).iloc[:0]) == [("id", "no rows", ())]


def test_synthetic_is_carried_through_rows() -> None:
    frame = table(VALID)
    frame.attrs["synthetic"] = True
    rows = read(frame).to_counting_process()
    assert rows.attrs["synthetic"]
    assert read(rows, patient="patient").synthetic
    assert not read(table(VALID)).to_counting_process().attrs["synthetic"]


def test_cuts_at_near_ties_leave_no_slivers() -> None:
    table = pd.DataFrame({"id": ["a"], "t": [9.0], "d": [1], "m": [0.1 + 0.2]})
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases.from_dict({"self": "m"}),
    )
    rows = cohort.to_counting_process(cuts=[0.3])
    assert rows["phase"].tolist() == ["before self", "self"]
    assert rows["interval"].tolist() == [0, 1]
    assert rows["stop"].tolist() == [0.3, 9.0]


@pytest.mark.parametrize("order", ["listed", "any"])
def test_nobody_was_in_a_phase(order: str) -> None:
    cohort = read([("a", 0, 7, 0, ""), ("b", 0, 3, 1, "")], order=order)
    assert (cohort.stays is None) == (order == "listed")
    assert cohort.stays is None or cohort.stays.size == 0
    assert cohort.endpoints["survival"].time.tolist() == [7.0, 3.0]
