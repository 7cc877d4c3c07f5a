"""Who is at risk, from when to when, and in which state: the one definition.

A state lasts from its mark - the start or end of a phase, a transplant - until the next one that is
entered. Treatment phase is such a state, so no time before a phase's start can count as time in it.

`near`, `time_at_risk`, `tie_width`, `fill_bounds`, `settle_bounds`, `order_bounds` and `segment`
are written for one patient's numbers and for columns of patients alike: numpy runs them on columns,
for cohorts in memory, and `bayesblina.person_time.passes` compiles the same lines into passes
over many patients. They branch by `choose`, `lesser` and `greater` alone, therefore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE

# Where a phase can start within a patient's follow-up, in the terms of R's `survival::tmerge`.
POSITIONS: Mapping[str, str] = {
    "early": "before entry",
    "leading": "exactly at entry",
    "within": "during follow-up",
    "boundary": "exactly at the start of another phase or at a cut",
    "trailing": "exactly at the end of follow-up: no time at risk in the phase",
    "late": "after the end of follow-up",
}


OFF_TREATMENT = "off treatment"
TRANSPLANT = "transplant"
# The one state of patients without phases.
ALL_FOLLOW_UP = "all follow-up"


def before_first(phases: Sequence[str]) -> str:
    """Name the state before the first phase.

    >>> before_first(["consolidation", "maintenance"])
    'before consolidation'
    """
    return f"before {phases[0]}" if phases else ALL_FOLLOW_UP


# Why patients do not contribute, in the order in which it applies; those who do come last.
NEVER_OBSERVED, NEVER_ELIGIBLE, OVER_BY_START, OVER_BY_LANDMARK, TOO_LATE, TRANSPLANTED = range(6)
# Of endpoints whose events are found at visits: nobody ever looked.
NEVER_VISITED = 6
AT_RISK = 7
# Of any patient: for functions that take one patient's row or all rows.
ALL = slice(None)
_KINDS = {"start": 0, "end": 1, "transplant": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A time that begins a state.

    `kind`: which time it is: that of the start or the end of a phase, or of a transplant.
    `phase`: position of the phase; 0 for a transplant.
    `offset`: how much later than that time the state begins.
    `state`: position of the state that begins.
    """

    kind: Literal["start", "end", "transplant"]
    phase: int
    offset: float
    state: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """States that patients may be in, and what marks them.

    `states`: names of all possible states; the first lasts until the first mark.
    `phase_names`: the phase that each state is, or is a piece of.
    `since`: time since entering the phase at which each state begins; 0 unless it is a later piece.
    `marks`: in the order of the course.
    """

    states: tuple[str, ...]
    phase_names: tuple[str, ...]
    since: tuple[float, ...]
    marks: tuple[Mark, ...]

    @property
    def segment_states(self) -> Ints:
        """Position of the state before the first mark and of that after each mark."""
        return np.array([0, *(mark.state for mark in self.marks)], dtype=np.int64)


def lay_out(
    phases: Sequence[str],
    *,
    ends: bool = False,
    transplant: bool = False,
    exposed: str | None = None,
    lag: float = 0.0,
    cuts: Sequence[float] = (),
) -> Layout:
    """Lay out the states of a course, and their marks.

    `ends`: whether patients are off treatment after the end of a phase.
    `transplant`: whether a transplant begins a last state of its own.
    `exposed`: the phase that begins `lag` later, and that is cut into pieces at `cuts`, times since
    entering it.

    >>> lay_out(["maintenance"], exposed="maintenance", cuts=[6.0]).states
    ('before maintenance', 'maintenance 0 to 6', 'maintenance from 6')
    """
    edges = [0.0, *cuts]
    states, phase_names, since = [before_first(phases)], [before_first(phases)], [0.0]
    first: list[int] = []
    for name in phases:
        first.append(len(states))
        pieces = [name]
        if name == exposed and cuts:
            pieces = [f"{name} {low:g} to {high:g}" for low, high in pairwise(edges)]
            pieces.append(f"{name} from {edges[-1]:g}")
        states += pieces
        phase_names += [name] * len(pieces)
        since += edges if name == exposed else [0.0]
    for name, there in ((OFF_TREATMENT, ends), (TRANSPLANT, transplant)):
        if there:
            states.append(name)
            phase_names.append(name)
            since.append(0.0)
    marks: list[Mark] = []
    for index, name in enumerate(phases):
        for piece, cut in enumerate(edges if name == exposed else [0.0]):
            # A piece that ends before the lag is never entered.
            offset = max(lag, cut) if name == exposed else 0.0
            marks.append(Mark(kind="start", phase=index, offset=offset, state=first[index] + piece))
        if ends:
            state = states.index(OFF_TREATMENT)
            marks.append(Mark(kind="end", phase=index, offset=0.0, state=state))
    if transplant:
        state = states.index(TRANSPLANT)
        marks.append(Mark(kind="transplant", phase=0, offset=0.0, state=state))
    return Layout(
        states=tuple(states),
        phase_names=tuple(phase_names),
        since=tuple(since),
        marks=tuple(marks),
    )


