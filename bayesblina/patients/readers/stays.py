"""A table of stays, one row each, beside a table of patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays, bridge_gaps
from bayesblina.core.errors import DataError, SpecError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE, snap
from bayesblina.patients.cohort import Repair
from bayesblina.patients.declarations import LEFT_OUT_STAYS, Courses
from bayesblina.patients.readers.columns import Columns, examples_of
from bayesblina.patients.readers.dates import ISO, PartialDates
from bayesblina.patients.readers.sources import hashes, load_table, missing_columns, require_roles
from bayesblina.patients.rules import is_after
from bayesblina.patients.stays import highest_so_far

MOST_PHASES = 62


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
    dated: Dated | None = None,
    *,
    part_of: str | None = None,
) -> StaysRead:
    """Read the stays of a cohort's patients.

    `ids`, `last`, shape (patient,): patients' ids, and the end of all their follow-up.
    `dated`: how dates become times; None where the table holds times.
    `part_of`: the dataset of which the table is a part, so that its rows have no numbers.
    """
    frame, source = load_table(courses.table)
    source = source if part_of is None else part_of
    require_roles({f"stay's {role}": column for role, column in courses.columns.items()}, ())
    missing = missing_columns(frame, list(courses.columns.values()))
    if missing:
        raise DataError(missing, source=source)
    combined = dict.fromkeys(courses.combinations.values())
    reading = _Reading(courses, frame, ids, last, dated)
    if part_of is not None:
        reading.columns.row_numbers = None
    rows = reading.rows()
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    stays, overlapping = _settled(rows, courses)
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    # What a stay is in after another one has ended may lie after the end of follow-up.
    stays = stays.of(~is_after(stays.start, last[stays.patient]))
    ordered = courses.order == "listed" and not combined
    if ordered:
        _require_order(stays, rows, courses)
    if reading.columns.problems:
        raise DataError(reading.columns.problems, source=source)
    stays, bridged = bridge_gaps(stays, courses.bridge)
    repairs = reading.repairs
    if courses.overlap != "refuse":
        rule = (
            f"overlapping stays are in one of their combinations: {', '.join(combined)}"
            if courses.priority is None
            else f"of overlapping stays the first one holds of {', '.join(courses.priority)}"
        )
        who = tuple(map(str, ids[np.unique(overlapping)]))
        repairs.append(Repair(rule=rule, patients=who))
    if reading.columns.imputed:
        names = ", ".join(column for column, _ in reading.columns.imputed)
        partial = np.concatenate([who for _, who in reading.columns.imputed])
        rule = (
            f"partial dates of {names} of stays became the {reading.columns.partial_dates} "
            "possible day, within known dates"
        )
        repairs.append(Repair(rule=rule, patients=tuple(map(str, ids[np.isin(ids, partial)]))))
    if courses.bridge:
        who = tuple(map(str, ids[np.unique(bridged)]))
        repairs.append(Repair(rule=f"gaps of up to {courses.bridge:g} are none", patients=who))
    return StaysRead(
        stays=stays,
        names=(*courses.names, *combined),
        ordered=ordered,
        combinations={
            name: tuple(
                phase
                for phase in courses.names
                if any(phase in parts for parts, own in courses.combinations.items() if own == name)
            )
            for name in combined
        },
        repairs=tuple(repairs),
        file_hashes={f"{name} (stays)": digest for name, digest in hashes(frame, source).items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _StayRows:
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

    def judge(
        self,
        kind: str,
        column: str,
        bad: Bools,
        found: str,
        expected: str,
        examples: tuple[str, ...] = (),
    ) -> None:
        """Leave rows out where that is asked for, else refuse them."""
        bad = bad & self.kept
        if kind not in self.courses.leave_out:
            self.columns.report(
                column, bad, found, f"{expected}, or leave_out=['{kind}'] of Courses.", examples
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
            (stopped,) = columns.known_dates(courses.stop)
            began = columns.dates(courses.start, after=zero, before=stopped)
            days = [began - zero, columns.dates(courses.stop, after=began) - zero]
            if dated.ends_of_days:
                begins, ends = (pd.MultiIndex.from_arrays([patient, each]) for each in days)
                # Where another stay starts on its last day, a stay ends there.
                replaced = ends.isin(begins[self.kept]) & (days[0] < days[1])
                days[1] = np.where(replaced, days[1], days[1] + 1.0)
            start, stop = days[0] / dated.days_per_unit, days[1] / dated.days_per_unit
        for column, values in ((courses.start, start), (courses.stop, stop)):
            bad = self.kept & (np.isinf(values) | (values < 0))
            columns.report(
                column, bad, "negative or infinite times", "Expected times from the origin."
            )
        unknown = self.kept & (columns.text(courses.start) == "")
        columns.report(courses.start, unknown, "missing starts", "Every stay needs its start.")
        ongoing = columns.text(courses.stop) == ""
        # Stays that touch but for noise do not overlap.
        start, stop = snap([start, np.where(ongoing, np.inf, stop)])
        return start, stop

    def rows(self) -> _StayRows:
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
        if amounts is not None and self.dated is not None and self.dated.dose_per_day:
            # None of stays without an end, which are told below.
            length = np.where(np.isinf(stop), 1.0, stop - start)
            amounts = amounts * length * self.dated.days_per_unit
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
        return _StayRows(
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
            "phases that are not listed",
            f"{hint} List them in phases".strip(),
            examples,
        )
        return np.asarray(phase.fillna(-1), dtype=np.int64)


def _require_order(stays: Stays, rows: _StayRows, courses: Courses) -> None:
    """Refuse phases that come again after one that is listed later."""
    wrong = np.isin(rows.stays.patient, stays.patient[stays.phase < highest_so_far(stays)])
    bad = np.zeros(rows.columns.ids.size, dtype=bool)
    bad[rows.row[wrong]] = True
    rows.columns.report(
        courses.phase,
        bad,
        "phases that come again after one that is listed later",
        f"Expected the order {', '.join(courses.names)}; say order='any' if phases may come in any "
        "order.",
    )


def _settled(rows: _StayRows, courses: Courses) -> tuple[Stays, Ints]:
    """Settle overlapping stays by the rule that was stated, or refuse them; also whose they are."""
    stays = rows.stays
    if not stays.size:
        return stays, stays.patient
    # The latest end so far of each patient, by the rank of ends.
    ranks = np.argsort(np.argsort(stays.stop, kind="stable"), kind="stable")
    base = stays.patient * stays.size
    reached = np.maximum.accumulate(base + ranks) - base
    before = np.sort(stays.stop)[np.concatenate([[0], reached[:-1]])]
    same = np.diff(stays.patient, prepend=-1) == 0
    overlaps = same & (stays.start < before * (1.0 - TIE_TOLERANCE))
    whose = np.unique(stays.patient[overlaps])
    if not whose.size:
        return stays, whose
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
        return stays, whose
    return _swept(rows, courses, np.isin(stays.patient, whose)), whose


def _swept(rows: _StayRows, courses: Courses, concerned: Bools) -> Stays:
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
    cycles, dose = np.zeros(time.size), np.zeros(time.size)
    # A cycle begins where its stay first counts.
    held = np.flatnonzero(holds)
    begins = held[np.diff(stay[held], prepend=-1) != 0]
    np.maximum.at(cycles, piece[begins], own.cycles[stay[begins]])
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
    rows: _StayRows, courses: Courses, own: Stays, mask: Ints, stay: Ints, piece: Ints
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
