"""Hazards, survival and patients' log-likelihoods from draws; no row by row.

A patient who is cured never has the event: with a probability that depends on covariates, from
coming under observation on; whoever is not has the model's hazard. Nobody's state is seen: a
patient who is still event-free at the end of follow-up may be either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from scipy import sparse
from scipy.special import expit, logsumexp

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import split
from bayesblina.hazards.effects import Design
from bayesblina.person_time.cells import PersonTime, start_cells_of, starts_by_patient

# Nodes of the quadrature over effects of new groups, and how far they reach, in sds.
NODES = 41
REACH = 6.5
# Nodes over the effects of single patients in their likelihood.
PATIENT_NODES = 51


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogHazard:
    """Log hazards of one endpoint by draw: a part of the class and one of the pattern.

    `shared`, shape (draws, class, interval, state): what the patterns of a class share.
    `ratio`, shape (draws, class, interval, state): the log hazard ratio in it: of each state
    against the reference.
    `pattern`, shape (draws, pattern): log hazard ratio of each pattern against mean covariates,
    with its group's effect.
    `class_of`, shape (pattern,): class of each pattern.
    `cured`, shape (draws, pattern): log odds of being cured as patients come under observation;
    hazards are of those who are not. None in a model without cured patients.
    """

    shared: Floats
    ratio: Floats
    pattern: Floats
    class_of: Ints
    cured: Floats | None


def flat_draws(posterior: xr.Dataset, name: str, *dims: str) -> Floats:
    """Take a variable's draws as one array (chain * draw, ...), chain by chain."""
    values = posterior[name].transpose("chain", "draw", *dims).values
    return np.asarray(values.reshape(-1, *values.shape[2:]), dtype=np.float64)


def log_hazard(posterior: xr.Dataset, design: Design, *, endpoint: str) -> LogHazard:
    """Work out the log hazards of one endpoint, by draw."""
    own = posterior.sel(endpoint=endpoint)
    stratum = ("stratum",) if "stratum" in own["log_baseline"].dims else ()
    baseline = flat_draws(own, "log_baseline", *stratum, "interval")
    # (draws, source, stratum, interval)
    baseline = baseline.reshape(baseline.shape[0], 1, -1, baseline.shape[-1])
    if "source_shape" in own:
        differing = flat_draws(own, "source_shape", "source", *stratum, "interval")
        differing = differing.reshape(baseline.shape[0], -1, *baseline.shape[2:])
        baseline = np.concatenate([baseline, baseline + differing], axis=1)
    ratio = phase_ratios(posterior, design, endpoint=endpoint, intervals=baseline.shape[3])
    shape = ratio.shape
    by_part = ratio.reshape(shape[0], *design.class_shape, *shape[2:])
    return LogHazard(
        shared=(baseline[:, :, :, None, :, None] + by_part).reshape(shape),
        ratio=ratio,
        pattern=relative_of(posterior, design, design.terms, endpoint=endpoint)
        + group_effects(posterior, design, endpoint=endpoint)
        + source_effects(posterior, design, endpoint=endpoint),
        class_of=design.class_of,
        cured=cured_log_odds(posterior, design, design.terms, endpoint=endpoint),
    )


def phase_ratios(posterior: xr.Dataset, design: Design, *, endpoint: str, intervals: int) -> Floats:
    """Log hazard ratios of the states against the reference, (draws, class, interval, state)."""
    own = posterior.sel(endpoint=endpoint)
    phase = flat_draws(own, "log_hazard_ratio", "effect") @ design.contrast.T
    # (draws, subgroup, interval, state)
    varying = phase[:, None, None, :]
    # Of the exposed phase, where its effect varies: by what, and along which axes it does not.
    for dim, axes in (("interval", (1, 3)), ("subgroup", (2, 3)), ("piece", (1, 2))):
        if f"log_hazard_ratio_by_{dim}" in own:
            effect = flat_draws(own, f"log_hazard_ratio_by_{dim}", dim)
            exposed = effect @ design.pieces.T if dim == "piece" else effect
            varying = np.where(design.exposed == 1.0, np.expand_dims(exposed, axes), varying)
    # (draws, source, stratum, subgroup, interval, state)
    apart = varying[:, None, None]
    if "source_phase_effect" in own:
        effect = flat_draws(own, "source_phase_effect", "source", "effect") @ design.contrast.T
        current = np.zeros((effect.shape[0], 1, effect.shape[2]))
        apart = apart + np.concatenate([current, effect], axis=1)[:, :, None, None, None]
    states = (intervals, phase.shape[1])
    apart = np.broadcast_to(apart, (phase.shape[0], *design.class_shape, *states))
    return apart.reshape(phase.shape[0], design.classes, *states)


