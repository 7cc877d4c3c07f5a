"""A short form of the table of targets: printed, nothing asserted of times."""

from pathlib import Path

import pytest

from tests.benchmarks.targets import Table, large_fits, person_times


@pytest.mark.benchmark
def test_short(tmp_path: Path) -> None:
    table = Table()
    print()
    large_fits(table, (267, 20_000))
    person_times(table, (30_000, 300_000), tmp_path)
    assert len(table.rows) == 6
