"""Hazard ratios of events found at visits, beside those of the same patients with exact times.

uv run python tests/studies/visits.py --replications 200

Each replication draws patients once, with exact times; their events are then found at visits, under
either mechanism of starting. The primary model is fitted to both, and to each mechanism's patients
also under the other one's likelihood. Posteriors are smooth functions of few parameters with much
data: they are summed by importance sampling about their modes, which takes a tenth of a second, and
of the first replication also sampled as `bayesblina.fit` samples. Rows are written as they come: a
study that was stopped goes on after them, and `--page` only writes the page again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import ndtri

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.files import write_text
from bayesblina.hazards.build import build_model
from bayesblina.inference.compiling import compiled_of
from bayesblina.inference.convergence import sampler_settings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.monte_carlo import pareto_smoothed, student_proposals
from bayesblina.inference.sampling import bind, evaluate
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.question import StartsUntil
from bayesblina.studies.simulate import VisitSchedule, VisitTruth, visits_cohort

PATIENTS = 2000
REPLICATIONS = 200
EVERY = (3.0, 6.0, 12.0)
RATIOS = (0.5, 1.0)
MECHANISMS: tuple[StartsUntil, ...] = ("found", "event")
REGULAR, IRREGULAR, DEATHS = "regular", "jittered and missed", "40 % exact deaths"
JITTER, MISSED, DEATH_SHARE = 0.75, 0.1, 0.4
PROPOSALS, DEGREES = 256, 8.0
# Of how many replications posteriors under the right likelihood are sampled, too, and the sampler's
# draws; and of how many the wrong likelihood is looked at, which needs few to be seen to fail.
SAMPLED, DRAWS = 1, 250
WRONG = 10
# What must hold: difference of means to the exact-time fit, coverage, and that of the wrong
# likelihood, which must be seen to fail.
CLOSE, COVERAGE = 0.05, (0.92, 0.98)
EXACT = "exact times"
FOLDER = Path(__file__).parents[2] / "docs" / "validation"
KEYS = ["mechanism", "every", "ratio", "visits", "likelihood"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A mechanism, a schedule of visits and a hazard ratio."""

    mechanism: StartsUntil
    every: float
    ratio: float
    visits: str = REGULAR

    @property
    def truth(self) -> VisitTruth:
        """What generates its patients."""
        schedule = VisitSchedule(every=self.every)
        if self.visits == IRREGULAR:
            schedule = replace(schedule, jitter=JITTER, missed=MISSED)
        return VisitTruth(
            starts_until=self.mechanism,
            visits=schedule,
            log_hazard_ratio=float(np.log(self.ratio)),
            death_share=DEATH_SHARE if self.visits == DEATHS else 0.0,
        )

    @property
    def likelihoods(self) -> tuple[StartsUntil, ...]:
        """Under which likelihoods its patients are looked at."""
        if self.visits != REGULAR:
            return (self.mechanism,)
        return (self.mechanism, *(other for other in MECHANISMS if other != self.mechanism))


CELLS = tuple(
    [
        Cell(mechanism=mechanism, every=every, ratio=ratio)
        for mechanism in MECHANISMS
        for every in EVERY
        for ratio in RATIOS
    ]
    + [
        Cell(mechanism=mechanism, every=6.0, ratio=0.5, visits=visits)
        for mechanism in MECHANISMS
        for visits in (IRREGULAR, DEATHS)
    ]
)


def question_for(likelihood: StartsUntil | None) -> bb.Question:
    """Ask under a mechanism, or of exact times."""
    return bb.Question(
        exposed="maintenance",
        eligible_from="consolidation",
        endpoints=("rfs",),
        starts_until=likelihood,
    )


def posterior(person_time: PersonTime, seed: int) -> dict[str, float]:
    """Mean, sd and 95 % interval of the log hazard ratio, by importance sampling about the mode.

    The interval is that of a normal distribution.
    ``pareto_k``: shape of the weights' tail; below 0.5 their means can be relied on.
    """
    built = build_model(bb.load_model("primary"), person_time)
    bound = bind(compiled_of(built), built)
    pointer = bound.compiled_logp_func.ctypes.argtypes[1]

    def falls(point: Floats) -> tuple[float, Floats]:
        """Minus log density, and its gradient."""
        at, gradient, value = np.ascontiguousarray(point), np.empty(point.size), np.empty(1)
        failed = bound.compiled_logp_func.ctypes(
            point.size,
            *(array.ctypes.data_as(pointer) for array in (at, gradient, value)),
            bound.user_data.ctypes.data,
        )
        return (np.inf, gradient) if failed else (-float(value[0]), -gradient)

    begin = bound.initial_point_func(seed)
    mode = minimize(falls, begin, jac=True, method="BFGS", options={"gtol": 1e-4}).x
    steps = 1e-4 * np.eye(mode.size)
    curved = np.array([(falls(mode + step)[1] - falls(mode - step)[1]) / 2e-4 for step in steps])
    root = np.linalg.cholesky(np.linalg.inv((curved + curved.T) / 2.0))
    draws, log_proposal = student_proposals(PROPOSALS, mode.size, degrees=DEGREES, seed=seed)
    log_density, variables = evaluate(built, mode + draws @ root.T)
    weights, pareto_k = pareto_smoothed(log_density - log_proposal)
    values = variables["log_hazard_ratio"].values.ravel()
    mean = float(weights @ values)
    sd = float(np.sqrt(weights @ (values - mean) ** 2))
    return {
        "mean": mean,
        "sd": sd,
        "lower": mean - float(ndtri(0.975)) * sd,
        "upper": mean + float(ndtri(0.975)) * sd,
        "pareto_k": pareto_k,
    }


