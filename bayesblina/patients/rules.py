"""What patients' times must satisfy, stated once for tables in memory and in query engines.

The rules are written with operators that numpy arrays and columns of an engine have alike; what
differs between them is in `Arithmetic`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.endpoint_order import Breach
from bayesblina.core.intervals import TIE_TOLERANCE

DAYS_PER_UNIT: Mapping[str, float] = MappingProxyType(
    {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}
)
LONGEST_MEDIAN_FOLLOW_UP_YEARS = 50.0
SHORTEST_MEDIAN_FOLLOW_UP_DAYS = 1.0
# Where anybody is followed up for this long, a short median is that of early censoring.
SHORTEST_LONGEST_FOLLOW_UP_DAYS = 7.0
LONGEST_LIFE_YEARS = 150.0
# A stay shorter than this before an event or the end of follow-up is none.
SHORTEST_STAY_DAYS = 0.01
NEAR_TIES = (
    "a phase or transplant less than a hundredth of a day from the end of follow-up counts as at it"
)


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
# How a repair is asked for; a scan makes none.
REPAIR = "ask for the repair"


class Arithmetic(Protocol):
    """What numpy and an engine name differently; missing times compare as False."""

    def missing(self, values: Any) -> Any:
        """Say which values are missing."""

    def infinite(self, values: Any) -> Any:
        """Say which values are infinite."""

    def known(self, values: Any) -> Any:
        """Say which values are neither missing nor infinite."""

    def latest(self, columns: Sequence[Any]) -> Any:
        """Take each patient's latest finite time from 0 on; infinite where there is none."""

    def choose(self, condition: Any, yes: Any, no: Any) -> Any:
        """Take one value where a condition holds, and another where it does not."""

    def number(self, value: float) -> Any:
        """Write a number that is just this one."""


class InMemory:
    """`Arithmetic` of numpy arrays."""

    missing = staticmethod(np.isnan)
    infinite = staticmethod(np.isinf)
    known = staticmethod(np.isfinite)
    choose = staticmethod(np.where)
    number = staticmethod(float)

    def latest(self, columns: Sequence[Any]) -> Any:
        """Take each patient's latest finite time from 0 on; infinite where there is none."""
        times = np.stack(columns)
        # Negative times are told as such, and end nobody's follow-up.
        known = np.where(np.isfinite(times), times, -1.0).max(axis=0)
        return np.where(known < 0, np.inf, known)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientColumns:
    """Columns of patients, by what they hold.

    `time`, `entry`: by endpoint.
    `last_negative`: last visits without the event, by endpoint that is recorded at visits.
    `start`, `end`: by phase, in order.
    `transplant`: times of transplants; None if nothing is known of them.
    `covariates`: by name: numbers, or positions of levels.
    `ordered`: whether phases come in the order given.
    """

    time: Mapping[str, Any]
    entry: Mapping[str, Any]
    start: Mapping[str, Any]
    end: Mapping[str, Any]
    transplant: Any = None
    covariates: Mapping[str, Any] = field(default_factory=dict)
    last_negative: Mapping[str, Any] = field(default_factory=dict)
    ordered: bool = True

    def marks(self) -> dict[str, Any]:
        """Lay out all times at which states may begin, by role."""
        marks = {f"{name}.start": values for name, values in self.start.items()}
        marks |= {f"{name}.end": values for name, values in self.end.items()}
        return marks if self.transplant is None else marks | {"transplant": self.transplant}


def is_after(later: Any, earlier: Any) -> Any:
    """Compare times; those that differ only by floating-point noise are the same time.

    `later`, `earlier`: times; a missing one is after nothing, and nothing is after it.
    """
    # Not by multiplying the other: the largest number there is has no larger one.
    return later / (1.0 + TIE_TOLERANCE) > earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """How far apart two times may be and still be one, in a time unit.

    `least`: a hundredth of a day.
    `from_time`: from this time on, a power of ten, half a unit of the sixth digit is more than
    that, and is taken instead: tables are often written with six digits.
    """

    least: float
    from_time: float

    @property
    def steps(self) -> tuple[Floats, Floats]:
        """Times from which on the distance is another, and the distances, from the least on."""
        half = 5e-6 * self.from_time
        from_times = np.array([self.from_time, 10.0 * self.from_time])
        return from_times, np.array([self.least, half, 10.0 * half])

    def at(self, time: Any, arithmetic: Arithmetic) -> Any:
        """Say how far from a time another may be."""
        from_times, (width, *wider) = (values.tolist() for values in self.steps)
        for step, wide in zip(from_times, wider, strict=True):
            width = arithmetic.choose(time >= step, wide, width)
        return width

    def near(self, left: Any, right: Any, arithmetic: Arithmetic) -> Any:
        """Say which times are those of the other column."""
        most = self.at(right, arithmetic)
        with np.errstate(invalid="ignore"):  # infinite times are near to none
            return (left - right < most) & (right - left < most)


