"""Who starts the exposed phase, and when: follow-up in pieces and a model of starting.

The model is fitted for many weightings of the patients at once, which is what a bootstrap by
patient needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import DataError, Problem, SpecError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE, snap, split, validate_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.history import checked_history
from bayesblina.patients.readers.sources import load_table
from bayesblina.person_time.follow_up import Episodes, find_episodes
from bayesblina.person_time.question import Question

# Regular points at which time at risk of starting is cut, over all of it and over the time in which
# starts matter, so that weights are almost constant in between.
POINTS = 24
START_INTERVALS = 4
NEWTON_STEPS = 60
# Newton's next step would be of the order of its square.
PRECISION = 1e-7
# Keeps a covariate that decides everything from having no finite estimate.
RIDGE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Time at risk of starting within which the model's hazard is constant.

    Attributes
    ----------
    of : ndarray of int, shape (piece,)
        Cell of each piece of follow-up; -1 for those not at risk of starting.
    patient : ndarray of int, shape (cell,)
        Row of the patient in the cohort.
    opens, time : ndarray, shape (cell,)
        Time since becoming eligible at which it opens, and how long it lasts.
    interval : ndarray of int, shape (cell,)
        Interval of time since becoming eligible.
    values : ndarray, shape (cell, column)
        Covariates, standardised.
    start : ndarray of bool, shape (cell,)
        Whether it ends with the start.
    """

    of: Ints
    patient: Ints
    opens: Floats
    time: Floats
    interval: Ints
    values: Floats
    start: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Follow-up in pieces within which nothing changes.

    Attributes
    ----------
    cohort, endpoint, adjust
        What it was made of.
    begin, start : ndarray, shape (patient,)
        When patients become eligible and when they start; infinite for those who do not.
    prevalent : ndarray of bool, shape (patient,)
        Whether they had started before.
    patient : ndarray of int, shape (piece,)
        Row of the patient in the cohort.
    first, last : ndarray, shape (piece,)
        Ends of the piece on the cohort's clock.
    since, until : ndarray, shape (piece,)
        The same since becoming eligible.
    middle : ndarray, shape (piece,)
        Time since becoming eligible at which weights are taken: the middle between the beginning
        and the next regular point. It must not depend on when the piece ends, for then events
        would have the weights of earlier times than those at risk beside them.
    after, inside, event : ndarray of bool, shape (piece,)
        Whether it lies after the start, whether in the phase, and whether it ends with the event.
    current
        Whether patients may leave the phase, so that the two differ.
    intervals
        Number of intervals of the hazard of starting.
    names : tuple of str
        Columns of the model of starting.
    scale : ndarray, shape (column,)
        Standard deviations that they were divided by.
    kept : ndarray of bool, shape (column,)
        Which of them stay in the hazard model of the endpoint.
    cells
        Time at risk of starting.
    """

    cohort: Cohort
    endpoint: str
    adjust: tuple[str, ...]
    begin: Floats
    start: Floats
    prevalent: Bools
    patient: Ints
    first: Floats
    last: Floats
    since: Floats
    until: Floats
    middle: Floats
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
) -> Course:
    """Cut follow-up where weights or covariates change."""
    chosen = _require(cohort, question, endpoint, confounders, adjust, arms=grace is not None)
    found = find_episodes(cohort, replace(question, endpoints=(endpoint,)))[endpoint]
    size = cohort.size
    begin, end = np.full(size, np.nan), np.full(size, np.nan)
    died = np.zeros(size, dtype=bool)
    begin[found.patient[::-1]] = found.start[::-1]
    end[found.patient] = found.stop
    died[found.patient[found.event]] = True
    used = np.flatnonzero(np.isfinite(begin))
    index = cohort.phases.index(question.exposed)
    _require_last_phase(cohort, index, used, begin, end)
    changes = _history(cohort, history, used, begin)
    start, left, prevalent = _stays(found, question.exposed, cohort.phase_start[:, index], begin)
    begin, end, start, left, at = snap([begin, end, start, left, changes.time])
    changes = replace(changes, time=at)
    incident = used[np.isfinite(start[used]) & ~prevalent[used]]
    if not incident.size:
        raise SpecError(f"Nobody starts {question.exposed} while under observation.")
    since_start = start[incident] - begin[incident]
    inner = _start_cuts(since_start) if cuts is None else validate_cuts(cuts)
    pieces = _pieces(used, begin, end, start, left, changes, inner, grace)
    patient, first, since = pieces.patient, pieces.first, pieces.since
    after = first >= start[patient]
    names, values, kept = _covariates(cohort, chosen, adjust, changes, patient, first)
    at_risk = ~after & ~prevalent[patient]
    spread = values[at_risk].std(axis=0)
    constant = [name for name, sd in zip(names, spread, strict=True) if not sd > 0]
    if constant:
        raise SpecError(f"{constant[0]} is the same for everybody at risk: leave it out.")
    interval = np.searchsorted(inner, since, side="right")
    standard = (values - values[at_risk].mean(axis=0)) / spread
    starts = at_risk & (pieces.last == start[patient])
    return Course(
        cohort=cohort,
        endpoint=endpoint,
        adjust=tuple(adjust),
        begin=begin,
        start=start,
        prevalent=prevalent,
        patient=patient,
        first=first,
        last=pieces.last,
        since=since,
        until=pieces.until,
        middle=pieces.middle,
        after=after,
        inside=after & (first < left[patient]),
        current=question.phase_end == "current",
        event=died[patient] & (pieces.last == end[patient]),
        intervals=inner.size + 1,
        names=names,
        scale=spread,
        kept=kept,
        cells=_cells(patient, since, pieces.until, interval, standard, at_risk, starts),
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
    found: Episodes, exposed: str, phase_start: Floats, begin: Floats
) -> tuple[Floats, Floats, Bools]:
    """Read off the episodes when patients start and leave, by patient, and who had started before.

    Who never starts has infinite times; who had left before becoming eligible has left by then.
    """
    mine = np.flatnonzero(found.phase == found.phases.index(exposed))
    start, left = np.full(begin.size, np.inf), begin.copy()
    start[found.patient[mine][::-1]] = found.start[mine][::-1]
    left[found.patient[mine]] = found.stop[mine]
    prevalent = (phase_start <= begin) | (start <= begin)
    return np.where(prevalent, np.fmin(start, phase_start), start), left, prevalent


def _start_cuts(since_start: Floats) -> Floats:
    """Cut the hazard of starting at quartiles of the starts."""
    ranks = np.arange(1, START_INTERVALS) / START_INTERVALS
    quantiles = np.unique(np.quantile(since_start, ranks, method="inverted_cdf"))
    return np.asarray(quantiles[(quantiles > 0) & (quantiles < since_start.max())])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pieces:
    """Follow-up cut, in the order of patients and time; fields as in `Course`."""

    patient: Ints
    first: Floats
    last: Floats
    since: Floats
    until: Floats
    middle: Floats


def _pieces(
    used: Ints,
    begin: Floats,
    end: Floats,
    start: Floats,
    left: Floats,
    changes: _Changes,
    cuts: Floats,
    grace: float | None,
) -> _Pieces:
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
    return _Pieces(patient=patient, first=first, last=last, since=since, until=until, middle=middle)


def _cut(
    since: Floats, until: Floats, begun: Bools, grid: Floats
) -> tuple[Ints, Floats, Floats, Floats]:
    """Cut time since becoming eligible at a grid; what comes after the start stays whole."""
    rows = np.flatnonzero(~begun)
    part, cell, length = split(since[rows], until[rows], grid)
    opens = np.concatenate([[0.0], grid])[cell]
    low = np.maximum(since[rows][part], opens)
    whole = np.flatnonzero(begun)
    row = np.concatenate([rows[part], whole])
    left = np.concatenate([low, since[whole]])
    right = np.concatenate([low + length, until[whole]])
    closes = np.concatenate([np.append(grid, np.inf)[cell], until[whole]])
    middle = (left + np.where(np.isinf(closes), right, closes)) / 2.0
    order = np.lexsort((left, row))
    return row[order], left[order], right[order], middle[order]


def _cells(
    patient: Ints,
    since: Floats,
    until: Floats,
    interval: Ints,
    values: Floats,
    at_risk: Bools,
    starts: Bools,
) -> Cells:
    """Join neighbouring pieces at risk that have the same covariates and interval."""
    rows = np.flatnonzero(at_risk)
    who, when, what = patient[rows], interval[rows], values[rows]
    opens = np.concatenate(
        [[True], (np.diff(who) != 0) | (np.diff(when) != 0) | (np.diff(what, axis=0) != 0).any(1)]
    )
    first = np.flatnonzero(opens)
    of = np.full(patient.size, -1, dtype=np.int64)
    of[rows] = np.cumsum(opens) - 1
    final = rows[np.concatenate([first[1:] - 1, [rows.size - 1]])]
    return Cells(
        of=of,
        patient=who[first],
        opens=since[rows][first],
        time=until[final] - since[rows][first],
        interval=when[first],
        values=what[first],
        start=starts[final],
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """Fitted models of the hazard of starting, one for each weighting of the patients.

    Attributes
    ----------
    log_rate : ndarray, shape (cell, weighting)
        Log hazards of starting.
    point : ndarray, shape (parameter, weighting)
        Log hazards by interval and log hazard ratios.
    coefficient : ndarray, shape (column, weighting)
        Log hazard ratios, of standardised covariates.
    se : ndarray, shape (column, weighting)
        Their standard errors by the information.
    """

    log_rate: Floats
    point: Floats
    coefficient: Floats
    se: Floats


def fit_starts(course: Course, columns: Bools, patients: Floats) -> Starts:
    """Fit piecewise-exponential models of starting: pooled over patients and their time at risk.

    Parameters
    ----------
    columns : ndarray of bool, shape (column,)
        Covariates in the model.
    patients : ndarray, shape (patient, weighting)
        Weights of the patients, greater than 0 for those eligible.
    """
    cells = course.cells
    dummies = np.eye(course.intervals)[cells.interval]
    # Intervals that nobody at risk reaches have no rate.
    dummies = dummies[:, dummies.any(axis=0)]
    count = dummies.shape[1]
    design = np.concatenate([dummies, cells.values[:, columns]], axis=1)
    size = design.shape[1]
    weight = patients[cells.patient]
    time = weight * cells.time[:, None]
    starts = weight * cells.start[:, None]
    middle = np.zeros((size, weight.shape[1]))
    middle[:count] = np.log(starts.sum(axis=0) / time.sum(axis=0))
    point = middle
    if weight.shape[1] > 1:
        # From the fit to mean weights it is near to all.
        near = fit_starts(course, columns, patients.mean(axis=1, keepdims=True))
        point = np.broadcast_to(near.point, middle.shape)
    squares = (design[:, :, None] * design[:, None, :]).reshape(-1, size * size)
    for _ in range(NEWTON_STEPS):
        expected = time * np.exp(np.clip(design @ point, -50.0, 50.0))
        # The penalty makes rates small, not 0, in intervals without a start.
        gradient = design.T @ (starts - expected) - RIDGE * (point - middle)
        curvature = (squares.T @ expected).T.reshape(-1, size, size) + RIDGE * np.eye(size)
        step = np.linalg.solve(curvature, gradient.T[:, :, None])[:, :, 0].T
        # Steps are held short, which keeps Newton's method from overshooting.
        longest = np.abs(step).max(axis=0)
        point = point + step * np.minimum(1.0, 2.0 / np.maximum(longest, 1e-300))
        if longest.max() < PRECISION:
            break
    variance = np.diagonal(np.linalg.inv(curvature), axis1=1, axis2=2)
    return Starts(
        log_rate=design @ point,
        point=point,
        coefficient=point[count:],
        se=np.sqrt(variance[:, count:]).T,
    )


def log_inverse_probability(course: Course, fitted: Starts, rows: Ints) -> Floats:
    """Give minus the log probability of not having started, or the log density of the start made.

    Parameters
    ----------
    rows : ndarray of int, shape (row,)
        Pieces. Those at risk of starting count from their `Course.middle`.

    Returns
    -------
    ndarray, shape (row, weighting)
        Its values.
    """
    cells = course.cells
    rate = np.exp(fitted.log_rate)
    spent = rate * cells.time[:, None]
    opened = np.cumsum(spent, axis=0) - spent
    fresh = np.concatenate([[True], np.diff(cells.patient) != 0])
    opened -= opened[fresh][np.cumsum(fresh) - 1]
    logs = np.zeros((rows.size, rate.shape[1]))
    cell = cells.of[rows]
    waiting = np.flatnonzero(cell >= 0)
    at = cell[waiting]
    some = rate.take(at, axis=0)
    some *= (course.middle[rows][waiting] - cells.opens[at])[:, None]
    some += opened.take(at, axis=0)
    logs[waiting] = some
    started = np.full(course.begin.size, -1, dtype=np.int64)
    ends = np.flatnonzero(cells.start)
    started[cells.patient[ends]] = ends
    at = started[course.patient[rows]]
    done = (cell < 0) & (at >= 0)
    at = at[done]
    logs[done] = opened[at] + spent[at] - fitted.log_rate[at]
    return logs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Changes:
    """Values of covariates that change over time, by patient and in the order of time."""

    names: tuple[str, ...]
    patient: Ints
    time: Floats
    values: Floats


def _history(cohort: Cohort, history: pd.DataFrame | None, used: Ints, begin: Floats) -> _Changes:
    if history is None:
        return _Changes(
            names=(), patient=np.empty(0, np.int64), time=np.empty(0), values=np.empty((0, 0))
        )
    frame, _ = load_table(history)
    checked = checked_history(frame, patient="patient", time="time", source="the history")
    names = tuple(str(name) for name in checked.columns if name not in ("patient", "time"))
    clash = [name for name in names if name in cohort.covariates]
    if clash:
        raise SpecError(f"'{clash[0]}' is a covariate of the cohort and of the history.")
    row = {str(patient): index for index, patient in enumerate(cohort.patients)}
    ids = checked["patient"]
    unknown = ids[~ids.isin(row)]
    if len(unknown):
        problem = Problem(
            column="patient",
            patients=tuple(dict.fromkeys(unknown)),
            found="patients who are not in the cohort",
            expected="Leave them out.",
        )
        raise DataError([problem], source="the history")
    columns = checked[["time", *names]].to_numpy(dtype=np.float64)
    patient = np.array([row[one] for one in ids], dtype=np.int64)
    # What differs by floating-point noise from the time of eligibility is measured by then.
    at, time = begin[patient], columns[:, 0]
    time = np.where(np.isclose(time, at, rtol=TIE_TOLERANCE, atol=0.0), at, time)
    order = np.lexsort((time, patient))
    patient, time, values = patient[order], time[order], columns[order, 1:]
    _refuse_two_values(cohort, patient, time, values)
    covered = np.zeros(cohort.size, dtype=bool)
    covered[patient[time <= begin[patient]]] = True
    missing = used[~covered[used]]
    if missing.size:
        raise DataError(
            [
                Problem(
                    column="time",
                    patients=tuple(str(one) for one in cohort.patients[missing]),
                    found="no values at or before the patient becomes eligible",
                    expected="Give every eligible patient a row at or before that time.",
                )
            ],
            source="the history",
        )
    return _Changes(names=names, patient=patient, time=time, values=values)


def _refuse_two_values(cohort: Cohort, patient: Ints, time: Floats, values: Floats) -> None:
    """Refuse rows of one patient and one time that say different things."""
    same = np.isclose(time[1:], time[:-1], rtol=TIE_TOLERANCE, atol=0.0)
    same &= patient[1:] == patient[:-1]
    twice = same & (values[1:] != values[:-1]).any(axis=1)
    if twice.any():
        rows = np.unique(patient[1:][twice])
        problem = Problem(
            column="time",
            patients=tuple(str(one) for one in cohort.patients[rows]),
            found="different values at one time",
            expected="Expected one row for each patient and time.",
        )
        raise DataError([problem], source="the history")


def _covariates(
    cohort: Cohort,
    chosen: Sequence[str],
    adjust: Sequence[str],
    changes: _Changes,
    patient: Ints,
    first: Floats,
) -> tuple[tuple[str, ...], Floats, Bools]:
    """Values of all covariates at the beginning of each piece, and which are adjusted for."""
    names: list[str] = []
    columns: list[Floats] = []
    kept: list[bool] = []
    for name in chosen:
        covariate = cohort.covariates[name]
        if covariate.kind == "continuous":
            names.append(name)
            columns.append(covariate.values[patient])
            kept.append(name in adjust)
            continue
        present = [
            level for level in range(len(covariate.levels)) if (covariate.values == level).any()
        ]
        for level in present[1:]:
            names.append(f"{name}[{covariate.levels[level]}]")
            columns.append((covariate.values[patient] == level).astype(np.float64))
            kept.append(name in adjust)
    if changes.names:
        # The last change at or before the piece begins, by one sorted key for patient and rank of
        # the time: whole numbers, since times of any length must not run into the next patient's.
        moments, rank = np.unique(np.concatenate([changes.time, first]), return_inverse=True)
        changed, begun = np.split(rank, [changes.time.size])
        key = changes.patient * moments.size + changed
        place = np.searchsorted(key, patient * moments.size + begun, side="right") - 1
        names += changes.names
        columns += list(changes.values[place].T)
        kept += [False] * len(changes.names)
    if not names:
        raise SpecError("There are no confounders: name covariates, or give a history.")
    return tuple(names), np.stack(columns, axis=1), np.array(kept)
