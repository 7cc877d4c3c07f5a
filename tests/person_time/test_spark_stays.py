"""Stays on executors of Spark, in local mode: the same numbers and counts as in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError
from tests.patients.stays_tables import DECLARED, LEAVE_OUT, courses, tables
from tests.patients.test_scan import require_same
from tests.patients.test_scan_stays import PRIORITY
from tests.person_time.test_spark import connection, pytestmark

__all__ = ["connection", "pytestmark"]


def written(connection: Any, folder: Path, stays: Any, frame: Any) -> tuple[Any, Any]:
    """Let Spark read both tables."""
    opened = []
    for name, table in (("patients", frame), ("stays", stays)):
        table.to_parquet(folder / f"{name}.parquet", index=False)
        opened.append(connection.read_parquet(str(folder / f"{name}.parquet"), table_name=name))
    return opened[0], opened[1]


def test_spark_sums_what_memory_sums(connection: Any, tmp_path: Path) -> None:
    frame, stays = tables(3)
    made: dict[str, Any] = {
        "leave_out": LEAVE_OUT,
        "overlap": PRIORITY,
        "bridge": 0.125,
        "cycle": "cycle",
    }
    memory = bb.read_cohort(frame, phases=courses(stays, **made), **DECLARED)
    patients, long = written(connection, tmp_path, stays, frame)
    scan = bb.scan_cohort(patients, phases=courses(long, **made), **DECLARED)
    asked = bb.Question(
        exposed="blina",
        eligible_from="entry",
        transplant="censor",
        measure="cumulative",
        steps=(2, 4),
        amount="cycles",
    )
    one, other = bb.person_time(memory, asked), bb.person_time(scan, asked)
    assert one.table["events"].values.sum() > 50
    np.testing.assert_array_equal(one.cuts, other.cuts)
    require_same(one, other)
    steps = ["repaired", "stays"]
    told = [
        table[table["step"].isin(steps)][["what", "phase", "patients"]].values.tolist()
        for table in (memory.account().table, scan.account().table)
    ]
    assert told[1] == told[0]


def test_what_is_wrong_is_told_as_by_duckdb(connection: Any, tmp_path: Path) -> None:
    frame, stays = tables(9)
    patients, long = written(connection, tmp_path, stays, frame)
    told = []
    for table, rows in ((frame, stays), (patients, long)):
        with pytest.raises(DataError) as caught:
            bb.scan_cohort(table, phases=courses(rows), **DECLARED)
        told.append(sorted(caught.value.problems, key=lambda problem: problem.found))
    assert told[1] == told[0]
    assert len(told[0]) >= 4
