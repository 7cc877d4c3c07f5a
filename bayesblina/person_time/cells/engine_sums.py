"""Patients added up in their query engine: it groups and sums, and returns sums.

The rules are those of `bayesblina.person_time.tabulation`, as expressions over the columns of one
patient. The engine groups patients by pattern and by the intervals in which their states begin and
end, and returns counts and sums of each group: a few thousand rows, whatever the number of
patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.episodes import AT_RISK
from bayesblina.core.errors import NAMED_PATIENTS
from bayesblina.core.intervals import TIE_TOLERANCE, person_time_by_interval
from bayesblina.patients.scan import CohortScan, coded
from bayesblina.patients.scan.checks import InEngine
from bayesblina.patients.scan.engines import ibis_module, number, settled
from bayesblina.person_time.cells.lookup import interval_expression
from bayesblina.person_time.cells.ordered import moments
from bayesblina.person_time.cells.ranks import order_statistics
from bayesblina.person_time.cells.summing import (
    BEGIN,
    EVENT,
    SAMPLE,
    Grouping,
    GroupSums,
    Moment,
    Survey,
)
from bayesblina.person_time.cells.value import Lazily
from bayesblina.person_time.segments import Course

# Later than any time.
NEVER = 1e300
# States whose bounds are grouped by together; more would make too many groups.
BLOCK = 3
# Polynomials that are summed in one query.
MOMENTS = 64


class EngineSums:
    """`bayesblina.person_time.cells.summing.Summing` by expressions for any engine."""

    def __init__(
        self, scan: CohortScan, course: Course, names: Sequence[str], effects: tuple[int, ...]
    ) -> None:
        self._scan, self._course, self._names = scan, course, names
        self._effects = effects
        self._risk = settled(_at_risk(coded(scan), scan, course, names), embedded=scan.embedded)
        self._flow = Lazily(partial(_flow, self._risk, self._names))

    def survey(self) -> Survey:
        """Look at all patients once."""
        flow, endpoints = self._flow(), range(len(self._names))
        count = flow["n"].to_numpy(dtype=np.int64)
        reason = np.stack([flow[f"r{e}"].to_numpy(dtype=np.int64) for e in endpoints])
        used = flow.loc[(reason == AT_RISK).any(axis=0)]
        weight = used["n"].to_numpy(dtype=np.float64)
        low, high, sd = [], [], []
        for index in range(len(self._scan.continuous)):
            low.append(float(used[f"x{index}lo"].min()))
            high.append(float(used[f"x{index}hi"].max()))
            mean = float(used[f"x{index}sum"].sum()) / max(weight.sum(), 1.0)
            square = float(used[f"x{index}sq"].sum()) / max(weight.sum(), 1.0)
            sd.append(float(np.sqrt(max(square - mean**2, 0.0))))
        return Survey(
            codes=np.unique(used["code"].to_numpy(dtype=np.int64)),
            reasons=np.stack(
                [np.bincount(reason[e], count, AT_RISK + 1) for e in endpoints]
            ).astype(np.int64),
            first_begin=np.array([_bound(flow, f"b{e}", "min") for e in endpoints]),
            last_begin=np.array([_bound(flow, f"late{e}", "max") for e in endpoints]),
            last_exit=np.array([_bound(flow, f"s{e}", "max") for e in endpoints]),
            time_at_risk=np.array([float(flow[f"t{e}"].sum()) for e in endpoints]),
            events=np.array([int(flow[f"d{e}"].sum()) for e in endpoints], dtype=np.int64),
            low=np.array(low),
            high=np.array(high),
            sd=np.array(sd),
            earliest=self._at_first(),
        )

    def _at_first(self) -> int:
        """Count whose time at risk begins at the earliest time of all."""
        risk, flow = self._risk, self._flow()
        endpoints = range(len(self._names))
        first = min(_bound(flow, f"b{e}", "min") for e in endpoints) * (1.0 + TIE_TOLERANCE)
        if not np.isfinite(first):
            return 0
        return sum(
            int(
                risk.filter((risk[f"r{e}"] == AT_RISK) & (risk[f"b{e}"] <= number(first)))
                .count()
                .execute()
            )
            for e in endpoints
        )

    def left_out(self, endpoint: int, reason: int) -> tuple[str, ...]:
        """Name the first few patients who do not contribute to an endpoint, for a reason."""
        risk = self._risk
        first = risk.filter(risk[f"r{endpoint}"] == reason).select("id").order_by("id")
        return tuple(str(one) for one in first.limit(NAMED_PATIENTS).execute()["id"])

    def _moments(self) -> dict[Moment, list[Any]]:
        """Give the times of events, of begins and of entries, each as tables with one column."""
        risk, endpoints = self._risk, range(len(self._names))
        found: dict[Moment, list[Any]] = {EVENT: [], BEGIN: []}
        entered = moments(self._effects)
        found |= {moment: [] for moment in entered}
        for e in endpoints:
            inside = risk[f"r{e}"] == AT_RISK
            found[EVENT].append(risk.filter(inside & risk[f"d{e}"]).select(value=risk[f"s{e}"]))
            found[BEGIN].append(risk.filter(inside).select(value=risk[f"b{e}"]))
            changes = _changes(risk, self._course, self._effects, e) if entered else {}
            for moment, effect in entered.items():
                found[moment] += [
                    risk.filter(inside & changed).select(value=risk[f"e{e}_{m}"])
                    for m, changed in changes.items()
                    if self._effects[self._course.marks[m - 1].state] == effect
                ]
        return {moment: columns for moment, columns in found.items() if columns}

    def entries(self) -> dict[Moment, int]:
        """Count the entries into states of each effect, all endpoints together."""
        return {
            moment: sum(int(column.count().execute()) for column in columns)
            for moment, columns in self._moments().items()
            if moment not in (EVENT, BEGIN)
        }

    def order_statistics(self, ranks: Mapping[Moment, Ints]) -> dict[Moment, Floats]:
        """Look up times at given ranks, all endpoints together, and their neighbours."""
        seen = self.survey()
        return order_statistics(
            self._moments(),
            ranks,
            last=float(seen.last_exit.max()),
            earliest=float(seen.first_begin.min()),
        )

    def sums(self, grouping: Grouping, cuts: Floats, landmarks: Floats) -> GroupSums:
        """Sum events and person-time."""
        risk, course, endpoints = self._risk, self._course, range(len(self._names))
        states, moments = len(course.states), grouping.moments
        shape = (states, grouping.groups, cuts.size + 1, moments)
        polynomials = _polynomials(risk, grouping)
        events, person_time, first, longest = [], [], [], []
        for e in endpoints:
            target = _Target(
                events=np.zeros(shape),
                partial=np.zeros(shape),
                passed=np.zeros(shape),
                opened=np.zeros((states, grouping.groups, cuts.size + 2), dtype=np.int64),
                first=np.full(states, np.inf),
                longest=np.zeros(states),
            )
            segments = len(course.marks) + 1
            for start in range(0, segments, BLOCK):
                block = range(start, min(start + BLOCK, segments))
                for chunk in range(0, moments, MOMENTS):
                    part = list(range(chunk, min(chunk + MOMENTS, moments)))
                    grouped = _grouped(risk, e, block, cuts, part, polynomials)
                    _add(grouped, target, course, block, grouping, part, first_chunk=chunk == 0)
            events.append(target.events)
            person_time.append(
                person_time_by_interval(target.partial, target.passed, target.opened, cuts)
            )
            first.append(target.first)
            longest.append(target.longest)
        later = landmarks * (1.0 + TIE_TOLERANCE)
        inside = {"used": _contributes(risk, len(self._names))}
        inside |= {
            f"a{e}_{index}": (risk[f"r{e}"] == AT_RISK)
            & (risk[f"b{e}"] <= number(time))
            & (risk[f"s{e}"] > number(time))
            for e in endpoints
            for index, time in enumerate(later)
        }
        counts = _counts(risk, inside, grouping, polynomials)
        at_risk = [
            np.stack([counts[f"a{e}_{index}"] for index in range(landmarks.size)])
            for e in endpoints
        ]
        return GroupSums(
            events=np.stack(events),
            person_time=np.stack(person_time),
            first=np.stack(first),
            longest=np.stack(longest),
            visitors=_visitors(self._flow(), course, len(self._names)),
            patients=counts["used"],
            at_risk=np.stack(at_risk),
        )

    def sample(self) -> pd.DataFrame:
        """Read `SAMPLE` contributors chosen by a hash of their ids: columns of `coded`."""
        risk = self._risk
        inside = risk.filter(_contributes(risk, len(self._names)))
        chosen = inside.order_by(inside["id"].hash(), inside["id"]).limit(SAMPLE)
        frame: pd.DataFrame = chosen.select(*coded(self._scan).columns).execute()
        return frame


def _changes(risk: Any, course: Course, effects: tuple[int, ...], e: int) -> dict[int, Any]:
    """Say at which marks an endpoint's patients enter states of another effect."""
    ibis = ibis_module()
    mask = risk[f"k{e}"]
    before = ibis.ifelse((mask & 1) > 0, effects[0], -1)
    found = {}
    for m, mark in enumerate(course.marks, start=1):
        visited = (mask & (1 << m)) > 0
        effect = effects[mark.state]
        found[m] = visited & (before >= 0) & (before != effect)
        before = ibis.ifelse(visited, effect, before)
    return found


