"""Classical methods where phases recur, against loops over patients and their stays."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.classical import bias_ladder, ever_never
from bayesblina.core.arrays import Bools
from bayesblina.core.errors import SpecError
from tests.recurring import STEPS, cohort, drawn_of, question, read, step_at, tables

KINDS = ("current", *STEPS)


@cache
def exposed_at(kind: str) -> tuple[list[float], Bools, Bools]:
    """Event times, whether each patient is at risk then, and whether exposed, in any step."""
    patients, stays = tables(40, 3)
    times = sorted(patients.loc[patients["died"] == 1, "time"].tolist())
    at_risk = np.array([[end >= time for end in patients["time"]] for time in times])
    inside = np.array(
        [
            [step_at(kind, stays[stays["id"] == who], time) is not None for who in patients["id"]]
            for time in times
        ]
    )
    return times, at_risk, inside & at_risk


@pytest.mark.parametrize("kind", KINDS)
def test_cox_by_any_step(kind: str) -> None:
    """The score of the partial likelihood is 0 at the estimate; its information is the width."""
    patients, _ = tables(40, 3)
    times, at_risk, inside = exposed_at(kind)
    row = bb.cox(cohort(), question(kind), ties="breslow").iloc[0]
    log_ratio, score, information = np.log(row["estimate"]), 0.0, 0.0
    ends = patients["time"].to_numpy()
    for position, time in enumerate(times):
        died = inside[position][(ends == time) & (patients["died"] == 1)][0]
        exposed, everybody = inside[position].sum(), at_risk[position].sum()
        share = exposed * np.exp(log_ratio)
        share = share / (share + everybody - exposed)
        score += died - share
        information += share * (1.0 - share)
    assert score == pytest.approx(0.0, abs=1e-6)
    width = np.log(row["upper"]) - np.log(row["lower"])
    assert width == pytest.approx(2 * 1.959963984540054 / np.sqrt(information), rel=1e-6)
    own = [inside[n][(ends == t) & (patients["died"] == 1)][0] for n, t in enumerate(times)]
    assert row["events_exposed"] == sum(own)
    assert row["events_reference"] == len(times) - sum(own)


@pytest.mark.parametrize("kind", KINDS)
def test_mantel_byar_by_any_step(kind: str) -> None:
    patients, _ = tables(40, 3)
    times, at_risk, inside = exposed_at(kind)
    ends = patients["time"].to_numpy()
    # Nobody dies at the same time as another.
    assert len(set(times)) == len(times)
    shares = np.array([inside[n].sum() / at_risk[n].sum() for n in range(len(times))])
    own = [inside[n][(ends == t) & (patients["died"] == 1)][0] for n, t in enumerate(times)]
    found = bb.mantel_byar(cohort(), question(kind)).sel(endpoint="os")
    assert float(found["observed"]) == sum(own)
    assert float(found["expected"]) == pytest.approx(shares.sum())
    assert float(found["variance"]) == pytest.approx((shares * (1 - shares)).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_simon_makuch_by_the_current_state(kind: str) -> None:
    """Each patient counts where she is now: out of the group in a gap, and in it again after."""
    patients, _ = tables(40, 3)
    times, at_risk, inside = exposed_at(kind)
    ends = patients["time"].to_numpy()
    curves = bb.simon_makuch(cohort(), question(kind), landmark=0.0)
    for label, group in (("a or b", inside), ("no a or b", at_risk & ~inside)):
        rows = curves[(curves["group"] == label) & (curves["events"] > 0)]
        survival, wanted = 1.0, []
        for position, time in enumerate(times):
            died = group[position][(ends == time) & (patients["died"] == 1)][0]
            if died:
                survival *= 1.0 - 1.0 / group[position].sum()
                wanted.append((time, group[position].sum(), survival))
        found = rows[["time", "at_risk", "survival"]].to_numpy()
        np.testing.assert_allclose(found, np.array(wanted), rtol=1e-9, atol=1e-12)
    counts = bb.numbers_at_risk(cohort(), question(kind), times=times[5:8], landmark=0.0)
    held = counts[counts["group"] == "a or b"]["at_risk"].tolist()
    assert held == inside[5:8].sum(axis=1).tolist()


def test_the_ladder_of_a_set_of_phases() -> None:
    """One patient's two stays are one exposure; between them she is not exposed."""
    patients = pd.DataFrame(
        {
            "id": ["p", "q", "r", "s"],
            "time": [6.0, 5.0, 4.0, 7.0],
            "died": [1, 1, 1, 0],
            "sex": ["f", "f", "m", "m"],
        }
    )
    stays = pd.DataFrame(
        {
            "id": ["p", "p", "q"],
            "from": [1.0, 4.5, 1.0],
            "to": [2.0, 6.0, 3.0],
            "drug": ["a", "b", "a"],
            "given": [1.0, 1.0, 1.0],
        }
    )
    small = read(patients, stays)
    current = question("current")
    # r dies while nobody is in it, q while p is, p alone in it beside s.
    found = bb.mantel_byar(small, current).sel(endpoint="os")
    assert (float(found["observed"]), float(found["expected"])) == (1.0, 1 / 3 + 1 / 2)
    rows = bias_ladder(small, current, landmarks=[1.5]).set_index("method")
    assert rows.loc["landmark at 1.5", "events_exposed"] == 2
    never = ever_never(small, current).iloc[0]
    # p and q are ever exposed; r and s never.
    assert (never["events_exposed"], never["events_reference"]) == (2, 1)


@pytest.mark.parametrize("kind", ["since_end", "cycles"])
def test_the_ladder_takes_fits_whose_model_chose_the_steps(kind: str) -> None:
    asked = replace(question(kind), steps=None)
    fit = drawn_of(bb.load_model("since_entry"), cohort(), asked, draws=10)
    cuts = fit.person_time.phase_cuts
    assert cuts is not None
    assert cuts.size > 1
    rows = bias_ladder(cohort(), asked, fit=fit)
    assert rows["method"].tolist()[-1] == "Bayesian"
    other = read(*tables(40, 9), covariates=("sex",))
    with pytest.raises(SpecError, match="of other patients"):
        bias_ladder(other, asked, fit=fit)
