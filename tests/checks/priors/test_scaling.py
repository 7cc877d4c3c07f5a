"""Power-scaling against fits under the other prior, and closed forms."""

from __future__ import annotations

import math

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import bayesblina as bb
from bayesblina.checks.priors.scaling import _log_priors, reweighted
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import build_model
from tests.checks.priors.fits import long_fit, under


def mcse(values: xr.DataArray) -> float:
    """Monte-Carlo error of a mean, from the draws' autocorrelation."""
    return float(az.mcse(values.to_dataset(name="x"), method="mean")["x"])


def test_scaling_the_phases_prior_is_another_normal_prior() -> None:
    """A normal density to the power alpha has the variance divided by alpha.

    Against weights in closed form, on the same draws, and against a fit under that prior, within
    Monte-Carlo errors. The second alone would hardly tell a scaled prior from one that is not.
    """
    fit = long_fit()
    table = bb.priors.power_scaling(fit, alphas=[2.0])
    table = table[table["component"] == "phases"].set_index("endpoint")
    sd = 0.8211567
    end = math.exp(1.959964 * sd / math.sqrt(2.0))
    other = under((1 / end, end))
    for endpoint in ("os", "rfs"):
        row = table.loc[endpoint]
        # The prior of both endpoints' effects is scaled.
        both = fit.posterior["log_hazard_ratio"].isel(effect=0)
        raw: xr.DataArray = xr.apply_ufunc(np.exp, -(both**2).sum("endpoint") / (2.0 * sd**2))
        weight: xr.DataArray = raw / raw.mean()
        here, there = (
            each.posterior["log_hazard_ratio"].sel(endpoint=endpoint).isel(effect=0)
            for each in (fit, other)
        )
        # Smoothing moves the largest weights only, and none below or above all of them: at most
        # 3 sqrt(n / efficiency) of them, for an efficiency down to 0.3.
        least = np.sort(weight.values.ravel())[-round(3.0 * math.sqrt(20_000 / 0.3))]
        most = float(weight.max())
        moved = np.maximum(most - weight, weight - least).where(weight >= least, 0.0)
        quantities: list[tuple[str, xr.DataArray, xr.DataArray]] = [
            ("probability_below_null", 1.0 * (here < 0), 1.0 * (there < 0)),
            ("mean", xr.apply_ufunc(np.exp, here), xr.apply_ufunc(np.exp, there)),
        ]
        for name, scaled, fitted in quantities:
            closed = float((weight * scaled).mean())
            limit = float((moved * abs(scaled - closed)).mean()) / (1.0 - float(moved.mean()))
            assert row[name] == pytest.approx(closed, abs=limit)
            assert abs(float(scaled.mean()) - closed) > 2.0 * limit
            error = math.hypot(mcse(weight * (scaled - closed)), mcse(fitted))
            assert row[name] == pytest.approx(float(fitted.mean()), abs=4.0 * error)
    # More of the likelihood narrows the interval, less widens it.
    likelihood = bb.priors.power_scaling(fit, alphas=[0.8, 1.25])
    one = likelihood[(likelihood["component"] == "likelihood") & (likelihood["endpoint"] == "os")]
    width = (one["upper"] / one["lower"]).to_numpy()
    assert width[0] > width[1]
    # Scaling does not tell a baseline that moves the hazard ratio: it has no row.
    assert {"phases", "covariates", "likelihood"} == set(likelihood["component"])


def test_log_priors_are_those_of_the_model() -> None:
    """All parts together are PyMC's density of the effects, but for a constant."""
    fit = long_fit()
    parts = sum(one.values.ravel()[:6] for one in _log_priors(fit).values())
    built = build_model(fit.definition, fit.person_time)
    model = built.model
    names = ["log_hazard_ratio", "coefficient"]
    values = [model.rvs_to_values[model[name]] for name in names]
    logps = model.compile_fn(
        [one.sum() for one in model.logp(vars=[model[n] for n in names], sum=False)],
        inputs=values,
        mode="FAST_COMPILE",
        point_fn=False,
    )
    posterior = fit.posterior
    expected = []
    for draw in range(6):
        one = posterior.isel(chain=0, draw=draw)
        expected.append(sum(float(part) for part in logps(*(one[name].values for name in names))))
    difference = np.asarray(parts) - np.array(expected)
    np.testing.assert_allclose(difference, difference[0], atol=1e-8)


def test_other_estimates_are_scaled_too() -> None:
    fit = long_fit()
    curves = bb.survival(fit, regimes=[bb.Never(), bb.From(8.0)], times=[24.0], landmark=8.0)
    gain = bb.contrast(curves, bb.From(8.0), bb.Never())
    table = bb.priors.power_scaling(fit, gain, alphas=[1.0])
    one = table[(table["endpoint"] == "os") & (table["component"] == "phases")].iloc[0]
    values = gain["survival_difference"].sel(endpoint="os", time=24.0)
    assert one["mean"] == pytest.approx(float(values.mean()), rel=1e-9)
    assert one["probability_below_null"] == pytest.approx(float((values < 0).mean()), abs=1e-9)
    with pytest.raises(SpecError, match="one variable"):
        bb.priors.power_scaling(fit, xr.Dataset())
    with pytest.raises(SpecError, match="greater than 0"):
        bb.priors.power_scaling(fit, alphas=[0.0])
    # A half-informative likelihood and prior in words.
    words = set(bb.priors.power_scaling(fit, alphas=[1.0])["reading"])
    assert words <= {"", "prior-data conflict", "strong prior or weak likelihood"}


def test_smoothed_weights() -> None:
    flat = xr.DataArray(np.zeros((2, 50)), dims=("chain", "draw"))
    weights, pareto_k = reweighted(flat)
    np.testing.assert_allclose(weights, 0.01)
    assert pareto_k == 0.0
    one = flat.copy(data=np.where(np.arange(100).reshape(2, 50) == 7, 100.0, 0.0))
    assert reweighted(one)[1] == math.inf
    # Importance weights from a wide to a narrow normal: the mean of squares is the narrow one's.
    values = np.random.default_rng(1).normal(0, 1.0, (4, 2000))
    log_weights = norm.logpdf(values, 0, 0.7) - norm.logpdf(values, 0, 1.0)
    weights, _ = reweighted(xr.DataArray(log_weights, dims=("chain", "draw")))
    assert float((weights * values.ravel() ** 2).sum()) == pytest.approx(0.49, abs=0.02)


def test_draws_for_arviz_give_the_index_of_the_table() -> None:
    fit = long_fit()
    draws = bb.priors.power_scaling_draws(fit)
    assert draws.attrs == {"synthetic": 1, "converged": 1}
    table = bb.priors.power_scaling(fit, alphas=[1.0])
    for component in ("phases", "covariates"):
        found = az.psense(draws, group_var_names=component)["log_hazard_ratio"]
        rows = table[table["component"] == component].set_index("endpoint")["sensitivity"]
        for endpoint in ("os", "rfs"):
            assert float(found.sel(endpoint=endpoint)) == pytest.approx(rows[endpoint], rel=0.02)
    gain = bb.rmst(fit, regimes=[bb.Never()], horizon=24.0, landmark=8.0)
    assert list(bb.priors.power_scaling_draws(fit, gain)["posterior"].data_vars) == list(
        gain.data_vars
    )
