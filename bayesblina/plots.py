"""Figures from computed datasets: bands, steps and densities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bayesblina.axes import BASE
from bayesblina.errors import SpecError, nearest
from bayesblina.what_if import Sensitivity

# Okabe and Ito's palette: distinguishable with colour-blindness and in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
DENSITY_POINTS = 400
# Uniform ranks from which the bands of a calibration are taken.
UNIFORM_RANKS = 10_000
_BAND: Mapping[str, Any] = {"color": "0.85", "linewidth": 0}
_BESIDE: Mapping[str, Any] = {"fontsize": "x-small", "va": "center", "ha": "left"}
Floats = NDArray[np.float64]


def survival(
    curves: xr.Dataset,
    *,
    endpoint: str | None = None,
    observed: pd.DataFrame | None = None,
    at_risk: pd.DataFrame | None = None,
    mass: float = 0.95,
) -> Figure:
    """Draw posterior survival curves with bands, observed steps and numbers at risk.

    Parameters
    ----------
    curves
        What `bayesblina.survival` gives.
    endpoint
        Endpoint to draw; by default all, side by side.
    observed
        What `bayesblina.simon_makuch` gives: steps drawn over the curves.
    at_risk
        What `bayesblina.numbers_at_risk` gives: patients at risk by current phase, written below
        the axes, which get their ticks there.
    mass
        Probability of the bands.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved.

    Raises
    ------
    SpecError
        If the curves are those of several subgroups.
    """
    if "subgroup" in curves.dims:
        raise SpecError("Choose a subgroup to draw: curves.sel(subgroup=...).")
    names = [str(name) for name in curves["endpoint"].values] if endpoint is None else [endpoint]
    figure = Figure(figsize=(5.6 * len(names), 4.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        _survival_axis(axis, curves.sel(endpoint=name), observed, at_risk, name, mass)
    _mark(figure, curves)
    return figure


def _survival_axis(
    axis: Axes,
    curves: xr.Dataset,
    observed: pd.DataFrame | None,
    at_risk: pd.DataFrame | None,
    name: str,
    mass: float,
) -> None:
    tail = (1.0 - mass) / 2.0
    time = curves["time"].values
    unit = str(curves.attrs.get("unit", "time"))
    for colour, regime in zip(COLOURS, curves["regime"].values, strict=False):
        values = curves["survival"].sel(regime=regime)
        lower, middle, upper = values.quantile([tail, 0.5, 1.0 - tail], ("chain", "draw")).values
        axis.fill_between(time, lower, upper, color=colour, alpha=0.2, linewidth=0)
        axis.plot(time, middle, color=colour, label=f"{regime} (posterior, {mass:.0%} band)")
    if observed is not None:
        rows = observed[observed["endpoint"] == name]
        groups = sorted(rows["group"].unique(), key=lambda group: not group.startswith("no "))
        for colour, group in zip(COLOURS, groups, strict=False):
            one = rows[rows["group"] == group]
            axis.step(
                one["time"],
                one["survival"],
                where="post",
                color=colour,
                linestyle="--",
                linewidth=1,
                label=f"{group} (Simon-Makuch)",
            )
    axis.set(ylim=(0, 1.02), xlim=(time.min(), time.max()), title=name.upper())
    axis.set_xlabel(f"{unit} from the origin, event-free at {curves.attrs.get('landmark', 0):g}")
    axis.set_ylabel("survival")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    if at_risk is not None:
        _numbers_at_risk(axis, at_risk[at_risk["endpoint"] == name])


def _numbers_at_risk(axis: Axes, rows: pd.DataFrame) -> None:
    transform = axis.get_xaxis_transform()
    low, high = axis.get_xlim()
    ticks = rows["time"].unique()
    axis.set_xticks(ticks[(ticks >= low) & (ticks <= high)])
    for line, (group, one) in enumerate(rows.groupby("group", sort=False)):
        height = -0.24 - 0.07 * line
        axis.text(
            -0.05,
            height,
            str(group),
            transform=axis.transAxes,
            ha="right",
            va="center",
            fontsize="x-small",
        )
        for time, count in zip(one["time"].to_numpy(), one["at_risk"].to_numpy(), strict=True):
            if low <= time <= high:
                axis.text(
                    time,
                    height,
                    f"{count:.0f}",
                    transform=transform,
                    ha="center",
                    va="center",
                    fontsize="x-small",
                )
    axis.text(
        -0.05,
        -0.17,
        "at risk, by current phase",
        transform=axis.transAxes,
        ha="right",
        va="center",
        fontsize="x-small",
        style="italic",
    )


def hazard_ratio(
    ratios: xr.Dataset,
    *,
    prior: tuple[float, float] | None = None,
    thresholds: Sequence[float] = (1.0,),
    mass: float = 0.95,
) -> Figure:
    """Draw the posterior density of each endpoint's hazard ratio.

    Parameters
    ----------
    ratios
        What `bayesblina.hazard_ratio` gives.
    prior
        Mean and sd of the normal prior of the log hazard ratio, drawn for comparison.
    thresholds
        Hazard ratios to mark.
    mass
        Probability of the interval shaded.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved.
    """
    from scipy.stats import gaussian_kde, norm

    names = [str(name) for name in ratios["endpoint"].values]
    figure = Figure(figsize=(6.4, 1.2 + 1.9 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    logs = {
        name: np.log(ratios["hazard_ratio"].sel(endpoint=name).values.ravel()) for name in names
    }
    low = min(float(np.quantile(values, 0.0005)) for values in logs.values())
    high = max(float(np.quantile(values, 0.9995)) for values in logs.values())
    grid = np.linspace(min(low, np.log(0.2)), max(high, np.log(2.0)), DENSITY_POINTS)
    tail = (1.0 - mass) / 2.0
    for axis, colour, name in zip(axes, COLOURS, names, strict=False):
        density = gaussian_kde(logs[name])(grid)
        lower, upper = np.quantile(logs[name], [tail, 1.0 - tail])
        inside = (grid >= lower) & (grid <= upper)
        axis.plot(np.exp(grid), density, color=colour, label="posterior")
        axis.fill_between(
            np.exp(grid[inside]),
            density[inside],
            color=colour,
            alpha=0.2,
            linewidth=0,
            label=f"{mass:.0%} interval",
        )
        if prior is not None:
            axis.plot(
                np.exp(grid), norm.pdf(grid, *prior), color="0.4", linestyle=":", label="prior"
            )
        for threshold in thresholds:
            axis.axvline(threshold, color="0.2", linewidth=0.8)
        below = float((logs[name] < 0).mean())
        axis.set_title(f"{name.upper()}: P(HR < 1) = {below:.3f}", loc="left", fontsize="medium")
        axis.set(yticks=[], xscale="log")
        axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize="small")
    ticks = [
        tick
        for tick in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5)
        if np.exp(grid[0]) <= tick <= np.exp(grid[-1])
    ]
    axes[-1].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[-1].minorticks_off()
    exposed, reference = ratios.attrs.get("exposed", ""), ratios.attrs.get("reference", "")
    axes[-1].set_xlabel(f"hazard ratio, {exposed} against {reference} (log scale)")
    _mark(figure, ratios)
    return figure


def bias_ladder(
    ladder: pd.DataFrame,
    *,
    truth: Mapping[str, float] | None = None,
    endpoint: str | None = None,
) -> Figure:
    """Draw the bias ladder: every method's estimate with its interval, the naive one on top.

    Parameters
    ----------
    ladder
        What `bayesblina.bias_ladder` gives.
    truth
        Hazard ratio of each endpoint with which the patients were simulated, drawn as a line.
    endpoint
        Endpoint to draw; by default all, side by side.

    Returns
    -------
    matplotlib.figure.Figure
        The figure; nothing is shown or saved. Estimates that do not exist are named as such.
    """
    names = list(ladder["endpoint"].unique()) if endpoint is None else [endpoint]
    methods = list(ladder["method"].unique())
    figure = Figure(
        figsize=(1.8 + 4.2 * len(names), 1.4 + 0.42 * len(methods)), layout="constrained"
    )
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True, sharex=True)[0]
    for axis, name in zip(axes, names, strict=True):
        rows = ladder[ladder["endpoint"] == name]
        for row in rows.to_dict("records"):
            height = methods.index(row["method"])
            biased = str(row["note"]).startswith("biased")
            colour = COLOURS[1] if biased else COLOURS[0]
            if not np.isfinite(row["estimate"]):
                axis.annotate(
                    "no finite estimate",
                    (0.5, height),
                    xycoords=("axes fraction", "data"),
                    ha="center",
                    va="center",
                    fontsize="x-small",
                )
                continue
            axis.plot([row["lower"], row["upper"]], [height, height], color=colour)
            axis.plot(
                row["estimate"], height, color=colour, marker="X" if biased else "o", linestyle=""
            )
        axis.axvline(1.0, color="0.7", linewidth=0.8)
        if truth is not None:
            axis.axvline(truth[name], color=COLOURS[2], linestyle="--", label="simulated truth")
        axis.set(xscale="log", title=str(name).upper(), xlabel="hazard ratio (log scale)")
        axis.spines[["top", "right"]].set_visible(False)
    low, high = axes[0].get_xlim()
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5) if low <= tick <= high]
    axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for axis in axes:
        axis.minorticks_off()
    labels = [
        f"{method} (biased)"
        if ladder.loc[ladder["method"] == method, "note"].str.startswith("biased").any()
        else method
        for method in methods
    ]
    axes[0].set_yticks(range(len(methods)), labels)
    axes[0].set_ylim(len(methods) - 0.5, -0.5)
    if truth is not None:
        axes[-1].legend(frameon=False, fontsize="small", loc="best")
    _say(
        figure,
        synthetic=bool(ladder.attrs.get("synthetic")),
        converged=not ladder["note"].eq("NOT CONVERGED").any(),
    )
    return figure


def replicated_events(events: xr.Dataset) -> Figure:
    """Draw observed events over those that the model expects, by interval and phase.

    Parameters
    ----------
    events
        What `bayesblina.replicated_events` gives.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint and phase: the central 95 % of the replicated events, their median,
        and the observed number; cells with a p-value below 0.025 or above 0.975 are marked.
    """
    names, phases = (list(events[dim].values) for dim in ("endpoint", "phase"))
    figure = Figure(figsize=(1.2 + 3.4 * len(phases), 0.8 + 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(phases), squeeze=False, sharex=True)
    number = np.arange(events.sizes["interval"])
    for row, name in zip(axes, names, strict=True):
        for axis, phase in zip(row, phases, strict=True):
            one = events.sel(endpoint=name, phase=phase)
            low, middle, high = (
                one["replicated"].quantile([0.025, 0.5, 0.975], ("chain", "draw")).values
            )
            axis.vlines(number, low, high, color=COLOURS[0], alpha=0.4, linewidth=5)
            axis.plot(number, middle, "_", color=COLOURS[0], label="replicated, 95 %")
            surprising = (one["p_value"].values < 0.025) | (one["p_value"].values > 0.975)
            observed = one["observed"].values
            axis.plot(number, observed, "o", color="0.1", markersize=4, label="observed")
            axis.plot(
                number[surprising],
                observed[surprising],
                "o",
                color=COLOURS[1],
                markersize=9,
                fillstyle="none",
                label="_surprising",
            )
            axis.set_title(f"{str(name).upper()}, {phase}", fontsize="medium", loc="left")
            axis.spines[["top", "right"]].set_visible(False)
            axis.yaxis.get_major_locator().set_params(integer=True)
    starts = events["interval_start"].values
    shown = number[:: max(1, number.size // 6)]
    for axis in axes[-1]:
        axis.set_xticks(shown, [f"{starts[index]:.3g}" for index in shown])
        axis.set_xlabel("start of the interval")
    for axis in axes[:, 0]:
        axis.set_ylabel("events")
    axes[0, 0].legend(frameon=False, fontsize="small")
    _mark(figure, events)
    return figure


def replicated_simon_makuch(
    replicated: xr.Dataset, observed: pd.DataFrame, *, mass: float = 0.95
) -> Figure:
    """Draw the observed Simon-Makuch curves over replicated ones.

    Parameters
    ----------
    replicated
        What `bayesblina.replicated_simon_makuch` gives.
    observed
        What `bayesblina.simon_makuch` gives, from the same landmark.
    mass
        Probability of the band of the replicates.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint and group.
    """
    names, groups = (list(replicated[dim].values) for dim in ("endpoint", "group"))
    figure = Figure(figsize=(1.0 + 3.8 * len(groups), 0.8 + 2.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(groups), squeeze=False, sharex=True, sharey=True)
    time = replicated["time"].values
    tail = (1.0 - mass) / 2.0
    for row, name in zip(axes, names, strict=True):
        for axis, group, colour in zip(row, groups, COLOURS, strict=False):
            values = replicated["survival"].sel(endpoint=name, group=group).values
            inside = np.isfinite(values).all(axis=0)
            lower, upper = np.quantile(values[:, inside], [tail, 1.0 - tail], axis=0)
            axis.plot(time[inside], values[:30, inside].T, color=colour, alpha=0.15, linewidth=0.6)
            axis.fill_between(
                time[inside], lower, upper, color=colour, alpha=0.2, linewidth=0, label="replicated"
            )
            one = observed[(observed["endpoint"] == name) & (observed["group"] == group)]
            axis.step(one["time"], one["survival"], where="post", color="0.1", label="observed")
            axis.set_title(f"{str(name).upper()}, {group}", fontsize="medium", loc="left")
            axis.set_ylim(0, 1.02)
            axis.spines[["top", "right"]].set_visible(False)
            axis.legend(frameon=False, fontsize="small")
    for axis in axes[-1]:
        axis.set_xlabel(f"{replicated.attrs.get('unit', 'time')} from the origin")
    for axis in axes[:, 0]:
        axis.set_ylabel("survival (Simon-Makuch)")
    _mark(figure, replicated)
    return figure


def calibration(table: pd.DataFrame) -> Figure:
    """Draw observed against predicted survival of groups by risk.

    Parameters
    ----------
    table
        What `bayesblina.calibration` gives.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per endpoint, one colour per time, with both intervals.
    """
    names, times = table["endpoint"].unique(), table["time"].unique()
    figure = Figure(figsize=(0.6 + 4.0 * len(names), 4.2), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    unit = table.attrs.get("unit", "")
    for axis, name in zip(axes, names, strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        for index, time in enumerate(times):
            colour = COLOURS[index % len(COLOURS)]
            one = table[(table["endpoint"] == name) & (table["time"] == time)]
            axis.hlines(
                one["observed"], one["predicted_lower"], one["predicted_upper"], color=colour
            )
            axis.vlines(
                one["predicted"], one["observed_lower"], one["observed_upper"], color=colour
            )
            axis.plot(
                one["predicted"], one["observed"], "o", color=colour, label=f"{time:g} {unit}"
            )
        axis.set(
            xlim=(0, 1.02), ylim=(0, 1.02), title=str(name).upper(), xlabel="predicted survival"
        )
        axis.set_aspect("equal")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("observed survival (Kaplan-Meier)")
    axes[0].legend(frameon=False, fontsize="small")
    _say(
        figure,
        synthetic=bool(table.attrs.get("synthetic")),
        converged=bool(table.attrs.get("converged", 1)),
    )
    return figure


def prior_predictive(prior: xr.Dataset, *, mass: float = 0.95) -> Figure:
    """Draw what the priors imply: curves in the reference phase, and hazard ratios.

    Parameters
    ----------
    prior
        What `bayesblina.prior_predictive` gives.
    mass
        Probability of the bands.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels per endpoint.
    """
    names = list(prior["endpoint"].values)
    figure = Figure(figsize=(8.0, 0.6 + 2.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    tail = (1.0 - mass) / 2.0
    time = prior["time"].values
    for (left, right), name in zip(axes, names, strict=True):
        values = prior["survival"].sel(endpoint=name).values
        for one_mass, shade in ((mass, 0.15), (0.5, 0.3)):
            edge = (1.0 - one_mass) / 2.0
            lower, upper = np.quantile(values, [edge, 1.0 - edge], axis=0)
            left.fill_between(
                time,
                lower,
                upper,
                color=COLOURS[0],
                alpha=shade,
                linewidth=0,
                label=f"{one_mass:.0%} of the prior",
            )
        left.plot(time, values[:20].T, color=COLOURS[0], alpha=0.4, linewidth=0.6)
        left.set(ylim=(0, 1.02), ylabel="survival", title=f"{str(name).upper()}, prior")
        logs = np.log(prior["hazard_ratio"].sel(endpoint=name).values)
        low, high = np.quantile(logs, [tail, 1.0 - tail])
        right.hist(logs, bins=40, color=COLOURS[0], alpha=0.4)
        ticks = np.log([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
        right.set_xticks(ticks, ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
        right.set(yticks=[], title=f"{mass:.0%} between {np.exp(low):.2g} and {np.exp(high):.2g}")
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize="small")
    axes[-1, 0].set_xlabel(f"{prior.attrs.get('unit', 'time')} from the origin")
    axes[-1, 1].set_xlabel("hazard ratio of the exposed phase (log scale)")
    _mark(figure, prior)
    return figure


def _mark(figure: Figure, dataset: xr.Dataset) -> None:
    """Say in the figure itself what must not be overlooked."""
    _say(
        figure,
        synthetic=bool(dataset.attrs.get("synthetic")),
        converged=bool(dataset.attrs.get("converged", 1)),
    )


def _say(figure: Figure, *, synthetic: bool, converged: bool) -> None:
    words = []
    if synthetic:
        words.append("synthetic patients")
    if not converged:
        words.append("NOT CONVERGED")
    if words:
        figure.suptitle(" - ".join(words), fontsize="small", color="#B00000")


def calibration_ranks(
    counts: Mapping[str, Mapping[str, Sequence[int]]], *, level: float = 0.99, seed: int = 1
) -> Figure:
    """Draw the ranks of a simulation-based calibration: histograms, and distribution functions.

    Parameters
    ----------
    counts
        By model and parameter, how many replications have their rank in each of equally wide
        bins: ``ranks`` of the files that `bayesblina.checks.calibration` writes.
    level
        Probability that all lines of one calibrated model stay within its bands.
    seed
        Seed of the uniform ranks from which the bands are taken.

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
    if not counts or not all(counts.values()):
        raise SpecError("There are no ranks to draw.")
    figure = Figure(figsize=(9.0, 0.6 + 2.0 * len(counts)), layout="constrained")
    axes = figure.subplots(len(counts), 2, squeeze=False)
    for (left, right), (model, ranks) in zip(axes, counts.items(), strict=True):
        lengths = {len(row) for row in ranks.values()}
        totals = {sum(row) for row in ranks.values()}
        if len(lengths) > 1 or len(totals) > 1 or min(lengths) < 2:
            raise SpecError(f"{model}: parameters differ in bins or replications.")
        table = np.array(list(ranks.values()))
        replications, bins = int(table[0].sum()), table.shape[1]
        edges = np.arange(bins + 1) / bins
        tail = (1.0 - level) / len(ranks)
        uniform = np.random.default_rng(seed).multinomial(
            replications, np.full(bins, 1.0 / bins), size=UNIFORM_RANKS
        )
        low, high = _binomial_band(uniform, np.full(bins, 1.0 / bins), replications, tail)
        left.fill_between(edges, *(np.append(end, end[-1]) for end in (low, high)), **_BAND)
        inner = edges[1:-1]
        below = np.cumsum(uniform, axis=1)[:, :-1]
        low, high = _binomial_band(below, inner, replications, tail)
        right.fill_between(inner, low / replications - inner, high / replications - inner, **_BAND)
        for row in table:
            left.stairs(row, edges, color=COLOURS[0], linewidth=0.7, alpha=0.6)
            difference = np.cumsum(row)[:-1] / replications - inner
            right.plot(inner, difference, color=COLOURS[0], linewidth=0.7, alpha=0.6)
        right.axhline(0.0, color="black", linewidth=0.6)
        left.set(title=model, ylabel="replications", xlim=(0, 1), ylim=(0, None))
        title = f"{replications} replications, {len(ranks)} parameters"
        right.set(title=title, ylabel="difference", xlim=(0, 1))
        for axis in (left, right):
            axis.spines[["top", "right"]].set_visible(False)
    axes[-1][0].set_xlabel("rank of the true value")
    axes[-1][1].set_xlabel("rank: distribution function less uniform")
    return figure


