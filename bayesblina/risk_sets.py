"""Events and those at risk by distinct event time, and Breslow's partial likelihood of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from bayesblina.exposure import Exposure
from bayesblina.intervals import interval_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# More distinct event times than this are grouped, into about as many groups of equal events.
MOST_TIMES = 4000
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
# Products that take as long as a logarithm.
LOGARITHM = 20


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
    same: Ints,
    stratum_of: Ints | None = None,
    cuts: Floats | None = None,
    most_times: int = MOST_TIMES,
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
    same : ndarray of int, shape (state,)
        States with the same number have the same hazard: numbers from 0 on.
    stratum_of : ndarray of int, shape (pattern,), optional
        Stratum of each pattern: risk sets are of one stratum each.
    cuts : ndarray, shape (interval - 1,), optional
        Times between which risk sets are given apart.
    most_times
        More distinct times than this are grouped, into about as many groups of equal events.

    Returns
    -------
    risk_sets : list of RiskSets
        By stratum and interval, those with events.
    grouped
        Whether times were grouped.
    """
    rows = _rows_of(exposure, endpoint, same, stratum_of)
    inner = np.empty(0) if cuts is None else cuts
    found: list[RiskSets] = []
    grouped = False
    for stratum in range(1 if stratum_of is None else int(stratum_of.max()) + 1):
        inside = rows if stratum_of is None else _only(rows, rows.stratum == stratum)
        parts, coarse = _of_stratum(exposure, inside, stratum, same, cuts=inner, most=most_times)
        found += parts
        grouped = grouped or coarse
    return found, grouped


