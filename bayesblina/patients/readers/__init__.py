"""Tables of every kind to cohorts."""

from bayesblina.patients.readers.adam import read_adam
from bayesblina.patients.readers.adam_courses import AdamCourses
from bayesblina.patients.readers.adam_outcomes import AdamEndpoint
from bayesblina.patients.readers.columns import Repairs
from bayesblina.patients.readers.dated import read_dated_cohort
from bayesblina.patients.readers.history import read_history
from bayesblina.patients.readers.rows import read_counting_process
from bayesblina.patients.readers.wide import read_cohort

__all__ = [
    "AdamCourses",
    "AdamEndpoint",
    "Repairs",
    "read_adam",
    "read_cohort",
    "read_counting_process",
    "read_dated_cohort",
    "read_history",
]
