"""Draws from a density by importance sampling: proposals, Pareto-smoothed weights, resampling."""

from __future__ import annotations

from math import lgamma, log, pi, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaincinv, logsumexp, ndtri

from bayesblina.core.arrays import Floats, Ints

# Coordinates that are drawn from a low-discrepancy sequence; the others are pseudo-random.
MOST_SOBOL = 64
# Tails of fewer draws are not smoothed.
SMALLEST_TAIL = 5
# Numbers held at once while tails are fitted.
BLOCK = 4_000_000


def student_proposals(
    count: int, dimension: int, *, degrees: float, seed: int | tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Draw from a multivariate Student t distribution by a scrambled Sobol sequence.

    `count`: number of draws; a power of 2 fills the space most evenly.
    Result: `draws`, shape (count, dimension): with location 0 and unit scale.
    `log_density`, shape (count,): log densities.
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

    `log_weights`, shape (draw,): logarithms of importance weights of independent draws, up to a
    constant; minus infinity for none.
    Result: weights, shape (draw,), which sum to 1, and the shape of the tail, Pareto's k: below 0.5
    means have finite variance, above 0.7 they cannot be relied on.
    """
    log_smoothed, shapes = smooth_tails(log_weights[None])
    return np.exp(log_smoothed[0]), float(shapes[0])


def tail_length(size: int, efficiency: ArrayLike = 1.0) -> Ints:
    """Say how many of the largest weights are smoothed.

    `efficiency`: effective number of draws over their number.
    Result: a fifth of the draws at most, and 3 times the square root of the number over the
    efficiency.

    >>> tail_length(4000, [1.0, 0.25]).tolist()
    [190, 380]
    """
    root = 3.0 * np.sqrt(size / np.asarray(efficiency, dtype=np.float64))
    length = np.ceil(np.minimum(0.2 * size, root)).astype(np.int64)
    return np.minimum(length, size - 1)


def smooth_tails(log_weights: Floats, *, efficiency: ArrayLike = 1.0) -> tuple[Floats, Floats]:
    """Smooth the largest importance weights of each row.

    `log_weights`, shape (row, draw): logarithms of importance weights, up to a constant; minus
    infinity for none.
    `efficiency`, shape (row,): effective number of draws over their number, of what is weighed.
    Result: `log_weights`, shape (row, draw): logarithms of weights that sum to 1.
    `pareto_k`, shape (row,): shapes of the tails; 0 where all weights are equal, infinite where
    there is no tail.

    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Journal of Machine Learning Research 25 (72).
    """
    values = log_weights - log_weights.max(axis=1, keepdims=True)
    rows, size = values.shape
    tail = np.broadcast_to(tail_length(size, efficiency), rows)
    width = int(tail.max(initial=0)) + 1
    largest = np.argpartition(values, size - width, axis=1)[:, size - width :]
    rising = np.argsort(np.take_along_axis(values, largest, axis=1), axis=1, kind="stable")
    order = np.take_along_axis(largest, rising, axis=1)
    top = np.take_along_axis(values, order, axis=1)
    cutoff = top[np.arange(rows), width - 1 - tail]
    threshold = np.exp(np.maximum(cutoff, log(np.finfo(np.float64).tiny)))
    excess = np.maximum(np.exp(top) - threshold[:, None], 0.0)
    # Repeated draws may tie with the threshold and stay in the tail, as in R's loo; where they are
    # a quarter of it, the others alone are one.
    quartile = excess[np.arange(rows), width - tail + (tail / 4 + 0.5).astype(np.int64) - 1]
    used = np.where(quartile > 0, tail, (excess > 0).sum(axis=1))
    pareto_k = np.where(values.min(axis=1) == 0.0, 0.0, np.inf)
    for count in np.unique(used[used >= SMALLEST_TAIL]):
        mine = np.flatnonzero(used == count)
        shape, scale = fit_pareto(excess[mine, -count:])
        pareto_k[mine] = shape
        known = np.isfinite(shape)
        mine, shape, scale = mine[known], shape[known, None], scale[known, None]
        spread = -np.log1p(-(np.arange(count) + 0.5) / count)
        with np.errstate(invalid="ignore", divide="ignore"):
            curved = np.expm1(shape * spread) / shape
        quantile = scale * np.where(np.abs(shape) > 1e-12, curved, spread)
        values[mine[:, None], order[mine, -count:]] = np.minimum(
            np.log(quantile + threshold[mine, None]), 0.0
        )
    return values - logsumexp(values, axis=1, keepdims=True), pareto_k


def fit_pareto(excess: Floats) -> tuple[Floats, Floats]:
    """Fit a generalised Pareto distribution to what exceeds a threshold.

    `excess`, shape (row, n): excesses, rising; from the first quartile on greater than 0.
    Result: `shape`, `scale`, shape (row,): its parameters, the shape drawn slightly towards 0.5;
    infinite where it cannot be fitted.

    Zhang and Stephens (2009), doi:10.1198/tech.2009.08017.

    >>> place = (np.arange(2000) + 0.5) / 2000
    >>> shape, scale = fit_pareto(((1.0 - place) ** -0.5 - 1.0)[None])
    >>> round(float(shape[0]), 1), round(float(scale[0]), 1)
    (0.5, 0.5)
    """
    rows, size = excess.shape
    grid = 30 + int(sqrt(size))
    shape, scale = np.full(rows, np.inf), np.full(rows, np.nan)
    step = max(1, BLOCK // (grid * size))
    for begin in range(0, rows, step):
        some = excess[begin : begin + step]
        rate = 1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
        rate = rate / (3.0 * some[:, [int(size / 4 + 0.5) - 1]]) + 1.0 / some[:, -1:]
        each = np.log1p(-rate[:, :, None] * some[:, None, :]).mean(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            likelihood = size * (np.log(-rate / each) - each - 1.0)
            weight = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
            mean = (rate * weight).sum(axis=1) / weight.sum(axis=1)
            logs = np.log1p(-mean[:, None] * some).mean(axis=1)
            part = slice(begin, begin + step)
            scale[part] = -logs / mean
        drawn = (size * logs + 5.0) / (size + 10.0)
        shape[part] = np.where(np.isnan(drawn), np.inf, drawn)
    return shape, scale


def resample(weights: Floats, count: int, *, key: Floats, rng: np.random.Generator) -> Ints:
    """Turn weighted draws into equally weighted ones by systematic resampling.

    `weights`, shape (draw,): weights that sum to 1.
    `count`: number of draws wanted.
    `key`, shape (draw,): what the draws are lined up by: its quantiles keep their shares almost
    exactly.
    Result, shape (count,): positions of the draws taken, in random order.
    """
    order = np.argsort(key, kind="stable")
    passed = np.cumsum(weights[order])
    places = (np.arange(count) + rng.random()) / count * passed[-1]
    taken = order[np.minimum(np.searchsorted(passed, places, side="right"), order.size - 1)]
    return np.asarray(rng.permutation(taken), dtype=np.int64)
