"""How the draws of a fit are made: sampled, or from the partial likelihood.

Without a prior of the baseline it jumps at the event times: given log hazard ratios, a jump is
Gamma(events, rate = sum of the relative hazards of those at risk). A jump is laid out as a hazard
on an interval so short that it holds nothing but its event time; between jumps the hazard is 0 to a
computer. Whatever reads hazards by interval then reads the step function.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.hazards.log_hazards import flat_draws
from bayesblina.inference.companion import Companion, partial_posterior
from bayesblina.inference.convergence import (
    Convergence,
    SamplerSettings,
    assess_convergence,
    assess_weights,
)
from bayesblina.person_time.cells import PersonTime
from bayesblina.person_time.risk_sets import RiskSets, find_risk_sets, same_states

if TYPE_CHECKING:
    from bayesblina.hazards.build import BuiltModel

# Patients x draws above which the patient-level log-likelihood is not kept with the draws.
LARGEST_LOG_LIKELIHOOD = 50_000_000
PRIOR_DRAWS = 4000
# Compressed covariates may change sums of hazards by this factor at most.
LARGEST_COMPRESSION_ERROR = 1e-6
# More event times of an endpoint than this are grouped.
MOST_JUMPS = 500
# More than this are grouped before their jumps are drawn.
MOST_TIMES = 2000
# Length of the interval of a jump, relative to its time; cuts must be further apart than ties are.
WIDTH = 1.25 * TIE_TOLERANCE
# Times closer than this, relative to them, jump together.
APART = 4.0 * WIDTH
# Log hazard where there is none: it adds up to less than rounding over any follow-up.
NOTHING = -80.0
NOT_ASKED = "nobody asked for it"
NO_COMPANION = Companion(draws=None, table=pd.DataFrame(), reason=NOT_ASKED)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnPosterior:
    """Draws, and what is said of them.

    `tree`: groups ``posterior``, ``prior``, ..., as in `bayesblina.Fit`, without the data.
    `companion`: the same hazard ratios without a baseline; `NO_COMPANION` where nobody asked for
    it.
    `engine`: how they were made.
    `notes`, `seconds`: anything that was not done, and why; and the duration of each stage.
    """

    tree: xr.DataTree
    convergence: Convergence
    companion: Companion
    engine: str
    notes: tuple[str, ...]
    seconds: Mapping[str, float]


def sampled(
    definition: ModelDefinition,
    person_time: PersonTime,
    *,
    seed: int,
    settings: SamplerSettings,
    complete: bool,
    compared: bool,
    progress: bool,
) -> DrawnPosterior:
    """Sample a model's posterior."""
    # The libraries that sample are loaded here, after all that could be wrong with the question.
    from bayesblina.hazards.build import build_model

    began = time.perf_counter()
    built = build_model(definition, person_time)
    ready = time.perf_counter()
    tree, timing = _with_bar(built, seed=seed, settings=settings, show=progress)
    drawn = time.perf_counter()
    notes = ["draws from the prior and the patient-level log-likelihood were not kept"]
    if complete:
        notes = _keep_likelihood(tree, person_time, built.design)
        tree["prior"] = xr.DataTree(_prior(built, seed=seed))
    notes += compression_notes(person_time, tree["posterior"].to_dataset(), built.design)
    convergence = assess_convergence(tree)
    finished = time.perf_counter()
    companion = partial_posterior(definition, person_time, seed=seed) if compared else NO_COMPANION
    return DrawnPosterior(
        tree=tree,
        convergence=convergence,
        companion=companion,
        engine=str(timing["engine"]),
        notes=tuple(notes),
        seconds={
            "build": ready - began,
            "compile": float(timing["compile"]),
            "sample": float(timing["sample"]),
            "finish": finished - drawn,
            "companion": time.perf_counter() - finished,
        },
    )