def cured_log_odds(
    posterior: xr.Dataset, design: Design, terms: Floats, *, endpoint: str
) -> Floats | None:
    """Log odds of being cured as patients come under observation, (draws, pattern).

    None in a model without cured patients.
    """
    if "cured_log_odds" not in posterior:
        return None
    own = posterior.sel(endpoint=endpoint)
    middle = flat_draws(own, "cured_log_odds")[:, None]
    if not design.term_names:
        return np.repeat(middle, terms.shape[0], axis=1)
    return np.asarray(middle + flat_draws(own, "cured_coefficient", "term") @ terms.T)


def relative_of(posterior: xr.Dataset, design: Design, terms: Floats, *, endpoint: str) -> Floats:
    """Log hazard ratios of covariates against their means, (draws, pattern)."""
    if not design.term_names:
        return np.zeros((posterior.sizes["chain"] * posterior.sizes["draw"], terms.shape[0]))
    return flat_draws(posterior.sel(endpoint=endpoint), "coefficient", "term") @ terms.T


def group_effects(posterior: xr.Dataset, design: Design, *, endpoint: str) -> Floats:
    """Log hazard ratios of the patterns' groups against the average group.

    Over (draws, pattern), or (draws, 1) where there are no groups.
    """
    if "patient_effect" in posterior:
        effect = flat_draws(posterior, "patient_effect", "pattern")
    elif "group_effect" in posterior:
        effect = flat_draws(posterior.sel(endpoint=endpoint), "group_effect", "group")
    else:
        return np.zeros((posterior.sizes["chain"] * posterior.sizes["draw"], 1))
    return np.asarray(effect[:, design.group_of])


def source_effects(posterior: xr.Dataset, design: Design, *, endpoint: str) -> Floats:
    """Log hazard ratios of the patterns' sources against current patients of like covariates.

    Result, shape (draws, pattern) or (draws, 1) where there are no sources: log hazard ratios in
    the reference phase, of the level and of covariates; 0 for current patients.
    """
    own = posterior.sel(endpoint=endpoint)
    total = np.zeros((posterior.sizes["chain"] * posterior.sizes["draw"], 1))
    if "source_effect" in own:
        effect = flat_draws(own, "source_effect", "source")
        total = total + effect[:, np.maximum(design.source_of - 1, 0)] * ~design.is_current
    if "source_coefficient" in own:
        slopes = flat_draws(own, "source_coefficient", "source", "term")
        for source in range(slopes.shape[1]):
            terms = design.terms * (design.source_of == source + 1)[:, None]
            total = total + slopes[:, source] @ terms.T
    return np.asarray(total)


def group_sd(posterior: xr.Dataset, *, endpoint: str) -> Floats | None:
    """Sd of the log hazards of groups, by draw; None in a model without groups."""
    if "patient_sd" in posterior:
        return flat_draws(posterior, "patient_sd", "shape")[:, 0]
    if "group_sd" in posterior:
        return flat_draws(posterior.sel(endpoint=endpoint), "group_sd")
    return None


def new_group_nodes() -> tuple[Floats, Floats]:
    """Nodes and weights of a quadrature over the standardised effects of new groups.

    Equal steps: survival falls from 1 to 0 within a narrow range of effects when the sd is large,
    where the nodes of Gauss and Hermite thin out. With an sd of 2 the error is below 1e-6.

    Result: `nodes`, `weights`, shape (node,): the weights sum to 1.
    """
    nodes = np.linspace(-REACH, REACH, NODES)
    weights = np.exp(-(nodes**2) / 2.0)
    return nodes, weights / weights.sum()


