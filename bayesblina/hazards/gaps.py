"""Events found at visits, and starts of phases beside them, by draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayesblina.core.arrays import Floats, Ints
from bayesblina.hazards.effects import Design
from bayesblina.hazards.log_hazards import (
    design_of_patients,
    flat_draws,
    hazards_of_patients,
    passed_before,
)
from bayesblina.person_time.cells import PersonTime, start_cells_of, starts_by_patient


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
        own, pattern = design_of_patients(person_time, design, rows)
        ratios = own.terms[pattern] @ flat_draws(posterior, "start_coefficient", "term").T
        log_hazard = log_hazard + ratios[:, None]
    return np.asarray(np.exp(np.broadcast_to(log_hazard, (rows.size, *log_hazard.shape[1:]))))


def log_starts(
    posterior: xr.Dataset, person_time: PersonTime, design: Design, endpoint: str
) -> Floats | None:
    """Log-likelihoods of all patients' starts of phases, (patient, draws); None without."""
    visits = person_time.visits
    assert visits is not None
    cells = start_cells_of(visits)
    if cells is None or endpoint not in posterior["visited"].values:
        return None
    started, at_risk = starts_by_patient(person_time, cells, endpoint)
    own, who = design_of_patients(person_time, design, None)
    posterior = posterior.sel(visited=endpoint)
    log_hazard = flat_draws(posterior, "start_log_hazard", "start").T
    relative = np.zeros((who.size, 1))
    if "start_coefficient" in posterior:
        relative = own.terms[who] @ flat_draws(posterior, "start_coefficient", "term").T
    counts = np.asarray(started.sum(axis=1)).reshape(-1, 1)
    total = started @ log_hazard + counts * relative
    return np.asarray(total - (at_risk @ np.exp(log_hazard)) * np.exp(relative))
