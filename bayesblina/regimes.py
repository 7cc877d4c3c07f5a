"""Named treatment regimes, and which of them are well defined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from bayesblina.errors import EstimandError, nearest


@dataclass(frozen=True, slots=True)
class Never:
    """The exposed phase is never entered: the reference throughout."""

    @property
    def label(self) -> str:
        """Name used in results."""
        return "never"

    def changes(self, exposed: str) -> tuple[tuple[str, float], ...]:  # noqa: ARG002
        """Phases entered and when; none."""
        return ()


@dataclass(frozen=True, slots=True)
class From:
    """The exposed phase starts at a given time in those event-free then; before it, as never.

    Parameters
    ----------
    start
        Time at which it starts, in the cohort's unit.

    Raises
    ------
    EstimandError
        If the time is negative or not finite.

    Examples
    --------
    >>> From(6.0).label
    'from 6'
    """

    start: float

    def __post_init__(self) -> None:
        if not 0 <= self.start < np.inf:
            raise EstimandError(f"From({self.start!r}): expected a time from 0 on.")

    @property
    def label(self) -> str:
        """Name used in results."""
        return f"from {self.start:g}"

    def changes(self, exposed: str) -> tuple[tuple[str, float], ...]:
        """Phases entered and when."""
        return ((exposed, self.start),)


@dataclass(frozen=True, slots=True)
class WithPhases:
    """Several phases start at given times in those event-free then; before the first, as never.

    Parameters
    ----------
    starts
        Phases in order, each with the time at which it starts, in the cohort's unit.

    Raises
    ------
    EstimandError
        If none is given, or the times are impossible or do not rise.

    Examples
    --------
    >>> WithPhases({"consolidation": 3.0, "maintenance": 8.0}).label
    'consolidation from 3, maintenance from 8'
    """

    starts: Mapping[str, float]

    def __post_init__(self) -> None:
        times = list(self.starts.values())
        if not times or not all(0 <= time < np.inf for time in times):
            raise EstimandError(f"WithPhases({dict(self.starts)!r}): expected times from 0 on.")
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise EstimandError(
                f"WithPhases({dict(self.starts)!r}): each phase must start after the one before."
            )
        object.__setattr__(self, "starts", MappingProxyType(dict(self.starts)))

    def __hash__(self) -> int:
        """Hash phases and times."""
        return hash(tuple(self.starts.items()))

    @property
    def label(self) -> str:
        """Name used in results."""
        return ", ".join(f"{phase} from {time:g}" for phase, time in self.starts.items())

    def changes(self, exposed: str) -> tuple[tuple[str, float], ...]:  # noqa: ARG002
        """Phases entered and when."""
        return tuple(self.starts.items())


Regime = Never | From | WithPhases


def require_defined(
    regimes: tuple[Regime, ...],
    *,
    landmark: float,
    earliest: Mapping[str, float],
    exposed: str,
    unit: str,
) -> None:
    """Refuse regimes that nobody can follow.

    Parameters
    ----------
    regimes
        The regimes.
    landmark
        Time that patients are known to have reached event-free.
    earliest
        Earliest time at which any eligible patient is in each state, in the states' order.
    exposed
        Name of the exposed phase.
    unit
        Time unit, for the message.

    Raises
    ------
    EstimandError
        If none is given, two are the same, a phase is unknown or out of order, or one asks for a
        phase before it is ever possible.
    """
    if not regimes:
        raise EstimandError("Name at least one regime, such as Never() or From(6.0).")
    states = list(earliest)
    for regime in regimes:
        if not isinstance(regime, Never | From | WithPhases):
            raise EstimandError(
                f"{regime!r} is no regime; expected Never(), From(time) or "
                "WithPhases({phase: time})."
            )
        changes = regime.changes(exposed)
        for phase, start in changes:
            if phase not in earliest:
                raise EstimandError(
                    f"'{regime.label}': no eligible patient is ever in '{phase}'. "
                    f"{nearest(phase, states)}"
                )
            if max(start, landmark) < earliest[phase] * (1 - 1e-9):
                raise EstimandError(
                    f"'{regime.label}' is not defined here: {phase} is a state that a patient "
                    f"must live to enter, and nobody eligible is in it before "
                    f"{earliest[phase]:g} {unit}. Start it at {earliest[phase]:g} or later, or "
                    "take a landmark there."
                )
        order = [states.index(phase) for phase, _ in changes]
        if order != sorted(order):
            raise EstimandError(f"'{regime.label}': the phases' order is {', '.join(states)}.")
    labels = [regime.label for regime in regimes]
    if len(set(labels)) != len(labels):
        raise EstimandError(f"The same regime stands twice: {', '.join(labels)}.")
