"""Figures of draws themselves, by ArviZ: priors, chains, power-scaling, Pareto k."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.core.errors import SpecError, nearest, require_kind
from bayesblina.core.tables.numbers import CONVERGED, failed
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
    hide_scale,
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
    drawn, places, plot = _by_arviz(
        "plot_prior_posterior", fit, ("prior", "posterior"), parameters, width
    )
    for axis, (name, at) in zip(drawn.axes[0], places, strict=True):
        axis.set_yticks([])
        hide_scale(axis)
        for group, colour, style in (("prior", GREY, ":"), ("posterior", COLOURS[0], "-")):
            line = plot.viz["dist"][name].sel(at).sel(group=group).item()
            line.set(color=colour, linestyle=style, label=group, linewidth=1.3)
    explain(drawn.axis)
    plot.viz["legend"]["group"].item().remove()
    return say(drawn, synthetic=fit.person_time.synthetic, failed=_unconverged(fit.converged))


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
    drawn, _, _ = _by_arviz("plot_rank", fit, ("posterior",), parameters, width)
    for axis in drawn.axes[0]:
        axis.set_xlabel("rank of the draw, as a fraction")
    drawn.axis.set_ylabel("ECDF less uniform")
    return say(drawn, synthetic=fit.person_time.synthetic, failed=_unconverged(fit.converged))


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
    drawn, plot, name, places = _scaled("plot_psense_dist", draws, priors, alphas, width)
    # The posterior as it is in black.
    shades = {alphas[0]: (COLOURS[1], "--"), 1: (DARK, "-"), alphas[1]: (COLOURS[0], ":")}
    for axes, place in zip(drawn.axes, places, strict=True):
        for axis, component in zip(axes, COMPONENTS, strict=True):
            entitle(axis, _label(f"{component} scaled", place))
            axis.set_yticks([])
            hide_scale(axis)
            for alpha, (colour, style) in shades.items():
                at = {**place, "component_group": component, "alpha": alpha}
                for visual in ("dist", "credible_interval", "point_estimate"):
                    plot.viz[visual][name].sel(at).item().set_color(colour)
                label = "as it is" if alpha == 1 else f"power {alpha:g}"
                line = plot.viz["dist"][name].sel(at).item()
                line.set(linestyle=style, linewidth=1.2, label=label)
    for axis in drawn.axes[-1]:
        axis.set_xlabel(name.replace("_", " "))
    return _with_legend(drawn)


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
    drawn, plot, name, places = _scaled("plot_psense_quantities", draws, priors, alphas, width)
    for axes, place in zip(drawn.axes, places, strict=True):
        for axis, quantity in zip(axes, ("mean", "sd"), strict=True):
            entitle(axis, _label(quantity, place))
            axis.set_xlabel("")
            at = {**place, "quantities": quantity}
            for component, colour in zip(COMPONENTS, COLOURS, strict=False):
                plot.viz[f"{component}_markers"][name].sel(at).item().set_color(colour)
                line = plot.viz[f"{component}_lines"][name].sel(at).item()
                line.set(color=colour, label=component)
    for axis in drawn.axes[-1]:
        axis.set_xlabel("power")
    return _with_legend(drawn)


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
    held = {
        name: ((), np.array(part, dtype=object))
        for name, part in (("figure", drawn.figure), ("plot", axis))
    }
    plot = az.PlotCollection(
        shapes.to_dataset(name="pareto_k"), xr.DataTree(xr.Dataset(held)), backend="matplotlib"
    )
    az.plot_khat(
        SimpleNamespace(pareto_k=shapes, good_k=limit), plot_collection=plot, backend="matplotlib"
    )
    above = shapes.values > limit
    plot.viz["khat"]["pareto_k"].item().set(
        sizes=[9.0], facecolors=np.where(above, COLOURS[1], COLOURS[0]), edgecolors="none"
    )
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
    failed = _unconverged(prediction.converged)
    return say(drawn, synthetic=prediction.synthetic, failed=failed)


def _unconverged(converged: bool) -> tuple[str, ...]:
    """Name the gate of convergence, if it was failed."""
    return () if converged else (CONVERGED,)


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
    parts = _checked(priors, list(map(str, draws["log_prior"].data_vars)))
    low, high = alphas
    if not 0 < low < 1 < high < np.inf:
        raise SpecError(f"alphas must be a power below 1 and one above 1, got {alphas!r}.")
    posterior = draws["posterior"].to_dataset()
    (name,) = map(str, posterior.data_vars)
    values = posterior[name]
    over = [dim for dim in values.dims if dim not in ("chain", "draw")]
    places = _coordinates(values.isel(chain=0, draw=0))
    if 2 * len(places) > LARGEST:
        raise SpecError(f"{len(places)} rows are too many to read: choose some with .sel.")
    # ArviZ loses the name of a variable that is the only one.
    beside = xr.zeros_like(values.isel(dict.fromkeys(over, 0), drop=True))
    found = _arviz_plot(
        plot,
        draws.assign({"posterior": xr.DataTree(posterior.assign(beside=beside))}),
        width,
        height=0.8 + 1.5 * len(places),
        var_names=[name],
        prior_var_names=parts,
        alphas=alphas,
    )
    columns = found.viz["plot"][name]
    drawn = _dressed(
        found, [panel for place in places for panel in columns.sel(place).values.flat], columns=2
    )
    for legend in list(drawn.figure.legends):
        legend.remove()
    say(
        drawn,
        synthetic=bool(draws.attrs.get("synthetic", False)),
        failed=failed(draws.attrs),
        more=f"scaled prior: {', '.join(parts)}",
    )
    return drawn, found, name, places


def _coordinates(values: xr.DataArray) -> list[dict[str, Any]]:
    """List the coordinates of an array's elements, in their order."""
    return [
        {str(dim): values[dim].values[index] for dim, index in zip(values.dims, where, strict=True)}
        for where in np.ndindex(values.shape)
    ]


