"""A table of visits, one row each, beside a table of patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Repair
from bayesblina.patients.declarations import NO_VISITS, Recorded
from bayesblina.patients.outcomes import Outcome, exact_events, last_seen
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.dates import (
    ISO,
    STUDY_DAYS_EXPECTED,
    STUDY_DAYS_FOUND,
    PartialDates,
    from_study_days,
)
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    raise_problems,
    refuse,
    require_columns,
    require_roles,
)
from bayesblina.patients.readers.texts import examples_of
from bayesblina.patients.rules import tie_of, unit_fault
from bayesblina.patients.visits import (
    IGNORED,
    LEFT_OUT_VISITS,
    VisitRows,
    Visits,
    Watched,
    latest_negative,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisitsRead:
    """Outcomes with what a table of visits says of them.

    `repairs`: what was left out, or taken in spite of something, and of whom.
    """

    outcomes: dict[str, Outcome]
    repairs: tuple[Repair, ...] = ()
    file_hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisitDays:
    """How the dates of visits lie to those of the endpoints, in days since 1970.

    `zero`, shape (patient,): the origin.
    `entry`, `last`, shape (patient,): first and last day of follow-up by endpoint.
    `days_per_unit`: of the cohort's unit.
    `ends_of_days`: whether a visit is at the end of its day, as the event is then.
    """

    zero: Floats
    entry: Mapping[str, Floats]
    last: Mapping[str, Floats]
    days_per_unit: float
    ends_of_days: bool
    date_format: str = ISO
    partial_dates: PartialDates = "refuse"

    def times(self, days: Floats) -> Floats:
        """Count visits' days from the origin."""
        return (days - self.zero + 1.0 * self.ends_of_days) / self.days_per_unit

    def last_negatives(self, name: str, days: Floats, time: Floats) -> Floats:
        """Count last visits without an event from the origin; one on the last day is at its end.

        `days`, `time`, shape (patient,): days of visits, and end of follow-up from the origin.
        """
        return np.where(days == self.last[name], time, self.times(days))


def require_visits(waiting: list[str], visits: Visits | None) -> None:
    """Refuse endpoints that wait for a table of visits without one, and one that none waits for."""
    given: object = visits
    if not isinstance(given, Visits | None):
        raise SpecError(f"visits must be Visits(...), got {type(given).__name__}.")
    refuse(
        (bool(waiting) and visits is None, f"{', '.join(waiting)}: {NO_VISITS}."),
        (
            visits is not None and not waiting,
            "visits: no endpoint waits for them. Declare recorded='visits' of those whose events "
            "are found at visits, without a column last_negative, or leave visits out.",
        ),
    )


class _SaysOfVisits(Protocol):
    """What every declaration of an endpoint says of visits."""

    @property
    def recorded(self) -> Recorded | None:
        """How its events are recorded."""

    @property
    def last_negative(self) -> str | None:
        """The column of last visits without it."""


def waiting_for_visits(endpoints: Mapping[str, _SaysOfVisits]) -> list[str]:
    """List the endpoints whose last visits a table of visits has to give."""
    return [
        name
        for name, own in endpoints.items()
        if own.recorded == "visits" and own.last_negative is None
    ]


def read_visits(
    visits: Visits | None,
    columns: Columns,
    outcomes: Mapping[str, Outcome],
    waiting: list[str],
    source: str,
    *,
    unit: str,
    days: VisitDays | None = None,
    part_of: str | None = None,
) -> VisitsRead:
    """Say of the endpoints that wait for it when each patient was last found event-free.

    `columns`: those of the patients, whose problems are raised first.
    `outcomes`: of endpoints that wait, nothing is known of visits yet.
    `days`: how dates become times; None where the table of visits holds times.
    `part_of`: the dataset of which the table is a part, so that its rows have no numbers.
    """
    if visits is None:
        return VisitsRead(outcomes=dict(outcomes))
    refuse(
        unit_fault(unit),
        (
            days is None and visits.counted is not None,
            "visits: study days count from a date, and these patients have times: give the visits' "
            "times, or read the patients' dates.",
        ),
    )
    raise_problems(columns.problems, source)
    frame, name = load_table(visits.table)
    name = name if part_of is None else part_of
    require_roles({f"visit's {role}": column for role, column in visits.columns.items()}, ())
    require_columns(frame, visits.columns.values(), name)
    reading = _VisitReading(visits, frame, columns, days)
    if part_of is not None:
        reading.columns.row_numbers = None
    last = last_seen(outcomes) if days is None else _latest_day(days)
    rows = reading.rows(days, outcomes, waiting)
    told = dict(outcomes)
    for endpoint in waiting:
        own = outcomes[endpoint]
        watched = Watched(
            entry=own.entry if days is None else days.entry[endpoint],
            end=own.time if days is None else days.last[endpoint],
            event=own.event,
            exact=exact_events(outcomes, endpoint, unit=unit),
            last=last,
        )
        tie = tie_of(unit if days is None else "days")
        latest = latest_negative(endpoint, rows, watched, visits.leave_out, tie, reading)
        if days is not None:
            latest = days.last_negatives(endpoint, latest, own.time)
        told[endpoint] = replace(own, last_negative=latest)
    raise_problems(reading.columns.problems, name)
    columns.imputed += [
        (column, who[np.isin(who, columns.ids)]) for column, who in reading.columns.imputed
    ]
    return VisitsRead(
        outcomes=told,
        repairs=tuple(reading.repairs),
        file_hashes={f"{of} (visits)": digest for of, digest in hashes(frame, name).items()},
    )


