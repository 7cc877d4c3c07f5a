"""A hazard that falls at a date, and a phase that is started mostly after it.

uv run python tests/studies/secular_trend.py --sets 200 --fits 25

Every set is analysed without calendar time and with follow-up cut at the date: by the Cox model,
and the first of them by the model `primary`.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.files import write_text
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort

PATIENTS = 600
RATIO = 0.7
CHANGE = date(2014, 1, 1)
# Events, and starts of the phase, by month before the date and after it.
HAZARD, STARTS = (0.04, 0.02), (0.01, 0.08)
DAYS = 365.25 / 12
QUESTION = bb.Question(exposed="maintenance", eligible_from="entry")
SETTINGS = SamplerSettings(draws=500, tune=500, chains=4, cores=1)
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "secular_trend.md"
WAYS = {"without": None, "with": bb.Calendar(origin="entered", cuts=[CHANGE])}


def first_event(spent: Floats, change: Floats, hazards: tuple[float, float]) -> Floats:
    """Find when a cumulative hazard is spent whose hazard changes at a time; shape (patient,)."""
    before = hazards[0] * change
    late = change + (spent - before) / hazards[1]
    return np.where(spent < before, spent / hazards[0], late)


def patients(seed: int) -> pd.DataFrame:
    """Simulate patients who enter from 2010 to 2017 and are followed up to 2020."""
    random = np.random.default_rng([21, seed])
    since = random.integers(0, 8 * 365, PATIENTS)
    entered = np.datetime64("2010-01-01", "D") + since.astype("timedelta64[D]")
    change, end = (
        np.maximum((np.datetime64(day, "D") - entered).astype(np.float64), 0.0) / DAYS
        for day in (CHANGE, date(2020, 1, 1))
    )
    start = first_event(random.exponential(size=PATIENTS), change, STARTS)
    spent = random.exponential(size=PATIENTS)
    untreated = first_event(spent, change, HAZARD)
    # From the start on the clock of the hazard runs at the ratio.
    passed = np.where(
        start < change, HAZARD[0] * start, HAZARD[0] * change + HAZARD[1] * (start - change)
    )
    treated = first_event(passed + (spent - passed) / RATIO, change, HAZARD)
    event = np.where(untreated <= start, untreated, treated)
    time = np.minimum(event, end)
    return pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(PATIENTS)],
            "entered": entered.astype(str),
            "months": time,
            "died": (event <= end).astype(int),
            "maintenance": np.where(start < time, start, np.nan),
        }
    )


def read(table: pd.DataFrame, calendar: bb.Calendar | None) -> Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died", recorded="exact")},
        phases=bb.Phases(maintenance="maintenance"),
        calendar=calendar,
        synthetic=True,
    )


def run(sets: int, fits: int) -> pd.DataFrame:
    """Analyse all sets; one row per set, method and way."""
    model = bb.load_model("primary")
    rows: list[dict[str, Any]] = []
    for seed in range(sets):
        table = patients(seed)
        for way, calendar in WAYS.items():
            cohort = read(table, calendar)
            cox = bb.cox(cohort, QUESTION, adjusted=calendar is not None).iloc[0]
            middle, lower, upper = np.log([cox["estimate"], cox["lower"], cox["upper"]])
            found = [("Cox", middle, (lower, upper))]
            if seed < fits:
                fitted = fit_person_time(
                    model,
                    person_time_for(model, cohort, QUESTION),
                    QUESTION,
                    seed=seed,
                    settings=SETTINGS,
                    complete=False,
                )
                draws = np.log(bb.hazard_ratio(fitted)["hazard_ratio"].values.ravel())
                found.append(("primary", draws.mean(), tuple(np.quantile(draws, [0.025, 0.975]))))
            rows += [
                {
                    "method": method,
                    "calendar": way,
                    "ratio": np.exp(estimate),
                    "error": estimate - np.log(RATIO),
                    "covered": bool(low <= np.log(RATIO) <= high),
                }
                for method, estimate, (low, high) in found
            ]
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame, sets: int, fits: int) -> str:
    """Word the results."""
    groups = rows.groupby(["method", "calendar"], sort=False)
    table = pd.DataFrame(
        {
            "sets": groups["error"].size(),
            "mean HR": np.exp(groups["error"].mean() + np.log(RATIO)),
            "bias of log HR": groups["error"].mean(),
            "its standard error": groups["error"].sem(),
            "coverage of 95 %": groups["covered"].mean(),
        }
    ).reset_index()
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    lines = [list(table.columns), ["---"] * table.shape[1], *cells]
    return "\n".join(
        [
            "# Secular trends",
            "",
            "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
            "",
            f"`uv run python tests/studies/secular_trend.py --sets {sets} --fits {fits}`",
            "",
            f"Sets of {PATIENTS} patients who enter from 2010 to 2017 and are followed up to 2020.",
            "On 1 January 2014 the hazard of death falls by half for everybody, from 0.04 to 0.02",
            "per month, and maintenance becomes common: it is started at a rate of 0.01 per month",
            f"before, and 0.08 after. Maintenance has hazard ratio {RATIO}. Each set is analysed",
            "without calendar time, and with follow-up cut at that date (`Calendar`), the period",
            "as a covariate.",
            "",
            *(f"| {' | '.join(row)} |" for row in lines),
            "",
            "Without the calendar the fall of the hazard is taken for an effect of maintenance.",
            "Cut at the date, the hazard ratio is that of patients under observation in the same",
            "period. The year of entry as a covariate is not the same: patients who entered before",
            "the date and lived on after it have both hazards.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--fits", type=int, default=25)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.sets, given.fits), given.sets, given.fits))


if __name__ == "__main__":
    main()
