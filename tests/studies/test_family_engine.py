"""The engine of the study of the family, in plain Python, against other ways; its patients."""

from __future__ import annotations

import math
import runpy
from typing import Any

import numba
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.hazards.baseline import clock as package_clock
from bayesblina.hazards.baseline import walks
from bayesblina.hazards.parts import GaussianProcess, RandomWalk, SmoothWalk, Weibull
from bayesblina.inference.model_data import person_time_for
from tests.paths import STUDIES
from tests.studies import family_courses as courses
from tests.studies import family_cure as cure
from tests.studies import family_page as page
from tests.studies import family_recovery as recovery
from tests.studies import family_varying as varying
from tests.studies.baseline_patients import hazard_of

ENGINE = STUDIES / "family_engine.py"

CUTS, LAST = np.array([1.0, 2.5, 4.0, 9.0]), 30.0
EVENTS = np.array([3.0, 6.0, 0.0, 4.0, 5.0])
PERSON_TIME = 420.0


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The engine, not compiled: compiling takes longer than its work here."""
    monkeypatch.setattr(numba.config, "DISABLE_JIT", True)
    return runpy.run_path(str(ENGINE))


def test_its_priors_are_those_of_the_shipped_models(engine: dict[str, Any]) -> None:
    default = bb.load_model("primary").baseline
    assert isinstance(default, RandomWalk)
    assert engine["STEP_SD"] == pytest.approx(default.step.sd, rel=1e-12)
    smooth = bb.load_model("smooth").baseline
    assert isinstance(smooth, SmoothWalk)
    assert smooth.slope is not None
    assert engine["SLOPE_SD"] == pytest.approx(smooth.slope.sd, rel=1e-12)
    weibull = bb.load_model("weibull").baseline
    assert isinstance(weibull, Weibull)
    assert engine["DOUBLING_SD"] == pytest.approx(weibull.doubling.sd / math.log(2.0), rel=1e-12)
    process = bb.load_model("gaussian_process").baseline
    assert isinstance(process, GaussianProcess)
    assert engine["LENGTH_SCALE"] == process.length_scale
    for name, kind in (("smooth", smooth), ("weibull", weibull), ("gaussian_process", process)):
        assert engine["CHANGE"][name] == pytest.approx(kind.change.scale, rel=1e-9)
        assert engine["LEVEL_SD"] == pytest.approx(kind.level.sd, rel=1e-12)


def test_nodes_integrate_a_half_normal_prior(engine: dict[str, Any]) -> None:
    sd, log_mass = engine["_half_normal_nodes"](0.7)
    mass = np.exp(log_mass) / np.exp(log_mass).sum()
    # Moments of a half-normal: scale * sqrt(2 / pi), scale ** 2.
    assert mass @ sd == pytest.approx(0.7 * math.sqrt(2.0 / math.pi), rel=2e-3)
    assert mass @ sd**2 == pytest.approx(0.49, rel=5e-3)


@pytest.mark.parametrize(("model", "order"), [("weibull", 1), ("smooth", 2)])
def test_walks_are_the_package_s(engine: dict[str, Any], model: str, order: int) -> None:
    prior = engine["curve_prior"](model, CUTS, LAST, EVENTS, PERSON_TIME)
    assert prior.mean == pytest.approx(math.log((EVENTS.sum() + 0.5) / PERSON_TIME))
    sds, _ = engine["_half_normal_nodes"](engine["CHANGE"][model])
    start = np.concatenate([[0.0], CUTS])
    weight = EVENTS[None] + 0.5
    found = walks(package_clock(start, LAST, EVENTS[None]), weight, np.zeros((1, 5)), order=order)
    # The first node's sd is nearly 0, so that a difference of nodes is the walk alone.
    both = (prior.covariance[7] - prior.covariance[3]) / (sds[7] ** 2 - sds[3] ** 2)
    scaled = found.basis[0] * found.inverse_roughness[0]
    np.testing.assert_allclose(both, scaled @ scaled.T, atol=1e-10)
    if order == 2:
        line = found.line[0]
    else:
        edges = np.append(start, LAST)
        line = np.log((edges[1:] + edges[:-1]) / 2.0)
        line = line - np.average(line, weights=weight[0])
    slope = engine["SLOPE_SD"] if order == 2 else engine["DOUBLING_SD"]
    level = engine["LEVEL_SD"] ** 2 + slope**2 * np.outer(line, line)
    rest = prior.covariance[3] - sds[3] ** 2 * scaled @ scaled.T
    np.testing.assert_allclose(rest, level, atol=1e-10)


def test_matern_s_covariance_is_the_integral_of_its_spectrum(engine: dict[str, Any]) -> None:
    frequency = np.linspace(0.0, 400.0, 400_001)
    for length in (0.4, 1.2):
        density = (16.0 / 3.0) * (5.0**2.5 / length**5) / (5.0 / length**2 + frequency**2) ** 3
        for apart in (0.0, 0.5, 1.7):
            integral = np.trapezoid(density * np.cos(frequency * apart), frequency) / math.pi
            assert engine["_matern"](np.array(apart), length) == pytest.approx(integral, abs=1e-6)


def test_laplace_against_integration(engine: dict[str, Any]) -> None:
    events = np.array([[3.0, 1.0], [6.0, 4.0]])
    time = np.array([[40.0, 6.0], [70.0, 90.0]])
    prior = engine["curve_prior"]("default", np.array([4.0]), LAST, events.sum(axis=1), 206.0)
    covariance = prior.covariance[0]
    grid = np.linspace(-3.0, 2.5, 31)
    precision = (math.log(5.0) / 1.959963984540054) ** -2
    exposed = np.array([0.0, 1.0])
    data = (events, time, exposed, precision, prior.mean, covariance)
    density, duals = engine["curve_log_density"](*data, grid)
    # The same posterior summed over a lattice of both log hazards.
    first = np.linspace(-7.0, 0.0, 281)[:, None, None]
    second = np.linspace(-7.0, 0.0, 281)[None, :, None]
    inverse = np.linalg.inv(covariance)
    away, beyond = first - prior.mean, second - prior.mean
    log = -0.5 * (inverse[0, 0] * away**2 + inverse[1, 1] * beyond**2)
    log = log - inverse[0, 1] * away * beyond - 0.5 * precision * grid**2 + 5.0 * grid
    for a, j in ((first, 0), (second, 1)):
        log = log + events[j].sum() * a - np.exp(a) * (time[j, 0] + time[j, 1] * np.exp(grid))
    whole = np.exp(log - log.max())
    said, exact = np.exp(density - density.max()), whole.sum(axis=(0, 1))
    said, exact = said / said.sum(), exact / exact.sum()
    mean, sd = float(exact @ grid), math.sqrt(float(exact @ grid**2 - (exact @ grid) ** 2))
    assert said @ grid == pytest.approx(mean, abs=0.01 * sd)
    assert said @ grid**2 - (said @ grid) ** 2 == pytest.approx(sd**2, rel=0.02)
    middle = int(exact.argmax())
    # The integral itself, by which values of hyperparameters are weighted.
    lattice = math.log(whole[:, :, middle].sum() * (7.0 / 280) ** 2 / (2.0 * math.pi)) + log.max()
    lattice -= 0.5 * math.log(np.linalg.det(covariance))
    assert density[middle] == pytest.approx(lattice, abs=0.03)
    conditional = whole[:, :, middle] / whole[:, :, middle].sum()
    logs = engine["mean_log_hazard"](
        time, exposed * grid[middle], prior.mean, covariance, duals[middle]
    )
    # Third derivatives are taken into account: the mode alone is off by 0.1 and more.
    assert logs[0] == pytest.approx(float((conditional * first[:, :, 0]).sum()), abs=0.01)
    assert logs[1] == pytest.approx(float((conditional * second[:, :, 0]).sum()), abs=0.01)
    extra = np.array([[4.0, 8.0]])
    survival = engine["curve_survival"](*data, grid, density, duals, extra, np.ones(1))[middle, 0]
    passed = np.exp(grid[middle]) * (4.0 * np.exp(first) + 8.0 * np.exp(second))[:, :, 0]
    assert survival == pytest.approx(float((conditional * np.exp(-passed)).sum()), abs=0.003)


def _estimated(starts: list[Floats], table: pd.DataFrame) -> list[tuple[float, float]]:
    """Events over expected events at ratio 1, by state; person-time on the true hazard's clock."""
    found = []
    stop, event = table["time"].to_numpy(), table["event"].to_numpy()
    hazard = hazard_of("late", "step up")
    for begin, end in zip(starts, [*starts[1:], np.full(stop.size, np.inf)], strict=True):
        low, high = np.minimum(begin, stop), np.minimum(end, stop)
        here = (event == 1) & (begin < stop) & (stop <= end)
        expected = (hazard.cumulative(high) - hazard.cumulative(low)).sum()
        found.append((here.sum() / expected, 1.0 / math.sqrt(here.sum())))
    return found


