"""A table of stays, one row each, beside a table of patients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays, bridge_gaps
from bayesblina.core.errors import DataError, SpecError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.cohort import Repair
from bayesblina.patients.declarations import LEFT_OUT_STAYS, Courses
from bayesblina.patients.readers.columns import Columns, examples_of
from bayesblina.patients.readers.dates import ISO, PartialDates
from bayesblina.patients.readers.sources import hashes, load_table, missing_columns, require_roles
from bayesblina.patients.rules import is_after

MOST_PHASES = 62


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
    reading = _Reading(courses, frame, ids, last, dated)
    rows = reading.rows()
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    stays = _settled(rows, courses)
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    stays, bridged = bridge_gaps(stays, courses.bridge)
    repairs = reading.repairs
    if courses.bridge:
        who = tuple(map(str, ids[np.unique(bridged)]))
        repairs.append(Repair(rule=f"gaps of up to {courses.bridge:g} are none", patients=who))
    return StaysRead(
        stays=stays,
        names=(*courses.names, *dict.fromkeys(courses.combinations.values())),
        ordered=courses.order == "listed" and not courses.combinations,
        repairs=tuple(repairs),
        file_hashes={f"{name} (stays)": digest for name, digest in hashes(frame, source).items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Rows that are kept, in the order of patients and time.

    `row`: position in the table; `report`: says what is wrong with some of them.
    """

    stays: Stays
    row: Ints
    columns: Columns


