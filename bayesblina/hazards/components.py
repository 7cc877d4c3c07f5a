"""The parts of a hazard model as PyMC variables: baselines, phase effects, groups.

Each function adds its free variables to the model that is open and gives its part of the log
hazard. Every table, scale and size is data, so that models of one structure share one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import log, sqrt
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    Curves,
    Walks,
    follow_up_end,
    matern_density,
    midpoints,
    steps,
    walks,
)
from bayesblina.hazards.definition import (
    Baseline,
    Correlated,
    Free,
    GaussianProcess,
    HazardRatioPrior,
    ModelDefinition,
    PatientFrailty,
    PhasesBySubgroup,
    PhasesOverTime,
    PhasesSinceEntry,
    RandomWalk,
    SiteFrailty,
    SmoothWalk,
    SpreadPrior,
    Weibull,
)
from bayesblina.hazards.departures import walks_over_time, walks_since_entry
from bayesblina.hazards.effects import Design
from bayesblina.hazards.ops import BatchedMatrixVector
from bayesblina.person_time.cells import PersonTime

# Draws a parameter from its prior: takes a generator and the number of draws.
Sampler = Callable[[np.random.Generator, int], Floats]

# The basis of the Hilbert space reaches beyond the data by this factor.
BOUNDARY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """What the parts of one model are made from, and what they leave behind.

    Attributes
    ----------
    definition, person_time, design, curves
        The model, the data and what was worked out from them.
    curve
        Name of the dimension of baseline curves: ``"endpoint"``, or ``"curve"`` with strata.
    priors : dict
        Of parameters with a meaning of their own: dimensions and a sampler of the prior.
    start : dict of ndarray
        Where chains start, for variables that should not start near 0.
    """

    definition: ModelDefinition
    person_time: PersonTime
    design: Design
    curves: Curves
    curve: str
    priors: dict[str, tuple[tuple[str, ...], Sampler]] = field(default_factory=dict)
    start: dict[str, Floats] = field(default_factory=dict)

    @property
    def endpoints(self) -> int:
        """Number of endpoints."""
        return len(self.person_time.endpoints)

    def normal(
        self, name: str, prior: HazardRatioPrior, *, dims: tuple[str, ...], unit: float = 1.0
    ) -> Any:
        """Add a normal variable whose prior is stated for `unit` times it."""
        mean, sd = prior.mean / unit, prior.sd / unit
        self.known(name, dims, lambda rng, size: rng.normal(mean, sd, size))
        values = pm.Data(f"{name}_prior", np.array([mean, sd]))
        return pm.Normal(name, values[0], values[1], dims=dims)

    def spread(self, name: str, prior: SpreadPrior, *, dims: tuple[str, ...]) -> Any:
        """Add the sd of a spread, or its known value."""
        scale = prior.scale
        values = pm.Data(f"{name}_prior", np.full(self.sizes(dims), scale))
        if prior.known:
            return values
        self.known(name, dims, lambda rng, size: np.abs(rng.normal(0.0, scale, size)))
        return pm.HalfNormal(name, values, dims=dims)

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

    Parameters
    ----------
    sd
        Prior sds in units in which the likelihood has an sd of about 1.
    likely
        Where the likelihood is, about; only the sampler's speed depends on it.
    """
    wide = pt.sqrt(1.0 + sd**2)
    shrink = sd / wide
    away = likely - mean
    innovation = pm.Normal(name, -away * shrink, wide, dims=dims)
    return mean + shrink * (shrink * away + innovation)


