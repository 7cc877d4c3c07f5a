"""The public names, and the modules that define them."""

from .courses import CourseTruth as CourseTruth
from .courses import SyntheticCourses as SyntheticCourses
from .courses import interrupted_cohort as interrupted_cohort
from .courses import interrupted_tables as interrupted_tables
from .study import SyntheticStudy as SyntheticStudy
from .study import blinatumomab_cohort as blinatumomab_cohort
from .study import blinatumomab_table as blinatumomab_table
from .treatment import adverse_events as adverse_events
from .treatment import treatment_stays as treatment_stays
from .truth import LogLinearHazard as LogLinearHazard
from .truth import Truth as Truth
from .visits import SyntheticVisits as SyntheticVisits
from .visits import VisitSchedule as VisitSchedule
from .visits import VisitTruth as VisitTruth
from .visits import visits_cohort as visits_cohort
from .visits import visits_tables as visits_tables

__all__ = [
    "CourseTruth",
    "LogLinearHazard",
    "SyntheticCourses",
    "SyntheticStudy",
    "SyntheticVisits",
    "Truth",
    "VisitSchedule",
    "VisitTruth",
    "adverse_events",
    "blinatumomab_cohort",
    "blinatumomab_table",
    "interrupted_cohort",
    "interrupted_tables",
    "treatment_stays",
    "visits_cohort",
    "visits_tables",
]
