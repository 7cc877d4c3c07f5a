"""Log hazards from draws: of patterns, and of single patients; no row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from scipy import sparse

from bayesblina.core.arrays import Floats, Ints
from bayesblina.hazards.effects import Design
from bayesblina.person_time.cells import PersonTime

# Nodes of the quadrature over effects of new groups, and how far they reach, in sds.
NODES = 41
REACH = 6.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogHazard:
    """Log hazards of one endpoint by draw: a part of the class and one of the pattern.

    `shared`, shape (draws, class, interval, state): what the patterns of a class share.
    `ratio`, shape (draws, class, interval, state): the log hazard ratio in it: of each state
    against the reference.
    `pattern`, shape (draws, pattern): log hazard ratio of each pattern against mean covariates,
    with its group's effect.
    `class_of`, shape (pattern,): class of each pattern.
    `cured`, shape (draws, pattern): log odds of being cured as patients come under observation;
    hazards are of those who are not. None in a model without cured patients.
    """

    shared: Floats
    ratio: Floats
    pattern: Floats
    class_of: Ints
    cured: Floats | None


def flat_draws(posterior: xr.Dataset, name: str, *dims: str) -> Floats:
    """Take a variable's draws as one array (chain * draw, ...), chain by chain."""
    values = posterior[name].transpose("chain", "draw", *dims).values
    return np.asarray(values.reshape(-1, *values.shape[2:]), dtype=np.float64)


def log_hazard(posterior: xr.Dataset, design: Design, *, endpoint: str) -> LogHazard:
    """Work out the log hazards of one endpoint, by draw."""
    own = posterior.sel(endpoint=endpoint)
    stratum = ("stratum",) if "stratum" in own["log_baseline"].dims else ()
    baseline = flat_draws(own, "log_baseline", *stratum, "interval")
    # (draws, source, stratum, interval)
    baseline = baseline.reshape(baseline.shape[0], 1, -1, baseline.shape[-1])
    if "source_shape" in own:
        differing = flat_draws(own, "source_shape", "source", *stratum, "interval")
        differing = differing.reshape(baseline.shape[0], -1, *baseline.shape[2:])
        baseline = np.concatenate([baseline, baseline + differing], axis=1)
    ratio = phase_ratios(posterior, design, endpoint=endpoint, intervals=baseline.shape[3])
    shape = ratio.shape
    by_part = ratio.reshape(shape[0], *design.class_shape, *shape[2:])
    return LogHazard(
        shared=(baseline[:, :, :, None, :, None] + by_part).reshape(shape),
        ratio=ratio,
        pattern=relative_of(posterior, design, design.terms, endpoint=endpoint)
        + group_effects(posterior, design, endpoint=endpoint)
        + source_effects(posterior, design, endpoint=endpoint),
        class_of=design.class_of,
        cured=cured_log_odds(posterior, design, design.terms, endpoint=endpoint),
    )


def phase_ratios(posterior: xr.Dataset, design: Design, *, endpoint: str, intervals: int) -> Floats:
    """Log hazard ratios of the states against the reference, (draws, class, interval, state)."""
    own = posterior.sel(endpoint=endpoint)
    phase = flat_draws(own, "log_hazard_ratio", "effect") @ design.contrast.T
    # (draws, subgroup, interval, state)
    varying = phase[:, None, None, :]
    # Of the exposed phase, where its effect varies: by what, and along which axes it does not.
    for dim, axes in (("interval", (1, 3)), ("subgroup", (2, 3)), ("piece", (1, 2))):
        if f"log_hazard_ratio_by_{dim}" in own:
            effect = flat_draws(own, f"log_hazard_ratio_by_{dim}", dim)
            exposed = effect @ design.pieces.T if dim == "piece" else effect
            varying = np.where(design.exposed == 1.0, np.expand_dims(exposed, axes), varying)
    # (draws, source, stratum, subgroup, interval, state)
    apart = varying[:, None, None]
    if "source_phase_effect" in own:
        effect = flat_draws(own, "source_phase_effect", "source", "effect") @ design.contrast.T
        current = np.zeros((effect.shape[0], 1, effect.shape[2]))
        apart = apart + np.concatenate([current, effect], axis=1)[:, :, None, None, None]
    states = (intervals, phase.shape[1])
    apart = np.broadcast_to(apart, (phase.shape[0], *design.class_shape, *states))
    return apart.reshape(phase.shape[0], design.classes, *states)


def cured_log_odds(
    posterior: xr.Dataset, design: Design, terms: Floats, *, endpoint: str
) -> Floats | None:
    """Log odds of being cured as patients come under observation, (draws, pattern).

    None in a model without cured patients.
    """
    if "cured_log_odds" not in posterior:
        return None
    own = posterior.sel(endpoint=endpoint)
    middle = flat_draws(own, "cured_log_odds")[:, None]
    if not design.term_names:
        return np.repeat(middle, terms.shape[0], axis=1)
    return np.asarray(middle + flat_draws(own, "cured_coefficient", "term") @ terms.T)


def relative_of(posterior: xr.Dataset, design: Design, terms: Floats, *, endpoint: str) -> Floats:
    """Log hazard ratios of covariates against their means, (draws, pattern)."""
    if not design.term_names:
        return np.zeros((posterior.sizes["chain"] * posterior.sizes["draw"], terms.shape[0]))
    return flat_draws(posterior.sel(endpoint=endpoint), "coefficient", "term") @ terms.T


