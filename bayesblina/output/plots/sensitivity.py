"""Figures of what-ifs: scenarios, confounders, weights, sceptical priors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayesblina.core.errors import SpecError, nearest, require_kind
from bayesblina.core.escaping import literal
from bayesblina.core.tables.numbers import beside
from bayesblina.output.plots.style import (
    ALARM,
    COLOURS,
    DARK,
    GREY,
    SMALL,
    TINY,
    Width,
    canvas,
    chosen,
    entitle,
    explain,
    list_rows,
    mark,
    paired,
    ratio_scale,
    require,
    say,
)
from bayesblina.studies.axes import BASE
from bayesblina.studies.what_if import Sensitivity

# Axes of probabilities span this much at least.
LEAST_PROBABILITY_SPAN = 0.02
CROSSES = "crosses: the baseline moves the hazard ratio, or event times are those of visits"


def specification_curve(
    found: Sensitivity, endpoint: str, *, largest: int = 200, width: Width = "two"
) -> Figure:
    """Draw the hazard ratio of every scenario, sorted, with the settings below.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.
    largest
        Scenarios above which figures are refused: nobody could read them.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        Above, medians with 95 % intervals, the base case marked, and crosses where the baseline
        moves the hazard ratio or event times are those of visits; below, a dot for each scenario in
        the row of its setting.

    Raises
    ------
    SpecError
        If the endpoint is unknown, no scenario converged, or there are more than `largest`.
    """
    require_kind(found, Sensitivity, "found")
    rows = found.of_endpoint(endpoint).sort_values("median", kind="stable").reset_index(drop=True)
    if len(rows) > largest:
        raise SpecError(f"{len(rows)} scenarios are too many to draw: choose rows of the table.")
    settings = settings_of(found, rows)
    below = 0.16 * len(settings)
    drawn = canvas(
        2, 1, height=2.6 + below, width=width, share_x=True, heights=[2.0, max(below, 0.2)]
    )
    top, bottom = drawn.axes[:, 0]
    marked = draw_scenarios(top, bottom, rows, found.axes, settings)
    silent = found.table.loc[found.table["status"] != "converged", "scenario"].nunique()
    without = f" ({silent} more without an answer)" if silent else ""
    top.set_ylabel("hazard ratio (log scale)")
    entitle(top, f"{endpoint.upper()}: {len(rows)} scenarios{without}")
    if top.get_legend_handles_labels()[0]:
        explain(top, place="upper left")
    list_rows(bottom, [f"{axis}: {literal(value)}" for axis, value in settings])
    bottom.set(xlabel="scenarios, by hazard ratio", xticks=[])
    return say(drawn, synthetic=found.synthetic, more=CROSSES if marked else "")


def settings_of(found: Sensitivity, rows: pd.DataFrame) -> list[tuple[str, str]]:
    """List the settings of scenarios, by axis, in the order of the table."""
    return [
        (axis, str(value))
        for axis in found.axes
        for value in dict.fromkeys(found.table[axis])
        if (rows[axis] == value).any()
    ]


def draw_scenarios(
    top: Axes,
    bottom: Axes,
    rows: pd.DataFrame,
    axes: Sequence[str],
    settings: Sequence[tuple[str, str]],
) -> bool:
    """Draw scenarios in their order, with a dot for each in the row of its setting.

    Result: whether some are marked.
    """
    place = np.arange(len(rows))
    base = (rows[list(axes)] == BASE).all(axis=1).to_numpy()
    ends = np.array([rows["median"] - rows["lower"], rows["upper"] - rows["median"]])
    for which, colour, size, label in (
        (~base, COLOURS[0], 2.5, None),
        (base, COLOURS[1], 4.5, "base case"),
    ):
        if which.any():
            top.errorbar(
                place[which],
                rows["median"][which],
                yerr=ends[:, which],
                fmt="o",
                color=colour,
                markersize=size,
                elinewidth=0.8,
                label=label,
            )
    marked = np.array([bool(beside(row)) for row in rows.to_dict("records")])
    if marked.any():
        top.plot(place[marked], rows["median"][marked], "x", color=ALARM, markersize=6)
    top.axhline(1.0, color=DARK, linewidth=0.7)
    ratio_scale(top)
    for line, (axis, value) in enumerate(settings):
        (own,) = np.nonzero(rows[axis].astype(str) == value)
        bottom.plot(own, np.full(own.size, line), ".", color=DARK, markersize=3)
    return bool(marked.any())


def tornado(found: Sensitivity, endpoint: str, *, width: Width = "two") -> Figure:
    """Draw which axis moves the answer most.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

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
    require_kind(found, Sensitivity, "found")
    effects = found.effects(endpoint)
    if effects.empty:
        raise SpecError("Nothing was varied: there is nothing to compare.")
    crossed = effects["axis"].str.contains(" x ", regex=False)
    tables = [(pairs, effects[crossed == pairs]) for pairs in sorted(crossed.unique().tolist())]
    height = 0.7 + 0.6 * len(tables) + 0.28 * len(effects)
    shares = [len(table) + 1.0 for _, table in tables]
    drawn = paired(len(tables), height=height, width=width, heights=shares)
    for (left, right), (pairs, table) in zip(drawn.axes, tables, strict=True):
        _bars(left, right, table, pairs=pairs, named=width == "one")
        single = f"{endpoint.upper()}: one axis at a time"
        entitle(left, "two axes together, beyond what each does alone" if pairs else single)
    return say(drawn, synthetic=found.synthetic)