def _contributes(risk: Any, endpoints: int) -> Any:
    inside = risk["r0"] == AT_RISK
    for e in range(1, endpoints):
        inside = inside | (risk[f"r{e}"] == AT_RISK)
    return inside


def _counts(
    risk: Any, inside: Mapping[str, Any], grouping: Grouping, polynomials: list[Any]
) -> dict[str, Floats]:
    """Sum the polynomials over parts of the patients, by group: shapes (group, moment)."""
    ibis = ibis_module()
    total = {name: np.zeros((grouping.groups, grouping.moments)) for name in inside}
    step = max(1, MOMENTS // len(inside))
    for chunk in range(0, grouping.moments, step):
        part = range(chunk, min(chunk + step, grouping.moments))
        kept = risk.select("code", **inside, **{f"p{t}": polynomials[t] for t in part})
        found = kept.group_by("code").aggregate(
            **{
                f"{name}_{t}": ibis.ifelse(kept[name], kept[f"p{t}"], 0.0).sum()
                for name in inside
                for t in part
            }
        )
        rows = found.execute()
        group = grouping.group_of(rows["code"].to_numpy(dtype=np.int64))
        for name in inside:
            for t in part:
                np.add.at(total[name][:, t], group, rows[f"{name}_{t}"].to_numpy(dtype=np.float64))
    return total


def _near(left: Any, right: Any) -> Any:
    """Whether two times differ by floating-point noise at most."""
    ibis = ibis_module()
    return (left - right).abs() <= TIE_TOLERANCE * ibis.greatest(left, right)


def _at_risk(table: Any, scan: CohortScan, course: Course, names: Sequence[str]) -> Any:
    """Add to each patient, by endpoint: the reason, begin and stop of time at risk, the event."""
    ibis = ibis_module()
    landmark = course.landmark
    for e, name in enumerate(names):
        time, start = table[f"time:{name}"], table[f"entry:{name}"]
        conditions = [(start.isnull(), 0)]
        if course.eligible_phase is not None:
            eligible = table[f"start{course.eligible_phase}"]
            conditions.append((eligible.isnull(), 1))
            start = ibis.greatest(start, eligible)
        conditions.append(((start >= time) | _near(start, time), 2))
        if landmark is not None:
            moment = number(landmark)
            conditions.append(((moment >= time) | _near(moment, time), 3))
            conditions.append(((start > moment) & ~_near(start, moment), 4))
            start = moment
        stop, died = time, table[f"event:{name}"]
        if course.censor_at_transplant and scan.transplant is not None:
            transplant = table["transplant"].fill_null(number(NEVER))
            hit = (transplant < time) & ~_near(transplant, time)
            conditions.append((hit & ((transplant <= start) | _near(transplant, start)), 5))
            stop, died = ibis.ifelse(hit, transplant, time), died & ~hit
        reason = ibis.cases(*conditions, else_=AT_RISK).cast("int8")
        table = table.mutate(**{f"r{e}": reason, f"b{e}": start, f"s{e}": stop, f"d{e}": died})
        table = _with_bounds(table, course, e)
    return table


def _with_bounds(table: Any, course: Course, e: int) -> Any:
    """Add where the states of an endpoint begin, and which of them have time at risk."""
    ibis = ibis_module()
    begin, stop = table[f"b{e}"], table[f"s{e}"]
    marks = {}
    for m, mark in enumerate(course.marks, start=1):
        column = {"start": f"start{mark.phase}", "end": f"end{mark.phase}"}.get(
            mark.kind, "transplant"
        )
        at = table[column] + number(mark.offset) if mark.offset else table[column]
        at = at.fill_null(number(NEVER))
        at_end = course.tie.near(at, stop, InEngine()) | _near(at, stop)
        marks[f"m{m}"] = ibis.cases((at_end, stop), (_near(at, begin), begin), else_=at)
    table = table.mutate(**marks)
    count = len(course.marks)
    # A state lasts until the next one that is entered, whatever lies between them in the order.
    table = table.mutate(
        **{
            f"l{m}": ibis.least(*(table[f"m{later}"] for later in range(m, count + 1)))
            if m < count
            else table[f"m{m}"]
            for m in range(1, count + 1)
        }
    )
    for m in range(2, count + 1):
        before, now = table[f"l{m - 1}"], table[f"l{m}"]
        table = table.mutate(**{f"l{m}": ibis.ifelse(_near(now, before), before, now)})
    begin, stop = table[f"b{e}"], table[f"s{e}"]
    ends = {f"e{e}_0": begin, f"e{e}_{count + 1}": stop}
    for m in range(1, count + 1):
        ends[f"e{e}_{m}"] = ibis.least(ibis.greatest(table[f"l{m}"], begin), stop)
    table = table.mutate(**ends)
    mask = ibis.literal(0, type="int64")
    for m in range(count + 1):
        inside = table[f"e{e}_{m}"] < table[f"e{e}_{m + 1}"]
        mask = mask + inside.cast("int64") * (1 << m)
    table = table.mutate(**{f"k{e}": ibis.ifelse(table[f"r{e}"] == AT_RISK, mask, 0)})
    return table.drop(*marks, *(f"l{m}" for m in range(1, count + 1)))


def _flow(risk: Any, names: Sequence[str]) -> pd.DataFrame:
    """Count patients by combination of covariates, reason and states visited."""
    ibis = ibis_module()
    keys = ["code"]
    values = {"n": risk.count()}
    for e in range(len(names)):
        keys += [f"r{e}", f"k{e}"]
        inside = risk[f"r{e}"] == AT_RISK
        begin = ibis.ifelse(inside, risk[f"b{e}"], None)
        stop = ibis.ifelse(inside, risk[f"s{e}"], None)
        values |= {
            f"b{e}": begin.min(),
            f"late{e}": begin.max(),
            f"s{e}": stop.max(),
            f"t{e}": (stop - begin).sum(),
            f"d{e}": (inside & risk[f"d{e}"]).cast("int64").sum(),
        }
    for column in risk.columns:
        if column.startswith("x") and column[1:].isdigit():
            x = risk[column]
            values |= {f"{column}lo": x.min(), f"{column}hi": x.max()}
            values |= {f"{column}sum": x.sum(), f"{column}sq": (x * x).sum()}
    found: pd.DataFrame = risk.group_by(keys).aggregate(**values).execute()
    for e in range(len(names)):
        found[[f"t{e}", f"d{e}"]] = found[[f"t{e}", f"d{e}"]].fillna(0)
    return found


def _bound(flow: pd.DataFrame, column: str, how: str) -> float:
    values = flow[column].to_numpy(dtype=np.float64, na_value=np.nan)
    values = values[~np.isnan(values)]
    if how == "min":
        return float(values.min(initial=np.inf))
    return float(values.max(initial=0.0))


def _visitors(flow: pd.DataFrame, course: Course, endpoints: int) -> Ints:
    """Patients who are ever in each state."""
    segments = np.array([0, *(mark.state for mark in course.marks)])
    visitors = np.zeros((endpoints, len(course.states)), dtype=np.int64)
    for e in range(endpoints):
        mask = flow[f"k{e}"].to_numpy(dtype=np.int64)
        count = flow["n"].to_numpy(dtype=np.int64)
        for state in range(len(course.states)):
            bits = sum(1 << int(m) for m in np.flatnonzero(segments == state))
            visitors[e, state] = count[(mask & bits) > 0].sum()
    return visitors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Target:
    """Where sums of one endpoint go."""

    events: Floats
    partial: Floats
    passed: Floats
    opened: Ints
    first: Floats
    longest: Floats


def _polynomials(risk: Any, grouping: Grouping) -> list[Any]:
    """Products of Chebyshev polynomials of the covariates, the last covariate fastest."""
    ibis = ibis_module()
    if grouping.compression is None:
        return [number(1.0)]
    names = [one.name for one in grouping.described if one.kind == "continuous"]
    products: list[Any] = [None]
    for axis in grouping.compression.axes:
        x = risk[f"x{names.index(axis.name)}"]
        middle, half = (axis.low + axis.high) / 2.0, (axis.high - axis.low) / 2.0
        scaled = ibis.least(ibis.greatest((x - number(middle)) / number(half), -1.0), 1.0)
        angle = scaled.acos()
        own = [number(1.0), scaled]
        own += [(angle * float(degree)).cos() for degree in range(2, axis.nodes)]
        products = [one if whole is None else whole * one for whole in products for one in own]
    return products


def _grouped(
    risk: Any,
    e: int,
    block: range,
    cuts: Floats,
    part: list[int],
    polynomials: list[Any],
) -> pd.DataFrame:
    """Group patients by the intervals of the bounds of a block of states."""
    ibis = ibis_module()
    edges = np.concatenate([[0.0], cuts])
    inside = ibis.literal(False)
    kept = risk.select(
        "code",
        mask=risk[f"k{e}"],
        died=risk[f"d{e}"],
        **{f"e{m}": risk[f"e{e}_{m}"] for m in range(block.start, block.stop + 1)},
        **{f"p{t}": polynomials[t] for t in part if t},
    )
    for m in block:
        inside = inside | (kept[f"e{m}"] < kept[f"e{m + 1}"])
    kept = kept.filter((kept["mask"] > 0) & inside)
    bins = {}
    for m in block:
        bins[f"u{m}"] = interval_expression(kept[f"e{m + 1}"], cuts * (1.0 + TIE_TOLERANCE))
        low = interval_expression(kept[f"e{m}"], cuts * (1.0 - TIE_TOLERANCE), closed=True)
        bins[f"v{m}"] = low
    kept = kept.mutate(**bins)
    kept = kept.mutate(**{f"v{m}": ibis.least(kept[f"v{m}"], kept[f"u{m}"]) for m in block})
    edge = ibis.array([number(one) for one in edges])
    values = {"n": kept.count()}
    for m in block:
        low, high = kept[f"e{m}"], kept[f"e{m + 1}"]
        values |= {f"first{m}": low.min(), f"longest{m}": (high - low).max()}
        upper, lower = high - edge[kept[f"u{m}"]], low - edge[kept[f"v{m}"]]
        for t in part:
            factor = kept[f"p{t}"] if t else 1.0
            values |= {f"up{m}_{t}": (upper * factor).sum(), f"lo{m}_{t}": (lower * factor).sum()}
    for t in part:
        factor = kept[f"p{t}"] if t else number(1.0)
        values |= {
            f"c{t}": factor.sum() if t else kept.count().cast("float64"),
            f"d{t}": (kept["died"].cast("float64") * factor).sum(),
        }
    keys = ["code", "mask", *bins]
    found: pd.DataFrame = kept.group_by(keys).aggregate(**values).execute()
    return found


def _add(
    grouped: pd.DataFrame,
    target: _Target,
    course: Course,
    block: range,
    grouping: Grouping,
    part: list[int],
    *,
    first_chunk: bool,
) -> None:
    """Add the sums of groups of patients to those of the states."""
    if not len(grouped):
        return
    states = [0, *(mark.state for mark in course.marks)]
    mask = grouped["mask"].to_numpy(dtype=np.int64)
    pattern = grouping.group_of(grouped["code"].to_numpy(dtype=np.int64))
    count = grouped["n"].to_numpy(dtype=np.int64)
    last = np.floor(np.log2(mask)).astype(np.int64)
    for m in block:
        rows = (mask >> m & 1) == 1
        state, group = states[m], pattern[rows]
        upper, lower = (grouped[f"{name}{m}"].to_numpy(dtype=np.int64)[rows] for name in ("u", "v"))
        if first_chunk:
            np.add.at(target.opened[state], (group, lower), count[rows])
            np.add.at(target.opened[state], (group, upper + 1), -count[rows])
            begun = grouped[f"first{m}"].to_numpy(dtype=np.float64)[rows]
            spent = grouped[f"longest{m}"].to_numpy(dtype=np.float64)[rows]
            target.first[state] = min(target.first[state], begun.min(initial=np.inf))
            target.longest[state] = max(target.longest[state], spent.max(initial=0.0))
        final = rows & (last == m)
        for t in part:
            up, low, passed, died = (
                grouped[name].to_numpy(dtype=np.float64)
                for name in (f"up{m}_{t}", f"lo{m}_{t}", f"c{t}", f"d{t}")
            )
            np.add.at(target.partial[state, :, :, t], (group, upper), up[rows])
            np.add.at(target.partial[state, :, :, t], (group, lower), -low[rows])
            np.add.at(target.passed[state, :, :, t], (group, upper), passed[rows])
            np.add.at(target.passed[state, :, :, t], (group, lower), -passed[rows])
            at_end = grouped[f"u{m}"].to_numpy(dtype=np.int64)[final]
            np.add.at(target.events[state, :, :, t], (pattern[final], at_end), died[final])
