"""What all figures share: colours, scales, and what must not be overlooked."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinguishable with colour-blindness and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def mark(figure: Figure, dataset: xr.Dataset) -> None:
    """Say in the figure itself what must not be overlooked.

    Parameters
    ----------
    figure
        The figure.
    dataset
        What it shows; its attributes tell whether patients are synthetic and draws converged.
    """
    say(
        figure,
        synthetic=bool(dataset.attrs.get("synthetic")),
        converged=bool(dataset.attrs.get("converged", 1)),
    )


def say(figure: Figure, *, synthetic: bool, converged: bool) -> None:
    """Write above a figure what must not be overlooked.

    Parameters
    ----------
    figure
        The figure.
    synthetic
        Whether patients are simulated.
    converged
        Whether the draws passed the convergence gate.
    """
    words = []
    if synthetic:
        words.append("synthetic patients")
    if not converged:
        words.append("NOT CONVERGED")
    if words:
        figure.suptitle(" - ".join(words), fontsize="small", color="#B00000")


def ratio_scale(axis: Axes) -> None:
    """Put ratios on a logarithmic vertical axis with readable ticks.

    Parameters
    ----------
    axis
        The axes.
    """
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    ticks = [one for one in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= one <= high]
    axis.set_yticks(ticks, [f"{one:g}" for one in ticks])
    axis.minorticks_off()
