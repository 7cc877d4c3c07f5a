"""What is declared of a table: columns of endpoints and of ordered treatment phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from bayesblina.core.endpoint_order import require_includes
from bayesblina.core.errors import SpecError

RESERVED_PHASES = frozenset({"entry", "off treatment", "transplant"})

# Rows of a table of stays that may be left out, and what an account says of them.
LEFT_OUT_STAYS: Mapping[str, str] = MappingProxyType(
    {
        "strangers": "stays of patients who are not in the cohort were left out",
        "other phases": "stays in phases that are not listed were left out",
        "empty": "stays that end as they start were left out",
        "after": "stays that start after the end of follow-up were left out",
        "duplicates": "of rows that say the same twice, one was kept",
    }
)
# What becomes of stays that start before the origin, where they are clipped.
CLIPPED_STAYS: Mapping[str, str] = MappingProxyType(
    {
        "before": "stays that end before the origin were left out",
        "clipped": "stays that start before the origin were cut there",
    }
)
LeaveOutStays = Literal["strangers", "other phases", "empty", "after", "duplicates"]
BeforeOrigin = Literal["refuse", "clip"]
BRIDGE_AND_GRACE = (
    "bridge and grace are two answers to one question, what a gap is: give grace where treatment "
    "pauses, bridge where only the record has a gap."
)
Recorded = Literal["exact", "visits"]
# Until when patients are known to be event-free who never have an event that is found at visits.
EventFreeUntil = Literal["last_negative", "last_contact"]
NO_VISITS = (
    "recorded='visits' needs to know since when: an event that is found at a visit happened at "
    "some time since the last visit without it. Name the column with the time of that visit with "
    "last_negative, or give a table of all visits (visits=Visits(...))"
)


def require_recorded(recorded: object) -> None:
    """Refuse what cannot be said of how an endpoint's events are recorded."""
    if recorded not in (None, "exact", "visits"):
        raise SpecError(f"recorded must be 'exact' or 'visits', got {recorded!r}.")


