"""What a fit says of itself: weights of patients, and what compressing covariates may change."""

from __future__ import annotations

import xarray as xr

from bayesblina.core.errors import SpecError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design
from bayesblina.hazards.parts import PowerPrior
from bayesblina.person_time.cells import PersonTime

# Compressed covariates may change sums of hazards by this factor at most.
LARGEST_COMPRESSION_ERROR = 1e-6


def weighting_notes(definition: ModelDefinition, *, weighted: bool) -> list[str]:
    """Say that patients have weights."""
    notes = []
    if weighted:
        notes.append(
            "patients have weights: this is a weighted pseudo-posterior, whose interval is not "
            "that of the estimate; weighted_effect gives it for weights of a model of starting, "
            "bayesian_bootstrap for weights that are known"
        )
    if isinstance(definition.borrowing, PowerPrior):
        notes.append(f"external patients count {definition.borrowing.weight:g} each (power prior)")
    return notes


def swings(person_time: PersonTime, posterior: xr.Dataset, design: Design) -> list[float]:
    """Find how far log hazards move over the ranges of compressed covariates.

    Returns
    -------
    list of float
        For each compressed covariate the largest absolute log hazard ratio between the middle and
        an end of its range, in any draw and endpoint.
    """
    compression = person_time.compression
    assert compression is not None
    names = list(design.term_names)
    largest = abs(posterior["coefficient"]).max(("chain", "draw", "endpoint")).values
    return [
        float(largest[names.index(axis.name)] / design.scale[names.index(axis.name)])
        * (axis.high - axis.low)
        / 2.0
        for axis in compression.axes
    ]


def compression_notes(person_time: PersonTime, posterior: xr.Dataset, design: Design) -> list[str]:
    """Say how continuous covariates were compressed, and bound the error.

    One note, or none where nothing is compressed.
    """
    compression = person_time.compression
    if compression is None:
        return []
    largest = swings(person_time, posterior, design)
    error = compression.hazard_error(largest)
    alive = compression.survival_error(largest, courses=person_time.courses is not None)
    if error > LARGEST_COMPRESSION_ERROR:
        raise SpecError(
            "Log hazard ratios of the continuous covariates are so large that compressing them may "
            f"be off by {error:.1g}: pass compress=False, or transform the covariates."
        )
    nodes = ", ".join(f"{axis.name} to {axis.nodes}" for axis in compression.axes)
    return [
        f"continuous covariates were compressed (nodes: {nodes}); sums of hazards are within a "
        f"factor of 1 plus or minus {error:.1g} in every draw, survival averaged over the patients "
        f"within {alive:.1g}"
    ]
