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
from bayesblina.estimands.paths import (
    Path,
    average_relative,
    average_survival,
    hazard_at_survival,
    make_path,
    restricted_mean,
)
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
    path = make_path(
        np.array([hazards]), cuts, [(start, np.array([ratio]))], start=landmark, end=20.0
    )
    got = path.cumulative(np.array([time]))[0, 0]

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


@st.composite
def averages(draw: st.DrawFn) -> tuple[Path, np.ndarray, np.ndarray]:
    """A path that may have hazards of 0, and patterns of patients."""
    pieces = draw(st.integers(1, 5))
    widths = draw(st.lists(st.floats(0.1, 5), min_size=pieces, max_size=pieces))
    rates = draw(st.lists(st.just(0.0) | st.floats(1e-4, 2.0), min_size=pieces, max_size=pieces))
    begin = draw(st.floats(0, 10))
    patterns = draw(st.integers(1, 4))
    relative = draw(st.lists(st.floats(0.05, 20.0), min_size=patterns, max_size=patterns))
    weight = np.array(draw(st.lists(st.integers(1, 9), min_size=patterns, max_size=patterns)))
    path = Path(knots=begin + np.concatenate([[0.0], np.cumsum(widths)]), rates=np.array([rates]))
    return path, np.array([relative]), weight / weight.sum()


@settings(max_examples=1000, deadline=None)
@given(case=averages(), share=st.floats(0.05, 1.0))
def test_restricted_mean_equals_quadrature(
    case: tuple[Path, np.ndarray, np.ndarray], share: float
) -> None:
    path, relative, weight = case
    begin, end = path.knots[0], path.knots[-1]
    horizon = begin + share * (end - begin)
    got = restricted_mean(path, relative, weight, horizon=horizon)[0]

    def survives(t: float) -> float:
        return float(average_survival(path.cumulative(np.array([t])), relative, weight)[0, 0])

    edges = [begin, *(k for k in path.knots[1:] if k < horizon), horizon]
    expected = sum(quad(survives, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in pairwise(edges))
    assert got == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=1000, deadline=None)
@given(case=averages(), level=st.floats(0.02, 0.98))
def test_quantile_is_where_survival_first_falls_to_the_level(
    case: tuple[Path, np.ndarray, np.ndarray], level: float
) -> None:
    path, relative, weight = case
    horizon = float(path.knots[-1])

    def survives(t: float) -> float:
        return float(average_survival(path.cumulative(np.array([t])), relative, weight)[0, 0])

    needed = hazard_at_survival(relative, weight, survival=level)
    (time,), (reached,) = path.inverse(needed, horizon=horizon)
    if not reached:
        assert time == horizon
        assert survives(horizon) > level * (1 - 1e-10)
        return
    assert survives(time) == pytest.approx(level, rel=1e-10)
    earlier = path.knots[0] + (time - path.knots[0]) * (1 - 1e-6)
    assert survives(earlier) >= level * (1 - 1e-10)


@settings(max_examples=200, deadline=None)
@given(case=averages(), share=st.floats(0.05, 0.95))
def test_marginal_hazard_is_the_slope_of_the_curve(
    case: tuple[Path, np.ndarray, np.ndarray], share: float
) -> None:
    path, relative, weight = case
    time = path.knots[0] + share * (path.knots[-1] - path.knots[0])
    cumulative = path.cumulative(np.array([time]))
    got = (path.rate(np.array([time])) * average_relative(cumulative, relative, weight))[0, 0]
    alive = np.exp(-cumulative[0, 0] * relative[0])
    expected = path.rate(np.array([time]))[0, 0] * (weight * relative[0] * alive).sum()
    assert got == pytest.approx(expected / (weight * alive).sum(), rel=1e-9)


def test_estimates_agree_with_the_curve(synthetic_fit: Fit) -> None:
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(10.0)]
    times = np.linspace(8.0, 24.0, 16001)
    options = {"regimes": regimes, "landmark": 8.0}
    few = synthetic_fit.draws["posterior"].isel(draw=slice(0, 5))
    assert few.sizes["draw"] == 5
    curve = bb.survival(synthetic_fit, times=[8.0, 24.0], **options)["survival"]  # type: ignore[arg-type]
    mean = bb.rmst(synthetic_fit, horizon=24.0, **options)["rmst"]  # type: ignore[arg-type]
    lost = bb.life_years_lost(synthetic_fit, horizon=24.0, **options)["time_lost"]  # type: ignore[arg-type]
    np.testing.assert_allclose(mean + lost, 16.0)
    assert (mean <= 16.0).all()
    assert (mean >= 16.0 * curve.sel(time=24.0, drop=True)).all()
    assert times.size > 0
    both = bb.contrast(
        bb.rmst(synthetic_fit, horizon=24.0, **options),  # type: ignore[arg-type]
        bb.From(10.0),
        bb.Never(),
    )
    np.testing.assert_array_equal(
        both["rmst_difference"], mean.sel(regime="from 10") - mean.sel(regime="never")
    )
    minus_log = bb.cumulative_hazard(synthetic_fit, times=[8.0, 24.0], **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.exp(-minus_log["cumulative_hazard"]), curve)
