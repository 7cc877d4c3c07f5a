"""One row per patient, with dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.patients.calendar import Calendar, require_calendar
from bayesblina.patients.cohort import Cohort, Repair
from bayesblina.patients.declarations import Courses, DatedEndpoint, Endpoint, Phases
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.readers.columns import (
    NO_ORIGIN,
    Columns,
    CovariateKind,
    Repairs,
    make_cohort,
)
from bayesblina.patients.readers.dates import (
    ISO,
    ends_of_days,
    require_date_format,
    within_follow_up,
)
from bayesblina.patients.readers.roles import roles_of_columns
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    refuse,
    require_columns,
    require_roles,
)
from bayesblina.patients.readers.stays import Dated, read_any_stays, side_by_side
from bayesblina.patients.readers.visits import (
    VisitDays,
    read_visits,
    require_visits,
    waiting_for_visits,
)
from bayesblina.patients.readers.wide import check_call, outcome_of
from bayesblina.patients.rules import DAYS_PER_UNIT, unit_fault
from bayesblina.patients.visits import Visits

SameDay = Literal["refuse", "half day", "end of day"]


def read_dated_cohort(
    table: Any,
    *,
    patient: str,
    origin: str,
    unit: str,
    endpoints: Mapping[str, DatedEndpoint] | DatedEndpoint,
    phases: Phases | Courses,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    transplant: str | None = None,
    same_day: SameDay = "refuse",
    date_format: str = ISO,
    calendar: Calendar | None = None,
    visits: Visits | None = None,
    repairs: Repairs | None = None,
    synthetic: bool | None = None,
) -> Cohort:
    """Read one row per patient, with dates instead of times, into a validated cohort.

    Parameters
    ----------
    table
        As for `read_cohort`. Dates are a table's own dates, ISO 8601 text (2015-03-31), or as
        `date_format` says. The day is the one that is written, whatever the offset from UTC.
    patient
        Column with patient ids.
    origin
        Column with the common origin of all times, such as the date of the first dose.
    unit
        Unit that the times get: ``"days"``, ``"weeks"``, ``"months"`` (30.4375 days) or
        ``"years"`` (365.25 days).
    endpoints
        Endpoints by name, or a single one (then called ``"survival"``).
    phases
        Ordered treatment phases, whose columns hold dates; or `Courses`, whose stays do.
    covariates
        As for `read_cohort`.
    transplant
        Column with the date of transplant, if there is one.
    same_day
        What follow-up that ends on the day it starts means. ``"refuse"``: times are differences
        of dates, and a difference of 0 is an error. ``"half day"``: a difference of 0 becomes
        half a day. ``"end of day"``: all follow-up ends at its day's end while entries and
        phases start at their day's beginning, so each end is one day later (the convention of
        CDISC's analysis values). Phases end as follow-up does: who is treated until the day of
        death dies on treatment. Where a later phase starts on that day the one before ends there.
        Visits are at that time of their day at which follow-up ends.
    date_format
        What numbers, and texts that are no ISO 8601 dates, are: ``"SAS"`` (days since 1960),
        ``"SAS datetime"`` (seconds since 1960), or a pattern of `datetime.datetime.strptime` such
        as ``"%d%b%Y"`` for 03JAN2014. By default they are refused.
    calendar
        Calendar dates at which follow-up is cut, as for `read_cohort`; the time origin is `origin`.
    visits
        As for `read_cohort`, with dates.
    repairs
        Repairs to make, partial dates among them; by default none.
    synthetic
        Whether the patients are simulated, as for `read_cohort`.

    Returns
    -------
    Cohort
        The patients in the table's order.

    Raises
    ------
    DataError
        If the table cannot be read or anything in it is wrong, with all problems at once.
    SpecError
        If the call itself is impossible.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "id": ["a", "b"],
    ...         "first_dose": ["2015-01-01", "2015-02-01"],
    ...         "last_seen": ["2015-03-01", "2016-02-01"],
    ...         "died": [1, 0],
    ...         "maintenance": [None, "2015-08-01"],
    ...     }
    ... )
    >>> cohort = read_dated_cohort(
    ...     table,
    ...     patient="id",
    ...     origin="first_dose",
    ...     unit="days",
    ...     endpoints={"os": DatedEndpoint(date="last_seen", event="died")},
    ...     phases=Phases(maintenance="maintenance"),
    ... )
    >>> cohort.endpoints["os"].time
    array([ 59., 365.])
    """
    endpoints = check_call(endpoints, DatedEndpoint, phases, covariates)
    waiting = waiting_for_visits(endpoints)
    require_visits(waiting, visits)
    require_calendar(calendar, origin=origin)
    frame, source = load_table(table)
    require_date_format(date_format)
    refuse(
        (
            same_day not in ("refuse", "half day", "end of day"),
            f"same_day must be 'refuse', 'half day' or 'end of day', got {same_day!r}.",
        ),
        unit_fault(unit),
    )
    dated = _columns_of_dates(endpoints)
    roles = {"patient": patient, "origin": origin}
    roles |= roles_of_columns(patient, dated, phases, transplant)
    require_roles(roles, covariates, phases.names)
    require_columns(frame, [*roles.values(), *covariates], source)
    columns = Columns(
        frame,
        patient,
        partial_dates="refuse" if repairs is None else repairs.partial_dates,
        date_format=date_format,
        numbers=np.arange(1, len(frame) + 1),
    )
    days = _read_days(columns, origin, dated, phases, transplant)
    per_unit = DAYS_PER_UNIT[unit]
    zero, starts, ends = days.zero, days.starts - days.zero[:, None], days.ends - days.zero[:, None]
    if same_day == "end of day":
        ends = ends_of_days(starts, ends)
    visit_days = VisitDays(
        zero=zero,
        entry=days.entry,
        last=days.last,
        days_per_unit=per_unit,
        ends_of_days=same_day == "end of day",
        date_format=date_format,
        partial_dates=columns.partial_dates,
    )
    outcomes, ends, lengthened = _follow_up(columns, dated, days, ends, same_day, visit_days)
    seen = read_visits(visits, columns, outcomes, waiting, source, unit=unit, days=visit_days)
    made = Repair(
        rule="follow-up that ended on its first day lasts half a day",
        patients=tuple(map(str, columns.ids[lengthened])),
    )
    dated_stays = Dated(
        zero=zero,
        days_per_unit=per_unit,
        ends_of_days=same_day == "end of day",
        date_format=date_format,
        partial_dates=columns.partial_dates,
    )
    read = read_any_stays(phases, columns, outcomes, source, unit, dated_stays)
    repaired = (*seen.repairs, *(() if read is None else read.repairs))
    return make_cohort(
        columns,
        outcomes=seen.outcomes,
        phases=phases.names if read is None else read.names,
        starts=side_by_side(list(starts.T / per_unit), columns, read),
        ends=side_by_side(list(ends.T / per_unit), columns, read),
        ends_known=any(phase.end is not None for _, phase in phases.items()),
        transplant=None if days.transplant is None else (days.transplant - zero) / per_unit,
        covariates=columns.covariates(covariates),
        unit=unit,
        repairs=repairs,
        roles=roles,
        source=source,
        synthetic=synthetic,
        made=(made, *repaired) if same_day == "half day" else repaired,
        file_hashes=hashes(frame, source)
        | seen.file_hashes
        | ({} if read is None else read.file_hashes),
        stays=None if read is None else read.stays,
        ordered=read is None or read.ordered,
        combinations={} if read is None else read.combinations,
        calendar=calendar,
        zero=zero,
    )


def _columns_of_dates(endpoints: Mapping[str, DatedEndpoint]) -> dict[str, Endpoint]:
    """Name the columns of endpoints, which hold dates, by what they are of times."""
    return {
        name: Endpoint(
            time=endpoint.date,
            event=endpoint.event,
            entry=endpoint.origin,
            recorded=endpoint.recorded,
            includes=endpoint.includes,
            last_negative=endpoint.last_negative,
            event_free_until=endpoint.event_free_until,
        )
        for name, endpoint in endpoints.items()
    }


def _follow_up(
    columns: Columns,
    dated: Mapping[str, Endpoint],
    days: _Days,
    ends: Floats,
    same_day: SameDay,
    visits: VisitDays,
) -> tuple[dict[str, Outcome], Floats, Bools]:
    """Count follow-up from the origin.

    `ends`, shape (patient, phase): days from the origin on which phases end.
    Result: outcomes, the days on which phases end by then, and whose follow-up lasts half a day.
    """
    outcomes = {}
    lengthened = np.zeros(days.zero.size, dtype=bool)
    for name, endpoint in dated.items():
        last, entry = days.last[name] - days.zero, days.entry[name] - days.zero
        end, brief = end_of_follow_up(last, entry, same_day)
        lengthened |= brief
        ends = np.where(brief[:, None] & (ends == last[:, None]), ends + 0.5, ends)
        time, begin = end / visits.days_per_unit, entry / visits.days_per_unit
        negative = visits.last_negatives(name, days.negative[name], time)
        outcomes[name] = outcome_of(columns, endpoint, time, begin, negative)
    return outcomes, ends, lengthened


def end_of_follow_up(last: Floats, entry: Floats, same_day: SameDay) -> tuple[Floats, Bools]:
    """Say when on its last day follow-up ends, and whose only day lasts half a day."""
    brief = (last == entry) & (same_day == "half day")
    return last + 1.0 * (same_day == "end of day") + 0.5 * brief, brief


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Days:
    """Days since 1970: origins, entries, ends and last visits by endpoint, phases, transplants."""

    zero: Floats
    entry: dict[str, Floats]
    last: dict[str, Floats]
    negative: dict[str, Floats]
    starts: Floats
    ends: Floats
    transplant: Floats | None


def _read_days(
    columns: Columns,
    origin: str,
    endpoints: Mapping[str, Endpoint],
    phases: Phases | Courses,
    transplant: str | None,
) -> _Days:
    """Read all dates, partial ones within those that are known."""
    begun = columns.known_dates(*(phase.start for _, phase in phases.items()))
    ended = columns.known_dates(*(phase.end for _, phase in phases.items()))
    moved = columns.known_dates(transplant)
    known = {name: columns.known_dates(end.time)[0] for name, end in endpoints.items()}
    entered = columns.known_dates(*(endpoint.entry for endpoint in endpoints.values()))
    visited = columns.known_dates(*(endpoint.last_negative for endpoint in endpoints.values()))
    earliest = np.fmin.reduce([*begun, *moved, *known.values(), *entered, *visited])
    zero = columns.dates(origin, before=earliest)
    entry, last, negative = {}, {}, {}
    for index, (name, endpoint) in enumerate(endpoints.items()):
        entry[name] = zero
        if endpoint.entry is not None:
            entry[name] = columns.dates(endpoint.entry, after=zero, before=known[name])
        after = within_follow_up(
            entry[name], np.stack([*begun, *ended, *moved]), list(known.values()), index
        )
        # Completed to the day of the event, a visit without it would make that day exact.
        apart = columns.numbers(endpoint.event) == 1.0
        after = np.fmax(after, visited[index] + apart)
        last[name] = columns.dates(endpoint.time, after=after)
        negative[name] = columns.dates(
            endpoint.last_negative, after=entry[name], before=last[name] - apart
        )
    final = np.fmax.reduce(list(last.values()))
    starts, ends, previous = [], [], zero
    for index, (_, phase) in enumerate(phases.items()):
        following = np.fmin.reduce([*begun[index + 1 :], final])
        start = columns.dates(phase.start, after=previous, before=np.fmin(following, ended[index]))
        end = columns.dates(phase.end, after=start, before=following)
        starts.append(start)
        ends.append(end)
        previous = np.fmax.reduce([previous, start, end])
    missing = columns.text(origin) == ""
    columns.report(origin, missing, NO_ORIGIN, "Every patient needs one.")
    return _Days(
        zero=zero,
        entry=entry,
        last=last,
        negative=negative,
        starts=np.reshape(starts, (len(starts), zero.size)).T,
        ends=np.reshape(ends, (len(ends), zero.size)).T,
        transplant=None
        if transplant is None
        else columns.dates(transplant, after=zero, before=final),
    )
