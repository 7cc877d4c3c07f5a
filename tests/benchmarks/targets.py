"""Every row of the table of targets, in one run, with the peers that are installed.

uv run python tests/benchmarks/targets.py --out docs/validation/speed.md

Seconds are those of one machine at one time; what to trust are the ratios, all from the same run. A
peer that is not installed is left out. SYNTHETIC patients throughout. A folder that
`tests/benchmarks/patients.py` wrote adds the row of patients who do not fit into memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pymc as pm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
ENTRY = bb.Question(exposed="maintenance", eligible_from="entry", transplant="censor")
ENTRY_OS = bb.Question(
    exposed="maintenance", eligible_from="entry", transplant="censor", endpoints=("os",)
)
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
WHOLE = """
import bayesblina as bb
cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
question = bb.Question(
    exposed="maintenance", eligible_from="entry", transplant="censor", endpoints=("os",)
)
bb.fit(cohort, question, seed=1, progress=False)
"""
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "bayesblina", *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
STAN = """
suppressMessages(library(rstanarm))
cells <- read.csv(commandArgs(TRUE)[1])
cells <- cells[cells$person_time > 0, ]
began <- proc.time()[["elapsed"]]
fit <- stan_glm(events ~ 0 + factor(interval) + on + factor(pattern), offset = log(person_time),
                data = cells, family = poisson(), refresh = 0, cores = 2, seed = 1)
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
"""
# Classical fits of survival, one number each: seconds, and the log hazard ratio.
PEERS = {
    "R survival, coxph": """
suppressMessages(library(survival))
rows <- read.csv(commandArgs(TRUE)[1])
began <- proc.time()[["elapsed"]]
fit <- coxph(Surv(start, stop, event) ~ on, data = rows)
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
""",
    "R glm, Poisson on cells": """
cells <- read.csv(commandArgs(TRUE)[2])
cells <- cells[cells$person_time > 0, ]
began <- proc.time()[["elapsed"]]
fit <- glm(events ~ 0 + factor(interval) + on, offset = log(person_time), data = cells,
           family = poisson())
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
""",
    "R mgcv, bam on cells": """
suppressMessages(library(mgcv))
cells <- read.csv(commandArgs(TRUE)[2])
cells <- cells[cells$person_time > 0, ]
began <- proc.time()[["elapsed"]]
fit <- bam(events ~ s(interval, k = 8) + on + offset(log(person_time)), data = cells,
           family = poisson(), discrete = TRUE)
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
""",
    "R pammtools, pam on its own rows": """
suppressMessages({library(pammtools); library(mgcv)})
rows <- read.csv(commandArgs(TRUE)[1])
began <- proc.time()[["elapsed"]]
first <- rows[!duplicated(rows$id), ]
last <- rows[!duplicated(rows$id, fromLast = TRUE), ]
people <- data.frame(id = last$id, time = last$stop, status = last$event, dummy = 0)
moves <- data.frame(id = rows$id, at = ifelse(duplicated(rows$id), rows$start, 0), on = rows$on)
ped <- as_ped(list(people, moves), Surv(time, status) ~ dummy + concurrent(on, tz_var = "at"),
              id = "id")
# Time before eligibility is no time at risk.
begin <- first$start[match(ped$id, first$id)]
ped <- ped[ped$tstart >= begin, ]
fit <- bam(ped_status ~ s(tend, k = 8) + on, offset = offset, data = ped, family = poisson(),
           discrete = TRUE)
cat(proc.time()[["elapsed"]] - began, coef(fit)[["on"]])
""",
}
LIFELINES = """
import sys, time, warnings
import pandas as pd
from lifelines import CoxTimeVaryingFitter
warnings.simplefilter("ignore")
rows = pd.read_csv(sys.argv[1])[["id", "start", "stop", "event", "on"]]
began = time.perf_counter()
fit = CoxTimeVaryingFitter().fit(
    rows, id_col="id", start_col="start", stop_col="stop", event_col="event"
)
print(time.perf_counter() - began, fit.params_["on"])
"""
SIZES = (267, 2_000, 20_000, 200_000)
# Peers that expand patients into rows are not asked for more.
LARGEST_PEER = {"R pammtools, pam on its own rows": 2_000, "lifelines": 20_000}


@dataclass
class Table:
    """Rows measured so far, printed as they come."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    growth: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)

    def add(self, what: str, measured: str, target: str, ratio: str = "") -> None:
        self.rows.append((what, measured, target, ratio))
        print(f"{what:62s} {measured:>16s}  {target:>22s}  {ratio}", flush=True)

    def grows(self, panel: str, what: str, patients: int, took: float) -> None:
        """Keep a point of a plot of time against patients."""
        self.growth.setdefault(panel, {}).setdefault(what, {})[patients] = took
        print(f"  {panel}: {what}, {patients:,} patients: {took:.3g} s", flush=True)


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


