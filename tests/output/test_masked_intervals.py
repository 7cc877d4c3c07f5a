"""No count is told by how many intervals and pieces there are, and no date by where curves start.

The number of default intervals and of pieces is a function of the number of events: whoever sees
it in any file knows within which few numbers the events lie.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.cli.analysis import gates
from bayesblina.output.report.hiding import Shown, without_few
from bayesblina.output.report.results import read_results
from bayesblina.patients.cohort import Cohort
from tests.output.few import MINIMUM, QUESTION, cohort, published

# Numbers of patients, and deaths in the phase, which are hidden: of so many there is one piece, or
# one interval, more. 2 and 3 with 15 relapses are 8.5 and 9 events in the mean: 2 and 3 pieces.
HIDDEN = {"since_entry": (90, (2, 3)), "over_time": (60, (3, 4))}
PRIVATE = {"fit.nc", "unmasked.json"}


def written(folder: Path, patients: Cohort, question: bb.Question, model: str) -> bb.Fit:
    """Write a masked folder; the landmark is the default one."""
    fit = bb.fit(
        patients, question, model=model, seed=1, draws=60, tune=100, chains=2, progress=False
    )
    bb.analyse(patients, question, fit=fit, title="Few", minimum_count=MINIMUM).write(folder)
    return fit


def structure(folder: Path) -> dict[str, Any]:
    """Take everything in a folder that is named or counted by interval or piece."""
    told: dict[str, Any] = {
        "diagnostics": list(published(folder)["diagnostics"]["name"]),
        "account": published(folder)["patient_flow"][["step", "endpoint", "phase"]].values.tolist(),
        "priors": [
            re.sub(r"at [\d.]+,", "at,", quantity)
            for quantity in published(folder)["prior_predictive"]["quantity"]
        ],
        "gate": [row["effect"] for row in gates(shown(folder))["baseline_gate"]],
    }
    for name in ("report.html", "summary.md"):
        text = (folder / name).read_text(encoding="utf-8")
        told[name] = [
            *re.findall(r"<code>[^<]*</code></td><td[^>]*>[^<]*<", text),
            *re.findall(r"[^ ]+ [^ ]+ intervals? of follow-up", text),
            *re.findall(r"\b(?:os|rfs), (?:interval|piece) [^<|;:]*", text),
            *re.findall(r"[^;>]*intervals are joined", text),
            *re.findall(r"\bm \d[\d.]* to [\d.]+", text),
        ]
    return told


def shown(folder: Path) -> Shown:
    return without_few(read_results(folder), minimum=MINIMUM)


@pytest.fixture(scope="module", params=HIDDEN)
def attacked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[Path], list[bb.Fit]]:
    patients, deaths = HIDDEN[request.param]
    folders = [tmp_path_factory.mktemp(f"{request.param}-{events}") for events in deaths]
    fits = [
        written(folder, cohort(30, events, patients=patients), QUESTION, request.param)
        for folder, events in zip(folders, deaths, strict=True)
    ]
    return request.param, folders, fits


def test_folders_of_other_hidden_counts_have_one_structure(
    attacked: tuple[str, list[Path], list[bb.Fit]],
) -> None:
    model, folders, fits = attacked
    # There is something to find: in what is not handed on the two differ.
    dim = {"since_entry": "piece", "over_time": "interval"}[model]
    sizes = [fit.posterior.sizes[dim] for fit in fits]
    assert sizes[0] != sizes[1], sizes
    first, second = (structure(folder) for folder in folders)
    for name, told in first.items():
        assert told == second[name], name
    assert "log_baseline" in first["diagnostics"]
    assert f"rfs, {dim}s, the worst" in first["diagnostics"]


def test_joined_rows_have_the_worst_of_all(
    attacked: tuple[str, list[Path], list[bb.Fit]],
) -> None:
    _, folders, _ = attacked
    whole = read_results(folders[0]).tables["diagnostics"]
    rows = whole[whole["name"].astype(str).str.startswith("log_baseline[")]
    told = published(folders[0])["diagnostics"].set_index("name").loc["log_baseline"]
    assert float(told["r_hat"]) == rows["r_hat"].max()
    assert float(told["ess_bulk"]) == rows["ess_bulk"].min()
    assert float(told["ess_tail"]) == rows["ess_tail"].min()


def test_an_account_joins_the_pieces_of_a_phase(
    attacked: tuple[str, list[Path], list[bb.Fit]],
) -> None:
    """By hand: 15 of 30 in the phase relapse; in an account without masks they stand by piece."""
    model, folders, fits = attacked
    flow = published(folders[0])["patient_flow"]
    inside = flow[(flow["step"] == "in phase") & (flow["endpoint"] == "rfs")]
    assert list(inside["phase"]) == ["before m", "m"]
    assert inside["events"].iloc[1] == "15"
    whole = read_results(folders[0]).tables["patient_flow"]
    rows = whole[(whole["step"] == "in phase") & (whole["endpoint"] == "rfs")]
    pieces = fits[0].posterior.sizes["piece"] if model == "since_entry" else 1
    assert len(rows) == 1 + pieces
    masked = shown(folders[0]).whole.tables["patient_flow"]
    assert len(masked) == len(whole)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A masked folder of patients who become eligible at times of their own, to a thousandth."""
    generator = np.random.default_rng(3)
    size = 61
    begin = np.round(generator.uniform(1.0, 6.0, size), 3)
    end = begin + np.round(generator.uniform(6.0, 30.0, size), 3)
    start = np.where(np.arange(size) % 2, np.round(begin + 0.3 * (end - begin), 3), np.nan)
    table = pd.DataFrame(
        {"id": range(size), "t": end, "d": generator.integers(0, 2, size), "c": begin, "m": start}
    )
    patients = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(c="c", m="m"),
    )
    folder = tmp_path_factory.mktemp("late")
    question = bb.Question(exposed="m", eligible_from="c")
    written(folder, patients, question, "primary")
    return folder, table


def test_the_default_landmark_is_nobodys_own_time(late: tuple[Path, pd.DataFrame]) -> None:
    """By hand: the median start is one patient's, and is rounded up to two digits."""
    folder, table = late
    median = float(np.median(table["c"]))
    assert f"{median:.3f}" in {f"{time:.3f}" for time in table["c"]}
    rounded = np.ceil(median * 10) / 10
    assert not np.isclose(median, rounded)
    tables = published(folder)
    assert float(tables["survival"]["time"].astype(float).min()) == pytest.approx(rounded)
    own = {f"{time:g}" for time in table["c"]}
    for name, rows in tables.items():
        for column in {"landmark", "time", "interval_start"} & set(rows):
            first = {f"{float(cell):g}" for cell in rows[column] if cell}
            assert f"{median:g}" not in first, (name, column)
            if column == "landmark":
                assert not first & own, name
    for path in folder.iterdir():
        if path.name not in PRIVATE and path.suffix in {".html", ".md", ".json"}:
            text = path.read_text(encoding="utf-8")
            assert f"{median:g}" not in text, path.name
    assert json.loads((folder / "results.json").read_text())["starts"] == []
