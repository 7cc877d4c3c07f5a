"""The Cox model with time-varying covariates; numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints

NEWTON_STEPS = 60
LARGEST_STEP = 2.0
# Log ratios within the rows beyond which sums of weights would cancel to nothing.
LARGEST_RANGE = 25.0
# Of the log partial likelihood.
ROUNDING = 1e-12
HALVINGS = 12
PRECISION = 1e-10
# Share of a column's information, given the columns before it, below which it repeats them.
REPEATED = 1e-10
# Share of the least information at 0 below which a direction is taken to have no maximum.
ENDLESS = 1e-6
# Part of a direction without a maximum from which on a column is said to be in it.
PART = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoxFit:
    """Maximum partial likelihood.

    `estimate`, shape (column,): log hazard ratios; NaN of columns that repeat earlier ones or that
    have no finite maximum.
    `covariance`, shape (column, column): inverse of the observed information; NaN in the rows and
    columns of such columns.
    `score_test`: chi-squared of all other than repeated columns together at 0.
    `converged`: whether the maximum was found, in the limit where columns have none of their own;
    false too if no column has one.
    """

    estimate: Floats
    covariance: Floats
    score_test: float
    converged: bool


def fit_cox(
    start: Floats,
    stop: Floats,
    event: Bools,
    columns: Floats,
    *,
    ties: Literal["efron", "breslow"] = "efron",
) -> CoxFit:
    """Fit a Cox model to rows ``(start, stop]`` by Newton's method.

    The fit. A column that does not vary among those at risk, or that earlier columns make up, is
    left out; one that separates the events runs away, and the others are as they are in the limit.
    The estimates of both kinds are NaN.

    `start`, `stop`, shape (row,): rows at risk.
    `event`, shape (row,): whether a row ends with the event.
    `columns`, shape (row, column): covariates in each row.

    Risk sets are differences of cumulative sums over rows sorted by start and by stop, so the cost
    does not grow with the number of event times. Andersen and Gill (1982),
    doi:10.1214/aos/1176345976; Efron (1977), doi:10.1080/01621459.1977.10480613.

    >>> fit = fit_cox(
    ...     np.zeros(4),
    ...     np.array([1.0, 2.0, 3.0, 4.0]),
    ...     np.array([True, True, True, False]),
    ...     np.array([[1.0], [0.0], [1.0], [0.0]]),
    ... )
    >>> fit.estimate.round(4)
    array([0.9406])
    """
    # In units of their sd, so that a covariate's unit does not matter.
    scale = columns.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    centred = (columns - columns.mean(axis=0)) / scale
    derivatives = _derivatives_of(start, stop, event, efron=ties == "efron")
    nan = np.full(columns.shape[1], np.nan)
    failed = CoxFit(estimate=nan, covariance=np.outer(nan, nan), score_test=np.nan, converged=False)
    own = _own(derivatives(centred, np.zeros(nan.size))[2])
    scale, centred = scale[own], centred[:, own]
    parameter = np.zeros(own.size)
    reached, score, information = derivatives(centred, parameter)
    if not own.size:
        return failed
    score_test = float(score @ np.linalg.solve(information, score))
    least = ENDLESS * np.linalg.eigvalsh(information)[0]
    for _ in range(NEWTON_STEPS):
        # In directions along which the information has died away nothing is left to be found.
        size, axes = np.linalg.eigh(information)
        along = axes.T @ score
        endless = size < least
        step = axes[:, ~endless] @ (along[~endless] / size[~endless])
        away = axes[:, endless] @ np.sign(along[endless])
        largest = float(np.abs(step).max(initial=0.0))
        step = step * min(1.0, LARGEST_STEP / max(largest, LARGEST_STEP))
        spread = np.ptp(centred @ (parameter + step + away)) if endless.any() else 0.0
        if endless.any() and spread <= LARGEST_RANGE:
            step = step + away
        elif largest < PRECISION:
            break
        # A step too far on the way to a maximum, which would lead down again, is halved.
        for _ in range(HALVINGS):
            if np.ptp(centred @ (parameter + step)) <= LARGEST_RANGE + 1.0:
                moved = derivatives(centred, parameter + step)
                if moved[0] >= reached - ROUNDING * max(abs(reached), 1.0):
                    break
            step = step / 2.0
        else:
            return failed
        parameter = parameter + step
        reached, score, information = moved
    else:
        return failed
    # Estimates in their columns, those that have a finite maximum.
    finite = (np.abs(axes[:, endless]) < PART).all(axis=1)
    inverse = (axes[:, ~endless] / size[~endless]) @ axes[:, ~endless].T
    estimate, covariance = failed.estimate.copy(), failed.covariance.copy()
    estimate[own[finite]] = (parameter / scale)[finite]
    covariance[np.ix_(own[finite], own[finite])] = inverse[np.ix_(finite, finite)] / np.outer(
        scale[finite], scale[finite]
    )
    return CoxFit(
        estimate=estimate,
        covariance=covariance,
        score_test=score_test,
        converged=bool(finite.any()),
    )


def _derivatives_of(
    start: Floats, stop: Floats, event: Bools, *, efron: bool
) -> Callable[[Floats, Floats], tuple[float, Floats, Floats]]:
    """Prepare the log partial likelihood, its gradient and minus its second derivatives.

    Sums over those at risk are differences of sums over rows in the order of their times. The l-th
    of d tied events sees l/d of the tied ones as gone (Efron), or none.
    """
    rows = np.flatnonzero(event)
    rows = rows[np.argsort(stop[rows], kind="stable")]
    times = stop[rows]
    by_start, by_stop = (np.argsort(values, kind="stable") for values in (start, stop))
    # Rows that start, and stop, before each event; where the events tied with it begin and end.
    begun, ended = (np.searchsorted(np.sort(values), times) for values in (start, stop))
    first, last = (np.searchsorted(times, times, side=side) for side in ("left", "right"))
    share_gone = (np.arange(rows.size) - first) / (last - first) if efron else np.zeros(rows.size)

    def sums(values: Floats) -> Floats:
        """Sum values of rows over those at risk at each event."""
        entered, left, tied = (
            np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values[order], axis=0)])
            for order in (by_start, by_stop, rows)
        )
        gone = share_gone.reshape(-1, *(1,) * (values.ndim - 1))
        return np.asarray(entered[begun] - left[ended] - (tied[last] - tied[first]) * gone)

    def derivatives(columns: Floats, parameter: Floats) -> tuple[float, Floats, Floats]:
        linear = columns @ parameter
        weight = np.exp(linear)
        total = sums(weight)[:, None]
        mean = sums(weight[:, None] * columns) / total
        square = sums(weight[:, None, None] * columns[:, :, None] * columns[:, None, :])
        information = square / total[:, :, None] - mean[:, :, None] * mean[:, None, :]
        log_likelihood = float((linear[rows] - np.log(total[:, 0])).sum())
        return log_likelihood, (columns[rows] - mean).sum(axis=0), information.sum(axis=0)

    return derivatives


def _own(information: Floats) -> Ints:
    """Columns that neither are constant nor made up of earlier ones: pivots of a Cholesky root."""
    rest, kept = information.copy(), []
    diagonal = np.diag(information).copy()
    for column in range(diagonal.size):
        pivot = rest[column, column]
        if not pivot > REPEATED * max(diagonal[column], REPEATED):
            continue
        kept.append(column)
        rest = rest - np.outer(rest[:, column], rest[column]) / pivot
    return np.array(kept, dtype=np.int64)
