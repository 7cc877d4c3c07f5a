"""A table of visits, one row each: what is declared of it, and since when events may have happened.

Visits at which an event can be found bound its time: it lies between the last visit without it and
the one at which it was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.patients.rules import InMemory, Tie

LeaveOutVisits = Literal["strangers", "after"]
# Rows of a table of visits that may be left out, and what an account says of them.
LEFT_OUT_VISITS: Mapping[str, str] = MappingProxyType(
    {
        "strangers": "visits of patients who are not in the cohort were left out",
        "after": "visits after the end of all follow-up were left out",
    }
)
IGNORED = "visits with a result that says nothing of the event were left out, as declared"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visits:
    """A table of visits at which events are found: one row per patient and visit.

    It says when each patient was last found event-free, of every endpoint that is
    ``recorded="visits"`` and has no column ``last_negative`` of its own.

    Parameters
    ----------
    table
        A DataFrame or the path of a file, as for `bayesblina.read_cohort`, with rows in any order.
    patient, time, result
        Columns with the patient's id, the time of the visit (or its date, where the patients' times
        are dates) and its result.
    negative, positive
        Texts of `result` by which the patient was found without the event, and with it.
    ignore
        Texts that say neither, such as ``"not evaluable"``; an empty result is ``""``. Any other
        text is refused.
    counted
        How `time` counts visits: as the patients' times do, in their unit or by dates; or in
        ``"study days"``, as CDISC's ADY, where patients have dates: day 1 is the day of the origin
        and day -1 the one before.
    leave_out
        What is left out, and counted, where it would be refused: visits of ``"strangers"``
        (patients who are not in the cohort), and those ``"after"`` the end of all of a patient's
        follow-up, such as after a data cut-off.

    Raises
    ------
    SpecError
        If a value is impossible in itself.

    See Also
    --------
    Endpoint : an endpoint with a column of last visits.

    Examples
    --------
    >>> visits = Visits(
    ...     "marrow.csv",
    ...     patient="id",
    ...     time="month",
    ...     result="response",
    ...     negative=["CR", "CRi"],
    ...     positive=["relapse"],
    ...     ignore=["not evaluable"],
    ... )
    >>> visits.negative
    ('CR', 'CRi')
    """

    table: Any = field(kw_only=False)
    patient: str
    time: str
    result: str
    negative: Sequence[str]
    positive: Sequence[str]
    ignore: Sequence[str] = ()
    counted: Literal["study days"] | None = None
    leave_out: Sequence[LeaveOutVisits] = ()

    def __post_init__(self) -> None:
        texts: list[str] = []
        for name in ("negative", "positive", "ignore"):
            held: object = getattr(self, name)
            if isinstance(held, str) or not isinstance(held, Sequence):
                raise SpecError(f"{name} must list texts of the column of results, got {held!r}.")
            if not all(isinstance(text, str) for text in held):
                raise SpecError(f"{name} must list texts of the column of results, got {held!r}.")
            object.__setattr__(self, name, tuple(text.strip() for text in held))
            texts += getattr(self, name)
        if not self.negative or not self.positive:
            raise SpecError(
                "Visits need results without the event (negative=[...]) and with it "
                "(positive=[...])."
            )
        twice = sorted({text for text in texts if texts.count(text) > 1})
        if twice:
            raise SpecError(f"Visits: the result {twice[0]!r} stands twice; each says one thing.")
        if self.counted not in (None, "study days"):
            raise SpecError(f"counted must be 'study days', or be left out, got {self.counted!r}.")
        if isinstance(self.leave_out, str) or not set(self.leave_out) <= set(LEFT_OUT_VISITS):
            raise SpecError(
                f"leave_out must list some of {', '.join(LEFT_OUT_VISITS)}, got {self.leave_out!r}."
            )

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the table by their roles."""
        return {role: getattr(self, role) for role in ("patient", "time", "result")}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VisitRows:
    """Visits that say something, of patients of the cohort; arrays (row,).

    `patient`: row of the cohort; -1 for rows that do not count.
    `time`: when, on the clock of the endpoints' times below.
    `positive`: whether the event was found.
    """

    patient: Ints
    time: Floats
    positive: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """An endpoint whose events are found at visits, on the visits' clock; arrays (patient,).

    `entry`, `end`: when observation begins and ends; NaN where it never began.
    `event`: whether it ends with the event.
    `exact`: whether that event's time is exact, as deaths are.
    `last`: end of all follow-up; infinite where none is known.
    """

    entry: Floats
    end: Floats
    event: Bools
    exact: Bools
    last: Floats


