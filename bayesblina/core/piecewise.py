"""Piecewise-constant hazards: rates, cumulative hazards and their inverse; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PiecewiseHazard:
    """Hazards that are constant between common times: of draws, of patients, or of one of them.

    `starts`, shape (piece,): where the pieces begin, rising; the first is where time is counted
    from. The last piece goes on for ever.
    `rates`, shape (row, piece): hazards, none negative.
    """

    starts: Floats
    rates: Floats

    @property
    def at_starts(self) -> Floats:
        """Cumulative hazard where the pieces begin, shape (row, piece)."""
        steps = self.rates[:, :-1] * np.diff(self.starts)
        return np.concatenate([np.zeros((steps.shape[0], 1)), np.cumsum(steps, axis=1)], axis=1)

    def rate(self, times: Floats) -> Floats:
        """Hazard at times, shape (row, time); where a piece begins that of the one before."""
        return np.asarray(self.rates[:, self._piece(times)])

    def cumulative(self, times: Floats) -> Floats:
        """Cumulative hazard up to times, shape (row, time)."""
        piece = self._piece(times)
        return self._reached(self.at_starts[:, piece], self.rates[:, piece], times, piece)

    def cumulative_of_each(self, times: Floats) -> Floats:
        """Cumulative hazard of each row up to a time of its own, shape (row,)."""
        piece, row = self._piece(times), np.arange(times.size)
        return self._reached(self.at_starts[row, piece], self.rates[row, piece], times, piece)

    def inverse(self, levels: Floats) -> Floats:
        """Find when cumulative hazards first reach levels.

        `levels`, shape (row,) or any shape where there is one row: levels, from 0 on.
        Result, shape of `levels`: the times; infinite where a level is never reached.
        """
        reached = self.at_starts
        last = self.starts.size - 1
        # Pieces wholly below the level; one with hazard 0 at the level itself is never entered.
        if self.rates.shape[0] == 1:
            row: Ints | int = 0
            piece = np.searchsorted(reached[0, 1:], levels, side="left")
        else:
            row = np.arange(levels.size)
            piece = (reached[:, 1:] < levels[:, None]).sum(axis=1)
        piece = np.minimum(piece, last)
        rest = levels - reached[row, piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = rest / self.rates[row, piece]
        return np.asarray(self.starts[piece] + np.where(rest > 0, beyond, 0.0))

    def _piece(self, times: Floats) -> Ints:
        """Piece in which each time lies."""
        return np.maximum(np.searchsorted(self.starts, times, side="left") - 1, 0)

    def _reached(self, before: Floats, rate: Floats, times: Floats, piece: Ints) -> Floats:
        """Add what passes within a piece; nothing where its hazard is 0, even in infinite time."""
        with np.errstate(invalid="ignore"):
            inside = rate * (times - self.starts[piece])
        return np.asarray(before + np.where(rate == 0, 0.0, inside))