class _Reading:
    """Reads the rows of a table of stays, and leaves out or refuses what does not belong."""

    def __init__(
        self,
        courses: Courses,
        frame: pd.DataFrame,
        ids: NDArray[np.str_],
        last: Floats,
        dated: Dated | None,
    ) -> None:
        self.courses, self.ids, self.last, self.dated = courses, ids, last, dated
        self.columns = Columns(
            frame,
            courses.patient,
            partial_dates="refuse" if dated is None else dated.partial_dates,
            date_format=ISO if dated is None else dated.date_format,
            numbers=np.arange(1, len(frame) + 1),
        )
        self.kept = np.ones(len(frame), dtype=bool)
        self.repairs: list[Repair] = []

    def judge(self, kind: str, column: str, bad: Bools, found: str, expected: str) -> None:
        """Leave rows out where that is asked for, else refuse them."""
        bad = bad & self.kept
        if kind not in self.courses.leave_out:
            self.columns.report(
                column, bad, found, f"{expected}, or leave_out=['{kind}'] of Courses."
            )
        elif bad.any():
            who = tuple(dict.fromkeys(map(str, self.columns.ids[bad])))
            self.repairs.append(Repair(rule=LEFT_OUT_STAYS[kind], patients=who))
        self.kept &= ~bad

    def times(self, patient: Ints) -> tuple[Floats, Floats]:
        """Read when stays begin and end; infinite where they went on."""
        courses, columns, dated = self.courses, self.columns, self.dated
        if dated is None:
            start, stop = (
                columns.times(courses.start, few=True),
                columns.times(courses.stop, few=True),
            )
        else:
            zero = np.where(patient >= 0, dated.zero[patient], np.nan)
            days = [columns.dates(column) - zero for column in (courses.start, courses.stop)]
            if dated.ends_of_days:
                days[1] = days[1] + 1.0
            start, stop = days[0] / dated.days_per_unit, days[1] / dated.days_per_unit
        for column, values in ((courses.start, start), (courses.stop, stop)):
            bad = self.kept & (np.isinf(values) | (values < 0))
            columns.report(
                column, bad, "negative or infinite times", "Expected times from the origin."
            )
        unknown = self.kept & (columns.text(courses.start) == "")
        columns.report(courses.start, unknown, "missing starts", "Every stay needs its start.")
        ongoing = columns.text(courses.stop) == ""
        return start, np.where(ongoing, np.inf, stop)

    def rows(self) -> _Rows:
        """Read all rows."""
        courses, columns = self.courses, self.columns
        patient = pd.Index(self.ids).get_indexer(pd.Index(columns.ids)).astype(np.int64)
        self.judge(
            "strangers",
            courses.patient,
            patient < 0,
            "patients who are not in the cohort",
            "Expected the ids of the table of patients",
        )
        phase = self._phases()
        start, stop = self.times(patient)
        with np.errstate(invalid="ignore"):
            self.judge(
                "empty",
                courses.stop,
                (stop <= start * (1.0 + TIE_TOLERANCE)) | ((start == 0) & (stop <= 0)),
                "stays that end at or before they start",
                "Expected start < stop; where a date is the last day of a stay, "
                "same_day='end of day'",
            )
            self.judge(
                "after",
                courses.start,
                is_after(start, self.last[np.maximum(patient, 0)]),
                "stays that start after the end of follow-up",
                "Correct the times",
            )
        amounts = None if courses.dose is None else columns.numbers(courses.dose)
        if amounts is not None:
            columns.report(
                str(courses.dose),
                self.kept & ~(np.isfinite(amounts) & (amounts >= 0)),
                "doses that are missing, infinite or negative",
                "Expected what was given in each stay, 0 for nothing.",
            )
            columns.report(
                courses.stop,
                self.kept & np.isinf(stop),
                "stays with a dose and without an end",
                "Expected an end, over which the dose was given.",
            )
        order = np.flatnonzero(self.kept)
        order = order[np.lexsort((stop[order], start[order], patient[order]))]
        cycles = np.ones(order.size)
        if courses.cycle is not None and order.size:
            text = columns.text(courses.cycle)[order]
            same = (patient[order][1:] == patient[order][:-1]) & (text[1:] == text[:-1])
            same &= (phase[order][1:] == phase[order][:-1]) & (text[1:] != "")
            cycles[1:][same] = 0.0
        return _Rows(
            stays=Stays(
                patient=patient[order],
                phase=phase[order],
                start=start[order],
                stop=stop[order],
                cycles=cycles,
                dose=None if amounts is None else amounts[order],
            ),
            row=order,
            columns=columns,
        )

    def _phases(self) -> Ints:
        """Position of each row's phase."""
        courses, columns = self.courses, self.columns
        position = {
            text: index for index, texts in enumerate(courses.texts.values()) for text in texts
        }
        text = pd.Series(columns.text(courses.phase))
        phase = text.map(position)
        unknown = phase.isna().to_numpy()
        examples = examples_of(text[unknown & self.kept])
        hint = nearest(examples[0], list(position)) if examples else ""
        self.judge(
            "other phases",
            courses.phase,
            unknown,
            f"phases that are not listed ({', '.join(map(repr, examples))})",
            f"{hint} List them in phases",
        )
        return np.asarray(phase.fillna(-1), dtype=np.int64)


def _settled(rows: _Rows, courses: Courses) -> Stays:
    """Settle overlapping stays by the rule that was stated, or refuse them."""
    stays = rows.stays
    if not stays.size:
        return stays
    # The latest end so far of each patient, by the rank of ends.
    ranks = np.argsort(np.argsort(stays.stop, kind="stable"), kind="stable")
    base = stays.patient * stays.size
    reached = np.maximum.accumulate(base + ranks) - base
    before = np.sort(stays.stop)[np.concatenate([[0], reached[:-1]])]
    same = np.diff(stays.patient, prepend=-1) == 0
    overlaps = same & (stays.start < before * (1.0 - TIE_TOLERANCE))
    if not overlaps.any():
        return stays
    if courses.overlap == "refuse":
        bad = np.zeros(rows.columns.ids.size, dtype=bool)
        bad[rows.row[overlaps]] = True
        rows.columns.report(
            f"{courses.start}, {courses.stop}",
            bad,
            "stays that overlap with the one before",
            "Expected one phase at a time; or say with overlap which phase holds, or what their "
            "combination is called.",
        )
        return stays
    return _swept(rows, courses, np.isin(stays.patient, stays.patient[overlaps]))


