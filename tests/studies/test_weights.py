"""Weights from a model of starting: against formulas by loops, and simulation truth."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.studies.weighting import pieces
from bayesblina.studies.weighting.starts import fit_starts, log_inverse_probability
from tests.studies.builders import EVERYTHING, TWELVE, alike, course_of
from tests.studies.weighting import GRACE, QUESTION, simulated


def test_the_model_of_starting_finds_the_truth() -> None:
    cohort, history = simulated(1, patients=20_000)
    found = bb.weighting.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING
    )
    table = found.balance.set_index("covariate")
    for name, truth in (("marker[yes]", -0.5), ("worse", -1.5)):
        row = table.loc[name]
        assert abs(float(row["log_hazard_ratio"]) - truth) < 4 * float(row["se"])
        # Patients who start differ; weighted, they do not. The standard error of a mean
        # difference of so many starts is below 0.02.
        assert abs(float(row["unweighted"])) > 0.15
        assert abs(float(row["weighted"])) < 0.05
    # Stabilised weights average 1 over the person-time.
    assert float(found.summary["mean"].iloc[0]) == pytest.approx(1.0, abs=0.02)


def test_weights_are_ratios_of_densities_by_loops() -> None:
    """With coefficients as fitted, each weight from its definition, patient by patient."""
    cohort, history = simulated(2, patients=60)
    cuts = [3.0, 8.0]
    found = bb.weighting.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING, cuts=cuts
    )
    course = course_of(cohort, history, cuts=cuts)
    every = fit_starts(course, np.ones(2, dtype=bool), alike(course))
    none = fit_starts(course, np.zeros(2, dtype=bool), alike(course))
    whole = float(cohort.endpoints["os"].time.max())
    spans = (whole, float(np.nanmax(cohort.phase_start)))
    regular = np.concatenate([cuts, *(np.linspace(0.0, to, pieces.POINTS + 1) for to in spans)])
    outcome = found.cohort.endpoints["os"]
    for patient in range(60):
        rows = np.flatnonzero(found.of == patient)
        log_weight, ratio = 0.0, 0.0
        for row in rows:
            low, high = float(outcome.entry[row]), float(outcome.time[row])
            if course.after[row]:
                assert math.log(found.weights[row]) == pytest.approx(log_weight + ratio, abs=1e-9)
                continue
            cell = course.cells.of[row]
            full, alone = every.log_rate[cell, 0], none.log_rate[cell, 0]
            apart = math.exp(full) - math.exp(alone)
            # A weight is that of the middle up to the next regular point, whoever leaves before.
            assert course.middle[row] >= (low + high) / 2 - 1e-12
            assert np.abs(2 * course.middle[row] - low - regular).min() < 1e-12
            expected = log_weight + apart * (course.middle[row] - low)
            assert math.log(found.weights[row]) == pytest.approx(expected, abs=1e-9)
            log_weight += apart * (high - low)
            ratio = alone - full
        ends, begins = outcome.time[rows], outcome.entry[rows]
        assert all(stop == begin for stop, begin in zip(ends[:-1], begins[1:], strict=True))


def test_pieces_are_the_patients_cut() -> None:
    """Unweighted, pieces have the events and person-time of the patients; starts stay exact."""
    cohort, history = simulated(3, patients=300)
    found = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", history=history)
    cuts = [2.0, 5.0, 11.0]
    whole = bb.person_time(cohort, QUESTION, cuts=cuts)
    pieces = bb.person_time(found.cohort, found.question, cuts=cuts)
    for name in ("events", "person_time"):
        summed = [
            one.table[name].sel(phase=list(whole.table["phase"].values)).sum("pattern").values
            for one in (whole, pieces)
        ]
        np.testing.assert_allclose(summed[0], summed[1], atol=1e-9)
    assert not any(str(patient) == str(one) for patient, one in pairwise(found.cohort.patients))


def test_adjusted_covariates_leave_the_weights() -> None:
    cohort, history = simulated(4, patients=2000)
    adjusted = bb.weighting.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, adjust=["marker"]
    )
    assert list(adjusted.cohort.covariates) == ["marker"]
    only = bb.weighting.starting_weights(
        cohort, QUESTION, endpoint="os", adjust=["marker"], truncate=EVERYTHING
    )
    # With nothing but adjusted covariates numerator and denominator are one model.
    np.testing.assert_allclose(only.weights, 1.0, rtol=1e-9)


def test_truncation() -> None:
    """Limits are quantiles over person-time, in each arm of a trial."""
    cohort, history = simulated(5, patients=300)
    given: dict[str, Any] = {"endpoint": "os", "history": history}
    for made in (bb.weighting.starting_weights, bb.weighting.clone_censor_weight):
        if made is bb.weighting.clone_censor_weight:
            given["grace"] = GRACE
        whole = made(cohort, QUESTION, truncate=EVERYTHING, **given)
        cut = made(cohort, QUESTION, truncate=(0.05, 0.9), **given)
        time = whole.basis.end - whole.basis.begin
        trial = whole.basis.grace is not None
        for rows in [whole.basis.exposed, ~whole.basis.exposed] if trial else [time > 0]:
            low, high = cut.weights[rows].min(), cut.weights[rows].max()
            np.testing.assert_allclose(cut.weights[rows], np.clip(whole.weights[rows], low, high))
            values, spent = whole.weights[rows], time[rows] / time[rows].sum()
            for limit, share in ((low, 0.05), (high, 0.9)):
                assert spent[values < limit].sum() <= share <= spent[values <= limit].sum()
        assert float(cut.summary["truncated"].iloc[0]) == pytest.approx(0.15, abs=0.01)
        assert "pseudo-posterior" in whole.caveat
        assert "weighted_effect" in whole.caveat
        assert ("one baseline" in whole.caveat) == trial
        # Limits stay when the patients are weighted otherwise.
        again = cut.basis.weights(np.linspace(0.5, 1.5, 300)[:, None])
        assert again.max() == cut.weights.max()
        wrong: Any
        for wrong in ((0.9, 0.1), (0.0, 1.2), "x"):
            with pytest.raises(SpecError, match="truncate"):
                made(cohort, QUESTION, truncate=wrong, **given)


def test_clones_follow_their_arms() -> None:
    cohort, history = simulated(6, patients=400)
    found = bb.weighting.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=GRACE, history=history
    )
    starts = np.where(np.isnan(cohort.phase_start[:, 0]), np.inf, cohort.phase_start[:, 0])
    outcome = found.cohort.endpoints["os"]
    first = found.cohort.phase_start[:, 0] == 0.0
    for patient in range(400):
        mine = found.of == patient
        stop = float(cohort.endpoints["os"].time[patient])
        # Never: until the start.
        never = mine & ~first
        assert outcome.time[never].max() == pytest.approx(min(stop, starts[patient]))
        # Within the grace period: to the end if started in it, else until it is over.
        end = stop if starts[patient] <= GRACE else min(stop, GRACE)
        assert outcome.time[mine & first].max() == pytest.approx(end)
    # Started at s, the first arm's weight is 1 / (grace x density of starting then).
    course = course_of(cohort, history, grace=GRACE)
    every = fit_starts(course, np.ones(2, dtype=bool), alike(course))
    begun = np.flatnonzero(course.after & (starts[course.patient] <= GRACE))
    expected = np.exp(log_inverse_probability(course, every, begun)[:, 0]) / GRACE
    place = {
        int(p): w
        for p, t, w in zip(found.of[first], outcome.entry[first], found.weights[first], strict=True)
        if t == starts[p]
    }
    got = [place[int(p)] for p in course.patient[begun]]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    # Both arms stand for everybody at the beginning, and the second for those alive later on: its
    # weights are not stabilised.
    early = outcome.entry < 0.2
    for arm in (first, ~first):
        assert found.weights[early & arm].mean() == pytest.approx(1.0, abs=0.1)
    at = 8.0
    here = ~first & (outcome.entry < at) & (outcome.time >= at)
    assert found.weights[here].min() > 1.0
    alive = (cohort.endpoints["os"].time >= at).sum()
    # 120 patients of 0.4 x 400 wait, with weights of sd about 1.
    assert found.weights[here].sum() == pytest.approx(alive, rel=0.25)


@pytest.mark.parametrize("end", ["ever", "current"])
def test_weights_keep_what_the_question_says_of_ends(end: Any) -> None:
    """Who leaves the phase is without it: the pieces are the question's, whatever weighs them."""
    random = np.random.default_rng(3)
    size = 300
    start, stay = random.exponential(5.0, size), random.exponential(4.0, size)
    time = random.exponential(12.0, size)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "time": time,
            "event": (random.random(size) < 0.7).astype(int),
            "start": np.where(start < time, start, np.nan),
            "end": np.where(start + stay < time, start + stay, np.nan),
            "x": random.normal(size=size),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance=bb.Phase(start="start", end="end")),
        covariates=["x"],
    )
    question = replace(QUESTION, phase_end=end)
    found = bb.weighting.starting_weights(cohort, question, endpoint="os")
    until = np.minimum(start + stay, time) if end == "current" else time
    spent = np.where(start < time, until - start, 0.0).sum()
    rows = found.basis.exposed
    assert (found.basis.end - found.basis.begin)[rows].sum() == pytest.approx(spent, rel=1e-9)
    # Without their weights the pieces give the answer of the patients.
    for column in ("estimate", "lower", "upper"):
        pair = [
            float(bb.cox(*one)[column].iloc[0])
            for one in ((cohort, question), (found.cohort, found.question))
        ]
        assert pair[1] == pytest.approx(pair[0], rel=1e-6)
    effect = bb.weighting.weighted_effect(found, seed=1, draws=20)
    compared = effect.estimand["compared"]
    assert compared.startswith("in " if end == "current" else "maintenance started")
    assert ("leave the phase" in found.caveat) == (end == "current")


