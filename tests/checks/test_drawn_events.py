"""Events drawn from hazards and random numbers that are written down."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks import replicates
from bayesblina.checks.replicates import Drawer, PotentialTime, draw_courses, first_event, flow_of
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE, DEATH_IN_REMISSION, RELAPSE
from bayesblina.hazards.log_hazards import LogHazard
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.transitions import TRANSITIONS

# Two patients in two and three parts.
FLOW = PotentialTime(
    patient=np.array([0, 0, 1, 1, 1]),
    first=np.array([True, False, True, False, False]),
    interval=np.array([0, 1, 0, 1, 1]),
    state=np.array([0, 1, 0, 0, 1]),
    length=np.array([2.0, 3.0, 1.0, 1.0, 1.0]),
)
RATE = np.array([0.5, 1.0, 0.2, 0.0, 2.0])


class Numbers:
    """Gives the numbers that are written down, in their order."""

    def __init__(self, exponential: list[list[float]], uniform: list[list[float]]) -> None:
        self.left, self.uniform = list(exponential), list(uniform)

    def exponential(self, *, size: int) -> Any:
        values = self.left.pop(0)
        assert len(values) == size
        return np.array(values)

    def random(self, size: int) -> Any:
        values = self.uniform.pop(0)
        assert len(values) == size
        return np.array(values)


def numbers(exponential: list[list[float]], uniform: list[list[float]] | None = None) -> Any:
    return Numbers(exponential, uniform or [])


@pytest.mark.parametrize(
    ("targets", "died", "length"),
    [
        # Hazards pass 1 and 4, and 0.2, 0.2 and 2.2: both have their events late.
        ([2.5, 1.2], [0, 1, 0, 0, 1], [2.0, 1.5, 1.0, 1.0, 0.5]),
        # In their first parts; nobody is at risk after the event.
        ([0.25, 0.1], [1, 0, 1, 0, 0], [0.5, 0.0, 0.5, 0.0, 0.0]),
        # Neither: at risk all the time.
        ([4.5, 2.5], [0, 0, 0, 0, 0], [2.0, 3.0, 1.0, 1.0, 1.0]),
        # Just at the end of a part: that one's, and no second event.
        ([1.0, 0.2], [1, 0, 1, 0, 0], [2.0, 0.0, 1.0, 0.0, 0.0]),
    ],
)
def test_one_event_at_most(targets: list[float], died: list[int], length: list[float]) -> None:
    found, spent = first_event(FLOW, RATE, numbers([targets]))
    assert found.tolist() == died
    assert found.dtype == np.float64
    np.testing.assert_allclose(spent, length, rtol=1e-12)


def test_relapse_then_death() -> None:
    """The second patient's hazards are of relapse alone at first, and of death alone at last."""
    relapse = np.array([0.3, 0.6, 0.2, 0.0, 0.0])
    remission = np.array([0.2, 0.4, 0.0, 0.0, 2.0])
    after = np.array([1.0, 0.5, 1.0, 3.0, 4.0])
    # Both end remission as with RATE, the first in its second part, of whose events 60 % relapse.
    for uniform, relapsed in ((0.59, 1.0), (0.61, 0.0)):
        given = numbers([[2.5, 0.1], [0.5, 2.0]], [[0.9, uniform, 0.99, 0.0, 0.0]])
        one, two, three = draw_courses(FLOW, relapse, remission, after, given)
        assert one[0].tolist() == [0, relapsed, 1, 0, 0]
        assert two[0].tolist() == [0, 1 - relapsed, 0, 0, 0]
        for _, spent in (one, two):
            np.testing.assert_allclose(spent, [2.0, 1.5, 0.5, 0.0, 0.0])
        # After a relapse at 1.5 of 3 the first passes 0.75 of 0.5; the second 0.5 and 1.5 of 2.
        assert three[0].tolist() == [0, relapsed, 0, 1, 0]
        np.testing.assert_allclose(three[1], [0.0, relapsed, 0.5, 0.5, 0.0])


def test_nothing_happens_without_hazards() -> None:
    nothing = np.zeros(5)
    found = draw_courses(FLOW, nothing, nothing, nothing, numbers([[1, 1], [1, 1]], [[0.0] * 5]))
    for died, _ in found:
        assert not died.any()
    assert found[0][1].tolist() == FLOW.length.tolist()
    assert not found[2][1].any()


