"""Estimates with their intervals for print: summaries, ladders, scenarios, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core.masking import is_small, mask_account
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import mask_ladder
from bayesblina.core.tables import numbers
from bayesblina.core.tables.numbers import (
    BASELINE,
    BESIDE,
    EVENT_TIMES,
    FAILED,
    LONG,
    OWN,
    SHORT,
    Kind,
    beside,
    failed_in,
)
from bayesblina.core.tables.table import Table, publish, require_columns

# Columns of the summaries that are no coordinates.
STATISTICS = frozenset(
    {
        "mean",
        "median",
        "sd",
        "lower",
        "upper",
        "mcse",
        "ess_bulk",
        "ess_tail",
        "r_hat",
        "converged",
        "probability_reached",
    }
)
DIAGNOSTICS = ("mcse", "ess_bulk", "ess_tail", "r_hat")
_BELOW = "probability_below_"


def estimates(
    summary: pd.DataFrame,
    *,
    kind: Kind,
    quantity: str = "",
    unit: str | None = None,
    title: str = "",
    mass: float = 0.95,
    diagnostics: bool = False,
    synthetic: bool = False,
) -> Table:
    """Make a table of estimates with their intervals.

    Parameters
    ----------
    summary
        What `bayesblina.summary` gives.
    kind
        What the estimates are: ``"ratio"``, ``"probability"``, ``"percent"`` (of a share),
        ``"time"`` or ``"number"``.
    quantity
        What they are called in the table's head, such as ``"HR"``.
    unit
        Unit of times; by default the summary's own, which is an attribute of it.
    title
        Title.
    mass
        Probability of the summary's intervals, for the head.
    diagnostics
        Whether to show Monte-Carlo errors, effective sample sizes and R-hat.
    synthetic
        Whether the patients are simulated, where the summary's attributes do not say so: tables
        that were joined may have lost them.

    Returns
    -------
    Table
        Coordinates, "median (lower to upper)", and probabilities. Times beyond the horizon are
        "not reached", and a note says what the horizon is.

    Raises
    ------
    SpecError
        If the table is no summary, or the kind is unknown.

    Examples
    --------
    >>> summary = pd.DataFrame(
    ...     {"endpoint": ["os"], "median": [0.45], "lower": [0.22], "upper": [0.91]}
    ... )
    >>> estimates(summary, kind="ratio", quantity="HR").rows
    (('os', '0.45 (0.22 to 0.91)'),)
    """
    require_columns(summary, ("median", "lower", "upper"), "bayesblina.summary")
    unit = unit or str(summary.attrs.get("unit", "months"))
    below = [str(name) for name in summary.columns if str(name).startswith(_BELOW)]
    labels = [
        str(name) for name in summary.columns if str(name) not in {*STATISTICS, *BESIDE, *below}
    ]
    rows = summary.to_dict("records")
    what = f"{quantity or 'estimate'} ({mass:.0%} interval)"
    columns = {
        what: [" ".join(filter(None, [_estimate(row, kind, unit), _apart(row)])) for row in rows],
        **{name: summary.get(name) for name in (*below, "probability_reached")},
        **{name: summary.get(name) for name in (DIAGNOSTICS if diagnostics else ())},
        "companion": [_estimate(row, kind, unit, of="companion_") for row in rows]
        if "companion_median" in summary
        else None,
        **{name: summary.get(name) for name in (BASELINE, "converged")},
    }
    shown = summary[labels].assign(
        **{name: cells for name, cells in columns.items() if cells is not None}
    )
    shown.attrs = {**summary.attrs}
    if EVENT_TIMES in failed_in(summary):
        shown.attrs[EVENT_TIMES] = FAILED
    names = {
        what: what,
        "probability_reached": "P(reached)",
        "companion": "without a baseline",
        **{name: f"P({quantity or 'estimate'} < {name.removeprefix(_BELOW)})" for name in below},
    }
    horizon = summary.attrs.get("horizon")
    unreached = kind == "time" and np.isinf(summary[["median", "lower", "upper"]]).any(axis=None)
    made = publish(
        shown,
        title=title,
        names={name: text for name, text in names.items() if name in shown},
        kinds=dict.fromkeys(below, "probability"),
        unit=unit,
        synthetic=synthetic,
    )
    numeric = tuple(right or index == len(labels) for index, right in enumerate(made.numeric))
    notes = made.notes
    if unreached and horizon is not None:
        notes = (*notes, f"Not reached: by {numbers.time(float(horizon), unit)} {unit}.")
    return replace(made, numeric=numeric, notes=notes)


def probabilities(table: pd.DataFrame, *, title: str = "", synthetic: bool = False) -> Table:
    """Make a table of posterior probabilities of statements.

    Parameters
    ----------
    table
        What `bayesblina.probabilities` gives.
    title
        Title.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    require_columns(table, ("statement", "probability"), "bayesblina.probabilities")
    return publish(table, synthetic=synthetic, title=title)


