"""The model of who starts the exposed phase, and when; and how alike those are who could have.

It is fitted for many weightings of the patients at once, which is what a bootstrap by patient
needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.studies.weighting.pieces import StartingCourse, Switch

NEWTON_STEPS = 60
# Newton's next step would be of the order of its square.
PRECISION = 1e-7
# Keeps a covariate that decides everything from having no finite estimate.
RIDGE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Fitted models of the hazard of starting, one for each weighting of the patients.

    `log_rate`, shape (cell, weighting): log hazards of starting.
    `point`, shape (parameter, weighting): log hazards by interval and log hazard ratios.
    `coefficient`, shape (column, weighting): log hazard ratios, of standardised covariates.
    `se`, shape (column, weighting): their standard errors by the information.
    """

    log_rate: Floats
    point: Floats
    coefficient: Floats
    se: Floats


def fit_starts(course: StartingCourse | Switch, columns: Bools, patients: Floats) -> Starts:
    """Fit piecewise-exponential models of starting: pooled over patients and their time at risk.

    `columns`, shape (column,): covariates in the model.
    `patients`, shape (patient, weighting): weights of the patients, greater than 0 for those
    eligible.
    """
    cells = course.cells
    dummies = np.eye(course.intervals)[cells.interval]
    # Intervals that nobody at risk reaches have no rate.
    dummies = dummies[:, dummies.any(axis=0)]
    design = np.concatenate([dummies, cells.values[:, columns]], axis=1)
    count, size = dummies.shape[1], design.shape[1]
    weight = patients[cells.patient]
    time = weight * cells.time[:, None]
    starts = weight * cells.start[:, None]
    point = middle = np.zeros((size, weight.shape[1]))
    middle[:count] = np.log(starts.sum(axis=0) / time.sum(axis=0))
    if weight.shape[1] > 1:
        # From the fit to mean weights it is near to all.
        near = fit_starts(course, columns, patients.mean(axis=1, keepdims=True))
        point = np.broadcast_to(near.point, middle.shape)
    squares = (design[:, :, None] * design[:, None, :]).reshape(-1, size * size)
    for _ in range(NEWTON_STEPS):
        expected = time * np.exp(np.clip(design @ point, -50.0, 50.0))
        # The penalty makes rates small, not 0, in intervals without a start.
        gradient = design.T @ (starts - expected) - RIDGE * (point - middle)
        curvature = (squares.T @ expected).T.reshape(-1, size, size) + RIDGE * np.eye(size)
        step = np.linalg.solve(curvature, gradient.T[:, :, None])[:, :, 0].T
        # Steps are held short, which keeps Newton's method from overshooting.
        longest = np.abs(step).max(axis=0)
        point = point + step * np.minimum(1.0, 2.0 / np.maximum(longest, 1e-300))
        if longest.max() < PRECISION:
            break
    variance = np.diagonal(np.linalg.inv(curvature), axis1=1, axis2=2)
    return Starts(
        log_rate=design @ point,
        point=point,
        coefficient=point[count:],
        se=np.sqrt(variance[:, count:]).T,
    )


def log_inverse_probability(course: StartingCourse, fitted: Starts, rows: Ints) -> Floats:
    """Give minus the log probability of not having started, or the log density of the start made.

    `rows`, shape (row,): pieces. Those at risk of starting count from their
    `StartingCourse.middle`.
    Result, shape (row, weighting): its values.
    """
    cells = course.cells
    rate = np.exp(fitted.log_rate)
    passed = rate * cells.time[:, None]
    opened = np.cumsum(passed, axis=0) - passed
    fresh = np.append(True, np.diff(cells.patient) != 0)
    opened -= opened[fresh][np.cumsum(fresh) - 1]
    logs = np.zeros((rows.size, rate.shape[1]))
    cell = cells.of[rows]
    waiting = np.flatnonzero(cell >= 0)
    at = cell[waiting]
    hazard = rate.take(at, axis=0)
    hazard *= (course.middle[rows][waiting] - cells.opens[at])[:, None]
    hazard += opened.take(at, axis=0)
    logs[waiting] = hazard
    started = np.full(course.begin.size, -1, dtype=np.int64)
    ends = np.flatnonzero(cells.start)
    started[cells.patient[ends]] = ends
    at = started[course.patient[rows]]
    done = (cell < 0) & (at >= 0)
    at = at[done]
    logs[done] = opened[at] + passed[at] - fitted.log_rate[at]
    return logs


