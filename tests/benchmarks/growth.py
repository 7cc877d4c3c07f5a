"""How the cost of a fit grows with intervals, covariate patterns, endpoints and scenarios.

uv run python -m tests.benchmarks.growth --out docs/validation/growth.md

Growth with patients is in the table of targets (`targets.py`). SYNTHETIC patients throughout;
seconds are those of one machine at one time, the ratios are what to trust.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.files import write_text
from tests.benchmarks.targets import QUESTION, columns, draw_growth, machine, table_of

PATIENTS = 20_000
CUTS = list(np.linspace(2.0, 30.0, 19))
Points = dict[int, tuple[float, float]]


def fitted(frame: pd.DataFrame, **declared: object) -> bb.Cohort:
    return bb.read_cohort(frame, **(columns([]) | declared))  # type: ignore[arg-type]


def measured(
    cohort: bb.Cohort, question: bb.Question, cuts: Sequence[float]
) -> tuple[float, float]:
    """Seconds of sampling, and the number of gradients, of the quickest of three fits."""
    found = []
    for seed in (1, 2, 3):
        fit = bb.fit(cohort, question, seed=seed, cuts=cuts, progress=False)
        steps = float(fit.draws["sample_stats"]["n_steps"].sum())
        found.append((fit.provenance.seconds["sample"], steps))
    return min(found)


def by_intervals(frame: pd.DataFrame) -> Points:
    cohort = fitted(frame)
    return {
        count: measured(cohort, QUESTION, list(np.linspace(2.0, 30.0, count - 1)))
        for count in (5, 10, 20, 40, 80)
    }


def by_patterns(frame: pd.DataFrame) -> Points:
    """One covariate after the other, so that patterns double."""
    random = np.random.default_rng(1)
    wide = frame.copy()
    found: Points = {}
    names: list[str] = []
    for number in range(7):
        if number:
            names.append(f"group{number}")
            wide[names[-1]] = random.choice(["a", "b"], len(wide))
        cohort = fitted(wide, covariates=list(names))
        found[2**number] = measured(cohort, QUESTION, CUTS)
    return found


def by_endpoints(frame: pd.DataFrame) -> Points:
    """One endpoint, and the same patients with more of them."""
    found: Points = {}
    for count in (1, 2, 3, 4):
        endpoints = {
            f"os{number}": bb.Endpoint(time="os_months", event="died") for number in range(count)
        }
        cohort = fitted(frame, endpoints=endpoints)
        found[count] = measured(cohort, replace(QUESTION, endpoints=tuple(endpoints)), CUTS)
    return found


def by_scenarios() -> Points:
    """Lags of one cohort, in this process alone."""
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    found: Points = {}
    for count in (1, 10, 30, 100):
        lags = [float(lag) for lag in np.linspace(0.05, 3.0, count)]
        what_if = bb.scenarios(cohort, QUESTION, {"lag": lags})
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            bb.sensitivity(cohort, what_if, out=folder, seed=1, workers=1)
            found[len(what_if)] = (time.perf_counter() - began, np.nan)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    frame = table_of(PATIENTS)
    measured(fitted(frame), QUESTION, CUTS)
    growth = {
        "intervals": by_intervals(frame),
        "patterns": by_patterns(frame),
        "endpoints": by_endpoints(frame),
        "scenarios": by_scenarios(),
    }
    plot = asked.out.with_suffix(".svg")
    panels: dict[str, dict[str, dict[int, float]]] = {}
    for what, points in growth.items():
        lines = {"seconds": {size: took for size, (took, _) in points.items()}}
        if what != "scenarios":
            lines["microseconds a gradient"] = {
                size: 1e6 * took / steps for size, (took, steps) in points.items()
            }
        panels[what] = lines
    draw_growth(panels, plot, across=None)
    rows = [
        f"| {what} | {size} | {took:.3g} | "
        + ("|" if np.isnan(steps) else f"{steps:.0f} | {1e6 * took / steps:.3g} |")
        for what, points in growth.items()
        for size, (took, steps) in points.items()
    ]
    lines_out = [
        "# How cost grows",
        "",
        "SYNTHETIC patients throughout. Seconds are those of one machine at one time: the ratios "
        "are what to trust.",
        "",
        f"`uv run python -m tests.benchmarks.growth --out {asked.out}`",
        "",
        f"{machine()}. {PATIENTS:,} patients, 20 intervals, no covariates and two endpoints, but "
        "for what is varied; 4 chains of 1000 draws after 1000, on two cores. Scenarios are "
        "those of 267 patients, one after the other.",
        "",
        f"![Time against size]({plot.name})",
        "",
        "| what grows | to | seconds | gradients | microseconds a gradient |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    write_text(asked.out, "\n".join(lines_out))
    print("\n".join(lines_out))


if __name__ == "__main__":
    main()
