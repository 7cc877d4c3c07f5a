"""Adverse events as they are delivered: observation, study days, dates, severity, flags."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.onsets import AdverseEvents, observation

NAN = np.nan
# Days: P1 has phase m from 10 on and is followed to 40; P2 enters on day 20, m from 25, to 50; P3
# never has m, to 30. P1 has a transplant on day 30.
PATIENTS: dict[str, list[Any]] = {
    "id": ["P1", "P2", "P3"],
    "entry": [0.0, 20.0, 0.0],
    "end": [40.0, 50.0, 30.0],
    "died": [1, 0, 1],
    "m": [10.0, 25.0, NAN],
    "sct": [30.0, NAN, NAN],
    "TRTSDT": ["2015-01-01", "2015-02-01", "2015-03-01"],
}


def cohort_of(*, transplant: bool = False, unit: str = "days", **changes: Any) -> Cohort:
    table = pd.DataFrame(PATIENTS | changes)
    per = {"days": 1.0, "months": 30.4375}[unit]
    table[["entry", "end", "m", "sct"]] /= per
    return bb.read_cohort(
        table,
        patient="id",
        unit=unit,
        endpoints={"os": bb.Endpoint(time="end", event="died", entry="entry")},
        phases=bb.Phases(m="m"),
        transplant="sct" if transplant else None,
    )


def rows_of(*rows: tuple[Any, ...], columns: str = "id term onset") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def read(table: pd.DataFrame, cohort: Cohort | None = None, **options: Any) -> AdverseEvents:
    options = {"patient": "id", "term": "term", "start": "onset", **options}
    return bb.safety.adverse_events(table, cohort_of() if cohort is None else cohort, **options)


def phases_of(events: AdverseEvents) -> list[str]:
    return [events.phases[phase] for phase in events.phase]


def left(events: AdverseEvents) -> dict[str, int]:
    return dict(events.left_out)


def test_observation_begins_at_entry() -> None:
    """Time before P2 came under observation, when nobody knows of events, is no time at risk."""
    events = read(rows_of(("P1", "x", 0), ("P2", "x", 20), ("P2", "x", 25), ("P3", "x", 30)))
    assert events.phases == ("before m", "m")
    np.testing.assert_array_equal(events.person_time, [[10, 30], [5, 25], [30, 0]])
    assert phases_of(events) == ["before m", "before m", "m", "before m"]
    with pytest.raises(DataError, match=r"starts before observation begins \[1 patient"):
        read(rows_of(("P2", "x", 19.5)))
    early = read(rows_of(("P2", "x", 19.5), ("P1", "x", -1), ("P1", "y", 1)), leave_out=["before"])
    assert early.patient.tolist() == [0]
    assert left(early) == {"that start before observation begins": 2}


def test_a_rate_under_delayed_entry_is_the_true_one() -> None:
    """Patients observed from month 10 to 14 with an event a month: 12 events a year."""
    table = pd.DataFrame({"id": [f"p{row}" for row in range(60)], "e": 10.0, "t": 14.0, "d": 0})
    cohort = bb.read_cohort(
        table.assign(m=12.0),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d", entry="e")},
        phases=bb.Phases(m="m"),
    )
    months = np.tile([10.5, 11.5, 12.5, 13.5], 60)
    seen = pd.DataFrame({"id": np.repeat(table["id"], 4), "term": "x", "onset": months})
    rates = bb.safety.event_rate(read(seen, cohort), seed=1)
    np.testing.assert_allclose(rates["person_time"], 60 * 2 / 12)
    np.testing.assert_allclose(rates["event_rate"].mean(("chain", "draw")), 12.0, rtol=0.02)


def test_simulated_events_are_those_observed() -> None:
    cohort = bb.read_cohort(
        pd.DataFrame({"id": ["a"], "e": [12.0], "t": [14.0], "d": [0], "m": [1.0], "l": [2.0]}),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d", entry="e")},
        phases=bb.Phases(m="m", l="l"),
    )
    drawn = pd.concat([bb.simulate.adverse_events(cohort, seed=seed) for seed in range(30)])
    assert drawn.size
    assert (drawn["month"] >= 12.0).all()


def test_observation_over_endpoints() -> None:
    table = pd.DataFrame(
        {"id": ["a", "b"], "t": [5.0, 4.0], "d": 1, "t2": [9.0, NAN], "d2": 0, "e2": [3.0, NAN]}
    )
    reading: dict[str, Any] = {"patient": "id", "unit": "months", "phases": bb.Phases(m="m")}
    both = {
        "os": bb.Endpoint(time="t", event="d"),
        "rfs": bb.Endpoint(time="t2", event="d2", entry="e2"),
    }
    cohort = bb.read_cohort(table.assign(m=1.0), endpoints=both, **reading)
    assert [one.tolist() for one in observation(cohort)] == [[0, 0], [9, 4]]
    assert [one.tolist() for one in observation(cohort, "rfs")] == [[3, 0], [9, 0]]
    apart = bb.read_cohort(table.assign(m=1.0, e2=[6.0, NAN]), endpoints=both, **reading)
    with pytest.raises(DataError, match=r"ends before that for another begins \[1 patient"):
        observation(apart)
    assert observation(apart, "os")[1].tolist() == [5, 4]


def test_study_days_have_no_0() -> None:
    """Day 1 is the day of the origin: day 11 is the phase's first, day 10 the last before it."""
    table = rows_of(*[("P1", "x", day) for day in (1, 10, 11, 41)], ("P1", "x", -1))
    events = read(table, counted="study days", leave_out=["before"])
    assert phases_of(events) == ["before m", "before m", "m", "m"]
    assert left(events) == {"that start before observation begins": 1}
    months = read(table, cohort_of(unit="months"), counted="study days", leave_out=["before"])
    assert phases_of(months) == phases_of(events)
    np.testing.assert_allclose(months.person_time * 30.4375, events.person_time)
    for wrong in (0, 1.5):
        with pytest.raises(DataError, match="study days of 0, or with fractions"):
            read(rows_of(("P1", "x", wrong)), counted="study days")


