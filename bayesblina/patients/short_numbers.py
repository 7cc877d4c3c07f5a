"""Columns of times that are stored with few digits, and what is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.patients.rules import Arithmetic, InMemory, Tie

# Significant bits of numbers that SAS keeps in three bytes, by platform; of half precision, 11.
FEWEST_BITS, SHORT_BITS = 13, 16
FEWEST_FRACTIONS = 5
SHORT_FOUND = (
    "times of too few digits (three bytes, or half precision) to be told from the end of follow-up"
)
SHORT_EXPECTED = "Export the column at its full length."
# Adding and subtracting it rounds to whole numbers, in every engine.
_TO_WHOLE = 1.5 * 2.0**52
_TO_SHORT = 2.0 ** (53 - SHORT_BITS) + 1.0


def digits_of(mark: Any, arithmetic: Arithmetic) -> tuple[Any, Any]:
    """Look at how a column of times is stored.

    `mark`, shape (patient,): times at which a phase starts or ends, or of a transplant.
    Result: `longer`, shape (patient,): numbers that take more than three bytes in SAS, or half
    precision elsewhere.
    `fractions`, shape (patient,): numbers that are no whole eighths, which are written by people.
    """
    known, eighths = arithmetic.known(mark), mark * 8.0
    fractions = known & ((eighths + _TO_WHOLE) - _TO_WHOLE != eighths)
    return known & ~_is_short(mark), fractions


def are_short(longer: int, fractions: int) -> bool:
    """Say whether a column is one of short numbers, by what `digits_of` found, counted."""
    return not longer and fractions >= FEWEST_FRACTIONS


def lost_at_the_end(mark: Any, times: Sequence[Any], tie: Tie, arithmetic: Arithmetic) -> Any:
    """Find marks of a column of short numbers that may be, or not be, at the end of follow-up.

    `mark`, shape (patient,): times of the column.
    `times`, shape (patient,): ends of follow-up.
    Result, shape (patient,): whose.
    """
    lost = mark > mark
    for time in times:
        most = time * 2.0 ** (2 - FEWEST_BITS)
        close = (time - mark < most) & (mark - time < most)
        lost = lost | (close & (time != mark) & ~tie.near(mark, time, arithmetic))
    return arithmetic.known(mark) & lost


def _is_short(values: Any) -> Any:
    """Say which numbers have no more than so many bits, as Veltkamp splits them."""
    wide = values * _TO_SHORT
    return wide - (wide - values) == values


def lost_to_short_numbers(mark: Floats, times: Sequence[Floats], tie: Tie) -> Bools:
    """Find marks whose distance from the end of follow-up was lost to how their column is stored.

    SAS keeps numbers in as few as three bytes, which cuts a month of 12.3 to 12.299: the error is
    a tenth of a day, and a start on the day of an event becomes one before it.

    `mark`, shape (patient,): times at which a phase starts or ends, or of a transplant.
    `times`, shape (patient,): ends of follow-up.
    Result, shape (patient,): whose; nobody's unless all of the column's numbers are so short.
    """
    nobody = np.zeros(mark.size, dtype=bool)
    with np.errstate(invalid="ignore", over="ignore"):  # such times are told by the rules
        known = mark[np.isfinite(mark)]
        # Most columns are told by their first numbers.
        for some in (known[:100], known):
            if not _is_short(some).all():
                return nobody
        longer, fractions = digits_of(mark, InMemory())
        if not are_short(int(longer.sum()), int(fractions.sum())):
            return nobody
        return np.asarray(lost_at_the_end(mark, times, tie, InMemory()))
