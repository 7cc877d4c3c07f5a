"""Rows of patients' courses, each at risk in one state: what they must satisfy, what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.episodes import OFF_TREATMENT
from bayesblina.core.errors import SpecError
from bayesblina.patients.declarations import EventFreeUntil, Recorded
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.readers.columns import Columns, Repairs
from bayesblina.patients.rules import REPAIR


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredRows:
    """What is declared of one endpoint of rows, as for `bayesblina.Endpoint`."""

    recorded: Recorded | None
    includes: tuple[str, ...]
    last_negative: str | None
    event_free_until: EventFreeUntil


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseRows:
    """Rows of patients' courses, each at risk in one state; arrays (row,).

    `who`, `which`: patient, in the order of first rows, and endpoint.
    `state`: 0 before all phases, then the phases from 1 on, then `off`, off treatment.
    `order`: rows by endpoint, patient and time.
    """

    who: Ints
    which: Ints
    begin: Floats
    end: Floats
    event: Bools
    state: Ints
    order: Ints
    off: int

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.who.max(initial=-1)) + 1

    @property
    def group(self) -> Ints:
        """Endpoint and patient of each row, as one number."""
        return self.which * self.patients + self.who

    @property
    def first_of_endpoint(self) -> Ints:
        """The earliest row of each row's patient for the same endpoint."""
        first = np.empty(self.group.max(initial=-1) + 1, dtype=np.int64)
        first[self.group[self.order[::-1]]] = self.order[::-1]
        return first[self.group]

    @property
    def reached(self) -> Ints:
        """The highest phase so far within its group, of rows in order."""
        base, state = self.group[self.order] * (self.off + 1), self.state[self.order]
        return np.maximum.accumulate(base + np.where(state == self.off, 0, state)) - base

    @property
    def opens(self) -> Bools:
        """Whether a group begins, of rows in order."""
        group = self.group[self.order]
        return np.concatenate([[True], group[1:] != group[:-1]])[: group.size]

    @property
    def recurs(self) -> bool:
        """Whether a phase comes again, or one that comes earlier in the order comes later."""
        state, reached = self.state[self.order], self.reached
        following, same = state[1:], ~self.opens[1:]
        treated = (following > 0) & (following < self.off)
        again = (following == reached[:-1]) & (state[:-1] == self.off)
        return bool((same & treated & (again | (following < reached[:-1]))).any())

    def off_again(self) -> CourseRows:
        """Take time in no phase, after one, for time off treatment."""
        state = self.state.copy()
        state[self.order[(self.state[self.order] == 0) & (self.reached > 0)]] = self.off
        return replace(self, state=state)

    def outcome(self, index: int, declared: DeclaredRows, last_negative: Floats) -> Outcome:
        """Put one endpoint's first entries and last times together.

        `last_negative`, shape (row,): last visits without the event; NaN where nothing is known.
        """
        time, entry, visited = np.full((3, self.patients), np.nan)
        event = np.zeros(self.patients, dtype=bool)
        rows = self.order[self.which[self.order] == index]
        # Of several rows of a patient the last one written stays.
        time[self.who[rows]], event[self.who[rows]] = self.end[rows], self.event[rows]
        entry[self.who[rows[::-1]]] = self.begin[rows[::-1]]
        visited[self.who[rows]] = last_negative[rows]
        return Outcome(
            time=time,
            event=event,
            entry=entry,
            recorded=declared.recorded,
            includes=declared.includes,
            last_negative=visited if declared.recorded == "visits" else None,
            event_free_until=declared.event_free_until,
        )


def check_times(
    columns: Columns, rows: CourseRows, given: Mapping[str, str], repairs: Repairs | None
) -> None:
    """Check each row by itself: an id, two times, and time between them."""
    columns.report(
        given["patient"], columns.ids == "", "missing ids", "Every row needs its patient's id."
    )
    for column, values in ((given["start"], rows.begin), (given["stop"], rows.end)):
        columns.report(
            column,
            (columns.text(column) == "") | np.isinf(values),
            "missing or infinite times",
            "Expected times.",
        )
    empty = rows.end <= rows.begin
    if repairs is not None and repairs.zero_times is not None:
        # All of a patient's follow-up, which the repair makes longer.
        single = np.bincount(rows.group)[rows.group] == 1
        empty &= ~((rows.end == rows.begin) & single)
    columns.report(
        given["stop"],
        empty,
        "rows that end at or before they start",
        "Expected start < stop in each row; leave empty stretches out, or, where such a row is all "
        f"of a patient's follow-up, {REPAIR} zero_times=<a small time>.",
    )


