"""An analysis is one value: what it holds is what the command writes."""

import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

import bayesblina as bb
from bayesblina import cli
from bayesblina.core.errors import EstimandError, SpecError, StorageError
from bayesblina.core.masking import MASK
from bayesblina.core.tables.table import read_csv
from bayesblina.inference import fitting
from bayesblina.inference.drawing import NO_COMPANION
from bayesblina.output import analysis as analysis_module
from bayesblina.output.analysis import Analysis
from bayesblina.output.report.folder import write_report
from bayesblina.output.result_files import TEXTS
from bayesblina.patients.cohort import Cohort
from bayesblina.studies.study_file import Study, read_study
from bayesblina.studies.study_sections import CurvesSection, FitSection, ReportSection

FEW_DRAWS = "[fit]\ndraws = 20\ntune = 50\nchains = 2"


@pytest.fixture(scope="module")
def study(demo: tuple[Path, Any]) -> Study:
    return read_study(demo[0] / "study.toml")


@pytest.fixture(scope="module")
def cohort(study: Study) -> Cohort:
    return study.cohort()


@pytest.fixture(scope="module")
def analysis(demo: tuple[Path, Any], study: Study, cohort: Cohort) -> Analysis:
    """The demo's analysis again, from its fit."""
    return bb.analyse(
        cohort,
        study.question(),
        fit=bb.load(demo[0] / "fit.nc"),
        landmark=8.0,
        landmarks=[12.0, 16.0],
        starts=[8.0],
        adverse_events=study.adverse_events(cohort),
        title=study.content.title,
    )


