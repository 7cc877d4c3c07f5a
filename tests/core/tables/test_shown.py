"""Results show themselves as tables."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

import bayesblina as bb
from bayesblina import tables
from bayesblina.inference.convergence import Convergence
from bayesblina.inference.fitting import Fit
from bayesblina.studies.calibration import Calibration
from bayesblina.studies.what_if.reading import Holds, Sensitivity
from tests.core.tables.examples import (
    criteria,
)


def failing(fit: Fit) -> Fit:
    gate = Convergence(table=fit.convergence.table, criteria=criteria(False))
    return dataclasses.replace(fit, convergence=gate)


def test_a_fit_shows_itself(synthetic_fit: Fit) -> None:
    shown = synthetic_fit._repr_html_()
    assert "86 synthetic patients" in shown
    assert "<td>passed</td>" in shown
    assert "NOT CONVERGED" not in shown
    failed = failing(synthetic_fit)._repr_html_()
    assert "NOT CONVERGED, do not use: divergences is 3 (must be 0)" in failed


def test_checks_show_themselves(synthetic_fit: Fit) -> None:
    checks = bb.check(synthetic_fit)
    assert checks.passed
    # A patient's Pareto k lies so near the limit that another processor's draws decide.
    checks = dataclasses.replace(
        checks, loo=checks.loo.assign(reliable=True), weaknesses=checks.weaknesses[:1]
    )
    assert repr(checks) == (
        "Checks(converged; the baseline does not move the hazard ratio; 3 of 3 LOO estimates "
        "reliable; 1 weakness; 1 note)"
    )
    told = re.match(
        r"os: the prior of the hazard ratio moves it from (\d\.\d\d) to (\d\.\d\d) ",
        checks.weaknesses[0],
    )
    assert told is not None
    without, with_prior = map(float, told.groups())
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    # Cox has neither prior, and a mode for a median: apart by less than a tenth of the sd of 0.5.
    wanted = bb.cox(cohort, synthetic_fit.question, adjusted=True).set_index("endpoint")["estimate"]
    assert abs(np.log(without / wanted["os"])) < 0.05
    median = bb.summary(bb.hazard_ratio(synthetic_fit)).set_index("endpoint")["companion_median"]
    assert with_prior == pytest.approx(median["os"], abs=0.01)
    assert "nothing is declared of how events are recorded" in checks.notes[0]
    shown = checks._repr_html_()
    # Convergence, baseline, event times, pulls, leave one out, events by interval.
    assert shown.count("<table>") == 6
    assert "Convergence: passed" in shown
    failed = dataclasses.replace(
        checks, convergence=failing(synthetic_fit).convergence, notes=("<b>", "left out")
    )
    assert repr(failed).startswith("Checks(NOT CONVERGED; the baseline does not move")
    assert not failed.passed
    assert "NOT CONVERGED" in failed._repr_html_()
    assert "&lt;b&gt;" in failed._repr_html_()
    assert repr(failed.convergence) == ("Convergence(NOT CONVERGED; divergences is 3 (must be 0))")


def test_predictions_show_no_patients(synthetic_fit: Fit) -> None:
    prediction = bb.loo(synthetic_fit)
    compared = bb.compare({"a": synthetic_fit, "b": synthetic_fit})
    error = float(compared["se"].iloc[0])
    for text in (repr(prediction), prediction._repr_html_()):
        assert "SYN-" not in text
        assert "86 synthetic patients" in text
        assert f"SE {error:.1f}" in text
    assert "NOT CONVERGED" in dataclasses.replace(prediction, converged=False)._repr_html_()


def test_summaries_know_that_patients_are_synthetic(synthetic_fit: Fit) -> None:
    ratios = bb.hazard_ratio(synthetic_fit)
    found = bb.summary(ratios)
    assert found.attrs == {"synthetic": True, "unit": "months"}
    assert bb.probabilities(ratios, thresholds=[0.8]).attrs["synthetic"] is True
    table = tables.estimates(found, kind="ratio", quantity="HR")
    assert table.notes == (tables.SYNTHETIC,)
    for text, row in zip(table.rows, found.to_dict("records"), strict=True):
        shown = f"{row['median']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        assert text[1] == shown


def test_scenarios_show_themselves() -> None:
    rows = [
        {
            "scenario": f"lag = {index}<b>",
            "status": "converged",
            "reason": "",
            "endpoint": "os",
            "median": 0.5,
            "lower": 0.3,
            "upper": 0.8,
            "probability_below_1": 0.98,
            "key": str(index),
        }
        for index in range(50)
    ]
    found = Sensitivity(table=pd.DataFrame(rows), axes=("lag",), synthetic=True)
    shown = found._repr_html_()
    assert "the first 40 rows and 10 more" in shown
    assert "synthetic patients" in shown
    assert "<b>" not in shown
    holds = Holds(
        endpoint="<i>",
        direction="higher",
        source="given",
        probability=0.975,
        ratio=0.8,
        holds=1,
        of=2,
        not_in=("lag = 1",),
        without_answer=(),
    )
    assert holds._repr_html_().startswith(
        "<p>&lt;i&gt;: the conclusion, that the hazard is higher (P(HR &gt; 1) at least 0.975, "
        "median &gt; 1.25), holds in 1 of 2"
    )


def test_other_results_show_themselves() -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    question = bb.Question(
        exposed="maintenance", eligible_from="consolidation", transplant="censor"
    )
    table = bb.simulate.adverse_events(cohort, seed=1)
    events = bb.safety.adverse_events(
        table, cohort, patient="patient_id", term="term", start="month", transplant="ignore"
    )
    weighted = bb.weighting.starting_weights(cohort, question, endpoint="os")
    for value in (events, weighted):
        shown = value._repr_html_()
        assert "Synthetic patients." in shown
        assert "SYN-" not in shown
    import xarray as xr

    calibration = Calibration(
        ranks=xr.DataArray(np.zeros((7, 1)), dims=("replication", "parameter")),
        table=pd.DataFrame({"parameter": ["level<os>"], "p_value": [0.0005]}),
        divergent=2,
    )
    assert repr(calibration) == (
        "Calibration(FAILED; 7 replications of 1 parameters; 2 with divergent transitions)"
    )
    assert "level&lt;os&gt;" in calibration._repr_html_()
