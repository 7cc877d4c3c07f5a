"""When patients were under observation, and which curves that allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.courses import CourseLayout
from bayesblina.core.errors import EstimandError, nearest
from bayesblina.core.intervals import TIE_TOLERANCE, round_up, snap_to
from bayesblina.estimands.regimes import REGIMES, Regime, WithPhases, effects_begin
from bayesblina.person_time.follow_up import Episodes
from bayesblina.person_time.question import Question


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
        turn = np.concatenate([[True], np.diff(own.person) != 0])
        begin[name] = own.start[turn]
        end[name] = own.stop[np.concatenate([turn[1:], [True]])]
    # By phase, whatever its step.
    names = next(iter(episodes.values())).phase_names
    phase = np.concatenate([np.asarray(names)[own.phase] for own in episodes.values()])
    start = np.concatenate([own.start for own in episodes.values()])
    earliest = {
        name: float(start[phase == name].min())
        for name in dict.fromkeys(names)
        if (phase == name).any()
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
    layout: CourseLayout | None = None,
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
    entered = [effects_begin(regime, question, layout) for regime in _given(regimes)]
    require_defined(
        regimes,
        entered,
        landmark=start,
        earliest=observed.earliest,
        lag=(question.exposure, question.lag),
        unit=observed.unit,
        ordered=layout is None or layout.ordered,
    )
    _require_reference(
        regimes, entered, question, start=start, earliest=observed.earliest, unit=observed.unit
    )
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


def require_held(layout: CourseLayout | None, model: str) -> None:
    """Refuse courses where treatment states would go on by themselves after a relapse."""
    if layout is not None and layout.exposure.passes:
        raise EstimandError(
            f"measure='{layout.exposure.measure}' enters its steps as time passes, also after "
            f"a relapse, and in the courses of model '{model}' whoever relapses stays in the "
            "treatment state of that moment. Ask with measure='current' or 'episode', or "
            "amount='cycles'; or take a model without such courses."
        )


def _given(regimes: tuple[Regime, ...]) -> tuple[Regime, ...]:
    """Refuse what are no regimes."""
    if not regimes:
        raise EstimandError("Name at least one regime, such as Never() or From(6.0).")
    for regime in regimes:
        if not isinstance(regime, Regime):
            raise EstimandError(f"{regime!r} is no regime; expected {REGIMES}.")
    return regimes


def _require_reference(
    regimes: tuple[Regime, ...],
    entered: Sequence[Sequence[tuple[str, float]]],
    question: Question,
    *,
    start: float,
    earliest: Mapping[str, float],
    unit: str,
) -> None:
    """Refuse regimes that begin in a named reference before anybody can be in it."""
    reference = question.reference
    if reference is None or start >= earliest[reference] * (1 - 1e-9):
        return
    for regime, changes in zip(regimes, entered, strict=True):
        if not any(time <= start for _, time in changes):
            raise EstimandError(
                f"'{regime.label}' is not defined here: until a phase is named it is the reference "
                f"{reference}, and nobody eligible is in it before {earliest[reference]:g} {unit}. "
                "Take a landmark there, or name the state at the landmark with WithPhases."
            )


def require_defined(
    regimes: tuple[Regime, ...],
    entered: Sequence[Sequence[tuple[str, float]]],
    *,
    landmark: float,
    earliest: Mapping[str, float],
    lag: tuple[str, float],
    unit: str,
    ordered: bool = True,
) -> None:
    """Refuse regimes that nobody can follow.

    `entered`: phases that each regime enters, and when their effects begin.
    `lag`: phase whose effect begins later than the phase, and how much later.
    `ordered`: whether phases come in the order of `earliest`.
    """
    states = list(earliest)
    for regime, changes in zip(_given(regimes), entered, strict=True):
        for phase, start in changes:
            if phase not in earliest:
                raise EstimandError(
                    f"'{regime.label}': no eligible patient is ever in '{phase}'. "
                    f"{nearest(phase, states)}"
                )
            later = lag[1] if phase == lag[0] else 0.0
            first = earliest[phase] - later
            if max(start - later, landmark) < first * (1 - 1e-9):
                raise EstimandError(
                    f"'{regime.label}' is not defined here: {phase} is a state that a patient "
                    f"must live to enter, and nobody eligible is in it before "
                    f"{first:g} {unit}. Start it at {first:g} or later, or "
                    "take a landmark there."
                )
        order = [states.index(phase) for phase, _ in changes]
        if isinstance(regime, WithPhases) and ordered and order != sorted(order):
            raise EstimandError(f"'{regime.label}': the phases' order is {', '.join(states)}.")
    labels = [regime.label for regime in regimes]
    if len(set(labels)) != len(labels):
        raise EstimandError(f"The same regime stands twice: {', '.join(labels)}.")
