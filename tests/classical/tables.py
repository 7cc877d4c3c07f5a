"""Questions of tests, and tables of patients read in."""

from __future__ import annotations

import pandas as pd

import bayesblina as bb
from bayesblina.patients.cohort import Cohort

NAMED = bb.Question(exposed="two", reference="one", eligible_from="entry")
TRANSPLANT = bb.Question(exposed="transplantation", eligible_from="entry")


def read(table: pd.DataFrame, unit: str = "days", **columns: str) -> Cohort:
    names = {"patient": "id", "time": "days", "start": "transplant_day"} | columns
    return bb.read_cohort(
        table,
        patient=names["patient"],
        unit=unit,
        endpoints={"os": bb.Endpoint(time=names["time"], event="died")},
        phases=bb.Phases(transplantation=names["start"]),
        covariates=[name for name in ("age", "surgery") if name in table],
    )
