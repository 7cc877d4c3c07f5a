"""Averages over patients of illness-death courses, by draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import EstimandError
from bayesblina.core.occupancy import StateCourse, follow, probabilities, step
from bayesblina.estimands.draws import blocks
from bayesblina.estimands.populations import Group
from bayesblina.hazards.likelihood import log_hazard
from bayesblina.hazards.parts import SiteFrailty
from bayesblina.inference.fitting import Fit

# Numbers held at once by course, over draws, patients and pieces.
BLOCK = 2_000_000
BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A regime as states entered at times.

    `changes`: times, rising, each with the state that is entered then.
    `first`: the state before the first of them.
    `start`, `end`: the landmark, and the end of follow-up.
    """

    changes: tuple[tuple[float, int], ...]
    first: int
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegimeCourses:
    """Illness-death courses of patients under a regime, from remission at the landmark.

    Whoever relapses stays in the treatment state of that moment: a regime starts phases in those
    who are in remission.

    `hazards`, shape (draws, class, interval, state): of relapse, death in remission and death after
    relapse, at mean covariates.
    `relative`, shape (draws, member): relative hazards of the three.
    `class_of`, shape (member,): class of each member.
    `weight`, shape (member,) or (draws, member): shares of the patients; they sum to 1.
    """

    hazards: tuple[Floats, ...]
    relative: tuple[Floats, ...]
    class_of: Ints
    weight: Floats
    cuts: Floats
    route: Route

    @classmethod
    def of(cls, fit: Fit, group: Group, route: Route) -> RegimeCourses:
        """Take the courses of a group of patients from a fit."""
        if group.patterns is None and isinstance(fit.definition.groups, SiteFrailty):
            raise EstimandError(
                f"Model '{fit.definition.name}' has groups that differ in each transition: courses "
                "of patients of new groups are not averaged. Leave population out, for the "
                "patients of the fit with their own groups' effects."
            )
        endpoints = fit.person_time.endpoints
        # In remission: neither relapsed nor dead.
        members = [
            group.members(fit, endpoint=name, landmark=route.start, free_of=endpoints[:2])
            for name in endpoints
        ]
        first = members[0]
        return cls(
            hazards=tuple(
                np.exp(log_hazard(fit.posterior, fit.design, endpoint=name).shared)
                for name in endpoints
            ),
            relative=tuple(
                np.concatenate([part.relative for part in parts], axis=1) for parts in members
            ),
            class_of=np.concatenate(
                [np.full(part.relative.shape[1], part.class_) for part in first]
            ),
            weight=np.concatenate([part.share * part.weight for part in first], axis=-1),
            cuts=fit.person_time.cuts,
            route=route,
        )

    @property
    def draws(self) -> int:
        """Number of draws."""
        return int(self.hazards[0].shape[0])

    def knots(self, times: Floats) -> Floats:
        """Cut points, changes of treatment and times, from the landmark on."""
        route = self.route
        inner = [*self.cuts, *(time for time, _ in route.changes), *times]
        points = [point for point in inner if point > route.start]
        return np.unique(np.array([route.start, *points, max(route.end, *times, route.start)]))

    def states(self) -> Ints:
        """Treatment state of each epoch."""
        return np.array([self.route.first, *(state for _, state in self.route.changes)])

    def rates(self, knots: Floats, rows: slice) -> tuple[Floats, Floats, Floats, Ints]:
        """Hazards of some draws between knots.

        Result: `relapse`, `death_in_remission`, shape (draws, member, piece): hazards in remission.
        `death_after_relapse`, shape (draws, member, epoch, piece): hazards by the epoch in which
        the relapse happened.
        `epoch`, shape (piece,): epoch of each piece.
        """
        begins = np.array([time for time, _ in self.route.changes])
        epoch = np.searchsorted(begins, knots[:-1], side="right")
        interval = np.searchsorted(self.cuts, knots[1:], side="left")
        states = self.states()
        remission = [
            shared[rows][:, :, interval, states[epoch]][:, self.class_of]
            * relative[rows][:, :, None]
            for shared, relative in zip(self.hazards[:2], self.relative[:2], strict=True)
        ]
        shared, relative = self.hazards[2][rows], self.relative[2][rows]
        # (draws, class, piece, epoch)
        after = shared[:, :, interval][:, :, :, states]
        after = np.moveaxis(after, 3, 2)[:, self.class_of] * relative[:, :, None, None]
        return remission[0], remission[1], after, epoch

    def blocks(self, pieces: int) -> Iterator[slice]:
        """Draws that are worked on together."""
        numbers = self.class_of.size * pieces * (2 + self.states().size)
        return blocks(self.draws, numbers, most=BLOCK)

    def alive(self, knots: Floats) -> Iterator[tuple[slice, Floats, Floats]]:
        """Probabilities at knots, block by block.

        Of remission, shape (draws, member, knot), and of being alive after a relapse, shape
        (draws, member, epoch, knot).
        """
        for rows in self.blocks(knots.size):
            relapse, die, after, epoch = self.rates(knots, rows)
            yield rows, *probabilities(knots, relapse, die, after, epoch)

    def follow(self, knots: Floats) -> Iterator[tuple[slice, StateCourse]]:
        """Courses at knots, block by block; shapes (draws, member, knot)."""
        for rows in self.blocks(knots.size):
            relapse, die, after, epoch = self.rates(knots, rows)
            yield rows, follow(knots, relapse, die, after, epoch)

    def average(self, values: Floats, rows: slice | Ints) -> Floats:
        """Average over members, of some draws; shape (draws, ...)."""
        if self.weight.ndim == 1:
            return np.asarray(np.einsum("dm...,m->d...", values, self.weight))
        return np.asarray(np.einsum("dm...,dm->d...", values, self.weight[rows]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateAverage:
    """Overall or relapse-free survival of illness-death courses, averaged over patients.

    `of_death`: whether the event is death, rather than relapse or death.
    """

    courses: RegimeCourses
    of_death: bool

    def survival(self, times: Floats) -> Floats:
        """Average survival at times, shape (draws, time)."""
        knots = self.courses.knots(times)
        knot_of = np.searchsorted(knots, times)
        out = np.empty((self.courses.draws, times.size))
        for rows, remission, relapsed in self.courses.alive(knots):
            alive = remission + relapsed.sum(axis=-2) if self.of_death else remission
            out[rows] = self.courses.average(alive[..., knot_of], rows)
        return np.clip(out, 0.0, 1.0, out=out)

    def hazard(self, times: Floats) -> Floats:
        """Mean hazard of those still event-free at times, shape (draws, time)."""
        courses = self.courses
        knots = courses.knots(times)
        knot_of = np.searchsorted(knots, times)
        piece = np.maximum(knot_of - 1, 0)
        out = np.empty((courses.draws, times.size))
        for rows, remission, relapsed in courses.alive(knots):
            relapse, die, after, _ = courses.rates(knots, rows)
            alive = remission[..., knot_of]
            leaving = alive * die[..., piece]
            if self.of_death:
                later = relapsed[..., knot_of]
                leaving = leaving + (later * after[..., piece]).sum(axis=-2)
                alive = alive + later.sum(axis=-2)
            else:
                leaving = leaving + alive * relapse[..., piece]
            out[rows] = courses.average(leaving, rows) / courses.average(alive, rows)
        return out

    def restricted_mean(self, horizon: float) -> Floats:
        """Integral of average survival to a horizon, shape (draws,)."""
        knots = self.courses.knots(np.array([horizon]))
        knot = int(np.searchsorted(knots, horizon))
        out = np.empty(self.courses.draws)
        for rows, course in self.courses.follow(knots):
            time = course.time_in_remission
            time = time + course.time_after_relapse if self.of_death else time
            out[rows] = self.courses.average(time[..., knot], rows)
        return out

    def quantile(self, level: float, *, horizon: float) -> tuple[Floats, Bools]:
        """Find when average survival falls to a level, by draw.

        The piece is found from survival at the knots, the time in it by bisection.

        `horizon`: where the search ends.
        Result: `time`, shape (draws,): the times; the horizon where the level is not reached by
        then.
        `reached`, shape (draws,): whether it is.
        """
        courses = self.courses
        knots = courses.knots(np.array([horizon]))
        knots = knots[knots <= horizon]
        time = np.full(courses.draws, horizon)
        reached = np.zeros(courses.draws, dtype=bool)
        for rows, remission, relapsed in courses.alive(knots):
            relapse, die, after, epoch = courses.rates(knots, rows)
            alive = remission + relapsed.sum(axis=-2) if self.of_death else remission
            average = courses.average(alive, rows)
            falls = average[:, -1] <= level
            piece = np.clip((average > level).sum(axis=1) - 1, 0, knots.size - 2)
            times = np.full(falls.size, horizon)
            for one in np.unique(piece[falls]):
                here = np.flatnonzero(falls & (piece == one))
                low = np.zeros(here.size)
                high = np.full(here.size, knots[one + 1] - knots[one])
                begun = relapsed[here][..., one]
                for _ in range(BISECTIONS):
                    middle = (low + high) / 2.0
                    staying, later, _ = step(
                        remission[here][..., one],
                        begun,
                        relapse[here][..., one],
                        die[here][..., one],
                        after[here][..., one],
                        np.broadcast_to(middle[:, None], begun.shape[:-1]),
                        int(epoch[one]),
                    )
                    left = staying + later.sum(axis=-1) if self.of_death else staying
                    fallen = courses.average(left, rows.start + here) <= level
                    high = np.where(fallen, middle, high)
                    low = np.where(fallen, low, middle)
                times[here] = knots[one] + high
            time[rows], reached[rows] = times, falls
        return time, reached
