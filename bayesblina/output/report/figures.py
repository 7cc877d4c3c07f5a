"""Figures of the report: drawn by the functions of `output.plots`, on panels of the page's size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text

from bayesblina.core.arrays import Floats
from bayesblina.core.escaping import literal, plain
from bayesblina.core.tables.numbers import beside, probability
from bayesblina.output.plots import style
from bayesblina.output.plots.bands import (
    AT_RISK_APART,
    AT_RISK_TOP,
    draw_band,
    draw_numbers_at_risk,
)
from bayesblina.output.plots.estimates import draw_density, draw_rung
from bayesblina.output.plots.predictive import draw_events
from bayesblina.output.plots.ratios import Across, draw_ratios_across
from bayesblina.output.plots.sensitivity import draw_bars, draw_scenarios, settings_of
from bayesblina.output.plots.style import (
    GREY,
    PALE,
    STYLE,
    dress,
    hide_scale,
    label_ratios,
    list_rows,
    ratio_scale,
)
from bayesblina.output.report.svg import FigureParts, embedded_svg
from bayesblina.studies.what_if.reading import Sensitivity

# Points on an inch, and across a figure of the page, whose width fits its letters to the page's.
POINTS, WIDTH = 72.0, 310.0
# Points around a panel, and up and down in it.
LEFT, RIGHT, TOP, BELOW, HEIGHT = 28.0, 12.0, 8.0, 30.0, 138.0
DENSITY_POINTS = 160
# Regimes are told apart by lines, too.
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (9, 3)))
SHADES = style.COLOURS[:5]
COLOURS = len(SHADES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure.

    `name`: its id in the page.
    `svg`: the drawing.
    `description`: what is to be seen, for those who do not see it.
    """

    name: str
    svg: Markup
    description: str


