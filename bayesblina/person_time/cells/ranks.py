"""Exact order statistics of times of a scan, and their neighbours, in a second pass."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bayesblina.core.arrays import Floats, Ints
from bayesblina.patients.scan.passes import State
from bayesblina.person_time.cells.blocks import Asked, Blocks
from bayesblina.person_time.cells.ordered import (
    BEGIN,
    BINS,
    EVENT,
    Moment,
    bins_of,
    bins_to_read,
    look_up,
)
from bayesblina.person_time.cells.survey import Survey

if TYPE_CHECKING:
    import pyarrow as pa

# More values than this are kept as different values and their counts.
HELD = 4_000_000


class TimesInBins:
    """The different times that lie in some bins, and how often each occurs.

    A `bayesblina.patients.scan.passes.Partial`.

    `bins`: the bins, by kind of moment.
    """

    def __init__(self, asked: Asked, bins: Mapping[Moment, Ints]) -> None:
        self._asked = asked
        self._wanted = {moment: np.zeros(BINS, dtype=np.bool_) for moment in bins}
        for moment, wanted in bins.items():
            self._wanted[moment][wanted] = True
        self._parts: dict[Moment, list[tuple[Floats, Ints]]] = {moment: [] for moment in bins}
        self._waiting = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the patients of a block."""
        rows = self._asked.rows(batch)
        for risk, inside in self._asked.risks(rows):
            times_of = {
                EVENT: risk.stop[risk.event],
                BEGIN: risk.begin[inside],
                **self._asked.entered(rows, risk),
            }
            for moment, times in times_of.items():
                held = times[self._wanted[moment][bins_of(times)]]
                self._parts[moment].append((held, np.ones(held.size, dtype=np.int64)))
                self._waiting += held.size
        if self._waiting > HELD:
            self.counts()

    def counts(self) -> dict[Moment, tuple[Floats, Ints]]:
        """Return the different times, rising, and how often each occurs."""
        for moment, parts in self._parts.items():
            empty = (np.empty(0), np.empty(0, dtype=np.int64))
            times, often = map(np.concatenate, zip(empty, *parts, strict=True))
            different, position = np.unique(times, return_inverse=True)
            total = np.zeros(different.size, dtype=np.int64)
            np.add.at(total, position, often)
            self._parts[moment] = [(different, total)]
        self._waiting = 0
        return {moment: counted for moment, (counted,) in self._parts.items()}

    def state(self) -> State:
        """Lay out times and counts, for another process."""
        return {
            f"{what} {moment}": values
            for moment, counted in self.counts().items()
            for what, values in zip(("times", "counts"), counted, strict=True)
        }

    def merge(self, state: State) -> None:
        """Add the times of other patients."""
        for moment, parts in self._parts.items():
            parts.append((state[f"times {moment}"], state[f"counts {moment}"]))


def order_statistics(
    blocks: Blocks, seen: Survey, ranks: Mapping[Moment, Ints]
) -> dict[Moment, Floats]:
    """Look up times at given ranks, all endpoints together, and their neighbours.

    `ranks`, shape (rank,): ranks from 0 on.
    Result, shape (3, rank): as of `bayesblina.person_time.cells.ordered.look_up`.
    """
    bins = {
        moment: np.flatnonzero(needed) for moment, needed in bins_to_read(seen.bins, ranks).items()
    }
    times = blocks.summed(partial(TimesInBins, blocks.asked, bins), blocks.eligible(blocks.times()))
    return look_up(seen.bins, times.counts(), ranks, bin_of=bins_of, earliest=seen.earliest[0])
