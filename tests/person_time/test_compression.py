"""Compressed covariates against direct sums over patients: weights, bounds and plans.

Bounds are held against dense grids from both sides: an error above its bound is wrong, and a bound
far above every error would be useless.
"""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesblina.core.arrays import Floats
from bayesblina.estimands.paths import average_survival, hazard_at_survival
from bayesblina.person_time import compression
from bayesblina.person_time.compression import (
    Axis,
    Compression,
    compress,
    double_exponential_error,
    exponential_error,
    interpolation,
    lebesgue_constant,
    node_grid,
    nodes,
    number_of_patterns,
    plan,
    rounding,
)

EPS = float(np.finfo(np.float64).eps)
DENSE = np.concatenate([np.linspace(-1.0, 1.0, 2001), -np.cos(np.linspace(0.0, np.pi, 501))])


# Weights ------------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=20),
    st.integers(2, 40),
    st.integers(0, 2**32 - 1),
)
def test_weights_reproduce_polynomials(x: list[float], count: int, seed: int) -> None:
    """Of every degree below the number of nodes, constants (weights sum to 1) among them."""
    places = np.array(x)
    weights = interpolation(places, count)
    assert weights.shape == (places.size, count)
    # Coefficients of Chebyshev polynomials are of the size of the polynomial.
    coefficients = np.random.default_rng(seed).normal(size=count)
    at_nodes = np.polynomial.chebyshev.chebval(nodes(count), coefficients)
    direct = np.polynomial.chebyshev.chebval(places, coefficients)
    limit = 4.0 * count * EPS * np.abs(coefficients).sum() * lebesgue_constant(count)
    np.testing.assert_allclose(weights @ at_nodes, direct, rtol=0, atol=limit)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=4.0 * count * EPS)


@pytest.mark.parametrize("count", [2, 3, 10, 25, 60])
def test_nodes_and_how_much_they_enlarge(count: int) -> None:
    found = nodes(count)
    # The roots of the Chebyshev polynomial of that degree.
    at_roots = np.polynomial.chebyshev.chebval(found, [0.0] * count + [1.0])
    np.testing.assert_allclose(at_roots, 0.0, atol=count**2 * EPS)
    assert (np.diff(found) > 0).all()
    # A patient at a node counts there and nowhere else.
    np.testing.assert_allclose(interpolation(found, count), np.eye(count), atol=4 * count * EPS)
    largest = np.abs(interpolation(DENSE, count)).sum(axis=1).max()
    # The known constant: 2 / pi (log n + gamma + log(8 / pi)) and a little, Trefethen, chapter 15.
    limit = 2 / math.pi * (math.log(count) + np.euler_gamma + math.log(8 / math.pi))
    assert limit < largest * (1 + 1e-9)
    assert largest <= lebesgue_constant(count)
    assert lebesgue_constant(count) < largest + 0.1


def some_axes(sizes: tuple[int, ...]) -> Compression:
    return Compression(
        axes=tuple(
            Axis(name=f"x{index}", low=-2.0 * index - 1.0, high=3.0 + index, nodes=size, swing=6.0)
            for index, size in enumerate(sizes)
        )
    )


@given(
    st.lists(st.integers(2, 7), min_size=1, max_size=3).map(tuple),
    st.integers(1, 60),
    st.integers(0, 2**32 - 1),
)
def test_sums_of_polynomials_are_sums_of_weights(
    sizes: tuple[int, ...], patients: int, seed: int
) -> None:
    """`from_moments`, as engines sum, against `projection`, patient by patient."""
    found = some_axes(sizes)
    random = np.random.default_rng(seed)
    covariates = np.stack([random.uniform(a.low, a.high, patients) for a in found.axes], axis=1)
    # Numbers by (endpoint, cell) and patient, such as person-time.
    spent = random.exponential(size=(2, 3, patients))
    direct = spent @ found.projection(covariates)
    products = np.ones((patients, 1))
    for index, axis in enumerate(found.axes):
        degree = np.arange(axis.nodes)
        one = np.cos(degree * np.arccos(axis.scaled(covariates[:, index]))[:, None])
        products = np.einsum("ia,ib->iab", products, one).reshape(patients, -1)
    summed = found.from_moments(spent @ products)
    limit = 50.0 * found.size * EPS * spent.sum(axis=-1).max()
    np.testing.assert_allclose(summed, direct, rtol=0, atol=limit)
    np.testing.assert_allclose(direct.sum(axis=-1), spent.sum(axis=-1), rtol=1e-12)
    # Means and second moments are kept.
    for index in range(len(sizes)):
        at_nodes = found.values[:, index]
        np.testing.assert_allclose(
            direct @ at_nodes, spent @ covariates[:, index], rtol=0, atol=1e3 * limit
        )
        if sizes[index] > 2:
            np.testing.assert_allclose(
                direct @ at_nodes**2, spent @ covariates[:, index] ** 2, rtol=0, atol=1e4 * limit
            )


