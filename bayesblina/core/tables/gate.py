"""The baseline gate as a table for print."""

from __future__ import annotations

import math

import pandas as pd

from bayesblina.core.arguments import require_kind
from bayesblina.core.tables.build import publish
from bayesblina.core.tables.numbers import MISSING
from bayesblina.core.tables.table import BASELINE_MOVES, Table

HEAD = (
    "endpoint",
    "effect",
    "log HR (SD)",
    "without a baseline (SD)",
    "shift, SDs",
    "ratio of SDs",
    "state",
)


def baseline(
    gate: pd.DataFrame, *, title: str = "", against: str = "", synthetic: bool = False
) -> Table:
    """Make a table of the baseline gate.

    Parameters
    ----------
    gate
        ``table`` of a `bayesblina.inference.baseline_gate.BaselineGate`.
    title
        Title.
    against
        What the fit was compared with, in words.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        One row per endpoint and log hazard ratio: passed, told, FAILED or not compared.

    Raises
    ------
    SpecError
        If the table is another one.

    Examples
    --------
    >>> gate = pd.DataFrame(
    ...     {
    ...         "endpoint": ["os"],
    ...         "effect": ["maintenance"],
    ...         "mean": [-0.8],
    ...         "sd": [0.36],
    ...         "companion_mean": [-0.81],
    ...         "companion_sd": [0.36],
    ...         "shift": [0.03],
    ...         "sd_ratio": [1.0],
    ...         "state": ["passed"],
    ...         "reason": [""],
    ...     }
    ... )
    >>> baseline(gate).rows
    (('os', 'maintenance', '-0.80 (0.36)', '-0.81 (0.36)', '+0.03', '1.00', 'passed'),)
    """
    require_kind(gate, pd.DataFrame, "gate", made_by="fit.gate")
    rows = [
        (
            str(row["endpoint"]),
            str(row["effect"]),
            _with_sd(row["mean"], row["sd"]),
            _with_sd(row["companion_mean"], row["companion_sd"]),
            _number(row["shift"], "+.2f"),
            _number(row["sd_ratio"], ".2f"),
            " ".join(
                filter(
                    None,
                    [
                        "FAILED" if row["state"] == "failed" else str(row["state"]),
                        f"({row['reason']})" if row["reason"] else "",
                    ],
                )
            ),
        )
        for row in gate.to_dict("records")
    ]
    shown = pd.DataFrame(rows, columns=list(HEAD))
    shown.attrs["synthetic"] = synthetic
    notes = [f"Compared with {against}."] if against else []
    if gate["state"].eq("failed").any():
        notes.append(BASELINE_MOVES)
    made = publish(shown, title=title, names={name: name for name in HEAD}, notes=notes)
    numeric = tuple(2 <= index <= 5 for index in range(len(HEAD)))
    return Table(
        title=made.title, head=made.head, rows=made.rows, numeric=numeric, notes=made.notes
    )


def _number(value: object, shape: str) -> str:
    number = float(str(value))
    return MISSING if math.isnan(number) else format(number, shape)


def _with_sd(mean: object, sd: object) -> str:
    first = _number(mean, ".2f")
    return first if first == MISSING else f"{first} ({_number(sd, '.2f')})"
