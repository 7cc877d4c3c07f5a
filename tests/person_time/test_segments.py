"""What marks the states of a course: by hand, and against the episodes of single patients."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.core.episodes import OFF_TREATMENT, TRANSPLANT, Mark
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import tie_of
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.segments import Course, course_of, reasons
from tests.person_time.counts import Case, cases

BASE: dict[str, Any] = {"time": 9.0, "event": 1, "one": 1.0, "two": 2.0} | {
    "end": np.nan,
    "transplant": np.nan,
}


def cohort_of(*changes: dict[str, Any]) -> Cohort:
    """Patients with two phases, the second of which has an end, and a transplant."""
    rows = [BASE | {"id": f"p{index}"} | change for index, change in enumerate(changes)]
    return bb.read_cohort(
        pd.DataFrame(rows),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases.from_dict(
            {"first": bb.Phase(start="one"), "second": bb.Phase(start="two", end="end")}
        ),
        transplant="transplant",
    )


def asked(**choices: Any) -> bb.Question:
    given: dict[str, Any] = {
        "exposed": "second",
        "eligible_from": "entry",
        "transplant": "ignore",
        "phase_end": "ever",
    }
    return bb.Question(**(given | choices))


def course(phase_cuts: list[float] | None = None, **choices: Any) -> Course:
    cuts = None if phase_cuts is None else np.array(phase_cuts)
    return course_of(cohort_of({}), asked(**choices), cuts)


def start(phase: int, state: int, offset: float = 0.0) -> Mark:
    return Mark(kind="start", phase=phase, offset=offset, state=state)


def end(phase: int, state: int) -> Mark:
    return Mark(kind="end", phase=phase, offset=0.0, state=state)


def test_two_phases() -> None:
    assert course() == Course(
        states=("before first", "first", "second"),
        phase_names=("before first", "first", "second"),
        since=(0.0, 0.0, 0.0),
        marks=(start(0, 1), start(1, 2)),
        eligible_phase=None,
        landmark=None,
        censor_at_transplant=False,
        tie=tie_of("months"),
    )


def test_only_the_exposed_phase_lags() -> None:
    assert course(lag=1.5).marks == (start(0, 1), start(1, 2, 1.5))
    assert course(lag=1.5, exposed="first").marks == (start(0, 1, 1.5), start(1, 2))


def test_ends_lead_off_treatment() -> None:
    found = course(phase_end="current")
    assert found.states == ("before first", "first", "second", OFF_TREATMENT)
    # Each end comes before the next start: whoever goes on at once is never off treatment.
    assert found.marks == (start(0, 1), end(0, 3), start(1, 2), end(1, 3))


def test_transplants() -> None:
    found = course(transplant="phase")
    assert found.states == ("before first", "first", "second", TRANSPLANT)
    last = Mark(kind="transplant", phase=0, offset=0.0, state=3)
    assert found.marks == (start(0, 1), start(1, 2), last)
    assert not found.censor_at_transplant
    censored = course(transplant="censor")
    assert censored.censor_at_transplant
    assert censored.states == ("before first", "first", "second")
    assert censored.marks == (start(0, 1), start(1, 2))
    both = course(transplant="phase", phase_end="current")
    assert both.states == ("before first", "first", "second", OFF_TREATMENT, TRANSPLANT)
    assert both.marks[-1].state == 4
    assert [mark.state for mark in both.marks if mark.kind == "end"] == [3, 3]


def test_who_is_eligible_and_when() -> None:
    assert course(eligible_from="first").eligible_phase == 0
    assert course(eligible_from="second", exposed="first").eligible_phase == 1
    assert course(landmark=4.0).landmark == 4.0


def test_pieces_of_the_exposed_phase() -> None:
    found = course([1.0, 2.5])
    pieces = ("second 0 to 1", "second 1 to 2.5", "second from 2.5")
    assert found.states == ("before first", "first", *pieces)
    assert found.phase_names == ("before first", "first", "second", "second", "second")
    assert found.since == (0.0, 0.0, 0.0, 1.0, 2.5)
    assert found.marks == (start(0, 1), start(1, 2), start(1, 3, 1.0), start(1, 4, 2.5))
    # The phase before is not cut, wherever the exposed one stands.
    other = course([1.0], exposed="first")
    assert other.states == ("before first", "first 0 to 1", "first from 1", "second")
    assert other.marks == (start(0, 1), start(0, 2, 1.0), start(1, 3))


def test_pieces_that_end_before_the_lag_are_never_entered() -> None:
    """Their marks fall together at the lag, and the last of them stands."""
    found = course([1.0, 2.5], lag=2.0)
    assert [mark.offset for mark in found.marks[1:]] == [2.0, 2.0, 2.5]
    # A lag at a cut: the piece that ends there is not entered either.
    assert [mark.offset for mark in course([1.0], lag=1.0).marks[1:]] == [1.0, 1.0]
    person_time = bb.person_time(
        cohort_of({}, {"two": np.nan}), asked(lag=2.0), cuts=[], phase_cuts=[1.0, 2.5]
    )
    spent = (
        person_time.table["person_time"].sel(endpoint="os").sum(("interval", "pattern")).to_series()
    )
    # From 2 + 2 on, then from 2 + 2.5 on; until then the first phase, from 1 on.
    assert spent.to_dict() == {
        "before first": 2.0,
        "first": 3.0 + 8.0,
        "second 1 to 2.5": 0.5,
        "second from 2.5": 4.5,
    }


def state_at(found: Course, time: float, cohort: Cohort, patient: int) -> int:
    """The state of one patient: the last mark that has been reached counts."""
    state = 0
    for mark in found.marks:
        if mark.kind == "transplant":
            assert cohort.transplant is not None
            moment = cohort.transplant[patient]
        else:
            times = cohort.phase_start if mark.kind == "start" else cohort.phase_end
            moment = times[patient, mark.phase]
        if moment + mark.offset < time:
            state = mark.state
    return state


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.sampled_from([None, (1,), (1, 3)]))
def test_marks_are_those_of_the_episodes(case: Case, pieces: tuple[int, ...] | None) -> None:
    """In the middle of every piece of anybody's time at risk; times tie with everything here."""
    assume(case.counted.comparable())
    cohort, question = case.cohort(), case.asked()
    phase_cuts = None if pieces is None else np.array([case.unit * piece for piece in pieces])
    found = course_of(cohort, question, phase_cuts)
    for cut in find_episodes(cohort, question, phase_cuts).values():
        assert cut.phases == found.states
        assert cut.phase_names == found.phase_names
        assert cut.since == pytest.approx(found.since)
        for patient, phase, begin, stop in zip(
            cut.patient, cut.phase, cut.start, cut.stop, strict=True
        ):
            assert state_at(found, (begin + stop) / 2, cohort, patient) == phase