def baseline_part(bench: Workbench) -> Any:
    """Add the baseline.

    Returns
    -------
    tensor, shape (curve, interval)
        Log baseline hazards.
    """
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
    weight, time = curves.events.sum(axis=2) + PSEUDO_EVENTS, curves.adjusted
    if kind.shared:
        weight = weight.sum(axis=0, keepdims=True)
        time = (time * np.exp(curves.level_centre)[:, None]).sum(axis=0, keepdims=True)
    found = steps(weight, time, sd=kind.step.sd)
    pm.modelcontext(None).add_coord("component", np.arange(found.basis.shape[2]))
    innovation = pm.Normal(
        "walk_innovation",
        pm.Data("walk_prior_mean", found.prior_mean),
        pm.Data("walk_prior_sd", found.prior_sd),
        dims=(curve, "component"),
    )
    basis = pm.Data("basis", found.basis)
    shape = pm.Data("walk_offset", found.likely) + BatchedMatrixVector()(basis, innovation)
    # What is shared has one row, which the compiler must know.
    return shape[0][None, :] if kind.shared else shape


def _curve_walk(bench: Workbench, kind: SmoothWalk | Weibull) -> Any:
    curves, curve = bench.curves, bench.curve
    weight = curves.events.sum(axis=2) + PSEUDO_EVENTS
    order = kind.order if isinstance(kind, SmoothWalk) else 1
    # Crude rates fade as the cured remain; the hazard of the others does not.
    likely = curves.crude if bench.definition.cure is None else np.zeros_like(curves.crude)
    found = walks(curves.clock, weight, likely, order=order)
    shape: Any = 0.0
    mean: Any = 0.0
    if isinstance(kind, SmoothWalk) and kind.slope is not None:
        slope = bench.normal("slope", kind.slope, dims=(curve,))
        shape = slope[:, None] * pm.Data("line", found.line)
    if isinstance(kind, Weibull):
        # The walk's coefficients are those of the line in log time, and departures from it.
        line = np.log(midpoints(bench.person_time.table["interval_start"].values, _last(bench)))
        slope = bench.normal("slope", kind.doubling, dims=(curve,), unit=log(2.0))
        straight = np.broadcast_to(line, found.weight.shape)
        mean = slope[:, None] * pm.Data("line_coefficient", found.coefficients(straight))
    if found.centre.shape[1]:
        walk_sd = bench.spread("walk_sd", kind.change, dims=(curve,))
        sd = walk_sd[:, None] * pm.Data("inverse_roughness", found.inverse_roughness)
        centre = pm.Data("walk_centre", found.centre)
        pm.modelcontext(None).add_coord("component", np.arange(found.centre.shape[1]))
        coefficient = adapted(
            "walk_innovation", sd, likely=centre, mean=mean, dims=(curve, "component")
        )
        shape = shape + BatchedMatrixVector()(pm.Data("basis", found.basis), coefficient)
    return shape


def _last(bench: Workbench) -> float:
    return follow_up_end(bench.person_time)


def _gaussian_process(bench: Workbench, kind: GaussianProcess) -> Any:
    curve = bench.curve
    times = np.log(midpoints(bench.person_time.table["interval_start"].values, _last(bench)))
    half = (times[-1] - times[0]) / 2.0
    place = (times - times.mean() if half == 0 else times - times[0] - half) / (half or 1.0)
    frequency = np.arange(1, kind.functions + 1) * np.pi / (2.0 * BOUNDARY)
    basis = np.sin(frequency * (place[:, None] + BOUNDARY)) / sqrt(BOUNDARY)
    weight = bench.curves.events.sum(axis=2) + PSEUDO_EVENTS
    share = weight / weight.sum(axis=1, keepdims=True)
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


