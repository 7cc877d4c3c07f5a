"""Definitions and exposure into partial likelihoods with the model's own priors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from bayesblina.breslow import Block, PartialLikelihood
from bayesblina.exposure import Exposure
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    clock,
    follow_up_end,
    longest_since_entry,
    walks,
)
from bayesblina.hazards.definition import (
    Correlated,
    ModelDefinition,
    PhasesBySubgroup,
    PhasesOverTime,
    PhasesSinceEntry,
    RandomWalk,
    SiteFrailty,
    SpreadPrior,
)
from bayesblina.hazards.effects import Design
from bayesblina.laplace import Problem, Spread
from bayesblina.risk_sets import RiskSets, find_risk_sets, same_states

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Ranges of sds end at so many times the scale of their half-normal prior.
LARGEST_SD = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Departures:
    """Parameters whose sd is estimated, or known.

    Attributes
    ----------
    name, dim, labels
        What is read off them: a variable of the fit's posterior, its dimension and coordinates.
    around
        Whether it is around the exposed phase's log hazard ratio.
    prior
        Prior of the sd.
    relative : ndarray, shape (parameter,)
        Prior sds over that sd.
    basis : ndarray, shape (label, parameter)
        What the variable is of the parameters.
    label_of : function
        Gives for risk sets the label that each group belongs to, and what the variable counts in
        it (0 or 1), each of shape (group,).
    """

    name: str
    dim: str
    labels: tuple[object, ...]
    around: bool
    prior: SpreadPrior
    relative: Floats
    basis: Floats
    label_of: Callable[[RiskSets], tuple[Ints, Floats]]

    def columns(self, found: RiskSets) -> Floats:
        """Multipliers of the parameters, (group, parameter)."""
        label, counts = self.label_of(found)
        return np.asarray(self.basis[label] * counts[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """Where the parameters of one endpoint stand among all.

    Attributes
    ----------
    endpoint
        Position of the endpoint.
    first
        Position of its first parameter: effects, terms and departures follow each other.
    departures
        Its parameters whose sd is estimated, or known.
    """

    endpoint: int
    first: int
    departures: tuple[Departures, ...]

    def read(
        self, parameters: Floats, design: Design
    ) -> Iterator[tuple[str, str, Sequence[object], Floats]]:
        """Name what draws say: variable, dimension, labels and values, (draw, label)."""
        effects, terms = len(design.effects), len(design.term_names)
        place = self.first + effects
        yield "log_hazard_ratio", "effect", design.effects, parameters[:, self.first : place]
        if terms:
            yield "coefficient", "term", design.term_names, parameters[:, place : place + terms]
        place += terms
        for one in self.departures:
            values = parameters[:, place : place + one.relative.size] @ one.basis.T
            if one.around:
                # The exposed phase is the first effect.
                values = values + parameters[:, self.first, None]
            yield one.name, one.dim, one.labels, values
            place += one.relative.size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialModel:
    """The posterior of endpoints that share something; mostly of one.

    Attributes
    ----------
    problem
        The posterior.
    members
        Its endpoints.
    grouped
        Whether event times are grouped.
    """

    problem: Problem
    members: tuple[Member, ...]
    grouped: bool = field(default=False)


def partial_models(
    definition: ModelDefinition, exposure: Exposure, design: Design, *, flat: Sequence[str] = ()
) -> list[PartialModel]:
    """Set up the posteriors of a model's parameters by partial likelihood.

    Parameters
    ----------
    definition
        The hazard model, of a kind that has a partial likelihood.
    exposure
        Events and person-time, with single patients.
    design
        Phase contrasts, standardised covariates and classes.
    flat
        Priors to leave out: ``"phases"``, ``"covariates"``.

    Returns
    -------
    list of PartialModel
        One for each endpoint, or one of all where these share a baseline or a prior.
    """
    endpoints = range(len(exposure.endpoints))
    correlated = isinstance(definition.endpoints, Correlated) and len(endpoints) > 1
    if isinstance(definition.baseline, RandomWalk) and definition.baseline.shared:
        level = definition.baseline.level.sd
        return [_with_one_baseline(definition, exposure, design, flat, level=level)]
    if correlated:
        return [_of(definition, exposure, design, flat, list(endpoints))]
    return [_of(definition, exposure, design, flat, [index]) for index in endpoints]


def _members(
    definition: ModelDefinition, exposure: Exposure, design: Design, endpoints: Sequence[int]
) -> tuple[tuple[Member, ...], int]:
    """Lay out the parameters of endpoints; also their number."""
    members, place = [], 0
    for index in endpoints:
        parts = _departures(definition, exposure, design, index)
        members.append(Member(endpoint=index, first=place, departures=parts))
        place += len(design.effects) + len(design.term_names)
        place += sum(one.relative.size for one in parts)
    return tuple(members), place


def _of(
    definition: ModelDefinition,
    exposure: Exposure,
    design: Design,
    flat: Sequence[str],
    endpoints: Sequence[int],
) -> PartialModel:
    """Set up endpoints with baselines of their own."""
    members, size = _members(definition, exposure, design, endpoints)
    strata = design.class_of // len(design.subgroups) if len(design.strata) > 1 else None
    varying = isinstance(definition.phases, PhasesOverTime) and exposure.cuts.size > 0
    blocks, grouped = [], False
    for member in members:
        sets, coarse = find_risk_sets(
            exposure,
            [member.endpoint],
            same=same_states(design.contrast, design.exposed, design.pieces),
            stratum_of=strata,
            cuts=exposure.cuts if varying else None,
        )
        grouped = grouped or coarse
        for found in sets:
            columns = np.zeros((found.state.size, size))
            _fill(columns, found, member, design)
            blocks.append(_block(found, columns))
    return PartialModel(
        problem=_problem(definition, design, members, blocks, flat, offsets=np.zeros((0, 0))),
        members=members,
        grouped=grouped,
    )


def _with_one_baseline(
    definition: ModelDefinition,
    exposure: Exposure,
    design: Design,
    flat: Sequence[str],
    *,
    level: float,
) -> PartialModel:
    """All endpoints, and strata, whose log baselines are parallel: one risk set, and offsets."""
    endpoints = list(range(len(exposure.endpoints)))
    members, size = _members(definition, exposure, design, endpoints)
    curves = len(endpoints) * len(design.strata)
    varying = isinstance(definition.phases, PhasesOverTime) and exposure.cuts.size > 0
    sets, grouped = find_risk_sets(
        exposure,
        endpoints,
        same=same_states(design.contrast, design.exposed, design.pieces),
        cuts=exposure.cuts if varying else None,
    )
    blocks = []
    for found in sets:
        columns = np.zeros((found.state.size, size + curves - 1))
        for member in members:
            mine = found.endpoint == member.endpoint
            part = np.zeros((found.state.size, columns.shape[1]))
            _fill(part, found, member, design)
            columns[mine] = part[mine]
        stratum = design.class_of[found.pattern] // len(design.subgroups)
        curve = found.endpoint * len(design.strata) + stratum
        columns[:, size:] = curve[:, None] == np.arange(1, curves)
        blocks.append(_block(found, columns))
    # Differences of independent levels.
    offsets = np.linalg.cholesky(np.eye(curves - 1) + 1.0) if curves > 1 else np.zeros((0, 0))
    problem = _problem(
        definition,
        design,
        members,
        blocks,
        flat,
        offsets=offsets * level,
        levels=_levels(exposure, design),
    )
    return PartialModel(problem=problem, members=members, grouped=grouped)


def _levels(exposure: Exposure, design: Design) -> Floats:
    """Crude log rates of endpoints and strata, on which the priors of levels are centred."""
    events = exposure.table["events"].values.astype(np.float64).sum(axis=(1, 2))
    time = exposure.table["exposure"].values.sum(axis=(1, 2))
    stratum = design.class_of // len(design.subgroups)
    member = (stratum[:, None] == np.arange(len(design.strata))).astype(np.float64)
    inside, spent = events @ member, time @ member
    spent = np.where(spent > 0, spent, time.sum(axis=1, keepdims=True))
    return np.asarray(np.log((inside + PSEUDO_EVENTS) / spent).ravel())


def _block(found: RiskSets, columns: Floats) -> Block:
    return Block(
        events=found.events,
        at_risk=found.at_risk,
        design=columns,
        score=found.events_of @ columns,
    )


def _fill(columns: Floats, found: RiskSets, member: Member, design: Design) -> None:
    """Write what a member's parameters are multiplied by into a design, (group, parameter)."""
    place = member.first
    parts = [design.contrast[found.state], design.terms[found.pattern]]
    parts += [one.columns(found) for one in member.departures]
    for part in parts:
        columns[:, place : place + part.shape[1]] = part
        place += part.shape[1]