def _latest_day(days: VisitDays) -> Floats:
    """Find the last day of all follow-up; infinite where none is known."""
    last = np.fmax.reduce(list(days.last.values()))
    return np.where(np.isnan(last), np.inf, last)


class _VisitReading:
    """Reads a table of visits: `bayesblina.patients.visits.VisitFindings` about its rows."""

    def __init__(
        self, visits: Visits, frame: pd.DataFrame, people: Columns, days: VisitDays | None
    ) -> None:
        self.visits, self.ids = visits, people.ids
        self.columns = Columns(
            frame,
            visits.patient,
            partial_dates="refuse" if days is None else days.partial_dates,
            date_format=ISO if days is None else days.date_format,
            numbers=np.arange(1, len(frame) + 1),
        )
        self.repairs: list[Repair] = []

    def report(self, rows: Bools, found: str, expected: str) -> None:
        """Note a problem with some rows, if there are any."""
        self.columns.report(self.visits.result, rows, found, expected)

    def leave_out(self, kind: str, rows: Bools) -> None:
        """Note which rows are left out as declared, if there are any."""
        self._told(LEFT_OUT_VISITS[kind], rows)

    def note(self, rule: str, patients: Bools) -> None:
        """Note of which patients something was taken, if of any."""
        if patients.any():
            self.repairs.append(Repair(rule=rule, patients=tuple(map(str, self.ids[patients]))))

    def _told(self, rule: str, rows: Bools) -> None:
        if rows.any():
            who = tuple(dict.fromkeys(map(str, self.columns.ids[rows])))
            made = Repair(rule=rule, patients=who)
            if made not in self.repairs:  # of several endpoints alike
                self.repairs.append(made)

    def rows(
        self, days: VisitDays | None, outcomes: Mapping[str, Outcome], waiting: list[str]
    ) -> VisitRows:
        """Read all rows, and say which count."""
        visits, columns = self.visits, self.columns
        patient = pd.Index(self.ids).get_indexer(pd.Index(columns.ids)).astype(np.int64)
        result = columns.text(visits.result)
        positive, negative, ignored = (
            np.isin(result, texts) for texts in (visits.positive, visits.negative, visits.ignore)
        )
        unknown = ~(positive | negative | ignored)
        columns.report(
            visits.result,
            unknown,
            "results of which nothing is said",
            "List each in negative, positive or ignore (an empty one as '').",
            examples_of(pd.Series(result[unknown])),
        )
        columns.report(
            visits.patient, columns.ids == "", "missing ids", "Every visit needs its patient's id."
        )
        strangers = (patient < 0) & (columns.ids != "")
        if "strangers" in visits.leave_out:
            self.leave_out("strangers", strangers)
        else:
            columns.report(
                visits.patient,
                strangers,
                "patients who are not in the cohort",
                "Correct the ids, or say leave_out=['strangers'].",
            )
        counts = (positive | negative) & (patient >= 0)
        self._told(IGNORED, ignored & (patient >= 0))
        time = self._times(patient, positive, days, outcomes, waiting)
        columns.report(
            visits.time,
            counts & ((columns.text(visits.time) == "") | np.isinf(time)),
            "missing or infinite times of visits",
            "Expected the time of each visit with a result; list results without a visit in "
            "ignore.",
        )
        counts &= np.isfinite(time)
        return VisitRows(patient=np.where(counts, patient, -1), time=time, positive=positive)

    def _times(
        self,
        patient: Ints,
        positive: Bools,
        days: VisitDays | None,
        outcomes: Mapping[str, Outcome],
        waiting: list[str],
    ) -> Floats:
        """Read when visits were: times, or days since 1970."""
        column = self.visits.time
        if days is None:
            return self.columns.times(column, few=True)
        if self.visits.counted == "study days":
            counted, wrong = from_study_days(self.columns.numbers(column))
            self.columns.report(column, wrong, STUDY_DAYS_FOUND, STUDY_DAYS_EXPECTED)
            return np.where(patient >= 0, days.zero[np.maximum(patient, 0)] + counted, np.nan)
        if days.partial_dates == "refuse":
            return self.columns.dates(column)
        # An event is found at the first positive visit, and at none without the event.
        ends = np.stack([days.last[name] for name in waiting])
        before = np.fmin.reduce([days.last[name] - outcomes[name].event for name in waiting])
        after = np.fmin.reduce(ends)
        inside, who = patient >= 0, np.maximum(patient, 0)
        return self.columns.dates(
            column,
            after=np.where(inside & positive, after[who], np.nan),
            before=np.where(inside & ~positive, before[who], np.nan),
        )
