"""Can the fit be believed: convergence, predictions, events by interval, a cured fraction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.checks.pointwise import leave_one_out_total
from bayesblina.checks.replicates import replicated_events
from bayesblina.checks.weaknesses import pulls, unreliable, weaknesses
from bayesblina.core import tables
from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.core.escaping import html
from bayesblina.core.tables import Kind
from bayesblina.estimands.draws import episodes_of, state_of
from bayesblina.estimands.occupancies import require_cure
from bayesblina.hazards.log_hazards import flat_draws
from bayesblina.inference.baseline_gate import BaselineGate
from bayesblina.inference.convergence import Convergence
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.event_times import EventTimes

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
# Below this share of the prior's variance taken away by the data, the prior speaks.
LEAST_CONTRACTION = 0.5


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
    gate
        The baseline gate.
    event_times
        Whether event times are those of visits; None where it was not looked at.
    pulls : pandas.DataFrame
        How far the priors and the baseline pull the hazard ratio of each endpoint
        (`bayesblina.checks.weaknesses.pulls`).
    weaknesses
        What weakens the answer, in short sentences.
    notes
        What was not checked, and why.
    """

    convergence: Convergence
    loo: pd.DataFrame
    predictive: pd.DataFrame
    gate: BaselineGate
    event_times: EventTimes | None
    pulls: pd.DataFrame
    weaknesses: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the draws converged and no gate was failed: whether hazard ratios can be read.

        The baseline gate is failed where the baseline moves a hazard ratio; the rule on event times
        where they are those of visits. An unreliable LOO estimate is a weakness: it is of
        predictions, and no hazard ratio hangs on it.
        """
        exact = self.event_times is None or self.event_times.passed
        return self.convergence.passed and self.gate.passed and exact

    def __repr__(self) -> str:
        """Show the outcome."""
        reliable = int(self.loo["reliable"].sum())
        counted = ((self.weaknesses, "weakness", "weaknesses"), (self.notes, "note", "notes"))
        parts = [
            "converged" if self.convergence.passed else "NOT CONVERGED",
            self.gate.words(),
            *(() if self.event_times is None else self.event_times.messages),
            f"{reliable} of {len(self.loo)} LOO estimates reliable"
            if len(self.loo)
            else "no LOO estimates",
            *(
                f"{len(texts)} {word if len(texts) == 1 else words}"
                for texts, word, words in counted
                if texts
            ),
        ]
        return f"Checks({'; '.join(parts)})"

    def _repr_html_(self) -> str:
        kinds: dict[str, Kind] = {"p_value": "probability"}
        exact = self.event_times
        parts = [
            self.convergence._repr_html_(),
            self.gate._repr_html_(),
            *([] if exact is None else [exact._repr_html_()]),
            *([_listed("Event times", exact.messages)] if exact and exact.messages else []),
            tables.publish(self.pulls, title="What pulls the hazard ratio").to_html(),
            *([_listed("What weakens the answer", self.weaknesses)] if self.weaknesses else []),
            tables.leave_one_out(self.loo, title="Leave one patient out").to_html(),
            tables.publish(
                self.predictive, title="Events by interval", kinds=kinds, notes=self.notes
            ).to_html(),
        ]
        return "\n".join(parts)


def _listed(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{html(sentence)}</li>" for sentence in sentences)
    return f"<p>{html(title)}</p><ul>{items}</ul>"


def check(fit: Fit) -> Checks:
    """Check a fit.

    Parameters
    ----------
    fit
        The fit.

    Returns
    -------
    Checks
        Convergence, the baseline gate, whether event times are those of visits, patient-level LOO,
        events by interval against those expected, and what pulls and weakens the answer. Predictive
        accuracy is counted per patient, never per row, so redundant cut points do not change it.
        Of a model of jumps at the event times the tables of both predictions are empty, and of a
        fit with weights that vary during follow-up that of LOO; the notes say why.

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
    require_kind(fit, Fit, "fit")
    notes = list(fit.provenance.notes)
    loo = pd.DataFrame(columns=LOO_COLUMNS).astype({"reliable": bool})
    predictive = pd.DataFrame(columns=EVENT_COLUMNS)
    try:
        fit.definition.require_hazard("Prediction of events and of patients who are left out")
    except EstimandError as reason:
        notes.append(str(reason))
    else:
        predictive = _predictive(fit)
        try:
            loo = _left_out(fit)
        except EstimandError as reason:
            notes.append(f"leave-one-out prediction: {reason}")
        else:
            notes += _sampled(loo)
    if fit.event_times is not None:
        notes += fit.event_times.notes
    pulled = pulls(fit)
    return Checks(
        convergence=fit.convergence,
        loo=loo,
        predictive=predictive,
        gate=fit.gate,
        event_times=fit.event_times,
        pulls=pulled,
        weaknesses=(*weaknesses(fit, pulled), *unreliable(loo)),
        notes=tuple(notes),
    )


