"""Figures of curves over time: survival, hazards, incidence, states."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import literal
from bayesblina.output.plots.bands import draw_numbers_at_risk, draw_observed, draw_regimes
from bayesblina.output.plots.style import (
    PALE,
    SMALL,
    Place,
    Width,
    chosen,
    colours,
    explain,
    in_a_row,
    mark,
    require,
)

HEIGHT = 2.9
# Colours of states, from the bottom up.
FILLS = ("#0072B2", "#E69F00", "0.55", "0.25", "#009E73", "#CC79A7")


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
    >>> import numpy as np
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
    return _by_endpoint(
        curves,
        "survival",
        endpoint,
        mass=mass,
        width=width,
        ax=ax,
        label="survival",
        observed=observed,
        at_risk=at_risk,
    )


def turnbull(
    curves: pd.DataFrame,
    *,
    endpoint: str | None = None,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw Turnbull's curves: steps, and grey boxes where a curve is not defined.

    Parameters
    ----------
    curves
        What `bayesblina.classical.turnbull` gives.
    endpoint
        Endpoint to draw; by default all, side by side.
    width, ax
        As for `survival`.

    Returns
    -------
    matplotlib.figure.Figure
        Within a box the curve falls from its upper to its lower edge, and data do not say how.

    Raises
    ------
    SpecError
        If the endpoint is unknown, there are more groups than colours, or `ax` is given for several
        endpoints.

    Examples
    --------
    >>> curves = pd.DataFrame(
    ...     {
    ...         "endpoint": "rfs",
    ...         "group": "all",
    ...         "start": [0.0, 0.0, 6.0],
    ...         "stop": [0.0, 6.0, 12.0],
    ...         "survival": [1.0, 0.6, 0.3],
    ...     }
    ... )
    >>> len(turnbull(curves).axes[0].patches)
    2
    """
    require(
        curves, ["endpoint", "group", "start", "stop", "survival"], "bayesblina.classical.turnbull"
    )
    names = chosen(curves["endpoint"], endpoint)
    drawn = in_a_row(
        [name.upper() for name in names],
        height=HEIGHT,
        width=width,
        label="survival",
        below=literal(str(curves.attrs.get("unit", "time"))) + " from the origin",
        ax=ax,
        share_y=True,
    )
    shades = dict(zip(*_groups(curves), strict=True))
    for axis, name in zip(drawn.axes[0], names, strict=True):
        for group, own in curves[curves["endpoint"] == name].groupby("group", sort=False):
            _draw_falls(axis, own, colour=shades[str(group)], label=str(group))
        axis.set(ylim=(0, 1.02), xlim=(0, None))
        explain(axis)
    return mark(drawn, curves)


def _groups(curves: pd.DataFrame) -> tuple[list[str], tuple[str, ...]]:
    """Name the groups of curves, each with a colour."""
    names = list(dict.fromkeys(map(str, curves["group"])))
    return names, colours(len(names), "groups")


