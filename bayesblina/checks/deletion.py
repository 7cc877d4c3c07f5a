"""Which patients an answer hangs on: each left out in turn, without fitting again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.checks.pointwise import log_likelihoods, profiles, smoothed
from bayesblina.core.errors import EstimandError, SpecError, require_kind
from bayesblina.estimands.draws import state_of
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort

GOOD_K = 0.7


def influence(fit: Fit) -> xr.Dataset:
    """How far the answer would move without each patient.

    Parameters
    ----------
    fit
        The fit.

    Returns
    -------
    xarray.Dataset
        ``change`` over (endpoint, patient): mean log hazard ratio without the patient less that
        with all; ``change_probability``, the same of P(HR < 1); ``pareto_k`` over patient, above
        0.7 not to be relied on (`loo` fits those again). Patients of the fit, in its
        order; a patient is left out of all endpoints at once, with all pieces or copies of the
        follow-up (`bayesblina.weighting.starting_weights`) and the whole weight. The weights of
        the others stay as they are.

    Notes
    -----
    Pareto-smoothed importance sampling: Vehtari, Gelman and Gabry (2017),
    doi:10.1007/s11222-016-9696-4. Case deletion: Bradlow and Zaslavsky (1997),
    doi:10.1080/10618600.1997.10474746.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.influence(fit)["change"].dims
    ('endpoint', 'patient')
    """
    require_kind(fit, Fit, "fit")
    fit.definition.require_hazard("The influence of single patients")
    persons = fit.person_time.persons
    ratios = hazard_ratio(fit)["hazard_ratio"].transpose("endpoint", "chain", "draw")
    logs = np.log(ratios.values).reshape(ratios.sizes["endpoint"], -1)
    below = (logs < 0).astype(np.float64)
    first, profile = profiles(fit.person_time, np.arange(persons.size))
    change, probability = np.empty((2, logs.shape[0], first.size))
    pareto_k = np.empty(first.size)
    for part, values in log_likelihoods(fit, first):
        log_weights, pareto_k[part] = smoothed(values)
        weights = np.exp(log_weights)
        change[:, part] = logs @ weights.T - logs.mean(axis=1, keepdims=True)
        probability[:, part] = below @ weights.T - below.mean(axis=1, keepdims=True)
    dims = ("endpoint", "patient")
    return xr.Dataset(
        {
            "change": (dims, change[:, profile]),
            "change_probability": (dims, probability[:, profile]),
            "pareto_k": ("patient", pareto_k[profile]),
        },
        coords={
            "endpoint": list(fit.person_time.endpoints),
            "patient": persons.ids,
        },
        attrs=state_of(fit),
    )


def most_influential(
    cohort: Cohort, found: xr.Dataset, *, endpoint: str, count: int = 10
) -> pd.DataFrame:
    """Show the rows of the table on which an endpoint's answer hangs most.

    For the analyst, who may see patients: the rows are theirs. Nothing else of the package writes
    them anywhere.

    Parameters
    ----------
    cohort
        The patients that were fitted.
    found
        What `influence` gives.
    endpoint
        Endpoint.
    count
        Number of rows.

    Returns
    -------
    pandas.DataFrame
        One row per patient, the largest change first: ``patient``, ``change``,
        ``change_probability``, ``pareto_k``, ``reliable``; then time, event and entry of the
        endpoint, the start of each phase, and the covariates.

    Raises
    ------
    EstimandError
        If the endpoint is unknown, or patients are not in the cohort.
    SpecError
        If `count` is impossible.
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(found, xr.Dataset, "found")
    names = [str(name) for name in found["endpoint"].values]
    if endpoint not in names:
        raise EstimandError(f"No endpoint '{endpoint}'; there are {', '.join(names)}.")
    if isinstance(count, bool) or count < 1:
        raise SpecError(f"count must be at least 1, got {count!r}.")
    row = {str(patient): index for index, patient in enumerate(cohort.patients)}
    ids = [str(patient) for patient in found["patient"].values]
    if not set(ids) <= set(row):
        raise EstimandError("Some of the patients are not in the cohort: give the one fitted.")
    changes = found.sel(endpoint=endpoint)
    order = np.argsort(-np.abs(changes["change"].values), kind="stable")[:count]
    persons = np.array([row[ids[index]] for index in order])
    columns: dict[str, object] = {"patient": cohort.patients[persons]}
    columns |= {
        name: changes[name].values[order] for name in ("change", "change_probability", "pareto_k")
    }
    columns["reliable"] = changes["pareto_k"].values[order] <= GOOD_K
    if endpoint in cohort.endpoints:
        outcome = cohort.endpoints[endpoint]
        columns |= {
            "time": outcome.time[persons],
            "event": outcome.event[persons],
            "entry": outcome.entry[persons],
        }
    columns |= {
        f"{phase} start": cohort.phase_start[persons, index]
        for index, phase in enumerate(cohort.phases)
    }
    for name, covariate in cohort.covariates.items():
        values = covariate.values[persons]
        if covariate.kind == "categorical":
            columns[name] = np.array(covariate.levels)[values.astype(np.int64)]
        else:
            columns[name] = values
    return pd.DataFrame(columns)
