"""Columns read strictly, and the one way from columns to a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.endpoint_order import find_shortfalls
from bayesblina.core.errors import NAMED_PATIENTS, DataError, Problem, SpecError
from bayesblina.patients.calendar import EARLIEST_YEAR, LATEST_YEAR, Calendar
from bayesblina.patients.cohort import Cohort, Exclusion, Repair
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome, courses_of
from bayesblina.patients.pieces import cut_by_calendar
from bayesblina.patients.readers.dates import (
    EARLIEST,
    ISO,
    LATEST,
    SAS_DAYS,
    SAS_SECONDS,
    Days,
    PartialDates,
    read_days,
)
from bayesblina.patients.readers.repairs import drop_late_phases, repair_zero_times
from bayesblina.patients.readers.sources import flag_problem, is_flag, raise_problems, refuse
from bayesblina.patients.readers.texts import as_text, coded_text, examples_of
from bayesblina.patients.rules import DAYS_PER_UNIT

CovariateKind = Literal["categorical", "continuous"]

MOST_LEVELS = 50
LONGEST_TEXT = 200
NO_ORIGIN = "missing dates of origin"
NOT_NUMBERS = "values that are not numbers"
DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repairs:
    """Repairs that a reader may make; each counts whom it changed.

    Parameters
    ----------
    zero_times
        Let follow-up without length, which ends at time 0 or at its own late entry, last this
        small time (as R's examples use half a day), in the cohort's unit; no longer than the
        shortest follow-up above 0. Whatever ends at that moment, a phase or another endpoint's
        follow-up, ends with it; a phase that a later one replaces then does not. None leaves them
        an error.
    drop_late_phases
        Treat a phase (or transplant) that starts after the end of follow-up as never started.
    partial_dates
        Dates of which only the year or the month is known: ``"refuse"`` them, or take the
        ``"first"``, the ``"middle"`` (the 15th, or 1 July) or the ``"last"`` possible day. A date
        known of the same patient bounds them: no death before a dose in its month. Which columns
        had them is told.

    Examples
    --------
    >>> Repairs(zero_times=0.5).drop_late_phases
    False
    """

    zero_times: float | None = None
    drop_late_phases: bool = False
    partial_dates: PartialDates = "refuse"

    def __post_init__(self) -> None:
        refuse(
            (
                self.zero_times is not None and not 0 < self.zero_times < np.inf,
                "zero_times must be a small time greater than 0.",
            ),
            (
                self.partial_dates not in ("refuse", "first", "middle", "last"),
                "partial_dates must be 'refuse', 'first', 'middle' or 'last', got "
                f"{self.partial_dates!r}.",
            ),
        )


class Columns:
    """Reads the columns of one table and collects what could not be read."""

    def __init__(
        self,
        frame: pd.DataFrame,
        patient: str,
        *,
        partial_dates: PartialDates = "refuse",
        date_format: str = ISO,
        numbers: Ints | None = None,
    ) -> None:
        self.frame, self.patient = frame, patient
        # Numbers of the rows in the user's table, from 1 on, where they are known.
        self.row_numbers = numbers
        self.problems: list[Problem] = []
        self.partial_dates = partial_dates
        self.date_format = date_format
        # Columns in which partial dates were completed, and ids of those whose they were.
        self.imputed: list[tuple[str, NDArray[np.str_]]] = []
        # Columns of dates that are only looked at: those which are partial are no fault.
        self.looked_at: set[str] = set()
        self._read: dict[str, Days] = {}
        # Ids of a long table are written out only where somebody is named.
        self.id_of_row, self.different_ids = coded_text(frame[patient])
        self._refuse_long(patient, self.different_ids, self.id_of_row)

    @cached_property
    def ids(self) -> NDArray[np.str_]:
        """Patients' ids, (row,); empty where there is none."""
        return self.different_ids[self.id_of_row]

    def narrowed(self, rows: Ints) -> Columns:
        """Go on with some rows, and with what was found of all: what else is in them is not read.

        `rows`: their positions.
        """
        frame = self.frame.iloc[rows].reset_index(drop=True)
        frame.attrs = self.frame.attrs
        columns = Columns(
            frame,
            self.patient,
            partial_dates=self.partial_dates,
            date_format=self.date_format,
            numbers=None if self.row_numbers is None else self.row_numbers[rows],
        )
        columns.problems = self.problems
        return columns

    def text(self, column: str) -> NDArray[np.str_]:
        """Read text; whole numbers are written without a decimal point, missing cells are empty."""
        return as_text(self.frame[column])

    def _refuse_long(
        self, column: str, text: NDArray[np.str_], rows: Ints | slice = slice(None)
    ) -> None:
        self.report(
            column,
            (np.char.str_len(text) > LONGEST_TEXT)[rows],
            f"texts of more than {LONGEST_TEXT} characters",
            "Expected an id or a short name; is a quotation mark missing?",
        )

    def report(
        self, column: str, rows: Bools, found: str, expected: str, examples: tuple[str, ...] = ()
    ) -> None:
        """Note a problem with some rows, if there are any."""
        if rows.any():
            quoted = f" ({', '.join(map(repr, examples))})" if examples else ""
            problem = Problem(
                column=column,
                found=f"{found}{quoted}",
                expected=expected,
                patients=tuple(dict.fromkeys(map(str, self.ids[rows]))),
                rows=self.numbers_of(rows),
                examples=examples,
            )
            if problem not in self.problems:  # a column may be read for more than one role
                self.problems.append(problem)

    def numbers_of(self, rows: Bools) -> tuple[int, ...]:
        """List the numbers of the first of some rows, if known; one more than are shown."""
        if self.row_numbers is None:
            return ()
        return tuple(self.row_numbers[rows][: NAMED_PATIENTS + 1].tolist())

    def numbers(self, column: str | None) -> Floats:
        """Read numbers; what is none is reported and becomes NaN. All NaN without a column."""
        if column is None:
            return np.full(len(self.frame), np.nan)
        series = self.frame[column]
        if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_complex_dtype(series):
            # A copy: the cohort must not change with the caller's table.
            return series.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
        text = pd.Series(self.text(column))
        readable = text.str.fullmatch(DECIMAL).to_numpy(dtype=bool)
        bad = ~readable & (text != "").to_numpy()
        dates = "; for dates there is read_dated_cohort" if _is_date(series) else ""
        self.report(
            column,
            bad,
            NOT_NUMBERS,
            f"Expected plain decimal numbers such as 12.5; leave missing values empty{dates}.",
            examples_of(text[bad]),
        )
        values = np.full(text.size, np.nan)
        values[readable] = text[readable].astype(np.float64)
        return values

    def times(self, column: str | None, *, few: bool = False) -> Floats:
        """Read numbers that are times, not a flag; a `few` may be nothing but 0 and 1."""
        values = self.numbers(column)
        if column is not None and (
            pd.api.types.is_bool_dtype(self.frame[column]) or (not few and is_flag(values))
        ):
            problem = flag_problem(column)
            if problem not in self.problems:
                self.problems.append(problem)
        return values

    def dates(
        self, column: str | None, *, after: Floats | None = None, before: Floats | None = None
    ) -> Floats:
        """Read calendar days, as days since 1970; partial ones within the bounds, by the rule."""
        if column is None:
            return np.full(len(self.frame), np.nan)
        read = self._days(column)
        days = read.within(self.partial_dates, after=after, before=before)
        if self.partial_dates != "refuse" and read.partial.any():
            self.imputed.append((column, self.ids[read.partial]))
        return days

    def known_dates(self, *columns: str | None) -> Floats:
        """Read the days that are known, NaN for partial dates; shape (column, row)."""
        return np.stack(
            [
                np.full(len(self.frame), np.nan) if column is None else self._days(column).known
                for column in columns
            ]
            or [np.full(len(self.frame), np.nan)]
        )

    def origins(self, calendar: Calendar | None) -> Floats | None:
        """Read the days on which patients' time begins, where a calendar cuts follow-up."""
        if calendar is None or calendar.origin is None:
            return None
        days = self.dates(calendar.origin)
        missing = self.text(calendar.origin) == ""
        self.report(calendar.origin, missing, NO_ORIGIN, "Every patient needs one.")
        return days

    def partial(self, column: str) -> Bools:
        """Say which rows hold a date of which only the year or the month is known."""
        return self._days(column).partial

    def _days(self, column: str) -> Days:
        """Read a column of dates and report what is wrong with it, once."""
        if column in self._read:
            return self._read[column]
        text = self.text(column)
        days = read_days(self.frame[column], text, date_format=self.date_format)
        self.report(
            column,
            days.numbers,
            "numbers where dates were expected",
            "Expected dates, or ISO 8601 text such as 2015-03-31; numbers of SAS are read with "
            "date_format='SAS' (days since 1960) or 'SAS datetime' (seconds).",
        )
        if self.partial_dates == "refuse" and column not in self.looked_at:
            self.report(
                column,
                days.partial,
                "partial dates",
                "Complete them, or ask for a rule: Repairs(partial_dates='first'), 'middle' or "
                "'last'.",
                examples_of(pd.Series(text[days.partial])),
            )
        known = self.date_format in (ISO, SAS_DAYS, SAS_SECONDS)
        other = "" if known else f", or {self.date_format!r}"
        self.report(
            column,
            days.unreadable,
            "values that are not dates",
            f"Expected ISO 8601 dates such as 2015-03-31{other}; leave missing dates empty, and "
            "give another format with date_format=.",
            examples_of(pd.Series(text[days.unreadable])),
        )
        if days.shifted:
            self.report(
                column,
                text != "",
                "times of day that are midnight in another time zone",
                "Such dates lie a day too early: give them in local time, or without time of day.",
            )
        self.report(
            column,
            (days.first < EARLIEST) | (days.last >= LATEST),
            f"dates before {EARLIEST_YEAR} or after {LATEST_YEAR - 1}",
            "Correct them; a placeholder such as 9999-12-31 should be left empty.",
        )
        self._read[column] = days
        return days

    def events(self, column: str, needed: Bools) -> Bools:
        """Read 1 (event) and 0 (censored), which every patient `needed` must have."""
        event = self.numbers(column)
        self.report(
            column,
            needed & ~np.isin(event, (0.0, 1.0)),
            "values other than 0 and 1",
            "Expected 1 for an event and 0 for censoring.",
        )
        return np.asarray(event == 1.0)

    def covariate(self, column: str, kind: CovariateKind | None) -> Covariate:
        """Read a covariate, taking its kind from the column unless it is given."""
        if kind not in (None, "categorical", "continuous"):
            raise SpecError(
                f"covariate '{column}': unknown type '{kind}'; expected 'categorical' or "
                "'continuous'."
            )
        series = self.frame[column]
        categorical = isinstance(series.dtype, pd.CategoricalDtype)
        text = pd.Series(self.text(column))
        if kind is None:
            numeric = pd.api.types.is_numeric_dtype(series) or bool(
                not categorical and (text.str.fullmatch(DECIMAL) | (text == "")).all()
            )
            logical = pd.api.types.is_bool_dtype(series)
            kind = "continuous" if numeric and not logical else "categorical"
            if _is_date(series):
                self.report(
                    column,
                    np.ones(len(series), dtype=bool),
                    "dates, which are no covariate",
                    "Turn them into numbers or groups first.",
                )
        if kind == "continuous":
            return Covariate(kind="continuous", values=self.numbers(column))
        self._refuse_long(column, self.text(column))
        known = set(text) - {""}
        levels = (
            tuple(level for level in map(str, series.cat.categories) if level in known)
            if categorical
            else tuple(sorted(known))
        )
        if len(levels) > MOST_LEVELS:
            self.report(
                column,
                np.ones(len(series), dtype=bool),
                f"{len(levels)} different texts",
                f"A categorical covariate has at most {MOST_LEVELS} levels; group them, or say "
                "'continuous' if it is a number.",
            )
        codes = text.map({level: float(index) for index, level in enumerate(levels)})
        return Covariate(
            kind="categorical",
            values=codes.to_numpy(dtype=np.float64, na_value=np.nan),
            levels=levels,
        )

    def covariates(
        self, wanted: Sequence[str] | Mapping[str, CovariateKind]
    ) -> dict[str, Covariate]:
        """Read all covariates."""
        kinds = wanted if isinstance(wanted, Mapping) else dict.fromkeys(wanted)
        return {name: self.covariate(name, kind) for name, kind in kinds.items()}


def make_cohort(
    columns: Columns,
    *,
    outcomes: Mapping[str, Outcome],
    phases: tuple[str, ...],
    starts: Floats,
    ends: Floats,
    ends_known: bool,
    transplant: Floats | None,
    covariates: Mapping[str, Covariate],
    unit: str,
    repairs: Repairs | None,
    roles: Mapping[str, str],
    source: str,
    synthetic: bool | None,
    exclusions: Sequence[Exclusion] = (),
    made: Sequence[Repair] = (),
    file_hashes: Mapping[str, str] = MappingProxyType({}),
    stays: Stays | None = None,
    ordered: bool = True,
    combinations: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    calendar: Calendar | None = None,
    zero: Floats | None = None,
) -> Cohort:
    """Make the repairs that were asked for, and a cohort, or raise all problems at once.

    `columns`: the columns read; their problems are raised together with the cohort's. All arrays
    are in the order of their rows.
    `zero`, shape (patient,): days since 1970 of the time origins, where a calendar cuts follow-up.
    """
    done = list(made)
    if columns.partial_dates != "refuse":
        names = ", ".join(dict.fromkeys(column for column, _ in columns.imputed))
        rule = (
            f"partial dates{f' of {names}' if names else ''} became the {columns.partial_dates} "
            "possible day, within known dates"
        )
        who = dict.fromkeys(str(patient) for _, ids in columns.imputed for patient in ids)
        done.append(Repair(rule=rule, patients=tuple(who)))
    if repairs is not None and repairs.zero_times is not None:
        outcomes, ends, made_longer = repair_zero_times(
            outcomes, starts, ends, repairs.zero_times, columns.ids, unit
        )
        done += made_longer
    if repairs is not None and repairs.drop_late_phases:
        starts, ends, transplant, repair = drop_late_phases(
            outcomes, starts, ends, transplant, columns.ids
        )
        done.append(repair)
    _report_shortfalls(columns, outcomes, roles, unit)
    said = columns.frame.attrs.get("synthetic", False)
    try:
        cohort = Cohort(
            patients=columns.ids,
            unit=unit,
            endpoints=outcomes,
            phases=phases,
            phase_start=starts,
            phase_end=ends,
            phase_ends_known=ends_known,
            stays=stays,
            ordered=ordered,
            combinations=combinations,
            transplant=transplant,
            covariates=covariates,
            synthetic=bool(said) if synthetic is None else synthetic,
            source=source,
            repairs=tuple(done),
            exclusions=tuple(exclusions),
            file_hashes=file_hashes,
        )
    except DataError as error:
        raise DataError(_merge(columns, error.problems, roles), source=source) from None
    raise_problems(columns.problems, source)
    return cohort if calendar is None or zero is None else cut_by_calendar(cohort, calendar, zero)


def _report_shortfalls(
    columns: Columns, outcomes: Mapping[str, Outcome], roles: Mapping[str, str], unit: str
) -> None:
    """Note endpoints with fewer events than one that they include.

    Of a whole table only: parts of it, as of a resampled cohort, may rightly have fewer.
    """
    if unit not in DAYS_PER_UNIT:  # which the cohort tells
        return
    for short in find_shortfalls(courses_of(outcomes, unit=unit)):
        counts = {"rows": short.rows, "events": short.events, "included": short.included}
        breach = short.breach(**{name: int(np.count_nonzero(of)) for name, of in counts.items()})
        if breach is not None:
            column = roles.get(breach.role, breach.role)
            columns.report(column, breach.rows, breach.found, breach.expected)


def _is_date(series: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(series) or (
        series.dtype == object
        and pd.api.types.infer_dtype(series, skipna=True) in ("date", "datetime")
    )


def _merge(columns: Columns, found: Sequence[Problem], roles: Mapping[str, str]) -> list[Problem]:
    """Join the reader's problems with the cohort's, each patient once for each column."""
    known = {(problem.column, who) for problem in columns.problems for who in problem.patients}
    merged = list(columns.problems)
    for problem in found:
        column = roles.get(problem.column, problem.column)
        left = tuple(who for who in problem.patients if (column, who) not in known)
        if left or not problem.patients:
            # Rows of the cohort are those of the table only where the reader says so.
            rows = columns.numbers_of(np.isin(columns.ids, left)) if problem.patients else ()
            merged.append(replace(problem, column=column, patients=left, rows=rows))
    return merged
