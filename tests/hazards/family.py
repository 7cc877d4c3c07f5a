"""The models of the family on one synthetic cohort: what the tests of hazards share."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr

import bayesblina as bb
from bayesblina.hazards.build import BuiltModel, build_model
from bayesblina.hazards.definition import ModelDefinition, model_names
from bayesblina.inference.model_data import person_time_for
from bayesblina.person_time.cells import PersonTime
from bayesblina.studies.calibration import question_for

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")

# A baseline of jumps has no density to sample.
SAMPLED = sorted({*model_names()} - {"free"})

NAMED = {
    "stratum": "prior_salvage",
    "subgroup": "age_group",
    "group": "age_group",
    "source": "prior_salvage",
}


def definition_of(name: str) -> ModelDefinition:
    model = bb.load_model(name)
    return model.with_covariates(**{role: NAMED[role] for role in model.roles})


@cache
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=2)[0]


@cache
def built(name: str) -> tuple[ModelDefinition, PersonTime, BuiltModel]:
    definition = definition_of(name)
    person_time = person_time_for(definition, cohort(), question_for(definition))
    return definition, person_time, build_model(definition, person_time)


def prior_points(model: BuiltModel, *, draws: int, seed: int) -> tuple[xr.Dataset, np.ndarray]:
    """Draws of all variables from the prior, and the log-likelihood at each."""
    pymc_model = model.model
    variables = [*pymc_model.free_RVs, *pymc_model.deterministics]
    *values, density = pm.draw(
        [*variables, *pymc_model.potentials],
        draws=draws,
        random_seed=seed,
        mode="FAST_COMPILE",
    )
    dims = [pymc_model.named_vars_to_dims[variable.name] for variable in variables]
    return xr.Dataset(
        {
            variable.name: (("chain", "draw", *dim), np.asarray(value)[None])
            for variable, value, dim in zip(variables, values, dims, strict=True)
        },
        coords={name: list(pymc_model.coords[name]) for dim in dims for name in dim},
    ), np.asarray(density)


def with_posterior(name: str, *, seed: int = 1, draws: int = 50) -> bb.Fit:
    """A fit whose draws are those of the prior: for arithmetic, not for statistics."""
    definition, person_time, model = built(name)
    prior, _ = prior_points(model, draws=draws, seed=seed)
    return replace(
        base_fit(),
        draws=xr.DataTree.from_dict({"/posterior": prior}),
        definition=definition,
        person_time=person_time,
    )


@cache
def base_fit() -> bb.Fit:
    return bb.fit(cohort(), QUESTION, seed=1, draws=10, tune=10, chains=1, progress=False)


# Effects that vary: cells by time since entry, ratios over time, by subgroup.


def histories(seed: int, size: int = 40) -> bb.Cohort:
    generator = np.random.default_rng(seed)
    time = generator.exponential(10.0, size) + 0.1
    start = generator.exponential(4.0, size)
    entry = np.where(generator.random(size) < 0.3, time * generator.uniform(0, 0.9, size), 0.0)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": time,
            "event": generator.integers(0, 2, size),
            "entry": entry,
            "start": np.where(start < time, start, np.nan),
            "arm": generator.choice(["a", "b"], size),
        }
    )
    table.loc[0, ["event", "start", "entry"]] = [1, 0.0, 0.0]
    table.loc[1, ["event", "start", "entry"]] = [1, np.nan, 0.0]
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event", entry="entry")},
        phases=bb.Phases(late="start"),
        covariates=["arm"],
    )


def two_sources(ratio: float, *, seed: int) -> bb.Cohort:
    """300 current and 300 external patients, whose hazard is `ratio` times as high."""
    generator = np.random.default_rng(seed)
    size = 600
    external = np.arange(size) >= 300
    time = generator.exponential(10.0, size) / np.where(external, ratio, 1.0)
    start = generator.exponential(5.0, size)
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": np.minimum(time, 24.0),
            "event": (time <= 24.0).astype(int),
            "start": np.where(start < np.minimum(time, 24.0), start, np.nan),
            "source": np.where(external, "historical", "current"),
            # Of no effect; with a covariate the models are those that are compiled for other tests.
            "arm": generator.choice(["a", "b"], size),
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["source", "arm"],
    )
