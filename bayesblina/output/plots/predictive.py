"""Figures of checks: before the data, after them, and of calibrations by simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError, require_kind, require_seed
from bayesblina.output.plots.bands import draw_band
from bayesblina.output.plots.style import (
    COLOURS,
    DARK,
    GREY,
    PALE,
    Width,
    canvas,
    chosen,
    colours,
    entitle,
    explain,
    in_a_row,
    mark,
    paired,
    require,
    tails,
)

# Uniform ranks from which the bands of a calibration are taken.
UNIFORM_RANKS = 10_000
REPLICATED = "replicated, 95 %"
# Ticks of hazard ratios that a prior implies.
RATIOS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BAND: Mapping[str, Any] = {"color": PALE, "linewidth": 0}


def replicated_events(
    events: xr.Dataset,
    *,
    endpoint: str | None = None,
    phase: str | None = None,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw observed events over those that the model expects, by interval and phase.

    Parameters
    ----------
    events
        What `bayesblina.checks.replicated_events` gives.
    endpoint, phase
        Endpoint and phase to draw; by default all.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one panel on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint and phase: the central 95 % of the replicated events, their median,
        and the observed number; cells with a p-value below 0.025 or above 0.975 are marked.

    Raises
    ------
    SpecError
        If the dataset is another one, an endpoint or phase is unknown, or `ax` is given for several
        panels.
    """
    require(events, ["replicated", "observed", "p_value"], "bayesblina.checks.replicated_events")
    names = chosen(events["endpoint"].values, endpoint)
    phases = chosen(events["phase"].values, phase, what="phase")
    drawn = canvas(
        len(names), len(phases), height=0.6 + 1.6 * len(names), width=width, ax=ax, share_x=True
    )
    for axis, (name, state) in zip(drawn.axes.flat, product(names, phases), strict=True):
        cells = events.sel(endpoint=name, phase=state)
        p_value = cells["p_value"].values
        draw_events(
            axis,
            cells["observed"].values,
            *cells["replicated"].quantile([0.025, 0.5, 0.975], ("chain", "draw")).values,
            surprising=(p_value < 0.025) | (p_value > 0.975),
        )
        entitle(axis, f"{name.upper()}, {state}")
    starts = events["interval_start"].values
    shown = range(0, starts.size, max(1, starts.size // 6))
    turn = 90 if width == "one" and len(phases) > 1 else 0
    for axis in drawn.axes[-1]:
        axis.set_xticks(shown, [f"{starts[index]:.3g}" for index in shown], rotation=turn)
    drawn.name_axes("start of the interval", "events")
    explain(drawn.axis)
    return mark(drawn, events)


def draw_events(
    axis: Axes,
    observed: Floats,
    lower: Floats,
    middle: Floats,
    upper: Floats,
    *,
    surprising: Bools,
    thick: float = 4,
) -> None:
    """Draw observed events over the range of replicated ones, interval by interval."""
    number = np.arange(len(observed))
    axis.vlines(number, lower, upper, color=COLOURS[0], alpha=0.4, linewidth=thick)
    axis.plot(number, middle, "_", color=COLOURS[0], markersize=thick + 2, label=REPLICATED)
    axis.plot(number, observed, "o", color=DARK, markersize=3, label="observed")
    axis.plot(
        number[surprising],
        observed[surprising],
        "o",
        color=COLOURS[1],
        markersize=7,
        fillstyle="none",
        label="_surprising",
    )
    axis.locator_params(axis="y", integer=True)


def replicated_simon_makuch(
    replicated: xr.Dataset,
    observed: pd.DataFrame,
    *,
    endpoint: str | None = None,
    group: str | None = None,
    mass: float = 0.95,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw the observed Simon-Makuch curves over replicated ones.

    Parameters
    ----------
    replicated
        What `bayesblina.checks.replicated_simon_makuch` gives.
    observed
        What `bayesblina.simon_makuch` gives, from the same landmark.
    endpoint, group
        Endpoint and group to draw; by default all.
    mass
        Probability of the band of the replicates.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one panel on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint and group.

    Raises
    ------
    SpecError
        If the dataset is another one, an endpoint or group is unknown, or `ax` is given for several
        panels.
    """
    require(replicated, ["survival", "group"], "bayesblina.checks.replicated_simon_makuch")
    require(observed, ["endpoint", "group", "time", "survival"], "bayesblina.simon_makuch")
    names = chosen(replicated["endpoint"].values, endpoint)
    groups = chosen(replicated["group"].values, group, what="group")
    drawn = canvas(
        len(names),
        len(groups),
        height=0.6 + 1.9 * len(names),
        width=width,
        ax=ax,
        share_x=True,
        share_y=True,
    )
    everyone = list(map(str, replicated["group"].values))
    for axis, (name, label) in zip(drawn.axes.flat, product(names, groups), strict=True):
        colour = COLOURS[everyone.index(label) % len(COLOURS)]
        curves = replicated["survival"].sel(endpoint=name, group=label)
        inside = np.isfinite(curves.values).all(axis=0)
        time, values = replicated["time"].values[inside], curves.values[:, inside]
        lower, upper = np.quantile(values, tails(mass), axis=0)
        axis.plot(time, values[:30].T, color=colour, alpha=0.15, linewidth=0.6)
        draw_band(axis, time, lower, upper, colour=colour, label="replicated")
        steps = observed[(observed["endpoint"] == name) & (observed["group"] == label)]
        axis.step(steps["time"], steps["survival"], where="post", color=DARK, label="observed")
        entitle(axis, f"{name.upper()}, {label}")
        axis.set_ylim(0, 1.02)
        explain(axis)
    unit = replicated.attrs.get("unit", "time")
    drawn.name_axes(f"{unit} from the origin", "survival (Simon-Makuch)")
    return mark(drawn, replicated, observed)


def predicted_against_observed(
    table: pd.DataFrame,
    *,
    endpoint: str | None = None,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw observed against predicted survival of groups by risk.

    Parameters
    ----------
    table
        What `bayesblina.checks.predicted_against_observed` gives.
    endpoint
        Endpoint to draw; by default all.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one panel on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint, one colour per time, with both intervals.

    Raises
    ------
    SpecError
        If the table is another one, the endpoint is unknown, there are more times than colours, or
        `ax` is given for several endpoints.
    """
    require(
        table,
        ["endpoint", "time", "observed", "predicted"],
        "bayesblina.checks.predicted_against_observed",
    )
    names, times = chosen(list(table["endpoint"]), endpoint), table["time"].unique()
    palette = colours(len(times), "times")
    label = "observed survival (Kaplan-Meier)"
    drawn = in_a_row(
        [name.upper() for name in names], height=3.4, width=width, label=label, ax=ax, share_y=True
    )
    for axis, name in zip(drawn.axes[0], names, strict=True):
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
        for time, colour in zip(times, palette, strict=True):
            groups = table[(table["endpoint"] == name) & (table["time"] == time)]
            predicted, observed = groups["predicted"], groups["observed"]
            ends = groups["predicted_lower"], groups["predicted_upper"]
            axis.hlines(observed, *ends, color=colour)
            axis.vlines(predicted, groups["observed_lower"], groups["observed_upper"], color=colour)
            label = f"{time:g} {table.attrs.get('unit', '')}"
            axis.plot(predicted, observed, "o", markersize=4, color=colour, label=label)
        axis.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="predicted survival", aspect="equal")
    explain(drawn.axis)
    return mark(drawn, table)


def prior_predictive(prior: xr.Dataset, *, mass: float = 0.95, width: Width = "two") -> Figure:
    """Draw what the priors imply: curves by phase, and hazard ratios.

    Parameters
    ----------
    prior
        What `bayesblina.priors.prior_predictive` gives.
    mass
        Probability of the bands.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        Two panels per endpoint.

    Raises
    ------
    SpecError
        If the dataset is another one, or `mass` is impossible.
    """
    require(
        prior, ["survival", "hazard_ratio", "pooled_survival"], "bayesblina.priors.prior_predictive"
    )
    ends = tails(mass)
    names = chosen(prior["endpoint"].values, None)
    drawn = paired(len(names), height=0.6 + 1.9 * len(names), width=width)
    time = prior["time"].values
    for (left, right), name in zip(drawn.axes, names, strict=True):
        for colour, phase in zip(COLOURS, prior["phase"].values, strict=False):
            values = prior["survival"].sel(endpoint=name, phase=phase).values
            for share, shade in ((mass, 0.12), (0.5, 0.25)):
                left.fill_between(
                    time,
                    *np.quantile(values, tails(share), axis=0),
                    color=colour,
                    alpha=shade,
                    linewidth=0,
                    label=f"{phase}, {share:.0%} of the prior",
                )
            left.plot(time, values[:10].T, color=colour, alpha=0.4, linewidth=0.6)
        if prior.attrs.get("baseline") == "pooled":
            pooled = prior["pooled_survival"].sel(endpoint=name).values
            left.plot(time, pooled, color="black", linewidth=1.0, label="pooled hazard")
        left.set(ylim=(0, 1.02), ylabel="survival")
        entitle(left, f"{name.upper()}, prior")
        logs = np.log(prior["hazard_ratio"].sel(endpoint=name).values)
        low, high = np.exp(np.quantile(logs, ends))
        right.hist(logs, bins=40, color=COLOURS[0], alpha=0.4)
        right.set_xticks(np.log(RATIOS), [f"{ratio:g}" for ratio in RATIOS])
        right.set_yticks([])
        entitle(right, f"{mass:.0%} between {low:.2g} and {high:.2g}")
    explain(drawn.axis)
    left.set_xlabel(f"{prior.attrs.get('unit', 'time')} from the origin")
    right.set_xlabel("hazard ratio of the exposed phase (log scale)")
    return mark(drawn, prior)


def calibration_ranks(
    counts: Mapping[str, Mapping[str, Sequence[int]]],
    *,
    level: float = 0.99,
    seed: int = 1,
    width: Width = "two",
) -> Figure:
    """Draw the ranks of a simulation-based calibration: histograms, and distribution functions.

    Parameters
    ----------
    counts
        By model and parameter, how many replications have their rank in each of equally wide
        bins: ``ranks`` of the files that `bayesblina.studies.calibration` writes.
    level
        Probability that all lines of one calibrated model stay within its bands.
    seed
        Seed of the uniform ranks from which the bands are taken.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).

    Returns
    -------
    matplotlib.figure.Figure
        One row per model. On the left a step line per parameter, on the right the distribution
        function of its ranks less that of uniform ranks; grey bands hold all lines of a model, at
        all places together, with the given probability.

    Raises
    ------
    SpecError
        If there is nothing to draw, or parameters of a model differ in bins or replications.

    Notes
    -----
    Bands after Säilynoja, Bürkner and Vehtari (2022), doi:10.1007/s11222-022-10090-6.
    """
    require_kind(counts, Mapping, "counts", made_by="bayesblina.studies.calibration.calibrate")
    require_seed(seed)
    if not counts or not all(counts.values()):
        raise SpecError("There are no ranks to draw.")
    drawn = paired(len(counts), height=0.5 + 1.6 * len(counts), width=width)
    for (left, right), (model, ranks) in zip(drawn.axes, counts.items(), strict=True):
        sizes = {(len(row), sum(row)) for row in ranks.values()}
        bins, replications = min(sizes)
        if len(sizes) > 1 or bins < 2:
            raise SpecError(f"{model}: parameters differ in bins or replications.")
        edges = np.arange(bins + 1) / bins
        inner = edges[1:-1]
        single, cumulative = _rank_bands(replications, bins, (1.0 - level) / len(ranks), seed)
        left.fill_between(edges, *(np.append(end, end[-1]) for end in single), **_BAND)
        right.fill_between(inner, *(end / replications - inner for end in cumulative), **_BAND)
        for row in map(np.asarray, ranks.values()):
            left.stairs(row, edges, color=COLOURS[0], linewidth=0.7, alpha=0.6)
            difference = np.cumsum(row)[:-1] / replications - inner
            right.plot(inner, difference, color=COLOURS[0], linewidth=0.7, alpha=0.6)
        right.axhline(0.0, color=DARK, linewidth=0.6)
        left.set(ylabel="replications", xlim=(0, 1), ylim=(0, None))
        entitle(left, model)
        right.set(ylabel="difference", xlim=(0, 1))
        entitle(right, f"{replications} replications, {len(ranks)} parameters")
    left.set_xlabel("rank of the true value")
    right.set_xlabel("rank: distribution function less uniform")
    return drawn.figure


@cache
def _rank_bands(
    replications: int, bins: int, tail: float, seed: int
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Bands of counts by bin, and of counts up to each inner edge."""
    share = np.full(bins, 1.0 / bins)
    uniform = np.random.default_rng(seed).multinomial(replications, share, size=UNIFORM_RANKS)
    below, inner = np.cumsum(uniform, axis=1)[:, :-1], np.arange(1, bins) / bins
    return (
        _binomial_band(uniform, share, replications, tail),
        _binomial_band(below, inner, replications, tail),
    )


def _binomial_band(
    simulated: NDArray[np.int64], probability: Floats, size: int, tail: float
) -> tuple[Floats, Floats]:
    """Binomial quantiles that hold all places of a row together but for the tail probability."""
    from scipy.stats import binom

    least = np.minimum(
        binom.cdf(simulated, size, probability), binom.sf(simulated - 1, size, probability)
    ).min(axis=1)
    share = float(np.quantile(least, tail))
    low, high = binom.ppf(share, size, probability), binom.isf(share, size, probability)
    return np.asarray(low), np.asarray(high)


def martingale_residuals(
    residuals: xr.Dataset,
    *,
    endpoint: str | None = None,
    width: Width = "two",
    ax: Axes | None = None,
) -> Figure:
    """Draw each patient's residual against the events expected of the patient's follow-up.

    Parameters
    ----------
    residuals
        What `bayesblina.checks.martingale_residuals` gives.
    endpoint
        Endpoint to draw; by default all.
    width
        One column of a journal's page (``"one"``, 89 mm) or two (``"two"``, 183 mm).
    ax
        Axes to draw one panel on, in a figure of one's own; by default a new figure.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint, patients with and without the event apart. Patients without it lie
        on the line of minus what was expected of them. Each point is a patient.

    Raises
    ------
    SpecError
        If the dataset is another one, the endpoint is unknown, or `ax` is given for several.
    """
    require(residuals, ["residual", "events"], "bayesblina.checks.martingale_residuals")
    names = chosen(residuals["endpoint"].values, endpoint)
    label = "martingale residual"
    drawn = in_a_row(
        [name.upper() for name in names], height=2.8, width=width, label=label, ax=ax, share_y=True
    )
    for axis, name in zip(drawn.axes[0], names, strict=True):
        # Who is not in the analysis of this endpoint has none.
        patients = residuals.sel(endpoint=name).to_dataframe().dropna(subset="residual")
        event = patients["events"] > 0
        for rows, colour, label in (
            (patients[event], COLOURS[1], "event"),
            (patients[~event], COLOURS[0], "no event"),
        ):
            points = rows["expected"], rows["residual"]
            axis.plot(*points, "o", color=colour, markersize=2.5, label=label)
        axis.axhline(0.0, color=DARK, linewidth=0.7)
        axis.set_xlabel("events expected")
    explain(drawn.axis)
    return mark(drawn, residuals)
