"""The companion of a fit: log hazard ratios by partial likelihood, with the fit's own priors.

The partial likelihood has no baseline that could be wrong. A fit whose baseline is free enough has
the same posterior of the log hazard ratios: Breslow's treatment of ties is its limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np
import pandas as pd
import xarray as xr
from scipy.linalg import block_diag
from scipy.special import betaincinv

from bayesblina.core.arrays import Floats
from bayesblina.core.breslow import FailureBlock, PartialLikelihood
from bayesblina.core.errors import SpecError
from bayesblina.hazards.baseline import PSEUDO_EVENTS, Departures, departures_of
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.parts import (
    Commensurate,
    Correlated,
    PatientFrailty,
    PhasesOverTime,
    RandomWalk,
    RobustMixture,
)
from bayesblina.inference.partial_draws import (
    MOST_SPREADS,
    Drawn,
    Posterior,
    Spread,
    draw,
    find_nodes,
    lightened,
)
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import (
    RiskSets,
    find_risk_sets,
    holds_single_times,
    risk_sets_of_sums,
    same_states,
)

FLAT = ("phases", "covariates")
# Ranges of sds end at so many times the scale of their half-normal prior.
LARGEST_SD = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Companion:
    """The posterior of the log hazard ratios by partial likelihood.

    Attributes
    ----------
    draws : xarray.Dataset or None
        Equally weighted draws over (chain, draw, ...), one chain, named as in the fit's posterior:
        ``log_hazard_ratio`` over (endpoint, effect), ``coefficient`` over (endpoint, term), and
        what makes the effect vary. None where there is no partial likelihood to compare with.
    table : pandas.DataFrame
        One row per endpoint: ``endpoint``; ``method``, ``"importance"`` or ``"hmc"``, or ``"none"``
        where nothing is compared; ``pareto_k``, the Pareto k of the importance weights;
        ``effective_draws``; ``error``, the error of posterior means of log hazard ratios that
        comes from grouping event times, 0 where they are not grouped.
    reason
        Why nothing is compared, in a sentence; empty where it is.
    """

    draws: xr.Dataset | None
    table: pd.DataFrame
    reason: str


def partial_posterior(
    definition: ModelDefinition,
    person_time: PersonTime,
    *,
    seed: int,
    draws: int = 4000,
    flat: tuple[str, ...] = (),
) -> Companion:
    """Draw log hazard ratios from Breslow's partial likelihood and the model's own priors.

    Phases, covariates, strata, delayed entry and weights are those of the fit. The mode is found
    by Newton's method; draws from a Student t distribution around it are weighted, and resampled.
    Where the weights cannot be relied on, draws are made by Hamiltonian Monte Carlo.

    The draws, and how they were made; or why there are none. Without a prior there may be no
    posterior: the reason then names what nothing identifies.

    Kalbfleisch (1978), doi:10.1111/j.2517-6161.1978.tb01666.x; Sinha, Ibrahim and Chen (2003),
    doi:10.1093/biomet/90.3.629.
    """
    unknown = [name for name in flat if name not in FLAT]
    if unknown:
        raise SpecError(f"flat: no prior '{unknown[0]}'; expected some of {', '.join(FLAT)}.")
    reason = reason_for_none(definition, person_time)
    if reason:
        return _not_compared(person_time, reason)
    design = make_design(person_time, definition)
    by_endpoint: dict[int, tuple[Member, Drawn]] = {}
    for number, model in enumerate(partial_models(definition, person_time, design, flat=flat)):
        spreads = len(model.problem.spreads)
        if spreads > MOST_SPREADS:
            return _not_compared(
                person_time,
                f"not compared: the model has {spreads} sds and correlations, too many to "
                "integrate over",
            )
        nodes = find_nodes(lightened(model.problem))
        if nodes is None:
            names = " and ".join(person_time.endpoints[member.endpoint] for member in model.members)
            return _not_compared(
                person_time,
                f"not compared: without the prior of {' and '.join(flat)} nothing identifies a log "
                f"hazard ratio of {names}, whose posterior is improper",
            )
        drawn = draw(
            model.problem,
            nodes,
            count=draws,
            seed=(seed, number),
            grouped=model.grouped,
            rougher=model.rougher,
            effects=[
                member.first + k for member in model.members for k in range(len(design.effects))
            ],
        )
        by_endpoint |= {member.endpoint: (member, drawn) for member in model.members}
    pairs = [by_endpoint[index] for index in range(len(person_time.endpoints))]
    return Companion(
        draws=_dataset(person_time, design, pairs),
        table=_table(person_time, [drawn for _, drawn in pairs]),
        reason="",
    )


def reason_for_none(definition: ModelDefinition, person_time: PersonTime) -> str:
    """Say why there is no partial likelihood with which a model can be compared.

    A sentence without its full stop; empty where there is one.
    """
    reasons = {
        "the patients are in a query engine, and their events were summed on the model's own "
        "intervals only": not person_time.complete and person_time.finer is None,
        "with cured patients hazards are not proportional, and there is no partial likelihood": (
            definition.cure is not None
        ),
        "each patient has an effect of its own, and the partial likelihood says next to nothing of "
        "their sd": isinstance(definition.groups, PatientFrailty),
        "how far external patients are borrowed from is estimated together with their baseline": (
            isinstance(definition.borrowing, Commensurate | RobustMixture)
        ),
        "events are found at visits, and there is no partial likelihood of gaps": (
            person_time.visits is not None
        ),
    }
    return next((f"not compared: {reason}" for reason, holds in reasons.items() if holds), "")


def _not_compared(person_time: PersonTime, reason: str) -> Companion:
    none = Drawn(
        parameters=np.zeros((0, 0)), method="none", pareto_k=nan, effective_draws=0.0, error=nan
    )
    return Companion(
        draws=None,
        table=_table(person_time, [none] * len(person_time.endpoints)),
        reason=reason,
    )


def _table(person_time: PersonTime, drawn: Sequence[Drawn]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "endpoint": list(person_time.endpoints),
            "method": [each.method for each in drawn],
            "pareto_k": [each.pareto_k for each in drawn],
            "effective_draws": [each.effective_draws for each in drawn],
            "error": [each.error for each in drawn],
        }
    )


def _dataset(
    person_time: PersonTime, design: Design, pairs: Sequence[tuple[Member, Drawn]]
) -> xr.Dataset:
    count = min(drawn.parameters.shape[0] for _, drawn in pairs)
    parts: dict[str, tuple[str, Sequence[object], list[Floats]]] = {}
    for member, drawn in pairs:
        for name, dim, labels, values in member.read(drawn.parameters[:count], design):
            parts.setdefault(name, (dim, labels, []))[2].append(values)
    return xr.Dataset(
        {
            name: (("chain", "draw", "endpoint", dim), np.stack(values, axis=1)[None])
            for name, (dim, _, values) in parts.items()
        },
        coords={
            "chain": np.arange(1),
            "draw": np.arange(count),
            "endpoint": list(person_time.endpoints),
            **{dim: list(labels) for dim, labels, _ in parts.values()},
        },
    )


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
        sizes = [len(design.effects), len(design.term_names)]
        sizes += [part.relative.size for part in self.departures]
        starts = self.first + np.cumsum([0, *sizes])
        parts = np.split(parameters[:, : starts[-1]], starts[:-1], axis=1)
        effects, terms, *departures = parts[1:]
        yield "log_hazard_ratio", "effect", design.effects, effects
        if design.term_names:
            yield "coefficient", "term", design.term_names, terms
        for part, relative in zip(self.departures, departures, strict=True):
            # The exposed phase is the first effect.
            around = effects[:, :1] if part.around else np.zeros(1)
            yield part.name, part.dim, part.labels, relative @ part.basis.T + around


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
    if isinstance(definition.endpoints, Correlated):
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
        first += sum(
            (len(design.effects), len(design.term_names), *(part.relative.size for part in parts))
        )
    return tuple(members), first


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
    same = same_states(design.contrast, design.exposed, design.pieces)
    cuts = person_time.cuts if isinstance(definition.phases, PhasesOverTime) else None
    sums_only = person_time.finer is not None and not holds_single_times(person_time.finer)

    def likelihood(share: int) -> tuple[PartialLikelihood, bool]:
        """Give the likelihood, and whether event times are grouped."""
        blocks, grouped = [], False
        for own in together:
            if person_time.complete:
                sets, coarse = find_risk_sets(
                    person_time, own, same=same, stratum_of=apart, cuts=cuts
                )
            else:
                coarse = sums_only
                sets = risk_sets_of_sums(
                    person_time, own, same=same, stratum_of=apart, cuts=cuts, share=share
                )
            grouped = grouped or coarse
            for risk_sets in sets:
                columns = np.zeros((risk_sets.state.size, size))
                for member in members:
                    mine = risk_sets.endpoint == member.endpoint
                    multipliers = _multipliers(risk_sets, member, design)
                    last = member.first + multipliers.shape[1]
                    columns[mine, member.first : last] = multipliers[mine]
                curve = risk_sets.endpoint * strata + design.stratum_of[risk_sets.pattern]
                columns[:, inner:] = curve[:, None] == np.arange(1, curves)
                blocks.append(
                    FailureBlock(
                        events=risk_sets.events,
                        at_risk=risk_sets.at_risk,
                        design=columns,
                        score=risk_sets.events_of @ columns,
                    )
                )
        return PartialLikelihood(blocks=tuple(blocks), dimension=size), grouped

    finest, grouped = likelihood(1)
    return PartialModel(
        problem=_problem(
            definition,
            design,
            members,
            finest,
            flat,
            # Differences of independent levels.
            offsets=(level or 0.0) * np.linalg.cholesky(np.eye(curves - 1) + 1.0),
            levels=None if level is None else _levels(person_time, design),
        ),
        members=members,
        grouped=grouped,
        rougher=tuple(likelihood(share)[0] for share in (2, 4)) if sums_only else (),
    )


def _levels(person_time: PersonTime, design: Design) -> Floats:
    """Crude log rates of endpoints and strata, on which the priors of levels are centred."""
    events = person_time.table["events"].values.astype(np.float64).sum(axis=(1, 2))
    time = person_time.table["person_time"].values.sum(axis=(1, 2))
    member = (design.stratum_of[:, None] == np.arange(len(design.strata))).astype(np.float64)
    at_risk = time @ member
    at_risk = np.where(at_risk > 0, at_risk, time.sum(axis=1, keepdims=True))
    return np.asarray(np.log((events @ member + PSEUDO_EVENTS) / at_risk).ravel())


def _multipliers(risk_sets: RiskSets, member: Member, design: Design) -> Floats:
    """Multipliers of a member's own parameters in its log hazard, (group, parameter)."""
    groups = risk_sets.interval, risk_sets.state, risk_sets.pattern
    departures = (part.columns(*groups) for part in member.departures)
    return np.concatenate(
        [design.contrast[risk_sets.state], design.terms[risk_sets.pattern], *departures], axis=1
    )


