"""Cut points and the overlap of follow-up with intervals; numpy only.

Intervals are half open, ``(start, stop]``: what happens at a cut belongs to the earlier
interval. The last interval is open to the right, so no follow-up is ever lost.
"""

from __future__ import annotations

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


def validate_cuts(cuts: ArrayLike) -> Floats:
    """Check inner cut points and return them as a sorted float array.

    Parameters
    ----------
    cuts : array_like, shape (n_cuts,)
        Inner cut points, strictly increasing, finite and positive, in the cohort's time unit.
        An empty sequence gives one interval (a constant hazard).

    Returns
    -------
    ndarray of float, shape (n_cuts,)
        The cut points.

    Examples
    --------
    >>> validate_cuts([3, 6, 12])
    array([ 3.,  6., 12.])
    """
    try:
        values = np.asarray(cuts, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SpecError(f"cuts must be numbers, got {cuts!r}.") from error
    # Python counts true as 1.
    if any(isinstance(one, bool | np.bool_) for one in np.asarray(cuts, dtype=object).ravel()):
        raise SpecError(f"cuts must be numbers, got {cuts!r}.")
    if values.ndim != 1:
        raise SpecError(f"cuts must be a flat sequence, got {values.ndim} dimensions.")
    if not np.isfinite(values).all() or (values <= 0).any():
        raise SpecError("cuts must be finite and greater than 0; leave out 0 and infinity.")
    if (np.diff(values) <= TIE_TOLERANCE * values[1:]).any():
        raise SpecError("cuts must be strictly increasing.")
    return values.copy()


def number_of_intervals(events: float) -> int:
    """Choose into how many parts the default cuts share the events.

    Coarse intervals bias a phase effect, since the mix of phases changes within an interval. With
    the cuts where patients enter (`number_of_entry_cuts`) one part for three events, and at most
    twenty, keep that bias far below the posterior's spread up to some 1,500 events; beyond, the
    spread falls with the square root of the number of events, and the parts grow with its third
    root. From some 190,000 events on there are a hundred: the bias is then below 0.001, however
    narrow the posterior. ``docs/decisions/0016-the-baseline.md`` has the measurements.

    Parameters
    ----------
    events
        Mean number of events per endpoint.

    Examples
    --------
    >>> [number_of_intervals(events) for events in (20, 100, 100_000)]
    [6, 20, 81]
    """
    enough = min(max(20.0, 1.75 * max(events, 0.0) ** (1.0 / 3.0)), MOST_PARTS)
    return max(1, int(min(events / MINIMUM_EVENTS_PER_INTERVAL, enough)))


def number_of_entry_cuts(parts: int) -> int:
    """Choose how many default cuts lie where patients enter a state.

    Number of cuts for each kind of entry: seven, and a quarter of the parts where these are many.

    Examples
    --------
    >>> [number_of_entry_cuts(parts) for parts in (1, 20, 81)]
    [7, 7, 20]
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

    Parameters
    ----------
    event_times : array_like, shape (n_events,)
        Times of all events in the eligible cohort, all endpoints together.
    endpoints
        Number of endpoints that share the cuts; the number of intervals follows from the mean
        number of events per endpoint.
    entry_times : sequence of array_like, shape (n_entries,)
        For each kind of entry (into a state with an effect of its own, or late into observation)
        when patients enter, all endpoints together.
    parts
        Into how many parts the events are shared; None for `number_of_intervals`.

    Returns
    -------
    ndarray of float, shape (n_intervals - 1,)
        Inner cut points, strictly increasing; none after the last event.

    Examples
    --------
    >>> default_cuts(np.arange(1.0, 13.0))
    array([3.5, 6.5, 9.5])
    >>> default_cuts(np.arange(1.0, 13.0), entry_times=[[2.5, 2.5, 2.5]])
    array([2.25, 3.5 , 6.5 , 9.5 ])
    """
    events, *entries = snap(
        [np.asarray(one, dtype=np.float64) for one in (event_times, *entry_times)]
    )
    different, counts = np.unique(events, return_counts=True)
    if not different.size:
        return np.empty(0)
    count = number_of_intervals(events.size / endpoints) if parts is None else parts
    ranks = event_ranks(events.size, parts=count)
    place = np.searchsorted(np.cumsum(counts), ranks, side="right")
    pairs = [np.stack([different[place], np.append(different, np.inf)[place + 1]])]
    pooled = np.unique(np.concatenate([events, *entries])) if entries else different
    before = np.concatenate([[-np.inf], pooled])
    for times in entries:
        found = np.sort(times)[entry_ranks(times.size, parts=count)]
        pairs.append(np.stack([before[np.searchsorted(pooled, found)], found]))
    return cuts_between(np.concatenate(pairs, axis=1), float(different[-1]))


def event_ranks(events: int, *, parts: int) -> Ints:
    """Ranks of the events after which the default cuts lie.

    Returns
    -------
    ndarray of int, shape (n,)
        From 0 on, of the last event before each cut: the smallest time that at least a share of
        the events do not exceed.
    """
    return _ranks(np.arange(1, parts) / parts, events)


def entry_ranks(entries: int, *, parts: int) -> Ints:
    """Ranks of the entries before which the default cuts lie.

    Returns
    -------
    ndarray of int, shape (n,)
        From 0 on.
    """
    return _ranks(np.linspace(*ENTRY_SHARES, number_of_entry_cuts(parts)), entries)


def _ranks(shares: Floats, size: int) -> Ints:
    """Find the rank of the smallest value that at least a share of all do not exceed."""
    if not size:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.ceil(shares * size - 1e-9).astype(np.int64) - 1)