def hazards_of_patients(
    posterior: xr.Dataset,
    person_time: PersonTime,
    design: Design,
    *,
    endpoint: str,
    rows: Ints | None = None,
) -> tuple[LogHazard, Ints]:
    """Work out the log hazards of single patients, with their own covariates.

    `rows`, shape (patient,): positions of the patients; all by default.
    Result: `hazard`: by pattern, of the patterns that these patients have; where continuous
    covariates are compressed each patient is one.
    `pattern`, shape (patient,): pattern of each patient there.
    """
    own, pattern = _design_of_patients(person_time, design, rows)
    return log_hazard(posterior, own, endpoint=endpoint), pattern


def _design_of_patients(
    person_time: PersonTime, design: Design, rows: Ints | None
) -> tuple[Design, Ints]:
    """Covariates of single patients and no others, and the place of each patient's there."""
    people = person_time.patients().people
    if person_time.compression is None:
        if rows is None:
            return design, people["pattern"].values
        present, pattern = np.unique(people["pattern"].values[rows], return_inverse=True)
        terms = design.terms[present]
    else:
        rows = np.arange(people.sizes["patient"]) if rows is None else rows
        present, pattern = people["category"].values[rows], np.arange(rows.size)
        terms = design.standardised(person_time.terms_of(rows))
    own = replace(
        design,
        terms=terms,
        class_of=design.class_of[present],
        group_of=design.group_of[present],
        source_of=design.source_of[present],
    )
    return own, pattern


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
            starts = _log_starts(posterior, person_time, design, name)
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
    own, who = _design_of_patients(person_time, design, rows)
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
        starts = _log_starts(posterior, person_time, design, endpoint)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GapTerms:
    """Parts of the gaps in which an endpoint's events were found, by draw.

    `patient`, shape (event,): whose the events are.
    `event`, `cell`, shape (part,): event and cell of each part.
    `length`, shape (part, 1): its length.
    `hazard`, `rate`, shape (part, draws): hazard of the event, and of the event or a start.
    `share`, shape (part, draws): probability that the event lies in the part, and no start before.
    """

    patient: Ints
    event: Ints
    cell: Ints
    length: Floats
    hazard: Floats
    rate: Floats
    share: Floats

    @property
    def opens(self) -> Ints:
        """Where each event's parts begin."""
        return np.flatnonzero(np.diff(self.event, prepend=-1))

    def found(self) -> Floats:
        """Probabilities of what was found, (event, draws)."""
        return np.asarray(np.add.reduceat(self.share, self.opens, axis=0))

    def moments(self) -> tuple[Floats, Floats]:
        """Say where events lie, given that they lie in their gaps.

        Result: of each part the probability that the event lies in it, and the expected hazard that
        passes in it before the event; both (part, draws).
        """
        inside = self.share / self.found()[self.event]
        later = np.cumsum(inside[::-1], axis=0)[::-1]
        # What is left of the event's own parts: its last part ends where the next event's begin.
        ends = np.append(self.opens[1:], self.event.size)
        beyond = np.concatenate([later, np.zeros((1, later.shape[1]))])[ends][self.event]
        later = later - beyond - inside
        left = np.exp(-self.rate * self.length)
        within = 1.0 / self.rate - self.length * left / -np.expm1(-self.rate * self.length)
        return inside, self.hazard * (self.length * later + inside * within)


