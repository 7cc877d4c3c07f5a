"""What is read off fits of phases that recur: ratios by step, means, averages, courses, support."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.regimes import Between, Cycles, Regime
from bayesblina.hazards.log_hazards import log_hazard
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort
from tests.recurring import CUTS, STEPS, drawn, drawn_of, question, read, step_at, tables

KINDS = ("current", *STEPS)
# No step, cut or stay begins inside a piece of this width.
WIDTH = 0.25
HORIZON, GRID = 6.0, np.arange(0.0, 6.0, WIDTH) + WIDTH / 2


@cache
def bare(kind: str) -> Fit:
    """A fit without covariates."""
    model = bb.load_model("primary" if kind == "current" else "since_entry")
    return drawn_of(model, read(*tables(40, 3)), question(kind), draws=20)


def regimes_of(kind: str) -> list[tuple[Regime, pd.DataFrame]]:
    """Regimes, and the stays of somebody under them."""
    given = 2.0 if kind == "dose" else None
    columns = ["from", "to", "drug", "given"]
    between = pd.DataFrame([(1.0, 3.0, "a", 2.0)], columns=columns)
    rows = [(0.5, 1.5, "a", 2.0), (2.0, 3.0, "a", 2.0), (3.5, 4.5, "a", 2.0)]
    return [
        (bb.Never(), between.iloc[:0]),
        (Between(1.0, 3.0, given), between),
        (Cycles(0.5, on=1.0, off=0.5, times=3, dose=given), pd.DataFrame(rows, columns=columns)),
    ]


def path_of(kind: str, own: pd.DataFrame) -> Floats:
    """Hazards at the middles of pieces (draw, piece)."""
    fit = bare(kind)
    shared = np.exp(log_hazard(fit.posterior, fit.design, endpoint="os").shared[:, 0])
    role = fit.person_time.table["role"].values
    name = "log_hazard_ratio" if kind == "current" else "log_hazard_ratio_by_piece"
    ratios = np.exp(fit.posterior[name].values[0, :, 0])
    first = role.tolist().index("reference")
    steps = [step_at(kind, own, float(time)) for time in GRID]
    factor = np.stack(
        [np.ones(shared.shape[0]) if step is None else ratios[:, step] for step in steps], axis=1
    )
    return np.asarray(shared[:, np.searchsorted(CUTS, GRID), first] * factor)


@pytest.mark.parametrize("kind", KINDS)
def test_restricted_means_under_each_regime(kind: str) -> None:
    regimes = regimes_of(kind)
    found = bb.rmst(
        bare(kind), horizon=HORIZON, landmark=0.0, regimes=[regime for regime, _ in regimes]
    )["rmst"].sel(endpoint="os")
    for position, (_, own) in enumerate(regimes):
        passed = np.cumsum(path_of(kind, own), axis=1) * WIDTH
        before = np.concatenate([np.zeros((passed.shape[0], 1)), passed[:, :-1]], axis=1)
        # Within a piece hazards are constant.
        width = passed - before
        mean = np.exp(-before) * np.where(width > 0, -np.expm1(-width) / width, 1.0) * WIDTH
        values = found.isel(regime=position).values[0]
        np.testing.assert_allclose(values, mean.sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_average_hazard_ratios_of_regimes(kind: str) -> None:
    """Log ratios of hazards, averaged with the mean of both densities of events."""
    (never, nothing), _, (cycles, own) = regimes_of(kind)
    found = bb.average_hazard_ratio(
        bare(kind), regime=cycles, against=never, landmark=0.0, horizon=HORIZON
    )
    values = next(iter(found.data_vars.values())).sel(endpoint="os").values[0]
    paths = [path_of(kind, stays) for stays in (own, nothing)]
    alive = [np.exp(-np.cumsum(path, axis=1) * WIDTH) for path in paths]
    density = sum(-np.diff(each, axis=1, prepend=1.0) for each in alive)
    log_ratio = np.log(paths[0] / paths[1])
    average = (density * log_ratio).sum(axis=1) / density.sum(axis=1)  # type: ignore[union-attr]
    # The rule of five points is exact to this where hazards are not beyond all measure.
    kept = np.max([path.max(axis=1) for path in paths], axis=0) < 2.0
    assert kept.sum() >= 10
    np.testing.assert_allclose(np.log(values)[kept], average[kept], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_regime_is_supported_while_anybody_is_in_its_step(kind: str) -> None:
    patients, stays = tables(40, 3)
    times = np.linspace(0.13, HORIZON - 0.07, 20)
    for regime, own in regimes_of(kind):
        curves = bb.survival(bare(kind), regimes=[regime], landmark=0.0, times=times)
        found = curves["supported"].sel(endpoint="os", regime=regime.label).values
        for time, known in zip(times.tolist(), found.tolist(), strict=True):
            at_risk = patients[patients["time"] >= time]["id"]
            seen = {step_at(kind, stays[stays["id"] == who], time) for who in at_risk}
            step = step_at(kind, own, time)
            if step is not None:
                assert known == (step in seen), (kind, regime.label, time)


@pytest.mark.parametrize("kind", tuple(STEPS))
def test_ratios_by_step(kind: str) -> None:
    fit = drawn(kind)
    found = bb.hazard_ratio(fit, over="step")
    np.testing.assert_allclose(
        np.log(found["hazard_ratio"].values),
        fit.posterior["log_hazard_ratio_by_piece"].values,
        atol=1e-12,
    )
    begins = {
        "since_end": [np.nan, 0.0, 0.5, 2.0],
        "episode": [1.0, 2.0, 3.0],
    }.get(kind, [0.0, *STEPS[kind]])
    np.testing.assert_array_equal(found["begins"].values, begins)
    assert found["begins"].dims == ("step",)
    scale = {
        "since_entry": "months since entering a or b",
        "since_end": "months since the end of a or b",
        "time": "months of a or b so far",
        "cycles": "cycles of a or b so far",
        "dose": "dose of a or b so far",
        "episode": "episode of a or b",
    }[kind]
    assert found.attrs["scale"] == scale
    table = bb.summary(found)
    np.testing.assert_array_equal(table["begins"], begins)
    axis = bb.plots.hazard_ratio_over_time(found).axes[0]
    assert axis.get_xlabel() == scale


def test_regimes_without_doses_are_refused() -> None:
    with pytest.raises(EstimandError, match="says nothing of doses"):
        bb.rmst(bare("dose"), horizon=HORIZON, landmark=0.0, regimes=[bb.Never(), bb.From(1.0)])


def illness_cohort() -> Cohort:
    """Read patients who relapse and die, with stays."""
    patients, stays = tables(60, 4)
    random = np.random.default_rng(4)
    relapsed = random.random(60) < 0.5
    patients["free"] = np.where(relapsed, patients["time"] * 0.6, patients["time"])
    patients["failed"] = np.where(relapsed, 1, patients["died"])
    endpoints = {
        "os": bb.Endpoint(time="time", event="died"),
        "rfs": bb.Endpoint(time="free", event="failed"),
    }
    return read(patients, stays, endpoints=endpoints)


def illness_death(asked: bb.Question, *, stepped: bool = False) -> Fit:
    """Draw a fit of them."""
    model: Any = bb.load_model("illness_death")
    if stepped:
        model = bb.load_model("since_entry").model_copy(update={"endpoints": model.endpoints})
    return drawn_of(model, illness_cohort(), asked, draws=10)


def test_courses_of_remission_and_relapse_under_cycles() -> None:
    """Who is in remission has had neither event: the two hazards, summed along the path."""
    fit = illness_death(question("current"))
    regime, own = regimes_of("current")[2]
    found = bb.state_occupancy(fit, regimes=[regime], times=[2.75, HORIZON], landmark=0.0)
    remission = found["probability"].isel(regime=0).sel(state="in remission").values[0]
    passed = np.zeros((10, GRID.size))
    first = fit.person_time.table["role"].values.tolist().index("reference")
    inside = np.array([step_at("current", own, float(time)) is not None for time in GRID])
    for number, name in enumerate(fit.person_time.endpoints[:2]):
        shared = np.exp(log_hazard(fit.posterior, fit.design, endpoint=name).shared[:, 0])
        ratio = np.exp(fit.posterior["log_hazard_ratio"].values[0, :, number, 0])
        hazard = shared[:, np.searchsorted(CUTS, GRID), first]
        passed += hazard * np.where(inside, ratio[:, None], 1.0)
    wanted = [np.exp(-passed[:, time > GRID].sum(axis=1) * WIDTH) for time in (2.75, HORIZON)]
    np.testing.assert_allclose(remission, np.stack(wanted, axis=1), rtol=1e-9)


def test_courses_are_refused_where_steps_go_on_after_a_relapse() -> None:
    fit = illness_death(question("since_end"), stepped=True)
    for ask in (bb.survival, bb.state_occupancy):
        with pytest.raises(EstimandError, match="stays in the treatment state of that moment"):
            ask(fit, regimes=[Between(1.0, 3.0)], landmark=0.0)
    # An analysis refuses them before it samples.
    patients, asked = illness_cohort(), question("since_end")
    with pytest.raises(EstimandError, match="stays in the treatment state of that moment"):
        bb.analyse(patients, asked, model=fit.definition, seed=1, progress=False)
    # Episodes begin with stays alone, which a regime gives those in remission.
    counted = illness_death(question("episode"), stepped=True)
    bb.survival(counted, regimes=[Between(1.0, 3.0)], landmark=0.0)
