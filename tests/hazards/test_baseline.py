"""Bases and coordinates of baselines: their priors, by hand and by brute force."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.hazards.baseline import steps, walks
from bayesblina.hazards.build import build_model

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
