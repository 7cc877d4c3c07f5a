"""Carry-over and dose-response of interrupted treatment: are the true ratios by step recovered.

uv run python tests/studies/course_recovery.py --sets 200

Simulated courses with gaps, toxicities and early stops (`bayesblina.simulate.interrupted_cohort`).
In one truth the effect wanes over three months after each stay, in the other it grows with each
cycle up to the fourth. Model `since_entry` smooths over the steps of the question.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import fit_person_time
from bayesblina.inference.model_data import person_time_for

PATIENTS = 400
SETTINGS = SamplerSettings(draws=500, tune=500, chains=4, cores=1)
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "courses.md"
TRUTHS: Mapping[str, bb.simulate.CourseTruth] = {
    "waning over 3 months": bb.simulate.CourseTruth(
        log_hazard_ratio=float(np.log(0.4)), carry_over=3.0, follow_up=(18.0, 36.0)
    ),
    "more with each cycle": bb.simulate.CourseTruth(
        log_hazard_ratio=0.0,
        log_hazard_ratio_per_cycle=float(np.log(0.8)),
        saturates_at=4,
        follow_up=(18.0, 36.0),
    ),
}
QUESTIONS: Mapping[str, bb.Question] = {
    "waning over 3 months": bb.Question(
        exposed="treatment", eligible_from="entry", measure="since_end", steps=(1.0, 2.0, 3.0)
    ),
    "more with each cycle": bb.Question(
        exposed="treatment",
        eligible_from="entry",
        measure="cumulative",
        amount="cycles",
        steps=(1.0, 2.0, 3.0),
    ),
}


def run(sets: int, *, first: int = 0) -> pd.DataFrame:
    """Fit all sets; one row per truth, set and step."""
    model = bb.load_model("since_entry")
    rows = []
    for name, truth in TRUTHS.items():
        question = QUESTIONS[name]
        true = truth.log_hazard_ratio_by_step(question, seed=99).set_index("state")
        for number in range(first, first + sets):
            cohort, _ = bb.simulate.interrupted_cohort(
                1000 + number, patients=PATIENTS, truth=truth
            )
            person_time = person_time_for(model, cohort, question)
            fitted = fit_person_time(
                model, person_time, question, seed=number, settings=SETTINGS, complete=False
            )
            ratios = bb.hazard_ratio(fitted, over="step")["hazard_ratio"]
            for step in ratios["step"].values:
                draws = np.log(ratios.sel(endpoint="os", step=step).values.ravel())
                value = float(np.asarray(true.loc[str(step), "log_hazard_ratio"]))
                lower, upper = np.quantile(draws, [0.025, 0.975])
                rows.append(
                    {
                        "truth": name,
                        "set": number,
                        "step": str(step),
                        "true": value,
                        "error": draws.mean() - value,
                        "sd": draws.std(),
                        "covered": bool(lower <= value <= upper),
                        "converged": fitted.converged,
                    }
                )
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame, sets: int) -> str:
    """Word the results."""
    groups = rows.groupby(["truth", "step"], sort=False)
    table = pd.DataFrame(
        {
            "true log HR": groups["true"].first() + 0.0,
            "bias": groups["error"].mean(),
            "its standard error": groups["error"].sem(),
            "posterior sd": groups["sd"].mean(),
            "sd of errors": groups["error"].std(),
            "coverage of 95 %": groups["covered"].mean(),
        }
    ).reset_index()
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    overall = rows.groupby("truth", sort=False)["covered"].mean()
    fits = rows.drop_duplicates(["truth", "set"])
    lines = [list(table.columns), ["---"] * table.shape[1], *cells]
    return "\n".join(
        [
            "# Carry-over and dose-response",
            "",
            "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
            "",
            f"`uv run python tests/studies/course_recovery.py --sets {sets}`",
            "",
            f"{sets} sets of {PATIENTS} patients for each truth, treated in cycles with gaps at",
            "random, toxicities and early stops (`bayesblina.simulate.interrupted_cohort`). In the",
            "first, treatment has hazard ratio 0.4, and its logarithm wanes to 0 in a straight",
            'line over three months after each stay; it is asked for with `measure="since_end"`.',
            "In the second each cycle multiplies the hazard by 0.8, up to the fourth; it is asked",
            'for with `measure="cumulative", amount="cycles"`. Model `since_entry`, 4 chains of',
            "500 draws.",
            "",
            "Within a step the effect may vary. The true value of a step is what one ratio for all",
            "of it stands for: its events over those that the same time at risk would have had",
            "without treatment (`CourseTruth.log_hazard_ratio_by_step`, of 100,000 patients).",
            "",
            *(f"| {' | '.join(row)} |" for row in lines),
            "",
            "Coverage over all steps: "
            + "; ".join(f"{name} {share:.1%}" for name, share in overall.items())
            + f". {int(fits['converged'].sum())} of {len(fits)} fits pass every criterion of",
            "convergence with these draws, half as many as by default; all are counted.",
            "",
            "The walk over steps pulls neighbours towards each other. In the step before the",
            "effect ends, from two to three months, which has the fewest events, this is a bias",
            "of somewhat less than half a posterior sd; its interval still covers.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.sets), given.sets))


if __name__ == "__main__":
    main()
