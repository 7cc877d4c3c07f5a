"""The parts of a hazard model besides the baseline, as PyMC variables: effects, groups, cures.

Each function adds its free variables to the model that is open and gives its part of the log
hazard. Every table, scale and size is data, so that models of one structure share one graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    Walks,
)
from bayesblina.hazards.departures import walks_over_time, walks_since_entry
from bayesblina.hazards.ops import BatchedMatrixVector
from bayesblina.hazards.parts import (
    Correlated,
    PatientFrailty,
    PhasesBySubgroup,
    PhasesOverTime,
    PhasesSinceEntry,
    ProportionalPhases,
    SiteFrailty,
)
from bayesblina.hazards.priors import SpreadPrior
from bayesblina.hazards.workbench import Workbench, adapted


def effects_part(bench: Workbench) -> Any:
    """Add the log hazard ratios of the phases that have an effect, (endpoint, effect).

    That of the exposed phase is the average one where its effect varies.
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
    values = bench.normal_prior("log_hazard_ratio", prior, dims=dims)
    standard = pm.Normal("log_hazard_ratio_standard", 0.0, 1.0, dims=dims)
    mixed = [sum(part * standard[i] for i, part in enumerate(row)) for row in rows]
    correlation = [
        sum(left * right for left, right in zip(rows[i], rows[j], strict=False)) for i, j in pairs
    ]
    pm.Deterministic("correlation", pt.stack(correlation), dims="pair")
    return pm.Deterministic("log_hazard_ratio", values[0] + values[1] * pt.stack(mixed), dims=dims)


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

    `name`: of the effects; coordinates and data begin with it.
    `spread`, shape (endpoint,): sd of the effects.
    `where`, shapes (state,) and (group, pattern): 1 for the states and patterns in
    which an effect acts.
    Result, shape (endpoint, group): the effects.
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

    Result: `pattern`, shape (endpoint, pattern): log hazard ratios against mean covariates.
    `slope`, shape (endpoint, term): log hazard ratios of the terms.
    """
    design, prior = bench.design, bench.definition.covariates.prior
    dims = ("endpoint", "term")
    if not isinstance(bench.definition.phases, PhasesBySubgroup):
        slope = bench.normal("coefficient", prior, dims=dims)
        return bench.times("terms", design.terms.T, slope, transposed=True), slope
    # All levels of the subgroups are compared with one of them, whose error is in all. Priors that
    # are independent with one sd are so in any rotation, as in that which parts what is known.
    events = bench.person_time.table["events"].values.sum(axis=(1, 2)) + PSEUDO_EVENTS
    mean = np.einsum("ep,pt->et", events, design.terms) / events.sum(axis=1, keepdims=True)
    away = design.terms - mean[:, None]
    _, rotation = np.linalg.eigh(np.einsum("ep,eps,ept->est", events, away, away))
    values = bench.normal_prior("coefficient", prior, dims=dims)
    standard = pm.Normal("coefficient_standard", 0.0, 1.0, dims=dims)
    turned = BatchedMatrixVector()(pm.Data("coefficient_rotation", rotation), standard)
    slope = pm.Deterministic("coefficient", values[0] + values[1] * turned, dims=dims)
    return bench.times("terms", design.terms.T, slope, transposed=True), slope


def phases_part(bench: Workbench, others: Others) -> Any:
    """Add what makes the exposed phase's effect vary.

    `others`: everything else; its log hazard ratio of the exposed phase is the average one.
    Result, shape (endpoint, subgroup, interval, state): log hazard ratios; dimensions along which
    nothing varies have length 1.
    """
    kind, design, by_phase = bench.definition.phases, bench.design, others.by_phase
    constant = by_phase[:, None, None, :]
    if isinstance(kind, ProportionalPhases):
        return constant
    model, table = pm.modelcontext(None), bench.person_time.table
    exposed = pm.Data("exposed", design.exposed)

    def reported(departure: Any, dim: str) -> Any:
        """Report the exposed phase's log hazard ratios: its average, and departures from it."""
        average = (by_phase * exposed).sum(axis=1) / exposed.sum()
        values = average[:, None] + departure
        pm.Deterministic(f"log_hazard_ratio_by_{dim}", values, dims=("endpoint", dim))
        return departure

    if isinstance(kind, PhasesOverTime) and table.sizes["interval"] > 1:
        walk = walks_over_time(bench.person_time, design)
        departure = reported(_departures(bench, kind.change, walk), "interval")
        return constant + departure[:, None, :, None] * exposed
    if isinstance(kind, PhasesSinceEntry) and design.pieces.shape[1] > 1:
        states = design.pieces.argmax(axis=0)
        model.add_coord("piece", [str(name) for name in table["phase"].values[states]])
        walk = walks_since_entry(bench.person_time, design)
        departure = reported(_departures(bench, kind.change, walk), "piece")
        by_state = by_phase + bench.times("pieces", design.pieces, departure)
        return by_state[:, None, None, :]
    if isinstance(kind, PhasesBySubgroup):
        member = np.arange(len(design.subgroups))[:, None] == design.subgroup_of
        model.add_coord("subgroup", list(design.subgroups))
        spread = bench.spread("subgroup_sd", kind.change, dims=("endpoint",))
        where, dims = (design.exposed, member.astype(np.float64)), ("endpoint", "subgroup")
        departure = _effects_of(bench, "subgroup", spread, where, others, dims=dims)
        return constant + reported(departure, "subgroup")[:, :, None, None] * exposed
    return constant


def _departures(bench: Workbench, prior: SpreadPrior, walk: Walks) -> Any:
    """Add a walk of departures from an effect's average, shape (endpoint, piece)."""
    pm.modelcontext(None).add_coord("phase_component", np.arange(walk.centre.shape[1]))
    walk_sd = bench.spread("phase_walk_sd", prior, dims=("endpoint",))
    sd = walk_sd[:, None] * pm.Data("phase_inverse_roughness", walk.inverse_roughness)
    dims = ("endpoint", "phase_component")
    coefficient = adapted("phase_innovation", sd, likely=0.0, dims=dims)
    return BatchedMatrixVector()(pm.Data("phase_basis", walk.basis), coefficient)


def groups_part(bench: Workbench, others: Others) -> Any:
    """Add log hazard ratios of groups, which differ at random: (endpoint, pattern), or None."""
    kind, design = bench.definition.groups, bench.design
    model = pm.modelcontext(None)
    if isinstance(kind, SiteFrailty):
        member = np.arange(len(design.groups))[:, None] == design.group_of
        model.add_coord("group", list(design.groups))
        spread = bench.spread("group_sd", kind.spread, dims=("endpoint",))
        everywhere = np.ones(bench.person_time.table.sizes["phase"])
        where, dims = (everywhere, member.astype(np.float64)), ("endpoint", "group")
        effect = _effects_of(bench, "group", spread, where, others, dims=dims)
        pm.Deterministic("group_effect", effect, dims=dims)
        return bench.times("members", member.T.astype(np.float64), effect)
    if isinstance(kind, PatientFrailty):
        # What all endpoints share has a dimension of length 1.
        model.add_coord("shape", ["shared"])
        spread = bench.spread("patient_sd", kind.spread, dims=("shape",))
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
        patterns = pm.modelcontext(None).dim_lengths["pattern"]
        return middle[:, None] + pt.zeros((1, patterns))
    slope = bench.normal("cured_coefficient", kind.covariates, dims=("endpoint", "term"))
    return middle[:, None] + bench.times("cured_terms", design.terms.T, slope, transposed=True)