def group_effects(posterior: xr.Dataset, design: Design, *, endpoint: str) -> Floats:
    """Log hazard ratios of the patterns' groups against the average group.

    Over (draws, pattern), or (draws, 1) where there are no groups.
    """
    if "patient_effect" in posterior:
        effect = flat_draws(posterior, "patient_effect", "pattern")
    elif "group_effect" in posterior:
        effect = flat_draws(posterior.sel(endpoint=endpoint), "group_effect", "group")
    else:
        return np.zeros((posterior.sizes["chain"] * posterior.sizes["draw"], 1))
    return np.asarray(effect[:, design.group_of])


def source_effects(posterior: xr.Dataset, design: Design, *, endpoint: str) -> Floats:
    """Log hazard ratios of the patterns' sources against current patients of like covariates.

    Result, shape (draws, pattern) or (draws, 1) where there are no sources: log hazard ratios in
    the reference phase, of the level and of covariates; 0 for current patients.
    """
    own = posterior.sel(endpoint=endpoint)
    total = np.zeros((posterior.sizes["chain"] * posterior.sizes["draw"], 1))
    if "source_effect" in own:
        effect = flat_draws(own, "source_effect", "source")
        total = total + effect[:, np.maximum(design.source_of - 1, 0)] * ~design.is_current
    if "source_coefficient" in own:
        slopes = flat_draws(own, "source_coefficient", "source", "term")
        for source in range(slopes.shape[1]):
            terms = design.terms * (design.source_of == source + 1)[:, None]
            total = total + slopes[:, source] @ terms.T
    return np.asarray(total)


def group_sd(posterior: xr.Dataset, *, endpoint: str) -> Floats | None:
    """Sd of the log hazards of groups, by draw; None in a model without groups."""
    if "patient_sd" in posterior:
        return flat_draws(posterior, "patient_sd", "shape")[:, 0]
    if "group_sd" in posterior:
        return flat_draws(posterior.sel(endpoint=endpoint), "group_sd")
    return None


def new_group_nodes() -> tuple[Floats, Floats]:
    """Nodes and weights of a quadrature over the standardised effects of new groups.

    Equal steps: survival falls from 1 to 0 within a narrow range of effects when the sd is large,
    where the nodes of Gauss and Hermite thin out. With an sd of 2 the error is below 1e-6.

    Result: `nodes`, `weights`, shape (node,): the weights sum to 1.
    """
    nodes = np.linspace(-REACH, REACH, NODES)
    weights = np.exp(-(nodes**2) / 2.0)
    return nodes, weights / weights.sum()


def hazards_of_patients(
    posterior: xr.Dataset,
    person_time: PersonTime,
    design: Design,
    *,
    endpoint: str,
    rows: Ints | None = None,
) -> tuple[LogHazard, Ints]:
    """Work out the log hazards of single patients, with their own covariates.

    `rows`, shape (patient,): positions of the patients; all by default.
    Result: `hazard`: by pattern, of the patterns that these patients have; where continuous
    covariates are compressed each patient is one.
    `pattern`, shape (patient,): pattern of each patient there.
    """
    own, pattern = design_of_patients(person_time, design, rows)
    return log_hazard(posterior, own, endpoint=endpoint), pattern


def design_of_patients(
    person_time: PersonTime, design: Design, rows: Ints | None
) -> tuple[Design, Ints]:
    """Covariates of single patients and no others, and the place of each patient's there."""
    people = person_time.patients().people
    if person_time.compression is None:
        if rows is None:
            return design, people["pattern"].values
        present, pattern = np.unique(people["pattern"].values[rows], return_inverse=True)
        terms = design.terms[present]
    else:
        rows = np.arange(people.sizes["patient"]) if rows is None else rows
        present, pattern = people["category"].values[rows], np.arange(rows.size)
        terms = design.standardised(person_time.terms_of(rows))
    own = replace(
        design,
        terms=terms,
        class_of=design.class_of[present],
        group_of=design.group_of[present],
        source_of=design.source_of[present],
    )
    return own, pattern


def passed_before(hazard: Floats, patient: Ints) -> Floats:
    """Cumulative hazard of each segment's patient from entry to the segment's beginning.

    `hazard`, shape (segment, draws): hazard of each segment times its length.
    `patient`, shape (segment,): whose it is; a patient's segments follow each other.

    >>> passed_before(np.array([[1.0], [2.0], [4.0]]), np.array([0, 0, 1]))[:, 0]
    array([0., 1., 0.])
    """
    if not patient.size:
        return np.zeros(hazard.shape)
    opens = np.concatenate([[True], np.diff(patient) != 0])
    before = np.cumsum(hazard, axis=0) - hazard
    entry = before[opens][np.cumsum(opens) - 1]
    # Differences of sums leave rounding; a patient's first segment has nothing before it.
    return np.where(opens[:, None], 0.0, np.maximum(before - entry, 0.0))


def sums(values: Floats, position: Ints, size: int) -> Floats:
    """Add rows up by place.

    >>> sums(np.array([[1.0], [2.0], [4.0]]), np.array([1, 0, 1]), 2)[:, 0]
    array([2., 5.])
    """
    entries = (np.ones(position.size), (position, np.arange(position.size)))
    return np.asarray(sparse.csr_array(entries, shape=(size, position.size)) @ values)
