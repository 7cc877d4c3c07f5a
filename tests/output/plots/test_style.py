"""What holds of every figure: its size, its marks, its refusals, its look."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from PIL import Image

import bayesblina as bb
from bayesblina import plots
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.output.plots.style import INCHES, _ratio_ticks
from bayesblina.patients.account import Account
from tests.output.plots.examples import (
    ELSEWHERE,
    ONE_PANEL,
    SAYS,
    SEVERAL_PANELS,
    TWO_PANELS,
    account,
    balance,
    by_term,
    events,
    ladder,
    left_out,
    occupancy,
    over_time,
    ratios,
    replicated,
    residuals,
    scalable,
    sceptics,
    simon_makuch,
    summary,
    survival,
    texts,
    tipping,
)
from tests.paths import DATA

BASELINES = DATA / "figures"

# The version with which the baselines were drawn (pyproject.toml).
MATPLOTLIB = "3.11.2"


def test_every_figure_is_tested() -> None:
    assert {*ONE_PANEL, *SEVERAL_PANELS, *ELSEWHERE} == set(plots.__all__)


@pytest.mark.parametrize("name", [*ONE_PANEL, *SEVERAL_PANELS])
def test_figures_have_the_size_of_a_page_and_are_marked(name: str) -> None:
    figure = (ONE_PANEL | SEVERAL_PANELS)[name](width="one")
    assert figure.get_figwidth() == pytest.approx(89 / 25.4)
    assert not plt.get_fignums()
    assert figure.get_suptitle() == SAYS.get(name, "synthetic patients")
    for text in figure.findobj(mpl.text.Text):
        assert text.get_fontsize() >= 6 or not text.get_text()


@pytest.mark.parametrize("width", ["one", "two"])
@pytest.mark.parametrize("draw", [*TWO_PANELS.values(), *ONE_PANEL.values()])
def test_nothing_is_cut_off_or_written_over(draw: Callable[..., Figure], width: str) -> None:
    figure = draw(width=width)
    figure.draw_without_rendering()
    written = [
        text
        for axis in figure.axes
        for text in [*axis.texts, axis.xaxis.label, axis.yaxis.label]
        if text.get_text().strip()
    ]
    for axis in figure.axes:
        legend = axis.get_legend()
        written += [] if legend is None else legend.get_texts()
    slack = 0.01 * figure.bbox.width
    for text in written:
        box = text.get_window_extent()
        assert box.x0 > -slack, text
        assert box.x1 < figure.bbox.x1 + slack, text
    across = [axis.xaxis.label for axis in figure.axes]
    extents = [one.get_window_extent() for one in across if one.get_text()]
    for index, one in enumerate(extents):
        assert not any(one.overlaps(other) for other in extents[index + 1 :])


@pytest.mark.parametrize("draw", TWO_PANELS.values(), ids=TWO_PANELS)
def test_panels_stand_below_each_other_on_one_column(draw: Callable[..., Figure]) -> None:
    for width, across, down in (("one", 1, 2), ("two", 2, 1)):
        boxes = [axis.get_position() for axis in draw(width=width).axes]
        assert len({round(box.x0, 2) for box in boxes}) == across
        assert len({round(box.y0, 2) for box in boxes}) == down


def test_a_notebook_shows_figures_without_pyplot() -> None:
    figure: Any = plots.balance(balance())
    assert figure.get_figwidth() == pytest.approx(183 / 25.4)
    with Image.open(BytesIO(figure._repr_png_())) as image:
        assert image.format == "PNG"
        assert image.width == pytest.approx(INCHES["two"] * 150, abs=2)


@pytest.mark.parametrize("name", ONE_PANEL)
def test_figures_are_drawn_on_axes_of_ones_own(name: str) -> None:
    mine = Figure(figsize=(8, 4), layout="constrained")
    left, right = mine.subplots(1, 2)
    mine.suptitle("mine")
    figure = ONE_PANEL[name](ax=right)
    assert figure is mine
    assert mine.get_suptitle() == "mine"
    assert "synthetic patients" in texts(right)
    assert not left.lines
    assert not left.texts


def test_several_panels_are_refused_on_one() -> None:
    ax = Figure().subplots()
    draws: list[Callable[[], Figure]] = [
        lambda: plots.survival(survival(), ax=ax),
        lambda: plots.hazard_ratio(ratios(), ax=ax),
        lambda: plots.state_occupancy(occupancy(), ax=ax),
        lambda: plots.cumulative_incidence(occupancy(), ax=ax),
    ]
    for draw in draws:
        with pytest.raises(SpecError, match="ax= takes one panel, and this figure has 2"):
            draw()
    for name in SEVERAL_PANELS:
        assert "ax" not in inspect.signature(getattr(plots, name)).parameters


def test_an_unknown_width_is_refused() -> None:
    with pytest.raises(SpecError, match="width must be 'one' or 'two'"):
        plots.survival(survival(), width="three")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.survival(survival(converged=0)),
        lambda: plots.hazard(over_time("hazard", lambda hazard: hazard, converged=0)),
        lambda: plots.hazard_ratio(ratios(converged=0)),
        lambda: plots.hazard_ratio_over_time(ratios("interval", converged=0)),
        lambda: plots.state_occupancy(occupancy().assign_attrs(converged=0)),
        lambda: plots.cumulative_incidence(occupancy().assign_attrs(converged=0)),
        lambda: plots.replicated_events(replicated().assign_attrs(converged=0)),
        lambda: plots.martingale_residuals(residuals().assign_attrs(converged=0)),
        lambda: plots.tipping_points(tipping().assign_attrs(converged=0), "os"),
        lambda: plots.forest(summary()),
        lambda: plots.adverse_events(by_term().assign_attrs(converged=0)),
        lambda: plots.pareto_k(replace(left_out(), converged=False)),
    ],
)
def test_what_did_not_converge_says_so(draw: Callable[[], Figure]) -> None:
    assert draw().get_suptitle() == "synthetic patients - NOT CONVERGED"


def test_nothing_is_said_of_real_patients() -> None:
    assert plots.survival(survival(synthetic=0)).get_suptitle() == ""


def test_observed_patients_may_be_the_synthetic_ones() -> None:
    observed = simon_makuch()
    observed.attrs["synthetic"] = True
    figure = plots.survival(survival(synthetic=0), observed=observed)
    assert figure.get_suptitle() == "synthetic patients"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.survival(ratios()), "bayesblina.survival gives, with 'survival'"),
        (lambda: plots.forest(pd.DataFrame({"median": [1.0]})), "with 'lower'"),
        (lambda: plots.survival(survival(), endpoint="pfs"), "No endpoint 'pfs'"),
        (lambda: plots.survival(survival(), mass=1.0), "mass must lie between 0 and 1"),
        (lambda: plots.survival(survival().expand_dims(subgroup=["a"])), "Choose a subgroup"),
        (lambda: plots.survival(survival(), observed=simon_makuch(0.0)), "landmark=8"),
        (lambda: plots.state_occupancy(occupancy(), regime="x"), "No regime 'x'"),
        (lambda: plots.cumulative_incidence(occupancy(), event="x"), "No event 'x'"),
        (lambda: plots.hazard_ratio_over_time(ratios()), "do not vary over time"),
        (lambda: plots.hazard_ratio_over_time(ratios("interval"), until=9.0), "until must lie"),
        (lambda: plots.hazard_ratio(ratios("interval")), "by interval"),
        (lambda: plots.hazard_ratio(ratios(), thresholds=(0.0,)), "above 0"),
        (lambda: plots.bias_ladder(ladder(), truth={"rfs": 1.0}), "truth has no hazard ratio"),
        (lambda: plots.forest(summary().iloc[:0]), "no estimates"),
        (lambda: plots.forest(summary().assign(lower=-1.0)), "above 0"),
        (
            lambda: plots.patient_flow(account(), minimum=0),
            "minimum must be a whole number from 1 on",
        ),
        (lambda: plots.patient_flow(Account(lines=(), unit="days")), "no endpoint to draw"),
        (lambda: plots.sceptical_priors(sceptics(), "pfs"), "No endpoint 'pfs'"),
        (lambda: plots.tipping_points(tipping(), "pfs"), "No endpoint 'pfs'"),
        (lambda: plots.adverse_events(survival()), "bayesblina.safety.event_rate"),
        (lambda: plots.adverse_events(events().isel(phase=0)), "check phase"),
        (
            lambda: plots.adverse_events(events(), minimum=0),
            "minimum must be a whole number from 1 on",
        ),
        (lambda: plots.adverse_events(by_term(), minimum=5), "no counts to go by"),
        (lambda: plots.adverse_events(by_term().isel(term=[0] * 61)), "61 terms are too many"),
        (lambda: plots.power_scaling(xr.DataTree()), "bayesblina.priors.power_scaling_draws"),
        (lambda: plots.power_scaling(scalable("os"), priors=["x"]), "No draws of 'x'"),
        (lambda: plots.power_scaling(scalable("os"), alphas=(0.5, 0.9)), "one above 1"),
        (lambda: plots.power_scaling(scalable(*map(str, range(13)))), "13 rows are too many"),
    ],
)
def test_refusals(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        draw()


def test_ticks_of_ratios_do_not_touch() -> None:
    for low, high, inches in ((0.09, 11.0, 1.0), (0.2, 2.1, 6.0), (0.95, 1.05, 2.0), (0.4, 3, 1)):
        ticks = _ratio_ticks(low, high, inches=inches)
        assert len(ticks) >= 2
        assert 1.0 in ticks
        assert all(low <= one <= high for one in ticks)
        gaps = np.diff(np.log(ticks)) * inches / np.log(high / low)
        assert gaps.min() >= 0.27


def test_styles_of_the_user_do_not_change_figures() -> None:
    plain = BytesIO()
    plots.balance(balance()).savefig(plain, format="png", dpi=40)
    with mpl.rc_context({"font.size": 22, "xtick.labelsize": 22, "axes.facecolor": "white"}):
        styled = BytesIO()
        plots.balance(balance()).savefig(styled, format="png", dpi=40)
    assert plain.getvalue() == styled.getvalue()


def test_figures_of_a_fits_results(synthetic_fit: Fit) -> None:
    cohort, _ = bb.simulate.blinatumomab_cohort(seed=1)
    both: list[bb.Never | bb.From] = [bb.Never(), bb.From(8.0)]
    curves = bb.survival(synthetic_fit, regimes=both, landmark=8.0)
    observed = bb.simon_makuch(cohort, synthetic_fit.question, landmark=8.0)
    figures = [
        plots.survival(curves, observed=observed),
        plots.hazard(bb.hazard(synthetic_fit, regimes=both, landmark=8.0)),
        plots.cumulative_hazard(bb.cumulative_hazard(synthetic_fit, regimes=both, landmark=8.0)),
        plots.hazard_ratio_over_time(bb.hazard_ratio(synthetic_fit, over="interval")),
        plots.forest(bb.summary(bb.hazard_ratio(synthetic_fit))),
        plots.prior_posterior(synthetic_fit),
        plots.chain_ranks(synthetic_fit),
        plots.pareto_k(bb.loo(synthetic_fit)),
        plots.patient_flow(cohort.account() + synthetic_fit.person_time.account()),
    ]
    for figure in figures:
        assert figure.get_suptitle() == "synthetic patients"
    assert not plt.get_fignums()
    flow = [text for text in texts(figures[-1].axes[0]) if text]
    assert flow[0] == "267 patients in the table"
    assert not any("SYN-" in text for text in flow)


@pytest.mark.skipif(
    version("matplotlib") != MATPLOTLIB,
    reason=f"baselines were drawn with matplotlib {MATPLOTLIB}",
)
@pytest.mark.parametrize("name", ["survival", "forest", "patient_flow", "specification_curve"])
def test_looks_as_it_did(name: str, tmp_path: Path) -> None:
    drawn = tmp_path / f"{name}.png"
    (ONE_PANEL | SEVERAL_PANELS)[name]().savefig(drawn, dpi=60, metadata={"Software": None})
    # To accept a new look: copy the file drawn over the baseline, and look at it.
    difference = compare_images(str(BASELINES / f"{name}.png"), str(drawn), tol=2.0)
    assert difference is None, difference
