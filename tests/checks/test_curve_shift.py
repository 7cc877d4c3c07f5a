"""Curves against free jumps, and fits against themselves with a freer baseline."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks.refit import (
    compare_with_refit,
    curve_shift,
    free_model,
    more_cuts,
    with_refit,
)
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.regimes import Regime
from bayesblina.inference.baseline_gate import not_compared
from bayesblina.inference.companion import Companion
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.wording import compared, curves_in_words, plain

QUESTION = bb.Question(exposed="maintenance", eligible_from="consolidation", transplant="censor")
REGIMES: list[Regime] = [bb.Never(), bb.From(8.0)]


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    return bb.simulate.blinatumomab_cohort(seed=1).cohort


def test_curves_of_the_free_model_are_where_they_are(synthetic_fit: Fit, cohort: bb.Cohort) -> None:
    """Curves that are the free model's own are less than Monte-Carlo error from it."""
    free = bb.fit(cohort, QUESTION, model="free", seed=5, progress=False)
    times = np.linspace(8.0, 34.0, 14)
    curves = bb.survival(free, regimes=REGIMES, landmark=8.0, times=times)
    found = curve_shift(synthetic_fit, cohort, curves, regimes=REGIMES)
    assert list(found["regime"]) == ["never", "from 8"] * 2
    # 1,000 draws against 4,000: sd 0.035; the largest of 14 dependent ones in four curves.
    assert found["largest"].max() < 0.16
    # A curve that is moved by two sds of the free one at one time is found there.
    at = {"endpoint": "rfs", "regime": "never", "time": times[6]}
    sd = float(curves["survival"].sel(at).std())
    where = xr.DataArray(times == times[6], coords={"time": times})
    never = xr.DataArray([1.0, 0.0], coords={"regime": ["never", "from 8"]})
    moved = curves.assign(survival=curves["survival"] - 2.0 * sd * where * never)
    again = curve_shift(synthetic_fit, cohort, moved, regimes=REGIMES)
    row = again[(again["endpoint"] == "rfs") & (again["regime"] == "never")].iloc[0]
    assert row["time"] == times[6]
    assert row["largest"] == pytest.approx(2.0, abs=0.2)
    assert row["survival_free"] - row["survival"] == pytest.approx(
        row["largest"] * row["sd_free"], rel=1e-9
    )


def test_words_of_curves() -> None:
    row = {"endpoint": "os", "regime": "never", "largest": 1.04, "time": 27.0}
    table = pd.DataFrame([row | {"survival": 0.536, "survival_free": 0.62, "sd_free": 0.08}])
    assert curves_in_words(table, "months") == [
        "os, never: furthest from a baseline that jumps at the event times at 27.0 months, "
        "survival 0.54 against 0.62, 1.0 standard deviations"
    ]
    assert curves_in_words(None, "months") == []


def test_models_without_a_counterpart_say_so() -> None:
    assert free_model(bb.load_model("primary")).phases == bb.load_model("primary").phases
    for name in ("over_time", "frailty", "correlated", "mixture_cure", "shared_baseline"):
        with pytest.raises(EstimandError, match=f"Model '{name}' has no counterpart"):
            free_model(bb.load_model(name))


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