def shorten(text: str, length: int) -> str:
    """Cut a text that is too long for its place.

    >>> shorten("maintenance", 6)
    'maint…'
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"


def rounded(values: pd.Series) -> pd.Series:
    """Round probabilities to three decimals; what is neither 0 nor 1 does not become it.

    >>> rounded(pd.Series([0.12345, 0.99999, 1.0])).tolist()
    [0.123, 0.9995, 1.0]
    """
    inside = values.round(3).clip(0.0005, 0.9995)
    return inside.where((values > 0) & (values < 1), values)


def _panels(*heights: float, left: float = LEFT, below: float = BELOW) -> list[Axes]:
    """Make panels of fixed places below each other, as high as given."""
    tall = TOP + sum(heights) + TOP * (len(heights) - 1) + below
    with mpl.rc_context(STYLE):
        figure = Canvas(figsize=(WIDTH / POINTS, tall / POINTS), dpi=POINTS)
        panels: list[Axes] = []
        top = tall - TOP
        for height in heights:
            place = (left, top - height, WIDTH - left - RIGHT, height)
            share = np.array(place) / (WIDTH, tall, WIDTH, tall)
            panels.append(figure.add_axes(tuple(share), sharex=panels[0] if panels else None))
            top -= height + TOP
    figure.patch.set_visible(False)
    for panel in panels:
        dress(panel)
        panel.patch.set_visible(False)
        panel.set_axisbelow(True)
    return panels


def _write(text: Text, full: str, length: int, parts: FigureParts) -> None:
    """Set a text that is cut where it is too long; the whole is told when it is pointed at."""
    full = plain(full)
    text.set_text(literal(shorten(full, length)))
    if len(full) > length:
        parts.tell(text, full)


def _name_rows(panel: Axes, labels: Sequence[str], length: int, parts: FigureParts) -> None:
    """Name the rows of a panel, from the top down."""
    list_rows(panel, [literal(shorten(plain(label), length)) for label in labels])
    hide_scale(panel)
    for tick, label in zip(panel.yaxis.get_major_ticks(), labels, strict=True):
        if len(plain(label)) > length:
            parts.tell(tick.label1, plain(label))


def _finished(
    name: str, panel: Axes, title: str, description: str, parts: FigureParts, kind: str = ""
) -> Figure:
    words = f"{title}. {description}"
    svg = embedded_svg(
        _figure_of(panel),
        name,
        title=plain(title),
        description=plain(words),
        parts=parts,
        kind=kind,
    )
    return Figure(name=name, svg=svg, description=words)


def _at_the_end(curves: Mapping[str, pd.DataFrame]) -> str:
    """Word where curves end, by regime."""
    return "; ".join(
        f"{regime}: {probability(last['median'])} ({probability(last['lower'])} to "
        f"{probability(last['upper'])}) at {last['time']:g}"
        for regime, curve in curves.items()
        for last in curve.tail(1).to_dict("records")
    )


def survival(
    name: str,
    rows: pd.DataFrame,
    *,
    regimes: Sequence[str],
    observed: Mapping[str, tuple[Floats, Floats]],
    at_risk: Mapping[str, Sequence[tuple[float, str]]],
    colours: Mapping[str, int],
    known_until: Mapping[str, float],
    supported: bool = False,
    title: str,
    unit: str,
    landmark: float,
) -> tuple[Figure, dict[str, Any]]:
    """Draw survival curves with bands, observed curves and numbers at risk.

    `known_until`: by regime the time up to which enough patients are at risk; curves are grey
    beyond it.
    `supported`: whether the rows say when anybody has the regime's history; grey elsewhere.
    `landmark`: where the curves begin.
    """
    rows = rows.assign(**{column: rounded(rows[column]) for column in ("median", "lower", "upper")})
    times = np.sort(rows["time"].unique()).astype(float)
    lines = 1 + 2 * len(at_risk) if at_risk else 0
    (panel,) = _panels(HEIGHT, below=AT_RISK_TOP + AT_RISK_APART * lines if at_risk else BELOW)
    _shares(panel, times, f"{unit} from the origin, event-free at {landmark:g}")
    parts = FigureParts()
    drawn = {
        index: rows[rows["regime"] == regime].sort_values("time")
        for index, regime in enumerate(regimes)
        if (rows["regime"] == regime).any()
    }
    for index, curve in drawn.items():
        gid = f"regime-{index}"
        parts.attributes[gid] = {"class": "regime", "data-regime": str(index)}
        for artist in draw_band(
            panel,
            curve["time"].to_numpy(float),
            curve["lower"].to_numpy(float),
            curve["upper"].to_numpy(float),
            middle=curve["median"].to_numpy(float),
            known=(
                (curve["time"] <= known_until.get(regimes[index], np.inf))
                & (curve["supported"].astype(bool) if supported else True)
            ).to_numpy(),
            colour=SHADES[index % COLOURS],
            linestyle=LINES[index % COLOURS],
        ):
            # Regime by regime, so that each is one group.
            artist.set(gid=gid, zorder=2 + index / len(regimes))
    for index, (group, (at, values)) in enumerate(observed.items()):
        if len(at) > 1:
            gid = f"observed-{index}"
            parts.attributes[gid] = {"class": "observed"}
            parts.titles[gid] = f"{plain(group)} (observed)"
            shade = SHADES[colours[group] % COLOURS]
            panel.plot(at, values, color=shade, linestyle=":", linewidth=1, gid=gid, zorder=3)
    if at_risk:
        counts = [
            {"group": shorten(plain(group), 66), "time": time, "at_risk": count}
            for group, told in at_risk.items()
            for time, count in told
        ]
        draw_numbers_at_risk(panel, pd.DataFrame(counts), indent=LEFT - 3)
    words = _at_the_end({regimes[index]: curve for index, curve in drawn.items()})
    told = f"Posterior survival with 95 % bands, given event-free at {landmark:g} {unit}. {words}."
    data = {
        "times": times.round(2).tolist(),
        "x": _places(panel, times, np.zeros(times.size))[:, 0].tolist(),
        "unit": unit,
        "width": WIDTH,
        "top": TOP,
        "bottom": TOP + HEIGHT,
        "curves": [
            {
                "regime": index,
                "label": regimes[index],
                **{column: curve[column].tolist() for column in ("median", "lower", "upper")},
                "y": _places(panel, curve["time"], curve["median"])[:, 1].tolist(),
            }
            for index, curve in drawn.items()
        ],
    }
    return _finished(name, panel, title, told, parts, "survival"), data


def _places(panel: Axes, across: Any, up: Any) -> Floats:
    """Place values of a panel in the page's figure: points from its left and from its top."""
    at = panel.transData.transform(np.column_stack([across, up]))
    return np.round(np.abs(at - (0.0, _figure_of(panel).bbox.height)), 2)


