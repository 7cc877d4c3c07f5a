"""The parts of a hazard model as PyMC variables: baseline, effects, groups, cures.

Each function adds its free variables to the model that is open and gives its part of the log
hazard. Every table, scale and size is data, so that models of one structure share one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import log, sqrt
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    FittedCurves,
    Steps,
    Walks,
    follow_up_end,
    matern_density,
    midpoints,
    steps,
    walks,
    walks_over_time,
    walks_since_entry,
)
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, indicators
from bayesblina.hazards.ops import BatchedMatrixVector
from bayesblina.hazards.parts import (
    Correlated,
    Free,
    GaussianProcess,
    PatientFrailty,
    PhasesBySubgroup,
    PhasesOverTime,
    PhasesSinceEntry,
    ProportionalPhases,
    RandomWalk,
    SiteFrailty,
    SmoothWalk,
    Weibull,
)
from bayesblina.hazards.priors import NormalPrior, SpreadPrior
from bayesblina.person_time.cells import PersonTime, tied_steps

# The basis of the Hilbert space reaches beyond the data by this factor.
BOUNDARY = 4.0
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
        mean, sd = self.normal_prior(name, prior, dims=dims, unit=unit)
        return pm.Normal(name, mean, sd, dims=dims)

    def normal_prior(
        self,
        name: str,
        prior: NormalPrior,
        *,
        dims: tuple[str, ...],
        unit: float = 1.0,
        about: Floats | float = 0.0,
    ) -> tuple[Any, Any]:
        """Record a normal prior of a parameter's distance from `about`; its mean and sd as data."""
        mean, sd = prior.mean / unit, prior.sd / unit
        self.known(name, dims, lambda rng, size: about + rng.normal(mean, sd, size))
        values = pm.Data(f"{name}_prior", np.array([mean, sd]))
        return values[0], values[1]

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
        matrices = pm.Data(name, np.stack([matrix] * self.endpoints))
        return BatchedMatrixVector(transposed=transposed)(matrices, vector)

    def known(
        self, name: str, dims: tuple[str, ...], draw: Callable[[np.random.Generator, Any], Floats]
    ) -> None:
        """Record how to draw a parameter from its prior."""
        shape = self.sizes(dims)
        self.priors[name] = (dims, lambda rng, count: draw(rng, (count, *shape)))

    def sizes(self, dims: tuple[str, ...]) -> tuple[int, ...]:
        """Lengths of dimensions of the model that is open."""
        return tuple(len(pm.modelcontext(None).coords[dim]) for dim in dims)


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


def baseline_part(bench: Workbench) -> Any:
    """Add the baseline: log hazards over (curve, interval)."""
    kind, curve, centre = bench.definition.baseline, bench.curve, bench.curves.level_centre
    if isinstance(kind, Free):
        raise SpecError(
            f"Model '{bench.definition.name}' has no density of baselines to sample from: its "
            "draws are made by fit, from the partial likelihood."
        )
    bench.start["level"] = centre
    mean, sd = bench.normal_prior("level", kind.level, dims=(curve,), about=centre)
    about = pm.Data("level_centre", centre, dims=curve) + mean
    level = pm.Normal("level", about, sd, dims=curve)[:, None]
    if bench.person_time.table.sizes["interval"] == 1:
        return level + pt.zeros((1, 1))
    match kind:
        case RandomWalk():
            return level + _random_walk(bench, kind)
        case GaussianProcess():
            return level + _gaussian_process(bench, kind)
        case SmoothWalk() | Weibull():
            return level + _curve_walk(bench, kind)


def _random_walk(bench: Workbench, kind: RandomWalk) -> Any:
    curves = bench.curves
    curve, weight, time = bench.curve, curves.weight, curves.adjusted
    if kind.shared:
        # What all endpoints share has a dimension of length 1.
        curve = "shape"
        pm.modelcontext(None).add_coord(curve, ["shared"])
        weight = weight.sum(axis=0, keepdims=True)
        time = (time * np.exp(curves.level_centre)[:, None]).sum(axis=0, keepdims=True)
    tied = None if kind.shared else tied_steps(bench.person_time, len(bench.design.strata))
    walk = steps(weight, time, sd=kind.step.sd, tied=tied)
    pm.modelcontext(None).add_coord("component", np.arange(walk.basis.shape[2]))
    shape = walk_of_known_sd("", walk, dims=(curve, "component"))
    # What is shared has one row, which the compiler must know.
    return shape[0][None, :] if kind.shared else shape


