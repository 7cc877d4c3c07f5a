"""Scenarios: one analysis each, from a base case and the axes along which it is varied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain, product
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from bayesblina.core.arrays import Bools
from bayesblina.core.courses import STEPPED
from bayesblina.core.errors import (
    BayesblinaError,
    SpecError,
    nearest,
    require_choice,
    require_kind,
)
from bayesblina.core.intervals import default_cuts
from bayesblina.hazards.definition import ModelDefinition, change_priors, load_model
from bayesblina.hazards.effects import make_design
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.pieces import with_treatment_of
from bayesblina.patients.subsets import take_patients
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.contents import require_comparison
from bayesblina.person_time.follow_up import entry_times, find_episodes
from bayesblina.person_time.question import Question
from bayesblina.studies.axes import AXES, BASE, CUT_AXES, PRIOR_AXES, QUESTION_AXES
from bayesblina.studies.what_if.patients import bridge, grant_grace, move_starts, move_visits
from bayesblina.studies.what_if.settings import READ, _cut_points

BASE_LABEL = "base case"

Design = Literal["full", "one_at_a_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One analysis: a question, a model, cut points, and whose data.

    Attributes
    ----------
    question
        The question.
    model
        The hazard model, with its priors.
    cuts : tuple of float, or None
        Inner cut points; None for the default ones.
    intervals
        Into how many parts the default cuts share the events, beside the cuts where patients enter
        states; None for the default number.
    covariates : tuple of str, or None
        Covariates in the model; None for all of the cohort's.
    only, without : (str, str), or None
        A covariate and the level of it to which patients are restricted, or which is left out.
    phase_shift
        Every start of the exposed phase is moved by so much time.
    phase_jitter
        Every start of the exposed phase is moved by a normal error with this sd.
    bridge : float, or None
        Gaps of up to this length between stays in the same phase are none; None for the cohort's
        own gaps.
    grace : float, or None
        Patients count as in a phase for so long after each of its stays; None as in the cohort.
    visit_jitter
        Every last visit without an event that is found at visits is moved by a normal error with
        this sd.
    settings : tuple of (str, str)
        Axes that were varied, each with its setting in words.
    """

    question: Question
    model: ModelDefinition
    cuts: tuple[float, ...] | None = None
    intervals: int | None = None
    covariates: tuple[str, ...] | None = None
    only: tuple[str, str] | None = None
    without: tuple[str, str] | None = None
    phase_shift: float = 0.0
    phase_jitter: float = 0.0
    bridge: float | None = None
    grace: float | None = None
    visit_jitter: float = 0.0
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """What differs from the base case, in words."""
        varied = [f"{axis} = {value}" for axis, value in self.settings if value != BASE]
        return "; ".join(varied) or BASE_LABEL

    @property
    def key(self) -> str:
        """Hash of everything that decides the result: equal analyses have equal keys."""
        content = {item.name: getattr(self, item.name) for item in fields(self)} | {
            "question": _content(self.question),
            "model": self.model.model_dump(mode="json", by_alias=True),
        }
        del content["settings"]
        for name in ("bridge", "grace"):
            if content[name] is None:
                del content[name]
        if not self.visit_jitter:
            del content["visit_jitter"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def seed(self, base: int) -> int:
        """Seed of the scenario's draws, from its content alone.

        Parameters
        ----------
        base
            Seed of the whole study.

        Returns
        -------
        int
            From 0 to 2^31 - 1.
        """
        digest = hashlib.sha256(f"{base} {self.key}".encode()).digest()
        return int.from_bytes(digest[:4], "big") % 2**31

    def person_time(self, cohort: Cohort, *, seed: int) -> PersonTime:
        """Sum the scenario's events and person-time.

        Parameters
        ----------
        cohort
            The patients of the base case.
        seed
            Seed of the study; only errors of phase starts depend on it.

        Returns
        -------
        PersonTime
            Events and person-time, as the model needs them.

        Raises
        ------
        BayesblinaError
            If the scenario cannot be asked of the cohort.
        """
        patients, cuts = self.cohort(cohort, seed=seed), self.cuts
        if self.intervals is not None:
            cuts = _placed_cuts(patients, self.question, self.intervals)
        return person_time_for(self.model, patients, self.question, cuts=cuts)

    def cohort(self, cohort: Cohort, *, seed: int) -> Cohort:
        """Take the scenario's patients, with the scenario's covariates and phase starts.

        Parameters
        ----------
        cohort
            The patients of the base case.
        seed
            Seed of the study; only errors of phase starts depend on it.

        Returns
        -------
        Cohort
            The patients.

        Raises
        ------
        SpecError
            If there is no such covariate or level, or nobody is left.
        """
        keep = np.ones(cohort.size, dtype=bool)
        for pair, inside in ((self.only, True), (self.without, False)):
            if pair is not None:
                keep &= _has_level(cohort, *pair) == inside
        if not keep.any():
            raise SpecError("No patient is left.")
        for name in self.covariates or ():
            if name not in cohort.covariates:
                raise SpecError(f"No covariate '{name}'. {nearest(name, list(cohort.covariates))}")
        changed = cohort
        moved = self.bridge is not None or self.grace is not None
        if moved or self.phase_shift or self.phase_jitter:
            # Of whole patients: what is moved in one row of a patient is moved in all.
            changed = with_treatment_of(cohort, self._treated(cohort.whole(), seed=seed))
        if self.visit_jitter:
            changed = move_visits(changed, jitter=self.visit_jitter, seed=seed)
        changed = take_patients(changed, keep)
        if self.covariates is not None:
            changed = replace(
                changed, covariates={name: changed.covariates[name] for name in self.covariates}
            )
        return changed if changed is cohort else replace(changed, repairs=(), exclusions=())

    def _treated(self, whole: Cohort, *, seed: int) -> Cohort:
        """Give patients the scenario's phases, before any are left out.

        A patient's error does not depend on others.
        """
        changed = whole if self.bridge is None else bridge(whole, self.bridge)
        if self.phase_shift or self.phase_jitter:
            changed = move_starts(
                changed,
                self.question.exposed_phases,
                shift=self.phase_shift,
                jitter=self.phase_jitter,
                seed=seed,
            )
        return changed if self.grace is None else grant_grace(changed, self.grace)


# Attributes that questions did not always have, and what they are where they say nothing.
_LATER: Mapping[str, Any] = {
    "measure": None,
    "steps": None,
    "amount": "time",
    "starts_until": None,
}


def _content(question: Question) -> dict[str, Any]:
    """List what decides an answer; a question without measures is listed as before there were any.

    What `phase_end` is short for, is the same question.
    """
    content = asdict(question)
    if question.measure in ("current", "ever"):
        content |= {"measure": None, "phase_end": question.measure}
    for name, usual in _LATER.items():
        if content[name] == usual:
            del content[name]
    return content


def _levels(cohort: Cohort, name: str, refusal: str = "No") -> tuple[str, ...]:
    """Look up the levels of a categorical covariate."""
    covariate = cohort.covariates.get(name)
    if covariate is None or covariate.kind != "categorical":
        known = [key for key, own in cohort.covariates.items() if own.kind == "categorical"]
        raise SpecError(f"{refusal} categorical covariate '{name}'. {nearest(name, known)}")
    return covariate.levels


def _has_level(cohort: Cohort, name: str, level: str) -> Bools:
    levels = _levels(cohort, name)
    if level not in levels:
        raise SpecError(f"{name} has no level '{level}'. {nearest(level, list(levels))}")
    return np.asarray(cohort.covariates[name].values == levels.index(level))


def _placed_cuts(cohort: Cohort, question: Question, parts: int) -> tuple[float, ...]:
    """Place the default cuts, with the events shared into another number of parts."""
    episodes = {name: own.as_found() for name, own in find_episodes(cohort, question).items()}
    require_comparison(episodes, question)
    # Within a gap between visits nothing tells hazards apart, whoever enters a state in it.
    visited = question.starts_until is not None
    cuts = default_cuts(
        np.concatenate([own.stop[own.event] for own in episodes.values()]),
        entry_times=() if visited else entry_times(episodes, question),
        parts=parts,
    )
    return tuple(cuts.tolist())


def scenarios(
    cohort: Cohort,
    question: Question,
    axes: Mapping[str, Sequence[Any]] | None = None,
    *,
    model: str | ModelDefinition = "primary",
    cuts: Sequence[float] | None = None,
    design: Design = "one_at_a_time",
    explicit: Sequence[Mapping[str, Any]] = (),
    invalid: Literal["raise", "row"] = "raise",
) -> tuple[Scenario, ...]:
    """Lay out scenarios around a base case, and check that each can be asked.

    Parameters
    ----------
    cohort, question, model, cuts
        The base case.
    axes
        By axis the settings to try besides the base case's own. Axes are the question's attributes
        (``landmark``, ``lag``, ``transplant``, ``phase_end``, ``eligible_from``, ``reference``,
        ``endpoints``, ``exposed``, ``measure``, ``steps``, ``amount``; a measure that has steps
        needs a model that has them, too); ``intervals`` (into how many parts the default cuts share
        the events) and
        ``cuts`` (lists of cut points), both part of the prior of the baseline; ``model``
        (names or definitions); ``prior.NAME`` (intervals that hold 95 % of the prior, NAME as in
        `ModelDefinition.with_priors`); ``covariates`` (lists of names), ``only`` and ``without``
        (pairs of a covariate and a level; ``without`` a covariate alone is each of its levels in
        turn); ``phase_shift`` and ``phase_jitter`` (times by which starts of the exposed phase
        are moved, all alike or at random); ``bridge`` (gaps of up to so much between stays in
        one phase are none: as of `Courses`, for gaps in which few events come) and ``grace`` (for
        so long after a stay patients count as in it); and, of events found at visits,
        ``starts_until`` and ``visit_jitter`` (times by which last visits without the event are
        moved at random).
    design
        ``"one_at_a_time"``: each setting alone. ``"full"``: all combinations.
    explicit
        Further scenarios, each a mapping from axes to settings.
    invalid
        What happens to scenarios that cannot be asked: ``"raise"`` names them all, before anything
        runs; ``"row"`` keeps them, to become rows with their reason.

    Returns
    -------
    tuple of Scenario
        The base case first; analyses that are equal appear once.

    Raises
    ------
    SpecError
        If an axis is unknown, a setting is impossible, or scenarios cannot be asked.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> what_if = bb.scenarios(cohort, question, {"lag": [1.0], "transplant": ["ignore"]})
    >>> [one.label for one in what_if]
    ['base case', 'lag = 1', 'transplant = ignore']
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    require_choice(design, ("full", "one_at_a_time"), "design")
    require_choice(invalid, ("raise", "row"), "invalid")
    expanded = {name: _settings(cohort, name, values) for name, values in (axes or {}).items()}
    named = list(dict.fromkeys(chain(expanded, *explicit)))
    for name in named:
        if name not in AXES:
            raise SpecError(f"No axis '{name}'. {nearest(name, AXES)}")
    base = Scenario(
        question=question,
        model=_loaded(model),
        cuts=None if cuts is None else _cut_points(cuts),
    )
    wanted: list[dict[str, Any]] = [{}]
    if design == "full":
        choices = [[{}, *({name: value} for value in values)] for name, values in expanded.items()]
        wanted += [
            {name: value for setting in row for name, value in setting.items()}
            for row in product(*choices)
        ]
    else:
        wanted += [{name: value} for name, values in expanded.items() for value in values]
    wanted += [dict(mapping) for mapping in explicit]
    laid_out: dict[str, Scenario] = {}
    problems: list[str] = []
    for mapping in wanted:
        words = {name: _setting_in_words(name, value) for name, value in mapping.items()}
        label = "; ".join(f"{name} = {value}" for name, value in words.items()) or BASE_LABEL
        try:
            settings = tuple((name, words.get(name, BASE)) for name in named)
            scenario = replace(_varied(base, mapping), settings=settings)
            if cohort.stays is not None and scenario.bridge == cohort.stays.bridged:
                scenario = replace(scenario, bridge=None)
            if cohort.stays is not None and scenario.grace == cohort.stays.grace:
                scenario = replace(scenario, grace=None)
        except (BayesblinaError, ValueError, TypeError, KeyError) as error:
            problems.append(f"{label}: {_first_line(error)}")
            continue
        if scenario.key in laid_out:
            continue
        laid_out[scenario.key] = scenario
        if invalid == "raise":
            try:
                make_design(scenario.person_time(cohort, seed=0), scenario.model)
            except BayesblinaError as error:
                problems.append(f"{label}: {_first_line(error)}")
    if problems:
        raise SpecError(
            f"{len(problems)} of {len(wanted)} scenarios cannot be asked:\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )
    return tuple(laid_out.values())


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])


def worded(value: Any) -> str:
    """Put a setting into words.

    >>> worded((0.5, 2.0)), worded(None)
    ('0.5 to 2', 'none')
    """
    match value:
        case None | []:
            return "none"
        case ModelDefinition():
            return value.name
        case BaseModel():
            return worded(value.model_dump(exclude_defaults=True))
        case Mapping():
            return ", ".join(f"{key} {worded(part)}" for key, part in value.items())
        case int() | float() | np.integer() | np.floating() if not isinstance(value, bool):
            return f"{value:g}"
        case [int() | float() as lower, int() | float() as upper]:
            return f"{lower:g} to {upper:g}"
        case list() | tuple():
            return ", ".join(map(worded, value))
        case _:
            return str(value)


def _setting_in_words(axis: str, value: Any) -> str:
    """Put a setting of an axis into words: two steps are no interval."""
    if axis == "steps" and isinstance(value, list | tuple):
        return ", ".join(map(worded, value))
    return worded(value)


def _settings(cohort: Cohort, name: str, values: Any) -> list[Any]:
    """List the settings of one axis; a covariate alone stands for each of its levels."""
    if isinstance(values, str) or not isinstance(values, list | tuple):
        raise SpecError(f"{name}: give a list of settings, got {values!r}.")
    settings: list[Any] = []
    for value in values:
        if name in ("only", "without") and isinstance(value, str):
            settings += [(value, level) for level in _levels(cohort, value, f"{name}: no")]
        else:
            settings.append(value)
    return settings


def _varied(base: Scenario, mapping: Mapping[str, Any]) -> Scenario:
    """Apply settings to the base case; the model first, so that priors go into it."""
    varied = base
    if "model" in mapping:
        definition = _loaded(mapping["model"])
        roles = base.model.roles.items()
        known = {role: name for role, name in roles if name and role in definition.roles}
        varied = replace(varied, model=definition.with_covariates(**known))
    asked = {name: value for name, value in mapping.items() if name in QUESTION_AXES}
    if asked:
        varied = replace(varied, question=_asked(varied.question, asked))
    for name, value in mapping.items():
        if name in PRIOR_AXES:
            prior = {name.removeprefix("prior."): value}
            varied = replace(varied, model=change_priors(varied.model, prior, where="prior."))
        elif name in READ:
            # Cut points are given, or placed: what was said before of them does not hold.
            afresh = dict.fromkeys(CUT_AXES) if name in CUT_AXES else {}
            varied = replace(varied, **{**afresh, name: READ[name](value)})
    return varied


def _asked(question: Question, asked: Mapping[str, Any]) -> Question:
    """Vary a question; what another measure does not have is dropped with the measure."""
    given = dict(asked)
    if given.get("measure") is not None:
        given.setdefault("phase_end", None)
        if given["measure"] not in STEPPED or given["measure"] != question.measure:
            given.setdefault("steps", None)
        if given["measure"] != "cumulative":
            given.setdefault("amount", "time")
    elif given.get("phase_end") is not None:
        if question.stepped:
            raise SpecError(
                f"phase_end is short for measure='ever' or 'current', and the question has measure="
                f"'{question.measure}': vary measure."
            )
        given.setdefault("measure", None)
    return replace(question, **given)


def _loaded(model: str | ModelDefinition) -> ModelDefinition:
    return model if isinstance(model, ModelDefinition) else load_model(model)
