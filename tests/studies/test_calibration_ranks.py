"""The figure of calibration ranks: what it draws, and whether its bands hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bayesblina as bb
from bayesblina.core.errors import SpecError
from tests.paths import ROOT


def outside(figure: object, *, lines: int) -> int:
    """Lines of the right-hand axes that leave the band."""
    axis = figure.axes[1]  # type: ignore[attr-defined]
    band = axis.collections[0].get_paths()[0].vertices
    drawn = [line for line in axis.lines if len(line.get_xdata()) > 2]
    assert len(drawn) == lines
    count = 0
    for line in drawn:
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            ends = band[np.isclose(band[:, 0], x)][:, 1]
            if not ends.min() - 1e-12 <= y <= ends.max() + 1e-12:
                count += 1
                break
    return count


def test_bands_hold_uniform_ranks_and_not_others() -> None:
    generator = np.random.default_rng(2)
    kept = 0
    for _ in range(20):
        rows = generator.multinomial(300, np.full(20, 0.05), size=10)
        counts = {"model": {f"p{index}": row.tolist() for index, row in enumerate(rows)}}
        kept += outside(bb.plots.calibration_ranks(counts), lines=10) == 0
    # At a level of 99 % fewer than 18 of 20 would happen once in a thousand times.
    assert kept >= 18
    slope = np.linspace(1.6, 0.4, 20)
    tilted = generator.multinomial(300, slope / slope.sum(), size=10)
    counts = {"model": {f"p{index}": row.tolist() for index, row in enumerate(tilted)}}
    assert outside(bb.plots.calibration_ranks(counts), lines=10) >= 8
    with pytest.raises(SpecError, match="no ranks"):
        bb.plots.calibration_ranks({})
    with pytest.raises(SpecError, match="differ in bins or replications"):
        bb.plots.calibration_ranks({"model": {"one": [1, 2], "two": [1, 3]}})


def test_stored_calibrations_are_inside_their_bands() -> None:
    for path in (ROOT / "docs" / "validation" / "calibration").glob("*.json"):
        stored = json.loads(path.read_text(encoding="utf-8"))
        ranks = stored["ranks"]
        assert stored["passed"], path.name
        figure = bb.plots.calibration_ranks({stored["model"]: ranks})
        assert outside(figure, lines=len(ranks)) == 0, path.name
