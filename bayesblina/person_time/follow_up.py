"""Who is at risk for a question, when, and in which state; numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.course_marks import CourseMarks, cut_at_marks
from bayesblina.core.courses import CourseLayout
from bayesblina.core.episodes import (
    AT_RISK,
    NEVER_OBSERVED,
    NEVER_VISITED,
    TRANSPLANT,
    cut_follow_up,
    marked_bounds,
    near,
    order_bounds,
    settle_bounds,
    time_at_risk,
)
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import TIE_TOLERANCE, snap
from bayesblina.patients.account import Line
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.persons import persons_in_order
from bayesblina.person_time.binding import at_visits, bind
from bayesblina.person_time.question import Question
from bayesblina.person_time.segments import Course, course_of, marks_of, reasons
from bayesblina.person_time.visits import Gaps, is_entered


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Patients who do not contribute to an endpoint, and why.

    Attributes
    ----------
    endpoint
        The endpoint.
    reason
        Why they do not contribute.
    patients
        Their ids; where patients are only counted, those of the first few.
    count
        Number of patients, where they are only counted.
    """

    endpoint: str
    reason: str
    patients: tuple[str, ...]
    count: int | None = None

    @property
    def size(self) -> int:
        """Number of patients."""
        return len(self.patients) if self.count is None else self.count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episodes:
    """One endpoint's time at risk, cut at changes of phase.

    `patient`, shape (episode,): row of the cohort.
    `phase`, shape (episode,): position in `phases`.
    `start`, `stop`, shape (episode,): the episode ``(start, stop]``; never empty.
    `event`, shape (episode,): whether it ends with the endpoint's event.
    `phases`: names of all possible states.
    `phase_names`: the phase that each state is, or is a piece of.
    `since`: time since entering the phase at which each state begins; 0 unless it is a later piece.
    `left_out`: who does not contribute, by reason.
    `time_at_risk`, `events`: totals over the patients who contribute, taken before their time was
    cut; those of gaps are spread evenly over them.
    `layout`: how states follow from stays, where marks are each patient's own.
    `persons`, shape (row of the cohort,): number of the patient of each, where patients are cut at
    calendar dates; None where rows are counted.
    `gaps`: where events were found at visits, and in which states patients were then; None for
    endpoints that are not recorded at visits.
    """

    endpoint: str
    patient: Ints
    phase: Ints
    start: Floats
    stop: Floats
    event: Bools
    phases: tuple[str, ...]
    phase_names: tuple[str, ...]
    since: tuple[float, ...]
    left_out: tuple[LeftOut, ...]
    time_at_risk: float
    events: int
    layout: CourseLayout | None = None
    persons: Ints | None = None
    gaps: Gaps | None = None

    def persons_of(self, patient: Ints) -> Ints:
        """Give the numbers of those who are counted, of some rows of the cohort."""
        return patient if self.persons is None else self.persons[patient]

    @property
    def person(self) -> Ints:
        """Number of who is counted, shape (episode,)."""
        return self.persons_of(self.patient)

    @property
    def whole(self) -> tuple[Ints, Ints, Floats, Floats, Bools, Bools]:
        """All that is known of patients, gaps among it, by patient and time.

        Result, each of shape (row,): patients, states, starts and stops; whether the row ends with
        the event, at a day or found; and whether it is part of a gap.
        """
        if self.gaps is None:
            exact = np.zeros(self.patient.size, dtype=bool)
            return self.patient, self.phase, self.start, self.stop, self.event, exact
        gaps = self.gaps
        patient, start = (
            np.concatenate([getattr(self, name), getattr(gaps, name)])
            for name in ("patient", "start")
        )
        order = np.lexsort((start, patient))
        phase, stop = (
            np.concatenate([getattr(self, name), getattr(gaps, name)])[order]
            for name in ("phase", "stop")
        )
        patient, in_gap = patient[order], order >= self.patient.size
        last = np.append(np.diff(patient) != 0, True)[: patient.size]
        exact = np.append(self.event, np.zeros(gaps.patient.size, dtype=bool))[order]
        return patient, phase, start[order], stop, exact | (in_gap & last), in_gap

    def as_found(self) -> Episodes:
        """Take events for exact at the visits at which they were found, as they are recorded."""
        if self.gaps is None:
            return self
        patient, phase, start, stop, event, _ = self.whole
        return replace(
            self,
            patient=patient,
            phase=phase,
            start=start,
            stop=stop,
            event=event,
            time_at_risk=float((stop - start).sum()),
            gaps=None,
        )

    @property
    def counts(self) -> tuple[Ints, Ints, Floats, Floats, Floats, Floats]:
        """What counts, with the events of gaps spread evenly over them.

        Result, each of shape (row,): patients, states, starts and stops, events and time at risk.
        """
        events, time = self.event.astype(np.float64), self.stop - self.start
        if self.gaps is None:
            return self.patient, self.phase, self.start, self.stop, events, time
        gaps = self.gaps
        shares, spent = gaps.spread()
        return (
            np.append(self.patient, gaps.patient),
            np.append(self.phase, gaps.phase),
            np.append(self.start, gaps.start),
            np.append(self.stop, gaps.stop),
            np.append(events, shares),
            np.append(time, spent),
        )


