"""Figures of the report as SVG: drawn once here, coloured and made interactive by the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats
from bayesblina.core.tables.marks import beside
from bayesblina.core.tables.numbers import probability

WIDTH = 560.0
LEFT, RIGHT, TOP = 52.0, 24.0, 14.0
HEIGHT = 250.0
LINE = 20.0
DENSITY_POINTS = 160
RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
COLOURS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure.

    Attributes
    ----------
    name
        Its id in the page.
    svg
        The drawing.
    description
        What is to be seen, for those who do not see it.
    """

    name: str
    svg: Markup
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to places.

    Attributes
    ----------
    low, high
        Values at the ends.
    start, stop
        Places of the ends.
    log
        Whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place a value; beyond the ends it is held at them."""
        low, high, value = min(self.low, self.high), max(self.low, self.high), float(value)
        value = min(max(value, low), high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def shorten(text: str, length: int) -> str:
    """Cut a text that is too long for its place.

    Examples
    --------
    >>> shorten("maintenance", 6)
    'maint…'
    """
    return text if len(text) <= length else f"{text[: length - 1]}…"


def ticks_of(low: float, high: float, *, count: int = 6) -> list[float]:
    """Choose round values between two ends.

    Examples
    --------
    >>> ticks_of(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(one * power for one in (1.0, 2.0, 5.0, 10.0) if one * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(one * step, 12) for one in range(first, last + 1)]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Choose round ratios between two ends, with 1 among them where it lies there."""
    inside = [one for one in RATIO_TICKS if low <= one <= high]
    if len(inside) <= 8:
        return inside
    return [one for one in inside if f"{one:g}".strip("0.") in ("1", "2", "5")]


def _tag(name: str, attributes: Mapping[str, object], *children: str | Markup) -> Markup:
    """Write an element; attributes and plain texts are escaped."""
    written = "".join(
        f' {key}="{escape(f"{value:.2f}" if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(Markup(name), Markup(written), inside, Markup(name))


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "", full: str = ""
) -> Markup:
    attributes: dict[str, object] = {"x": x, "y": y, "text-anchor": anchor}
    if kind:
        attributes["class"] = kind
    if full and full != text:
        return _tag("text", attributes, _tag("title", {}, full), text)
    return _tag("text", attributes, text)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return _tag("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": kind})


def _path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> Markup:
    steps = " L".join(f"{x:.2f} {y:.2f}" for x, y in points)
    return _tag("path", {"d": f"M{steps}{' Z' if closed else ''}", "class": kind})


def _svg(
    name: str, height: float, title: str, description: str, parts: Sequence[Markup], kind: str = ""
) -> Markup:
    return _tag(
        "svg",
        {
            "viewBox": f"0 0 {WIDTH:g} {height:g}",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-words",
            "class": f"chart {kind}".strip(),
        },
        _tag("title", {"id": f"{name}-title"}, title),
        _tag("desc", {"id": f"{name}-words"}, description),
        *parts,
    )


def _axes(
    x: Scale, y: Scale | None, ticks: Sequence[float], title: str, *, bottom: float
) -> list[Markup]:
    """Axis below, with ticks and title; and shares from 0 to 1 at the left, if asked."""
    parts = [_line(x.start, bottom, x.stop, bottom, "axis")]
    for tick in ticks:
        parts.append(_line(x(tick), bottom, x(tick), bottom + 5, "axis"))
        parts.append(_text(x(tick), bottom + 19, f"{tick:g}"))
    middle = (x.start + x.stop) / 2
    parts.append(_text(middle, bottom + 37, shorten(title, 74), kind="name", full=title))
    if y is not None:
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
            parts.append(_line(x.start, y(tick), x.stop, y(tick), "grid"))
            parts.append(_text(x.start - 8, y(tick) + 4.5, f"{tick:g}", anchor="end"))
    return parts


def rounded(values: pd.Series) -> pd.Series:
    """Round probabilities to three decimals; what is neither 0 nor 1 does not become it.

    Examples
    --------
    >>> rounded(pd.Series([0.12345, 0.99999, 1.0])).tolist()
    [0.123, 0.9995, 1.0]
    """
    inside = values.round(3).clip(0.0005, 0.9995)
    return inside.where((values > 0) & (values < 1), values)


def survival(
    name: str,
    rows: pd.DataFrame,
    *,
    regimes: Sequence[str],
    observed: Mapping[str, tuple[Floats, Floats]],
    at_risk: Mapping[str, Sequence[tuple[float, str]]],
    colours: Mapping[str, int],
    known_until: Mapping[str, float],
    title: str,
    unit: str,
    landmark: float,
) -> tuple[Figure, dict[str, Any]]:
    """Draw survival curves with bands, observed curves and numbers at risk.

    Parameters
    ----------
    known_until
        By regime the time up to which enough patients are at risk; curves are grey beyond it.
    unit
        Time unit.
    landmark
        Where the curves begin.
    """
    rows = rows.assign(**{name: rounded(rows[name]) for name in ("median", "lower", "upper")})
    times = np.sort(rows["time"].unique()).astype(float)
    bottom = TOP + HEIGHT
    x = Scale(low=times[0], high=times[-1], start=LEFT, stop=WIDTH - RIGHT)
    y = Scale(low=0.0, high=1.0, start=bottom, stop=TOP)
    ticks = sorted({time for counts in at_risk.values() for time, _ in counts})
    ticks = [one for one in ticks if times[0] <= one <= times[-1]] or ticks_of(times[0], times[-1])
    axis = f"{unit} from the origin, event-free at {landmark:g}"
    parts = _axes(x, y, ticks, axis, bottom=bottom)
    curves = []
    words = []
    for index, regime in enumerate(regimes):
        one = rows[rows["regime"] == regime].sort_values("time")
        if one.empty:
            continue
        place = [x(time) for time in one["time"]]
        upper = [(px, y(value)) for px, value in zip(place, one["upper"], strict=True)]
        lower = [(px, y(value)) for px, value in zip(place, one["lower"], strict=True)]
        middle = [(px, y(value)) for px, value in zip(place, one["median"], strict=True)]
        colour = f"c{index % COLOURS}"
        # The last time at which enough are at risk belongs to both parts.
        until = known_until.get(regime, np.inf)
        enough = int((one["time"] <= until).sum())
        beyond = slice(max(enough - 1, 0), None)
        pieces = [
            _path([*upper[:enough], *reversed(lower[:enough])], "band", closed=True),
            _path(middle[:enough], f"curve dash{index % COLOURS}"),
        ]
        if enough < len(middle):
            pieces += [
                _path([*upper[beyond], *reversed(lower[beyond])], "band beyond", closed=True),
                _path(middle[beyond], "curve beyond"),
            ]
        kept = pieces if enough > 1 else pieces[2:]
        parts.append(_tag("g", {"class": f"regime {colour}", "data-regime": index}, *kept))
        curves.append(
            {
                "regime": index,
                "label": regime,
                "median": one["median"].tolist(),
                "lower": one["lower"].tolist(),
                "upper": one["upper"].tolist(),
                "y": [round(py, 2) for _, py in middle],
            }
        )
        last = one.iloc[-1]
        words.append(
            f"{regime}: {probability(last['median'])} ({probability(last['lower'])} to "
            f"{probability(last['upper'])}) at {last['time']:g}"
        )
    for group, (at, values) in observed.items():
        steps = [(x(time), y(value)) for time, value in zip(at, values, strict=True)]
        if len(steps) > 1:
            parts.append(
                _tag(
                    "g",
                    {"class": f"observed c{colours[group] % COLOURS}"},
                    _tag("title", {}, f"{group} (observed)"),
                    _path(steps, "seen"),
                )
            )
    height = bottom + 46.0
    if at_risk:
        parts.append(
            _text(4, height + 12, "at risk, by current phase", anchor="start", kind="name")
        )
        height += LINE + 4
        for group, counts in at_risk.items():
            label = shorten(group, 66)
            parts.append(_text(4, height + 12, label, anchor="start", kind="label", full=group))
            height += LINE
            for time, count in counts:
                if times[0] <= time <= times[-1]:
                    parts.append(_text(x(time), height + 12, count))
            height += LINE
    parts.append(
        _tag(
            "g",
            {"class": "cross", "visibility": "hidden"},
            _line(LEFT, TOP, LEFT, bottom, "crossline"),
        )
    )
    description = (
        f"{title}. Posterior survival with 95 % bands, given event-free at {landmark:g} {unit}. "
        + "; ".join(words)
        + "."
    )
    figure = Figure(
        name=name,
        svg=_svg(name, height + 6, title, description, parts, "survival"),
        description=description,
    )
    data = {
        "times": times.round(2).tolist(),
        "x": [round(x(time), 2) for time in times],
        "unit": unit,
        "width": WIDTH,
        "top": TOP,
        "bottom": bottom,
        "curves": curves,
    }
    return figure, data


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

    Parameters
    ----------
    log_ratios : ndarray, shape (draw,)
        Draws of the log hazard ratio.
    """
    from scipy.stats import gaussian_kde, norm

    low = min(float(np.quantile(log_ratios, 0.0005)), math.log(0.2))
    high = max(float(np.quantile(log_ratios, 0.9995)), math.log(2.0))
    grid = np.linspace(low, high, DENSITY_POINTS)
    after = gaussian_kde(log_ratios)(grid)
    before = norm.pdf(grid, *prior)
    tall = 150.0
    bottom = TOP + tall
    x = Scale(low=math.exp(low), high=math.exp(high), start=16.0, stop=WIDTH - 16.0, log=True)
    y = Scale(low=0.0, high=float(max(after.max(), before.max())) * 1.05, start=bottom, stop=TOP)
    inside = (grid >= math.log(interval[0])) & (grid <= math.log(interval[1]))

    def places(at: Floats, values: Floats) -> list[tuple[float, float]]:
        return [(x(math.exp(one)), y(value)) for one, value in zip(at, values, strict=True)]

    shaded = places(grid[inside], after[inside])
    parts = _axes(x, None, ratio_ticks(math.exp(low), math.exp(high)), axis, bottom=bottom)
    if len(shaded) > 1:
        ends = [(shaded[-1][0], bottom), (shaded[0][0], bottom)]
        parts.append(_tag("g", {"class": "c0"}, _path([*shaded, *ends], "band", closed=True)))
    parts += [
        _tag("g", {"class": "prior"}, _path(places(grid, before), "curve dash1")),
        _tag("g", {"class": "c0"}, _path(places(grid, after), "curve")),
        _line(
            x(median), y(float(np.interp(math.log(median), grid, after))), x(median), bottom, "mid"
        ),
    ]
    for threshold in thresholds:
        if math.exp(low) <= threshold <= math.exp(high):
            parts.append(_line(x(threshold), TOP, x(threshold), bottom, "threshold"))
    description = (
        f"{title}. Posterior density (filled: 95 % interval {interval[0]:.2f} to "
        f"{interval[1]:.2f}, median {median:.2f}) over the prior (dashed); lines at hazard ratios "
        f"{', '.join(f'{one:g}' for one in thresholds)}."
    )
    return Figure(
        name=name,
        svg=_svg(name, bottom + 46, title, description, parts, "density"),
        description=description,
    )


def forest(name: str, rows: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Draw estimates with intervals below each other.

    The figure. Estimates that do not exist are named as such.

    Parameters
    ----------
    rows
        Each with ``label``, ``estimate``, ``lower``, ``upper``, ``kind`` (``"biased"`` is drawn as
        a cross, ``"own"`` filled, others open) and ``absent``, what stands where there is no
        estimate.
    """
    known = [row for row in rows if math.isfinite(row["estimate"])]
    ends = [value for row in known for value in (row["lower"], row["upper"])]
    low = min([0.5, *(one for one in ends if one > 0)])
    high = max([2.0, *(one for one in ends if math.isfinite(one))])
    left = 230.0
    x = Scale(low=low * 0.92, high=high * 1.08, start=left, stop=WIDTH - RIGHT, log=True)
    step = 30.0
    bottom = TOP + step * len(rows)
    parts = _axes(x, None, ratio_ticks(x.low, x.high), "hazard ratio (log scale)", bottom=bottom)
    parts.append(_line(x(1.0), TOP, x(1.0), bottom, "threshold"))
    words = []
    for index, row in enumerate(rows):
        py = TOP + step * (index + 0.5)
        label = str(row["label"])
        parts.append(
            _text(left - 10, py + 4.5, shorten(label, 34), anchor="end", kind="row", full=label)
        )
        if not math.isfinite(row["estimate"]):
            parts.append(_text((left + WIDTH) / 2, py + 4.5, row["absent"], kind="name"))
            words.append(f"{label}: {row['absent']}")
            continue
        px = x(row["estimate"])
        colour = "c1" if row["kind"] == "biased" else "c0"
        if row["kind"] == "biased":
            cross = [
                _line(px - 6, py - 6, px + 6, py + 6, "stroke"),
                _line(px - 6, py + 6, px + 6, py - 6, "stroke"),
            ]
        else:
            dot = "dot" if row["kind"] == "own" else "ring"
            cross = [_tag("circle", {"cx": px, "cy": py, "r": 5.5, "class": dot})]
        span = _line(x(row["lower"]), py, x(row["upper"]), py, "stroke")
        parts.append(_tag("g", {"class": colour}, span, *cross))
        words.append(f"{label}: {row['estimate']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})")
    description = f"{title}. " + "; ".join(words) + "."
    return Figure(
        name=name, svg=_svg(name, bottom + 46, title, description, parts), description=description
    )


def events(name: str, rows: pd.DataFrame, *, title: str, unit: str) -> Figure:
    """Draw events observed over those predicted, by interval.

    Parameters
    ----------
    unit
        Time unit.
    """
    tall = 170.0
    bottom = TOP + tall
    highest = float(max(rows["upper"].max(), rows["observed"].max())) * 1.08
    y = Scale(low=0.0, high=highest, start=bottom, stop=TOP)
    width = (WIDTH - LEFT - RIGHT) / len(rows)
    parts = [_line(LEFT, bottom, WIDTH - RIGHT, bottom, "axis")]
    for tick in ticks_of(0.0, highest, count=4):
        parts.append(_line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        parts.append(_text(LEFT - 8, y(tick) + 4.5, f"{tick:g}", anchor="end"))
    words = []
    for index, row in enumerate(rows.to_dict("records")):
        px = LEFT + width * (index + 0.5)
        stop = row["interval_stop"]
        until = "end" if math.isinf(stop) else f"{stop:.3g}"
        half = min(width * 0.3, 16.0)
        bar = {
            "x": px - half,
            "y": y(row["upper"]),
            "width": 2 * half,
            "height": y(row["lower"]) - y(row["upper"]),
            "class": "bar",
        }
        parts.append(
            _tag(
                "g",
                {"class": "c0"},
                _tag("rect", bar),
                _line(px - half, y(row["expected"]), px + half, y(row["expected"]), "stroke"),
            )
        )
        dot = {"cx": px, "cy": y(row["observed"]), "r": 5.0, "class": "dot"}
        parts.append(_tag("g", {"class": "c1"}, _tag("circle", dot)))
        if len(rows) <= 12 or index % 2 == 0:
            parts.append(_text(px, bottom + 19, until))
        words.append(
            f"to {until}: {row['observed']:g} observed, {row['expected']:.1f} expected "
            f"({row['lower']:g} to {row['upper']:g})"
        )
    axis = f"end of the interval, {unit}"
    parts.append(_text((LEFT + WIDTH) / 2, bottom + 37, axis, kind="name"))
    description = f"{title}. " + "; ".join(words) + "."
    return Figure(
        name=name, svg=_svg(name, bottom + 46, title, description, parts), description=description
    )


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

    Parameters
    ----------
    curves
        ``group``, ``time``, ``lower``, ``median``, ``upper``; missing after the end of follow-up.
    """
    bottom = TOP + HEIGHT
    known = curves.dropna(subset=["median"])
    low, high = float(known["time"].min()), float(known["time"].max())
    x = Scale(low=low, high=high, start=LEFT, stop=WIDTH - RIGHT)
    y = Scale(low=0.0, high=1.0, start=bottom, stop=TOP)
    parts = _axes(x, y, ticks_of(low, high), axis, bottom=bottom)
    for group in dict.fromkeys(known["group"]):
        index = colours[group]
        one = known[known["group"] == group]
        place = [x(time) for time in one["time"]]
        upper = [(px, y(value)) for px, value in zip(place, one["upper"], strict=True)]
        lower = [(px, y(value)) for px, value in zip(place, one["lower"], strict=True)]
        drawn = [_path([*upper, *reversed(lower)], "band", closed=True)]
        if group in observed:
            at, values = observed[group]
            steps = [
                (x(time), y(value))
                for time, value in zip(at, values, strict=True)
                if low <= time <= high
            ]
            if len(steps) > 1:
                drawn.append(_path(steps, f"curve dash{index % COLOURS}"))
        parts.append(_tag("g", {"class": f"c{index % COLOURS}"}, *drawn))
    description = (
        f"{title}. Bands hold 95 % of curves replicated from the model; lines are those observed."
    )
    return Figure(
        name=name, svg=_svg(name, bottom + 46, title, description, parts), description=description
    )


def specification(
    name: str, rows: pd.DataFrame, *, axes: Sequence[str], base: NDArray[np.bool_], title: str
) -> Figure:
    """Draw every scenario's hazard ratio in order, with its settings below.

    Parameters
    ----------
    base : ndarray of bool, shape (scenario,)
        Which is the base case.
    """
    settings = [
        (axis, str(value))
        for axis in axes
        for value in dict.fromkeys(rows[axis])
        if str(value) != "base"
    ]
    left = 176.0
    tall = 190.0
    bottom = TOP + tall
    low, high = min(0.5, float(rows["lower"].min())), max(2.0, float(rows["upper"].max()))
    y = Scale(low=low * 0.95, high=high * 1.05, start=bottom, stop=TOP, log=True)
    width = (WIDTH - left - RIGHT) / len(rows)
    parts = []
    for tick in ratio_ticks(y.low, y.high):
        kind = "threshold" if tick == 1.0 else "grid"
        parts.append(_line(left, y(tick), WIDTH - RIGHT, y(tick), kind))
        parts.append(_text(left - 8, y(tick) + 4.5, f"{tick:g}", anchor="end"))
    parts.append(_text(8, TOP + tall / 2, "hazard ratio", anchor="start", kind="name"))
    step = 15.0
    for line, (axis, value) in enumerate(settings):
        label = f"{axis}: {value}"
        py = bottom + 16 + step * (line + 0.5)
        parts.append(
            _text(left - 8, py + 4, shorten(label, 27), anchor="end", kind="row", full=label)
        )
        parts.append(_line(left, py, WIDTH - RIGHT, py, "grid"))
    for index, row in enumerate(rows.to_dict("records")):
        px = left + width * (index + 0.5)
        colour = "c1" if base[index] else "c0"
        words = f"{row['scenario']}: {row['median']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
        words = " ".join(filter(None, [words, beside(row)]))
        marks = [
            _tag("title", {}, words),
            _line(px, y(row["lower"]), px, y(row["upper"]), "stroke"),
            _tag("circle", {"cx": px, "cy": y(row["median"]), "r": 3.6, "class": "dot"}),
        ]
        if beside(row):
            at = y(row["median"])
            marks += [
                _line(px - 5, at - 5, px + 5, at + 5, "marked"),
                _line(px - 5, at + 5, px + 5, at - 5, "marked"),
            ]
        marks += [
            _tag(
                "circle",
                {"cx": px, "cy": bottom + 16 + step * (line + 0.5), "r": 3.2, "class": "dot"},
            )
            for line, (axis, value) in enumerate(settings)
            if str(row[axis]) == value
        ]
        parts.append(_tag("g", {"class": colour}, *marks))
    height = bottom + 24 + step * len(settings)
    description = (
        f"{title}. {len(rows)} scenarios; median hazard ratios from {rows['median'].min():.2f} to "
        f"{rows['median'].max():.2f}. The base case has the second colour; settings are below."
    )
    return Figure(
        name=name, svg=_svg(name, height, title, description, parts), description=description
    )


def tornado(name: str, effects: pd.DataFrame, *, title: str) -> Figure:
    """Draw how far each axis moves the hazard ratio, the farthest on top."""
    left = 128.0
    low = math.exp(float(effects["log_ratio_low"].min()))
    high = math.exp(float(effects["log_ratio_high"].max()))
    room = max(high / low, 1.3)
    x = Scale(
        low=low / room**0.12, high=high * room**0.12, start=left, stop=WIDTH - RIGHT, log=True
    )
    step = 38.0
    bottom = TOP + step * len(effects)
    ticks = ratio_ticks(x.low, x.high)
    if len(ticks) < 3:
        ticks = ticks_of(x.low, x.high, count=5)
    parts = _axes(x, None, ticks, "geometric mean of the hazard ratio (log scale)", bottom=bottom)
    words = []
    for index, row in enumerate(effects.to_dict("records")):
        py = TOP + step * (index + 0.5)
        start, stop = x(math.exp(row["log_ratio_low"])), x(math.exp(row["log_ratio_high"]))
        label = str(row["axis"])
        ends = f"{row['low']} to {row['high']}"
        parts.append(
            _text(left - 10, py + 1, shorten(label, 18), anchor="end", kind="row", full=label)
        )
        bar = {"x": start, "y": py - 12, "width": max(stop - start, 1.5), "height": 15.0}
        parts.append(_tag("g", {"class": "c0"}, _tag("rect", {**bar, "class": "bar"})))
        middle = min(max((start + stop) / 2, left + 110), WIDTH - 125)
        parts.append(_text(middle, py + 16, shorten(ends, 44), kind="small", full=ends))
        words.append(
            f"{label}: {math.exp(row['log_ratio_low']):.2f} ({row['low']}) to "
            f"{math.exp(row['log_ratio_high']):.2f} ({row['high']})"
        )
    description = f"{title}. " + "; ".join(words) + "."
    return Figure(
        name=name, svg=_svg(name, bottom + 46, title, description, parts), description=description
    )
