"""Lines of an account where patients are only counted, and steps that nobody reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesblina.patients.account import DECLARED, UNDECLARED, Line

if TYPE_CHECKING:
    from bayesblina.person_time.cells.value import PersonTime


def never_reached(person_time: PersonTime) -> list[str]:
    """Name the steps that nobody has time in, of which the table holds no states."""
    if person_time.layout is None:
        return []
    phases, reached = person_time.layout, set(person_time.table["phase"].values.tolist())
    label = phases.exposure.label
    return [
        state
        for state, name in zip(phases.states, phases.phase_names, strict=True)
        if name == label and state not in reached
    ]


def summed_lines(person_time: PersonTime, endpoint: str, roles: list[str]) -> list[Line]:
    """Lines of an account without the patients behind them."""
    own = person_time.table.sel(endpoint=endpoint)
    lines = [
        Line(
            step="left out",
            endpoint=endpoint,
            what=left.reason,
            patients=left.patients,
            count=left.size,
        )
        for left in person_time.left_out
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
            what=DECLARED if person_time.recorded[endpoint] == "exact" else UNDECLARED,
            patients=(),
            count=round(float(sums["events"].sum())),
            events=round(float(sums["events"].sum())),
        )
    )
    for index, (phase, role) in enumerate(
        zip(person_time.table["phase"].values, roles, strict=True)
    ):
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
