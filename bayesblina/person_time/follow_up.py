"""Who is at risk for a question, when, and in which state; numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.episodes import TRANSPLANT, cut_follow_up, state_bounds
from bayesblina.core.errors import DataError, Problem, SpecError
from bayesblina.core.intervals import TIE_TOLERANCE, snap
from bayesblina.patients.account import Line
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import InMemory, Tie, tie_of
from bayesblina.person_time.question import ENTRY, Question, bind
from bayesblina.person_time.segments import reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Patients who do not contribute to an endpoint, and why.

    Attributes
    ----------
    endpoint
        The endpoint.
    reason
        Why they do not contribute.
    patients
        Their ids; where patients are only counted, those of the first few.
    count
        Number of patients, where they are only counted.
    """

    endpoint: str
    reason: str
    patients: tuple[str, ...]
    count: int | None = None

    @property
    def size(self) -> int:
        """Number of patients."""
        return len(self.patients) if self.count is None else self.count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episodes:
    """One endpoint's time at risk, cut at changes of phase.

    Attributes
    ----------
    endpoint
        The endpoint.
    patient : ndarray of int, shape (episode,)
        Row of the cohort.
    phase : ndarray of int, shape (episode,)
        Position in `phases`.
    start, stop : ndarray, shape (episode,)
        The episode ``(start, stop]``; never empty.
    event : ndarray of bool, shape (episode,)
        Whether it ends with the endpoint's event.
    phases
        Names of all possible states.
    phase_names : tuple of str
        The phase that each state is, or is a piece of.
    since : tuple of float
        Time since entering the phase at which each state begins; 0 unless it is a later piece.
    left_out
        Who does not contribute, by reason.
    time_at_risk, events
        Totals over the patients who contribute, taken before their time was cut.
    """

    endpoint: str
    patient: Ints
    phase: Ints
    start: Floats
    stop: Floats
    event: Bools
    phases: tuple[str, ...]
    phase_names: tuple[str, ...]
    since: tuple[float, ...]
    left_out: tuple[LeftOut, ...]
    time_at_risk: float
    events: int


def find_episodes(cohort: Cohort, question: Question) -> dict[str, Episodes]:
    """Cut each endpoint's time at risk at changes of phase.

    Near-ties of times are made exact first (relative 1e-9). A phase that starts at the end of
    follow-up, or less than a hundredth of a day before it, contributes nothing, and the event stays
    in the earlier phase.
    """
    names = bind(question, cohort)
    if not isinstance(cohort, Cohort):
        raise SpecError(
            "This looks at single patients, and these are in a query engine: read them into memory "
            "with read_cohort."
        )
    lags = [question.lag if phase == question.exposed else 0.0 for phase in cohort.phases]
    bounds, phases, state = state_bounds(
        cohort.phases,
        cohort.phase_start,
        ends=cohort.phase_end if question.phase_end == "current" else None,
        lags=lags,
        transplant=cohort.transplant if question.transplant == "phase" else None,
    )
    eligible = (
        np.zeros(cohort.size)
        if question.eligible_from == ENTRY
        else cohort.phase_start[:, cohort.phases.index(question.eligible_from)]
    )
    transplant = np.full(cohort.size, np.inf)
    if cohort.transplant is not None and question.transplant == "censor":
        transplant = np.where(np.isnan(cohort.transplant), np.inf, cohort.transplant)
    landmark = np.array([-np.inf if question.landmark is None else question.landmark])
    arrays = [bounds, eligible, transplant, landmark]
    for name in names:
        arrays += [cohort.endpoints[name].time, cohort.endpoints[name].entry]
    bounds, eligible, transplant, landmark, *rest = snap(arrays)
    tie = tie_of(cohort.unit)
    found = {}
    for position, name in enumerate(names):
        time, entry = rest[2 * position], rest[2 * position + 1]
        stop = np.fmin(time, transplant)
        event = cohort.endpoints[name].event & (time <= transplant)
        begin = np.fmax(np.fmax(entry, eligible), landmark[0])
        affected_by = (
            np.isnan(entry),
            np.isnan(eligible),
            time <= np.fmax(entry, eligible),
            time <= landmark[0],
            (begin > landmark[0]) & (question.landmark is not None),
            stop <= begin,
        )
        in_play = np.ones(cohort.size, dtype=bool)
        left_out = []
        for reason, affected in zip(reasons(question), affected_by, strict=True):
            out = in_play & affected
            in_play &= ~affected
            if out.any():
                ids = tuple(str(patient) for patient in cohort.patients[out])
                left_out.append(LeftOut(endpoint=name, reason=reason, patients=ids))
        rows = np.flatnonzero(in_play)
        # A state that is entered at the end of follow-up, or all but there, is none. The first is
        # never entered: it is there, and follow-up that is shorter than all that stays in it.
        until, marks = stop[rows, None], bounds[rows]
        entered = marks[:, 1:]
        marks[:, 1:] = np.where(tie.near(entered, until, InMemory()), until, entered)
        who, segment, starts, ends = cut_follow_up(marks, begin[rows], stop[rows])
        found[name] = Episodes(
            endpoint=name,
            patient=rows[who],
            phase=state[segment],
            start=starts,
            stop=ends,
            event=event[rows[who]] & (ends == stop[rows[who]]),
            phases=phases,
            phase_names=phases,
            since=(0.0,) * len(phases),
            left_out=tuple(left_out),
            time_at_risk=float((stop[rows] - begin[rows]).sum()),
            events=int(event[rows].sum()),
        )
    return found


