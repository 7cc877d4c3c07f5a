"""Whether the synthetic study is like the published one, and whether its truth is true.

uv run python tests/studies/calibrate_simulation.py --seeds 400

Simon-Makuch medians of every synthetic cohort and of all of them pooled, beside the published ones;
and the log hazard ratio of maintenance in the pooled cohorts, estimated by maximum likelihood with
maintenance as a state that changes over time and, wrongly, as a property that patients always had.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import CensoredData, ecdf

import bayesblina as bb
from bayesblina.classical import median_time
from bayesblina.cohort import Cohort
from bayesblina.files import write_text
from bayesblina.simulate import Truth, blinatumomab_cohort, blinatumomab_table

type Key = tuple[str, str]
Floats = NDArray[np.float64]

SEEDS = 400
BATCHES = 10
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "synthetic_study.md"
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
# Blood Advances 2020;4(7):1518, in months; None is "not reached".
PUBLISHED: Mapping[Key, float | None] = {
    ("os", "maintenance"): None,
    ("os", "no maintenance"): 15.5,
    ("rfs", "maintenance"): 14.5,
    ("rfs", "no maintenance"): 9.8,
}
WHOLE_ARM = 7.7
TOLERANCE = 0.03
MAJORITY = 2 / 3


def pooled(tables: Iterable[pd.DataFrame]) -> Cohort:
    """Read the tables of several seeds as one cohort."""
    table = pd.concat(
        [
            one.assign(patient_id=f"{number}-" + one["patient_id"])
            for number, one in enumerate(tables)
        ],
        ignore_index=True,
    )
    return bb.read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={
            "os": bb.Endpoint(time="os_months", event="died"),
            "rfs": bb.Endpoint(
                time="rfs_months", event="relapse_or_death", entry="remission_month"
            ),
        },
        phases=bb.Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        covariates=["age_group", "prior_salvage", "marrow_blasts"],
        transplant="transplant_month",
        synthetic=True,
    )


def medians(cohort: Cohort, question: bb.Question = QUESTION) -> dict[Key, float]:
    """Median by endpoint and group; infinite where it is not reached."""
    curves = bb.simon_makuch(cohort, question).groupby(["endpoint", "group"])
    found = {key: median_time(curves.get_group(key)) for key in PUBLISHED}
    return {key: np.inf if value is None else value for key, value in found.items()}


def from_remission(cohort: Cohort) -> Cohort:
    """Let overall survival, too, be at risk from remission, in responders only."""
    entry = cohort.endpoints["rfs"].entry
    os = cohort.endpoints["os"]
    time = np.where(np.isnan(entry), np.nan, os.time)
    return replace(
        cohort, endpoints={**cohort.endpoints, "os": replace(os, time=time, entry=entry)}
    )


def ever_never(cohort: Cohort, *, since: float | None = None) -> Cohort:
    """Count all time of those who are ever maintained as maintained: the mistake."""
    start = cohort.phase_start.copy()
    ever = np.isfinite(start[:, 1])
    if since is not None:
        start[ever, 0] = since
    start[ever, 1] = start[ever, 0]
    return replace(cohort, phase_start=start)


def log_hazard_ratios(cohort: Cohort, question: bb.Question) -> dict[str, tuple[float, float]]:
    """Estimate and standard error by endpoint: piecewise-exponential maximum likelihood.

    It is cut where the true baselines are, and adjusted for the covariates.
    """
    cuts = sorted({cut for hazard in Truth().baseline.values() for cut in hazard.cuts})
    table = bb.expose(cohort, question, cuts=cuts).table
    design = table["design"].values
    design = (design - design.mean(axis=0)) / design.std(axis=0)
    found = {}
    for name in table["endpoint"].values:
        time = table["exposure"].sel(endpoint=name).values
        counts = table["events"].sel(endpoint=name).values
        # The rate of an interval without events is 0, and the interval says nothing of the ratio.
        busy = counts.sum(axis=(1, 2), keepdims=True) > 0
        interval, phase, pattern = np.nonzero(time * busy)
        events = counts[interval, phase, pattern]
        exposed = (table["role"].values == "exposed")[phase]
        baseline = interval[:, None] == np.unique(interval)
        columns = np.column_stack([exposed, baseline, design[pattern]]).astype(np.float64)
        found[str(name)] = poisson(columns, events, time[interval, phase, pattern])
    return found


def poisson(columns: Floats, events: NDArray[np.int64], time: Floats) -> tuple[float, float]:
    """First coefficient of a log-linear rate and its standard error, by Newton's method."""
    crude = np.full(events.size, np.log(events.sum() / time.sum()))
    coefficients = np.linalg.lstsq(columns, crude)[0]
    for _ in range(50):
        expected = time * np.exp(columns @ coefficients)
        information = columns.T @ (columns * expected[:, None])
        step = np.linalg.solve(information, columns.T @ (events - expected))
        coefficients += step
        if np.abs(step).max() < 1e-9:
            return float(coefficients[0]), float(np.linalg.inv(information)[0, 0] ** 0.5)
    raise RuntimeError("Newton's method did not converge.")


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """What was found in each seed's cohort."""

    medians: Mapping[Key, Floats]
    events: Mapping[Key, Floats]
    shares: Mapping[str, Floats]


