"""What marks the states of a course of treatment: the rules that every way of summing shares.

A state lasts from its mark - the start or end of a phase, a transplant - until the next mark that
is reached. `bayesblina.person_time.tabulation` follows these marks in memory,
`bayesblina.person_time.cells` in a query engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from bayesblina.core.arrays import Floats
from bayesblina.core.episodes import OFF_TREATMENT, TRANSPLANT, before_first
from bayesblina.patients.rules import Tie, tie_of
from bayesblina.person_time.question import ENTRY, Enrolled, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A time that begins a state.

    Attributes
    ----------
    kind
        Which time it is: that of the start or the end of a phase, or of a transplant.
    phase
        Position of the phase; 0 for a transplant.
    offset
        How much later than that time the state begins.
    state
        Position of the state that begins.
    """

    kind: Literal["start", "end", "transplant"]
    phase: int
    offset: float
    state: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """States of a question, and what marks them.

    Attributes
    ----------
    states
        Names of all possible states; the first lasts until the first mark.
    phase_names
        The phase that each state is, or is a piece of.
    since
        Time since entering the phase at which each state begins; 0 unless it is a later piece.
    marks
        In the order of the course.
    eligible_phase
        Position of the phase at whose start patients become eligible; None for entry.
    landmark
        Only time at risk after it counts, of those at risk then; None for no landmark.
    censor_at_transplant
        Whether follow-up ends at a transplant.
    tie
        How far from the end of follow-up a mark may be and still count as at it.
    """

    states: tuple[str, ...]
    phase_names: tuple[str, ...]
    since: tuple[float, ...]
    marks: tuple[Mark, ...]
    eligible_phase: int | None
    landmark: float | None
    censor_at_transplant: bool
    tie: Tie


def course_of(patients: Enrolled, question: Question, phase_cuts: Floats | None = None) -> Course:
    """Work out the states of a question, and their marks.

    Parameters
    ----------
    phase_cuts : ndarray, shape (n_pieces - 1,), optional
        Times since entering the exposed phase at which time in it is cut.
    """
    phases = patients.phases
    edges = [0.0, *(() if phase_cuts is None else (float(cut) for cut in phase_cuts))]
    states, phase_names, since = [before_first(phases)], [before_first(phases)], [0.0]
    first: list[int] = []
    for name in phases:
        first.append(len(states))
        pieces = [name]
        if name == question.exposed and phase_cuts is not None:
            pieces = [f"{name} {low:g} to {high:g}" for low, high in pairwise(edges)]
            pieces.append(f"{name} from {edges[-1]:g}")
        states += pieces
        phase_names += [name] * len(pieces)
        since += edges if name == question.exposed else [0.0]
    marks: list[Mark] = []
    ends = question.phase_end == "current"
    if ends:
        _add(states, phase_names, since, OFF_TREATMENT)
    if question.transplant == "phase":
        _add(states, phase_names, since, TRANSPLANT)
    for index, name in enumerate(phases):
        exposed = name == question.exposed
        for piece, cut in enumerate(edges if exposed else [0.0]):
            # A piece that ends before the lag is never entered.
            offset = max(question.lag, cut) if exposed else 0.0
            marks.append(Mark(kind="start", phase=index, offset=offset, state=first[index] + piece))
        if ends:
            state = states.index(OFF_TREATMENT)
            marks.append(Mark(kind="end", phase=index, offset=0.0, state=state))
    if question.transplant == "phase":
        state = states.index(TRANSPLANT)
        marks.append(Mark(kind="transplant", phase=0, offset=0.0, state=state))
    return Course(
        states=tuple(states),
        phase_names=tuple(phase_names),
        since=tuple(since),
        marks=tuple(marks),
        eligible_phase=None
        if question.eligible_from == ENTRY
        else phases.index(question.eligible_from),
        landmark=question.landmark,
        censor_at_transplant=question.transplant == "censor",
        tie=tie_of(patients.unit),
    )


def _add(states: list[str], phase_names: list[str], since: list[float], name: str) -> None:
    states.append(name)
    phase_names.append(name)
    since.append(0.0)


def reasons(question: Question) -> Sequence[str]:
    """Word the reasons for which a patient does not contribute, in the order in which they apply.

    Never under observation; never eligible; follow-up over by then; follow-up over by the landmark;
    under observation only after the landmark; transplanted by then.
    """
    return (
        "never under observation for this endpoint",
        f"never reached {question.eligible_from}",
        "follow-up ended by the start of eligibility",
        "follow-up ended by the landmark",
        "came under observation after the landmark",
        "transplanted by the start of eligibility or the landmark",
    )
