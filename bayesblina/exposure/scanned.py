"""Patients of a scan to an `Exposure`: what is summed, in which groups and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesblina.cohort import Cohort, Covariate, Outcome
from bayesblina.compression import compress as nodes_for
from bayesblina.errors import SpecError
from bayesblina.exposure.assembling import (
    Sums,
    assemble,
    by_pattern,
    recorded_of,
    require_contents_of,
)
from bayesblina.exposure.engine_sums import EngineSums
from bayesblina.exposure.patterns import (
    CovariateTerms,
    Terms,
    groups_of_codes,
)
from bayesblina.exposure.singles import patients_in_groups
from bayesblina.exposure.streamed import StreamedSums
from bayesblina.exposure.summing import Grouping, Moment, Summing, Survey
from bayesblina.exposure.value import Exposure, Lazily
from bayesblina.follow_up import LeftOut
from bayesblina.intervals import cuts_among, number_of_intervals
from bayesblina.question import Question, bind
from bayesblina.scan import CohortScan
from bayesblina.segments import course_of, reasons
from bayesblina.tabulation import AT_RISK

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
        If there is nothing to compare, files have changed, or conservation fails.
    SpecError
        If the question cannot be asked of the patients.
    """
    scan.require_unchanged()
    names = bind(question, scan)
    course = course_of(scan, question, phase_cuts)
    summing: Summing = (StreamedSums if scan.embedded else EngineSums)(scan, course, names)
    seen = summing.survey()
    contributors = seen.reasons[:, AT_RISK]
    # Where nobody contributes, the check below says so.
    grouping = _grouping(scan, seen, compress) if contributors.any() else _nothing()
    if cuts is None:
        cuts = np.empty(0)
        count = number_of_intervals(float(seen.events.sum()) / len(names))
    else:
        count = 1
    ranks: dict[Moment, Ints] = {}
    total = int(seen.events.sum())
    if count > 1:
        # The smallest time that at least this share of the events do not exceed, and the last.
        inner = np.ceil(np.arange(1, count) / count * total - 1e-9).astype(np.int64) - 1
        ranks["event"] = np.append(inner, total - 1)
    people = int(contributors.sum())
    if people:
        ranks["begin"] = np.array([(people - 1) // 2, people // 2])
    times = summing.order_statistics(ranks) if ranks else {}
    if count > 1:
        cuts = cuts_among(times["event"][:-1], float(times["event"][-1]))
    median = float(times["begin"].mean()) if people else 0.0
    usual = median if question.landmark is None else question.landmark
    moments = np.unique([float(usual), *(float(time) for time in landmarks)])
    sums = summing.sums(grouping, cuts, moments)
    scan.require_unchanged()
    compression = grouping.compression
    whole = by_pattern([*sums.events], compression, whole=True)
    totals = Sums(
        events=whole,
        exposure=np.asarray(
            by_pattern([*sums.exposure], compression, whole=False), dtype=np.float64
        ),
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
    return Exposure(
        table=table,
        unit=scan.unit,
        synthetic=scan.synthetic,
        patients=Lazily.of(replace(held, left_out=left_out, complete=False)),
        risk_sets=risk_sets,
    )


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
