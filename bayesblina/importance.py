"""Draws from a density by importance sampling: proposals, Pareto-smoothed weights, resampling."""

from __future__ import annotations

from math import lgamma, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Coordinates that are drawn from a low-discrepancy sequence; the others are pseudo-random.
MOST_SOBOL = 64
# Tails of fewer draws are not smoothed.
SMALLEST_TAIL = 5


def student_proposals(
    count: int, dimension: int, *, degrees: float, seed: int | tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Draw from a multivariate Student t distribution by a scrambled Sobol sequence.

    Parameters
    ----------
    count
        Number of draws; a power of 2 fills the space most evenly.
    dimension
        Number of coordinates.
    degrees
        Degrees of freedom.
    seed
        Seed of the scrambling.

    Returns
    -------
    draws : ndarray, shape (count, dimension)
        With location 0 and unit scale.
    log_density : ndarray, shape (count,)
        Log densities.

    Examples
    --------
    >>> draws, log_density = student_proposals(1024, 2, degrees=6.0, seed=1)
    >>> bool(np.abs(draws.mean(axis=0)).max() < 0.01)
    True
    """
    from scipy.stats import qmc

    generator = np.random.default_rng(seed)
    even = min(dimension + 1, MOST_SOBOL)
    points = np.empty((count, dimension + 1))
    bits = max(count - 1, 1).bit_length()
    points[:, :even] = qmc.Sobol(even, rng=generator).random_base2(bits)[:count]
    points[:, even:] = generator.random((count, dimension + 1 - even))
    points = np.clip(points, 1e-12, 1.0 - 1e-12)
    chi_squared = 2.0 * gammaincinv(degrees / 2.0, points[:, 0])
    draws = ndtri(points[:, 1:]) * np.sqrt(degrees / chi_squared)[:, None]
    constant = lgamma((degrees + dimension) / 2.0) - lgamma(degrees / 2.0)
    constant -= dimension / 2.0 * log(degrees * pi)
    square = np.einsum("nd,nd->n", draws, draws)
    log_density = constant - (degrees + dimension) / 2.0 * np.log1p(square / degrees)
    return draws, log_density


def pareto_smoothed(log_weights: Floats) -> tuple[Floats, float]:
    """Smooth the largest importance weights, and say how far they can be relied on.

    Parameters
    ----------
    log_weights : ndarray, shape (draw,)
        Logarithms of importance weights, up to a constant; minus infinity for none.

    Returns
    -------
    weights : ndarray, shape (draw,)
        Weights that sum to 1.
    pareto_k
        Shape of the tail: below 0.5 means have finite variance, above 0.7 they cannot be relied on.

    Notes
    -----
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Journal of Machine Learning Research 25 (72).

    Examples
    --------
    >>> weights, pareto_k = pareto_smoothed(np.random.default_rng(1).normal(size=4000))
    >>> bool(abs(weights.sum() - 1.0) < 1e-12), pareto_k < 0.5
    (True, True)
    """
    values = log_weights - log_weights.max()
    size = values.size
    tail = int(min(0.2 * size, 3.0 * sqrt(size)))
    order = np.argsort(values, kind="stable")[-tail - 1 :]
    cutoff = max(float(values[order[0]]), log(np.finfo(np.float64).tiny))
    order = order[values[order] > cutoff]
    pareto_k = float("inf")
    if order.size >= SMALLEST_TAIL:
        excess = np.exp(values[order]) - np.exp(cutoff)
        pareto_k, scale = fit_pareto(excess)
        if np.isfinite(pareto_k):
            place = (np.arange(order.size) + 0.5) / order.size
            spread = -np.log1p(-place)
            if abs(pareto_k) > 1e-12:
                spread = np.expm1(pareto_k * spread) / pareto_k
            values[order] = np.minimum(np.log(scale * spread + np.exp(cutoff)), 0.0)
    weights = np.exp(values)
    return weights / weights.sum(), pareto_k


def fit_pareto(excess: Floats) -> tuple[float, float]:
    """Fit a generalised Pareto distribution to what exceeds a threshold.

    Parameters
    ----------
    excess : ndarray, shape (n,)
        Excesses, rising and greater than 0.

    Returns
    -------
    shape, scale : float
        Its parameters, the shape drawn slightly towards 0.5.

    Notes
    -----
    Zhang and Stephens (2009), doi:10.1198/tech.2009.08017.

    Examples
    --------
    >>> place = (np.arange(2000) + 0.5) / 2000
    >>> shape, scale = fit_pareto((1.0 - place) ** -0.5 - 1.0)
    >>> round(shape, 1), round(scale, 1)
    (0.5, 0.5)
    """
    size = excess.size
    grid = 30 + int(sqrt(size))
    rate = 1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    rate /= 3.0 * excess[int(size / 4 + 0.5) - 1]
    rate += 1.0 / excess[-1]
    shape = np.log1p(-rate[:, None] * excess).mean(axis=1)
    likelihood = size * (np.log(-rate / shape) - shape - 1.0)
    weight = np.exp(likelihood - likelihood.max())
    mean = float(rate @ weight / weight.sum())
    found = float(np.log1p(-mean * excess).mean())
    scale = -found / mean
    return (size * found + 5.0) / (size + 10.0), scale


def resample(weights: Floats, count: int, *, key: Floats, rng: np.random.Generator) -> Ints:
    """Turn weighted draws into equally weighted ones by systematic resampling.

    Parameters
    ----------
    weights : ndarray, shape (draw,)
        Weights that sum to 1.
    count
        Number of draws wanted.
    key : ndarray, shape (draw,)
        What the draws are lined up by: its quantiles keep their shares almost exactly.
    rng
        Generator.

    Returns
    -------
    ndarray of int, shape (count,)
        Positions of the draws taken, in random order.

    Examples
    --------
    >>> taken = resample(
    ...     np.array([0.25, 0.75]), 4, key=np.array([0.0, 1.0]), rng=np.random.default_rng(1)
    ... )
    >>> sorted(taken.tolist())
    [0, 1, 1, 1]
    """
    order = np.argsort(key, kind="stable")
    passed = np.cumsum(weights[order])
    places = (np.arange(count) + rng.random()) / count * passed[-1]
    taken = order[np.minimum(np.searchsorted(passed, places, side="right"), order.size - 1)]
    return np.asarray(rng.permutation(taken), dtype=np.int64)