def gap_terms(
    posterior: xr.Dataset, person_time: PersonTime, design: Design, endpoint: str
) -> GapTerms | None:
    """Work out the gaps of an endpoint's events by draw; None where none was found at a visit."""
    visits = person_time.visits
    if visits is None:
        return None
    own = np.flatnonzero(visits["found_endpoint"].values == person_time.endpoints.index(endpoint))
    if not own.size:
        return None
    patient = np.asarray(visits["found_patient"].values[own])
    hazards, pattern = hazards_of_patients(
        posterior, person_time, design, endpoint=endpoint, rows=patient
    )
    of = visits["part_found"].values
    parts = np.flatnonzero(np.isin(of, own))
    event, cell = np.searchsorted(own, of[parts]), visits["part_cell"].values[parts]
    interval, state = np.divmod(cell, hazards.shared.shape[3])
    length = visits["part_length"].values[parts][:, None]
    classes = hazards.class_of[pattern][event]
    by_part = hazards.shared[:, classes, interval, state] + hazards.pattern[:, pattern[event]]
    hazard = np.exp(np.ascontiguousarray(by_part.T))
    rate, start = hazard, visits["part_start"].values[parts]
    if "start_log_hazard" in posterior:
        starting = _start_hazards(posterior, person_time, design, endpoint, patient)
        rate = hazard + np.where(start[:, None] < 0, 0.0, starting[event, start])
    before = passed_before(rate * length, event)
    return GapTerms(
        patient=patient,
        event=event,
        cell=cell,
        length=length,
        hazard=hazard,
        rate=rate,
        share=np.exp(-before) * hazard * -np.expm1(-rate * length) / rate,
    )


def _start_hazards(
    posterior: xr.Dataset, person_time: PersonTime, design: Design, endpoint: str, rows: Ints
) -> Floats:
    """Hazards of starting of some patients, (patient, cell of starting, draws)."""
    posterior = posterior.sel(visited=endpoint)
    log_hazard = flat_draws(posterior, "start_log_hazard", "start").T[None]
    if "start_coefficient" in posterior:
        own, pattern = _design_of_patients(person_time, design, rows)
        ratios = own.terms[pattern] @ flat_draws(posterior, "start_coefficient", "term").T
        log_hazard = log_hazard + ratios[:, None]
    return np.asarray(np.exp(np.broadcast_to(log_hazard, (rows.size, *log_hazard.shape[1:]))))


def _log_starts(
    posterior: xr.Dataset, person_time: PersonTime, design: Design, endpoint: str
) -> Floats | None:
    """Log-likelihoods of all patients' starts of phases, (patient, draws); None without."""
    visits = person_time.visits
    assert visits is not None
    cells = start_cells_of(visits)
    if cells is None or endpoint not in posterior["visited"].values:
        return None
    started, at_risk = starts_by_patient(person_time, cells, endpoint)
    own, who = _design_of_patients(person_time, design, None)
    posterior = posterior.sel(visited=endpoint)
    log_hazard = flat_draws(posterior, "start_log_hazard", "start").T
    relative = np.zeros((who.size, 1))
    if "start_coefficient" in posterior:
        relative = own.terms[who] @ flat_draws(posterior, "start_coefficient", "term").T
    counts = np.asarray(started.sum(axis=1)).reshape(-1, 1)
    total = started @ log_hazard + counts * relative
    return np.asarray(total - (at_risk @ np.exp(log_hazard)) * np.exp(relative))


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


def passed_before(hazard: Floats, patient: Ints) -> Floats:
    """Cumulative hazard of each segment's patient from entry to the segment's beginning.

    `hazard`, shape (segment, draws): hazard of each segment times its length.
    `patient`, shape (segment,): whose it is; a patient's segments follow each other.

    >>> passed_before(np.array([[1.0], [2.0], [4.0]]), np.array([0, 0, 1]))[:, 0]
    array([0., 1., 0.])
    """
    if not patient.size:
        return np.zeros(hazard.shape)
    opens = np.concatenate([[True], np.diff(patient) != 0])
    before = np.cumsum(hazard, axis=0) - hazard
    entry = before[opens][np.cumsum(opens) - 1]
    # Differences of sums leave rounding; a patient's first segment has nothing before it.
    return np.where(opens[:, None], 0.0, np.maximum(before - entry, 0.0))


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


def sums(values: Floats, position: Ints, size: int) -> Floats:
    """Add rows up by place.

    >>> sums(np.array([[1.0], [2.0], [4.0]]), np.array([1, 0, 1]), 2)[:, 0]
    array([2., 5.])
    """
    entries = (np.ones(position.size), (position, np.arange(position.size)))
    return np.asarray(sparse.csr_array(entries, shape=(size, position.size)) @ values)