def _problem(
    definition: ModelDefinition,
    design: Design,
    members: Sequence[Member],
    likelihood: PartialLikelihood,
    flat: Sequence[str],
    *,
    offsets: Floats,
    levels: Floats | None = None,
) -> Posterior:
    """Put the priors together; offsets of baselines come last."""
    effects, terms = len(design.effects), len(design.term_names)
    phases, covariates = definition.phases.prior, definition.covariates.prior
    # Mean, precision and scales of parameters, and the spread by which they are multiplied.
    priors: list[tuple[float, float, Floats, int]] = []
    spreads: list[Spread] = []
    for member in members:
        for name, prior, size in (("phases", phases, effects), ("covariates", covariates, terms)):
            precision = 0.0 if name in flat else prior.sd**-2
            priors.append((prior.mean, precision, np.ones(size), -1))
        for part in member.departures:
            sd = part.prior.scale
            if part.prior.known:
                priors.append((0.0, 1.0, sd * part.relative, -1))
            else:
                priors.append((0.0, 1.0, part.relative, len(spreads)))
                spreads.append(Spread(high=LARGEST_SD * sd, precision=sd**-2))
    scales = [scale for _, _, scale, _ in priors]
    sizes = [*(scale.size for scale in scales), len(offsets)]
    origin = np.zeros(sum(sizes))
    if levels is not None:
        origin[origin.size - len(offsets) :] = levels[1:] - levels[0]
    problem = Posterior(
        likelihood=likelihood,
        mean=np.repeat([*(mean for mean, _, _, _ in priors), 0.0], sizes),
        precision=np.repeat([*(precision for _, precision, _, _ in priors), 1.0], sizes),
        origin=origin,
        base=block_diag(np.diag(np.concatenate(scales)), offsets),
        spreads=tuple(spreads),
        axis=np.repeat([*(axis for _, _, _, axis in priors), -1], sizes),
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
    positions = np.array([[member.first + k for k in range(effects)] for member in members])
    origin, precision, middle = (
        values.copy() for values in (problem.origin, problem.precision, problem.mean)
    )
    origin[positions], precision[positions], middle[positions] = mean, 1.0, 0.0

    def mixed(spreads: Sequence[float]) -> Floats:
        linear = problem.base * np.append(spreads[:count], 1.0)[problem.axis]
        partial = {
            pair: 2.0 * float(betaincinv(a, a, share)) - 1.0
            for pair, a, share in zip(pairs, shape, spreads[count:], strict=True)
        }
        for j in range(size):
            rest = 1.0
            for i in range(j):
                linear[positions[j], positions[i]] = sd * partial[i, j] * np.sqrt(rest)
                rest *= 1.0 - partial[i, j] ** 2
            linear[positions[j], positions[j]] = sd * np.sqrt(rest)
        return np.asarray(linear)

    return replace(
        problem,
        origin=origin,
        precision=precision,
        mean=middle,
        spreads=(*problem.spreads, *(Spread(high=1.0, precision=0.0) for _ in pairs)),
        mixed=mixed,
    )
