"""Named treatment regimes, and which of them are well defined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesblina.errors import EstimandError


@dataclass(frozen=True, slots=True)
class Never:
    """The exposed phase is never entered."""

    @property
    def label(self) -> str:
        """Name used in results."""
        return "never"


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


Regime = Never | From


def require_defined(
    regimes: tuple[Regime, ...], *, landmark: float, earliest: float, exposed: str
) -> None:
    """Refuse regimes that nobody can follow.

    Parameters
    ----------
    regimes
        The regimes.
    landmark
        Time that patients are known to have reached event-free.
    earliest
        Earliest time at which any eligible patient is in the exposed phase.
    exposed
        Name of the exposed phase.

    Raises
    ------
    EstimandError
        If none is given, two are the same, or one asks for exposure before it is ever possible.
    """
    if not regimes:
        raise EstimandError("Name at least one regime, such as Never() or From(6.0).")
    for regime in regimes:
        if not isinstance(regime, Never | From):
            raise EstimandError(f"{regime!r} is no regime; expected Never() or From(time).")
        if isinstance(regime, From) and max(regime.start, landmark) < earliest * (1 - 1e-9):
            raise EstimandError(
                f"From({regime.start:g}) is not defined here: {exposed} is a state that a patient "
                f"must live to enter, and nobody eligible is in it before {earliest:g}. Use "
                f"From(s) with s of {earliest:g} or later, or a landmark there."
            )
    labels = [regime.label for regime in regimes]
    if len(set(labels)) != len(labels):
        raise EstimandError(f"The same regime stands twice: {', '.join(labels)}.")
