"""The deterministic engine of the study of the baseline, in plain Python, against other ways."""

from __future__ import annotations

import math
import runpy
from typing import Any

import numba
import numpy as np
import pytest

import bayesblina as bb
from bayesblina.hazards.parts import RandomWalk
from tests.paths import STUDIES
from tests.studies.baseline_fits import cohort_of
from tests.studies.baseline_methods import new_cuts
from tests.studies.baseline_page import breaches, exact_interval
from tests.studies.baseline_patients import Patients
from tests.studies.baseline_settings import ARMS, ONE_PHASE, Setting

ENGINE = STUDIES / "baseline_engine.py"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The engine, not compiled: compiling takes longer than its work here."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    return runpy.run_path(str(ENGINE))


def settings() -> list[Setting]:
    return [
        Setting(ONE_PHASE, "early", "step up", 86, 0.5, 1),
        Setting(ONE_PHASE, "late", "falling", 40, 1.0, 1),
        *(Setting(arm, "", "", 86, 0.5, 1) for arm in ARMS[2:]),
    ]


def test_its_priors_are_those_of_the_shipped_model(engine: dict[str, Any]) -> None:
    primary = bb.load_model("primary")
    assert isinstance(primary.baseline, RandomWalk)
    assert engine["LEVEL_SD"] == pytest.approx(primary.baseline.level.sd, rel=1e-12)
    assert engine["STEP_SD"] == pytest.approx(primary.baseline.step.sd, rel=1e-12)
    assert engine["EFFECT_SD"] == pytest.approx(primary.phases.prior.sd, rel=1e-12)
    assert engine["COVARIATE_SD"] == pytest.approx(primary.covariates.prior.sd, rel=1e-12)


def test_normal_posterior_in_closed_form(engine: dict[str, Any]) -> None:
    grid = 0.3 + 0.5 * np.linspace(-8.0, 8.0, 41)
    said = engine["posterior"](grid, -0.5 * ((grid - 0.3) / 0.5) ** 2)
    assert said.mean == pytest.approx(0.3, abs=1e-9)
    assert said.sd == pytest.approx(0.5, rel=1e-9)
    # Fine points are 0.004 apart; the rule of the cumulative sum errs by less than one of them.
    assert said.lower == pytest.approx(0.3 - 1.959964 * 0.5, abs=0.004)
    assert said.upper == pytest.approx(0.3 + 1.959964 * 0.5, abs=0.004)
    assert said.below_zero == pytest.approx(0.5 * math.erfc(0.6 / math.sqrt(2.0)), abs=0.004)


def test_laplace_over_the_baseline_against_integration(engine: dict[str, Any]) -> None:
    events = np.array([[3.0, 1.0], [6.0, 4.0]])
    time = np.array([[40.0, 6.0], [70.0, 90.0]])
    grid = np.linspace(-4.0, 3.5, 41)
    sd = math.log(20.0) / 1.959963984540054
    weight = (events.sum(axis=1) + 0.5) / (events.sum() + 1.0)
    centre = math.log((events.sum() + 0.5) / time.sum())
    found, _, _ = engine["walk_log_density"](
        events,
        time,
        np.array([[0.0], [1.0]]),
        np.array([engine["EFFECT_SD"] ** -2]),
        np.array([engine["STEP_SD"] ** -2]),
        weight / engine["LEVEL_SD"],
        centre / engine["LEVEL_SD"],
        grid,
    )
    said = engine["posterior"](grid, found)
    # The same posterior summed over a lattice of both log hazards.
    first = np.linspace(-7.0, 0.0, 351)[:, None, None]
    second = np.linspace(-7.0, 0.0, 351)[None, :, None]
    ratio = grid[None, None, :]
    log = -0.5 * (ratio / (math.log(5.0) / 1.959963984540054)) ** 2 + 5.0 * ratio
    log = log - 0.5 * ((second - first) / sd) ** 2
    log = log - 0.5 * ((weight[0] * first + weight[1] * second - centre) / sd) ** 2
    for a, j in ((first, 0), (second, 1)):
        log = log + events[j].sum() * a - np.exp(a) * (time[j, 0] + time[j, 1] * np.exp(ratio))
    whole = np.exp(log - log.max()).sum(axis=(0, 1))
    whole /= whole.sum()
    mean = float(whole @ grid)
    spread = math.sqrt(float(whole @ (grid - mean) ** 2))
    assert said.mean == pytest.approx(mean, abs=0.01 * spread)
    assert said.sd == pytest.approx(spread, rel=0.01)


