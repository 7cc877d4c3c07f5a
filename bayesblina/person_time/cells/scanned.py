"""Patients of a scan to an `PersonTime`: what is summed, in which groups and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.episodes import AT_RISK
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import (
    TIE_TOLERANCE,
    cuts_between,
    entry_ranks,
    event_ranks,
    number_of_intervals,
)
from bayesblina.patients.cohort import Cohort, Covariate
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.scan import CohortScan
from bayesblina.person_time.cells.assembling import (
    Sums,
    assemble,
    by_pattern,
    includes_of,
    recorded_of,
    require_contents_of,
)
from bayesblina.person_time.cells.engine_sums import EngineSums
from bayesblina.person_time.cells.patterns import (
    CovariateTerms,
    Terms,
    groups_of_codes,
)
from bayesblina.person_time.cells.singles import patients_in_groups
from bayesblina.person_time.cells.streamed import StreamedSums
from bayesblina.person_time.cells.summing import BEGIN, EVENT, Grouping, Moment, Summing, Survey
from bayesblina.person_time.cells.value import Lazily, PersonTime
from bayesblina.person_time.compression import compress as nodes_for
from bayesblina.person_time.follow_up import LeftOut, effect_kinds
from bayesblina.person_time.question import Question, bind
from bayesblina.person_time.segments import Course, course_of, reasons

# Parts of intervals on which partial likelihoods rest, and most cells of their sums.
FINER = 400
LARGEST_FINER = 4_000_000
# Times are taken as multiples of a unit if they are as near to them, in units, and the longest is
# no more of them.
NEAR_MULTIPLE = 1e-6
MOST_MULTIPLES = 20 * FINER


def tabulate_scan(
    scan: CohortScan,
    question: Question,
    *,
    cuts: Floats | None,
    phase_cuts: Floats | None,
    compress: bool | None,
    landmarks: Sequence[float],
) -> PersonTime:
    """Sum events and person-time in an engine.

    As in memory, up to rounding; of single patients it holds a sample.

    Parameters
    ----------
    cuts : ndarray, shape (interval - 1,), or None
        Inner cut points; None for the default ones.
    phase_cuts : ndarray, shape (n_pieces - 1,), or None
        Times since entering the exposed phase at which it is cut.
    """
    scan.require_unchanged()
    names = bind(question, scan)
    course = course_of(scan, question, phase_cuts)
    # Entries are looked for where cuts are placed by them.
    effects = effect_kinds(course.phase_names, question) if cuts is None else ()
    way = StreamedSums if scan.embedded else EngineSums
    summing: Summing = way(scan, course, names, effects)
    seen = summing.survey()
    contributors = seen.reasons[:, AT_RISK]
    # Where nobody contributes, the check below says so.
    grouping = _grouping(scan, seen, compress) if contributors.any() else _nothing()
    ranks = {} if cuts is not None else _ranks_of_cuts(summing, seen)
    people = int(contributors.sum())
    asked = ranks.get(BEGIN, np.empty(0, dtype=np.int64))
    if people:
        middle = np.array([(people - 1) // 2, people // 2])
        ranks[BEGIN] = np.append(asked, middle)
    times = summing.order_statistics(ranks) if ranks else {}
    median = float(times[BEGIN][0, asked.size :].mean()) if people else 0.0
    if cuts is None:
        cuts = _cuts_at(times, asked.size) if ranks.get(EVENT) is not None else np.empty(0)
    usual = median if question.landmark is None else question.landmark
    moments = np.unique([float(usual), *(float(time) for time in landmarks)])
    compression = grouping.compression
    cells = len(course.states) * grouping.groups * (1 if compression is None else compression.size)
    parts, step = cuts, 0.0
    if scan.embedded:
        # Statements to other engines grow with the cuts that they name.
        last = float(seen.last_exit.max())
        step = spacing(_recorded_times(summing.sample(), course))
        parts = finer_cuts(cuts, last, most=max(1, LARGEST_FINER // cells), step=step)
    sums = summing.sums(grouping, parts, moments)
    scan.require_unchanged()
    events = by_pattern([*sums.events], compression, whole=True)
    spent = np.asarray(by_pattern([*sums.person_time], compression, whole=False), dtype=np.float64)
    # Parts of an interval follow each other from its beginning on.
    opens = np.searchsorted(np.concatenate([[0.0], parts]), np.concatenate([[0.0], cuts]))
    totals = Sums(
        events=np.add.reduceat(events, opens, axis=1),
        person_time=np.add.reduceat(spent, opens, axis=1),
        first_in=sums.first,
        longest_in=sums.longest,
        visitors=sums.visitors,
        contributors=contributors,
        left_out=scan.size - contributors,
        first_begin=seen.first_begin,
        last_exit=seen.last_exit,
        time_at_risk=seen.time_at_risk,
        event_count=seen.events.astype(np.float64),
        patients=_at_nodes(sums.patients, grouping).ravel(),
    )
    require_contents_of(names, course.phase_names, totals, question)
    table = assemble(
        names,
        course.states,
        course.phase_names,
        course.since,
        totals,
        cuts=cuts,
        terms=grouping.terms,
        covariates=grouping.described,
        question=question,
        compression=compression,
        size=scan.size,
        recorded=recorded_of(scan.endpoints, names),
        includes=includes_of(scan.endpoints, names),
    )
    states = [str(name) for name in course.states]
    kept = [states.index(str(name)) for name in table["phase"].values]
    over = ("endpoint", "interval", "phase", "pattern")
    finer = xr.Dataset(
        {
            "events": (over, events[:, :, kept]),
            "person_time": (over, spent[:, :, kept]),
            "interval_start": ("interval", np.concatenate([[0.0], parts])),
            "interval_stop": ("interval", np.append(parts, _end(parts, seen))),
            "spacing": ((), step),
        }
    )
    risk_sets = xr.Dataset(
        {
            "at_risk": (
                ("endpoint", "landmark", "pattern"),
                _at_nodes(sums.at_risk, grouping).reshape(len(names), moments.size, -1),
            )
        },
        coords={
            "endpoint": list(names),
            "landmark": moments,
            "pattern": table["pattern"].values,
        },
        attrs={"median_begin": median},
    )
    frame = summing.sample()
    held = patients_in_groups(
        _cohort_of(frame, scan),
        replace(question, endpoints=tuple(names)),
        phase_cuts=phase_cuts,
        weight=None,
        group=grouping.group_of(frame["code"].to_numpy(dtype=np.int64)),
        terms=grouping.terms,
        compression=compression,
        phases=[str(name) for name in table["phase"].values],
    )
    left_out = _left_out(summing, question, names, seen)
    return PersonTime(
        table=table,
        unit=scan.unit,
        synthetic=scan.synthetic,
        patients=Lazily.of(replace(held, left_out=left_out, complete=False)),
        risk_sets=risk_sets,
        finer=finer,
    )


def _recorded_times(frame: pd.DataFrame, course: Course) -> Floats:
    """Take all times of some patients at which follow-up or a state may begin or end."""
    times = frame.filter(regex=r"^(time:|entry:|start\d|end\d|transplant$)")
    later = {
        f"start{mark.phase} later by {mark.offset}": frame[f"start{mark.phase}"] + mark.offset
        for mark in course.marks
        if mark.offset > 0.0
    }
    return times.assign(**later).to_numpy(dtype=np.float64, na_value=np.nan)


def spacing(times: Floats) -> float:
    """Find the unit by which times are recorded.

    The smallest distance between two times, if all are multiples of it; 0 if they are not, or if it
    is so short that short intervals hold very many multiples of it.

    Parameters
    ----------
    times : ndarray
        Times from 0 on, any shape; missing and infinite ones are left out.

    Examples
    --------
    >>> spacing(np.array([0.1, 0.3, 0.4, 1.0])), spacing(np.array([0.13, 0.3, 0.4, 1.0]))
    (0.1, 0.0)
    """
    known = np.unique(times[np.isfinite(times) & (times > 0.0)])
    if not known.size:
        return 0.0
    gaps = np.diff(known, prepend=0.0)
    gaps = gaps[gaps > TIE_TOLERANCE * known[-1]]
    step = float(gaps.min())
    if known[-1] > MOST_MULTIPLES * step:
        return 0.0
    # Rounding of the smallest distance adds up over the multiples.
    step = float(known[-1] / np.rint(known[-1] / step))
    away = np.abs(known - np.rint(known / step) * step)
    return step if away.max() <= NEAR_MULTIPLE * step else 0.0


def finer_cuts(cuts: Floats, last: float, *, most: int, step: float = 0.0) -> Floats:
    """Cut every interval into equal parts.

    Parameters
    ----------
    cuts : ndarray, shape (interval - 1,)
        Inner cut points.

    Returns
    -------
    ndarray, shape (part - 1,)
        Inner cut points, those given among them.

    Examples
    --------
    >>> finer_cuts(np.array([2.0]), 6.0, most=4)
    array([1., 2., 4.])
    >>> finer_cuts(np.array([2.5]), 6.0, most=6, step=1.0)
    array([1. , 2. , 2.5, 3. , 5. ])
    """
    edges = np.concatenate([[0.0], cuts, [last]])
    pieces = min(FINER, most) // (edges.size - 1)
    if pieces < 2 or not last > edges[-2]:
        return cuts
    if step > 0.0:
        return _at_multiples(edges, pieces, step)
    share = np.arange(pieces) / pieces
    return np.asarray((edges[:-1, None] + np.diff(edges)[:, None] * share).ravel()[1:])


def _at_multiples(edges: Floats, pieces: int, step: float) -> Floats:
    """Cut every interval at multiples of a unit, into no more than so many parts."""
    first = np.floor(edges[:-1] / step * (1.0 + TIE_TOLERANCE)).astype(np.int64) + 1
    after = np.ceil(edges[1:] / step * (1.0 - TIE_TOLERANCE)).astype(np.int64)
    each = np.maximum(-(-(after - first) // max(pieces - 1, 1)), 1)
    inside = [np.arange(*ends) * step for ends in zip(first, after, each, strict=True)]
    joined = np.concatenate([edges[1:-1], *inside])
    return np.asarray(np.sort(joined))


def _end(parts: Floats, seen: Survey) -> float:
    """End of follow-up, or any time after the last cut where there is no follow-up."""
    last = float(seen.last_exit.max())
    return last if not parts.size or last > parts[-1] else float(parts[-1]) * 2.0


def _ranks_of_cuts(summing: Summing, seen: Survey) -> dict[Moment, Ints]:
    """Say at which ranks the default cuts lie; none where there is no event."""
    events = int(seen.events.sum())
    if not events:
        return {}
    begins = int(seen.reasons[:, AT_RISK].sum())
    parts = number_of_intervals(events / seen.events.size)
    ranks = {
        EVENT: np.append(event_ranks(events, parts=parts), events - 1),
        BEGIN: entry_ranks(begins - seen.earliest, parts=parts) + seen.earliest,
        **{moment: entry_ranks(count, parts=parts) for moment, count in summing.entries().items()},
    }
    return {moment: one for moment, one in ranks.items() if one.size}


def _cuts_at(times: Mapping[Moment, Floats], late: int) -> Floats:
    """Take the default cuts from the times at their ranks, the last of them that of all events."""
    at, _, after = times[EVENT]
    pairs = [np.stack([at[:-1], after[:-1]])]
    for moment, (entered, before, _) in times.items():
        if moment != EVENT:
            # The last begins are those of the median.
            count = late if moment == BEGIN else entered.size
            pairs.append(np.stack([before[:count], entered[:count]]))
    return cuts_between(np.concatenate(pairs, axis=1), float(at[-1]))


def _at_nodes(sums: Floats, grouping: Grouping) -> Floats:
    """Turn sums by moment into sums at the nodes; without compression there is one of each."""
    return sums if grouping.compression is None else grouping.compression.from_moments(sums)


def _left_out(
    summing: Summing, question: Question, names: Sequence[str], seen: Survey
) -> tuple[LeftOut, ...]:
    """Count who does not contribute, and name the first few."""
    return tuple(
        LeftOut(
            endpoint=name,
            reason=reason,
            patients=summing.left_out(e, index),
            count=int(seen.reasons[e, index]),
        )
        for e, name in enumerate(names)
        for index, reason in enumerate(reasons(question))
        if seen.reasons[e, index]
    )


def _nothing() -> Grouping:
    """Put everybody into one group."""
    return Grouping(
        codes=np.zeros(1, dtype=np.int64),
        group=np.zeros(1, dtype=np.int64),
        terms=Terms(names=(), continuous=(), design=np.zeros((1, 0))),
        described=(),
        compression=None,
    )


def _grouping(scan: CohortScan, seen: Survey, compress: bool | None) -> Grouping:
    """Say which pattern each code is, and whether continuous covariates are compressed."""
    names = scan.continuous
    bounds = dict(zip(names, zip(seen.low.tolist(), seen.high.tolist(), strict=True), strict=True))
    declared = []
    for one in scan.covariates:
        low, high = bounds.get(one.name, (0.0, 0.0))
        declared.append(
            CovariateTerms(name=one.name, kind=one.kind, levels=one.levels, low=low, high=high)
        )
    described, terms, group = groups_of_codes(declared, seen.codes)
    varying = np.flatnonzero(seen.high > seen.low)
    compression = None
    if varying.size:
        if compress is False:
            raise SpecError(
                "In a query engine continuous covariates are compressed: leave compress=False "
                "out, make the covariate categorical, or read the patients with read_cohort."
            )
        compression = nodes_for(
            [names[index] for index in varying.tolist()],
            seen.low[varying],
            seen.high[varying],
            seen.sd[varying],
        )
    return Grouping(
        codes=seen.codes,
        group=group,
        terms=terms,
        described=tuple(described),
        compression=compression,
    )


def _cohort_of(frame: pd.DataFrame, scan: CohortScan) -> Cohort:
    """Make a cohort of some patients, with all that was declared of them."""

    def numbers(column: str) -> Floats:
        return frame[column].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)

    phases = range(len(scan.phases))
    return Cohort(
        patients=frame["id"].to_numpy(dtype=str),
        unit=scan.unit,
        # All of them: phases may last beyond the follow-up of those that are asked about.
        endpoints={
            name: Outcome(
                time=numbers(f"time:{name}"),
                event=frame[f"event:{name}"].to_numpy(dtype=bool),
                entry=numbers(f"entry:{name}"),
                recorded=columns.recorded,
                includes=tuple(columns.includes),
            )
            for name, columns in scan.endpoints.items()
        },
        phases=scan.phases,
        phase_start=np.stack([numbers(f"start{index}") for index in phases], axis=1),
        phase_end=np.stack([numbers(f"end{index}") for index in phases], axis=1),
        phase_ends_known=scan.phase_ends_known,
        transplant=None if scan.transplant is None else numbers("transplant"),
        covariates={
            name: Covariate(kind="continuous", values=numbers(f"x{index}"))
            for index, name in enumerate(scan.continuous)
        },
        synthetic=scan.synthetic,
        source=scan.source,
    )
