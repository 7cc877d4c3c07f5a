"""Hand-written log densities and gradients of the commonest model structures.

PyMC stays the definition: `tests/inference/test_sampling.py` holds every structure here against
PyMC's own log density and gradient at random points. A structure that is not here is compiled from
the graph.
"""

from __future__ import annotations

import math
from collections import namedtuple
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

    `function`: takes the dimension, the point, the data, the sizes and where to put the gradient,
    and gives the log density.
    `expand`: takes the point, the data, the sizes and where to put the variables that are no
    coordinates of the point, in the order of `extra_names`.
    `extra_names`: names of these variables.
    `name`: tells kernels apart.
    `data_names`: names of the model's data, in the order in which the data hold them.
    `dims`: names of the model's dimensions, in the order in which the sizes hold them. Where each
    of the data begins follows, and then the shapes of the data, each in full.
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
    """
    fours = count - count % 4
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for k in range(0, fours, 4):
        first += left[i + k] * right[j + k]
        second += left[i + k + 1] * right[j + k + 1]
        third += left[i + k + 2] * right[j + k + 2]
        fourth += left[i + k + 3] * right[j + k + 3]
    for k in range(fours, count):
        first += left[i + k] * right[j + k]
    return (first + second) + (third + fourth)


# Without fast-math, so that results do not depend on how code was inlined; and a division by zero
# gives infinity, which the sampler takes as a divergence, not an exception that nobody sees.
_compiled = partial(numba.njit, fastmath=False, error_model="numpy")
_inlined: Any = _compiled(inline="always")
dot = _inlined(_dot)


@_inlined
def _log_baseline(
    point: Any, level: Any, data: Any, offset: Any, basis: Any, innovation: Any, components: Any
) -> Any:
    """Log hazard of an interval of a walk: level, offset and what the innovations add."""
    return point[level] + data[offset] + dot(data, basis, point, innovation, components)


@_inlined
def _sum(values: Any, start: Any, step: Any, count: Any) -> Any:
    """Add up every so many numbers of a run."""
    total = 0.0
    for k in range(count):
        total += values[start + k * step]
    return total


@_inlined
def _normal(value: Any, mean: Any, sd: Any, log_sd: Any) -> Any:
    """Minus a normal log density, and its derivative."""
    standard = (value - mean) / sd
    return 0.5 * standard * standard + log_sd + HALF_LOG_TWO_PI, standard / sd


@_inlined
def _of_patterns(
    point: Any,
    slopes: Any,
    data: Any,
    terms: Any,
    count: Any,
    pattern: Any,
    relative: Any,
    weighted: Any,
) -> None:
    """Put together the log hazard ratios of patterns; no person-time is weighted yet."""
    patterns = pattern.size
    for p in range(patterns):
        pattern[p] = 0.0
        weighted[p] = 0.0
    for t in range(count):
        slope = point[slopes + t]
        for p in range(patterns):
            pattern[p] += slope * data[terms + t * patterns + p]
    for p in range(patterns):
        relative[p] = math.exp(pattern[p])


@_inlined
def _take_off_expected(
    total: Any,
    data: Any,
    start: Any,
    baseline: Any,
    phase: Any,
    relative: Any,
    by_interval: Any,
    by_phase: Any,
    weighted: Any,
) -> Any:
    """Take the events that an endpoint's person-time leads to expect off the sums of events.

    Its person-time begins at `start`; weighted with hazards it is added up by pattern.
    """
    phases, patterns = phase.size, relative.size
    for j in range(baseline.size):
        for k in range(phases):
            row = start + (j * phases + k) * patterns
            hazard = baseline[j] * phase[k]
            for p in range(patterns):
                weighted[p] += hazard * data[row + p]
            expected = hazard * dot(data, row, relative, 0, patterns)
            by_interval[j] -= expected
            by_phase[k] -= expected
            total -= expected
    return total


_DIMS = ("endpoint", "interval", "phase", "pattern", "effect", "component", "term")
_OF_WALK = ("component", "basis", "walk_offset", "walk_prior_mean", "walk_prior_sd")
_OF_TERMS = ("term", "terms", "coefficient_prior")
_DATA = (
    *("class_of", "contrast", "events", "events_by_pattern", "level_centre", "level_prior"),
    *("log_hazard_ratio_prior", "person_time", *_OF_WALK[1:], *_OF_TERMS[1:]),
)
# Where the sizes hold the lengths of dimensions and the beginnings of data.
_Places: Any = namedtuple("_Places", (*_DIMS, *_DATA))  # type: ignore[misc]


def proportional_kernel(*, walk: bool, terms: bool) -> Kernel:
    """Make the kernel of proportional phases over a random-walk or a constant baseline."""
    missing = {*(() if walk else _OF_WALK), *(() if terms else _OF_TERMS)}
    dims = tuple(name for name in _DIMS if name not in missing)
    data_names = tuple(sorted(name for name in _DATA if name not in missing))
    position = {name: index for index, name in enumerate((*dims, *data_names))}
    # What is missing is nowhere read.
    at = _Places(**{name: position.get(name, 0) for name in (*_DIMS, *_DATA)})
    return Kernel(
        function=_compiled(_log_density(at, walk=walk, terms=terms)),
        expand=_compiled(_expansion(at, walk=walk)),
        extra_names=("log_baseline",),
        name=(
            f"proportional, {'random walk' if walk else 'constant'}, "
            f"{'terms' if terms else 'no terms'}"
        ),
        data_names=data_names,
        dims=dims,
    )


def _log_density(at: Any, *, walk: bool, terms: bool) -> Callable[..., Any]:
    """Write the log density and its gradient."""

    def log_density(_: Any, point: Any, data: Any, sizes: Any, gradient: Any) -> Any:
        endpoints, intervals, phases = sizes[at.endpoint], sizes[at.interval], sizes[at.phase]
        patterns, effects = sizes[at.pattern], sizes[at.effect]
        components = sizes[at.component] if walk else 0
        count = sizes[at.term] if terms else 0
        level_prior, ratio_prior = sizes[at.level_prior], sizes[at.log_hazard_ratio_prior]
        level_mean, level_sd = data[level_prior], data[level_prior + 1]
        ratio_mean, ratio_sd = data[ratio_prior], data[ratio_prior + 1]
        slope_mean, slope_sd = 0.0, 1.0
        if terms:
            slope_prior = sizes[at.coefficient_prior]
            slope_mean, slope_sd = data[slope_prior], data[slope_prior + 1]
        log_level, log_ratio, log_slope = math.log(level_sd), math.log(ratio_sd), math.log(slope_sd)
        baseline, by_interval = np.empty(intervals), np.empty(intervals)
        phase, by_phase = np.empty(phases), np.empty(phases)
        pattern, relative, weighted = np.empty(patterns), np.empty(patterns), np.empty(patterns)
        total = 0.0
        for e in range(endpoints):
            first = endpoints + e * components
            ratio = endpoints * (1 + components) + e * effects
            slopes = endpoints * (1 + components + effects) + e * count
            events = sizes[at.events] + e * intervals * phases
            by_pattern = sizes[at.events_by_pattern] + e * patterns
            contrast = sizes[at.contrast] + e * phases * effects
            basis = sizes[at.basis] + e * intervals * components
            walk_mean = sizes[at.walk_prior_mean] + e * components
            walk_sd = sizes[at.walk_prior_sd] + e * components
            rows = sizes[at.terms] + e * patterns * count
            time = sizes[at.person_time] + e * intervals * phases * patterns
            away = point[e] - data[sizes[at.level_centre] + e]
            density, slope = _normal(away, level_mean, level_sd, log_level)
            total -= density
            gradient[e] = -slope
            for j in range(intervals):
                value = point[e]
                if walk:
                    offset, row = sizes[at.walk_offset] + e * intervals + j, basis + j * components
                    value = _log_baseline(point, e, data, offset, row, first, components)
                baseline[j] = math.exp(value)
                by_interval[j] = _sum(data, events + j * phases, 1, phases)
                total += by_interval[j] * value
            for k in range(phases):
                value = 0.0
                for i in range(effects):
                    value += data[contrast + k * effects + i] * point[ratio + i]
                phase[k] = math.exp(value)
                by_phase[k] = _sum(data, events + k, phases, intervals)
                total += by_phase[k] * value
            _of_patterns(point, slopes, data, rows, count, pattern, relative, weighted)
            total += dot(data, by_pattern, pattern, 0, patterns)
            total = _take_off_expected(
                total, data, time, baseline, phase, relative, by_interval, by_phase, weighted
            )
            for c in range(components):
                sd = data[walk_sd + c]
                density, slope = _normal(point[first + c], data[walk_mean + c], sd, math.log(sd))
                total -= density
                gradient[first + c] = -slope
            for j in range(intervals):
                gradient[e] += by_interval[j]
                for c in range(components):
                    gradient[first + c] += data[basis + j * components + c] * by_interval[j]
            for i in range(effects):
                density, slope = _normal(point[ratio + i], ratio_mean, ratio_sd, log_ratio)
                total -= density
                gradient[ratio + i] = -slope
                for k in range(phases):
                    gradient[ratio + i] += data[contrast + k * effects + i] * by_phase[k]
            for p in range(patterns):
                pattern[p] = data[by_pattern + p] - weighted[p] * relative[p]
            for t in range(count):
                density, slope = _normal(point[slopes + t], slope_mean, slope_sd, log_slope)
                total -= density
                gradient[slopes + t] = dot(data, rows + t * patterns, pattern, 0, patterns) - slope
        return total

    return log_density


def _expansion(at: Any, *, walk: bool) -> Callable[..., Any]:
    """Write the map from a point to the log baseline hazards."""

    def expand(point: Any, data: Any, sizes: Any, out: Any) -> None:
        endpoints, intervals = sizes[at.endpoint], sizes[at.interval]
        components = sizes[at.component] if walk else 0
        for e in range(endpoints):
            for j in range(intervals):
                row = e * intervals + j
                out[row] = point[e]
                if walk:
                    offset, basis = sizes[at.walk_offset] + row, sizes[at.basis] + row * components
                    first = endpoints + e * components
                    out[row] = _log_baseline(point, e, data, offset, basis, first, components)

    return expand