def specification_curve(found: Sensitivity, endpoint: str, *, largest: int = 200) -> Figure:
    """Draw the hazard ratio of every scenario, sorted, with the settings below.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.
    largest
        Scenarios above which figures are refused: nobody could read them.

    Returns
    -------
    matplotlib.figure.Figure
        Above, medians with 95 % intervals, the base case marked; below, a dot for each scenario
        in the row of its setting.

    Raises
    ------
    SpecError
        If the endpoint is unknown, no scenario converged, or there are more than `largest`.
    """
    rows = found.of_endpoint(endpoint).sort_values("median", kind="stable").reset_index(drop=True)
    if len(rows) > largest:
        raise SpecError(f"{len(rows)} scenarios are too many to draw: choose rows of the table.")
    settings = [
        (axis, str(value))
        for axis in found.axes
        for value in dict.fromkeys(found.table[axis])
        if (rows[axis] == value).any()
    ]
    place = np.arange(len(rows))
    base = (rows[list(found.axes)] == BASE).all(axis=1).to_numpy()
    height = 3.2 + 0.2 * len(settings)
    figure = Figure(figsize=(min(4.0 + 0.12 * len(rows), 14.0), height), layout="constrained")
    shares = {"height_ratios": [3.0, max(0.2 * len(settings), 0.2)]}
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw=shares)
    for chosen, colour, size in ((~base, COLOURS[0], 3.0), (base, COLOURS[1], 5.0)):
        inside = rows[chosen]
        if inside.empty:
            continue
        ends = [inside["median"] - inside["lower"], inside["upper"] - inside["median"]]
        label = "base case" if colour == COLOURS[1] else None
        top.errorbar(
            place[chosen],
            inside["median"],
            yerr=np.array(ends),
            fmt="o",
            color=colour,
            markersize=size,
            elinewidth=0.8,
            label=label,
        )
    top.axhline(1.0, color="black", linewidth=0.8)
    _ratio_scale(top)
    top.set(ylabel="hazard ratio", title=f"{endpoint.upper()}: {len(rows)} scenarios")
    if base.any():
        top.legend(frameon=False, fontsize="small", loc="upper left")
    for line, (axis, value) in enumerate(settings):
        mine = (rows[axis].astype(str) == value).to_numpy()
        bottom.plot(place[mine], np.full(mine.sum(), line), ".", color="0.25", markersize=4)
    labels = [f"{axis}: {value}" for axis, value in settings]
    bottom.set_yticks(np.arange(len(settings)), labels, fontsize="small")
    bottom.set(ylim=(len(settings) - 0.5, -0.5), xlabel="scenarios, by hazard ratio")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    _say(figure, synthetic=found.synthetic, converged=True)
    return figure


