"""Events found at visits: the operation, and the model against R's survreg."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytest
import xarray as xr
from scipy.integrate import quad
from scipy.optimize import minimize

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.hazards.effects import make_design
from bayesblina.hazards.likelihood import patient_log_likelihood, total_log_likelihood
from bayesblina.hazards.ops import FoundAtVisits
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.question import StartsUntil
from tests.visited import asked, golden_patients

# R's survreg(Surv(type = "interval2"), dist = "exponential"), data/visits.R: minus these are log
# hazards and log hazard ratios.
R_ALONE = 2.1519523009
R_INTERCEPT, R_EXPOSED, R_X = 2.2621250505302, 0.0457275000216, -0.0888153087518
OUTPUTS = 5


def drawn(generator: np.random.Generator, *, starting: bool) -> list[Floats]:
    """Gaps of 12 events of 2 endpoints, of 1 to 4 parts, with or without starts; all inputs."""
    events, endpoints, classes, intervals, phases, cells = 12, 2, 2, 5, 3, 4
    endpoint = generator.integers(0, endpoints, events)
    counts = generator.integers(1, 5, events)
    parts = int(counts.sum())
    start = np.full(parts, -1)
    if starting:
        start = generator.integers(-1, cells, parts)
    values = [
        endpoint,
        endpoint,
        generator.integers(0, classes, events),
        generator.uniform(0.5, 2.0, events),
        np.concatenate([[0], np.cumsum(counts)]),
        generator.integers(0, intervals * phases, parts),
        generator.uniform(0.2, 3.0, parts),
        start,
        generator.normal(-1.5, 0.5, (endpoints, classes, intervals, phases)),
        generator.normal(0.0, 0.3, events),
        generator.normal(-1.5, 0.5, (endpoints, cells)),
        generator.normal(0.0, 0.3, events),
    ]
    return [np.asarray(value, dtype=np.float64) for value in values]


def performed(values: list[Floats]) -> list[Floats]:
    storage: list[list[Any]] = [[None] for _ in range(OUTPUTS)]
    FoundAtVisits().perform(None, values, storage)
    return [np.asarray(cell[0]) for cell in storage]


@pytest.mark.parametrize("starting", [False, True])
def test_log_likelihood_is_the_integral_over_the_gap(starting: bool) -> None:
    """Density of the event at each time of the gap, with neither event nor start before it."""
    values = drawn(np.random.default_rng(3), starting=starting)
    endpoint, row, class_of, first, cell, start = (
        values[at].astype(int) for at in (0, 1, 2, 4, 5, 7)
    )
    shared, own, hazards, begun = values[8:]
    total = 0.0
    for i in range(own.size):
        parts = range(first[i], first[i + 1])
        edges = np.concatenate([[0.0], np.cumsum(values[6][list(parts)])])
        event = [np.exp(shared[endpoint[i], class_of[i]].ravel()[cell[m]] + own[i]) for m in parts]
        other = [
            0.0 if start[m] < 0 else np.exp(hazards[row[i], start[m]] + begun[i]) for m in parts
        ]

        def density(time: float, edges: Floats = edges, event: list = event, other: list = other):  # type: ignore[no-untyped-def, type-arg]
            inside = np.clip(time - edges[:-1], 0.0, np.diff(edges))
            part = int(np.searchsorted(edges, time, side="left")) - 1
            return event[max(part, 0)] * np.exp(-((np.array(event) + other) * inside).sum())

        pieces = [quad(density, *edges[m : m + 2])[0] for m in range(len(event))]
        total += values[3][i] * np.log(sum(pieces))
    assert float(performed(values)[0]) == pytest.approx(total, rel=1e-9)


def test_without_starts_it_is_the_fall_of_survival() -> None:
    values = drawn(np.random.default_rng(4), starting=False)
    passed = np.exp(values[8]).reshape(2, 2, -1)
    total = 0.0
    for i in range(values[9].size):
        parts = slice(int(values[4][i]), int(values[4][i + 1]))
        own = passed[int(values[0][i]), int(values[2][i])][values[5][parts].astype(int)]
        cumulative = (own * np.exp(values[9][i]) * values[6][parts]).sum()
        total += values[3][i] * np.log1p(-np.exp(-cumulative))
    assert float(performed(values)[0]) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("starting", [False, True])
def test_gradients_match_finite_differences(starting: bool) -> None:
    values = drawn(np.random.default_rng(5), starting=starting)
    _, *gradients = performed(values)
    step = 1e-5
    for gradient, at in zip(gradients, range(8, 12), strict=True):
        assert gradient.shape == values[at].shape
        for place in np.ndindex(values[at].shape):
            ends = []
            for side in (step, -step):
                moved = [value.copy() for value in values]
                moved[at][place] += side
                ends.append(float(performed(moved)[0]))
            # Central differences err by the square of the step, and rounding over it.
            assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("starting", [False, True])
def test_kernel_is_its_definition(starting: bool) -> None:
    function = None
    for seed in range(3):
        values = drawn(np.random.default_rng(seed), starting=starting)
        inputs = [pytensor.tensor.tensor(dtype="float64", shape=(None,) * v.ndim) for v in values]
        if function is None:
            function = pytensor.function(inputs, FoundAtVisits()(*inputs), mode="NUMBA")
        for got, expected in zip(function(*values), performed(values), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def maximum(mechanism: StartsUntil) -> Floats:
    """Maximise the model's likelihood with one interval: log hazard, log hazard ratios."""
    definition = bb.load_model("primary")
    person_time = person_time_for(definition, golden_patients("x"), asked(mechanism), cuts=[])
    design = make_design(person_time, definition)

    def posterior(point: Floats) -> xr.Dataset:
        chain = ("chain", "draw", "endpoint")
        variables = {
            "log_baseline": ((*chain, "interval"), point[0].reshape(1, 1, 1, 1)),
            "log_hazard_ratio": ((*chain, "effect"), point[1].reshape(1, 1, 1, 1)),
            "coefficient": ((*chain, "term"), point[2].reshape(1, 1, 1, 1)),
        }
        return xr.Dataset(variables, coords={"endpoint": ["y"]})

    def falls(point: Floats) -> float:
        return -float(total_log_likelihood(posterior(point), person_time, design)[0])

    best = minimize(falls, np.array([-2.0, 0.0, 0.0]), method="BFGS", options={"gtol": 1e-6}).x
    by_patient = patient_log_likelihood(posterior(best), person_time, design)
    assert float(by_patient.sum()) == pytest.approx(-falls(best), rel=1e-10)
    # Terms are standardised.
    best[2] /= design.scale[0]
    best[0] -= best[2] * design.centre[0]
    return np.asarray(best)


@pytest.mark.parametrize("mechanism", ["found", "event"])
def test_modes_are_those_of_r(mechanism: StartsUntil) -> None:
    """Nobody starts within follow-up, so that mechanisms do not differ."""
    expected = [-R_INTERCEPT, -R_EXPOSED, -R_X]
    np.testing.assert_allclose(maximum(mechanism), expected, atol=1e-4)


def test_mode_of_one_hazard_is_rs() -> None:
    """All patients in one state: of the likelihood with equal hazards in both."""
    definition = bb.load_model("primary")
    person_time = person_time_for(definition, golden_patients(), asked(), cuts=[])
    design = make_design(person_time, definition)
    grid = np.linspace(-2.2, -2.1, 2001)
    shape = (1, grid.size, 1, 1)
    chain = ("chain", "draw", "endpoint")
    draws = xr.Dataset(
        {
            "log_baseline": ((*chain, "interval"), grid.reshape(shape)),
            "log_hazard_ratio": ((*chain, "effect"), np.zeros(shape)),
        },
        coords={"endpoint": ["y"]},
    )
    values = total_log_likelihood(draws, person_time, design)
    assert grid[np.argmax(values)] == pytest.approx(-R_ALONE, abs=1e-4)
