"""Small counts are masked, and so that no sum beside them gives them away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# A whole and the parts that add up to it, all by name; a part after a minus is taken off.
Sum = tuple[str, Sequence[str]]
LESS = "-"
# A count, or several together, and one that is never smaller, by name.
Order = tuple[str | tuple[str, ...], str]
# Of the linear programs.
ROUNDING = 1e-6

MINIMUM_COUNT = 5
# What stands in the place of what is hidden.
MASK = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Which of some counts may be shown.

    `minimum`: counts from 1 up to below this are hidden; 1 hides nothing.
    `hidden`: names of the counts that are not shown: the small ones, and those that would give a
    small one away.
    `values`: numbers that must not be shown elsewhere either, because they belong to hidden counts.
    """

    minimum: int
    hidden: frozenset[str] = frozenset()
    values: frozenset[int] = frozenset()

    def shows(self, value: int) -> bool:
        """Whether a count that stands outside any sum may be shown."""
        return not is_small(value, self.minimum) and value not in self.values

    def shows_part(self, part: int, whole: int) -> bool:
        """Whether a count may be shown beside its whole: the rest is a count, too."""
        return self.shows(part) and not is_small(whole - part, self.minimum)


def is_small(value: float, minimum: int) -> bool:
    """Say whether a count is too small to be shown.

    >>> [is_small(value, 5) for value in (0, 1, 4, 5)]
    [False, True, True, False]
    """
    return 0 < value < minimum


def mask(
    counts: Mapping[str, int],
    sums: Sequence[Sum],
    *,
    minimum: int,
    orders: Sequence[Order] = (),
    bounds: Sequence[Order] = (),
) -> Masked:
    """Hide small counts, and as many others as it takes so that no sum gives them away.

    What a whole has more than its part is a count as well, though it stands nowhere: 18 events
    among 20 patients are 2 patients without one. It is small, or not, as any other.

    For every small count a reader who knows the sums and orders, and that a hidden count is at
    least 1, can work out the least and the largest value that it may have. That range must begin
    at 1, or at 0 for a count that stands nowhere, and have at least `minimum` values: until it
    does, a further count that one of its sums or orders holds is hidden, the smallest first.
    Counts of the same number are hidden together, since they may be the same patients.

    `sums`: wholes with the parts that add up to them; a name with a minus before it is taken off.
    `orders`: pairs of a count, or of several that share nobody, and one that is never smaller: part
    and whole, events and patients.
    `bounds`: the same, where the rest is nobody in particular.

    Secondary cell suppression, with the audit by linear programming: Fischetti and Salazar (2001),
    doi:10.1287/mnsc.47.7.1008.9805.

    >>> counts = {"all": 90, "old": 3, "young": 87}
    >>> sorted(mask(counts, [("all", ["old", "young"])], minimum=5).hidden)
    ['old', 'young']
    >>> mask({"patients": 20, "events": 18}, [], minimum=5, orders=[("events", "patients")]).hidden
    frozenset({'events'})
    """
    rests = _rests(counts, orders, minimum)
    known = _Known(
        counts={**counts, **{name: rest for name, (rest, _) in rests.items()}},
        sums=[*sums, *(whole for _, whole in rests.values())],
        orders=[*orders, *bounds],
        nowhere=frozenset(rests),
    )
    small = {name for name, value in known.counts.items() if is_small(value, minimum)}
    hidden = set(small)
    for name in sorted(small):
        while tight := known.tight(name, hidden, minimum):
            # Whatever stands in a sum or an order that narrows this one's range can be loosened.
            near = {
                other
                for names in tight
                for other in names
                if other not in hidden and known.counts[other] > 0
            }
            if not near:
                # Nothing is left that could be hidden: the whole system says nothing then.
                break
            chosen = min(near, key=lambda other: (known.counts[other], other))
            hidden |= {other for other in counts if counts[other] == known.counts[chosen]}
    values = frozenset(counts[name] for name in hidden - known.nowhere)
    # What follows from what is shown is not hidden: that it looks so tells that another hidden
    # count has its number.
    hidden -= {name for name in hidden - small if known.follows(name, hidden)}
    return Masked(minimum=minimum, hidden=frozenset(hidden - known.nowhere), values=values)


