"""Figures of adverse events show the numbers given, and no few."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_hex

from bayesblina import plots
from bayesblina.output.plots.style import COLOURS
from tests.output.plots.examples import (
    affected,
    by_term,
    events,
    labels,
    lines,
    quantiles,
    texts,
)


def test_rates_of_adverse_events_with_their_counts() -> None:
    found = events()
    axis = plots.adverse_events(found, mass=0.9).axes[0]
    shown = [label.get_text() for label in axis.get_yticklabels()]
    assert shown == [
        "before a\n12 in 10 patient-years",
        "a\n3 in 20 patient-years",
        "b\n40 in 5 patient-years",
    ]
    assert axis.get_xlabel() == "adverse events per patient-year,\n90% interval"
    assert axis.get_xlim()[0] == 0.0
    expected = quantiles(found["event_rate"], 0.5, 0.05, 0.95)
    bars, dots = lines(axis)[::2], lines(axis)[1::2]
    np.testing.assert_allclose([bar.get_xdata() for bar in bars], expected[1:].T)
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], expected[0])
    assert texts(axis)[2].startswith(f"{expected[0, 2]:.3g} (")
    assert plots.adverse_events(found, logarithmic=True).axes[0].get_xscale() == "log"


def test_few_adverse_events_are_not_shown() -> None:
    axis = plots.adverse_events(events(), minimum=5).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()][1] == "a\nfew events"
    assert texts(axis)[1] == "not shown: fewer than 5"
    assert {float(y) for line in lines(axis) for y in np.ravel(line.get_ydata())} == {0.0, 2.0}
    # Those without an event are as few as those with one.
    shares = plots.adverse_events(affected(), minimum=4).axes[0]
    assert texts(shares) == ["not shown: fewer than 4"] * 2
    assert not lines(shares)
    whole = plots.adverse_events(affected()).axes[0]
    assert [label.get_text() for label in whole.get_yticklabels()] == [
        "a\n3 of 23 patients",
        "b\n20 of 23 patients",
    ]
    assert "share of patients" in whole.get_xlabel()


def test_terms_stand_in_the_order_of_their_rates() -> None:
    found = by_term()
    axis = plots.adverse_events(found).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["often", "rare \\$x\\$"]
    assert labels(axis) == ["before a", "a", "b"]
    middle = found["event_rate"].median(("chain", "draw")).transpose("phase", "term").values
    dots = lines(axis)[1::2]
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], middle[:, ::-1].ravel())
    assert [to_hex(dot.get_color()).upper() for dot in dots[::2]] == list(COLOURS[:3])
