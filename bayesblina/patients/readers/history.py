"""Covariates that change over time: a long table, one row for each measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core.errors import SpecError
from bayesblina.patients.readers.columns import NOT_NUMBERS, Columns
from bayesblina.patients.readers.sources import load_table, raise_problems, require_columns


def read_history(
    table: str | PathLike[str] | Any,
    *,
    patient: str,
    time: str,
    covariates: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read covariates that change over time, for a model of who starts a phase.

    Parameters
    ----------
    table
        A DataFrame, or the path of a file that `bayesblina.read_cohort` reads.
    patient
        Column of the patients' ids, those of the cohort.
    time
        Column of the times, in the cohort's unit from its origin, from which on values hold; may
        be negative.
    covariates
        Columns of numbers; by default all others.

    Returns
    -------
    pandas.DataFrame
        Columns ``patient``, ``time`` and the covariates, one row per row of the table: what
        `bayesblina.weighting.starting_weights` and `bayesblina.weighting.clone_censor_weight` take
        as ``history``.

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column, or holds anything but finite numbers.
    SpecError
        If there is no covariate.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"id": ["a", "a"], "month": [0, 2], "blasts": ["10", "60"]})
    >>> read_history(table, patient="id", time="month")["blasts"].tolist()
    [10.0, 60.0]
    """
    frame, source = load_table(table)
    return checked_history(frame, patient=patient, time=time, covariates=covariates, source=source)


def checked_history(
    frame: pd.DataFrame,
    *,
    patient: str,
    time: str,
    covariates: Sequence[str] | None = None,
    source: str,
) -> pd.DataFrame:
    """Read the columns of a table of covariates that change over time, or refuse it."""
    if isinstance(covariates, str):
        raise SpecError("covariates must be a list of columns, not one string.")
    labels: list[Any] = list(frame.columns)
    odd = [name for name in labels if not isinstance(name, str)]
    if odd:
        raise SpecError(f"The history's columns need names that are text, got {odd[0]!r}.")
    others = [name for name in frame.columns if name not in (patient, time)]
    names = others if covariates is None else list(covariates)
    if not names:
        raise SpecError("A history needs at least one covariate beside the patient and the time.")
    taken = (patient, time, "patient", "time")
    twice = [name for name in names if name in taken or names.count(name) > 1]
    if twice:
        raise SpecError(f"The history's column '{twice[0]}' has two roles, or the name of another.")
    require_columns(frame, [patient, time, *(covariates or ())], source)
    columns = Columns(frame, patient, numbers=np.arange(1, len(frame) + 1))
    values = {"patient": columns.ids, "time": columns.numbers(time)}
    values |= {name: columns.numbers(name) for name in names}
    columns.report(patient, columns.ids == "", "missing ids", "Every row needs its patient.")
    unreadable = {problem.column for problem in columns.problems}
    for column, key in ((time, "time"), *((name, name) for name in names)):
        if column not in unreadable:
            columns.report(
                column,
                ~np.isfinite(values[key]),
                "values that are missing or infinite",
                "Every row needs a time and a number for each covariate.",
            )
    recode = "Code the levels of a category as 0 and 1."
    raise_problems(
        [
            replace(problem, expected=f"{problem.expected} {recode}")
            if problem.found.startswith(NOT_NUMBERS)
            else problem
            for problem in columns.problems
        ],
        source,
    )
    return pd.DataFrame(values)