def cut_since_entry(
    found: Episodes, entered: Floats, cuts: Floats, *, phase: str, tie: Tie
) -> Episodes:
    """Cut the time in a phase by the time since entering it.

    The same time at risk; the phase's state is replaced by one for each piece. A piece ends at its
    cut, and an event there belongs to it.

    Parameters
    ----------
    entered : ndarray, shape (cohort patient,)
        When each patient entered the phase; NaN for never.
    cuts : ndarray, shape (n_pieces - 1,)
        Times since entry.
    """
    index = found.phases.index(phase)
    edges = np.concatenate([[0.0], cuts])
    names = [f"{phase} {low:g} to {high:g}" for low, high in pairwise(edges)]
    names.append(f"{phase} from {edges[-1]:g}")
    inside = found.phase == index
    # Outside the phase nothing is cut: the origin of its clock lies after the episode.
    origin = np.where(inside, entered[found.patient], found.stop)
    bounds = origin[:, None] + np.append(edges, np.inf)
    bounds[:, 0] = -np.inf
    final = np.diff(found.patient, append=-1)[:, None] != 0
    near = np.abs(bounds - found.stop[:, None]) <= TIE_TOLERANCE * found.stop[:, None]
    near |= final & tie.near(bounds, found.stop[:, None], InMemory())
    bounds = np.where(near, found.stop[:, None], bounds)
    near = np.abs(bounds - found.start[:, None]) <= TIE_TOLERANCE * found.stop[:, None]
    bounds = np.where(near, found.start[:, None], bounds)
    episode, piece, start, stop = cut_follow_up(bounds, found.start, found.stop)
    state = found.phase[episode]
    state = np.where(state > index, state + cuts.size, state)
    state = np.where(inside[episode], index + piece, state)

    def spread(values: tuple[Any, ...], pieces: Sequence[Any]) -> tuple[Any, ...]:
        return (*values[:index], *pieces, *values[index + 1 :])

    return replace(
        found,
        patient=found.patient[episode],
        phase=state,
        start=start,
        stop=stop,
        event=found.event[episode] & (stop == found.stop[episode]),
        phases=spread(found.phases, names),
        phase_names=spread(found.phase_names, [phase] * len(names)),
        since=spread(found.since, edges.tolist()),
    )


def roles_of(phases: Sequence[str], question: Question) -> list[str]:
    """Say what each state is to a question.

    Examples
    --------
    >>> question = Question(exposed="maintenance", eligible_from="consolidation")
    >>> roles_of(["consolidation", "maintenance", "transplant"], question)
    ['reference', 'exposed', 'other']
    """

    def role(name: str) -> str:
        if name == question.exposed:
            return "exposed"
        if question.reference is None:
            return "other" if name == TRANSPLANT else "reference"
        return "reference" if name == question.reference else "other"

    return [role(name) for name in phases]


def effect_kinds(phases: Sequence[str], question: Question) -> tuple[int, ...]:
    """Give each state the number of its effect on the hazard.

    Examples
    --------
    >>> question = Question(exposed="maintenance", eligible_from="consolidation")
    >>> effect_kinds(["consolidation", "maintenance", "off treatment"], question)
    (0, 1, 0)
    """
    labels = [
        "" if role == "reference" else name
        for name, role in zip(phases, roles_of(phases, question), strict=True)
    ]
    order = ["", *dict.fromkeys(label for label in labels if label)]
    return tuple(order.index(label) for label in labels)


def entry_times(episodes: Mapping[str, Episodes], question: Question) -> list[Floats]:
    """Find when patients enter states with another effect, or come under observation late.

    Times by kind, all endpoints together: entries into each kind of state of `effect_kinds` from
    one of another kind; at last the begins of follow-up after the earliest of all.
    """
    kinds = np.array(effect_kinds(next(iter(episodes.values())).phase_names, question))
    times: list[list[Floats]] = [[] for _ in range(int(kinds.max()) + 1)]
    begins = []
    for found in episodes.values():
        kind = kinds[found.phase]
        first = np.diff(found.patient, prepend=-1) != 0
        changed = ~first & (np.diff(kind, prepend=-1) != 0)
        for index, held in enumerate(times):
            held.append(found.start[changed & (kind == index)])
        begins.append(found.start[first])
    return [*(np.concatenate(held) for held in times), late_begins(np.concatenate(begins))]


