"""What all figures share: sizes, colours, scales, and what must not be overlooked."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bayesblina.core.errors import SpecError, nearest
from bayesblina.core.escaping import literal
from bayesblina.core.tables.numbers import BASELINE, CONVERGED, EVENT_TIMES, failed_in

# One column or two of a journal's page.
Width = Literal["one", "two"]
INCHES: Mapping[str, float] = {"one": 89 / 25.4, "two": 183 / 25.4}
DPI = 150
# Points. Print needs 6 at least.
SIZE, SMALL, TINY = 8.0, 7.0, 6.0
# Okabe and Ito's palette: distinguishable with colour-blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK, GREY, PALE = "0.15", "0.45", "0.85"
ALARM = "#B00000"
# Letters on an inch, at the size of what is written above a figure.
LETTERS = 17.0
SYNTHETIC = "synthetic patients"
WORDS: Mapping[str, str] = {
    CONVERGED: "NOT CONVERGED",
    BASELINE: "THE BASELINE MOVES THE HAZARD RATIO",
    EVENT_TIMES: "EVENT TIMES ARE THOSE OF VISITS",
}
# Ticks of ratios, in the order in which they are wanted.
TICKS = (
    *(1.0, 10.0, 0.1, 100.0, 0.01, 1000.0, 0.001),
    *(2.0, 0.5, 5.0, 0.2, 20.0, 0.05, 50.0, 0.02),
    *(3.0, 0.3, 1.5, 0.7),
)
# Inches between labels of a logarithmic axis, so that they do not touch.
TICK_DISTANCE = 0.27
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "figure.dpi": DPI,
    "text.usetex": False,
}


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself, whether or not pyplot was ever imported."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Canvas:
    """A figure with its panels.

    `axes`, shape (row, column): the panels.
    `own`: whether the figure was made here; otherwise the one panel is the caller's.
    """

    figure: Figure
    axes: NDArray[np.object_]
    own: bool

    @property
    def axis(self) -> Axes:
        """The first panel."""
        first: Axes = self.axes[0, 0]
        return first

    def name_axes(self, below: str, beside: str) -> None:
        """Name the horizontal axes of the lowest row, and the vertical ones of the first column."""
        for axis in self.axes[-1]:
            axis.set_xlabel(below)
        for axis in self.axes[:, 0]:
            axis.set_ylabel(beside)


def canvas(
    rows: int = 1,
    columns: int = 1,
    *,
    height: float,
    width: Width = "two",
    ax: Axes | None = None,
    share_x: bool = False,
    share_y: bool = False,
    heights: Sequence[float] | None = None,
) -> Canvas:
    """Make a figure with panels, or take the caller's panel."""
    if width not in INCHES:
        raise SpecError(f"width must be 'one' or 'two' columns of a page, got {width!r}.")
    if ax is not None:
        if rows * columns != 1:
            raise SpecError(
                f"ax= takes one panel, and this figure has {rows * columns}: choose one endpoint "
                "or group, or leave ax out."
            )
        figure = ax.get_figure(root=True)
        if figure is None:
            raise SpecError("ax= belongs to no figure any more: give one that does.")
        dress(ax)
        return Canvas(figure=figure, axes=np.array([[ax]], dtype=object), own=False)
    with mpl.rc_context(STYLE):
        figure = NotebookFigure(figsize=(INCHES[width], height), layout="constrained")
        axes = figure.subplots(
            rows, columns, squeeze=False, sharex=share_x, sharey=share_y, height_ratios=heights
        )
    for axis in axes.flat:
        dress(axis)
    return Canvas(figure=figure, axes=axes, own=True)


def paired(rows: int, *, height: float, width: Width, heights: Sequence[float] = ()) -> Canvas:
    """Make a figure of pairs of panels: beside each other on two columns, else below each other.

    `heights`: relative heights of the pairs; by default equal.
    Result: panels of shape (pair, 2).
    """
    shares = list(heights) or [1.0] * rows
    if width != "one":
        return canvas(rows, 2, height=height, width=width, heights=shares)
    doubled = np.repeat(shares, 2).tolist()
    stacked = canvas(2 * rows, 1, height=1.8 * height, width=width, heights=doubled)
    return replace(stacked, axes=stacked.axes.reshape(rows, 2))