def tie_of(unit: str) -> Tie:
    """Say how far apart two times may be and still be one."""
    # A distance of just a hundredth of a day is none that is shorter, whatever rounding does to it.
    least = SHORTEST_STAY_DAYS * (1.0 - 1e-6) / DAYS_PER_UNIT[unit]
    from_time = 10.0 ** np.ceil(np.log10(least / 5e-6))
    return Tie(least=least, from_time=float(from_time))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearTies:
    """Where the near ties of a table are, so that nobody looks for them elsewhere.

    `patients`: number of patients with near ties.
    `pairs`: roles of marks, each with the endpoint whose end it is near to.
    `far`: whether follow-up is so long anywhere that more than a hundredth of a day is near.
    """

    patients: int
    pairs: frozenset[tuple[str, str]]
    far: bool


def settle(
    columns: PatientColumns,
    arithmetic: Arithmetic,
    *,
    unit: str,
    only: NearTies | None = None,
) -> tuple[PatientColumns, dict[tuple[str, str], Any]]:
    """Let phases and transplants that all but meet the end of follow-up meet it.

    Dates that are one day become times that differ by rounding: in single precision, in the short
    numbers of SAS, in six digits. The unit says which differences cannot be real. Ends of phases
    of which nothing is known may be left out.

    `only`: where near ties are known to be: the rest is left as it is. There times that differ by
    floating-point noise, and are one anyway, become one; else they stay as they are.
    """
    tie = tie_of(unit)
    ends = {
        name: (
            time,
            tie.at(time, arithmetic) if only is None or only.far else arithmetic.number(tie.least),
        )
        for name, time in columns.time.items()
    }
    moved = {}

    def settled(role: str, mark: Any) -> Any:
        at = mark
        for name, (time, most) in reversed(ends.items()):
            if only is not None and (role, name) not in only.pairs:
                continue
            apart = mark - time
            near = (apart < most) & (apart > -most) & (time > 0)
            if only is None:
                near = near & (is_after(mark, time) | is_after(time, mark))
            moved[role, name] = near
            at = arithmetic.choose(near, time, at)
        return at

    times = {role: settled(role, mark) for role, mark in columns.marks().items()}
    settled_columns = replace(
        columns,
        start={name: times[f"{name}.start"] for name in columns.start},
        end={name: times[f"{name}.end"] for name in columns.end},
        transplant=times.get("transplant"),
    )
    return settled_columns, moved


def any_of(rows: Mapping[Any, Any], nobody: Any) -> Any:
    """Say whom any of several conditions holds for."""
    return reduce(operator.or_, rows.values(), nobody)


def is_brief(time: Any, entry: Any, unit: str) -> Any:
    """Say who is followed up for less than a day; nobody of whom a time is missing."""
    return time - entry < SHORTEST_MEDIAN_FOLLOW_UP_DAYS / DAYS_PER_UNIT[unit]


def most_are_brief(brief: int, seen: int) -> bool:
    """Say whether most patients are followed up for less than a day, which is told."""
    return 2 * brief > seen


def rules(columns: PatientColumns, arithmetic: Arithmetic, *, unit: str) -> Iterator[Breach]:
    """Go through all rules for single patients."""
    lifetime = LONGEST_LIFE_YEARS * DAYS_PER_UNIT["years"] / DAYS_PER_UNIT[unit]
    for name, time in columns.time.items():
        yield from _of_endpoint(name, time, columns.entry[name], arithmetic)
        yield Breach(
            role=f"{name}.time",
            rows=arithmetic.known(time) & (time > lifetime),
            found="times longer than a life",
            expected=f"Expected at most {LONGEST_LIFE_YEARS:g} years; correct them, or the unit.",
        )
    for name, seen in columns.last_negative.items():
        yield from _of_visits(name, seen, columns.time[name], arithmetic, tie_of(unit))
    last = arithmetic.latest(list(columns.time.values()))
    yield from _of_phases(columns, last, arithmetic, tie_of(unit))
    if columns.transplant is not None:
        yield Breach(
            role="transplant",
            rows=(columns.transplant < 0) | arithmetic.infinite(columns.transplant),
            found="negative or infinite times",
            expected="Expected finite times from the origin, empty without a transplant.",
        )
        yield Breach(
            role="transplant",
            rows=arithmetic.known(columns.transplant) & is_after(columns.transplant, last),
            found="transplant after the end of follow-up",
            expected=f"Correct the dates, or {REPAIR} drop_late_phases=True.",
        )
    for name, values in columns.covariates.items():
        yield Breach(
            role=name,
            rows=~arithmetic.known(values),
            found="missing or infinite values",
            expected="Every patient needs a value; impute before, or leave the covariate out.",
        )


