"""Effects of patients and sites given what is known: event-free at a landmark."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.stats import norm

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.hazards.definition import ModelDefinition, parse_model
from bayesblina.inference.fitting import NOT_COMPARED, Fit
from bayesblina.inference.model_data import hazard_before_observation, person_time_for

QUESTION = bb.Question(exposed="late", eligible_from="entry")
CUTS = [6.0]
# Of three draws: monthly hazards before and after the cut, log hazard ratio, sd of effects.
BASE = np.array([[0.05, 0.05], [0.02, 0.09], [0.12, 0.03]])
RATIO = np.array([math.log(0.5), 0.3, -1.0])
SD = np.array([1.0, 2.0, 0.4])


def cohort_of(size: int = 60, *, relapse: bool = False) -> bb.Cohort:
    """Two sites, all under observation from 0 on; some start at month 9."""
    random = np.random.default_rng(4)
    time = random.uniform(1.0, 30.0, size)
    died = np.arange(size) % 2 == 0
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": time,
            "event": died.astype(int),
            "start": np.where((np.arange(size) % 3 == 0) & (time > 9.0), 9.0, np.nan),
            "site": np.where(np.arange(size) % 2 == 0, "x", "y"),
            "rfs": np.where(np.arange(size) % 4 == 1, 0.7 * time, time),
            "failed": (died | (np.arange(size) % 4 == 1)).astype(int),
        }
    )
    table.loc[table["start"] >= table["rfs"], "start"] = np.nan
    endpoints = {"os": bb.Endpoint(time="time", event="event", recorded="exact")}
    if relapse:
        endpoints["rfs"] = bb.Endpoint(time="rfs", event="failed", recorded="exact")
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=endpoints,
        phases=bb.Phases(late="start"),
        covariates=["site"],
    )


def definition_of(kind: str, *, course: bool = False) -> ModelDefinition:
    name = "patient_frailty" if kind == "patient" else "frailty"
    model = bb.load_model(name)
    if kind == "site":
        model = model.with_covariates(group="site")
    if not course:
        return model
    content = model.model_dump(by_alias=True)
    content["endpoints"] = {"kind": "illness_death", "death": "os", "relapse_free": "rfs"}
    return parse_model(content, source="a course with effects of patients")


@cache
def known_fit(kind: str, *, course: bool = False) -> Fit:
    """A fit whose draws are those above: nothing is sampled."""
    definition = definition_of(kind, course=course)
    cohort = cohort_of(relapse=course)
    person_time = person_time_for(definition, cohort, QUESTION, cuts=CUTS)
    names, count = list(person_time.endpoints), len(person_time.endpoints)
    # Transitions after the first have other hazards.
    scale = np.array([1.0, 0.6, 3.0])[:count]

    def by_endpoint(values: np.ndarray, *dims: str) -> Any:
        return (("chain", "draw", "endpoint", *dims), values[None])

    variables: dict[str, Any] = {
        "log_baseline": by_endpoint(np.log(BASE[:, None] * scale[:, None]), "interval"),
        "log_hazard_ratio": by_endpoint(np.repeat(RATIO[:, None, None], count, 1), "effect"),
    }
    patterns = person_time.table.sizes["pattern"]
    if kind == "patient":
        variables["coefficient"] = by_endpoint(np.full((3, count, 1), 0.4), "term")
        variables["patient_sd"] = (("chain", "draw", "shape"), SD[None, :, None])
        effect = np.random.default_rng(1).normal(size=(1, 3, patterns)) * SD[:, None]
        variables["patient_effect"] = (("chain", "draw", "pattern"), effect)
    else:
        variables["group_sd"] = by_endpoint(np.repeat(SD[:, None], count, 1))
        variables["group_effect"] = by_endpoint(np.full((3, count, 2), 0.3), "group")
    posterior = xr.Dataset(variables, coords={"endpoint": names, "chain": [0], "draw": range(3)})
    blank = bb.fit(
        cohort_of(), QUESTION, seed=1, draws=4, tune=5, chains=2, cuts=CUTS, progress=False
    )
    return replace(
        blank,
        definition=definition,
        person_time=person_time,
        draws=xr.DataTree.from_dict({"/posterior": posterior}),
        gate=NOT_COMPARED,
    )


def passed(draw: int, low: float, high: float, start: float) -> float:
    """Cumulative hazard of an average patient, by hand: to the cut, to the start, and on."""
    total = 0.0
    for begin, end, rate in ((0.0, 6.0, BASE[draw, 0]), (6.0, 99.0, BASE[draw, 1])):
        for one, other, ratio in ((0.0, start, 1.0), (start, 999.0, math.exp(RATIO[draw]))):
            bottom, top = max(begin, one, low), min(end, other, high)
            total += max(top - bottom, 0.0) * rate * ratio
    return total


def expectation(function: Any, sd: float) -> float:
    value, _ = quad(
        lambda z: function(math.exp(sd * z)) * norm.pdf(z),
        -9,
        9,
        points=[-3.0, 0.0, 3.0],
        epsabs=1e-13,
        limit=300,
    )
    return float(value)


def by_hand(kind: str, draw: int, time: float, *, landmark: float, start: float) -> float:
    """Survival of a patient of site y who is event-free at the landmark, by integration."""
    site = known_fit(kind).design
    shift = 0.0
    if kind == "patient":
        # The indicator of the second site is centred at its share.
        shift = 0.4 * (1.0 - float(site.centre[0]))
    free = math.exp(shift) * passed(draw, 0.0, landmark, math.inf)
    more = math.exp(shift) * passed(draw, landmark, time, start)
    both = expectation(lambda b: math.exp(-b * (free + more)), float(SD[draw]))
    return both / expectation(lambda b: math.exp(-b * free), float(SD[draw]))


def supplied(kind: str) -> dict[str, str | float]:
    return {"site": "y"} if kind == "patient" else {}


@pytest.mark.parametrize("kind", ["patient", "site"])
def test_survival_from_a_landmark_knows_who_got_there(kind: str) -> None:
    """With an sd of 1 and a hazard of .05: 0.65 at month 24 for who is event-free at 12."""
    fit = known_fit(kind)
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(12.0)]
    for landmark in (0.0, 12.0):
        asked = regimes if landmark else regimes[:1]
        times = np.array([landmark, 15.0, 24.0])
        got = bb.survival(
            fit, regimes=asked, times=times, landmark=landmark, population=supplied(kind)
        )["survival"]
        for draw in range(3):
            for column, start in enumerate([math.inf, 12.0][: len(asked)]):
                for place, time in enumerate(times):
                    value = float(got.values[0, draw, 0, column, place])
                    expected = by_hand(kind, draw, float(time), landmark=landmark, start=start)
                    # What is left is the quadrature's error, largest at an sd of 2.
                    assert value == pytest.approx(expected, abs=2e-6)
    # Patients of the fit have their own effects: nothing is averaged over.
    own = bb.survival(fit, times=[24.0], landmark=12.0)["survival"]
    if kind == "site":
        expected_own = [
            math.exp(-math.exp(0.3) * passed(d, 12.0, 24.0, math.inf)) for d in range(3)
        ]
        np.testing.assert_allclose(own.values[0, :, 0, 0, 0], expected_own, rtol=1e-12)


def test_simulated_patients_who_got_there() -> None:
    """No formula: effects and times are drawn, and the living are counted."""
    random = np.random.default_rng(2)
    size = 400_000
    fit = known_fit("site")
    got = bb.survival(fit, times=[24.0], landmark=12.0, population={})["survival"]
    for draw in (0, 2):
        target = random.exponential(size=size) / np.exp(SD[draw] * random.normal(size=size))
        at = [passed(draw, 0.0, time, math.inf) for time in (12.0, 24.0)]
        there = target > at[0]
        share = float((target[there] > at[1]).mean())
        error = math.sqrt(share * (1 - share) / int(there.sum()))
        assert float(got.values[0, draw, 0, 0, 0]) == pytest.approx(share, abs=4 * error)
    # The effects' distribution at the origin gives something else by far.
    naive = expectation(lambda b: math.exp(-b * passed(0, 12.0, 24.0, math.inf)), 1.0)
    assert abs(float(got.values[0, 0, 0, 0, 0]) - naive) > 0.08


@pytest.mark.parametrize("kind", ["patient", "site"])
def test_everything_is_read_off_the_same_curve(kind: str) -> None:
    fit, whom = known_fit(kind), supplied(kind)
    regimes: list[Any] = [bb.Never(), bb.From(12.0)]
    grid = np.linspace(12.0, 24.0, 4001)
    curve = bb.survival(fit, regimes=regimes, times=grid, landmark=12.0, population=whom)
    values = curve["survival"].values
    mean = bb.rmst(fit, horizon=24.0, regimes=regimes, landmark=12.0, population=whom)["rmst"]
    # The trapezoid's error is below step ** 2 / 12 x length x the largest second derivative.
    np.testing.assert_allclose(mean.values, np.trapezoid(values, grid, axis=-1), atol=1e-5)
    level = 0.85
    found = bb.survival_quantile(
        fit, survival=level, regimes=regimes, landmark=12.0, population=whom, horizon=24.0
    )
    for place in np.argwhere(found["reached"].values):
        at = found["quantile"].values[tuple(place)]
        there = float(np.interp(at, grid, values[tuple(place)]))
        assert there == pytest.approx(level, abs=1e-6)
    assert found["reached"].values.any()
    times = grid[[1000, 3000]]
    hazard = bb.hazard(fit, regimes=regimes, times=times, landmark=12.0, population=whom)["hazard"]
    at = np.array([1000, 3000])
    slope = -(np.log(values[..., at + 1]) - np.log(values[..., at - 1])) / (grid[2] - grid[0])
    np.testing.assert_allclose(hazard.values, slope, rtol=1e-5)


def test_courses_of_new_patients_in_remission() -> None:
    """Illness and death with one effect: neither relapsed nor dead at the landmark."""
    fit = known_fit("patient", course=True)
    whom: dict[str, str | float] = {"site": "y"}
    states = bb.state_occupancy(fit, times=[12.0, 24.0], landmark=12.0, population=whom)
    rfs = bb.survival(fit, times=[24.0], landmark=12.0, population=whom)["survival"]
    shift = math.exp(0.4 * (1.0 - float(fit.design.centre[0])))
    for draw in range(3):
        before, after = (
            1.6 * shift * passed(draw, low, high, math.inf) for low, high in ((0, 12), (12, 24))
        )
        sd = float(SD[draw])
        expected = expectation(lambda b, h=before + after: math.exp(-b * h), sd)
        expected /= expectation(lambda b, h=before: math.exp(-b * h), sd)
        kept = states["probability"].sel(state="in remission").values[0, draw, 0]
        assert kept[0] == pytest.approx(1.0, abs=1e-9)
        assert kept[1] == pytest.approx(expected, abs=1e-5)
        one = float(rfs.sel(endpoint="rfs").values[0, draw, 0, 0])
        assert one == pytest.approx(expected, abs=1e-5)
    total = states["probability"].sum("state").values
    np.testing.assert_allclose(total, 1.0, atol=1e-9)


def test_groups_of_each_transition_are_not_averaged() -> None:
    """Effects on relapse and on death are independent, not one number drawn once."""
    fit = known_fit("site", course=True)
    with pytest.raises(EstimandError, match="groups that differ in each transition"):
        bb.survival(fit, times=[24.0], landmark=12.0, population={})


# Left truncation: who comes under observation late is more robust than who does not.


def late_cohort(registered: float, size: int = 60) -> bb.Cohort:
    """Every third patient is registered late, at risk from the origin on."""
    time = np.linspace(6.0, 30.0, size)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": time,
            "event": (np.arange(size) % 2 == 0).astype(int),
            "registered": np.where(np.arange(size) % 3 == 0, registered, 0.0),
            "start": np.where(np.arange(size) % 5 == 0, 5.5, np.nan),
            "site": [f"s{index % 2}" for index in range(size)],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="time", event="event", entry="registered", recorded="exact")
        },
        phases=bb.Phases(registration="registered", late="start"),
        covariates=["site"],
    )


def test_how_much_hazard_passes_before_observation() -> None:
    cohort = late_cohort(4.0)
    one = cohort.endpoints["os"]
    expected = 30 / (one.time.sum() - 20 * 4.0) * 20 * 4.0 / 60
    assert hazard_before_observation(cohort, QUESTION)["os"] == pytest.approx(expected, rel=1e-12)
    # Of who becomes eligible at month 2 only what follows counts; nothing of who does later.
    start = np.where(np.arange(60) % 3 == 0, 2.0, 5.0)[:, None] * np.ones((1, 2))
    moved = replace(cohort, phase_start=start)
    question = replace(QUESTION, eligible_from="registration")
    seen = one.time > np.maximum(one.entry, start[:, 0])
    late = np.where(start[:, 0] == 2.0, 2.0, 0.0)[seen]
    begin = np.maximum(one.entry, start[:, 0])[seen]
    expected = one.event[seen].sum() / (one.time[seen] - begin).sum() * late.mean()
    got = hazard_before_observation(moved, question)["os"]
    assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["patient", "site"])
def test_patients_observed_late_have_no_effects(kind: str) -> None:
    cohort, frail = late_cohort(5.0), definition_of(kind)
    assert hazard_before_observation(cohort, QUESTION)["os"] > 0.05
    with pytest.raises(SpecError, match=r"of os patients come under observation .* as a phase and"):
        bb.fit(cohort, QUESTION, model=frail, seed=1, progress=False)
    # The remedies: risk begins then, all are observed at the landmark, or no effects.
    for other in (
        replace(QUESTION, eligible_from="registration"),
        replace(QUESTION, landmark=5.0),
    ):
        assert hazard_before_observation(cohort, other)["os"] == 0.0
        assert person_time_for(frail, cohort, other).size
    person_time_for(bb.load_model("primary"), cohort, QUESTION)
    # A few days matter to nobody.
    assert person_time_for(frail, late_cohort(0.5), QUESTION).size == 60


def test_groups_in_an_engine_are_not_observed_late() -> None:
    """How late they are is not told there."""
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(8)],
            "time": np.arange(8) + 6.0,
            "event": [0, 1] * 4,
            "registered": [0.0, 1.5] * 4,
            "start": 5.0,
            "site": ["x", "x", "y", "y"] * 2,
        }
    )
    scan = bb.scan_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="registered")},
        phases=bb.Phases(late="start"),
        covariates=["site"],
    )
    with pytest.raises(SpecError, match="how late patients of os come under observation"):
        person_time_for(definition_of("site"), scan, QUESTION, cuts=CUTS)
