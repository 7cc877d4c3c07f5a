"""What stands beside each hazard ratio, from draws that are written down."""

from dataclasses import make_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayesblina.estimands.ratios import beside, without_baseline
from bayesblina.inference.fitting import Fit

NAMES = ["os", "rfs"]
STATES = {"os": "passed", "rfs": "failed"}


def fit_of(error: list[float] | None = None, event_times: bool = False) -> Any:
    table = pd.DataFrame({"endpoint": ["rfs", "os"], "effective_draws": [4_000.0, 5_000.0]})
    if error is not None:
        table["error"] = error
    times = pd.DataFrame({"endpoint": ["rfs", "os"], "state": ["passed", "failed"]})
    return SimpleNamespace(
        gate=SimpleNamespace(state_of=STATES.__getitem__),
        companion=SimpleNamespace(table=table),
        event_times=SimpleNamespace(table=times) if event_times else None,
    )


def test_without_a_companion_there_is_the_state_alone() -> None:
    own = np.zeros((2, 5, 2, 3))
    found = beside(fit_of(), own, None, ("endpoint", "interval"), NAMES)
    assert list(found) == ["baseline"]
    dims, values = found["baseline"]
    assert dims == ("endpoint", "interval")
    assert values.tolist() == [["passed"] * 3, ["failed"] * 3]
    found = beside(fit_of(event_times=True), own, None, ("endpoint", "interval"), NAMES)
    assert found["event_times"][0] == ("endpoint",)
    assert found["event_times"][1].tolist() == ["failed", "passed"]


def normal(mean: Any, sd: float, shape: tuple[int, ...], seed: int) -> Any:
    return np.random.default_rng(seed).normal(mean, sd, shape)


def test_the_companions_own_ratios() -> None:
    """By endpoint and interval: each is judged by its own draws, and its endpoint's own words."""
    means = np.array([[0.0, 0.5, -0.5], [0.0, 0.0, 1.0]])
    shift = np.array([[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]])
    own = normal(means + shift, 0.2, (4, 3_000, 2, 3), 1)
    other = normal(means, 0.2, (1, 5_000, 2, 3), 2)
    found = beside(fit_of(), own, other, ("endpoint", "interval"), NAMES)
    assert all(dims == ("endpoint", "interval") for dims, _ in found.values())
    flat = other[0]
    for name, expected in (
        ("companion_median", np.exp(np.median(flat, axis=0))),
        ("companion_lower", np.exp(np.quantile(flat, 0.025, axis=0))),
        ("companion_upper", np.exp(np.quantile(flat, 0.975, axis=0))),
        ("companion_probability_below_1", (flat < 0).mean(axis=0)),
    ):
        np.testing.assert_allclose(found[name][1].astype(float), expected, rtol=1e-12)
    distance = own.mean(axis=(0, 1)) - flat.mean(axis=0)
    expected = distance / flat.std(axis=0, ddof=1)
    np.testing.assert_allclose(found["baseline_shift"][1].astype(float), expected, rtol=1e-3)
    assert found["baseline"][1].tolist() == [["passed"] * 3, ["failed", "passed", "passed"]]
    # A companion that says its own mean may be as far off clears it: told, no failure.
    stated = beside(fit_of([0.5, np.nan]), own, other, ("endpoint", "interval"), NAMES)
    assert stated["baseline"][1].tolist() == [["passed"] * 3, ["told", "passed", "passed"]]
    # The other endpoint's error does not.
    stated = beside(fit_of([np.nan, 0.5]), own, other, ("endpoint", "interval"), NAMES)
    assert stated["baseline"][1][1, 0] == "failed"


def ratios(fit: Fit) -> Any:
    return fit.draws["posterior"].to_dataset()["log_hazard_ratio"].values.tolist()


@pytest.mark.parametrize(
    ("fitted", "companion", "there"),
    [
        (("log_hazard_ratio", "level"), ("log_hazard_ratio",), True),
        (("log_hazard_ratio", "log_hazard_ratio_by_piece"), ("log_hazard_ratio",), False),
        (("level",), ("log_hazard_ratio",), True),
    ],
)
def test_a_fit_without_its_baseline(
    fitted: tuple[str, ...], companion: tuple[str, ...], there: bool
) -> None:
    def drawn(names: tuple[str, ...], value: float) -> xr.Dataset:
        return xr.Dataset({name: (("chain", "draw"), np.full((1, 2), value)) for name in names})

    kind = make_dataclass("Known", ["draws", "companion", "posterior"], frozen=True)
    own = drawn(fitted, 1.0)
    fit: Any = kind(xr.DataTree(), SimpleNamespace(draws=drawn(companion, 2.0)), own)
    found = without_baseline(fit)
    assert (found is not None) is there
    if found is not None:
        assert ratios(found) == [[2.0, 2.0]]
    given: Any = SimpleNamespace(draws=drawn((*fitted, *companion), 3.0))
    found = without_baseline(fit, given)
    assert found is not None
    assert ratios(found) == [[3.0, 3.0]]
    assert without_baseline(fit, SimpleNamespace(draws=None)) is None  # type: ignore[arg-type]
