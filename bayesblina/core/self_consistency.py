"""Turnbull's estimator: step curves of events known to lie in gaps, with delayed entry.

Curves are made of hazards of cells: of the shortest stretches in which events can lie, each between
the start of some gap (or the end of some follow-up) and the end of some gap (or an entry). Expected
events over the expected number at risk in each cell are the hazards that maximise the likelihood
given where events lie, and hazards in turn say where events lie; the two are taken in turn. Entries
need no ghosts: who is not at risk is in no risk set. A gap may run through several groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import xlogy

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import ConvergenceError

# The largest change of a cell's expected share in a step, at which steps end, and their number.
CLOSE, MOST_STEPS = 1e-11, 20_000
# The largest hazard while it is worked out where events lie: later entries have survived it.
CERTAIN = 1.0 - 1e-12
# Marks at one time, in their order: just before it, at it, just after it.
MARKS = 3
BEFORE, AT, AFTER = range(MARKS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What is known of patients, in rows by patient and time: stretches in one group each.

    `patient`, `group`, shape (row,): whose it is, and in which group.
    `start`, `stop`, shape (row,): the stretch ``(start, stop]``; none is empty.
    `event`, shape (row,): whether it ends with an event at that very time.
    `gap`, shape (row,): whether the row is a part of a gap in which the patient's event lies;
    otherwise it was survived, up to an event at its end.
    """

    patient: Ints
    group: Ints
    start: Floats
    stop: Floats
    event: Bools
    gap: Bools

    @property
    def goes_on(self) -> Bools:
        """Whether a row goes on where the patient's row before ends, in the same group."""
        same = np.diff(self.patient, prepend=-1) == 0
        same &= np.diff(self.group, prepend=-1) == 0
        same[1:] &= self.start[1:] == self.stop[:-1]
        return np.asarray(same, dtype=np.bool_)

    def joined(self) -> Known:
        """Join rows that are one stretch: no patient enters in its middle."""
        opens = ~self.goes_on | (np.diff(self.gap, prepend=False) != 0)
        closes = np.append(opens[1:], True)[: opens.size]
        return Known(
            patient=self.patient[opens],
            group=self.group[opens],
            start=self.start[opens],
            stop=self.stop[closes],
            event=self.event[closes],
            gap=self.gap[opens],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepCurves:
    """Cells of all groups in which events may lie, by group and time.

    `group`, `start`, `stop`, shape (cell,): the cell ``(start, stop]``; where the two are equal it
    is that time alone.
    `survival`, shape (cell,): survival after the cell.
    `at_risk`, `events`, shape (cell,): expected numbers.
    """

    group: Ints
    start: Floats
    stop: Floats
    survival: Floats
    at_risk: Floats
    events: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Gaps:
    """Parts of gaps, by event and time, and what is certain of cells.

    `begins`, shape (cell,): first cell of each cell's group.
    `events`, `at_risk`, shape (cell,): events at known times, and who is known to be at risk.
    `first`, `last`, shape (part,): the part's cells, ``first`` to before ``last``.
    `opens`, shape (event,): first part of each event.
    `covering`, shape (part, cell): 1 where the part covers the cell.
    """

    begins: Ints
    events: Floats
    at_risk: Floats
    first: Ints
    last: Ints
    opens: Ints
    covering: sparse.csr_array

    def passed(self, hazard: Floats) -> Floats:
        """Logarithm of the survival before each cell, and after the last one of all."""
        steps = np.concatenate([[0.0], np.cumsum(np.log1p(-hazard))])
        return np.asarray(steps - steps[np.append(self.begins, self.begins[-1])])

    def expected(self, hazard: Floats) -> tuple[Floats, Floats, float]:
        """Work out expected events and numbers at risk of cells, and the log-likelihood."""
        some = np.minimum(hazard, CERTAIN)
        total = xlogy(self.events, some).sum()
        total += ((self.at_risk - self.events) * np.log1p(-some)).sum()
        if not self.first.size:
            return self.events, self.at_risk, float(total)
        survived = self.passed(some)
        begun = survived[self.first]
        # The last cell of a part is of its group, so that what passes within it is too.
        inside = survived[self.last - 1] + np.log1p(-some[self.last - 1]) - begun
        event = np.repeat(np.arange(self.opens.size), np.diff(self.opens, append=inside.size))
        running = np.cumsum(inside)
        whole = np.add.reduceat(inside, self.opens)
        before = running - inside - (running - inside)[self.opens][event]
        found = -np.expm1(whole)
        total += np.log(found).sum()
        later = np.exp(whole[event] - before - inside)
        scale = np.exp(before - begun) / found[event]
        within = np.exp(survived[:-1]) * (self.covering.T @ scale)
        beyond = self.covering.T @ (scale * np.exp(begun + inside) * later)
        events = self.events + some * within
        return events, self.at_risk + within - beyond, float(total)


def self_consistent(known: Known) -> StepCurves:
    """Find the curves that maximise the likelihood.

    Turnbull (1976), doi:10.1111/j.2517-6161.1976.tb01597.x; Frydman (1994),
    doi:10.1111/j.2517-6161.1994.tb01960.x.
    """
    known = known.joined()
    times = np.unique(np.concatenate([known.start, known.stop]))
    start, stop = (np.searchsorted(times, ends) * MARKS for ends in (known.start, known.stop))
    offset = known.group * MARKS * times.size
    start, stop, exact = start + offset, stop + offset, known.event & ~known.gap
    # No event lies before a patient's gap or the end of follow-up but in another's gap.
    opening = np.where(known.gap, start + AFTER, np.where(exact, stop + BEFORE, stop + AFTER))
    closing = np.concatenate([stop[known.gap | exact], start[~known.goes_on]]) + AT
    marks = np.unique(np.concatenate([opening, closing]))
    is_open = marks % MARKS != AT
    pair = np.flatnonzero(is_open[:-1] & ~is_open[1:])
    group = marks // (MARKS * times.size)
    pair = pair[group[pair] == group[pair + 1]]
    opens, closes, group = marks[pair], marks[pair + 1], group[pair]
    if not pair.size:
        none = np.empty(0)
        return StepCurves(
            group=group, start=none, stop=none, survival=none, at_risk=none, events=none
        )
    first = np.searchsorted(opens, start + AT)
    last = np.searchsorted(closes, stop + AT, side="right")
    covering = _covering(first, last, pair.size)
    seen = ~known.gap
    parts = np.flatnonzero(known.gap)
    gaps = _Gaps(
        begins=np.searchsorted(group, group),
        events=np.bincount(last[exact] - 1, minlength=pair.size).astype(np.float64),
        at_risk=np.asarray(covering[seen].sum(axis=0), dtype=np.float64).ravel(),
        first=first[parts],
        last=last[parts],
        opens=np.flatnonzero(np.diff(known.patient[parts], prepend=-1)),
        covering=covering[parts],
    )
    hazard, events, at_risk = _solve(gaps)
    at = (closes // MARKS) % times.size
    alone = opens % MARKS == BEFORE
    parted = np.split(1.0 - hazard, np.unique(gaps.begins)[1:])
    survival = np.concatenate([np.cumprod(own) for own in parted])
    return StepCurves(
        group=group,
        start=times[np.where(alone, at, (opens // MARKS) % times.size)],
        stop=times[at],
        survival=survival,
        at_risk=at_risk,
        events=events,
    )


def _covering(first: Ints, last: Ints, cells: int) -> sparse.csr_array:
    """Say which cells each row covers, shape (row, cell)."""
    count = last - first
    starts = np.concatenate([[0], np.cumsum(count)])
    cell = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, count)
    return sparse.csr_array((np.ones(cell.size), cell, starts), shape=(first.size, cells))


def _solve(gaps: _Gaps) -> tuple[Floats, Floats, Floats]:
    """Take steps until nothing changes: hazards, expected events and numbers at risk.

    Two steps are carried on along their course where that raises the likelihood: Varadhan and
    Roland (2008), doi:10.1111/j.1467-9469.2007.00585.x.
    """
    covered = gaps.at_risk + np.asarray(gaps.covering.sum(axis=0)).ravel()
    hazard = np.where(covered > 0, 1.0 / np.maximum(covered + 1.0, 2.0), 0.0)

    def step(held: Floats) -> tuple[Floats, float]:
        events, at_risk, value = gaps.expected(held)
        return np.minimum(events / np.maximum(at_risk, 1e-300), 1.0), value

    for _ in range(MOST_STEPS):
        one, _ = step(hazard)
        two, value = step(one)
        change, bend = one - hazard, two - 2.0 * one + hazard
        if np.abs(two - one).max(initial=0.0) <= CLOSE:
            events, at_risk, _ = gaps.expected(two)
            return two, events, at_risk
        length = max(1.0, float(np.linalg.norm(change) / max(np.linalg.norm(bend), 1e-300)))
        ahead = np.clip(hazard + 2.0 * length * change + length**2 * bend, two * 1e-3, 1.0)
        further, reached = step(ahead)
        hazard = further if np.isfinite(reached) and reached >= value else two
    raise ConvergenceError(
        f"Turnbull's estimator has not settled after {MOST_STEPS} steps: events and gaps leave its "
        "curve almost undetermined. Compare fewer groups, or look at fewer patients at a time."
    )
