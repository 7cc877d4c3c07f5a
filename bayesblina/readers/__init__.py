"""Tables of every kind to cohorts."""

from bayesblina.readers.adam import read_adam
from bayesblina.readers.adam_outcomes import AdamEndpoint
from bayesblina.readers.columns import Repairs
from bayesblina.readers.history import read_history
from bayesblina.readers.rows import read_counting_process
from bayesblina.readers.wide import DatedEndpoint, read_cohort, read_dated_cohort

__all__ = [
    "AdamEndpoint",
    "DatedEndpoint",
    "Repairs",
    "read_adam",
    "read_cohort",
    "read_counting_process",
    "read_dated_cohort",
    "read_history",
]
