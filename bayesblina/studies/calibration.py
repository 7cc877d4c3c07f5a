"""Simulation-based calibration: the posterior that is sampled is that of the model, or not.

Parameters are drawn from the prior, events from the parameters, and the model is fitted to them.
Over many replications the rank of the true value among the posterior draws is uniform, if and only
if the simulation, the density, its sampler and the reading of the draws fit together.

    python -m bayesblina.studies.calibration NAME --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.checks.replicates import Drawer
from bayesblina.core import tables
from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.core.files import write_text
from bayesblina.core.tables.numbers import probability
from bayesblina.hazards.build import BuiltModel, build_model, draw_prior, with_tables
from bayesblina.hazards.definition import ModelDefinition, change_priors, load_model
from bayesblina.hazards.parts import PatientFrailty
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import LIBRARIES
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.sampling import sample
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.question import Question
from bayesblina.studies.simulate import blinatumomab_cohort

LEVEL = 0.99
MASSES = (0.5, 0.8, 0.95)
# Draws of uniform ranks from which the test's distribution is taken.
UNIFORM_DRAWS = 4000
# Ranks are among this many draws, thinned from all.
KEPT = 199
# Which covariate of the synthetic study plays which part.
ROLES = {
    "stratum": "prior_salvage",
    "subgroup": "age_group",
    "group": "age_group",
    "source": "prior_salvage",
}
# Intervals that hold 95 % of the priors from which truths are drawn, where a model's are wider.
NARROWED = {
    "level": [0.5, 2.0],
    "step": [0.7, 1.0 / 0.7],
    "covariates": [0.4, 2.5],
}
# Draws from which a truth is taken, so that neighbours say next to nothing of each other.
APART = 10
PILOT_CHAINS = 4
QUESTION = Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Outcome of simulation-based calibration.

    `ranks`: over (replication, parameter): how many of `KEPT` draws lie below the true value.
    `table`: one row per parameter: ``parameter``, ``p_value`` of the test that the ranks are
    uniform (simultaneous over the whole distribution function), and ``coverage_50``,
    ``coverage_80`` and ``coverage_95``, the share of central intervals that hold the truth.
    `divergent`: replications with divergent transitions.
    """

    ranks: xr.DataArray
    table: pd.DataFrame
    divergent: int

    @property
    def p_value(self) -> float:
        """Smallest p-value, times the number of parameters."""
        return min(1.0, float(self.table["p_value"].min()) * len(self.table))

    @property
    def passed(self) -> bool:
        """Whether no parameter's ranks leave the 99 % bands, all parameters taken together."""
        return self.p_value > 1.0 - LEVEL

    def __repr__(self) -> str:
        """Show the outcome."""
        return (
            f"Calibration({'passed' if self.passed else 'FAILED'}; "
            f"{self.ranks.sizes['replication']} replications of {len(self.table)} parameters; "
            f"{self.divergent} with divergent transitions)"
        )

    def _repr_html_(self) -> str:
        return tables.publish(self.table, title=repr(self)).to_html()


