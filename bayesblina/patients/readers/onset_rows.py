"""Rows of adverse events: which are kept, when they start, and why others are left out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.dates import (
    STUDY_DAYS_EXPECTED,
    STUDY_DAYS_FOUND,
    from_study_days,
)
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    raise_problems,
    require_columns,
    require_roles,
)
from bayesblina.patients.rules import DAYS_PER_UNIT

Counted = Literal["times", "study days", "dates"]
Severity = Literal["MILD", "MODERATE", "SEVERE"]
LeaveOut = Literal["before", "after", "undated", "ungraded", "strangers"]

# CTCAE grades, as numbers or as "Grade 3"; and the severities of CDISC's AESEV.
GRADE = r"(?:[Gg][Rr][Aa][Dd][Ee]\s*)?([1-5])(?:\.0*)?"
SEVERITIES: tuple[Severity, ...] = ("MILD", "MODERATE", "SEVERE")
# Why rows may be left out, and what the account of them says.
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "strangers": "of patients who are not in the cohort",
        "undated": "without a start",
        "before": "that start before observation begins",
        "after": "that start after observation ends",
        "ungraded": "without a grade",
    }
)
# Days by which times that were divided by a unit may miss whole days.
SLACK = 1e-6
# Variables of CDISC that count study days, and rows from which on other columns look like them.
STUDY_DAYS = ("ASTDY", "AESTDY")
# Names of other columns that count days, from 0 or from 1: "day", "AE_DAY", "startday".
DAYS = re.compile(r"(?:^|[^a-z])(?:start|onset|study|event|ae)?days?(?:$|[^a-z])", re.IGNORECASE)
LIKE_STUDY_DAYS = 20


def require_event_roles(
    patient: str,
    term: str,
    start: str,
    grade: str | None,
    flags: Sequence[str],
    origin: str | None,
    *,
    apart: bool,
) -> None:
    """Refuse a column of a table of events in two roles."""
    of_origin = {} if origin is None else {"origin": origin}
    roles = {"patient": patient, "term": term, "start of the event": start}
    roles |= {} if grade is None else {"grade": grade}
    roles |= {f"flag {number}": column for number, column in enumerate(flags, start=1)}
    if apart:  # of another table, in which only the ids stand beside it
        require_roles({"patient": patient} | of_origin, ())
    require_roles(roles if apart else roles | of_origin, ())


class OnsetRows:
    """Rows of a table of events: which are kept, and why others are not."""

    def __init__(self, frame: pd.DataFrame, patient: str, **reading: Any) -> None:
        self.columns = Columns(frame, patient, **reading)
        self.kept = np.ones(len(frame), dtype=bool)
        self.completed = ~self.kept
        self.left_out: dict[str, int] = {}
        # Of the files of other tables that were read for them.
        self.file_hashes: dict[str, str] = {}

    def narrow(self) -> None:
        """Go on with the rows that are kept: what else is in the others does not matter."""
        self.columns = self.columns.narrowed(np.flatnonzero(self.kept))
        self.kept = np.ones(self.columns.ids.size, dtype=bool)
        self.completed = ~self.kept

    def report(self, column: str, bad: Bools, found: str, expected: str) -> None:
        """Refuse rows, unless they are left out anyway."""
        self.columns.report(column, bad & self.kept, found, expected)

    def drop(self, out: Bools, reason: str) -> None:
        """Leave rows out."""
        count = int((out & self.kept).sum())
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count
        self.kept &= ~out

    def judge(
        self,
        column: str,
        bad: Bools,
        kind: str,
        leave_out: Sequence[str],
        found: str,
        expected: str,
    ) -> None:
        """Leave rows out where that is asked for, else refuse them."""
        if kind in leave_out:
            self.drop(bad, REASONS[kind])
        else:
            self.report(column, bad, found, expected)

    def known(self, column: str, ids: pd.Index, leave_out: Sequence[str]) -> None:
        """Refuse, or leave out, rows of patients who are not in the cohort."""
        self.judge(
            column,
            ids.get_indexer(pd.Index(self.columns.ids)) < 0,
            "strangers",
            leave_out,
            "patients who are not in the cohort",
            "Expected the cohort's ids, or leave_out=['strangers'].",
        )
        self.narrow()

    def named(self, column: str) -> NDArray[np.str_]:
        """Read what happened, of every row."""
        names = self.columns.text(column)
        self.report(column, names == "", "events without a term", "Name every event.")
        return names

    def dated(self, column: str, leave_out: Sequence[str]) -> None:
        """Refuse, or leave out, rows without a start."""
        self.judge(
            column,
            self.columns.text(column) == "",
            "undated",
            leave_out,
            "events without a start",
            "Give a start, or leave_out=['undated'].",
        )

    def keep_flagged(self, flags: Sequence[str]) -> None:
        """Leave out the rows whose flags are not Y."""
        for flag in flags:
            text = self.columns.text(flag)
            self.report(
                flag,
                ~np.isin(text, ("Y", "N", "")),
                "flags other than Y and N",
                "A flag is Y, N or empty.",
            )
            self.drop(text != "Y", f"whose {flag} is not Y")

    def starts(
        self,
        column: str,
        counted: Counted | None,
        unit: str,
        zero: Floats | None,
        begin: Floats,
        stop: Floats,
    ) -> Floats:
        """Read when events start, from the origin in the cohort's unit."""
        per_unit = DAYS_PER_UNIT[unit]
        if zero is not None:
            reading = self.columns
            known = reading.known_dates(column)[0]
            days = reading.dates(
                column,
                after=zero + np.ceil(begin * per_unit - SLACK),
                before=zero + np.floor(stop * per_unit + SLACK),
            )
            self.completed = np.isnan(known) & np.isfinite(days)
            return (days - zero) / per_unit
        values = self.columns.times(column)
        self.report(column, np.isinf(values), "infinite starts", f"Expected {unit} or days.")
        if counted != "study days":
            self._refuse_study_days(column, counted, unit, values)
            return values
        days, wrong = from_study_days(values)
        self.report(
            column,
            wrong,
            STUDY_DAYS_FOUND,
            f"{STUDY_DAYS_EXPECTED} For days from the origin say counted='times'.",
        )
        return days / per_unit

    def _refuse_study_days(
        self, column: str, counted: Counted | None, unit: str, values: Floats
    ) -> None:
        """Let nobody's study days be taken for days from the origin unasked."""
        days = values[self.kept & np.isfinite(values)]
        like = (
            unit == "days"
            and days.size >= LIKE_STUDY_DAYS
            and bool((days == np.round(days)).all() and (days == 1).any() and (days != 0).all())
        )
        named = column.upper() in STUDY_DAYS
        if counted is None and (like or named):
            raise SpecError(
                f"start: '{column}' {'is' if named else 'looks like'} a column of study days, "
                "which have no 0: say counted='study days', or 'times' if its 0 is the origin."
            )
        if counted is None and DAYS.search(column):
            raise SpecError(
                f"start: '{column}' is a column of days, by its name: say counted='study days' if "
                f"day 1 is the day of the origin, or counted='times' if it holds {unit} and its 0 "
                "is the origin."
            )

    def observed(
        self,
        start: str,
        times: Floats,
        begin: Floats,
        stop: Floats,
        end: Floats,
        leave_out: Sequence[str],
        slack: float,
    ) -> None:
        """Refuse, or leave out, events outside their patients' observation."""
        self.judge(
            start,
            end <= begin,
            "after",
            leave_out,
            "events of patients without follow-up",
            "Give the patients' follow-up, or leave_out=['after'].",
        )
        self.judge(
            start,
            times < begin - slack,
            "before",
            leave_out,
            "starts before observation begins",
            "It begins at the origin, or at a later entry: correct the starts, or "
            "leave_out=['before'].",
        )
        late = times > end + slack
        # What is after the end of all follow-up is wrong, whatever happens at a transplant.
        self.drop(~late & (times > stop + slack), "that start after transplant")
        self.judge(
            start,
            late,
            "after",
            leave_out,
            "starts after the end of follow-up",
            "Correct the follow-up, or leave_out=['after'].",
        )

    def graded(
        self, grade: str | None, minimum: int | Severity | None, leave_out: Sequence[str]
    ) -> None:
        """Leave out events below the least grade or severity."""
        if grade is None:
            return
        text = pd.Series(self.columns.text(grade))
        number = text.str.extract(f"^{GRADE}$", expand=False)
        word = text.str.upper().where(text.str.upper().isin(SEVERITIES))
        empty = text == ""
        self.judge(
            grade,
            empty.to_numpy(),
            "ungraded",
            leave_out,
            "events without a grade",
            "Grade every event, or leave_out=['ungraded'].",
        )
        words = bool((word.notna().to_numpy() & self.kept).any())
        self.report(
            grade,
            ((word if words else number).isna() & ~empty).to_numpy(),
            "severities that are not MILD, MODERATE or SEVERE"
            if words
            else "grades that are not 1, 2, 3, 4 or 5",
            "Expected CTCAE grades, or the words of AESEV, and not both.",
        )
        if minimum is None or not self.kept.any():
            return
        if words != (minimum in SEVERITIES):
            raise SpecError(
                f"minimum_grade is {minimum!r}, but '{grade}' holds "
                f"{'MILD, MODERATE and SEVERE' if words else 'grades from 1 to 5'}: the two scales "
                "are not translated."
            )
        rank = word.map(dict(zip(SEVERITIES, range(3), strict=True))) if words else number
        least = SEVERITIES.index(minimum) if isinstance(minimum, str) else minimum
        low = (rank.astype("Float64") < least).fillna(False).to_numpy(dtype=bool)
        self.drop(low, f"below {'severity' if words else 'grade'} {minimum}")


def days_of_origin(
    rows: OnsetRows, origins: Any, patient: str, origin: str, date_format: str
) -> Floats:
    """Find the day of origin of each row's patient."""
    if origins is None:
        zero = rows.columns.known_dates(origin)[0]
    else:
        frame, source = load_table(origins)
        rows.file_hashes |= hashes(frame, f"{source} (origins)")
        require_columns(frame, [patient, origin], source)
        people = Columns(frame, patient, date_format=date_format)
        days = people.dates(origin)
        people.report(
            patient,
            pd.Series(people.ids).duplicated(keep=False).to_numpy(),
            "ids that stand in more than one row",
            "Expected one row per patient.",
        )
        raise_problems(people.problems, source)
        by_id = pd.Series(days, index=people.ids)
        zero = np.asarray(pd.Series(rows.columns.ids).map(by_id), dtype=np.float64)
    rows.report(
        origin, np.isnan(zero), "missing dates of origin", "Every patient with events needs one."
    )
    same = pd.Series(zero).groupby(rows.columns.ids).transform("nunique").to_numpy() > 1
    rows.report(origin, same, "several dates of origin of one patient", "Expected one.")
    return np.asarray(zero)
