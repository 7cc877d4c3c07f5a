"""When patients' states begin: marks of courses in which phases may recur, and what is cut at them.

What is at a cut belongs to what was before, as everywhere: more than 6 months begin after 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints, rows_in_runs
from bayesblina.core.courses import LASTING, CourseLayout, Exposure, Stays, lay_out_courses
from bayesblina.core.episodes import near, segment, settled, tie_width
from bayesblina.core.intervals import TIE_TOLERANCE

# Patients whose marks are found at a time.
AT_A_TIME = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseMarks:
    """When patients' states begin: by patient, and each patient's by time.

    `first`, shape (patient + 1,): where each patient's marks begin.
    `time`, `state`, shape (mark,): when a state begins, and which; until the first mark a patient
    is in state 0.
    """

    first: Ints
    time: Floats
    state: Ints

    def of(self, rows: slice) -> CourseMarks:
        """Take the marks of patients who follow each other; nothing but `first` is copied."""
        first = self.first[rows.start : None if rows.stop is None else rows.stop + 1]
        marks = slice(first[0], first[-1])
        return CourseMarks(first=first - first[0], time=self.time[marks], state=self.state[marks])


def course_marks(
    stays: Stays, layout: CourseLayout, patients: int, transplant: Floats | None = None
) -> CourseMarks:
    """Find when patients' states begin.

    `patients`: number of patients.
    `transplant`, shape (patient,): times of transplants, where these begin a state of their own.
    """
    # Some patients at a time: what is worked out between then stays in the processor's cache.
    edges = np.arange(0, patients, AT_A_TIME)
    bounds = np.append(np.searchsorted(stays.patient, edges), stays.size)
    parts = []
    for first, low, high in zip(edges.tolist(), bounds[:-1], bounds[1:], strict=True):
        own = stays.of(slice(low, high))
        size = min(AT_A_TIME, patients - first)
        moved = None if transplant is None else transplant[first : first + size]
        parts.append(_marks_of_some(replace(own, patient=own.patient - first), layout, size, moved))
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(part.time.size for part in parts)])
    firsts = [part.first[:-1] + count for part, count in zip(parts, before, strict=False)]
    return CourseMarks(
        first=np.concatenate([*firsts, before[-1:]]),
        time=np.concatenate([np.empty(0), *(part.time for part in parts)]),
        state=np.concatenate([np.empty(0, np.int64), *(part.state for part in parts)]),
    )


def _marks_of_some(
    stays: Stays, layout: CourseLayout, patients: int, transplant: Floats | None
) -> CourseMarks:
    """Find when the states of some patients begin: `course_marks` of a few."""
    exposure = layout.exposure
    # Where a phase lasts until another one, what lies between its stays is in it.
    runs = runs_of(stays, layout.keys, over_gaps=exposure.measure in ("ever", "since_entry"))
    base = runs
    if exposure.measure in LASTING:
        # The steps alone say when the exposed phases count.
        others = stays.of(layout.keys[stays.phase] != 1)
        base = runs_of(others, layout.keys)
    parts = _base_marks(base, layout)
    if layout.transplant and transplant is not None:
        who = np.flatnonzero(np.isfinite(transplant))
        parts.append((who, transplant[who], np.full(who.size, layout.table.shape[0] - 1), None))
    return _joined([*parts, _step_marks(stays, runs, exposure)], layout, patients)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Stays of the same key that follow each other without a gap, put together.

    `patient`, `key`, `start`, `stop`, shape (run,).
    `following`, shape (run,): when the patient's next run starts; infinite for the last.
    """

    patient: Ints
    key: Ints
    start: Floats
    stop: Floats
    following: Floats


def _same_as_before(values: Ints) -> Bools:
    return np.asarray(np.diff(values, prepend=-1) == 0)


