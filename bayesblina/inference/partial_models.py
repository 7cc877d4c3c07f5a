"""Definitions and person-time into partial likelihoods with the model's own priors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag
from scipy.special import betaincinv

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.breslow import FailureBlock, PartialLikelihood
from bayesblina.hazards.baseline import PSEUDO_EVENTS, Departures, departures_of
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design
from bayesblina.hazards.parts import Correlated, PhasesOverTime, RandomWalk
from bayesblina.inference.laplace import Posterior, Spread
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import (
    RiskSets,
    find_risk_sets,
    holds_single_times,
    risk_sets_of_sums,
    same_states,
)

# Ranges of sds end at so many times the scale of their half-normal prior.
LARGEST_SD = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Member:
    """Where the parameters of one endpoint stand among all.

    `endpoint`: position of the endpoint.
    `first`: position of its first parameter: effects, terms and departures follow each other.
    `departures`: its parameters whose sd is estimated, or known.
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
        for part in self.departures:
            values = parameters[:, place : place + part.relative.size] @ part.basis.T
            if part.around:
                # The exposed phase is the first effect.
                values = values + parameters[:, self.first, None]
            yield part.name, part.dim, part.labels, values
            place += part.relative.size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialModel:
    """The posterior of endpoints that share something; mostly of one.

    `problem`: the posterior.
    `members`: its endpoints.
    `grouped`: whether event times are grouped.
    `rougher`: the likelihoods from sums on intervals two and four times as long, where only sums
    are known.
    """

    problem: Posterior
    members: tuple[Member, ...]
    grouped: bool
    rougher: tuple[PartialLikelihood, ...]


def partial_models(
    definition: ModelDefinition,
    person_time: PersonTime,
    design: Design,
    *,
    flat: Sequence[str] = (),
) -> list[PartialModel]:
    """Set up the posteriors of a model's parameters by partial likelihood.

    One for each endpoint, or one of all where these share a baseline or a prior.
    """
    endpoints = list(range(len(person_time.endpoints)))
    if isinstance(definition.baseline, RandomWalk) and definition.baseline.shared:
        level = definition.baseline.level.sd
        return [_of(definition, person_time, design, flat, endpoints, level=level)]
    if isinstance(definition.endpoints, Correlated) and len(endpoints) > 1:
        return [_of(definition, person_time, design, flat, endpoints)]
    return [_of(definition, person_time, design, flat, [index]) for index in endpoints]


def _members(
    definition: ModelDefinition, person_time: PersonTime, design: Design, endpoints: Sequence[int]
) -> tuple[tuple[Member, ...], int]:
    """Lay out the parameters of endpoints; also their number."""
    members, first = [], 0
    for index in endpoints:
        parts = departures_of(definition, person_time, design, index)
        members.append(Member(endpoint=index, first=first, departures=parts))
        first += len(design.effects) + len(design.term_names)
        first += sum(part.relative.size for part in parts)
    return tuple(members), first


def _find(
    person_time: PersonTime,
    design: Design,
    endpoints: Sequence[int],
    *,
    stratum_of: Ints | None,
    varying: bool,
    share: int = 1,
) -> tuple[list[RiskSets], bool]:
    """Find risk sets, of single patients or from sums on short intervals."""
    same = same_states(design.contrast, design.exposed, design.pieces)
    cuts = person_time.cuts if varying else None
    if person_time.complete:
        return find_risk_sets(person_time, endpoints, same=same, stratum_of=stratum_of, cuts=cuts)
    sets = risk_sets_of_sums(
        person_time, endpoints, same=same, stratum_of=stratum_of, cuts=cuts, share=share
    )
    assert person_time.finer is not None
    return sets, not holds_single_times(person_time.finer)


def _of(
    definition: ModelDefinition,
    person_time: PersonTime,
    design: Design,
    flat: Sequence[str],
    endpoints: Sequence[int],
    *,
    level: float | None = None,
) -> PartialModel:
    """Set up endpoints with baselines of their own, or with one.

    With the prior sd of a `level` the log baselines of endpoints, and of strata, are parallel: all
    have one risk set, and offsets.
    """
    members, inner = _members(definition, person_time, design, endpoints)
    strata = len(design.strata)
    curves = 1 if level is None else len(endpoints) * strata
    size = inner + curves - 1
    apart = design.stratum_of if strata > 1 and level is None else None
    together = [[index] for index in endpoints] if level is None else [list(endpoints)]
    varying = isinstance(definition.phases, PhasesOverTime) and person_time.cuts.size > 0

    def blocks(share: int) -> tuple[list[FailureBlock], bool]:
        made, grouped = [], False
        for some in together:
            sets, coarse = _find(
                person_time, design, some, stratum_of=apart, varying=varying, share=share
            )
            grouped = grouped or coarse
            for risk_sets in sets:
                columns = np.zeros((risk_sets.state.size, size))
                for member in members:
                    mine = risk_sets.endpoint == member.endpoint
                    columns[mine] = _columns(risk_sets, member, design, size)[mine]
                stratum = design.stratum_of[risk_sets.pattern]
                curve = risk_sets.endpoint * strata + stratum
                columns[:, inner:] = curve[:, None] == np.arange(1, curves)
                made.append(_block(risk_sets, columns))
        return made, grouped

    finest, grouped = blocks(1)
    # Differences of independent levels.
    offsets = np.zeros((0, 0))
    if level is not None and curves > 1:
        offsets = level * np.linalg.cholesky(np.eye(curves - 1) + 1.0)
    return PartialModel(
        problem=_problem(
            definition,
            design,
            members,
            finest,
            flat,
            offsets=offsets,
            levels=None if level is None else _levels(person_time, design),
        ),
        members=members,
        grouped=grouped,
        rougher=_coarser(person_time, blocks, size),
    )


