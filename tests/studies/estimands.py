"""Bias and coverage of the estimands, and of every rung of the bias ladder, over synthetic cohorts.

uv run python tests/studies/estimands.py

The truth of a survival or restricted-mean difference is that of the very patients whose estimate it
is: the true curves averaged over the covariates of those at risk at the landmark. A relapse changes
nothing for death in these cohorts, so that the truth of overall survival is that of all who are
alive, and its hazards are proportional.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.inference.fitting import Fit
from bayesblina.studies.simulate import Truth

COHORTS = 200
DRAWS = 500
LANDMARK, HORIZON = 8.0, 24.0
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "estimands.md"
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
REGIMES = (bb.From(LANDMARK), bb.Never())
HAZARD_RATIO, SURVIVAL, RMST = "log HR", "S(24) difference", "RMST difference, 8 to 24"


def true_differences(truth: Truth, table: pd.DataFrame, endpoint: str) -> tuple[float, float]:
    """Survival at the horizon, and restricted mean from the landmark: maintained less never."""
    grid = np.linspace(LANDMARK, HORIZON, 321)
    curves = []
    for start in (LANDMARK, np.inf):
        one = truth.survival(endpoint, table, grid, landmark=LANDMARK, maintenance_start=start)
        curves.append(one.mean(axis=0))
    difference = curves[0] - curves[1]
    return float(difference[-1]), float(np.trapezoid(difference, grid))


def read_off(fit: Fit, truth: Truth, table: pd.DataFrame) -> list[dict[str, object]]:
    """One row for each endpoint and estimand of a fit."""
    curves = bb.survival(fit, regimes=list(REGIMES), times=[HORIZON], landmark=LANDMARK)
    means = bb.rmst(fit, horizon=HORIZON, regimes=list(REGIMES), landmark=LANDMARK)
    draws: dict[str, xr.DataArray] = {
        HAZARD_RATIO: xr.ufuncs.log(bb.hazard_ratio(fit)["hazard_ratio"]),
        SURVIVAL: bb.contrast(curves, *REGIMES)["survival_difference"].isel(time=0),
        RMST: bb.contrast(means, *REGIMES)["rmst_difference"],
    }
    people = fit.person_time.people
    rows: list[dict[str, object]] = []
    for name in fit.person_time.endpoints:
        one = people.sel(endpoint=name)
        at_risk = (one["begin"] <= LANDMARK) & (one["exit"] > LANDMARK)
        ids = people["patient"].values[at_risk.values]
        survival, mean = true_differences(truth, table.loc[ids], name)
        known = {HAZARD_RATIO: truth.log_hazard_ratio[name], SURVIVAL: survival, RMST: mean}
        for estimand, values in draws.items():
            flat = values.sel(endpoint=name).values.ravel()
            lower, upper = np.quantile(flat, [0.025, 0.975])
            rows.append(
                {
                    "endpoint": name,
                    "what": estimand,
                    "truth": known[estimand],
                    "estimate": flat.mean(),
                    "sd": flat.std(ddof=1),
                    "covered": lower <= known[estimand] <= upper,
                }
            )
    return rows


def run(cohorts: int = COHORTS) -> pd.DataFrame:
    """Fit all cohorts; one row for each cohort, analysis, endpoint and estimate."""
    rows: list[dict[str, object]] = []
    primary = bb.load_model("primary")
    models = {
        "primary": primary,
        "flat prior": primary.with_priors(phases=bb.HazardRatioPrior.from_sd(10.0)),
    }
    truth = Truth.without_confounding()
    for seed in range(cohorts):
        cohort, _ = bb.simulate.blinatumomab_cohort(seed, truth=truth)
        table = bb.simulate.blinatumomab_table(seed, truth=truth).set_index("patient_id")
        for analysis, model in models.items():
            fit = bb.fit(
                cohort, QUESTION, model=model, seed=seed, draws=DRAWS, tune=DRAWS, progress=False
            )
            found = read_off(fit, truth, table)
            if analysis == "primary":
                ladder = bb.classical.bias_ladder(cohort, QUESTION, landmarks=[LANDMARK], fit=fit)
                for row in ladder.to_dict("records"):
                    right = truth.log_hazard_ratio[row["endpoint"]]
                    lower, upper = np.log([row["lower"], row["upper"]])
                    found.append(
                        {
                            "endpoint": row["endpoint"],
                            "what": f"ladder: {row['method']}",
                            "truth": right,
                            "estimate": np.log(row["estimate"]),
                            "sd": (upper - lower) / (2 * 1.959964),
                            "covered": lower <= right <= upper,
                        }
                    )
            rows += [{"seed": seed, "analysis": analysis, **row} for row in found]
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Bias, spread and coverage by analysis, estimate and endpoint."""
    groups = rows.assign(error=rows["estimate"] - rows["truth"]).groupby(
        ["analysis", "what", "endpoint"], sort=False
    )
    return pd.DataFrame(
        {
            "truth": groups["truth"].mean(),
            "mean estimate": groups["estimate"].mean(),
            "bias": groups["error"].mean(),
            "its standard error": groups["error"].sem(),
            "sd of the errors": groups["error"].std(),
            "mean sd": groups["sd"].mean(),
            "coverage": groups["covered"].mean(),
        }
    ).reset_index()


