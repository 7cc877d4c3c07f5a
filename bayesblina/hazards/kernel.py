"""Hand-written log densities and gradients of the commonest model structures.

PyMC stays the definition: `tests/inference/test_sampling.py` holds every structure here against
PyMC's own log density and gradient at random points. A structure that is not here is compiled from
the graph.
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
    i, j
        Where the runs begin.
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


def proportional_kernel(*, walk: bool, terms: bool) -> Kernel:
    """Make the kernel of proportional phases over a random-walk or a constant baseline."""
    walk_data = ("basis", "walk_offset", "walk_prior_mean", "walk_prior_sd") if walk else ()
    names = (
        "class_of",
        "contrast",
        "events",
        "events_by_pattern",
        "person_time",
        "level_centre",
        "level_prior",
        "log_hazard_ratio_prior",
        *walk_data,
        *(("coefficient_prior", "terms") if terms else ()),
    )
    dims = ("endpoint", "interval", "phase", "pattern", "effect")
    kind = "random walk" if walk else "constant"
    return Kernel(
        function=_compiled(_log_density(walk=walk, terms=terms)),
        expand=_compiled(_expansion(walk=walk, terms=terms)),
        extra_names=("log_baseline",),
        name=f"proportional, {kind}, {'terms' if terms else 'no terms'}",
        data_names=tuple(sorted(names)),
        dims=(*dims, *(("component",) if walk else ()), *(("term",) if terms else ())),
    )


def _log_density(*, walk: bool, terms: bool) -> Callable[..., Any]:
    """Write the log density and its gradient."""

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
        centre = at
        at += endpoints
        level_prior = at
        at += 2
        ratio_prior = at
        at += 2
        person_time = at
        at += endpoints * intervals * phases * patterns
        term = at
        at += endpoints * patterns * count
        offset = at
        at += endpoints * intervals if walk else 0
        walk_mean = at
        at += endpoints * components
        walk_sd = at
        # Positions in the point.
        innovation_at = endpoints
        ratio_at = innovation_at + endpoints * components
        slope_at = ratio_at + endpoints * effects

        for i in range(dimension):
            gradient[i] = 0.0
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
            first = innovation_at + e * components
            for j in range(intervals):
                row = basis + (e * intervals + j) * components
                value = point[e]
                if walk:
                    value += data[offset + e * intervals + j]
                    value += dot(data, row, point, first, components)
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
                    at = person_time + ((e * intervals + j) * phases + k) * patterns
                    hazard = baseline[j] * phase[k]
                    for p in range(patterns):
                        weighted[p] += hazard * data[at + p]
                    expected = hazard * dot(data, at, relative, 0, patterns)
                    by_interval[j] -= expected
                    by_phase[k] -= expected
                    total -= expected
            for c in range(components):
                sd = data[walk_sd + e * components + c]
                standard = (point[first + c] - data[walk_mean + e * components + c]) / sd
                total -= 0.5 * standard * standard + math.log(sd) + HALF_LOG_TWO_PI
                gradient[first + c] -= standard / sd
            for j in range(intervals):
                gradient[e] += by_interval[j]
                row = basis + (e * intervals + j) * components
                for c in range(components):
                    gradient[first + c] += data[row + c] * by_interval[j]
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

    return log_density


def _expansion(*, walk: bool, terms: bool) -> Callable[..., Any]:
    """Write the map from a point to the log baseline hazards."""

    def expand(point: Any, data: Any, sizes: Any, out: Any) -> None:
        endpoints, intervals, phases = sizes[0], sizes[1], sizes[2]
        patterns, effects = sizes[3], sizes[4]
        components = sizes[5] if walk else 0
        count = sizes[6 if walk else 5] if terms else 0
        offset = endpoints * intervals * components + patterns + (2 if terms else 0)
        offset += endpoints * phases * effects
        offset += endpoints * intervals * phases + endpoints * patterns
        offset += endpoints * intervals * phases * patterns + endpoints + 2 + 2
        offset += endpoints * patterns * count
        for e in range(endpoints):
            first = endpoints + e * components
            for j in range(intervals):
                value = point[e]
                if walk:
                    # The basis comes first in the data.
                    row = (e * intervals + j) * components
                    value += data[offset + e * intervals + j]
                    value += dot(data, row, point, first, components)
                out[e * intervals + j] = value

    return expand
