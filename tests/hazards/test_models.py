"""Every model in models/: its density, its hazards, its closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.estimands.sources import probability_apart
from bayesblina.hazards.baseline import steps, walks
from bayesblina.hazards.build import BuiltModel, build_model
from bayesblina.hazards.definition import ModelDefinition, model_names
from bayesblina.hazards.likelihood import (
    _integrated,
    group_effects,
    log_hazard,
    patient_log_likelihood,
    relative_of,
)
from bayesblina.hazards.parts import RobustMixture
from bayesblina.inference.compiling import compiled_of
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.sampling import bind
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.cells.value import Lazily
from bayesblina.studies.calibration import question_for

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
# A baseline of jumps has no density to sample.
SAMPLED = sorted({*model_names()} - {"free"})
ROLES = {"stratified": "stratum", "by_subgroup": "subgroup", "frailty": "group"}
NAMED = {
    "stratum": "prior_salvage",
    "subgroup": "age_group",
    "group": "age_group",
    "source": "prior_salvage",
}


def definition_of(name: str) -> ModelDefinition:
    model = bb.load_model(name)
    return model.with_covariates(**{role: NAMED[role] for role in model.roles})


@cache
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=2)[0]


@cache
def built(name: str) -> tuple[ModelDefinition, PersonTime, BuiltModel]:
    definition = definition_of(name)
    person_time = person_time_for(definition, cohort(), question_for(definition))
    return definition, person_time, build_model(definition, person_time)


def prior_points(model: BuiltModel, *, draws: int, seed: int) -> tuple[xr.Dataset, np.ndarray]:
    """Draws of all variables from the prior, and the log-likelihood at each."""
    pymc_model = model.model
    variables = [*pymc_model.free_RVs, *pymc_model.deterministics]
    *values, density = pm.draw(
        [*variables, *pymc_model.potentials],
        draws=draws,
        random_seed=seed,
        mode="FAST_COMPILE",
    )
    dims = [pymc_model.named_vars_to_dims[variable.name] for variable in variables]
    return xr.Dataset(
        {
            variable.name: (("chain", "draw", *dim), np.asarray(value)[None])
            for variable, value, dim in zip(variables, values, dims, strict=True)
        },
        coords={name: list(pymc_model.coords[name]) for dim in dims for name in dim},
    ), np.asarray(density)


@pytest.mark.parametrize("name", SAMPLED)
def test_likelihood_is_the_patients_sum(name: str) -> None:
    """The graph's density by cells against numpy's by patients: two ways to one number."""
    _, person_time, model = built(name)
    prior, density = prior_points(model, draws=3, seed=4)
    if "patient_effect" in prior:
        by_patient = np.zeros(3)
        for endpoint in person_time.endpoints:
            found = log_hazard(prior, model.design, endpoint=endpoint)
            cells = person_time.patient_cells(endpoint)
            hazard = np.exp(found.shared[:, 0].reshape(3, -1))
            relative = found.pattern
            patient, cell = person_time.event_cells(endpoint)
            by_patient -= ((cells @ hazard.T).T * np.exp(relative)).sum(axis=1)
            by_patient += (np.log(hazard[:, cell]) + relative[:, patient]).sum(axis=1)
    else:
        by_patient = patient_log_likelihood(prior, person_time, model.design).values[0].sum(axis=1)
    np.testing.assert_allclose(density, by_patient, rtol=1e-10)


@pytest.mark.parametrize("name", SAMPLED)
def test_compiled_density_is_pymcs(name: str) -> None:
    _, _, model = built(name)
    bound = bind(compiled_of(model), model)
    reference = model.model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    reference.set_extra_values({})
    generator = np.random.default_rng(5)
    for _ in range(3):
        point = bound.initial_point_func(0) + generator.normal(0, 0.4, bound.n_dim)
        gradient, value = np.empty(bound.n_dim), np.empty(1)
        status = bound.compiled_logp_func.ctypes(
            bound.n_dim,
            *(
                array.ctypes.data_as(bound.compiled_logp_func.ctypes.argtypes[1])
                for array in (point, gradient, value)
            ),
            bound.user_data.ctypes.data,
        )
        assert status == 0
        expected, slope = reference(point)
        assert value[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["by_subgroup", "frailty"])
def test_a_structure_serves_any_number_of_endpoints(name: str) -> None:
    """What was compiled for two endpoints is the density of one: no size stands in the graph."""
    definition, _, two = built(name)
    person_time = person_time_for(definition, cohort(), replace(QUESTION, endpoints=("rfs",)))
    one = build_model(definition, person_time)
    assert one.structure == two.structure
    bound = bind(compiled_of(two), one)
    reference = one.model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    reference.set_extra_values({})
    point = bound.initial_point_func(3)
    gradient, value = np.empty(bound.n_dim), np.empty(1)
    status = bound.compiled_logp_func.ctypes(
        bound.n_dim,
        *(
            array.ctypes.data_as(bound.compiled_logp_func.ctypes.argtypes[1])
            for array in (point, gradient, value)
        ),
        bound.user_data.ctypes.data,
    )
    assert status == 0
    expected, slope = reference(point)
    assert value[0] == pytest.approx(float(expected), rel=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["by_subgroup", "frailty"])
def test_coordinates_leave_the_prior_alone(name: str) -> None:
    """Effects are Normal(0, sd), whatever the level, though sampled about where data put them."""
    definition, _, model = built(name)
    draws = 2000
    prior, _ = prior_points(model, draws=draws, seed=11)
    if name == "frailty":
        effect, sd = prior["group_effect"].values[0], prior["group_sd"].values[0]
    else:
        effect = (
            prior["log_hazard_ratio_by_subgroup"].values[0] - prior["log_hazard_ratio"].values[0]
        )
        sd = prior["subgroup_sd"].values[0]
    standard = effect / sd[..., None]
    for index in np.ndindex(standard.shape[1:]):
        assert stats.kstest(standard[:, *index], stats.norm.cdf).pvalue > 1e-5
        for other in ("level", "log_hazard_ratio", "coefficient"):
            with_it = prior[other].values[0].reshape(draws, -1)
            for column in with_it.T:
                assert abs(np.corrcoef(standard[:, *index], column)[0, 1]) < 4.5 / math.sqrt(draws)
    slope = (prior["coefficient"].values[0] - definition.covariates.prior.mean).reshape(draws, -1)
    covariance = np.cov(slope.T / definition.covariates.prior.sd)
    assert np.abs(covariance - np.eye(slope.shape[1])).max() < 4.5 * math.sqrt(2 / draws)


def test_models_that_need_a_covariate_say_so() -> None:
    for name, role in ROLES.items():
        with pytest.raises(SpecError, match=f"needs a covariate as its {role}"):
            build_model(bb.load_model(name), bb.person_time(cohort(), QUESTION))
    with pytest.raises(SpecError, match="no categorical covariate 'marrow_blasts'"):
        build_model(
            bb.load_model("frailty").with_covariates(group="marrow_blasts"),
            bb.person_time(cohort(), QUESTION),
        )
    with pytest.raises(SpecError, match="has no stratum; what it can be given: none"):
        bb.load_model("primary").with_covariates(stratum="age_group")
    with pytest.raises(SpecError, match="by_patient=True"):
        build_model(bb.load_model("patient_frailty"), bb.person_time(cohort(), QUESTION))
    with pytest.raises(SpecError, match="phase_cuts are for a model"):
        bb.fit(cohort(), QUESTION, seed=1, phase_cuts=[3.0], progress=False)
    with pytest.raises(SpecError, match="has no prior 'spread'"):
        bb.load_model("primary").with_priors(spread=bb.SpreadPrior(hazard_ratio=(0.5, 2.0)))


# The interval that a prior states must be the one that its draws have.


@pytest.mark.parametrize("known", [False, True])
def test_spread_priors_hold_their_mass(known: bool) -> None:
    prior = bb.SpreadPrior(hazard_ratio=(0.25, 4.0), mass=0.9, known=known)
    generator = np.random.default_rng(1)
    size = 200_000
    sd = np.full(size, prior.scale) if known else np.abs(generator.normal(0, prior.scale, size))
    ratio = np.exp(sd * generator.normal(size=size))
    inside = float(((ratio > 0.25) & (ratio < 4.0)).mean())
    assert inside == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / size))
    again = bb.SpreadPrior.from_scale(prior.scale, known=known)
    assert again.scale == pytest.approx(prior.scale, rel=1e-9)
    with pytest.raises(ValueError, match="1 / u"):
        bb.SpreadPrior(hazard_ratio=(0.5, 3.0))


# Walks of order 2.


def test_a_walk_of_order_2_is_integrated_brownian_motion() -> None:
    """Departures from the line through the beginning have the exact variance as cuts get fine."""
    intervals = 200
    distances = np.full((1, intervals - 1), 1.0 / (intervals - 1))
    found = walks(distances, np.ones((1, intervals)), np.zeros((1, intervals)), order=2)
    scaled = found.basis[0] * found.inverse_roughness[0]
    covariance = scaled @ scaled.T
    # Value and slope at the beginning, taken off the path.
    step = 1.0 / (intervals - 1)
    place = np.arange(intervals) * step
    off = np.eye(intervals)
    off[:, 0] -= 1.0 - place / step
    off[:, 1] -= place / step
    departure = off @ covariance @ off.T
    # Integrated Brownian motion scaled so that its sd at 1 is 1: variance t ** 3.
    for index in (50, 100, 199):
        # The first step is taken for the slope: an error of 1.5 steps of `index`.
        assert departure[index, index] == pytest.approx(place[index] ** 3, rel=2.0 / index)
    lines = np.stack([np.ones(intervals), place])
    np.testing.assert_allclose(lines @ scaled, 0.0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    distances=st.lists(st.floats(0.01, 0.3), min_size=3, max_size=8),
    order=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_a_walks_basis_gives_its_prior(distances: list[float], order: int, seed: int) -> None:
    weight = np.random.default_rng(seed).uniform(0.5, 20, (1, len(distances) + 1))
    found = walks(np.array([distances]), weight, np.zeros(weight.shape), order=order)
    step = np.diff(np.eye(weight.size), axis=0)
    scaled = found.basis[0] * found.inverse_roughness[0]
    covariance = scaled @ scaled.T
    if order == 1:
        # Steps are independent, with the distances as variances.
        np.testing.assert_allclose(step @ covariance @ step.T, np.diag(distances), atol=1e-9)
    else:
        slope = step / np.array(distances)[:, None]
        bend = np.diff(slope, axis=0)
        width = (np.array(distances)[1:] + np.array(distances)[:-1]) / 2
        # Bends are independent, with three times the widths as variances.
        np.testing.assert_allclose(
            bend @ covariance @ bend.T, np.diag(3 * width), rtol=1e-6, atol=1e-8
        )
    np.testing.assert_allclose(weight @ scaled, 0.0, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    cells=st.lists(
        st.tuples(st.integers(0, 40), st.one_of(st.just(0.0), st.floats(0.01, 500.0))),
        min_size=2,
        max_size=12,
    ),
    sd=st.floats(0.2, 30.0),
)
def test_coordinates_of_steps_keep_the_prior(cells: list[tuple[int, float]], sd: float) -> None:
    """Whatever the data: steps are independent with the sd given, and the mean at events is 0."""
    events, time = np.array(cells, dtype=np.float64).T[:, None, :]
    found = steps(events + 0.5, time, sd=sd)
    step = np.diff(np.eye(events.size), axis=0)
    scaled = found.basis[0] * found.prior_sd[0]
    covariance = step @ scaled @ (step @ scaled).T
    np.testing.assert_allclose(covariance, sd**2 * np.eye(step.shape[0]), atol=1e-7 * sd**2)
    middle = found.likely[0] + found.basis[0] @ found.prior_mean[0]
    scale = 1.0 + np.abs(found.likely).max()
    np.testing.assert_allclose(middle, 0.0, atol=1e-7 * scale)
    np.testing.assert_allclose((events + 0.5) @ found.basis[0], 0.0, atol=1e-7 * events.size * 40)


def test_coordinates_of_steps_are_standard_normals_about_the_mode() -> None:
    """With many events the posterior is normal, and its sd in these coordinates 1."""
    events = np.array([[400.0, 900.0, 250.0, 1600.0, 700.0]])
    time = np.array([[100.0, 90.0, 110.0, 300.0, 500.0]])
    found = steps(events + 0.5, time, sd=1.5)
    step = np.diff(np.eye(5), axis=0) / 1.5
    expected = events[0]
    curvature = np.diag(expected) + step.T @ step
    inside = found.basis[0].T @ curvature @ found.basis[0]
    np.testing.assert_allclose(inside, np.eye(4), atol=0.02)
    crude = np.log(events / time)[0]
    crude -= np.average(crude, weights=events[0] + 0.5)
    # The prior pulls steps by at most a few hundredths of an sd of theirs.
    np.testing.assert_allclose(found.likely[0], crude, atol=0.005)


def test_the_gaussian_process_has_the_matern_covariance() -> None:
    definition = bb.load_model("gaussian_process")
    times = np.geomspace(0.5, 40.0, 8)
    table = pd.DataFrame(
        {"id": range(60), "t": np.linspace(0.3, 50, 60), "d": 1, "m": [None, 0.1] * 30}
    )
    small = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(m="m"),
    )
    question = bb.Question(exposed="m", eligible_from="entry")
    person_time = bb.person_time(small, question, cuts=times)
    model = build_model(definition, person_time).model
    with model:
        fixed = pm.do(model, {"process_sd": np.array([1.3]), "length_scale": np.array([0.7])})
    draws = 4000
    log_baseline, level = pm.draw(
        [fixed["log_baseline"], fixed["level"]], draws=draws, random_seed=1, mode="FAST_COMPILE"
    )
    values = (log_baseline - level[:, :, None])[:, 0]
    start = person_time.table["interval_start"].values
    middle = np.log((start + np.append(start[1:], 50.0)) / 2)
    place = 2 * (middle - middle[0]) / (middle[-1] - middle[0]) - 1
    distance = np.sqrt(5) * np.abs(place[:, None] - place[None, :]) / 0.7
    matern = 1.3**2 * (1 + distance + distance**2 / 3) * np.exp(-distance)
    weight = person_time.table["events"].values[0].sum(axis=(1, 2)) + 0.5
    off = np.eye(place.size) - weight / weight.sum()
    expected = off @ matern @ off.T
    got = np.cov(values.T)
    # Entries of a covariance of n normals have sds of at most sqrt(2 / n) times the variances.
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.abs((got - expected) / scale).max() < 5 * math.sqrt(2 / draws) + 0.03


# Effects that vary: cells by time since entry, ratios over time, by subgroup.


def histories(seed: int, size: int = 40) -> bb.Cohort:
    generator = np.random.default_rng(seed)
    time = generator.exponential(10.0, size) + 0.1
    start = generator.exponential(4.0, size)
    entry = np.where(generator.random(size) < 0.3, time * generator.uniform(0, 0.9, size), 0.0)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": time,
            "event": generator.integers(0, 2, size),
            "entry": entry,
            "start": np.where(start < time, start, np.nan),
            "arm": generator.choice(["a", "b"], size),
        }
    )
    table.loc[0, ["event", "start", "entry"]] = [1, 0.0, 0.0]
    table.loc[1, ["event", "start", "entry"]] = [1, np.nan, 0.0]
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), lag=st.sampled_from([0.0, 1.0, 2.5]))
def test_time_since_entry_is_cut_exactly(seed: int, lag: float) -> None:
    """Against a loop over patients; and pieces add up to the phase."""
    patients = histories(seed)
    question = bb.Question(exposed="late", eligible_from="entry", lag=lag)
    edges = [0.0, 2.0, 5.0, np.inf]
    cuts = [3.0, 7.0]
    try:
        whole = bb.person_time(patients, question, cuts=cuts)
    except bb.errors.DataError:
        return
    cut = bb.person_time(patients, question, cuts=cuts, phase_cuts=edges[1:-1])
    since = cut.table["since"].values
    exposed = cut.table["role"].values == "exposed"
    assert set(cut.table["treatment"].values) == set(whole.table["phase"].values)
    bounds = [0.0, *cuts, np.inf]
    one = patients.endpoints["os"]
    for state in np.flatnonzero(exposed):
        piece = edges.index(since[state])
        for interval in range(3):
            spent, died = 0.0, 0
            for index in range(patients.size):
                begun = patients.phase_start[index, 0]
                if np.isnan(begun):
                    continue
                low = max(begun + lag, begun + edges[piece], bounds[interval], one.entry[index])
                high = min(begun + edges[piece + 1], bounds[interval + 1], one.time[index])
                spent += max(0.0, high - low)
                died += int(one.event[index] and low < one.time[index] <= high)
            cell = (
                cut.table[["events", "person_time"]]
                .isel(endpoint=0, interval=interval, phase=int(state))
                .sum("pattern")
            )
            assert float(cell["person_time"]) == pytest.approx(spent, abs=1e-9)
            assert int(cell["events"]) == died
    for name in ("events", "person_time"):
        pieces = cut.table[name].values[:, :, exposed].sum(axis=2)
        phase = whole.table[name].values[:, :, whole.table["role"].values == "exposed"].sum(axis=2)
        np.testing.assert_allclose(pieces, phase, atol=1e-9)


def with_posterior(name: str, *, seed: int = 1, draws: int = 50) -> bb.Fit:
    """A fit whose draws are those of the prior: for arithmetic, not for statistics."""
    definition, person_time, model = built(name)
    prior, _ = prior_points(model, draws=draws, seed=seed)
    return replace(
        base_fit(),
        draws=xr.DataTree.from_dict({"/posterior": prior}),
        definition=definition,
        person_time=person_time,
    )


@cache
def base_fit() -> bb.Fit:
    return bb.fit(cohort(), QUESTION, seed=1, draws=10, tune=10, chains=1, progress=False)


def test_hazard_ratios_since_entry() -> None:
    fit = with_posterior("since_entry")
    got = bb.hazard_ratio(fit, over="since_entry")
    assert got["since"].values[0] == 0.0
    np.testing.assert_allclose(
        np.log(got["hazard_ratio"].values),
        fit.posterior["log_hazard_ratio_by_piece"].values,
        atol=1e-12,
    )
    # In an interval: pieces' hazards weighted by the person-time in them.
    by_interval = bb.hazard_ratio(fit, over="interval")["hazard_ratio"].values[0]
    table = fit.person_time.table
    states = np.flatnonzero(table["role"].values == "exposed")
    spent = table["person_time"].sum("pattern").values[:, :, states]
    ratio = np.exp(fit.posterior["log_hazard_ratio_by_piece"].values[0])
    for interval in range(table.sizes["interval"]):
        for endpoint in range(2):
            weight = spent[endpoint, interval]
            if not weight.sum():
                weight = spent[endpoint].sum(axis=0)
            expected = ratio[:, endpoint] @ weight / weight.sum()
            np.testing.assert_allclose(by_interval[:, endpoint, interval], expected, rtol=1e-10)
    with pytest.raises(EstimandError, match="since_entry"):
        bb.hazard_ratio(with_posterior("primary"), over="since_entry")


def test_hazard_ratios_over_time_and_their_average() -> None:
    fit = with_posterior("over_time")
    logs = fit.posterior["log_hazard_ratio_by_interval"].values
    by_interval = bb.hazard_ratio(fit, over="interval")["hazard_ratio"].values
    np.testing.assert_allclose(np.log(by_interval), logs, atol=1e-12)
    events = fit.person_time.table["events"].sum(("phase", "pattern")).values
    expected = (logs * events / events.sum(axis=1, keepdims=True)).sum(axis=-1)
    average = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values)
    np.testing.assert_allclose(average, expected, atol=1e-12)


def test_hazard_ratios_by_subgroup() -> None:
    fit = with_posterior("by_subgroup")
    logs = fit.posterior["log_hazard_ratio_by_subgroup"].values
    got = bb.hazard_ratio(fit, by="age_group")
    assert got["hazard_ratio"].dims == ("chain", "draw", "endpoint", "subgroup")
    np.testing.assert_allclose(np.log(got["hazard_ratio"].values), logs, atol=1e-12)
    assert list(got["subgroup"].values) == list(fit.design.subgroups)
    table = fit.person_time.table
    level = fit.design.class_of
    events = np.stack(
        [table["events"].values[..., level == g].sum(axis=(1, 2, 3)) for g in range(3)], axis=1
    )
    expected = (logs * events).sum(axis=-1) / events.sum(axis=1)
    average = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values)
    np.testing.assert_allclose(average, expected, atol=1e-12)
    with pytest.raises(EstimandError, match="does not differ by 'prior_salvage'"):
        bb.hazard_ratio(fit, by="prior_salvage")


def brute_survival(
    fit: bb.Fit, draw: int, endpoint: str, start: float, landmark: float, time: float
) -> float:
    """Average survival of those at risk at the landmark, by loops over patients and pieces."""
    person_time, posterior = fit.person_time, fit.posterior.isel(chain=0, draw=draw)
    one = person_time.people.sel(endpoint=endpoint)
    table, design = person_time.table, fit.design
    edges = [0.0, *person_time.cuts, np.inf]
    since = table["since"].values
    exposed = np.flatnonzero(table["role"].values == "exposed")
    total, count = 0.0, 0
    for index in range(person_time.people.sizes["patient"]):
        if not (one["begin"].values[index] <= landmark < one["exit"].values[index]):
            continue
        pattern = int(one["pattern"].values[index])
        count += 1
        relative = 0.0
        if design.term_names:
            slope = posterior["coefficient"].sel(endpoint=endpoint).values
            relative += float(slope @ design.terms[pattern])
        if "group_effect" in posterior:
            effect = posterior["group_effect"].sel(endpoint=endpoint).values
            relative += float(effect[design.group_of[pattern]])
        if "patient_effect" in posterior:
            relative += float(posterior["patient_effect"].values[pattern])
        baseline = posterior["log_baseline"].sel(endpoint=endpoint)
        if "stratum" in baseline.dims:
            baseline = baseline.isel(stratum=int(design.class_of[pattern]))
        points = sorted(
            {landmark, time, *(t for t in [*edges, start, *(start + since)] if landmark < t < time)}
        )
        passed = 0.0
        for low, high in pairwise(points):
            middle = (low + high) / 2
            interval = int(np.searchsorted(person_time.cuts, middle))
            log = float(baseline.values[interval])
            if middle > start:
                if "log_hazard_ratio_by_piece" in posterior:
                    piece = int((start + since[exposed] < middle).sum()) - 1
                    ratios = posterior["log_hazard_ratio_by_piece"].sel(endpoint=endpoint)
                    log += float(ratios.values[piece])
                elif "log_hazard_ratio_by_interval" in posterior:
                    ratios = posterior["log_hazard_ratio_by_interval"].sel(endpoint=endpoint)
                    log += float(ratios.values[interval])
                elif "log_hazard_ratio_by_subgroup" in posterior:
                    ratios = posterior["log_hazard_ratio_by_subgroup"].sel(endpoint=endpoint)
                    log += float(ratios.values[design.class_of[pattern]])
                else:
                    log += float(posterior["log_hazard_ratio"].sel(endpoint=endpoint).values[0])
            passed += math.exp(log + relative) * (high - low)
        total += math.exp(-passed)
    return total / count


VARYING = ("stratified", "over_time", "since_entry", "by_subgroup", "frailty", "patient_frailty")


@pytest.mark.parametrize("name", VARYING)
def test_survival_is_the_brute_force_average(name: str) -> None:
    fit = with_posterior(name, draws=4)
    times = [9.0, 16.0, 30.0]
    curves = bb.survival(fit, regimes=[bb.Never(), bb.From(8.0)], times=times, landmark=8.0)
    for endpoint in fit.person_time.endpoints:
        for draw in range(4):
            for time in times:
                for regime, start in (("never", np.inf), ("from 8", 8.0)):
                    expected = brute_survival(fit, draw, endpoint, start, 8.0, time)
                    got = curves["survival"].sel(endpoint=endpoint, regime=regime, time=time)
                    assert float(got.values[0, draw]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", ["stratified", "by_subgroup", "since_entry"])
def test_means_and_quantiles_of_mixtures(name: str) -> None:
    fit = with_posterior(name, draws=8)
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(8.0)]
    last = min(float(np.nanmax(one)) for one in fit.person_time.people["exit"].values)
    grid = np.linspace(8.0, last, 20_001)
    curves = bb.survival(fit, regimes=regimes, times=grid, landmark=8.0)["survival"]
    mean = bb.rmst(fit, horizon=last, regimes=regimes, landmark=8.0)["rmst"]
    values = curves.values
    trapezoid = np.trapezoid(values, grid, axis=-1)
    # The trapezoid's error is below step ** 2 / 12 x length x the largest second derivative.
    np.testing.assert_allclose(mean.values, trapezoid, rtol=1e-4, atol=2e-3)
    quantile = bb.survival_quantile(fit, survival=0.6, regimes=regimes, landmark=8.0)
    reached = quantile["reached"].values
    assert (values[~reached][..., -1] > 0.6).all()
    # The curve itself at each quantile's time.
    times = np.unique(quantile["quantile"].values[reached])
    exact = bb.survival(fit, regimes=regimes, times=times, landmark=8.0)["survival"].values
    for place in np.argwhere(reached):
        column = np.searchsorted(times, quantile["quantile"].values[tuple(place)])
        assert exact[tuple(place)][column] == pytest.approx(0.6, abs=1e-9)


def test_marginal_hazard_of_a_mixture_is_the_slope() -> None:
    fit = with_posterior("stratified", draws=5)
    times = np.array([9.3, 20.1])
    step = 1e-5
    around = np.concatenate([times - step, times + step])
    order = np.argsort(around)
    curves = bb.survival(fit, times=around[order], landmark=8.0)["survival"].values
    both = np.log(curves[..., np.argsort(order)])
    slope = -(both[..., 2:] - both[..., :2]) / (2 * step)
    hazard = bb.hazard(fit, times=times, landmark=8.0)["hazard"].values
    np.testing.assert_allclose(hazard, slope, rtol=1e-4, atol=1e-6)


# Groups.


def between(edges: np.ndarray, low: np.ndarray, high: float) -> np.ndarray:
    """Time in each interval between times and one later time."""
    ends = np.clip(high, edges[:-1], edges[1:])
    return np.asarray(ends - np.clip(low[:, None], edges[:-1], edges[1:]))


def test_new_patients_are_of_new_groups() -> None:
    """Against plain sums over the distribution of groups, on a fine grid of their effects."""
    for name, sd_name in (("frailty", "group_sd"), ("patient_frailty", "patient_sd")):
        fit = with_posterior(name, draws=3)
        person: dict[str, str | float] = {"prior_salvage": "yes", "marrow_blasts": 50.0}
        if name == "patient_frailty":
            person["age_group"] = "55+"
        else:
            with pytest.raises(EstimandError, match="belong to new ones"):
                bb.survival(fit, population={**person, "age_group": "55+"})
        got = bb.survival(fit, times=[20.0], landmark=8.0, population=person)["survival"]
        posterior, design = fit.posterior, fit.design
        person_time = fit.person_time
        names = [str(term) for term in person_time.table["term"].values]
        raw = np.array(
            [[{"age_group[55+]": 1.0, "prior_salvage[yes]": 1.0}.get(n, 0.0) for n in names]]
        )
        raw[0, names.index("marrow_blasts")] = 50.0
        edges = np.array([0.0, *person_time.cuts, 1e9])
        effect = np.linspace(-12.0, 12.0, 4801)
        density = stats.norm.pdf(effect)
        for endpoint in person_time.endpoints:
            found = np.exp(log_hazard(posterior, design, endpoint=endpoint).shared[:, 0, :, 0])
            begin = person_time.people["begin"].sel(endpoint=endpoint).values
            # They come under observation as the patients of the fit do.
            entry = begin[begin <= 8.0]
            slope = relative_of(posterior, design, design.standardised(raw), endpoint=endpoint)
            for draw in range(3):
                where = posterior[sd_name].isel(chain=0, draw=draw)
                sd = float(where.values[0] if name != "frailty" else where.sel(endpoint=endpoint))
                relative = np.exp(slope[draw, 0] + sd * effect)
                before = between(edges, entry, 8.0) @ found[draw]
                after = between(edges, np.full(1, 8.0), 20.0) @ found[draw]
                free = np.exp(-before[:, None] * relative).mean(axis=0) * density
                expected = (free * np.exp(-after * relative)).sum() / free.sum()
                value = float(got.sel(endpoint=endpoint).values[0, draw, 0, 0])
                assert value == pytest.approx(expected, abs=1e-5)


def twice(*, relapse_only: bool, of: int = 200) -> bb.Cohort:
    """Patients of one effect on relapse and death; ``rfs`` ends with either, or with relapse."""
    generator = np.random.default_rng(7)
    effect = np.exp(generator.normal(0.0, 0.8, of))
    relapse, death = generator.exponential(10.0, (2, of)) / effect
    end = generator.uniform(8.0, 30.0, of)
    table = pd.DataFrame(
        {
            "id": np.arange(of),
            "os": np.minimum(death, end),
            "died": (death <= end).astype(int),
            "rfs": np.minimum(np.minimum(relapse, death), end),
            "failed": ((relapse < np.minimum(death, end)) | ((death <= end) & (not relapse_only))),
            "start": np.where(generator.random(of) < 0.5, 0.25, np.nan),
        }
    ).astype({"failed": int})
    table.loc[table["start"] >= table["rfs"], "start"] = np.nan
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died", recorded="exact"),
            "rfs": bb.Endpoint(time="rfs", event="failed", recorded="exact"),
        },
        phases=bb.Phases(late="start"),
    )


def test_one_effect_on_endpoints_that_share_events_is_refused() -> None:
    """Deaths without relapse end both; relapse alone, censored by death, shares no event."""
    question = bb.Question(exposed="late", eligible_from="entry")
    frail = bb.load_model("patient_frailty")
    both = twice(relapse_only=False)
    one = both.endpoints
    shared = int((one["os"].event & (one["rfs"].time == one["os"].time)).sum())
    assert shared > 20
    with pytest.raises(SpecError, match=rf"{shared} of the {shared} events of os .* of rfs"):
        bb.fit(both, question, model=frail, seed=1, progress=False)
    # The remedies: one of the two, or an event that is no part of the other.
    for name in ("os", "rfs"):
        alone = person_time_for(frail, both, replace(question, endpoints=(name,)))
        assert len(build_model(frail, alone).design.groups) == both.size
    apart = person_time_for(frail, twice(relapse_only=True), question)
    assert apart.endpoints == ("os", "rfs")
    assert len(build_model(frail, apart).design.groups) == both.size
    # A tie of times now and then is chance.
    few = apart.people["event"].values.copy()
    late = np.flatnonzero(few[0] & ~few[1])
    late = late[: int(0.08 * late.size)]
    few[1, late] = True
    tied = apart.people.assign(event=(apart.people["event"].dims, few))
    build_model(frail, replace(apart, patients=Lazily.of(replace(apart.patients(), people=tied))))
    # Other models have no effects that endpoints share.
    person_time_for(bb.load_model("primary"), both, question)


def test_patients_effects_are_integrated_out() -> None:
    from scipy.integrate import quad

    generator = np.random.default_rng(1)
    events = np.array([0.0, 1.0, 2.0])
    expected = generator.uniform(0.01, 6, (3, 4))
    sd = np.array([0.05, 0.4, 1.0, 2.0])
    got = _integrated(events, expected, sd)
    for i in range(3):
        for d in range(4):

            def integrand(b: float, i: int = i, d: int = d) -> float:
                log = events[i] * b - expected[i, d] * math.exp(b)
                return math.exp(log) * float(stats.norm.pdf(b, 0, sd[d]))

            value, _ = quad(integrand, -12 * sd[d], 12 * sd[d], points=[0.0], epsabs=1e-13)
            assert got[i, d] == pytest.approx(math.log(value), abs=1e-6)


def test_groups_effects_are_by_level() -> None:
    fit = with_posterior("frailty", draws=3)
    effects = group_effects(fit.posterior, fit.design, endpoint="os")
    assert effects.shape == (3, fit.person_time.table.sizes["pattern"])
    assert fit.design.groups == ("18-34", "35-54", "55+")
    assert not any(name.startswith("age_group") for name in fit.design.term_names)


# Correlated endpoints.


def test_correlation_prior_is_lkj() -> None:
    """Marginals of an LKJ prior are Beta(eta - 1 + n / 2) on (-1, 1)."""
    patients = cohort()
    definition = bb.load_model("correlated")
    for names in (("os", "rfs"), ("os", "rfs", "efs")):
        endpoints = dict(patients.endpoints)
        if "efs" in names:
            endpoints["efs"] = endpoints["rfs"]
        several = replace(patients, endpoints=endpoints)
        model = build_model(definition, bb.person_time(several, QUESTION)).model
        draws = 4000
        correlation, ratio = pm.draw(
            [model["correlation"], model["log_hazard_ratio"]],
            draws=draws,
            random_seed=3,
            mode="FAST_COMPILE",
        )
        shape = 2.0 - 1.0 + len(names) / 2.0
        for pair in range(correlation.shape[1]):
            share = (correlation[:, pair] + 1) / 2
            assert stats.kstest(share, stats.beta(shape, shape).cdf).pvalue > 1e-4
        # Given the correlation, the ratios have it.
        sd = definition.phases.prior.sd
        product = ratio[:, 0, 0] * ratio[:, 1, 0] / sd**2
        error = (product - correlation[:, 0]).std() / math.sqrt(draws)
        assert abs((product - correlation[:, 0]).mean()) < 4 * error
        assert np.abs(ratio.std(axis=0) / sd - 1).max() < 4 / math.sqrt(2 * draws)


# Weights.


def test_weights_count_patients_so_many_times() -> None:
    patients = histories(5)
    question = bb.Question(exposed="late", eligible_from="entry")
    weights = np.random.default_rng(1).integers(1, 4, patients.size).astype(float)
    cuts = [3.0, 7.0]
    weighted = bb.person_time(patients, question, cuts=cuts, weights=weights)
    assert weighted.weighted
    frame = pd.DataFrame(
        {
            "id": [f"{i}-{k}" for i in range(patients.size) for k in range(int(weights[i]))],
            "row": np.repeat(np.arange(patients.size), weights.astype(int)),
        }
    )
    one = patients.endpoints["os"]
    row = frame["row"].to_numpy()
    arms = np.asarray(patients.covariates["arm"].levels)[
        patients.covariates["arm"].values.astype(int)
    ]
    frame = frame.assign(
        time=one.time[row],
        event=one.event[row].astype(int),
        entry=one.entry[row],
        start=patients.phase_start[row, 0],
        arm=arms[row],
    )
    repeated = bb.read_cohort(
        frame,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
    )
    plain = bb.person_time(repeated, question, cuts=cuts)
    for name in ("events", "person_time"):
        np.testing.assert_allclose(
            weighted.table[name].values, plain.table[name].values, rtol=1e-10, atol=1e-12
        )
    with pytest.raises(bb.errors.DataError, match="greater than 0"):
        bb.person_time(patients, question, weights=np.zeros(patients.size))
    with pytest.raises(SpecError, match="one for each patient"):
        bb.person_time(patients, question, weights=[1.0])
    assert not bb.person_time(patients, question, weights=np.ones(patients.size)).weighted


# Borrowing.


def test_a_power_prior_weights_external_patients() -> None:
    definition, person_time, _ = built("power_prior")
    plain = bb.person_time(cohort(), QUESTION, cuts=person_time.cuts)
    names = [str(term) for term in plain.table["term"].values]
    external = plain.table["design"].values[:, names.index("prior_salvage[yes]")] == 1.0
    weight = np.where(external, 0.5, 1.0)
    for name in ("events", "person_time"):
        np.testing.assert_allclose(person_time.table[name], plain.table[name] * weight, rtol=1e-12)
    assert definition.borrowing is not None
    with pytest.raises(SpecError, match="tells external patients"):
        person_time_for(bb.load_model("power_prior"), cohort(), QUESTION)


def two_sources(ratio: float, *, seed: int) -> bb.Cohort:
    """300 current and 300 external patients, whose hazard is `ratio` times as high."""
    generator = np.random.default_rng(seed)
    size = 600
    external = np.arange(size) >= 300
    time = generator.exponential(10.0, size) / np.where(external, ratio, 1.0)
    start = generator.exponential(5.0, size)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": np.minimum(time, 24.0),
            "event": (time <= 24.0).astype(int),
            "start": np.where(start < np.minimum(time, 24.0), start, np.nan),
            "source": np.where(external, "historical", "current"),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["source"],
    )


def test_borrowing_gives_way_to_conflict() -> None:
    question = bb.Question(exposed="late", eligible_from="entry")
    rows = {}
    for ratio in (1.0, 4.0):
        patients = two_sources(ratio, seed=1)
        for name in ("commensurate", "robust_mixture", "power_prior"):
            model = bb.load_model(name).with_covariates(source="source")
            fit = bb.fit(
                patients, question, model=model, cuts=[6.0], seed=1, draws=500, progress=False
            )
            table = bb.borrowing(fit).set_index("part")
            rows[name, ratio] = table.loc["baseline"]
            assert not table.loc["phases", "conflict"]
    for ratio in (1.0, 4.0):
        # The external hazard is found, whatever the prior says of it: its sd is about 0.1.
        found = rows["robust_mixture", ratio]["hazard_ratio"]
        assert abs(math.log(found / ratio)) < 0.5
        power = rows["power_prior", ratio]
        # Half of the external events, of which as many are in the reference phase.
        gained, error, external = (
            float(power[name]) for name in ("effective_events", "effective_events_error", "events")
        )
        assert gained == pytest.approx(0.5 * external, abs=4.0 * error + 15.0)
    assert rows["robust_mixture", 1.0]["probability_apart"] < 0.2
    assert rows["robust_mixture", 4.0]["probability_apart"] > 0.9
    for name in ("commensurate", "robust_mixture"):
        assert rows[name, 4.0]["effective_events"] < rows[name, 1.0]["effective_events"]
        assert [rows[name, ratio]["conflict"] for ratio in (1.0, 4.0)] == [False, True]
    with pytest.raises(EstimandError, match="has no external patients"):
        bb.borrowing(with_posterior("primary"))


def test_a_robust_mixture_starts_at_its_probability() -> None:
    definition, _, model = built("robust_mixture")
    prior, _ = prior_points(model, draws=4000, seed=1)
    assert isinstance(definition.borrowing, RobustMixture)
    apart = probability_apart(definition.borrowing, prior["source_effect"].values[..., 0, :])
    # A mean of indicators' probabilities varies less than one of indicators.
    assert apart.mean() == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 4000))


def test_external_patients_are_not_averaged_over() -> None:
    fit = with_posterior("commensurate", draws=3)
    curves = bb.survival(fit, times=[15.0], landmark=8.0)
    assert curves.attrs["population"].startswith("current eligible patients")
    person_time, design = fit.person_time, fit.design
    one = person_time.people.sel(endpoint="os")
    at_risk = (one["begin"].values <= 8.0) & (one["exit"].values > 8.0)
    pattern = one["pattern"].values[at_risk & (design.source_of[one["pattern"].values] == 0)]
    found = log_hazard(fit.posterior, design, endpoint="os")
    edges = np.array([0.0, *person_time.cuts, 1e9])
    inside = np.clip(15.0, edges[:-1], edges[1:]) - np.clip(8.0, edges[:-1], edges[1:])
    passed = np.exp(found.shared[:, 0, :, 0]) @ inside
    expected = np.exp(-passed[:, None] * np.exp(found.pattern[:, pattern])).mean(axis=1)
    got = curves["survival"].sel(endpoint="os").values[0, :, 0, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_the_bootstrap_has_the_estimates_spread() -> None:
    """Doubling every patient's weight halves the posterior's variance, and not the estimate's."""
    patients = two_sources(1.0, seed=3)
    question = bb.Question(exposed="late", eligible_from="entry")
    flat = bb.load_model("primary").with_priors(phases=bb.HazardRatioPrior.from_sd(10.0))
    sds = {}
    for weight in (1.0, 4.0):
        fit = bb.fit(
            patients,
            question,
            model=flat,
            cuts=[6.0],
            weights=np.full(patients.size, weight) if weight != 1.0 else None,
            seed=1,
            draws=500,
            progress=False,
        )
        found = bb.bayesian_bootstrap(fit, seed=2, replicates=60)
        posterior = float(fit.posterior["log_hazard_ratio"].std())
        sds[weight] = (posterior, float(found["log_hazard_ratio"].std()))
        assert ("weighted pseudo-posterior" in " ".join(fit.provenance.notes)) == (weight != 1.0)
    assert sds[4.0][0] == pytest.approx(sds[1.0][0] / 2, rel=0.15)
    # The sd of 60 replicates has a relative error of 1 / sqrt(120); both use the same weights.
    assert sds[4.0][1] == pytest.approx(sds[1.0][1], rel=0.1)
    assert sds[1.0][1] == pytest.approx(sds[1.0][0], rel=4 / math.sqrt(120))
    with pytest.raises(SpecError, match="at least 2"):
        bb.bayesian_bootstrap(fit, seed=1, replicates=1)
