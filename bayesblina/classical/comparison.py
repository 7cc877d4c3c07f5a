"""A question asked of a cohort: who is compared, by the Mantel-Byar test and by Cox regressions.

The phase as it changes, so that no time is immortal; ever against never; and from a landmark on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtri

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError, nearest, require_kind
from bayesblina.core.intervals import snap_to
from bayesblina.core.product_limit import count_at_risk, count_events
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import covariate_patterns
from bayesblina.person_time.follow_up import Episodes, find_episodes, roles_of
from bayesblina.person_time.question import Question

LABEL = (
    "The Mantel-Byar odds ratio approximates the hazard ratio where the effect is small and the "
    "groups at risk are of like size; elsewhere Peto's one-step estimate can be far from it."
)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Who is compared, with the time at risk of each.

    `episodes`: time at risk by endpoint.
    """

    cohort: Cohort
    question: Question
    episodes: Mapping[str, Episodes]

    @classmethod
    def of(cls, cohort: Cohort, question: Question) -> Comparison:
        """Ask a question of a cohort."""
        require_kind(cohort, Cohort, "cohort")
        require_kind(question, Question, "question")
        # No classical method here knows of gaps between visits.
        found = {name: own.as_found() for name, own in find_episodes(cohort, question).items()}
        return cls(cohort=cohort, question=question, episodes=found)

    @property
    def labels(self) -> tuple[str, str]:
        """Names of the exposed and the reference group."""
        exposed = self.question.exposure
        return exposed, self.question.reference or f"no {exposed}"

    def groups(self, episodes: Episodes) -> tuple[Bools, Bools]:
        """Episodes of the exposed and of the reference group; other states belong to neither."""
        role = roles_in(episodes, self.question)
        return role == "exposed", role == "reference"


def roles_in(episodes: Episodes, question: Question) -> NDArray[np.str_]:
    """Say what each episode is to a question, shape (episode,): all steps of it are exposed."""
    return np.asarray(roles_of(episodes.phase_names, question))[episodes.phase]


def levels_of_patients(cohort: Cohort, names: Sequence[str]) -> tuple[Ints, list[str]]:
    """Give each patient the number of its combination of levels; and the combinations' labels."""
    if isinstance(names, str):
        raise SpecError(f"strata must be a list of covariates, such as ['{names}'].")
    categorical = [
        name for name, covariate in cohort.covariates.items() if covariate.kind == "categorical"
    ]
    number, labels = np.zeros(cohort.size, dtype=np.int64), [""]
    for name in names:
        if name not in categorical:
            raise SpecError(f"No categorical covariate '{name}'. {nearest(name, categorical)}")
        covariate = cohort.covariates[name]
        number = number * len(covariate.levels) + covariate.values.astype(np.int64)
        labels = [
            f"{label}, {level}" if label else level
            for label in labels
            for level in covariate.levels
        ]
    return number, labels


def mantel_byar(cohort: Cohort, question: Question, *, strata: Sequence[str] = ()) -> xr.Dataset:
    """Compare exposed with reference by the Mantel-Byar test.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    strata
        Categorical covariates: patients are compared with those of the same levels only, and
        observed and expected events and the variance are summed over all combinations of levels.

    Returns
    -------
    xarray.Dataset
        Over endpoint: ``observed``, ``expected``, ``observed_reference``, ``expected_reference``,
        ``variance``, ``chi2`` (one degree of freedom), ``p_value``, ``peto_odds_ratio`` with
        ``peto_lower`` and ``peto_upper`` (95 %), ``pike_odds_ratio``. NaN where there is no
        event time with both groups at risk.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or a stratum is no categorical covariate.

    Notes
    -----
    Mantel and Byar (1974), doi:10.2307/2285644. It is the score test of the Cox model with the
    phase as a time-varying covariate.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> bool((bb.mantel_byar(cohort, question)["peto_odds_ratio"] < 1).all())
    True
    """
    return mantel_byar_of(Comparison.of(cohort, question), levels_of_patients(cohort, strata)[0])


