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

KERNEL_VERSION = 1


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

    The log hazard of a cell is the sum of an interval's, a phase's and a pattern's part, so the
    expected events are one product of the person-time table with three vectors of exponentials:
    no exponential is taken by cell.
    """

    __props__ = ()

    def make_node(
        self, events: Any, exposure: Any, baseline: Any, phase: Any, pattern: Any
    ) -> Apply:
        """Take (endpoint, interval, phase, pattern) tables and the three parts.

        Outputs are the log-likelihood and its gradients by interval, phase and pattern.
        """
        inputs = [pt.as_tensor_variable(v) for v in (events, exposure, baseline, phase, pattern)]
        return Apply(self, inputs, [pt.dscalar(), pt.dmatrix(), pt.dmatrix(), pt.dmatrix()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        events, exposure, baseline, phase, pattern = inputs
        log_hazard = (
            baseline[:, :, None, None] + phase[:, None, :, None] + pattern[:, None, None, :]
        )
        expected = exposure * np.exp(log_hazard)
        rest = events - expected
        output_storage[0][0] = np.asarray((events * log_hazard - expected).sum())
        output_storage[1][0] = rest.sum((2, 3))
        output_storage[2][0] = rest.sum((1, 3))
        output_storage[3][0] = rest.sum((1, 2))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate by the three parts; the tables are data."""
        data = [pt.zeros_like(value) for value in inputs[:2]]
        return [*data, *(cotangents[0] * gradient for gradient in outputs[1:])]


@register_funcify_default_op_cache_key(PiecewiseExponential)
def _piecewise_exponential_kernel(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit
    def piecewise_exponential(
        events: Any, exposure: Any, baseline: Any, phase: Any, pattern: Any
    ) -> Any:
        endpoints, intervals, phases, patterns = exposure.shape
        by_interval = np.zeros((endpoints, intervals))
        by_phase = np.zeros((endpoints, phases))
        by_pattern = np.zeros((endpoints, patterns))
        relative = np.empty(patterns)
        total = 0.0
        for e in range(endpoints):
            for p in range(patterns):
                relative[p] = np.exp(pattern[e, p])
            for j in range(intervals):
                for k in range(phases):
                    log_hazard = baseline[e, j] + phase[e, k]
                    hazard = np.exp(log_hazard)
                    expected = 0.0
                    observed = 0.0
                    for p in range(patterns):
                        mean = hazard * exposure[e, j, k, p] * relative[p]
                        count = events[e, j, k, p]
                        expected += mean
                        observed += count
                        by_pattern[e, p] += count - mean
                        total += count * pattern[e, p]
                    by_interval[e, j] += observed - expected
                    by_phase[e, k] += observed - expected
                    total += observed * log_hazard - expected
        return np.asarray(total), by_interval, by_phase, by_pattern

    return piecewise_exponential, KERNEL_VERSION