@pytest.fixture(scope="module")
def written(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the analysis writes without a report, for tests that do not change it."""
    return analysis.write(tmp_path_factory.mktemp("written") / "results", report=False)


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of what the analysis writes, without a report."""
    return shutil.copytree(written, tmp_path / "results")


def test_a_folder_from_python_is_the_commands(
    demo: tuple[Path, Any], analysis: Analysis, tmp_path: Path
) -> None:
    folder = analysis.write(tmp_path / "new" / "results")
    data = {"patients.csv", "adverse_events.csv", "study.toml"}
    names = {path.name for path in demo[0].iterdir()} - data
    assert {path.name for path in folder.iterdir()} == names
    for name, texts in TEXTS.items():
        if name in analysis.tables:
            own, its = (read_csv(one / f"{name}.csv", texts=texts) for one in (folder, demo[0]))
            # A fit that was read from its file is laid out in memory in another order.
            pd.testing.assert_frame_equal(own, its, rtol=1e-9, atol=1e-12)
    assert (folder / "summary.md").read_bytes() == (demo[0] / "summary.md").read_bytes()
    for name in analysis.figures:
        assert (folder / f"{name}.svg").read_bytes() == (demo[0] / f"{name}.svg").read_bytes()
    records = [json.loads((one / "results.json").read_text()) for one in (folder, demo[0])]
    assert list(records[0]) == list(records[1])
    for key in ("title", "source", "data_sha256", "cohort_sha256", "starts", "minimum_count"):
        assert records[0][key] == records[1][key], key
    assert set(records[0]["seconds"]) >= {"curves", "checks", "save", "tables", "figures"}


def test_its_tables_are_those_that_it_writes(analysis: Analysis, written: Path) -> None:
    assert not (written / "report.html").exists()
    assert {path.stem for path in written.glob("*.csv")} == set(analysis.tables)
    for name, table in analysis.tables.items():
        read = read_csv(written / f"{name}.csv", texts=TEXTS[name])
        for column in table.select_dtypes("float"):
            np.testing.assert_array_equal(read[column], table[column], err_msg=name)


def test_the_report_needs_no_folder(analysis: Analysis, tmp_path: Path) -> None:
    """What is written from memory is what a folder that was written and read again gives."""
    page = analysis.write_report(tmp_path / "a.html").read_text(encoding="utf-8")
    again = write_report(analysis.write(tmp_path / "results"), out=tmp_path / "b.html")
    own, read = page.splitlines(), again.read_text(encoding="utf-8").splitlines()
    # The folder was written later, and its record knows how long that took.
    (apart,) = [index for index, line in enumerate(own) if "hashes, masking" in line]
    assert own[:apart] + own[apart + 1 :] == read[:apart] + read[apart + 1 :]
    assert '<th scope="row">command</th><td><bdi>bayesblina.analyse(' in page


def test_small_counts_are_masked_as_they_are_in_the_folder(analysis: Analysis) -> None:
    assert analysis.minimum_count == 5
    assert MASK in set(analysis.tables["at_risk"]["at_risk"])
    every = analysis.with_minimum_count(1)
    assert (every.tables["at_risk"]["at_risk"] >= 0).all()
    assert every.curves is analysis.curves
    assert "masked: nothing" in repr(every)
    with pytest.raises(SpecError, match="whole number from 1 on"):
        analysis.with_minimum_count(0)


def test_it_shows_itself(analysis: Analysis) -> None:
    said, page = repr(analysis), analysis._repr_html_()
    for words in ("OS: hazard ratio of maintenance", "SYNTHETIC", "survival_by_landmark"):
        assert words in said
        assert words in page
    assert "counts of patients or events from 1 to 4" in said
    hidden = analysis.with_minimum_count(200)
    assert hidden.shown.withheld == ("os", "rfs")
    assert "os, rfs: masked" in repr(hidden)
    assert "hazard ratio of maintenance" not in repr(hidden) + hidden._repr_html_()
    assert list(hidden.figures) == []


def test_figures_are_drawn_when_they_are_asked_for(analysis: Analysis) -> None:
    assert list(analysis.figures) == ["survival_os", "survival_rfs", "hazard_ratio"]
    assert len(analysis.figures) == 3
    assert isinstance(analysis.figures["survival_rfs"], Figure)
    with pytest.raises(KeyError, match="no figure 'survival_pfs': there are survival_os"):
        analysis.figures["survival_pfs"]


def test_nothing_is_sampled_again(
    analysis: Analysis, study: Study, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sample(*_: object, **__: object) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(fitting, "fit", sample)
    monkeypatch.setattr(analysis_module, "with_refit", sample)
    fit = replace(analysis.fit, companion=NO_COMPANION, gate=fitting.NOT_COMPARED)
    found = bb.analyse(cohort, study.question(), fit=fit)
    assert found.fit is fit


def test_what_a_fit_leaves_without_effect_is_refused(
    analysis: Analysis, study: Study, cohort: Cohort
) -> None:
    question = study.question()
    with pytest.raises(SpecError, match="seed, draws: a fit is given"):
        bb.analyse(cohort, question, fit=analysis.fit, seed=2, draws=10)
    with pytest.raises(SpecError, match="answers another question"):
        bb.analyse(cohort, replace(question, lag=1.0), fit=analysis.fit)
    others, _ = bb.simulate.blinatumomab_cohort(seed=2)
    with pytest.raises(SpecError, match="of other patients"):
        bb.analyse(others, question, fit=analysis.fit)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"landmark": 400.0}, EstimandError, "nobody is at risk at the landmark 400"),
        ({"landmark": 0.0, "starts": [0.5]}, EstimandError, "'from 0.5' is not defined here"),
        ({"thresholds": [0.8, -1.0]}, SpecError, "hazard ratios above 0, got -1.0"),
        ({"cuts": [3.0, 2.0]}, SpecError, "cuts"),
        ({"minimum_count": 0}, SpecError, "whole number from 1 on"),
        ({"model": "primry"}, SpecError, "Nearest: primary"),
    ],
)
def test_what_cannot_be_answered_is_told_before_anything_is_sampled(
    study: Study,
    cohort: Cohort,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(fitting, "fit", None)
    with pytest.raises(error, match=message):
        bb.analyse(cohort, study.question(), **asked)


def test_python_the_study_file_and_the_command_take_the_same() -> None:
    """What one of them can say the others can, by the same name."""
    sections = (FitSection, CurvesSection, ReportSection)
    keys = {name for section in sections for name in section.model_fields}
    # [data], [question], [model] and [adverse_events] are values of their own.
    keys |= {"title", "cohort", "question", "model", "adverse_events"}
    python = set(inspect.signature(bb.analyse).parameters)
    assert python - keys == {"fit", "progress"}
    assert keys <= python
    run = set(inspect.signature(cli.run).parameters)
    terminal = {"context", "debug", "quiet", "as_json", "show_ids"}
    study = set(inspect.signature(bb.analyse_study).parameters) - {"path", "progress"}
    write = set(inspect.signature(Analysis.write).parameters) - {"self", "folder"}
    assert run - terminal - {"study", "out"} == study | write
    report = set(inspect.signature(cli.report).parameters)
    known = set(inspect.signature(bb.write_report).parameters)
    assert report - terminal == known


def test_a_study_file_gives_what_its_run_wrote(demo: tuple[Path, Any], tmp_path: Path) -> None:
    """The same draws, so the same bytes."""
    for name in ("patients.csv", "adverse_events.csv"):
        (tmp_path / name).write_bytes((demo[0] / name).read_bytes())
    path, out = tmp_path / "study.toml", tmp_path / "out"
    path.write_text((demo[0] / "study.toml").read_text().replace("[fit]", FEW_DRAWS))
    done = CliRunner().invoke(cli.app, ["run", str(path), "--out", str(out), "--seed", "3"])
    assert done.exit_code == 1, done.output
    found = bb.analyse_study(path, seed=3, progress=False)
    assert found.fit.provenance.seed == 3
    folder = found.write(tmp_path / "again")
    assert {one.name for one in folder.iterdir()} == {one.name for one in out.iterdir()}
    # These tell how long it took, or what was typed.
    for one in set(out.iterdir()) - {out / "fit.nc", out / "results.json", out / "report.html"}:
        assert (folder / one.name).read_bytes() == one.read_bytes(), one.name
    with pytest.raises(SpecError, match=r"survival\.csv' would be overwritten by a result"):
        replace(found, inputs=(tmp_path / "survival.csv",)).write(tmp_path)


def test_scenarios_of_others_are_refused(analysis: Analysis, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no scenarios\.jsonl"):
        analysis.write_report(tmp_path / "a.html", sensitivity=tmp_path)


def test_files_of_ones_own_are_not_replaced(analysis: Analysis, tmp_path: Path) -> None:
    """A table of patients may be called as a result is."""
    (tmp_path / "survival.csv").write_text("patients")
    with pytest.raises(SpecError, match=r"holds 'survival\.csv', which a result would replace"):
        analysis.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["survival.csv"]
    assert (tmp_path / "survival.csv").read_text() == "patients"


def test_figures_of_ones_own_stay_beside_an_analysis(analysis: Analysis, folder: Path) -> None:
    """A figure of an analysis is what its record names; others may be called like one."""
    own = ("survival_mine.png", "hazard_ratio.pdf", "survival_of_others.svg")
    for name in own:
        (folder / name).write_text("mine")
    analysis.write(folder, report=False)
    write_report(folder, minimum_count=200)
    # All endpoints are withheld: figures of the analysis go, with what they show.
    assert not (folder / "survival_os.png").exists()
    assert json.loads((folder / "results.json").read_text())["figure_files"] == []
    (folder / "survival_os.svg").write_text("mine")
    with pytest.raises(SpecError, match=r"holds 'survival_os\.svg', which a result would replace"):
        write_report(folder, minimum_count=1)
    with pytest.raises(SpecError, match=r"holds 'survival_os\.svg', which a result would replace"):
        analysis.write(folder, report=False)
    assert {(folder / name).read_text() for name in (*own, "survival_os.svg")} == {"mine"}
    (folder / "survival_os.svg").unlink()
    write_report(folder, minimum_count=1)
    assert (folder / "survival_os.svg").exists()
    assert {(folder / name).read_text() for name in own} == {"mine"}


def test_a_svg_of_ones_own_is_no_figure_of_an_analysis(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "results.json").read_text())
    for name in record["figure_files"]:
        (folder / name).unlink()
    record |= {"figures": False, "figure_files": ["../survival_x.png", "at_home.png"]}
    (folder / "results.json").write_text(json.dumps(record))
    own = [tmp_path / "survival_x.png", folder / "at_home.png", folder / "drawn_by_hand.svg"]
    for path in own:
        path.write_text("mine")
    write_report(folder, minimum_count=1)
    assert {path.read_text() for path in own} == {"mine"}
    assert not list(folder.glob("survival_*.svg"))


def test_a_folder_in_the_way_leaves_the_earlier_analysis(analysis: Analysis, folder: Path) -> None:
    (folder / "hazard_ratio.svg").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "hazard_ratio.svg").mkdir()
    with pytest.raises(StorageError, match=r"'hazard_ratio\.svg' is a folder there"):
        analysis.write(folder, report=False)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert after == before


