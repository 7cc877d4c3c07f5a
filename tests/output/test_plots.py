"""Figures show the numbers given, say what must not be overlooked, and look as they did."""

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
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from PIL import Image

import bayesblina as bb
from bayesblina import plots
from bayesblina.checks.comparison import Prediction
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.output.plots.style import COLOURS, INCHES, _ratio_ticks
from bayesblina.patients.account import Account, Line
from bayesblina.studies.what_if.reading import Sensitivity
from tests.paths import DATA

BASELINES = DATA / "figures"
# The version with which the baselines were drawn (pyproject.toml).
MATPLOTLIB = "3.11.2"
TIMES = np.linspace(8.0, 24.0, 9)
ATTRIBUTES = {"synthetic": 1, "converged": 1, "unit": "months", "landmark": 8.0}
OVER = ("chain", "draw", "endpoint", "regime", "time")


def rates(seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Hazards by chain, draw, endpoint and regime: those of `from 8` are lower."""
    noise = np.random.default_rng(seed).normal(0.0, 0.2, (2, 200, 2, 2))
    return np.array(np.log([[0.06, 0.03], [0.09, 0.06]]) + noise)


def over_time(name: str, value: Callable[[Any], Any], **attributes: object) -> xr.Dataset:
    hazard = np.exp(rates())[..., None]
    values = np.broadcast_to(value(hazard), (*hazard.shape[:-1], TIMES.size))
    return xr.Dataset(
        {name: (OVER, values)},
        coords={"endpoint": ["os", "rfs"], "regime": ["never", "from 8"], "time": TIMES},
        attrs={**ATTRIBUTES, **attributes},
    )


def survival(**attributes: object) -> xr.Dataset:
    return over_time("survival", lambda hazard: np.exp(-hazard * (TIMES - 8.0)), **attributes)


def ratios(*dims: str, **attributes: object) -> xr.Dataset:
    values = np.exp(np.random.default_rng(2).normal(-0.6, 0.3, (2, 200, 2)))
    found = xr.Dataset(
        {"hazard_ratio": (("chain", "draw", "endpoint"), values)},
        coords={"endpoint": ["os", "rfs"]},
        attrs={
            **ATTRIBUTES,
            "exposed": "maintenance",
            "reference": "no maintenance",
            **attributes,
        },
    )
    for dim in dims:
        found = found.expand_dims({dim: 3}, axis=3)
        found["hazard_ratio"] = found["hazard_ratio"] * xr.DataArray([1.0, 1.5, 2.0], dims=dim)
    if "interval" in dims:
        found = found.assign_coords(interval_start=("interval", [0.0, 4.0, 10.0]))
    if "piece" in dims:
        found = found.assign_coords(since=("piece", [0.0, 3.0, 6.0]))
    return found


def occupancy() -> xr.Dataset:
    remission = np.exp(-0.05 * (TIMES - 8.0))
    relapsed = 0.6 * (1 - remission)
    parts = np.stack([remission, relapsed * 0.7, (1 - remission) * 0.4, relapsed * 0.3], axis=-1)
    values = np.broadcast_to(parts, (2, 10, 2, *parts.shape))
    over = ("chain", "draw", "regime", "time")
    return xr.Dataset(
        {
            "probability": ((*over, "state"), values),
            "relapse_probability": (over, np.broadcast_to(relapsed, values.shape[:-1])),
        },
        coords={
            "regime": ["never", "from 8"],
            "time": TIMES,
            "state": ["in remission", "alive after relapse", "dead in remission", "dead later"],
        },
        attrs=ATTRIBUTES,
    )


def simon_makuch(start: float = 8.0) -> pd.DataFrame:
    rows = [
        (name, group, time, alive, 10, 1)
        for name in ("os", "rfs")
        for group, drop in (("maintenance", 0.1), ("no maintenance", 0.2))
        for time, alive in ((start, 1.0), (12.0, 1.0 - drop), (20.0, 1.0 - 2 * drop))
    ]
    columns = ["endpoint", "group", "time", "survival", "at_risk", "events"]
    return pd.DataFrame(rows, columns=columns)


def at_risk() -> pd.DataFrame:
    table = simon_makuch()[["endpoint", "group", "time", "at_risk"]]
    table["at_risk"] = np.arange(len(table)) + 10
    return table


def summary() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "endpoint": ["os", "rfs", "os"],
            "comparison": ["maintenance", "maintenance", "age 55+"],
            "mean": [0.5, 0.85, 1.3],
            "median": [0.45, 0.81, 1.12],
            "lower": [0.23, 0.45, 0.51],
            "upper": [0.93, 1.46, 2.32],
            "r_hat": 1.0,
            "converged": [True, True, False],
        }
    )
    table.attrs["synthetic"] = True
    return table


def ladder() -> pd.DataFrame:
    rows = [
        ("os", "ever against never", 0.25, 0.12, 0.5, 86, 39, "biased: exposed before"),
        ("os", "landmark at 8", np.nan, np.nan, np.nan, 60, 20, "no finite estimate"),
        ("os", "Bayesian", 0.45, 0.23, 0.93, 86, 39, "posterior median"),
    ]
    columns = ["endpoint", "method", "estimate", "lower", "upper", "patients", "events", "note"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["synthetic"] = True
    return table


def sensitivity() -> Sensitivity:
    rows = []
    for index, (lag, model) in enumerate(
        [("base", "base"), ("1", "base"), ("base", "weibull"), ("1", "weibull")]
    ):
        middle = -0.7 + 0.1 * (lag == "1") + 0.15 * (model == "weibull") + 0.1 * (index == 3)
        rows.append(
            {
                "scenario": f"lag = {lag}, model = {model}",
                "status": "converged",
                "reason": "",
                "lag": lag,
                "model": model,
                "endpoint": "os",
                "median": np.exp(middle),
                "lower": np.exp(middle - 0.5),
                "upper": np.exp(middle + 0.5),
                "probability_below_1": 0.99 - 0.01 * index,
                "mean_log": middle,
                "key": str(index),
            }
        )
    rows.append({"scenario": "lag = 99", "status": "failed", "reason": "no events", "key": "9"})
    return Sensitivity(table=pd.DataFrame(rows), axes=("lag", "model"), synthetic=True)


def replicated() -> xr.Dataset:
    counts = np.random.default_rng(3).poisson(4.0, (2, 100, 1, 1, 3))
    over = ("endpoint", "phase", "interval")
    return xr.Dataset(
        {
            "replicated": (("chain", "draw", *over), counts),
            "observed": (over, [[[4, 0, 5]]]),
            "p_value": (over, [[[0.5, 0.99, 0.4]]]),
        },
        coords={
            "endpoint": ["os"],
            "phase": ["maintenance"],
            "interval_start": ("interval", [0.0, 4.0, 8.0]),
        },
        attrs=ATTRIBUTES,
    )


def replicated_curves() -> xr.Dataset:
    found = survival()["survival"].isel(chain=0, regime=[0], endpoint=[0]).rename(regime="group")
    return (
        found.assign_coords(group=["no maintenance"])
        .to_dataset(name="survival")
        .assign_attrs(ATTRIBUTES)
    )


def calibration() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "endpoint": "os",
            "time": [12.0, 18.0],
            "observed": [0.8, 0.6],
            "observed_lower": [0.7, 0.5],
            "observed_upper": [0.9, 0.7],
            "predicted": [0.75, 0.65],
            "predicted_lower": [0.7, 0.6],
            "predicted_upper": [0.8, 0.7],
        }
    )
    table.attrs |= {**ATTRIBUTES}
    return table


def residuals() -> xr.Dataset:
    expected = np.array([[0.2, 0.5, 1.2]])
    event = np.array([[1.0, 0.0, 1.0]])
    over = ("endpoint", "patient")
    return xr.Dataset(
        {
            "expected": (over, expected),
            "events": (over, event),
            "residual": (over, event - expected),
        },
        coords={"endpoint": ["os"]},
        attrs=ATTRIBUTES,
    )


def prior() -> xr.Dataset:
    generator = np.random.default_rng(4)
    rate = np.exp(generator.normal(-3.0, 0.7, (200, 1, 1)))
    return xr.Dataset(
        {
            "survival": (
                ("draw", "endpoint", "phase", "time"),
                np.stack([np.exp(-rate * TIMES), np.exp(-2.0 * rate * TIMES)], axis=2),
            ),
            "pooled_survival": (("endpoint", "time"), np.exp(-0.05 * TIMES)[None]),
            "hazard_ratio": (
                ("draw", "endpoint", "interval"),
                np.exp(generator.normal(0.0, 0.7, (200, 1, 2))),
            ),
        },
        coords={"endpoint": ["os"], "phase": ["no phase", "phase"], "time": TIMES},
        attrs={**ATTRIBUTES, "baseline": "pooled"},
    )


def tipping() -> xr.Dataset:
    ratio, prevalence = np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.4, 0.8])
    values = 0.99 - 0.1 * np.outer(np.log(ratio), prevalence)
    return xr.Dataset(
        {"probability_below_1": (("endpoint", "ratio", "prevalence"), values[None])},
        coords={"endpoint": ["os"], "ratio": ratio, "prevalence": prevalence},
        attrs={**ATTRIBUTES, "prevalence_exposed": 0.2},
    )


def balance() -> pd.DataFrame:
    return pd.DataFrame(
        {"covariate": ["age", "sex"], "unweighted": [0.3, -0.2], "weighted": [0.05, 0.01]}
    )


def sceptics() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "endpoint": "os",
            "prior_upper": [1.05, 1.5, 3.0, 10.0],
            "probability_below_1": [0.6, 0.9, 0.96, 0.98],
            "pareto_k": [0.9, 0.5, 0.4, 0.3],
        }
    )


def account() -> Account:
    def line(step: str, what: str, count: int, **more: Any) -> Line:
        return Line(
            step=step, what=what, patients=tuple(f"ID-{one}" for one in range(count)), **more
        )

    return Account(
        unit="months",
        synthetic=True,
        lines=(
            line("read", "patients in <table> & $x$", 50),
            line("excluded", "no consent", 3),
            line("observed", "under observation", 40, endpoint="os", events=20, person_time=400.0),
            line("observed", "never under observation", 10, endpoint="os"),
            line("left out", "never under observation for this endpoint", 10, endpoint="os"),
            line("left out", "never reached consolidation", 15, endpoint="os"),
            line("eligible", "at risk", 25, endpoint="os", events=12, person_time=250.0),
            line(
                "in phase",
                "exposed",
                4,
                endpoint="os",
                phase="maintenance",
                events=2,
                person_time=50.0,
            ),
        ),
    )


def events(**attributes: object) -> xr.Dataset:
    values = np.random.default_rng(5).gamma([12.5, 3.5, 40.5], [0.1, 0.05, 0.2], (2, 200, 3))
    return xr.Dataset(
        {"event_rate": (("chain", "draw", "phase"), values)},
        coords={
            "phase": ["before a", "a", "b"],
            "events": ("phase", [12, 3, 40]),
            "person_time": ("phase", [10.0, 20.0, 5.0]),
        },
        attrs={**ATTRIBUTES, "per": "years", **attributes},
    )


def affected() -> xr.Dataset:
    values = np.random.default_rng(6).beta([3.5, 20.5], [20.5, 3.5], (2, 200, 2))
    return xr.Dataset(
        {"incidence": (("chain", "draw", "phase"), values)},
        coords={
            "phase": ["a", "b"],
            "patients": ("phase", [23, 23]),
            "with_event": ("phase", [3, 20]),
        },
        attrs=ATTRIBUTES,
    )


def by_term() -> xr.Dataset:
    terms = xr.DataArray([0.5, 2.0], dims="term", coords={"term": ["rare $x$", "often"]})
    found = events()["event_rate"].reset_coords(drop=True) * terms
    return found.to_dataset(name="event_rate").assign_attrs(events().attrs)


def left_out() -> Prediction:
    shapes = xr.DataArray(
        [0.1, 0.9, 0.3, 0.75, -0.2],
        dims="patient",
        coords={"patient": [f"P-{one}" for one in range(5)]},
    )
    return Prediction(
        elpd=-shapes,
        pareto_k=shapes,
        limit=0.7,
        effective=1.0,
        scheme="leave one patient out",
        endpoints=("os",),
        unit="months",
        converged=True,
        synthetic=True,
        follow_up=pd.DataFrame(),
    )


def scalable(*endpoints: str) -> xr.DataTree:
    """Draws of Normal(0, 1) whose prior, scaled, says that they are higher."""
    generator = np.random.default_rng(7)
    values = generator.normal(0.0, 1.0, (4, 500, len(endpoints)))
    over = ("chain", "draw", "endpoint")
    one = xr.Dataset({"log_hazard_ratio": (over, values)}, coords={"endpoint": list(endpoints)})
    prior = one["log_hazard_ratio"].sum("endpoint")
    tree = xr.DataTree.from_dict(
        {
            "/posterior": one,
            "/log_prior": xr.Dataset({"phases": prior, "covariates": -prior}),
            "/log_likelihood": xr.Dataset({"survival": 0.0 * prior - (prior**2) / 2}),
        }
    )
    tree.attrs |= ATTRIBUTES
    return tree


@pytest.fixture(scope="module")
def cohort() -> bb.Cohort:
    table = pd.DataFrame(
        {
            "id": ["P-1", "P-2", "P-3"],
            "t": [4.0, 9.0, 6.0],
            "d": [1, 0, 1],
            "s": [2.0, None, 5.0],
            "x": [3.0, None, None],
        }
    )
    return bb.read_cohort(
        table,
        patient="id",
        unit="months",
        endpoints={"os": bb.Endpoint(time="t", event="d")},
        phases=bb.Phases(late="s"),
        transplant="x",
    )


# Each figure with one panel, as it may be drawn on axes of one's own; and whether it says of itself
# that patients are synthetic.
ONE_PANEL: dict[str, Callable[..., Any]] = {
    "survival": lambda **more: plots.survival(
        survival(), endpoint="os", observed=simon_makuch(), at_risk=at_risk(), **more
    ),
    "hazard": lambda **more: plots.hazard(
        over_time("hazard", lambda hazard: hazard), endpoint="rfs", **more
    ),
    "cumulative_hazard": lambda **more: plots.cumulative_hazard(
        over_time("cumulative_hazard", lambda hazard: hazard * (TIMES - 8.0)), endpoint="os", **more
    ),
    "cumulative_incidence": lambda **more: plots.cumulative_incidence(
        occupancy(), event="relapse", **more
    ),
    "state_occupancy": lambda **more: plots.state_occupancy(occupancy(), regime="never", **more),
    "hazard_ratio_over_time": lambda **more: plots.hazard_ratio_over_time(
        ratios("interval"), endpoint="os", **more
    ),
    "hazard_ratio": lambda **more: plots.hazard_ratio(
        ratios(), endpoint="os", prior=(0.0, 0.8), thresholds=(1.0, 0.8), **more
    ),
    "forest": lambda **more: plots.forest(summary().assign(converged=True), **more),
    "bias_ladder": lambda **more: plots.bias_ladder(ladder(), truth={"os": 0.4}, **more),
    "replicated_events": lambda **more: plots.replicated_events(replicated(), **more),
    "replicated_simon_makuch": lambda **more: plots.replicated_simon_makuch(
        replicated_curves(), simon_makuch(), **more
    ),
    "predicted_against_observed": lambda **more: plots.predicted_against_observed(
        calibration(), **more
    ),
    "martingale_residuals": lambda **more: plots.martingale_residuals(residuals(), **more),
    "scenario_map": lambda **more: plots.scenario_map(sensitivity(), "os", "lag", "model", **more),
    "tipping_points": lambda **more: plots.tipping_points(tipping(), "os", **more),
    "balance": lambda **more: plots.balance(balance(), synthetic=True, **more),
    "sceptical_priors": lambda **more: plots.sceptical_priors(
        sceptics(), "os", synthetic=True, **more
    ),
    "patient_flow": lambda **more: plots.patient_flow(account(), **more),
    "adverse_events": lambda **more: plots.adverse_events(events(), **more),
    "pareto_k": lambda **more: plots.pareto_k(left_out(), **more),
}
SEVERAL_PANELS: dict[str, Callable[..., Any]] = {
    "prior_predictive": lambda **more: plots.prior_predictive(prior(), **more),
    "specification_curve": lambda **more: plots.specification_curve(sensitivity(), "os", **more),
    "tornado": lambda **more: plots.tornado(sensitivity(), "os", **more),
    "calibration_ranks": lambda **more: plots.calibration_ranks(
        {"primary": {"a": [25, 25, 25, 25], "b": [30, 20, 20, 30]}}, **more
    ),
    "power_scaling": lambda **more: plots.power_scaling(scalable("os"), **more),
    "power_scaling_quantities": lambda **more: plots.power_scaling_quantities(
        scalable("os", "rfs"), **more
    ),
}
# What a figure says of itself besides.
SAYS = {
    "calibration_ranks": "",
    "power_scaling": "synthetic patients - scaled prior: phases",
    "power_scaling_quantities": "synthetic patients - scaled prior: phases",
}
# Figures with a panel for each of two endpoints, regimes or phases.
TWO_PANELS: dict[str, Callable[..., Any]] = {
    "survival": lambda **more: plots.survival(
        survival(), observed=simon_makuch(), at_risk=at_risk(), **more
    ),
    "hazard": lambda **more: plots.hazard(over_time("hazard", lambda hazard: hazard), **more),
    "cumulative_incidence": lambda **more: plots.cumulative_incidence(occupancy(), **more),
    "state_occupancy": lambda **more: plots.state_occupancy(occupancy(), **more),
    "hazard_ratio_over_time": lambda **more: plots.hazard_ratio_over_time(
        ratios("interval"), **more
    ),
    "bias_ladder": lambda **more: plots.bias_ladder(
        pd.concat([ladder(), ladder().assign(endpoint="rfs")], ignore_index=True), **more
    ),
    "predicted_against_observed": lambda **more: plots.predicted_against_observed(
        pd.concat([calibration(), calibration().assign(endpoint="rfs")], ignore_index=True), **more
    ),
    "martingale_residuals": lambda **more: plots.martingale_residuals(
        xr.concat([residuals(), residuals().assign_coords(endpoint=["rfs"])], "endpoint"), **more
    ),
}
# These need draws of a fit, or single patients.
ELSEWHERE = {"prior_posterior", "chain_ranks", "swimmer"}


def labels(axis: Axes) -> list[str]:
    legend = axis.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def lines(axis: Axes) -> list[Any]:
    return list(axis.lines)


def areas(axis: Axes) -> list[Any]:
    return list(axis.collections)


def texts(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def quantiles(values: xr.DataArray, *parts: float) -> Any:
    return values.quantile(list(parts), ("chain", "draw")).values


# What holds of every figure.


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
        (lambda: plots.patient_flow(account(), minimum=0), "minimum must be at least 1"),
        (lambda: plots.patient_flow(Account(lines=(), unit="days")), "no endpoint to draw"),
        (lambda: plots.sceptical_priors(sceptics(), "pfs"), "No endpoint 'pfs'"),
        (lambda: plots.tipping_points(tipping(), "pfs"), "No endpoint 'pfs'"),
        (lambda: plots.adverse_events(survival()), "bayesblina.event_rate"),
        (lambda: plots.adverse_events(events().isel(phase=0)), "check phase"),
        (lambda: plots.adverse_events(events(), minimum=0), "minimum must be at least 1"),
        (lambda: plots.adverse_events(by_term(), minimum=5), "no counts to go by"),
        (lambda: plots.adverse_events(by_term().isel(term=[0] * 61)), "61 terms are too many"),
        (lambda: plots.power_scaling(xr.DataTree()), "bayesblina.power_scaling_draws"),
        (lambda: plots.power_scaling(scalable("os"), priors=["x"]), "No draws of 'x'"),
        (lambda: plots.power_scaling(scalable("os"), alphas=(0.5, 0.9)), "one above 1"),
        (lambda: plots.power_scaling(scalable(*map(str, range(13)))), "13 rows are too many"),
    ],
)
def test_refusals(draw: Callable[[], Figure], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        draw()


def test_no_curve_is_dropped_for_want_of_colours() -> None:
    curves = survival().isel(regime=[0] * 9).assign_coords(regime=[f"r{i}" for i in range(9)])
    with pytest.raises(SpecError, match="too many for one figure"):
        plots.survival(curves)


# What each figure shows.


def test_survival_shows_the_datasets_quantiles() -> None:
    curves = survival()
    figure = plots.survival(curves, observed=simon_makuch(), mass=0.8)
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        assert axis.get_title(loc="left") == name.upper()
        assert axis.get_xlabel() == "months from the origin (event-free at 8)"
        assert labels(axis) == [
            "never (posterior, 80% band)",
            "from 8 (posterior, 80% band)",
            "maintenance (Simon-Makuch)",
            "no maintenance (Simon-Makuch)",
        ]
        assert len(areas(axis)) == 2
        for line, band, regime in zip(lines(axis), areas(axis), ("never", "from 8"), strict=False):
            one = curves["survival"].sel(endpoint=name, regime=regime)
            lower, middle, upper = quantiles(one, 0.1, 0.5, 0.9)
            np.testing.assert_allclose(line.get_ydata(), middle)
            np.testing.assert_array_equal(line.get_xdata(), TIMES)
            edge = band.get_paths()[0].vertices
            for value in (*lower, *upper):
                assert np.isclose(edge[:, 1], value).any()
        maintenance = lines(axis)[2]
        np.testing.assert_array_equal(maintenance.get_ydata(), [1.0, 0.9, 0.8])
        assert maintenance.get_drawstyle() == "steps-post"


@pytest.mark.parametrize("order", [["never", "from 8"], ["from 8", "never"]])
@pytest.mark.parametrize("reference", ["no maintenance", "consolidation"])
def test_groups_have_the_colours_of_their_regimes(order: list[str], reference: str) -> None:
    observed = simon_makuch().replace({"group": {"no maintenance": reference}})
    figure = plots.survival(survival().sel(regime=order), endpoint="os", observed=observed)
    colour = {line.get_label().split(" (")[0]: line.get_color() for line in lines(figure.axes[0])}
    assert colour["never"] == colour[reference] == COLOURS[0]
    assert colour["from 8"] == colour["maintenance"] == COLOURS[1]


def test_a_group_that_belongs_to_no_regime_is_dark() -> None:
    observed = simon_makuch()
    observed = observed[observed["group"] == "maintenance"].assign(group="all")
    figure = plots.survival(survival(), endpoint="os", observed=observed)
    assert to_hex(lines(figure.axes[0])[-1].get_color()) == "#262626"


def test_numbers_at_risk_stand_below_their_times() -> None:
    figure = plots.survival(survival(), endpoint="os", at_risk=at_risk())
    axis = figure.axes[0]
    np.testing.assert_array_equal(axis.get_xticks(), [8.0, 12.0, 20.0])
    notes: list[Any] = list(axis.texts)
    found = {
        (text.xy[0], round(text.xyann[1])): text.get_text()
        for text in notes
        if text.get_text().isdigit()
    }
    assert list(found.values()) == ["10", "11", "12", "13", "14", "15"]
    assert sorted({where[0] for where in found}) == [8.0, 12.0, 20.0]
    assert texts(axis)[0] == "at risk, by phase"
    figure.draw_without_rendering()
    box = figure.bbox
    for text in axis.texts:
        extent = text.get_window_extent()
        assert box.x0 <= extent.x0
        assert box.y0 <= extent.y0


def test_hazards_are_steps_up_to_their_times() -> None:
    hazards = over_time("hazard", lambda hazard: hazard)
    axis = plots.hazard(hazards, endpoint="os").axes[0]
    assert axis.get_ylabel() == "events per patient-month"
    assert [line.get_drawstyle() for line in lines(axis)] == ["steps-pre"] * 2
    one = hazards["hazard"].sel(endpoint="os", regime="never")
    np.testing.assert_allclose(lines(axis)[0].get_ydata(), quantiles(one, 0.5)[0])


def test_cumulative_hazards() -> None:
    hazards = over_time("cumulative_hazard", lambda hazard: hazard * (TIMES - 8.0))
    figure = plots.cumulative_hazard(hazards)
    assert len(figure.axes) == 2
    one = hazards["cumulative_hazard"].sel(endpoint="rfs", regime="from 8")
    np.testing.assert_allclose(lines(figure.axes[1])[1].get_ydata(), quantiles(one, 0.5)[0])


def test_incidences_of_competing_events_add_up() -> None:
    states = occupancy()
    figure = plots.cumulative_incidence(states)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["relapse", "death in remission"]
    both = sum(np.asarray(lines(axis)[0].get_ydata()) for axis in figure.axes)
    remission = states["probability"].sel(regime="never", state="in remission")
    np.testing.assert_allclose(both, 1.0 - quantiles(remission, 0.5)[0])


def test_incidence_of_one_event_is_what_survival_lacks() -> None:
    curves = survival()
    axis = plots.cumulative_incidence(curves, event="os").axes[0]
    one = curves["survival"].sel(endpoint="os", regime="never")
    np.testing.assert_allclose(lines(axis)[0].get_ydata(), 1.0 - quantiles(one, 0.5)[0])


def test_states_are_stacked_to_one() -> None:
    states = occupancy()
    figure = plots.state_occupancy(states)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [str(state) for state in states["state"].values[::-1]]
    for axis in figure.axes:
        assert len(areas(axis)) == 4
        top = areas(axis)[-1].get_paths()[0].vertices[:, 1]
        assert top.max() == pytest.approx(1.0)
        first = areas(axis)[0].get_paths()[0].vertices
        mean = (
            states["probability"].sel(regime="never", state="in remission").mean(("chain", "draw"))
        )
        for value in mean.values:
            assert np.isclose(first[:, 1], value).any()


@pytest.mark.parametrize(("dim", "starts"), [("interval", [0, 4, 10]), ("piece", [0, 3, 6])])
def test_ratios_over_time(dim: str, starts: list[float]) -> None:
    found = ratios(dim)
    figure = plots.hazard_ratio_over_time(found)
    for axis, name in zip(figure.axes, ("os", "rfs"), strict=True):
        middle = quantiles(found["hazard_ratio"].sel(endpoint=name), 0.5)[0]
        lines = [one for one in areas(axis) if hasattr(one, "get_segments")]
        segments = np.concatenate([one.get_segments() for one in lines])
        np.testing.assert_allclose(segments[:, 0, 1], middle)
        np.testing.assert_allclose(segments[:, 0, 0], starts)
        # The last interval is open: as wide as the one before, and dotted.
        assert segments[-1, 1, 0] == 2 * starts[-1] - starts[-2]
        assert axis.get_yscale() == "log"
    assert labels(figure.axes[0])[-1] == "last, open interval"
    clock = "from the origin" if dim == "interval" else "since entering maintenance"
    assert figure.axes[0].get_xlabel() == f"months {clock}"
    assert "maintenance\nagainst no maintenance" in figure.axes[0].get_ylabel()


def test_until_ends_the_open_interval() -> None:
    axis = plots.hazard_ratio_over_time(ratios("interval"), endpoint="os", until=30.0).axes[0]
    assert axis.get_xlim() == (0.0, 30.0)


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


def test_single_patients_are_marked_and_nameless(cohort: bb.Cohort) -> None:
    figure = plots.swimmer(cohort, "os")
    assert figure.get_suptitle() == "single patients: for the analyst, not for release"
    axis: Any = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == []
    everything = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    assert "P-" not in everything
    # By follow-up: P-1 to 4, P-3 to 6, P-2 to 9, each phase a bar.
    bars = {
        (round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_x() + bar.get_width())
        for container in axis.containers
        for bar in container.patches
    }
    assert bars == {(0, 0.0, 2.0), (0, 2.0, 4.0), (1, 0.0, 5.0), (1, 5.0, 6.0), (2, 0.0, 9.0)}
    drawn = {line.get_label(): line.get_xydata().tolist() for line in lines(axis)}
    assert drawn["event"] == [[4.0, 0.0], [6.0, 1.0]]
    assert drawn["end of follow-up"] == [[9.0, 2.0]]
    assert drawn["transplant"] == [[3.0, 0.0]]
    assert set(labels(axis)) == {"before late", "late", *drawn}


def test_ids_only_when_asked(cohort: bb.Cohort) -> None:
    figure = plots.swimmer(cohort, "os", ids=True, among="late")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["P-1", "P-3"]
    assert "single patients with their ids" in figure.get_suptitle()
    assert figure.axes[0].get_title(loc="left") == "OS: 2 patients who start late"
    with pytest.raises(SpecError, match="No phase 'x'"):
        plots.swimmer(cohort, "os", among="x")


def test_some_of_many_patients() -> None:
    everybody, _ = bb.simulate.blinatumomab_cohort(seed=1)
    figure = plots.swimmer(everybody, "os", largest=10)
    axis = figure.axes[0]
    assert axis.get_title(loc="left") == "OS: 10 of 267 patients"
    ends = np.sort([x for line in lines(axis)[:2] for x in np.ravel(line.get_xdata())])
    times = np.sort(everybody.endpoints["os"].time)
    assert len(ends) == 10
    assert (ends[0], ends[-1]) == (times[0], times[-1])
    # Some have a transplant after maintenance and a relapse; without any the legend names none.
    late = plots.swimmer(everybody, "os", among="maintenance")
    assert "transplant" in labels(late.axes[0])
    never = replace(everybody, transplant=np.full(everybody.size, np.nan))
    late = plots.swimmer(never, "os", among="maintenance")
    assert "transplant" not in labels(late.axes[0])


def test_patient_flow_counts_without_ids() -> None:
    figure = plots.patient_flow(account())
    shown = [text.replace("\n", " ") for text in texts(figure.axes[0]) if text]
    assert shown == [
        "50 patients in <table> & \\$x\\$ excluded: no consent (3)",
        "never under observation (10)",
        "OS: 40 under observation 20 events, 400.0 person-months",
        "never reached consolidation (15)",
        "OS: 25 at risk 12 events, 250.0 person-months",
        "maintenance (exposed): 4    2 events, 50.0 person-months",
    ]
    assert not any("ID-" in text for text in shown)
    masked = [text for text in texts(plots.patient_flow(account(), minimum=5).axes[0]) if text]
    assert masked[0].endswith("excluded: no consent (*)")
    assert masked[-1] == "maintenance (exposed): *\n   * events"


def test_specification_curve_says_what_has_no_answer() -> None:
    top, bottom = plots.specification_curve(sensitivity(), "os").axes
    assert top.get_title(loc="left") == "OS: 4 scenarios (1 more without an answer)"
    middle = np.concatenate([line.get_ydata() for line in lines(top) if line.get_marker() == "o"])
    expected = sensitivity().table["median"].dropna().astype(float)
    np.testing.assert_allclose(np.sort(middle.astype(float)), np.sort(expected))
    assert len(bottom.get_yticklabels()) == 4


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


# With a fit.


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


# How they look.


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