def _problem(
    definition: ModelDefinition,
    design: Design,
    members: Sequence[Member],
    blocks: Sequence[Block],
    flat: Sequence[str],
    *,
    offsets: Floats,
    levels: Floats | None = None,
) -> Problem:
    """Put the priors together; offsets of baselines come last."""
    effects, terms = len(design.effects), len(design.term_names)
    phases, covariates = definition.phases.prior, definition.covariates.prior
    mean: list[Floats] = []
    precision: list[Floats] = []
    scale: list[Floats] = []
    axis: list[Ints] = []
    spreads: list[Spread] = []

    def add(size: int, *, middle: float, weight: float, factor: Floats, along: int = -1) -> None:
        mean.append(np.full(size, middle))
        precision.append(np.full(size, weight))
        scale.append(factor)
        axis.append(np.full(size, along))

    for member in members:
        weight = 0.0 if "phases" in flat else phases.sd**-2
        add(effects, middle=phases.mean, weight=weight, factor=np.ones(effects))
        weight = 0.0 if "covariates" in flat else covariates.sd**-2
        add(terms, middle=covariates.mean, weight=weight, factor=np.ones(terms))
        for one in member.departures:
            size, sd = one.relative.size, one.prior.scale
            if one.prior.known:
                add(size, middle=0.0, weight=1.0, factor=sd * one.relative)
                continue
            add(size, middle=0.0, weight=1.0, factor=one.relative, along=len(spreads))
            spreads.append(Spread(high=LARGEST_SD * sd, precision=sd**-2))
    base = np.diag(np.concatenate(scale))
    inner = base.shape[0]
    size = inner + offsets.shape[0]
    wider = np.zeros((size, size))
    wider[:inner, :inner], wider[inner:, inner:] = base, offsets
    add(offsets.shape[0], middle=0.0, weight=1.0, factor=np.zeros(0))
    origin = np.zeros(size)
    if levels is not None:
        origin[inner:] = levels[1:] - levels[0]
    problem = Problem(
        likelihood=PartialLikelihood(blocks=tuple(blocks), dimension=size),
        mean=np.concatenate(mean),
        precision=np.concatenate(precision),
        origin=origin,
        base=wider,
        spreads=tuple(spreads),
        axis=np.concatenate(axis).astype(np.int64),
    )
    kind = definition.endpoints
    if isinstance(kind, Correlated) and len(members) > 1 and "phases" not in flat:
        return _correlated(problem, kind, members, effects, mean=phases.mean, sd=phases.sd)
    return problem


