"""Hazards along a path, exactly: averages over patients of survival, restricted means, quantiles.

A path is a piecewise-constant hazard from a landmark on, by draw. A patient's hazard is the path's
times a relative hazard that does not change along it, so that the average survival of a population
depends on time only through the path's cumulative hazard.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.estimands.draws import blocks
from bayesblina.estimands.populations import Members

# Numbers held at once while curves are averaged over patients: they should stay in the cache.
BLOCK = 200_000
# From so many blocks on they are worked through side by side.
SIDE_BY_SIDE = 50
STEPS = 100
PRECISION = 1e-14
BISECTIONS = 60


def make_path(
    hazard: Floats,
    cuts: Floats,
    changes: list[tuple[float, int]],
    *,
    first: int,
    start: float,
    end: float,
) -> PiecewiseHazard:
    """Lay a path through the intervals and states of a model.

    `hazard` is over (draws, interval, state).
    `start`, `end`: where the path begins, and up to where changes count; its last piece goes on
    from there.

    >>> path = make_path(
    ...     np.array([[[0.1, 0.05], [0.2, 0.1]]]),
    ...     np.array([2.0]),
    ...     [(3.0, 1)],
    ...     first=0,
    ...     start=0.0,
    ...     end=4.0,
    ... )
    >>> path.starts, path.rates
    (array([0., 2., 3.]), array([[0.1, 0.2, 0.1]]))
    """
    begins = np.array([time for time, _ in changes])
    states = np.array([first, *(state for _, state in changes)])
    inner = [point for point in (*cuts, *begins) if start < point < end]
    starts = np.unique(np.array([start, *inner]))
    interval = np.searchsorted(cuts, starts, side="right")
    state = states[np.searchsorted(begins, starts, side="right")]
    return PiecewiseHazard(starts=starts, rates=np.ascontiguousarray(hazard[:, interval, state]))


def _in_blocks(draws: int, numbers: int, evaluate: Callable[[slice], Floats]) -> Floats:
    """Evaluate some draws at a time, side by side where it takes long; shape (draws, ...).

    numpy leaves other threads free while it computes, and each draw's numbers are its own.
    """
    parts = list(blocks(draws, numbers, most=BLOCK))
    # What a block raises comes out here.
    if len(parts) < SIDE_BY_SIDE:
        return np.concatenate(list(map(evaluate, parts)))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        return np.concatenate(list(threads.map(evaluate, parts)))


def average_survival(cumulative: Floats, relative: Floats, weight: Floats) -> Floats:
    """Average survival over patients.

    `cumulative`, shape (draws, time): cumulative hazards of the path.
    `relative`, shape (draws, pattern): relative hazards.
    `weight`, shape (pattern,) or (draws, pattern): share of the patients; sums to 1. At the nodes
    of a compressed covariate some are negative.
    Result, shape (draws, time): average survival, from 0 to 1; exactly 1 where no hazard has
    accumulated.
    """

    def average(rows: slice) -> Floats:
        each = np.multiply(cumulative[rows, :, None], -relative[rows, None, :])
        np.exp(each, out=each)
        # Weights add up to 1 only within rounding.
        return np.where(cumulative[rows] == 0, 1.0, _mean(each, weight, rows))

    numbers = cumulative.shape[1] * relative.shape[1]
    return np.clip(_in_blocks(cumulative.shape[0], numbers, average), 0.0, 1.0)


def _mean(values: Floats, weight: Floats, rows: slice) -> Floats:
    """Average over patterns, of some draws; shape (draws, ...)."""
    if weight.ndim == 1:
        return np.asarray(values @ weight)
    return np.asarray(np.einsum("d...p,dp->d...", values, weight[rows]))


def average_relative(cumulative: Floats, relative: Floats, weight: Floats) -> Floats:
    """Average relative hazard of the patients still event-free, shape (draws, time)."""

    def average(rows: slice) -> Floats:
        # Exponents are taken from the best survivor's, so that not all vanish.
        least = relative[rows].min(axis=1)[:, None, None]
        each = np.exp(cumulative[rows, :, None] * (least - relative[rows, None, :]))
        return _mean(each * relative[rows, None, :], weight, rows) / _mean(each, weight, rows)

    return _in_blocks(cumulative.shape[0], cumulative.shape[1] * relative.shape[1], average)


def restricted_mean(
    path: PiecewiseHazard, relative: Floats, weight: Floats, *, horizon: float
) -> Floats:
    """Integrate average survival from the path's beginning to a horizon, exactly.

    `relative`, shape (draws, pattern): relative hazards.
    `weight`, shape (pattern,) or (draws, pattern): share of the patients; sums to 1.
    `horizon`: where the integral ends.
    Result, shape (draws,): mean time event-free between the beginning and the horizon.
    """
    inside = path.starts < horizon
    rates = path.rates[:, inside]
    width = np.diff(path.starts[inside], append=horizon)
    steps = rates * width
    before = np.cumsum(steps, axis=1) - steps

    def integral(rows: slice) -> Floats:
        ratio = relative[rows, None, :]
        passed = steps[rows, :, None] * ratio
        # (1 - exp(-x)) / x, which is 1 at 0.
        share = np.divide(-np.expm1(-passed), passed, out=np.ones_like(passed), where=passed > 0)
        alive = np.exp(-before[rows, :, None] * ratio)
        return np.asarray(_mean(alive * share, weight, rows) @ width)

    return _in_blocks(rates.shape[0], rates.shape[1] * relative.shape[1], integral)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathPart:
    """Patients whose hazards are proportional to one path."""

    path: PiecewiseHazard
    members: Members

    @property
    def share(self) -> float:
        """Share of all patients that are of this part."""
        return self.members.share

    def survival(self, times: Floats) -> Floats:
        """Average survival at times, shape (draws, time)."""
        passed = self.path.cumulative(times)
        return average_survival(passed, self.members.relative, self.members.weight)

    def hazard(self, times: Floats) -> Floats:
        """Hazard of the part's average survival at times, shape (draws, time)."""
        passed = self.path.cumulative(times)
        relative = average_relative(passed, self.members.relative, self.members.weight)
        return np.asarray(self.path.rate(times) * relative)

    def restricted_mean(self, horizon: float) -> Floats:
        """Integral of average survival to a horizon, shape (draws,)."""
        return restricted_mean(
            self.path, self.members.relative, self.members.weight, horizon=horizon
        )

    def survival_by_draw(self, times: Floats) -> Floats:
        """Average survival at a time of each draw's own, shape (draws,)."""
        alive = np.exp(-self.path.cumulative_of_each(times)[:, None] * self.members.relative)
        return _mean(alive, self.members.weight, slice(None))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathMixture:
    """An average over patients of one hazard's courses.

    `parts`: patients with proportional hazards; their shares sum to 1.
    """

    parts: tuple[PathPart, ...]

    def survival(self, times: Floats) -> Floats:
        """Average survival at times, shape (draws, time)."""
        if len(self.parts) == 1:
            return self.parts[0].survival(times)
        mixed = sum(part.share * part.survival(times) for part in self.parts)
        # Shares add up to 1 only within rounding.
        return np.asarray(np.minimum(mixed, 1.0))

    def hazard(self, times: Floats) -> Floats:
        """Mean hazard of those still event-free at times, shape (draws, time)."""
        if len(self.parts) == 1:
            return self.parts[0].hazard(times)
        alive = [part.share * part.survival(times) for part in self.parts]
        dying = sum(each * part.hazard(times) for each, part in zip(alive, self.parts, strict=True))
        return np.asarray(dying / sum(alive))

    def restricted_mean(self, horizon: float) -> Floats:
        """Integral of average survival to a horizon, shape (draws,)."""
        return np.asarray(sum(part.share * part.restricted_mean(horizon) for part in self.parts))

    def quantile(self, level: float, *, horizon: float) -> tuple[Floats, Bools]:
        """Find when average survival falls to a level, by draw.

        One part's time is that of its path's cumulative hazard. Several have none in common: the
        piece is found from survival at the knots, and the time in it by bisection.

        `horizon`: where the search ends.
        Result: `time`, shape (draws,): the times; the horizon where the level is not reached by
        then.
        `reached`, shape (draws,): whether it is.
        """
        if len(self.parts) == 1:
            path, members = self.parts[0].path, self.parts[0].members
            passed = hazard_at_survival(members.relative, members.weight, survival=level)
            time = path.inverse(passed)
            return np.minimum(time, horizon), time <= horizon
        knots = np.unique(np.concatenate([part.path.starts for part in self.parts]))
        knots = np.append(knots[knots < horizon], horizon)
        at_knots = self.survival(knots)
        reached = at_knots[:, -1] <= level
        above = np.minimum((at_knots > level).sum(axis=1), knots.size - 1)
        time = when_fallen(
            lambda times: sum(part.share * part.survival_by_draw(times) for part in self.parts),
            level,
            knots[np.maximum(above - 1, 0)],
            knots[above],
        )
        return np.where(reached, time, horizon), reached


