"""Patients of a scan to an `PersonTime`: what is summed, in which groups and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.episodes import AT_RISK
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import (
    cuts_between,
    entry_ranks,
    event_ranks,
    number_of_intervals,
    round_up,
)
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.scan import CohortScan
from bayesblina.patients.scan.passes import PARTS, on_executors
from bayesblina.patients.scan.settling import STAYS, stays_of_lists, type_of_lists
from bayesblina.person_time.binding import bind
from bayesblina.person_time.cells.assembling import (
    Sums,
    assemble,
    by_pattern,
    includes_of,
    recorded_of,
    require_contents_of,
)
from bayesblina.person_time.cells.blocks import Blocks
from bayesblina.person_time.cells.finer import (
    LARGEST_FINER,
    finer_cuts,
    recorded_times,
    spacing,
)
from bayesblina.person_time.cells.ordered import BEGIN, EVENT, Moment
from bayesblina.person_time.cells.patterns import (
    CovariateTerms,
    Terms,
    groups_of_codes,
)
from bayesblina.person_time.cells.people import Lazily
from bayesblina.person_time.cells.ranks import order_statistics
from bayesblina.person_time.cells.singles import patients_in_groups
from bayesblina.person_time.cells.summing import Grouping, GroupSums, group_sums
from bayesblina.person_time.cells.survey import Survey, survey
from bayesblina.person_time.cells.value import PersonTime
from bayesblina.person_time.compression import compress as nodes_for
from bayesblina.person_time.follow_up import LeftOut, effect_kinds
from bayesblina.person_time.question import Question
from bayesblina.person_time.segments import course_of, reasons


def tabulate_scan(
    scan: CohortScan,
    question: Question,
    *,
    cuts: Floats | None,
    phase_cuts: Floats | None,
    compress: bool | None,
    landmarks: Sequence[float],
) -> PersonTime:
    """Sum events and person-time where the patients are.

    As in memory, up to rounding; of single patients it holds a sample.

    `cuts`, shape (interval - 1,): inner cut points; None for the default ones.
    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which it is cut.
    """
    scan.require_unchanged()
    names = bind(question, scan)
    course = course_of(scan, question, phase_cuts)
    # Entries are looked for where cuts are placed by them.
    effects = effect_kinds(course.phase_names, question) if cuts is None else ()
    blocks = Blocks(scan, course, names, effects)
    seen = survey(blocks)
    # Where nobody contributes, the check below says so.
    grouping = _grouping(scan, seen, compress) if seen.codes.size else _nothing()
    median, cuts = _median_and_cuts(blocks, seen, cuts)
    usual = median if question.landmark is None else question.landmark
    moments = np.unique([usual, *landmarks])
    sample = seen.sample(blocks.columns())
    step = spacing(recorded_times(sample, course))
    last = max(bound.last_exit for bound in seen.bounds)
    parts = finer_cuts(cuts, last, most=_most_parts(blocks, grouping), step=step)
    sums = group_sums(blocks, grouping, parts, moments)
    scan.require_unchanged()
    totals = _totals(scan, seen, sums, grouping)
    table = _table(blocks, question, _by_interval(totals, parts, cuts), grouping, cuts)
    states = [str(name) for name in course.states]
    kept = [str(name) for name in table["phase"].values]
    held = patients_in_groups(
        _cohort_of(sample, scan),
        replace(question, endpoints=tuple(names)),
        phase_cuts=phase_cuts,
        weight=None,
        group=grouping.group_of(sample["code"].to_numpy(dtype=np.int64)),
        terms=grouping.terms,
        compression=grouping.compression,
        phases=kept,
    )
    left_out = _left_out(seen, question, names)
    return PersonTime(
        table=table,
        unit=scan.unit,
        synthetic=scan.synthetic,
        patients=Lazily.of(replace(held, left_out=left_out, complete=False)),
        risk_sets=_risk_sets(table, grouping, sums, moments, median),
        finer=_finer(totals, parts, [states.index(name) for name in kept], step),
    )


def _median_and_cuts(blocks: Blocks, seen: Survey, cuts: Floats | None) -> tuple[float, Floats]:
    """Find when time at risk begins, the median rounded up as a landmark, and the default cuts."""
    ranks = {} if cuts is not None else _ranks_of_cuts(seen)
    begins = int(seen.bins[BEGIN].sum())
    of_cuts = ranks.get(BEGIN, np.empty(0, dtype=np.int64))
    if not begins:
        return 0.0, np.empty(0) if cuts is None else cuts
    middle = np.array([(begins - 1) // 2, begins // 2])
    ranks[BEGIN] = np.append(of_cuts, middle)
    times = order_statistics(blocks, seen, ranks)
    median = round_up(float(times[BEGIN][0, of_cuts.size :].mean()))
    if cuts is None:
        cuts = _cuts_at(times, of_cuts.size) if EVENT in times else np.empty(0)
    return median, cuts


def _ranks_of_cuts(seen: Survey) -> dict[Moment, Ints]:
    """Say at which ranks the default cuts lie; none where there is no event."""
    counts = {moment: int(bins.sum()) for moment, bins in seen.bins.items()}
    events = counts.pop(EVENT)
    if not events:
        return {}
    parts = number_of_intervals(events / len(seen.bounds))
    ranks = {EVENT: np.append(event_ranks(events, parts=parts), events - 1)}
    for moment, count in counts.items():
        # Whoever begins first of all does not come late.
        early = seen.earliest[1] if moment == BEGIN else 0
        ranks[moment] = entry_ranks(count - early, parts=parts) + early
    return {moment: rank for moment, rank in ranks.items() if rank.size}


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


def _most_parts(blocks: Blocks, grouping: Grouping) -> int:
    """Say into how many parts time may be cut, so that all sums fit into memory."""
    cells = len(blocks.asked.course.states) * grouping.groups * grouping.moments
    copies = PARTS if on_executors(blocks.scan.table) else 1
    return max(1, LARGEST_FINER // (cells * copies))


def _totals(scan: CohortScan, seen: Survey, sums: GroupSums, grouping: Grouping) -> Sums:
    """Lay out the sums over the finest parts of time."""
    tallies, compression, bounds = sums.tallies(), grouping.compression, seen.bounds
    contributors = np.array([bound.reasons[AT_RISK] for bound in bounds])
    return Sums(
        events=by_pattern([tally.events for tally in tallies], compression, integers=True),
        person_time=np.asarray(
            by_pattern([tally.person_time for tally in tallies], compression, integers=False),
            dtype=np.float64,
        ),
        first_in=np.stack([tally.first for tally in tallies]),
        longest_in=np.stack([tally.longest for tally in tallies]),
        visitors=np.stack([tally.visitors for tally in tallies]),
        contributors=contributors,
        left_out=scan.size - contributors,
        first_begin=np.array([bound.first_begin for bound in bounds]),
        last_exit=np.array([bound.last_exit for bound in bounds]),
        time_at_risk=np.array([bound.time_at_risk for bound in bounds]),
        event_count=np.array([bound.events for bound in bounds]),
        patients=_at_nodes(sums.patients, grouping).ravel(),
    )


def _by_interval(totals: Sums, parts: Floats, cuts: Floats) -> Sums:
    """Add up the parts of each interval, which follow each other from its beginning on."""
    opens = np.searchsorted(np.concatenate([[0.0], parts]), np.concatenate([[0.0], cuts]))
    return replace(
        totals,
        events=np.add.reduceat(totals.events, opens, axis=1),
        person_time=np.add.reduceat(totals.person_time, opens, axis=1),
    )


def _table(
    blocks: Blocks, question: Question, totals: Sums, grouping: Grouping, cuts: Floats
) -> xr.Dataset:
    """Lay out sums by interval as the table of a `PersonTime`."""
    scan, course, names = blocks.scan, blocks.asked.course, blocks.asked.names
    require_contents_of(names, course.phase_names, totals, question)
    return assemble(
        names,
        course.states,
        course.phase_names,
        course.since,
        totals,
        cuts=cuts,
        terms=grouping.terms,
        covariates=grouping.described,
        question=question,
        compression=grouping.compression,
        size=scan.size,
        recorded=recorded_of(scan.endpoints, names),
        includes=includes_of(scan.endpoints, names),
        layout=course.courses,
    )


def _finer(totals: Sums, parts: Floats, kept: Sequence[int], step: float) -> xr.Dataset:
    """Lay out sums over the finest parts of time, of the states that occur."""
    over = ("endpoint", "interval", "phase", "pattern")
    last = float(totals.last_exit.max())
    # Where there is no follow-up after the last cut, any later time.
    end = last if not parts.size or last > parts[-1] else float(parts[-1]) * 2.0
    return xr.Dataset(
        {
            "events": (over, totals.events[:, :, kept]),
            "person_time": (over, totals.person_time[:, :, kept]),
            "interval_start": ("interval", np.concatenate([[0.0], parts])),
            "interval_stop": ("interval", np.append(parts, end)),
            "spacing": ((), step),
        }
    )


def _risk_sets(
    table: xr.Dataset, grouping: Grouping, sums: GroupSums, moments: Floats, median: float
) -> xr.Dataset:
    """Lay out who is at risk at the landmarks."""
    at_risk = _at_nodes(sums.at_risk, grouping)
    over = ("endpoint", "landmark", "pattern")
    return xr.Dataset(
        {"at_risk": (over, at_risk.reshape(*at_risk.shape[:2], -1))},
        coords={
            "endpoint": table["endpoint"].values,
            "landmark": moments,
            "pattern": table["pattern"].values,
        },
        attrs={"median_begin": median},
    )


def _at_nodes(sums: Floats, grouping: Grouping) -> Floats:
    """Turn sums by moment into sums at the nodes; without compression there is one of each."""
    return sums if grouping.compression is None else grouping.compression.from_moments(sums)


def _left_out(seen: Survey, question: Question, names: Sequence[str]) -> tuple[LeftOut, ...]:
    """Count who does not contribute, and name the first few."""
    return tuple(
        LeftOut(
            endpoint=name,
            reason=reason,
            patients=seen.left_out(e, index),
            count=int(seen.bounds[e].reasons[index]),
        )
        for e, name in enumerate(names)
        for index, reason in enumerate(reasons(question))
        if seen.bounds[e].reasons[index]
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
    for covariate in scan.covariates:
        low, high = bounds.get(covariate.name, (0.0, 0.0))
        declared.append(
            CovariateTerms(
                name=covariate.name,
                kind=covariate.kind,
                levels=covariate.levels,
                low=low,
                high=high,
            )
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


def _stays_of(frame: pd.DataFrame, scan: CohortScan) -> Stays | None:
    """Take the stays of some patients; None where each phase starts and ends once."""
    if not scan.recurring:
        return None
    import pyarrow as pa

    return stays_of_lists(pa.array(list(frame[STAYS]), type_of_lists(doses=scan.doses_known)))


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
        stays=_stays_of(frame, scan),
        ordered=scan.ordered,
        transplant=None if scan.transplant is None else numbers("transplant"),
        covariates={
            name: Covariate(kind="continuous", values=numbers(f"x{index}"))
            for index, name in enumerate(scan.continuous)
        },
        synthetic=scan.synthetic,
        source=scan.source,
    )
