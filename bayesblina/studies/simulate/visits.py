"""Synthetic patients whose events are found at visits, and the same patients with exact times.

Patients become eligible with consolidation, event-free, and some start maintenance. Visits are
scheduled at multiples of a time from the origin on; a relapse is found at the first visit after it,
a death is known to the day. Until when maintenance may start is one of two mechanisms: treatment
goes on until the relapse is found, or nobody starts after it, seen or not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError, require_kind, require_number, require_seed
from bayesblina.core.piecewise import PiecewiseHazard, finite
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Endpoint, Phases
from bayesblina.patients.readers import read_cohort
from bayesblina.person_time.question import STARTS_UNTIL, StartsUntil

PAIRS = ("eligible", "starts", "follow_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitSchedule:
    """When patients are looked at.

    Parameters
    ----------
    every
        Time between visits as they are planned: at multiples of it, from the origin of time on.
    jitter
        Standard deviation of the visits' own time about the planned one: normal, cut off at two
        fifths of `every` on both sides, so that visits keep their order.
    missed
        Probability that a visit does not take place, each by itself.

    Raises
    ------
    SpecError
        If a number is impossible.

    Examples
    --------
    >>> VisitSchedule(every=3.0, jitter=0.25, missed=0.1).every
    3.0
    """

    every: float
    jitter: float = 0.0
    missed: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = require_number(getattr(self, item.name), item.name)
            if not 0 <= value < np.inf:
                raise SpecError(f"{item.name} must be at least 0 and finite, got {value!r}.")
            object.__setattr__(self, item.name, value)
        if self.every == 0:
            raise SpecError("every must be greater than 0: it is the time between visits.")
        if self.missed >= 1:
            raise SpecError(
                f"missed must be a probability below 1, got {self.missed!r}: without any visit no "
                "event is found."
            )

    def look(self, time: Floats, end: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw visits, and find when events are seen.

        `time`, any shape: when the event happens.
        `end`, shape of `time`: end of follow-up.
        Result, shape of `time` each: the last visit before the event (minus infinity if there is
        none), and the first one from it on, within follow-up (infinite if there is none).
        """
        last, found = np.full(time.shape, -np.inf), np.full(time.shape, np.inf)
        most, spread = 0.4 * self.every, self.jitter
        for number in range(1, int(np.ceil(np.max(end, initial=0.0) / self.every)) + 2):
            visit = np.full(time.shape, number * self.every)
            if spread:
                visit += _truncated(spread, most, time.shape, random)
            takes_place = visit <= end
            if self.missed:
                takes_place &= random.random(time.shape) >= self.missed
            last = np.where(takes_place & (visit < time), visit, last)
            seen = takes_place & (visit >= time) & np.isinf(found)
            found = np.where(seen, visit, found)
        return last, found


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitTruth:
    """What generates synthetic patients whose events are found at visits; times in months.

    Parameters
    ----------
    starts_until
        The mechanism, as of `bayesblina.Question`: ``"found"``, maintenance starts as planned
        until the relapse is found; ``"event"``, nobody starts it after the relapse, seen or not.
    visits
        When patients are looked at.
    hazards, cuts
        Events per patient and month without maintenance, in each piece of the time from the
        origin, and the inner cut points of the pieces; one fewer than hazards.
    log_hazard_ratio
        In maintenance against before.
    eligible
        Earliest and latest time at which patients become eligible (uniform): event-free then.
    started_share, starts
        Share of patients who start maintenance if nothing comes before; the earliest and latest
        time at which they do, from becoming eligible on (uniform).
    death_share
        Share of deaths among events, which are known to the day. Nobody dies after a relapse
        within follow-up. With deaths there is an endpoint ``"os"``, which ``"rfs"`` includes.
    follow_up
        Shortest and longest follow-up (uniform), greater than the latest time of `eligible`.

    Raises
    ------
    SpecError
        If the mechanism is unknown, or a number impossible.

    Examples
    --------
    >>> VisitTruth(starts_until="found", visits=VisitSchedule(every=6.0)).hazards
    (0.05,)
    """

    starts_until: StartsUntil
    visits: VisitSchedule
    hazards: tuple[float, ...] = (0.05,)
    cuts: tuple[float, ...] = ()
    log_hazard_ratio: float = float(np.log(0.5))
    eligible: tuple[float, float] = (0.2, 3.0)
    started_share: float = 0.6
    starts: tuple[float, float] = (0.5, 18.0)
    death_share: float = 0.0
    follow_up: tuple[float, float] = (36.0, 36.0)

    def __post_init__(self) -> None:
        if self.starts_until not in STARTS_UNTIL:
            raise SpecError(f"starts_until must be 'found' or 'event', got {self.starts_until!r}.")
        require_kind(self.visits, VisitSchedule, "visits")
        for name in ("hazards", "cuts", *PAIRS):
            object.__setattr__(self, name, finite(name, np.atleast_1d(getattr(self, name))))
        for name in ("started_share", "death_share", "log_hazard_ratio"):
            (value,) = finite(name, [require_number(getattr(self, name), name)])
            object.__setattr__(self, name, value)
        if len(self.hazards) != len(self.cuts) + 1:
            raise SpecError(f"{len(self.cuts)} cuts need {len(self.cuts) + 1} hazards.")
        if min(self.hazards) < 0 or max(self.hazards) == 0:
            raise SpecError(f"hazards must be at least 0, and not all 0, got {self.hazards!r}.")
        if not (np.diff((0.0, *self.cuts)) > 0).all():
            raise SpecError(f"cuts must be positive and strictly increasing, got {self.cuts!r}.")
        for name in ("started_share", "death_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name} must be a share from 0 to 1.")
        for name in PAIRS:
            pair = getattr(self, name)
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
                raise SpecError(f"{name} must be an earliest and a latest time, got {pair!r}.")
        if self.follow_up[0] <= self.eligible[1]:
            raise SpecError(
                "follow_up must be longer than the latest time of eligible: patients become "
                "eligible within it."
            )