class VisitFindings(Protocol):
    """What is found of a table of visits, and told by whoever reads it."""

    def report(self, rows: Bools, found: str, expected: str) -> None:
        """Note a problem with some rows, if there are any."""

    def leave_out(self, kind: str, rows: Bools) -> None:
        """Note which rows are left out as declared, if there are any."""

    def note(self, rule: str, patients: Bools) -> None:
        """Note of which patients something was taken, if of any."""


def latest_negative(
    name: str,
    rows: VisitRows,
    own: Watched,
    leave_out: Sequence[str],
    tie: Tie,
    findings: VisitFindings,
) -> Floats:
    """Find when each patient was last found without an endpoint's event.

    A visit at the end of follow-up may be the one at which the event was found; who has an event
    without such a visit had it all the same since the last visit without it. Visits before
    observation say nothing of it (a leukaemia is there before it remits), nor do those after the
    event (it may remit again).

    `name`: the endpoint's.
    Result, shape (patient,): the time, NaN where there was no such visit.
    """
    arithmetic, inside = InMemory(), rows.patient >= 0
    who = np.maximum(rows.patient, 0)
    entry, end, last = own.entry[who], own.end[who], own.last[who]
    event, exact, time = own.event[who], own.exact[who], rows.time
    with np.errstate(invalid="ignore"):  # missing times are told by the rules
        at_end = tie.near(time, end, arithmetic)
        inside &= np.isfinite(entry) & np.isfinite(end)
        later = inside & (time > end) & ~at_end
        at_entry = tie.near(time, entry, arithmetic)
        early = inside & ~at_end & np.where(at_entry, rows.positive, time < entry)
        # Whoever relapses is seen afterwards; nobody is after death, or the end of all follow-up.
        beyond = later & (time > last) & ~tie.near(time, last, arithmetic) & (~event | exact)
    watched = inside & ~later & ~early
    negative = watched & ~rows.positive
    before = watched & rows.positive & ~(event & at_end)
    findings.report(
        before,
        f"positive results without an event of {name} at that time",
        f"An event is found at the first positive visit: correct the result, or {name}, or list "
        "the result in ignore if it does not count.",
    )
    both = _both_results(rows, watched & ~before, tie)
    findings.report(
        both,
        "a positive and a negative result at one time",
        "Expected one result for each visit: correct them, or list one in ignore.",
    )
    findings.report(
        negative & at_end & event & ~exact & ~both,
        f"negative results at the time of the event of {name}",
        "An event is found at a visit with a positive result: correct the result, or the "
        "endpoint's time; deaths are exact where the endpoint includes the one that holds them "
        "(includes).",
    )
    if "after" in leave_out:
        findings.leave_out("after", beyond)
    else:
        findings.report(
            beyond,
            "visits after the end of all follow-up",
            "Nobody is seen after the end of follow-up: correct the times, or say "
            "leave_out=['after'].",
        )
    size = own.end.size
    findings.note(
        f"visits before coming under observation for {name} say nothing of it",
        _whose(who, early, size),
    )
    findings.note(
        f"visits after the event of {name} say nothing of it", _whose(who, later & event, size)
    )
    findings.note(
        f"visits after the end of follow-up for {name} say nothing of it",
        _whose(who, later & ~event & ~beyond, size),
    )
    unseen = own.event & np.isfinite(own.entry) & ~own.exact
    unseen &= ~_whose(who, watched & rows.positive & at_end, size)
    findings.note(
        f"events of {name} at no positive visit count as found at one; are they deaths, which "
        "includes would make exact?",
        unseen,
    )
    counted = negative & ~(event & at_end)
    latest = np.full(size, -np.inf)
    settled = np.where(at_end, end, np.fmax(time, entry))
    np.maximum.at(latest, who[counted], settled[counted])
    return np.where(np.isfinite(latest), latest, np.nan)


def _whose(who: Ints, rows: Bools, size: int) -> Bools:
    """Say which patients have any of some rows."""
    return np.bincount(who[rows], minlength=size) > 0


def _both_results(rows: VisitRows, watched: Bools, tie: Tie) -> Bools:
    """Find visits of one patient at one time with different results."""
    both = np.zeros(rows.patient.size, dtype=bool)
    chosen = np.flatnonzero(watched)
    order = chosen[np.lexsort((rows.time[chosen], rows.patient[chosen]))]
    near = tie.near(rows.time[order][1:], rows.time[order][:-1], InMemory())
    same = near & (rows.patient[order][1:] == rows.patient[order][:-1])
    # Of several rows at one time, whether any differs from the first.
    group = np.concatenate([[0], np.cumsum(~same)])[: order.size]
    positive = np.bincount(group, weights=rows.positive[order])
    mixed = (positive > 0) & (positive < np.bincount(group))
    both[order] = mixed[group]
    return both
