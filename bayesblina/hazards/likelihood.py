"""Hazards, survival and patients' log-likelihoods from draws; no row by row.

A patient who is cured never has the event: with a probability that depends on covariates, from
coming under observation on; whoever is not has the model's hazard. Nobody's state is seen: a
patient who is still event-free at the end of follow-up may be either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import expit, logsumexp

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import split
from bayesblina.hazards.effects import Design
from bayesblina.hazards.gaps import gap_terms, log_starts
from bayesblina.hazards.log_hazards import (
    LogHazard,
    design_of_patients,
    flat_draws,
    log_hazard,
    passed_before,
    relative_of,
    source_effects,
)
from bayesblina.person_time.cells import PersonTime

# Nodes over the effects of single patients in their likelihood.
PATIENT_NODES = 51


def total_log_likelihood(
    posterior: xr.Dataset, person_time: PersonTime, design: Design, *, endpoint: str | None = None
) -> Floats:
    """Log-likelihood of all patients together, from events and person-time by cell.

    `endpoint`: None for all endpoints together.
    Result, shape (chain * draw,): the sum of `patient_log_likelihood`, where hazards are those of
    patterns: not for models in which some are cured or single patients have effects.
    """
    total = np.zeros(posterior.sizes["chain"] * posterior.sizes["draw"])
    all_events, all_time = person_time.counted
    for index, name in enumerate(person_time.endpoints):
        if endpoint not in (None, name):
            continue
        hazards = log_hazard(posterior, design, endpoint=name)
        events, time = all_events[index], all_time[index]
        total += hazards.pattern @ events.sum(axis=(0, 1))
        relative = np.exp(hazards.pattern)
        for class_ in range(design.classes):
            inside = hazards.class_of == class_
            shared = hazards.shared[:, class_].reshape(total.size, -1)
            total += shared @ events[:, :, inside].sum(axis=2).ravel()
            adjusted = relative[:, inside] @ time[:, :, inside].reshape(shared.shape[1], -1).T
            total -= (adjusted * np.exp(shared)).sum(axis=1)
        if person_time.visits is not None:
            weight = person_time.people["weight"].values
            gaps = gap_terms(posterior, person_time, design, name)
            if gaps is not None:
                total += weight[gaps.patient] @ np.log(gaps.found())
            starts = log_starts(posterior, person_time, design, name)
            if starts is not None:
                total += weight @ starts
    return total


def patient_log_likelihood(
    posterior: xr.Dataset,
    person_time: PersonTime,
    design: Design,
    *,
    endpoint: str | None = None,
    rows: Ints | None = None,
) -> xr.DataArray:
    """Log-likelihood of each patient's follow-up.

    It is the sum over cells of events x log hazard - time at risk x hazard, without terms that
    depend on how follow-up was cut; redundant cuts leave it as it is. Effects of single patients
    are integrated out, by adaptive quadrature: what is predicted is a new patient. Weights multiply
    it.

    Over (chain, draw, patient); 0 for patients who do not contribute to the endpoint.

    `endpoint`: None for all endpoints together.
    `rows`, shape (patient,): positions of the patients wanted; all by default. Of a sample of
    patients it is theirs.
    """
    names = person_time.endpoints if endpoint is None else (endpoint,)
    integrated = "patient_effect" in posterior
    everybody = person_time.patients().people
    rows = np.arange(everybody.sizes["patient"]) if rows is None else rows
    chosen = everybody.isel(patient=rows)
    parts = [
        _of_endpoint(posterior, person_time, design, name, rows, apart=integrated) for name in names
    ]
    total, expected = (sum(values[1:], values[0]) for values in zip(*parts, strict=True))
    if integrated:
        events = chosen["event"].sel(endpoint=list(names)).values.sum(axis=0).astype(np.float64)
        total += _integrated(events, expected, flat_draws(posterior, "patient_sd", "shape")[:, 0])
    total *= chosen["weight"].values[:, None]
    sizes = posterior.sizes
    return xr.DataArray(
        total.T.reshape(sizes["chain"], sizes["draw"], -1),
        dims=("chain", "draw", "patient"),
        coords={
            "chain": posterior["chain"],
            "draw": posterior["draw"],
            "patient": chosen["patient"],
        },
        name="survival",
    )


def _of_endpoint(
    posterior: xr.Dataset,
    person_time: PersonTime,
    design: Design,
    endpoint: str,
    rows: Ints,
    *,
    apart: bool,
) -> tuple[Floats, Floats]:
    """Log-likelihood and cumulative hazard of each patient, both of shape (patient, draws).

    With `apart` patients have no effects of their own, and the log-likelihood is without its
    cumulative hazard, which the second then is; else the second is 0.
    """
    own, who = design_of_patients(person_time, design, rows)
    hazards = log_hazard(posterior, own, endpoint=endpoint)
    relative = hazards.pattern
    if apart:
        relative = relative_of(posterior, own, own.terms, endpoint=endpoint)
        relative = relative + source_effects(posterior, own, endpoint=endpoint)
    # Draws run along rows, so that picking cells and patients picks whole rows.
    draws = relative.shape[0]
    by_pattern = np.ascontiguousarray(np.broadcast_to(relative, (draws, hazards.class_of.size)).T)
    ratio = np.exp(by_pattern)
    event_patient, event_cell = person_time.event_cells(endpoint)
    row_of = np.full(person_time.patients().people.sizes["patient"], -1, dtype=np.int64)
    row_of[rows] = np.arange(rows.size)
    chosen = row_of[event_patient] >= 0
    event_patient, event_cell = row_of[event_patient[chosen]], event_cell[chosen]
    # Cumulative hazards are taken off the log hazards of events, unless they are wanted apart.
    cells = (1.0 if apart else -1.0) * person_time.patient_cells(endpoint)[rows]
    values = np.zeros((who.size, draws))
    events = np.zeros_like(values) if apart else values
    for class_ in range(design.classes):
        log_cells = np.ascontiguousarray(hazards.shared[:, class_].reshape(draws, -1).T)
        inside = hazards.class_of[who] == class_
        values[inside] = (cells[inside] @ np.exp(log_cells)) * ratio[who[inside]]
        here = inside[event_patient]
        patient = event_patient[here]
        events[patient] += log_cells[event_cell[here]] + by_pattern[who[patient]]
    if person_time.visits is not None:
        gaps = gap_terms(posterior, person_time, design, endpoint)
        if gaps is not None:
            known = row_of[gaps.patient] >= 0
            values[row_of[gaps.patient[known]]] += np.log(gaps.found()[known])
        starts = log_starts(posterior, person_time, design, endpoint)
        if starts is not None:
            values += starts[rows]
    if hazards.cured is not None:
        log_odds = np.ascontiguousarray(hazards.cured.T)[who]
        died = np.zeros(who.size, dtype=bool)
        died[event_patient] = True
        # Not cured, or the mixture instead of the survival of those who are not.
        values[died] -= np.logaddexp(0.0, log_odds[died])
        values[~died] = log_survival(log_odds[~died], -values[~died])
    return events, values if apart else np.zeros((1, 1))


def _integrated(events: Floats, expected: Floats, sd: Floats) -> Floats:
    """Log of the integral of exp(events b - expected exp(b)) over b ~ Normal(0, sd).

    Gauss-Hermite quadrature about each integrand's mode, scaled by its curvature there.
    Shapes are (patient,), (patient, draws) and (draws,).
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(PATIENT_NODES)
    weights = weights / weights.sum()
    mode, count, variance = np.zeros(expected.shape), events[:, None], sd**2
    for _ in range(30):
        rate = expected * np.exp(mode)
        step = (count - rate - mode / variance) / (rate + 1.0 / variance)
        mode += np.clip(step, -2.0, 2.0)
    rate = expected * np.exp(mode)
    width = 1.0 / np.sqrt(rate + 1.0 / variance)
    terms = []
    for node, weight in zip(nodes, weights, strict=True):
        effect = mode + width * node
        terms.append(
            np.log(weight)
            + node**2 / 2.0
            + count * effect
            - expected * np.exp(effect)
            - effect**2 / (2.0 * variance)
        )
    return np.asarray(logsumexp(np.stack(terms), axis=0) + np.log(width / sd))