def hazard_before_observation(cohort: Cohort, question: Question) -> dict[str, float]:
    """Find how much left truncation there is: hazard that passes before patients are observed.

    Whoever has the event between becoming eligible and coming under observation is never seen.
    Patients eligible from the start of a phase become so then, and those of a question with a
    landmark are all at risk there.

    Returns
    -------
    dict of float
        By endpoint: the mean, over the patients who contribute, of the time between the two, times
        events per time at risk.
    """
    eligible = np.zeros(cohort.size)
    if question.eligible_from != ENTRY:
        eligible = cohort.phase_start[:, cohort.phases.index(question.eligible_from)]
    found = {}
    for name in bind(question, cohort):
        outcome = cohort.endpoints[name]
        begin = np.maximum(outcome.entry, eligible)
        seen = outcome.time > begin
        events, time = outcome.event[seen].sum(), (outcome.time - begin)[seen].sum()
        late = 0.0 if question.landmark is not None else (begin - eligible)[seen].sum()
        found[name] = float(events / time * late / seen.sum()) if seen.any() else 0.0
    return found


def late_begins(begin: Floats) -> Floats:
    """Take the begins of follow-up after the earliest of all.

    Parameters
    ----------
    begin : ndarray, shape (n,)
        Begins.

    Returns
    -------
    ndarray, shape (m,)
        Those that are later by more than floating-point noise.

    Examples
    --------
    >>> late_begins(np.array([0.0, 2.0, 0.0]))
    array([2.])
    """
    return np.asarray(begin[begin > begin.min(initial=np.inf) * (1.0 + TIE_TOLERANCE)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What there is to compare for one endpoint.

    Attributes
    ----------
    patients, events
        How many contribute.
    visited
        Roles of the states in which anybody has time at risk.
    """

    patients: int
    events: float
    visited: frozenset[str]


def require_comparison(episodes: Mapping[str, Episodes], question: Question) -> None:
    """Check that there is something to compare."""
    require_contents(
        {
            name: Contents(
                patients=int(np.unique(found.patient).size),
                events=float(found.event.sum()),
                visited=frozenset(
                    np.asarray(roles_of(found.phase_names, question))[found.phase].tolist()
                ),
            )
            for name, found in episodes.items()
        },
        question,
    )


def require_contents(contents: Mapping[str, Contents], question: Question) -> None:
    """Check that there is something to compare, where it is counted already."""
    against = question.reference
    outside = f"time outside {question.exposed}" if against is None else f"time in {against}"
    problems = []
    for name, found in contents.items():
        checks = (
            (found.patients > 0, "no patient is ever eligible"),
            (found.patients > 1, "only one patient is eligible"),
            (found.events > 0, "no event among the eligible patients"),
            ("exposed" in found.visited, f"no eligible patient has time in {question.exposed}"),
            ("reference" in found.visited, f"no eligible patient has {outside}"),
        )
        failed = next((message for passed, message in checks if not passed), None)
        if failed is not None:
            problems.append(
                Problem(
                    column=name,
                    found=failed,
                    expected="There is nothing to compare: check the endpoint's columns and "
                    "the Question's eligible_from, landmark, lag and reference.",
                )
            )
    if problems:
        raise DataError(problems, source="the question asked of this cohort")


def account_of(found: Episodes, ids: NDArray[np.str_], roles: Sequence[str]) -> list[Line]:
    """Say who is in the analysis of an endpoint, who is not and why, and where time was spent.

    Parameters
    ----------
    ids : ndarray of str, shape (patient,)
        Patient ids, which the episodes number.
    """

    def counted(rows: Bools, step: str, what: str, phase: str = "") -> Line:
        return Line(
            step=step,
            endpoint=found.endpoint,
            phase=phase,
            what=what,
            patients=tuple(str(patient) for patient in ids[np.unique(found.patient[rows])]),
            events=int(found.event[rows].sum()),
            person_time=float((found.stop - found.start)[rows].sum()),
        )

    lines = [
        Line(step="left out", endpoint=found.endpoint, what=one.reason, patients=one.patients)
        for one in found.left_out
    ]
    lines.append(counted(np.ones(found.patient.size, dtype=bool), "eligible", "at risk"))
    for index, (phase, role) in enumerate(zip(found.phases, roles, strict=True)):
        rows = found.phase == index
        if rows.any():
            lines.append(counted(rows, "in phase", role, phase))
    return lines
