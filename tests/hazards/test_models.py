"""Every model in models/: its density, its structure, its coordinates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from scipy import stats

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.hazards.build import build_model
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.hazards.log_hazards import log_hazard
from bayesblina.inference.compiling import compiled_of
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.sampling import bind
from tests.hazards.family import (
    QUESTION,
    SAMPLED,
    built,
    cohort,
    prior_points,
)

ROLES = {"stratified": "stratum", "by_subgroup": "subgroup", "frailty": "group"}


@pytest.mark.parametrize("name", SAMPLED)
def test_likelihood_is_the_patients_sum(name: str) -> None:
    """The graph's density by cells against numpy's by patients: two ways to one number."""
    _, person_time, model = built(name)
    prior, density = prior_points(model, draws=3, seed=4)
    if "patient_effect" in prior:
        by_patient = np.zeros(3)
        for endpoint in person_time.endpoints:
            found = log_hazard(prior, model.design, endpoint=endpoint)
            cells = person_time.patient_cells(endpoint)
            hazard = np.exp(found.shared[:, 0].reshape(3, -1))
            relative = found.pattern
            patient, cell = person_time.event_cells(endpoint)
            by_patient -= ((cells @ hazard.T).T * np.exp(relative)).sum(axis=1)
            by_patient += (np.log(hazard[:, cell]) + relative[:, patient]).sum(axis=1)
    else:
        by_patient = patient_log_likelihood(prior, person_time, model.design).values[0].sum(axis=1)
    np.testing.assert_allclose(density, by_patient, rtol=1e-10)


@pytest.mark.parametrize("name", SAMPLED)
def test_compiled_density_is_pymcs(name: str) -> None:
    _, _, model = built(name)
    bound = bind(compiled_of(model), model)
    reference = model.model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    reference.set_extra_values({})
    generator = np.random.default_rng(5)
    for _ in range(3):
        point = bound.initial_point_func(0) + generator.normal(0, 0.4, bound.n_dim)
        gradient, value = np.empty(bound.n_dim), np.empty(1)
        status = bound.compiled_logp_func.ctypes(
            bound.n_dim,
            *(
                array.ctypes.data_as(bound.compiled_logp_func.ctypes.argtypes[1])
                for array in (point, gradient, value)
            ),
            bound.user_data.ctypes.data,
        )
        assert status == 0
        expected, slope = reference(point)
        assert value[0] == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["by_subgroup", "frailty"])
def test_a_structure_serves_any_number_of_endpoints(name: str) -> None:
    """What was compiled for two endpoints is the density of one: no size stands in the graph."""
    definition, _, two = built(name)
    person_time = person_time_for(definition, cohort(), replace(QUESTION, endpoints=("rfs",)))
    one = build_model(definition, person_time)
    assert one.structure == two.structure
    bound = bind(compiled_of(two), one)
    reference = one.model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    reference.set_extra_values({})
    point = bound.initial_point_func(3)
    gradient, value = np.empty(bound.n_dim), np.empty(1)
    status = bound.compiled_logp_func.ctypes(
        bound.n_dim,
        *(
            array.ctypes.data_as(bound.compiled_logp_func.ctypes.argtypes[1])
            for array in (point, gradient, value)
        ),
        bound.user_data.ctypes.data,
    )
    assert status == 0
    expected, slope = reference(point)
    assert value[0] == pytest.approx(float(expected), rel=1e-9)
    np.testing.assert_allclose(gradient, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["by_subgroup", "frailty"])
def test_coordinates_leave_the_prior_alone(name: str) -> None:
    """Effects are Normal(0, sd), whatever the level, though sampled about where data put them."""
    definition, _, model = built(name)
    draws = 2000
    prior, _ = prior_points(model, draws=draws, seed=11)
    if name == "frailty":
        effect, sd = prior["group_effect"].values[0], prior["group_sd"].values[0]
    else:
        effect = (
            prior["log_hazard_ratio_by_subgroup"].values[0] - prior["log_hazard_ratio"].values[0]
        )
        sd = prior["subgroup_sd"].values[0]
    standard = effect / sd[..., None]
    for index in np.ndindex(standard.shape[1:]):
        assert stats.kstest(standard[:, *index], stats.norm.cdf).pvalue > 1e-5
        for other in ("level", "log_hazard_ratio", "coefficient"):
            with_it = prior[other].values[0].reshape(draws, -1)
            for column in with_it.T:
                assert abs(np.corrcoef(standard[:, *index], column)[0, 1]) < 4.5 / math.sqrt(draws)
    slope = (prior["coefficient"].values[0] - definition.covariates.prior.mean).reshape(draws, -1)
    covariance = np.cov(slope.T / definition.covariates.prior.sd)
    assert np.abs(covariance - np.eye(slope.shape[1])).max() < 4.5 * math.sqrt(2 / draws)


def test_models_that_need_a_covariate_say_so() -> None:
    for name, role in ROLES.items():
        with pytest.raises(SpecError, match=f"needs a covariate as its {role}"):
            build_model(bb.load_model(name), bb.person_time(cohort(), QUESTION))
    with pytest.raises(SpecError, match="no categorical covariate 'marrow_blasts'"):
        build_model(
            bb.load_model("frailty").with_covariates(group="marrow_blasts"),
            bb.person_time(cohort(), QUESTION),
        )
    with pytest.raises(SpecError, match="has no stratum; what it can be given: none"):
        bb.load_model("primary").with_covariates(stratum="age_group")
    with pytest.raises(SpecError, match="by_patient=True"):
        build_model(bb.load_model("patient_frailty"), bb.person_time(cohort(), QUESTION))
    with pytest.raises(SpecError, match="phase_cuts are for a model"):
        bb.fit(cohort(), QUESTION, seed=1, phase_cuts=[3.0], progress=False)
    with pytest.raises(SpecError, match="has no prior 'spread'"):
        bb.load_model("primary").with_priors(spread=bb.SpreadPrior(hazard_ratio=(0.5, 2.0)))


# Correlated endpoints.


def test_correlation_prior_is_lkj() -> None:
    """Marginals of an LKJ prior are Beta(eta - 1 + n / 2) on (-1, 1)."""
    patients = cohort()
    definition = bb.load_model("correlated")
    for names in (("os", "rfs"), ("os", "rfs", "efs")):
        endpoints = dict(patients.endpoints)
        if "efs" in names:
            endpoints["efs"] = endpoints["rfs"]
        several = replace(patients, endpoints=endpoints)
        model = build_model(definition, bb.person_time(several, QUESTION)).model
        draws = 4000
        correlation, ratio = pm.draw(
            [model["correlation"], model["log_hazard_ratio"]],
            draws=draws,
            random_seed=3,
            mode="FAST_COMPILE",
        )
        shape = 2.0 - 1.0 + len(names) / 2.0
        for pair in range(correlation.shape[1]):
            share = (correlation[:, pair] + 1) / 2
            assert stats.kstest(share, stats.beta(shape, shape).cdf).pvalue > 1e-4
        # Given the correlation, the ratios have it.
        sd = definition.phases.prior.sd
        product = ratio[:, 0, 0] * ratio[:, 1, 0] / sd**2
        error = (product - correlation[:, 0]).std() / math.sqrt(draws)
        assert abs((product - correlation[:, 0]).mean()) < 4 * error
        assert np.abs(ratio.std(axis=0) / sd - 1).max() < 4 / math.sqrt(2 * draws)
