"""The illness-death model: its transitions, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import DataError, EstimandError, SpecError
from bayesblina.core.occupancy import follow
from bayesblina.output.analysis import require_own_fit
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.transitions import TRANSITIONS, find_transitions

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


def course_table() -> pd.DataFrame:
    """Five courses by hand: phase at 2; remission from 0.

    a relapses at 4 and dies at 9; b dies in remission at 5; c relapses at 3, alive at 8;
    d is in remission at 10; e is lost to assessment at 6 and dies at 7.
    """
    return pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "e"],
            "os": [9.0, 5.0, 8.0, 10.0, 7.0],
            "died": [1, 1, 0, 0, 1],
            "rfs": [4.0, 5.0, 3.0, 10.0, 6.0],
            "failed": [1, 1, 1, 0, 0],
            "m": [2.0, None, None, 2.0, None],
        }
    )


def cohort_of(table: pd.DataFrame) -> bb.Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died"),
            "rfs": bb.Endpoint(time="rfs", event="failed"),
        },
        phases=bb.Phases(m="m"),
    )


def test_transitions_by_hand() -> None:
    question = bb.Question(exposed="m", eligible_from="entry")
    found = find_transitions(cohort_of(course_table()), question, death="os", relapse_free="rfs")
    assert tuple(found) == TRANSITIONS
    relapse, dying, after = (found[name] for name in TRANSITIONS)
    for one, events in ((relapse, [0, 2]), (dying, [1]), (after, [0])):
        assert sorted(one.patient[one.event].tolist()) == events
    # 4 + 5 + 3 + 10 + 6 months in remission; a from 4 to 9 and c from 3 to 8 after relapse.
    assert relapse.time_at_risk == dying.time_at_risk == 28.0
    assert after.time_at_risk == 10.0
    in_m = after.phases.index("m")
    rows = after.phase == in_m
    assert (after.stop - after.start)[rows].sum() == 5.0
    assert after.start[rows].tolist() == [4.0]


def test_phases_may_start_after_the_relapse() -> None:
    """Patient c starts at 5, after the relapse at 3: time of the transition after it."""
    table = course_table()
    table.loc[2, "m"] = 5.0
    question = bb.Question(exposed="m", eligible_from="entry")
    found = find_transitions(cohort_of(table), question, death="os", relapse_free="rfs")
    for name in TRANSITIONS[:2]:
        mine = found[name].patient == 2
        assert found[name].start[mine].tolist() == [0.0]
        assert found[name].stop[mine].tolist() == [3.0]
    after = found[TRANSITIONS[2]]
    mine = after.patient == 2
    assert after.start[mine].tolist() == [3.0, 5.0]
    assert after.stop[mine].tolist() == [5.0, 8.0]
    assert [after.phases[one] for one in after.phase[mine]] == ["before m", "m"]


def test_a_relapse_just_before_death_is_that_death() -> None:
    """Less than a hundredth of a day, 0.0003 months; the question's own endpoints are not used."""
    question = bb.Question(exposed="m", eligible_from="entry", endpoints=("os",))
    for apart, events in ((2e-4, (1, 2, 0)), (1e-3, (2, 1, 1))):
        table = course_table()
        table.loc[0, "rfs"] = 9.0 - apart
        found = find_transitions(cohort_of(table), question, death="os", relapse_free="rfs")
        assert tuple(found[name].events for name in TRANSITIONS) == events
        mine = found[TRANSITIONS[1]].patient == 0
        # Their times stay as they are.
        assert found[TRANSITIONS[1]].stop[mine].max() == 9.0 - apart
        after = found[TRANSITIONS[2]]
        assert (0 in after.patient) is (apart > 3e-4)


@pytest.mark.parametrize(
    ("patient", "column", "value", "message"),
    [
        ("a", "rfs", 9.5, "follow-up for rfs ends after that for os"),
        ("b", "failed", 0, "a death in remission is no event of rfs"),
    ],
)
def test_impossible_courses_are_named(
    patient: str, column: str, value: float, message: str
) -> None:
    table = course_table()
    table[column] = table[column].astype(float)
    table.loc[table["id"] == patient, column] = value
    question = bb.Question(exposed="m", eligible_from="entry")
    with pytest.raises(DataError, match=message) as caught:
        find_transitions(cohort_of(table), question, death="os", relapse_free="rfs")
    assert "[1 patient]" in str(caught.value)
    assert f"[1 patient: {patient}]" in caught.value.words(show_ids=True)
    with pytest.raises(SpecError, match="No endpoint 'efs'"):
        find_transitions(cohort_of(course_table()), question, death="efs", relapse_free="rfs")
    with pytest.raises(SpecError, match="expected two endpoints"):
        find_transitions(cohort_of(course_table()), question, death="os", relapse_free="os")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transplant", ["censor", "phase", "ignore"])
