"""Power-scaling and reverse Bayes: against fits under the other prior, and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import arviz as az
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import bayesblina as bb
from bayesblina.checks.priors.scaling import _log_priors, reweighted
from bayesblina.checks.priors.scepticism import _resceptic
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.hazards.build import build_model
from bayesblina.inference.fitting import Fit

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@cache
def long_fit() -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=2)
    return bb.fit(cohort, QUESTION, seed=1, draws=5000, progress=False)


def under(interval: tuple[float, float]) -> Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=2)
    model = bb.load_model("primary").with_priors(phases=bb.HazardRatioPrior(hazard_ratio=interval))
    return bb.fit(cohort, QUESTION, model=model, seed=2, draws=5000, progress=False)


def mcse(values: xr.DataArray) -> float:
    """Monte-Carlo error of a mean, from the draws' autocorrelation."""
    return float(az.mcse(values.to_dataset(name="x"), method="mean")["x"])


def test_reweighted_posteriors_are_those_of_other_priors() -> None:
    """A sceptical prior by weights against a fit under it; tolerances from Monte-Carlo errors."""
    fit, other = long_fit(), under((0.5, 2.0))
    table = bb.sceptical_priors(fit, intervals=[2.0])
    exact = bb.summary(bb.hazard_ratio(other)).set_index("endpoint")
    for row in table.to_dict("records"):
        one = exact.loc[str(row["endpoint"])]
        below = float(one["probability_below_1"])
        error = math.sqrt(row["mcse"] ** 2 + below * (1 - below) / 5000)
        assert abs(row["probability_below_1"] - below) < 4 * error
        assert row["pareto_k"] < 0.7
        assert abs(math.log(row["median"] / float(one["median"]))) < 0.04


def test_scaling_the_phases_prior_is_another_normal_prior() -> None:
    """A normal density to the power alpha has the variance divided by alpha.

    Against weights in closed form, on the same draws, and against a fit under that prior, within
    Monte-Carlo errors. The second alone would hardly tell a scaled prior from one that is not.
    """
    fit = long_fit()
    table = bb.power_scaling(fit, alphas=[2.0])
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
    likelihood = bb.power_scaling(fit, alphas=[0.8, 1.25])
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
    table = bb.power_scaling(fit, gain, alphas=[1.0])
    one = table[(table["endpoint"] == "os") & (table["component"] == "phases")].iloc[0]
    values = gain["survival_difference"].sel(endpoint="os", time=24.0)
    assert one["mean"] == pytest.approx(float(values.mean()), rel=1e-9)
    assert one["probability_below_null"] == pytest.approx(float((values < 0).mean()), abs=1e-9)
    with pytest.raises(SpecError, match="one variable"):
        bb.power_scaling(fit, xr.Dataset())
    with pytest.raises(SpecError, match="greater than 0"):
        bb.power_scaling(fit, alphas=[0.0])
    # A half-informative likelihood and prior in words.
    words = set(bb.power_scaling(fit, alphas=[1.0])["reading"])
    assert words <= {"", "prior-data conflict", "strong prior or weak likelihood"}


def test_the_most_sceptical_prior_is_where_the_conclusion_ends() -> None:
    fit = long_fit()
    found = bb.most_sceptical_prior(fit, endpoint="os", probability=0.95)
    assert found.reliable
    effect = fit.posterior["log_hazard_ratio"].sel(endpoint="os").isel(effect=0)
    values = effect.values.ravel()
    for factor, stands in ((1.05, True), (0.95, False)):
        weights, _ = _resceptic(fit, effect, found.sd * factor)
        assert (weights[values < 0].sum() >= 0.95) == stands
    # The closed form for normal posteriors is near: the posterior is almost normal.
    assert math.log(found.by_normal[1]) == pytest.approx(math.log(found.interval[1]), rel=0.15)
    assert "sure that the hazard ratio lies within" in str(found)
    none = bb.most_sceptical_prior(fit, endpoint="rfs", probability=0.99)
    assert math.isnan(none.sd)
    assert "under no prior" in str(none)
    with pytest.raises(EstimandError, match="No endpoint 'pfs'"):
        bb.most_sceptical_prior(fit, endpoint="pfs")
    with pytest.raises(SpecError, match=r"between 0\.5 and 1"):
        bb.most_sceptical_prior(fit, endpoint="os", probability=0.4)
    with pytest.raises(SpecError, match="greater than 1"):
        bb.sceptical_priors(fit, intervals=[0.9])
    correlated = replace(fit, definition=bb.load_model("correlated"))
    for call in (bb.power_scaling, bb.sceptical_priors):
        with pytest.raises(EstimandError, match="Fit 'primary'"):
            call(correlated)


