"""Passes over the patients of an engine: the order in which they are added up, and what travels."""

import pickle
from typing import Any

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.patients.scan import passes, scan_cohort
from bayesblina.patients.scan.passes import packed, summed, unpacked
from tests.patients.test_scan import COLUMNS, QUESTION, require_same

ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow", reason="the extra `scale` is not installed")


class Seen:
    """The ids of a pass, in the order in which they came."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def add(self, batch: Any) -> None:
        self.ids += batch.column("id").to_pylist()

    def state(self) -> dict[str, Any]:
        return {"ids": pa.table({"id": self.ids})}

    def merge(self, state: Any) -> None:
        self.ids += state["ids"].column("id").to_pylist()


def test_arrays_and_tables_travel_as_they_are() -> None:
    state = {
        "events": np.array([[1.0, np.inf], [np.nan, -0.0]]),
        "bins entry 1": np.arange(3),
        "named 0 2": pa.table({"id": ["#1", "é", None]}),
    }
    found = unpacked(packed(state))
    assert set(found) == set(state)
    assert found["events"].tobytes() == state["events"].tobytes()
    assert found["bins entry 1"].tolist() == [0, 1, 2]
    assert state["named 0 2"].equals(found["named 0 2"])


def test_nothing_that_travels_is_executed() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        packed({"objects": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        unpacked(pickle.dumps({"events": 1}))


def in_duckdb(rows: Any) -> Any:
    connection = ibis.duckdb.connect()
    connection.con.register("patients", rows)
    return connection.table("patients")


def in_polars(rows: Any) -> Any:
    return ibis.polars.connect({"patients": pl.from_arrow(rows)}).table("patients")


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_sums_do_not_depend_on_the_order_of_rows(engine: str) -> None:
    """Bit for bit: patients of an engine that was brought along are added up by id."""
    there = {"duckdb": in_duckdb, "polars": in_polars}[engine]
    # So many that each part of time has several, of whom the order shows.
    table = bb.simulate.blinatumomab_table(
        5, n_patients=40_000, n_consolidation=12_900, n_maintenance=5_400
    )
    person_times = []
    for rows in (table, table.sample(frac=1.0, random_state=1)):
        scan = scan_cohort(there(pa.Table.from_pandas(rows, preserve_index=False)), **COLUMNS)
        assert not scan.embedded
        person_times.append(bb.person_time(scan, QUESTION))
    one, other = person_times
    np.testing.assert_array_equal(other.cuts, one.cuts)
    for name in ("events", "person_time"):
        np.testing.assert_array_equal(other.table[name].values, one.table[name].values)
        assert one.finer is not None
        assert other.finer is not None
        np.testing.assert_array_equal(other.finer[name].values, one.finer[name].values)
    memory = bb.person_time(bb.read_cohort(table, **COLUMNS), QUESTION)
    require_same(memory, one)


def test_patients_come_by_id_where_order_matters() -> None:
    ids = [f"p{number}" for number in (3, 1, 4, 5, 9, 2, 6)]
    patients = ibis.memtable({"id": ids})
    assert not passes.on_executors(patients)
    assert summed(Seen, [patients], "the table", by="id").ids == sorted(ids)
    assert summed(Seen, [patients, patients], "the table").ids == ids + ids