def walk_of_known_sd(prefix: str, walk: Steps, *, dims: tuple[str, str]) -> Any:
    """Add walks of known step sd: deviations are an affine function of independent normals."""
    innovation = pm.Normal(
        f"{prefix}walk_innovation",
        pm.Data(f"{prefix}walk_prior_mean", walk.prior_mean),
        pm.Data(f"{prefix}walk_prior_sd", walk.prior_sd),
        dims=dims,
    )
    moved = BatchedMatrixVector()(pm.Data(f"{prefix}basis", walk.basis), innovation)
    return pm.Data(f"{prefix}walk_offset", walk.likely) + moved


def _curve_walk(bench: Workbench, kind: SmoothWalk | Weibull) -> Any:
    curves, curve = bench.curves, bench.curve
    order = kind.order if isinstance(kind, SmoothWalk) else 1
    # Crude rates fade as the cured remain; the hazard of the others does not.
    likely = curves.crude if bench.definition.cure is None else 0.0
    walk = walks(curves.clock, curves.weight, likely, order=order)
    shape, mean = 0.0, 0.0
    if isinstance(kind, Weibull):
        # The walk's coefficients are those of the line in log time, and departures from it.
        slope = bench.normal("slope", kind.doubling, dims=(curve,), unit=log(2.0))
        line = walk.coefficients(np.broadcast_to(_log_times(bench.person_time), walk.weight.shape))
        mean = slope[:, None] * pm.Data("line_coefficient", line)
    elif kind.slope is not None:
        slope = bench.normal("slope", kind.slope, dims=(curve,))
        shape = slope[:, None] * pm.Data("line", walk.line)
    if not walk.centre.shape[1]:
        return shape
    centre, dims = pm.Data("walk_centre", walk.centre), (curve, "component")
    return shape + _walk_of_spread(
        bench, "", kind.change, walk, likely=centre, mean=mean, dims=dims
    )


def _walk_of_spread(
    bench: Workbench,
    prefix: str,
    prior: SpreadPrior,
    walk: Walks,
    *,
    dims: tuple[str, str],
    likely: Any = 0.0,
    mean: Any = 0.0,
) -> Any:
    """Add walks whose sd has a prior: deviations, shape (curve, interval or piece)."""
    pm.modelcontext(None).add_coord(dims[1], np.arange(walk.centre.shape[1]))
    walk_sd = bench.spread(f"{prefix}walk_sd", prior, dims=dims[:1])
    sd = walk_sd[:, None] * pm.Data(f"{prefix}inverse_roughness", walk.inverse_roughness)
    coefficient = adapted(f"{prefix or 'walk_'}innovation", sd, likely=likely, mean=mean, dims=dims)
    return BatchedMatrixVector()(pm.Data(f"{prefix}basis", walk.basis), coefficient)


def _log_times(person_time: PersonTime) -> Floats:
    """Logarithms of the intervals' midpoints."""
    start = person_time.table["interval_start"].values
    return np.log(midpoints(start, follow_up_end(person_time)))


