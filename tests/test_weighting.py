"""Weights from a model of starting: against formulas by loops, glm in R, and simulation truth."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.errors import DataError, SpecError
from bayesblina.weighting import _course, _fit_starts, _log_weights
from tests.studies.weighting import GRACE, QUESTION, START, log_ratio, simulated

EVERYTHING = (0.0, 1.0)


def test_the_model_of_starting_finds_the_truth() -> None:
    cohort, history = simulated(1, patients=20_000)
    found = bb.starting_weights(
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
    found = bb.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING, cuts=cuts
    )
    course = _course(cohort, QUESTION, "os", None, history, (), cuts)
    every = _fit_starts(course, np.ones(2, dtype=bool))
    none = _fit_starts(course, np.zeros(2, dtype=bool))
    rates = {}
    for piece in range(course.patient.size):
        key = (int(course.patient[piece]), round(float(course.first[piece]), 9))
        rates[key] = (float(every.log_rate[piece]), float(none.log_rate[piece]))
    outcome = found.cohort.endpoints["os"]
    for patient in range(60):
        rows = np.flatnonzero(found.of == patient)
        start = float(course.start[patient])
        log_weight = 0.0
        ratio = 0.0
        for row in rows:
            low, high = float(outcome.entry[row]), float(outcome.time[row])
            full, time_only = rates[patient, round(low, 9)]
            if low < start:
                step = (math.exp(full) - math.exp(time_only)) * (high - low)
                expected = log_weight + step / 2
                log_weight += step
                if high == start:
                    ratio = time_only - full
            else:
                expected = log_weight + ratio
            assert math.log(found.weights[row]) == pytest.approx(expected, abs=1e-9)
        ends = outcome.time[rows]
        begins = outcome.entry[rows]
        assert all(stop == begin for stop, begin in zip(ends[:-1], begins[1:], strict=True))


def test_pieces_are_the_patients_cut() -> None:
    """Unweighted, pieces have the events and person-time of the patients; starts stay exact."""
    cohort, history = simulated(3, patients=300)
    found = bb.starting_weights(cohort, QUESTION, endpoint="os", history=history)
    cuts = [2.0, 5.0, 11.0]
    whole = bb.expose(cohort, QUESTION, cuts=cuts)
    pieces = bb.expose(found.cohort, found.question, cuts=cuts)
    for name in ("events", "exposure"):
        summed = [
            one.table[name].sel(phase=list(whole.table["phase"].values)).sum("pattern").values
            for one in (whole, pieces)
        ]
        np.testing.assert_allclose(summed[0], summed[1], atol=1e-9)
    assert not any(str(patient) == str(one) for patient, one in pairwise(found.cohort.patients))


def test_adjusted_covariates_leave_the_weights() -> None:
    cohort, history = simulated(4, patients=2000)
    adjusted = bb.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, adjust=["marker"]
    )
    assert list(adjusted.cohort.covariates) == ["marker"]
    only = bb.starting_weights(
        cohort, QUESTION, endpoint="os", adjust=["marker"], truncate=EVERYTHING
    )
    # With nothing but adjusted covariates numerator and denominator are one model.
    np.testing.assert_allclose(only.weights, 1.0, rtol=1e-9)


def test_truncation() -> None:
    cohort, history = simulated(5, patients=300)
    given = {"endpoint": "os", "history": history}
    whole = bb.starting_weights(cohort, QUESTION, truncate=EVERYTHING, **given)  # type: ignore[arg-type]
    cut = bb.starting_weights(cohort, QUESTION, truncate=(0.05, 0.9), **given)  # type: ignore[arg-type]
    low, high = np.quantile(whole.weights, [0.05, 0.9])
    np.testing.assert_allclose(cut.weights, np.clip(whole.weights, low, high))
    assert float(cut.summary["truncated"].iloc[0]) == pytest.approx(0.15, abs=0.01)
    assert "pseudo-posterior" in whole.caveat
    for wrong in ((0.9, 0.1), (0.0, 1.2), "x"):
        with pytest.raises(SpecError, match="truncate"):
            bb.starting_weights(cohort, QUESTION, truncate=wrong, **given)  # type: ignore[arg-type]


def test_clones_follow_their_arms() -> None:
    cohort, history = simulated(6, patients=400)
    found = bb.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=GRACE, history=history, truncate=EVERYTHING
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
    course = _course(cohort, QUESTION, "os", None, history, (), None, points=[GRACE])
    every = _fit_starts(course, np.ones(2, dtype=bool))
    log_weight = _log_weights(course, every)
    begun = course.after & (starts[course.patient] <= GRACE)
    expected = np.exp(log_weight[begun]) / GRACE
    weights = found.weights[first]
    place = {
        (int(p), round(float(t), 9)): w
        for p, t, w in zip(found.of[first], outcome.entry[first], weights, strict=True)
    }
    got = [
        place[int(p), round(float(t), 9)]
        for p, t in zip(course.patient[begun], course.first[begun], strict=True)
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    # Both arms stand for everybody at the beginning: mean weights of early pieces are near 1.
    early = outcome.entry < 0.2
    for arm in (first, ~first):
        assert found.weights[early & arm].mean() == pytest.approx(1.0, abs=0.1)


def test_weights_undo_known_confounding() -> None:
    """Few cohorts here, 200 in docs/validation/weighting.md: a plain analysis is off by 0.2."""
    means: dict[str, list[float]] = {"plain": [], "weights": [], "clones": []}
    for seed in range(4):
        cohort, history = simulated(100 + seed, patients=1500)
        plain = bb.scenarios(cohort, QUESTION, {"covariates": [[]]})[1].cohort(cohort, seed=0)
        weighted = bb.starting_weights(
            cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING
        )
        clones = bb.clone_censor_weight(
            cohort, QUESTION, endpoint="os", grace=GRACE, history=history, truncate=(0.0, 0.995)
        )
        means["plain"].append(log_ratio(plain, QUESTION)[0])
        for name, one in (("weights", weighted), ("clones", clones)):
            means[name].append(log_ratio(one.cohort, one.question, weights=one.weights)[0])
    # The sd of one estimate with 1500 patients is about 0.06: that of a mean of 4 about 0.03.
    assert np.mean(means["plain"]) < -0.12
    assert abs(np.mean(means["weights"])) < 0.1
    assert abs(np.mean(means["clones"])) < 0.1


def test_the_demo_is_weighted_as_well() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    found = bb.starting_weights(cohort, question, endpoint="rfs", confounders=["age_group"])
    # Some of the 86 begin consolidation after a relapse.
    held = (cohort.phase_start[:, 0] < cohort.endpoints["rfs"].time).sum()
    assert held < 86
    assert f"{held} patients" in repr(found)
    assert list(found.balance["covariate"]) == ["age_group[35-54]", "age_group[55+]"]
    figure = bb.plots.balance(found.balance)
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["unweighted", "weighted"]
    fit = bb.fit(found.cohort, found.question, seed=1, weights=found.weights, progress=False)
    assert fit.exposure.weighted
    assert any("pseudo-posterior" in note for note in fit.provenance.notes)


def test_what_cannot_be_weighted_is_refused() -> None:
    cohort, history = simulated(7, patients=50)
    one = history.iloc[1:]
    for question, words in (
        (replace(QUESTION, landmark=2.0), "without a landmark"),
        (replace(QUESTION, lag=1.0), "without a lag"),
        (replace(QUESTION, transplant="phase"), "no state after transplant"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.starting_weights(cohort, question, endpoint="os")
    for arguments, words in (
        ({"endpoint": "pfs"}, "No endpoint 'pfs'"),
        ({"confounders": ["age"]}, "No covariate 'age'"),
        ({"confounders": []}, "no confounders"),
        ({"history": history.rename(columns={"time": "t"})}, "needs the columns"),
        ({"history": history.rename(columns={"worse": "marker"})}, "of the cohort and of the"),
        ({"history": history.assign(worse=1.0)}, "same for everybody"),
    ):
        given: dict[str, Any] = {"endpoint": "os", **arguments}
        with pytest.raises(SpecError, match=words):
            bb.starting_weights(cohort, QUESTION, **given)
    for frame, words in (
        (one, "no values at or before"),
        (history.assign(patient="x"), "not in the cohort"),
        (history.assign(worse=np.nan), "missing or infinite"),
    ):
        with pytest.raises(DataError, match=words):
            bb.starting_weights(cohort, QUESTION, endpoint="os", history=frame)
    with pytest.raises(SpecError, match="grace must be"):
        bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=0.0)
    with pytest.raises(SpecError, match="Nobody starts maintenance within"):
        bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=1e-6)
    never = pd.DataFrame({"id": ["a", "b"], "t": [3.0, 4.0], "d": [1, 0], "s": [None, 9.0]})
    nobody = bb.read_cohort(
        never.assign(s=[np.nan, np.nan]),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(maintenance="s"),
    )
    with pytest.raises(SpecError, match="Nobody starts"):
        bb.starting_weights(nobody, QUESTION, endpoint="os")
    assert START > 0