def test_transitions_conserve(seed: int, transplant: Literal["censor", "phase", "ignore"]) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=seed)
    question = replace(QUESTION, transplant=transplant, landmark=6.0 if seed == 2 else None)
    found = find_transitions(cohort, question, death="os", relapse_free="rfs")
    plain = find_episodes(cohort, question)
    relapse, dying, after = (found[name] for name in TRANSITIONS)
    assert relapse.events + dying.events == plain["rfs"].events
    assert relapse.time_at_risk == dying.time_at_risk
    assert relapse.time_at_risk == pytest.approx(plain["rfs"].time_at_risk, rel=1e-12)
    # Of those at risk for rfs, deaths are in remission or after relapse.
    at_risk = np.unique(plain["rfs"].patient)
    deaths = plain["os"].patient[plain["os"].event]
    assert np.isin(deaths, at_risk).sum() == dying.events + after.events
    # A patient's time in remission and after relapse is the time to death or last contact.
    for name in ("os", "rfs"):
        assert plain[name].phases == relapse.phases
    spent = {
        key: np.bincount(one.patient, one.stop - one.start, minlength=cohort.size)
        for key, one in (("before", relapse), ("after", after), ("os", plain["os"]))
    }
    whole = spent["before"] + spent["after"]
    relapsed = np.zeros(cohort.size, dtype=bool)
    relapsed[relapse.patient[relapse.event]] = True
    begun = {name: np.full(cohort.size, np.nan) for name in plain}
    for name, one in plain.items():
        first = np.concatenate([[True], np.diff(one.patient) != 0])
        begun[name][one.patient[first]] = one.start[first]
    same = begun["os"] == begun["rfs"]
    np.testing.assert_allclose(whole[same], spent["os"][same], atol=1e-9)


@cache
def fitted() -> bb.Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, model="illness_death", seed=1, draws=250, progress=False)


def test_states_add_up_and_give_both_endpoints() -> None:
    fit = fitted()
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(10.0)]
    times = [8.0, 9.0, 14.0, 25.0]
    states = bb.state_occupancy(fit, regimes=regimes, times=times, landmark=8.0)
    probability = states["probability"]
    np.testing.assert_allclose(probability.sum("state").values, 1.0, atol=1e-12)
    curves = bb.survival(fit, regimes=regimes, times=times, landmark=8.0)["survival"]
    assert list(curves["endpoint"].values) == ["os", "rfs"]
    remission = probability.sel(state="in remission")
    alive = remission + probability.sel(state="alive after relapse")
    for name, values in (("rfs", remission), ("os", alive)):
        one = curves.sel(endpoint=name).transpose(*values.dims)
        np.testing.assert_allclose(one.values, values.values, atol=1e-12)
    relapse = states["relapse_probability"]
    expected = 1 - remission - probability.sel(state="dead in remission")
    np.testing.assert_allclose(relapse.values, expected.values, atol=1e-12)
    for wrong in ([], [9.0, np.nan], [[9.0]]):
        with pytest.raises(EstimandError, match="a flat sequence of finite numbers"):
            bb.state_occupancy(fit, regimes=regimes, times=wrong, landmark=8.0)
    # Before maintenance starts nothing tells the regimes apart.
    same = probability.sel(time=9.0)
    np.testing.assert_allclose(
        same.sel(regime="never").values, same.sel(regime="from 10").values, atol=1e-12
    )


def test_averages_are_the_brute_force_ones() -> None:
    fit = fitted()
    person_time, design, posterior = fit.person_time, fit.design, fit.posterior
    start, landmark, time = 10.0, 8.0, 25.0
    got = bb.survival(fit, regimes=[bb.From(start)], times=[time], landmark=landmark)["survival"]
    mean = bb.time_in_states(fit, regimes=[bb.From(start)], horizon=time, landmark=landmark)["time"]
    people = person_time.people.sel(endpoint="relapse")
    at_risk = (people["begin"].values <= landmark) & (people["exit"].values > landmark)
    knots = np.unique(
        [landmark, start, time, *(cut for cut in person_time.cuts if landmark < cut < time)]
    )
    interval = np.searchsorted(person_time.cuts, knots[1:])
    treated = knots[:-1] >= start
    for draw in (0, 17, 200):
        one = posterior.isel(chain=1, draw=draw)
        shares, spent = np.zeros(2), np.zeros(2)
        for patient in np.flatnonzero(at_risk):
            pattern = int(people["pattern"].values[patient])
            rates = []
            for name in TRANSITIONS:
                own = one.sel(endpoint=name)
                log = own["log_baseline"].values[interval]
                log = log + float(own["coefficient"].values @ design.terms[pattern])
                rates.append((np.exp(log), math.exp(float(own["log_hazard_ratio"].values[0]))))
            relapse, dying = (base * np.where(treated, ratio, 1.0) for base, ratio in rates[:2])
            base, ratio = rates[2]
            after = np.stack([base, base * ratio])
            course = follow(knots, relapse, dying, after, treated.astype(np.int64))
            remission = course.remission[-1]
            shares += [remission + course.alive_after_relapse[-1], remission]
            spent += [course.time_in_remission[-1], course.time_after_relapse[-1]]
        shares, spent = shares / at_risk.sum(), spent / at_risk.sum()
        np.testing.assert_allclose(got.values[1, draw, :, 0, 0], shares, atol=1e-12)
        np.testing.assert_allclose(mean.values[1, draw, 0], spent, atol=1e-10)


