"""Deterministic posteriors of the default and the models of curves; no code of the package.

Given the sd of a curve's prior (and a process's length scale) its log hazard is normal. These few
hyperparameters are integrated by quadrature, the log hazard ratio on a grid, and the log hazards by
Laplace's approximation in the form that needs no inverse of a prior covariance (Rasmussen and
Williams 2006, algorithm 3.1, ISBN 026218253X). Covariances are written down from the processes
themselves: sums of independent steps, double sums of independent bends, and Matern's covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from bayesblina.core.arrays import Floats

NORMAL_95 = 1.959963984540054
# The same quantile of a product of two independent standard normals.
PRODUCT_95 = 2.1819489839664663
LEVEL_SD = float(np.log(20.0) / NORMAL_95)
# Of the default, the only one without hyperparameters.
STEP_SD = float(np.log(20.0) / NORMAL_95)
SLOPE_SD = float(np.log(25.0) / NORMAL_95)
DOUBLING_SD = float(np.log(2.5) / NORMAL_95 / np.log(2.0))
# Scales of the half-normal priors of sds.
CHANGE = {
    "smooth": float(np.log(25.0) / PRODUCT_95),
    "weibull": float(np.log(5.0) / PRODUCT_95),
    "gaussian_process": float(np.log(10.0) / PRODUCT_95),
}
LENGTH_SCALE = (0.3, 1.5)
HALF_AN_EVENT = 0.5
# Variance of a bend of a walk of order 2, per unit of the clock: its end departs by one sd.
BEND = 3.0
SD_NODES, LENGTH_NODES = 10, 5
# The largest sd, in scales of its prior.
REACH = 4.0
MODELS = ("default", *CHANGE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurvePrior:
    """A mixture of normal priors of the log hazards.

    Attributes
    ----------
    mean
        Of each log hazard.
    covariance : ndarray, shape (node, interval, interval)
        One for each node of the hyperparameters.
    log_weight : ndarray, shape (node,)
        Log prior mass of the nodes, up to a constant.
    """

    mean: float
    covariance: Floats
    log_weight: Floats


def midpoints(cuts: Floats, last: float) -> Floats:
    """Midpoints of the intervals; the last ends with follow-up."""
    edges = np.concatenate([[0.0], cuts, [last]])
    if last <= edges[-2]:
        edges[-1] = 2.0 * edges[-2] - edges[-3]
    return np.asarray((edges[1:] + edges[:-1]) / 2.0)


def clock(cuts: Floats, last: float, events: Floats) -> Floats:
    """Where interval midpoints lie on a clock half time and half events, from the first on."""
    middle = midpoints(cuts, last)
    share = events / events.sum()
    passed = np.cumsum(share) - share / 2.0
    place = (middle / max(last, float(middle[-1])) + passed) / 2.0
    return np.asarray(place - place[0])


def _without(covariance: Floats, columns: Floats, weight: Floats) -> Floats:
    """Covariance of what is left of a process when some curves are fitted by weight and removed."""
    fit = np.linalg.solve(columns.T @ (weight[:, None] * columns), columns.T * weight)
    rest = np.eye(weight.size) - columns @ fit
    return np.asarray(rest @ covariance @ rest.T)


def _half_normal_nodes(scale: float) -> tuple[Floats, Floats]:
    """Sds and the log masses of a half-normal prior; dense near 0, where the sd hardly matters."""
    node, mass = np.polynomial.legendre.leggauss(SD_NODES)
    place = (node + 1.0) / 2.0
    sd = REACH * scale * place**2
    return sd, np.log(mass * place) - 0.5 * (sd / scale) ** 2


def _matern(distance: Floats, length: float) -> Floats:
    """Matern's correlation, three times differentiable in the mean: 5/2."""
    scaled = np.sqrt(5.0) * distance / length
    return np.asarray((1.0 + scaled + scaled**2 / 3.0) * np.exp(-scaled))