def test_a_fit_of_other_patients_is_refused(analysis: Analysis, cohort: Cohort) -> None:
    fit, question = analysis.fit, analysis.fit.question
    # Everybody's follow-up is the same; maintenance of one is a little later, or ages are others'.
    late = cohort.phase_start.copy()
    late[np.flatnonzero(np.isfinite(late[:, 1]))[0], 1] += 0.5
    (first, values), *_ = (
        (name, item.values) for name, item in cohort.covariates.items() if item.kind != "continuous"
    )
    exchanged = replace(cohort.covariates[first], values=values[::-1].copy())
    for other in (
        replace(cohort, phase_start=late),
        replace(cohort, covariates={**cohort.covariates, first: exchanged}),
    ):
        with pytest.raises(SpecError, match="other patients"):
            bb.analyse(other, question, fit=fit)


def test_tables_are_copies(analysis: Analysis) -> None:
    taken = analysis.tables["classical"]
    taken.iloc[0, 1] = 99.0
    assert analysis.tables["classical"].iloc[0, 1] != 99.0


def test_no_figure_of_a_masked_folder_has_an_exact_time(analysis: Analysis) -> None:
    """The last time of the curves is that of somebody's follow-up."""
    exact = float(analysis.curves["time"].max())

    def last(shown: Analysis) -> set[float]:
        lines = shown.figures["survival_os"].axes[0].get_lines()
        return {round(float(np.asarray(line.get_xdata())[-1]), 9) for line in lines}

    assert round(exact, 9) not in last(analysis)
    assert float(f"{exact:.4g}") in last(analysis)
    assert round(exact, 9) in last(analysis.with_minimum_count(1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"times": []}, "times is empty"),
        ({"starts": None}, "starts: expected"),
        ({"thresholds": "low"}, "thresholds: expected"),
        ({"title": 5}, "title: expected str, got int"),
        ({"landmark": "eight"}, "landmark: expected a number or NoneType, got str"),
        ({"progress": "no"}, "progress: expected bool, got str"),
        ({"adverse_events": "table"}, "adverse_events: expected AdverseEvents"),
        ({"minimum_count": "five"}, "minimum_count must be a whole number from 1 on"),
    ],
)
def test_arguments_are_told(
    analysis: Analysis, cohort: Cohort, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises((SpecError, TypeError), match=words):
        bb.analyse(cohort, analysis.fit.question, fit=analysis.fit, **wrong)
    with pytest.raises(TypeError, match="folder: expected"):
        analysis.write(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fit": "fit.nc"}, "fit: expected Fit"),
        ({"model": 5}, "model: expected str or PathLike or ModelDefinition"),
        ({"seed": "one"}, "seed must be a whole number"),
        ({"draws": "many"}, "draws"),
        ({"tune": 2.5}, "tune"),
        ({"chains": "four"}, "chains"),
        ({"cores": "all"}, "cores"),
    ],
)
def test_arguments_of_the_fit_are_told(
    study: Study, cohort: Cohort, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises((SpecError, TypeError), match=words):
        bb.analyse(cohort, study.question(), progress=False, **wrong)
