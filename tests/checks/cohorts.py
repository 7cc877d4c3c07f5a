"""Patients without covariates, for checks by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.patients.cohort import Cohort


def plain_cohort(time: np.ndarray, *, seed: int) -> Cohort:
    """Patients without covariates, half of whom enter a phase that does nothing."""
    generator = np.random.default_rng(seed)
    stop = generator.uniform(20, 40, time.size)
    end = np.minimum(time, stop)
    start = generator.uniform(1, 12, time.size)
    table = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(time.size)],
            "time": end,
            "event": (time <= stop).astype(int),
            "start": np.where((start < end) & (np.arange(time.size) % 2 == 0), start, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
    )


LATE = bb.Question(exposed="late", eligible_from="entry")
