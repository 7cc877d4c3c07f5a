"""Patients who drop out may do worse, or better, than those who stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Bools
from bayesblina.core.errors import (
    EstimandError,
    SpecError,
    require_at_least,
    require_kind,
    require_seed,
)
from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.log_hazards import hazards_of_patients
from bayesblina.hazards.parts import Free
from bayesblina.inference.convergence import ESS, R_HAT, SamplerSettings, ess_bulk, ess_tail, rhat
from bayesblina.inference.fitting import Fit, fit_person_time, weights_of
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import in_cohort_order


def informative_dropout(
    cohort: Cohort,
    fit: Fit,
    *,
    horizon: float,
    hazard_ratio_exposed: float,
    hazard_ratio_unexposed: float,
    seed: int,
    death: str | None = None,
    dropped: ArrayLike | None = None,
    imputations: int = 10,
    settings: SamplerSettings | None = None,
) -> xr.Dataset:
    """Let patients who dropped out have another hazard afterwards than the model's.

    Their course after dropping out is imputed from the posterior, with the model's hazard times a
    factor, up to a horizon; the completed patients are fitted again, with their weights, and draws
    of all imputations are pooled.

    Parameters
    ----------
    cohort
        The patients that were fitted.
    fit
        Their fit.
    horizon
        Time from the origin up to which courses are imputed, such as that of the data cut-off.
    hazard_ratio_exposed, hazard_ratio_unexposed
        Hazard after dropping out against the model's, of patients who were in the exposed phase
        then, and of others. 1 is censoring that says nothing.
    seed
        Seed of the imputations and the draws.
    death
        Endpoint that is death, needed where there are several: it ends every other one, as an
        event. A patient's courses share their random number, so that a relapse tends to come
        before a death, and none comes after.
    dropped : array_like of bool, shape (patient,), optional
        Who of the cohort dropped out, in its order or as a pandas Series whose index holds the
        ids; by default everybody censored before the horizon.
    imputations
        Number of imputations.
    settings
        How long each fit is sampled.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint), the imputations' chains one after the other.
        Its attribute ``converged`` holds them against the convergence gate: divergences and BFMI of
        every imputation; R-hat and effective sample sizes of the log hazard ratios within
        imputations, all taken together.

    Raises
    ------
    EstimandError
        If the model is of an illness-death course or has cured patients, or the patients are in
        pieces.
    SpecError
        If an argument is impossible.

    Notes
    -----
    Delta adjustment: Jackson et al. (2014), doi:10.1002/sim.6274.
    """
    require_kind(cohort, Cohort, "cohort")
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    _require_possible(cohort, fit)
    for name, value in (
        ("horizon", horizon),
        ("hazard_ratio_exposed", hazard_ratio_exposed),
        ("hazard_ratio_unexposed", hazard_ratio_unexposed),
    ):
        if not 0 < value < math.inf:
            raise SpecError(f"{name} must be greater than 0 and finite, got {value!r}.")
    require_at_least(imputations, 2, "imputations")
    given = np.ones(cohort.size, dtype=bool) if dropped is None else dropped
    out = np.asarray(in_cohort_order(given, cohort, name="dropped"))
    if out.shape != (cohort.size,) or out.dtype != bool:
        raise SpecError(f"dropped must be {cohort.size} truth values, one for each patient.")
    death = _death_of(fit, death)
    settings = settings or SamplerSettings(draws=250, tune=500, chains=2)
    weights = weights_of(fit, cohort)
    generator = np.random.default_rng(seed)
    sizes = fit.posterior.sizes
    factors = (hazard_ratio_exposed, hazard_ratio_unexposed)
    # A baseline of jumps has them at the events of the patients at hand.
    cuts = None if isinstance(fit.definition.baseline, Free) else fit.person_time.cuts
    ratios, converged = [], fit.converged
    for draw in generator.choice(sizes["chain"] * sizes["draw"], imputations, replace=False):
        completed = _completed(
            cohort, fit, int(draw), out, factors, horizon, generator, death=death
        )
        again = fit_person_time(
            fit.definition,
            person_time_for(fit.definition, completed, fit.question, cuts=cuts, weights=weights),
            fit.question,
            seed=int(generator.integers(2**31)),
            settings=settings,
            weighted=weights is not None,
            complete=False,
        )
        converged &= again.convergence.sampled_well
        # Without what is known of one imputation's baseline and event times.
        ratios.append(hazard_ratio(again)["hazard_ratio"].reset_coords(drop=True))
    pooled = xr.concat(ratios, dim="chain").assign_coords(
        chain=np.arange(imputations * settings.chains)
    )
    return xr.Dataset(
        {"hazard_ratio": pooled},
        attrs={
            **hazard_ratio(fit).attrs,
            "converged": int(converged and _mixed(ratios)),
            "imputations": imputations,
            "horizon": float(horizon),
        },
    )


def _require_possible(cohort: Cohort, fit: Fit) -> None:
    """Refuse models and cohorts whose dropout cannot be imputed."""
    if fit.person_time.courses is not None or fit.definition.cure is not None:
        raise EstimandError(
            f"Dropout is imputed for endpoints of their own: '{fit.definition.name}' has other "
            "hazards after dropping out. Fit 'primary'."
        )
    if fit.person_time.visits is not None:
        raise EstimandError(
            "Dropout is imputed as of event times that are exact, and some events here are found "
            "at visits: nobody knows when these patients would have been seen. Vary the follow-up "
            "as a scenario."
        )
    layout = fit.person_time.layout
    if layout is not None and layout.exposure.measure != "ever":
        raise EstimandError(
            "Dropout is imputed at the hazard of the state in which it happened, and by measure="
            f"'{layout.exposure.measure}' that state would have changed since, with stays that "
            "nobody recorded: ask with measure='ever', or vary the follow-up as a scenario."
        )
    if fit.person_time.visits is not None:
        raise EstimandError(
            "Dropout is imputed at exact times, and events here are found at visits: vary the "
            "follow-up of those without an event (event_free_until) instead."
        )
    if cohort.persons is not None:
        raise EstimandError(
            "Dropout is imputed for whole patients, and these are pieces of them, most of which "
            "end where they were cut. Impute it in a fit of the patients themselves, with one "
            "weight for each or none."
        )


def _death_of(fit: Fit, death: str | None) -> str | None:
    """Check which endpoint is death."""
    names = fit.person_time.endpoints
    if death is None and len(names) == 1:
        return None
    if death not in names:
        raise SpecError(
            f"death must name the endpoint that is death, one of {', '.join(names)}, got "
            f"{death!r}: it ends the others, which cannot be imputed beyond it."
        )
    return death


def _mixed(ratios: Sequence[xr.DataArray]) -> bool:
    """Whether draws of all imputations mix within them: each is taken less its own mean."""
    logs = [np.log(ratio.transpose("chain", "draw", "endpoint").values) for ratio in ratios]
    centred = np.concatenate([draws - draws.mean(axis=(0, 1)) for draws in logs])
    enough = (ess_bulk(centred) > ESS) & (ess_tail(centred) > ESS)
    return bool((enough & (rhat(centred) < R_HAT)).all())


def _completed(
    cohort: Cohort,
    fit: Fit,
    draw: int,
    dropped: Bools,
    factors: tuple[float, float],
    horizon: float,
    generator: np.random.Generator,
    *,
    death: str | None,
) -> Cohort:
    """Impute what happened to dropouts of all endpoints, from one draw; death first."""
    person_time = fit.person_time
    people, episodes = person_time.people, person_time.episodes
    row_of = {str(patient): row for row, patient in enumerate(cohort.patients)}
    rows = np.array([row_of[str(patient)] for patient in people["patient"].values])
    exposed = person_time.table["role"].values == "exposed"
    outcomes = dict(cohort.endpoints)
    # Hazards of death are not higher than those of death or relapse: with one number for both the
    # order of a patient's times is kept, and each has its own distribution.
    shared = generator.exponential(size=people.sizes["patient"])
    for name in sorted(person_time.endpoints, key=lambda endpoint: endpoint != death):
        index, outcome = person_time.endpoints.index(name), cohort.endpoints[name]
        log_hazard, pattern_of = hazards_of_patients(
            fit.posterior, person_time, fit.design, endpoint=name
        )
        stop = people["exit"].values[index]
        free = np.isfinite(stop) & ~people["event"].values[index] & (stop < horizon)
        # Whoever's follow-up was ended by the question, as at a transplant, has not dropped out.
        who = np.flatnonzero(free & (stop == outcome.time[rows]) & dropped[rows])
        own = episodes["endpoint"].values == index
        last = np.zeros(people.sizes["patient"], dtype=np.int64)
        last[episodes["patient"].values[own]] = episodes["phase"].values[own]
        state, pattern = last[who], pattern_of[who]
        # (patient, interval)
        rate = np.where(exposed[state], *factors)[:, None] * np.exp(
            log_hazard.shared[draw][log_hazard.class_of[pattern], :, state]
            + log_hazard.pattern[draw][pattern][:, None]
        )
        hazard = PiecewiseHazard(starts=np.concatenate([[0.0], person_time.cuts]), rates=rate)
        imputed = hazard.inverse(hazard.cumulative_of_each(stop[who]) + shared[who])
        time, event = outcome.time.copy(), outcome.event.copy()
        time[rows[who]] = np.minimum(imputed, horizon)
        event[rows[who]] = imputed < horizon
        if death is not None and name != death:
            # Whoever is dead by then had the event at death at the latest.
            end = outcomes[death]
            late = rows[who][end.event[rows[who]] & (time > end.time)[rows[who]]]
            time[late], event[late] = end.time[late], True
        # What is declared to include what holds of data: courses are drawn for each endpoint.
        outcomes[name] = replace(
            outcome, time=time, event=event, entry=outcome.entry.copy(), includes=()
        )
    return replace(cohort, endpoints=outcomes)
