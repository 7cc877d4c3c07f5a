"""Effects of single patients over a baseline of known steps, and over one that is smoothed.

uv run python tests/studies/patient_frailty.py

Simulated patients of one endpoint whose hazards differ by a log-normal factor of known sd; hazard
ratio 0.5 given the factor. The two models differ in their baselines only.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.core.files import write_text
from bayesblina.hazards.definition import ModelDefinition, parse_model
from bayesblina.patients.cohort import Cohort

PATIENTS, LOG_RATIO = 200, np.log(0.5)
HAZARDS = {"constant": (0.05, 0.05), "falling": (0.1, 0.03)}
CHANGES = 6.0
REPORT = Path(__file__).parents[2] / "docs" / "validation" / "patient_frailty.md"
QUESTION = bb.Question(exposed="maintenance", eligible_from="entry")


def smoothed() -> ModelDefinition:
    """The same model over a walk whose sd is estimated."""
    model = bb.load_model("patient_frailty")
    content = model.model_dump(by_alias=True)
    content["baseline"] = {
        "kind": "smooth_walk",
        "level": content["baseline"]["level"],
        "change": {"hazard_ratio": [0.04, 25.0], "mass": 0.95},
    }
    return parse_model(content, source="a smoothed baseline")


def cohort_of(seed: int, sd: float, hazard: str) -> Cohort:
    """Seven in ten enter maintenance at a uniform time, if they live to it."""
    random = np.random.default_rng([seed, int(10 * sd), list(HAZARDS).index(hazard)])
    early, late = HAZARDS[hazard]
    entered = np.where(random.random(PATIENTS) < 0.7, random.uniform(0.5, 15, PATIENTS), np.inf)
    factor = np.exp(sd * random.normal(size=PATIENTS))
    censored = random.uniform(12, 36, PATIENTS)
    # In small steps of time: a second way to the hazards of the models.
    step = 0.02
    time = np.arange(step / 2, 36, step)[:, None]
    rate = np.where(time < CHANGES, early, late) * factor
    rate = rate * np.where(time > entered, np.exp(LOG_RATIO), 1.0)
    passed = np.cumsum(rate, axis=0) * step
    died = (passed < random.exponential(size=PATIENTS)).sum(axis=0) * step + step / 2
    stop = np.minimum(died, censored)
    table = pd.DataFrame(
        {
            "id": np.arange(PATIENTS),
            "months": stop,
            "died": (died <= censored).astype(int),
            "start": np.where(entered < stop, entered, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="months", event="died", recorded="exact")},
        phases=bb.Phases(maintenance="start"),
        synthetic=True,
    )


def run(sets: int) -> pd.DataFrame:
    """Fit both models to all sets; one row for each."""
    models = {"known steps": bb.load_model("patient_frailty"), "smoothed": smoothed()}
    rows = []
    for sd, hazard, seed in product((0.0, 1.0), HAZARDS, range(sets)):
        cohort = cohort_of(seed, sd, hazard)
        for name, model in models.items():
            fit = bb.fit(cohort, QUESTION, model=model, seed=1, draws=500, tune=500, progress=False)
            ratio = fit.posterior["log_hazard_ratio"].values.ravel()
            lower, upper = np.quantile(ratio, [0.025, 0.975])
            rows.append(
                {
                    "true sd": sd,
                    "hazard": hazard,
                    "baseline": name,
                    "error": ratio.mean() - LOG_RATIO,
                    "posterior sd": ratio.std(),
                    "sd of patients": float(fit.posterior["patient_sd"].mean()),
                    "covered": lower <= LOG_RATIO <= upper,
                }
            )
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame, sets: int) -> str:
    """Word the results."""
    groups = rows.groupby(["true sd", "hazard", "baseline"], sort=False)
    table = pd.DataFrame(
        {
            "bias": groups["error"].mean(),
            "its standard error": groups["error"].sem(),
            "posterior sd": groups["posterior sd"].mean(),
            "estimated sd of patients": groups["sd of patients"].mean(),
            "coverage": groups["covered"].mean(),
        }
    ).reset_index()
    cells = [
        [f"{value:.2f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    lines = [list(table.columns), ["---"] * table.shape[1], *cells]
    return "\n".join(
        [
            "# Effects of single patients and the baseline",
            "",
            "SYNTHETIC patients throughout; no number here is evidence about a treatment.",
            "",
            f"`uv run python tests/studies/patient_frailty.py --sets {sets}`",
            "",
            f"{sets} sets of {PATIENTS} patients a row, one endpoint, log hazard ratio -0.69 given",
            "the patient. `patient_frailty` has the baseline of `primary`; the other baseline is",
            "the walk whose sd is estimated. 4 chains of 500 draws.",
            "",
            *(f"| {' | '.join(row)} |" for row in lines),
            "",
            "With one event a patient the sd of patients stays about where its prior puts it, over",
            "either baseline: whether they differ is not told. Biases of the hazard ratio are",
            "compared with their standard errors; where these do not part the two, the model keeps",
            "the baseline that does not move the hazard ratio when patients do not differ.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=10)
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    write_text(given.out, report(run(given.sets), given.sets))


if __name__ == "__main__":
    main()