def effects_part(bench: Workbench) -> Any:
    """Add the log hazard ratios of the phases that have an effect.

    Returns
    -------
    tensor, shape (endpoint, effect)
        Log hazard ratios; the average one of the exposed phase where its effect varies.
    """
    prior, dims = bench.definition.phases.prior, ("endpoint", "effect")
    kind = bench.definition.endpoints
    names = bench.person_time.endpoints
    if not isinstance(kind, Correlated) or len(names) < 2:
        return bench.normal("log_hazard_ratio", prior, dims=dims)
    pairs = list(combinations(range(len(names)), 2))
    pm.modelcontext(None).add_coord("pair", [f"{names[i]}, {names[j]}" for i, j in pairs])
    # Partial correlations given all endpoints before; Lewandowski, Kurowicka and Joe (2009),
    # doi:10.1016/j.jmva.2009.04.008.
    shape = np.array([kind.concentration + (len(names) - 2 - i) / 2.0 for i, _ in pairs])
    prior_shape = pm.Data("correlation_prior", shape)
    share = pm.Beta("partial_correlation_share", prior_shape, prior_shape, dims="pair")
    partial = {pair: 2.0 * share[index] - 1.0 for index, pair in enumerate(pairs)}
    rows: list[list[Any]] = []
    for j in range(len(names)):
        row, rest = [], pt.as_tensor_variable(np.float64(1.0))
        for i in range(j):
            row.append(partial[i, j] * pt.sqrt(rest))
            rest = rest * (1.0 - partial[i, j] ** 2)
        row.append(pt.sqrt(rest))
        rows.append(row)
    values = pm.Data("log_hazard_ratio_prior", np.array([prior.mean, prior.sd]))
    standard = pm.Normal("log_hazard_ratio_standard", 0.0, 1.0, dims=dims)
    mixed = [sum(part * standard[i] for i, part in enumerate(row)) for row in rows]
    correlation = [
        sum(one * other for one, other in zip(rows[i], rows[j], strict=False)) for i, j in pairs
    ]
    pm.Deterministic("correlation", pt.stack(correlation), dims="pair")
    mean, sd = prior.mean, prior.sd
    bench.known("log_hazard_ratio", dims, lambda rng, size: rng.normal(mean, sd, size))
    return pm.Deterministic("log_hazard_ratio", values[0] + values[1] * pt.stack(mixed), dims=dims)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Others:
    """The log hazard without the effects that are added next, in three parts.

    Attributes
    ----------
    baseline : tensor, shape (endpoint, stratum, interval)
        Log baselines.
    by_phase : tensor, shape (endpoint, state)
        Log hazard ratios of the states; average ones of the exposed phase.
    pattern : tensor, shape (endpoint, pattern)
        Log hazard ratios of covariates.
    """

    baseline: Any
    by_phase: Any
    pattern: Any


