"""Executors of Spark, in local mode: the same numbers as in memory, and only sums travel."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import DataError, SpecError
from bayesblina.patients.scan import passes
from tests.patients.test_scan import COLUMNS, QUESTION, require_same

pytestmark = [
    pytest.mark.spark,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    sql = pytest.importorskip("pyspark.sql", reason="the extra `spark` is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["PYSPARK_PYTHON"] = sys.executable
    folder = tmp_path_factory.mktemp("spark")
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.warehouse.dir", str(folder))
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    yield ibis.pyspark.connect(session)
    session.stop()


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    table = bb.simulate.blinatumomab_table(
        7, n_patients=900, n_consolidation=290, n_maintenance=120
    )
    # Ties: events at cuts, phases that start at the end of follow-up.
    # Whole cut points are met by rounding some times to them, all of a patient's in one order.
    for name in ("os_months", "rfs_months", "consolidation_month", "maintenance_month"):
        near = table[name].sub(table[name].round()).abs() < 0.02
        table.loc[near, name] = table[name].round()
    late = table["maintenance_month"] > table["os_months"]
    table.loc[late, "maintenance_month"] = table["os_months"]
    path = tmp_path_factory.mktemp("patients") / "patients.parquet"
    table.to_parquet(path, index=False)
    return table, path


@pytest.mark.parametrize("covariates", [["age_group"], ["age_group", "marrow_blasts"]])
def test_spark_sums_what_memory_sums(
    connection: Any, patients: tuple[pd.DataFrame, Path], covariates: list[str]
) -> None:
    table, path = patients
    columns = COLUMNS | {"covariates": covariates}
    repairs = bb.Repairs(drop_late_phases=True)
    memory = bb.read_cohort(table, repairs=repairs, **columns)
    kept = table.copy()
    kept[["consolidation_month", "maintenance_month"]] = memory.phase_start
    kept["transplant_month"] = memory.transplant
    kept.to_parquet(path, index=False)
    scan = bb.scan_cohort(connection.read_parquet(str(path)), **columns)
    compress = True if len(covariates) > 1 else None
    cuts = [5.0, 8.0, 12.0]
    one = bb.person_time(memory, QUESTION, cuts=cuts, compress=compress)
    other = bb.person_time(scan, QUESTION, cuts=cuts)
    require_same(one, other)
    default, engine = (
        bb.person_time(memory, QUESTION, compress=compress),
        bb.person_time(scan, QUESTION),
    )
    np.testing.assert_array_equal(engine.cuts, default.cuts)
    assert [left.patients[:10] for left in one.left_out] == [
        left.patients for left in other.left_out
    ]


def test_sums_do_not_depend_on_partitions_or_the_order_of_rows(
    connection: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, and no block of patients is read by this process."""

    def read(*_: Any) -> Any:
        raise AssertionError("patients were read")

    monkeypatch.setattr(passes, "batches", read)
    # So many that each part of time has several, of whom the order shows.
    table = bb.simulate.blinatumomab_table(
        5, n_patients=40_000, n_consolidation=12_900, n_maintenance=5_400
    )
    table.to_parquet(tmp_path / "many.parquet", index=False)
    frame = connection.raw_sql(f"SELECT * FROM parquet.`{tmp_path / 'many.parquet'}`")
    found = []
    for number, rows in enumerate((frame.coalesce(1), frame.repartition(5).orderBy("os_months"))):
        rows.createOrReplaceTempView(f"patients{number}")
        scan = bb.scan_cohort(connection.table(f"patients{number}"), **COLUMNS)
        assert scan.size == 40_000
        found.append(bb.person_time(scan, QUESTION))
    one, other = found
    np.testing.assert_array_equal(other.cuts, one.cuts)
    assert one.finer is not None
    assert other.finer is not None
    # Every interval has parts, as with other engines.
    assert one.finer.sizes["interval"] > 5 * one.table.sizes["interval"]
    for name in ("events", "person_time"):
        np.testing.assert_array_equal(other.table[name].values, one.table[name].values)
        np.testing.assert_array_equal(other.finer[name].values, one.finer[name].values)


def test_what_is_wrong_is_told_as_in_memory(
    connection: Any, patients: tuple[pd.DataFrame, Path], tmp_path: Path
) -> None:
    damaged = patients[0].copy()
    damaged.loc[[3, 500], "os_months"] = -1.0
    damaged.loc[damaged.index[700], "patient_id"] = damaged["patient_id"].iloc[2]
    damaged.to_parquet(tmp_path / "damaged.parquet", index=False)
    told = []
    for table in (
        tmp_path / "damaged.parquet",
        connection.read_parquet(str(tmp_path / "damaged.parquet")),
    ):
        with pytest.raises(DataError) as caught:
            bb.scan_cohort(table, **COLUMNS)
        told.append(caught.value.problems)
    assert told[1] == told[0]
    assert {problem.column for problem in told[0]} >= {"os_months", "patient_id"}


class Nobody:
    """Adds nothing up."""

    def add(self, batch: Any) -> None:
        """Pass over patients."""


@pytest.mark.parametrize("lacks", ["the package", "this version"])
def test_executors_without_the_package_are_told(
    lacks: str,
    connection: Any,
    patients: tuple[pd.DataFrame, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make: Any = Nobody
    if lacks == "the package":
        # A module of this process only, as bayesblina is where executors lack it.
        module = ModuleType("only_here")
        make = type("Nobody", (), {"__module__": "only_here"})
        module.Nobody = make  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "only_here", module)
        expected = r"No module named 'only_here'"
    else:
        monkeypatch.setattr(passes, "__version__", "0.0.0")
        expected = r"there is bayesblina .*, here 0\.0\.0"
    with pytest.raises(SpecError, match=expected + r"\): install bayesblina"):
        passes.summed(make, [connection.read_parquet(str(patients[1]))], "the table")
