"""A grid of 100 scenarios against as many separate fits.

uv run python tests/studies/grid.py --out docs/validation/grid.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.inference.fitting import LIBRARIES

AXES: dict[str, list[Any]] = {
    "lag": [0.5, 1.0, 1.5, 2.0],
    "transplant": ["ignore"],
    "prior.phases": [(0.1, 10.0), (0.5, 2.0), (0.25, 4.0), (0.33, 3.0)],
    "covariates": [[]],
}
SEPARATE = """
import bayesblina as bb
cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
question = bb.Question(
    exposed="maintenance", eligible_from="consolidation", transplant="censor", lag={lag}
)
fit = bb.fit(cohort, question, seed=1, progress=False)
bb.summary(bb.hazard_ratio(fit))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both in turn, and write what they took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--separate", type=int, default=8, help="separate fits that are timed")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    what_if = bb.scenarios(cohort, question, AXES, design="full")
    assert len(what_if) == 100
    seconds = []
    for index in range(given.separate):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", SEPARATE.format(lag=index / 10)], check=True)
        seconds.append(time.perf_counter() - began)
    grids = []
    for workers in (2, 1):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            found = bb.sensitivity(cohort, what_if, out=folder, seed=1, workers=workers)
            grids.append(time.perf_counter() - began)
    one = float(np.median(seconds))
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    lines = [
        "# A grid of scenarios",
        "",
        f"Made by `uv run python tests/studies/grid.py --separate {given.separate}` on "
        f"{os.cpu_count()} cores with {versions}; compiled code was in the cache on disk. The demo "
        "cohort, 100 scenarios of 4 chains x 1000 draws (and 1000 to adapt).",
        "",
        "| | seconds |",
        "|---|---|",
        f"| one separate fit, in a process of its own (median of {given.separate}) | {one:.2f} |",
        f"| 100 separate fits (100 times that) | {100 * one:.0f} |",
        f"| the grid, 2 processes | {grids[0]:.1f} |",
        f"| the grid, 1 process | {grids[1]:.1f} |",
        "",
        f"The grid with 2 processes takes 1/{100 * one / grids[0]:.0f} of the separate fits' time. "
        f"{found!r}.",
        "",
    ]
    write_text(given.out, "\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
