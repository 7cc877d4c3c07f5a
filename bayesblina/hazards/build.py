"""Definitions and exposure into a PyMC model; the only PyMC code for densities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

from bayesblina.exposure import Exposure
from bayesblina.hazards.baseline import walk_geometry
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.kernel import Kernel, proportional_kernel
from bayesblina.hazards.ops import BatchedMatrixVector, PiecewiseExponential

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuiltModel:
    """A PyMC model and what the sampler needs to know of it.

    Attributes
    ----------
    model : pymc.Model
        The density. Every size, prior scale and table in it is data.
    structure
        Names the graph: models of equal structure differ in data and sizes only.
    start : dict of ndarray
        Where chains start, for variables that should not start near 0.
    design
        Phase contrasts and standardised covariates.
    make_kernel
        Makes a faster form of the same density; None where there is none.
    """

    model: Any
    structure: str
    start: dict[str, Floats]
    design: Design
    make_kernel: Callable[[], Kernel] | None


def build_model(definition: ModelDefinition, exposure: Exposure) -> BuiltModel:
    """Build the PyMC model of a definition for given events and person-time.

    Free variables: ``level`` (endpoint), ``walk_sd`` (endpoint), ``walk_innovation`` (endpoint,
    component; the sampler's coordinates of the walk, see `bayesblina.hazards.baseline`),
    ``log_hazard_ratio`` (endpoint, effect) and ``coefficient`` (endpoint, term). Deterministic:
    ``log_baseline`` (endpoint, interval), the log hazard per time unit in the reference phase at
    mean covariates.

    Parameters
    ----------
    definition
        The hazard model.
    exposure
        Events and person-time.

    Returns
    -------
    BuiltModel
        The model and its structure.
    """
    design = make_design(exposure)
    phase_prior, covariate_prior = definition.phases.prior, definition.covariates.prior
    prior_sd = np.concatenate(
        [
            np.full(len(design.effects), phase_prior.sd),
            np.full(len(design.term_names), covariate_prior.sd),
        ]
    )
    geometry = walk_geometry(exposure, design, prior_sd=prior_sd)
    table = exposure.table
    endpoints = table.sizes["endpoint"]
    has_walk = table.sizes["interval"] > 1
    has_terms = bool(design.term_names)
    coords: dict[str, Any] = {
        "endpoint": list(exposure.endpoints),
        "interval": table["interval"].values,
        "phase": list(table["phase"].values),
        "pattern": table["pattern"].values,
        "effect": list(design.effects),
    }
    if has_walk:
        coords["component"] = np.arange(table.sizes["interval"] - 1)
    if has_terms:
        coords["term"] = list(design.term_names)
    # The supports are built in, so the bounds checks could never fail; they only cost.
    with pm.Model(coords=coords, check_bounds=False) as model:
        cell = ("endpoint", "interval", "phase", "pattern")
        events = [
            pm.Data(
                f"events_by_{kept}",
                table["events"].sum(set(cell[1:]) - {kept}).values.astype(np.float64),
                dims=("endpoint", kept),
            )
            for kept in cell[1:]
        ]
        exposed = pm.Data("exposure", table["exposure"].values, dims=cell)
        contrast = pm.Data("contrast", np.stack([design.contrast] * endpoints))
        centre = pm.Data("level_centre", geometry.level_centre, dims="endpoint")
        prior = pm.Data(
            "prior",
            np.array(
                [
                    definition.baseline.level_sd,
                    definition.baseline.walk_sd,
                    phase_prior.mean,
                    phase_prior.sd,
                    covariate_prior.mean,
                    covariate_prior.sd,
                ]
            ),
        )
        level = pm.Normal("level", centre, prior[0], dims="endpoint")
        if has_walk:
            basis = pm.Data("basis", geometry.basis)
            inverse_roughness = pm.Data("inverse_roughness", 1.0 / geometry.roughness)
            likely = pm.Data("walk_centre", geometry.centre)
            if definition.baseline.walk_sd_known:
                walk_sd = prior[1] + pt.zeros_like(level)
            else:
                walk_sd = pm.HalfNormal("walk_sd", prior[1], dims="endpoint")
            sd = walk_sd[:, None] * inverse_roughness
            wide = pt.sqrt(1.0 + sd**2)
            shrink = sd / wide
            # coefficient = shrink * (shrink * likely + innovation), which is Normal(0, sd).
            innovation = pm.Normal(
                "walk_innovation", -likely * shrink, wide, dims=("endpoint", "component")
            )
            coefficient = shrink * (shrink * likely + innovation)
            log_baseline = level[:, None] + BatchedMatrixVector()(basis, coefficient)
        else:
            log_baseline = level[:, None] + pt.zeros_like(events[0])
        log_baseline = pm.Deterministic("log_baseline", log_baseline, dims=("endpoint", "interval"))
        ratio = pm.Normal("log_hazard_ratio", prior[2], prior[3], dims=("endpoint", "effect"))
        by_phase = BatchedMatrixVector()(contrast, ratio)
        if has_terms:
            terms = pm.Data("terms", np.stack([design.terms.T] * endpoints))
            slope = pm.Normal("coefficient", prior[4], prior[5], dims=("endpoint", "term"))
            by_pattern = BatchedMatrixVector(transposed=True)(terms, slope)
        else:
            by_pattern = pt.zeros_like(events[2])
        density = PiecewiseExponential()(*events, exposed, log_baseline, by_phase, by_pattern)
        pm.Potential("log_likelihood", density[0])
    parts = (
        _baseline_part(definition) if has_walk else "constant",
        definition.phases.kind,
        "covariates" if has_terms else "no covariates",
        definition.endpoints.kind,
    )
    return BuiltModel(
        model=model,
        structure=" / ".join(parts),
        start={"level": geometry.level_centre},
        design=design,
        make_kernel=partial(
            proportional_kernel,
            walk=has_walk,
            walk_sd_known=definition.baseline.walk_sd_known,
            terms=has_terms,
        ),
    )


def _baseline_part(definition: ModelDefinition) -> str:
    known = definition.baseline.walk_sd_known
    return f"{definition.baseline.kind}, sd known" if known else definition.baseline.kind
