"""Stays of a cohort's patients: what they must satisfy, and what an account says of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.course_marks import runs_of
from bayesblina.core.courses import Stays
from bayesblina.core.errors import NAMED_PATIENTS, Problem
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.account import Line
from bayesblina.patients.rules import DAYS_PER_UNIT

# Who has stays in a phase, and who comes back to it. How many stays there are would tell how many
# patients have a second one.
SEEN_IN = ("any stay", "more than one stay")
# A stay that ends this many times later than follow-up ends far beyond it; told if most do.
FAR = 2.0
# Of stays that are read in their own unit so many end by the end of follow-up, or little later.
FITTING, LATER = 0.9, 1.05
FAR_ENDS = "stays that end far beyond follow-up, as most do: check them, and their unit"


def first_starts(stays: Stays, *, patients: int, phases: int) -> Floats:
    """Find when each patient first enters each phase, (patient, phase); NaN for never."""
    first = np.full((patients, phases), np.inf)
    np.minimum.at(first, (stays.patient, stays.phase), stays.start)
    return np.where(np.isfinite(first), first, np.nan)


# A column of stays, in which of them something is wrong, what was found, what was expected.
Fault = tuple[str, Bools, str, str]


def find_problems_of_stays(
    ids: NDArray[np.str_], stays: Stays, phases: Sequence[str], *, ordered: bool
) -> list[Problem]:
    """Find everything that is inconsistent in stays.

    `ordered`: whether phases come in the order given: none after a later one has begun.
    """
    size = stays.size
    columns: dict[str, NDArray[np.generic] | None] = {
        name: getattr(stays, name) for name in ("phase", "start", "stop", "cycles", "dose")
    }
    for name, values in columns.items():
        if values is not None and values.shape != (size,):
            return [
                Problem(
                    column=f"stays.{name}",
                    found=f"shape {values.shape}",
                    expected=f"Expected {(size,)}.",
                )
            ]
    positions = ((stays.patient, ids.size, "patient"), (stays.phase, len(phases), "phase"))
    for number, below, name in positions:
        if ((number < 0) | (number >= below)).any():
            return [
                Problem(
                    column=f"stays.{name}",
                    found="numbers of none",
                    expected=f"Expected positions from 0 to {below - 1}.",
                )
            ]
    return [
        Problem(
            column=f"stays.{column}",
            found=found,
            expected=expected,
            patients=tuple(dict.fromkeys(map(str, ids[stays.patient[rows]])))[: NAMED_PATIENTS + 1],
        )
        for column, rows, found, expected in faults_of_stays(stays, phases, ordered=ordered)
        if rows.any()
    ]


def faults_of_stays(stays: Stays, phases: Sequence[str], *, ordered: bool) -> list[Fault]:
    """Go through what stays must satisfy, as for `find_problems_of_stays`."""
    size = stays.size
    same = np.diff(stays.patient, prepend=-1) == 0
    before = np.concatenate([[-np.inf], stays.stop[:-1]])[:size]
    ordering = np.concatenate([[0], np.diff(stays.patient)])[:size] < 0
    highest = highest_so_far(stays)
    checks: list[Fault] = [
        ("patient", ordering, "patients out of order", "Sort stays by patient and start."),
        (
            "start",
            ~(stays.start >= 0) | np.isinf(stays.start),
            "missing, negative or infinite starts",
            "Expected finite times from the origin.",
        ),
        (
            "stop",
            ~(stays.stop > stays.start * (1.0 + TIE_TOLERANCE)),
            "stays that end at or before they start",
            "Expected start < stop, or no stop where the stay went on.",
        ),
        (
            "start",
            same & (stays.start < before * (1.0 - TIE_TOLERANCE)),
            "stays that overlap",
            "A patient is in one phase at a time: say which one holds (overlap=), or name the "
            "combination as a phase of its own.",
        ),
        (
            "cycles",
            ~np.isin(stays.cycles, (0.0, 1.0)),
            "cycles other than 0 and 1",
            "Expected 1 where a cycle begins with the stay, else 0.",
        ),
    ]
    if stays.dose is not None:
        known = np.isfinite(stays.dose) & (stays.dose >= 0)
        checks.append(
            (
                "dose",
                ~known | np.isinf(stays.stop),
                "doses that are missing, infinite or negative, or of stays without an end",
                "Expected what was given in each stay, from 0 on, and when it ended.",
            )
        )
    if ordered:
        checks.append(
            (
                "phase",
                stays.phase < highest,
                "phases that come again after a later one",
                f"Expected the order {', '.join(phases)}; say order='any' if phases may come in "
                "any order.",
            )
        )
    return checks


def highest_so_far(stays: Stays) -> Ints:
    """Find the highest phase of each patient up to each stay."""
    most = int(stays.phase.max(initial=0)) + 1
    base = stays.patient * most
    return np.maximum.accumulate(base + stays.phase) - base if stays.size else stays.phase


def stays_by_phase(stays: Stays, phases: int) -> list[tuple[Ints, Ints]]:
    """Find who has stays in each phase, and how many, without those that go on at once.

    Result, by phase: positions of patients, and their numbers of stays.
    """
    runs = runs_of(stays, np.arange(phases))
    return [
        np.unique(runs.patient[runs.key == index], return_counts=True) for index in range(phases)
    ]


def far_ends(patient: Ints, stop: Floats, last: Floats) -> tuple[Bools, Bools]:
    """Find which stays have an end, and which of them end far beyond their patient's follow-up.

    `last`, shape (patient,): the end of each patient's follow-up; infinite where there is none.
    """
    own = last[patient]
    ended = np.isfinite(stop) & np.isfinite(own)
    return ended, ended & (stop > FAR * own)


def most_are_far(far: int, ended: int) -> bool:
    """Say whether most stays end far beyond follow-up, which is told."""
    return 2 * far > ended


def ends_by_unit(patient: Ints, stop: Floats, last: Floats, unit: str) -> Ints:
    """Count the ends of stays: all, those far beyond follow-up, those within it in finer units.

    `patient`: positions; -1 for strangers.
    """
    own = patient >= 0
    patient, stop = patient[own], stop[own]
    ended, far = far_ends(patient, stop, last)
    ratio = stop[ended] / last[patient[ended]]
    within = [(ratio <= LATER * factor).sum() for factor in _finer(unit).values()]
    return np.array([ended.sum(), far.sum(), *within], dtype=np.int64)


def unit_problem(counts: Ints, unit: str) -> tuple[str, str] | None:
    """Say what was found and expected where most stays end far beyond follow-up; else None.

    `counts`: as of `ends_by_unit`.
    """
    ended, far, *within = counts.tolist()
    if not most_are_far(far, ended):
        return None
    fitting = [
        name for name, count in zip(_finer(unit), within, strict=True) if count >= FITTING * ended
    ]
    hint = f" Perhaps the stays are in {fitting[0]}?" if fitting else ""
    return FAR_ENDS, f"Follow-up is in {unit}: give the stays in that unit, too.{hint}"


def _finer(unit: str) -> dict[str, float]:
    """List the units that are finer than one, the longest first, and how many of them it is."""
    factors = {name: DAYS_PER_UNIT[unit] / days for name, days in DAYS_PER_UNIT.items()}
    return dict(sorted(((n, f) for n, f in factors.items() if f > 1.0), key=lambda item: item[1]))


def lines_of_stays(
    stays: Stays, patients: NDArray[np.str_], phases: Sequence[str], last: Floats
) -> list[Line]:
    """Say who has stays in each phase, and who comes back to it after an interruption.

    `last`, shape (patient,): the end of each patient's follow-up.
    """
    lines = []
    ended, far = far_ends(stays.patient, stays.stop, last)
    if most_are_far(int(far.sum()), int(ended.sum())):
        ids = tuple(map(str, patients[np.unique(stays.patient[far])]))
        lines.append(Line(step="stays", what=FAR_ENDS, patients=ids))
    for phase, (who, counts) in zip(phases, stays_by_phase(stays, len(phases)), strict=True):
        for what, rows in zip(SEEN_IN, (counts > 0, counts > 1), strict=True):
            if rows.any():
                ids = tuple(map(str, patients[who[rows]]))
                lines.append(Line(step="stays", phase=phase, what=what, patients=ids))
    return lines