def in_a_row(
    titles: Sequence[str],
    *,
    height: float,
    width: Width,
    label: str = "",
    below: str = "",
    ax: Axes | None = None,
    share_x: bool = False,
    share_y: bool = False,
) -> Canvas:
    """Make panels with titles beside each other on two columns, else below each other.

    `label`: name of the vertical axis, of every panel that has none to its left.
    `below`: name of the horizontal axis, of every panel that has none below it.
    Result: panels of shape (1, count).
    """
    count = len(titles)
    down = width == "one" and ax is None
    made = canvas(
        *((count, 1) if down else (1, count)),
        height=count * height if down else height,
        width=width,
        ax=ax,
        share_x=share_x,
        share_y=share_y,
    )
    panels = made.axes.reshape(1, count)
    for index, (panel, title) in enumerate(zip(panels[0], titles, strict=True)):
        entitle(panel, title)
        panel.set_ylabel(label if down or index == 0 else "")
        panel.set_xlabel(below if not down or index == count - 1 else "")
    return replace(made, axes=panels)


def dress(axis: Axes) -> None:
    """Give a panel the style of all figures."""
    # Ticks are made when they are first drawn, long after any settings that hold for a while.
    axis.tick_params(labelsize=SMALL, width=0.7, length=3)
    axis.xaxis.label.set_fontsize(SIZE)
    axis.yaxis.label.set_fontsize(SIZE)
    axis.spines[["top", "right"]].set_visible(False)


def entitle(axis: Axes, text: str) -> None:
    """Write a panel's title, on the left; nothing in it is mathematics."""
    axis.set_title(literal(text), loc="left", fontsize=SIZE, fontweight="bold", wrap=True)


Place = Literal["best", "upper left", "lower right"]


def explain(axis: Axes, *, place: Place = "best") -> None:
    """Write a panel's legend."""
    axis.legend(frameon=False, fontsize=SMALL, loc=place)


def colours(count: int, what: str) -> tuple[str, ...]:
    """Give each of several things its own colour."""
    if count > len(COLOURS):
        raise SpecError(
            f"{count} {what} are too many for one figure, whose colours tell {len(COLOURS)} apart: "
            "choose some with .sel or rows of the table."
        )
    return COLOURS[:count]


def tails(mass: float) -> tuple[float, float]:
    """Turn the probability of a central interval into those of its ends."""
    if not 0 < mass < 1:
        raise SpecError(f"mass must lie between 0 and 1, got {mass!r}.")
    return (1.0 - mass) / 2.0, (1.0 + mass) / 2.0


def chosen(known: Iterable[object], endpoint: str | None, *, what: str = "endpoint") -> list[str]:
    """List the endpoints to draw.

    `endpoint`: the one asked for; None for all.
    """
    names = list(dict.fromkeys(str(name) for name in known))
    if endpoint is not None and endpoint not in names:
        raise SpecError(f"No {what} '{endpoint}'. {nearest(str(endpoint), names)}")
    if not names:
        raise SpecError(f"There is no {what} to draw.")
    return names if endpoint is None else [endpoint]


def require(source: Any, names: Sequence[str], made_by: str) -> None:
    """Refuse what is not the kind of table or dataset that a figure shows.

    `names`: variables or columns that must be there.
    """
    if not isinstance(source, xr.Dataset | pd.DataFrame):
        raise TypeError(
            f"Expected what {made_by} gives, got {type(source).__name__}: call {made_by} first."
        )
    missing = [name for name in names if name not in source]
    if missing:
        found = ", ".join(map(str, source)) or "nothing"
        raise SpecError(f"Expected what {made_by} gives, with '{missing[0]}'; found {found}.")


def mark(
    drawn: Canvas, *sources: xr.Dataset | pd.DataFrame | None, synthetic: bool = False
) -> Figure:
    """Say in the figure itself what must not be overlooked, and give it.

    `*sources`: what it shows; their attributes, and what stands beside each number, tell whether
    patients are synthetic and which gates were failed (`bayesblina.core.tables.numbers`).
    `synthetic`: whether patients are synthetic, where a table does not know.
    """
    given = [source for source in sources if source is not None]
    return say(
        drawn,
        synthetic=synthetic or any(source.attrs.get("synthetic") for source in given),
        failed={name for source in given for name in failed_in(source)},
    )


