"""The gate of events found at visits, of which there is no partial likelihood.

The same model is fitted with half and with twice as many intervals, and under the other mechanism
of starting. That fewer intervals move the answer is a fault, as of any baseline. What is told, and
never a fault, is what the data cannot tell: how the hazard runs within the gaps, which only the
prior says where there are more intervals than visits, and which mechanism holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.inference.baseline_gate import AGAINST, BaselineGate, gate_of
from bayesblina.person_time.question import STARTS_UNTIL, Question, StartsUntil

INTERVALS = "the same model with half and with twice as many intervals"
WITHIN = "how the hazard runs between two visits is not seen at them"
# Draws and adaptation of the fits that are only compared with.
DRAWS = 500
# Fits an endpoint alone, with its question and cut points: draws of its log hazard ratios.
Refit = Callable[[Question, Floats | None], xr.Dataset]


def halved(cuts: Floats) -> Floats:
    """Take every second cut point.

    >>> halved(np.array([3.0, 6.0, 9.0]))
    array([6.])
    """
    return cuts[1::2]


def doubled(cuts: Floats, last: float) -> Floats:
    """Add a cut point in the middle of each interval; `last` is the end of the last one.

    >>> doubled(np.array([6.0]), 12.0)
    array([3., 6., 9.])
    """
    edges = np.concatenate([[0.0], cuts, [last]])
    return np.sort(np.concatenate([cuts, (edges[1:] + edges[:-1]) / 2.0]))


def visit_gate(
    posterior: xr.Dataset,
    question: Question,
    *,
    visited: Sequence[str],
    cuts: dict[str, Floats],
    last: float,
    exact: BaselineGate | None,
    refit: Refit,
) -> tuple[BaselineGate, tuple[str, ...]]:
    """Compare the log hazard ratios of endpoints that are recorded at visits.

    `posterior`: draws of the fit.
    `visited`: endpoints that are recorded at visits.
    `cuts`: cut points of each of these.
    `last`: end of follow-up.
    `exact`: the gate of the other endpoints; None where there are none.
    `refit`: fits one endpoint again.
    Result: the gate, and what the other mechanism gives, in a sentence for each endpoint.
    """
    tables, notes = [] if exact is None else [exact.table], []
    for name in visited:
        own, alone = posterior.sel(endpoint=[name]), replace(question, endpoints=(name,))
        fewer, more = (
            gate_of(own, refit(alone, chosen), against=INTERVALS).table
            for chosen in (halved(cuts[name]), doubled(cuts[name], last))
        )
        moved = more["state"].isin(["failed", "told"])
        more.loc[moved, "state"] = "told"
        more.loc[moved, "reason"] = WITHIN
        compared = [fewer, more]
        shifts = np.stack([table["shift"].abs().to_numpy() for table in compared])
        worse = np.argmax(np.nan_to_num(shifts), axis=0)
        worse[(fewer["state"] == "failed").to_numpy()] = 0
        tables.append(
            pd.concat([compared[of].iloc[[row]] for row, of in enumerate(worse.tolist())])
        )
        notes.append(_other_mechanism(own, alone, name, refit))
    against = INTERVALS if exact is None else f"{AGAINST} or {INTERVALS}"
    return BaselineGate(table=pd.concat(tables, ignore_index=True), against=against), tuple(notes)


def _other_mechanism(own: xr.Dataset, question: Question, endpoint: str, refit: Refit) -> str:
    """Say what the log hazard ratio of the exposed phase is under the other mechanism."""
    other: StartsUntil = "found" if question.starts_until == "event" else "event"
    try:
        asked = replace(question, starts_until=other)
    except SpecError:
        return (
            f"{endpoint}: the other mechanism (starts_until='{other}') cannot be asked with these"
        )
    values = [
        draws["log_hazard_ratio"].isel(effect=0).values.ravel()
        for draws in (own, refit(asked, None))
    ]
    (mean, sd), (there, spread) = ((each.mean(), each.std(ddof=1)) for each in values)
    shift = (there - mean) / sd
    return (
        f"{endpoint}: if {STARTS_UNTIL[other]} (starts_until='{other}'), the log hazard ratio is "
        f"{there:.2f} (sd {spread:.2f}) for {mean:.2f} (sd {sd:.2f}), {shift:+.1f} sds away; the "
        "data cannot tell which holds"
    )
