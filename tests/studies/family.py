"""The model family: do the models sample, do they agree, do they recover a hazard.

uv run python tests/studies/family.py --out docs/validation/family.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import bayesblina as bb
from bayesblina.files import write_text
from bayesblina.fitting import LIBRARIES

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
JOINT = ("correlated", "illness_death")
BASELINES = ("primary", "smooth", "gaussian_process", "weibull")
LANDMARK, HORIZON = 8.0, 24.0
PATIENTS = 1500
END = 36.0


def joint_models(cohorts: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Convergence of the joint models, and their survival beside that of the primary model."""
    rows, curves = [], []
    regimes: list[bb.Never | bb.From] = [bb.Never(), bb.From(LANDMARK)]
    for seed in range(1, cohorts + 2):
        cohort, _ = bb.simulate.blinatumomab_cohort(seed=seed)
        for name in ("primary", *JOINT):
            fit = bb.fit(cohort, QUESTION, model=name, seed=seed, progress=False)
            criteria = fit.convergence.criteria.set_index("criterion")["value"]
            rows.append(
                {
                    "model": name,
                    "cohort": seed,
                    "divergences": int(criteria["divergences"]),
                    "r_hat": criteria["largest R-hat"],
                    "ess": criteria["smallest bulk ESS"],
                    "converged": fit.converged,
                }
            )
            found = bb.survival(fit, regimes=regimes, times=[HORIZON], landmark=LANDMARK)
            mean = found["survival"].mean(("chain", "draw")).isel(time=0)
            curves += [
                {
                    "model": name,
                    "cohort": seed,
                    "endpoint": str(endpoint),
                    "regime": regime.label,
                    "survival": float(mean.sel(endpoint=endpoint, regime=regime.label)),
                }
                for endpoint in ("os", "rfs")
                for regime in regimes
            ]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def smooth_log_hazard(times: np.ndarray) -> np.ndarray:
    """One wave over follow-up."""
    return -3.0 + 0.8 * np.sin(2 * np.pi * times / END)


def kinked_log_hazard(times: np.ndarray) -> np.ndarray:
    """Rises to a kink at month 6, falls, and is level from month 18 on."""
    return np.asarray(np.interp(times, [0.0, 6.0, 18.0, END], [-4.0, -2.2, -3.8, -3.8]))


def simulated(log_hazard: Callable[[np.ndarray], np.ndarray], seed: int) -> bb.Cohort:
    """Patients of a known hazard; a late phase without effect."""
    random = np.random.default_rng(seed)
    grid = np.linspace(0.0, END, 3601)
    middle = (grid[1:] + grid[:-1]) / 2
    passed = np.concatenate([[0.0], np.cumsum(np.exp(log_hazard(middle)) * np.diff(grid))])
    target = random.exponential(size=PATIENTS)
    death = np.interp(target, passed, grid, right=np.inf)
    censored = random.uniform(12.0, END, PATIENTS)
    stop = np.minimum(death, censored)
    start = random.uniform(0.0, 24.0, PATIENTS)
    table = pd.DataFrame(
        {
            "id": np.arange(PATIENTS),
            "time": stop,
            "event": (death <= censored).astype(int),
            "start": np.where(start < stop, start, np.nan),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
    )


def recovery(cohorts: int) -> pd.DataFrame:
    """Integrated squared errors of the log hazard, up to month 30."""
    question = bb.Question(exposed="late", eligible_from="entry")
    times = np.linspace(0.5, 30.0, 60)
    rows = []
    for shape, truth in (("smooth", smooth_log_hazard), ("kinked", kinked_log_hazard)):
        spread = float(truth(times).var())
        for seed in range(cohorts):
            cohort = simulated(truth, seed)
            for name in BASELINES:
                fit = bb.fit(cohort, question, model=name, seed=seed, progress=False)
                one = fit.posterior["log_baseline"].sel(endpoint="os").mean(("chain", "draw"))
                interval = np.searchsorted(fit.exposure.cuts, times)
                error = one.values[interval] - truth(times)
                rows.append(
                    {
                        "hazard": shape,
                        "model": name,
                        "ise": float((error**2).mean()),
                        "share": float((error**2).mean()) / spread,
                        "converged": fit.converged,
                    }
                )
    return pd.DataFrame(rows)


def page(cohorts: int, *, command: str) -> str:
    """Run all and word it."""
    began = time.perf_counter()
    rows, curves = joint_models(cohorts)
    errors = recovery(cohorts)
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    lines = [
        "# The model family",
        "",
        f"Made by `{command}` in {time.perf_counter() - began:.0f} s with {versions}. All patients "
        "are synthetic.",
        "",
        "## Endpoints together",
        "",
        f"The demo cohort (seed 1) and {cohorts} further synthetic ones, 4 chains x 1000 draws.",
        "",
        "| model | fits | divergences | largest R-hat | smallest bulk ESS | converged |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in rows.groupby("model", sort=False):
        lines.append(
            f"| {name} | {len(one)} | {one['divergences'].sum()} | {one['r_hat'].max():.4f} | "
            f"{one['ess'].min():.0f} | {one['converged'].sum()} of {len(one)} |"
        )
    lines += [
        "",
        f"Survival at month {HORIZON:g} given event-free at month {LANDMARK:g}, averaged over the "
        "cohorts; in brackets the mean difference from the primary model, which fits each endpoint "
        "on its own, and the sd of that difference.",
        "",
        "| endpoint | regime | primary | illness-death | correlated |",
        "|---|---|---|---|---|",
    ]
    wide = curves.pivot_table(
        index=["endpoint", "regime", "cohort"], columns="model", values="survival"
    )
    for (endpoint, regime), one in wide.groupby(level=["endpoint", "regime"]):
        cells = [f"{one['primary'].mean():.3f}"]
        for name in ("illness_death", "correlated"):
            apart = one[name] - one["primary"]
            cells.append(f"{one[name].mean():.3f} ({apart.mean():+.3f}, {apart.std():.3f})")
        lines.append(f"| {endpoint} | {regime} | {' | '.join(cells)} |")
    lines += [
        "",
        "Relapse-free survival is the same event in both. Overall survival of the illness-death "
        "model is given remission at the landmark, and maintenance starts only in remission; the "
        "primary model's is given alive, in remission or not.",
        "",
        "## Recovering a hazard",
        "",
        f"{cohorts} cohorts of {PATIENTS} patients each. Mean squared error of the posterior mean "
        "log hazard over months 0 to 30; in brackets as a share of the true log hazard's variance, "
        "which is what a constant would leave.",
        "",
        "| model | smooth | kinked | converged |",
        "|---|---|---|---|",
    ]
    table = errors.groupby(["model", "hazard"])[["ise", "share"]].mean()
    for name in BASELINES:
        cells = [
            f"{table.loc[(name, shape), 'ise']:.4f} ({table.loc[(name, shape), 'share']:.1%})"
            for shape in ("smooth", "kinked")
        ]
        passed = errors[errors["model"] == name]["converged"]
        lines.append(f"| {name} | {' | '.join(cells)} | {passed.sum()} of {len(passed)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cohorts", type=int, default=20)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    command = f"uv run python tests/studies/family.py --cohorts {given.cohorts}"
    text = page(given.cohorts, command=command)
    if given.out is None:
        sys.stdout.write(text)
    else:
        write_text(given.out, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
