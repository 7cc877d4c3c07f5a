"""Events and person-time by cell: the sufficient statistics of a piecewise-exponential model.

A cell is an endpoint x interval x phase x covariate pattern. Treatment phase is a time-varying
state of each patient, so no time before a phase's start can count as time in it.
"""

from bayesblina.person_time.cells.found import (
    own_cuts,
    start_cells_of,
    starts_by_patient,
    tied_steps,
    weighted_starts,
)
from bayesblina.person_time.cells.front import MANY, in_cohort_order, person_time, valid_weights
from bayesblina.person_time.cells.patterns import CovariateTerms, covariate_patterns
from bayesblina.person_time.cells.people import Lazily, Patients, Persons
from bayesblina.person_time.cells.value import PersonTime

__all__ = [
    "MANY",
    "CovariateTerms",
    "Lazily",
    "Patients",
    "PersonTime",
    "Persons",
    "covariate_patterns",
    "in_cohort_order",
    "own_cuts",
    "person_time",
    "start_cells_of",
    "starts_by_patient",
    "tied_steps",
    "valid_weights",
    "weighted_starts",
]
