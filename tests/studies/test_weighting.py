"""Weights from a model of starting: against formulas by loops, glm in R, and simulation truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import DataError, EstimandError, SpecError
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.studies import bootstrap, emulation, starting
from bayesblina.studies.emulation import Arms, _counted, _counts
from bayesblina.studies.starting import Course, fit_starts, log_inverse_probability, make_course
from tests.studies.weighting import GRACE, QUESTION, simulated

EVERYTHING = (0.0, 1.0)


def course_of(cohort: bb.Cohort, history: pd.DataFrame | None, **more: Any) -> Course:
    given: dict[str, Any] = {"confounders": None, "adjust": (), "cuts": None, **more}
    return make_course(cohort, QUESTION, "os", history=history, **given)


def alike(course: Course) -> Floats:
    return np.ones((course.cohort.size, 1))


def arms_of(weighted: bb.Weighted, patients: Floats) -> Arms:
    """Both arms with patients weighted as given."""
    basis = _counted(weighted.basis)
    weights = basis.weights(patients[:, None]) * patients[basis.patient][:, None]
    return _counts(basis).arms(weights)


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
    course = course_of(cohort, history, cuts=cuts)
    every = fit_starts(course, np.ones(2, dtype=bool), alike(course))
    none = fit_starts(course, np.zeros(2, dtype=bool), alike(course))
    whole = float(cohort.endpoints["os"].time.max())
    spans = (whole, float(np.nanmax(cohort.phase_start)))
    regular = np.concatenate([cuts, *(np.linspace(0.0, to, starting.POINTS + 1) for to in spans)])
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
    found = bb.starting_weights(cohort, QUESTION, endpoint="os", history=history)
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
    """Limits are quantiles over person-time, in each arm of a trial."""
    cohort, history = simulated(5, patients=300)
    given: dict[str, Any] = {"endpoint": "os", "history": history}
    for made in (bb.starting_weights, bb.clone_censor_weight):
        if made is bb.clone_censor_weight:
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
    found = bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=GRACE, history=history)
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


# Rscript tests/data/weights.R: log hazard ratio; survival at 5 and 10 of the arm that starts, and
# of the other; difference of restricted means to 10. All patients alike, and weighted.
TWELVE = pd.DataFrame(
    {
        "id": list("abcdefghijkl"),
        "time": [2.3, 3.1, 4.7, 5.2, 6.4, 7.9, 8.5, 9.1, 10.6, 11.3, 12.8, 14.2],
        "event": [1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0],
        "start": [None, 1.2, 3.4, None, 2.1, 0.7, None, 4.4, 1.9, 2.8, None, 5.6],
        "x": list("babbaabababb"),
    }
)
IN_R = (
    (np.ones(12), (-0.151516897, 0.877540392, 0.720071829, 0.906483228, 0.339931211, 0.873216102)),
    (
        np.array([1.0, 2, 1, 3, 1, 1, 2, 1, 1, 1, 2, 1]),
        (-0.207038643, 0.859495075, 0.743757974, 0.935590707, 0.292372096, 1.211289106),
    ),
)


def twelve(rows: Sequence[int] = tuple(range(12))) -> bb.Cohort:
    table = TWELVE.iloc[list(rows)].reset_index(drop=True)
    return bb.read_cohort(
        table.assign(id=[str(index) for index in range(len(table))]),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance="start"),
        covariates=["x"],
        synthetic=True,
    )


def numbers(arms: Arms) -> list[float]:
    never, starts = arms.survival(np.array([5.0, 10.0]))[..., 0]
    area = arms.rmst(10.0)[:, 0]
    ratio = float(arms.log_hazard_ratio()[0])
    return [ratio, *map(float, starts), *map(float, never), float(area[1] - area[0])]


def test_a_trial_of_twelve_patients_as_in_r(monkeypatch: pytest.MonkeyPatch) -> None:
    """R's weights are exact at every event time; these are constant over short pieces."""
    cuts: list[float] = []
    for points, tolerance in ((starting.POINTS, 0.01), (500, 4e-4)):
        monkeypatch.setattr(starting, "POINTS", points)
        trial = bb.clone_censor_weight(twelve(), QUESTION, endpoint="os", grace=4.0, cuts=cuts)
        for patients, expected in IN_R:
            assert numbers(arms_of(trial, patients)) == pytest.approx(expected, abs=tolerance)
    # R's coefficient by glm; the ridge is 1e-4.
    assert float(trial.balance["log_hazard_ratio"].iloc[0]) == pytest.approx(-1.776263, abs=1e-3)


