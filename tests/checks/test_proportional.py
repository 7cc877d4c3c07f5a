"""Early and late effects against R, and by hand."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.weaknesses import _of_endpoint, _varies, early_and_late
from tests.checks.unsampled import patients, read, said, unsampled
from tests.paths import DATA


def test_columns_that_vary_in_a_stratum() -> None:
    columns = np.array(
        [[1.0, 0.0, 2.0, 5.0], [3.0, 0.0, 2.0, 5.0], [4.0, 1.0, 7.0, 5.0], [4.0, 1.0, 8.0, 5.0]]
    )
    stratum = np.array([0, 0, 1, 1])
    assert _varies(columns, stratum).tolist() == [True, False, True, False]
    assert _varies(columns[::-1], stratum[::-1]).tolist() == [True, False, True, False]
    assert _varies(columns, np.zeros(4, dtype=np.int64)).tolist() == [True, True, True, False]


def patients_of(sources: str) -> bb.PersonTime:
    random = np.random.default_rng(8)
    size = 160
    start, time = random.uniform(0.5, 6.0, size), random.exponential(8.0, size) + 0.1
    source = np.where(np.arange(size) % 2 == 0, "current", "other")
    table = pd.DataFrame(
        {
            "id": np.arange(size),
            "time": time,
            "event": random.random(size) < 0.8,
            "start": np.where(start < time, start, np.nan),
            "source": source,
        }
    )
    cohort = bb.read_cohort(
        table[np.isin(source, sources.split())],
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="event")},
        phases=bb.Phases(late="start"),
        covariates=["source"],
    )
    return bb.person_time(cohort, bb.Question(exposed="late", eligible_from="entry"), cuts=[5.0])


def test_early_and_late_are_of_current_patients() -> None:
    def found(person_time: bb.PersonTime, sources: tuple[str, ...]) -> Any:
        patterns = person_time.table.sizes["pattern"]
        design = SimpleNamespace(
            sources=sources,
            is_current=np.arange(patterns) == 0,
            contrast=(person_time.table["role"].values == "exposed")[:, None].astype(float),
            stratum_of=np.zeros(patterns, dtype=np.int64),
        )
        fit: Any = SimpleNamespace(design=design, person_time=person_time)
        return _of_endpoint(fit, person_time.terms_of(slice(None)), person_time.endpoints[0])

    alone = found(patients_of("current"), ())
    both = patients_of("current other")
    assert found(both, ("source",)) == alone
    assert found(both, ()) != alone
    assert alone.endpoint == "os"


def test_early_and_late_equal_r() -> None:
    """R 4.2, survival: coxph of survSplit(jasa1, cut = the median event), Efron's ties."""
    cohort = bb.read_cohort(
        DATA / "stanford_jasa1.csv",
        patient="id",
        unit="days",
        endpoints={"os": bb.Endpoint(time="days", event="died")},
        phases=bb.Phases(late="transplant_day"),
    )
    (found,) = early_and_late(unsampled(cohort))
    assert found.split == 65.0
    assert np.log(found.early) == pytest.approx(0.1922462058650, abs=1e-8)
    assert np.log(found.late) == pytest.approx(0.0323098895605, abs=1e-8)
    assert found.p_value == pytest.approx(0.789679337589, abs=1e-8)
    assert not found.differs


def test_an_effect_that_turns_is_told() -> None:
    rng = np.random.default_rng(5)
    size = 800
    start = np.where(rng.random(size) < 0.6, rng.uniform(0.5, 4, size), np.inf)
    # Hazard 0.1; in the phase 0.03 up to month 6 and 0.25 after.
    grid = np.linspace(0, 40, 4001)[1:]
    hazard = np.full((size, grid.size), 0.1)
    inside = grid > start[:, None]
    hazard = np.where(inside, np.where(grid < 6, 0.03, 0.25), hazard)
    reached = np.cumsum(hazard * 0.01, axis=1) > rng.exponential(size=size)[:, None]
    time = np.where(reached.any(axis=1), grid[reached.argmax(axis=1)], 40.0)
    table = pd.DataFrame(
        {
            "id": [f"p{index}" for index in range(size)],
            "t": np.minimum(time, 24.0),
            "e": (time <= 24.0).astype(int),
            "s": np.where(start < np.minimum(time, 24.0), start, np.nan),
        }
    )
    fit = unsampled(read(table))
    (found,) = early_and_late(fit)
    assert found.early < 0.7 < 1.2 < found.late
    (words,) = said(fit, "not the same early and late")
    assert f"hazard ratio {found.early:.2f} up to" in words
    assert "p < 0.001" in words
    # A model whose effect varies says it itself.
    varying = dataclasses.replace(fit, definition=bb.load_model("over_time"))
    assert early_and_late(varying) == ()


def test_strata_have_risk_sets_of_their_own() -> None:
    """Early deaths in one stratum, late ones in the other, and the same effect of none in both."""
    rng = np.random.default_rng(0)
    early = np.repeat([True, False], 200)
    draw = rng.exponential(size=400)
    first = np.where(early, 0.25, 0.02)
    time = np.where(
        draw < 8.0 * first,
        draw / first,
        8.0 + (draw - 8.0 * first) / np.where(early, 0.01, 0.2),
    )
    start = np.where(rng.random(400) < np.where(early, 0.8, 0.2), rng.uniform(0.2, 3.0, 400), 1e9)
    table = pd.DataFrame(
        {
            "id": range(400),
            "t": np.minimum(time, 30.0),
            "e": time <= 30.0,
            "s": np.where(start < np.minimum(time, 30.0), start, np.nan),
            "site": np.where(early, "a", "b"),
        }
    )
    stratified = bb.load_model("stratified").with_covariates(stratum="site")
    (found,) = early_and_late(unsampled(read(table, "site"), model=stratified))
    # By chance once in a hundred; without strata it is 1e-15.
    assert found.p_value > 0.01
    each = [table[table["site"] == one] for one in ("a", "b")]
    both = [early_and_late(unsampled(read(one))) for one in each]
    logs = sorted(np.log(one.early) for (one,) in both)
    assert logs[0] - 0.5 < np.log(found.early) < logs[1] + 0.5


def test_the_same_effect_is_found_different_by_chance_only() -> None:
    seeds = range(100)
    fits = [unsampled(read(patients(150, seed=seed))) for seed in seeds]
    found = [one for fit in fits for one in early_and_late(fit)]
    # Where no event falls into the phase early there is nothing to compare.
    assert len(found) >= 95
    # Binomial(100, 0.05): 13 or more in one of 2,000.
    assert sum(one.differs for one in found) <= 12