class SyntheticVisits(NamedTuple):
    """Synthetic patients with events found at visits, never patient data, and the truth.

    Attributes
    ----------
    cohort : Cohort
        The patients as they are recorded, marked as synthetic.
    exact : Cohort
        The same patients with the exact times of all events, and starts before these only.
    truth : VisitTruth
        What generated them.
    """

    cohort: Cohort
    exact: Cohort
    truth: VisitTruth


def visits_cohort(seed: int, *, patients: int = 300, truth: VisitTruth) -> SyntheticVisits:
    """Draw synthetic patients whose events are found at visits; this is never patient data.

    Parameters
    ----------
    seed
        Non-negative; the same seed gives the same patients, within rounding on another processor.
        With the same hazards, starts and follow-up, it gives the same exact times for every
        schedule of visits and both mechanisms.
    patients
        Number of patients.
    truth
        What generates them.

    Returns
    -------
    SyntheticVisits
        Both cohorts in months, with the phases ``"consolidation"`` and ``"maintenance"`` and the
        endpoint ``"rfs"`` (and ``"os"`` where there are deaths); and the truth.

    Raises
    ------
    SpecError
        As for `visits_tables`.

    Examples
    --------
    >>> truth = VisitTruth(starts_until="found", visits=VisitSchedule(every=6.0))
    >>> cohort, exact, truth = visits_cohort(1, truth=truth)
    >>> cohort.endpoints["rfs"].recorded, exact.endpoints["rfs"].recorded
    ('visits', 'exact')
    """
    recorded, exact = visits_tables(seed, patients=patients, truth=truth)
    return SyntheticVisits(
        cohort=_read(recorded, Endpoint(time="months", event="event", last_negative="negative")),
        exact=_read(exact, Endpoint(time="months", event="event", recorded="exact")),
        truth=truth,
    )