def hazard(shared: Any, pattern: Any, cured: Any = None) -> LogHazard:
    """Of two classes, two intervals and two states, in two draws; the second one counts."""
    values = np.log(np.asarray(shared, dtype=np.float64))
    shared = np.stack([np.full(values.shape, 9.0), values])
    pattern = np.log(np.asarray(pattern, dtype=np.float64))
    return LogHazard(
        shared=shared,
        ratio=np.zeros(shared.shape),
        pattern=np.stack([np.full(pattern.shape, 7.0), pattern]),
        class_of=np.array([0, 1, 1]),
        cured=None if cured is None else np.stack([np.full(len(cured), 50.0), cured]),
    )


def drawer(hazards: list[LogHazard], endpoints: tuple[str, ...], *, course: bool) -> Drawer:
    """Two patients, of patterns 2 and 0, who come to the same end; a third is never at risk."""
    person_time: Any = SimpleNamespace(
        endpoints=endpoints,
        table=xr.Dataset({"person_time": (tuple("abcd"), np.zeros((len(endpoints), 2, 2, 3)))}),
        people=xr.Dataset(
            {
                "pattern": ("patient", [2, 0, 1]),
                "exit": (("endpoint", "patient"), [[5.0, 3.0, np.nan]] * len(endpoints)),
            }
        ),
    )
    flows = (FLOW,) if course else (FLOW,) * len(endpoints)
    return Drawer(person_time=person_time, hazards=tuple(hazards), flows=flows, course=course)


CLASS = [[[0.5, 7.0], [3.0, 1.0]], [[0.25, 7.0], [7.0, 0.5]]]


def test_hazards_of_parts() -> None:
    """By class, interval and state; relative ones by pattern, or one for all."""
    found = drawer([hazard(CLASS, [0.4, 9.0, 2.0])], ("os",), course=False)
    # The first is of class 1, twice; the second of class 0.
    np.testing.assert_allclose(found._rate(0, 1, FLOW), [0.5, 1.0, 0.2, 1.2, 0.4])
    found = drawer([hazard(CLASS, [2.0])], ("os",), course=False)
    np.testing.assert_allclose(found._rate(0, 1, FLOW), [0.5, 1.0, 1.0, 6.0, 2.0])


def test_events_and_time_of_independent_endpoints() -> None:
    one, other = hazard(CLASS, [0.4, 9.0, 2.0]), hazard(CLASS, [1.0, 9.0, 1.0])
    found = drawer([one, other], ("os", "rfs"), course=False)
    drawn = found.draw(1, numbers([[2.5, 9.0], [0.125, 1.0]]))
    # Survival: the first dies at 3.5 in interval 1 and state 1.
    events, time = np.zeros((2, 2, 2, 3)), np.zeros((2, 2, 2, 3))
    events[0, 1, 1, 2] = 1.0
    time[0, 0, 0, 2], time[0, 1, 1, 2] = 2.0, 1.5
    time[0, 0, 0, 0], time[0, 1, 0, 0], time[0, 1, 1, 0] = 1.0, 1.0, 1.0
    # The other: after 0.5 in its first part, and after 1 + 0.5 / 3 in the second.
    events[1, 0, 0, 2] = events[1, 1, 0, 0] = 1.0
    time[1, 0, 0, 2], time[1, 0, 0, 0], time[1, 1, 0, 0] = 0.5, 1.0, 0.5 / 3.0
    np.testing.assert_allclose(drawn.events, events)
    np.testing.assert_allclose(drawn.time, time, atol=1e-12)
    assert drawn.survived.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_the_cured_never_have_the_event() -> None:
    """Odds of 1 to 3 in the first patient's pattern, 3 to 1 in the second's."""
    cured = hazard(CLASS, [0.4, 9.0, 2.0], cured=np.log([3.0, 1.0, 1.0 / 3.0]))
    found = drawer([cured], ("os",), course=False)
    for uniform, who in (([0.24, 0.76, 0.0], [0, 1]), ([0.26, 0.74, 0.0], [1, 0])):
        drawn = found.draw(1, numbers([[1e-6, 1e-6]], [uniform]))
        assert drawn.events.sum(axis=(0, 1, 2)).tolist() == [who[1], 0, who[0]]
        assert drawn.survived.tolist() == [[1 - who[0], 1 - who[1], 0]]


