"""Predictive checks against brute force, closed forms, and models that are right or wrong."""

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.risk_sets import risk_sets
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort


def plain_cohort(time: np.ndarray, *, seed: int) -> Cohort:
    """Patients without covariates, half of whom enter a phase that does nothing."""
    generator = np.random.default_rng(seed)
    stop = generator.uniform(20, 40, time.size)
    end = np.minimum(time, stop)
    start = generator.uniform(1, 12, time.size)
    table = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(time.size)],
            "time": end,
            "event": (time <= stop).astype(int),
            "start": np.where((start < end) & (np.arange(time.size) % 2 == 0), start, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
    )


LATE = bb.Question(exposed="late", eligible_from="entry")


def weibull_cohort() -> Cohort:
    generator = np.random.default_rng(6)
    return plain_cohort(40.0 * generator.weibull(0.45, 500), seed=7)


def weibull_fits() -> tuple[Fit, Fit]:
    """A steeply falling hazard, fitted with one interval and with many."""
    cohort = weibull_cohort()
    constant = bb.fit(cohort, LATE, cuts=[], seed=1, draws=500, tune=500, progress=False)
    return constant, bb.fit(cohort, LATE, seed=1, draws=500, tune=500, progress=False)


def test_expected_events_are_the_sum_over_patients(synthetic_fit: Fit) -> None:
    events = bb.replicated_events(synthetic_fit, seed=1)
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
        events = bb.replicated_events(fit, seed=1)
        values = events["p_value_interval"].values
        replicated = bb.replicated_simon_makuch(fit, seed=1, times=[3.0])["survival"]
        one = curve[(curve["group"] == "no late") & (curve["time"] <= 3.0)].iloc[-1]
        share = float((replicated.sel(group="no late") > one["survival"]).mean())
        if wrong:
            # One interval: its sum is right by construction; the curve shows the error.
            assert share > 0.995
        else:
            assert ((values > 0.01) & (values < 0.99)).all()
            assert 0.02 < share < 0.98