def _effects_of(
    bench: Workbench,
    name: str,
    spread: Any,
    where: tuple[Floats, Floats],
    others: Others,
    *,
    dims: tuple[str, str],
) -> Any:
    """Add ``Normal(0, spread)`` effects on the log hazards of groups of patterns.

    The data tell an effect given all others about as the log of events over expected events. How
    these others move it is linear in them to first order, so that coordinates about it are close to
    independent of them: of the level above all, which many effects would move together.

    Parameters
    ----------
    name
        Of the effects; coordinates and data begin with it.
    spread : tensor, shape (endpoint,)
        Sd of the effects.
    where : ndarray, shape (state,), and ndarray, shape (group, pattern)
        1 for the states and patterns in which an effect acts.

    Returns
    -------
    tensor, shape (endpoint, group)
        The effects.
    """
    table, curves = bench.person_time.table, bench.curves
    states, member = where
    strata = len(bench.design.strata)
    stratum = bench.design.stratum_of
    events = table["events"].values * states[:, None]
    # Log hazards in the reference state at mean covariates, about.
    rates = (curves.level_centre[:, None] + curves.crude).reshape(bench.endpoints, strata, -1)
    likely = table["person_time"].values * states[:, None]
    likely = likely * np.exp(rates[:, stratum].transpose(0, 2, 1))[:, :, None]
    happened, expected = (one.sum(axis=(1, 2)) @ member.T for one in (events, likely))
    # Where nothing happened the time at risk says where it would have.
    ahead = np.divide(PSEUDO_EVENTS, expected, out=np.zeros_like(expected), where=expected > 0)
    total = (happened + PSEUDO_EVENTS)[:, :, None]

    def shares(summed: Callable[[Floats], Floats]) -> Floats:
        """Average over a group's events: by what is left of (endpoint, group, ...)."""
        return (summed(events) + ahead[:, :, None] * summed(likely)) / total

    inside = (np.arange(strata)[:, None] == stratum).astype(np.float64)
    by_rate = shares(
        lambda one: np.concatenate(
            [np.einsum("ejp,gp->egj", one.sum(axis=2), member * here) for here in inside], axis=2
        )
    )
    by_state = shares(lambda one: np.einsum("ekp,gp->egk", one.sum(axis=1), member))
    by_pattern = shares(lambda one: one.sum(axis=(1, 2))[:, None] * member)
    usual = np.log((happened + PSEUDO_EVENTS) / (expected + PSEUDO_EVENTS))
    usual += np.einsum("egr,er->eg", by_rate, rates.reshape(bench.endpoints, -1))
    # No size may stand in the graph, which serves any number of endpoints.
    baseline = others.baseline.flatten(2)
    now = (
        ("baseline", by_rate, baseline),
        ("phase", by_state, others.by_phase),
        ("pattern", by_pattern, others.pattern),
    )
    moved = sum(
        BatchedMatrixVector()(pm.Data(f"{name}_{part}_share", weights), values)
        for part, weights, values in now
    )
    root = pm.Data(f"{name}_root", np.sqrt(happened + PSEUDO_EVENTS))
    away = root * (pm.Data(f"{name}_usual", usual) - moved)
    return adapted(f"{name}_innovation", spread[:, None] * root, likely=away, dims=dims) / root


def covariates_part(bench: Workbench) -> tuple[Any, Any]:
    """Add the effects of covariates.

    Returns
    -------
    pattern : tensor, shape (endpoint, pattern)
        Log hazard ratios against mean covariates.
    slope : tensor, shape (endpoint, term)
        Log hazard ratios of the terms.
    """
    design, prior = bench.design, bench.definition.covariates.prior
    terms = pm.Data("terms", np.stack([design.terms.T] * bench.endpoints))
    dims = ("endpoint", "term")
    if not isinstance(bench.definition.phases, PhasesBySubgroup):
        slope = bench.normal("coefficient", prior, dims=dims)
        return BatchedMatrixVector(transposed=True)(terms, slope), slope
    # All levels of the subgroups are compared with one of them, whose error is in all. Priors that
    # are independent with one sd are so in any rotation, as in that which parts what is known.
    events = bench.person_time.table["events"].values.sum(axis=(1, 2)) + PSEUDO_EVENTS
    mean = np.einsum("ep,pt->et", events, design.terms) / events.sum(axis=1, keepdims=True)
    away = design.terms - mean[:, None]
    _, rotation = np.linalg.eigh(np.einsum("ep,eps,ept->est", events, away, away))
    values = pm.Data("coefficient_prior", np.array([prior.mean, prior.sd]))
    standard = pm.Normal("coefficient_standard", 0.0, 1.0, dims=dims)
    turned = BatchedMatrixVector()(pm.Data("coefficient_rotation", rotation), standard)
    slope = pm.Deterministic("coefficient", values[0] + values[1] * turned, dims=dims)
    center, sd = prior.mean, prior.sd
    bench.known("coefficient", dims, lambda rng, size: rng.normal(center, sd, size))
    return BatchedMatrixVector(transposed=True)(terms, slope), slope


