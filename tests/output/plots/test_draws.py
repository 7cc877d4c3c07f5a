"""Figures of draws by ArviZ show what the draws say."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex

from bayesblina import plots
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.output.plots.style import COLOURS
from tests.output.plots.examples import (
    areas,
    labels,
    left_out,
    lines,
    scalable,
)


def test_pareto_k_of_each_patient_without_ids() -> None:
    figure = plots.pareto_k(left_out())
    axis = figure.axes[0]
    assert axis.get_title(loc="left") == "2 of 5 patients above the limit"
    points = areas(axis)[0]
    np.testing.assert_allclose(points.get_offsets(), np.c_[np.arange(5), left_out().pareto_k])
    drawn = [to_hex(colour).upper() for colour in points.get_facecolors()]
    assert drawn == [COLOURS[one] for one in (0, 1, 0, 1, 0)]
    np.testing.assert_allclose(lines(axis)[0].get_ydata(), 0.7)
    everything = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "P-" not in everything
    assert "limit 0.70" in everything


def test_power_scaled_posteriors() -> None:
    """A prior of exp(x) to the power a, over Normal(0, 1), moves the mean by a - 1."""
    figure = plots.power_scaling(scalable("os"), alphas=(0.5, 2.0))
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "prior scaled: os",
        "likelihood scaled: os",
    ]
    for axis, moves in zip(figure.axes, (1.0, 0.0), strict=True):
        densities = {str(line.get_label()): line for line in lines(axis)}
        for label, shift in (("power 0.5", -0.5), ("as it is", 0.0), ("power 2", 1.0)):
            across, height = (np.asarray(one) for one in densities[label].get_data())
            mean = np.trapezoid(across * height, across) / np.trapezoid(height, across)
            assert mean == pytest.approx(moves * shift, abs=0.15)
    drawn = figure.legends[0].get_texts()
    assert [text.get_text() for text in drawn] == ["power 0.5", "as it is", "power 2"]


def test_quantities_of_power_scaled_posteriors() -> None:
    figure = plots.power_scaling_quantities(scalable("os", "rfs"), priors=["covariates"])
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        *("mean: os", "sd: os", "mean: rfs", "sd: rfs")
    ]
    assert figure.get_suptitle().endswith("scaled prior: covariates")
    prior = next(line for line in lines(figure.axes[0]) if line.get_label() == "prior")
    np.testing.assert_array_equal(prior.get_xdata(), [0.8, 1.0, 1.25])
    # exp(-x) to the powers.
    np.testing.assert_allclose(prior.get_ydata(), [0.2, 0.0, -0.25], atol=0.12)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["prior", "likelihood"]


def test_prior_and_posterior_are_those_of_the_draws(synthetic_fit: Fit) -> None:
    figure = plots.prior_posterior(synthetic_fit)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "log hazard ratio: os, maintenance",
        "log hazard ratio: rfs, maintenance",
    ]
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        for line in lines(axis):
            draws = synthetic_fit.draws[str(line.get_label())]["log_hazard_ratio"]
            across, height = (np.asarray(one) for one in line.get_data())
            mean = np.trapezoid(across * height, across) / np.trapezoid(height, across)
            assert mean == pytest.approx(float(draws.sel(endpoint=name).mean()), abs=0.05)
    assert labels(figure.axes[0]) == ["prior", "posterior"]
    with pytest.raises(SpecError, match="No draws of 'log_hazard'"):
        plots.prior_posterior(synthetic_fit, parameters=["log_hazard"])
    with pytest.raises(SpecError, match="must be a list"):
        plots.chain_ranks(synthetic_fit, parameters="level")
    with pytest.raises(SpecError, match="too many"):
        plots.chain_ranks(synthetic_fit, parameters=["log_baseline", "walk_innovation"])
