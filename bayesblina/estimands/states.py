"""Averages over patients of illness-death courses, by draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import EstimandError
from bayesblina.core.occupancy import StateCourse, follow, probabilities, step
from bayesblina.estimands.draws import blocks
from bayesblina.estimands.paths import when_fallen
from bayesblina.estimands.populations import Group
from bayesblina.estimands.windows import require_held
from bayesblina.hazards.log_hazards import log_hazard
from bayesblina.hazards.parts import SiteFrailty
from bayesblina.inference.fitting import Fit

# Numbers held at once by course, over draws, patients and pieces.
BLOCK = 2_000_000


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
        require_held(fit.person_time.layout, fit.definition.name)
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

    def knots(self, times: Floats) -> tuple[Floats, Ints]:
        """Cut points, changes of treatment and times, from the landmark on; and which are times."""
        route = self.route
        asked = np.ravel(times)
        inner = [*self.cuts, *(time for time, _ in route.changes), *asked]
        points = [point for point in inner if point > route.start]
        knots = np.unique(np.array([route.start, *points, max(route.end, *asked, route.start)]))
        return knots, np.searchsorted(knots, times)

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
        # From (draws, class, piece, epoch).
        after = np.moveaxis(shared[:, :, interval][:, :, :, states], 3, 2)[:, self.class_of]
        return remission[0], remission[1], after * relative[:, :, None, None], epoch

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

    def average_at(
        self, times: Floats, read: Callable[[StateCourse], tuple[Floats, ...]]
    ) -> Floats:
        """Average over members what is read off their courses, shape (draws, [time,] quantity)."""
        knots, knot_of = self.knots(times)
        averages = [
            np.stack([self.average(values[..., knot_of], rows) for values in read(course)], axis=-1)
            for rows, course in self.follow(knots)
        ]
        return np.concatenate(averages)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateAverage:
    """Overall or relapse-free survival of illness-death courses, averaged over patients.

    `of_death`: whether the event is death, rather than relapse or death.
    """

    courses: RegimeCourses
    of_death: bool

    def _event_free(self, remission: Floats, after_relapse: Floats) -> Floats:
        """Of those without the event: in remission, and for death alive after a relapse too."""
        return remission + after_relapse if self.of_death else remission

    def _average_inside(self, begun: list[Floats], epoch: int, who: Ints, width: Floats) -> Floats:
        """Average survival of some draws, each its own time after a piece has begun."""
        stay, relapsed, fail, die, after = begun
        widths = np.broadcast_to(width[:, None], stay.shape)
        staying, later, _ = step(stay, relapsed, fail, die, after, widths, epoch)
        return self.courses.average(self._event_free(staying, later.sum(axis=-1)), who)

    def survival(self, times: Floats) -> Floats:
        """Average survival at times, shape (draws, time)."""
        knots, knot_of = self.courses.knots(times)
        averages = [
            self.courses.average(
                self._event_free(remission, relapsed.sum(axis=-2))[..., knot_of], rows
            )
            for rows, remission, relapsed in self.courses.alive(knots)
        ]
        return np.clip(np.concatenate(averages), 0.0, 1.0)

    def hazard(self, times: Floats) -> Floats:
        """Mean hazard of those still event-free at times, shape (draws, time)."""
        courses = self.courses
        knots, knot_of = courses.knots(times)
        piece = np.maximum(knot_of - 1, 0)
        hazards = []
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
            hazards.append(courses.average(leaving, rows) / courses.average(alive, rows))
        return np.concatenate(hazards)

    def restricted_mean(self, horizon: float) -> Floats:
        """Integral of average survival to a horizon, shape (draws,)."""

        def time(course: StateCourse) -> tuple[Floats]:
            return (self._event_free(course.time_in_remission, course.time_after_relapse),)

        return np.asarray(self.courses.average_at(np.array(horizon), time)[:, 0])

    def quantile(self, level: float, *, horizon: float) -> tuple[Floats, Bools]:
        """Find when average survival falls to a level, by draw.

        The piece is found from survival at the knots, the time in it by bisection.

        `horizon`: where the search ends.
        Result: `time`, shape (draws,): the times; the horizon where the level is not reached by
        then.
        `reached`, shape (draws,): whether it is.
        """
        courses = self.courses
        knots, _ = courses.knots(np.array([horizon]))
        knots = knots[knots <= horizon]
        time = np.full(courses.draws, horizon)
        reached = np.zeros(courses.draws, dtype=bool)
        for rows, remission, relapsed in courses.alive(knots):
            relapse, die, after, epoch = courses.rates(knots, rows)
            average = courses.average(self._event_free(remission, relapsed.sum(axis=-2)), rows)
            falls = average[:, -1] <= level
            piece = np.clip((average > level).sum(axis=1) - 1, 0, knots.size - 2)
            for index in np.unique(piece[falls]):
                here = np.flatnonzero(falls & (piece == index))
                begun = [
                    part[here][..., index] for part in (remission, relapsed, relapse, die, after)
                ]
                who = rows.start + here
                survival = partial(self._average_inside, begun, int(epoch[index]), who)
                width = np.full(here.size, knots[index + 1] - knots[index])
                time[who] = knots[index] + when_fallen(survival, level, np.zeros(here.size), width)
            reached[rows] = falls
        return time, reached
