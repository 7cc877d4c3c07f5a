"""What is declared of a table: columns of endpoints and of ordered treatment phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from bayesblina.core.endpoint_order import require_includes
from bayesblina.core.errors import SpecError

RESERVED_PHASES = frozenset({"entry", "off treatment", "transplant"})

Recorded = Literal["exact", "visits"]
VISITS = (
    "recorded = 'visits': an event that is found at a visit happened at some time since the visit "
    "before, which takes a likelihood of its own, and that is not part of bayesblina yet: it is to "
    "come. Until then declare recorded = 'exact', which takes the day of the visit for that of the "
    "event, and read what check says of event times before the hazard ratio"
)


def require_recorded(recorded: object) -> None:
    """Refuse what cannot be said of how an endpoint's events are recorded."""
    if recorded == "visits":
        raise SpecError(f"{VISITS}.")
    if recorded not in (None, "exact"):
        raise SpecError(f"recorded must be 'exact' or 'visits', got {recorded!r}.")


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
    includes
        Names of the endpoints whose every event is an event of this one too, as every death is
        one of relapse-free survival: ``("os",)``. Patients who contradict it are then refused, and
        without it only counted (`bayesblina.Cohort.account`).

    Raises
    ------
    SpecError
        If `recorded` is ``"visits"``, for which there is no likelihood yet, or unknown; or
        `includes` is no list of names.

    Examples
    --------
    >>> Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month").entry
    'remission_month'
    >>> Endpoint(time="os_months", event="died", recorded="exact").recorded
    'exact'
    >>> Endpoint(time="rfs_months", event="relapse_or_death", includes=["os"]).includes
    ('os',)
    """

    time: str
    event: str
    entry: str | None = None
    recorded: Recorded | None = None
    includes: Sequence[str] = ()

    def __post_init__(self) -> None:
        require_recorded(self.recorded)
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
        for name in phases:
            if name in RESERVED_PHASES or name.startswith("before "):
                raise SpecError(f"'{name}' has a meaning of its own; give the phase another name.")

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
