"""Every row of the table of targets, in one run, with the peers that are installed.

uv run python tests/benchmarks/targets.py --out docs/validation/speed.md

Seconds are those of one machine at one time; what to trust are the ratios, all from the same run. A
peer that is not installed is left out and named. SYNTHETIC patients throughout.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm

import bayesblina as bb
from bayesblina.cohort import Cohort
from bayesblina.exposure import Exposure
from bayesblina.files import write_text

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
ENTRY = bb.Question(exposed="maintenance", eligible_from="entry", transplant="censor")
CATEGORICAL = ["age_group", "prior_salvage"]
PROCESS = """
import time
import bayesblina as bb
cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
question = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
began = time.perf_counter()
seconds = bb.fit(cohort, question, seed=1, progress=False).provenance.seconds
print(seconds["compile"] + seconds["sample"])
"""
STAN = """
suppressMessages(library(rstanarm))
cells <- read.csv(commandArgs(TRUE)[1])
cells <- cells[cells$exposure > 0, ]
began <- proc.time()[["elapsed"]]
fit <- stan_glm(events ~ 0 + factor(interval) + on + factor(pattern), offset = log(exposure),
                data = cells, family = poisson(), refresh = 0, cores = 2, seed = 1)
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
"""
COX = """
suppressMessages(library(survival))
rows <- read.csv(commandArgs(TRUE)[1])
began <- proc.time()[["elapsed"]]
fit <- coxph(Surv(start, stop, event) ~ on, data = rows)
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
"""


@dataclass
class Table:
    """Rows measured so far, printed as they come."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, what: str, measured: str, target: str, ratio: str = "") -> None:
        self.rows.append((what, measured, target, ratio))
        print(f"{what:62s} {measured:>16s}  {target:>22s}  {ratio}", flush=True)


def seconds(work: Callable[[], object], *, repeats: int = 3) -> float:
    """Best of some repeats."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def command(*arguments: str, env: dict[str, str] | None = None, repeats: int = 3) -> float:
    """Time a whole process."""
    return seconds(
        lambda: subprocess.run(
            [sys.executable, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | (env or {}),
        ),
        repeats=repeats,
    )


def table_of(patients: int) -> pd.DataFrame:
    return bb.simulate.blinatumomab_table(
        1,
        n_patients=patients,
        n_consolidation=round(patients * 86 / 267),
        n_maintenance=round(patients * 36 / 267),
    )


def columns(covariates: list[str]) -> dict[str, object]:
    return {
        "patient": "patient_id",
        "unit": "months",
        "endpoints": {
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        "phases": bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        "transplant": "transplant_month",
        "covariates": covariates,
        "synthetic": True,
    }


def read(table: pd.DataFrame, covariates: list[str]) -> Cohort:
    return bb.read_cohort(table, **columns(covariates))  # type: ignore[arg-type]


def processes(table: Table, folder: Path) -> None:
    """Time whole processes: starting, the demo cold and warm."""
    main = ("-m", "bayesblina")
    for name in ("--help", "models"):
        took = command(*main, name)
        table.add(f"bayesblina {name}", f"{took:.2f} s", "0.4 s (0.2 s)")
    demo = folder / "demo"
    cold = {"BAYESBLINA_CACHE_DIR": str(folder / "cold")}
    took = command(*main, "demo", "--out", str(demo), "--quiet", env=cold, repeats=1)
    table.add("demo, first run ever, with its report", f"{took:.1f} s", "30 s (12 s)")
    took = command(*main, "demo", "--out", str(demo), "--quiet", repeats=2)
    table.add("demo, later runs, with its report", f"{took:.1f} s", "7 s (4 s)")
    took = command(*main, "demo", "--out", str(demo), "--quiet", "--no-report", repeats=2)
    table.add("demo, later runs, without the report", f"{took:.1f} s", "7 s (4 s)")
    took = command(*main, "validate", str(demo / "study.toml"))
    table.add("bayesblina validate", f"{took:.2f} s", "0.4 s (0.2 s)")


def cells_of(exposure: Exposure, endpoint: str) -> pd.DataFrame:
    """Events and person-time of one endpoint as rows, for other programs."""
    one = exposure.table[["events", "exposure"]].sel(endpoint=endpoint).to_dataframe()
    rows = one.reset_index()[["interval", "phase", "pattern", "events", "exposure"]]
    rows["on"] = (rows["phase"] == "maintenance").astype(int)
    return rows


def small_fits(table: Table, folder: Path) -> None:
    """267 patients: a new process, the same process, and the peers."""
    cohort = read(table_of(267), CATEGORICAL)
    exposure = bb.expose(cohort, QUESTION)
    bb.fit(cohort, QUESTION, seed=1, progress=False)
    took = min(
        float(subprocess.check_output([sys.executable, "-c", PROCESS], text=True).split()[-1])
        for _ in range(3)
    )
    stan = 0.0
    if shutil.which("Rscript"):
        for name in exposure.endpoints:
            path = folder / f"{name}.csv"
            cells_of(exposure, name).to_csv(path, index=False)
            done = subprocess.run(
                ["Rscript", "-e", STAN, str(path)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                stan = 0.0
                break
            stan += float(done.stdout.split()[0])
    ratio = f"{took / stan:.2f} of rstanarm ({stan:.1f} s)" if stan else "no rstanarm here"
    table.add(
        "compile and sample, new process, warm", f"{took:.2f} s", "1 (1/3) of rstanarm", ratio
    )
    refit = seconds(lambda: bb.fit(cohort, QUESTION, seed=2, progress=False), repeats=5)
    table.add("refit in one process, all of it", f"{refit:.2f} s", "0.5 s (0.2 s)")
    dense = dense_pymc(cohort)
    table.add(
        "dense patient x interval form, PyMC's own sampler",
        f"{dense:.1f} s",
        "",
        f"{dense / refit:.0f} times our refit",
    )
    if shutil.which("Rscript"):
        rows = cohort.to_counting_process(endpoint="os").drop(columns="patient")
        rows["on"] = (rows["phase"] == "maintenance").astype(int)
        path = folder / "rows.csv"
        rows.to_csv(path, index=False)
        done = subprocess.run(
            ["Rscript", "-e", COX, str(path)], capture_output=True, text=True, check=False
        )
        if not done.returncode:
            table.add("R coxph, one endpoint (no posterior)", f"{done.stdout.split()[0]} s", "")


def dense_pymc(cohort: Cohort) -> float:
    """Fit one row per patient and interval with PyMC's sampler, one endpoint; its seconds."""
    rows = cohort.to_counting_process(endpoint="os", cuts=[3.0, 6.0, 9.0, 12.0, 18.0, 24.0])
    spent = (rows["stop"] - rows["start"]).to_numpy()
    on = (rows["phase"] == "maintenance").to_numpy(dtype=float)
    began = time.perf_counter()
    with pm.Model():
        baseline = pm.Normal("baseline", -3.0, 1.5, shape=7)
        ratio = pm.Normal("ratio", 0.0, 0.82)
        log_hazard = baseline[rows["interval"].to_numpy()] + ratio * on
        pm.Poisson("events", spent * pm.math.exp(log_hazard), observed=rows["event"].to_numpy())
        pm.sample(1000, tune=1000, chains=4, cores=2, random_seed=1, progressbar=False, quiet=True)
    return time.perf_counter() - began


