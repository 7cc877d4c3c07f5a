"""Draws to tidy tables, with Monte-Carlo errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.errors import SpecError, require_kind, tail_of
from bayesblina.core.tables.numbers import BASELINE, EVENT_TIMES, FAILED
from bayesblina.inference.convergence import (
    ess_bulk,
    ess_mean,
    ess_tail,
    mcse_mean,
    mcse_median,
    rhat,
)

# Coordinates of estimates that stand beside each.
BESIDE_NUMBERS = (
    # Of hazard ratios by step: where it begins.
    "begins",
    "direction",
    "companion_median",
    "companion_lower",
    "companion_upper",
    "companion_probability_below_1",
    BASELINE,
    "baseline_shift",
    EVENT_TIMES,
    # Beside curves: whether anybody is at risk there.
    "supported",
)


def summary(
    draws: xr.Dataset, *, mass: float = 0.95, thresholds: Sequence[float] = (1.0,)
) -> pd.DataFrame:
    """Summarise draws: one row per quantity.

    Parameters
    ----------
    draws
        Dataset of one variable over (chain, draw, ...), as the estimand functions give; or of
        ``quantile`` and ``reached``.
    mass
        Probability of the central (equal-tailed) interval.
    thresholds
        For hazard ratios: report the posterior probability of lying below each.

    Returns
    -------
    pandas.DataFrame
        The variable's coordinates, then ``mean``, ``median``, ``sd``, ``lower``, ``upper``,
        ``probability_below_<threshold>`` (hazard ratios only), ``mcse`` (of the mean),
        ``ess_bulk``, ``ess_tail``, ``r_hat``; for hazard ratios what stands beside each
        (`bayesblina.hazard_ratio`): ``companion_median``, ``companion_lower``, ``companion_upper``
        (95 %), ``companion_probability_below_1``, ``baseline``, ``baseline_shift``,
        ``event_times``; by step ``begins``; for curves ``supported``; and ``converged``. A quantity
        that is the same in every draw has ``sd`` and ``mcse`` 0, all draws as its effective sample
        size, and R-hat 1.
        Its attributes ``synthetic`` and ``unit`` are those of the draws, where they have any.

        For times that some draws do not reach by the horizon there is no mean: the columns are
        ``median``, ``lower``, ``upper`` (infinite where not reached by the horizon, which is an
        attribute), ``probability_reached``, and the diagnostics of the time up to the horizon, with
        ``mcse`` that of the median (missing where that is not reached).

    Raises
    ------
    SpecError
        If the dataset does not hold one variable over chains and draws, or `mass` is impossible.

    Examples
    --------
    >>> draws = xr.Dataset(
    ...     {
    ...         "hazard_ratio": (
    ...             ("chain", "draw"),
    ...             np.exp(np.random.default_rng(1).normal(size=(4, 500))),
    ...         )
    ...     }
    ... )
    >>> float(summary(draws)["probability_below_1"].iloc[0].round(1))
    0.5
    """
    require_kind(draws, xr.Dataset, "draws")
    name, values, reached = _one_variable(draws)
    tail = tail_of(mass)
    if reached is not None:
        # Between a time and infinity nothing can be interpolated: up to the horizon it can.
        values = values.where(reached, float(draws.attrs["horizon"]))
    over = ("chain", "draw")
    count = values.sizes["chain"] * values.sizes["draw"]
    constant = values.max(over) == values.min(over)
    columns: dict[str, xr.DataArray] = {
        "mean": values.mean(over),
        "median": values.median(over),
        "sd": values.std(over, ddof=1).where(~constant, 0.0),
        "lower": values.quantile(tail, over).drop_vars("quantile"),
        "upper": values.quantile(1.0 - tail, over).drop_vars("quantile"),
    }
    if name == "hazard_ratio":
        columns |= {
            f"probability_below_{threshold:g}": (values < threshold).mean(over)
            for threshold in thresholds
        }
    if reached is not None:
        del columns["mean"], columns["sd"]
        share = reached.mean(over)
        for column, part in (("median", 0.5), ("lower", tail), ("upper", 1.0 - tail)):
            columns[column] = columns[column].where(share > part, np.inf)
        columns["probability_reached"] = share
    # A constant has no Monte-Carlo error; the diagnostics would divide 0 by 0.
    safe = values.where(~constant, _noise(values))
    columns |= {
        "mcse": _each(mcse_mean if reached is None else mcse_median, safe).where(~constant, 0.0),
        "ess_bulk": _each(ess_bulk, safe).where(~constant, float(count)),
        "ess_tail": _each(ess_tail, safe).where(~constant, float(count)),
        "r_hat": _each(rhat, safe).where(~constant, 1.0),
    }
    if reached is not None:
        columns["mcse"] = columns["mcse"].where(np.isfinite(columns["median"]))
    columns |= {name: values[name] for name in BESIDE_NUMBERS if name in values.coords}
    table = _complete(_tabulate(columns), draws)
    if reached is not None:
        table.attrs["horizon"] = float(draws.attrs["horizon"])
    return table


def probabilities(
    draws: xr.Dataset,
    *,
    thresholds: Sequence[float] = (),
    equivalence: tuple[float, float] | None = None,
) -> pd.DataFrame:
    """Posterior probabilities of statements about an estimate.

    Parameters
    ----------
    draws
        Dataset of one variable over (chain, draw, ...), as the estimand functions give; or of
        ``quantile`` and ``reached``, of which limits up to the horizon can be asked.
    thresholds
        Report the probability of lying below each.
    equivalence
        Region of practical equivalence: report the probabilities of lying below, within (its ends
        included) and above it.

    Returns
    -------
    pandas.DataFrame
        One row per quantity and statement: the variable's coordinates, ``statement`` (such as
        ``"hazard_ratio < 0.8"``), ``probability``, ``mcse`` (from the effective sample size of
        the statement's own draws; 0 where all or none agree) and ``converged``.

    Raises
    ------
    SpecError
        If the dataset does not hold one variable over chains and draws, nothing is asked, or the
        region's ends are not in order.

    Notes
    -----
    Region of practical equivalence: Kruschke (2018), doi:10.1177/2515245918771304.

    Examples
    --------
    >>> draws = xr.Dataset(
    ...     {
    ...         "rmst_difference": (
    ...             ("chain", "draw"),
    ...             np.random.default_rng(1).normal(1.0, 1.0, size=(4, 500)),
    ...         )
    ...     }
    ... )
    >>> table = probabilities(draws, thresholds=[0.0], equivalence=(-0.5, 0.5))
    >>> table["statement"].iloc[2]
    '-0.5 <= rmst_difference <= 0.5'
    """
    require_kind(draws, xr.Dataset, "draws")
    name, values, reached = _one_variable(draws)
    limits = [*thresholds, *(equivalence or ())]
    if reached is not None and not bool(reached.all()):
        horizon = float(draws.attrs["horizon"])
        if any(limit > horizon for limit in limits):
            raise SpecError(
                f"Some draws do not reach the quantile by {horizon:g}: statements on later times "
                "are not known."
            )
        # It lies beyond the horizon, and so beyond every limit.
        values = values.where(reached, np.inf)
    statements = [(f"{name} < {threshold:g}", values < threshold) for threshold in thresholds]
    if equivalence is not None:
        low, high = equivalence
        if not low < high:
            raise SpecError(f"equivalence must be (lower, upper) in order, got {equivalence!r}.")
        statements += [
            (f"{name} < {low:g}", values < low),
            (f"{low:g} <= {name} <= {high:g}", (values >= low) & (values <= high)),
            (f"{name} > {high:g}", values > high),
        ]
    if not statements:
        raise SpecError("Ask for thresholds, an equivalence region, or both.")
    if bool(np.isnan(values.values).any()):
        raise SpecError(f"'{name}' is missing in some draws: no statement holds or fails there.")
    tables = []
    for statement, holds in statements:
        share = holds.mean(("chain", "draw"))
        certain = (share == 0) | (share == 1)
        safe = holds.astype(float).where(~certain, _noise(values))
        error = (share * (1 - share) / _each(ess_mean, safe)) ** 0.5
        columns = {"probability": share, "mcse": error.where(~certain, 0.0)}
        tables.append(_tabulate(columns).assign(statement=statement))
    table = pd.concat(tables, ignore_index=True)
    dims = [str(dim) for dim in values.dims if dim not in ("chain", "draw")]
    table = table[[*dims, "statement", "probability", "mcse"]]
    if dims:
        table = table.sort_values(
            dims,
            kind="stable",
            key=lambda column: pd.Series(pd.factorize(column)[0], index=column.index),
        ).reset_index(drop=True)
    return _complete(table, draws)


def prior_table(prior: xr.Dataset, *, mass: float = 0.95) -> pd.DataFrame:
    """Summarise what priors imply, before any data.

    Result: ``endpoint``, ``quantity``, ``lower``, ``median`` and ``upper``: the exposed phase's
    hazard ratio in the first interval; that in the last against the first; where the baseline is
    drawn from its prior, its hazard in the last interval against the first; and survival at a
    quarter, half and the whole of the times in each phase, and its difference in the end. Their
    model, unit and whether the patients are synthetic are attributes.
    """
    tail = tail_of(mass)
    tables = []
    for name in map(str, prior["endpoint"].values):
        implied = prior.sel(endpoint=name)
        ratio, hazard = implied["hazard_ratio"].values, implied["hazard"].values
        quantities = {
            "hazard ratio of the exposed phase": ratio[:, 0],
            "hazard ratio, end against beginning": ratio[:, -1] / ratio[:, 0],
        }
        if prior.attrs["baseline"] == "prior":
            quantities["hazard, end against beginning"] = hazard[:, -1] / hazard[:, 0]
        times, phases = implied["time"].values, [str(value) for value in implied["phase"].values]
        last = times.size - 1
        # (draw, phase, time)
        survival = implied["survival"].transpose("draw", "phase", "time").values
        quantities |= {
            f"survival at {float(times[at]):.3g}, {phase}": survival[:, index, at]
            for at in (last // 4, last // 2, last)
            for index, phase in enumerate(phases)
        }
        gain = f"survival at {float(times[last]):.3g}, {' less '.join(phases[::-1])}"
        quantities[gain] = survival[:, 1, last] - survival[:, 0, last]
        bands = np.quantile(list(quantities.values()), [tail, 0.5, 1.0 - tail], axis=1)
        table = pd.DataFrame({"endpoint": name, "quantity": list(quantities)})
        tables.append(table.assign(lower=bands[0], median=bands[1], upper=bands[2]))
    table = pd.concat(tables, ignore_index=True)
    table.attrs |= prior.attrs
    return table


def _complete(table: pd.DataFrame, draws: xr.Dataset) -> pd.DataFrame:
    """Say beside numbers, and in attributes, what tables for print and figures need."""
    if "converged" in draws.attrs:
        table["converged"] = bool(draws.attrs["converged"])
    for name, kind in (("synthetic", bool), ("unit", str)):
        if name in draws.attrs:
            table.attrs[name] = kind(draws.attrs[name])
    table.attrs |= {
        name: FAILED for name in (BASELINE, EVENT_TIMES) if draws.attrs.get(name) == FAILED
    }
    return table


def _one_variable(draws: xr.Dataset) -> tuple[str, xr.DataArray, xr.DataArray | None]:
    """Take the one variable, its name, and where its times are reached, if they may not be."""
    reached = draws.get("reached")
    names = [str(name) for name in draws.data_vars if name != "reached"]
    if len(names) != 1:
        raise SpecError(f"Expected one variable, got {names}.")
    (name,) = names
    if not {"chain", "draw"} <= set(draws[name].dims):
        raise SpecError(f"'{name}' has no chain and draw dimensions.")
    return name, draws[name], reached


def _each(function: Callable[[Any], Any], values: xr.DataArray) -> xr.DataArray:
    """Apply a function of (chain, draw, parameter) to draws of any shape."""
    ordered = values.transpose("chain", "draw", ...)
    like = ordered.isel(chain=0, draw=0, drop=True)
    flat = np.asarray(ordered.values, dtype=np.float64).reshape(*ordered.shape[:2], -1)
    return like.copy(data=function(flat).reshape(like.shape))


def _noise(values: xr.DataArray) -> xr.DataArray:
    """Stand in for a constant, whose diagnostics would divide 0 by 0."""
    return xr.zeros_like(values, dtype=np.float64) + xr.DataArray(
        np.random.default_rng(0).normal(size=(values.sizes["chain"], values.sizes["draw"])),
        dims=("chain", "draw"),
    )


def _tabulate(columns: dict[str, xr.DataArray]) -> pd.DataFrame:
    first = next(iter(columns.values()))
    if not first.dims:
        return pd.DataFrame(
            {
                key: [value.item() if value.dtype.kind in "OU" else float(value)]
                for key, value in columns.items()
            }
        )
    bare = {
        key: value.drop_vars([str(name) for name in value.coords if name not in value.dims])
        for key, value in columns.items()
    }
    return xr.Dataset(bare).to_dataframe().reset_index()[[*map(str, first.dims), *columns]]
