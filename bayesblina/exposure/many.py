"""Events and person-time of many patients in memory, summed in one pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.cohort import Cohort
from bayesblina.compression import Compression, number_of_patterns, plan
from bayesblina.exposure.assembling import Sums, assemble, by_pattern, require_contents_of
from bayesblina.exposure.patterns import (
    CovariateTerms,
    Terms,
    compressed_terms,
    covariate_patterns,
    describe_covariates,
    levels_of_codes,
    terms_of,
    unique_rows,
)
from bayesblina.exposure.singles import patients_in_groups
from bayesblina.exposure.value import Exposure, Lazily
from bayesblina.intervals import default_cuts
from bayesblina.question import Question, bind
from bayesblina.segments import course_of
from bayesblina.tabulation import (
    AT_RISK,
    AtRisk,
    Tally,
    Tallying,
    at_risk,
    bounds_of,
    moments_by_group,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    """Groups in which patients are summed; patterns, unless covariates are compressed."""

    group: NDArray[np.int32]
    groups: int
    terms: Terms
    compression: Compression | None
    scaled: Floats | None


def expose_many(
    cohort: Cohort,
    question: Question,
    *,
    cuts: Floats | None,
    phase_cuts: Floats | None,
    weight: Floats | None,
    compress: bool | None,
) -> Exposure:
    """Sum events and person-time in one pass; single patients are looked at when asked for.

    Parameters
    ----------
    cohort, question, compress
        As for `bayesblina.expose`.
    cuts : ndarray, shape (interval - 1,), or None
        Inner cut points; None for quantiles of the event times.
    phase_cuts : ndarray, shape (n_pieces - 1,), or None
        Times since entering the exposed phase at which it is cut.
    weight : ndarray, shape (patient,), or None
        Weights of the cohort's patients.

    Returns
    -------
    Exposure
        As patient by patient, up to rounding.

    Raises
    ------
    DataError
        If there is nothing to compare, or conservation fails.
    SpecError
        If the question cannot be asked of the cohort.
    """
    names = bind(question, cohort)
    course = course_of(cohort, question, phase_cuts)
    # Compiled code leaves other threads free: endpoints are summed side by side.
    with ThreadPoolExecutor(max_workers=len(names)) as threads:
        risks = list(threads.map(lambda name: at_risk(cohort, course, name), names))
        bounds = list(threads.map(lambda risk: bounds_of(risk, weight), risks))
    if cuts is None:
        times = [risk.stop[risk.event] for risk in risks]
        cuts = default_cuts(np.concatenate(times), endpoints=len(names))
    anywhere = np.logical_or.reduce([risk.reason == AT_RISK for risk in risks])
    used = np.flatnonzero(anywhere)
    if not used.size:
        # Nothing to group: the check below says so.
        anywhere[:] = True
        used = np.arange(cohort.size)
    described = describe_covariates(cohort, used)
    found = _group(cohort, used, described, compress)
    degrees: tuple[int, ...] = ()
    if found.compression is not None:
        degrees = tuple(axis.nodes for axis in found.compression.axes)

    def tally(risk: AtRisk) -> Tally:
        summed = Tallying(course, cuts=cuts, groups=found.groups, degrees=degrees)
        summed.add(cohort, risk, found.group, weight=weight, scaled=found.scaled)
        return summed.tally()

    with ThreadPoolExecutor(max_workers=len(names)) as threads:
        tallies = list(threads.map(tally, risks))
    node = None
    terms = found.terms
    if found.compression is not None:
        terms, node = compressed_terms(found.terms, found.compression)
    sums = Sums(
        events=by_pattern([one.events for one in tallies], found.compression, whole=weight is None),
        exposure=np.asarray(
            by_pattern([one.exposure for one in tallies], found.compression, whole=False),
            dtype=np.float64,
        ),
        first_in=np.stack([one.first for one in tallies]),
        longest_in=np.stack([one.longest for one in tallies]),
        visitors=np.stack([one.visitors for one in tallies]),
        contributors=np.array([one.reasons[AT_RISK] for one in bounds]),
        left_out=np.array([one.reasons[:AT_RISK].sum() for one in bounds]),
        first_begin=np.array([one.first_begin for one in bounds]),
        last_exit=np.array([one.last_exit for one in bounds]),
        time_at_risk=np.array([one.time_at_risk for one in bounds]),
        event_count=np.array([one.events for one in bounds]),
        patients=_counts(found, anywhere),
    )
    require_contents_of(names, course.phase_names, sums, question)
    table = assemble(
        names,
        course.states,
        course.phase_names,
        course.since,
        sums,
        cuts=cuts,
        terms=terms,
        node=node,
        covariates=described,
        question=question,
        compression=found.compression,
        size=cohort.size,
        weighted=weight is not None and bool((weight[used] != 1.0).any()),
    )
    phases = tuple(str(name) for name in table["phase"].values)
    return Exposure(
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
                group=found.group,
                terms=found.terms,
                compression=found.compression,
                phases=phases,
            )
        ),
    )


def _group(
    cohort: Cohort, used: Ints, described: list[CovariateTerms], compress: bool | None
) -> _Groups:
    """Group patients by categorical covariates, and by continuous ones unless compressed."""
    continuous = [one for one in described if one.kind == "continuous" and one.high > one.low]
    code = np.zeros(cohort.size, dtype=np.int64)
    codes = 1
    for one in described:
        if one.kind == "categorical" and len(one.levels) > 1:
            covariate = cohort.covariates[one.name]
            place = np.zeros(len(covariate.levels), dtype=np.int64)
            for index, level in enumerate(one.levels):
                place[covariate.levels.index(level)] = index
            code = code * len(one.levels) + place[covariate.values.astype(np.int64)]
            codes *= len(one.levels)
    present, group = _present(code, used, codes)
    values = levels_of_codes(described, present)
    for one in continuous:
        values[one.name] = np.zeros(present.size)
    unordered = terms_of(described, values, size=present.size)
    design, order = unique_rows(unordered.design)
    categories = Terms(names=unordered.names, continuous=unordered.continuous, design=design)
    numbers = order[group].astype(np.int32)
    if not continuous:
        return _Groups(
            group=numbers,
            groups=design.shape[0],
            terms=categories,
            compression=None,
            scaled=None,
        )
    found = None
    if compress is not False:
        columns = [cohort.covariates[one.name].values for one in continuous]
        different = [pd.unique(column[used]).size for column in columns]
        found = plan(
            [one.name for one in continuous],
            np.array([one.low for one in continuous]),
            np.array([one.high for one in continuous]),
            np.array([column[used].std() for column in columns]),
            patterns=number_of_patterns(design.shape[0], different, used.size),
            groups=design.shape[0],
            always=compress is True,
        )
    if found is not None:
        scaled = [axis.scaled(column) for axis, column in zip(found.axes, columns, strict=True)]
        return _Groups(
            group=numbers,
            groups=design.shape[0],
            terms=categories,
            compression=found,
            scaled=np.stack(scaled, axis=1),
        )
    pattern, terms = covariate_patterns(cohort, used)
    exact = np.zeros(cohort.size, dtype=np.int32)
    exact[used] = pattern
    return _Groups(
        group=exact, groups=terms.design.shape[0], terms=terms, compression=None, scaled=None
    )


def _present(code: Ints, used: Ints, codes: int) -> tuple[Ints, Ints]:
    """Codes that occur among the patients used, and the position of each patient's code there."""
    if codes > code.size:
        present = np.unique(code[used])
        return present, np.clip(np.searchsorted(present, code), 0, present.size - 1)
    present = np.flatnonzero(np.bincount(code[used], minlength=codes))
    position = np.zeros(codes, dtype=np.int64)
    position[present] = np.arange(present.size)
    return present, position[code]


def _counts(found: _Groups, anywhere: NDArray[np.bool_]) -> Floats:
    """Patients by pattern."""
    compression = found.compression
    degrees = () if compression is None else tuple(axis.nodes for axis in compression.axes)
    total = moments_by_group(
        anywhere, found.group, groups=found.groups, scaled=found.scaled, degrees=degrees
    )
    return (total if compression is None else compression.from_moments(total)).ravel()
