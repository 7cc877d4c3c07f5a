"""External patients whose hazards may differ from the current ones, as PyMC variables.

Each function adds its free variables to the model that is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray

from bayesblina.exposure import Exposure
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    baseline_curves,
    prior_sds,
    profiled,
    steps,
)
from bayesblina.hazards.components import Workbench, adapted
from bayesblina.hazards.definition import (
    Commensurate,
    Mixture,
    ModelDefinition,
    Part,
    RandomWalk,
    RobustMixture,
    SpreadPrior,
)
from bayesblina.hazards.effects import Design
from bayesblina.hazards.ops import BatchedMatrixVector

Floats = NDArray[np.float64]

# Ridge of differences where coordinates are sought.
LOOSE = 2.0
# What is read off each part: the differences, over (endpoint, source, ...).
DIFFERENCES: dict[Part, str] = {
    "baseline": "source_effect",
    "shape": "source_shape",
    "phases": "source_phase_effect",
    "covariates": "source_coefficient",
}


def source_parts(
    definition: ModelDefinition, exposure: Exposure, design: Design
) -> tuple[Part, ...]:
    """Parts in which external patients differ in a model of these data.

    Parameters
    ----------
    definition, exposure, design
        The model, the data and their design.

    Returns
    -------
    tuple of str
        The parts, in the order of `DIFFERENCES`; those of which the data have nothing are left out.
    """
    kind = definition.borrowing
    if not design.sources or not isinstance(kind, Commensurate | RobustMixture):
        return ()
    there = {
        "baseline": True,
        "shape": exposure.table.sizes["interval"] > 1,
        "phases": bool(design.effects),
        "covariates": bool(design.term_names),
    }
    return tuple(part for part in DIFFERENCES if part in kind.covers and there[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What external patients' log hazards differ by.

    Attributes
    ----------
    by_interval : tensor, shape (endpoint, block, stratum, interval), or None
        Differences of the course of the log hazard over time, 0 for current patients, who come
        first; over the current patients' events their mean is 0.
    by_state : tensor, shape (endpoint, block, state), or None
        Differences of phases' log hazard ratios.
    by_pattern : tensor, shape (endpoint, pattern), or None
        Differences of the level and of covariates' log hazard ratios, 0 for current patients.
    """

    by_interval: Any
    by_state: Any
    by_pattern: Any


def source_part(bench: Workbench, baseline: Any) -> Sources:
    """Add hazards of external patients that may differ from those of the current ones.

    Parameters
    ----------
    bench
        The model's parts.
    baseline : tensor, shape (endpoint, stratum, interval)
        Log baseline hazards of the current patients.

    Returns
    -------
    Sources
        The differences.
    """
    definition, design = bench.definition, bench.design
    parts = source_parts(definition, bench.exposure, design)
    if not parts:
        return Sources(by_interval=None, by_state=None, by_pattern=None)
    model = pm.modelcontext(None)
    model.add_coord("source", list(design.sources))
    count = len(design.sources)
    # (source, pattern)
    member = (np.arange(count)[:, None] + 1 == design.source_of).astype(np.float64)
    about = _about(bench, parts, member)
    by_interval = _shapes(bench, baseline) if "shape" in parts else None
    by_state, by_pattern = None, None
    if "baseline" in parts:
        effect = _differences(bench, "baseline", about, ("endpoint", "source"))
        members = pm.Data("source_members", np.stack([member.T] * bench.endpoints))
        by_pattern = BatchedMatrixVector()(members, effect)
    if "phases" in parts:
        effect = _differences(bench, "phases", about, ("endpoint", "source", "effect"))
        # Current patients come first, and have no differences.
        spread: Floats = np.kron(np.eye(count + 1)[:, 1:], design.contrast).astype(np.float64)
        by_state = _spread_out("source_contrast", spread, effect, bench.endpoints)
        lengths = model.dim_lengths
        shape = (lengths["endpoint"], lengths["source"] + 1, lengths["phase"])
        by_state = by_state.reshape(shape)
    if "covariates" in parts:
        effect = _differences(bench, "covariates", about, ("endpoint", "source", "term"))
        slopes = _spread_out("source_terms", _by_term(design, member), effect, bench.endpoints)
        by_pattern = slopes if by_pattern is None else by_pattern + slopes
    return Sources(by_interval=by_interval, by_state=by_state, by_pattern=by_pattern)


