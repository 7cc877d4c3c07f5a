"""Scenarios around a base case: laid out, checked, and each with its own patients."""

from __future__ import annotations

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from bayesblina.studies.axes import AXES
from tests.studies.scenarios import GRID, QUESTION


def test_one_at_a_time_full_and_explicit(cohort: bb.Cohort) -> None:
    one = bb.scenarios(cohort, QUESTION, GRID)
    assert [each.label for each in one] == [
        "base case",
        "lag = 0.5",
        "lag = 1",
        "lag = 1.5",
        "transplant = ignore",
        "prior.phases = 0.5 to 2",
        "prior.phases = 0.1 to 10",
    ]
    full = bb.scenarios(cohort, QUESTION, GRID, design="full")
    assert len(full) == 4 * 2 * 3
    assert len({each.key for each in full}) == 24
    assert full[0].label == "base case"
    # The base case's own setting is no scenario of its own.
    assert len(bb.scenarios(cohort, QUESTION, {"lag": [0.0, 1.0]})) == 2
    added = bb.scenarios(
        cohort, QUESTION, {"lag": [1.0]}, explicit=[{"lag": 2.0, "transplant": "ignore"}]
    )
    assert added[-1].question.lag == 2.0
    assert added[-1].question.transplant == "ignore"
    assert dict(added[1].settings) == {"lag": "1", "transplant": "base"}


def test_every_axis_reaches_the_analysis(cohort: bb.Cohort) -> None:
    found = {
        name: bb.scenarios(cohort, QUESTION, {name: [value]})[1]
        for name, value in {
            "landmark": 5.0,
            "eligible_from": "entry",
            "reference": "consolidation",
            "endpoints": ("os",),
            "intervals": 3,
            "cuts": [6.0],
            "model": "weibull",
            "prior.step": (0.2, 5.0),
            "prior.level": (0.1, 10.0),
            "covariates": ["marrow_blasts"],
            "only": ("age_group", "55+"),
        }.items()
    }
    base = bb.scenarios(cohort, QUESTION)[0].person_time(cohort, seed=1)

    def exposed(name: str) -> bb.PersonTime:
        return found[name].person_time(cohort, seed=1)

    assert np.nanmin(exposed("landmark").people["begin"].values) == 5.0
    assert exposed("eligible_from").people.sizes["patient"] == 267
    assert set(exposed("reference").table["role"].values) == {"exposed", "reference"}
    assert exposed("endpoints").endpoints == ("os",)
    # Three parts of the events, and the cuts where patients enter.
    assert np.isin(exposed("intervals").cuts, base.cuts).sum() > 10
    assert 3 + 10 < exposed("intervals").table.sizes["interval"] < base.table.sizes["interval"]
    assert exposed("cuts").cuts.tolist() == [6.0]
    assert found["model"].model.name == "weibull"
    assert found["prior.step"].model.baseline.step.hazard_ratio == (0.2, 5.0)  # type: ignore[union-attr]
    assert found["prior.level"].model.baseline.level.hazard_ratio == (0.1, 10.0)  # type: ignore[union-attr]
    assert list(exposed("covariates").table["term"].values) == ["marrow_blasts"]
    older = exposed("only").people.sizes["patient"]
    rest = bb.scenarios(cohort, QUESTION, {"without": [("age_group", "55+")]})[1]
    assert (
        older + rest.person_time(cohort, seed=1).people.sizes["patient"]
        == (base.people.sizes["patient"])
    )
    # A covariate alone is each of its levels in turn.
    levels = cohort.covariates["age_group"].levels
    assert len(bb.scenarios(cohort, QUESTION, {"without": ["age_group"]})) == 1 + len(levels)
    assert len(AXES) == len(set(AXES))


def test_phase_starts_are_moved(cohort: bb.Cohort) -> None:
    late, early, noisy = (
        bb.scenarios(cohort, QUESTION, {name: [value]})[1].cohort(cohort, seed=3)
        for name, value in (("phase_shift", 0.5), ("phase_shift", -0.2), ("phase_jitter", 0.3))
    )
    index = cohort.phases.index("maintenance")
    before = cohort.phase_start[:, index]
    started = np.isfinite(before)
    for moved, shift in ((late, 0.5), (early, -0.2)):
        after = moved.phase_start[:, index]
        assert (np.isfinite(after) == started).all()
        change = (after - before)[started]
        assert set(np.round(change, 9)) <= {0.0, shift}
        assert (change != 0).sum() > 25
    change = (noisy.phase_start[:, index] - before)[started]
    assert 0.15 < change.std() < 0.45
    others = np.delete(noisy.phase_start, index, axis=1)
    np.testing.assert_array_equal(others, np.delete(cohort.phase_start, index, axis=1))
    # An error belongs to the patient: it does not change with who else is analysed.
    some = bb.scenarios(
        cohort, QUESTION, explicit=[{"phase_jitter": 0.3, "only": ("age_group", "55+")}]
    )[1].cohort(cohort, seed=3)
    mine = np.isin(cohort.patients, some.patients)
    np.testing.assert_array_equal(some.phase_start[:, index], noisy.phase_start[mine, index])


def test_impossible_scenarios_are_named_before_anything_runs(cohort: bb.Cohort) -> None:
    with pytest.raises(SpecError) as caught:
        bb.scenarios(
            cohort,
            QUESTION,
            {"landmark": [500.0], "lag": [-1.0], "model": ["frailty"], "prior.spread": [(0.5, 2)]},
        )
    text = str(caught.value)
    assert "4 of 5 scenarios cannot be asked" in text
    assert "landmark = 500: " in text
    assert "lag = -1: lag must be a length of time from 0 on" in text
    assert "model = frailty: Model 'frailty' needs a covariate as its group" in text
    assert "prior.spread = 0.5 to 2: Model 'primary' has no prior 'spread'" in text
    kept = bb.scenarios(cohort, QUESTION, {"landmark": [500.0]}, invalid="row")
    assert len(kept) == 2
    for axes, words in (
        ({"lags": [1.0]}, "No axis 'lags'"),
        ({"lag": 1.0}, "give a list"),
        ({"intervals": [0]}, "at least 1"),
        ({"without": ["age"]}, "no categorical covariate 'age'"),
        ({"only": [("age_group", "100+")]}, "has no level"),
        ({"covariates": [["age"]]}, "No covariate 'age'"),
        ({"phase_jitter": [-1.0]}, "must not be negative"),
        ({"phase_shift": ["x"]}, "finite number"),
    ):
        with pytest.raises(SpecError, match=words):
            bb.scenarios(cohort, QUESTION, axes)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="design must be"):
        bb.scenarios(cohort, QUESTION, design="some")  # type: ignore[arg-type]
