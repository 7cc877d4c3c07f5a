"""Borrowing from external patients whose hazard ratio, or course of the hazard, is another.

uv run python tests/studies/borrowing.py --cohorts 30

Simulated patients of one endpoint. In the current ones the hazard ratio of the phase is 0.5; both
models with external patients are held against a fit of the current patients alone. Rows are written
as they come: a study that was stopped goes on after them, and `--page` only writes the page again.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.files import write_text
from bayesblina.estimands.sources import differences
from bayesblina.hazards.baseline import profiled
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.parts import Commensurate, Part, RobustMixture
from bayesblina.inference.fitting import Fit

CURRENT, EXTERNAL = 90, 300
LOG_RATIO = float(np.log(0.5))
HAZARD, CHANGES = 0.06, 4.0
ENTERED, CENSORED = 4.0, (12.0, 30.0)
MODELS = ("commensurate", "robust_mixture")
# In which parts external patients may differ: as the models are shipped, and in fewer.
SHIPPED, LEVEL, COURSE = "all", "level", "all but the course over time"
COVERS: dict[str, tuple[Part, ...]] = {
    LEVEL: ("baseline",),
    COURSE: ("baseline", "phases", "covariates"),
}
ALONE = "current patients alone"
QUESTION = bb.Question(exposed="late", eligible_from="entry")
DRAWS, TUNE, CHAINS = 500, 500, 2
# The external hazard before `CHANGES` against that after it, and the cuts at which it may change.
FACTORS = (1.0, 2.0, 4.0, 0.25)
FINE = np.array([0.0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24])
PAGE = Path(__file__).parents[2] / "docs" / "validation" / "borrowing.md"


@dataclass(frozen=True, slots=True)
class External:
    """What external patients are like: hazard ratio, and hazard before and after `CHANGES`."""

    name: str
    ratio: float
    early: float = HAZARD
    late: float = HAZARD
    # What else the first model covers here.
    fewer: tuple[str, ...] = ()


SCENARIOS = (
    External("hazard ratio 0.5", 0.5),
    External("hazard ratio 1", 1.0, fewer=(LEVEL,)),
    External("hazard ratio 2", 2.0, fewer=(LEVEL,)),
    External("hazard three times as high", 0.5, 3.0 * HAZARD, 3.0 * HAZARD),
    External("hazard falls fourfold", 0.5, 2.0 * HAZARD, 0.5 * HAZARD, (COURSE,)),
)


def times_of(
    generator: np.random.Generator, size: int, ratio: float, early: float, late: float
) -> tuple[Floats, Floats]:
    """Times of event and of entry; `ratio` times the hazard after entry."""
    entered = generator.exponential(ENTERED, size)
    target = generator.exponential(1.0, size)
    # Cumulative hazards at the two times at which the hazard changes, in their order.
    edges = np.sort(np.stack([entered, np.full(size, CHANGES)]), axis=0)
    begun, passed = np.zeros(size), np.zeros(size)
    event = np.full(size, np.inf)
    for edge in (*edges, np.full(size, np.inf)):
        rate = np.where(begun < CHANGES, early, late) * np.where(begun < entered, 1.0, ratio)
        here = begun + (target - passed) / rate
        event = np.where((target >= passed) & (here <= edge), here, event)
        passed = passed + rate * (edge - begun)
        begun = edge
    return event, entered


def table_of(seed: int, external: External) -> pd.DataFrame:
    """Current and external patients of one cohort; the current ones do not depend on the others."""
    parts = []
    for place, (size, ratio, early, late) in enumerate(
        (
            (CURRENT, np.exp(LOG_RATIO), HAZARD, HAZARD),
            (EXTERNAL, external.ratio, external.early, external.late),
        )
    ):
        generator = np.random.default_rng([seed, place])
        event, entered = times_of(generator, size, float(ratio), early, late)
        censored = generator.uniform(*CENSORED, size)
        stop = np.minimum(event, censored)
        parts.append(
            pd.DataFrame(
                {
                    "time": stop,
                    "event": (event <= censored).astype(int),
                    "start": np.where(entered < stop, entered, np.nan),
                    "source": ("current", "external")[place],
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    return table.assign(id=np.arange(len(table)))


def read(table: pd.DataFrame, covariates: list[str]) -> bb.Cohort:
    """Read a table."""
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", recorded="exact")},
        phases=bb.Phases(late="start"),
        covariates=covariates,
    )


def fit_of(cohort: bb.Cohort, model: ModelDefinition, seed: int) -> Fit:
    """Fit a model, shortly."""
    return bb.fit(
        cohort,
        QUESTION,
        model=model,
        seed=seed,
        draws=DRAWS,
        tune=TUNE,
        chains=CHAINS,
        cores=1,
        progress=False,
    )


def row_of(fit: Fit, table: pd.DataFrame) -> dict[str, object]:
    """What is kept of a fit."""
    draws = np.log(bb.hazard_ratio(fit)["hazard_ratio"].values.ravel())
    lower, upper = np.quantile(draws, [0.025, 0.975])
    row: dict[str, object] = {
        "mean": draws.mean(),
        "lower": lower,
        "upper": upper,
        "converged": fit.converged,
        "events": int(table.loc[table["source"] == "current", "event"].sum()),
    }
    for one in differences(fit):
        row[f"{one.part} conflict"] = one.conflicts
        if one.apart is not None:
            row[f"{one.part} apart"] = float(one.apart.mean())
    borrowing = fit.definition.borrowing
    if isinstance(borrowing, Commensurate | RobustMixture) and "phases" in borrowing.covers:
        gained = bb.borrowing(fit).set_index("part")["effective_events"]
        row |= {f"{part} events": gained[part] for part in ("baseline", "phases")}
    return row


def rows_of(seed: int) -> Iterator[dict[str, object]]:
    """Fit one cohort in all ways."""
    for place, external in enumerate(SCENARIOS):
        table = table_of(seed, external)
        if place == 0:
            now = table[table["source"] == "current"]
            fit = fit_of(read(now, []), bb.load_model("primary"), seed)
            yield {"external": "", "model": ALONE, "covers": "", **row_of(fit, table)}
        both = read(table, ["source"])
        for name in MODELS:
            for covers in (SHIPPED, *(external.fewer if name == MODELS[0] else ())):
                model = bb.load_model(name).with_covariates(source="source")
                if covers in COVERS:
                    model = model.with_borrowing(covers=COVERS[covers])
                fit = fit_of(both, model, seed)
                row = row_of(fit, table)
                yield {"external": external.name, "model": name, "covers": covers, **row}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias, coverage, width against the current patients alone, and what is told."""
    alone = rows[rows["model"] == ALONE].set_index("seed")
    width = (alone["upper"] - alone["lower"]).reindex(rows["seed"]).to_numpy()
    kept = rows.assign(
        error=rows["mean"] - LOG_RATIO,
        inside=(rows["lower"] < LOG_RATIO) & (rows["upper"] > LOG_RATIO),
        width=(rows["upper"] - rows["lower"]) / width,
    )
    groups = kept.groupby(["external", "model", "covers"], sort=False)
    found = groups.agg(
        cohorts=("seed", "size"),
        bias=("error", "mean"),
        spread=("error", "std"),
        coverage=("inside", "mean"),
        width=("width", "mean"),
        converged=("converged", "mean"),
    )
    for part in ("baseline", "phases"):
        for what in ("conflict", "events", "apart"):
            column = f"{part} {what}"
            found[column] = groups[column].apply(lambda one: one.astype(float).mean())
    return found.reset_index()


