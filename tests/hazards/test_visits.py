"""Events found at visits in the likelihood, held against integrals over the gaps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from numpy.typing import NDArray

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import BuiltModel, build_model, with_weights
from bayesblina.hazards.definition import load_model
from bayesblina.hazards.effects import make_design
from bayesblina.hazards.gaps import gap_terms
from bayesblina.hazards.likelihood import patient_log_likelihood, total_log_likelihood
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.cells import PersonTime
from tests.visits import at_visits, cohort_of

CUTS = np.array([6.0, 15.0])
PRIMARY = load_model("primary")
Floats = NDArray[np.float64]


def asked(mechanism: Any) -> bb.Question:
    return bb.Question(exposed="m", eligible_from="c", starts_until=mechanism)


def with_age(seed: int, size: int, mechanism: str) -> pd.DataFrame:
    table = at_visits(seed=seed, size=size, every=12.0, mechanism=mechanism)
    return table.assign(age=np.random.default_rng(seed).normal(60.0, 8.0, size))


def draws_of(person_time: PersonTime, count: int = 3) -> xr.Dataset:
    """Draw parameters at random, laid out as a posterior."""
    rng, intervals = np.random.default_rng(5), person_time.table.sizes["interval"]
    shapes: dict[str, tuple[tuple[str, ...], tuple[int, ...], float]] = {
        "log_baseline": (("endpoint", "interval"), (1, intervals), -3.0),
        "log_hazard_ratio": (("endpoint", "effect"), (1, 1), -0.3),
    }
    if person_time.table.sizes["term"]:
        shapes["coefficient"] = (("endpoint", "term"), (1, 1), 0.2)
    visits = person_time.visits
    assert visits is not None
    if "start" in visits.sizes:
        shapes["start_log_hazard"] = (("visited", "start"), (1, visits.sizes["start"]), -3.0)
        if "coefficient" in shapes:
            shapes["start_coefficient"] = (("visited", "term"), (1, 1), -0.2)
    coords = {"chain": [0], "draw": np.arange(count), "endpoint": ["y"], "visited": ["y"]}
    return xr.Dataset(
        {
            name: (("chain", "draw", *dims), mean + 0.3 * rng.normal(size=(1, count, *shape)))
            for name, (dims, shape, mean) in shapes.items()
        },
        coords=coords,
    )


def integrated(table: pd.DataFrame, person_time: PersonTime, draws: xr.Dataset) -> Floats:
    """Log-likelihoods of patients, (patient, draws), by sums over short steps of their gaps."""
    visits = person_time.visits
    assert visits is not None
    starts = "start_cuts" in visits
    edges = np.append(0.0, visits["start_cuts"].values) if starts else np.zeros(1)
    age = table["age"].to_numpy() if "age" in table else np.zeros(len(table))
    standard = (age - age.mean()) / (age.std() or 1.0)
    total = np.zeros((len(table), draws.sizes["draw"]))
    for d in range(draws.sizes["draw"]):
        chosen = draws.isel(chain=0, draw=d)
        baseline = np.exp(chosen["log_baseline"].values[0])
        ratio = float(np.exp(chosen["log_hazard_ratio"].values[0, 0]))
        slope = float(chosen["coefficient"].values[0, 0]) if "coefficient" in chosen else 0.0
        row: Any
        for i, row in enumerate(table.itertuples()):
            own = float(np.exp(slope * standard[i]))
            start = np.inf if np.isnan(row.m) else float(row.m)
            free = max(row.last, row.c)
            if starts and row.e and start < row.t:
                free = max(free, start)
            every = np.unique([row.c, free, row.t, *CUTS, *(row.c + edges), min(start, row.t)])
            every = every[(every >= row.c) & (every <= row.t)]
            passed, started, found = 0.0, 0.0, 0.0
            for low, high in pairwise(every.tolist()):
                inside = low >= free
                if inside and not row.e:
                    break
                steps = 2000 if inside else 1
                middle = (low + high) / 2.0
                hazard = own * baseline[np.searchsorted(CUTS, middle)]
                hazard *= ratio if middle > start else 1.0
                other = 0.0
                if starts and middle < start:
                    cell = int(np.searchsorted(edges, middle - row.c, side="right")) - 1
                    logs = chosen["start_log_hazard"].values[0]
                    lean = float(chosen["start_coefficient"].values[0, 0]) if slope else 0.0
                    other = float(np.exp(logs[cell] + lean * standard[i]))
                    if not inside and high == start:
                        total[i, d] += np.log(other)
                if not inside:
                    passed, started = passed + hazard * (high - low), started + other * (high - low)
                    continue
                width = (high - low) / steps
                at = (np.arange(steps) + 0.5) * width
                found += (
                    float((hazard * np.exp(-(passed + started) - (hazard + other) * at)).sum())
                    * width
                )
                passed, started = passed + hazard * (high - low), started + other * (high - low)
            if row.e:
                total[i, d] += np.log(found)
            else:
                total[i, d] -= passed + started
    return total


@pytest.mark.parametrize("mechanism", ["found", "event"])
def test_patients_likelihoods_are_integrals_over_the_gaps(mechanism: str) -> None:
    table = with_age(3, 25, mechanism)
    person_time = person_time_for(PRIMARY, cohort_of(table), asked(mechanism), cuts=CUTS)
    draws, design = draws_of(person_time), make_design(person_time, PRIMARY)
    own = patient_log_likelihood(draws, person_time, design).values[0].T
    expected = integrated(table, person_time, draws)
    np.testing.assert_allclose(own, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(total_log_likelihood(draws, person_time, design), own.sum(axis=0))


def density(built: BuiltModel, draws: xr.Dataset, row: int) -> float:
    """Evaluate a model's log-likelihood by PyMC at a point in the sampler's coordinates."""
    model = built.model
    graph = model.replace_rvs_by_values(model.potentials)[0]
    function = model.compile_fn(
        graph, inputs=model.value_vars, mode="FAST_COMPILE", on_unused_input="ignore"
    )
    point = {variable.name: draws[variable.name].values[0, row] for variable in model.value_vars}
    return float(function(point))


@pytest.mark.parametrize("mechanism", ["found", "event"])
def test_pymcs_density_is_the_patients(mechanism: str) -> None:
    table = with_age(4, 40, mechanism)
    person_time = person_time_for(PRIMARY, cohort_of(table), asked(mechanism), cuts=CUTS)
    built, design = build_model(PRIMARY, person_time), make_design(person_time, PRIMARY)
    with built.model:
        drawn = pm.draw(
            [*built.model.free_RVs, built.model["log_baseline"]], draws=3, random_seed=1
        )
    names = [variable.name for variable in built.model.free_RVs] + ["log_baseline"]
    dims = built.model.named_vars_to_dims
    draws = xr.Dataset(
        {
            name: (("chain", "draw", *dims[name]), np.asarray(values)[None])
            for name, values in zip(names, drawn, strict=True)
        },
        coords={"chain": [0], "endpoint": ["y"], "visited": ["y"]},
    )
    expected = total_log_likelihood(draws, person_time, design)
    for row in range(3):
        assert density(built, draws, row) == pytest.approx(expected[row], rel=1e-10)
    # Patients who are left out are in neither.
    weights = np.ones(person_time.size)
    weights[::3] = 0.0
    with_weights(built, person_time, weights)
    by_patient = patient_log_likelihood(draws, person_time, design).values[0]
    assert density(built, draws, 0) == pytest.approx(by_patient[0] @ weights, rel=1e-10)


def test_compression_changes_nothing() -> None:
    table = with_age(6, 60, "event")
    cohort = cohort_of(table)
    sums = []
    for compress in (False, True):
        person_time = person_time_for(PRIMARY, cohort, asked("event"), cuts=CUTS, compress=compress)
        draws = draws_of(person_time)
        sums.append(total_log_likelihood(draws, person_time, make_design(person_time, PRIMARY)))
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-9)


def test_where_events_lie_in_their_gaps() -> None:
    table = with_age(7, 30, "event")
    person_time = person_time_for(PRIMARY, cohort_of(table), asked("event"), cuts=CUTS)
    draws = draws_of(person_time, 1)
    gaps = gap_terms(draws, person_time, make_design(person_time, PRIMARY), "y")
    assert gaps is not None
    inside, passed = gaps.moments()
    np.testing.assert_allclose(np.add.reduceat(inside, gaps.opens, axis=0), 1.0)
    # By steps: the event at each, and the hazard until then.
    event = int(np.argmax(np.bincount(gaps.event)))
    rows = np.flatnonzero(gaps.event == event)
    hazard, rate, length = (
        np.repeat(values[rows, 0], 20_000) for values in (gaps.hazard, gaps.rate, gaps.length)
    )
    width = length / 20_000
    gone, until = np.cumsum(rate * width), np.cumsum(hazard * width)
    weight = hazard * np.exp(-(gone - rate * width / 2.0)) * width
    weight /= weight.sum()
    expected = float((weight * (until - hazard * width / 2.0)).sum())
    assert float(passed[rows].sum()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("free", "jumps at event times"),
        ("mixture_cure", "cured patients"),
        ("patient_frailty", "an effect of each patient"),
        ("illness_death", "an illness-death course"),
    ],
)
def test_models_without_such_a_likelihood_are_refused(name: str, why: str) -> None:
    cohort = cohort_of(at_visits(seed=1, size=40, every=12.0, mechanism="found"))
    with pytest.raises(SpecError, match=why):
        person_time_for(load_model(name), cohort, asked("found"))


def test_a_fit_finds_the_ratio_and_the_other_mechanism_does_not() -> None:
    """At 12-monthly visits, of patients who do not start after the event; the truth is 1."""
    table = at_visits(seed=1, size=2000, every=12.0, mechanism="event", ratio=1.0)
    cohort, settings = cohort_of(table), SamplerSettings(draws=250, tune=250, chains=4)
    estimates = {}
    for mechanism in ("event", "found"):
        person_time = person_time_for(PRIMARY, cohort, asked(mechanism))
        fitted = fit_person_time(
            PRIMARY,
            person_time,
            asked(mechanism),
            seed=1,
            settings=settings,
            complete=False,
            compared=False,
        )
        logs = fitted.posterior["log_hazard_ratio"]
        estimates[mechanism] = float(logs.mean()), float(logs.std())
    mean, sd = estimates["event"]
    assert abs(mean) < 3.0 * sd
    assert 0.04 < sd < 0.09
    wrong, spread = estimates["found"]
    assert wrong < -3.0 * spread
    assert replace(asked("event"), starts_until="found") == asked("found")
