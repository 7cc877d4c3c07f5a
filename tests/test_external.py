"""External patients: what is borrowed of them, against numerical integration."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

import bayesblina as bb
from bayesblina.checks.weaknesses import weaknesses
from bayesblina.errors import SpecError
from bayesblina.hazards.definition import Commensurate, RobustMixture, parse_model
from bayesblina.study import read_study

Floats = NDArray[np.float64]
QUESTION = bb.Question(exposed="late", eligible_from="entry")
CUT = 6.0


def table_of(
    *, seed: int, current: int, external: int, baseline: float, log_ratios: tuple[float, float]
) -> pd.DataFrame:
    """Patients whose hazard is 0.05, `baseline` times it in the external ones, until they enter."""
    generator = np.random.default_rng(seed)
    size = current + external
    outside = np.arange(size) >= current
    rate = 0.05 * np.where(outside, baseline, 1.0)
    start = generator.exponential(5.0, size)
    spent = generator.exponential(1.0, size)
    before = rate * start
    relative = np.exp(np.where(outside, log_ratios[1], log_ratios[0]))
    time = np.where(spent < before, spent / rate, start + (spent - before) / (rate * relative))
    end = np.minimum(time, 24.0)
    return pd.DataFrame(
        {
            "id": np.arange(size),
            "time": end,
            "event": (time <= 24.0).astype(int),
            "start": np.where(start < end, start, np.nan),
            "source": np.where(outside, "external", "current"),
            "arm": generator.choice(["a", "b"], size),
        }
    )


def read(table: pd.DataFrame, *covariates: str) -> bb.Cohort:
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=list(covariates),
    )


def cells(table: pd.DataFrame) -> tuple[Floats, Floats]:
    """Events and time by (current or external, before or after the cut, unexposed or exposed)."""
    events, spent = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    for row in table.itertuples():
        source = int(row.source == "external")
        start = math.inf if math.isnan(row.start) else row.start
        for interval, (left, right) in enumerate(((0.0, CUT), (CUT, math.inf))):
            for exposed, (low, high) in enumerate(((0.0, start), (start, math.inf))):
                begin, end = max(left, low), min(right, high, row.time)
                spent[source, interval, exposed] += max(end - begin, 0.0)
        late = int(row.time > CUT), int(row.time > start)
        events[source, late[0], late[1]] += row.event
    return events, spent


def prior_density(model: bb.ModelDefinition, part: str, at: Floats) -> Floats:
    """Prior of a difference, its sd integrated out by a sum over its quantiles."""
    kind = model.borrowing
    if isinstance(kind, Commensurate):
        prior = kind.phases if part == "phases" else kind.spread
        assert prior is not None
        sds = prior.scale * norm.ppf(0.5 + (np.arange(400) + 0.5) / 800.0)
        return np.asarray(norm.pdf(at[:, None], 0.0, sds).mean(axis=1))
    assert isinstance(kind, RobustMixture)
    mixture = kind.phases if part == "phases" else kind
    assert mixture is not None
    share = mixture.probability
    close, apart = mixture.close, mixture.apart
    return np.asarray(
        share * norm.pdf(at, close.mean, close.sd)
        + (1.0 - share) * norm.pdf(at, apart.mean, apart.sd)
    )


def integrate(model: bb.ModelDefinition, table: pd.DataFrame) -> dict[str, float]:
    """Integrate over level, step, log hazard ratio and both differences, on grids.

    Means and variances of the current patients' quantities, with external patients and without.
    """
    events, spent = cells(table)
    weight = events.sum(axis=(0, 2)) + 0.5
    share = weight / weight.sum()
    centre = math.log((events.sum() + 0.5) / spent.sum())
    level = centre + np.linspace(-1.8, 1.8, 61)
    ratio = np.linspace(-2.4, 2.4, 81)
    apart = np.linspace(-3.5, 3.5, 281)
    steps = np.linspace(-2.4, 2.4, 33)
    sd = math.log(20.0) / norm.ppf(0.975)
    own = events[0].sum(axis=1) / events[0].sum()
    densities = [prior_density(model, part, apart) for part in ("baseline", "phases")]
    wide = centre + np.linspace(-9.0, 9.0, 1501)

    def log_cells(source: int, exposed: int, at: Floats, step: float) -> Floats:
        shift = np.array([-share[1] * step, share[0] * step])
        counts, time = events[source, :, exposed], spent[source, :, exposed]
        return at * counts.sum() + counts @ shift - np.exp(at) * (time @ np.exp(shift))

    moments = np.zeros((2, 2, 3))
    for step in steps:
        shift = own @ np.array([-share[1] * step, share[0] * step])
        grid = np.ix_(level, ratio)
        log = log_cells(0, 0, grid[0], step) + log_cells(0, 1, grid[0] + grid[1], step)
        log = log + norm.logpdf(grid[0], centre, sd) + norm.logpdf(grid[1], 0.0, math.log(5.0) / norm.ppf(0.975))
        alone = np.exp(log + norm.logpdf(step, 0.0, sd) + OFFSET)
        # External exposed patients given what the hazard would be with the current ratio.
        exposed = np.exp(log_cells(1, 1, wide[:, None] + apart, step) + OFFSET) @ densities[1]
        unexposed = np.exp(log_cells(1, 0, level[:, None] + apart, step) + OFFSET) * densities[0]
        both = np.zeros(alone.shape)
        for index, one in enumerate(apart):
            there = np.interp(level[:, None] + ratio + one, wide, exposed)
            both += unexposed[:, index][:, None] * there
        for place, density in enumerate((alone, alone * both)):
            for which, value in enumerate((grid[0] + shift + 0.0 * grid[1], grid[1] + 0.0 * grid[0])):
                moments[place, which] += [
                    density.sum(),
                    (density * value).sum(),
                    (density * value**2).sum(),
                ]
    mean = moments[..., 1] / moments[..., 0]
    variance = moments[..., 2] / moments[..., 0] - mean**2
    found = {}
    for which, part in enumerate(("baseline", "phases")):
        found[f"{part} mean"] = mean[1, which]
        found[f"{part} sd"] = math.sqrt(variance[1, which])
        found[f"{part} alone"] = mean[0, which]
        gain = variance[0, which] / variance[1, which] - 1.0
        found[f"{part} events"] = events[0].sum() * gain
    return found


# Keeps exponentials of log-likelihoods of some hundred events in range.
OFFSET = 100.0
