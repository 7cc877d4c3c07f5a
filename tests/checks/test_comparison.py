"""Models compared: leave-one-out, folds, moment matching, stacking."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

import bayesblina as bb
from bayesblina.checks.comparison import stacking_weights
from bayesblina.checks.prediction import LEAVE_ONE_OUT
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.hazards.build import build_model, with_weights
from bayesblina.hazards.definition import ModelDefinition, RandomWalk
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.inference.sampling import evaluate, unconstrain

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
SMALL = bb.Question(exposed="late", eligible_from="entry")


def small_cohort(seed: int = 1, size: int = 20) -> bb.Cohort:
    generator = np.random.default_rng(seed)
    time = generator.exponential(6.0, size).round(2) + 0.5
    start = np.where(np.arange(size) % 2 == 0, 0.25, np.nan)
    table = pd.DataFrame(
        {
            "id": [f"p{index:02d}" for index in range(size)],
            "time": time,
            "event": (generator.random(size) < 0.7).astype(int),
            "start": start,
            "site": generator.choice(["x", "y", "z"], size),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["site"],
    )


def exponential_model() -> ModelDefinition:
    """One hazard, not far from the crude rate; no effects to speak of: the exponential model."""
    nothing = bb.HazardRatioPrior.from_sd(1e-4)
    some = bb.HazardRatioPrior.from_sd(0.2)
    return bb.load_model("primary").with_priors(phases=nothing, covariates=nothing, level=some)


def exact_predictive(
    cohort: bb.Cohort,
    crude: float,
    *,
    weights: np.ndarray | None = None,
    folds: np.ndarray | None = None,
) -> np.ndarray:
    """Log predictive densities of an exponential model without each fold, by quadrature.

    Times the weights, which also multiply the log-likelihood.
    """
    weight = np.ones(cohort.size) if weights is None else weights
    fold = np.arange(cohort.size) if folds is None else folds
    baseline = exponential_model().baseline
    assert isinstance(baseline, RandomWalk)
    time, event = cohort.endpoints["os"].time, cohort.endpoints["os"].event.astype(float)
    log_rate = np.log(crude) + np.linspace(-4.0, 4.0, 2001)[:, None]
    prior = -0.5 * ((log_rate - np.log(crude) - baseline.level.mean) / baseline.level.sd) ** 2
    each = event * log_rate - time * np.exp(log_rate)
    same = (fold[:, None] == fold).astype(float)
    others = prior + (each * weight).sum(axis=1, keepdims=True) - (each * weight) @ same
    density = logsumexp(others + each, axis=0) - logsumexp(others, axis=0)
    return np.asarray(weight * density)


@cache
def exponential_fit() -> bb.Fit:
    return bb.fit(
        small_cohort(),
        SMALL,
        model=exponential_model(),
        cuts=[],
        seed=1,
        draws=4000,
        progress=False,
    )


def crude_rate() -> float:
    one = small_cohort().endpoints["os"]
    return float((one.event.sum() + 0.5) / one.time.sum())


def test_leave_one_out_is_the_quadratures() -> None:
    expected = exact_predictive(small_cohort(), crude_rate())
    found = bb.loo(exponential_fit())
    assert found.scheme == LEAVE_ONE_OUT
    # 16000 draws of a density that varies little: errors of about 1 / sqrt(16000).
    np.testing.assert_allclose(found.elpd.values, expected, atol=0.02)


def test_folds_of_one_are_the_quadratures() -> None:
    cohort = small_cohort()
    expected = exact_predictive(cohort, crude_rate())
    quick = SamplerSettings(draws=1000, tune=500, chains=2)
    found = bb.k_fold(
        cohort, SMALL, model=exponential_model(), folds=cohort.size, cuts=[], seed=3, settings=quick
    )
    assert found.scheme == LEAVE_ONE_OUT
    np.testing.assert_allclose(found.elpd.values, expected, atol=0.05)
    table = bb.compare({"reweighted": exponential_fit(), "refitted": found})
    assert abs(table["elpd_difference"].iloc[1]) < 0.3


def test_weighted_patients_are_scored_as_often_as_they_weigh() -> None:
    cohort = small_cohort()
    weights = np.where(np.arange(cohort.size) % 3 == 0, 2.5, 0.5)
    one = cohort.endpoints["os"]
    crude = float((weights @ one.event + 0.5) / (weights @ one.time))
    fit = bb.fit(
        cohort,
        SMALL,
        model=exponential_model(),
        cuts=[],
        seed=1,
        weights=weights,
        draws=4000,
        progress=False,
    )
    expected = exact_predictive(cohort, crude, weights=weights)
    found = bb.loo(fit)
    # As without weights, times 2.5.
    np.testing.assert_allclose(found.elpd.values, expected, atol=0.05)
    assert np.abs(expected - exact_predictive(cohort, crude_rate())).max() > 0.5
    np.testing.assert_array_equal(found.follow_up["weight"], weights)
    # Folds take the weights too.
    quick = SamplerSettings(draws=1000, tune=500, chains=2)
    folds = bb.k_fold(
        cohort,
        SMALL,
        model=exponential_model(),
        by="site",
        cuts=[],
        weights=weights,
        seed=3,
        settings=quick,
    )
    site = cohort.covariates["site"].values
    expected = exact_predictive(cohort, crude, weights=weights, folds=site)
    # 2000 draws, less efficient than those: 2.5 / sqrt(1000).
    np.testing.assert_allclose(folds.elpd.values, expected, atol=0.1)


def test_whoever_borrows_predicts_the_current_patients() -> None:
    """What is predicted does not depend on who is borrowed from."""
    cohort = small_cohort(seed=3, size=40)
    external = cohort.covariates["site"].values == 2
    table = pd.DataFrame(
        {
            "id": cohort.patients,
            "time": cohort.endpoints["os"].time,
            "event": cohort.endpoints["os"].event.astype(int),
            "start": cohort.phase_start[:, 0],
            "study": np.where(external, "old", "now"),
        }
    )

    def read(rows: pd.DataFrame, covariates: list[str]) -> bb.Cohort:
        return bb.read_cohort(
            rows,
            patient="id",
            unit="months",
            endpoints={"os": bb.Endpoint(time="time", event="event")},
            phases=bb.Phases(late="start"),
            covariates=covariates,
        )

    given = {"cuts": [], "seed": 1, "draws": 1000, "progress": False}
    model = bb.load_model("power_prior").with_covariates(source="study")
    borrowed = bb.fit(read(table, ["study"]), SMALL, model=model, **given)  # type: ignore[arg-type]
    alone = bb.fit(read(table[~external], []), SMALL, **given)  # type: ignore[arg-type]
    found = bb.loo(borrowed)
    assert found.elpd.sizes["patient"] == int((~external).sum())
    assert (found.follow_up["weight"] == 1.0).all()
    # Both predict the same patients, so that they can be compared.
    assert bb.compare({"borrowed": found, "alone": alone}).attrs["patients"] == (~external).sum()
    assert bb.check(borrowed).loo["patients"].tolist() == [int((~external).sum())]


def test_folds_leave_out_whom_they_should() -> None:
    """A fold's tables are those of the cohort without it."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    person_time = bb.person_time(cohort, QUESTION, cuts=[6.0, 12.0])
    built = build_model(bb.load_model("primary"), person_time)
    kept = np.random.default_rng(1).random(person_time.people.sizes["patient"]) < 0.7
    with_weights(built, person_time, kept.astype(float))
    table = bb.simulate.blinatumomab_table(seed=1)
    ids = set(person_time.people["patient"].values[kept])
    one = bb.read_cohort(
        table[table["patient_id"].isin(ids)],
        patient="patient_id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        transplant="transplant_month",
    )
    rest = bb.person_time(one, QUESTION, cuts=[6.0, 12.0]).table.sum("pattern")
    values = {item.name: item.get_value() for item in built.model.data_vars}
    np.testing.assert_allclose(values["person_time"].sum(axis=-1), rest["person_time"].values)
    np.testing.assert_array_equal(values["events"][:, 0], rest["events"].values)


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