def calibrate(
    definition: ModelDefinition,
    person_time: PersonTime,
    *,
    seed: int,
    replications: int = 300,
    settings: SamplerSettings | None = None,
    pilot: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Calibrate a model by simulation from its prior, or from its posterior given a pilot study.

    The patients' time at risk and their phases are those of `person_time`; an event that is drawn
    earlier ends it. Illness-death courses are drawn whole: the time at risk after a relapse begins
    at the relapse that was drawn. What the prior takes from data (units, cut points, the
    standardisation) is held at `person_time`.

    `pilot`: whether truths are drawn from the posterior given the events of `person_time` instead
    of the prior, and each fit is given these events beside those drawn.

    Talts et al. (2018), arXiv:1804.06788; bands after Säilynoja, Bürkner and Vehtari (2022),
    doi:10.1007/s11222-022-10090-6; given a pilot, Säilynoja, Schmitt, Bürkner and Vehtari (2025),
    arXiv:2502.03279. Truths from a prior need one under which some live and some die: `narrowed`.
    """
    settings = settings or SamplerSettings(draws=500, tune=700, chains=2)
    total = settings.draws * settings.chains
    if replications < 10 or total < KEPT:
        raise SpecError(f"Calibration needs 10 replications and {KEPT} draws at least.")
    if person_time.weighted:
        raise SpecError("A model whose patients have weights draws no data: it has no calibration.")
    if pilot and definition.cure is not None:
        raise SpecError(
            "A model in which some are cured counts survivors patient by patient, not twice: "
            "calibrate it from its prior."
        )
    built = build_model(definition, person_time)
    truth = (_posterior_truths if pilot else draw_prior)(built, seed=seed, draws=replications)
    known_events, known_time = (
        person_time.table[name].values.astype(np.float64) if pilot else 0.0
        for name in ("events", "person_time")
    )
    names = [name for name in map(str, truth.data_vars) if has_meaning(name)]
    drawer = Drawer.of(definition, person_time, built, truth)
    thinned = np.linspace(0, total - 1, KEPT).round().astype(np.int64)
    ranks, divergent = [], 0
    for index in range(replications):
        generator = np.random.default_rng([seed, index])
        drawn = drawer.draw(index, generator)
        events, time = known_events + drawn.events, known_time + drawn.time
        with_tables(built, events, time, survived=drawn.survived)
        draws, _ = sample(built, seed=int(generator.integers(2**31)), settings=settings)
        divergent += bool(draws["sample_stats"].to_dataset()["diverging"].any())
        posterior = draws["posterior"].to_dataset()
        below = [
            posterior[name].values.reshape(total, -1)[thinned]
            < truth[name].isel(chain=0, draw=index).values.ravel()
            for name in names
        ]
        ranks.append(np.concatenate(below, axis=1).sum(axis=0))
        if progress is not None:
            progress(index + 1)
    labels = [label for name in names for label in labels_of(name, truth[name])]
    matrix = np.array(ranks)
    return Calibration(
        ranks=xr.DataArray(matrix, dims=("replication", "parameter"), coords={"parameter": labels}),
        table=_tests(matrix, labels, seed=seed),
        divergent=divergent,
    )


def _posterior_truths(built: BuiltModel, *, seed: int, draws: int) -> xr.Dataset:
    """Draw parameters from the posterior given the data in a model, far apart in its chains."""
    each = -(-draws * APART // PILOT_CHAINS)
    settings = SamplerSettings(draws=each, tune=1000, chains=PILOT_CHAINS)
    tree, _ = sample(built, seed=seed, settings=settings)
    chosen = np.linspace(0, each * PILOT_CHAINS - 1, draws).round().astype(np.int64)
    pooled = tree["posterior"].to_dataset().stack(all=("chain", "draw"))  # noqa: PD013 - of xarray
    apart = pooled.isel(all=chosen).drop_vars(["all", "chain", "draw"])
    return apart.rename(all="draw").expand_dims(chain=1).transpose("chain", "draw", ...)


def narrowed(definition: ModelDefinition) -> ModelDefinition:
    """Narrow the priors under which a model generates nothing like patients.

    A model whose baseline is vague on purpose (so that it does not move the hazard ratio) says
    of data before it has seen any that nobody or everybody lives. Its structure, density and
    sampler are calibrated under narrower priors, from which truths are drawn and under which they
    are fitted alike, so that ranks are uniform.

    >>> narrowed(load_model("primary")).baseline.step.hazard_ratio
    (0.7, 1.42857...)
    """
    has = definition.priors
    return change_priors(definition, {k: v for k, v in NARROWED.items() if k in has})


def has_meaning(name: str) -> bool:
    """Say whether a variable is more than a coordinate of the sampler."""
    return not name.endswith(("_innovation", "_standard", "_share"))


def labels_of(name: str, values: xr.DataArray) -> list[str]:
    """Name the entries of a variable."""
    dims = [dim for dim in values.dims if dim not in ("chain", "draw")]
    labels = product(*(map(str, values[dim].values) for dim in dims))
    return [f"{name}[{', '.join(entry)}]" for entry in labels]


def _tests(ranks: Ints, labels: Sequence[str], *, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng([seed, 2])
    # Ranks are spread evenly over their step, so that they are uniform exactly.
    uniform = (ranks + generator.random(ranks.shape)) / (KEPT + 1)
    reference = np.sort(least_probability(generator.random((len(ranks), UNIFORM_DRAWS))))
    below = np.searchsorted(reference, least_probability(uniform), side="right")
    coverage = {
        f"coverage_{mass * 100:g}": (np.abs(uniform - 0.5) <= mass / 2.0).mean(axis=0)
        for mass in MASSES
    }
    p_value = (below + 1) / (UNIFORM_DRAWS + 1)
    return pd.DataFrame({"parameter": labels, "p_value": p_value, **coverage})


def least_probability(uniform: Floats) -> Floats:
    """How far the empirical distribution functions of columns leave that of a uniform variable.

    `uniform`, shape (n, column): values between 0 and 1.
    Result, shape (column,): the smallest two-sided binomial tail probability over n evenly spaced
    points.
    """
    from scipy.stats import binom

    count = uniform.shape[0]
    points, successes = np.arange(1, count) / count, np.arange(count + 1)[:, None]
    below = np.stack([np.searchsorted(np.sort(column), points, "right") for column in uniform.T])
    tails = np.minimum(binom.cdf(successes, count, points), binom.sf(successes - 1, count, points))
    return np.asarray(tails[below, np.arange(points.size)].min(axis=1))


def synthetic_setting(name: str, *, seed: int = 1) -> tuple[ModelDefinition, PersonTime]:
    """Take a model and the synthetic study as the setting of a calibration.

    The model comes with covariates named where it needs them.
    """
    plain = load_model(name)
    definition = plain.with_covariates(**{role: ROLES[role] for role in plain.roles})
    cohort, _ = blinatumomab_cohort(seed=seed)
    return definition, person_time_for(definition, cohort, question_for(definition))


def question_for(definition: ModelDefinition) -> Question:
    """Ask the synthetic study what a model can answer.

    About overall and relapse-free survival; about the first alone where patients have one effect on
    all endpoints, since relapse-free survival contains its events.
    """
    shared = isinstance(definition.groups, PatientFrailty)
    return replace(QUESTION, endpoints=("os",)) if shared else QUESTION


def report(
    name: str, outcome: Calibration, *, pilot: bool = False, command: str, seconds: float
) -> str:
    """Word a calibration as a page."""
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    lines = [
        f"# Calibration of `{name}`{' given a pilot' if pilot else ''}",
        "",
        f"{outcome.ranks.sizes['replication']} replications, patients and phases of the synthetic "
        "study.",
        _truths(load_model(name), pilot=pilot),
        f"Made by `{command}` in {seconds:.0f} s with Python {platform.python_version()},",
        f"{versions}.",
        "",
        f"**{'passed' if outcome.passed else 'FAILED'}**: smallest p-value times "
        f"{len(outcome.table)} parameters {probability(outcome.p_value)}",
        f"(must be above {1 - LEVEL:.2f}). Replications with divergences: {outcome.divergent}.",
        "",
        "The test is simultaneous over the ranks' whole distribution function. Coverage is that of",
        "central intervals.",
        "",
        "| parameter | p-value | 50 % | 80 % | 95 % |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['parameter']} | {probability(row['p_value'])} | {row['coverage_50']:.3f} | "
        f"{row['coverage_80']:.3f} | {row['coverage_95']:.3f} |"
        for row in outcome.table.to_dict("records")
    ]
    return "\n".join([*lines, ""])


def _truths(definition: ModelDefinition, *, pilot: bool) -> str:
    """Say where the truths of a calibration come from."""
    if pilot:
        return (
            "Truths from the posterior of the model as it ships given the study's own events, each "
            "fit given these beside the events drawn."
        )
    stated = [
        f"{key} {low:.2g} to {high:.2g}"
        for key, (low, high) in NARROWED.items()
        if key in definition.priors
    ]
    return (
        f"Truths from the prior, and fits under it, of the model as it ships but for narrower "
        f"priors ({', '.join(stated)})."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a calibration from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bayesblina.studies.calibration")
    parser.add_argument("name", help="a shipped model")
    parser.add_argument("--replications", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pilot", action="store_true", help="truths given the study's own events")
    parser.add_argument("--out", type=Path, help="folder for NAME.md and NAME.json")
    given = parser.parse_args(arguments)
    definition, person_time = synthetic_setting(given.name)
    began = time.perf_counter()

    def show(done: int) -> None:
        if sys.stderr.isatty() or done % 50 == 0:
            sys.stderr.write(f"\r{given.name}: {done} of {given.replications} replications")

    outcome = calibrate(
        definition if given.pilot else narrowed(definition),
        person_time,
        seed=given.seed,
        replications=given.replications,
        pilot=given.pilot,
        progress=show,
    )
    sys.stderr.write("\n")
    command = (
        f"python -m bayesblina.studies.calibration {given.name} "
        f"--replications {given.replications} --seed {given.seed}"
    ) + (" --pilot" if given.pilot else "")
    page = report(
        given.name,
        outcome,
        pilot=given.pilot,
        command=command,
        seconds=time.perf_counter() - began,
    )
    if given.out is None:
        sys.stdout.write(page)
    else:
        stem = page_name(given.name, given.pilot)
        given.out.mkdir(parents=True, exist_ok=True)
        write_text(given.out / f"{stem}.md", page)
        content = {
            "model": given.name,
            "command": command,
            "passed": outcome.passed,
            "ranks": {
                str(label): np.bincount(column * 20 // (KEPT + 1), minlength=20).tolist()
                for label, column in zip(
                    outcome.ranks["parameter"].values, outcome.ranks.values.T, strict=True
                )
            },
        }
        write_text(given.out / f"{stem}.json", json.dumps(content) + "\n")
    return 0 if outcome.passed else 1


def page_name(name: str, pilot: bool) -> str:
    """Name the page of a calibration."""
    return f"{name}_given_a_pilot" if pilot else name


if __name__ == "__main__":
    sys.exit(main())