def test_weights_of_patients_are_as_many_patients() -> None:
    """The model of starting, weights and outcome are made again under them."""
    patients = IN_R[1][0]
    many = np.repeat(np.arange(12), patients.astype(int))
    for made, more in ((bb.clone_censor_weight, {"grace": 4.0}), (bb.starting_weights, {})):
        given: dict[str, Any] = {"endpoint": "os", "truncate": EVERYTHING, "cuts": [2.0], **more}
        few, copied = (made(one, QUESTION, **given) for one in (twelve(), twelve(many.tolist())))
        weighted, repeated = arms_of(few, patients), arms_of(copied, np.ones(many.size))
        # The ridge is on standardised covariates, whose sd differs.
        np.testing.assert_allclose(weighted.at_risk, repeated.at_risk, rtol=2e-4, atol=1e-9)
        np.testing.assert_allclose(weighted.events, repeated.events, rtol=2e-4)
        np.testing.assert_allclose(
            weighted.log_hazard_ratio(), repeated.log_hazard_ratio(), atol=1e-4
        )
        # Something is made again: weights given the first fit are others.
        first = few.basis.weights(np.ones((12, 1)))
        assert np.abs(np.log(few.basis.weights(patients[:, None]) / first)).max() > 0.05


def test_curves_and_ratio_by_loops_over_rows() -> None:
    """From the pieces and weights that are given out, one event time after the other."""
    cohort, history = simulated(8, patients=80)
    for trial in (
        bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=GRACE, history=history),
        bb.starting_weights(cohort, QUESTION, endpoint="os", history=history),
    ):
        outcome = trial.cohort.endpoints["os"]
        phase = trial.cohort.phase_start[:, 0]
        exposed = np.where(np.isnan(phase), np.inf, phase) <= outcome.entry
        survival = {True: [1.0], False: [1.0]}
        sums = []
        times = np.unique(outcome.time[outcome.event])
        for at in times:
            row = []
            for arm in (True, False):
                here = (exposed == arm) & (outcome.entry < at) & (at <= outcome.time)
                died = here & outcome.event & (outcome.time == at)
                risk, events = trial.weights[here].sum(), trial.weights[died].sum()
                survival[arm].append(survival[arm][-1] * (1 - events / risk if risk else 1.0))
                row += [risk, events]
            sums.append(row)

        def score(beta: float, sums: list[list[float]] = sums) -> float:
            total = 0.0
            for risk, events, reference, others in sums:
                if risk and reference:
                    share = risk * math.exp(beta) / (risk * math.exp(beta) + reference)
                    total += events - (events + others) * share
            return total

        arms = arms_of(trial, np.ones(80))
        np.testing.assert_allclose(arms.times, times)
        for index, arm in ((0, False), (1, True)):
            got = arms.survival(times)[index, :, 0]
            np.testing.assert_allclose(got, survival[arm][1:], atol=1e-9)
            steps = np.concatenate([[0.0], times[times < 10.0], [10.0]])
            area = (np.diff(steps) * np.array(survival[arm])[: steps.size - 1]).sum()
            assert float(arms.rmst(10.0)[index, 0]) == pytest.approx(area, abs=1e-9)
        assert float(arms.log_hazard_ratio()[0]) == pytest.approx(brentq(score, -3, 3), abs=1e-7)


