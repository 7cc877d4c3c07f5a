"""Posteriors of the log hazard ratio of one phase by partial likelihood, for many cohorts at once.

The log partial likelihood of one binary, time-varying covariate needs of each event only whether
the patient is in the phase, and which share of those at risk are. So a posterior is a sum over
events at each point of a grid, and all that is read off it are sums over the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, sici

from bayesblina.core.arrays import Bools, Floats

# Numbers at once: what stays in a processor's cache.
BLOCK = 60_000
NEWTON_STEPS = 100
LARGEST_STEP = 1.0
PRECISION = 1e-10
# Grids end where the log density lies this far below its maximum: within LEAST and MOST of it.
DROP, LEAST, MOST = 32.0, 26.0, 60.0
ENDS_STEPS = 40
# Points of a grid; of a normal density they lie 0.4 sd apart.
POINTS = 41
QUANTILE_STEPS = 8
QUANTILE_PRECISION = 1e-6
# No hazard ratio is further from 1; it keeps exponentials finite.
LARGEST_LOG_RATIO = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class CohortPosteriors:
    """Posteriors of log hazard ratios; NaN for cohorts in which nothing is compared.

    `mode`, `mean`, `sd`, shape (cohort,): of the log hazard ratio.
    `lower`, `upper`, shape (cohort,): the equal-tailed 95 % credible interval.
    `below_zero`, shape (cohort,): probability of a hazard ratio below 1.
    """

    mode: Floats
    mean: Floats
    sd: Floats
    lower: Floats
    upper: Floats
    below_zero: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _CohortsAtRisk:
    """Events of some cohorts: padded where a cohort has fewer than the others.

    `exposed`, shape (cohort,): events in the phase.
    `share`, `rest`, shape (cohort, event): share of those at risk at each event who are in the
    phase, and who are not; 0 and 1 where there is no event, which adds nothing.
    """

    exposed: Floats
    share: Floats
    rest: Floats

    def log_likelihood(self, log_ratio: Floats) -> Floats:
        """Log partial likelihood, less that at 0, at one log hazard ratio a cohort."""
        at_risk = self.share * _ratio(log_ratio)
        at_risk += self.rest
        np.log(at_risk, out=at_risk)
        return np.asarray(self.exposed * log_ratio - at_risk.sum(axis=1))

    def derivatives(self, log_ratio: Floats) -> tuple[Floats, Floats]:
        """Slope of the log partial likelihood, and its curvature with the sign changed."""
        weighted = self.share * _ratio(log_ratio)
        weighted /= self.rest + weighted
        expected = weighted.sum(axis=1)
        return self.exposed - expected, expected - np.einsum("ce,ce->c", weighted, weighted)


def cohort_posteriors(
    time: Floats,
    start: Floats,
    event: Bools,
    *,
    prior_mean: float,
    prior_sd: float,
    stays: Floats | None = None,
) -> CohortPosteriors:
    """Posterior of the log hazard ratio in each cohort: Breslow's partial likelihood, normal prior.

    NaN where there is no event, or nobody in the phase or out of it.

    `time`, `start`, shape (cohort, patient): end of follow-up from 0 on, and start of the phase;
    infinite where there is none.
    `event`, shape (cohort, patient): whether follow-up ends with the event.
    `prior_mean`, `prior_sd`: of the log hazard ratio.
    `stays`, shape (stay, 2): time from the start at which stays in the phase begin and end; None
    for one that goes on.

    At an event those are at risk whose follow-up has not ended before it; those are in the phase
    who began it before the event, not at it. Means are sums over an equally spaced grid, and
    distribution functions integrals of its sinc interpolation; both converge faster than any power
    of the spacing: Trefethen and Weideman (2014), doi:10.1137/130932132.
    """
    some_in, some_out = (start < time).any(axis=1), ((time > 0.0) & (start > 0.0)).any(axis=1)
    if stays is not None:
        some_out |= (start + stays[0, 1] < time).any(axis=1)
    compared = event.any(axis=1) & some_in & some_out
    columns = np.full((6, compared.size), np.nan)
    rows = np.flatnonzero(compared)
    step = max(1, BLOCK // time.shape[1])
    for first in range(0, rows.size, step):
        some = rows[first : first + step]
        own = time[some], start[some], event[some]
        risk = _risk(*own) if stays is None else _risk_in_stays(*own, stays)
        columns[:, some] = _posteriors(risk, prior_mean, prior_sd)
    return CohortPosteriors(*columns)


def _ratio(log_ratio: Floats) -> Floats:
    return np.exp(np.clip(log_ratio, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))[:, None]


def _risk(time: Floats, start: Floats, event: Bools) -> _CohortsAtRisk:
    """Count who is at risk at every event, by sorting."""
    cohorts, patients = time.shape
    inside = start < time
    order = np.argsort(time, axis=1)
    time = np.take_along_axis(time, order, axis=1)
    event = np.take_along_axis(event, order, axis=1)
    ended_inside = np.take_along_axis(inside, order, axis=1)
    # Two sorted runs, which a stable sort merges; times come before equal starts.
    starts = np.sort(np.where(inside, start, np.inf), axis=1)
    merged = np.argsort(np.concatenate([time, starts], axis=1), axis=1, kind="stable")
    position = np.flatnonzero(merged < patients).reshape(cohorts, patients)
    rank = np.arange(patients)
    started = position - 2 * patients * np.arange(cohorts)[:, None] - rank
    # Of tied times all are at risk at each.
    later = np.diff(time, axis=1, prepend=-np.inf) > 0.0
    first = np.maximum.accumulate(np.where(later, rank, 0), axis=1)
    left = np.cumsum(ended_inside, axis=1) - ended_inside
    left = np.take_along_axis(left, first, axis=1)
    share = (started - left) / (patients - first)
    counts = event.sum(axis=1)
    padded = np.zeros((cohorts, int(counts.max())))
    padded[np.arange(padded.shape[1]) < counts[:, None]] = share[event]
    return _CohortsAtRisk(
        exposed=(event & ended_inside).sum(axis=1).astype(np.float64),
        share=padded,
        rest=1.0 - padded,
    )


def _risk_in_stays(time: Floats, start: Floats, event: Bools, stays: Floats) -> _CohortsAtRisk:
    """Count who is at risk at every event, and in one of the stays, cohort by cohort."""
    counts = event.sum(axis=1)
    share, exposed = np.zeros((counts.size, int(counts.max()))), np.zeros(counts.size)
    for row, (last, begun) in enumerate(zip(time, start, strict=True)):
        begin, end = (begun[:, None] + stays[:, side] for side in (0, 1))
        end = np.minimum(end, last[:, None])
        given = begin < end
        at = last[event[row]]
        entered, left = (
            np.searchsorted(np.sort(edges[given]), at, side="left") for edges in (begin, end)
        )
        at_risk = last.size - np.searchsorted(np.sort(last), at, side="left")
        share[row, : at.size] = (entered - left) / at_risk
        inside = (begin < last[:, None]) & (last[:, None] <= begun[:, None] + stays[:, 1])
        exposed[row] = (inside.any(axis=1) & event[row]).sum()
    return _CohortsAtRisk(exposed=exposed, share=share, rest=1.0 - share)


def _posteriors(risk: _CohortsAtRisk, prior_mean: float, prior_sd: float) -> Floats:
    """Mode, mean, sd, bounds and P(HR < 1) of some cohorts, shape (6, cohort)."""
    precision = prior_sd**-2.0
    mode, curvature = _modes(risk, prior_mean, precision)

    def log_density(log_ratio: Floats) -> Floats:
        prior = 0.5 * precision * (log_ratio - prior_mean) ** 2
        return np.asarray(risk.log_likelihood(log_ratio) - prior)

    highest = log_density(mode)
    reach = np.sqrt(2.0 * DROP / curvature)

    def end(sign: float) -> Floats:
        """Where the log density has dropped far enough, below or above the mode."""
        return mode + sign * _distance(
            lambda away: highest - log_density(mode + sign * away), reach
        )

    low, high = end(-1.0), end(1.0)
    spacing = (high - low) / (POINTS - 1)
    logs = [log_density(low + point * spacing) for point in range(POINTS)]
    density = np.exp(np.stack(logs, axis=1) - highest[:, None])
    density /= density.sum(axis=1, keepdims=True)
    grid = np.arange(POINTS, dtype=np.float64)
    mean = density @ grid
    sd = np.sqrt(np.einsum("cp,cp->c", density, (grid - mean[:, None]) ** 2))
    lower, upper = (_quantiles(density, mean, sd, share) for share in (0.025, 0.975))
    below_zero = np.clip(_below(density, -low / spacing), 0.0, 1.0)
    mean, lower, upper = (low + spacing * position for position in (mean, lower, upper))
    return np.stack([mode, mean, spacing * sd, lower, upper, below_zero])


def _distance(drop_at: Callable[[Floats], Floats], away: Floats) -> Floats:
    """Distances at which log densities have dropped by `DROP`, about; from first guesses."""
    near, far = np.zeros(away.size), np.full(away.size, np.inf)
    for _ in range(ENDS_STEPS):
        drop = drop_at(away)
        short, beyond = drop < LEAST, drop > MOST
        if not (short | beyond).any():
            break
        near, far = np.where(short, away, near), np.where(beyond, away, far)
        # As if the density were normal, but between what is known to be too near and too far.
        guess = away * np.sqrt(DROP / np.clip(drop, DROP / 16.0, DROP * 16.0))
        guess = np.where((near < guess) & (guess < far), guess, 0.5 * (near + far))
        away = np.where(short | beyond, guess, away)
    return away


def _modes(risk: _CohortsAtRisk, prior_mean: float, precision: float) -> tuple[Floats, Floats]:
    """Maxima of the posteriors by Newton's method, and the curvatures there."""
    point = np.full(risk.exposed.size, prior_mean)
    for _ in range(NEWTON_STEPS):
        slope, information = risk.derivatives(point)
        curvature = information + precision
        step = (slope - precision * (point - prior_mean)) / curvature
        point = point + np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        if np.abs(step).max() < PRECISION:
            break
    return point, curvature


def _below(density: Floats, position: Floats) -> Floats:
    """Probability below a place, counted in points, of grids whose masses sum to 1."""
    away = np.pi * (position[:, None] - np.arange(POINTS))
    return np.asarray(np.einsum("cp,cp->c", density, 0.5 + sici(away)[0] / np.pi))


def _quantiles(density: Floats, mean: Floats, sd: Floats, share: float) -> Floats:
    """Places, counted in points, below which a share of the mass lies: by Newton's method."""
    position = mean + ndtri(share) * sd
    for _ in range(QUANTILE_STEPS):
        slope = np.einsum("cp,cp->c", density, np.sinc(position[:, None] - np.arange(POINTS)))
        # Where a first guess lies in a thin tail the step is kept short.
        step = (share - _below(density, position)) / np.maximum(slope, 1e-3 / sd)
        position = position + np.clip(step, -0.5 * sd, 0.5 * sd)
        if np.abs(step).max() < QUANTILE_PRECISION:
            break
    return position
