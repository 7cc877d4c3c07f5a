"""Priors hold the mass that their intervals state."""

from __future__ import annotations

import math

import numpy as np
import pytest

import bayesblina as bb

# The interval that a prior states must be the one that its draws have.


@pytest.mark.parametrize("known", [False, True])
def test_spread_priors_hold_their_mass(known: bool) -> None:
    prior = bb.SpreadPrior(hazard_ratio=(0.25, 4.0), mass=0.9, known=known)
    generator = np.random.default_rng(1)
    size = 200_000
    sd = np.full(size, prior.scale) if known else np.abs(generator.normal(0, prior.scale, size))
    ratio = np.exp(sd * generator.normal(size=size))
    inside = float(((ratio > 0.25) & (ratio < 4.0)).mean())
    assert inside == pytest.approx(0.9, abs=4 * math.sqrt(0.9 * 0.1 / size))
    again = bb.SpreadPrior.from_scale(prior.scale, known=known)
    assert again.scale == pytest.approx(prior.scale, rel=1e-9)
    with pytest.raises(ValueError, match="1 / u"):
        bb.SpreadPrior(hazard_ratio=(0.5, 3.0))