def test_events_and_time_of_courses() -> None:
    """Endpoints in an order of their own: each keeps its hazards and its place."""
    names = (DEATH_AFTER_RELAPSE, RELAPSE, DEATH_IN_REMISSION)
    flat = np.ones((2, 2, 2))
    hazards = [hazard(rate * flat, [1.0, 1.0, 1.0]) for rate in (0.8, 0.3, 0.2)]
    found = drawer(hazards, names, course=True)
    # Remission ends at 0.5 / 0.5 = 1 with a relapse, of 60 %; and at 0.25 / 0.5 = 0.5 with death.
    given = numbers([[0.5, 0.25], [0.6, 9.0]], [[0.59, 0.9, 0.61, 0.9, 0.9]])
    drawn = found.draw(1, given)
    events, time = np.zeros((3, 2, 2, 3)), np.zeros((3, 2, 2, 3))
    # The first relapses at 1 and dies 0.75 later, in the first part too.
    events[0, 0, 0, 2] = events[1, 0, 0, 2] = events[2, 0, 0, 0] = 1.0
    time[0, 0, 0, 2] = 0.75
    time[1:, 0, 0, 2], time[1:, 0, 0, 0] = 1.0, 0.5
    np.testing.assert_allclose(drawn.events, events)
    np.testing.assert_allclose(drawn.time, time, atol=1e-12)
    assert drawn.survived.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]


def person_time_of(**options: Any) -> PersonTime:
    """b relapses at 4 and dies at 9; a enters m at 2."""
    table = pd.DataFrame(
        {
            "id": ["b", "a"],
            "os": [9.0, 10.0],
            "died": [1, 0],
            "rfs": [4.0, 10.0],
            "failed": [1, 0],
            "m": [6.0, 2.0],
        }
    )
    later = table.assign(id=["c", "d"], died=1, failed=1, m=[1.0, np.nan])
    cohort = bb.read_cohort(
        pd.concat([table, later]),
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="failed"),
        },
        phases=bb.Phases(m="m"),
    )
    question = bb.Question(exposed="m", eligible_from="entry")
    return bb.person_time(cohort, question, cuts=[5.0], **options)


def test_parts_of_follow_up() -> None:
    flow = flow_of(person_time_of(), ("os",))
    assert flow.patient.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    assert np.flatnonzero(flow.first).tolist() == [0, 3, 6, 9]
    assert flow.interval.tolist() == [0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 1]
    assert flow.state.tolist() == [0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 0]
    assert flow.length.tolist() == [5, 1, 3, 2, 3, 5, 1, 4, 4, 5, 5]
    assert flow_of(person_time_of(), ("rfs",)).length[:1].tolist() == [4]


def test_parts_of_a_course_are_remission_and_what_follows() -> None:
    """b's remission to 4 and the time after the relapse: no time twice."""
    flow = flow_of(person_time_of(courses=("os", "rfs")), TRANSITIONS)
    mine = flow.patient == 0
    assert flow.length[mine].tolist() == [4, 1, 1, 3]
    assert flow.state[mine].tolist() == [0, 0, 0, 1]
    assert flow.first[mine].tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("model", "courses", "flows"), [("primary", None, 2), ("illness_death", ("os", "rfs"), 1)]
)
def test_what_is_drawn_from(
    monkeypatch: pytest.MonkeyPatch, model: str, courses: Any, flows: int
) -> None:
    asked = []

    def log_hazard(truth: Any, design: Any, *, endpoint: str) -> str:
        asked.append((truth, design))
        return f"hazard of {endpoint}"

    monkeypatch.setattr(replicates, "log_hazard", log_hazard)
    person_time, built, truth = person_time_of(courses=courses), SimpleNamespace(design="d"), "t"
    found = Drawer.of(bb.load_model(model), person_time, built, truth)  # type: ignore[arg-type]
    assert found.person_time is person_time
    hazards: tuple[Any, ...] = found.hazards
    assert hazards == tuple(f"hazard of {name}" for name in person_time.endpoints)
    assert set(asked) == {("t", "d")}
    assert found.course is (flows == 1)
    assert len(found.flows) == flows
    parts = [TRANSITIONS] if flows == 1 else [("os",), ("rfs",)]
    for flow, names in zip(found.flows, parts, strict=True):
        expected = flow_of(person_time, names)
        np.testing.assert_array_equal(flow.length, expected.length)
        np.testing.assert_array_equal(flow.state, expected.state)
