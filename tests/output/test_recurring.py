"""Results of a question by step, of patients whose phases recur: tables, figures, words, masks."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.baseline_gate import gate_of
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.convergence import Convergence
from bayesblina.output.analysis import Analysis
from bayesblina.output.report.steps import by_phase, withheld_by_step
from tests.recurring import STEPS, cohort, drawn, question, tables

CONVERGENCE = Convergence(
    table=pd.DataFrame({"parameter": ["a"], "r_hat": [1.0], "ess_bulk": [1e3], "ess_tail": [1e3]}),
    criteria=pd.DataFrame(
        {"criterion": ["largest R-hat"], "value": [1.0], "limit": ["< 1.01"], "passed": [True]}
    ),
)


@cache
def analysis(kind: str, minimum: int = 1) -> Analysis:
    """Analyse patients by draws of the prior: what is shown needs no posterior."""
    fit = drawn(kind, draws=100)
    companion = partial_posterior(fit.definition, fit.person_time, seed=1, draws=200)
    fit = replace(
        fit,
        companion=companion,
        convergence=CONVERGENCE,
        gate=gate_of(fit.posterior, companion.draws, stated=companion.table),
    )
    return bb.analyse(
        cohort(),
        fit.question,
        fit=fit,
        minimum_count=minimum,
        starts=() if kind == "dose" else (1.0,),
        landmark=0.0,
        progress=False,
    )


def words_of(page: str) -> str:
    """Take the text of a page."""
    text = re.sub(r"<svg.*?</svg>|<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


@pytest.mark.parametrize("kind", tuple(STEPS))
def test_a_question_by_step_is_answered_by_step(kind: str, tmp_path: Path) -> None:
    found = analysis(kind)
    table = found.tables["hazard_ratios_by_step"]
    by_step = bb.hazard_ratio(found.fit, over="step")
    assert table["step"].tolist() == by_step["step"].values.tolist()
    medians = by_step["hazard_ratio"].median(("chain", "draw")).values[0]
    np.testing.assert_allclose(table["median"], medians)
    assert table["companion_median"].notna().all()
    assert "hazard_ratio_by_step" in found.figures
    folder = found.write(tmp_path / "results")
    assert (folder / "hazard_ratio_by_step.svg").exists()
    page = (folder / "report.html").read_text(encoding="utf-8")
    text = words_of(page)
    assert all(name in text for name in table["step"])
    assert f"hazard ratio by {by_step.attrs['scale']}" in text
    assert "hazard ratio of a or b, averaged over its steps, against" in text
    assert "stays in phases, which may recur" in text
    assert f"Here the walk is over the steps of {by_step.attrs['scale']}: " in text
    assert 'id="steps-0"' in page


def test_one_ratio_has_no_steps() -> None:
    found = analysis("current")
    assert "hazard_ratios_by_step" not in found.tables
    assert "hazard_ratio_by_step" not in found.figures


def test_steps_with_few_events_are_masked(tmp_path: Path) -> None:
    """Two of the steps have few events, and so nothing is told by step, whatever is asked for."""
    fit = analysis("since_end").fit
    table = fit.person_time.table
    exposed = table["role"].values == "exposed"
    events = table["events"].sum(("endpoint", "interval", "pattern")).values[exposed]
    assert ((events > 0) & (events < 5)).any()
    masked = analysis("since_end", minimum=5)
    assert masked.tables["hazard_ratios_by_step"].empty
    assert "hazard_ratio_by_step" not in masked.figures
    folder = masked.write(tmp_path / "results")
    text = words_of((folder / "report.html").read_text(encoding="utf-8"))
    assert "masked: few events or patients are in a step" in text


def test_where_steps_follow_from_events_hidden_ones_hide_them() -> None:
    """How many steps there are tells of the events of all endpoints."""
    fit = analysis("cycles").fit
    everybody = set(fit.person_time.endpoints)
    assert withheld_by_step(fit, 1, ()) == set()
    assert withheld_by_step(fit, 1, ["other"]) == {"other"}
    chosen = replace(fit, question=replace(fit.question, steps=None))
    assert withheld_by_step(chosen, 1, ["other"]) == everybody


def test_steps_are_one_phase_of_a_masked_account() -> None:
    """Time in the phase, before its end, has the phase's own name: it is joined with the others."""
    fit = drawn("since_end")
    flow = fit.person_time.account().table
    joined = by_phase(flow, fit)
    rows = joined[joined["what"] == "exposed"]
    assert rows["phase"].tolist() == ["a or b"]
    separate = flow[flow["what"] == "exposed"]
    assert len(separate) == 4
    assert rows["events"].iloc[0] == separate["events"].sum()
    assert rows["patients"].iloc[0] == tables(40, 3)[1].query("drug != 'c'")["id"].nunique()


def test_curves_say_where_nobody_has_the_history() -> None:
    found = analysis("since_end")
    table = found.tables["survival_by_landmark"]
    for landmark, rows in table.groupby("landmark"):
        regimes: list[Regime] = [
            bb.Never(),
            bb.From(1.0 if landmark == 0.0 else float(str(landmark))),
        ]
        times = np.sort(rows["time"].unique())
        curves = bb.survival(found.fit, regimes=regimes, times=times, landmark=float(str(landmark)))
        wanted = curves["supported"].to_series().rename("wanted").reset_index()
        both = rows.merge(wanted, on=["endpoint", "regime", "time"])
        assert len(both) == len(rows)
        assert (both["supported"] == both["wanted"]).all()
    assert not table["supported"].all()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("current", "at a phase's end the patient returns to off treatment"),
        ("since_end", "steps begin after 0.5, 2"),
        ("time", "by what has been had of it so far) against"),
        ("cycles", "by how much, in cycles, has been had of it so far"),
        ("dose", "at a phase's end the patient keeps what has been had, whatever phase follows"),
        ("episode", "steps begin with 2, 3"),
    ],
)
def test_the_estimand_names_the_measure(kind: str, words: str) -> None:
    assert words in " | ".join(question(kind).estimand().values())


def test_a_lag_of_what_has_been() -> None:
    lagged = replace(question("since_end"), lag=1.5)
    assert "what has been counts 1.5 later than it was" in lagged.estimand()["treatment"]
