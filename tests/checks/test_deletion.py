"""Influence of single patients, against fits without them."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.hazards.build import build_model, with_weights
from bayesblina.inference.convergence import SamplerSettings, sampler_settings
from bayesblina.inference.fitting import Fit, fit_person_time
from bayesblina.inference.sampling import sample
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome


def test_changes_are_those_of_fits_without_the_patient(synthetic_fit: Fit) -> None:
    found = bb.influence(synthetic_fit)
    person_time = synthetic_fit.person_time
    size = person_time.people.sizes["patient"]
    assert found["change"].shape == (2, size)
    base = np.log(bb.hazard_ratio(synthetic_fit)["hazard_ratio"].values)
    order = np.argsort(-np.abs(found["change"].sel(endpoint="os").values))
    built = build_model(synthetic_fit.definition, person_time)
    settings = SamplerSettings(draws=2000, tune=1000, chains=4)
    for place in (order[0], order[1], order[-1]):
        kept = np.ones(size)
        kept[place] = 0.0
        with_weights(built, person_time, kept)
        tree, _ = sample(built, seed=3, settings=settings)
        without = tree["posterior"]["log_hazard_ratio"].isel(effect=0)
        for index, endpoint in enumerate(("os", "rfs")):
            values = base[:, :, index]
            exact = float(without.sel(endpoint=endpoint).mean()) - float(values.mean())
            # Errors of two means of about 2500 and 5000 effective draws, and of the weights.
            error = float(values.std()) * np.sqrt(1 / 2500 + 1 / 5000) * 1.5
            assert abs(float(found["change"][index, place]) - exact) < 4 * error
    assert (found["pareto_k"] < 0.9).all()


def test_the_most_influential_rows(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    found = bb.influence(synthetic_fit)
    rows = bb.checks.most_influential(cohort, found, endpoint="os")
    assert len(rows) == 10
    changes = np.abs(found["change"].sel(endpoint="os").values)
    np.testing.assert_allclose(np.abs(rows["change"]), np.sort(changes)[::-1][:10])
    row = rows.iloc[0]
    index = list(cohort.patients).index(row["patient"])
    assert row["time"] == cohort.endpoints["os"].time[index]
    levels = cohort.covariates["age_group"].levels
    assert row["age_group"] == levels[int(cohort.covariates["age_group"].values[index])]
    assert {"maintenance start", "marrow_blasts", "reliable"} <= set(rows.columns)
    with pytest.raises(EstimandError, match="No endpoint"):
        bb.checks.most_influential(cohort, found, endpoint="pfs")
    with pytest.raises(SpecError, match="at least 1"):
        bb.checks.most_influential(cohort, found, endpoint="os", count=0)
    other = found.assign_coords(patient=[f"x{i}" for i in range(found.sizes["patient"])])
    with pytest.raises(EstimandError, match="not in the cohort"):
        bb.checks.most_influential(cohort, other, endpoint="os")


def test_patients_who_matter_most_are_found() -> None:
    """A phase with a single event, and one patient with most of its person-time."""
    random = np.random.default_rng(1)
    size = 80
    time = random.exponential(10.0, size) + 0.1
    start = np.where(np.arange(size) < 15, 0.05, np.nan)
    event = np.ones(size, dtype=bool)
    event[1:15] = False
    cohort = bb.Cohort(
        patients=np.array([f"p{i}" for i in range(size)]),
        unit="months",
        endpoints={"os": Outcome(time=time, event=event, entry=np.zeros(size))},
        phases=("late",),
        phase_start=start[:, None],
        phase_end=np.full((size, 1), np.nan),
        covariates={"x": Covariate(kind="continuous", values=random.normal(size=size))},
    )
    question = bb.Question(exposed="late", eligible_from="entry")
    person_time = bb.person_time(cohort, question, cuts=[5.0])
    fit = fit_person_time(
        bb.load_model("primary"),
        person_time,
        question,
        seed=1,
        settings=sampler_settings(500, 500, 4, None, 1),
        complete=False,
    )
    found = bb.influence(fit)
    rows = bb.checks.most_influential(cohort, found, endpoint="os", count=2)
    # Without the only event the ratio falls; without by far the longest time without one it rises.
    longest = f"p{int(np.argmax(time[:15]))}"
    assert set(rows["patient"]) == {"p0", longest}
    change = rows.set_index("patient")["change"]
    assert change["p0"] < -0.1
    assert change[longest] > 0.1