def test_means_quantiles_and_hazards_belong_together() -> None:
    fit = fitted()
    last = float(np.nanmax(fit.person_time.people["exit"].sel(endpoint="relapse").values))
    landmark = 8.0
    # Fine enough for straight lines between its points to tell a level to 2e-4.
    grid = np.linspace(landmark, 30.0, 3001)
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(9.0)]
    thin = replace(
        fit,
        draws=xr.DataTree.from_dict({"/posterior": fit.posterior.isel(draw=slice(0, 250, 50))}),
    )
    curves = bb.survival(thin, regimes=regimes, times=grid, landmark=landmark)["survival"].values
    mean = bb.rmst(thin, horizon=30.0, regimes=regimes, landmark=landmark)["rmst"].values
    np.testing.assert_allclose(mean, np.trapezoid(curves, grid, axis=-1), rtol=1e-4)
    found = bb.survival_quantile(thin, survival=0.7, regimes=regimes, landmark=landmark)
    quantile = found["quantile"].values
    assert np.isfinite(quantile).any()
    for place in np.ndindex(quantile.shape):
        time = float(quantile[place])
        if time < 30.0:
            assert np.interp(time, grid, curves[place]) == pytest.approx(0.7, abs=2e-4)
        else:
            # Reached after the grid's end, or not by the end of follow-up.
            assert curves[place][-1] > 0.7 - 2e-4
            assert time <= last or time == np.inf
    step = 1e-5
    around = np.array([15.3 - step, 15.3 + step])
    near = bb.survival(thin, regimes=regimes, times=around, landmark=landmark)["survival"].values
    slope = -np.diff(np.log(near), axis=-1)[..., 0] / (2 * step)
    hazard = bb.hazard(thin, regimes=regimes, times=[15.3], landmark=landmark)["hazard"].values
    np.testing.assert_allclose(hazard[..., 0], slope, rtol=1e-5)


def test_hazard_ratios_are_of_transitions_or_derived() -> None:
    fit = fitted()
    ratio = bb.hazard_ratio(fit)["hazard_ratio"]
    assert list(ratio["endpoint"].values) == list(TRANSITIONS)
    np.testing.assert_allclose(
        np.log(ratio.values), fit.posterior["log_hazard_ratio"].values[..., 0], atol=1e-12
    )
    derived = bb.average_hazard_ratio(fit, regime=bb.From(8.0), landmark=8.0)["hazard_ratio"]
    assert list(derived["endpoint"].values) == ["os", "rfs"]
    # Relapse-free survival ends by relapse or death: its ratio lies between theirs.
    low = ratio.sel(endpoint=list(TRANSITIONS[:2])).min("endpoint")
    high = ratio.sel(endpoint=list(TRANSITIONS[:2])).max("endpoint")
    rfs = derived.sel(endpoint="rfs")
    # Averages over patients fade a little beyond the conditional ratios.
    assert float(((rfs > low * 0.8) & (rfs < high * 1.25)).mean()) > 0.99
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    plain = bb.fit(cohort, QUESTION, seed=1, draws=50, tune=50, chains=1, progress=False)
    with pytest.raises(EstimandError, match="has no states"):
        bb.state_occupancy(plain)


def test_average_ratio_without_covariates_is_the_ratio() -> None:
    """Proportional hazards, nobody differs: the marginal ratio is the constant one."""
    table = bb.simulate.blinatumomab_table(seed=3)
    cohort = bb.read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="os_months", event="died")},
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        transplant="transplant_month",
    )
    fit = bb.fit(cohort, QUESTION, seed=1, draws=50, tune=200, chains=2, progress=False)
    average = bb.average_hazard_ratio(fit, regime=bb.From(8.0), landmark=8.0)["hazard_ratio"]
    constant = bb.hazard_ratio(fit)["hazard_ratio"]
    np.testing.assert_allclose(average.values, constant.values, rtol=1e-10)


def test_a_saved_fit_keeps_its_courses(tmp_path: pytest.TempPathFactory) -> None:
    fit = fitted()
    path = f"{tmp_path}/fit.nc"
    bb.save(fit, path)
    again = bb.load(path)
    assert again.person_time.courses == ("os", "rfs")
    one, two = (bb.survival(x, times=[12.0], landmark=8.0)["survival"].values for x in (fit, again))
    np.testing.assert_array_equal(one, two)


def test_a_fit_of_courses_is_known_for_its_patients() -> None:
    """What `bb.analyse` asks before it takes a fit: these patients, and no others."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    require_own_fit(fitted(), cohort, QUESTION, [])
    other, _ = bb.simulate.blinatumomab_cohort(seed=2)
    with pytest.raises(SpecError, match="other patients"):
        require_own_fit(fitted(), other, QUESTION, [])