def per_seed(seeds: int) -> Seeds:
    """Medians, events and shares of each seed's cohort."""
    found: list[dict[Key, float]] = []
    events: list[dict[Key, float]] = []
    shares: list[dict[str, float]] = []
    for seed in range(seeds):
        cohort, _ = blinatumomab_cohort(seed)
        remission = np.isfinite(cohort.endpoints["rfs"].entry)
        consolidated = np.isfinite(cohort.phase_start[:, 0])
        transplanted = np.isfinite(np.asarray(cohort.transplant))
        counts = bb.simon_makuch(cohort, QUESTION).groupby(["endpoint", "group"])["events"].sum()
        found.append(medians(cohort))
        events.append({key: float(counts[key]) for key in PUBLISHED})
        shares.append(
            {
                "in remission": remission.mean(),
                "transplanted": transplanted.mean(),
                "transplanted, of those in remission": transplanted[remission].mean(),
                "transplanted, of those in consolidation": transplanted[consolidated].mean(),
                "died under observation": cohort.endpoints["os"].event.mean(),
            }
        )
    return Seeds(medians=stack(found), events=stack(events), shares=stack(shares))


def stack[Name](rows: Sequence[Mapping[Name, float]]) -> dict[Name, Floats]:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def months(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "not reached"


def lay_out(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def holds(found: Seeds, together: Mapping[Key, float]) -> bool:
    """Whether the calibration is as close as the report says."""
    for key, published in PUBLISHED.items():
        if published is None:
            share = np.isinf(found.medians[key]).mean()
            if np.isfinite(together[key]) or share < MAJORITY:
                return False
        elif abs(together[key] / published - 1) > TOLERANCE:
            return False
    return True


def median_rows(
    found: Seeds, together: Mapping[Key, float], batches: Mapping[Key, Floats]
) -> Iterable[list[str]]:
    for key, published in PUBLISHED.items():
        values = found.medians[key]
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95], method="inverted_cdf")
        row = [*key, months(np.inf if published is None else published), months(together[key], 2)]
        if published is None or np.isinf(batches[key]).any():
            row += ["", ""]
        else:
            error = batches[key].std(ddof=1) / np.sqrt(BATCHES)
            row += [f"{error:.2f}", f"{100 * (together[key] / published - 1):+.1f} %"]
        yield [
            *row,
            months(middle),
            f"{months(low)} to {months(high)}",
            f"{100 * np.isinf(values).mean():.1f} %",
        ]


def reading_rows(cohort: Cohort) -> Iterable[list[str]]:
    """Medians under other readings of who is at risk, and of transplants."""
    for population, start, patients in (
        ("those who reached consolidation, from its start", "consolidation", cohort),
        ("responders, from remission", "entry", from_remission(cohort)),
    ):
        for words, question in (
            ("censored", replace(QUESTION, eligible_from=start)),
            ("ignored", replace(QUESTION, eligible_from=start, transplant="ignore")),
        ):
            values = medians(patients, question)
            yield [population, words, *(months(values[key]) for key in PUBLISHED)]


def seed_rows(found: Seeds) -> Iterable[list[str]]:
    for key, events in found.events.items():
        values = (events.mean(), events.min(), events.max())
        yield [f"events, {', '.join(key)}", *(f"{value:.1f}" for value in values)]
    for words, share in found.shares.items():
        values = (share.mean(), share.min(), share.max())
        yield [words, *(f"{100 * value:.1f} %" for value in values)]


def ratio_rows(cohort: Cohort) -> Iterable[list[str]]:
    """Estimates of the log hazard ratio beside the truth, right and wrong ones."""
    truth = Truth().log_hazard_ratio
    for words, patients, question in (
        ("a state that changes over time", cohort, QUESTION),
        ("ever against never, from consolidation: wrong", ever_never(cohort), QUESTION),
        (
            "ever against never, everybody from the endpoint's entry: wrong",
            ever_never(cohort, since=0.0),
            replace(QUESTION, eligible_from="entry"),
        ),
    ):
        for name, (estimate, error) in log_hazard_ratios(patients, question).items():
            yield [
                words,
                name,
                f"{truth[name]:.3f}",
                f"{estimate:.3f}",
                f"{error:.3f}",
                f"{(estimate - truth[name]) / error:+.1f}",
                f"{np.exp(truth[name]):.2f}",
                f"{np.exp(estimate):.2f}",
            ]


