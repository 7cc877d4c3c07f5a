"""Figures of curves over time: survival, hazards, incidence, states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import literal
from bayesblina.output.plots.style import (
    DARK,
    GREY,
    PALE,
    SMALL,
    TINY,
    Canvas,
    Width,
    chosen,
    colours,
    entitle,
    explain,
    in_a_row,
    label_left,
    mark,
    ratio_scale,
    require,
    tails,
)

HEIGHT = 2.9
# Points below a panel at which the numbers at risk begin, and their lines' distance.
AT_RISK_TOP, AT_RISK_LINE = 34.0, 9.0
# Relative difference below which two times are one.
SAME_TIME = 1e-9


def survival(
    curves: xr.Dataset,
    *,
    endpoint: str | None = None,
    observed: pd.DataFrame | None = None,
    at_risk: pd.DataFrame | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw posterior survival curves with bands, observed steps and numbers at risk.

    Parameters
    ----------
    curves
        What `bayesblina.survival` gives.
    endpoint
        Endpoint to draw; by default all, side by side.
    observed
        What `bayesblina.simon_makuch` gives, from the same landmark: steps drawn over the curves.
    at_risk
        What `bayesblina.numbers_at_risk` gives: patients at risk by current phase, written below
        the axes, which get their ticks there.
    mass
        Probability of the bands.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one endpoint on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved. The observed group without the exposed phase has
        the colour of the regime ``never``, the other that of the first other regime. Curves are
        grey and dotted where nobody with that history is at risk.

    Raises
    ------
    SpecError
        If the curves are those of several subgroups, the observed ones start before the landmark,
        the endpoint is unknown, or `ax` is given for several endpoints.

    Examples
    --------
    >>> times = np.linspace(0.0, 12.0, 13)
    >>> alive = np.exp(-np.random.default_rng(1).gamma(9.0, 0.01, (2, 50, 1, 1, 1)) * times)
    >>> curves = xr.Dataset(
    ...     {"survival": (("chain", "draw", "endpoint", "regime", "time"), alive)},
    ...     coords={"endpoint": ["os"], "regime": ["never"], "time": times},
    ...     attrs={"unit": "months", "landmark": 0.0, "synthetic": 1},
    ... )
    >>> survival(curves).axes[0].get_ylabel()
    'survival'
    """
    require(curves, ["survival"], "bayesblina.survival")
    drawn = _by_endpoint(curves, endpoint, at_risk is not None, observed, at_risk, width, ax)
    for axis, name in zip(drawn.axes[0], chosen(curves["endpoint"].values, endpoint), strict=True):
        one = curves["survival"].sel(endpoint=name)
        draws = str(curves.attrs.get("draws_of", "posterior"))
        palette = _bands(axis, one, mass=mass, draws=draws)
        if observed is not None:
            start = _landmark(curves)
            _observed(axis, observed, name, palette, start, value="survival", what="Simon-Makuch")
        axis.set(ylim=(0, 1.02), ylabel="survival")
        _times(axis, curves)
        entitle(axis, name.upper())
        explain(axis)
        if at_risk is not None:
            _numbers_at_risk(axis, at_risk[at_risk["endpoint"] == name])
    mark(drawn, curves, observed, at_risk)
    return drawn.figure


