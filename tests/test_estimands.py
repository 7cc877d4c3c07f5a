"""Hazard ratios and curves against hand computations, quadrature and brute force."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import bayesblina as bb
from bayesblina.errors import EstimandError
from bayesblina.estimands import cumulative_hazard
from bayesblina.fitting import Fit


def test_hazard_ratio_is_the_exponential(synthetic_fit: Fit) -> None:
    ratio = bb.hazard_ratio(synthetic_fit)["hazard_ratio"]
    log_ratio = synthetic_fit.posterior["log_hazard_ratio"].sel(effect="maintenance")
    np.testing.assert_array_equal(ratio.values, np.exp(log_ratio.values))
    table = bb.summarise(bb.hazard_ratio(synthetic_fit), thresholds=(1.0, 0.8))
    assert list(table.columns) == [
        "endpoint",
        "mean",
        "median",
        "sd",
        "lower",
        "upper",
        "probability_below_1",
        "probability_below_0.8",
        "mcse",
        "ess_bulk",
        "ess_tail",
        "r_hat",
        "converged",
    ]
    flat = ratio.sel(endpoint="os").values.ravel()
    assert table.loc[0, "probability_below_0.8"] == pytest.approx((flat < 0.8).mean())
    assert table.loc[0, "upper"] == pytest.approx(np.quantile(flat, 0.975))


def test_survival_equals_a_loop_over_patients(synthetic_fit: Fit) -> None:
    """Each patient's curve by quadrature of the hazard, averaged over those at risk."""
    landmark, start = 8.0, 10.0
    times = [8.0, 9.5, 13.0, 22.0]
    curves = bb.survival(
        synthetic_fit, regimes=[bb.Never(), bb.From(start)], times=times, landmark=landmark
    )["survival"]
    people, posterior = synthetic_fit.exposure.people, synthetic_fit.posterior
    cuts = synthetic_fit.exposure.cuts
    for endpoint in ("os", "rfs"):
        at_risk = [
            patient
            for patient in range(people.sizes["patient"])
            if people["begin"].sel(endpoint=endpoint).values[patient]
            <= landmark
            < people["exit"].sel(endpoint=endpoint).values[patient]
        ]
        for draw in (0, 500):
            one = posterior.isel(chain=1, draw=draw).sel(endpoint=endpoint)
            for regime, entered in (("never", np.inf), ("from 10", start)):
                expected = np.zeros(len(times))
                for patient in at_risk:
                    pattern = people["pattern"].values[patient]
                    shift = float(synthetic_fit.design.terms[pattern] @ one["coefficient"].values)

                    def hazard(
                        t: float,
                        one: xr.Dataset = one,
                        shift: float = shift,
                        entered: float = entered,
                    ) -> float:
                        interval = int(np.searchsorted(cuts, t))
                        extra = float(one["log_hazard_ratio"].values[0]) if t > entered else 0.0
                        return float(np.exp(one["log_baseline"].values[interval] + shift + extra))

                    knots = [k for k in (*cuts, entered) if landmark < k < np.inf]
                    for index, time in enumerate(times):
                        inner = [landmark, *sorted(k for k in knots if k < time), time]
                        total = sum((b - a) * hazard((a + b) / 2) for a, b in pairwise(inner))
                        expected[index] += np.exp(-total) / len(at_risk)
                got = curves.sel(endpoint=endpoint, regime=regime).isel(chain=1, draw=draw)
                np.testing.assert_allclose(got.values, expected, rtol=1e-10)


@settings(max_examples=100, deadline=None)
@given(
    hazards=st.lists(st.floats(0, 2), min_size=4, max_size=4),
    ratio=st.floats(0.1, 3),
    start=st.floats(0, 12),
    landmark=st.floats(0, 6),
    length=st.floats(0, 10),
)
def test_cumulative_hazard_is_the_integral(
    hazards: list[float], ratio: float, start: float, landmark: float, length: float
) -> None:
    cuts = np.array([2.0, 5.0, 9.0])
    time = landmark + length
    got = cumulative_hazard(
        np.array([hazards]),
        np.array([ratio]),
        cuts,
        np.array([time]),
        start=landmark,
        regime=bb.From(start),
    )[0, 0]

    def hazard(t: float) -> float:
        return hazards[int(np.searchsorted(cuts, t))] * (ratio if t > start else 1.0)

    edges = sorted({landmark, time, *(k for k in (*cuts, start) if landmark < k < time)})
    expected = sum(quad(hazard, a, b, epsabs=1e-13)[0] for a, b in pairwise(edges))
    assert got == pytest.approx(expected, abs=1e-10)


def test_undefined_regimes_are_refused(synthetic_fit: Fit) -> None:
    with pytest.raises(EstimandError, match="a state that a patient must live to enter"):
        bb.survival(synthetic_fit, regimes=[bb.From(0.0)], landmark=0.0)
    with pytest.raises(EstimandError, match="before the landmark"):
        bb.survival(synthetic_fit, regimes=[bb.Never()], times=[1.0], landmark=8.0)
    with pytest.raises(EstimandError, match="nobody is at risk"):
        bb.survival(synthetic_fit, regimes=[bb.Never()], landmark=500.0, times=[501.0])
    with pytest.raises(EstimandError, match="twice"):
        bb.survival(synthetic_fit, regimes=[bb.Never(), bb.Never()], landmark=8.0)


def test_constants_have_no_error(synthetic_fit: Fit) -> None:
    curves = bb.survival(synthetic_fit, regimes=[bb.Never()], times=[8.0, 12.0], landmark=8.0)
    table = bb.summarise(curves).set_index(["endpoint", "time"])
    assert table.loc[("os", 8.0), "mean"] == 1.0
    assert table.loc[("os", 8.0), "mcse"] == 0.0
    assert not table.isna().any().any()
