"""What a likelihood needs of events that are found at visits, beside the cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.person_time.cells.value import PersonTime
from bayesblina.person_time.visits import (
    StartCells,
    Starting,
    choose_start_cells,
    cut_gaps,
    is_entered,
    time_at_risk_of_starting,
)


def find_visits(
    person_time: PersonTime, grids: Mapping[str, Floats], *, starts_prove: bool
) -> xr.Dataset:
    """Lay out what is exact, the gaps in which events were found, and starts of phases.

    `grids`: by endpoint whose hazard is constant over several intervals, where it changes.
    `starts_prove`: whether nobody starts a phase after the event, so that gaps without a start are
    evidence.
    Result: ``events`` and ``person_time`` as in the table, without the gaps. Over (endpoint,
    interval) ``interval_group``: intervals of a group have the same hazard. Over found, the events
    found at visits: ``found_endpoint``, ``found_patient``, ``found_pattern`` (the pattern, or the
    first node of a compressed one), ``found_weight``, and ``found_design`` over (found, term), raw
    covariate terms. Over part, event by event: ``part_found``, ``part_cell`` (interval by interval,
    states fastest), ``part_length``, ``part_start`` (cell of starting, or -1). Where starts prove:
    over (endpoint, start, pattern) ``start_events`` and ``start_time``, of endpoints with gaps;
    over (phase, start_interval) ``start_position``; over start_cut ``start_cuts``.
    """
    held, table = person_time.patients(), person_time.table
    states, people = table.sizes["phase"], held.people
    cells = _start_cells(person_time) if starts_prove else None
    rows = np.flatnonzero(held.episodes["gap"].values)
    begin = people["begin"].values
    found = cut_gaps(held.episodes.isel(episode=rows), begin, person_time.cuts, states, cells)
    patient = found["found_patient"].values
    events, time = person_time.exact_cells(people["weight"].values)
    cell_dims = ("endpoint", "interval", "phase", "pattern")
    opens = table["interval_start"].values
    group = [
        np.searchsorted(grids[name], opens, side="right")
        if name in grids
        else np.arange(opens.size)
        for name in person_time.endpoints
    ]
    found.attrs["starts_until"] = "event" if starts_prove else "found"
    found = found.assign(
        interval_group=(("endpoint", "interval"), np.stack(group)),
        events=(cell_dims, events),
        person_time=(cell_dims, time),
        found_pattern=("found", people["category"].values[patient]),
        found_weight=("found", people["weight"].values[patient]),
        found_design=(("found", "term"), person_time.terms_of(patient)),
    )
    if cells is None:
        return found
    counts, spent = weighted_starts(person_time, cells, people["weight"].values)
    return found.assign(
        start_events=(("endpoint", "start", "pattern"), counts),
        start_time=(("endpoint", "start", "pattern"), spent),
        start_position=(("phase", "start_interval"), cells.position),
        start_cuts=("start_cut", cells.cuts),
    ).assign_coords(start=cells.labels([str(name) for name in table["phase"].values]))


def own_cuts(person_time: PersonTime, endpoint: str) -> Floats:
    """Find where an endpoint may have another hazard: cut points between groups of intervals."""
    if person_time.visits is None:
        return person_time.cuts
    group = person_time.visits["interval_group"].values[person_time.endpoints.index(endpoint)]
    return np.asarray(person_time.cuts[np.diff(group) != 0])


def tied_steps(person_time: PersonTime, strata: int) -> Bools | None:
    """Say which steps lie within gaps between visits, (curve, interval - 1); None without gaps."""
    if person_time.visits is None:
        return None
    same = np.diff(person_time.visits["interval_group"].values, axis=1) == 0
    return np.asarray(np.repeat(same, strata, axis=0))


def start_cells_of(visits: xr.Dataset) -> StartCells | None:
    """Read the cells of starting; None where starts do not matter."""
    if "start_position" not in visits:
        return None
    return StartCells(position=visits["start_position"].values, cuts=visits["start_cuts"].values)


def weighted_starts(
    person_time: PersonTime, cells: StartCells, weight: Floats
) -> tuple[Floats, Floats]:
    """Sum starts and time at risk of them, both of shape (endpoint, start, pattern).

    `weight`, shape (patient,): how often each patient counts.
    """
    shape = (len(person_time.endpoints), cells.size, person_time.table.sizes["pattern"])
    counts, spent = np.zeros(shape), np.zeros(shape)
    weighted = sparse.diags_array(weight) @ person_time.projection()
    for index in _visited(person_time):
        started, at_risk = starts_by_patient(person_time, cells, person_time.endpoints[index])
        counts[index] = (started.T @ weighted).toarray()
        spent[index] = (at_risk.T @ weighted).toarray()
    return counts, spent


def _visited(person_time: PersonTime) -> Ints:
    """Positions of the endpoints with events that were found at visits."""
    episodes = person_time.patients().episodes
    return np.unique(episodes["endpoint"].values[episodes["gap"].values])


def starts_by_patient(
    person_time: PersonTime, cells: StartCells, endpoint: str
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Count starts of phases, and time at risk of them, while patients are known to be event-free.

    Result: both of shape (patient, cell of starting).
    """
    own = _starting(person_time, cells, endpoint)
    shape = (person_time.patients().people.sizes["patient"], cells.size)
    place = (own.patient, own.cell)
    return (
        sparse.csr_array((own.starts.astype(np.float64), place), shape=shape),
        sparse.csr_array((own.length, place), shape=shape),
    )


def _starting(person_time: PersonTime, cells: StartCells, endpoint: str) -> Starting:
    index = person_time.endpoints.index(endpoint)
    (patient, phase, start, stop, gap), entered = _episodes(person_time, index)
    exact = ~gap
    ends = np.append(entered[1:], False)[: patient.size]
    begin = person_time.patients().people["begin"].values[index]
    return time_at_risk_of_starting(
        patient[exact], phase[exact], start[exact], stop[exact], ends[exact], begin, cells
    )


def _episodes(person_time: PersonTime, index: int) -> tuple[list[NDArray[Any]], Bools]:
    """Take an endpoint's episodes, and say which begin with a start.

    Result: patients, states, starts, stops, and whether the episode is part of a gap.
    """
    episodes = person_time.patients().episodes
    rows = episodes["endpoint"].values == index
    columns = [episodes[name].values[rows] for name in ("patient", "phase", "start", "stop", "gap")]
    names = [str(name) for name in person_time.table["treatment"].values]
    return columns, is_entered(columns[0], columns[1], names)


def _start_cells(person_time: PersonTime) -> StartCells | None:
    """Choose cells of starting by the starts before events found at visits; None without any."""
    held = person_time.patients()
    since, left = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for index in _visited(person_time):
        (patient, phase, start, *_), began = _episodes(person_time, index)
        entered = np.flatnonzero(began)
        since.append(start[entered] - held.people["begin"].values[index][patient[entered]])
        left.append(phase[entered - 1])
    times, states = np.concatenate(since), np.concatenate(left)
    if not times.size:
        return None
    return choose_start_cells(times, states, person_time.table.sizes["phase"])
