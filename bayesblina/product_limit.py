"""Step functions of events and risk sets, with delayed entry; numpy and pandas only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Numbers held at once while patients are drawn again.
BLOCK = 2_000_000


def count_at_risk(start: Floats, stop: Floats, times: Floats) -> Ints:
    """Count who is at risk just before times: start < time <= stop.

    Parameters
    ----------
    start, stop : ndarray, shape (row,)
        Time at risk.
    times : ndarray, shape (time,)
        Times.

    Returns
    -------
    ndarray of int, shape (time,)
        Counts.
    """
    started = np.searchsorted(np.sort(start), times, side="left")
    stopped = np.searchsorted(np.sort(stop), times, side="left")
    return np.asarray(started - stopped, dtype=np.int64)


def count_present(start: Floats, stop: Floats, times: Floats) -> Ints:
    """Count who is at risk just after times: start <= time < stop.

    Parameters
    ----------
    start, stop, times
        As for `count_at_risk`.

    Returns
    -------
    ndarray of int, shape (time,)
        Counts.
    """
    started = np.searchsorted(np.sort(start), times, side="right")
    stopped = np.searchsorted(np.sort(stop), times, side="right")
    return np.asarray(started - stopped, dtype=np.int64)


def count_events(happened: Floats, times: Floats) -> Ints:
    """Count events at each time.

    Parameters
    ----------
    happened : ndarray, shape (event,)
        Event times, all among the times.
    times : ndarray, shape (time,)
        Times, rising.

    Returns
    -------
    ndarray of int, shape (time,)
        Counts.
    """
    position = np.searchsorted(times, happened)
    return np.bincount(position, minlength=times.size).astype(np.int64)


def product_limit(
    start: Floats,
    stop: Floats,
    event: Bools,
    *,
    begin: float | None,
    minimum: int,
    mass: float,
) -> pd.DataFrame:
    """Multiply the shares that survive each event time.

    Parameters
    ----------
    start, stop : ndarray, shape (row,)
        Time at risk, some of it after `begin`.
    event : ndarray of bool, shape (row,)
        Whether it ends with the event.
    begin
        Where the curve starts; None for the first start.
    minimum
        Events are not counted until the risk set has once reached this size.
    mass
        Probability of Greenwood's pointwise band, on the log-log scale.

    Returns
    -------
    pandas.DataFrame
        ``time``, ``survival``, ``lower``, ``upper``, ``at_risk``, ``events``: a row at the start,
        one for each event time, and one at the end of follow-up.
    """
    times, at_risk, events = _counted(start, stop, event, minimum)
    survival = np.cumprod(1.0 - events / at_risk)
    left = at_risk - events
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * np.where(left > 0, left, 0).astype(float)))
        width = -ndtri((1.0 - mass) / 2.0) * np.sqrt(greenwood) / np.abs(np.log(survival))
        lower = survival ** np.exp(width)
        upper = survival ** np.exp(-width)
    defined = (survival > 0) & (survival < 1) & np.isfinite(greenwood)
    band = [np.where(defined, values, np.nan) for values in (lower, upper)]
    steps = {"survival": survival, "lower": band[0], "upper": band[1]}
    return _frame(start, stop, begin, times, at_risk, events, steps, {"survival": 1.0})


def sum_of_hazards(
    start: Floats,
    stop: Floats,
    event: Bools,
    *,
    begin: float | None,
    minimum: int,
    mass: float,
) -> pd.DataFrame:
    """Add up the shares that have the event at each event time.

    Parameters
    ----------
    start, stop, event, begin, minimum
        As for `product_limit`.
    mass
        Probability of the pointwise band, from Aalen's variance on the log scale.

    Returns
    -------
    pandas.DataFrame
        As from `product_limit`, with ``cumulative_hazard``.
    """
    times, at_risk, events = _counted(start, stop, event, minimum)
    total = np.cumsum(events / at_risk)
    error = np.sqrt(np.cumsum(events / at_risk.astype(float) ** 2))
    factor = np.exp(-ndtri((1.0 - mass) / 2.0) * error / total)
    steps = {"cumulative_hazard": total, "lower": total / factor, "upper": total * factor}
    return _frame(start, stop, begin, times, at_risk, events, steps, {"cumulative_hazard": 0.0})


def _counted(start: Floats, stop: Floats, event: Bools, minimum: int) -> tuple[Floats, Ints, Ints]:
    times = np.unique(stop[event])
    at_risk = count_at_risk(start, stop, times)
    events = count_events(stop[event], times)
    counted = np.maximum.accumulate(at_risk) >= minimum if times.size else np.zeros(0, dtype=bool)
    return times[counted], at_risk[counted], events[counted]


def _frame(
    start: Floats,
    stop: Floats,
    begin: float | None,
    times: Floats,
    at_risk: Ints,
    events: Ints,
    steps: dict[str, Floats],
    first: dict[str, float],
) -> pd.DataFrame:
    """Put a row before the first step, and one at the end of follow-up if that is later."""
    if begin is None:
        begin = float(start.min())
    end = float(stop.max())
    tail = end > (times[-1] if times.size else begin)
    here, last = np.array([begin]), np.array([end])

    def join(before: float, values: NDArray[np.generic], after: float) -> Floats:
        parts = [[before], values, [after]] if tail else [[before], values]
        return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])

    columns = {"time": join(begin, times, end)}
    for name, values in steps.items():
        before = first.get(name, np.nan)
        columns[name] = join(before, values, values[-1] if values.size else before)
    present = count_present(start, stop, here)[0]
    remaining = count_at_risk(start, stop, last)[0]
    return pd.DataFrame(columns).assign(
        at_risk=join(present, at_risk, remaining).astype(np.int64),
        events=join(0, events, 0).astype(np.int64),
    )


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
) -> tuple[Floats, Floats]:
    """Percentiles of product-limit curves over studies whose patients are drawn again.

    Parameters
    ----------
    start, stop, event
        As for `product_limit`.
    who : ndarray of int, shape (row,)
        Patient of each row.
    times : ndarray, shape (time,)
        Where the band is wanted, rising.
    patients
        Number of patients drawn; more than have rows here, where others are in another group.
    minimum
        As for `product_limit`, in each replicate.
    mass
        Probability of the band.
    generator
        Source of randomness; `replicates` draws of counts are taken from it.
    replicates
        Number of studies drawn.

    Returns
    -------
    lower, upper : ndarray, shape (time,)
        The band.
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
        weight = generator.multinomial(patients, np.full(patients, 1.0 / patients), size=count)
        row = weight[:, who]

        def up_to(order: Ints, position: Ints, row: Ints = row) -> Ints:
            """Weights of the first rows in an order."""
            total = np.cumsum(row[:, order], axis=1)
            return np.concatenate([np.zeros((row.shape[0], 1), dtype=np.int64), total], axis=1)[
                :, position
            ]

        at_risk = up_to(by_start, started) - up_to(by_stop, stopped)
        events = np.diff(up_to(ends, last), axis=1, prepend=0)
        counted = np.maximum.accumulate(at_risk, axis=1) >= minimum
        share = np.divide(events, at_risk, out=np.zeros(events.shape), where=at_risk > 0)
        survival = np.cumprod(np.where(counted, 1.0 - share, 1.0), axis=1)
        whole = np.concatenate([np.ones((count, 1)), survival], axis=1)
        curves[first : first + count] = whole[:, at]
    tail = (1.0 - mass) / 2.0
    lower, upper = np.quantile(curves, [tail, 1.0 - tail], axis=0)
    return lower, upper
