"""Folds against quadrature, and who is left out."""

from __future__ import annotations

import numpy as np

import bayesblina as bb
from bayesblina.checks.prediction import LEAVE_ONE_OUT
from bayesblina.hazards.build import build_model, with_weights
from bayesblina.inference.convergence import SamplerSettings
from tests.checks.exponential import (
    QUESTION,
    SMALL,
    crude_rate,
    exact_predictive,
    exponential_fit,
    exponential_model,
    small_cohort,
)


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


def test_folds_by_site_integrate_over_new_sites() -> None:
    """A site without data has effects drawn from the distribution of sites."""
    # With a covariate the structure is one that other tests have compiled.
    cohort = small_cohort(seed=4, size=40, covariates=["site", "arm"])
    model = bb.load_model("frailty").with_covariates(group="site")
    quick = SamplerSettings(draws=500, tune=500, chains=2)
    found = bb.k_fold(cohort, SMALL, model=model, by="site", seed=1, cuts=[3.0], settings=quick)
    assert found.scheme == "folds by site"
    assert np.isfinite(found.elpd.values).all()
    assert found.elpd.sizes["patient"] == 40