def _figure_of(panel: Axes) -> Canvas:
    figure = panel.get_figure(root=True)
    assert figure is not None
    return figure


def _shares(panel: Axes, times: Floats, label: str) -> None:
    """Give a panel a scale of time, and one of shares."""
    panel.set(xlim=(times.min(), times.max()), ylim=(0, 1.02), xlabel=literal(label))
    panel.grid(axis="y", color=PALE, linewidth=0.5)


def density(
    name: str,
    log_ratios: Floats,
    *,
    prior: tuple[float, float],
    interval: tuple[float, float],
    median: float,
    thresholds: Sequence[float],
    title: str,
    axis: str,
) -> Figure:
    """Draw the posterior density of a hazard ratio over its prior.

    `log_ratios`, shape (draw,): draws of the log hazard ratio.
    """
    low = min(float(np.quantile(log_ratios, 0.0005)), math.log(0.2))
    high = max(float(np.quantile(log_ratios, 0.9995)), math.log(2.0))
    (panel,) = _panels(84.0, left=RIGHT)
    draw_density(
        panel,
        log_ratios,
        np.linspace(low, high, DENSITY_POINTS),
        interval=np.log(interval),
        prior=prior,
        thresholds=[threshold for threshold in thresholds if low <= math.log(threshold) <= high],
        median=median,
    )
    panel.set_xlim(math.exp(low), math.exp(high))
    ratio_scale(panel, "x")
    parts = FigureParts()
    _write(panel.xaxis.label, axis, 74, parts)
    marked = ", ".join(f"{threshold:g}" for threshold in thresholds)
    words = (
        f"Posterior density (filled: 95 % interval {interval[0]:.2f} to {interval[1]:.2f}, median "
        f"{median:.2f}) over the prior (dotted); lines at hazard ratios {marked}."
    )
    return _finished(name, panel, title, words, parts, "density")


