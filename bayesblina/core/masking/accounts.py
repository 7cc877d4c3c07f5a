"""What of an account of patients may be shown: its sums and orders, and what follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from bayesblina.core.endpoint_order import (
    DEATH_AFTER_RELAPSE,
    DEATH_IN_REMISSION,
    RELAPSE,
    UNDECLARED_INCLUSION,
)
from bayesblina.core.episodes import OFF_TREATMENT, POSITIONS
from bayesblina.core.masking.counts import LESS, Masked, Order, Sum, is_small, mask, parts, terms

# Starts of a phase without time at risk in it.
WITHOUT = frozenset({POSITIONS["trailing"], POSITIONS["late"]})
COMPARED = ("exposed", "reference")
# Steps of an account that count patients by phase.
BY_PHASE = ("phase start", "stays", "in phase")
# Between the phases of a set that count as one.
JOINED = " or "


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedAccount:
    """Which numbers of an account may be shown.

    `masked`: which counts: ``ROW.patients`` and ``ROW.events``, by the position of their row, and
    ``ROW.at_risk`` of the numbers at risk.
    `times`: positions of the rows whose person-time is hidden.
    `few`: endpoints of which few patients or events are in a state that is compared. An estimate,
    with its interval, would tell how many: the precision of a log hazard ratio is about one over
    the sum of one over each state's events.
    `closed`: endpoints of which any number of events by phase is hidden: what is computed from
    these events alone would tell it.
    """

    masked: Masked
    times: frozenset[int]
    few: frozenset[str]
    closed: frozenset[str]


def mask_account(
    table: pd.DataFrame, *, minimum: int, at_risk: pd.DataFrame | None = None
) -> MaskedAccount:
    """Choose what of an account, and of numbers at risk beside it, may be shown.

    >>> rows = [
    ...     ("eligible", "os", "", "at risk", 86, 34),
    ...     ("in phase", "os", "m", "exposed", 36, 3),
    ... ]
    >>> columns = ["step", "endpoint", "phase", "what", "patients", "events"]
    >>> table = pd.DataFrame(rows, columns=columns).assign(person_time=float("nan"))
    >>> shown = mask_account(table, minimum=5)
    >>> sorted(shown.masked.hidden), sorted(shown.few)
    (['1.events'], ['os'])
    """
    lines: list[dict[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in table.to_dict("records")
    ]
    counts: dict[str, int] = {}
    for index, line in enumerate(lines):
        counts[f"{index}.patients"] = int(line["patients"])
        if not pd.isna(line["events"]):
            counts[f"{index}.events"] = int(line["events"])
    sums, orders = _sums(lines, counts), _orders(lines, counts)
    of_sets = _sums_of_sets(lines, counts)
    sums += [equation for equation, _ in of_sets]
    orders += [order for _, order in of_sets]
    # Who is not at risk at some time has not come yet, or has gone: no number of anything.
    bounds = [] if at_risk is None or minimum <= 1 else _orders_at_risk(lines, at_risk, counts)
    masked = mask(counts, sums, minimum=minimum, orders=orders, bounds=bounds)
    return MaskedAccount(
        masked=masked,
        times=frozenset(_hidden_times(lines, masked)),
        few=frozenset(_few(lines, minimum)),
        closed=frozenset(
            str(line["endpoint"])
            for index, line in enumerate(lines)
            if line["step"] in ("eligible", "in phase") and f"{index}.events" in masked.hidden
        ),
    )


def _few(lines: Sequence[Mapping[str, Any]], minimum: int) -> set[str]:
    """Endpoints of which few patients or events are in all phases of a role together."""
    few = set()
    for endpoint in {str(line["endpoint"]) for line in lines}:
        for role in COMPARED:
            own = [
                line
                for line in lines
                if line["step"] == "in phase"
                and line["endpoint"] == endpoint
                and line["what"] == role
            ]
            events = sum(float(line["events"]) for line in own if not pd.isna(line["events"]))
            # Patients may have been in several of them.
            patients = max((float(line["patients"]) for line in own), default=0.0)
            if is_small(events, minimum) or is_small(patients, minimum):
                few.add(endpoint)
    return few


def _orders(lines: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> list[Order]:
    """Which counts are never larger than which, whatever they are."""
    orders: list[Order] = []
    steps = ("in phase", "eligible", "observed", "read")
    for index, line in enumerate(lines):
        own = f"{index}.patients"
        if f"{index}.events" in counts and line["step"] != "recorded":
            orders.append((f"{index}.events", own))
        for position, other in enumerate(lines):
            inside = line["endpoint"] == other["endpoint"] or other["step"] == "read"
            larger = (
                steps.index(other["step"]) > steps.index(line["step"])
                if line["step"] in steps and other["step"] in steps
                else other["step"] == "read"
                or (line["step"] == "period" and other["step"] == "observed")
            )
            if not inside or not larger or line["step"] == "recorded" or _never(other):
                continue
            orders.append((own, f"{position}.patients"))
            if f"{index}.events" in counts and f"{position}.events" in counts:
                orders.append((f"{index}.events", f"{position}.events"))
    orders += _orders_by_phase(lines)
    return _fulfilled([*orders, *_orders_between(lines, counts)], counts)


def _orders_by_phase(lines: Sequence[Mapping[str, Any]]) -> list[Order]:
    """Compare counts of one phase, of a set that holds it, and of time after it, both ways.

    Whoever started a phase is in it, unless a lag or another phase comes before; whoever is off
    treatment was in one. What one count has more than the other is a count too.
    """
    rows = [(index, line) for index, line in enumerate(lines) if line["step"] in BY_PHASE]
    return [
        (f"{index}.patients", f"{position}.patients")
        for index, line in rows
        for position, other in rows
        if index != position and _of_one_course(line, other)
    ]


def _of_one_course(line: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two counts by phase are of the same patients' stays."""
    endpoints = {str(line["endpoint"]), str(other["endpoint"])} - {""}
    names = [str(row["phase"]).split(JOINED) for row in (line, other)]
    together = not set(names[0]).isdisjoint(names[1]) or [OFF_TREATMENT] in names
    return len(endpoints) < 2 and together


