"""Hazards summed over the patients at risk, between all times at which anything changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import sparse

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.intervals import interval_of
from bayesblina.core.product_limit import weigh_at_risk
from bayesblina.estimands.draws import blocks, episodes_of
from bayesblina.hazards.likelihood import LogHazard, hazard_of_segments, hazards_of_patients
from bayesblina.hazards.survivors import Segments, expected_events, segments_of, sums
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import PersonTime

# Numbers held at once while hazards are added up over patients.
BLOCK = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightsAtRisk:
    """Patients at risk between all times at which anything changes.

    Times (knot); sums of the weights at risk (piece) and of the hazards times them (draw, piece);
    and the unit of which the events are Poisson numbers (draw, piece), 1 without weights.
    """

    knots: Floats
    at_risk: Floats
    hazard: Floats
    unit: Floats


def risk_sets(
    fit: Fit, endpoint: str, draws: Ints, *, keep: Bools, begin: float | None, at: Floats
) -> WeightsAtRisk | None:
    """Add up hazards over patients at risk; None if nobody is after the beginning.

    `keep`, shape (patient or 1, state or 1): whose time at risk counts, and in which states.
    `at`: times that are to be among the knots.
    """
    person_time = fit.person_time
    people, states = person_time.people.sizes["patient"], person_time.table.sizes["phase"]
    keep = np.broadcast_to(keep, (people, states))
    patient, state, start, stop = episodes_of(person_time, endpoint)
    kept = keep[patient, state]
    if begin is not None:
        kept &= stop > begin
        start = np.maximum(start, begin)
    if not kept.any():
        return None
    patient, state, start, stop = patient[kept], state[kept], start[kept], stop[kept]
    first, last = float(start.min()) if begin is None else begin, float(stop.max())
    inner = np.concatenate([start, stop, person_time.cuts, at])
    knots = np.unique(np.append(inner[(inner > first) & (inner < last)], [first, last]))
    weight = person_time.people["weight"].values
    hazards, who = hazards_of_patients(fit.posterior, person_time, fit.design, endpoint=endpoint)
    if hazards.cured is not None:
        totals = _of_uncured(fit, endpoint, hazards, draws, knots, keep)
    else:
        episode = np.arange(patient.size)
        changes = sparse.csr_array(
            (
                np.repeat([1.0, -1.0], patient.size),
                (np.tile(episode, 2), np.searchsorted(knots, np.concatenate([start, stop]))),
            ),
            shape=(patient.size, knots.size),
        )
        totals = _of_everyone(
            replace(hazards, shared=hazards.shared[draws], pattern=hazards.pattern[draws]),
            who[patient],
            state,
            [weight[patient] ** power for power in _powers(person_time)],
            changes,
            interval_of((knots[:-1] + knots[1:]) / 2.0, person_time.cuts),
        )
    return WeightsAtRisk(
        knots=knots,
        at_risk=weigh_at_risk(start, stop, weight[patient], knots[1:]),
        hazard=totals[0],
        # Of hazards summed with the weights and with their squares; 1 where there are none.
        unit=variance_over_mean(totals[-1], totals[0]),
    )


def _of_everyone(
    hazards: LogHazard,
    pattern: Ints,
    state: Ints,
    weights: Sequence[Floats],
    changes: sparse.csr_array,
    interval: Ints,
) -> list[Floats]:
    """Hazards summed where nobody is cured, once for each kind of weights; (draws, piece).

    `pattern`, `state`, shape (episode,): of each episode.
    `changes`, shape (episode, knot): 1 where an episode begins, -1 where it ends.
    `interval`, shape (piece,): the model's interval of each piece between knots.
    """
    draws = hazards.pattern.shape[0]
    totals = [np.zeros((draws, interval.size)) for _ in weights]
    classes, states = hazards.shared.shape[1], hazards.shared.shape[3]
    for rows in blocks(draws, max(pattern.size, interval.size), most=BLOCK):
        for class_, one in product(range(classes), range(states)):
            here = (state == one) & (hazards.class_of[pattern] == class_)
            if not here.any():
                continue
            present = np.rint(np.cumsum(changes[here].sum(axis=0))[:-1])
            relative = np.exp(hazards.pattern[rows][:, pattern[here]])
            hazard = np.exp(hazards.shared[rows, class_][:, interval, one])
            for weight, total in zip(weights, totals, strict=True):
                counted = relative * weight[here]
                summed = np.cumsum((changes[here].T @ counted.T).T, axis=1)[:, :-1]
                # Sums of differences leave rounding where nobody is at risk.
                total[rows] += np.where(present > 0, np.maximum(summed, 0.0), 0.0) * hazard
    return totals


def _of_uncured(
    fit: Fit, endpoint: str, hazards: LogHazard, draws: Ints, knots: Floats, keep: Bools
) -> list[Floats]:
    """Hazards summed where some are cured: who is, shows in the time since entry."""
    person_time = fit.person_time
    # Knots before the first are needed too.
    points = np.unique(np.concatenate([person_time.cuts, knots]))
    segments = segments_of(person_time, endpoint, points=points)
    opens = np.concatenate([[0.0], points])[segments.piece]
    piece, pieces = np.searchsorted(knots, opens), knots.size - 1
    mine = keep[segments.patient, segments.state] & (opens >= knots[0]) & (opens < knots[-1])
    weight = person_time.people["weight"].values[segments.patient[mine]][:, None]
    totals = [np.empty((draws.size, pieces)) for _ in _powers(person_time)]
    for rows, events in expected_in_segments(fit, hazards, segments, draws=draws):
        for power, total in zip(_powers(person_time), totals, strict=True):
            total[rows] = sums(events[mine] * weight**power, piece[mine], pieces).T
    return [total / np.diff(knots) for total in totals]


def _powers(person_time: PersonTime) -> tuple[int, ...]:
    """Powers of the weights that are needed: squares where there are any."""
    return (1, 2) if person_time.weighted else (1,)


def variance_over_mean(spread: Floats, mean: Floats) -> Floats:
    """Find the multiple of a Poisson variable that has this variance and mean; 1 without any."""
    return np.divide(spread, mean, out=np.ones(mean.shape), where=mean > 0)


def expected_in_segments(
    fit: Fit, hazards: LogHazard, segments: Segments, *, draws: Ints | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Events expected in segments of follow-up, of shape (segment, draws), some draws at a time."""
    assert hazards.cured is not None
    pattern_of = fit.person_time.people["pattern"].values
    chosen = np.arange(hazards.pattern.shape[0]) if draws is None else draws
    for rows in blocks(chosen.size, segments.patient.size, most=BLOCK):
        some = replace(
            hazards,
            shared=hazards.shared[chosen[rows]],
            pattern=hazards.pattern[chosen[rows]],
        )
        passed = hazard_of_segments(some, segments, pattern_of).T
        log_odds = hazards.cured[chosen[rows]][:, pattern_of[segments.patient]].T
        yield rows, expected_events(passed, segments.patient, log_odds)


def weighted_time(relative: Floats, class_of: Ints, time: Floats, by_class: Floats) -> Floats:
    """Sum time at risk over patterns, times their hazards.

    `relative`, shape (draws, pattern): relative hazards.
    `class_of`, shape (pattern,): class of each pattern.
    `time`, shape (interval, state, pattern): time at risk.
    `by_class`, shape (draws, class, interval, state): what the patterns of a class share.
    Result, shape (draws, interval, state): sums.
    """
    total = np.zeros((relative.shape[0], *time.shape[:2]))
    for class_ in range(by_class.shape[1]):
        inside = class_of == class_
        flat = time[:, :, inside].reshape(total[0].size, -1)
        total += (relative[:, inside] @ flat.T).reshape(total.shape) * by_class[:, class_]
    return total


def read_steps(curve: Floats, first: float, knots: Floats, times: Floats) -> Floats:
    """Read step curves, given after each piece, at times that are knots or outside them."""
    steps = np.concatenate([np.full((curve.shape[0], 1), first), curve], axis=1)
    piece = np.searchsorted(knots, times, side="right") - 1
    values = steps[:, np.clip(piece, 0, None)]
    values[:, (times > knots[-1]) | (times < knots[0])] = np.nan
    return values
