"""Simulation-based calibration: the posterior that is sampled is that of the model, or not.

Parameters are drawn from the prior, events from the parameters, and the model is fitted to them.
Over many replications the rank of the true value among the posterior draws is uniform, if and only
if the simulation, the density, its sampler and the reading of the draws fit together.

    python -m bayesblina.checks.calibration NAME --out FOLDER
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
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from bayesblina.errors import SpecError
from bayesblina.exposure import Exposure
from bayesblina.fitting import LIBRARIES, expose_for
from bayesblina.hazards.build import BuiltModel, build_model, draw_prior, with_tables
from bayesblina.hazards.definition import ModelDefinition, PatientFrailty, load_model
from bayesblina.hazards.likelihood import log_hazard
from bayesblina.intervals import split
from bayesblina.question import Question
from bayesblina.sampling import SamplerSettings, sample
from bayesblina.simulate import blinatumomab_cohort
from bayesblina.tables import build as tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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
QUESTION = Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Outcome of simulation-based calibration.

    Attributes
    ----------
    ranks : xarray.DataArray
        Over (replication, parameter): how many of the `kept` draws lie below the true value.
    kept
        Number of draws among which it is ranked.
    table : pandas.DataFrame
        One row per parameter: ``parameter``, ``p_value`` of the test that the ranks are uniform
        (simultaneous over the whole distribution function), and ``coverage_50``, ``coverage_80``
        and ``coverage_95``, the share of central intervals that hold the truth.
    divergent
        Replications with divergent transitions.
    """

    ranks: xr.DataArray
    kept: int
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
        state = "passed" if self.passed else "FAILED"
        return (
            f"Calibration({state}; {self.ranks.sizes['replication']} replications of "
            f"{len(self.table)} parameters; {self.divergent} with divergent transitions)"
        )

    def _repr_html_(self) -> str:
        return tables.publish(self.table, title=repr(self)).to_html()


