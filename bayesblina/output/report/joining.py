"""Intervals that are joined until each has enough events to be shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def joined_events(replicated: Any, *, minimum: int) -> pd.DataFrame:
    """Join neighbouring intervals until each has enough events to be shown."""
    observed = replicated["observed"].sum("phase").values
    expected = replicated["expected"].sum("phase").mean(("chain", "draw")).values
    drawn = replicated["replicated"].sum("phase")
    drawn = drawn.transpose("chain", "draw", "interval").values.reshape(-1, observed.size)
    groups: list[list[int]] = [[]]
    for index in range(observed.size):
        groups[-1].append(index)
        if observed[groups[-1]].sum() >= minimum and index + 1 < observed.size:
            groups.append([])
    if len(groups) > 1 and observed[groups[-1]].sum() < minimum:
        rest = groups.pop()
        groups[-1] += rest
    rows = []
    for group in groups:
        replicates, seen = drawn[:, group].sum(axis=1), float(observed[group].sum())
        lower, upper = np.quantile(replicates, [0.025, 0.975])
        rows.append(
            {
                "interval_start": float(replicated["interval_start"].values[group[0]]),
                "interval_stop": float(replicated["interval_stop"].values[group[-1]]),
                "observed": seen,
                "expected": float(expected[group].sum()),
                "lower": float(lower),
                "upper": float(upper),
                "p_value": float((replicates > seen).mean() + 0.5 * (replicates == seen).mean()),
            }
        )
    return pd.DataFrame(rows)
