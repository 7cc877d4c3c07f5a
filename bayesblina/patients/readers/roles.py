"""Roles of a table's columns: each has one, but for what truly may be shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.errors import Problem, SpecError

# Kinds of roles that one column may have for two endpoints, two phases, or one of each: a date
# that ends both, remission as entry and as the start of a phase, the first dose as the origin.
SHARED = frozenset(
    frozenset(pair)
    for pair in (
        ("time",),
        ("event",),
        ("entry",),
        ("end",),
        ("entry", "start"),
        ("entry", "end"),
        ("entry", "transplant"),
        ("origin", "entry"),
        ("origin", "start"),
    )
)
# So many values that are all 0 or 1 are a flag.
FEWEST_FLAGS = 5


def require_roles(
    roles: Mapping[str, str], covariates: Iterable[str], phases: Sequence[str] = ()
) -> None:
    """Refuse columns in two roles, and covariates that have another role.

    `phases`: phases in order: one may end where a later one starts.
    """
    names = list(covariates)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"covariates names '{twice[0]}' twice.")
    for (one, column), (other, same) in combinations(roles.items(), 2):
        if column == same and not _may_share(one, other, phases):
            if one.endswith(".start") and other.endswith(".start"):
                early, late = (role.removesuffix(".start") for role in (one, other))
                raise SpecError(f"'{early}' and '{late}' both start with the column '{column}'.")
            raise SpecError(
                f"The column '{column}' is declared as {one} and as {other}: expected a column of "
                "its own for each."
            )
    held = {column: role for role, column in reversed(list(roles.items()))}
    for name in names:
        if name in held:
            raise SpecError(
                f"The covariate '{name}' is also declared as {held[name]}: expected what is known "
                "of patients at the origin. Leave it out of covariates."
            )


def _may_share(one: str, other: str, phases: Sequence[str]) -> bool:
    """Say whether one column may have two roles."""
    (of_one, kind), (of_other, other_kind) = (role.rpartition(".")[::2] for role in (one, other))
    if {kind, other_kind} == {"start", "end"}:
        ends, starts = (of_one, of_other) if kind == "end" else (of_other, of_one)
        return ends in phases and starts in phases and phases.index(ends) < phases.index(starts)
    return frozenset((kind, other_kind)) in SHARED


def flag_problem(column: str) -> Problem:
    """Say that a column of times holds a flag."""
    return Problem(
        column=column,
        found="a flag (nothing but 0 and 1, or true and false) where times were expected",
        expected="Expected the time at which it happened, empty where it did not; if these are "
        "times, give all times in a finer unit.",
    )


def is_flag(values: NDArray[np.float64]) -> bool:
    """Say whether times are a flag: at least five that are 0 or 1, and not all one of these.

    Where 1 stands beside missing values only, it is a flag too.

    `values`, shape (patient,): times, NaN where there is none.
    """
    zeros, ones = int((values == 0.0).sum()), int((values == 1.0).sum())
    known = values.size - int(np.isnan(values).sum())
    return counts_of_flag(known, zeros, ones, values.size)


def counts_of_flag(known: int, zeros: int, ones: int, size: int) -> bool:
    """Say whether times are a flag, where they are counted already."""
    return bool(known >= FEWEST_FLAGS and zeros + ones == known and 0 < ones < size)