def recorded_at_visits(
    recorded: Recorded | None, last_negative: str | None, event_free_until: object
) -> Recorded | None:
    """Work out how events are recorded from what is said of visits, or refuse it."""
    require_recorded(recorded)
    if event_free_until not in ("last_negative", "last_contact"):
        raise SpecError(
            f"event_free_until must be 'last_negative' or 'last_contact', got {event_free_until!r}."
        )
    if last_negative is not None and recorded == "exact":
        raise SpecError(
            "last_negative is for events that are found at visits, and recorded is 'exact': leave "
            "one of them out."
        )
    return "visits" if last_negative is not None else recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Columns of one time-to-event endpoint.

    Parameters
    ----------
    time
        Column with the time of the event or of censoring, from the common origin.
    event
        Column with 1 (event) or 0 (censored).
    entry
        Column with the time at which the patient came under observation for this endpoint
        (delayed entry); a missing value means that the patient never did. Without it, everybody
        enters at time 0.
    recorded
        How events are recorded: ``"exact"``, on the day on which they happened, or ``"visits"``,
        on that of the visit at which they were found, as relapses are. Without it they are taken
        as exact, and results say so. Whatever is declared, event times are looked at:
        `bayesblina.person_time.event_times`.
    last_negative
        Column with the time of the last visit at which the patient was found event-free; implies
        ``recorded="visits"``, which needs it or a table of visits. The event lies between it and
        `time`; where the two are equal it is exact, as deaths are, and so is an event at the time
        of one of an endpoint that is included (`includes`). Missing where there was no such visit:
        the event then lies between coming under observation and `time`.
    event_free_until
        Of events found at visits: until when patients without one are followed up:
        ``"last_negative"``, the last visit at which they were found event-free (nobody knows what
        happened since), or ``"last_contact"``, `time`, if an event would have been told by then.
    includes
        Names of the endpoints whose every event is an event of this one too, as every death is
        one of relapse-free survival: ``("os",)``. Patients who contradict it are then refused, and
        without it only counted (`bayesblina.Cohort.account`).

    Raises
    ------
    SpecError
        If `recorded` or `event_free_until` is unknown, `last_negative` is given of events that are
        recorded exactly, or `includes` is no list of names.

    Examples
    --------
    >>> Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month").entry
    'remission_month'
    >>> Endpoint(time="os_months", event="died", recorded="exact").recorded
    'exact'
    >>> Endpoint(time="rfs_months", event="relapse_or_death", includes=["os"]).includes
    ('os',)
    >>> Endpoint(time="rfs_months", event="relapse", last_negative="last_marrow").recorded
    'visits'
    """

    time: str
    event: str
    entry: str | None = None
    recorded: Recorded | None = None
    includes: Sequence[str] = ()
    last_negative: str | None = None
    event_free_until: EventFreeUntil = "last_negative"

    def __post_init__(self) -> None:
        recorded = recorded_at_visits(self.recorded, self.last_negative, self.event_free_until)
        object.__setattr__(self, "recorded", recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedEndpoint:
    """Columns of one endpoint given by dates.

    Parameters
    ----------
    date
        Column with the date of the event or of censoring.
    event
        Column with 1 (event) or 0 (censored).
    origin
        Column with the date from which the patient is under observation for this endpoint, where
        that is not the common origin (delayed entry, such as remission for relapse-free
        survival); a missing date means that the patient never was.
    recorded, includes, event_free_until
        How events are recorded, what other endpoints' events are among them, and until when
        patients without one found at visits are followed up, as for `Endpoint`.
    last_negative
        Column with the date of the last visit at which the patient was found event-free, as for
        `Endpoint`: that of the event itself where its date is exact. A visit is at that time of
        its day at which follow-up ends (`same_day` of `bayesblina.read_dated_cohort`).

    Raises
    ------
    SpecError
        As for `Endpoint`.

    Examples
    --------
    >>> DatedEndpoint(date="relapse_or_last_seen", event="relapsed", origin="remission").origin
    'remission'
    """

    date: str
    event: str
    origin: str | None = None
    recorded: Recorded | None = None
    includes: Sequence[str] = ()
    last_negative: str | None = None
    event_free_until: EventFreeUntil = "last_negative"

    def __post_init__(self) -> None:
        recorded = recorded_at_visits(self.recorded, self.last_negative, self.event_free_until)
        object.__setattr__(self, "recorded", recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Columns of one treatment phase.

    Parameters
    ----------
    start
        Column with the time at which the phase starts; missing if it never did.
    end
        Column with the time at which it ends, if ends are known; missing if it went on.
    """

    start: str
    end: str | None = None


