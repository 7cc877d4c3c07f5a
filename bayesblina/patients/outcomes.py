"""Outcomes of all patients, by endpoint, and how they lie to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import EndpointOrder, require_includes
from bayesblina.core.errors import SpecError
from bayesblina.patients.declarations import (
    NO_VISITS,
    EventFreeUntil,
    Recorded,
    require_recorded,
)
from bayesblina.patients.rules import InMemory, tie_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """One endpoint of all patients.

    Attributes
    ----------
    time : ndarray, shape (patient,)
        Time of event or censoring; NaN where the patient never came under observation.
    event : ndarray of bool, shape (patient,)
        Whether the time is that of an event.
    entry : ndarray, shape (patient,)
        Time of entry into observation; NaN where there was none.
    recorded
        ``"exact"`` if events are declared to be recorded on their day, ``"visits"`` if at visits;
        None if nothing is declared, and they are taken as exact.
    includes
        Names of the endpoints whose every event is declared to be an event of this one. One that
        the cohort does not have says nothing.
    last_negative : ndarray, shape (patient,), or None
        Where events are recorded at visits: time of the last visit at which the patient was found
        event-free; `time` itself where an event's time is exact; NaN where there was no such visit.
        None for endpoints that are not recorded at visits.
    event_free_until
        Until when patients without an event are known to be event-free, where events are recorded
        at visits: ``"last_negative"`` or ``"last_contact"``.

    Raises
    ------
    SpecError
        If `recorded` is unknown, or events are recorded at visits and nothing is known of these.
    """

    time: Floats
    event: NDArray[np.bool_]
    entry: Floats
    recorded: Recorded | None = None
    includes: tuple[str, ...] = ()
    last_negative: Floats | None = None
    event_free_until: EventFreeUntil = "last_negative"

    def __post_init__(self) -> None:
        require_recorded(self.recorded)
        if (self.recorded == "visits") != (self.last_negative is not None):
            raise SpecError(f"{NO_VISITS}.")
        object.__setattr__(self, "includes", require_includes(self.includes))

    @property
    def known_free(self) -> Floats:
        """Until when each patient is known to be event-free, shape (patient,).

        The time of an exact event, or of the end of follow-up; else that of the last visit without
        the event, minus infinity where there was none.
        """
        if self.last_negative is None:
            return self.time
        seen = np.where(np.isnan(self.last_negative), -np.inf, self.last_negative)
        trusted = ~self.event & (self.event_free_until == "last_contact")
        return np.where(np.isnan(self.time), np.nan, np.where(trusted, self.time, seen))

    def of(self, rows: Any) -> Outcome:
        """Take some patients.

        Parameters
        ----------
        rows : ndarray of int or bool, or slice
            Which.

        Returns
        -------
        Outcome
            Theirs.
        """
        return replace(
            self,
            time=self.time[rows],
            event=self.event[rows],
            entry=self.entry[rows],
            last_negative=None if self.last_negative is None else self.last_negative[rows],
        )


def exact_events(endpoints: Mapping[str, Outcome], name: str, *, unit: str) -> NDArray[np.bool_]:
    """Find whose event is at the time of an included endpoint's event, such as a death."""
    outcome = endpoints[name]
    exact = np.zeros(outcome.time.size, dtype=bool)
    for included in outcome.includes:
        if included in endpoints:
            other = endpoints[included]
            exact |= other.event & tie_of(unit).near(other.time, outcome.time, InMemory())
    return np.asarray(outcome.event & exact)


def with_exact_events(endpoints: Mapping[str, Outcome], *, unit: str) -> dict[str, Outcome]:
    """Take events at the time of an included endpoint's event, such as deaths, for exact."""
    settled = dict(endpoints)
    for name, outcome in endpoints.items():
        if outcome.last_negative is None:
            continue
        near = tie_of(unit).near(outcome.last_negative, outcome.time, InMemory())
        exact = exact_events(endpoints, name, unit=unit) | (outcome.event & near)
        settled[name] = replace(
            outcome, last_negative=np.where(exact, outcome.time, outcome.last_negative)
        )
    return settled


def courses_of(endpoints: Mapping[str, Outcome], *, unit: str) -> EndpointOrder:
    """Lay out endpoints for `bayesblina.core.endpoint_order`.

    `unit`: time unit, which says what times are one.
    """
    arithmetic = InMemory()
    return EndpointOrder(
        time={name: outcome.time for name, outcome in endpoints.items()},
        event={name: outcome.event for name, outcome in endpoints.items()},
        entry={name: outcome.entry for name, outcome in endpoints.items()},
        includes={name: outcome.includes for name, outcome in endpoints.items()},
        known=arithmetic.known,
        near=partial(tie_of(unit).near, arithmetic=arithmetic),
    )


def last_seen(endpoints: Mapping[str, Outcome]) -> Floats:
    """Find the end of follow-up over all endpoints; infinite where none is known."""
    latest: Floats = InMemory().latest([outcome.time for outcome in endpoints.values()])
    return latest
