"""What rows of a table of stays must satisfy, and the stays that they become.

One definition, for a table in memory and for blocks of one in a query engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints, rows_in_runs
from bayesblina.core.courses import Stays, bridge_gaps
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE, snap_within
from bayesblina.patients.declarations import Courses
from bayesblina.patients.rules import is_after
from bayesblina.patients.stays import highest_so_far

MOST_PHASES = 62
# What is found where stays are of patients who are not in the cohort, and what is expected.
STRANGERS = (
    "patients who are not in the cohort",
    "Expected the ids of the table of patients",
)
# What is found where phases are not listed.
UNLISTED = "phases that are not listed"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StayRows:
    """Rows of a table of stays, as read, in any order.

    `patient`, `phase`, shape (row,): positions; -1 for strangers and for phases not listed.
    `start`, `stop`, shape (row,): times, NaN where there is none: a stay without `stop` went on.
    `unread`, shape (row,): whose times could not be read, which is told elsewhere.
    `dose`, shape (row,): None without a column.
    `cycle`, shape (row,): number of the text of the cycle, -1 for none; None without a column.
    """

    patient: Ints
    phase: Ints
    start: Floats
    stop: Floats
    unread: Bools
    dose: Floats | None = None
    cycle: Ints | None = None


class Findings(Protocol):
    """Takes what is wrong with rows, by column: patient, start, stop, phase or dose."""

    def report(
        self, column: str, rows: Bools, found: str, expected: str, examples: tuple[str, ...] = ()
    ) -> None:
        """Take a problem with some rows, if there are any; `examples`: cells of theirs."""

    def leave_out(self, kind: str, rows: Bools) -> None:
        """Take which rows are left out, as was asked for, if there are any."""

    def unlisted(self, rows: Bools) -> tuple[str, ...]:
        """Give examples of texts of phases that are not listed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SettledStays:
    """Stays as they count, and the patients of whom some overlapped, or had a gap bridged."""

    stays: Stays
    overlapping: Ints
    bridged: Ints


def bridged_words(bridge: float) -> str:
    """Word that short gaps are none."""
    return f"gaps of up to {bridge:g} are none"


def overlap_words(courses: Courses) -> str:
    """Word what overlapping stays are, where they are not refused."""
    if courses.priority is not None:
        return f"of overlapping stays the first one holds of {', '.join(courses.priority)}"
    combined = ", ".join(dict.fromkeys(courses.combinations.values()))
    return f"overlapping stays are in one of their combinations: {combined}"


def names_of_phases(courses: Courses) -> tuple[str, ...]:
    """Name the phases, those of combinations last."""
    return (*courses.names, *dict.fromkeys(courses.combinations.values()))


def phases_by_combination(courses: Courses) -> dict[str, tuple[str, ...]]:
    """List the phases that overlapping stays were in, by the name of their combination."""
    return {
        name: tuple(
            phase
            for phase in courses.names
            if any(phase in parts for parts, own in courses.combinations.items() if own == name)
        )
        for name in dict.fromkeys(courses.combinations.values())
    }


def are_ordered(courses: Courses) -> bool:
    """Say whether phases come in the order in which they are listed."""
    return courses.order == "listed" and not courses.combinations


def positions_of_texts(courses: Courses) -> dict[str, int]:
    """Say which text in the column stands for which phase, by its position."""
    return {text: index for index, texts in enumerate(courses.texts.values()) for text in texts}