def columns_of(marks: Sequence[Mark]) -> tuple[Ints, Ints, Floats]:
    """Lay out kinds, phases and offsets of marks as columns, for `fill_bounds`."""
    return (
        np.array([_KINDS[mark.kind] for mark in marks], dtype=np.int64),
        np.array([mark.phase for mark in marks], dtype=np.int64),
        np.array([mark.offset for mark in marks], dtype=np.float64),
    )


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """Take one value where a condition holds, and another where it does not."""
    return np.where(condition, yes, no)


def lesser(left: Any, right: Any) -> Any:
    """Take the lesser of two numbers."""
    return np.minimum(left, right)


def greater(left: Any, right: Any) -> Any:
    """Take the greater of two numbers."""
    return np.maximum(left, right)


def near(left: Any, right: Any) -> Any:
    """Whether a time differs from a finite one by floating-point noise at most."""
    return np.abs(left - right) <= TIE_TOLERANCE * right


def time_at_risk(
    time: Any, event: Any, entry: Any, eligible: Any, transplant: Any, landmark: Any
) -> Any:
    """Find from when to when a patient is at risk, or why never.

    `time`, `event`, `entry`: end of follow-up, whether it is the event, and when follow-up begins;
    NaN for never.
    `eligible`: when the patient becomes eligible: NaN for never, minus infinity for from entry on.
    `transplant`: when follow-up is ended by a transplant; infinite for never.
    `landmark`: from when on time counts, of those at risk then; minus infinity for no landmark.
    Result: time at risk ``(begin, stop]``, whether it ends with the event, and `AT_RISK` or the
    first reason for which there is none; NaN is the time then.
    """
    start = greater(entry, eligible)
    over = (start >= time) | near(start, time)
    missed = (landmark >= time) | near(landmark, time)
    late = (landmark > -np.inf) & (start > landmark) & ~near(start, landmark)
    begin = choose(landmark > -np.inf, landmark, start)
    ended = (transplant < time) & ~near(transplant, time)
    gone = ended & ((transplant <= begin) | near(transplant, begin))
    reason = choose(gone, TRANSPLANTED, AT_RISK)
    reason = choose(late, TOO_LATE, reason)
    reason = choose(missed, OVER_BY_LANDMARK, reason)
    reason = choose(over, OVER_BY_START, reason)
    reason = choose(np.isnan(eligible), NEVER_ELIGIBLE, reason)
    reason = choose(np.isnan(entry), NEVER_OBSERVED, reason)
    inside = reason == AT_RISK
    stop = choose(ended, transplant, time)
    return (
        choose(inside, begin, np.nan),
        choose(inside, stop, np.nan),
        event & inside & ~ended,
        reason,
    )


def tie_width(time: Any, from_times: Any, widths: Any) -> Any:
    """Say how far from a time another may be and still be at it (`bayesblina.patients.rules`)."""
    width = widths[0]
    for step in range(len(from_times)):
        width = choose(time >= from_times[step], widths[step + 1], width)
    return width


def fill_bounds(
    bounds: Any,
    rows: Any,
    starts: Any,
    ends: Any,
    transplant: Any,
    kinds: Any,
    phases: Any,
    offsets: Any,
) -> None:
    """Write down when each state is marked to begin, whatever comes after it.

    `bounds`, shape (mark + 2,) or (mark + 2, patient), is written to: 0, the times of the marks,
    infinite for never, and infinity.
    `rows`: one patient's row, or `ALL`.
    """
    last = len(kinds) + 1
    bounds[0], bounds[last] = 0.0, np.inf
    for m in range(len(kinds)):
        if kinds[m] == 0:
            mark = starts[rows, phases[m]] + offsets[m]
        elif kinds[m] == 1:
            mark = ends[rows, phases[m]]
        else:
            mark = transplant[rows]
        bounds[m + 1] = choose(np.isnan(mark), np.inf, mark)


