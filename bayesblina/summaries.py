"""Draws to tidy tables, with Monte-Carlo errors."""

from __future__ import annotations

from collections.abc import Sequence

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.errors import SpecError


def summarise(
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
        ``ess_bulk``, ``ess_tail``, ``r_hat``, ``converged``. A quantity that is the same in every
        draw has ``sd`` and ``mcse`` 0, all draws as its effective sample size, and R-hat 1.

        For times that some draws do not reach by the horizon there is no mean: the columns are
        ``median``, ``lower``, ``upper``, each with ``<column>_reached`` (False: it lies beyond the
        horizon, which stands in its place), ``probability_reached``, and the diagnostics of the
        time up to the horizon, with ``mcse`` that of the median.

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
    >>> float(summarise(draws)["probability_below_1"].iloc[0].round(1))
    0.5
    """
    reached = draws.get("reached")
    if reached is not None:
        draws = draws.drop_vars("reached")
    if len(draws.data_vars) != 1:
        raise SpecError(f"Expected one variable, got {list(draws.data_vars)}.")
    if not 0 < mass < 1:
        raise SpecError(f"mass must lie between 0 and 1, got {mass!r}.")
    name = str(next(iter(draws.data_vars)))
    values = draws[name]
    if not {"chain", "draw"} <= set(values.dims):
        raise SpecError(f"'{name}' has no chain and draw dimensions.")
    over = ("chain", "draw")
    tail = (1.0 - mass) / 2.0
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
        for threshold in thresholds:
            columns[f"probability_below_{threshold:g}"] = (values < threshold).mean(over)
    if reached is not None:
        del columns["mean"], columns["sd"]
        share = reached.mean(over)
        for column, part in (("median", 0.5), ("lower", tail), ("upper", 1.0 - tail)):
            columns[f"{column}_reached"] = share > part
        columns["probability_reached"] = share
    # A constant has no Monte-Carlo error; the diagnostics would divide 0 by 0.
    noise = xr.zeros_like(values) + xr.DataArray(
        np.random.default_rng(0).normal(size=(values.sizes["chain"], values.sizes["draw"])),
        dims=over,
    )
    safe = values.where(~constant, noise)
    columns |= {
        "mcse": az.mcse(safe, method="mean" if reached is None else "median").where(~constant, 0.0),
        "ess_bulk": az.ess(safe, method="bulk").where(~constant, float(count)),
        "ess_tail": az.ess(safe, method="tail").where(~constant, float(count)),
        "r_hat": az.rhat(safe).where(~constant, 1.0),
    }
    if not columns["median"].dims:
        table = pd.DataFrame({key: [float(value)] for key, value in columns.items()})
    else:
        table = xr.Dataset(columns).to_dataframe().reset_index()
        table = table[[*map(str, columns["median"].dims), *columns]]
    if "converged" in draws.attrs:
        table["converged"] = bool(draws.attrs["converged"])
    return table
