"""Figures of safety: adverse events by treatment phase."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesblina.core.errors import SpecError
from bayesblina.core.escaping import literal
from bayesblina.core.masking.minimum import require_minimum
from bayesblina.core.tables import numbers
from bayesblina.output.plots.style import (
    COLOURS,
    Canvas,
    Width,
    canvas,
    colours,
    draw_interval,
    explain,
    hide_scale,
    list_rows,
    mark,
    ratio_scale,
    require,
    tails,
    write_after,
)

# Inches for each phase, for each term and phase, and for what stands around them.
ROW, THIN, FRAME = 0.36, 0.09, 0.9
# Terms above which a figure is refused: nobody could read them.
LARGEST = 60
_INTERVAL = ("median", "lower", "upper")
# Share of a term's row that its phases take.
SPREAD = 0.6


def adverse_events(
    estimate: xr.Dataset,
    *,
    mass: float = 0.95,
    logarithmic: bool = False,
    minimum: int = 1,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    r"""Draw rates or incidences of adverse events by treatment phase, with their intervals.

    Parameters
    ----------
    estimate
        What `bayesblina.safety.event_rate`, `bayesblina.safety.incidence` or
        `bayesblina.safety.event_rates_by_term` gives.
    mass
        Probability of the intervals.
    logarithmic
        Whether the axis is logarithmic; otherwise it begins at 0.
    minimum
        Phases with fewer events or patients than this, but some, are named and not drawn: an
        estimate gives its count away.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        Posterior medians and intervals: a line per phase with the counts below its name, or a line
        per event term, the most frequent first, with a colour per phase.

    Raises
    ------
    SpecError
        If it is another dataset, the mass or the minimum is impossible, there are too many terms or
        phases, or `minimum` is given for rates by term, which have no counts.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> table = bb.simulate.adverse_events(cohort, seed=1)
    >>> events = bb.safety.adverse_events(
    ...     table,
    ...     cohort,
    ...     patient="patient_id",
    ...     term="term",
    ...     start="month",
    ...     transplant="ignore",
    ... )
    >>> figure = bb.plots.adverse_events(bb.safety.event_rate(events, seed=1))
    >>> figure.axes[0].get_xlabel()
    'adverse events per patient-year,\n95% interval'
    """
    require(estimate, [], "bayesblina.safety.event_rate or bayesblina.safety.incidence")
    name = "incidence" if "incidence" in estimate else "event_rate"
    require(estimate, [name], "bayesblina.safety.event_rate or bayesblina.safety.incidence")
    values = estimate[name]
    by_term = "term" in values.dims
    unexpected = {"chain", "draw", "phase", *(["term"] if by_term else [])} ^ set(values.dims)
    if unexpected:
        more = ", ".join(sorted(map(str, unexpected)))
        raise SpecError(f"Expected rates by phase, or by term and phase: check {more}.")
    require_minimum(minimum)
    quantiles = values.quantile([0.5, *tails(mass)], ("chain", "draw"))
    drawn = (
        _by_term(quantiles, minimum=minimum, width=width, ax=ax)
        if by_term
        else _by_phase(estimate, name, quantiles, minimum=minimum, width=width, ax=ax)
    )
    per = str(estimate.attrs.get("per", "years")).removesuffix("s")
    what = (
        "share of patients with an adverse event"
        if name == "incidence"
        else f"adverse events per patient-{per}"
    )
    axis = drawn.axis
    axis.set_xlabel(f"{what},\n{mass:.0%} interval" + (" (log scale)" if logarithmic else ""))
    hide_scale(axis)
    if logarithmic:
        ratio_scale(axis, "x")
    else:
        axis.set_xlim(left=0.0)
    return mark(drawn, estimate)


def _by_phase(
    estimate: xr.Dataset,
    name: str,
    quantiles: xr.DataArray,
    *,
    minimum: int,
    width: Width,
    ax: Axes | None,
) -> Canvas:
    phases = list(map(str, quantiles["phase"].values))
    drawn = canvas(height=FRAME + ROW * len(phases), width=width, ax=ax)
    names = []
    for place, phase in enumerate(phases):
        counts, few = _counts(estimate.sel(phase=phase), name, minimum)
        names.append(f"{literal(phase)}\n{counts}")
        text = f"not shown: fewer than {minimum}"
        if not few:
            row = dict(zip(_INTERVAL, map(float, quantiles.sel(phase=phase).values), strict=True))
            draw_interval(drawn.axis, place, row, colour=COLOURS[0])
            text = numbers.interval(row["median"], row["lower"], row["upper"])
        write_after(drawn.axis, place, text)
    list_rows(drawn.axis, names)
    return drawn


def _counts(estimate: xr.Dataset, name: str, minimum: int) -> tuple[str, bool]:
    """Write a phase's counts, and say whether they are too small to be shown."""
    if name == "incidence":
        patients, hit = int(estimate["patients"]), int(estimate["with_event"])
        few = any(0 < count < minimum for count in (patients, hit, patients - hit))
        return ("few patients" if few else f"{hit} of {patients} patients"), few
    events, time = int(estimate["events"]), numbers.number(float(estimate["person_time"]))
    if 0 < events < minimum:
        return "few events", True
    return f"{events} in {time} patient-{estimate.attrs.get('per', 'years')}", False


def _by_term(quantiles: xr.DataArray, *, minimum: int, width: Width, ax: Axes | None) -> Canvas:
    if minimum > 1:
        raise SpecError("minimum is for rates by phase: those by term have no counts to go by.")
    phases, terms = quantiles.sizes["phase"], quantiles.sizes["term"]
    if terms > LARGEST:
        raise SpecError(f"{terms} terms are too many to read: choose some with .sel(term=...).")
    shades = colours(phases, "phases")
    order = np.argsort(-quantiles.sel(quantile=0.5).max("phase").values, kind="stable")
    ordered = quantiles.isel(term=order).transpose("phase", "term", "quantile")
    drawn = canvas(height=FRAME + terms * max(0.2, THIN * phases), width=width, ax=ax)
    offsets = SPREAD * (np.arange(phases) - (phases - 1) / 2) / max(phases, 1)
    for by_term, colour, offset in zip(ordered, shades, offsets, strict=True):
        for place, values in enumerate(by_term.values):
            row = dict(zip(_INTERVAL, values, strict=True))
            label = literal(by_term["phase"].item()) if place == 0 else "_"
            draw_interval(drawn.axis, place + offset, row, colour=colour, label=label)
    list_rows(drawn.axis, list(map(literal, ordered["term"].values)))
    explain(drawn.axis, place="lower right")
    return drawn
