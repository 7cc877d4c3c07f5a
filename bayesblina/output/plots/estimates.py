"""Figures of estimates: densities and forests of hazard ratios, the bias ladder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import literal
from bayesblina.core.tables import numbers
from bayesblina.core.tables.numbers import BESIDE, SHORT, beside
from bayesblina.output.plots.style import (
    COLOURS,
    DARK,
    GREY,
    SMALL,
    Width,
    canvas,
    chosen,
    draw_interval,
    entitle,
    explain,
    hide_scale,
    in_a_row,
    list_rows,
    mark,
    ratio_scale,
    require,
    say,
    tails,
    write_after,
)

DENSITY_POINTS = 400
# Inches for each line of a forest, and for what stands around them.
LINE, FRAME = 0.2, 0.75
_INTERVAL = ("median", "lower", "upper")
# Columns of a summary that are no labels of its rows.
_NO_LABELS = frozenset(
    {"mean", "sd", *_INTERVAL, "mcse", "ess_bulk", "ess_tail", "r_hat", "converged", *BESIDE}
)


def hazard_ratio(
    ratios: xr.Dataset,
    *,
    endpoint: str | None = None,
    prior: tuple[float, float] | None = None,
    thresholds: Sequence[float] = (1.0,),
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the posterior density of each endpoint's hazard ratio.

    Parameters
    ----------
    ratios
        What `bayesblina.hazard_ratio` gives.
    endpoint
        Endpoint to draw; by default all, below each other.
    prior
        Mean and sd of the normal prior of the log hazard ratio, drawn for comparison.
    thresholds
        Hazard ratios to mark; the titles say how probable lower ones are.
    mass
        Probability of the interval shaded.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one endpoint on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved. Densities are those of the log hazard ratio. Where
        the fit was compared with a model without a baseline, a bar below the density is that
        one's interval and median.

    Raises
    ------
    SpecError
        If the ratios vary over time or by subgroup, a threshold is not above 0, the endpoint is
        unknown, or `ax` is given for several endpoints.
    """
    require(ratios, ["hazard_ratio"], "bayesblina.hazard_ratio")
    more = [str(dim) for dim in ratios["hazard_ratio"].dims if dim not in ("chain", "draw")]
    if more not in ([], ["endpoint"]):
        raise SpecError(
            f"One density cannot show ratios by {' and '.join(set(more) - {'endpoint'})}: choose "
            "one with .sel, or draw a forest or hazard_ratio_over_time."
        )
    if not thresholds or min(thresholds) <= 0:
        raise SpecError(f"thresholds must be hazard ratios above 0, got {list(thresholds)!r}.")
    ends = tails(mass)
    if not more:
        name = str(ratios["endpoint"].values) if "endpoint" in ratios.coords else "all"
        ratios = ratios.drop_vars("endpoint", errors="ignore").expand_dims(endpoint=[name])
    names = chosen(ratios["endpoint"].values, endpoint)
    drawn = canvas(len(names), 1, height=0.7 + 1.3 * len(names), width=width, ax=ax, share_x=True)
    logs = np.log([ratios["hazard_ratio"].sel(endpoint=name).values.ravel() for name in names])
    low, high = np.quantile(logs, [0.0005, 0.9995], axis=1)
    marks = np.log(np.asarray(thresholds, dtype=np.float64))
    grid = np.linspace(
        min(*low, np.log(0.5), marks.min() - 0.1),
        max(*high, np.log(1.5), marks.max() + 0.1),
        DENSITY_POINTS,
    )
    for index, (axis, name, draws) in enumerate(zip(drawn.axes[:, 0], names, logs, strict=True)):
        if np.ptp(draws) == 0:
            raise SpecError(f"{name}: the hazard ratio is the same in every draw: no density.")
        height = draw_density(
            axis,
            draws,
            grid,
            interval=np.quantile(draws, ends),
            prior=prior,
            thresholds=thresholds,
            colour=COLOURS[index % len(COLOURS)],
            label=f"{mass:.0%} interval",
        )
        _without_baseline(axis, ratios.sel(endpoint=name), height=height)
        below = [_probability_below(threshold, draws) for threshold in thresholds]
        entitle(axis, f"{name.upper()}: {', '.join(below)}")
    explain(drawn.axis)
    bottom = drawn.axes[-1, 0]
    ratio_scale(bottom, "x")
    exposed, reference = ratios.attrs.get("exposed"), ratios.attrs.get("reference")
    what = f", {literal(exposed)} against {literal(reference)}" if exposed and reference else ""
    bottom.set_xlabel(f"hazard ratio{what} (log scale)")
    return mark(drawn, ratios)


