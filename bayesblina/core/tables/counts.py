"""Counts of patients for print: accounts, and adverse events by phase."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bayesblina.core.masking import Masked, mask_account
from bayesblina.core.masking.counts import MASK
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.masking.tables import mask_safety
from bayesblina.core.tables import numbers
from bayesblina.core.tables.publishing import publish, require_columns
from bayesblina.core.tables.table import Table


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
    needed = ("step", "endpoint", "phase", "what", "patients", "events", "person_time")
    require_columns(table, needed, "Account.table")
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
    names = {name: name for name in columns} | {"person_time": f"person-{unit}"}
    made = publish(
        shown,
        synthetic=synthetic,
        title=title,
        columns=columns,
        names={name: text for name, text in names.items() if name in columns},
    )
    counts = tuple(name in ("patients", "events", "person_time") for name in columns)
    return replace(made, numeric=counts)


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