def wrapped(text: str) -> str:
    """Fill a paragraph."""
    return textwrap.fill(" ".join(text.split()), 100)


def report(seeds: int) -> tuple[str, bool]:
    """Draw, analyse and word the results; tell whether the calibration holds."""
    found = per_seed(seeds)
    tables = [blinatumomab_table(seed) for seed in range(seeds)]
    everybody = pooled(tables)
    together = medians(everybody)
    size = seeds // BATCHES
    batches = stack([medians(pooled(tables[size * b : size * (b + 1)])) for b in range(BATCHES)])
    curves = bb.simon_makuch(everybody, QUESTION)
    end = curves[(curves["endpoint"] == "os") & (curves["group"] == "maintenance")].iloc[-1]
    os = everybody.endpoints["os"]
    arm = ecdf(CensoredData.right_censored(os.time, ~os.event)).sf
    whole = float(arm.quantiles[arm.probabilities <= 0.5][0])
    met = holds(found, together)
    blocks = [
        "# The synthetic study beside the published one",
        wrapped("""SYNTHETIC patients throughout; no number here is, or stems from, patient data,
            and none is evidence about a treatment."""),
        f"`uv run python tests/studies/calibrate_simulation.py --seeds {seeds}`",
        wrapped(f"""{seeds} cohorts of `simulate.blinatumomab_cohort`, seeds 0 to {seeds - 1}, under
            numpy {np.__version__}. Each has 267 patients, of whom 86 enter consolidation and 36
            maintenance, as published for NCT02013167 (Blood Advances 2020;4(7):1518)."""),
        "## Simon-Makuch medians",
        wrapped(f"""Required, and **{"met" if met else "NOT MET"}**: the pooled medians are within
            {100 * TOLERANCE:.0f} % of the published ones; median overall survival with maintenance
            is not reached in the pooled cohorts, nor in at least two thirds of the seeds."""),
        wrapped("""The published comparison is of maintenance with no maintenance. Its abstract does
            not say who is at risk from when; the whole arm lived for a median of 7.7 months, so a
            comparator with 15.5 is a restricted set. The calibration takes it as: patients who
            reached consolidation, at risk from its start; not maintained until maintenance starts,
            maintained from then on; no landmark; time in months from the first dose, for both
            endpoints; transplant censored."""),
        lay_out(
            [
                "endpoint",
                "group",
                "published",
                "pooled",
                "Monte-Carlo error",
                "difference",
                "median of the seeds",
                "5 to 95 % of the seeds",
                "seeds where not reached",
            ],
            median_rows(found, together, batches),
        ),
        wrapped(f"""Months. The Monte-Carlo error is that of {BATCHES} batches of {size} seeds. The
            pooled curve of overall survival with maintenance ends at {end["survival"]:.2f} after
            {end["time"]:.0f} months, the longest follow-up. A single cohort's medians vary widely,
            as the published intervals do (relapse-free survival 7.1 to 21.9 with maintenance, 8.5
            to 11.1 without)."""),
        "Other readings of the same comparison, in the pooled cohorts:",
        lay_out(["at risk", "transplant", *map(", ".join, PUBLISHED)], reading_rows(everybody)),
        wrapped(f"""Hazards in remission are low until month 3, so that it makes little difference
            from when on patients are at risk. The whole arm's median overall survival is
            {whole:.1f} months (published: {WHOLE_ARM}; New England Journal of Medicine
            2017;376:836)."""),
        "## Events and shares by seed",
        lay_out(["", "mean", "smallest", "largest"], seed_rows(found)),
        wrapped("""Transplants are drawn only in remission, before a relapse and without
            maintenance; their number is not calibrated."""),
        "## Is the truth true?",
        wrapped("""Log hazard ratio of maintenance in the pooled cohorts, transplant censored:
            piecewise-exponential maximum likelihood, cut where the true baselines are, adjusted for
            the three covariates."""),
        lay_out(
            [
                "maintenance as",
                "endpoint",
                "truth",
                "estimate",
                "standard error",
                "distance in standard errors",
                "true HR",
                "estimated HR",
            ],
            ratio_rows(everybody),
        ),
        wrapped("""Ever against never credits maintenance with the time that a patient had to live
            through to receive it (immortal time)."""),
    ]
    return "\n\n".join(blocks) + "\n", met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="at least 20")
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    if given.seeds < 2 * BATCHES:
        parser.error(f"--seeds must be at least {2 * BATCHES}, got {given.seeds}.")
    text, met = report(given.seeds)
    write_text(given.out, text)
    if not met:
        raise SystemExit(f"The calibration does not hold: see {given.out.name}.")


if __name__ == "__main__":
    main()