def settle_bounds(
    bounds: Any, marks: Any, begin: Any, stop: Any, from_times: Any, widths: Any
) -> None:
    """Move marks that are all but at the begin or the end of time at risk to there.

    `marks`: how many there are. What begins less than a hundredth of a day before the end is not
    entered: the event stays in the state before.
    """
    width = tie_width(stop, from_times, widths)
    for m in range(1, marks + 1):
        bounds[m] = settled(bounds[m], begin, stop, width)


def settled(mark: Any, begin: Any, stop: Any, width: Any) -> Any:
    """Take a mark for the begin or the end of time at risk where it is all but there."""
    at_end = (np.abs(mark - stop) < width) | near(mark, stop)
    return choose(at_end, stop, choose(near(mark, begin), begin, mark))


def order_bounds(bounds: Any, marks: Any) -> None:
    """Let a state last until the next one that is entered, whatever lies between them."""
    for m in range(marks, 0, -1):
        bounds[m] = lesser(bounds[m], bounds[m + 1])
    for m in range(marks):
        bounds[m + 1] = choose(near(bounds[m + 1], bounds[m]), bounds[m], bounds[m + 1])


def segment(bounds: Any, m: Any, begin: Any, stop: Any) -> Any:
    """Take the part of a segment that lies within time at risk; empty if it ends as it begins."""
    low = lesser(greater(bounds[m], begin), stop)
    return low, lesser(greater(bounds[m + 1], begin), stop)


def marked_bounds(
    marks: Sequence[Mark], starts: Floats, ends: Floats, transplant: Floats | None
) -> Floats:
    """Find when each state is marked to begin: `fill_bounds` of all patients.

    `starts`, `ends`, shape (patient, phase): starts and ends of phases, NaN where there was none.
    `transplant`, shape (patient,): times of transplants.
    Result, shape (mark + 2, patient): not in order: later states may be marked earlier.
    """
    bounds = np.empty((len(marks) + 2, starts.shape[0]))
    fill_bounds(bounds, ALL, starts, ends, transplant, *columns_of(marks))
    return bounds


def state_bounds(
    phases: Sequence[str],
    starts: Floats,
    *,
    ends: Floats | None = None,
    transplant: Floats | None = None,
) -> tuple[Floats, tuple[str, ...], Ints]:
    """Find when each patient enters each state.

    `starts`, shape (patient, phase): start of each phase, NaN where there was none.
    `ends`, shape (patient, phase): end of each phase, after which the patient is off treatment;
    None if phases do not end.
    `transplant`, shape (patient,): start of a last state of its own.
    Result: `bounds`, shape (segment + 1, patient): segment s of a patient is
    ``(bounds[s], bounds[s + 1]]``; empty if it never happened.
    `names`: names of all possible states.
    `state`, shape (segment,): position in `names` of each segment's state.

    >>> bounds, names, state = state_bounds(["maintenance"], np.array([[2.0], [np.nan]]))
    >>> bounds
    array([[ 0.,  0.],
           [ 2., inf],
           [inf, inf]])
    >>> names
    ('before maintenance', 'maintenance')
    """
    layout = lay_out(phases, ends=ends is not None, transplant=transplant is not None)
    bounds = marked_bounds(layout.marks, starts, starts if ends is None else ends, transplant)
    with np.errstate(invalid="ignore"):  # infinite times are near to none
        order_bounds(bounds, len(layout.marks))
    return bounds, layout.states, layout.segment_states


def cut_follow_up(bounds: Floats, begin: Floats, stop: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Cut each patient's follow-up at changes of state.

    `bounds`, shape (segment + 1, patient): segments, as `state_bounds` gives them.
    `begin`, `stop`, shape (patient,): follow-up ``(begin, stop]``.
    Result: `patient`, shape (episode,): whose episode it is, in order.
    `segment`, shape (episode,): the segment that it lies in.
    `start`, `end`, shape (episode,): the episode ``(start, end]``; none is empty.

    >>> cut_follow_up(np.array([[0.0], [2.0], [np.inf]]), np.array([1.0]), np.array([5.0]))
    (array([0, 0]), array([0, 1]), array([1., 2.]), array([2., 5.]))
    """
    lower, upper = segment_times(bounds, begin, stop)
    patient, number = np.nonzero((upper > lower).T)
    return patient, number, lower[number, patient], upper[number, patient]


def segment_times(bounds: Floats, begin: Floats, stop: Floats) -> tuple[Floats, Floats]:
    """Take the parts of all segments within follow-up, each of shape (segment, patient)."""
    parts = [segment(bounds, m, begin, stop) for m in range(len(bounds) - 1)]
    lower, upper = zip(*parts, strict=True)
    return np.stack(lower), np.stack(upper)