def say(drawn: Canvas, *, synthetic: bool, failed: Collection[str] = (), more: str = "") -> Figure:
    """Write above a figure what must not be overlooked, and give it.

    `failed`: gates that were failed.
    """
    gates = [words for name, words in WORDS.items() if name in failed]
    parts = [*([SYNTHETIC] if synthetic else []), *gates, *([more] if more else [])]
    if not parts:
        return drawn.figure
    words = " - ".join(parts)
    if len(words) > LETTERS * drawn.figure.get_figwidth():
        words = "\n".join(parts)
    weight = "bold" if gates else "normal"
    if drawn.own:
        drawn.figure.suptitle(words, fontsize=SMALL, color=ALARM, fontweight=weight)
    else:
        drawn.axis.annotate(
            words,
            (1.0, 1.0),
            (0.0, 3.0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=TINY,
            color=ALARM,
            fontweight=weight,
        )
    return drawn.figure


def draw_interval(
    axis: Axes,
    place: float,
    row: Mapping[Any, Any],
    *,
    colour: str,
    face: str | None = None,
    marker: str = "o",
    size: float = 4,
    label: str = "_",
) -> None:
    """Draw an estimate with its interval across a panel."""
    axis.plot([row["lower"], row["upper"]], [place, place], color=colour, linewidth=1.2)
    axis.plot(
        row["median"],
        place,
        marker,
        color=colour,
        markersize=size,
        markerfacecolor=face or colour,
        linestyle="",
        label=label,
    )


def write_after(axis: Axes, place: float, text: str) -> None:
    """Write a text to the right of a panel's row."""
    axis.annotate(
        text,
        (1.0, place),
        (6.0, 0.0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=SMALL,
        annotation_clip=False,
    )


def list_rows(axis: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a panel, the first on top."""
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)


def hide_scale(axis: Axes) -> None:
    """Take the line and the ticks of a panel's vertical axis away; its labels stay."""
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def ratio_scale(axis: Axes, direction: Literal["x", "y"] = "y") -> None:
    """Put ratios on a logarithmic axis with readable ticks."""
    across = direction == "x"
    (axis.set_xscale if across else axis.set_yscale)("log")
    figure = axis.get_figure(root=True)
    if figure is not None and figure.get_layout_engine() is not None:
        # Only a laid-out panel knows how much room its ticks have.
        figure.draw_without_rendering()
    low, high = axis.get_xlim() if across else axis.get_ylim()
    ticks = _ratio_ticks(low, high, inches=_inches(axis, across=across))
    (axis.set_xlim if across else axis.set_ylim)(low, high)
    (axis.set_xticks if across else axis.set_yticks)(ticks, [f"{tick:g}" for tick in ticks])
    (axis.xaxis if across else axis.yaxis).set_tick_params(which="minor", length=0)
    axis.minorticks_off()


def label_ratios(axis: Axes) -> None:
    """Write ratios at the ticks of a horizontal axis of their logarithms."""
    low, high = axis.get_xlim()
    ticks = _ratio_ticks(math.exp(low), math.exp(high), inches=_inches(axis, across=True))
    axis.set_xticks(np.log(ticks), [f"{tick:g}" for tick in ticks])


def _ratio_ticks(low: float, high: float, *, inches: float) -> list[float]:
    """Choose ticks within limits, the roundest first, none so near to another that they touch."""
    inside = [tick for tick in TICKS if low <= tick <= high]
    if len(inside) < 3:
        # Too narrow for the usual ones.
        ticks = (1.0, *map(float, MaxNLocator(4).tick_values(low, high)))
        inside = [tick for tick in ticks if low <= tick <= high and tick > 0]
    scale = inches / math.log(high / low)
    kept: list[float] = []
    for tick in inside:
        if all(abs(math.log(tick / other)) * scale >= TICK_DISTANCE for other in kept):
            kept.append(tick)
    return sorted(kept)


def _inches(axis: Axes, *, across: bool) -> float:
    box = axis.get_window_extent()
    figure = axis.get_figure(root=True)
    dots = DPI if figure is None else figure.dpi
    return float(box.width if across else box.height) / dots
