"""Events and person-time of many patients, summed in one pass; no patient is expanded into rows.

Intervals are open to the left, ties within floating-point noise. Each patient's own times are
compared with each other and with the cuts; patients are not compared with one another. Patients
come in blocks, one after the other, so that no more than a block of them need be in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.course_marks import CourseMarks
from bayesblina.core.episodes import AT_RISK, columns_of
from bayesblina.core.intervals import TIE_TOLERANCE, person_time_by_interval
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time import passes
from bayesblina.person_time.passes import constant, run_compiled
from bayesblina.person_time.segments import Course, marks_of


class Block(Protocol):
    """Patients whose times are at hand: a whole cohort, or some of them."""

    @property
    def size(self) -> int:
        """Number of patients."""
        ...

    @property
    def endpoints(self) -> Mapping[str, Outcome]:
        """Outcomes by endpoint."""
        ...

    @property
    def phase_start(self) -> Floats:
        """Starts of phases, shape (patient, phase)."""
        ...

    @property
    def phase_end(self) -> Floats:
        """Ends of phases, shape (patient, phase)."""
        ...

    @property
    def transplant(self) -> Floats | None:
        """Times of transplants."""
        ...

    @property
    def marks(self) -> CourseMarks | None:
        """Marks of patients' own states; None where the course's marks are everybody's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockPart:
    """Some of a block's patients.

    `size`, `endpoints`, `phase_start`, `phase_end`, `transplant`, `marks`: as of a `Block`.
    """

    rows: slice
    size: int
    endpoints: Mapping[str, Outcome]
    phase_start: Floats
    phase_end: Floats
    transplant: Floats | None
    marks: CourseMarks | None = None


def block_of(cohort: Cohort, course: Course) -> BlockPart:
    """Take a cohort's patients as one block; nothing of theirs is copied."""
    return BlockPart(
        rows=slice(0, cohort.size),
        size=cohort.size,
        endpoints=cohort.endpoints,
        phase_start=cohort.phase_start,
        phase_end=cohort.phase_end,
        transplant=cohort.transplant,
        marks=marks_of(cohort, course),
    )


