"""The same expressions on Spark, in local mode: the same numbers as in memory."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from tests.patients.test_scan import COLUMNS, QUESTION, require_same

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    ibis = pytest.importorskip("ibis", reason="the extra `scale` is not installed")
    sql = pytest.importorskip("pyspark.sql", reason="the extra `spark` is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning")
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