def test_the_second_arm_is_not_stabilised() -> None:
    """Its curve is the same either way; the hazard ratio is not, for its risk sets would shrink."""
    cohort, history = simulated(9, patients=2000, log_hazard_ratio=math.log(0.5))
    trial = bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=GRACE, history=history)
    basis = _counted(trial.basis)
    assert not basis.stabilised
    apart = replace(basis, stabilised=True).weights(np.ones((2000, 1)))
    plain = basis.weights(np.ones((2000, 1)))
    mixed = np.where(basis.exposed[:, None], plain, apart)
    counts = _counts(basis)
    one, other = counts.arms(plain), counts.arms(mixed)
    times = np.array([6.0, 12.0, 18.0])
    # Within a cell of time all that wait have nearly one numerator.
    np.testing.assert_allclose(one.survival(times), other.survival(times), atol=2e-3)
    assert float(other.log_hazard_ratio()[0] - one.log_hazard_ratio()[0]) > 0.02


def test_weighted_effects_hold_the_truth() -> None:
    """Few cohorts here, 1,000 in docs/validation/weighting.md, whose truths these are."""
    truths = {"survival_difference": (0.198, 0.253), "rmst_difference": (2.403,)}
    cohort, history = simulated(100, patients=6000, log_hazard_ratio=math.log(0.5))
    trial = bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=GRACE, history=history)
    effect = bb.weighted_effect(trial, seed=1, draws=40, times=[12.0, 18.0], horizon=18.0)
    table = effect.table.set_index("quantity")

    def near(row: Any, truth: float, scale: Any = float) -> None:
        # An sd of 40 draws has a relative error of 0.11.
        sd = float(row["sd"]) / (float(row["mean"]) if scale is np.log else 1.0)
        assert abs(float(scale(row["estimate"])) - truth) < 4 * sd

    near(table.loc["hazard_ratio"], -0.655, np.log)
    for name, values in truths.items():
        rows = table.loc[[name]].to_dict("records")
        for row, truth in zip(rows, values, strict=True):
            near(row, truth)
    weighted = bb.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING
    )
    found = bb.weighted_effect(weighted, seed=1, draws=40)
    near(found.table.iloc[0], -0.831, np.log)
    # Unweighted, patients who have started look better by 0.3: ten standard errors.
    plain = bb.cox(cohort, QUESTION, adjusted=False)
    assert math.log(float(plain["estimate"].iloc[0])) < -1.0


