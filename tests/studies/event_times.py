"""How often the rule on coarse event times tells or fails, by how events are recorded.

uv run python tests/studies/event_times.py

Patients of whom half start a phase in months 0 to 6, with an event in 12 months on average whether
or not they have started (a true log hazard ratio of 0), followed for 36 months. The same patients'
events are recorded by the day, by the week, at three-monthly visits, or as those of relapse-free
survival: relapses at three-monthly visits and 35 % of deaths on their day. Treatment goes on until
the event is found, or nobody starts after it, found or not. Nothing is sampled: the partial
likelihood's standard error, with the default prior, stands for the posterior's.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.inference.partial_likelihood import fit_cox
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.rules import DAYS_PER_UNIT
from bayesblina.person_time.event_times import FAILED, TOLD, UNSEEN, coarse_event_times

SETS = 30
SIZES = (40, 86, 267, 2000)
MONTH = DAYS_PER_UNIT["months"]
# By the default prior, 95 % of hazard ratios lie between 1/5 and 5.
PRIOR_SD = float(np.log(5.0) / 1.96)
QUESTION = bb.Question(exposed="m", eligible_from="entry")
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "event_times.md"

INTRODUCTION = """\
Where events are found at visits and phases start on days, the hazard ratio is that of the visits,
whatever model is fitted, and no comparison of fits can see it: the answer hangs on whether anybody
starts after an event that nobody has seen yet. A rule of its own looks at the times. For each unit
of 2 to 366 days and of 1 to 12 months, the share of events at its multiples beyond chance is
counted if it exceeds chance by five standard errors; times the share of those not yet exposed who
start within one unit before these events, and over the posterior standard deviation of the log
hazard ratio, it is told above {told:g} and fails above {failed:g}; the largest over units counts.
Where at least 95 % of the starts are multiples of the same unit, as in a table of whole months, it
is told and does not fail. The rule is written out in
`bayesblina.person_time.event_times.coarseness`.

{sets} sets a cell (seeds 0 to {last}), the same patients in every row of a size: half start the
phase in months 0 to 6; events come at 1 in 12 months in either phase, so the true log hazard ratio
is 0; follow-up lasts 36 months. Of relapse-free survival 35 % are deaths on their day. Told are
those that did not fail; the unit is the most frequent one among those told or failed. Cox's mean
estimate shows what is at stake.
"""
CONCLUSION = """\
Days are silent at every size, though at 2000 patients most deaths share their day with another one;
weeks come near the limit at 2000, where a week is no longer small beside the posterior. The index
measures how far an answer may be off, and does not bound it: see the last column. With few patients
visits need not fail, since the posterior is wide beside what they do.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """How events, and starts, are recorded; steps are days."""

    name: str
    step: float
    deaths: float = 0.0
    scatter: int = 0
    start_step: float = 1.0


RECORDINGS = (
    Recording(name="by the day", step=1.0),
    Recording(name="by the week", step=7.0),
    Recording(name="at visits every 3 months", step=3 * MONTH),
    Recording(name="relapses at visits every 3 months, deaths by the day", step=3 * MONTH,
              deaths=0.35),
    Recording(name="starts and events by the month", step=MONTH, start_step=MONTH),
    Recording(name="at visits every 3 months, scattered by up to 10 days", step=3 * MONTH,
              scatter=10),
)  # fmt: skip


def patients(size: int, recording: Recording, *, until_found: bool, seed: int) -> Cohort:
    """Draw patients, the same for every recording, and record their events."""
    random = np.random.default_rng([17, seed, size])
    start = np.where(random.random(size) < 0.5, random.uniform(0, 6, size), np.inf)
    time = random.exponential(12.0, size)
    time = np.where(time > start, start + random.exponential(12.0, size), time)
    if not until_found:
        start = np.where(start < time, start, np.inf)
    event = time < 36
    step = np.where(random.random(size) < recording.deaths, 1.0, recording.step)
    days = np.where(event, np.ceil(time * MONTH / step) * step, 36 * MONTH)
    scatter = random.integers(-recording.scatter, recording.scatter + 1, size)
    days = np.where(event, days + scatter, days)
    begun = np.maximum(np.round(start * MONTH / recording.start_step), 1) * recording.start_step
    return Cohort(
        patients=np.array([f"p{index}" for index in range(size)]),
        unit="days",
        endpoints={"y": Outcome(time=days, event=event, entry=np.zeros(size))},
        phases=("m",),
        phase_start=np.where(begun < days, begun, np.nan)[:, None],
        phase_end=np.full((size, 1), np.nan),
        synthetic=True,
    )


