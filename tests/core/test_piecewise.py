"""Piecewise-constant hazards, by hand and against quadrature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesblina.core.piecewise import PiecewiseHazard

# Hazard 0.02 to time 3, none to 12, 0.03 from then on.
ONE = PiecewiseHazard(starts=np.array([0.0, 3.0, 12.0]), rates=np.array([[0.02, 0.0, 0.03]]))


def test_cumulative_hazards_by_hand() -> None:
    times = np.array([0.0, 1.0, 3.0, 5.0, 12.0, 13.0])
    np.testing.assert_allclose(ONE.cumulative(times)[0], [0, 0.02, 0.06, 0.06, 0.06, 0.09])
    assert ONE.rate(np.array([3.0, 3.1, 12.0, 99.0]))[0].tolist() == [0.02, 0.0, 0.0, 0.03]


def test_times_of_levels_by_hand() -> None:
    # A level that is kept for a while is reached when it is first.
    levels = np.array([[0.0, 0.02], [0.06, 0.09]])
    np.testing.assert_allclose(ONE.inverse(levels), [[0.0, 1.0], [3.0, 13.0]])


def test_no_hazard_for_ever() -> None:
    ends = PiecewiseHazard(starts=np.array([0.0, 3.0]), rates=np.array([[0.1, 0.0]]))
    assert ends.inverse(np.array([0.4]))[0] == math.inf
    assert ends.inverse(np.array([0.3]))[0] == pytest.approx(3.0)
    assert ends.cumulative(np.array([math.inf]))[0, 0] == pytest.approx(0.3)
    assert ONE.cumulative(np.array([math.inf]))[0, 0] == math.inf


def test_rows_are_their_own() -> None:
    two = PiecewiseHazard(starts=np.array([1.0, 2.0]), rates=np.array([[0.1, 0.2], [1.0, 0.0]]))
    np.testing.assert_allclose(two.cumulative_of_each(np.array([4.0, 1.5])), [0.5, 0.5])
    np.testing.assert_allclose(two.inverse(np.array([0.5, 0.5])), [4.0, 1.5])
    np.testing.assert_array_equal(two.inverse(np.array([0.1, 1.1])), [2.0, math.inf])


@given(
    widths=st.lists(st.floats(0.1, 5), min_size=1, max_size=5),
    rates=st.lists(st.just(0.0) | st.floats(1e-3, 2.0), min_size=6, max_size=6),
    time=st.floats(0, 30),
)
def test_the_inverse_is_the_earliest_time(
    widths: list[float], rates: list[float], time: float
) -> None:
    starts = np.concatenate([[0.0], np.cumsum(widths)])
    hazard = PiecewiseHazard(starts=starts, rates=np.array([rates[: starts.size]]))
    level = hazard.cumulative(np.array([time]))[0]
    (found,) = hazard.inverse(level)
    assert found <= time * (1 + 1e-9)
    np.testing.assert_allclose(hazard.cumulative(np.array([found]))[0], level, rtol=1e-9)
