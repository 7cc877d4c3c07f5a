"""The companion of a fit: log hazard ratios by partial likelihood, with the fit's own priors.

The partial likelihood has no baseline that could be wrong. A fit whose baseline is free enough has
the same posterior of the log hazard ratios: Breslow's treatment of ties is its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.parts import Commensurate, PatientFrailty, RobustMixture
from bayesblina.inference.laplace import MOST_SPREADS, find_nodes, lightened
from bayesblina.inference.partial_draws import Drawn, draw
from bayesblina.inference.partial_models import Member, partial_models
from bayesblina.person_time.cells import PersonTime

FLAT = ("phases", "covariates")


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
    parts: list[tuple[tuple[Member, ...], Drawn]] = []
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
            told=[member.first + k for member in model.members for k in range(len(design.effects))],
        )
        parts.append((model.members, drawn))
    by_endpoint = {
        member.endpoint: (member, drawn) for members, drawn in parts for member in members
    }
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
    if not person_time.complete and person_time.finer is None:
        return (
            "not compared: the patients are in a query engine, and their events were summed on the "
            "model's own intervals only"
        )
    if definition.cure is not None:
        return (
            "not compared: with cured patients hazards are not proportional, and there is no "
            "partial likelihood"
        )
    if isinstance(definition.groups, PatientFrailty):
        return (
            "not compared: each patient has an effect of its own, and the partial likelihood says "
            "next to nothing of their sd"
        )
    if isinstance(definition.borrowing, Commensurate | RobustMixture):
        return (
            "not compared: how far external patients are borrowed from is estimated together with "
            "their baseline"
        )
    return ""


def _not_compared(person_time: PersonTime, reason: str) -> Companion:
    none = Drawn(
        parameters=np.zeros((0, 0)), method="none", pareto_k=nan, effective_draws=0.0, error=nan
    )
    table = _table(person_time, [none] * len(person_time.endpoints))
    return Companion(draws=None, table=table, reason=reason)


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
    person_time: PersonTime, design: Design, found: Sequence[tuple[Member, Drawn]]
) -> xr.Dataset:
    count = min(drawn.parameters.shape[0] for _, drawn in found)
    parts: dict[str, tuple[str, Sequence[object], list[Floats]]] = {}
    for member, drawn in found:
        for name, dim, labels, values in member.read(drawn.parameters[:count], design):
            parts.setdefault(name, (dim, labels, []))[2].append(values)
    coords: dict[str, object] = {
        "chain": np.arange(1),
        "draw": np.arange(count),
        "endpoint": list(person_time.endpoints),
    }
    coords |= {dim: list(labels) for dim, labels, _ in parts.values()}
    return xr.Dataset(
        {
            name: (("chain", "draw", "endpoint", dim), np.stack(values, axis=1)[None])
            for name, (dim, _, values) in parts.items()
        },
        coords=coords,
    )
