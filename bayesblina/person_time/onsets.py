"""Adverse events and the phases in which they start, with the time under observation for them.

An event belongs to the phase that its patient is in when it starts; one that starts at the very
moment of a phase's start belongs to that phase. (Survival asks for the state just before an event;
safety asks for the treatment being given.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.course_marks import bounds_of_stays
from bayesblina.core.episodes import segment_times, state_bounds
from bayesblina.core.errors import (
    DataError,
    EstimandError,
    Problem,
    SpecError,
    nearest,
    require_kind,
)
from bayesblina.core.frozen import remade
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.readers.dates import ISO, PartialDates, require_date_format
from bayesblina.patients.readers.onset_rows import (
    REASONS,
    SEVERITIES,
    Counted,
    LeaveOut,
    OnsetRows,
    Severity,
    days_of_origin,
    require_event_roles,
)
from bayesblina.patients.readers.sources import hashes, load_table, missing_columns
from bayesblina.patients.rules import DAYS_PER_UNIT

# Days below which a start is at the moment of a phase's start, or of an end: tables are rounded.
SAME_MOMENT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdverseEvents:
    """Adverse events and time under observation for them, by patient and phase.

    Attributes
    ----------
    phases
        Names of the states, those that any patient was in.
    terms
        Names of the event terms, in alphabetical order.
    person_time : ndarray, shape (patient, phase)
        Time in each phase; 0 where the patient never was in it.
    patient, phase, term : ndarray of int, shape (event,)
        Positions of each event's patient, phase and term.
    unit
        Time unit.
    minimum_grade
        Events below this grade, or severity, are not in it; None if none was chosen.
    synthetic
        Whether the patients are simulated.
    left_out
        Rows of the table that are not in it, by reason.
    imputed
        Events whose partial start date was completed.
    file_hashes
        SHA-256 of the bytes that were read of each file, by its name and what it holds; empty where
        tables were in memory.
    """

    phases: tuple[str, ...]
    terms: tuple[str, ...]
    person_time: Floats
    patient: Ints
    phase: Ints
    term: Ints
    unit: str
    minimum_grade: int | Severity | None
    synthetic: bool
    left_out: Mapping[str, int] = field(default_factory=dict)
    imputed: int = 0
    file_hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make mappings read-only."""
        for name in ("left_out", "file_hashes"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process by being made there again."""
        return remade(self)

    @property
    def counts(self) -> Ints:
        """Events of all terms, shape (patient, phase)."""
        cell = self.patient * len(self.phases) + self.phase
        counts = np.bincount(cell, minlength=self.person_time.size)
        return counts.reshape(self.person_time.shape).astype(np.int64)

    def table(self) -> pd.DataFrame:
        """Count by phase.

        Returns
        -------
        pandas.DataFrame
            ``phase``, ``patients`` (ever in it), ``with_event``, ``share`` of them, ``events``
            and ``person_time``.
        """
        present = self.person_time > 0
        counts = self.counts
        with_event = ((counts > 0) & present).sum(axis=0)
        return pd.DataFrame(
            {
                "phase": self.phases,
                "patients": present.sum(axis=0),
                "with_event": with_event,
                "share": with_event / present.sum(axis=0),
                "events": counts.sum(axis=0),
                "person_time": self.person_time.sum(axis=0),
            }
        )

    def account(self) -> pd.DataFrame:
        """Say what became of every row of the table.

        Returns
        -------
        pandas.DataFrame
            ``what`` and ``rows``: those read, those left out by reason, those used, and how many of
            these have a completed start date.
        """
        used = self.patient.size
        rows = [("read", used + sum(self.left_out.values()))]
        rows += [(f"left out: {reason}", count) for reason, count in self.left_out.items()]
        rows.append(("used", used))
        if self.imputed:
            rows.append(("of which with a completed start date", self.imputed))
        return pd.DataFrame(rows, columns=["what", "rows"])

    def position(self, phase: str) -> int:
        """Find a phase.

        Parameters
        ----------
        phase
            Its name.

        Returns
        -------
        int
            Its position.

        Raises
        ------
        EstimandError
            If no patient was ever in it.
        """
        if phase not in self.phases:
            raise EstimandError(
                f"No patient is ever in '{phase}'. {nearest(str(phase), self.phases)}"
            )
        return self.phases.index(phase)

    def __repr__(self) -> str:
        """Show counts, never patients."""
        kind = "synthetic " if self.synthetic else ""
        scale = "severity" if self.minimum_grade in SEVERITIES else "grade"
        grade = f", {scale} >= {self.minimum_grade}" if self.minimum_grade is not None else ""
        out = sum(self.left_out.values())
        left = f"; {out} rows left out" if out else ""
        return (
            f"AdverseEvents({self.patient.size} events of {len(self.terms)} terms{grade} in "
            f"{self.person_time.shape[0]} {kind}patients; {', '.join(self.phases)}{left})"
        )

    def _repr_html_(self) -> str:
        from bayesblina.core import tables

        return tables.adverse_events(
            self.table(), unit=self.unit, title=repr(self), synthetic=self.synthetic
        ).to_html()


def adverse_events(
    table: Any,
    cohort: Cohort,
    *,
    patient: str,
    term: str,
    start: str,
    counted: Counted | None = None,
    origin: str | None = None,
    origins: Any = None,
    date_format: str = ISO,
    partial_dates: PartialDates = "refuse",
    grade: str | None = None,
    minimum_grade: int | Severity | None = None,
    flags: Sequence[str] = (),
    leave_out: Sequence[LeaveOut] = (),
    endpoint: str | None = None,
    phase_end: Literal["ever", "current"] | None = None,
    transplant: Literal["censor", "phase", "ignore"] | None = None,
) -> AdverseEvents:
    """Assign adverse events to the phases in which they start.

    Parameters
    ----------
    table
        One row per event: a path or a DataFrame, as for `read_cohort`.
    cohort
        The patients; those without a row had no event.
    patient, term, start
        Columns: patient id as in the cohort, event term, start of the event.
    counted
        How `start` is counted. ``"times"``: from the cohort's origin, in its unit, 0 at the origin.
        ``"study days"``, as CDISC's ASTDY and AESTDY: day 1 is the day of the origin and day -1
        the one before; there is no day 0. ``"dates"``, as ASTDT and AESTDTC: with the origin's
        date in `origin`. By default times, unless the column is or looks like one of study days,
        or is named for days: then it must be said.
    origin
        Column with the date of the cohort's origin, for dates: of `table`, or of `origins`.
    origins
        Table with `patient` and `origin`, one row per patient, such as ADSL; by default `table`.
    date_format
        As for `read_dated_cohort`.
    partial_dates
        As for `Repairs`. Within its month or year a start lies where the patient is observed, if
        that is possible.
    grade
        Column of the CTCAE grade, from 1 to 5 (3 or "Grade 3"), or of the severity in CDISC's
        words: MILD, MODERATE, SEVERE. They are different scales, and not translated.
    minimum_grade
        Use only events of at least this grade, or severity.
    flags
        Columns that must be "Y", such as TRTEMFL (treatment-emergent); rows where they are "N" or
        empty are left out.
    leave_out
        Rows that are left out, and counted, instead of refused: those that start ``"before"``
        observation or ``"after"`` it (or whose patients have no follow-up), ``"undated"`` and
        ``"ungraded"`` ones, and those of ``"strangers"``, who are not in the cohort.
    endpoint
        Endpoint whose follow-up, from entry to end, is the observation of adverse events. By
        default from each patient's first entry to the end of the longest follow-up over all
        endpoints.
    phase_end
        Whether a phase that ends is left (``"current"``) or stayed in (``"ever"``). Must be
        chosen where the cohort has phase ends.
    transplant
        As for `Question`: observation ends at a transplant (``"censor"``, later events are left
        out), it is a state of its own (``"phase"``), or phases go on (``"ignore"``). Must be
        chosen where the cohort records transplants.

    Returns
    -------
    AdverseEvents
        Events and person-time by patient and phase; time before the first phase is a state of its
        own, ``before <phase>``. Patients are observed from their entry on.

    Raises
    ------
    DataError
        If anything in the table is wrong, with all problems at once.
    SpecError
        If the call itself is impossible.

    Notes
    -----
    Study days and dates are those of the day's beginning, as doses are: an event on the day of a
    phase's first dose belongs to that phase. Starts less than a hundredth of a day from a phase's
    start, or from the beginning or end of observation, are at it: tables are rounded.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> table = bb.simulate.adverse_events(cohort, seed=1)
    >>> events = bb.safety.adverse_events(
    ...     table,
    ...     cohort,
    ...     patient="patient_id",
    ...     term="term",
    ...     start="month",
    ...     transplant="ignore",
    ... )
    >>> events.phases
    ('before consolidation', 'consolidation', 'maintenance')
    """
    require_kind(cohort, Cohort, "cohort")
    cohort = cohort.whole()
    _require_call(cohort, counted, origin, grade, minimum_grade, flags, leave_out, partial_dates)
    _require_states(cohort, endpoint, phase_end, transplant)
    require_date_format(date_format)
    require_event_roles(patient, term, start, grade, flags, origin, apart=origins is not None)
    frame, source = load_table(table)
    wanted = [patient, term, start, *([] if grade is None else [grade]), *flags]
    if origin is not None and origins is None:
        wanted.append(origin)
    problems = missing_columns(frame, wanted)
    if problems:
        raise DataError(problems, source=source)
    rows = OnsetRows(frame, patient, partial_dates=partial_dates, date_format=date_format)
    rows.keep_flagged(flags)
    ids = pd.Index(cohort.patients.astype(str))
    rows.known(patient, ids, leave_out)
    rows.graded(grade, minimum_grade, leave_out)
    rows.narrow()
    # A row whose patient is unknown has been judged; any row of the cohort will do for it.
    who = np.maximum(ids.get_indexer(pd.Index(rows.columns.ids)), 0)
    names = rows.named(term)
    rows.dated(start, leave_out)
    begin, end = observation(cohort, endpoint)
    stop = end
    if transplant == "censor" and cohort.transplant is not None:
        stop = np.fmin(stop, np.maximum(cohort.transplant, begin))
    zero = None
    if counted == "dates":
        zero = days_of_origin(rows, origins, patient, str(origin), date_format)
    times = rows.starts(start, counted, cohort.unit, zero, begin[who], stop[who])
    slack = SAME_MOMENT / DAYS_PER_UNIT[cohort.unit]
    rows.observed(start, times, begin[who], stop[who], end[who], leave_out, slack)
    if rows.columns.problems:
        raise DataError(rows.columns.problems, source=source)
    kept = rows.kept
    return _assign(
        cohort,
        who[kept],
        names[kept],
        times[kept],
        (begin, stop),
        phase_end,
        transplant,
        minimum_grade=minimum_grade,
        left_out=rows.left_out,
        imputed=int((rows.completed & kept).sum()),
        file_hashes=hashes(frame, f"{source} (adverse events)") | rows.file_hashes,
    )


def observation(cohort: Cohort, endpoint: str | None = None) -> tuple[Floats, Floats]:
    """Find between which times each patient is observed.

    Result: `begin`, `stop`, shape (patient,): first entry and last end of follow-up; both 0 where a
    patient never is under observation.
    """
    names = list(cohort.endpoints) if endpoint is None else [endpoint]
    entry = np.stack([cohort.endpoints[name].entry for name in names])
    time = np.stack([cohort.endpoints[name].time for name in names])
    seen = np.isfinite(entry) & np.isfinite(time)
    entry, time = np.where(seen, entry, np.inf), np.where(seen, time, -np.inf)
    order = np.argsort(entry, axis=0)
    ordered = np.take_along_axis(entry, order, axis=0)
    reached = np.maximum.accumulate(np.take_along_axis(time, order, axis=0), axis=0)
    gap = (np.isfinite(ordered[1:]) & (ordered[1:] > reached[:-1])).any(axis=0)
    if gap.any():
        problem = Problem(
            column=", ".join(names),
            found="follow-up for one endpoint that ends before that for another begins",
            expected="Say which endpoint's follow-up is that of adverse events: endpoint=.",
            patients=tuple(map(str, cohort.patients[gap])),
        )
        raise DataError([problem], source=cohort.source)
    never = ~seen.any(axis=0)
    begin = np.where(never, 0.0, entry.min(axis=0))
    return begin, np.where(never, 0.0, time.max(axis=0))


def _require_call(
    cohort: Any,
    counted: Counted | None,
    origin: str | None,
    grade: str | None,
    minimum_grade: int | Severity | None,
    flags: Sequence[str],
    leave_out: Sequence[str],
    partial_dates: PartialDates,
) -> None:
    """Refuse calls that are impossible whatever the table holds."""
    if not isinstance(cohort, Cohort):
        raise SpecError(f"cohort must be a Cohort, got {type(cohort).__name__}.")
    if counted not in (None, "times", "study days", "dates"):
        raise SpecError(f"counted must be 'times', 'study days' or 'dates', got {counted!r}.")
    if (counted == "dates") != (origin is not None):
        raise SpecError(
            "counted='dates' needs origin='<column of the origin's date>', and only it."
        )
    if partial_dates not in ("refuse", "first", "middle", "last"):
        raise SpecError(
            f"partial_dates must be 'refuse', 'first', 'middle' or 'last', got {partial_dates!r}."
        )
    possible = (None, 1, 2, 3, 4, 5, *SEVERITIES)
    integer = not isinstance(minimum_grade, bool | float)
    if minimum_grade is not None and (
        grade is None or minimum_grade not in possible or not integer
    ):
        raise SpecError(
            "minimum_grade must be from 1 to 5, or MILD, MODERATE or SEVERE, and needs the grade's "
            "column."
        )
    for name, values in (("flags", flags), ("leave_out", leave_out)):
        if isinstance(values, str):
            raise SpecError(f"{name} must be a list, not one string.")
    for kind in leave_out:
        if kind not in REASONS:
            raise SpecError(f"leave_out: no kind of rows '{kind}'. {nearest(kind, REASONS)}")


def _require_states(
    cohort: Cohort, endpoint: str | None, phase_end: str | None, transplant: str | None
) -> None:
    """Refuse states that the cohort does not have, or that are not chosen."""
    if endpoint is not None and endpoint not in cohort.endpoints:
        raise SpecError(
            f"endpoint: the cohort has no '{endpoint}'. {nearest(endpoint, cohort.endpoints)}"
        )
    if phase_end not in (None, "ever", "current"):
        raise SpecError(f"phase_end must be 'ever' or 'current', got {phase_end!r}.")
    if cohort.phase_ends_known and phase_end is None:
        raise SpecError("The cohort records phase ends: say phase_end='ever' or 'current'.")
    if transplant not in (None, "censor", "phase", "ignore"):
        raise SpecError(f"transplant must be 'censor', 'phase' or 'ignore', got {transplant!r}.")
    if cohort.transplant is None and transplant in ("censor", "phase"):
        raise SpecError(f"transplant='{transplant}', but the cohort records no transplants.")
    if cohort.transplant is not None and transplant is None:
        raise SpecError(
            "The cohort records transplants: say transplant='censor', 'phase' or 'ignore'."
        )


def _assign(
    cohort: Cohort,
    who: Ints,
    names: NDArray[np.str_],
    times: Floats,
    observed: tuple[Floats, Floats],
    phase_end: str | None,
    transplant: str | None,
    *,
    minimum_grade: int | Severity | None,
    left_out: Mapping[str, int],
    imputed: int,
    file_hashes: Mapping[str, str],
) -> AdverseEvents:
    begin, stop = observed
    moved = cohort.transplant if transplant == "phase" else None
    if cohort.stays is None:
        ends = cohort.phase_end if phase_end == "current" else None
        bounds, phases, of_segment = state_bounds(
            cohort.phases, cohort.phase_start, ends=ends, transplant=moved
        )
        state = np.broadcast_to(of_segment[:, None], (of_segment.size, cohort.size))
    else:
        bounds, phases, state = bounds_of_stays(
            cohort.stays,
            cohort.phases,
            patients=cohort.size,
            ordered=cohort.ordered,
            measure="current" if phase_end == "current" else "ever",
            transplant=moved,
        )
    opened, closed = segment_times(bounds, begin, stop)
    time = np.zeros((cohort.size, len(phases)))
    np.add.at(time, (np.arange(cohort.size)[None, :], state), closed - opened)
    # The last segment that is not empty and has begun by the time of the event.
    slack = SAME_MOMENT / DAYS_PER_UNIT[cohort.unit]
    begun = (opened[:, who] <= times + slack) & (closed > opened)[:, who]
    last = len(begun) - 1 - np.argmax(begun[::-1], axis=0)
    phase = state[last, who]
    seen = np.flatnonzero((time > 0).any(axis=0))
    terms, term = np.unique(names, return_inverse=True)
    return AdverseEvents(
        phases=tuple(phases[index] for index in seen),
        terms=tuple(str(name) for name in terms),
        person_time=time[:, seen],
        patient=who.astype(np.int64),
        phase=np.searchsorted(seen, phase).astype(np.int64),
        term=term.reshape(-1).astype(np.int64),
        unit=cohort.unit,
        minimum_grade=minimum_grade,
        synthetic=cohort.synthetic,
        left_out=left_out,
        imputed=imputed,
        file_hashes=file_hashes,
    )
