"""What must not be overlooked beside a number: three gates, three marks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import xarray as xr

SYNTHETIC = "Synthetic patients."
NOT_CONVERGED = "NOT CONVERGED: do not use these numbers."
BASELINE_MOVES = "THE BASELINE MOVES THE HAZARD RATIO: do not use these numbers."
VISITS = "EVENT TIMES ARE THOSE OF VISITS: declare them, and do not use these numbers."
CONVERGED, BASELINE, EVENT_TIMES = "converged", "baseline", "event_times"
FAILED = "failed"
# The last rungs of a ladder, whose prior, covariates and baseline tell no count to the unit.
BAYESIAN, COMPANION = "Bayesian", "Cox, same priors, same covariates"
OWN = (BAYESIAN, COMPANION)
# Beside a number, where there is little room.
SHORT: Mapping[str, str] = {
    CONVERGED: "NOT CONVERGED",
    BASELINE: "BASELINE MOVES IT",
    EVENT_TIMES: "EVENT TIMES OF VISITS",
}
# Below a table.
LONG: Mapping[str, str] = {
    CONVERGED: NOT_CONVERGED,
    BASELINE: BASELINE_MOVES,
    EVENT_TIMES: VISITS,
}
# Columns beside an answer that are no estimates and no labels of it.
BESIDE = frozenset(
    {
        BASELINE,
        "baseline_shift",
        "baseline_pull",
        "companion_median",
        "companion_lower",
        "companion_upper",
        "companion_probability_below_1",
        "prior_pull",
        "covariate_prior_pull",
        EVENT_TIMES,
        "supported",
    }
)


def failed(values: Mapping[Any, Any]) -> tuple[str, ...]:
    """Name the gates that a row, or what an estimate carries with it, says were failed.

    Of ``"converged"``, ``"baseline"``, ``"event_times"``; those that are not there passed.
    """
    gates = [] if bool(values.get(CONVERGED, True)) else [CONVERGED]
    gates += [name for name in (BASELINE, EVENT_TIMES) if str(values.get(name, "")) == FAILED]
    return tuple(gates)


def failed_in(source: pd.DataFrame | xr.Dataset) -> tuple[str, ...]:
    """Name the gates that any row of a table failed, or that its attributes say were failed."""
    gates = set(failed(source.attrs))
    for name in (BASELINE, EVENT_TIMES):
        if name in (source if isinstance(source, pd.DataFrame) else source.coords):
            # What stands beside each number knows better than what stands beside all.
            gates.discard(name)
            if (source[name].to_numpy().astype(str) == FAILED).any():
                gates.add(name)
    table_of_gates = isinstance(source, pd.DataFrame) and CONVERGED in source
    if table_of_gates and not source[CONVERGED].astype(bool).all():
        gates.add(CONVERGED)
    return tuple(name for name in SHORT if name in gates)


def beside(row: Mapping[Any, Any]) -> str:
    """Word what must not be overlooked beside one number."""
    return ", ".join(SHORT[name] for name in failed(row))
