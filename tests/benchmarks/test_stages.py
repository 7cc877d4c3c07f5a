"""How long each stage takes, on data of the demo's size and on a thousand times as many patients.

uv run pytest -m benchmark -s --no-cov tests/benchmarks
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
FIT = """
import time
began = time.perf_counter()
import bayesblina as bb
from bayesblina.inference.fitting import fit
imported = time.perf_counter()
cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
question = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
seconds = bb.fit(cohort, question, seed=1, progress=False).provenance.seconds
print({"import": round(imported - began, 2)} | {k: round(v, 3) for k, v in seconds.items()})
"""


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Best of some repeats."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def command(*arguments: str) -> float:
    """Time a whole process."""
    return seconds(
        lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    )


def read(table_path: Path) -> Cohort:
    return bb.read_cohort(
        table_path,
        patient="patient_id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        covariates=["age_group", "prior_salvage"],
        transplant="transplant_month",
        synthetic=True,
    )


def write(path: Path, patients: int, consolidated: int, maintained: int) -> Path:
    table = bb.simulate.blinatumomab_table(
        1, n_patients=patients, n_consolidation=consolidated, n_maintenance=maintained
    )
    table.to_csv(path, index=False)
    return path


@pytest.mark.benchmark
def test_stages(tmp_path: Path) -> None:
    small = write(tmp_path / "small.csv", 267, 86, 36)
    large = write(tmp_path / "large.csv", 267_000, 86_000, 36_000)
    bb.fit(read(small), QUESTION, seed=1, progress=False)  # compiled from here on
    print("\nstage                      267 patients  267,000 patients  ratio")
    rows: list[tuple[str, float, float]] = []
    cohorts = [read(small), read(large)]
    reading = [seconds(partial(read, path)) for path in (small, large)]
    rows.append(("read", reading[0], reading[1]))
    exposing = [seconds(partial(bb.person_time, one, QUESTION)) for one in cohorts]
    rows.append(("person_time", exposing[0], exposing[1]))
    cuts = bb.person_time(cohorts[0], QUESTION).cuts
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(8.0)]
    for label, given in (("same cuts", cuts), ("default cuts", None)):
        refit = partial(bb.fit, question=QUESTION, cuts=given, progress=False)
        fits: list[Fit] = []
        for one in cohorts:
            took = [refit(one, seed=seed) for seed in (1, 2, 3)]
            fits.append(min(took, key=lambda fit: fit.provenance.seconds["sample"]))
        for stage in ("build", "compile", "sample", "finish"):
            before, after = (fit.provenance.seconds[stage] for fit in fits)
            rows.append((f"{stage}, {label}", before, after))
        whole = [seconds(partial(refit, one, seed=1)) for one in cohorts]
        rows.append((f"refit, {label}", whole[0], whole[1]))
        ratios = [bb.hazard_ratio(fit) for fit in fits]
        summaries = [seconds(partial(bb.summary, one)) for one in ratios]
        rows.append((f"summary, {label}", summaries[0], summaries[1]))
        curves = [seconds(partial(bb.survival, fit, regimes=regimes, landmark=8.0)) for fit in fits]
        rows.append((f"curves, {label}", curves[0], curves[1]))
    for name, before, after in rows:
        print(f"{name:26s} {before:12.3f}  {after:16.3f}  {after / before:5.1f}")


@pytest.mark.benchmark
def test_processes(tmp_path: Path) -> None:
    print("\nprocess                        seconds")
    main = ("-m", "bayesblina")
    for name, arguments in {
        "bayesblina --help": (*main, "--help"),
        "bayesblina models": (*main, "models"),
        "bayesblina demo (warm caches)": (
            *main,
            "demo",
            "--out",
            str(tmp_path / "demo"),
            "--quiet",
        ),
        "bayesblina validate": (*main, "validate", str(tmp_path / "demo" / "study.toml")),
    }.items():
        print(f"{name:30s} {command(*arguments):7.2f}")
    stages = subprocess.run([sys.executable, "-c", FIT], check=True, capture_output=True, text=True)
    print("fit in a new process:", stages.stdout.strip())
    cold = {"BAYESBLINA_CACHE_DIR": str(tmp_path / "cold")}
    stages = subprocess.run(
        [sys.executable, "-c", FIT],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | cold,
    )
    print("same, empty caches:  ", stages.stdout.strip())


@pytest.mark.benchmark
def test_standardisation() -> None:
    """1,000 patients x 4,000 draws x 100 times x 2 regimes, for each of two endpoints."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    fit = bb.fit(cohort, QUESTION, seed=1, progress=False)
    # No two of these patients have the same covariates: one of them is continuous.
    population, _ = bb.simulate.blinatumomab_cohort(
        seed=2, n_patients=1000, n_consolidation=300, n_maintenance=100
    )
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(10.0)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = seconds(
        lambda: bb.survival(
            fit,
            regimes=regimes,
            times=np.linspace(10.0, 30.0, 100),
            landmark=10.0,
            population=population,
        )
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\nstandardised curves        {took:12.3f} s, {(after - before) / 1024:.0f} MiB more")
