"""Figures of scenarios."""

from __future__ import annotations

import numpy as np

from bayesblina import plots
from tests.output.plots.examples import (
    lines,
    sensitivity,
)


def test_specification_curve_says_what_has_no_answer() -> None:
    top, bottom = plots.specification_curve(sensitivity(), "os").axes
    assert top.get_title(loc="left") == "OS: 4 scenarios (1 more without an answer)"
    middle = np.concatenate([line.get_ydata() for line in lines(top) if line.get_marker() == "o"])
    expected = sensitivity().table["median"].dropna().astype(float)
    np.testing.assert_allclose(np.sort(middle.astype(float)), np.sort(expected))
    assert len(bottom.get_yticklabels()) == 4
