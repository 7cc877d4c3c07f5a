"""Do the data say how many patients are cured, or does the prior."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.core.errors import require_kind
from bayesblina.estimands.cures import require_cure
from bayesblina.estimands.draws import state_of
from bayesblina.estimands.support import episodes_of
from bayesblina.hazards.likelihood import flat_draws
from bayesblina.inference.fitting import Fit

# Below this share of the prior's variance taken away by the data, the prior speaks.
LEAST_CONTRACTION = 0.5


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
    require_kind(fit, Fit, "fit")
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