def _swept(rows: _Rows, courses: Courses, concerned: Bools) -> Stays:
    """Cut the stays of some patients at all their ends, and name what each piece is in."""
    stays = rows.stays
    own = stays.of(concerned)
    if len(courses.names) > MOST_PHASES:
        raise SpecError(f"Stays may overlap in at most {MOST_PHASES} phases.")
    points = (
        pd.DataFrame(
            {"patient": np.tile(own.patient, 2), "time": np.concatenate([own.start, own.stop])}
        )
        .drop_duplicates()
        .sort_values(["patient", "time"])
    )
    whose, time = points["patient"].to_numpy(), points["time"].to_numpy()
    index = pd.MultiIndex.from_arrays([whose, time])
    first = index.get_indexer(pd.MultiIndex.from_arrays([own.patient, own.start]))
    past = index.get_indexer(pd.MultiIndex.from_arrays([own.patient, own.stop]))
    counts = past - first
    stay = np.repeat(np.arange(own.size), counts)
    piece = first[stay] + np.arange(stay.size) - np.repeat(np.cumsum(counts) - counts, counts)
    mask = np.zeros(time.size, dtype=np.int64)
    np.bitwise_or.at(mask, piece, np.int64(1) << own.phase[stay])
    phase, holds = _named(rows, courses, own, mask, stay, piece)
    following = np.append(time[1:], np.inf)
    kept = np.flatnonzero(mask > 0)
    opens = piece == first[stay]
    cycles, dose = np.zeros(time.size), np.zeros(time.size)
    np.maximum.at(cycles, piece[opens & holds], own.cycles[stay[opens & holds]])
    if own.dose is not None:
        # Evenly over each stay, of those stays that the piece counts as.
        length = following[piece[holds]] - time[piece[holds]]
        share = length / (own.stop - own.start)[stay[holds]]
        np.add.at(dose, piece[holds], own.dose[stay[holds]] * share)
    settled = [
        (stays.patient[~concerned], whose[kept]),
        (stays.phase[~concerned], phase[kept]),
        (stays.start[~concerned], time[kept]),
        (stays.stop[~concerned], following[kept]),
        (stays.cycles[~concerned], cycles[kept]),
    ]
    patient, phases, start, stop, begun = (np.concatenate(pair) for pair in settled)
    amounts = None
    if stays.dose is not None:
        amounts = np.concatenate([stays.dose[~concerned], dose[kept]])
    order = np.lexsort((start, patient))
    return Stays(
        patient=patient[order],
        phase=phases[order],
        start=start[order],
        stop=stop[order],
        cycles=begun[order],
        dose=None if amounts is None else amounts[order],
    )


def _named(
    rows: _Rows, courses: Courses, own: Stays, mask: Ints, stay: Ints, piece: Ints
) -> tuple[Ints, Bools]:
    """Find the phase of each piece, and which stays it counts as."""
    names, priority = courses.names, courses.priority
    phase = np.full(mask.size, -1, dtype=np.int64)
    if priority is not None:
        for name in reversed(priority):
            bit = names.index(name)
            phase[(mask >> bit) & 1 == 1] = bit
        return phase, phase[piece] == own.phase[stay]
    combined = list(dict.fromkeys(courses.combinations.values()))
    unnamed: set[str] = set()
    for value in np.unique(mask[mask > 0]).tolist():
        held = [name for bit, name in enumerate(names) if value >> bit & 1]
        if len(held) == 1:
            number = names.index(held[0])
        elif frozenset(held) in courses.combinations:
            number = len(names) + combined.index(courses.combinations[frozenset(held)])
        else:
            unnamed.add(" + ".join(held))
            continue
        phase[mask == value] = number
    bad = np.zeros(rows.columns.ids.size, dtype=bool)
    if unnamed:
        concerned = np.isin(rows.stays.patient, own.patient[stay[phase[piece] < 0]])
        bad[rows.row[concerned]] = True
    rows.columns.report(
        f"{courses.start}, {courses.stop}",
        bad,
        f"stays that overlap in {', '.join(sorted(unnamed))}, which has no name",
        "Name every combination that occurs in overlap, or list phases by priority.",
    )
    return phase, np.ones(stay.size, dtype=bool)
