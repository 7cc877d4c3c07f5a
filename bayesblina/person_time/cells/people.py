"""What is known of single patients, made when it is asked for, and whose the rows are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.person_time.follow_up import LeftOut


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patients:
    """What is known of single patients.

    Attributes
    ----------
    people : xarray.Dataset
        Over patient: ``weight`` (1 without weights), ``category`` (a pattern that has the patient's
        categorical covariates) and, unless continuous covariates are compressed, ``pattern``; else
        ``design`` over (patient, term), the patient's own raw terms. Over (endpoint, patient):
        ``begin``, ``exit`` (NaN where the patient does not contribute) and ``event``. Where
        patients are pieces or copies of persons also ``person``, the id of whose they are.
        Patients who contribute to no endpoint are not in it.
    episodes : xarray.Dataset
        Over episode: ``endpoint``, ``patient`` and ``phase`` as positions, ``start``, ``stop``.
    left_out
        Who does not contribute, by endpoint and reason.
    complete
        Whether these are all patients; else a sample of them, or nobody.
    """

    people: xr.Dataset
    episodes: xr.Dataset
    left_out: tuple[LeftOut, ...]
    complete: bool = True


class Lazily[T]:
    """A value that is made when it is first asked for.

    Parameters
    ----------
    make
        Makes it; always the same.
    """

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    @classmethod
    def of(cls, value: T) -> Lazily[T]:
        """Hold a value that is made already."""
        held = cls(_made_already)
        held._made.append(value)
        return held

    def __call__(self) -> T:
        """Return the value."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __reduce__(self) -> tuple[Callable[[T], Lazily[T]], tuple[T]]:
        """Go to another process as the value: what makes it may not be able to."""
        return Lazily.of, (self(),)


def _made_already() -> NoReturn:
    """Stand for the maker of a value that nobody has to make."""
    raise AssertionError("the value was made already")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Persons:
    """Whose the rows are: a person has one row, or one for each piece or copy of the follow-up.

    Attributes
    ----------
    ids : ndarray of str, shape (person,)
        Ids, in the order of their first rows.
    of : ndarray of int, shape (row,)
        Position of the person of each row.
    """

    ids: NDArray[np.str_]
    of: Ints

    @property
    def size(self) -> int:
        """Number of persons."""
        return int(self.ids.size)

    @property
    def in_pieces(self) -> bool:
        """Whether somebody has more than one row."""
        return self.size < self.of.size

    def follow_up(self, people: xr.Dataset) -> tuple[Floats, Floats, Bools]:
        """Find when the follow-up of whole persons begins and ends, and whether with the event.

        Parameters
        ----------
        people : xarray.Dataset
            Of `Patients`.

        Returns
        -------
        begin, exit : ndarray, shape (endpoint, person)
            NaN where a person does not contribute.
        event : ndarray of bool, shape (endpoint, person)
            Whether there is an event.
        """
        dims = ("endpoint", "patient")
        begin, end, event = (
            people[name].transpose(*dims).values for name in ("begin", "exit", "event")
        )
        if not self.in_pieces:
            return begin, end, event
        first, last = np.full((2, begin.shape[0], self.size), np.nan)
        died = np.zeros(first.shape, dtype=bool)
        for index in range(begin.shape[0]):
            np.fmin.at(first[index], self.of, begin[index])
            np.fmax.at(last[index], self.of, end[index])
            np.logical_or.at(died[index], self.of, event[index])
        return first, last, died

    def rows(self, chosen: Ints) -> tuple[Ints, Ints]:
        """Find the rows of some persons.

        Parameters
        ----------
        chosen : ndarray of int, shape (chosen,)
            Positions of persons, each once.

        Returns
        -------
        rows : ndarray of int, shape (row,)
            Their rows, person by person.
        place : ndarray of int, shape (row,)
            Which of the chosen each row belongs to.
        """
        if not self.in_pieces:
            return chosen, np.arange(chosen.size)
        rank = np.full(self.size, -1, dtype=np.int64)
        rank[chosen] = np.arange(chosen.size)
        position = rank[self.of]
        rows = np.flatnonzero(position >= 0)
        rows = rows[np.argsort(position[rows], kind="stable")]
        return rows, position[rows]