def bias_ladder(
    table: pd.DataFrame,
    *,
    title: str = "",
    minimum: int = 1,
    account: pd.DataFrame | None = None,
) -> Table:
    """Make a table of the bias ladder.

    Parameters
    ----------
    table
        What `bayesblina.classical.bias_ladder` gives, or `bayesblina.cox`,
        `bayesblina.classical.ever_never` and `bayesblina.classical.landmark_analysis`.
    title
        Title.
    minimum
        Estimates with fewer than this many events, and any, on one side are left out: an interval
        tells how many.
    account
        ``table`` of the account that stands beside it: where that hides events of a phase, two
        rungs by other methods would tell them, and are left out too.

    Returns
    -------
    Table
        The table: what is biased says so in its note.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.

    Examples
    --------
    >>> row = {"endpoint": "os", "method": "time-varying Cox", "estimate": 0.4, "lower": 0.1}
    >>> row |= {"upper": 1.6, "events_exposed": 3, "events_reference": 20, "note": ""}
    >>> bias_ladder(pd.DataFrame([row]), minimum=5).rows[0][2:]
    ('–', 'masked: it would tell how many events there were')
    """
    require_columns(
        table,
        ("endpoint", "method", "estimate", "lower", "upper", "note"),
        "bayesblina.classical.bias_ladder",
    )
    require_minimum(minimum)
    if minimum > 1:
        sides = ("events_exposed", "events_reference")
        require_columns(table, sides, "bayesblina.classical.bias_ladder")
        masked = None if account is None else mask_account(account, minimum=minimum)
        table = mask_ladder(
            table,
            minimum,
            closed=masked.closed if masked else (),
            few=masked.few if masked else (),
            own=OWN,
        ).drop(columns=["masked", "patients", "events", *sides], errors="ignore")
    made = estimates(
        table.rename(columns={"estimate": "median"}), kind="ratio", quantity="hazard ratio"
    )
    last = len(made.head) - 1
    order = [0, 1, last, *range(2, last)]
    return Table(
        title=title,
        head=tuple(made.head[index] for index in order),
        rows=tuple(tuple(row[index] for index in order) for row in made.rows),
        numeric=tuple(made.numeric[index] for index in order),
        notes=(
            *made.notes,
            *(
                LONG[name]
                for name, words in SHORT.items()
                if table["note"].str.contains(words, regex=False).any()
            ),
        ),
    )


def scenarios(
    table: pd.DataFrame, *, title: str = "", minimum: int = 1, synthetic: bool = False
) -> Table:
    """Make a table of what-if scenarios.

    Parameters
    ----------
    table
        ``table`` of what `bayesblina.sensitivity` gives.
    title
        Title.
    minimum
        Estimates with fewer than this many events, and any, on one side are left out, and so are
        the reasons of scenarios that failed, which may count patients.
    synthetic
        Whether the patients are simulated: ``synthetic`` of the same.

    Returns
    -------
    Table
        One row per scenario and endpoint. A scenario that failed has its reason; numbers of one
        that did not converge are not shown; one of which the baseline moves the hazard ratio is
        marked.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    require_columns(
        table,
        ("scenario", "status", "reason", "endpoint", "median", "lower", "upper"),
        "bayesblina.sensitivity",
    )
    require_minimum(minimum)
    good = table["status"] == "converged"
    if minimum > 1:
        require_columns(table, ("events", "events_exposed"), "bayesblina.sensitivity")
        rest = table["events"] - table["events_exposed"]
        few = [
            is_small(exposed, minimum) or is_small(other, minimum)
            for exposed, other in zip(table["events_exposed"], rest, strict=True)
        ]
        table = table.assign(reason=["masked" if hidden else "" for hidden in few])
        good &= ~np.array(few, dtype=bool)
    rows = table.to_dict("records")
    shown = pd.DataFrame(
        {
            "scenario": table["scenario"],
            "endpoint": table["endpoint"].fillna(""),
            "hazard ratio (95% interval)": [
                " ".join(filter(None, [_estimate(row, "ratio"), _apart(row)]))
                if fine
                else numbers.MISSING
                for row, fine in zip(rows, good, strict=True)
            ],
            "P(HR < 1)": table["probability_below_1"].astype(float).where(good),
            "status": [
                str(row["status"]) if not row["reason"] else f"{row['status']}: {row['reason']}"
                for row in rows
            ],
        }
    )
    if "companion_median" in table:
        companions = [
            _estimate(row, "ratio", of="companion_") if fine else numbers.MISSING
            for row, fine in zip(rows, good, strict=True)
        ]
        shown.insert(4, "without a baseline", companions)
        shown[BASELINE] = table[BASELINE].fillna("")
    return publish(shown, synthetic=synthetic, title=title, kinds={"P(HR < 1)": "probability"})


def _estimate(row: Mapping[Any, Any], kind: Kind, unit: str = "months", *, of: str = "") -> str:
    """Write an estimate with its interval; that of a companion has names of its own."""
    values = (float(row[f"{of}{name}"]) for name in ("median", "lower", "upper"))
    return numbers.interval(*values, kind=kind, unit=unit)


def _apart(row: Mapping[Any, Any]) -> str:
    """Mark a number of a table in which others are not marked; convergence has its own column."""
    marks = beside({name: value for name, value in row.items() if name != "converged"})
    return f"[{marks}]" if marks else ""
