"""A table of stays beside one of patients: what is read, settled, left out, counted, refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses
from bayesblina.patients.stays import stays_by_phase

COLUMNS = ["pid", "from", "to", "drug"]
Row = tuple[Any, ...]
# Two stays with a gap, then another phase at once; one that went on; nobody treated.
PLAIN: list[Row] = [
    ("p1", 12, 20, "a"),
    ("p2", 5, None, "b"),
    ("p1", 0, 10, "a"),
    ("p1", 20, 30, "b"),
]
OVERLAP: list[Row] = [("p1", 0, 10, "a"), ("p1", 5, 15, "b"), ("p2", 0, 4, "a")]


def patients() -> pd.DataFrame:
    return pd.DataFrame({"id": ["p1", "p2", "p3"], "time": [30.0, 40.0, 50.0], "died": [1, 0, 1]})


def courses(rows: list[Row] | pd.DataFrame | Path, **given: Any) -> Courses:
    table = pd.DataFrame(rows, columns=COLUMNS) if isinstance(rows, list) else rows
    options: dict[str, Any] = {
        **{"patient": "pid", "start": "from", "stop": "to", "phase": "drug"},
        **{"phases": ["a", "b"], "order": "any"},
    }
    return Courses(table=table, **options | given)


def read(rows: list[Row] | pd.DataFrame | Path, **given: Any) -> Cohort:
    return bb.read_cohort(
        patients(),
        patient="id",
        unit="days",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=courses(rows, **given),
    )


def stays_of(cohort: Cohort) -> list[tuple[str, str, float, float]]:
    stays = cohort.stays
    assert stays is not None
    return [
        (str(cohort.patients[patient]), cohort.phases[phase], start, stop)
        for patient, phase, start, stop in zip(
            stays.patient, stays.phase, stays.start.tolist(), stays.stop.tolist(), strict=True
        )
    ]


def cycles_of(cohort: Cohort) -> list[float]:
    assert cohort.stays is not None
    return list(cohort.stays.cycles.tolist())


def doses_of(cohort: Cohort) -> list[float]:
    assert cohort.stays is not None
    assert cohort.stays.dose is not None
    return list(cohort.stays.dose.tolist())


def counted(cohort: Cohort, step: str) -> list[tuple[str, str, int]]:
    """Lines of the account: phase, what, and how many patients."""
    table = cohort.account().table
    rows = table[table["step"] == step]
    return list(zip(rows["phase"], rows["what"], rows["patients"], strict=True))


PLAIN_STAYS = [
    ("p1", "a", 0.0, 10.0),
    ("p1", "a", 12.0, 20.0),
    ("p1", "b", 20.0, 30.0),
    ("p2", "b", 5.0, np.inf),
]


class TestStays:
    """What is read, in any order of rows, and counted."""

    def test_times(self) -> None:
        cohort = read(PLAIN)
        assert stays_of(cohort) == PLAIN_STAYS
        assert (cohort.recurring, cohort.ordered, cohort.doses_known) == (True, False, False)
        np.testing.assert_array_equal(cohort.phase_start, [[0, 20], [np.nan, 5], [np.nan, np.nan]])
        assert counted(cohort, "stays") == [
            ("a", "any stay", 1),
            ("a", "more than one stay", 1),
            ("b", "any stay", 2),
        ]
        assert counted(cohort, "repaired") == []

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "stays.csv"
        pd.DataFrame(PLAIN, columns=COLUMNS).to_csv(path, index=False)
        cohort = read(path)
        assert stays_of(cohort) == PLAIN_STAYS
        assert list(cohort.file_hashes) == ["stays.csv (stays)"]
        with pytest.raises(
            DataError, match=r"1 problem in .*stays\.csv:\n  - what: no such column"
        ):
            read(path, phase="what")

    def test_several_texts_are_one_phase(self) -> None:
        cohort = read(PLAIN, phases={"treated": ["a", "b"]})
        assert [stay[1:] for stay in stays_of(cohort)] == [
            ("treated", *stay[2:]) for stay in PLAIN_STAYS
        ]
        # The one that follows at once is no other stay.
        assert cohort.stays is not None
        ((_, numbers),) = stays_by_phase(cohort.stays, 1)
        assert numbers.sum() == 3

    def test_no_rows(self) -> None:
        cohort = read([])
        assert stays_of(cohort) == []
        assert counted(cohort, "stays") == []
        question = bb.Question(exposed="a", eligible_from="entry", measure="current")
        with pytest.raises(DataError, match="no eligible patient has time in a"):
            bb.person_time(cohort, question)

    def test_noise_is_no_overlap(self) -> None:
        rows: list[Row] = [("p1", 0, 0.1 + 0.2, "a"), ("p1", 0.3, 15, "b"), ("p1", 3, 5, "a")]
        expected = [("a", 0.0, 0.3), ("b", 0.3, 3.0), ("both", 3.0, 5.0), ("b", 5.0, 15.0)]
        found = stays_of(read(rows, overlap={"a + b": "both"}))
        assert [stay[1:] for stay in found] == expected


class TestLeftOut:
    """Rows that do not belong: refused with their rows, or left out and counted."""

    @pytest.mark.parametrize(
        ("kind", "row", "column", "found", "expected", "counts"),
        [
            (
                *("strangers", ("p9", 0, 1, "a"), "pid", "patients who are not in the cohort"),
                "Expected the ids of the table of patients",
                "stays of patients who are not in the cohort were left out",
            ),
            (
                *("other phases", ("p3", 0, 1, "zz"), "drug", "phases that are not listed ('zz')"),
                "There are: a, b. List them in phases",
                "stays in phases that are not listed were left out",
            ),
            (
                *("empty", ("p3", 2, 2, "a"), "to", "stays that end at or before they start"),
                "Expected start < stop; where a date is the last day of a stay, same_day='end of "
                "day'",
                "stays that end as they start were left out",
            ),
            (
                *("empty", ("p3", 0, 0, "a"), "to", "stays that end at or before they start"),
                "Expected start < stop; where a date is the last day of a stay, same_day='end of "
                "day'",
                "stays that end as they start were left out",
            ),
            (
                *("after", ("p3", 51, 60, "a"), "from"),
                "stays that start after the end of follow-up",
                "Correct the times, or their unit",
                "stays that start after the end of follow-up were left out",
            ),
        ],
    )
    def test_each(
        self, kind: str, row: Row, column: str, found: str, expected: str, counts: str
    ) -> None:
        rows = [*PLAIN, row]
        with pytest.raises(DataError) as caught:
            read(rows)
        (problem,) = caught.value.problems
        assert (problem.column, problem.found, problem.rows) == (column, found, (5,))
        assert problem.expected == f"{expected}, or leave_out=['{kind}'] of Courses."
        # Neither patients nor what stands in cells.
        assert not any(text in str(caught.value) for text in ("p9", "p3", "zz"))
        cohort = read(rows, leave_out=[kind])
        assert stays_of(cohort) == PLAIN_STAYS
        assert counted(cohort, "repaired") == [("", counts, 1)]

    def test_a_stay_that_starts_at_the_end_of_follow_up_stays(self) -> None:
        assert stays_of(read([*PLAIN, ("p3", 50, 60, "a")]))[-1] == ("p3", "a", 50.0, 60.0)

    def test_everything_wrong_comes_at_once(self) -> None:
        rows = [
            *PLAIN,
            ("p9", 0, 1, "a"),
            ("p3", 0, 1, "c"),
            ("p3", 2, 2, "a"),
            ("p3", 51, 60, "a"),
        ]
        with pytest.raises(DataError) as caught:
            read(rows)
        assert [problem.rows for problem in caught.value.problems] == [(5,), (6,), (7,), (8,)]
        kinds = ["strangers", "other phases", "empty", "after"]
        cohort = read(rows, leave_out=kinds)
        assert stays_of(cohort) == PLAIN_STAYS
        assert [patients for _, _, patients in counted(cohort, "repaired")] == [1, 1, 1, 1]


class TestOverlap:
    """Two phases at once."""

    def test_refused(self) -> None:
        with pytest.raises(DataError) as caught:
            read(OVERLAP)
        (problem,) = caught.value.problems
        assert (problem.column, problem.rows) == ("from, to", (2,))
        assert problem.found == "stays that overlap with the one before"
        assert "say with overlap which phase holds, or what their combination" in problem.expected

    def test_a_long_stay_overlaps_with_the_last_but_one(self) -> None:
        rows: list[Row] = [("p1", 0, 30, "a"), ("p1", 2, 4, "b"), ("p1", 6, 8, "b")]
        with pytest.raises(DataError, match=r"in rows 2, 3\]"):
            read(rows)
        # The end of another patient's stay is none of this one's.
        read([("p1", 0, 30, "a"), ("p2", 2, 4, "b"), ("p3", 0, None, "a")])

    @pytest.mark.parametrize(
        ("overlap", "expected", "cycles", "doses", "rule"),
        [
            (
                ["b", "a"],
                [("a", 0.0, 5.0), ("b", 5.0, 10.0), ("b", 10.0, 15.0)],
                [1.0, 1.0, 0.0],
                [10.0, 3.0, 3.0],
                "of overlapping stays the first one holds of b, a",
            ),
            (
                # The cycle of b begins where b first counts.
                ["a", "b"],
                [("a", 0.0, 5.0), ("a", 5.0, 10.0), ("b", 10.0, 15.0)],
                [1.0, 0.0, 1.0],
                [10.0, 10.0, 3.0],
                "of overlapping stays the first one holds of a, b",
            ),
            (
                {"b + a": "both"},
                [("a", 0.0, 5.0), ("both", 5.0, 10.0), ("b", 10.0, 15.0)],
                [1.0, 1.0, 0.0],
                [10.0, 13.0, 3.0],
                "overlapping stays are in one of their combinations: both",
            ),
        ],
    )
    def test_settled(
        self,
        overlap: Any,
        expected: list[Any],
        cycles: list[float],
        doses: list[float],
        rule: str,
    ) -> None:
        rows = pd.DataFrame(OVERLAP, columns=COLUMNS).assign(given=[20.0, 6.0, 1.0])
        cohort = read(rows, overlap=overlap, dose="given")
        assert stays_of(cohort) == [*(("p1", *stay) for stay in expected), ("p2", "a", 0.0, 4.0)]
        assert cycles_of(cohort) == [*cycles, 1.0]
        assert doses_of(cohort) == [*doses, 1.0]
        assert counted(cohort, "repaired") == [("", rule, 1)]
        assert cohort.phases == (("a", "b", "both") if isinstance(overlap, dict) else ("a", "b"))

    def test_the_same_phase_twice_is_one(self) -> None:
        rows: list[Row] = [("p1", 0, 10, "a"), ("p1", 5, None, "a")]
        cohort = read(rows, overlap=["a", "b"])
        assert [stay[2:] for stay in stays_of(cohort)] == [(0, 5), (5, 10), (10, np.inf)]
        assert counted(cohort, "stays") == [("a", "any stay", 1)]

    def test_combinations_without_a_name(self) -> None:
        rows = [*OVERLAP, ("p3", 0, 10, "a"), ("p3", 5, 15, "b"), ("p3", 6, 8, "c")]
        with pytest.raises(DataError) as caught:
            read(rows, phases=["a", "b", "c"], overlap={"a + b": "both"})
        (problem,) = caught.value.problems
        assert problem.found == "stays that overlap in a + b + c, which has no name"
        assert (problem.column, problem.patients, problem.rows) == ("from, to", ("p3",), (4, 5, 6))
        assert problem.expected.startswith("Name every combination that occurs in overlap, or list")
        named = {"a + b": "two", "b + c + a": "three"}
        cohort = read(rows, phases=["a", "b", "c"], overlap=named)
        assert [stay[1:] for stay in stays_of(cohort)[-5:]] == [
            ("a", 0.0, 5.0),
            ("two", 5.0, 6.0),
            ("three", 6.0, 8.0),
            ("two", 8.0, 10.0),
            ("b", 10.0, 15.0),
        ]

    def test_what_lies_after_the_end_of_follow_up(self) -> None:
        """b alone would begin after p1's last day, though nothing in the table does."""
        rows: list[Row] = [("p1", 0, 35, "a"), ("p1", 20, 60, "b")]
        found = stays_of(read(rows, overlap={"a + b": "both"}))
        assert [stay[1:] for stay in found] == [("a", 0.0, 20.0), ("both", 20.0, 35.0)]

    def test_too_many_phases(self) -> None:
        names = [f"x{number}" for number in range(63)]
        rows: list[Row] = [("p1", 0, 10, "x0"), ("p1", 5, 15, "x62")]
        with pytest.raises(SpecError, match="may overlap in at most 62 phases"):
            read(rows, phases=names, overlap=names)
        fewer = [*names[:1], *names[2:]]
        assert len(stays_of(read(rows, phases=fewer, overlap=fewer))) == 3


