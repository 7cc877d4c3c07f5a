"""The bias ladder: the same comparison, from the wrong way to the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesblina.arguments import require_kind
from bayesblina.classical import mantel_byar
from bayesblina.cohort import Cohort
from bayesblina.errors import SpecError
from bayesblina.estimands import hazard_ratio
from bayesblina.exposure import MANY, Exposure, covariate_patterns, expose
from bayesblina.fitting import HASHED, Fit
from bayesblina.follow_up import Episodes, find_episodes, roles_of
from bayesblina.intervals import snap_to
from bayesblina.partial_likelihood import fit_cox
from bayesblina.question import Question
from bayesblina.tables.marks import beside as marks_beside

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

COLUMNS = ("endpoint", "method", "estimate", "lower", "upper", "patients", "events", "note")
NAIVE = "ever against never"
COX = "time-varying Cox"
MANTEL_BYAR = "Mantel-Byar (Peto)"
BAYESIAN = "Bayesian"
COMPANION = "Cox, same priors, same covariates"
COMPANION_NOTE = "posterior median, without a baseline"
# Sums on another processor differ by so much of the largest, and no more.
ROUNDING = 1e-9
EVERYBODY_ELSE = "against everybody else, not the reference alone"


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
        ``lower`` and ``upper`` (95 %), ``patients``, ``events`` and ``note``. The estimate is
        missing, and the note says so, where the partial likelihood has no maximum. A covariate
        that has none, such as a level without events, or that others make up, is named in the note
        and leaves the phase's estimate as it is in the limit, or without it.

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
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    rows = []
    for name, found in find_episodes(cohort, question).items():
        role = np.asarray(roles_of(found.phases, question))[found.phase]
        others = np.unique(found.phase[role == "other"])
        columns = [role == "exposed", *(found.phase == phase for phase in others)]
        rows.append(
            _row(name, COX, cohort, found, np.stack(columns, axis=1), adjusted=adjusted, ties=ties)
        )
    return _table(rows, cohort)


def ever_never(cohort: Cohort, question: Question) -> pd.DataFrame:
    """Compare those who are ever exposed with those who never are, from the start: the mistake.

    Patients count as exposed before they are, in a time that only those who live on survive
    (immortal time). It is here to be shown beside the others, not to be believed.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.

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
    >>> naive, sound = bb.ever_never(cohort, question), bb.cox(cohort, question)
    >>> bool((naive["estimate"] < sound["estimate"]).all())
    True
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    found = find_episodes(cohort, question)
    return _table([_naive(name, cohort, one, question) for name, one in found.items()], cohort)