def look(cohort: Cohort) -> dict[str, object]:
    """Apply the rule to a cohort, with the partial likelihood's standard deviation."""
    person_time = bb.person_time(cohort, QUESTION, cuts=[365.0])
    rows = person_time.episodes
    exposed = person_time.table["role"].values[rows["phase"].values] == "exposed"
    last = person_time.people["exit"].values[0][rows["patient"].values] == rows["stop"].values
    event = last & person_time.people["event"].values[0][rows["patient"].values]
    fit = fit_cox(
        rows["start"].values,
        rows["stop"].values,
        event,
        exposed.astype(np.float64)[:, None],
        ties="breslow",
    )
    sd = float(1.0 / np.sqrt(1.0 / fit.covariance[0, 0] + 1.0 / PRIOR_SD**2))
    (row,) = coarse_event_times(person_time, {"y": sd}).table.itertuples(index=False)
    return {"index": row.index, "state": row.state, "unit": row.unit, "log_hr": fit.estimate[0]}


def run(sets: int = SETS) -> pd.DataFrame:
    """Look at all sets; one row for each."""
    return pd.DataFrame(
        [
            {"recording": one.name, "until_found": until_found, "size": size, "seed": seed}
            | look(patients(size, one, until_found=until_found, seed=seed))
            for one in RECORDINGS
            for until_found in (True, False)
            for size in SIZES
            for seed in range(sets)
        ]
    )


def cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Index, outcome and Cox's estimate by recording, mechanism and size."""
    groups = rows.groupby(["recording", "until_found", "size"], sort=False)
    return pd.DataFrame(
        {
            "index": groups["index"].mean(),
            "told": groups["state"].agg(lambda state: (state == "told").mean()),
            "failed": groups["state"].agg(lambda state: (state == "failed").mean()),
            "unit": groups[["unit", "state"]].apply(
                lambda one: ", ".join(one["unit"][one["state"] != "passed"].mode()[:1])
            ),
            "log_hr": groups["log_hr"].mean(),
        }
    ).reset_index()


def report(rows: pd.DataFrame) -> str:
    """Word the results."""
    sets = rows["seed"].nunique()
    table = cells(rows)
    head = ["events recorded", "patients", "mean index", "told", "failed", "unit", "Cox, log HR"]
    lines = {}
    for until_found in (True, False):
        found = [
            [
                str(row["recording"]),
                f"{row['size']}",
                f"{row['index']:.2f}",
                f"{100 * row['told']:.0f} %",
                f"{100 * row['failed']:.0f} %",
                str(row["unit"]),
                f"{row['log_hr']:+.2f}",
            ]
            for row in table[table["until_found"] == until_found].to_dict("records")
        ]
        shown = [head, ["---", *["--:"] * 4, "---", "--:"], *found]
        lines[until_found] = [f"| {' | '.join(row)} |" for row in shown]
    return "\n".join(
        [
            "# Coarse event times",
            "",
            "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
            "",
            f"`uv run python tests/studies/event_times.py --sets {sets}`",
            "",
            INTRODUCTION.format(sets=sets, last=sets - 1, told=TOLD, failed=FAILED),
            "## Treatment goes on until the event is found",
            "",
            *lines[True],
            "",
            "## Nobody starts after the event, found or not",
            "",
            *lines[False],
            "",
            CONCLUSION,
            f"{UNSEEN} The last rows of both tables are such visits.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.sets)))


if __name__ == "__main__":
    main()
