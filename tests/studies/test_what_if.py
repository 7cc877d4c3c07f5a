"""Scenarios: laid out, run, killed and resumed, on processes and on a cluster, and read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.cli import main
from bayesblina.core.errors import SpecError, StorageError
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.sampler_settings import sampler_settings
from bayesblina.studies.axes import AXES
from bayesblina.studies.what_if.reading import Sensitivity
from bayesblina.studies.what_if.store import Store
from tests.paths import ROOT

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
SHORT: dict[str, Any] = {"draws": 50, "tune": 60, "chains": 2}
GRID: dict[str, Any] = {
    "lag": [0.5, 1.0, 1.5],
    "transplant": ["ignore"],
    "prior.phases": [(0.5, 2.0), (0.1, 10.0)],
}


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1)[0]


# Laying out.


def test_one_at_a_time_full_and_explicit(cohort: bb.Cohort) -> None:
    one = bb.scenarios(cohort, QUESTION, GRID)
    assert [each.label for each in one] == [
        "base case",
        "lag = 0.5",
        "lag = 1",
        "lag = 1.5",
        "transplant = ignore",
        "prior.phases = 0.5 to 2",
        "prior.phases = 0.1 to 10",
    ]
    full = bb.scenarios(cohort, QUESTION, GRID, design="full")
    assert len(full) == 4 * 2 * 3
    assert len({each.key for each in full}) == 24
    assert full[0].label == "base case"
    # The base case's own setting is no scenario of its own.
    assert len(bb.scenarios(cohort, QUESTION, {"lag": [0.0, 1.0]})) == 2
    added = bb.scenarios(
        cohort, QUESTION, {"lag": [1.0]}, explicit=[{"lag": 2.0, "transplant": "ignore"}]
    )
    assert added[-1].question.lag == 2.0
    assert added[-1].question.transplant == "ignore"
    assert dict(added[1].settings) == {"lag": "1", "transplant": "base"}


def test_every_axis_reaches_the_analysis(cohort: bb.Cohort) -> None:
    found = {
        name: bb.scenarios(cohort, QUESTION, {name: [value]})[1]
        for name, value in {
            "landmark": 5.0,
            "eligible_from": "entry",
            "reference": "consolidation",
            "endpoints": ("os",),
            "intervals": 3,
            "cuts": [6.0],
            "model": "weibull",
            "prior.step": (0.2, 5.0),
            "prior.level": (0.1, 10.0),
            "covariates": ["marrow_blasts"],
            "only": ("age_group", "55+"),
        }.items()
    }
    base = bb.scenarios(cohort, QUESTION)[0].person_time(cohort, seed=1)

    def exposed(name: str) -> bb.PersonTime:
        return found[name].person_time(cohort, seed=1)

    assert np.nanmin(exposed("landmark").people["begin"].values) == 5.0
    assert exposed("eligible_from").people.sizes["patient"] == 267
    assert set(exposed("reference").table["role"].values) == {"exposed", "reference"}
    assert exposed("endpoints").endpoints == ("os",)
    # Three parts of the events, and the cuts where patients enter.
    assert np.isin(exposed("intervals").cuts, base.cuts).sum() > 10
    assert 3 + 10 < exposed("intervals").table.sizes["interval"] < base.table.sizes["interval"]
    assert exposed("cuts").cuts.tolist() == [6.0]
    assert found["model"].model.name == "weibull"
    assert found["prior.step"].model.baseline.step.hazard_ratio == (0.2, 5.0)  # type: ignore[union-attr]
    assert found["prior.level"].model.baseline.level.hazard_ratio == (0.1, 10.0)  # type: ignore[union-attr]
    assert list(exposed("covariates").table["term"].values) == ["marrow_blasts"]
    older = exposed("only").people.sizes["patient"]
    rest = bb.scenarios(cohort, QUESTION, {"without": [("age_group", "55+")]})[1]
    assert (
        older + rest.person_time(cohort, seed=1).people.sizes["patient"]
        == (base.people.sizes["patient"])
    )
    # A covariate alone is each of its levels in turn.
    levels = cohort.covariates["age_group"].levels
    assert len(bb.scenarios(cohort, QUESTION, {"without": ["age_group"]})) == 1 + len(levels)
    assert len(AXES) == len(set(AXES))


def test_phase_starts_are_moved(cohort: bb.Cohort) -> None:
    late, early, noisy = (
        bb.scenarios(cohort, QUESTION, {name: [value]})[1].cohort(cohort, seed=3)
        for name, value in (("phase_shift", 0.5), ("phase_shift", -0.2), ("phase_jitter", 0.3))
    )
    index = cohort.phases.index("maintenance")
    before = cohort.phase_start[:, index]
    started = np.isfinite(before)
    for moved, shift in ((late, 0.5), (early, -0.2)):
        after = moved.phase_start[:, index]
        assert (np.isfinite(after) == started).all()
        change = (after - before)[started]
        assert set(np.round(change, 9)) <= {0.0, shift}
        assert (change != 0).sum() > 25
    change = (noisy.phase_start[:, index] - before)[started]
    assert 0.15 < change.std() < 0.45
    others = np.delete(noisy.phase_start, index, axis=1)
    np.testing.assert_array_equal(others, np.delete(cohort.phase_start, index, axis=1))
    # An error belongs to the patient: it does not change with who else is analysed.
    some = bb.scenarios(
        cohort, QUESTION, explicit=[{"phase_jitter": 0.3, "only": ("age_group", "55+")}]
    )[1].cohort(cohort, seed=3)
    mine = np.isin(cohort.patients, some.patients)
    np.testing.assert_array_equal(some.phase_start[:, index], noisy.phase_start[mine, index])


def test_impossible_scenarios_are_named_before_anything_runs(cohort: bb.Cohort) -> None:
    with pytest.raises(SpecError) as caught:
        bb.scenarios(
            cohort,
            QUESTION,
            {"landmark": [500.0], "lag": [-1.0], "model": ["frailty"], "prior.spread": [(0.5, 2)]},
        )
    text = str(caught.value)
    assert "4 of 5 scenarios cannot be asked" in text
    assert "landmark = 500: " in text
    assert "lag = -1: lag must be a length of time from 0 on" in text
    assert "model = frailty: Model 'frailty' needs a covariate as its group" in text
    assert "prior.spread = 0.5 to 2: Model 'primary' has no prior 'spread'" in text
    kept = bb.scenarios(cohort, QUESTION, {"landmark": [500.0]}, invalid="row")
    assert len(kept) == 2
    for axes, words in (
        ({"lags": [1.0]}, "No axis 'lags'"),
        ({"lag": 1.0}, "give a list"),
        ({"intervals": [0]}, "at least 1"),
        ({"without": ["age"]}, "no categorical covariate 'age'"),
        ({"only": [("age_group", "100+")]}, "has no level"),
        ({"covariates": [["age"]]}, "No covariate 'age'"),
        ({"phase_jitter": [-1.0]}, "must not be negative"),
        ({"phase_shift": ["x"]}, "finite number"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.scenarios(cohort, QUESTION, axes)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="design must be"):
        bb.scenarios(cohort, QUESTION, design="some")  # type: ignore[arg-type]


# Running.


def content(folder: Path) -> bytes:
    return (folder / "scenarios.jsonl").read_bytes()


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


# Interruptions.

SCRIPT = """
import resource
import signal
import sys
from pathlib import Path

