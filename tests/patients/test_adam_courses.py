"""Rows of ADEX as stays: days, doses, cycles, and what is counted or refused."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.courses import Stays
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from tests.patients.adam import OS, adsl, adtte, put, read

COURSES = bb.AdamCourses(phases={"blina": ["BLINATUMOMAB"], "tki": "PONATINIB"})
COLUMNS = ["USUBJID", "EXTRT", "ASTDT", "AENDT", "EXDOSE", "AVISIT"]


def adex(**changes: Any) -> pd.DataFrame:
    """Doses of P1 (origin 1 January 2015) and P2 (1 February); in the order of no patient."""
    rows = [
        ("P2", "PONATINIB", "2015-02-11", "2015-02-11", 45, "Cycle 1 Day 11"),
        # On 8 January the bag is changed: the first row ends as that day begins.
        ("P1", "BLINATUMOMAB", "2015-01-08", "2015-01-28", 28, "Cycle 1 Day 8"),
        ("P1", "BLINATUMOMAB", "2015-01-01", "2015-01-08", 9, "Cycle 1 Day 1"),
        ("P1", "BLINATUMOMAB", "2015-04-01", "2015-04-28", 28, "Cycle 2 Day 1"),
        ("P2", "BLINATUMOMAB", "2015-02-01", "2015-02-10", 28, "Cycle 1 Day 1"),
    ]
    return pd.DataFrame(rows, columns=COLUMNS).assign(**changes)


def taken(ex: Any = None, **options: Any) -> Cohort:
    return read(ex=adex() if ex is None else ex, **{"phases": COURSES, **options})


def stays(ex: Any = None, **options: Any) -> Stays:
    held = taken(ex, **options).stays
    assert held is not None
    return held


def test_every_row_is_a_stay() -> None:
    held = stays()
    assert held.patient.tolist() == [0, 0, 0, 1, 1]
    assert held.phase.tolist() == [0, 0, 0, 0, 1]
    # Day 0 is 1 January of P1, 1 February of P2; the last day is whole, but of the changed bag.
    assert held.start.tolist() == [0, 7, 90, 0, 10]
    assert held.stop.tolist() == [7, 28, 118, 10, 11]
    # Rows of one cycle that follow each other are one; tki of P2 is a cycle of another phase.
    assert held.cycles.tolist() == [1, 0, 1, 1, 1]
    assert held.dose is None
    cohort = taken()
    assert cohort.recurring
    assert cohort.ordered
    np.testing.assert_array_equal(cohort.phase_start[0], [0, np.nan])


def test_times_are_in_the_cohorts_unit() -> None:
    np.testing.assert_allclose(stays(unit="weeks").stop, np.array([7, 28, 118, 10, 11]) / 7)


@pytest.mark.parametrize(
    ("per", "doses"),
    [("stay", [9, 28, 28, 28, 45]), ("day", [9 * 7, 28 * 21, 28 * 28, 28 * 10, 45])],
)
def test_doses_are_of_the_stay_or_of_each_day(per: Any, doses: list[float]) -> None:
    courses = bb.AdamCourses(phases=COURSES.phases, dose="EXDOSE", dose_per=per)
    for unit in ("days", "months"):
        held = stays(phases=courses, unit=unit)
        assert held.dose is not None
        np.testing.assert_allclose(held.dose, doses, rtol=1e-12)


def test_written_dates_stand_in_for_analysis_dates() -> None:
    table = adex().rename(columns={"ASTDT": "EXSTDTC", "AENDT": "EXENDTC"})
    assert stays(table).stop.tolist() == stays().stop.tolist()


def test_where_cycles_come_from() -> None:
    table = adex(CYC=["a", "b", "b", "b", "c"])
    # By the column that is named; a text that is no cycle's is taken as it is.
    assert stays(table, cycle="CYC").cycles.tolist() == [1, 0, 0, 1, 1]
    # A visit that names no cycle: each row is one, and the account says so.
    table = put(adex(), 2, AVISIT="Screening")
    cohort = taken(table)
    assert cohort.stays is not None
    assert cohort.stays.cycles.tolist() == [1] * 5
    done = {repair.rule: repair.count for repair in cohort.repairs}
    assert done["ADEX rows are a cycle each"] == 2
    done = {repair.rule: repair.count for repair in taken().repairs}
    assert done["ADEX rows of one AVISIT that follow each other are one cycle"] == 2


def test_what_is_left_out_is_counted() -> None:
    extra = pd.DataFrame(
        [
            ("P9", "BLINATUMOMAB", "2015-01-01", "2015-01-02", 1, "Cycle 1 Day 1"),
            ("P1", "PLACEBO", "2015-03-01", "2015-03-02", 1, "Cycle 1 Day 1"),
            ("P1", "BLINATUMOMAB", "2016-03-01", "2016-03-02", 1, "Cycle 9 Day 1"),
            ("P2", "PONATINIB", "2015-03-01", "2015-03-05", 0, "Cycle 2 Day 1"),
        ],
        columns=COLUMNS,
    )
    table = pd.concat([adex(), extra], ignore_index=True)
    courses = bb.AdamCourses(
        phases=COURSES.phases,
        bridge=70.0,
        leave_out=["strangers", "other phases", "after"],
    )
    cohort = taken(table, phases=courses, zero_doses="leave out")
    rules = {repair.rule: repair.patients for repair in cohort.repairs}
    assert rules["ADEX doses of 0 are left out (1 rows)"] == ("P2",)
    assert rules["stays of patients who are not in the cohort were left out"] == ("P9",)
    assert rules["stays in phases that are not listed were left out"] == ("P1",)
    assert rules["stays that start after the end of follow-up were left out"] == ("P1",)
    assert rules[
        "gaps of up to 70 days are none, which looks ahead: nobody has the event in one"
    ] == ("P1",)
    assert cohort.stays is not None
    assert cohort.stays.stop.tolist() == [7, 90, 118, 10, 11]


def test_filters_and_left_out_patients() -> None:
    table = adex(PARAMCD=["DOSE", "DOSE", "DOSE", "OTHER", "DOSE"])
    held = stays(table, filters={"ADEX": {"PARAMCD": "DOSE"}})
    assert held.start.tolist() == [0, 7, 0, 10]
    people = adsl(SAFFL=["Y", "N", "Y", "Y"])
    cohort = read(people, adtte(), adex(), phases=COURSES, population="SAFFL")
    assert cohort.patients.tolist() == ["P1", "P3", "P4"]
    assert cohort.stays is not None
    assert cohort.stays.patient.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("row", "cells", "column", "found"),
    [
        (2, {"AENDT": "2015-01-09"}, "ASTDT, AENDT", "overlap with the one before"),
        (3, {"AENDT": "2015-03-01"}, "AENDT", "end at or before they start"),
        (3, {"ASTDT": "2016-04-01", "AENDT": ""}, "ASTDT", "after the end of follow-up"),
        (3, {"ASTDT": ""}, "ASTDT", "missing starts"),
        (3, {"ASTDT": "soon"}, "ASTDT", "not dates"),
        (3, {"EXTRT": "BLINATUMOMAP"}, "EXTRT", "phases that are not listed"),
        (3, {"EXDOSE": 0}, "EXDOSE", "doses of 0"),
        (3, {"EXDOSE": -1}, "EXDOSE", "negative doses"),
    ],
)
def test_faults_are_of_adex(row: int, cells: dict[str, Any], column: str, found: str) -> None:
    with pytest.raises(DataError) as caught:
        taken(put(adex(), row, **cells))
    (problem,) = caught.value.problems
    assert problem.column == column
    assert found in problem.found
    assert problem.patients == ("P1",)
    assert "ADEX" in str(caught.value)
    assert "P1" not in str(caught.value)


def test_the_order_is_held_unless_any_will_do() -> None:
    table = put(adex(), 0, ASTDT="2015-01-01", AENDT="2015-01-20")
    table = put(table, 4, ASTDT="2015-02-21", AENDT="2015-02-22")
    table = put(table, 0, ASTDT="2015-02-01", AENDT="2015-02-10")
    with pytest.raises(DataError, match=r"(?s)problem in ADEX.*EXTRT: phases that come again"):
        taken(table)
    free = bb.AdamCourses(phases=COURSES.phases, order="any")
    assert stays(table, phases=free).phase.tolist() == [0, 0, 0, 1, 0]


def test_events_that_another_value_moves_are_counted() -> None:
    """P1 dies on day 360; a stay of that day holds the event by AVAL, not by the dates."""
    record = adtte()
    days = (pd.to_datetime(record["ADT"]) - pd.to_datetime(record["STARTDT"])).dt.days + 1
    record = record.assign(AVAL=days, AVALU="DAYS")
    dose = ("P1", "BLINATUMOMAB", "2015-12-27", "2015-12-27", 28, "Cycle 3 Day 1")
    table = pd.concat([adex(), pd.DataFrame([dose], columns=COLUMNS)], ignore_index=True)
    counted = {}
    for value in ("dates", "AVAL"):
        cohort = read(tte=record, ex=table, phases=COURSES, endpoints={"os": OS}, value=value)
        question = bb.Question(exposed="blina", eligible_from="entry", measure="current")
        cells = bb.person_time(cohort, question, cuts=()).table["events"]
        counted[value] = int(cells.sel(phase="blina").sum())
        rules = {repair.rule: repair.patients for repair in cohort.repairs}
        other = "AVAL" if value == "dates" else "ADT"
        assert rules[f"the event would be in another phase by {other}"] == ("P1",)
    assert counted == {"dates": 0, "AVAL": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dose": "EXDOSE"}, "dose and dose_per go together"),
        ({"dose_per": "day"}, "dose and dose_per go together"),
        ({"dose": "EXDOSE", "dose_per": "week"}, "dose_per must be 'stay' or 'day'"),
        ({"phases": "BLINATUMOMAB"}, "phases must list names"),
        ({"bridge": -1}, "bridge must be a length of time"),
        ({"overlap": ["blina"]}, "list all phases once"),
    ],
)
def test_impossible_declarations(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        bb.AdamCourses(**{"phases": COURSES.phases, **options})


def test_courses_need_adex() -> None:
    with pytest.raises(SpecError, match="AdamCourses are the rows of ADEX"):
        bb.read_adam(adsl(), adtte(), endpoints={"os": OS}, unit="days", phases=COURSES)
    with pytest.raises(DataError, match=r"EXTRT: no such column"):
        taken(adex().drop(columns="EXTRT"))
