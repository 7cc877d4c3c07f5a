"""What rows of a table of stays must satisfy, and the stays that they become.

One definition, for a table in memory and for blocks of one in a query engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.declarations import Courses
from bayesblina.patients.rules import is_after

MOST_PHASES = 62
# What is found where stays are of patients who are not in the cohort, and what is expected.
STRANGERS = (
    "patients who are not in the cohort",
    "Expected the ids of the table of patients",
)


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

    def report(self, column: str, rows: Bools, found: str, expected: str) -> None:
        """Take a problem with some rows, if there are any."""

    def leave_out(self, kind: str, rows: Bools) -> None:
        """Take which rows are left out, as was asked for, if there are any."""

    def unlisted(self, rows: Bools) -> tuple[str, str]:
        """Word which phases are not listed, and which listed one is near."""


def bridged_words(bridge: float) -> str:
    """Word that short gaps are none."""
    return f"gaps of up to {bridge:g} are none"


def positions_of_texts(courses: Courses) -> dict[str, int]:
    """Say which text in the column stands for which phase, by its position."""
    return {text: index for index, texts in enumerate(courses.texts.values()) for text in texts}


def words_of_unlisted(examples: Sequence[str], courses: Courses) -> tuple[str, str]:
    """Word which phases are not listed, and which listed one is near to the first."""
    hint = nearest(examples[0], list(positions_of_texts(courses))) if examples else ""
    return ", ".join(map(repr, examples)), hint


def kept_rows(rows: StayRows, courses: Courses, last: Floats, findings: Findings) -> Bools:
    """Go through the rules for single rows, and say which rows are kept.

    `last`, shape (patient,): the end of each patient's follow-up.
    """
    kept = np.ones(rows.patient.size, dtype=bool)
    start, stop = rows.start, np.where(np.isnan(rows.stop), np.inf, rows.stop)

    def judge(kind: str, column: str, bad: Bools, found: str, expected: str) -> None:
        """Leave rows out where that is asked for, else refuse them."""
        nonlocal kept
        bad = bad & kept
        if kind in courses.leave_out:
            findings.leave_out(kind, bad)
        else:
            findings.report(column, bad, found, f"{expected}, or leave_out=['{kind}'] of Courses.")
        kept = kept & ~bad

    judge(
        "strangers",
        "patient",
        rows.patient < 0,
        *STRANGERS,
    )
    unknown = rows.phase < 0
    examples, hint = findings.unlisted(unknown & kept)
    judge(
        "other phases",
        "phase",
        unknown,
        f"phases that are not listed ({examples})",
        f"{hint} List them in phases",
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
    rows: StayRows, kept: Bools, courses: Courses, findings: Findings
) -> tuple[Stays, Ints]:
    """Put rows that are kept in order, settle overlaps and bridge gaps.

    Result: the stays, and the patients with a gap that was bridged; both are of use only where
    nothing was reported.
    """
    stays, order = _in_order(rows, np.flatnonzero(kept))

    def report(bad: Bools, found: str, expected: str) -> None:
        of_rows = np.zeros(rows.patient.size, dtype=bool)
        of_rows[order[bad]] = True
        findings.report("start, stop", of_rows, found, expected)

    return _bridged(_settled(stays, courses, report), courses.bridge)


def _in_order(rows: StayRows, order: Ints) -> tuple[Stays, Ints]:
    """Sort rows by patient and time, and say which go on with the cycle before."""
    patient, start = rows.patient[order], rows.start[order]
    stop = np.where(np.isnan(rows.stop), np.inf, rows.stop)[order]
    # An engine's rows come in this order.
    again, later = patient[1:] == patient[:-1], start[1:] > start[:-1]
    later |= (start[1:] == start[:-1]) & (stop[1:] >= stop[:-1])
    if not ((patient[1:] > patient[:-1]) | (again & later)).all():
        sorting = np.lexsort((stop, start, patient))
        order, patient, start, stop = (values[sorting] for values in (order, patient, start, stop))
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


def _settled(stays: Stays, courses: Courses, report: _Report) -> Stays:
    """Settle overlapping stays by the rule that was stated, or refuse them."""
    same = np.diff(stays.patient, prepend=-1) == 0
    # If none overlaps with the one just before, none does with any.
    if not (same[1:] & (stays.start[1:] < stays.stop[:-1])).any():
        return stays
    # The latest end so far of each patient, by the rank of ends.
    ranks = np.argsort(np.argsort(stays.stop, kind="stable"), kind="stable")
    base = stays.patient * stays.size
    reached = np.maximum.accumulate(base + ranks) - base
    before = np.sort(stays.stop)[np.concatenate([[0], reached[:-1]])]
    overlaps = same & (stays.start < before * (1.0 - TIE_TOLERANCE))
    if not overlaps.any():
        return stays
    if courses.overlap == "refuse":
        report(
            overlaps,
            "stays that overlap with the one before",
            "Expected one phase at a time; or say with overlap which phase holds, or what their "
            "combination is called.",
        )
        return stays
    return _swept(stays, courses, np.isin(stays.patient, stays.patient[overlaps]), report)


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
    counts = past - first
    stay = np.repeat(np.arange(own.size), counts)
    piece = first[stay] + np.arange(stay.size) - np.repeat(np.cumsum(counts) - counts, counts)
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


def _bridged(stays: Stays, bridge: float) -> tuple[Stays, Ints]:
    """Let stays last until the next one in the same phase where the gap is short."""
    if not bridge or stays.size < 2:
        return stays, np.empty(0, dtype=np.int64)
    gap = stays.start[1:] - stays.stop[:-1]
    joined = (stays.patient[1:] == stays.patient[:-1]) & (stays.phase[1:] == stays.phase[:-1])
    joined &= (gap > 0) & (gap <= bridge * (1.0 + TIE_TOLERANCE))
    stop = stays.stop.copy()
    stop[:-1][joined] = stays.start[1:][joined]
    return (
        Stays(
            patient=stays.patient,
            phase=stays.phase,
            start=stays.start,
            stop=stop,
            cycles=stays.cycles,
            dose=stays.dose,
        ),
        stays.patient[:-1][joined],
    )