def _gaussian_process(bench: Workbench, kind: GaussianProcess) -> Any:
    curve, times = bench.curve, _log_times(bench.person_time)
    half = (times[-1] - times[0]) / 2.0
    position = (times - times.mean() if half == 0 else times - times[0] - half) / (half or 1.0)
    frequency = np.arange(1, kind.functions + 1) * np.pi / (2.0 * BOUNDARY)
    basis = np.sin(frequency * (position[:, None] + BOUNDARY)) / sqrt(BOUNDARY)
    # The level is the event-weighted mean of the log hazard.
    bases = basis[None] - np.einsum("cj,jm->cm", bench.curves.share, basis)[:, None, :]
    information = np.einsum("cj,cjm->cm", bench.curves.weight, bases**2)
    pm.modelcontext(None).add_coord("component", np.arange(kind.functions))
    lower, upper = np.log(kind.length_scale)
    middle, spread = (lower + upper) / 2.0, (upper - lower) / (2.0 * 1.959963984540054)
    bench.known("length_scale", (curve,), lambda rng, size: rng.lognormal(middle, spread, size))
    prior = pm.Data("length_prior", np.array([middle, spread]))
    length = pm.LogNormal("length_scale", prior[0], prior[1], dims=curve)[:, None]
    process_sd = bench.spread("process_sd", kind.change, dims=(curve,))
    density = matern_density(length, pm.Data("squared_frequency", frequency**2))
    root = pm.Data("process_root", np.sqrt(information))
    sd = process_sd[:, None] * pt.sqrt(density) * root
    weights = adapted("process_innovation", sd, likely=0.0, dims=(curve, "component")) / root
    return BatchedMatrixVector()(pm.Data("basis", bases), weights)


def effects_part(bench: Workbench) -> Any:
    """Add the log hazard ratios of the phases that have an effect, (endpoint, effect).

    That of the exposed phase is the average one where its effect varies.
    """
    prior, dims = bench.definition.phases.prior, ("endpoint", "effect")
    kind, names = bench.definition.endpoints, bench.person_time.endpoints
    if not isinstance(kind, Correlated) or len(names) < 2:
        return bench.normal("log_hazard_ratio", prior, dims=dims)
    pairs = list(combinations(range(len(names)), 2))
    pm.modelcontext(None).add_coord("pair", [f"{names[i]}, {names[j]}" for i, j in pairs])
    # Partial correlations given all endpoints before; Lewandowski, Kurowicka and Joe (2009),
    # doi:10.1016/j.jmva.2009.04.008.
    shapes = [kind.concentration + (len(names) - 2 - i) / 2.0 for i, _ in pairs]
    shape = pm.Data("correlation_prior", np.array(shapes))
    share = pm.Beta("partial_correlation_share", shape, shape, dims="pair")
    partial = {pair: 2.0 * share[index] - 1.0 for index, pair in enumerate(pairs)}
    rows: list[list[Any]] = []
    for j in range(len(names)):
        row, rest = [], pt.as_tensor_variable(np.float64(1.0))
        for i in range(j):
            row.append(partial[i, j] * pt.sqrt(rest))
            rest = rest * (1.0 - partial[i, j] ** 2)
        row.append(pt.sqrt(rest))
        rows.append(row)
    mean, sd = bench.normal_prior("log_hazard_ratio", prior, dims=dims)
    standard = pm.Normal("log_hazard_ratio_standard", 0.0, 1.0, dims=dims)
    mixed = [sum(part * standard[i] for i, part in enumerate(row)) for row in rows]
    correlation = [
        sum(left * right for left, right in zip(rows[i], rows[j], strict=False)) for i, j in pairs
    ]
    pm.Deterministic("correlation", pt.stack(correlation), dims="pair")
    return pm.Deterministic("log_hazard_ratio", mean + sd * pt.stack(mixed), dims=dims)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Others:
    """The log hazard without the effects that are added next, in three parts.

    `baseline`, shape (endpoint, stratum, interval): log baselines.
    `by_phase`, shape (endpoint, state): log hazard ratios of the states; average ones of the
    exposed phase.
    `pattern`, shape (endpoint, pattern): log hazard ratios of covariates.
    """

    baseline: Any
    by_phase: Any
    pattern: Any