def _probability_below(threshold: float, logs: Floats) -> str:
    """Word how probable a hazard ratio below a threshold is."""
    text = numbers.probability(float((np.exp(logs) < threshold).mean()))
    return f"P(HR < {threshold:g}) {'' if text[0] in '<>' else '= '}{text}"


def draw_density(
    axis: Axes,
    logs: Floats,
    grid: Floats,
    *,
    interval: Floats,
    prior: tuple[float, float] | None,
    thresholds: Sequence[float],
    colour: str = COLOURS[0],
    label: str = "_",
    median: float | None = None,
) -> float:
    """Draw the density of a log ratio over the ratio, with an interval of the log filled."""
    from scipy.stats import gaussian_kde, norm

    density = gaussian_kde(logs)(grid)
    inside = (grid >= interval[0]) & (grid <= interval[1])
    axis.plot(np.exp(grid), density, color=colour, label="posterior")
    filled = np.exp(grid[inside])
    axis.fill_between(filled, density[inside], color=colour, alpha=0.2, linewidth=0, label=label)
    if prior is not None:
        axis.plot(np.exp(grid), norm.pdf(grid, *prior), color=GREY, linestyle=":", label="prior")
    for threshold in thresholds:
        axis.axvline(threshold, color=DARK, linewidth=0.7)
    if median is not None:
        axis.vlines(median, 0.0, np.interp(np.log(median), grid, density), color=colour)
    axis.set(yticks=[], ylim=(0, None))
    hide_scale(axis)
    return float(density.max())


