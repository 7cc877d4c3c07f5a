"""Phases that recur: events and person-time against a loop, rows of a wide table, round trips."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.course_marks import measure_at
from bayesblina.core.courses import Exposure, Stays
from bayesblina.core.errors import DataError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.cells import front
from tests.person_time import brute_courses as brute

PHASES = ("a", "b", "c")
ENDPOINTS = ("os", "rfs")
# Courses of one example; 10 examples of each measure are 1,040 courses, each summed in two ways.
COURSES = 13
EXAMPLES = 10
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def eighths(low: int, high: int) -> st.SearchStrategy[Fraction]:
    """Times that are written without rounding, so that many are equal."""
    return st.integers(low, high).map(lambda number: Fraction(number, 8))


@st.composite
def courses(draw: st.DrawFn) -> brute.Patient:
    """Up to six stays, with and without gaps, two endpoints, perhaps a transplant."""
    now, stays = draw(eighths(0, 16)), []
    for _ in range(draw(st.integers(0, 6))):
        phase, length, gap, cycle, dose = draw(
            st.tuples(
                st.sampled_from(PHASES),
                eighths(1, 40),
                st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 2), Fraction(3)]),
                st.integers(0, 1),
                st.integers(0, 5).map(Fraction),
            )
        )
        stays.append(brute.Stay(phase, now, now + length, cycle, dose))
        now += length + gap
    last = stays[-1].start if stays else Fraction(0)
    outcomes = {}
    for number, name in enumerate(ENDPOINTS):
        entry = draw(st.one_of(st.just(Fraction(0)), eighths(0, 24)))
        time = max(last if not number else Fraction(0), entry) + draw(eighths(1, 80))
        outcomes[name] = brute.Outcome(entry, time, draw(st.booleans()))
    if draw(st.integers(0, 9)) == 0:
        outcomes["rfs"] = brute.Outcome(None, Fraction(0), False)
    end = max(outcome.time for outcome in outcomes.values() if outcome.entry is not None)
    transplant = draw(st.one_of(st.none(), st.integers(1, 16)))
    return brute.Patient(
        tuple(stays), outcomes, None if transplant is None else end * transplant / 16
    )


# The measures, and steps that they may have.
MEASURES: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("current", "time"): st.just(()),
    ("ever", "time"): st.just(()),
    **{
        (measure, "time"): st.sets(eighths(1, 60), max_size=3).map(sorted)
        for measure in ("since_entry", "since_end", "cumulative")
    },
    ("cumulative", "cycles"): st.sampled_from([(), (1,), (2, 3)]),
    ("cumulative", "dose"): st.sampled_from([(), (1,), (2, 3), (Fraction(5, 2), 6)]),
    ("episode", "time"): st.sampled_from([(), (2,), (3,), (2, 3), (2, 4)]),
}


@st.composite
def questions(draw: st.DrawFn, measure: str, amount: str) -> brute.Asked:
    """Of one phase or of two, of everybody or of those who reached a phase or a landmark."""
    return brute.Asked(
        exposed=draw(st.sampled_from([("a",), ("b",), ("a", "c"), ("c", "b")])),
        measure=measure,
        steps=tuple(map(Fraction, draw(MEASURES[measure, amount]))),
        amount=amount,
        lag=draw(st.sampled_from([Fraction(0), Fraction(0), Fraction(1, 2), Fraction(5, 4)])),
        eligible_from=draw(st.sampled_from(["entry", "entry", *PHASES])),
        landmark=draw(st.one_of(st.none(), st.none(), eighths(0, 48))),
        transplant=draw(st.sampled_from(["censor", "phase", "ignore"])),
    )


def stays_of(patients: list[brute.Patient], phases: tuple[str, ...] = PHASES) -> Stays:
    """Columns of the patients' stays."""
    rows = [(number, stay) for number, patient in enumerate(patients) for stay in patient.stays]

    def column(values: list[Any]) -> Floats:
        return np.array(values, dtype=np.float64)

    return Stays(
        patient=np.array([number for number, _ in rows], dtype=np.int64),
        phase=np.array([phases.index(stay.phase) for _, stay in rows], dtype=np.int64),
        start=column([stay.start for _, stay in rows]),
        stop=column([stay.stop for _, stay in rows]),
        cycles=column([stay.cycle for _, stay in rows]),
        dose=column([stay.dose for _, stay in rows]),
    )