def runs_of(stays: Stays, keys: Ints, *, over_gaps: bool = False) -> Runs:
    """Put stays together that go on at once, or, over gaps, with the next one of their key.

    `keys`, shape (phase,): number that stays in each phase are told apart by.
    """
    key = keys[stays.phase]
    goes_on = _same_as_before(stays.patient) & _same_as_before(key)
    if not over_gaps:
        previous = np.concatenate([[-np.inf], stays.stop[:-1]])[: stays.size]
        goes_on &= stays.start <= previous * (1.0 + TIE_TOLERANCE)
    begins = np.flatnonzero(~goes_on)
    last = np.append(begins[1:], stays.size) - 1 if begins.size else begins
    patient, key, start = stays.patient[begins], key[begins], stays.start[begins]
    more = np.append(patient[1:] == patient[:-1], False) if patient.size else np.zeros(0, bool)
    return Runs(
        patient=patient,
        key=key,
        start=start,
        stop=stays.stop[last],
        following=np.where(more, np.append(start[1:], np.inf)[: start.size], np.inf),
    )


# Marks of one kind: patients, times, keys or None, steps or None.
_Part = tuple[Ints, Floats, Ints | None, Ints | None]


def _base_marks(runs: Runs, layout: CourseLayout) -> list[_Part]:
    """When patients leave phases and enter them, whatever the steps."""
    exposure = layout.exposure
    until_next = exposure.measure in ("ever", "since_entry")
    # Until the lag is over a patient stays in what was before.
    entered = runs.start + np.where(runs.key == 1, exposure.lag, 0.0)
    inside = entered < (runs.following if until_next else runs.stop)
    off = layout.table.shape[0] - 1 - int(layout.transplant)
    leaves = (runs.stop < runs.following) & np.isfinite(runs.stop) & (not until_next)
    return [
        (runs.patient[leaves], runs.stop[leaves], np.full(int(leaves.sum()), off), None),
        (runs.patient[inside], entered[inside], runs.key[inside], None),
    ]


def _step_marks(stays: Stays, runs: Runs, exposure: Exposure) -> _Part:
    """When the measure of the exposure enters its steps, numbered from 1 on."""
    of_exposed = runs.key == 1
    patient, start, stop = (values[of_exposed] for values in (runs.patient, runs.start, runs.stop))
    opens = ~_same_as_before(patient)
    who: list[Ints] = [patient[opens]]
    times: list[Floats] = [start[opens]]
    steps: list[Ints] = [np.ones(int(opens.sum()), dtype=np.int64)]

    def add(rows: Bools, at: Floats, step: int) -> None:
        who.append(patient[rows])
        times.append(at[rows])
        steps.append(np.full(int(rows.sum()), step, dtype=np.int64))

    lag = exposure.lag
    if exposure.measure in ("current", "ever"):
        # Entries are lagged with the phases': the one step has begun by then.
        return who[0], times[0], None, steps[0]
    if exposure.measure == "since_entry":
        for step, since in enumerate(exposure.steps, start=2):
            # Steps that end before the lag are never entered.
            add(opens, start + since, step)
        return np.concatenate(who), np.concatenate(times), None, np.concatenate(steps)
    if exposure.measure == "episode":
        edges = np.array(exposure.steps)
        step_of = np.searchsorted(edges, _count_within(patient), side="right") + 1
        return patient, start, None, np.asarray(step_of, dtype=np.int64)
    if exposure.measure == "since_end":
        more = np.append(patient[1:] == patient[:-1], False)[: start.size]
        again = np.where(more, np.append(start[1:], np.inf)[: start.size], np.inf)
        who, times, steps = [patient], [start], [np.ones(patient.size, dtype=np.int64)]
        for step, since in enumerate((0.0, *exposure.steps), start=2):
            at = stop + since
            add((at < again) & np.isfinite(at), at, step)
    else:
        whose, at, step_of = _crossings(stays, exposure)
        who.append(whose)
        times.append(at)
        steps.append(step_of)
    return np.concatenate(who), np.concatenate(times) + lag, None, np.concatenate(steps)


def _count_within(patient: Ints) -> Ints:
    """Count the runs of each patient, from 1 on."""
    opens = np.flatnonzero(~_same_as_before(patient))
    counts = np.diff(np.append(opens, patient.size))
    return np.arange(patient.size) - np.repeat(opens, counts) + 1


