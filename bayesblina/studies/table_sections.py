"""Sections of study files that name tables: patients, ADaM's datasets, adverse events."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bayesblina.core.errors import LARGEST_SEED

if TYPE_CHECKING:
    from bayesblina.patients.cohort import Cohort
    from bayesblina.patients.readers.columns import CovariateKind
    from bayesblina.person_time.onsets import AdverseEvents


def kinds_of_covariates(value: Any) -> Any:
    """Read a list of covariates as a table whose kinds are taken from the columns."""
    if not isinstance(value, list):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("expected column names")
    if len(set(value)) != len(value):
        raise ValueError("a column stands twice")
    return dict.fromkeys(value)


def known_recording(recorded: str | None) -> str | None:
    """Refuse what there is no likelihood for."""
    if recorded == "visits":
        from bayesblina.patients.declarations import VISITS

        raise ValueError(VISITS)
    return recorded


Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1)]
PartialDates = Literal["refuse", "first", "middle", "last"]
Unit = Literal["days", "weeks", "months", "years"]
Recorded = Annotated[Literal["exact", "visits"] | None, AfterValidator(known_recording)]
Covariates = Annotated[
    dict[str, Literal["categorical", "continuous"] | None], BeforeValidator(kinds_of_covariates)
]


class Section(BaseModel):
    """A section of a study file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def named_covariates(covariates: Covariates) -> list[str] | dict[str, CovariateKind]:
    """Take covariates as readers do: all with their kinds, or a list of columns."""
    return {name: kind for name, kind in covariates.items() if kind} or list(covariates)


class RepairsSection(Section):
    """``[data.repairs]``: what `bayesblina.Repairs` takes."""

    zero_times: Positive | None = None
    drop_late_phases: bool = False


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
    # they were found (which is refused as long as there is no likelihood for it). Without it they
    # are taken as exact, and results say so.
    recorded: Recorded = None
    # Endpoints whose every event is an event of this one: ["os"] for relapse-free survival, which
    # deaths end. Patients who contradict it are refused; without it they are counted.
    includes: list[Name] = Field(default_factory=list)


class PhaseSection(Section):
    """A phase of ``[phases]``: its columns."""

    start: Name
    end: Name | None = None


class AdamRepairsSection(RepairsSection):
    """``[adam.repairs]``: what `bayesblina.Repairs` takes."""

    partial_dates: PartialDates = "refuse"


class AdamEndpointSection(Section):
    """``[adam.endpoints.NAME]``: one endpoint of ADTTE."""

    paramcd: Name
    origin: Name | None = None
    some_patients: bool = False
    # As in [endpoints.NAME].
    recorded: Recorded = None
    includes: list[Name] = Field(default_factory=list)


class AdamSection(Section):
    """``[adam]``: patients in the datasets of CDISC ADaM, as `bayesblina.read_adam` reads them."""

    # ADSL, ADTTE and ADEX: paths from this file's folder.
    adsl: Name
    adtte: Name
    adex: Name | None = None
    unit: Unit
    endpoints: dict[str, AdamEndpointSection] = Field(min_length=1)
    phases: dict[str, int | Name] = Field(min_length=1)
    origin: Name = "TRTSDT"
    cycle: Name | None = None
    covariates: Covariates = Field(default_factory=dict)
    population: Name | None = None
    filters: dict[Literal["ADSL", "ADTTE", "ADEX"], dict[str, Name | Names]] = Field(
        default_factory=dict
    )
    transplant: Name | None = None
    value: Literal["dates", "AVAL"] | None = None
    value_unit: Unit | None = None
    same_day: Literal["refuse", "half day", "end of day"] = "refuse"
    date_format: Name = "ISO 8601"
    zero_doses: Literal["leave out", "count"] | None = None
    synthetic: bool = False
    repairs: AdamRepairsSection | None = None

    def cohort(self, folder: Path, adsl: str | PathLike[str] | None = None) -> Cohort:
        """Read the patients; from another ADSL, if one is given."""
        from bayesblina.patients.readers import AdamEndpoint, Repairs, read_adam

        return read_adam(
            folder / self.adsl if adsl is None else adsl,
            folder / self.adtte,
            None if self.adex is None else folder / self.adex,
            endpoints={
                name: AdamEndpoint(**endpoint.model_dump())
                for name, endpoint in self.endpoints.items()
            },
            unit=self.unit,
            origin=self.origin,
            phases=self.phases,
            cycle=self.cycle,
            covariates=named_covariates(self.covariates),
            population=self.population,
            filters=self.filters,
            transplant=self.transplant,
            value=self.value,
            value_unit=self.value_unit,
            same_day=self.same_day,
            date_format=self.date_format,
            zero_doses=self.zero_doses,
            repairs=None if self.repairs is None else Repairs(**self.repairs.model_dump()),
            synthetic=self.synthetic,
        )


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

    def require(self, folder: Path) -> None:
        """Check that the tables are there, with their columns."""
        from bayesblina.core.errors import DataError
        from bayesblina.patients.readers.sources import load_table, missing_columns

        own = [self.patient, self.term, self.start, *self.flags, self.grade]
        if self.origins is None:
            tables = {self.file: [*own, self.origin]}
        else:
            tables = {self.file: own, self.origins: [self.patient, self.origin]}
        for name, columns in tables.items():
            frame, source = load_table(folder / name)
            problems = missing_columns(frame, [column for column in columns if column is not None])
            if problems:
                raise DataError(problems, source=source)

    def events(
        self,
        folder: Path,
        cohort: Cohort,
        *,
        phase_end: Literal["ever", "current"] | None,
        transplant: Literal["censor", "phase", "ignore"] | None,
    ) -> AdverseEvents:
        """Read the adverse events, by phase."""
        from bayesblina.person_time.onsets import adverse_events

        return adverse_events(
            folder / self.file,
            cohort,
            patient=self.patient,
            term=self.term,
            start=self.start,
            counted=self.counted,
            origin=self.origin,
            origins=None if self.origins is None else folder / self.origins,
            date_format=self.date_format,
            partial_dates=self.partial_dates,
            grade=self.grade,
            minimum_grade=self.minimum_grade,
            flags=self.flags,
            leave_out=self.leave_out,
            endpoint=self.endpoint,
            phase_end=phase_end,
            transplant=transplant,
        )
