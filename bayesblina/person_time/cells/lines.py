"""Lines of an account where patients are only counted, and steps that nobody reaches."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from bayesblina.core.courses import CourseLayout
from bayesblina.patients.account import DECLARED, UNDECLARED, Line
from bayesblina.person_time.follow_up import LeftOut


def never_reached(layout: CourseLayout | None, reached: Sequence[str]) -> list[str]:
    """Name the steps that nobody has time in, of which a table holds no states.

    `reached`: states of the table.
    """
    if layout is None:
        return []
    return [
        state
        for state, name in zip(layout.states, layout.phase_names, strict=True)
        if name == layout.exposure.label and state not in reached
    ]


def summed_lines(
    table: xr.Dataset,
    endpoint: str,
    roles: Sequence[str],
    left_out: Sequence[LeftOut],
    recorded: str | None,
) -> list[Line]:
    """Lines of an account without the patients behind them.

    `recorded`: how the endpoint's events are declared to be recorded.
    """
    own = table.sel(endpoint=endpoint)
    lines = [
        Line(
            step="left out",
            endpoint=endpoint,
            what=left.reason,
            patients=left.patients,
            count=left.size,
        )
        for left in left_out
        if left.endpoint == endpoint
    ]
    sums = own[["events", "person_time"]].sum(("interval", "pattern"))
    lines.append(
        Line(
            step="eligible",
            endpoint=endpoint,
            what="at risk",
            patients=(),
            count=int(own["contributors"]),
            events=round(float(sums["events"].sum())),
            person_time=float(sums["person_time"].sum()),
        )
    )
    lines.append(
        Line(
            step="recorded",
            endpoint=endpoint,
            what=DECLARED if recorded == "exact" else UNDECLARED,
            patients=(),
            count=round(float(sums["events"].sum())),
            events=round(float(sums["events"].sum())),
        )
    )
    for index, (phase, role) in enumerate(zip(table["phase"].values, roles, strict=True)):
        if int(own["visitors"].values[index]):
            lines.append(
                Line(
                    step="in phase",
                    endpoint=endpoint,
                    phase=str(phase),
                    what=role,
                    patients=(),
                    count=int(own["visitors"].values[index]),
                    events=round(float(sums["events"].values[index])),
                    person_time=float(sums["person_time"].values[index]),
                )
            )
    return lines
