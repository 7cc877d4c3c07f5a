"""numba's kernels of the operations in `ops`; imported only where a graph is compiled.

PyTensor's compiler for numba takes long to import, and a process that finds its density on disk
does without.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesblina.hazards.ops import (
    BatchedMatrixVector,
    CuredMixture,
    FoundAtVisits,
    PiecewiseExponential,
)

KERNEL_VERSION = 3


@register_funcify_default_op_cache_key(BatchedMatrixVector)
def _matrix_vector_kernel(op: BatchedMatrixVector, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    if op.transposed:

        @numba_njit
        def matrix_vector(matrix: Any, vector: Any) -> Any:
            endpoints, columns, rows = matrix.shape
            out = np.zeros((endpoints, rows))
            for e in range(endpoints):
                for j in range(columns):
                    for i in range(rows):
                        out[e, i] += matrix[e, j, i] * vector[e, j]
            return out

    else:

        @numba_njit
        def matrix_vector(matrix: Any, vector: Any) -> Any:
            endpoints, rows, columns = matrix.shape
            out = np.empty((endpoints, rows))
            for e in range(endpoints):
                for i in range(rows):
                    total = 0.0
                    for j in range(columns):
                        total += matrix[e, i, j] * vector[e, j]
                    out[e, i] = total
            return out

    return matrix_vector, KERNEL_VERSION


@register_funcify_default_op_cache_key(PiecewiseExponential)
def _piecewise_exponential_kernel(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit
    def piecewise_exponential(
        events: Any, by_pattern: Any, person_time: Any, class_of: Any, shared: Any, pattern: Any
    ) -> Any:
        endpoints, intervals, phases, patterns = person_time.shape
        classes = shared.shape[1]
        out_shared = events.copy()
        out_pattern = by_pattern.copy()
        relative = np.empty(patterns)
        weighted = np.empty(patterns)
        hazard = np.empty(classes)
        expected = np.empty(classes)
        total = 0.0
        for e in range(endpoints):
            for p in range(patterns):
                total += by_pattern[e, p] * pattern[e, p]
                relative[p] = np.exp(pattern[e, p])
                weighted[p] = 0.0
            for j in range(intervals):
                for k in range(phases):
                    for c in range(classes):
                        total += events[e, c, j, k] * shared[e, c, j, k]
                        hazard[c] = np.exp(shared[e, c, j, k])
                        expected[c] = 0.0
                    row = person_time[e, j, k]
                    for p in range(patterns):
                        c = int(class_of[p])
                        weighted[p] += hazard[c] * row[p]
                        expected[c] += row[p] * relative[p]
                    for c in range(classes):
                        out_shared[e, c, j, k] -= hazard[c] * expected[c]
                        total -= hazard[c] * expected[c]
            for p in range(patterns):
                out_pattern[e, p] -= weighted[p] * relative[p]
        return np.asarray(total), out_shared, out_pattern

    return piecewise_exponential, KERNEL_VERSION


@register_funcify_default_op_cache_key(CuredMixture)
def _cured_mixture_kernel(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit
    def cured_mixture(
        events: Any,
        pattern_of: Any,
        survived: Any,
        first: Any,
        cell: Any,
        time: Any,
        class_of: Any,
        shared: Any,
        pattern: Any,
        odds: Any,
    ) -> Any:
        endpoints, patients = survived.shape
        classes, intervals, phases = shared.shape[1:]
        by_shared = np.zeros(shared.shape)
        by_pattern = np.zeros(pattern.shape)
        by_odds = np.empty(odds.shape)
        patterns = odds.shape[1]
        log_not = np.empty(patterns)
        cure = np.empty(patterns)
        relative = np.empty(patterns)
        hazard = np.empty((classes, intervals * phases))
        total = 0.0
        for e in range(endpoints):
            for p in range(patterns):
                # log(1 + exp(x)) and 1 / (1 + exp(-x)), without overflow.
                small = np.exp(-abs(odds[e, p]))
                log_not[p] = max(odds[e, p], 0.0) + np.log1p(small)
                cure[p] = (1.0 if odds[e, p] > 0.0 else small) / (1.0 + small)
                relative[p] = np.exp(pattern[e, p])
                total -= events[e, p] * log_not[p]
                by_odds[e, p] = -events[e, p] * cure[p]
            for c in range(classes):
                for j in range(intervals):
                    for k in range(phases):
                        hazard[c, j * phases + k] = np.exp(shared[e, c, j, k])
            for i in range(patients):
                weight = survived[e, i]
                if weight == 0.0:
                    continue
                p = int(pattern_of[i])
                c = int(class_of[p])
                begin, end = int(first[e, i]), int(first[e, i + 1])
                passed = 0.0
                for m in range(begin, end):
                    passed += time[m] * hazard[c, int(cell[m])]
                passed *= relative[p]
                # log(odds + exp(-passed)) + passed = log(1 + exp(log odds + passed)).
                sum_ = odds[e, p] + passed
                small = np.exp(-abs(sum_))
                total += weight * (max(sum_, 0.0) + np.log1p(small) - log_not[p])
                slope = weight * (1.0 if sum_ > 0.0 else small) / (1.0 + small)
                by_pattern[e, p] += slope * passed
                by_odds[e, p] += slope - weight * cure[p]
                scaled = slope * relative[p]
                for m in range(begin, end):
                    at = int(cell[m])
                    j, k = at // phases, at % phases
                    by_shared[e, c, j, k] += scaled * time[m] * hazard[c, at]
        return np.asarray(total), by_shared, by_pattern, by_odds

    return cured_mixture, KERNEL_VERSION


@register_funcify_default_op_cache_key(FoundAtVisits)
def _found_at_visits_kernel(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit
    def found_at_visits(
        endpoint: Any,
        row: Any,
        class_of: Any,
        weight: Any,
        first: Any,
        cell: Any,
        length: Any,
        start: Any,
        shared: Any,
        own: Any,
        starting: Any,
        begun: Any,
    ) -> Any:
        phases = shared.shape[3]
        by_shared = np.zeros(shared.shape)
        by_own = np.zeros(own.shape)
        by_starting = np.zeros(starting.shape)
        by_begun = np.zeros(begun.shape)
        most = 0
        for i in range(own.size):
            most = max(most, int(first[i + 1]) - int(first[i]))
        hazards, others = np.empty(most), np.empty(most)
        slopes, terms = np.empty(most), np.empty(most)
        total = 0.0
        for i in range(own.size):
            if weight[i] == 0.0:
                continue
            e, c, begin = int(endpoint[i]), int(class_of[i]), int(first[i])
            r = int(row[i])
            count = int(first[i + 1]) - begin
            before, found = 1.0, 0.0
            for m in range(count):
                at = int(cell[begin + m])
                hazard = np.exp(shared[e, c, at // phases, at % phases] + own[i])
                place = int(start[begin + m])
                other = np.exp(starting[r, place] + begun[i]) if place >= 0 else 0.0
                rate, time = hazard + other, length[begin + m]
                left = np.exp(-rate * time)
                share = -np.expm1(-rate * time) / rate
                hazards[m], others[m] = hazard, other
                terms[m] = before * hazard * share
                slopes[m] = before * hazard * (time * left - share) / rate
                found += terms[m]
                before *= left
            total += weight[i] * np.log(found)
            scale, later = weight[i] / found, 0.0
            for m in range(count - 1, -1, -1):
                moved = slopes[m] - length[begin + m] * later
                later += terms[m]
                at, place = int(cell[begin + m]), int(start[begin + m])
                slope = scale * (terms[m] + hazards[m] * moved)
                by_shared[e, c, at // phases, at % phases] += slope
                by_own[i] += slope
                if place >= 0:
                    slope = scale * others[m] * moved
                    by_starting[r, place] += slope
                    by_begun[i] += slope
        return np.asarray(total), by_shared, by_own, by_starting, by_begun

    return found_at_visits, KERNEL_VERSION
