"""Scenarios are run, stored and resumed, wherever they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.cli import main
from bayesblina.cli.analysis import write_demo
from bayesblina.core.errors import SpecError, StorageError
from bayesblina.inference.convergence import sampler_settings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.studies.what_if.engine import Store
from tests.paths import ROOT
from tests.studies.scenarios import GRID, QUESTION, SHORT

# Scenarios of runs that are killed: enough for some to be done before and after.
FEW = 12


def content(folder: Path) -> bytes:
    return (folder / "scenarios.jsonl").read_bytes()


def undisturbed(cohort: bb.Cohort, folder: Path, *, size: int) -> bytes:
    """What a run leaves that nobody disturbs, in this process."""
    what_if = bb.scenarios(cohort, QUESTION, GRID, design="full")[:size]
    bb.sensitivity(cohort, what_if, out=folder, seed=1, workers=1, **SHORT)
    return content(folder)


@pytest.fixture(scope="module")
def few(cohort: bb.Cohort, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return undisturbed(cohort, tmp_path_factory.mktemp("few") / "a", size=FEW)


def test_a_scenario_is_the_fit_of_its_question(cohort: bb.Cohort, tmp_path: Path) -> None:
    what_if = bb.scenarios(cohort, QUESTION, {"lag": [1.0]})
    found = bb.sensitivity(cohort, what_if, out=tmp_path / "a", seed=7, workers=1, keep_draws=True)
    lagged = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor", lag=1.0
    )
    fit = bb.fit(cohort, lagged, seed=what_if[1].seed(7), progress=False)
    table = bb.summary(bb.hazard_ratio(fit))
    rows = found.table[found.table["scenario"] == "lag = 1"].reset_index(drop=True)
    for column in ("endpoint", "mean", "median", "sd", "lower", "upper", "probability_below_1"):
        assert rows[column].tolist() == table[column].tolist()
    draws = np.load(tmp_path / "a" / "draws" / f"{what_if[1].key}.npy", allow_pickle=False)
    expected = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values)
    np.testing.assert_array_equal(draws, expected)
    events = fit.person_time.table["events"]
    assert rows["events"].tolist() == events.sum(("interval", "phase", "pattern")).values.tolist()


def test_results_depend_on_neither_workers_nor_order_nor_restarts(
    cohort: bb.Cohort, tmp_path: Path
) -> None:
    what_if = bb.scenarios(cohort, QUESTION, GRID)
    bb.sensitivity(cohort, what_if, out=tmp_path / "one", seed=1, workers=1, **SHORT)
    bb.sensitivity(cohort, what_if, out=tmp_path / "two", seed=1, workers=2, **SHORT)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    # Backwards, in two runs.
    bb.sensitivity(cohort, what_if[4:][::-1], out=tmp_path / "back", seed=1, workers=1, **SHORT)
    again = bb.sensitivity(
        cohort, what_if, out=tmp_path / "back", seed=1, workers=1, resume=True, **SHORT
    )
    assert content(tmp_path / "back") == content(tmp_path / "one")
    loaded = bb.load_sensitivity(tmp_path / "one")
    pd.testing.assert_frame_equal(loaded.table, again.table)
    with pytest.raises(StorageError, match="holds results of an earlier run"):
        bb.sensitivity(cohort, what_if, out=tmp_path / "one", seed=1, **SHORT)
    with pytest.raises(StorageError, match="another study: seed differ"):
        bb.sensitivity(cohort, what_if, out=tmp_path / "one", seed=2, resume=True, **SHORT)
    other, _ = bb.simulate.blinatumomab_cohort(seed=2)
    with pytest.raises(StorageError, match="another study: data differ"):
        bb.sensitivity(other, what_if, out=tmp_path / "one", seed=1, resume=True, **SHORT)


def test_what_fails_is_a_row_with_its_reason(cohort: bb.Cohort, tmp_path: Path) -> None:
    what_if = bb.scenarios(cohort, QUESTION, {"landmark": [500.0]}, invalid="row")
    found = bb.sensitivity(cohort, what_if, out=tmp_path / "a", seed=1, workers=1, **SHORT)
    failed = found.table[found.table["status"] == "failed"]
    assert list(failed["scenario"]) == ["landmark = 500"]
    assert "os: no patient is ever eligible" in failed["reason"].iloc[0]
    short = found.table[found.table["status"] == "not converged"]
    assert short["reason"].str.contains("ESS").all()
    assert len(short) == 2
    assert repr(found) == "Sensitivity(2 scenarios; 1 not converged, 1 failed; synthetic patients)"
    with pytest.raises(SpecError, match="no scenario converged"):
        found.holds("os")
    for arguments, words in (
        ({"engine": "ray"}, "engine must be"),
        ({"engine": "dask"}, "scheduler's address"),
        ({"scheduler": "x"}, "scheduler's address"),
        ({"workers": 0}, "workers must be"),
        ({"draws": 1}, "draws must be"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.sensitivity(cohort, what_if, out=tmp_path / "b", seed=1, **arguments)
    with pytest.raises(SpecError, match="stands twice"):
        bb.sensitivity(cohort, [*what_if, what_if[0]], out=tmp_path / "b", seed=1)
    with pytest.raises(SpecError, match="no scenarios"):
        bb.sensitivity(cohort, [], out=tmp_path / "b", seed=1)


SCRIPT = """
import resource
import signal
import sys
from pathlib import Path

