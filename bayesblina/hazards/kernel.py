"""Hand-written log densities and gradients of the commonest model structures.

PyMC stays the definition: `tests/test_sampling.py` holds every structure here against PyMC's own
log density and gradient at random points. A structure that is not here is compiled from the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
HALF_LOG_TWO_OVER_PI = 0.5 * math.log(2.0 / math.pi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A log density with its gradient, and the reported variables, for numba.

    Both functions take pointers: slices and views of arrays would take numba longer to compile
    than everything else.

    Attributes
    ----------
    function
        Takes the dimension, the point, the data, the sizes and where to put the gradient, and
        gives the log density.
    expand
        Takes the point, the data, the sizes and where to put the variables that are no
        coordinates of the point, in the order of `extra_names`.
    extra_names
        Names of these variables.
    name
        Tells kernels apart.
    data_names
        Names of the model's data, in the order in which the data hold them.
    dims
        Names of the model's dimensions, in the order in which the sizes hold them. The shapes of
        the data follow, each in full.
    """

    function: Callable[..., Any]
    expand: Callable[..., Any]
    extra_names: tuple[str, ...]
    name: str
    data_names: tuple[str, ...]
    dims: tuple[str, ...]


def _dot(left: Any, i: int, right: Any, j: int, count: int) -> Any:
    """Sum products of two runs of numbers.

    Four sums run side by side: the processor need not wait for each addition, and their order is
    the same on every machine. Runs are named by where they begin: a slice of an array would take
    numba longer to compile than the whole function.

    Parameters
    ----------
    left, right : ndarray
        What to multiply.
    i, j
        Where the runs begin.
    count
        How long they are.

    Returns
    -------
    float
        The sum.
    """
    whole = count - count % 4
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for k in range(0, whole, 4):
        first += left[i + k] * right[j + k]
        second += left[i + k + 1] * right[j + k + 1]
        third += left[i + k + 2] * right[j + k + 2]
        fourth += left[i + k + 3] * right[j + k + 3]
    for k in range(whole, count):
        first += left[i + k] * right[j + k]
    return (first + second) + (third + fourth)


# Without fast-math, so that results do not depend on how code was inlined; and a division by zero
# gives infinity, which the sampler takes as a divergence, not an exception that nobody sees.
_compiled = partial(numba.njit, fastmath=False, error_model="numpy")
dot: Any = _compiled(inline="always")(_dot)


