"""Log baseline hazards as PyMC variables.

Every table, scale and size is data, so that models of one structure share one graph.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesblina.core.errors import SpecError
from bayesblina.hazards.baseline import (
    follow_up_end,
    matern_density,
    midpoints,
    steps,
    walks,
)
from bayesblina.hazards.ops import BatchedMatrixVector
from bayesblina.hazards.parts import (
    Free,
    GaussianProcess,
    RandomWalk,
    SmoothWalk,
    Weibull,
)
from bayesblina.hazards.workbench import Workbench, adapted

# The basis of the Hilbert space reaches beyond the data by this factor.
BOUNDARY = 4.0


def baseline_part(bench: Workbench) -> Any:
    """Add the baseline: log hazards over (curve, interval)."""
    kind = bench.definition.baseline
    if isinstance(kind, Free):
        raise SpecError(
            f"Model '{bench.definition.name}' has no density of baselines to sample from: its "
            "draws are made by fit, from the partial likelihood."
        )
    curve, centre = bench.curve, bench.curves.level_centre
    mean, sd = kind.level.mean, kind.level.sd
    bench.known("level", (curve,), lambda rng, size: centre + rng.normal(mean, sd, size))
    bench.start["level"] = centre
    prior = pm.Data("level_prior", np.array([mean, sd]))
    middle = pm.Data("level_centre", centre, dims=curve)
    level = pm.Normal("level", middle + prior[0], prior[1], dims=curve)
    intervals = bench.person_time.table.sizes["interval"]
    if intervals == 1:
        return level[:, None] + pt.zeros((1, 1))
    if isinstance(kind, GaussianProcess):
        return level[:, None] + _gaussian_process(bench, kind)
    if isinstance(kind, RandomWalk):
        return level[:, None] + _random_walk(bench, kind)
    return level[:, None] + _curve_walk(bench, kind)


def _random_walk(bench: Workbench, kind: RandomWalk) -> Any:
    """Add a walk of known step sd: deviations are an affine function of independent normals."""
    curves = bench.curves
    curve = "shape" if kind.shared else bench.curve
    weight, time = curves.weight, curves.adjusted
    if kind.shared:
        weight = weight.sum(axis=0, keepdims=True)
        time = (time * np.exp(curves.level_centre)[:, None]).sum(axis=0, keepdims=True)
    walk = steps(weight, time, sd=kind.step.sd)
    model = pm.modelcontext(None)
    if kind.shared:
        # What all endpoints share has a dimension of length 1.
        model.add_coord("shape", ["shared"])
    model.add_coord("component", np.arange(walk.basis.shape[2]))
    innovation = pm.Normal(
        "walk_innovation",
        pm.Data("walk_prior_mean", walk.prior_mean),
        pm.Data("walk_prior_sd", walk.prior_sd),
        dims=(curve, "component"),
    )
    basis = pm.Data("basis", walk.basis)
    shape = pm.Data("walk_offset", walk.likely) + BatchedMatrixVector()(basis, innovation)
    # What is shared has one row, which the compiler must know.
    return shape[0][None, :] if kind.shared else shape


def _curve_walk(bench: Workbench, kind: SmoothWalk | Weibull) -> Any:
    curves, curve = bench.curves, bench.curve
    order = kind.order if isinstance(kind, SmoothWalk) else 1
    # Crude rates fade as the cured remain; the hazard of the others does not.
    likely = curves.crude if bench.definition.cure is None else np.zeros_like(curves.crude)
    walk = walks(curves.clock, curves.weight, likely, order=order)
    shape: Any = 0.0
    mean: Any = 0.0
    if isinstance(kind, SmoothWalk) and kind.slope is not None:
        slope = bench.normal("slope", kind.slope, dims=(curve,))
        shape = slope[:, None] * pm.Data("line", walk.line)
    if isinstance(kind, Weibull):
        # The walk's coefficients are those of the line in log time, and departures from it.
        line = np.log(midpoints(bench.person_time.table["interval_start"].values, _last(bench)))
        slope = bench.normal("slope", kind.doubling, dims=(curve,), unit=log(2.0))
        straight = np.broadcast_to(line, walk.weight.shape)
        mean = slope[:, None] * pm.Data("line_coefficient", walk.coefficients(straight))
    if walk.centre.shape[1]:
        walk_sd = bench.spread("walk_sd", kind.change, dims=(curve,))
        sd = walk_sd[:, None] * pm.Data("inverse_roughness", walk.inverse_roughness)
        centre = pm.Data("walk_centre", walk.centre)
        pm.modelcontext(None).add_coord("component", np.arange(walk.centre.shape[1]))
        coefficient = adapted(
            "walk_innovation", sd, likely=centre, mean=mean, dims=(curve, "component")
        )
        shape = shape + BatchedMatrixVector()(pm.Data("basis", walk.basis), coefficient)
    return shape


def _last(bench: Workbench) -> float:
    return follow_up_end(bench.person_time)


def _gaussian_process(bench: Workbench, kind: GaussianProcess) -> Any:
    curve = bench.curve
    times = np.log(midpoints(bench.person_time.table["interval_start"].values, _last(bench)))
    half = (times[-1] - times[0]) / 2.0
    position = (times - times.mean() if half == 0 else times - times[0] - half) / (half or 1.0)
    frequency = np.arange(1, kind.functions + 1) * np.pi / (2.0 * BOUNDARY)
    basis = np.sin(frequency * (position[:, None] + BOUNDARY)) / sqrt(BOUNDARY)
    weight, share = bench.curves.weight, bench.curves.share
    # The level is the event-weighted mean of the log hazard.
    bases = basis[None] - np.einsum("cj,jm->cm", share, basis)[:, None, :]
    root = np.sqrt(np.einsum("cj,cjm->cm", weight, bases**2))
    model = pm.modelcontext(None)
    model.add_coord("component", np.arange(kind.functions))
    lower, upper = np.log(kind.length_scale)
    middle, spread = (lower + upper) / 2.0, (upper - lower) / (2.0 * 1.959963984540054)
    bench.known("length_scale", (curve,), lambda rng, size: rng.lognormal(middle, spread, size))
    prior = pm.Data("length_prior", np.array([middle, spread]))
    length = pm.LogNormal("length_scale", prior[0], prior[1], dims=curve)[:, None]
    process_sd = bench.spread("process_sd", kind.change, dims=(curve,))
    squared = pm.Data("squared_frequency", frequency**2)
    density = matern_density(length, squared)
    roots = pm.Data("process_root", root)
    sd = process_sd[:, None] * pt.sqrt(density) * roots
    weights = adapted("process_innovation", sd, likely=0.0, dims=(curve, "component")) / roots
    return BatchedMatrixVector()(pm.Data("basis", bases), weights)
