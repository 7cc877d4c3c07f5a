"""How many intervals a model of events found at visits bears: `docs/decisions/0031`.

`uv run python -m tests.studies.visit_cuts` prints the table; SYNTHETIC patients.
"""

from __future__ import annotations

import sys

import numpy as np

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.intervals import default_cuts
from bayesblina.hazards.definition import load_model
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import Fit, fit_person_time
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.follow_up import entry_times, find_episodes
from tests.visits import at_visits, cohort_of

SIZE, SEED, EVERY = 2000, 1, 12.0
SETTINGS = SamplerSettings(draws=500, tune=500, chains=4)


def fitted(cohort: bb.Cohort, question: bb.Question, cuts: Floats | None) -> Fit:
    """Fit the primary model on some intervals."""
    definition = load_model("primary")
    return fit_person_time(
        definition,
        person_time_for(definition, cohort, question, cuts=cuts),
        question,
        seed=SEED,
        settings=SETTINGS,
        complete=False,
        compared=False,
    )


def main() -> None:
    """Fit events at yearly visits, of patients who do not start after the event; the truth is 0."""
    table = at_visits(seed=SEED, size=SIZE, every=EVERY, mechanism="event", ratio=1.0)
    cohort = cohort_of(table)
    question = bb.Question(exposed="m", eligible_from="c", starts_until="event")
    episodes = find_episodes(cohort, question)
    found = {name: own.as_found() for name, own in episodes.items()}
    usual = default_cuts(
        np.concatenate([own.stop[own.event] for own in found.values()]),
        entry_times=entry_times(found, question),
    )
    exact = table.assign(
        t=np.minimum(table["true"], 36.0),
        e=(table["true"] <= 36.0).astype(int),
        last=np.minimum(table["true"], 36.0),
    )
    rows = {
        "exact times": (cohort_of(exact.assign(m=exact["m"].where(exact["m"] < exact["t"]))), None),
        "cuts at visits (default)": (cohort, None),
        "half-way between visits, too": (cohort, np.array([6.0, 12.0, 18.0, 24.0, 30.0])),
        "where patients enter phases, too": (cohort, usual),
    }
    sys.stdout.write("| cut points | intervals | mean log HR | sd | converged | seconds |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for name, (patients, cuts) in rows.items():
        fit = fitted(patients, question, cuts)
        logs = fit.posterior["log_hazard_ratio"]
        sys.stdout.write(
            f"| {name} | {fit.person_time.cuts.size + 1} | {float(logs.mean()):+.3f} "
            f"| {float(logs.std()):.3f} | {'yes' if fit.converged else 'no'} "
            f"| {fit.provenance.seconds['sample']:.1f} |\n"
        )


if __name__ == "__main__":
    main()
