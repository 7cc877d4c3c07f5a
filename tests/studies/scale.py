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
from bayesblina.core.files import write_text
from bayesblina.core.intervals import default_cuts, number_of_intervals
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.follow_up import entry_times, find_episodes

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


def cuts_of(cohort: Cohort, parts: int) -> np.ndarray:
    """Place the default cuts, with the events shared into another number of parts."""
    found = find_episodes(cohort, QUESTION)
    times = np.concatenate([one.stop[one.event] for one in found.values()])
    return default_cuts(times, entry_times=entry_times(found, QUESTION), parts=parts)


def describe(fit: Fit, cuts: str) -> list[dict[str, object]]:
    """One row for each endpoint: the answer, its companion, the gate and the time taken."""
    ratio = fit.posterior["log_hazard_ratio"].isel(effect=0)
    companion = partial_posterior(fit.definition, fit.person_time, seed=1).draws
    assert companion is not None
    without = companion["log_hazard_ratio"].isel(effect=0)
    table = fit.convergence.table.set_index("parameter")["ess_bulk"]
    rows: list[dict[str, object]] = []
    for name in fit.person_time.endpoints:
        mean, sd = float(ratio.sel(endpoint=name).mean()), float(ratio.sel(endpoint=name).std())
        other = float(without.sel(endpoint=name).mean())
        rows.append(
            {
                "eligible": fit.person_time.people.sizes["patient"],
                "cuts": cuts,
                "intervals": fit.person_time.table.sizes["interval"],
                "endpoint": name,
                "log HR": f"{mean:.4f}",
                "sd": f"{sd:.4f}",
                "without baseline": f"{other:.4f}",
                "shift, sd": f"{(mean - other) / float(without.sel(endpoint=name).std()):+.2f}",
                "smallest ESS": round(float(table[table.index.str.contains(name)].min())),
                "divergences": int(fit.draws["sample_stats"]["diverging"].sum()),
                "gate": "passed" if fit.converged else "FAILED",
                "sampling, s": f"{fit.provenance.seconds['sample']:.2f}",
            }
        )
    return rows


def run(eligible: int = ELIGIBLE) -> pd.DataFrame:
    """Fit both sizes with 20, 40, the default and twice the default number of parts."""
    rows: list[dict[str, object]] = []
    for size in (SIMULATED[1], eligible):
        cohort = cohort_of(size)
        episodes = find_episodes(cohort, QUESTION).values()
        events = sum(one.events for one in episodes) / len(episodes)
        bb.fit(cohort, QUESTION, seed=1, draws=10, tune=10, progress=False)  # compiled from here on
        for label, cuts in (
            ("20 parts", cuts_of(cohort, 20)),
            ("40 parts", cuts_of(cohort, 40)),
            ("default", None),
            ("twice the default", cuts_of(cohort, 2 * number_of_intervals(events))),
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
            "Parts are those into which the default cuts share the events, beside the cuts where",
            "patients enter states; *without baseline* is the companion, by partial likelihood",
            "with the same priors, and *shift* the difference in its standard deviations.",
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
