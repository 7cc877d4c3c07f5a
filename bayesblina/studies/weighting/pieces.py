"""Pieces of follow-up, and the time at risk of starting, leaving and entering again in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import split
from bayesblina.patients.cohort import Cohort

# Regular points at which time at risk of starting is cut, over all of it and over the time in which
# starts matter, so that weights are almost constant in between.
POINTS = 24
START_INTERVALS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Time at risk of starting within which the model's hazard is constant.

    `of`, shape (piece,): cell of each piece of follow-up; -1 for those not at risk of starting.
    `patient`, shape (cell,): row of the patient in the cohort.
    `opens`, `time`, shape (cell,): time since becoming eligible at which it opens, and how long it
    lasts.
    `interval`, shape (cell,): interval of time since becoming eligible.
    `values`, shape (cell, column): covariates, standardised.
    `start`, shape (cell,): whether it ends with the start.
    """

    of: Ints
    patient: Ints
    opens: Floats
    time: Floats
    interval: Ints
    values: Floats
    start: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Switch:
    """Time at risk of starting, leaving, or entering again, where patients may do so repeatedly.

    `kind`: which of them, in words.
    `cells`: time at risk of it, on its own clock; `start` says of a cell whether it happens.
    `intervals`: number of intervals of its hazard.
    `done`, shape (piece,): the patient's last cell up to each piece; -1 for none.
    """

    kind: str
    cells: Cells
    intervals: int
    done: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """Follow-up cut, in the order of patients and time.

    `patient`, shape (piece,): row of the patient in the cohort.
    `first`, `last`, shape (piece,): ends of the piece on the cohort's clock.
    `since`, `until`, shape (piece,): the same since becoming eligible.
    `middle`, shape (piece,): time since becoming eligible at which weights are taken: the middle
    between the beginning and the next regular point. It must not depend on when the piece ends, for
    then events would have the weights of earlier times than those at risk beside them.
    """

    patient: Ints
    first: Floats
    last: Floats
    since: Floats
    until: Floats
    middle: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """Values of covariates that change over time, by patient and in the order of time."""

    names: tuple[str, ...]
    patient: Ints
    time: Floats
    values: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartingCourse(Pieces):
    """Follow-up in pieces within which nothing changes.

    `cohort`, `endpoint`, `adjust`: what it was made of.
    `begin`, `start`, shape (patient,): when patients become eligible and when they start; infinite
    for those who do not.
    `prevalent`, shape (patient,): whether they had started before.
    `after`, `inside`, `event`, shape (piece,): whether it lies after the start, whether in the
    phase, and whether it ends with the event.
    `current`: whether patients may leave the phase, so that the two differ.
    `intervals`: number of intervals of the hazard of starting.
    `names`: columns of the model of starting.
    `scale`, shape (column,): standard deviations that they were divided by.
    `kept`, shape (column,): which of them stay in the hazard model of the endpoint.
    `cells`: time at risk of starting; none where there are switches.
    `switches`: models of starting, leaving and entering again, where all are weighted for.
    """

    cohort: Cohort
    endpoint: str
    adjust: tuple[str, ...]
    begin: Floats
    start: Floats
    prevalent: Bools
    after: Bools
    inside: Bools
    current: bool
    event: Bools
    intervals: int
    names: tuple[str, ...]
    scale: Floats
    kept: Bools
    cells: Cells
    switches: tuple[Switch, ...] = ()


def start_cuts(since_start: Floats) -> Floats:
    """Cut the hazard of starting at quartiles of the starts."""
    ranks = np.arange(1, START_INTERVALS) / START_INTERVALS
    quantiles = np.unique(np.quantile(since_start, ranks, method="inverted_cdf"))
    return np.asarray(quantiles[(quantiles > 0) & (quantiles < since_start.max())])


def cut_at_grid(
    since: Floats, until: Floats, begun: Bools, grid: Floats
) -> tuple[Ints, Floats, Floats, Floats]:
    """Cut time since becoming eligible at a grid; what comes after the start stays uncut."""
    rows = np.flatnonzero(~begun)
    part, cell, length = split(since[rows], until[rows], grid)
    opens = np.concatenate([[0.0], grid])[cell]
    low = np.maximum(since[rows][part], opens)
    uncut = np.flatnonzero(begun)
    row = np.concatenate([rows[part], uncut])
    left = np.concatenate([low, since[uncut]])
    right = np.concatenate([low + length, until[uncut]])
    closes = np.concatenate([np.append(grid, np.inf)[cell], until[uncut]])
    middle = (left + np.where(np.isinf(closes), right, closes)) / 2.0
    order = np.lexsort((left, row))
    return row[order], left[order], right[order], middle[order]


def join_cells(
    pieces: Pieces, interval: Ints, values: Floats, at_risk: Bools, starts: Bools
) -> Cells:
    """Join neighbouring pieces at risk that have the same covariates and interval."""
    rows = np.flatnonzero(at_risk)
    who, when, what = pieces.patient[rows], interval[rows], values[rows]
    opens = np.concatenate(
        [[True], (np.diff(who) != 0) | (np.diff(when) != 0) | (np.diff(what, axis=0) != 0).any(1)]
    )
    first = np.flatnonzero(opens)
    of = np.full(pieces.patient.size, -1, dtype=np.int64)
    of[rows] = np.cumsum(opens) - 1
    final = rows[np.concatenate([first[1:] - 1, [rows.size - 1]])]
    return Cells(
        of=of,
        patient=who[first],
        opens=pieces.since[rows][first],
        time=pieces.until[final] - pieces.since[rows][first],
        interval=when[first],
        values=what[first],
        start=starts[final],
    )


def covariates_of(
    cohort: Cohort,
    chosen: Sequence[str],
    adjust: Sequence[str],
    changes: Changes,
    patient: Ints,
    first: Floats,
) -> tuple[tuple[str, ...], Floats, Bools]:
    """Values of all covariates at the beginning of each piece, and which are adjusted for."""
    columns: list[tuple[str, Floats, bool]] = []
    for name in chosen:
        covariate, values = cohort.covariates[name], cohort.covariates[name].values[patient]
        if covariate.kind == "continuous":
            columns.append((name, values, name in adjust))
        else:
            columns += [
                (f"{name}[{covariate.levels[int(level)]}]", (values == level) * 1.0, name in adjust)
                for level in np.unique(covariate.values)[1:]
            ]
    if changes.names:
        # The last change at or before the piece begins, by one sorted key for patient and rank of
        # the time: whole numbers, since times of any length must not run into the next patient's.
        moments, rank = np.unique(np.concatenate([changes.time, first]), return_inverse=True)
        changed, begun = np.split(rank, [changes.time.size])
        key = changes.patient * moments.size + changed
        latest = np.searchsorted(key, patient * moments.size + begun, side="right") - 1
        columns += [
            (name, values, False)
            for name, values in zip(changes.names, changes.values[latest].T, strict=True)
        ]
    if not columns:
        raise SpecError("There are no confounders: name covariates, or give a history.")
    names, terms, kept = zip(*columns, strict=True)
    return names, np.stack(terms, axis=1), np.array(kept)
