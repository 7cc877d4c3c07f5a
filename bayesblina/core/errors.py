"""The errors that bayesblina raises, and how a list of problems is worded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

__all__ = [
    "BayesblinaError",
    "ConvergenceError",
    "DataError",
    "EstimandError",
    "Problem",
    "SpecError",
    "StorageError",
    "count_patients",
    "listed",
    "name_patients",
    "nearest",
    "shape_of",
    "unknown_endpoint",
    "unknown_phase",
    "unquoted",
]
NAMED_PATIENTS = 10


def __dir__() -> list[str]:
    return __all__


class BayesblinaError(Exception):
    """Base of every error that bayesblina raises on purpose."""


class SpecError(BayesblinaError):
    """A question, model definition or study file says something impossible."""


class EstimandError(BayesblinaError):
    """A quantity was asked for that is not defined; says why and what is."""


class ConvergenceError(BayesblinaError):
    """A converged fit was required and this one is not."""


class StorageError(BayesblinaError):
    """A file could not be written, or is damaged, foreign or of a newer schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a table.

    Attributes
    ----------
    column
        Column (or columns) of the user's table.
    found
        What was found there, with cells quoted.
    expected
        What was expected, and what to do about it.
    patients
        Ids of all patients concerned, in the order of the table; of a table in a query engine
        those of the first few.
    count
        Number of patients, where not all are named.
    rows
        Numbers of the first rows concerned, from 1 on below the header, where they are known.
    examples
        Cells that `found` quotes.
    """

    column: str
    found: str
    expected: str
    patients: tuple[str, ...] = ()
    count: int | None = None
    rows: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()

    def words(self, *, show_ids: bool = False) -> str:
        """Word the problem.

        Parameters
        ----------
        show_ids
            Whether at most ten patients are named, and cells quoted. Without it patients are
            counted, the first rows numbered, and of cells only the shape is told.

        Returns
        -------
        str
            One line.

        Examples
        --------
        >>> problem = Problem(
        ...     column="os",
        ...     found="values that are not numbers ('12,5 mo')",
        ...     expected="Expected numbers.",
        ...     patients=("P-17",),
        ...     rows=(4,),
        ...     examples=("12,5 mo",),
        ... )
        >>> print(problem)
        os: values that are not numbers ('99,9 aa') [1 patient, in row 4]. Expected numbers.
        >>> print(problem.words(show_ids=True))
        os: values that are not numbers ('12,5 mo') [1 patient: P-17]. Expected numbers.
        """
        found = self.found
        for cell in () if show_ids else self.examples:
            found = found.replace(repr(cell), repr(shape_of(cell)))
        who = ""
        if self.patients:
            who = f" [{name_patients(self.patients, count=self.count)}]"
            if not show_ids:
                who = f" [{count_patients(len(self.patients), count=self.count, rows=self.rows)}]"
        return f"{self.column}: {found}{who}. {self.expected}"

    def __str__(self) -> str:
        """Word the problem without ids."""
        return self.words()


class DataError(BayesblinaError):
    """A table cannot be used; carries every problem that was found in it.

    Its text counts patients and names none: `problems` holds their ids, and `words` names them.

    Parameters
    ----------
    problems
        What is wrong, at least one.
    source
        Where the table came from, for the message.

    Attributes
    ----------
    problems : tuple of Problem
        All problems, machine-readable, with all patient ids.
    source : str
        Where the table came from.

    Examples
    --------
    >>> problem = Problem(column="os", found="times of 0", expected="", patients=("A",))
    >>> print(DataError([problem]).words(show_ids=True))
    1 problem in the table:
      - os: times of 0 [1 patient: A].
    """

    def __init__(self, problems: Sequence[Problem], *, source: str = "the table") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(self.words())

    def __reduce__(self) -> tuple[Callable[[Sequence[Problem]], DataError], tuple[Any, ...]]:
        """Come out of another process as it was raised there."""
        return partial(DataError, source=self.source), (self.problems,)

    def words(self, *, show_ids: bool = False) -> str:
        """Word all problems.

        Parameters
        ----------
        show_ids
            As for `Problem.words`.

        Returns
        -------
        str
            A line for each, below the number of them.
        """
        lines = [problem.words(show_ids=show_ids).rstrip() for problem in self.problems]
        return listed(lines, source=self.source)


def listed(problems: Sequence[object], *, source: str) -> str:
    """Word a list of problems, one a line.

    Parameters
    ----------
    problems
        The problems.
    source
        Where they were found.

    Returns
    -------
    str
        A heading that counts them, and the problems.

    Examples
    --------
    >>> print(listed(["schema: missing."], source="study.toml"))
    1 problem in study.toml:
      - schema: missing.
    """
    count = len(problems)
    head = f"{count} problem{'s' if count != 1 else ''} in {source}:"
    return "\n".join([head, *(f"  - {problem}" for problem in problems)])


def shape_of(text: str) -> str:
    """Write a text's letters as a and A, its digits as 9; all else stays.

    Parameters
    ----------
    text
        A cell.

    Returns
    -------
    str
        What it looks like, which tells a comma from a point and no patient from another.

    Examples
    --------
    >>> shape_of("Site 12,5")
    'Aaaa 99,9'
    """
    return "".join(
        "9" if one.isdigit() else "A" if one.isupper() else "a" if one.isalpha() else one
        for one in text
    )


def unquoted(text: str) -> str:
    """Leave out what a library's message quotes, which may be a cell of the table.

    Parameters
    ----------
    text
        The message.

    Returns
    -------
    str
        The message, with dots for what stood in quotation marks.

    Examples
    --------
    >>> unquoted("Could not convert 'P-17' to DOUBLE")
    'Could not convert ... to DOUBLE'
    """
    return re.sub(r"""(['"`])(?:(?!\1).){2,}?\1""", "...", text)


def count_patients(named: int, *, count: int | None = None, rows: Sequence[int] = ()) -> str:
    """Count patients, and number their first rows.

    Parameters
    ----------
    named
        How many are named.
    count
        How many there are, where more than these.
    rows
        Numbers of their first rows.

    Returns
    -------
    str
        For example ``"3 patients, in rows 2, 5, 9"``.

    Examples
    --------
    >>> count_patients(2, rows=[3, 9]), count_patients(1)
    ('2 patients, in rows 3, 9', '1 patient')
    """
    total = named if count is None else count
    who = f"{total} patient{'s' if total != 1 else ''}"
    shown = ", ".join(map(str, rows[:NAMED_PATIENTS]))
    more = " and others" if len(rows) > NAMED_PATIENTS else ""
    return f"{who}, in row{'s' if len(rows) != 1 else ''} {shown}{more}" if rows else who


def name_patients(patients: Sequence[str], *, count: int | None = None) -> str:
    """Name up to ten patients and say how many more there are.

    Parameters
    ----------
    patients
        Patient ids.
    count
        How many patients there are, where these are only the first.

    Returns
    -------
    str
        For example ``"3 patients: A, B, C"``.

    Examples
    --------
    >>> name_patients(["A", "B"])
    '2 patients: A, B'
    >>> name_patients([str(i) for i in range(12)])
    '12 patients: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    named = ", ".join(
        patient if len(patient) <= 40 else patient[:37] + "..."
        for patient in patients[:NAMED_PATIENTS]
    )
    total = len(patients) if count is None else count
    more = total - min(len(patients), NAMED_PATIENTS)
    tail = f" and {more} more" if more > 0 else ""
    return f"{total} patient{'s' if total != 1 else ''}: {named}{tail}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known names nearest to a misspelt one.

    Parameters
    ----------
    name
        The name that was not found.
    known
        The names that exist.

    Returns
    -------
    str
        A sentence that lists the nearest names, or all when none is near.

    Examples
    --------
    >>> nearest("os_month", ["os_months", "died"])
    'Nearest: os_months.'
    """
    names = [str(item) for item in known]
    matches = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    if matches:
        return f"Nearest: {', '.join(matches)}."
    if not names:
        return "There are none."
    shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"There are: {shown}."


def unknown_phase(role: str, name: str, phases: Iterable[str]) -> str:
    """Say that a question names a phase that there is not.

    Parameters
    ----------
    role
        Which of the question's phases it is.
    name
        The name.
    phases
        The phases there are.

    Returns
    -------
    str
        The problem, the nearest names, and what was expected.

    Examples
    --------
    >>> unknown_phase("exposed", "maintenence", ["consolidation", "maintenance"])
    "exposed: the cohort has no phase 'maintenence'. Nearest: maintenance. Expected a phase."
    """
    hint = " or 'entry'" if role == "eligible_from" else ""
    found = f"{role}: the cohort has no phase '{name}'."
    return f"{found} {nearest(name, phases)} Expected a phase{hint}."


def unknown_endpoint(name: str, endpoints: Iterable[str]) -> str:
    """Say that a question names an endpoint that there is not.

    Parameters
    ----------
    name
        The name.
    endpoints
        The endpoints there are.

    Returns
    -------
    str
        The problem, and the nearest names.

    Examples
    --------
    >>> unknown_endpoint("oss", ["os", "rfs"])
    "endpoints: the cohort has no endpoint 'oss'. Nearest: os."
    """
    return f"endpoints: the cohort has no endpoint '{name}'. {nearest(name, endpoints)}"
