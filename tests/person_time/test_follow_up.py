"""Time at risk, cut by hand: what enters, what is late, where pieces end, who is accounted for."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.inference.model_data import hazard_before_observation
from bayesblina.patients.account import Line
from bayesblina.person_time.contents import Contents, require_contents
from bayesblina.person_time.follow_up import (
    Episodes,
    LeftOut,
    account_of,
    effect_kinds,
    entry_times,
    find_episodes,
    late_begins,
    roles_of,
)

QUESTION = bb.Question(exposed="late", eligible_from="entry")
STATES = ("before early", "early", "late")


def episodes(*rows: tuple[int, int, float, float, bool], endpoint: str = "os") -> Episodes:
    """Patient, state, start, stop and event of each."""
    patient, phase, start, stop, event = (np.array(column) for column in zip(*rows, strict=True))
    return Episodes(
        endpoint=endpoint,
        patient=patient,
        phase=phase,
        start=start,
        stop=stop,
        event=event,
        phases=STATES,
        phase_names=STATES,
        since=(0.0, 0.0, 0.0),
        left_out=(LeftOut(endpoint=endpoint, reason="never seen", patients=("a",)),),
        time_at_risk=float((stop - start).sum()),
        events=int(event.sum()),
    )


# The first patient of the cohort does not contribute; the second is the first who does.
COURSE = episodes(
    (1, 0, 0.5, 1.0, False),
    (1, 1, 1.0, 3.0, False),
    (1, 2, 3.0, 9.0, True),
    (2, 2, 2.0, 4.0, False),
    (3, 0, 0.5, 6.0, True),
)


def test_entries_are_changes_of_effect_within_a_patient() -> None:
    early, late, begins = entry_times({"os": COURSE}, QUESTION)
    # "before early" and "early" are both the reference: nobody enters it, and one leaves it.
    assert early.tolist() == []
    assert late.tolist() == [3.0]
    # The earliest begin is nobody's late one.
    assert begins.tolist() == [2.0]
    both = entry_times({"os": COURSE, "rfs": COURSE}, QUESTION)
    assert [one.tolist() for one in both] == [[], [3.0, 3.0], [2.0, 2.0]]
    # With a reference of its own the state before is a third kind.
    asked = bb.Question(exposed="late", eligible_from="entry", reference="early")
    assert effect_kinds(STATES, asked) == (1, 0, 2)
    found = entry_times({"os": COURSE}, asked)
    assert [one.tolist() for one in found] == [[1.0], [], [3.0], [2.0]]


@pytest.mark.parametrize(
    ("begins", "late"),
    [
        ([1.0, 1.0, 1.5], [1.5]),
        ([3.0, 3.0 * (1.0 + 1e-12), 3.0 * (1.0 + 1e-6)], [3.0 * (1.0 + 1e-6)]),
        ([0.0, 0.0], []),
        ([], []),
    ],
)
def test_late_is_after_the_earliest(begins: list[float], late: list[float]) -> None:
    assert late_begins(np.array(begins)).tolist() == late


def cut(
    cuts: list[float],
    *patients: dict[str, float],
    exposed: str = "late",
    unit: str = "months",
) -> Episodes:
    """Time at risk with time in a phase cut; each patient's stop, and early, late or entry."""
    table = pd.DataFrame(
        [{"early": np.nan, "late": np.nan, "entry": 0.0} | one for one in patients]
    )
    cohort = bb.read_cohort(
        table.assign(id=[f"p{row}" for row in range(len(table))], event=1),
        patient="id",
        unit=unit,
        endpoints={"os": bb.Endpoint(time="stop", event="event", entry="entry")},
        phases=bb.Phases(early="early", late="late"),
    )
    question = bb.Question(exposed=exposed, eligible_from="entry")
    return find_episodes(cohort, question, np.array(cuts))["os"]


def rows_of(found: Episodes) -> list[tuple[object, ...]]:
    """Patient, state, start, stop and event."""
    columns = (found.patient, found.phase, found.start, found.stop, found.event)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_pieces_of_a_phase() -> None:
    found = cut(
        [2.0, 4.0],
        {"entry": 0.5, "early": 1.0, "late": 3.0, "stop": 9.0},
        {"entry": 2.0, "late": 2.0, "stop": 4.0},
        {"entry": 0.5, "stop": 6.0},
    )
    assert rows_of(found) == [
        (0, 0, 0.5, 1.0, False),
        (0, 1, 1.0, 3.0, False),
        (0, 2, 3.0, 5.0, False),
        (0, 3, 5.0, 7.0, False),
        (0, 4, 7.0, 9.0, True),
        # At its cut a piece ends, and nothing is left for the next.
        (1, 2, 2.0, 4.0, True),
        (2, 0, 0.5, 6.0, True),
    ]
    assert found.since == (0.0, 0.0, 0.0, 2.0, 4.0)
    assert found.phase_names == ("before early", "early", "late", "late", "late")
    # States after the phase move up.
    found = cut([2.0], {"entry": 1.0, "early": 1.0, "late": 4.0, "stop": 6.0}, exposed="early")
    assert found.phases == ("before early", "early 0 to 2", "early from 2", "late")
    assert found.phase.tolist() == [1, 2, 3]
    assert found.start.tolist() == [1.0, 3.0, 4.0]


