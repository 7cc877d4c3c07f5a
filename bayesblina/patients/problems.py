"""What is wrong with patients in memory, all of it at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools
from bayesblina.core.endpoint_order import EndpointOrder, find_breaches
from bayesblina.core.errors import NAMED_PATIENTS, Problem
from bayesblina.patients.rules import (
    SHORT_EXPECTED,
    SHORT_FOUND,
    InMemory,
    PatientColumns,
    lost_to_short_numbers,
    rules,
    tie_of,
    unit_words,
)


def find_problems(
    ids: NDArray[np.str_], columns: PatientColumns, courses: EndpointOrder, unit: str
) -> list[Problem]:
    """Find everything that is inconsistent in patients' arrays."""
    problems: list[Problem] = []
    missing = np.flatnonzero(ids == "")
    if missing.size:
        rows = ", ".join(str(row + 1) for row in missing[:NAMED_PATIENTS])
        more = f" and {missing.size - NAMED_PATIENTS} more" if missing.size > 10 else ""
        problems.append(
            Problem(
                column="patient",
                found=f"missing ids in rows {rows}{more}",
                expected="Every patient needs an id.",
            )
        )
    unique, counts = np.unique(ids, return_counts=True)
    problems += _named(
        "patient",
        ids,
        np.isin(ids, unique[(counts > 1) & (unique != "")]),
        "ids that stand in more than one row",
        "Expected one row per patient; merge or rename them.",
    )
    for breach in (*rules(columns, InMemory(), unit=unit), *find_breaches(courses)):
        problems += _named(breach.role, ids, breach.rows, breach.found, breach.expected)
    return problems + _problems_of_unit(columns, unit)


def find_short_numbers(ids: NDArray[np.str_], columns: PatientColumns, unit: str) -> list[Problem]:
    """Find columns of too few digits, before near ties of them are settled."""
    times, tie = list(columns.time.values()), tie_of(unit)
    return [
        problem
        for role, mark in columns.marks().items()
        for problem in _named(
            role, ids, lost_to_short_numbers(mark, times, tie), SHORT_FOUND, SHORT_EXPECTED
        )
    ]


def _named(
    role: str, ids: NDArray[np.str_], rows: Bools, found: str, expected: str
) -> list[Problem]:
    """Name the patients in some rows, if there are any, and the numbers of the first rows."""
    if not rows.any():
        return []
    who = tuple(dict.fromkeys(map(str, ids[rows])))
    numbers = tuple((np.flatnonzero(rows)[: NAMED_PATIENTS + 1] + 1).tolist())
    return [Problem(column=role, found=found, expected=expected, patients=who, rows=numbers)]


def _problems_of_unit(columns: PatientColumns, unit: str) -> list[Problem]:
    """Find endpoints whose follow-up is impossible in the unit."""
    problems = []
    for name, time in columns.time.items():
        # With delayed entry, or age as the time scale, follow-up is not the time of its end.
        known = np.isfinite(time) & np.isfinite(columns.entry[name])
        seen = time[known] - columns.entry[name][known]
        seen = seen[seen > 0]
        words = seen.size and unit_words(unit, float(np.median(seen)), float(seen.max()))
        if words:
            problems.append(Problem(column=f"{name}.time", found=words[0], expected=words[1]))
    return problems