def test_truth_over_time_is_what_is_simulated() -> None:
    table = varying.over_time(20_000, np.random.default_rng(1))
    start = table["m"].fillna(np.inf).to_numpy()
    later = np.maximum(start, 6.0)
    ratios = _estimated([np.zeros(start.size), start, later], table)
    # Ratios' relative standard errors are 1 / sqrt(events).
    for (ratio, error), truth in zip(ratios, (1.0, 0.4, 1.0), strict=True):
        assert ratio == pytest.approx(truth, rel=4 * error)


def test_courses_have_the_survival_that_integration_gives() -> None:
    known = courses.truth()
    fine = np.linspace(0.0, 24.0, 24_001)
    middle, width = (fine[1:] + fine[:-1]) / 2.0, fine[1] - fine[0]

    def rate(name: str, ratio: float) -> Floats:
        hazard = varying.TRANSITION_HAZARDS[name]
        values = hazard.rate[np.searchsorted(hazard.begin, middle, side="right") - 1]
        return np.asarray(values * np.where(middle > started, ratio, 1.0))

    for regime, started in (("never", np.inf), ("from 3", 3.0)):
        # Relapse 0.5, death in remission 1, death after relapse 0.7.
        relapse, death = rate("relapse", 0.5), rate("death in remission", 1.0)
        free = np.exp(-np.cumsum((relapse + death) * width))
        after = rate("death after relapse", 1.0) * width
        error = 4 * 0.5 / math.sqrt(courses.MANY)
        assert known["rfs", regime] == pytest.approx(free[-1], abs=error)
        # Who relapses before maintenance stays without it.
        ratio = np.where(middle > started, 0.7, 1.0)
        later = (free * relapse * width * np.exp(-ratio * (after.sum() - np.cumsum(after)))).sum()
        assert known["os", regime] == pytest.approx(free[-1] + later, abs=error + 1e-3)