def log_inverse_of_switches(switch: Switch, fitted: Starts, rows: Ints, middle: Floats) -> Floats:
    """Give minus the log density of all switches of a kind that were made, or not, up to pieces.

    `rows`, shape (row,): pieces; `middle`, shape (piece,): as of `StartingCourse`.
    Result, shape (row, weighting): its values.
    """
    cells = switch.cells
    rate = np.exp(fitted.log_rate)
    passed = rate * cells.time[:, None]
    passed -= np.where(cells.start[:, None], fitted.log_rate, 0.0)
    opened = np.cumsum(passed, axis=0) - passed
    fresh = np.append(True, np.diff(cells.patient) != 0)
    opened -= opened[fresh][np.cumsum(fresh) - 1]
    logs = np.zeros((rows.size, rate.shape[1]))
    cell, done = cells.of[rows], switch.done[rows]
    waiting, over = np.flatnonzero(cell >= 0), np.flatnonzero((cell < 0) & (done >= 0))
    at = cell[waiting]
    logs[waiting] = opened[at] + rate[at] * (middle[rows][waiting] - cells.opens[at])[:, None]
    logs[over] = opened[done[over]] + passed[done[over]]
    return logs


def log_weights(course: StartingCourse, columns: Bools, patients: Floats, rows: Ints) -> Floats:
    """Fit all models of weights with some covariates; minus the log densities of what was done.

    Arguments and result as of `fit_starts` and `log_inverse_probability`.
    """
    if not course.switches:
        return log_inverse_probability(course, fit_starts(course, columns, patients), rows)
    logs = np.zeros((rows.size, patients.shape[1]))
    for switch in course.switches:
        fitted = fit_starts(switch, columns, patients)
        logs += log_inverse_of_switches(switch, fitted, rows, course.middle)
    return logs


def _apart(
    of: StartingCourse | Switch, cell: Ints, time: Floats, made: Ints, weight: Floats
) -> Floats:
    """Compare covariates of who starts with their means over the time of those at risk.

    `cell`, `time`: of rows at risk; `made`, `weight`: cells with a start. Interval by interval.
    """
    cells = of.cells
    sums = np.zeros((of.intervals, cells.values.shape[1]))
    np.add.at(sums, cells.interval[cell], time[:, None] * cells.values[cell])
    total = np.bincount(cells.interval[cell], time, of.intervals)[:, None]
    means = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    apart = cells.values[made] - means[cells.interval[made]]
    return np.asarray((weight[:, None] * apart).sum(axis=0) / weight.sum())


def balance_of(course: StartingCourse) -> pd.DataFrame:
    """Compare who starts with who could have, interval by interval of the model of starting."""
    cells, alike = course.cells, np.ones((course.cohort.size, 1))
    every = fit_starts(course, np.ones(len(course.names), dtype=bool), alike)
    time_only = fit_starts(course, course.kept, alike)

    def stabilised(rows: Ints) -> Floats:
        logs = [log_inverse_probability(course, fit, rows)[:, 0] for fit in (every, time_only)]
        return np.asarray(np.exp(logs[0] - logs[1]))

    risk, starts = np.flatnonzero(cells.of >= 0), np.flatnonzero(cells.start)
    cell, time = cells.of[risk], (course.until - course.since)[risk]
    # The weight of a patient who starts is that after the start.
    beyond = np.zeros(course.cohort.size)
    later = np.flatnonzero(course.after & (course.first == course.start[course.patient]))
    beyond[course.patient[later]] = stabilised(later)
    after = beyond[cells.patient[starts]]
    return pd.DataFrame(
        {
            "covariate": list(course.names),
            "log_hazard_ratio": every.coefficient[:, 0] / course.scale,
            "se": every.se[:, 0] / course.scale,
            "unweighted": _apart(course, cell, time, starts, np.ones(starts.size)),
            "weighted": _apart(course, cell, time * stabilised(risk), starts, after),
        }
    )


def balance_of_switches(course: StartingCourse) -> pd.DataFrame:
    """Compare who starts, leaves or enters again with who could have, each by its intervals."""
    alike, everything = np.ones((course.cohort.size, 1)), np.ones(len(course.names), dtype=bool)
    rows = np.arange(course.patient.size)
    full, plain = (log_weights(course, own, alike, rows) for own in (everything, course.kept))
    weights = np.exp(full - plain)[:, 0]
    tables = []
    for switch in course.switches:
        cells, fitted = switch.cells, fit_starts(switch, everything, alike)
        risk = np.flatnonzero(cells.of >= 0)
        cell, time = cells.of[risk], (course.until - course.since)[risk]
        # The piece that a switch ends, and the one after it.
        final = risk[np.append(np.diff(cell) != 0, True)]
        made = np.flatnonzero(cells.start)
        after = weights[final[made] + 1]
        tables.append(
            pd.DataFrame(
                {
                    "covariate": list(course.names),
                    "of": switch.kind,
                    "log_hazard_ratio": fitted.coefficient[:, 0] / course.scale,
                    "se": fitted.se[:, 0] / course.scale,
                    "unweighted": _apart(switch, cell, time, made, np.ones(made.size)),
                    "weighted": _apart(switch, cell, weights[risk] * time, made, after),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
