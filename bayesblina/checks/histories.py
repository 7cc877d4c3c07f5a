"""Event histories drawn from a model's hazards, within the time at risk that was observed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE, DEATH_IN_REMISSION, RELAPSE
from bayesblina.core.intervals import split
from bayesblina.estimands.support import episodes_of
from bayesblina.hazards.build import BuiltModel
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.likelihood import LogHazard, cured_given_survival, log_hazard
from bayesblina.hazards.parts import IllnessDeath
from bayesblina.person_time.cells import PersonTime


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PotentialTime:
    """Potential time at risk, patient by patient, in parts within which nothing changes.

    `patient`, shape (part,): whose, together and in order of time.
    `first`, shape (part,): whether it is the patient's first part.
    `interval`, `state`, shape (part,): where it lies.
    """

    patient: Ints
    first: Bools
    interval: Ints
    state: Ints
    length: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histories:
    """Events and time at risk that were drawn.

    `events`, `time`, shape (endpoint, interval, state, pattern): sums.
    `survived`, shape (endpoint, patient): 1 for patients who are event-free at the end of their own
    follow-up.
    """

    events: Floats
    time: Floats
    survived: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawer:
    """Draws event histories of the patients of a person-time, from hazards given by draw.

    `person_time`: whose time at risk and phases are taken.
    `hazards`: by endpoint, over draws.
    `flows`: potential time at risk: of each endpoint; of illness-death courses one, in remission or
    after relapse.
    `course`: whether the endpoints are the transitions of illness-death courses.
    """

    person_time: PersonTime
    hazards: tuple[LogHazard, ...]
    flows: tuple[PotentialTime, ...]
    course: bool

    @classmethod
    def of(
        cls,
        definition: ModelDefinition,
        person_time: PersonTime,
        built: BuiltModel,
        truth: xr.Dataset,
    ) -> Drawer:
        """Take a model, its patients, and draws of its parameters."""
        course = isinstance(definition.endpoints, IllnessDeath)
        names = person_time.endpoints
        parts = [names] if course else [(name,) for name in names]
        return cls(
            person_time=person_time,
            hazards=tuple(log_hazard(truth, built.design, endpoint=name) for name in names),
            flows=tuple(flow_of(person_time, each) for each in parts),
            course=course,
        )

    def draw(self, index: int, generator: np.random.Generator) -> Histories:
        """Draw histories from one draw of the parameters."""
        shape = tuple(self.person_time.table["person_time"].shape)
        events, time = np.zeros(shape), np.zeros(shape)
        of = self.person_time.people["pattern"].values
        survived = np.isfinite(self.person_time.people["exit"].values).astype(np.float64)
        if self.course:
            flow = self.flows[0]
            names = (RELAPSE, DEATH_IN_REMISSION, DEATH_AFTER_RELAPSE)
            order = [self.person_time.endpoints.index(name) for name in names]
            first, second, after = (self._rate(place, index, flow) for place in order)
            drawn = draw_courses(flow, first, second, after, generator)
            pairs = [(place, flow, *one) for place, one in zip(order, drawn, strict=True)]
        else:
            pairs = []
            for place, flow in enumerate(self.flows):
                rate = self._rate(place, index, flow)
                log_odds = self.hazards[place].cured
                if log_odds is not None:
                    never = generator.random(of.size) < cured_given_survival(log_odds[index])[of]
                    rate = np.where(never[flow.patient], 0.0, rate)
                pairs.append((place, flow, *first_event(flow, rate, generator)))
        for place, flow, died, length in pairs:
            cell = (flow.interval, flow.state, of[flow.patient])
            np.add.at(time[place], cell, length)
            np.add.at(events[place], cell, died)
            survived[place, flow.patient[died == 1.0]] = 0.0
        return Histories(events=events, time=time, survived=survived)

    def _rate(self, place: int, index: int, flow: PotentialTime) -> Floats:
        """Hazard of an endpoint in each part."""
        hazard = self.hazards[place]
        pattern = self.person_time.people["pattern"].values[flow.patient]
        shared = hazard.shared[index][hazard.class_of[pattern], flow.interval, flow.state]
        relative = hazard.pattern[index]
        return np.asarray(np.exp(shared + relative[np.minimum(pattern, relative.size - 1)]))


def flow_of(person_time: PersonTime, endpoints: tuple[str, ...]) -> PotentialTime:
    """Cut the time at risk for any of some endpoints into parts.

    Of an illness-death course remission comes first and the time after relapse follows: together
    they are the calendar of a patient's phases, whenever a relapse is drawn.
    """
    # The two transitions out of remission have the same time at risk: one of them counts.
    parts = [episodes_of(person_time, name) for name in endpoints if name != DEATH_IN_REMISSION]
    patient, state, start, stop = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((start, patient))
    patient, state, start, stop = patient[order], state[order], start[order], stop[order]
    episode, interval, length = split(start, stop, person_time.cuts)
    who = patient[episode]
    return PotentialTime(
        patient=who,
        first=np.concatenate([[True], np.diff(who) != 0]),
        interval=interval,
        state=state[episode],
        length=length,
    )


def first_event(
    flow: PotentialTime, rate: Floats, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw one event per patient at most.

    `rate`, shape (part,): hazard in each part.
    Result: `died`, `length`, shape (part,): events, and time at risk: none after a patient's event.
    """
    hazard = rate * flow.length
    passed = np.cumsum(hazard)
    group = np.cumsum(flow.first) - 1
    before = (passed - hazard)[flow.first][group]
    begun = passed - hazard - before
    target = generator.exponential(size=int(group[-1]) + 1)[group]
    died = (begun < target) & (target <= begun + hazard)
    length = np.divide(target - begun, rate, out=flow.length.copy(), where=died)
    return died.astype(np.float64), np.where(target <= begun, 0.0, np.minimum(length, flow.length))


def draw_courses(
    flow: PotentialTime,
    relapse: Floats,
    death_in_remission: Floats,
    death_after_relapse: Floats,
    generator: np.random.Generator,
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Draw courses of remission, relapse and death: at risk after relapse from the one drawn.

    `relapse`, `death_in_remission`, `death_after_relapse`, shape (part,): hazards.
    """
    leaving = relapse + death_in_remission
    ended, remission = first_event(flow, leaving, generator)
    share = np.divide(relapse, leaving, out=np.zeros(leaving.shape), where=leaving > 0)
    relapsed = ended * (generator.random(ended.size) < share)
    group = np.cumsum(flow.first) - 1
    with_relapse = np.bincount(group, relapsed)[group] > 0
    later = replace(flow, length=np.where(with_relapse, flow.length - remission, 0.0))
    died, after = first_event(later, death_after_relapse, generator)
    return (relapsed, remission), (ended - relapsed, remission), (died, after)
