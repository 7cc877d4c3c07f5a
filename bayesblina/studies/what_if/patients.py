"""Patients of a scenario: their phases moved, their gaps bridged, their stays prolonged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.courses import Stays, bridge_gaps, prolong
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import BRIDGE_AND_GRACE


def bridge(cohort: Cohort, length: float) -> Cohort:
    """Make a cohort anew in which gaps of up to a length are none.

    Raises SpecError if phases do not recur, or longer gaps were closed when patients were read.
    """
    if cohort.stays is None:
        raise SpecError(
            "bridge closes gaps between stays in a phase, but here each phase starts and ends "
            "once: read the stays, one row each (Courses)."
        )
    if length < cohort.stays.bridged:
        raise SpecError(
            f"bridge = {length:g}, but gaps of up to {cohort.stays.bridged:g} were closed when the "
            "stays were read, and cannot be opened again: read them with bridge=0."
        )
    if cohort.stays.grace and length:
        raise SpecError(BRIDGE_AND_GRACE)
    stays, _ = bridge_gaps(cohort.stays, length)
    return replace(cohort, stays=stays)


def grant_grace(cohort: Cohort, length: float) -> Cohort:
    """Make a cohort anew whose patients count as in a phase for so long after each stay.

    Raises SpecError if phases do not recur, or stays were made longer still, or gaps bridged, when
    patients were read.
    """
    if cohort.stays is None:
        raise SpecError(
            "grace makes stays longer, but here each phase starts and ends once: read the stays, "
            "one row each (Courses)."
        )
    if length < cohort.stays.grace:
        raise SpecError(
            f"grace = {length:g}, but stays were made {cohort.stays.grace:g} longer when they were "
            "read, and cannot be cut again: read them with grace=0."
        )
    if cohort.stays.bridged and length:
        raise SpecError(BRIDGE_AND_GRACE)
    stays, _ = prolong(cohort.stays, length - cohort.stays.grace)
    return replace(cohort, stays=stays)


def move_starts(
    cohort: Cohort, exposed: Sequence[str], *, shift: float, jitter: float, seed: int
) -> Cohort:
    """Move starts of the exposed phases, not beyond what the order of events allows.

    `jitter`: sd of an error of each start, or of each stay's.
    """
    generator = np.random.default_rng([seed, round(jitter * 1e6)])
    phases = [cohort.phases.index(name) for name in exposed]
    if cohort.stays is None:
        start = cohort.phase_start
        for index in phases:
            error = generator.normal(size=cohort.size) * jitter
            start = _moved(cohort, start, index, shift + error)
        return replace(cohort, phase_start=start)
    error = generator.normal(size=cohort.stays.size) * jitter
    return replace(cohort, stays=_moved_stays(cohort, cohort.stays, phases, shift + error))


def move_visits(cohort: Cohort, *, jitter: float, seed: int) -> Cohort:
    """Move last visits without an event, not beyond entry and the visit that found it.

    `jitter`: sd of an error of each. Raises SpecError if no endpoint is recorded at visits.
    """
    visited = [name for name, own in cohort.endpoints.items() if own.last_negative is not None]
    if not visited:
        raise SpecError(
            "visit_jitter is for endpoints whose events are recorded at visits, and none here is."
        )
    endpoints = dict(cohort.endpoints)
    for number, name in enumerate(visited):
        own, generator = endpoints[name], np.random.default_rng([seed, round(jitter * 1e6), number])
        assert own.last_negative is not None
        moved = own.last_negative + jitter * generator.normal(size=cohort.size)
        # Exact times stay: nobody looks for a death.
        inside = (own.last_negative < own.time) & (moved > own.entry) & (moved < own.time)
        endpoints[name] = replace(own, last_negative=np.where(inside, moved, own.last_negative))
    return replace(cohort, endpoints=endpoints)


def _last_of_follow_up(cohort: Cohort) -> Floats:
    """Find when the first of each patient's endpoints ends; infinite where none is observed."""
    times = [outcome.time for outcome in cohort.endpoints.values()]
    stops = [np.where(time >= 0, time, np.nan) for time in times]
    return np.asarray(np.fmin.reduce([np.full(cohort.size, np.inf), *stops]))


def _moved(cohort: Cohort, start: Floats, index: int, by: Floats) -> Floats:
    """Move the starts of one phase, shape (patient, phase)."""
    end = cohort.phase_end
    moved = start[:, index] + by
    # Bounds that a patient does not have are NaN, which fmax and fmin pass over.
    earliest = np.fmax.reduce([np.zeros(moved.size), *start[:, :index].T, *end[:, :index].T])
    latest = np.fmin.reduce([_last_of_follow_up(cohort), end[:, index], *start[:, index + 1 :].T])
    # Whoever started did so: a start that would lie outside stays where it was.
    changed = start.copy()
    changed[:, index] = np.where((moved > earliest) & (moved < latest), moved, start[:, index])
    return changed


def _moved_stays(cohort: Cohort, stays: Stays, phases: Sequence[int], by: Floats) -> Stays:
    """Move the starts of exposed stays that follow a gap, or a stay in another phase."""
    same = np.diff(stays.patient, prepend=-1) == 0
    before = np.where(same, np.concatenate([[0.0], stays.stop[:-1]])[: stays.size], 0.0)
    exposed = np.isin(stays.phase, phases)
    goes_on = same & np.concatenate([[False], exposed[:-1]])[: stays.size]
    goes_on &= stays.start <= before * (1.0 + TIE_TOLERANCE)
    moved = stays.start + by
    latest = np.minimum(stays.stop, _last_of_follow_up(cohort)[stays.patient])
    # A stay that would begin in the one before, or after its own end, begins where it did.
    moves = exposed & ~goes_on & (moved >= before) & (moved > 0) & (moved < latest)
    return replace(stays, start=np.where(moves, moved, stays.start))
