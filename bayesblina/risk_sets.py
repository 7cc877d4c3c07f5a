"""Events and those at risk by distinct event time, and Breslow's partial likelihood of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bayesblina.exposure import Exposure
from bayesblina.intervals import interval_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# More distinct event times than this are grouped, into as many groups as the second number.
MOST_TIMES = 2000
GROUPED_TIMES = 1000
FEWEST_TIMES = 50
# Most numbers in a table of risk sets.
LARGEST_TABLE = 20_000_000
# Patients who are spread over the nodes of compressed covariates at a time.
SPREAD = 50_000
# Numbers at once in a table by draw: what stays in a processor's cache.
BLOCK = 50_000
FEWEST_AT_ONCE = 64
# Products at once up to which BLAS uses one thread: waking others takes longer than small products.
ONE_THREAD = 260_000
SMALLEST = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RiskSets:
    """Events and those at risk of one endpoint, and of one stratum and interval.

    Attributes
    ----------
    stratum, interval
        Position of the stratum, and of the interval between cuts.
    times : ndarray, shape (time,)
        Distinct event times, rising; the last one of each group where they are grouped.
    events : ndarray, shape (time,)
        Weighted numbers of events.
    at_risk : ndarray, shape (time, group)
        Weighted numbers of patients at risk just before; averages over the events of a group of
        times. Numbers at nodes of compressed covariates may be negative.
    events_of : ndarray, shape (group,)
        Weighted numbers of events.
    state, pattern : ndarray of int, shape (group,)
        State and covariate pattern of each group.
    """

    stratum: int
    interval: int
    times: Floats
    events: Floats
    at_risk: Floats
    events_of: Floats
    state: Ints
    pattern: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Time at risk of one endpoint: one row for each stay in a state."""

    patient: Ints
    state: Ints
    start: Floats
    stop: Floats
    event: Bools
    weight: Floats
    stratum: Ints


def find_risk_sets(
    exposure: Exposure,
    endpoint: int,
    *,
    stratum_of: Ints | None = None,
    cuts: Floats | None = None,
    most_times: int = MOST_TIMES,
    grouped_times: int = GROUPED_TIMES,
) -> tuple[list[RiskSets], bool]:
    """Count events and those at risk by distinct event time.

    A patient is at risk at t in ``(start, stop]``, in the state held just before t. Tied events
    see the same risk set, that of Breslow.

    Parameters
    ----------
    exposure
        Events and person-time, with single patients.
    endpoint
        Position of the endpoint.
    stratum_of : ndarray of int, shape (pattern,), optional
        Stratum of each pattern: risk sets are of one stratum each.
    cuts : ndarray, shape (interval - 1,), optional
        Times between which risk sets are given apart.
    most_times, grouped_times
        More distinct times than the first number are grouped into about the second number of
        groups, of equally many events.

    Returns
    -------
    risk_sets : list of RiskSets
        By stratum and interval, those with events.
    grouped
        Whether times were grouped.
    """
    rows = _rows_of(exposure, endpoint, stratum_of)
    found: list[RiskSets] = []
    grouped = False
    for stratum in range(1 if stratum_of is None else int(stratum_of.max()) + 1):
        inside = rows if stratum_of is None else _only(rows, rows.stratum == stratum)
        parts, coarse = _of_stratum(
            exposure,
            inside,
            stratum,
            cuts=np.empty(0) if cuts is None else cuts,
            most=most_times,
            groups=grouped_times,
        )
        found += parts
        grouped = grouped or coarse
    return found, grouped