def tornado(found: Sensitivity, endpoint: str) -> Figure:
    """Draw which axis moves the answer most.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        On the left the mean log hazard ratio between the extreme settings of each axis; on the
        right the probability of a hazard ratio below 1. Pairs of axes, where they were combined,
        show what the combination has beyond both.

    Raises
    ------
    SpecError
        If the endpoint is unknown, or nothing was varied.
    """
    effects = found.effects(endpoint)
    if effects.empty:
        raise SpecError("Nothing was varied: there is nothing to compare.")
    paired = effects["axis"].str.contains(" x ", regex=False)
    parts = [one for one in (effects[~paired], effects[paired]) if len(one)]
    figure = Figure(figsize=(11.0, 1.6 + 0.42 * len(effects)), layout="constrained")
    shares = [len(one) + 1.0 for one in parts]
    axes = figure.subplots(len(parts), 2, squeeze=False, gridspec_kw={"height_ratios": shares})
    for (left, right), table in zip(axes, parts, strict=True):
        _bars(left, right, table, pairs=bool(paired.any()) and table is parts[-1])
    if len(parts) == 2 or not paired.any():
        axes[0, 0].set_title(f"{endpoint.upper()}: one axis at a time")
    if paired.any():
        axes[-1, 0].set_title("two axes together, beyond what each does alone")
    _say(figure, synthetic=found.synthetic, converged=True)
    return figure