def test_the_spread_is_that_of_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, history = simulated(10, patients=200)
    given: dict[str, Any] = {"endpoint": "os", "grace": GRACE, "history": history}
    trial = bb.clone_censor_weight(cohort, QUESTION, **given)
    asked: dict[str, Any] = {"seed": 3, "times": [12.0], "horizon": 12.0}
    effect = bb.weighted_effect(trial, draws=1000, **asked)
    table = effect.table.set_index("quantity")
    # Each patient left out in turn, and the sample of patients that the concentration is found by.
    basis = _counted(trial.basis)
    without = 1.0 - np.eye(200, 201)
    arms = _counts(basis).arms(basis.weights(without) * without[basis.patient])
    never, starts = arms.survival(np.array([12.0]))[:, 0]
    concentration = emulation._concentration(basis, _counts(basis), 3)
    monkeypatch.setattr(emulation, "LEFT_OUT", 200)
    assert emulation._concentration(basis, _counts(basis), 3) == pytest.approx(
        concentration, rel=0.1
    )
    assert 0.6 < concentration < 0.95
    drawn = np.log(effect.hazard_ratio["hazard_ratio"].values)
    for values, sd in (
        (arms.log_hazard_ratio(), float(drawn.std())),
        (starts - never, float(table["sd"]["survival_difference"])),
    ):
        # An sd of 1,000 draws has a relative error of 0.022; the two differ by terms of 1 / n.
        jackknife = math.sqrt(((values[:-1] - values[-1]) ** 2).sum())
        assert sd == pytest.approx(jackknife, rel=0.1)
    # Each draw is the estimate of patients with its weights, from the model of starting on.
    assert concentration == pytest.approx(effect.hazard_ratio.attrs["concentration"], abs=1e-12)
    patients = emulation._patient_weights(trial.basis, 1000, 3, concentration)
    by_hand = [
        float(arms_of(trial, patients[:, index]).log_hazard_ratio()[0]) for index in range(3)
    ]
    np.testing.assert_allclose(drawn[0, :3, 0], by_hand, atol=1e-6)
    # Cut into more pieces, patients say no more: the same patients' weights give the same.
    monkeypatch.setattr(starting, "POINTS", 72)
    finer = _counted(bb.clone_censor_weight(cohort, QUESTION, **given).basis)
    monkeypatch.undo()
    assert finer.rows.size > 1.5 * basis.rows.size
    again = emulation._arms(finer, _counts(finer), patients[:, :200]).log_hazard_ratio()
    np.testing.assert_allclose(again.std(), drawn[0, :200, 0].std(), rtol=0.02)
    # Draws do not depend on how many are held at once.
    monkeypatch.setattr(emulation, "BLOCK", 50_000)
    blocks = bb.weighted_effect(trial, draws=1000, **asked)
    np.testing.assert_allclose(blocks.table["upper"], effect.table["upper"], rtol=1e-6)
    assert bb.weighted_effect(trial, draws=10, seed=4).table["sd"].iloc[0] > 0


def test_an_effect_has_the_form_of_the_estimands() -> None:
    cohort, history = simulated(11, patients=100)
    trial = bb.clone_censor_weight(cohort, QUESTION, endpoint="os", grace=GRACE, history=history)
    effect = bb.weighted_effect(trial, seed=1, draws=50)
    assert effect.survival is not None
    assert effect.survival_difference is not None
    assert effect.rmst is not None
    assert effect.rmst_difference is not None
    assert effect.survival["survival"].sizes == {
        "chain": 1,
        "draw": 50,
        "endpoint": 1,
        "regime": 2,
        "time": 51,
    }
    assert list(effect.survival["regime"].values) == ["maintenance within 6", "never"]
    apart = effect.survival["survival"].isel(regime=0) - effect.survival["survival"].isel(regime=1)
    difference = effect.survival_difference["survival_difference"]
    np.testing.assert_allclose(difference.values, apart.values)
    outcome = trial.cohort.endpoints["os"]
    alive = effect.table[effect.table["quantity"] == "survival"]
    for one in alive.iloc[[0, 20, 60, 101]].to_dict("records"):
        at = max(float(one["time"]), 1e-12)
        here = (outcome.entry < at) & (at <= outcome.time)
        here &= trial.basis.exposed == (one["regime"] != "never")
        weights = trial.weights[here]
        assert float(one["at_risk"]) == here.sum()
        effective = weights.sum() ** 2 / (weights**2).sum()
        assert float(one["effective_at_risk"]) == pytest.approx(effective)
    summary = bb.summary(effect.hazard_ratio)
    row = effect.table.set_index("quantity").loc["hazard_ratio"]
    for ours, theirs in (("mean", "mean"), ("lower", "lower"), ("upper", "upper")):
        assert float(summary[theirs].iloc[0]) == pytest.approx(float(row[ours]))
    assert bb.summary(effect.rmst_difference)["mean"].size == 1
    assert bb.plots.survival(effect.survival).axes[0].get_ylabel() == "survival"
    assert "hazard ratio" in repr(effect)
    shown = effect._repr_html_()
    assert "Synthetic patients." in shown
    assert "hazards are not proportional" in shown
    assert "not proportional" in effect.estimand["hazard ratio"]
    other = bb.weighted_effect(
        bb.starting_weights(cohort, QUESTION, endpoint="os", history=history), seed=1, draws=50
    )
    assert other.survival is None
    assert other.hazard_ratio["hazard_ratio"].sizes == {"chain": 1, "draw": 50, "endpoint": 1}


