"""Outcomes of all patients, by endpoint, and how they lie to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import EndpointOrder, require_includes
from bayesblina.patients.declarations import Recorded, require_recorded
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
        ``"exact"`` if events are declared to be recorded on their day; None if nothing is
        declared, and they are taken as such.
    includes
        Names of the endpoints whose every event is declared to be an event of this one. One that
        the cohort does not have says nothing.
    """

    time: Floats
    event: NDArray[np.bool_]
    entry: Floats
    recorded: Recorded | None = None
    includes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_recorded(self.recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


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
