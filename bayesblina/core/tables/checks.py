"""Checks for print: convergence, the baseline gate, predictions of patients left out."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from bayesblina.core.arguments import require_kind
from bayesblina.core.masking import Masked
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import mask_loo
from bayesblina.core.tables.numbers import MISSING, Kind
from bayesblina.core.tables.publishing import publish, require_columns
from bayesblina.core.tables.table import BASELINE_MOVES, NOT_CONVERGED, Table

HEAD = (
    "endpoint",
    "effect",
    "log HR (SD)",
    "without a baseline (SD)",
    "shift, SDs",
    "ratio of SDs",
    "state",
)


def convergence(criteria: pd.DataFrame, *, title: str = "", synthetic: bool = False) -> Table:
    """Make a table of the convergence gate.

    Parameters
    ----------
    criteria
        ``criteria`` of a fit's ``convergence``.
    title
        Title.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        One row per criterion, passed or FAILED.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    require_columns(criteria, ("criterion", "value", "limit", "passed"), "Convergence.criteria")
    shown = criteria.assign(
        value=[
            MISSING if math.isnan(value) else f"{value:.4g}"
            for value in criteria["value"].astype(float)
        ],
        passed=["yes" if passed else "FAILED" for passed in criteria["passed"]],
    )
    made = publish(shown, synthetic=synthetic, title=title)
    failed = () if criteria["passed"].all() else (NOT_CONVERGED,)
    return replace(made, numeric=(False, True, True, False), notes=(*made.notes, *failed))


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
            ("FAILED" if row["state"] == "failed" else str(row["state"]))
            + (f" ({row['reason']})" if row["reason"] else ""),
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
    return replace(made, numeric=numeric)


def leave_one_out(
    loo: pd.DataFrame, *, title: str = "", minimum: int = 1, synthetic: bool = False
) -> Table:
    """Make a table of leave-one-patient-out predictions.

    Parameters
    ----------
    loo
        ``loo`` of what `bayesblina.check` gives.
    title
        Title.
    minimum
        Counts of patients from 1 to below this are masked.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table; how many were left out stands in it where that is a sample of the patients.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.
    """
    require_columns(loo, ("endpoint", "patients", "elpd", "se", "reliable"), "bayesblina.check")
    require_minimum(minimum)
    if "evaluated" in loo and (loo["evaluated"] == loo["patients"]).all():
        # Nobody stands for others.
        loo = loo.drop(columns=["evaluated", "sampling_se"], errors="ignore")
    loo = mask_loo(loo, Masked(minimum=minimum))
    return publish(loo, synthetic=synthetic, title=title, kinds=_densities(loo))


def models(comparison: pd.DataFrame, *, title: str = "", synthetic: bool = False) -> Table:
    """Make a table of models compared by prediction.

    Parameters
    ----------
    comparison
        What `bayesblina.compare` gives.
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
    require_columns(comparison, ("model", "rank", "elpd", "elpd_difference"), "bayesblina.compare")
    kinds = _densities(comparison)
    if "weight" in comparison:
        kinds["weight"] = "probability"
    return publish(comparison, synthetic=synthetic, title=title, kinds=kinds)


def _densities(table: pd.DataFrame) -> dict[str, Kind]:
    """Columns of log predictive densities and their errors."""
    names = ("elpd", "se", "p_loo", "elpd_difference", "se_difference")
    return {name: "log density" for name in names if name in table}


def _number(value: object, shape: str) -> str:
    number = float(str(value))
    return MISSING if math.isnan(number) else format(number, shape)


def _with_sd(mean: object, sd: object) -> str:
    first = _number(mean, ".2f")
    return first if first == MISSING else f"{first} ({_number(sd, '.2f')})"
