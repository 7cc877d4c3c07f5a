"""Follow-up cut where the phase begins and ends, and where covariates of starting change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.intervals import snap, split, validate_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import Episodes, find_episodes
from bayesblina.person_time.question import Question
from bayesblina.studies.weighting.confounders import Changes, changes_of, covariates_of

# Regular points at which time at risk of starting is cut, over all of it and over the time in which
# starts matter, so that weights are almost constant in between.
POINTS = 24
START_INTERVALS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Time at risk of starting within which the model's hazard is constant.

    `of`, shape (piece,): cell of each piece of follow-up; -1 for those not at risk of starting.
    `patient`, shape (cell,): row of the patient in the cohort.
    `opens`, `time`, shape (cell,): time since becoming eligible at which it opens, and how long it
    lasts.
    `interval`, shape (cell,): interval of time since becoming eligible.
    `values`, shape (cell, column): covariates, standardised.
    `start`, shape (cell,): whether it ends with the start.
    """

    of: Ints
    patient: Ints
    opens: Floats
    time: Floats
    interval: Ints
    values: Floats
    start: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pieces:
    """Follow-up cut, in the order of patients and time.

    `patient`, shape (piece,): row of the patient in the cohort.
    `first`, `last`, shape (piece,): ends of the piece on the cohort's clock.
    `since`, `until`, shape (piece,): the same since becoming eligible.
    `middle`, shape (piece,): time since becoming eligible at which weights are taken: the middle
    between the beginning and the next regular point. It must not depend on when the piece ends, for
    then events would have the weights of earlier times than those at risk beside them.
    """

    patient: Ints
    first: Floats
    last: Floats
    since: Floats
    until: Floats
    middle: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartingCourse(Pieces):
    """Follow-up in pieces within which nothing changes.

    `cohort`, `endpoint`, `adjust`: what it was made of.
    `begin`, `start`, shape (patient,): when patients become eligible and when they start; infinite
    for those who do not.
    `prevalent`, shape (patient,): whether they had started before.
    `after`, `inside`, `event`, shape (piece,): whether it lies after the start, whether in the
    phase, and whether it ends with the event.
    `current`: whether patients may leave the phase, so that the two differ.
    `intervals`: number of intervals of the hazard of starting.
    `names`: columns of the model of starting.
    `scale`, shape (column,): standard deviations that they were divided by.
    `kept`, shape (column,): which of them stay in the hazard model of the endpoint.
    `cells`: time at risk of starting.
    """

    cohort: Cohort
    endpoint: str
    adjust: tuple[str, ...]
    begin: Floats
    start: Floats
    prevalent: Bools
    after: Bools
    inside: Bools
    current: bool
    event: Bools
    intervals: int
    names: tuple[str, ...]
    scale: Floats
    kept: Bools
    cells: Cells


def make_course(
    cohort: Cohort,
    question: Question,
    endpoint: str,
    *,
    confounders: Sequence[str] | None,
    history: pd.DataFrame | None,
    adjust: Sequence[str],
    cuts: ArrayLike | None,
    grace: float | None = None,
) -> StartingCourse:
    """Cut follow-up where weights or covariates change."""
    chosen = _require(cohort, question, endpoint, confounders, adjust, arms=grace is not None)
    episodes = find_episodes(cohort, replace(question, endpoints=(endpoint,)))[endpoint]
    begin, end = np.full((2, cohort.size), np.nan)
    died = np.zeros(cohort.size, dtype=bool)
    begin[episodes.patient[::-1]] = episodes.start[::-1]
    end[episodes.patient] = episodes.stop
    died[episodes.patient[episodes.event]] = True
    used = np.flatnonzero(np.isfinite(begin))
    exposed = cohort.phases.index(question.exposed)
    _require_last_phase(cohort, exposed, used, begin, end)
    changes = changes_of(cohort, history, used, begin)
    start, left, prevalent = _stays(
        episodes, question.exposed, cohort.phase_start[:, exposed], begin
    )
    begin, end, start, left, at = snap([begin, end, start, left, changes.time])
    changes = replace(changes, time=at)
    incident = used[np.isfinite(start[used]) & ~prevalent[used]]
    if not incident.size:
        raise SpecError(f"Nobody starts {question.exposed} while under observation.")
    since_start = start[incident] - begin[incident]
    inner = _start_cuts(since_start) if cuts is None else validate_cuts(cuts)
    pieces = _pieces(used, begin, end, start, left, changes, inner, grace)
    patient = pieces.patient
    after = pieces.first >= start[patient]
    names, values, kept = covariates_of(cohort, chosen, adjust, changes, patient, pieces.first)
    at_risk = ~after & ~prevalent[patient]
    spread = values[at_risk].std(axis=0)
    constant = [name for name, sd in zip(names, spread, strict=True) if not sd > 0]
    if constant:
        raise SpecError(f"{constant[0]} is the same for everybody at risk: leave it out.")
    standard = (values - values[at_risk].mean(axis=0)) / spread
    interval = np.searchsorted(inner, pieces.since, side="right")
    return StartingCourse(
        **{item.name: getattr(pieces, item.name) for item in fields(pieces)},
        cohort=cohort,
        endpoint=endpoint,
        adjust=tuple(adjust),
        begin=begin,
        start=start,
        prevalent=prevalent,
        after=after,
        inside=after & (pieces.first < left[patient]),
        current=question.phase_end == "current",
        event=died[patient] & (pieces.last == end[patient]),
        intervals=inner.size + 1,
        names=names,
        scale=spread,
        kept=kept,
        cells=_cells(
            pieces, interval, standard, at_risk, at_risk & (pieces.last == start[patient])
        ),
    )


