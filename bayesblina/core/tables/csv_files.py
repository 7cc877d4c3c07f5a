"""Tables as CSV files whose texts no spreadsheet takes for formulas, written and read back."""

from __future__ import annotations

import re
from collections.abc import Collection
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from bayesblina.core.arguments import require_kind
from bayesblina.core.errors import StorageError
from bayesblina.core.files import reason_of

# What a spreadsheet runs, in full-width letters too; apostrophes before it are counted, so that
# guarding can be undone without asking what a text was.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV whose texts no spreadsheet takes for formulas.

    Parameters
    ----------
    table
        The table; its index is not written.

    Returns
    -------
    str
        The file's content. A text that a spreadsheet would take for a formula has an apostrophe
        before it, in cells and in names of columns; numbers are written as they are, exactly.

    Examples
    --------
    >>> to_csv(pd.DataFrame({"term": ["=1+1", "fever"], "n": [-1, 2]})).splitlines()
    ['term,n', "'=1+1,-1", 'fever,2']
    """
    require_kind(table, pd.DataFrame, "table")

    def guard(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell

    # By position: columns may share a name.
    columns = [
        column
        if column.dtype.kind in "bifu"
        # Whole numbers beside missing cells would become floats if kinds were found anew.
        else pd.Series(
            map(guard, column),
            index=table.index,
            dtype=object if column.dtype == object else None,
        )
        for column in (table.iloc[:, index] for index in range(table.shape[1]))
    ]
    guarded = pd.concat(columns, axis=1) if columns else table.copy()
    guarded.columns = pd.Index([guard(str(name)) for name in table.columns])
    return str(guarded.to_csv(index=False, lineterminator="\n"))


def read_csv(
    path: str | PathLike[str] | StringIO, *, texts: Collection[str] = (), named: str = ""
) -> pd.DataFrame:
    """Read a table that `to_csv` wrote.

    The table, without the apostrophes; numbers are those written, to the last bit.
    """
    where = named if isinstance(path, StringIO) else Path(path)
    try:
        table = pd.read_csv(
            path,
            float_precision="round_trip",
            keep_default_na=False,
            na_values=[""],
            dtype=dict.fromkeys(texts, str),
        )
    except OSError as error:
        raise StorageError(f"Cannot read '{where}': {reason_of(error)}.") from None
    except ValueError as error:
        raise StorageError(f"'{where}' is not a table that bayesblina wrote: {error}.") from None
    missing = [name for name in texts if name not in table.columns]
    if missing:
        raise StorageError(f"'{where}' lacks the column(s) {', '.join(missing)}.")

    def bare(cell: Any) -> Any:
        return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell

    for name in table.columns:
        if table[name].dtype.kind not in "bifu":
            table[name] = [bare(cell) for cell in table[name]]
    for name in texts:
        table[name] = table[name].fillna("")
    table.columns = [bare(str(name)) for name in table.columns]
    return table
