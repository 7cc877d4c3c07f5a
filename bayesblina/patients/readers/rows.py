"""Counting-process rows: one row per patient and state, as R's `tmerge` makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.course_marks import bounds_of_stays
from bayesblina.core.courses import BEFORE_ANY, Stays
from bayesblina.core.endpoint_order import require_includes, require_inclusions
from bayesblina.core.episodes import OFF_TREATMENT, before_first, state_bounds
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.intervals import snap
from bayesblina.patients.calendar import Calendar, require_calendar
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import (
    RESERVED_PHASES,
    EventFreeUntil,
    Phases,
    Recorded,
    recorded_at_visits,
)
from bayesblina.patients.readers.columns import Columns, CovariateKind, Repairs, make_cohort
from bayesblina.patients.readers.course_rows import (
    CourseRows,
    DeclaredRows,
    check_histories,
    check_sequence,
    check_times,
    phase_times,
    stays_of_rows,
)
from bayesblina.patients.readers.dates import ISO
from bayesblina.patients.readers.roles import require_date_of_origin, role_of_origin
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    raise_problems,
    refuse,
    require_columns,
    require_roles,
)
from bayesblina.patients.readers.texts import examples_of
from bayesblina.patients.readers.visits import read_visits, require_visits, waiting_for_visits
from bayesblina.patients.visits import Visits


def read_counting_process(
    table: Any,
    *,
    patient: str,
    start: str,
    stop: str,
    event: str,
    phase: str,
    phases: Sequence[str] | Mapping[str, str],
    unit: str,
    before: str | None = None,
    order: Literal["listed", "any"] = "listed",
    endpoint: str | None = None,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    transplant: str | None = None,
    calendar: Calendar | None = None,
    date_format: str = ISO,
    recorded: Mapping[str, Recorded] | Recorded | None = None,
    includes: Mapping[str, Sequence[str]] | None = None,
    last_negative: Mapping[str, str] | str | None = None,
    event_free_until: Mapping[str, EventFreeUntil] | EventFreeUntil = "last_negative",
    visits: Visits | None = None,
    repairs: Repairs | None = None,
    synthetic: bool | None = None,
) -> Cohort:
    """Read counting-process rows into a validated cohort.

    Parameters
    ----------
    table
        As for `read_cohort`, with one row for each patient (and endpoint) and state: at risk in
        ``(start, stop]``. Rows may stand in any order.
    patient, start, stop, event
        Columns with the patient's id, the row's beginning and end, and 1 where the row ends with
        the event.
    phase
        Column with the state of each row.
    phases
        Phases in order: their names as the column gives them, or a mapping from the names wanted
        to the texts in the column (``{"transplantation": "1"}``).
    unit
        Unit of all times.
    before
        Text in the phase column that means that no phase has started yet; by default an empty
        cell or ``"before <first phase>"`` (with ``order="any"`` ``"before any phase"``).
        ``"off treatment"`` after a phase means that it has ended; so does a text that is given
        here.
    order
        ``"listed"``: no phase comes after one that is listed later; ``"any"``. A phase may come
        again after time off treatment, whatever the order.
    endpoint
        Column with the endpoint's name, where the table has more than one; without it there is one
        endpoint, called ``"survival"``.
    covariates
        As for `read_cohort`; a covariate must not change within a patient.
    transplant
        Column with the time of transplant, the same in all of a patient's rows.
    calendar, date_format
        As for `read_cohort`; the date of the origin is the same in all of a patient's rows.
    recorded
        How events are recorded, as for `Endpoint`: of all endpoints alike, or by endpoint.
    includes
        What other endpoints' events are among an endpoint's, as for `Endpoint`, by endpoint:
        ``{"rfs": ["os"]}``.
    last_negative
        Columns with the last visit at which the patient was found event-free, as for `Endpoint`,
        by endpoint: ``{"rfs": "last_negative"}``; or, where there is one endpoint, its column. The
        same in all of a patient's rows of the endpoint.
    event_free_until
        As for `Endpoint`: of all endpoints alike, or by endpoint.
    visits
        As for `read_cohort`.
    repairs, synthetic
        As for `read_cohort`.

    Returns
    -------
    Cohort
        The patients in the order of their first rows. A patient without rows for an endpoint was
        never under observation for it. A patient whose first row lies in a phase counts as having
        started it there.

    Raises
    ------
    DataError
        If the table cannot be read or anything in it is wrong, with all problems at once: gaps,
        overlaps, events before the last row, phases that go backwards, covariates that change.
    SpecError
        If the call itself is impossible, or `recorded` or `includes` cannot be said (see
        `Endpoint`).

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame(
    ...     {
    ...         "id": ["a", "a", "b"],
    ...         "start": [0.0, 2.0, 0.0],
    ...         "stop": [2.0, 4.0, 9.0],
    ...         "event": [0, 1, 0],
    ...         "transplant": [0, 1, 0],
    ...     }
    ... )
    >>> read_counting_process(
    ...     rows,
    ...     patient="id",
    ...     start="start",
    ...     stop="stop",
    ...     event="event",
    ...     phase="transplant",
    ...     phases={"transplantation": "1"},
    ...     before="0",
    ...     unit="months",
    ... )
    Cohort(2 patients, months; survival: 1 events; phases transplantation: 1)
    """
    labels, none = _labels(phases, covariates, before, order)
    names = tuple(labels)
    visited = _columns_of_visits(last_negative, endpoint)
    frame, source = load_table(table)
    given = {"patient": patient, "start": start, "stop": stop, "event": event, "phase": phase}
    wanted = [*given.values(), *covariates]
    given |= {} if endpoint is None else {"endpoint": endpoint}
    given |= {} if transplant is None else {"transplant": transplant}
    require_calendar(calendar)
    require_date_of_origin(date_format, calendar)
    given |= role_of_origin(calendar)
    require_roles(given | _roles_of_visits(visited), covariates)
    require_columns(frame, [*wanted, *given.values(), *visited.values()], source)
    columns = Columns(
        frame,
        patient,
        partial_dates="refuse" if repairs is None or calendar is None else repairs.partial_dates,
        date_format=date_format,
        numbers=np.arange(1, len(frame) + 1),
    )
    # Patients in the order of their first rows.
    who = pd.factorize(columns.ids)[0].astype(np.int64)
    first_row = np.unique(who, return_index=True)[1]
    endpoint_names, which = _endpoints(columns, endpoint)
    declared = _declared(recorded, includes, visited, event_free_until, endpoint_names)
    waiting = waiting_for_visits(declared)
    require_visits(waiting, visits)
    read = {name: columns.times(said.last_negative, few=True) for name, said in declared.items()}
    begin, end, *seen = snap(
        [columns.times(start, few=True), columns.times(stop, few=True), *read.values()]
    )
    rows = CourseRows(
        who=who,
        which=which,
        begin=begin,
        end=end,
        event=columns.events(event, np.ones(len(frame), dtype=bool)),
        state=_states(columns, phase, labels, none),
        order=np.lexsort((end, begin, who, which)),
        off=len(names) + 1,
    )
    check_times(columns, rows, given, repairs)
    if before is not None:
        rows = rows.off_again()
    check_sequence(columns, rows, given, names, order)
    constant = [given[role] for role in ("transplant", "calendar.origin") if role in given]
    _check_constant(columns, [*covariates, *constant], first_row[who])
    for index, column in enumerate(said.last_negative for said in declared.values()):
        if column is not None:
            _check_constant(columns, [column], rows.first_of_endpoint, which == index)
    raise_problems(columns.problems, source)
    starts, stops, stays = _histories(columns, rows, names, order, phase)
    single = columns.narrowed(first_row)
    outcomes = {
        name: rows.outcome(index, declared[name], seen[index])
        for index, name in enumerate(endpoint_names)
    }
    told = read_visits(visits, single, outcomes, waiting, source, unit=unit)
    return make_cohort(
        single,
        outcomes=told.outcomes,
        phases=names,
        starts=starts,
        ends=stops,
        ends_known=bool((rows.state == rows.off).any()),
        transplant=None if transplant is None else single.times(transplant),
        covariates=single.covariates(covariates),
        stays=stays,
        ordered=order == "listed",
        unit=unit,
        repairs=repairs,
        roles=_roles_of_cohort(given, endpoint_names, names) | _roles_of_visits(visited),
        source=source,
        synthetic=synthetic,
        made=told.repairs,
        file_hashes=hashes(frame, source) | told.file_hashes,
        calendar=calendar,
        zero=single.origins(calendar),
    )


def _check_constant(
    columns: Columns, constant: Sequence[str], first: Ints, rows: Bools | bool = True
) -> None:
    """Check what is one value of each patient against the patient's first row.

    `first`, shape (row,): the first row of each row's patient.
    `rows`, shape (row,): which are checked.
    """
    for column in constant:
        text = columns.text(column)
        columns.report(
            column,
            rows & (text != text[first]),
            "values that change within a patient",
            "Expected one value for each patient, in all rows.",
        )


def _columns_of_visits(
    last_negative: Mapping[str, str] | str | None, endpoint: str | None
) -> dict[str, str]:
    """Look up the columns of last visits without the event, by endpoint."""
    if last_negative is None:
        return {}
    if isinstance(last_negative, Mapping):
        return dict(last_negative)
    if endpoint is not None or not isinstance(last_negative, str):
        raise SpecError(
            "last_negative must map endpoints to columns, such as {'rfs': 'last_negative'}, got "
            f"{last_negative!r}."
        )
    return {"survival": last_negative}


def _roles_of_visits(visited: Mapping[str, str]) -> dict[str, str]:
    """Name the roles of columns of last visits."""
    return {f"{name}.last_negative": column for name, column in visited.items()}


def _histories(
    columns: Columns, rows: CourseRows, names: tuple[str, ...], order: str, column: str
) -> tuple[Floats, Floats, Stays | None]:
    """Say when phases start and end, or which stays there are, and check all rows against it."""
    stays = None
    # Phases that may come in any order are stays, whether or not any patient's come again.
    if order == "any" or rows.recurs:
        stays = stays_of_rows(rows)
        starts = stops = np.full((rows.patients, len(names)), np.nan)
        bounds, _, states = bounds_of_stays(
            stays, names, patients=rows.patients, ordered=order == "listed"
        )
    else:
        starts, stops = phase_times(rows)
        bounds, _, states = state_bounds(names, starts, ends=stops)
    check_histories(columns, rows, bounds, states, column)
    return starts, stops, stays


def _roles_of_cohort(
    given: Mapping[str, str], endpoints: Sequence[str], phases: Sequence[str]
) -> dict[str, str]:
    """Map the roles of a cohort's columns to those of the rows."""
    of_patients = ("patient", "transplant", "calendar.origin")
    roles = {role: given[role] for role in of_patients if role in given}
    kinds = {"time": "stop", "event": "event", "entry": "start"}
    roles |= {f"{name}.{kind}": given[of] for name in endpoints for kind, of in kinds.items()}
    return roles | {
        f"{name}.{side}": given["phase"] for name in phases for side in ("start", "end")
    }