def test_grids_of_several_covariates() -> None:
    found = some_axes((2, 3))
    assert found.size == 6
    first, second = (axis.values for axis in found.axes)
    expected = [(one, two) for one in first for two in second]
    np.testing.assert_array_equal(found.values, expected)
    assert found.axes[0].low < first[0] < first[-1] < found.axes[0].high
    group, values = node_grid(2, found)
    np.testing.assert_array_equal(group, [0] * 6 + [1] * 6)
    np.testing.assert_array_equal(values, expected * 2)
    # A patient whose values are those of a node counts in its pattern.
    place = found.projection(np.array([[first[1], second[0]]]))
    np.testing.assert_allclose(place, [[0, 0, 0, 1, 0, 0]], atol=1e-14)
    # Rounding does not take values out of the range.
    assert found.axes[0].scaled(np.array([3.0 + 1e-13, -1.0 - 1e-13])).tolist() == [1.0, -1.0]


# Bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("swing", [0.1, 0.5, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0])
@pytest.mark.parametrize("count", [4, 8, 12, 18, 25, 40])
def test_the_bound_of_exponentials(count: int, swing: float) -> None:
    """It holds for every patient, and at the end of the range half of it is reached.

    There every polynomial that is cut off adds its coefficient at least once, and the bound counts
    it twice, for its alias.
    """
    weights = interpolation(DENSE, count)
    for sign in (1.0, -1.0):
        exact = np.exp(sign * swing * DENSE)
        error = np.abs(weights @ np.exp(sign * swing * nodes(count)) - exact)
        bound, rounded = exponential_error(count, swing), rounding(count, swing)
        # Sums of hazards, relative to them, are within the largest of the patients' errors.
        assert (error / exact).max() <= bound + rounded
        assert error.max() / exact.min() <= bound + rounded * math.exp(2.0 * swing)
        if swing <= count and bound > 1e3 * rounded:
            at_end = error[np.abs(DENSE) == 1.0].max() / exact.min()
            assert at_end >= bound / 2.0 * (1 - 1e-2)


def test_the_bound_of_rounding_is_needed() -> None:
    """Of small hazard ratios nothing is cut off, and what is left is rounding."""
    weights = interpolation(DENSE, 25)
    error = np.abs(weights @ np.exp(nodes(25)) / np.exp(DENSE) - 1.0).max()
    assert exponential_error(25, 1.0) < error <= rounding(25, 1.0) < 100.0 * error
    one = compress(["age"], np.array([20.0]), np.array([80.0]), np.array([12.0]))
    assert one.hazard_error([1.0]) >= error
    # Nothing is lost between small errors and 1.
    assert one.hazard_error([0.0]) == pytest.approx(rounding(25, 0.0), rel=1e-12)
    assert one.hazard_error([400.0]) == math.inf
    assert one.hazard_error([290.0]) > 1e100


def survival_errors(count: int, swing: float) -> float:
    """Largest error of survival over hazards from almost none to very many."""
    weights = interpolation(DENSE, count)
    hazards = np.exp(np.linspace(-swing - 8.0, swing + 8.0, 250))
    at_nodes = np.exp(-hazards[:, None] * np.exp(swing * nodes(count)))
    exact = np.exp(-hazards[:, None] * np.exp(swing * DENSE))
    return float(np.abs(at_nodes @ weights.T - exact).max())


@pytest.mark.parametrize("swing", [0.3, 1.0, 2.0, 3.0, 4.5, 6.0])
@pytest.mark.parametrize("count", [5, 10, 25, 40])
def test_the_bound_of_survival(count: int, swing: float) -> None:
    error, bound = survival_errors(count, swing), double_exponential_error(count, swing)
    rounded = rounding(count, 0.0)
    assert error <= bound + rounded
    # Within two orders of what is reached, where that is more than rounding.
    if bound > 1e3 * rounded:
        assert bound < 100.0 * error