def _keep_likelihood(tree: xr.DataTree, person_time: PersonTime, design: Design) -> list[str]:
    """Keep the patient-level log-likelihood with the draws, or say why not."""
    posterior = tree["posterior"].to_dataset()
    count = posterior.sizes["draw"] * posterior.sizes["chain"]
    if not person_time.complete:
        return [
            "events and person-time were added up in a query engine: of single patients only a "
            f"sample of {person_time.patients().people.sizes['patient']} is known"
        ]
    if person_time.in_pieces:
        return [
            "the patient-level log-likelihood was not kept: the follow-up of patients is in pieces"
        ]
    if person_time.size * count > LARGEST_LOG_LIKELIHOOD:
        return [
            "the patient-level log-likelihood was not kept: "
            f"{person_time.size} patients x {count} draws are too many"
        ]
    tree["log_likelihood"] = xr.DataTree(
        patient_log_likelihood(posterior, person_time, design).to_dataset(name="survival")
    )
    return []


def by_partial_likelihood(
    definition: ModelDefinition,
    person_time: PersonTime,
    *,
    seed: int,
    settings: SamplerSettings,
    complete: bool,
) -> DrawnPosterior:
    """Draw log hazard ratios from the partial likelihood, and the jumps of the baseline."""
    began = time.perf_counter()
    count = settings.draws * settings.chains
    companion = partial_posterior(definition, person_time, seed=seed, draws=count)
    if companion.draws is None:
        raise SpecError(f"Model '{definition.name}' {companion.reason}.")
    design = make_design(person_time, definition)
    # Draws are independent: chains are only a way to lay them out.
    fewer = companion.draws.sizes["draw"] < count
    chains = 1 if fewer else settings.chains
    ratios = xr.Dataset(
        {
            name: (values.dims, values.values.reshape(chains, -1, *values.shape[2:]))
            for name, values in companion.draws.data_vars.items()
        },
        coords={
            **companion.draws.drop_vars(["chain", "draw"]).coords,
            "chain": np.arange(chains),
            "draw": np.arange(companion.draws.sizes["draw"] // chains),
        },
    )
    log_baseline, jump_error = step_baseline(person_time, design, ratios, seed=seed)
    posterior = ratios.assign(log_baseline=log_baseline)
    drawn = time.perf_counter()
    largest = float(companion.table["error"].max())
    cautions = {
        f"only {posterior.sizes['draw']} draws were made: patients are many": fewer,
        f"event times were grouped: log hazard ratios are within {largest:.2g}": largest > 0.0,
        f"jumps of the hazard were grouped: survival is within {jump_error:.2g}": jump_error > 0.0,
    }
    notes = (
        "draws are independent: hazard ratios by partial likelihood, jumps given them",
        *(caution for caution, holds in cautions.items() if holds),
        *compression_notes(person_time, posterior, design),
    )
    tree = xr.DataTree.from_dict({"/posterior": posterior})
    if complete:
        tree["prior"] = xr.DataTree(_prior_ratios(definition, ratios, seed=seed))
    return DrawnPosterior(
        tree=tree,
        convergence=assess_weights(ratios, companion.table),
        companion=companion,
        engine="partial likelihood",
        notes=notes,
        seconds={"sample": drawn - began, "finish": time.perf_counter() - drawn},
    )


def _prior_ratios(definition: ModelDefinition, ratios: xr.Dataset, *, seed: int) -> xr.Dataset:
    """Draw log hazard ratios from the prior; the baseline has none."""
    generator = np.random.default_rng([seed, 1])
    priors = {
        "log_hazard_ratio": definition.phases.prior,
        "coefficient": definition.covariates.prior,
    }
    return xr.Dataset(
        {
            name: (
                values.dims,
                generator.normal(
                    priors[str(name)].mean,
                    priors[str(name)].sd,
                    (1, PRIOR_DRAWS, *values.shape[2:]),
                ),
            )
            for name, values in ratios.data_vars.items()
        },
        coords=ratios.drop_vars(["chain", "draw"]).coords,
    )


def _prior(built: BuiltModel, *, seed: int) -> xr.Dataset:
    """Draw the parameters that have a meaning of their own from the prior."""
    generator = np.random.default_rng([seed, 1])
    labels = built.model.coords
    return xr.Dataset(
        {
            name: (("chain", "draw", *dims), draw(generator, PRIOR_DRAWS)[None])
            for name, (dims, draw) in built.priors.items()
        },
        coords={dim: list(labels[dim]) for dims, _ in built.priors.values() for dim in dims},
    )


def _with_bar(
    built: BuiltModel, *, seed: int, settings: SamplerSettings, show: bool
) -> tuple[xr.DataTree, dict[str, float | str]]:
    from bayesblina.inference.sampling import sample

    if not show:
        return sample(built, seed=seed, settings=settings)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        transient=True,
    ) as bar:
        task = bar.add_task("compiling", total=None)

        def report(chains: Sequence[Any]) -> None:
            divergences = sum(chain.divergences for chain in chains)
            bar.update(
                task,
                description=f"sampling, {divergences} divergences" if divergences else "sampling",
                completed=sum(chain.finished_draws for chain in chains),
                total=sum(chain.total_draws for chain in chains),
            )

        return sample(built, seed=seed, settings=settings, progress=report)