def test_a_cut_just_before_the_end_of_follow_up_is_at_it() -> None:
    """Less than a hundredth of a day, 0.0003 months; only of the last stay, and of each patient."""
    for apart, parts in ((2e-4, 1), (1e-3, 2)):
        stop = 4.0 + apart
        patient = {"entry": 1.0, "late": 1.0, "stop": stop}
        found = cut([3.0], patient, {"entry": 1.0, "stop": stop}, patient)
        assert found.patient.tolist() == [0] * parts + [1] + [2] * parts
        assert found.stop[found.event].tolist() == [stop] * 3
        # Who goes on to another state is not at the end.
        onward = {"entry": 1.0, "early": 1.0, "late": stop, "stop": 8.0}
        assert cut([3.0], onward, exposed="early").phase.tolist() == [1, 2, 3]


def test_cuts_that_stays_meet_by_rounding_leave_nothing() -> None:
    met = 0.1 + 0.2
    assert met > 0.3
    # A stay that ends at the cut but for rounding; the patient goes on to another state.
    found = cut(
        [0.2 - 1e-12], {"entry": 0.1, "early": 0.1, "late": met, "stop": 4.0}, exposed="early"
    )
    assert found.phase.tolist() == [1, 3]
    assert found.stop.tolist() == pytest.approx([0.3, 4.0])
    # One that begins at it: long, and so is what counts as rounding.
    long = {"entry": 3_000.0, "late": 1_000.0, "stop": 4_000.0}
    assert rows_of(cut([2_000.0 + 1e-6], long, unit="days")) == [(0, 3, 3_000.0, 4_000.0, True)]
    assert len(cut([2_000.0 + 1e-5], long, unit="days").start) == 2
    # And one that is short: less is rounding.
    short = {"entry": 0.003, "early": 0.001, "late": 0.004, "stop": 4.0}
    assert len(cut([0.002 + 1e-10], short, exposed="early").start) == 3
    assert len(cut([0.003 - 1e-10], short, exposed="early").start) == 3


def test_no_hazard_passes_where_nobody_is_seen() -> None:
    table = pd.DataFrame({"id": ["a", "b"], "time": [4.0, 9.0], "event": 1, "start": np.nan})
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
    )
    question = bb.Question(exposed="late", eligible_from="late")
    assert hazard_before_observation(cohort, question) == {"os": 0.0}


def test_what_states_are_to_a_question() -> None:
    names = ["before", "early", "late", "transplant"]
    assert roles_of(names, QUESTION) == ["reference", "reference", "exposed", "other"]
    asked = bb.Question(exposed="late", eligible_from="entry", reference="early")
    assert roles_of(names, asked) == ["other", "reference", "exposed", "other"]


def test_lines_of_an_account() -> None:
    ids = np.array(["a", "b", "c", "d"])
    roles = ["reference", "other", "exposed"]
    counted: Any = {"endpoint": "os", "step": "in phase"}
    assert account_of(COURSE, ids, roles) == [
        Line(step="left out", endpoint="os", what="never seen", patients=("a",)),
        Line(
            step="eligible",
            endpoint="os",
            what="at risk",
            patients=("b", "c", "d"),
            events=2,
            person_time=8.5 + 2.0 + 5.5,
        ),
        Line(
            **counted,
            phase="before early",
            what="reference",
            patients=("b", "d"),
            events=1,
            person_time=6.0,
        ),
        Line(**counted, phase="early", what="other", patients=("b",), events=0, person_time=2.0),
        Line(
            **counted, phase="late", what="exposed", patients=("b", "c"), events=1, person_time=8.0
        ),
    ]


@pytest.mark.parametrize(
    ("patients", "events", "visited", "message"),
    [
        (0, 0.0, (), "no patient is ever eligible"),
        (1, 1.0, ("exposed", "reference"), "only one patient is eligible"),
        (2, 0.0, ("exposed", "reference"), "no event among the eligible patients"),
        (2, 1.0, ("reference",), "no eligible patient has time in late"),
        (2, 1.0, ("exposed",), "no eligible patient has time outside late"),
        (2, 0.5, ("exposed", "reference"), None),
    ],
)
def test_there_must_be_something_to_compare(
    patients: int, events: float, visited: tuple[str, ...], message: str | None
) -> None:
    some = Contents(patients=2, events=1.0, visited=frozenset({"exposed", "reference"}))
    asked = Contents(patients=patients, events=events, visited=frozenset(visited))
    contents = {"rfs": some, "os": asked}
    if message is None:
        require_contents(contents, QUESTION)
        return
    with pytest.raises(DataError, match=message) as caught:
        require_contents(contents, QUESTION)
    assert [problem.column for problem in caught.value.problems] == ["os"]
    assert "There is nothing to compare" in caught.value.problems[0].expected