def large_fits(table: Table, patients: int) -> None:
    """Sampling many patients over few; and with a continuous covariate."""
    times = []
    for size in (267, patients):
        cohort = read(table_of(size), CATEGORICAL)
        cuts = [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 18.0, 24.0]
        fits = [
            bb.fit(cohort, QUESTION, seed=seed, cuts=cuts, progress=False) for seed in (1, 2, 3)
        ]
        times.append(min(fit.provenance.seconds["sample"] for fit in fits))
    table.add(
        f"sampling, {patients:,} patients over 267, same cuts",
        f"{times[1]:.2f} s",
        "2 (1.3)",
        f"{times[1] / times[0]:.2f}",
    )
    cohort = read(table_of(patients), [*CATEGORICAL, "marrow_blasts"])
    fit = bb.fit(cohort, QUESTION, seed=1, progress=False)
    took = fit.provenance.seconds["sample"]
    bound = next(note for note in fit.provenance.notes if "compressed" in note)
    table.add(
        f"continuous covariate, {patients:,} patients, sampling", f"{took:.2f} s", "5 s (1 s)"
    )
    print(f"  {bound}")


def exposures(table: Table, patients: int, folder: Path) -> None:
    """Sum many patients in memory and from Parquet."""
    frame = table_of(patients)
    cohort = read(frame, CATEGORICAL)
    cuts = np.quantile(frame["os_months"], np.arange(1, 20) / 20)
    bb.expose(cohort, ENTRY, cuts=cuts)
    took = seconds(lambda: bb.expose(cohort, ENTRY, cuts=cuts))
    what = f"exposure, {patients:,} patients, 2 endpoints"
    table.add(f"{what}, in memory", f"{took:.2f} s", "0.5 s at 10^7")
    path = folder / "patients.parquet"
    frame["patient_id"] = np.arange(patients)
    frame.to_parquet(path, index=False)
    del frame
    scan = bb.scan_cohort(path, **columns(CATEGORICAL))  # type: ignore[arg-type]
    took = seconds(lambda: bb.expose(scan, ENTRY, cuts=cuts))
    table.add(f"{what}, from Parquet", f"{took:.2f} s", "1 s at 10^7")


def after_the_fit(table: Table) -> None:
    """Time what is asked of a fit: 1,000 patients x 4,000 draws x 100 times x 2 regimes."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    fit = bb.fit(cohort, QUESTION, seed=1, progress=False)
    others, _ = bb.simulate.blinatumomab_cohort(
        seed=2, n_patients=1000, n_consolidation=300, n_maintenance=100
    )
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(10.0)]
    at = np.linspace(10.0, 30.0, 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = seconds(
        lambda: bb.survival(fit, regimes=regimes, times=at, landmark=10.0, population=others)
    )
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    table.add(
        "standardised curves of 1,000 patients, 2 endpoints",
        f"{took:.2f} s",
        "5 s, 2 GiB (1 s)",
        f"{more:.0f} MiB more",
    )


def machine() -> str:
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("pymc", "nutpie", "numba", "numpy", "duckdb")
    )
    return f"Python {platform.python_version()}, {os.cpu_count()} cores, {libraries}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file to write.")
    parser.add_argument("--patients", type=int, default=10_000_000, help="For the exposures.")
    parser.add_argument("--large", type=int, default=200_000, help="For the fits.")
    asked = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes(table, folder)
        small_fits(table, folder)
        large_fits(table, asked.large)
        after_the_fit(table)
        exposures(table, asked.patients, folder)
    if asked.out is not None:
        lines = [
            "# Speed, measured",
            "",
            "SYNTHETIC patients throughout. Seconds are those of one machine at one time: the",
            "ratios are what to trust. Targets: to reach (stretch).",
            "",
            f"`uv run python tests/benchmarks/targets.py --patients {asked.patients} "
            f"--large {asked.large}`",
            "",
            f"{machine()}.",
            "",
            "| what | measured | target | ratio |",
            "|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in table.rows),
            "",
        ]
        write_text(asked.out, "\n".join(lines))


if __name__ == "__main__":
    main()
