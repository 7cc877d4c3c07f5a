"""The convergence gate: what draws must pass before anything is read off them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core import tables
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
    posterior = draws["posterior"].to_dataset()
    names: list[str] = []
    parts = []
    for name, values in posterior.data_vars.items():
        whole = values.transpose("chain", "draw", ...)
        names.extend(_labels(str(name), whole[0, 0]))
        parts.append(whole.values.reshape(*whole.shape[:2], -1))
    together = np.concatenate(parts, axis=2)
    table = pd.DataFrame(
        {
            "parameter": names,
            "r_hat": rhat(together),
            "ess_bulk": ess_bulk(together),
            "ess_tail": ess_tail(together),
        }
    )
    stats = draws["sample_stats"].to_dataset()
    divergences = int(stats["diverging"].sum())
    energy = stats["energy"].values
    bfmi = float(np.min(np.square(np.diff(energy, axis=1)).mean(1) / np.var(energy, axis=1)))
    worst = {
        "largest R-hat": (float(table["r_hat"].max(skipna=False)), f"< {R_HAT}"),
        "smallest bulk ESS": (float(table["ess_bulk"].min(skipna=False)), f"> {ESS:g}"),
        "smallest tail ESS": (float(table["ess_tail"].min(skipna=False)), f"> {ESS:g}"),
        "divergences": (float(divergences), "0"),
        "smallest BFMI": (bfmi, f"> {BFMI}"),
    }
    limits = (
        worst["largest R-hat"][0] < R_HAT,
        worst["smallest bulk ESS"][0] > ESS,
        worst["smallest tail ESS"][0] > ESS,
        divergences == 0,
        bfmi > BFMI,
    )
    criteria = pd.DataFrame(
        {
            "criterion": list(worst),
            "value": [value for value, _ in worst.values()],
            "limit": [limit for _, limit in worst.values()],
            "passed": list(limits),
        }
    )
    return Convergence(table=table, criteria=criteria)


def assess_weights(posterior: xr.Dataset, weights: pd.DataFrame) -> Convergence:
    """Hold independent draws from weighted proposals against their own criteria.

    Parameters
    ----------
    posterior
        Draws of log hazard ratios.
    weights : pandas.DataFrame
        One row per endpoint: ``endpoint``, ``method``, ``pareto_k``, ``effective_draws``, as in
        the table of a companion.
    """
    names: list[str] = []
    parts, shapes = [], []
    by_endpoint = dict(zip(weights["endpoint"], weights["pareto_k"], strict=True))
    for name, values in posterior.data_vars.items():
        whole = values.transpose("chain", "draw", "endpoint", ...)
        names.extend(_labels(str(name), whole[0, 0]))
        parts.append(whole.values.reshape(*whole.shape[:2], -1))
        each = parts[-1].shape[2] // whole.sizes["endpoint"]
        shapes += [by_endpoint[one] for one in whole["endpoint"].values for _ in range(each)]
    together = np.concatenate(parts, axis=2)
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
    criteria = pd.DataFrame(
        {
            "criterion": ["largest Pareto k", "smallest effective number of draws"],
            "value": [largest, effective],
            "limit": [f"< {PARETO_K}", f"> {ESS:g}"],
            "passed": [largest < PARETO_K, effective > ESS],
        }
    )
    return Convergence(table=table, criteria=criteria)


def _labels(name: str, values: xr.DataArray) -> list[str]:
    if not values.dims:
        return [name]
    parts = [[str(label) for label in values[dim].values] for dim in values.dims]
    index = pd.MultiIndex.from_product(parts)
    return [f"{name}[{', '.join(labels)}]" for labels in index]