def kept_rows(rows: StayRows, courses: Courses, last: Floats, findings: Findings) -> Bools:
    """Go through the rules for single rows, and say which rows are kept.

    `last`, shape (patient,): the end of each patient's follow-up.
    """
    kept = np.ones(rows.patient.size, dtype=bool)
    start, stop = rows.start, np.where(np.isnan(rows.stop), np.inf, rows.stop)

    def judge(
        kind: str,
        column: str,
        bad: Bools,
        found: str,
        expected: str,
        examples: tuple[str, ...] = (),
    ) -> None:
        """Leave rows out where that is asked for, else refuse them."""
        nonlocal kept
        bad = bad & kept
        if kind in courses.leave_out:
            findings.leave_out(kind, bad)
        else:
            remedy = f"{expected}, or leave_out=['{kind}'] of Courses."
            findings.report(column, bad, found, remedy, examples)
        kept = kept & ~bad

    judge("strangers", "patient", rows.patient < 0, *STRANGERS)
    unknown = rows.phase < 0
    examples = findings.unlisted(unknown & kept)
    hint = nearest(examples[0], list(positions_of_texts(courses))) if examples else ""
    judge(
        "other phases", "phase", unknown, UNLISTED, f"{hint} List them in phases".strip(), examples
    )
    for column, values in (("start", rows.start), ("stop", rows.stop)):
        findings.report(
            column,
            kept & (np.isinf(values) | (values < 0)),
            "negative or infinite times",
            "Expected times from the origin.",
        )
    missing = kept & np.isnan(start) & ~rows.unread
    findings.report("start", missing, "missing starts", "Every stay needs its start.")
    with np.errstate(invalid="ignore"):
        judge(
            "empty",
            "stop",
            (stop <= start * (1.0 + TIE_TOLERANCE)) | ((start == 0) & (stop <= 0)),
            "stays that end at or before they start",
            "Expected start < stop; where a date is the last day of a stay, same_day='end of day'",
        )
        judge(
            "after",
            "start",
            np.asarray(is_after(start, last[np.maximum(rows.patient, 0)])),
            "stays that start after the end of follow-up",
            "Correct the times",
        )
    if rows.dose is not None:
        findings.report(
            "dose",
            kept & ~(np.isfinite(rows.dose) & (rows.dose >= 0)),
            "doses that are missing, infinite or negative",
            "Expected what was given in each stay, 0 for nothing.",
        )
        findings.report(
            "stop",
            kept & np.isinf(stop) & ~rows.unread,
            "stays with a dose and without an end",
            "Expected an end, over which the dose was given.",
        )
    return kept


def settled_stays(
    rows: StayRows, kept: Bools, courses: Courses, last: Floats, findings: Findings
) -> SettledStays:
    """Put rows that are kept in order, settle overlaps and bridge gaps.

    `last`, shape (patient,): the end of each patient's follow-up.
    Result: of use only where nothing was reported.
    """
    in_order, order = _in_order(rows, np.flatnonzero(kept))

    def report_to(column: str) -> _Report:
        def report(bad: Bools, found: str, expected: str) -> None:
            of_rows = np.zeros(rows.patient.size, dtype=bool)
            of_rows[order[bad]] = True
            findings.report(column, of_rows, found, expected)

        return report

    stays, overlapping = _settled(in_order, courses, report_to("start, stop"))
    if overlapping.size:
        if courses.overlap == "refuse":
            return SettledStays(stays=stays, overlapping=overlapping, bridged=overlapping[:0])
        # What a stay is in after another one has ended may lie after the end of follow-up.
        stays = stays.of(~np.asarray(is_after(stays.start, last[stays.patient])))
    if are_ordered(courses):
        report_to("phase")(
            np.isin(in_order.patient, stays.patient[stays.phase < highest_so_far(stays)]),
            "phases that come again after one that is listed later",
            f"Expected the order {', '.join(courses.names)}; say order='any' if phases may come "
            "in any order.",
        )
    stays, bridged = bridge_gaps(stays, courses.bridge)
    return SettledStays(stays=stays, overlapping=overlapping, bridged=bridged)


