"""Values that several tests of studies are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.studies.weighting.course import make_course
from bayesblina.studies.weighting.effect import Arms, _arm_counts, _counted
from bayesblina.studies.weighting.pieces import StartingCourse
from tests.studies.weighting import QUESTION

TWELVE = pd.DataFrame(
    {
        "id": list("abcdefghijkl"),
        "time": [2.3, 3.1, 4.7, 5.2, 6.4, 7.9, 8.5, 9.1, 10.6, 11.3, 12.8, 14.2],
        "event": [1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 0],
        "start": [None, 1.2, 3.4, None, 2.1, 0.7, None, 4.4, 1.9, 2.8, None, 5.6],
        "x": list("babbaabababb"),
    }
)
EVERYTHING = (0.0, 1.0)


def course_of(cohort: bb.Cohort, history: pd.DataFrame | None, **more: Any) -> StartingCourse:
    given: dict[str, Any] = {"confounders": None, "adjust": (), "cuts": None, **more}
    return make_course(cohort, QUESTION, "os", history=history, **given)


def alike(course: StartingCourse) -> Floats:
    return np.ones((course.cohort.size, 1))


def arms_of(weighted: bb.weighting.Weighted, patients: Floats) -> Arms:
    """Both arms with patients weighted as given."""
    basis = _counted(weighted.basis)
    weights = basis.weights(patients[:, None]) * patients[basis.patient][:, None]
    return _arm_counts(basis).arms(weights)
