"""Can the fit be believed: convergence, leave-one-patient-out prediction, events by interval."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import xarray as xr

from bayesblina.convergence import Convergence
from bayesblina.errors import EstimandError
from bayesblina.fitting import Fit
from bayesblina.pointwise import leave_one_out_total
from bayesblina.predictive import replicated_events
from bayesblina.tables import Kind
from bayesblina.tables import build as tables

ALL_ENDPOINTS = "all endpoints"
EVENT_COLUMNS = ["endpoint", "interval_start", "interval_stop", "observed", "expected", "p_value"]
LOO_COLUMNS = [
    "endpoint",
    "patients",
    "elpd",
    "se",
    "p_loo",
    "largest_pareto_k",
    "pareto_k_limit",
    "patients_above_limit",
    "reliable",
    "evaluated",
    "sampling_se",
]


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
        ``patients_above_limit`` (whose Pareto k exceeds ``pareto_k_limit``), ``reliable``,
        ``evaluated`` (how many patients were left out: of many a sample is, and stands for the
        others) and ``sampling_se`` (the standard error from that).
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
        Of a model of jumps at the event times the last two are empty, and the notes say why.

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
    try:
        fit.definition.require_hazard("Prediction of events and of patients who are left out")
    except EstimandError as reason:
        return Checks(
            convergence=fit.convergence,
            loo=pd.DataFrame(columns=LOO_COLUMNS).astype({"reliable": bool}),
            predictive=pd.DataFrame(columns=EVENT_COLUMNS),
            notes=(*fit.provenance.notes, str(reason)),
        )
    names: list[str | None] = [*fit.exposure.endpoints]
    rows = [_loo(fit, name) for name in (names if len(names) == 1 else [*names, None])]
    notes = list(fit.provenance.notes)
    if rows[0]["evaluated"] != rows[0]["patients"]:
        notes.append(
            f"leave-one-out prediction: {rows[0]['evaluated']} of {rows[0]['patients']} patients "
            "were left out, and stand for the others (sampling_se)"
        )
    return Checks(
        convergence=fit.convergence,
        loo=pd.DataFrame(rows),
        predictive=_predictive(fit),
        notes=tuple(notes),
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
    return table.to_dataframe().reset_index()[EVENT_COLUMNS]


def _loo(fit: Fit, endpoint: str | None) -> dict[str, object]:
    found = leave_one_out_total(fit, endpoint=endpoint)
    return {
        "endpoint": ALL_ENDPOINTS if endpoint is None else endpoint,
        "patients": found.patients,
        "elpd": found.elpd,
        "se": found.se,
        "p_loo": found.p_loo,
        "largest_pareto_k": found.largest_pareto_k,
        "pareto_k_limit": found.limit,
        "patients_above_limit": found.above_limit,
        "reliable": found.above_limit == 0,
        "evaluated": found.evaluated,
        "sampling_se": found.sampling_se,
    }
