"""ADTTE: endpoints' entries, ends and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.endpoint_order import require_includes
from bayesblina.core.errors import Problem, nearest
from bayesblina.patients.declarations import EventFreeUntil, Recorded, recorded_at_visits
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.readers.adam_tables import (
    Filters,
    People,
    note_unchosen,
    rows_that_count,
)
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.dated import SameDay, end_of_follow_up
from bayesblina.patients.readers.dates import within_follow_up
from bayesblina.patients.readers.sources import missing_columns, raise_problems, refuse
from bayesblina.patients.readers.visits import VisitDays
from bayesblina.patients.rules import DAYS_PER_UNIT, unit_fault

Value = Literal["dates", "AVAL"]

AVALU = MappingProxyType(
    {
        **dict.fromkeys(("DAY", "DAYS"), "days"),
        **dict.fromkeys(("WEEK", "WEEKS"), "weeks"),
        **dict.fromkeys(("MONTH", "MONTHS"), "months"),
        **dict.fromkeys(("YEAR", "YEARS"), "years"),
    }
)
# Months of 30 days and years of 365 are this share off, at most.
CALENDAR = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamEndpoint:
    """One endpoint of ADTTE.

    Parameters
    ----------
    paramcd
        Its PARAMCD.
    origin
        Column with the date from which the endpoint's time counts and its observation begins, of
        ADTTE or else of ADSL; by default STARTDT.
    some_patients
        Whether only some patients have it, such as relapse-free survival in those who reached
        remission. Patients without a record were then never under observation for it; without
        this a missing record is an error.
    recorded, includes, event_free_until
        How events are recorded, what other endpoints' events are among them, and until when
        patients without one found at visits are followed up, as for `bayesblina.Endpoint`.
    last_negative
        ADTTE's column with the date of the last evaluation without the event, as for
        `bayesblina.DatedEndpoint`.

    Raises
    ------
    SpecError
        As for `bayesblina.Endpoint`.

    Examples
    --------
    >>> AdamEndpoint(paramcd="RFS", some_patients=True).paramcd
    'RFS'
    >>> AdamEndpoint(paramcd="OS", origin="RANDDT").origin
    'RANDDT'
    """

    paramcd: str
    origin: str | None = None
    some_patients: bool = False
    recorded: Recorded | None = None
    includes: Sequence[str] = ()
    last_negative: str | None = None
    event_free_until: EventFreeUntil = "last_negative"

    def __post_init__(self) -> None:
        recorded = recorded_at_visits(self.recorded, self.last_negative, self.event_free_until)
        object.__setattr__(self, "recorded", recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamTimes:
    """How follow-up is taken from ADTTE, as `bayesblina.read_adam` says."""

    value: Value | None
    value_unit: str | None
    same_day: SameDay

    def __post_init__(self) -> None:
        refuse(
            (
                self.value not in (None, "dates", "AVAL"),
                f"value must be 'dates' or 'AVAL', got {self.value!r}.",
            ),
            unit_fault("days" if self.value_unit is None else self.value_unit, "value_unit"),
            (
                self.same_day not in ("refuse", "half day", "end of day"),
                f"same_day must be 'refuse', 'half day' or 'end of day', got {self.same_day!r}.",
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Followed:
    """What ADTTE says, in days since 1970 where nothing else is said.

    `entry`, `end`, shape (patient,): beginning and end of follow-up by endpoint; NaN without a
    record.
    `other`, shape (patient,): end by the value that is not used, where ADTTE has both.
    `event`, shape (patient,): whether follow-up ends with an event.
    `last`, shape (patient,): the last day of follow-up.
    `negative`, shape (patient,): day of the last evaluation without the event; NaN where ADTTE says
    nothing of it.
    `value`: which value is used.
    """

    source: str
    entry: Mapping[str, Floats]
    end: Mapping[str, Floats]
    other: Mapping[str, Floats]
    event: Mapping[str, Bools]
    last: Mapping[str, Floats]
    negative: Mapping[str, Floats]
    value: Value

    def outcomes(
        self, days: VisitDays, endpoints: Mapping[str, AdamEndpoint]
    ) -> dict[str, Outcome]:
        """Count times from the origin."""
        outcomes = {}
        for name, endpoint in endpoints.items():
            time = (self.end[name] - days.zero) / days.days_per_unit
            negative = days.last_negatives(name, self.negative[name], time)
            outcomes[name] = Outcome(
                time=time,
                event=self.event[name],
                entry=(self.entry[name] - days.zero) / days.days_per_unit,
                recorded=endpoint.recorded,
                includes=tuple(endpoint.includes),
                last_negative=negative if endpoint.recorded == "visits" else None,
                event_free_until=endpoint.event_free_until,
            )
        return outcomes

    def moved(self, patient: Ints, days: Floats) -> Bools:
        """Find patients whose event is in another phase by the value that is not used.

        `patient`, `days`, shape (change,): whose phases change, and when.
        """
        size = next(iter(self.end.values())).size
        moved = np.zeros(size, dtype=bool)
        for name, other in self.other.items():
            phase, by_other = (
                np.bincount(patient[days < end[patient]], minlength=size)
                for end in (self.end[name], other)
            )
            moved |= self.event[name] & np.isfinite(other) & (phase != by_other)
        return moved


def read_outcomes(
    adtte: Any,
    people: People,
    zero: Floats,
    begun: Floats,
    endpoints: Mapping[str, AdamEndpoint],
    manner: AdamTimes,
    filters: Filters,
) -> Followed:
    """Read the endpoints of ADTTE.

    `zero`, shape (patient,): day of the origin.
    `begun`, shape (phase, patient): known starts of phases and transplants.
    """
    table, source = people.load(adtte, "ADTTE")
    wanted = filters.get("ADTTE", {})
    raise_problems(_missing(table, people, endpoints, manner, list(wanted)), source)
    value = manner.value or ("dates" if "ADT" in table.columns else "AVAL")
    refuse(
        (
            manner.value is None and {"ADT", "AVAL"} <= set(table.columns),
            f"{source} has both ADT and AVAL, which count the last day otherwise: say "
            "value='dates' (ADT less STARTDT) or value='AVAL'.",
        ),
        (
            value == "AVAL" and manner.same_day != "refuse",
            "same_day is for dates: AVAL says itself how long the last day counts.",
        ),
    )
    table, problems = rows_that_count(table, people, "ADTTE", wanted)
    records = _records(table, people, endpoints, value, problems)
    used = Columns(table, "USUBJID")
    chosen = np.isin(used.text("PARAMCD"), [endpoint.paramcd for endpoint in endpoints.values()])
    note_unchosen(people, Columns(table.loc[chosen], "USUBJID"), "ADTTE", wanted)
    known = {name: record.known_ends() for name, record in records.items()}
    ends = list(known.values())
    entry, end, other, event, last, negative = {}, {}, {}, {}, {}, {}
    lengthened, differs, partial = np.zeros((3, people.size), dtype=bool)
    compared = False
    for index, (name, record) in enumerate(records.items()):
        entry[name] = record.entries(zero, known[name])
        event[name] = record.events()
        by = {}
        if value == "dates":
            after = within_follow_up(entry[name], begun, ends, index)
            last[name] = record.dates(after)
            by["dates"], brief = end_of_follow_up(last[name], entry[name], manner.same_day)
            lengthened |= brief
        elif "ADT" in table.columns:
            by["dates"] = known[name]
            partial |= record.partial_ends()
        if "AVAL" in table.columns and record.has_unit(manner, value):
            length = record.analysis_days(manner.value_unit, needed=value == "AVAL")
            by["AVAL"] = entry[name] + length
            if "dates" in by:
                differs |= record.compare(length, entry[name], value, manner.value_unit)
                compared = True
        end[name] = by.pop(value)
        if value == "AVAL":
            # AVAL counts the last day, too.
            last[name] = by["dates"] if "dates" in by else end[name] - 1.0
        negative[name] = record.negatives(entry[name], last[name], event[name])
        if by:
            _, other[name] = by.popitem()
        people.took(record.rows)
        problems += [*record.rows.problems, *record.absent()]
    raise_problems(problems, source)
    if value == "dates" and manner.same_day == "half day":
        people.note("follow-up that ended on its first day lasts half a day", lengthened)
    if partial.any():
        people.note("partial ADT, with which AVAL could not be compared", partial)
    if compared and value == "dates":
        people.note("AVAL differs from ADT - STARTDT + 1, and is not used", differs)
    return Followed(
        source=source,
        entry=entry,
        end=end,
        other=other,
        event=event,
        last=last,
        negative=negative,
        value=value,
    )


def _records(
    table: pd.DataFrame,
    people: People,
    endpoints: Mapping[str, AdamEndpoint],
    value: Value,
    problems: list[Problem],
) -> dict[str, _Record]:
    """Choose the rows of each endpoint; what has none is added to the problems."""
    records: dict[str, _Record] = {}
    codes = Columns(table, "USUBJID").text("PARAMCD")
    for name, endpoint in endpoints.items():
        chosen = codes == endpoint.paramcd
        if not chosen.any():
            problems.append(
                Problem(
                    column="PARAMCD",
                    found=f"no record of {endpoint.paramcd}",
                    expected=nearest(endpoint.paramcd, sorted(set(codes.tolist()) - {""})),
                )
            )
            continue
        rows = people.open(table.loc[chosen].reset_index(drop=True))
        if value == "AVAL":
            rows.looked_at.add("ADT")
        records[name] = _Record(endpoint, rows, people)
    return records


def _missing(
    table: pd.DataFrame,
    people: People,
    endpoints: Mapping[str, AdamEndpoint],
    manner: AdamTimes,
    filtered: list[str],
) -> list[Problem]:
    """Find the columns that ADTTE lacks, with what may stand in for them."""
    by_dates = manner.value == "dates" or (manner.value is None and "ADT" in table.columns)
    own = [
        endpoint.origin or "STARTDT"
        for endpoint in endpoints.values()
        if endpoint.origin is None or endpoint.origin not in people.columns.frame
    ]
    values = ["ADT"] if by_dates else ["AVAL", *([] if manner.value_unit else ["AVALU"])]
    visited = [one.last_negative for one in endpoints.values() if one.last_negative is not None]
    wanted = ["USUBJID", "PARAMCD", *own, "CNSR", *values, *visited, *filtered]
    instead = {
        "STARTDT": "Where ADTTE has none, name the date from which time counts: "
        "AdamEndpoint(origin='<date column of ADSL>').",
        "AVALU": "Where ADTTE has none, say value_unit='days', 'weeks', 'months' or 'years'.",
    }
    return [
        replace(problem, expected=f"{instead[problem.column]} {problem.expected}")
        if problem.column in instead
        else problem
        for problem in missing_columns(table, wanted)
    ]


class _Record:
    """The rows of one endpoint."""

    def __init__(self, endpoint: AdamEndpoint, rows: Columns, people: People) -> None:
        self.endpoint, self.rows, self.people = endpoint, rows, people
        self.row = people.rows_of(rows)
        rows.report(
            "USUBJID",
            pd.Series(rows.ids).duplicated(keep=False).to_numpy(),
            f"more than one record of {endpoint.paramcd}",
            "Expected one for each patient: choose with filters={'ADTTE': {'ANL01FL': 'Y'}}.",
        )

    def spread(self, values: Any) -> Floats:
        """Put values of rows to their patients; NaN without a row."""
        by_patient = np.full(self.people.size, np.nan)
        inside = self.row >= 0
        by_patient[self.row[inside]] = values[inside]
        return by_patient

    def of_rows(self, values: Floats) -> Floats:
        """Put values of patients to their rows; NaN for strangers."""
        return np.where(self.row >= 0, values[np.maximum(self.row, 0)], np.nan)

    def known_ends(self) -> Floats:
        """Read the ends of follow-up whose day is known."""
        column = "ADT" if "ADT" in self.rows.frame.columns else None
        return self.spread(self.rows.known_dates(column)[0])

    def entries(self, zero: Floats, known: Floats) -> Floats:
        """Days on which observation begins."""
        column = self.endpoint.origin or "STARTDT"
        if column in self.rows.frame.columns:
            columns = self.rows
            inside = np.ones(self.row.size, dtype=bool)
            days = columns.dates(column, after=self.of_rows(zero), before=self.of_rows(known))
            entries = self.spread(days)
        else:
            columns = self.people.columns
            inside = np.isin(np.arange(self.people.size), self.row)
            entries = np.where(inside, columns.dates(column, after=zero, before=known), np.nan)
        columns.report(
            column,
            inside & (columns.text(column) == ""),
            "missing dates",
            "Every record needs one.",
        )
        return entries

    def events(self) -> Bools:
        """Whether CNSR is 0."""
        censoring: Ints | Floats = self.rows.numbers("CNSR")
        self.rows.report(
            "CNSR",
            ~((censoring >= 0) & (censoring == np.round(censoring))),
            "values other than 0, 1, 2 and so on",
            "CNSR is 0 for an event and a whole number above 0 for censoring.",
        )
        return np.asarray(self.spread(censoring) == 0)

    def partial_ends(self) -> Bools:
        """Find patients whose ADT is partial."""
        return np.asarray(self.spread(self.rows.partial("ADT")) == 1.0)

    def dates(self, after: Floats) -> Floats:
        """Read the last days of follow-up."""
        days = self.spread(self.rows.dates("ADT", after=self.of_rows(after)))
        self.rows.report(
            "ADT", self.rows.text("ADT") == "", "missing dates", "Every record needs one."
        )
        return days

    def negatives(self, entry: Floats, last: Floats, event: Bools) -> Floats:
        """Read the days of the last evaluation without the event; before that of the event."""
        column = self.endpoint.last_negative
        after, before = self.of_rows(entry), self.of_rows(last - event)
        return self.spread(self.rows.dates(column, after=after, before=before))

    def has_unit(self, manner: AdamTimes, value: Value) -> bool:
        """Whether AVAL has a unit; where AVAL is used it must."""
        return (
            value == "AVAL" or manner.value_unit is not None or "AVALU" in self.rows.frame.columns
        )

    def analysis_days(self, value_unit: str | None, *, needed: bool) -> Floats:
        """AVAL in days."""
        factor = self._factors(value_unit)
        rows = self.rows
        if needed:
            unknown = np.isnan(factor)
            units = pd.Series(rows.text("AVALU") if "AVALU" in rows.frame.columns else [""])
            shown = ", ".join(
                repr(text[:20].upper()) for text in units[unknown[: units.size]].unique()[:3]
            )
            rows.report(
                "AVALU",
                unknown,
                f"unknown units ({shown})",
                "Expected DAYS, WEEKS, MONTHS or YEARS.",
            )
        values = rows.numbers("AVAL")
        if needed:
            rows.report("AVAL", np.isnan(values), "missing values", "Every record needs one.")
        return self.spread(values * factor)

    def _factors(self, value_unit: str | None) -> Floats:
        """Days in the unit of each row's AVAL."""
        rows = self.rows
        stated = np.nan if value_unit is None else DAYS_PER_UNIT[value_unit]
        if "AVALU" not in rows.frame.columns:
            return np.full(len(rows.frame), stated)
        text = pd.Series(rows.text("AVALU")).str.upper()
        units = text.map(AVALU)
        if value_unit is not None:
            rows.report(
                "AVALU",
                ((units != value_unit) & (text != "")).to_numpy(),
                f"units other than the {value_unit} of value_unit",
                "Leave value_unit out, or correct it.",
            )
            units = units.where(text != "", value_unit)
        return np.asarray(units.map(DAYS_PER_UNIT).to_numpy(), dtype=np.float64)

    def compare(self, length: Floats, entry: Floats, value: Value, value_unit: str | None) -> Bools:
        """Hold AVAL, in days, against ADT - STARTDT + 1; where AVAL is used they must agree."""
        rows = self.rows
        dated = self.known_ends() - entry + 1.0
        # To the digits in which AVAL is written, rounded or cut off.
        text = pd.Series(rows.text("AVAL"))
        digits = text.str.extract(r"\.([0-9]+)", expand=False).str.len().max()
        factor = self.spread(self._factors(value_unit))
        digit = np.nan_to_num(factor, nan=1.0) * 10.0 ** -float(np.nan_to_num(digits))
        apart = np.abs(length - dated) > 1.0 + digit + CALENDAR * np.abs(dated)
        if value == "AVAL" and apart.any():
            ratio = float(np.median(length[apart] / np.maximum(dated[apart], 1.0)))
            rows.report(
                "AVAL",
                self.of_rows(apart.astype(np.float64)) == 1.0,
                f"differs from ADT - STARTDT + 1 ({ratio:.3g} times as long, in the median)",
                "Correct AVALU, value_unit or the dates, or say value='dates'.",
            )
        return np.asarray(apart)

    def absent(self) -> list[Problem]:
        """Patients without a record, where everybody needs one."""
        missing = np.setdiff1d(np.arange(self.people.size), self.row)
        if self.endpoint.some_patients or not missing.size:
            return []
        return [
            Problem(
                column="PARAMCD",
                found=f"patients without a record of {self.endpoint.paramcd}",
                expected="Every patient needs one; where only some have the endpoint, say "
                "AdamEndpoint(some_patients=True).",
                patients=tuple(map(str, self.people.columns.ids[missing])),
            )
        ]