def find_episodes(
    cohort: Cohort, question: Question, phase_cuts: Floats | None = None
) -> dict[str, Episodes]:
    """Cut each endpoint's time at risk at changes of phase.

    Near-ties of all times are made exact first (relative 1e-9), of different patients too: methods
    that compare patients rely on it. A phase that starts at the end of follow-up, or less than a
    hundredth of a day before it, contributes nothing, and the event stays in the earlier phase.

    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which time in it
    is cut; the phase's state is replaced by one for each piece.
    """
    names = bind(question, cohort)
    if not isinstance(cohort, Cohort):
        raise SpecError(
            "This looks at single patients, and these are in a query engine: read them into memory "
            "with read_cohort."
        )
    course = course_of(cohort, question, phase_cuts)
    own_marks = marks_of(cohort, course)
    if own_marks is None:
        marked = marked_bounds(
            course.marks, cohort.phase_start, cohort.phase_end, cohort.transplant
        )
    else:
        marked = own_marks.time
    eligible = np.full(cohort.size, -np.inf)
    if course.eligible_phase is not None:
        eligible = cohort.phase_start[:, course.eligible_phase]
    transplant = np.full(cohort.size, np.inf)
    if course.censor_at_transplant and cohort.transplant is not None:
        transplant = np.where(np.isnan(cohort.transplant), np.inf, cohort.transplant)
    landmark = np.array([-np.inf if course.landmark is None else course.landmark])
    times = [marked, eligible, transplant, landmark]
    for name in names:
        outcome = cohort.endpoints[name]
        times += [outcome.time, outcome.entry, outcome.known_free]
    marked, eligible, transplant, landmark, *own = snap(times)
    return {
        name: _episodes(
            cohort,
            name,
            course,
            reasons(question),
            marked if own_marks is None else replace(own_marks, time=marked),
            time_at_risk(
                own[3 * position],
                cohort.endpoints[name].event,
                own[3 * position + 1],
                eligible,
                transplant,
                _landmarks(cohort, own[3 * position + 1], eligible, landmark[0]),
            ),
            own[3 * position + 2] if at_visits(cohort.endpoints[name]) else None,
            question.starts_until == "event",
        )
        for position, name in enumerate(names)
    }