def _labels(
    phases: object, covariates: object, before: str | None, order: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Texts of the phases in the column by their names, and those that mean no phase yet."""
    if isinstance(phases, str) or isinstance(covariates, str):
        raise SpecError("phases and covariates must be lists of names, not one string.")
    if not isinstance(phases, Mapping | Sequence):
        raise SpecError(
            "phases must list names, or map them to texts of the column; got "
            f"{type(phases).__name__}."
        )
    labels = dict(phases if isinstance(phases, Mapping) else zip(phases, phases, strict=True))
    names = Phases.from_dict(labels).names  # which refuses reserved names
    first = BEFORE_ANY if order == "any" else before_first(names)
    none = ("", first) if before is None else (before,)
    texts = set(labels.values())
    refuse(
        (
            len(texts - RESERVED_PHASES - set(none)) != len(labels),
            f"phases: each needs a text of its own in the column, got {labels!r}, and "
            f"{' or '.join(map(repr, none))} for no phase yet.",
        ),
        (before == OFF_TREATMENT, f"before: '{OFF_TREATMENT}' means that a phase has ended."),
    )
    return labels, none


def _endpoints(rows: Columns, column: str | None) -> tuple[list[str], Ints]:
    if column is None:
        return ["survival"], np.zeros(len(rows.frame), dtype=np.int64)
    text = rows.text(column)
    rows.report(column, text == "", "missing names of endpoints", "Every row needs one.")
    which, names = pd.factorize(text)
    return [str(name) for name in names], which.astype(np.int64)


def _declared(
    recorded: Mapping[str, Recorded] | Recorded | None,
    includes: Mapping[str, Sequence[str]] | None,
    visited: Mapping[str, str],
    event_free_until: Mapping[str, EventFreeUntil] | EventFreeUntil,
    names: Sequence[str],
) -> dict[str, DeclaredRows]:
    """Put what is declared of each endpoint together."""
    how = recorded if isinstance(recorded, Mapping) else dict.fromkeys(names, recorded)
    until = (
        event_free_until
        if isinstance(event_free_until, Mapping)
        else dict.fromkeys(names, event_free_until)
    )
    given = {"recorded": how, "last_negative": visited, "event_free_until": until}
    for argument, by_name in given.items():
        _require_known(argument, by_name, names)
    included = _included(includes, names)
    declared = {}
    for name in names:
        free = until.get(name, "last_negative")
        declared[name] = DeclaredRows(
            recorded=recorded_at_visits(how.get(name), visited.get(name), free),
            includes=included[name],
            last_negative=visited.get(name),
            event_free_until=free,
        )
    return declared


def _require_known(argument: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Refuse names of endpoints that there are not."""
    for name in given:
        if name not in names:
            raise SpecError(f"{argument}: no endpoint '{name}'. {nearest(str(name), names)}")


def _included(
    includes: Mapping[str, Sequence[str]] | None, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Look up what each endpoint is declared to include."""
    given = {} if includes is None else includes
    if not isinstance(given, Mapping):
        raise SpecError(
            "includes must map endpoints to those that they include, such as {'rfs': ['os']}, got "
            f"{includes!r}."
        )
    _require_known("includes", given, names)
    declared = {name: require_includes(given.get(name, ())) for name in names}
    require_inclusions(declared)
    return declared


def _states(rows: Columns, column: str, labels: Mapping[str, str], none: tuple[str, ...]) -> Ints:
    """Position of each row's state: 0 before all phases, then the phases, then off treatment."""
    text = pd.Series(rows.text(column))
    position = dict.fromkeys(none, 0)
    position |= {label: index for index, label in enumerate(labels.values(), start=1)}
    position[OFF_TREATMENT] = len(labels) + 1
    state = text.map(position)
    unknown = state.isna()
    rows.report(
        column,
        unknown.to_numpy(),
        "unknown states",
        nearest(str(text[unknown].iloc[0]) if unknown.any() else "", [*labels.values(), *none])
        + " Name the text for no phase yet with before=.",
        examples_of(text[unknown]),
    )
    return np.asarray(state.fillna(0), dtype=np.int64)
