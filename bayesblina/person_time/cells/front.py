"""The one way from patients and a question to events and person-time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import DataError, Problem, SpecError, require_kind
from bayesblina.core.intervals import default_cuts, validate_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.texts import as_text
from bayesblina.patients.scan import CohortScan
from bayesblina.patients.scan.coded import MOST_COMBINATIONS
from bayesblina.person_time.cells.each import tabulate_each
from bayesblina.person_time.cells.value import PersonTime
from bayesblina.person_time.contents import require_comparison
from bayesblina.person_time.follow_up import Episodes, entry_times, find_episodes
from bayesblina.person_time.question import Question
from bayesblina.person_time.transitions import find_transitions

# From this many patients on they are summed in one pass, and looked at singly when asked for.
MANY = 50_000
# Cut points of several endpoints that are closer, relative to them, are one.
CLOSE = 1e-6


def person_time(
    cohort: Cohort | CohortScan,
    question: Question,
    *,
    cuts: ArrayLike | None = None,
    phase_cuts: ArrayLike | None = None,
    by_patient: bool = False,
    weights: ArrayLike | None = None,
    courses: tuple[str, str] | None = None,
    compress: bool | None = None,
    landmarks: Sequence[float] = (),
) -> PersonTime:
    """Sum events and person-time by endpoint, interval, phase and covariate pattern.

    Parameters
    ----------
    cohort
        The patients: a `Cohort`, or a `CohortScan`, whose patients stay in their query engine.
    question
        The question asked of them.
    cuts : array_like, shape (n_intervals - 1,), optional
        Inner cut points in the cohort's unit; by default between event times and where patients
        enter states (`bayesblina.core.intervals.default_cuts`), their number growing with the
        events.
    phase_cuts : array_like, shape (n_pieces - 1,), optional
        Times since entering the exposed phase, in the cohort's unit, at which time in it is cut
        into pieces.
    by_patient
        Whether every patient is a pattern of its own.
    weights : array_like, shape (patient,), optional
        Weights of the cohort's patients, such as those of inverse probabilities: events and time at
        risk of a patient count as many times. In the cohort's order, or a pandas Series whose index
        holds the ids.
    courses : tuple of (str, str), optional
        Names of the endpoints death and relapse-free survival: events and time at risk are then
        those of the transitions of an illness-death course (`bayesblina.person_time.transitions`).
    compress
        Whether continuous covariates are compressed to a few nodes
        (`bayesblina.person_time.compression`), at an error below 1e-9 of every sum of hazards; by
        default where that leaves less than half of 1000 or more patterns. Never with `by_patient`.
    landmarks
        Of a scan: landmarks of the curves that will be asked for, besides the usual one. In memory
        any can be asked for.

    Returns
    -------
    PersonTime
        Checked for conservation: its person-time is the eligible cohort's, its events are the
        eligible cohort's, and every patient is used or left out for a reason.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or the cuts or weights are impossible.
    DataError
        If there is nothing to compare: no eligible patients, no events, nobody exposed or
        nobody unexposed.

    Examples
    --------
    >>> import pandas as pd
    >>> import bayesblina as bb
    >>> table = pd.DataFrame(
    ...     {"id": ["a", "b"], "months": [4.0, 9.0], "died": [1, 1], "start": [2.0, None]}
    ... )
    >>> cohort = bb.read_cohort(
    ...     table,
    ...     patient="id",
    ...     unit="months",
    ...     endpoints={"os": bb.Endpoint(time="months", event="died")},
    ...     phases=bb.Phases(maintenance="start"),
    ... )
    >>> question = bb.Question(exposed="maintenance", eligible_from="entry")
    >>> person_time = bb.person_time(cohort, question, cuts=[3.0])
    >>> person_time.table["person_time"].sel(endpoint="os").isel(pattern=0).values
    array([[5., 1.],
           [6., 1.]])
    """
    require_kind(cohort, Cohort | CohortScan, "cohort")
    require_kind(question, Question, "question")
    inner = None if cuts is None else validate_cuts(cuts)
    pieces = None if phase_cuts is None else validate_cuts(phase_cuts)
    if question.starts_until is not None and (courses is not None or by_patient):
        raise SpecError(
            "Illness-death courses and effects of single patients have no likelihood of events "
            "that are found at visits."
        )
    if isinstance(cohort, CohortScan):
        if by_patient or weights is not None or courses is not None:
            raise SpecError(
                "Effects of single patients, weights, borrowing by weights and illness-death "
                "courses need patients in memory: read them with read_cohort."
            )
        from bayesblina.person_time.cells.scanned import tabulate_scan

        return tabulate_scan(
            cohort,
            question,
            cuts=inner,
            phase_cuts=pieces,
            compress=compress,
            landmarks=landmarks,
        )
    weight = valid_weights(weights, cohort)
    if cohort.period is not None and courses is not None:
        raise SpecError(
            "Illness-death courses need the whole follow-up of each patient, from one endpoint to "
            "the next, and here it is cut at calendar dates: read the patients without a calendar."
        )
    size = getattr(cohort, "size", 0)
    # Who has several rows is counted once, and events found at visits have terms of their own: both
    # take a look at single patients.
    visited = question.starts_until is not None
    in_one_pass = courses is None and not by_patient and cohort.period is None and not visited
    if size >= MANY and in_one_pass and _numbered(cohort):
        from bayesblina.person_time.cells.many import tabulate_many

        return tabulate_many(
            cohort,
            question,
            cuts=inner,
            phase_cuts=pieces,
            weight=weight,
            compress=compress,
        )
    if courses is None:
        episodes = find_episodes(cohort, question, pieces)
        require_comparison(episodes, question)
    else:
        death, relapse_free = courses
        both = replace(question, endpoints=(death, relapse_free))
        require_comparison(find_episodes(cohort, both), question)
        episodes = find_transitions(
            cohort, question, death=death, relapse_free=relapse_free, phase_cuts=pieces
        )
    grids: Mapping[str, Floats] = {}
    if inner is None:
        grids = visit_grids(episodes)
        inner = _default_cuts(episodes, question, grids)
    return tabulate_each(
        cohort,
        question,
        episodes,
        cuts=inner,
        by_patient=by_patient,
        weight=weight,
        courses=courses,
        compress=compress,
        grids=grids,
    )


def visit_grids(episodes: Mapping[str, Episodes]) -> dict[str, Floats]:
    """Choose cut points of endpoints whose events are mostly found at visits, by endpoint."""
    return {
        name: own.gaps.grid()
        for name, own in episodes.items()
        if own.gaps is not None and 2 * own.gaps.events > own.events
    }


def _default_cuts(
    episodes: Mapping[str, Episodes], question: Question, grids: Mapping[str, Floats]
) -> Floats:
    """Choose cut points from the times of events and of entries, and from visits.

    `grids`: cut points by endpoint whose events are mostly found at visits: no interval is shorter
    than a gap between two visits, within which nothing tells hazards apart.
    """
    exact = {name: own for name, own in episodes.items() if name not in grids}
    pooled = np.unique(np.concatenate([np.empty(0), *grids.values()]))
    if exact:
        chosen = default_cuts(
            np.concatenate([_event_times(own) for own in exact.values()]),
            endpoints=len(exact),
            entry_times=entry_times(episodes, question),
        )
        pooled = np.unique(np.concatenate([pooled, chosen]))
    return pooled[np.diff(pooled, prepend=0.0) > CLOSE * pooled]


def _event_times(own: Episodes) -> Floats:
    """Find when an endpoint's events happened; those found at visits in the middle of the gap."""
    exact = own.stop[own.event]
    if own.gaps is None:
        return exact
    return np.concatenate([exact, own.gaps.ends().sum(axis=0) / 2.0])