@cache
def family_fit(name: str) -> bb.Fit:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    return bb.fit(cohort, QUESTION, model=name, seed=1, progress=False)


def test_by_endpoint() -> None:
    fits = {name: family_fit(name) for name in ("primary", "weibull")}
    table = bb.compare(fits, endpoint="rfs")
    loo = bb.check(fits["primary"]).loo.set_index("endpoint")
    row = table.set_index("model").loc["primary"]
    assert row["elpd"] == pytest.approx(loo.loc["rfs", "elpd"], rel=1e-9)
    assert table.attrs["endpoints"] == "rfs"
    assert table.attrs["synthetic"] == 1


def test_points_and_draws_are_one() -> None:
    """The sampler's coordinates of the draws give the draws back."""
    for name in ("primary", "smooth", "correlated", "gaussian_process"):
        fit = family_fit(name)
        built = build_model(fit.definition, fit.person_time)
        points = unconstrain(built, fit.posterior)[:50]
        density, variables = evaluate(built, points)
        assert np.isfinite(density).all()
        for variable in map(str, fit.posterior.data_vars):
            np.testing.assert_allclose(
                variables[variable].values[0],
                fit.posterior[variable].values[0, :50],
                rtol=1e-9,
                atol=1e-9,
            )
        stored = fit.draws["sample_stats"].to_dataset()["logp"].values[0, :50]
        np.testing.assert_allclose(density - density[0], stored - stored[0], atol=1e-6)


