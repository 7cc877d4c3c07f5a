"""Patients whose events are found at visits."""

from __future__ import annotations

import numpy as np
import pandas as pd

import bayesblina as bb

END = 36.0


def at_visits(
    *, seed: int, size: int, every: float, mechanism: str, ratio: float = 0.5
) -> pd.DataFrame:
    """Simulate patients who become eligible (``c``), may start ``m``, and are visited regularly.

    ``t``, ``e``, ``last``: as recorded at visits; ``true``: when the event happened.
    """
    rng = np.random.default_rng([seed, size])
    eligible = rng.uniform(0.2, 3.0, size)
    start = np.where(rng.random(size) < 0.6, eligible + rng.uniform(0.5, 18.0, size), np.inf)
    true = eligible + rng.exponential(20.0, size)
    true = np.where(true > start, start + rng.exponential(20.0 / ratio, size), true)
    if mechanism == "event":
        start = np.where(start < true, start, np.inf)
    found = np.ceil(true / every) * every
    event = found <= END
    time = np.where(event, found, END)
    last = np.where(event, found - every, END)
    return pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "c": eligible,
            "m": np.where(start < time, start, np.nan),
            "t": time,
            "e": event.astype(int),
            "last": last,
            "true": true,
        }
    )


def cohort_of(table: pd.DataFrame, exact: tuple[str, str] | None = None) -> bb.Cohort:
    """Read them; `exact` are columns of a second endpoint whose events are exact."""
    endpoints = {"y": bb.Endpoint(time="t", event="e", last_negative="last")}
    if exact is not None:
        endpoints["os"] = bb.Endpoint(time=exact[0], event=exact[1])
    covariates = [name for name in ("age", "sex") if name in table]
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        phases=bb.Phases(c="c", m="m"),
        endpoints=endpoints,
        covariates=covariates,
    )
