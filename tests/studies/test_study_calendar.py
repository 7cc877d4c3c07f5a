"""A study file cuts follow-up at calendar dates: read, fitted, masked and reported."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina.cli.application import app
from bayesblina.core.errors import SpecError
from bayesblina.studies.study_file import read_study
from tests.paths import DATA

STUDY = """
schema = 1
title = "By period"

[data]
file = "calendar.csv"
patient = "id"
unit = "days"
covariates = ["age"]

[endpoints.os]
time = "days"
event = "died"
recorded = "exact"

[phases]
maintenance = "start"

[calendar]
origin = "origin"
cuts = [2012-01-01, "2016-01-01"]
name = "era"

[question]
exposed = "maintenance"
eligible_from = "entry"

[fit]
draws = 300
tune = 300
chains = 4
cores = 1
"""


def write(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in STUDY
    (folder / "calendar.csv").write_text((DATA / "calendar.csv").read_text())
    path = folder / "study.toml"
    path.write_text(STUDY.replace(old, new) if old else STUDY)
    return path


def test_a_study_is_what_python_says(tmp_path: Path) -> None:
    study = read_study(write(tmp_path)).cohort()
    python = bb.read_cohort(
        DATA / "calendar.csv",
        patient="id",
        unit="days",
        endpoints={"os": bb.Endpoint(time="days", event="died", recorded="exact")},
        phases=bb.Phases(maintenance="start"),
        covariates=["age"],
        calendar=bb.Calendar(origin="origin", cuts=["2012-01-01", "2016-01-01"], name="era"),
    )
    assert study.patients.tolist() == python.patients.tolist()
    assert study.period == "era"
    np.testing.assert_array_equal(study.covariates["era"].values, python.covariates["era"].values)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('origin = "origin"\n', "", "calendar.origin is missing"),
        ("[2012-01-01, ", "[2020-01-01, ", r"calendar.cuts must be in order"),
        ("[2012-01-01, ", "[2012-01-01T00:00:00, ", r"calendar.cuts"),
        ("[2012-01-01, ", "[2012, ", r"calendar.cuts"),
        ("[2012-01-01, ", '["2012", ', r"whole dates"),
        ('name = "era"', 'names = "era"', r"calendar.names: unknown key. Nearest: name"),
        ('unit = "days"', 'unit = "days"\nengine = "duckdb"', r"takes memory: leave out"),
        (
            '[calendar]\norigin = "origin"\ncuts = [2012-01-01, "2016-01-01"]\nname = "era"\n',
            "[data.repairs]\npartial_dates = 'first'\n",
            r"\[data\] has dates only where \[calendar\]",
        ),
    ],
)
def test_mistakes_are_told(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_study(write(tmp_path, old, new))


def test_validate_counts_patients(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["validate", str(write(tmp_path)), "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["patients"] == 60
    assert "each patient's era held as it is at the start" in said["estimand"]["summary measure"]
    eligible = [line for line in said["account"] if line["step"] == "eligible"]
    assert [line["patients"] for line in eligible] == [60]


def test_a_report_tells_the_periods(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["run", str(write(tmp_path)), "--out", str(out), "--minimum-count", "5"]
    found = CliRunner().invoke(app, arguments)
    assert (out / "report.html").exists(), found.output
    flow = pd.read_csv(out / "patient_flow.csv")
    periods = flow[flow["step"] == "period"]
    assert periods["what"].tolist() == [
        "before 2012-01-01",
        "2012-01-01 to 2016-01-01",
        "from 2016-01-01",
    ]
    # Two of 24 events are before 2012: with those of the others, and of all, they would follow.
    assert periods["events"].tolist() == ["*", "13", "*"]
    assert flow.loc[flow["step"] == "read", "patients"].astype(int).tolist() == [60]
    report = (out / "report.html").read_text()
    assert "Follow-up is cut at calendar dates, so that hazards may differ by era" in report
    assert "held as it is at the start of the curve (period survival)" in report
    assert "era[from 2016-01-01]" in report
    # Nobody's row is named for more than its patient.
    assert "p1, before" not in report