def _require(
    cohort: Cohort,
    question: Question,
    endpoint: str,
    confounders: Sequence[str] | None,
    adjust: Sequence[str],
    *,
    arms: bool,
) -> list[str]:
    """Refuse questions that weights cannot answer; name the covariates of the model of starting."""
    for name, value in (("landmark", question.landmark), ("reference", question.reference)):
        if value is not None:
            raise SpecError(f"Weights are for a question without a {name}: leave it out.")
    if question.lag:
        raise SpecError("Weights are for a question without a lag: leave it out.")
    if question.transplant == "phase":
        raise SpecError("Weights know of no state after transplant: choose 'censor' or 'ignore'.")
    if arms and question.phase_end == "current":
        raise SpecError(
            "The arms of an emulated trial are of starting a phase, whatever follows: choose "
            "phase_end='ever'."
        )
    if endpoint not in cohort.endpoints:
        raise SpecError(f"No endpoint '{endpoint}'. {nearest(endpoint, list(cohort.endpoints))}")
    chosen = list(cohort.covariates) if confounders is None else list(confounders)
    for name in (*chosen, *adjust):
        if name not in cohort.covariates:
            known = list(cohort.covariates)
            raise SpecError(f"No covariate '{name}'. {nearest(name, known)}")
    return chosen + [name for name in adjust if name not in chosen]


def _require_last_phase(
    cohort: Cohort, exposed: int, used: Ints, begin: Floats, end: Floats
) -> None:
    """Refuse a phase after the exposed one that patients enter while at risk."""
    started = cohort.phase_start[used, exposed]
    for later in range(exposed + 1, len(cohort.phases)):
        moved = cohort.phase_start[used, later]
        # Comparisons with NaN are False: who starts neither leaves neither.
        leave = int(((moved >= started) & (moved > begin[used]) & (moved < end[used])).sum())
        if leave:
            raise SpecError(
                f"{leave} patients go from {cohort.phases[exposed]} to {cohort.phases[later]} "
                "while under observation, and weights know of no phase after the exposed one: "
                "read the patients without that phase, so that it counts as the exposed one, or "
                "end their follow-up at its start."
            )


def _stays(
    episodes: Episodes, exposed: str, phase_start: Floats, begin: Floats
) -> tuple[Floats, Floats, Bools]:
    """Read off the episodes when patients start and leave, by patient, and who had started before.

    Who never starts has infinite times; who had left before becoming eligible has left by then.
    """
    mine = np.flatnonzero(episodes.phase == episodes.phases.index(exposed))
    start, left = np.full(begin.size, np.inf), begin.copy()
    start[episodes.patient[mine][::-1]] = episodes.start[mine][::-1]
    left[episodes.patient[mine]] = episodes.stop[mine]
    prevalent = (phase_start <= begin) | (start <= begin)
    return np.where(prevalent, np.fmin(start, phase_start), start), left, prevalent


