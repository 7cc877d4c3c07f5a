"""Patients grouped by their covariates, exactly or over the nodes of compressed covariates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.compression import Compression, node_grid


@dataclass(frozen=True, slots=True, kw_only=True)
class CovariateTerms:
    """A covariate of the patients used.

    `name`, `kind`: its name; ``"categorical"`` or ``"continuous"``.
    `levels`: levels that occur among them, the reference first; each other has the term
    ``name[level]``. Empty for a continuous covariate.
    `low`, `high`: range of a continuous covariate; 0 for a categorical one.
    """

    name: str
    kind: Literal["categorical", "continuous"]
    levels: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """Covariate terms of groups of patients.

    `names`: terms that vary.
    `continuous`: which of them are continuous covariates.
    `design`, shape (group, term): raw terms: numbers, and indicators of levels other than the first
    that occurs.
    """

    names: tuple[str, ...]
    continuous: tuple[bool, ...]
    design: Floats


def describe_covariates(cohort: Cohort, used: Ints) -> list[CovariateTerms]:
    """Say what values the covariates have among the patients used."""
    described = []
    for name, covariate in cohort.covariates.items():
        values = covariate.values[used]
        if covariate.kind == "continuous":
            low, high = float(values.min()), float(values.max())
            described.append(CovariateTerms(name=name, kind="continuous", low=low, high=high))
        else:
            present = np.flatnonzero(
                np.bincount(values.astype(np.int64), minlength=len(covariate.levels))
            )
            levels = tuple(covariate.levels[int(index)] for index in present)
            described.append(CovariateTerms(name=name, kind="categorical", levels=levels))
    return described


def terms_of(
    covariates: Sequence[CovariateTerms], values: Mapping[str, NDArray[np.generic]], *, size: int
) -> Terms:
    """Make terms of covariates.

    Terms that do not vary among the patients used are left out.

    `values`, shape (group,): by covariate: numbers, or names of levels.
    """
    columns: list[Floats] = []
    names: list[str] = []
    continuous: list[bool] = []
    for covariate in covariates:
        if covariate.kind == "continuous":
            if covariate.high > covariate.low:
                columns.append(np.asarray(values[covariate.name], dtype=np.float64))
                names.append(covariate.name)
                continuous.append(True)
            continue
        for level in covariate.levels[1:]:
            columns.append((values[covariate.name] == level).astype(np.float64))
            names.append(f"{covariate.name}[{level}]")
            continuous.append(False)
    return Terms(
        names=tuple(names),
        continuous=tuple(continuous),
        design=np.stack(columns, axis=1) if columns else np.zeros((size, 0)),
    )


def levels_of_codes(
    covariates: Sequence[CovariateTerms], codes: Ints
) -> dict[str, NDArray[np.generic]]:
    """Look up the levels that numbers of combinations stand for.

    `covariates`: the covariates; only categorical ones are looked at, the last one varies fastest.
    `codes`, shape (group,): numbers of combinations of their levels.
    Result, shape (group,): by covariate.
    """
    values: dict[str, NDArray[np.generic]] = {}
    for covariate in reversed(covariates):
        if covariate.kind == "categorical":
            size = max(len(covariate.levels), 1)
            values[covariate.name] = np.asarray(covariate.levels)[codes % size]
            codes = codes // size
    return values


def groups_of_codes(
    covariates: Sequence[CovariateTerms], codes: Ints
) -> tuple[list[CovariateTerms], Terms, Ints]:
    """Group the combinations of levels that occur among patients.

    `codes`, shape (code,): numbers of the combinations that occur, as in `levels_of_codes`.
    Result: `terms`: of each group; continuous covariates are 0.
    `group`, shape (code,): group of each combination.
    """
    values = levels_of_codes(covariates, codes)
    described = []
    for covariate in covariates:
        if covariate.kind == "categorical":
            seen = set(values[covariate.name].tolist())
            described.append(
                replace(covariate, levels=tuple(x for x in covariate.levels if x in seen))
            )
        else:
            values[covariate.name] = np.zeros(codes.size)
            described.append(covariate)
    terms = terms_of(described, values, size=codes.size)
    design, group = unique_rows(terms.design)
    return described, replace(terms, design=design), group


def covariate_patterns(
    cohort: Cohort, used: Ints, *, by_patient: bool = False
) -> tuple[Ints, Terms]:
    """Group patients by their covariates.

    Result: `pattern`, shape (patient,): pattern of each patient used.
    """
    values = {
        name: covariate.values[used]
        if covariate.kind == "continuous"
        else np.asarray(covariate.levels)[covariate.values[used].astype(np.int64)]
        for name, covariate in cohort.covariates.items()
    }
    terms = terms_of(describe_covariates(cohort, used), values, size=used.size)
    if by_patient:
        return np.arange(used.size, dtype=np.int64), terms
    design, pattern = unique_rows(terms.design)
    return pattern, Terms(names=terms.names, continuous=terms.continuous, design=design)


def unique_rows(rows: Floats) -> tuple[Floats, Ints]:
    """Find the different rows of a matrix, in the order of their values.

    Result: `unique`, shape (different, column): the different rows.
    `inverse`, shape (n,): which of them each row is.
    """
    if not rows.shape[1]:
        return np.zeros((1, 0)), np.zeros(rows.shape[0], dtype=np.int64)
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    return unique, inverse.reshape(-1).astype(np.int64)


def compressed_terms(categories: Terms, compression: Compression) -> tuple[Terms, Ints]:
    """Cross groups of categorical covariates with the nodes of continuous ones.

    `categories`: terms of each group; those of continuous covariates are not used.
    Result: `node`, shape (pattern,): node of each pattern.
    """
    group, values = node_grid(categories.design.shape[0], compression)
    design = categories.design[group].copy()
    for index, axis in enumerate(compression.axes):
        design[:, categories.names.index(axis.name)] = values[:, index]
    node = np.tile(np.arange(compression.size), categories.design.shape[0])
    return (
        Terms(names=categories.names, continuous=categories.continuous, design=design),
        node,
    )
