"""Events found at visits: what is known of each patient, against a loop over patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.question import StartsUntil
from bayesblina.person_time.visits import Gaps, StartCells, choose_start_cells, cut_gaps
from tests.visits import at_visits, cohort_of

# An event found at 12 after a start at 8; one without a start; no event and a start after the last
# visit; no event.
TABLE = pd.DataFrame(
    {
        "id": ["p", "q", "r", "s"],
        "t": [12.0, 12.0, 10.0, 10.0],
        "e": [1, 1, 0, 0],
        "last": [6.0, 6.0, 6.0, 6.0],
        "m": [8.0, np.nan, 9.0, np.nan],
    }
)


def question(starts_until: Any = "found", lag: float = 0.0) -> bb.Question:
    return bb.Question(exposed="m", eligible_from="c", starts_until=starts_until, lag=lag)


def one(**columns: float | None) -> bb.Cohort:
    """Make a cohort of the patient of whom a test speaks, and of two whom it does not."""
    rows = [
        {"id": "p", "c": 1.0, "m": None, "t": 12.0, "e": 1, "last": 6.0} | columns,
        {"id": "q", "c": 0.5, "m": 2.0, "t": 9.0, "e": 1, "last": 3.0},
        {"id": "r", "c": 0.5, "m": None, "t": 20.0, "e": 0, "last": 18.0},
    ]
    return cohort_of(pd.DataFrame(rows))


def known_of(cohort: bb.Cohort, starts_until: str) -> tuple[list[float], list[float]]:
    """Find when the first patient's exact time and gap begin and end."""
    own = find_episodes(cohort, question(starts_until))["y"]
    assert own.gaps is not None
    exact, gap = own.patient == 0, own.gaps.patient == 0
    return (
        [float(x) for x in (*own.start[exact][:1], *own.stop[exact][-1:])],
        [float(x) for x in (*own.gaps.start[gap][:1], *own.gaps.stop[gap][-1:])],
    )


@pytest.mark.parametrize("mechanism", ["found", "event"])
def test_an_event_lies_between_two_visits(mechanism: str) -> None:
    assert known_of(one(), mechanism) == ([1.0, 6.0], [6.0, 12.0])


def test_a_start_proves_that_there_was_no_event_where_nobody_starts_after_it() -> None:
    assert known_of(one(m=8.0), "found") == ([1.0, 6.0], [6.0, 12.0])
    assert known_of(one(m=8.0), "event") == ([1.0, 8.0], [8.0, 12.0])
    assert known_of(one(m=4.0), "event") == ([1.0, 6.0], [6.0, 12.0])


def test_who_becomes_eligible_is_event_free_then() -> None:
    assert known_of(one(last=0.2), "found") == ([], [1.0, 12.0])
    assert known_of(one(last=None), "event") == ([], [1.0, 12.0])


def test_exact_events_and_the_event_free() -> None:
    assert known_of(one(last=12.0), "found") == ([1.0, 12.0], [])
    assert known_of(one(e=0, last=7.0), "found") == ([1.0, 7.0], [])
    # Of others nobody would know whether they started: the start tells nothing.
    assert known_of(one(e=0, last=7.0, m=9.0), "event") == ([1.0, 7.0], [])
    own = find_episodes(one(e=0, last=None), question())["y"]
    reasons = {left.reason: left.patients for left in own.left_out}
    assert reasons == {"at no visit since the start of eligibility": ("p",)}


def test_deaths_among_relapses_are_exact() -> None:
    table = pd.DataFrame(
        {
            **{"id": ["a", "b"], "c": [0.0, 0.0], "m": [2.0, None], "t": [12.0, 9.0]},
            **{"e": [1, 1], "last": [6.0, 6.0], "os": [12.0, 15.0], "died": [1, 0]},
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        phases=bb.Phases(c="c", m="m"),
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="t", event="e", last_negative="last", includes=["os"]),
        },
    )
    last = cohort.endpoints["rfs"].last_negative
    assert last is not None
    assert last.tolist() == [12.0, 6.0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), mechanism=st.sampled_from(["found", "event"]))