def cohort_of(patients: list[brute.Patient]) -> Cohort:
    size = len(patients)
    endpoints = {}
    for name in ENDPOINTS:
        own = [patient.outcomes[name] for patient in patients]
        seen = [outcome.entry is not None for outcome in own]
        endpoints[name] = Outcome(
            time=np.where(seen, [float(outcome.time) for outcome in own], np.nan),
            event=np.array([outcome.event for outcome in own]),
            entry=np.array([np.nan if one.entry is None else float(one.entry) for one in own]),
        )
    return Cohort(
        patients=np.array([f"p{number}" for number in range(size)]),
        unit="months",
        endpoints=endpoints,
        phases=PHASES,
        phase_start=np.zeros((size, 3)),
        phase_end=np.zeros((size, 3)),
        stays=stays_of(patients),
        ordered=False,
        transplant=np.array(
            [np.nan if one.transplant is None else float(one.transplant) for one in patients]
        ),
    )


def question_of(asked: brute.Asked, **more: Any) -> bb.Question:
    given: dict[str, Any] = {
        "exposed": list(asked.exposed),
        "eligible_from": asked.eligible_from,
        "measure": asked.measure,
        "steps": tuple(map(float, asked.steps)) or None,
        "amount": asked.amount,
        "lag": float(asked.lag),
        "landmark": None if asked.landmark is None else float(asked.landmark),
        "transplant": asked.transplant,
    }
    return bb.Question(**given | more)


def cells_of(found: bb.PersonTime, endpoint: str) -> tuple[dict[Any, float], dict[Any, int]]:
    """Time and events by interval and state, where there are any."""
    table = found.table.sel(endpoint=endpoint).sum("pattern")
    times, events = {}, {}
    for number, state in enumerate(table["phase"].values.tolist()):
        for interval in range(table.sizes["interval"]):
            time = float(table["person_time"].values[interval, number])
            count = float(table["events"].values[interval, number])
            if time > 1e-9:
                times[interval, state] = time
            if count:
                assert count == int(count)
                events[interval, state] = int(count)
    return times, events


def same_cells(cells: brute.Cells, found: bb.PersonTime, endpoint: str) -> None:
    times, events = cells_of(found, endpoint)
    assert events == cells.events
    assert times == pytest.approx(
        {cell: float(time) for cell, time in cells.time.items()}, rel=1e-11, abs=1e-11
    )


@pytest.mark.parametrize(("measure", "amount"), MEASURES)
@SETTINGS
@given(data=st.data())
def test_events_and_person_time_are_those_of_a_loop(
    measure: str, amount: str, data: st.DataObject
) -> None:
    patients = data.draw(st.lists(courses(), min_size=COURSES, max_size=COURSES))
    asked = data.draw(questions(measure, amount))
    cuts = data.draw(st.sets(eighths(1, 120), max_size=4).map(sorted))
    cohort, question = cohort_of(patients), question_of(asked)
    expected = {name: brute.follow(patients, asked, name, tuple(cuts)) for name in ENDPOINTS}
    given_cuts = [float(cut) for cut in cuts]
    for many in (10**9, 1):  # patient by patient, and in one compiled pass
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(front, "MANY", many)
            if not all(cells.compares(asked) for cells in expected.values()):
                with pytest.raises(DataError, match="There is nothing to compare"):
                    bb.person_time(cohort, question, cuts=given_cuts)
                continue
            found = bb.person_time(cohort, question, cuts=given_cuts)
        for name, cells in expected.items():
            same_cells(cells, found, name)


@pytest.mark.parametrize(("measure", "amount"), MEASURES)
@settings(SETTINGS, max_examples=20)
@given(data=st.data())
def test_the_measure_at_a_time_is_that_of_a_loop(
    measure: str, amount: str, data: st.DataObject
) -> None:
    patients = data.draw(st.lists(courses(), min_size=3, max_size=3))
    asked = data.draw(questions(measure, amount))
    moments = data.draw(st.lists(st.tuples(st.integers(0, 2), eighths(0, 400)), max_size=20))
    exposure = Exposure(
        phases=tuple(PHASES.index(phase) for phase in asked.exposed),
        label=asked.label,
        measure=measure,  # type: ignore[arg-type]
        amount=amount,  # type: ignore[arg-type]
        lag=float(asked.lag),
    )
    found = measure_at(
        stays_of(patients),
        exposure,
        np.array([patient for patient, _ in moments], dtype=np.int64),
        np.array([float(time) for _, time in moments]),
    )
    expected = [brute.measure_by(patients[patient], asked, time) for patient, time in moments]
    np.testing.assert_allclose(
        found, [np.nan if value is None else float(value) for value in expected], rtol=1e-12
    )