def cells_of(person_time: PersonTime, endpoint: str) -> pd.DataFrame:
    """Events and person-time of one endpoint as rows, for other programs."""
    one = person_time.table[["events", "person_time"]].sel(endpoint=endpoint).to_dataframe()
    rows = one.reset_index()[["interval", "phase", "pattern", "events", "person_time"]]
    rows["on"] = (rows["phase"] == "maintenance").astype(int)
    return rows


def small_fits(table: Table, folder: Path) -> None:
    """267 patients: a new process, the same process, and the peers."""
    cohort = read(table_of(267), CATEGORICAL)
    person_time = bb.person_time(cohort, QUESTION)
    bb.fit(cohort, QUESTION, seed=1, progress=False)
    took = min(
        float(subprocess.check_output([sys.executable, "-c", PROCESS], text=True).split()[-1])
        for _ in range(3)
    )
    stan = 0.0
    if shutil.which("Rscript"):
        for name in person_time.endpoints:
            path = folder / f"{name}.csv"
            cells_of(person_time, name).to_csv(path, index=False)
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
    whole = command("-c", WHOLE)
    began = time.perf_counter()
    subprocess.run([sys.executable, __file__, "--dense"], check=True, stdout=subprocess.DEVNULL)
    dense = time.perf_counter() - began
    table.add(
        "whole process, 267 patients at risk, one endpoint, warm",
        f"{whole:.1f} s",
        "4 x (8 x) faster",
        f"{dense / whole:.1f} x faster than the dense form in PyMC ({dense:.1f} s)",
    )


def dense_pymc(cohort: Cohort) -> None:
    """Fit overall survival with a row for every patient and interval, by PyMC's own sampler."""
    cuts = bb.person_time(cohort, ENTRY_OS).cuts
    rows = cohort.to_counting_process(endpoint="os", cuts=list(cuts))
    on = (rows["phase"] == "maintenance").to_numpy(dtype=int)
    patient = pd.factorize(rows["patient"])[0]
    spent, died = np.zeros((2, cohort.size, cuts.size + 1, 2))
    np.add.at(spent, (patient, rows["interval"], on), rows["stop"] - rows["start"])
    np.add.at(died, (patient, rows["interval"], on), rows["event"])
    x = pd.get_dummies(table_of(cohort.size)[CATEGORICAL], drop_first=True).to_numpy(dtype=float)
    with pm.Model():
        scale = pm.HalfNormal("scale", 1.0)
        walk = pm.GaussianRandomWalk(
            "walk", sigma=scale, init_dist=pm.Normal.dist(-3.0, 1.5), steps=cuts.size
        )
        ratio = pm.Normal("ratio", 0.0, 0.82)
        covariates = pm.Normal("covariates", 0.0, 0.82, shape=x.shape[1])
        log_hazard = (
            walk[None, :, None] + ratio * np.array([0.0, 1.0]) + (x @ covariates)[:, None, None]
        )
        expected = spent * pm.math.exp(log_hazard)
        pm.Potential("likelihood", (died * log_hazard - expected).sum())
        pm.sample(1000, tune=1000, chains=4, cores=2, random_seed=1, progressbar=False, quiet=True)


CUTS = [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 15.0, 18.0, 24.0]


def large_fits(table: Table, sizes: tuple[int, ...]) -> None:
    """Sampling many patients over few; and with a continuous covariate."""
    panel = "one fit, sampling"
    for size in sizes:
        frame = table_of(size)
        cohort = read(frame, CATEGORICAL)
        for what, cuts in (("same cuts", CUTS), ("default cuts", None)):
            fits = [
                bb.fit(cohort, QUESTION, seed=seed, cuts=cuts, progress=False) for seed in (1, 2, 3)
            ]
            table.grows(panel, what, size, min(fit.provenance.seconds["sample"] for fit in fits))
        cohort = read(frame, [*CATEGORICAL, "marrow_blasts"])
        fit = bb.fit(cohort, QUESTION, seed=1, progress=False)
        what = "with a continuous covariate"
        table.grows(panel, what, size, fit.provenance.seconds["sample"])
    few, many = sizes[0], sizes[-1]
    same = table.growth[panel]["same cuts"]
    table.add(
        f"sampling, {many:,} patients over {few:,}, same cuts",
        f"{same[many]:.2f} s",
        "2 (1.3)",
        f"{same[many] / same[few]:.2f}",
    )
    took = table.growth[panel]["with a continuous covariate"][many]
    bound = next(note for note in fit.provenance.notes if "compressed" in note)
    table.add(
        f"continuous covariate, {many:,} patients, sampling", f"{took:.2f} s", "5 s (1 s)", bound
    )


