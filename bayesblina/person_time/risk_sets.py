"""Events and those at risk by distinct event time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE, interval_of
from bayesblina.person_time.cells import PersonTime

# More distinct event times than this are grouped, into about as many groups of equal events.
MOST_TIMES = 4000
FEWEST_TIMES = 50
# Most numbers in a table of risk sets.
LARGEST_TABLE = 20_000_000
# Patients who are spread over the nodes of compressed covariates at a time.
SPREAD = 50_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RiskSets:
    """Events and those at risk of one stratum and interval.

    `stratum`, `interval`: position of the stratum, and of the interval between cuts.
    `times`, shape (time,): distinct event times, rising; the last one of each group where they are
    grouped.
    `events`, shape (time,): weighted numbers of events.
    `at_risk`, shape (time, group): weighted numbers of patients at risk just before; averages over
    the events of a group of times. Numbers at nodes of compressed covariates may be negative.
    `events_of`, shape (group,): weighted numbers of events.
    `endpoint`, `state`, `pattern`, shape (group,): endpoint, state and covariate pattern of each
    group.
    """

    stratum: int
    interval: int
    times: Floats
    events: Floats
    at_risk: Floats
    events_of: Floats
    endpoint: Ints
    state: Ints
    pattern: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Time at risk: one row for each stay in a state."""

    patient: Ints
    state: Ints
    start: Floats
    stop: Floats
    event: Bools
    weight: Floats
    stratum: Ints


def find_risk_sets(
    person_time: PersonTime,
    endpoints: Sequence[int],
    *,
    same: Ints,
    stratum_of: Ints | None = None,
    cuts: Floats | None = None,
    most_times: int = MOST_TIMES,
) -> tuple[list[RiskSets], bool]:
    """Count events and those at risk by distinct event time.

    A patient is at risk at t in ``(start, stop]``, in the state held just before t. Tied events
    see the same risk set, that of Breslow.

    `endpoints`: positions of the endpoints; risk sets of several are taken together.
    `same`, shape (state,): states with the same number have the same hazard: numbers from 0 on.
    `stratum_of`, shape (pattern,): stratum of each pattern: risk sets are of one stratum each.
    `cuts`, shape (interval - 1,): times between which risk sets are given apart.
    """
    rows = _rows_of(person_time, endpoints, same, stratum_of)
    inner = np.empty(0) if cuts is None else cuts
    sets: list[RiskSets] = []
    grouped = False
    for stratum in range(1 if stratum_of is None else int(stratum_of.max()) + 1):
        inside = rows if stratum_of is None else _only(rows, rows.stratum == stratum)
        parts, coarse = _of_stratum(
            person_time, inside, stratum, endpoints, same, cuts=inner, most=most_times
        )
        sets += parts
        grouped = grouped or coarse
    return sets, grouped


def _rows_of(
    person_time: PersonTime, endpoints: Sequence[int], same: Ints, stratum_of: Ints | None
) -> _Rows:
    """Lay out time at risk; states of the second endpoint are numbered after those of the first."""
    people, episodes = person_time.people, person_time.episodes
    states = int(same.max()) + 1
    category = people["category"].values
    parts = []
    for number, endpoint in enumerate(endpoints):
        mine = episodes["endpoint"].values == endpoint
        patient, state, start, stop = (
            np.asarray(episodes[name].values[mine])
            for name in ("patient", "phase", "start", "stop")
        )
        last = stop == people["exit"].values[endpoint][patient]
        event = last & people["event"].values[endpoint][patient]
        stratum = np.zeros(patient.size, dtype=np.int64)
        if stratum_of is not None:
            stratum = stratum_of[category[patient]]
        weight = people["weight"].values[patient]
        parts.append((patient, number * states + same[state], start, stop, event, weight, stratum))
    patient, state, start, stop, event, weight, stratum = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    return _Rows(
        patient=patient,
        state=state,
        start=start,
        stop=stop,
        event=event,
        weight=weight,
        stratum=stratum,
    )


def _only(rows: _Rows, inside: Bools) -> _Rows:
    return _Rows(
        patient=rows.patient[inside],
        state=rows.state[inside],
        start=rows.start[inside],
        stop=rows.stop[inside],
        event=rows.event[inside],
        weight=rows.weight[inside],
        stratum=rows.stratum[inside],
    )