def cuts_between(pairs: Floats, last: float) -> Floats:
    """Take the midpoints of pairs of neighbouring times as cut points.

    Parameters
    ----------
    pairs : ndarray, shape (2, n)
        Earlier and later times; infinite where there is no such neighbour.

    Returns
    -------
    ndarray of float, shape (n_cuts,)
        Cut points before the last event, strictly increasing.

    Examples
    --------
    >>> cuts_between(np.array([[1.0, 4.0, -np.inf], [2.0, 5.0, 0.5]]), 4.2)
    array([1.5])
    """
    cuts = pairs.sum(axis=0) / 2.0
    cuts = np.unique(cuts[np.isfinite(cuts)])
    cuts = cuts[(cuts > 0.0) & (cuts * (1.0 + TIE_TOLERANCE) < last)]
    fresh = np.diff(cuts, prepend=0.0) > 2.0 * TIE_TOLERANCE * cuts
    return np.asarray(cuts[fresh])


def snap(values: Sequence[Floats], *, tolerance: float = TIE_TOLERANCE) -> list[Floats]:
    """Make times equal that differ only by floating-point noise.

    All arrays are looked at together. Within a run of neighbours whose relative distance is at
    most `tolerance`, every time becomes the run's smallest, so that ties are exact afterwards;
    the rule of R's ``survival::timefix``. Infinite and missing values are left alone.

    Parameters
    ----------
    values
        Arrays of times, any shapes.

    Returns
    -------
    list of ndarray
        Snapped copies in the shapes given.

    Examples
    --------
    >>> snap([np.array([0.3]), np.array([0.1 + 0.2])])
    [array([0.3]), array([0.3])]
    """
    flat = np.concatenate([np.ravel(array) for array in values])
    finite = np.isfinite(flat)
    unique, inverse = np.unique(flat[finite], return_inverse=True)
    if unique.size > 1:
        scale = np.maximum(np.abs(unique[1:]), np.abs(unique[:-1]))
        fresh = np.concatenate([[True], np.diff(unique) > tolerance * scale])
        first = unique[np.maximum.accumulate(np.where(fresh, np.arange(unique.size), 0))]
        flat = flat.copy()
        flat[finite] = first[inverse]
    ends = np.cumsum([array.size for array in values])[:-1]
    return [
        part.reshape(array.shape) for part, array in zip(np.split(flat, ends), values, strict=True)
    ]


def snap_to(time: float, times: Floats) -> float:
    """Move a time onto the nearest of others, if it differs by floating-point noise only.

    Parameters
    ----------
    times
        The others, any shape; missing and infinite ones are left out.

    Examples
    --------
    >>> snap_to(0.1 + 0.2, np.array([0.3, 4.0]))
    0.3
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

    Parameters
    ----------
    times : array_like, shape (n,)
        Times.
    cuts : ndarray, shape (n_intervals - 1,)
        Inner cut points.

    Returns
    -------
    ndarray of int, shape (n,)
        Interval numbers from 0.

    Examples
    --------
    >>> interval_of([1.0, 3.0, 3.5], np.array([3.0]))
    array([0, 0, 1])
    """
    after = cuts * (1.0 + TIE_TOLERANCE)
    return np.searchsorted(after, np.asarray(times, dtype=np.float64), side="left").astype(np.int64)


