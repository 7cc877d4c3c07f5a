"""Patients who will never have the event: their part of the likelihood, and of hazards.

A patient is cured with a probability that depends on covariates, from coming under observation on;
whoever is not has the model's hazard. Nobody's state is seen: a patient who is still event-free at
the end of follow-up may be either. Arrays in, arrays out; no cell and no patient is looped over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import split
from bayesblina.person_time.cells import PersonTime


def follow_up_of(person_time: PersonTime) -> dict[str, Floats]:
    """Lay out patients' follow-up, in cells, for the likelihood of a mixture cure model.

    Result: ``survived``, shape (endpoint, patient): weight of patients who are event-free at the
    end of their follow-up, 0 for others. ``follow_up_first``, shape (endpoint, patient + 1): where
    each patient's entries in the next two begin. ``follow_up_cell``, ``follow_up_time``, shape
    (entry,): cell of an endpoint (interval x states + state), and time at risk in it.
    """
    person_cells = [person_time.patient_cells(name) for name in person_time.endpoints]
    begins = np.cumsum([0, *(cells.data.size for cells in person_cells)])
    first = [cells.indptr + begin for cells, begin in zip(person_cells, begins, strict=False)]
    return {
        "survived": survivors(person_time),
        "follow_up_first": np.stack(first).astype(np.float64),
        "follow_up_cell": np.concatenate([cells.indices for cells in person_cells]).astype(
            np.float64
        ),
        "follow_up_time": np.concatenate([cells.data for cells in person_cells]),
    }


def survivors(person_time: PersonTime) -> Floats:
    """Weights, (endpoint, patient), of those event-free at the end of their follow-up; else 0."""
    people = person_time.people
    free = np.isfinite(people["exit"].values) & ~people["event"].values
    return np.asarray(free * people["weight"].values)


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

    @property
    def patients(self) -> Ints:
        """Who has follow-up, in order; shape (contributor,)."""
        return np.unique(self.patient)


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
    cuts = person_time.cuts
    rows = person_time.episodes["endpoint"].values == person_time.endpoints.index(endpoint)
    rows &= person_time.episodes["start"].values < until
    patient, state, start, stop = (
        person_time.episodes[name].values[rows] for name in ("patient", "phase", "start", "stop")
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


def sums(values: Floats, place: Ints, size: int) -> Floats:
    """Add rows up by place.

    >>> sums(np.array([[1.0], [2.0], [4.0]]), np.array([1, 0, 1]), 2)[:, 0]
    array([2., 5.])
    """
    rows = np.arange(place.size)
    matrix = sparse.csr_array((np.ones(place.size), (place, rows)), shape=(size, place.size))
    return np.asarray(matrix @ values)
