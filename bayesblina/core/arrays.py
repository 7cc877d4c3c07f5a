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