class Phases:
    """Ordered treatment phases and the columns that hold their starts.

    Parameters
    ----------
    **phases
        Phase names in the order in which patients pass through them, each with its start column
        or a `Phase`.

    Examples
    --------
    >>> Phases(consolidation="c_month", maintenance=Phase(start="m_month", end="m_end")).names
    ('consolidation', 'maintenance')
    """

    __slots__ = ("_phases",)

    def __init__(self, /, **phases: str | Phase) -> None:
        self._phases = MappingProxyType(
            {
                name: phase if isinstance(phase, Phase) else Phase(start=phase)
                for name, phase in phases.items()
            }
        )
        if not phases:
            raise SpecError("Name at least one phase: Phases(maintenance='maintenance_month').")
        _require_names_of_phases(list(phases))

    @classmethod
    def from_dict(cls, phases: Mapping[str, str | Phase]) -> Phases:
        """Make phases from a mapping, for names that are no Python identifiers.

        Parameters
        ----------
        phases
            Phase names in order, each with its start column or a `Phase`.

        Returns
        -------
        Phases
            The same as ``Phases(**phases)``.
        """
        return cls(**phases)

    @property
    def names(self) -> tuple[str, ...]:
        """Phase names in order."""
        return tuple(self._phases)

    def items(self) -> tuple[tuple[str, Phase], ...]:
        """Names and columns, in order."""
        return tuple(self._phases.items())

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process by being made there again."""
        return Phases.from_dict, (dict(self._phases),)

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return f"Phases({', '.join(f'{name}={phase!r}' for name, phase in self.items())})"

    def __eq__(self, other: object) -> bool:
        """Compare names, order and columns."""
        return isinstance(other, Phases) and self.items() == other.items()

    def __hash__(self) -> int:
        """Hash names, order and columns."""
        return hash(self.items())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Courses:
    """A table of stays in phases, in which phases may recur: one row per stay.

    Takes the place of `Phases` where patients are read.

    Parameters
    ----------
    table
        A DataFrame or the path of a file, as for `bayesblina.read_cohort`: rows of patients'
        stays, in any order, such as those of ADEX or of a nursing record.
    patient, start, stop, phase
        Columns with the patient's id, the beginning and end of the stay (times, or dates where the
        patients' are dates; an empty end means that it went on), and the phase.
    phases
        Phases: their names as the column gives them, or a mapping from the names wanted to the
        text, or the texts, in the column.
    dose
        Column with what was given in the stay, in all.
    cycle
        Column with the number or name of the cycle: a stay with that of the stay before goes on
        with it. Without it each stay is a cycle.
    bridge
        Gaps up to this length between stays in one phase are none, in the cohort's unit. For gaps
        that are artefacts of the record, as of days between prescriptions: a gap is told by the
        stay after it, so that who has the event in one had none, and bridging gaps in which events
        come makes treatment look better than it is.
    grace
        Patients count as in a phase for so long after each stay with an end, or until their next
        one in any phase, in the cohort's unit. It looks at nothing that comes later, so that it is
        for gaps of treatment. Nothing is given in it, and no cycle begins.
    overlap
        What overlapping stays mean: ``"refuse"``; a list of phases, of which the first one that
        a patient is in holds; or a mapping from phases joined by ``" + "`` to the name of their
        combination, a phase of its own: ``{"blina + tki": "combination"}``.
    order
        ``"listed"``: no phase comes after one that is listed later; ``"any"``.
    leave_out
        What is left out, and counted, where it would be refused: ``"strangers"`` (patients who
        are not in the cohort), ``"other phases"``, ``"empty"`` stays, those that start
        ``"after"`` the end of follow-up, and ``"duplicates"``, rows that say what another says.
    before_origin
        What becomes of a stay that starts before the patient's origin: ``"refuse"``, or
        ``"clip"``: what lies before it is cut off, with its share of the dose.

    Raises
    ------
    SpecError
        If a value is impossible in itself.

    Examples
    --------
    >>> courses = Courses(
    ...     table="stays.csv",
    ...     patient="id",
    ...     start="from",
    ...     stop="to",
    ...     phase="drug",
    ...     phases={"treatment": ["blina", "blina reduced"]},
    ...     bridge=0.25,
    ... )
    >>> courses.names
    ('treatment',)
    """

    table: Any
    patient: str
    start: str
    stop: str
    phase: str
    phases: Sequence[str] | Mapping[str, str | Sequence[str]]
    dose: str | None = None
    cycle: str | None = None
    bridge: float = 0.0
    grace: float = 0.0
    overlap: Literal["refuse"] | Sequence[str] | Mapping[str, str] = "refuse"
    order: Literal["listed", "any"] = "listed"
    leave_out: Sequence[LeaveOutStays] = ()
    before_origin: BeforeOrigin = "refuse"

    def __post_init__(self) -> None:
        phases: object = self.phases
        if isinstance(phases, str) or not isinstance(phases, Mapping | Sequence):
            raise SpecError(f"phases must list names, or map them to texts, got {phases!r}.")
        _require_names_of_phases(self.names)
        texts = [text for held in self.texts.values() for text in held]
        if len(set(texts)) != len(texts):
            raise SpecError(f"phases: each needs texts of its own in the column, got {phases!r}.")
        for name in ("bridge", "grace"):
            length: object = getattr(self, name)
            if isinstance(length, bool) or not isinstance(length, int | float):
                raise SpecError(f"{name} must be a length of time, got {length!r}.")
            if not 0 <= length < float("inf"):
                raise SpecError(f"{name} must be a length of time from 0 on, got {length!r}.")
        if self.bridge and self.grace:
            raise SpecError(BRIDGE_AND_GRACE)
        if self.before_origin not in ("refuse", "clip"):
            raise SpecError(
                f"before_origin must be 'refuse' or 'clip', got {self.before_origin!r}."
            )
        if self.order not in ("listed", "any"):
            raise SpecError(f"order must be 'listed' or 'any', got {self.order!r}.")
        if isinstance(self.leave_out, str) or not set(self.leave_out) <= set(LEFT_OUT_STAYS):
            raise SpecError(
                f"leave_out must list some of {', '.join(LEFT_OUT_STAYS)}, got {self.leave_out!r}."
            )
        _require_overlap(self.overlap, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Phase names in order, without those of combinations."""
        return tuple(self.phases)

    def items(self) -> tuple[tuple[str, Phase], ...]:
        """Phases with columns in the table of patients: none."""
        return ()

    @property
    def combinations(self) -> dict[frozenset[str], str]:
        """Names of combinations of phases, by these."""
        if not isinstance(self.overlap, Mapping):
            return {}
        return {frozenset(joined.split(" + ")): name for joined, name in self.overlap.items()}

    @property
    def priority(self) -> tuple[str, ...] | None:
        """Phases of which the first that a patient is in holds; None without such a rule."""
        if isinstance(self.overlap, str | Mapping):
            return None
        return tuple(self.overlap)

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Texts in the column by phase."""
        if not isinstance(self.phases, Mapping):
            return {name: (name,) for name in self.phases}
        return {
            name: (held,) if isinstance(held, str) else tuple(held)
            for name, held in self.phases.items()
        }

    @property
    def columns(self) -> dict[str, str]:
        """Columns of the table by their roles."""
        named = {
            "patient": self.patient,
            "start": self.start,
            "stop": self.stop,
            "phase": self.phase,
            "dose": self.dose,
            "cycle": self.cycle,
        }
        return {role: column for role, column in named.items() if column is not None}


def _require_names_of_phases(names: Sequence[object]) -> None:
    """Refuse names that phases cannot have."""
    if not names:
        raise SpecError("Name at least one phase.")
    if len(set(names)) != len(names):
        raise SpecError(f"Each phase is named once, got {list(names)!r}.")
    for name in names:
        if not isinstance(name, str):
            raise SpecError(f"A phase's name is a text, got {name!r}.")
        if name in RESERVED_PHASES or name.startswith("before "):
            raise SpecError(f"'{name}' has a meaning of its own; give the phase another name.")


def _require_overlap(overlap: object, names: Sequence[str]) -> None:
    """Refuse rules for overlapping stays that say nothing of the phases there are."""
    if overlap == "refuse":
        return
    if isinstance(overlap, Mapping):
        for joined, name in overlap.items():
            parts = str(joined).split(" + ")
            if len(parts) < 2 or len(set(parts)) != len(parts) or not set(parts) <= set(names):
                raise SpecError(
                    f"overlap: expected phases joined by ' + ', such as '{' + '.join(names[:2])}', "
                    f"got {joined!r}."
                )
            _require_names_of_phases([name])
            if name in names:
                raise SpecError(f"overlap: '{name}' is a phase: name the combination otherwise.")
        return
    if isinstance(overlap, str) or not isinstance(overlap, Sequence):
        raise SpecError(
            "overlap must be 'refuse', a list of phases by priority, or a mapping of joined phases "
            f"to names, got {overlap!r}."
        )
    if sorted(map(str, overlap)) != sorted(names):
        raise SpecError(
            f"overlap: list all phases once, the one that holds first; got {overlap!r}."
        )
