"""Stanford's patients, and few made by hand."""

from __future__ import annotations

import pandas as pd

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from tests.paths import DATA

STANFORD = DATA / "stanford_jasa1.csv"


QUESTION = bb.Question(exposed="transplantation", eligible_from="entry")


def stanford(per_unit: float = 1.0, unit: str = "days") -> Cohort:
    table = pd.read_csv(STANFORD)
    table[["days", "transplant_day"]] /= per_unit
    return bb.read_cohort(
        table,
        patient="id",
        unit=unit,
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
    )


def small(rows: list[tuple[float, int, float | None]]) -> Cohort:
    table = pd.DataFrame(rows, columns=["months", "died", "start"])
    table["id"] = [f"p{row}" for row in range(len(rows))]
    table["start"] = table["start"].astype(float)
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints=bb.Endpoint(time="months", event="died"),
        phases=bb.Phases(transplantation="start"),
    )
