"""Courses of treatment in which phases may recur: stays, and the states that they make.

A stay is time in one phase, ``(start, stop]``. A patient has any number, one after the other, in
any phases. An exposure, a set of phases, enters by a measure of the patient's own history: whether
she is in it, how long ago she entered or left it, how much of it she has had, for which time. Each
is a step function of time, so that time at risk cut at its steps stays sufficient.

What is at a cut belongs to what was before, as everywhere: more than 6 months begin after 6.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints, rows_in_runs
from bayesblina.core.episodes import OFF_TREATMENT, TRANSPLANT, Layout, before_first
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import TIE_TOLERANCE

Measure = Literal["current", "ever", "since_entry", "since_end", "cumulative", "episode"]
Amount = Literal["time", "cycles", "dose"]
MEASURES: tuple[Measure, ...] = (
    "current",
    "ever",
    "since_entry",
    "since_end",
    "cumulative",
    "episode",
)
# Measures of what has been, which go on whatever a patient is in now.
LASTING = ("since_end", "cumulative")
STEPPED = ("since_entry", "since_end", "cumulative", "episode")
AMOUNTS: tuple[Amount, ...] = ("time", "cycles", "dose")
BEFORE_ANY = "before any phase"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stays:
    """Stays of patients in phases: by patient, and each patient's by time, none overlapping.

    Attributes
    ----------
    patient, phase : ndarray of int, shape (stay,)
        Position of the patient, and of the phase.
    start, stop : ndarray, shape (stay,)
        The stay ``(start, stop]``; infinite where it went on.
    cycles : ndarray, shape (stay,)
        Cycles that begin with the stay: 1, or 0 where it goes on with the cycle before.
    dose : ndarray, shape (stay,), or None
        What was given in the stay, evenly over it; None if nothing is known of doses.
    bridged
        Gaps of up to this length, between stays in the same phase, were closed.
    grace
        Patients count as in a phase for so long after each of its stays.
    """

    patient: Ints
    phase: Ints
    start: Floats
    stop: Floats
    cycles: Floats
    dose: Floats | None = None
    bridged: float = 0.0
    grace: float = 0.0

    @property
    def size(self) -> int:
        """Number of stays."""
        return int(self.patient.size)

    def of(self, rows: Ints | Bools | slice) -> Stays:
        """Take some of the stays."""
        return Stays(
            patient=self.patient[rows],
            phase=self.phase[rows],
            start=self.start[rows],
            stop=self.stop[rows],
            cycles=self.cycles[rows],
            dose=None if self.dose is None else self.dose[rows],
            bridged=self.bridged,
            grace=self.grace,
        )

    def of_patients(self, rows: Ints | Bools) -> Stays:
        """Take the stays of some patients, who are numbered anew: a patient twice has them twice.

        `rows`: positions of the patients in their new order, or which are kept.
        """
        who = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.asarray(rows, dtype=np.int64)
        first = np.searchsorted(self.patient, who)
        counts = np.searchsorted(self.patient, who, side="right") - first
        own, at = rows_in_runs(first, counts)
        return replace(self.of(at), patient=own)


def bridge_gaps(stays: Stays, length: float) -> tuple[Stays, Ints]:
    """Let stays last until the next one in the same phase where the gap is short.

    Whose gaps were bridged comes with them. A dose is spread over the longer stay.
    """
    if not length or stays.size < 2:
        return stays, np.empty(0, dtype=np.int64)
    gap = stays.start[1:] - stays.stop[:-1]
    joined = (stays.patient[1:] == stays.patient[:-1]) & (stays.phase[1:] == stays.phase[:-1])
    joined &= (gap > 0) & (gap <= length * (1.0 + TIE_TOLERANCE))
    stop = stays.stop.copy()
    stop[:-1][joined] = stays.start[1:][joined]
    longest = max(length, stays.bridged)
    return replace(stays, stop=stop, bridged=longest), stays.patient[:-1][joined]


def prolong(stays: Stays, length: float) -> tuple[Stays, Ints]:
    """Let patients be in a phase for so long after each stay, but not beyond their next one.

    What is added is a stay that follows at once, in which nothing is given and no cycle begins.
    Whose stays last longer comes with them.
    """
    if not length or not stays.size:
        return stays, np.empty(0, dtype=np.int64)
    more = stays.patient[1:] == stays.patient[:-1]
    following = np.append(np.where(more, stays.start[1:], np.inf), np.inf)
    end = np.minimum(stays.stop + length, following)
    rows = np.flatnonzero(np.isfinite(stays.stop) & (end > stays.stop * (1.0 + TIE_TOLERANCE)))
    dose = stays.dose
    added = np.insert(np.arange(stays.size), rows + 1, rows)
    # Where what was added stands.
    at = rows + np.arange(1, rows.size + 1)
    longer = replace(stays.of(added), grace=stays.grace + length)
    start, stop, cycles = (values.copy() for values in (longer.start, longer.stop, longer.cycles))
    start[at], stop[at], cycles[at] = stays.stop[rows], end[rows], 0.0
    if longer.dose is not None:
        dose = longer.dose.copy()
        dose[at] = 0.0
    return (
        replace(longer, start=start, stop=stop, cycles=cycles, dose=dose),
        stays.patient[rows],
    )


def stays_of_phases(starts: Floats, ends: Floats) -> Stays:
    """Take phases that follow each other as stays.

    `starts`, `ends`, shape (patient, phase): NaN where there was none. A phase without an end lasts
    until the next one, or goes on.

    >>> stays_of_phases(np.array([[2.0, 5.0]]), np.array([[3.0, np.nan]])).stop
    array([ 3., inf])
    """
    begin = np.where(np.isnan(starts), np.inf, starts)
    later = np.minimum.accumulate(
        np.concatenate([begin[:, 1:], np.full((begin.shape[0], 1), np.inf)], axis=1)[:, ::-1],
        axis=1,
    )[:, ::-1]
    stop = np.where(np.isnan(ends), later, np.minimum(ends, later))
    patient, phase = np.nonzero(begin < stop)
    return Stays(
        patient=patient.astype(np.int64),
        phase=phase.astype(np.int64),
        start=begin[patient, phase],
        stop=stop[patient, phase],
        cycles=np.ones(patient.size),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """A set of phases, and the measure by which it enters.

    `phases`: positions of the phases.
    `label`: name of the set.
    `steps`: where the measure's steps lie, rising; none for measures without steps.
    `lag`: how much later than its history the measure is. Of `current`, `ever` and `episode` only
    entries are later.
    """

    phases: tuple[int, ...]
    label: str
    measure: Measure
    steps: tuple[float, ...] = ()
    amount: Amount = "time"
    lag: float = 0.0

    def __post_init__(self) -> None:
        whole = [0, *map(int, self.steps)]
        if self.amount == "cycles" and any(low >= high for low, high in pairwise(whole)):
            raise SpecError(
                f"steps of cycles begin after whole numbers of them, from 1 on, got "
                f"{list(self.steps)!r}."
            )

    @property
    def passes(self) -> bool:
        """Whether steps are entered as time passes, not only where a stay begins."""
        by_stays = self.measure in ("current", "ever", "episode") or self.amount == "cycles"
        return not by_stays


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseLayout(Layout):
    """States of courses in which phases may recur.

    `exposure`: what is exposed, and how.
    `keys`, shape (phase,): number of the state that a stay in each phase is, steps apart: the
    exposed phases share the first, 1.
    `table`, shape (key, step + 1): position of the state of each key, before any step (0) and in
    each step. Keys are 0 (before any stay), the stays', off treatment and transplanted.
    `transplant`: whether transplanted is a key.
    `phases`, `ordered`: names of the phases, and whether they come in this order.
    """

    exposure: Exposure
    keys: Ints
    table: Ints
    transplant: bool
    phases: tuple[str, ...]
    ordered: bool

    def to_json(self) -> str:
        """Write down what makes it again."""
        return json.dumps(
            {
                "phases": self.phases,
                "ordered": self.ordered,
                "transplant": self.transplant,
                "exposure": asdict(self.exposure),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> CourseLayout:
        """Make the layout that was written down."""
        said = json.loads(text)
        exposure = said["exposure"]
        exposure |= {name: tuple(exposure[name]) for name in ("phases", "steps")}
        return lay_out_courses(
            said["phases"],
            Exposure(**exposure),
            ordered=said["ordered"],
            transplant=said["transplant"],
        )


def step_names(exposure: Exposure) -> tuple[list[str], list[float]]:
    """Name the states of an exposure by step, and say where each begins.

    >>> step_names(Exposure(phases=(0,), label="on", measure="since_end", steps=(1.0,)))
    (['on', 'on ended 0 to 1', 'on ended from 1'], [-1.0, 0.0, 1.0])
    >>> had = Exposure(
    ...     phases=(0,), label="on", measure="cumulative", amount="cycles", steps=(2.0, 3.0)
    ... )
    >>> step_names(had)
    (['on up to 2 cycles', 'on 3 cycles', 'on 4 cycles and more'], [0.0, 2.0, 3.0])
    """
    label, steps = exposure.label, exposure.steps
    if exposure.measure == "episode":
        edges = [1.0, *steps]
        names = [
            f"{label} episode {low:g}" + ("" if high == low + 1 else f" to {high - 1:g}")
            for low, high in pairwise(edges)
        ]
        return [*names, f"{label} episode {edges[-1]:g} and later" if steps else label], edges
    edges = [0.0, *steps]
    if exposure.amount == "cycles" and steps:
        # More than so many cycles are that and one more at least.
        first = [int(edge) + 1 for edge in edges]
        names = [f"{label} {_cycles(low, high - 1)}" for low, high in pairwise(first)]
        return [*names, f"{label} {first[-1]} cycles and more"], edges
    prefix = {
        "since_end": f"{label} ended",
        "cumulative": f"{label} {exposure.amount}",
    }.get(exposure.measure, label)
    if exposure.measure == "since_end":
        names = [f"{prefix} {low:g} to {high:g}" for low, high in pairwise(edges)]
        # In the phase itself, nothing has ended.
        return [label, *names, f"{prefix} from {edges[-1]:g}"], [-edges[-1] or -1.0, *edges]
    if not steps:
        return [label], [0.0]
    names = [f"{prefix} {low:g} to {high:g}" for low, high in pairwise(edges)]
    return [*names, f"{prefix} from {edges[-1]:g}"], edges


def _cycles(least: int, most: int) -> str:
    """Name numbers of cycles."""
    if least == most:
        return f"{most} cycle{'s' * (most > 1)}"
    return f"up to {most} cycles" if least == 1 else f"{least} to {most} cycles"


def lay_out_courses(
    phases: Sequence[str], exposure: Exposure, *, ordered: bool, transplant: bool
) -> CourseLayout:
    """Lay out the states that courses in which phases may recur can be in.

    `ordered`: whether phases come in the order given.
    `transplant`: whether a transplant begins a last state of its own.
    """
    first = before_first(phases) if ordered else BEFORE_ANY
    pieces, since_pieces = step_names(exposure)
    states, names, since = [first], [first], [0.0]
    key_states: list[list[int]] = [[0] * (len(pieces) + 1)]
    keys = np.zeros(len(phases), dtype=np.int64)

    def add(name: str) -> list[int]:
        states.append(name)
        names.append(name)
        since.append(0.0)
        return [len(states) - 1] * (len(pieces) + 1)

    exposed: list[int] = []
    rest: list[list[int]] = []
    for index, name in enumerate(phases):
        if index not in exposure.phases:
            keys[index] = 2 + len(rest)
            rest.append(add(name))
            continue
        keys[index] = 1
        if not exposed:
            exposed = [len(states) + piece for piece in range(len(pieces))]
            states += pieces
            names += [exposure.label] * len(pieces)
            since += since_pieces
    key_states += [[exposed[0], *exposed], *rest, add(OFF_TREATMENT)]
    if transplant:
        key_states.append(add(TRANSPLANT))
    table = np.array(key_states, dtype=np.int64)
    if exposure.measure in LASTING:
        # What has been counts, whatever the patient is in; a transplant is a state of its own.
        table[: len(key_states) - int(transplant), 1:] = exposed
    return CourseLayout(
        states=tuple(states),
        phase_names=tuple(names),
        since=tuple(since),
        marks=(),
        exposure=exposure,
        keys=keys,
        table=table,
        transplant=transplant,
        phases=tuple(phases),
        ordered=ordered,
    )