@st.composite
def one_after_the_other(draw: st.DrawFn, *, ends: bool) -> brute.Patient:
    """Phases in their order, each once at most, as a wide table has them."""
    now, stays = draw(eighths(0, 16)), []
    for phase in PHASES:
        length, gap, there = draw(
            st.tuples(
                eighths(1, 40),
                st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(3)]),
                st.booleans(),
            )
        )
        if there:
            stays.append(brute.Stay(phase, now, now + length))
            now += length + (gap if ends else 0)
    if stays:
        # Without an end the last one goes on.
        last = stays[-1]
        stays[-1] = replace(last, stop=last.stop if ends and draw(st.booleans()) else brute.NEVER)
    end = (stays[-1].start if stays else Fraction(0)) + draw(eighths(1, 80))
    outcome = brute.Outcome(draw(st.sampled_from([Fraction(0), end / 2])), end, draw(st.booleans()))
    transplant = draw(st.sampled_from([None, end / 2, end]))
    return brute.Patient(tuple(stays), {"os": outcome}, transplant)


def two_ways(patients: list[brute.Patient], *, ends: bool) -> tuple[Cohort, Cohort]:
    """A wide table, and the same patients with a table of stays."""
    table = pd.DataFrame(
        {
            "id": range(len(patients)),
            "time": [float(one.outcomes["os"].time) for one in patients],
            "died": [int(one.outcomes["os"].event) for one in patients],
            "entry": [float(one.outcomes["os"].entry or 0) for one in patients],
            "moved": [np.nan if one.transplant is None else one.transplant for one in patients],
        },
        dtype=np.float64,
    )
    rows = []
    for number, patient in enumerate(patients):
        for stay in patient.stays:
            table.loc[number, stay.phase] = float(stay.start)
            goes_on = stay.stop == brute.NEVER
            table.loc[number, f"{stay.phase}_end"] = np.nan if goes_on else float(stay.stop)
            rows.append((number, float(stay.start), None if goes_on else float(stay.stop)))
    drugs = [stay.phase for patient in patients for stay in patient.stays]
    columns = [name for phase in PHASES for name in (phase, f"{phase}_end")]
    table = table.reindex(columns=[*table.columns[:5], *columns])
    read: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": {"os": bb.Endpoint(time="time", event="died", entry="entry")},
        "transplant": "moved",
    }
    wide = bb.Phases(
        **{name: bb.Phase(start=name, end=f"{name}_end" if ends else None) for name in PHASES}
    )
    stays = Courses(
        table=pd.DataFrame(rows, columns=["id", "from", "to"]).assign(drug=drugs),
        patient="id",
        start="from",
        stop="to",
        phase="drug",
        phases=PHASES,
    )
    return bb.read_cohort(table, phases=wide, **read), bb.read_cohort(table, phases=stays, **read)


