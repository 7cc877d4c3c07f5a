"""Single lines that a change would leave unseen, each with the number that shows it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.episodes import (
    ALL_FOLLOW_UP,
    before_first,
    lay_out,
    marked_bounds,
    state_bounds,
)
from bayesblina.estimands.averages import changes_of
from bayesblina.inference.convergence import assess_convergence


def draws_with(correlation: float) -> xr.DataTree:
    """Independent draws of one parameter; the energy is an autoregression."""
    generator = np.random.default_rng(3)
    shape = (4, 4000)
    shocks = generator.normal(size=shape)
    energy = np.empty(shape)
    energy[:, 0] = shocks[:, 0]
    spread = np.sqrt(1.0 - correlation**2)
    for draw in range(1, shape[1]):
        energy[:, draw] = correlation * energy[:, draw - 1] + spread * shocks[:, draw]
    dims = ("chain", "draw")
    posterior = xr.Dataset({"level": (dims, generator.normal(size=shape))})
    stats = xr.Dataset({"energy": (dims, energy), "diverging": (dims, np.zeros(shape, dtype=bool))})
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


@pytest.mark.parametrize(("correlation", "passed"), [(0.8, True), (0.9, False)])
def test_bfmi_below_three_tenths_fails(correlation: float, passed: bool) -> None:
    """BFMI of an autoregression is 2 (1 - correlation): 0.4 and 0.2 (Betancourt 2016)."""
    found = assess_convergence(draws_with(correlation))
    criteria = found.criteria.set_index("criterion")
    bfmi = criteria.loc["smallest BFMI"]
    assert bfmi["value"] == pytest.approx(2 * (1 - correlation), abs=0.05)
    assert bool(bfmi["passed"]) is passed
    assert criteria.drop("smallest BFMI")["passed"].all()
    assert found.passed is passed


def test_who_is_at_risk_at_a_landmark_that_times_meet_by_rounding() -> None:
    """0.1 + 0.2 is 0.3: who enters then is at risk just after it, who leaves then is not."""
    met = 0.1 + 0.2
    assert met > 0.3
    table = pd.DataFrame(
        {
            "id": ["enters", "enters too", "leaves", "stays"],
            "entry": [met, met, 0.0, 0.0],
            "time": [2.0, 2.5, met, 2.0],
            "event": [1, 1, 1, 0],
            "start": [1.0, 1.0, 0.2, 1.0],
        }
    )
    declared: dict[str, Any] = {
        "patient": "id",
        "unit": "months",
        "endpoints": {"os": bb.Endpoint(time="time", event="event", entry="entry")},
        "phases": bb.Phases(maintenance="start"),
    }
    question = bb.Question(exposed="maintenance", eligible_from="entry")
    for cohort in (bb.scan_cohort(table, **declared), bb.read_cohort(table, **declared)):
        found = bb.person_time(cohort, question, cuts=[1.5], landmarks=[0.3])
        assert found.at_risk(0.3).tolist() == [[3.0]]


def test_a_piece_that_begins_with_the_lag_is_entered_then() -> None:
    table = xr.Dataset(
        {
            "treatment": ("phase", ["before", "late", "late", "late"]),
            "since": ("phase", [0.0, 0, 2, 4]),
        }
    )

    def entered(lag: float) -> list[tuple[float, int]]:
        fit: Any = SimpleNamespace(
            person_time=SimpleNamespace(table=table, layout=None),
            question=bb.Question(exposed="late", eligible_from="entry", lag=lag),
        )
        return changes_of(fit, bb.From(8.0))

    assert entered(2.0) == [(10.0, 2), (12.0, 3)]
    assert entered(1.0) == [(9.0, 1), (10.0, 2), (12.0, 3)]
    assert entered(0.0) == [(8.0, 1), (10.0, 2), (12.0, 3)]
    assert entered(5.0) == [(13.0, 3)]


def test_without_lags_a_phase_counts_from_its_start() -> None:
    starts = np.array([[1.0, 4.0], [np.nan, 3.0]])
    bounds, names, state = state_bounds(["early", "late"], starts)
    assert bounds.T.tolist() == [[0.0, 1.0, 4.0, np.inf], [0.0, 3.0, 3.0, np.inf]]
    assert names == ("before early", "early", "late")
    assert state.tolist() == [0, 1, 2]
    # The lag of the exposed phase, and of no other.
    lagged = lay_out(["early", "late"], exposed="late", lag=2.0).marks
    bounds = marked_bounds(lagged, starts[:1], starts[:1], None)
    assert bounds.T.tolist() == [[0.0, 1.0, 6.0, np.inf]]


def test_the_state_before_the_first_phase() -> None:
    assert before_first(["early", "late"]) == "before early"
    assert before_first([]) == ALL_FOLLOW_UP