def shared_course(factor: float, *, times: int = 500, seed: int = 1) -> tuple[float, float]:
    """Error of the current log hazard ratio where the course is shared, by maximum likelihood.

    External patients' hazard falls by `factor`; they are free in level and hazard ratio. There are
    `times` as many patients as in a cohort: the error is bias, and its standard error is given too.
    """
    edges = np.append(FINE, np.inf)
    events, spent = np.zeros((FINE.size, 4)), np.zeros((FINE.size, 4))
    root = float(np.sqrt(factor))
    for source, (size, early, late) in enumerate(
        ((CURRENT, HAZARD, HAZARD), (EXTERNAL, root * HAZARD, HAZARD / root))
    ):
        generator = np.random.default_rng([seed, source])
        event, entered = times_of(generator, times * size, float(np.exp(LOG_RATIO)), early, late)
        stop = np.minimum(event, generator.uniform(*CENSORED, event.size))
        died = event == stop
        cell = 2 * source + (stop > entered).astype(int)
        np.add.at(events, (np.searchsorted(FINE[1:], stop)[died], cell[died]), 1.0)
        for row, (low, high) in enumerate(pairwise(edges)):
            whole = np.clip(stop, low, high) - low
            before = np.clip(np.minimum(stop, entered), low, high) - low
            spent[row, 2 * source : 2 * source + 2] += before.sum(), (whole - before).sum()
    # Current hazard ratio; level and hazard ratio of external against current patients.
    design = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=np.float64)
    found, curvature = profiled(events, spent, design, np.full(3, 100.0))
    return float(found[0] - LOG_RATIO), float(np.sqrt(np.linalg.inv(curvature)[0, 0]))