def _effects_of(
    bench: Workbench,
    name: str,
    prior: SpreadPrior,
    others: Others,
    *,
    labels: Sequence[str],
    member_of: Ints,
    states: Floats,
) -> Any:
    """Add ``Normal(0, sd)`` effects on the log hazards of groups of patterns.

    The data tell an effect given all others about as the log of events over expected events. How
    these others move it is linear in them to first order, so that coordinates about it are close to
    independent of them: of the level above all, which many effects would move together.

    `name`: of the groups' dimension; coordinates and data begin with it.
    `prior`: of the effects' sd.
    `labels`, `member_of`, shape (pattern,): the groups, and the group of each pattern.
    `states`, shape (state,): 1 for the states in which an effect acts.
    Result, shape (endpoint, group): the effects.
    """
    pm.modelcontext(None).add_coord(name, list(labels))
    spread = bench.spread(f"{name}_sd", prior, dims=("endpoint",))
    curves, member = bench.curves, indicators(len(labels), member_of)
    strata, stratum = len(bench.design.strata), bench.design.stratum_of
    events, time = (
        bench.person_time.table[counts].values * states[:, None]
        for counts in ("events", "person_time")
    )
    # Log hazards in the reference state at mean covariates, about.
    rates = (curves.level_centre[:, None] + curves.crude).reshape(bench.endpoints, strata, -1)
    likely = time * np.exp(rates[:, stratum].transpose(0, 2, 1))[:, :, None]
    happened, expected = (counts.sum(axis=(1, 2)) @ member.T for counts in (events, likely))
    # Where nothing happened the time at risk says where it would have.
    ahead = np.divide(PSEUDO_EVENTS, expected, out=np.zeros_like(expected), where=expected > 0)
    total = (happened + PSEUDO_EVENTS)[:, :, None]

    def shares(summed: Callable[[Floats], Floats]) -> Floats:
        """Average over a group's events: by what is left of (endpoint, group, ...)."""
        return (summed(events) + ahead[:, :, None] * summed(likely)) / total

    inside = (np.arange(strata)[:, None] == stratum).astype(np.float64)
    by_rate = shares(
        lambda counts: np.concatenate(
            [np.einsum("ejp,gp->egj", counts.sum(axis=2), member * here) for here in inside], axis=2
        )
    )
    by_state = shares(lambda counts: np.einsum("ekp,gp->egk", counts.sum(axis=1), member))
    by_pattern = shares(lambda counts: counts.sum(axis=(1, 2))[:, None] * member)
    usual = np.log((happened + PSEUDO_EVENTS) / (expected + PSEUDO_EVENTS))
    usual += np.einsum("egr,er->eg", by_rate, rates.reshape(bench.endpoints, -1))
    moved = sum(
        BatchedMatrixVector()(pm.Data(f"{name}_{part}_share", weights), values)
        for part, weights, values in (
            # No size may stand in the graph, which serves any number of endpoints.
            ("baseline", by_rate, others.baseline.flatten(2)),
            ("phase", by_state, others.by_phase),
            ("pattern", by_pattern, others.pattern),
        )
    )
    root = pm.Data(f"{name}_root", np.sqrt(happened + PSEUDO_EVENTS))
    away = root * (pm.Data(f"{name}_usual", usual) - moved)
    sd, dims = spread[:, None] * root, ("endpoint", name)
    return adapted(f"{name}_innovation", sd, likely=away, dims=dims) / root


def covariates_part(bench: Workbench) -> tuple[Any, Any]:
    """Add the effects of covariates.

    Result: `pattern`, shape (endpoint, pattern): log hazard ratios against mean covariates.
    `slope`, shape (endpoint, term): log hazard ratios of the terms.
    """
    prior, dims = bench.definition.covariates.prior, ("endpoint", "term")
    if isinstance(bench.definition.phases, PhasesBySubgroup):
        slope = _rotated_slope(bench, prior, dims=dims)
    else:
        slope = bench.normal("coefficient", prior, dims=dims)
    return bench.times("terms", bench.design.terms.T, slope, transposed=True), slope


def _rotated_slope(bench: Workbench, prior: NormalPrior, *, dims: tuple[str, str]) -> Any:
    """Add log hazard ratios of covariates in coordinates that part what is known.

    All levels of the subgroups are compared with one of them, whose error is in all. Priors that
    are independent with one sd are so in any rotation.
    """
    terms = bench.design.terms
    events = bench.person_time.table["events"].values.sum(axis=(1, 2)) + PSEUDO_EVENTS
    mean_terms = np.einsum("ep,pt->et", events, terms) / events.sum(axis=1, keepdims=True)
    away = terms - mean_terms[:, None]
    _, rotation = np.linalg.eigh(np.einsum("ep,eps,ept->est", events, away, away))
    mean, sd = bench.normal_prior("coefficient", prior, dims=dims)
    standard = pm.Normal("coefficient_standard", 0.0, 1.0, dims=dims)
    turned = BatchedMatrixVector()(pm.Data("coefficient_rotation", rotation), standard)
    return pm.Deterministic("coefficient", mean + sd * turned, dims=dims)


