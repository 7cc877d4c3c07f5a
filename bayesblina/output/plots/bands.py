"""What curves over time are made of: bands, observed steps, numbers at risk."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import literal
from bayesblina.output.plots.style import DARK, GREY, TINY, colours, tails

# Points below a panel at which the numbers at risk begin, and their lines' distance: with names
# beside the numbers, and above them.
AT_RISK_TOP, AT_RISK_LINE, AT_RISK_APART = 34.0, 9.0, 10.5
# Relative difference below which two times are one.
SAME_TIME = 1e-9


def draw_band(
    axis: Axes,
    time: Floats,
    lower: Floats,
    upper: Floats,
    *,
    colour: str,
    middle: Floats | None = None,
    known: Bools | None = None,
    steps: bool = False,
    linestyle: Any = "-",
    label: str | None = None,
) -> list[Artist]:
    """Draw a band with its median, grey and dotted where it is not known from patients."""
    known = np.ones(len(time), dtype=bool) if known is None else known
    drawn: list[Artist] = [
        axis.fill_between(
            time,
            lower,
            upper,
            where=known.tolist(),
            step="pre" if steps else None,
            color=colour,
            alpha=0.2,
            linewidth=0,
            label=label if middle is None else None,
        )
    ]
    if middle is not None:
        drawn += axis.plot(
            time,
            np.where(known, middle, np.nan),
            color=colour,
            linestyle=linestyle,
            drawstyle="steps-pre" if steps else "default",
            label=label,
        )
        if not known.all():
            # From the last time that is known on, so that the curve does not break.
            beyond = ~known | ~np.append(known[1:], True) | ~np.append(True, known[:-1])
            drawn.append(
                axis.fill_between(
                    time, lower, upper, where=beyond.tolist(), color=GREY, alpha=0.25, linewidth=0
                )
            )
            unknown = np.where(beyond, middle, np.nan)
            drawn += axis.plot(time, unknown, color=GREY, linestyle=":", zorder=1.5)
    return drawn


def draw_regimes(
    axis: Axes,
    values: xr.DataArray,
    *,
    mass: float,
    steps: bool = False,
    draws: str = "posterior",
) -> dict[str, str]:
    """Draw medians with bands by regime; give the regimes' colours."""
    low, high = tails(mass)
    regimes = list(map(str, values["regime"].values))
    # Never has the first colour in every figure, wherever it stands.
    ordered = ["never", *(regime for regime in regimes if regime != "never")]
    shades = dict(zip(ordered, colours(len(ordered), "regimes"), strict=True))
    palette = {regime: shades[regime] for regime in regimes}
    supported = "supported" in values.coords and values["supported"].dims == ("regime", "time")
    for regime, colour in palette.items():
        curve = values.sel(regime=regime)
        lower, middle, upper = curve.quantile([low, 0.5, high], ("chain", "draw")).values
        draw_band(
            axis,
            values["time"].values,
            lower,
            upper,
            middle=middle,
            colour=colour,
            # Where anybody is at risk.
            known=curve["supported"].values.astype(bool) if supported and not steps else None,
            steps=steps,
            label=f"{literal(regime)} ({draws}, {mass:.0%} band)",
        )
    return palette


def draw_observed(
    axis: Axes, observed: pd.DataFrame, name: str, palette: dict[str, str], landmark: float
) -> None:
    """Draw observed steps in the colours of the regimes that they belong to."""
    rows = observed[observed["endpoint"] == name]
    if rows.empty:
        raise SpecError(f"The observed curves have no endpoint '{name}'.")
    first = float(rows["time"].min())
    if first < landmark - SAME_TIME * max(1.0, abs(landmark)):
        raise SpecError(
            f"The observed curves of '{name}' start at {first:g}, the others at {landmark:g}, "
            f"event-free there: ask simon_makuch for landmark={landmark:g}."
        )
    shades = _colours_of_groups(observed, palette)
    for group in observed["group"].unique():
        steps = rows[rows["group"] == group]
        axis.step(
            steps["time"],
            steps["survival"],
            where="post",
            color=shades.get(str(group), DARK),
            linestyle="--",
            linewidth=1,
            label=f"{literal(group)} (Simon-Makuch)",
        )


def _colours_of_groups(observed: pd.DataFrame, palette: dict[str, str]) -> dict[str | None, str]:
    """Match observed groups with regimes: the reference with never, the exposed with another."""
    pairs = [list(names) for names in observed.groupby("endpoint", sort=False)["group"].unique()]
    # In such a table the exposed group comes first, whatever the groups are called.
    exposed, reference = next((pair for pair in pairs if len(pair) == 2), (None, None))
    if exposed is None:
        reference = next((name for pair in pairs for name in pair if name.startswith("no ")), None)
    other = next((colour for regime, colour in palette.items() if regime != "never"), DARK)
    return {exposed: other, reference: palette.get("never", DARK)}


def draw_numbers_at_risk(axis: Axes, rows: pd.DataFrame, *, indent: float | None = None) -> None:
    """Write numbers at risk below a panel, which gets its ticks there.

    `indent`: points to the left of the panel at which names begin, each above its numbers; by
    default names end beside their numbers.
    """
    low, high = axis.get_xlim()
    ticks = rows["time"].unique()
    axis.set_xticks(ticks[(ticks >= low) & (ticks <= high)])
    line, apart = 0, AT_RISK_LINE if indent is None else AT_RISK_APART

    def below(text: str, where: float | None, *, slant: str = "normal") -> None:
        beside = where is None
        axis.annotate(
            text,
            (0.0 if where is None else where, 0.0),
            (-(indent or 14.0) if beside else 0.0, -AT_RISK_TOP - apart * line),
            xycoords=("axes fraction" if beside else "data", "axes fraction"),
            textcoords="offset points",
            ha="center" if not beside else "right" if indent is None else "left",
            style=slant,
            fontsize=TINY,
            va="center",
            annotation_clip=False,
        )

    below("at risk, by phase", None, slant="italic")
    for group, counts in rows.groupby("group", sort=False):
        line += 1
        below(literal(group), None)
        line += indent is not None
        for time, count in zip(counts["time"], counts["at_risk"], strict=True):
            if low <= time <= high:
                # What is masked is a text already.
                below(count if isinstance(count, str) else f"{count:.0f}", float(time))
