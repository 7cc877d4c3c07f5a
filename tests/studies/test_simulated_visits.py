"""Synthetic patients whose events are found at visits: mechanisms, schedules, and exact twins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import truncnorm

from bayesblina.core.errors import SpecError
from bayesblina.person_time.question import StartsUntil
from bayesblina.studies.simulate import VisitSchedule, VisitTruth, visits_cohort, visits_tables

SIX = VisitSchedule(every=6.0)
MECHANISMS: tuple[StartsUntil, StartsUntil] = ("found", "event")


def both(truth: VisitTruth, patients: int = 3000) -> tuple[pd.DataFrame, pd.DataFrame]:
    return visits_tables(7, patients=patients, truth=truth)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_regular_visits_enclose_the_event(mechanism: StartsUntil) -> None:
    truth = VisitTruth(starts_until=mechanism, visits=SIX)
    recorded, exact = both(truth)
    event = recorded["event"] == 1
    found, time = recorded["months"], exact["months"]
    np.testing.assert_allclose(found[event], 6.0 * np.ceil(time[event] / 6.0))
    last = recorded["negative"].fillna(0.0)
    np.testing.assert_allclose(last[event], 6.0 * np.floor(time[event] / 6.0))
    # Follow-up of 36 months ends with a visit: nothing stays unseen.
    assert (recorded["event"] == exact["event"]).all()
    assert (last[~event] == 36.0).all()


def test_mechanisms_differ_only_in_starts_between_event_and_visit() -> None:
    until_found, until_event = (
        both(VisitTruth(starts_until=mechanism, visits=SIX))[0] for mechanism in MECHANISMS
    )
    exact = both(VisitTruth(starts_until="found", visits=SIX))[1]
    same = until_found.drop(columns="maintenance"), until_event.drop(columns="maintenance")
    pd.testing.assert_frame_equal(*same)
    late = until_found["maintenance"] >= exact["months"]
    assert 50 < late.sum() < 600
    assert (until_found["maintenance"] < until_found["months"])[late].all()
    pd.testing.assert_series_equal(until_event["maintenance"], exact["maintenance"])
    assert until_event["maintenance"].isna()[late].all()


def test_hazards_are_those_of_the_truth() -> None:
    """Events over time at risk in each piece and phase, within four standard errors."""
    truth = VisitTruth(
        starts_until="found", visits=SIX, hazards=(0.08, 0.03), cuts=(10.0,), log_hazard_ratio=-0.7
    )
    _, exact = both(truth, 20_000)
    begin, start = exact["consolidation"], exact["maintenance"].fillna(np.inf)
    stop, event = exact["months"], exact["event"] == 1
    for piece, (low, high) in enumerate(((0.0, 10.0), (10.0, 36.0))):
        for exposed in (False, True):
            lower = np.maximum(np.where(exposed, start, begin), low)
            upper = np.minimum(stop if exposed else np.minimum(start, stop), high)
            inside = (stop > low) & (stop <= high) & ((start < stop) == exposed)
            events = int((event & inside).sum())
            rate = truth.hazards[piece] * np.exp(truth.log_hazard_ratio * exposed)
            expected = rate * np.clip(upper - lower, 0.0, None).sum()
            assert events == pytest.approx(expected, abs=4.0 * np.sqrt(expected))


def test_jitter_and_missed_visits() -> None:
    schedule = VisitSchedule(every=6.0, jitter=1.0, missed=0.25)
    size = 40_000
    time, end = np.full(size, 13.0), np.full(size, 36.0)
    last, found = schedule.look(time, end, np.random.default_rng(1))
    number = np.round(found[np.isfinite(found)] / 6.0)
    off = found[np.isfinite(found)] - 6.0 * number
    assert np.abs(off).max() <= 0.4 * 6.0
    # The standard deviation of a normal that is cut at 2.4 of its own; the visit at 36 may be late.
    later = off[(number == 4) | (number == 5)]
    assert later.std() == pytest.approx(truncnorm(-2.4, 2.4).std(), abs=0.03)
    # The visit at 12 comes after 13 with probability 0.153 and takes place with 0.75; of the others
    # the one at 18 is the first that may find the event.
    assert (number == 2).mean() == pytest.approx(0.153 * 0.75, abs=0.01)
    assert (number == 3).mean() == pytest.approx((1 - 0.153 * 0.75) * 0.75, abs=0.012)
    assert (last < time).all()
    assert np.isinf(last).mean() == pytest.approx(0.25 * (0.153 + 0.847 * 0.25), abs=0.01)


def test_deaths_are_exact_and_included() -> None:
    truth = VisitTruth(starts_until="found", visits=SIX, death_share=0.4)
    cohort, exact, _ = visits_cohort(2, patients=2000, truth=truth)
    died, rfs = cohort.endpoints["os"], cohort.endpoints["rfs"]
    assert died.event.sum() / exact.endpoints["rfs"].event.sum() == pytest.approx(0.4, abs=0.05)
    assert rfs.event[died.event].all()
    np.testing.assert_allclose(rfs.time[died.event], died.time[died.event])
    np.testing.assert_allclose(rfs.known_free[died.event], died.time[died.event])
    assert cohort.synthetic
    assert exact.synthetic
    assert exact.endpoints["rfs"].includes == ("os",)


def test_exact_times_do_not_hang_on_visits() -> None:
    schedules = (SIX, VisitSchedule(every=3.0, jitter=0.5, missed=0.3))
    one, other = (
        visits_tables(5, patients=100, truth=VisitTruth(starts_until=mechanism, visits=schedule))[1]
        for mechanism, schedule in zip(MECHANISMS, schedules, strict=True)
    )
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"every": 0.0}, "every must be greater than 0"),
        ({"every": 6.0, "jitter": -1.0}, "jitter must be at least 0"),
        ({"every": 6.0, "missed": 1.0}, "missed must be a probability below 1"),
        ({"every": "6"}, "every must be a number"),
        ({"every": True}, "every must be a number"),
    ],
)
def test_impossible_schedules_are_refused(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        VisitSchedule(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"starts_until": "never"}, "starts_until must be 'found' or 'event'"),
        ({"cuts": (3.0,)}, "1 cuts need 2 hazards"),
        ({"hazards": (0.0,)}, "hazards must be at least 0, and not all 0"),
        ({"hazards": (0.1, 0.2), "cuts": (0.0,)}, "cuts must be positive"),
        ({"death_share": 1.5}, "death_share must be a share"),
        ({"starts": (3.0, 1.0)}, "starts must be an earliest and a latest time"),
        ({"follow_up": (2.0, 12.0)}, "follow_up must be longer"),
    ],
)
def test_impossible_truths_are_refused(arguments: dict[str, object], words: str) -> None:
    given: dict[str, object] = {"starts_until": "found", "visits": SIX, **arguments}
    with pytest.raises(SpecError, match=words):
        VisitTruth(**given)  # type: ignore[arg-type]


def test_impossible_cohorts_are_refused() -> None:
    truth = VisitTruth(starts_until="found", visits=SIX)
    with pytest.raises(SpecError, match="patients must be a whole number"):
        visits_cohort(1, patients=1, truth=truth)
    with pytest.raises(SpecError, match="seed must be a whole number"):
        visits_cohort(-1, truth=truth)
