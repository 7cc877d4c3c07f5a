"""Weighting by a study file and the command line gives what Python gives; histories are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.errors import DataError, SpecError
from bayesblina.studies.study_file import read_study
from tests.studies.weighting import QUESTION, simulated

STUDY = """
schema = 1

[data]
file = "patients.csv"
patient = "id"
unit = "months"
synthetic = true
covariates = ["marker"]

[endpoints.os]
time = "time"
event = "event"

[phases]
maintenance = "start"

[question]
exposed = "maintenance"
eligible_from = "entry"

[weighting]
{keys}

[weighting.history]
file = "history.csv"
patient = "id"
time = "month"
"""
TRIAL = "grace = 6.0\ndraws = 50\ntimes = [6.0, 12.0]\nhorizon = 12.0"


@pytest.fixture(scope="module")
def patients() -> tuple[bb.Cohort, pd.DataFrame]:
    return simulated(3, patients=150)


def write(folder: Path, patients: tuple[bb.Cohort, pd.DataFrame], keys: str = TRIAL) -> Path:
    cohort, history = patients
    outcome, start = cohort.endpoints["os"], cohort.phase_start[:, 0]
    table = pd.DataFrame(
        {
            "id": cohort.patients,
            "time": outcome.time,
            "event": outcome.event.astype(int),
            "start": np.where(np.isfinite(start), start, np.nan),
            "marker": np.where(cohort.covariates["marker"].values == 1, "yes", "no"),
        }
    )
    table.to_csv(folder / "patients.csv", index=False)
    history.rename(columns={"patient": "id", "time": "month"}).to_csv(
        folder / "history.csv", index=False
    )
    path = folder / "study.toml"
    path.write_text(STUDY.format(keys=keys))
    return path


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_a_trial_by_command_is_that_of_python(
    tmp_path: Path, patients: tuple[bb.Cohort, pd.DataFrame]
) -> None:
    path, out = write(tmp_path, patients), tmp_path / "out"
    cohort, history = patients
    trial = bb.weighting.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=6.0, history=history
    )
    right = bb.weighting.weighted_effect(
        trial, seed=1, draws=50, times=[6.0, 12.0], horizon=12.0
    ).table
    result = call("weigh", path, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    written = pd.read_csv(out / "weighted_effect_os.csv")
    for column in ("estimate", "lower", "upper", "time"):
        np.testing.assert_allclose(written[column], right[column], rtol=1e-9)
    said = json.loads(result.stdout)
    assert said["synthetic"] is True
    assert said["effects"]["os"][0]["estimate"] == pytest.approx(
        right["estimate"].iloc[0], rel=1e-9
    )
    names = {"weighted_effect_os.csv", "balance_os.csv", "weights_os.csv"}
    names |= {f"{stem}_os.{suffix}" for stem in ("balance", "arms") for suffix in ("png", "svg")}
    assert {item.name for item in out.iterdir()} == names
    # Another seed, other draws; the estimate is that of the patients weighted alike.
    again = json.loads(call("weigh", path, "--out", out, "--seed", "2", "--json").stdout)
    assert again["effects"]["os"][0]["estimate"] == said["effects"]["os"][0]["estimate"]
    assert again["effects"]["os"][0]["sd"] != said["effects"]["os"][0]["sd"]


def test_the_arms_are_drawn_for_what_they_are(patients: tuple[bb.Cohort, pd.DataFrame]) -> None:
    cohort, history = patients
    trial = bb.weighting.clone_censor_weight(
        cohort, QUESTION, endpoint="os", grace=6.0, history=history
    )
    curves = bb.weighting.weighted_effect(trial, seed=1, draws=20).survival
    assert curves is not None
    (axis,) = bb.plots.survival(curves).axes
    _, labels = axis.get_legend_handles_labels()
    assert labels == ["maintenance within 6 (bootstrap, 95% band)", "never (bootstrap, 95% band)"]
    assert axis.get_xlabel() == "months from becoming eligible"


def test_the_marginal_ratio_by_command_is_that_of_python(
    tmp_path: Path, patients: tuple[bb.Cohort, pd.DataFrame]
) -> None:
    keys = 'draws = 50\ntruncate = [0.0, 0.95]\nconfounders = []\ncuts = [3.0]\nendpoints = ["os"]'
    study = read_study(write(tmp_path, patients, keys))
    (name, found), *more = study.weighted(study.cohort()).items()
    assert (name, more) == ("os", [])
    cohort, history = patients
    right = bb.weighting.starting_weights(
        cohort,
        QUESTION,
        endpoint="os",
        history=history,
        truncate=(0.0, 0.95),
        confounders=(),
        cuts=[3.0],
    )
    np.testing.assert_allclose(found.weights, right.weights, rtol=1e-9)
    assert list(found.balance["covariate"]) == ["worse"]
    result = call("weigh", tmp_path / "study.toml", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Hazard ratio" in result.stdout
    assert "not started yet" in result.stdout
    assert not list((tmp_path / "out").glob("arms_*"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("times = [6.0]", "times and horizon are of an emulated trial: give grace too"),
        ("grace = 6.0\ntruncate = [0.1]", "weighting.truncate"),
        ("grace = 6.0\nhorizon = 1000.0", "horizon must be greater than 0 and at most"),
        ("grace = 0.0001", "Nobody starts maintenance within"),
        ('endpoints = ["rfs"]', "rfs"),
        ("days = 3", "unknown key"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, patients: tuple[bb.Cohort, pd.DataFrame], keys: str, message: str
) -> None:
    path = write(tmp_path, patients, keys)
    result = call("weigh", path, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_endpoints_that_would_share_a_file_are_refused(
    tmp_path: Path, patients: tuple[bb.Cohort, pd.DataFrame]
) -> None:
    path = write(tmp_path, patients, "draws = 20")
    text = path.read_text().replace("[endpoints.os]", '[endpoints."o/s"]')
    text += '[endpoints."o s"]\ntime = "time"\nevent = "event"\n'
    path.write_text(text)
    result = call("weigh", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "would share a figure's file" in result.output
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_study_without_the_section_says_so(
    tmp_path: Path, patients: tuple[bb.Cohort, pd.DataFrame]
) -> None:
    path = write(tmp_path, patients)
    path.write_text(path.read_text().partition("[weighting]")[0])
    result = call("weigh", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "has no section [weighting]" in result.output


class TestHistories:
    TABLE = pd.DataFrame(
        {"id": ["a", "a", "b"], "month": ["0", "2", "-1"], "x": ["1", "2.5", "0"], "y": [1, 2, 3]}
    )

    def test_all_other_columns_are_covariates(self) -> None:
        found = bb.read_history(self.TABLE, patient="id", time="month")
        assert found.to_dict("list") == {
            "patient": ["a", "a", "b"],
            "time": [0.0, 2.0, -1.0],
            "x": [1.0, 2.5, 0.0],
            "y": [1.0, 2.0, 3.0],
        }
        chosen = bb.read_history(self.TABLE, patient="id", time="month", covariates=["y"])
        assert list(chosen) == ["patient", "time", "y"]

    @pytest.mark.parametrize(
        ("changed", "more", "error", "message"),
        [
            ({"x": ["1", "good", "0"]}, {}, DataError, "values that are not numbers"),
            ({"x": ["1", "", "0"]}, {}, DataError, "missing or infinite"),
            ({"month": ["0", "inf", "0"]}, {}, DataError, "not numbers"),
            ({}, {"covariates": ["z"]}, DataError, "no such column"),
            ({}, {"covariates": ["month"]}, SpecError, "two roles"),
            ({}, {"covariates": []}, SpecError, "at least one covariate"),
            ({}, {"patient": "who"}, DataError, "no such column"),
            ({"id": ["a", "", "b"]}, {}, DataError, "missing ids"),
            ({}, {"covariates": "x"}, SpecError, "a list of columns"),
        ],
    )
    def test_mistakes_are_told(
        self, changed: dict[str, Any], more: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        given: dict[str, Any] = {"patient": "id", "time": "month", **more}
        with pytest.raises(error, match=message):
            bb.read_history(self.TABLE.assign(**changed), **given)

    def test_columns_need_names(self) -> None:
        with pytest.raises(SpecError, match="names that are text, got 5"):
            bb.read_history(self.TABLE.rename(columns={"x": 5}), patient="id", time="month")
