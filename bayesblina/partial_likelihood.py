"""The Cox model with time-varying covariates; numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NEWTON_STEPS = 50
LARGEST_STEP = 2.0
# Log ratios within the rows beyond which sums of weights would cancel to nothing.
LARGEST_RANGE = 25.0
HALVINGS = 12
PRECISION = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoxFit:
    """Maximum partial likelihood.

    Attributes
    ----------
    estimate : ndarray, shape (column,)
        Log hazard ratios; NaN if there is no finite maximum.
    covariance : ndarray, shape (column, column)
        Inverse of the observed information.
    score_test
        Chi-squared of all columns together at 0.
    converged
        Whether a finite maximum was found.
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

    Parameters
    ----------
    start, stop : ndarray, shape (row,)
        Rows at risk.
    event : ndarray of bool, shape (row,)
        Whether a row ends with the event.
    columns : ndarray, shape (row, column)
        Covariates in each row.
    ties
        How tied events are handled.

    Returns
    -------
    CoxFit
        The fit. A column without variation among those at risk, or that separates the events,
        has no finite maximum.

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

    def derivatives(parameter: Floats) -> tuple[Floats, Floats]:
        weight = np.exp(centred @ parameter)
        total = at_risk(weight)[:, None]
        mean = at_risk(weight[:, None] * centred) / total
        square = at_risk(weight[:, None, None] * centred[:, :, None] * centred[:, None, :])
        information = square / total[:, :, None] - mean[:, :, None] * mean[:, None, :]
        return (centred[rows] - mean).sum(axis=0), information.sum(axis=0)

    parameter = np.zeros(columns.shape[1])
    score, information = derivatives(parameter)
    nan = np.full(parameter.size, np.nan)
    failed = CoxFit(estimate=nan, covariance=np.outer(nan, nan), score_test=np.nan, converged=False)
    if rows.size == 0 or np.linalg.matrix_rank(information) < parameter.size:
        return failed
    score_test = float(score @ np.linalg.solve(information, score))
    for _ in range(NEWTON_STEPS):
        step = np.linalg.solve(information, score)
        largest = float(np.abs(step).max())
        step *= min(1.0, LARGEST_STEP / max(largest, LARGEST_STEP))
        # Without a maximum the estimates run away; a step too far on the way to one is halved.
        for _ in range(HALVINGS):
            if np.ptp(centred @ (parameter + step)) <= LARGEST_RANGE:
                break
            step = step / 2.0
        else:
            return failed
        parameter = parameter + step
        score, information = derivatives(parameter)
        if np.linalg.matrix_rank(information) < parameter.size:
            return failed
        if largest < PRECISION:
            covariance = np.linalg.inv(information)
            return CoxFit(
                estimate=parameter / scale,
                covariance=covariance / np.outer(scale, scale),
                score_test=score_test,
                converged=True,
            )
    return failed
