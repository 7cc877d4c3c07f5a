"""The truth of the synthetic study is true."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.person_time.transitions import TRANSITIONS
from bayesblina.studies.simulate import (
    LogLinearHazard,
    Truth,
    blinatumomab_cohort,
    blinatumomab_table,
    treatment_stays,
)
from tests.studies.simulated import PATIENTS, STATES, TREATED


def test_true_log_hazard_ratios_are_returned() -> None:
    _, truth = blinatumomab_cohort(3)
    assert truth.log_hazard_ratio["rfs"] == np.log(0.7)
    assert dict(truth.transition_log_hazard_ratio) == dict(
        zip(TRANSITIONS, np.log([0.7, 0.7, 0.6]), strict=True)
    )
    own = Truth.without_confounding(log_hazard_ratio=-0.2)
    assert blinatumomab_cohort(3, truth=own).truth is own


@pytest.mark.parametrize("ratio", [-0.8, 0.0, 0.3])
def test_without_confounding_overall_survival_is_proportional(ratio: float) -> None:
    """Deaths have one hazard, before and after relapse: a closed form, whatever the relapses do."""
    truth = Truth.without_confounding(log_hazard_ratio=ratio, death_share=0.4)
    assert truth.log_hazard_ratio["rfs"] == ratio
    assert truth.log_hazard_ratio["os"] == pytest.approx(ratio, abs=1e-5)
    times = np.array([8.0, 9.5, 20.0, 36.0])
    relative = np.array([1.0, 1.30 * 1.35 * 1.005**20])
    hazard = truth.baseline["in_remission"]
    for start in (8.0, 12.0, np.inf):
        before = hazard.cumulative(np.minimum(times, start)) - hazard.cumulative(8.0)
        after = hazard.cumulative(times) - hazard.cumulative(np.minimum(times, start))
        total = before + np.exp(ratio) * after
        expected = np.exp(-0.4 * relative[:, None] * total)
        found = truth.survival("os", PATIENTS, times, landmark=8.0, maintenance_start=start)
        if start > 8.0 and np.isfinite(start):
            # Who relapses before month 12 is not maintained: between that and all being so.
            never = truth.survival("os", PATIENTS, times, landmark=8.0)
            assert (np.sign(ratio) * (never - found) >= -1e-12).all()
            assert (np.sign(ratio) * (found - expected) >= -1e-6).all()
        else:
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "truth",
    [
        Truth(),
        Truth.without_confounding(),
        Truth(
            maintenance_log_hazard_ratio={"after_relapse": 0, "in_remission": 0.25},
            transplant_hazard=dict.fromkeys(TREATED, 0),
            second_remission_hazard=0,
            retreated_share={"consolidation": 0.1, "maintenance": 0.2},
            follow_up=(24, 24),
            baseline={
                "no_remission": LogLinearHazard(knots=(2,), hazards=(0.1,)),
                "in_remission": LogLinearHazard(knots=(0, 5, 10), hazards=(0.03, 0.04, 0.05)),
                "after_relapse": LogLinearHazard(knots=(1, 20), hazards=(0.2, 0.1)),
            },
        ),
    ],
)
def test_truth_comes_back_as_it_was(truth: Truth) -> None:
    values = json.loads(json.dumps(truth.as_dict()))
    assert Truth.from_dict(values) == truth
    assert Truth.from_dict(values).as_dict() == truth.as_dict()
    assert pickle.loads(pickle.dumps(truth)) == truth
    assert copy.deepcopy(truth) == truth
    pd.testing.assert_frame_equal(
        blinatumomab_table(1, truth=Truth.from_dict(values)), blinatumomab_table(1, truth=truth)
    )


def test_truth_is_read_only() -> None:
    given_ratios = {"in_remission": -0.2, "after_relapse": -0.1}
    truth = Truth(maintenance_log_hazard_ratio=given_ratios)
    given_ratios["in_remission"] = 5.0
    assert truth.maintenance_log_hazard_ratio["in_remission"] == -0.2
    for mapping in (
        truth.maintenance_log_hazard_ratio,
        truth.log_hazard_ratio,
        truth.baseline,
        truth.covariate_log_hazard_ratios["in_remission"],
        truth.remission_log_odds,
    ):
        with pytest.raises(TypeError):
            mapping["os"] = 0.0  # type: ignore[index]


# Called as nobody who checks types would.
cohort_of: Callable[..., Any] = blinatumomab_cohort
table_of: Callable[..., Any] = blinatumomab_table
hazard_of: Callable[..., Any] = LogLinearHazard
truth_of: Callable[..., Any] = Truth
stays_of: Callable[..., Any] = treatment_stays
IN_REMISSION = {"in_remission": 0.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: table_of(-1), r"seed must be a whole number from 0 to 2\^63 - 1, got -1"),
        (lambda: cohort_of(1.5), r"seed must be a whole number from 0 to 2\^63 - 1, got 1\.5"),
        (lambda: table_of("1"), r"seed must be a whole number from 0 to 2\^63 - 1, got '1'"),
        (lambda: table_of(True), r"seed must be a whole number from 0 to 2\^63 - 1, got True"),
        (lambda: table_of(1, n_patients=9.0), "n_patients must be an integer"),
        (lambda: table_of(1, n_maintenance=-1), "n_maintenance must be an integer"),
        (lambda: table_of(1, n_maintenance=87), "got 87, 86, 267"),
        (lambda: table_of(1, n_consolidation=268), "got 36, 268, 267"),
        (
            lambda: table_of(1, n_patients=0, n_consolidation=0, n_maintenance=0),
            "at least one patient",
        ),
        (
            lambda: table_of(1, n_patients=86),
            r"at best \d\d reached .* consolidation \(86 wanted\) .* ask for fewer",
        ),
        (
            lambda: table_of(1, n_maintenance=86),
            r"at best \d+ reached .* and \d\d that of maintenance \(86 wanted\)",
        ),
        (lambda: hazard_of(knots=(1.0,), hazards=(1.0, 1.0)), "1 knots and 2 hazards were given"),
        (lambda: hazard_of(knots=(), hazards=()), "at least one knot"),
        (lambda: hazard_of(knots=(2.0, 1.0), hazards=(1.0,) * 2), "strictly increase"),
        (lambda: hazard_of(knots=(-1.0,), hazards=(1.0,)), "must not be negative"),
        (lambda: hazard_of(knots=(0.0,), hazards=(0.0,)), "hazards must be positive"),
        (lambda: hazard_of(knots=(np.inf,), hazards=(1.0,)), "knots must be finite"),
        (lambda: hazard_of(knots=(0.0,), hazards=("high",)), "made of numbers"),
        (lambda: hazard_of(knots=None, hazards=(1.0,)), "knots must be made of numbers"),
        (
            lambda: truth_of(maintenance_log_hazard_ratio=IN_REMISSION),
            "missing: after_relapse; unknown: none",
        ),
        (
            lambda: truth_of(
                maintenance_log_hazard_ratio={**IN_REMISSION, "after_relapse": 0.0, "os": 0.0}
            ),
            "missing: none; unknown: os",
        ),
        (
            lambda: truth_of(
                maintenance_log_hazard_ratio={**IN_REMISSION, "after_relapse": np.nan}
            ),
            "must be finite",
        ),
        (
            lambda: truth_of(maintenance_log_hazard_ratio=0.5),
            "maintenance_log_hazard_ratio must map in_remission, after_relapse, got 0.5",
        ),
        (lambda: truth_of(baseline={}), "missing: no_remission, in_remission, after_relapse"),
        (
            lambda: truth_of(baseline=dict.fromkeys(STATES, 0.1)),
            r"baseline\['no_remission'\] must be a LogLinearHazard",
        ),
        (
            lambda: truth_of(covariate_log_hazard_ratios={name: {} for name in STATES}),
            r"covariate_log_hazard_ratios\['no_remission'\] must name exactly age_group",
        ),
        (lambda: truth_of(remission_log_odds={"intercept": 0.0}), "missing: age_group"),
        (lambda: truth_of(death_in_remission_log_odds={"intercept": 0.0}), "missing: age_group"),
        (
            lambda: truth_of(transplant_hazard={**IN_REMISSION, "after_relapse": -0.1}),
            "transplant_hazard must be at least 0",
        ),
        (lambda: truth_of(transplant_hazard=None), "transplant_hazard must map in_remission"),
        (
            lambda: truth_of(transplant_log_hazard_ratio={**IN_REMISSION, "after_relapse": "low"}),
            "transplant_log_hazard_ratio must be made of numbers",
        ),
        (lambda: truth_of(second_remission_hazard=-1), "second_remission_hazard must be at least"),
        (lambda: truth_of(late_relapse_log_hazard_ratio=np.inf), "must be finite"),
        (lambda: truth_of(retreated_share=0.1), "retreated_share must map consolidation, mainten"),
        (
            lambda: truth_of(retreated_share={"consolidation": 0.1, "maintenance": 1.0}),
            "retreated_share must be below 1, got 1.0",
        ),
        (
            lambda: truth_of(retreated_share={"consolidation": -0.1, "maintenance": 0.0}),
            "retreated_share must be at least 0, got -0.1",
        ),
        (lambda: truth_of(follow_up=(2.0, 36.0)), "after the last possible remission at 2.3"),
        (lambda: truth_of(follow_up=(36.0, 12.0)), "follow_up must be a shortest and a longest"),
        (lambda: truth_of(follow_up=(12.0,)), "follow_up must be a shortest and a longest"),
        (lambda: truth_of(follow_up=(4.0, 8.0)).log_hazard_ratio, "follow-up ends at 8"),
        (lambda: Truth.without_confounding(death_share=1.0), "death_share must lie between"),
        (lambda: Truth.from_dict({}), "truth must name exactly maintenance_log_hazard_ratio"),
        (lambda: Truth.from_dict(truth_of().as_dict() | {"more": 1}), "unknown: more"),
        (
            lambda: Truth.from_dict(
                truth_of().as_dict() | {"baseline": {name: {"knots": []} for name in STATES}}
            ),
            r"baseline\['no_remission'\] must name exactly knots, hazards; missing: hazards",
        ),
        (
            lambda: truth_of().survival("efs", PATIENTS, [9.0], landmark=8.0),
            "unknown endpoint 'efs'",
        ),
        (
            lambda: truth_of().survival("os", PATIENTS, [7.0], landmark=8.0),
            "not before the landmark at 8",
        ),
        (lambda: stays_of(blinatumomab_table(1), seed=-1), "seed must be a whole number"),
        (
            lambda: stays_of(blinatumomab_table(1).drop(columns="relapse_month"), seed=1),
            "the table lacks relapse_month",
        ),
    ],
)
def test_errors_say_what_is_wrong(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize(
    ("knots", "hazards"), [((2.0, 5.0, 9.0), (0.1, 0.3, 0.05)), ((0.0, 4.0), (0.2, 0.2))]
)
def test_hazards_are_continuous_and_inverted_exactly(
    knots: tuple[float, ...], hazards: tuple[float, ...]
) -> None:
    hazard = LogLinearHazard(knots=knots, hazards=hazards)
    times = np.array([0.0, 1.0, 2.0, 3.7, 5.0, 8.0, 9.0, 30.0])
    np.testing.assert_allclose(hazard.at(knots), hazards, rtol=1e-12)
    np.testing.assert_allclose(
        hazard.cumulative(times),
        [quad(lambda t: float(hazard.at(t)), 0.0, end, points=knots)[0] for end in times],
        rtol=1e-7,
    )
    np.testing.assert_allclose(hazard.inverse(hazard.cumulative(times)), times, atol=1e-10)
    assert np.isnan(hazard.inverse(hazard.cumulative(np.nan)))
    np.testing.assert_allclose(hazard.scaled(3.0).cumulative(times), 3 * hazard.cumulative(times))


def test_cumulative_hazard_by_hand() -> None:
    steady = LogLinearHazard(knots=(0.0,), hazards=(0.1,))
    truth = Truth(
        maintenance_log_hazard_ratio={**IN_REMISSION, "in_remission": np.log(0.5)}
        | {"after_relapse": 0.0},
        baseline=dict.fromkeys(STATES, steady),
    )
    relative = np.array([1.0, 1.30 * 1.35 * 1.005**20])
    found = truth.cumulative_hazard(PATIENTS, [3.0, 10.0], maintenance_start=5.0)
    assert found == pytest.approx(relative[:, None] * [0.3, 0.5 + 0.5 * 0.5])


def alive_by_quadrature(
    truth: Truth, share: float, relative: tuple[float, float], end: float, start: float
) -> float:
    """Overall survival from month 8, with a constant hazard after relapse, written out.

    After a relapse, with hazard a of death, s of a second remission and p a of death in it, those
    alive after u months are exp(-(a + s) u) before it, and in it a convolution of exponentials.
    """
    in_remission = truth.baseline["in_remission"]
    treated = np.exp(truth.maintenance_log_hazard_ratio["in_remission"])
    (steady,) = truth.baseline["after_relapse"].hazards
    second = truth.second_remission_hazard
    better = np.exp(truth.second_remission_log_hazard_ratio)

    def remains(t: float) -> float:
        before = in_remission.cumulative(min(t, start)) - in_remission.cumulative(8.0)
        after = in_remission.cumulative(t) - in_remission.cumulative(min(t, start))
        return float(np.exp(-relative[0] * (before + treated * after)))

    def relapse_then_alive(r: float) -> float:
        hazard = relative[0] * float(in_remission.at(r)) * (treated if r > start else 1.0)
        dying = (
            steady * relative[1] * (r / 6.0) ** (truth.late_relapse_log_hazard_ratio / np.log(2.0))
        )
        if r > start:
            dying *= np.exp(truth.maintenance_log_hazard_ratio["after_relapse"])
        waited = end - r
        first = np.exp(-(dying + second) * waited)
        gap = dying + second - better * dying
        then = second / gap * (np.exp(-better * dying * waited) - first)
        return float(remains(r) * hazard * (1.0 - share) * (first + then))

    marks = [mark for mark in (12.0, start, 24.0) if 8.0 < mark < end]
    relapsed = quad(relapse_then_alive, 8.0, end, points=marks or None, epsabs=1e-10, limit=200)
    return remains(end) + float(relapsed[0])


@pytest.mark.parametrize("start", [8.0, 10.05, np.inf])
def test_overall_survival_is_the_integral_over_relapses(start: float) -> None:
    truth = Truth()
    times = [8.0, 9.0, 15.0, 33.3]
    found = truth.survival("os", PATIENTS, times, landmark=8.0, maintenance_start=start)
    odds = -2.35 + np.array([0.0, 0.6 + 0.1])
    relative = [(1.0, 1.0), (1.30 * 1.35 * 1.005**20, 1.40 * 1.30 * 1.003**20)]
    expected = [
        [alive_by_quadrature(truth, 1.0 / (1.0 + np.exp(-one)), both, end, start) for end in times]
        for one, both in zip(odds, relative, strict=True)
    ]
    # The steps of at most 0.1 months cost an error of second order.
    np.testing.assert_allclose(found, expected, atol=2e-5)
    whole = truth.state_occupancy(PATIENTS, times, landmark=8.0, maintenance_start=start)
    np.testing.assert_allclose(whole.sum(axis=-1), 1.0, atol=1e-12)
    total = truth.cumulative_hazard(PATIENTS, [8.0, *times], maintenance_start=start)
    np.testing.assert_allclose(whole[..., 0], np.exp(-(total[:, 1:] - total[:, :1])), rtol=1e-12)
    np.testing.assert_allclose(
        whole[..., 2], (1.0 - whole[..., 0]) / (1.0 + np.exp(-odds[:, None])), atol=1e-12
    )


def trial(truth: Truth, rng: np.random.Generator, patients: int) -> pd.DataFrame:
    """Randomise in month 8 and follow in steps of a fiftieth of a month: no inversion, no integral.

    All patients are baseline patients; half are maintained from month 8 on.
    """
    step, maintained = 0.02, np.arange(patients) % 2 == 1
    state, death = np.zeros(patients, dtype=int), np.full(patients, np.inf)
    relative = np.ones(patients)
    at_month_6 = np.exp(truth.maintenance_log_hazard_ratio["after_relapse"] * maintained)
    leave = np.exp(truth.maintenance_log_hazard_ratio["in_remission"] * maintained)
    better = np.exp(truth.second_remission_log_hazard_ratio)
    share = 1.0 / (1.0 + np.exp(-truth.death_in_remission_log_odds["intercept"]))
    for month in np.arange(8.0, 36.0, step) + step / 2.0:
        hazard, after = (float(truth.baseline[one].at(month)) for one in STATES[1:])
        chance = rng.random(patients)
        leaves = (state == 0) & (chance < step * hazard * leave)
        dies = leaves & (rng.random(patients) < share)
        dies |= (state == 1) & (chance < step * after * relative)
        dies |= (state == 2) & (chance < step * after * relative * better)
        again = (state == 1) & (rng.random(patients) < step * truth.second_remission_hazard)
        late = (month / 6.0) ** (truth.late_relapse_log_hazard_ratio / np.log(2.0))
        relative = np.where(leaves, at_month_6 * late, relative)
        state = np.where(leaves, 1, np.where(again, 2, state))
        state = np.where(dies, 3, state)
        death = np.where(dies, month, death)
    return pd.DataFrame({"maintained": maintained, "death": death})


def test_a_randomised_trial_finds_the_true_curves_and_ratio() -> None:
    same = {
        state: dict.fromkeys(terms, 0.0)
        for state, terms in Truth().covariate_log_hazard_ratios.items()
    }
    truth = Truth(covariate_log_hazard_ratios=same, follow_up=(36.0, 36.0))
    patients = 20_000
    found = trial(truth, np.random.default_rng(7), patients)
    times = [12.0, 18.0, 24.0, 36.0]
    for maintained, start in ((True, 8.0), (False, np.inf)):
        death = found.loc[found["maintained"] == maintained, "death"].to_numpy()
        curve = truth.survival(
            "os", PATIENTS.iloc[:1], times, landmark=8.0, maintenance_start=start
        )[0]
        error = np.sqrt(curve * (1.0 - curve) / death.size)
        alive = (death[:, None] > times).mean(axis=0)
        # Four binomial standard errors; steps of 0.02 months cost less than a tenth of one.
        assert (np.abs(alive - curve) < 4.0 * error).all()
    table = pd.DataFrame(
        {
            "id": np.arange(patients),
            "months": np.minimum(found["death"], 36.0) - 8.0,
            "died": (found["death"] < 36.0).astype(int),
            "start": np.where(found["maintained"], 0.0, np.nan),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died")},
        phases=bb.Phases(maintenance="start"),
    )
    row = bb.cox(cohort, bb.Question(exposed="maintenance", eligible_from="entry")).iloc[0]
    error = np.log(row["upper"] / row["lower"]) / (2 * 1.959964)
    assert error < 0.025
    assert abs(np.log(row["estimate"]) - truth.log_hazard_ratio["os"]) < 4 * error
