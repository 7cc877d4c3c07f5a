"""The bias ladder: the same comparison, from the wrong way to the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesblina.classical.curves import mantel_byar
from bayesblina.core.arguments import require_kind
from bayesblina.core.arrays import Bools
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import snap_to
from bayesblina.core.product_limit import count_at_risk
from bayesblina.core.tables.marks import BAYESIAN, COMPANION
from bayesblina.core.tables.marks import beside as marks_beside
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.inference.fitting import HASHED, Fit
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time import cells
from bayesblina.person_time.cells import MANY, PersonTime, covariate_patterns
from bayesblina.person_time.follow_up import Episodes, find_episodes, roles_of
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
MANTEL_BYAR = "Mantel-Byar (Peto)"
COMPANION_NOTE = "posterior median, without a baseline"
# Sums on another processor differ by so much of the largest, and no more.
ROUNDING = 1e-9
ADJUSTED = ", adjusted"
# Peto's one-step odds ratio is called near the hazard ratio within this factor of Cox's.
NEAR = 1.1


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
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    rows = [
        _row(
            name,
            COX,
            cohort,
            found,
            _states(found, question, found.phase == found.phases.index(question.exposed)),
            adjusted=adjusted,
            ties=ties,
        )
        for name, found in find_episodes(cohort, question).items()
    ]
    return _table(rows, cohort)


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
    >>> naive, sound = bb.ever_never(cohort, question), bb.cox(cohort, question)
    >>> bool((naive["estimate"] < sound["estimate"]).all())
    True
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    found = find_episodes(cohort, question)
    rows = [_naive(name, cohort, one, question, adjusted=adjusted) for name, one in found.items()]
    return _table(rows, cohort)


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
        _landmark(name, cohort, one, question, time, adjusted=adjusted)
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
        The columns of `cox`: for each endpoint ever against never (biased by immortal time:
        patients count as exposed before they are), landmark analyses (free of it; later phases are
        ignored), the Mantel-Byar odds ratio, the time-varying Cox model, Cox's partial likelihood
        with the fit's priors and covariates (posterior median), and the Bayesian posterior (median;
        its note says which gates were failed). ``adjusted`` says whether covariates are in it:
        where the cohort has any, ever against never, landmark analyses and Cox stand there without
        and with them, the latter as ``<method>, adjusted``; the last two rungs have those of the
        fit. A named reference, and states that are neither, are in every rung what they are to the
        question.

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
    >>> list(ladder.loc[(ladder["endpoint"] == "os") & ~ladder["adjusted"], "method"])
    ['ever against never', 'landmark at 8', 'Mantel-Byar (Peto)', 'time-varying Cox']
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    if fit is not None and fit.question != question:
        raise SpecError("The fit answers another question than the one given.")
    if fit is not None:
        person_time = cells.person_time(cohort, question, cuts=fit.person_time.cuts)
        if not _same_patients(person_time, fit.person_time):
            raise SpecError("The fit is of other patients than the cohort given.")
    ways = (False, True) if cohort.covariates else (False,)
    compared = mantel_byar(cohort, question)
    models = [cox(cohort, question, adjusted=way) for way in ways]
    rough = [
        table
        for way in ways
        for table in (
            ever_never(cohort, question, adjusted=way),
            landmark_analysis(cohort, question, landmarks=landmarks, adjusted=way),
        )
    ]
    answers = {} if fit is None else _answers(fit)
    rows: list[dict[str, object]] = []
    for name, found in find_episodes(cohort, question).items():
        rows += [row for method in _methods(rough) for row in _rows_of(rough, name, method)]
        own = [row for table in models for row in _rows_of([table], name)]
        rows += [_peto(name, compared.sel(endpoint=name), found, question, own[0]), *own]
        if name in answers:
            assert fit is not None
            adjusted = bool(fit.design.term_names)
            rows += rungs(answers[name], beside=own[0], adjusted=adjusted)
    return _table(rows, cohort)


def _methods(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Methods of tables, each without and with covariates in turn."""
    found = [str(name).removesuffix(ADJUSTED) for table in tables for name in table["method"]]
    return list(dict.fromkeys(found))


def _rows_of(
    tables: Sequence[pd.DataFrame], endpoint: str, method: str | None = None
) -> list[dict[str, object]]:
    return [
        {str(key): value for key, value in row.items()}
        for table in tables
        for row in table[table["endpoint"] == endpoint].to_dict("records")
        if method is None or str(row["method"]).removesuffix(ADJUSTED) == method
    ]


