"""A fit without its baseline: the same estimands read off the companion's draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats
from bayesblina.inference.baseline_gate import RATIOS, judge, stated_of
from bayesblina.inference.companion import Companion
from bayesblina.inference.fitting import Fit

# The interval that stands beside the answer.
TAIL = 0.025


def without_baseline(fit: Fit, companion: Companion | None = None) -> Fit | None:
    """Put the companion's draws in place of a fit's, so that ratios can be read off them.

    Without a baseline it has hazard ratios and no hazards. None where there is no companion.
    """
    draws = (fit.companion if companion is None else companion).draws
    posterior = fit.posterior
    if draws is None or any(name in posterior and name not in draws for name in RATIOS):
        return None
    return replace(fit, draws=xr.DataTree.from_dict({"/posterior": draws}))


def beside(
    fit: Fit, own: Floats, companion: Floats | None, dims: tuple[str, ...], endpoints: list[str]
) -> dict[str, tuple[tuple[str, ...], NDArray[np.generic]]]:
    """Work out what stands beside each hazard ratio.

    Coordinates: ``baseline`` (its state), ``baseline_shift`` (in sds of the companion), and
    ``companion_median``, ``companion_lower``, ``companion_upper`` (95 %) and
    ``companion_probability_below_1`` of the hazard ratio, where there is a companion; and
    ``event_times`` (its state) over the endpoints.

    `own`, shape (chain, draw, endpoint, ...): its log hazard ratios.
    `companion`, shape (1, draw, endpoint, ...): the companion's.
    """
    shape = own.shape[2:]
    columns: dict[str, NDArray[np.generic]]
    if companion is None:
        states = np.array([fit.gate.state_of(name) for name in endpoints], dtype=str)
        wide = states.reshape(-1, *(1,) * (len(shape) - 1))
        columns = {"baseline": np.broadcast_to(wide, shape).copy()}
    else:
        labels = [{"endpoint": endpoints[index]} for index in np.indices(shape)[0].ravel()]
        errors = stated_of(fit.companion.table, labels, "error")
        flat = companion.reshape(*companion.shape[:2], -1)
        judged = judge(
            own.reshape(*own.shape[:2], -1),
            flat,
            effective=stated_of(fit.companion.table, labels, "effective_draws"),
            error=0.0 if errors is None else np.nan_to_num(errors),
        )
        low, middle, high = np.exp(np.quantile(flat, [TAIL, 0.5, 1.0 - TAIL], axis=(0, 1)))
        columns = {
            "companion_median": middle,
            "companion_lower": low,
            "companion_upper": high,
            "companion_probability_below_1": (flat < 0.0).mean(axis=(0, 1)),
            "baseline": judged["state"].to_numpy(dtype=str),
            "baseline_shift": judged["shift"].to_numpy(),
        }
    found: dict[str, tuple[tuple[str, ...], NDArray[np.generic]]] = {
        name: (dims, values.reshape(shape)) for name, values in columns.items()
    }
    if fit.event_times is not None:
        state = fit.event_times.table.set_index("endpoint")["state"]
        found["event_times"] = (dims[:1], state.loc[endpoints].to_numpy(dtype=str))
    return found