def test_study_days_are_not_taken_for_days_unasked() -> None:
    table = rows_of(("P1", "x", 11), columns="id term ASTDY")
    with pytest.raises(SpecError, match=r"'ASTDY' is a column of study days.*counted="):
        read(table, start="ASTDY")
    assert phases_of(read(table, start="ASTDY", counted="times")) == ["m"]
    like = rows_of(*[("P1", "x", 1 + row % 30) for row in range(25)])
    with pytest.raises(SpecError, match="looks like a column of study days"):
        read(like)
    assert read(like, counted="times").patient.size == 25
    # With a 0, fractions, or in months they are times.
    assert read(like.assign(onset=like["onset"] - 1)).patient.size == 25
    assert read(like.assign(onset=like["onset"] + 0.5)).patient.size == 25


@pytest.mark.parametrize("name", ["day", "AE_DAY", "Study day", "startday", "days_since_dose"])
def test_columns_of_days_must_say_how_they_count(name: str) -> None:
    """Day 3 is two days after the origin, or three; of months it would be three months."""
    table = rows_of(("P1", "x", 3), ("P1", "x", 11), columns="id term onset")
    table = table.rename(columns={"onset": name})
    for unit in ("days", "months"):
        with pytest.raises(SpecError, match=rf"'{name}' is a column of days.*counted='times'"):
            read(table, cohort_of(unit=unit), start=name)
    assert phases_of(read(table, start=name, counted="study days")) == ["before m", "m"]
    assert phases_of(read(table, start=name, counted="times")) == ["before m", "m"]


@pytest.mark.parametrize("name", ["month", "dayton", "time", "holidays_left"])
def test_other_columns_are_times(name: str) -> None:
    table = rows_of(("P1", "x", 3), columns="id term onset").rename(columns={"onset": name})
    assert phases_of(read(table, start=name)) == ["before m"]


