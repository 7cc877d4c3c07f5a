"""Averages over many patients: the same as over few at a time, in memory that does not grow."""

import tracemalloc
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.estimands import averages, paths
from bayesblina.hazards.build import build_model, draw_prior
from bayesblina.hazards.log_hazards import NODES, new_group_nodes
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort

QUESTION = bb.Question(exposed="late", eligible_from="entry")
CUTS = [2.0, 5.0]
START, TIMES = 2.5, [3.0, 6.0, 9.0]
DRAWS = 40


def cohort_of(size: int, seed: int) -> Cohort:
    random = np.random.default_rng(seed)
    start = random.exponential(4.0, size)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "time": random.exponential(4.0, size).clip(0.1, 9.0),
            "event": (random.random(size) < 0.7).astype(int),
            "start": np.where(np.arange(size) % 2 == 0, start, np.nan),
            "score": random.normal(size=size),
            "site": np.where(random.random(size) < 0.5, "x", "y"),
        }
    )
    table.loc[table["start"] >= table["time"], "start"] = np.nan
    table.loc[0, ["time", "start"]] = [9.5, 0.5]
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["score", "site"],
    )


@cache
def drawn(name: str) -> Fit:
    """Draws from the prior, over few patients: what is averaged needs no posterior."""
    definition = bb.load_model(name)
    if name == "frailty":
        definition = definition.with_covariates(group="site")
    person_time = person_time_for(definition, cohort_of(200, 1), QUESTION, cuts=CUTS)
    prior = draw_prior(build_model(definition, person_time), seed=1, draws=DRAWS)
    blank = bb.fit(
        cohort_of(200, 1), QUESTION, seed=1, draws=4, tune=5, chains=2, cuts=CUTS, progress=False
    )
    draws = xr.DataTree.from_dict({"/posterior": prior})
    return replace(blank, definition=definition, person_time=person_time, draws=draws)


def direct(fit: Fit, people: Cohort, time: float) -> Floats:
    """Average survival under a start at `START`, draw by draw; the origin is the landmark."""
    design, one = fit.design, fit.posterior.isel(chain=0).sel(endpoint="os")
    columns = {
        "score": people.covariates["score"].values,
        "site[y]": np.array(people.covariates["site"].levels)[
            people.covariates["site"].values.astype(int)
        ]
        == "y",
    }
    raw = np.stack([columns[name].astype(float) for name in design.term_names], axis=1)
    terms = (raw - design.centre) / design.scale
    nodes, shares = new_group_nodes() if "group_sd" in one else (np.zeros(1), np.ones(1))
    found = []
    for draw in range(DRAWS):
        here = one.isel(draw=draw)
        base = np.exp(here["log_baseline"].values)
        ratio = float(np.exp(here["log_hazard_ratio"].values[0]))
        # Pieces: to 2, to the start, to 5, and on.
        lengths = np.clip(time - np.array([0.0, 2.0, START, 5.0]), 0.0, [2.0, 0.5, 2.5, np.inf])
        rates = base[[0, 1, 1, 2]] * np.array([1.0, 1.0, ratio, ratio])
        sd = float(here["group_sd"]) if "group_sd" in here else 0.0
        shift = terms @ here["coefficient"].values
        each = np.exp(shift[:, None] + sd * nodes)
        found.append(float((np.exp(-(lengths @ rates) * each) @ shares).mean()))
    return np.array(found)


@pytest.mark.parametrize("name", ["primary", "frailty"])
def test_averages_over_many_patients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By some draws and some patients at a time, against one draw after the other."""
    fit, people = drawn(name), cohort_of(1000, 2)
    numbers = 1000 * (NODES if name == "frailty" else 1)
    monkeypatch.setattr(averages, "LARGEST", 7 * numbers + 5)
    monkeypatch.setattr(paths, "BLOCK", 2 * numbers)
    seen = []
    averages_of = averages.averages_of

    def counted(part: Fit, *rest: Any) -> Any:
        seen.append(part.posterior.sizes["draw"])
        return averages_of(part, *rest)

    monkeypatch.setattr(averages, "averages_of", counted)
    arguments: dict[str, Any] = {
        "regimes": [bb.From(START)],
        "landmark": 0.0,
        "population": people,
    }
    found = bb.survival(fit, times=TIMES, **arguments)
    assert seen == [7, 7, 7, 7, 7, 5]
    assert found["survival"].dims == ("chain", "draw", "endpoint", "regime", "time")
    for index, time in enumerate(TIMES):
        values = found["survival"].values[0, :, 0, 0, index]
        np.testing.assert_allclose(values, direct(fit, people, time), rtol=1e-10)
    assert str(found.attrs["population"]).startswith("1000 supplied patients")
    # Integrals and quantiles too are those of all draws at once.
    parts = [
        bb.rmst(fit, horizon=8.0, **arguments),
        bb.median_survival(fit, **arguments),
        bb.hazard(fit, times=TIMES, **arguments),
        bb.average_hazard_ratio(
            fit, regime=bb.From(START), landmark=0.0, population=people, horizon=8.0
        ),
    ]
    monkeypatch.setattr(averages, "LARGEST", 10**9)
    seen.clear()
    whole = [
        bb.rmst(fit, horizon=8.0, **arguments),
        bb.median_survival(fit, **arguments),
        bb.hazard(fit, times=TIMES, **arguments),
        bb.average_hazard_ratio(
            fit, regime=bb.From(START), landmark=0.0, population=people, horizon=8.0
        ),
    ]
    assert set(seen) == {DRAWS}
    for one, other in zip(parts, whole, strict=True):
        assert one.attrs == other.attrs
        # Sums run over other blocks: they differ by rounding.
        xr.testing.assert_allclose(one, other, rtol=1e-10)


def test_memory_does_not_grow_with_the_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, people = drawn("primary"), cohort_of(20_000, 3)
    monkeypatch.setattr(averages, "LARGEST", 20_000)
    monkeypatch.setattr(paths, "BLOCK", 20_000)
    arguments: dict[str, Any] = {"landmark": 0.0, "population": people, "times": [6.0]}
    bb.survival(fit, **(arguments | {"population": cohort_of(50, 1)}))
    tracemalloc.start()
    try:
        bb.survival(fit, **arguments)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One array of all patients and draws would take this.
    assert peak < 20_000 * DRAWS * 8