def phases_part(bench: Workbench, others: Others) -> Any:
    """Add what makes the exposed phase's effect vary.

    Parameters
    ----------
    others
        Everything else; its log hazard ratio of the exposed phase is the average one.

    Returns
    -------
    tensor, shape (endpoint, subgroup, interval, state)
        Log hazard ratios; dimensions along which nothing varies have length 1.
    """
    kind, design, by_phase = bench.definition.phases, bench.design, others.by_phase
    model = pm.modelcontext(None)
    if kind.kind == "proportional":
        return by_phase[:, None, None, :]
    exposed = pm.Data("exposed", design.exposed)
    table = bench.person_time.table
    if isinstance(kind, PhasesOverTime) and table.sizes["interval"] > 1:
        departure = _departures(bench, kind.change, walks_over_time(bench.person_time, design))
        ratio = _exposed_mean(by_phase, exposed)[:, None] + departure
        pm.Deterministic("log_hazard_ratio_by_interval", ratio, dims=("endpoint", "interval"))
        return by_phase[:, None, None, :] + departure[:, None, :, None] * exposed
    if isinstance(kind, PhasesSinceEntry) and design.pieces.shape[1] > 1:
        states = design.pieces.argmax(axis=0)
        departure = _departures(bench, kind.change, walks_since_entry(bench.person_time, design))
        ratio = _exposed_mean(by_phase, exposed)[:, None] + departure
        labels = [str(name) for name in table["phase"].values[states]]
        model.add_coord("piece", labels)
        pm.Deterministic("log_hazard_ratio_by_piece", ratio, dims=("endpoint", "piece"))
        pieces = pm.Data("pieces", np.stack([design.pieces] * bench.endpoints))
        by_state = by_phase + BatchedMatrixVector()(pieces, departure)
        return by_state[:, None, None, :]
    if isinstance(kind, PhasesBySubgroup):
        member = np.arange(len(design.subgroups))[:, None] == design.subgroup_of
        model.add_coord("subgroup", list(design.subgroups))
        spread = bench.spread("subgroup_sd", kind.change, dims=("endpoint",))
        where = (design.exposed, member.astype(np.float64))
        dims = ("endpoint", "subgroup")
        departure = _effects_of(bench, "subgroup", spread, where, others, dims=dims)
        ratio = _exposed_mean(by_phase, exposed)[:, None] + departure
        pm.Deterministic("log_hazard_ratio_by_subgroup", ratio, dims=dims)
        return by_phase[:, None, None, :] + departure[:, :, None, None] * exposed
    return by_phase[:, None, None, :]


def _exposed_mean(by_phase: Any, exposed: Any) -> Any:
    return (by_phase * exposed).sum(axis=1) / exposed.sum()


def _departures(bench: Workbench, prior: SpreadPrior, found: Walks) -> Any:
    """Add a walk of departures from an effect's average, shape (endpoint, piece)."""
    pm.modelcontext(None).add_coord("phase_component", np.arange(found.centre.shape[1]))
    walk_sd = bench.spread("phase_walk_sd", prior, dims=("endpoint",))
    sd = walk_sd[:, None] * pm.Data("phase_inverse_roughness", found.inverse_roughness)
    dims = ("endpoint", "phase_component")
    coefficient = adapted("phase_innovation", sd, likely=0.0, dims=dims)
    return BatchedMatrixVector()(pm.Data("phase_basis", found.basis), coefficient)


def groups_part(bench: Workbench, others: Others) -> Any:
    """Add hazards that differ at random between groups.

    Returns
    -------
    tensor, shape (endpoint, pattern), or None
        Log hazard ratios against the average group.
    """
    kind, design = bench.definition.groups, bench.design
    model = pm.modelcontext(None)
    if isinstance(kind, SiteFrailty):
        member = np.arange(len(design.groups))[:, None] == design.group_of
        model.add_coord("group", list(design.groups))
        spread = bench.spread("group_sd", kind.spread, dims=("endpoint",))
        everywhere = np.ones(bench.person_time.table.sizes["phase"])
        where = (everywhere, member.astype(np.float64))
        dims = ("endpoint", "group")
        effect = _effects_of(bench, "group", spread, where, others, dims=dims)
        pm.Deterministic("group_effect", effect, dims=dims)
        members = pm.Data("members", np.stack([member.T.astype(np.float64)] * bench.endpoints))
        return BatchedMatrixVector()(members, effect)
    if isinstance(kind, PatientFrailty):
        spread = bench.spread("patient_sd", kind.spread, dims=("shape",))
        standard = pm.Normal("patient_standard", 0.0, 1.0, dims="pattern")
        effect = pm.Deterministic("patient_effect", spread[0] * standard, dims="pattern")
        return effect[None, :]
    return None


