"""How the draws of a fit are made: sampled, or from the partial likelihood."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.errors import SpecError
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.effects import Design, make_design
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.inference.companion import Companion, partial_posterior
from bayesblina.inference.convergence import Convergence, assess_convergence, assess_weights
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.inference.step_baseline import step_baseline
from bayesblina.person_time.cells import PersonTime

if TYPE_CHECKING:
    from bayesblina.hazards.build import BuiltModel

# Patients x draws above which the patient-level log-likelihood is not kept with the draws.
LARGEST_LOG_LIKELIHOOD = 50_000_000
PRIOR_DRAWS = 4000
# Compressed covariates may change sums of hazards by this factor at most.
LARGEST_COMPRESSION_ERROR = 1e-6
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
    companion = NO_COMPANION
    if compared:
        companion = partial_posterior(definition, person_time, seed=seed)
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
    total = patient_log_likelihood(posterior, person_time, design)
    tree["log_likelihood"] = xr.DataTree(total.to_dataset(name="survival"))
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
    labels = companion.draws.drop_vars(["chain", "draw"]).coords
    ratios = xr.Dataset(
        {
            name: (values.dims, values.values.reshape(chains, -1, *values.shape[2:]))
            for name, values in companion.draws.data_vars.items()
        },
        coords={
            **labels,
            "chain": np.arange(chains),
            "draw": np.arange(companion.draws.sizes["draw"] // chains),
        },
    )
    steps = step_baseline(person_time, design, ratios, seed=seed)
    posterior = ratios.assign(log_baseline=steps.log_baseline)
    drawn = time.perf_counter()
    notes = ["draws are independent: hazard ratios by partial likelihood, jumps given them"]
    if fewer:
        notes.append(f"only {posterior.sizes['draw']} draws were made: patients are many")
    largest = float(companion.table["error"].max())
    if largest > 0.0:
        notes.append(f"event times were grouped: log hazard ratios are within {largest:.2g}")
    if steps.error > 0.0:
        notes.append(f"jumps of the hazard were grouped: survival is within {steps.error:.2g}")
    notes += compression_notes(person_time, posterior, design)
    tree = xr.DataTree.from_dict({"/posterior": posterior})
    if complete:
        tree["prior"] = xr.DataTree(_prior_ratios(definition, ratios, seed=seed))
    return DrawnPosterior(
        tree=tree,
        convergence=assess_weights(ratios, companion.table),
        companion=companion,
        engine="partial likelihood",
        notes=tuple(notes),
        seconds={"sample": drawn - began, "finish": time.perf_counter() - drawn},
    )


def _prior_ratios(definition: ModelDefinition, ratios: xr.Dataset, *, seed: int) -> xr.Dataset:
    """Draw log hazard ratios from the prior; the baseline has none."""
    generator = np.random.default_rng([seed, 1])
    priors = {
        "log_hazard_ratio": definition.phases.prior,
        "coefficient": definition.covariates.prior,
    }
    variables = {}
    for name, values in ratios.data_vars.items():
        prior, shape = priors[str(name)], (1, PRIOR_DRAWS, *values.shape[2:])
        variables[name] = (values.dims, generator.normal(prior.mean, prior.sd, shape))
    return xr.Dataset(variables, coords=ratios.drop_vars(["chain", "draw"]).coords)


def _prior(built: BuiltModel, *, seed: int) -> xr.Dataset:
    """Draw the parameters that have a meaning of their own from the prior."""
    generator = np.random.default_rng([seed, 1])
    variables = {
        name: (("chain", "draw", *dims), draw(generator, PRIOR_DRAWS)[None])
        for name, (dims, draw) in built.priors.items()
    }
    labels = built.model.coords
    coords = {dim: list(labels[dim]) for dims, _ in built.priors.values() for dim in dims}
    return xr.Dataset(variables, coords=coords)


def _with_bar(
    built: BuiltModel, *, seed: int, settings: SamplerSettings, show: bool
) -> tuple[xr.DataTree, dict[str, float | str]]:
    from bayesblina.inference.sampling import sample

    if not show:
        return sample(built, seed=seed, settings=settings)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("compiling", total=None)

        def report(finished: int, total: int, divergences: int) -> None:
            words = f"sampling, {divergences} divergences" if divergences else "sampling"
            bar.update(task, description=words, completed=finished, total=total)

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
