"""Patients of tests whose events are found at visits; `data/visits.R` makes the same in R."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.columns import CovariateKind
from bayesblina.person_time.question import StartsUntil


def golden_patients(*covariates: Literal["x", "z"]) -> Cohort:
    """80 patients with exact times, gaps and censored times, of whom a third is always exposed."""
    kinds: dict[str, CovariateKind] = {"x": "continuous", "z": "categorical"}
    i = np.arange(1, 81)
    last = 7 * i % 23 / 2
    found = last + 5 * i % 9 / 2
    found = np.where((last == 0) & (found == 0), 0.5, found)
    censored = i % 4 == 0
    last = np.where(censored, last + 1, last)
    time = np.where(censored, last, found)
    return bb.read_cohort(
        pd.DataFrame(
            {
                "id": i,
                "time": time,
                "event": (~censored).astype(int),
                "last": np.where(last == 0, np.nan, last),
                "start": np.where(i % 3 == 0, 0.0, np.nan),
                "x": 17 * i % 29 / 10,
                "z": np.where(i % 3 == 0, "1", "0"),
            }
        ),
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="time", event="event", last_negative="last")},
        phases=bb.Phases(m="start"),
        covariates={name: kinds[name] for name in covariates},
    )


def asked(starts_until: StartsUntil | None = "found") -> bb.Question:
    """Ask of all patients, from entry on."""
    return bb.Question(exposed="m", eligible_from="entry", starts_until=starts_until)