def when_fallen(
    survival: Callable[[Floats], Floats | int], level: float, low: Floats, high: Floats
) -> Floats:
    """Find when curves fall to a level, by bisection.

    `survival`: survival of each curve at a time of its own.
    `low`, `high`, shape (curve,): where survival is above the level, and where not.
    """
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        fallen = survival(middle) <= level
        low, high = np.where(fallen, low, middle), np.where(fallen, middle, high)
    return high


def hazard_at_survival(relative: Floats, weight: Floats, *, survival: float) -> Floats:
    """Find the path's cumulative hazard at which average survival falls to a level.

    Newton's method on the logarithm of the average, which is convex in the cumulative hazard: from
    0 on it approaches the solution from one side.

    `relative`, shape (draws, pattern): relative hazards; 0 for patients who are cured.
    `weight`, shape (pattern,) or (draws, pattern): share of the patients; sums to 1. At the nodes
    of a compressed covariate some are negative.
    Result, shape (draws,): the cumulative hazards; infinite where so many are cured that the level
    is never reached.
    """
    falls = (np.where(relative == 0, 1.0, 0.0) * weight).sum(axis=1) < survival
    relative = relative[falls]
    level = np.zeros(relative.shape[0])
    weight = weight if weight.ndim == 1 else weight[falls]
    for _ in range(STEPS):
        # The average never falls below the level on the way, so that it does not vanish.
        each = weight * np.exp(-relative * level[:, None])
        total = each.sum(axis=1)
        slope = (each * relative).sum(axis=1) / total
        step = (np.log(total) - np.log(survival)) / slope
        level = level + step
        if (np.abs(step) <= PRECISION * level).all():
            break
    passed = np.full(falls.size, np.inf)
    passed[falls] = level
    return passed