def mantel_byar_of(comparison: Comparison, stratum: Ints | None = None) -> xr.Dataset:
    """Compare the groups of a comparison, within strata of the cohort's patients if given."""
    if stratum is None:
        stratum = np.zeros(comparison.cohort.size, dtype=np.int64)
    sums = []
    for episodes in comparison.episodes.values():
        own, groups = stratum[episodes.patient], comparison.groups(episodes)
        parts = (
            _excess(episodes, *(rows & (own == level) for rows in groups))
            for level in np.unique(own)
        )
        sums.append(sum(parts, start=np.zeros(5)))
    observed, expected, other, other_expected, variance = np.array(sums).reshape(-1, 5).T
    excess, known = observed - expected, variance > 0
    nothing = np.full(variance.shape, np.nan)
    log_ratio = np.divide(excess, variance, out=nothing.copy(), where=known)
    chi2 = log_ratio * excess
    half = -ndtri(0.025) / np.sqrt(np.where(known, variance, np.nan))
    both = (other > 0) & (expected > 0) & (other_expected > 0)
    pike = np.divide(observed * other_expected, expected * other, out=nothing, where=both)
    columns = {
        "observed": observed,
        "expected": expected,
        "observed_reference": other,
        "expected_reference": other_expected,
        "variance": variance,
        "chi2": chi2,
        "p_value": chdtrc(1.0, chi2),
        "peto_odds_ratio": np.exp(log_ratio),
        "peto_lower": np.exp(log_ratio - half),
        "peto_upper": np.exp(log_ratio + half),
        "pike_odds_ratio": pike,
    }
    return xr.Dataset(
        {name: ("endpoint", values) for name, values in columns.items()},
        coords={"endpoint": list(comparison.episodes)},
        attrs={"note": LABEL, "synthetic": int(comparison.cohort.synthetic)},
    )


def _excess(episodes: Episodes, exposed: Bools, reference: Bools) -> Floats:
    """Sum observed and expected events of both groups, and the variance, over event times."""
    times = np.unique(episodes.stop[episodes.event & (exposed | reference)])
    groups = (exposed, reference)
    at_risk = [count_at_risk(episodes.start[rows], episodes.stop[rows], times) for rows in groups]
    events = [count_events(episodes.stop[episodes.event & rows], times) for rows in groups]
    n, d = at_risk[0] + at_risk[1], events[0] + events[1]
    share = at_risk[0] / n
    rest = np.divide(n - d, n - 1, out=np.zeros(n.size), where=n > 1)
    variance = (d * share * (1 - share) * rest).sum()
    return np.array(
        [events[0].sum(), (d * share).sum(), events[1].sum(), (d * (1 - share)).sum(), variance]
    )


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


def require_landmarks(landmarks: object) -> None:
    """Refuse what is no list of times."""
    if not isinstance(landmarks, list | tuple):
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
    return _row(comparison, episodes, COX, adjusted=adjusted, ties=ties)


def naive_row(comparison: Comparison, episodes: Episodes, *, adjusted: bool) -> dict[str, object]:
    """Compare those who are ever exposed with the others, from the start: the mistake."""
    exposed = roles_in(episodes, comparison.question) == "exposed"
    ever = np.isin(episodes.person, episodes.person[exposed])
    row = _row(comparison, episodes, NAIVE, ever, adjusted=adjusted)
    notes = ["biased: exposed before they could be", str(row["note"])]
    return row | {"note": "; ".join(filter(None, notes))}


def landmark_row(
    comparison: Comparison, episodes: Episodes, time: float, *, adjusted: bool
) -> dict[str, object]:
    """Compare patients at risk by their state at a landmark, whatever happens later."""
    time = snap_to(time, np.concatenate([episodes.start, episodes.stop]))
    now = (episodes.start <= time) & (time < episodes.stop)
    at_risk = np.isin(episodes.person, episodes.person[now]) & (episodes.stop > time)
    state = np.full(comparison.cohort.size, -1)
    state[episodes.person[now]] = episodes.phase[now]
    later = replace(
        episodes,
        patient=episodes.patient[at_risk],
        phase=state[episodes.person[at_risk]],
        start=np.maximum(episodes.start[at_risk], time),
        stop=episodes.stop[at_risk],
        event=episodes.event[at_risk],
    )
    return _row(comparison, later, f"landmark at {time:g}", adjusted=adjusted)


def _row(
    comparison: Comparison,
    episodes: Episodes,
    method: str,
    exposed: Bools | None = None,
    *,
    adjusted: bool,
    ties: Literal["efron", "breslow"] = "efron",
) -> dict[str, object]:
    """Fit a Cox model to episodes: the exposed, and each state that is not compared.

    `exposed`: episodes that count as exposed; by default those in the exposed phase, whatever the
    step.
    """
    cohort = comparison.cohort
    role = roles_in(episodes, comparison.question)
    if exposed is None:
        exposed = role == "exposed"
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
        "patients": int(np.unique(episodes.person).size),
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