def visits_tables(
    seed: int, *, patients: int = 300, truth: VisitTruth
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw synthetic patients whose events are found at visits as two tables.

    Parameters
    ----------
    seed, patients, truth
        As for `visits_cohort`.

    Returns
    -------
    recorded : pandas.DataFrame
        One row per patient: ``patient_id``, the starts ``consolidation`` and ``maintenance``,
        ``months`` and ``event`` of relapse-free survival, and ``negative``, the time of the last
        visit without the event (missing if there was none; that of a death is its own). With
        deaths also ``os_months`` and ``died``.
    exact : pandas.DataFrame
        The same without ``negative``, and with the exact times of all events.

    Raises
    ------
    SpecError
        If the seed is negative or the number of patients impossible.

    Examples
    --------
    >>> truth = VisitTruth(starts_until="event", visits=VisitSchedule(every=3.0))
    >>> recorded, exact = visits_tables(1, truth=truth)
    >>> bool((recorded["negative"] > exact["months"])[recorded["event"] == 1].any())
    False
    """
    require_seed(seed)
    if isinstance(patients, bool) or patients < 2:
        raise SpecError(f"patients must be a whole number of at least 2, got {patients!r}.")
    require_kind(truth, VisitTruth, "truth")
    # Visits have random numbers of their own, so that courses do not hang on them.
    course, visits = (np.random.default_rng([seed, stream]) for stream in range(2))
    eligible = course.uniform(*truth.eligible, patients)
    starts = course.random(patients) < truth.started_share
    start = np.where(starts, eligible + course.uniform(*truth.starts, patients), np.inf)
    time = _events(truth, eligible, start, course.exponential(size=patients))
    dies = course.random(patients) < truth.death_share
    end = course.uniform(*truth.follow_up, patients)
    before = np.where(start < time, start, np.inf)
    if truth.starts_until == "event":
        start = before
    last, found = truth.visits.look(time, end, visits)
    last, found = np.where(dies & (time <= end), time, last), np.where(dies, time, found)
    ids = np.array([f"SYN-{number:06d}" for number in range(1, patients + 1)])

    def laid_out(at: Floats, begun: Floats) -> pd.DataFrame:
        """Lay out patients whose events are known at some time."""
        stop = np.minimum(at, end)
        known: dict[str, Floats | Bools] = {
            "consolidation": eligible,
            "maintenance": np.where(begun < stop, begun, np.nan),
            "months": stop,
            "event": (at <= end).astype(int),
        }
        if truth.death_share:
            died = dies & (time <= end)
            known |= {"os_months": np.where(died, time, end), "died": died.astype(int)}
        table = pd.DataFrame({"patient_id": ids, **known})
        table.attrs["synthetic"] = True
        return table

    recorded = laid_out(found, start)
    recorded["negative"] = np.where(np.isinf(last), np.nan, last)
    return recorded, laid_out(time, before)


def _truncated(
    sd: float, most: float, shape: tuple[int, ...], random: np.random.Generator
) -> Floats:
    """Draw from a normal distribution about 0, cut off on both sides, by inversion."""
    low, high = ndtr(np.array([-most, most]) / sd)
    return np.asarray(sd * ndtri(random.uniform(low, high, shape)))


def _events(truth: VisitTruth, eligible: Floats, start: Floats, target: Floats) -> Floats:
    """Find when the hazard passed since becoming eligible reaches a target, shape (patient,)."""
    hazard = PiecewiseHazard(starts=np.array([0.0, *truth.cuts]), rates=np.array([truth.hazards]))
    begun, passed = (hazard.cumulative(times)[0] for times in (eligible, start))
    ratio = float(np.exp(truth.log_hazard_ratio))
    # Time is that of the clock without maintenance.
    with np.errstate(invalid="ignore"):
        beyond = passed + (target - (passed - begun)) / ratio
    level = begun + target
    return hazard.inverse(np.where(level <= passed, level, beyond))


def _read(table: pd.DataFrame, endpoint: Endpoint) -> Cohort:
    """Read a table as a user would."""
    endpoints = {"rfs": endpoint}
    if "died" in table:
        died = Endpoint(time="os_months", event="died", recorded="exact")
        endpoints = {"os": died, "rfs": replace(endpoint, includes=("os",))}
    return read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints=endpoints,
        phases=Phases(consolidation="consolidation", maintenance="maintenance"),
        synthetic=True,
    )
