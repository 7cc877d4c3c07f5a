"""The bias ladder: the same comparison, from the wrong way to the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesblina.classical.comparison import (
    Comparison,
    as_table,
    cox_row,
    landmark_row,
    mantel_byar_of,
    naive_row,
    require_landmarks,
)
from bayesblina.core.errors import SpecError
from bayesblina.core.tables import numbers
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.estimands.summaries import summary
from bayesblina.inference.fitting import HASHED, Fit
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time import cells
from bayesblina.person_time.cells import MANY, PersonTime
from bayesblina.person_time.follow_up import Episodes
from bayesblina.person_time.question import Question

MANTEL_BYAR = "Mantel-Byar (Peto)"
COMPANION_NOTE = "posterior median, without a baseline"
# Sums on another processor differ by so much of the largest, and no more.
ROUNDING = 1e-9
# Peto's one-step odds ratio is called near the hazard ratio within this factor of Cox's.
NEAR = 1.1


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
    >>> ladder = bb.classical.bias_ladder(cohort, question, landmarks=[8.0])
    >>> list(ladder.loc[(ladder["endpoint"] == "os") & ~ladder["adjusted"], "method"])
    ['ever against never', 'landmark at 8', 'Mantel-Byar (Peto)', 'time-varying Cox']
    """
    if fit is not None and fit.question != question:
        raise SpecError("The fit answers another question than the one given.")
    comparison = Comparison.of(cohort, question)
    if fit is None:
        return ladder_of(comparison, landmarks=landmarks)
    own = fit.person_time
    person_time = cells.person_time(cohort, question, cuts=own.cuts, phase_cuts=own.phase_cuts)
    if not _same_patients(person_time, fit.person_time):
        raise SpecError("The fit is of other patients than the cohort given.")
    return ladder_of(
        comparison,
        landmarks=landmarks,
        answers=summary(hazard_ratio(fit)),
        adjusted=bool(fit.design.term_names),
    )


def ladder_of(
    comparison: Comparison,
    *,
    landmarks: Sequence[float],
    answers: pd.DataFrame | None = None,
    adjusted: bool = False,
) -> pd.DataFrame:
    """Answer by all methods; the last rungs are those of a fit, if its answers are given.

    `answers`: what `bayesblina.summary` says of the fit's hazard ratios. Those of an illness-death
    model are of its transitions, which have no ladder.
    """
    require_landmarks(landmarks)
    ways = (False, True) if comparison.cohort.covariates else (False,)
    compared = mantel_byar_of(comparison)
    records = [] if answers is None else answers.to_dict("records")

    def rows_of(episodes: Episodes) -> list[dict[str, object]]:
        sound = [cox_row(comparison, episodes, adjusted=way) for way in ways]
        return [
            *(naive_row(comparison, episodes, adjusted=way) for way in ways),
            *(
                landmark_row(comparison, episodes, time, adjusted=way)
                for time in dict.fromkeys(landmarks)
                for way in ways
            ),
            _peto(comparison, episodes, compared.sel(endpoint=episodes.endpoint), sound[0]),
            *sound,
            *(
                rung
                for answer in records
                if answer["endpoint"] == episodes.endpoint
                for rung in rungs(
                    {str(key): value for key, value in answer.items()},
                    beside=sound[0],
                    adjusted=adjusted,
                )
            ),
        ]

    return as_table(comparison, rows_of)


def _peto(
    comparison: Comparison, episodes: Episodes, compared: xr.Dataset, own: Mapping[str, object]
) -> dict[str, object]:
    """Make the Mantel-Byar rung; whether its odds ratio is near Cox's stands in its note."""
    in_groups = np.any(comparison.groups(episodes), axis=0)
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
        "endpoint": episodes.endpoint,
        "method": MANTEL_BYAR,
        "adjusted": False,
        "estimate": ratio,
        "lower": float(compared["peto_lower"]),
        "upper": float(compared["peto_upper"]),
        "patients": int(np.unique(episodes.person[in_groups]).size),
        "events": int(compared["observed"] + compared["observed_reference"]),
        "events_exposed": int(compared["observed"]),
        "events_reference": int(compared["observed_reference"]),
        "note": note,
    }


def rungs(
    answer: Mapping[str, object], *, beside: Mapping[str, object], adjusted: bool
) -> list[dict[str, object]]:
    """Make the last rungs of a ladder from an answer: without a baseline, and with one.

    Rows of the ladder; the first is left out where there is no companion.
    """
    counts = ("patients", "events", "events_exposed", "events_reference")
    common = {"endpoint": answer["endpoint"], "adjusted": adjusted}
    common |= {name: beside[name] for name in counts}
    methods = [("", numbers.BAYESIAN, numbers.beside(answer) or "posterior median")]
    middle = answer.get("companion_median")
    if isinstance(middle, float) and np.isfinite(middle):
        methods.insert(0, ("companion_", numbers.COMPANION, COMPANION_NOTE))
    return [
        {
            **common,
            "method": method,
            "estimate": answer[f"{whose}median"],
            "lower": answer[f"{whose}lower"],
            "upper": answer[f"{whose}upper"],
            "note": note,
        }
        for whose, method, note in methods
    ]


def _same_patients(one: PersonTime, other: PersonTime) -> bool:
    """Whether both hold the same events and person-time, as another processor may round them."""
    parts = [(one.table, other.table, tuple(HASHED))]
    if all(each.complete and each.size < MANY for each in (one, other)):
        people, episodes = one.people.drop_vars("category"), one.episodes
        parts += [
            (people, other.people, tuple(map(str, people.data_vars))),
            (episodes, other.episodes, tuple(map(str, episodes.data_vars))),
        ]
    return all(
        _same(left[name].values, right[name].values)
        for left, right, names in parts
        for name in names
    )


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Whether values are equal up to rounding."""
    if first.shape != second.shape or first.dtype.kind not in "fiub":
        return np.array_equal(first, second)
    # Sums at nodes of compressed covariates may cancel: rounding is that of the largest.
    slack = ROUNDING * float(np.abs(first[np.isfinite(first)]).max(initial=0.0))
    return np.allclose(first, second, rtol=0.0, atol=slack, equal_nan=True)
