"""Cut points and the overlap of follow-up with intervals; numpy only.

Intervals are half open, ``(start, stop]``: what happens at a cut belongs to the earlier
interval. The last interval is open to the right, so no follow-up is ever lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError

TIE_TOLERANCE = 1e-9
MINIMUM_EVENTS_PER_INTERVAL = 3.0
MOST_PARTS = 100.0
# Between these shares of those who enter lie the default cuts, at equal distances.
ENTRY_SHARES = (0.05, 0.95)
# Digits of times that are chosen from patients' own and shown: more would be somebody's date.
CHOSEN_DIGITS = 2


def validate_cuts(cuts: ArrayLike, *, name: str = "cuts") -> Floats:
    """Check inner cut points and return them as a sorted float array.

    `cuts`, shape (n_cuts,): inner cut points, strictly increasing, finite and positive, in the
    cohort's time unit. An empty sequence gives one interval (a constant hazard).
    """
    try:
        values = np.asarray(cuts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{name} must be numbers, got {cuts!r}.") from error
    # Python counts true as 1.
    if any(isinstance(cut, bool | np.bool_) for cut in np.asarray(cuts, dtype=object).ravel()):
        raise SpecError(f"{name} must be numbers, got {cuts!r}.")
    if values.ndim != 1:
        raise SpecError(f"{name} must be a flat sequence, got {values.ndim} dimensions.")
    if not np.isfinite(values).all() or (values <= 0).any():
        raise SpecError(f"{name} must be finite and greater than 0; leave out 0 and infinity.")
    if (np.diff(values) <= TIE_TOLERANCE * values[1:]).any():
        raise SpecError(f"{name} must be strictly increasing.")
    return values.copy()


def number_of_intervals(events: float) -> int:
    """Choose into how many parts the default cuts share the events.

    Coarse intervals bias a phase effect, since the mix of phases changes within an interval. With
    the cuts where patients enter (`number_of_entry_cuts`) one part for three events, and at most
    twenty, keep that bias far below the posterior's spread up to some 1,500 events; beyond, the
    spread falls with the square root of the number of events, and the parts grow with its third
    root. From some 190,000 events on there are a hundred: the bias is then below 0.001, however
    narrow the posterior. ``docs/decisions/0016-the-baseline.md`` has the measurements.

    `events`: mean number of events per endpoint.
    """
    enough = min(max(20.0, 1.75 * max(events, 0.0) ** (1.0 / 3.0)), MOST_PARTS)
    return max(1, int(min(events / MINIMUM_EVENTS_PER_INTERVAL, enough)))


def number_of_entry_cuts(parts: int) -> int:
    """Choose how many default cuts lie where patients enter a state.

    Number of cuts for each kind of entry: seven, and a quarter of the parts where these are many.
    """
    return max(7, parts // 4)


def default_cuts(
    event_times: ArrayLike,
    *,
    endpoints: int = 1,
    entry_times: Sequence[ArrayLike] = (),
    parts: int | None = None,
) -> Floats:
    """Place cut points between event times, and where patients enter states.

    One set of cuts serves all endpoints: times are pooled over them. Cuts of the first kind share
    the events out, `number_of_intervals` parts of about as many; each lies midway between two
    neighbouring different event times, so that no interval ends with its event. Cuts of the second
    kind lie at quantiles of each kind of entry: just before the quantile, midway between it and the
    time of an event or an entry before it. Without them an interval in which patients enter, and in
    which the hazard changes, could not tell the two apart.

    `event_times`, shape (n_events,): times of all events in the eligible cohort, all endpoints
    together.
    `endpoints`: number of endpoints that share the cuts; the number of intervals follows from the
    mean number of events per endpoint.
    `entry_times`, shape (n_entries,): for each kind of entry (into a state with an effect of its
    own, or late into observation) when patients enter, all endpoints together.
    `parts`: into how many parts the events are shared; None for `number_of_intervals`.
    Result, shape (n_intervals - 1,): inner cut points, strictly increasing; none after the last
    event.
    """
    events, *entries = snap(
        [np.asarray(times, dtype=np.float64) for times in (event_times, *entry_times)]
    )
    different, counts = np.unique(events, return_counts=True)
    if not different.size:
        return np.empty(0)
    count = number_of_intervals(events.size / endpoints) if parts is None else parts
    bins = np.searchsorted(np.cumsum(counts), event_ranks(events.size, parts=count), side="right")
    pairs = [np.stack([different[bins], np.append(different, np.inf)[bins + 1]])]
    pooled = np.unique(np.concatenate([events, *entries])) if entries else different
    before = np.concatenate([[-np.inf], pooled])
    for times in entries:
        quantiles = np.sort(times)[entry_ranks(times.size, parts=count)]
        pairs.append(np.stack([before[np.searchsorted(pooled, quantiles)], quantiles]))
    return cuts_between(np.concatenate(pairs, axis=1), float(different[-1]))


def event_ranks(events: int, *, parts: int) -> Ints:
    """Ranks of the events after which the default cuts lie.

    Result, shape (n,): from 0 on, of the last event before each cut: the smallest time that at
    least a share of the events do not exceed.
    """
    return _ranks(np.arange(1, parts) / parts, events)


def entry_ranks(entries: int, *, parts: int) -> Ints:
    """Ranks, from 0 on, of the entries before which the default cuts lie."""
    return _ranks(np.linspace(*ENTRY_SHARES, number_of_entry_cuts(parts)), entries)


def _ranks(shares: Floats, size: int) -> Ints:
    """Find the rank of the smallest value that at least a share of all do not exceed."""
    if not size:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.ceil(shares * size - 1e-9).astype(np.int64) - 1)


def cuts_between(pairs: Floats, last: float) -> Floats:
    """Take the midpoints of pairs of neighbouring times as cut points.

    `pairs`, shape (2, n): earlier and later times; infinite where there is no such neighbour.
    Result, shape (n_cuts,): cut points before the last event, strictly increasing.
    """
    cuts = pairs.sum(axis=0) / 2.0
    cuts = np.unique(cuts[np.isfinite(cuts)])
    cuts = cuts[(cuts > 0.0) & (cuts * (1.0 + TIE_TOLERANCE) < last)]
    return np.asarray(cuts[np.diff(cuts, prepend=0.0) > 2.0 * TIE_TOLERANCE * cuts])


def snap(values: Sequence[Floats], *, tolerance: float = TIE_TOLERANCE) -> list[Floats]:
    """Make times equal that differ only by floating-point noise.

    All arrays are looked at together. Within a run of neighbours whose relative distance is at
    most `tolerance`, every time becomes the run's smallest, so that ties are exact afterwards;
    the rule of R's ``survival::timefix``. Infinite and missing values are left alone.

    `values`: arrays of times, any shapes.
    """
    flat = np.concatenate([np.ravel(array) for array in values])
    finite = np.isfinite(flat)
    unique, inverse = np.unique(flat[finite], return_inverse=True)
    if unique.size > 1:
        scale = np.maximum(np.abs(unique[1:]), np.abs(unique[:-1]))
        fresh = np.concatenate([[True], np.diff(unique) > tolerance * scale])
        first = unique[np.maximum.accumulate(np.where(fresh, np.arange(unique.size), 0))]
        flat[finite] = first[inverse]
    ends = np.cumsum([array.size for array in values])[:-1]
    return [
        part.reshape(array.shape) for part, array in zip(np.split(flat, ends), values, strict=True)
    ]


def snap_within(group: Ints, values: Sequence[Floats]) -> list[Floats]:
    """Make times of a group equal that differ only by floating-point noise, as `snap` does.

    `group`, shape (n,): the group of each time; `values`: arrays of times, each (n,).

    >>> snap_within(np.array([0, 1]), [np.array([0.3, 0.1]), np.array([0.1 + 0.2, 0.1 + 0.2])])
    [array([0.3, 0.1]), array([0.3, 0.3])]
    """
    flat, groups = np.concatenate(values), np.tile(group, len(values))
    order = np.lexsort((flat, groups))
    time, own = flat[order], groups[order]
    with np.errstate(invalid="ignore"):
        near = np.diff(time) <= TIE_TOLERANCE * np.maximum(np.abs(time[1:]), np.abs(time[:-1]))
    near &= np.isfinite(time[1:])
    fresh = np.concatenate([[True], ~near | (own[1:] != own[:-1])])[: time.size]
    first = np.maximum.accumulate(np.where(fresh, np.arange(time.size), 0))
    snapped = np.empty_like(flat)
    snapped[order] = time[first]
    return np.split(snapped, len(values))


def round_up(time: float) -> float:
    """Round a time chosen from patients' own to two digits: not before the time itself.

    >>> round_up(7.996), round_up(101.0), round_up(8.0)
    (8.0, 110.0, 8.0)
    """
    if time <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(time)) - CHOSEN_DIGITS + 1)
    # What is a step but for noise is that step.
    return round(math.ceil(time / step - 1e-9) * step, 10)


def round_cuts(cuts: Floats, event_times: Floats) -> Floats:
    """Round cut points chosen from patients' own times to two digits.

    `event_times`, shape (n_events,): the times that they were chosen from.
    Result, shape (n_cuts,): strictly increasing; cuts that leave a part without events are left
    out. Where all are, one stays: the last, rounded down, so that there is time on both sides.

    >>> times = np.array([2.113, 7.994, 7.998, 13.91, 13.918, 30.0])
    >>> round_cuts(np.array([7.996, 13.914]), times), round_cuts(np.array([9.97]), np.array([9.98]))
    (array([ 8., 14.]), array([9.9]))
    """
    rounded = np.unique([float(f"{cut:.{CHOSEN_DIGITS}g}") for cut in cuts])
    before = interval_of(event_times, rounded)
    counts = np.bincount(before, minlength=rounded.size + 1)
    behind = counts.cumsum()[:-1]
    fresh = np.diff(behind, prepend=0) > 0
    kept = rounded[fresh & (behind < event_times.size)]
    if kept.size:
        return np.asarray(kept)
    step = 10.0 ** (math.floor(math.log10(cuts[-1])) - CHOSEN_DIGITS + 1)
    return np.array([round(math.floor(cuts[-1] / step) * step, 10)])


def snap_to(time: float, times: Floats) -> float:
    """Move a time onto the nearest of others, if it differs by floating-point noise only.

    `times`: the others, any shape; missing and infinite ones are left out.
    """
    known = np.ravel(times)
    known = known[np.isfinite(known)]
    if not known.size:
        return float(time)
    nearest = float(known[np.abs(known - time).argmin()])
    close = abs(nearest - time) <= TIE_TOLERANCE * max(abs(nearest), abs(time))
    return nearest if close else float(time)


def interval_of(times: ArrayLike, cuts: Floats) -> Ints:
    """Find the interval of each time; a time at a cut belongs to the earlier interval.

    So does one that lies after it by floating-point noise only.
    """
    times = np.asarray(times, dtype=np.float64)
    return np.searchsorted(cuts * (1.0 + TIE_TOLERANCE), times, side="left").astype(np.int64)


def interval_from(times: ArrayLike, cuts: Floats) -> Ints:
    """Find the interval that begins at or before each time; one at a cut opens the later interval.

    So does one that lies before it by floating-point noise only.
    """
    times = np.asarray(times, dtype=np.float64)
    return np.searchsorted(cuts * (1.0 - TIE_TOLERANCE), times, side="right").astype(np.int64)


def person_time_by_group(
    start: Floats, stop: Floats, group: Ints, *, groups: int, cuts: Floats
) -> Floats:
    """Sum the time at risk by group and interval without expanding episodes into rows.

    The overlap of ``(start, stop]`` with an interval is the part of ``(0, stop]`` in it less the
    part of ``(0, start]``. Each episode end therefore needs only its interval and its distance
    from that interval's left edge; all earlier intervals are whole, and counted.

    `start`, `stop`, shape (n,): episodes ``(start, stop]`` with ``0 <= start <= stop``.
    `group`, shape (n,): group of each episode, from 0.
    Result, shape (groups, n_intervals): person-time; exactly zero where no episode overlaps.
    """
    edges = np.concatenate([[0.0], cuts])
    shape = (groups, edges.size)
    total, passed = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    # A start at a cut opens the later interval. In the earlier one its whole widths would cancel
    # only up to rounding, and leave time, even negative time, in a cell without any.
    last = interval_of(stop, cuts)
    opened = np.minimum(interval_from(start, cuts), last)
    for ends, interval, sign in ((stop, last, 1), (start, opened, -1)):
        cell = group * edges.size + interval
        partial = np.bincount(cell, weights=ends - edges[interval], minlength=total.size)
        total += sign * partial.reshape(shape)
        passed += sign * np.bincount(cell, minlength=total.size).reshape(shape)
    later = passed[:, ::-1].cumsum(axis=1)[:, ::-1] - passed
    total[:, :-1] += later[:, :-1] * np.diff(edges)
    return total


def person_time_by_interval(partial: Floats, passed: Floats, opened: Ints, cuts: Floats) -> Floats:
    """Turn sums at the ends of episodes into person-time by interval.

    `partial`, shape (state, group, interval, moment): sums of the distances from the interval's
    left edge, of stops less starts.
    `passed`, shape (state, group, interval, moment): numbers of stops less those of starts.
    `opened`, shape (state, group, interval + 1): numbers of episodes that begin in an interval less
    those that ended in the one before.
    Result, shape (state, group, interval, moment): person-time; exactly zero where no episode
    overlaps.
    """
    edges = np.concatenate([[0.0], cuts])
    later = passed[:, :, ::-1].cumsum(axis=2)[:, :, ::-1] - passed
    total = partial.copy()
    total[:, :, :-1] += later[:, :, :-1] * np.diff(edges)[:, None]
    # Where nobody is at risk, sums of whole widths cancel only up to rounding.
    total[opened.cumsum(axis=2)[:, :, :-1] == 0] = 0.0
    return total


def split(start: Floats, stop: Floats, cuts: Floats) -> tuple[Ints, Ints, Floats]:
    """Split episodes at the cuts; the sparse form of the episode-by-interval overlap.

    `start`, `stop`, shape (n,): episodes ``(start, stop]`` with ``0 <= start < stop``.
    Result: `episode`, shape (n_parts,): the episode that each part belongs to, in order.
    `interval`, shape (n_parts,): the interval that it lies in.
    `length`, shape (n_parts,): its length, greater than 0.
    """
    # A start exactly at a cut opens the later interval; a stop exactly at one closes the earlier.
    last = interval_of(stop, cuts)
    first = np.minimum(interval_from(start, cuts), last)
    parts = last - first + 1
    episode = np.repeat(np.arange(start.size), parts)
    offset = np.arange(episode.size) - np.repeat(np.cumsum(parts) - parts, parts)
    interval = first[episode] + offset
    left = np.concatenate([[0.0], cuts])[interval]
    right = np.concatenate([cuts, [np.inf]])[interval]
    length = np.minimum(stop[episode], right) - np.maximum(start[episode], left)
    return episode, interval, length
