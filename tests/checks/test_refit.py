"""What a fit is held against where there is no companion: the second fit as it is asked for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.checks import refit
from bayesblina.checks.refit import compare_with_refit, more_cuts, with_refit
from bayesblina.hazards.build import CAREFUL
from bayesblina.inference.companion import Companion
from bayesblina.inference.fitting import Fit
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime
from tests.estimands.written_fits import written_fit

QUESTION = bb.Question(exposed="late", eligible_from="entry")
NOTHING = Companion(draws=None, table=pd.DataFrame(), reason="not compared: no such thing")


def cohort_of(late: list[Any], entry: list[float] | None = None) -> Cohort:
    """Eight patients who die at 2, 4, ... 16; some are compared by their number."""
    size = len(late)
    return bb.read_cohort(
        pd.DataFrame(
            {
                "id": [f"p{row}" for row in range(size)],
                "time": 2.0 * np.arange(1, size + 1),
                "died": [1] * size,
                "first": entry or [0.0] * size,
                "late": late,
                "score": np.arange(size) / 4.0,
            }
        ),
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died", entry="first")},
        phases=bb.Phases(late="late"),
        covariates=["score"],
    )


COHORT = cohort_of([None, 1.0, 3.0, 5.0, 3.5, None, None, 7.0])


def posterior() -> xr.Dataset:
    draws = np.random.default_rng(1).normal(0.3, 0.2, (4, 500, 1, 1))
    return xr.Dataset(
        {"log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), draws)},
        coords={"endpoint": ["os"], "effect": ["late"]},
    )


def fit_of(*, model: str = "primary", weights: Any = None, compress: bool | None = None) -> Fit:
    definition = bb.load_model(model)
    person_time = person_time_for(
        definition, COHORT, QUESTION, cuts=[6.0], weights=weights, compress=compress
    )
    return written_fit(person_time, QUESTION, definition, posterior(), companion=NOTHING)


class Second:
    """In the place of the second fit: notes what is asked for, and gives it."""

    def __init__(self, again: Fit) -> None:
        self.again = again

    def __call__(
        self, definition: Any, person_time: PersonTime, question: Any, **named: Any
    ) -> Fit:
        self.definition, self.person_time, self.question = definition, person_time, question
        self.named = named
        return self.again


def test_a_second_fit_is_the_same_but_freer(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fit_of()
    second = Second(fit)
    monkeypatch.setattr(refit, "fit_person_time", second)
    gate = compare_with_refit(fit, COHORT)
    assert gate.state == "passed"
    assert gate.against == "itself with twice the cuts where patients enter and a step sd of 3"
    assert second.definition.baseline.step.sd == pytest.approx(3.0)
    assert second.definition.phases == fit.definition.phases
    assert second.question is QUESTION
    assert second.person_time.cuts.tolist() == more_cuts(fit.person_time).tolist()
    assert second.person_time.compression is None
    assert second.person_time.table.sizes["pattern"] == 8
    assert set(second.named) == {"seed", "settings", "complete"}
    assert (second.named["seed"], second.named["complete"]) == (7, False)
    assert second.named["settings"] == replace(
        fit.provenance.settings, draws=2000, target_accept=CAREFUL
    )
    # Where the ratio moves by several sds, the gate says so.
    moved = written_fit(fit.person_time, QUESTION, fit.definition, posterior() + 1.0)
    monkeypatch.setattr(refit, "fit_person_time", Second(moved))
    assert compare_with_refit(fit, COHORT).state == "failed"


def test_a_second_fit_has_the_weights_and_the_nodes_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = np.linspace(0.5, 2.0, 8)
    fit = fit_of(weights=weights, compress=True)
    second = Second(fit)
    monkeypatch.setattr(refit, "fit_person_time", second)
    compare_with_refit(fit, COHORT)
    np.testing.assert_allclose(second.person_time.people["weight"].values, weights)
    assert second.person_time.compression is not None


def test_a_baseline_without_known_steps_stays_as_smooth(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fit_of(model="weibull")
    second = Second(fit)
    monkeypatch.setattr(refit, "fit_person_time", second)
    gate = compare_with_refit(fit, COHORT)
    assert gate.against == "itself with twice the cuts where patients enter"
    assert second.definition == fit.definition


@pytest.mark.parametrize(
    ("shift", "state"), [(0.0, "not compared"), (1.0, "failed")], ids=["passed", "failed"]
)
def test_draws_that_cannot_be_read_clear_nobody(
    monkeypatch: pytest.MonkeyPatch, shift: float, state: str
) -> None:
    """A failure stays one."""
    fit = fit_of()
    again = written_fit(
        fit.person_time, QUESTION, fit.definition, posterior() + shift, converged=False
    )
    monkeypatch.setattr(refit, "fit_person_time", Second(again))
    gate = compare_with_refit(fit, COHORT)
    assert gate.state == state
    words = "itself with twice the cuts where patients enter and a step sd of 3 (which did not c"
    assert words in gate.words()
    if state == "not compared":
        assert list(gate.table["endpoint"]) == ["os"]
        assert "is what it would be compared with" in gate.words()


def test_only_a_fit_without_a_companion_is_held_against_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit = fit_of()
    monkeypatch.setattr(refit, "fit_person_time", Second(fit))
    found = with_refit(fit, COHORT)
    assert found.gate.state == "passed"
    assert found.companion is NOTHING
    own = replace(fit, companion=replace(NOTHING, draws=posterior()))
    assert with_refit(own, COHORT) is own
    # Of events found at visits the gate has compared with other intervals already.
    visited = replace(fit, person_time=replace(fit.person_time, visits=xr.Dataset()))
    assert with_refit(visited, COHORT) is visited
    with pytest.raises(TypeError, match=r"^fit: expected Fit, got Cohort"):
        with_refit(COHORT, COHORT)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^cohort: expected Cohort, got Fit"):
        with_refit(fit, fit)  # type: ignore[arg-type]


# Cuts.


def cuts_of(cohort: Cohort, *, question: bb.Question = QUESTION, cuts: Any = (6.0,)) -> list[float]:
    found = more_cuts(bb.person_time(cohort, question, cuts=list(cuts)))
    return [round(one, 9) for one in found.tolist()]


def test_cuts_where_patients_enter() -> None:
    """Between each entry, at 1, 3, 3.5, 5 and 7, and the event or entry before it.

    14 quantiles from 5 to 95 % of five entries are all of them. The first has none before it.
    """
    # Events at 2, 4, 6, ...: before 3 comes 2, before 3.5 comes 3, before 5 comes 4, before 7 six.
    assert cuts_of(COHORT) == [2.5, 3.25, 4.5, 6.0, 6.5]


def test_cuts_where_patients_come_under_observation() -> None:
    """Late at 1.5 and 3; who begins at 0 does not come late."""
    cohort = cohort_of([None, None, None, 5.0, None], [0.0, 1.5, 3.0, 0.0, 0.0])
    # Before 3 comes the event at 2; before 5 that at 4.
    assert cuts_of(cohort) == [1.75 + 0.75, 4.5, 6.0]


def test_kinds_of_entry_have_quantiles_of_their_own() -> None:
    """Forty entries into one phase leave some out; the one into the other phase is there."""
    size = 40
    early = 1.0 + np.arange(size) / 10.0
    late: list[Any] = [None] * (size - 1) + [45.0]
    table = pd.DataFrame(
        {
            "id": [f"p{row}" for row in range(size)],
            "time": 50.0 + np.arange(size),
            "died": [1] * size,
            "early": early,
            "late": late,
        }
    )
    cohort = bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="time", event="died")},
        phases=bb.Phases(early="early", late="late"),
    )
    person_time = bb.person_time(cohort, QUESTION, cuts=[60.0])
    found = more_cuts(person_time)
    shares = np.linspace(0.05, 0.95, 14)
    entered = np.quantile(early, shares, method="inverted_cdf")
    # The neighbour before each is a tenth of a month earlier; that of 45 is the last entry, 4.9.
    expected = np.unique([*(entered - 0.05), (4.9 + 45.0) / 2.0, 60.0])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_cuts_stay_where_nobody_enters() -> None:
    cohort = cohort_of([0.0, 0.0, 0.0, None, None])
    assert cuts_of(cohort, cuts=(3.0, 6.0)) == [3.0, 6.0]


def test_cuts_that_are_there_are_not_made_again() -> None:
    """The fresh ones at 2.5 and 4.5 are those given, but for rounding."""
    given = (2.5 * (1.0 + 1e-12), 4.5 * (1.0 - 1e-12))
    assert cuts_of(COHORT, cuts=given) == [2.5, 3.25, 4.5, 6.5]