@settings(max_examples=150)
@given(
    st.integers(5, 40),
    st.tuples(*[st.floats(-4.0, 4.0)] * 3),
    st.tuples(*[st.floats(-8.0, 8.0)] * 3),
)
def test_the_bound_of_courses(
    count: int, slopes: tuple[float, ...], logs: tuple[float, ...]
) -> None:
    """Death after a relapse or without one, in closed form for constant hazards."""
    swing = max(abs(slope) for slope in slopes)

    def alive(x: Floats) -> tuple[Floats, Floats]:
        relapse, die, later = (
            np.exp(log + slope * x) for log, slope in zip(logs, slopes, strict=True)
        )
        # exp(-later) (1 - exp(-gap)) / gap, of either sign of the gap.
        gap = relapse + die - later
        least = np.minimum(relapse + die, later)
        size = np.abs(gap)
        share = np.where(size > 1e-12, -np.expm1(-size) / np.where(size > 0, size, 1.0), 1.0)
        remission = np.exp(-relapse - die)
        return remission, remission + relapse * np.exp(-least) * share

    weights = interpolation(DENSE, count)
    for courses, at_nodes, exact in zip(
        (False, True), alive(nodes(count)), alive(DENSE), strict=True
    ):
        error = np.abs(weights @ at_nodes - exact).max()
        bound = double_exponential_error(count, swing, courses=courses)
        assert error <= bound + 4.0 * rounding(count, 0.0) * lebesgue_constant(count)


def test_survival_in_courses_is_wider() -> None:
    assert double_exponential_error(25, 0.0) == 0.0
    for swing in (1.0, 3.0):
        plain = double_exponential_error(25, swing)
        assert plain < double_exponential_error(25, swing, courses=True)
    one = some_axes((25, 25))
    assert one.survival_error([1.0, 3.0]) < one.survival_error([1.0, 3.0], courses=True)
    # A probability is never off by more than 1.
    assert one.survival_error([60.0, 60.0]) == 1.0


@st.composite
def patients_and_hazards(draw: st.DrawFn) -> tuple[Compression, Floats, Floats, Floats]:
    """Axes, covariates, person-time and log hazard ratios per unit."""
    axes = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 50))
    # Some in the middle, some at an end: there the errors are largest.
    columns = [
        draw(st.sampled_from(["uniform", "normal", "low", "high", "two"])) for _ in range(axes)
    ]
    made = {
        "uniform": random.uniform(-1, 1, size),
        "normal": np.clip(random.normal(0, 0.25, size), -1, 1),
        "low": np.full(size, -1.0),
        "high": 1.0 - random.exponential(0.02, size).clip(0, 2),
        "two": random.choice([-1.0, 1.0], size),
    }
    covariates = np.stack([made[one] for one in columns], axis=1)
    found = Compression(
        axes=tuple(
            Axis(name=f"x{index}", low=-1.0, high=1.0, nodes=draw(st.integers(4, 9)), swing=1.0)
            for index in range(axes)
        )
    )
    slopes = np.array([draw(st.floats(-3.0, 3.0)) for _ in range(axes)])
    return found, covariates, random.exponential(size=size), slopes


@given(patients_and_hazards())
def test_bounds_hold_for_sums_over_patients(
    case: tuple[Compression, Floats, Floats, Floats],
) -> None:
    found, covariates, spent, slopes = case
    weights = spent @ found.projection(covariates)
    limits = [abs(float(slope)) for slope in slopes]
    hazard = float(spent @ np.exp(covariates @ slopes))
    at_nodes = np.exp(found.values @ slopes)
    assert abs(float(weights @ at_nodes) - hazard) <= found.hazard_error(limits) * hazard
    share, own = weights / spent.sum(), spent / spent.sum()
    for passed in (0.01, 0.3, 1.0, 8.0):
        alive = float(own @ np.exp(-passed * np.exp(covariates @ slopes)))
        averaged = float(share @ np.exp(-passed * at_nodes))
        assert abs(averaged - alive) <= found.survival_error(limits)
        # As curves average: within 0 and 1, and no further off.
        (curve,) = average_survival(np.array([[passed]]), at_nodes[None], share)[0]
        assert 0.0 <= curve <= 1.0
        assert abs(curve - alive) <= found.survival_error(limits)