def landmark_analysis(
    cohort: Cohort, question: Question, *, landmarks: Sequence[float]
) -> pd.DataFrame:
    """Compare patients at risk at a landmark by whether they are exposed then, whatever follows.

    Free of immortal time; but those who start later count as not exposed, and what happened before
    the landmark is not used.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared. Its own landmark, if any, holds too.
    landmarks
        Times of the analyses, one each.

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
    >>> list(bb.landmark_analysis(cohort, question, landmarks=[6.0, 8.0])["method"].unique())
    ['landmark at 6', 'landmark at 8']
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    given: object = landmarks
    if not isinstance(given, list | tuple):
        raise SpecError(f"landmarks must be a list of times, got {landmarks!r}.")
    for time in landmarks:
        if not 0 <= time < np.inf:
            raise SpecError(f"landmarks must be times from 0 on, got {time!r}.")
    rows = [
        _landmark(name, cohort, one, question, time)
        for name, one in find_episodes(cohort, question).items()
        for time in landmarks
    ]
    return _table(rows, cohort)


def _table(rows: list[dict[str, object]], cohort: Cohort) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["synthetic"] = cohort.synthetic
    return table


def bias_ladder(
    cohort: Cohort,
    question: Question,
    *,
    landmarks: Sequence[float] = (),
    fit: Fit | None = None,
) -> pd.DataFrame:
    """Answer a question by methods from the biased to the sound, in one table.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared. Its own landmark, if any, holds for all but the landmark analyses.
    landmarks
        Times of landmark analyses: patients at risk then, by whether they are exposed then.
    fit
        A fit of the same question, for the last rung.

    Returns
    -------
    pandas.DataFrame
        ``endpoint``, ``method``, ``estimate``, ``lower``, ``upper``, ``patients``, ``events``,
        ``note``: for each endpoint ever against never (biased by immortal time: patients count as
        exposed before they are), landmark analyses (free of it; later phases are ignored), the
        Mantel-Byar odds ratio, the time-varying Cox model (unadjusted), Cox's partial likelihood
        with the fit's priors and covariates (posterior median), and the Bayesian posterior (median;
        adjusted for the model's covariates; its note says which gates were failed). With a named
        reference, or a state after transplant, the first two still compare with everybody else, and
        their notes say so.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or the fit answers another one.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> ladder = bb.bias_ladder(cohort, question, landmarks=[8.0])
    >>> list(ladder.loc[ladder["endpoint"] == "os", "method"])
    ['ever against never', 'landmark at 8', 'Mantel-Byar (Peto)', 'time-varying Cox']
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    if fit is not None and fit.question != question:
        raise SpecError("The fit answers another question than the one given.")
    if fit is not None:
        own = expose(cohort, question, cuts=fit.exposure.cuts)
        if not _same_patients(own, fit.exposure):
            raise SpecError("The fit is of other patients than the cohort given.")
    episodes = find_episodes(cohort, question)
    landmarked = landmark_analysis(cohort, question, landmarks=landmarks)
    compared = mantel_byar(cohort, question)
    models = {row["endpoint"]: row for row in cox(cohort, question).to_dict("records")}
    answers = {} if fit is None else _answers(fit)
    rows: list[dict[str, object]] = []
    for name, found in episodes.items():
        role = np.asarray(roles_of(found.phases, question))[found.phase]
        compared_states = found.patient[role != "other"]
        here = landmarked[landmarked["endpoint"] == name]
        rough = [_naive(name, cohort, found, question)]
        rough += [
            {str(key): value for key, value in row.items()} for row in here.to_dict("records")
        ]
        if (role == "other").any():
            for row in rough:
                row["note"] = "; ".join(filter(None, [str(row["note"]), EVERYBODY_ELSE]))
        rows += rough
        one = compared.sel(endpoint=name)
        rows.append(
            {
                "endpoint": name,
                "method": MANTEL_BYAR,
                "estimate": float(one["peto_odds_ratio"]),
                "lower": float(one["peto_lower"]),
                "upper": float(one["peto_upper"]),
                "patients": int(np.unique(compared_states).size),
                "events": int(one["observed"] + one["observed_reference"]),
                "note": "odds ratio, near the hazard ratio",
            }
        )
        rows.append({str(column): value for column, value in models[name].items()})
        if name in answers:
            size, events = int(np.unique(found.patient).size), int(found.event.sum())
            rows += rungs(answers[name], patients=size, events=events)
    return _table(rows, cohort)


def _answers(fit: Fit) -> dict[str, dict[str, object]]:
    """Rows of a table of the fit's hazard ratios, by endpoint, as `rungs` takes them."""
    ratios = hazard_ratio(fit)
    found: dict[str, dict[str, object]] = {}
    for name in map(str, ratios["endpoint"].values):
        one = ratios.sel(endpoint=name)
        lower, middle, upper = np.quantile(one["hazard_ratio"].values, [0.025, 0.5, 0.975])
        row = {str(key): one[key].item() for key in one.coords if not one[key].dims}
        found[name] = row | {
            "endpoint": name,
            "median": float(middle),
            "lower": float(lower),
            "upper": float(upper),
            "converged": fit.converged,
        }
    return found


def rungs(answer: Mapping[str, object], *, patients: int, events: int) -> list[dict[str, object]]:
    """Make the last rungs of a ladder from an answer: without a baseline, and with one.

    Parameters
    ----------
    answer
        A row of the table of hazard ratios: ``endpoint``, ``median``, ``lower``, ``upper``, and
        what stands beside them (`bayesblina.summarise`).
    patients, events
        How many there are.

    Returns
    -------
    list of dict
        Rows of the ladder; the first is left out where there is no companion.
    """
    common = {"endpoint": answer["endpoint"], "patients": patients, "events": events}
    found: list[dict[str, object]] = []
    middle = answer.get("companion_median", np.nan)
    if isinstance(middle, float) and np.isfinite(middle):
        found.append(
            {
                **common,
                "method": COMPANION,
                "estimate": middle,
                "lower": answer["companion_lower"],
                "upper": answer["companion_upper"],
                "note": COMPANION_NOTE,
            }
        )
    found.append(
        {
            **common,
            "method": BAYESIAN,
            "estimate": answer["median"],
            "lower": answer["lower"],
            "upper": answer["upper"],
            "note": marks_beside(answer) or "posterior median",
        }
    )
    return found


