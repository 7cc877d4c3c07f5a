"""Can the fit be believed: convergence, leave-one-patient-out prediction, events by interval."""

from __future__ import annotations

from dataclasses import dataclass

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.convergence import Convergence
from bayesblina.fitting import Fit
from bayesblina.hazards.likelihood import patient_log_likelihood
from bayesblina.predictive import replicated_events
from bayesblina.tables import Kind
from bayesblina.tables import build as tables

ALL_ENDPOINTS = "all endpoints"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checks:
    """What was checked, and how it came out.

    Attributes
    ----------
    convergence
        The convergence gate.
    loo : pandas.DataFrame
        Leave-one-patient-out cross-validation by PSIS, one row per endpoint and one for all
        together: ``endpoint``, ``patients``, ``elpd``, ``se``, ``p_loo``, ``largest_pareto_k``,
        ``patients_above_limit`` (whose Pareto k exceeds ``pareto_k_limit``), ``reliable``. Empty
        when the fit kept no log-likelihood.
    predictive : pandas.DataFrame
        Events by endpoint and interval: ``endpoint``, ``interval_start``, ``interval_stop``,
        ``observed``, ``expected`` (posterior mean) and ``p_value``, the posterior predictive
        probability of more events than observed (half that of as many added).
    notes
        What was not checked, and why.
    """

    convergence: Convergence
    loo: pd.DataFrame
    predictive: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the draws converged and every LOO estimate is reliable."""
        return self.convergence.passed and bool(self.loo["reliable"].all())

    def __repr__(self) -> str:
        """Show the outcome."""
        state = "converged" if self.convergence.passed else "NOT CONVERGED"
        reliable = int(self.loo["reliable"].sum())
        notes = f"; {len(self.notes)} notes" if self.notes else ""
        return f"Checks({state}; {reliable} of {len(self.loo)} LOO estimates reliable{notes})"

    def _repr_html_(self) -> str:
        kinds: dict[str, Kind] = {"p_value": "probability"}
        parts = [
            self.convergence._repr_html_(),
            tables.leave_one_out(self.loo, title="Leave one patient out").to_html(),
            tables.publish(
                self.predictive, title="Events by interval", kinds=kinds, notes=self.notes
            ).to_html(),
        ]
        return "\n".join(parts)


def check(fit: Fit) -> Checks:
    """Check a fit.

    Parameters
    ----------
    fit
        The fit.

    Returns
    -------
    Checks
        Convergence, patient-level LOO, and events by interval against those expected. Predictive
        accuracy is counted per patient, never per row, so redundant cut points do not change it.

    Notes
    -----
    PSIS-LOO after Vehtari, Gelman and Gabry (2017), doi:10.1007/s11222-016-9696-4.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> checks = bb.check(bb.fit(cohort, question, seed=1, progress=False))
    >>> list(checks.loo["endpoint"])
    ['os', 'rfs', 'all endpoints']
    """
    rows = []
    if "log_likelihood" in fit.draws.children:
        posterior = fit.posterior
        for name in fit.exposure.endpoints:
            values = patient_log_likelihood(posterior, fit.exposure, fit.design, endpoint=name)
            used = np.isfinite(fit.exposure.people["exit"].sel(endpoint=name).values)
            rows.append(_loo(values.isel(patient=used), posterior, endpoint=name))
        if len(fit.exposure.endpoints) > 1:
            together = fit.draws["log_likelihood"].to_dataset()["survival"]
            rows.append(_loo(together, posterior, endpoint=ALL_ENDPOINTS))
    columns = [
        "endpoint",
        "patients",
        "elpd",
        "se",
        "p_loo",
        "largest_pareto_k",
        "pareto_k_limit",
        "patients_above_limit",
        "reliable",
    ]
    return Checks(
        convergence=fit.convergence,
        loo=pd.DataFrame(rows, columns=columns),
        predictive=_predictive(fit),
        notes=fit.provenance.notes,
    )


def _predictive(fit: Fit) -> pd.DataFrame:
    # The p-values are exact averages over draws: the seed is for replicates, which are not used.
    events = replicated_events(fit, seed=0)
    summed = events[["observed", "expected"]].sum("phase")
    table = xr.Dataset(
        {
            "observed": summed["observed"],
            "expected": summed["expected"].mean(("chain", "draw")),
            "p_value": events["p_value_interval"],
        }
    )
    columns = ["endpoint", "interval_start", "interval_stop", "observed", "expected", "p_value"]
    return table.to_dataframe().reset_index()[columns]


def _loo(values: xr.DataArray, posterior: xr.Dataset, *, endpoint: str) -> dict[str, object]:
    tree = xr.DataTree.from_dict(
        {"/posterior": posterior, "/log_likelihood": values.to_dataset(name="survival")}
    )
    result = az.loo(tree, var_name="survival", pointwise=True)
    above = int((result.pareto_k > result.good_k).sum())
    return {
        "endpoint": endpoint,
        "patients": int(values.sizes["patient"]),
        "elpd": float(result.elpd),
        "se": float(result.se),
        "p_loo": float(result.p),
        "largest_pareto_k": float(result.pareto_k.max()),
        "pareto_k_limit": float(result.good_k),
        "patients_above_limit": above,
        "reliable": above == 0,
    }