@pytest.mark.parametrize("measure", ["ever", "current", "since_entry"])
@pytest.mark.parametrize("ends", [True, False])
@settings(SETTINGS, max_examples=12)
@given(data=st.data())
def test_a_wide_table_is_a_table_of_stays(measure: str, ends: bool, data: st.DataObject) -> None:
    patients = data.draw(st.lists(one_after_the_other(ends=ends), min_size=12, max_size=12))
    wide, stays = two_ways(patients, ends=ends)
    assert (wide.recurring, stays.recurring, stays.ordered) == (False, True, True)
    steps = (Fraction(3, 2), Fraction(4)) if measure == "since_entry" else ()
    asked = brute.Asked(
        exposed=(data.draw(st.sampled_from(PHASES)),),
        measure=measure,
        steps=steps,
        lag=data.draw(st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(5, 4)])),
        eligible_from=data.draw(st.sampled_from(["entry", *PHASES])),
        transplant=data.draw(st.sampled_from(["censor", "phase", "ignore"])),
        first="before a",
    )
    cuts = [1.5, 4.0, 9.0]
    cells = brute.follow(patients, asked, "os", tuple(map(Fraction, cuts)))
    if not cells.compares(asked):
        return
    question = question_of(asked)
    for many in (10**9, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(front, "MANY", many)
            for cohort in (wide, stays):
                same_cells(cells, bb.person_time(cohort, question, cuts=cuts), "os")
            if measure == "since_entry":
                # The model's own way to cut time in a phase that comes once.
                whole = replace(question, measure=None, steps=None, phase_end="ever")
                found = bb.person_time(
                    wide, whole, cuts=cuts, phase_cuts=[float(step) for step in steps]
                )
                same_cells(cells, found, "os")


def rows_again(rows: pd.DataFrame, **more: Any) -> Cohort:
    options: dict[str, Any] = {
        **{"patient": "patient", "start": "start", "stop": "stop", "event": "event"},
        **{"phase": "phase", "phases": PHASES, "unit": "months", "order": "any"},
        "endpoint": "endpoint",
    }
    return bb.read_counting_process(rows, **options | more)


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(["endpoint", "patient", "start"], ignore_index=True)


@settings(SETTINGS, max_examples=40)
@given(patients=st.lists(courses(), min_size=5, max_size=5))
def test_rows_come_back_as_they_were(patients: list[brute.Patient]) -> None:
    """Everybody is seen from the origin on, or nobody would know what has ended by then."""
    seen = []
    for patient in patients:
        outcome = replace(patient.outcomes["os"], entry=Fraction(0))
        seen.append(replace(patient, outcomes=patient.outcomes | {"os": outcome}))
    rows = cohort_of(seen).to_counting_process()
    again = rows_again(rows.sample(frac=1.0, random_state=1), transplant="transplant")
    pd.testing.assert_frame_equal(
        in_order(again.to_counting_process()), in_order(rows), check_dtype=False
    )


ROWS = pd.DataFrame(
    [
        ("p1", "os", 0, 2, 0, "none"),
        ("p1", "os", 2, 4, 0, "a"),
        ("p1", "os", 4, 5, 0, "none"),
        ("p1", "os", 5, 7, 0, "a"),
        ("p1", "os", 7, 9, 0, "b"),
        ("p1", "os", 9, 12, 1, "a"),
        ("p1", "rfs", 1, 2, 0, "none"),
        ("p1", "rfs", 2, 4, 0, "a"),
        ("p1", "rfs", 4, 5, 0, "none"),
        ("p1", "rfs", 5, 6, 1, "a"),
        ("p2", "os", 0, 8, 0, "none"),
        ("p2", "rfs", 0, 8, 0, "none"),
    ],
    columns=["patient", "endpoint", "start", "stop", "event", "phase"],
)


class TestRows:
    """Counting-process rows in which phases come again."""

    def test_stays_of_all_endpoints(self) -> None:
        """What means no phase is off treatment once there was one; the last stay goes on."""
        cohort = rows_again(ROWS, phases=["a", "b"], before="none")
        assert (cohort.recurring, cohort.ordered) == (True, False)
        stays = cohort.stays
        assert stays is not None
        found = list(zip(stays.start.tolist(), stays.stop.tolist(), stays.phase, strict=True))
        assert found == [(2, 4, 0), (5, 7, 0), (7, 9, 1), (9, np.inf, 0)]
        assert stays.patient.tolist() == [0] * 4
        assert cohort.endpoints["rfs"].time.tolist() == [6.0, 8.0]
        assert cohort.endpoints["rfs"].entry.tolist() == [1.0, 0.0]
        rows = cohort.to_counting_process(endpoint="os")
        states = ["before any phase", "a", "off treatment", "a", "b", "a"]
        assert rows["phase"].tolist() == [*states, "before any phase"]
        question = bb.Question(
            exposed="a", eligible_from="entry", endpoints=("os",), measure="episode", steps=[2, 3]
        )
        times, events = cells_of(bb.person_time(cohort, question, cuts=[]), "os")
        assert times == {
            (0, "before any phase"): 10.0,
            (0, "a episode 1"): 2.0,
            (0, "off treatment"): 1.0,
            (0, "a episode 2"): 2.0,
            (0, "b"): 2.0,
            (0, "a episode 3 and later"): 3.0,
        }
        assert events == {(0, "a episode 3 and later"): 1}

    def test_in_their_order_a_phase_may_come_again_until_the_next(self) -> None:
        rows = ROWS[(ROWS["stop"] <= 7) | (ROWS["patient"] == "p2")]
        cohort = rows_again(rows, phases=["a", "b"], before="none", order="listed")
        assert (cohort.recurring, cohort.ordered) == (True, True)
        with pytest.raises(DataError, match="phases that go backwards") as caught:
            rows_again(ROWS, phases=["a", "b"], before="none", order="listed")
        (problem,) = caught.value.problems
        assert (problem.column, problem.patients, problem.rows) == ("phase", ("p1",), (6,))
        assert "say order='any' if phases may come in any order" in problem.expected

    def test_endpoints_that_disagree(self) -> None:
        rows = ROWS.copy()
        rows.loc[7, "stop"] = rows.loc[8, "start"] = 3
        with pytest.raises(DataError, match="start or end at different times for different endpo"):
            rows_again(rows, phases=["a", "b"], before="none")

    def test_nothing_comes_again(self) -> None:
        """Then a wide table's columns say as much, and R's own way to write it is read."""
        rows = ROWS[(ROWS["stop"] <= 4) | (ROWS["patient"] == "p2")]
        cohort = rows_again(rows, phases=["a", "b"], before="none", order="listed")
        assert not cohort.recurring
        assert cohort.phase_start[0].tolist()[0] == 2.0
