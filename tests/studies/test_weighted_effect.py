"""What weighted follow-up says: against R, formulas by loops, and simulation truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.studies import bootstrap
from bayesblina.studies.weighting import course as courses
from bayesblina.studies.weighting import effect as effects
from bayesblina.studies.weighting import pieces
from bayesblina.studies.weighting.effect import Arms, _arm_counts, _counted
from tests.studies.builders import EVERYTHING, TWELVE, arms_of
from tests.studies.weighting import GRACE, QUESTION, simulated

# Rscript tests/data/weights.R: log hazard ratio; survival at 5 and 10 of the arm that starts, and
# of the other; difference of restricted means to 10. All patients alike, and weighted.
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
    for points, tolerance in ((pieces.POINTS, 0.01), (500, 4e-4)):
        monkeypatch.setattr(courses, "POINTS", points)
        trial = bb.weighting.clone_censor_weight(
            twelve(), QUESTION, endpoint="os", grace=4.0, cuts=cuts
        )
        for patients, expected in IN_R:
            assert numbers(arms_of(trial, patients)) == pytest.approx(expected, abs=tolerance)
    # R's coefficient by glm; the ridge is 1e-4.
    assert float(trial.balance["log_hazard_ratio"].iloc[0]) == pytest.approx(-1.776263, abs=1e-3)


def test_weights_of_patients_are_as_many_patients() -> None:
    """The model of starting, weights and outcome are made again under them."""
    patients = IN_R[1][0]
    many = np.repeat(np.arange(12), patients.astype(int))
    for made, more in (
        (bb.weighting.clone_censor_weight, {"grace": 4.0}),
        (bb.weighting.starting_weights, {}),
    ):
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
        bb.weighting.clone_censor_weight(
            cohort, QUESTION, endpoint="os", grace=GRACE, history=history
        ),
        bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", history=history),
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
    trial = bb.weighting.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=GRACE, history=history
    )
    basis = _counted(trial.basis)
    assert not basis.stabilised
    apart = replace(basis, stabilised=True).weights(np.ones((2000, 1)))
    plain = basis.weights(np.ones((2000, 1)))
    mixed = np.where(basis.exposed[:, None], plain, apart)
    counts = _arm_counts(basis)
    one, other = counts.arms(plain), counts.arms(mixed)
    times = np.array([6.0, 12.0, 18.0])
    # Within a cell of time all that wait have nearly one numerator.
    np.testing.assert_allclose(one.survival(times), other.survival(times), atol=2e-3)
    assert float(other.log_hazard_ratio()[0] - one.log_hazard_ratio()[0]) > 0.02


def test_weighted_effects_hold_the_truth() -> None:
    """Few cohorts here, 1,000 in docs/validation/weighting.md, whose truths these are."""
    truths = {"survival_difference": (0.198, 0.253), "rmst_difference": (2.403,)}
    cohort, history = simulated(100, patients=6000, log_hazard_ratio=math.log(0.5))
    trial = bb.weighting.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=GRACE, history=history
    )
    effect = bb.weighting.weighted_effect(trial, seed=1, draws=40, times=[12.0, 18.0], horizon=18.0)
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
    weighted = bb.weighting.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=EVERYTHING
    )
    found = bb.weighting.weighted_effect(weighted, seed=1, draws=40)
    near(found.table.iloc[0], -0.831, np.log)
    # Unweighted, patients who have started look better by 0.3: ten standard errors.
    plain = bb.cox(cohort, QUESTION, adjusted=False)
    assert math.log(float(plain["estimate"].iloc[0])) < -1.0


def test_the_spread_is_that_of_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, history = simulated(10, patients=200)
    given: dict[str, Any] = {"endpoint": "os", "grace": GRACE, "history": history}
    trial = bb.weighting.clone_censor_weight(cohort, QUESTION, **given)
    asked: dict[str, Any] = {"seed": 3, "times": [12.0], "horizon": 12.0}
    effect = bb.weighting.weighted_effect(trial, draws=1000, **asked)
    table = effect.table.set_index("quantity")
    # Each patient left out in turn, and the sample of patients that the concentration is found by.
    basis = _counted(trial.basis)
    without = 1.0 - np.eye(200, 201)
    arms = _arm_counts(basis).arms(basis.weights(without) * without[basis.patient])
    never, starts = arms.survival(np.array([12.0]))[:, 0]
    concentration = effects._concentration(basis, _arm_counts(basis), 3)
    monkeypatch.setattr(effects, "LEFT_OUT", 200)
    assert effects._concentration(basis, _arm_counts(basis), 3) == pytest.approx(
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
    patients = effects._patient_weights(trial.basis, 1000, 3, concentration)
    by_hand = [
        float(arms_of(trial, patients[:, index]).log_hazard_ratio()[0]) for index in range(3)
    ]
    np.testing.assert_allclose(drawn[0, :3, 0], by_hand, atol=1e-6)
    # Cut into more pieces, patients say no more: the same patients' weights give the same.
    monkeypatch.setattr(courses, "POINTS", 72)
    finer = _counted(bb.weighting.clone_censor_weight(cohort, QUESTION, **given).basis)
    monkeypatch.undo()
    assert finer.rows.size > 1.5 * basis.rows.size
    again = effects._arms(finer, _arm_counts(finer), patients[:, :200]).log_hazard_ratio()
    np.testing.assert_allclose(again.std(), drawn[0, :200, 0].std(), rtol=0.02)
    # Draws do not depend on how many are held at once.
    monkeypatch.setattr(effects, "BLOCK", 50_000)
    blocks = bb.weighting.weighted_effect(trial, draws=1000, **asked)
    np.testing.assert_allclose(blocks.table["upper"], effect.table["upper"], rtol=1e-6)
    assert bb.weighting.weighted_effect(trial, draws=10, seed=4).table["sd"].iloc[0] > 0


def test_an_effect_has_the_form_of_the_estimands() -> None:
    cohort, history = simulated(11, patients=100)
    trial = bb.weighting.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=GRACE, history=history
    )
    effect = bb.weighting.weighted_effect(trial, seed=1, draws=50)
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
    other = bb.weighting.weighted_effect(
        bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", history=history),
        seed=1,
        draws=50,
    )
    assert other.survival is None
    assert other.hazard_ratio["hazard_ratio"].sizes == {"chain": 1, "draw": 50, "endpoint": 1}


def test_effects_that_cannot_be_are_refused() -> None:
    cohort, history = simulated(12, patients=100)
    given: dict[str, Any] = {"endpoint": "os", "history": history}
    trial = bb.weighting.clone_censor_weight(cohort, QUESTION, grace=GRACE, **given)
    weighted = bb.weighting.starting_weights(cohort, QUESTION, **given)
    for times, horizon, words in (
        ([40.0], None, "beyond it an arm has nobody at risk"),
        (None, 40.0, "horizon must be"),
        (None, 0.0, "horizon must be"),
    ):
        with pytest.raises(EstimandError, match=words):
            bb.weighting.weighted_effect(trial, seed=1, times=times, horizon=horizon)
    for wrong in ([3.0, 2.0], [], [np.nan]):
        with pytest.raises(SpecError, match="rising"):
            bb.weighting.weighted_effect(trial, seed=1, times=wrong)
    with pytest.raises(SpecError, match="draws must be"):
        bb.weighting.weighted_effect(trial, seed=1, draws=1)
    with pytest.raises(SpecError, match="have no arms"):
        bb.weighting.weighted_effect(weighted, seed=1, times=[3.0])
    adjusted = bb.weighting.starting_weights(cohort, QUESTION, adjust=["marker"], **given)
    with pytest.raises(SpecError, match="without adjust"):
        bb.weighting.weighted_effect(adjusted, seed=1)
    quiet = bb.read_cohort(
        TWELVE.assign(event=[1] + [0] * 11),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance="start"),
        covariates=["x"],
    )
    never = bb.weighting.starting_weights(quiet, QUESTION, endpoint="os")
    with pytest.raises(EstimandError, match="Nobody has the event after starting"):
        bb.weighting.weighted_effect(never, seed=1)


def test_a_fit_has_the_middle_and_says_what_it_lacks() -> None:
    """The posterior mean is near the weighted partial likelihood's; pieces of one patient share."""
    cohort, history = simulated(13, patients=300)
    found = bb.weighting.starting_weights(
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
    found = bb.weighting.starting_weights(cohort, QUESTION, endpoint="os", history=history)
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
    found = bb.weighting.starting_weights(
        cohort, question, endpoint="rfs", confounders=["age_group"]
    )
    # Some of the 86 begin consolidation after a relapse: they are at risk of none.
    exits = bb.person_time(cohort, question).people["exit"].sel(endpoint="rfs")
    assert f"{int(np.isfinite(exits).sum())} patients" in repr(found)
    assert list(found.balance["covariate"]) == ["age_group[35-54]", "age_group[55+]"]
    figure = bb.plots.balance(found.balance)
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["unweighted", "weighted"]
    fit = bb.fit(found.cohort, found.question, seed=1, weights=found.weights, progress=False)
    assert fit.person_time.weighted
    assert any("pseudo-posterior" in note for note in fit.provenance.notes)