def check_sequence(
    columns: Columns,
    rows: CourseRows,
    given: Mapping[str, str],
    names: tuple[str, ...],
    listed: str,
) -> None:
    """Check each patient's rows, in the order of time, against the next one."""
    if listed not in ("listed", "any"):
        raise SpecError(f"order must be 'listed' or 'any', got {listed!r}.")
    order, reached = rows.order, rows.reached

    def report(role: str, later: Bools, found: str, expected: str) -> None:
        wrong = np.zeros(order.size, dtype=bool)
        wrong[order[1:][later]] = True
        columns.report(given[role], wrong, found, expected)

    same = ~rows.opens[1:]
    opened, closed = rows.begin[order][1:], rows.end[order][:-1]
    joined = "Each row must start where the one before it stops."
    report("start", same & (opened > closed), "gaps between rows", joined)
    report("start", same & (opened < closed), "rows that overlap", joined)
    report(
        "event",
        same & rows.event[order][:-1],
        "events before the last row",
        "Expected 1 in a patient's last row only.",
    )
    state = rows.state[order]
    highest, following = reached[:-1], state[1:]
    treated = (following != 0) & (following != rows.off)
    report(
        "phase",
        same & (following != rows.off) & (following < highest) & ~(treated & (listed == "any")),
        "phases that go backwards",
        f"Expected the order {', '.join(names)}; say order='any' if phases may come in any order, "
        "and with before= what means no phase.",
    )
    # Which phase has ended may be told by the rows of another endpoint, entered earlier.
    earliest = np.full(rows.patients, np.inf)
    treated = (rows.state > 0) & (rows.state < rows.off)
    np.fmin.at(earliest, rows.who[treated], rows.begin[treated])
    columns.report(
        given["phase"],
        np.isin(np.arange(order.size), order[(state == rows.off) & (reached == 0)])
        & ~(earliest[rows.who] < rows.begin),
        f"'{OFF_TREATMENT}' before any phase",
        "It means that a phase has ended.",
    )


def phase_times(rows: CourseRows) -> tuple[Floats, Floats]:
    """When each patient first enters and leaves each phase, over all endpoints."""
    state, reached = rows.state[rows.order], rows.reached
    enters = rows.opens | np.concatenate([[True], state[1:] != state[:-1]])[: state.size]

    def earliest(chosen: Bools, phase: Ints) -> Floats:
        row = rows.order[chosen]
        times = np.full((rows.patients, rows.off - 1), np.inf)
        np.minimum.at(times, (rows.who[row], phase[chosen]), rows.begin[row])
        return np.where(np.isfinite(times), times, np.nan)

    return (
        earliest(enters & (state > 0) & (state < rows.off), state - 1),
        earliest(enters & (state == rows.off) & (reached > 0), reached - 1),
    )


def stays_of_rows(rows: CourseRows) -> Stays:
    """Put rows in phases together as stays, over all endpoints."""
    inside = np.flatnonzero((rows.state > 0) & (rows.state < rows.off))
    order = inside[
        np.lexsort((rows.end[inside], rows.begin[inside], rows.state[inside], rows.who[inside]))
    ]
    who, phase = rows.who[order], rows.state[order] - 1
    start, stop = rows.begin[order], rows.end[order]
    # Rows of the same patient and phase that touch are one stay, whichever endpoint they are of.
    group = who * rows.off + phase
    ranks = np.argsort(np.argsort(stop, kind="stable"), kind="stable")
    base = group * (stop.size + 1)
    reached = np.sort(stop)[np.maximum.accumulate(base + ranks) - base]
    opens = np.ones(order.size, dtype=bool)
    opens[1:] = (group[1:] != group[:-1]) | (start[1:] > reached[:-1])
    first = np.flatnonzero(opens)
    last = np.append(first[1:], order.size)[: first.size] - 1
    final = np.full(rows.patients, -np.inf)
    np.maximum.at(final, rows.who, rows.end)
    ends = reached[last]
    # Whether a stay goes on after the end of follow-up is not known.
    ends = np.where(ends >= final[who[first]], np.inf, ends)
    by_time = np.lexsort((start[first], who[first]))
    chosen = first[by_time]
    return Stays(
        patient=who[chosen],
        phase=phase[chosen],
        start=start[chosen],
        stop=ends[by_time],
        cycles=np.ones(chosen.size),
    )


def check_histories(
    columns: Columns, rows: CourseRows, bounds: Floats, states: Ints, column: str
) -> None:
    """Check each row's state against the one history that all of the patient's rows make."""
    own = bounds[:, rows.who]
    segment = np.maximum((own[:-1] <= rows.begin).sum(axis=0) - 1, 0)
    state = states[segment] if states.ndim == 1 else states[segment, rows.who]
    columns.report(
        column,
        (state != rows.state) | (rows.end > own[segment + 1, np.arange(rows.who.size)]),
        "phases that start or end at different times for different endpoints",
        "A phase starts and ends at one time, whatever the endpoint.",
    )