def part_of(block: Block, rows: slice) -> BlockPart:
    """Take some patients of a block; nothing is copied."""
    start = block.phase_start[rows]
    return BlockPart(
        rows=rows,
        size=start.shape[0],
        endpoints={name: endpoint.of(rows) for name, endpoint in block.endpoints.items()},
        phase_start=start,
        phase_end=block.phase_end[rows],
        transplant=None if block.transplant is None else block.transplant[rows],
        marks=None if block.marks is None else block.marks.of(rows),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AtRisk:
    """When patients are at risk for one endpoint.

    `begin`, `stop`, shape (patient,): time at risk ``(begin, stop]``; only of those who contribute.
    `event`, shape (patient,): whether it ends with the event.
    `reason`, shape (patient,): `AT_RISK`, or the first reason for which the patient does not
    contribute.
    """

    begin: Floats
    stop: Floats
    event: Bools
    reason: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """What is known of an endpoint's time at risk before it is cut.

    `reasons`, shape (reason,): patients by the reason for which they do not contribute; those who
    do come last.
    `first_begin`, `last_begin`, `last_exit`: bounds of time at risk; infinite, 0 and 0 where there
    is none.
    `time_at_risk`, `events`: weighted totals.
    """

    reasons: Ints
    first_begin: float
    last_begin: float
    last_exit: float
    time_at_risk: float
    events: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Sums of one endpoint over patients.

    `events`, `person_time`, shape (state, group, interval, moment): weighted events and
    person-time, each multiplied by the moments' polynomials.
    `visitors`, shape (state,): how many patients are ever in the state.
    `first`, shape (state,): earliest time at which anybody is in the state; infinite for nobody.
    `longest`, shape (state,): longest time that anybody spends in it.
    """

    events: Floats
    person_time: Floats
    visitors: Ints
    first: Floats
    longest: Floats


def at_risk(block: Block, course: Course, endpoint: str) -> AtRisk:
    """Find who is at risk for an endpoint, and when."""
    outcome = block.endpoints[endpoint]
    size = block.size
    risk = AtRisk(
        begin=np.empty(size),
        stop=np.empty(size),
        event=np.empty(size, dtype=np.bool_),
        reason=np.empty(size, dtype=np.int8),
    )
    transplant = block.transplant if course.censor_at_transplant else None
    run_compiled(
        passes.fill_at_risk,
        constant(outcome.time),
        constant(outcome.event),
        constant(outcome.entry),
        constant(block.phase_start),
        -1 if course.eligible_phase is None else course.eligible_phase,
        constant(np.empty(0) if transplant is None else transplant),
        -np.inf if course.landmark is None else course.landmark,
        risk.begin,
        risk.stop,
        risk.event,
        risk.reason,
    )
    return risk


def bounds_of(risk: AtRisk, weight: Floats | None = None) -> Bounds:
    """Add up time at risk.

    `weight`, shape (patient,): how often each patient counts.
    """
    reasons, totals = np.zeros(AT_RISK + 1, dtype=np.int64), np.array([np.inf, 0.0, 0.0, 0.0, 0.0])
    run_compiled(
        passes.add_bounds,
        constant(risk.begin),
        constant(risk.stop),
        constant(risk.event),
        constant(risk.reason),
        constant(np.empty(0) if weight is None else weight),
        reasons,
        totals,
    )
    first_begin, last_begin, last_exit, time, events = totals.tolist()
    return Bounds(
        reasons=reasons,
        first_begin=first_begin,
        last_begin=last_begin,
        last_exit=last_exit,
        time_at_risk=time,
        events=events,
    )


def merged_bounds(parts: Sequence[Bounds]) -> Bounds:
    """Put the bounds of parts of the patients together."""
    return Bounds(
        reasons=np.sum([part.reasons for part in parts], axis=0, dtype=np.int64)
        if parts
        else np.zeros(AT_RISK + 1, dtype=np.int64),
        first_begin=min((part.first_begin for part in parts), default=np.inf),
        last_begin=max((part.last_begin for part in parts), default=0.0),
        last_exit=max((part.last_exit for part in parts), default=0.0),
        time_at_risk=sum(part.time_at_risk for part in parts),
        events=sum(part.events for part in parts),
    )


def entries_of(block: Block, risk: AtRisk, course: Course, effects: Sequence[int]) -> list[Floats]:
    """Find when patients enter states with another effect on the hazard."""
    marks = block.marks
    room = max(block.size * len(course.marks) if marks is None else marks.time.size, 1)
    times, effect = np.empty(room), np.empty(room, dtype=np.int8)
    entries = np.zeros(1, dtype=np.int64)
    run_compiled(
        passes.list_entries,
        constant(risk.begin),
        constant(risk.stop),
        constant(risk.reason),
        *_marks(block, course),
        np.array(effects, dtype=np.int64),
        times,
        effect,
        entries,
    )
    times, effect = times[: entries[0]], effect[: entries[0]]
    return [times[effect == index] for index in range(max(effects) + 1)]


def _marks(block: Block, course: Course) -> tuple[Any, ...]:
    """Lay out what begins states, and which, for compiled functions."""
    own = block.marks
    ragged: tuple[Any, ...] = (None, None, None)
    if own is not None:
        ragged = tuple(constant(column) for column in (own.first, own.time, own.state))
    return (
        constant(block.phase_start),
        constant(block.phase_end),
        constant(np.empty(0) if block.transplant is None else block.transplant),
        *columns_of(course.marks),
        *course.tie.steps,
        *ragged,
        len(course.marks) if own is None else int(np.diff(own.first).max(initial=0)),
        course.segment_states,
    )


class Tallying:
    """Sums events and person-time of one endpoint by state, group and interval, block by block.

    `degrees`: of each continuous covariate, how many Chebyshev polynomials to multiply with; their
    products run over the last axis of the sums, the last covariate fastest.
    """

    def __init__(
        self, course: Course, *, cuts: Floats, groups: int, degrees: tuple[int, ...] = ()
    ) -> None:
        states = len(course.states)
        shape = (states, groups, cuts.size + 1, int(np.prod(degrees, dtype=np.int64)))
        self.cuts = cuts
        self._course = course
        self._degrees = np.array(degrees, dtype=np.int64)
        self.sums: dict[str, NDArray[Any]] = {
            "events": np.zeros(shape),
            "partial": np.zeros(shape),
            "passed": np.zeros(shape),
            "opened": np.zeros((states, groups, cuts.size + 2), dtype=np.int64),
            "first": np.full(states, np.inf),
            "longest": np.zeros(states),
            "visitors": np.zeros(states, dtype=np.int64),
        }

    def add(
        self,
        block: Block,
        risk: AtRisk,
        group: NDArray[np.int32],
        *,
        weight: Floats | None = None,
        scaled: Floats | None = None,
    ) -> None:
        """Add patients.

        `weight`, shape (patient,): how often each patient counts.
        `scaled`, shape (patient, covariate): continuous covariates, each within -1 to 1.
        """
        run_compiled(
            passes.add_patients,
            constant(risk.begin),
            constant(risk.stop),
            constant(risk.event),
            constant(risk.reason),
            *_marks(block, self._course),
            self.cuts * (1.0 + TIE_TOLERANCE),
            self.cuts * (1.0 - TIE_TOLERANCE),
            np.concatenate([[0.0], self.cuts]),
            constant(group),
            constant(np.empty(0) if weight is None else weight),
            constant(np.empty((0, 0)) if scaled is None else scaled),
            self._degrees,
            *self.sums.values(),
        )

    def tally(self) -> Tally:
        """Return the sums over all patients added."""
        return merged([self])


def merged(parts: Sequence[Tallying]) -> Tally:
    """Put the sums over parts of the patients together.

    `parts`: those of all parts, in their order; at least one.
    """
    first, *others = (part.sums for part in parts)
    total = {name: values.copy() for name, values in first.items()}
    for other in others:
        for name, values in other.items():
            how = {"first": np.minimum, "longest": np.maximum}.get(name, np.add)
            how(total[name], values, out=total[name])
    return Tally(
        events=total["events"],
        person_time=person_time_by_interval(
            total["partial"], total["passed"], total["opened"], parts[0].cuts
        ),
        visitors=total["visitors"],
        first=total["first"],
        longest=total["longest"],
    )


def moments_by_group(
    inside: Bools,
    group: NDArray[np.int32],
    *,
    groups: int,
    scaled: Floats | None = None,
    degrees: tuple[int, ...] = (),
) -> Floats:
    """Sum the polynomials of some patients' covariates; without covariates, count the patients.

    Result, shape (group, moment): the sums.
    """
    total = np.zeros((groups, int(np.prod(degrees, dtype=np.int64))))
    run_compiled(
        passes.add_moments,
        constant(inside),
        constant(group),
        constant(np.empty((0, 0)) if scaled is None else scaled),
        np.array(degrees, dtype=np.int64),
        total,
    )
    return total
