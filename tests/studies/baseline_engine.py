"""Deterministic posteriors of one log hazard ratio; they share no code with the package.

The log hazard ratio asked for lies on a grid. At each of its values the log hazards of the
intervals, and the coefficients of other effects, are integrated by Laplace's approximation (Tierney
and Kadane 1986, doi:10.1080/01621459.1986.10478240); the other coefficients of a partial likelihood
likewise. Every log posterior here is concave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.interpolate import CubicSpline

from bayesblina.core.arrays import Floats, Ints

NORMAL_95 = 1.959963984540054
# 95 % of the prior mass of a phase's hazard ratio in 0.2 to 5; the others' in 0.05 to 20.
EFFECT_SD = float(np.log(5.0) / NORMAL_95)
COVARIATE_SD = float(np.log(20.0) / NORMAL_95)
LEVEL_SD = float(np.log(20.0) / NORMAL_95)
STEP_SD = float(np.log(20.0) / NORMAL_95)
HALF_AN_EVENT = 0.5
GRID_POINTS = 41
GRID_SDS = 8.0
FINE_POINTS = 2001
# Log density below the highest at which survival is not worked out.
NEGLIGIBLE = 15.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """Density of one log hazard ratio on a grid, and what it says.

    Attributes
    ----------
    grid, weight : ndarray, shape (point,)
        Values, and the mass at each.
    mean, sd, lower, upper
        Of the log hazard ratio; the bounds of its central 95 % interval.
    below_zero
        Probability of a hazard ratio below 1.
    """

    grid: Floats
    weight: Floats
    mean: float
    sd: float
    lower: float
    upper: float
    below_zero: float


@njit(cache=True)
def tabulate(
    entry: Floats,
    stop: Floats,
    event: Floats,
    bounds: Floats,
    pattern: Ints,
    patterns: int,
    cuts: Floats,
) -> tuple[Floats, Floats]:
    """Events and person-time, shape (interval, state x pattern); state k lasts to ``bounds[k]``."""
    intervals, states = cuts.size + 1, bounds.shape[1] + 1
    events = np.zeros((intervals, states * patterns))
    time = np.zeros((intervals, states * patterns))
    for i in range(stop.size):
        now = entry[i]
        k = 0
        while k < states - 1 and bounds[i, k] <= now:
            k += 1
        j = np.searchsorted(cuts, now, side="right")
        while now < stop[i]:
            end = stop[i]
            if k < states - 1 and bounds[i, k] < end:
                end = bounds[i, k]
            cut = cuts[j] if j < cuts.size else np.inf
            if cut < end:
                end = cut
            cell = k * patterns + pattern[i]
            time[j, cell] += end - now
            if end == stop[i]:
                events[j, cell] += event[i]
            if k < states - 1 and bounds[i, k] <= end:
                while k < states - 1 and bounds[i, k] <= end:
                    k += 1
            if cut <= end:
                j += 1
            now = end
    return events, time


@njit(cache=True)
def risk_sets(
    entry: Floats, stop: Floats, event: Floats, bounds: Floats, pattern: Ints, patterns: int
) -> tuple[Floats, Floats, Floats]:
    """Events at each distinct time and patients at risk there, shape (time, state x pattern)."""
    states = bounds.shape[1] + 1
    times = np.unique(stop[event > 0])
    events = np.zeros((times.size, states * patterns))
    at_risk = np.zeros((times.size, states * patterns))
    for k in range(states):
        low, high = np.empty(stop.size), np.empty(stop.size)
        for i in range(stop.size):
            low[i] = entry[i] if k == 0 else max(entry[i], bounds[i, k - 1])
            high[i] = stop[i] if k == states - 1 else min(stop[i], bounds[i, k])
            if event[i] > 0 and low[i] < stop[i] and high[i] == stop[i]:
                row = np.searchsorted(times, stop[i])
                events[row, k * patterns + pattern[i]] += 1.0
        for p in range(patterns):
            here = (pattern == p) & (low < high)
            begins, ends = np.sort(low[here]), np.sort(high[here])
            # Begun before the time, and not ended before it.
            at_risk[:, k * patterns + p] = np.searchsorted(begins, times) - np.searchsorted(
                ends, times
            )
    return times, events, at_risk


@njit(cache=True)
def _factor(diagonal: Floats, off: Floats) -> tuple[Floats, Floats, float]:
    """LDL' of a tridiagonal matrix; its log determinant."""
    size = diagonal.size
    pivot, lower = diagonal.copy(), np.empty(max(size - 1, 0))
    for j in range(size - 1):
        lower[j] = off[j] / pivot[j]
        pivot[j + 1] -= lower[j] * off[j]
    return pivot, lower, np.log(pivot).sum()


