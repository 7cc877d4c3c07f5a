"""The Cox model with time-varying covariates; numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats

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

    Attributes
    ----------
    estimate : ndarray, shape (column,)
        Log hazard ratios; NaN of columns that repeat earlier ones or that have no finite maximum.
    covariance : ndarray, shape (column, column)
        Inverse of the observed information; NaN in the rows and columns of such columns.
    score_test
        Chi-squared of all other than repeated columns together at 0.
    converged
        Whether the maximum was found, in the limit where columns have none of their own; false too
        if no column has one.
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

    Parameters
    ----------
    start, stop : ndarray, shape (row,)
        Rows at risk.
    event : ndarray of bool, shape (row,)
        Whether a row ends with the event.
    columns : ndarray, shape (row, column)
        Covariates in each row.

    Notes
    -----
    Risk sets are differences of cumulative sums over rows sorted by start and by stop, so the cost
    does not grow with the number of event times. Andersen and Gill (1982),
    doi:10.1214/aos/1176345976; Efron (1977), doi:10.1080/01621459.1977.10480613.

    Examples
    --------
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
    by_stop, by_start = np.argsort(stop, kind="stable"), np.argsort(start, kind="stable")
    rows = np.flatnonzero(event)
    rows = rows[np.argsort(stop[rows], kind="stable")]
    times = stop[rows]
    first = np.searchsorted(times, times, side="left")
    count = np.searchsorted(times, times, side="right") - first
    # The l-th of d tied events sees l/d of the tied ones as gone (Efron), or none (Breslow).
    gone = (np.arange(rows.size) - first) / count if ties == "efron" else np.zeros(rows.size)
    begun = np.searchsorted(start[by_start], times, side="left")
    ended = np.searchsorted(stop[by_stop], times, side="left")

    def at_risk(values: Floats) -> Floats:
        zero = np.zeros((1, *values.shape[1:]))
        entered = np.concatenate([zero, np.cumsum(values[by_start], axis=0)])
        left = np.concatenate([zero, np.cumsum(values[by_stop], axis=0)])
        tied = np.concatenate([zero, np.cumsum(values[rows], axis=0)])
        whole = entered[begun] - left[ended]
        among = tied[first + count] - tied[first]
        return np.asarray(whole - among * gone.reshape(-1, *(1,) * (values.ndim - 1)))

    def derivatives(parameter: Floats) -> tuple[float, Floats, Floats]:
        """Log partial likelihood, its gradient and minus its second derivatives."""
        linear = centred @ parameter
        weight = np.exp(linear)
        total = at_risk(weight)[:, None]
        mean = at_risk(weight[:, None] * centred) / total
        square = at_risk(weight[:, None, None] * centred[:, :, None] * centred[:, None, :])
        information = square / total[:, :, None] - mean[:, :, None] * mean[:, None, :]
        log_likelihood = float((linear[rows] - np.log(total[:, 0])).sum())
        return log_likelihood, (centred[rows] - mean).sum(axis=0), information.sum(axis=0)

    nan = np.full(columns.shape[1], np.nan)
    failed = CoxFit(estimate=nan, covariance=np.outer(nan, nan), score_test=np.nan, converged=False)
    if rows.size == 0:
        return failed
    own = _own(derivatives(np.zeros(nan.size))[2])
    scale, centred = scale[own], centred[:, own]
    parameter = np.zeros(own.size)
    reached, score, information = derivatives(parameter)
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
            return _found(own, scale, parameter, axes, size, endless, nan.size, score_test)
        # A step too far on the way to a maximum, which would lead down again, is halved.
        for _ in range(HALVINGS):
            if np.ptp(centred @ (parameter + step)) <= LARGEST_RANGE + 1.0:
                found = derivatives(parameter + step)
                if found[0] >= reached - ROUNDING * max(abs(reached), 1.0):
                    break
            step = step / 2.0
        else:
            return failed
        parameter = parameter + step
        reached, score, information = found
    return failed


def _own(information: Floats) -> NDArray[np.int64]:
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


def _found(
    own: NDArray[np.int64],
    scale: Floats,
    parameter: Floats,
    axes: Floats,
    size: Floats,
    endless: Bools,
    columns: int,
    score_test: float,
) -> CoxFit:
    """Put estimates in their columns, those that have a finite maximum."""
    finite = (np.abs(axes[:, endless]) < PART).all(axis=1)
    inverse = (axes[:, ~endless] / size[~endless]) @ axes[:, ~endless].T
    estimate, covariance = np.full(columns, np.nan), np.full((columns, columns), np.nan)
    place = own[finite]
    estimate[place] = (parameter / scale)[finite]
    inverse = inverse[np.ix_(finite, finite)]
    covariance[np.ix_(place, place)] = inverse / np.outer(scale[finite], scale[finite])
    return CoxFit(
        estimate=estimate,
        covariance=covariance,
        score_test=score_test,
        converged=bool(finite.any()),
    )
