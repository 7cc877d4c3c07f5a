"""Tables of every kind to cohorts."""

from bayesblina.patients.readers.adam import read_adam
from bayesblina.patients.readers.adam_courses import AdamCourses
from bayesblina.patients.readers.adam_outcomes import AdamEndpoint
from bayesblina.patients.readers.columns import Repairs
from bayesblina.patients.readers.history import read_history
from bayesblina.patients.readers.rows import read_counting_process
from bayesblina.patients.readers.wide import DatedEndpoint, read_cohort, read_dated_cohort

__all__ = [
    "AdamCourses",
    "AdamEndpoint",
    "DatedEndpoint",
    "Repairs",
    "read_adam",
    "read_cohort",
    "read_counting_process",
    "read_dated_cohort",
    "read_history",
]