def _rows_of(exposure: Exposure, endpoint: int, same: Ints, stratum_of: Ints | None) -> _Rows:
    people, episodes = exposure.people, exposure.episodes
    mine = episodes["endpoint"].values == endpoint
    patient, state, start, stop = (
        np.asarray(episodes[name].values[mine]) for name in ("patient", "phase", "start", "stop")
    )
    last = stop == people["exit"].values[endpoint][patient]
    category = people["category"].values
    return _Rows(
        patient=patient,
        state=same[state],
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
    exposure: Exposure, rows: _Rows, stratum: int, same: Ints, *, cuts: Floats, most: int
) -> tuple[list[RiskSets], bool]:
    """Count within one stratum, by interval."""
    times, place = np.unique(rows.stop[rows.event], return_inverse=True)
    if not times.size:
        return [], False
    events = np.bincount(place, weights=rows.weight[rows.event], minlength=times.size)
    interval = interval_of(times, cuts)
    states, patterns = int(same.max()) + 1, exposure.table.sizes["pattern"]
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
        2 * size + interval[place],
        rows.state[rows.event],
        rows.patient[rows.event],
        rows.weight[rows.event],
    )
    columns = [np.concatenate(pair) for pair in zip(columns, counted, strict=True)]
    table = _spread(exposure, 2 * size + cuts.size + 1, states, *columns)
    at_risk = np.cumsum(table[:size], axis=0) + table[size : 2 * size]
    if (rows.weight != 1.0).any() and exposure.compression is None:
        # Sums of weights of those who came and went cancel up to rounding.
        at_risk[np.abs(at_risk) < 1e-12 * np.abs(at_risk).max(initial=0.0)] = 0.0
    first = np.unique(same, return_index=True)[1]
    found = []
    for index in np.unique(interval[last]):
        mine = interval[last] == index
        used = np.flatnonzero((at_risk[mine] != 0.0).any(axis=0))
        found.append(
            RiskSets(
                stratum=stratum,
                interval=int(index),
                times=times[last[mine]],
                events=in_group[mine],
                at_risk=np.ascontiguousarray(at_risk[mine][:, used]),
                events_of=table[2 * size + index, used],
                state=first[used // patterns],
                pattern=used % patterns,
            )
        )
    return found, grouped


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
        place, weight = group[after], sign * rows.weight[kept]
        who = rows.state[kept], rows.patient[kept]
        parts.append((place, *who, weight))
        if size < times.size:
            before = 1.0 - (until[place] - passed[after]) / in_group[place]
            parts.append((place + size, *who, -weight * before))
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _spread(
    exposure: Exposure,
    rows: int,
    states: int,
    row: Ints,
    state: Ints,
    patient: Ints,
    weight: Floats,
) -> Floats:
    """Sum weights by row, state and pattern that patients count in, (row, state x pattern)."""
    patterns = exposure.table.sizes["pattern"]
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


def same_states(*columns: Floats) -> Ints:
    """Give states that have equal rows in all columns the same number.

    Parameters
    ----------
    columns : ndarray, shape (state,) or (state, column)
        What tells states apart.

    Returns
    -------
    ndarray of int, shape (state,)
        Numbers from 0 on.

    Examples
    --------
    >>> same_states(np.array([[0.0], [0.0], [1.0]]))
    array([0, 0, 1])
    """
    rows = np.column_stack(columns)
    if not rows.shape[1]:
        return np.zeros(rows.shape[0], dtype=np.int64)
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


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

    def coarser(self, times: int) -> Block:
        """Group neighbouring event times into at most that many groups."""
        size = min(times, self.events.size)
        first = np.arange(size) * self.events.size // size
        events = np.add.reduceat(self.events, first)
        at_risk = np.add.reduceat(self.at_risk * self.events[:, None], first, axis=0)
        return replace(self, events=events, at_risk=at_risk / events[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correction:
    """A quadratic function.

    Attributes
    ----------
    point, gradient : ndarray, shape (parameter,)
        Where it is 0, and its gradient there.
    information : ndarray, shape (parameter, parameter)
        Its curvature, with the sign changed.
    """

    point: Floats
    gradient: Floats
    information: Floats

    def value(self, parameters: Floats) -> Floats:
        """Values, shape (draw,), at parameters of shape (draw, parameter)."""
        away = parameters - self.point
        square = np.einsum("np,pq,nq->n", away, self.information, away, optimize=True)
        return np.asarray(away @ self.gradient - 0.5 * square)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialLikelihood:
    """Breslow's log partial likelihood.

    Attributes
    ----------
    blocks
        Risk sets with their designs.
    dimension
        Number of parameters.
    correction
        Quadratic function that is added.

    Notes
    -----
    Breslow (1974), doi:10.2307/2529620; with weights as in Binder (1992),
    doi:10.1093/biomet/79.1.139.
    """

    blocks: tuple[Block, ...]
    dimension: int
    correction: Correction | None = None

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
        if self.correction is not None:
            total += self.correction.value(parameters)
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
        if self.correction is not None:
            away = parameter - self.correction.point
            value += float(self.correction.value(parameter[None])[0])
            gradient += self.correction.gradient - self.correction.information @ away
            information += self.correction.information
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
        if self.correction is not None:
            value += self.correction.value(parameters)
            away = parameters - self.correction.point
            gradient += self.correction.gradient - away @ self.correction.information
        return value, gradient

    @property
    def times(self) -> int:
        """Number of event times, over all blocks."""
        return sum(block.events.size for block in self.blocks)

    def cost(self) -> int:
        """Products that one evaluation takes, about; a logarithm counts as many."""
        return sum(
            block.events.size * (block.at_risk.shape[1] + LOGARITHM) for block in self.blocks
        )

    def coarser(self, share: float) -> PartialLikelihood:
        """Group event times, to about a share of their number."""
        blocks = (block.coarser(max(1, round(share * block.events.size))) for block in self.blocks)
        return replace(self, blocks=tuple(blocks))

    def corrected(self, finer: PartialLikelihood, point: Floats) -> PartialLikelihood:
        """Add what makes gradient and information at a point those of finer groups of times."""
        _, gradient, information = self.derivatives(point)
        _, exact, exact_information = finer.derivatives(point)
        correction = Correction(
            point=point,
            gradient=exact - gradient,
            information=exact_information - information,
        )
        return replace(self, correction=correction)


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
