"""Figures of estimates: survival curves, hazard ratios, the bias ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.errors import SpecError
from bayesblina.plots.style import COLOURS, mark, say

DENSITY_POINTS = 400


def survival(
    curves: xr.Dataset,
    *,
    endpoint: str | None = None,
    observed: pd.DataFrame | None = None,
    at_risk: pd.DataFrame | None = None,
    mass: float = 0.95,
) -> Figure:
    """Draw posterior survival curves with bands, observed steps and numbers at risk.

    Parameters
    ----------
    curves
        What `bayesblina.survival` gives.
    endpoint
        Endpoint to draw; by default all, side by side.
    observed
        What `bayesblina.simon_makuch` gives: steps drawn over the curves.
    at_risk
        What `bayesblina.numbers_at_risk` gives: patients at risk by current phase, written below
        the axes, which get their ticks there.
    mass
        Probability of the bands.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved.

    Raises
    ------
    SpecError
        If the curves are those of several subgroups.
    """
    if "subgroup" in curves.dims:
        raise SpecError("Choose a subgroup to draw: curves.sel(subgroup=...).")
    names = [str(name) for name in curves["endpoint"].values] if endpoint is None else [endpoint]
    figure = Figure(figsize=(5.6 * len(names), 4.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        _survival_axis(axis, curves.sel(endpoint=name), observed, at_risk, name, mass)
    mark(figure, curves)
    return figure


def _survival_axis(
    axis: Axes,
    curves: xr.Dataset,
    observed: pd.DataFrame | None,
    at_risk: pd.DataFrame | None,
    name: str,
    mass: float,
) -> None:
    tail = (1.0 - mass) / 2.0
    time = curves["time"].values
    unit = str(curves.attrs.get("unit", "time"))
    for colour, regime in zip(COLOURS, curves["regime"].values, strict=False):
        values = curves["survival"].sel(regime=regime)
        lower, middle, upper = values.quantile([tail, 0.5, 1.0 - tail], ("chain", "draw")).values
        axis.fill_between(time, lower, upper, color=colour, alpha=0.2, linewidth=0)
        axis.plot(time, middle, color=colour, label=f"{regime} (posterior, {mass:.0%} band)")
    if observed is not None:
        rows = observed[observed["endpoint"] == name]
        groups = sorted(rows["group"].unique(), key=lambda group: not group.startswith("no "))
        for colour, group in zip(COLOURS, groups, strict=False):
            one = rows[rows["group"] == group]
            axis.step(
                one["time"],
                one["survival"],
                where="post",
                color=colour,
                linestyle="--",
                linewidth=1,
                label=f"{group} (Simon-Makuch)",
            )
    axis.set(ylim=(0, 1.02), xlim=(time.min(), time.max()), title=name.upper())
    axis.set_xlabel(f"{unit} from the origin, event-free at {curves.attrs.get('landmark', 0):g}")
    axis.set_ylabel("survival")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    if at_risk is not None:
        _numbers_at_risk(axis, at_risk[at_risk["endpoint"] == name])


def _numbers_at_risk(axis: Axes, rows: pd.DataFrame) -> None:
    transform = axis.get_xaxis_transform()
    low, high = axis.get_xlim()
    ticks = rows["time"].unique()
    axis.set_xticks(ticks[(ticks >= low) & (ticks <= high)])
    for line, (group, one) in enumerate(rows.groupby("group", sort=False)):
        height = -0.24 - 0.07 * line
        axis.text(
            -0.05,
            height,
            str(group),
            transform=axis.transAxes,
            ha="right",
            va="center",
            fontsize="x-small",
        )
        for time, count in zip(one["time"].to_numpy(), one["at_risk"].to_numpy(), strict=True):
            if low <= time <= high:
                axis.text(
                    time,
                    height,
                    f"{count:.0f}",
                    transform=transform,
                    ha="center",
                    va="center",
                    fontsize="x-small",
                )
    axis.text(
        -0.05,
        -0.17,
        "at risk, by current phase",
        transform=axis.transAxes,
        ha="right",
        va="center",
        fontsize="x-small",
        style="italic",
    )


def hazard_ratio(
    ratios: xr.Dataset,
    *,
    prior: tuple[float, float] | None = None,
    thresholds: Sequence[float] = (1.0,),
    mass: float = 0.95,
) -> Figure:
    """Draw the posterior density of each endpoint's hazard ratio.

    Parameters
    ----------
    ratios
        What `bayesblina.hazard_ratio` gives.
    prior
        Mean and sd of the normal prior of the log hazard ratio, drawn for comparison.
    thresholds
        Hazard ratios to mark.
    mass
        Probability of the interval shaded.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved.
    """
    from scipy.stats import gaussian_kde, norm

    names = [str(name) for name in ratios["endpoint"].values]
    figure = Figure(figsize=(6.4, 1.2 + 1.9 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    logs = {
        name: np.log(ratios["hazard_ratio"].sel(endpoint=name).values.ravel()) for name in names
    }
    low = min(float(np.quantile(values, 0.0005)) for values in logs.values())
    high = max(float(np.quantile(values, 0.9995)) for values in logs.values())
    grid = np.linspace(min(low, np.log(0.2)), max(high, np.log(2.0)), DENSITY_POINTS)
    tail = (1.0 - mass) / 2.0
    for axis, colour, name in zip(axes, COLOURS, names, strict=False):
        density = gaussian_kde(logs[name])(grid)
        lower, upper = np.quantile(logs[name], [tail, 1.0 - tail])
        inside = (grid >= lower) & (grid <= upper)
        axis.plot(np.exp(grid), density, color=colour, label="posterior")
        axis.fill_between(
            np.exp(grid[inside]),
            density[inside],
            color=colour,
            alpha=0.2,
            linewidth=0,
            label=f"{mass:.0%} interval",
        )
        if prior is not None:
            axis.plot(
                np.exp(grid), norm.pdf(grid, *prior), color="0.4", linestyle=":", label="prior"
            )
        for threshold in thresholds:
            axis.axvline(threshold, color="0.2", linewidth=0.8)
        below = float((logs[name] < 0).mean())
        axis.set_title(f"{name.upper()}: P(HR < 1) = {below:.3f}", loc="left", fontsize="medium")
        axis.set(yticks=[], xscale="log")
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize="small")
    ticks = [
        tick
        for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5)
        if np.exp(grid[0]) <= tick <= np.exp(grid[-1])
    ]
    axes[-1].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[-1].minorticks_off()
    exposed, reference = ratios.attrs.get("exposed", ""), ratios.attrs.get("reference", "")
    axes[-1].set_xlabel(f"hazard ratio, {exposed} against {reference} (log scale)")
    mark(figure, ratios)
    return figure


def bias_ladder(
    ladder: pd.DataFrame,
    *,
    truth: Mapping[str, float] | None = None,
    endpoint: str | None = None,
) -> Figure:
    """Draw the bias ladder: every method's estimate with its interval, the naive one on top.

    Parameters
    ----------
    ladder
        What `bayesblina.bias_ladder` gives.
    truth
        Hazard ratio of each endpoint with which the patients were simulated, drawn as a line.
    endpoint
        Endpoint to draw; by default all, side by side.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved. Estimates that do not exist are named as such.
    """
    names = list(ladder["endpoint"].unique()) if endpoint is None else [endpoint]
    methods = list(ladder["method"].unique())
    figure = Figure(
        figsize=(1.8 + 4.2 * len(names), 1.4 + 0.42 * len(methods)), layout="constrained"
    )
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True, sharex=True)[0]
    for axis, name in zip(axes, names, strict=True):
        rows = ladder[ladder["endpoint"] == name]
        for row in rows.to_dict("records"):
            height = methods.index(row["method"])
            biased = str(row["note"]).startswith("biased")
            colour = COLOURS[1] if biased else COLOURS[0]
            if not np.isfinite(row["estimate"]):
                axis.annotate(
                    "no finite estimate",
                    (0.5, height),
                    xycoords=("axes fraction", "data"),
                    ha="center",
                    va="center",
                    fontsize="x-small",
                )
                continue
            axis.plot([row["lower"], row["upper"]], [height, height], color=colour)
            axis.plot(
                row["estimate"], height, color=colour, marker="X" if biased else "o", linestyle=""
            )
        axis.axvline(1.0, color="0.7", linewidth=0.8)
        if truth is not None:
            axis.axvline(truth[name], color=COLOURS[2], linestyle="--", label="simulated truth")
        axis.set(xscale="log", title=str(name).upper(), xlabel="hazard ratio (log scale)")
        axis.spines[["top", "right"]].set_visible(False)
    low, high = axes[0].get_xlim()
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5) if low <= tick <= high]
    axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for axis in axes:
        axis.minorticks_off()
    labels = [
        f"{method} (biased)"
        if ladder.loc[ladder["method"] == method, "note"].str.startswith("biased").any()
        else method
        for method in methods
    ]
    axes[0].set_yticks(range(len(methods)), labels)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    if truth is not None:
        axes[-1].legend(frameon=False, fontsize="small", loc="best")
    say(
        figure,
        synthetic=bool(ladder.attrs.get("synthetic")),
        converged=not ladder["note"].eq("NOT CONVERGED").any(),
    )
    return figure
