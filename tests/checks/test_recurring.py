"""Checks of patients whose phases recur, against loops over their stays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.agreement import martingale_residuals, predicted_against_observed
from bayesblina.checks.pointwise import leave_one_out_total, log_likelihoods
from bayesblina.checks.replicates import replicated_events
from bayesblina.checks.weaknesses import weaknesses
from bayesblina.core.arrays import Floats
from bayesblina.hazards.log_hazards import log_hazard
from bayesblina.inference.fitting import Fit
from tests.recurring import CUTS, STEPS, drawn, step_at, tables

KINDS = ("current", *STEPS)


def hazards(fit: Fit) -> tuple[Floats, Floats]:
    """Reference hazards (draw, interval) and log ratios by step (draw, step), of no covariates."""
    shared = log_hazard(fit.posterior, fit.design, endpoint="os").shared
    first = fit.person_time.table["role"].values.tolist().index("reference")
    name = "log_hazard_ratio_by_piece"
    if name not in fit.posterior:
        return np.exp(shared[:, 0, :, first]), fit.posterior["log_hazard_ratio"].values[0, :, 0]
    return np.exp(shared[:, 0, :, first]), fit.posterior[name].values[0, :, 0]


def marks_of(kind: str, own: pd.DataFrame, end: float) -> list[float]:
    """Times at which a patient's state or interval may change: all that any measure can have."""
    steps = STEPS.get(kind, ())
    times = [0.0, *CUTS, end]
    had = {"time": 0.0, "dose": 0.0}
    for stay in own.sort_values("from").itertuples():
        begin, stop = float(stay[2]), float(stay[3])
        times += [begin, stop, *(begin + step for step in steps), *(stop + step for step in steps)]
        if kind in had and stay.drug in ("a", "b"):
            rate = 1.0 if kind == "time" else float(stay.given) / (stop - begin)  # type: ignore[arg-type]
            times += [begin + max(step - had[kind], 0.0) / rate for step in steps]
            had[kind] += rate * (stop - begin)
    return sorted({time for time in times if 0.0 <= time <= end})


@cache
def by_hand(kind: str) -> tuple[Floats, Floats, dict[tuple[int, int | None], Floats]]:
    """Log-likelihoods and expected events (draw, patient), and by interval and step (draw,)."""
    fit = drawn(kind)
    baseline, ratios = hazards(fit)
    slope = fit.posterior["coefficient"].values[0, :, 0, 0]
    patients, stays = tables(40, 3)
    centre = float((patients["sex"] == "m").mean())
    likelihood, expected = np.zeros((2, baseline.shape[0], len(patients)))
    cells: dict[tuple[int, int | None], Floats] = {}
    for number, person in enumerate(patients.itertuples()):
        own, end = stays[stays["id"] == person.id], float(person.time)  # type: ignore[arg-type]
        relative = np.exp(slope * ((person.sex == "m") - centre))
        edges = marks_of(kind, own, end)
        for low, high in pairwise(edges):
            middle = (low + high) / 2.0
            interval = int(np.searchsorted(CUTS, middle))
            step = step_at(kind, own, middle)
            hazard = baseline[:, interval] * relative
            if step is not None:
                hazard = hazard * np.exp(ratios[:, step])
            expected[:, number] += hazard * (high - low)
            cells[interval, step] = cells.get((interval, step), 0.0) + hazard * (high - low)
            if high == end and person.died:
                likelihood[:, number] += np.log(hazard)
    return likelihood - expected, expected, cells


@pytest.mark.parametrize("kind", KINDS)
def test_likelihoods_of_patients(kind: str) -> None:
    fit = drawn(kind)
    rows = np.arange(40)
    found = np.concatenate([values[0] for _, values in log_likelihoods(fit, rows)], axis=1)
    np.testing.assert_allclose(found, by_hand(kind)[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_expected_events_of_patients(kind: str) -> None:
    found = martingale_residuals(drawn(kind)).sel(endpoint="os")
    expected = by_hand(kind)[1]
    np.testing.assert_allclose(found["expected"], expected.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(found["sd"], expected.std(axis=0), rtol=1e-7, atol=1e-12)
    died = tables(40, 3)[0]["died"].to_numpy()
    np.testing.assert_allclose(found["residual"], died - expected.mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_expected_events_by_state(kind: str) -> None:
    fit = drawn(kind)
    found = replicated_events(fit, seed=1).sel(endpoint="os")["expected"]
    role = fit.person_time.table["role"].values
    steps = np.flatnonzero(role == "exposed")
    values = found.transpose("chain", "draw", "interval", "phase").values[0]
    cells = by_hand(kind)[2]
    for interval in range(3):
        for step, state in enumerate(steps):
            wanted = cells.get((interval, step), np.zeros(values.shape[0]))
            np.testing.assert_allclose(values[:, interval, state], wanted, rtol=1e-9, atol=1e-12)
        outside = values[:, interval][:, role == "reference"].sum(axis=1)
        np.testing.assert_allclose(outside, cells[interval, None], rtol=1e-9)


@pytest.mark.parametrize("kind", ["current", "since_end", "dose"])
def test_prediction_against_observed_adds_up(kind: str) -> None:
    patients = tables(40, 3)[0]
    last = float(patients["time"].max())
    table = predicted_against_observed(drawn(kind), times=[last], groups=1, landmark=0.0)
    expected = by_hand(kind)[1].mean(axis=0)
    assert table["expected"].sum() == pytest.approx(expected.sum(), rel=1e-9)
    assert table["events"].sum() == patients["died"].sum()


def test_leaving_out_and_prior_checks_run() -> None:
    fit = drawn("since_end", draws=200)
    found = leave_one_out_total(fit)
    rows = np.arange(40)
    values = np.concatenate([part[0] for _, part in log_likelihoods(fit, rows)], axis=1)
    # Prediction from the others is worse than from all, of the same likelihoods.
    within = np.log(np.exp(values).mean(axis=0)).sum()
    assert found.elpd + found.p_loo == pytest.approx(within, rel=1e-9)
    assert found.elpd < within
    prior = bb.priors.prior_predictive(fit.definition, fit.person_time, seed=2, draws=2000)
    # The exposed phase's is that of the first step: in it.
    ratio = np.log(prior["hazard_ratio"].values[:, 0, 0])
    sd = fit.definition.phases.prior.sd
    # The average over steps has the prior's sd, and the step departs from it.
    assert ratio.std() > sd
    assert abs(ratio.mean()) < 4.0 * ratio.std() / np.sqrt(2000)


def test_steps_without_events_are_told() -> None:
    """No event in the last step of four: its ratio is the prior's word and the others'."""
    fit = drawn("since_end")
    table = fit.person_time.table.copy(deep=True)
    last = table["phase"].values.tolist().index("a or b ended from 2")
    assert table["events"].values[0, :, last].sum() > 0
    assert not [one for one in weaknesses(fit) if "no event in" in one]
    table["events"].values[0, :, last] = 0
    changed = replace(fit, person_time=replace(fit.person_time, table=table))
    found = [one for one in weaknesses(changed) if "no event in" in one]
    assert found == [
        "os: no event in a or b ended from 2; its hazard ratio is what its prior and the other "
        "steps say"
    ]