def lines_of(table: pd.DataFrame) -> list[str]:
    """Word a table."""
    cells = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    head = [list(table.columns), ["---"] * table.shape[1]]
    return [f"| {' | '.join(row)} |" for row in [*head, *cells]]


def parts_of(table: pd.DataFrame) -> list[str]:
    """Word how much of each bias is the prior's of the hazard ratio, how much the baseline's."""
    bias = table.set_index(["analysis", "what", "endpoint"])["bias"]
    lines = [
        "| what | endpoint | bias | prior of the hazard ratio | baseline |",
        "|---|---|---|---|---|",
    ]
    for what in (HAZARD_RATIO, SURVIVAL, RMST):
        for endpoint in ("os", "rfs"):
            own, flat = bias["primary", what, endpoint], bias["flat prior", what, endpoint]
            rung = ""
            if what == HAZARD_RATIO:
                rungs = (
                    f"ladder: {name}" for name in ("Bayesian", "Cox, same priors, same covariates")
                )
                fitted, partial = (bias["primary", name, endpoint] for name in rungs)
                rung = f"{fitted - partial:+.2f}"
            lines.append(f"| {what} | {endpoint} | {own:+.2f} | {own - flat:+.2f} | {rung} |")
    return lines


def report(rows: pd.DataFrame) -> str:
    """Word the results."""
    table = summary(rows)
    rung = table["what"].str.startswith("ladder: ")
    estimands, ladder = table[~rung], table[rung].drop(columns="analysis")
    ladder = ladder.assign(what=ladder["what"].str.removeprefix("ladder: "))
    cohorts = rows["seed"].nunique()
    return "\n".join(
        [
            "# Estimands and the bias ladder on synthetic cohorts",
            "",
            "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
            "",
            f"`uv run python tests/studies/estimands.py --cohorts {cohorts}`",
            "",
            f"{cohorts} cohorts (seeds 0 to {cohorts - 1}) of `blinatumomab_cohort` with "
            "`Truth.without_confounding`, in which",
            "a relapse changes nothing for death and the hazards of both endpoints are "
            f"proportional; 4 chains of {DRAWS} draws",
            f"after {DRAWS}. Differences are maintenance from month 8 less never,",
            "given event-free at month 8, averaged over the covariates of those at risk then;",
            "their truth is that of the same patients. Months; estimates are posterior means,",
            "intervals",
            "95 %. The standard error of a coverage of 95 % is "
            f"{100 * np.sqrt(0.05 * 0.95 / cohorts):.1f} points.",
            "",
            "## Estimands",
            "",
            *lines_of(estimands),
            "",
            "The primary model's prior puts 95 % of its mass on hazard ratios between 0.2 and 5",
            "and pulls a cohort with so few events towards no effect; under the flat prior (sd 10)",
            "that pull is gone, and intervals are wider. In parts: the prior's is the primary",
            "model's bias less that under the flat prior; the baseline's is that of the Bayesian",
            "rung below less that of the rung without a baseline.",
            "",
            *parts_of(table),
            "",
            "## Ladder",
            "",
            "Log hazard ratios (log odds ratio for Mantel-Byar), each against the true conditional",
            "log hazard ratio. Ever against never, Mantel-Byar, Cox and landmark analyses are not",
            "adjusted for covariates; the Bayesian rung is the posterior median, adjusted.",
            "",
            *lines_of(ladder),
            "",
            "Ever against never is far off and rarely covers the truth: patients must live to be",
            "maintained. A landmark analysis is free of that, but those who start later count as",
            "not maintained, and all events before the landmark are lost.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohorts", type=int, default=COHORTS)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.cohorts)))


if __name__ == "__main__":
    main()