def test_effects_that_cannot_be_are_refused() -> None:
    cohort, history = simulated(12, patients=100)
    given: dict[str, Any] = {"endpoint": "os", "history": history}
    trial = bb.clone_censor_weight(cohort, QUESTION, grace=GRACE, **given)
    weighted = bb.starting_weights(cohort, QUESTION, **given)
    for times, horizon, words in (
        ([40.0], None, "beyond it an arm has nobody at risk"),
        (None, 40.0, "horizon must be"),
        (None, 0.0, "horizon must be"),
    ):
        with pytest.raises(EstimandError, match=words):
            bb.weighted_effect(trial, seed=1, times=times, horizon=horizon)
    for wrong in ([3.0, 2.0], [], [np.nan]):
        with pytest.raises(SpecError, match="rising"):
            bb.weighted_effect(trial, seed=1, times=wrong)
    with pytest.raises(SpecError, match="draws must be"):
        bb.weighted_effect(trial, seed=1, draws=1)
    with pytest.raises(SpecError, match="have no arms"):
        bb.weighted_effect(weighted, seed=1, times=[3.0])
    adjusted = bb.starting_weights(cohort, QUESTION, adjust=["marker"], **given)
    with pytest.raises(SpecError, match="without adjust"):
        bb.weighted_effect(adjusted, seed=1)
    quiet = bb.read_cohort(
        TWELVE.assign(event=[1] + [0] * 11),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance="start"),
        covariates=["x"],
    )
    never = bb.starting_weights(quiet, QUESTION, endpoint="os")
    with pytest.raises(EstimandError, match="Nobody has the event after starting"):
        bb.weighted_effect(never, seed=1)


def test_a_fit_has_the_middle_and_says_what_it_lacks() -> None:
    """The posterior mean is near the weighted partial likelihood's; pieces of one patient share."""
    cohort, history = simulated(13, patients=300)
    found = bb.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING
    )
    fit = bb.fit(
        found.cohort, found.question, seed=1, weights=found.weights, draws=500, progress=False
    )
    mean = float(fit.posterior["log_hazard_ratio"].mean())
    ratio = float(arms_of(found, np.ones(300)).log_hazard_ratio()[0])
    # A prior of 0.2 to 5 takes some 4 % of a log hazard ratio with this many events.
    assert mean == pytest.approx(ratio, abs=0.03)
    assert any("weighted_effect gives it" in note for note in fit.provenance.notes)


def test_pieces_share_their_patients_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, history = simulated(14, patients=60)
    found = bb.starting_weights(cohort, QUESTION, endpoint="os", history=history)
    fit = bb.fit(
        found.cohort, found.question, seed=1, weights=found.weights, draws=50, progress=False
    )
    people = fit.person_time.people
    people["person"] = ("patient", found.of.astype(str))
    given: list[Floats] = []
    monkeypatch.setattr(bootstrap, "with_weights", lambda *what: given.append(what[2]))
    quick = SamplerSettings(draws=10, tune=20, chains=1)
    bb.bayesian_bootstrap(fit, seed=1, replicates=2, settings=quick)
    by_patient = pd.DataFrame({"of": found.of, "weight": given[0]}).groupby("of")["weight"]
    assert (by_patient.max() == by_patient.min()).all()
    first = by_patient.first().to_numpy()
    assert first.mean() == pytest.approx(1.0)
    # Exponential weights of 60 patients: their sd of 1 has an error of 0.13 or so.
    assert first.std() == pytest.approx(1.0, abs=0.5)
    assert np.unique(first).size == 60


