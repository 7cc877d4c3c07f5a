"""External patients: weighted, borrowed from, and not averaged over."""

from __future__ import annotations

import math

import numpy as np
import pymc as pm
import pytest

import bayesblina as bb
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.estimands.sources import probability_apart
from bayesblina.hazards.log_hazards import log_hazard
from bayesblina.hazards.parts import RobustMixture
from bayesblina.inference.model_data import person_time_for
from tests.hazards.family import (
    QUESTION,
    built,
    cohort,
    two_sources,
    with_posterior,
)

# Borrowing.


def test_a_power_prior_weights_external_patients() -> None:
    definition, person_time, _ = built("power_prior")
    plain = bb.person_time(cohort(), QUESTION, cuts=person_time.cuts)
    names = [str(term) for term in plain.table["term"].values]
    external = plain.table["design"].values[:, names.index("prior_salvage[yes]")] == 1.0
    weight = np.where(external, 0.5, 1.0)
    for name in ("events", "person_time"):
        np.testing.assert_allclose(person_time.table[name], plain.table[name] * weight, rtol=1e-12)
    assert definition.borrowing is not None
    with pytest.raises(SpecError, match="tells external patients"):
        person_time_for(bb.load_model("power_prior"), cohort(), QUESTION)


def test_borrowing_gives_way_to_conflict() -> None:
    question = bb.Question(exposed="late", eligible_from="entry")
    rows = {}
    for ratio in (1.0, 4.0):
        patients = two_sources(ratio, seed=1)
        for name in ("commensurate", "robust_mixture", "power_prior"):
            model = bb.load_model(name).with_covariates(source="source")
            fit = bb.fit(
                patients, question, model=model, cuts=[6.0], seed=1, draws=500, progress=False
            )
            table = bb.borrowing(fit).set_index("part")
            rows[name, ratio] = table.loc["baseline"]
            assert not table.loc["phases", "conflict"]
    for ratio in (1.0, 4.0):
        # The external hazard is found, whatever the prior says of it: its sd is about 0.1.
        found = rows["robust_mixture", ratio]["hazard_ratio"]
        assert abs(math.log(found / ratio)) < 0.5
        power = rows["power_prior", ratio]
        # Half of the external events, of which as many are in the reference phase.
        gained, error, external = (
            float(power[name]) for name in ("effective_events", "effective_events_error", "events")
        )
        assert gained == pytest.approx(0.5 * external, abs=4.0 * error + 15.0)
    assert rows["robust_mixture", 1.0]["probability_apart"] < 0.2
    assert rows["robust_mixture", 4.0]["probability_apart"] > 0.9
    for name in ("commensurate", "robust_mixture"):
        assert rows[name, 4.0]["effective_events"] < rows[name, 1.0]["effective_events"]
        assert [rows[name, ratio]["conflict"] for ratio in (1.0, 4.0)] == [False, True]
    with pytest.raises(EstimandError, match="has no external patients"):
        bb.borrowing(with_posterior("primary"))


def test_a_robust_mixture_starts_at_its_probability() -> None:
    definition, _, model = built("robust_mixture")
    assert isinstance(definition.borrowing, RobustMixture)
    effect = pm.draw(model.model["source_effect"], draws=4000, random_seed=1, mode="FAST_COMPILE")
    apart = probability_apart(definition.borrowing, effect[:, 0])
    # A mean of indicators' probabilities varies less than one of indicators.
    assert apart.mean() == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / 4000))


def test_external_patients_are_not_averaged_over() -> None:
    fit = with_posterior("commensurate", draws=3)
    curves = bb.survival(fit, times=[15.0], landmark=8.0)
    assert curves.attrs["population"].startswith("current eligible patients")
    person_time, design = fit.person_time, fit.design
    one = person_time.people.sel(endpoint="os")
    at_risk = (one["begin"].values <= 8.0) & (one["exit"].values > 8.0)
    pattern = one["pattern"].values[at_risk & (design.source_of[one["pattern"].values] == 0)]
    found = log_hazard(fit.posterior, design, endpoint="os")
    edges = np.array([0.0, *person_time.cuts, 1e9])
    inside = np.clip(15.0, edges[:-1], edges[1:]) - np.clip(8.0, edges[:-1], edges[1:])
    passed = np.exp(found.shared[:, 0, :, 0]) @ inside
    expected = np.exp(-passed[:, None] * np.exp(found.pattern[:, pattern])).mean(axis=1)
    got = curves["survival"].sel(endpoint="os").values[0, :, 0, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-10)
