"""Passes over many patients, one after the other, compiled by numba.

Who is at risk, when and in which state is defined in `bayesblina.core.episodes`; the same lines are
compiled into the passes here. What is compiled is kept on disk where that is possible.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.extending import overload, register_jitable
from numpy.typing import NDArray

from bayesblina.core import episodes as definition
from bayesblina.core import intervals
from bayesblina.core.episodes import (
    AT_RISK,
    choose,
    fill_bounds,
    greater,
    lesser,
    near,
    order_bounds,
    segment,
    settle_bounds,
    settled,
    tie_width,
    time_at_risk,
)

_log = logging.getLogger("bayesblina")
# Compiled code is kept under names that change with the lines that are compiled into it.
_LINES = hashlib.sha256(
    "".join(inspect.getsource(module) for module in (definition, intervals)).encode()
).hexdigest()[:16]

for function in (
    near,
    time_at_risk,
    tie_width,
    fill_bounds,
    settled,
    settle_bounds,
    order_bounds,
    segment,
):
    register_jitable(inline="always")(function)


def _choice(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


def _lesser(left: Any, right: Any) -> Any:
    return left if left < right else right


def _greater(left: Any, right: Any) -> Any:
    return left if left > right else right


def _compiled_as(primitive: Callable[..., Any], implementation: Callable[..., Any]) -> None:
    """Say what one of the definition's primitives is for one patient's numbers."""
    overload(primitive, strict=False, inline="always")(lambda *_: implementation)


_compiled_as(choose, _choice)
_compiled_as(lesser, _lesser)
_compiled_as(greater, _greater)


@numba.njit(inline="always")
def _products(values: Any, degrees: Any, x: Any, i: Any) -> None:
    """Products of Chebyshev polynomials of a patient's covariates, the last covariate fastest."""
    size = 1
    values[0] = 1.0
    for d in range(degrees.size):
        degree, at = degrees[d], x[i, d]
        for have in range(size - 1, -1, -1):
            before, now = 1.0, at
            whole = values[have]
            for t in range(degree):
                values[have * degree + t] = whole * before
                before, now = now, 2.0 * at * now - before
        size *= degree


def fill_at_risk(
    time: Any,
    event: Any,
    entry: Any,
    phase_start: Any,
    eligible_phase: Any,
    transplant: Any,
    landmark: Any,
    begin: Any,
    stop: Any,
    ended: Any,
    reason: Any,
) -> None:
    """Write down when patients are at risk: `time_at_risk` of each."""
    for i in range(time.size):
        eligible = phase_start[i, eligible_phase] if eligible_phase >= 0 else -np.inf
        moment = transplant[i] if transplant.size else np.inf
        if np.isnan(moment):
            moment = np.inf
        begin[i], stop[i], ended[i], reason[i] = time_at_risk(
            time[i], event[i], entry[i], eligible, moment, landmark
        )


@numba.njit(inline="always")
def _own_bounds(bounds: Any, states: Any, i: Any, first: Any, times: Any, entered: Any) -> Any:
    """Write down when a patient's own states are marked to begin, and which; count the marks."""
    marks = first[i + 1] - first[i]
    bounds[0], bounds[marks + 1] = 0.0, np.inf
    for m in range(marks):
        bounds[m + 1], states[m + 1] = times[first[i] + m], entered[first[i] + m]
    return marks


def list_entries(
    begin: Any,
    stop: Any,
    reason: Any,
    phase_start: Any,
    phase_end: Any,
    transplant: Any,
    kinds: Any,
    phases: Any,
    offsets: Any,
    from_times: Any,
    widths: Any,
    own_first: Any,
    own_times: Any,
    own_states: Any,
    most: Any,
    states: Any,
    effects: Any,
    times: Any,
    effect: Any,
    found: Any,
) -> None:
    """List when patients enter states with another effect, and count these entries."""
    bounds = np.empty(most + 2)
    state = np.zeros(most + 2, dtype=np.int64)
    state[: states.size] = states
    count = 0
    for i in range(begin.size):
        if reason[i] != AT_RISK:
            continue
        start, end = begin[i], stop[i]
        # Where `own_first` is None, which is known when this is compiled, marks are everybody's.
        if own_first is None:
            marks = kinds.size
            fill_bounds(bounds, i, phase_start, phase_end, transplant, kinds, phases, offsets)
        else:
            marks = _own_bounds(bounds, state, i, own_first, own_times, own_states)
        settle_bounds(bounds, marks, start, end, from_times, widths)
        order_bounds(bounds, marks)
        before = -1
        for m in range(marks + 1):
            low, high = segment(bounds, m, start, end)
            if not low < high:
                continue
            now = effects[state[m]]
            if before >= 0 and before != now:
                times[count], effect[count] = low, now
                count += 1
            before = now
    found[0] = count


