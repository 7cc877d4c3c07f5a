"""What a masked report leaves out, because it was computed from small counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bayesblina.hazards.definition import Free
from bayesblina.ladder import BAYESIAN, COMPANION
from bayesblina.masking import is_small
from bayesblina.report.flow import Flow
from bayesblina.report.results import Results
from bayesblina.what_if.reading import Sensitivity

# Tables that hold no estimate; the account and adverse events are masked count by count.
COUNTS = ("diagnostics", "patient_flow", "safety", "at_risk")
# Rungs whose prior, covariates and baseline tell no count to the unit.
OWN = (BAYESIAN, COMPANION)
FEW = (
    "Few patients or events were in a state that is compared. Every estimate, with its interval, "
    "would tell how many: none is shown"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """Results without what would tell a small count.

    Attributes
    ----------
    results
        The results. Rungs of the ladder that are hidden have the truth value ``masked``.
    withheld : tuple of str
        Endpoints of which no estimate is left.
    scenarios
        Number of scenarios, over endpoints, that are left out.
    """

    results: Results
    withheld: tuple[str, ...]
    scenarios: int


def without_few(results: Results, flow: Flow | None, *, minimum: int) -> Shown:
    """Leave out what was computed from small counts.

    An estimate is a function of few numbers where few events stand on one side of it: the variance
    of a log hazard ratio is about the sum of one over each side's events. So no estimate is left
    of an endpoint of which a compared state has few patients or events; no rung of the ladder by
    another method where any number of events by phase is hidden, or has few on one side; and no
    scenario with few on one side.

    Parameters
    ----------
    results
        The results.
    flow
        The account as it is shown; None if there is none, and then nothing is left out.
    minimum
        Smallest count that is shown; 1 shows all.

    Returns
    -------
    Shown
        What is left.
    """
    if flow is None or minimum <= 1:
        ladder = results.tables.get("bias_ladder")
        tables = dict(results.tables)
        if ladder is not None:
            tables["bias_ladder"] = ladder.assign(masked=False)
        return Shown(results=replace(results, tables=tables), withheld=(), scenarios=0)
    own = set(results.fit.exposure.endpoints)
    named = {
        str(name)
        for table, rows in results.tables.items()
        if table not in COUNTS and "endpoint" in rows
        for name in rows["endpoint"]
    }
    closed = flow.closed if isinstance(results.fit.definition.baseline, Free) else frozenset()
    # A baseline of jumps has one at each event time. And curves of endpoints rest on every
    # transition of an illness-death course.
    few = set(flow.few | closed)
    few |= {name for name in named if name not in own} if few else set()
    tables = {
        name: rows
        if name in COUNTS or "endpoint" not in rows
        else rows[~rows["endpoint"].isin(few)].reset_index(drop=True)
        for name, rows in results.tables.items()
    }
    if "bias_ladder" in tables:
        tables["bias_ladder"] = _ladder(tables["bias_ladder"], flow.closed, minimum)
    scenarios, left_out = None, 0
    if results.sensitivity is not None:
        scenarios, left_out = _scenarios(results.sensitivity, few, minimum)
    return Shown(
        results=replace(results, tables=tables, sensitivity=scenarios),
        withheld=tuple(sorted(few & (own | set(results.tables["survival"]["endpoint"])))),
        scenarios=left_out,
    )


def _ladder(ladder: pd.DataFrame, closed: Collection[str], minimum: int) -> pd.DataFrame:
    """Take the numbers out of rungs that would tell how many events there are."""
    masked = [
        row["method"] not in OWN and (row["endpoint"] in closed or _few_on_a_side(row, minimum))
        for row in ladder.to_dict("records")
    ]
    shown = ladder.assign(masked=masked)
    shown.loc[shown["masked"], ["estimate", "lower", "upper"]] = float("nan")
    return shown


def _few_on_a_side(row: Mapping[Any, Any], minimum: int) -> bool:
    return any(is_small(row[name], minimum) for name in ("events_exposed", "events_reference"))


def _scenarios(
    found: Sensitivity, few: Collection[str], minimum: int
) -> tuple[Sensitivity | None, int]:
    """Leave out scenarios of withheld endpoints, and those with few events on one side."""
    table = found.table
    rest = table["events"] - table["events_exposed"]
    small = [
        is_small(one, minimum) or is_small(other, minimum)
        for one, other in zip(table["events_exposed"], rest, strict=True)
    ]
    hidden = table["endpoint"].isin(few) | pd.Series(small, index=table.index)
    kept = table[~hidden].reset_index(drop=True)
    left_out = int((hidden & ~table["endpoint"].isin(few)).sum())
    return (replace(found, table=kept) if len(kept) else None), left_out


def about_others(sentences: Collection[str], withheld: Collection[str]) -> tuple[str, ...]:
    """Leave out sentences on endpoints that are withheld.

    Parameters
    ----------
    sentences
        Sentences, which begin with the endpoint that they are about, if with any.
    withheld
        The endpoints.

    Returns
    -------
    tuple of str
        The others.

    Examples
    --------
    >>> about_others(["os: few events", "rfs: few events"], ["os"])
    ('rfs: few events',)
    """
    return tuple(
        one
        for one in sentences
        if not any(one.startswith((f"{name}: ", f"{name}, ")) for name in withheld)
    )
