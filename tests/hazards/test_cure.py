"""The mixture cure model: its likelihood, its estimands, and what it knows of the fraction."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from scipy.optimize import minimize

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.estimands import populations
from bayesblina.estimands.paths import hazard_at_survival
from bayesblina.hazards.build import (
    build_model,
    draw_prior,
    follow_up_of,
    survivors,
    with_tables,
    with_weights,
)
from bayesblina.hazards.definition import ModelDefinition, load_model, parse_model
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.hazards.log_hazards import log_hazard, relative_of
from bayesblina.hazards.ops import CuredMixture
from bayesblina.person_time.cells import PersonTime

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
DRAWS = 4


@cache
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=2)[0]


@cache
def from_prior() -> bb.Fit:
    """A fit whose draws are those of the prior: for arithmetic, not for statistics."""
    fit = bb.fit(cohort(), QUESTION, seed=1, draws=10, tune=10, chains=1, progress=False)
    definition = load_model("mixture_cure")
    prior = draw_prior(build_model(definition, fit.person_time), seed=3, draws=DRAWS)
    return replace(fit, draws=xr.DataTree.from_dict({"/posterior": prior}), definition=definition)


class Patient:
    """One patient's course in one draw, by loops and without any of the package's arithmetic."""

    def __init__(self, fit: bb.Fit, endpoint: str, index: int, draw: int) -> None:
        person_time, design = fit.person_time, fit.design
        posterior = fit.posterior.isel(chain=0, draw=draw).sel(endpoint=endpoint)
        people = person_time.people.sel(endpoint=endpoint)
        pattern = int(people["pattern"].values[index])
        terms = design.terms[pattern]
        odds = float(posterior["cured_log_odds"]) + float(
            posterior["cured_coefficient"].values @ terms
        )
        self.cured = 1.0 / (1.0 + math.exp(-odds))
        self.relative = float(posterior["coefficient"].values @ terms)
        self.baseline = posterior["log_baseline"].values
        self.ratio = float(posterior["log_hazard_ratio"].values[0])
        self.cuts = person_time.cuts
        self.begin = float(people["begin"].values[index])
        self.exit = float(people["exit"].values[index])
        self.event = bool(people["event"].values[index])
        spent = person_time.episodes
        mine = (spent["endpoint"].values == person_time.endpoints.index(endpoint)) & (
            spent["patient"].values == index
        )
        inside = spent["phase"].values == int(
            np.flatnonzero(person_time.table["role"].values == "exposed")[0]
        )
        starts = spent["start"].values[mine & inside]
        self.entered = float(starts.min()) if starts.size else math.inf

    def log_hazard(self, time: float, start: float) -> float:
        """Of who is not cured, at a time that is no cut point."""
        log = float(self.baseline[int((self.cuts < time).sum())]) + self.relative
        return log + (self.ratio if time > start else 0.0)

    def passed(self, low: float, high: float, start: float) -> float:
        """Cumulative hazard of who is not cured."""
        points = sorted({low, high, *(t for t in [*self.cuts, start] if low < t < high)})
        parts = [
            (right - left) * math.exp(self.log_hazard((left + right) / 2, start))
            for left, right in pairwise(points)
        ]
        return math.fsum(parts)

    def survival(self, low: float, high: float, start: float, cured: float) -> float:
        return cured + (1.0 - cured) * math.exp(-self.passed(low, high, start))


def test_the_likelihood_is_the_mixtures() -> None:
    fit = from_prior()
    for endpoint in ("os", "rfs"):
        got = patient_log_likelihood(fit.posterior, fit.person_time, fit.design, endpoint=endpoint)
        for draw in range(DRAWS):
            for index in range(fit.person_time.people.sizes["patient"]):
                one = Patient(fit, endpoint, index, draw)
                # Who begins consolidation after a relapse is not at risk of one.
                if np.isnan(one.exit):
                    assert got.values[0, draw, index] == 0.0
                    continue
                passed = one.passed(one.begin, one.exit, one.entered)
                if one.event:
                    expected = math.log(1 - one.cured) - passed
                    expected += one.log_hazard(np.nextafter(one.exit, 0.0), one.entered)
                else:
                    expected = math.log(one.cured + (1 - one.cured) * math.exp(-passed))
                assert float(got.values[0, draw, index]) == pytest.approx(expected, abs=1e-9)


def test_the_operations_gradient() -> None:
    """Against differences, at points where hazards are extreme too."""
    fit = from_prior()
    person_time = fit.person_time
    found = follow_up_of(person_time)
    table, design = person_time.table, fit.design
    generator = np.random.default_rng(1)
    events = table["events"].sum(("interval", "phase")).values.astype(float)
    shape = (2, 1, table.sizes["interval"], table.sizes["phase"])
    data = (
        events,
        person_time.people["pattern"].values.astype(float),
        *found.values(),
        design.class_of.astype(float),
    )
    operation = CuredMixture()

    def value(parts: list[np.ndarray]) -> list[np.ndarray]:
        storage: list[list[object]] = [[None] for _ in range(4)]
        operation.perform(None, [*data, *parts], storage)
        return [np.asarray(one[0]) for one in storage]

    for scale in (0.5, 4.0):
        parts = [
            generator.normal(-3, scale, shape),
            generator.normal(0, scale / 4, events.shape),
            generator.normal(-1, scale, events.shape),
        ]
        gradients = value(parts)[1:]
        for index, gradient in enumerate(gradients):
            direction = generator.normal(size=parts[index].shape)
            step = 1e-5
            ends = []
            for sign in (1.0, -1.0):
                moved = list(parts)
                moved[index] = parts[index] + sign * step * direction
                ends.append(float(value(moved)[0]))
            slope = float((gradient * direction).sum())
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-5)


REGIMES: tuple[tuple[bb.Never | bb.From, float], ...] = (
    (bb.Never(), math.inf),
    (bb.From(8.0), 8.0),
)


def at_risk(fit: bb.Fit, endpoint: str, landmark: float) -> list[int]:
    one = fit.person_time.people.sel(endpoint=endpoint)
    inside = (one["begin"].values <= landmark) & (one["exit"].values > landmark)
    return [int(index) for index in np.flatnonzero(inside)]


def test_survival_given_the_landmark_knows_who_got_there() -> None:
    """Whoever was followed longer before the landmark is more likely cured."""
    fit = from_prior()
    times = [9.0, 16.0, 30.0]
    regimes = [regime for regime, _ in REGIMES]
    curves = bb.survival(fit, regimes=regimes, times=times, landmark=8.0)["survival"]
    for endpoint in ("os", "rfs"):
        who = at_risk(fit, endpoint, 8.0)
        for draw in range(DRAWS):
            patients = [Patient(fit, endpoint, index, draw) for index in who]
            cured = [
                one.cured / one.survival(one.begin, 8.0, one.entered, one.cured) for one in patients
            ]
            for regime, start in REGIMES:
                for time in times:
                    expected = np.mean(
                        [
                            one.survival(8.0, time, start, share)
                            for one, share in zip(patients, cured, strict=True)
                        ]
                    )
                    got = curves.sel(endpoint=endpoint, regime=regime.label, time=time)
                    assert float(got.values[0, draw]) == pytest.approx(expected, abs=1e-10)


def test_means_hazards_and_quantiles_are_those_of_the_curve() -> None:
    fit = from_prior()
    regimes = [regime for regime, _ in REGIMES]
    last = min(float(np.nanmax(one)) for one in fit.person_time.people["exit"].values)
    grid = np.linspace(8.0, last, 20_001)
    curves = bb.survival(fit, regimes=regimes, times=grid, landmark=8.0)["survival"].values
    mean = bb.rmst(fit, horizon=last, regimes=regimes, landmark=8.0)["rmst"]
    np.testing.assert_allclose(mean.values, np.trapezoid(curves, grid, axis=-1), rtol=1e-4)
    level = 0.7
    quantile = bb.survival_quantile(fit, survival=level, regimes=regimes, landmark=8.0)
    assert 0 < int(quantile["reached"].sum()) < quantile["reached"].size
    for place in np.ndindex(quantile["reached"].shape):
        if not quantile["reached"].values[place]:
            assert curves[place][-1] > level
            continue
        at = np.interp(float(quantile["quantile"].values[place]), grid, curves[place])
        assert at == pytest.approx(level, abs=1e-4)
    times, step = np.array([9.3, 20.1]), 1e-5
    around = np.sort(np.concatenate([times - step, times + step]))
    log = np.log(bb.survival(fit, times=around, landmark=8.0)["survival"].values)
    slope = -(log[..., 1::2] - log[..., ::2]) / (2 * step)
    hazard = bb.hazard(fit, times=times, landmark=8.0)["hazard"].values
    np.testing.assert_allclose(hazard, slope, rtol=1e-4, atol=1e-6)


def test_a_plateau_is_never_crossed() -> None:
    relative = np.array([[1.0, 0.0], [1.0, 0.0]])
    weight = np.array([[0.6, 0.4], [0.4, 0.6]])
    level = hazard_at_survival(relative, weight, survival=0.5)
    assert level[0] == pytest.approx(-math.log(0.1 / 0.6), rel=1e-12)
    assert level[1] == math.inf


def test_fractions_are_averages_over_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = from_prior()
    got = bb.cured_fraction(fit)["cured_fraction"]
    people = fit.person_time.people
    for endpoint in ("os", "rfs"):
        who = np.flatnonzero(np.isfinite(people["exit"].sel(endpoint=endpoint).values))
        for draw in range(DRAWS):
            expected = np.mean([Patient(fit, endpoint, int(i), draw).cured for i in who])
            one = got.sel(endpoint=endpoint).values[0, draw]
            assert one == pytest.approx(expected, abs=1e-12)
    by = bb.cured_fraction(fit, by="age_group")["cured_fraction"]
    assert by.dims == ("chain", "draw", "endpoint", "subgroup")
    # A patient supplied comes under observation when the others did, and is event-free at 8.
    patient: dict[str, str | float] = {
        "age_group": "55+",
        "prior_salvage": "yes",
        "marrow_blasts": 20.0,
    }
    alone = bb.cured_fraction(fit, population=patient)["cured_fraction"].values[0]
    curve = bb.survival(fit, times=[8.0, 20.0], landmark=8.0, population=patient)["survival"]
    uncured = replace(fit, definition=load_model("primary"))
    kept = uncured.posterior.drop_vars(["cured_log_odds", "cured_coefficient"])
    uncured = replace(uncured, draws=xr.DataTree.from_dict({"/posterior": kept}))
    others = bb.survival(uncured, times=[8.0, 20.0], landmark=8.0, population=patient)["survival"]
    person_time, design = fit.person_time, fit.design
    names = [str(term) for term in person_time.table["term"].values]
    known = {"age_group[55+]": 1.0, "prior_salvage[yes]": 1.0, "marrow_blasts": 20.0}
    raw = np.array([[known.get(name, 0.0) for name in names]])
    edges = np.array([0.0, *person_time.cuts, np.inf])
    share = np.empty(alone.shape)
    for column, endpoint in enumerate(("os", "rfs")):
        begin = people["begin"].sel(endpoint=endpoint).values
        begin = begin[begin <= 8.0, None]
        spent = np.clip(8.0, edges[:-1], edges[1:]) - np.clip(begin, edges[:-1], edges[1:])
        base = np.exp(log_hazard(fit.posterior, design, endpoint=endpoint).shared[:, 0, :, 0])
        shift = relative_of(fit.posterior, design, design.standardised(raw), endpoint=endpoint)
        free = np.exp(-np.exp(shift) * (base @ spent.T)).mean(axis=1)
        share[:, column] = alone[:, column] / (alone[:, column] + (1 - alone[:, column]) * free)
    expected = share[:, :, None] + (1 - share[:, :, None]) * others.values[0, :, :, 0]
    # Entries are grouped by twelves; then each by itself.
    np.testing.assert_allclose(curve.values[0, :, :, 0], expected, atol=2e-3)
    monkeypatch.setattr(populations, "ENTRIES", 1000)
    curve = bb.survival(fit, times=[8.0, 20.0], landmark=8.0, population=patient)["survival"]
    np.testing.assert_allclose(curve.values[0, :, :, 0], expected, rtol=1e-10)
    with pytest.raises(EstimandError, match="no cured patients: fit 'mixture_cure'"):
        bb.cured_fraction(replace(fit, definition=load_model("primary")))


def test_expected_events_are_the_compensator() -> None:
    """What a patient's survival loses in a cell, in logarithms; by loops for one draw."""
    fit = from_prior()
    events = bb.checks.replicated_events(fit, seed=1)
    edges = [0.0, *fit.person_time.cuts, math.inf]
    reference = int(np.flatnonzero(fit.person_time.table["role"].values == "reference")[0])
    draw = 1
    for endpoint in ("os", "rfs"):
        expected = np.zeros((len(edges) - 1, 2))
        people = fit.person_time.people.sel(endpoint=endpoint)
        for index in np.flatnonzero(np.isfinite(people["exit"].values)):
            one = Patient(fit, endpoint, int(index), draw)
            inner = [*fit.person_time.cuts, one.entered]
            points = sorted({one.begin, one.exit, *(t for t in inner if one.begin < t < one.exit)})
            for low, high in pairwise(points):
                before = one.survival(one.begin, low, one.entered, one.cured)
                after = one.survival(one.begin, high, one.entered, one.cured)
                place = int((fit.person_time.cuts < high).sum())
                state = 1 - reference if low >= one.entered else reference
                expected[place, state] += math.log(before / after)
        got = events["expected"].sel(endpoint=endpoint).values[0, draw]
        np.testing.assert_allclose(got, expected, atol=1e-9)
    # The same, summed in other ways.
    residuals = bb.checks.martingale_residuals(fit)
    total = events["expected"].mean(("chain", "draw")).sum(("interval", "phase"))
    np.testing.assert_allclose(residuals["expected"].sum("patient"), total, rtol=1e-10)
    last = float(np.nanmax(fit.person_time.people["exit"].values))
    first = float(np.nanmin(fit.person_time.people["begin"].values))
    table = bb.checks.predicted_against_observed(fit, times=[last - 1e-9], groups=1, landmark=first)
    assert len(table) == 2
    for row in table.itertuples():
        assert row.expected == pytest.approx(float(total.sel(endpoint=row.endpoint)), rel=1e-6)
    curves = bb.checks.replicated_simon_makuch(fit, seed=1, draws=3)
    assert float(curves["survival"].min()) >= 0


