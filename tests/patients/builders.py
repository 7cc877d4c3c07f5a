"""A table of patients, how it is read, and what is wrong with it."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from bayesblina.patients.cohort import Cohort

ENDPOINTS = {
    "os": bb.Endpoint(time="os_months", event="died"),
    "rfs": bb.Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month"),
}
PHASES = bb.Phases(
    consolidation="consolidation_month",
    maintenance=bb.Phase(start="maintenance_month", end="maintenance_end"),
)
OPTIONS: Any = MappingProxyType(
    {
        "patient": "patient_id",
        "unit": "months",
        "endpoints": ENDPOINTS,
        "phases": PHASES,
        "covariates": ("age", "marrow"),
        "transplant": "transplant_month",
    }
)


def patients(**changes: Any) -> pd.DataFrame:
    """Four valid patients, with changed columns."""
    table = pd.DataFrame(
        {
            "patient_id": ["007", "1e5", "A 3", "NA"],
            "os_months": [10.5, 12.0, 8.0, 5.0],
            "died": [1, 0, 1, 0],
            "rfs_months": [9.0, 12.0, None, 4.0],
            "relapse_or_death": [1, 0, None, 1],
            "remission_month": [2.0, 1.0, None, 3.0],
            "consolidation_month": [2.0, 1.0, None, None],
            "maintenance_month": [6.0, None, None, 3.0],
            "maintenance_end": [9.0, None, None, None],
            "transplant_month": [None, 12.0, None, 0.5],
            "age": ["young", "old", "old", "young"],
            "marrow": [10, 20, 30, 40],
        }
    )
    return table.assign(**changes)


def read(table: pd.DataFrame | Path, **options: Any) -> Cohort:
    return bb.read_cohort(table, **{**OPTIONS, **options})


def problems_of(table: pd.DataFrame | Path, **options: Any) -> list[tuple[str, str, Any]]:
    with pytest.raises(DataError) as caught:
        read(table, **options)
    return [(item.column, item.found, item.patients) for item in caught.value.problems]


def assert_same(one: Cohort, other: Cohort) -> None:
    """Compare all but the name of the source."""
    for name in ("unit", "phases", "phase_ends_known", "synthetic", "repairs"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("patients", "phase_start", "phase_end"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.transplant is None) == (other.transplant is None)
    if one.transplant is not None and other.transplant is not None:
        np.testing.assert_array_equal(one.transplant, other.transplant)
    assert list(one.endpoints) == list(other.endpoints)
    for name, outcome in one.endpoints.items():
        for part in ("time", "event", "entry"):
            np.testing.assert_array_equal(
                getattr(outcome, part), getattr(other.endpoints[name], part)
            )
    assert list(one.covariates) == list(other.covariates)
    for name, covariate in one.covariates.items():
        assert (covariate.kind, covariate.levels) == (
            other.covariates[name].kind,
            other.covariates[name].levels,
        )
        np.testing.assert_array_equal(covariate.values, other.covariates[name].values)