def page(rows: pd.DataFrame, text: str) -> str:
    """Write the page."""
    rows = rows.fillna({"external": "", "covers": ""})
    table = summary(rows)
    lines = [
        "| external patients | model | may differ in | cohorts | bias (its s.e.) | coverage | "
        "width / alone | events gained: ratio | level | conflict told: ratio | level |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        error = row["spread"] / np.sqrt(row["cohorts"])
        shares = [
            "" if np.isnan(row[name]) else f"{row[name]:{form}}"
            for name, form in (
                ("phases events", ".1f"),
                ("baseline events", ".1f"),
                ("phases conflict", ".0%"),
                ("baseline conflict", ".0%"),
            )
        ]
        cells = [
            row["external"],
            row["model"] if row["model"] == ALONE else f"`{row['model']}`",
            row["covers"],
            str(row["cohorts"]),
            f"{row['bias']:+.2f} ({error:.2f})",
            f"{row['coverage']:.0%}",
            f"{row['width']:.2f}",
            *shares,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    biases = [shared_course(factor) for factor in FACTORS]
    return text.format(
        table="\n".join(lines),
        course="\n".join(
            f"| {factor:g} | {bias:+.2f} ({error:.2f}) |"
            for factor, (bias, error) in zip(FACTORS, biases, strict=True)
        ),
        cohorts=rows["seed"].nunique(),
        events=rows.loc[rows["model"] == ALONE, "events"].mean(),
        python=platform.python_version(),
        coverage_error=np.sqrt(0.95 * 0.05 / rows["seed"].nunique()),
    )


TEXT = """# Borrowing from external patients

SIMULATED patients throughout; no number here is evidence about a treatment.

Made by `uv run python tests/studies/borrowing.py --cohorts {cohorts}` with Python {python}: 2
chains of 500 draws, which is too short for a fit that is reported (four of 1,000 are the default)
and leaves Monte-Carlo errors of some 0.02 in each mean.

Current patients (90, on average {events:.0f} events): hazard 0.06 a month, hazard ratio 0.5 of a
phase that is entered after 4 months on average. External patients: 300, of the same hazard and
with the hazard ratio that is named, unless said otherwise; "hazard falls fourfold" is from 0.12
to 0.03 at 4 months. Current patients are the same in all rows. Bias and coverage (central 95 %
intervals) are of the current log hazard ratio, whose prior pulls the current patients alone by
what the first row has. *Width* is that of the interval against the one of the current patients
alone, fitted with `primary`. *Events gained* are `effective_events` of `borrowing`. *Conflict
told* is the share of cohorts in which the central 95 % of external against current exclude 1. A
coverage of 95 % over {cohorts} cohorts has a standard error of {coverage_error:.1%}.

{table}

Under `level` external patients differ in the level of the hazard alone, and their phase effects
are shared in full.

## The course of the hazard over time

Under "all but the course over time" both models would take one baseline curve for all sources,
parallel on the log scale. It then need not fit the current patients, and their phase's effect
takes up what is left, as with a baseline that is too smooth. Maximum likelihood on 45,000 current
and 150,000 external patients, levels and hazard ratios free, the same current patients as above:

| external hazard, early against late | error of the current log hazard ratio (its s.e.) |
|---|---|
{course}

So by default each source has a course of its own, of which nothing is borrowed, and levels are
compared as averages over the current patients' events.
"""


def main() -> None:
    """Run the study, or write its page again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=30)
    parser.add_argument("--rows", type=Path, default=Path("borrowing.csv"))
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    rows = pd.read_csv(given.rows) if given.rows.exists() else pd.DataFrame({"seed": []})
    known = set(rows["seed"].astype(int))
    for seed in () if given.page else range(1, given.cohorts + 1):
        if seed in known:
            continue
        began = time.process_time()
        rows = pd.concat([rows, pd.DataFrame([{"seed": seed, **row} for row in rows_of(seed)])])
        rows.to_csv(given.rows, index=False)
        sys.stdout.write(f"{seed}: {time.process_time() - began:.1f} s\n")
        sys.stdout.flush()
    write_text(PAGE, page(pd.read_csv(given.rows), TEXT))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
