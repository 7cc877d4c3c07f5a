"""Turnbull's curves: R's, closed forms, product limits, and by state with entries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.core.self_consistency import Known, self_consistent
from tests.visited import asked, golden_patients

# R's survfit, carried on until nothing changes by more than 1e-13 (data/visits.R): middles of the
# intervals in which the curve falls, and survival after them.
R = {
    "all": """1.25 0.9711705049273 2 0.9126664102990 2.5 0.8581748703455 3.75 0.8027280437857
        4.25 0.7610076852664 5 0.7107121411612 5.5 0.6328843680308 6.25 0.6012413499352
        6.75 0.5600475591343 7.25 0.5052570732995 8 0.4536802826794 8.5 0.3791261994461
        9.25 0.3238807819597 9.75 0.2414024437578 10.75 0.2069374429862 11.25 0.0960428490190
        11.75 0.0740638717345 12.25 0""",
    "0": """2.25 0.902648909255 2.75 0.888441356043 3.75 0.798641264148 4.25 0.721376466839
        5.25 0.628502790975 6.25 0.589873162968 6.75 0.549569163758 7.25 0.482145726802
        8.25 0.353234239373 9.25 0.279633806290 9.75 0.223501830024 11.25 0""",
    "1": """1.25 0.936216953327 2 0.833013815904 2.5 0.769230769231 5 0.703116855678
        5.5 0.637002942126 6.75 0.527526972404 8 0.470085470085 8.5 0.423076923077
        9.75 0.241758241758 12.25 0""",
}


def stepped(curve: pd.DataFrame, times: Floats) -> Floats:
    """Survival of a curve at times at which it is defined."""
    at = np.searchsorted(curve["stop"].to_numpy(), times, side="right") - 1
    return np.asarray(curve["survival"].to_numpy()[at])


@pytest.mark.parametrize("by", [None, "z"])
def test_steps_are_those_of_r(by: str | None) -> None:
    found = bb.classical.turnbull(golden_patients("z"), by=by)
    for group, own in found.groupby("group"):
        middle, survival = np.array(R[str(group)].split(), dtype=float).reshape(-1, 2).T
        inside = own.iloc[1:]
        inside = inside[inside["events"] > 0]
        np.testing.assert_allclose((inside["start"] + inside["stop"]) / 2, middle, atol=0.26)
        np.testing.assert_allclose(inside["survival"], survival, atol=1e-6)


def test_two_overlapping_gaps_by_hand() -> None:
    """Gaps (0, 2] and (1, 3], and one survivor of 1: all may lie in (1, 2]."""
    table = pd.DataFrame(
        {"id": ["a", "b", "c"], "t": [2.0, 3.0, 1.0], "e": [1, 1, 0], "last": [np.nan, 1.0, 1.0]}
    ).assign(m=np.nan)
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e", last_negative="last")},
        phases=bb.Phases(m="m"),
    )
    curve = bb.classical.turnbull(cohort)
    # All mass lies in (1, 2], in which both gaps and the survivor's future may have it.
    assert curve[["start", "stop", "survival"]].to_numpy().tolist() == [
        [0.0, 0.0, 1.0],
        [1.0, 2.0, 0.0],
        [3.0, 3.0, 0.0],
    ]


def test_regular_visits_give_life_tables() -> None:
    """Where all are seen at the same visits hazards are events over those seen before."""
    last = np.array([0.0] * 5 + [6.0] * 3 + [12.0] * 2 + [6.0] * 2 + [12.0] * 4)
    event = np.array([1] * 10 + [0] * 6)
    table = pd.DataFrame(
        {
            "id": np.arange(16),
            "t": last + 6.0 * event,
            "e": event,
            "last": np.where(last == 0, np.nan, last),
            "m": np.nan,
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e", last_negative="last")},
        phases=bb.Phases(m="m"),
    )
    curve = bb.classical.turnbull(cohort).iloc[1:]
    # Of 16 five, of 9 three (two are seen no more after month 6), and both who are seen again.
    expected = np.cumprod([1 - 5 / 16, 1 - 3 / 9, 1 - 2 / 2])
    np.testing.assert_allclose(curve["survival"], expected, atol=1e-12)
    assert curve[["start", "stop", "at_risk", "events"]].to_numpy().round(9).tolist() == [
        [0.0, 6.0, 16.0, 5.0],
        [6.0, 12.0, 9.0, 3.0],
        [12.0, 18.0, 2.0, 2.0],
    ]


def test_exact_times_give_the_product_limit_by_state_with_entries() -> None:
    generator = np.random.default_rng(1)
    entry = generator.uniform(0, 3, 150).round(1)
    time = (entry + generator.exponential(8, 150)).round(1) + 0.1
    start = (entry + generator.uniform(0, 8, 150)).round(1)
    table = pd.DataFrame(
        {
            "id": np.arange(150),
            "entry": entry,
            "t": time,
            "e": (generator.random(150) < 0.7).astype(int),
            "m": np.where(start < time, start, np.nan),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e", entry="entry", recorded="exact")},
        phases=bb.Phases(m="m"),
    )
    expected = bb.simon_makuch(cohort, asked(None))
    found = bb.classical.turnbull(cohort, asked(None))
    for group, own in expected.groupby("group"):
        curve = found[found["group"] == group]
        np.testing.assert_allclose(
            stepped(curve, own["time"].to_numpy()), own["survival"], atol=1e-9
        )
        assert (curve["start"] == curve["stop"]).all()
        falls = own[own["events"] > 0]
        steps = curve[curve["events"] > 0]
        np.testing.assert_allclose(steps["at_risk"], falls["at_risk"], rtol=1e-9)
        np.testing.assert_allclose(steps["events"], falls["events"], rtol=1e-9)


def test_gaps_that_cross_a_start_are_shared_out_at_the_largest_likelihood() -> None:
    """Cells by hand: reference (0, 4] and (4, 8], exposed (4, 8]; against a numerical maximum."""
    known = Known(
        patient=np.array([0, 1, 1, 2, 2, 3, 4, 5, 5, 6]),
        group=np.array([1, 1, 0, 1, 0, 1, 1, 1, 0, 1]),
        start=np.array([0.0, 0.0, 4.0, 0.0, 4.0, 0.0, 4.0, 0.0, 4.0, 0.0]),
        stop=np.array([4.0, 4.0, 8.0, 4.0, 8.0, 8.0, 8.0, 4.0, 8.0, 4.0]),
        event=np.zeros(10, dtype=bool),
        gap=np.array([True, True, True, False, True, False, True, False, False, False]),
    )
    curves = self_consistent(known)
    assert curves.group.tolist() == [0, 1, 1]
    assert curves.stop.tolist() == [8.0, 4.0, 8.0]

    def falls(logits: Floats) -> float:
        exposed, first, second = 1.0 / (1.0 + np.exp(-logits))
        likelihood = [
            first,
            first + (1 - first) * exposed,
            (1 - first) * exposed,
            (1 - first) * (1 - second),
            second,
            (1 - first) * (1 - exposed),
            1 - first,
        ]
        return -float(np.log(likelihood).sum())

    best = minimize(falls, np.zeros(3), method="BFGS", options={"gtol": 1e-10})
    exposed, first, second = 1.0 / (1.0 + np.exp(-best.x))
    expected = [1 - exposed, 1 - first, (1 - first) * (1 - second)]
    np.testing.assert_allclose(curves.survival, expected, atol=1e-6)


def test_no_cell_gains_by_more_mass() -> None:
    """The slope of the likelihood by a cell's mass is at most the number of patients."""
    schedule = bb.simulate.VisitSchedule(every=6.0, jitter=1.0, missed=0.2)
    truth = bb.simulate.VisitTruth(
        starts_until="found", visits=schedule, eligible=(0.0, 0.0), death_share=0.3
    )
    cohort = bb.simulate.visits_cohort(3, patients=300, truth=truth).cohort
    curve = bb.classical.turnbull(cohort).query("endpoint == 'rfs'")
    outcome = cohort.endpoints["rfs"]
    free = np.clip(outcome.known_free, 0.0, outcome.time)
    lower = np.where(outcome.event, np.minimum(free, outcome.time), free)
    exact = outcome.event & (lower == outcome.time)
    upper = np.where(outcome.event, outcome.time, np.inf)
    mass = -np.diff(curve["survival"].to_numpy(), prepend=1.0)
    kept = mass > 0
    start, stop = curve["start"].to_numpy()[kept], curve["stop"].to_numpy()[kept]
    inside = (start >= lower[:, None]) & (stop <= upper[:, None])
    inside &= ~((start == stop) & (start <= lower[:, None])) | exact[:, None]
    inside[exact] = (stop == upper[exact, None]) & (start == stop)
    # What survives all follow-up lies beyond it.
    rest = float(curve["survival"].iloc[-1])
    share = inside @ mass[kept] + rest * np.isinf(upper)
    slope = (inside / share[:, None]).sum(axis=0)
    np.testing.assert_allclose(slope, cohort.size, rtol=1e-5)
    # Any other stretch: a grid of points of time, each as if all its mass lay there.
    points = np.arange(0.05, 36.0, 0.37)
    covered = (points > lower[:, None]) & (points <= upper[:, None]) & ~exact[:, None]
    assert ((covered / share[:, None]).sum(axis=0) <= cohort.size * (1 + 1e-6)).all()


