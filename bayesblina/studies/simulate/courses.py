"""Courses of synthetic patients, drawn exactly, and the lotteries for places in a phase."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.piecewise import LogLinearHazard
from bayesblina.studies.simulate.truth import Truth


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCourse:
    """What happens to each patient, in months, NaN where it never does; arrays (patient,)."""

    failure: Floats
    relapse: Floats
    second_remission: Floats
    transplant: Floats
    death: Floats

    def replaced(self, rows: Bools, other: SyntheticCourse) -> SyntheticCourse:
        """Take the course of some patients from another."""
        return SyntheticCourse(
            **{
                item.name: np.where(rows, getattr(other, item.name), getattr(self, item.name))
                for item in fields(self)
            }
        )


def draw_course(
    rng: np.random.Generator,
    truth: Truth,
    terms: Floats,
    start: Floats,
    *,
    maintained: bool = False,
) -> SyntheticCourse:
    """Draw the course from a month in first remission on, maintained from then on or never."""
    hazard = truth.baseline["in_remission"]
    relative = truth.relative_hazard("in_remission", terms)
    if maintained:
        relative = relative * np.exp(truth.maintenance_log_hazard_ratio["in_remission"])
    failure = next_event(rng, hazard, start, relative)
    transplant = _waiting(rng, start, truth.transplant_hazard["in_remission"])
    transplant = np.where(~np.bool_(maintained) & (transplant < failure), transplant, np.nan)
    transplanted = np.isfinite(transplant)
    relative = relative * np.exp(truth.transplant_log_hazard_ratio["in_remission"])
    failure = np.where(transplanted, next_event(rng, hazard, transplant, relative), failure)
    dies = rng.random(start.size) < truth.death_share(terms, transplanted=transplanted)

    relapse = np.where(dies, np.nan, failure)
    hazard = truth.baseline["after_relapse"]
    relative = truth.after_relapse(terms, relapse, maintained=maintained)
    death = next_event(rng, hazard, relapse, relative)
    second = _waiting(rng, relapse, truth.second_remission_hazard)
    second = np.where(second < death, second, np.nan)
    relative = relative * np.exp(truth.second_remission_log_hazard_ratio)
    death = np.where(np.isfinite(second), next_event(rng, hazard, second, relative), death)
    later = _waiting(rng, second, truth.transplant_hazard["after_relapse"])
    later = np.where(~transplanted & (later < death), later, np.nan)
    relative = relative * np.exp(truth.transplant_log_hazard_ratio["after_relapse"])
    death = np.where(np.isfinite(later), next_event(rng, hazard, later, relative), death)
    return SyntheticCourse(
        failure=failure,
        relapse=relapse,
        second_remission=second,
        transplant=np.fmin(transplant, later),
        death=np.where(dies, failure, death),
    )


def after_second_start(
    rng: np.random.Generator, truth: Truth, terms: Floats, course: SyntheticCourse, start: Floats
) -> SyntheticCourse:
    """Draw what remains of a course, in second remission, from the start of maintenance on."""
    relative = truth.after_relapse(terms, course.relapse, maintained=True)
    relative = relative * np.exp(truth.second_remission_log_hazard_ratio)
    death = next_event(rng, truth.baseline["after_relapse"], start, relative)
    return replace(course, transplant=np.full(start.size, np.nan), death=death)


def next_event(
    rng: np.random.Generator, hazard: LogLinearHazard, start: Floats, relative: Floats
) -> Floats:
    """First event after `start` by inversion of the cumulative hazard; NaN where that is NaN."""
    return hazard.inverse(hazard.cumulative(start) + rng.exponential(size=start.size) / relative)


def _waiting(rng: np.random.Generator, start: Floats, hazard: float) -> Floats:
    """First event after `start` at a constant hazard, infinite if that is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(start + np.divide(rng.exponential(size=start.size), hazard))


def delayed(rng: np.random.Generator, delay: tuple[float, float], size: int) -> Floats:
    """Shortest time plus an exponential delay of given mean."""
    return delay[0] + rng.exponential(delay[1], size)


def lotteries(
    rng: np.random.Generator, share: float, places: int, first: Bools, again: Bools
) -> tuple[Bools, Bools]:
    """Hand out places among those who get there in first and in second remission.

    The second have a share of the places, as far as there are any; the first have the others.
    """
    kept = round(share * places)
    early = _lottery(rng, first, places - kept)
    late = _lottery(rng, again & ~early, kept)
    missing = places - int(early.sum() + late.sum())
    return early | _lottery(rng, first & ~early & ~late, missing), late


def _lottery(rng: np.random.Generator, reached: Bools, places: int) -> Bools:
    chosen = np.zeros(reached.size, dtype=bool)
    candidates = np.flatnonzero(reached)
    chosen[rng.choice(candidates, min(places, candidates.size), replace=False)] = True
    return chosen
