"""Patients cut into rows at dates, one for each calendar period."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import DataError, Problem, SpecError
from bayesblina.patients.calendar import Calendar
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.persons import persons_in_order
from bayesblina.patients.rules import DAYS_PER_UNIT, InMemory, tie_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cut:
    """One endpoint's follow-up in each period.

    `begin`, `stop`, shape (patient, period): time at risk in it.
    `inside`, shape (patient, period): whether there is any.
    `last`, shape (patient, period): whether follow-up ends in it.
    """

    begin: Floats
    stop: Floats
    inside: Bools
    last: Bools


def cut_by_calendar(cohort: Cohort, calendar: Calendar, zero: Floats) -> Cohort:
    """Make of each patient a row for each calendar period in which there is follow-up.

    A row enters at the beginning of its period and leaves at its end; it has the event only in the
    period of the event, and of phases, stays and transplants those that begin before it ends.
    Patients under observation for no endpoint have one row.

    `zero`, shape (patient,): days since 1970 of each patient's time origin.
    """
    if calendar.name in cohort.covariates:
        raise SpecError(
            f"calendar.name: the cohort has a covariate '{calendar.name}' already: name the "
            "periods otherwise."
        )
    visited = [name for name, own in cohort.endpoints.items() if own.last_negative is not None]
    if visited:
        raise SpecError(
            f"calendar: events of {', '.join(visited)} are found at visits, and nobody knows on "
            "which side of a calendar date an event lies that was found after it: leave the "
            "calendar out."
        )
    moments = _moments(cohort, (calendar.days - zero[:, None]) / DAYS_PER_UNIT[cohort.unit])
    endpoints, covariates = cohort.endpoints, cohort.covariates
    cuts = {name: _cut_endpoint(own, moments, cohort.unit) for name, own in endpoints.items()}
    there = np.any([own.inside for own in cuts.values()], axis=0)
    _require_follow_up(calendar, there, cohort.source)
    nobody = np.flatnonzero(~there.any(axis=1))
    there[nobody, (moments[nobody] <= 0).sum(axis=1)] = True
    row, period = np.nonzero(there)
    final = np.append(np.diff(row) != 0, True)
    stop = np.max([np.where(own.inside, own.stop, -np.inf) for own in cuts.values()], axis=0)
    end: Floats = np.where(final, np.inf, stop[row, period])
    pieces = replace(
        cohort,
        patients=_ids(cohort.patients, row, np.asarray(calendar.levels)[period]),
        endpoints={name: _rows_of(endpoints[name], own, row, period) for name, own in cuts.items()},
        **_treatment_before(cohort, row, end),
        transplant=None if cohort.transplant is None else _before(cohort.transplant[row], end),
        covariates={
            **{name: replace(own, values=own.values[row]) for name, own in covariates.items()},
            calendar.name: Covariate(
                kind="categorical", values=period.astype(np.float64), levels=calendar.levels
            ),
        },
        persons=cohort.patients[row],
        period=calendar.name,
    )
    # What all but meets a cut is no repair of the patient's data.
    return pieces if pieces.repairs == cohort.repairs else replace(pieces, repairs=cohort.repairs)


def with_treatment_of(cohort: Cohort, whole: Cohort) -> Cohort:
    """Give rows the phases, or stays, that their patients have in another cohort.

    `whole`: the same patients in the same order, each in one row, as `Cohort.whole` makes them.
    """
    if cohort.period is None or cohort.persons is None:
        return whole
    _, of = persons_in_order(cohort.persons)
    end = np.fmax.reduce([own.time for own in cohort.endpoints.values()])
    latest = np.full(whole.size, -np.inf)
    np.fmax.at(latest, of, end)
    end = np.where(end < latest[of], end, np.inf)
    return replace(cohort, **_treatment_before(whole, of, end))


def _moments(cohort: Cohort, moments: Floats) -> Floats:
    """Move cuts that all but meet a time of the patient's to it, the ends of follow-up first.

    Times are rounded, and dates that are one day become numbers that are not. `moments`, shape
    (patient, cut).
    """
    tie, arithmetic, moved = tie_of(cohort.unit), InMemory(), moments.copy()
    if cohort.stays is not None:
        who = cohort.stays.patient
        for values in (cohort.stays.start, cohort.stays.stop):
            with np.errstate(invalid="ignore"):
                stay, cut = np.nonzero(tie.near(moments[who], values[:, None], arithmetic))
            moved[who[stay], cut] = values[stay]
    marks = [*cohort.phase_end.T, *cohort.phase_start.T]
    marks += [] if cohort.transplant is None else [cohort.transplant]
    outcomes = tuple(cohort.endpoints.values())
    marks += [own.entry for own in outcomes] + [own.time for own in reversed(outcomes)]
    for mark in marks:
        near = tie.near(moments, mark[:, None], arithmetic)
        moved = np.where(near, mark[:, None], moved)
    return moved


def _cut_endpoint(outcome: Outcome, moments: Floats, unit: str) -> _Cut:
    """Cut one endpoint's follow-up at each patient's moments."""
    time, entry = outcome.time[:, None], outcome.entry[:, None]
    near = tie_of(unit).near(moments, time, InMemory())
    own, edge = np.where(near, time, moments), np.full((moments.shape[0], 1), np.inf)
    low, high = np.concatenate([-edge, own], axis=1), np.concatenate([own, edge], axis=1)
    begin, stop = np.maximum(entry, low), np.minimum(time, high)
    inside = stop > begin
    return _Cut(begin=begin, stop=stop, inside=inside, last=inside & (time <= high))


def _rows_of(outcome: Outcome, cut: _Cut, row: Ints, period: Ints) -> Outcome:
    """Take an endpoint's follow-up in some periods; where there is none, nobody is observed."""
    inside = cut.inside[row, period]
    return replace(
        outcome,
        time=np.where(inside, cut.stop[row, period], np.nan),
        event=outcome.event[row] & cut.last[row, period],
        entry=np.where(inside, cut.begin[row, period], np.nan),
    )


def _before(times: Floats, end: Floats) -> Floats:
    """Leave what lies before the end of each row."""
    return np.where(times >= end, np.nan, times)


def _treatment_before(whole: Cohort, of: Ints, end: Floats) -> dict[str, Any]:
    """Take the phases, or stays, of whole patients that begin before the ends of their rows.

    `of`, shape (row,): position of the patient of each. `end`, shape (row,): infinite for the last.
    """
    start = whole.phase_start[of]
    ahead = start >= end[:, None]
    stays = None if whole.stays is None else whole.stays.of_patients(of)
    return {
        "phase_start": np.where(ahead, np.nan, start),
        "phase_end": np.where(ahead, np.nan, whole.phase_end[of]),
        "stays": None if stays is None else stays.of(stays.start < end[stays.patient]),
    }


def _ids(patients: NDArray[np.str_], row: Ints, periods: NDArray[np.str_]) -> NDArray[np.str_]:
    """Name rows by their person, and where there are several by the period too."""
    ids = patients[row].astype(str)
    several = np.bincount(row)[row] > 1
    return np.where(several, np.char.add(np.char.add(ids, ", "), periods), ids)


def _require_follow_up(calendar: Calendar, there: Bools, source: str) -> None:
    """Refuse periods in which nobody is followed up."""
    empty = np.asarray(calendar.levels)[~there.any(axis=0)].tolist()
    if empty:
        raise DataError(
            [
                Problem(
                    column="calendar.cuts",
                    found=f"no follow-up {', nor '.join(empty)}",
                    expected="Leave such cuts out; are the dates those of the time origin?",
                )
            ],
            source=source,
        )