def peers(table: Table, folder: Path, sizes: tuple[int, ...]) -> None:
    """Fit survival elsewhere, to the same patients: one estimate, no posterior."""
    for size in sizes:
        cohort = read(table_of(size), CATEGORICAL)
        rows = cohort.to_counting_process(endpoint="os")
        rows = rows.rename(columns={"patient": "id"})
        rows["id"] = pd.factorize(rows["id"])[0]
        rows["on"] = (rows["phase"] == "maintenance").astype(int)
        # From consolidation on, until transplant: as in the question.
        rows = rows[rows["phase"] != f"before {cohort.phases[0]}"]
        assert cohort.transplant is not None
        until = rows["id"].map(dict(enumerate(cohort.transplant))).fillna(np.inf)
        rows["event"] = rows["event"].where(rows["stop"] <= until, 0)
        rows["stop"] = rows["stop"].clip(upper=until)
        rows[rows["start"] < rows["stop"]].to_csv(folder / "rows.csv", index=False)
        person_time = bb.person_time(cohort, QUESTION)
        cells_of(person_time, "os").to_csv(folder / "cells.csv", index=False)
        programs = {"lifelines": [sys.executable, "-c", LIFELINES]}
        if shutil.which("Rscript"):
            programs |= {name: ["Rscript", "-e", code] for name, code in PEERS.items()}
        for name, program in programs.items():
            if size > LARGEST_PEER.get(name, size):
                continue
            files = [str(folder / "rows.csv"), str(folder / "cells.csv")]
            done = subprocess.run([*program, *files], capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"  {name} is not installed, or failed: {done.stderr.strip()[-200:]}")
                continue
            took, ratio = done.stdout.split()[-2:]
            table.grows("elsewhere, one endpoint, no posterior", name, size, float(took))
            print(f"    log hazard ratio {float(ratio):.3f}")


def grid(table: Table) -> None:
    """A grid of 100 scenarios, against as many fits in processes of their own."""
    spec = [sys.executable, "tests/studies/grid.py", "--separate", "4", "--out"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.md"
        subprocess.run([*spec, str(path)], check=True, stdout=subprocess.DEVNULL)
        text = path.read_text(encoding="utf-8")
    found = {
        line.split(" | ")[0].strip("| "): float(line.split(" | ")[1].strip(" |"))
        for line in text.splitlines()
        if line.startswith("| ") and "seconds" not in line
    }
    two, separate = found["the grid, 2 processes"], found["100 separate fits (100 times that)"]
    table.add(
        "100 scenarios, full draws, 2 processes",
        f"{two:.1f} s",
        "40 s, 15 x (15 s)",
        f"1/{separate / two:.0f} of separate fits",
    )


def person_times(table: Table, sizes: tuple[int, ...], folder: Path) -> None:
    """Sum many patients in memory and from Parquet."""
    panel = "person-time, everybody at risk"
    asked = {"one endpoint": ENTRY_OS, "two endpoints": ENTRY}
    for patients in sizes:
        frame = table_of(patients)
        cohort = read(frame, CATEGORICAL)
        cuts = np.quantile(frame["os_months"], np.arange(1, 20) / 20)
        for what, question in asked.items():
            bb.person_time(cohort, question, cuts=cuts)
            took = seconds(lambda: bb.person_time(cohort, question, cuts=cuts))  # noqa: B023
            table.grows(panel, f"in memory, {what}", patients, took)
        path = folder / f"patients{patients}.parquet"
        frame["patient_id"] = np.arange(patients)
        frame.to_parquet(path, index=False, row_group_size=1_000_000)
        scan = bb.scan_cohort(path, **columns(CATEGORICAL))  # type: ignore[arg-type]
        for what, question in asked.items():
            took = seconds(lambda: bb.person_time(scan, question, cuts=cuts))  # noqa: B023
            table.grows(panel, f"from Parquet, {what}", patients, took)
    many = sizes[-1]
    for way, found in table.growth[panel].items():
        target = "0.5 s at 10^7" if "memory" in way else "1 s at 10^7"
        each = f"{found[many] / many * 1e7:.2f} s for 10^7"
        table.add(f"person-time, {many:,} patients, {way}", f"{found[many]:.2f} s", target, each)


def beyond_memory(table: Table, parquet: Path, folder: Path) -> None:
    """Go the whole way, from files that do not fit into memory, in one command."""
    scan = bb.scan_cohort(parquet / "patients-*.parquet", **columns(CATEGORICAL))  # type: ignore[arg-type]
    took = seconds(lambda: bb.person_time(scan, QUESTION, cuts=CUTS), repeats=1)
    what = f"person-time, {scan.size:,} patients from Parquet, a third of them eligible"
    table.add(what, f"{took:.1f} s", "10 s, under 1 GB")
    for study in ("study", "continuous"):
        out = folder / study
        arguments = ["run", str(parquet / f"{study}.toml"), "--out", str(out), "--quiet"]
        # A child's peak counts that of whoever started it, so a small process does.
        peak = subprocess.check_output([sys.executable, "-c", PEAK, *arguments], text=True)
        stages = json.loads((out / "results.json").read_text(encoding="utf-8"))["seconds"]
        shown = ", ".join(f"{name} {took:.0f} s" for name, took in stages.items() if took >= 1)
        table.add(
            f"{scan.size:,} patients from Parquet, {study}.toml, all files and the report",
            f"{sum(stages.values()):.0f} s",
            "under 2 GB",
            f"{int(peak) / 1024**2:.2f} GiB at most; {shown}",
        )


def draw_growth(
    growth: dict[str, dict[str, dict[int, float]]], path: Path, *, across: str | None = "patients"
) -> None:
    """Draw time against size, a panel for each kind of work; or each against what it is of."""
    with mpl.rc_context({"svg.hashsalt": "bayesblina", "font.size": 8}):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, len(growth)))
        for axes, (title, lines) in zip(panels, growth.items(), strict=True):
            for what, points in lines.items():
                sizes = sorted(points)
                axes.plot(sizes, [points[size] for size in sizes], marker="o", label=what)
            axes.set(
                xscale="log",
                yscale="log",
                xlabel=across or title,
                ylabel="seconds" if across else "",
            )
            axes.set_title(title if across else "")
            sizes = sorted({size for points in lines.values() for size in points})
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=40, ha="right")
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.35), frameon=False)
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")


