"""Any tidy table for print: which columns, under which titles, by which rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from bayesblina.core.arguments import require_kind
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.tables import numbers
from bayesblina.core.tables.marks import (
    LONG,
    failed_in,
)
from bayesblina.core.tables.numbers import Kind
from bayesblina.core.tables.table import SYNTHETIC, Table

# How columns that hold numbers are written, wherever they stand.
KINDS: Mapping[str, Kind] = {
    "p_value": "probability",
    "probability": "probability",
    "probability_reached": "probability",
    "share": "percent",
    "odds_ratio": "ratio",
}
SHAPES: Mapping[str, str] = {"r_hat": ".3f", "ess_bulk": ".0f", "ess_tail": ".0f", "mcse": ".2g"}
TITLES: Mapping[str, str] = {
    "r_hat": "R-hat",
    "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS",
    "mcse": "MCSE",
    "sd": "SD",
    "elpd": "ELPD",
    "se": "SE",
    "sampling_se": "SE of sampling",
    "p_loo": "effective parameters",
    "largest_pareto_k": "largest Pareto k",
    "pareto_k_limit": "limit of Pareto k",
    "share": "share, %",
    "p_value": "p-value",
}
# Identifiers never go into print.
IDENTIFIERS = frozenset({"patient", "patient_id", "usubjid", "subjid", "id"})


def publish(
    table: pd.DataFrame,
    *,
    title: str = "",
    columns: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    kinds: Mapping[str, Kind] | None = None,
    unit: str = "months",
    notes: Sequence[str] = (),
    synthetic: bool = False,
) -> Table:
    """Make any tidy table one for print.

    Parameters
    ----------
    table
        The tidy table. Its attributes ``synthetic`` and ``converged``, and a column ``converged``,
        become notes where there is something to say.
    title
        Title.
    columns
        Columns to show, in this order; by default all but ``converged`` where all rows agree.
    names
        Titles in place of the columns' names.
    kinds
        What numbers of columns are, in place of the rules that the names imply.
    unit
        Unit of columns that are times.
    notes
        Further notes below the table.
    synthetic
        Whether the patients are simulated, where the table's attributes do not say so.

    Returns
    -------
    Table
        The table: counts as they stand, R-hat with three decimals, effective sample sizes as whole
        numbers, Monte-Carlo errors with two significant digits, the rest by the rules of
        `bayesblina.core.tables.numbers`.

    Raises
    ------
    SpecError
        If a column is not there, or holds identifiers of patients.

    Examples
    --------
    >>> table = pd.DataFrame({"model": ["primary"], "p_value": [0.0312]})
    >>> publish(table).rows
    (('primary', '0.031'),)
    """
    require_kind(table, pd.DataFrame, "table")
    known = [str(name) for name in table.columns]
    shown = list(columns) if columns is not None else known
    for name in (*shown, *(names or {}), *(kinds or {})):
        if name not in known:
            raise SpecError(f"No column '{name}'. {nearest(name, known)}")
    for name in shown:
        if name.lower() in IDENTIFIERS:
            raise SpecError(
                f"Column '{name}' may identify patients: choose columns= without it for print."
            )
    if columns is None and "converged" in shown and table["converged"].nunique() < 2:
        shown.remove("converged")
    numeric = tuple(
        pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name])
        for name in shown
    )
    writers = [_writer(name, {**KINDS, **(kinds or {})}.get(name), unit) for name in shown]
    rows = [
        tuple(write(cell) for write, cell in zip(writers, row, strict=True))
        for row in table[shown].itertuples(index=False, name=None)
    ]
    return Table(
        title=title,
        head=tuple(
            (names or {}).get(name) or TITLES.get(name) or name.replace("_", " ") for name in shown
        ),
        rows=tuple(rows),
        numeric=numeric,
        notes=(
            *notes,
            *([SYNTHETIC] if synthetic or table.attrs.get("synthetic") else []),
            *(LONG[name] for name in failed_in(table)),
        ),
    )


def _writer(name: str, kind: Kind | None, unit: str) -> Callable[[object], str]:
    """Choose how the cells of a column are written."""

    def write(cell: Any) -> str:
        if isinstance(cell, str):
            return cell
        if cell is None or pd.isna(cell):
            return numbers.MISSING
        if pd.api.types.is_bool(cell):
            return "yes" if cell else "no"
        if not pd.api.types.is_number(cell):
            return str(cell)
        if name in SHAPES:
            return f"{cell:{SHAPES[name]}}"
        return numbers.writer(kind or "number", unit=unit)(float(cell))

    return write


def require_columns(table: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Refuse what is not the kind of table that a function prints."""
    require_kind(table, pd.DataFrame, "table", made_by=source)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise SpecError(
            f"The table has no column '{missing[0]}'; expected what {source} gives, found columns "
            f"{', '.join(map(str, table.columns)) or 'none'}."
        )