def _departures(
    definition: ModelDefinition, exposure: Exposure, design: Design, endpoint: int
) -> tuple[Departures, ...]:
    """Parameters of an endpoint whose sd is estimated, or known, as in the fit."""
    kind, table = definition.phases, exposure.table
    counts = table["events"].values[endpoint].astype(np.float64)
    found = []
    if isinstance(kind, PhasesBySubgroup):
        subgroup = design.class_of % len(design.subgroups)
        found.append(
            Departures(
                name="log_hazard_ratio_by_subgroup",
                dim="subgroup",
                labels=design.subgroups,
                around=True,
                prior=kind.change,
                relative=np.ones(len(design.subgroups)),
                basis=np.eye(len(design.subgroups)),
                label_of=lambda sets: (subgroup[sets.pattern], design.exposed[sets.state]),
            )
        )
    elif isinstance(kind, PhasesOverTime) and table.sizes["interval"] > 1:
        inside = counts[:, design.exposed == 1.0].sum(axis=(1, 2))
        distances = clock(
            table["interval_start"].values,
            follow_up_end(exposure),
            counts.sum(axis=(1, 2))[None],
        )
        found.append(
            _walk(
                "log_hazard_ratio_by_interval",
                "interval",
                tuple(table["interval"].values.tolist()),
                kind.change,
                distances,
                inside,
                lambda sets: (
                    np.full(sets.state.size, sets.interval),
                    design.exposed[sets.state],
                ),
            )
        )
    elif isinstance(kind, PhasesSinceEntry) and design.pieces.shape[1] > 1:
        states = design.pieces.argmax(axis=0)
        inside = counts[:, states].sum(axis=(0, 2))
        distances = clock(
            table["since"].values[states], longest_since_entry(exposure), inside[None]
        )
        found.append(
            _walk(
                "log_hazard_ratio_by_piece",
                "piece",
                tuple(str(name) for name in table["phase"].values[states]),
                kind.change,
                distances,
                inside,
                lambda sets: (
                    design.pieces[sets.state].argmax(axis=1),
                    design.exposed[sets.state],
                ),
            )
        )
    if isinstance(definition.groups, SiteFrailty):
        found.append(
            Departures(
                name="group_effect",
                dim="group",
                labels=design.groups,
                around=False,
                prior=definition.groups.spread,
                relative=np.ones(len(design.groups)),
                basis=np.eye(len(design.groups)),
                label_of=lambda sets: (
                    design.group_of[sets.pattern],
                    np.ones(sets.pattern.size),
                ),
            )
        )
    return tuple(found)


