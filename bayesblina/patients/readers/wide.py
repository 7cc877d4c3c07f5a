"""One row per patient, with times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import require_inclusions
from bayesblina.core.errors import SpecError
from bayesblina.patients.calendar import Calendar, require_calendar
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses, DatedEndpoint, Endpoint, Phases
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.readers.columns import Columns, CovariateKind, Repairs, make_cohort
from bayesblina.patients.readers.dates import ISO
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
from bayesblina.patients.readers.stays import read_any_stays, side_by_side
from bayesblina.patients.readers.visits import read_visits, require_visits, waiting_for_visits
from bayesblina.patients.visits import Visits


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
    visits: Visits | None = None,
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
    visits
        A table of all visits at which events may be found, for endpoints that are
        ``recorded="visits"`` and have no column ``last_negative``.
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
    endpoints = check_call(endpoints, Endpoint, phases, covariates)
    waiting = waiting_for_visits(endpoints)
    require_visits(waiting, visits)
    require_calendar(calendar)
    require_date_of_origin(date_format, calendar)
    frame, source = load_table(table)
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
        last_negative = columns.times(endpoint.last_negative, few=True)
        outcomes[name] = outcome_of(columns, endpoint, time, entry, last_negative)
    seen = read_visits(visits, columns, outcomes, waiting, source, unit=unit)
    read = read_any_stays(phases, columns, outcomes, source, unit)
    starts = [columns.times(phase.start) for _, phase in phases.items()]
    ends = [columns.times(phase.end) for _, phase in phases.items()]
    return make_cohort(
        columns,
        outcomes=seen.outcomes,
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
        made=(*seen.repairs, *(() if read is None else read.repairs)),
        file_hashes=hashes(frame, source)
        | seen.file_hashes
        | ({} if read is None else read.file_hashes),
        stays=None if read is None else read.stays,
        ordered=read is None or read.ordered,
        combinations={} if read is None else read.combinations,
        calendar=calendar,
        zero=columns.origins(calendar),
    )


def outcome_of(
    columns: Columns, endpoint: Endpoint, time: Floats, entry: Floats, last_negative: Floats
) -> Outcome:
    """Take an endpoint's events beside its times, with what is declared of them.

    `last_negative`, shape (patient,): last visits without the event; all NaN where nothing is known
    of them, perhaps not yet.
    """
    return Outcome(
        time=time,
        event=columns.events(endpoint.event, np.isfinite(entry)),
        entry=entry,
        recorded=endpoint.recorded,
        includes=tuple(endpoint.includes),
        last_negative=last_negative if endpoint.recorded == "visits" else None,
        event_free_until=endpoint.event_free_until,
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
