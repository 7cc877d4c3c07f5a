"""Turnbull's curves of events found at visits, by state or by a covariate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayesblina.classical.comparison import Comparison, levels_of_patients
from bayesblina.core.arrays import Bools, Ints
from bayesblina.core.errors import SpecError, require_kind
from bayesblina.core.intervals import snap
from bayesblina.core.self_consistency import Known, StepCurves, self_consistent
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import Episodes, find_episodes, roles_of
from bayesblina.person_time.question import Question

# Falls below this are those of cells from which the steps have taken all events away.
SMALLEST_FALL = 1e-8
COLUMNS = ["endpoint", "group", "start", "stop", "survival", "at_risk", "events"]


def turnbull(
    cohort: Cohort, question: Question | None = None, *, by: str | None = None
) -> pd.DataFrame:
    """Survival curves of events found at visits, by Turnbull.

    The curve that maximises the likelihood falls only within intervals, and data say nothing of how
    it falls within one: it is not defined there. With exact times it is the product limit.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared: curves of the exposed and the reference group as `simon_makuch` has them.
        A patient changes groups when the phase changes, and enters the risk set of the new one
        then.
    by
        Instead of a question, a categorical covariate: one curve for each of its levels. Patients
        are at risk from their entry on; treatment phases play no part. Without either there is one
        curve of all patients.

    Returns
    -------
    pandas.DataFrame
        Columns ``endpoint``, ``group``, ``start``, ``stop``, ``survival``, ``at_risk``,
        ``events``. Each group starts with a row at the start of the curve; further rows are the
        intervals ``(start, stop]`` in which it falls, with the survival from ``stop`` on, and the
        end of its follow-up. Between ``start`` and ``stop`` the curve is not defined; where the two
        are equal, as at deaths, it falls at that time. ``at_risk`` and ``events`` are expected
        numbers.

    Raises
    ------
    SpecError
        If both a question and a covariate are given, the covariate is no categorical one, or the
        question cannot be asked of the cohort.
    ConvergenceError
        If the curve has not settled after 20,000 steps.

    Notes
    -----
    Turnbull (1976), doi:10.1111/j.2517-6161.1976.tb01597.x, by expected events over expected
    numbers at risk in each interval in turn, until none of these hazards changes by more than
    1e-11.

    By state, a gap between two visits may hold the start of the phase. With
    ``starts_until="found"`` the event then lies before or after the start, in one group's curve or
    the other's, and both are estimated together; what is assumed is that the hazard depends on time
    and the current state, and that the start says nothing of the event. With
    ``starts_until="event"`` a start proves that there was no event before it, so that no gap holds
    one; but that a gap holds none is evidence, too, which needs a model of starting, and no step
    curve has it: the curve of those who have not started is then too low towards the end of gaps,
    and the model's own curve is to be preferred. Curves by a covariate assume neither.

    There is no band: its error shrinks more slowly than the root of the number of patients.

    Examples
    --------
    >>> import bayesblina as bb
    >>> schedule = bb.simulate.VisitSchedule(every=12.0)
    >>> truth = bb.simulate.VisitTruth(starts_until="found", visits=schedule)
    >>> cohort, exact, _ = bb.simulate.visits_cohort(1, truth=truth)
    >>> curve = bb.classical.turnbull(cohort)
    >>> curve[["start", "stop"]].tail(3).values.tolist()
    [[0.0, 12.0], [12.0, 24.0], [24.0, 36.0]]
    """
    require_kind(cohort, Cohort, "cohort")
    if question is not None and by is not None:
        raise SpecError(
            "Curves are by the state of a question or by a covariate: leave one of question and by "
            "out."
        )
    if question is not None:
        # With the gaps, which a comparison for other methods has closed.
        episodes = find_episodes(cohort, question)
        comparison = Comparison(cohort=cohort, question=question, episodes=episodes)
        return _joined(cohort, _by_state(comparison))
    return _joined(cohort, _by_level(cohort, by))


def _joined(cohort: Cohort, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put the tables of endpoints together."""
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    result = pd.concat(tables, ignore_index=True)[COLUMNS]
    result.attrs |= {"synthetic": cohort.synthetic, "unit": cohort.unit}
    return result


def _by_state(comparison: Comparison) -> list[pd.DataFrame]:
    """Draw up the curves of a comparison; states of neither group have curves that are not told."""
    tables = []
    for name, episodes in comparison.episodes.items():
        patient, phase, start, stop, event, gap = episodes.whole
        group = _groups(comparison, episodes)[phase]
        known = Known(
            patient=patient, group=group, start=start, stop=stop, event=event & ~gap, gap=gap
        )
        tables += _told(known, name, comparison.labels)
    return tables


def _groups(comparison: Comparison, episodes: Episodes) -> Ints:
    """Give each state the number of its group: 0 exposed, 1 reference, others from 2 on."""
    roles = np.array(roles_of(episodes.phase_names, comparison.question))
    numbers = np.arange(2, 2 + roles.size)
    return np.where(roles == "exposed", 0, np.where(roles == "reference", 1, numbers))


def _by_level(cohort: Cohort, by: str | None) -> list[pd.DataFrame]:
    """Draw up curves of the levels of a covariate, or of all patients."""
    number, labels = levels_of_patients(cohort, [] if by is None else [by])
    tables = []
    for name, outcome in cohort.endpoints.items():
        entry, time, free = snap([outcome.entry, outcome.time, outcome.known_free])
        free = np.clip(free, entry, time)
        found = outcome.event & (free < time)
        seen = free > entry
        patient = np.concatenate([np.flatnonzero(seen), np.flatnonzero(found)])
        gap = np.arange(patient.size) >= seen.sum()
        order = np.lexsort((gap, patient))
        patient, gap = patient[order], gap[order]
        known = Known(
            patient=patient,
            group=number[patient],
            start=np.where(gap, free[patient], entry[patient]),
            stop=np.where(gap, time[patient], free[patient]),
            event=(outcome.event & ~found)[patient] & ~gap,
            gap=gap,
        )
        tables += _told(known, name, [label or "all" for label in labels])
    return tables


def _told(known: Known, endpoint: str, labels: Sequence[str]) -> list[pd.DataFrame]:
    """Put the curves of the groups that have a name into tables."""
    if not known.patient.size:
        return []
    curves = self_consistent(known)
    return [
        _table(curves, curves.group == number, known, known.group == number).assign(
            endpoint=endpoint, group=label
        )
        for number, label in enumerate(labels)
        if (known.group == number).any()
    ]


def _table(curves: StepCurves, cells: Bools, known: Known, rows: Bools) -> pd.DataFrame:
    """Lay out one curve: its start, where it falls, and the end of follow-up."""
    survival = curves.survival[cells]
    fall = -np.diff(survival, prepend=1.0)
    kept = np.flatnonzero(cells)[fall > SMALLEST_FALL]
    begin, end = float(known.start[rows].min()), float(known.stop[rows].max())
    at_begin = float((known.start[rows] == begin).sum())
    at_end = float((known.stop[rows] == end).sum())
    columns = {
        "start": [begin, *curves.start[kept], end],
        "stop": [begin, *curves.stop[kept], end],
        "survival": [1.0, *curves.survival[kept], survival[-1] if survival.size else 1.0],
        "at_risk": [at_begin, *curves.at_risk[kept], at_end],
        "events": [0.0, *curves.events[kept], 0.0],
    }
    table = pd.DataFrame(columns)
    # Follow-up that ends in a fall has no row of its own.
    return table.iloc[:-1] if kept.size and curves.stop[kept][-1] == end else table
