"""Whose covariates an estimate is averaged over: the eligible, supplied patients, subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.cohort import Cohort
from bayesblina.errors import EstimandError, nearest
from bayesblina.exposure import CovariateTerms, Exposure
from bayesblina.hazards.effects import Design
from bayesblina.hazards.likelihood import flat_draws

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# A cohort whose patients' covariates are averaged over, or the covariates of one patient.
Population = Cohort | Mapping[str, str | float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Patients whose estimate is averaged.

    Attributes
    ----------
    label
        The subgroup; empty for everybody.
    terms : ndarray, shape (pattern, term)
        Their covariate terms, as in the exposure's ``design``.
    weight : ndarray, shape (pattern,)
        Share of the patients; sums to 1.
    """

    label: str
    terms: Floats
    weight: Floats

    def relative(self, posterior: xr.Dataset, design: Design, *, endpoint: str) -> Floats:
        """Work out hazards relative to mean covariates.

        Parameters
        ----------
        posterior
            Draws.
        design
            How terms are standardised.
        endpoint
            Endpoint.

        Returns
        -------
        ndarray, shape (draws, pattern)
            Relative hazards.
        """
        if not design.term_names:
            sizes = posterior.sizes
            return np.ones((sizes["chain"] * sizes["draw"], self.weight.size))
        slope = flat_draws(posterior.sel(endpoint=endpoint), "coefficient", "term")
        return np.asarray(np.exp(slope @ ((self.terms - design.centre) / design.scale).T))


def eligible_groups(
    exposure: Exposure, at_risk: Bools, *, by: str | None, endpoint: str
) -> list[Group]:
    """Group the eligible patients at risk.

    Parameters
    ----------
    exposure
        Events and person-time.
    at_risk : ndarray of bool, shape (patient,)
        Who is at risk at the landmark.
    by
        Categorical covariate to group by; None for one group.
    endpoint
        Endpoint, for the message.

    Returns
    -------
    list of Group
        In the order of the covariate's levels.

    Raises
    ------
    EstimandError
        If there is no such covariate, or nobody of a level is at risk.
    """
    design = exposure.table["design"].values
    patients = np.bincount(
        exposure.people["pattern"].values[at_risk], minlength=design.shape[0]
    ).astype(np.float64)
    return _split(exposure, design, patients, by=by, where=f"{endpoint}: at the landmark")


def supplied_groups(
    exposure: Exposure, population: Population, *, by: str | None
) -> tuple[list[Group], str]:
    """Group supplied patients by their covariates.

    Parameters
    ----------
    exposure
        Events and person-time that the model was fitted to.
    population
        A cohort, or the covariates of one patient.
    by
        Categorical covariate to group by; None for one group.

    Returns
    -------
    groups : list of Group
        In the order of the covariate's levels.
    description : str
        Who they are, and how many lie outside the range of the patients that were fitted.

    Raises
    ------
    EstimandError
        If covariates of the model are missing, unknown or have levels that the model has not seen.
    """
    known = exposure.covariates
    names = [covariate.name for covariate in known]
    if isinstance(population, Cohort):
        values = {}
        for covariate in known:
            found = population.covariates.get(covariate.name)
            if found is None:
                raise EstimandError(
                    f"The population has no covariate '{covariate.name}', which is in the model. "
                    f"{nearest(covariate.name, list(population.covariates))}"
                )
            if found.kind != covariate.kind:
                raise EstimandError(
                    f"'{covariate.name}' is {found.kind} in the population and {covariate.kind} "
                    "in the model."
                )
            values[covariate.name] = (
                np.asarray(found.levels, dtype=object)[found.values.astype(np.int64)]
                if found.kind == "categorical"
                else found.values
            )
        size, who = population.size, f"{population.size} supplied patients"
    elif isinstance(population, Mapping):
        for name in population:
            if name not in names:
                raise EstimandError(
                    f"The model has no covariate '{name}'. {nearest(str(name), names)}"
                )
        missing = [name for name in names if name not in population]
        if missing:
            raise EstimandError(f"Give the patient's {', '.join(missing)} too: the model has it.")
        values = {name: np.array([population[name]], dtype=object) for name in names}
        size = 1
        who = "a patient with " + ", ".join(f"{name} {population[name]}" for name in names)
    else:
        raise EstimandError(
            "population must be a Cohort or a mapping of covariates to one patient's values, got "
            f"{type(population).__name__}."
        )
    columns: dict[str, Floats] = {}
    outside = np.zeros(size, dtype=bool)
    for covariate in known:
        outside |= _add_terms(columns, covariate, values[covariate.name])
    terms = [str(name) for name in exposure.table["term"].values]
    matrix = np.stack([columns[name] for name in terms], axis=1) if terms else np.zeros((size, 0))
    if outside.any():
        who += f" ({int(outside.sum())} outside the range of the patients fitted)"
    unique, count = np.unique(matrix, axis=0, return_counts=True)
    if not terms:
        unique, count = np.zeros((1, 0)), np.array([size])
    groups = _split(exposure, unique, count.astype(np.float64), by=by, where="the population")
    return groups, who


def _add_terms(
    columns: dict[str, Floats], covariate: CovariateTerms, values: NDArray[np.generic]
) -> Bools:
    """Add a covariate's terms; say which values lie outside what was fitted."""
    name = covariate.name
    if covariate.kind == "categorical":
        labels = [str(value) for value in np.unique(values.astype(str))]
        unknown = [label for label in labels if label not in covariate.levels]
        if unknown:
            raise EstimandError(
                f"{name}: the model has seen no patient with '{unknown[0]}'; its levels are "
                f"{', '.join(covariate.levels)}."
            )
        for level in covariate.levels[1:]:
            columns[f"{name}[{level}]"] = (values.astype(str) == level).astype(np.float64)
        return np.zeros(values.size, dtype=bool)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise EstimandError(f"{name} must be a number, got {values[0]!r}.") from None
    if not np.isfinite(numbers).all():
        raise EstimandError(f"{name} must be finite.")
    low, high = covariate.low, covariate.high
    if low == high and (numbers != low).any():
        raise EstimandError(
            f"{name} is {low:g} in every patient fitted: the model knows nothing of other values."
        )
    columns[name] = numbers
    return np.asarray((numbers < low) | (numbers > high))


def _split(
    exposure: Exposure, terms: Floats, patients: Floats, *, by: str | None, where: str
) -> list[Group]:
    """Split patterns into groups by a categorical covariate."""
    if by is None:
        return [_group("", terms, patients)]
    if not isinstance(by, str):
        raise EstimandError(f"by must be the name of one covariate, got {by!r}.")
    categorical = {
        covariate.name: covariate
        for covariate in exposure.covariates
        if covariate.kind == "categorical"
    }
    if by not in categorical:
        raise EstimandError(
            f"by: no categorical covariate '{by}' in the model. {nearest(by, list(categorical))}"
        )
    names = [str(name) for name in exposure.table["term"].values]
    levels = categorical[by].levels
    level = np.zeros(terms.shape[0], dtype=np.int64)
    for index, name in enumerate(levels[1:], start=1):
        level[terms[:, names.index(f"{by}[{name}]")] == 1.0] = index
    groups = []
    for index, name in enumerate(levels):
        counted = np.where(level == index, patients, 0.0)
        if not counted.any():
            raise EstimandError(f"{where}: nobody has {by} '{name}', so there is no average.")
        groups.append(_group(name, terms, counted))
    return groups


def _group(label: str, terms: Floats, patients: Floats) -> Group:
    used = np.flatnonzero(patients)
    return Group(label=label, terms=terms[used], weight=patients[used] / patients.sum())