def forest(
    summary: pd.DataFrame,
    *,
    labels: Sequence[str] | None = None,
    quantity: str = "hazard ratio",
    logarithmic: bool = True,
    null: float | None = 1.0,
    synthetic: bool = False,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw estimates with their intervals below each other, their numbers beside them.

    Parameters
    ----------
    summary
        What `bayesblina.summary` gives, of one or of several quantities (`pandas.concat`): any
        table with ``median``, ``lower`` and ``upper``.
    labels
        Columns that name the rows; by default all that hold text.
    quantity
        What the estimates are, for the axis.
    logarithmic
        Whether the axis is logarithmic, as ratios want it.
    null
        Where a line stands for no difference; None for no line.
    synthetic
        Whether the patients are simulated, where the table's attributes do not say so: tables that
        were joined may have lost them.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One line per row, in the table's order; a row that failed a gate has a hollow marker and
        says so. Numbers are written as `bayesblina.core.tables` writes them.

    Raises
    ------
    SpecError
        If a column is missing, there are no rows, or a logarithmic axis gets what is not above 0.

    Examples
    --------
    >>> summary = pd.DataFrame(
    ...     {
    ...         "endpoint": ["os", "rfs"],
    ...         "median": [0.5, 0.6],
    ...         "lower": [0.3, 0.4],
    ...         "upper": [0.9, 1.1],
    ...     }
    ... )
    >>> [text.get_text() for text in forest(summary).axes[0].texts]
    ['0.50 (0.30 to 0.90)', '0.60 (0.40 to 1.10)']
    """
    require(summary, _INTERVAL, "bayesblina.summary")
    if summary.empty:
        raise SpecError("There are no estimates to draw.")
    if labels is not None:
        require(summary, labels, "bayesblina.summary")
    values = summary[list(_INTERVAL)].to_numpy(float)
    if np.isinf(values).any():
        raise SpecError(
            "Times that some draws do not reach have no interval to draw: use tables.estimates."
        )
    if logarithmic and (values[~np.isnan(values).any(axis=1)] <= 0).any():
        raise SpecError("A logarithmic axis needs numbers above 0: set logarithmic=False.")
    kind: numbers.Kind = "ratio" if logarithmic else "number"
    drawn = canvas(height=FRAME + LINE * len(summary), width=width, ax=ax)
    axis = drawn.axis
    for line, row in enumerate(summary.to_dict("records")):
        marks, text = beside(row), "no finite estimate"
        if not np.isnan(values[line]).any():
            colour, face = (COLOURS[1], "white") if marks else (COLOURS[0], None)
            draw_interval(axis, line, row, colour=colour, face=face)
            text = numbers.interval(row["median"], row["lower"], row["upper"], kind=kind)
        write_after(axis, line, f"{text}, {marks}" if marks else text)
    if null is not None:
        axis.axvline(null, color=GREY, linewidth=0.7, zorder=0)
    list_rows(axis, _row_labels(summary, labels))
    hide_scale(axis)
    axis.set_xlabel(literal(quantity) + (" (log scale)" if logarithmic else ""))
    mark(drawn, summary, synthetic=synthetic)
    if logarithmic:
        ratio_scale(axis, "x")
    return drawn.figure


def _rung_label(rows: pd.DataFrame) -> str:
    """Name a rung: its method, whether covariates are in it, and whether it is biased."""
    label = literal(str(rows["method"].iloc[0]))
    if "adjusted" in rows:
        covariates = "adjusted" if rows["adjusted"].all() else "unadjusted"
        label = f"{label.removesuffix(', adjusted')}, {covariates}"
    return f"{label} (biased)" if rows["note"].str.startswith("biased").any() else label


def bias_ladder(
    ladder: pd.DataFrame,
    *,
    truth: Mapping[str, float] | None = None,
    endpoint: str | None = None,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the bias ladder: every method's estimate with its interval, the naive one on top.

    Parameters
    ----------
    ladder
        What `bayesblina.classical.bias_ladder` gives.
    truth
        Hazard ratio of each endpoint with which the patients were simulated, drawn as a line.
    endpoint
        Endpoint to draw; by default all, side by side.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one endpoint on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved. Estimates that do not exist are named as such.

    Raises
    ------
    SpecError
        If the table is another one, the endpoint or its truth is unknown, or `ax` is given for
        several endpoints.
    """
    needed = ["endpoint", "method", "estimate", "lower", "upper", "note"]
    require(ladder, needed, "bayesblina.classical.bias_ladder")
    names = chosen(list(ladder["endpoint"]), endpoint)
    unknown = [name for name in names if truth is not None and name not in truth]
    if unknown:
        raise SpecError(f"truth has no hazard ratio of '{unknown[0]}'.")
    methods = list(ladder["method"].unique())
    drawn = in_a_row(
        [name.upper() for name in names],
        height=FRAME + 0.25 + 0.27 * len(methods),
        width=width,
        below="hazard ratio (log scale)",
        ax=ax,
        share_x=True,
        share_y=True,
    )
    for axis, name in zip(drawn.axes[0], names, strict=True):
        for row in ladder[ladder["endpoint"] == name].to_dict("records"):
            biased = str(row["note"]).startswith("biased")
            draw_rung(axis, methods.index(row["method"]), row, biased=biased)
        axis.axvline(1.0, color=GREY, linewidth=0.7, zorder=0)
        if truth is not None:
            axis.axvline(truth[name], color=COLOURS[2], linestyle="--", label="simulated truth")
    list_rows(drawn.axis, [_rung_label(ladder[ladder["method"] == name]) for name in methods])
    ratio_scale(drawn.axis, "x")
    # The scale is shared, but not the switch for minor ticks.
    for axis in drawn.axes[0]:
        axis.minorticks_off()
    if truth is not None and drawn.own:
        line = drawn.axis.get_legend_handles_labels()
        drawn.figure.legend(*line, loc="outside lower right", frameon=False, fontsize=SMALL)
    elif truth is not None:
        explain(drawn.axis)
    failed = [
        name
        for name, words in SHORT.items()
        if ladder["note"].str.contains(words, regex=False).any()
    ]
    return say(drawn, synthetic=bool(ladder.attrs.get("synthetic")), failed=failed)


def draw_rung(
    axis: Axes,
    place: int,
    row: Mapping[Any, Any],
    *,
    biased: bool,
    open_marker: bool = False,
    absent: str = "no finite estimate",
) -> None:
    """Draw one method's estimate, a cross where it is biased; say why if there is none."""
    if np.isfinite(row["estimate"]):
        draw_interval(
            axis,
            place,
            {**row, "median": row["estimate"]},
            colour=COLOURS[1] if biased else COLOURS[0],
            face="white" if open_marker and not biased else None,
            marker="X" if biased else "o",
            size=5,
        )
        return
    axis.annotate(
        absent,
        (0.5, place),
        xycoords=("axes fraction", "data"),
        ha="center",
        va="center",
        fontsize=SMALL,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
    )


def _without_baseline(axis: Axes, ratio: xr.Dataset, *, height: float) -> None:
    """Draw the answer without a baseline as a bar in the foot of a density."""
    if "companion_median" in ratio.coords and np.isfinite(float(ratio["companion_median"])):
        row = {name: float(ratio[f"companion_{name}"]) for name in _INTERVAL}
        label = "without a baseline"
        draw_interval(axis, 0.06 * height, row, colour=DARK, marker="D", size=3.5, label=label)


def _row_labels(rows: pd.DataFrame, labels: Sequence[str] | None) -> list[str]:
    """Name the rows by the columns given, or by all that hold text."""
    if labels is None:
        labels = [
            str(name)
            for name in rows.columns
            if str(name) not in _NO_LABELS and not pd.api.types.is_numeric_dtype(rows[name])
        ]
    return [
        ", ".join(
            literal(cell) for cell in row if cell is not None and not pd.isna(cell) and cell != ""
        )
        for row in rows[list(labels)].itertuples(index=False, name=None)
    ]
