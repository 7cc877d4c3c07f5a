"""Small tables whose cells are counted by hand."""

from typing import Any, Literal

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime


def same_person_time(one: PersonTime, other: PersonTime) -> None:
    """Check that two ways of summing gave the same."""
    assert list(one.table.data_vars) == list(other.table.data_vars)
    assert one.table.attrs == other.table.attrs
    for name in one.table.variables:
        left, right = one.table[name], other.table[name]
        assert left.dims == right.dims
        if left.dtype.kind == "f":
            np.testing.assert_allclose(right.values, left.values, rtol=1e-9, atol=1e-12)
        else:
            assert left.equals(right), name


MAINTENANCE = bb.Question(exposed="maintenance", eligible_from="entry")


def read(table: dict[str, list[Any]], **options: Any) -> Cohort:
    settings_: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": bb.Endpoint(time="months", event="died"),
        "phases": bb.Phases(maintenance="start"),
    }
    frame = pd.DataFrame(table)
    frame.insert(0, "id", [f"p{row}" for row in range(len(frame))])
    return bb.read_cohort(frame, **{**settings_, **options})


def cells(person_time: PersonTime, variable: Literal["events", "person_time"]) -> list[list[float]]:
    """Interval by phase, of the first endpoint and pattern."""
    values = person_time.table[variable].isel(endpoint=0, pattern=0).values
    return [[float(value) for value in row] for row in values]