def curve_prior(
    model: str, cuts: Floats, last: float, events: Floats, person_time: float
) -> CurvePrior:
    """Write down a model's prior of the log hazards.

    Parameters
    ----------
    model
        ``"default"``, ``"smooth"``, ``"weibull"`` or ``"gaussian_process"``.
    cuts : ndarray, shape (interval - 1,)
        Cut points.
    last
        End of the longest follow-up.
    events : ndarray, shape (interval,)
        Events.
    person_time
        In all.
    """
    mean = float(np.log((events.sum() + HALF_AN_EVENT) / person_time))
    one = np.ones((events.size, 1))
    level = LEVEL_SD**2 * one @ one.T
    if events.size == 1:
        return CurvePrior(mean=mean, covariance=level[None], log_weight=np.zeros(1))
    weight = events + HALF_AN_EVENT
    sums = np.tri(events.size, events.size - 1, -1)
    if model == "default":
        covariance = level + _without(STEP_SD**2 * sums @ sums.T, one, weight)
        return CurvePrior(mean=mean, covariance=covariance[None], log_weight=np.zeros(1))
    sds, masses = _half_normal_nodes(CHANGE[model])
    if model == "gaussian_process":
        times = np.log(midpoints(cuts, last))
        place = 2.0 * (times - times[0]) / (times[-1] - times[0])
        node, mass = np.polynomial.hermite_e.hermegauss(LENGTH_NODES)
        lower, upper = np.log(LENGTH_SCALE)
        lengths = np.exp((lower + upper) / 2.0 + node * (upper - lower) / (2.0 * NORMAL_95))
        apart = np.abs(place[:, None] - place[None, :])
        shapes = [_without(_matern(apart, length), one, weight) for length in lengths]
        return CurvePrior(
            mean=mean,
            covariance=np.stack([level + sd**2 * shape for sd in sds for shape in shapes]),
            log_weight=np.add.outer(masses, np.log(mass)).ravel(),
        )
    place = clock(cuts, last, events)
    gap = np.diff(place)
    if model == "weibull":
        line = np.log(midpoints(cuts, last))
        slope_sd, shape = DOUBLING_SD, _without((sums * gap) @ sums.T, one, weight)
    else:
        line, slope_sd = place, SLOPE_SD
        # Slopes after the first are sums of bends, and log hazards are sums of slopes.
        twice = (sums * gap) @ np.tri(gap.size, gap.size - 1, -1)
        width = (gap[1:] + gap[:-1]) / 2.0
        both = np.stack([one[:, 0], place], axis=1)
        shape = _without(BEND * (twice * width) @ twice.T, both, weight)
    centred = line - np.average(line, weights=weight)
    fixed = level + slope_sd**2 * np.outer(centred, centred)
    return CurvePrior(
        mean=mean,
        covariance=np.stack([fixed + sd**2 * shape for sd in sds]),
        log_weight=masses,
    )


@njit(cache=True)
def _log_likelihood(
    events: Floats, time: Floats, relative: Floats, a: Floats
) -> tuple[float, Floats]:
    """Log likelihood of the log hazards, and the events expected by interval."""
    value, expected = 0.0, np.zeros(a.size)
    for j in range(a.size):
        for c in range(time.shape[1]):
            linear = a[j] + relative[c]
            here = time[j, c] * np.exp(linear)
            value += events[j, c] * linear - here
            expected[j] += here
    return value, expected


@njit(cache=True)
def _solve(factor: Floats, right: Floats) -> Floats:
    """Solve with a lower triangular factor and its transpose, for one right-hand side."""
    found = right.copy()
    for j in range(found.size):
        for k in range(j):
            found[j] -= factor[j, k] * found[k]
        found[j] /= factor[j, j]
    for j in range(found.size - 1, -1, -1):
        for k in range(j + 1, found.size):
            found[j] -= factor[k, j] * found[k]
        found[j] /= factor[j, j]
    return found


