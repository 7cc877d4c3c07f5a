"""Reverse Bayes against fits under the other prior, and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import bayesblina as bb
from bayesblina.checks.priors.scepticism import _resceptic
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.inference.fitting import Fit
from tests.checks.priors.fits import long_fit, under


def test_reweighted_posteriors_are_those_of_other_priors() -> None:
    """A sceptical prior by weights against a fit under it; tolerances from Monte-Carlo errors."""
    fit, other = long_fit(), under((0.5, 2.0))
    table = bb.priors.sceptical_priors(fit, intervals=[2.0])
    exact = bb.summary(bb.hazard_ratio(other)).set_index("endpoint")
    for row in table.to_dict("records"):
        one = exact.loc[str(row["endpoint"])]
        below = float(one["probability_below_1"])
        error = math.sqrt(row["mcse"] ** 2 + below * (1 - below) / 5000)
        assert abs(row["probability_below_1"] - below) < 4 * error
        assert row["pareto_k"] < 0.7
        assert abs(math.log(row["median"] / float(one["median"]))) < 0.04


def test_the_most_sceptical_prior_is_where_the_conclusion_ends() -> None:
    fit = long_fit()
    found = bb.priors.most_sceptical_prior(fit, endpoint="os", probability=0.95)
    assert found.reliable
    effect = fit.posterior["log_hazard_ratio"].sel(endpoint="os").isel(effect=0)
    values = effect.values.ravel()
    for factor, stands in ((1.05, True), (0.95, False)):
        weights, _ = _resceptic(fit, effect, found.sd * factor)
        assert (weights[values < 0].sum() >= 0.95) == stands
    # The closed form for normal posteriors is near: the posterior is almost normal.
    assert math.log(found.by_normal[1]) == pytest.approx(math.log(found.interval[1]), rel=0.15)
    assert "sure that the hazard ratio lies within" in str(found)
    none = bb.priors.most_sceptical_prior(fit, endpoint="rfs", probability=0.99)
    assert math.isnan(none.sd)
    assert "under no prior" in str(none)
    with pytest.raises(EstimandError, match="No endpoint 'pfs'"):
        bb.priors.most_sceptical_prior(fit, endpoint="pfs")
    with pytest.raises(SpecError, match=r"between 0\.5 and 1"):
        bb.priors.most_sceptical_prior(fit, endpoint="os", probability=0.4)
    with pytest.raises(SpecError, match="greater than 1"):
        bb.priors.sceptical_priors(fit, intervals=[0.9])
    correlated = replace(fit, definition=bb.load_model("correlated"))
    for call in (bb.priors.power_scaling, bb.priors.sceptical_priors):
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
    found = bb.priors.most_sceptical_prior(harm, endpoint="os", probability=0.975)
    assert (found.direction, found.source) == ("higher", "base case")
    assert found.by_normal[1] == pytest.approx(3.1464, rel=0.01)
    assert found.interval[1] == pytest.approx(3.1464, rel=0.05)
    assert str(found).startswith(
        "os: the base case's conclusion, that the hazard is higher (P(HR > 1) at least 0.975), "
        "stands unless a sceptic is sure that the hazard ratio lies within 0.3"
    )
    # A benefit of the same size in the mirror.
    benefit = by_data(long_fit(), 1 / 4.0, 1 / 1.1)
    mirror = bb.priors.most_sceptical_prior(benefit, endpoint="os", probability=0.975)
    assert mirror.direction == "lower"
    assert "that the hazard is lower (P(HR < 1) at least 0.975)" in str(mirror)
    assert mirror.by_normal == pytest.approx(found.by_normal, rel=1e-3)
    assert mirror.interval == pytest.approx(found.interval, rel=0.05)
    # The conclusion may be given: that of a benefit does not stand, under whatever prior.
    given = bb.priors.most_sceptical_prior(harm, endpoint="os", direction="lower")
    assert (given.direction, given.source) == ("lower", "given")
    assert math.isnan(given.sd)
    assert math.isnan(given.by_normal[0])
    assert str(given) == (
        "os: the conclusion, that the hazard is lower (P(HR < 1) at least 0.975), stands under no "
        "prior centred at a hazard ratio of 1."
    )
    with pytest.raises(SpecError, match="direction must be 'lower' or 'higher'"):
        bb.priors.most_sceptical_prior(harm, endpoint="os", direction="harm")  # type: ignore[arg-type]


def test_the_limit_undoes_a_normal_posterior_exactly() -> None:
    """Under it the posterior's 95 % interval has one end at 1: the definition, in closed form."""
    for lower, upper in ((0.5, 0.9), (0.15, 0.4), (1.1, 4.0)):
        limit = bb.priors.scepticism_limit(lower, upper)
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
            bb.priors.scepticism_limit(*wrong)
