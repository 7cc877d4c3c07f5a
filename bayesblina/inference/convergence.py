"""The convergence gate: what draws must pass before anything is read off them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core import tables
from bayesblina.core.arrays import Floats
from bayesblina.inference.mixing import ess_bulk, ess_tail, rhat

R_HAT = 1.01
ESS = 400.0
BFMI = 0.3
PARETO_K = 0.7
# Criteria that few draws fail, however well they are drawn.
OF_SIZE = (
    "largest R-hat",
    "smallest bulk ESS",
    "smallest tail ESS",
    "smallest effective number of draws",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convergence:
    """Outcome of the convergence gate.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per parameter: ``parameter``, ``r_hat``, ``ess_bulk``, ``ess_tail``; of draws by
        importance sampling also ``pareto_k``.
    criteria : pandas.DataFrame
        One row per criterion: ``criterion``, ``value``, ``limit``, ``passed``.

    Notes
    -----
    Rank-normalised R-hat and effective sample sizes after Vehtari et al. (2021),
    doi:10.1214/20-BA1221; BFMI after Betancourt (2016), arXiv:1604.00695.
    """

    table: pd.DataFrame
    criteria: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether every criterion is met."""
        return bool(self.criteria["passed"].all())

    def failures(self) -> list[str]:
        """Word the criteria that are not met."""
        failed = self.criteria[~self.criteria["passed"]]
        return [
            f"{row.criterion} is {row.value:.4g} (must be {row.limit})"
            for row in failed.itertuples()
        ]

    @property
    def sampled_well(self) -> bool:
        """Whether all criteria but those that hang on the number of draws are passed."""
        of_size = self.criteria["criterion"].isin(OF_SIZE)
        return bool(self.criteria.loc[~of_size, "passed"].all())

    def __repr__(self) -> str:
        """Show the outcome, and what failed."""
        if self.passed:
            return f"Convergence(passed; {len(self.table)} parameters)"
        return f"Convergence(NOT CONVERGED; {'; '.join(self.failures())})"

    def _repr_html_(self) -> str:
        title = "Convergence: passed" if self.passed else "NOT CONVERGED"
        return tables.convergence(self.criteria, title=title).to_html()


def assess_convergence(draws: xr.DataTree) -> Convergence:
    """Hold draws against the convergence gate.

    Every parameter's diagnostics and every criterion's outcome. A diagnostic that cannot be
    computed fails its criterion.
    """
    names, together = _flat(draws["posterior"].to_dataset(), "chain", "draw")
    table = pd.DataFrame(
        {
            "parameter": names,
            "r_hat": rhat(together),
            "ess_bulk": ess_bulk(together),
            "ess_tail": ess_tail(together),
        }
    )
    stats = draws["sample_stats"].to_dataset()
    divergences = float(stats["diverging"].sum())
    energy = stats["energy"].values
    bfmi = float(np.min(np.square(np.diff(energy, axis=1)).mean(1) / np.var(energy, axis=1)))
    r_hat = float(table["r_hat"].max(skipna=False))
    bulk, tail = (float(table[name].min(skipna=False)) for name in ("ess_bulk", "ess_tail"))
    return Convergence(
        table=table,
        criteria=_criteria(
            ("largest R-hat", r_hat, f"< {R_HAT}", r_hat < R_HAT),
            ("smallest bulk ESS", bulk, f"> {ESS:g}", bulk > ESS),
            ("smallest tail ESS", tail, f"> {ESS:g}", tail > ESS),
            ("divergences", divergences, "0", divergences == 0.0),
            ("smallest BFMI", bfmi, f"> {BFMI}", bfmi > BFMI),
        ),
    )


def _criteria(*rows: tuple[str, float, str, bool]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["criterion", "value", "limit", "passed"])


def assess_weights(posterior: xr.Dataset, weights: pd.DataFrame) -> Convergence:
    """Hold independent draws from weighted proposals against their own criteria.

    `weights`: one row per endpoint: ``endpoint``, ``method``, ``pareto_k``, ``effective_draws``, as
    in the table of a companion.
    """
    names, together = _flat(posterior, "chain", "draw", "endpoint")
    by_endpoint = dict(zip(weights["endpoint"], weights["pareto_k"], strict=True))
    shapes = [
        by_endpoint[endpoint]
        for values in posterior.data_vars.values()
        for endpoint in values["endpoint"].values
        for _ in range(values.isel(chain=0, draw=0, endpoint=0).size)
    ]
    table = pd.DataFrame(
        {
            "parameter": names,
            "r_hat": np.nan,
            "ess_bulk": ess_bulk(together),
            "ess_tail": ess_tail(together),
            "pareto_k": shapes,
        }
    )
    # Draws of Hamiltonian Monte Carlo have no weights.
    weighed = weights.loc[weights["method"] == "importance", "pareto_k"]
    largest = float(weighed.max()) if len(weighed) else float("-inf")
    effective = float(weights["effective_draws"].min())
    return Convergence(
        table=table,
        criteria=_criteria(
            ("largest Pareto k", largest, f"< {PARETO_K}", largest < PARETO_K),
            ("smallest effective number of draws", effective, f"> {ESS:g}", effective > ESS),
        ),
    )


def _flat(posterior: xr.Dataset, *first: str) -> tuple[list[str], Floats]:
    """Name all parameters, and lay their draws out as (chain, draw, parameter)."""
    names: list[str] = []
    parts = []
    for name, values in posterior.data_vars.items():
        ordered = values.transpose(*first, ...)
        names += _labels(str(name), ordered[0, 0])
        parts.append(ordered.values.reshape(*ordered.shape[:2], -1))
    return names, np.concatenate(parts, axis=2)


def _labels(name: str, values: xr.DataArray) -> list[str]:
    if not values.dims:
        return [name]
    parts = [[str(label) for label in values[dim].values] for dim in values.dims]
    index = pd.MultiIndex.from_product(parts)
    return [f"{name}[{', '.join(labels)}]" for labels in index]
