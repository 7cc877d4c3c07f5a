"""Bias of the hazard ratio by the number of intervals, in posterior standard deviations.

uv run python tests/studies/number_of_intervals.py

Large simulated cohorts with hazards that fall or rise, entered early or late, fitted by maximum
likelihood; the estimate with the most intervals is the reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.cohort import Cohort
from bayesblina.files import write_text
from bayesblina.follow_up import find_episodes

PATIENTS = 200_000
INTERVALS = (5, 10, 15, 20, 30, 40, 60, 110, 440)
SHAPES = (0.4, 0.7, 1.5)
ENTRIES = ((0.0, 3.0), (3.0, 12.0))
LOG_RATIO, SCALE = -0.88, 20.0
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "number_of_intervals.md"
QUESTION = bb.Question(exposed="maintenance", eligible_from="entry")


def cohort_of(patients: int, shape: float, entry: tuple[float, float], *, seed: int = 0) -> Cohort:
    """Weibull times; 60 % enter maintenance at a uniform time, if they live to it."""
    rng = np.random.default_rng(seed)
    begins = rng.uniform(*entry, patients)
    begins[rng.random(patients) < 0.4] = np.inf
    hazard = rng.exponential(size=patients)
    reached = (begins / SCALE) ** shape
    later = reached + (hazard - np.where(np.isfinite(reached), reached, 0.0)) / np.exp(LOG_RATIO)
    died = SCALE * np.where(hazard < reached, hazard, later) ** (1.0 / shape)
    censored = rng.uniform(12.0, 48.0, patients)
    time = np.minimum(died, censored)
    table = pd.DataFrame(
        {
            "id": np.arange(patients),
            "months": time,
            "died": (died <= censored).astype(int),
            "maintenance": np.where(begins < time, begins, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died")},
        phases=bb.Phases(maintenance="maintenance"),
        synthetic=True,
    )


def estimate(cohort: Cohort, cuts: np.ndarray) -> tuple[float, float]:
    """Log hazard ratio and its standard error by maximum likelihood, the baseline profiled out."""
    table = bb.expose(cohort, QUESTION, cuts=cuts).table.isel(endpoint=0, pattern=0)
    events, time = table["events"].values, table["exposure"].values
    exposed = table["role"].values == "exposed"
    total = events.sum(axis=1)
    ratio = information = 0.0
    for _ in range(20):
        weight = time * np.exp(ratio * exposed)
        share = weight[:, exposed].sum(axis=1) / weight.sum(axis=1)
        information = float((total * share * (1 - share)).sum())
        ratio += float(events[:, exposed].sum() - (total * share).sum()) / information
    return ratio, information**-0.5


def run(patients: int = PATIENTS) -> pd.DataFrame:
    """Bias over standard error, one row for each kind of cohort."""
    rows = []
    for shape in SHAPES:
        for entry in ENTRIES:
            cohort = cohort_of(patients, shape, entry)
            found = find_episodes(cohort, QUESTION)["os"]
            times = found.stop[found.event]
            ratios = {}
            for count in INTERVALS:
                cuts = np.unique(np.quantile(times, np.arange(1, count) / count))
                ratios[count], error = estimate(cohort, cuts)
            row: dict[str, object] = {
                "Weibull shape": shape,
                "entered in months": f"{entry[0]:g} to {entry[1]:g}",
                "events": times.size,
            }
            for count in INTERVALS[:-1]:
                row[f"{count}"] = f"{(ratios[count] - ratios[INTERVALS[-1]]) / error:.2f}"
            rows.append(row)
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame, patients: int) -> str:
    """Word the results."""
    cells = [list(rows.columns), ["---"] * rows.shape[1], *rows.astype(str).to_numpy().tolist()]
    return "\n".join(
        [
            "# Bias by the number of intervals",
            "",
            "SIMULATED patients throughout.",
            "",
            f"`uv run python tests/studies/number_of_intervals.py --patients {patients}`",
            "",
            f"{patients} patients, a true log hazard ratio of {LOG_RATIO}, cut points at quantiles",
            "of the event times. Each column is a number of intervals and shows the distance to",
            f"the estimate with {INTERVALS[-1]} intervals, in standard errors.",
            "",
            *(f"| {' | '.join(row)} |" for row in cells),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.patients), given.patients))


if __name__ == "__main__":
    main()