def _numbered(cohort: Cohort) -> bool:
    """Say whether every combination of levels has a number of its own in 64 bits."""
    levels = (
        len(covariate.levels)
        for covariate in cohort.covariates.values()
        if covariate.kind == "categorical"
    )
    return math.prod(levels) <= MOST_COMBINATIONS


def valid_weights(weights: ArrayLike | None, cohort: Cohort) -> Floats | None:
    """Check weights of a cohort's patients.

    `weights`, shape (patient,): weights, in the cohort's order; a pandas Series is matched by its
    index, which holds the patients' ids.
    Result, shape (patient,): the weights.
    """
    if weights is None:
        return None
    weights = in_cohort_order(weights, cohort, name="weights")
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise SpecError("weights must be numbers, one for each patient of the cohort.") from None
    if values.shape != (cohort.size,):
        raise SpecError(
            f"weights must be {cohort.size} numbers, one for each patient in the cohort's order; "
            f"got an array of shape {values.shape}."
        )
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        raise DataError(
            [
                Problem(
                    column="weights",
                    patients=tuple(str(patient) for patient in cohort.patients[wrong]),
                    found="weights that are missing, infinite, 0 or negative",
                    expected="Every weight must be a finite number greater than 0; leave "
                    "patients out of the cohort instead of giving them no weight.",
                )
            ],
            source="the weights",
        )
    return values


def in_cohort_order(values: ArrayLike, cohort: Cohort, *, name: str) -> ArrayLike:
    """Match what belongs to patients by patient, where it says whose it is.

    `values`, shape (patient,): a pandas Series, whose index holds the patients' ids; or anything
    else, in the cohort's order.
    Result, shape (patient,): in the cohort's order.
    """
    if isinstance(values, pd.DataFrame):
        raise SpecError(f"{name} must be one column: give a Series whose index holds the ids.")
    if not isinstance(values, pd.Series):
        return values
    index = pd.Index(as_text(values.index.to_series()))
    # All rows of a patient who is cut at calendar dates have the patient's value.
    whose = cohort.patients
    if cohort.period is not None and cohort.persons is not None:
        whose = cohort.persons
    size = np.unique(whose).size
    order = index.get_indexer(pd.Index(whose)) if index.is_unique else np.array([-1])
    if index.size != size or (order < 0).any():
        raise SpecError(
            f"{name}: a Series is matched by patient, so that its index must hold the ids of the "
            f"cohort's {size} patients, each once. Values that stand in the cohort's order "
            f"are given as an array: {name}.to_numpy()."
        )
    return values.iloc[order].to_numpy()
