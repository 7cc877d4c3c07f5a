"""Study files: one TOML file that names the data, the question, the model and the curves."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from bayesblina.core.endpoint_order import problems_of_includes
from bayesblina.core.errors import SpecError, listed, nearest, unknown_endpoint, unknown_phase
from bayesblina.core.toml_files import no_boolean, read_toml
from bayesblina.hazards.definition import ModelDefinition, change_priors, load_model
from bayesblina.hazards.parts import Mixture, Part
from bayesblina.hazards.priors import FractionPrior, HazardRatioPrior, OddsRatioPrior, SpreadPrior
from bayesblina.hazards.schema import explain
from bayesblina.studies.axes import AXES, NONE, QUESTION_AXES
from bayesblina.studies.study_sections import (
    AdamSection,
    AdverseEventsSection,
    Name,
    Positive,
    RepairsSection,
    Section,
    Seed,
    kinds_of_covariates,
    known_recording,
)

if TYPE_CHECKING:
    from bayesblina.estimands.regimes import Regime
    from bayesblina.patients.cohort import Cohort
    from bayesblina.patients.scan import CohortScan
    from bayesblina.person_time.onsets import AdverseEvents
    from bayesblina.person_time.question import Question
    from bayesblina.studies.weighting import Weighted
    from bayesblina.studies.what_if import Scenario

Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Quantile = Annotated[float, Field(ge=0, le=1)]
# More draws, or chains, are a slip: no memory holds them, and the machine would go down first.
LONGEST, MOST_CHAINS = 1_000_000, 1000


def _start_only(value: Any) -> Any:
    """Read a phase given by one column as the table it stands for."""
    return {"start": value} if isinstance(value, str) else value


class DataSection(Section):
    """``[data]``: the table of patients, relative to the study file."""

    # The table, as for `bayesblina.read_cohort`; a path from this file's folder.
    file: Name
    patient: Name
    unit: Literal["days", "weeks", "months", "years"]
    transplant: Name | None = None
    covariates: Annotated[
        dict[str, Literal["categorical", "continuous"] | None], BeforeValidator(kinds_of_covariates)
    ] = Field(default_factory=dict)
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
    recorded: Literal["exact", "visits"] | None = None
    # Endpoints whose every event is an event of this one: ["os"] for relapse-free survival, which
    # deaths end. Patients who contradict it are refused; without it they are counted.
    includes: list[Name] = Field(default_factory=list)

    @field_validator("recorded")
    @classmethod
    def _known(cls, recorded: str | None) -> str | None:
        return known_recording(recorded)


class PhaseSection(Section):
    """A phase of ``[phases]``: its columns."""

    start: Name
    end: Name | None = None


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

    With a grace period a trial is emulated (`bayesblina.clone_censor_weight`), without one the
    marginal hazard ratio is asked for (`bayesblina.starting_weights`).
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
        names = [*self.axes, *(name for one in self.scenarios for name in one)]
        for name in names:
            if name not in AXES:
                raise ValueError(f"no axis '{name}'. {nearest(name, AXES)}")
        if not names:
            raise ValueError("name what is varied: axes, or scenarios")
        return self


class StudyFile(Section):
    """What a study file may say; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study file that was read.

    Attributes
    ----------
    path
        The file.
    content
        What it says.
    """

    path: Path
    content: StudyFile

    def cohort(self, table: str | PathLike[str] | None = None) -> Cohort:
        """Read the patients into memory."""
        return in_memory(self.patients(table))

    def patients(self, table: str | PathLike[str] | None = None) -> Cohort | CohortScan:
        """Read the patients, or scan them where the study says ``engine = "duckdb"``."""
        from bayesblina.patients.cohort import Endpoint, Phase, Phases
        from bayesblina.patients.readers import Repairs, read_cohort

        if self.content.adam is not None:
            return self.content.adam.cohort(self.path.parent, table)
        data = self.content.data
        assert data is not None  # which the file's own check requires
        kinds = {name: kind for name, kind in data.covariates.items() if kind is not None}
        if kinds and len(kinds) != len(data.covariates):  # pragma: no cover
            raise SpecError("covariates: give the kind of each, or a list of columns.")
        path = self.path.parent / data.file if table is None else table
        endpoints = {
            name: Endpoint(
                time=columns.time,
                event=columns.event,
                entry=columns.entry,
                recorded=columns.recorded,
                includes=columns.includes,
            )
            for name, columns in self.content.endpoints.items()
        }
        phases = Phases.from_dict(
            {
                name: Phase(start=columns.start, end=columns.end)
                for name, columns in self.content.phases.items()
            }
        )
        if data.engine == "duckdb":
            from bayesblina.patients.scan import scan_cohort

            return scan_cohort(
                path,
                patient=data.patient,
                unit=data.unit,
                endpoints=endpoints,
                phases=phases,
                covariates=kinds or list(data.covariates),
                transplant=data.transplant,
                synthetic=data.synthetic,
                memory_limit=data.memory_limit,
            )
        return read_cohort(
            path,
            patient=data.patient,
            unit=data.unit,
            endpoints=endpoints,
            phases=phases,
            covariates=kinds or list(data.covariates),
            transplant=data.transplant,
            repairs=None if data.repairs is None else Repairs(**data.repairs.model_dump()),
            synthetic=data.synthetic,
        )

    def files(self) -> tuple[Path, ...]:
        """Name the files with patients: that of one row each comes first."""
        content = self.content
        names = [] if content.data is None else [content.data.file]
        if content.adam is not None:
            names += content.adam.files()
        if content.adverse_events is not None:
            names += content.adverse_events.files()
        if content.weighting is not None and content.weighting.history is not None:
            names.append(content.weighting.history.file)
        return tuple(self.path.parent / name for name in names)

    def require_adverse_events(self) -> None:
        """Check that the table of adverse events is there, with its columns, if one is named."""
        section = self.content.adverse_events
        if section is not None:
            section.require(self.path.parent)

    def adverse_events(self, cohort: Cohort | CohortScan) -> AdverseEvents | None:
        """Read the adverse events, by phase.

        None if the study names no table of them.
        """
        section = self.content.adverse_events
        if section is None:
            return None
        asked = self.content.question
        return section.events(
            self.path.parent,
            in_memory(cohort),
            phase_end=asked.phase_end,
            transplant=asked.transplant,
        )

    def weighted(self, cohort: Cohort | CohortScan) -> dict[str, Weighted]:
        """Weight follow-up as the study's weighting section says."""
        from bayesblina.patients.readers import read_history
        from bayesblina.studies.weighting import clone_censor_weight, starting_weights

        section = self.content.weighting
        if section is None:
            raise SpecError(
                f"'{self.path}' has no section [weighting], which says what is weighted."
            )
        cohort = in_memory(cohort)
        question = self.question()
        asked = section.endpoints or question.endpoints or tuple(cohort.endpoints)
        how: dict[str, Any] = {"confounders": section.confounders, "cuts": section.cuts}
        if section.truncate is not None:
            how["truncate"] = tuple(section.truncate)
        if section.history is not None:
            given = section.history
            how["history"] = read_history(
                self.path.parent / given.file,
                patient=given.patient,
                time=given.time,
                covariates=given.covariates,
            )
        grace = section.grace
        return {
            name: starting_weights(cohort, question, endpoint=name, **how)
            if grace is None
            else clone_censor_weight(cohort, question, endpoint=name, grace=grace, **how)
            for name in dict.fromkeys(asked)
        }

    def question(self) -> Question:
        """Make the question."""
        from bayesblina.person_time.question import Question

        content = self.content.question.model_dump()
        if content["endpoints"] is not None:
            content["endpoints"] = tuple(content["endpoints"])
        return Question(**content)

    def model(self) -> ModelDefinition:
        """Load the model, with the study's priors."""
        section = self.content.model
        if section.file is not None:
            if not section.file.endswith(".toml"):
                raise SpecError(f"model.file: expected a .toml file, got '{section.file}'.")
            model = load_model(self.path.parent / section.file)
        else:
            model = load_model(section.name or "primary")
        model = model.with_covariates(
            stratum=section.stratum,
            subgroup=section.subgroup,
            group=section.group,
            source=section.source,
        )
        if section.covers is not None:
            model = model.with_borrowing(covers=section.covers)
        return change_priors(model, self.priors(), where="model.priors.")

    def priors(self) -> dict[str, Any]:
        """Give the study's own priors."""
        section = self.content.model.priors
        given = {name: getattr(section, name) for name in type(section).model_fields}
        return {name: prior for name, prior in given.items() if prior is not None}

    def scenarios(self, cohort: Cohort) -> tuple[Scenario, ...]:
        """Lay out the scenarios of the study's sensitivity section, the study itself first."""
        from bayesblina.studies.what_if import scenarios

        section = self.content.sensitivity
        if section is None:
            raise SpecError(
                f"'{self.path}' has no section [sensitivity], which says what is varied."
            )
        fit = self.content.fit
        if fit.phase_cuts is not None:
            raise SpecError(
                "fit.phase_cuts cannot be held in a study of sensitivity: leave it out."
            )

        def read(name: str, value: Any) -> Any:
            if value == NONE and name in QUESTION_AXES:
                return None
            return tuple(value) if name == "endpoints" and isinstance(value, list) else value

        return scenarios(
            cohort,
            self.question(),
            {name: [read(name, one) for one in values] for name, values in section.axes.items()},
            model=self.model(),
            cuts=fit.cuts,
            design=section.design,
            explicit=[
                {name: read(name, value) for name, value in one.items()}
                for one in section.scenarios
            ],
            invalid=section.invalid,
        )

    def regimes(self) -> tuple[Regime, ...]:
        """Name the regimes to draw curves for.

        Never, then one for each of the study's starts.
        """
        from bayesblina.estimands.regimes import From, Never

        return (Never(), *(From(start) for start in self.content.curves.starts))