def _crossings(stays: Stays, exposure: Exposure) -> tuple[Ints, Floats, Ints]:
    """When what a patient has had so far comes to exceed each step."""
    own = stays.of(np.isin(stays.phase, exposure.phases))
    if exposure.amount == "cycles":
        amount = own.cycles
    elif exposure.amount == "dose":
        assert own.dose is not None
        amount = own.dose
    else:
        amount = own.stop - own.start
    # What never ends is last in its patient's course. Sums are each patient's own: those over all
    # patients would lose digits.
    known = np.where(np.isfinite(amount), amount, 0.0)
    had = pd.Series(known).groupby(own.patient).cumsum().to_numpy() - known
    by_end = had + amount
    who, times, steps = [], [], []
    for number, step in enumerate(exposure.steps, start=2):
        tie = step * (1.0 + TIE_TOLERANCE)
        rows = (had <= tie) & (by_end > tie)
        if exposure.amount == "cycles":
            at = own.start[rows]
        else:
            rate = 1.0 if exposure.amount == "time" else (amount / (own.stop - own.start))[rows]
            at = own.start[rows] + np.maximum(step - had[rows], 0.0) / rate
        who.append(own.patient[rows])
        times.append(at)
        steps.append(np.full(int(rows.sum()), number, dtype=np.int64))
    if not who:
        return np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
    return np.concatenate(who), np.concatenate(times), np.concatenate(steps)


def _joined(parts: Sequence[_Part], layout: CourseLayout, patients: int) -> CourseMarks:
    """Put marks of all kinds in order, and read the state off what is known at each.

    `parts`: marks, at one time those that come first before the others: what is left before what
    is entered, lower steps before higher ones.
    """
    whose, times, keys, steps = zip(*parts, strict=True)
    who, time = np.concatenate(whose), np.concatenate(times)
    key, step = (
        np.concatenate(
            [
                np.full(own.size, -1) if values is None else values
                for own, values in zip(whose, known, strict=True)
            ]
        )
        for known in (keys, steps)
    )
    # Complex numbers are sorted by their real parts, then by the imaginary ones: each part is in
    # order, or nearly so, and a stable sort merges what is.
    by = np.empty(who.size, dtype=np.complex128)
    by.real, by.imag = who, time
    order = np.argsort(by, kind="stable")
    who, time = who[order], time[order]
    opens = ~_same_as_before(who)
    key = _filled(key[order], opens)
    step = _filled(step[order], opens)
    if layout.transplant:
        last = layout.table.shape[0] - 1
        gone = np.where(key == last, 1, -1)
        key = np.where(_filled(gone, opens) == 1, last, key)
    state = layout.table[key, step]
    # The last of several marks at one time holds.
    following = np.append(time[1:], np.inf)[: time.size]
    more = np.append(~opens[1:], False)[: time.size]
    held = ~(more & (following <= time * (1.0 + TIE_TOLERANCE)))
    who, time, state = who[held], time[held], state[held]
    before = np.where(_same_as_before(who), np.concatenate([[0], state[:-1]])[: state.size], 0)
    changed = state != before
    who, time, state = who[changed], time[changed], state[changed]
    return CourseMarks(
        first=np.searchsorted(who, np.arange(patients + 1)).astype(np.int64),
        time=time,
        state=state,
    )


def _filled(values: Ints, opens: Bools) -> Ints:
    """Carry known values, which are not -1, forward within patients; 0 before the first."""
    known = (values >= 0) | opens
    index = np.maximum.accumulate(np.where(known, np.arange(values.size), 0))
    return np.maximum(values[index], 0)


def bounds_of_stays(
    stays: Stays,
    phases: Sequence[str],
    *,
    patients: int,
    ordered: bool,
    measure: Literal["current", "ever"] = "current",
    transplant: Floats | None = None,
) -> tuple[Floats, tuple[str, ...], Ints]:
    """Find when patients enter each phase and leave it, as `state_bounds` of those that recur.

    `measure`: whether patients are off treatment after a stay, or in its phase until another one.
    `transplant`, shape (patient,): start of a last state of its own.
    `bounds`, shape (segment + 1, patient): as of `bayesblina.core.episodes.state_bounds`.
    `names`: names of all possible states.
    `state`, shape (segment, patient): position in `names` of each segment's state.
    """
    exposure = Exposure(phases=(0,), label=phases[0], measure=measure)
    layout = lay_out_courses(phases, exposure, ordered=ordered, transplant=transplant is not None)
    marks = course_marks(stays, layout, patients, transplant)
    counts = np.diff(marks.first)
    most = int(counts.max(initial=0))
    bounds = np.full((most + 2, patients), np.inf)
    state = np.zeros((most + 1, patients), dtype=np.int64)
    who = np.repeat(np.arange(patients), counts)
    number = np.arange(who.size) - marks.first[who] + 1
    bounds[0] = 0.0
    bounds[number, who] = marks.time
    state[number, who] = marks.state
    return bounds, layout.states, state


