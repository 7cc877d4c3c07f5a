"""Draws as labelled arrays, in blocks, what estimates say of their fit, and who is at risk where.

Beyond the times at which anybody with a history is at risk curves are the model's alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.estimands.regimes import Regime, effects_begin, states_under
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import PersonTime

# Sums over nodes of compressed covariates are 0 up to rounding.
NOBODY = 1e-6


def by_draw(fit: Fit, values: Floats, dims: tuple[str, ...] = (), **coords: Any) -> xr.DataArray:
    """Label an array that has all draws in front, chain by chain, over (chain, draw, *dims)."""
    posterior = fit.posterior
    shape = (posterior.sizes["chain"], posterior.sizes["draw"], *values.shape[1:])
    return xr.DataArray(
        np.ascontiguousarray(values).reshape(shape),
        dims=("chain", "draw", *dims),
        coords={"chain": posterior["chain"], "draw": posterior["draw"], **coords},
    )


def state_of(fit: Fit) -> dict[str, object]:
    """Say of which model something is, whether it converged, and whether patients are synthetic."""
    return {
        "model": fit.definition.name,
        "converged": int(fit.converged),
        "synthetic": int(fit.person_time.synthetic),
    }


def attributes_of(fit: Fit) -> dict[str, object]:
    """Say what every estimate must carry with it.

    Beside `state_of` ``baseline``, the state of the baseline gate, and ``event_times``,
    ``"failed"`` where event times are those of visits.
    """
    return state_of(fit) | {
        "baseline": fit.gate.state,
        "event_times": "failed" if "event_times" in fit.failed else "passed",
    }


def blocks(draws: int, numbers: int, *, most: int) -> Iterator[slice]:
    """Take some draws at a time, so that no more numbers are held at once than `most`.

    `numbers`: numbers that one draw needs.

    >>> list(blocks(5, 10, most=20))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    step = max(1, most // max(numbers, 1))
    return (slice(first, first + step) for first in range(0, draws, step))


def draws_of(fit: Fit, rows: slice) -> xr.Dataset:
    """Take some of a fit's draws, numbered chain by chain, as one chain."""
    posterior = fit.posterior
    sizes = (posterior.sizes["chain"], posterior.sizes["draw"])
    chain, draw = np.unravel_index(np.arange(sizes[0] * sizes[1])[rows], sizes)
    places = {"chain": ("draw", chain), "draw": ("draw", draw)}
    chosen = posterior.drop_vars(["chain", "draw"], errors="ignore").isel(
        {dim: xr.DataArray(at[1], dims=at[0]) for dim, at in places.items()}
    )
    return chosen.expand_dims("chain")


def episodes_of(person_time: PersonTime, endpoint: str | int) -> tuple[Ints, Ints, Floats, Floats]:
    """Take an endpoint's episodes: patient, state, start and stop of each, patient by patient."""
    number = person_time.endpoints.index(endpoint) if isinstance(endpoint, str) else endpoint
    rows = person_time.episodes["endpoint"].values == number
    own = {name: column.values[rows] for name, column in person_time.episodes.data_vars.items()}
    return own["patient"], own["phase"], own["start"], own["stop"]


def supported(person_time: PersonTime) -> pd.DataFrame:
    """Find when anybody is at risk in the states that are compared.

    Result: one row per endpoint, role (``"exposed"``, ``"reference"``) and stretch of time without
    a gap: ``endpoint``, ``role``, ``start``, ``stop``. To the interval where only sums are known.
    """
    rows = [
        (name, role, start, stop)
        for index, name in enumerate(person_time.endpoints)
        for role in ("exposed", "reference")
        for start, stop in stretches(
            person_time, index, person_time.table["role"].values.astype(str) == role
        )
    ]
    return pd.DataFrame(rows, columns=["endpoint", "role", "start", "stop"])


def stretches(person_time: PersonTime, index: int, states: Bools) -> list[Floats]:
    """Join the times at which anybody is at risk in some states.

    Result, shape (2,): start and stop of each stretch of time without a gap, in order.
    """
    if person_time.complete:
        episodes = person_time.episodes
        rows = (episodes["endpoint"].values == index) & states[episodes["phase"].values]
        start, stop = episodes["start"].values[rows], episodes["stop"].values[rows]
    else:
        table = person_time.table
        time = table["person_time"].transpose("endpoint", "interval", "phase", "pattern").values
        there = time[index][:, states].sum(axis=(1, 2)) > NOBODY
        start = table["interval_start"].values[there]
        last = float(table["last_exit"].values[index])
        stop = np.minimum(table["interval_stop"].values[there], last)
    if not start.size:
        return []
    order = np.argsort(start, kind="stable")
    start, reached = start[order], np.maximum.accumulate(stop[order])
    fresh = np.concatenate([[True], start[1:] > reached[:-1]])
    ends = np.append(np.flatnonzero(fresh)[1:] - 1, start.size - 1)
    return list(np.stack([start[fresh], reached[ends]], axis=1))


def with_support(fit: Fit, curves: xr.Dataset, regimes: Sequence[Regime]) -> xr.Dataset:
    """Say beside curves at which times anybody with that history is at risk.

    `curves`: curves over (..., endpoint, regime, time).
    Result: the curves, with the coordinate ``supported`` over (endpoint, regime, time): whether
    anybody is at risk then in the state that the regime is in. Curves of other endpoints than those
    fitted, of which only the transitions are, stay as they are.
    """
    person_time = fit.person_time
    names = [str(name) for name in np.atleast_1d(curves["endpoint"].values)]
    if names != list(person_time.endpoints):
        return curves
    times = np.asarray(curves["time"].values, dtype=np.float64)
    values = [
        [_supports(fit, index, regime, times) for regime in regimes] for index in range(len(names))
    ]
    return curves.assign_coords(supported=(("endpoint", "regime", "time"), values))


def _supports(fit: Fit, index: int, regime: Regime, times: Floats) -> Bools:
    """Whether anybody is at risk for an endpoint in the regime's state, at each time."""
    table = fit.person_time.table
    treatment = table["treatment"].values.astype(str)
    steps = [(-np.inf, table["role"].values == "reference")]
    layout = fit.person_time.layout
    if layout is None:
        entered = effects_begin(regime, fit.question)
        steps += [(start, treatment == phase) for phase, start in entered]
    else:  # a state is all that counts of a history
        state = table["phase"].values.astype(str)
        steps += [(start, state == name) for start, name in states_under(regime, layout)]
    ends = [start for start, _ in steps[1:]] + [np.inf]
    anybody = np.zeros(times.size, dtype=bool)
    for (start, states), end in zip(steps, ends, strict=True):
        inside = (times >= start) & (times < end)
        for first, last in stretches(fit.person_time, index, states):
            slack = TIE_TOLERANCE * max(abs(float(last)), 1.0)
            anybody |= inside & (times >= first - slack) & (times <= last + slack)
    return anybody