def _draw_falls(axis: Axes, curve: pd.DataFrame, *, colour: str, label: str) -> None:
    """Draw where a step curve is level, where it falls at once, and where it is not defined."""
    start, stop, survival = (curve[name].to_numpy() for name in ("start", "stop", "survival"))
    before, wide = np.append(1.0, survival[:-1]), start < stop
    axis.bar(
        start[wide],
        (before - survival)[wide],
        (stop - start)[wide],
        survival[wide],
        align="edge",
        color=PALE,
    )
    axis.hlines(survival[:-1], stop[:-1], start[1:], color=colour, label=literal(label))
    axis.vlines(start[~wide], survival[~wide], before[~wide], color=colour)


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
    label = "events per patient-{unit}"
    return _by_endpoint(
        hazards, "hazard", endpoint, mass=mass, width=width, ax=ax, label=label, steps=True
    )


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
    name, label = "cumulative_hazard", "cumulative hazard"
    return _by_endpoint(
        hazards, name, endpoint, mass=mass, width=width, ax=ax, label=label, place="upper left"
    )


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
        incidences = {
            "relapse": curves["relapse_probability"],
            "death in remission": curves["probability"].sel(state="dead in remission"),
        }
    else:
        require(curves, ["survival"], "bayesblina.state_occupancy or bayesblina.survival")
        incidences = {
            str(name): 1.0 - curves["survival"].sel(endpoint=name)
            for name in curves["endpoint"].values
        }
    require_one_group(curves)
    names = chosen(incidences, event, what="event")
    drawn = in_a_row(
        [name if "relapse_probability" in curves else name.upper() for name in names],
        height=HEIGHT,
        width=width,
        label="cumulative incidence",
        ax=ax,
        share_y=True,
    )
    for axis, name in zip(drawn.axes[0], names, strict=True):
        draw_regimes(axis, incidences[name], mass=mass)
        _times(axis, curves, top=1.02)
    explain(drawn.axis)
    return mark(drawn, curves)


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
    require_one_group(occupancy)
    regimes = chosen(occupancy["regime"].values, regime, what="regime")
    states = list(map(literal, occupancy["state"].values))
    if len(states) > len(FILLS):
        raise SpecError(f"{len(states)} states are too many to tell apart; {len(FILLS)} at most.")
    label = "probability (posterior mean)"
    drawn = in_a_row(regimes, height=HEIGHT + 0.3, width=width, label=label, ax=ax, share_y=True)
    means = occupancy["probability"].mean(("chain", "draw")).transpose("regime", "state", "time")
    for axis, name in zip(drawn.axes[0], regimes, strict=True):
        axis.stackplot(
            occupancy["time"].values,
            means.sel(regime=name).values,
            colors=FILLS[: len(states)],
            labels=states,
            edgecolor="white",
            linewidth=0.5,
        )
        _times(axis, occupancy, top=1.0)
    # From the top down, as the areas lie.
    parts = [part[::-1] for part in drawn.axis.get_legend_handles_labels()]
    if drawn.own:
        drawn.figure.legend(
            *parts,
            loc="outside right center" if width == "two" else "outside lower center",
            ncols=1 if width == "two" else 2,
            frameon=False,
            fontsize=SMALL,
        )
    else:
        drawn.axis.legend(*parts, fontsize=SMALL, loc="upper right")
    return mark(drawn, occupancy)


def _by_endpoint(
    curves: xr.Dataset,
    variable: str,
    endpoint: str | None,
    *,
    mass: float,
    width: Width,
    ax: Axes | None,
    label: str,
    place: Place = "best",
    steps: bool = False,
    observed: pd.DataFrame | None = None,
    at_risk: pd.DataFrame | None = None,
) -> Figure:
    """Draw curves by regime, a panel for each endpoint."""
    require(curves, [variable], f"bayesblina.{variable}")
    require_one_group(curves)
    names = chosen(curves["endpoint"].values, endpoint)
    for table, source in ((observed, "simon_makuch"), (at_risk, "numbers_at_risk")):
        if table is not None:
            require(table, ["endpoint", "group", "time", "at_risk"], f"bayesblina.{source}")
    height = HEIGHT if at_risk is None else HEIGHT + 0.5
    drawn = in_a_row([name.upper() for name in names], height=height, width=width, ax=ax)
    draws = str(curves.attrs.get("draws_of", "posterior"))
    for axis, name in zip(drawn.axes[0], names, strict=True):
        values = curves[variable].sel(endpoint=name)
        palette = draw_regimes(axis, values, mass=mass, steps=steps, draws=draws)
        if observed is not None:
            draw_observed(axis, observed, name, palette, _landmark(curves))
        axis.set_ylabel(label.format(unit=literal(unit_of(curves).removesuffix("s"))))
        _times(axis, curves, top=1.02 if variable == "survival" else None)
        explain(axis, place=place)
        if at_risk is not None:
            draw_numbers_at_risk(axis, at_risk[at_risk["endpoint"] == name])
    return mark(drawn, curves, observed, at_risk)


def require_one_group(curves: xr.Dataset) -> None:
    """Refuse estimates of several subgroups."""
    if "subgroup" in curves.dims:
        raise SpecError("Choose a subgroup to draw: curves.sel(subgroup=...).")


def _landmark(curves: xr.Dataset) -> float:
    return float(curves.attrs.get("landmark", 0.0))


def unit_of(source: xr.Dataset) -> str:
    """Name the time unit of estimates."""
    return str(source.attrs.get("unit", "time"))


def _times(axis: Axes, curves: xr.Dataset, *, top: float | None) -> None:
    """Give a panel a scale of time, and one from 0 to a top."""
    time = curves["time"].values
    if time.size > 1:
        axis.set_xlim(time.min(), time.max())
    origin = curves.attrs.get("origin", f"the origin (event-free at {_landmark(curves):g})")
    axis.set(ylim=(0, top), xlabel=f"{literal(unit_of(curves))} from {literal(str(origin))}")
