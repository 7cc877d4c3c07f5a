"""Simulated patients for the study of the baseline: who enters when, and how the hazard runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints

ENTRIES = ("clustered", "uniform", "early", "late")
# About when patients enter: where the features of the hazard are placed.
PLACE = {"clustered": 3.0, "uniform": 7.5, "early": 0.7, "late": 2.0}
BASELINES = ("constant", "rising", "falling", "early peak", "step up", "step down", "U", "pulse")
CENSORED = (12.0, 36.0)
SHARE_WITH_EVENT, CALIBRATION_RATIO = 0.6, 0.7
CALIBRATION_PATIENTS, CALIBRATION_SEED = 20_000, 20_240_917
COVARIATE_LOG_RATIOS = (0.7, -0.5)
INDUCTION_LOG_RATIO = 0.5
NEVER = np.inf
FAR = 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patients:
    """Times of the patients at risk for one endpoint; all arrays have one row each.

    Attributes
    ----------
    observed_from, stop : ndarray, shape (patient,)
        Under observation over ``(observed_from, stop]``.
    event : ndarray of float, shape (patient,)
        1 where it ends with the event.
    start : ndarray, shape (patient, phase)
        When later phases begin; infinite for never.
    pattern : ndarray of int, shape (patient,)
        Combination of covariates.
    row : ndarray of int, shape (patient,)
        Who it is: the same in all endpoints.
    """

    observed_from: Floats
    stop: Floats
    event: Floats
    start: Floats
    pattern: Ints
    row: Ints

    def of(self, rows: NDArray[np.bool_]) -> Patients:
        """Take some of them."""
        return Patients(
            observed_from=self.observed_from[rows],
            stop=self.stop[rows],
            event=self.event[rows],
            start=self.start[rows],
            pattern=self.pattern[rows],
            row=self.row[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hazard:
    """A hazard that is ``rate[k]`` from ``begin[k]`` on."""

    begin: Floats
    rate: Floats

    def _passed(self) -> Floats:
        return np.concatenate([[0.0], np.cumsum(np.diff(self.begin) * self.rate[:-1])])

    def cumulative(self, time: Floats) -> Floats:
        """Integrate it."""
        piece = np.clip(np.searchsorted(self.begin, time, side="right") - 1, 0, None)
        return np.asarray(self._passed()[piece] + (time - self.begin[piece]) * self.rate[piece])

    def inverse(self, total: Floats) -> Floats:
        """When the integral reaches a value."""
        passed = self._passed()
        piece = np.clip(np.searchsorted(passed, total, side="right") - 1, 0, None)
        return np.asarray(self.begin[piece] + (total - passed[piece]) / self.rate[piece])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """One simulated data set.

    Attributes
    ----------
    endpoints : dict of Patients
        By endpoint; the cuts are made from all of them.
    hazard : dict of Hazard
        The true hazard in the reference phase.
    """

    endpoints: dict[str, Patients]
    hazard: dict[str, Hazard]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """A kind of data set.

    Attributes
    ----------
    simulate
        Makes one from a number of patients, a log hazard ratio, and a generator.
    design : ndarray, shape (state x pattern, coefficient)
        Column 0 is the effect asked for; then other phases' effects, then covariates.
    effects
        How many coefficients are those of phases.
    patterns
        Number of combinations of covariates.
    landmark, start
        Where the unexposed survival begins, and where that of patients who start then.
    """

    simulate: Callable[[int, float, np.random.Generator], Data]
    design: Floats = field(default_factory=lambda: np.array([[0.0], [1.0]]))
    effects: int = 1
    patterns: int = 1
    landmark: float = 0.0
    start: float = 0.0


def shape_of(baseline: str, place: float) -> Hazard:
    """Give a hazard's shape, placed relative to entry; its level is free."""
    fine = np.linspace(0.0, 3.0, 61)
    middle = (fine[1:] + fine[:-1]) / 2.0
    peak = 0.25 + 2.0 * (middle / 0.6) * np.exp(1.0 - middle / 0.6)
    shapes: dict[str, tuple[list[float] | Floats, list[float] | Floats]] = {
        "constant": ([0.0], [1.0]),
        "rising": (fine, np.append(0.15 + 0.85 * middle / 3.0, 1.0)),
        "falling": (fine, np.append(5.0 ** (1.0 - middle / 1.5), 0.2)),
        "early peak": (fine, np.append(peak, 0.3)),
        "step up": ([0.0, 1.15], [1.0, 4.5]),
        "step down": ([0.0, 1.3], [6.0, 1.0]),
        "U": ([0.0, 0.6, 1.6], [4.0, 0.8, 2.5]),
        "pulse": ([0.0, 0.8, 1.3], [1.0, 8.0, 1.0]),
    }
    begin, rate = shapes[baseline]
    return Hazard(begin=place * np.asarray(begin), rate=np.asarray(rate, dtype=np.float64))


