"""Figures of what-ifs: scenarios, confounders, weights, sceptical priors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.axes import BASE
from bayesblina.errors import SpecError, nearest
from bayesblina.plots.style import COLOURS, mark, ratio_scale, say

if TYPE_CHECKING:
    from bayesblina.what_if import Sensitivity

_BESIDE: Mapping[str, Any] = {"fontsize": "x-small", "va": "center", "ha": "left"}


def specification_curve(found: Sensitivity, endpoint: str, *, largest: int = 200) -> Figure:
    """Draw the hazard ratio of every scenario, sorted, with the settings below.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.
    largest
        Scenarios above which figures are refused: nobody could read them.

    Returns
    -------
    matplotlib.figure.Figure
        Above, medians with 95 % intervals, the base case marked; below, a dot for each scenario
        in the row of its setting.

    Raises
    ------
    SpecError
        If the endpoint is unknown, no scenario converged, or there are more than `largest`.
    """
    rows = found.of_endpoint(endpoint).sort_values("median", kind="stable").reset_index(drop=True)
    if len(rows) > largest:
        raise SpecError(f"{len(rows)} scenarios are too many to draw: choose rows of the table.")
    settings = [
        (axis, str(value))
        for axis in found.axes
        for value in dict.fromkeys(found.table[axis])
        if (rows[axis] == value).any()
    ]
    place = np.arange(len(rows))
    base = (rows[list(found.axes)] == BASE).all(axis=1).to_numpy()
    height = 3.2 + 0.2 * len(settings)
    figure = Figure(figsize=(min(4.0 + 0.12 * len(rows), 14.0), height), layout="constrained")
    shares = {"height_ratios": [3.0, max(0.2 * len(settings), 0.2)]}
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw=shares)
    for chosen, colour, size in ((~base, COLOURS[0], 3.0), (base, COLOURS[1], 5.0)):
        inside = rows[chosen]
        if inside.empty:
            continue
        ends = [inside["median"] - inside["lower"], inside["upper"] - inside["median"]]
        label = "base case" if colour == COLOURS[1] else None
        top.errorbar(
            place[chosen],
            inside["median"],
            yerr=np.array(ends),
            fmt="o",
            color=colour,
            markersize=size,
            elinewidth=0.8,
            label=label,
        )
    top.axhline(1.0, color="black", linewidth=0.8)
    ratio_scale(top)
    top.set(ylabel="hazard ratio", title=f"{endpoint.upper()}: {len(rows)} scenarios")
    if base.any():
        top.legend(frameon=False, fontsize="small", loc="upper left")
    for line, (axis, value) in enumerate(settings):
        mine = (rows[axis].astype(str) == value).to_numpy()
        bottom.plot(place[mine], np.full(mine.sum(), line), ".", color="0.25", markersize=4)
    labels = [f"{axis}: {value}" for axis, value in settings]
    bottom.set_yticks(np.arange(len(settings)), labels, fontsize="small")
    bottom.set(ylim=(len(settings) - 0.5, -0.5), xlabel="scenarios, by hazard ratio")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    say(figure, synthetic=found.synthetic, converged=True)
    return figure


def tornado(found: Sensitivity, endpoint: str) -> Figure:
    """Draw which axis moves the answer most.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        On the left the mean log hazard ratio between the extreme settings of each axis; on the
        right the probability of a hazard ratio below 1. Pairs of axes, where they were combined,
        show what the combination has beyond both.

    Raises
    ------
    SpecError
        If the endpoint is unknown, or nothing was varied.
    """
    effects = found.effects(endpoint)
    if effects.empty:
        raise SpecError("Nothing was varied: there is nothing to compare.")
    paired = effects["axis"].str.contains(" x ", regex=False)
    parts = [one for one in (effects[~paired], effects[paired]) if len(one)]
    figure = Figure(figsize=(11.0, 1.6 + 0.42 * len(effects)), layout="constrained")
    shares = [len(one) + 1.0 for one in parts]
    axes = figure.subplots(len(parts), 2, squeeze=False, gridspec_kw={"height_ratios": shares})
    for (left, right), table in zip(axes, parts, strict=True):
        _bars(left, right, table, pairs=bool(paired.any()) and table is parts[-1])
    if len(parts) == 2 or not paired.any():
        axes[0, 0].set_title(f"{endpoint.upper()}: one axis at a time")
    if paired.any():
        axes[-1, 0].set_title("two axes together, beyond what each does alone")
    say(figure, synthetic=found.synthetic, converged=True)
    return figure


def _bars(left: Axes, right: Axes, table: pd.DataFrame, *, pairs: bool) -> None:
    """Draw bars from low to high, the longest on top; those of pairs start at 0."""
    for line, row in enumerate(table.to_dict("records")):
        low, high = str(row["low"]), str(row["high"])
        for axis, name in ((left, "log_ratio"), (right, "probability")):
            start = 0.0 if pairs else float(row[f"{name}_low"])
            width = float(row[f"{name}_range"])
            axis.barh(line, width, left=start, color=COLOURS[2 if pairs else 0], alpha=0.6)
            if axis is left and pairs:
                axis.annotate(f" {high}", (max(start, start + width), line), **_BESIDE)
            elif axis is left:
                axis.annotate(f"{low} ", (start, line), **{**_BESIDE, "ha": "right"})
                axis.annotate(f" {high}", (start + width, line), **_BESIDE)
    left.set_yticks(np.arange(len(table)), table["axis"], fontsize="small")
    right.set_yticks([])
    left.set_xlabel("difference of log hazard ratios" if pairs else "mean log hazard ratio")
    right.set_xlabel("difference of P(HR < 1)" if pairs else "P(HR < 1)")
    left.use_sticky_edges = False
    left.margins(x=0.35)
    for axis in (left, right):
        axis.set_ylim(len(table) - 0.5, -0.5)
        axis.spines[["top", "right"]].set_visible(False)


def scenario_map(
    found: Sensitivity, endpoint: str, rows: str, columns: str, *, value: str = "median"
) -> Figure:
    """Draw the answer over two axes as a map.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.
    rows, columns
        Axes; of all others the base case's setting.
    value
        Column of the table that is shown.

    Returns
    -------
    matplotlib.figure.Figure
        One field per combination, with its number; empty where there is none.

    Raises
    ------
    SpecError
        If an axis or the column is unknown, or the axes are the same.
    """
    table = found.of_endpoint(endpoint)
    for name in (rows, columns):
        if name not in found.axes:
            raise SpecError(f"No axis '{name}'. {nearest(name, found.axes)}")
    if rows == columns:
        raise SpecError("Give two different axes.")
    if value not in table.columns:
        raise SpecError(f"No column '{value}'. {nearest(value, [str(c) for c in table.columns])}")
    others = [name for name in found.axes if name not in (rows, columns)]
    inside = table[(table[others] == BASE).all(axis=1)]
    wide = inside.pivot_table(index=rows, columns=columns, values=value, sort=False)
    numbers = wide.to_numpy(float)
    figure = Figure(
        figsize=(2.5 + 1.1 * wide.shape[1], 1.6 + 0.5 * wide.shape[0]), layout="constrained"
    )
    axis = figure.subplots()
    image = axis.imshow(numbers, cmap="cividis", aspect="auto")
    middle = float(np.nanmean([np.nanmin(numbers), np.nanmax(numbers)]))
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            colour = "white" if number < middle else "black"
            axis.text(column, row, f"{number:.2f}", ha="center", va="center", color=colour)
    axis.set_xticks(np.arange(wide.shape[1]), [str(one) for one in wide.columns])
    axis.set_yticks(np.arange(wide.shape[0]), [str(one) for one in wide.index])
    axis.set(xlabel=columns, ylabel=rows, title=f"{endpoint.upper()}: {value}")
    figure.colorbar(image, ax=axis)
    say(figure, synthetic=found.synthetic, converged=True)
    return figure


def tipping_points(found: xr.Dataset, endpoint: str) -> Figure:
    """Draw what a confounder must be to change the answer.

    Parameters
    ----------
    found
        What `bayesblina.tipping_points` gives.
    endpoint
        Endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        P(HR < 1) without the confounder, by its prevalence among the unexposed and its hazard
        ratio; lines at 0.5, 0.8, 0.95 and 0.975.
    """
    one = found.sel(endpoint=endpoint)["probability_below_1"].transpose("ratio", "prevalence")
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    across, up = one["prevalence"].values, one["ratio"].values
    shown = axis.pcolormesh(across, up, one.values, cmap="cividis", vmin=0, vmax=1)
    if min(one.shape) > 1:
        levels = [0.5, 0.8, 0.95, 0.975]
        lines = axis.contour(across, up, one.values, levels, colors="white")
        axis.clabel(lines, fontsize="small")
    among = float(found.attrs["prevalence_exposed"])
    axis.set_xlabel(f"prevalence among the unexposed (among the exposed: {among:g})")
    axis.set_ylabel("hazard ratio of the confounder")
    axis.set_title(f"{endpoint.upper()}: P(HR < 1) without it")
    figure.colorbar(shown, ax=axis)
    mark(figure, found)
    return figure


def balance(table: pd.DataFrame) -> Figure:
    """Draw how alike those who start and those who could have are, before and after weighting.

    Parameters
    ----------
    table
        ``balance`` of what `bayesblina.starting_weights` gives.

    Returns
    -------
    matplotlib.figure.Figure
        A love plot: standardised mean differences, with lines at 0.1.
    """
    figure = Figure(figsize=(6.4, 1.4 + 0.35 * len(table)), layout="constrained")
    axis = figure.subplots()
    place = np.arange(len(table))
    for column, colour, marker in (("unweighted", COLOURS[1], "o"), ("weighted", COLOURS[0], "s")):
        axis.plot(table[column], place, marker, color=colour, label=column)
    for one in (-0.1, 0.1):
        axis.axvline(one, color="0.6", linewidth=0.8, linestyle="--")
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_yticks(place, table["covariate"])
    axis.set(
        xlabel="standardised mean difference, starting less at risk", ylim=(len(table) - 0.5, -0.5)
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    return figure


def sceptical_priors(table: pd.DataFrame, endpoint: str) -> Figure:
    """Draw how the conclusion depends on how sceptical the prior is.

    Parameters
    ----------
    table
        What `bayesblina.sceptical_priors` gives.
    endpoint
        Endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        P(HR < 1) against the upper end of the prior's 95 % interval; hollow where the weights are
        not to be relied on.
    """
    rows = table[table["endpoint"] == endpoint].sort_values("prior_upper")
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.plot(rows["prior_upper"], rows["probability_below_1"], color=COLOURS[0], linewidth=1)
    good = (rows["pareto_k"] <= 0.7).to_numpy()
    for chosen, face in ((good, COLOURS[0]), (~good, "white")):
        axis.plot(
            rows["prior_upper"][chosen],
            rows["probability_below_1"][chosen],
            "o",
            color=COLOURS[0],
            markerfacecolor=face,
        )
    for one in (0.95, 0.975):
        axis.axhline(one, color="0.6", linewidth=0.8, linestyle="--")
    axis.set_xscale("log")
    ticks: list[float] = []
    for one in rows["prior_upper"]:
        # Labels of neighbours would overlap.
        if not ticks or one / ticks[-1] > 1.17:
            ticks.append(float(one))
    axis.set_xticks(
        ticks, [f"{1 / one:.2g} to {one:.3g}" for one in ticks], rotation=45, ha="right"
    )
    axis.minorticks_off()
    axis.set(
        xlabel="95 % of the prior of the hazard ratio", ylabel="P(HR < 1)", title=endpoint.upper()
    )
    axis.spines[["top", "right"]].set_visible(False)
    return figure
