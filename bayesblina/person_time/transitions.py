"""Who is at risk for each transition of an illness-death course; numpy only.

A patient in remission relapses or dies; a patient who has relapsed dies. The three transitions are
three endpoints with time at risk of their own, cut at changes of phase like any other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE, DEATH_IN_REMISSION, RELAPSE
from bayesblina.core.errors import DataError, Problem, SpecError, nearest
from bayesblina.core.intervals import snap
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.rules import InMemory, tie_of
from bayesblina.person_time.follow_up import Episodes, find_episodes
from bayesblina.person_time.question import Question

TRANSITIONS = (RELAPSE, DEATH_IN_REMISSION, DEATH_AFTER_RELAPSE)


def find_transitions(
    cohort: Cohort,
    question: Question,
    *,
    death: str,
    relapse_free: str,
    phase_cuts: Floats | None = None,
) -> dict[str, Episodes]:
    """Cut the time at risk for each transition at changes of phase.

    An event of `relapse_free` before the end of follow-up for `death`, or at it without a death, is
    a relapse; one at the time of a death is that death. A patient whose relapse-free follow-up is
    censored earlier than follow-up for death is in a state that is not known from then on, and is
    not at risk for anything.

    `question`: who is at risk, from when, in which state. Eligibility is that for `relapse_free`;
    the question's own choice of endpoints is not used.
    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which time in it
    is cut.
    """
    for name in (death, relapse_free):
        if name not in cohort.endpoints:
            raise SpecError(f"No endpoint '{name}'. {nearest(name, list(cohort.endpoints))}")
    if death == relapse_free:
        raise SpecError(f"death and relapse_free are both '{death}'; expected two endpoints.")
    died, free = cohort.endpoints[death], cohort.endpoints[relapse_free]
    if relapse_free in died.includes:
        raise SpecError(
            f"death is '{death}', which is declared to include '{relapse_free}': relapse-free "
            "survival includes death, not the other way round. Exchange death and relapse_free, "
            "or correct includes."
        )
    end, stop = snap([died.time, free.time])
    # A relapse less than a hundredth of a day before death is that death.
    stop = np.where(tie_of(cohort.unit).near(stop, end, InMemory()), end, stop)
    followed = ~np.isnan(free.entry)
    _require_courses(cohort, death, relapse_free, end=end, stop=stop, followed=followed)
    together = followed & free.event & died.event & (stop == end)
    relapsed = followed & free.event & ~together
    later_time = relapsed & (end > stop)
    courses = {
        # What the endpoints include is none of the transitions', which exclude each other.
        RELAPSE: replace(free, event=relapsed, includes=()),
        DEATH_IN_REMISSION: replace(free, event=together, includes=()),
        # At risk from the relapse on; eligible for it are those who were eligible before.
        DEATH_AFTER_RELAPSE: replace(
            died,
            time=np.where(later_time, end, np.nan),
            event=died.event & later_time,
            entry=np.where(later_time, stop, np.nan),
            includes=(),
        ),
    }
    # Phases may start after the relapse: the follow-up of the cohort's own endpoints holds them.
    own = {name: courses[name] for name in TRANSITIONS[:2]}
    first = find_episodes(
        replace(cohort, endpoints={**cohort.endpoints, **own}),
        replace(question, endpoints=TRANSITIONS[:2]),
        phase_cuts,
    )
    question = replace(question, endpoints=None)
    # Follow-up may have ended at a transplant before the relapse.
    seen = np.zeros(cohort.size, dtype=bool)
    seen[first[RELAPSE].patient[first[RELAPSE].event]] = True
    later = find_episodes(
        _of_relapsed(cohort, courses[DEATH_AFTER_RELAPSE], seen),
        replace(question, landmark=None),
        phase_cuts,
    )
    return {**first, DEATH_AFTER_RELAPSE: later[DEATH_AFTER_RELAPSE]}


def _of_relapsed(cohort: Cohort, course: Outcome, seen: Bools) -> Cohort:
    """Leave only those whose relapse was seen at risk for death after it."""
    kept = replace(
        course,
        time=np.where(seen, course.time, np.nan),
        entry=np.where(seen, course.entry, np.nan),
        event=course.event & seen,
    )
    return replace(cohort, endpoints={DEATH_AFTER_RELAPSE: kept})


def _require_courses(
    cohort: Cohort,
    death: str,
    relapse_free: str,
    *,
    end: NDArray[np.float64],
    stop: NDArray[np.float64],
    followed: Bools,
) -> None:
    died, free = cohort.endpoints[death], cohort.endpoints[relapse_free]
    late = followed & (stop > end)
    unmarked = followed & died.event & ~free.event & (stop == end)
    problems = [
        Problem(
            column=f"{relapse_free}, {death}",
            patients=tuple(str(patient) for patient in cohort.patients[rows]),
            found=contradiction,
            expected=expected,
        )
        for rows, contradiction, expected in (
            (
                late,
                f"follow-up for {relapse_free} ends after that for {death}",
                f"Expected relapse-free follow-up to end with a patient's death or last contact at "
                f"the latest; correct the times, or end {relapse_free} there.",
            ),
            (
                unmarked,
                f"a death in remission is no event of {relapse_free}",
                f"Expected a death without relapse to be an event of {relapse_free} too: set its "
                "event to 1.",
            ),
        )
        if rows.any()
    ]
    if problems:
        raise DataError(problems, source="the courses of remission, relapse and death")
