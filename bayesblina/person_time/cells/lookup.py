"""Which interval a time lies in, as an expression for a query engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats
from bayesblina.patients.scan.engines import ibis_module, number

MOST_CELLS = 16_384


def interval_expression(time: Any, cuts: Floats, *, closed: bool = False) -> Any:
    """Count the cuts that lie before a time, at a cost that hardly depends on their number.

    A uniform grid gives a number that is surely not too large, and comparing the time with the few
    cuts that may follow gives the exact one: the grid's own rounding does not matter.

    Parameters
    ----------
    cuts : ndarray, shape (cut,)
        Rising cut points.
    """
    ibis = ibis_module()
    if not cuts.size:
        return ibis.literal(0, type="int32")
    cells, surely, at_most = _grid(cuts)
    width = float(cuts[-1]) / cells
    cell = ibis.least((time / number(width)).floor(), float(cells)).cast("int32")
    count = ibis.array([int(one) for one in surely])[cell].cast("int32")
    following = ibis.array([number(cut) for cut in [*cuts, 1e308]])
    start = count
    for step in range(at_most):
        cut = following[ibis.least(start + step, cuts.size)]
        passed = (time >= cut) if closed else (time > cut)
        count = count + passed.cast("int32")
    return count


def _grid(cuts: Floats) -> tuple[int, NDArray[np.int64], int]:
    """Cells, the number of cuts surely before each, and how many may follow within it."""
    cells = 64
    while True:
        edges = np.arange(cells + 2) * (float(cuts[-1]) / cells)
        # A time's cell is right up to rounding.
        surely = np.searchsorted(cuts, edges[:-1] * (1.0 - 1e-12), side="left")
        perhaps = np.searchsorted(cuts, edges[1:] * (1.0 + 1e-12), side="right")
        surely[0] = 0
        perhaps[-1] = cuts.size
        at_most = int((perhaps - surely).max())
        if at_most <= 2 or cells >= MOST_CELLS:
            return cells, surely, at_most
        cells *= 2