import bayesblina as bb
from tests.studies.test_what_if import GRID, QUESTION, SHORT

folder, room = Path(sys.argv[1]), int(sys.argv[2])


def progress(done, total):
    print(done, flush=True)
    if room and done == 3:
        # No file may grow beyond this: an error, as a full disk gives, not a signal.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        most = (folder / "scenarios.jsonl").stat().st_size + room
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


if __name__ == "__main__":
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    what_if = bb.scenarios(cohort, QUESTION, GRID, design="full")
    bb.sensitivity(
        cohort, what_if, out=folder, seed=1, workers=1, resume=True, progress=progress, **SHORT
    )
"""


def started(folder: Path, *, room: int = 0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(room)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed_and_resumed(folder: Path, *, kills: int, seed: int) -> int:
    """Kill a run at random moments until it has been killed so often; then let it finish."""
    random = np.random.default_rng(seed)
    hits = 0
    while hits < kills:
        with started(folder) as process:
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
    finish(folder)
    return hits


def finish(folder: Path) -> None:
    with started(folder) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize(
    "kills", [1, pytest.param(10, marks=pytest.mark.slow)], ids=["once", "ten times"]
)
def test_a_killed_run_resumes_where_it_was(cohort: bb.Cohort, tmp_path: Path, kills: int) -> None:
    what_if = bb.scenarios(cohort, QUESTION, GRID, design="full")
    bb.sensitivity(cohort, what_if, out=tmp_path / "whole", seed=1, workers=1, **SHORT)
    assert killed_and_resumed(tmp_path / "killed", kills=kills, seed=kills) >= 1
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


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
    assert 3 <= kept < 24
    finish(folder)
    assert len(bb.load_sensitivity(folder).table["key"].unique()) == 24


def test_an_unwritable_folder_ends_clearly(cohort: bb.Cohort, tmp_path: Path) -> None:
    what_if = bb.scenarios(cohort, QUESTION)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot make the folder"):
        bb.sensitivity(cohort, what_if, out=tmp_path / "file" / "a", seed=1, **SHORT)


# A cluster.


def test_a_cluster_gives_the_same_and_survives_a_killed_worker(
    cohort: bb.Cohort, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    what_if = bb.scenarios(cohort, QUESTION, GRID, design="full")[:12]
    bb.sensitivity(cohort, what_if, out=tmp_path / "here", seed=1, workers=1, **SHORT)
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
    assert content(tmp_path / "there") == content(tmp_path / "here")
    with pytest.raises(SpecError, match="No Dask scheduler answers"):
        bb.sensitivity(
            cohort,
            what_if,
            out=tmp_path / "nowhere",
            seed=1,
            engine="dask",
            scheduler="tcp://127.0.0.1:9",
        )


# Reading.


def label_of(settings: dict[str, str]) -> str:
    varied = [f"{axis} = {value}" for axis, value in settings.items() if value != "base"]
    return "; ".join(varied) or "base case"


def sheet(rows: list[tuple[dict[str, str], float, float]], *, failed: int = 0) -> Sensitivity:
    records = [
        {
            "label": "; ".join(f"{k} = {v}" for k, v in settings.items() if v != "base")
            or "base case",
            "status": "converged",
            "reason": "",
            "settings": settings,
            "key": str(index),
            "results": [
                {
                    "endpoint": "os",
                    "mean_log": log,
                    "median": float(np.exp(log)),
                    "lower": float(np.exp(log - 0.5)),
                    "upper": float(np.exp(log + 0.5)),
                    "probability_below_1": certain,
                }
            ],
        }
        for index, (settings, log, certain) in enumerate(rows)
    ]
    records += [
        {
            "label": f"lag = {9 + index}",
            "status": "failed",
            "reason": "why",
            "settings": {"lag": str(9 + index), "model": "base"},
            "key": f"f{index}",
            "results": [],
        }
        for index in range(failed)
    ]
    return Sensitivity.of({"synthetic": True}, records)


def at(lag: str, model: str) -> dict[str, str]:
    return {"lag": lag, "model": model}


FULL = [
    (at("base", "base"), -0.7, 0.99),
    (at("1", "base"), -0.5, 0.98),
    (at("base", "weibull"), -0.6, 0.985),
    (at("1", "weibull"), -0.1, 0.60),
]


def test_conclusions_are_counted_and_exceptions_named() -> None:
    found = sheet(FULL, failed=1)
    holds = found.holds("os")
    assert (holds.holds, holds.of) == (3, 4)
    assert holds.not_in == ("lag = 1; model = weibull",)
    assert holds.without_answer == ("lag = 9",)
    assert str(holds) == (
        "os: the base case's conclusion, that the hazard is lower (P(HR < 1) at least 0.975), "
        "holds in 3 of 4 scenarios; not in: lag = 1; model = weibull; without an answer: lag = 9."
    )
    assert found.holds("os", probability=0.51).holds == 4
    assert found.holds("os", probability=0.51, ratio=0.56).holds == 2
    with pytest.raises(SpecError, match="No endpoint"):
        found.holds("pfs")
    with pytest.raises(SpecError, match=r"between 0\.5 and 1"):
        found.holds("os", probability=1.0)


def test_a_conclusion_has_the_base_cases_direction() -> None:
    """Harm in every scenario is a stable conclusion, and so is what stays open."""
    harm = sheet([(lags, -one, 1 - share) for lags, one, share in FULL])
    holds = harm.holds("os")
    assert (holds.direction, holds.holds, holds.of) == ("higher", 3, 4)
    assert str(holds).startswith(
        "os: the base case's conclusion, that the hazard is higher (P(HR > 1) at least 0.975), "
        "holds in 3 of 4 scenarios; not in: lag = 1; model = weibull"
    )
    assert harm.conclusion("os") == str(holds)
    # What is asked for wins; the ratio of harm is the inverse.
    assert harm.holds("os", direction="lower").holds == 0
    assert harm.holds("os", probability=0.51, ratio=0.56).holds == 2
    told = replace(harm, direction="lower")
    assert str(told.holds("os")).startswith("os: the conclusion, that the hazard is lower")
    middling = sheet([(FULL[0][0], -0.1, 0.7), (FULL[1][0], 0.1, 0.4), (FULL[2][0], -0.9, 0.99)])
    assert (middling.holds("os").direction, middling.holds("os").holds) == ("open", 2)
    assert "that it is open whether the hazard is lower or higher" in middling.conclusion("os")
    silent = sheet(FULL[1:])
    with pytest.raises(SpecError, match="base case has no answer"):
        silent.holds("os")
    assert "the base case has no answer" in silent.conclusion("os")
    assert silent.holds("os", direction="lower").holds == 2
    with pytest.raises(SpecError, match="direction must be"):
        harm.holds("os", direction="worse")  # type: ignore[arg-type]


def test_a_harmful_phases_tornado_has_probabilities() -> None:
    """Probabilities of 0.0002 and 0: the panel shows them, and none that cannot be."""
    rows = [(at("base", "base"), 0.8, 0.0002), (at("1", "base"), 0.7, 0.0)]
    figure = bb.plots.tornado(sheet(rows), "os")
    _, right = figure.axes
    low, high = right.get_xlim()
    assert 0.0 <= low < high <= 1.0
    assert high - low >= 0.009
    ends = [float(end) for line in right.lines for end in np.ravel(line.get_xdata())]
    assert ends == [0.0, 0.0002]
    assert all(low <= one <= high for one in ends)


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


def test_effects_of_axes_and_pairs_by_hand() -> None:
    effects = sheet(FULL).effects("os").set_index("axis")
    # Full design: means over the other axis.
    lag = effects.loc["lag"]
    assert (lag["low"], lag["high"]) == ("base", "1")
    assert lag["log_ratio_low"] == pytest.approx((-0.7 - 0.6) / 2)
    assert lag["log_ratio_range"] == pytest.approx((-0.5 - 0.1) / 2 - (-0.7 - 0.6) / 2)
    assert lag["probability_range"] == pytest.approx((0.99 + 0.985) / 2 - (0.98 + 0.60) / 2)
    pair = effects.loc["lag x model"]
    assert pair["high"] == "lag = 1, model = weibull"
    assert pair["log_ratio_range"] == pytest.approx(-0.1 - (-0.5 - 0.6 + 0.7))
    assert pair["probability_range"] == pytest.approx(0.60 - (0.98 + 0.985 - 0.99))
    # One at a time: against the base case.
    alone = sheet(FULL[:3]).effects("os").set_index("axis")
    assert list(alone.index) == ["lag", "model"]
    assert alone.loc["lag", "log_ratio_range"] == pytest.approx(0.2)
    assert alone.loc["model", "log_ratio_range"] == pytest.approx(0.1)


def test_figures_of_scenarios() -> None:
    found = sheet(FULL)
    curve = bb.plots.specification_curve(found, "os")
    top, bottom = curve.axes
    assert len(top.containers) == 2
    assert [label.get_text() for label in bottom.get_yticklabels()] == [
        "lag: base",
        "lag: 1",
        "model: base",
        "model: weibull",
    ]
    dots = [line.get_xdata() for line in bottom.lines]
    assert sorted(np.concatenate(dots).tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert curve.get_suptitle() == "synthetic patients"
    assert len(bb.plots.tornado(found, "os").axes) == 4
    assert len(bb.plots.tornado(sheet(FULL[:3]), "os").axes) == 2
    shown = bb.plots.scenario_map(found, "os", "lag", "model").axes[0]
    assert [text.get_text() for text in shown.texts] == ["0.50", "0.55", "0.61", "0.90"]
    with pytest.raises(SpecError, match="too many"):
        bb.plots.specification_curve(found, "os", largest=3)
    with pytest.raises(SpecError, match="Nothing was varied"):
        bb.plots.tornado(sheet(FULL[:1]), "os")
    for rows, columns, words in (
        ("lag", "lag", "two different"),
        ("lag", "x", "No axis 'x'"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.plots.scenario_map(found, "os", rows, columns)
    with pytest.raises(SpecError, match="No column"):
        bb.plots.scenario_map(found, "os", "lag", "model", value="x")


# The command line.


def test_the_command_runs_a_studys_scenarios(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), "--quiet"]) == 0
    study = tmp_path / "demo" / "study.toml"
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
