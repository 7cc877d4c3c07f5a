"""What a question makes of a course of treatment: its states, their marks, who is at risk when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bayesblina.core.arrays import Floats
from bayesblina.core.episodes import Layout, lay_out
from bayesblina.patients.rules import Tie, tie_of
from bayesblina.person_time.question import ENTRY, Enrolled, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Layout):
    """States of a question and what marks them, and who is at risk from when on.

    `eligible_phase`: position of the phase at whose start patients become eligible; None for entry.
    `landmark`: only time at risk after it counts, of those at risk then; None for no landmark.
    `censor_at_transplant`: whether follow-up ends at a transplant.
    `tie`: how far from the end of follow-up a mark may be and still count as at it.
    """

    eligible_phase: int | None
    landmark: float | None
    censor_at_transplant: bool
    tie: Tie


def course_of(patients: Enrolled, question: Question, phase_cuts: Floats | None = None) -> Course:
    """Work out the states of a question, and their marks.

    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which time in it
    is cut.
    """
    layout = lay_out(
        patients.phases,
        ends=question.phase_end == "current",
        transplant=question.transplant == "phase",
        exposed=question.exposed,
        lag=question.lag,
        cuts=() if phase_cuts is None else phase_cuts.tolist(),
    )
    return Course(
        states=layout.states,
        phase_names=layout.phase_names,
        since=layout.since,
        marks=layout.marks,
        eligible_phase=None
        if question.eligible_from == ENTRY
        else patients.phases.index(question.eligible_from),
        landmark=question.landmark,
        censor_at_transplant=question.transplant == "censor",
        tie=tie_of(patients.unit),
    )


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