@njit(cache=True)
def _solve(pivot: Floats, lower: Floats, right: Floats) -> Floats:
    """Solve with the factor, for one right-hand side."""
    found = right.copy()
    for j in range(1, found.size):
        found[j] -= lower[j - 1] * found[j - 1]
    found /= pivot
    for j in range(found.size - 2, -1, -1):
        found[j] -= lower[j] * found[j + 1]
    return found


@njit(cache=True)
def _log_posterior(
    events: Floats,
    time: Floats,
    design: Floats,
    precision: Floats,
    step: Floats,
    unit: Floats,
    centre: float,
    a: Floats,
    beta: Floats,
) -> tuple[float, Floats]:
    """Log density of the log hazards and coefficients, and the expected events by cell."""
    relative = design @ beta
    value = -0.5 * (beta * beta * precision).sum() - 0.5 * ((unit * a).sum() - centre) ** 2
    expected = np.empty(time.shape)
    for j in range(a.size):
        for c in range(time.shape[1]):
            linear = a[j] + relative[c]
            expected[j, c] = time[j, c] * np.exp(linear)
            value += events[j, c] * linear - expected[j, c]
        if j:
            value -= 0.5 * step[j - 1] * (a[j] - a[j - 1]) ** 2
    return value, expected


@njit(cache=True)
def _system(
    expected: Floats, design: Floats, precision: Floats, step: Floats, unit: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Bordered tridiagonal Hessian: diagonal, off-diagonal, border, corner.

    The level's rank-one term stands in the border with a corner of -1, which eliminates to it.
    """
    intervals, q = expected.shape[0], design.shape[1]
    diagonal = expected.sum(axis=1)
    for j in range(intervals - 1):
        diagonal[j] += step[j]
        diagonal[j + 1] += step[j]
    border = np.zeros((intervals, q))
    border[:, 0] = unit
    corner = np.zeros((q, q))
    corner[0, 0] = -1.0
    for k in range(1, q):
        corner[k, k] = precision[k]
        for j in range(intervals):
            for c in range(expected.shape[1]):
                border[j, k] += expected[j, c] * design[c, k]
        for m in range(1, q):
            for c in range(expected.shape[1]):
                corner[k, m] += expected[:, c].sum() * design[c, k] * design[c, m]
    return diagonal, -step, border, corner


@njit(cache=True)
def _mode(
    events: Floats,
    time: Floats,
    design: Floats,
    precision: Floats,
    step: Floats,
    unit: Floats,
    centre: float,
    a: Floats,
    beta: Floats,
) -> tuple[float, Floats, Floats, Floats]:
    """Newton's method from a start; column 0 of the design is held."""
    q = design.shape[1]
    by_interval = events.sum(axis=1)
    by_cell = events.sum(axis=0)
    value, expected = _log_posterior(events, time, design, precision, step, unit, centre, a, beta)
    for _ in range(200):
        diagonal, off, border, corner = _system(expected, design, precision, step, unit)
        pivot, lower, _unused = _factor(diagonal, off)
        slope = by_interval - expected.sum(axis=1) - unit * ((unit * a).sum() - centre)
        for j in range(a.size - 1):
            pull = step[j] * (a[j + 1] - a[j])
            slope[j] += pull
            slope[j + 1] -= pull
        right = np.zeros(q)
        for k in range(1, q):
            right[k] = ((by_cell - expected.sum(axis=0)) * design[:, k]).sum()
            right[k] -= precision[k] * beta[k]
        solved = _solve(pivot, lower, slope)
        by = np.empty(border.shape)
        for k in range(q):
            by[:, k] = _solve(pivot, lower, border[:, k].copy())
        small = np.linalg.solve(corner - border.T @ by, right - border.T @ solved)
        change = solved - by @ small
        largest = max(np.abs(change).max(), np.abs(small[1:]).max() if q > 1 else 0.0)
        size = min(1.0, 3.0 / max(largest, 1e-300))
        gain = (slope * change).sum() + (right[1:] * small[1:]).sum()
        for _half in range(40):
            new_a, new_beta = a + size * change, beta.copy()
            new_beta[1:] += size * small[1:]
            new, new_expected = _log_posterior(
                events, time, design, precision, step, unit, centre, new_a, new_beta
            )
            if new >= value - 1e-9 * (1.0 + abs(value)):
                break
            size /= 2.0
        a, beta, value, expected = new_a, new_beta, new, new_expected
        if gain < 1e-9:
            break
    return value, expected, a, beta


@njit(cache=True)
def _log_determinant(
    expected: Floats, design: Floats, precision: Floats, step: Floats, unit: Floats
) -> float:
    """Log determinant of the Hessian in the log hazards and other coefficients."""
    diagonal, off, border, corner = _system(expected, design, precision, step, unit)
    pivot, lower, found = _factor(diagonal, off)
    by = np.empty(border.shape)
    for k in range(border.shape[1]):
        by[:, k] = _solve(pivot, lower, border[:, k].copy())
    return float(found + np.log(np.abs(np.linalg.det(corner - border.T @ by))))


@njit(cache=True)
def walk_log_density(
    events: Floats,
    time: Floats,
    design: Floats,
    precision: Floats,
    step: Floats,
    unit: Floats,
    centre: float,
    grid: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Log posterior of coefficient 0 on a grid; modes of log hazards and coefficients.

    Parameters
    ----------
    events, time : ndarray, shape (interval, cell)
        Events and person-time.
    design : ndarray, shape (cell, coefficient)
        Column 0 is that of the coefficient on the grid.
    precision : ndarray, shape (coefficient,)
        Prior precisions.
    step : ndarray, shape (interval - 1,)
        Prior precisions of the steps between neighbouring log hazards.
    unit : ndarray, shape (interval,)
        Weights of the level over its prior sd.
    centre
        Prior mean of the level over its prior sd.
    grid : ndarray, shape (point,)
        Values of coefficient 0.
    """
    q = design.shape[1]
    density = np.empty(grid.size)
    modes = np.empty((grid.size, time.shape[0]))
    betas = np.empty((grid.size, q))
    total = time.sum(axis=1)
    a = np.log((events.sum(axis=1) + 0.5) / (total + 0.5 * total.sum() / (events.sum() + 0.5)))
    beta = np.zeros(q)
    constant = 0.5 * np.log(step).sum()
    for g in range(grid.size):
        beta[0] = grid[g]
        value, expected, a, beta = _mode(
            events, time, design, precision, step, unit, centre, a, beta
        )
        density[g] = value + constant
        density[g] -= 0.5 * _log_determinant(expected, design, precision, step, unit)
        modes[g], betas[g] = a, beta
    return density, modes, betas


@njit(cache=True)
def walk_survival(
    events: Floats,
    time: Floats,
    design: Floats,
    precision: Floats,
    step: Floats,
    unit: Floats,
    centre: float,
    modes: Floats,
    betas: Floats,
    density: Floats,
    extra: Floats,
    exposed: Floats,
    reference: int,
) -> Floats:
    """Posterior mean survival over spans of time, given coefficient 0; shape (point, span).

    Survival enters as person-time does, so its mean is a ratio of two integrals of the same kind,
    each by Laplace's approximation: the fully exponential form, whose errors mostly cancel.

    Parameters
    ----------
    density : ndarray, shape (point,)
        Points below the highest by more than `NEGLIGIBLE` are left at 0.
    extra : ndarray, shape (span, interval)
        Time in each interval.
    exposed : ndarray, shape (span,)
        1 where the hazard is multiplied by coefficient 0.
    reference
        A cell whose row of the design is 0.
    """
    found = np.zeros((density.size, extra.shape[0]))
    constant = 0.5 * np.log(step).sum()
    for g in range(density.size):
        if density[g] < density.max() - NEGLIGIBLE:
            continue
        for r in range(extra.shape[0]):
            more = time.copy()
            more[:, reference] += extra[r] * np.exp(exposed[r] * betas[g, 0])
            value, expected, _a, _b = _mode(
                events, more, design, precision, step, unit, centre, modes[g], betas[g].copy()
            )
            value += constant - 0.5 * _log_determinant(expected, design, precision, step, unit)
            found[g, r] = np.exp(value - density[g])
    return found


@njit(cache=True)
def _partial_parts(events: Floats, at_risk: Floats, relative: Floats) -> tuple[float, Floats]:
    """Log partial likelihood (Breslow), share of each risk set by cell."""
    value = (events.sum(axis=0) * relative).sum()
    share = at_risk * np.exp(relative)
    for m in range(at_risk.shape[0]):
        total = share[m].sum()
        share[m] /= total
        value -= events[m].sum() * np.log(total)
    return value, share


@njit(cache=True)
def partial_log_density(
    events: Floats, at_risk: Floats, design: Floats, precision: Floats, grid: Floats
) -> tuple[Floats, Floats]:
    """Log posterior of coefficient 0 on a grid under the partial likelihood; other modes."""
    q = design.shape[1]
    density = np.empty(grid.size)
    modes = np.zeros((grid.size, q))
    beta = np.zeros(q)
    count = events.sum(axis=1)
    by_cell = events.sum(axis=0)
    for g in range(grid.size):
        beta[0] = grid[g]
        hessian = np.zeros((q, q))
        for _ in range(200):
            value, share = _partial_parts(events, at_risk, design @ beta)
            value -= 0.5 * (beta * beta * precision).sum()
            if q == 1:
                break
            mean = share @ design
            slope = ((by_cell - count @ share) @ design) - precision * beta
            hessian = np.diag(precision)
            hessian += design.T @ ((count @ share).reshape(-1, 1) * design)
            hessian -= mean.T @ (count.reshape(-1, 1) * mean)
            change = np.linalg.solve(hessian[1:, 1:].copy(), slope[1:].copy())
            largest = np.abs(change).max()
            if largest < 1e-7:
                break
            beta[1:] += change * min(1.0, 2.0 / largest)
        density[g] = value
        if q > 1:
            density[g] -= 0.5 * np.log(np.linalg.det(hessian[1:, 1:].copy()))
        modes[g] = beta
    return density, modes


@njit(cache=True)
def partial_estimate(
    events: Floats, at_risk: Floats, design: Floats, precision: Floats
) -> tuple[Floats, Floats]:
    """Maximum of the (penalised) partial likelihood and the standard errors."""
    q = design.shape[1]
    beta = np.zeros(q)
    count = events.sum(axis=1)
    hessian = np.eye(q)
    for _ in range(60):
        _value, share = _partial_parts(events, at_risk, design @ beta)
        mean = share @ design
        slope = ((events.sum(axis=0) - count @ share) @ design) - precision * beta
        hessian = np.diag(precision)
        hessian += design.T @ ((count @ share).reshape(-1, 1) * design)
        hessian -= mean.T @ (count.reshape(-1, 1) * mean)
        change = np.linalg.solve(hessian + 1e-12 * np.eye(q), slope)
        largest = np.abs(change).max()
        if largest < 1e-9:
            break
        beta += change * min(1.0, 2.0 / largest)
        if np.abs(beta).max() > 15.0:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(hessian + 1e-12 * np.eye(q))))


def posterior(grid: Floats, log_density: Floats) -> Posterior:
    """Normalise a log density on an even grid and read it off.

    Examples
    --------
    >>> grid = np.linspace(-8.0, 8.0, 41)
    >>> found = posterior(grid, -0.5 * grid**2)
    >>> round(found.mean, 6), round(found.sd, 6), round(found.lower, 3), round(found.below_zero, 4)
    (-0.0, 1.0, -1.96, 0.5)
    """
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = float(weight @ grid)
    sd = float(np.sqrt(weight @ (grid - mean) ** 2))
    fine = np.linspace(grid[0], grid[-1], FINE_POINTS)
    with np.errstate(under="ignore"):
        density = np.exp(CubicSpline(grid, log_density)(fine) - log_density.max())
    middle = (density[1:] + density[:-1]) / 2.0
    below = np.concatenate([[0.0], np.cumsum(middle)])
    below /= below[-1]
    lower, upper = np.interp([0.025, 0.975], below, fine)
    at_zero = float(np.interp(0.0, fine, below, left=0.0, right=1.0))
    return Posterior(
        grid=grid,
        weight=weight,
        mean=mean,
        sd=sd,
        lower=float(lower),
        upper=float(upper),
        below_zero=at_zero,
    )
