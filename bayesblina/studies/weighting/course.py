"""Follow-up cut where the phase begins and ends, and where covariates of starting change.

Confounders of who starts are covariates of the cohort, and such as change over time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.episodes import OFF_TREATMENT
from bayesblina.core.errors import DataError, Problem, SpecError, nearest, require_kind
from bayesblina.core.intervals import TIE_TOLERANCE, snap, validate_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.history import checked_history
from bayesblina.patients.readers.sources import load_table
from bayesblina.person_time.binding import at_visits
from bayesblina.person_time.follow_up import Episodes, find_episodes
from bayesblina.person_time.question import Question
from bayesblina.studies.weighting.pieces import (
    POINTS,
    Changes,
    Pieces,
    StartingCourse,
    covariates_of,
    cut_at_grid,
    join_cells,
    start_cuts,
)
from bayesblina.studies.weighting.switching import switching_course


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
    require_kind(cohort, Cohort, "cohort")
    require_kind(question, Question, "question")
    if grace is not None and not 0 < grace < np.inf:
        raise SpecError(f"grace must be greater than 0 and finite, got {grace!r}.")
    chosen = _require(cohort, question, endpoint, confounders, adjust, arms=grace is not None)
    episodes = find_episodes(cohort, replace(question, endpoints=(endpoint,)))[endpoint]
    begin, end = np.full((2, cohort.size), np.nan)
    died = np.zeros(cohort.size, dtype=bool)
    begin[episodes.patient[::-1]] = episodes.start[::-1]
    end[episodes.patient] = episodes.stop
    died[episodes.patient[episodes.event]] = True
    used = np.flatnonzero(np.isfinite(begin))
    exposed = [cohort.phases.index(name) for name in question.exposed_phases]
    changes = changes_of(cohort, history, used, begin)
    if switches(cohort, question):
        return switching_course(
            cohort,
            episodes,
            exposed=question.exposure,
            phases=exposed,
            chosen=chosen,
            adjust=adjust,
            changes=changes,
            cuts=None if cuts is None else validate_cuts(cuts),
        )
    if cohort.recurring or len(exposed) > 1:
        _require_no_other_phase(episodes, question.exposure)
    else:
        _require_last_phase(cohort, exposed[0], used, begin, end)
    first_start = np.fmin.reduce([cohort.phase_start[:, index] for index in exposed])
    start, left, prevalent = _stays(episodes, question.exposure, first_start, begin)
    begin, end, start, left, at = snap([begin, end, start, left, changes.time])
    changes = replace(changes, time=at)
    incident = used[np.isfinite(start[used]) & ~prevalent[used]]
    if not incident.size:
        raise SpecError(f"Nobody starts {question.exposure} while under observation.")
    inner = start_cuts((start - begin)[incident]) if cuts is None else validate_cuts(cuts)
    pieces = _pieces(used, begin, end, start, left, changes, inner, grace)
    patient, after = pieces.patient, pieces.first >= start[pieces.patient]
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
        current=question.measured == "current",
        event=died[patient] & (pieces.last == end[patient]),
        intervals=inner.size + 1,
        names=names,
        scale=spread,
        kept=kept,
        cells=join_cells(
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
    if cohort.period is not None:
        raise SpecError(
            "Weights follow each patient from the beginning to the end, and here follow-up is cut "
            "at calendar dates: read the patients without a calendar, or take cohort.whole()."
        )
    given = (question.landmark, question.reference, question.lag or None)
    for name, value in zip(("landmark", "reference", "lag"), given, strict=True):
        if value is not None:
            raise SpecError(f"Weights are for a question without a {name}: leave it out.")
    if endpoint in cohort.endpoints and at_visits(cohort.endpoints[endpoint]):
        raise SpecError(
            f"Weights need to know who has had the event when somebody starts, and events of "
            f"{endpoint} are found at visits: fit the question without weights, its confounders "
            "as covariates."
        )
    if question.transplant == "phase":
        raise SpecError("Weights know of no state after transplant: choose 'censor' or 'ignore'.")
    if question.stepped:
        raise SpecError(
            f"Weights are for one effect, of being in a phase (measure='current') or of having "
            f"started it ('ever'), and measure='{question.measure}' has an effect by step: ask "
            "with one of these, or fit the question without weights, its confounders as covariates."
        )
    if arms and question.measured == "current":
        raise SpecError(
            "The arms of an emulated trial are of starting a phase, whatever follows: choose "
            "phase_end='ever'; or ask starting_weights, which weigh who leaves it, too."
        )
    if endpoint not in cohort.endpoints:
        raise SpecError(f"No endpoint '{endpoint}'. {nearest(endpoint, list(cohort.endpoints))}")
    chosen = list(cohort.covariates) if confounders is None else list(confounders)
    for name in (*chosen, *adjust):
        if name not in cohort.covariates:
            raise SpecError(f"No covariate '{name}'. {nearest(name, list(cohort.covariates))}")
    return chosen + [name for name in adjust if name not in chosen]


def switches(cohort: Cohort, question: Question) -> bool:
    """Say whether patients may leave what is exposed and enter it again, so that both are weighed.

    A single phase that starts and ends once is weighed for its start alone.
    """
    several = cohort.recurring or len(question.exposed_phases) > 1
    return several and question.measured == "current"


def _require_no_other_phase(episodes: Episodes, exposed: str) -> None:
    """Refuse another phase after the exposed ones that patients enter while at risk."""
    names = np.asarray(episodes.phase_names)[episodes.phase]
    inside = names == exposed
    begun = np.maximum.accumulate(np.where(inside, episodes.patient, -1)) == episodes.patient
    leaves = begun & ~inside & (names != OFF_TREATMENT)
    if leaves.any():
        count, later = np.unique(episodes.patient[leaves]).size, str(names[leaves][0])
        raise SpecError(
            f"{count} patients go from {exposed} to {later} while under observation, and weights "
            "of having started know of no phase after the exposed one: ask with "
            "measure='current', which weighs who leaves it, too; or list that phase in exposed; or "
            "end follow-up at its start."
        )


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
    marks = pd.DataFrame(
        {
            "who": np.concatenate([used, incident, leaving, changes.patient[before]]),
            "when": np.concatenate(
                [begin[used], start[incident], left[leaving], changes.time[before]]
            ),
        }
    )
    inside = marks["when"].between(begin[marks["who"]], end[marks["who"]], inclusive="left")
    marks = marks[inside].drop_duplicates().sort_values(["who", "when"])
    who, when = marks["who"].to_numpy(), marks["when"].to_numpy()
    goes_on = np.append(who[1:] == who[:-1], False)
    stop = np.where(goes_on, np.append(when[1:], 0.0), end[who])
    relevant = float((start - begin)[incident].max()) if grace is None else grace
    spans = float((end[used] - begin[used]).max()), relevant
    grid = np.concatenate([cuts, *(np.linspace(0.0, to, POINTS + 1)[1:] for to in spans)])
    # Near-ties are made exact, so that no piece is as short as a rounding error.
    low, high, grid = snap([when - begin[who], stop - begin[who], np.unique(grid)])
    part, since, until, middle = cut_at_grid(
        low, high, when >= start[who], np.unique(grid[grid > 0])
    )
    patient = who[part]
    # Ends are taken from the data where they are ends of the data, so that ties stay exact.
    changed = part[1:] != part[:-1]
    last = np.where(np.append(changed, True), stop[part], begin[patient] + until)
    first = np.where(np.append(True, changed), when[part], np.append(0.0, last[:-1]))
    return Pieces(patient=patient, first=first, last=last, since=since, until=until, middle=middle)


def changes_of(cohort: Cohort, history: pd.DataFrame | None, used: Ints, begin: Floats) -> Changes:
    """Read a history; patients `used` need values when they become eligible, at `begin`."""
    if history is None:
        return Changes(
            names=(), patient=np.empty(0, np.int64), time=np.empty(0), values=np.empty((0, 0))
        )
    frame, _ = load_table(history)
    checked = checked_history(frame, patient="patient", time="time", source="the history")
    names = tuple(str(name) for name in checked.columns if name not in ("patient", "time"))
    clash = [name for name in names if name in cohort.covariates]
    if clash:
        raise SpecError(f"'{clash[0]}' is a covariate of the cohort and of the history.")
    patient = pd.Index(cohort.patients).get_indexer(pd.Index(checked["patient"]))
    _refuse(
        "patient",
        checked["patient"][patient < 0].unique(),
        "patients who are not in the cohort",
        "Leave them out.",
    )
    time, values = checked["time"].to_numpy(float), checked[[*names]].to_numpy(float)
    # What differs by floating-point noise from the time of eligibility is measured by then.
    time = np.where(_same_time(time, begin[patient]), begin[patient], time)
    order = np.lexsort((time, patient))
    patient, time, values = patient[order], time[order], values[order]
    twice = _same_time(time[1:], time[:-1]) & (patient[1:] == patient[:-1])
    twice &= (values[1:] != values[:-1]).any(axis=1)
    _refuse(
        "time",
        cohort.patients[np.unique(patient[1:][twice])],
        "different values at one time",
        "Expected one row for each patient and time.",
    )
    _refuse(
        "time",
        cohort.patients[np.setdiff1d(used, patient[time <= begin[patient]])],
        "no values at or before the patient becomes eligible",
        "Give every eligible patient a row at or before that time.",
    )
    return Changes(names=names, patient=patient, time=time, values=values)


def _same_time(left: Floats, right: Floats) -> Bools:
    """Say which times are the same, up to floating-point noise."""
    return np.isclose(left, right, rtol=TIE_TOLERANCE, atol=0.0)


def _refuse(column: str, patients: Iterable[object], found: str, expected: str) -> None:
    """Refuse a history that some patients contradict."""
    who = tuple(map(str, patients))
    if who:
        problem = Problem(column=column, patients=who, found=found, expected=expected)
        raise DataError([problem], source="the history")