def _start_cuts(since_start: Floats) -> Floats:
    """Cut the hazard of starting at quartiles of the starts."""
    ranks = np.arange(1, START_INTERVALS) / START_INTERVALS
    quantiles = np.unique(np.quantile(since_start, ranks, method="inverted_cdf"))
    return np.asarray(quantiles[(quantiles > 0) & (quantiles < since_start.max())])


def _pieces(
    used: Ints,
    begin: Floats,
    end: Floats,
    start: Floats,
    left: Floats,
    changes: Changes,
    cuts: Floats,
    grace: float | None,
) -> Pieces:
    """Cut follow-up where the phase begins and ends, and time at risk of starting more finely."""
    # Points at which something of a patient changes: entry, covariates while at risk, start, end.
    before = changes.time < start[changes.patient]
    incident = used[np.isfinite(start[used]) & (start[used] > begin[used])]
    leaving = used[np.isfinite(left[used])]
    who = np.concatenate([used, incident, leaving, changes.patient[before]])
    when = np.concatenate([begin[used], start[incident], left[leaving], changes.time[before]])
    inside = (when >= begin[who]) & (when < end[who])
    who, when = who[inside], when[inside]
    order = np.lexsort((when, who))
    who, when = who[order], when[order]
    fresh = np.concatenate([[True], (np.diff(who) != 0) | (np.diff(when) > 0)])
    who, when = who[fresh], when[fresh]
    next_of = np.concatenate([who[1:] == who[:-1], [False]])
    stop = np.where(next_of, np.concatenate([when[1:], [0.0]]), end[who])
    spans = float((end[used] - begin[used]).max()), float((start - begin)[incident].max())
    regular = (
        np.linspace(0.0, to, POINTS + 1)[1:]
        for to in (spans[0], spans[1] if grace is None else grace)
    )
    grid = np.unique(np.concatenate([cuts, *regular]))
    begun = when >= start[who]
    # Near-ties are made exact, so that no piece is as short as a rounding error.
    low, high, grid = snap([when - begin[who], stop - begin[who], grid])
    part, since, until, middle = _cut(low, high, begun, np.unique(grid[grid > 0]))
    patient = who[part]
    # Ends are taken from the data where they are ends of the data, so that ties stay exact.
    final = np.concatenate([part[1:] != part[:-1], [True]])
    last = np.where(final, stop[part], begin[patient] + until)
    opening = np.concatenate([[True], part[1:] != part[:-1]])
    first = np.where(opening, when[part], np.concatenate([[0.0], last[:-1]]))
    return Pieces(patient=patient, first=first, last=last, since=since, until=until, middle=middle)


def _cut(
    since: Floats, until: Floats, begun: Bools, grid: Floats
) -> tuple[Ints, Floats, Floats, Floats]:
    """Cut time since becoming eligible at a grid; what comes after the start stays uncut."""
    rows = np.flatnonzero(~begun)
    part, cell, length = split(since[rows], until[rows], grid)
    opens = np.concatenate([[0.0], grid])[cell]
    low = np.maximum(since[rows][part], opens)
    uncut = np.flatnonzero(begun)
    row = np.concatenate([rows[part], uncut])
    left = np.concatenate([low, since[uncut]])
    right = np.concatenate([low + length, until[uncut]])
    closes = np.concatenate([np.append(grid, np.inf)[cell], until[uncut]])
    middle = (left + np.where(np.isinf(closes), right, closes)) / 2.0
    order = np.lexsort((left, row))
    return row[order], left[order], right[order], middle[order]


def _cells(pieces: Pieces, interval: Ints, values: Floats, at_risk: Bools, starts: Bools) -> Cells:
    """Join neighbouring pieces at risk that have the same covariates and interval."""
    rows = np.flatnonzero(at_risk)
    who, when, what = pieces.patient[rows], interval[rows], values[rows]
    opens = np.concatenate(
        [[True], (np.diff(who) != 0) | (np.diff(when) != 0) | (np.diff(what, axis=0) != 0).any(1)]
    )
    first = np.flatnonzero(opens)
    of = np.full(pieces.patient.size, -1, dtype=np.int64)
    of[rows] = np.cumsum(opens) - 1
    final = rows[np.concatenate([first[1:] - 1, [rows.size - 1]])]
    return Cells(
        of=of,
        patient=who[first],
        opens=pieces.since[rows][first],
        time=pieces.until[final] - pieces.since[rows][first],
        interval=when[first],
        values=what[first],
        start=starts[final],
    )