def interval_from(times: ArrayLike, cuts: Floats) -> Ints:
    """Find the interval that begins at or before each time; one at a cut opens the later interval.

    So does one that lies before it by floating-point noise only.

    Parameters
    ----------
    times : array_like, shape (n,)
        Times.
    cuts : ndarray, shape (n_intervals - 1,)
        Inner cut points.

    Returns
    -------
    ndarray of int, shape (n,)
        Interval numbers from 0.

    Examples
    --------
    >>> interval_from([1.0, 3.0, 3.5], np.array([3.0]))
    array([0, 1, 1])
    """
    before = cuts * (1.0 - TIE_TOLERANCE)
    found = np.searchsorted(before, np.asarray(times, dtype=np.float64), side="right")
    return found.astype(np.int64)


def person_time_by_group(
    start: Floats, stop: Floats, group: Ints, *, groups: int, cuts: Floats
) -> Floats:
    """Sum the time at risk by group and interval without expanding episodes into rows.

    The overlap of ``(start, stop]`` with an interval is the part of ``(0, stop]`` in it less the
    part of ``(0, start]``. Each episode end therefore needs only its interval and its distance
    from that interval's left edge; all earlier intervals are whole, and counted.

    Parameters
    ----------
    start, stop : ndarray, shape (n,)
        Episodes ``(start, stop]`` with ``0 <= start <= stop``.
    group : ndarray of int, shape (n,)
        Group of each episode, from 0.
    cuts : ndarray, shape (n_intervals - 1,)
        Inner cut points.

    Returns
    -------
    ndarray, shape (groups, n_intervals)
        Person-time; exactly zero where no episode overlaps.

    Examples
    --------
    >>> person_time_by_group(
    ...     np.array([0.0]), np.array([5.0]), np.array([0]), groups=1, cuts=np.array([2.0, 4.0])
    ... )
    array([[2., 2., 1.]])
    """
    edges = np.concatenate([[0.0], cuts])
    intervals = edges.size
    shape = (groups, intervals)
    total = np.zeros(shape)
    passed = np.zeros(shape, dtype=np.int64)
    # A start at a cut opens the later interval. In the earlier one its whole widths would cancel
    # only up to rounding, and leave time, even negative time, in a cell without any.
    last = interval_of(stop, cuts)
    opened = np.minimum(interval_from(start, cuts), last)
    for ends, interval, sign in ((stop, last, 1), (start, opened, -1)):
        cell = group * intervals + interval
        size = groups * intervals
        partial = np.bincount(cell, weights=ends - edges[interval], minlength=size)
        total += sign * partial.reshape(shape)
        passed += sign * np.bincount(cell, minlength=size).reshape(shape)
    later = passed[:, ::-1].cumsum(axis=1)[:, ::-1] - passed
    total[:, :-1] += later[:, :-1] * np.diff(edges)
    return total


def person_time_by_interval(partial: Floats, passed: Floats, opened: Ints, cuts: Floats) -> Floats:
    """Turn sums at the ends of episodes into person-time by interval.

    Parameters
    ----------
    partial : ndarray, shape (state, group, interval, moment)
        Sums of the distances from the interval's left edge, of stops less starts.
    passed : ndarray, shape (state, group, interval, moment)
        Numbers of stops less those of starts.
    opened : ndarray of int, shape (state, group, interval + 1)
        Numbers of episodes that begin in an interval less those that ended in the one before.
    cuts : ndarray, shape (interval - 1,)
        Inner cut points.

    Returns
    -------
    ndarray, shape (state, group, interval, moment)
        Person-time; exactly zero where no episode overlaps.
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

    Parameters
    ----------
    start, stop : ndarray, shape (n,)
        Episodes ``(start, stop]`` with ``0 <= start < stop``.
    cuts : ndarray, shape (n_intervals - 1,)
        Inner cut points.

    Returns
    -------
    episode : ndarray of int, shape (n_parts,)
        The episode that each part belongs to, in order.
    interval : ndarray of int, shape (n_parts,)
        The interval that it lies in.
    length : ndarray, shape (n_parts,)
        Its length, greater than 0.

    Examples
    --------
    >>> split(np.array([1.0]), np.array([5.0]), np.array([2.0, 4.0]))
    (array([0, 0, 0]), array([0, 1, 2]), array([1., 2., 1.]))
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
