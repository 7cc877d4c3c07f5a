"""How endpoints lie to each other's events, where one is declared to include another and where not.

Written with operators that numpy arrays and columns of an engine have alike, as the rules are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from bayesblina.core.errors import SpecError, listed, nearest

# Stands beside what is only counted, because nobody has said how the two endpoints relate.
UNDECLARED_INCLUSION = " (includes: not declared)"
# Transitions of an illness-death course: of them the events of its two endpoints are made up.
RELAPSE = "relapse"
DEATH_IN_REMISSION = "death in remission"
DEATH_AFTER_RELAPSE = "death after relapse"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOrder:
    """Follow-up for several endpoints, and which of them include which.

    `time`, `event`, `entry`: of each endpoint: arrays, or columns of an engine.
    `includes`: endpoints whose every event is declared to be an event of the endpoint, by endpoint;
    names of which there is no follow-up say nothing.
    `known`: says which times are neither missing nor infinite.
    `near`: says which times are one.
    """

    time: Mapping[str, Any]
    event: Mapping[str, Any]
    entry: Mapping[str, Any]
    includes: Mapping[str, tuple[str, ...]]
    known: Callable[[Any], Any]
    near: Callable[[Any, Any], Any]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Go through the endpoints and those that each is declared to include."""
        for name, others in self.includes.items():
            yield from ((name, other) for other in others if {name, other} <= self.time.keys())

    def both(self, name: str, other: str) -> Any:
        """Say who is under observation for two endpoints."""
        return self.known(self.entry[name]) & self.known(self.entry[other])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """How two endpoints of the same patients lie to each other, and of whom.

    `endpoint`: the endpoint that it is about.
    `what`: what is seen of it, in words.
    `rows`, `events`: of whom, and who of them has the endpoint's event, as booleans.
    """

    endpoint: str
    what: str
    rows: Any
    events: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """What breaks a rule, or the declaration that an endpoint includes another, and of whom.

    `role`: the column's role, such as ``"rfs.event"``.
    `rows`: of whom, as booleans.
    `found`, `expected`: the problem in words.
    """

    role: str
    rows: Any
    found: str
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What tells whether an endpoint has fewer events than one that it includes.

    `endpoint`, `other`: the endpoint, and the one that it includes.
    `rows`: who is censored before an event of the other, as booleans.
    `events`, `included`: who of those under observation for both has an event of the endpoint, and
    of the other; without those who contradict the declaration themselves.
    """

    endpoint: str
    other: str
    rows: Any
    events: Any
    included: Any

    def breach(self, *, rows: int, events: int, included: int) -> Breach | None:
        """Say what is wrong with these counts, if anything is.

        Censored before an event of the other a single patient may rightly be, at another treatment
        say. Fewer events in all mean that the endpoint leaves out what it is said to include.
        """
        if not rows or events >= included:
            return None
        return Breach(
            role=f"{self.endpoint}.event",
            rows=self.rows,
            found=f"{events} events of {self.endpoint}, fewer than the {included} of {self.other} "
            f"that it includes; censored before an event of {self.other}",
            expected=f"Expected an event of {self.endpoint} for each: mend times and events, or "
            f"leave '{self.other}' out of includes, and the account counts them.",
        )


def require_includes(includes: object) -> tuple[str, ...]:
    """Check what an endpoint is declared to include.

    >>> require_includes(["os"])
    ('os',)
    """
    if not isinstance(includes, tuple | list) or not all(
        isinstance(name, str) and name for name in includes
    ):
        raise SpecError(
            "includes must list the endpoints whose every event is an event of this one, such as "
            f"includes=['os'], got {includes!r}."
        )
    return tuple(dict.fromkeys(includes))


def problems_of_includes(includes: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Find what cannot be declared of endpoints that include each other.

    `includes`: what each endpoint includes; its keys are all endpoints.

    >>> problems_of_includes({"os": (), "rfs": ("oss",)})
    ["endpoints.rfs.includes: no endpoint 'oss'. Nearest: os."]
    """
    problems = []
    for name, others in includes.items():
        for other in others:
            where = f"endpoints.{name}.includes"
            if other == name:
                problems.append(f"{where}: '{name}' itself. Expected other endpoints.")
            elif other not in includes:
                others_there = [endpoint for endpoint in includes if endpoint != name]
                problems.append(f"{where}: no endpoint '{other}'. {nearest(other, others_there)}")
            elif name in includes[other]:
                problems.append(
                    f"{where}: '{other}' includes '{name}' too. Expected one of them to include "
                    "the other."
                )
    return problems


def require_inclusions(includes: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse what cannot be declared of endpoints that include each other."""
    if problems := problems_of_includes(includes):
        raise SpecError(listed(problems, source="the endpoints"))


def order_of_endpoints(courses: EndpointOrder) -> Iterator[Seen]:
    """Compare each endpoint with the events of every other."""
    time, event = courses.time, courses.event
    declared = {frozenset(pair) for pair in courses.pairs()}
    for name, other in permutations(time, 2):
        happened = courses.both(name, other) & event[other]
        near = courses.near(time[name], time[other])
        censored = happened & ~event[name]
        how = "" if frozenset({name, other}) in declared else UNDECLARED_INCLUSION
        for what, rows in (
            ("followed after", happened & ~near & (time[name] > time[other])),
            ("censored at", censored & near),
            ("censored before", censored & ~near & (time[name] < time[other])),
        ):
            yield Seen(
                endpoint=name,
                what=f"{what} an event of {other}{how}",
                rows=rows,
                events=rows & event[name],
            )


def find_breaches(courses: EndpointOrder) -> Iterator[Breach]:
    """Go through what single patients may not have where an endpoint includes another."""
    for name, other in courses.pairs():
        late, unmarked = _contradictory(courses, name, other)
        yield Breach(
            role=f"{name}.time",
            rows=late,
            found=f"follow-up for {name} ends after that for {other}, which it includes",
            expected=f"Expected it to end with that for {other} at the latest: correct the times, "
            f"or leave '{other}' out of includes, and the account counts such patients.",
        )
        yield Breach(
            role=f"{name}.event",
            rows=unmarked,
            found=f"censored at an event of {other}, which {name} includes",
            expected=f"Expected an event of {name} there: set it to 1, or leave '{other}' out of "
            "includes, and the account counts such patients.",
        )


def find_shortfalls(courses: EndpointOrder) -> Iterator[Shortfall]:
    """Look where an endpoint may have fewer events than one that it includes."""
    time, event = courses.time, courses.event
    for name, other in courses.pairs():
        late, unmarked = _contradictory(courses, name, other)
        # Of those who contradict the declaration one by one it is told already.
        rest = courses.both(name, other) & ~late & ~unmarked
        yield Shortfall(
            endpoint=name,
            other=other,
            rows=rest & event[other] & ~event[name] & (time[name] < time[other]),
            events=rest & event[name],
            included=rest & event[other],
        )


def _contradictory(courses: EndpointOrder, name: str, other: str) -> tuple[Any, Any]:
    """Say who is followed beyond the other endpoint, and who is censored at its event."""
    time, event = courses.time, courses.event
    both = courses.both(name, other)
    near = courses.near(time[name], time[other])
    # Whoever had no event of either up to a time was followed for both until then.
    late = both & ~near & (time[name] > time[other])
    return late, both & near & event[other] & ~event[name]