def test_curves_cover_the_truth() -> None:
    """Under `found` curves by state lie at the hazards that made them."""
    schedule = bb.simulate.VisitSchedule(every=3.0, jitter=0.5)
    truth = bb.simulate.VisitTruth(
        starts_until="found", visits=schedule, eligible=(0.0, 0.0), starts=(0.0, 12.0)
    )
    cohort = bb.simulate.visits_cohort(5, patients=4000, truth=truth).cohort
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", starts_until="found"
    )
    found = bb.classical.turnbull(cohort, question)
    times = np.array([6.0, 12.0, 18.0])
    reference = found[found["group"] == "no maintenance"]
    middle = np.interp(times, reference["stop"], reference["survival"])
    # About four standard errors of 4000 patients, and half a gap's fall.
    np.testing.assert_allclose(middle, np.exp(-0.05 * times), atol=0.06)
    exposed = found[found["group"] == "maintenance"]
    late = np.interp([15.0, 30.0], exposed["stop"], exposed["survival"])
    assert late[1] / late[0] == pytest.approx(np.exp(-0.025 * 15.0), abs=0.06)


def test_what_cannot_be_asked_is_refused() -> None:
    cohort = golden_patients("x", "z")
    with pytest.raises(SpecError, match="leave one of question and by out"):
        bb.classical.turnbull(cohort, asked(), by="z")
    with pytest.raises(SpecError, match="No categorical covariate 'x'"):
        bb.classical.turnbull(cohort, by="x")
    with pytest.raises(TypeError, match="cohort: expected Cohort"):
        bb.classical.turnbull(pd.DataFrame())  # type: ignore[arg-type]