def forest(name: str, rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw estimates with intervals below each other.

    The figure. Estimates that do not exist are named as such.

    `rows`: each with ``label``, ``estimate``, ``lower``, ``upper``, ``kind`` (``"biased"`` is drawn
    as a cross, ``"own"`` filled, others open) and ``absent``, what stands where there is no
    estimate.
    """
    ends = [
        row[end]
        for row in rows
        for end in ("lower", "upper")
        if math.isfinite(row["estimate"]) and 0 < row[end] < math.inf
    ]
    (panel,) = _panels(18.5 * len(rows), left=140.0)
    panel.set_xlim(min([0.5, *ends]) * 0.92, max([2.0, *ends]) * 1.08)
    for position, row in enumerate(rows):
        biased = row["kind"] == "biased"
        hollow = row["kind"] != "own"
        draw_rung(panel, position, row, biased=biased, open_marker=hollow, absent=row["absent"])
    panel.axvline(1.0, color=GREY, linewidth=0.7, zorder=0)
    parts = FigureParts()
    _name_rows(panel, [str(row["label"]) for row in rows], 34, parts)
    panel.set_xlabel("hazard ratio (log scale)")
    ratio_scale(panel, "x")
    words = "; ".join(
        f"{row['label']}: {row['estimate']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        if math.isfinite(row["estimate"])
        else f"{row['label']}: {row['absent']}"
        for row in rows
    )
    return _finished(name, panel, title, f"{words}.", parts)


def steps(name: str, rows: pd.DataFrame, across: Across, *, title: str) -> Figure:
    """Draw hazard ratios by step, on a logarithmic scale."""
    (panel,) = _panels(HEIGHT)
    lower, middle, upper = (rows[column].to_numpy(float) for column in ("lower", "median", "upper"))
    draw_ratios_across(panel, across, lower, middle, upper, "posterior median, 95 % band")
    panel.set_xlabel(across.label)
    ratio_scale(panel)
    words = "; ".join(
        f"{row['step']}: {row['median']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        for row in rows.to_dict("records")
    )
    return _finished(name, panel, title, f"{words}.", FigureParts())


def events(name: str, rows: pd.DataFrame, *, title: str, unit: str) -> Figure:
    """Draw events observed over those predicted, by interval."""
    (panel,) = _panels(96.0)
    draw_events(
        panel,
        *(rows[column].to_numpy(float) for column in ("observed", "lower", "expected", "upper")),
        surprising=np.zeros(len(rows), dtype=bool),
        thick=10,
    )
    panel.grid(axis="y", color=PALE, linewidth=0.5)
    panel.set(
        xlim=(-0.6, len(rows) - 0.4), ylim=(0, None), xlabel=literal(f"end of the interval, {unit}")
    )
    until = ["end" if math.isinf(stop) else f"{stop:.3g}" for stop in rows["interval_stop"]]
    shown = range(0, len(rows), 1 if len(rows) <= 12 else 2)
    panel.set_xticks(shown, [until[index] for index in shown])
    words = "; ".join(
        f"to {stop}: {row['observed']:g} observed, {row['expected']:.1f} expected "
        f"({row['lower']:g} to {row['upper']:g})"
        for stop, row in zip(until, rows.to_dict("records"), strict=True)
    )
    return _finished(name, panel, title, f"{words}.", FigureParts())


def bands(
    name: str,
    curves: pd.DataFrame,
    *,
    observed: Mapping[str, tuple[Floats, Floats]],
    colours: Mapping[str, int],
    title: str,
    axis: str,
) -> Figure:
    """Draw observed curves over bands of replicated ones.

    `curves`: ``group``, ``time``, ``lower``, ``median``, ``upper``; missing after the end of
    follow-up.
    """
    known = curves.dropna(subset=["median"])
    times = known["time"].to_numpy(float)
    (panel,) = _panels(HEIGHT)
    _shares(panel, times, axis)
    for group, band in known.groupby("group", sort=False):
        index = colours[str(group)] % COLOURS
        columns = (band[column].to_numpy(float) for column in ("time", "lower", "upper"))
        draw_band(panel, *columns, colour=SHADES[index])
        at, values = observed.get(str(group), (times[:0], times[:0]))
        inside = (at >= times.min()) & (at <= times.max())
        panel.plot(at[inside], values[inside], color=SHADES[index], linestyle=LINES[index])
    words = "Bands hold 95 % of curves replicated from the model; lines are those observed."
    return _finished(name, panel, title, words, FigureParts())


def specification(name: str, found: Sensitivity, rows: pd.DataFrame, *, title: str) -> Figure:
    """Draw every scenario's hazard ratio in order, with its settings below."""
    settings = settings_of(found, rows)
    top, bottom = _panels(117.0, max(9.0 * len(settings), 9.0), left=114.0, below=TOP)
    draw_scenarios(top, bottom, rows, found.axes, settings)
    parts = FigureParts()
    for position, row in enumerate(rows.to_dict("records")):
        words = f"{row['scenario']}: {row['median']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        for panel in (top, bottom):
            strip = panel.axvspan(
                position - 0.5, position + 0.5, color="white", alpha=0.0, zorder=9
            )
            parts.tell(strip, plain(" ".join(filter(None, [words, beside(row)]))))
    top.tick_params(axis="x", length=0, labelbottom=False)
    top.set(ylabel="hazard ratio", xlim=(-0.7, len(rows) - 0.3))
    _name_rows(bottom, [f"{axis}: {value}" for axis, value in settings], 27, parts)
    bottom.grid(axis="y", color=PALE, linewidth=0.5)
    bottom.set_xticks([])
    words = (
        f"{len(rows)} scenarios; median hazard ratios from {rows['median'].min():.2f} to "
        f"{rows['median'].max():.2f}. The base case has the second colour; settings are below."
    )
    return _finished(name, top, title, words, parts)


def tornado(name: str, effects: pd.DataFrame, *, title: str) -> Figure:
    """Draw how far each axis moves the hazard ratio, the farthest on top."""
    (panel,) = _panels(23.5 * len(effects), left=80.0)
    draw_bars(panel, effects, "log_ratio", ends=True)
    parts = FigureParts()
    _name_rows(panel, [str(label) for label in effects["axis"]], 18, parts)
    label_ratios(panel)
    panel.set_xlabel("geometric mean of the hazard ratio (log scale)")
    words = "; ".join(
        f"{row['axis']}: {math.exp(row['log_ratio_low']):.2f} ({row['low']}) to "
        f"{math.exp(row['log_ratio_high']):.2f} ({row['high']})"
        for row in effects.to_dict("records")
    )
    return _finished(name, panel, title, f"{words}.", parts)
