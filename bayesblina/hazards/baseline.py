"""Geometry of random walks: what their priors say, and good sampling coordinates; numpy only.

A walk's prior is an intrinsic Gaussian field: steps have variances proportional to distances. The
baseline of most models has one distance between any two neighbouring intervals and a known sd; the
walks of curve models and of varying effects have those between interval midpoints, measured half in
time and half in events (`clock`), and an sd that is estimated. The event-weighted mean of the log
hazard has a prior of its own. A walk of order 2 has second differences of that kind, and its
straight line a prior of its own too.
In the basis that diagonalises the walk's precision and the events together, coefficient k has
prior ``Normal(0, walk_sd / roughness_k)`` and, to a second-order approximation, a likelihood
``Normal(centre_k, 1)``. Sampling ``(coefficient - mean given walk_sd) / (sd given walk_sd)``
therefore leaves coordinates that are close to independent standard normals, whether the data are
few (where a centred walk mixes badly) or many (where a non-centred one does). The change of
coordinates is exact for any `centre`: only the sampler's speed depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh, null_space

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design
from bayesblina.hazards.parts import PhasesBySubgroup, PhasesOverTime, PhasesSinceEntry, SiteFrailty
from bayesblina.hazards.priors import SpreadPrior
from bayesblina.person_time.cells import PersonTime

NEWTON_STEPS = 30
LARGEST_STEP = 2.0
NEAR_ENOUGH = 1e-6
# Half an event in each interval keeps weights and crude rates finite where there is none.
PSEUDO_EVENTS = 0.5
# Steps within a gap between visits, where nothing tells hazards apart, against others.
TIED = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walks:
    """Bases and scales of random walks, one for each curve.

    `basis`, shape (curve, interval, component): deviation of each coefficient; its event-weighted
    mean is zero.
    `inverse_roughness`, shape (curve, component): the prior sd of a coefficient is
    ``walk_sd * inverse_roughness``.
    `centre`, shape (curve, component): approximate maximum-likelihood coefficients, for the
    sampler's coordinates only.
    `line`, shape (curve, interval): the straight line that a walk of order 2 leaves free: it rises
    by 1 over the clock, and its event-weighted mean is zero.
    `weight`, shape (curve, interval): events by interval, and half of one.
    """

    basis: Floats
    inverse_roughness: Floats
    centre: Floats
    line: Floats
    weight: Floats

    def coefficients(self, values: Floats) -> Floats:
        """Find the coefficients of deviations, shape (curve, component)."""
        return np.asarray(np.einsum("cjk,cj->ck", self.basis, self.weight * values))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """Sampling coordinates of random walks of known step sd, one for each curve.

    Deviations are ``likely + basis @ innovation``, exactly so for any data. Where
    the likelihood is about normal the innovations are, given the level, standard normals.

    `likely`, shape (curve, interval): deviations at about the posterior's mode; their
    event-weighted mean is zero.
    `basis`, shape (curve, interval, component): deviation of each innovation; its event-weighted
    mean is zero.
    `prior_mean`, `prior_sd`, shape (curve, component): of the innovations, which are independent
    normals in the prior.
    """

    likely: Floats
    basis: Floats
    prior_mean: Floats
    prior_sd: Floats


def steps(
    weight: Floats,
    time: Floats,
    *,
    sd: float,
    centre: Floats | None = None,
    tied: Bools | None = None,
) -> Steps:
    """Work out coordinates of random walks with independent steps of known sd.

    `weight`, shape (curve, interval): events by interval, and half of one; at least two intervals.
    `time`, shape (curve, interval): person-time at equal phases and covariates, from 0 on.
    `centre`, shape (curve, interval): weights with which the mean of the deviations is zero; the
    events' by default.
    `tied`, shape (curve, interval - 1): which neighbours have the same hazard, all but `TIED` of a
    step; none by default.
    """
    curves, intervals = weight.shape
    step = np.diff(np.eye(intervals), axis=0)
    precision = step.T @ step / sd**2
    if tied is not None:
        scaled = step / (sd * np.where(tied, TIED, 1.0))[:, :, None]
        precision = np.swapaxes(scaled, 1, 2) @ scaled
    mode, information = _mode(weight - PSEUDO_EVENTS, time, precision)
    precisions = np.broadcast_to(precision, (curves, intervals, intervals))
    centre = weight if centre is None else centre
    share = centre / centre.sum(axis=1, keepdims=True)
    likely = mode - (share * mode).sum(axis=1, keepdims=True)
    basis = np.zeros((curves, intervals, intervals - 1))
    prior_mean, prior_sd = np.zeros((curves, intervals - 1)), np.ones((curves, intervals - 1))
    for index, (expected, precision) in enumerate(zip(information, precisions, strict=True)):
        # Columns are orthogonal to the events.
        free = null_space(centre[index][None])
        value, vector = eigh(free.T @ precision @ free, free.T @ (expected[:, None] * free))
        directions = free @ vector
        # Of a coefficient the prior's precision is `value`, and the likelihood's about 1.
        width = 1.0 / np.sqrt(1.0 + value)
        basis[index] = directions * width
        pull = directions.T @ (precision @ likely[index]) / value
        prior_mean[index], prior_sd[index] = -pull / width, 1.0 / (np.sqrt(value) * width)
    return Steps(likely=likely, basis=basis, prior_mean=prior_mean, prior_sd=prior_sd)


def _pull(values: Floats, precision: Floats) -> Floats:
    """Multiply each curve's values with the precision of all walks, or with that of its own."""
    if precision.ndim == 2:
        return np.asarray(values @ precision)
    return np.asarray(np.einsum("cj,cjk->ck", values, precision))


