"""Rows of the tables of results, and the numbers in them as they are shown."""

from __future__ import annotations

import pandas as pd

from bayesblina.core.tables.numbers import LONG
from bayesblina.output.report.answer import known
from bayesblina.output.report.results import Results
from bayesblina.output.report.wording import Number, Row, number, records, shape_of

INTERVAL = ("median", "lower", "upper")


def endpoints_of(table: pd.DataFrame) -> list[str]:
    """Name the endpoints of a table, in its order."""
    return list(map(str, table["endpoint"].unique()))


def rows_of(results: Results, name: str) -> list[Row]:
    """Take the rows of a table of results; none where it could not be computed."""
    return records(results.tables[name]) if name in results.tables else []


def interval(row: Row, table: str, *, prefix: str = "", signed: bool = False) -> dict[str, Number]:
    """Take a posterior median with its interval, in the digits of the row's own interval."""
    shape = shape_of(row, signed=signed)
    return {name: number(row, f"{prefix}{name}", shape, table=table) for name in INTERVAL}


def companion(row: Row) -> dict[str, Number] | None:
    """Take the answer without a baseline, if there is one."""
    if not known(row, "companion_median"):
        return None
    return interval(row, "hazard_ratios", prefix="companion_")


def mark_of(gate: str) -> str:
    """Name the mark of a gate that was failed."""
    return LONG[gate].partition(":")[0]


def count(cell: object, shape: str = ",.0f") -> str:
    """Write a count, or the mask in its place."""
    return cell if isinstance(cell, str) else format(float(str(cell)), shape)
