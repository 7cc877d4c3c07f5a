"""Patient-level log-likelihood and LOO: invariant to redundant cuts and to the time unit."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks.weaknesses import unreliable
from bayesblina.core.errors import ConvergenceError
from bayesblina.hazards.effects import make_design
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.inference.fitting import Fit

DAYS = 365.25 / 12
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")

PRIMARY = bb.load_model("primary")


def test_loo_counts_patients(synthetic_fit: Fit) -> None:
    checks = bb.check(synthetic_fit)
    used = np.isfinite(synthetic_fit.person_time.people["exit"].values)
    assert list(checks.loo["patients"]) == [used[0].sum(), used[1].sum(), used.any(axis=0).sum()]
    assert (checks.loo["p_loo"] > 0).all()


def test_log_likelihood_by_hand() -> None:
    table = pd.DataFrame(
        {"id": ["a", "b"], "t": [4.0, 9.0], "d": [1, 0], "s": [2.0, None], "x": [0.0, 1.0]}
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(late="s"),
    )
    person_time = bb.person_time(
        cohort, bb.Question(exposed="late", eligible_from="entry"), cuts=[3.0]
    )
    posterior = xr.Dataset(
        {
            "log_baseline": (("chain", "draw", "endpoint", "interval"), np.log([[[[0.1, 0.2]]]])),
            "log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), np.log([[[[0.5]]]])),
        },
        coords={"endpoint": ["os"], "chain": [0], "draw": [0]},
    )
    values = patient_log_likelihood(
        posterior, person_time, make_design(person_time, PRIMARY), endpoint="os"
    )
    first = np.log(0.2 * 0.5) - (2 * 0.1 + 1 * 0.1 * 0.5 + 1 * 0.2 * 0.5)
    second = -(3 * 0.1 + 6 * 0.2)
    np.testing.assert_allclose(values.values[0, 0], [first, second], rtol=1e-14)


def test_redundant_cuts_change_nothing(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    person_time = synthetic_fit.person_time
    more = np.sort(
        np.concatenate([person_time.cuts, person_time.cuts[:-1] + 0.5 * np.diff(person_time.cuts)])
    )
    finer = bb.person_time(cohort, QUESTION, cuts=more)
    origin = np.searchsorted(person_time.cuts, finer.table["interval_start"].values, side="right")
    posterior = synthetic_fit.posterior
    same = xr.Dataset(
        {
            "log_baseline": (
                ("chain", "draw", "endpoint", "interval"),
                posterior["log_baseline"].values[..., origin],
            ),
            "log_hazard_ratio": posterior["log_hazard_ratio"],
            "coefficient": posterior["coefficient"],
        }
    )
    for endpoint in person_time.endpoints:
        one = patient_log_likelihood(
            posterior, person_time, synthetic_fit.design, endpoint=endpoint
        )
        two = patient_log_likelihood(same, finer, make_design(finer, PRIMARY), endpoint=endpoint)
        np.testing.assert_allclose(one.values, two.values, atol=1e-8, rtol=0)


def test_days_differ_from_months_by_the_known_constant(synthetic_fit: Fit) -> None:
    table = bb.simulate.blinatumomab_table(seed=1)
    times = [name for name in table.columns if name.endswith(("_months", "_month"))]
    table[times] *= DAYS
    cohort = bb.read_cohort(
        table,
        patient="patient_id",
        unit="days",
        endpoints={
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        covariates=["age_group", "prior_salvage", "marrow_blasts"],
        transplant="transplant_month",
    )
    person_time = synthetic_fit.person_time
    in_days = bb.person_time(cohort, QUESTION, cuts=person_time.cuts * DAYS)
    np.testing.assert_array_equal(in_days.table["events"], person_time.table["events"])
    posterior = synthetic_fit.posterior
    slower = posterior.assign(log_baseline=posterior["log_baseline"] - np.log(DAYS))
    for index, endpoint in enumerate(person_time.endpoints):
        one = patient_log_likelihood(
            posterior, person_time, synthetic_fit.design, endpoint=endpoint
        )
        two = patient_log_likelihood(
            slower, in_days, make_design(in_days, PRIMARY), endpoint=endpoint
        )
        events = person_time.people["event"].values[index]
        np.testing.assert_allclose(
            two.values + events * np.log(DAYS), one.values, atol=1e-8, rtol=0
        )


def test_a_fit_that_did_not_converge_says_so() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    fit = bb.fit(cohort, QUESTION, seed=1, draws=20, tune=5, progress=False)
    assert not fit.converged
    assert "NOT CONVERGED" in repr(fit)
    assert not bb.summary(bb.hazard_ratio(fit))["converged"].any()
    with pytest.raises(ConvergenceError, match="smallest bulk ESS"):
        fit.require_converged()


def test_events_by_interval_are_checked(synthetic_fit: Fit) -> None:
    table = bb.check(synthetic_fit).predictive
    events = synthetic_fit.person_time.table["events"]
    assert len(table) == events.sizes["endpoint"] * events.sizes["interval"]
    for name, one in table.groupby("endpoint"):
        by_interval = events.sel(endpoint=name).sum(("phase", "pattern")).values
        np.testing.assert_array_equal(one["observed"], by_interval)
        np.testing.assert_array_equal(
            one["interval_start"].to_numpy()[1:], synthetic_fit.person_time.cuts
        )
        # More events than expected go with a small p-value, and the other way round.
        surplus = one["observed"] - one["expected"]
        assert ((one["p_value"] < 0.5) == (surplus > 0))[surplus.abs() > 1].all()
    assert table["p_value"].between(0.001, 0.999).all()


def test_unreliable_predictions_are_told_with_what_to_do() -> None:
    row = {"pareto_k_limit": 0.7, "patients_above_limit": 0, "evaluated": 86, "reliable": True}
    loo = pd.DataFrame(
        [
            {**row, "endpoint": "os"},
            {**row, "endpoint": "rfs", "patients_above_limit": 2, "reliable": False},
        ]
    )
    (text,) = unreliable(loo)
    assert text.startswith("rfs: ")
    assert "above 0.70 for 2 of 86 patients" in text
    assert "loo(fit, moment_match=True) or refit=True, or with k_fold" in text
    # Where few are not to be counted, neither are these.
    (text,) = unreliable(loo, coarse=True)
    assert "above 0.70 for some patients; " in text
    assert unreliable(loo[:1]) == ()