def _label(first: str, place: dict[str, Any]) -> str:
    words = ", ".join(map(str, place.values()))
    return f"{first}: {words}" if words else first


def _with_legend(drawn: Canvas) -> Figure:
    """Write the legend of the first panel's lines below a figure, and give it."""
    named = [line for line in drawn.axis.get_lines() if not str(line.get_label()).startswith("_")]
    drawn.figure.legend(
        handles=named, loc="outside lower center", ncols=len(named), frameon=False, fontsize=SMALL
    )
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


def _by_arviz(
    plot: str, fit: Fit, groups: Sequence[str], parameters: Sequence[str], width: Width
) -> tuple[Canvas, list[tuple[str, dict[str, Any]]], Any]:
    """Let ArviZ draw a panel for each element of parameters that all groups of draws have.

    Result: the panels, of each the parameter and its coordinates, and what ArviZ gives.
    """
    draws = {group: fit.draws[group].to_dataset() for group in groups}
    known = [
        str(name)
        for name in draws[groups[0]].data_vars
        if all(name in dataset for dataset in draws.values())
    ]
    names = _checked(parameters, known)
    count = sum(draws["posterior"][name].isel(chain=0, draw=0).size for name in names)
    if count > LARGEST:
        raise SpecError(f"{count} panels are too many to read: name fewer parameters.")
    beside = min(count, BESIDE if width == "two" else 1)
    found = _arviz_plot(
        plot,
        xr.DataTree.from_dict({f"/{group}": draws[group][names] for group in groups}),
        width,
        height=0.6 + 1.45 * -(-count // beside),
        var_names=names,
        col_wrap=beside,
    )
    panels = {name: found.viz["plot"][name] for name in names}
    places = [(name, place) for name in names for place in _coordinates(panels[name])]
    flat = [panel for name in names for panel in panels[name].to_numpy().flat]
    drawn = _dressed(found, flat, columns=count)
    for axis, (name, place) in zip(flat, places, strict=True):
        entitle(axis, _label(name.replace("_", " "), place))
    return drawn, places, found


def _dressed(found: Any, panels: Sequence[Axes], *, columns: int) -> Canvas:
    """Give panels that ArviZ made the style of all figures."""
    for panel in panels:
        dress(panel)
        # ArviZ centres its own titles.
        panel.set_title("", loc="center")
    axes = np.array(panels, dtype=object).reshape(-1, columns)
    return Canvas(figure=found.viz["figure"].item(), axes=axes, own=True)


def _arviz_plot(plot: str, tree: xr.DataTree, width: Width, *, height: float, **more: Any) -> Any:
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
    # ArviZ draws through pyplot, which would keep every figure open.
    plt.close(found.viz["figure"].item())
    return found