def _bars(left: Axes, right: Axes, table: pd.DataFrame, *, pairs: bool) -> None:
    """Draw bars from low to high, the longest on top; those of pairs start at 0."""
    for line, row in enumerate(table.to_dict("records")):
        low, high = str(row["low"]), str(row["high"])
        for axis, name in ((left, "log_ratio"), (right, "probability")):
            start = 0.0 if pairs else float(row[f"{name}_low"])
            width = float(row[f"{name}_range"])
            axis.barh(line, width, left=start, color=COLOURS[2 if pairs else 0], alpha=0.6)
            if axis is left and pairs:
                axis.annotate(f" {high}", (max(start, start + width), line), **_BESIDE)
            elif axis is left:
                axis.annotate(f"{low} ", (start, line), **{**_BESIDE, "ha": "right"})
                axis.annotate(f" {high}", (start + width, line), **_BESIDE)
    left.set_yticks(np.arange(len(table)), table["axis"], fontsize="small")
    right.set_yticks([])
    left.set_xlabel("difference of log hazard ratios" if pairs else "mean log hazard ratio")
    right.set_xlabel("difference of P(HR < 1)" if pairs else "P(HR < 1)")
    left.use_sticky_edges = False
    left.margins(x=0.35)
    for axis in (left, right):
        axis.set_ylim(len(table) - 0.5, -0.5)
        axis.spines[["top", "right"]].set_visible(False)


