"""Draws from densities by importance sampling, and by Hamiltonian Monte Carlo."""

from __future__ import annotations

from collections.abc import Callable
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
# Log densities, (chain,), and their gradients, (chain, coordinate), of (chain, coordinate).
Density = Callable[[Floats], tuple[Floats, Floats]]
ACCEPT = 0.8
# Length of a path in units in which the density has sds of about 1.
PATH = 1.6
MOST_STEPS = 40


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
    sequence = qmc.Sobol(even, rng=generator).random_base2(max(count - 1, 1).bit_length())
    points[:, :even] = sequence[:count]
    points[:, even:] = generator.random((count, dimension + 1 - even))
    points = np.clip(points, 1e-12, 1.0 - 1e-12)
    chi_squared = 2.0 * gammaincinv(degrees / 2.0, points[:, 0])
    draws = ndtri(points[:, 1:]) * np.sqrt(degrees / chi_squared)[:, None]
    half = (degrees + dimension) / 2.0
    constant = lgamma(half) - lgamma(degrees / 2.0) - dimension / 2.0 * log(degrees * pi)
    square = np.einsum("nd,nd->n", draws, draws)
    return draws, constant - half * np.log1p(square / degrees)


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
    return np.minimum(np.ceil(np.minimum(0.2 * size, root)).astype(np.int64), size - 1)


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
    marks = (np.arange(count) + rng.random()) / count * passed[-1]
    taken = order[np.minimum(np.searchsorted(passed, marks, side="right"), order.size - 1)]
    return np.asarray(rng.permutation(taken), dtype=np.int64)


def hamiltonian(
    density: Density, start: Floats, *, draws: int, warm_up: int, seed: int | tuple[int, ...]
) -> Floats:
    """Draw from a density in coordinates whose sds are about 1.

    `density`: gives log densities and gradients of many points at once.
    `start`, shape (chain, coordinate): where chains start.
    `draws`, `warm_up`: draws kept and not kept, per chain. The size of steps, which all chains
    share, is set in the warm-up.
    Result, shape (chain, draw, coordinate): the draws.

    Neal (2011), doi:10.1201/b10905-6; numbers of steps are random, so that no path is periodic.
    """
    rng = np.random.default_rng(seed)
    point = start.copy()
    value, gradient = density(point)
    kept = np.empty((start.shape[0], draws, start.shape[1]))
    log_step = settled = np.log(0.5)
    for index in range(warm_up + draws):
        step = float(np.exp(log_step if index < warm_up else settled))
        most = min(MOST_STEPS, max(1, int(np.ceil(PATH / step))))
        count = int(rng.integers((most + 1) // 2, most + 1))
        momentum = rng.normal(size=point.shape)
        new, force, moved = point, gradient, momentum
        for _ in range(count):
            moved = moved + 0.5 * step * force
            new = new + step * moved
            new_value, force = density(new)
            moved = moved + 0.5 * step * force
        energy = new_value - 0.5 * (moved**2).sum(axis=1)
        energy -= value - 0.5 * (momentum**2).sum(axis=1)
        energy = np.where(np.isfinite(energy), energy, -np.inf)
        accepted = np.log(rng.random(point.shape[0])) < energy
        point = np.where(accepted[:, None], new, point)
        gradient = np.where(accepted[:, None], force, gradient)
        value = np.where(accepted, new_value, value)
        if index < warm_up:
            rate = float(np.minimum(1.0, np.exp(np.minimum(energy, 0.0))).mean())
            log_step += (rate - ACCEPT) / np.sqrt(1.0 + index / 5.0)
            settled += (log_step - settled) / np.sqrt(1.0 + index)
        else:
            kept[:, index - warm_up] = point
    return kept
