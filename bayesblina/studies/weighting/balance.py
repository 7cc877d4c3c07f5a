"""Balance of covariates between those who start and those who could have."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats, Ints
from bayesblina.studies.weighting.course import StartingCourse
from bayesblina.studies.weighting.starts import fit_starts, log_inverse_probability


def balance_of(course: StartingCourse) -> pd.DataFrame:
    """Compare who starts with who could have, interval by interval of the model of starting."""
    cells, alike = course.cells, np.ones((course.cohort.size, 1))
    every = fit_starts(course, np.ones(len(course.names), dtype=bool), alike)
    time_only = fit_starts(course, course.kept, alike)

    def stabilised(rows: Ints) -> Floats:
        logs = [log_inverse_probability(course, fit, rows)[:, 0] for fit in (every, time_only)]
        return np.asarray(np.exp(logs[0] - logs[1]))

    risk = np.flatnonzero(cells.of >= 0)
    cell, time = cells.of[risk], (course.until - course.since)[risk]
    starts = np.flatnonzero(cells.start)
    # The weight of a patient who starts is that after the start.
    beyond = np.zeros(course.cohort.size)
    later = np.flatnonzero(course.after & (course.first == course.start[course.patient]))
    beyond[course.patient[later]] = stabilised(later)
    columns = {}
    for name, risk_weight, start_weight in (
        ("unweighted", time, np.ones(starts.size)),
        ("weighted", time * stabilised(risk), beyond[cells.patient[starts]]),
    ):
        dims = (course.intervals, len(course.names))
        sums, total = np.zeros(dims), np.zeros(course.intervals)
        np.add.at(sums, cells.interval[cell], risk_weight[:, None] * cells.values[cell])
        np.add.at(total, cells.interval[cell], risk_weight)
        means = np.divide(sums, total[:, None], out=np.zeros(dims), where=total[:, None] > 0)
        apart = cells.values[starts] - means[cells.interval[starts]]
        columns[name] = (start_weight[:, None] * apart).sum(axis=0) / start_weight.sum()
    return pd.DataFrame(
        {
            "covariate": list(course.names),
            "log_hazard_ratio": every.coefficient[:, 0] / course.scale,
            "se": every.se[:, 0] / course.scale,
            **columns,
        }
    )
