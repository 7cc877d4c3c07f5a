"""Regimes that nobody can follow are refused."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.windows import observation_of, require_curves
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


def test_curves_start_by_default_at_the_median_rounded_up() -> None:
    """By hand: of 2, 3.141 and 9 the middle is 3.141; half are under observation by 3.2."""
    begin = {"os": np.array([2.0, 3.141, 9.0, np.nan])}
    end = {"os": np.array([10.0, 12.0, 14.0, np.nan])}
    observed = observation_of(begin, end, {"before late": 0.0, "late": 2.5}, unit="months")
    assert observed.median == 3.2
    question = bb.Question(exposed="late", eligible_from="entry")
    window = require_curves(observed, question, regimes=(bb.Never(),), landmark=None)
    assert (window.start, window.last) == (3.2, 14.0)
    # One that is asked for stays as it is.
    window = require_curves(observed, question, regimes=(bb.Never(),), landmark=3.141)
    assert window.start == 3.141
    exact = observation_of(
        {"os": np.full(3, 8.0)}, end | {"os": np.full(3, 9.0)}, {}, unit="months"
    )
    assert exact.median == 8.0