def calibrate(
    definition: ModelDefinition,
    exposure: Exposure,
    *,
    seed: int,
    replications: int = 300,
    settings: SamplerSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Calibrate a model by simulation from its prior.

    The patients' time at risk and their phases are those of `exposure`; an event that is drawn
    earlier ends it. What the prior takes from data (units, cut points, the standardisation) is held
    at `exposure`.

    Parameters
    ----------
    definition
        The model.
    exposure
        Events and person-time, as the model needs them (`bayesblina.fitting.expose_for`).
    seed
        Seed of everything.
    replications
        How many truths are drawn.
    settings
        How long each fit is sampled.
    progress
        Called with the number of replications done.

    Returns
    -------
    Calibration
        Ranks and their tests.

    Raises
    ------
    SpecError
        If there are fewer than 10 replications, too few draws to rank among, or patients have
        weights.

    Notes
    -----
    Talts et al. (2018), arXiv:1804.06788; bands after Säilynoja, Bürkner and Vehtari (2022),
    doi:10.1007/s11222-022-10090-6.
    """
    settings = settings or SamplerSettings(draws=500, tune=700, chains=2)
    total = settings.draws * settings.chains
    if replications < 10 or total < KEPT:
        raise SpecError(f"Calibration needs 10 replications and {KEPT} draws at least.")
    if exposure.weighted:
        raise SpecError("A model whose patients have weights draws no data: it has no calibration.")
    built = build_model(definition, exposure)
    truth = draw_prior(built, seed=seed, draws=replications)
    names = [name for name in map(str, truth.data_vars) if has_meaning(name)]
    flow = _flow(exposure)
    hazards = [log_hazard(truth, built.design, endpoint=name) for name in exposure.endpoints]
    thinned = np.linspace(0, total - 1, KEPT).round().astype(np.int64)
    ranks, divergent = [], 0
    for index in range(replications):
        generator = np.random.default_rng([seed, index])
        _simulate(
            built,
            exposure,
            flow,
            [np.exp(one.shared[index]) for one in hazards],
            [np.exp(one.pattern[index]) for one in hazards],
            [None if one.cured is None else expit(one.cured[index]) for one in hazards],
            generator,
        )
        draws, _ = sample(built, seed=int(generator.integers(2**31)), settings=settings)
        divergent += bool(draws["sample_stats"].to_dataset()["diverging"].any())
        posterior = draws["posterior"].to_dataset()
        below = []
        for name in names:
            one = truth[name].isel(chain=0, draw=index).values
            values = posterior[name].values.reshape(total, -1)[thinned]
            below.append((values < one.ravel()).sum(axis=0))
        ranks.append(np.concatenate(below))
        if progress is not None:
            progress(index + 1)
    labels = [label for name in names for label in labels_of(name, truth[name])]
    matrix = np.array(ranks)
    array = xr.DataArray(
        matrix,
        dims=("replication", "parameter"),
        coords={"parameter": labels},
    )
    return Calibration(
        ranks=array,
        kept=KEPT,
        table=_tests(matrix, labels, seed=seed),
        divergent=divergent,
    )


def has_meaning(name: str) -> bool:
    """Say whether a variable is more than a coordinate of the sampler.

    Parameters
    ----------
    name
        Variable.

    Returns
    -------
    bool
        Whether it has a meaning of its own.
    """
    return not name.endswith(("_innovation", "_standard", "_share"))


def labels_of(name: str, values: xr.DataArray) -> list[str]:
    """Name the entries of a variable.

    Parameters
    ----------
    name
        Variable.
    values : DataArray
        Over (chain, draw, ...).

    Returns
    -------
    list of str
        ``name[label, ...]`` for each entry.
    """
    dims = [dim for dim in values.dims if dim not in ("chain", "draw")]
    parts = [[str(label) for label in values[dim].values] for dim in dims]
    index = pd.MultiIndex.from_product(parts)
    return [f"{name}[{', '.join(labels)}]" for labels in index]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Flow:
    """One endpoint's potential time at risk, in parts within which nothing changes."""

    patient: Ints
    first: NDArray[np.bool_]
    interval: Ints
    state: Ints
    length: Floats


def _flow(exposure: Exposure) -> list[_Flow]:
    flows = []
    spent = exposure.episodes
    for index in range(len(exposure.endpoints)):
        rows = spent["endpoint"].values == index
        patient, state, start, stop = (
            spent[name].values[rows] for name in ("patient", "phase", "start", "stop")
        )
        episode, interval, length = split(start, stop, exposure.cuts)
        who = patient[episode]
        flows.append(
            _Flow(
                patient=who,
                first=np.concatenate([[True], np.diff(who) != 0]),
                interval=interval,
                state=state[episode],
                length=length,
            )
        )
    return flows


def _simulate(
    built: BuiltModel,
    exposure: Exposure,
    flows: list[_Flow],
    shared: list[Floats],
    relative: list[Floats],
    cured: list[Floats | None],
    generator: np.random.Generator,
) -> None:
    """Draw events, and put them and the time at risk before them into the model."""
    design = built.design
    shape = tuple(exposure.table["exposure"].shape)
    events, time = np.zeros(shape), np.zeros(shape)
    of = exposure.people["pattern"].values
    survived = np.isfinite(exposure.people["exit"].values).astype(np.float64)
    for index, flow in enumerate(flows):
        pattern = of[flow.patient]
        rate = shared[index][design.class_of[pattern], flow.interval, flow.state]
        rate = rate * relative[index][np.minimum(pattern, relative[index].size - 1)]
        share = cured[index]
        if share is not None:
            never = generator.random(of.size) < share[of]
            rate = np.where(never[flow.patient], 0.0, rate)
        died, length = _first_event(flow, rate, generator)
        cell = (flow.interval, flow.state, pattern)
        np.add.at(time[index], cell, length)
        np.add.at(events[index], cell, died)
        survived[index, flow.patient[died == 1.0]] = 0.0
    with_tables(built, events, time, survived=survived)


def _first_event(
    flow: _Flow, rate: Floats, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Events and time at risk by part: nothing after a patient's event."""
    hazard = rate * flow.length
    passed = np.cumsum(hazard)
    group = np.cumsum(flow.first) - 1
    before = (passed - hazard)[flow.first][group]
    begun = passed - hazard - before
    target = generator.exponential(size=int(group[-1]) + 1)[group]
    died = (begun < target) & (target <= begun + hazard)
    length = np.divide(target - begun, rate, out=flow.length.copy(), where=died)
    return died.astype(np.float64), np.where(target <= begun, 0.0, np.minimum(length, flow.length))


def _tests(ranks: Ints, labels: Sequence[str], *, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng([seed, 2])
    count = ranks.shape[0]
    # Ranks are spread evenly over their step, so that they are uniform exactly.
    place = (ranks + generator.random(ranks.shape)) / (KEPT + 1)
    reference = np.sort(least_probability(generator.random((count, UNIFORM_DRAWS))))
    observed = least_probability(place)
    below = np.searchsorted(reference, observed, side="right")
    table = pd.DataFrame({"parameter": labels, "p_value": (below + 1) / (UNIFORM_DRAWS + 1)})
    for mass in MASSES:
        tail = (1.0 - mass) / 2.0
        inside = (place >= tail) & (place <= 1.0 - tail)
        table[f"coverage_{mass * 100:g}"] = inside.mean(axis=0)
    return table


def least_probability(uniform: Floats) -> Floats:
    """How far the empirical distribution functions of columns leave that of a uniform variable.

    Parameters
    ----------
    uniform : ndarray, shape (n, column)
        Values between 0 and 1.

    Returns
    -------
    ndarray, shape (column,)
        The smallest two-sided binomial tail probability over n evenly spaced points.
    """
    from scipy.stats import binom

    count = uniform.shape[0]
    points = np.arange(1, count) / count
    below = np.stack([np.searchsorted(np.sort(column), points, "right") for column in uniform.T])
    successes = np.arange(count + 1)
    lower = binom.cdf(successes[:, None], count, points)
    upper = binom.sf(successes[:, None] - 1, count, points)
    both = np.minimum(lower, upper)
    return np.asarray(both[below, np.arange(points.size)].min(axis=1))


def synthetic_setting(name: str, *, seed: int = 1) -> tuple[ModelDefinition, Exposure]:
    """Take a model and the synthetic study as the setting of a calibration.

    Parameters
    ----------
    name
        Model.
    seed
        Seed of the study.

    Returns
    -------
    definition
        The model, with covariates named where it needs them.
    exposure
        Events and person-time of those who reach consolidation.
    """
    definition = load_model(name)
    definition = definition.with_covariates(**{role: ROLES[role] for role in definition.roles})
    cohort, _ = blinatumomab_cohort(seed=seed)
    return definition, expose_for(definition, cohort, question_for(definition))


def question_for(definition: ModelDefinition) -> Question:
    """Ask the synthetic study what a model can answer.

    Parameters
    ----------
    definition
        The model.

    Returns
    -------
    Question
        About overall and relapse-free survival; about the first alone where patients have one
        effect on all endpoints, since relapse-free survival contains its events.
    """
    if isinstance(definition.groups, PatientFrailty):
        return replace(QUESTION, endpoints=("os",))
    return QUESTION


def report(name: str, found: Calibration, *, command: str, seconds: float) -> str:
    """Word a calibration as a page.

    Parameters
    ----------
    name
        Model.
    found
        The calibration.
    command
        What made it.
    seconds
        How long it took.

    Returns
    -------
    str
        Markdown.
    """
    count = found.ranks.sizes["replication"]
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    verdict = "passed" if found.passed else "FAILED"
    lines = [
        f"# Calibration of `{name}`",
        "",
        f"{count} replications with truths from the prior, patients and phases of the synthetic",
        f"study. Made by `{command}` in {seconds:.0f} s with Python {platform.python_version()},",
        f"{versions}.",
        "",
        f"**{verdict}**: smallest p-value times {len(found.table)} parameters {found.p_value:.3f}",
        f"(must be above {1 - LEVEL:.2f}). Replications with divergences: {found.divergent}.",
        "",
        "The test is simultaneous over the ranks' whole distribution function. Coverage is that of",
        "central intervals.",
        "",
        "| parameter | p-value | 50 % | 80 % | 95 % |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['parameter']} | {row['p_value']:.3f} | {row['coverage_50']:.3f} | "
        f"{row['coverage_80']:.3f} | {row['coverage_95']:.3f} |"
        for row in found.table.to_dict("records")
    ]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a calibration from the command line.

    Parameters
    ----------
    arguments
        By default those of the process.

    Returns
    -------
    int
        0 if it passed, else 1.
    """
    from bayesblina.files import write_text

    parser = argparse.ArgumentParser(prog="python -m bayesblina.checks.calibration")
    parser.add_argument("name", help="a shipped model")
    parser.add_argument("--replications", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for NAME.md and NAME.json")
    given = parser.parse_args(arguments)
    definition, exposure = synthetic_setting(given.name)
    began = time.perf_counter()

    def show(done: int) -> None:
        if sys.stderr.isatty() or done % 50 == 0:
            sys.stderr.write(f"\r{given.name}: {done} of {given.replications} replications")

    found = calibrate(
        definition, exposure, seed=given.seed, replications=given.replications, progress=show
    )
    sys.stderr.write("\n")
    command = (
        f"python -m bayesblina.checks.calibration {given.name} "
        f"--replications {given.replications} --seed {given.seed}"
    )
    page = report(given.name, found, command=command, seconds=time.perf_counter() - began)
    if given.out is None:
        sys.stdout.write(page)
    else:
        given.out.mkdir(parents=True, exist_ok=True)
        write_text(given.out / f"{given.name}.md", page)
        counts = {
            str(label): np.bincount(column * 20 // (KEPT + 1), minlength=20).tolist()
            for label, column in zip(
                found.ranks["parameter"].values, found.ranks.values.T, strict=True
            )
        }
        content = {"model": given.name, "command": command, "passed": found.passed}
        write_text(given.out / f"{given.name}.json", json.dumps(content | {"ranks": counts}) + "\n")
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
