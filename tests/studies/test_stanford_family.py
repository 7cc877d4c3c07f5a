"""Proportional, time-varying and stratified models of the Stanford data against R.

The golden numbers are those of ``glm(..., poisson)`` and of ``pammtools::pamm`` on the same split
data, which agree to six digits (tests/data/stanford_family.R). Under priors as wide as these the
posterior's mode is the maximum-likelihood estimate, and its curvature there the standard error.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bayesblina as bb
from bayesblina.hazards.build import BuiltModel, build_model
from bayesblina.hazards.definition import ModelDefinition, parse_model
from bayesblina.person_time.cells import PersonTime
from tests.paths import DATA

QUESTION = bb.Question(exposed="transplantation", eligible_from="entry")
WIDE = bb.HazardRatioPrior.from_sd(30.0)
FREE = bb.SpreadPrior.from_scale(60.0, known=True)


def person_time_of(covariates: list[str]) -> PersonTime:
    table = pd.read_csv(DATA / "stanford_jasa1.csv").merge(
        pd.read_csv(DATA / "stanford_surgery.csv"), on="id"
    )
    table["surgery"] = np.where(table["surgery"] == 1, "yes", "no")
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="days",
        endpoints=bb.Endpoint(time="days", event="died"),
        phases=bb.Phases(transplantation="transplant_day"),
        covariates=covariates,
    )
    return bb.person_time(cohort, QUESTION, cuts=[60.0, 180.0])


def wide(name: str) -> ModelDefinition:
    model = bb.load_model(name).with_priors(phases=WIDE, covariates=WIDE, level=WIDE, step=WIDE)
    content = model.model_dump(by_alias=True)
    if "change" in content["phases"]:
        content["phases"]["change"] = FREE.model_dump()
    return parse_model(content, source=name)


def mode(built: BuiltModel) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Variables at the density's mode, and their standard errors from its curvature there."""
    model = built.model
    function = model.logp_dlogp_function(ravel_inputs=True, mode="FAST_COMPILE")
    function.set_extra_values({})
    names = [variable.name for variable in model.free_RVs]
    shapes = [[len(model.coords[dim]) for dim in model.named_vars_to_dims[name]] for name in names]
    start = np.concatenate(
        [
            np.broadcast_to(built.start.get(name, np.zeros(())), shape).ravel()
            for name, shape in zip(names, shapes, strict=True)
        ]
    )

    def objective(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = function(point)
        return -float(value), -np.asarray(slope)

    found = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    point, step = found.x, 1e-4
    size = point.size
    curvature = np.empty((size, size))
    for index in range(size):
        move = np.zeros(size)
        move[index] = step
        curvature[index] = (objective(point + move)[1] - objective(point - move)[1]) / (2 * step)
    covariance = np.linalg.inv((curvature + curvature.T) / 2)
    coordinates = [model.rvs_to_values[variable] for variable in model.free_RVs]
    reported = model.compile_fn(
        model.unobserved_value_vars, inputs=coordinates, mode="FAST_COMPILE", point_fn=False
    )
    ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    moved = np.concatenate([point + step * np.eye(size), point - step * np.eye(size)])
    variables = [
        reported(*map(np.reshape, np.split(one, ends), shapes))
        for one in np.concatenate([point[None], moved])
    ]
    estimates, errors = {}, {}
    for variable, found_at in zip(
        model.unobserved_value_vars, zip(*variables, strict=True), strict=True
    ):
        name = str(variable.name)
        values = np.stack(found_at).reshape(1 + 2 * size, -1)
        slope = (values[1 : 1 + size] - values[1 + size :]) / (2 * step)
        estimates[name] = values[0]
        errors[name] = np.sqrt(np.einsum("pk,pq,qk->k", slope, covariance, slope))
    return estimates, errors


def test_proportional() -> None:
    estimate, error = mode(build_model(wide("primary"), person_time_of([])))
    assert estimate["log_hazard_ratio"][0] == pytest.approx(-0.169863, abs=5e-4)
    assert error["log_hazard_ratio"][0] == pytest.approx(0.270569, rel=2e-3)
    # Intercept and intervals of the reference.
    np.testing.assert_allclose(
        estimate["log_baseline"], -4.777926 + np.array([0, -0.806741, -2.094059]), atol=1e-3
    )


def test_a_ratio_for_each_interval() -> None:
    estimate, error = mode(build_model(wide("over_time"), person_time_of([])))
    got, sd = (one["log_hazard_ratio_by_interval"] for one in (estimate, error))
    np.testing.assert_allclose(got, [-0.211102, -0.042834, -0.207320], atol=1.5e-3)
    np.testing.assert_allclose(sd, [0.344369, 0.562731, 0.747545], rtol=5e-3)


def test_a_baseline_for_each_stratum() -> None:
    model = wide("stratified").with_covariates(stratum="surgery")
    estimate, error = mode(build_model(model, person_time_of(["surgery"])))
    assert estimate["log_hazard_ratio"][0] == pytest.approx(-0.130978, abs=5e-4)
    assert error["log_hazard_ratio"][0] == pytest.approx(0.267488, rel=2e-3)
    steps = np.array([0, -0.701655, -2.138662])
    others = -0.850753 + np.array([0, -0.902424, 0.577557])
    expected = -4.688886 + np.stack([steps, steps + others])
    np.testing.assert_allclose(estimate["log_baseline"].reshape(2, 3), expected, atol=4e-3)