def _mode(events: Floats, time: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """Log hazards at the mode under walks' priors, and the expected events there.

    `precision`, shape ([curve,] interval, interval): that of all walks, or each one's own.
    Result: both of shape (curve, interval). Half an event in all of follow-up keeps the level
    finite.
    """
    total, at_risk = (values.sum(axis=1, keepdims=True) for values in (events, time))
    rate = (total + PSEUDO_EVENTS) / np.where(at_risk > 0, at_risk, 1)
    spread = PSEUDO_EVENTS / events.shape[1]
    counts, person_time = events + spread, time + spread / rate
    log_hazard = np.broadcast_to(np.log(rate), events.shape).copy()
    for _ in range(NEWTON_STEPS):
        expected = person_time * np.exp(log_hazard)
        gradient = counts - expected - _pull(log_hazard, precision)
        curvature = precision + np.eye(events.shape[1]) * expected[:, None, :]
        move = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        largest = np.abs(move).max(axis=1, keepdims=True)
        log_hazard += move * np.minimum(1.0, LARGEST_STEP / np.maximum(largest, 1e-300))
        if largest.max() < NEAR_ENOUGH:
            break
    return log_hazard, person_time * np.exp(log_hazard)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedCurves:
    """What a baseline's curves are fitted to: one for each endpoint and stratum.

    `weight`, shape (curve, interval): events by interval, and half of one.
    `level_centre`, shape (curve,): crude log rate, at which the prior of the level is centred.
    `adjusted`, shape (curve, interval): person-time at equal phases and covariates; approximate.
    `crude`, shape (curve, interval): log rate of each interval less the level's, for that
    person-time.
    `clock`, shape (curve, interval - 1): distances between neighbouring intervals.
    """

    weight: Floats
    level_centre: Floats
    adjusted: Floats
    crude: Floats
    clock: Floats

    @property
    def share(self) -> Floats:
        """Shares of the intervals in a curve's weight, (curve, interval)."""
        return self.weight / self.weight.sum(axis=1, keepdims=True)


def midpoints(start: Floats, last: float) -> Floats:
    """Midpoints of intervals, which begin at `start`; the open one ends with follow-up."""
    if last <= start[-1]:
        last = float(start[-1] + ((start[-1] - start[-2]) or 1.0))
    return np.asarray((start + np.append(start[1:], last)) / 2.0)


def clock(start: Floats, last: float, events: Floats) -> Floats:
    """Distances between the midpoints of neighbouring intervals, on the walk's own clock.

    The clock runs from 0 to 1 over follow-up, at half its speed with time and at half its speed
    with the curve's events, which are taken as spread evenly within an interval. Hazards often
    change fastest where events are dense and intervals short, early in follow-up; a clock of time
    alone would hold them equal there. One of events alone would hold the hazard equal over a long
    stretch without any. Neither depends on how finely follow-up is cut.

    Result, shape (curve, interval - 1): distances, greater than 0; their sum is below 1.
    """
    middle = midpoints(start, last)
    total = events.sum(axis=1, keepdims=True)
    even = np.full(events.shape, 1.0 / events.shape[1])
    share = np.divide(events, total, out=even, where=total > 0)
    passed = np.cumsum(share, axis=1) - share / 2.0
    return np.asarray((np.diff(middle) / max(last, middle[-1]) + np.diff(passed, axis=1)) / 2.0)


def walks(
    distances: Floats, weight: Floats, crude: Floats | float = 0.0, *, order: int = 1
) -> Walks:
    """Work out the bases of random walks.

    `distances`, shape (curve, interval - 1): distances between neighbouring intervals; at least
    one.
    `weight`, shape (curve, interval): events by interval, none of them 0.
    `crude`, shape (curve, interval): approximate deviations.
    `order`: 1 for independent steps, 2 for independent changes of slope (Lindgren and Rue 2008,
    doi:10.1111/j.1467-9469.2008.00610.x); scaled such that ``walk_sd`` is the sd of the departure
    at the end of the clock from the line through its beginning.
    """
    curves, intervals = weight.shape
    components = max(intervals - order, 0)
    basis, inverse = np.zeros((curves, intervals, components)), np.ones((curves, components))
    position = np.concatenate([np.zeros((curves, 1)), np.cumsum(distances, axis=1)], axis=1)
    line = position - np.average(position, axis=1, weights=weight)[:, None]
    step = np.diff(np.eye(intervals), axis=0)
    for index in range(curves if components else 0):
        slope = step / distances[index][:, None]
        if order == 1:
            precision = step.T @ slope
        else:
            bend = np.diff(slope, axis=0)
            width = (distances[index][1:] + distances[index][:-1]) / 2.0
            # The end's departure from the line has variance 1/3 per unit of the bends'.
            precision = bend.T @ (bend / width[:, None]) / 3.0
        value, vector = eigh(precision, np.diag(weight[index]))
        basis[index] = vector[:, order:]
        inverse[index] = 1.0 / np.sqrt(value[order:])
    return Walks(
        basis=basis,
        inverse_roughness=inverse,
        centre=np.einsum("cjk,cj->ck", basis, weight * crude),
        line=line,
        weight=weight,
    )


def matern_density(length: Any, squared_frequency: Any) -> Any:
    """Spectral density of the Matern 5/2 covariance in one dimension, of variance 1."""
    return (16.0 / 3.0) * 5.0**2.5 / length**5 / (5.0 / length**2 + squared_frequency) ** 3


def follow_up_end(person_time: PersonTime) -> float:
    """End of the longest follow-up."""
    return float(person_time.table["last_exit"].values.max())


def step_scale(person_time: PersonTime, states: Ints) -> tuple[Floats, float]:
    """Say where the steps of the exposure begin on their own scale, and where the last one ends.

    `states`, shape (step,): positions of the steps' states, in order.
    Result: `begins`, shape (step,): times, amounts or numbers from 0 on; `last`: end of the last
    step. Of times that is the longest that anybody was at risk in it; the most that anybody had of
    a phase is not known, so that the last step of an amount, or of episodes, is taken to be as wide
    as the one before it (which `midpoints` does where the end is not after the beginning).
    """
    table, layout = person_time.table, person_time.layout
    measure = "since_entry" if layout is None else layout.exposure.measure
    begins = table["since"].values[states]
    if measure == "episode":
        return begins - 1.0, 0.0
    if measure == "cumulative":
        return begins, 0.0
    longest = table["longest_in"].values[:, states].max(axis=0)
    # Time in the phase is none since its end: an effect is carried over from there.
    entered = (longest > 0) & (begins >= 0)
    last = float((begins + longest)[entered].max(initial=0.0))
    return np.maximum(begins, 0.0), last


def prior_sds(definition: ModelDefinition, design: Design) -> Floats:
    """Prior sds of the log hazard ratios of phases and covariates, (effect + term,)."""
    sds = (definition.phases.prior.sd, definition.covariates.prior.sd)
    return np.repeat(sds, (len(design.effects), len(design.term_names)))


def baseline_curves(
    person_time: PersonTime, design: Design, *, prior_sd: Floats, source: int = 0
) -> FittedCurves:
    """Collect events and person-time by endpoint and stratum.

    `prior_sd`, shape (effect + term,): prior sds of the log hazard ratios, which keep the
    approximation finite.
    `source`: where external patients may differ, whose curves: 0 for the current patients', else
    the source's position from 1 on.
    """
    table, strata, effects = person_time.table, len(design.strata), design.by_cell
    counts = table["events"].values.astype(np.float64), table["person_time"].values
    _, intervals, states, patterns = counts[0].shape
    member = np.arange(strata)[:, None] == design.stratum_of
    if design.sources:
        member = member & (design.source_of == source)
    events, time = (
        (values[:, None] * member[None, :, None, None, :]).reshape(-1, intervals, states * patterns)
        for values in counts
    )
    by_interval, total = events.sum(axis=2), time.sum(axis=(1, 2))
    # A stratum without time at risk for an endpoint takes the endpoint's rate.
    everywhere = np.repeat(counts[1].sum(axis=(1, 2, 3)), strata)
    rate = (by_interval.sum(axis=1) + PSEUDO_EVENTS) / np.where(total > 0, total, everywhere)
    level_centre, weight = np.log(rate), by_interval + PSEUDO_EVENTS
    fitted = (profiled(*curve, effects, prior_sd)[0] for curve in zip(events, time, strict=True))
    # Person-time weighted by fitted relative hazards.
    adjusted = np.stack(
        [
            (at_risk * np.exp(effects @ parameter)).sum(1)
            for at_risk, parameter in zip(time, fitted, strict=True)
        ]
    )
    return FittedCurves(
        weight=weight,
        level_centre=level_centre,
        adjusted=adjusted,
        crude=np.log(weight / (adjusted + (PSEUDO_EVENTS / rate)[:, None])) - level_centre[:, None],
        clock=clock(table["interval_start"].values, follow_up_end(person_time), by_interval),
    )


def profiled(
    events: Floats, time: Floats, effects: Floats, prior_sd: Floats
) -> tuple[Floats, Floats]:
    """Fit log hazard ratios with the baseline, a hazard for each interval, profiled out.

    `effects`, shape (cell, parameter): covariate values of each cell.
    `prior_sd`, shape (parameter,): ridge.
    Result: `parameter`, shape (parameter,): log hazard ratios at the mode.
    `curvature`, shape (parameter, parameter): minus the second derivatives there, the ridge's among
    them.
    """
    size = effects.shape[1]
    parameter, curvature = np.zeros(size), np.zeros((size, size))
    by_interval, ridge = events.sum(1), 1.0 / prior_sd**2
    for _ in range(NEWTON_STEPS if size else 0):
        weighted = time * np.exp(effects @ parameter)
        total = weighted.sum(1)
        rate = np.divide(by_interval, total, out=np.zeros_like(total), where=total > 0)
        mean = np.divide(
            weighted @ effects,
            total[:, None],
            out=np.zeros((total.size, size)),
            where=total[:, None] > 0,
        )
        expected = rate @ weighted
        gradient = (events.sum(0) - expected) @ effects - ridge * parameter
        curvature = effects.T @ (expected[:, None] * effects)
        curvature += np.diag(ridge) - (by_interval[:, None] * mean).T @ mean
        step = np.linalg.solve(curvature, gradient)
        parameter += step * min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-8:
            break
    return parameter, curvature


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
    label_of: Callable[[int, Ints, Ints], tuple[Ints, Floats]]

    def columns(self, interval: int, state: Ints, pattern: Ints) -> Floats:
        """Multipliers of the parameters, (group, parameter)."""
        label, counts = self.label_of(interval, state, pattern)
        return np.asarray(self.basis[label] * counts[:, None])


def walks_over_time(person_time: PersonTime, design: Design) -> Walks:
    """Work out the walks, one for each endpoint, of an effect that varies over follow-up.

    Over the intervals; their mean, weighted by the exposed phase's events, is zero.
    """
    table = person_time.table
    counts = table["events"].values.astype(np.float64)
    distances = clock(
        table["interval_start"].values, follow_up_end(person_time), counts.sum(axis=(2, 3))
    )
    inside = counts[:, :, design.exposed == 1.0].sum(axis=(2, 3))
    return walks(distances, inside + PSEUDO_EVENTS)


def walks_since_entry(person_time: PersonTime, design: Design) -> Walks:
    """Work out the walks, one for each endpoint, of an effect that varies by step.

    Over the steps (by default of time since entry); their event-weighted mean is zero.
    """
    table, states = person_time.table, design.pieces.argmax(axis=0)
    inside = table["events"].values.astype(np.float64)[:, :, states].sum(axis=(1, 3))
    distances = clock(*step_scale(person_time, states), inside)
    return walks(distances, inside + PSEUDO_EVENTS)


def _of_walk(
    dim: str,
    labels: tuple[object, ...],
    prior: SpreadPrior,
    walk: Walks,
    endpoint: int,
    label_of: Callable[[int, Ints, Ints], tuple[Ints, Floats]],
) -> Departures:
    """Take an endpoint's walk around the exposed phase's log hazard ratio."""
    return Departures(
        name=f"log_hazard_ratio_by_{dim}",
        dim=dim,
        labels=labels,
        around=True,
        prior=prior,
        relative=walk.inverse_roughness[endpoint],
        basis=walk.basis[endpoint],
        label_of=label_of,
    )


def departures_of(
    definition: ModelDefinition, person_time: PersonTime, design: Design, endpoint: int
) -> tuple[Departures, ...]:
    """Find an endpoint's parameters whose sd is estimated, or known, as PyMC's graph has them."""
    kind, table, groups = definition.phases, person_time.table, definition.groups
    subgroups, sites = len(design.subgroups), len(design.groups)
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
                relative=np.ones(subgroups),
                basis=np.eye(subgroups),
                label_of=lambda _, state, pattern: (subgroup[pattern], design.exposed[state]),
            )
        )
    elif isinstance(kind, PhasesOverTime) and table.sizes["interval"] > 1:
        departures.append(
            _of_walk(
                "interval",
                tuple(table["interval"].values.tolist()),
                kind.change,
                walks_over_time(person_time, design),
                endpoint,
                lambda interval, state, _: (np.full(state.size, interval), design.exposed[state]),
            )
        )
    elif isinstance(kind, PhasesSinceEntry) and design.pieces.shape[1] > 1:
        departures.append(
            _of_walk(
                "piece",
                tuple(map(str, table["phase"].values[design.pieces.argmax(axis=0)])),
                kind.change,
                walks_since_entry(person_time, design),
                endpoint,
                lambda _, state, __: (design.pieces[state].argmax(axis=1), design.exposed[state]),
            )
        )
    if isinstance(groups, SiteFrailty):
        departures.append(
            Departures(
                name="group_effect",
                dim="group",
                labels=design.groups,
                around=False,
                prior=groups.spread,
                relative=np.ones(sites),
                basis=np.eye(sites),
                label_of=lambda _, __, pattern: (design.group_of[pattern], np.ones(pattern.size)),
            )
        )
    return tuple(departures)
