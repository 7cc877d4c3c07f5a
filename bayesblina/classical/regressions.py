"""Cox regressions of the phase: as it changes, ever against never, and from a landmark on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from bayesblina.classical.comparison import Comparison
from bayesblina.core.arrays import Bools
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import snap_to
from bayesblina.core.product_limit import count_at_risk
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import covariate_patterns
from bayesblina.person_time.follow_up import Episodes, roles_of
from bayesblina.person_time.question import Question

COLUMNS = (
    "endpoint",
    "method",
    "adjusted",
    "estimate",
    "lower",
    "upper",
    "patients",
    "events",
    "events_exposed",
    "events_reference",
    "note",
)
NAIVE = "ever against never"
COX = "time-varying Cox"
ADJUSTED = ", adjusted"


def cox(
    cohort: Cohort,
    question: Question,
    *,
    adjusted: bool = False,
    ties: Literal["efron", "breslow"] = "efron",
) -> pd.DataFrame:
    """Hazard ratio of the exposed phase by the Cox model with the phase as it changes.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    adjusted
        Whether the cohort's covariates are in the model.
    ties
        How tied events are handled.

    Returns
    -------
    pandas.DataFrame
        One row per endpoint: ``endpoint``, ``method``, ``estimate`` (the hazard ratio) with
        ``lower`` and ``upper`` (95 %), ``patients``, ``events``, those of the exposed and of the
        reference (``events_exposed``, ``events_reference``), ``adjusted`` and ``note``. The
        estimate is missing, and the note says so, where the partial likelihood has no maximum. A
        covariate that has none, such as a level without events, or that others make up, is named
        in the note and leaves the phase's estimate as it is in the limit, or without it.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> list(bb.cox(cohort, question)["method"].unique())
    ['time-varying Cox']
    """
    comparison = Comparison.of(cohort, question)
    return as_table(
        comparison,
        lambda episodes: [cox_row(comparison, episodes, adjusted=adjusted, ties=ties)],
    )


def ever_never(cohort: Cohort, question: Question, *, adjusted: bool = False) -> pd.DataFrame:
    """Compare those who are ever exposed with those who never are, from the start: the mistake.

    Patients count as exposed before they are, in a time that only those who live on survive
    (immortal time). It is here to be shown beside the others, not to be believed. Time in states
    that are neither exposed nor reference has a hazard of its own, as in `cox`.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    adjusted
        Whether the cohort's covariates are in the model.

    Returns
    -------
    pandas.DataFrame
        The columns of `cox`.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort.

    Notes
    -----
    Suissa (2008), doi:10.1093/aje/kwm324.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> naive, sound = bb.classical.ever_never(cohort, question), bb.cox(cohort, question)
    >>> bool((naive["estimate"] < sound["estimate"]).all())
    True
    """
    comparison = Comparison.of(cohort, question)
    return as_table(
        comparison, lambda episodes: [naive_row(comparison, episodes, adjusted=adjusted)]
    )


def landmark_analysis(
    cohort: Cohort, question: Question, *, landmarks: Sequence[float], adjusted: bool = False
) -> pd.DataFrame:
    """Compare patients at risk at a landmark by the state they are in then, whatever follows.

    Free of immortal time; but those who start later count as not exposed, and what happened before
    the landmark is not used. Patients who are then in a state that is neither exposed nor reference
    have a hazard of their own, and are not compared.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared. Its own landmark, if any, holds too.
    landmarks
        Times of the analyses, one each.
    adjusted
        Whether the cohort's covariates are in the model.

    Returns
    -------
    pandas.DataFrame
        The columns of `cox`, one row per endpoint and landmark.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or a landmark is no time.

    Notes
    -----
    Anderson, Cain and Gelber (1983), doi:10.1200/JCO.1983.1.11.710.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> list(
    ...     bb.classical.landmark_analysis(cohort, question, landmarks=[6.0, 8.0])[
    ...         "method"
    ...     ].unique()
    ... )
    ['landmark at 6', 'landmark at 8']
    """
    comparison = Comparison.of(cohort, question)
    require_landmarks(landmarks)
    return as_table(
        comparison,
        lambda episodes: [
            landmark_row(comparison, episodes, time, adjusted=adjusted) for time in landmarks
        ],
    )


def require_landmarks(landmarks: Sequence[float]) -> None:
    """Refuse what is no list of times."""
    given: object = landmarks
    if not isinstance(given, list | tuple):
        raise SpecError(f"landmarks must be a list of times, got {landmarks!r}.")
    for time in landmarks:
        if not 0 <= time < np.inf:
            raise SpecError(f"landmarks must be times from 0 on, got {time!r}.")


def as_table(
    comparison: Comparison, rows_of: Callable[[Episodes], list[dict[str, object]]]
) -> pd.DataFrame:
    """Make the rows of methods, endpoint by endpoint, a table."""
    rows = [row for episodes in comparison.episodes.values() for row in rows_of(episodes)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["synthetic"] = comparison.cohort.synthetic
    return table


def cox_row(
    comparison: Comparison,
    episodes: Episodes,
    *,
    adjusted: bool,
    ties: Literal["efron", "breslow"] = "efron",
) -> dict[str, object]:
    """Compare by the current phase."""
    exposed = episodes.phase == episodes.phases.index(comparison.question.exposed)
    return _row(comparison, episodes, COX, exposed, adjusted=adjusted, ties=ties)


def naive_row(comparison: Comparison, episodes: Episodes, *, adjusted: bool) -> dict[str, object]:
    """Compare those who are ever exposed with the others, from the start: the mistake."""
    exposed = episodes.phase == episodes.phases.index(comparison.question.exposed)
    ever = np.isin(episodes.patient, episodes.patient[exposed])
    row = _row(comparison, episodes, NAIVE, ever, adjusted=adjusted)
    notes = ["biased: exposed before they could be", str(row["note"])]
    return row | {"note": "; ".join(filter(None, notes))}


def landmark_row(
    comparison: Comparison, episodes: Episodes, time: float, *, adjusted: bool
) -> dict[str, object]:
    """Compare patients at risk by their state at a landmark, whatever happens later."""
    time = snap_to(time, np.concatenate([episodes.start, episodes.stop]))
    now = (episodes.start <= time) & (time < episodes.stop)
    at_risk = np.isin(episodes.patient, episodes.patient[now]) & (episodes.stop > time)
    state = np.full(comparison.cohort.size, -1)
    state[episodes.patient[now]] = episodes.phase[now]
    patient = episodes.patient[at_risk]
    later = replace(
        episodes,
        patient=patient,
        phase=state[patient],
        start=np.maximum(episodes.start[at_risk], time),
        stop=episodes.stop[at_risk],
        event=episodes.event[at_risk],
    )
    exposed = later.phase == later.phases.index(comparison.question.exposed)
    return _row(comparison, later, f"landmark at {time:g}", exposed, adjusted=adjusted)


def _row(
    comparison: Comparison,
    episodes: Episodes,
    method: str,
    exposed: Bools,
    *,
    adjusted: bool,
    ties: Literal["efron", "breslow"] = "efron",
) -> dict[str, object]:
    """Fit a Cox model to episodes: who counts as exposed, and each state that is not compared."""
    cohort = comparison.cohort
    role = np.asarray(roles_of(episodes.phases, comparison.question))[episodes.phase]
    others = np.unique(episodes.phase[role == "other"])
    states = [exposed & (role != "other"), *(episodes.phase == phase for phase in others)]
    matrix = np.stack(states, axis=1).astype(np.float64)
    exposed, reference = states[0], ~np.any(states, axis=0)
    adjusted = adjusted and bool(cohort.covariates)
    used, position = np.unique(episodes.patient, return_inverse=True)
    nuisance: Sequence[str] = ()
    if adjusted and used.size:
        pattern, terms = covariate_patterns(cohort, used)
        nuisance = terms.names
        matrix = np.concatenate([matrix, terms.design[pattern][position]], axis=1)
    row: dict[str, object] = {
        "endpoint": episodes.endpoint,
        "method": f"{method}{ADJUSTED if adjusted else ''}",
        "adjusted": adjusted,
        "estimate": np.nan,
        "lower": np.nan,
        "upper": np.nan,
        "patients": int(used.size),
        "events": int(episodes.event.sum()),
        "events_exposed": int(episodes.event[exposed].sum()),
        "events_reference": int(episodes.event[reference].sum()),
        "note": "no finite estimate",
    }
    # Without them at risk together the exposed would be compared with other states.
    times = np.unique(episodes.stop[episodes.event])
    sides = [
        count_at_risk(episodes.start[rows], episodes.stop[rows], times) > 0
        for rows in (exposed, reference)
    ]
    if not (sides[0] & sides[1]).any():
        return row
    result = fit_cox(episodes.start, episodes.stop, episodes.event, matrix, ties=ties)
    if not result.converged or np.isnan(result.estimate[0]):
        return row
    middle, error = float(result.estimate[0]), float(np.sqrt(result.covariance[0, 0]))
    lost = np.isnan(result.estimate[matrix.shape[1] - len(nuisance) :])
    missing = [term for term, gone in zip(nuisance, lost, strict=True) if gone]
    note = f"no finite estimate of {', '.join(missing)}" if missing else ""
    half = float(-ndtri(0.025)) * error
    estimate, lower, upper = np.exp([middle, middle - half, middle + half])
    return row | {"estimate": estimate, "lower": lower, "upper": upper, "note": note}
