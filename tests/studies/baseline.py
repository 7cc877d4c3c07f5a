"""Does the baseline move the hazard ratio? Default, companion, Cox and the old default, simulated.

uv run python tests/studies/baseline.py

Finished cells are kept in a folder (``--keep``), from which a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from bayesblina.core.files import write_text
from tests.studies import baseline_large as large
from tests.studies import baseline_page as page
from tests.studies.baseline_fits import chosen, compare
from tests.studies.baseline_methods import rows_of
from tests.studies.baseline_settings import (
    Setting,
    first_round,
    scenarios,
    second_round,
)

REPLICATIONS, WORST = 400, 8
# Survival is worked out in one data set of so many, the first ones of a cell.
CURVES = 4
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "baseline.md"


def simulate(setting: Setting) -> pd.DataFrame:
    """All data sets of one cell, analysed by all methods."""
    rows = []
    arm = setting.kind
    for replication in range(setting.replications):
        data = arm.simulate(setting.patients, setting.log_ratio, setting.generator(replication))
        curves = replication < max(1, setting.replications // CURVES)
        found = rows_of(data, arm, setting.log_ratio, curves=curves)
        rows += [{"replication": replication, **row} for row in found]
    return pd.DataFrame(rows).assign(
        arm=setting.arm,
        entry=setting.entry,
        baseline=setting.baseline,
        patients=setting.patients,
        ratio=setting.ratio,
    )


def _kept(job: tuple[Setting, Path]) -> pd.DataFrame:
    """Simulate a cell, or take it from the folder."""
    setting, folder = job
    path = folder / f"{setting.name}_{setting.replications}.parquet"
    if path.exists():
        return pd.read_parquet(path)
    found = simulate(setting)
    partial = path.with_suffix(f".{os.getpid()}.part")
    found.to_parquet(partial)
    partial.rename(path)
    return found


def _spend(folder: Path, seconds: float) -> float:
    """Add up the time of all runs that used a folder."""
    path = folder / "seconds"
    total = seconds + (float(path.read_text()) if path.exists() else 0.0)
    write_text(path, str(total))
    return total


def gather(settings: Sequence[Setting], folder: Path, processes: int) -> pd.DataFrame:
    """Simulate cells, several at a time."""
    began = time.perf_counter()
    jobs = [(setting, folder) for setting in settings]
    found = []
    with get_context("fork").Pool(processes) as pool:
        for index, part in enumerate(pool.imap(_kept, jobs), start=1):
            found.append(part)
            sys.stderr.write(f"\r{index} of {len(jobs)} cells ")
    _spend(folder, time.perf_counter() - began)
    return pd.concat(found, ignore_index=True)


def worst_scenarios(rows: pd.DataFrame, count: int = WORST) -> list[tuple[str, str]]:
    """Scenarios in which the default lies furthest from its companion, on average."""
    default = rows[rows["method"] == "default"]
    shift = default.groupby(["entry", "baseline", "ratio"])["shift"].mean().abs()
    by_scenario = shift.groupby(["entry", "baseline"]).max().reindex(scenarios())
    return list(by_scenario.sort_values(ascending=False, kind="stable").index[:count])


def fits(folder: Path) -> pd.DataFrame:
    """The engine against the package's sampler on sixty data sets."""
    began = time.perf_counter()
    path = folder / "fits.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    done = {row["number"] for row in rows}
    for number, setting in enumerate(chosen()):
        if number not in done:
            rows += [{"number": number, **row} for row in compare(setting)]
            write_text(path, json.dumps(rows))
            sys.stderr.write(f"\r{number + 1} fits ")
    _spend(folder, time.perf_counter() - began)
    return pd.DataFrame(rows)


def _large(folder: Path) -> pd.DataFrame:
    """Bias by number of intervals where patients are many."""
    began = time.perf_counter()
    path = folder / "large.parquet"
    if path.exists():
        return pd.read_parquet(path)
    found = large.run()
    found.to_parquet(path)
    _spend(folder, time.perf_counter() - began)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        first = gather(first_round(given.replications), folder, given.processes)
        worst = worst_scenarios(first)
        second = gather(second_round(worst, given.replications), folder, given.processes)
        compared = fits(folder)
        many = _large(folder)
        seconds = _spend(folder, 0.0)
    rows = pd.concat([first, second], ignore_index=True)
    command = "uv run python tests/studies/baseline.py"
    if given.replications != REPLICATIONS:
        command += f" --replications {given.replications}"
    write_text(
        given.out,
        page.text(rows, compared, worst, large.words(many), command=command, seconds=seconds),
    )
    write_text(given.out.with_suffix(".csv"), page.by_cell(rows).to_csv(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
