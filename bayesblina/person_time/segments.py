"""What a question makes of a course of treatment: its states, their marks, who is at risk when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bayesblina.core.arrays import Floats
from bayesblina.core.course_marks import CourseMarks, course_marks
from bayesblina.core.courses import CourseLayout, Exposure, Stays, lay_out_courses, stays_of_phases
from bayesblina.core.episodes import Layout, lay_out
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import Tie, tie_of
from bayesblina.person_time.binding import Enrolled
from bayesblina.person_time.question import ENTRY, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Course(Layout):
    """States of a question and what marks them, and who is at risk from when on.

    `eligible_phase`: position of the phase at whose start patients become eligible; None for entry.
    `landmark`: only time at risk after it counts, of those at risk then; None for no landmark.
    `censor_at_transplant`: whether follow-up ends at a transplant.
    `tie`: how far from the end of follow-up a mark may be and still count as at it.
    `courses`: how states follow from stays, where marks are each patient's own; else None.
    """

    eligible_phase: int | None
    landmark: float | None
    censor_at_transplant: bool
    tie: Tie
    courses: CourseLayout | None = None


def course_of(patients: Enrolled, question: Question, phase_cuts: Floats | None = None) -> Course:
    """Work out the states of a question, and their marks.

    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which time in it
    is cut.
    """
    courses: CourseLayout | None = None
    if patients.recurring or question.stepped or len(question.exposed_phases) > 1:
        courses = courses_layout(patients, question, phase_cuts)
        layout: Layout = courses
    else:
        layout = lay_out(
            patients.phases,
            ends=question.measured == "current",
            transplant=question.transplant == "phase",
            exposed=question.exposure,
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
        courses=courses,
    )


def courses_layout(
    patients: Enrolled, question: Question, steps: Floats | None = None
) -> CourseLayout:
    """Lay out the states of a question where marks are each patient's own.

    `steps`, shape (n_steps - 1,): where the exposure's steps lie, unless the question says.
    """
    if steps is not None and not question.stepped:
        raise SpecError(
            "Phases may recur here, so that time since entering one says which entry: ask with "
            "measure='since_entry' (the first), or another measure that has steps."
        )
    given = question.steps if steps is None else steps.tolist()
    return lay_out_courses(
        patients.phases,
        Exposure(
            phases=tuple(patients.phases.index(name) for name in question.exposed_phases),
            label=question.exposure,
            measure=question.measured,
            steps=tuple(given or ()),
            amount=question.amount,
            lag=question.lag,
        ),
        ordered=patients.ordered,
        transplant=question.transplant == "phase",
    )


def stays_of(cohort: Cohort) -> Stays:
    """Take the stays of a cohort's patients, of phases that do not recur too."""
    if cohort.stays is not None:
        return cohort.stays
    return stays_of_phases(cohort.phase_start, cohort.phase_end)


def marks_of(cohort: Cohort, course: Course) -> CourseMarks | None:
    """Find when the states of a cohort's patients begin, where marks are each patient's own."""
    if course.courses is None:
        return None
    return course_marks(stays_of(cohort), course.courses, cohort.size, cohort.transplant)


def reasons(question: Question) -> Sequence[str]:
    """Word the reasons for which a patient does not contribute, in the order in which they apply.

    Never under observation; never eligible; follow-up over by then; follow-up over by the landmark;
    under observation only after the landmark; transplanted by then; never at a visit.
    """
    return (
        "never under observation for this endpoint",
        f"never reached {question.eligible_from}",
        "follow-up ended by the start of eligibility",
        "follow-up ended by the landmark",
        "came under observation after the landmark",
        "transplanted by the start of eligibility or the landmark",
        "at no visit since the start of eligibility",
    )