def test_starts_are_those_of_the_question() -> None:
    """A start all but at the end of follow-up is none; who went on before entry has left."""
    random = np.random.default_rng(5)
    size = 120
    x = random.normal(size=size)
    start = random.exponential(6.0 * np.exp(-x), size)
    time = random.exponential(15.0, size)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "time": time,
            "event": (random.random(size) < 0.7).astype(int),
            "start": np.where(start < time, start, np.nan),
            "x": x,
        }
    )
    question = replace(QUESTION, transplant="censor")

    def weighted(away: float) -> bb.weighting.Weighted:
        often = (np.arange(size) % 2 == 0) & (start + away < time) & (start < time)
        moved = table.assign(tx=np.where(often, start + away, np.nan))
        cohort = bb.read_cohort(
            moved,
            patient="id",
            unit="months",
            endpoints={"os": bb.Endpoint(time="time", event="event")},
            phases=bb.Phases(maintenance="start"),
            transplant="tx",
            covariates=["x"],
        )
        return bb.weighting.starting_weights(cohort, question, endpoint="os")

    # A two-hundredth of a day.
    right, near = weighted(0.0), weighted(0.005 / 30.4375)
    assert near.summary["starts"].iloc[0] == right.summary["starts"].iloc[0]
    for column in ("log_hazard_ratio", "se"):
        np.testing.assert_allclose(near.balance[column], right.balance[column], rtol=1e-3)

    gone = np.arange(size) % 4 == 0
    late = table.assign(
        start=np.where(gone, 1.0, table["start"]),
        later=np.where(gone, 3.0, np.nan),
        entry=np.where(gone, 5.0, 0.0),
        time=np.where(gone, time + 5.0, time),
    )
    cohort = bb.read_cohort(
        late,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(maintenance="start", later="later"),
        covariates=["x"],
    )
    found = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os")
    cells = bb.person_time(cohort, QUESTION).table
    rows = found.basis.exposed
    spent = float((found.basis.end - found.basis.begin)[rows].sum())
    events = int(found.basis.course.event[found.basis.rows][rows].sum())
    inside = cells.sel(phase="maintenance")
    assert spent == pytest.approx(float(inside["person_time"].sum()), rel=1e-9)
    assert events == int(inside["events"].sum())


