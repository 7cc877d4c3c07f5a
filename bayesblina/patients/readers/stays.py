"""A table of stays, one row each, beside a table of patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.errors import DataError
from bayesblina.patients.cohort import Repair
from bayesblina.patients.declarations import LEFT_OUT_STAYS, Courses
from bayesblina.patients.readers.columns import Columns, examples_of
from bayesblina.patients.readers.dates import ISO, PartialDates
from bayesblina.patients.readers.sources import hashes, load_table, missing_columns, require_roles
from bayesblina.patients.stay_rules import (
    StayRows,
    bridged_words,
    kept_rows,
    positions_of_texts,
    settled_stays,
    words_of_unlisted,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaysRead:
    """Stays of a cohort's patients, as a reader takes them.

    `names`: phases, those of combinations last.
    `ordered`: whether phases come in the order of `names`.
    `repairs`: what was left out, bridged and settled, and whom it changed.
    """

    stays: Stays
    names: tuple[str, ...]
    ordered: bool
    repairs: tuple[Repair, ...]
    file_hashes: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dated:
    """How the dates of stays become times.

    `zero`, shape (patient,): days of the origin.
    `days_per_unit`: of the cohort's unit.
    `ends_of_days`: whether a stay ends at the end of its last day.
    """

    zero: Floats
    days_per_unit: float
    ends_of_days: bool
    date_format: str = ISO
    partial_dates: PartialDates = "refuse"


def read_stays(
    courses: Courses, ids: NDArray[np.str_], last: Floats, dated: Dated | None = None
) -> StaysRead:
    """Read the stays of a cohort's patients.

    `ids`, `last`, shape (patient,): patients' ids, and the end of all their follow-up.
    `dated`: how dates become times; None where the table holds times.
    """
    frame, source = load_table(courses.table)
    require_roles({f"stay's {role}": column for role, column in courses.columns.items()}, ())
    missing = missing_columns(frame, list(courses.columns.values()))
    if missing:
        raise DataError(missing, source=source)
    reading = _Reading(courses, frame, ids, dated)
    rows = reading.rows()
    kept = kept_rows(rows, courses, last, reading)
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    stays, bridged = settled_stays(rows, kept, courses, reading)
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    repairs = reading.repairs
    if courses.bridge:
        who = tuple(map(str, ids[np.unique(bridged)]))
        repairs.append(Repair(rule=bridged_words(courses.bridge), patients=who))
    return StaysRead(
        stays=stays,
        names=(*courses.names, *dict.fromkeys(courses.combinations.values())),
        ordered=courses.order == "listed" and not courses.combinations,
        repairs=tuple(repairs),
        file_hashes={f"{name} (stays)": digest for name, digest in hashes(frame, source).items()},
    )


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

    def report(self, column: str, rows: Bools, found: str, expected: str) -> None:
        """Note a problem with some rows, if there are any."""
        names = [self.courses.columns[role] for role in column.split(", ")]
        self.columns.report(", ".join(names), rows, found, expected)

    def leave_out(self, kind: str, rows: Bools) -> None:
        """Note which rows are left out, if there are any."""
        if rows.any():
            who = tuple(dict.fromkeys(map(str, self.columns.ids[rows])))
            self.repairs.append(Repair(rule=LEFT_OUT_STAYS[kind], patients=who))

    def unlisted(self, rows: Bools) -> tuple[str, str]:
        """Word which phases are not listed, and which listed one is near."""
        text = pd.Series(self.columns.text(self.courses.phase)[rows])
        return words_of_unlisted(examples_of(text), self.courses)

    def rows(self) -> StayRows:
        """Read all rows."""
        courses, columns = self.courses, self.columns
        patient = pd.Index(self.ids).get_indexer(pd.Index(columns.ids)).astype(np.int64)
        text = pd.Series(columns.text(courses.phase))
        phase = text.map(positions_of_texts(courses)).astype("float64")
        start, stop = self._times(patient)
        unread = np.zeros(patient.size, dtype=bool)
        for column, values in ((courses.start, start), (courses.stop, stop)):
            if not pd.api.types.is_numeric_dtype(columns.frame[column]):
                unread |= np.isnan(values) & (columns.text(column) != "")
        cycle = None
        if courses.cycle is not None:
            cycles = columns.text(courses.cycle)
            cycle = np.where(cycles == "", -1, pd.factorize(cycles)[0])
        return StayRows(
            patient=patient,
            phase=np.asarray(phase.fillna(-1), dtype=np.int64),
            start=start,
            stop=stop,
            unread=unread,
            dose=None if courses.dose is None else columns.numbers(courses.dose),
            cycle=cycle,
        )

    def _times(self, patient: Ints) -> tuple[Floats, Floats]:
        """Read when stays begin and end; NaN where they went on."""
        courses, columns, dated = self.courses, self.columns, self.dated
        if dated is None:
            return (
                columns.times(courses.start, few=True),
                columns.times(courses.stop, few=True),
            )
        # Whose rows strangers' are, they are left out or refused whatever their times.
        zero = np.where(patient >= 0, dated.zero[patient], 0.0)
        days = [columns.dates(column) - zero for column in (courses.start, courses.stop)]
        if dated.ends_of_days:
            days[1] = days[1] + 1.0
        return days[0] / dated.days_per_unit, days[1] / dated.days_per_unit
