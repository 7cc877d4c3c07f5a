"""Folders of results: what belongs together, what was changed, whose scenarios they are."""

import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.errors import StorageError
from bayesblina.output.report.folder import write_report
from bayesblina.output.report.results import read_results
from bayesblina.output.result_files import TEXTS
from bayesblina.studies.what_if.engine import Store
from bayesblina.studies.what_if.running import hash_of_cohort
from tests.output.pages import Page


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_changed_results_are_refused(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    path = folder / "hazard_ratios.csv"
    before = (folder / "report.html").read_bytes()
    path.write_text(path.read_text().replace("os,0.", "os,1."))
    with pytest.raises(StorageError, match="was changed after the analysis"):
        write_report(folder)
    path.unlink()
    with pytest.raises(StorageError, match="is missing, which belongs"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is not a record"),
        ('{"format": "bayesblina results", "schema": 2}', "has schema 2"),
        ('{"format": "bayesblina results", "schema": 1}', "lacks cohort_sha256, command"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(StorageError, match=message):
        read_results(tmp_path)


def test_a_record_names_results_only(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    record = json.loads((folder / "results.json").read_text())
    record["sha256"]["../a/fit.nc"] = record["sha256"]["fit.nc"]
    (folder / "results.json").write_text(json.dumps(record))
    with pytest.raises(StorageError, match="names files that are no results"):
        read_results(folder)


def test_every_file_that_was_read_has_its_hash(demo: tuple[Path, Any]) -> None:
    text = (demo[0] / "report.html").read_text(encoding="utf-8")
    read = json.loads((demo[0] / "results.json").read_text())["data_sha256"]
    assert read == {
        shown: hashlib.sha256((demo[0] / name).read_bytes()).hexdigest()
        for shown, name in (
            ("patients.csv", "patients.csv"),
            ("adverse_events.csv (adverse events)", "adverse_events.csv"),
        )
    }
    for name, digest in read.items():
        assert f"{name}: {digest}" in text


def test_what_is_not_there_is_said(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    record = json.loads((folder / "results.json").read_text())
    for name in set(TEXTS) - {"hazard_ratios", "survival", "diagnostics"}:
        record["sha256"].pop(f"{name}.csv", None)
        record["notes"][name] = f"<i>no {name}</i>"
    (folder / "results.json").write_text(json.dumps(record))
    text = write_report(folder).read_text(encoding="utf-8")
    Page(text)
    for name in ("bias_ladder", "predictive", "prior_sensitivity", "patient_flow"):
        assert f"Not computed: <bdi>&lt;i&gt;no {name}" in text
    assert "not computed for this model or folder" in text


def _scenarios(folder: Path, demo: Path, *, data: str | None = None, shift: float = 0.0) -> None:
    """Store two scenarios as a study of sensitivity does, the base case with the demo's numbers."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    folder.mkdir(exist_ok=True)
    store = Store(folder=folder)
    header = {"what": "scenarios", "data": data or hash_of_cohort(cohort), "synthetic": True}
    store.begin(header, resume=False)
    ratios = pd.read_csv(demo / "hazard_ratios.csv")
    for key, label, settings, factor in (
        ("a", "base case", {}, 1.0),
        ("b", "transplant = ignore", {"transplant": "ignore"}, 1.2),
    ):
        results = [
            {
                "endpoint": row["endpoint"],
                **{
                    name: row[name] * factor + shift
                    for name in ("mean", "median", "lower", "upper")
                },
                "sd": row["sd"],
                "probability_below_1": 0.98 / factor,
                "mcse": row["mcse"],
                "ess_bulk": 3000.0,
                "mean_log": math.log(row["median"] * factor),
                "sd_log": 0.3,
                "patients": 86,
                "events": 39.0,
                "events_exposed": 9.0,
            }
            for row in ratios.to_dict("records")
        ]
        record = {"key": key, "label": label, "settings": settings, "status": "converged"}
        store.append({**record, "reason": "", "seed": 1, "results": results})
    store.append(
        {
            **{"key": "c", "label": "lag = 900.0", "settings": {"lag": 900.0}, "seed": 1},
            **{"status": "failed", "reason": "SYN-0001 has none", "results": []},
        }
    )


def test_scenarios_in_the_folder_are_shown(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    _scenarios(folder, demo[0])
    text = write_report(folder).read_text(encoding="utf-8")
    Page(text)
    part = re.search(r'<section id="sensitivity".*?</section>', text, flags=re.DOTALL)
    assert part is not None
    assert "3 scenarios: 2 converged, 1 failed" in part.group(0)
    assert "that the hazard is lower (P(HR &lt; 1) at least 0.975)" in part.group(0)
    assert "holds in 1 of 2 scenarios" in part.group(0)
    assert part.group(0).count("<svg") == 4
    # Reasons may name patients.
    assert "SYN-0" not in text
    assert "run bayesblina sensitivity" not in text


def test_scenarios_of_others_are_not_shown(demo: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copied(demo[0], tmp_path / "a")
    _scenarios(folder, demo[0], data="0" * 64)
    text = write_report(folder).read_text(encoding="utf-8")
    assert "Not shown: <bdi>the scenarios are of other patients" in text
    _scenarios(tmp_path / "b", demo[0], shift=0.2)
    with pytest.raises(StorageError, match="base case is another analysis"):
        write_report(folder, sensitivity=tmp_path / "b")
    with pytest.raises(StorageError, match=r"there is no scenarios\.jsonl"):
        write_report(folder, sensitivity=tmp_path)
