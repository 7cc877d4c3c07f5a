"""One row per patient, with times or with dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.endpoint_order import require_includes, require_inclusions
from bayesblina.core.errors import SpecError
from bayesblina.patients.calendar import Calendar, require_calendar
from bayesblina.patients.cohort import Cohort, Repair
from bayesblina.patients.declarations import Courses, Endpoint, Phases, Recorded, require_recorded
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
from bayesblina.patients.readers.roles import (
    require_date_of_origin,
    role_of_origin,
    roles_of_columns,
)
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    refuse,
    require_columns,
    require_roles,
)
from bayesblina.patients.readers.stays import Dated, read_any_stays, side_by_side
from bayesblina.patients.rules import DAYS_PER_UNIT, unit_fault

SameDay = Literal["refuse", "half day", "end of day"]


def read_cohort(
    table: Any,
    *,
    patient: str,
    unit: str,
    endpoints: Mapping[str, Endpoint] | Endpoint,
    phases: Phases | Courses,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    transplant: str | None = None,
    calendar: Calendar | None = None,
    date_format: str = ISO,
    repairs: Repairs | None = None,
    synthetic: bool | None = None,
) -> Cohort:
    """Read one row per patient into a validated cohort.

    Parameters
    ----------
    table
        A DataFrame (pandas, polars, Arrow), or the path of a ``.csv``, ``.parquet``, ``.arrow``,
        ``.feather``, ``.xpt`` or ``.sas7bdat`` file.
    patient
        Column with patient ids; unique, none missing.
    unit
        Unit of all times: ``"days"``, ``"weeks"``, ``"months"`` or ``"years"``.
    endpoints
        Endpoints by name, or a single one (then called ``"survival"``).
    phases
        Ordered treatment phases; or `Courses`, a table of stays, in which phases may recur.
    covariates
        Baseline covariates: column names, whose type is taken from the column (numbers are
        continuous; text, categories and booleans are categorical), or a mapping of names to
        ``"categorical"`` or ``"continuous"``.
    transplant
        Column with the time of transplant, if there is one.
    calendar
        Calendar dates at which follow-up is cut, each patient's into a row for each period, which
        becomes a covariate. It names the column with the date of the patients' time origin.
    date_format
        How that column writes dates, as for `read_dated_cohort`.
    repairs
        Repairs to make; by default none, and whatever is wrong is an error.
    synthetic
        Whether the patients are simulated. By default what ``table.attrs["synthetic"]`` says,
        else False.

    Returns
    -------
    Cohort
        The patients in the table's order.

    Raises
    ------
    DataError
        If the table cannot be read or anything in it is wrong, with all problems at once; or
        nobody is followed up in a period of the calendar.
    SpecError
        If the call itself is impossible.

    See Also
    --------
    read_dated_cohort : dates instead of times.
    read_counting_process : one row per patient and state.
    read_adam : CDISC ADaM datasets.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"id": ["a", "b"], "months": [4.0, 9.0], "died": [1, 0], "start": [2.0, None]}
    ... )
    >>> read_cohort(
    ...     table,
    ...     patient="id",
    ...     unit="months",
    ...     endpoints={"os": Endpoint(time="months", event="died")},
    ...     phases=Phases(maintenance="start"),
    ... )
    Cohort(2 patients, months; os: 1 events; phases maintenance: 1)
    """
    frame, source = load_table(table)
    endpoints = check_call(endpoints, Endpoint, phases, covariates)
    require_calendar(calendar)
    require_date_of_origin(date_format, calendar)
    roles = roles_of_columns(patient, endpoints, phases, transplant) | role_of_origin(calendar)
    require_roles(roles, covariates, phases.names)
    require_columns(frame, [*roles.values(), *covariates], source)
    columns = Columns(
        frame,
        patient,
        # Nothing else here is a date.
        partial_dates="refuse" if repairs is None or calendar is None else repairs.partial_dates,
        date_format=date_format,
        numbers=np.arange(1, len(frame) + 1),
    )
    outcomes = {}
    for name, endpoint in endpoints.items():
        time = columns.times(endpoint.time)
        entry = np.zeros(time.size) if endpoint.entry is None else columns.times(endpoint.entry)
        outcomes[name] = _outcome(columns, endpoint, time, entry)
    read = read_any_stays(phases, columns, outcomes, source, unit)
    starts = [columns.times(phase.start) for _, phase in phases.items()]
    ends = [columns.times(phase.end) for _, phase in phases.items()]
    return make_cohort(
        columns,
        outcomes=outcomes,
        phases=phases.names if read is None else read.names,
        starts=side_by_side(starts, columns, read),
        ends=side_by_side(ends, columns, read),
        ends_known=any(phase.end is not None for _, phase in phases.items()),
        transplant=None if transplant is None else columns.times(transplant),
        covariates=columns.covariates(covariates),
        unit=unit,
        repairs=repairs,
        roles=roles,
        source=source,
        synthetic=synthetic,
        made=() if read is None else read.repairs,
        file_hashes=hashes(frame, source) | ({} if read is None else read.file_hashes),
        stays=None if read is None else read.stays,
        ordered=read is None or read.ordered,
        combinations={} if read is None else read.combinations,
        calendar=calendar,
        zero=columns.origins(calendar),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedEndpoint:
    """Columns of one endpoint given by dates.

    Parameters
    ----------
    date
        Column with the date of the event or of censoring.
    event
        Column with 1 (event) or 0 (censored).
    origin
        Column with the date from which the patient is under observation for this endpoint, where
        that is not the common origin (delayed entry, such as remission for relapse-free
        survival); a missing date means that the patient never was.
    recorded, includes
        How events are recorded, and what other endpoints' events are among them, as for `Endpoint`.

    Raises
    ------
    SpecError
        As for `Endpoint`.

    Examples
    --------
    >>> DatedEndpoint(date="relapse_or_last_seen", event="relapsed", origin="remission").origin
    'remission'
    """

    date: str
    event: str
    origin: str | None = None
    recorded: Recorded | None = None
    includes: Sequence[str] = ()

    def __post_init__(self) -> None:
        require_recorded(self.recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


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
    date_format
        What numbers, and texts that are no ISO 8601 dates, are: ``"SAS"`` (days since 1960),
        ``"SAS datetime"`` (seconds since 1960), or a pattern of `datetime.datetime.strptime` such
        as ``"%d%b%Y"`` for 03JAN2014. By default they are refused.
    calendar
        Calendar dates at which follow-up is cut, as for `read_cohort`; the time origin is `origin`.
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
    frame, source = load_table(table)
    endpoints = check_call(endpoints, DatedEndpoint, phases, covariates)
    require_calendar(calendar, origin=origin)
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
    outcomes, ends, lengthened = _follow_up(columns, dated, days, ends, same_day, per_unit)
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
    repaired = () if read is None else read.repairs
    return make_cohort(
        columns,
        outcomes=outcomes,
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
        file_hashes=hashes(frame, source) | ({} if read is None else read.file_hashes),
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
        )
        for name, endpoint in endpoints.items()
    }


def _follow_up(
    columns: Columns,
    dated: Mapping[str, Endpoint],
    days: _Days,
    ends: Floats,
    same_day: SameDay,
    per_unit: float,
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
        outcomes[name] = _outcome(columns, endpoint, end / per_unit, entry / per_unit)
    return outcomes, ends, lengthened


def end_of_follow_up(last: Floats, entry: Floats, same_day: SameDay) -> tuple[Floats, Bools]:
    """Say when on its last day follow-up ends, and whose only day lasts half a day."""
    brief = (last == entry) & (same_day == "half day")
    return last + 1.0 * (same_day == "end of day") + 0.5 * brief, brief


def _outcome(columns: Columns, endpoint: Endpoint, time: Floats, entry: Floats) -> Outcome:
    """Take an endpoint's events beside its times, with what is declared of them."""
    return Outcome(
        time=time,
        event=columns.events(endpoint.event, np.isfinite(entry)),
        entry=entry,
        recorded=endpoint.recorded,
        includes=tuple(endpoint.includes),
        last_negative=None
        if endpoint.last_negative is None
        else columns.times(endpoint.last_negative),
        event_free_until=endpoint.event_free_until,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Days:
    """Days since 1970: origins, entries and ends of follow-up by endpoint, phases, transplants."""

    zero: Floats
    entry: dict[str, Floats]
    last: dict[str, Floats]
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
    earliest = np.fmin.reduce([*begun, *moved, *known.values(), *entered])
    zero = columns.dates(origin, before=earliest)
    entry, last = {}, {}
    for index, (name, endpoint) in enumerate(endpoints.items()):
        entry[name] = zero
        if endpoint.entry is not None:
            entry[name] = columns.dates(endpoint.entry, after=zero, before=known[name])
        after = within_follow_up(
            entry[name], np.stack([*begun, *ended, *moved]), list(known.values()), index
        )
        last[name] = columns.dates(endpoint.time, after=after)
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
        starts=np.reshape(starts, (len(starts), zero.size)).T,
        ends=np.reshape(ends, (len(ends), zero.size)).T,
        transplant=None
        if transplant is None
        else columns.dates(transplant, after=zero, before=final),
    )


def check_call[E: (Endpoint, DatedEndpoint)](
    endpoints: Mapping[str, E] | E, kind: type[E], phases: Any, covariates: Any
) -> Mapping[str, E]:
    """Refuse calls that name columns impossibly; give the endpoints by name."""
    named = {"survival": endpoints} if isinstance(endpoints, kind) else endpoints
    if not isinstance(named, Mapping) or not all(
        isinstance(endpoint, kind) for endpoint in named.values()
    ):
        raise SpecError(f"endpoints must be a {kind.__name__}, or a mapping of names to them.")
    require_inclusions({name: tuple(endpoint.includes) for name, endpoint in named.items()})
    refuse(
        (
            not isinstance(phases, Phases | Courses),
            "phases must be a Phases value, Phases(maintenance='maintenance_month'), or Courses.",
        ),
        (isinstance(covariates, str), "covariates must be a list of columns, not one string."),
    )
    return named