def proportional_kernel(*, walk: bool, walk_sd_known: bool, terms: bool) -> Kernel:
    """Make the kernel of proportional phases over a random-walk or a constant baseline.

    Parameters
    ----------
    walk
        Whether there is more than one interval.
    walk_sd_known
        Whether the walk's sd is not estimated.
    terms
        Whether there are covariates.

    Returns
    -------
    Kernel
        The kernel.
    """
    free = walk and not walk_sd_known

    def log_density(dimension: Any, point: Any, data: Any, sizes: Any, gradient: Any) -> Any:
        endpoints, intervals, phases = sizes[0], sizes[1], sizes[2]
        patterns, effects = sizes[3], sizes[4]
        components = sizes[5] if walk else 0
        count = sizes[6 if walk else 5] if terms else 0
        # Positions in the data, whose parts are in alphabetical order.
        at = 0
        basis = at
        at += endpoints * intervals * components
        # All patterns are of one class.
        at += patterns
        slope_prior = at
        at += 2 if terms else 0
        contrast = at
        at += endpoints * phases * effects
        events = at
        at += endpoints * intervals * phases
        events_pattern = at
        at += endpoints * patterns
        exposure = at
        at += endpoints * intervals * phases * patterns
        inverse_roughness = at
        at += endpoints * components
        centre = at
        at += endpoints
        level_prior = at
        at += 2
        ratio_prior = at
        at += 2
        term = at
        at += endpoints * patterns * count
        likely = at
        at += endpoints * components
        walk_prior = at
        # Positions in the point.
        sd_at = endpoints
        innovation_at = sd_at + (endpoints if free else 0)
        ratio_at = innovation_at + endpoints * components
        slope_at = ratio_at + endpoints * effects

        for i in range(dimension):
            gradient[i] = 0.0
        coefficient = np.empty(components)
        by_coefficient = np.empty(components)
        baseline = np.empty(intervals)
        by_interval = np.empty(intervals)
        phase = np.empty(phases)
        by_phase = np.empty(phases)
        pattern = np.empty(patterns)
        relative = np.empty(patterns)
        by_slope = np.empty(count)
        weighted = np.empty(patterns)
        level_mean, level_sd = data[level_prior], data[level_prior + 1]
        ratio_mean, ratio_sd = data[ratio_prior], data[ratio_prior + 1]
        log_level, log_ratio = math.log(level_sd), math.log(ratio_sd)
        slope_mean, slope_sd = 0.0, 1.0
        if terms:
            slope_mean, slope_sd = data[slope_prior], data[slope_prior + 1]
        log_slope = math.log(slope_sd)
        total = 0.0
        for e in range(endpoints):
            standard = (point[e] - data[centre + e] - level_mean) / level_sd
            total -= 0.5 * standard * standard + log_level + HALF_LOG_TWO_PI
            gradient[e] -= standard / level_sd
            walk_sd = data[walk_prior + e] if walk else 1.0
            if free:
                scale = walk_sd
                walk_sd = math.exp(point[sd_at + e])
                standard = walk_sd / scale
                total += HALF_LOG_TWO_OVER_PI - math.log(scale) - 0.5 * standard * standard
                total += point[sd_at + e]
                gradient[sd_at + e] += 1.0 - standard * standard
            for c in range(components):
                sd = walk_sd * data[inverse_roughness + e * components + c]
                shrink = sd / math.sqrt(1.0 + sd * sd)
                innovation = point[innovation_at + e * components + c]
                coefficient[c] = shrink * (shrink * data[likely + e * components + c] + innovation)
                by_coefficient[c] = 0.0
            for j in range(intervals):
                row = basis + (e * intervals + j) * components
                value = point[e]
                for c in range(components):
                    value += data[row + c] * coefficient[c]
                baseline[j] = math.exp(value)
                by_interval[j] = 0.0
                for k in range(phases):
                    by_interval[j] += data[events + (e * intervals + j) * phases + k]
                total += by_interval[j] * value
            for k in range(phases):
                row = contrast + (e * phases + k) * effects
                value = 0.0
                for i in range(effects):
                    value += data[row + i] * point[ratio_at + e * effects + i]
                phase[k] = math.exp(value)
                by_phase[k] = 0.0
                for j in range(intervals):
                    by_phase[k] += data[events + (e * intervals + j) * phases + k]
                total += by_phase[k] * value
            rows = term + e * patterns * count
            by_pattern = events_pattern + e * patterns
            slopes = slope_at + e * count
            for p in range(patterns):
                pattern[p] = 0.0
                weighted[p] = 0.0
            for t in range(count):
                row, slope = rows + t * patterns, point[slopes + t]
                for p in range(patterns):
                    pattern[p] += slope * data[row + p]
            for p in range(patterns):
                relative[p] = math.exp(pattern[p])
            total += dot(data, by_pattern, pattern, 0, patterns)
            for j in range(intervals):
                for k in range(phases):
                    at = exposure + ((e * intervals + j) * phases + k) * patterns
                    hazard = baseline[j] * phase[k]
                    for p in range(patterns):
                        weighted[p] += hazard * data[at + p]
                    expected = hazard * dot(data, at, relative, 0, patterns)
                    by_interval[j] -= expected
                    by_phase[k] -= expected
                    total -= expected
            for j in range(intervals):
                gradient[e] += by_interval[j]
                row = basis + (e * intervals + j) * components
                for c in range(components):
                    by_coefficient[c] += data[row + c] * by_interval[j]
            for c in range(components):
                inverse = data[inverse_roughness + e * components + c]
                middle = data[likely + e * components + c]
                innovation = point[innovation_at + e * components + c]
                sd = walk_sd * inverse
                square = 1.0 + sd * sd
                wide = math.sqrt(square)
                shrink = sd / wide
                standard = (innovation + middle * shrink) / wide
                total -= 0.5 * standard * standard + 0.5 * math.log(square) + HALF_LOG_TWO_PI
                slope = by_coefficient[c]
                gradient[innovation_at + e * components + c] += slope * shrink - standard / wide
                if free:
                    by_shrink = slope * (2.0 * shrink * middle + innovation)
                    by_shrink -= middle * standard / wide
                    by_wide = (standard * standard - 1.0) / wide
                    by_sd = by_wide * shrink + by_shrink / (square * wide)
                    gradient[sd_at + e] += by_sd * inverse * walk_sd
            for i in range(effects):
                standard = (point[ratio_at + e * effects + i] - ratio_mean) / ratio_sd
                total -= 0.5 * standard * standard + log_ratio + HALF_LOG_TWO_PI
                slope = -standard / ratio_sd
                for k in range(phases):
                    slope += data[contrast + (e * phases + k) * effects + i] * by_phase[k]
                gradient[ratio_at + e * effects + i] += slope
            for t in range(count):
                standard = (point[slopes + t] - slope_mean) / slope_sd
                total -= 0.5 * standard * standard + log_slope + HALF_LOG_TWO_PI
                by_slope[t] = -standard / slope_sd
            for p in range(patterns):
                pattern[p] = data[by_pattern + p] - weighted[p] * relative[p]
            for t in range(count):
                by_slope[t] += dot(data, rows + t * patterns, pattern, 0, patterns)
                gradient[slopes + t] = by_slope[t]
        return total

    def expand(point: Any, data: Any, sizes: Any, out: Any) -> None:
        endpoints, intervals, phases = sizes[0], sizes[1], sizes[2]
        patterns, effects = sizes[3], sizes[4]
        components = sizes[5] if walk else 0
        count = sizes[6 if walk else 5] if terms else 0
        inverse_roughness = endpoints * intervals * components + patterns + (2 if terms else 0)
        inverse_roughness += endpoints * phases * effects
        inverse_roughness += endpoints * intervals * phases + endpoints * patterns
        inverse_roughness += endpoints * intervals * phases * patterns
        likely = inverse_roughness + endpoints * components + endpoints + 2 + 2
        likely += endpoints * patterns * count
        walk_prior = likely + endpoints * components
        innovation_at = endpoints + (endpoints if free else 0)
        log_baseline = endpoints if free else 0
        coefficient = np.empty(components)
        for e in range(endpoints):
            walk_sd = data[walk_prior + e] if walk else 1.0
            if free:
                walk_sd = math.exp(point[endpoints + e])
                out[e] = walk_sd
            for c in range(components):
                sd = walk_sd * data[inverse_roughness + e * components + c]
                wide = math.sqrt(1.0 + sd * sd)
                shrink = sd / wide
                innovation = point[innovation_at + e * components + c]
                coefficient[c] = shrink * (shrink * data[likely + e * components + c] + innovation)
            for j in range(intervals):
                deviation = 0.0
                for c in range(components):
                    # The basis comes first in the data.
                    deviation += data[(e * intervals + j) * components + c] * coefficient[c]
                out[log_baseline + e * intervals + j] = point[e] + deviation

    walk_data = ("basis", "inverse_roughness", "walk_centre", "walk_sd_prior") if walk else ()
    names = (
        "class_of",
        "contrast",
        "events",
        "events_by_pattern",
        "exposure",
        "level_centre",
        "level_prior",
        "log_hazard_ratio_prior",
        *walk_data,
        *(("coefficient_prior", "terms") if terms else ()),
    )
    dims = ("endpoint", "interval", "phase", "pattern", "effect")
    kind = ("free walk" if free else "known walk") if walk else "constant"
    return Kernel(
        function=_compiled(log_density),
        expand=_compiled(expand),
        extra_names=(*(("walk_sd",) if free else ()), "log_baseline"),
        name=f"proportional, {kind}, {'terms' if terms else 'no terms'}",
        data_names=tuple(sorted(names)),
        dims=(*dims, *(("component",) if walk else ()), *(("term",) if terms else ())),
    )