def test_risk_sets_are_simon_makuchs(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    observed = bb.simon_makuch(cohort, synthetic_fit.question, landmark=8.0)
    role = synthetic_fit.person_time.table["role"].values
    for endpoint in ("os", "rfs"):
        for group, name in (("maintenance", "exposed"), ("no maintenance", "reference")):
            risk = risk_sets(
                synthetic_fit,
                endpoint,
                np.array([0]),
                keep=(role == name)[None, :],
                begin=8.0,
                at=np.array([]),
            )
            assert risk is not None
            knots, at_risk = risk.knots, risk.at_risk
            one = observed[(observed["endpoint"] == endpoint) & (observed["group"] == group)]
            one = one[one["events"] > 0]
            # The piece that ends with the event.
            place = np.searchsorted(knots, one["time"].to_numpy(), side="left") - 1
            np.testing.assert_array_equal(at_risk[place], one["at_risk"])


def test_replicated_curves_have_the_right_mean_and_spread() -> None:
    """Constant hazard: given risk sets, E[S] is about exp(-h t), with Greenwood's variance."""
    generator = np.random.default_rng(3)
    cohort = plain_cohort(generator.exponential(15.0, 800), seed=4)
    fit = bb.fit(cohort, LATE, cuts=[], seed=1, draws=500, tune=500, progress=False)
    got = bb.replicated_simon_makuch(fit, seed=2, draws=1000, times=[5.0, 10.0])["survival"]
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


def test_residuals_add_up_to_events_less_expected(synthetic_fit: Fit) -> None:
    residuals = bb.martingale_residuals(synthetic_fit)
    events = bb.replicated_events(synthetic_fit, seed=1)
    total = events["observed"] - events["expected"].mean(("chain", "draw"))
    np.testing.assert_allclose(
        residuals["residual"].sum("patient").values,
        total.sum(("interval", "phase")).values,
        atol=1e-9,
    )
    assert float(residuals["residual"].max()) <= 1.0
    out = np.isnan(synthetic_fit.person_time.people["exit"].values)
    np.testing.assert_array_equal(np.isnan(residuals["residual"].values), out)


def test_residuals_by_hand() -> None:
    generator = np.random.default_rng(3)
    cohort = plain_cohort(generator.exponential(15.0, 60), seed=4)
    fit = bb.fit(cohort, LATE, cuts=[], seed=1, draws=100, tune=200, progress=False)
    hazard = np.exp(fit.posterior["log_baseline"].values.ravel())
    ratio = np.exp(fit.posterior["log_hazard_ratio"].values.ravel())
    start = np.where(np.isnan(cohort.phase_start[:, 0]), np.inf, cohort.phase_start[:, 0])
    time = cohort.endpoints["os"].time
    each = hazard[:, None] * (
        np.minimum(time, start) + ratio[:, None] * np.maximum(time - start, 0.0)
    )
    found = bb.martingale_residuals(fit).isel(endpoint=0)
    np.testing.assert_allclose(
        found["residual"], cohort.endpoints["os"].event - each.mean(axis=0), rtol=1e-9
    )
    np.testing.assert_allclose(found["sd"], each.std(axis=0), rtol=1e-6)


def test_calibration_by_hand() -> None:
    generator = np.random.default_rng(9)
    cohort = plain_cohort(generator.exponential(15.0, 300), seed=4)
    fit = bb.fit(cohort, LATE, cuts=[], seed=1, draws=100, tune=200, progress=False)
    table = bb.predicted_against_observed(fit, times=[6.0, 12.0], landmark=2.0)
    assert list(table["group"]) == [1, 1]
    hazard = np.exp(fit.posterior["log_baseline"].values.ravel())
    ratio = np.exp(fit.posterior["log_hazard_ratio"].values.ravel())
    start = np.where(np.isnan(cohort.phase_start[:, 0]), np.inf, cohort.phase_start[:, 0])
    time = cohort.endpoints["os"].time
    # The mean hazard of those at risk, on a fine grid.
    grid = np.linspace(2.0, 12.0, 20_001)
    middle = (grid[1:] + grid[:-1]) / 2
    at_risk = (time[:, None] > middle).sum(axis=0)
    late = ((time[:, None] > middle) & (start[:, None] < middle)).sum(axis=0)
    step = np.diff(grid)
    for row, at in zip(table.to_dict("records"), (6.0, 12.0), strict=True):
        here = middle < at
        share = (late / at_risk)[here] @ step[here]
        alive = np.exp(-hazard * ((at - 2.0 - share) + ratio * share))
        for column, level in (("predicted", 0.5), ("predicted_lower", 0.025)):
            assert row[column] == pytest.approx(np.quantile(alive, level), rel=1e-3)
        curve = bb.kaplan_meier(cohort, landmark=2.0)
        assert row["observed"] == curve[curve["time"] <= at].iloc[-1]["survival"]
        event = cohort.endpoints["os"].event
        assert row["events"] == int((event & (time > 2.0) & (time <= at)).sum())
        total = hazard.mean() * (at_risk - late)[here] @ step[here]
        total += (hazard * ratio).mean() * late[here] @ step[here]
        assert row["expected"] == pytest.approx(total, rel=1e-3)


def test_groups_by_risk(synthetic_fit: Fit) -> None:
    table = bb.predicted_against_observed(synthetic_fit, times=[12.0, 18.0], groups=3)
    for _, one in table.groupby(["endpoint", "time"]):
        assert list(one["group"]) == [1, 2, 3]
        assert one["predicted"].is_monotonic_decreasing
        assert one["patients"].max() - one["patients"].min() <= 1
    for arguments, message in (
        ({"times": [1.0]}, "after the landmark"),
        ({"times": []}, "after the landmark"),
        ({"times": [12.0, 90.0]}, "times 90 lie after the end of follow-up"),
        ({"times": [12.0], "groups": 0}, "at least 1"),
        ({"times": [12.0], "mass": 2.0}, "mass must lie"),
    ):
        with pytest.raises(SpecError, match=message):
            bb.predicted_against_observed(synthetic_fit, **arguments)


def test_figures(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = synthetic_fit.question
    events = bb.replicated_events(synthetic_fit, seed=1)
    curves = bb.replicated_simon_makuch(synthetic_fit, seed=1, draws=40, landmark=8.0)
    observed = bb.simon_makuch(cohort, question, landmark=8.0)
    table = bb.predicted_against_observed(synthetic_fit, times=[12.0, 18.0])
    prior = bb.prior_predictive(synthetic_fit.definition, synthetic_fit.person_time, seed=1)
    for figure, panels in (
        (bb.plots.replicated_events(events), 4),
        (bb.plots.replicated_simon_makuch(curves, observed), 4),
        (bb.plots.predicted_against_observed(table), 2),
        (bb.plots.prior_predictive(prior), 4),
        (bb.plots.martingale_residuals(bb.martingale_residuals(synthetic_fit)), 2),
    ):
        assert len(figure.axes) == panels
        assert figure.get_suptitle() == "synthetic patients"
    residuals = bb.martingale_residuals(synthetic_fit)
    points = bb.plots.martingale_residuals(residuals).axes[0].lines
    deaths = int(synthetic_fit.person_time.people["event"].sel(endpoint="os").sum())
    assert np.size(points[0].get_xdata()) == deaths
    assert np.size(points[1].get_xdata()) == 86 - deaths
    dots = bb.plots.replicated_events(events).axes[0]
    shown = next(line for line in dots.lines if line.get_label() == "observed")
    np.testing.assert_array_equal(
        shown.get_ydata(), events["observed"].isel(endpoint=0, phase=0).values
    )