@pytest.mark.parametrize("unit", ["days", "months"])
@pytest.mark.parametrize("apart", [False, True])
def test_dates_with_the_origin(unit: str, apart: bool) -> None:
    """Doses and events count from the beginning of their day."""
    origins = pd.DataFrame(PATIENTS)[["id", "TRTSDT"]]
    table = rows_of(("P1", "x", "2015-01-10"), ("P1", "x", "2015-01-11"), ("P3", "x", "2015-03-31"))
    options: dict[str, Any] = {"counted": "dates", "origin": "TRTSDT"}
    if apart:
        options["origins"] = origins
    else:
        table = table.merge(origins, on="id")
    events = read(table, cohort_of(unit=unit), **options)
    assert phases_of(events) == ["before m", "m", "before m"]
    with pytest.raises(SpecError, match="counted='dates' needs origin="):
        read(table, counted="dates")
    with pytest.raises(SpecError, match="and only it"):
        read(table, origin="TRTSDT")
    if apart:
        with pytest.raises(DataError, match=r"missing dates of origin \[1 patient"):
            read(table, **{**options, "origins": origins.iloc[:2]})
        with pytest.raises(DataError, match="more than one row"):
            read(table, **{**options, "origins": pd.concat([origins, origins])})
    else:
        table.loc[0, "TRTSDT"] = "2015-01-02"
        with pytest.raises(DataError, match=r"several dates of origin of one patient"):
            read(table, **options)


@pytest.mark.parametrize(
    ("rule", "days"), [("first", [0, 20, 30]), ("middle", [14, 20, 30]), ("last", [30, 27, 30])]
)
def test_partial_starts_lie_in_observation(rule: Any, days: list[int]) -> None:
    """P2 is observed from 2015-02-21, P3 to 2015-03-31; a start in April stays wrong."""
    table = rows_of(
        ("P1", "x", "2015-01"), ("P2", "x", "2015-02"), ("P3", "x", "2015-03-31")
    ).merge(pd.DataFrame(PATIENTS)[["id", "TRTSDT"]], on="id")
    options: dict[str, Any] = {"counted": "dates", "origin": "TRTSDT", "partial_dates": rule}
    with pytest.raises(DataError, match="partial dates"):
        read(table, **{**options, "partial_dates": "refuse"})
    events = read(table, **options)
    assert events.imputed == 2
    assert events.account()["rows"].tolist() == [3, 3, 2]
    inside = [0 if day < start else 1 for day, start in zip(days, (10, 25, 99), strict=True)]
    assert events.phase.tolist() == inside
    table.loc[2, "onset"] = "2015-04"
    with pytest.raises(DataError, match="after the end of follow-up"):
        read(table, **options)


def test_severity_in_words() -> None:
    columns = "id term onset sev"
    table = rows_of(
        ("P1", "x", 1, "MILD"),
        ("P1", "y", 2, "Moderate"),
        ("P3", "z", 3, "SEVERE"),
        columns=columns,
    )
    events = read(table, grade="sev", minimum_grade="MODERATE")
    assert events.terms == ("y", "z")
    assert left(events) == {"below severity MODERATE": 1}
    assert "severity >= MODERATE" in repr(events)
    assert read(table, grade="sev").terms == ("x", "y", "z")
    with pytest.raises(SpecError, match="two scales are not translated"):
        read(table, grade="sev", minimum_grade=3)
    with pytest.raises(DataError, match=r"not MILD, MODERATE or SEVERE \[1 patient"):
        read(table.assign(sev=["MILD", "SEVERE", "3"]), grade="sev")
    grades = table.assign(sev=["Grade 1", "GRADE 3", "4"])
    assert read(grades, grade="sev", minimum_grade=3).terms == ("y", "z")
    with pytest.raises(SpecError, match="not translated"):
        read(grades, grade="sev", minimum_grade="SEVERE")
    empty = table.assign(sev=["", "MILD", "SEVERE"])
    with pytest.raises(DataError, match="events without a grade"):
        read(empty, grade="sev")
    assert left(read(empty, grade="sev", leave_out=["ungraded"])) == {"without a grade": 1}
    for wrong in (0, 6, 3.0, True, "GRAVE"):
        with pytest.raises(SpecError, match="minimum_grade must be"):
            read(table, grade="sev", minimum_grade=wrong)