def in_memory(cohort: Cohort | CohortScan) -> Cohort:
    """Require patients in memory."""
    from bayesblina.patients.cohort import Cohort

    if not isinstance(cohort, Cohort):
        raise SpecError(
            'This looks at single patients: leave engine = "duckdb" out of [data], so that they '
            "are read into memory."
        )
    return cohort


def read_study(path: str | PathLike[str]) -> Study:
    """Read and check a study file; the data are not touched yet.

    Examples
    --------
    >>> read_study("no_such_study.toml")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: No study file 'no_such_study.toml'.
    """
    path = Path(path)
    content = read_toml(path, what="study file")
    try:
        study = Study(path=path, content=StudyFile.model_validate(content))
    except ValidationError as error:
        raise SpecError(explain(error, StudyFile, source=path.name)) from None
    problems = [f"question.{problem}" for problem in _unknown_names(study.content)]
    problems += _unknown_inclusions(study.content)
    if problems:
        raise SpecError(listed(problems, source=path.name))
    return study


def _unknown_inclusions(content: StudyFile) -> list[str]:
    """Find endpoints that are said to include what they cannot."""
    where, endpoints = "", {name: tuple(one.includes) for name, one in content.endpoints.items()}
    if content.adam is not None:
        where = "adam."
        endpoints = {name: tuple(one.includes) for name, one in content.adam.endpoints.items()}
    return [f"{where}{problem}" for problem in problems_of_includes(endpoints)]


def _unknown_names(content: StudyFile) -> list[str]:
    """Find phases and endpoints of the question that the file itself does not declare."""
    if content.adam is not None:
        # The datasets may bring phases of their own.
        return []
    asked, phases, endpoints = content.question, content.phases, content.endpoints
    named = [("exposed", asked.exposed), ("reference", asked.reference)]
    # The name that stands for entry into the study, and is no phase.
    named += [] if asked.eligible_from == "entry" else [("eligible_from", asked.eligible_from)]
    problems = [
        unknown_phase(role, name, phases)
        for role, name in named
        if name is not None and name not in phases
    ]
    unknown = [name for name in asked.endpoints or () if name not in endpoints]
    return problems + [unknown_endpoint(name, endpoints) for name in unknown]
