"""What varies around an average, with the priors that the graph of a model has: numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Floats, Ints
from bayesblina.hazards.baseline import (
    PSEUDO_EVENTS,
    Walks,
    clock,
    follow_up_end,
    longest_since_entry,
    walks,
)
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design
from bayesblina.hazards.parts import PhasesBySubgroup, PhasesOverTime, PhasesSinceEntry, SiteFrailty
from bayesblina.hazards.priors import SpreadPrior
from bayesblina.person_time.cells import PersonTime

Labels = Callable[[int, Ints, Ints], tuple[Ints, Floats]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Departures:
    """Parameters whose sd is estimated, or known.

    `name`, `dim`, `labels`: what is read off them: a variable of the fit's posterior, its dimension
    and coordinates.
    `around`: whether it is around the exposed phase's log hazard ratio.
    `prior`: prior of the sd.
    `relative`, shape (parameter,): prior sds over that sd.
    `basis`, shape (label, parameter): what the variable is of the parameters.
    `label_of`: gives for an interval, states and patterns, (group,), the label that each group
    belongs to, and what the variable counts in it (0 or 1), each of shape (group,).
    """

    name: str
    dim: str
    labels: tuple[object, ...]
    around: bool
    prior: SpreadPrior
    relative: Floats
    basis: Floats
    label_of: Labels

    def columns(self, interval: int, state: Ints, pattern: Ints) -> Floats:
        """Multipliers of the parameters, (group, parameter)."""
        label, counts = self.label_of(interval, state, pattern)
        return np.asarray(self.basis[label] * counts[:, None])


def walks_over_time(person_time: PersonTime, design: Design) -> Walks:
    """Work out the walks, one for each endpoint, of an effect that varies over follow-up.

    Over the intervals; their mean, weighted by the exposed phase's events, is zero.
    """
    counts = person_time.table["events"].values.astype(np.float64)
    start = person_time.table["interval_start"].values
    distances = clock(start, follow_up_end(person_time), counts.sum(axis=(2, 3)))
    return _walks(distances, counts[:, :, design.exposed == 1.0].sum(axis=(2, 3)))


def walks_since_entry(person_time: PersonTime, design: Design) -> Walks:
    """Work out the walks, one for each endpoint, of an effect that varies since entry.

    Over the pieces; their event-weighted mean is zero.
    """
    states = design.pieces.argmax(axis=0)
    counts = person_time.table["events"].values.astype(np.float64)
    inside = counts[:, :, states].sum(axis=(1, 3))
    since = person_time.table["since"].values[states]
    return _walks(clock(since, longest_since_entry(person_time), inside), inside)


def _walks(distances: Floats, inside: Floats) -> Walks:
    weight = inside + PSEUDO_EVENTS
    return walks(distances, weight, np.zeros(weight.shape))


def departures_of(
    definition: ModelDefinition, person_time: PersonTime, design: Design, endpoint: int
) -> tuple[Departures, ...]:
    """Find an endpoint's parameters whose sd is estimated, or known, as PyMC's graph has them."""
    kind, table = definition.phases, person_time.table
    departures = []
    if isinstance(kind, PhasesBySubgroup):
        subgroup = design.subgroup_of
        departures.append(
            Departures(
                name="log_hazard_ratio_by_subgroup",
                dim="subgroup",
                labels=design.subgroups,
                around=True,
                prior=kind.change,
                relative=np.ones(len(design.subgroups)),
                basis=np.eye(len(design.subgroups)),
                label_of=lambda _, state, pattern: (subgroup[pattern], design.exposed[state]),
            )
        )
    elif isinstance(kind, PhasesOverTime) and table.sizes["interval"] > 1:
        departures.append(
            _walk(
                "log_hazard_ratio_by_interval",
                "interval",
                tuple(table["interval"].values.tolist()),
                kind.change,
                walks_over_time(person_time, design),
                endpoint,
                lambda interval, state, _: (
                    np.full(state.size, interval),
                    design.exposed[state],
                ),
            )
        )
    elif isinstance(kind, PhasesSinceEntry) and design.pieces.shape[1] > 1:
        states = design.pieces.argmax(axis=0)
        departures.append(
            _walk(
                "log_hazard_ratio_by_piece",
                "piece",
                tuple(str(name) for name in table["phase"].values[states]),
                kind.change,
                walks_since_entry(person_time, design),
                endpoint,
                lambda _, state, __: (
                    design.pieces[state].argmax(axis=1),
                    design.exposed[state],
                ),
            )
        )
    if isinstance(definition.groups, SiteFrailty):
        departures.append(
            Departures(
                name="group_effect",
                dim="group",
                labels=design.groups,
                around=False,
                prior=definition.groups.spread,
                relative=np.ones(len(design.groups)),
                basis=np.eye(len(design.groups)),
                label_of=lambda _, __, pattern: (
                    design.group_of[pattern],
                    np.ones(pattern.size),
                ),
            )
        )
    return tuple(departures)


def _walk(
    name: str,
    dim: str,
    labels: tuple[object, ...],
    prior: SpreadPrior,
    walks_of: Walks,
    endpoint: int,
    label_of: Labels,
) -> Departures:
    """Departures of an endpoint that are a walk."""
    return Departures(
        name=name,
        dim=dim,
        labels=labels,
        around=True,
        prior=prior,
        relative=walks_of.inverse_roughness[endpoint],
        basis=walks_of.basis[endpoint],
        label_of=label_of,
    )
