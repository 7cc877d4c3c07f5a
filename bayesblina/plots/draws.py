"""Figures of draws themselves, by ArviZ: prior to posterior, ranks by chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import arviz as az
import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.errors import SpecError, nearest
from bayesblina.plots.style import (
    COLOURS,
    DPI,
    GREY,
    INCHES,
    STYLE,
    Canvas,
    Drawing,
    Width,
    dress,
    entitle,
    explain,
    say,
)

if TYPE_CHECKING:
    from bayesblina.fitting import Fit

# Panels beside each other, and above which a figure is refused: nobody could read them.
BESIDE, LARGEST = 3, 24


def prior_posterior(
    fit: Fit, *, parameters: Sequence[str] = ("log_hazard_ratio",), width: Width = "two"
) -> Figure:
    """Draw the densities of parameters before and after the data, by ArviZ.

    Parameters
    ----------
    fit
        The fit; nothing is computed from it but densities of its draws.
    parameters
        Names of parameters that have prior draws.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        One panel per parameter and coordinate.

    Raises
    ------
    SpecError
        If a parameter has no prior or posterior draws, or there are too many panels.

    See Also
    --------
    arviz.plot_prior_posterior : what draws it.
    """
    known = [
        str(name)
        for name in fit.draws["prior"].to_dataset().data_vars
        if name in fit.draws["posterior"]
    ]
    tree = xr.DataTree.from_dict(
        {
            f"/{group}": fit.draws[group].to_dataset()[_checked(parameters, known)]
            for group in ("prior", "posterior")
        }
    )
    drawn, panels, found = _by_arviz(az.plot_prior_posterior, tree, parameters, width)
    lines = found.viz["dist"]
    for index, (axis, label, place) in enumerate(panels):
        entitle(axis, label)
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        for group, colour, style in (("prior", GREY, ":"), ("posterior", COLOURS[0], "-")):
            line = lines[place[0]].sel(place[1]).sel(group=group).item()
            line.set(color=colour, linestyle=style, label=group, linewidth=1.3)
        if index == 0:
            explain(axis)
    found.viz["legend"]["group"].item().remove()
    say(drawn, synthetic=fit.exposure.synthetic, converged=fit.converged)
    return drawn.figure


def chain_ranks(
    fit: Fit, *, parameters: Sequence[str] = ("log_hazard_ratio",), width: Width = "two"
) -> Figure:
    """Draw how the ranks of each chain's draws depart from uniform ones, by ArviZ.

    Parameters
    ----------
    fit
        The fit.
    parameters
        Names of parameters.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        One panel per parameter and coordinate, a line per chain. Chains that agree stay near 0; a
        small p-value in a panel says that they do not.

    Raises
    ------
    SpecError
        If a parameter is unknown, or there are too many panels.

    See Also
    --------
    arviz.plot_rank : what draws it.
    """
    posterior = fit.posterior
    known = [str(name) for name in posterior.data_vars]
    tree = xr.DataTree.from_dict({"/posterior": posterior[_checked(parameters, known)]})
    drawn, panels, _ = _by_arviz(az.plot_rank, tree, parameters, width)
    for axis, label, _place in panels:
        entitle(axis, label)
        axis.set_xlabel("rank of the draw, as a fraction")
    drawn.axis.set_ylabel("ECDF less uniform")
    say(drawn, synthetic=fit.exposure.synthetic, converged=fit.converged)
    return drawn.figure


def _checked(parameters: Sequence[str], known: Sequence[str]) -> list[str]:
    if isinstance(parameters, str):
        raise SpecError(f"parameters must be a list of names, such as ['{parameters}'].")
    for name in parameters:
        if name not in known:
            raise SpecError(f"No draws of '{name}'. {nearest(str(name), known)}")
    if not parameters:
        raise SpecError(f"Name parameters to draw. There are: {', '.join(known)}.")
    return list(parameters)


_Panel = tuple[Axes, str, tuple[str, dict[str, Any]]]


def _by_arviz(
    plot: Callable[..., Any], tree: xr.DataTree, parameters: Sequence[str], width: Width
) -> tuple[Canvas, list[_Panel], Any]:
    """Let ArviZ draw, and give its panels the style of all figures."""
    from matplotlib import pyplot as plt

    if width not in INCHES:
        raise SpecError(f"width must be 'one' or 'two' columns of a page, got {width!r}.")
    posterior = tree["posterior"].to_dataset()
    count = sum(posterior[name].isel(chain=0, draw=0).size for name in parameters)
    if count > LARGEST:
        raise SpecError(f"{count} panels are too many to read: name fewer parameters.")
    beside = min(count, BESIDE if width == "two" else 1)
    rows = -(-count // beside)
    with mpl.rc_context(STYLE):
        found = plot(
            tree,
            var_names=list(parameters),
            backend="matplotlib",
            col_wrap=beside,
            figure_kwargs={
                "figsize": (INCHES[width], 0.6 + 1.45 * rows),
                "dpi": DPI,
                "layout": "constrained",
                "FigureClass": Drawing,
            },
        )
    figure: Figure = found.viz["figure"].item()
    # ArviZ draws through pyplot, which would keep every figure open.
    plt.close(figure)
    panels = list(_panels(found.viz["plot"], parameters))
    axes = np.empty((1, len(panels)), dtype=object)
    axes[0] = [axis for axis, _, _ in panels]
    for axis in axes[0]:
        dress(axis)
        # ArviZ centres its own titles.
        axis.set_title("", loc="center")
    return Canvas(figure=figure, axes=axes, own=True), panels, found


def _panels(plots: Any, parameters: Sequence[str]) -> Iterator[_Panel]:
    for name in parameters:
        array = plots[name]
        for where in np.ndindex(array.shape):
            place = {
                str(dim): array[dim].values[index]
                for dim, index in zip(array.dims, where, strict=True)
            }
            words = ", ".join(str(value) for value in place.values())
            label = f"{name.replace('_', ' ')}: {words}" if words else name.replace("_", " ")
            yield array.to_numpy()[where], label, (name, place)