def _episodes(
    cohort: Cohort,
    endpoint: str,
    course: Course,
    worded: Sequence[str],
    marked: Floats | CourseMarks,
    at_risk: tuple[Floats, Floats, Bools, Ints],
    known_free: Floats | None,
    starts_prove: bool,
) -> Episodes:
    """Cut one endpoint's time at risk at the marks of states.

    `known_free`, shape (patient,): until when patients are known to be event-free, where events are
    found at visits.
    `starts_prove`: whether whoever starts a phase is event-free then.
    """
    begin, stop, event, reason = at_risk
    rows = np.flatnonzero(reason == AT_RISK)
    begin, stop, event = begin[rows], stop[rows], event[rows]
    if isinstance(marked, CourseMarks):
        who, state, starts, ends = cut_at_marks(marked, rows, begin, stop, *course.tie.steps)
    else:
        bounds = marked[:, rows]
        with np.errstate(invalid="ignore"):  # infinite times are near to none
            settle_bounds(bounds, len(course.marks), begin, stop, *course.tie.steps)
            order_bounds(bounds, len(course.marks))
        who, number, starts, ends = cut_follow_up(bounds, begin, stop)
        state = course.segment_states[number]
    event, gaps = event[who] & (ends == stop[who]), None
    if known_free is not None:
        free = np.clip(known_free[rows], begin, stop)
        happened = np.bincount(who, weights=event, minlength=rows.size) > 0
        if starts_prove:
            # Of those without the event, starts since the last visit would be told of some only:
            # nothing is known of others who neither started nor came again.
            entered = is_entered(who, state, course.phase_names) & happened[who]
            np.maximum.at(free, who[entered], starts[entered])
        found = happened & (free < stop)
        free = _with_exact_share(free, stop, event=happened, found=found)
        later = (ends > free[who]) & found[who]
        gaps = Gaps(
            patient=rows[who[later]],
            phase=state[later],
            start=np.maximum(starts, free[who])[later],
            stop=ends[later],
        )
        reason = reason.copy()
        reason[rows[(free == begin) & ~found]] = NEVER_VISITED
        stop = free
        event &= ~found[who]
        ends = np.minimum(ends, free[who])
        kept = ends > starts
        who, state, event = who[kept], state[kept], event[kept]
        starts, ends = starts[kept], ends[kept]
    return Episodes(
        endpoint=endpoint,
        patient=rows[who],
        phase=state,
        start=starts,
        stop=ends,
        event=event,
        phases=course.states,
        phase_names=course.phase_names,
        since=course.since,
        left_out=_left_out(cohort, endpoint, worded, reason),
        time_at_risk=float((stop - begin).sum()) + (0.0 if gaps is None else gaps.time),
        events=int(event.sum()) + (0 if gaps is None else gaps.events),
        layout=course.courses,
        persons=None
        if cohort.period is None or cohort.persons is None
        else persons_in_order(cohort.persons)[1],
        gaps=gaps,
    )


def _with_exact_share(free: Floats, stop: Floats, *, event: Bools, found: Bools) -> Floats:
    """Follow up patients without an event beyond their last visit, where some events are exact.

    Deaths are known after the last visit too, relapses are not. Of the time since then, the share
    counts that exact events have among all: the one kind then has its time, and the other none.

    `free`, `stop`, shape (patient,): last visit without the event, and the end of follow-up.
    `event`, `found`, shape (patient,): whether there is an event, and whether a visit found it.
    """
    exact = (event & ~found).sum()
    if not exact:
        return free
    return np.where(event, free, free + exact / event.sum() * (stop - free))


def _landmarks(cohort: Cohort, entry: Floats, eligible: Floats, landmark: Floats) -> Floats:
    """Give rows their landmark: none to those that go on after it, of patients at risk there.

    `entry`, `eligible`, shape (row,): when rows enter, and when patients become eligible.
    """
    if cohort.period is None or cohort.persons is None:
        return landmark
    of = persons_in_order(cohort.persons)[1]
    first = np.full(of.max() + 1, np.inf)
    np.fmin.at(first, of, entry)
    begin = np.maximum(first[of], eligible)
    goes_on = (begin <= landmark) | near(begin, landmark)
    goes_on &= (entry > landmark) & ~near(entry, landmark)
    return np.where(goes_on, -np.inf, landmark)