def _sums_of_sets(
    lines: Sequence[Mapping[str, Any]], counts: dict[str, int]
) -> list[tuple[Sum, Order]]:
    """Count who is in one phase of a set and not in another: who was in both follows from it.

    `counts`: these counts, which stand nowhere, are added.
    """
    found: list[tuple[Sum, Order]] = []
    for index, line in enumerate(lines):
        names = str(line["phase"]).split(JOINED)
        if line["step"] != "in phase" or len(names) < 2:
            continue
        parts_of_set = [
            (position, other)
            for position, other in enumerate(lines)
            if other["step"] in BY_PHASE
            and other["phase"] in names
            and other["endpoint"] in ("", line["endpoint"])
        ]
        for position, other in parts_of_set:
            only = counts[f"{index}.patients"] - counts[f"{position}.patients"]
            name = f"{index} without {position}"
            inside = [
                f"{rest}.patients"
                for rest, further in parts_of_set
                if further["phase"] != other["phase"] and 0 < only <= counts[f"{rest}.patients"]
            ]
            if inside:
                counts[name] = only
            equation: Sum = (f"{index}.patients", [f"{position}.patients", name])
            found += [(equation, (name, part)) for part in inside]
    return found


def _fulfilled(orders: Sequence[Order], counts: Mapping[str, int]) -> list[Order]:
    """Leave out orders that these numbers do not fulfil: they are none."""
    return [
        (less, more)
        for less, more in orders
        if sum(counts[part] for part in parts(less)) <= counts[more]
    ]


def _between(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[int]]:
    """Find lines on how one endpoint lies to the events of another, by the two."""
    names = {str(line["endpoint"]) for line in lines if line["endpoint"]}
    between: dict[tuple[str, str], list[int]] = {}
    for index, line in enumerate(lines):
        if line["step"] == "order":
            words = str(line["what"]).removesuffix(UNDECLARED_INCLUSION)
            others = [other for other in names if words.endswith(f" an event of {other}")]
            # A name may end as another does.
            if others:
                pair = (str(line["endpoint"]), max(others, key=len))
                between.setdefault(pair, []).append(index)
    return between