def _peto(
    name: str, compared: xr.Dataset, found: Episodes, question: Question, own: Mapping[str, object]
) -> dict[str, object]:
    """Make the Mantel-Byar rung; whether its odds ratio is near Cox's stands in its note."""
    role = np.asarray(roles_of(found.phases, question))[found.phase]
    ratio, sound = float(compared["peto_odds_ratio"]), float(str(own["estimate"]))
    if np.isnan(ratio):
        note = "no finite estimate"
    elif np.isnan(sound):
        note = "one-step odds ratio; the hazard ratio has no finite estimate"
    elif max(ratio / sound, sound / ratio) <= NEAR:
        note = "odds ratio, near the hazard ratio"
    else:
        note = "one-step odds ratio, NOT near the hazard ratio: read the time-varying Cox model's"
    return {
        "endpoint": name,
        "method": MANTEL_BYAR,
        "adjusted": False,
        "estimate": ratio,
        "lower": float(compared["peto_lower"]),
        "upper": float(compared["peto_upper"]),
        "patients": int(np.unique(found.patient[role != "other"]).size),
        "events": int(compared["observed"] + compared["observed_reference"]),
        "events_exposed": int(compared["observed"]),
        "events_reference": int(compared["observed_reference"]),
        "note": note,
    }


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


def rungs(
    answer: Mapping[str, object], *, beside: Mapping[str, object], adjusted: bool
) -> list[dict[str, object]]:
    """Make the last rungs of a ladder from an answer: without a baseline, and with one.

    Rows of the ladder; the first is left out where there is no companion.
    """
    counts = ("patients", "events", "events_exposed", "events_reference")
    common = {"endpoint": answer["endpoint"], **{name: beside[name] for name in counts}}
    common["adjusted"] = adjusted
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


def _same_patients(one: PersonTime, other: PersonTime) -> bool:
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


def _states(found: Episodes, question: Question, exposed: Bools) -> Bools:
    """Columns of a Cox model: who counts as exposed, and each state that is not compared."""
    role = np.asarray(roles_of(found.phases, question))[found.phase]
    others = np.unique(found.phase[role == "other"])
    columns = [exposed & (role != "other"), *(found.phase == phase for phase in others)]
    return np.stack(columns, axis=1)


def _naive(
    name: str, cohort: Cohort, found: Episodes, question: Question, *, adjusted: bool
) -> dict[str, object]:
    """Compare those who are ever exposed with the others, from the start: the mistake."""
    exposed = found.phase == found.phases.index(question.exposed)
    ever = np.isin(found.patient, found.patient[exposed])
    columns = _states(found, question, ever)
    row = _row(name, NAIVE, cohort, found, columns, adjusted=adjusted)
    note = "; ".join(filter(None, ["biased: exposed before they could be", str(row["note"])]))
    return row | {"note": note}


def _landmark(
    name: str,
    cohort: Cohort,
    found: Episodes,
    question: Question,
    time: float,
    *,
    adjusted: bool,
) -> dict[str, object]:
    """Compare patients at risk by their state at a landmark, whatever happens later."""
    time = snap_to(time, np.concatenate([found.start, found.stop]))
    now = (found.start <= time) & (time < found.stop)
    at_risk = np.isin(found.patient, found.patient[now]) & (found.stop > time)
    state = np.full(cohort.size, -1)
    state[found.patient[now]] = found.phase[now]
    kept = replace(
        found,
        patient=found.patient[at_risk],
        phase=state[found.patient[at_risk]],
        start=np.maximum(found.start[at_risk], time),
        stop=found.stop[at_risk],
        event=found.event[at_risk],
        time_at_risk=float((found.stop - np.maximum(found.start, time))[at_risk].sum()),
        events=int(found.event[at_risk].sum()),
    )
    columns = _states(kept, question, kept.phase == found.phases.index(question.exposed))
    return _row(name, f"landmark at {time:g}", cohort, kept, columns, adjusted=adjusted)


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
    adjusted = adjusted and bool(cohort.covariates)
    used, position = np.unique(found.patient, return_inverse=True)
    nuisance: Sequence[str] = ()
    if adjusted and used.size:
        pattern, terms = covariate_patterns(cohort, used)
        nuisance = terms.names
        matrix = np.concatenate([matrix, terms.design[pattern][position]], axis=1)
    # Columns of states that are not compared come after the first.
    states = np.asarray(columns, dtype=bool)
    exposed, reference = states[:, 0], ~states.any(axis=1)
    row: dict[str, object] = {
        "endpoint": name,
        "method": f"{method}{ADJUSTED if adjusted else ''}",
        "adjusted": adjusted,
        "estimate": np.nan,
        "lower": np.nan,
        "upper": np.nan,
        "patients": int(used.size),
        "events": int(found.event.sum()),
        "events_exposed": int(found.event[exposed].sum()),
        "events_reference": int(found.event[reference].sum()),
        "note": "no finite estimate",
    }
    # Without them at risk together the exposed would be compared with other states.
    times = np.unique(found.stop[found.event])
    sides = [
        count_at_risk(found.start[rows], found.stop[rows], times) > 0
        for rows in (exposed, reference)
    ]
    if not (sides[0] & sides[1]).any():
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
