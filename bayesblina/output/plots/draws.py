"""Figures of draws themselves, by ArviZ: priors, chains, power-scaling, Pareto k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.core.errors import SpecError, nearest, require_kind
from bayesblina.core.tables.numbers import failed
from bayesblina.inference.fitting import Fit
from bayesblina.output.plots.style import (
    COLOURS,
    DARK,
    DPI,
    GREY,
    INCHES,
    SMALL,
    STYLE,
    Canvas,
    NotebookFigure,
    Width,
    canvas,
    dress,
    entitle,
    explain,
    say,
)

if TYPE_CHECKING:
    from bayesblina.checks.prediction import Prediction

# Panels beside each other, and above which a figure is refused: nobody could read them.
BESIDE, LARGEST = 3, 24
# Components of a power-scaled posterior, in the order of the columns.
COMPONENTS = ("prior", "likelihood")


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
    require_kind(fit, Fit, "fit")
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
    drawn, panels, found = _by_arviz("plot_prior_posterior", tree, parameters, width)
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
    return say(drawn, synthetic=fit.person_time.synthetic, converged=fit.converged)


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
    require_kind(fit, Fit, "fit")
    posterior = fit.posterior
    known = [str(name) for name in posterior.data_vars]
    tree = xr.DataTree.from_dict({"/posterior": posterior[_checked(parameters, known)]})
    drawn, panels, _ = _by_arviz("plot_rank", tree, parameters, width)
    for axis, label, _place in panels:
        entitle(axis, label)
        axis.set_xlabel("rank of the draw, as a fraction")
    drawn.axis.set_ylabel("ECDF less uniform")
    return say(drawn, synthetic=fit.person_time.synthetic, converged=fit.converged)


def power_scaling(
    draws: xr.DataTree,
    *,
    priors: Sequence[str] = ("phases",),
    alphas: tuple[float, float] = (0.8, 1.25),
    width: Width = "two",
) -> Figure:
    """Draw the posterior with its prior, and its likelihood, raised to powers, by ArviZ.

    Parameters
    ----------
    draws
        What `bayesblina.priors.power_scaling_draws` gives.
    priors
        Parts of the prior that are scaled, all together: ``"phases"``, ``"covariates"``.
    alphas
        A power below 1, with which the component counts less, and one above 1.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        A row per coordinate of the estimate: densities, with medians and 94 % intervals below, of
        the posterior as it is and under both powers; on the left the prior is scaled, on the right
        the likelihood. Where the left ones fall apart, the prior speaks; where the right ones do
        not, the data say little.

    Raises
    ------
    SpecError
        If it is another tree, a prior is unknown, a power impossible, or there are too many rows.

    Notes
    -----
    Kallioinen, Paananen, Bürkner and Vehtari (2024), doi:10.1007/s11222-023-10366-5.

    See Also
    --------
    arviz.plot_psense_dist : what draws it.
    bayesblina.priors.power_scaling : the table of indices.
    """
    drawn, found, name, places = _scaled("plot_psense_dist", draws, priors, alphas, width)
    shades = _shades(alphas)
    for row, place in enumerate(places):
        for column, component in enumerate(COMPONENTS):
            axis = drawn.axes[row, column]
            entitle(axis, _label(f"{component} scaled", place))
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
            for alpha, (colour, style) in shades.items():
                at = {**place, "component_group": component, "alpha": alpha}
                for visual in ("dist", "credible_interval", "point_estimate"):
                    found.viz[visual][name].sel(at).item().set_color(colour)
                line = found.viz["dist"][name].sel(at).item()
                label = "as it is" if alpha == 1 else f"power {alpha:g}"
                line.set(linestyle=style, linewidth=1.2, label=label)
    for axis in drawn.axes[-1]:
        axis.set_xlabel(name.replace("_", " "))
    _legend(drawn, drawn.axis.get_lines())
    return drawn.figure


def power_scaling_quantities(
    draws: xr.DataTree,
    *,
    priors: Sequence[str] = ("phases",),
    alphas: tuple[float, float] = (0.8, 1.25),
    width: Width = "two",
) -> Figure:
    """Draw how the posterior's mean and sd follow its prior and its likelihood, by ArviZ.

    Parameters
    ----------
    draws
        What `bayesblina.priors.power_scaling_draws` gives.
    priors
        Parts of the prior that are scaled, all together: ``"phases"``, ``"covariates"``.
    alphas
        A power below 1, with which the component counts less, and one above 1.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        A row per coordinate of the estimate; mean on the left, sd on the right, against the power.
        Dashed lines are two Monte-Carlo errors from the posterior as it is.

    Raises
    ------
    SpecError
        If it is another tree, a prior is unknown, a power impossible, or there are too many rows.

    See Also
    --------
    arviz.plot_psense_quantities : what draws it.
    """
    drawn, found, name, places = _scaled("plot_psense_quantities", draws, priors, alphas, width)
    for row, place in enumerate(places):
        for column, quantity in enumerate(("mean", "sd")):
            axis = drawn.axes[row, column]
            entitle(axis, _label(quantity, place))
            at = {**place, "quantities": quantity}
            for component, colour in zip(COMPONENTS, COLOURS, strict=False):
                found.viz[f"{component}_markers"][name].sel(at).item().set_color(colour)
                line = found.viz[f"{component}_lines"][name].sel(at).item()
                line.set(color=colour, label=component)
    for axis in drawn.axes.flat:
        axis.set_xlabel("power" if axis in drawn.axes[-1] else "")
    _legend(drawn, drawn.axis.get_lines())
    return drawn.figure


def pareto_k(prediction: Prediction, *, width: Width = "two", ax: Axes | None = None) -> Figure:
    """Draw how far each patient's leave-one-out prediction can be relied on, by ArviZ.

    Parameters
    ----------
    prediction
        What `bayesblina.loo` gives.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        A point per patient, in the cohort's order and without ids: the Pareto k of the weights that
        leave the patient out. A line stands at the limit; the title says how many are above.

    See Also
    --------
    arviz.plot_khat : what draws it.
    """
    # With ArviZ, which other figures do without.
    import arviz as az

    from bayesblina.checks.prediction import Prediction

    require_kind(prediction, Prediction, "prediction")
    shapes, limit = prediction.pareto_k, prediction.limit
    drawn = canvas(height=2.4, width=width, ax=ax)
    axis = drawn.axis
    held = {"figure": ((), _one(drawn.figure)), "plot": ((), _one(axis))}
    place = az.PlotCollection(
        shapes.to_dataset(name="pareto_k"), xr.DataTree(xr.Dataset(held)), backend="matplotlib"
    )
    az.plot_khat(
        SimpleNamespace(pareto_k=shapes, good_k=limit), plot_collection=place, backend="matplotlib"
    )
    points = place.viz["khat"]["pareto_k"].item()
    above = shapes.values > limit
    points.set(sizes=[9.0], facecolors=np.where(above, COLOURS[1], COLOURS[0]), edgecolors="none")
    axis.axhline(limit, color=DARK, linewidth=0.7)
    axis.annotate(
        f"limit {limit:.2f}",
        (1.0, limit),
        (0.0, 2.0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=SMALL,
    )
    axis.set_ylim(top=max(axis.get_ylim()[1], limit + 0.15))
    entitle(axis, f"{int(above.sum())} of {shapes.size} patients above the limit")
    axis.set(xlabel="patient, in the cohort's order", ylabel="Pareto k")
    dress(axis)
    return say(drawn, synthetic=prediction.synthetic, converged=prediction.converged)


def _one(what: object) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Hold one object in an array without dimensions."""
    held = np.empty((), dtype=object)
    held[()] = what
    return held


