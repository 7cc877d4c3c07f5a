"""Endpoints of a table of an engine against each other, in the words of tables in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bayesblina.core.endpoint_order import EndpointOrder, find_breaches, find_shortfalls
from bayesblina.core.errors import Problem
from bayesblina.patients.declarations import Endpoint
from bayesblina.patients.rules import Broken, tie_of
from bayesblina.patients.scan.checks import named
from bayesblina.patients.scan.engines import run
from bayesblina.patients.scan.reading import InEngine, Reading


def courses_of(
    endpoints: Mapping[str, Endpoint], column: Callable[[str, str], Any], *, unit: str
) -> EndpointOrder:
    """Lay out the endpoints of a table for `bayesblina.core.endpoint_order`.

    `unit`: time unit, which says what times are one.
    """
    arithmetic = InEngine()
    return EndpointOrder(
        time={name: column("time", name) for name in endpoints},
        event={name: column("event", name) for name in endpoints},
        entry={name: column("entry", name) for name in endpoints},
        includes={name: tuple(endpoint.includes) for name, endpoint in endpoints.items()},
        known=arithmetic.known,
        near=partial(tie_of(unit).near, arithmetic=arithmetic),
    )


def find_contradictions(
    reading: Reading, courses: EndpointOrder, roles: Mapping[str, str], source: str
) -> list[Problem]:
    """Find what contradicts the declarations of which endpoint includes which.

    Where any is declared this is a pass of its own, and a look-up of patients for each problem.
    """
    breaches, shortfalls = list(find_breaches(courses)), list(find_shortfalls(courses))
    wanted = {f"breach{index}": one.rows for index, one in enumerate(breaches)}
    for index, short in enumerate(shortfalls):
        wanted |= {
            f"rows{index}": short.rows,
            f"events{index}": short.events,
            f"included{index}": short.included,
        }
    if not wanted:
        return []
    totals = {name: rows.fill_null(False).cast("int64").sum() for name, rows in wanted.items()}
    counts = run(reading.raw.aggregate(**totals), source).iloc[0].fillna(0).astype("int64")
    told = [(one, int(counts[f"breach{index}"])) for index, one in enumerate(breaches)]
    for index, short in enumerate(shortfalls):
        numbers = {name: int(counts[f"{name}{index}"]) for name in ("rows", "events", "included")}
        breach = short.breach(**numbers)
        if breach is not None:
            told.append((breach, numbers["rows"]))
    return [
        named(
            reading,
            Broken(
                role=roles.get(one.role, one.role),
                rows=one.rows,
                found=one.found,
                expected=one.expected,
            ),
            count,
            source,
        )
        for one, count in told
        if count
    ]
