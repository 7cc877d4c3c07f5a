"""Draws as labelled arrays, what every estimate says of its fit, and blocks of draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.inference.fitting import Fit


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
