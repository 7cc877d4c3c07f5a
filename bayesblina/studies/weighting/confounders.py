"""Confounders of who starts: covariates of the cohort, and such as change over time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import DataError, Problem, SpecError
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.history import checked_history
from bayesblina.patients.readers.sources import load_table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """Values of covariates that change over time, by patient and in the order of time."""

    names: tuple[str, ...]
    patient: Ints
    time: Floats
    values: Floats


def changes_of(cohort: Cohort, history: pd.DataFrame | None, used: Ints, begin: Floats) -> Changes:
    """Read a history; patients `used` need values when they become eligible, at `begin`."""
    if history is None:
        return Changes(
            names=(), patient=np.empty(0, np.int64), time=np.empty(0), values=np.empty((0, 0))
        )
    frame, _ = load_table(history)
    checked = checked_history(frame, patient="patient", time="time", source="the history")
    names = tuple(str(name) for name in checked.columns if name not in ("patient", "time"))
    clash = [name for name in names if name in cohort.covariates]
    if clash:
        raise SpecError(f"'{clash[0]}' is a covariate of the cohort and of the history.")
    patient = pd.Index(cohort.patients).get_indexer(pd.Index(checked["patient"]))
    _refuse(
        "patient",
        checked["patient"][patient < 0].unique(),
        "patients who are not in the cohort",
        "Leave them out.",
    )
    time, values = checked["time"].to_numpy(float), checked[[*names]].to_numpy(float)
    # What differs by floating-point noise from the time of eligibility is measured by then.
    time = np.where(_are_one(time, begin[patient]), begin[patient], time)
    order = np.lexsort((time, patient))
    patient, time, values = patient[order], time[order], values[order]
    twice = _are_one(time[1:], time[:-1]) & (patient[1:] == patient[:-1])
    twice &= (values[1:] != values[:-1]).any(axis=1)
    _refuse(
        "time",
        cohort.patients[np.unique(patient[1:][twice])],
        "different values at one time",
        "Expected one row for each patient and time.",
    )
    _refuse(
        "time",
        cohort.patients[np.setdiff1d(used, patient[time <= begin[patient]])],
        "no values at or before the patient becomes eligible",
        "Give every eligible patient a row at or before that time.",
    )
    return Changes(names=names, patient=patient, time=time, values=values)


def _are_one(left: Floats, right: Floats) -> Bools:
    """Say which times are one, up to floating-point noise."""
    return np.isclose(left, right, rtol=TIE_TOLERANCE, atol=0.0)


def _refuse(column: str, patients: Iterable[object], found: str, expected: str) -> None:
    """Refuse a history that some patients contradict."""
    who = tuple(map(str, patients))
    if who:
        problem = Problem(column=column, patients=who, found=found, expected=expected)
        raise DataError([problem], source="the history")


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
        covariate = cohort.covariates[name]
        if covariate.kind == "continuous":
            columns.append((name, covariate.values[patient], name in adjust))
            continue
        for level in np.unique(covariate.values)[1:]:
            inside = (covariate.values[patient] == level).astype(np.float64)
            columns.append((f"{name}[{covariate.levels[int(level)]}]", inside, name in adjust))
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
    names, values, kept = zip(*columns, strict=True)
    return names, np.stack(values, axis=1), np.array(kept)
