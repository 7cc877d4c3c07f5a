"""What happened to every patient: counts with the ids behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.endpoint_order import order_of_endpoints
from bayesblina.core.episodes import POSITIONS
from bayesblina.core.escaping import html, markdown, plain
from bayesblina.core.intervals import snap
from bayesblina.patients.outcomes import Outcome, courses_of
from bayesblina.patients.rules import is_brief, most_are_brief

COLUMNS = ("step", "endpoint", "phase", "what", "patients", "events", "person_time")
# Kinds of an account's columns of numbers: what is not counted is missing, and not 0.
KINDS = MappingProxyType({"patients": "int64", "events": "Int64", "person_time": "Float64"})
# Told where it holds for most patients, which may also be the sign of a wrong unit.
BRIEF = "followed up for less than a day, as most are: check the unit"
NOT_BRIEF = "followed up for a day or longer"
# How an endpoint's events are recorded.
DECLARED = "event times exact: declared"
UNDECLARED = "event times taken as exact: not declared"
AT_VISITS = "events found at visits: at some time since the last one without the event"
AT_FIRST_VISIT = "events found at the first visit: at some time since coming under observation"
AMONG_VISITS = "exact event times among events found at visits, as of deaths"
FREE_UNTIL_VISIT = "event-free: followed up until the last visit without the event"
FREE_UNTIL_CONTACT = "event-free: followed up until the last contact, as declared"
FREE_AND_SHARE = (
    "event-free: followed up until the last visit without the event, and for the share of the time "
    "since that exact events have among all"
)
NEVER_VISITED = "event-free, and at no visit: contribute no time"


def to_html(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Write a small HTML table; everything in it is escaped.

    `caption`: text above the table; none if empty.

    >>> to_html(["a"], [["<b>"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    titles = "".join(f"<th>{html(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    above = f"<caption>{html(caption)}</caption>" if caption else ""
    return f"<table>{above}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def to_markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Write a small Markdown table; nothing in its cells is markup.

    >>> print(to_markdown(["n"], [["*"]]))
    | n |
    | --- |
    | \* |
    """
    titles, *lines = [[markdown(plain(cell)) for cell in row] for row in (head, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(head), *lines))


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an account.

    Attributes
    ----------
    step
        Stage of the way from the table to the analysis.
    what
        What holds for these patients.
    patients
        Their ids; where patients are only counted, those of the first few, or none.
    count
        Number of patients, where they are only counted.
    endpoint, phase
        The endpoint and phase that it is about; empty where it is about neither.
    events
        Number of events, where it has a meaning.
    person_time
        Time at risk, where it has a meaning.
    """

    step: str
    what: str
    patients: tuple[str, ...]
    endpoint: str = ""
    phase: str = ""
    events: int | None = None
    person_time: float | None = None
    count: int | None = None

    @property
    def size(self) -> int:
        """Number of patients."""
        return len(self.patients) if self.count is None else self.count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Account:
    """An account of patients, the numbers of a CONSORT flow diagram.

    Attributes
    ----------
    lines
        The lines in order, with patient ids; the only part that holds ids.
    unit
        Time unit of the person-time.
    synthetic
        Whether the patients are simulated.
    """

    lines: tuple[Line, ...]
    unit: str
    synthetic: bool = False

    @property
    def table(self) -> pd.DataFrame:
        """Counts without ids: step, endpoint, phase, what, patients, events, person_time."""
        rows = [
            {
                "step": line.step,
                "endpoint": line.endpoint,
                "phase": line.phase,
                "what": line.what,
                "patients": line.size,
                "events": line.events,
                "person_time": line.person_time,
            }
            for line in self.lines
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict(KINDS))

    def patients(
        self, *, step: str | None = None, what: str | None = None, endpoint: str | None = None
    ) -> tuple[str, ...]:
        """Look up who is behind the counts.

        Parameters
        ----------
        step, what, endpoint
            Keep the lines that have these values; None keeps all.
        """
        chosen = [
            line.patients
            for line in self.lines
            if step in (None, line.step)
            and what in (None, line.what)
            and endpoint in (None, line.endpoint)
        ]
        return tuple(dict.fromkeys(patient for ids in chosen for patient in ids))

    def __add__(self, other: Account) -> Account:
        """Put another account's lines below these."""
        return Account(lines=self.lines + other.lines, unit=self.unit, synthetic=self.synthetic)

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                line.step,
                line.endpoint,
                line.phase,
                line.what,
                str(line.size),
                "" if line.events is None else str(line.events),
                "" if line.person_time is None else f"{line.person_time:.6g}",
            )
            for line in self.lines
        ]

    def _head(self) -> tuple[str, ...]:
        return (*COLUMNS[:-1], f"person-{self.unit}")

    def __repr__(self) -> str:
        """Show the counts as aligned columns, without ids."""
        rows = [self._head(), *self._cells()]
        widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
        numbers = len(COLUMNS) - 3
        lines = [
            "  ".join(
                cell.ljust(width) if index < numbers else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join(["synthetic patients", *lines] if self.synthetic else lines)

    def _repr_html_(self) -> str:
        return to_html(self._head(), self._cells(), "synthetic patients" if self.synthetic else "")

    def to_markdown(self) -> str:
        """Write the counts as a Markdown table, without ids."""
        return to_markdown(self._head(), self._cells())


def lines_of_order(
    endpoints: Mapping[str, Outcome], patients: NDArray[np.str_], unit: str
) -> list[Line]:
    """Say how endpoints lie to each other's events."""
    return [
        Line(
            step="order",
            endpoint=seen.endpoint,
            what=seen.what,
            patients=tuple(map(str, patients[seen.rows])),
            events=int(seen.events.sum()),
        )
        for seen in order_of_endpoints(courses_of(endpoints, unit=unit))
        if seen.rows.any()
    ]


def _lines_of_visits(
    outcome: Outcome,
    last_negative: Floats,
    happened: Bools,
    seen: Bools,
    line: Callable[..., Line],
) -> list[Line]:
    """Say how much is known of when events happened that were found at visits."""
    visited, exact = np.isfinite(last_negative), last_negative == outcome.time
    trusted = outcome.event_free_until == "last_contact"
    free = seen & ~outcome.event
    shared = not trusted and bool((happened & exact).any())
    until = FREE_AND_SHARE if shared else FREE_UNTIL_CONTACT if trusted else FREE_UNTIL_VISIT
    kinds = [
        (AT_VISITS, happened & visited & ~exact),
        (AT_FIRST_VISIT, happened & ~visited),
        (AMONG_VISITS, happened & exact),
        (until, free & (visited | trusted | shared)),
        (NEVER_VISITED, free & ~(visited | trusted | shared)),
    ]
    return [
        line(rows, step="recorded", what=what, events=int((rows & happened).sum()))
        for what, rows in kinds
        if rows.any()
    ]


def lines_of_endpoint(
    name: str,
    outcome: Outcome,
    patients: NDArray[np.str_],
    phases: tuple[str, ...],
    phase_start: Floats,
    cuts: Floats,
    unit: str,
) -> list[Line]:
    """Say who is under observation, with how many events, and where in it phases start."""
    time, entry, starts, cuts = snap([outcome.time, outcome.entry, phase_start, cuts])
    seen = np.isfinite(entry)

    def line(rows: Bools, **what: Any) -> Line:
        return Line(endpoint=name, patients=tuple(map(str, patients[rows])), **what)

    lines = [
        line(
            seen,
            step="observed",
            what="under observation",
            events=int(outcome.event[seen].sum()),
            person_time=float((time[seen] - entry[seen]).sum()),
        )
    ]
    brief = seen & is_brief(time, entry, unit)
    if most_are_brief(int(brief.sum()), int(seen.sum())):
        lines.append(line(brief, step="follow-up", what=BRIEF))
        lines.append(line(seen & ~brief, step="follow-up", what=NOT_BRIEF))
    if not seen.all():
        lines.append(line(~seen, step="observed", what="never under observation"))
    happened = seen & outcome.event
    if outcome.last_negative is None:
        recorded = DECLARED if outcome.recorded == "exact" else UNDECLARED
        lines.append(line(happened, step="recorded", what=recorded, events=int(happened.sum())))
    else:
        lines += _lines_of_visits(outcome, outcome.last_negative, happened, seen, line)
    for index, phase in enumerate(phases):
        start = starts[:, index]
        inside = (start > entry) & (start < time)
        met = np.isin(start, cuts) | (start[:, None] == starts[:, :index]).any(axis=1)
        where = {
            "early": start < entry,
            "leading": start == entry,
            "within": inside & ~met,
            "boundary": inside & met,
            "trailing": start == time,
            "late": start > time,
        }
        lines += [
            line(rows, step="phase start", phase=phase, what=POSITIONS[position])
            for position, rows in where.items()
            if rows.any() or position == "within"
        ]
    return lines
