"""External patients whose hazards may differ from the current ones, as PyMC variables.

Each function adds its free variables to the model that is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from bayesblina.hazards.baseline import PSEUDO_EVENTS
from bayesblina.hazards.components import Workbench, adapted
from bayesblina.hazards.definition import (
    Commensurate,
    Mixture,
    ModelDefinition,
    Part,
    RobustMixture,
    SpreadPrior,
)
from bayesblina.hazards.effects import Design
from bayesblina.hazards.ops import BatchedMatrixVector

Floats = NDArray[np.float64]

# What is read off each part: the differences, over (endpoint, source, ...).
DIFFERENCES: dict[Part, str] = {
    "baseline": "source_effect",
    "phases": "source_phase_effect",
    "covariates": "source_coefficient",
}


def source_parts(definition: ModelDefinition, design: Design) -> tuple[Part, ...]:
    """Parts in which external patients differ in a model of these data.

    Parameters
    ----------
    definition, design
        The model and the design of the data.

    Returns
    -------
    tuple of str
        The parts, in the order of `DIFFERENCES`; those of which the data have nothing are left out.
    """
    kind = definition.borrowing
    if not design.sources or not isinstance(kind, Commensurate | RobustMixture):
        return ()
    there = {"baseline": True, "phases": bool(design.effects), "covariates": bool(design.term_names)}
    return tuple(part for part in DIFFERENCES if part in kind.covers and there[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What external patients' log hazards differ by.

    Attributes
    ----------
    by_state : tensor, shape (endpoint, block, state), or None
        Differences of phases' log hazard ratios, 0 for current patients, who come first.
    by_pattern : tensor, shape (endpoint, pattern), or None
        Differences of the level and of covariates' log hazard ratios, 0 for current patients.
    """

    by_state: Any
    by_pattern: Any


def source_part(bench: Workbench) -> Sources:
    """Add hazards of external patients that may differ from those of the current ones.

    Parameters
    ----------
    bench
        The model's parts.

    Returns
    -------
    Sources
        The differences.
    """
    definition, design = bench.definition, bench.design
    parts = source_parts(definition, design)
    if not parts:
        return Sources(by_state=None, by_pattern=None)
    model = pm.modelcontext(None)
    model.add_coord("source", list(design.sources))
    counts = bench.exposure.table["events"].values.astype(np.float64)
    count = len(design.sources)
    # (source, pattern)
    member = (np.arange(count)[:, None] + 1 == design.source_of).astype(np.float64)
    by_state, by_pattern = None, None
    if "baseline" in parts:
        inside = np.einsum("ejkp,sp->es", counts, member)
        effect = _differences(bench, "baseline", inside, ("endpoint", "source"))
        members = pm.Data("source_members", np.stack([member.T] * bench.endpoints))
        by_pattern = BatchedMatrixVector()(members, effect)
    if "phases" in parts:
        inside = np.einsum("ejkp,ki,sp->esi", counts, design.contrast, member)
        effect = _differences(bench, "phases", inside, ("endpoint", "source", "effect"))
        # Current patients come first, and have no differences.
        spread = np.kron(np.eye(count + 1)[:, 1:], design.contrast)
        by_state = _spread_out("source_contrast", spread, effect, bench.endpoints)
        lengths = model.dim_lengths
        shape = (lengths["endpoint"], lengths["source"] + 1, lengths["phase"])
        by_state = by_state.reshape(shape)
    if "covariates" in parts:
        squares = design.terms**2
        inside = np.einsum("ejkp,pt,sp->est", counts, squares, member)
        effect = _differences(bench, "covariates", inside, ("endpoint", "source", "term"))
        spread = (member.T[:, :, None] * design.terms[:, None, :]).reshape(member.shape[1], -1)
        slopes = _spread_out("source_terms", spread, effect, bench.endpoints)
        by_pattern = slopes if by_pattern is None else by_pattern + slopes
    return Sources(by_state=by_state, by_pattern=by_pattern)


def _spread_out(name: str, matrix: Floats, effect: Any, endpoints: int) -> Any:
    """Multiply each endpoint's differences, source by source, with one matrix."""
    data = pm.Data(name, np.stack([matrix] * endpoints))
    return BatchedMatrixVector()(data, effect.reshape((effect.shape[0], -1)))


def _differences(bench: Workbench, part: Part, inside: Floats, dims: tuple[str, ...]) -> Any:
    """Add the differences of a part; `inside` is about their information."""
    name, kind = DIFFERENCES[part], bench.definition.borrowing
    if isinstance(kind, Commensurate):
        return _commensurate(bench, name, kind.prior_of(part), inside, dims)
    assert isinstance(kind, RobustMixture)
    return _mixture(bench, name, kind.prior_of(part), dims)


def _commensurate(
    bench: Workbench, name: str, prior: SpreadPrior, inside: Floats, dims: tuple[str, ...]
) -> Any:
    """Add normal differences of one estimated sd for each endpoint."""
    spread = bench.spread(f"{name}_sd", prior, dims=("endpoint",))
    root = pm.Data(f"{name}_root", np.sqrt(inside + PSEUDO_EVENTS))
    wide = spread.reshape((-1, *([1] * (len(dims) - 1))))
    effect = adapted(f"{name}_innovation", wide * root, likely=0.0, dims=dims) / root
    return pm.Deterministic(name, effect, dims=dims)


def _mixture(bench: Workbench, name: str, prior: Mixture, dims: tuple[str, ...]) -> Any:
    """Add differences of which each is, apart from the others, close or far."""
    share, means, sds = mixture_of(prior)
    data = (
        pm.Data(f"{name}_{word}", values)
        for word, values in (("share", share), ("mean", means), ("sd", sds))
    )
    weights, middle, width = data

    def draw(rng: np.random.Generator, size: Sequence[int]) -> Floats:
        place = rng.choice(2, size=tuple(size), p=share)
        return np.asarray(rng.normal(means[place], sds[place]))

    bench.known(name, dims, draw)
    return pm.NormalMixture(name, w=weights, mu=middle, sigma=width, dims=dims)


def mixture_of(prior: Mixture) -> tuple[Floats, Floats, Floats]:
    """Weights, means and sds of a mixture's close and far part.

    Parameters
    ----------
    prior
        The mixture.

    Returns
    -------
    weights, means, sds : ndarray, shape (2,)
        The close part first.
    """
    return (
        np.array([prior.probability, 1.0 - prior.probability]),
        np.array([prior.close.mean, prior.apart.mean]),
        np.array([prior.close.sd, prior.apart.sd]),
    )