def test_who_is_cured_and_the_hazards_of_the_others() -> None:
    cohort = cure.cohort_of("constant", 0)
    followed = cohort.endpoints["y"]
    share = 1.0 - float(np.mean(followed.event))
    # Nearly all others have had the event: 0.35 and 2 % of the rest, and binomial error.
    assert share == pytest.approx(0.35 + 0.65 * 0.02, abs=4 * math.sqrt(0.35 * 0.65 / 600))
    assert float(followed.time[~followed.event].min()) >= 48.0


def test_hazards_to_recover_are_those_simulated() -> None:
    for shape in recovery.HAZARDS:
        data = recovery.patients_of(shape, 20_000, np.random.default_rng(3))
        one = data.endpoints["y"]
        assert 35.0 < one.stop.max() <= 36.0
        fine = np.linspace(0.0, 36.0, 36_001)
        rate = np.exp(recovery.HAZARDS[shape]((fine[1:] + fine[:-1]) / 2.0))
        passed = np.concatenate([[0.0], np.cumsum(rate * np.diff(fine))])
        expected = np.interp(one.stop, fine, passed).sum()
        assert one.event.sum() == pytest.approx(expected, rel=4 / math.sqrt(expected))


def test_shares_and_bounds_of_the_page() -> None:
    rows = pd.DataFrame(
        {
            "patients": 86,
            "entry": "early",
            "baseline": "U",
            "ratio": 1.0,
            "model": "smooth",
            "shift": np.r_[np.full(80, 0.1), np.full(20, -0.3)],
            "failed": False,
            "covered": True,
            "success": np.arange(100) < 4,
            "sd_ratio": 1.0,
            "log_hazard": 0.25,
            "unexposed": 0.01,
            "exposed": 0.04,
        }
    )
    found = page.measures(rows, ["patients", "model"]).iloc[0]
    assert found["beyond"] == pytest.approx(0.2)
    assert found["shift"] == pytest.approx(0.02)
    assert found["size"] == pytest.approx(0.14)
    assert found["null"] == pytest.approx(0.04)
    assert found["log_hazard"] == pytest.approx(0.5)
    assert found["exposed"] == pytest.approx(0.2)
    cells = page.measures(rows, ["patients", "entry", "baseline", "ratio", "model"])
    # 20 of 100: the exact 99.9 % interval begins at 8.9 %.
    assert page.breaks(cells).all()
    assert not page.breaks(cells.assign(beyond=0.15)).any()
    assert page.breaks(cells.assign(beyond=0.0, shift=-0.21)).all()


def test_one_course_is_analysed_transition_by_transition() -> None:
    rows = pd.DataFrame(varying.analyse("illness_death", 86, 100_000))
    assert rows["truth"].tolist() == pytest.approx([math.log(x) for x in (0.5, 1.0, 0.7)])
    assert rows["companion_mean"].notna().all()
    # They share their priors: a short fit's Monte-Carlo error is 0.1 sds, and the default's
    # largest shifts at this size are 0.3.
    apart = (rows["mean"] - rows["companion_mean"]) / rows["companion_sd"]
    assert apart.abs().max() < 0.5
    assert (np.abs(rows["sd"] / rows["companion_sd"] - 1.0) < 0.25).all()


@pytest.mark.parametrize(
    ("name", "dim"), [("over_time", "interval"), ("since_entry, delay", "piece")]
)
def test_varying_effects_are_read_where_their_time_lies(name: str, dim: str) -> None:
    kind = varying.KINDS[name]
    cohort = varying.cohort_of(kind, kind.simulate(86, np.random.default_rng(5)))
    person_time = person_time_for(varying.definition_of(kind), cohort, varying.QUESTION)
    table = person_time.table
    begins = table["interval_start"].values
    if dim == "piece":
        begins = table["since"].values[table["role"].values == "exposed"]
    assert begins.size > 3
    draws = xr.Dataset(
        {
            kind.quantities[0].variable: (
                ("chain", "draw", "endpoint", dim),
                begins[None, None, None],
            )
        },
        coords={"endpoint": ["y"]},
    )
    for asked in kind.quantities:
        found = varying._read(draws, asked, person_time)
        assert found is not None
        at = float(asked.at or 0.0)
        (ends,) = np.append(begins[1:], np.inf)[begins == found[0]]
        assert found[0] <= at < ends