def _sampled(loo: pd.DataFrame) -> list[str]:
    """Say how many patients were left out, where they stand for others."""
    left, patients = int(loo["evaluated"].iloc[0]), int(loo["patients"].iloc[0])
    said = (
        f"leave-one-out prediction: {left} of {patients} patients were left out, and stand for the "
        "others (sampling_se)"
    )
    return [] if left == patients else [said]


def _left_out(fit: Fit) -> pd.DataFrame:
    """Leave patients out of each endpoint and, where there are several, of all together."""
    estimates = {
        name: leave_one_out_total(fit, endpoint=name) for name in fit.person_time.endpoints
    }
    if len(estimates) > 1:
        estimates[ALL_ENDPOINTS] = leave_one_out_total(fit, endpoint=None)
    return pd.DataFrame(
        [
            {
                "endpoint": name,
                "patients": estimate.patients,
                "elpd": estimate.elpd,
                "se": estimate.se,
                "p_loo": estimate.p_loo,
                "largest_pareto_k": estimate.largest_pareto_k,
                "pareto_k_limit": estimate.limit,
                "patients_above_limit": estimate.above_limit,
                "reliable": estimate.above_limit == 0,
                "evaluated": estimate.evaluated,
                "sampling_se": estimate.sampling_se,
            }
            for name, estimate in estimates.items()
        ]
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


def cure_identifiability(fit: Fit) -> pd.DataFrame:
    """Show what the cured fraction rests on.

    A cured fraction is a statement on what happens after follow-up. The data speak of it only if
    patients are followed for long after the last events; else a hazard that fades and a fraction
    that is cured look the same, and the prior decides.

    Parameters
    ----------
    fit
        A fit of a model with cured patients, such as ``mixture_cure``.

    Returns
    -------
    pandas.DataFrame
        One row per endpoint: ``endpoint``, ``patients``, ``events``, ``last_event`` (time),
        ``followed_after`` (patients under observation after it), ``time_after`` (their person-time
        after it), ``last_event_exposed`` (time of the last event in the exposed phase; NaN without
        one), ``events_after`` (events in any phase after that one) and ``exposed_after`` (patients
        followed in the exposed phase after it); ``prior_sd`` and ``posterior_sd`` of the log odds
        of being cured at mean covariates, ``contraction`` (the share of the prior's variance that
        the data took away), ``shift`` (of the mean, in prior sds) and ``identified``: whether
        somebody is followed after the last event and the contraction is at least one half.

    Raises
    ------
    EstimandError
        If the model has no cured patients.

    Notes
    -----
    Follow-up and identifiability: Maller and Zhou (1992), doi:10.1093/biomet/79.4.731; Li, Taylor
    and Sy (2001), doi:10.1016/S0167-7152(01)00105-5.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, model="mixture_cure", seed=1, progress=False)
    >>> bool(bb.checks.cure_identifiability(fit)["contraction"].lt(1.0).all())
    True
    """
    require_cure(fit)
    assert fit.definition.cure is not None
    prior = fit.definition.cure.fraction
    person_time = fit.person_time
    exposed_states = person_time.table["role"].values == "exposed"
    rows = []
    for name in person_time.endpoints:
        outcome = person_time.people.sel(endpoint=name)
        begin, stop, event = (outcome[key].values for key in ("begin", "exit", "event"))
        last = float(stop[event].max())
        later = stop > last
        patient, state, _, ends = episodes_of(person_time, name)
        inside = exposed_states[state]
        died = event[patient] & (ends == stop[patient]) & inside
        last_exposed = float(ends[died].max()) if died.any() else float("nan")
        log_odds = flat_draws(fit.posterior.sel(endpoint=name), "cured_log_odds")
        sd = float(log_odds.std(ddof=1))
        contraction = 1.0 - (sd / prior.sd) ** 2
        rows.append(
            {
                "endpoint": name,
                "patients": int(np.isfinite(stop).sum()),
                "events": int(event.sum()),
                "last_event": last,
                "followed_after": int(later.sum()),
                "time_after": float((stop[later] - np.maximum(begin[later], last)).sum()),
                "last_event_exposed": last_exposed,
                "events_after": int((stop[event] > last_exposed).sum()),
                "exposed_after": np.unique(patient[inside & (ends > last_exposed)]).size,
                "prior_sd": prior.sd,
                "posterior_sd": sd,
                "contraction": contraction,
                "shift": (float(log_odds.mean()) - prior.mean) / prior.sd,
                "identified": bool(later.any()) and contraction >= LEAST_CONTRACTION,
            }
        )
    table = pd.DataFrame(rows)
    table.attrs |= {**state_of(fit), "unit": person_time.unit}
    return table