def _of_endpoint(name: str, time: Any, entry: Any, arithmetic: Arithmetic) -> list[Breach]:
    """Give the rules for one endpoint's times."""
    entered = arithmetic.known(entry)
    return [
        Breach(
            role=f"{name}.time",
            rows=arithmetic.infinite(time) | (time < 0),
            found="negative or infinite times",
            expected="Expected finite times from the origin.",
        ),
        Breach(
            role=f"{name}.time",
            rows=time == 0,
            found="times of 0: nobody is at risk at the origin itself",
            expected=f"Give the true time, or {REPAIR} zero_times=<a small time>.",
        ),
        Breach(
            role=f"{name}.time",
            rows=arithmetic.missing(time) & entered,
            found="missing times",
            expected="Every patient under observation needs a time of event or censoring.",
        ),
        Breach(
            role=f"{name}.entry",
            rows=(entry < 0) | arithmetic.infinite(entry),
            found="negative or infinite entry times",
            expected="Expected finite times from the origin.",
        ),
        Breach(
            role=f"{name}.entry",
            rows=entered & (time > 0) & ~is_after(time, entry),
            found=f"entry at or after the end of follow-up for {name}",
            expected="Such patients are never at risk: correct the times, or leave entry and time "
            f"empty; where the two are one time, {REPAIR} zero_times=<a small time>.",
        ),
    ]


def _of_visits(
    name: str, seen: Any, time: Any, arithmetic: Arithmetic, tie: Tie
) -> Iterator[Breach]:
    """Give the rules for the last visit at which a patient was found event-free."""
    yield Breach(
        role=f"{name}.last_negative",
        rows=arithmetic.infinite(seen) | (seen < 0),
        found="negative or infinite times",
        expected="Expected finite times from the origin, empty where there was no such visit.",
    )
    yield Breach(
        role=f"{name}.last_negative",
        rows=arithmetic.known(seen) & is_after(seen, time) & ~tie.near(seen, time, arithmetic),
        found=f"a visit without the event after the end of follow-up for {name}",
        expected="An event lies between the last visit without it and the one at which it was "
        "found, and nobody is seen after the end of follow-up: correct the times.",
    )


def _of_phases(
    columns: PatientColumns, last: Any, arithmetic: Arithmetic, tie: Tie
) -> Iterator[Breach]:
    names = list(columns.start)

    def late(later: Any, earlier: Any) -> Any:
        """Say what is out of order by more than a hundredth of a day."""
        return is_after(later, earlier) & ~tie.near(later, earlier, arithmetic)

    for index, phase in enumerate(names):
        start, end = columns.start[phase], columns.end[phase]
        yield Breach(
            role=f"{phase}.start",
            rows=(start < 0) | arithmetic.infinite(start),
            found="negative or infinite starts",
            expected="Expected finite times from the origin, empty if the phase never started.",
        )
        yield Breach(
            role=f"{phase}.start",
            rows=arithmetic.known(start) & is_after(start, last),
            found=f"{phase} starts after the end of follow-up",
            expected=f"Correct the dates, or {REPAIR} drop_late_phases=True.",
        )
        yield Breach(
            role=f"{phase}.end",
            rows=arithmetic.infinite(end)
            | late(start, end)
            | (arithmetic.known(end) & arithmetic.missing(start)),
            found=f"{phase} ends before it starts, or without having started",
            expected="Correct the dates.",
        )
        for earlier in names[:index] if columns.ordered else ():
            yield Breach(
                role=f"{phase}.start",
                rows=late(columns.start[earlier], start),
                found=f"{phase} starts before {earlier}",
                expected="Phases must start in the order in which they are declared.",
            )
            yield Breach(
                role=f"{earlier}.end",
                rows=late(columns.end[earlier], start),
                found=f"{earlier} ends after {phase} has started",
                expected="A patient is in one phase at a time: end it at the start of the next.",
            )


def unit_fault(unit: object, argument: str = "unit") -> tuple[bool, str]:
    """Say whether a time unit is unknown, and what to say of it then."""
    known = ", ".join(DAYS_PER_UNIT)
    return unit not in DAYS_PER_UNIT, f"{argument} must be one of {known}, got {unit!r}."


def unit_words(unit: str, median: float, longest: float) -> tuple[str, str] | None:
    """Say what is wrong with a unit, if the follow-up is impossible in it.

    Result: what was found and what was expected.
    """
    days = median * DAYS_PER_UNIT[unit]
    too_long = days > LONGEST_MEDIAN_FOLLOW_UP_YEARS * DAYS_PER_UNIT["years"]
    too_short = (
        days < SHORTEST_MEDIAN_FOLLOW_UP_DAYS
        and longest * DAYS_PER_UNIT[unit] < SHORTEST_LONGEST_FOLLOW_UP_DAYS
    )
    if not (too_long or too_short):
        return None
    fitting = [
        unit
        for unit, length in DAYS_PER_UNIT.items()
        if 30 <= median * length <= 30 * DAYS_PER_UNIT["years"]
    ]
    hint = f" Perhaps {' or '.join(fitting)}?" if fitting else ""
    return (
        f"a median follow-up of {median:.4g} {unit}",
        f"That is impossible: check the unit.{hint}",
    )


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
        if not _is_short(known[:100]).all() or not _is_short(known).all():
            return nobody
        longer, fractions = digits_of(mark, InMemory())
        if not are_short(int(longer.sum()), int(fractions.sum())):
            return nobody
        return np.asarray(lost_at_the_end(mark, times, tie, InMemory()))
