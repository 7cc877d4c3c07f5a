"""Counting-process rows: one row per patient and state, as R's `tmerge` makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.endpoint_order import require_includes, require_inclusions
from bayesblina.core.episodes import OFF_TREATMENT, before_first, state_bounds
from bayesblina.core.errors import DataError, SpecError, nearest
from bayesblina.core.intervals import snap
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import RESERVED_PHASES, Phases, Recorded, require_recorded
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.readers.columns import (
    Columns,
    CovariateKind,
    Parts,
    Repairs,
    examples_of,
    make_cohort,
)
from bayesblina.patients.readers.roles import require_roles
from bayesblina.patients.readers.sources import hashes, load_table, missing_columns
from bayesblina.patients.rules import REPAIR


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
    endpoint: str | None = None,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    transplant: str | None = None,
    recorded: Mapping[str, Recorded] | Recorded | None = None,
    includes: Mapping[str, Sequence[str]] | None = None,
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
        cell or ``"before <first phase>"``. ``"off treatment"`` after a phase means that it has
        ended.
    endpoint
        Column with the endpoint's name, where the table has more than one; without it there is one
        endpoint, called ``"survival"``.
    covariates
        As for `read_cohort`; a covariate must not change within a patient.
    transplant
        Column with the time of transplant, the same in all of a patient's rows.
    recorded
        How events are recorded, as for `Endpoint`: of all endpoints alike, or by endpoint.
    includes
        What other endpoints' events are among an endpoint's, as for `Endpoint`, by endpoint:
        ``{"rfs": ["os"]}``.
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
    frame, source = load_table(table)
    if isinstance(phases, str) or isinstance(covariates, str):
        raise SpecError("phases and covariates must be lists of names, not one string.")
    given: object = phases
    if not isinstance(given, Mapping | Sequence):
        kind = type(given).__name__
        raise SpecError(f"phases must list names, or map them to texts of the column; got {kind}.")
    labels = dict(phases) if isinstance(phases, Mapping) else {name: name for name in phases}
    names = Phases.from_dict(labels).names  # which refuses reserved names
    none = ("", before_first(names)) if before is None else (before,)
    taken = (RESERVED_PHASES | set(none)) & set(labels.values())
    if taken or len(set(labels.values())) != len(labels):
        raise SpecError(
            f"phases: each needs a text of its own in the column, got {labels!r}, and "
            f"{' or '.join(map(repr, none))} for no phase yet."
        )
    if before == OFF_TREATMENT:
        raise SpecError(f"before: '{OFF_TREATMENT}' means that a phase has ended.")
    roles = {"patient": patient}
    wanted = [patient, start, stop, event, phase, *covariates]
    wanted += [column for column in (endpoint, transplant) if column is not None]
    require_roles(
        _roles_of_rows(patient, start, stop, event, phase, endpoint, transplant), covariates
    )
    missing = missing_columns(frame, wanted)
    if missing:
        raise DataError(missing, source=source)
    if frame.empty:
        frame = frame.iloc[:0]
    rows = Columns(frame, patient, numbers=np.arange(1, len(frame) + 1))
    patients, first_row, who = _first_appearance(rows.ids)
    endpoint_names, which = _endpoints(rows, endpoint)
    declared = _declared(recorded, endpoint_names)
    included = _included(includes, endpoint_names)
    begin, end = snap([rows.times(start, few=True), rows.times(stop, few=True)])
    happened = rows.events(event, np.ones(len(frame), dtype=bool))
    state = _states(rows, phase, labels, none)
    rows.report(patient, rows.ids == "", "missing ids", "Every row needs its patient's id.")
    for column, values in ((start, begin), (stop, end)):
        unknown = (rows.text(column) == "") | np.isinf(values)
        rows.report(column, unknown, "missing or infinite times", "Expected times.")
    groups = which * patients.size + who
    empty = end <= begin
    if repairs is not None and repairs.zero_times is not None:
        # All of a patient's follow-up, which the repair makes longer.
        empty &= ~((end == begin) & (np.bincount(groups)[groups] == 1))
    rows.report(
        stop,
        empty,
        "rows that end at or before they start",
        "Expected start < stop in each row; leave empty stretches out, or, where such a row is all "
        f"of a patient's follow-up, {REPAIR} zero_times=<a small time>.",
    )
    order = np.lexsort((end, begin, who, which))
    group = groups[order]
    _check_sequence(
        rows, order, group, who, begin, end, happened, state, names, (start, event, phase)
    )
    constant = [*covariates, *([transplant] if transplant is not None else [])]
    for column in constant:
        text = rows.text(column)
        rows.report(
            column,
            text != text[first_row][who],
            "values that change within a patient",
            "Expected one value for each patient, in all rows.",
        )
    if rows.problems:
        raise DataError(rows.problems, source=source)

    last = np.concatenate([group[1:] != group[:-1], [True]])
    first = np.concatenate([[True], last[:-1]])
    outcomes = {}
    for index, name in enumerate(endpoint_names):
        time, entry = (np.full(patients.size, np.nan) for _ in range(2))
        died = np.zeros(patients.size, dtype=bool)
        ends, begins = order[last & (which[order] == index)], order[first & (which[order] == index)]
        time[who[ends]], died[who[ends]] = end[ends], happened[ends]
        entry[who[begins]] = begin[begins]
        outcomes[name] = Outcome(
            time=time,
            event=died,
            entry=entry,
            recorded=declared.get(name),
            includes=included[name],
        )
    starts, stops = _phase_times(order, first, group, who, begin, state, names)
    _check_histories(rows, who, begin, end, state, starts, stops, names, phase)
    one = Columns(frame.iloc[first_row].reset_index(drop=True), patient, numbers=first_row + 1)
    one.problems = rows.problems
    one.frame.attrs = frame.attrs
    parts = Parts(
        outcomes=outcomes,
        phases=names,
        starts=starts,
        ends=stops,
        ends_known=bool((state == len(names) + 1).any()),
        transplant=None if transplant is None else one.times(transplant),
        covariates=one.covariates(covariates),
    )
    for name in endpoint_names:
        roles |= {f"{name}.time": stop, f"{name}.event": event, f"{name}.entry": start}
    roles |= {f"{name}.{side}": phase for name in names for side in ("start", "end")}
    if transplant is not None:
        roles["transplant"] = transplant
    return make_cohort(
        one,
        parts,
        unit=unit,
        repairs=repairs,
        roles=roles,
        source=source,
        synthetic=synthetic,
        file_hashes=hashes(frame, source),
    )


def _roles_of_rows(
    patient: str,
    start: str,
    stop: str,
    event: str,
    phase: str,
    endpoint: str | None,
    transplant: str | None,
) -> dict[str, str]:
    """Name the roles of columns as the call does."""
    given = {
        "patient": patient,
        "start": start,
        "stop": stop,
        "event": event,
        "phase": phase,
        "endpoint": endpoint,
        "transplant": transplant,
    }
    return {role: column for role, column in given.items() if column is not None}


def _first_appearance(ids: NDArray[np.str_]) -> tuple[NDArray[np.str_], Ints, Ints]:
    """Patients in the order of their first rows, those rows, and each row's patient."""
    who, patients = pd.factorize(ids)
    first = np.unique(who, return_index=True)[1]
    return np.asarray(patients, dtype=str), first, who.astype(np.int64)