def _scaled(
    plot: str,
    draws: xr.DataTree,
    priors: Sequence[str],
    alphas: tuple[float, float],
    width: Width,
) -> tuple[Canvas, Any, str, list[dict[str, Any]]]:
    """Let ArviZ draw power-scaled posteriors: a row per coordinate, two columns."""
    require_kind(draws, xr.DataTree, "draws")
    if not {"posterior", "log_prior", "log_likelihood"} <= set(draws.children):
        raise SpecError("Expected what bayesblina.priors.power_scaling_draws gives.")
    parts = _checked(priors, [str(one) for one in draws["log_prior"].data_vars])
    low, high = alphas
    if not 0 < low < 1 < high < np.inf:
        raise SpecError(f"alphas must be a power below 1 and one above 1, got {alphas!r}.")
    (name,) = map(str, draws["posterior"].data_vars)
    values = draws["posterior"].to_dataset()[name]
    over = [str(dim) for dim in values.dims if dim not in ("chain", "draw")]
    places = [
        {dim: values[dim].values[index] for dim, index in zip(over, where, strict=True)}
        for where in np.ndindex(*(values.sizes[dim] for dim in over))
    ]
    if 2 * len(places) > LARGEST:
        raise SpecError(f"{len(places)} rows are too many to read: choose some with .sel.")
    # ArviZ loses the name of a variable that is the only one.
    beside = xr.zeros_like(values.isel(dict.fromkeys(over, 0), drop=True))
    tree = draws.assign(
        {"posterior": xr.DataTree(draws["posterior"].to_dataset().assign(beside=beside))}
    )
    found, figure = _arviz_figure(
        plot,
        tree,
        width,
        height=0.8 + 1.5 * len(places),
        var_names=[name],
        prior_var_names=parts,
        alphas=alphas,
    )
    for legend in list(figure.legends):
        legend.remove()
    axes = np.empty((len(places), 2), dtype=object)
    columns = found.viz["plot"][name]
    across = next(str(dim) for dim in columns.dims if dim not in over)
    for row, place in enumerate(places):
        for column, at in enumerate(columns[across].values):
            axes[row, column] = columns.sel({**place, across: at}).item()
    for axis in axes.flat:
        dress(axis)
        axis.set_title("", loc="center")
    drawn = Canvas(figure=figure, axes=axes, own=True)
    attributes = draws.attrs
    say(
        drawn,
        synthetic=bool(attributes.get("synthetic", False)),
        converged=bool(attributes.get("converged", True)),
        failed=tuple(name for name in failed(attributes) if name != "converged"),
        more=f"scaled prior: {', '.join(parts)}",
    )
    return drawn, found, name, places