def entry_times(entry: str, count: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """When the exposed phase begins (infinite for never), and when observation does."""
    observed = np.zeros(count)
    if entry == "clustered":
        begins, share = np.maximum(random.normal(3.0, 0.3, count), 0.5), 0.7
    elif entry == "uniform":
        begins, share = random.uniform(0.0, 15.0, count), 0.8
    elif entry == "early":
        begins, share = np.exp(random.normal(np.log(0.7), 0.4, count)), 0.95
    else:
        # Seven in ten come under observation about month 2, half of them already exposed.
        comes = random.random(count) < 0.7
        observed = np.where(comes, np.exp(random.normal(np.log(2.0), 0.3, count)), observed)
        wait = np.where(random.random(count) < 0.5, 0.0, random.exponential(5.0, count))
        return np.where(comes, np.maximum(observed + wait - 0.2, 0.1), NEVER), observed
    return np.where(random.random(count) < share, begins, NEVER), observed


def event_times(
    hazard: Hazard,
    start: Floats,
    observed: Floats,
    log_ratio: Floats,
    relative: Floats,
    random: np.random.Generator,
) -> Floats:
    """Times of events of patients who have none before they come under observation.

    `log_ratio` has one effect for the first state and for each column of `start`; `relative`
    multiplies each patient's hazard.
    """
    count = start.shape[0]
    begin = np.concatenate([np.zeros((count, 1)), np.minimum(start, FAR)], axis=1)
    end = np.concatenate([begin[:, 1:], np.full((count, 1), FAR)], axis=1)
    rate = np.exp(log_ratio)[None, :] * relative[:, None]
    low = hazard.cumulative(begin)
    by_piece = rate * (hazard.cumulative(end) - low)
    given = rate * (hazard.cumulative(np.clip(observed[:, None], begin, end)) - low)
    target = random.exponential(1.0, count) + given.sum(axis=1)
    passed = np.concatenate([np.zeros((count, 1)), np.cumsum(by_piece, axis=1)[:, :-1]], axis=1)
    piece = (target[:, None] > passed).sum(axis=1) - 1
    rows = np.arange(count)
    within = (target - passed[rows, piece]) / rate[rows, piece]
    return hazard.inverse(low[rows, piece] + within)


def _censored(
    times: Floats,
    start: Floats,
    observed: Floats,
    random: np.random.Generator,
    pattern: Ints | None = None,
) -> Patients:
    """End follow-up at an independent time."""
    censored = random.uniform(*CENSORED, times.size)
    stop = np.minimum(times, censored)
    return Patients(
        observed_from=observed,
        stop=stop,
        event=(times <= censored).astype(np.float64),
        start=np.where(start < stop[:, None], start, NEVER),
        pattern=np.zeros(times.size, dtype=np.int64) if pattern is None else pattern,
        row=np.arange(times.size),
    )


@cache
def hazard_of(entry: str, baseline: str) -> Hazard:
    """Give the hazard at the level at which six in ten have an event, at a hazard ratio of 0.7."""
    shape = shape_of(baseline, PLACE[entry])
    low, high = 1e-4, 1.0
    for _ in range(40):
        level = float(np.sqrt(low * high))
        hazard = Hazard(begin=shape.begin, rate=shape.rate * level)
        random = np.random.default_rng(CALIBRATION_SEED)
        start, observed = entry_times(entry, CALIBRATION_PATIENTS, random)
        effect = np.array([0.0, np.log(CALIBRATION_RATIO)])
        times = event_times(hazard, start[:, None], observed, effect, np.ones(start.size), random)
        share = _censored(times, start[:, None], observed, random).event.mean()
        low, high = (level, high) if share < SHARE_WITH_EVENT else (low, level)
    return hazard


def one_phase(entry: str, baseline: str) -> Arm:
    """One phase, one endpoint."""
    hazard = hazard_of(entry, baseline)

    def simulate(count: int, log_ratio: float, random: np.random.Generator) -> Data:
        start, observed = entry_times(entry, count, random)
        effect = np.array([0.0, log_ratio])
        times = event_times(hazard, start[:, None], observed, effect, np.ones(count), random)
        found = _censored(times, start[:, None], observed, random)
        return Data(endpoints={"y": found}, hazard={"y": hazard})

    return Arm(simulate=simulate, start=PLACE[entry])


def with_covariates(entry: str, baseline: str) -> Arm:
    """Two binary covariates; the first, which raises the hazard, is rarer in who starts."""
    hazard = hazard_of(entry, baseline)

    def simulate(count: int, log_ratio: float, random: np.random.Generator) -> Data:
        start, observed = entry_times(entry, count, random)
        first = random.random(count) < np.where(np.isfinite(start), 0.35, 0.6)
        second = random.random(count) < 0.4
        relative = np.exp(COVARIATE_LOG_RATIOS[0] * first + COVARIATE_LOG_RATIOS[1] * second)
        effect = np.array([0.0, log_ratio])
        times = event_times(hazard, start[:, None], observed, effect, relative, random)
        pattern = (2 * first + second).astype(np.int64)
        found = _censored(times, start[:, None], observed, random, pattern)
        return Data(endpoints={"y": found}, hazard={"y": hazard})

    levels = np.array([[k, first, second] for k in (0, 1) for first in (0, 1) for second in (0, 1)])
    return Arm(simulate=simulate, design=levels.astype(np.float64), patterns=4, start=PLACE[entry])


def _two_phases(count: int, log_ratio: float, random: np.random.Generator) -> Data:
    """Induction, consolidation, maintenance; the hazard falls and rises where they begin."""
    hazard = Hazard(begin=np.array([0.0, 1.9, 5.2]), rate=np.array([0.06, 0.02, 0.06]))
    consolidation = np.exp(random.normal(np.log(1.5), 0.35, count))
    consolidation = np.where(random.random(count) < 0.8, consolidation, NEVER)
    maintenance = consolidation + np.exp(random.normal(np.log(3.0), 0.3, count))
    maintenance = np.where(random.random(count) < 0.65, maintenance, NEVER)
    start = np.stack([consolidation, maintenance], axis=1)
    effect = np.array([INDUCTION_LOG_RATIO, 0.0, log_ratio])
    observed = np.zeros(count)
    times = event_times(hazard, start, observed, effect, np.ones(count), random)
    return Data(endpoints={"y": _censored(times, start, observed, random)}, hazard={"y": hazard})


def _from_consolidation(count: int, log_ratio: float, random: np.random.Generator) -> Data:
    """The same patients from consolidation on: as many of those who reach it as asked for."""
    found = _two_phases(2 * count, log_ratio, random)
    patients = found.endpoints["y"]
    reached = np.flatnonzero(np.isfinite(patients.start[:, 0]))[:count]
    rows = np.isin(np.arange(patients.stop.size), reached)
    eligible = patients.of(rows)
    at_risk = Patients(
        observed_from=eligible.start[:, 0],
        stop=eligible.stop,
        event=eligible.event,
        start=eligible.start[:, 1:],
        pattern=eligible.pattern,
        row=eligible.row,
    )
    return Data(endpoints={"y": at_risk}, hazard=found.hazard)


def _two_endpoints(count: int, log_ratio: float, random: np.random.Generator) -> Data:
    """Survival, and survival without relapse from remission, about when relapses set in."""
    relapse = Hazard(begin=np.array([0.0, 1.15]), rate=np.array([0.012, 0.054]))
    death = Hazard(begin=np.array([0.0, 1.15]), rate=np.array([0.02, 0.02]))
    effect, alike = np.array([0.0, log_ratio]), np.ones(count)
    remission = np.exp(random.normal(np.log(1.0), 0.4, count))
    remission = np.where(random.random(count) < 0.9, remission, NEVER)
    planned = remission + random.exponential(3.0, count)
    planned = np.where(random.random(count) < 0.75, planned, NEVER)[:, None]
    relapsed = event_times(relapse, planned, np.minimum(remission, FAR), effect, alike, random)
    start = np.where(relapsed[:, None] <= planned, NEVER, planned)
    died = event_times(death, start, np.zeros(count), effect, alike, random)
    survival = _censored(died, start, np.zeros(count), random)
    first = np.minimum(relapsed, survival.stop)
    event = np.where(relapsed <= survival.stop, 1.0, survival.event)
    in_remission = remission < survival.stop
    free = Patients(
        observed_from=remission,
        stop=first,
        event=event,
        start=np.where(start < first[:, None], start, NEVER),
        pattern=survival.pattern,
        row=survival.row,
    ).of(in_remission)
    both = Hazard(begin=relapse.begin, rate=relapse.rate + death.rate)
    return Data(endpoints={"os": survival, "rfs": free}, hazard={"os": death, "rfs": both})


def _delayed_entry(count: int, log_ratio: float, random: np.random.Generator) -> Data:
    """Everybody comes under observation late, while the hazard falls and patients start."""
    hazard = Hazard(begin=np.array([0.0, 2.0, 4.0]), rate=np.array([0.25, 0.09, 0.03]))
    observed = random.uniform(0.0, 6.0, count)
    start = np.exp(random.normal(np.log(3.0), 0.3, count))
    start = np.where(random.random(count) < 0.7, start, NEVER)[:, None]
    effect = np.array([0.0, log_ratio])
    times = event_times(hazard, start, observed, effect, np.ones(count), random)
    return Data(endpoints={"y": _censored(times, start, observed, random)}, hazard={"y": hazard})


TWO_PHASES = "two phases, from entry"
CONSOLIDATION = "two phases, from consolidation"
TWO_ENDPOINTS = "two endpoints"
DELAYED = "delayed entry"
OTHER_ARMS = {
    TWO_PHASES: Arm(
        simulate=_two_phases,
        design=np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]),
        effects=2,
        landmark=2.0,
        start=5.0,
    ),
    CONSOLIDATION: Arm(simulate=_from_consolidation, landmark=2.0, start=5.0),
    TWO_ENDPOINTS: Arm(simulate=_two_endpoints, landmark=1.5, start=4.0),
    DELAYED: Arm(simulate=_delayed_entry, landmark=3.0, start=3.5),
}
