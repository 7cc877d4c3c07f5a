"""Replicated events and curves against brute force, and models that are right or wrong."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from tests.checks.cohorts import LATE, plain_cohort


def weibull_cohort() -> Cohort:
    generator = np.random.default_rng(6)
    return plain_cohort(40.0 * generator.weibull(0.45, 500), seed=7)


def weibull_fits() -> tuple[Fit, Fit]:
    """A steeply falling hazard, fitted with one interval and with many."""
    cohort = weibull_cohort()
    constant = bb.fit(cohort, LATE, cuts=[], seed=1, draws=500, tune=500, progress=False)
    return constant, bb.fit(cohort, LATE, seed=1, draws=500, tune=500, progress=False)


def test_expected_events_are_the_sum_over_patients(synthetic_fit: Fit) -> None:
    events = bb.checks.replicated_events(synthetic_fit, seed=1)
    table, people = synthetic_fit.person_time.table, synthetic_fit.person_time.people
    design = synthetic_fit.design
    for endpoint in ("os", "rfs"):
        one = synthetic_fit.posterior.isel(chain=3, draw=11).sel(endpoint=endpoint)
        flat = synthetic_fit.person_time.patient_cells(endpoint).toarray()
        cells = flat.reshape(people.sizes["patient"], table.sizes["interval"], -1)
        relative = np.exp(design.terms[people["pattern"].values] @ one["coefficient"].values)
        phase = design.contrast @ one["log_hazard_ratio"].values
        hazard = np.exp(one["log_baseline"].values[:, None] + phase[None, :])
        expected = np.einsum("pjk,p->jk", cells, relative) * hazard
        got = events["expected"].sel(endpoint=endpoint).isel(chain=3, draw=11)
        np.testing.assert_allclose(got.values, expected, rtol=1e-10)
    assert int(events["observed"].sum()) == int(table["events"].sum())
    # p-values are exact averages; replicates give the same within their noise.
    replicated, observed = events["replicated"], events["observed"]
    over = ("chain", "draw")
    rough = (replicated > observed).mean(over) + 0.5 * (replicated == observed).mean(over)
    assert float(np.abs(rough - events["p_value"]).max()) < 4.5 * 0.5 / np.sqrt(4000)
    empty = events["person_time"].values == 0
    assert empty.any()
    np.testing.assert_array_equal(events["p_value"].values[empty], 0.5)


def test_a_wrong_baseline_is_found_and_a_right_one_is_not() -> None:
    constant, flexible = weibull_fits()
    curve = bb.simon_makuch(weibull_cohort(), LATE)
    for fit, wrong in ((constant, True), (flexible, False)):
        events = bb.checks.replicated_events(fit, seed=1)
        values = events["p_value_interval"].values
        replicated = bb.checks.replicated_simon_makuch(fit, seed=1, times=[3.0])["survival"]
        one = curve[(curve["group"] == "no late") & (curve["time"] <= 3.0)].iloc[-1]
        share = float((replicated.sel(group="no late") > one["survival"]).mean())
        if wrong:
            # One interval: its sum is right by construction; the curve shows the error.
            assert share > 0.995
        else:
            assert ((values > 0.01) & (values < 0.99)).all()
            assert 0.02 < share < 0.98


def test_replicated_curves_have_the_right_mean_and_spread() -> None:
    """Constant hazard: given risk sets, E[S] is about exp(-h t), with Greenwood's variance."""
    generator = np.random.default_rng(3)
    cohort = plain_cohort(generator.exponential(15.0, 800), seed=4)
    fit = bb.fit(cohort, LATE, cuts=[], seed=1, draws=500, tune=500, progress=False)
    got = bb.checks.replicated_simon_makuch(fit, seed=2, draws=1000, times=[5.0, 10.0])["survival"]
    hazard = np.exp(fit.posterior["log_baseline"].values.ravel())
    greenwood = bb.simon_makuch(cohort, LATE)
    one = greenwood[greenwood["group"] == "no late"]
    for time in (5.0, 10.0):
        values = got.sel(group="no late", time=time).values.ravel()
        expected = np.exp(-hazard * time)
        row = one[one["time"] <= time].iloc[-1]
        # Half the width of the log-log interval, turned into a standard error of S.
        half = np.log(np.log(row["lower"]) / np.log(row["upper"])) / (2 * 1.959964)
        error = abs(row["survival"] * np.log(row["survival"])) * half
        assert abs(values.mean() - expected.mean()) < 4 * np.hypot(error, expected.std()) / 30
        assert values.std() == pytest.approx(np.hypot(error, expected.std()), rel=0.12)


def test_figures(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = synthetic_fit.question
    events = bb.checks.replicated_events(synthetic_fit, seed=1)
    curves = bb.checks.replicated_simon_makuch(synthetic_fit, seed=1, draws=40, landmark=8.0)
    observed = bb.simon_makuch(cohort, question, landmark=8.0)
    table = bb.checks.predicted_against_observed(synthetic_fit, times=[12.0, 18.0])
    prior = bb.priors.prior_predictive(synthetic_fit.definition, synthetic_fit.person_time, seed=1)
    for figure, panels in (
        (bb.plots.replicated_events(events), 4),
        (bb.plots.replicated_simon_makuch(curves, observed), 4),
        (bb.plots.predicted_against_observed(table), 2),
        (bb.plots.prior_predictive(prior), 4),
        (bb.plots.martingale_residuals(bb.checks.martingale_residuals(synthetic_fit)), 2),
    ):
        assert len(figure.axes) == panels
        assert figure.get_suptitle() == "synthetic patients"
    residuals = bb.checks.martingale_residuals(synthetic_fit)
    points = bb.plots.martingale_residuals(residuals).axes[0].lines
    deaths = int(synthetic_fit.person_time.people["event"].sel(endpoint="os").sum())
    assert np.size(points[0].get_xdata()) == deaths
    assert np.size(points[1].get_xdata()) == 86 - deaths
    dots = bb.plots.replicated_events(events).axes[0]
    shown = next(line for line in dots.lines if line.get_label() == "observed")
    np.testing.assert_array_equal(
        shown.get_ydata(), events["observed"].isel(endpoint=0, phase=0).values
    )
