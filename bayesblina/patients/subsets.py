"""Some patients of a cohort, with all that is theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayesblina.core.arrays import Bools, Ints
from bayesblina.patients.cohort import Cohort


def take_patients(cohort: Cohort, rows: Bools | Ints) -> Cohort:
    """Take some patients of a cohort, and of repairs and exclusions none.

    `rows`: positions of patients, none twice, or which are kept.
    """
    if rows.dtype == np.bool_ and rows.all():
        return cohort
    return replace(
        cohort,
        patients=cohort.patients[rows],
        endpoints={name: own.of(rows) for name, own in cohort.endpoints.items()},
        phase_start=cohort.phase_start[rows],
        phase_end=cohort.phase_end[rows],
        stays=None if cohort.stays is None else cohort.stays.of_patients(rows),
        transplant=None if cohort.transplant is None else cohort.transplant[rows],
        covariates={
            name: replace(own, values=own.values[rows]) for name, own in cohort.covariates.items()
        },
        repairs=(),
        exclusions=(),
        persons=None if cohort.persons is None else cohort.persons[rows],
    )