def cut_at_marks(
    marks: CourseMarks, rows: Ints, begin: Floats, stop: Floats, from_times: Floats, widths: Floats
) -> tuple[Ints, Ints, Floats, Floats]:
    """Cut follow-up at patients' own marks: the definition of `bayesblina.core.episodes`.

    `rows`, shape (patient,): whose follow-up it is; rising.
    `begin`, `stop`, shape (patient,): follow-up ``(begin, stop]``.
    Result: whose episode it is (position in `rows`), its state, start and end, each of shape
    (episode,); none is empty.
    """
    counts = marks.first[rows + 1] - marks.first[rows]
    # One segment more than marks: that before the first.
    who, at = rows_in_runs(marks.first[rows] - 1, counts + 1)
    inside = at >= marks.first[rows][who]
    lower, state = np.zeros(who.size), np.zeros(who.size, dtype=np.int64)
    lower[inside], state[inside] = marks.time[at[inside]], marks.state[at[inside]]
    own_begin, own_stop = begin[who], stop[who]
    width = tie_width(own_stop, from_times, widths)
    lower = np.where(inside, settled(lower, own_begin, own_stop, width), lower)
    upper = np.append(lower[1:], np.inf)[: who.size]
    upper[np.cumsum(counts + 1) - 1] = np.inf
    # Marks all but at the one before are at it.
    upper = np.where(near(upper, lower) & np.isfinite(upper), lower, upper)
    start, end = segment((lower, upper), 0, own_begin, own_stop)
    kept = end > start
    return who[kept], state[kept], start[kept], end[kept]


def measure_at(stays: Stays, exposure: Exposure, patient: Ints, time: Floats) -> Floats:
    """Work out an exposure's measure at some patients' times, just before them.

    `patient`, `time`, shape (moment,).
    Result, shape (moment,): NaN where there is none: before the first entry, and of `since_end`
    also while in it.
    """
    own = stays.of(np.isin(stays.phase, exposure.phases))
    runs = runs_of(own, np.ones(int(own.phase.max(initial=0)) + 1, dtype=np.int64))
    whose, start, stop = own.patient, own.start, own.stop
    if exposure.measure in ("since_end", "episode"):
        whose, start, stop = runs.patient, runs.start, runs.stop
    first = np.searchsorted(whose, patient)
    counts = np.searchsorted(whose, patient, side="right") - first
    moment, at = rows_in_runs(first, counts)
    now = (time - exposure.lag)[moment]
    begun = start[at] < now
    total = np.zeros(patient.size)
    if exposure.measure == "cumulative" and exposure.amount != "cycles":
        had = np.clip(now - start[at], 0.0, stop[at] - start[at])
        rate: float | Floats = 1.0
        if exposure.amount == "dose":
            assert own.dose is not None
            rate = (own.dose / (stop - start))[at]
        np.add.at(total, moment, had * rate)
    elif exposure.measure == "cumulative":
        np.add.at(total, moment, np.where(begun, own.cycles[at], 0.0))
    elif exposure.measure == "episode":
        np.add.at(total, moment, begun.astype(np.float64))
    else:
        ended = exposure.measure == "since_end"
        total = np.full(patient.size, -np.inf if ended else np.inf)
        pick = np.maximum if ended else np.minimum
        pick.at(total, moment[begun], (stop if ended else start)[at][begun])
        total = time - exposure.lag - total
    entered = np.zeros(patient.size, dtype=bool)
    entered[moment[begun]] = True
    # Who is still in it has not left it; what has no dose is had nevertheless.
    return np.where(entered & ((total > 0) | (exposure.measure != "since_end")), total, np.nan)
