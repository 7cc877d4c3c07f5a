"""What the parts of a model are made with, as PyMC variables of the model that is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import (
    FittedCurves,
)
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design
from bayesblina.hazards.ops import BatchedMatrixVector
from bayesblina.hazards.priors import NormalPrior, SpreadPrior
from bayesblina.person_time.cells import PersonTime

# Draws a parameter from its prior: takes a generator and the number of draws.
Sampler = Callable[[np.random.Generator, int], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What the parts of one model are made from, and what they leave behind.

    `definition`, `person_time`, `design`, `curves`: the model, the data and what was worked out
    from them.
    `curve`: name of the dimension of baseline curves: ``"endpoint"``, or ``"curve"`` with strata.
    `priors`: of parameters with a meaning of their own: dimensions and a sampler of the prior.
    `start`: where chains start, for variables that should not start near 0.
    """

    definition: ModelDefinition
    person_time: PersonTime
    design: Design
    curves: FittedCurves
    curve: str
    priors: dict[str, tuple[tuple[str, ...], Sampler]] = field(default_factory=dict)
    start: dict[str, Floats] = field(default_factory=dict)

    @property
    def endpoints(self) -> int:
        """Number of endpoints."""
        return len(self.person_time.endpoints)

    def normal(
        self, name: str, prior: NormalPrior, *, dims: tuple[str, ...], unit: float = 1.0
    ) -> Any:
        """Add a normal variable whose prior is stated for `unit` times it."""
        values = self.normal_prior(name, prior, dims=dims, unit=unit)
        return pm.Normal(name, values[0], values[1], dims=dims)

    def normal_prior(
        self, name: str, prior: NormalPrior, *, dims: tuple[str, ...], unit: float = 1.0
    ) -> Any:
        """Record a normal prior of a parameter; its mean and sd as data."""
        mean, sd = prior.mean / unit, prior.sd / unit
        self.known(name, dims, lambda rng, size: rng.normal(mean, sd, size))
        return pm.Data(f"{name}_prior", np.array([mean, sd]))

    def spread(self, name: str, prior: SpreadPrior, *, dims: tuple[str, ...]) -> Any:
        """Add the sd of a spread, or its known value."""
        scale = prior.scale
        values = pm.Data(f"{name}_prior", np.full(self.sizes(dims), scale))
        if prior.known:
            return values
        self.known(name, dims, lambda rng, size: np.abs(rng.normal(0.0, scale, size)))
        return pm.HalfNormal(name, values, dims=dims)

    def times(self, name: str, matrix: Floats, vector: Any, *, transposed: bool = False) -> Any:
        """Multiply each endpoint's vector with a matrix, which is data."""
        data = pm.Data(name, np.stack([matrix] * self.endpoints))
        return BatchedMatrixVector(transposed=transposed)(data, vector)

    def known(
        self, name: str, dims: tuple[str, ...], draw: Callable[[np.random.Generator, Any], Floats]
    ) -> None:
        """Record how to draw a parameter from its prior."""
        shape = self.sizes(dims)
        self.priors[name] = (dims, lambda rng, count: draw(rng, (count, *shape)))

    def sizes(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        """Lengths of dimensions of the model that is open."""
        coords = pm.modelcontext(None).coords
        return tuple(len(coords[dim]) for dim in dims)


def adapted(name: str, sd: Any, *, likely: Any, mean: Any = 0.0, dims: tuple[str, ...]) -> Any:
    """Add variables with ``Normal(mean, sd)`` priors in coordinates that suit the data.

    `sd`: prior sds in units in which the likelihood has an sd of about 1.
    `likely`: where the likelihood is, about; only the sampler's speed depends on it.
    """
    wide = pt.sqrt(1.0 + sd**2)
    shrink = sd / wide
    away = likely - mean
    innovation = pm.Normal(name, -away * shrink, wide, dims=dims)
    return mean + shrink * (shrink * away + innovation)