import bayesblina as bb
from tests.studies.test_what_if import GRID, QUESTION, SHORT

folder, size, room = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def progress(done, total):
    print(done, flush=True)
    if room and done == 3:
        # No file may grow beyond this: an error, as a full disk gives, not a signal.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = (folder / "scenarios.jsonl").stat().st_size + room
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


if __name__ == "__main__":
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    what_if = bb.scenarios(cohort, QUESTION, GRID, design="full")[:size]
    bb.sensitivity(
        cohort, what_if, out=folder, seed=1, workers=1, resume=True, progress=progress, **SHORT
    )
"""


def started(folder: Path, *, size: int = FEW, room: int = 0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(size), str(room)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed_and_resumed(folder: Path, *, size: int, kills: int, seed: int) -> int:
    """Kill a run at random moments until it has been killed so often; then let it finish."""
    random = np.random.default_rng(seed)
    hits = 0
    while hits < kills:
        with started(folder, size=size) as process:
            assert process.stdout is not None
            # Wait for the loop, so that kills fall among the scenarios.
            process.stdout.readline()
            time.sleep(float(random.uniform(0.0, 0.4)))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                hits += 1
            _, errors = process.communicate()
        # It was killed, or done before that; anything else is a fault.
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        if process.returncode == 0:
            break
    finish(folder, size=size)
    return hits


def finish(folder: Path, *, size: int = FEW) -> None:
    with started(folder, size=size) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def test_a_killed_run_resumes_where_it_was(few: bytes, tmp_path: Path) -> None:
    assert killed_and_resumed(tmp_path / "killed", size=FEW, kills=1, seed=1) == 1
    assert content(tmp_path / "killed") == few


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_resumes(cohort: bb.Cohort, tmp_path: Path) -> None:
    whole = undisturbed(cohort, tmp_path / "whole", size=24)
    assert killed_and_resumed(tmp_path / "killed", size=24, kills=10, seed=10) >= 1
    assert content(tmp_path / "killed") == whole


def test_half_a_line_is_cut_off_and_damage_is_told(cohort: bb.Cohort, tmp_path: Path) -> None:
    what_if = bb.scenarios(cohort, QUESTION, {"lag": [0.5, 1.0]})
    folder = tmp_path / "a"
    bb.sensitivity(cohort, what_if, out=folder, seed=1, workers=1, **SHORT)
    whole = content(folder)
    lines = whole.splitlines(keepends=True)
    for cut in (1, len(lines[-1]) // 2, len(lines[-1]) - 1):
        (folder / "scenarios.jsonl").write_bytes(whole[: len(whole) - cut])
        assert len(bb.load_sensitivity(folder).table["key"].unique()) == 2
        bb.sensitivity(cohort, what_if, out=folder, seed=1, workers=1, resume=True, **SHORT)
        assert content(folder) == whole
    wrong = lines[1].replace(b'"mean": 0.', b'"mean": 1.', 1)
    assert wrong != lines[1]
    (folder / "scenarios.jsonl").write_bytes(b"".join([lines[0], wrong, *lines[2:]]))
    with pytest.raises(StorageError, match="line 2 is damaged"):
        bb.load_sensitivity(folder)
    (folder / "scenarios.jsonl").write_text("something else\n")
    with pytest.raises(StorageError, match="not a store of scenarios"):
        bb.load_sensitivity(folder)
    with pytest.raises(StorageError, match="Cannot read"):
        bb.load_sensitivity(tmp_path / "nowhere")


def test_a_full_disk_ends_clearly_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """The system refuses to let any file grow beyond a limit, as a full disk would."""
    folder = tmp_path / "a"
    with started(folder, room=2500) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert b"there is no space left" in errors
    assert b"Finished scenarios are kept" in errors
    kept = len(bb.load_sensitivity(folder).table["key"].unique())
    assert 3 <= kept < FEW
    finish(folder)
    assert len(bb.load_sensitivity(folder).table["key"].unique()) == FEW


def test_an_unwritable_folder_ends_clearly(cohort: bb.Cohort, tmp_path: Path) -> None:
    what_if = bb.scenarios(cohort, QUESTION)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot make the folder"):
        bb.sensitivity(cohort, what_if, out=tmp_path / "file" / "a", seed=1, **SHORT)


def test_a_cluster_gives_the_same_and_survives_a_killed_worker(
    cohort: bb.Cohort, few: bytes, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    what_if = bb.scenarios(cohort, QUESTION, GRID, design="full")[:FEW]
    killed: list[int] = []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        processes = [worker.process.pid for worker in cluster.workers.values()]

        def progress(done: int, total: int) -> None:
            if done >= total // 3 and not killed:
                os.kill(processes[0], signal.SIGKILL)
                killed.append(processes[0])

        bb.sensitivity(
            cohort,
            what_if,
            out=tmp_path / "there",
            seed=1,
            engine="dask",
            scheduler=cluster.scheduler_address,
            progress=progress,
            **SHORT,
        )
    assert killed
    assert content(tmp_path / "there") == few
    with pytest.raises(SpecError, match="No Dask scheduler answers"):
        bb.sensitivity(
            cohort,
            what_if,
            out=tmp_path / "nowhere",
            seed=1,
            engine="dask",
            scheduler="tcp://127.0.0.1:9",
        )


def test_one_process_writes_into_a_folder(tmp_path: Path) -> None:
    store = Store(folder=tmp_path / "a")
    with store.locked():
        with pytest.raises(StorageError, match="Another process is writing"), store.locked():
            pass
        store.begin({"what": "scenarios"}, resume=False)
    # It is free again, and the lock that stays behind hinders nobody.
    with store.locked():
        store.append({"key": "x", "n": 1})


def test_a_key_has_one_row_however_often_it_stands_there(tmp_path: Path) -> None:
    """As two runs that did not know of each other left it."""
    store = Store(folder=tmp_path / "a")
    store.begin({"what": "scenarios"}, resume=False)
    for key, number in (("x", 1), ("y", 2), ("x", 1), ("y", 3)):
        store.append({"key": key, "n": number})
    _, records, _ = store.read()
    assert [(one["key"], one["n"]) for one in records] == [("x", 1), ("y", 2)]
    store.finish(["y", "x"], {"what": "scenarios", "direction": "higher"})
    header, records, _ = store.read()
    assert header["direction"] == "higher"
    assert [one["key"] for one in records] == ["y", "x"]
    assert len(store.path.read_text(encoding="utf-8").splitlines()) == 3
    # What is concluded of results does not make others of them.
    assert set(store.begin({"what": "scenarios", "direction": None}, resume=True)) == {"x", "y"}


def test_the_command_runs_a_studys_scenarios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demo(tmp_path, seed=1)
    study = tmp_path / "study.toml"
    text = study.read_text() + (
        '\n[sensitivity.axes]\nlag = [1.0]\nlandmark = ["none", 3.0]\n'
        '"prior.phases" = [[0.5, 2.0]]\n\n[[sensitivity.scenarios]]\nlag = 2.0\n'
        'transplant = "ignore"\n'
    )
    study.write_text(text)
    capsys.readouterr()
    out = tmp_path / "what_if"
    assert main(["sensitivity", str(study), "--out", str(out), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "5 scenarios" in printed
    assert "os: the base case's conclusion, that " in printed
    assert " holds in " in printed
    table = pd.read_csv(out / "scenarios.csv")
    assert len(table) == 10
    assert {"specification_os.png", "tornado_os.png", "effects_rfs.csv"} <= {
        path.name for path in out.iterdir()
    }
    assert main(["sensitivity", str(study), "--out", str(out)]) == 2
    assert "holds results of an earlier run" in capsys.readouterr().err
    assert main(["sensitivity", str(study), "--out", str(out), "--resume", "--quiet"]) == 0
    assert main(["sensitivity", str(study), "--out", str(out), "--engine", "ray"]) == 2
    study.write_text(text.replace("lag = [1.0]", "lags = [1.0]"))
    assert main(["validate", str(study)]) == 2
    assert "no axis 'lags'" in capsys.readouterr().err
    study.write_text(text[: text.index("\n[sensitivity")])
    assert main(["sensitivity", str(study), "--out", str(out)]) == 2
    assert "no section [sensitivity]" in capsys.readouterr().err


def test_a_store_is_readable_json(cohort: bb.Cohort, tmp_path: Path) -> None:
    """Nothing but JSON and a checksum; no ids of patients."""
    what_if = bb.scenarios(cohort, QUESTION)
    bb.sensitivity(cohort, what_if, out=tmp_path, seed=1, workers=1, **SHORT)
    for line in content(tmp_path).decode().splitlines():
        record, _, digest = line.rpartition(" sha256 ")
        assert json.loads(record)
        assert len(digest) == 64
    assert not any(str(patient) in content(tmp_path).decode() for patient in cohort.patients)
    header, records, _ = Store(folder=tmp_path).read()
    assert header["seed"] == 1
    assert len(records) == 1


def test_draws_do_not_depend_on_cores(cohort: bb.Cohort) -> None:
    person_time = bb.scenarios(cohort, QUESTION)[0].person_time(cohort, seed=1)
    found = [
        fit_person_time(
            bb.load_model("primary"),
            person_time,
            QUESTION,
            seed=5,
            settings=sampler_settings(50, 50, 2, cores, 5),
            complete=False,
        )
        .posterior["log_hazard_ratio"]
        .values
        for cores in (1, 2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
