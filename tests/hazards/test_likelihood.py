"""Patients in the likelihood: their effects, their groups' and their weights."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import build_model
from bayesblina.hazards.likelihood import _integrated
from bayesblina.hazards.log_hazards import group_effects
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.cells.people import Lazily
from tests.hazards.family import (
    histories,
    two_sources,
    with_posterior,
)


def twice(*, relapse_only: bool, of: int = 200) -> bb.Cohort:
    """Patients of one effect on relapse and death; ``rfs`` ends with either, or with relapse."""
    generator = np.random.default_rng(7)
    effect = np.exp(generator.normal(0.0, 0.8, of))
    relapse, death = generator.exponential(10.0, (2, of)) / effect
    end = generator.uniform(8.0, 30.0, of)
    table = pd.DataFrame(
        {
            "id": np.arange(of),
            "os": np.minimum(death, end),
            "died": (death <= end).astype(int),
            "rfs": np.minimum(np.minimum(relapse, death), end),
            "failed": ((relapse < np.minimum(death, end)) | ((death <= end) & (not relapse_only))),
            "start": np.where(generator.random(of) < 0.5, 0.25, np.nan),
        }
    ).astype({"failed": int})
    table.loc[table["start"] >= table["rfs"], "start"] = np.nan
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os", event="died", recorded="exact"),
            "rfs": bb.Endpoint(time="rfs", event="failed", recorded="exact"),
        },
        phases=bb.Phases(late="start"),
    )


def test_one_effect_on_endpoints_that_share_events_is_refused() -> None:
    """Deaths without relapse end both; relapse alone, censored by death, shares no event."""
    question = bb.Question(exposed="late", eligible_from="entry")
    frail = bb.load_model("patient_frailty")
    both = twice(relapse_only=False)
    one = both.endpoints
    shared = int((one["os"].event & (one["rfs"].time == one["os"].time)).sum())
    assert shared > 20
    with pytest.raises(SpecError, match=rf"{shared} of the {shared} events of os .* of rfs"):
        bb.fit(both, question, model=frail, seed=1, progress=False)
    # The remedies: one of the two, or an event that is no part of the other.
    for name in ("os", "rfs"):
        alone = person_time_for(frail, both, replace(question, endpoints=(name,)))
        assert len(build_model(frail, alone).design.groups) == both.size
    apart = person_time_for(frail, twice(relapse_only=True), question)
    assert apart.endpoints == ("os", "rfs")
    assert len(build_model(frail, apart).design.groups) == both.size
    # A tie of times now and then is chance.
    few = apart.people["event"].values.copy()
    late = np.flatnonzero(few[0] & ~few[1])
    late = late[: int(0.08 * late.size)]
    few[1, late] = True
    tied = apart.people.assign(event=(apart.people["event"].dims, few))
    build_model(frail, replace(apart, patients=Lazily.of(replace(apart.patients(), people=tied))))
    # Other models have no effects that endpoints share.
    person_time_for(bb.load_model("primary"), both, question)


def test_patients_effects_are_integrated_out() -> None:
    from scipy.integrate import quad

    generator = np.random.default_rng(1)
    events = np.array([0.0, 1.0, 2.0])
    expected = generator.uniform(0.01, 6, (3, 4))
    sd = np.array([0.05, 0.4, 1.0, 2.0])
    got = _integrated(events, expected, sd)
    for i in range(3):
        for d in range(4):

            def integrand(b: float, i: int = i, d: int = d) -> float:
                log = events[i] * b - expected[i, d] * math.exp(b)
                return math.exp(log) * float(stats.norm.pdf(b, 0, sd[d]))

            value, _ = quad(integrand, -12 * sd[d], 12 * sd[d], points=[0.0], epsabs=1e-13)
            assert got[i, d] == pytest.approx(math.log(value), abs=1e-6)


def test_groups_effects_are_by_level() -> None:
    fit = with_posterior("frailty", draws=3)
    effects = group_effects(fit.posterior, fit.design, endpoint="os")
    assert effects.shape == (3, fit.person_time.table.sizes["pattern"])
    assert fit.design.groups == ("18-34", "35-54", "55+")
    assert not any(name.startswith("age_group") for name in fit.design.term_names)


# Weights.


def test_weights_count_patients_so_many_times() -> None:
    patients = histories(5)
    question = bb.Question(exposed="late", eligible_from="entry")
    weights = np.random.default_rng(1).integers(1, 4, patients.size).astype(float)
    cuts = [3.0, 7.0]
    weighted = bb.person_time(patients, question, cuts=cuts, weights=weights)
    assert weighted.weighted
    frame = pd.DataFrame(
        {
            "id": [f"{i}-{k}" for i in range(patients.size) for k in range(int(weights[i]))],
            "row": np.repeat(np.arange(patients.size), weights.astype(int)),
        }
    )
    one = patients.endpoints["os"]
    row = frame["row"].to_numpy()
    arms = np.asarray(patients.covariates["arm"].levels)[
        patients.covariates["arm"].values.astype(int)
    ]
    frame = frame.assign(
        time=one.time[row],
        event=one.event[row].astype(int),
        entry=one.entry[row],
        start=patients.phase_start[row, 0],
        arm=arms[row],
    )
    repeated = bb.read_cohort(
        frame,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
    )
    plain = bb.person_time(repeated, question, cuts=cuts)
    for name in ("events", "person_time"):
        np.testing.assert_allclose(
            weighted.table[name].values, plain.table[name].values, rtol=1e-10, atol=1e-12
        )
    with pytest.raises(bb.errors.DataError, match="greater than 0"):
        bb.person_time(patients, question, weights=np.zeros(patients.size))
    with pytest.raises(SpecError, match="one for each patient"):
        bb.person_time(patients, question, weights=[1.0])
    assert not bb.person_time(patients, question, weights=np.ones(patients.size)).weighted


def test_the_bootstrap_has_the_estimates_spread() -> None:
    """Doubling every patient's weight halves the posterior's variance, and not the estimate's."""
    patients = two_sources(1.0, seed=3)
    question = bb.Question(exposed="late", eligible_from="entry")
    flat = bb.load_model("primary").with_priors(phases=bb.HazardRatioPrior.from_sd(10.0))
    sds = {}
    for weight in (1.0, 4.0):
        fit = bb.fit(
            patients,
            question,
            model=flat,
            cuts=[6.0],
            weights=np.full(patients.size, weight) if weight != 1.0 else None,
            seed=1,
            draws=500,
            progress=False,
        )
        found = bb.bayesian_bootstrap(fit, seed=2, replicates=60)
        posterior = float(fit.posterior["log_hazard_ratio"].std())
        sds[weight] = (posterior, float(found["log_hazard_ratio"].std()))
        assert ("weighted pseudo-posterior" in " ".join(fit.provenance.notes)) == (weight != 1.0)
    assert sds[4.0][0] == pytest.approx(sds[1.0][0] / 2, rel=0.15)
    # The sd of 60 replicates has a relative error of 1 / sqrt(120); both use the same weights.
    assert sds[4.0][1] == pytest.approx(sds[1.0][1], rel=0.1)
    assert sds[1.0][1] == pytest.approx(sds[1.0][0], rel=4 / math.sqrt(120))
    with pytest.raises(SpecError, match="at least 2"):
        bb.bayesian_bootstrap(fit, seed=1, replicates=1)