def _rows_of(exposure: Exposure, endpoint: int, stratum_of: Ints | None) -> _Rows:
    people, episodes = exposure.people, exposure.episodes
    mine = episodes["endpoint"].values == endpoint
    patient, state, start, stop = (
        np.asarray(episodes[name].values[mine]) for name in ("patient", "phase", "start", "stop")
    )
    last = stop == people["exit"].values[endpoint][patient]
    category = people["category"].values
    return _Rows(
        patient=patient,
        state=state,
        start=start,
        stop=stop,
        event=last & people["event"].values[endpoint][patient],
        weight=people["weight"].values[patient],
        stratum=np.zeros(0, dtype=np.int64)
        if stratum_of is None
        else stratum_of[category[patient]],
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
    exposure: Exposure, rows: _Rows, stratum: int, *, cuts: Floats, most: int, groups: int
) -> tuple[list[RiskSets], bool]:
    """Count within one stratum, by interval."""
    times, place = np.unique(rows.stop[rows.event], return_inverse=True)
    if not times.size:
        return [], False
    events = np.bincount(place, weights=rows.weight[rows.event], minlength=times.size)
    interval = interval_of(times, cuts)
    width = exposure.table.sizes["phase"] * exposure.table.sizes["pattern"]
    room = max(FEWEST_TIMES, LARGEST_TABLE // width)
    grouped = times.size > min(most, room)
    bin_of = np.arange(times.size)
    if grouped:
        passed = np.cumsum(events) - events / 2.0
        bin_of = np.floor(passed * (min(groups, room) / events.sum())).astype(np.int64)
        _, bin_of = np.unique(interval * (bin_of.max() + 1) + bin_of, return_inverse=True)
    in_bin = np.bincount(bin_of, weights=events)
    at_risk = _at_risk(exposure, rows, times, events, bin_of, in_bin, exact=not grouped)
    last = np.concatenate([np.flatnonzero(np.diff(bin_of)), [times.size - 1]])
    interval_of_bin = interval[last]
    row_interval = interval_of(rows.stop[rows.event], cuts)
    events_of = _spread(
        exposure,
        row_interval,
        cuts.size + 1,
        rows.state[rows.event],
        rows.patient[rows.event],
        rows.weight[rows.event],
    )
    patterns = exposure.table.sizes["pattern"]
    found = []
    for index in np.unique(interval_of_bin):
        mine = interval_of_bin == index
        counts = at_risk[mine]
        used = np.flatnonzero((counts != 0.0).any(axis=0))
        found.append(
            RiskSets(
                stratum=stratum,
                interval=int(index),
                times=times[last[mine]],
                events=in_bin[mine],
                at_risk=np.ascontiguousarray(counts[:, used]),
                events_of=events_of[index, used],
                state=used // patterns,
                pattern=used % patterns,
            )
        )
    return found, grouped


def _at_risk(
    exposure: Exposure,
    rows: _Rows,
    times: Floats,
    events: Floats,
    bin_of: Ints,
    in_bin: Floats,
    *,
    exact: bool,
) -> Floats:
    """Count who is at risk, (time, state x pattern): who has started, less who has stopped."""
    bins = in_bin.size
    passed = np.concatenate([[0.0], np.cumsum(events)])
    ends = np.cumsum(in_bin)
    first = np.append(bin_of, bins)
    parts = []
    for sign, edge in ((1.0, rows.start), (-1.0, rows.stop)):
        # The first event time after the edge is the first at which it counts.
        after = np.searchsorted(times, edge, side="right")
        kept = after < times.size
        after = after[kept]
        place = first[after]
        # Share of the events of its own group that lie after the edge.
        share = np.ones(after.size)
        if not exact:
            share = (ends[place] - passed[after]) / in_bin[place]
        parts.append(
            (
                place,
                rows.state[kept],
                rows.patient[kept],
                sign * rows.weight[kept],
                sign * rows.weight[kept] * (share - 1.0),
            )
        )
    place, state, patient, weight, partial = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    total = np.cumsum(_spread(exposure, place, bins, state, patient, weight), axis=0)
    if not exact:
        total += _spread(exposure, place, bins, state, patient, partial)
    if (rows.weight != 1.0).any() and exposure.compression is None:
        # Sums of weights of those who came and went cancel up to rounding.
        total[np.abs(total) < 1e-12 * np.abs(total).max(initial=0.0)] = 0.0
    return total


def _spread(
    exposure: Exposure, row: Ints, rows: int, state: Ints, patient: Ints, weight: Floats
) -> Floats:
    """Sum weights by row, state and the patterns that patients count in, (row, state x pattern)."""
    states, patterns = exposure.table.sizes["phase"], exposure.table.sizes["pattern"]
    people, found = exposure.people, exposure.compression
    cell = row * states + state
    if found is None:
        flat = cell * patterns + people["pattern"].values[patient]
        total = np.bincount(flat, weights=weight, minlength=rows * states * patterns)
        return total.reshape(rows, states * patterns)
    categories = patterns // found.size
    place = cell * categories + people["category"].values[patient] // found.size
    size = people.sizes["patient"]
    shape = (rows * states * categories, size)
    counted = sparse.csc_array(sparse.coo_array((weight, (place, patient)), shape=shape))
    total = np.zeros((shape[0], found.size))
    for begin in range(0, size, SPREAD):
        some = slice(begin, min(begin + SPREAD, size))
        nodes = exposure.projection(some).data.reshape(-1, found.size)
        total += counted[:, some] @ nodes
    return total.reshape(rows, states * patterns)


def halved(found: RiskSets) -> RiskSets:
    """Group neighbouring times in pairs, to see what grouping does.

    Parameters
    ----------
    found
        Risk sets.

    Returns
    -------
    RiskSets
        With half as many times.
    """
    pair = np.arange(found.times.size) // 2
    size = int(pair[-1]) + 1
    events = np.bincount(pair, weights=found.events, minlength=size)
    at_risk = np.zeros((size, found.at_risk.shape[1]))
    np.add.at(at_risk, pair, found.at_risk * found.events[:, None])
    return replace(
        found,
        times=found.times[np.minimum(2 * np.arange(size) + 1, found.times.size - 1)],
        events=events,
        at_risk=at_risk / events[:, None],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Risk sets whose groups have log hazard ratios that are linear in the parameters.

    Attributes
    ----------
    events : ndarray, shape (time,)
        Weighted numbers of events.
    at_risk : ndarray, shape (time, group)
        Weighted numbers at risk.
    design : ndarray, shape (group, parameter)
        What the parameters are multiplied by.
    score : ndarray, shape (parameter,)
        Design summed over the events.
    """

    events: Floats
    at_risk: Floats
    design: Floats
    score: Floats

    @classmethod
    def of(cls, found: RiskSets, design: Floats) -> Block:
        """Give risk sets their design."""
        return cls(
            events=found.events,
            at_risk=found.at_risk,
            design=design,
            score=found.events_of @ design,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialLikelihood:
    """Breslow's log partial likelihood.

    Attributes
    ----------
    blocks
        Risk sets with their designs.
    dimension
        Number of parameters.

    Notes
    -----
    Breslow (1974), doi:10.2307/2529620; with weights as in Binder (1992),
    doi:10.1093/biomet/79.1.139.
    """

    blocks: tuple[Block, ...]
    dimension: int

    def value(self, parameters: Floats) -> Floats:
        """Log partial likelihood, shape (draw,), of parameters of shape (draw, parameter)."""
        total = np.zeros(parameters.shape[0])
        for block in self.blocks:
            for some in _parts(parameters.shape[0], block.at_risk):
                linear = block.design @ parameters[some].T
                top = linear.max(axis=0)
                at_risk = block.at_risk @ np.exp(linear - top)
                np.maximum(at_risk, SMALLEST, out=at_risk)
                total[some] -= _weighted_logs(block.events, at_risk) + block.events.sum() * top
            total += parameters @ block.score
        return total

    def derivatives(self, parameter: Floats) -> tuple[float, Floats, Floats]:
        """Log partial likelihood at one parameter vector, its gradient and its information."""
        value, gradient = 0.0, np.zeros(self.dimension)
        information = np.zeros((self.dimension, self.dimension))
        for block in self.blocks:
            linear = block.design @ parameter
            top = float(linear.max())
            weight = np.exp(linear - top)
            total = np.maximum(block.at_risk @ weight, SMALLEST)
            mean = (block.at_risk @ (weight[:, None] * block.design)) / total[:, None]
            share = weight * (block.at_risk.T @ (block.events / total))
            value += float(block.score @ parameter)
            value -= float(block.events @ np.log(total)) + float(block.events.sum()) * top
            gradient += block.score - share @ block.design
            information += block.design.T @ (share[:, None] * block.design)
            information -= mean.T @ (block.events[:, None] * mean)
        return value, gradient, information

    def gradients(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Log partial likelihoods, (draw,), and their gradients, (draw, parameter)."""
        value, gradient = np.zeros(parameters.shape[0]), np.zeros(parameters.shape)
        for block in self.blocks:
            for some in _parts(parameters.shape[0], block.at_risk):
                linear = block.design @ parameters[some].T
                top = linear.max(axis=0)
                weight = np.exp(linear - top)
                total = np.maximum(block.at_risk @ weight, SMALLEST)
                value[some] -= block.events @ np.log(total) + block.events.sum() * top
                share = weight * (block.at_risk.T @ (block.events[:, None] / total))
                gradient[some] -= share.T @ block.design
            value += parameters @ block.score
            gradient += block.score
        return value, gradient


def _parts(draws: int, at_risk: Floats) -> Iterator[slice]:
    """Cut draws into parts that are worked on at once."""
    few = ONE_THREAD // at_risk.size
    step = min(few, BLOCK // sum(at_risk.shape)) if few >= FEWEST_AT_ONCE // 4 else FEWEST_AT_ONCE
    step = max(step, FEWEST_AT_ONCE // 4)
    for begin in range(0, draws, step):
        yield slice(begin, min(begin + step, draws))


def _weighted_logs(events: Floats, at_risk: Floats) -> Floats:
    """Sum events times logs over times, (draw,); logs of products where every time has one."""
    fold = 8
    whole = at_risk.shape[0] // fold * fold
    if whole and (events[:whole] == 1.0).all() and at_risk.min() > 1e-35 and at_risk.max() < 1e35:
        products = np.prod(at_risk[:whole].reshape(fold, whole // fold, -1), axis=0)
        return np.asarray(np.log(products).sum(axis=0) + events[whole:] @ np.log(at_risk[whole:]))
    return np.asarray(events @ np.log(at_risk))