def by_data(fit: Fit, lower: float, upper: float) -> Fit:
    """Put in place the posterior that data with this 95 % interval give under the fit's prior."""
    prior = fit.definition.phases.prior
    low, high = math.log(lower), math.log(upper)
    precision = (2 * norm.ppf(0.975) / (high - low)) ** 2
    whole = precision + 1 / prior.sd**2
    mean = (precision * (low + high) / 2 + prior.mean / prior.sd**2) / whole
    draws = fit.draws.copy(deep=True)
    effect: xr.DataArray = draws["posterior"].dataset["log_hazard_ratio"]
    sizes = (effect.sizes["chain"], effect.sizes["draw"])
    count = sizes[0] * sizes[1]
    level = norm.ppf((np.arange(count) + 0.5) / count)
    values = np.random.default_rng(1).permutation(mean + level / math.sqrt(whole))
    where = {"endpoint": "os", "effect": str(effect["effect"][0].item())}
    effect.loc[where] = values.reshape(sizes)
    return replace(fit, draws=draws)


def test_the_most_sceptical_prior_of_a_harm() -> None:
    """Matthews' limit of 1.1 to 4 by hand: exp(1.29098^2 / (4 sqrt(1.38629 x 0.09531))), 3.1464."""
    harm = by_data(long_fit(), 1.1, 4.0)
    found = bb.most_sceptical_prior(harm, endpoint="os", probability=0.975)
    assert (found.direction, found.source) == ("higher", "base case")
    assert found.by_normal[1] == pytest.approx(3.1464, rel=0.01)
    assert found.interval[1] == pytest.approx(3.1464, rel=0.05)
    assert str(found).startswith(
        "os: the base case's conclusion, that the hazard is higher (P(HR > 1) at least 0.975), "
        "stands unless a sceptic is sure that the hazard ratio lies within 0.3"
    )
    # A benefit of the same size in the mirror.
    benefit = by_data(long_fit(), 1 / 4.0, 1 / 1.1)
    mirror = bb.most_sceptical_prior(benefit, endpoint="os", probability=0.975)
    assert mirror.direction == "lower"
    assert "that the hazard is lower (P(HR < 1) at least 0.975)" in str(mirror)
    assert mirror.by_normal == pytest.approx(found.by_normal, rel=1e-3)
    assert mirror.interval == pytest.approx(found.interval, rel=0.05)
    # The conclusion may be given: that of a benefit does not stand, under whatever prior.
    given = bb.most_sceptical_prior(harm, endpoint="os", direction="lower")
    assert (given.direction, given.source) == ("lower", "given")
    assert math.isnan(given.sd)
    assert math.isnan(given.by_normal[0])
    assert str(given) == (
        "os: the conclusion, that the hazard is lower (P(HR < 1) at least 0.975), stands under no "
        "prior centred at a hazard ratio of 1."
    )
    with pytest.raises(SpecError, match="direction must be 'lower' or 'higher'"):
        bb.most_sceptical_prior(harm, endpoint="os", direction="harm")  # type: ignore[arg-type]


def test_the_limit_undoes_a_normal_posterior_exactly() -> None:
    """Under it the posterior's 95 % interval has one end at 1: the definition, in closed form."""
    for lower, upper in ((0.5, 0.9), (0.15, 0.4), (1.1, 4.0)):
        limit = bb.scepticism_limit(lower, upper)
        z = norm.ppf(0.975)
        mean = (math.log(lower) + math.log(upper)) / 2
        sd = (math.log(upper) - math.log(lower)) / (2 * z)
        prior = math.log(limit) / z
        precision = 1 / sd**2 + 1 / prior**2
        middle, half = mean / sd**2 / precision, z / math.sqrt(precision)
        ends = sorted([abs(middle - half), abs(middle + half)])
        assert ends[0] == pytest.approx(0.0, abs=1e-12)
    for wrong in ((0.8, 1.2), (0.9, 0.5), (-1.0, 0.5)):
        with pytest.raises(SpecError, match="one side of 1"):
            bb.scepticism_limit(*wrong)


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
    draws = bb.power_scaling_draws(fit)
    assert draws.attrs == {"synthetic": 1, "converged": 1}
    table = bb.power_scaling(fit, alphas=[1.0])
    for component in ("phases", "covariates"):
        found = az.psense(draws, group_var_names=component)["log_hazard_ratio"]
        rows = table[table["component"] == component].set_index("endpoint")["sensitivity"]
        for endpoint in ("os", "rfs"):
            assert float(found.sel(endpoint=endpoint)) == pytest.approx(rows[endpoint], rel=0.02)
    gain = bb.rmst(fit, regimes=[bb.Never()], horizon=24.0, landmark=8.0)
    assert list(bb.power_scaling_draws(fit, gain)["posterior"].data_vars) == list(gain.data_vars)
