"""Time and memory of a long table of stays beside the wide form, on one machine in one run.

uv run python tests/benchmarks/stays.py --patients 1000000

The same SYNTHETIC patients twice: 10 stays each in three phases, and the wide form that knows one
start and one end of each phase. Each way runs in a process of its own: read and check, then events
and person-time with given cuts; second calls are of a process whose compiled code is loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.patients.declarations import Courses

EACH = 10
PHASES = ("first", "second", "third")
WAYS = ("wide, in memory", "stays, in memory", "wide, DuckDB", "stays, DuckDB")
MEASURES: tuple[dict[str, Any], ...] = (
    {"measure": "current"},
    {"measure": "since_end", "steps": (1.0, 3.0)},
    {"measure": "cumulative", "steps": (1.0, 3.0, 6.0)},
)


def write(folder: Path, patients: int, *, seed: int = 1) -> None:
    """Write patients with wide columns, and the table of their stays, shuffled."""
    generator = np.random.default_rng(seed)
    end = generator.uniform(6.0, 60.0, patients)
    marks = np.cumsum(generator.uniform(0.2, 1.0, (patients, 2 * EACH)), axis=1)
    marks *= (0.95 * end / marks[:, -1])[:, None]
    start, stop = marks[:, ::2], marks[:, 1::2]
    wide = {"id": np.arange(patients), "time": end, "died": generator.integers(0, 2, patients)}
    # Phases once each, in order: what the wide form can say of such patients.
    for index, phase in enumerate(PHASES):
        wide |= {f"{phase} from": start[:, 3 * index], f"{phase} to": stop[:, 3 * index + 2]}
    pd.DataFrame(wide).to_parquet(folder / "patients.parquet", index=False)
    stays = pd.DataFrame(
        {
            "id": np.repeat(np.arange(patients), EACH),
            "from": start.ravel(),
            "to": stop.ravel(),
            "drug": np.array(PHASES)[generator.integers(0, 3, patients * EACH)],
        }
    )
    shuffled = stays.take(generator.permutation(len(stays)))
    shuffled.to_parquet(folder / "stays.parquet", index=False)


def most_memory() -> float:
    """Read the most memory that this process had, in MiB, without what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(folder: Path, way: str) -> dict[str, float]:
    """Measure one way, in this process: seconds, CPU seconds, and memory at most."""
    declared: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": {"os": bb.Endpoint(time="time", event="died")},
        "synthetic": True,
    }
    read: Callable[..., Any] = bb.scan_cohort if "DuckDB" in way else bb.read_cohort
    if way.startswith("stays"):
        declared["phases"] = Courses(
            table=str(folder / "stays.parquet"),
            patient="id",
            start="from",
            stop="to",
            phase="drug",
            phases=PHASES,
            order="any",
        )
        asked = MEASURES
    else:
        phases = {name: bb.Phase(start=f"{name} from", end=f"{name} to") for name in PHASES}
        declared["phases"] = bb.Phases.from_dict(phases)
        asked = MEASURES[:1]
    found: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        began, used = time.perf_counter(), time.process_time()
        result = work()
        found[what] = time.perf_counter() - began
        found[f"{what}, CPU"] = time.process_time() - used
        return result

    cohort = timed("read", lambda: read(str(folder / "patients.parquet"), **declared))
    for own in asked:
        question = bb.Question(exposed="second", eligible_from="entry", **own)
        for what in ("first call", own["measure"]):  # compiled code is loaded in the first
            timed(what, partial(bb.person_time, cohort, question, cuts=[6.0, 12.0, 24.0]))
    found["MiB"] = most_memory()
    return found


def table(results: dict[str, dict[str, float]], patients: int) -> str:
    """Write what was measured, and the ratios."""
    rows = [
        "| what | seconds | CPU seconds | ratio to the wide form | MiB at most |",
        "|---|---|---|---|---|",
    ]
    for way, found in results.items():
        wide = results[way.replace("stays", "wide")]
        for what in ("read", *(own["measure"] for own in MEASURES)):
            if what not in found:
                continue
            used = found[f"{what}, CPU"]
            beside = wide["read, CPU" if what == "read" else "current, CPU"]
            ratio = f"{used / beside:.1f}" if way.startswith("stays") else ""
            memory = f"{found['MiB']:.0f}" if what == "read" else ""
            label = "read and check" if what == "read" else f"person-time, {what}"
            rows.append(f"| {way}: {label} | {found[what]:.2f} | {used:.2f} | {ratio} | {memory} |")
    head = f"{patients:,} patients with {EACH} stays each. Ratios are of CPU seconds."
    return "\n".join([head, "", *rows, ""])


def main() -> None:
    """Write the tables, measure each way in a process of its own, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--patients", type=int, default=1_000_000)
    parser.add_argument("--one", choices=WAYS, help="measure one way, of tables in --folder")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(measured(asked.folder, asked.one)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, asked.patients)
        results = {}
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, "--folder", name]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            results[way] = json.loads(output.splitlines()[-1])
            print(way, results[way], flush=True)
    text = table(results, asked.patients)
    print(text)
    if asked.out is not None:
        write_text(asked.out, text)


if __name__ == "__main__":
    main()
