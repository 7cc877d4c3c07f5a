"""Definitions and person-time into a PyMC model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import baseline_curves, prior_sds
from bayesblina.hazards.components import (
    Others,
    Sampler,
    Workbench,
    baseline_part,
    covariates_part,
    cured_part,
    effects_part,
    groups_part,
    phases_part,
)
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.kernel import Kernel, proportional_kernel
from bayesblina.hazards.ops import CuredMixture, PiecewiseExponential
from bayesblina.hazards.parts import (
    Baseline,
    Correlated,
    Part,
    PhasesOverTime,
    PhasesSinceEntry,
    ProportionalPhases,
    RandomWalk,
    SmoothWalk,
)
from bayesblina.hazards.priors import SpreadPrior
from bayesblina.hazards.sources import Sources, source_part
from bayesblina.hazards.visits import visits_part, weighted_visits
from bayesblina.person_time.cells import PersonTime, start_cells_of

TARGET_ACCEPT = 0.8
# Where sds are estimated.
CAREFUL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuiltModel:
    """A PyMC model and what the sampler needs to know of it.

    `model`: the density. Every size, prior scale and table in it is data.
    `structure`: names the graph: models of equal structure differ in data and sizes only.
    `start`: where chains start, for variables that should not start near 0.
    `design`: phase contrasts, standardised covariates, classes and groups.
    `priors`: of parameters with a meaning of their own: dimensions and a sampler of the prior.
    `target_accept`: acceptance rate that the sampler's steps should have: higher where sds of few
    members are estimated.
    `make_kernel`: makes a faster form of the same density; None where there is none.
    """

    model: Any
    structure: str
    start: dict[str, Floats]
    design: Design
    priors: Mapping[str, tuple[tuple[str, ...], Sampler]]
    target_accept: float
    make_kernel: Callable[[], Kernel] | None


def build_model(definition: ModelDefinition, person_time: PersonTime) -> BuiltModel:
    """Build the PyMC model of a definition for given events and person-time.

    Every model has ``log_hazard_ratio`` (endpoint, effect), the log hazard ratio of each phase
    that has an effect (of the exposed phase the average one, where its effect varies);
    ``coefficient`` (endpoint, term) where there are covariates (all of current patients, where
    external ones may differ); and ``log_baseline`` (endpoint,
    [stratum,] interval), the log hazard per time unit in the reference phase at mean covariates.
    Variables whose names end with ``_innovation`` are the sampler's coordinates
    (`bayesblina.hazards.baseline`), without a meaning of their own.
    """
    design = make_design(person_time, definition)
    bench = Workbench(
        definition=definition,
        person_time=person_time,
        design=design,
        curves=baseline_curves(person_time, design, prior_sd=prior_sds(definition, design)),
        curve="curve" if len(design.strata) > 1 else "endpoint",
    )
    cells = _tables(design, *person_time.counted)
    # The supports are built in, so the bounds checks could never fail; they only cost.
    with pm.Model(coords=_coords(person_time, design), check_bounds=False) as model:
        counted, by_pattern, at_risk = (pm.Data(name, values) for name, values in cells.items())
        class_of = pm.Data("class_of", design.class_of.astype(np.float64))
        baseline = _reported(bench, baseline_part(bench))
        ratio = effects_part(bench)
        by_phase = bench.times("contrast", design.contrast, ratio)
        pattern, slope = pt.zeros_like(by_pattern), None
        if design.term_names:
            pattern, slope = covariates_part(bench)
        others = Others(baseline=baseline, by_phase=by_phase, pattern=pattern)
        by_phase = phases_part(bench, others)
        sources = source_part(bench, baseline, ratio, slope)
        flat = isinstance(definition.phases, ProportionalPhases) and len(design.strata) == 1
        shared = _shared(baseline, by_phase, sources, flat=flat).reshape(counted.shape)
        groups = groups_part(bench, others)
        for part in (groups, sources.by_pattern):
            if part is not None:
                pattern = pattern + part
        log_likelihood, *_ = PiecewiseExponential()(
            counted, by_pattern, at_risk, class_of, shared, pattern
        )
        if person_time.visits is not None:
            log_likelihood = log_likelihood + visits_part(bench, shared, slope, groups)
        log_odds = cured_part(bench)
        if log_odds is not None:
            pattern_of = person_time.people["pattern"].values.astype(np.float64)
            follow_up = {"pattern_of": pattern_of, **follow_up_of(person_time)}
            data = (pm.Data(name, values) for name, values in follow_up.items())
            mixture = CuredMixture()(by_pattern, *data, class_of, shared, pattern, log_odds)
            log_likelihood = log_likelihood + mixture[0]
        pm.Potential("log_likelihood", log_likelihood)
    structure = _structure(definition, person_time, design, sources.parts)
    careful = _estimates_sds(definition, person_time, sources.parts)
    return BuiltModel(
        model=model,
        structure=structure,
        start=bench.start,
        design=design,
        priors=bench.priors,
        target_accept=CAREFUL if careful else TARGET_ACCEPT,
        make_kernel=KERNELS.get(structure),
    )


def _coords(person_time: PersonTime, design: Design) -> dict[str, Any]:
    """Labels of the dimensions that a model always has, and of strata and terms."""
    table, endpoints = person_time.table, list(person_time.endpoints)
    coords: dict[str, Any] = {
        "endpoint": endpoints,
        "interval": table["interval"].values,
        "phase": list(table["phase"].values),
        "pattern": table["pattern"].values,
        "effect": list(design.effects),
    }
    if len(design.strata) > 1:
        coords["stratum"] = list(design.strata)
        coords["curve"] = [f"{name}, {stratum}" for name in endpoints for stratum in design.strata]
    return coords | ({"term": list(design.term_names)} if design.term_names else {})


def _tables(design: Design, events: Floats, time: Floats) -> dict[str, Floats]:
    """Events by class and by pattern, and person-time, by the names of the data that hold them."""
    counts = events.astype(np.float64)
    return {
        "events": np.einsum("ejkp,cp->ecjk", counts, design.member),
        "events_by_pattern": counts.sum(axis=(1, 2)),
        "person_time": time,
    }


def _reported(bench: Workbench, baseline: Any) -> Any:
    """Report the log baseline hazards; shape (endpoint, stratum, interval)."""
    lengths = pm.modelcontext(None).dim_lengths
    endpoints, intervals = lengths["endpoint"], lengths["interval"]
    if len(bench.design.strata) > 1:
        by_stratum = baseline.reshape((endpoints, lengths["stratum"], intervals))
        return pm.Deterministic(
            "log_baseline", by_stratum, dims=("endpoint", "stratum", "interval")
        )
    full = baseline + pt.zeros((endpoints, intervals))
    return pm.Deterministic("log_baseline", full, dims=("endpoint", "interval"))[:, None, :]


def _shared(baseline: Any, by_phase: Any, sources: Sources, *, flat: bool) -> Any:
    """Put together what the patterns of a class share, with a dimension for what makes classes.

    Parts have as few dimensions as they need: the compiler's time grows with them. With `flat`
    classes are sources only, and phase effects do not vary.
    """
    by_state = sources.by_state
    if by_state is None and sources.by_course is None:
        # (endpoint, stratum, subgroup, interval, phase)
        return baseline[:, :, None, :, None] + by_phase[:, None] + pt.zeros((1, 1, 1, 1, 1))
    courses = baseline[:, None] if sources.by_course is None else sources.by_course
    if flat:
        # (endpoint, source, interval, phase)
        effects = by_phase[:, 0] if by_state is None else by_phase[:, 0] + by_state
        return courses[:, :, 0, :, None] + effects[:, :, None, :]
    # (endpoint, source, stratum, subgroup, interval, phase)
    shared = courses[:, :, :, None, :, None] + by_phase[:, None, None]
    return shared if by_state is None else shared + by_state[:, :, None, None, None, :]


def _estimates_sds(
    definition: ModelDefinition, person_time: PersonTime, differing: Sequence[Part]
) -> bool:
    """Say whether a posterior may be far from normal, as those of sds and correlations are."""
    return (
        not isinstance(definition.baseline, RandomWalk)
        or not isinstance(definition.phases, ProportionalPhases)
        or definition.groups is not None
        or bool(differing)
        or definition.cure is not None
        or (isinstance(definition.endpoints, Correlated) and len(person_time.endpoints) > 1)
    )


def _structure(
    definition: ModelDefinition, person_time: PersonTime, design: Design, differing: Sequence[Part]
) -> str:
    """Name the graph of a model: what differs in data and sizes only has one name."""
    baseline, phases, borrowing = definition.baseline, definition.phases, definition.borrowing
    intervals, endpoints = person_time.table.sizes["interval"], len(person_time.endpoints)
    change: SpreadPrior | None = getattr(phases, "change", None)
    constant = (isinstance(phases, PhasesOverTime) and intervals == 1) or (
        isinstance(phases, PhasesSinceEntry) and design.pieces.shape[1] < 2
    )
    line_alone = isinstance(baseline, SmoothWalk) and baseline.order == 2 and intervals == 2
    correlated = isinstance(definition.endpoints, Correlated) and endpoints > 1
    words = (
        "constant" if intervals == 1 else _baseline_words(baseline),
        "strata" if len(design.strata) > 1 else "",
        phases.kind,
        "a line alone" if line_alone else "",
        "never varying" if constant else "",
        "known" if change is not None and change.known else "",
        "covariates" if design.term_names else "no covariates",
        f"correlated {endpoints}" if correlated else "independent",
        "" if definition.groups is None else f"groups: {definition.groups.kind}",
        f"sources: {borrowing.kind}, {', '.join(differing)}" if borrowing and differing else "",
        "" if definition.cure is None else "cure",
        _visits_words(person_time),
    )
    return " / ".join(filter(None, words))


def _visits_words(person_time: PersonTime) -> str:
    if person_time.visits is None:
        return ""
    return "visits" if start_cells_of(person_time.visits) is None else "visits and starts"


def _baseline_words(baseline: Baseline) -> str:
    change: SpreadPrior | None = getattr(baseline, "change", None)
    words = (
        baseline.kind,
        "shared" if isinstance(baseline, RandomWalk) and baseline.shared else "",
        f"order {baseline.order}" if isinstance(baseline, SmoothWalk) else "",
        "sd known" if change is not None and change.known else "",
    )
    return ", ".join(filter(None, words))


# Structures whose densities are written by hand.
KERNELS: Mapping[str, Callable[[], Kernel]] = {
    f"{baseline} / proportional / {covariates} / independent": partial(
        proportional_kernel, walk=baseline == "random_walk", terms=covariates == "covariates"
    )
    for baseline in ("random_walk", "constant")
    for covariates in ("covariates", "no covariates")
}


def follow_up_of(person_time: PersonTime) -> dict[str, Floats]:
    """Lay out patients' follow-up, in cells, for the likelihood of a mixture cure model.

    Result: ``survived``, shape (endpoint, patient): weight of patients who are event-free at the
    end of their follow-up, 0 for others. ``follow_up_first``, shape (endpoint, patient + 1): where
    each patient's entries in the next two begin. ``follow_up_cell``, ``follow_up_time``, shape
    (entry,): cell of an endpoint (interval x states + state), and time at risk in it.
    """
    person_cells = [person_time.patient_cells(name) for name in person_time.endpoints]
    begins = np.cumsum([0, *(cells.data.size for cells in person_cells)])
    first = [cells.indptr + begin for cells, begin in zip(person_cells, begins, strict=False)]
    return {
        "survived": survivors(person_time),
        "follow_up_first": np.stack(first).astype(np.float64),
        "follow_up_cell": np.concatenate([cells.indices for cells in person_cells]).astype(
            np.float64
        ),
        "follow_up_time": np.concatenate([cells.data for cells in person_cells]),
    }


def survivors(person_time: PersonTime) -> Floats:
    """Weights, (endpoint, patient), of those event-free at the end of their follow-up; else 0."""
    people = person_time.people
    free = np.isfinite(people["exit"].values) & ~people["event"].values
    return np.asarray(free * people["weight"].values)


def draw_prior(built: BuiltModel, *, seed: int, draws: int) -> xr.Dataset:
    """Draw all parameters from the prior."""
    model = built.model
    variables = [*model.free_RVs, *model.deterministics]
    # Compiling would take longer than drawing.
    values = pm.draw(variables, draws=draws, random_seed=seed, mode="FAST_COMPILE")
    dims = {variable.name: model.named_vars_to_dims[variable.name] for variable in variables}
    return xr.Dataset(
        {
            variable.name: (("chain", "draw", *dims[variable.name]), np.asarray(value)[None])
            for variable, value in zip(variables, values, strict=True)
        },
        coords={dim: list(model.coords[dim]) for names in dims.values() for dim in names},
    )


def with_tables(
    built: BuiltModel,
    events: Floats,
    time: Floats,
    *,
    survived: Floats | None = None,
    visits: Mapping[str, Floats] | None = None,
) -> None:
    """Put other events and person-time into a model, with the same prior.

    `events`, `time`, shape (endpoint, interval, phase, pattern): events and person-time.
    `survived`, shape (endpoint, patient): weights of the patients who are event-free at the end of
    their own follow-up; used by a model in which some are cured, and needed by it.
    `visits`: other data of events found at visits, by name.
    """
    tables = _tables(built.design, events, time) | dict(visits or {})
    if "survived" in built.model.named_vars:
        if survived is None:
            raise TypeError("a model in which some are cured needs the survivors")
        tables["survived"] = survived
    pm.set_data(tables, model=built.model)


def with_weights(built: BuiltModel, person_time: PersonTime, weights: Floats) -> None:
    """Weight the patients of a model, or leave some out, with the same prior.

    `weights`, shape (patient,): what the patients' own weights are multiplied by; 0 leaves a
    patient out.
    """
    weight = person_time.people["weight"].values * weights
    with_tables(
        built,
        *person_time.exact_cells(weight),
        survived=survivors(person_time) * weights,
        visits=weighted_visits(person_time, weight),
    )
