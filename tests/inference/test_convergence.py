"""The convergence gate: each limit from both sides, each parameter's name, and words of failure."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayesblina.inference import convergence
from bayesblina.inference.convergence import (
    Convergence,
    assess_convergence,
    assess_weights,
    ess_bulk,
    ess_tail,
    rhat,
)

SHAPE = (4, 500)
LIMITS = {
    "largest R-hat": "< 1.01",
    "smallest bulk ESS": "> 400",
    "smallest tail ESS": "> 400",
    "divergences": "0",
    "smallest BFMI": "> 0.3",
}


def draws(divergences: int = 0) -> xr.DataTree:
    """Three parameters, one of them with two dimensions that stand before those of the draws."""
    random = np.random.default_rng(7)
    effect = random.normal(size=(2, 2, *SHAPE))
    posterior = xr.Dataset(
        {
            "level": (("chain", "draw"), random.normal(size=SHAPE)),
            "effect": (("endpoint", "phase", "chain", "draw"), effect),
            "rate": (("draw", "chain", "endpoint"), random.normal(size=(500, 4, 2))),
        },
        coords={"endpoint": ["os", "rfs"], "phase": ["early", "late"]},
    )
    diverging = np.zeros(SHAPE, dtype=bool)
    diverging.flat[:divergences] = True
    stats = xr.Dataset(
        {
            "energy": (("chain", "draw"), random.normal(size=SHAPE)),
            "diverging": (("chain", "draw"), diverging),
        }
    )
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


def test_a_row_for_each_parameter() -> None:
    tree = draws()
    posterior = tree["posterior"].to_dataset()
    found = assess_convergence(tree).table.set_index("parameter")
    assert found.columns.tolist() == ["r_hat", "ess_bulk", "ess_tail"]
    named = {
        "level": posterior["level"].values,
        "effect[os, early]": posterior["effect"].values[0, 0],
        "effect[os, late]": posterior["effect"].values[0, 1],
        "effect[rfs, early]": posterior["effect"].values[1, 0],
        "effect[rfs, late]": posterior["effect"].values[1, 1],
        "rate[os]": posterior["rate"].values[:, :, 0].T,
        "rate[rfs]": posterior["rate"].values[:, :, 1].T,
    }
    assert found.index.tolist() == list(named)
    for name, values in named.items():
        one = values[:, :, None]
        expected = [float(how(one)[0]) for how in (rhat, ess_bulk, ess_tail)]
        assert found.loc[[name]].to_numpy()[0].tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("criterion", "name", "values", "passed"),
    [
        ("largest R-hat", "rhat", [1.0, 1.0099, 1.0], True),
        ("largest R-hat", "rhat", [1.0, 1.01, 1.0], False),
        ("largest R-hat", "rhat", [1.0, np.nan, 1.0], False),
        ("smallest bulk ESS", "ess_bulk", [900.0, 400.5, 900.0], True),
        ("smallest bulk ESS", "ess_bulk", [900.0, 400.0, 900.0], False),
        ("smallest bulk ESS", "ess_bulk", [900.0, np.nan, 900.0], False),
        ("smallest tail ESS", "ess_tail", [900.0, 400.5, 900.0], True),
        ("smallest tail ESS", "ess_tail", [900.0, 400.0, 900.0], False),
        ("smallest tail ESS", "ess_tail", [900.0, np.nan, 900.0], False),
    ],
)
def test_the_worst_parameter_decides(
    monkeypatch: pytest.MonkeyPatch, criterion: str, name: str, values: list[float], passed: bool
) -> None:
    good = {"rhat": 1.0, "ess_bulk": 900.0, "ess_tail": 900.0}
    for one, value in good.items():
        monkeypatch.setattr(convergence, one, lambda _, value=value: np.full(7, value))
    monkeypatch.setattr(convergence, name, lambda _: np.array([*values, *[good[name]] * 4]))
    found = assess_convergence(draws())
    criteria = found.criteria.set_index("criterion")
    assert criteria["limit"].to_dict() == LIMITS
    assert criteria.loc[criterion, "value"] == pytest.approx(values[1], nan_ok=True)
    expected = dict.fromkeys(LIMITS, True) | {criterion: passed}
    assert criteria["passed"].to_dict() == expected
    assert found.passed is passed
    # All of these hang on the number of draws.
    assert found.sampled_well


def test_one_divergence_is_too_many() -> None:
    found = assess_convergence(draws(divergences=1))
    criteria = found.criteria.set_index("criterion")
    assert criteria.loc["divergences", "value"] == 1.0
    assert criteria["passed"].to_dict() == dict.fromkeys(LIMITS, True) | {"divergences": False}
    assert not found.sampled_well
    assert found.failures() == ["divergences is 1 (must be 0)"]
    assert repr(found) == "Convergence(NOT CONVERGED; divergences is 1 (must be 0))"
    assert repr(assess_convergence(draws())) == "Convergence(passed; 7 parameters)"
    assert "NOT CONVERGED" in found._repr_html_()
    assert "Convergence: passed" not in found._repr_html_()
    assert "Convergence: passed" in assess_convergence(draws())._repr_html_()


def test_bfmi_is_that_of_the_worst_chain() -> None:
    tree = draws()
    energy = tree["sample_stats"].to_dataset()["energy"].values
    # Steps of 0.3 sds in the second chain only.
    energy[1] = np.cumsum(np.random.default_rng(2).normal(size=SHAPE[1]))
    expected = min(np.square(np.diff(one)).sum() / 499 / one.var() for one in energy)
    found = assess_convergence(tree).criteria.set_index("criterion").loc["smallest BFMI"]
    assert found["value"] == pytest.approx(expected, rel=1e-12)
    assert expected < 0.3
    assert not found["passed"]


def weighed(*rows: tuple[str, str, float, float]) -> Convergence:
    """Endpoint, method, Pareto k and effective draws of each."""
    random = np.random.default_rng(3)
    endpoints = [row[0] for row in rows]
    values = random.normal(size=(len(rows), 2, *SHAPE))
    posterior = xr.Dataset(
        {"log_hazard_ratio": (("endpoint", "effect", "chain", "draw"), values)},
        coords={"endpoint": endpoints, "effect": ["late", "later"]},
    )
    columns = ["endpoint", "method", "pareto_k", "effective_draws"]
    return assess_weights(posterior, pd.DataFrame(list(rows), columns=columns))


@pytest.mark.parametrize(
    ("rows", "values", "passed"),
    [
        ([("os", 0.69, 401.0), ("rfs", 0.1, 900.0)], (0.69, 401.0), (True, True)),
        ([("os", 0.1, 900.0), ("rfs", 0.7, 400.0)], (0.7, 400.0), (False, False)),
        ([("os", 0.1, 900.0), ("rfs", 0.8, 500.0)], (0.8, 500.0), (False, True)),
    ],
)
def test_weights_have_criteria_of_their_own(
    rows: list[tuple[Any, ...]], values: tuple[float, float], passed: tuple[bool, bool]
) -> None:
    found = weighed(*((name, "importance", shape, size) for name, shape, size in rows))
    assert found.criteria["criterion"].tolist() == [
        "largest Pareto k",
        "smallest effective number of draws",
    ]
    assert found.criteria["limit"].tolist() == ["< 0.7", "> 400"]
    assert tuple(found.criteria["value"]) == values
    assert tuple(found.criteria["passed"]) == passed
    assert found.passed is all(passed)
    assert found.sampled_well is passed[0]
    assert found.table["parameter"].tolist() == [
        f"log_hazard_ratio[{endpoint}, {effect}]"
        for endpoint in ("os", "rfs")
        for effect in ("late", "later")
    ]
    shapes = [shape for _, shape, _ in rows for _ in range(2)]
    assert found.table["pareto_k"].tolist() == shapes
    assert found.table["r_hat"].isna().all()
    assert (found.table[["ess_bulk", "ess_tail"]] > 1_000).all(axis=None)


def test_hamiltonian_draws_have_no_pareto_k() -> None:
    found = weighed(("os", "importance", 0.2, 800.0), ("rfs", "hamiltonian", 2.0, 700.0))
    assert found.criteria["value"].tolist() == [0.2, 700.0]
    # Of each parameter that of its endpoint, however many parameters there are.
    values = np.random.default_rng(1).normal(size=(*SHAPE, 2))
    posterior = xr.Dataset(
        dict.fromkeys(("one", "other"), (("chain", "draw", "endpoint"), values)),
        coords={"endpoint": ["rfs", "os"]},
    )
    rows = [("os", "importance", 0.2, 800.0), ("rfs", "importance", 0.3, 700.0)]
    columns = ["endpoint", "method", "pareto_k", "effective_draws"]
    both = assess_weights(posterior, pd.DataFrame(rows, columns=columns)).table
    assert both["parameter"].tolist() == ["one[rfs]", "one[os]", "other[rfs]", "other[os]"]
    assert both["pareto_k"].tolist() == [0.3, 0.2, 0.3, 0.2]
    alone = weighed(("os", "hamiltonian", 2.0, 700.0))
    assert alone.criteria["value"].tolist() == [float("-inf"), 700.0]
    assert alone.passed
