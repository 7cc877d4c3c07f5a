"""The table of events and person-time, put together and checked, whichever way it was summed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.courses import CourseLayout
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE
from bayesblina.core.errors import DataError, Problem
from bayesblina.patients.declarations import Endpoint
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.cells.patterns import CovariateTerms, Terms, compressed_terms
from bayesblina.person_time.compression import Compression
from bayesblina.person_time.contents import Contents, require_contents
from bayesblina.person_time.follow_up import roles_of
from bayesblina.person_time.question import Question


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Sums over patients, by endpoint; states are all possible ones.

    `events`, `person_time`, shape (endpoint, interval, state, pattern): events and person-time.
    `first_in`, `longest_in`, shape (endpoint, state): earliest time at which anybody is in a state
    (infinite for nobody), and the longest that anybody is in it.
    `visitors`, shape (endpoint, state): how many patients are ever in it.
    `contributors`, `left_out`, shape (endpoint,): how many patients contribute, and how many do
    not.
    `first_begin`, `last_exit`, shape (endpoint,): bounds of time at risk.
    `time_at_risk`, `event_count`, shape (endpoint,): weighted totals over patients, taken before
    their time was cut.
    `patients`, shape (pattern,): how many patients contribute to any endpoint.
    """

    events: NDArray[np.generic]
    person_time: Floats
    first_in: Floats
    longest_in: Floats
    visitors: Ints
    contributors: Ints
    left_out: Ints
    first_begin: Floats
    last_exit: Floats
    time_at_risk: Floats
    event_count: Floats
    patients: Floats


def require_contents_of(
    endpoints: Sequence[str], phase_names: Sequence[str], sums: Sums, question: Question
) -> None:
    """Check that there is something to compare."""
    roles = np.asarray(roles_of(phase_names, question))
    require_contents(
        {
            name: Contents(
                patients=int(sums.contributors[index]),
                events=float(sums.event_count[index]),
                visited=frozenset(roles[sums.visitors[index] > 0].tolist()),
            )
            for index, name in enumerate(endpoints)
        },
        question,
    )


def by_pattern(
    parts: Sequence[Floats], compression: Compression | None, *, integers: bool
) -> NDArray[np.generic]:
    """Lay out sums by group and moment as the table has them.

    `parts`, shape (state, group, interval, moment): sums, by endpoint.
    `whole`: whether they are whole numbers, unless covariates are compressed.
    Result, shape (endpoint, interval, state, pattern): the sums.
    """
    stacked = np.stack(parts)
    if compression is not None:
        stacked = compression.from_moments(stacked)
    moved = np.moveaxis(stacked, 3, 1)
    values = np.ascontiguousarray(moved.reshape(*moved.shape[:3], -1))
    return values.astype(np.int64) if integers and compression is None else values


def recorded_of(
    endpoints: Mapping[str, Outcome] | Mapping[str, Endpoint],
    names: Sequence[str],
    courses: tuple[str, str] | None = None,
) -> dict[str, str | None]:
    """Look up how events are declared to be recorded.

    By endpoint of the table; a transition's is that of the endpoint that it comes from.

    `courses`: death and relapse-free survival, where these are transitions.
    """
    if courses is None:
        return {name: endpoints[name].recorded for name in names}
    death, relapse_free = courses
    return {
        name: endpoints[death if name == DEATH_AFTER_RELAPSE else relapse_free].recorded
        for name in names
    }


def includes_of(
    endpoints: Mapping[str, Outcome] | Mapping[str, Endpoint], names: Sequence[str]
) -> dict[str, list[str]]:
    """Look up which endpoints are declared to include which.

    `names`: endpoints of the table; transitions include nothing.
    """
    return {
        name: [other for other in endpoints[name].includes if other in names]
        for name in names
        if name in endpoints
    }


