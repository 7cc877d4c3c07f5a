"""Estimates are printed with their intervals and their marks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina import tables
from tests.core.tables.examples import (
    summary,
)


def test_estimates() -> None:
    table = tables.estimates(summary(), kind="ratio", quantity="HR", diagnostics=True)
    assert table.head == (
        "endpoint",
        "HR (95% interval)",
        "P(HR < 1)",
        "MCSE",
        "bulk ESS",
        "tail ESS",
        "R-hat",
    )
    assert table.rows[0] == (
        "os",
        "0.45 (0.22 to 0.91)",
        "0.984",
        "0.0012",
        "3012",
        "2012",
        "1.000",
    )
    assert table.rows[1][1:3] == ("0.81 (0.45 to 1.40)", "0.76")
    assert table.numeric == (False, True, True, True, True, True, True)
    assert table.notes == ()


def test_what_did_not_converge_says_so() -> None:
    for table in (
        tables.estimates(summary(converged=False), kind="ratio"),
        tables.estimates(summary(converged=[True, False]), kind="ratio"),
        tables.publish(summary(converged=False)),
    ):
        assert table.notes == (tables.NOT_CONVERGED,)
        assert tables.NOT_CONVERGED in table.to_html()
        assert "NOT CONVERGED" in table.to_latex()
        assert "NOT CONVERGED" in table.to_markdown()
    # Where rows differ, each says which it is.
    mixed = tables.estimates(summary(converged=[True, False]), kind="ratio")
    assert [row[-1] for row in mixed.rows] == ["yes", "no"]


def test_synthetic_patients_are_named_by_attribute_or_argument() -> None:
    found = summary()
    found.attrs["synthetic"] = True
    assert tables.estimates(found, kind="ratio").notes == (tables.SYNTHETIC,)
    assert tables.estimates(summary(), kind="ratio", synthetic=True).notes == (tables.SYNTHETIC,)


def test_times_beyond_the_horizon_are_only_known_to_lie_there() -> None:
    found = pd.DataFrame(
        {
            "endpoint": ["os"],
            "regime": ["from 8"],
            "median": [np.inf],
            "lower": [14.52],
            "upper": [np.inf],
            "probability_reached": [0.4],
        }
    )
    found.attrs["unit"] = "months"
    table = tables.estimates(found, kind="time", quantity="median OS")
    assert table.rows == (("os", "from 8", "not reached (14.5 to not reached)", "0.40"),)


def test_bias_ladder_keeps_its_warnings() -> None:
    rows = [
        ("os", "ever against never", 0.25, 0.12, 0.5, 86, 39, "biased: exposed before"),
        ("os", "landmark at 8", np.nan, np.nan, np.nan, 60, 20, "no finite estimate"),
        ("os", "Bayesian", 0.45, 0.23, 0.93, 86, 39, "NOT CONVERGED"),
    ]
    columns = ["endpoint", "method", "estimate", "lower", "upper", "patients", "events", "note"]
    table = tables.bias_ladder(pd.DataFrame(rows, columns=columns))
    assert table.head[2] == "hazard ratio (95% interval)"
    assert table.rows[0] == (
        "os",
        "ever against never",
        "0.25 (0.12 to 0.50)",
        "86",
        "39",
        "biased: exposed before",
    )
    assert table.rows[1][2] == "–"
    assert table.notes == (tables.NOT_CONVERGED,)


def test_scenarios_show_no_numbers_that_did_not_converge() -> None:
    found = pd.DataFrame(
        {
            "scenario": ["base case", "lag = 1", "lag = 99"],
            "status": ["converged", "not converged", "failed"],
            "reason": ["", "largest R-hat is 1.2", "no events"],
            "endpoint": ["os", "os", None],
            "median": [0.5, 0.6, np.nan],
            "lower": [0.3, 0.4, np.nan],
            "upper": [0.8, 0.9, np.nan],
            "probability_below_1": [0.98, 0.97, np.nan],
        }
    )
    table = tables.scenarios(found, synthetic=True)
    assert table.rows == (
        ("base case", "os", "0.50 (0.30 to 0.80)", "0.980", "converged"),
        ("lag = 1", "os", "–", "–", "not converged: largest R-hat is 1.2"),
        ("lag = 99", "", "–", "–", "failed: no events"),
    )
