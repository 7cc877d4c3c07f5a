"""Patients left out one at a time: exactly in blocks, or of many patients from a sample.

Nothing here holds draws x patients at once. Patients whose follow-up and covariates are equal are
exchangeable: each such profile is worked out once, and counts as often as there are patients.

Patients are persons. Where the rows of an analysis are pieces or copies of persons, all of a
person's are left out at once, and positions here are those of persons (`PersonTime.persons`).

Weights multiply log-likelihoods in the posterior, so that leaving a patient out takes the patient's
whole weight away. What is predicted is scored once for each unit of weight: a weight times the log
density of the patient's follow-up, which a weight that changes during it does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import EstimandError, nearest, require_at_least, require_kind
from bayesblina.estimands.draws import state_of
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, levels_of
from bayesblina.hazards.likelihood import patient_log_likelihood, total_log_likelihood
from bayesblina.hazards.parts import PatientFrailty
from bayesblina.inference.convergence import ess_mean
from bayesblina.inference.fitting import Fit
from bayesblina.inference.monte_carlo import smooth_tails
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime

# Numbers held at once: draws x patients.
BLOCK = 20_000_000
# Above this many patients a sample of them is left out, and stands for the others.
LARGEST = 20_000
SAMPLE = 2000
GOOD_K = 0.7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pointwise:
    """Patients predicted from all others.

    `rows`, shape (patient,): positions of the patients.
    `elpd`, `lpd`, shape (patient,): log predictive density without the patient, and with.
    `pareto_k`, shape (patient,): how far importance sampling can be relied on.
    `limit`: largest Pareto k that is reliable, for this number of draws.
    """

    rows: Ints
    elpd: Floats
    lpd: Floats
    pareto_k: Floats
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOneOut:
    """Leave-one-out cross-validation of an endpoint.

    `patients`: how many patients there are.
    `evaluated`: how many of them were left out; the others are estimated from these.
    `elpd`, `se`: expected log predictive density of all patients, and its standard error over
    patients.
    `sampling_se`: standard error from evaluating only a sample; 0 without one.
    `p_loo`: effective number of parameters.
    `largest_pareto_k`, `limit`: the largest Pareto k, and the largest that is reliable.
    `above_limit`: how many of the patients evaluated are above it.
    """

    patients: int
    evaluated: int
    elpd: float
    se: float
    sampling_se: float
    p_loo: float
    largest_pareto_k: float
    limit: float
    above_limit: int


def profiles(person_time: PersonTime, rows: Ints) -> tuple[Ints, Ints]:
    """Find patients whose follow-up, events, weights and covariates are equal.

    `rows`, shape (patient,): positions of the patients.
    Result: `first`, shape (profile,): position of a patient of each profile.
    `profile`, shape (patient,): profile of each patient; patients in pieces have each their own.
    """
    if person_time.persons.in_pieces:
        return rows, np.arange(rows.size)
    held = person_time.patients()
    people = held.people.isel(patient=rows)
    columns = [people["weight"].values, people["category"].values.astype(np.float64)]
    if "design" in people:
        columns += list(people["design"].values.T)
    position = np.full(held.people.sizes["patient"], -1, dtype=np.int64)
    position[rows] = np.arange(rows.size)
    for index in range(len(person_time.endpoints)):
        columns += [
            np.nan_to_num(people[key].values[index].astype(np.float64), nan=-1.0)
            for key in ("begin", "exit", "event")
        ]
        here = held.episodes["endpoint"].values == index
        here &= position[held.episodes["patient"].values] >= 0
        episodes = held.episodes.isel(episode=here)
        who = position[episodes["patient"].values]
        # Number of each episode among its patient's own.
        number = pd.Series(who).groupby(who).cumcount().to_numpy()
        for key in ("phase", "start", "gap"):
            marks = np.full((rows.size, int(number.max(initial=-1)) + 1), -1.0)
            marks[who, number] = episodes[key].values
            columns += list(marks.T)
    _, first, profile = np.unique(
        np.stack(columns, axis=1), axis=0, return_index=True, return_inverse=True
    )
    return rows[first], profile.reshape(-1).astype(np.int64)


def log_likelihoods(
    fit: Fit, rows: Ints, *, endpoint: str | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Go through the log-likelihoods of patients, times their weights, some at a time.

    Each block is over (chain, draw, patient).
    """
    step = max(1, BLOCK // (fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]))
    _, person_of = fit.person_time.persons.rows(rows)
    # Patients go with the block in which their last row lies.
    last = np.cumsum(np.bincount(person_of, minlength=rows.size)) - 1
    begins = np.flatnonzero(np.diff(last // step, prepend=-1)).tolist()
    for begin, end in zip(begins, [*begins[1:], rows.size], strict=True):
        yield (
            slice(begin, end),
            of_patients(fit.posterior, fit.person_time, fit.design, rows[begin:end], endpoint),
        )


def of_patients(
    posterior: xr.Dataset, person_time: PersonTime, design: Design, rows: Ints, endpoint: str | None
) -> Floats:
    """Give the log-likelihoods of patients, each with all their pieces, times their weights.

    Over (chain, draw, patient); of all endpoints together where none is given.
    """
    pieces, patient_of = person_time.persons.rows(rows)
    values = patient_log_likelihood(
        posterior, person_time, design, endpoint=endpoint, rows=pieces
    ).values
    if pieces.size == rows.size:
        return np.asarray(values)
    first = np.flatnonzero(np.diff(patient_of, prepend=-1))
    return np.asarray(np.add.reduceat(values, first, axis=2))


def efficiencies(values: Floats) -> Floats:
    """Effective sample sizes of likelihoods over the number of draws.

    `values`, shape (chain, draw, patient): log-likelihoods.
    Result, shape (patient,): of each likelihood's mean, as R's ``loo`` takes them; 1 where there
    are too few draws to tell.
    """
    sizes = ess_mean(np.exp(values - values.max(axis=(0, 1))), split=False)
    return np.where(np.isfinite(sizes), sizes / (values.shape[0] * values.shape[1]), 1.0)


def smoothed(values: Floats) -> tuple[Floats, Floats]:
    """Weigh draws as if patients had been left out: Pareto-smoothed importance sampling.

    `values`, shape (chain, draw, patient): log-likelihoods.
    Result: `log_weights`, shape (patient, chain * draw): normalised.
    `pareto_k`, shape (patient,): shapes of the tails of the weights, which are the longer the less
    efficient the draws of the patient's own likelihood are, as in R's ``loo``.

    Vehtari, Gelman and Gabry (2017), doi:10.1007/s11222-016-9696-4.
    """
    return smooth_tails(-values.reshape(-1, values.shape[2]).T, efficiency=efficiencies(values))


def largest_reliable(draws: int) -> float:
    """Give the largest Pareto k that is reliable.

    Never above 0.7.

    >>> round(largest_reliable(1000), 3), largest_reliable(4000)
    (0.667, 0.7)
    """
    return float(min(1.0 - 1.0 / np.log10(draws), 0.7))


def pointwise(fit: Fit, *, endpoint: str | None = None, rows: Ints | None = None) -> Pointwise:
    """Predict patients from all others, one at a time.

    By patient. Memory does not grow with their number.

    `endpoint`: None for all together.
    `rows`, shape (patient,): positions of the patients; by default all who are predicted.
    """
    if rows is None:
        rows = predicted(fit.person_time, fit.definition, endpoint)
    counted = weights_of_patients(fit.person_time, rows)
    first, profile = profiles(fit.person_time, rows)
    of_profile = np.empty(first.size)
    of_profile[profile] = counted
    elpd, lpd, pareto_k = np.empty((3, first.size))
    for part, values in log_likelihoods(fit, first, endpoint=endpoint):
        log_weights, pareto_k[part] = smoothed(values)
        weight = of_profile[part]
        density = values.reshape(-1, values.shape[2]).T / weight[:, None]
        elpd[part] = weight * logsumexp(log_weights + density, axis=1)
        lpd[part] = weight * (logsumexp(density, axis=1) - np.log(density.shape[1]))
    sizes = fit.posterior.sizes
    return Pointwise(
        rows=rows,
        elpd=elpd[profile],
        lpd=lpd[profile],
        pareto_k=pareto_k[profile],
        limit=largest_reliable(sizes["chain"] * sizes["draw"]),
    )


def weights_of_patients(person_time: PersonTime, rows: Ints) -> Floats:
    """Give each patient's weight, 1 without any."""
    pieces, patient_of = person_time.persons.rows(rows)
    weight = person_time.patients().people["weight"].values[pieces]
    first = weight[np.flatnonzero(np.diff(patient_of, prepend=-1))]
    if not np.allclose(weight, first[patient_of], rtol=1e-9, atol=0.0):
        raise EstimandError(
            "Patients have weights that vary during their follow-up, so that there is no density "
            "of a patient to be weighed, and nothing to compare models by. bayesblina.influence "
            "tells on whom the answer hangs; compare models of the patients without weights."
        )
    return np.asarray(first, dtype=np.float64)


def contributing(person_time: PersonTime, endpoint: str | None) -> Ints:
    """Find the positions of those known who contribute to an endpoint, or to any."""
    names = list(person_time.endpoints)
    if endpoint is not None and endpoint not in names:
        raise EstimandError(f"No endpoint '{endpoint}'. {nearest(endpoint, names)}")
    asked = names if endpoint is None else [endpoint]
    exits = person_time.patients().people["exit"].sel(endpoint=asked).values
    return np.unique(person_time.persons.of[np.isfinite(exits).any(axis=0)])


def predicted(person_time: PersonTime, definition: ModelDefinition, endpoint: str | None) -> Ints:
    """Find the positions of those who are predicted: contributors of the current study."""
    rows = contributing(person_time, endpoint)
    if definition.borrowing is None:
        return rows
    design = person_time.table["design"].values
    _, source = levels_of(person_time, definition.borrowing.source, design)
    current = source[person_time.patients().people["category"].values] == 0
    return np.intersect1d(rows, person_time.persons.of[current])


def has_total(fit: Fit) -> bool:
    """Say whether the log-likelihood of all patients follows from events and person-time.

    Not where some are cured or single patients have effects.
    """
    definition = fit.definition
    return not isinstance(definition.groups, PatientFrailty) and definition.cure is None


def log_likelihood_of(fit: Fit, *, endpoint: str | None = None) -> Floats:
    """Log-likelihood of all patients together, by draw, (chain * draw,)."""
    fit.definition.require_hazard("The likelihood of patients")
    if has_total(fit):
        return total_log_likelihood(fit.posterior, fit.person_time, fit.design, endpoint=endpoint)
    rows = contributing(fit.person_time, endpoint)
    parts = [values.sum(axis=2) for _, values in log_likelihoods(fit, rows, endpoint=endpoint)]
    return np.asarray(np.sum(parts, axis=0).ravel())


def leave_one_out_total(fit: Fit, *, endpoint: str | None = None, seed: int = 0) -> LeaveOneOut:
    """Sum the predictions of all patients, each from all others.

    Up to `LARGEST` patients all are left out. Of more a sample is, and the others are estimated:
    the log-likelihood of everybody at the posterior means of the log hazards, which the sums by
    cell give exactly, and the mean difference to it in the sample.

    `endpoint`: None for all together.

    The difference estimator of Magnusson, Vehtari, Jonasson and Andersen (2020), Proceedings of
    Machine Learning Research 108, 341-351.
    """
    fit.definition.require_hazard("Prediction of patients who are left out")
    person_time = fit.person_time
    borrows = fit.definition.borrowing is not None
    if borrows and not person_time.complete:
        raise EstimandError(
            "Of a model that borrows the current patients are predicted, one by one, but only sums "
            "over patients are known: read them into memory with read_cohort."
        )
    rows = predicted(person_time, fit.definition, endpoint)
    everybody = person_time.complete and (rows.size <= LARGEST or borrows or not has_total(fit))
    patients = rows.size
    if not person_time.complete:
        counts = person_time.table["contributors"]
        patients = person_time.size if endpoint is None else int(counts.sel(endpoint=endpoint))
    elif not everybody:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    by_patient = pointwise(fit, endpoint=endpoint, rows=rows)
    left_out = LeaveOneOut(
        patients=patients,
        evaluated=rows.size,
        elpd=float(by_patient.elpd.sum()),
        se=float(np.sqrt(patients) * by_patient.elpd.std(ddof=1)),
        sampling_se=0.0,
        p_loo=float(by_patient.lpd.sum() - by_patient.elpd.sum()),
        largest_pareto_k=float(by_patient.pareto_k.max()),
        limit=by_patient.limit,
        above_limit=int((by_patient.pareto_k > by_patient.limit).sum()),
    )
    if everybody:
        return left_out
    # Posterior means of the parameters, as one draw.
    middle = fit.posterior.mean(("chain", "draw")).expand_dims(chain=[0], draw=[0])
    at_middle = of_patients(middle, person_time, fit.design, rows, endpoint).reshape(-1)
    total = total_log_likelihood(middle, person_time, fit.design, endpoint=endpoint)[0]
    difference = by_patient.elpd - at_middle
    # A finite population is sampled without replacement.
    unseen = max(1.0 - rows.size / patients, 0.0)
    return replace(
        left_out,
        elpd=float(total + patients * difference.mean()),
        sampling_se=float(patients * float(difference.std(ddof=1)) * np.sqrt(unseen / rows.size)),
        p_loo=float(patients * (by_patient.lpd - by_patient.elpd).mean()),
    )


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
    require_at_least(count, 1, "count")
    cohort = cohort.whole()
    row = {str(patient): index for index, patient in enumerate(cohort.patients)}
    ids = [str(patient) for patient in found["patient"].values]
    if not set(ids) <= set(row):
        raise EstimandError("Some of the patients are not in the cohort: give the one fitted.")
    changes = found.sel(endpoint=endpoint)
    order = np.argsort(-np.abs(changes["change"].values), kind="stable")[:count]
    persons = np.array([row[ids[index]] for index in order])
    columns: dict[str, object] = {
        "patient": cohort.patients[persons],
        "change": changes["change"].values[order],
        "change_probability": changes["change_probability"].values[order],
        "pareto_k": changes["pareto_k"].values[order],
        "reliable": changes["pareto_k"].values[order] <= GOOD_K,
    }
    if endpoint in cohort.endpoints:
        outcome = cohort.endpoints[endpoint]
        columns |= {name: getattr(outcome, name)[persons] for name in ("time", "event", "entry")}
    columns |= {
        f"{phase} start": cohort.phase_start[persons, index]
        for index, phase in enumerate(cohort.phases)
    }
    for name, covariate in cohort.covariates.items():
        values = covariate.values[persons]
        categorical = covariate.kind == "categorical"
        columns[name] = (
            np.array(covariate.levels)[values.astype(np.int64)] if categorical else values
        )
    return pd.DataFrame(columns)