class TestBridge:
    """Short gaps in one phase."""

    def test_gaps(self) -> None:
        cohort = read(PLAIN, bridge=2.0)
        assert stays_of(cohort) == [("p1", "a", 0.0, 12.0), *PLAIN_STAYS[1:]]
        looks_ahead = "which looks ahead: nobody has the event in one"
        assert counted(cohort, "repaired") == [
            ("", f"gaps of up to 2 days are none, {looks_ahead}", 1)
        ]
        assert cycles_of(cohort) == [1.0] * 4
        cohort = read(PLAIN, bridge=1.9)
        assert stays_of(cohort) == PLAIN_STAYS
        assert counted(cohort, "repaired") == [
            ("", f"gaps of up to 1.9 days are none, {looks_ahead}", 0)
        ]

    def test_only_within_a_phase_and_a_patient(self) -> None:
        rows: list[Row] = [("p1", 0, 10, "a"), ("p1", 11, 20, "b"), ("p2", 21, 25, "b")]
        cohort = read(rows, bridge=5.0)
        assert [stay[2:] for stay in stays_of(cohort)] == [(0, 10), (11, 20), (21, 25)]


class TestCyclesAndDoses:
    """What `amount` counts."""

    def test_cycles(self) -> None:
        rows = pd.DataFrame(
            [
                ("p1", 0, 10, "a", "1"),
                ("p1", 12, 20, "a", "1"),
                ("p1", 20, 24, "b", "1"),  # another phase begins a cycle of its own
                ("p1", 25, 26, "a", "2"),
                ("p2", 0, 5, "a", "2"),  # and another patient
                ("p2", 6, 7, "a", None),  # nothing is said: a cycle each
                ("p2", 8, 9, "a", None),
            ],
            columns=[*COLUMNS, "number"],
        )
        assert cycles_of(read(rows, cycle="number")) == [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        assert cycles_of(read(rows)) == [1.0] * 7

    def test_doses(self) -> None:
        rows = pd.DataFrame(PLAIN, columns=COLUMNS).fillna({"to": 40}).assign(mg=[4.0, 2, 0, 1])
        cohort = read(rows, dose="mg")
        assert doses_of(cohort) == [0.0, 4.0, 1.0, 2.0]
        assert cohort.doses_known

    def test_impossible_doses(self) -> None:
        rows = pd.DataFrame(PLAIN, columns=COLUMNS).assign(mg=[np.nan, 2, -1, 1])
        with pytest.raises(DataError) as caught:
            read(rows, dose="mg")
        found = [(one.column, one.found, one.rows) for one in caught.value.problems]
        assert found == [
            ("mg", "doses that are missing, infinite or negative", (1, 3)),
            ("to", "stays with a dose and without an end", (2,)),
        ]
        assert caught.value.problems[1].expected == (
            "A dose is spread over its stay: give the end, which of a stay that went on is that of "
            "the patient's follow-up."
        )


class TestDates:
    """Days of stays beside days of patients."""

    @staticmethod
    def read(rows: list[Row], same_day: Any, **given: Any) -> Cohort:
        days = pd.DataFrame(
            {
                "id": ["p1", "p2"],
                "dose": ["2020-01-01"] * 2,
                "seen": ["2020-03-01"] * 2,
                "died": [1, 0],
            }
        )
        return bb.read_dated_cohort(
            days,
            patient="id",
            origin="dose",
            unit="days",
            endpoints={"os": bb.DatedEndpoint(date="seen", event="died")},
            phases=courses(rows, **given),
            same_day=same_day,
        )

    ROWS: tuple[Row, ...] = (
        ("p1", "2020-01-01", "2020-01-10", "a"),
        ("p1", "2020-01-10", "2020-01-20", "b"),
        ("p1", "2020-02-01", None, "a"),
        ("p2", "2020-01-05", "2020-01-06", "b"),
    )

    @pytest.mark.parametrize(
        ("same_day", "stops"),
        [
            ("refuse", [9.0, 19.0, np.inf, 5.0]),
            ("half day", [9.0, 19.0, np.inf, 5.0]),
            # On the day on which another one starts a stay ends at its beginning.
            ("end of day", [9.0, 20.0, np.inf, 6.0]),
        ],
    )
    def test_same_day(self, same_day: str, stops: list[float]) -> None:
        found = stays_of(self.read(list(self.ROWS), same_day))
        assert [stay[2] for stay in found] == [0.0, 9.0, 31.0, 4.0]
        assert [stay[3] for stay in found] == stops

    def test_stays_of_one_day(self) -> None:
        rows: list[Row] = [*self.ROWS, ("p2", "2020-02-03", "2020-02-03", "a")]
        for same_day in ("refuse", "half day"):
            with pytest.raises(DataError, match=r"stays that end at or before they start.*row 5"):
                self.read(rows, same_day)
        assert stays_of(self.read(rows, "end of day"))[-1] == ("p2", "a", 33.0, 34.0)
        # Two on one day are two at once.
        rows.append(("p2", "2020-02-03", "2020-02-09", "b"))
        with pytest.raises(DataError, match=r"stays that overlap with the one before.*row 6"):
            self.read(rows, "end of day")

    def test_other_units_and_what_is_left_out(self) -> None:
        """A stay in a phase that is left out ends nobody's."""
        rows: list[Row] = [
            ("p1", "2020-01-01", "2020-01-10", "a"),
            ("p1", "2020-01-10", "2020-01-20", "z"),
        ]
        found = stays_of(self.read(rows, "end of day", leave_out=["other phases"]))
        assert found == [("p1", "a", 0.0, 10.0)]

    def test_a_row_that_is_left_out_ends_nobodys_stay(self) -> None:
        rows: list[Row] = [
            ("p1", "2020-01-01", "2020-01-10", "a"),
            ("p1", "2020-01-10", "2020-01-09", "b"),
        ]
        found = stays_of(self.read(rows, "end of day", leave_out=["empty"]))
        assert found == [("p1", "a", 0.0, 10.0)]

    @pytest.mark.parametrize(
        ("row", "column", "found"),
        [
            (("p1", "2019-12-30", "2020-01-02", "a"), "from", "stays that start before the origin"),
            (("p1", None, "2020-01-02", "a"), "from", "missing starts"),
            (("p1", "30.12.2019", "2020-01-02", "a"), "from", "values that are not dates"),
            (("p1", "2020-01", "2020-01-20", "a"), "from", "partial dates"),
            (("p1", 17, "2020-01-20", "a"), "from", "numbers where dates were expected"),
            (("p1", "2020-03-02", "2020-03-20", "a"), "from", "stays that start after the end of"),
        ],
    )
    def test_impossible_dates(self, row: Row, column: str, found: str) -> None:
        with pytest.raises(DataError) as caught:
            self.read([row], "refuse")
        assert any(
            problem.column == column and problem.found.startswith(found)
            for problem in caught.value.problems
        ), caught.value.problems


class TestColumns:
    """Columns and their cells."""

    def test_missing(self) -> None:
        with pytest.raises(DataError) as caught:
            read(PLAIN, start="form", dose="mg")
        assert [(one.column, one.found, one.expected) for one in caught.value.problems] == [
            ("form", "no such column", "Nearest: from."),
            ("mg", "no such column", "There are: pid, from, to, drug."),
        ]

    @pytest.mark.parametrize(
        ("given", "roles"),
        [
            ({"start": "to"}, "stay's start and as stay's stop"),
            ({"phase": "pid"}, "stay's patient and as stay's phase"),
            ({"cycle": "drug"}, "stay's phase and as stay's cycle"),
            ({"dose": "to"}, "stay's stop and as stay's dose"),
        ],
    )
    def test_two_roles(self, given: dict[str, str], roles: str) -> None:
        (column,) = given.values()
        with pytest.raises(SpecError, match=f"^The column '{column}' is declared as {roles}: "):
            read(PLAIN, **given)

    @pytest.mark.parametrize(
        ("column", "cells", "found"),
        [
            ("from", ["12", "x5", "0", "20"], "values that are not numbers ('x5')"),
            ("from", [12, None, 0, 20], "missing starts"),
            ("from", [12, -5, 0, 20], "stays that start before the origin"),
            ("from", [12, -np.inf, 0, 20], "infinite times"),
            ("to", [20, np.inf, 10, 30], "infinite times"),
            ("pid", ["p1", None, "p1", "p1"], "missing ids"),
        ],
    )
    def test_impossible_times(self, column: str, cells: list[Any], found: str) -> None:
        rows = pd.DataFrame(PLAIN, columns=COLUMNS).assign(**{column: cells})
        with pytest.raises(DataError) as caught:
            read(rows)
        problem = caught.value.problems[0]
        assert (problem.column, problem.found) == (column, found)
        assert problem.rows == (2,)

    def test_order(self) -> None:
        rows: list[Row] = [("p1", 12, 15, "a"), ("p2", 0, 3, "a"), ("p1", 0, 10, "b")]
        with pytest.raises(DataError) as caught:
            read(rows, order="listed")
        (problem,) = caught.value.problems
        assert (problem.column, problem.rows) == ("drug", (1, 3))
        assert problem.found == "phases that come again after one that is listed later"
        assert problem.expected == (
            "Expected the order a, b; say order='any' if phases may come in any order."
        )
        assert read(rows, order="listed", phases=["b", "a"]).ordered


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"phases": "a"}, "phases must list names, or map them to texts"),
        ({"phases": []}, "Name at least one phase"),
        ({"phases": ["a", "a"]}, "Each phase is named once"),
        ({"phases": ["off treatment"]}, "has a meaning of its own"),
        ({"phases": ["before a"]}, "has a meaning of its own"),
        ({"phases": [1]}, "A phase's name is a text"),
        ({"phases": {"x": "a", "y": ["a", "b"]}}, "each needs texts of its own"),
        ({"bridge": True}, "bridge must be a length of time, got True"),
        ({"bridge": "2"}, "bridge must be a length of time, got '2'"),
        ({"bridge": -1.0}, "bridge must be a length of time from 0 on"),
        ({"bridge": np.inf}, "bridge must be a length of time from 0 on"),
        ({"grace": "2"}, "grace must be a length of time, got '2'"),
        ({"grace": -1.0}, "grace must be a length of time from 0 on"),
        ({"grace": 1.0, "bridge": 1.0}, "bridge and grace are two answers to one question"),
        ({"before_origin": "cut"}, "before_origin must be 'refuse' or 'clip', got 'cut'"),
        ({"order": "all"}, "order must be 'listed' or 'any'"),
        (
            {"leave_out": "after"},
            "leave_out must list some of strangers, other phases, empty, after, duplicates",
        ),
        ({"leave_out": ["late"]}, "leave_out must list some of"),
        ({"overlap": "a"}, "overlap must be 'refuse', a list of phases by priority, or a mapping"),
        ({"overlap": ["a"]}, "overlap: list all phases once, the one that holds first"),
        ({"overlap": {"a": "x"}}, "overlap: expected phases joined by ' [+] ', such as 'a [+] b'"),
        ({"overlap": {"a + c": "x"}}, "overlap: expected phases joined by"),
        ({"overlap": {"a + a": "x"}}, "overlap: expected phases joined by"),
        ({"overlap": {"a + b": "a"}}, "overlap: 'a' is a phase: name the combination otherwise"),
        ({"overlap": {"a + b": "transplant"}}, "has a meaning of its own"),
    ],
)
def test_impossible_declarations(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        courses(PLAIN, **given)
