"""Two PyTensor operations with hand-written kernels, which keep compiling short.

Both are defined by their `perform` methods, in plain numpy; the numba kernels are tested against
them and their gradients against finite differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

KERNEL_VERSION = 2


class BatchedMatrixVector(Op):
    """Multiply each endpoint's matrix with its vector.

    Parameters
    ----------
    transposed
        Whether to use the transposed matrices.
    """

    __props__ = ("transposed",)

    def __init__(self, *, transposed: bool = False) -> None:
        self.transposed = transposed

    def make_node(self, matrix: Any, vector: Any) -> Apply:
        """Take (endpoint, row, column) and (endpoint, column) to (endpoint, row)."""
        inputs = [pt.as_tensor_variable(matrix), pt.as_tensor_variable(vector)]
        return Apply(self, inputs, [pt.dmatrix()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        matrix, vector = inputs
        subscripts = "eji,ej->ei" if self.transposed else "eij,ej->ei"
        output_storage[0][0] = np.einsum(subscripts, matrix, vector)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:  # noqa: ARG002
        """Differentiate; the matrix is data."""
        turned = BatchedMatrixVector(transposed=not self.transposed)
        return [pt.zeros_like(inputs[0]), turned(inputs[0], cotangents[0])]


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


class PiecewiseExponential(Op):
    """Log-likelihood of a proportional piecewise-exponential model, with its gradients.

    The log hazard of a cell is the sum of an interval's, a phase's and a pattern's part, so events
    matter through their sums by interval, by phase and by pattern, and the expected events are
    products of the person-time table with vectors of exponentials: no exponential is taken by cell.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take sums of events, person-time and the three parts of the log hazard.

        Inputs are the events by (endpoint, interval), (endpoint, phase) and (endpoint, pattern),
        the person-time over (endpoint, interval, phase, pattern), and the parts by interval, phase
        and pattern. Outputs are the log-likelihood and its gradients by the three parts.
        """
        variables = [pt.as_tensor_variable(value) for value in inputs]
        return Apply(self, variables, [pt.dscalar(), pt.dmatrix(), pt.dmatrix(), pt.dmatrix()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        *events, exposure, baseline, phase, pattern = inputs
        expected = exposure * np.exp(
            baseline[:, :, None, None] + phase[:, None, :, None] + pattern[:, None, None, :]
        )
        parts = (baseline, phase, pattern)
        log_density = sum((count * part).sum() for count, part in zip(events, parts, strict=True))
        output_storage[0][0] = np.asarray(log_density - expected.sum())
        for index, others in enumerate(((2, 3), (1, 3), (1, 2))):
            output_storage[1 + index][0] = events[index] - expected.sum(others)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate by the three parts; the rest is data."""
        data = [pt.zeros_like(value) for value in inputs[:4]]
        return [*data, *(cotangents[0] * gradient for gradient in outputs[1:])]


@register_funcify_default_op_cache_key(PiecewiseExponential)
def _piecewise_exponential_kernel(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit
    def piecewise_exponential(
        events_interval: Any,
        events_phase: Any,
        events_pattern: Any,
        exposure: Any,
        baseline: Any,
        phase: Any,
        pattern: Any,
    ) -> Any:
        endpoints, intervals, phases, patterns = exposure.shape
        by_interval = events_interval.copy()
        by_phase = events_phase.copy()
        by_pattern = events_pattern.copy()
        relative = np.empty(patterns)
        weighted = np.empty(patterns)
        total = 0.0
        for e in range(endpoints):
            for p in range(patterns):
                total += events_pattern[e, p] * pattern[e, p]
                relative[p] = np.exp(pattern[e, p])
                weighted[p] = 0.0
            for k in range(phases):
                total += events_phase[e, k] * phase[e, k]
            for j in range(intervals):
                total += events_interval[e, j] * baseline[e, j]
                for k in range(phases):
                    hazard = np.exp(baseline[e, j] + phase[e, k])
                    row = exposure[e, j, k]
                    for p in range(patterns):
                        weighted[p] += hazard * row[p]
                    # Four sums side by side: the processor need not wait for each addition, and
                    # their order is the same on every machine.
                    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
                    whole = patterns - patterns % 4
                    for p in range(0, whole, 4):
                        first += row[p] * relative[p]
                        second += row[p + 1] * relative[p + 1]
                        third += row[p + 2] * relative[p + 2]
                        fourth += row[p + 3] * relative[p + 3]
                    for p in range(whole, patterns):
                        first += row[p] * relative[p]
                    expected = hazard * ((first + second) + (third + fourth))
                    by_interval[e, j] -= expected
                    by_phase[e, k] -= expected
                    total -= expected
            for p in range(patterns):
                by_pattern[e, p] -= weighted[p] * relative[p]
        return np.asarray(total), by_interval, by_phase, by_pattern

    return piecewise_exponential, KERNEL_VERSION