def look(
    cohort: Cohort, likelihood: StartsUntil | None, seed: int, *, sampled: bool
) -> dict[str, float]:
    """Fit patients under a mechanism's likelihood, or that of exact times."""
    began, question = time.perf_counter(), question_for(likelihood)
    definition = bb.load_model("primary")
    person_time = person_time_for(definition, cohort, question)
    found = posterior(person_time, seed)
    found["seconds"] = time.perf_counter() - began
    if sampled:
        fitted = fit_person_time(
            definition,
            person_time,
            question,
            seed=seed,
            settings=sampler_settings(DRAWS, DRAWS, 4, 1, seed),
            complete=False,
            compared=False,
        )
        drawn = fitted.posterior["log_hazard_ratio"].values
        found |= {"sampled_mean": float(drawn.mean()), "sampled_sd": float(drawn.std(ddof=1))}
    return found


def replication(seed: int, patients: int = PATIENTS) -> Iterator[dict[str, object]]:
    """Fit the patients of a replication in all cells: one row for each likelihood."""
    for ratio in RATIOS:
        cell = next(one for one in CELLS if one.ratio == ratio)
        exact = visits_cohort(seed, patients=patients, truth=cell.truth).exact
        row = {"mechanism": "", "every": np.nan, "ratio": ratio, "visits": ""}
        yield {"seed": seed, **row, "likelihood": EXACT} | look(
            exact, None, seed, sampled=seed < SAMPLED
        )
    for cell in CELLS:
        cohort = visits_cohort(seed, patients=patients, truth=cell.truth).cohort
        row = {"mechanism": cell.mechanism, "every": cell.every, "ratio": cell.ratio}
        for likelihood in cell.likelihoods:
            right = likelihood == cell.mechanism
            if right or seed < WRONG:
                name = {"visits": cell.visits, "likelihood": likelihood}
                yield {"seed": seed, **row, **name} | look(
                    cohort, likelihood, seed, sampled=right and seed < SAMPLED
                )


def by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum rows up by cell and likelihood.

    Columns: ``replications``; ``mean`` of the posterior means; ``difference`` of it to that of the
    exact times of the same patients, with ``difference_mcse``; ``coverage`` of 95 % intervals, with
    ``coverage_mcse``; ``sd``, the mean posterior sd; and the largest ``pareto_k``.
    """
    exact = rows[rows["likelihood"] == EXACT].set_index(["seed", "ratio"])["mean"]
    here = pd.MultiIndex.from_frame(rows[["seed", "ratio"]])
    log_ratio = np.log(rows["ratio"])
    rows = rows.assign(
        difference=rows["mean"] - exact.reindex(here).to_numpy(),
        covered=(rows["lower"] <= log_ratio) & (log_ratio <= rows["upper"]),
    )
    groups = rows.groupby(KEYS, sort=False, dropna=False)
    count, coverage = groups["seed"].nunique(), groups["covered"].mean()
    return pd.DataFrame(
        {
            "replications": count,
            "mean": groups["mean"].mean(),
            "difference": groups["difference"].mean(),
            "difference_mcse": groups["difference"].sem(),
            "coverage": coverage,
            # That of a coverage of 95 %: none may have missed in a few replications.
            "coverage_mcse": np.sqrt(0.95 * 0.05 / count),
            "sd": groups["sd"].mean(),
            "pareto_k": groups["pareto_k"].max(),
        }
    ).reset_index()


def failing(table: pd.DataFrame) -> list[str]:
    """Name cells of `by_cell` that are not as they must be.

    Right likelihoods must be close and cover; wrong ones, at visits every 6 months or more, must
    not be close.
    """
    names = []
    row: Any
    for row in table[table["likelihood"] != EXACT].itertuples():
        name = f"{row.mechanism}, every {row.every:g}, HR {row.ratio:g}, {row.visits}"
        if row.mechanism != row.likelihood:
            if row.every >= 6.0 and abs(row.difference) < CLOSE:
                names.append(f"{name}: the wrong likelihood is close")
        elif abs(row.difference) > CLOSE:
            names.append(f"{name}: {row.difference:+.3f} from exact times")
        elif not COVERAGE[0] <= row.coverage <= COVERAGE[1]:
            names.append(f"{name}: covers {row.coverage:.1%}")
    return names


INTRODUCTION = """\
{count} replications a cell (seeds 0 to {last}), each of {patients} patients who become eligible in
months 0.2 to 3; of 60 % maintenance is due 0.5 to 18 months after that; the hazard is 0.05 a month
before and the hazard ratio 0.5 or 1 in maintenance; follow-up ends at month 36. Visits are at
multiples of 3, 6 or 12 months. Exact times are the same in all cells of a hazard ratio, and so are
their fits: the primary model with its default prior and cut points, as for visits. Jittered visits
are normal about the planned time with a standard deviation of {jitter:g} months, and {missed:.0%}
are missed; with deaths, {deaths:.0%} of the events are known to the day, and survival is declared
to be included. The wrong likelihood is looked at in the first {wrong} replications.

