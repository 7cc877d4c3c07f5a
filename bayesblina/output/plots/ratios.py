"""Figures of hazard ratios that vary: over follow-up, or by step of the exposure's measure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import literal
from bayesblina.output.plots.curves import HEIGHT, require_one_group, unit_of
from bayesblina.output.plots.style import (
    COLOURS,
    DARK,
    Width,
    chosen,
    explain,
    in_a_row,
    mark,
    ratio_scale,
    require,
    tails,
)


def hazard_ratio_over_time(
    ratios: xr.Dataset,
    *,
    endpoint: str | None = None,
    until: float | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw hazard ratios by interval of follow-up, or by step of the exposure's measure.

    Parameters
    ----------
    ratios
        What `bayesblina.hazard_ratio` gives with ``over="interval"`` or ``over="step"``.
    endpoint
        Endpoint to draw; by default all, side by side.
    until
        Time, or amount, at which the last interval or step, which is open, stops in the figure; by
        default it is as wide as the one before it. Cycles and episodes are counted, and have none.
    mass, width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Medians as steps with bands, on a logarithmic scale; the last interval is dotted. By time
        since the end of a phase, the time in it is to the left of 0.

    Raises
    ------
    SpecError
        As for `survival`; if the ratios do not vary over time, or `until` does not lie after the
        start of the last interval.
    """
    require(ratios, ["hazard_ratio"], "bayesblina.hazard_ratio")
    across = _across(ratios, until)
    require_one_group(ratios)
    names = chosen(ratios["endpoint"].values, endpoint)
    drawn = in_a_row(
        [name.upper() for name in names],
        height=HEIGHT,
        width=width,
        label=_against(ratios),
        below=across.label,
        ax=ax,
        share_x=True,
        share_y=True,
    )
    low, high = tails(mass)
    for axis, name in zip(drawn.axes[0], names, strict=True):
        values = ratios["hazard_ratio"].sel(endpoint=name)
        lower, middle, upper = values.quantile([low, 0.5, high], ("chain", "draw")).values
        draw_ratios_across(axis, across, lower, middle, upper, f"posterior median, {mass:.0%} band")
    ratio_scale(drawn.axis)
    explain(drawn.axis)
    return mark(drawn, ratios)


def draw_ratios_across(
    axis: Axes,
    across: Across,
    lower: NDArray[np.float64],
    middle: NDArray[np.float64],
    upper: NDArray[np.float64],
    label: str,
) -> None:
    """Draw hazard ratios as steps with bands; the last one is dotted where it is open."""
    axis.stairs(upper, across.edges, baseline=lower, fill=True, color=COLOURS[0], alpha=0.2)
    closed = middle.size if across.counted else -1
    for inside, style, words in (
        (slice(None, closed), "-", label),
        (slice(closed, None), ":", "last, open interval"),
    ):
        if middle[inside].size:
            axis.hlines(
                middle[inside],
                across.edges[:-1][inside],
                across.edges[1:][inside],
                color=COLOURS[0],
                linestyle=style,
                label=words,
            )
    axis.axhline(1.0, color=DARK, linewidth=0.7)
    axis.set_xlim(across.edges[0], across.edges[-1])
    if across.ticks is not None:
        axis.set_xticks(*across.ticks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """How hazard ratios are laid out across a panel.

    `edges`, shape (step + 1,): where each begins, and the last ends.
    `counted`: whether steps are numbers, none of them open.
    `ticks`: where ticks are and what they say, unless they are numbers of the scale.
    """

    edges: NDArray[np.float64]
    label: str
    counted: bool = False
    ticks: tuple[list[float], list[str]] | None = None


def _across(ratios: xr.Dataset, until: float | None) -> Across:
    """Lay out intervals, or steps of the exposure's measure."""
    if "interval" in ratios.dims:
        start = ratios["interval_start"].values.astype(float)
        edges = np.append(start, _open_end(start, until))
        return Across(edges=edges, label=f"{literal(unit_of(ratios))} from the origin")
    if "step" not in ratios.dims:
        raise SpecError(
            "These hazard ratios do not vary over time: ask for over='interval' or over='step'."
        )
    attributes = {name: str(ratios.attrs.get(name, "")) for name in ("scale", "measure", "amount")}
    return across_steps(ratios["begins"].values.astype(float), **attributes, until=until)


def across_steps(
    start: NDArray[np.float64], *, scale: str, measure: str, amount: str, until: float | None = None
) -> Across:
    """Lay out steps of the exposure's measure.

    `start`, shape (step,): where each begins; NaN for the time in the phase, before its end.
    `scale`, `measure`, `amount`: attributes of hazard ratios by step.
    """
    label = literal(scale)
    if measure == "episode":
        return _counted(start, label)
    if amount == "cycles":
        # More than so many cycles are that and one more at least.
        return _counted(np.floor(start) + 1.0, label)
    inside = np.isnan(start)
    edges = np.append(start[~inside], _open_end(start[~inside], until))
    if not inside.any():
        return Across(edges=edges, label=label)
    # In the phase nothing has ended: room for that, a sixth of the panel.
    room = (edges[-1] - edges[0]) / 5.0
    ticks = MaxNLocator(5).tick_values(edges[0], edges[-1])
    times = [float(tick) for tick in ticks if edges[0] <= tick <= edges[-1]]
    return Across(
        edges=np.concatenate([[-room], edges]),
        label=label,
        ticks=([-room / 2.0, *times], ["in it", *(f"{time:g}" for time in times)]),
    )


def _counted(first: NDArray[np.float64], label: str) -> Across:
    """Lay out steps of whole numbers, each as wide as the others.

    `first`, shape (step,): the first number of each.
    """
    names = [
        f"{low:g}" if high == low + 1 else f"{low:g} to {high - 1:g}"
        for low, high in pairwise(first)
    ]
    return Across(
        edges=np.arange(first.size + 1, dtype=np.float64) - 0.5,
        label=label,
        counted=True,
        ticks=(list(range(first.size)), [*names, f"{first[-1]:g} or more"]),
    )


def _against(ratios: xr.Dataset) -> str:
    """Word what a hazard ratio compares."""
    exposed, reference = ratios.attrs.get("exposed"), ratios.attrs.get("reference")
    if not exposed or not reference:
        return "hazard ratio"
    return f"hazard ratio, {literal(exposed)}\nagainst {literal(reference)}"


def _open_end(start: NDArray[np.float64], until: float | None) -> float:
    if until is not None:
        if not until > start[-1]:
            raise SpecError(
                f"until must lie after the last interval's start, {start[-1]:g}; got {until!r}."
            )
        return float(until)
    return float(2 * start[-1] - start[-2]) if start.size > 1 else float(start[-1]) + 1.0
