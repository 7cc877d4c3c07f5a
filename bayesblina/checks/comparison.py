"""Models compared by how well they predict patients whom they have not seen, by folds or singly."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesblina.checks.pointwise import predicted, weights_of_patients
from bayesblina.checks.prediction import (
    LEAVE_ONE_OUT,
    Prediction,
    held_out,
    loo,
    prediction_of,
    standard_error,
)
from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import (
    DataError,
    Problem,
    SpecError,
    nearest,
    require_kind,
    require_seed,
)
from bayesblina.estimands.draws import episodes_of
from bayesblina.hazards.build import build_model
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.effects import levels_of
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.question import Question

STACKING_STEPS = 20_000
STACKING_PRECISION = 1e-10


def compare(
    predictions: Mapping[str, Fit | Prediction], *, endpoint: str | None = None
) -> pd.DataFrame:
    """Compare models by the log predictive density of patients left out.

    Patients are aligned by their ids. The log-likelihood is that of patients, not of rows, so that
    models may have different cut points.

    Parameters
    ----------
    predictions
        By label: fits, for which Pareto-smoothed importance sampling leaves out one patient at a
        time (`loo`), or what `loo` and `k_fold` give.
    endpoint
        Compare by one endpoint; by default by all together. Only for fits.

    Returns
    -------
    pandas.DataFrame
        The best first: ``model``, ``rank``, ``elpd``, ``se``, ``elpd_difference`` (to the best) and
        ``se_difference``, paired over patients, ``p_loo``, ``weight`` (stacking),
        ``largest_pareto_k``, ``patients_above_limit``, ``reliable``, ``converged``. Differences
        of less than about 4, or less than twice their standard error, tell little.

    Raises
    ------
    SpecError
        If there are fewer than two, or what is compared differs: patients, their follow-up, time
        unit, endpoints, or who is left out at a time.
    EstimandError
        If a fit has no such endpoint.

    Notes
    -----
    Vehtari, Gelman and Gabry (2017), doi:10.1007/s11222-016-9696-4; stacking: Yao et al. (2018),
    doi:10.1214/17-BA1091.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fits = {
    ...     name: bb.fit(cohort, question, model=name, seed=1, progress=False)
    ...     for name in ("primary", "weibull")
    ... }
    >>> sorted(bb.compare(fits)["model"])
    ['primary', 'weibull']
    """
    require_kind(predictions, Mapping, "predictions")
    if len(predictions) < 2:
        raise SpecError("compare needs at least two models.")
    if endpoint is not None and not all(
        isinstance(prediction, Fit) for prediction in predictions.values()
    ):
        raise SpecError("endpoint is for fits; give it to loo or k_fold instead.")
    of_label = {
        str(label): loo(prediction, endpoint=endpoint)
        if isinstance(prediction, Fit)
        else prediction
        for label, prediction in predictions.items()
    }
    first_label, first = next(iter(of_label.items()))
    order = np.sort(first.elpd["patient"].values.astype(str))
    for label, other in of_label.items():
        _require_same(first_label, first, label, other, order)
    elpd = np.stack([each.elpd.sel(patient=order).values for each in of_label.values()], axis=1)
    total, weights = elpd.sum(axis=0), stacking_weights(elpd)
    differences = elpd - elpd[:, [int(total.argmax())]]
    rows = [
        {
            "model": label,
            "elpd": float(total[index]),
            "se": standard_error(elpd[:, index]),
            "elpd_difference": float(differences[:, index].sum()),
            "se_difference": standard_error(differences[:, index]),
            "p_loo": prediction.effective,
            "weight": float(weights[index]),
            "largest_pareto_k": float(prediction.pareto_k.max()),
            "patients_above_limit": prediction.above,
            "reliable": prediction.reliable,
            "converged": prediction.converged,
        }
        for index, (label, prediction) in enumerate(of_label.items())
    ]
    table = pd.DataFrame(rows).sort_values("elpd", ascending=False, ignore_index=True)
    table.insert(1, "rank", np.arange(1, len(table) + 1))
    table.attrs |= {
        "scheme": first.scheme,
        "endpoints": ", ".join(first.endpoints),
        "unit": first.unit,
        "patients": order.size,
        "synthetic": int(first.synthetic),
    }
    return table


def _require_same(
    first_label: str, first: Prediction, label: str, other: Prediction, order: NDArray[np.str_]
) -> None:
    both = f"'{first_label}' and '{label}'"
    for words, own, its in (
        ("time units", first.unit, other.unit),
        ("endpoints", first.endpoints, other.endpoints),
        ("ways of leaving patients out", first.scheme, other.scheme),
    ):
        if own != its:
            raise SpecError(f"{both} have different {words}: {own} and {its}.")
    if first.starts_until != other.starts_until:
        raise SpecError(
            f"{both} differ in until when phases may start (starts_until), and so in what is "
            "predicted, starts or not: which mechanism holds, no comparison of predictions tells."
        )
    patients = np.sort(other.elpd["patient"].values.astype(str))
    if not np.array_equal(patients, order):
        apart = np.setxor1d(patients, order).size
        raise SpecError(
            f"{both} predict different patients: {apart} are in one of them only. Fit both to the "
            "same cohort with the same question."
        )
    mine, others = (part.follow_up.reindex(order.tolist()) for part in (first, other))
    if not np.allclose(mine["weight"], others["weight"], rtol=1e-9):
        raise SpecError(
            f"{both} weigh patients differently: a difference between them would be one of "
            "weights. Fit both with the same ones."
        )
    differs = ~np.isclose(mine.to_numpy(float), others.to_numpy(float), rtol=1e-9, equal_nan=True)
    if differs.any():
        raise SpecError(
            f"{both} predict different follow-up of {int(differs.any(axis=1).sum())} patients: "
            "fit both with the same question (landmark, lag, transplant)."
        )


def stacking_weights(elpd: Floats) -> Floats:
    """Weights of the mixture of predictive distributions that predicts best.

    `elpd`, shape (patient, model): log predictive densities.
    Result, shape (model,): weights from 0 to 1 that add up to 1.

    The mean log score is concave in the weights; each step is that of expectation-maximisation,
    which never lowers it.
    """
    density = np.exp(elpd - elpd.max(axis=1, keepdims=True))
    weights = np.full(elpd.shape[1], 1.0 / elpd.shape[1])
    for _ in range(STACKING_STEPS):
        share = weights * density
        updated = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(updated - weights).max() < STACKING_PRECISION:
            break
        weights = updated
    return np.asarray(weights)


def k_fold(
    cohort: Cohort,
    question: Question,
    *,
    model: str | ModelDefinition = "primary",
    seed: int,
    folds: int = 10,
    by: str | None = None,
    endpoint: str | None = None,
    cuts: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    settings: SamplerSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Predict patients by folds: fit without each fold, and predict it.

    Cut points and what the prior takes from data (the crude rate, the standardisation) are those
    of all patients in every fold, as they are where patients are left out by reweighting.

    Parameters
    ----------
    cohort, question, cuts, weights
        As for `bayesblina.fit`.
    model
        The model.
    seed
        Seed of the folds and of the draws.
    folds
        Number of folds; patients with events and exposed ones are spread evenly over them. As many
        as patients leaves out one at a time, exactly.
    by
        Covariate whose levels are the folds instead, such as a site: patients of a level are
        predicted from those of the others.
    endpoint
        Endpoint; None for all together.
    settings
        How long each fit is sampled.
    progress
        Called with the number of folds done and that of all.

    Returns
    -------
    Prediction
        By patient; to be compared with others of the same folds.

    Raises
    ------
    SpecError
        If the folds or the covariate are impossible.
    DataError
        If a fold leaves nobody exposed or no events to fit to.
    EstimandError
        If there is no such endpoint, or weights vary during a patient's follow-up.
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    require_seed(seed)
    definition = model if isinstance(model, ModelDefinition) else load_model(model)
    definition.require_hazard("Prediction of patients who are left out")
    settings = settings or SamplerSettings()
    person_time = person_time_for(definition, cohort, question, cuts=cuts, weights=weights)
    used = predicted(person_time, definition, endpoint)
    weights_of_patients(person_time, used)
    member, scheme = _folds(person_time, folds=folds, by=by, seed=seed)
    built = build_model(definition, person_time)
    count = int(member.max()) + 1
    elpd = np.zeros(member.size)
    converged = True
    for fold in range(count):
        out = np.flatnonzero(member == fold)
        _require_rest(person_time, (member != fold)[person_time.persons.of], question, fold=fold)
        elpd[out], passed = held_out(built, person_time, out, endpoint, settings, seed + 1 + fold)
        converged &= passed
        if progress is not None:
            progress(fold + 1, count)
    return prediction_of(
        person_time,
        endpoint,
        used,
        elpd=elpd[used],
        pareto_k=np.zeros(used.size),
        limit=1.0,
        effective=float("nan"),
        scheme=scheme,
        converged=converged,
    )


def _folds(person_time: PersonTime, *, folds: int, by: str | None, seed: int) -> tuple[Ints, str]:
    """Fold of each patient, and what the folds are."""
    people, persons = person_time.people, person_time.persons
    size = persons.size
    if by is not None:
        categorical = [
            covariate.name
            for covariate in person_time.covariates
            if covariate.kind == "categorical"
        ]
        if by not in categorical:
            raise SpecError(f"by: no categorical covariate '{by}'. {nearest(by, categorical)}")
        levels, level = levels_of(person_time, by, person_time.table["design"].values)
        if len(levels) < 2:
            raise SpecError(f"by: all eligible patients have {by} '{levels[0]}'.")
        member = np.empty(size, dtype=np.int64)
        member[persons.of] = level[people["category"].values]
        return member, f"folds by {by}"
    if not 2 <= folds <= size:
        raise SpecError(f"folds must be from 2 to the {size} patients, got {folds!r}.")
    if folds == size:
        return np.arange(size), LEAVE_ONE_OUT
    episodes, role = person_time.episodes, person_time.table["role"].values
    inside = role[episodes["phase"].values] == "exposed"
    exposed = np.isin(np.arange(size), persons.of[episodes["patient"].values[inside]])
    events = np.bincount(persons.of, people["event"].values.sum(axis=0), minlength=size)
    shuffled = np.random.default_rng(seed).permutation(size)
    # Neighbours in this order are alike, and go to different folds.
    order = shuffled[np.lexsort((events[shuffled], exposed[shuffled]))]
    return np.argsort(order) % folds, f"{folds} folds of patients, seed {seed}"


def _require_rest(
    person_time: PersonTime, kept: NDArray[np.bool_], question: Question, *, fold: int
) -> None:
    """Raise unless there is something to fit to without a fold."""
    role = person_time.table["role"].values
    for index, name in enumerate(person_time.endpoints):
        patient, state, _, _ = episodes_of(person_time, index)
        events = bool((person_time.people["event"].values[index] & kept).any())
        if not events or not {"exposed", "reference"} <= set(role[state[kept[patient]]]):
            raise DataError(
                [
                    Problem(
                        column=name,
                        found=f"without fold {fold + 1} there are no events, or nobody is in or "
                        f"outside {question.exposure}",
                        expected="Take more folds of patients, or other levels.",
                    )
                ],
                source="the folds",
            )