def _bars(left: Axes, right: Axes, table: pd.DataFrame, *, pairs: bool, named: bool) -> None:
    """Draw bars from low to high, the longest on top; those of pairs start at 0."""
    draw_bars(left, table, "log_ratio", pairs=pairs, ends=True)
    draw_bars(right, table, "probability", pairs=pairs)
    if not named:
        # Only below each other does each panel need the names.
        right.set_yticks([])
    for axis, single, double in (
        (left, "mean log hazard ratio", "difference of log hazard ratios"),
        (right, "P(HR < 1)", "difference of P(HR < 1)"),
    ):
        axis.set_xlabel(double if pairs else single)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter("{x:.5g}")
    if not pairs:
        # No probability lies outside 0 to 1, whatever the margins.
        start, stop = right.get_xlim()
        middle, half = (start + stop) / 2, max((stop - start) / 2, LEAST_PROBABILITY_SPAN / 2)
        right.set_xlim(max(middle - half, 0.0), min(middle + half, 1.0))


def draw_bars(
    axis: Axes, table: pd.DataFrame, name: str, *, pairs: bool = False, ends: bool = False
) -> None:
    """Draw bars of one quantity from low to high, with their settings at the ends."""
    colour = COLOURS[2 if pairs else 0]
    for line, row in enumerate(table.to_dict("records")):
        start = 0.0 if pairs else float(row[f"{name}_low"])
        extent = float(row[f"{name}_range"])
        axis.barh(line, extent, left=start, color=colour, alpha=0.6)
        low, high = sorted((start, start + extent))
        # A range of nothing has a place, too.
        axis.plot([low, high], [line, line], "|", color=colour, markersize=7)
        # Pairs have no setting at their lower end, which is 0.
        settings = [("low", low, -2.0, "right"), ("high", high, 2.0, "left")][int(pairs) :]
        for end, edge, offset, side in settings if ends else []:
            axis.annotate(
                literal(row[end]),
                (edge, line),
                (offset, 0.0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=TINY,
            )
    if ends:
        axis.use_sticky_edges = False
        axis.margins(x=0.6 if pairs else 0.45)
    list_rows(axis, list(map(literal, table["axis"])))


def scenario_map(
    found: Sensitivity,
    endpoint: str,
    rows: str,
    columns: str,
    *,
    value: str = "median",
    width: Width = "two",
    ax: Axes | None = None,
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
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One field per combination, with its number; empty where there is none.

    Raises
    ------
    SpecError
        If an axis or the column is unknown, or the axes are the same.
    """
    require_kind(found, Sensitivity, "found")
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
    drawn = canvas(height=0.9 + 0.35 * wide.shape[0], width=width, ax=ax)
    axis = drawn.axis
    image = axis.imshow(numbers, cmap="cividis", aspect="auto")
    middle = float(np.nanmean([np.nanmin(numbers), np.nanmax(numbers)]))
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            colour = "white" if number < middle else "black"
            axis.text(
                column, row, f"{number:.2f}", ha="center", va="center", color=colour, fontsize=SMALL
            )
    axis.set_xticks(range(wide.shape[1]), list(map(literal, wide.columns)))
    axis.set_yticks(range(wide.shape[0]), list(map(literal, wide.index)))
    axis.set(xlabel=columns, ylabel=rows)
    entitle(axis, f"{endpoint.upper()}: {value}")
    drawn.figure.colorbar(image, ax=axis).ax.tick_params(labelsize=SMALL)
    return say(drawn, synthetic=found.synthetic)


def tipping_points(
    found: xr.Dataset, endpoint: str, *, width: Width = "two", ax: Axes | None = None
) -> Figure:
    """Draw what a confounder must be to change the answer.

    Parameters
    ----------
    found
        What `bayesblina.bias.tipping_points` gives.
    endpoint
        Endpoint.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        P(HR < 1) without the confounder, by its prevalence among the unexposed and its hazard
        ratio; lines at 0.5, 0.8, 0.95 and 0.975.

    Raises
    ------
    SpecError
        If the dataset is another one, or the endpoint is unknown.
    """
    require(found, ["probability_below_1"], "bayesblina.bias.tipping_points")
    chosen(found["endpoint"].values, endpoint)
    below = found.sel(endpoint=endpoint)["probability_below_1"].transpose("ratio", "prevalence")
    drawn = canvas(height=3.2, width=width, ax=ax)
    axis, field = drawn.axis, (below["prevalence"].values, below["ratio"].values, below.values)
    shown = axis.pcolormesh(*field, cmap="cividis", vmin=0, vmax=1)
    if min(below.shape) > 1:
        lines = axis.contour(*field, [0.5, 0.8, 0.95, 0.975], colors="black", linewidths=1)
        axis.clabel(lines, fontsize=SMALL)
    among = float(found.attrs["prevalence_exposed"])
    axis.set(
        xlabel=f"prevalence among the unexposed\n(among the exposed: {among:g})",
        ylabel="hazard ratio of the confounder",
    )
    entitle(axis, f"{endpoint.upper()}: P(HR < 1) without it")
    drawn.figure.colorbar(shown, ax=axis).ax.tick_params(labelsize=SMALL)
    return mark(drawn, found)


def balance(
    table: pd.DataFrame, *, synthetic: bool = False, width: Width = "two", ax: Axes | None = None
) -> Figure:
    """Draw how alike those who start and those who could have are, before and after weighting.

    Parameters
    ----------
    table
        ``balance`` of what `bayesblina.weighting.starting_weights` gives.
    synthetic
        Whether the patients are simulated: the table does not know.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        A love plot: standardised mean differences, with lines at 0.1.

    Raises
    ------
    SpecError
        If the table is another one.
    """
    require(table, ["covariate", "unweighted", "weighted"], "bayesblina.weighting.starting_weights")
    drawn = canvas(height=0.9 + 0.2 * len(table), width=width, ax=ax)
    axis = drawn.axis
    for column, colour, marker in (("unweighted", COLOURS[1], "o"), ("weighted", COLOURS[0], "s")):
        lines = np.arange(len(table))
        axis.plot(table[column], lines, marker, color=colour, markersize=4, label=column)
    for limit, colour, style in ((-0.1, GREY, "--"), (0.1, GREY, "--"), (0.0, DARK, "-")):
        axis.axvline(limit, color=colour, linewidth=0.7, linestyle=style)
    names, what = list(map(literal, table["covariate"])), "starting less at risk"
    if "of" in table:
        # Who starts, leaves and enters again, each against those who could have.
        names = [f"{of}: {name}" for of, name in zip(table["of"], names, strict=True)]
        what = "those who did less those at risk"
    list_rows(axis, names)
    axis.set_xlabel(f"standardised mean difference, {what}")
    explain(axis)
    return mark(drawn, table, synthetic=synthetic)


def sceptical_priors(
    table: pd.DataFrame,
    endpoint: str,
    *,
    synthetic: bool = False,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw how the conclusion depends on how sceptical the prior is.

    Parameters
    ----------
    table
        What `bayesblina.priors.sceptical_priors` gives.
    endpoint
        Endpoint.
    synthetic
        Whether the patients are simulated: the table does not know.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        P(HR < 1) against the upper end of the prior's 95 % interval; hollow where the weights are
        not to be relied on.

    Raises
    ------
    SpecError
        If the table is another one, or the endpoint is unknown.
    """
    needed = ["endpoint", "prior_upper", "probability_below_1", "pareto_k"]
    require(table, needed, "bayesblina.priors.sceptical_priors")
    chosen(list(table["endpoint"]), endpoint)
    rows = table[table["endpoint"] == endpoint].sort_values("prior_upper")
    drawn = canvas(height=2.8, width=width, ax=ax)
    axis = drawn.axis
    axis.plot(rows["prior_upper"], rows["probability_below_1"], color=COLOURS[0], linewidth=1)
    for reliable, face in ((True, COLOURS[0]), (False, "white")):
        inside = rows[(rows["pareto_k"] <= 0.7) == reliable]
        axis.plot(
            inside["prior_upper"],
            inside["probability_below_1"],
            "o",
            markersize=4,
            color=COLOURS[0],
            markerfacecolor=face,
        )
    for level in (0.95, 0.975):
        axis.axhline(level, color=GREY, linewidth=0.7, linestyle="--")
    axis.set_xscale("log")
    ticks: list[float] = []
    for upper in rows["prior_upper"]:
        # Labels of neighbours would overlap.
        if not ticks or upper / ticks[-1] > 1.17:
            ticks.append(float(upper))
    axis.set_xticks(
        ticks, [f"{1 / upper:.2g} to {upper:.3g}" for upper in ticks], rotation=45, ha="right"
    )
    axis.minorticks_off()
    axis.set(xlabel="95 % of the prior of the hazard ratio", ylabel="P(HR < 1)")
    entitle(axis, endpoint.upper())
    return mark(drawn, table, synthetic=synthetic)
