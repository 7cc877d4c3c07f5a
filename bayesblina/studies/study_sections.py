"""What study and design files may say, section by section; unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bayesblina.core.errors import nearest, no_boolean
from bayesblina.hazards.parts import Mixture, Part
from bayesblina.hazards.priors import FractionPrior, HazardRatioPrior, OddsRatioPrior, SpreadPrior
from bayesblina.studies.axes import AXES
from bayesblina.studies.table_sections import (
    LONGEST,
    MOST_CHAINS,
    AdamSection,
    AdverseEventsSection,
    CalendarSection,
    CoursesSection,
    DataSection,
    EndpointSection,
    HistorySection,
    Interval,
    Name,
    Names,
    PhaseSection,
    Positive,
    Quantile,
    Section,
    Seed,
    Share,
    Time,
    Unit,
    VisitsSection,
    start_only,
)


class QuestionSection(Section):
    """``[question]``: what `bayesblina.Question` takes."""

    # A phase, or a list of several, which count as one.
    exposed: Name | Names
    eligible_from: Name
    reference: Name | None = None
    endpoints: list[str] | None = None
    landmark: Time | None = None
    lag: Time = 0.0
    phase_end: Literal["ever", "current"] | None = None
    transplant: Literal["censor", "phase", "ignore"] | None = None
    measure: (
        Literal["current", "ever", "since_entry", "since_end", "cumulative", "episode"] | None
    ) = None
    steps: list[Positive] | None = Field(default=None, min_length=1)
    amount: Literal["time", "cycles", "dose"] = "time"
    # Where events are found at visits: treatment goes on until then ("found"), or nobody starts a
    # phase after the event, seen or not ("event").
    starts_until: Literal["found", "event"] | None = None


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


class FromSection(Section):
    """A regime of ``[curves]``: the exposed phase from a time on."""

    kind: Literal["from"] = "from"
    start: Time


class BetweenSection(Section):
    """A regime of ``[curves]``: the exposed phase from one time to another."""

    kind: Literal["between"] = "between"
    start: Time
    end: Positive
    dose: Positive | None = None


class CyclesSection(Section):
    """A regime of ``[curves]``: the exposed phase in cycles."""

    kind: Literal["cycles"] = "cycles"
    start: Time
    on: Positive
    off: Time
    times: Annotated[int, Field(ge=1)]
    dose: Positive | None = None


class WithPhasesSection(Section):
    """A regime of ``[curves]``: several phases from their times on."""

    kind: Literal["with_phases"] = "with_phases"
    starts: dict[str, Time] = Field(min_length=1)


RegimeSection = Annotated[
    FromSection | BetweenSection | CyclesSection | WithPhasesSection, Field(discriminator="kind")
]


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
    # Further regimes, a curve each from the first landmark on.
    regimes: list[RegimeSection] = Field(default_factory=list)
    # Hazard ratios for each of which the probability of being below is told.
    thresholds: list[Positive] = Field(default_factory=list)


class ReportSection(Section):
    """``[report]``: what the report, tables and figures show."""

    # Counts of patients or events from 1 up to below this are masked, with what tells them; 1 shows
    # all. By default 5.
    minimum_count: Annotated[int, Field(ge=1)] | None = None


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
    phases: dict[str, Annotated[PhaseSection, BeforeValidator(start_only)]] = Field(
        default_factory=dict
    )
    # Their stays in phases, one row each, in which phases may recur; or [phases].
    courses: CoursesSection | None = None
    # Their visits, one row each, at which events are found.
    visits: VisitsSection | None = None
    # The patients in CDISC's datasets, with their endpoints and phases.
    adam: AdamSection | None = None
    calendar: CalendarSection | None = None
    question: QuestionSection
    model: ModelSection = ModelSection()
    fit: FitSection = FitSection()
    curves: CurvesSection = CurvesSection()
    sensitivity: SensitivitySection | None = None
    adverse_events: AdverseEventsSection | None = None
    weighting: WeightingSection | None = None
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _dates(self) -> StudyFile:
        calendar, data = self.calendar, self.data
        if calendar is None:
            partial = data and data.repairs and data.repairs.partial_dates != "refuse"
            if data is not None and (partial or data.date_format != "ISO 8601"):
                raise ValueError(
                    "[data] has dates only where [calendar] names a column of them: leave out "
                    "date_format and repairs.partial_dates"
                )
        elif data is not None and data.engine == "duckdb":
            raise ValueError(
                "[calendar] makes several rows of a patient, which takes memory: leave out "
                'engine = "duckdb", or [calendar]'
            )
        elif data is not None and calendar.origin is None:
            raise ValueError("calendar.origin is missing: the column with the date of the origin")
        return self

    @model_validator(mode="after")
    def _patients(self) -> StudyFile:
        if self.data is not None and self.data.engine == "duckdb" and self.visits is not None:
            raise ValueError("[visits] are read in memory only: leave them out, or engine")
        if self.adam is not None:
            if self.data is not None or self.endpoints or self.phases or self.courses is not None:
                raise ValueError(
                    "[adam] has patients, endpoints and phases of its own: leave out [data], "
                    "[endpoints] and [phases] or [courses], or [adam]"
                )
            return self
        if self.phases and self.courses is not None:
            raise ValueError(
                "[courses] takes the place of [phases]: leave out one of them; a phase of one "
                "start and end is a stay"
            )
        needed = ("data", "endpoints", *(() if self.courses is not None else ("phases",)))
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"[{name}] is missing; patients in CDISC's datasets have [adam]")
        return self


class VisitScheduleSection(Section):
    """``[design.visits]``: what `bayesblina.simulate.VisitSchedule` takes."""

    # Time between two visits that are planned, from the origin on.
    every: Positive
    # Sd of a visit's distance from its planned day.
    jitter: Time = 0.0
    # Probability that a visit does not take place.
    missed: Annotated[float, Field(ge=0, lt=1)] = 0.0


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
    # Events are found at visits; and until when the phase may start.
    visits: VisitScheduleSection | None = None
    starts_until: Literal["found", "event"] | None = None

    def arguments(self) -> dict[str, Any]:
        """Give what `bayesblina.planning.StudyDesign` takes."""
        given = dict(self)
        return given | {"visits": None if self.visits is None else dict(self.visits)}


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