@njit(cache=True)
def laplace(
    events: Floats,
    time: Floats,
    relative: Floats,
    mean: float,
    covariance: Floats,
    dual: Floats,
) -> tuple[float, Floats, Floats, Floats]:
    """Log of the likelihood integrated over the log hazards, by Laplace's approximation.

    Parameters
    ----------
    events, time : ndarray, shape (interval, cell)
        Events and person-time.
    relative : ndarray, shape (cell,)
        Log relative hazards.
    mean, covariance
        Of the log hazards' prior.
    dual : ndarray, shape (interval,)
        Where to start: the mode is ``mean + covariance @ dual``.

    Returns
    -------
    value
        The log integral.
    a, dual : ndarray, shape (interval,)
        Log hazards at the mode; the same as coordinates.
    factor : ndarray, shape (interval, interval)
        Cholesky's factor of ``1 + root(expected) covariance root(expected)``.
    """
    by_interval = events.sum(axis=1)
    a = mean + covariance @ dual
    likelihood, expected = _log_likelihood(events, time, relative, a)
    value = likelihood - 0.5 * (dual * (a - mean)).sum()
    factor = np.eye(a.size)
    for _ in range(100):
        root = np.sqrt(expected)
        factor = np.linalg.cholesky(np.eye(a.size) + root.reshape(-1, 1) * covariance * root)
        target = expected * (a - mean) + by_interval - expected
        move = target - root * _solve(factor, root * (covariance @ target)) - dual
        step = covariance @ move
        size = min(1.0, 3.0 / max(np.abs(step).max(), 1e-300))
        new, new_dual, new_a = value, dual, a
        for _half in range(40):
            new_dual, new_a = dual + size * move, a + size * step
            likelihood, expected = _log_likelihood(events, time, relative, new_a)
            new = likelihood - 0.5 * (new_dual * (new_a - mean)).sum()
            if new >= value - 1e-9 * (1.0 + abs(value)):
                break
            size /= 2.0
        gain = new - value
        dual, a, value = new_dual, new_a, new
        if abs(gain) < 1e-8:
            break
    return value - np.log(np.diag(factor)).sum(), a, dual, factor


@njit(cache=True)
def curve_log_density(
    events: Floats,
    time: Floats,
    exposed: Floats,
    precision: float,
    mean: float,
    covariance: Floats,
    grid: Floats,
) -> tuple[Floats, Floats]:
    """Log posterior of the log hazard ratio on a grid, and the modes' coordinates.

    Parameters
    ----------
    exposed : ndarray, shape (cell,)
        1 where the hazard is multiplied by the hazard ratio.
    precision
        Prior precision of its logarithm.
    """
    density, dual = np.empty(grid.size), np.zeros(time.shape[0])
    duals = np.empty((grid.size, time.shape[0]))
    for g in range(grid.size):
        value, _a, dual, _f = laplace(events, time, exposed * grid[g], mean, covariance, dual)
        density[g] = value - 0.5 * precision * grid[g] ** 2
        duals[g] = dual
    return density, duals


@njit(cache=True)
def mean_log_hazard(
    time: Floats, relative: Floats, mean: float, covariance: Floats, dual: Floats
) -> Floats:
    """Log hazards at the mode, corrected for the likelihood's third derivatives."""
    a = mean + covariance @ dual
    _unused, expected = _log_likelihood(np.zeros(time.shape), time, relative, a)
    root = np.sqrt(expected).reshape(-1, 1)
    factor = np.linalg.cholesky(np.eye(a.size) + root * covariance * root.T)
    half = np.linalg.solve(factor, root * covariance)
    spread = covariance - half.T @ half
    found: Floats = a - 0.5 * spread @ (expected * np.diag(spread))
    return found


@njit(cache=True)
def curve_survival(
    events: Floats,
    time: Floats,
    exposed: Floats,
    precision: float,
    mean: float,
    covariance: Floats,
    grid: Floats,
    density: Floats,
    duals: Floats,
    extra: Floats,
    started: Floats,
) -> Floats:
    """Posterior mean survival over spans of time given the log hazard ratio; (point, span).

    Survival enters as person-time does: a ratio of two integrals of the same kind.

    Parameters
    ----------
    density : ndarray, shape (point,)
        Of `curve_log_density`; what is more than 12 below the highest is left at 0.
    extra : ndarray, shape (span, interval)
        Time in each interval.
    started : ndarray, shape (span,)
        1 where the hazard is multiplied by the hazard ratio.
    """
    found = np.zeros((grid.size, extra.shape[0]))
    unexposed = np.argmin(exposed)
    for g in range(grid.size):
        if density[g] < density.max() - 12.0:
            continue
        for r in range(extra.shape[0]):
            more = time.copy()
            more[:, unexposed] += extra[r] * np.exp(started[r] * grid[g])
            value, _a, _d, _f = laplace(events, more, exposed * grid[g], mean, covariance, duals[g])
            found[g, r] = np.exp(value - 0.5 * precision * grid[g] ** 2 - density[g])
    return found
