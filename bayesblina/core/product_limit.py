"""Step functions of events and risk sets, with delayed entry; numpy and pandas only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesblina.core.arrays import Bools, Floats, Ints

# Numbers held at once while patients are drawn again.
BLOCK = 2_000_000


def weigh_at_risk(start: Floats, stop: Floats, weight: Floats, times: Floats) -> Floats:
    """Add up the weights of who is at risk just before times: start < time <= stop.

    `start`, `stop`, `weight`, shape (row,): time at risk, and weights.
    Result, shape (time,): sums; exactly 0 where nobody is.
    """
    total = np.zeros(times.size)
    for ends, sign in ((start, 1.0), (stop, -1.0)):
        order = np.argsort(ends, kind="stable")
        passed = np.concatenate([[0.0], np.cumsum(weight[order])])
        total += sign * passed[np.searchsorted(ends[order], times, side="left")]
    return np.where(count_at_risk(start, stop, times) > 0, total, 0.0)


def count_at_risk(
    start: Floats, stop: Floats, times: Floats, *, just: Literal["before", "after"] = "before"
) -> Ints:
    """Count who is at risk just before times, start < time <= stop, or just after them.

    Just after a time are those with start <= time < stop.
    """
    side: Literal["left", "right"] = "left" if just == "before" else "right"
    started, stopped = (np.searchsorted(np.sort(ends), times, side=side) for ends in (start, stop))
    return np.asarray(started - stopped, dtype=np.int64)


def count_events(happened: Floats, times: Floats) -> Ints:
    """Count events at each time.

    `happened`, shape (event,): event times, all among the times.
    `times`, shape (time,): times, rising.
    """
    return np.bincount(np.searchsorted(times, happened), minlength=times.size).astype(np.int64)


def product_limit(
    start: Floats,
    stop: Floats,
    event: Bools,
    *,
    begin: float | None,
    minimum: int,
    mass: float,
    weight: Floats | None = None,
) -> pd.DataFrame:
    """Multiply the shares that survive each event time.

    ``time``, ``survival``, ``lower``, ``upper``, ``at_risk``, ``events`` (sums of weights where
    there are any): a row at the start, one for each event time, and one at the end of follow-up.

    `start`, `stop`, shape (row,): time at risk, some of it after `begin`.
    `event`, shape (row,): whether it ends with the event.
    `begin`: where the curve starts; None for the first start.
    `minimum`: events are not counted until the risk set has once reached this size, in rows.
    `mass`: probability of Greenwood's pointwise band, on the log-log scale.
    `weight`, shape (row,): weights; the size of a weighted risk set in the band is the effective
    one.

    With weights: Xie and Liu (2005), doi:10.1002/sim.2174.
    """
    counted = _counted(start, stop, event, minimum, weight)
    survival = np.cumprod(1.0 - counted.share)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(counted.share / (counted.effective * (1.0 - counted.share)))
        width = -ndtri((1.0 - mass) / 2.0) * np.sqrt(greenwood) / np.abs(np.log(survival))
        band = np.stack([survival ** np.exp(width), survival ** np.exp(-width)])
    defined = (survival > 0) & (survival < 1) & np.isfinite(greenwood)
    lower, upper = np.where(defined, band, np.nan)
    steps = {"survival": survival, "lower": lower, "upper": upper}
    return _frame(start, stop, weight, begin, counted, steps, {"survival": 1.0})


def sum_of_hazards(
    start: Floats,
    stop: Floats,
    event: Bools,
    *,
    begin: float | None,
    minimum: int,
    mass: float,
    weight: Floats | None = None,
) -> pd.DataFrame:
    """Add up the shares that have the event at each event time.

    `mass`: probability of the pointwise band, from Aalen's variance on the log scale.
    """
    counted = _counted(start, stop, event, minimum, weight)
    total = np.cumsum(counted.share)
    error = np.sqrt(np.cumsum(counted.share / counted.effective))
    factor = np.exp(-ndtri((1.0 - mass) / 2.0) * error / total)
    steps = {"cumulative_hazard": total, "lower": total / factor, "upper": total * factor}
    return _frame(start, stop, weight, begin, counted, steps, {"cumulative_hazard": 0.0})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Steps:
    """Event times with risk sets and events; sums of weights where there are any."""

    times: Floats
    at_risk: Floats
    events: Floats
    # Number of patients of equal weight who would tell as much.
    effective: Floats

    @property
    def share(self) -> Floats:
        """Share of the risk set that has the event."""
        return np.asarray(self.events / self.at_risk)


def _counted(
    start: Floats, stop: Floats, event: Bools, minimum: int, weight: Floats | None
) -> _Steps:
    times = np.unique(stop[event])
    at_risk = count_at_risk(start, stop, times)
    counted = np.maximum.accumulate(at_risk) >= minimum if times.size else np.zeros(0, dtype=bool)
    times = times[counted]
    if weight is None:
        sizes = at_risk[counted].astype(np.float64)
        events = count_events(stop[event], np.unique(stop[event]))[counted].astype(np.float64)
        return _Steps(times=times, at_risk=sizes, events=events, effective=sizes)
    sizes = weigh_at_risk(start, stop, weight, times)
    time_of = np.searchsorted(times, stop[event])
    known = (time_of < times.size) & np.isin(stop[event], times)
    events = np.bincount(time_of[known], weight[event][known], minlength=times.size)
    # The whole risk set may have the event: sums in another order.
    return _Steps(
        times=times,
        at_risk=sizes,
        events=np.where(np.isclose(events, sizes, rtol=1e-12), sizes, events),
        effective=sizes**2 / weigh_at_risk(start, stop, weight**2, times),
    )


def _frame(
    start: Floats,
    stop: Floats,
    weight: Floats | None,
    begin: float | None,
    counted: _Steps,
    steps: dict[str, Floats],
    first: dict[str, float],
) -> pd.DataFrame:
    """Put a row before the first step, and one at the end of follow-up if that is later."""
    if begin is None:
        begin = float(start.min())
    times, end = counted.times, float(stop.max())
    tail = end > (times[-1] if times.size else begin)

    def join(before: float, values: NDArray[np.generic], after: float) -> Floats:
        parts = [[before], values, [after]] if tail else [[before], values]
        return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])

    columns = {"time": join(begin, times, end)}
    for name, values in steps.items():
        before = first.get(name, np.nan)
        columns[name] = join(before, values, values[-1] if values.size else before)
    each = np.ones(start.size) if weight is None else weight
    present = float(each[(start <= begin) & (stop > begin)].sum())
    remaining = float(each[(start < end) & (stop >= end)].sum())
    at_risk, events = join(present, counted.at_risk, remaining), join(0, counted.events, 0)
    if weight is None:
        at_risk, events = at_risk.astype(np.int64), events.astype(np.int64)
    return pd.DataFrame(columns).assign(at_risk=at_risk, events=events)


def bootstrap_band(
    start: Floats,
    stop: Floats,
    event: Bools,
    who: Ints,
    *,
    times: Floats,
    patients: int,
    minimum: int,
    mass: float,
    generator: np.random.Generator,
    replicates: int,
    weight: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Percentiles of product-limit curves over studies whose patients are drawn again.

    `who`, shape (row,): patient of each row.
    `times`, shape (time,): where the band is wanted, rising.
    `patients`: number of patients drawn; more than have rows here, where others are in another
    group.
    `generator`: source of randomness; `replicates` draws of counts are taken from it.
    `weight`, shape (row,): weights of the rows.
    Result: `lower`, `upper`, shape (time,): the band.
    """
    steps = np.unique(stop[event])
    by_start, by_stop = np.argsort(start), np.argsort(stop)
    started = np.searchsorted(start[by_start], steps, side="left")
    stopped = np.searchsorted(stop[by_stop], steps, side="left")
    ends = np.flatnonzero(event)
    ends = ends[np.argsort(stop[ends])]
    last = np.searchsorted(stop[ends], steps, side="right")
    at = np.searchsorted(steps, times, side="right")
    curves = np.empty((replicates, times.size))
    size = max(1, BLOCK // max(start.size, patients))
    for first in range(0, replicates, size):
        count = min(size, replicates - first)
        drawn = generator.multinomial(patients, np.full(patients, 1.0 / patients), size=count)
        rows: NDArray[Any] = drawn[:, who]

        def up_to(order: Ints, position: Ints, rows: NDArray[Any]) -> NDArray[Any]:
            """Add up the first rows in an order."""
            total = np.cumsum(rows[:, order], axis=1)
            return np.pad(total, ((0, 0), (1, 0)))[:, position]

        at_risk = up_to(by_start, started, rows) - up_to(by_stop, stopped, rows)
        counted = np.maximum.accumulate(at_risk, axis=1) >= minimum
        there = at_risk > 0
        if weight is not None:
            rows = rows * weight
            at_risk = up_to(by_start, started, rows) - up_to(by_stop, stopped, rows)
        events = np.diff(up_to(ends, last, rows), axis=1, prepend=0)
        share = np.divide(events, at_risk, out=np.zeros(events.shape), where=there)
        survival = np.cumprod(np.where(counted, 1.0 - np.minimum(share, 1.0), 1.0), axis=1)
        curves[first : first + count] = np.pad(survival, ((0, 0), (1, 0)), constant_values=1.0)[
            :, at
        ]
    tail = (1.0 - mass) / 2.0
    lower, upper = np.quantile(curves, [tail, 1.0 - tail], axis=0)
    return lower, upper