def phases_part(bench: Workbench, others: Others) -> Any:
    """Add what makes the exposed phase's effect vary.

    `others`: everything else; its log hazard ratio of the exposed phase is the average one.
    Result, shape (endpoint, subgroup, interval, state): log hazard ratios; dimensions along which
    nothing varies have length 1.
    """
    kind, design, by_phase = bench.definition.phases, bench.design, others.by_phase
    constant, table = by_phase[:, None, None, :], bench.person_time.table
    if isinstance(kind, ProportionalPhases):
        return constant
    exposed = pm.Data("exposed", design.exposed)

    def reported(departure: Any, dim: str) -> Any:
        """Report the exposed phase's log hazard ratios: its average, and departures from it."""
        average = (by_phase * exposed).sum(axis=1) / exposed.sum()
        values = average[:, None] + departure
        pm.Deterministic(f"log_hazard_ratio_by_{dim}", values, dims=("endpoint", dim))
        return departure

    def walked(walk: Walks, dim: str) -> Any:
        """Add departures that are a walk over intervals or pieces, and report them."""
        dims = ("endpoint", "phase_component")
        return reported(_walk_of_spread(bench, "phase_", kind.change, walk, dims=dims), dim)

    if isinstance(kind, PhasesOverTime) and table.sizes["interval"] > 1:
        departure = walked(walks_over_time(bench.person_time, design), "interval")
        return constant + departure[:, None, :, None] * exposed
    if isinstance(kind, PhasesSinceEntry) and design.pieces.shape[1] > 1:
        pieces = table["phase"].values[design.pieces.argmax(axis=0)]
        pm.modelcontext(None).add_coord("piece", list(map(str, pieces)))
        departure = walked(walks_since_entry(bench.person_time, design), "piece")
        return (by_phase + bench.times("pieces", design.pieces, departure))[:, None, None, :]
    if isinstance(kind, PhasesBySubgroup):
        departure = _effects_of(
            bench,
            "subgroup",
            kind.change,
            others,
            labels=design.subgroups,
            member_of=design.subgroup_of,
            states=design.exposed,
        )
        return constant + reported(departure, "subgroup")[:, :, None, None] * exposed
    return constant


def groups_part(bench: Workbench, others: Others) -> Any:
    """Add log hazard ratios of groups, which differ at random: (endpoint, pattern), or None."""
    design = bench.design
    match bench.definition.groups:
        case SiteFrailty(spread=prior):
            effect = _effects_of(
                bench,
                "group",
                prior,
                others,
                labels=design.groups,
                member_of=design.group_of,
                states=np.ones(design.exposed.size),
            )
            pm.Deterministic("group_effect", effect, dims=("endpoint", "group"))
            return bench.times("members", indicators(len(design.groups), design.group_of).T, effect)
        case PatientFrailty(spread=prior):
            # What all endpoints share has a dimension of length 1.
            pm.modelcontext(None).add_coord("shape", ["shared"])
            spread = bench.spread("patient_sd", prior, dims=("shape",))
            standard = pm.Normal("patient_standard", 0.0, 1.0, dims="pattern")
            effect = pm.Deterministic("patient_effect", spread[0] * standard, dims="pattern")
            return effect[None, :]
    return None


def cured_part(bench: Workbench) -> Any:
    """Add the log odds of being cured as patients come under observation.

    Over (endpoint, pattern); None in a model without cured patients.
    """
    kind, design = bench.definition.cure, bench.design
    if kind is None:
        return None
    middle = bench.normal("cured_log_odds", kind.fraction, dims=("endpoint",))
    if not design.term_names:
        return middle[:, None] + pt.zeros((1, pm.modelcontext(None).dim_lengths["pattern"]))
    slope = bench.normal("cured_coefficient", kind.covariates, dims=("endpoint", "term"))
    return middle[:, None] + bench.times("cured_terms", design.terms.T, slope, transposed=True)
