"""Named treatment regimes, and which of them are well defined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from bayesblina.core.course_marks import course_marks
from bayesblina.core.courses import CourseLayout, Stays
from bayesblina.core.episodes import OFF_TREATMENT
from bayesblina.core.errors import EstimandError
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
        if not _is_number(self.start) or not 0 <= self.start < np.inf:
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


@dataclass(frozen=True, slots=True)
class Between:
    """The exposed phase is given from one time to another in those event-free; then it is left.

    Parameters
    ----------
    start, end
        Times at which it starts and ends, in the cohort's unit.
    dose
        What is given of it, evenly over this time; needed where the question counts doses.

    Raises
    ------
    EstimandError
        If the times are impossible, or the end is not after the start.

    Examples
    --------
    >>> Between(6.0, 12.0).label
    'from 6 to 12'
    """

    start: float
    end: float
    dose: float | None = None

    def __post_init__(self) -> None:
        _require_times(self, "start", "end")
        _require_dose(self)
        if self.end <= self.start:
            raise EstimandError(f"{self!r}: expected an end after the start.")

    @property
    def label(self) -> str:
        """Name used in results."""
        given = "" if self.dose is None else f" (dose {self.dose:g})"
        return f"from {self.start:g} to {self.end:g}{given}"

    def changes(self, exposed: str) -> tuple[tuple[str, float], ...]:
        """Phases entered and when."""
        return ((exposed, self.start), (OFF_TREATMENT, self.end))


@dataclass(frozen=True, slots=True)
class Cycles:
    """The exposed phase is given in cycles, time in it and time off it in turn.

    Parameters
    ----------
    start
        Time at which the first cycle starts, in the cohort's unit.
    on, off
        How long each cycle is given, and how long it pauses after that.
    times
        Number of cycles.
    dose
        What is given in each cycle, evenly over it; needed where the question counts doses.

    Raises
    ------
    EstimandError
        If a time is impossible, or `times` is no whole number from 1 on.

    Examples
    --------
    >>> Cycles(start=6.0, on=1.0, off=2.0, times=3).label
    'from 6, 3 times 1 on and 2 off'
    """

    start: float
    on: float
    off: float
    times: int
    dose: float | None = None

    def __post_init__(self) -> None:
        _require_times(self, "start", "on", "off")
        _require_dose(self)
        if not _is_number(self.times) or self.times != round(self.times) or self.times < 1:
            raise EstimandError(f"{self!r}: expected a whole number of cycles from 1 on.")
        if self.on == 0:
            raise EstimandError(f"{self!r}: expected each cycle to last.")

    @property
    def label(self) -> str:
        """Name used in results."""
        given = "" if self.dose is None else f" (dose {self.dose:g} each)"
        return f"from {self.start:g}, {self.times} times {self.on:g} on and {self.off:g} off{given}"

    def changes(self, exposed: str) -> tuple[tuple[str, float], ...]:
        """Phases entered and when."""
        begins = [self.start + cycle * (self.on + self.off) for cycle in range(self.times)]
        entries: list[tuple[str, float]] = []
        for begin in begins:
            entries += [(exposed, begin), (OFF_TREATMENT, begin + self.on)]
        return tuple(entries)


def _require_times(regime: Between | Cycles, *names: str) -> None:
    """Refuse what are no times from 0 on."""
    for name in names:
        if not _is_number(getattr(regime, name)) or not 0 <= getattr(regime, name) < np.inf:
            raise EstimandError(f"{regime!r}: expected {name} to be a time from 0 on.")


def _require_dose(regime: Between | Cycles) -> None:
    """Refuse what is no dose."""
    dose = regime.dose
    if dose is not None and not (_is_number(dose) and 0 < dose < np.inf):
        raise EstimandError(f"{regime!r}: expected a dose greater than 0.")


def _is_number(given: object) -> bool:
    kinds = (int, float, np.integer, np.floating)
    return isinstance(given, kinds) and not isinstance(given, bool)


Regime = Never | From | Between | Cycles | WithPhases
# Regimes that give the exposed phase, by what files call them.
KINDS: Mapping[str, type[From | Between | Cycles | WithPhases]] = MappingProxyType(
    {"from": From, "between": Between, "cycles": Cycles, "with_phases": WithPhases}
)
REGIMES = "Never(), From(time), Between(start, end), Cycles(...) or WithPhases({phase: time})"


def regime_of(content: Mapping[str, Any]) -> Regime:
    """Make the regime that a table of a file names: its kind, and what the kind takes.

    >>> regime_of({"kind": "between", "start": 6, "end": 12}).label
    'from 6 to 12'
    """
    taken = {name: value for name, value in content.items() if name != "kind"}
    return KINDS[content["kind"]](**taken)


def content_of(regime: Regime) -> dict[str, Any]:
    """Name a regime as files do.

    >>> content_of(WithPhases({"maintenance": 8.0}))
    {'kind': 'with_phases', 'starts': {'maintenance': 8.0}}
    """
    kind = next(name for name, known in KINDS.items() if isinstance(regime, known))
    values = {item.name: getattr(regime, item.name) for item in fields(regime)}
    return {"kind": kind} | {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }


def effects_begin(
    regime: Regime, question: Question, layout: CourseLayout | None = None
) -> list[tuple[str, float]]:
    """Phases that a regime enters, and when their effects begin: the exposed one's after a lag.

    `layout`: how states follow from stays; None where each phase begins once.
    """
    if layout is not None:
        treatment = dict(zip(layout.states, layout.phase_names, strict=True))
        return [(treatment[state], time) for time, state in states_under(regime, layout)]
    return [
        (phase, time + (question.lag if phase == question.exposure else 0.0))
        for phase, time in regime.changes(question.exposure)
    ]


def stays_under(regime: Regime, layout: CourseLayout) -> Stays:
    """Lay out the stays of a patient under a regime, as of a cohort of one."""
    exposure = layout.exposure
    changes = regime.changes(exposure.label)
    starts = np.array([time for _, time in changes], dtype=np.float64)
    stops = np.append(starts[1:], np.inf)[: starts.size]
    # A set of phases is entered by any of them.
    phase = np.array(
        [
            exposure.phases[0]
            if name == exposure.label
            else layout.phases.index(name)
            if name in layout.phases
            else -1
            for name, _ in changes
        ],
        dtype=np.int64,
    )
    kept = (phase >= 0) & (starts < stops)
    dose = None
    if exposure.amount == "dose":
        given = getattr(regime, "dose", None)
        if given is None and np.isin(phase[kept], exposure.phases).any():
            raise EstimandError(
                f"'{regime.label}' says nothing of doses, which the question counts: take "
                "Between(start, end, dose=) or Cycles(..., dose=)."
            )
        dose = np.full(int(kept.sum()), 0.0 if given is None else float(given))
    return Stays(
        patient=np.zeros(int(kept.sum()), dtype=np.int64),
        phase=phase[kept],
        start=starts[kept],
        stop=stops[kept],
        cycles=np.ones(int(kept.sum())),
        dose=dose,
    )


def states_under(regime: Regime, layout: CourseLayout) -> list[tuple[float, str]]:
    """When a patient under a regime enters which states, in the order of time."""
    marks = course_marks(stays_under(regime, layout), layout, 1)
    return [
        (time, layout.states[state])
        for time, state in zip(marks.time.tolist(), marks.state.tolist(), strict=True)
    ]
