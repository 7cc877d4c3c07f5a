"""Events and person-time of many patients in memory, summed in one pass."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.episodes import AT_RISK
from bayesblina.core.intervals import default_cuts
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.binding import bind
from bayesblina.person_time.cells.assembling import (
    Sums,
    assemble,
    by_pattern,
    includes_of,
    recorded_of,
    require_contents_of,
)
from bayesblina.person_time.cells.patterns import (
    CovariateTerms,
    Terms,
    covariate_patterns,
    groups_of_codes,
)
from bayesblina.person_time.cells.people import Lazily
from bayesblina.person_time.cells.singles import patients_in_groups
from bayesblina.person_time.cells.value import PersonTime
from bayesblina.person_time.compression import Compression, number_of_patterns, plan
from bayesblina.person_time.follow_up import effect_kinds, late_begins
from bayesblina.person_time.question import Question
from bayesblina.person_time.segments import Course, course_of
from bayesblina.person_time.tabulation import (
    AtRisk,
    BlockPart,
    Bounds,
    Tallying,
    at_risk,
    block_of,
    bounds_of,
    entries_of,
    merged,
    merged_bounds,
    moments_by_group,
    part_of,
)

# Patients who are summed by one thread at a time.
PART = 500_000
# More combinations of levels than this are looked for among the patients first.
LISTED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    """Groups in which patients are summed; patterns, unless covariates are compressed."""

    group: NDArray[np.int32]
    groups: int
    terms: Terms
    described: tuple[CovariateTerms, ...]
    compression: Compression | None
    scaled: Floats | None

    @property
    def degrees(self) -> tuple[int, ...]:
        """Numbers of polynomials of the compressed covariates."""
        return () if self.compression is None else self.compression.degrees


def tabulate_many(
    cohort: Cohort,
    question: Question,
    *,
    cuts: Floats | None,
    phase_cuts: Floats | None,
    weight: Floats | None,
    compress: bool | None,
) -> PersonTime:
    """Sum events and person-time in one pass; single patients are looked at when asked for.

    `cuts`, shape (interval - 1,): inner cut points; None for the default ones.
    `phase_cuts`, shape (n_pieces - 1,): times since entering the exposed phase at which it is cut.
    """
    names = bind(question, cohort)
    course = course_of(cohort, question, phase_cuts)
    block = block_of(cohort, course)
    parts = [part_of(block, slice(first, first + PART)) for first in range(0, cohort.size, PART)]
    # Compiled code leaves other threads free: parts are summed side by side, and put together in
    # their order.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        risks = [
            list(threads.map(partial(at_risk, course=course, endpoint=name), parts))
            for name in names
        ]
        bounds = [
            merged_bounds(list(threads.map(bounds_of, by_part, _weights(weight, parts))))
            for by_part in risks
        ]
    if cuts is None:
        cuts = _default_cuts(parts, risks, course, question)
    anywhere = np.concatenate(
        [
            np.logical_or.reduce([risk.reason == AT_RISK for risk in same_part])
            for same_part in zip(*risks, strict=True)
        ]
    )
    if not anywhere.any():
        # Nothing to group: the check below says so.
        anywhere[:] = True
    groups = _group(cohort, anywhere, compress)
    sums = _sums(parts, risks, bounds, course, groups, anywhere, cuts=cuts, weight=weight)
    require_contents_of(names, course.phase_names, sums, question)
    table = assemble(
        names,
        course.states,
        course.phase_names,
        course.since,
        sums,
        cuts=cuts,
        terms=groups.terms,
        covariates=groups.described,
        question=question,
        compression=groups.compression,
        size=cohort.size,
        weighted=weight is not None and bool((weight[anywhere] != 1.0).any()),
        recorded=recorded_of(cohort.endpoints, names),
        includes=includes_of(cohort.endpoints, names),
        layout=course.courses,
    )
    if cohort.persons is not None:
        table.attrs["persons"] = int(np.unique(cohort.persons[anywhere]).size)
    phases = tuple(str(name) for name in table["phase"].values)
    return PersonTime(
        table=table,
        unit=cohort.unit,
        synthetic=cohort.synthetic,
        patients=Lazily(
            partial(
                patients_in_groups,
                cohort,
                question,
                phase_cuts=phase_cuts,
                weight=weight,
                group=groups.group,
                terms=groups.terms,
                compression=groups.compression,
                phases=phases,
            )
        ),
    )


def _sums(
    parts: Sequence[BlockPart],
    risks: Sequence[Sequence[AtRisk]],
    bounds: Sequence[Bounds],
    course: Course,
    groups: _Groups,
    anywhere: Bools,
    *,
    cuts: Floats,
    weight: Floats | None,
) -> Sums:
    """Sum events and person-time of all endpoints, part by part of the patients."""

    def tallied(part: BlockPart, risk: AtRisk) -> Tallying:
        summed = Tallying(course, cuts=cuts, groups=groups.groups, degrees=groups.degrees)
        rows = part.rows
        summed.add(
            part,
            risk,
            groups.group[rows],
            weight=None if weight is None else weight[rows],
            scaled=None if groups.scaled is None else groups.scaled[rows],
        )
        return summed

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        tallies = [
            merged(list(threads.map(tallied, parts, risk_by_part))) for risk_by_part in risks
        ]
    compression = groups.compression
    events = by_pattern([tally.events for tally in tallies], compression, integers=weight is None)
    person_time = by_pattern([tally.person_time for tally in tallies], compression, integers=False)
    return Sums(
        events=events,
        person_time=np.asarray(person_time, dtype=np.float64),
        first_in=np.stack([tally.first for tally in tallies]),
        longest_in=np.stack([tally.longest for tally in tallies]),
        visitors=np.stack([tally.visitors for tally in tallies]),
        contributors=np.array([bound.reasons[AT_RISK] for bound in bounds]),
        left_out=np.array([bound.reasons[:AT_RISK].sum() for bound in bounds]),
        first_begin=np.array([bound.first_begin for bound in bounds]),
        last_exit=np.array([bound.last_exit for bound in bounds]),
        time_at_risk=np.array([bound.time_at_risk for bound in bounds]),
        event_count=np.array([bound.events for bound in bounds]),
        patients=_counts(groups, anywhere),
    )


def _default_cuts(
    parts: Sequence[BlockPart],
    risks: Sequence[Sequence[AtRisk]],
    course: Course,
    question: Question,
) -> Floats:
    """Choose cut points from the times of events and entries."""
    effects = effect_kinds(course.phase_names, question)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
        entered = [
            entries
            for by_part in risks
            for entries in threads.map(
                partial(entries_of, course=course, effects=effects), parts, by_part
            )
        ]
    each = [risk for by_part in risks for risk in by_part]
    begin = np.concatenate([risk.begin[risk.reason == AT_RISK] for risk in each])
    return default_cuts(
        np.concatenate([risk.stop[risk.event] for risk in each]),
        endpoints=len(risks),
        entry_times=[*map(np.concatenate, zip(*entered, strict=True)), late_begins(begin)],
    )


def _weights(weight: Floats | None, parts: Sequence[BlockPart]) -> list[Floats | None]:
    """Weights of the parts' patients."""
    return [None if weight is None else weight[part.rows] for part in parts]