def scenario_map(
    found: Sensitivity, endpoint: str, rows: str, columns: str, *, value: str = "median"
) -> Figure:
    """Draw the answer over two axes as a map.

    Parameters
    ----------
    found
        What `bayesblina.sensitivity` gives.
    endpoint
        Endpoint.
    rows, columns
        Axes; of all others the base case's setting.
    value
        Column of the table that is shown.

    Returns
    -------
    matplotlib.figure.Figure
        One field per combination, with its number; empty where there is none.

    Raises
    ------
    SpecError
        If an axis or the column is unknown, or the axes are the same.
    """
    table = found.of_endpoint(endpoint)
    for name in (rows, columns):
        if name not in found.axes:
            raise SpecError(f"No axis '{name}'. {nearest(name, found.axes)}")
    if rows == columns:
        raise SpecError("Give two different axes.")
    if value not in table.columns:
        raise SpecError(f"No column '{value}'. {nearest(value, [str(c) for c in table.columns])}")
    others = [name for name in found.axes if name not in (rows, columns)]
    inside = table[(table[others] == BASE).all(axis=1)]
    wide = inside.pivot_table(index=rows, columns=columns, values=value, sort=False)
    numbers = wide.to_numpy(float)
    figure = Figure(
        figsize=(2.5 + 1.1 * wide.shape[1], 1.6 + 0.5 * wide.shape[0]), layout="constrained"
    )
    axis = figure.subplots()
    image = axis.imshow(numbers, cmap="cividis", aspect="auto")
    middle = float(np.nanmean([np.nanmin(numbers), np.nanmax(numbers)]))
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            colour = "white" if number < middle else "black"
            axis.text(column, row, f"{number:.2f}", ha="center", va="center", color=colour)
    axis.set_xticks(np.arange(wide.shape[1]), [str(one) for one in wide.columns])
    axis.set_yticks(np.arange(wide.shape[0]), [str(one) for one in wide.index])
    axis.set(xlabel=columns, ylabel=rows, title=f"{endpoint.upper()}: {value}")
    figure.colorbar(image, ax=axis)
    _say(figure, synthetic=found.synthetic, converged=True)
    return figure


