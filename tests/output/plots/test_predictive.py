"""Figures of checks show the numbers given."""

from __future__ import annotations

import numpy as np

from bayesblina import plots
from tests.output.plots.examples import (
    areas,
    labels,
    lines,
    quantiles,
    replicated,
    replicated_curves,
    simon_makuch,
)


def test_events_stand_over_the_range_of_the_replicated_ones() -> None:
    events = replicated()
    axis = plots.replicated_events(events).axes[0]
    ranges = np.array([segment[:, 1] for segment in areas(axis)[0].get_segments()])
    cells = events["replicated"].sel(endpoint="os", phase="maintenance")
    lower, middle, upper = quantiles(cells, 0.025, 0.5, 0.975)
    np.testing.assert_allclose(ranges, np.c_[lower, upper])
    expected, observed, surprising = lines(axis)
    np.testing.assert_allclose(expected.get_ydata(), middle)
    np.testing.assert_array_equal(observed.get_ydata(), [4, 0, 5])
    # Of p-values 0.5, 0.99 and 0.4.
    np.testing.assert_array_equal(surprising.get_xdata(), [1])
    assert labels(axis) == ["replicated, 95 %", "observed"]


def test_observed_curves_stand_over_replicated_ones() -> None:
    curves, observed = replicated_curves(), simon_makuch()
    axis = plots.replicated_simon_makuch(curves, observed, mass=0.8).axes[0]
    values = curves["survival"].sel(endpoint="os", group="no maintenance").values
    edge = areas(axis)[0].get_paths()[0].vertices[:, 1]
    for value in np.quantile(values, [0.1, 0.9], axis=0).ravel():
        assert np.isclose(edge, value).any()
    own = observed[(observed["endpoint"] == "os") & (observed["group"] == "no maintenance")]
    np.testing.assert_array_equal(lines(axis)[-1].get_ydata(), own["survival"])
