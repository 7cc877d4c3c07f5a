"""Made-up tables of patients and of their stays, with all that may be wrong with them."""

from typing import Any

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.patients.declarations import Courses

DECLARED: dict[str, Any] = {
    "patient": "id",
    "unit": "months",
    "endpoints": {
        "os": bb.Endpoint(time="time", event="died"),
        "rfs": bb.Endpoint(time="free", event="relapsed", entry="remission"),
    },
    "covariates": ["sex"],
    "transplant": "moved",
}
# What leaves out every kind of row, and settles every overlap.
LEAVE_OUT = ("strangers", "other phases", "empty", "after")
PHASES = {"blina": ["blina", "blina reduced"], "tki": "tki", "chemo": "chemo"}


def tables(seed: int, patients: int = 200, *, clean: bool = False) -> tuple[pd.DataFrame, ...]:
    """Make patients and stays: gaps, overlaps and rows that do not belong, unless `clean`."""
    generator = np.random.default_rng(seed)
    time = np.round(generator.uniform(4, 40, patients) * 8) / 8
    remission = np.where(generator.random(patients) < 0.8, np.round(time / 8), np.nan)
    frame = pd.DataFrame(
        {
            "id": [f"p{number:04d}" for number in generator.permutation(patients)],
            "time": time,
            "died": generator.integers(0, 2, patients),
            "remission": remission,
            "free": np.where(np.isnan(remission), np.nan, time),
            "relapsed": generator.integers(0, 2, patients),
            "sex": generator.choice(["f", "m"], patients),
            "moved": np.where(generator.random(patients) < 0.2, np.round(time * 6) / 8, np.nan),
        }
    )
    rows = []
    texts = ["blina", "blina reduced", "tki", "chemo"]
    for who, end in zip(frame["id"], time, strict=True):
        start = float(generator.integers(0, 3))
        for cycle in range(int(generator.integers(0, 12))):
            length = float(generator.integers(1, 8)) / 4
            if start >= end:
                break
            last = start + length >= end and generator.random() < 0.5
            rows.append((who, texts[generator.integers(0, 4)], start, start + length, cycle // 2))
            if last:
                rows[-1] = (*rows[-1][:3], np.nan, rows[-1][4])
                break
            start += length + float(generator.choice([0.0, 0.125, 1.0]))
            if not clean and generator.random() < 0.1:
                start = max(start - 0.5, 0.0)
    stays = pd.DataFrame(rows, columns=["who", "drug", "from", "to", "cycle"])
    stays["dose"] = generator.integers(0, 9, len(stays)).astype(float)
    if not clean:
        extra = pd.DataFrame(
            {
                "who": ["nobody", "nobody", *frame["id"].iloc[:6]],
                "drug": ["tki", "tki", "other", "other", "tki", "tki", "chemo", "chemo"],
                "from": [1.0, 2.0, 0.0, 1.0, 3.0, 1.0, 400.0, 500.0],
                "to": [2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 401.0, 501.0],
                "cycle": 0,
                "dose": 1.0,
            }
        )
        stays = pd.concat([stays, extra], ignore_index=True)
    return frame, stays.sample(frac=1.0, random_state=seed).reset_index(drop=True)


def courses(table: Any, **other: Any) -> Courses:
    """Declare the stays of `tables`."""
    declared = {"phases": PHASES, "order": "any"} | other
    return Courses(table=table, patient="who", start="from", stop="to", phase="drug", **declared)
