"""What study files may say of tables: patients, stays, adverse events, measurements."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bayesblina.core.errors import LARGEST_SEED, SpecError

if TYPE_CHECKING:
    from bayesblina.patients.calendar import Calendar


def kinds_of_covariates(value: Any) -> Any:
    """Read a list of covariates as a table whose kinds are taken from the columns."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("expected column names")
    if len(set(value)) != len(value):
        raise ValueError("a column stands twice")
    return dict.fromkeys(value)


Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1)]
PartialDates = Literal["refuse", "first", "middle", "last"]
Unit = Literal["days", "weeks", "months", "years"]
Recorded = Literal["exact", "visits"] | None
EventFreeUntil = Literal["last_negative", "last_contact"]
Covariates = Annotated[
    dict[str, Literal["categorical", "continuous"] | None], BeforeValidator(kinds_of_covariates)
]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Interval = Annotated[list[Positive], Field(min_length=2, max_length=2)]
Quantile = Annotated[float, Field(ge=0, le=1)]
# More draws, or chains, are a slip: no memory holds them, and the machine would go down first.
LONGEST, MOST_CHAINS = 1_000_000, 1000


class Section(BaseModel):
    """A section of a study file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RepairsSection(Section):
    """``[data.repairs]`` and ``[adam.repairs]``: what `bayesblina.Repairs` takes."""

    zero_times: Positive | None = None
    drop_late_phases: bool = False
    partial_dates: PartialDates = "refuse"


class DataSection(Section):
    """``[data]``: the table of patients, relative to the study file."""

    # The table, as for `bayesblina.read_cohort`; a path from this file's folder.
    file: Name
    patient: Name
    unit: Unit
    transplant: Name | None = None
    covariates: Covariates = Field(default_factory=dict)
    synthetic: bool = False
    repairs: RepairsSection | None = None
    # Where the patients are added up: in memory, or by DuckDB from Parquet or CSV files of any size
    # (a path or glob), without reading them whole.
    engine: Literal["memory", "duckdb"] = "memory"
    # What DuckDB may use before it goes on with a temporary folder.
    memory_limit: Name = "1GB"
    # How the dates of origin that [calendar] names are written.
    date_format: Name = "ISO 8601"

    @model_validator(mode="after")
    def _possible(self) -> DataSection:
        if self.engine == "duckdb" and self.repairs is not None:
            raise ValueError("repairs are made in memory only: leave them out, or engine")
        return self


class EndpointSection(Section):
    """``[endpoints.NAME]``: the columns of one endpoint."""

    time: Name
    event: Name
    entry: Name | None = None
    # How events are recorded: on the day on which they happened, or on that of the visit at which
    # they were found, which needs last_negative or [visits]. Without it they are taken as exact,
    # and results say so.
    recorded: Recorded = None
    # Column with the last visit at which the patient was found event-free; the event lies between
    # it and time.
    last_negative: Name | None = None
    # Until when patients without an event that is found at visits are followed up.
    event_free_until: EventFreeUntil = "last_negative"
    # Endpoints whose every event is an event of this one: ["os"] for relapse-free survival, which
    # deaths end. Patients who contradict it are refused; without it they are counted.
    includes: list[Name] = Field(default_factory=list)


class PhaseSection(Section):
    """A phase of ``[phases]``: its columns."""

    start: Name
    end: Name | None = None


# What overlapping stays mean: a word, phases by priority, or names of combinations.
Overlap = Literal["refuse"] | Names | dict[str, Name]
LeaveOutStays = Literal["strangers", "other phases", "empty", "after", "duplicates"]


class CoursesSection(Section):
    """``[courses]``: a table of stays in phases, which may recur, in place of ``[phases]``."""

    # The table, one row per stay; a path from this file's folder.
    file: Name
    patient: Name
    start: Name
    stop: Name
    phase: Name
    # Phases as the column gives them; or a table from the names wanted to the text, or texts.
    phases: Names | Annotated[dict[str, Name | Names], Field(min_length=1)]
    dose: Name | None = None
    cycle: Name | None = None
    bridge: Time = 0.0
    grace: Time = 0.0
    overlap: Overlap = "refuse"
    order: Literal["listed", "any"] = "listed"
    leave_out: list[LeaveOutStays] = Field(default_factory=list)
    before_origin: Literal["refuse", "clip"] = "refuse"


class VisitsSection(Section):
    """``[visits]``: a table of visits, for endpoints with ``recorded = "visits"``."""

    # The table, one row per visit, with dates where patients are those of [adam] (ADRS, say); a
    # path from this file's folder.
    file: Name
    patient: Name
    time: Name
    result: Name
    # Texts of the result: without the event, with it, and those that say neither.
    negative: Names
    positive: Names
    ignore: list[str] = Field(default_factory=list)
    # "study days", as CDISC's ADY, of patients with dates; by default as the patients' times.
    counted: Literal["study days"] | None = None
    leave_out: list[Literal["strangers", "after"]] = Field(default_factory=list)


class CalendarSection(Section):
    """``[calendar]``: calendar dates at which follow-up is cut."""

    # Dates, in order: the first days of all periods but the first.
    cuts: list[date | Name] = Field(min_length=1)
    # Column with the date of each patient's time origin; [adam] has one of its own.
    origin: Name | None = None
    # Name of the covariate of periods.
    name: Name = "period"

    @model_validator(mode="after")
    def _possible(self) -> CalendarSection:
        self.calendar()
        return self

    def calendar(self) -> Calendar:
        """Make what a reader takes."""
        from bayesblina.patients.calendar import Calendar

        try:
            return Calendar(**self.model_dump())
        except SpecError as error:
            raise ValueError(str(error)) from None


class AdamEndpointSection(Section):
    """``[adam.endpoints.NAME]``: one endpoint of ADTTE."""

    paramcd: Name
    origin: Name | None = None
    some_patients: bool = False
    # As in [endpoints.NAME]; last_negative is a column of ADTTE with dates.
    recorded: Recorded = None
    last_negative: Name | None = None
    event_free_until: EventFreeUntil = "last_negative"
    includes: list[Name] = Field(default_factory=list)


class AdamCoursesSection(Section):
    """``[adam.courses]``: rows of ADEX as stays, in place of ``[adam.phases]``."""

    # Phases as the column gives them; or a table from the names wanted to the text, or texts.
    phases: Names | Annotated[dict[str, Name | Names], Field(min_length=1)]
    phase: Name = "EXTRT"
    dose: Name | None = None
    dose_per: Literal["stay", "day"] | None = None
    bridge: Time = 0.0
    grace: Time = 0.0
    overlap: Overlap = "refuse"
    order: Literal["listed", "any"] = "listed"
    leave_out: list[LeaveOutStays] = Field(default_factory=list)
    before_origin: Literal["refuse", "clip"] = "refuse"


class AdamSection(Section):
    """``[adam]``: patients in the datasets of CDISC ADaM, as `bayesblina.read_adam` reads them."""

    # ADSL, ADTTE and ADEX: paths from this file's folder.
    adsl: Name
    adtte: Name
    adex: Name | None = None
    unit: Unit
    endpoints: dict[str, AdamEndpointSection] = Field(min_length=1)
    phases: dict[str, int | Name] = Field(default_factory=dict)
    courses: AdamCoursesSection | None = None
    origin: Name = "TRTSDT"
    cycle: Name | None = None
    covariates: Covariates = Field(default_factory=dict)
    population: Name | None = None
    filters: dict[Literal["ADSL", "ADTTE", "ADEX", "ADRS"], dict[str, Name | Names]] = Field(
        default_factory=dict
    )
    transplant: Name | None = None
    value: Literal["dates", "AVAL"] | None = None
    value_unit: Unit | None = None
    same_day: Literal["refuse", "half day", "end of day"] = "refuse"
    date_format: Name = "ISO 8601"
    zero_doses: Literal["leave out", "count"] | None = None
    synthetic: bool = False
    repairs: RepairsSection | None = None

    @model_validator(mode="after")
    def _treated(self) -> AdamSection:
        if bool(self.phases) == (self.courses is not None):
            raise ValueError("give [adam.phases], or [adam.courses] where phases may recur")
        return self


class AdverseEventsSection(Section):
    """``[adverse_events]``: what `bayesblina.safety.adverse_events` takes.

    What happens at the end of a phase and at a transplant is said in ``[question]``.
    """

    # The table of adverse events, one row for each; a path from this file's folder.
    file: Name
    patient: Name
    term: Name
    start: Name
    counted: Literal["times", "study days", "dates"] | None = None
    origin: Name | None = None
    # A table with the origin's date, one row per patient, such as ADSL; a path from this file's
    # folder.
    origins: Name | None = None
    date_format: Name = "ISO 8601"
    partial_dates: PartialDates = "refuse"
    grade: Name | None = None
    minimum_grade: (
        Annotated[int, Field(ge=1, le=5)] | Literal["MILD", "MODERATE", "SEVERE"] | None
    ) = None
    flags: list[Name] = Field(default_factory=list)
    leave_out: list[Literal["before", "after", "undated", "ungraded", "strangers"]] = Field(
        default_factory=list
    )
    endpoint: Name | None = None


def start_only(value: Any) -> Any:
    """Read a phase given by one column as the table it stands for."""
    return {"start": value} if isinstance(value, str) else value


class HistorySection(Section):
    """``[weighting.history]``: what `bayesblina.read_history` takes."""

    # The table of measurements, one row for each; a path from this file's folder.
    file: Name
    patient: Name
    time: Name
    # Columns of numbers; by default all others.
    covariates: list[Name] | None = Field(default=None, min_length=1)
