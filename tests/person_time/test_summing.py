"""Groups of the patients of a scan."""

import numpy as np
import pytest

from bayesblina.person_time.cells.patterns import Terms
from bayesblina.person_time.cells.summing import Grouping
from bayesblina.person_time.compression import Axis, Compression

AXES = tuple(Axis(name=name, low=0.0, high=1.0, nodes=4, swing=1.0) for name in ("x", "y"))


def grouping(compression: Compression | None = None) -> Grouping:
    return Grouping(
        codes=np.array([2, 5, 9]),
        group=np.array([1, 0, 1]),
        terms=Terms(names=("t",), continuous=(False,), design=np.array([[0.0], [1.0]])),
        described=(),
        compression=compression,
    )


def test_groups_of_combinations() -> None:
    """Combinations before, between and after those that occur are nobody's."""
    found = grouping().group_of(np.arange(12))
    assert found.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert found.dtype.kind == "i"


@pytest.mark.parametrize(("axes", "moments"), [(0, 1), (1, 4), (2, 16)])
def test_sizes(axes: int, moments: int) -> None:
    found = grouping(Compression(axes=AXES[:axes]) if axes else None)
    assert (found.groups, found.moments) == (2, moments)