@given(patients_and_hazards(), st.floats(0.05, 0.95))
def test_quantiles_of_compressed_patients(
    case: tuple[Compression, Floats, Floats, Floats], level: float
) -> None:
    """At the time found the patients' own average survival is the level, within the bound."""
    few, covariates, spent, slopes = case
    slopes = slopes / len(slopes)
    # As many nodes as are chosen.
    found = Compression(axes=tuple(replace(axis, nodes=25) for axis in few.axes[:2]))
    covariates, slopes = covariates[:, :2], slopes[:2]
    share = spent @ found.projection(covariates) / spent.sum()
    at_nodes = np.exp(found.values @ slopes)
    (passed,) = hazard_at_survival(at_nodes[None], share, survival=level)
    alive = float(spent @ np.exp(-passed * np.exp(covariates @ slopes)) / spent.sum())
    bound = found.survival_error([abs(float(slope)) for slope in slopes])
    assert alive == pytest.approx(level, abs=bound + 1e-12)


def test_one_in_a_thousand_patients_weighs_less_than_nothing() -> None:
    """The case in which quantiles were once lost: weights of nodes below 0."""
    one = some_axes((25,))
    share = one.projection(np.array([[0.2], [1.7]])).mean(axis=0)
    assert (share < 0).any()
    (passed,) = hazard_at_survival(np.exp(0.5 * one.values.T), share, survival=0.5)
    alive = np.exp(-passed * np.exp(0.5 * np.array([0.2, 1.7]))).mean()
    assert alive == pytest.approx(0.5, abs=one.survival_error([1.0]) + 1e-12)


# Plans --------------------------------------------------------------------------------------------

ONE: tuple[Any, ...] = (["age"], np.array([20.0]), np.array([80.0]), np.array([12.0]))


def test_nodes_are_as_few_as_the_tolerance_allows() -> None:
    for half, sd in ((1.0, 1.0), (4.0, 1.0), (5.0, 1.0), (30.0, 2.5)):
        (axis,) = compress(["x"], np.array([0.0]), np.array([2 * half]), np.array([sd])).axes
        assert axis.swing == max(6.0, 1.5 * half / sd)
        assert exponential_error(axis.nodes, axis.swing) <= 1e-9
        assert exponential_error(axis.nodes - 1, axis.swing) > 1e-9
        assert (axis.low, axis.high) == (0.0, 2 * half)
    # Several share the tolerance, and products of 1 + error stay within it: for some ranges that
    # takes a node more.
    more = 0
    for half in np.linspace(4.0, 9.0, 30):
        two = compress(["x", "y"], np.zeros(2), np.full(2, 2 * half), np.ones(2))
        (one,) = compress(["x"], np.zeros(1), np.full(1, 2 * half), np.ones(1)).axes
        for axis in two.axes:
            assert exponential_error(axis.nodes, axis.swing) <= 0.5e-9
            assert exponential_error(axis.nodes - 1, axis.swing) > 0.5e-9
        more += two.axes[0].nodes > one.nodes
    assert more > 0


@pytest.mark.parametrize(
    ("patterns", "groups", "always", "expected"),
    [
        (999, 1, False, False),  # few
        (1000, 1, False, True),
        (1000, 20, False, True),  # 25 nodes x 20 groups: exactly half
        (1000, 21, False, False),  # more than half
        (5, 1, True, True),
        (5, 21, True, True),
    ],
)
def test_when_covariates_are_compressed(
    patterns: int, groups: int, always: bool, expected: bool
) -> None:
    found = plan(*ONE, patterns=patterns, groups=groups, always=always)
    assert (found is not None) == expected
    assert found in (None, compress(*ONE))
    empty = np.zeros(0)
    assert plan([], empty, empty, empty, patterns=10**6, groups=1, always=True) is None


def test_numbers_of_patterns() -> None:
    assert number_of_patterns(6, [], 200) == 6
    assert number_of_patterns(6, [50, 7], 10**9) == 6 * 50 * 7
    assert number_of_patterns(6, [50, 7], 1000) == 1000
    # Counted up to so many different values.
    assert number_of_patterns(1, [10**8], 10**9) == compression.DIFFERENT


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.builds(
            Axis,
            name=st.text(),
            low=finite,
            high=finite,
            nodes=st.integers(2, 500),
            swing=finite,
        ),
        max_size=3,
    )
)
def test_json_gives_back_the_same(axes: list[Axis]) -> None:
    found = Compression(axes=tuple(axes))
    text = found.to_json()
    assert Compression.from_json(text) == (found if axes else None)
    assert len(json.loads(text)) == len(axes)
