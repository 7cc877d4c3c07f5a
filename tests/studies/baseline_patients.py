"""Simulated patients for the study of the baseline: who enters when, and how the hazard runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ENTRIES = ("clustered", "uniform", "early", "late")
# About when the times lie that entry is about: where the features of the hazard are placed.
PLACE = {"clustered": 3.0, "uniform": 7.5, "early": 0.7, "late": 2.0}
BASELINES = (
    "constant",
    "rising",
    "falling",
    "early peak",
    "step up",
    "step down",
    "U",
    "pulse",
)
CENSORED = (12.0, 36.0)
SHARE_WITH_EVENT = 0.6
CALIBRATION_PATIENTS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patients:
    """Times of patients; all arrays have one row each.

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
    """

    observed_from: Floats
    stop: Floats
    event: Floats
    start: Floats
    pattern: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hazard:
    """A hazard that is ``rate[k]`` from ``begin[k]`` on."""

    begin: Floats
    rate: Floats

    def cumulative(self, time: Floats) -> Floats:
        """Integrate it."""
        passed = np.concatenate([[0.0], np.cumsum(np.diff(self.begin) * self.rate[:-1])])
        piece = np.clip(np.searchsorted(self.begin, time, side="right") - 1, 0, None)
        return np.asarray(passed[piece] + (time - self.begin[piece]) * self.rate[piece])

    def inverse(self, total: Floats) -> Floats:
        """When the integral reaches a value."""
        passed = np.concatenate([[0.0], np.cumsum(np.diff(self.begin) * self.rate[:-1])])
        piece = np.clip(np.searchsorted(passed, total, side="right") - 1, 0, None)
        return np.asarray(self.begin[piece] + (total - passed[piece]) / self.rate[piece])


def shape_of(baseline: str, place: float) -> Hazard:
    """Give a hazard's shape, placed relative to entry; its level is free."""
    fine = np.linspace(0.0, 3.0, 61)
    middle = (fine[1:] + fine[:-1]) / 2.0
    shapes: dict[str, tuple[list[float] | Floats, list[float] | Floats]] = {
        "constant": ([0.0], [1.0]),
        "rising": (fine, np.append(0.15 + 0.85 * middle / 3.0, 1.0)),
        "falling": (fine, np.append(5.0 ** (1.0 - middle / 1.5), 0.2)),
        "early peak": (
            fine,
            np.append(0.25 + 2.0 * (middle / 0.6) * np.exp(1.0 - middle / 0.6), 0.3),
        ),
        "step up": ([0.0, 1.15], [1.0, 4.5]),
        "step down": ([0.0, 1.3], [6.0, 1.0]),
        "U": ([0.0, 0.6, 1.6], [4.0, 0.8, 2.5]),
        "pulse": ([0.0, 0.8, 1.3], [1.0, 8.0, 1.0]),
    }
    begin, rate = shapes[baseline]
    return Hazard(
        begin=place * np.asarray(begin, dtype=np.float64), rate=np.asarray(rate, dtype=np.float64)
    )


def entry_times(
    entry: str, count: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """When the exposed phase begins (infinite for never), and observation."""
    never = np.full(count, np.inf)
    observed = np.zeros(count)
    if entry == "clustered":
        start = np.where(random.random(count) < 0.7, random.normal(3.0, 0.3, count), never)
        start = np.maximum(start, 0.5)
    elif entry == "uniform":
        start = np.where(random.random(count) < 0.8, random.uniform(0.0, 15.0, count), never)
    elif entry == "early":
        begins = np.exp(random.normal(np.log(0.7), 0.4, count))
        start = np.where(random.random(count) < 0.95, begins, never)
    elif entry == "late":
        # Seven in ten come under observation about month 2, half of them already exposed.
        comes = random.random(count) < 0.7
        observed = np.where(comes, np.exp(random.normal(np.log(2.0), 0.3, count)), observed)
        wait = np.where(random.random(count) < 0.5, 0.0, random.exponential(5.0, count))
        start = np.where(comes, np.maximum(observed + wait - 0.2, 0.1), never)
    else:
        raise ValueError(entry)
    return start, observed


def follow(
    hazard: Hazard,
    start: Floats,
    observed: Floats,
    log_ratio: Floats,
    relative: Floats,
    random: np.random.Generator,
    *,
    start_after_observed: bool = False,
) -> tuple[Floats, Floats]:
    """Times and events of patients who are alive when they come under observation.

    `log_ratio` has one effect per column of `start`; `relative` multiplies each patient's hazard.
    """
    count = start.shape[0]
    begin = np.concatenate([np.zeros((count, 1)), np.minimum(start, 1e6)], axis=1)
    effect = np.concatenate([[0.0], log_ratio])
    end = np.concatenate([begin[:, 1:], np.full((count, 1), 1e6)], axis=1)
    rate = np.exp(effect)[None, :] * relative[:, None]
    low, high = hazard.cumulative(begin), hazard.cumulative(end)
    by_piece = rate * (high - low)
    # What has passed by the beginning of observation is given: they were seen alive.
    before = rate * np.clip(
        hazard.cumulative(np.clip(observed[:, None], begin, end)) - low, 0.0, None
    )
    draw = random.exponential(1.0, count) + before.sum(axis=1)
    passed = np.concatenate([np.zeros((count, 1)), np.cumsum(by_piece, axis=1)[:, :-1]], axis=1)
    piece = (draw[:, None] > passed).sum(axis=1) - 1
    rows = np.arange(count)
    within = (draw - passed[rows, piece]) / rate[rows, piece]
    time = hazard.inverse(low[rows, piece] + within)
    censored = observed * 0.0 + random.uniform(*CENSORED, count)
    return np.minimum(time, censored), (time <= censored).astype(np.float64)


@cache
def hazard_of(entry: str, baseline: str) -> Hazard:
    """Give the hazard at the level at which six in ten have an event, at a hazard ratio of 0.7."""
    shape = shape_of(baseline, PLACE[entry])
    low, high = 1e-4, 1.0
    for _ in range(40):
        level = float(np.sqrt(low * high))
        hazard = Hazard(begin=shape.begin, rate=shape.rate * level)
        random = np.random.default_rng(20240917)
        start, observed = entry_times(entry, CALIBRATION_PATIENTS, random)
        _, event = follow(
            hazard,
            start[:, None],
            observed,
            np.log([0.7]),
            np.ones(start.size),
            random,
        )
        low, high = (level, high) if event.mean() < SHARE_WITH_EVENT else (low, level)
    return hazard


def patients(
    entry: str, baseline: str, count: int, log_ratio: float, random: np.random.Generator
) -> Patients:
    """Simulate one data set of one phase and one endpoint."""
    start, observed = entry_times(entry, count, random)
    stop, event = follow(
        hazard_of(entry, baseline),
        start[:, None],
        observed,
        np.array([log_ratio]),
        np.ones(count),
        random,
    )
    start = np.where(start < stop, start, np.inf)
    return Patients(
        observed_from=observed,
        stop=stop,
        event=event,
        start=start[:, None],
        pattern=np.zeros(count, dtype=np.int64),
    )
