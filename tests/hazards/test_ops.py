"""Operations with hand-written kernels: their definitions, and their gradients."""

from typing import Any

import numpy as np
import pytensor
import pytest

from bayesblina.hazards.ops import BatchedMatrixVector, PiecewiseExponential


def drawn(
    generator: np.random.Generator, shape: tuple[int, int, int, int], classes: int
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Inputs of the density: data and parts; and the log hazard of every cell."""
    endpoints, intervals, phases, patterns = shape
    counts = generator.integers(0, 3, shape).astype(float)
    time = generator.uniform(0, 4, shape)
    class_of = generator.integers(0, classes, patterns)
    shared = generator.normal(-1, 1, (endpoints, classes, intervals, phases))
    pattern = generator.normal(-1, 1, (endpoints, patterns))
    events = np.zeros(shared.shape)
    for p, c in enumerate(class_of):
        events[:, c] += counts[..., p]
    log_hazard = np.stack(
        [shared[:, c] + pattern[:, None, None, p] for p, c in enumerate(class_of)]
    )
    by_cell = counts * np.moveaxis(log_hazard, 0, -1) - time * np.exp(
        np.moveaxis(log_hazard, 0, -1)
    )
    data = [events, counts.sum((1, 2)), time, class_of.astype(float)]
    return data, [shared, pattern], by_cell


@pytest.mark.parametrize("classes", [1, 3])
def test_likelihood_kernel_is_its_definition(classes: int) -> None:
    generator = np.random.default_rng(0)
    data, parts, by_cell = drawn(generator, (2, 4, 3, 11), classes)
    values = [*data, *parts]
    inputs = [pytensor.tensor.tensor(dtype="float64", shape=(None,) * v.ndim) for v in values]
    function = pytensor.function(inputs, PiecewiseExponential()(*inputs), mode="NUMBA")
    storage: list[list[Any]] = [[None] for _ in range(3)]
    PiecewiseExponential().perform(None, values, storage)
    for got, (expected,) in zip(function(*values), storage, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert float(storage[0][0]) == pytest.approx(by_cell.sum(), rel=1e-12)
    matrix, vector = generator.normal(size=(2, 3, 4)), generator.normal(size=(2, 4))
    for transposed, right in ((False, vector), (True, generator.normal(size=(2, 3)))):
        op = BatchedMatrixVector(transposed=transposed)
        a, x = pytensor.tensor.dtensor3(), pytensor.tensor.dmatrix()
        got = pytensor.function([a, x], op(a, x), mode="NUMBA")(matrix, right)
        subscripts = "eji,ej->ei" if transposed else "eij,ej->ei"
        np.testing.assert_allclose(got, np.einsum(subscripts, matrix, right), rtol=1e-12)


def test_gradients_match_finite_differences() -> None:
    generator = np.random.default_rng(1)
    data, parts, _ = drawn(generator, (1, 3, 2, 4), 2)

    def density(values: list[np.ndarray]) -> list[np.ndarray]:
        storage: list[list[object]] = [[None] for _ in range(3)]
        PiecewiseExponential().perform(None, [*data, *values], storage)
        return [np.asarray(cell[0]) for cell in storage]

    value, *gradients = density(parts)
    step = 1e-6
    for index, part in enumerate(parts):
        for place in np.ndindex(part.shape):
            moved = [p.copy() for p in parts]
            moved[index][place] += step
            slope = (density(moved)[0] - value) / step
            assert gradients[index][place] == pytest.approx(float(slope), abs=1e-3)
