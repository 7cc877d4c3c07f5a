"""Write synthetic patients in blocks: as many Parquet files as it takes, in the memory of one.

uv run python tests/benchmarks/patients.py OUT --patients 100000000

Each block is a synthetic study of its own (`bayesblina.studies.simulate`), with the published
shares of patients in consolidation and maintenance; beside them stand two study files. No row is,
or stems from, a patient.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bayesblina import simulate
from bayesblina.core.files import write_text

BLOCK = 1_000_000
CONSOLIDATION, MAINTENANCE = 86 / 267, 36 / 267
STUDY = """schema = 1
title = "SYNTHETIC patients, as many as it takes"

[data]
file = "patients-*.parquet"
engine = "duckdb"
memory_limit = "1GB"
patient = "patient_id"
unit = "months"
transplant = "transplant_month"
covariates = {covariates}
synthetic = true

[endpoints.os]
time = "os_months"
event = "died"

[endpoints.rfs]
time = "rfs_months"
event = "relapse_or_death"
entry = "remission_month"

[phases]
consolidation = "consolidation_month"
maintenance = "maintenance_month"

[question]
exposed = "maintenance"
eligible_from = "consolidation"
transplant = "censor"

[curves]
landmark = 8.0
starts = [8.0]
"""


def write_patients(folder: Path, patients: int, *, seed: int = 1) -> None:
    """Write the patients and two study files: without and with the continuous covariate."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, patients, BLOCK)):
        size = min(BLOCK, patients - first)
        table = simulate.blinatumomab_table(
            seed + number,
            n_patients=size,
            n_consolidation=round(size * CONSOLIDATION),
            n_maintenance=round(size * MAINTENANCE),
        )
        table["patient_id"] = np.arange(first, first + size)
        columns = pa.Table.from_pandas(table, preserve_index=False)
        pq.write_table(columns, folder / f"patients-{number:04d}.parquet")
    both = '["age_group", "prior_salvage"]'
    write_text(folder / "study.toml", STUDY.format(covariates=both))
    three = '["age_group", "prior_salvage", "marrow_blasts"]'
    write_text(folder / "continuous.toml", STUDY.format(covariates=three))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--patients", type=int, default=100_000_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    write_patients(asked.out, asked.patients, seed=asked.seed)