def test_person_time_is_a_loops(seed: int, mechanism: str) -> None:
    table = at_visits(seed=seed, size=12, every=6.0, mechanism=mechanism)
    if not table["m"].notna().any() or not table["e"].any():
        return
    cuts = np.array([3.0, 10.0])
    try:
        table_of = bb.person_time(cohort_of(table), question(mechanism), cuts=cuts)
    except DataError:
        return
    visits = table_of.visits
    assert visits is not None
    time = np.zeros((3, 2))
    gaps: dict[tuple[int, int], float] = {}
    found = 0
    row: Any
    for row in table.itertuples():
        start = np.inf if np.isnan(row.m) else row.m
        free = max(row.last, row.c)
        if mechanism == "event" and row.e and row.c < start < row.t:
            free = max(free, start)
        for low, high, is_gap in ((row.c, free, False), (free, row.t, bool(row.e))):
            if is_gap and high > low:
                found += 1
            for j, (left, right) in enumerate(((0, 3), (3, 10), (10, np.inf))):
                for k, (begin, end) in enumerate(((0.0, start), (start, np.inf))):
                    length = min(high, right, end) - max(low, left, begin)
                    if length <= 0:
                        continue
                    if is_gap:
                        place = (found - 1, j * 2 + k)
                        gaps[place] = gaps.get(place, 0.0) + length
                    elif low < free:
                        time[j, k] += length
    phases = table_of.table["phase"].values.tolist()
    assert phases == ["c", "m"]
    np.testing.assert_allclose(visits["person_time"].values[0, :, :, 0], time, rtol=1e-9)
    assert visits["events"].values.sum() == 0
    told: dict[tuple[int, int], float] = {}
    parts = zip(
        *(visits[name].values.tolist() for name in ("part_found", "part_cell", "part_length")),
        strict=True,
    )
    for event, cell, length in parts:
        told[event, cell] = told.get((event, cell), 0.0) + length
    assert told == pytest.approx(gaps, rel=1e-9)
    assert float(table_of.table["events"].sum()) == pytest.approx(found, rel=1e-9)


def test_starts_and_time_at_risk_of_them_are_counted_by_hand() -> None:
    cells = StartCells(position=np.array([[0, 1], [-1, -1]]), cuts=np.array([4.0]))
    assert cells.size == 2
    assert cells.labels(["c", "m"]) == ["c, 0 to 4", "c, 4 on"]
    table_of = bb.person_time(one(m=8.0), question("event"))
    visits = table_of.visits
    assert visits is not None
    # Patients start after 7 and 1.5 in c; the third is at risk of it until the last visit.
    assert visits["start_events"].values.sum() == 2
    assert visits["start_time"].values.sum() == pytest.approx(7.0 + 1.5 + 17.5)
    none = choose_start_cells(np.empty(0), np.empty(0, dtype=np.int64), 2)
    assert none.size == 0


def test_cutting_gaps_keeps_their_length() -> None:
    table_of = bb.person_time(one(m=8.0), question("event"), cuts=[7.0, 10.0])
    held = table_of.patients()
    rows = held.episodes.isel(episode=np.flatnonzero(held.episodes["gap"].values))
    whole = float((rows["stop"] - rows["start"]).sum())
    cut = cut_gaps(rows, held.people["begin"].values, table_of.cuts, 2, None)
    assert float(cut["part_length"].sum()) == pytest.approx(whole)


def test_cut_points_are_not_closer_than_visits() -> None:
    table = at_visits(seed=1, size=400, every=6.0, mechanism="found")
    cuts = bb.person_time(cohort_of(table), question()).cuts
    np.testing.assert_allclose(cuts, [6.0, 12.0, 18.0, 24.0, 30.0])
    # An exact endpoint has its own, and shares no hazard with the gaps.
    table["ot"], table["oe"] = np.random.default_rng(1).uniform(36.0, 60.0, 400), 1
    both = bb.person_time(cohort_of(table, exact=("ot", "oe")), question())
    assert both.cuts.size > 12
    visits = both.visits
    assert visits is not None
    assert len(np.unique(visits["interval_group"].values[0])) == 6
    assert len(np.unique(visits["interval_group"].values[1])) == both.cuts.size + 1


def test_of_time_after_the_last_visit_the_share_of_exact_events_counts() -> None:
    """One of two events is exact: half of the time since, of who has none."""
    table = pd.DataFrame(
        {
            **{"id": ["p", "q", "r"], "c": [0.0, 0.0, 0.0], "m": [2.0, None, None]},
            **{"t": [10.0, 12.0, 10.0], "e": [1, 1, 0], "last": [10.0, 6.0, 6.0]},
        }
    )
    own = find_episodes(cohort_of(table), question())["y"]
    assert own.stop[own.patient == 2].tolist() == [8.0]
    assert own.stop[own.patient == 1].tolist() == [6.0]
    account = cohort_of(table).account().table
    assert account["what"].str.contains("the share of the time since").sum() == 1


