"""What study and design files may say, section by section; unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bayesblina.core.errors import LARGEST_SEED, nearest, no_boolean
from bayesblina.hazards.parts import Mixture, Part
from bayesblina.hazards.priors import FractionPrior, HazardRatioPrior, OddsRatioPrior, SpreadPrior
from bayesblina.studies.axes import AXES


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


def _start_only(value: Any) -> Any:
    """Read a phase given by one column as the table it stands for."""
    return {"start": value} if isinstance(value, str) else value


class QuestionSection(Section):
    """``[question]``: what `bayesblina.Question` takes."""

    exposed: Name
    eligible_from: Name
    reference: Name | None = None
    endpoints: list[str] | None = None
    landmark: Time | None = None
    lag: Time = 0.0
    phase_end: Literal["ever", "current"] | None = None
    transplant: Literal["censor", "phase", "ignore"] | None = None


class PriorsSection(Section):
    """``[model.priors]``: priors that replace those of the model's own file.

    Each is written as in a model file: the interval ``[lower, upper]`` that holds 95 % of the
    prior, or a table such as ``{hazard_ratio = [0.5, 2.0], mass = 0.9}``; a few are numbers.
    """

    phases: HazardRatioPrior | None = None
    covariates: HazardRatioPrior | None = None
    level: HazardRatioPrior | None = None
    step: HazardRatioPrior | None = None
    change: SpreadPrior | None = None
    slope: HazardRatioPrior | None = None
    doubling: HazardRatioPrior | None = None
    length_scale: list[Positive] | None = Field(default=None, min_length=2, max_length=2)
    phase_change: SpreadPrior | None = None
    concentration: Positive | None = None
    spread: SpreadPrior | None = None
    borrowing_weight: Positive | None = None
    borrowing_spread: SpreadPrior | None = None
    borrowing_probability: Share | None = None
    borrowing_close: HazardRatioPrior | None = None
    borrowing_apart: HazardRatioPrior | None = None
    borrowing_phases: SpreadPrior | Mixture | None = None
    borrowing_covariates: SpreadPrior | Mixture | None = None
    cured: FractionPrior | None = None
    cured_covariates: OddsRatioPrior | None = None


class ModelSection(Section):
    """``[model]``: a shipped model or a file of one's own, its covariates, and other priors."""

    # Name of a shipped model; by default primary.
    name: Name | None = None
    # A model file of one's own, from this file's folder.
    file: Name | None = None
    stratum: Name | None = None
    subgroup: Name | None = None
    group: Name | None = None
    source: Name | None = None
    # In which parts external patients may differ from the current ones.
    covers: list[Part] | None = None
    priors: PriorsSection = PriorsSection()

    @model_validator(mode="after")
    def _one(self) -> ModelSection:
        if self.name is not None and self.file is not None:
            raise ValueError("give a shipped model's name or a file, not both")
        return self


class FitSection(Section):
    """``[fit]``: cut points, and how long to sample."""

    phase_cuts: list[Positive] | None = None
    cuts: list[Positive] | None = None
    draws: Annotated[int, Field(ge=4, le=LONGEST)] = 1000
    tune: Annotated[int, Field(ge=1, le=LONGEST)] = 1000
    chains: Annotated[int, Field(ge=1, le=MOST_CHAINS)] = 4
    cores: Annotated[int, Field(ge=1)] | None = None
    seed: Seed = 1


class CurvesSection(Section):
    """``[curves]``: survival curves under never and from each start, and HR thresholds.

    ``landmarks`` are further ones, for the report.
    """

    landmark: Time | None = None
    # Further landmarks, for which the report has curves too.
    landmarks: list[Time] | None = None
    times: list[Time] | None = Field(default=None, min_length=1)
    # Times from which on the exposed phase is given, a regime and a curve each.
    starts: list[Time] = Field(default_factory=list)
    # Hazard ratios for each of which the probability of being below is told.
    thresholds: list[Positive] = Field(default_factory=list)


class ReportSection(Section):
    """``[report]``: what the report, tables and figures show."""

    # Counts of patients or events from 1 up to below this are masked, with what tells them; 1 shows
    # all. By default 5.
    minimum_count: Annotated[int, Field(ge=1)] | None = None


class HistorySection(Section):
    """``[weighting.history]``: what `bayesblina.read_history` takes."""

    # The table of measurements, one row for each; a path from this file's folder.
    file: Name
    patient: Name
    time: Name
    # Columns of numbers; by default all others.
    covariates: list[Name] | None = Field(default=None, min_length=1)


class WeightingSection(Section):
    """``[weighting]``: weights of a model of who starts the exposed phase, and when.

    With a grace period a trial is emulated (`bayesblina.weighting.clone_censor_weight`), without
    one the marginal hazard ratio is asked for (`bayesblina.weighting.starting_weights`).
    """

    # Endpoints to analyse, each by itself; by default those of the question.
    endpoints: list[Name] | None = Field(default=None, min_length=1)
    # Length of the grace period of an emulated trial.
    grace: Positive | None = None
    # Covariates in the model of starting; by default all.
    confounders: list[Name] | None = None
    # Covariates that change over time.
    history: HistorySection | None = None
    # Shares of the person-time's weights beyond which they are set to the quantile.
    truncate: Annotated[list[Quantile], Field(min_length=2, max_length=2)] | None = None
    # Times since becoming eligible at which the hazard of starting may change.
    cuts: list[Positive] | None = None
    # Draws of the Bayesian bootstrap; its seed is that of [fit].
    draws: Annotated[int, Field(ge=2, le=LONGEST)] = 1000
    # Of an emulated trial: times of the curves, and the end of the restricted mean.
    times: list[Time] | None = Field(default=None, min_length=1)
    horizon: Positive | None = None

    @model_validator(mode="after")
    def _arms(self) -> WeightingSection:
        if self.grace is None and (self.times is not None or self.horizon is not None):
            raise ValueError("times and horizon are of an emulated trial: give grace too")
        return self