def cured_part(bench: Workbench) -> Any:
    """Add the log odds of being cured.

    Returns
    -------
    tensor, shape (endpoint, pattern), or None
        Log odds as patients come under observation; None in a model without cured patients.
    """
    kind, design = bench.definition.cure, bench.design
    if kind is None:
        return None
    mean, sd = kind.fraction.mean, kind.fraction.sd
    bench.known("cured_log_odds", ("endpoint",), lambda rng, size: rng.normal(mean, sd, size))
    prior = pm.Data("cured_log_odds_prior", np.array([mean, sd]))
    middle = pm.Normal("cured_log_odds", prior[0], prior[1], dims=("endpoint",))
    if not design.term_names:
        patterns = pm.modelcontext(None).dim_lengths["pattern"]
        return middle[:, None] + pt.zeros((1, patterns))
    center, spread = kind.covariates.mean, kind.covariates.sd
    dims = ("endpoint", "term")
    bench.known("cured_coefficient", dims, lambda rng, size: rng.normal(center, spread, size))
    prior = pm.Data("cured_coefficient_prior", np.array([center, spread]))
    slope = pm.Normal("cured_coefficient", prior[0], prior[1], dims=dims)
    terms = pm.Data("cured_terms", np.stack([design.terms.T] * bench.endpoints))
    return middle[:, None] + BatchedMatrixVector(transposed=True)(terms, slope)


def structure_of(
    definition: ModelDefinition, person_time: PersonTime, design: Design, differing: Sequence[str]
) -> str:
    """Name the graph of a model: what differs in data and sizes only has one name."""
    baseline = definition.baseline
    intervals = person_time.table.sizes["interval"]
    parts = [
        "constant" if intervals == 1 else _kind(baseline),
        "strata" if len(design.strata) > 1 else "",
        definition.phases.kind,
    ]
    if isinstance(baseline, SmoothWalk) and baseline.order == 2 and intervals == 2:
        parts.append("a line alone")
    if isinstance(definition.phases, PhasesOverTime) and intervals == 1:
        parts.append("never varying")
    if isinstance(definition.phases, PhasesSinceEntry) and design.pieces.shape[1] < 2:
        parts.append("never varying")
    changing: Mapping[str, Any] = {"change": getattr(definition.phases, "change", None)}
    parts += ["known" for prior in changing.values() if prior is not None and prior.known]
    parts.append("covariates" if design.term_names else "no covariates")
    endpoints = definition.endpoints
    if isinstance(endpoints, Correlated) and len(person_time.endpoints) > 1:
        parts.append(f"correlated {len(person_time.endpoints)}")
    else:
        parts.append("independent")
    if definition.groups is not None:
        parts.append(f"groups: {definition.groups.kind}")
    if differing and definition.borrowing is not None:
        parts.append(f"sources: {definition.borrowing.kind}, {', '.join(differing)}")
    if definition.cure is not None:
        parts.append("cure")
    return " / ".join(part for part in parts if part)


def _kind(baseline: Baseline) -> str:
    words: list[str] = [baseline.kind]
    if isinstance(baseline, RandomWalk):
        words += ["shared"] if baseline.shared else []
        return ", ".join(words)
    if isinstance(baseline, SmoothWalk):
        words.append(f"order {baseline.order}")
    if not isinstance(baseline, Free) and baseline.change.known:
        words.append("sd known")
    return ", ".join(words)
