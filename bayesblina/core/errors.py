"""The errors that bayesblina raises, how problems are worded, and checks of single arguments."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from types import UnionType
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
# What fits into 64 bits: seeds are kept with results, and handed to samplers that take no more.
LARGEST_SEED = 2**63 - 1
# The protocol that both kinds of cohorts fulfil has a name that nobody calls.
NAMES = {"Enrolled": "Cohort", "Real": "a number"}
# What to call for a value of each kind.
MADE_BY = {
    "Account": "cohort.account()",
    "AdverseEvents": "bayesblina.safety.adverse_events",
    "Cohort": "bayesblina.read_cohort",
    "CohortScan": "bayesblina.scan_cohort",
    "DataTree": "bayesblina.priors.power_scaling_draws",
    "Dataset": "bayesblina.hazard_ratio or another of the estimands",
    "PersonTime": "bayesblina.person_time",
    "Fit": "bayesblina.fit",
    "ModelDefinition": "bayesblina.load_model",
    "Prediction": "bayesblina.loo",
    "Mapping": "bayesblina.fit or bayesblina.loo, by name,",
    "Question": "bayesblina.Question",
    "Sensitivity": "bayesblina.sensitivity",
    "StudyDesign": "bayesblina.planning.StudyDesign",
    "tuple": "bayesblina.scenarios",
    "Weighted": "bayesblina.weighting.starting_weights",
}


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
        problem = self.found
        for cell in () if show_ids else self.examples:
            problem = problem.replace(repr(cell), repr(shape_of(cell)))
        who = (
            name_patients(self.patients, count=self.count)
            if show_ids
            else count_patients(len(self.patients), count=self.count, rows=self.rows)
        )
        concerned = f" [{who}]" if self.patients else ""
        return f"{self.column}: {problem}{concerned}. {self.expected}"

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
        return listed(
            [problem.words(show_ids=show_ids).rstrip() for problem in self.problems],
            source=self.source,
        )


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
    head = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in {source}:"
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
        "9" if sign.isdigit() else "A" if sign.isupper() else "a" if sign.isalpha() else sign
        for sign in text
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
    if matches := difflib.get_close_matches(str(name), names, n=3, cutoff=0.6):
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
    return (
        f"{role}: the cohort has no phase '{name}'. {nearest(name, phases)} Expected a phase{hint}."
    )


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


def require_kind(
    value: object, kind: type | UnionType, argument: str, *, made_by: str | None = None
) -> None:
    """Refuse an argument of the wrong kind.

    `made_by`: what to call for it, where the kind alone does not tell.

    >>> require_kind("text", int, "count")
    Traceback (most recent call last):
    TypeError: count: expected int, got str.
    """
    if isinstance(value, kind):
        return
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    names = [NAMES.get(each.__name__, each.__name__) for each in kinds]
    makers = [MADE_BY[name] for name in names if name in MADE_BY] if made_by is None else [made_by]
    hint = f": call {' or '.join(makers)} first" if makers else ""
    raise TypeError(f"{argument}: expected {' or '.join(names)}, got {type(value).__name__}{hint}.")


def require_number(value: object, argument: str) -> float:
    """Read one number.

    >>> require_number("8", "landmark")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: landmark must be a number, got '8'.
    """
    # Python counts true as 1; numpy's truth values are no numbers to it.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SpecError(f"{argument} must be a number, got {value!r}.")
    return float(value)


def require_at_least(value: float, least: int, argument: str) -> None:
    """Refuse a number that is too small, and truth values: Python counts true as 1."""
    if isinstance(value, bool) or value < least:
        raise SpecError(f"{argument} must be at least {least}, got {value!r}.")


def require_choice(
    value: object, choices: Sequence[str], argument: str, *, error: type[Exception] = SpecError
) -> None:
    """Refuse what is none of the words that an argument takes."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise error(f"{argument} must be {', '.join(others)} or {last}, got {value!r}.")


def tail_of(mass: float) -> float:
    """Give the share beyond each end of a central interval that holds a mass."""
    if not 0 < mass < 1:
        raise SpecError(f"mass must lie between 0 and 1, got {mass!r}.")
    return (1.0 - mass) / 2.0


def require_seed(seed: object) -> None:
    """Refuse what is no seed."""
    # True and false are integral, too, and no seeds.
    if not isinstance(seed, bool) and isinstance(seed, Integral):
        if 0 <= int(seed) <= LARGEST_SEED:
            return
        # Thousands of digits are nothing to read, and Python does not write so many.
        got = str(seed) if int(seed).bit_length() < 128 else "one of many more digits"
    else:
        got = repr(seed) if isinstance(seed, str | float | bool | None) else type(seed).__name__
    raise SpecError(f"seed must be a whole number from 0 to 2^63 - 1, got {got}.")


def no_boolean(value: object) -> object:
    """Refuse true and false where a number belongs: Python counts them as 1 and 0.

    >>> no_boolean(True)
    Traceback (most recent call last):
    ValueError: expected a number, got true
    """
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value