class SensitivitySection(Section):
    """``[sensitivity]``: what is varied around the study, and how."""

    design: Literal["full", "one_at_a_time"] = "one_at_a_time"
    invalid: Literal["raise", "row"] = "raise"
    # What the study concludes of the exposed phase's hazard, held against the scenarios; by default
    # what the study itself says.
    direction: Literal["lower", "higher"] | None = None
    axes: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    # Further scenarios: each sets some axes.
    scenarios: list[dict[str, Any]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _known(self) -> SensitivitySection:
        names = [*self.axes, *(name for settings in self.scenarios for name in settings)]
        for name in names:
            if name not in AXES:
                raise ValueError(f"no axis '{name}'. {nearest(name, AXES)}")
        if not names:
            raise ValueError("name what is varied: axes, or scenarios")
        return self


class StudyFile(Section):
    """What a study file may say; unknown keys are errors."""

    # Version of the vocabulary.
    schema_version: Annotated[Literal[1], BeforeValidator(no_boolean)] = Field(alias="schema")
    # Heading of the results.
    title: str = ""
    # The patients, one row each; or [adam].
    data: DataSection | None = None
    endpoints: dict[str, EndpointSection] = Field(default_factory=dict)
    phases: dict[str, Annotated[PhaseSection, BeforeValidator(_start_only)]] = Field(
        default_factory=dict
    )
    # The patients in CDISC's datasets, with their endpoints and phases.
    adam: AdamSection | None = None
    question: QuestionSection
    model: ModelSection = ModelSection()
    fit: FitSection = FitSection()
    curves: CurvesSection = CurvesSection()
    sensitivity: SensitivitySection | None = None
    adverse_events: AdverseEventsSection | None = None
    weighting: WeightingSection | None = None
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _patients(self) -> StudyFile:
        if self.adam is not None:
            if self.data is not None or self.endpoints or self.phases:
                raise ValueError(
                    "[adam] has patients, endpoints and phases of its own: leave out [data], "
                    "[endpoints] and [phases], or [adam]"
                )
            return self
        for name in ("data", "endpoints", "phases"):
            if not getattr(self, name):
                raise ValueError(f"[{name}] is missing; patients in CDISC's datasets have [adam]")
        return self


class DesignSection(Section):
    """``[design]``: what `bayesblina.planning.StudyDesign` takes."""

    patients: Annotated[int, Field(ge=2)]
    hazards: list[Time] = Field(min_length=1)
    cuts: list[Positive] = Field(default_factory=list)
    start_hazards: list[Time] = Field(min_length=1)
    start_cuts: list[Positive] = Field(default_factory=list)
    hazard_ratio: Positive
    accrual: Time = 0.0
    follow_up: Positive
    dropout: Time = 0.0
    unit: Unit = "months"
    # Time on, time off, and the number of cycles; by default the phase goes on.
    cycles: Annotated[list[Time], Field(min_length=3, max_length=3)] | None = None


class AnalysisSection(Section):
    """``[analysis]``: how every simulated cohort is analysed, and what counts as success."""

    # The partial likelihood with the prior of the hazard ratio, without a baseline; or the hazard
    # model fitted to every cohort.
    method: Literal["companion", "model"] = "companion"
    model: str = "primary"
    # The interval that holds 95 % of the prior of the hazard ratio; by default the model's own.
    prior: Interval | None = None
    # The interval that holds 95 % of the true hazard ratio, for the assurance.
    effect: Interval | None = None
    success: Share = 0.975
    replications: Annotated[int, Field(ge=2)] = 1000
    seed: Seed = 1

    @model_validator(mode="after")
    def _ordered(self) -> AnalysisSection:
        for name in ("prior", "effect"):
            interval = getattr(self, name)
            if interval is not None and interval[0] >= interval[1]:
                raise ValueError(f"{name} must be [lower, upper] with lower < upper")
        return self


class SampleSizeSection(Section):
    """``[sample_size]``: the power, or assurance, that is wanted."""

    power: Share = 0.8


class DesignFile(Section):
    """What a design file may say; unknown keys are errors."""

    # Version of the vocabulary.
    schema_version: Annotated[Literal[1], BeforeValidator(no_boolean)] = Field(alias="schema")
    # For the reader of the file.
    title: str = ""
    design: DesignSection
    analysis: AnalysisSection = AnalysisSection()
    sample_size: SampleSizeSection | None = None
    # Keys of `[design]`, each with the values to try, in all combinations.
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> DesignFile:
        if "hazard_ratio" in self.grid and self.analysis.effect is not None:
            raise ValueError("grid: hazard_ratio is drawn from analysis.effect: leave out one")
        for name in self.grid:
            known = list(DesignSection.model_fields)
            if name not in known:
                raise ValueError(f"grid: a design has no '{name}'. {nearest(name, known)}")
        return self

    @property
    def prior(self) -> HazardRatioPrior | None:
        """Prior of the hazard ratio in the analysis; None for the model's own."""
        return _stated(self.analysis.prior)

    @property
    def effect(self) -> HazardRatioPrior | None:
        """Distribution of the true hazard ratio; None where it is known."""
        return _stated(self.analysis.effect)


def _stated(interval: list[float] | None) -> HazardRatioPrior | None:
    return None if interval is None else HazardRatioPrior(hazard_ratio=(interval[0], interval[1]))