def after_the_fit(table: Table) -> None:
    """Time what is asked of a fit: 1,000 patients x 4,000 draws x 100 times x 2 regimes."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = replace(QUESTION, endpoints=("os",))
    fit = bb.fit(cohort, question, seed=1, progress=False)
    others, _ = bb.simulate.blinatumomab_cohort(
        seed=2, n_patients=1000, n_consolidation=300, n_maintenance=100
    )
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(10.0)]
    at = np.linspace(10.0, 30.0, 100)
    took = seconds(
        lambda: bb.survival(fit, regimes=regimes, times=at, landmark=10.0, population=others)
    )
    tracemalloc.start()
    bb.survival(fit, regimes=regimes, times=at, landmark=10.0, population=others)
    more = tracemalloc.get_traced_memory()[1] / 1024**2
    tracemalloc.stop()
    table.add(
        "standardised curves of 1,000 patients, 4,000 draws, 100 times, 2 regimes",
        f"{took:.2f} s",
        "5 s, 2 GiB (1 s)",
        f"{more:.0f} MiB at most",
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
    parser.add_argument("--parquet", type=Path, help="A folder that patients.py wrote.")
    parser.add_argument("--dense", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.dense:
        dense_pymc(read(table_of(267), CATEGORICAL))
        return
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes(table, folder)
        small_fits(table, folder)
        grid(table)
        large_fits(table, SIZES)
        after_the_fit(table)
        person_times(table, (100_000, 1_000_000, asked.patients), folder)
        peers(table, folder, SIZES)
        if asked.parquet is not None:
            beyond_memory(table, asked.parquet, folder)
    if asked.out is not None:
        plot = asked.out.with_suffix(".svg")
        draw_growth(table.growth, plot)
        lines = [
            "# Speed, measured",
            "",
            "SYNTHETIC patients throughout. Seconds are those of one machine at one time: the",
            "ratios are what to trust. Targets: to reach (stretch).",
            "",
            f"`uv run python tests/benchmarks/targets.py --out {asked.out}"
            + ("" if asked.parquet is None else " --parquet FOLDER")
            + "`, where `tests/benchmarks/patients.py` wrote FOLDER.",
            "",
            f"{machine()}.",
            "",
            "| what | measured | target | ratio |",
            "|---|---|---|---|",
            *(f"| {' | '.join(row)} |" for row in table.rows),
            "",
            f"![Time against patients]({plot.name})",
            "",
            "| work | | patients | seconds |",
            "|---|---|---|---|",
            *(
                f"| {panel} | {what} | {size:,} | {took:.3g} |"
                for panel, found in table.growth.items()
                for what, points in found.items()
                for size, took in sorted(points.items())
            ),
            "",
        ]
        write_text(asked.out, "\n".join(lines))


if __name__ == "__main__":
    main()