def test_what_cannot_be_weighted_is_refused() -> None:
    cohort, history = simulated(7, patients=50)
    one = history.iloc[1:]
    for question, words in (
        (replace(QUESTION, landmark=2.0), "without a landmark"),
        (replace(QUESTION, lag=1.0), "without a lag"),
        (replace(QUESTION, transplant="phase"), "no state after transplant"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.weighting.starting_weights(cohort, question, endpoint="os")
    outcome = cohort.endpoints["os"]
    seen = replace(outcome, recorded="visits", last_negative=outcome.time * 0.5)
    with pytest.raises(SpecError, match="events of os are found at visits"):
        bb.weighting.starting_weights(
            replace(cohort, endpoints={"os": seen}),
            replace(QUESTION, starts_until="found"),
            endpoint="os",
        )
    with pytest.raises(SpecError, match="whatever follows: choose phase_end='ever'"):
        bb.weighting.clone_censor_weight(
            cohort, replace(QUESTION, phase_end="current"), endpoint="os", grace=6.0
        )
    for arguments, words in (
        ({"endpoint": "pfs"}, "No endpoint 'pfs'"),
        ({"confounders": ["age"]}, "No covariate 'age'"),
        ({"confounders": []}, "no confounders"),
        ({"history": history[["patient", "time"]]}, "at least one covariate"),
        ({"history": history.rename(columns={"worse": "marker"})}, "of the cohort and of the"),
        ({"history": history.assign(worse=1.0)}, "same for everybody"),
    ):
        given: dict[str, Any] = {"endpoint": "os", **arguments}
        with pytest.raises(SpecError, match=words):
            bb.weighting.starting_weights(cohort, QUESTION, **given)
    for frame, words in (
        (one, "no values at or before"),
        (history.assign(patient="x"), "not in the cohort"),
        (history.rename(columns={"time": "t"}), "time: no such column"),
        (pd.concat([history, history["worse"]], axis=1), "more than one column"),
        (history.assign(worse=np.nan), "missing or infinite"),
    ):
        with pytest.raises(DataError, match=words):
            bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", history=frame)
    table = TWELVE.assign(later=TWELVE["start"] + 1.0)
    moved = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance="start", after="later"),
        covariates=["x"],
    )
    with pytest.raises(SpecError, match="8 patients go from maintenance to after"):
        bb.weighting.starting_weights(moved, QUESTION, endpoint="os")
    with pytest.raises(SpecError, match="grace must be"):
        bb.weighting.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=0.0)
    with pytest.raises(SpecError, match="Nobody starts maintenance within"):
        bb.weighting.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=1e-6)
    never = pd.DataFrame({"id": ["a", "b"], "t": [3.0, 4.0], "d": [1, 0], "s": [None, 9.0]})
    nobody = bb.read_cohort(
        never.assign(s=[np.nan, np.nan]),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(maintenance="s"),
    )
    with pytest.raises(SpecError, match="Nobody starts"):
        bb.weighting.starting_weights(nobody, QUESTION, endpoint="os")