def _left_out(
    cohort: Cohort, endpoint: str, worded: Sequence[str], reason: Ints
) -> tuple[LeftOut, ...]:
    """Say who does not contribute; of patients cut at calendar dates, of whom no row does."""
    ids = cohort.patients
    if cohort.period is not None and cohort.persons is not None:
        ids, of = persons_in_order(cohort.persons)
        # The latest row under observation says why: what comes before is over by then, too.
        told = np.full(ids.size, NEVER_OBSERVED)
        for why in (reason != NEVER_OBSERVED, reason == AT_RISK):
            rows = np.flatnonzero(why)
            told[of[rows]] = reason[rows]
        reason = told
    return tuple(
        LeftOut(
            endpoint=endpoint,
            reason=words,
            patients=tuple(str(patient) for patient in ids[reason == why]),
        )
        for why, words in enumerate(worded)
        if (reason == why).any()
    )


def roles_of(phases: Sequence[str], question: Question) -> list[str]:
    """Say what each state is to a question."""

    def role(name: str) -> str:
        if name == question.exposure:
            return "exposed"
        if question.reference is None:
            return "other" if name == TRANSPLANT else "reference"
        return "reference" if name == question.reference else "other"

    return [role(name) for name in phases]


def effect_kinds(phases: Sequence[str], question: Question) -> tuple[int, ...]:
    """Give each state the number of its effect on the hazard."""
    labels = [
        "" if role == "reference" else name
        for name, role in zip(phases, roles_of(phases, question), strict=True)
    ]
    order = ["", *dict.fromkeys(label for label in labels if label)]
    return tuple(order.index(label) for label in labels)


def entry_times(episodes: Mapping[str, Episodes], question: Question) -> list[Floats]:
    """Find when patients enter states with another effect, or come under observation late.

    Times by kind, all endpoints together: entries into each kind of state of `effect_kinds` from
    one of another kind; at last the begins of follow-up after the earliest of all.
    """
    kinds = np.array(effect_kinds(next(iter(episodes.values())).phase_names, question))
    times: list[list[Floats]] = [[] for _ in range(int(kinds.max()) + 1)]
    begins = []
    for cut in episodes.values():
        patient, phase, start, *_ = cut.whole
        kind = kinds[phase]
        first = np.diff(cut.persons_of(patient), prepend=-1) != 0
        changed = ~first & (np.diff(kind, prepend=-1) != 0)
        for index, held in enumerate(times):
            held.append(start[changed & (kind == index)])
        begins.append(start[first])
    return [*(np.concatenate(held) for held in times), late_begins(np.concatenate(begins))]


def late_begins(begin: Floats) -> Floats:
    """Take the begins of follow-up after the earliest of all, by more than floating-point noise."""
    return np.asarray(begin[begin > begin.min(initial=np.inf) * (1.0 + TIE_TOLERANCE)])


def account_of(found: Episodes, ids: NDArray[np.str_], roles: Sequence[str]) -> list[Line]:
    """Say who is in the analysis of an endpoint, who is not and why, and where time was spent.

    `ids`, shape (patient,): patient ids, which the episodes number, those of whole patients.
    """
    _, state, *_, time = found.counts
    whose, ended_in, _, _, happened, _ = found.whole

    def counted(chosen: int | None, step: str, what: str, phase: str = "") -> Line:
        rows, ended = (
            np.ones(states.size, dtype=bool) if chosen is None else states == chosen
            for states in (state, ended_in)
        )
        return Line(
            step=step,
            endpoint=found.endpoint,
            phase=phase,
            what=what,
            patients=tuple(
                str(patient) for patient in ids[np.unique(found.persons_of(whose[ended]))]
            ),
            events=int(happened[ended].sum()),
            person_time=float(time[rows].sum()),
        )

    lines = [
        Line(step="left out", endpoint=found.endpoint, what=one.reason, patients=one.patients)
        for one in found.left_out
    ]
    lines.append(counted(None, "eligible", "at risk"))
    for index, (phase, role) in enumerate(zip(found.phases, roles, strict=True)):
        if (state == index).any():
            lines.append(counted(index, "in phase", role, phase))
    return lines