def test_reasons_are_told_in_their_order() -> None:
    """One patient for each, and one for whom several apply: the first of them is told."""
    table = pd.DataFrame(
        [
            # id, time, entry, first, second, transplant
            ("used", 9.0, 0.0, 1.0, 4.0, np.nan),
            ("plain", 9.0, 0.0, 1.0, np.nan, np.nan),
            ("unseen", np.nan, np.nan, 1.0, np.nan, np.nan),
            ("never", 9.0, 0.0, np.nan, np.nan, np.nan),
            ("at its end", 2.0, 0.0, 2.0, np.nan, np.nan),
            ("early", 2.5, 0.0, 1.0, np.nan, np.nan),
            ("at the landmark", 3.0, 0.0, 1.0, np.nan, np.nan),
            ("late", 9.0, 3.5, 1.0, np.nan, np.nan),
            ("in time", 9.0, 3.0, 1.0, np.nan, np.nan),
            ("transplanted", 9.0, 0.0, 1.0, np.nan, 2.0),
            ("never and early", 2.0, 0.0, np.nan, np.nan, 1.0),
            ("late and transplanted", 9.0, 3.5, 1.0, np.nan, 2.0),
        ],
        columns=["id", "time", "entry", "one", "two", "transplant"],
    ).assign(event=1, other=10.0)
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="event", entry="entry"),
            "other": bb.Endpoint(time="other", event="event"),
        },
        phases=bb.Phases(first="one", second="two"),
        transplant="transplant",
    )
    question = bb.Question(
        exposed="second",
        eligible_from="first",
        landmark=3.0,
        transplant="censor",
        endpoints=("os",),
    )
    found = bb.person_time(cohort, question, cuts=[]).left_out
    assert {one.reason: set(one.patients) for one in found} == {
        "never under observation for this endpoint": {"unseen"},
        "never reached first": {"never", "never and early"},
        "follow-up ended by the start of eligibility": {"at its end"},
        "follow-up ended by the landmark": {"early", "at the landmark"},
        "came under observation after the landmark": {"late", "late and transplanted"},
        "transplanted by the start of eligibility or the landmark": {"transplanted"},
    }
    # The last one is of events that are found at visits.
    assert [one.reason for one in found] == list(reasons(question))[:-1]