def tipping_points(found: xr.Dataset, endpoint: str) -> Figure:
    """Draw what a confounder must be to change the answer.

    Parameters
    ----------
    found
        What `bayesblina.tipping_points` gives.
    endpoint
        Endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        P(HR < 1) without the confounder, by its prevalence among the unexposed and its hazard
        ratio; lines at 0.5, 0.8, 0.95 and 0.975.
    """
    one = found.sel(endpoint=endpoint)["probability_below_1"].transpose("ratio", "prevalence")
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axis = figure.subplots()
    across, up = one["prevalence"].values, one["ratio"].values
    shown = axis.pcolormesh(across, up, one.values, cmap="cividis", vmin=0, vmax=1)
    if min(one.shape) > 1:
        levels = [0.5, 0.8, 0.95, 0.975]
        lines = axis.contour(across, up, one.values, levels, colors="white")
        axis.clabel(lines, fontsize="small")
    among = float(found.attrs["prevalence_exposed"])
    axis.set_xlabel(f"prevalence among the unexposed (among the exposed: {among:g})")
    axis.set_ylabel("hazard ratio of the confounder")
    axis.set_title(f"{endpoint.upper()}: P(HR < 1) without it")
    figure.colorbar(shown, ax=axis)
    _mark(figure, found)
    return figure


