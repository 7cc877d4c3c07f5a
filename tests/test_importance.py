"""Importance weights against ArviZ, and proposals against their densities."""

import importlib
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_t

from bayesblina.hamiltonian import hamiltonian
from bayesblina.importance import pareto_smoothed, resample, student_proposals


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5])
def test_smoothing_is_arviz(spread: float) -> None:
    importlib.import_module("arviz_stats")
    log_weights = spread * np.random.default_rng(1).normal(size=4000)
    array: Any = xr.DataArray(-log_weights[None, :, None], dims=("chain", "draw", "one")).azstats
    expected, shape = array.psislw(dim=["chain", "draw"], r_eff=1.0)
    weights, pareto_k = pareto_smoothed(log_weights)
    assert pareto_k == pytest.approx(float(shape.values[0]), abs=1e-9)
    np.testing.assert_allclose(weights, np.exp(expected.values.ravel()), rtol=1e-8)


def test_proposals_have_their_density() -> None:
    draws, log_density = student_proposals(4096, 3, degrees=6.0, seed=2)
    expected = multivariate_t(np.zeros(3), np.eye(3), df=6).logpdf(draws)
    np.testing.assert_allclose(log_density, expected, rtol=1e-10)
    # A t distribution with 6 degrees of freedom has variance 1.5.
    np.testing.assert_allclose(np.cov(draws.T), 1.5 * np.eye(3), atol=0.06)


def test_resampling_keeps_the_weighted_mean() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=5000)
    weights = np.exp(0.5 * values)
    weights /= weights.sum()
    taken = resample(weights, 5000, key=values, rng=rng)
    # Systematic resampling: shares between any two quantiles are off by one draw.
    assert abs(values[taken].mean() - values @ weights) < 5.0 / 5000 * np.ptp(values)
    assert np.bincount(taken, minlength=5000).max() <= np.ceil(5000 * weights.max()) + 1


def test_chains_draw_from_a_skewed_density() -> None:
    # A gamma distribution of shape 3 on the log scale: mean of the value 3, of its log 0.9228.
    found = hamiltonian(
        lambda x: ((3.0 * x - np.exp(x)).sum(axis=1), 3.0 - np.exp(x)),
        np.full((200, 1), 1.0),
        draws=100,
        warm_up=100,
        seed=4,
    )
    assert found.shape == (200, 100, 1)
    assert np.exp(found).mean() == pytest.approx(3.0, abs=0.1)
    assert found.mean() == pytest.approx(0.92278, abs=0.03)