def _orders_between(lines: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> list[Order]:
    """Whoever is followed after, or censored at or before, an event has it; nobody is so twice."""
    between = _between(lines)
    orders: list[Order] = []
    for name, other in sorted({*between, *((other, name) for name, other in between)}):
        having = [f"{index}.patients" for index in between.get((name, other), [])]
        having += [
            f"{index}.events"
            for index in between.get((other, name), [])
            if str(lines[index]["what"]).startswith("followed after")
            and f"{index}.events" in counts
        ]
        orders += [
            (tuple(having), f"{position}.events")
            for position, line in enumerate(lines)
            if line["step"] == "observed"
            and line["endpoint"] == other
            and f"{position}.events" in counts
            and having
        ]
    return orders


def _orders_at_risk(
    lines: Sequence[Mapping[str, Any]], at_risk: pd.DataFrame, counts: dict[str, int]
) -> list[Order]:
    """Add numbers at risk to the counts: groups share nobody, and all of them were eligible."""
    orders: list[Order] = []
    together: dict[tuple[Any, ...], list[str]] = {}
    for index, row in enumerate(at_risk.to_dict("records")):
        if float(row["at_risk"]) % 1:
            # Weighted patients are no count.
            continue
        name = f"{index}.at_risk"
        counts[name] = int(row["at_risk"])
        together.setdefault((row["endpoint"], row["landmark"], row["time"]), []).append(name)
        orders += [
            (name, f"{position}.patients")
            for position, line in enumerate(lines)
            if line["step"] == "in phase"
            and (line["endpoint"], line["phase"]) == (row["endpoint"], row["group"])
        ]
    eligible = [
        (line["endpoint"], f"{position}.patients")
        for position, line in enumerate(lines)
        if line["step"] == "eligible"
    ]
    orders += [
        (tuple(names), eligible_patients)
        for (endpoint, *_), names in together.items()
        for of, eligible_patients in eligible
        if of == endpoint
    ]
    return _fulfilled(orders, counts)


def _sums(lines: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> list[Sum]:
    """Which counts add up to which; a sum that these numbers do not fulfil is none."""

    def of(*steps: str, endpoint: str = "", column: str = "patients") -> list[str]:
        return [
            f"{index}.{column}"
            for index, line in enumerate(lines)
            if line["step"] in steps
            and line["endpoint"] == endpoint
            and f"{index}.{column}" in counts
        ]

    out = of("excluded")
    sums: list[Sum] = []
    for endpoint in dict.fromkeys(str(line["endpoint"]) for line in lines if line["endpoint"]):
        eligible = of("eligible", endpoint=endpoint)
        events = of("eligible", endpoint=endpoint, column="events")
        inside = of("in phase", endpoint=endpoint, column="events")
        seen = of("observed", endpoint=endpoint)
        left = [*of("left out", endpoint=endpoint), *eligible]
        sums += [(total, [*out, *rest]) for total in of("read") for rest in (seen, left)]
        sums += [(total, inside) for total in events]
        by_period = of("period", endpoint=endpoint, column="events")
        sums += [(total, by_period) for total in of("observed", endpoint=endpoint, column="events")]
        # Both add up to the cohort, whether or not the number read is shown; and of those under
        # observation and of those who never were, each by itself.
        if len(seen) == 1:
            sums.append((seen[0], left))
        for never in (False, True):
            own = [
                [name for name in names if _never(lines[int(name.split(".")[0])]) == never]
                for names in (seen, left)
            ]
            sums += [(total, own[1]) for total in own[0]]
            if not never:
                brief = of("follow-up", endpoint=endpoint)
                sums += [(total, brief) for total in own[0]]
        sums += _sums_of_recording(lines, endpoint)
    sums += _sums_of_starts(lines)
    sums += _sums_of_transitions(lines, counts)
    return [
        equation
        for equation in sums
        if len(terms(equation)) > 1
        and not sum(sign * counts[name] for name, sign in terms(equation))
    ]


def _sums_of_recording(lines: Sequence[Mapping[str, Any]], endpoint: str) -> list[Sum]:
    """Add up how events are recorded: all events are, and where at visits, all event-free, too."""
    rows = [
        index
        for index, line in enumerate(lines)
        if line["step"] == "recorded" and line["endpoint"] == endpoint
    ]
    seen = [
        index
        for index, line in enumerate(lines)
        if line["step"] == "observed" and line["endpoint"] == endpoint and not _never(line)
    ]
    sums: list[Sum] = [
        (f"{total}.{column}", [f"{index}.{column}" for index in rows])
        for total in seen
        for column in ("patients", "events")
    ]
    # Everybody who has the event has it once.
    return sums + [
        (f"{index}.patients", [f"{index}.events"]) for index in rows if lines[index]["events"]
    ]


def _never(line: Mapping[str, Any]) -> bool:
    return str(line["what"]).startswith("never under observation")


def _sums_of_transitions(
    lines: Sequence[Mapping[str, Any]], counts: Mapping[str, int]
) -> list[Sum]:
    """Add up transitions of an illness-death course: they are the events of its two endpoints."""

    def of(step: str, *endpoints: str) -> list[str]:
        return [
            f"{index}.events"
            for index, line in enumerate(lines)
            if line["step"] == step
            and (not endpoints or line["endpoint"] in endpoints)
            and f"{index}.events" in counts
        ]

    pairs = [of("eligible", DEATH_IN_REMISSION, other) for other in (RELAPSE, DEATH_AFTER_RELAPSE)]
    sums: list[Sum] = [
        (total, pair) for total in of("observed") for pair in pairs if len(pair) == 2
    ]
    # Deaths after relapse are those that follow an event of relapse-free survival.
    after = of("eligible", DEATH_AFTER_RELAPSE)
    return sums + [(total, after) for total in of("order") if after]


def _sums_of_starts(lines: Sequence[Mapping[str, Any]]) -> list[Sum]:
    """Add up starts of phases: those with time at risk are in it, and endpoints share them all."""
    starts: dict[tuple[str, str], list[int]] = {}
    for index, line in enumerate(lines):
        if line["step"] == "phase start":
            starts.setdefault((str(line["phase"]), str(line["endpoint"])), []).append(index)
    sums: list[Sum] = []
    first: dict[str, list[str]] = {}
    for (phase, endpoint), positions in starts.items():
        names = [f"{index}.patients" for index in positions]
        with_time = [
            f"{index}.patients" for index in positions if lines[index]["what"] not in WITHOUT
        ]
        for index, line in enumerate(lines):
            own = line["step"] == "in phase" and line["phase"] == phase
            if line["endpoint"] == endpoint and (own or line["step"] == "eligible"):
                sums.append((f"{index}.patients", with_time))
        if phase in first:
            total, *others = first[phase]
            sums.append((total, [*names, *(f"{LESS}{other}" for other in others)]))
        first.setdefault(phase, names)
    return sums


def _hidden_times(lines: Sequence[Mapping[str, Any]], masked: Masked) -> set[int]:
    """Person-time of hidden patients is hidden, and never alone: the rest would give it away."""
    hidden = {index for index in range(len(lines)) if f"{index}.patients" in masked.hidden}
    endpoints = dict.fromkeys(str(line["endpoint"]) for line in lines)
    for endpoint, steps in product(endpoints, (("eligible", "in phase"), ("observed", "period"))):
        group = [
            index
            for index, line in enumerate(lines)
            if line["endpoint"] == endpoint
            and line["step"] in steps
            and not pd.isna(line["person_time"])
        ]
        inside = [index for index in group if index in hidden]
        others = [index for index in group if index not in hidden]
        if len(inside) == 1 and others:
            hidden.add(min(others, key=lambda index: float(lines[index]["person_time"])))
    return hidden
