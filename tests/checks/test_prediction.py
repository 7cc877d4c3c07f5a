"""Leave-one-out prediction against quadrature, refits and matched moments."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.prediction import LEAVE_ONE_OUT
from bayesblina.hazards.build import build_model
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.sampling import evaluate, unconstrain
from tests.checks.exponential import (
    SMALL,
    crude_rate,
    exact_predictive,
    exponential_fit,
    exponential_model,
    family_fit,
    small_cohort,
)


def test_leave_one_out_is_the_quadratures() -> None:
    expected = exact_predictive(small_cohort(), crude_rate())
    found = bb.loo(exponential_fit())
    assert found.scheme == LEAVE_ONE_OUT
    # 16000 draws of a density that varies little: errors of about 1 / sqrt(16000).
    np.testing.assert_allclose(found.elpd.values, expected, atol=0.02)


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
