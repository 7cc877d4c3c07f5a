"""Importance weights against ArviZ, and proposals against their densities."""

import importlib
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import logsumexp, ndtri
from scipy.stats import multivariate_t

from bayesblina.checks.pointwise import efficiencies, smoothed
from bayesblina.inference.monte_carlo import (
    pareto_smoothed,
    resample,
    smooth_tails,
    student_proposals,
)


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5])
def test_smoothing_is_arviz(spread: float) -> None:
    importlib.import_module("arviz_stats")
    # So many draws that the length of the tail is a whole number: ArviZ rounds down, R up.
    log_weights = spread * np.random.default_rng(1).normal(size=2500)
    array: Any = xr.DataArray(-log_weights[None, :, None], dims=("chain", "draw", "one")).azstats
    expected, shape = array.psislw(dim=["chain", "draw"], r_eff=1.0)
    weights, pareto_k = pareto_smoothed(log_weights)
    assert pareto_k == pytest.approx(float(shape.values[0]), abs=1e-9)
    np.testing.assert_allclose(weights, np.exp(expected.values.ravel()), rtol=1e-8)


# Rscript tests/data/loo.R: a matrix that is written down by a formula. Efficiencies of the
# likelihoods, Pareto k and leave-one-out log densities with them, and as if draws were independent.
R_EFFICIENCY = [1.048336747, 0.783778174, 0.358861648, 0.167010004]

R_EFFICIENCY += [0.939037916, 0.945242838, 0.514308882, 0.148325026]

R_K = [0.460167731, 0.361856162, 0.296788664, 0.329291362]

R_K += [0.669762415, 0.633090205, 1.236601778, 1.182003298]

R_ELPD = [-0.135245508, -0.251165200, -0.313929238, -0.318362032]

R_ELPD += [-0.727465981, -0.706174164, -1.828716442, -1.926182786]

R_K_INDEPENDENT = [0.413102939, 0.342480371, 0.310785261, 0.218979208]

R_K_INDEPENDENT += [0.662958126, 0.608884850, 1.284458926, 1.496197659]

R_ELPD_INDEPENDENT = [-0.135241663, -0.251209154, -0.313670683, -0.318801244]

R_ELPD_INDEPENDENT += [-0.727507255, -0.704224739, -1.841134884, -2.020402466]


def log_likelihoods_in_r() -> NDArray[np.float64]:
    """The matrix of tests/data/loo.R, (chain, draw, patient)."""
    found = np.empty((4, 250, 8))
    number = np.arange(1, 1001)
    for index in range(8):
        part = np.sin(12.9898 * number + 78.233 * (index + 1)) * 43758.5453
        normal = ndtri(part - np.floor(part)).reshape(4, 250)
        rho = [0.0, 0.3, 0.6, 0.9][index % 4]
        draws = lfilter([np.sqrt(1 - rho**2)], [1.0, -rho], normal, axis=1)
        found[:, :, index] = -(0.05 + 0.07 * (index + 1)) * draws**2
    return found


@pytest.mark.parametrize("known", [True, False])
def test_pareto_k_is_that_of_loo_in_r(known: bool) -> None:
    values = log_likelihoods_in_r()
    flat = values.reshape(-1, 8).T
    efficiency = np.array(R_EFFICIENCY) if known else np.ones(8)
    log_weights, pareto_k = smooth_tails(-flat, efficiency=efficiency)
    elpd = logsumexp(log_weights + flat, axis=1)
    # Sines of large numbers times 4e4: the matrices agree to about 1e-10, and R prints 9 digits.
    np.testing.assert_allclose(pareto_k, R_K if known else R_K_INDEPENDENT, atol=1e-6)
    np.testing.assert_allclose(elpd, R_ELPD if known else R_ELPD_INDEPENDENT, atol=1e-6)


def test_pareto_k_of_patients_is_that_of_loo_in_r() -> None:
    values = log_likelihoods_in_r()
    np.testing.assert_allclose(efficiencies(values), R_EFFICIENCY, rtol=1e-6)
    log_weights, pareto_k = smoothed(values)
    np.testing.assert_allclose(pareto_k, R_K, atol=1e-6)
    elpd = logsumexp(log_weights + values.reshape(-1, 8).T, axis=1)
    np.testing.assert_allclose(elpd, R_ELPD, atol=1e-6)
    # Where draws of a patient's likelihood are inefficient, taking them for independent is not it.
    assert abs(R_K[3] - R_K_INDEPENDENT[3]) > 0.1
    # Some draws alone have no efficiency that could be told.
    assert efficiencies(values[:, :3]).tolist() == [1.0] * 8
    # One chain, as R has it.
    one = [0.994986749, 0.788007231, 0.556164690, 0.233395024]
    one += [1.045133949, 0.993348317, 0.448887760, 0.148781346]
    np.testing.assert_allclose(efficiencies(values[:1]), one, rtol=1e-6)


def test_rows_are_smoothed_as_each_alone() -> None:
    values = 0.8 * np.random.default_rng(2).standard_t(3, size=(6, 1000))
    efficiency = np.linspace(0.2, 1.5, 6)
    log_weights, pareto_k = smooth_tails(values, efficiency=efficiency)
    for row in range(6):
        alone, shape = smooth_tails(values[[row]], efficiency=efficiency[row])
        np.testing.assert_allclose(log_weights[row], alone[0], rtol=1e-12)
        assert pareto_k[row] == pytest.approx(float(shape[0]), rel=1e-12)


def test_weights_without_a_tail() -> None:
    equal = np.full((1, 100), 3.0)
    log_weights, pareto_k = smooth_tails(equal)
    np.testing.assert_allclose(log_weights, -np.log(100.0), rtol=1e-12)
    assert pareto_k[0] == 0.0
    # One draw has all the weight; the others none.
    alone = np.full((1, 100), -np.inf)
    alone[0, 7] = 0.0
    log_weights, pareto_k = smooth_tails(alone)
    assert np.exp(log_weights[0, 7]) == pytest.approx(1.0)
    assert pareto_k[0] == np.inf


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
