"""Events and person-time of many patients, summed in one pass; no patient is expanded into rows.

The rules are those of `bayesblina.person_time.follow_up`: states by their marks
(`bayesblina.person_time.segments`), intervals open to the left, ties within floating-point noise.
Each patient's own times are compared with each other and with the cuts; patients are not compared
with one another. Patients come in blocks, one after the other, so that no more than a block of them
need be in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE, person_time_by_interval
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.segments import Course

NEVER_OBSERVED, NEVER_ELIGIBLE, OVER_BY_START, OVER_BY_LANDMARK, TOO_LATE, TRANSPLANTED = range(6)
AT_RISK = 6
_KINDS = {"start": 0, "end": 1, "transplant": 2}
_log = logging.getLogger("bayesblina")


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some of a block's patients.

    Attributes
    ----------
    rows
        Which of them.
    size, endpoints, phase_start, phase_end, transplant
        As of a `Block`.
    """

    rows: slice
    size: int
    endpoints: Mapping[str, Outcome]
    phase_start: Floats
    phase_end: Floats
    transplant: Floats | None


def part_of(block: Block, rows: slice) -> Part:
    """Take some patients of a block; nothing is copied."""
    start = block.phase_start[rows]
    return Part(
        rows=rows,
        size=start.shape[0],
        endpoints={
            name: Outcome(time=one.time[rows], event=one.event[rows], entry=one.entry[rows])
            for name, one in block.endpoints.items()
        },
        phase_start=start,
        phase_end=block.phase_end[rows],
        transplant=None if block.transplant is None else block.transplant[rows],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AtRisk:
    """When patients are at risk for one endpoint.

    Attributes
    ----------
    begin, stop : ndarray, shape (patient,)
        Time at risk ``(begin, stop]``; only of those who contribute.
    event : ndarray of bool, shape (patient,)
        Whether it ends with the event.
    reason : ndarray of int, shape (patient,)
        `AT_RISK`, or the first reason for which the patient does not contribute.
    """

    begin: Floats
    stop: Floats
    event: Bools
    reason: NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """What is known of an endpoint's time at risk before it is cut.

    Attributes
    ----------
    reasons : ndarray of int, shape (reason,)
        Patients by the reason for which they do not contribute; those who do come last.
    first_begin, last_begin, last_exit
        Bounds of time at risk; infinite, 0 and 0 where there is none.
    time_at_risk, events
        Weighted totals.
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

    Attributes
    ----------
    events, person_time : ndarray, shape (state, group, interval, moment)
        Weighted events and person-time, each multiplied by the moments' polynomials.
    visitors : ndarray of int, shape (state,)
        How many patients are ever in the state.
    first : ndarray, shape (state,)
        Earliest time at which anybody is in the state; infinite for nobody.
    longest : ndarray, shape (state,)
        Longest time that anybody spends in it.
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
    found = AtRisk(
        begin=np.empty(size),
        stop=np.empty(size),
        event=np.empty(size, dtype=np.bool_),
        reason=np.empty(size, dtype=np.int8),
    )
    transplant = block.transplant if course.censor_at_transplant else None
    run_compiled(
        _at_risk,
        constant(outcome.time),
        constant(outcome.event),
        constant(outcome.entry),
        constant(block.phase_start),
        -1 if course.eligible_phase is None else course.eligible_phase,
        constant(np.empty(0) if transplant is None else transplant),
        -np.inf if course.landmark is None else course.landmark,
        found.begin,
        found.stop,
        found.event,
        found.reason,
    )
    return found


def bounds_of(risk: AtRisk, weight: Floats | None = None) -> Bounds:
    """Add up time at risk.

    Parameters
    ----------
    weight : ndarray, shape (patient,), optional
        How often each patient counts.
    """
    reasons, found = np.zeros(AT_RISK + 1, dtype=np.int64), np.array([np.inf, 0.0, 0.0, 0.0, 0.0])
    run_compiled(
        _bounds,
        constant(risk.begin),
        constant(risk.stop),
        constant(risk.event),
        constant(risk.reason),
        constant(np.empty(0) if weight is None else weight),
        reasons,
        found,
    )
    first_begin, last_begin, last_exit, time, events = found.tolist()
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
        reasons=np.sum([one.reasons for one in parts], axis=0, dtype=np.int64)
        if parts
        else np.zeros(AT_RISK + 1, dtype=np.int64),
        first_begin=min((one.first_begin for one in parts), default=np.inf),
        last_begin=max((one.last_begin for one in parts), default=0.0),
        last_exit=max((one.last_exit for one in parts), default=0.0),
        time_at_risk=sum(one.time_at_risk for one in parts),
        events=sum(one.events for one in parts),
    )


def entries_of(block: Block, risk: AtRisk, course: Course, effects: Sequence[int]) -> list[Floats]:
    """Find when patients enter states with another effect on the hazard."""
    number = np.array([0, *(mark.state for mark in course.marks)], dtype=np.int64)
    of_state = np.array(effects, dtype=np.int64)
    room = block.size * max(len(course.marks), 1)
    times, effect = np.empty(room), np.empty(room, dtype=np.int8)
    found = np.zeros(1, dtype=np.int64)
    run_compiled(
        _entries,
        constant(risk.begin),
        constant(risk.stop),
        constant(risk.reason),
        *_marks(block, course),
        of_state[number],
        times,
        effect,
        found,
    )
    times, effect = times[: found[0]], effect[: found[0]]
    return [times[effect == index] for index in range(max(effects) + 1)]


def _marks(block: Block, course: Course) -> tuple[NDArray[Any], ...]:
    """Lay out what begins states, for compiled functions."""
    return (
        constant(block.phase_start),
        constant(block.phase_end),
        constant(np.empty(0) if block.transplant is None else block.transplant),
        np.array([_KINDS[mark.kind] for mark in course.marks], dtype=np.int64),
        np.array([mark.phase for mark in course.marks], dtype=np.int64),
        np.array([mark.offset for mark in course.marks], dtype=np.float64),
        np.array([course.tie.least, course.tie.from_time]),
    )


class Tallying:
    """Sums events and person-time of one endpoint by state, group and interval, block by block.

    Parameters
    ----------
    cuts : ndarray, shape (interval - 1,)
        Inner cut points.
    degrees
        Of each continuous covariate, how many Chebyshev polynomials to multiply with; their
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

        Parameters
        ----------
        group : ndarray of int, shape (patient,)
            Group of each patient.
        weight : ndarray, shape (patient,), optional
            How often each patient counts.
        scaled : ndarray, shape (patient, covariate), optional
            Continuous covariates, each within -1 to 1.
        """
        marks = self._course.marks
        run_compiled(
            _tally,
            constant(risk.begin),
            constant(risk.stop),
            constant(risk.event),
            constant(risk.reason),
            *_marks(block, self._course),
            np.array([0, *(mark.state for mark in marks)], dtype=np.int64),
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

    Parameters
    ----------
    parts
        Those of all parts, in their order; at least one.
    """
    first, *others = (one.sums for one in parts)
    total = {name: values.copy() for name, values in first.items()}
    for one in others:
        for name, values in one.items():
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

    Parameters
    ----------
    inside : ndarray of bool, shape (patient,)
        Who counts.

    Returns
    -------
    ndarray, shape (group, moment)
        The sums.
    """
    total = np.zeros((groups, int(np.prod(degrees, dtype=np.int64))))
    run_compiled(
        _moments,
        constant(inside),
        constant(group),
        constant(np.empty((0, 0)) if scaled is None else scaled),
        np.array(degrees, dtype=np.int64),
        total,
    )
    return total


@numba.njit(inline="always")
def _near(left: Any, right: Any) -> Any:
    """Whether two times differ by floating-point noise at most."""
    largest = max(abs(left), abs(right))
    return left == right or (largest < np.inf and abs(left - right) <= TIE_TOLERANCE * largest)


@numba.njit(inline="always")
def _products(values: Any, degrees: Any, x: Any, i: Any) -> None:
    """Products of Chebyshev polynomials of a patient's covariates, the last covariate fastest."""
    size = 1
    values[0] = 1.0
    for d in range(degrees.size):
        degree, at = degrees[d], x[i, d]
        for have in range(size - 1, -1, -1):
            before, now = 1.0, at
            whole = values[have]
            for t in range(degree):
                values[have * degree + t] = whole * before
                before, now = now, 2.0 * at * now - before
        size *= degree


def _at_risk(
    time: Any,
    event: Any,
    entry: Any,
    phase_start: Any,
    eligible_phase: Any,
    transplant: Any,
    landmark: Any,
    begin: Any,
    stop: Any,
    ended: Any,
    reason: Any,
) -> None:
    for i in range(time.size):
        begin[i], stop[i], ended[i] = np.nan, np.nan, False
        end, start = time[i], entry[i]
        if np.isnan(start):
            reason[i] = NEVER_OBSERVED
            continue
        if eligible_phase >= 0:
            eligible = phase_start[i, eligible_phase]
            if np.isnan(eligible):
                reason[i] = NEVER_ELIGIBLE
                continue
            start = max(start, eligible)
        if start >= end or _near(start, end):
            reason[i] = OVER_BY_START
            continue
        if landmark > -np.inf:
            if landmark >= end or _near(landmark, end):
                reason[i] = OVER_BY_LANDMARK
                continue
            if start > landmark and not _near(start, landmark):
                reason[i] = TOO_LATE
                continue
            start = landmark
        died = event[i]
        if transplant.size:
            moment = transplant[i]
            if moment < end and not _near(moment, end):
                if moment <= start or _near(moment, start):
                    reason[i] = TRANSPLANTED
                    continue
                end, died = moment, False
        begin[i], stop[i], ended[i], reason[i] = start, end, died, AT_RISK


@numba.njit(inline="always")
def _fill(
    bounds: Any,
    i: Any,
    start: Any,
    end: Any,
    phase_start: Any,
    phase_end: Any,
    transplant: Any,
    kinds: Any,
    phases: Any,
    offsets: Any,
    tie: Any,
) -> None:
    """Find where a patient's states begin and end."""
    marks = kinds.size
    bounds[0], bounds[marks + 1] = 0.0, np.inf
    # As `bayesblina.patients.rules.Tie` has it.
    most = tie[0]
    if end >= tie[1]:
        most = 5e-6 * tie[1] * (1.0 if end < 10.0 * tie[1] else 10.0)
    for m in range(marks):
        if kinds[m] == 0:
            mark = phase_start[i, phases[m]] + offsets[m]
        elif kinds[m] == 1:
            mark = phase_end[i, phases[m]]
        else:
            mark = transplant[i]
        if np.isnan(mark):
            mark = np.inf
        elif abs(mark - end) < most or _near(mark, end):
            mark = end
        elif _near(mark, start):
            mark = start
        bounds[m + 1] = mark
    # A state lasts until the next one that is entered, whatever lies between them.
    for m in range(marks, 0, -1):
        bounds[m] = min(bounds[m], bounds[m + 1])
    for m in range(marks):
        if _near(bounds[m + 1], bounds[m]):
            bounds[m + 1] = bounds[m]


def _entries(
    begin: Any,
    stop: Any,
    reason: Any,
    phase_start: Any,
    phase_end: Any,
    transplant: Any,
    kinds: Any,
    phases: Any,
    offsets: Any,
    tie: Any,
    effects: Any,
    times: Any,
    effect: Any,
    found: Any,
) -> None:
    marks = kinds.size
    bounds = np.empty(marks + 2)
    count = 0
    for i in range(begin.size):
        if reason[i] != AT_RISK:
            continue
        start, end = begin[i], stop[i]
        _fill(
            bounds, i, start, end, phase_start, phase_end, transplant, kinds, phases, offsets, tie
        )
        before = -1
        for m in range(marks + 1):
            low = min(max(bounds[m], start), end)
            if not low < min(max(bounds[m + 1], start), end):
                continue
            if before >= 0 and before != effects[m]:
                times[count], effect[count] = low, effects[m]
                count += 1
            before = effects[m]
    found[0] = count


def _tally(
    begin: Any,
    stop: Any,
    event: Any,
    reason: Any,
    phase_start: Any,
    phase_end: Any,
    transplant: Any,
    kinds: Any,
    phases: Any,
    offsets: Any,
    tie: Any,
    states: Any,
    upper_cuts: Any,
    lower_cuts: Any,
    edges: Any,
    group: Any,
    weight: Any,
    x: Any,
    degrees: Any,
    events: Any,
    partial: Any,
    passed: Any,
    opened: Any,
    first: Any,
    longest: Any,
    visitors: Any,
) -> None:
    marks = kinds.size
    bounds = np.empty(marks + 2)
    count = partial.shape[3]
    values = np.ones(count)
    seen_by = np.full(first.size, -1)
    for i in range(begin.size):
        if reason[i] != AT_RISK:
            continue
        start, end = begin[i], stop[i]
        _fill(
            bounds, i, start, end, phase_start, phase_end, transplant, kinds, phases, offsets, tie
        )
        times = weight[i] if weight.size else 1.0
        if degrees.size:
            _products(values, degrees, x, i)
        g = group[i]
        for m in range(marks + 1):
            low = min(max(bounds[m], start), end)
            high = min(max(bounds[m + 1], start), end)
            if not low < high:
                continue
            s = states[m]
            if seen_by[s] != i:
                seen_by[s] = i
                visitors[s] += 1
            first[s] = min(first[s], low)
            longest[s] = max(longest[s], high - low)
            until = np.searchsorted(upper_cuts, high)
            since = min(np.searchsorted(lower_cuts, low, side="right"), until)
            opened[s, g, since] += 1
            opened[s, g, until + 1] -= 1
            ended, left = times * (high - edges[until]), times * (low - edges[since])
            for t in range(count):
                value = values[t]
                partial[s, g, until, t] += value * ended
                partial[s, g, since, t] -= value * left
                passed[s, g, until, t] += value * times
                passed[s, g, since, t] -= value * times
            if event[i] and high == end:
                for t in range(count):
                    events[s, g, until, t] += values[t] * times


def _bounds(
    begin: Any, stop: Any, event: Any, reason: Any, weight: Any, reasons: Any, found: Any
) -> None:
    # Sums of runs of patients, then of these: rounding grows with the number of runs only.
    spent, died, run = 0.0, 0.0, 0
    for i in range(begin.size):
        reasons[reason[i]] += 1
        if reason[i] != AT_RISK:
            continue
        times = weight[i] if weight.size else 1.0
        found[0] = min(found[0], begin[i])
        found[1] = max(found[1], begin[i])
        found[2] = max(found[2], stop[i])
        spent += times * (stop[i] - begin[i])
        if event[i]:
            died += times
        run += 1
        if run == 4096:
            found[3] += spent
            found[4] += died
            spent, died, run = 0.0, 0.0, 0
    found[3] += spent
    found[4] += died


def _moments(inside: Any, group: Any, x: Any, degrees: Any, total: Any) -> None:
    values = np.ones(total.shape[1])
    for i in range(inside.size):
        if not inside[i]:
            continue
        if degrees.size:
            _products(values, degrees, x, i)
        for t in range(values.size):
            total[group[i], t] += values[t]


_READY: dict[str, Any] = {}


def constant[T: np.generic](values: NDArray[T]) -> NDArray[T]:
    """View an array as one that cannot be written to, so that one compiled form serves all."""
    view = values.view()
    view.flags.writeable = False
    return view


def run_compiled(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function compiled; the compiled form is kept on disk where that is possible.

    Parameters
    ----------
    function
        A function that numba can compile, the only one of its name.
    """
    ready = _READY.get(function.__name__)
    if ready is None:
        signature = tuple(numba.typeof(argument) for argument in arguments)
        try:
            ready = numba.njit(cache=True, nogil=True)(function)
            ready.compile(signature)
        except Exception as error:  # no folder to keep it in, or what is kept there is damaged
            _log.info("Compiled functions are not kept on disk (%s).", error)
            ready = numba.njit(nogil=True)(function)
        _READY[function.__name__] = ready
    ready(*arguments)
