"""Small counts are masked, and so that no sum beside them gives them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# A whole and the parts that add up to it, all by name; a part after a minus is taken off.
Sum = tuple[str, Sequence[str]]
LESS = "-"

MINIMUM_COUNT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Which of some counts may be shown.

    Attributes
    ----------
    minimum
        Counts from 1 up to below this are hidden; 1 hides nothing.
    hidden
        Names of the counts that are not shown: the small ones, and those that would give a small
        one away.
    values
        Numbers that must not be shown elsewhere either, because they belong to hidden counts.
    """

    minimum: int
    hidden: frozenset[str]
    values: frozenset[int]

    def shows(self, value: int) -> bool:
        """Whether a count that stands outside any sum may be shown."""
        return not is_small(value, self.minimum) and value not in self.values


def is_small(value: int, minimum: int) -> bool:
    """Say whether a count is too small to be shown.

    Parameters
    ----------
    value
        The count. 0 tells of nobody and is shown.
    minimum
        Smallest count that is shown.

    Returns
    -------
    bool
        Whether it is hidden.

    Examples
    --------
    >>> [is_small(value, 5) for value in (0, 1, 4, 5)]
    [False, True, True, False]
    """
    return 0 < value < minimum


def mask(counts: Mapping[str, int], sums: Sequence[Sum], *, minimum: int) -> Masked:
    """Hide small counts, and as many others as it takes so that no sum gives them away.

    For every small count a reader who knows the sums and that a hidden count is at least 1 can work
    out the least and the largest value that it may have. That range must reach from 1 to at least
    `minimum`: until it does, a further count of one of its sums is hidden, the smallest first.
    Counts of the same number are hidden together, since they may be the same patients.

    Parameters
    ----------
    counts
        Counts by name.
    sums
        Wholes with the parts that add up to them; a name with a minus before it is taken off.
    minimum
        Smallest count that is shown.

    Returns
    -------
    Masked
        What is hidden.

    Notes
    -----
    Secondary cell suppression, with the audit by linear programming: Fischetti and Salazar (2001),
    doi:10.1287/mnsc.47.7.1008.9805.

    Examples
    --------
    >>> counts = {"all": 90, "old": 3, "young": 87}
    >>> sorted(mask(counts, [("all", ["old", "young"])], minimum=5).hidden)
    ['old', 'young']
    """
    small = {name for name, value in counts.items() if is_small(value, minimum)}
    hidden = set(small)
    for name in sorted(small):
        while not _safe(name, counts, sums, hidden, minimum):
            # Any sum that a hidden count of this one's system stands in can be loosened.
            near = {
                other
                for names in ([name for name, _ in terms(one)] for one in sums)
                if hidden & set(names)
                for other in names
                if other not in hidden and counts[other] > 0
            }
            if not near:
                # Nothing is left that could be hidden: the whole system says nothing then.
                break
            chosen = min(near, key=lambda other: (counts[other], other))
            hidden |= {other for other in counts if counts[other] == counts[chosen]}
    values = frozenset(counts[name] for name in hidden)
    return Masked(minimum=minimum, hidden=frozenset(hidden), values=values)


def terms(one: Sum) -> list[tuple[str, float]]:
    """Write a sum as terms that together are 0.

    Parameters
    ----------
    one
        The sum.

    Returns
    -------
    list of (str, float)
        Names with their signs.

    Examples
    --------
    >>> terms(("all", ["old", "-left"]))
    [('all', 1.0), ('old', -1.0), ('left', 1.0)]
    """
    whole, parts = one
    return [
        (whole, 1.0),
        *((part.removeprefix(LESS), 1.0 if part.startswith(LESS) else -1.0) for part in parts),
    ]


def _safe(
    name: str, counts: Mapping[str, int], sums: Sequence[Sum], hidden: set[str], minimum: int
) -> bool:
    """Whether a reader is left with enough values that a hidden count may have."""
    from scipy.optimize import linprog

    unknown = sorted(hidden)
    place = {other: index for index, other in enumerate(unknown)}
    rows, right = [], []
    for one in sums:
        row, known = np.zeros(len(unknown)), 0.0
        for other, sign in terms(one):
            if other in place:
                row[place[other]] += sign
            else:
                known += sign * counts[other]
        if row.any():
            rows.append(row)
            right.append(-known)
    if not rows:
        return True
    ends = []
    for sign in (1.0, -1.0):
        cost = np.zeros(len(unknown))
        cost[place[name]] = sign
        found = linprog(cost, A_eq=np.array(rows), b_eq=np.array(right), bounds=(1, None))
        # Without a bound a count may be as large as one likes.
        ends.append(np.inf if found.fun is None else sign * float(found.fun))
    low, high = ends
    return low <= 1.0 + 1e-6 and high >= minimum - 1e-6
