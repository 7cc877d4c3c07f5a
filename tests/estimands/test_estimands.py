"""Hazard ratios and curves against hand computations, quadrature and brute force."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.estimands.paths import (
    average_relative,
    average_survival,
    hazard_at_survival,
    make_path,
    restricted_mean,
)
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.fitting import Fit


def test_hazard_ratio_is_the_exponential(synthetic_fit: Fit) -> None:
    ratio = bb.hazard_ratio(synthetic_fit)["hazard_ratio"]
    log_ratio = synthetic_fit.posterior["log_hazard_ratio"].sel(effect="maintenance")
    # Exponentials may differ by roundings between arrays that lie differently in memory.
    np.testing.assert_allclose(ratio.values, np.exp(log_ratio.values), rtol=1e-14)
    table = bb.summary(bb.hazard_ratio(synthetic_fit), thresholds=(1.0, 0.8))
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
        "companion_median",
        "companion_lower",
        "companion_upper",
        "companion_probability_below_1",
        "baseline",
        "baseline_shift",
        "event_times",
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
    people, posterior = synthetic_fit.person_time.people, synthetic_fit.posterior
    cuts = synthetic_fit.person_time.cuts
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
    by_state = np.outer(hazards, [1.0, ratio])[None]
    path = make_path(by_state, cuts, [(start, 1)], first=0, start=landmark, end=20.0)
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
    table = bb.summary(curves).set_index(["endpoint", "time"])
    assert table.loc[("os", 8.0), "mean"] == 1.0
    assert table.loc[("os", 8.0), "mcse"] == 0.0
    assert not table.isna().any().any()


Case = tuple[PiecewiseHazard, float, np.ndarray, np.ndarray]


@st.composite
def averages(draw: st.DrawFn) -> Case:
    """A path that may have hazards of 0, where to end, and patterns of patients."""
    pieces = draw(st.integers(1, 5))
    widths = draw(st.lists(st.floats(0.1, 5), min_size=pieces, max_size=pieces))
    rates = draw(st.lists(st.just(0.0) | st.floats(1e-4, 2.0), min_size=pieces, max_size=pieces))
    begin = draw(st.floats(0, 10))
    patterns = draw(st.integers(1, 4))
    relative = draw(st.lists(st.floats(0.05, 20.0), min_size=patterns, max_size=patterns))
    weight = np.array(draw(st.lists(st.integers(1, 9), min_size=patterns, max_size=patterns)))
    *starts, end = begin + np.concatenate([[0.0], np.cumsum(widths)])
    path = PiecewiseHazard(starts=np.array(starts), rates=np.array([rates]))
    return path, float(end), np.array([relative]), weight / weight.sum()


@settings(max_examples=1000, deadline=None)
@given(case=averages(), share=st.floats(0.05, 1.0))
def test_restricted_mean_equals_quadrature(case: Case, share: float) -> None:
    path, end, relative, weight = case
    begin = path.starts[0]
    horizon = begin + share * (end - begin)
    got = restricted_mean(path, relative, weight, horizon=horizon)[0]

    def survives(t: float) -> float:
        return float(average_survival(path.cumulative(np.array([t])), relative, weight)[0, 0])

    edges = [begin, *(k for k in path.starts[1:] if k < horizon), horizon]
    expected = sum(quad(survives, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in pairwise(edges))
    assert got == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=1000, deadline=None)
@given(case=averages(), level=st.floats(0.02, 0.98))
def test_quantile_is_where_survival_first_falls_to_the_level(case: Case, level: float) -> None:
    path, horizon, relative, weight = case

    def survives(t: float) -> float:
        return float(average_survival(path.cumulative(np.array([t])), relative, weight)[0, 0])

    needed = hazard_at_survival(relative, weight, survival=level)
    (time,) = path.inverse(needed)
    if time > horizon:
        assert survives(horizon) > level * (1 - 1e-10)
        return
    assert survives(time) == pytest.approx(level, rel=1e-10)
    earlier = path.starts[0] + (time - path.starts[0]) * (1 - 1e-6)
    assert survives(earlier) >= level * (1 - 1e-10)


@settings(max_examples=200, deadline=None)
@given(case=averages(), share=st.floats(0.05, 0.95))
def test_marginal_hazard_is_the_slope_of_the_curve(case: Case, share: float) -> None:
    path, end, relative, weight = case
    time = path.starts[0] + share * (end - path.starts[0])
    cumulative = path.cumulative(np.array([time]))
    got = (path.rate(np.array([time])) * average_relative(cumulative, relative, weight))[0, 0]
    alive = np.exp(-cumulative[0, 0] * relative[0])
    expected = path.rate(np.array([time]))[0, 0] * (weight * relative[0] * alive).sum()
    assert got == pytest.approx(expected / (weight * alive).sum(), rel=1e-9)


def test_estimates_agree_with_the_curve(synthetic_fit: Fit) -> None:
    never, later = bb.Never(), bb.From(10.0)
    regimes: list[Regime] = [never, later]
    curve = bb.survival(synthetic_fit, regimes=regimes, landmark=8.0, times=[8.0, 16.0, 24.0])
    alive = curve["survival"]
    said = {
        "unit": "months",
        "landmark": 8.0,
        "population": "eligible patients at risk at the landmark",
        "kind": "marginal: averaged over the covariates of the population",
    }
    assert {name: curve.attrs[name] for name in said} == said
    kept = bb.rmst(synthetic_fit, regimes=regimes, landmark=8.0, horizon=24.0)
    lost = bb.restricted_mean_time_lost(synthetic_fit, regimes=regimes, landmark=8.0, horizon=24.0)
    np.testing.assert_allclose(kept["rmst"] + lost["restricted_mean_time_lost"], 16.0)
    # The curve falls: the mean lies between the sums of rectangles below and above it.
    below, above = (8 * (alive.sel(time=a) + alive.sel(time=b)) for a, b in ((16, 24), (8, 16)))
    assert bool(((kept["rmst"] >= below) & (kept["rmst"] <= above)).all())
    gain = bb.contrast(kept, later, never)["rmst_difference"]
    expected = kept["rmst"].sel(regime="from 10") - kept["rmst"].sel(regime="never")
    np.testing.assert_array_equal(gain, expected)
    ratio = bb.contrast(curve, later, never, kind="ratio")["survival_ratio"]
    np.testing.assert_allclose(
        ratio, alive.sel(regime="from 10", drop=True) / alive.sel(regime="never", drop=True)
    )
    minus_log = bb.cumulative_hazard(
        synthetic_fit, regimes=regimes, landmark=8.0, times=[8.0, 16.0, 24.0]
    )
    np.testing.assert_allclose(np.exp(-minus_log["cumulative_hazard"]), alive)


def test_the_marginal_hazard_is_the_curves_slope(synthetic_fit: Fit) -> None:
    step, regimes = 1e-5, [bb.From(10.0)]
    for time in (9.0, 12.3, 20.1):
        around = bb.survival(
            synthetic_fit, regimes=regimes, landmark=8.0, times=[time - step, time, time + step]
        )["survival"]
        slope = (around.isel(time=0) - around.isel(time=2)) / (2 * step) / around.isel(time=1)
        rate = bb.hazard(synthetic_fit, regimes=regimes, landmark=8.0, times=[time])
        np.testing.assert_allclose(rate["hazard"].isel(time=0), slope, rtol=1e-5)


def test_the_median_is_where_the_curve_is_one_half(synthetic_fit: Fit) -> None:
    regimes: list[Regime] = [bb.Never(), bb.From(10.0)]
    found = bb.survival_quantile(synthetic_fit, regimes=regimes, landmark=8.0)
    reached = found["reached"].values
    assert 0 < reached.mean() < 1
    assert np.isposinf(found["quantile"].values[~reached]).all()
    assert (found["quantile"].values[reached] <= found.attrs["horizon"]).all()
    for index in np.argwhere(reached)[::997]:
        chain, draw, endpoint, regime = (int(number) for number in index)
        time = float(found["quantile"].values[tuple(index)])
        curve = bb.survival(synthetic_fit, regimes=regimes, landmark=8.0, times=[time])
        assert float(curve["survival"][chain, draw, endpoint, regime, 0]) == pytest.approx(0.5)
    table = bb.summary(found)
    assert table.attrs["horizon"] == found.attrs["horizon"]
    assert (table["mcse"].isna() == np.isinf(table["median"])).all()
    one = found.sel(endpoint="os", regime="never")
    row = table[(table["endpoint"] == "os") & (table["regime"] == "never")].iloc[0]
    share = float(one["reached"].mean())
    assert row["probability_reached"] == pytest.approx(share)
    for column, part in (("lower", 0.025), ("median", 0.5), ("upper", 0.975)):
        # Infinite draws sort last: the share of those beyond is what counts.
        assert np.isinf(row[column]) == (share <= part)
    assert row["median"] == pytest.approx(np.median(one["quantile"].values))
    # Nowhere does the horizon stand for a time that was not reached.
    assert not (table[["lower", "median", "upper"]] == found.attrs["horizon"]).any(axis=None)
    words = bb.tables.estimates(table, kind="time")
    cells = [row[2] for row in words.rows]
    assert any("not reached" in cell for cell in cells)
    assert any(note.startswith("Not reached: by ") for note in words.notes)
    with pytest.raises(SpecError, match="do not reach"):
        bb.plots.forest(table, logarithmic=False)
    with pytest.raises(EstimandError, match="do not reach the quantile"):
        bb.contrast(found, bb.From(10.0), bb.Never())


def test_each_phase_has_its_effect() -> None:
    """Two phases in turn, against the hazard put together by hand."""
    table = bb.simulate.blinatumomab_table(3)
    cohort = bb.read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="os_months", event="died")},
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        transplant="transplant_month",
    )
    question = bb.Question(
        exposed="maintenance", reference="consolidation", eligible_from="entry", transplant="phase"
    )
    fit = bb.fit(cohort, question, seed=1, draws=100, tune=200, chains=2, progress=False)
    regimes: list[Regime] = [bb.Never(), bb.WithPhases({"maintenance": 8.0, "transplant": 10.0})]
    rate = bb.hazard(fit, regimes=regimes, landmark=7.0, times=[7.5, 9.0, 11.0])["hazard"]
    never, phases = (rate.sel(regime=one.label, endpoint="os") for one in regimes)
    effect = fit.posterior["log_hazard_ratio"].sel(endpoint="os")
    np.testing.assert_allclose(phases.sel(time=7.5), never.sel(time=7.5))
    for time, phase in ((9.0, "maintenance"), (11.0, "transplant")):
        expected = never.sel(time=time).values * np.exp(effect.sel(effect=phase).values)
        np.testing.assert_allclose(phases.sel(time=time), expected)


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


def test_impossible_estimates(synthetic_fit: Fit) -> None:
    for wrong, message in (
        (
            {"maintenence": 9.0},
            r"no eligible patient is ever in 'maintenence'\. Nearest: maintenance",
        ),
        ({"maintenance": 8.0, "consolidation": 9.0}, "the phases' order is"),
    ):
        with pytest.raises(EstimandError, match=message):
            bb.survival(synthetic_fit, regimes=[bb.WithPhases(wrong)], landmark=8.0)
    with pytest.raises(EstimandError, match="horizon must lie after the landmark 8"):
        bb.rmst(synthetic_fit, horizon=8.0, landmark=8.0)
    with pytest.raises(EstimandError, match="within follow-up"):
        bb.rmst(synthetic_fit, horizon=600.0, landmark=8.0)
    with pytest.raises(EstimandError, match="survival must lie between 0 and 1"):
        bb.survival_quantile(synthetic_fit, survival=1.0, landmark=8.0)
    with pytest.raises(EstimandError, match="no regime 'from 9'; it has never"):
        bb.contrast(bb.rmst(synthetic_fit, horizon=20.0, landmark=8.0), bb.From(9.0), bb.Never())
    with pytest.raises(EstimandError, match=r"regimes must be a list, such as \[Never"):
        bb.survival(synthetic_fit, regimes=bb.Never(), landmark=8.0)  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="times must be numbers, got 'soon'"):
        bb.survival(synthetic_fit, times="soon", landmark=8.0)
    with pytest.raises(EstimandError, match="kind must be"):
        bb.contrast(
            bb.rmst(synthetic_fit, horizon=20.0, landmark=8.0),
            bb.Never(),
            bb.Never(),
            kind="odds",  # type: ignore[arg-type]
        )
