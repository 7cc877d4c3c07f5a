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

from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    baseline_curves,
    prior_sds,
    profiled,
    steps,
)
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design
from bayesblina.hazards.ops import BatchedMatrixVector
from bayesblina.hazards.parts import Commensurate, Mixture, Part, RandomWalk, RobustMixture
from bayesblina.hazards.workbench import Workbench, adapted
from bayesblina.person_time.cells import PersonTime

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
    definition: ModelDefinition, person_time: PersonTime, design: Design
) -> tuple[Part, ...]:
    """Parts in which external patients differ in a model of these data.

    The parts, in the order of `DIFFERENCES`; those of which the data have nothing are left out.
    """
    kind = definition.borrowing
    if not design.sources or not isinstance(kind, Commensurate | RobustMixture):
        return ()
    there = {
        "baseline": True,
        "shape": person_time.table.sizes["interval"] > 1,
        "phases": bool(design.effects),
        "covariates": bool(design.term_names),
    }
    return tuple(part for part in DIFFERENCES if part in kind.covers and there[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What external patients' log hazards differ by.

    `by_course`, shape (endpoint, block, stratum, interval): log baseline hazards of current
    patients, who come first, and of each source at their level; None where all have those of the
    current ones.
    `by_state`, shape (endpoint, block, state): differences of phases' log hazard ratios.
    `by_pattern`, shape (endpoint, pattern): differences of the level and of covariates' log hazard
    ratios, 0 for current patients.
    """

    by_course: Any
    by_state: Any
    by_pattern: Any


def source_part(bench: Workbench, baseline: Any, ratio: Any, slope: Any) -> Sources:
    """Add hazards of external patients that may differ from those of the current ones.

    `baseline`, shape (endpoint, stratum, interval): log baseline hazards of the current patients.
    `ratio`, shape (endpoint, effect): their log hazard ratios of phases.
    `slope`, shape (endpoint, term): their log hazard ratios of covariates.
    """
    definition, design = bench.definition, bench.design
    parts = source_parts(definition, bench.person_time, design)
    if not parts:
        return Sources(by_course=None, by_state=None, by_pattern=None)
    model = pm.modelcontext(None)
    model.add_coord("source", list(design.sources))
    count = len(design.sources)
    # (source, pattern)
    member = (np.arange(count)[:, None] + 1 == design.source_of).astype(np.float64)
    about = _about(bench)
    by_course = _shapes(bench, baseline) if "shape" in parts else None
    by_state, by_pattern = None, None
    if "baseline" in parts:
        level = (_current_share(bench) * baseline).sum(axis=2).mean(axis=1)
        effect = _differences(bench, "baseline", about, level[:, None])
        by_pattern = bench.times("source_members", member.T, effect)
    if "phases" in parts:
        effect = _differences(bench, "phases", about, ratio[:, None, :])
        # Current patients come first, and have no differences.
        spread: Floats = np.kron(np.eye(count + 1)[:, 1:], design.contrast).astype(np.float64)
        lengths = model.dim_lengths
        shape = (lengths["endpoint"], lengths["source"] + 1, lengths["phase"])
        by_state = bench.times("source_contrast", spread, effect.flatten(2)).reshape(shape)
    if "covariates" in parts:
        effect = _differences(bench, "covariates", about, slope[:, None, :])
        # Terms of external patterns, source by source.
        terms = (member.T[:, :, None] * design.terms[:, None, :]).reshape(member.shape[1], -1)
        slopes = bench.times("source_terms", terms, effect.flatten(2))
        by_pattern = slopes if by_pattern is None else by_pattern + slopes
    return Sources(by_course=by_course, by_state=by_state, by_pattern=by_pattern)


def _shapes(bench: Workbench, baseline: Any) -> Any:
    """Give each source a walk of its own, of the same prior as the current patients'."""
    design, kind = bench.design, bench.definition.baseline
    assert isinstance(kind, RandomWalk)
    model = pm.modelcontext(None)
    # All walks have mean 0 over the current patients' events: levels are compared there.
    centre, sd = bench.curves.weight, prior_sds(bench.definition, design)
    walks = []
    for source in range(1, len(design.sources) + 1):
        own = baseline_curves(bench.person_time, design, prior_sd=sd, source=source)
        walks.append(steps(own.weight, own.adjusted, sd=kind.step.sd, centre=centre))

    def by_curve(name: str) -> Floats:
        """Curves of an endpoint by source, then by stratum."""
        split = [
            values.reshape(bench.endpoints, -1, *values.shape[1:])
            for walk in walks
            for values in [getattr(walk, name)]
        ]
        stacked = np.stack(split, axis=1)
        return np.asarray(stacked.reshape(-1, *stacked.shape[3:]))

    strata = [f", {label}" if label else "" for label in design.strata]
    model.add_coord(
        "source_curve",
        [
            f"{endpoint}, {source}{stratum}"
            for endpoint in bench.person_time.endpoints
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
    level = (_current_share(bench) * baseline).sum(axis=2, keepdims=True)
    courses = level[:, None] + own
    shape = courses - baseline[:, None]
    if len(design.strata) > 1:
        pm.Deterministic("source_shape", shape, dims=("endpoint", "source", "stratum", "interval"))
    else:
        pm.Deterministic("source_shape", shape[:, :, 0], dims=("endpoint", "source", "interval"))
    return pt.concatenate([baseline[:, None], courses], axis=1)


def _current_share(bench: Workbench) -> Any:
    """Shares of the current patients' events, shape (endpoint, stratum, interval)."""
    model = pm.modelcontext(None)
    if "source_centre" not in model.named_vars:
        share = bench.curves.share
        pm.Data("source_centre", share.reshape(bench.endpoints, -1, share.shape[1]))
    return model["source_centre"]


def _about(bench: Workbench) -> dict[Part, tuple[Floats, Floats]]:
    """Where the external patients' own level and ratios are, about, and roots of the information.

    For coordinates only. Of each part both have the shape (endpoint, source, ...).
    """
    definition, design, table = bench.definition, bench.design, bench.person_time.table
    reference = np.repeat(design.contrast.sum(axis=1) == 0.0, design.terms.shape[0])
    sds, share = prior_sds(definition, design), bench.curves.share
    values = {
        name: table[name].transpose("endpoint", "interval", "phase", "pattern").values
        for name in ("events", "person_time")
    }
    shape = (len(design.sources), bench.endpoints)
    level, level_root = np.zeros(shape), np.zeros(shape)
    ratio, root = np.zeros((*shape, sds.size)), np.zeros((*shape, sds.size))
    for source in range(shape[0]):
        member = design.source_of == source + 1
        curves = baseline_curves(bench.person_time, design, prior_sd=sds, source=source + 1)
        mean = (share * (curves.crude + curves.level_centre[:, None])).sum(axis=1)
        level[source] = mean.reshape(bench.endpoints, -1).mean(axis=1)
        for index in range(shape[1]):
            events, time = (
                (cells[index] * member).reshape(share.shape[1], -1).astype(np.float64)
                for cells in values.values()
            )
            level_root[source, index] = np.sqrt(events[:, reference].sum() + PSEUDO_EVENTS)
            if not sds.size:
                continue
            loose = np.full(sds.size, LOOSE)
            estimate, curvature = profiled(events, time, design.by_cell, loose)
            precision = 1.0 / np.diag(np.linalg.inv(curvature)) - 1.0 / LOOSE**2
            ratio[source, index] = estimate
            root[source, index] = np.sqrt(np.maximum(precision, 0.0) + PSEUDO_EVENTS)
    phases = len(design.effects)
    ratio, root = np.swapaxes(ratio, 0, 1), np.swapaxes(root, 0, 1)
    return {
        "baseline": (level.T, level_root.T),
        "phases": (ratio[..., :phases], root[..., :phases]),
        "covariates": (ratio[..., phases:], root[..., phases:]),
    }


def _differences(
    bench: Workbench, part: Part, about: dict[Part, tuple[Floats, Floats]], current: Any
) -> Any:
    """Add the differences of a part, in coordinates in which the current value is no part of them.

    External patients tell their own level or ratio: the difference, given the current one, is
    likely near what they tell less that. The change of coordinates is exact, whatever they tell.
    """
    name, kind = DIFFERENCES[part], bench.definition.borrowing
    last: dict[Part, tuple[str, ...]] = {"phases": ("effect",), "covariates": ("term",)}
    dims = ("endpoint", "source", *last.get(part, ()))
    told = pm.Data(f"{name}_told", about[part][0])
    root = pm.Data(f"{name}_root", about[part][1])
    if isinstance(kind, Commensurate):
        spread = bench.spread(f"{name}_sd", kind.prior_of(part), dims=("endpoint",))
        wide = spread.reshape((-1, *([1] * (len(dims) - 1))))
        likely = (told - current) * root
        effect = adapted(f"{name}_innovation", wide * root, likely=likely, dims=dims) / root
        return pm.Deterministic(name, effect, dims=dims)
    assert isinstance(kind, RobustMixture)
    share, means, sds = mixture_of(kind.prior_of(part))
    weights, middle, width = (
        pm.Data(f"{name}_{word}", values)
        for word, values in (("share", share), ("mean", means), ("sd", sds))
    )

    def draw(rng: np.random.Generator, size: Sequence[int]) -> Floats:
        component = rng.choice(2, size=tuple(size), p=share)
        return np.asarray(rng.normal(means[component], sds[component]))

    bench.known(name, dims, draw)
    likely = told - current
    innovation = pm.NormalMixture(
        f"{name}_innovation",
        w=weights,
        mu=(middle - likely[..., None]) * root[..., None],
        sigma=width * root[..., None],
        dims=dims,
    )
    return pm.Deterministic(name, likely + innovation / root, dims=dims)


def mixture_of(prior: Mixture) -> tuple[Floats, Floats, Floats]:
    """Weights, means and sds of a mixture's close and far part.

    Result: `weights`, `means`, `sds`, shape (2,): the close part first.
    """
    return (
        np.array([prior.probability, 1.0 - prior.probability]),
        np.array([prior.close.mean, prior.apart.mean]),
        np.array([prior.close.sd, prior.apart.sd]),
    )