What must hold under the right likelihood: the mean posterior mean lies within {close:g} of that of
the exact times, and 95 % intervals cover the truth in {low:.0%} to {high:.0%} of the replications.
The Monte-Carlo error of a coverage of 95 % is {mcse:.1f} points.

Posteriors are summed by importance sampling about their modes ({proposals} proposals; largest
Pareto k {pareto_k:.2f}), their intervals are normal. Under the right likelihood {sampled} of the
replications was also sampled as `bayesblina.fit` samples, with 4 chains x {draws} draws: means
differ by at most {mean_gap:.3f}, standard deviations by at most {sd_gap:.0%}.
"""
CONCLUSION = """\
Under the other mechanism's likelihood each mechanism's patients give another answer, the further
off the longer the time between visits: which mechanism holds is for the protocol to say, and the
data cannot.
"""


def page(rows: pd.DataFrame) -> str:
    """Word the results."""
    table = by_cell(rows)
    count = int(table["replications"].max())
    sampled = rows.dropna(subset=["sampled_mean"])
    head = ["visits", "HR", "mean log HR", "exact times", "difference", "coverage", "posterior sd"]
    exact = table[table["likelihood"] == EXACT].set_index("ratio")
    parts = [
        "# Events found at visits",
        "",
        "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
        "",
        f"`uv run python tests/studies/visits.py --replications {count}`",
        "",
        INTRODUCTION.format(
            count=count,
            last=count - 1,
            patients=PATIENTS,
            jitter=JITTER,
            missed=MISSED,
            deaths=DEATH_SHARE,
            close=CLOSE,
            low=COVERAGE[0],
            high=COVERAGE[1],
            mcse=100 * np.sqrt(0.95 * 0.05 / count),
            proposals=PROPOSALS,
            pareto_k=table["pareto_k"].max(),
            sampled=sampled["seed"].nunique(),
            wrong=WRONG,
            draws=DRAWS,
            mean_gap=(sampled["mean"] - sampled["sampled_mean"]).abs().max(),
            sd_gap=(sampled["sampled_sd"] / sampled["sd"] - 1.0).abs().max(),
        ),
        "Of exact times, "
        + " and ".join(
            f"{row.coverage:.1%} of the intervals cover a hazard ratio of {ratio:g}"
            for ratio, row in exact.iterrows()
        )
        + ". All cells are in {download}`visits.csv`.",
        "",
    ]
    means = exact["mean"].to_dict()
    for mechanism in MECHANISMS:
        for likelihood in (mechanism, *(other for other in MECHANISMS if other != mechanism)):
            own = table[(table["mechanism"] == mechanism) & (table["likelihood"] == likelihood)]
            right = "the right" if likelihood == mechanism else "the WRONG"
            lines = [
                [
                    f"every {row.every:g} months"
                    + ("" if row.visits == REGULAR else f", {row.visits}"),
                    f"{row.ratio:g}",
                    f"{row.mean:+.3f}",
                    f"{means[row.ratio]:+.3f}",
                    f"{row.difference:+.3f} ± {row.difference_mcse:.3f}",
                    f"{row.coverage:.1%}",
                    f"{row.sd:.3f}",
                ]
                for row in own.itertuples()
            ]
            shown = [head, ["---", *["--:"] * (len(head) - 1)], *lines]
            parts += [
                f'## Patients of `starts_until="{mechanism}"` under {right} likelihood, '
                f'`"{likelihood}"`',
                "",
                *(f"| {' | '.join(line)} |" for line in shown),
                "",
            ]
    return "\n".join([*parts, CONCLUSION])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=REPLICATIONS)
    parser.add_argument("--rows", type=Path, default=Path("visits_rows.csv"))
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    rows = pd.read_csv(given.rows) if given.rows.exists() else pd.DataFrame({"seed": []})
    for seed in range(0 if given.page else given.replications):
        if seed in set(rows["seed"]):
            continue
        rows = pd.concat([rows, pd.DataFrame(replication(seed))], ignore_index=True)
        rows.to_csv(given.rows, index=False)
    rows = pd.read_csv(given.rows, keep_default_na=True).fillna({"mechanism": "", "visits": ""})
    write_text(FOLDER / "visits.md", page(rows))
    write_text(FOLDER / "visits.csv", by_cell(rows).round(6).to_csv(index=False))


if __name__ == "__main__":
    main()
