"""Checks and counts of patients for print: gates, predictions, accounts, adverse events."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from bayesblina.core.errors import require_kind
from bayesblina.core.masking import MASK, Masked, mask_account
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import mask_loo, mask_safety
from bayesblina.core.tables import numbers
from bayesblina.core.tables.numbers import BASELINE_MOVES, MISSING, NOT_CONVERGED, SYNTHETIC, Kind
from bayesblina.core.tables.table import Table, publish, require_columns

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
    notes = made.notes if criteria["passed"].all() else (*made.notes, NOT_CONVERGED)
    return replace(made, numeric=(False, True, True, False), notes=notes)


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
    rows = (
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
    )
    return Table(
        title=title,
        head=HEAD,
        rows=tuple(rows),
        numeric=tuple(2 <= index <= 5 for index in range(len(HEAD))),
        notes=(
            *([f"Compared with {against}."] if against else []),
            *([BASELINE_MOVES] if gate["state"].eq("failed").any() else []),
            *([SYNTHETIC] if synthetic else []),
        ),
    )


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


def account(
    table: pd.DataFrame,
    *,
    unit: str,
    title: str = "",
    minimum: int = 1,
    synthetic: bool = False,
) -> Table:
    """Make a table of what happened to the patients.

    Parameters
    ----------
    table
        ``table`` of an account (`bayesblina.Cohort.account`, `bayesblina.PersonTime.account`):
        counts without ids.
    unit
        Time unit of the person-time: ``unit`` of the account.
    title
        Title.
    minimum
        Counts of patients and events from 1 to below this are masked, and as many other counts,
        and person-times, as it takes so that no sum gives one away. Which are which is not told:
        it would narrow the small ones. Estimates of the same patients beside this table would tell
        them again.
    synthetic
        Whether the patients are simulated: ``synthetic`` of the account.

    Returns
    -------
    Table
        The table; columns in which nothing stands are left out.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> found = cohort.account()
    >>> account(found.table, unit=found.unit, synthetic=found.synthetic).notes
    ('Synthetic patients.',)
    """
    require_columns(
        table,
        ("step", "endpoint", "phase", "what", "patients", "events", "person_time"),
        "Account.table",
    )
    require_minimum(minimum)
    masked = mask_account(table, minimum=minimum)
    shown = table.copy()
    for name in ("patients", "events"):
        shown[name] = [
            ""
            if pd.isna(cell)
            else MASK
            if f"{index}.{name}" in masked.masked.hidden
            else f"{cell:d}"
            for index, cell in enumerate(table[name])
        ]
    shown["person_time"] = [
        ""
        if pd.isna(cell)
        else MASK
        if index in masked.times or f"{index}.events" in masked.masked.hidden
        else numbers.time(float(cell), unit)
        for index, cell in enumerate(table["person_time"])
    ]
    columns = [str(name) for name in shown.columns if (shown[name] != "").any()]
    made = publish(
        shown,
        synthetic=synthetic,
        title=title,
        columns=columns,
        names={name: f"person-{unit}" if name == "person_time" else name for name in columns},
    )
    return replace(
        made, numeric=tuple(name in ("patients", "events", "person_time") for name in columns)
    )


def adverse_events(
    table: pd.DataFrame, *, unit: str, title: str = "", minimum: int = 1, synthetic: bool = False
) -> Table:
    """Make a table of adverse events by phase.

    Parameters
    ----------
    table
        ``table()`` of what `bayesblina.safety.adverse_events` gives.
    unit
        Time unit of the person-time.
    title
        Title.
    minimum
        Counts of patients and events from 1 to below this are masked, with the shares, events and
        person-times that would tell them; and so are counts of which few patients are the rest.
    synthetic
        Whether the patients are simulated.

    Returns
    -------
    Table
        The table, shares as percentages.

    Raises
    ------
    SpecError
        If the table is another one, or `minimum` is below 1.

    Examples
    --------
    >>> row = {"phase": "m", "patients": 36, "with_event": 3, "share": 3 / 36, "events": 7}
    >>> table = pd.DataFrame([{**row, "person_time": 430.7}])
    >>> adverse_events(table, unit="months", minimum=5).rows[0][:5]
    ('m', '36', '*', '–', '*')
    """
    require_columns(table, ("phase", "patients", "with_event", "share"), "AdverseEvents.table()")
    require_minimum(minimum)
    if minimum > 1:
        require_columns(table, ("events",), "AdverseEvents.table()")
        table = mask_safety(table, Masked(minimum=minimum))
    return publish(
        table,
        synthetic=synthetic,
        title=title,
        names={"with_event": "with an event", "person_time": f"person-{unit}"},
        kinds={"person_time": "time"},
        unit=unit,
    )


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