def swings(person_time: PersonTime, posterior: xr.Dataset, design: Design) -> list[float]:
    """Find how far log hazards move over the ranges of compressed covariates.

    Result: for each compressed covariate the largest absolute log hazard ratio between the middle
    and an end of its range, in any draw and endpoint.
    """
    compression = person_time.compression
    assert compression is not None
    names = list(design.term_names)
    largest = abs(posterior["coefficient"]).max(("chain", "draw", "endpoint")).values
    return [
        float(largest[names.index(axis.name)] / design.scale[names.index(axis.name)])
        * (axis.high - axis.low)
        / 2.0
        for axis in compression.axes
    ]


def compression_notes(person_time: PersonTime, posterior: xr.Dataset, design: Design) -> list[str]:
    """Say how continuous covariates were compressed, and bound the error.

    One note, or none where nothing is compressed.
    """
    compression = person_time.compression
    if compression is None:
        return []
    largest = swings(person_time, posterior, design)
    error = compression.hazard_error(largest)
    alive = compression.survival_error(largest, courses=person_time.courses is not None)
    if error > LARGEST_COMPRESSION_ERROR:
        raise SpecError(
            "Log hazard ratios of the continuous covariates are so large that compressing them may "
            f"be off by {error:.1g}: pass compress=False, or transform the covariates."
        )
    nodes = ", ".join(f"{axis.name} to {axis.nodes}" for axis in compression.axes)
    return [
        f"continuous covariates were compressed (nodes: {nodes}); sums of hazards are within a "
        f"factor of 1 plus or minus {error:.1g} in every draw, survival averaged over the patients "
        f"within {alive:.1g}"
    ]


def jump_cuts(person_time: PersonTime) -> Floats:
    """Place cut points on both sides of every jump.

    Each second interval ends at an event time and holds only that.
    """
    people = person_time.people
    ends, died = people["exit"].values, people["event"].values
    times = []
    for index in range(len(person_time.endpoints)):
        own, counts = np.unique(ends[index][died[index]], return_counts=True)
        if own.size > MOST_JUMPS:
            own = own[_last_of_groups(counts.astype(np.float64))]
        times.append(own)
    pooled = np.unique(np.concatenate(times))
    kept = [float(pooled[0])]
    for jump in pooled[1:].tolist():
        if jump - kept[-1] > APART * jump:
            kept.append(jump)
    jumps = np.array(kept)
    return np.stack([jumps * (1.0 - WIDTH), jumps], axis=1).ravel()


def _last_of_groups(events: Floats) -> Ints:
    """Positions of the last times of groups of about equally many events."""
    passed = np.cumsum(events) - events / 2.0
    group = np.floor(passed * (MOST_JUMPS / events.sum()))
    return np.append(np.flatnonzero(np.diff(group)), events.size - 1)