def _endpoints(rows: Columns, column: str | None) -> tuple[list[str], Ints]:
    if column is None:
        return ["survival"], np.zeros(len(rows.frame), dtype=np.int64)
    text = rows.text(column)
    rows.report(column, text == "", "missing names of endpoints", "Every row needs one.")
    which, names = pd.factorize(text)
    return [str(name) for name in names], which.astype(np.int64)


def _declared(
    recorded: Mapping[str, Recorded] | Recorded | None, names: Sequence[str]
) -> dict[str, Recorded]:
    """How the events of each endpoint are declared to be recorded, where anything is."""
    if not isinstance(recorded, Mapping):
        require_recorded(recorded)
        return {} if recorded is None else dict.fromkeys(names, recorded)
    for name, said in recorded.items():
        if name not in names:
            raise SpecError(f"recorded: no endpoint '{name}'. {nearest(name, names)}")
        require_recorded(said)
    return dict(recorded)


def _included(
    includes: Mapping[str, Sequence[str]] | None, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Look up what each endpoint is declared to include."""
    if includes is not None and not isinstance(includes, Mapping):
        raise SpecError(
            "includes must map endpoints to those that they include, such as {'rfs': ['os']}, got "
            f"{includes!r}."
        )
    given = {} if includes is None else dict(includes)
    for name in given:
        if name not in names:
            raise SpecError(f"includes: no endpoint '{name}'. {nearest(str(name), names)}")
    found = {name: require_includes(given.get(name, ())) for name in names}
    require_inclusions(found)
    return found


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


def _check_sequence(
    rows: Columns,
    order: Ints,
    group: Ints,
    who: Ints,
    begin: Floats,
    end: Floats,
    happened: Bools,
    state: Ints,
    names: tuple[str, ...],
    columns: tuple[str, str, str],
) -> None:
    """Check each patient's rows, in the order of time, against the next one."""
    start_column, event_column, phase_column = columns

    def report(column: str, later: Bools, found: str, expected: str) -> None:
        wrong = np.zeros(order.size, dtype=bool)
        wrong[order[1:][later]] = True
        rows.report(column, wrong, found, expected)

    same = group[1:] == group[:-1]
    opened, closed = begin[order][1:], end[order][:-1]
    report(
        start_column,
        same & (opened > closed),
        "gaps between rows",
        "Each row must start where the one before it stops.",
    )
    report(
        start_column,
        same & (opened < closed),
        "rows that overlap",
        "Each row must start where the one before it stops.",
    )
    report(
        event_column,
        same & happened[order][:-1],
        "events before the last row",
        "Expected 1 in a patient's last row only.",
    )
    off = len(names) + 1
    now = state[order]
    in_phase = np.where(now == off, 0, now)
    reached = np.maximum.accumulate(group * (off + 1) + in_phase) - group * (off + 1)
    highest, following = reached[:-1], now[1:]
    returns = (following == highest) & (following > 0) & (now[:-1] == off)
    report(
        phase_column,
        same & (following != off) & ((following < highest) | returns),
        "phases that go backwards",
        f"A phase, once left, does not come again; expected the order {', '.join(names)}.",
    )
    # Which phase has ended may be told by the rows of another endpoint, entered earlier.
    earliest = np.full(int(who.max(initial=-1)) + 1, np.inf)
    treated = (state > 0) & (state < off)
    np.fmin.at(earliest, who[treated], begin[treated])
    rows.report(
        phase_column,
        np.isin(np.arange(order.size), order[(now == off) & (reached == 0)])
        & ~(earliest[who] < begin),
        f"'{OFF_TREATMENT}' before any phase",
        "It means that a phase has ended.",
    )


def _phase_times(
    order: Ints,
    first: Bools,
    group: Ints,
    who: Ints,
    begin: Floats,
    state: Ints,
    names: tuple[str, ...],
) -> tuple[Floats, Floats]:
    """When each patient first enters and leaves each phase, over all endpoints."""
    count = int(who.max(initial=-1)) + 1
    shape = (count, len(names))
    off = len(names) + 1
    now = state[order]
    reached = np.maximum.accumulate(group * (off + 1) + np.where(now == off, 0, now))
    reached -= group * (off + 1)
    enters = np.concatenate([[True], now[1:] != now[:-1]]) | first
    found = []
    for chosen, phase in (
        (enters & (now > 0) & (now < off), now - 1),
        (enters & (now == off) & (reached > 0), reached - 1),
    ):
        row = order[chosen]
        times = np.full(shape, np.inf)
        np.minimum.at(times, (who[row], phase[chosen]), begin[row])
        found.append(np.where(np.isfinite(times), times, np.nan))
    return found[0], found[1]


def _check_histories(
    rows: Columns,
    who: Ints,
    begin: Floats,
    end: Floats,
    state: Ints,
    starts: Floats,
    stops: Floats,
    names: tuple[str, ...],
    column: str,
) -> None:
    """Check each row's state against the one history that all of the patient's rows make."""
    bounds, _, states = state_bounds(names, starts, ends=stops)
    own = bounds[who]
    segment = np.maximum((own[:, :-1] <= begin[:, None]).sum(axis=1) - 1, 0)
    rows.report(
        column,
        (states[segment] != state) | (end > own[np.arange(who.size), segment + 1]),
        "phases that start or end at different times for different endpoints",
        "A phase starts and ends once, whatever the endpoint.",
    )