def balance(table: pd.DataFrame) -> Figure:
    """Draw how alike those who start and those who could have are, before and after weighting.

    Parameters
    ----------
    table
        ``balance`` of what `bayesblina.starting_weights` gives.

    Returns
    -------
    matplotlib.figure.Figure
        A love plot: standardised mean differences, with lines at 0.1.
    """
    figure = Figure(figsize=(6.4, 1.4 + 0.35 * len(table)), layout="constrained")
    axis = figure.subplots()
    place = np.arange(len(table))
    for column, colour, marker in (("unweighted", COLOURS[1], "o"), ("weighted", COLOURS[0], "s")):
        axis.plot(table[column], place, marker, color=colour, label=column)
    for one in (-0.1, 0.1):
        axis.axvline(one, color="0.6", linewidth=0.8, linestyle="--")
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_yticks(place, table["covariate"])
    axis.set(
        xlabel="standardised mean difference, starting less at risk", ylim=(len(table) - 0.5, -0.5)
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="small")
    return figure


def sceptical_priors(table: pd.DataFrame, endpoint: str) -> Figure:
    """Draw how the conclusion depends on how sceptical the prior is.

    Parameters
    ----------
    table
        What `bayesblina.sceptical_priors` gives.
    endpoint
        Endpoint.

    Returns
    -------
    matplotlib.figure.Figure
        P(HR < 1) against the upper end of the prior's 95 % interval; hollow where the weights are
        not to be relied on.
    """
    rows = table[table["endpoint"] == endpoint].sort_values("prior_upper")
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.plot(rows["prior_upper"], rows["probability_below_1"], color=COLOURS[0], linewidth=1)
    good = (rows["pareto_k"] <= 0.7).to_numpy()
    for chosen, face in ((good, COLOURS[0]), (~good, "white")):
        axis.plot(
            rows["prior_upper"][chosen],
            rows["probability_below_1"][chosen],
            "o",
            color=COLOURS[0],
            markerfacecolor=face,
        )
    for one in (0.95, 0.975):
        axis.axhline(one, color="0.6", linewidth=0.8, linestyle="--")
    axis.set_xscale("log")
    ticks: list[float] = []
    for one in rows["prior_upper"]:
        # Labels of neighbours would overlap.
        if not ticks or one / ticks[-1] > 1.17:
            ticks.append(float(one))
    axis.set_xticks(
        ticks, [f"{1 / one:.2g} to {one:.3g}" for one in ticks], rotation=45, ha="right"
    )
    axis.minorticks_off()
    axis.set(
        xlabel="95 % of the prior of the hazard ratio", ylabel="P(HR < 1)", title=endpoint.upper()
    )
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _ratio_scale(axis: Axes) -> None:
    """Put ratios on a logarithmic vertical axis with readable ticks."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    ticks = [one for one in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low <= one <= high]
    axis.set_yticks(ticks, [f"{one:g}" for one in ticks])
    axis.minorticks_off()


def _binomial_band(
    simulated: NDArray[np.int64], probability: Floats, size: int, tail: float
) -> tuple[Floats, Floats]:
    """Binomial quantiles that hold all places of a row together but for the tail probability."""
    from scipy.stats import binom

    one = np.minimum(
        binom.cdf(simulated, size, probability), binom.sf(simulated - 1, size, probability)
    ).min(axis=1)
    place = float(np.quantile(one, tail))
    low, high = binom.ppf(place, size, probability), binom.isf(place, size, probability)
    return np.asarray(low), np.asarray(high)
