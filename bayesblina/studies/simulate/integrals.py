"""Integrals behind the truth: over the month of relapse, and the score of a very large trial."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import brentq

from bayesblina.core.arrays import Floats
from bayesblina.core.piecewise import LogLinearHazard, over_argument

# Longest step, in months, of the integrals over the month of relapse.
STEP = 0.1


def fine_grid(times: Floats, maintenance_start: float) -> Floats:
    """Make a grid from the first to the last time with all of them, in steps of at most `STEP`."""
    low, high = times.min(), times.max()
    marks = np.unique(np.append(times, np.clip(maintenance_start, low, high)))
    parts = [
        np.linspace(begin, end, int(np.ceil((end - begin) / STEP)) + 1)[1:]
        for begin, end in pairwise(marks)
    ]
    return np.concatenate([marks[:1], *parts])


def alive_after_relapse(
    grid: Floats,
    relapses: Floats,
    relative: Floats,
    baseline: LogLinearHazard,
    *,
    second_remission_hazard: float,
    log_hazard_ratio: float,
) -> Floats:
    """Probability of being alive after a relapse at each time of a grid, by patient.

    Those who relapse within a step do so in its middle. Within a step the hazard is its mean, for
    which first and second remission after relapse have exact probabilities.

    `relapses`, shape (patient, step): probabilities of relapse.
    `relative`, shape (patient, step): hazard of death after a relapse in each step, before a second
    remission, relative to `baseline`.
    `log_hazard_ratio`: of death, in second remission against before it.
    """
    middle = (grid[:-1] + grid[1:]) / 2.0
    reached, halfway = baseline.cumulative(grid), baseline.cumulative(middle)
    first, second = np.zeros_like(relapses), np.zeros_like(relapses)
    alive = np.zeros((relapses.shape[0], grid.size))
    for step, length in enumerate(np.diff(grid)):
        old, new = slice(0, step), slice(step, step + 1)
        first[:, new] = relapses[:, new]
        for which, months, hazard in (
            (old, length, reached[step + 1] - reached[step]),
            (new, length / 2.0, reached[step + 1] - halfway[step]),
        ):
            dying, entering = relative[:, which] * hazard, second_remission_hazard * months
            # To stay alive in a second remission; to come into it and live; to stay before it.
            lives = np.exp(-np.exp(log_hazard_ratio) * dying)
            gap = -np.expm1(log_hazard_ratio) * dying + entering
            moves = entering * lives * over_argument(-gap, np.expm1)
            second[:, which] = second[:, which] * lives + first[:, which] * moves
            first[:, which] *= np.exp(-dying - entering)
        alive[:, step + 1] = (first[:, : step + 1] + second[:, : step + 1]).sum(axis=1)
    return alive


def trial_log_hazard_ratio(
    treated: Floats, untreated: Floats, followed: Floats, share: Floats
) -> float:
    """Solve the score equation of a trial, stratified by covariates.

    `treated`, `untreated`, shape (pattern, time): survival of each pattern of covariates in both
    arms.
    `followed`, shape (time - 1,): share of patients whose follow-up lasts so long.
    `share`, shape (pattern,): share of each pattern.
    """
    dying = [-np.diff(alive, axis=1) for alive in (treated, untreated)]
    at_risk = [(alive[:, :-1] + alive[:, 1:]) / 2.0 for alive in (treated, untreated)]

    def score(ratio: float) -> float:
        exposed = np.exp(ratio) * at_risk[0]
        terms = dying[0] - (dying[0] + dying[1]) * exposed / (exposed + at_risk[1])
        return float(share @ (terms @ followed))

    return float(brentq(score, -20.0, 20.0, xtol=1e-13))
