"""The convergence gate and the default cut points, from 36 exposed patients to 200,000 patients.

uv run python tests/studies/scale.py

The large cohort has 200,000 eligible patients. Its one continuous covariate is left out, so that
patients share covariate patterns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.cohort import Cohort
from bayesblina.files import write_text
from bayesblina.fitting import Fit
from bayesblina.follow_up import find_episodes

ELIGIBLE = 200_000
SIMULATED = (267, 86, 36)
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "scale.md"
QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


def cohort_of(eligible: int, *, seed: int = 1) -> Cohort:
    """Draw the synthetic study in another size, with its two categorical covariates."""
    patients, consolidated, maintained = (
        round(count * eligible / SIMULATED[1]) for count in SIMULATED
    )
    table = bb.simulate.blinatumomab_table(
        seed, n_patients=patients, n_consolidation=consolidated, n_maintenance=maintained
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
        covariates=["age_group", "prior_salvage"],
        transplant="transplant_month",
        synthetic=True,
    )


def quantile_cuts(cohort: Cohort, intervals: int) -> np.ndarray:
    """Cut the events of all endpoints into intervals of equal numbers."""
    found = find_episodes(cohort, QUESTION).values()
    times = np.concatenate([one.stop[one.event] for one in found])
    return np.unique(np.quantile(times, np.arange(1, intervals) / intervals))


def describe(fit: Fit, cuts: str) -> list[dict[str, object]]:
    """One row for each endpoint: the answer, the gate and the time taken."""
    ratio = fit.posterior["log_hazard_ratio"].isel(effect=0)
    criteria = fit.convergence.criteria.set_index("criterion")["value"]
    walk = fit.convergence.table
    walk = walk[walk["parameter"].str.startswith("walk_sd")].reset_index(drop=True)
    return [
        {
            "eligible": fit.exposure.people.sizes["patient"],
            "cuts": cuts,
            "intervals": fit.exposure.table.sizes["interval"],
            "endpoint": name,
            "log HR": f"{float(ratio.sel(endpoint=name).mean()):.4f}",
            "sd": f"{float(ratio.sel(endpoint=name).std()):.4f}",
            "ESS of walk_sd": round(float(walk["ess_bulk"].iloc[index])),
            "divergences": int(criteria["divergences"]),
            "gate": "passed" if fit.converged else "FAILED",
            "sampling, s": f"{fit.provenance.seconds['sample']:.2f}",
        }
        for index, name in enumerate(fit.exposure.endpoints)
    ]


def run(eligible: int = ELIGIBLE) -> pd.DataFrame:
    """Fit both sizes under 20, 40, the default and twice the default number of intervals."""
    rows: list[dict[str, object]] = []
    for size in (SIMULATED[1], eligible):
        cohort = cohort_of(size)
        default = bb.expose(cohort, QUESTION).table.sizes["interval"]
        bb.fit(cohort, QUESTION, seed=1, draws=10, tune=10, progress=False)  # compiled from here on
        for label, cuts in (
            ("20 quantiles", quantile_cuts(cohort, 20)),
            ("40 quantiles", quantile_cuts(cohort, 40)),
            ("default", None),
            ("twice the default", quantile_cuts(cohort, 2 * default)),
        ):
            fit = bb.fit(cohort, QUESTION, seed=1, cuts=cuts, progress=False)
            rows += describe(fit, label)
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame, eligible: int) -> str:
    """Word the results."""
    cells = [list(rows.columns), ["---"] * rows.shape[1], *rows.astype(str).to_numpy().tolist()]
    return "\n".join(
        [
            "# The convergence gate and the default cut points, by size",
            "",
            "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
            "",
            f"`uv run python tests/studies/scale.py --eligible {eligible}`",
            "",
            "The primary model, seed 1, 4 chains of 1000 draws after 1000, two categorical",
            "covariates, both endpoints together; the smaller cohort has 36 exposed patients. The",
            "seconds are those of one shared machine with two cores: only their ratios mean much.",
            "",
            *(f"| {' | '.join(row)} |" for row in cells),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eligible", type=int, default=ELIGIBLE)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.eligible), given.eligible))


if __name__ == "__main__":
    main()