def _in_order(rows: StayRows, order: Ints) -> tuple[Stays, Ints]:
    """Sort rows by patient and time, and say which go on with the cycle before.

    Times of a patient that differ by noise only are one: stays that touch but for it do not
    overlap.
    """
    patient, start = rows.patient[order], rows.start[order]
    stop = np.where(np.isnan(rows.stop), np.inf, rows.stop)[order]

    def sort() -> None:
        nonlocal order, patient, start, stop
        # An engine's rows come in this order.
        again, later = patient[1:] == patient[:-1], start[1:] > start[:-1]
        later |= (start[1:] == start[:-1]) & (stop[1:] >= stop[:-1])
        if not ((patient[1:] > patient[:-1]) | (again & later)).all():
            by = np.lexsort((stop, start, patient))
            order, patient = order[by], patient[by]
            start, stop = start[by], stop[by]

    sort()
    # Where each stay begins well after the one before has ended, or just then, no times are near.
    near = (patient[1:] == patient[:-1]) & (start[1:] < stop[:-1] * (1.0 + TIE_TOLERANCE))
    near &= start[1:] != stop[:-1]
    if near.any():
        some = np.isin(patient, patient[1:][near])
        start, stop = start.copy(), stop.copy()
        start[some], stop[some] = snap_within(patient[some], [start[some], stop[some]])
        sort()
    phase = rows.phase[order]
    cycles = np.ones(order.size)
    if rows.cycle is not None and order.size:
        cycle = rows.cycle[order]
        same = (patient[1:] == patient[:-1]) & (phase[1:] == phase[:-1])
        cycles[1:][same & (cycle[1:] == cycle[:-1]) & (cycle[1:] >= 0)] = 0.0
    stays = Stays(
        patient=patient,
        phase=phase,
        start=start,
        stop=stop,
        cycles=cycles,
        dose=None if rows.dose is None else rows.dose[order],
    )
    return stays, order


class _Report(Protocol):
    """Takes a problem with some stays."""

    def __call__(self, bad: Bools, found: str, expected: str) -> None: ...


def _settled(stays: Stays, courses: Courses, report: _Report) -> tuple[Stays, Ints]:
    """Settle overlapping stays by the rule that was stated, or refuse them; also whose they are."""
    nobody = np.empty(0, dtype=np.int64)
    same = np.diff(stays.patient, prepend=-1) == 0
    # If none overlaps with the one just before, none does with any.
    if not (same[1:] & (stays.start[1:] < stays.stop[:-1])).any():
        return stays, nobody
    # The latest end so far of each patient, by the rank of ends.
    ranks = np.argsort(np.argsort(stays.stop, kind="stable"), kind="stable")
    base = stays.patient * stays.size
    reached = np.maximum.accumulate(base + ranks) - base
    before = np.sort(stays.stop)[np.concatenate([[0], reached[:-1]])]
    overlaps = same & (stays.start < before * (1.0 - TIE_TOLERANCE))
    whose = np.unique(stays.patient[overlaps])
    if not whose.size:
        return stays, nobody
    if courses.overlap == "refuse":
        report(
            overlaps,
            "stays that overlap with the one before",
            "Expected one phase at a time; or say with overlap which phase holds, or what their "
            "combination is called.",
        )
        return stays, whose
    return _swept(stays, courses, np.isin(stays.patient, whose), report), whose


def _swept(stays: Stays, courses: Courses, concerned: Bools, report: _Report) -> Stays:
    """Cut the stays of some patients at all their ends, and name what each piece is in."""
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
    stay, piece = rows_in_runs(first, past - first)
    mask = np.zeros(time.size, dtype=np.int64)
    np.bitwise_or.at(mask, piece, np.int64(1) << own.phase[stay])
    phase, holds, unnamed = _named(courses, own, mask, stay, piece)
    if unnamed:
        bad = np.isin(stays.patient, own.patient[stay[phase[piece] < 0]])
        report(
            bad,
            f"stays that overlap in {', '.join(unnamed)}, which has no name",
            "Name every combination that occurs in overlap, or list phases by priority.",
        )
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
    courses: Courses, own: Stays, mask: Ints, stay: Ints, piece: Ints
) -> tuple[Ints, Bools, list[str]]:
    """Find the phase of each piece, which stays it counts as, and combinations without a name."""
    names, priority = courses.names, courses.priority
    phase = np.full(mask.size, -1, dtype=np.int64)
    if priority is not None:
        for name in reversed(priority):
            bit = names.index(name)
            phase[(mask >> bit) & 1 == 1] = bit
        return phase, phase[piece] == own.phase[stay], []
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
    return phase, np.ones(stay.size, dtype=bool), sorted(unnamed)
