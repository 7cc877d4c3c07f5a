"""Events that are found at visits: what is known of each patient, and their courses in between.

Until the last visit without the event a patient's time at risk is exact, and counts in cells as any
other. An event that was found later lies in the gap between that visit and the one at which it was
found, and is a term of its own in the likelihood. Where nobody starts a phase after the event, seen
or not, a start proves that there was none before it; that a gap holds no start is evidence then,
and needs a model of starting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.episodes import ALL_FOLLOW_UP, OFF_TREATMENT, TRANSPLANT
from bayesblina.core.intervals import number_of_intervals, split

if TYPE_CHECKING:
    import xarray as xr

# How many starts of phases there are, about, in each interval of the time since becoming eligible,
# and how many intervals at most.
STARTS_PER_INTERVAL, MOST_START_INTERVALS = 20, 8
# Of the gaps' lengths, which is a usual one (some are cut short by starts), and what is as long.
USUAL, NEARLY = 0.75, 0.95


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gaps:
    """Parts of the gaps in which events were found, by patient and time.

    `patient`, shape (part,): row of the cohort.
    `phase`, shape (part,): state.
    `start`, `stop`, shape (part,): the part ``(start, stop]``; none is empty.
    """

    patient: Ints
    phase: Ints
    start: Floats
    stop: Floats

    @property
    def events(self) -> int:
        """How many events were found at visits."""
        return int(np.unique(self.patient).size)

    def ends(self) -> Floats:
        """Find the last visits without the event and those with it, shape (2, event)."""
        opens = np.diff(self.patient, prepend=-1) != 0
        closes = np.append(opens[1:], True)[: self.patient.size]
        return np.stack([self.start[opens], self.stop[closes]])

    def grid(self) -> Floats:
        """Choose cut points such that no interval is shorter than a usual gap.

        Each lies at a visit at which events were found.

        >>> gaps = Gaps(
        ...     patient=np.arange(12),
        ...     phase=np.zeros(12, dtype=int),
        ...     start=np.repeat([0.0, 6.0, 12.0], 4),
        ...     stop=np.repeat([6.0, 12.0, 18.0], 4),
        ... )
        >>> gaps.grid()
        array([ 6., 12.])
        """
        last, found = self.ends()
        if not found.size:
            return np.empty(0)
        times, usual = np.unique(found), float(np.quantile(found - last, USUAL)) * NEARLY
        parts = number_of_intervals(found.size)
        usual = max(usual, float(times[-1]) / parts * NEARLY)
        cuts: list[float] = []
        at = 0.0
        while (index := int(np.searchsorted(times, at + usual))) < times.size - 1:
            at = float(times[index])
            cuts.append(at)
        return np.array(cuts)

    @property
    def time(self) -> float:
        """Expected time at risk in the gaps, if events are spread evenly over them."""
        return float(self.spread()[1].sum())

    def spread(self) -> tuple[Floats, Floats]:
        """Spread events evenly over their gaps: expected events and time at risk of each part.

        Result: both of shape (part,).

        >>> gaps = Gaps(
        ...     patient=np.array([0, 0]),
        ...     phase=np.array([0, 1]),
        ...     start=np.array([2.0, 5.0]),
        ...     stop=np.array([5.0, 6.0]),
        ... )
        >>> gaps.spread()
        (array([0.75, 0.25]), array([1.875, 0.125]))
        """
        opens = np.diff(self.patient, prepend=-1) != 0
        whose, length = np.cumsum(opens) - 1, self.stop - self.start
        total = np.bincount(whose, weights=length)[whose]
        middle = (self.start + self.stop) / 2.0 - self.start[opens][whose]
        return length / total, length * (1.0 - middle / total)


def is_entered(patient: Ints, phase: Ints, names: Sequence[str]) -> Bools:
    """Say which episodes begin with the start of a phase, within time at risk.

    `patient`, `phase`, shape (episode,): whose it is, and the state; by patient and time.
    `names`: the phase of each state; the first is that before any phase.
    """
    apart = {names[0], OFF_TREATMENT, TRANSPLANT, ALL_FOLLOW_UP}
    order = list(dict.fromkeys(names))
    number = np.array([order.index(name) for name in names])[phase]
    treated = np.array([name not in apart for name in names])[phase]
    same = np.diff(patient, prepend=-1) == 0
    return np.asarray(same & (np.diff(number, prepend=-1) != 0) & treated)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartCells:
    """Cells of starting: states that phases are started from, by time since becoming eligible.

    `position`, shape (state, interval): number of the cell; -1 in states from which nobody starts.
    `cuts`, shape (interval - 1,): inner cut points of time since becoming eligible.
    """

    position: Ints
    cuts: Floats

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.position.max(initial=-1)) + 1

    def labels(self, states: Sequence[str]) -> list[str]:
        """Name the cells, by state and time since becoming eligible."""
        edges = [0.0, *self.cuts.tolist()]
        ends = [f" to {edge:.3g}" for edge in edges[1:]] + [" on"]
        state, interval = np.nonzero(self.position >= 0)
        return [
            f"{states[of]}, {edges[at]:.3g}{ends[at]}"
            for of, at in zip(state.tolist(), interval.tolist(), strict=True)
        ]


def choose_start_cells(since: Floats, left: Ints, states: int) -> StartCells:
    """Choose cells of starting by the starts that there are.

    `since`, `left`, shape (start,): time since becoming eligible, and the state that is left.
    `states`: number of states.
    """
    count = int(np.clip(since.size // STARTS_PER_INTERVAL, 1, MOST_START_INTERVALS))
    cuts = np.empty(0)
    if since.size:
        cuts = np.unique(np.quantile(since, np.arange(1, count) / count))
        cuts = cuts[(cuts > 0.0) & (cuts < since.max())]
    from_states = np.unique(left)
    position = np.full((states, cuts.size + 1), -1, dtype=np.int64)
    count = from_states.size * position.shape[1]
    position[from_states] = np.arange(count).reshape(from_states.size, position.shape[1])
    return StartCells(position=position, cuts=cuts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starting:
    """Time at risk of starting a phase while known to be event-free, in parts.

    `patient`, shape (part,): whose it is.
    `cell`, shape (part,): cell of starting.
    `length`, shape (part,): how long.
    `starts`, shape (part,): whether it ends with a start.
    """

    patient: Ints
    cell: Ints
    length: Floats
    starts: Bools


def time_at_risk_of_starting(
    patient: Ints,
    phase: Ints,
    start: Floats,
    stop: Floats,
    ends: Bools,
    begin: Floats,
    cells: StartCells,
) -> Starting:
    """Cut one endpoint's exact time at risk at intervals of time since becoming eligible.

    `patient`, `phase`, `start`, `stop`, shape (episode,): episodes, by patient and time.
    `ends`, shape (episode,): whether the episode ends with a start, perhaps into a gap.
    `begin`, shape (patient,): when each patient's time at risk begins.
    """
    of, interval, length = split(start - begin[patient], stop - begin[patient], cells.cuts)
    cell = cells.position[phase[of], interval]
    last = np.append(np.diff(of) != 0, True)[: of.size]
    kept = cell >= 0
    return Starting(
        patient=patient[of][kept],
        cell=cell[kept],
        length=length[kept],
        starts=(ends[of] & last)[kept],
    )


def cut_gaps(
    gaps: xr.Dataset, begin: Floats, cuts: Floats, states: int, cells: StartCells | None
) -> xr.Dataset:
    """Cut gaps where a hazard may change: at a model's cut points, and at those of starting.

    `gaps`: over episode: ``endpoint``, ``patient``, ``phase``, ``start``, ``stop`` of the parts of
    gaps, by endpoint, patient and time.
    `begin`, shape (endpoint, patient): when time at risk begins.
    `states`: number of states.
    Result: over found: ``found_endpoint``, ``found_patient``; over part, event by event:
    ``part_found``, the event; ``part_cell``, interval by interval, states fastest; ``part_length``;
    and ``part_start``, the cell of starting, -1 where nobody starts.
    """
    endpoint, patient, phase, start, stop = (
        gaps[name].values for name in ("endpoint", "patient", "phase", "start", "stop")
    )
    import xarray as xr  # which validation does not need

    row, interval, length = split(start, stop, cuts)
    starting = np.full(row.size, -1, dtype=np.int64)
    if cells is not None:
        low = np.maximum(np.concatenate([[0.0], cuts])[interval], start[row])
        since = low - begin[endpoint[row], patient[row]]
        again, number, length = split(since, since + length, cells.cuts)
        row, interval = row[again], interval[again]
        starting = cells.position[phase[row], number]
    opens = np.diff(patient[row], prepend=-1) != 0
    opens |= np.diff(endpoint[row], prepend=-1) != 0
    return xr.Dataset(
        {
            "found_endpoint": ("found", endpoint[row][opens]),
            "found_patient": ("found", patient[row][opens]),
            "part_found": ("part", np.cumsum(opens) - 1),
            "part_cell": ("part", interval * states + phase[row]),
            "part_length": ("part", length),
            "part_start": ("part", starting),
        }
    )
