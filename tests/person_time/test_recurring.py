"""Phases that recur: events and person-time against a loop, rows of a wide table, round trips."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.courses import Stays
from bayesblina.core.errors import DataError
from bayesblina.patients.cohort import Cohort
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