def test_survival_of_one_interval_is_nearly_that_of_a_gamma(engine: dict[str, Any]) -> None:
    # One interval, one state, a level that is hardly held: a hazard of Gamma(4, 400).
    model = (
        np.array([[4.0]]),
        np.array([[400.0]]),
        np.array([[0.0]]),
        np.ones(1),
        np.empty(0),
        np.array([1e-3]),
        0.0,
    )
    density, modes, betas = engine["walk_log_density"](*model, np.zeros(1))
    found = engine["walk_survival"](
        *model, modes, betas, density, np.array([[12.0], [60.0]]), np.zeros(2), 0
    )
    for time, survival in zip((12.0, 60.0), found[0], strict=True):
        assert survival == pytest.approx((400.0 / (400.0 + time)) ** 4, rel=1e-3)


def test_partial_likelihood_by_hand(engine: dict[str, Any]) -> None:
    # Exposed from 1 on, from 3 on, never; events at 4, 3 and 1. A start at an event comes after it.
    times, events, at_risk = engine["risk_sets"](
        np.zeros(3),
        np.array([4.0, 3.0, 1.0]),
        np.ones(3),
        np.array([[1.0], [3.0], [np.inf]]),
        np.zeros(3, dtype=np.int64),
        1,
    )
    assert times.tolist() == [1.0, 3.0, 4.0]
    assert at_risk.tolist() == [[3.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    assert events.tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    design, precision = np.array([[0.0], [1.0]]), np.array([engine["EFFECT_SD"] ** -2])
    grid = np.linspace(-5.0, 5.0, 41)
    found, _ = engine["partial_log_density"](events, at_risk, design, precision, grid)
    # Only the second event compares: one exposed and one unexposed at risk, an unexposed event.
    by_hand = -np.log1p(np.exp(grid)) - 0.5 * (grid / engine["EFFECT_SD"]) ** 2
    np.testing.assert_allclose(found - found[0], by_hand - by_hand[0], atol=1e-12)
    estimate, _ = engine["partial_estimate"](events, at_risk, design, precision)
    slope = -1.0 / (1.0 + np.exp(-estimate[0])) - estimate[0] * precision[0]
    # Newton stops when its step is below 1e-9.
    assert slope == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_cuts_and_cells_are_the_package_s_own(engine: dict[str, Any], setting: Setting) -> None:
    arm = setting.kind
    data = arm.simulate(setting.patients, setting.log_ratio, setting.generator(0))
    person_time = bb.person_time(*cohort_of(setting, data))
    cuts = new_cuts(data)
    np.testing.assert_allclose(person_time.table["interval_start"].values[1:], cuts, rtol=1e-9)
    # Midway between events: none ends an interval.
    for one in data.endpoints.values():
        assert not np.isin(cuts, one.stop[one.event > 0]).any()
    for name, one in data.endpoints.items():
        events, time = engine["tabulate"](
            one.observed_from, one.stop, one.event, one.start, one.pattern, arm.patterns, cuts
        )
        table = person_time.table.sel(endpoint=name)
        shape = (cuts.size + 1, -1)
        np.testing.assert_array_equal(table["events"].values.reshape(shape), events)
        np.testing.assert_allclose(table["person_time"].values.reshape(shape), time, atol=1e-9)


def test_risk_sets_counted_one_by_one(engine: dict[str, Any]) -> None:
    setting = settings()[1]
    one: Patients = setting.kind.simulate(40, 0.0, setting.generator(0)).endpoints["y"]
    times, _, at_risk = engine["risk_sets"](
        one.observed_from, one.stop, one.event, one.start, one.pattern, 1
    )
    for time, counted in zip(times, at_risk, strict=True):
        here = (one.observed_from < time) & (one.stop >= time)
        exposed = here & (one.start[:, 0] < time)
        assert counted.tolist() == [here.sum() - exposed.sum(), exposed.sum()]


def test_exact_intervals_and_bounds() -> None:
    # None of 400: 1 - (0.0005) ** (1 / 400).
    assert exact_interval(0, 400) == pytest.approx((0.0, 1.0 - 0.0005 ** (1 / 400)), rel=1e-9)
    assert exact_interval(400, 400)[1] == 1.0
    import pandas as pd

    def cell(shift: float) -> pd.DataFrame:
        said = pd.DataFrame({"shift": np.full(100, shift), "covered": True, "width": 1.0})
        both = [said.assign(method="default"), said.assign(method="companion", shift=0.0)]
        return pd.concat(both).assign(
            arm=ONE_PHASE, entry="early", baseline="U", patients=86, ratio=1.0, endpoint="y"
        )

    assert not breaches(cell(0.1))[["shift", "share beyond", "coverage", "width"]].any(axis=None)
    assert breaches(cell(0.3))[["shift", "share beyond"]].all(axis=None)
