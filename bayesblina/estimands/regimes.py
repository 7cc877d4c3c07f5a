"""Named treatment regimes, and which of them are well defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from types import MappingProxyType

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE, round_up, snap_to
from bayesblina.person_time.follow_up import Episodes
from bayesblina.person_time.question import Question


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

    It lasts from then on, also where the question has phases end (``phase_end="current"``): for
    one that is given for some time use `WithPhases`, with ``"off treatment"`` at its end. Where the
    question has a lag, its effect begins that long after the start.

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
        given: object = self.start
        if isinstance(given, bool) or not isinstance(given, Real) or not 0 <= self.start < np.inf:
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

    def __reduce__(self) -> tuple[type[WithPhases], tuple[dict[str, float]]]:
        """Go to another process by being made there again."""
        return WithPhases, (dict(self.starts),)

    @property
    def label(self) -> str:
        """Name used in results."""
        return ", ".join(f"{phase} from {time:g}" for phase, time in self.starts.items())

    def changes(self, exposed: str) -> tuple[tuple[str, float], ...]:  # noqa: ARG002
        """Phases entered and when."""
        return tuple(self.starts.items())


Regime = Never | From | WithPhases


def effects_begin(regime: Regime, question: Question) -> list[tuple[str, float]]:
    """Phases that a regime enters, and when their effects begin: the exposed one's after a lag."""
    return [
        (phase, time + (question.lag if phase == question.exposed else 0.0))
        for phase, time in regime.changes(question.exposed)
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observation:
    """When patients were under observation, and when states were first seen.

    `first`, `last`: bounds of time at risk, by endpoint.
    `median`: median time at which patients came under observation, endpoints together, rounded up
    to two digits: it is shown as the landmark of curves, and nobody's own time.
    `times`: all bounds of single patients' time at risk, where they are known; a landmark that
    differs from one by noise is that one.
    `anybody`: says whether anybody is at risk for an endpoint at a time.
    `earliest`: earliest time at which any patient is in each state that is ever seen, in the
    states' order.
    """

    first: Mapping[str, float]
    last: Mapping[str, float]
    median: float
    times: Floats
    anybody: Callable[[str, float], bool]
    earliest: Mapping[str, float]
    unit: str


def observation(episodes: Mapping[str, Episodes], *, unit: str) -> Observation:
    """Read the bounds of observation off episodes."""
    begin, end = {}, {}
    for name, own in episodes.items():
        turn = np.concatenate([[True], np.diff(own.patient) != 0])
        begin[name] = own.start[turn]
        end[name] = own.stop[np.concatenate([turn[1:], [True]])]
    phase = np.concatenate([own.phase for own in episodes.values()])
    start = np.concatenate([own.start for own in episodes.values()])
    earliest = {
        name: float(start[phase == index].min())
        for index, name in enumerate(next(iter(episodes.values())).phases)
        if (phase == index).any()
    }
    return observation_of(begin, end, earliest, unit=unit)


def observation_of(
    begin: Mapping[str, Floats],
    end: Mapping[str, Floats],
    earliest: Mapping[str, float],
    *,
    unit: str,
) -> Observation:
    """Summarise when single patients were under observation.

    `begin`, `end`, shape (patient,): start and end of each patient's time at risk, by endpoint; NaN
    where there is none.
    """
    everybody = np.concatenate(list(begin.values()))

    def anybody(name: str, time: float) -> bool:
        later = time * (1.0 + TIE_TOLERANCE)
        return bool(((begin[name] <= later) & (end[name] > later)).any())

    return Observation(
        first={name: float(np.nanmin(times)) for name, times in begin.items()},
        last={name: float(np.nanmax(times)) for name, times in end.items()},
        median=round_up(float(np.nanmedian(everybody))),
        times=np.concatenate([everybody, *end.values()]),
        anybody=anybody,
        earliest=earliest,
        unit=unit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where curves may begin and end.

    `start`: the landmark.
    `last`: end of the follow-up of that endpoint whose follow-up ends first.
    """

    start: float
    last: float
    unit: str

    def require_times(self, times: Sequence[float] | Floats) -> None:
        """Refuse times outside, of which there may be none."""
        if np.min(times, initial=np.inf) < self.start:
            raise EstimandError(
                f"A time lies before the landmark {self.start:g}: curves are conditional on being "
                "event-free there. Give a landmark at or before the first time."
            )
        if np.max(times, initial=-np.inf) > self.last * (1 + TIE_TOLERANCE):
            raise EstimandError(
                f"A time lies after the end of follow-up, {self.last:g} {self.unit}: there are no "
                "data, and nothing is extrapolated."
            )


def require_curves(
    observed: Observation,
    question: Question,
    *,
    regimes: tuple[Regime, ...],
    landmark: float | None,
    times: Sequence[float] | None = None,
) -> Window:
    """Refuse curves that the data cannot give, before anything is sampled or computed.

    `landmark`: time at which patients are event-free. By default the question's landmark; without
    one the median time at which the eligible patients came under observation, rounded up.
    """
    asked = question.landmark if landmark is None else landmark
    start = observed.median if asked is None else float(asked)
    if not 0 <= start < np.inf:
        raise EstimandError(f"landmark must be a time from 0 on, got {asked!r}.")
    start = snap_to(start, observed.times)
    # A phase that counts from a lag after its start can be started that much earlier.
    earliest = {
        phase: first - (question.lag if phase == question.exposed else 0.0)
        for phase, first in observed.earliest.items()
    }
    _require_defined(regimes, question, start=start, earliest=earliest, unit=observed.unit)
    for name, first in observed.first.items():
        if not observed.anybody(name, start):
            raise EstimandError(
                f"{name}: nobody is at risk at the landmark {start:g}; patients are under "
                f"observation between {first:g} and {observed.last[name]:g}."
            )
    window = Window(start=start, last=min(observed.last.values()), unit=observed.unit)
    if times is not None:
        window.require_times(times)
    return window


def _require_defined(
    regimes: tuple[Regime, ...],
    question: Question,
    *,
    start: float,
    earliest: Mapping[str, float],
    unit: str,
) -> None:
    """Refuse regimes that nobody can follow from a landmark on."""
    if not regimes:
        raise EstimandError("Name at least one regime, such as Never() or From(6.0).")
    states = list(earliest)
    for regime in regimes:
        if not isinstance(regime, Never | From | WithPhases):
            raise EstimandError(
                f"{regime!r} is no regime; expected Never(), From(time) or "
                "WithPhases({phase: time})."
            )
        changes = regime.changes(question.exposed)
        for phase, time in changes:
            if phase not in earliest:
                raise EstimandError(
                    f"'{regime.label}': no eligible patient is ever in '{phase}'. "
                    f"{nearest(phase, states)}"
                )
            if max(time, start) < earliest[phase] * (1 - 1e-9):
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
    reference = question.reference
    if reference is None or start >= earliest[reference] * (1 - 1e-9):
        return
    for regime in regimes:
        if not any(time <= start for _, time in effects_begin(regime, question)):
            raise EstimandError(
                f"'{regime.label}' is not defined here: until a phase is named it is the reference "
                f"{reference}, and nobody eligible is in it before {earliest[reference]:g} {unit}. "
                "Take a landmark there, or name the state at the landmark with WithPhases."
            )
