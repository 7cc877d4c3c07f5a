"""Events found at visits as a part of a PyMC model, and the hazard of starting that may go with it.

Where nobody starts a phase after the event, gaps without a start are evidence: the hazard of
starting, constant within cells of the state that is left and the time since becoming eligible and
proportional in the covariates, is fitted with the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from bayesblina.core.arrays import Floats, Ints
from bayesblina.hazards.components import Workbench
from bayesblina.hazards.effects import Design
from bayesblina.hazards.ops import BatchedMatrixVector, FoundAtVisits, PiecewiseExponential
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.person_time.cells import PersonTime, start_cells_of, weighted_starts

# Priors of the hazard of starting: in each cell, against the crude one of its state; of covariates.
START_HAZARD = HazardRatioPrior(hazard_ratio=(0.05, 20.0), mass=0.95)
START_COEFFICIENT = HazardRatioPrior(hazard_ratio=(0.125, 8.0), mass=0.95)
# Half a start in each state keeps its crude rate finite.
PSEUDO_STARTS = 0.5


def found_data(person_time: PersonTime, design: Design) -> dict[str, Floats]:
    """Lay out gaps as the model's data.

    Result: of each event ``found_endpoint``, ``found_row`` (which of the endpoints with such
    events), ``found_class``, ``found_weight``, ``found_pattern`` (its endpoint x patterns + its
    pattern) and ``found_terms``, shape (1, event, endpoint x term): standardised terms in the
    columns of its endpoint; ``found_first``, ``part_cell``, ``part_length``, ``part_start``.
    """
    visits = person_time.visits
    assert visits is not None
    endpoint, pattern = visits["found_endpoint"].values, visits["found_pattern"].values
    rows = np.unique(endpoint)
    counts = np.bincount(visits["part_found"].values, minlength=endpoint.size)
    columns = {
        "found_endpoint": endpoint,
        "found_row": np.searchsorted(rows, endpoint),
        "found_class": design.class_of[pattern],
        "found_weight": visits["found_weight"].values,
        "found_pattern": endpoint * person_time.table.sizes["pattern"] + pattern,
        "found_terms": _placed(visits, design, endpoint, len(person_time.endpoints)),
        "found_first": np.concatenate([[0], np.cumsum(counts)]),
        "part_cell": visits["part_cell"].values,
        "part_length": visits["part_length"].values,
        "part_start": visits["part_start"].values,
    }
    return {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}


def _placed(visits: xr.Dataset, design: Design, row: Floats | Ints, rows: int) -> Floats:
    """Put the standardised terms of events into the columns of their rows.

    Result, shape (1, event, rows x term): the matrix that all rows' coefficients are multiplied
    with.
    """
    terms = design.standardised(visits["found_design"].values)
    placed = np.zeros((terms.shape[0], rows, terms.shape[1]))
    placed[np.arange(terms.shape[0]), np.asarray(row, dtype=np.int64)] = terms
    return placed.reshape(1, terms.shape[0], -1)


def start_data(
    visits: xr.Dataset, weighted: tuple[Floats, Floats] | None = None
) -> dict[str, Floats]:
    """Lay out starts of phases as the model's data: of endpoints with events found at visits.

    `weighted`, shape (endpoint, start, pattern): other numbers of starts and time at risk of them.
    """
    rows = np.unique(visits["found_endpoint"].values)
    starts, time = weighted or (visits["start_events"].values, visits["start_time"].values)
    return {
        "starts": starts[rows].sum(axis=2)[:, None, :, None],
        "starts_by_pattern": starts[rows].sum(axis=1),
        "start_time": time[rows][:, :, None, :],
    }


def visits_part(bench: Workbench, shared: Any, slope: Any, rest: Any) -> Any:
    """Add the log-likelihood of events found at visits, and of starts where these matter.

    `shared`, shape (endpoint, class, interval, phase): what the patterns of a class share.
    `slope`, shape (endpoint, term): log hazard ratios of covariates; None without.
    `rest`, shape (endpoint, pattern): log hazard ratios of groups; None without.
    """
    person_time, design = bench.person_time, bench.design
    visits, model = person_time.visits, pm.modelcontext(None)
    assert visits is not None
    data = found_data(person_time, design)
    where, terms = data.pop("found_pattern"), data.pop("found_terms")
    order = ("found_endpoint", "found_row", "found_class", "found_weight", "found_first")
    values = {name: pm.Data(name, data[name]) for name in data}
    own = pt.zeros_like(values["found_weight"])
    if slope is not None:
        placed = pm.Data("found_terms", terms)
        own = BatchedMatrixVector()(placed, slope.ravel()[None, :])[0]
    if rest is not None:
        index = pt.cast(pm.Data("found_pattern", where), "int64")
        own = own + rest.ravel()[index]
    cells, begun = start_cells_of(visits), pt.zeros_like(values["found_weight"])
    starting, starts = pt.zeros((1, 1)), 0.0
    if cells is not None:
        names = np.array(person_time.endpoints)[np.unique(visits["found_endpoint"].values)]
        model.add_coord("visited", names.tolist())
        model.add_coord("start", visits["start"].values.tolist())
        starting, ratio, starts = _starts_part(bench, visits)
        if ratio is not None:
            placed = pm.Data(
                "found_start_terms", _placed(visits, design, data["found_row"], names.size)
            )
            begun = BatchedMatrixVector()(placed, ratio.ravel()[None, :])[0]
    parts = ("part_cell", "part_length", "part_start")
    found, *_ = FoundAtVisits()(
        *(values[name] for name in (*order, *parts)), shared, own, starting, begun
    )
    return found + starts


def _starts_part(bench: Workbench, visits: xr.Dataset) -> tuple[Any, Any, Any]:
    """Add the hazard of starting: by cell, log hazard ratios of covariates, and log-likelihood."""
    design, data = bench.design, start_data(visits)
    state = np.argwhere(visits["start_position"].values >= 0)[:, 0]
    starts, time = data["starts"][:, 0, :, 0], data["start_time"][:, :, 0].sum(axis=2)
    same = (state[:, None] == state).astype(np.float64)
    crude = np.log((starts @ same + PSEUDO_STARTS) / np.maximum(time @ same, 1e-300))
    dims = ("visited", "start")
    bench.start["start_log_hazard"] = crude
    mean, sd = bench.normal_prior("start_log_hazard", START_HAZARD, dims=dims, about=crude)
    centre = pm.Data("start_centre", crude)
    log_hazard = pm.Normal("start_log_hazard", centre + mean, sd, dims=dims)
    values = {name: pm.Data(name, held) for name, held in data.items()}
    pattern, ratio = pt.zeros_like(values["starts_by_pattern"]), None
    if design.term_names:
        ratio = bench.normal("start_coefficient", START_COEFFICIENT, dims=("visited", "term"))
        terms = pm.Data("start_terms", np.stack([design.terms] * starts.shape[0]))
        pattern = BatchedMatrixVector()(terms, ratio)
    likelihood, *_ = PiecewiseExponential()(
        values["starts"],
        values["starts_by_pattern"],
        values["start_time"],
        pt.zeros_like(pattern[0]),
        log_hazard[:, None, :, None],
        pattern,
    )
    return log_hazard, ratio, likelihood


def weighted_visits(person_time: PersonTime, weight: Floats) -> dict[str, Floats]:
    """Weight events found at visits, and starts where these matter, anew: data by name.

    `weight`, shape (patient,): how often each patient counts.
    """
    visits = person_time.visits
    if visits is None:
        return {}
    data = {"found_weight": weight[visits["found_patient"].values].astype(np.float64)}
    cells = start_cells_of(visits)
    if cells is None:
        return data
    return data | start_data(visits, weighted_starts(person_time, cells, weight))