def assemble(
    endpoints: Sequence[str],
    states: Sequence[str],
    phase_names: Sequence[str],
    since: Sequence[float],
    sums: Sums,
    *,
    cuts: Floats,
    terms: Terms,
    covariates: Sequence[CovariateTerms],
    question: Question,
    compression: Compression | None,
    size: int,
    by_patient: bool = False,
    weighted: bool = False,
    spread: bool = False,
    courses: tuple[str, str] | None = None,
    recorded: Mapping[str, str | None] | None = None,
    includes: Mapping[str, Sequence[str]] | None = None,
    layout: CourseLayout | None = None,
) -> xr.Dataset:
    """Make the table of an `PersonTime`, of the states that anybody is ever in.

    `terms`: covariate terms of each group, which is a pattern unless covariates are compressed.
    `spread`: whether events that were found at visits are spread over their gaps.
    `recorded`: how the events of each endpoint are declared to be recorded; None if nothing is
    declared.
    `includes`: which endpoints each is declared to include; None if nothing is declared.
    `layout`: how states follow from stays, where marks are each patient's own.
    """
    seen = np.flatnonzero((sums.visitors > 0).any(axis=0)).tolist()
    kept = [str(states[index]) for index in seen]
    names = [str(phase_names[index]) for index in seen]
    cells = ("endpoint", "interval", "phase", "pattern")
    node = np.zeros(terms.design.shape[0], dtype=np.int64)
    if compression is not None:
        terms, node = compressed_terms(terms, compression)
    patterns = terms.design.shape[0]
    by_endpoint = ("endpoint", "phase")
    table = xr.Dataset(
        {
            "events": (cells, sums.events[:, :, seen]),
            "person_time": (cells, sums.person_time[:, :, seen]),
            "interval_start": ("interval", np.concatenate([[0.0], cuts])),
            "interval_stop": ("interval", np.concatenate([cuts, [np.inf]])),
            "role": ("phase", roles_of(names, question)),
            "treatment": ("phase", names),
            "since": ("phase", [float(since[index]) for index in seen]),
            "design": (("pattern", "term"), terms.design),
            "node": ("pattern", node),
            "patients": ("pattern", sums.patients),
            "contributors": ("endpoint", sums.contributors),
            "first_begin": ("endpoint", sums.first_begin),
            "last_exit": ("endpoint", sums.last_exit),
            "first_in": (by_endpoint, sums.first_in[:, seen]),
            "longest_in": (by_endpoint, sums.longest_in[:, seen]),
            "visitors": (by_endpoint, sums.visitors[:, seen]),
        },
        coords={
            "endpoint": list(endpoints),
            "interval": np.arange(cuts.size + 1),
            "phase": kept,
            "pattern": np.arange(patterns),
            "term": np.asarray(terms.names, dtype=str),
        },
        attrs={
            "covariates": json.dumps([asdict(covariate) for covariate in covariates]),
            "by_patient": int(by_patient),
            "courses": json.dumps(courses),
            "weighted": int(weighted),
            "recorded": json.dumps({} if recorded is None else dict(recorded)),
            "includes": json.dumps({name: list(of) for name, of in (includes or {}).items()}),
            "compression": "[]" if compression is None else compression.to_json(),
        },
    )
    if layout is not None:
        table.attrs["layout"] = layout.to_json()
    _require_conservation(endpoints, sums, table, size=size, fractions=weighted or spread)
    return table


def _require_conservation(
    endpoints: Sequence[str], sums: Sums, table: xr.Dataset, *, size: int, fractions: bool
) -> None:
    """Raise unless person-time, events and patients are all accounted for."""
    cells = ("interval", "phase", "pattern")
    time = table["person_time"].sum(cells).values
    events = table["events"].sum(cells).values
    exact = table.attrs["compression"] == "[]"
    failures = []
    for index, name in enumerate(endpoints):
        at_risk, expected = float(sums.time_at_risk[index]), float(sums.event_count[index])
        largest = max(at_risk, float(sums.contributors[index] * sums.last_exit[index]))
        rounding = 1e-9 * expected if fractions or not exact else 0.0
        if not abs(time[index] - at_risk) <= 1e-9 * largest:
            failures.append((name, f"person-time {time[index]:.17g} of {at_risk:.17g}"))
        if not abs(events[index] - expected) <= rounding:
            shown = f"{expected:.17g}" if fractions else f"{expected:.0f}"
            failures.append((name, f"{events[index]} events of {shown}"))
        used, out = int(sums.contributors[index]), int(sums.left_out[index])
        if used + out != size:
            failures.append((name, f"{used} patients used and {out} left out of {size}"))
        if exact and (table["person_time"].values[index] < 0).any():
            failures.append((name, "negative person-time in a cell"))
    if failures:
        raise DataError(
            [
                Problem(
                    column=name,
                    found=f"conservation failed: {difference}",
                    expected="This is an error in bayesblina, not in the data; please report it.",
                )
                for name, difference in failures
            ],
            source="the person-time table",
        )
