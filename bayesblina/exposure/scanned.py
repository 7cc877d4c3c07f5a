"""Events and person-time of patients in a query engine: it groups and adds up, and returns sums.

The rules are those of `bayesblina.tabulation`, as expressions over the columns of one patient. The
engine groups patients by pattern and by the intervals in which their states begin and end, and
returns counts and sums of each group: a few thousand rows, whatever the number of patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesblina.cohort import Cohort, Covariate, Outcome
from bayesblina.compression import Compression
from bayesblina.compression import compress as nodes_for
from bayesblina.errors import NAMED_PATIENTS, SpecError
from bayesblina.exposure.assembling import Sums, assemble, by_pattern, require_contents_of
from bayesblina.exposure.each import single_patients
from bayesblina.exposure.lookup import interval_expression
from bayesblina.exposure.patterns import (
    CovariateTerms,
    Terms,
    compressed_terms,
    levels_of_codes,
    terms_of,
    unique_rows,
)
from bayesblina.exposure.ranks import order_statistics
from bayesblina.exposure.value import Exposure, Lazily, Patients
from bayesblina.follow_up import LeftOut, cut_since_entry, find_episodes
from bayesblina.intervals import TIE_TOLERANCE, number_of_intervals, person_time
from bayesblina.question import Question, bind
from bayesblina.scan import CohortScan, ibis_module, settled
from bayesblina.segments import Course, course_of, reasons

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Later than any time.
NEVER = 1e300
# States whose bounds are grouped by together; more would make too many groups.
BLOCK = 3
# Polynomials that are summed in one query.
MOMENTS = 64
# Patients who are looked at singly, for what can be estimated from a sample.
SAMPLE = 2000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grouping:
    """Groups in which patients are summed: by ``code``, an integer column."""

    terms: Terms
    pattern_of: Mapping[int, int]
    described: tuple[CovariateTerms, ...]
    compression: Compression | None


def expose_scan(
    scan: CohortScan,
    question: Question,
    *,
    cuts: Floats | None,
    phase_cuts: Floats | None,
    compress: bool | None,
    landmarks: Sequence[float],
) -> Exposure:
    """Sum events and person-time in an engine.

    Parameters
    ----------
    scan
        The patients.
    question, compress, landmarks
        As for `bayesblina.expose`.
    cuts : ndarray, shape (interval - 1,), or None
        Inner cut points; None for quantiles of the event times.
    phase_cuts : ndarray, shape (n_pieces - 1,), or None
        Times since entering the exposed phase at which it is cut.

    Returns
    -------
    Exposure
        As in memory, up to rounding; of single patients it holds a sample.

    Raises
    ------
    DataError
        If there is nothing to compare, or conservation fails.
    SpecError
        If the question cannot be asked of the patients.
    """
    names = bind(question, scan)
    course = course_of(scan, question, phase_cuts)
    coded = _coded(scan)
    risk = settled(_at_risk(coded, scan, course, names), embedded=scan.embedded)
    flow = _flow(risk, names)
    contributors = np.array([flow[f"r{e}"].eq(6).mul(flow["n"]).sum() for e in range(len(names))])
    events = np.array([float(flow[f"d{e}"].sum()) for e in range(len(names))])
    left_out = _left_out(risk, question, names, flow)
    contributes = np.stack([flow[f"r{e}"].to_numpy() == 6 for e in range(len(names))]).any(axis=0)
    # Where nobody does, the check below says so.
    used = flow.loc[contributes] if contributes.any() else flow
    grouping = _grouping(scan, used, compress)
    if cuts is None:
        cuts = _default_cuts(risk, names, flow)
    sums = _sums(risk, course, names, grouping, cuts, used)
    totals = Sums(
        events=sums["events"],
        exposure=sums["exposure"],
        first_in=sums["first"],
        longest_in=sums["longest"],
        visitors=_visitors(flow, course, len(names)),
        contributors=contributors.astype(np.int64),
        left_out=scan.size - contributors.astype(np.int64),
        first_begin=np.array([_bound(flow, f"b{e}", "min") for e in range(len(names))]),
        last_exit=np.array([_bound(flow, f"s{e}", "max") for e in range(len(names))]),
        time_at_risk=np.array([float(flow[f"t{e}"].sum()) for e in range(len(names))]),
        event_count=events,
        patients=sums["patients"],
    )
    require_contents_of(names, course.phase_names, totals, question)
    terms, node = grouping.terms, None
    if grouping.compression is not None:
        terms, node = compressed_terms(grouping.terms, grouping.compression)
    table = assemble(
        names,
        course.states,
        course.phase_names,
        course.since,
        totals,
        cuts=cuts,
        terms=terms,
        node=node,
        covariates=grouping.described,
        question=question,
        compression=grouping.compression,
        size=scan.size,
    )
    risk_sets = _risk_sets(risk, names, grouping, flow, question, landmarks, terms)
    held = _sample(risk, scan, question, phase_cuts, names, grouping, table, left_out)
    return Exposure(
        table=table,
        unit=scan.unit,
        synthetic=scan.synthetic,
        patients=Lazily.of(held),
        risk_sets=risk_sets,
    )


def _near(left: Any, right: Any) -> Any:
    """Whether two times differ by floating-point noise at most."""
    ibis = ibis_module()
    return (left - right).abs() <= TIE_TOLERANCE * ibis.greatest(left, right)


def _coded(scan: CohortScan) -> Any:
    """Give each patient the number of the combination of categorical covariates."""
    ibis = ibis_module()
    code = ibis.literal(0, type="int64")
    for one in scan.covariates:
        if one.kind == "continuous":
            continue
        place = scan.column("covariate", one.name).cases(
            *((level, index) for index, level in enumerate(one.levels)), else_=0
        )
        code = code * len(one.levels) + place.cast("int64")
    columns = {"id": scan.column("patient"), "code": code}
    for index, name in enumerate(_continuous(scan)):
        columns[f"x{index}"] = scan.column("covariate", name)
    for index, name in enumerate(scan.phases):
        columns[f"start{index}"] = scan.column("start", name)
        columns[f"end{index}"] = scan.column("end", name)
    if scan.transplant is not None:
        columns["transplant"] = scan.column("transplant")
    for name in scan.endpoints:
        for kind in ("time", "event", "entry"):
            columns[f"{kind}:{name}"] = scan.column(kind, name)
    return scan.table.select(**columns)


def _continuous(scan: CohortScan) -> list[str]:
    return [one.name for one in scan.covariates if one.kind == "continuous"]


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
            moment = ibis.literal(float(landmark))
            conditions.append(((moment >= time) | _near(moment, time), 3))
            conditions.append(((start > moment) & ~_near(start, moment), 4))
            start = moment
        stop, died = time, table[f"event:{name}"]
        if course.censor_at_transplant and scan.transplant is not None:
            transplant = table["transplant"].fill_null(NEVER)
            hit = (transplant < time) & ~_near(transplant, time)
            conditions.append((hit & ((transplant <= start) | _near(transplant, start)), 5))
            stop, died = ibis.ifelse(hit, transplant, time), died & ~hit
        reason = ibis.cases(*conditions, else_=6).cast("int8")
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
        at = table[column] + mark.offset if mark.offset else table[column]
        at = at.fill_null(NEVER)
        marks[f"m{m}"] = ibis.cases((_near(at, stop), stop), (_near(at, begin), begin), else_=at)
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
    table = table.mutate(**{f"k{e}": ibis.ifelse(table[f"r{e}"] == 6, mask, 0)})
    return table.drop(*marks, *(f"l{m}" for m in range(1, count + 1)))


def _flow(risk: Any, names: Sequence[str]) -> pd.DataFrame:
    """Count patients by combination of covariates, reason and states visited."""
    ibis = ibis_module()
    keys = ["code"]
    values = {"n": risk.count()}
    for e in range(len(names)):
        keys += [f"r{e}", f"k{e}"]
        inside = risk[f"r{e}"] == 6
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


def _left_out(
    risk: Any, question: Question, names: Sequence[str], flow: pd.DataFrame
) -> tuple[LeftOut, ...]:
    """Count who does not contribute, and name the first few."""
    found = []
    for e, name in enumerate(names):
        counts = flow.groupby(f"r{e}")["n"].sum()
        for index, reason in enumerate(reasons(question)):
            if not counts.get(index, 0):
                continue
            first = risk.filter(risk[f"r{e}"] == index).select("id").order_by("id")
            ids = first.limit(NAMED_PATIENTS).execute()["id"]
            found.append(
                LeftOut(
                    endpoint=name,
                    reason=reason,
                    patients=tuple(str(one) for one in ids),
                    count=int(counts[index]),
                )
            )
    return tuple(found)


def _grouping(scan: CohortScan, used: pd.DataFrame, compress: bool | None) -> _Grouping:
    """Say which pattern each code is, and whether continuous covariates are compressed."""
    declared = [one for one in scan.covariates if one.kind == "categorical"]
    everything = [
        CovariateTerms(name=one.name, kind="categorical", levels=one.levels) for one in declared
    ]
    codes = np.unique(used["code"].to_numpy(dtype=np.int64))
    levels = levels_of_codes(everything, codes)
    names = _continuous(scan)
    weight = used["n"].to_numpy(dtype=np.float64)
    low, high, sd = [], [], []
    for index in range(len(names)):
        low.append(float(used[f"x{index}lo"].min()))
        high.append(float(used[f"x{index}hi"].max()))
        mean = float(used[f"x{index}sum"].sum()) / weight.sum()
        square = float(used[f"x{index}sq"].sum()) / weight.sum()
        sd.append(float(np.sqrt(max(square - mean**2, 0.0))))
    described = []
    for one in scan.covariates:
        if one.kind == "continuous":
            place = names.index(one.name)
            described.append(
                CovariateTerms(name=one.name, kind="continuous", low=low[place], high=high[place])
            )
        else:
            present = set(levels[one.name].tolist())
            kept = tuple(level for level in one.levels if level in present)
            described.append(CovariateTerms(name=one.name, kind="categorical", levels=kept))
    varying = [index for index in range(len(names)) if high[index] > low[index]]
    values = {**levels, **{name: np.zeros(codes.size) for name in names}}
    unordered = terms_of(described, values, size=codes.size)
    design, order = unique_rows(unordered.design)
    terms = Terms(names=unordered.names, continuous=unordered.continuous, design=design)
    pattern_of = dict(zip(codes.tolist(), order.tolist(), strict=True))
    if not varying:
        return _Grouping(
            terms=terms, pattern_of=pattern_of, described=tuple(described), compression=None
        )
    if compress is False:
        raise SpecError(
            "In a query engine continuous covariates are compressed: leave compress=False out, "
            "make the covariate categorical, or read the patients with read_cohort."
        )
    found = nodes_for(
        [names[index] for index in varying],
        np.array([low[index] for index in varying]),
        np.array([high[index] for index in varying]),
        np.array([sd[index] for index in varying]),
    )
    return _Grouping(
        terms=terms, pattern_of=pattern_of, described=tuple(described), compression=found
    )


def _contributes(risk: Any, endpoints: int) -> Any:
    inside = risk["r0"] == 6
    for e in range(1, endpoints):
        inside = inside | (risk[f"r{e}"] == 6)
    return inside


def _default_cuts(risk: Any, names: Sequence[str], flow: pd.DataFrame) -> Floats:
    """Place cut points at quantiles of the event times, as `bayesblina.intervals` does."""
    total = sum(int(flow[f"d{e}"].sum()) for e in range(len(names)))
    count = number_of_intervals(total / len(names))
    if count < 2:
        return np.empty(0)
    columns = [
        risk.filter((risk[f"r{e}"] == 6) & risk[f"d{e}"]).select(value=risk[f"s{e}"])
        for e in range(len(names))
    ]
    last = max(_bound(flow, f"s{e}", "max") for e in range(len(names)))
    # The smallest time that at least this share of the events do not exceed, and the last event.
    ranks = np.ceil(np.arange(1, count) / count * total - 1e-9).astype(np.int64) - 1
    found = order_statistics(columns, np.append(ranks, total - 1), last=last)
    cuts = np.unique(found[:-1])
    return np.asarray(cuts[cuts < found[-1]])


def _sums(
    risk: Any,
    course: Course,
    names: Sequence[str],
    grouping: _Grouping,
    cuts: Floats,
    used: pd.DataFrame,
) -> dict[str, Any]:
    """Sum events and person-time of all endpoints, and patients."""
    compression = grouping.compression
    moments = 1 if compression is None else compression.size
    groups = grouping.terms.design.shape[0]
    states, intervals = len(course.states), cuts.size + 1
    shape = (states, groups, intervals, moments)
    events, exposure, first, longest = [], [], [], []
    polynomials = _polynomials(risk, grouping)
    for e in range(len(names)):
        died, partial, passed = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        opened = np.zeros((states, groups, intervals + 1), dtype=np.int64)
        earliest, most = np.full(states, np.inf), np.zeros(states)
        target = _Target(died, partial, passed, opened, earliest, most)
        segments = len(course.marks) + 1
        for start in range(0, segments, BLOCK):
            block = range(start, min(start + BLOCK, segments))
            for chunk in range(0, moments, MOMENTS):
                part = list(range(chunk, min(chunk + MOMENTS, moments)))
                grouped = _grouped(risk, e, block, cuts, part, polynomials)
                _add(grouped, target, course, block, grouping, part, first_chunk=chunk == 0)
        events.append(died)
        exposure.append(person_time(partial, passed, opened, cuts))
        first.append(earliest)
        longest.append(most)
    return {
        "events": by_pattern(events, compression, whole=True),
        "exposure": by_pattern(exposure, compression, whole=False),
        "first": np.stack(first),
        "longest": np.stack(longest),
        "patients": _patients(risk, len(names), grouping, used, polynomials),
    }


@dataclass(frozen=True, slots=True)
class _Target:
    """Where sums of one endpoint go."""

    events: Floats
    partial: Floats
    passed: Floats
    opened: Ints
    first: Floats
    longest: Floats


def _polynomials(risk: Any, grouping: _Grouping) -> list[Any]:
    """Products of Chebyshev polynomials of the covariates, the last covariate fastest."""
    ibis = ibis_module()
    if grouping.compression is None:
        return [ibis.literal(1.0)]
    names = [one.name for one in grouping.described if one.kind == "continuous"]
    products: list[Any] = [None]
    for axis in grouping.compression.axes:
        x = risk[f"x{names.index(axis.name)}"]
        middle, half = (axis.low + axis.high) / 2.0, (axis.high - axis.low) / 2.0
        scaled = ibis.least(ibis.greatest((x - middle) / half, -1.0), 1.0)
        angle = scaled.acos()
        own = [ibis.literal(1.0), scaled]
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
    edge = ibis.array([float(one) for one in edges])
    values = {"n": kept.count()}
    for m in block:
        low, high = kept[f"e{m}"], kept[f"e{m + 1}"]
        values |= {f"first{m}": low.min(), f"longest{m}": (high - low).max()}
        upper, lower = high - edge[kept[f"u{m}"]], low - edge[kept[f"v{m}"]]
        for t in part:
            factor = kept[f"p{t}"] if t else 1.0
            values |= {f"up{m}_{t}": (upper * factor).sum(), f"lo{m}_{t}": (lower * factor).sum()}
    for t in part:
        factor = kept[f"p{t}"] if t else ibis.literal(1.0)
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
    grouping: _Grouping,
    part: list[int],
    *,
    first_chunk: bool,
) -> None:
    """Add the sums of groups of patients to those of the states."""
    if not len(grouped):
        return
    states = [0, *(mark.state for mark in course.marks)]
    mask = grouped["mask"].to_numpy(dtype=np.int64)
    pattern = np.array(
        [grouping.pattern_of.get(code, -1) for code in grouped["code"].tolist()], dtype=np.int64
    )
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


def _patients(
    risk: Any,
    endpoints: int,
    grouping: _Grouping,
    used: pd.DataFrame,
    polynomials: list[Any],
) -> Floats:
    """Count patients by pattern."""
    groups = grouping.terms.design.shape[0]
    if grouping.compression is None:
        total = np.zeros(groups)
        for code, count in zip(used["code"].tolist(), used["n"].tolist(), strict=True):
            total[grouping.pattern_of[code]] += count
        return total
    return _moments_of(risk, _contributes(risk, endpoints), grouping, polynomials).ravel()


def _moments_of(risk: Any, inside: Any, grouping: _Grouping, polynomials: list[Any]) -> Floats:
    """Patients of a part of the table at the nodes, by group; shape (group, node)."""
    assert grouping.compression is not None
    total = np.zeros((grouping.terms.design.shape[0], len(polynomials)))
    for chunk in range(0, len(polynomials), MOMENTS):
        part = range(chunk, min(chunk + MOMENTS, len(polynomials)))
        kept = risk.select("code", inside=inside, **{f"p{t}": polynomials[t] for t in part})
        kept = kept.filter(kept["inside"])
        found = kept.group_by("code").aggregate(**{f"p{t}": kept[f"p{t}"].sum() for t in part})
        for row in found.execute().to_dict("records"):
            place = grouping.pattern_of[int(row["code"])]
            for t in part:
                total[place, t] += float(row[f"p{t}"])
    return grouping.compression.from_moments(total)


def _risk_sets(
    risk: Any,
    names: Sequence[str],
    grouping: _Grouping,
    flow: pd.DataFrame,
    question: Question,
    landmarks: Sequence[float],
    terms: Terms,
) -> xr.Dataset:
    """Count who is at risk at landmarks, by pattern."""
    median = _median_begin(risk, names, flow)
    usual = median if question.landmark is None else question.landmark
    times = np.unique([float(usual), *(float(time) for time in landmarks)])
    counts = np.zeros((len(names), times.size, terms.design.shape[0]))
    later = times * (1.0 + TIE_TOLERANCE)
    inside = {
        f"a{e}_{index}": (risk[f"r{e}"] == 6)
        & (risk[f"b{e}"] <= float(time))
        & (risk[f"s{e}"] > float(time))
        for e in range(len(names))
        for index, time in enumerate(later)
    }
    if grouping.compression is None:
        kept = risk.select("code", **inside)
        found = kept.group_by("code").aggregate(
            **{name: kept[name].cast("int64").sum() for name in inside}
        )
        for row in found.execute().to_dict("records"):
            place = grouping.pattern_of.get(int(row["code"]))
            if place is None:
                continue
            for e in range(len(names)):
                for index in range(times.size):
                    counts[e, index, place] += float(row[f"a{e}_{index}"])
    else:
        polynomials = _polynomials(risk, grouping)
        for e in range(len(names)):
            for index in range(times.size):
                spread = _moments_of(risk, inside[f"a{e}_{index}"], grouping, polynomials)
                counts[e, index] = spread.ravel()
    return xr.Dataset(
        {"at_risk": (("endpoint", "landmark", "pattern"), counts)},
        coords={
            "endpoint": list(names),
            "landmark": times,
            "pattern": np.arange(terms.design.shape[0]),
        },
        attrs={"median_begin": median},
    )


def _median_begin(risk: Any, names: Sequence[str], flow: pd.DataFrame) -> float:
    """Median time at which patients came under observation, endpoints together."""
    first = min(_bound(flow, f"b{e}", "min") for e in range(len(names)))
    last = max(_bound(flow, f"late{e}", "max") for e in range(len(names)))
    total = sum(int(flow.loc[flow[f"r{e}"] == 6, "n"].sum()) for e in range(len(names)))
    if not total or first == last:
        return last if total else 0.0
    columns = [
        risk.filter(risk[f"r{e}"] == 6).select(value=risk[f"b{e}"]) for e in range(len(names))
    ]
    ranks = np.array([(total - 1) // 2, total // 2])
    return float(order_statistics(columns, ranks, last=last).mean())


def _sample(
    risk: Any,
    scan: CohortScan,
    question: Question,
    phase_cuts: Floats | None,
    names: Sequence[str],
    grouping: _Grouping,
    table: xr.Dataset,
    left_out: tuple[LeftOut, ...],
) -> Patients:
    """Read some of the patients who contribute, chosen by a hash of their ids."""
    inside = risk.filter(_contributes(risk, len(names)))
    chosen = inside.order_by(inside["id"].hash(), inside["id"]).limit(SAMPLE)
    continuous = _continuous(scan)
    columns = ["id", "code", *(f"x{index}" for index in range(len(continuous)))]
    columns += [f"{what}{index}" for index in range(len(scan.phases)) for what in ("start", "end")]
    columns += [f"{what}:{name}" for name in names for what in ("time", "event", "entry")]
    columns += [] if scan.transplant is None else ["transplant"]
    frame: pd.DataFrame = chosen.select(*columns).execute()

    def numbers(column: str) -> Floats:
        return frame[column].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)

    size = len(frame)
    cohort = Cohort(
        patients=frame["id"].to_numpy(dtype=str),
        unit=scan.unit,
        endpoints={
            name: Outcome(
                time=numbers(f"time:{name}"),
                event=frame[f"event:{name}"].to_numpy(dtype=bool),
                entry=numbers(f"entry:{name}"),
            )
            for name in names
        },
        phases=scan.phases,
        phase_start=np.stack([numbers(f"start{i}") for i in range(len(scan.phases))], axis=1),
        phase_end=np.stack([numbers(f"end{i}") for i in range(len(scan.phases))], axis=1),
        phase_ends_known=scan.phase_ends_known,
        transplant=None if scan.transplant is None else numbers("transplant"),
        covariates={
            name: Covariate(kind="continuous", values=numbers(f"x{index}"))
            for index, name in enumerate(continuous)
        },
        synthetic=scan.synthetic,
        source=scan.source,
    )
    episodes = find_episodes(cohort, question)
    if phase_cuts is not None:
        entered = cohort.phase_start[:, cohort.phases.index(question.exposed)]
        episodes = {
            name: cut_since_entry(one, entered, phase_cuts, phase=question.exposed)
            for name, one in episodes.items()
        }
    used = np.unique(np.concatenate([one.patient for one in episodes.values()]))
    patients = single_patients(cohort, episodes, used, weight=None)
    states = next(iter(episodes.values())).phases
    position = {str(name): index for index, name in enumerate(table["phase"].values)}
    number = np.array([position.get(name, -1) for name in states], dtype=np.int64)
    spent = patients.episodes.assign(phase=("episode", number[patients.episodes["phase"].values]))
    codes = frame["code"].to_numpy(dtype=np.int64)[used] if size else np.empty(0, dtype=np.int64)
    group = np.array([grouping.pattern_of[code] for code in codes.tolist()], dtype=np.int64)
    if grouping.compression is None:
        people = patients.people.assign(pattern=("patient", group), category=("patient", group))
    else:
        rows = grouping.terms.design[group].copy()
        for axis in grouping.compression.axes:
            column = grouping.terms.names.index(axis.name)
            rows[:, column] = cohort.covariates[axis.name].values[used]
        people = patients.people.assign(
            category=("patient", group * grouping.compression.size),
            design=(("patient", "term"), rows),
        ).assign_coords(term=np.asarray(grouping.terms.names, dtype=str))
    return Patients(people=people, episodes=spent, left_out=left_out, complete=False)