def test_weights_and_tables_of_a_built_model() -> None:
    fit = from_prior()
    person_time = fit.person_time
    built = build_model(fit.definition, person_time)
    kept = np.ones(person_time.people.sizes["patient"])
    kept[::3] = 0.0
    with_weights(built, person_time, kept)
    free = [*built.model.free_RVs, *built.model.deterministics]
    *values, density = pm.draw(
        [*free, *built.model.potentials], draws=2, random_seed=1, mode="FAST_COMPILE"
    )
    prior = xr.Dataset(
        {
            one.name: (
                ("chain", "draw", *built.model.named_vars_to_dims[one.name]),
                np.asarray(value)[None],
            )
            for one, value in zip(free, values, strict=True)
        },
        coords={"endpoint": ["os", "rfs"]},
    )
    each = patient_log_likelihood(prior, person_time, fit.design).values[0]
    np.testing.assert_allclose(density, each @ kept, rtol=1e-10)
    table = person_time.table
    with pytest.raises(TypeError, match="needs the survivors"):
        with_tables(built, table["events"].values.astype(float), table["person_time"].values)
    followed = np.isfinite(person_time.people["exit"].values)
    alive = (followed & ~person_time.people["event"].values).sum(axis=1)
    assert (survivors(person_time).sum(axis=1) == alive).all()