def _walk(
    name: str,
    dim: str,
    labels: tuple[object, ...],
    prior: SpreadPrior,
    distances: Floats,
    inside: Floats,
    label_of: Callable[[RiskSets], tuple[Ints, Floats]],
) -> Departures:
    """Departures that are a walk, with an event-weighted mean of zero."""
    weight = inside[None] + PSEUDO_EVENTS
    found = walks(distances, weight, np.zeros(weight.shape))
    return Departures(
        name=name,
        dim=dim,
        labels=labels,
        around=True,
        prior=prior,
        relative=found.inverse_roughness[0],
        basis=found.basis[0],
        label_of=label_of,
    )


def _correlated(
    problem: Problem,
    kind: Correlated,
    members: Sequence[Member],
    effects: int,
    *,
    mean: float,
    sd: float,
) -> Problem:
    """Correlate the endpoints' log hazard ratios a priori, as the fit does.

    The coordinates of a pair of endpoints are the prior probabilities of their partial
    correlation, which is uniform.
    """
    size, count = len(members), len(problem.spreads)
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    shape = [kind.concentration + (size - 2 - i) / 2.0 for i, _ in pairs]
    places = np.array([[one.first + k for k in range(effects)] for one in members])
    origin, precision, middle = (
        problem.origin.copy(),
        problem.precision.copy(),
        problem.mean.copy(),
    )
    origin[places], precision[places], middle[places] = mean, 1.0, 0.0

    def mixed(spreads: Sequence[float]) -> Floats:
        linear = problem.base * np.append(spreads[:count], 1.0)[problem.axis]
        partial = {
            pair: 2.0 * float(betaincinv(a, a, share)) - 1.0
            for pair, a, share in zip(pairs, shape, spreads[count:], strict=True)
        }
        for j in range(size):
            rest = 1.0
            for i in range(j):
                linear[places[j], places[i]] = sd * partial[i, j] * np.sqrt(rest)
                rest *= 1.0 - partial[i, j] ** 2
            linear[places[j], places[j]] = sd * np.sqrt(rest)
        return np.asarray(linear)

    uniform = tuple(Spread(high=1.0, precision=0.0) for _ in pairs)
    return replace(
        problem,
        origin=origin,
        precision=precision,
        mean=middle,
        spreads=(*problem.spreads, *uniform),
        mixed=mixed,
    )
