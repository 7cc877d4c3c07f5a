"""External patients whose hazards may differ from the current ones, as PyMC variables.

Each function adds its free variables to the model that is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    FittedCurves,
    Steps,
    baseline_curves,
    prior_sds,
    profiled,
    steps,
)
from bayesblina.hazards.components import Workbench, adapted, walk_of_known_sd
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, indicators
from bayesblina.hazards.parts import (
    Commensurate,
    Differing,
    Mixture,
    Part,
    RandomWalk,
    RobustMixture,
)
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
    if not design.sources or not isinstance(kind, Differing):
        return ()
    present = {
        "baseline": True,
        "shape": person_time.table.sizes["interval"] > 1,
        "phases": bool(design.effects),
        "covariates": bool(design.term_names),
    }
    return tuple(part for part in DIFFERENCES if part in kind.covers and present[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What external patients' log hazards differ by.

    `by_course`, shape (endpoint, block, stratum, interval): log baseline hazards of current
    patients, who come first, and of each source at their level; None where all have those of the
    current ones.
    `by_state`, shape (endpoint, block, state): differences of phases' log hazard ratios.
    `by_pattern`, shape (endpoint, pattern): differences of the level and of covariates' log hazard
    ratios, 0 for current patients.
    `parts`: parts in which they differ.
    """

    by_course: Any = None
    by_state: Any = None
    by_pattern: Any = None
    parts: tuple[Part, ...] = ()


def source_part(bench: Workbench, baseline: Any, ratio: Any, slope: Any) -> Sources:
    """Add hazards of external patients that may differ from those of the current ones.

    `baseline`, shape (endpoint, stratum, interval): log baseline hazards of the current patients.
    `ratio`, shape (endpoint, effect): their log hazard ratios of phases.
    `slope`, shape (endpoint, term): their log hazard ratios of covariates.
    """
    definition, design, model = bench.definition, bench.design, pm.modelcontext(None)
    parts = source_parts(definition, bench.person_time, design)
    if not parts:
        return Sources()
    model.add_coord("source", list(design.sources))
    count, sds = len(design.sources), prior_sds(definition, design)
    # (source, pattern)
    member = indicators(count + 1, design.source_of)[1:]
    curves = [
        baseline_curves(bench.person_time, design, prior_sd=sds, source=source)
        for source in range(1, count + 1)
    ]
    about = _about(bench, curves)
    by_course, by_state, by_pattern = None, None, None
    if {"baseline", "shape"} & {*parts}:
        # Levels are compared over the current patients' events.
        share = bench.curves.share
        weights = share.reshape(bench.endpoints, -1, share.shape[1])
        at_events = pm.Data("source_centre", weights) * baseline
        by_course = _courses(bench, curves, baseline, at_events) if "shape" in parts else None
    if "baseline" in parts:
        level = at_events.sum(axis=2).mean(axis=1)
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
    return Sources(by_course=by_course, by_state=by_state, by_pattern=by_pattern, parts=parts)


def _courses(
    bench: Workbench, curves: Sequence[FittedCurves], baseline: Any, at_events: Any
) -> Any:
    """Give each source a walk of its own, of the same prior as the current patients'.

    `at_events`, shape (endpoint, stratum, interval): the current patients' log baseline hazards by
    their shares of events, over which all walks have mean 0.
    Result, shape (endpoint, block, stratum, interval): the current patients' courses come first.
    """
    design, kind, model = bench.design, bench.definition.baseline, pm.modelcontext(None)
    assert isinstance(kind, RandomWalk)
    walks = [
        steps(own.weight, own.adjusted, sd=kind.step.sd, centre=bench.curves.weight)
        for own in curves
    ]

    def by_curve(name: str) -> Floats:
        """Curves of an endpoint by source, then by stratum."""
        values = np.stack([getattr(walk, name) for walk in walks])
        split = values.reshape(len(walks), bench.endpoints, -1, *values.shape[2:])
        return split.swapaxes(0, 1).reshape(-1, *values.shape[2:])

    labels = [
        f"{endpoint}, {source}" + (f", {stratum}" if stratum else "")
        for endpoint in bench.person_time.endpoints
        for source in design.sources
        for stratum in design.strata
    ]
    model.add_coord("source_curve", labels)
    walk = Steps(**{item.name: by_curve(item.name) for item in fields(Steps)})
    own = walk_of_known_sd("source_", walk, dims=("source_curve", "component"))
    lengths = model.dim_lengths
    shape = (lengths["endpoint"], lengths["source"], baseline.shape[1], lengths["interval"])
    courses = at_events.sum(axis=2, keepdims=True)[:, None] + own.reshape(shape)
    away, strata = courses - baseline[:, None], ("stratum",) if len(design.strata) > 1 else ()
    pm.Deterministic(
        "source_shape",
        away if strata else away[:, :, 0],
        dims=("endpoint", "source", *strata, "interval"),
    )
    return pt.concatenate([baseline[:, None], courses], axis=1)


def _about(bench: Workbench, curves: Sequence[FittedCurves]) -> dict[Part, tuple[Floats, Floats]]:
    """Where the external patients' own level and ratios are, about, and roots of the information.

    For coordinates only. Of each part both have the shape (endpoint, source, ...).
    """
    design, table, share = bench.design, bench.person_time.table, bench.curves.share
    reference = np.repeat(design.contrast.sum(axis=1) == 0.0, design.terms.shape[0])
    shape, phases = (bench.endpoints, len(curves)), len(design.effects)
    loose = np.full(phases + len(design.term_names), LOOSE)
    level, level_root = np.zeros(shape), np.zeros(shape)
    ratio, root = np.zeros((*shape, loose.size)), np.zeros((*shape, loose.size))
    for source, own in enumerate(curves):
        mean = (share * (own.crude + own.level_centre[:, None])).sum(axis=1)
        level[:, source] = mean.reshape(bench.endpoints, -1).mean(axis=1)
        events, time = (
            (table[name].values * (design.source_of == source + 1))
            .reshape(bench.endpoints, share.shape[1], -1)
            .astype(np.float64)
            for name in ("events", "person_time")
        )
        for endpoint, cells in enumerate(zip(events, time, strict=True)):
            level_root[endpoint, source] = np.sqrt(cells[0][:, reference].sum() + PSEUDO_EVENTS)
            ratio[endpoint, source], curvature = profiled(*cells, design.by_cell, loose)
            precision = 1.0 / np.diag(np.linalg.inv(curvature)) - 1.0 / LOOSE**2
            root[endpoint, source] = np.sqrt(np.maximum(precision, 0.0) + PSEUDO_EVENTS)
    return {
        "baseline": (level, level_root),
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
    own, root = (
        pm.Data(f"{name}_{word}", values)
        for word, values in zip(("told", "root"), about[part], strict=True)
    )
    likely = own - current
    if isinstance(kind, Commensurate):
        spread = bench.spread(f"{name}_sd", kind.prior_of(part), dims=("endpoint",))
        sd = spread.reshape((-1, *([1] * (len(dims) - 1)))) * root
        effect = adapted(f"{name}_innovation", sd, likely=likely * root, dims=dims) / root
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
