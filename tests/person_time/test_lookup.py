"""How the cuts before a time are counted in a query engine."""

import numpy as np
import pytest
from bayesblina.person_time.cells.lookup import _grid, interval_expression

from bayesblina.core.arrays import Floats
from bayesblina.person_time.cells import lookup

ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")


def test_cuts_surely_before_each_cell() -> None:
    """Cuts at 1 to 8 in 64 cells of an eighth: each eighth cell holds one at its edge."""
    cells, surely, at_most = _grid(np.arange(1.0, 9.0))
    assert (cells, at_most) == (64, 1)
    assert surely.size == 65
    # A cut at the edge itself may be before or after a time of that cell.
    edges = np.arange(65) / 8.0
    assert surely.tolist() == np.searchsorted(np.arange(1.0, 9.0), edges * (1 - 1e-12)).tolist()
    assert surely[[0, 1, 8, 9, 64]].tolist() == [0, 0, 0, 1, 7]
    # A cut within the first cell is before every later one.
    assert _grid(np.array([0.001, 1.0]))[1][:3].tolist() == [0, 1, 1]


def test_cells_become_finer_where_cuts_are_close() -> None:
    """Of 64 cells the one from 0.094 to 0.109 holds four; of 128 one has two, and the next two."""
    cells, surely, at_most = _grid(np.array([0.10, 0.101, 0.102, 0.103, 1.0]))
    assert cells == 128
    assert at_most == 2
    assert surely.size == cells + 1


@pytest.mark.parametrize("most", [128, 256])
def test_cells_do_not_become_finer_than_this(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(lookup, "MOST_CELLS", most)
    cells, _, at_most = _grid(np.array([0.1, 0.1 + 1e-9, 0.1 + 2e-9, 0.1 + 3e-9, 1.0]))
    assert (cells, at_most) == (most, 4)


def counted(times: Floats, cuts: Floats, *, closed: bool = False) -> list[int]:
    column = ibis.memtable({"time": times})
    found = column.select(
        time=column["time"], n=interval_expression(column["time"], cuts, closed=closed)
    ).execute()
    return [int(one) for one in found.sort_values("time")["n"]]


def test_intervals_of_times() -> None:
    times = np.array([0.0, 0.05, 0.1, 0.10001, 0.5, 1.0, 2.0, 1e9])
    close = np.array([0.1, 0.1 + 1e-9, 0.1 + 2e-9, 1.0])
    for cuts in (np.array([0.5]), np.array([0.1, 0.5, 1.0]), close):
        for closed, side in ((False, "left"), (True, "right")):
            expected = np.searchsorted(cuts, times, side="right" if closed else "left")
            assert counted(times, cuts, closed=closed) == expected.tolist(), side


def test_without_cuts_all_times_lie_in_the_first() -> None:
    column = ibis.memtable({"time": [0.5, 3.0]})
    found = interval_expression(column["time"], np.empty(0))
    assert found.type() == ibis.expr.datatypes.int32
    assert column.select(n=found).execute()["n"].tolist() == [0, 0]