def _coarser(
    person_time: PersonTime, blocks: Callable[[int], tuple[list[FailureBlock], bool]], size: int
) -> tuple[PartialLikelihood, ...]:
    """Give likelihoods on longer intervals, where only sums are known."""
    if person_time.finer is None or holds_single_times(person_time.finer):
        return ()
    return tuple(_likelihood(blocks(share)[0], size) for share in (2, 4))


def _likelihood(blocks: Sequence[FailureBlock], size: int) -> PartialLikelihood:
    return PartialLikelihood(blocks=tuple(blocks), dimension=size)


def _levels(person_time: PersonTime, design: Design) -> Floats:
    """Crude log rates of endpoints and strata, on which the priors of levels are centred."""
    events = person_time.table["events"].values.astype(np.float64).sum(axis=(1, 2))
    time = person_time.table["person_time"].values.sum(axis=(1, 2))
    member = (design.stratum_of[:, None] == np.arange(len(design.strata))).astype(np.float64)
    at_risk = time @ member
    at_risk = np.where(at_risk > 0, at_risk, time.sum(axis=1, keepdims=True))
    return np.asarray(np.log((events @ member + PSEUDO_EVENTS) / at_risk).ravel())


def _block(risk_sets: RiskSets, columns: Floats) -> FailureBlock:
    return FailureBlock(
        events=risk_sets.events,
        at_risk=risk_sets.at_risk,
        design=columns,
        score=risk_sets.events_of @ columns,
    )


def _columns(risk_sets: RiskSets, member: Member, design: Design, size: int) -> Floats:
    """Multipliers of all parameters in a member's log hazard, (group, parameter)."""
    parts = [np.zeros((risk_sets.state.size, member.first)), design.contrast[risk_sets.state]]
    parts.append(design.terms[risk_sets.pattern])
    for departures in member.departures:
        where = (risk_sets.interval, risk_sets.state, risk_sets.pattern)
        parts.append(departures.columns(*where))
    columns = np.concatenate(parts, axis=1)
    return np.pad(columns, ((0, 0), (0, size - columns.shape[1])))


def _problem(
    definition: ModelDefinition,
    design: Design,
    members: Sequence[Member],
    blocks: Sequence[FailureBlock],
    flat: Sequence[str],
    *,
    offsets: Floats,
    levels: Floats | None = None,
) -> Posterior:
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
        for part in member.departures:
            size, sd = part.relative.size, part.prior.scale
            if part.prior.known:
                add(size, middle=0.0, weight=1.0, factor=sd * part.relative)
                continue
            add(size, middle=0.0, weight=1.0, factor=part.relative, along=len(spreads))
            spreads.append(Spread(high=LARGEST_SD * sd, precision=sd**-2))
    base = block_diag(np.diag(np.concatenate(scale)), offsets)
    size, inner = base.shape[0], base.shape[0] - offsets.shape[0]
    add(offsets.shape[0], middle=0.0, weight=1.0, factor=np.zeros(0))
    origin = np.zeros(size)
    if levels is not None:
        origin[inner:] = levels[1:] - levels[0]
    problem = Posterior(
        likelihood=_likelihood(blocks, size),
        mean=np.concatenate(mean),
        precision=np.concatenate(precision),
        origin=origin,
        base=base,
        spreads=tuple(spreads),
        axis=np.concatenate(axis).astype(np.int64),
    )
    kind = definition.endpoints
    if isinstance(kind, Correlated) and len(members) > 1 and "phases" not in flat:
        return _correlated(problem, kind, members, effects, mean=phases.mean, sd=phases.sd)
    return problem


def _correlated(
    problem: Posterior,
    kind: Correlated,
    members: Sequence[Member],
    effects: int,
    *,
    mean: float,
    sd: float,
) -> Posterior:
    """Correlate the endpoints' log hazard ratios a priori, as the fit does.

    The coordinates of a pair of endpoints are the prior probabilities of their partial
    correlation, which is uniform.
    """
    size, count = len(members), len(problem.spreads)
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    shape = [kind.concentration + (size - 2 - i) / 2.0 for i, _ in pairs]
    places = np.array([[member.first + k for k in range(effects)] for member in members])
    origin, precision, middle = (
        values.copy() for values in (problem.origin, problem.precision, problem.mean)
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
