"""Events and person-time of a cohort, patient by patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.intervals import interval_of, person_time_by_group, split
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells.assembling import Sums, assemble, includes_of, recorded_of
from bayesblina.person_time.cells.found import find_visits
from bayesblina.person_time.cells.patterns import (
    Terms,
    covariate_patterns,
    describe_covariates,
    unique_rows,
)
from bayesblina.person_time.cells.people import Lazily, Patients
from bayesblina.person_time.cells.value import PersonTime
from bayesblina.person_time.compression import Compression, number_of_patterns, plan
from bayesblina.person_time.follow_up import Episodes
from bayesblina.person_time.question import Question
from bayesblina.person_time.visits import Gaps


def tabulate_each(
    cohort: Cohort,
    question: Question,
    episodes: Mapping[str, Episodes],
    *,
    cuts: Floats,
    by_patient: bool,
    weight: Floats | None,
    courses: tuple[str, str] | None,
    compress: bool | None,
    grids: Mapping[str, Floats] = MappingProxyType({}),
) -> PersonTime:
    """Sum events and person-time from episodes.

    `grids`: by endpoint whose hazard is constant over several intervals, where it changes.
    """
    used = np.unique(np.concatenate([own.whole[0] for own in episodes.values()]))
    pattern, terms = covariate_patterns(cohort, used, by_patient=by_patient)
    described = describe_covariates(cohort, used)
    sums = _sums(cohort, episodes, used, pattern, terms.design.shape[0], cuts=cuts, weight=weight)
    labelled = next(iter(episodes.values()))
    patients = single_patients(cohort, episodes, used, weight=weight)
    compression, exact = None, terms
    if compress is not False and not by_patient:
        categories, category, compression = plan_of(terms, pattern, always=compress is True)
    if compression is None:
        people = patients.people.assign(pattern=("patient", pattern), category=("patient", pattern))
    else:
        sums = _compressed(sums, exact, category, categories.design.shape[0], compression)
        terms = categories
        people = patients.people.assign(
            category=("patient", category[pattern] * compression.size),
            design=(("patient", "term"), exact.design[pattern]),
        ).assign_coords(term=np.asarray(exact.names, dtype=str))
    table = assemble(
        list(episodes),
        labelled.phases,
        labelled.phase_names,
        labelled.since,
        sums,
        cuts=cuts,
        terms=terms,
        covariates=described,
        question=question,
        compression=compression,
        size=cohort.size if labelled.persons is None else int(labelled.persons.max()) + 1,
        by_patient=by_patient,
        weighted=weight is not None and bool((weight[used] != 1.0).any()),
        spread=any(own.gaps is not None for own in episodes.values()),
        courses=courses,
        recorded=recorded_of(cohort.endpoints, list(episodes), courses),
        includes=includes_of(cohort.endpoints, list(episodes)),
        layout=labelled.layout,
    )
    if cohort.persons is not None:
        table.attrs["persons"] = int(np.unique(cohort.persons[used]).size)
    if cohort.period is not None:
        table.attrs["period"] = cohort.period
    # States that nobody is ever in have no entry.
    position = {name: index for index, name in enumerate(table["phase"].values.tolist())}
    number = np.array([position.get(name, -1) for name in labelled.phases], dtype=np.int64)
    held = Patients(
        people=people,
        episodes=patients.episodes.assign(
            phase=("episode", number[patients.episodes["phase"].values])
        ),
        left_out=patients.left_out,
    )
    whole = PersonTime(
        table=table, unit=cohort.unit, synthetic=cohort.synthetic, patients=Lazily.of(held)
    )
    if not any(own.gaps is not None and own.gaps.events for own in episodes.values()):
        return whole
    visits = find_visits(whole, grids, starts_prove=question.starts_until == "event")
    return replace(whole, visits=visits)


def plan_of(terms: Terms, pattern: Ints, *, always: bool) -> tuple[Terms, Ints, Compression | None]:
    """Decide whether continuous covariates are compressed.

    `pattern`, shape (patient,): pattern of each patient.
    Result: `categories`: terms of the groups of patients with equal categorical covariates; 0 for
    the others.
    `category`, shape (pattern,): group of each pattern.
    `compression`: None where covariates stay as they are.
    """
    continuous = np.array(terms.continuous, dtype=bool)
    design, category = unique_rows(np.where(continuous, 0.0, terms.design))
    categories = Terms(names=terms.names, continuous=terms.continuous, design=design)
    if not continuous.any():
        return categories, category, None
    values = terms.design[:, continuous]
    patients = np.bincount(pattern, minlength=values.shape[0])
    mean = np.average(values, axis=0, weights=patients)
    sd = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=patients))
    names = [name for name, varies in zip(terms.names, terms.continuous, strict=True) if varies]
    compression = plan(
        names,
        values.min(axis=0),
        values.max(axis=0),
        sd,
        patterns=number_of_patterns(
            design.shape[0],
            [np.unique(column).size for column in values.T],
            int(patients.sum()),
        ),
        groups=design.shape[0],
        always=always,
    )
    return categories, category, compression


def _compressed(
    sums: Sums, exact: Terms, category: Ints, groups: int, compression: Compression
) -> Sums:
    """Spread the patterns of each group over the nodes."""
    axes = [exact.names.index(axis.name) for axis in compression.axes]
    weights = compression.projection(exact.design[:, axes])

    def spread(values: NDArray[np.generic]) -> Floats:
        parts = [
            values[..., category == group] @ weights[category == group] for group in range(groups)
        ]
        return np.concatenate(parts, axis=-1)

    return replace(
        sums,
        events=spread(sums.events),
        person_time=spread(sums.person_time),
        patients=spread(sums.patients),
    )


def _sums(
    cohort: Cohort,
    episodes: Mapping[str, Episodes],
    used: Ints,
    pattern: Ints,
    patterns: int,
    *,
    cuts: Floats,
    weight: Floats | None,
) -> Sums:
    new_position = np.full(cohort.size, -1, dtype=np.int64)
    new_position[used] = np.arange(used.size)
    labelled = next(iter(episodes.values()))
    states, intervals = len(labelled.phases), cuts.size + 1
    shape = (len(episodes), intervals, states, patterns)
    person_time = np.zeros(shape)
    exact = all(own.gaps is None for own in episodes.values())
    events = np.zeros(shape, dtype=np.int64 if weight is None and exact else np.float64)
    by_state = (len(episodes), states)
    first_in, longest_in = np.full(by_state, np.inf), np.zeros(by_state)
    visitors = np.zeros(by_state, dtype=np.int64)
    totals: list[dict[str, float]] = []
    for index, own in enumerate(episodes.values()):
        group = own.phase * patterns + pattern[new_position[own.patient]]
        counted, at_risk = _exact_sums(own, group, states * patterns, cuts=cuts, weight=weight)
        if own.gaps is not None:
            group = own.gaps.phase * patterns + pattern[new_position[own.gaps.patient]]
            counted, at_risk = _with_gaps(own.gaps, group, counted, at_risk, cuts, weight)
        events[index], person_time[index] = counted.reshape(shape[1:]), at_risk.reshape(shape[1:])
        patient, phase, start, stop, *_ = own.whole
        np.minimum.at(first_in[index], phase, start)
        np.maximum.at(longest_in[index], phase, stop - start)
        person = own.persons_of(patient)
        seen = np.unique(person * states + phase)
        visitors[index] = np.bincount(seen % states, minlength=states)
        spent, died = own.time_at_risk, float(own.events)
        if weight is not None:
            who, *_, shares, times = own.counts
            spent, died = (float((weight[who] * each).sum()) for each in (times, shares))
        totals.append(
            {
                "contributors": float(np.unique(person).size),
                "out": float(sum(left.size for left in own.left_out)),
                "first": float(start.min(initial=np.inf)),
                "last": float(stop.max(initial=0.0)),
                "time": spent,
                "events": died,
            }
        )
    columns = pd.DataFrame(totals)
    return Sums(
        events=events,
        person_time=person_time,
        first_in=first_in,
        longest_in=longest_in,
        visitors=visitors,
        contributors=columns["contributors"].to_numpy(np.int64),
        left_out=columns["out"].to_numpy(np.int64),
        first_begin=columns["first"].to_numpy(),
        last_exit=columns["last"].to_numpy(),
        time_at_risk=columns["time"].to_numpy(),
        event_count=columns["events"].to_numpy(),
        patients=np.bincount(pattern, minlength=patterns).astype(np.float64),
    )


def _exact_sums(
    own: Episodes, group: Ints, groups: int, *, cuts: Floats, weight: Floats | None
) -> tuple[NDArray[np.generic], Floats]:
    """Sum one endpoint's exact events and person-time, both of shape (interval, group).

    `group`, shape (episode,): combination of state and pattern.
    """
    if weight is None:
        by_group = person_time_by_group(own.start, own.stop, group, groups=groups, cuts=cuts)
    else:
        of, interval, length = split(own.start, own.stop, cuts)
        by_group = np.zeros((groups, cuts.size + 1))
        np.add.at(by_group, (group[of], interval), length * weight[own.patient[of]])
    cell = interval_of(own.stop[own.event], cuts) * groups + group[own.event]
    counted = None if weight is None else weight[own.patient[own.event]]
    events = np.bincount(cell, weights=counted, minlength=by_group.size)
    return events.reshape(-1, groups), by_group.T


def _with_gaps(
    gaps: Gaps,
    group: Ints,
    events: NDArray[np.generic],
    person_time: Floats,
    cuts: Floats,
    weight: Floats | None,
) -> tuple[Floats, Floats]:
    """Add events found at visits to the exact ones, spread evenly over their gaps.

    `group`, shape (part,): combination of state and pattern of the gaps' parts.
    """
    of, interval, _ = split(gaps.start, gaps.stop, cuts)
    cut = Gaps(
        patient=gaps.patient[of],
        phase=gaps.phase[of],
        start=np.maximum(np.concatenate([[0.0], cuts])[interval], gaps.start[of]),
        stop=np.minimum(np.append(cuts, np.inf)[interval], gaps.stop[of]),
    )
    counts = 1.0 if weight is None else weight[cut.patient]
    total = (events.astype(np.float64), person_time.copy())
    for values, added in zip(total, cut.spread(), strict=True):
        np.add.at(values, (interval, group[of]), added * counts)
    return total


def single_patients(
    cohort: Cohort,
    episodes: Mapping[str, Episodes],
    used: Ints,
    *,
    weight: Floats | None,
) -> Patients:
    """Lay out the time at risk of single patients, without their patterns.

    `used`, shape (used,): rows of those who contribute.
    """
    new_position = np.full(cohort.size, -1, dtype=np.int64)
    new_position[used] = np.arange(used.size)
    begin = np.full((len(episodes), used.size), np.nan)
    end = np.full(begin.shape, np.nan)
    died = np.zeros(begin.shape, dtype=bool)
    parts: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("endpoint", "patient", "phase", "start", "stop", "gap")
    }
    for index, own in enumerate(episodes.values()):
        patient, phase, start, stop, event, in_gap = own.whole
        who = new_position[patient]
        first = np.concatenate([[True], np.diff(patient) != 0])
        last = np.concatenate([first[1:], [True]])
        begin[index, who[first]] = start[first]
        end[index, who[last]] = stop[last]
        died[index, who[last]] = event[last]
        columns = (np.full(who.size, index), who, phase, start, stop, in_gap)
        for part, values in zip(parts.values(), columns, strict=True):
            part.append(values)
    people = xr.Dataset(
        {
            "weight": ("patient", np.ones(used.size) if weight is None else weight[used]),
            "begin": (("endpoint", "patient"), begin),
            "exit": (("endpoint", "patient"), end),
            "event": (("endpoint", "patient"), died),
        },
        coords={"endpoint": list(episodes), "patient": cohort.patients[used]},
    )
    if cohort.persons is not None:
        people["person"] = ("patient", cohort.persons[used])
    return Patients(
        people=people,
        episodes=xr.Dataset(
            {name: ("episode", np.concatenate(arrays)) for name, arrays in parts.items()}
        ),
        left_out=tuple(item for own in episodes.values() for item in own.left_out),
    )
