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

KERNEL_VERSION = 3


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
    """Log-likelihood of a piecewise-exponential model, with its gradients.

    The log hazard of a cell is the sum of a part that the patterns of a class share, over interval
    and phase, and a part of the pattern, constant over time. Events matter through their sums over
    either, and no exponential is taken by cell.
    """

    __props__ = ()

    def make_node(self, *inputs: Any) -> Apply:
        """Take sums of events, person-time and the two parts of the log hazard.

        Inputs are the events by (endpoint, class, interval, phase) and by (endpoint, pattern), the
        person-time over (endpoint, interval, phase, pattern), the class of each pattern, and the
        parts by class, interval and phase and by pattern. Outputs are the log-likelihood and its
        gradients by the two parts.
        """
        variables = [pt.as_tensor_variable(value) for value in inputs]
        return Apply(self, variables, [pt.dscalar(), pt.dtensor4(), pt.dmatrix()])

    def perform(self, node: Any, inputs: Any, output_storage: Any) -> None:  # noqa: ARG002
        """Evaluate with numpy."""
        events, by_pattern, exposure, class_of, shared, pattern = inputs
        member = np.arange(shared.shape[1])[:, None] == class_of
        # (endpoint, interval, phase, pattern)
        expected = exposure * np.exp(
            np.moveaxis(shared[:, class_of.astype(np.int64)], 1, -1) + pattern[:, None, None, :]
        )
        log_density = (events * shared).sum() + (by_pattern * pattern).sum() - expected.sum()
        output_storage[0][0] = np.asarray(log_density)
        output_storage[1][0] = events - np.einsum("ejkp,cp->ecjk", expected, member)
        output_storage[2][0] = by_pattern - expected.sum((1, 2))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Any]:
        """Differentiate by the two parts; the rest is data."""
        data = [pt.zeros_like(value) for value in inputs[:4]]
        return [*data, *(cotangents[0] * gradient for gradient in outputs[1:])]


@register_funcify_default_op_cache_key(PiecewiseExponential)
def _piecewise_exponential_kernel(op: Any, node: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    @numba_njit
    def piecewise_exponential(
        events: Any, by_pattern: Any, exposure: Any, class_of: Any, shared: Any, pattern: Any
    ) -> Any:
        endpoints, intervals, phases, patterns = exposure.shape
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
                    row = exposure[e, j, k]
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
