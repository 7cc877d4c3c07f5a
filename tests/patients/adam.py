"""Four patients in ADaM datasets, changes of them, and how they are read."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.patients.cohort import Cohort

NAN = np.nan
OS = bb.AdamEndpoint(paramcd="OS")
RFS = bb.AdamEndpoint(paramcd="RFS", some_patients=True)
# Days from TRTSDT. P1: remission 30, cycle 3 at 90, cycle 6 at 240, relapse 300, death 360.
# P2: remission 30, cycle 4 (no cycle 3) at 90, censored 365. P3: death 30, no remission.
# P4: remission 60, cycle 6 (no earlier one) at 200, censored 365.
STARTS = [[90, 240], [90, NAN], [NAN, NAN], [NAN, 200]]


def adsl(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "USUBJID": ["P1", "P2", "P3", "P4"],
            "TRTSDT": ["2015-01-01", "2015-02-01", "2015-03-01", "2015-03-01"],
            "SAFFL": ["Y", "Y", "Y", "Y"],
            "AGEGR1": ["<55", "<55", "55+", "55+"],
        }
    ).assign(**changes)


def adtte(**changes: Any) -> pd.DataFrame:
    rows = [
        ("P1", "OS", "2015-01-01", "2015-12-27", 0),
        ("P2", "OS", "2015-02-01", "2016-02-01", 1),
        ("P3", "OS", "2015-03-01", "2015-03-31", 0),
        ("P4", "OS", "2015-03-01", "2016-02-29", 3),
        ("P1", "RFS", "2015-01-31", "2015-10-28", 0),
        ("P2", "RFS", "2015-03-03", "2016-02-01", 1),
        ("P4", "RFS", "2015-04-30", "2016-02-29", 2),
    ]
    columns = ["USUBJID", "PARAMCD", "STARTDT", "ADT", "CNSR"]
    return pd.DataFrame(rows, columns=columns).assign(**changes)


def adex(**changes: Any) -> pd.DataFrame:
    rows = [
        ("P1", "CYCLE 07", "2015-11-01"),
        ("P1", "CYCLE 06", "2015-08-29"),
        ("P1", "Cycle 3 Day 29", "2015-04-29"),
        ("P1", "Cycle 3 Day 1", "2015-04-01"),
        ("P1", "Cycle 1 Day 1", "2015-01-01"),
        ("P2", "cycle 2", "2015-03-15"),
        ("P2", "Cycle 4 Day 1", "2015-05-02"),
        ("P3", "Cycle 1 Day 1", "2015-03-01"),
        ("P4", "Cycle 6 Day 1", "2015-09-17"),
    ]
    return pd.DataFrame(rows, columns=["USUBJID", "AVISIT", "ASTDT"]).assign(**changes)


def put(table: pd.DataFrame, row: int, **cells: Any) -> pd.DataFrame:
    """Change single cells of one row."""
    table = table.astype(dict.fromkeys(cells, object))
    for column, value in cells.items():
        table.loc[row, column] = value
    return table


def add(table: pd.DataFrame, *cells: Any) -> pd.DataFrame:
    """Add one row."""
    row = pd.DataFrame([cells], columns=table.columns[: len(cells)])
    return pd.concat([table, row], ignore_index=True)


def read(sl: Any = None, tte: Any = None, ex: Any = None, **options: Any) -> Cohort:
    options = {"endpoints": {"os": OS, "rfs": RFS}, "unit": "days", **options}
    return bb.read_adam(
        adsl() if sl is None else sl,
        adtte() if tte is None else tte,
        adex() if ex is None else ex,
        **options,
    )


def problems_of(*tables: Any, **options: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    with pytest.raises(DataError) as caught:
        read(*tables, **options)
    return [(item.column, item.found, item.patients) for item in caught.value.problems]


def analysed(**changes: Any) -> pd.DataFrame:
    """Records with AVAL = ADT - STARTDT + 1 in days."""
    table = adtte()
    days = (pd.to_datetime(table["ADT"]) - pd.to_datetime(table["STARTDT"])).dt.days + 1
    return table.assign(AVAL=days.astype(str), AVALU="DAYS").assign(**changes)
