"""Numbers needed to treat, and their words."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.comparisons import _statement
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.fitting import Fit

LANDMARK, START = 8.0, 10.0


def test_number_needed_to_treat(synthetic_fit: Fit) -> None:
    needed = bb.number_needed_to_treat(
        synthetic_fit, time=24.0, regime=bb.From(START), landmark=LANDMARK, mass=0.9
    )
    both: tuple[Regime, Regime] = (bb.From(START), bb.Never())
    curves = bb.survival(synthetic_fit, regimes=both, times=[24.0], landmark=LANDMARK)
    difference = bb.contrast(curves, *both)["survival_difference"].isel(time=0)
    for endpoint in ("os", "rfs"):
        values = difference.sel(endpoint=endpoint).values.ravel()
        one = needed.sel(endpoint=endpoint)
        assert float(one["number_needed_to_treat"]) == pytest.approx(1 / np.median(values))
        assert float(one["number_at_lower"]) == pytest.approx(1 / np.quantile(values, 0.05))
        assert float(one["number_at_upper"]) == pytest.approx(1 / np.quantile(values, 0.95))
        assert float(one["probability_of_benefit"]) == pytest.approx((values > 0).mean())
    with pytest.raises(EstimandError, match="do not differ by 9"):
        bb.number_needed_to_treat(synthetic_fit, time=9.0, regime=bb.From(START), landmark=LANDMARK)


@pytest.mark.parametrize(
    ("difference", "statement"),
    [
        # Altman's way: 1 / 0.1 = 10; from the larger effect's number to the smaller's.
        ((0.1, 0.05, 0.2), "benefit 10 (95% interval benefit 5 to benefit 20)"),
        ((0.1, -0.05, 0.25), "benefit 10 (95% interval benefit 4 to infinity to harm 20)"),
        ((-0.1, -0.2, -0.05), "harm 10 (95% interval harm 5 to harm 20)"),
        ((0.1, 0.0, 0.2), "benefit 10 (95% interval benefit 5 to infinity)"),
        ((-0.1, -0.2, 0.0), "harm 10 (95% interval harm 5 to infinity)"),
    ],
)
def test_numbers_in_words(difference: tuple[float, float, float], statement: str) -> None:
    assert _statement(*difference, 0.95) == statement
