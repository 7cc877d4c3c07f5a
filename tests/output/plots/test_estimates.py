"""Densities, forests and ladders show the numbers given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bayesblina import plots
from tests.output.plots.examples import (
    areas,
    labels,
    lines,
    ratios,
    summary,
    texts,
)


def test_hostile_labels_are_text() -> None:
    rows = pd.DataFrame(
        {
            "what": ["$\\frac{1}{0}$", "a_b^c {x} \\ & % #", "two\nlines"],
            "median": 0.5,
            "lower": 0.4,
            "upper": 0.6,
        }
    )
    figure = plots.forest(rows)
    figure.draw_without_rendering()
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == ["\\$\\frac{1}{0}\\$", "a_b^c {x} \\ & % #", "two lines"]


def test_densities_say_how_probable_benefit_is() -> None:
    found = ratios()
    figure = plots.hazard_ratio(found, prior=(0.0, 0.8), thresholds=(1.0, 0.5), mass=0.9)
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        values = found["hazard_ratio"].sel(endpoint=name).values
        first, second = (values < 1.0).mean(), (values < 0.5).mean()
        title = axis.get_title(loc="left")
        assert title == f"{name.upper()}: P(HR < 1) = {first:.3f}, P(HR < 0.5) = {second:.2f}"
        thresholds = [line.get_xdata()[0] for line in lines(axis)[2:]]
        assert thresholds == [1.0, 0.5]
        # A density over the logarithm integrates to 1.
        across, height = (np.asarray(one) for one in lines(axis)[0].get_data())
        assert np.trapezoid(height, np.log(across)) == pytest.approx(1.0, abs=0.01)
        shaded = areas(axis)[0].get_paths()[0].vertices[:, 0]
        lower, upper = np.quantile(values, [0.05, 0.95])
        assert shaded.min() == pytest.approx(lower, rel=0.02)
        assert shaded.max() == pytest.approx(upper, rel=0.02)
    assert labels(figure.axes[0]) == ["posterior", "90% interval", "prior"]
    assert figure.axes[-1].get_xlabel().startswith("hazard ratio, maintenance against")


def test_certainty_is_never_claimed() -> None:
    sure = ratios()
    sure["hazard_ratio"] = sure["hazard_ratio"] / 10
    title = plots.hazard_ratio(sure, endpoint="os").axes[0].get_title(loc="left")
    assert title == "OS: P(HR < 1) >0.999"


def test_forest_lists_rows_in_order_with_their_numbers() -> None:
    axis = plots.forest(summary()).axes[0]
    shown = [label.get_text() for label in axis.get_yticklabels()]
    assert shown == ["os, maintenance", "rfs, maintenance", "os, age 55+"]
    assert texts(axis) == [
        "0.45 (0.23 to 0.93)",
        "0.81 (0.45 to 1.46)",
        "1.12 (0.51 to 2.32), NOT CONVERGED",
    ]
    bars, dots = lines(axis)[:6:2], lines(axis)[1:6:2]
    np.testing.assert_array_equal([bar.get_xdata() for bar in bars], summary()[["lower", "upper"]])
    np.testing.assert_array_equal([dot.get_xdata()[0] for dot in dots], summary()["median"])
    np.testing.assert_array_equal([dot.get_ydata()[0] for dot in dots], [0, 1, 2])
    assert dots[2].get_markerfacecolor() == "white"
    assert axis.get_ylim() == (2.5, -0.5)


def test_forest_of_differences_is_linear() -> None:
    rows = pd.DataFrame({"what": ["a"], "median": [-1.0], "lower": [-2.0], "upper": [0.5]})
    axis = plots.forest(rows, quantity="months gained", logarithmic=False, null=0.0).axes[0]
    assert axis.get_xscale() == "linear"
    assert axis.get_xlabel() == "months gained"
    assert texts(axis) == ["−1 (−2 to 0.500)"]
