"""Whether a question can be asked of patients, wherever they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from bayesblina.core.episodes import OFF_TREATMENT
from bayesblina.core.errors import (
    SpecError,
    require_kind,
    unknown_endpoint,
    unknown_phase,
)
from bayesblina.person_time.question import ENTRY, STARTS_UNTIL, Question


@runtime_checkable
class Enrolled(Protocol):
    """What a question needs to know of patients, wherever they are."""

    @property
    def unit(self) -> str:
        """Time unit."""
        ...

    @property
    def phases(self) -> tuple[str, ...]:
        """Phase names in order."""
        ...

    @property
    def phase_ends_known(self) -> bool:
        """Whether any phase has an end column."""
        ...

    @property
    def recurring(self) -> bool:
        """Whether patients are known by stays, so that phases may recur."""
        ...

    @property
    def ordered(self) -> bool:
        """Whether phases come in the order given."""
        ...

    @property
    def combinations(self) -> Mapping[str, tuple[str, ...]]:
        """Phases that overlapping stays were in, by the name of their combination."""
        ...

    @property
    def doses_known(self) -> bool:
        """Whether it is known how much was given in each stay."""
        ...

    @property
    def endpoints(self) -> Mapping[str, object]:
        """Endpoints by name."""
        ...

    @property
    def transplant(self) -> object:
        """Times of transplants; None if nothing is known of them."""
        ...


def at_visits(endpoint: object) -> bool:
    """Whether an endpoint's events are recorded at visits."""
    return getattr(endpoint, "recorded", None) == "visits"


def _require_mechanism(question: Question, visited: Sequence[str]) -> None:
    """Refuse events found at visits without what must be said of them."""
    if not visited:
        if question.starts_until is not None:
            raise SpecError(
                "starts_until is for endpoints whose events are recorded at visits, and none here "
                "is: leave it out, or declare recorded='visits'."
            )
        return
    if question.starts_until is None:
        choices = ", or ".join(f"'{name}' if {what}" for name, what in STARTS_UNTIL.items())
        raise SpecError(
            f"Events of {', '.join(visited)} are found at visits: say until when phases may start, "
            f"with Question(starts_until={choices}. The data cannot tell, and the answers differ."
        )
    if question.transplant == "censor":
        raise SpecError(
            f"Events of {', '.join(visited)} are found at visits, and one that is found after a "
            "transplant may have happened before it: whom a transplant censors would depend on "
            "what comes later. Ask with transplant='phase', a state of its own, or 'ignore'."
        )
    if question.landmark is not None:
        raise SpecError(
            f"Events of {', '.join(visited)} are found at visits, so that nobody knows who is "
            "event-free at a landmark between them: leave the Question's landmark out."
        )


def bind(question: Question, cohort: Enrolled) -> tuple[str, ...]:
    """Check that a question can be asked of a cohort."""
    require_kind(cohort, Enrolled, "cohort")
    require_kind(question, Question, "question")
    if not cohort.phases:
        raise SpecError(
            f"exposed: the cohort has no phase '{question.exposure}', since it was read without "
            "phases: name them with phases=, where the patients are read. Everybody together, or "
            "by a covariate, is described by kaplan_meier and nelson_aalen, which need no Question."
        )
    for role, name in (
        *(("exposed", name) for name in question.exposed_phases),
        ("reference", question.reference),
        ("eligible_from", None if question.eligible_from == ENTRY else question.eligible_from),
    ):
        if name is None or name in cohort.phases:
            continue
        if role == "reference" and (name == OFF_TREATMENT or name.startswith("before ")):
            raise SpecError(
                f"reference: '{name}' is a state and no phase: leave reference out, and all "
                f"eligible time that is not in {question.exposure} is the reference, before it and "
                "off treatment. To hold it against such time alone, give that rows of its own "
                "where stays are read, as a phase of another name."
            )
        raise SpecError(unknown_phase(role, name, cohort.phases))
    if question.eligible_from != ENTRY and not cohort.recurring:
        order = cohort.phases.index
        if question.reference is not None and order(question.reference) < order(
            question.eligible_from
        ):
            raise SpecError(
                f"reference '{question.reference}' comes before eligible_from "
                f"'{question.eligible_from}': nobody eligible is ever in it."
            )
    names = tuple(cohort.endpoints) if question.endpoints is None else question.endpoints
    for name in names:
        if name not in cohort.endpoints:
            raise SpecError(unknown_endpoint(name, cohort.endpoints))
    _require_mechanism(question, [name for name in names if at_visits(cohort.endpoints[name])])
    _require_undiluted(question, cohort.phases, cohort.combinations)
    if cohort.transplant is None and question.transplant in ("censor", "phase"):
        raise SpecError(
            f"transplant='{question.transplant}', but the cohort records no transplants: pass "
            "transplant='<column>' to read_cohort, or leave it out of the Question."
        )
    if cohort.transplant is not None and question.transplant is None:
        raise SpecError(
            "The cohort records transplants: say what happens at one, with "
            "Question(transplant='censor'), 'phase' or 'ignore'."
        )
    if question.amount == "dose" and not cohort.doses_known:
        raise SpecError(
            "amount='dose', but nothing is known of doses: name their column where stays are read."
        )
    if question.amount == "cycles" and not cohort.recurring:
        raise SpecError(
            "amount='cycles', but the cohort has one start and one end of each phase: read the "
            "stays, one row each."
        )
    if question.measure == "since_end" and not cohort.phase_ends_known:
        raise SpecError(
            "measure='since_end', but nothing is known of when phases end: give the column, "
            "Phase(start=, end=), or read the stays (Courses); or ask for time since the start, "
            "measure='since_entry'."
        )
    if cohort.phase_ends_known and question.measure is None and question.phase_end is None:
        raise SpecError(
            "The cohort records phase ends: say what happens at one, with "
            "Question(phase_end='ever') or 'current', or another measure."
        )
    return names


def _require_undiluted(
    question: Question, phases: Sequence[str], combinations: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse references that hold time on the treatment whose effect is asked for.

    Phases whose names differ in a number alone are courses of one treatment, and a combination is
    also a phase of what it combines. Unless the question names its reference, what is not exposed
    is in it.
    """
    if question.reference is not None:
        return
    exposed = question.exposed_phases
    stems = {_unnumbered(name) for name in exposed} - {None}
    numbered = [name for name in phases if _unnumbered(name) in stems and name not in exposed]
    combined = [
        name
        for name, parts in combinations.items()
        if name not in exposed and set(parts) & set(exposed)
    ]
    for others, what in ((numbered, "further courses of it"), (combined, "combinations with it")):
        if not others:
            continue
        every = [name for name in phases if name in exposed or name in others]
        episodes = "" if others is combined else " measure='episode' tells the courses apart."
        raise SpecError(
            f"exposed is {question.exposure}, and by the names {', '.join(others)} are {what}: "
            "time in them would stand in the reference, and dilute the effect. For all as one "
            f"treatment ask Question(exposed={every!r}, measure='current').{episodes} To hold it "
            f"against one of them name that: reference={others[0]!r}."
        )


def _unnumbered(name: str) -> str | None:
    """Take the number off a phase's name; None where there is none, or nothing else.

    >>> [_unnumbered(name) for name in ("Cycle 3", "cycle_12", "maintenance", "3")]
    ['cycle', 'cycle', None, None]
    """
    stem = re.sub(r"[\W_]*\d+[\W_]*", " ", name).strip().lower()
    return stem if stem and stem != name.lower() else None
