"""The gate of events found at visits: other intervals, and the other mechanism."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import bayesblina as bb
from bayesblina.core.arrays import Floats
from bayesblina.inference.baseline_gate import BaselineGate
from bayesblina.inference.visit_gate import WITHIN, doubled, halved, visit_gate

QUESTION = bb.Question(exposed="m", eligible_from="c", starts_until="event")


def draws(mean: float, sd: float = 0.1, seed: int = 1) -> xr.Dataset:
    values = np.random.default_rng(seed).normal(size=(2, 1000, 1, 1))
    values = mean + sd * (values - values.mean()) / values.std()
    return xr.Dataset(
        {"log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), values)},
        coords={"endpoint": ["y"], "effect": ["m"]},
    )


def gate(fewer: float, more: float, other: float = 0.0) -> tuple[BaselineGate, tuple[str, ...]]:
    """Judge a fit whose log hazard ratio is 0, against others."""

    def refit(asked: bb.Question, cuts: Floats | None) -> xr.Dataset:
        assert asked.endpoints == ("y",)
        if cuts is None:
            assert asked.starts_until == "found"
            return draws(other, seed=4)
        if cuts.size == 1:
            return draws(fewer, seed=2)
        assert cuts.size == 5
        return draws(more, seed=3)

    return visit_gate(
        draws(0.0),
        QUESTION,
        visited=["y"],
        cuts={"y": np.array([12.0, 24.0])},
        last=36.0,
        exact=None,
        refit=refit,
    )


def test_cut_points_are_halved_and_doubled() -> None:
    np.testing.assert_allclose(halved(np.array([6.0, 12.0, 18.0, 24.0])), [12.0, 24.0])
    np.testing.assert_allclose(doubled(np.array([12.0]), 36.0), [6.0, 12.0, 24.0])
    assert halved(np.empty(0)).size == 0


@pytest.mark.parametrize(
    ("fewer", "more", "state"),
    [
        (0.0, 0.0, "passed"),
        (0.03, 0.0, "told"),
        (0.1, 0.0, "failed"),
        # What visits cannot see is told, however much it moves.
        (0.0, 0.3, "told"),
        (0.1, 0.3, "failed"),
    ],
)
def test_what_moves_the_answer(fewer: float, more: float, state: str) -> None:
    judged, _ = gate(-fewer, -more)
    assert judged.state == state
    reason = str(judged.table["reason"].iloc[0])
    # Spreads are equal here: the only reason is that of more intervals.
    assert (WITHIN in reason) == (state == "told" and more > fewer)


def test_the_other_mechanism_is_told() -> None:
    _, (note,) = gate(0.0, 0.0, other=-0.25)
    assert note.startswith("y: if treatment goes on until the event is found")
    assert "is -0.25 (sd 0.10) for " in note
    assert "-2.5 sds away; the data cannot tell which holds" in note


def test_what_the_other_mechanism_does_not_take_is_said() -> None:
    lagged = bb.Question(exposed="m", eligible_from="c", starts_until="found", lag=1.0)
    _, (note,) = visit_gate(
        draws(0.0),
        lagged,
        visited=["y"],
        cuts={"y": np.array([12.0, 24.0])},
        last=36.0,
        exact=None,
        refit=lambda *_: draws(0.0, seed=2),
    )
    assert "the other mechanism (starts_until='event') cannot be asked" in note
