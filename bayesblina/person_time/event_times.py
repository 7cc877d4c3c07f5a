"""Whether event times are those of visits: more of them than by chance are multiples of a unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import html
from bayesblina.patients.account import to_html
from bayesblina.patients.rules import DAYS_PER_UNIT
from bayesblina.person_time.cells import PersonTime

State = Literal["passed", "told", "failed", "not looked at"]

TOLD, FAILED = 0.25, 0.5
# How far a share must exceed chance, in binomial standard errors, and how many times there must be:
# fewer are no pattern, since every single day is a multiple of itself.
STANDARD_ERRORS, FEWEST = 5.0, 5
# Share of the starts from which on they count as recorded by the same unit.
ALIKE = 0.95
# Units: every whole number of days from 2 up, which holds weeks and cycles, and of months.
LONGEST_DAYS, LONGEST_MONTHS = 366, 12
# Rounding of the recording, in days, and of the arithmetic: of two days that are equally near to a
# multiple, the later one counts.
HALF_DAY, ROUNDING = 0.5, 1e-6

DECLARE = "event times are those of visits: declare them"
UNSEEN = (
    "Visits that are scattered by days, or counted from another day than the origin of the times, "
    "leave no ties and cannot be seen in the times: whether events were found at visits is for "
    "the study's protocol to tell."
)
COLUMNS = (
    "endpoint",
    "events",
    "unit",
    "share_at_multiples",
    "share_beyond_chance",
    "starters_share",
    "index",
    "starts_too",
    "state",
    "recorded",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coarseness:
    """What the unit says that moves an answer most.

    `unit`: the unit in words, such as ``"3 months"``; empty if events are multiples of none.
    `days`: its length in days; NaN if there is none.
    `share_at_multiples`: share of the events at multiples of it, within half a day.
    `share_beyond_chance`: (p - q) / (1 - q) with this share p and the share q that is expected by
    chance.
    `starters_share`: share of the not yet exposed who start the exposed phase within one unit
    before those events.
    `index`: product of the two, in posterior standard deviations of the log hazard ratio; 0 if
    events are multiples of no unit.
    `starts_too`: whether at least 95 % of the starts of the exposed phase are multiples of it too,
    and they are at least five.
    """

    unit: str
    days: float
    events: int
    share_at_multiples: float
    share_beyond_chance: float
    starters_share: float
    index: float
    starts_too: bool

    @property
    def state(self) -> State:
        """``"failed"``, ``"told"`` or ``"passed"``; ``"not looked at"`` without events."""
        if not self.events:
            return "not looked at"
        if self.index > FAILED and not self.starts_too:
            return "failed"
        return "told" if self.index > TOLD else "passed"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventTimes:
    """Whether event times are those of visits, by endpoint.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per endpoint: ``endpoint``, ``events`` (how many were looked at), ``unit`` in words
        (empty where events are multiples of none), ``share_at_multiples``,
        ``share_beyond_chance``, ``starters_share``, ``index``, ``starts_too``, ``state``
        (``"passed"``, ``"told"``, ``"failed"`` or ``"not looked at"``) and ``recorded``
        (``"exact"``, ``"visits"`` or ``"not declared"``); see `Coarseness`.
    notes
        What the table rests on, in sentences.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no endpoint has failed."""
        return not (self.table["state"] == "failed").any()

    @property
    def messages(self) -> tuple[str, ...]:
        """A sentence for each endpoint that is told or has failed."""
        said = self.table[self.table["state"].isin(["told", "failed"])]
        return tuple(_message(row) for row in said.itertuples(index=False))

    def __repr__(self) -> str:
        """Show the outcome, and what was found."""
        if not self.messages:
            return f"EventTimes(passed; {len(self.table)} endpoints)"
        state = "passed" if self.passed else "FAILED"
        return f"EventTimes({state}; {'; '.join(self.messages)})"

    def _repr_html_(self) -> str:
        rows = [
            [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row]
            for row in self.table.itertuples(index=False)
        ]
        state = "passed" if self.passed else "FAILED"
        said = "".join(f"<p>{html(text)}.</p>" for text in (*self.messages, *self.notes))
        return to_html(COLUMNS, rows, f"Event times by the day: {state}") + said


def coarse_event_times(person_time: PersonTime, posterior_sd: Mapping[str, float]) -> EventTimes:
    """Look for event times that are those of visits.

    `person_time`: events and time at risk. Where patients are in a query engine, the sample of them
    that is held is looked at, and a note says so.
    `posterior_sd`: posterior standard deviation of the log hazard ratio, by endpoint; of several
    hazard ratios of an endpoint the smallest.
    Result: for each endpoint the unit that moves its hazard ratio most, by `coarseness`.
    """
    for name in person_time.endpoints:
        sd = posterior_sd.get(name, np.nan)
        if not sd > 0:
            raise SpecError(
                f"posterior_sd must give endpoint '{name}' a positive standard deviation of its "
                f"log hazard ratio, got {sd:g}."
            )
    held = person_time.patients()
    people, episodes, persons = held.people, held.episodes, person_time.persons
    begin, end, event = persons.follow_up(people)
    weight = people["weight"].values[np.unique(persons.of, return_index=True)[1]]
    exposed = np.append(person_time.table["role"].values == "exposed", False)
    inside = exposed[episodes["phase"].values]
    endpoint, who, since = (
        episodes[name].values[inside] for name in ("endpoint", "patient", "start")
    )
    start = np.full(begin.shape, np.inf)
    np.minimum.at(start, (endpoint, persons.of[who]), since)
    per_unit = DAYS_PER_UNIT[person_time.unit]
    by_endpoint = {
        name: coarseness(
            begin[index] * per_unit,
            end[index] * per_unit,
            event[index],
            start[index] * per_unit,
            posterior_sd=posterior_sd[name],
            weight=weight,
        )
        for index, name in enumerate(person_time.endpoints)
    }
    # Of events that are declared to be found at visits, none is taken for exact that is not.
    declared = {name for name, said in person_time.recorded.items() if said == "visits"}
    rows = [
        {
            "endpoint": name,
            "events": coarse.events,
            "unit": coarse.unit,
            "share_at_multiples": coarse.share_at_multiples,
            "share_beyond_chance": coarse.share_beyond_chance,
            "starters_share": coarse.starters_share,
            "index": coarse.index,
            "starts_too": coarse.starts_too,
            "state": "passed" if name in declared else coarse.state,
            "recorded": person_time.recorded[name] or "not declared",
        }
        for name, coarse in by_endpoint.items()
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return EventTimes(table=table, notes=_notes(person_time, people.sizes["patient"], table))


def coarseness(
    begin: Floats,
    end: Floats,
    event: Bools,
    start: Floats,
    *,
    posterior_sd: float,
    weight: Floats | None = None,
) -> Coarseness:
    """Find the unit at whose multiples events lie, and how far that may move the answer.

    `begin`, `end`, shape (patient,): time at risk ``(begin, end]`` in days; NaN for a patient who
    is not at risk.
    `event`, shape (patient,): whether it ends with the event.
    `start`, shape (patient,): when the patient starts the exposed phase, in days; infinite for
    never. Who starts at `begin` or before is never counted as not yet exposed.
    `weight`, shape (patient,): weights: shares are those of weights then, and chance is that of as
    many events as they are worth.
    Result: that of the unit with the largest index.

    Units are 2, 3, ..., 366 days (weeks, cycles, months of 30 days among them) and 1, 2, ..., 12
    months of 30.4375 days. A time is a multiple of a unit u if it lies within half a day, the
    rounding of a record by the day, of u, 2u, and so on; by chance 1 / u of the events do, with u
    in days. A unit counts if at least five events do, and their share p exceeds chance by five
    binomial standard errors.

    By the interval between two visits, a start counts before the event that a visit finds: of
    those who are not yet exposed at an event's multiple less u, or come under observation
    unexposed before the multiple, the share who start in between is averaged over the events at
    multiples. Times this share, the share of events beyond chance measures how far the log hazard
    ratio may be off, in either direction; it is no bound of it.

    Where the starts are recorded by a unit s as well, as in a table of whole weeks, a longer unit
    k s has to exceed what such a recording puts at its multiples: 1 / k of the events that are
    multiples of s, and as many as lie one s beside its multiples.
    """
    seen = np.isfinite(begin) & np.isfinite(end)
    value = np.ones(begin.size) if weight is None else weight
    begin, end, start, value = (times[seen] for times in (begin, end, start, value))
    event = event[seen]
    events = _Counter(end[event], value[event])
    if not events.size:
        return _NO_EVENTS
    unexposed = start > begin
    starting = unexposed & (start < end)
    begins = _Counter(begin[unexposed], value[unexposed])
    leaves = _Counter(np.fmin(start, end)[unexposed], value[unexposed])
    starts = _Counter(start[starting], value[starting])

    last = max(float(events.times[-1]), float(starts.times.max(initial=0.0)))
    length, unit, before, multiple = _multiples(last)

    def at_multiples(counter: _Counter, shift: float = 0.0) -> Floats:
        at = multiple + shift
        return _by_unit(unit, counter.within(at - HALF_DAY, at + HALF_DAY))

    # Between two visits, both ends within rounding.
    opening, closing = before + HALF_DAY, multiple + HALF_DAY
    not_yet = begins.until(closing) - leaves.until(opening)
    share = _ratio(starts.within(opening, closing), not_yet)
    at_event = events.within(multiple - HALF_DAY, multiple + HALF_DAY)
    starters = _ratio(_by_unit(unit, at_event * share), _by_unit(unit, at_event))

    started = _ratio(at_multiples(starts), np.full(length.size, starts.total))
    alike = (started >= ALIKE) & _exceeds(started, 1.0 / length, starts)
    alike &= starts.effective >= FEWEST * (1.0 - 1e-9)
    p = at_multiples(events) / events.total
    recording = float(length[alike].max(initial=0.0))
    beside = at_multiples(events, -recording) + at_multiples(events, recording)
    chance = _by_chance(p, beside / 2.0 / events.total, length, recording)
    counted = _exceeds(p, chance, events) & (p * events.effective >= FEWEST * (1.0 - 1e-9))
    beyond = np.where(counted, (p - chance) / (1.0 - chance), 0.0)
    index = beyond * starters / posterior_sd
    # Of units that say the same, the longest: that of the visits.
    best = int(np.flatnonzero(index >= index.max() * (1.0 - 1e-9))[-1])
    if not index[best] > 0:
        return replace(_NO_EVENTS, events=events.size)
    return Coarseness(
        unit=_words(best),
        days=float(length[best]),
        events=events.size,
        share_at_multiples=float(p[best]),
        share_beyond_chance=float(beyond[best]),
        starters_share=float(starters[best]),
        index=float(index[best]),
        starts_too=bool(alike[best]),
    )


_NO_EVENTS = Coarseness(
    unit="",
    days=np.nan,
    events=0,
    share_at_multiples=np.nan,
    share_beyond_chance=np.nan,
    starters_share=np.nan,
    index=0.0,
    starts_too=False,
)


class _Counter:
    """Counts of times, by their weights."""

    __slots__ = ("_until", "effective", "size", "times", "total")

    def __init__(self, times: Floats, weight: Floats) -> None:
        order = np.argsort(times, kind="stable")
        self.times = times[order]
        self._until = np.concatenate([[0.0], np.cumsum(weight[order])])
        self.size = int(times.size)
        self.total = float(self._until[-1])
        # As many patients of weight 1 would say as much.
        self.effective = self.total**2 / float(np.square(weight).sum()) if self.size else 0.0

    def until(self, time: Floats) -> Floats:
        """Count those at a time or before it, up to rounding."""
        counts: Floats = self._until[np.searchsorted(self.times, time + ROUNDING, side="right")]
        return counts

    def within(self, after: Floats, until: Floats) -> Floats:
        """Count those after one time, until another."""
        return self.until(until) - self.until(after)


def _lengths() -> Floats:
    """Units in days: whole numbers of days, then of months."""
    months = DAYS_PER_UNIT["months"] * np.arange(1, LONGEST_MONTHS + 1)
    return np.concatenate([np.arange(2.0, LONGEST_DAYS + 1), months])


def _words(position: int) -> str:
    """Name a unit by its position."""
    days = position + 2
    if days > LONGEST_DAYS:
        count, word = days - LONGEST_DAYS, "month"
    else:
        count, word = (days // 7, "week") if days % 7 == 0 else (days, "day")
    return f"{count} {word}{'' if count == 1 else 's'}"


def _multiples(last: float) -> tuple[Floats, Ints, Floats, Floats]:
    """Lengths of units; and of every multiple until a time its unit, the one before, and itself."""
    length = _lengths()
    count = np.maximum((last + HALF_DAY) // length, 1.0).astype(np.int64)
    unit = np.repeat(np.arange(length.size), count)
    before = np.arange(unit.size) - np.repeat(np.cumsum(count) - count, count)
    return length, unit, before * length[unit], (before + 1) * length[unit]


def _exceeds(share: Floats, chance: Floats, counter: _Counter) -> Bools:
    """Whether a share exceeds chance by enough standard errors."""
    error = np.sqrt(chance * (1.0 - chance) / max(counter.effective, 1e-300))
    return np.asarray(share > chance + STANDARD_ERRORS * error)


def _by_unit(unit: Ints, values: Floats) -> Floats:
    """Add up over the multiples of each unit."""
    return np.asarray(np.bincount(unit, values))


def _ratio(part: Floats, total: Floats) -> Floats:
    """Divide; nothing of nothing is 0."""
    return np.asarray(np.divide(part, total, out=np.zeros(part.shape), where=total > 0))


def _by_chance(share: Floats, beside: Floats, length: Floats, recording: float) -> Floats:
    """Share of events expected at multiples of each unit.

    Of a table that is recorded by a unit (0 for none): at its multiples as many as there would be
    if all of these were alike, and no fewer than at those beside them, since hazards come in waves.
    """
    chance = 1.0 / length
    if not recording > 0:
        return chance
    times = np.rint(length / recording)
    longer = (times >= 2.0) & (np.abs(length - times * recording) <= HALF_DAY + ROUNDING)
    alike = share[length == recording] / np.fmax(times, 1.0)
    expected = np.maximum(np.maximum(chance, beside), alike)
    return np.asarray(np.where(longer, expected, chance))


def _message(row: Any) -> str:
    """Say what was found of one endpoint, a row of the table."""
    endpoint, unit, state = str(row.endpoint), str(row.unit), str(row.state)
    share, starters, index = row.share_at_multiples, row.starters_share, float(row.index)
    limit = FAILED if index > FAILED else TOLD
    said = (
        f"{endpoint}: {DECLARE}. {100 * share:.0f} % of the events are multiples of {unit}, and "
        f"{100 * starters:.0f} % of those not yet exposed start within {unit} before them: in "
        f"posterior standard deviations {_rounded(index, limit)}, above {limit:g}"
    )
    if bool(row.starts_too):
        return f"{said}; starts are multiples of {unit} too"
    if state == "failed":
        return f"{said}. The hazard ratio is not to be relied on; it may be off in either direction"
    return said


def _rounded(index: float, limit: float) -> str:
    """Write a number so that it does not read as the limit that it is above."""
    return next(text for digits in range(2, 18) if float(text := f"{index:.{digits}f}") > limit)


def _notes(person_time: PersonTime, patients: int, table: pd.DataFrame) -> tuple[str, ...]:
    """Say what an outcome rests on."""
    notes = []
    undeclared = [str(name) for name in table["endpoint"][table["recorded"] == "not declared"]]
    if undeclared:
        notes.append(
            f"{', '.join(undeclared)}: nothing is declared of how events are recorded; their "
            "times are taken as exact"
        )
    if not person_time.complete:
        notes.append(
            f"event times: looked at in the sample of {patients} of {person_time.size} patients "
            "that is held in memory"
        )
    unseen = [str(name) for name in table["endpoint"][table["state"] == "not looked at"]]
    if unseen:
        notes.append(f"event times of {', '.join(unseen)}: not looked at, there are no events")
    return tuple(notes)
