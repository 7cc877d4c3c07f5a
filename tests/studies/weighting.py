"""Confounding by indication of known strength, a hazard ratio of 1: who finds it.

uv run python tests/studies/weighting.py --out docs/validation/weighting.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.files import write_text
from bayesblina.fitting import LIBRARIES

QUESTION = bb.Question(exposed="maintenance", eligible_from="entry")
# Worsening raises the hazard of death and lowers that of starting; so does a baseline covariate.
DEATH, WORSE_DEATH, COVARIATE_DEATH = 0.03, 1.2, 0.6
START, WORSE_START, COVARIATE_START = 0.12, -1.5, -0.5
WORSENING = 0.08
GRACE = 6.0


def simulated(
    seed: int, *, patients: int = 400, log_hazard_ratio: float = 0.0
) -> tuple[bb.Cohort, pd.DataFrame]:
    """Patients, and the history of what worsens in them."""
    random = np.random.default_rng(seed)
    marker = random.random(patients) < 0.5
    worse_at = random.exponential(1.0 / WORSENING, patients)

    def first(rate: np.ndarray, change: float, jump: np.ndarray) -> np.ndarray:
        """Time at which a hazard that changes at a time has passed an exponential target."""
        target = random.exponential(size=patients)
        before = rate * jump
        later = jump + (target - before) / (rate * np.exp(change))
        return np.asarray(np.where(target < before, target / rate, later))

    start = first(START * np.exp(COVARIATE_START * marker), WORSE_START, worse_at)
    # Death: the hazard changes at worsening and at the start.
    rate = DEATH * np.exp(COVARIATE_DEATH * marker)
    target = random.exponential(size=patients)
    points = np.sort(np.stack([np.zeros(patients), worse_at, start], axis=1), axis=1)
    ends = np.concatenate([points[:, 1:], np.full((patients, 1), np.inf)], axis=1)
    death = np.full(patients, np.inf)
    passed = np.zeros(patients)
    for piece in range(3):
        low, high = points[:, piece], ends[:, piece]
        hazard = rate * np.exp(WORSE_DEATH * (low >= worse_at) + log_hazard_ratio * (low >= start))
        inside = np.isinf(death) & (target <= passed + hazard * (high - low))
        death = np.where(inside, low + (target - passed) / hazard, death)
        passed = passed + np.where(np.isfinite(high), hazard * (high - low), 0.0)
    censored = random.uniform(12.0, 30.0, patients)
    stop = np.minimum(death, censored)
    table = pd.DataFrame(
        {
            "id": np.arange(patients).astype(str),
            "time": stop,
            "event": (death <= censored).astype(int),
            "start": np.where(start < stop, start, np.nan),
            "marker": np.where(marker, "yes", "no"),
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(maintenance="start"),
        covariates=["marker"],
        synthetic=True,
    )
    changed = worse_at < stop
    later = {"patient": table["id"][changed], "time": worse_at[changed], "worse": 1.0}
    history = pd.concat(
        [
            pd.DataFrame({"patient": table["id"], "time": 0.0, "worse": 0.0}),
            pd.DataFrame(later),
        ]
    )
    return cohort, history


def log_ratio(
    cohort: bb.Cohort, question: bb.Question, *, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Posterior mean and sd of the log hazard ratio."""
    fit = bb.fit(
        cohort,
        question,
        seed=1,
        weights=weights,
        cuts=np.arange(1.0, 26.0),
        draws=300,
        tune=400,
        chains=2,
        progress=False,
    )
    found = fit.posterior["log_hazard_ratio"].isel(endpoint=0, effect=0)
    return float(found.mean()), float(found.std())


def replicate(seed: int) -> list[dict[str, object]]:
    """All methods on one cohort."""
    cohort, history = simulated(seed)
    alone = bb.scenarios(cohort, QUESTION, {"covariates": [[]]})[1].cohort(cohort, seed=0)
    weighted = bb.starting_weights(
        cohort, QUESTION, endpoint="os", history=history, truncate=(0.0, 1.0)
    )
    baseline = bb.starting_weights(cohort, QUESTION, endpoint="os", truncate=(0.0, 1.0))
    clones, truncated = (
        bb.clone_censor_weight(
            cohort, QUESTION, endpoint="os", grace=GRACE, history=history, truncate=(0.0, high)
        )
        for high in (1.0, 0.995)
    )
    rows: list[dict[str, object]] = []
    methods: tuple[tuple[str, bb.Cohort, bb.Question, np.ndarray | None], ...] = (
        ("plain", alone, QUESTION, None),
        ("plain, baseline covariate adjusted", cohort, QUESTION, None),
        ("weights, baseline covariate only", baseline.cohort, baseline.question, baseline.weights),
        ("weights, all confounders", weighted.cohort, weighted.question, weighted.weights),
        ("clone, censor, weight", clones.cohort, clones.question, clones.weights),
        (
            "clone, censor, weight, truncated at 99.5 %",
            truncated.cohort,
            truncated.question,
            truncated.weights,
        ),
    )
    for name, patients, question, weights in methods:
        mean, sd = log_ratio(patients, question, weights=weights)
        rows.append({"method": name, "seed": seed, "mean": mean, "sd": sd})
    return rows


def page(replications: int, *, command: str) -> str:
    """Run all and word it."""
    began = time.perf_counter()
    rows = []
    for seed in range(replications):
        rows += replicate(seed)
        sys.stderr.write(f"\r{seed + 1} of {replications}")
    table = pd.DataFrame(rows)
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    lines = [
        "# Confounding by indication",
        "",
        f"Made by `{command}` in {time.perf_counter() - began:.0f} s with {versions}. All patients "
        "are synthetic.",
        "",
        f"{replications} cohorts of 400 patients; maintenance does nothing (hazard ratio 1). "
        f"Patients worsen at a rate of {WORSENING:g} per month; that multiplies the hazard of "
        f"death by {np.exp(WORSE_DEATH):.2f} and that of starting by {np.exp(WORSE_START):.2f}. A "
        f"baseline covariate multiplies them by {np.exp(COVARIATE_DEATH):.2f} and "
        f"{np.exp(COVARIATE_START):.2f}. The grace period is {GRACE:g} months.",
        "",
        "| method | mean log hazard ratio | Monte-Carlo error | sd of estimates | mean posterior "
        "sd | 95 % intervals that hold 0 |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in table.groupby("method", sort=False):
        spread = one["mean"].std()
        holds = ((one["mean"].abs() / one["sd"]) < 1.96).mean()
        lines.append(
            f"| {name} | {one['mean'].mean():+.3f} | {spread / np.sqrt(len(one)):.3f} | "
            f"{spread:.3f} | {one['sd'].mean():.3f} | {holds:.1%} |"
        )
    lines += [
        "",
        "Adjusting for the baseline covariate cannot help against what changes over time. Weights "
        "that leave the time-varying confounder out do not either. The posterior sd of weighted "
        "fits is not that of the estimates: it takes pieces for independent and weights for known.",
    ]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    command = f"uv run python tests/studies/weighting.py --replications {given.replications}"
    write_text(given.out, page(given.replications, command=command))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
