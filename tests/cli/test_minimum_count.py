"""Which smallest count is shown: the command line's, the study file's, the folder's, or five."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bayesblina import cli
from bayesblina.cli.analysis import write_demo
from bayesblina.output.report.folder import ONE_MINIMUM
from bayesblina.output.request import request_of
from bayesblina.studies.study_file import read_study


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("asked", "of_study", "expected"),
    [(7, 10, 7), (7, None, 7), (None, 10, 10), (None, None, None), (1, 10, 1), (None, 1, 1)],
)
def test_the_command_line_wins(
    tmp_path: Path, asked: int | None, of_study: int | None, expected: int | None
) -> None:
    """Without either it is the default."""
    write_demo(tmp_path, seed=1)
    study = tmp_path / "study.toml"
    if of_study is not None:
        study.write_text(f"{study.read_text()}\n[report]\nminimum_count = {of_study}\n")
    assert request_of(read_study(study), minimum_count=asked).minimum_count == expected


def test_a_folder_keeps_its_minimum_until_another_is_asked_for(tmp_path: Path) -> None:
    """A smaller one is told to reveal, with the version before, what that hid."""
    write_demo(tmp_path, seed=1)
    study = tmp_path / "study.toml"
    short = study.read_text().replace("[fit]", "[fit]\ndraws = 20\ntune = 50\nchains = 2")
    study.write_text(f"{short}\n[report]\nminimum_count = 10\n")
    out = tmp_path / "out"

    def minimum() -> int:
        return int(json.loads((out / "results.json").read_text())["minimum_count"])

    ran = call("run", study, "--out", out, "--minimum-count", "7", "--no-report")
    assert ran.exit_code == cli.MARKED, ran.output
    assert minimum() == 7
    assert ONE_MINIMUM in (out / "summary.md").read_text().replace("\\", "")
    assert ONE_MINIMUM in ran.stdout
    again = call("report", out)
    assert minimum() == 7
    assert "both together" not in again.stderr
    assert "could be subtracted from this one" in (out / "report.html").read_text()
    page = call("report", out, "--out", tmp_path / "page.html", "--minimum-count", "6")
    assert "masked at 7, and this shows counts from 6 on" in page.stderr
    assert minimum() == 7
    lower = call("report", out, "--minimum-count", "6")
    assert "both together tell what it hid" in lower.stderr
    assert minimum() == 6
    higher = call("report", out, "--minimum-count", "20")
    assert "both together" not in higher.stderr
    assert minimum() == 20
