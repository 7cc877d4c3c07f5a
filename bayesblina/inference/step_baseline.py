"""Baselines of jumps at the event times: cumulative hazards that are step functions.

Given log hazard ratios, the limit of no prior of the baseline is a jump at each event time that is
Gamma(events, rate = sum of the relative hazards of those at risk). A jump is laid out as a hazard
on an interval so short that it holds nothing but its event time; between jumps the hazard is 0 to a
computer. Whatever reads hazards by interval then reads the step function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.hazards.effects import Design
from bayesblina.hazards.likelihood import flat_draws
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import RiskSets, find_risk_sets, same_states

# More event times of an endpoint than this are grouped.
MOST_JUMPS = 500
# More than this are grouped before their jumps are drawn.
MOST_TIMES = 2000
# Length of the interval of a jump, relative to its time; cuts must be further apart than ties are.
WIDTH = 1.25 * TIE_TOLERANCE
# Times closer than this, relative to them, jump together.
APART = 4.0 * WIDTH
# Log hazard where there is none: it adds up to less than rounding over any follow-up.
NOTHING = -80.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepBaseline:
    """Draws of baselines of jumps.

    `log_baseline`: log hazards over (chain, draw, endpoint, interval) on the intervals of
    `jump_cuts`.
    `error`: where event times are grouped, the most by which survival falls in a group, on average
    over draws, in the reference phase at mean covariates: it is off by less. 0 elsewhere.
    """

    log_baseline: xr.DataArray
    error: float


def jump_cuts(person_time: PersonTime) -> Floats:
    """Place cut points on both sides of every jump.

    Each second interval ends at an event time and holds only that.
    """
    people = person_time.people
    ends, died = people["exit"].values, people["event"].values
    times = []
    for index in range(len(person_time.endpoints)):
        own, counts = np.unique(ends[index][died[index]], return_counts=True)
        if own.size > MOST_JUMPS:
            own = own[_last_of_groups(counts.astype(np.float64))]
        times.append(own)
    pooled = np.unique(np.concatenate(times))
    kept = [float(pooled[0])]
    for time in pooled[1:].tolist():
        if time - kept[-1] > APART * time:
            kept.append(time)
    jumps = np.array(kept)
    return np.stack([jumps * (1.0 - WIDTH), jumps], axis=1).ravel()


def _last_of_groups(events: Floats) -> Ints:
    """Positions of the last times of groups of about equally many events."""
    passed = np.cumsum(events) - events / 2.0
    group = np.floor(passed * (MOST_JUMPS / events.sum()))
    return np.append(np.flatnonzero(np.diff(group)), events.size - 1)


def step_baseline(
    person_time: PersonTime, design: Design, hazard_ratios: xr.Dataset, *, seed: int
) -> StepBaseline:
    """Draw the jumps of the baseline, given log hazard ratios.

    `hazard_ratios`: draws of ``log_hazard_ratio`` and, where there are covariates, ``coefficient``.

    Kalbfleisch (1978), doi:10.1111/j.2517-6161.1978.tb01666.x: a gamma process whose weight goes to
    0. Given the hazard ratios the jumps are independent, and their means are the increments of
    Breslow's estimator.
    """
    sizes = hazard_ratios.sizes
    count = sizes["chain"] * sizes["draw"]
    start = np.asarray(person_time.table["interval_start"].values)
    stop = np.asarray(person_time.table["interval_stop"].values)
    # The second, fourth, ... intervals are those of jumps.
    begins, ends = start[1::2], stop[1::2]
    logs = np.full((len(person_time.endpoints), start.size, count), NOTHING)
    same = same_states(design.contrast)
    error = 0.0
    for index, name in enumerate(person_time.endpoints):
        own = hazard_ratios.sel(endpoint=name)
        parameters = [flat_draws(own, "log_hazard_ratio", "effect")]
        if design.term_names:
            parameters.append(flat_draws(own, "coefficient", "term"))
        sets, _ = find_risk_sets(person_time, [index], same=same, most_times=MOST_TIMES)
        rng = np.random.default_rng((seed, index, 7))
        interval, jumps = _jumps(sets, design, np.concatenate(parameters, axis=1), ends, rng)
        if interval.size:
            width = (ends - begins)[interval]
            hazard = np.log(np.maximum(jumps, np.exp(NOTHING))) - np.log(width)[:, None]
            logs[index, 1 + 2 * interval] = hazard
            if sum(found.times.size for found in sets) > MOST_JUMPS:
                after = np.exp(-np.cumsum(jumps, axis=0))
                fall = -np.diff(after, axis=0, prepend=1.0)
                error = max(error, float(fall.mean(axis=1).max()))
    shape = (len(person_time.endpoints), start.size, sizes["chain"], sizes["draw"])
    return StepBaseline(
        log_baseline=xr.DataArray(
            np.ascontiguousarray(np.moveaxis(logs.reshape(shape), (2, 3), (0, 1))),
            dims=("chain", "draw", "endpoint", "interval"),
            coords={
                "chain": hazard_ratios["chain"],
                "draw": hazard_ratios["draw"],
                "endpoint": list(person_time.endpoints),
                "interval": person_time.table["interval"].values,
            },
        ),
        error=error,
    )


def _jumps(
    sets: list[RiskSets],
    design: Design,
    parameters: Floats,
    ends: Floats,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    """Draw the jumps of one endpoint: which intervals they belong to, and (jump, draw)."""
    if not sets:
        return np.zeros(0, dtype=np.int64), np.zeros((0, parameters.shape[0]))
    (found,) = sets
    columns = np.concatenate([design.contrast[found.state], design.terms[found.pattern]], axis=1)
    # The first jump at or after an event time, up to ties, is the one that it belongs to.
    owner = np.searchsorted(ends * (1.0 + APART), found.times, side="left")
    owner = np.minimum(owner, ends.size - 1)
    place, first = np.unique(owner, return_index=True)
    total = np.zeros((place.size, parameters.shape[0]))
    step = max(1, 20_000_000 // max(found.at_risk.shape[0] + found.at_risk.shape[1], 1))
    for begin in range(0, parameters.shape[0], step):
        some = slice(begin, begin + step)
        at_risk = found.at_risk @ np.exp(columns @ parameters[some].T)
        drawn = rng.gamma(found.events[:, None], size=at_risk.shape) / at_risk
        total[:, some] = np.add.reduceat(drawn, first, axis=0)
    return place, total