def _of_stratum(
    person_time: PersonTime,
    rows: _Rows,
    stratum: int,
    endpoints: Sequence[int],
    same: Ints,
    *,
    cuts: Floats,
    most: int,
) -> tuple[list[RiskSets], bool]:
    """Count within one stratum, by interval."""
    times, position = np.unique(rows.stop[rows.event], return_inverse=True)
    if not times.size:
        return [], False
    events = np.bincount(position, weights=rows.weight[rows.event], minlength=times.size)
    interval = interval_of(times, cuts)
    states, patterns = len(endpoints) * (int(same.max()) + 1), person_time.table.sizes["pattern"]
    most = min(most, max(FEWEST_TIMES, LARGEST_TABLE // (states * patterns)))
    grouped = times.size > most
    group = np.arange(times.size)
    if grouped:
        passed = np.cumsum(events) - events / 2.0
        group = np.floor(passed * (most / events.sum())).astype(np.int64)
        _, group = np.unique(interval * (most + 1) + group, return_inverse=True)
    in_group = np.bincount(group, weights=events)
    last = np.concatenate([np.flatnonzero(np.diff(group)), [times.size - 1]])
    columns = _edges(rows, times, events, group, in_group)
    size = in_group.size
    # Events stand in rows of their own, by interval.
    counted = (
        2 * size + interval[position],
        rows.state[rows.event],
        rows.patient[rows.event],
        rows.weight[rows.event],
    )
    columns = [np.concatenate(pair) for pair in zip(columns, counted, strict=True)]
    table = _spread(person_time, 2 * size + cuts.size + 1, states, *columns)
    at_risk = np.cumsum(table[:size], axis=0) + table[size : 2 * size]
    if (rows.weight != 1.0).any() and person_time.compression is None:
        # Sums of weights of those who came and went cancel up to rounding.
        at_risk[np.abs(at_risk) < 1e-12 * np.abs(at_risk).max(initial=0.0)] = 0.0
    first = np.unique(same, return_index=True)[1]
    which = np.asarray(endpoints, dtype=np.int64)
    sets = []
    for index in np.unique(interval[last]):
        mine = interval[last] == index
        used = np.flatnonzero((at_risk[mine] != 0.0).any(axis=0))
        sets.append(
            RiskSets(
                stratum=stratum,
                interval=int(index),
                times=times[last[mine]],
                events=in_group[mine],
                at_risk=np.ascontiguousarray(at_risk[mine][:, used]),
                events_of=table[2 * size + index, used],
                endpoint=which[used // (patterns * first.size)],
                state=first[used // patterns % first.size],
                pattern=used % patterns,
            )
        )
    return sets, grouped


def _edges(
    rows: _Rows, times: Floats, events: Floats, group: Ints, in_group: Floats
) -> list[NDArray[Any]]:
    """Row, state, patient and weight of each start of time at risk, and with a minus of each end.

    They count from the first event time after them on. Where times are grouped, a second set of
    rows takes off what is too much there, since only a share of the group's events lies after them.
    """
    size = in_group.size
    passed = np.concatenate([[0.0], np.cumsum(events)])
    until = np.cumsum(in_group)
    parts = []
    for sign, edge in ((1.0, rows.start), (-1.0, rows.stop)):
        after = np.searchsorted(times, edge, side="right")
        kept = after < times.size
        after = after[kept]
        row, weight = group[after], sign * rows.weight[kept]
        who = rows.state[kept], rows.patient[kept]
        parts.append((row, *who, weight))
        if size < times.size:
            before = 1.0 - (until[row] - passed[after]) / in_group[row]
            parts.append((row + size, *who, -weight * before))
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _spread(
    person_time: PersonTime,
    rows: int,
    states: int,
    row: Ints,
    state: Ints,
    patient: Ints,
    weight: Floats,
) -> Floats:
    """Sum weights by row, state and pattern that patients count in, (row, state x pattern)."""
    patterns = person_time.table.sizes["pattern"]
    people, compression = person_time.people, person_time.compression
    cell = row * states + state
    if compression is None:
        flat = cell * patterns + people["pattern"].values[patient]
        total = np.bincount(flat, weights=weight, minlength=rows * states * patterns)
        return total.reshape(rows, states * patterns)
    categories = patterns // compression.size
    column = cell * categories + people["category"].values[patient] // compression.size
    size = people.sizes["patient"]
    shape = (rows * states * categories, size)
    counted = sparse.csc_array(sparse.coo_array((weight, (column, patient)), shape=shape))
    total = np.zeros((shape[0], compression.size))
    for begin in range(0, size, SPREAD):
        some = slice(begin, min(begin + SPREAD, size))
        nodes = person_time.projection(some).data.reshape(-1, compression.size)
        total += counted[:, some] @ nodes
    return total.reshape(rows, states * patterns)


def same_states(*columns: Floats) -> Ints:
    """Give states that have equal rows in all columns the same number, from 0 on.

    `columns`, shape (state,) or (state, column), tell states apart.
    """
    rows = np.column_stack(columns)
    if not rows.shape[1]:
        return np.zeros(rows.shape[0], dtype=np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def risk_sets_of_sums(
    person_time: PersonTime,
    endpoints: Sequence[int],
    *,
    same: Ints,
    stratum_of: Ints | None = None,
    cuts: Floats | None = None,
    share: int = 1,
) -> list[RiskSets]:
    """Take events and mean numbers at risk on short intervals, where only sums are known.

    By stratum and interval, those with events; a short interval stands for its event times.
    """
    finer = person_time.finer
    assert finer is not None
    which = np.asarray(endpoints, dtype=np.int64)
    start, stop = finer["interval_start"].values, finer["interval_stop"].values
    interval = interval_of(stop, np.empty(0) if cuts is None else cuts)
    first_of = np.searchsorted(interval, interval)
    number = (np.arange(start.size) - first_of) // share
    opens = np.flatnonzero(np.diff(interval * start.size + number, prepend=-1))
    first, merged = (
        np.unique(same, return_index=True)[1],
        same[:, None] == np.arange(same.max() + 1),
    )
    tables = []
    for name in ("events", "person_time"):
        values = finer[name].values[which].astype(np.float64)
        together = np.einsum("ejsp,sm->jemp", values, merged, optimize=True)
        tables.append(np.add.reduceat(together, opens, axis=0))
    events, person_times = tables
    person_times /= np.add.reduceat(stop - start, opens)[:, None, None, None]
    patterns = events.shape[3]
    strata = np.zeros(patterns, dtype=np.int64) if stratum_of is None else stratum_of
    ends = stop[np.append(opens[1:], start.size) - 1]
    missed = _missed(start[opens], ends, _spacing(finer))
    sets = []
    for stratum in range(int(strata.max()) + 1):
        inside = strata == stratum
        happened = np.where(inside, events, 0.0).reshape(opens.size, -1)
        at_risk = np.where(inside, person_times, 0.0).reshape(opens.size, -1)
        counted = happened.sum(axis=1)
        # Who has the event is at risk at it, but on average for half of the interval only: of d
        # that happen in it d / 2 count in the mean, and (d + 1) / 2 at the events (`_missed`).
        share_of = np.divide(
            happened, counted[:, None], out=np.zeros_like(happened), where=counted[:, None] > 0.5
        )
        at_risk = at_risk + share_of * missed[:, None]
        for index in np.unique(interval[opens]):
            # Sums over nodes of compressed covariates leave rounding.
            mine = (interval[opens] == index) & (counted > 0.5)
            if not mine.any():
                continue
            used = np.flatnonzero((at_risk[mine] != 0.0).any(axis=0))
            sets.append(
                RiskSets(
                    stratum=stratum,
                    interval=int(index),
                    times=ends[mine],
                    events=counted[mine],
                    at_risk=np.ascontiguousarray(at_risk[mine][:, used]),
                    events_of=happened[mine][:, used].sum(axis=0),
                    endpoint=which[used // (patterns * first.size)],
                    state=first[used // patterns % first.size],
                    pattern=used % patterns,
                )
            )
    return sets


def holds_single_times(finer: xr.Dataset) -> bool:
    """Say whether sums on short intervals are those of single times, and risk sets exact.

    They are where times are multiples of a unit and no interval holds more than one of them.
    """
    start, stop = finer["interval_start"].values, finer["interval_stop"].values
    step = _spacing(finer)
    return step > 0.0 and bool((_multiples(start, stop, step) <= 1.0).all())


def _spacing(finer: xr.Dataset) -> float:
    return float(finer["spacing"]) if "spacing" in finer else 0.0


def _multiples(start: Floats, stop: Floats, step: float) -> Floats:
    """Count the multiples of a step in intervals, those at their ends among them."""
    after, until = (np.floor(edge / step * (1.0 + TIE_TOLERANCE)) for edge in (start, stop))
    return np.asarray(until - after)


def _missed(start: Floats, stop: Floats, step: float) -> Floats:
    """Of an event's own time at risk in its interval the part after it, on average.

    Where times are multiples of a step, an interval that ends at the m-th of its multiples has
    them at 1 / m, 2 / m, ..., 1 of its length: after them, and after half of the ties that are not
    its own, lies (m - 1) / (2 m).
    """
    if not step > 0.0:
        return np.full(start.size, 0.5)
    multiples = _multiples(start, stop, step)
    return np.where(multiples > 0.0, (multiples - 1.0) / (2.0 * np.maximum(multiples, 1.0)), 0.5)