def hazard(
    hazards: xr.Dataset,
    *,
    endpoint: str | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw posterior hazards over time.

    Parameters
    ----------
    hazards
        What `bayesblina.hazard` gives.
    endpoint, mass, width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Medians with bands, as steps: at a cut point the hazard is that of the interval which ends
        there.

    Raises
    ------
    SpecError
        As for `survival`.
    """
    require(hazards, ["hazard"], "bayesblina.hazard")
    drawn = _by_endpoint(hazards, endpoint, False, None, None, width, ax)
    unit = str(hazards.attrs.get("unit", "time")).removesuffix("s")
    for axis, name in zip(drawn.axes[0], chosen(hazards["endpoint"].values, endpoint), strict=True):
        _bands(axis, hazards["hazard"].sel(endpoint=name), mass=mass, steps=True)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(f"events per patient-{literal(unit)}")
        _times(axis, hazards)
        entitle(axis, name.upper())
        explain(axis)
    mark(drawn, hazards)
    return drawn.figure


def cumulative_hazard(
    hazards: xr.Dataset,
    *,
    endpoint: str | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw posterior cumulative hazards.

    Parameters
    ----------
    hazards
        What `bayesblina.cumulative_hazard` gives.
    endpoint, mass, width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Medians with bands.

    Raises
    ------
    SpecError
        As for `survival`.
    """
    require(hazards, ["cumulative_hazard"], "bayesblina.cumulative_hazard")
    drawn = _by_endpoint(hazards, endpoint, False, None, None, width, ax)
    for axis, name in zip(drawn.axes[0], chosen(hazards["endpoint"].values, endpoint), strict=True):
        _bands(axis, hazards["cumulative_hazard"].sel(endpoint=name), mass=mass)
        axis.set_ylim(bottom=0)
        axis.set_ylabel("cumulative hazard")
        _times(axis, hazards)
        entitle(axis, name.upper())
        explain(axis, place="upper left")
    mark(drawn, hazards)
    return drawn.figure


def cumulative_incidence(
    curves: xr.Dataset,
    *,
    event: str | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the probability of having had an event by each time.

    Parameters
    ----------
    curves
        What `bayesblina.state_occupancy` gives: incidences of relapse, and of death in remission,
        its competing event, which add up to that of either. Or what `bayesblina.survival` gives:
        1 less survival, by endpoint.
    event
        The event to draw: ``"relapse"`` or ``"death in remission"``, or an endpoint; by default
        all, side by side.
    mass, width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Medians with bands by regime.

    Raises
    ------
    SpecError
        As for `survival`; or if the dataset holds neither.
    """
    require(curves, [], "bayesblina.state_occupancy or bayesblina.survival")
    if "relapse_probability" in curves:
        found = {
            "relapse": curves["relapse_probability"],
            "death in remission": curves["probability"].sel(state="dead in remission"),
        }
        titles = {name: name for name in found}
    else:
        require(curves, ["survival"], "bayesblina.state_occupancy or bayesblina.survival")
        names = [str(name) for name in curves["endpoint"].values]
        found = {name: 1.0 - curves["survival"].sel(endpoint=name) for name in names}
        titles = {name: name.upper() for name in names}
    _one_group(curves)
    names = chosen(list(found), event, what="event")
    drawn = in_a_row(len(names), height=HEIGHT, width=width, ax=ax, share_y=True)
    for axis, name in zip(drawn.axes[0], names, strict=True):
        _bands(axis, found[name], mass=mass)
        axis.set(ylim=(0, 1.02))
        _times(axis, curves)
        entitle(axis, titles[name])
    label_left(drawn, "cumulative incidence")
    explain(drawn.axis)
    mark(drawn, curves)
    return drawn.figure


def state_occupancy(
    occupancy: xr.Dataset,
    *,
    regime: str | None = None,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the probability of being in each state over time, stacked.

    Parameters
    ----------
    occupancy
        What `bayesblina.state_occupancy` gives.
    regime
        Regime to draw; by default all, side by side.
    width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Posterior means, which add up to 1 at every time. For their uncertainty see
        `cumulative_incidence`, or `bayesblina.summary`.

    Raises
    ------
    SpecError
        As for `survival`.
    """
    require(occupancy, ["probability"], "bayesblina.state_occupancy")
    _one_group(occupancy)
    regimes = chosen(occupancy["regime"].values, regime, what="regime")
    states = [str(state) for state in occupancy["state"].values]
    fills = ("#0072B2", "#E69F00", "0.55", "0.25", "#009E73", "#CC79A7")
    if len(states) > len(fills):
        raise SpecError(f"{len(states)} states are too many to tell apart; {len(fills)} at most.")
    drawn = in_a_row(len(regimes), height=HEIGHT + 0.3, width=width, ax=ax, share_y=True)
    time = occupancy["time"].values
    for axis, name in zip(drawn.axes[0], regimes, strict=True):
        mean = occupancy["probability"].sel(regime=name).mean(("chain", "draw"))
        axis.stackplot(
            time,
            mean.transpose("state", "time").values,
            colors=fills[: len(states)],
            labels=[literal(state) for state in states],
            edgecolor="white",
            linewidth=0.5,
        )
        axis.set(ylim=(0, 1))
        _times(axis, occupancy)
        entitle(axis, name)
    label_left(drawn, "probability (posterior mean)")
    handles, labels = drawn.axis.get_legend_handles_labels()
    # From the top down, as the areas lie.
    if drawn.own:
        drawn.figure.legend(
            handles[::-1],
            labels[::-1],
            loc="outside right center" if width == "two" else "outside lower center",
            ncols=1 if width == "two" else 2,
            frameon=False,
            fontsize=SMALL,
        )
    else:
        drawn.axis.legend(handles[::-1], labels[::-1], fontsize=SMALL, loc="upper right")
    mark(drawn, occupancy)
    return drawn.figure


def hazard_ratio_over_time(
    ratios: xr.Dataset,
    *,
    endpoint: str | None = None,
    until: float | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw hazard ratios by interval of follow-up, or by time since entering the phase.

    Parameters
    ----------
    ratios
        What `bayesblina.hazard_ratio` gives with ``over="interval"`` or ``over="since_entry"``.
    endpoint
        Endpoint to draw; by default all, side by side.
    until
        Time at which the last interval, which is open, stops in the figure; by default it is as
        wide as the one before it.
    mass, width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Medians as steps with bands, on a logarithmic scale; the last interval is dotted.

    Raises
    ------
    SpecError
        As for `survival`; if the ratios do not vary over time, or `until` does not lie after the
        start of the last interval.
    """
    require(ratios, ["hazard_ratio"], "bayesblina.hazard_ratio")
    if "interval" in ratios.dims:
        start, clock = ratios["interval_start"].values.astype(float), "from the origin"
    elif "piece" in ratios.dims:
        start = ratios["since"].values.astype(float)
        clock = f"since entering {ratios.attrs.get('exposed', 'the phase')}"
    else:
        raise SpecError(
            "These hazard ratios do not vary over time: ask for over='interval' or "
            "over='since_entry'."
        )
    _one_group(ratios)
    last = _open_end(start, until)
    edges = np.append(start, last)
    dim = "interval" if "interval" in ratios.dims else "piece"
    names = chosen(ratios["endpoint"].values, endpoint)
    drawn = in_a_row(len(names), height=HEIGHT, width=width, ax=ax, share_y=True, share_x=True)
    low, high = tails(mass)
    for axis, name in zip(drawn.axes[0], names, strict=True):
        values = ratios["hazard_ratio"].sel(endpoint=name).transpose("chain", "draw", dim)
        lower, middle, upper = values.quantile([low, 0.5, high], ("chain", "draw")).values
        colour = colours(1, "lines")[0]
        axis.stairs(upper, edges, baseline=lower, fill=True, color=colour, alpha=0.2)
        for inside, style, label in (
            (slice(0, start.size - 1), "-", f"posterior median, {mass:.0%} band"),
            (slice(start.size - 1, start.size), ":", "last, open interval"),
        ):
            if middle[inside].size:
                axis.hlines(
                    middle[inside],
                    edges[:-1][inside],
                    edges[1:][inside],
                    color=colour,
                    linestyle=style,
                    label=label,
                )
        axis.axhline(1.0, color=DARK, linewidth=0.7)
        axis.set_xlim(edges[0], edges[-1])
        entitle(axis, name.upper())
    for axis in drawn.axes[0] if width == "two" else drawn.axes[0, -1:]:
        axis.set_xlabel(f"{literal(_unit(ratios))} {literal(clock)}")
    ratio_scale(drawn.axis)
    label_left(drawn, _against(ratios))
    explain(drawn.axis)
    mark(drawn, ratios)
    return drawn.figure


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


def _by_endpoint(
    curves: xr.Dataset,
    endpoint: str | None,
    counts: bool,
    observed: pd.DataFrame | None,
    at_risk: pd.DataFrame | None,
    width: Width,
    ax: Axes | None,
) -> Canvas:
    """Make one panel for each endpoint."""
    _one_group(curves)
    names = chosen(curves["endpoint"].values, endpoint)
    for table, source in ((observed, "simon_makuch"), (at_risk, "numbers_at_risk")):
        if table is not None:
            require(table, ["endpoint", "group", "time", "at_risk"], f"bayesblina.{source}")
    return in_a_row(len(names), height=HEIGHT + (0.5 if counts else 0.0), width=width, ax=ax)


def _one_group(curves: xr.Dataset) -> None:
    if "subgroup" in curves.dims:
        raise SpecError("Choose a subgroup to draw: curves.sel(subgroup=...).")


def _landmark(curves: xr.Dataset) -> float:
    return float(curves.attrs.get("landmark", 0.0))


def _unit(source: xr.Dataset) -> str:
    return str(source.attrs.get("unit", "time"))


def _times(axis: Axes, curves: xr.Dataset) -> None:
    time = curves["time"].values
    if time.size > 1:
        axis.set_xlim(time.min(), time.max())
    origin = curves.attrs.get("origin", f"the origin (event-free at {_landmark(curves):g})")
    axis.set_xlabel(f"{literal(_unit(curves))} from {literal(str(origin))}")


def _bands(
    axis: Axes,
    values: xr.DataArray,
    *,
    mass: float,
    steps: bool = False,
    draws: str = "posterior",
) -> dict[str, str]:
    """Draw medians with bands by regime; give the regimes' colours."""
    low, high = tails(mass)
    regimes = [str(regime) for regime in values["regime"].values]
    # Never has the first colour in every figure, wherever it stands.
    ordered = sorted(regimes, key=lambda regime: regime != "never")
    first = 0 if "never" in regimes else 1
    shades = colours(first + len(regimes), "regimes")[first:]
    palette = {regime: shades[ordered.index(regime)] for regime in regimes}
    time = values["time"].values
    for regime, colour in palette.items():
        one = values.sel(regime=regime).transpose("chain", "draw", "time")
        lower, middle, upper = one.quantile([low, 0.5, high], ("chain", "draw")).values
        label = f"{literal(regime)} ({draws}, {mass:.0%} band)"
        if steps:
            axis.fill_between(time, lower, upper, step="pre", color=colour, alpha=0.2, linewidth=0)
            axis.step(time, middle, where="pre", color=colour, label=label)
        else:
            known = _known(values, regime)
            axis.fill_between(time, lower, upper, where=known, color=colour, alpha=0.2, linewidth=0)
            axis.plot(time, np.where(known, middle, np.nan), color=colour, label=label)
            if not known.all():
                # From the last time that is known on, so that the curve does not break.
                beyond = ~known | ~np.append(known[1:], True) | ~np.append(True, known[:-1])
                axis.fill_between(time, lower, upper, where=beyond, color=PALE, linewidth=0)
                axis.plot(
                    time, np.where(beyond, middle, np.nan), color=GREY, linestyle=":", zorder=1.5
                )
    return palette


def _known(values: xr.DataArray, regime: str) -> NDArray[np.bool_]:
    """Whether anybody is at risk at each time."""
    if "supported" not in values.coords or values["supported"].dims != ("regime", "time"):
        return np.ones(values.sizes["time"], dtype=bool)
    return np.asarray(values["supported"].sel(regime=regime).values, dtype=bool)


def _observed(
    axis: Axes,
    observed: pd.DataFrame,
    name: str,
    palette: dict[str, str],
    landmark: float,
    *,
    value: str,
    what: str,
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
    groups = [str(group) for group in observed["group"].unique()]
    colour_of = _colours_of_groups(observed, palette)
    for group in groups:
        one = rows[rows["group"] == group]
        axis.step(
            one["time"],
            one[value],
            where="post",
            color=colour_of(group),
            linestyle="--",
            linewidth=1,
            label=f"{literal(group)} ({what})",
        )


def _colours_of_groups(observed: pd.DataFrame, palette: dict[str, str]) -> Callable[[str], str]:
    """Match observed groups with regimes: the reference with never, the exposed with another."""
    pairs = [tuple(one.unique()) for _, one in observed.groupby("endpoint", sort=False)["group"]]
    # In such a table the exposed group comes first, whatever the groups are called.
    exposed, reference = next((pair for pair in pairs if len(pair) == 2), (None, None))
    if exposed is None:
        reference = next((one for pair in pairs for one in pair if one.startswith("no ")), None)
    other = next((colour for regime, colour in palette.items() if regime != "never"), DARK)
    known = {exposed: other, reference: palette.get("never", DARK)}

    def of(group: str) -> str:
        return known.get(group, DARK)

    return of


def _numbers_at_risk(axis: Axes, rows: pd.DataFrame) -> None:
    low, high = axis.get_xlim()
    ticks = rows["time"].unique()
    axis.set_xticks(ticks[(ticks >= low) & (ticks <= high)])

    def below(text: str, where: float | None, line: int, *, slant: str = "normal") -> None:
        drop = -AT_RISK_TOP - AT_RISK_LINE * line
        coords = ("axes fraction" if where is None else "data", "axes fraction")
        axis.annotate(
            text,
            (0.0 if where is None else where, 0.0),
            (-14.0 if where is None else 0.0, drop),
            xycoords=coords,
            textcoords="offset points",
            ha="right" if where is None else "center",
            style=slant,
            fontsize=TINY,
            va="center",
            annotation_clip=False,
        )

    below("at risk, by phase", None, 0, slant="italic")
    for line, (group, one) in enumerate(rows.groupby("group", sort=False), start=1):
        below(literal(group), None, line)
        for time, count in zip(one["time"].to_numpy(), one["at_risk"].to_numpy(), strict=True):
            if low <= time <= high:
                # What is masked is a text already.
                below(count if isinstance(count, str) else f"{count:.0f}", float(time), line)
