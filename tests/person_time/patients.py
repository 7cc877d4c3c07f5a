"""A table of patients of every kind, for those ways of summing that must give the same."""

from typing import Any

import numpy as np
import pandas as pd

import bayesblina as bb

DECLARED: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {
        "os": bb.Endpoint(time="os", event="died"),
        "rfs": bb.Endpoint(time="rfs", event="failed", entry="first"),
    },
    "phases": bb.Phases(early="early", late="late"),
    "transplant": "sct",
}
QUESTION = bb.Question(exposed="late", eligible_from="early", transplant="phase", lag=0.5)


def table(size: int = 40, *, seed: int = 1) -> pd.DataFrame:
    """Times in quarters of months, so that many tie; of every kind of patient a few."""
    random = np.random.default_rng(seed)
    stop = np.ceil(4.0 * random.exponential(8.0, size)) / 4.0 + 1.0
    relapse = np.minimum(stop, np.ceil(4.0 * random.exponential(6.0, size)) / 4.0 + 0.5)
    died = random.random(size) < 0.7
    early = np.floor(4.0 * random.uniform(0.0, 2.0, size)) / 4.0
    late = early + np.ceil(4.0 * random.exponential(2.0, size)) / 4.0
    transplant = np.ceil(4.0 * random.exponential(9.0, size)) / 4.0
    first = np.floor(4.0 * random.uniform(0.0, 1.0, size)) / 4.0
    some = random.permutation(size)
    first[some[:14]], early[some[12:26]] = np.nan, np.nan
    return pd.DataFrame(
        {
            # Rising as texts, and in another order than rows.
            "id": [f"p{row:02d}" for row in random.permutation(size)],
            "os": stop,
            "died": died.astype(int),
            "rfs": relapse,
            "failed": (died | (relapse < stop)).astype(int),
            "first": np.where(first < relapse, first, np.nan),
            "early": np.where(early < stop, early, np.nan),
            "late": np.where((late < stop) & ~np.isnan(early), late, np.nan),
            "sct": np.where(transplant < stop, transplant, np.nan),
            "site": random.choice(["a", "b", "c"], size),
            "sex": random.choice(["f", "m"], size),
            "score": random.normal(size=size),
        }
    )
