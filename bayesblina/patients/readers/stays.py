"""A table of stays, one row each, beside a table of patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.errors import DataError, Problem
from bayesblina.patients.cohort import Repair
from bayesblina.patients.declarations import CLIPPED_STAYS, LEFT_OUT_STAYS, Courses, Phases
from bayesblina.patients.outcomes import Outcome, last_seen
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.dates import ISO, PartialDates
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    missing_columns,
    raise_problems,
    require_roles,
)
from bayesblina.patients.readers.texts import coded_text, examples_of
from bayesblina.patients.stay_rules import (
    AFTER,
    StayRows,
    are_ordered,
    bridged_words,
    grace_words,
    kept_rows,
    names_of_phases,
    overlap_words,
    phases_by_combination,
    positions_of_texts,
    settled_stays,
)
from bayesblina.patients.stays import ends_by_unit, unit_problem


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaysRead:
    """Stays of a cohort's patients, as a reader takes them.

    `names`: phases, those of combinations last.
    `ordered`: whether phases come in the order of `names`.
    `combinations`: phases that overlapping stays were in, by the name of their combination.
    `repairs`: what was left out, bridged and settled, and whom it changed.
    """

    stays: Stays
    names: tuple[str, ...]
    ordered: bool
    combinations: Mapping[str, tuple[str, ...]]
    repairs: tuple[Repair, ...]
    file_hashes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dated:
    """How the dates of stays become times.

    `zero`, shape (patient,): days of the origin.
    `days_per_unit`: of the cohort's unit.
    `ends_of_days`: whether a stay ends at the end of its last day.
    `dose_per_day`: whether doses are those of each day of a stay, not of all of it.
    """

    zero: Floats
    days_per_unit: float
    ends_of_days: bool
    date_format: str = ISO
    partial_dates: PartialDates = "refuse"
    dose_per_day: bool = False


def read_stays(
    courses: Courses,
    ids: NDArray[np.str_],
    last: Floats,
    unit: str,
    dated: Dated | None = None,
    *,
    part_of: str | None = None,
) -> StaysRead:
    """Read the stays of a cohort's patients.

    `ids`, `last`, shape (patient,): patients' ids, and the end of all their follow-up, in `unit`.
    `dated`: how dates become times; None where the table holds times.
    `part_of`: the dataset of which the table is a part, so that its rows have no numbers.
    """
    frame, source = load_table(courses.table)
    source = source if part_of is None else part_of
    require_roles({f"stay's {role}": column for role, column in courses.columns.items()}, ())
    missing = missing_columns(frame, list(courses.columns.values()))
    if missing:
        raise DataError(missing, source=source)
    reading = _Reading(courses, frame, ids, dated)
    if part_of is not None:
        reading.columns.row_numbers = None
    rows = reading.rows()
    kept = kept_rows(rows, courses, last, reading)
    if reading.columns.problems:
        raise DataError(
            [*reading.columns.problems, *reading.units(rows, last, unit)], source=source
        )
    settled = settled_stays(rows, kept, courses, last, reading)
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    if courses.overlap != "refuse":
        reading.did(overlap_words(courses), ids[np.unique(settled.overlapping)])
    if reading.columns.imputed:
        names = ", ".join(column for column, _ in reading.columns.imputed)
        partial = np.concatenate([who for _, who in reading.columns.imputed])
        reading.did(
            f"partial dates of {names} of stays became the {reading.columns.partial_dates} "
            "possible day, within known dates",
            ids[np.isin(ids, partial)],
        )
    if courses.bridge:
        reading.did(bridged_words(courses.bridge, unit), ids[np.unique(settled.bridged)])
    if courses.grace:
        reading.did(grace_words(courses.grace, unit), ids[np.unique(settled.prolonged)])
    return StaysRead(
        stays=settled.stays,
        names=names_of_phases(courses),
        ordered=are_ordered(courses),
        combinations=phases_by_combination(courses),
        repairs=tuple(reading.repairs),
        file_hashes={f"{name} (stays)": digest for name, digest in hashes(frame, source).items()},
    )


def read_any_stays(
    phases: Phases | Courses,
    columns: Columns,
    outcomes: Mapping[str, Outcome],
    source: str,
    unit: str,
    dated: Dated | None = None,
) -> StaysRead | None:
    """Read the stays of the patients whose columns were read; None where phases have columns."""
    if not isinstance(phases, Courses):
        return None
    raise_problems(columns.problems, source)
    return read_stays(phases, columns.ids, last_seen(outcomes), unit, dated)


def side_by_side(times: Sequence[Floats], columns: Columns, read: StaysRead | None) -> Floats:
    """Put columns of one phase each side by side, (patient, phase); none where stays are known."""
    if read is not None:
        return np.full((columns.ids.size, len(read.names)), np.nan)
    return np.stack(times, axis=1)


class _Reading:
    """Reads the rows of a table of stays: `bayesblina.patients.stay_rules.Findings` about them."""

    def __init__(
        self, courses: Courses, frame: pd.DataFrame, ids: NDArray[np.str_], dated: Dated | None
    ) -> None:
        self.courses, self.ids, self.dated = courses, ids, dated
        self.columns = Columns(
            frame,
            courses.patient,
            partial_dates="refuse" if dated is None else dated.partial_dates,
            date_format=ISO if dated is None else dated.date_format,
            numbers=np.arange(1, len(frame) + 1),
        )
        self.repairs: list[Repair] = []

    def did(self, rule: str, patients: NDArray[np.str_]) -> None:
        """Note what was done, and to whom."""
        self.repairs.append(Repair(rule=rule, patients=tuple(map(str, patients))))

    def report(
        self, column: str, rows: Bools, found: str, expected: str, examples: tuple[str, ...] = ()
    ) -> None:
        """Note a problem with some rows, if there are any."""
        names = [self.courses.columns[role] for role in column.split(", ")]
        self.columns.report(", ".join(names), rows, found, expected, examples)

    def change(self, kind: str, rows: Bools) -> None:
        """Note which rows are left out or clipped, if there are any."""
        if rows.any():
            words = {**LEFT_OUT_STAYS, **CLIPPED_STAYS}[kind]
            self.did(words, np.array(list(dict.fromkeys(self.columns.ids[rows]))))

    def unlisted(self, rows: Bools) -> tuple[str, ...]:
        """Give examples of texts of phases that are not listed."""
        if not rows.any():
            return ()
        codes, texts = coded_text(self.columns.frame[self.courses.phase])
        return examples_of(pd.Series(texts[codes[rows]]))

    def units(self, rows: StayRows, last: Floats, unit: str) -> list[Problem]:
        """Say that stays which start after follow-up may be in another unit."""
        found = None
        if self.dated is None and any(one.found == AFTER for one in self.columns.problems):
            found = unit_problem(ends_by_unit(rows.patient, rows.stop, last, unit), unit)
        columns = f"{self.courses.start}, {self.courses.stop}"
        return [] if found is None else [Problem(column=columns, found=found[0], expected=found[1])]

    def rows(self) -> StayRows:
        """Read all rows."""
        courses, columns = self.courses, self.columns
        own, ids = columns.id_of_row, columns.different_ids
        patient = pd.Index(self.ids).get_indexer(pd.Index(ids)).astype(np.int64)[own]
        codes, texts = coded_text(columns.frame[courses.phase])
        position = positions_of_texts(courses)
        phase = np.array([position.get(text, -1) for text in texts.tolist()], dtype=np.int64)[codes]
        start, stop = self._times(patient, phase)
        unread = np.zeros(patient.size, dtype=bool)
        for column, values in ((courses.start, start), (courses.stop, stop)):
            if self.dated is not None or not pd.api.types.is_numeric_dtype(columns.frame[column]):
                unread |= np.isnan(values) & (columns.text(column) != "")
        cycle = None
        if courses.cycle is not None:
            cycles = columns.text(courses.cycle)
            cycle = np.where(cycles == "", -1, pd.factorize(cycles)[0])
        dose = None if courses.dose is None else columns.numbers(courses.dose)
        if dose is not None and self.dated is not None and self.dated.dose_per_day:
            # None of stays without an end, which are told elsewhere.
            dose = dose * np.where(np.isnan(stop), 1.0, stop - start) * self.dated.days_per_unit
        return StayRows(
            patient=patient,
            nameless=(ids == "")[own],
            phase=phase,
            start=start,
            stop=stop,
            unread=unread,
            dose=dose,
            cycle=cycle,
        )

    def _times(self, patient: Ints, phase: Ints) -> tuple[Floats, Floats]:
        """Read when stays begin and end; NaN where they went on."""
        courses, columns, dated = self.courses, self.columns, self.dated
        if dated is None:
            return (
                columns.times(courses.start, few=True),
                columns.times(courses.stop, few=True),
            )
        zero = np.where(patient >= 0, dated.zero[patient], np.nan)
        (stopped,) = columns.known_dates(courses.stop)
        began = columns.dates(courses.start, after=zero, before=stopped)
        days = [began - zero, columns.dates(courses.stop, after=began) - zero]
        if dated.ends_of_days:
            begins, ends = (pd.MultiIndex.from_arrays([patient, each]) for each in days)
            # Where another stay starts on its last day, a stay ends there.
            listed = (patient >= 0) & (phase >= 0) & ~(days[1] < days[0])
            replaced = ends.isin(begins[listed]) & (days[0] < days[1])
            days[1] = np.where(replaced, days[1], days[1] + 1.0)
        return days[0] / dated.days_per_unit, days[1] / dated.days_per_unit
