"""What an analysis is asked for, and whether the patients can answer; nothing is sampled here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import validate_cuts
from bayesblina.estimands.regimes import From, Never, Regime, regime_of
from bayesblina.estimands.windows import observation, require_curves, require_held
from bayesblina.hazards.definition import ModelDefinition, require_roles
from bayesblina.hazards.parts import IllnessDeath
from bayesblina.output.result_files import require_file_names
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time.binding import bind
from bayesblina.person_time.contents import require_comparison
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.question import Question
from bayesblina.person_time.transitions import find_transitions
from bayesblina.studies.study_file import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What curves are drawn, and below which hazard ratios probabilities are asked for.

    `landmark`: the first landmark; None takes that of `bayesblina.survival`.
    `landmarks`: further landmarks; None takes the quartiles of the times at which eligible patients
    entered the exposed phase.
    `times`: times at the first landmark; None takes those of `bayesblina.survival`.
    `starts`: times from which on the exposed phase is given, a regime each besides never.
    `further`: further regimes, after those.
    `thresholds`: hazard ratios below which the posterior probability is asked for, besides 1.
    """

    landmark: float | None = None
    landmarks: tuple[float, ...] | None = None
    times: tuple[float, ...] | None = None
    starts: tuple[float, ...] = ()
    further: tuple[Regime, ...] = ()
    thresholds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could only fail after sampling."""
        if self.times == ():
            raise SpecError("times is empty: give at least one, or leave it out.")
        for threshold in self.thresholds:
            if not 0 < threshold < math.inf:
                raise SpecError(f"thresholds must be hazard ratios above 0, got {threshold!r}.")

    @property
    def regimes(self) -> tuple[Regime, ...]:
        """Regimes at the first landmark: never, then one for each start, then further ones."""
        starts: tuple[Regime, ...] = (Never(), *map(From, self.starts))
        return (*starts, *(regime for regime in self.further if regime not in starts))

    @property
    def asked_landmarks(self) -> tuple[float, ...]:
        """Landmarks that are asked for, the first one first, without 0."""
        return tuple(landmark for landmark in (self.landmark, *(self.landmarks or ())) if landmark)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What is to be analysed, checked as far as it can be before anything is sampled.

    `cohort`, `question`, `model`: the patients, who is compared, and the hazard model.
    `curves`: what curves are drawn.
    `sampling`: arguments of `bayesblina.fit`, besides these.
    `title`: heading of the results.
    `minimum_count`: smallest count that is shown; None takes the default.
    `inputs`: files that results are not written over.
    `started`: when it was asked.
    """

    cohort: Cohort | CohortScan
    question: Question
    model: ModelDefinition
    curves: Curves
    sampling: Mapping[str, Any]
    title: str
    command: str
    minimum_count: int | None = None
    inputs: tuple[Path, ...] = ()
    started: str = field(default_factory=_now)

    def __post_init__(self) -> None:
        """Refuse what could only fail after sampling."""
        cohort, question, curves = self.cohort, self.question, self.curves
        if self.sampling.get("cuts") is not None:
            validate_cuts(self.sampling["cuts"])
        if not isinstance(cohort, Cohort):
            # Who is at risk is known when the engine has added up.
            require_roles(self.model, _levels({item.name: item for item in cohort.covariates}))
            require_file_names(bind(question, cohort))
            return
        episodes = find_episodes(cohort, question)
        require_comparison(episodes, question)
        observed = observation(episodes, unit=cohort.unit)
        layout = next(iter(episodes.values())).layout
        require_curves(
            observed,
            question,
            regimes=curves.regimes,
            landmark=curves.landmark,
            times=curves.times,
            layout=layout,
        )
        for landmark in curves.landmarks or ():
            question.require_landmark(landmark)
            regimes = (Never(), From(landmark))
            require_curves(observed, question, regimes=regimes, landmark=landmark, layout=layout)
        require_roles(self.model, _levels(cohort.covariates))
        joint = self.model.endpoints
        if isinstance(joint, IllnessDeath):
            require_held(layout, self.model.name)
            find_transitions(cohort, question, death=joint.death, relapse_free=joint.relapse_free)
        require_file_names(list(episodes))


def _levels(covariates: Mapping[str, Any]) -> dict[str, Any]:
    """Take the levels of covariates that have some, by their names."""
    return {name: item.levels for name, item in covariates.items() if item.kind == "categorical"}


def request_of(
    study: Study,
    *,
    table: str | PathLike[str] | None = None,
    seed: int | None = None,
    minimum_count: int | None = None,
    command: str = "",
) -> Request:
    """Read what a study file asks for, and its patients.

    `table`: another table of patients than its own.
    `seed`, `minimum_count`: in place of the study's own.
    """
    content = study.content
    # What is wrong in the file itself is told before the patients are read.
    question, model, asked = study.question(), study.model(), content.curves.model_dump()
    further = tuple(map(regime_of, asked.pop("regimes")))
    lists = {name: tuple(value) for name, value in asked.items() if isinstance(value, list)}
    request = Request(
        cohort=study.patients(table),
        question=question,
        model=model,
        curves=Curves(**{**asked, **lists}, further=further),
        sampling=content.fit.model_dump() | ({} if seed is None else {"seed": seed}),
        title=content.title or study.path.stem,
        command=command,
        minimum_count=content.report.minimum_count if minimum_count is None else minimum_count,
        inputs=(study.path, *study.files()),
    )
    study.require_adverse_events()
    return request