def _shades(alphas: tuple[float, float]) -> dict[float, tuple[str, str]]:
    """Colour and line of each power, the posterior as it is in black."""
    return {alphas[0]: (COLOURS[1], "--"), 1: (DARK, "-"), alphas[1]: (COLOURS[0], ":")}


def _label(first: str, place: dict[str, Any]) -> str:
    words = ", ".join(str(value) for value in place.values())
    return f"{first}: {words}" if words else first


def _legend(drawn: Canvas, lines: Sequence[Any]) -> None:
    named = [line for line in lines if not str(line.get_label()).startswith("_")]
    drawn.figure.legend(
        handles=named, loc="outside lower center", ncols=len(named), frameon=False, fontsize=SMALL
    )


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
    plot: str, tree: xr.DataTree, parameters: Sequence[str], width: Width
) -> tuple[Canvas, list[_Panel], Any]:
    """Let ArviZ draw, and give its panels the style of all figures."""
    posterior = tree["posterior"].to_dataset()
    count = sum(posterior[name].isel(chain=0, draw=0).size for name in parameters)
    if count > LARGEST:
        raise SpecError(f"{count} panels are too many to read: name fewer parameters.")
    beside = min(count, BESIDE if width == "two" else 1)
    found, figure = _arviz_figure(
        plot,
        tree,
        width,
        height=0.6 + 1.45 * -(-count // beside),
        var_names=list(parameters),
        col_wrap=beside,
    )
    panels = list(_panels(found.viz["plot"], parameters))
    axes = np.empty((1, len(panels)), dtype=object)
    axes[0] = [axis for axis, _, _ in panels]
    for axis in axes[0]:
        dress(axis)
        # ArviZ centres its own titles.
        axis.set_title("", loc="center")
    return Canvas(figure=figure, axes=axes, own=True), panels, found


def _arviz_figure(
    plot: str, tree: xr.DataTree, width: Width, *, height: float, **more: Any
) -> tuple[Any, Figure]:
    """Let ArviZ draw in a figure of the package's kind and size."""
    import arviz as az
    from matplotlib import pyplot as plt

    if width not in INCHES:
        raise SpecError(f"width must be 'one' or 'two' columns of a page, got {width!r}.")
    with mpl.rc_context(STYLE):
        found = getattr(az, plot)(
            tree,
            backend="matplotlib",
            figure_kwargs={
                "figsize": (INCHES[width], height),
                "dpi": DPI,
                "layout": "constrained",
                "FigureClass": NotebookFigure,
            },
            **more,
        )
    figure: Figure = found.viz["figure"].item()
    # ArviZ draws through pyplot, which would keep every figure open.
    plt.close(figure)
    return found, figure


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