def test_the_demo_is_weighted_as_well() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    found = bb.starting_weights(cohort, question, endpoint="rfs", confounders=["age_group"])
    # Some of the 86 begin consolidation after a relapse: they are at risk of none.
    exits = bb.person_time(cohort, question).people["exit"].sel(endpoint="rfs")
    assert f"{int(np.isfinite(exits).sum())} patients" in repr(found)
    assert list(found.balance["covariate"]) == ["age_group[35-54]", "age_group[55+]"]
    figure = bb.plots.balance(found.balance)
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["unweighted", "weighted"]
    fit = bb.fit(found.cohort, found.question, seed=1, weights=found.weights, progress=False)
    assert fit.person_time.weighted
    assert any("pseudo-posterior" in note for note in fit.provenance.notes)


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
    found = bb.starting_weights(cohort, question, endpoint="os")
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
    effect = bb.weighted_effect(found, seed=1, draws=20)
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

    def weighted(away: float) -> bb.Weighted:
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
        return bb.starting_weights(cohort, question, endpoint="os")

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
    found = bb.starting_weights(cohort, QUESTION, endpoint="os")
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
            bb.starting_weights(cohort, question, endpoint="os")
    with pytest.raises(SpecError, match="whatever follows: choose phase_end='ever'"):
        bb.clone_censor_weight(
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
            bb.starting_weights(cohort, QUESTION, **given)
    for frame, words in (
        (one, "no values at or before"),
        (history.assign(patient="x"), "not in the cohort"),
        (history.rename(columns={"time": "t"}), "time: no such column"),
        (pd.concat([history, history["worse"]], axis=1), "more than one column"),
        (history.assign(worse=np.nan), "missing or infinite"),
    ):
        with pytest.raises(DataError, match=words):
            bb.starting_weights(cohort, QUESTION, endpoint="os", history=frame)
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
        bb.starting_weights(moved, QUESTION, endpoint="os")
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


# Histories ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0.0, -24.0, -60.0, -600.0, -1e6])
def test_how_long_before_the_origin_a_value_was_taken_changes_nothing(first: float) -> None:
    cohort, history = measured(first)
    found, usual = (
        bb.starting_weights(cohort, MEASURED, endpoint="y", history=rows).weights
        for rows in (history, measured(0.0)[1])
    )
    np.testing.assert_allclose(found, usual, rtol=1e-9)


MEASURED = bb.Question(exposed="m", eligible_from="entry")


def measured(first: float) -> tuple[bb.Cohort, pd.DataFrame]:
    """Patients whose one value was taken twice."""
    draw = np.random.default_rng(5)
    time, start = draw.exponential(15, 120).clip(0.5, 24), draw.exponential(8, 120)
    x = draw.normal(size=120)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(120)],
            "t": time,
            "e": (time < 24).astype(int),
            "s": np.where(start < time, start, np.nan),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e")},
        phases=bb.Phases(m="s"),
    )
    rows = [pd.DataFrame({"patient": table["id"], "time": at, "x": x}) for at in (first, 1.0)]
    return cohort, pd.concat(rows, ignore_index=True)


def test_two_values_at_one_time_are_refused() -> None:
    for first, noise in ((0.0, 0.0), (0.0, 1e-12), (-24.0, 0.0), (-24.0, 1e-12)):
        cohort, history = measured(first)
        other = history.assign(x=-history["x"], time=history["time"] * (1 + noise))
        with pytest.raises(DataError, match="different values at one time"):
            bb.starting_weights(cohort, MEASURED, endpoint="y", history=pd.concat([history, other]))
    # The same value twice says nothing new.
    same = pd.concat([history, history])
    late = history.assign(time=history["time"].replace(0.0, -1e-12))
    usual = bb.starting_weights(cohort, MEASURED, endpoint="y", history=history).weights
    for rows in (same, late):
        found = bb.starting_weights(cohort, MEASURED, endpoint="y", history=rows).weights
        np.testing.assert_allclose(found, usual, rtol=1e-9)
    with pytest.raises(DataError, match=r"not numbers.*levels of a category as 0 and 1"):
        bb.starting_weights(cohort, MEASURED, endpoint="y", history=history.assign(x="high"))
