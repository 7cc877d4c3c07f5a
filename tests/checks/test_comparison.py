"""Models compared: what must be the same, and stacking."""

from __future__ import annotations

from dataclasses import replace

import arviz as az
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bayesblina as bb
from bayesblina.checks.comparison import stacking_weights
from bayesblina.core.errors import EstimandError, SpecError
from tests.checks.exponential import (
    SMALL,
    exponential_fit,
    exponential_model,
    family_fit,
    small_cohort,
)


def test_order_of_patients_does_not_matter() -> None:
    fit = exponential_fit()
    one = bb.loo(fit)
    turned = replace(
        one,
        elpd=one.elpd.isel(patient=slice(None, None, -1)),
        pareto_k=one.pareto_k.isel(patient=slice(None, None, -1)),
        follow_up=one.follow_up.iloc[::-1],
    )
    table = bb.compare({"a": one, "b": turned})
    assert table["elpd_difference"].tolist() == [0.0, 0.0]
    assert table["se_difference"].tolist() == [0.0, 0.0]


def test_what_differs_is_refused() -> None:
    one = bb.loo(exponential_fit())
    other = small_cohort(seed=2)
    fit = bb.fit(
        other, SMALL, model=exponential_model(), cuts=[], seed=1, draws=100, progress=False
    )
    with pytest.raises(SpecError, match="different follow-up of"):
        bb.compare({"a": one, "b": fit})
    fewer = small_cohort(size=18)
    fit = bb.fit(
        fewer, SMALL, model=exponential_model(), cuts=[], seed=1, draws=100, progress=False
    )
    with pytest.raises(SpecError, match="2 are in one of them only"):
        bb.compare({"a": one, "b": fit})
    with pytest.raises(SpecError, match="different time units: months and days"):
        bb.compare({"a": one, "b": replace(one, unit="days")})
    with pytest.raises(SpecError, match="ways of leaving patients out"):
        bb.compare({"a": one, "b": replace(one, scheme="folds by site")})
    # Of events found at visits: which mechanism holds, no data can tell.
    found, event = (replace(one, starts_until=until) for until in ("found", "event"))
    with pytest.raises(SpecError, match="until when phases may start"):
        bb.compare({"a": found, "b": event})
    assert len(bb.compare({"a": found, "b": found})) == 2
    with pytest.raises(SpecError, match="different endpoints"):
        bb.compare({"a": one, "b": replace(one, endpoints=("rfs",))})
    with pytest.raises(SpecError, match="at least two"):
        bb.compare({"a": one})
    with pytest.raises(EstimandError, match="No endpoint 'rfs'"):
        bb.loo(exponential_fit(), endpoint="rfs")
    with pytest.raises(SpecError, match="no categorical covariate 'sit'"):
        bb.k_fold(small_cohort(), SMALL, by="sit", seed=1)
    with pytest.raises(SpecError, match="from 2 to the 20 patients"):
        bb.k_fold(small_cohort(), SMALL, folds=1, seed=1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 0), st.floats(-3, 0)), min_size=3, max_size=12))
def test_stacking_of_two_is_the_best_on_a_grid(scores: list[tuple[float, float]]) -> None:
    elpd = np.array(scores)
    weights = stacking_weights(elpd)
    assert weights.sum() == pytest.approx(1.0)
    grid = np.linspace(0, 1, 2001)
    score = np.log(
        grid[:, None] * np.exp(elpd[:, 0]) + (1 - grid)[:, None] * np.exp(elpd[:, 1])
    ).sum(axis=1)
    own = np.log(np.exp(elpd) @ weights).sum()
    assert own >= score.max() - 1e-3


def test_stacking_agrees_with_arviz() -> None:
    fits = {name: family_fit(name) for name in ("gaussian_process", "smooth", "weibull")}
    trees = {}
    for name, fit in fits.items():
        one = bb.loo(fit)
        tree = xr.DataTree.from_dict(
            {
                "/posterior": fit.posterior,
                "/log_likelihood": fit.draws["log_likelihood"].to_dataset(),
            }
        )
        trees[name] = az.loo(tree, var_name="survival", pointwise=True)
        # Its tails are as long as parameters, not likelihoods, are efficient: the smoothed weights
        # of some hundred draws change a patient's density little.
        np.testing.assert_allclose(one.elpd.values, trees[name].elpd_i.values, atol=0.02)
        trees[name].elpd_i.values[:] = one.elpd.values
        trees[name].elpd = float(one.elpd.sum())
    theirs = az.compare(trees, method="stacking")
    ours = bb.compare(fits).set_index("model")
    for name in fits:
        assert ours.loc[name, "weight"] == pytest.approx(
            float(theirs.loc[name, "weight"]), abs=1e-2
        )
        # ArviZ's table is rounded.
        assert ours.loc[name, "se"] == pytest.approx(float(trees[name].se), rel=0.01)
