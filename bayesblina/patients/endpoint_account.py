"""Account of endpoints: who is observed, where phases start, how endpoints lie to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.endpoint_order import order_of_endpoints
from bayesblina.core.episodes import POSITIONS
from bayesblina.core.intervals import snap
from bayesblina.patients.account import BRIEF, DECLARED, NOT_BRIEF, UNDECLARED, Line
from bayesblina.patients.outcomes import Outcome, courses_of
from bayesblina.patients.rules import is_brief, most_are_brief


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
    recorded = DECLARED if outcome.recorded == "exact" else UNDECLARED
    lines.append(line(happened, step="recorded", what=recorded, events=int(happened.sum())))
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
