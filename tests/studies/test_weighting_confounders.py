"""Covariates that change over time, in the model of starting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError


@pytest.mark.parametrize("first", [0.0, -24.0, -60.0, -600.0, -1e6])
def test_how_long_before_the_origin_a_value_was_taken_changes_nothing(first: float) -> None:
    cohort, history = measured(first)
    found, usual = (
        bb.weighting.starting_weights(cohort, MEASURED, endpoint="y", history=rows).weights
        for rows in (history, measured(0.0)[1])
    )
    np.testing.assert_allclose(found, usual, rtol=1e-9)


MEASURED = bb.Question(exposed="m", eligible_from="entry")


def measured(first: float) -> tuple[bb.Cohort, pd.DataFrame]:
    """Patients whose one value was taken twice."""
    draw = np.random.default_rng(5)
    time, start = draw.exponential(15, 120).clip(0.5, 24), draw.exponential(8, 120)
    x = draw.normal(size=120)
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(120)],
            "t": time,
            "e": (time < 24).astype(int),
            "s": np.where(start < time, start, np.nan),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"y": bb.Endpoint(time="t", event="e")},
        phases=bb.Phases(m="s"),
    )
    rows = [pd.DataFrame({"patient": table["id"], "time": at, "x": x}) for at in (first, 1.0)]
    return cohort, pd.concat(rows, ignore_index=True)


def test_two_values_at_one_time_are_refused() -> None:
    for first, noise in ((0.0, 0.0), (0.0, 1e-12), (-24.0, 0.0), (-24.0, 1e-12)):
        cohort, history = measured(first)
        other = history.assign(x=-history["x"], time=history["time"] * (1 + noise))
        with pytest.raises(DataError, match="different values at one time"):
            bb.weighting.starting_weights(
                cohort, MEASURED, endpoint="y", history=pd.concat([history, other])
            )
    # The same value twice says nothing new.
    same = pd.concat([history, history])
    late = history.assign(time=history["time"].replace(0.0, -1e-12))
    usual = bb.weighting.starting_weights(cohort, MEASURED, endpoint="y", history=history).weights
    for rows in (same, late):
        found = bb.weighting.starting_weights(cohort, MEASURED, endpoint="y", history=rows).weights
        np.testing.assert_allclose(found, usual, rtol=1e-9)
    with pytest.raises(DataError, match=r"not numbers.*levels of a category as 0 and 1"):
        bb.weighting.starting_weights(
            cohort, MEASURED, endpoint="y", history=history.assign(x="high")
        )
