"""Study and design files: read, checked, and made into what they name.

A study file is one TOML file that names the data, the question, the model and the curves; a design
file names a study that is planned, and what is asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bayesblina.core.endpoint_order import problems_of_includes
from bayesblina.core.errors import DataError, SpecError, listed, unknown_endpoint, unknown_phase
from bayesblina.core.files import read_toml
from bayesblina.hazards.definition import ModelDefinition, change_priors, load_model
from bayesblina.hazards.priors import explain
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import (
    NO_VISITS,
    Courses,
    Endpoint,
    Phase,
    Phases,
    recorded_at_visits,
)
from bayesblina.patients.readers import (
    AdamCourses,
    AdamEndpoint,
    Repairs,
    read_adam,
    read_cohort,
    read_history,
)
from bayesblina.patients.readers.columns import CovariateKind
from bayesblina.patients.readers.sources import load_table, missing_columns
from bayesblina.patients.scan import CohortScan, scan_cohort
from bayesblina.patients.visits import Visits
from bayesblina.person_time.onsets import AdverseEvents, adverse_events
from bayesblina.person_time.question import Question
from bayesblina.studies import weighting, what_if
from bayesblina.studies.axes import NONE, QUESTION_AXES
from bayesblina.studies.study_sections import DesignFile, StudyFile
from bayesblina.studies.table_sections import Covariates, Section

# Keys of sections that name files with patients.
FILES = ("file", "adsl", "adtte", "adex", "origins")


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study file that was read."""

    path: Path
    content: StudyFile

    def cohort(self, table: str | PathLike[str] | None = None) -> Cohort:
        """Read the patients into memory."""
        return in_memory(self.patients(table))

    def patients(self, table: str | PathLike[str] | None = None) -> Cohort | CohortScan:
        """Read the patients, or scan them where the study says ``engine = "duckdb"``."""
        data, adam, folder = self.content.data, self.content.adam, self.path.parent
        calendar = None if self.content.calendar is None else self.content.calendar.calendar()
        if adam is not None:
            return read_adam(
                folder / adam.adsl if table is None else table,
                folder / adam.adtte,
                None if adam.adex is None else folder / adam.adex,
                endpoints={
                    name: AdamEndpoint(**endpoint.model_dump())
                    for name, endpoint in adam.endpoints.items()
                },
                unit=adam.unit,
                origin=adam.origin,
                phases=adam.phases
                if adam.courses is None
                else AdamCourses(**adam.courses.model_dump()),
                cycle=adam.cycle,
                covariates=_named_covariates(adam.covariates),
                population=adam.population,
                filters=adam.filters,
                transplant=adam.transplant,
                value=adam.value,
                value_unit=adam.value_unit,
                same_day=adam.same_day,
                date_format=adam.date_format,
                zero_doses=adam.zero_doses,
                visits=self._visits(),
                repairs=None if adam.repairs is None else Repairs(**adam.repairs.model_dump()),
                synthetic=adam.synthetic,
                calendar=calendar,
            )
        assert data is not None  # which the file's own check requires
        covariates = _named_covariates(data.covariates)
        path = folder / data.file if table is None else table
        endpoints = {
            name: Endpoint(**columns.model_dump())
            for name, columns in self.content.endpoints.items()
        }
        phases = self._phases()
        if data.engine == "duckdb":
            return scan_cohort(
                path,
                patient=data.patient,
                unit=data.unit,
                endpoints=endpoints,
                phases=phases,
                covariates=covariates,
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
            covariates=covariates,
            transplant=data.transplant,
            visits=self._visits(),
            repairs=None if data.repairs is None else Repairs(**data.repairs.model_dump()),
            synthetic=data.synthetic,
            calendar=calendar,
            date_format=data.date_format,
        )

    def _phases(self) -> Phases | Courses:
        """Take the columns of phases, or the table of stays."""
        courses = self.content.courses
        if courses is not None:
            table = self.path.parent / courses.file
            return Courses(table=table, **courses.model_dump(exclude={"file"}))
        named = self.content.phases.items()
        return Phases.from_dict({name: Phase(**columns.model_dump()) for name, columns in named})

    def _visits(self) -> Visits | None:
        """Take the table of visits."""
        visits = self.content.visits
        if visits is None:
            return None
        return Visits(self.path.parent / visits.file, **visits.model_dump(exclude={"file"}))

    def files(self) -> tuple[Path, ...]:
        """Name the files with patients: that of one row each comes first."""
        content = self.content
        history = None if content.weighting is None else content.weighting.history
        tables = (content.data, content.courses, content.adam, content.visits)
        sections = (*tables, content.adverse_events, history)
        names = [getattr(section, key, None) for section in sections for key in FILES]
        return tuple(self.path.parent / name for name in names if name is not None)

    def require_adverse_events(self) -> None:
        """Check that the table of adverse events is there, with its columns, if one is named."""
        section = self.content.adverse_events
        if section is None:
            return
        own = [section.patient, section.term, section.start, *section.flags, section.grade]
        if section.origins is None:
            tables = {section.file: [*own, section.origin]}
        else:
            tables = {section.file: own, section.origins: [section.patient, section.origin]}
        for name, columns in tables.items():
            frame, source = load_table(self.path.parent / name)
            problems = missing_columns(frame, [column for column in columns if column is not None])
            if problems:
                raise DataError(problems, source=source)

    def adverse_events(self, cohort: Cohort | CohortScan) -> AdverseEvents | None:
        """Read the adverse events, by phase.

        None if the study names no table of them. What happens at the end of a phase and at a
        transplant is said in ``[question]``.
        """
        section, folder = self.content.adverse_events, self.path.parent
        if section is None:
            return None
        return adverse_events(
            folder / section.file,
            in_memory(cohort),
            patient=section.patient,
            term=section.term,
            start=section.start,
            counted=section.counted,
            origin=section.origin,
            origins=None if section.origins is None else folder / section.origins,
            date_format=section.date_format,
            partial_dates=section.partial_dates,
            grade=section.grade,
            minimum_grade=section.minimum_grade,
            flags=section.flags,
            leave_out=section.leave_out,
            endpoint=section.endpoint,
            phase_end=self.question().state_at_end,
            transplant=self.content.question.transplant,
        )

    def weighted(self, cohort: Cohort | CohortScan) -> dict[str, weighting.Weighted]:
        """Weight follow-up as the study's weighting section says."""
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
            how["history"] = read_history(
                self.path.parent / section.history.file,
                **section.history.model_dump(exclude={"file"}),
            )
        grace = section.grace
        return {
            name: weighting.starting_weights(cohort, question, endpoint=name, **how)
            if grace is None
            else weighting.clone_censor_weight(cohort, question, endpoint=name, grace=grace, **how)
            for name in dict.fromkeys(asked)
        }

    def question(self) -> Question:
        """Make the question."""
        asked = self.content.question
        endpoints = None if asked.endpoints is None else tuple(asked.endpoints)
        return Question(**asked.model_dump(exclude={"endpoints"}), endpoints=endpoints)

    def model(self) -> ModelDefinition:
        """Load the model, with the study's priors."""
        section = self.content.model
        if section.file is not None and not section.file.endswith(".toml"):
            raise SpecError(f"model.file: expected a .toml file, got '{section.file}'.")
        file = None if section.file is None else self.path.parent / section.file
        model = load_model(file or section.name or "primary").with_covariates(
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
        return {name: prior for name, prior in self.content.model.priors if prior is not None}

    def scenarios(self, cohort: Cohort) -> tuple[what_if.Scenario, ...]:
        """Lay out the scenarios of the study's sensitivity section, the study itself first."""
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

        return what_if.scenarios(
            cohort,
            self.question(),
            {name: [read(name, each) for each in values] for name, values in section.axes.items()},
            model=self.model(),
            cuts=fit.cuts,
            design=section.design,
            explicit=[
                {name: read(name, value) for name, value in settings.items()}
                for settings in section.scenarios
            ],
            invalid=section.invalid,
        )


def _named_covariates(covariates: Covariates) -> list[str] | dict[str, CovariateKind]:
    """Take covariates as readers do: all with their kinds, or a list of columns."""
    return {name: kind for name, kind in covariates.items() if kind} or list(covariates)


def in_memory(cohort: Cohort | CohortScan) -> Cohort:
    """Require patients in memory."""
    if not isinstance(cohort, Cohort):
        raise SpecError(
            "This looks at single patients: read them into memory, with read_cohort in place of "
            'scan_cohort (in a study file: leave engine = "duckdb" out of [data]).'
        )
    return cohort


def read_study(path: str | PathLike[str]) -> Study:
    """Read and check a study file; the data are not touched yet.

    >>> read_study("no_such_study.toml")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: No study file 'no_such_study.toml'.
    """
    content = _read(Path(path), StudyFile, what="study file")
    problems = [f"question.{problem}" for problem in _unknown_names(content)]
    problems += [*_unknown_inclusions(content), *_unknown_visits(content)]
    if problems:
        raise SpecError(listed(problems, source=Path(path).name))
    return Study(path=Path(path), content=content)


def read_design(path: str | PathLike[str]) -> DesignFile:
    """Read a design file."""
    return _read(Path(path), DesignFile, what="design file")


def _read[Content: Section](path: Path, schema: type[Content], *, what: str) -> Content:
    try:
        return schema.model_validate(read_toml(path, what=what))
    except ValidationError as error:
        raise SpecError(explain(error, schema, source=path.name)) from None


def _unknown_inclusions(content: StudyFile) -> list[str]:
    """Find endpoints that are said to include what they cannot."""
    where, endpoints = (
        ("adam.", content.adam.endpoints) if content.adam else ("", content.endpoints)
    )
    included = {name: tuple(endpoint.includes) for name, endpoint in endpoints.items()}
    return [f"{where}{problem}" for problem in problems_of_includes(included)]


def _unknown_visits(content: StudyFile) -> list[str]:
    """Find endpoints that say too little, or too much, of the visits at which events are found."""
    where, endpoints = (
        ("adam.", content.adam.endpoints) if content.adam else ("", content.endpoints)
    )
    problems, waiting = [], False
    for name, endpoint in endpoints.items():
        try:
            recorded = recorded_at_visits(
                endpoint.recorded, endpoint.last_negative, endpoint.event_free_until
            )
        except SpecError as error:
            problems.append(f"{where}endpoints.{name}: {error}")
            continue
        if recorded == "visits" and endpoint.last_negative is None:
            waiting = True
            if content.visits is None:
                problems.append(f"{where}endpoints.{name}: {NO_VISITS}, [visits] here.")
    if content.visits is not None and not waiting:
        problems.append(
            "visits: no endpoint waits for them; say recorded = 'visits' of those whose events are "
            "found at visits, and leave last_negative out."
        )
    return problems


def _unknown_names(content: StudyFile) -> list[str]:
    """Find phases and endpoints of the question that the file itself does not declare."""
    if content.adam is not None:
        # The datasets may bring phases of their own.
        return []
    asked, endpoints, courses = content.question, content.endpoints, content.courses
    phases = list(content.phases)
    if courses is not None:
        phases = list(courses.phases)
        # Combinations are phases of their own.
        phases += courses.overlap.values() if isinstance(courses.overlap, dict) else ()
    exposed = [asked.exposed] if isinstance(asked.exposed, str) else asked.exposed
    named = [*(("exposed", name) for name in exposed), ("reference", asked.reference)]
    # The name that stands for entry into the study is no phase.
    named += [] if asked.eligible_from == "entry" else [("eligible_from", asked.eligible_from)]
    problems = [
        unknown_phase(role, name, phases)
        for role, name in named
        if name is not None and name not in phases
    ]
    unknown = [name for name in asked.endpoints or () if name not in endpoints]
    return problems + [unknown_endpoint(name, endpoints) for name in unknown]
