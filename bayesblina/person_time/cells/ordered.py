"""Times at given ranks, and their neighbours, from counts by bin and the values of a few bins."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE

# What happens at a time: an event, the begin of time at risk, or an entry into states of an effect.
Moment = str
EVENT, BEGIN = "event", "begin"
# Times are counted by the leading bits of their binary form: 1024 bins for each factor of 2.
SHIFT = 42
BINS = 1 << (63 - SHIFT)


def bins_of(times: Floats) -> Ints:
    """Take the leading bits of times from 0 on; a larger time has no smaller ones."""
    # A negative zero becomes a positive one.
    return np.asarray((times + 0.0).view(np.int64) >> SHIFT)


def bins_to_read(
    counts: Mapping[Moment, Ints], ranks: Mapping[Moment, Ints]
) -> dict[Moment, Bools]:
    """Say which bins hold the times at the ranks, or a neighbour of theirs.

    `counts`, shape (bin,): of every kind of moment, how many lie in each bin; bins rise with time.
    `ranks`, shape (rank,): ranks from 0 on.
    Result, shape (bin,): bins by kind of moment.
    """
    filled = np.flatnonzero(np.any([count > 0 for count in counts.values()], axis=0))
    with_events = np.flatnonzero(counts[EVENT] > 0)
    wanted = {moment: np.zeros(count.size, dtype=np.bool_) for moment, count in counts.items()}
    for moment, asked in ranks.items():
        held = np.unique(np.searchsorted(np.cumsum(counts[moment]), asked, side="right"))
        wanted[moment][held] = True
        if moment == EVENT:
            after = np.searchsorted(with_events, held, side="right")
            wanted[EVENT][with_events[after[after < with_events.size]]] = True
        else:
            before = np.searchsorted(filled, held) - 1
            for flags in wanted.values():
                flags[held] = True
                flags[filled[before[before >= 0]]] = True
    return wanted


def look_up(
    counts: Mapping[Moment, Ints],
    values: Mapping[Moment, tuple[Floats, Ints]],
    ranks: Mapping[Moment, Ints],
    *,
    bin_of: Callable[[Floats], Ints],
    earliest: float,
) -> dict[Moment, Floats]:
    """Look up times at ranks, and their neighbours.

    `values`, shape (value,): by kind of moment the different times in the bins that were to be
    read, rising, and how often each occurs.
    `earliest`: the earliest begin of follow-up; patients who begin there do not come late, and it
    is nobody's neighbour.
    Result, shape (3, rank): the times; the time of an event, an entry or a late begin before each;
    the time of an event after each. Infinite where there is none.
    """
    pooled = np.unique(np.concatenate([times for times, _ in values.values()]))
    pooled = pooled[pooled > earliest * (1.0 + TIE_TOLERANCE)]
    before = np.concatenate([[-np.inf], pooled])
    events = np.append(values[EVENT][0], np.inf)
    looked_up: dict[Moment, Floats] = {}
    for moment, asked in ranks.items():
        times, often = values[moment]
        bins = bin_of(times)
        start = (np.cumsum(counts[moment]) - counts[moment])[bins]
        at = times[np.searchsorted(start + _running(often, bins), asked, side="right")]
        earlier = before[np.searchsorted(pooled, at * (1.0 - TIE_TOLERANCE))]
        later = events[np.searchsorted(events, at * (1.0 + TIE_TOLERANCE), side="right")]
        looked_up[moment] = np.stack([at, earlier, later])
    return looked_up


def _running(counts: Ints, bins: Ints) -> Ints:
    """Sum counts of sorted values from the first of each bin on."""
    total = np.cumsum(counts)
    starts = np.flatnonzero(np.concatenate([[True], bins[1:] != bins[:-1]]))
    before = np.concatenate([[0], total])[starts]
    return np.asarray(total - np.repeat(before, np.diff(np.append(starts, total.size))))


def moments(effects: tuple[int, ...]) -> dict[Moment, int]:
    """Name the kinds of entry into states.

    `effects`: number of each state's effect; empty where entries are not looked for.
    """
    return {f"entry {effect}": effect for effect in range(max(effects, default=-1) + 1)}