@cache
def hard_fit() -> bb.Fit:
    """One patient alone has a level of a covariate, and outlives everybody: Pareto k is high."""
    cohort = small_cohort()
    time = np.array(cohort.endpoints["os"].time)
    event = np.array(cohort.endpoints["os"].event)
    table = pd.DataFrame(
        {
            "id": cohort.patients,
            "time": time,
            "event": event.astype(int),
            "start": cohort.phase_start[:, 0],
            "site": ["alone"] + ["x"] * 19,
        }
    )
    table.loc[0, ["time", "event"]] = [60.0, 1]
    lone = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["site"],
    )
    flat = bb.HazardRatioPrior.from_sd(1.5)
    model = bb.load_model("primary").with_priors(covariates=flat)
    return bb.fit(lone, SMALL, model=model, cuts=[], seed=2, draws=4000, progress=False)


def test_bad_patients_are_refitted_or_matched() -> None:
    fit = hard_fit()
    plain = bb.loo(fit)
    assert not plain.reliable
    refitted = bb.loo(fit, refit=True)
    assert refitted.reliable
    matched = bb.loo(fit, moment_match=True)
    bad = plain.pareto_k.values > plain.limit
    assert float(matched.pareto_k.values[bad].max()) < float(plain.pareto_k.values[bad].max())
    np.testing.assert_array_equal(refitted.elpd.values[~bad], plain.elpd.values[~bad])
    # Both ways agree, within what importance sampling and 16000 draws allow.
    gap = np.abs(matched.elpd.values[bad] - refitted.elpd.values[bad])
    assert gap.max() < 0.3
    assert math.isfinite(float(refitted.elpd.sum()))


def test_folds_by_site_integrate_over_new_sites() -> None:
    """A site without data has effects drawn from the distribution of sites."""
    cohort = small_cohort(seed=4, size=40)
    model = bb.load_model("frailty").with_covariates(group="site")
    quick = SamplerSettings(draws=500, tune=500, chains=2)
    found = bb.k_fold(cohort, SMALL, model=model, by="site", seed=1, cuts=[3.0], settings=quick)
    assert found.scheme == "folds by site"
    assert np.isfinite(found.elpd.values).all()
    assert found.elpd.sizes["patient"] == 40