def add_patients(
    begin: Any,
    stop: Any,
    event: Any,
    reason: Any,
    phase_start: Any,
    phase_end: Any,
    transplant: Any,
    kinds: Any,
    phases: Any,
    offsets: Any,
    from_times: Any,
    widths: Any,
    own_first: Any,
    own_times: Any,
    own_states: Any,
    most: Any,
    states: Any,
    upper_cuts: Any,
    lower_cuts: Any,
    edges: Any,
    group: Any,
    weight: Any,
    x: Any,
    degrees: Any,
    events: Any,
    partial: Any,
    passed: Any,
    opened: Any,
    first: Any,
    longest: Any,
    visitors: Any,
) -> None:
    """Add events and person-time to sums by state, group, interval and moment."""
    bounds = np.empty(most + 2)
    state = np.zeros(most + 2, dtype=np.int64)
    state[: states.size] = states
    count = partial.shape[3]
    values = np.ones(count)
    seen_by = np.full(first.size, -1)
    for i in range(begin.size):
        if reason[i] != AT_RISK:
            continue
        start, end = begin[i], stop[i]
        # Where `own_first` is None, which is known when this is compiled, marks are everybody's.
        if own_first is None:
            marks = kinds.size
            fill_bounds(bounds, i, phase_start, phase_end, transplant, kinds, phases, offsets)
        else:
            marks = _own_bounds(bounds, state, i, own_first, own_times, own_states)
        settle_bounds(bounds, marks, start, end, from_times, widths)
        order_bounds(bounds, marks)
        times = weight[i] if weight.size else 1.0
        if degrees.size:
            _products(values, degrees, x, i)
        g = group[i]
        for m in range(marks + 1):
            low, high = segment(bounds, m, start, end)
            if not low < high:
                continue
            s = state[m]
            if seen_by[s] != i:
                seen_by[s] = i
                visitors[s] += 1
            first[s] = min(first[s], low)
            longest[s] = max(longest[s], high - low)
            until = np.searchsorted(upper_cuts, high)
            since = min(np.searchsorted(lower_cuts, low, side="right"), until)
            opened[s, g, since] += 1
            opened[s, g, until + 1] -= 1
            ended, left = times * (high - edges[until]), times * (low - edges[since])
            for t in range(count):
                value = values[t]
                partial[s, g, until, t] += value * ended
                partial[s, g, since, t] -= value * left
                passed[s, g, until, t] += value * times
                passed[s, g, since, t] -= value * times
            if event[i] and high == end:
                for t in range(count):
                    events[s, g, until, t] += values[t] * times


def add_bounds(
    begin: Any, stop: Any, event: Any, reason: Any, weight: Any, reasons: Any, found: Any
) -> None:
    """Add up time at risk, events and reasons, and find the bounds of time at risk."""
    # Sums of runs of patients, then of these: rounding grows with the number of runs only.
    person_time, died, run = 0.0, 0.0, 0
    for i in range(begin.size):
        reasons[reason[i]] += 1
        if reason[i] != AT_RISK:
            continue
        times = weight[i] if weight.size else 1.0
        found[0] = min(found[0], begin[i])
        found[1] = max(found[1], begin[i])
        found[2] = max(found[2], stop[i])
        person_time += times * (stop[i] - begin[i])
        if event[i]:
            died += times
        run += 1
        if run == 4096:
            found[3] += person_time
            found[4] += died
            person_time, died, run = 0.0, 0.0, 0
    found[3] += person_time
    found[4] += died


def add_moments(inside: Any, group: Any, x: Any, degrees: Any, total: Any) -> None:
    """Add the polynomials of patients' covariates to sums by group."""
    values = np.ones(total.shape[1])
    for i in range(inside.size):
        if not inside[i]:
            continue
        if degrees.size:
            _products(values, degrees, x, i)
        for t in range(values.size):
            total[group[i], t] += values[t]


_READY: dict[str, Any] = {}


def constant[T: np.generic](values: NDArray[T]) -> NDArray[T]:
    """View an array as one that cannot be written to, so that one compiled form serves all."""
    view = values.view()
    view.flags.writeable = False
    return view


def run_compiled(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function compiled; the compiled form is kept on disk where that is possible.

    `function`: a function that numba can compile, the only one of its name.
    """
    ready = _READY.get(function.__name__)
    if ready is None:
        signature = tuple(numba.typeof(argument) for argument in arguments)
        function.__qualname__ = f"{function.__name__}_{_LINES}"
        try:
            ready = numba.njit(cache=True, nogil=True)(function)
            ready.compile(signature)
        except Exception as error:  # no folder to keep it in, or what is kept there is damaged
            _log.info("Compiled functions are not kept on disk (%s).", error)
            ready = numba.njit(nogil=True)(function)
        _READY[function.__name__] = ready
    # Where numba is told not to compile, numpy would warn of infinite times.
    with np.errstate(invalid="ignore"):
        ready(*arguments)
