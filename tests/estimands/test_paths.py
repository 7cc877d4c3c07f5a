"""Averages along paths against quadrature."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.estimands.paths import (
    average_relative,
    average_survival,
    hazard_at_survival,
    restricted_mean,
)

Case = tuple[PiecewiseHazard, float, np.ndarray, np.ndarray]


@st.composite
def averages(draw: st.DrawFn) -> Case:
    """A path that may have hazards of 0, where to end, and patterns of patients."""
    pieces = draw(st.integers(1, 5))
    widths = draw(st.lists(st.floats(0.1, 5), min_size=pieces, max_size=pieces))
    rates = draw(st.lists(st.just(0.0) | st.floats(1e-4, 2.0), min_size=pieces, max_size=pieces))
    begin = draw(st.floats(0, 10))
    patterns = draw(st.integers(1, 4))
    relative = draw(st.lists(st.floats(0.05, 20.0), min_size=patterns, max_size=patterns))
    weight = np.array(draw(st.lists(st.integers(1, 9), min_size=patterns, max_size=patterns)))
    *starts, end = begin + np.concatenate([[0.0], np.cumsum(widths)])
    path = PiecewiseHazard(starts=np.array(starts), rates=np.array([rates]))
    return path, float(end), np.array([relative]), weight / weight.sum()


@settings(max_examples=300, deadline=None)
@given(case=averages(), share=st.floats(0.05, 1.0))
def test_restricted_mean_equals_quadrature(case: Case, share: float) -> None:
    path, end, relative, weight = case
    begin = path.starts[0]
    horizon = begin + share * (end - begin)
    got = restricted_mean(path, relative, weight, horizon=horizon)[0]

    def survives(t: float) -> float:
        return float(average_survival(path.cumulative(np.array([t])), relative, weight)[0, 0])

    edges = [begin, *(k for k in path.starts[1:] if k < horizon), horizon]
    expected = sum(quad(survives, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in pairwise(edges))
    assert got == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=300, deadline=None)
@given(case=averages(), level=st.floats(0.02, 0.98))
def test_quantile_is_where_survival_first_falls_to_the_level(case: Case, level: float) -> None:
    path, horizon, relative, weight = case

    def survives(t: float) -> float:
        return float(average_survival(path.cumulative(np.array([t])), relative, weight)[0, 0])

    needed = hazard_at_survival(relative, weight, survival=level)
    (time,) = path.inverse(needed)
    if time > horizon:
        assert survives(horizon) > level * (1 - 1e-10)
        return
    assert survives(time) == pytest.approx(level, rel=1e-10)
    earlier = path.starts[0] + (time - path.starts[0]) * (1 - 1e-6)
    assert survives(earlier) >= level * (1 - 1e-10)


@settings(max_examples=200, deadline=None)
@given(case=averages(), share=st.floats(0.05, 0.95))
def test_marginal_hazard_is_the_slope_of_the_curve(case: Case, share: float) -> None:
    path, end, relative, weight = case
    time = path.starts[0] + share * (end - path.starts[0])
    cumulative = path.cumulative(np.array([time]))
    got = (path.rate(np.array([time])) * average_relative(cumulative, relative, weight))[0, 0]
    alive = np.exp(-cumulative[0, 0] * relative[0])
    expected = path.rate(np.array([time]))[0, 0] * (weight * relative[0] * alive).sum()
    assert got == pytest.approx(expected / (weight * alive).sum(), rel=1e-9)
