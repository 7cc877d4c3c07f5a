"""The fraction of patients who will never have the event."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.estimands.draws import attributes_of, by_draw
from bayesblina.estimands.populations import Population, groups_of
from bayesblina.hazards.likelihood import cured_given_survival, cured_log_odds
from bayesblina.inference.fitting import Fit


def cured_fraction(
    fit: Fit, *, population: Population | None = None, by: str | None = None
) -> xr.Dataset:
    """Fraction of patients who will never have the event, by draw.

    It is that of patients as they come under observation, before anything is known of how they
    fare. Whether the data say anything of it is for `cure_identifiability` to show.

    Parameters
    ----------
    fit
        A fit of a model with cured patients, such as ``mixture_cure``.
    population
        Whose covariates the fraction is averaged over: by default those of the eligible patients;
        or as for `survival`.
    by
        Categorical covariate: one fraction for each of its levels in the population.

    Returns
    -------
    xarray.Dataset
        ``cured_fraction`` over (chain, draw, endpoint); with `by` over (chain, draw, endpoint,
        subgroup).

    Raises
    ------
    EstimandError
        If the model has no cured patients, or the population's covariates are not those of the
        model.

    Notes
    -----
    Mixture cure models: Farewell (1982), doi:10.2307/2529885; Amico and Van Keilegom (2018),
    doi:10.1146/annurev-statistics-031017-100101.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, model="mixture_cure", seed=1, progress=False)
    >>> bb.cured_fraction(fit, by="age_group")["cured_fraction"].dims
    ('chain', 'draw', 'endpoint', 'subgroup')
    """
    require_kind(fit, Fit, "fit")
    require_cure(fit)
    posterior, person_time, design = fit.posterior, fit.person_time, fit.design
    people = person_time.people
    followed = np.isfinite(people["exit"].transpose("endpoint", "patient").values)
    groups, description = groups_of(
        fit,
        population,
        by=by,
        at_risk=(followed * people["weight"].values) @ person_time.projection(),
        who="eligible patients as they come under observation",
    )
    fractions = []
    for endpoint, of_endpoint in zip(person_time.endpoints, groups, strict=True):
        means = []
        for group in of_endpoint:
            terms = design.standardised(group.terms)
            log_odds = cured_log_odds(posterior, design, terms, endpoint=endpoint)
            assert log_odds is not None
            means.append(cured_given_survival(log_odds) @ group.weight)
        fractions.append(np.stack(means, axis=1))
    values = by_draw(
        fit,
        np.stack(fractions, axis=1),
        ("endpoint", "subgroup"),
        endpoint=list(person_time.endpoints),
        subgroup=[group.label for group in groups[-1]],
    )
    return xr.Dataset(
        {"cured_fraction": values.isel(subgroup=0, drop=True) if by is None else values},
        attrs={
            **attributes_of(fit),
            "population": description,
            "kind": "marginal: averaged over the covariates of the population",
        },
    )


def require_cure(fit: Fit) -> None:
    """Raise unless a fit is of a model with cured patients."""
    if fit.definition.cure is None:
        raise EstimandError(
            f"Model '{fit.definition.name}' has no cured patients: fit 'mixture_cure'."
        )