def _shapes(bench: Workbench, baseline: Any) -> Any:
    """Give each source a walk of its own, of the same prior as the current patients'."""
    design, kind = bench.design, bench.definition.baseline
    assert isinstance(kind, RandomWalk)
    model = pm.modelcontext(None)
    # All walks have mean 0 over the current patients' events: levels are compared there.
    centre = bench.curves.events.sum(axis=2) + PSEUDO_EVENTS
    found = []
    for place in range(len(design.sources)):
        own = baseline_curves(
            bench.exposure, design, prior_sd=prior_sds(bench.definition, design), source=place + 1
        )
        weight = own.events.sum(axis=2) + PSEUDO_EVENTS
        found.append(steps(weight, own.adjusted, sd=kind.step.sd, centre=centre))

    def by_curve(name: str) -> Floats:
        """Curves of an endpoint by source, then by stratum."""
        values = [getattr(one, name) for one in found]
        split = [one.reshape(bench.endpoints, -1, *one.shape[1:]) for one in values]
        stacked = np.stack(split, axis=1)
        return np.asarray(stacked.reshape(-1, *stacked.shape[3:]))

    strata = [f", {one}" if one else "" for one in design.strata]
    model.add_coord(
        "source_curve",
        [
            f"{endpoint}, {source}{stratum}"
            for endpoint in bench.exposure.endpoints
            for source in design.sources
            for stratum in strata
        ],
    )
    innovation = pm.Normal(
        "source_walk_innovation",
        pm.Data("source_walk_prior_mean", by_curve("prior_mean")),
        pm.Data("source_walk_prior_sd", by_curve("prior_sd")),
        dims=("source_curve", "component"),
    )
    basis = pm.Data("source_basis", by_curve("basis"))
    own = pm.Data("source_walk_offset", by_curve("likely")) + BatchedMatrixVector()(
        basis, innovation
    )
    lengths = model.dim_lengths
    endpoints, intervals = lengths["endpoint"], lengths["interval"]
    strata_count = baseline.shape[1]
    own = own.reshape((endpoints, lengths["source"], strata_count, intervals))
    share = pm.Data("source_centre", centre / centre.sum(axis=1, keepdims=True))
    share = share.reshape((endpoints, strata_count, intervals))
    walk = baseline - (share * baseline).sum(axis=2, keepdims=True)
    shape = own - walk[:, None]
    if len(design.strata) > 1:
        pm.Deterministic("source_shape", shape, dims=("endpoint", "source", "stratum", "interval"))
    else:
        pm.Deterministic("source_shape", shape[:, :, 0], dims=("endpoint", "source", "interval"))
    return pt.concatenate([pt.zeros_like(shape[:, :1]), shape], axis=1)


def _by_term(design: Design, member: Floats) -> Floats:
    """Terms of external patterns, source by source; shape (pattern, source x term)."""
    terms = member.T[:, :, None] * design.terms[:, None, :]
    return terms.reshape(member.shape[1], -1)


def _about(
    bench: Workbench, parts: Sequence[Part], member: Floats
) -> dict[Part, tuple[Floats, Floats]]:
    """Where differences are, about, and roots of their information; for coordinates only.

    Of each part both have the shape (endpoint, differences).
    """
    definition, design, table = bench.definition, bench.design, bench.exposure.table
    states, patterns = design.contrast.shape[0], member.shape[1]
    in_state = np.repeat(design.contrast, patterns, axis=0)
    external = np.tile(member.T, (states, 1))
    columns: dict[Part, Floats] = {
        "baseline": external,
        "phases": (external[:, :, None] * in_state[:, None, :]).reshape(external.shape[0], -1),
        "covariates": np.tile(_by_term(design, member), (states, 1)),
    }
    columns = {part: values for part, values in columns.items() if part in parts}
    if not columns:
        return {}
    shared = [in_state, np.tile(design.terms, (states, 1))]
    effects = np.concatenate([*shared, *columns.values()], axis=1)
    sds = prior_sds(definition, design).tolist()
    first = len(sds)
    sds += [LOOSE] * (effects.shape[1] - first)
    shape = (table.sizes["endpoint"], table.sizes["interval"], -1)
    events, time = (
        table[name].transpose("endpoint", "interval", "phase", "pattern").values.reshape(shape)
        for name in ("events", "exposure")
    )
    middle, root = [], []
    for counts, spent in zip(events.astype(np.float64), time, strict=True):
        parameter, curvature = profiled(counts, spent, effects, np.array(sds))
        precision = 1.0 / np.diag(np.linalg.inv(curvature)) - 1.0 / LOOSE**2
        middle.append(parameter[first:])
        root.append(np.sqrt(np.maximum(precision[first:], 0.0) + PSEUDO_EVENTS))
    sizes = np.cumsum([columns[part].shape[1] for part in columns])[:-1]
    pieces = (np.split(np.stack(values), sizes, axis=1) for values in (middle, root))
    return {part: both for part, *both in zip(columns, *pieces, strict=True)}


def _spread_out(name: str, matrix: Floats, effect: Any, endpoints: int) -> Any:
    """Multiply each endpoint's differences, source by source, with one matrix."""
    data = pm.Data(name, np.stack([matrix] * endpoints))
    return BatchedMatrixVector()(data, effect.reshape((effect.shape[0], -1)))


def _differences(
    bench: Workbench,
    part: Part,
    about: dict[Part, tuple[Floats, Floats]],
    dims: tuple[str, ...],
) -> Any:
    """Add the differences of a part."""
    name, kind = DIFFERENCES[part], bench.definition.borrowing
    if isinstance(kind, Commensurate):
        middle, root = (values.reshape(bench.sizes(dims)) for values in about[part])
        return _commensurate(bench, name, kind.prior_of(part), middle, root, dims=dims)
    assert isinstance(kind, RobustMixture)
    return _mixture(bench, name, kind.prior_of(part), dims)


def _commensurate(
    bench: Workbench,
    name: str,
    prior: SpreadPrior,
    middle: Floats,
    root: Floats,
    *,
    dims: tuple[str, ...],
) -> Any:
    """Add normal differences of one estimated sd for each endpoint."""
    spread = bench.spread(f"{name}_sd", prior, dims=("endpoint",))
    likely = pm.Data(f"{name}_likely", middle * root)
    unit = pm.Data(f"{name}_root", root)
    wide = spread.reshape((-1, *([1] * (len(dims) - 1))))
    effect = adapted(f"{name}_innovation", wide * unit, likely=likely, dims=dims) / unit
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
