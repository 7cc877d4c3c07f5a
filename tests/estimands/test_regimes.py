"""Regimes that nobody can follow are refused."""

from __future__ import annotations

import pytest

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.inference.fitting import Fit


def test_undefined_regimes_are_refused(synthetic_fit: Fit) -> None:
    with pytest.raises(EstimandError, match="a state that a patient must live to enter"):
        bb.survival(synthetic_fit, regimes=[bb.From(0.0)], landmark=0.0)
    with pytest.raises(EstimandError, match="before the landmark"):
        bb.survival(synthetic_fit, regimes=[bb.Never()], times=[1.0], landmark=8.0)
    with pytest.raises(EstimandError, match="nobody is at risk"):
        bb.survival(synthetic_fit, regimes=[bb.Never()], landmark=500.0, times=[501.0])
    with pytest.raises(EstimandError, match="twice"):
        bb.survival(synthetic_fit, regimes=[bb.Never(), bb.Never()], landmark=8.0)


@pytest.mark.parametrize(
    ("regime", "message"),
    [
        ({}, "expected times from 0 on"),
        ({"consolidation": -1.0}, "expected times from 0 on"),
        ({"consolidation": 8.0, "maintenance": 8.0}, "must start after the one before"),
    ],
)
def test_impossible_phases(regime: dict[str, float], message: str) -> None:
    with pytest.raises(EstimandError, match=message):
        bb.WithPhases(regime)
