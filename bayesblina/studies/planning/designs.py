"""Designs of studies that are not done yet, and cohorts simulated from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.courses import Stays
from bayesblina.core.errors import SpecError, require_at_least, require_kind, require_seed
from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.question import STARTS_UNTIL, StartsUntil
from bayesblina.studies.simulate import VisitSchedule

ENDPOINT, PHASE = "event", "exposed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDesign:
    """A study of a phase that patients enter later.

    Time is counted from when a patient becomes eligible.

    Parameters
    ----------
    patients
        Number of eligible patients.
    hazards
        Events per patient and time unit without the phase, in each piece.
    cuts
        Inner cut points of the pieces; one fewer than hazards.
    start_hazards, start_cuts
        The same of starting the phase; a hazard of 0 is a time in which nobody starts.
    hazard_ratio
        In the phase against not in it.
    cycles
        How long the phase is given in each cycle, how long it pauses after that, and the number of
        cycles: the hazard ratio holds while it is given. None for a phase that goes on.
    accrual
        Length of accrual, uniform.
    follow_up
        Time from the end of accrual to the analysis.
    dropout
        Hazard of leaving observation before.
    unit
        Time unit.
    visits
        When patients are looked at, counted from becoming eligible: a
        `bayesblina.simulate.VisitSchedule`, or a mapping of what it takes. Events are then found at
        visits, and analysed so. None for exact times.
    starts_until
        Where there are visits, until when the phase may start, as of `bayesblina.Question`:
        ``"found"`` or ``"event"``. Cohorts are simulated and analysed under it.

    Raises
    ------
    SpecError
        If a number is impossible, or visits and `starts_until` do not go together.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> design.patients
    86
    """

    patients: int
    hazards: tuple[float, ...]
    start_hazards: tuple[float, ...]
    hazard_ratio: float
    follow_up: float
    accrual: float = 0.0
    cuts: tuple[float, ...] = ()
    start_cuts: tuple[float, ...] = ()
    dropout: float = 0.0
    unit: str = "months"
    cycles: tuple[float, float, int] | None = None
    visits: VisitSchedule | Mapping[str, float] | None = None
    starts_until: StartsUntil | None = None

    def __post_init__(self) -> None:
        count: object = self.patients
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 2:
            raise SpecError(f"patients must be a whole number of at least 2, got {count!r}.")
        for item in fields(self):
            given = getattr(self, item.name)
            if item.name == "visits":
                continue
            # Python counts true as 1.
            if any(isinstance(value, bool) for value in np.asarray(given, dtype=object).ravel()):
                raise SpecError(f"{item.name}: expected numbers, got {given!r}.")
        for name, inner in (("hazards", "cuts"), ("start_hazards", "start_cuts")):
            rates, points = (tuple(map(float, getattr(self, key))) for key in (name, inner))
            if len(rates) != len(points) + 1:
                raise SpecError(f"{len(points)} {inner} need {len(points) + 1} {name}.")
            if not all(0 <= rate < math.inf for rate in rates) or max(rates) == 0:
                raise SpecError(f"{name} must be at least 0, and not all 0, got {rates!r}.")
            if not (np.diff((0.0, *points)) > 0).all() or not np.isfinite(points).all():
                raise SpecError(f"{inner} must be positive and strictly increasing.")
            object.__setattr__(self, name, rates)
            object.__setattr__(self, inner, points)
        for name in ("hazard_ratio", "follow_up", "accrual", "dropout"):
            zero, value = name in ("accrual", "dropout"), float(getattr(self, name))
            if not 0 <= value < math.inf or (value == 0 and not zero):
                raise SpecError(
                    f"{name} must be {'at least' if zero else 'greater than'} 0 and finite, got "
                    f"{value!r}."
                )
            object.__setattr__(self, name, value)
        if self.cycles is not None:
            object.__setattr__(self, "cycles", _cycles(self.cycles))
        object.__setattr__(self, "visits", _visits(self.visits))
        if (self.visits is None) != (self.starts_until is None):
            raise SpecError(
                "visits and starts_until go together: events that are found at visits need to be "
                "told until when the phase may start, 'found' or 'event'."
            )
        if self.starts_until not in (None, *STARTS_UNTIL):
            raise SpecError(f"starts_until must be 'found' or 'event', got {self.starts_until!r}.")
        if self.visits is not None and self.cycles is not None:
            raise SpecError(
                "visits and cycles do not go together: what becomes of cycles between an event and "
                "the visit that finds it is not simulated. Leave one of them out."
            )

    @property
    def schedule(self) -> VisitSchedule | None:
        """When patients are looked at; None where times are exact."""
        return _visits(self.visits)


def _visits(given: object) -> VisitSchedule | None:
    """Take the visits of a design, or refuse them."""
    if given is None or isinstance(given, VisitSchedule):
        return given
    known = [item.name for item in fields(VisitSchedule)]
    if not isinstance(given, Mapping) or "every" not in given or not set(given) <= set(known):
        raise SpecError(
            f"visits must be a VisitSchedule, or map every (and, if wanted, jitter and missed) to "
            f"numbers, got {given!r}."
        )
    return VisitSchedule(**given)


def _cycles(given: object) -> tuple[float, float, int]:
    """Take the cycles of a design, or refuse them."""
    values = given if isinstance(given, list | tuple) else ()
    plain = [float(value) for value in values if isinstance(value, int | float)]
    if len(values) != 3 or len(plain) != 3 or not np.isfinite(plain).all():
        raise SpecError(f"cycles must be time on, time off and a number of cycles, got {given!r}.")
    on, off, times = plain
    if on <= 0 or off < 0 or times != round(times) or times < 1:
        raise SpecError(
            "cycles must be time on greater than 0, time off from 0 on, and a whole number of "
            f"cycles from 1 on, got {given!r}."
        )
    return on, off, int(times)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohorts:
    """Simulated cohorts.

    `time`, `start`, shape (cohort, patient): end of follow-up, and start of the phase; infinite
    where there is none before that.
    `event`, shape (cohort, patient): whether follow-up ends with the event.
    `hazard_ratio`, shape (cohort,): the truth of each.
    `last_negative`, shape (cohort, patient): last visit without the event, where events are found
    at visits: minus infinity where there was none, and `time` is that of the visit that finds the
    event. None where times are exact.
    `stays`, shape (stay, 2): time from the start at which each stay in the phase begins and ends;
    None where it goes on.
    """

    time: Floats
    start: Floats
    event: Bools
    hazard_ratio: Floats
    stays: Floats | None = None
    last_negative: Floats | None = None


def _deaths(
    dying: PiecewiseHazard, start: Floats, target: Floats, ratio: Floats, stays: Floats
) -> Floats:
    """Find when the hazard passed reaches a target, shape (cohort, patient): ratio in stays only.

    Time is that of the clock without phase: the hazard passed on it up to a change, and at which
    pace it passes after it.
    """
    death = dying.inverse(target)
    passed = reached = dying.cumulative(start.ravel()).reshape(start.shape)
    alive = target > passed
    for begin, end in zip(stays[:, 0], stays[:, 1], strict=True):
        for at, pace in ((begin, np.ones((1, 1))), (end, ratio[:, None])):
            edge = dying.cumulative((start + at).ravel()).reshape(start.shape)
            with np.errstate(invalid="ignore"):
                more = reached + pace * (edge - passed)
                death = np.where(
                    alive & (target <= more),
                    dying.inverse(passed + (target - reached) / pace),
                    death,
                )
                alive &= target > more
            passed, reached = edge, more
    beyond = np.where(alive, passed + (target - reached), 0.0)
    return np.where(alive, dying.inverse(beyond), death)


def simulate_cohorts(
    design: StudyDesign, *, cohorts: int, seed: int, effect: HazardRatioPrior | None = None
) -> Cohorts:
    """Simulate cohorts of a design, all at once.

    Parameters
    ----------
    design
        The design.
    cohorts
        How many.
    seed
        Seed.
    effect
        Distribution from which each cohort's hazard ratio is drawn; by default it is the design's.

    Returns
    -------
    Cohorts
        The cohorts.

    Raises
    ------
    SpecError
        If `cohorts` is impossible.

    Examples
    --------
    >>> design = StudyDesign(
    ...     patients=86, hazards=(0.03,), start_hazards=(0.1,), hazard_ratio=0.5, follow_up=12.0
    ... )
    >>> simulate_cohorts(design, cohorts=100, seed=1).time.shape
    (100, 86)
    """
    require_kind(design, StudyDesign, "design")
    require_seed(seed)
    require_at_least(cohorts, 1, "cohorts")
    random = np.random.default_rng(seed)
    ratio = (
        np.full(cohorts, design.hazard_ratio)
        if effect is None
        else np.exp(random.normal(effect.mean, effect.sd, cohorts))
    )
    shape = (cohorts, design.patients)
    # Of one patient like all others.
    starting, dying = (
        PiecewiseHazard(starts=np.array([0.0, *cuts]), rates=np.array([hazards]))
        for cuts, hazards in (
            (design.start_cuts, design.start_hazards),
            (design.cuts, design.hazards),
        )
    )
    start = starting.inverse(random.exponential(size=shape))
    target = random.exponential(size=shape)
    stays = None
    if design.cycles is None:
        # Hazard up to the start, and beyond it at the ratio: time is that of the clock without
        # phase.
        passed = dying.cumulative(start.ravel()).reshape(shape)
        with np.errstate(invalid="ignore"):
            beyond = passed + (target - passed) / ratio[:, None]
        death = dying.inverse(np.where(target <= passed, target, beyond))
    else:
        on, off, times = design.cycles
        begin = (on + off) * np.arange(times)
        stays = np.stack([begin, begin + on], axis=1)
        death = _deaths(dying, start, target, ratio, stays)
    end = design.follow_up + random.uniform(0.0, 1.0, shape) * design.accrual
    if design.dropout > 0:
        end = np.minimum(end, random.exponential(1.0 / design.dropout, shape))
    found, last = death, None
    if design.schedule is not None:
        last, found = design.schedule.look(death, end, random)
        if design.starts_until == "event":
            start = np.where(start < death, start, np.inf)
    time = np.minimum(found, end)
    return Cohorts(
        time=time,
        start=np.where(start < time, start, np.inf),
        event=found <= end,
        hazard_ratio=ratio,
        stays=stays,
        last_negative=last,
    )


def as_cohort(cohorts: Cohorts, index: int, design: StudyDesign) -> Cohort:
    """Take one simulated cohort as patients."""
    time, start = cohorts.time[index].copy(), cohorts.start[index]
    last = None
    if cohorts.last_negative is not None:
        own = cohorts.last_negative[index]
        last = np.where(np.isinf(own), np.nan, own)
    return Cohort(
        patients=np.arange(time.size).astype(str),
        unit=design.unit,
        endpoints={
            ENDPOINT: Outcome(
                time=time,
                event=cohorts.event[index].copy(),
                entry=np.zeros(time.size),
                recorded=None if last is None else "visits",
                last_negative=last,
            )
        },
        phases=(PHASE,),
        phase_start=np.where(np.isinf(start), np.nan, start)[:, None],
        phase_end=np.full((time.size, 1), np.nan),
        stays=None if cohorts.stays is None else _stays(cohorts, cohorts.stays, index),
        synthetic=True,
        source="a simulated design",
    )


def _stays(cohorts: Cohorts, stays: Floats, index: int) -> Stays:
    """Take the stays of one simulated cohort that begin before follow-up ends."""
    begin, end = (cohorts.start[index][:, None] + stays[:, side] for side in (0, 1))
    patient, stay = np.nonzero(begin < cohorts.time[index][:, None])
    return Stays(
        patient=patient,
        phase=np.zeros(patient.size, dtype=np.int64),
        start=begin[patient, stay],
        stop=end[patient, stay],
        cycles=np.ones(patient.size),
    )
