"""Draws to tables: constants, and probabilities of statements."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit


def test_constants_have_no_error(synthetic_fit: Fit) -> None:
    curves = bb.survival(synthetic_fit, regimes=[bb.Never()], times=[8.0, 12.0], landmark=8.0)
    table = bb.summary(curves).set_index(["endpoint", "time"])
    assert table.loc[("os", 8.0), "mean"] == 1.0
    assert table.loc[("os", 8.0), "mcse"] == 0.0
    assert not table.isna().any().any()


def test_probability_statements() -> None:
    values = np.array([[-2.0, -1.0, 0.0, 0.5], [1.0, 2.0, 3.0, 4.0]])
    draws = xr.Dataset(
        {"gain": (("chain", "draw", "endpoint"), np.stack([values, values + 10], axis=2))},
        coords={"endpoint": ["os", "rfs"]},
        attrs={"converged": 0},
    )
    table = bb.probabilities(draws, thresholds=[0.0], equivalence=(-1.0, 1.0))
    assert list(table["endpoint"]) == ["os"] * 4 + ["rfs"] * 4
    assert list(table["statement"][:4]) == [
        "gain < 0",
        "gain < -1",
        "-1 <= gain <= 1",
        "gain > 1",
    ]
    np.testing.assert_allclose(table["probability"], [2 / 8, 1 / 8, 4 / 8, 3 / 8, 0, 0, 0, 1])
    assert (table["mcse"][4:] == 0).all()
    assert not table["converged"].any()
    many = np.random.default_rng(1).normal(size=(4, 1000))
    one = bb.probabilities(xr.Dataset({"gain": (("chain", "draw"), many)}), thresholds=[0.0]).iloc[
        0
    ]
    # Independent draws: the binomial's standard error, 0.5 / sqrt(4000), up to the estimate of
    # the effective sample size.
    assert one["mcse"] == pytest.approx(0.5 / np.sqrt(4000), rel=0.15)
    for arguments, message in (
        ({}, "Ask for thresholds"),
        ({"equivalence": (1.0, -1.0)}, "in order"),
    ):
        with pytest.raises(SpecError, match=message):
            bb.probabilities(draws, **arguments)
