"""Types of arrays, and numbers read into one."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def require_numbers(values: object, argument: str) -> Floats:
    """Read numbers, or an array of them."""
    try:
        numbers = np.asarray(values)
    except (TypeError, ValueError):  # rows of unlike lengths, or what is no array
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{argument}: expected numbers, got {type(values).__name__}.")
    return numbers.astype(np.float64)


def rows_in_runs(first: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """List the rows of runs of rows: which run each is of, and its position.

    `first`, `counts`, shape (run,): where each run begins, and how many rows it has.

    >>> rows_in_runs(np.array([4, 0]), np.array([2, 1]))
    (array([0, 0, 1]), array([4, 5, 0]))
    """
    run = np.repeat(np.arange(counts.size), counts)
    return run, np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(run.size)
