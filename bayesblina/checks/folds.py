"""Patients predicted by folds: fits without each fold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesblina.checks.pointwise import contributing, current, weights_of_patients
from bayesblina.checks.prediction import LEAVE_ONE_OUT, Prediction, held_out, prediction_of
from bayesblina.core.arrays import Ints
from bayesblina.core.errors import (
    DataError,
    Problem,
    SpecError,
    nearest,
    require_kind,
    require_seed,
)
from bayesblina.estimands.support import episodes_of
from bayesblina.hazards.build import build_model
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.effects import levels_of
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.question import Question


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
    used = contributing(person_time, endpoint)
    mine = current(person_time, definition)
    if mine is not None:
        used = used[mine[used]]
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
    member = np.empty(size, dtype=np.int64)
    member[order] = np.arange(size) % folds
    return member, f"{folds} folds of patients, seed {seed}"


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
                        f"outside {question.exposed}",
                        expected="Take more folds of patients, or other levels.",
                    )
                ],
                source="the folds",
            )