def step_baseline(
    person_time: PersonTime, design: Design, hazard_ratios: xr.Dataset, *, seed: int
) -> tuple[xr.DataArray, float]:
    """Draw the jumps of the baseline, given log hazard ratios.

    `hazard_ratios`: draws of ``log_hazard_ratio`` and, where there are covariates, ``coefficient``.
    Result: log hazards over (chain, draw, endpoint, interval) on the intervals of `jump_cuts`; and,
    where event times are grouped, the most by which survival falls in a group, on average over
    draws, in the reference phase at mean covariates: it is off by less. 0 elsewhere.

    Kalbfleisch (1978), doi:10.1111/j.2517-6161.1978.tb01666.x: a gamma process whose weight goes to
    0. Given the hazard ratios the jumps are independent, and their means are the increments of
    Breslow's estimator.
    """
    sizes = hazard_ratios.sizes
    count = sizes["chain"] * sizes["draw"]
    start = np.asarray(person_time.table["interval_start"].values)
    stop = np.asarray(person_time.table["interval_stop"].values)
    logs = np.full((len(person_time.endpoints), start.size, count), NOTHING)
    # The second, fourth, ... intervals are those of jumps.
    ends, widths = stop[1::2], (stop - start)[1::2]
    same = same_states(design.contrast)
    error = 0.0
    for index, endpoint in enumerate(person_time.endpoints):
        own = hazard_ratios.sel(endpoint=endpoint)
        parameters = np.concatenate(
            [
                flat_draws(own, name, dim)
                for name, dim in (("log_hazard_ratio", "effect"), ("coefficient", "term"))
                if name in own
            ],
            axis=1,
        )
        sets, _ = find_risk_sets(person_time, [index], same=same, most_times=MOST_TIMES)
        if not sets:
            continue
        rng = np.random.default_rng((seed, index, 7))
        interval, jumps = _jumps(sets[0], design, parameters, ends, rng)
        floored = np.maximum(jumps, np.exp(NOTHING))
        logs[index, 1 + 2 * interval] = np.log(floored) - np.log(widths[interval])[:, None]
        if sets[0].times.size > MOST_JUMPS:
            fall = -np.diff(np.exp(-np.cumsum(jumps, axis=0)), axis=0, prepend=1.0)
            error = max(error, float(fall.mean(axis=1).max()))
    shape = (len(person_time.endpoints), start.size, sizes["chain"], sizes["draw"])
    return (
        xr.DataArray(
            np.ascontiguousarray(np.moveaxis(logs.reshape(shape), (2, 3), (0, 1))),
            dims=("chain", "draw", "endpoint", "interval"),
            coords={
                "chain": hazard_ratios["chain"],
                "draw": hazard_ratios["draw"],
                "endpoint": list(person_time.endpoints),
                "interval": person_time.table["interval"].values,
            },
        ),
        error,
    )


def _jumps(
    risk_sets: RiskSets,
    design: Design,
    parameters: Floats,
    ends: Floats,
    rng: np.random.Generator,
) -> tuple[Ints, Floats]:
    """Draw the jumps of one endpoint: which intervals they belong to, and (jump, draw)."""
    columns = np.concatenate(
        [design.contrast[risk_sets.state], design.terms[risk_sets.pattern]], axis=1
    )
    # The first jump at or after an event time, up to ties, is the one that it belongs to.
    owner = np.searchsorted(ends * (1.0 + APART), risk_sets.times, side="left")
    owner = np.minimum(owner, ends.size - 1)
    interval, first = np.unique(owner, return_index=True)
    total = np.zeros((interval.size, parameters.shape[0]))
    step = max(1, 20_000_000 // max(sum(risk_sets.at_risk.shape), 1))
    for begin in range(0, parameters.shape[0], step):
        some = slice(begin, begin + step)
        at_risk = risk_sets.at_risk @ np.exp(columns @ parameters[some].T)
        drawn = rng.gamma(risk_sets.events[:, None], size=at_risk.shape) / at_risk
        total[:, some] = np.add.reduceat(drawn, first, axis=0)
    return interval, total
