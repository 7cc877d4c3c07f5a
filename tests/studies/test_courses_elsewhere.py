"""Interrupted courses where patients are drawn, left out, weighed or external."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.hazards.build import build_model, with_weights
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.patients.subsets import take_patients
from bayesblina.studies.simulate import interrupted_cohort

QUICK = SamplerSettings(draws=150, tune=200, chains=1)
CURRENT = bb.Question(exposed="treatment", eligible_from="entry", measure="current")
WANING = bb.Question(exposed="treatment", eligible_from="entry", measure="since_end", steps=(1.0,))


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    return interrupted_cohort(1).cohort


@pytest.mark.parametrize("question", [CURRENT, WANING])
def test_who_is_left_out_takes_the_stays_along(cohort: bb.Cohort, question: bb.Question) -> None:
    """Bootstrap and folds multiply patients by weights: tables are those of the others alone."""
    model = bb.load_model("since_entry" if question.stepped else "primary")
    person_time = bb.person_time(cohort, question, cuts=[6.0, 12.0])
    built = build_model(model, person_time)
    kept = np.random.default_rng(1).random(cohort.size) < 0.7
    with_weights(built, person_time, kept.astype(float))
    rest = bb.person_time(take_patients(cohort, kept), question, cuts=[6.0, 12.0]).table
    values = {item.name: item.get_value() for item in built.model.data_vars}
    for name in ("events", "person_time"):
        expected = rest[name].sum("pattern").values
        found = values[name].reshape(*expected.shape, -1).sum(axis=-1)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_bootstrap_and_folds(cohort: bb.Cohort) -> None:
    fit = bb.fit(cohort, WANING, model="since_entry", seed=1, progress=False)
    drawn = bb.bayesian_bootstrap(fit, seed=1, replicates=4, settings=QUICK)["log_hazard_ratio"]
    assert drawn.sizes["replicate"] == 4
    own = np.log(bb.hazard_ratio(fit)["hazard_ratio"].sel(endpoint="os"))
    # Four replicates' mean lies within the spread of one.
    assert abs(float(drawn.sel(endpoint="os").mean("replicate").max()) - float(own.mean())) < 1.0
    assert (drawn.std("replicate") > 0.01).all()
    folds = bb.k_fold(cohort, WANING, model="since_entry", seed=1, folds=2, settings=QUICK)
    assert folds.elpd.size == cohort.size
    alone = bb.loo(fit)
    # Half of the patients predict somewhat less well than all others.
    assert -25.0 < float(folds.elpd.sum()) - float(alone.elpd.sum()) < 3.0


@pytest.mark.parametrize("measure", ["current", "ever"])
def test_weights(cohort: bb.Cohort, measure: str) -> None:
    asked = bb.Question(exposed="treatment", eligible_from="entry", measure=measure)  # type: ignore[arg-type]
    weighted = bb.starting_weights(cohort, asked, endpoint="os")
    pieces = bb.person_time(weighted.cohort, weighted.question, cuts=[]).table
    table = bb.person_time(cohort, asked, cuts=[]).table
    assert float(pieces["person_time"].sum()) == pytest.approx(float(table["person_time"].sum()))
    assert float(pieces["events"].sum()) == float(table["events"].sum())
    fit = bb.fit(
        weighted.cohort,
        weighted.question,
        weights=weighted.weights,
        seed=1,
        draws=150,
        tune=200,
        chains=1,
        progress=False,
    )
    by_draw = bb.hazard_ratio(fit)["hazard_ratio"].sel(endpoint="os")
    effect = bb.weighting.weighted_effect(weighted, seed=1, draws=20)
    # The same weights, once with a model of the hazard and once without.
    log_sd = float(np.log(by_draw).std())
    ratio = float(effect.hazard_ratio["hazard_ratio"].median())
    assert abs(float(np.log(by_draw).mean()) - np.log(ratio)) < 2 * log_sd


def test_external_patients(cohort: bb.Cohort) -> None:
    model = bb.load_model("power_prior").with_covariates(source="frail")
    fit = bb.fit(cohort, CURRENT, model=model, seed=1, progress=False)
    table = bb.borrowing(fit)
    own = cohort.covariates["frail"]
    external = own.values == 1
    events = cohort.endpoints["os"].event
    row = table[(table["part"] == "phases") & (table["name"] == "treatment")].iloc[0]
    assert row["source"] == own.levels[1]
    assert (row["patients"], row["events"]) == (external.sum(), events[external].sum())
    assert row["current_events"] == events[~external].sum()
