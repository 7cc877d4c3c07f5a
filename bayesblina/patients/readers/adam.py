"""CDISC ADaM: ADSL, ADTTE and ADEX to a cohort."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import require_inclusions
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.calendar import Calendar, require_calendar
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Phases
from bayesblina.patients.readers.adam_courses import (
    AdamCourses,
    read_exposure,
    read_stays_of_exposure,
)
from bayesblina.patients.readers.adam_moves import note_moved
from bayesblina.patients.readers.adam_outcomes import (
    AdamEndpoint,
    AdamTimes,
    Followed,
    Value,
    read_outcomes,
)
from bayesblina.patients.readers.adam_tables import (
    Doses,
    Filters,
    People,
    ZeroDoses,
    note_unchosen,
    read_people,
    require_filters,
    rows_that_count,
)
from bayesblina.patients.readers.columns import Columns, CovariateKind, Repairs, make_cohort
from bayesblina.patients.readers.dated import SameDay
from bayesblina.patients.readers.dates import ISO, require_date_format
from bayesblina.patients.readers.sources import (
    raise_problems,
    refuse,
    require_columns,
    require_roles,
)
from bayesblina.patients.readers.stays import StaysRead
from bayesblina.patients.readers.visits import (
    VisitDays,
    VisitsRead,
    read_visits,
    require_visits,
    waiting_for_visits,
)
from bayesblina.patients.rules import DAYS_PER_UNIT, unit_fault
from bayesblina.patients.visits import Visits

# First dose of cycle 3 and of cycle 6, as in NCT02013167.
BLINATUMOMAB_PHASES: Mapping[str, int | str] = MappingProxyType(
    {"consolidation": 3, "maintenance": 6}
)


def read_adam(
    adsl: Any,
    adtte: Any,
    adex: Any = None,
    *,
    endpoints: Mapping[str, AdamEndpoint],
    unit: str,
    origin: str = "TRTSDT",
    phases: Mapping[str, int | str] | AdamCourses = BLINATUMOMAB_PHASES,
    cycle: str | None = None,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    population: str | None = None,
    filters: Filters = MappingProxyType({}),
    transplant: str | None = None,
    value: Value | None = None,
    value_unit: str | None = None,
    same_day: SameDay = "refuse",
    date_format: str = ISO,
    calendar: Calendar | None = None,
    zero_doses: ZeroDoses | None = None,
    visits: Visits | None = None,
    repairs: Repairs | None = None,
    synthetic: bool | None = None,
) -> Cohort:
    """Read CDISC ADaM datasets into a validated cohort.

    Parameters
    ----------
    adsl, adtte, adex
        Subject-level, time-to-event and exposure datasets, as tables or paths (see
        `read_cohort`). Without ADEX, phases are ADSL's date columns, given in `phases`.
    endpoints
        Endpoints by the names wanted. An event is CNSR = 0; any CNSR > 0 is censored.
    unit
        Unit that the times get.
    origin
        ADSL's column with the date from which all times count. An endpoint whose STARTDT lies
        later has delayed entry there.
    phases
        Phases in order. With ADEX: the number of the cycle whose first dose starts the phase (any
        cycle from there up to the next phase's), or a text that the cycle column holds. Without:
        a date column of ADSL. An empty mapping: follow-up without phases. With ADEX also
        `AdamCourses`: its rows are stays, in which phases may recur.
    cycle
        ADEX's column that names cycles ("Cycle 3 Day 1", "CYCLE 03", "C3D1", or a number); by
        default the first present of AVISIT, VISIT, EPOCH, AVISITN and CYCLE. With `AdamCourses`
        rows of one cycle that follow each other are one; of the columns that are looked for, one
        counts only if all of it names cycles, and without any each row is a cycle.
    covariates
        Columns of ADSL, as for `read_cohort`.
    population
        ADSL's population flag (such as SAFFL or FASFL): patients for whom it is not "Y" are left
        out, and listed in the cohort's account. None takes everybody.
    filters
        Rows that count, by dataset and column: ``{"ADTTE": {"ANL01FL": "Y"}, "ADEX": {"PARAMCD":
        ["DOSE"]}}``; those left out are counted in the account. Of ADSL, patients. Rows whose
        ANL01FL is not "Y" and that no filter leaves out count, and the account says so.
    transplant
        ADSL's column with the date of transplant.
    value
        Where follow-up ends: ``"dates"`` (ADT less STARTDT, whole days) or ``"AVAL"`` (the
        analysis value after STARTDT). Must be chosen where ADTTE has both, since AVAL counts the
        last day too: events on the day of a phase's start belong to it by AVAL, and not by dates.
        Then the account counts the patients whose event is in another phase by the other value.
    value_unit
        Unit of AVAL where ADTTE has no AVALU.
    same_day
        What follow-up by dates means that ends on the day it starts, as for `read_dated_cohort`.
        ``"end of day"`` is what AVAL has.
    date_format
        As for `read_dated_cohort`.
    calendar
        Calendar dates at which follow-up is cut, as for `read_cohort`; the time origin is `origin`.
    zero_doses
        What rows of ADEX with EXDOSE = 0 are: ``"leave out"``, skipped doses which start no phase,
        or ``"count"``, doses of a placebo. Must be chosen where there are any in a phase.
    visits
        As for `read_cohort`: rows of ADRS or of another dataset of evaluations, by USUBJID and with
        dates, such as ``Visits(adrs, patient="USUBJID", time="ADT", result="AVALC", ...)``;
        ``filters={"ADRS": ...}`` chooses among them. A visit is at the end of its day where
        follow-up is.
    repairs
        Repairs to make, partial dates among them; by default none.
    synthetic
        Whether the patients are simulated; by default what ``adsl.attrs["synthetic"]`` says.

    Returns
    -------
    Cohort
        The patients of ADSL, in its order.

    Raises
    ------
    DataError
        If a dataset cannot be read or anything is wrong, with all problems at once. AVAL that is
        used and is not ADT - STARTDT + 1, to its digits, is wrong: its unit may be another one.
    SpecError
        If the call itself is impossible.

    Notes
    -----
    Doses count from the beginning of their day. Where AVAL counts the first day (ADT - STARTDT + 1,
    the convention of CDISC), follow-up ends with its last day; dates alone end at its beginning.
    Variables as in the ADaM Implementation Guide and the ADaM Basic Data Structure for
    Time-to-Event Analyses.

    Examples
    --------
    >>> import pandas as pd
    >>> adsl = pd.DataFrame({"USUBJID": ["1", "2"], "TRTSDT": ["2015-01-01", "2015-02-01"]})
    >>> adtte = pd.DataFrame(
    ...     {
    ...         "USUBJID": ["1", "2"],
    ...         "PARAMCD": ["OS", "OS"],
    ...         "STARTDT": ["2015-01-01", "2015-02-01"],
    ...         "ADT": ["2015-03-01", "2016-02-01"],
    ...         "CNSR": [0, 1],
    ...     }
    ... )
    >>> adex = pd.DataFrame(
    ...     {"USUBJID": ["2"], "AVISIT": ["Cycle 3 Day 1"], "ASTDT": ["2015-05-01"]}
    ... )
    >>> read_adam(adsl, adtte, adex, endpoints={"os": AdamEndpoint(paramcd="OS")}, unit="days")
    Cohort(2 patients, days; os: 1 events; phases consolidation: 1, maintenance: 0)
    """
    manner = AdamTimes(value=value, value_unit=value_unit, same_day=same_day)
    require_filters(filters)
    _require_call(endpoints, unit, covariates, phases, zero_doses, dated=adex is None)
    require_calendar(calendar, origin=origin)
    require_visits(waiting_for_visits(endpoints), visits)
    require_date_format(date_format)
    per_unit = DAYS_PER_UNIT[unit]
    ordered = {} if isinstance(phases, AdamCourses) else phases
    names = Phases.from_dict(dict.fromkeys(ordered, "column")).names if ordered else ()
    dated = {name: str(column) for name, column in ordered.items()} if adex is None else {}
    roles = _roles(endpoints, names, dated, transplant)
    require_roles({"patient": "USUBJID", "origin": origin} | roles, covariates)
    people = read_people(
        adsl,
        wanted=[*covariates, *([transplant] if transplant else []), *dated.values()],
        origin=origin,
        population=population,
        filters=filters.get("ADSL", {}),
        partial_dates="refuse" if repairs is None else repairs.partial_dates,
        date_format=date_format,
    )
    columns = people.columns
    known = columns.known_dates(*dated.values(), transplant)
    zero = _origins(columns, origin, known)
    baseline = columns.covariates(covariates)
    raise_problems(columns.problems, people.source)
    read_of = _read_treatment(
        adtte,
        adex,
        people,
        phases,
        dated,
        transplant=transplant,
        zero=zero,
        known=known,
        endpoints=endpoints,
        manner=manner,
        unit=unit,
        how={"cycle": cycle, "zero_doses": zero_doses, "filters": filters},
    )
    followed, read, moved = read_of.followed, read_of.stays, read_of.moved
    names = names if read is None else read.names
    starts = (read_of.days.T - zero[:, None]) / per_unit
    if read is not None:
        starts = np.full((zero.size, len(names)), np.nan)
    told = _read_evaluations(
        visits, people, followed, endpoints, filters, zero=zero, unit=unit, same_day=same_day
    )
    try:
        return make_cohort(
            columns,
            outcomes=told.outcomes,
            phases=names,
            starts=starts,
            ends=np.full(starts.shape, np.nan),
            ends_known=False,
            transplant=None if moved is None else (moved - zero) / per_unit,
            covariates=baseline,
            unit=unit,
            repairs=repairs,
            roles=roles,
            source=people.source,
            synthetic=synthetic,
            exclusions=people.exclusions,
            made=[*people.made, *told.repairs, *(() if read is None else read.repairs)],
            file_hashes=people.file_hashes,
            stays=None if read is None else read.stays,
            ordered=read is None or read.ordered,
            combinations={} if read is None else read.combinations,
            calendar=calendar,
            zero=zero,
        )
    except DataError as error:
        raise _of_its_dataset(error, people, followed, read_of.adex, same_day) from None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Treatment:
    """What ADTTE and ADEX say of ADSL's patients.

    `days`, shape (phase, patient): days on which phases start; none where there are `stays`.
    `moved`, shape (patient,): days of transplants; None if nothing is known of them.
    `adex`: where the exposure came from.
    """

    followed: Followed
    days: Floats
    moved: Floats | None
    stays: StaysRead | None
    adex: str


def _read_treatment(
    adtte: Any,
    adex: Any,
    people: People,
    phases: Mapping[str, Any] | AdamCourses,
    dated: Mapping[str, str],
    *,
    transplant: str | None,
    zero: Floats,
    known: Floats,
    endpoints: Mapping[str, AdamEndpoint],
    manner: AdamTimes,
    unit: str,
    how: Mapping[str, Any],
) -> _Treatment:
    """Read ADTTE, and ADEX if there is one.

    `dated`: ADSL's columns of phases' starts by phase, where these are not ADEX's.
    `zero`, shape (patient,); `known`, shape (date, patient): days of the origin, and known dates.
    `how`: what ADEX's rows mean.
    """
    columns, doses, declared = people.columns, None, None
    per_unit = DAYS_PER_UNIT[unit]
    source = "ADEX"
    if isinstance(phases, AdamCourses):
        declared, source = read_exposure(adex, people, phases, **how)
    elif adex is not None and phases:
        doses = Doses(adex, people, phases, **how)
        source = doses.source
    begun = known if doses is None else np.concatenate([known, doses.known()])
    followed = read_outcomes(adtte, people, zero, begun, endpoints, manner, how["filters"])
    last = np.fmax.reduce(list(followed.end.values()))
    days = doses.starts(zero, last) if doses else _dated_starts(columns, dated, zero, last)
    moved = None if transplant is None else columns.dates(transplant, after=zero, before=last)
    raise_problems(columns.problems, people.source)  # of dates that ADTTE's endpoints start from
    read = None
    if isinstance(phases, AdamCourses) and declared is not None:
        read = read_stays_of_exposure(
            phases,
            declared,
            people,
            source=source,
            zero=zero,
            unit=unit,
            last=(last - zero) / per_unit,
        )
    note_moved(people, followed, days, read, zero, per_unit)
    return _Treatment(followed=followed, days=days, moved=moved, stays=read, adex=source)


def _read_evaluations(
    visits: Visits | None,
    people: People,
    followed: Followed,
    endpoints: Mapping[str, AdamEndpoint],
    filters: Filters,
    *,
    zero: Floats,
    unit: str,
    same_day: SameDay,
) -> VisitsRead:
    """Make outcomes of what ADTTE says, with the rows of ADRS that count as visits.

    `zero`, shape (patient,): day of the origin.
    """
    columns, source, wanted = people.columns, "ADRS", filters.get("ADRS", {})
    if visits is not None:
        refuse(
            (
                visits.patient != "USUBJID",
                f"visits: datasets of ADaM know patients by USUBJID, got {visits.patient!r}.",
            ),
        )
        table, source = people.load(visits.table, "ADRS")
        require_columns(table, [*visits.columns.values(), *wanted], source)
        counted, problems = rows_that_count(table, people, "ADRS", wanted)
        raise_problems(problems, source)
        note_unchosen(people, Columns(counted, "USUBJID"), "ADRS", wanted)
        visits = replace(visits, table=counted)
    elif wanted:
        raise SpecError("filters: ADRS is read where visits=Visits(...) says what its rows are.")
    days = VisitDays(
        zero=zero,
        entry=followed.entry,
        last=followed.last,
        days_per_unit=DAYS_PER_UNIT[unit],
        ends_of_days=followed.value == "AVAL" or same_day == "end of day",
        date_format=columns.date_format,
        partial_dates=columns.partial_dates,
    )
    return read_visits(
        visits,
        columns,
        followed.outcomes(days, endpoints),
        waiting_for_visits(endpoints),
        people.source,
        unit=unit,
        days=days,
        part_of=source,
    )


def _origins(columns: Columns, origin: str, known: Floats) -> Floats:
    """Read the origin's day, which every patient needs."""
    zero = columns.dates(origin, before=np.fmin.reduce(known))
    columns.report(
        origin,
        columns.text(origin) == "",
        "missing dates of origin",
        "Every patient needs one; patients who were never treated are left out with population=.",
    )
    return zero


def _dated_starts(columns: Columns, dated: Mapping[str, str], zero: Floats, last: Floats) -> Floats:
    """Read the days on which phases start from columns of ADSL, shape (phase, patient)."""
    days = [columns.dates(column, after=zero, before=last) for column in dated.values()]
    return np.array(days).reshape(len(days), zero.size)


def _require_call(
    endpoints: Any, unit: str, covariates: Any, phases: Any, zero_doses: Any, *, dated: bool
) -> None:
    """Refuse calls that are impossible whatever the datasets hold."""
    refuse(
        unit_fault(unit),
        (
            not isinstance(endpoints, Mapping)
            or not endpoints
            or not all(isinstance(endpoint, AdamEndpoint) for endpoint in endpoints.values()),
            "endpoints must map names to AdamEndpoint values.",
        ),
    )
    require_inclusions({name: tuple(endpoint.includes) for name, endpoint in endpoints.items()})
    refuse(
        (isinstance(covariates, str), "covariates must be a list of columns, not one string."),
        (
            not isinstance(phases, Mapping | AdamCourses),
            "phases must map names to cycles, texts or columns, or be AdamCourses.",
        ),
        (
            dated and isinstance(phases, AdamCourses),
            "phases: AdamCourses are the rows of ADEX: give adex=.",
        ),
        (
            zero_doses not in (None, "leave out", "count"),
            f"zero_doses must be 'leave out' or 'count', got {zero_doses!r}.",
        ),
    )
    if dated and not all(isinstance(column, str) for column in phases.values()):
        raise SpecError(
            "phases: without ADEX each needs a date column of ADSL, such as "
            f"{{'maintenance': 'MAINTDT'}}, got {dict(phases)!r}."
        )


def _roles(
    endpoints: Mapping[str, AdamEndpoint],
    names: Sequence[str],
    dated: Mapping[str, str],
    transplant: str | None,
) -> dict[str, str]:
    """Name the column of each role, with its dataset where that is not ADSL."""
    roles = {"patient": "USUBJID"}
    for name, endpoint in endpoints.items():
        where = f"ADTTE {endpoint.paramcd}"
        roles |= {
            f"{name}.time": f"{where} time",
            f"{name}.event": f"{where} CNSR",
            f"{name}.entry": f"{where} {endpoint.origin or 'STARTDT'}",
        }
        if endpoint.last_negative is not None:
            roles[f"{name}.last_negative"] = f"{where} {endpoint.last_negative}"
    roles |= {f"{name}.start": dated.get(name, f"ADEX start of {name}") for name in names}
    return roles if transplant is None else roles | {"transplant": transplant}


def _of_its_dataset(
    error: DataError, people: People, followed: Followed, adex: str, same_day: SameDay
) -> DataError:
    """Name the dataset that a fault is in, and the repair of follow-up without length."""
    sources = {"ADTTE": followed.source, "ADEX": adex, "stays": adex}
    faulty = [
        sources.get(re.split("[ .]", problem.column)[0], people.source)
        for problem in error.problems
    ]
    instead = (
        "Correct the dates, or say same_day='half day' or 'end of day'."
        if same_day == "refuse"
        # Follow-up of one day has a length then: what has none ends before it begins.
        else "Correct the dates: follow-up ends before it begins."
    )
    problems = [
        replace(problem, expected=instead)
        if followed.value == "dates"
        and problem.column.startswith("ADTTE ")
        and problem.found.startswith(("times of 0", "entry at or after"))
        else problem
        for problem in error.problems
    ]
    return DataError(problems, source=", ".join(dict.fromkeys(faulty)))