def _rests(
    counts: Mapping[str, int], orders: Sequence[Order], minimum: int
) -> dict[str, tuple[int, Sum]]:
    """Count what wholes have more than their parts, where that is small; with the sum it makes."""
    rests: dict[str, tuple[int, Sum]] = {}
    for less, more in orders:
        rest = counts[more] - sum(counts[part] for part in parts(less))
        if is_small(rest, minimum):
            name = f"{more} without {' '.join(parts(less))}"
            rests[name] = (rest, (more, [*parts(less), name]))
    return rests


def terms(equation: Sum) -> list[tuple[str, float]]:
    """Write a sum as terms that together are 0.

    >>> terms(("all", ["old", "-left"]))
    [('all', 1.0), ('old', -1.0), ('left', 1.0)]
    """
    whole, parts = equation
    return [
        (whole, 1.0),
        *((part.removeprefix(LESS), 1.0 if part.startswith(LESS) else -1.0) for part in parts),
    ]


def parts(less: str | tuple[str, ...]) -> tuple[str, ...]:
    """Name the counts of an order's smaller side."""
    return (less,) if isinstance(less, str) else less


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What a reader knows: which counts add up to which, and which are never larger than which."""

    counts: Mapping[str, int]
    sums: Sequence[Sum]
    orders: Sequence[Order]
    nowhere: frozenset[str]

    def tight(self, name: str, hidden: set[str], minimum: int) -> list[list[str]]:
        """Names in the sums and orders that leave a reader too few values of a hidden count."""
        rules, system = self._system(hidden)
        tight: list[list[str]] = []
        limit = 1.0
        for sign in (1.0, -1.0):
            answer, end = self._end(name, sign, hidden, system)
            narrow = sign * (end - limit) > ROUNDING
            limit = min(end, limit) + minimum - 1.0
            if not narrow:
                continue
            for kind, prices in (("eq", answer.eqlin), ("ub", answer.ineqlin)):
                tight += [
                    [other for other, _ in rule]
                    for rule, price in zip(rules[kind], prices.marginals, strict=True)
                    if abs(price) > ROUNDING
                ]
        return tight

    def follows(self, name: str, hidden: set[str]) -> bool:
        """Say whether a reader can tell a hidden count to the unit."""
        _, system = self._system(hidden)
        ends = [self._end(name, sign, hidden, system)[1] for sign in (1.0, -1.0)]
        return ends[1] - ends[0] <= ROUNDING

    def _end(
        self, name: str, sign: float, hidden: set[str], system: Mapping[str, Any]
    ) -> tuple[Any, float]:
        """Find the least (sign 1) or largest (sign -1) value of a hidden count."""
        from scipy.optimize import linprog

        names = sorted(hidden)
        cost = np.array([sign if other == name else 0.0 for other in names])
        # Zero would be shown, where anything is.
        bounds = [(0.0 if other in self.nowhere else 1.0, None) for other in names]
        answer = linprog(cost, bounds=bounds, **system)
        # Without a bound a count may be as large as one likes.
        return answer, np.inf if answer.fun is None else sign * float(answer.fun)

    def _system(
        self, hidden: set[str]
    ) -> tuple[dict[str, list[list[tuple[str, float]]]], dict[str, Any]]:
        """Write what is known of hidden counts as rules, and as the matrices of a program."""
        column = {other: index for index, other in enumerate(sorted(hidden))}
        rules = {
            "eq": [terms(equation) for equation in self.sums],
            "ub": [
                [*((part, 1.0) for part in parts(less)), (more, -1.0)] for less, more in self.orders
            ],
        }
        # Those in which nothing is hidden say nothing.
        rules = {
            kind: [rule for rule in written if any(other in column for other, _ in rule)]
            for kind, written in rules.items()
        }
        system: dict[str, Any] = {}
        for kind, used in rules.items():
            if used:
                rows = np.zeros((len(used), len(column)))
                shown = np.zeros(len(used))
                for index, rule in enumerate(used):
                    for other, sign in rule:
                        if other in column:
                            rows[index, column[other]] += sign
                        else:
                            shown[index] += sign * self.counts[other]
                system |= {f"A_{kind}": rows, f"b_{kind}": -shown}
        return rules, system