def _same_patients(one: Exposure, other: Exposure) -> bool:
    """Whether both hold the same events and person-time, as another processor may round them."""
    parts = [(one.table, other.table, tuple(HASHED))]
    if all(each.complete and each.size < MANY for each in (one, other)):
        people = tuple(map(str, one.people.drop_vars("category").data_vars))
        parts.append((one.people, other.people, people))
        parts.append((one.episodes, other.episodes, tuple(map(str, one.episodes.data_vars))))
    for left, right, names in parts:
        for name in names:
            mine, its = left[name].values, right[name].values
            if mine.shape != its.shape:
                return False
            if mine.dtype.kind not in "fiub":
                if not np.array_equal(mine, its):
                    return False
                continue
            # Sums at nodes of compressed covariates may cancel: rounding is that of the largest.
            largest = float(np.abs(mine[np.isfinite(mine)]).max(initial=0.0))
            if not np.allclose(mine, its, rtol=0.0, atol=ROUNDING * largest, equal_nan=True):
                return False
    return True


def _naive(name: str, cohort: Cohort, found: Episodes, question: Question) -> dict[str, object]:
    """Compare those who are ever exposed with the others, from the start: the mistake."""
    exposed = found.phase == found.phases.index(question.exposed)
    ever = np.isin(found.patient, found.patient[exposed])
    row = _row(name, NAIVE, cohort, found, ever[:, None].astype(np.float64))
    return row | {"note": row["note"] or "biased: exposed before they could be"}


def _landmark(
    name: str, cohort: Cohort, found: Episodes, question: Question, time: float
) -> dict[str, object]:
    """Compare those exposed at a landmark with the others at risk then, whatever happens later."""
    time = snap_to(time, np.concatenate([found.start, found.stop]))
    exposed = found.phase == found.phases.index(question.exposed)
    now = (found.start <= time) & (time < found.stop)
    at_risk = np.isin(found.patient, found.patient[now]) & (found.stop > time)
    then = np.isin(found.patient, found.patient[now & exposed])
    kept = replace(
        found,
        patient=found.patient[at_risk],
        phase=found.phase[at_risk],
        start=np.maximum(found.start[at_risk], time),
        stop=found.stop[at_risk],
        event=found.event[at_risk],
        time_at_risk=float((found.stop - np.maximum(found.start, time))[at_risk].sum()),
        events=int(found.event[at_risk].sum()),
    )
    columns = then[at_risk][:, None].astype(np.float64)
    return _row(name, f"landmark at {time:g}", cohort, kept, columns)


def _row(
    name: str,
    method: str,
    cohort: Cohort,
    found: Episodes,
    columns: NDArray[np.generic],
    *,
    adjusted: bool = False,
    ties: Literal["efron", "breslow"] = "efron",
) -> dict[str, object]:
    """Fit a Cox model to episodes; its first column is what is asked for."""
    matrix = np.asarray(columns, dtype=np.float64)
    used, position = np.unique(found.patient, return_inverse=True)
    nuisance: Sequence[str] = ()
    if adjusted and cohort.covariates:
        pattern, terms = covariate_patterns(cohort, used)
        nuisance = terms.names
        matrix = np.concatenate([matrix, terms.design[pattern][position]], axis=1)
    row: dict[str, object] = {
        "endpoint": name,
        "method": method,
        "estimate": np.nan,
        "lower": np.nan,
        "upper": np.nan,
        "patients": int(used.size),
        "events": int(found.event.sum()),
        "note": "no finite estimate",
    }
    if not found.patient.size:
        return row
    result = fit_cox(found.start, found.stop, found.event, matrix, ties=ties)
    if not result.converged or np.isnan(result.estimate[0]):
        return row
    middle, error = float(result.estimate[0]), float(np.sqrt(result.covariance[0, 0]))
    lost = np.isnan(result.estimate[matrix.shape[1] - len(nuisance) :])
    missing = [term for term, gone in zip(nuisance, lost, strict=True) if gone]
    note = f"no finite estimate of {', '.join(missing)}" if missing else ""
    half = float(-ndtri(0.025)) * error
    estimate, lower, upper = np.exp([middle, middle - half, middle + half])
    return row | {"estimate": estimate, "lower": lower, "upper": upper, "note": note}