def test_flags_and_rows_left_out_are_counted() -> None:
    """What else is wrong with rows that are left out does not matter."""
    columns = "id term onset TRTEMFL sev"
    table = rows_of(
        ("P1", "x", 1, "Y", 3),
        ("P1", "", "soon", "", 9),  # not treatment-emergent
        ("P9", "x", 1, "Y", 9),  # not in the cohort
        ("P1", "x", 2, "Y", 1),  # not severe
        ("P1", "x", "", "Y", 4),  # no start
        ("P3", "x", 31, "Y", 3),  # after follow-up
        columns=columns,
    )
    options: dict[str, Any] = {"grade": "sev", "minimum_grade": 3, "flags": ["TRTEMFL"]}
    events = read(table, leave_out=["strangers", "undated", "after"], **options)
    assert phases_of(events) == ["before m"]
    assert left(events) == {
        "whose TRTEMFL is not Y": 1,
        "of patients who are not in the cohort": 1,
        "below grade 3": 1,
        "without a start": 1,
        "that start after observation ends": 1,
    }
    assert events.account()["rows"].tolist() == [6, 1, 1, 1, 1, 1, 1]
    assert "5 rows left out" in repr(events)
    with pytest.raises(DataError) as caught:
        read(table.drop(index=1), **options)
    assert [item.found for item in caught.value.problems] == [
        "patients who are not in the cohort",
        "grades that are not 1, 2, 3, 4 or 5",
        "events without a start",
        "starts after the end of follow-up",
    ]
    with pytest.raises(DataError, match="flags other than Y and N"):
        read(table.assign(TRTEMFL="yes"), **options)
    with pytest.raises(SpecError, match="leave_out: no kind of rows 'late'"):
        read(table, leave_out=["late"], **options)
    with pytest.raises(SpecError, match="flags must be a list"):
        read(table, flags="TRTEMFL")


def test_transplant_must_be_chosen() -> None:
    """P1 has a transplant on day 30, in phase m, and is followed to 40."""
    cohort = cohort_of(transplant=True)
    table = rows_of(("P1", "x", 29), ("P1", "x", 30), ("P1", "x", 31), ("P2", "x", 40))
    with pytest.raises(SpecError, match="records transplants: say transplant="):
        read(table, cohort)
    censored = read(table, cohort, transplant="censor")
    assert phases_of(censored) == ["m", "m", "m"]
    assert left(censored) == {"that start after transplant": 1}
    np.testing.assert_array_equal(censored.person_time, [[10, 20], [5, 25], [30, 0]])
    state = read(table, cohort, transplant="phase")
    assert phases_of(state) == ["m", "transplant", "transplant", "m"]
    np.testing.assert_array_equal(state.person_time[0], [10, 20, 10])
    ignored = read(table, cohort, transplant="ignore")
    assert phases_of(ignored) == ["m"] * 4
    with pytest.raises(SpecError, match="records no transplants"):
        read(table, transplant="censor")
    late = rows_of(("P1", "x", 41))
    with pytest.raises(DataError, match="after the end of follow-up"):
        read(late, cohort, transplant="censor")


@pytest.mark.parametrize("digits", [4, 6, 15])
def test_rounded_starts_at_the_start_of_a_phase_are_in_it(digits: int) -> None:
    """Onsets on the day of the first dose, in months of so many digits: all in the phase."""
    days = np.arange(1.0, 400.0)
    table = pd.DataFrame(
        {
            "id": [f"p{day:g}" for day in days],
            "t": (days + 30) / 30.4375,
            "d": 1,
            "m": days / 30.4375,
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(m="m"),
    )
    same = table.assign(term="x", onset=(days / 30.4375).round(digits))
    assert set(phases_of(read(same, cohort))) == {"m"}
    ends = table.assign(term="x", onset=table["t"].round(digits))
    assert set(phases_of(read(ends, cohort))) == {"m"}
    before = table.assign(term="x", onset=((days - 0.5) / 30.4375).round(digits))
    assert set(phases_of(read(before, cohort))) == {"before m"}