def test_deaths_after_the_last_visit_leave_the_ratio() -> None:
    """Half of the events are deaths, follow-up ends between yearly visits, and the truth is 0.5.

    Were deaths after the last visit counted over no time, the ratio would be some 0.57; its log has
    a standard error of some 0.02 here.
    """
    rng, size, every = np.random.default_rng(1), 40_000, 12.0
    start, true = rng.exponential(20.0, (2, size))
    true = np.where(true > start, start + (true - start) / 0.5, true)
    end, dies = rng.uniform(12.0, 48.0, size), rng.random(size) < 0.5
    found = np.where(dies, true, np.ceil(true / every) * every)
    event = found <= end
    # Nobody comes to a visit after a relapse that was seen at none.
    seen = np.floor(np.minimum(end, true) / every) * every
    time = np.where(event, found, end)
    last = np.where(event & dies, time, seen)
    table = pd.DataFrame(
        {
            **{"id": np.arange(size).astype(str), "c": np.zeros(size), "t": time},
            **{"m": np.where(start < time, start, np.nan), "e": event.astype(int)},
            "last": np.where(last > 0, last, np.nan),
        }
    )
    held = bb.person_time(cohort_of(table), question(), cuts=[])
    visits = held.visits
    assert visits is not None
    exposed = held.table["role"].values == "exposed"
    events, at_risk = (values[0].sum(axis=(0, 2)) for values in held.counted)
    cell, event_of = visits["part_cell"].values, visits["part_found"].values

    def minus_log_likelihood(parameters: NDArray[np.float64]) -> float:
        hazard = np.exp(parameters[0] + parameters[1] * exposed)
        gaps = np.bincount(event_of, hazard[cell % exposed.size] * visits["part_length"].values)
        total = events @ np.log(hazard) - at_risk @ hazard + np.log(-np.expm1(-gaps)).sum()
        return float(-total / size)

    fitted = minimize(minus_log_likelihood, [-3.0, 0.0], method="BFGS").x
    assert fitted[1] == pytest.approx(np.log(0.5), abs=0.065)
    assert np.exp(fitted[0]) == pytest.approx(0.05, rel=0.04)


def test_transplants_censor_nobody() -> None:
    table = at_visits(seed=1, size=30, every=6.0, mechanism="found").assign(sct=np.nan)
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        phases=bb.Phases(c="c", m="m"),
        endpoints={"y": bb.Endpoint(time="t", event="e", last_negative="last")},
        transplant="sct",
    )
    asked = bb.Question(exposed="m", eligible_from="c", starts_until="found", transplant="censor")
    with pytest.raises(SpecError, match="Ask with transplant='phase'"):
        bb.person_time(cohort, asked)


def test_exact_events_alone_need_no_gaps() -> None:
    table = at_visits(seed=2, size=40, every=6.0, mechanism="found")
    table["last"] = table["t"]
    exact = bb.person_time(cohort_of(table), question(), cuts=[12.0])
    assert exact.visits is None
    assert int(exact.table["events"].sum()) == int(table["e"].sum())


def test_events_spread_evenly() -> None:
    gaps = Gaps(
        patient=np.array([3, 3, 5]),
        phase=np.array([0, 1, 0]),
        start=np.array([0.0, 4.0, 1.0]),
        stop=np.array([4.0, 8.0, 3.0]),
    )
    shares, time = gaps.spread()
    np.testing.assert_allclose(shares, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(time, [3.0, 1.0, 1.0])
    assert gaps.events == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"starts_until": None}, "say until when phases may start"),
        ({"landmark": 3.0}, "leave the Question's landmark out"),
    ],
)
def test_what_must_be_said(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        bb.person_time(
            one(),
            bb.Question(**{"exposed": "m", "eligible_from": "c", "starts_until": "found"} | asked),
        )


def test_impossible_questions_and_declarations() -> None:
    with pytest.raises(SpecError, match="'found' or 'event'"):
        question("visit")
    with pytest.raises(SpecError, match="leave out lag"):
        question("event", lag=1.0)
    with pytest.raises(SpecError, match="last_negative is for events that are found at visits"):
        bb.Endpoint(time="t", event="e", recorded="exact", last_negative="last")
    with pytest.raises(DataError, match="a visit without the event after the end of follow-up"):
        one(last=13.0)
    exact = bb.Endpoint(time="t", event="e")
    table = at_visits(seed=1, size=30, every=6.0, mechanism="found")
    cohort = bb.read_cohort(
        table, patient="id", unit="months", phases=bb.Phases(c="c", m="m"), endpoints=exact
    )
    with pytest.raises(SpecError, match="none here is"):
        bb.person_time(cohort, question())


@pytest.mark.parametrize("mechanism", ["found", "event"])
def test_known_time_ends_with_the_last_visit_but_where_a_start_proves_more(
    mechanism: StartsUntil,
) -> None:
    """Nobody without an event is known longer for a start that others do not have."""
    cohort = bb.read_cohort(
        TABLE,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e", last_negative="last")},
        phases=bb.Phases(m="m"),
    )
    question = bb.Question(exposed="m", eligible_from="entry", starts_until=mechanism)
    own = find_episodes(cohort, question)["y"]
    known = list(zip(own.patient.tolist(), own.start.tolist(), own.stop.tolist(), strict=True))
    proven = 8.0 if mechanism == "event" else 6.0
    assert known == [(0, 0.0, proven), (1, 0.0, 6.0), (2, 0.0, 6.0), (3, 0.0, 6.0)]
    assert own.gaps is not None
    parts = list(
        zip(
            own.gaps.patient.tolist(),
            own.gaps.phase.tolist(),
            own.gaps.start.tolist(),
            own.gaps.stop.tolist(),
            strict=True,
        )
    )
    crossing = [(0, 1, 8.0, 12.0), (1, 0, 6.0, 12.0)]
    before = [] if mechanism == "event" else [(0, 0, 6.0, 8.0)]
    assert parts == [*before, *crossing]
