"""Persons whose follow-up is in several rows, one for each calendar period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Ints
from bayesblina.patients.account import Line
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome


def persons_in_order(persons: NDArray[np.str_]) -> tuple[NDArray[np.str_], Ints]:
    """Give persons numbers in the order of their first rows.

    `persons`, shape (row,): whose each row is.
    Result: their ids, shape (person,), and the number of each row's, shape (row,).
    """
    ids, first, of = np.unique(persons, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return ids[order], rank[of.reshape(-1)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joint:
    """Rows of persons, to be put together again as the patients were before they were cut.

    `order`, shape (row,): rows by person, in the order of time.
    `opens`, shape (person,): where in it each person begins.
    """

    order: Ints
    opens: Ints

    @property
    def first(self) -> Ints:
        """First row of each person."""
        return np.asarray(self.order[self.opens])

    @property
    def last(self) -> Ints:
        """Last row of each person, which knows all of the person's phases."""
        return np.asarray(self.order[np.append(self.opens[1:], self.order.size) - 1])

    def outcome(self, own: Outcome) -> Outcome:
        """Put one endpoint's follow-up together."""
        return replace(
            own,
            time=np.fmax.reduceat(own.time[self.order], self.opens),
            event=np.logical_or.reduceat(own.event[self.order], self.opens),
            entry=np.fmin.reduceat(own.entry[self.order], self.opens),
        )


def joint_of(persons: NDArray[np.str_], endpoints: Mapping[str, Outcome]) -> Joint:
    """Find the rows of each person, by when they end."""
    _, of = persons_in_order(persons)
    end = np.fmax.reduce([own.time for own in endpoints.values()])
    order = np.lexsort((end, of))
    return Joint(order=order, opens=np.flatnonzero(np.diff(of[order], prepend=-1)))


def lines_of_periods(
    period: Covariate, persons: NDArray[np.str_], endpoints: Mapping[str, Outcome]
) -> list[Line]:
    """Say who is followed up in each period, by endpoint, with events and time."""
    lines = []
    for name, outcome in endpoints.items():
        seen = np.isfinite(outcome.entry)
        for code, level in enumerate(period.levels):
            rows = seen & (period.values == code)
            lines.append(
                Line(
                    step="period",
                    endpoint=name,
                    what=level,
                    patients=tuple(map(str, persons[rows])),
                    events=int(outcome.event[rows].sum()),
                    person_time=float((outcome.time - outcome.entry)[rows].sum()),
                )
            )
    return lines
