"""Residuals, and predicted against observed survival, by hand."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from tests.checks.cohorts import LATE, plain_cohort


def test_residuals_add_up_to_events_less_expected(synthetic_fit: Fit) -> None:
    residuals = bb.checks.martingale_residuals(synthetic_fit)
    events = bb.checks.replicated_events(synthetic_fit, seed=1)
    total = events["observed"] - events["expected"].mean(("chain", "draw"))
    np.testing.assert_allclose(
        residuals["residual"].sum("patient").values,
        total.sum(("interval", "phase")).values,
        atol=1e-9,
    )
    assert float(residuals["residual"].max()) <= 1.0
    out = np.isnan(synthetic_fit.person_time.people["exit"].values)
    np.testing.assert_array_equal(np.isnan(residuals["residual"].values), out)


def test_residuals_by_hand() -> None:
    generator = np.random.default_rng(3)
    cohort = plain_cohort(generator.exponential(15.0, 60), seed=4)
    fit = bb.fit(cohort, LATE, cuts=[], seed=1, draws=100, tune=200, progress=False)
    hazard = np.exp(fit.posterior["log_baseline"].values.ravel())
    ratio = np.exp(fit.posterior["log_hazard_ratio"].values.ravel())
    start = np.where(np.isnan(cohort.phase_start[:, 0]), np.inf, cohort.phase_start[:, 0])
    time = cohort.endpoints["os"].time
    each = hazard[:, None] * (
        np.minimum(time, start) + ratio[:, None] * np.maximum(time - start, 0.0)
    )
    found = bb.checks.martingale_residuals(fit).isel(endpoint=0)
    np.testing.assert_allclose(
        found["residual"], cohort.endpoints["os"].event - each.mean(axis=0), rtol=1e-9
    )
    np.testing.assert_allclose(found["sd"], each.std(axis=0), rtol=1e-6)


def test_calibration_by_hand() -> None:
    generator = np.random.default_rng(9)
    cohort = plain_cohort(generator.exponential(15.0, 300), seed=4)
    fit = bb.fit(cohort, LATE, cuts=[], seed=1, draws=100, tune=200, progress=False)
    table = bb.checks.predicted_against_observed(fit, times=[6.0, 12.0], landmark=2.0)
    assert list(table["group"]) == [1, 1]
    hazard = np.exp(fit.posterior["log_baseline"].values.ravel())
    ratio = np.exp(fit.posterior["log_hazard_ratio"].values.ravel())
    start = np.where(np.isnan(cohort.phase_start[:, 0]), np.inf, cohort.phase_start[:, 0])
    time = cohort.endpoints["os"].time
    # The mean hazard of those at risk, on a fine grid.
    grid = np.linspace(2.0, 12.0, 20_001)
    middle = (grid[1:] + grid[:-1]) / 2
    at_risk = (time[:, None] > middle).sum(axis=0)
    late = ((time[:, None] > middle) & (start[:, None] < middle)).sum(axis=0)
    step = np.diff(grid)
    for row, at in zip(table.to_dict("records"), (6.0, 12.0), strict=True):
        here = middle < at
        share = (late / at_risk)[here] @ step[here]
        alive = np.exp(-hazard * ((at - 2.0 - share) + ratio * share))
        for column, level in (("predicted", 0.5), ("predicted_lower", 0.025)):
            assert row[column] == pytest.approx(np.quantile(alive, level), rel=1e-3)
        curve = bb.kaplan_meier(cohort, landmark=2.0)
        assert row["observed"] == curve[curve["time"] <= at].iloc[-1]["survival"]
        event = cohort.endpoints["os"].event
        assert row["events"] == int((event & (time > 2.0) & (time <= at)).sum())
        total = hazard.mean() * (at_risk - late)[here] @ step[here]
        total += (hazard * ratio).mean() * late[here] @ step[here]
        assert row["expected"] == pytest.approx(total, rel=1e-3)


def test_groups_by_risk(synthetic_fit: Fit) -> None:
    table = bb.checks.predicted_against_observed(synthetic_fit, times=[12.0, 18.0], groups=3)
    for _, one in table.groupby(["endpoint", "time"]):
        assert list(one["group"]) == [1, 2, 3]
        assert one["predicted"].is_monotonic_decreasing
        assert one["patients"].max() - one["patients"].min() <= 1
    for arguments, message in (
        ({"times": [1.0]}, "after the landmark"),
        ({"times": []}, "after the landmark"),
        ({"times": [12.0, 90.0]}, "times 90 lie after the end of follow-up"),
        ({"times": [12.0], "groups": 0}, "at least 1"),
        ({"times": [12.0], "mass": 2.0}, "mass must lie"),
    ):
        with pytest.raises(SpecError, match=message):
            bb.checks.predicted_against_observed(synthetic_fit, **arguments)
