"""Fits held against themselves with a freer baseline."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina.checks.refit import compare_with_refit, more_cuts, with_refit
from bayesblina.inference.baseline_gate import not_compared
from bayesblina.inference.companion import Companion
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.answer import compared
from bayesblina.output.report.wording import plain


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1).cohort


def test_more_cuts_where_patients_enter(synthetic_fit: Fit) -> None:
    person_time = synthetic_fit.person_time
    cuts = more_cuts(person_time)
    assert set(person_time.cuts) <= set(cuts)
    assert (np.diff(cuts) > 0).all()
    # Every fresh cut has an entry (or an event) just after it, and one just before.
    fresh = np.setdiff1d(cuts, person_time.cuts)
    assert fresh.size >= 7
    people, episodes = person_time.people, person_time.episodes
    times = np.unique(
        np.concatenate([people["exit"].values[people["event"].values], episodes["start"].values])
    )
    after = np.searchsorted(times, fresh)
    np.testing.assert_allclose(fresh, (times[after - 1] + times[after]) / 2.0, rtol=1e-12)


def test_a_fit_is_held_against_itself(synthetic_fit: Fit, cohort: bb.Cohort) -> None:
    assert with_refit(synthetic_fit, cohort) is synthetic_fit
    settings = dataclasses.replace(synthetic_fit.provenance.settings, draws=1000, tune=1000)
    short = dataclasses.replace(
        synthetic_fit, provenance=dataclasses.replace(synthetic_fit.provenance, settings=settings)
    )
    gate = compare_with_refit(short, cohort)
    assert gate.against.startswith("itself with twice the cuts where patients enter and a step sd")
    assert gate.state in ("passed", "told")
    assert gate.table["shift"].abs().max() < 0.25
    alone = dataclasses.replace(
        short,
        companion=Companion(draws=None, table=pd.DataFrame(), reason="not compared: no such thing"),
        gate=not_compared("no such thing", ("os", "rfs")),
    )
    ratios = bb.summary(bb.hazard_ratio(alone)).to_dict("records")
    assert plain(compared(ratios[0], alone)) == (
        "Not compared with a model without a baseline: no such thing."
    )
    held = dataclasses.replace(alone, gate=gate)
    table = bb.summary(bb.hazard_ratio(held))
    assert set(table["baseline"]) <= {"passed", "told"}
    words = plain(compared(table.to_dict("records")[0], held))
    assert "no such thing. Compared with itself with twice the cuts" in words
