"""Curves, means and medians against loops over patients and closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.estimands.paths import (
    make_path,
)
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.fitting import Fit


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


def test_survival_equals_the_gamma_conjugate_posteriors() -> None:
    """One categorical covariate, no walk, flat priors: each cell's hazard is Gamma(D, E).

    Only patients of arm a are ever exposed, so the cells (a, not exposed), (b, not exposed) and
    (a, exposed) have a free log hazard each, and a flat prior on it is the gamma prior of shape
    and rate 0. Then E[exp(-hazard t)] = (E / (E + t))^D.
    """
    generator = np.random.default_rng(4)
    size = 120
    arm = np.where(np.arange(size) < 70, "a", "b")
    time = generator.exponential(np.where(arm == "a", 20.0, 9.0))
    start = np.where((arm == "a") & (generator.random(size) < 0.6), 3.0, np.nan)
    table = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(size)],
            "time": np.minimum(time, 30.0),
            "event": (time < 30.0).astype(int),
            "start": np.where(start < np.minimum(time, 30.0), start, np.nan),
            "arm": arm,
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
    )
    flat = bb.HazardRatioPrior.from_sd(50.0)
    model = bb.load_model("primary").with_priors(phases=flat, covariates=flat, level=flat)
    question = bb.Question(exposed="late", eligible_from="entry")
    fit = bb.fit(cohort, question, model=model, cuts=[], seed=1, progress=False)
    times = [2.0, 10.0, 25.0]
    got = bb.survival(fit, regimes=[bb.Never()], times=times, landmark=0.0, by="arm")
    summary = bb.summary(got)
    # 70 of the 120 patients are in arm a.
    whole = bb.survival(fit, regimes=[bb.Never()], times=times, landmark=0.0)["survival"]
    parts = got["survival"]
    mixed = (70 * parts.sel(subgroup="a") + 50 * parts.sel(subgroup="b")) / 120
    np.testing.assert_allclose(whole.values, mixed.values, rtol=1e-12)
    exposed = table["start"].notna()
    for name in ("a", "b"):
        rows = table["arm"] == name
        # Time and events outside the late phase.
        spent = np.where(exposed, table["start"], table["time"])[rows].sum()
        deaths = int((table["event"] * ~exposed)[rows].sum())
        for at in times:
            exact = (spent / (spent + at)) ** deaths
            row = summary[(summary["subgroup"] == name) & (summary["time"] == at)].iloc[0]
            assert abs(row["mean"] - exact) < 4 * row["mcse"]
            second = (spent / (spent + 2 * at)) ** deaths
            assert row["sd"] == pytest.approx(np.sqrt(second - exact**2), rel=0.08)
