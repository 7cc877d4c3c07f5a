"""The Stanford patients, one row each."""

import runpy

import pytest

from bayesblina.patients.cohort import Cohort
from tests.classical.tables import read
from tests.paths import ROOT


@pytest.fixture(scope="module")
def heart() -> Cohort:
    table = runpy.run_path(str(ROOT / "examples" / "stanford_heart.py"))["one_row_per_patient"]()
    return read(table.reset_index(), patient="patient")