# Statistics: what is recovered, and what is not.

FRACTION, RATE, RATIO = 0.4, 0.15, 0.6


def simulated(end: float, *, patients: int = 1500) -> bb.Cohort:
    """A known fraction is cured; a late phase that slows the event in the others."""
    random = np.random.default_rng(4)
    cured = random.random(patients) < FRACTION
    start = random.uniform(1.0, 10.0, patients)
    # Exponential before the phase, slower in it.
    target = random.exponential(size=patients)
    before = RATE * start
    time = np.where(target < before, target / RATE, start + (target - before) / (RATE * RATIO))
    time = np.where(cured, math.inf, time)
    censored = random.uniform(0.6 * end, end, patients)
    stop = np.minimum(time, censored)
    table = pd.DataFrame(
        {
            "id": np.arange(patients),
            "time": stop,
            "event": (time <= censored).astype(int),
            "start": np.where(start < stop, start, np.nan),
            "arm": random.choice(["a", "b"], patients),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
        synthetic=True,
    )


def fitted(cohort: bb.Cohort, *, cuts: list[float]) -> bb.Fit:
    """Fit a model whose arms hardly differ: with a covariate it is compiled for other tests too."""
    question = bb.Question(exposed="late", eligible_from="entry")
    model = load_model("mixture_cure").with_priors(covariates=bb.HazardRatioPrior.from_sd(1e-4))
    return bb.fit(cohort, question, model=model, seed=1, cuts=cuts, progress=False)


def maximum_likelihood(person_time: PersonTime) -> np.ndarray:
    """Log rate, log ratio and log odds of a constant hazard, from the formula itself."""
    spent = person_time.patient_cells("os").toarray()
    phases = [str(name) for name in person_time.table["phase"].values]
    late = spent[:, phases.index("late")]
    early = spent.sum(axis=1) - late
    patient, cell = person_time.event_cells("os")
    died = np.zeros(late.size, dtype=bool)
    died[patient] = True
    inside = np.zeros(late.size, dtype=bool)
    inside[patient] = cell == phases.index("late")

    def negative(point: Any) -> float:
        rate, ratio, odds = point
        passed = math.exp(rate) * (early + math.exp(ratio) * late)
        cured = 1.0 / (1.0 + math.exp(-odds))
        dying = math.log(1 - cured) + rate + ratio * inside - passed
        staying = np.log(cured + (1 - cured) * np.exp(-passed))
        return -float(np.where(died, dying, staying).sum())

    start = np.array([-2.0, 0.0, 0.0])
    found = minimize(negative, start, method="Nelder-Mead", tol=1e-8)
    assert found.success
    return np.asarray(found.x)


def test_a_long_follow_up_shows_the_fraction() -> None:
    fit = fitted(simulated(60.0), cuts=[])
    assert fit.converged
    posterior = fit.posterior.isel(endpoint=0)
    columns = [
        posterior["log_baseline"].isel(interval=0),
        posterior["log_hazard_ratio"].isel(effect=0),
        posterior["cured_log_odds"],
    ]
    best = maximum_likelihood(fit.person_time)
    truth = [math.log(RATE), math.log(RATIO), math.log(FRACTION / (1 - FRACTION))]
    for values, mode, true in zip(columns, best, truth, strict=True):
        mean, sd = float(values.mean()), float(values.std())
        # The priors are wide: their pull is of the order sd ** 2 / prior variance x distance.
        assert abs(mean - mode) < 0.15 * sd
        assert abs(mean - true) < 3.5 * sd
    fraction = bb.cured_fraction(fit)["cured_fraction"]
    assert float(fraction.mean()) == pytest.approx(FRACTION, abs=3.5 * float(fraction.std()))
    shown = bb.checks.cure_identifiability(fit).iloc[0]
    assert shown["identified"]
    assert shown["contraction"] > 0.9
    assert shown["followed_after"] > 0
    assert "not cured" in bb.hazard_ratio(fit).attrs["kind"]


def test_a_short_follow_up_leaves_it_to_the_prior() -> None:
    cohort = simulated(4.0, patients=150)
    fit = fitted(cohort, cuts=[2.0])
    shown = bb.checks.cure_identifiability(fit).iloc[0]
    assert not shown["identified"]
    assert shown["contraction"] < 0.5
    one = cohort.endpoints["os"]
    last = one.time[one.event].max()
    assert shown["last_event"] == last
    assert shown["followed_after"] == int((one.time > last).sum())
    assert shown["time_after"] == pytest.approx(np.maximum(one.time - last, 0.0).sum(), rel=1e-12)
    exposed = one.event & (cohort.phase_start[:, 0] < one.time)
    assert shown["last_event_exposed"] == one.time[exposed].max()
    after = one.event & (one.time > one.time[exposed].max())
    assert shown["events_after"] == int(after.sum())


def test_what_cannot_be_combined_is_refused() -> None:
    content = load_model("mixture_cure").model_dump(by_alias=True)
    course = {**content, "endpoints": {"kind": "illness_death"}}
    with pytest.raises(SpecError, match="not for an illness-death course"):
        parse_model(course, source="a file")
    frail = load_model("patient_frailty").model_dump(by_alias=True)["groups"]
    with pytest.raises(SpecError, match="cannot be told apart"):
        parse_model({**content, "groups": frail}, source="a file")
    content["cure"]["fraction"]["fraction"] = [0.5, 1.0]
    with pytest.raises(SpecError, match="less than 1"):
        parse_model(content, source="a file")
    with pytest.raises(ValueError, match="lower < upper"):
        bb.FractionPrior(fraction=(0.5, 0.4))
    with pytest.raises(ValueError, match="lower < upper"):
        bb.OddsRatioPrior(odds_ratio=(2.0, 1.0))
    with pytest.raises(SpecError, match="has no prior 'cured'"):
        load_model("primary").with_priors(cured=bb.FractionPrior(fraction=(0.1, 0.4)))
    other = load_model("mixture_cure").with_priors(cured=bb.FractionPrior(fraction=(0.1, 0.4)))
    assert isinstance(other, ModelDefinition)
    assert other.cure is not None
    assert other.cure.fraction.fraction == (0.1, 0.4)
