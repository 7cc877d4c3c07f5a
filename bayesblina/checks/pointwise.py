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

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import EstimandError, nearest
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, levels_of
from bayesblina.hazards.likelihood import patient_log_likelihood, total_log_likelihood
from bayesblina.hazards.parts import PatientFrailty
from bayesblina.inference.convergence import ess_mean
from bayesblina.inference.fitting import Fit
from bayesblina.inference.monte_carlo import smooth_tails
from bayesblina.person_time.cells import PersonTime

# Numbers held at once: draws x patients.
BLOCK = 20_000_000
# Above this many patients a sample of them is left out, and stands for the others.
LARGEST = 20_000
SAMPLE = 2000


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
    place = np.full(held.people.sizes["patient"], -1, dtype=np.int64)
    place[rows] = np.arange(rows.size)
    for index in range(len(person_time.endpoints)):
        columns += [np.nan_to_num(people[key].values[index], nan=-1.0) for key in ("begin", "exit")]
        columns.append(people["event"].values[index].astype(np.float64))
        episodes = held.episodes.isel(episode=held.episodes["endpoint"].values == index)
        who = place[episodes["patient"].values]
        mine = who >= 0
        who = who[mine]
        if not who.size:
            continue
        # Number of each episode among its patient's own.
        number = pd.Series(who).groupby(who).cumcount().to_numpy()
        for key in ("phase", "start"):
            marks = np.full((rows.size, int(number.max()) + 1), -1.0)
            marks[who, number] = episodes[key].values[mine]
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
    sizes = fit.posterior.sizes
    step = max(1, BLOCK // (sizes["chain"] * sizes["draw"]))
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
    flat = values.reshape(-1, values.shape[2]).T
    return smooth_tails(-flat, efficiency=efficiencies(values))


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
    fit.definition.require_hazard("Prediction of patients who are left out")
    rows = predicted(fit, endpoint) if rows is None else rows
    counted = weights_of_patients(fit.person_time, rows)
    first, profile = profiles(fit.person_time, rows)
    place = np.empty(first.size, dtype=np.int64)
    place[profile] = np.arange(rows.size)
    elpd, lpd, pareto_k = (np.empty(first.size) for _ in range(3))
    for part, values in log_likelihoods(fit, first, endpoint=endpoint):
        log_weights, pareto_k[part] = smoothed(values)
        weight = counted[place[part]]
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


def current(person_time: PersonTime, definition: ModelDefinition) -> Bools | None:
    """Say who is of the current study; None where a model does not borrow."""
    if definition.borrowing is None:
        return None
    _, source = levels_of(
        person_time, definition.borrowing.source, person_time.table["design"].values
    )
    persons, category = person_time.persons, person_time.patients().people["category"].values
    is_current = np.zeros(persons.size, dtype=bool)
    is_current[persons.of] = source[category] == 0
    return is_current


def predicted(fit: Fit, endpoint: str | None) -> Ints:
    """Find the positions of those who are predicted: contributors of the current study."""
    rows = contributing(fit.person_time, endpoint)
    mine = current(fit.person_time, fit.definition)
    return rows if mine is None else rows[mine[rows]]


def has_total(fit: Fit) -> bool:
    """Say whether the log-likelihood of all patients follows from events and person-time.

    Not where some are cured or single patients have effects.
    """
    alone = isinstance(fit.definition.groups, PatientFrailty)
    return not alone and fit.definition.cure is None


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
    rows = predicted(fit, endpoint)
    everybody = person_time.complete and (rows.size <= LARGEST or borrows or not has_total(fit))
    patients = rows.size
    if not person_time.complete:
        counts = person_time.table["contributors"]
        patients = person_time.size if endpoint is None else int(counts.sel(endpoint=endpoint))
    elif not everybody:
        rows = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
    predicted_patients = pointwise(fit, endpoint=endpoint, rows=rows)
    left_out = LeaveOneOut(
        patients=patients,
        evaluated=rows.size,
        elpd=float(predicted_patients.elpd.sum()),
        se=float(np.sqrt(patients) * predicted_patients.elpd.std(ddof=1)),
        sampling_se=0.0,
        p_loo=float(predicted_patients.lpd.sum() - predicted_patients.elpd.sum()),
        largest_pareto_k=float(predicted_patients.pareto_k.max()),
        limit=predicted_patients.limit,
        above_limit=int((predicted_patients.pareto_k > predicted_patients.limit).sum()),
    )
    if everybody:
        return left_out
    # Posterior means of the parameters, as one draw.
    middle = fit.posterior.mean(("chain", "draw")).expand_dims(chain=[0], draw=[0])
    at_middle = of_patients(middle, person_time, fit.design, rows, endpoint).reshape(-1)
    total = total_log_likelihood(middle, person_time, fit.design, endpoint=endpoint)[0]
    difference = predicted_patients.elpd - at_middle
    # A finite population is sampled without replacement.
    unseen = max(1.0 - rows.size / patients, 0.0)
    sampling = patients * float(difference.std(ddof=1)) * np.sqrt(unseen / rows.size)
    return replace(
        left_out,
        elpd=float(total + patients * difference.mean()),
        sampling_se=float(sampling),
        p_loo=float(patients * (predicted_patients.lpd - predicted_patients.elpd).mean()),
    )