def log_survival(log_odds: Floats, cumulative: Floats) -> Floats:
    """Logarithm of the survival of patients of whom some are cured.

    >>> float(np.exp(log_survival(np.array(0.0), np.array(np.inf))))
    0.5
    """
    return np.asarray(np.logaddexp(log_odds, -cumulative) - np.logaddexp(0.0, log_odds))


def cured_given_survival(log_odds: Floats, cumulative: Floats | float = 0.0) -> Floats:
    """Probability that patients who are still event-free are cured: at entry, or later on.

    `log_odds`: log odds of being cured at entry.
    `cumulative`: cumulative hazard since, of those who are not cured.

    >>> float(cured_given_survival(np.array(0.0), np.array(0.0)))
    0.5
    """
    return np.asarray(expit(log_odds + cumulative))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segments:
    """One endpoint's follow-up in parts within which no hazard changes, in the order of time.

    `patient`, `state`, `piece`, shape (segment,): whose it is, the state, and the piece between the
    points at which it was cut.
    `interval`, shape (segment,): the model's interval.
    `length`, shape (segment,): its length, greater than 0.
    """

    patient: Ints
    state: Ints
    piece: Ints
    interval: Ints
    length: Floats


def segments_of(
    person_time: PersonTime,
    endpoint: str,
    *,
    points: Floats | None = None,
    until: float = np.inf,
) -> Segments:
    """Cut the follow-up of one endpoint.

    `points`, shape (n_pieces - 1,): where to cut, the model's cut points among them; by default
    only those.
    """
    cuts, episodes = person_time.cuts, person_time.episodes
    rows = episodes["endpoint"].values == person_time.endpoints.index(endpoint)
    rows &= episodes["start"].values < until
    patient, state, start, stop = (
        episodes[name].values[rows] for name in ("patient", "phase", "start", "stop")
    )
    inner = cuts if points is None else points
    episode, piece, length = split(start, np.minimum(stop, until), inner)
    opens = np.concatenate([[0.0], inner])[piece]
    return Segments(
        patient=patient[episode],
        state=state[episode],
        piece=piece,
        interval=np.searchsorted(cuts, opens, side="right"),
        length=length,
    )


def hazard_of_segments(hazards: LogHazard, segments: Segments, pattern_of: Ints) -> Floats:
    """Cumulative hazard within segments, (draws, segment), of patients who are not cured."""
    pattern = pattern_of[segments.patient]
    shared = hazards.shared[:, hazards.class_of[pattern], segments.interval, segments.state]
    return np.asarray(np.exp(shared + hazards.pattern[:, pattern]) * segments.length)


def expected_events(hazard: Floats, patient: Ints, log_odds: Floats | None) -> Floats:
    """Events expected in each segment given survival to its beginning.

    `hazard`, shape (segment, draws): hazard of each segment, of those who are not cured, times its
    length.
    `patient`, shape (segment,): whose it is; a patient's segments follow each other.
    `log_odds`, shape (segment, draws): log odds of being cured at entry; None where nobody is.
    Result, shape (segment, draws): what the event process's intensity adds up to: minus the
    logarithm of survival through the segment given survival to its beginning.
    """
    if log_odds is None:
        return hazard
    before = passed_before(hazard, patient)
    later = np.logaddexp(log_odds, -(before + hazard))
    return np.asarray(np.maximum(np.logaddexp(log_odds, -before) - later, 0.0))
