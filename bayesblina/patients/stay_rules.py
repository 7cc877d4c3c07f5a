"""What rows of a table of stays must satisfy, and the stays that they become.

One definition, for a table in memory and for blocks of one in a query engine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints, rows_in_runs
from bayesblina.core.courses import Stays, bridge_gaps, prolong
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
NAMELESS = ("missing ids", "Every stay needs its patient's id: give it, or take the row out.")
EARLY = (
    "stays that start before the origin",
    "Expected times from the origin; before_origin='clip' of Courses cuts off what lies before it.",
)
TWICE = (
    "rows that say what another row says",
    "Expected one row per stay: delete the others, or leave_out=['duplicates'] of Courses, which "
    "keeps one; if it was given twice, add the doses up in one row.",
)
# What is found where phases are not listed.
UNLISTED = "phases that are not listed"
AFTER = "stays that start after the end of follow-up"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StayRows:
    """Rows of a table of stays, as read, in any order.

    `patient`, `phase`, shape (row,): positions; -1 for strangers and for phases not listed.
    `nameless`, shape (row,): whether there is no patient's id.
    `start`, `stop`, shape (row,): times, NaN where there is none: a stay without `stop` went on.
    `unread`, shape (row,): whose times could not be read, which is told elsewhere.
    `dose`, shape (row,): None without a column.
    `cycle`, shape (row,): number of the text of the cycle, -1 for none; None without a column.
    """

    patient: Ints
    nameless: Bools
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

    def change(self, kind: str, rows: Bools) -> None:
        """Take which rows are left out or clipped, as was asked for, if there are any."""

    def unlisted(self, rows: Bools) -> tuple[str, ...]:
        """Give examples of texts of phases that are not listed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SettledStays:
    """Stays as they count, and the patients of whom some overlapped, or had a gap bridged.

    `prolonged`: patients of whom a stay lasts longer, by the grace period.
    """

    stays: Stays
    overlapping: Ints
    bridged: Ints
    prolonged: Ints


def bridged_words(bridge: float, unit: str) -> str:
    """Word that short gaps are none."""
    return (
        f"gaps of up to {bridge:g} {unit} are none, which looks ahead: nobody has the event in one"
    )


def grace_words(grace: float, unit: str) -> str:
    """Word that patients count as in a phase for some time after it."""
    return f"stays last {grace:g} {unit} longer, or until the next one"


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
            findings.change(kind, bad)
        else:
            remedy = f"{expected}, or leave_out=['{kind}'] of Courses."
            findings.report(column, bad, found, remedy, examples)
        kept = kept & ~bad

    findings.report("patient", rows.nameless, *NAMELESS)
    kept &= ~rows.nameless
    judge("strangers", "patient", rows.patient < 0, *STRANGERS)
    unknown = rows.phase < 0
    examples = findings.unlisted(unknown & kept)
    hint = nearest(examples[0], list(positions_of_texts(courses))) if examples else ""
    judge(
        "other phases", "phase", unknown, UNLISTED, f"{hint} List them in phases".strip(), examples
    )
    for column, values in (("start", rows.start), ("stop", rows.stop)):
        findings.report(
            column, kept & np.isinf(values), "infinite times", "Expected times from the origin."
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
        early = kept & (start < 0)
        if courses.before_origin == "clip":
            findings.change("before", early & (stop <= 0))
            findings.change("clipped", early & (stop > 0))
            kept = kept & ~(early & (stop <= 0))
        else:
            findings.report("start", early, *EARLY)
            kept = kept & ~early
        judge(
            "after",
            "start",
            np.asarray(is_after(start, last[np.maximum(rows.patient, 0)])),
            AFTER,
            "Correct the times, or their unit",
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
            "A dose is spread over its stay: give the end, which of a stay that went on is that of "
            "the patient's follow-up.",
        )
    return kept


def settled_stays(
    rows: StayRows, kept: Bools, courses: Courses, last: Floats, findings: Findings
) -> SettledStays:
    """Put rows that are kept in order, settle overlaps and bridge gaps.

    `last`, shape (patient,): the end of each patient's follow-up.
    Result: of use only where nothing was reported.
    """
    clipped = _from_origin(rows) if courses.before_origin == "clip" else rows
    in_order, order = _in_order(clipped, np.flatnonzero(kept))

    def report_to(column: str) -> _Report:
        def report(bad: Bools, found: str, expected: str) -> None:
            of_rows = np.zeros(rows.patient.size, dtype=bool)
            of_rows[order[bad]] = True
            findings.report(column, of_rows, found, expected)

        return report

    again = _said_before(in_order, rows, order)
    # Under a rule for overlaps they are one stay anyway, but for the dose.
    if again.any() and (courses.overlap == "refuse" or rows.dose is not None):
        if "duplicates" in courses.leave_out:
            of_rows = np.zeros(rows.patient.size, dtype=bool)
            of_rows[order[again]] = True
            findings.change("duplicates", of_rows)
        else:
            report_to("start, stop")(again, *TWICE)
        in_order, order = in_order.of(~again), order[~again]
    stays, overlapping = _settled(in_order, courses, report_to("start, stop"))
    nobody = np.empty(0, dtype=np.int64)
    if overlapping.size:
        if courses.overlap == "refuse":
            return SettledStays(
                stays=stays, overlapping=overlapping, bridged=nobody, prolonged=nobody
            )
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
    stays, prolonged = prolong(stays, courses.grace)
    return SettledStays(stays=stays, overlapping=overlapping, bridged=bridged, prolonged=prolonged)


def _from_origin(rows: StayRows) -> StayRows:
    """Cut off what lies before the origin, with its share of the dose."""
    early = rows.start < 0
    dose = rows.dose
    if dose is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            dose = np.where(early, dose * rows.stop / (rows.stop - rows.start), dose)
    return replace(rows, start=np.where(early, 0.0, rows.start), dose=dose)


def _said_before(stays: Stays, rows: StayRows, order: Ints) -> Bools:
    """Find rows that say what another row says, of stays in order."""
    again = np.zeros(stays.size, dtype=bool)
    if stays.size < 2:
        return again
    same = (stays.patient[1:] == stays.patient[:-1]) & (stays.start[1:] == stays.start[:-1])
    same &= stays.stop[1:] == stays.stop[:-1]
    some = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if not some.size:
        return again
    said = pd.DataFrame({"patient": stays.patient[some], "phase": stays.phase[some]})
    for name in ("start", "stop", "dose", "cycle"):
        values = getattr(rows, name)
        if values is not None:
            said[name] = values[order[some]]
    again[some] = said.duplicated().to_numpy()
    return again


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
            # Complex numbers are sorted by their real parts, then by the imaginary ones.
            both = np.empty(order.size, dtype=np.complex128)
            both.real, both.imag = patient, start
            by = np.argsort(both, kind="stable")
            tied = both[by[1:]] == both[by[:-1]]
            if (tied & (stop[by[1:]] < stop[by[:-1]])).any():
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