def _group(cohort: Cohort, anywhere: Bools, compress: bool | None) -> _Groups:
    """Group patients by categorical covariates, and by continuous ones unless compressed."""
    code, present, declared = _codes(cohort)
    codes = present.size
    occurs = moments_by_group(anywhere, code, groups=codes)[:, 0] > 0
    for name, covariate in cohort.covariates.items():
        if covariate.kind == "continuous":
            inside = covariate.values[anywhere]
            low, high = float(inside.min()), float(inside.max())
            declared[name] = CovariateTerms(name=name, kind="continuous", low=low, high=high)
    described, terms, order = groups_of_codes(
        [declared[name] for name in cohort.covariates], present[occurs]
    )
    continuous = [axis for axis in described if axis.kind == "continuous" and axis.high > axis.low]
    position = np.zeros(codes, dtype=np.int32)
    position[occurs] = order
    groups = _Groups(
        group=position[code],
        groups=terms.design.shape[0],
        terms=terms,
        described=tuple(described),
        compression=None,
        scaled=None,
    )
    if not continuous:
        return groups
    used = np.flatnonzero(anywhere)
    compression = None
    if compress is not False:
        columns = [cohort.covariates[axis.name].values for axis in continuous]
        different = [pd.unique(column[used]).size for column in columns]
        compression = plan(
            [axis.name for axis in continuous],
            np.array([axis.low for axis in continuous]),
            np.array([axis.high for axis in continuous]),
            np.array([column[used].std() for column in columns]),
            patterns=number_of_patterns(groups.groups, different, used.size),
            groups=groups.groups,
            always=compress is True,
        )
    if compression is not None:
        scaled = [
            axis.scaled(column) for axis, column in zip(compression.axes, columns, strict=True)
        ]
        return replace(groups, compression=compression, scaled=np.stack(scaled, axis=1))
    pattern, terms = covariate_patterns(cohort, used)
    exact = np.zeros(cohort.size, dtype=np.int32)
    exact[used] = pattern
    return replace(groups, group=exact, groups=terms.design.shape[0], terms=terms)


def _codes(cohort: Cohort) -> tuple[NDArray[np.int32], Ints, dict[str, CovariateTerms]]:
    """Look up each patient's combination of levels, the last covariate fastest.

    Returned are its position in the list of combinations, this list, and the covariates.
    """
    declared = {
        name: CovariateTerms(name=name, kind="categorical", levels=covariate.levels)
        for name, covariate in cohort.covariates.items()
        if covariate.kind == "categorical"
    }
    codes = math.prod(len(covariate.levels) for covariate in declared.values())

    def add_up(code: NDArray[Any]) -> NDArray[Any]:
        for covariate in declared.values():
            np.multiply(code, len(covariate.levels), out=code)
            # As whole numbers: floating-point ones would round the larger codes.
            np.add(code, cohort.covariates[covariate.name].values.astype(code.dtype), out=code)
        return code

    if codes <= LISTED:
        return add_up(np.zeros(cohort.size, dtype=np.int32)), np.arange(codes), declared
    present, position = np.unique(
        add_up(np.zeros(cohort.size, dtype=np.int64)), return_inverse=True
    )
    return position.astype(np.int32), present, declared


def _counts(groups: _Groups, anywhere: Bools) -> Floats:
    """Patients by pattern."""
    total = moments_by_group(
        anywhere,
        groups.group,
        groups=groups.groups,
        scaled=groups.scaled,
        degrees=groups.degrees,
    )
    compression = groups.compression
    return (total if compression is None else compression.from_moments(total)).ravel()
