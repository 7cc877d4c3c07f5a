"""R-hat and effective sample sizes are ArviZ's, parameter by parameter."""

import arviz as az
import numpy as np
import pytest
import xarray as xr

from bayesblina.inference.convergence import (
    BLOCK,
    TAILS,
    ess_bulk,
    ess_mean,
    ess_tail,
    mcse_mean,
    mcse_median,
    rhat,
)

Array = np.ndarray


def chains(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """Draws of one parameter that mix well, badly, or in an odd way."""
    noise = rng.normal(size=shape)
    if kind == "independent":
        return noise
    if kind in ("slow", "alternating"):
        slope = 0.95 if kind == "slow" else -0.8
        for at in range(1, shape[1]):
            noise[:, at] += slope * noise[:, at - 1]
        return noise
    if kind == "apart":
        return noise + 2.0 * np.arange(shape[0])[:, None]
    if kind == "other spreads":
        return noise * (1.0 + np.arange(shape[0]))[:, None]
    if kind == "ties":
        return np.round(noise)
    if kind == "trend":
        return noise + np.linspace(0, 3, shape[1])
    if kind == "heavy tails":
        return rng.standard_cauchy(shape)
    if kind == "two values":
        return (noise > 1.5).astype(float)
    return np.full(shape, 1.25)


KINDS = [
    "independent",
    "slow",
    "alternating",
    "apart",
    "other spreads",
    "ties",
    "trend",
    "heavy tails",
    "two values",
    "constant",
]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # ArviZ's 0 / 0
@pytest.mark.parametrize("shape", [(4, 1000), (4, 251), (1, 100), (2, 4), (3, 5), (2, 6), (2, 7)])
def test_numbers_are_arvizs(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    together = np.stack([chains(kind, shape, rng) for kind in KINDS], axis=2)
    for index, kind in enumerate(KINDS):
        one = xr.Dataset({"x": (("chain", "draw"), together[:, :, index])})
        if shape[0] > 1:
            expected = float(az.rhat(one)["x"])
            np.testing.assert_allclose(rhat(together)[index], expected, rtol=1e-10, err_msg=kind)
        for ours, method, ends in ((ess_bulk, "bulk", None), (ess_tail, "tail", TAILS)):
            expected = float(az.ess(one, method=method, prob=ends)["x"])
            np.testing.assert_allclose(ours(together)[index], expected, rtol=1e-8, err_msg=kind)


def test_monte_carlo_errors_are_arvizs() -> None:
    rng = np.random.default_rng(9)
    kinds = [kind for kind in KINDS if kind != "constant"]
    for shape in ((4, 1000), (3, 51)):
        together = np.stack([chains(kind, shape, rng) for kind in kinds], axis=2)
        for index, kind in enumerate(kinds):
            one = xr.Dataset({"x": (("chain", "draw"), together[:, :, index])})
            pairs = (
                (ess_mean, az.ess(one, method="mean")),
                (mcse_mean, az.mcse(one, method="mean")),
                (mcse_median, az.mcse(one, method="median")),
            )
            for ours, theirs in pairs:
                got, expected = ours(together)[index], float(theirs["x"])
                np.testing.assert_allclose(got, expected, rtol=1e-8, err_msg=kind)


def test_what_cannot_be_computed_is_missing_alone() -> None:
    draws = np.random.default_rng(1).normal(size=(2, 50, 4))
    good = [function(draws) for function in (rhat, ess_bulk, ess_tail)]
    draws[1, 7, 1], draws[0, 0, 2] = np.nan, np.inf
    for function, before in zip((rhat, ess_bulk, ess_tail), good, strict=True):
        got = function(draws)
        assert np.isnan(got[1:3]).all()
        np.testing.assert_array_equal(got[[0, 3]], before[[0, 3]])
        assert np.isnan(function(draws[:, :3])).all()
    assert np.isnan(rhat(draws[:1])).all()


def test_blocks_change_nothing() -> None:
    draws = np.random.default_rng(2).normal(size=(2, 20, BLOCK + 3))
    for function in (rhat, ess_bulk, ess_tail):
        alone = np.concatenate([function(draws[:, :, i : i + 1]) for i in (0, BLOCK, BLOCK + 2)])
        np.testing.assert_allclose(function(draws)[[0, BLOCK, BLOCK + 2]], alone, rtol=1e-12)
