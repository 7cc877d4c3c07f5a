"""States of illness-death courses: who is in which, when, and for how long; and who is cured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.estimands.averages import (
    Average,
    Averages,
    collect,
    described,
    in_blocks,
    require_horizon,
)
from bayesblina.estimands.draws import attributes_of, by_draw
from bayesblina.estimands.populations import Group, Population, groups_of
from bayesblina.estimands.regimes import Never, Regime
from bayesblina.estimands.states import RegimeCourses, StateAverage
from bayesblina.hazards.likelihood import cured_given_survival
from bayesblina.hazards.log_hazards import cured_log_odds
from bayesblina.inference.fitting import Fit

STATES = ("in remission", "alive after relapse", "dead in remission", "dead after relapse")


def state_occupancy(
    fit: Fit,
    *,
    regimes: Sequence[Regime] = (Never(),),
    times: ArrayLike | None = None,
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Probability of being in each state of an illness-death course, by draw.

    Exact: a product of matrix exponentials over the pieces between cut points, the landmark and the
    regimes' starts. A regime starts phases in those who are in remission; whoever has relapsed
    stays in the treatment state of that moment.

    Parameters
    ----------
    fit
        A fit of the model ``illness_death``.
    regimes, times, landmark, population, by
        As for `survival`; patients are in remission at the landmark.

    Returns
    -------
    xarray.Dataset
        ``probability`` over (chain, draw, [subgroup,] regime, time, state); the states are in
        remission, alive after relapse, dead in remission and dead after relapse, and their
        probabilities add up to 1. ``relapse_probability``, over (chain, draw, [subgroup,] regime,
        time), is that of having relapsed by then, dead or alive.

    Raises
    ------
    EstimandError
        If the fit is of another model; or as for `survival`.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, model="illness_death", seed=1, progress=False)
    >>> states = bb.state_occupancy(fit, regimes=[bb.From(8.0)], times=[12.0], landmark=8.0)
    >>> states["probability"].dims
    ('chain', 'draw', 'regime', 'time', 'state')
    """
    _require_courses(fit)

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        grid, window = averages.grid(times), averages.window
        if not grid.size:
            raise EstimandError("times must be a flat sequence of finite numbers.")
        if grid.min() < window.start or grid.max() > window.last * (1 + TIE_TOLERANCE):
            raise EstimandError(
                f"times must lie between the landmark {window.start:g} and the end of follow-up, "
                f"{window.last:g}: nothing is extrapolated."
            )

        values = _collect(
            part,
            averages,
            lambda courses: courses.average_at(
                grid,
                lambda course: (
                    course.remission,
                    course.alive_after_relapse,
                    course.dead_in_remission,
                    course.dead_after_relapse,
                ),
            ),
            ("time", "state"),
        )
        values = values.assign_coords(time=grid, state=list(STATES))
        relapsed = values.sel(state=["alive after relapse", "dead after relapse"]).sum("state")
        return described(part, {"probability": values, "relapse_probability": relapsed}, averages)

    return in_blocks(
        fit, estimate, regimes=regimes, landmark=landmark, population=population, by=by
    )


def time_in_states(
    fit: Fit,
    *,
    horizon: float,
    regimes: Sequence[Regime] = (Never(),),
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Mean time in each state of an illness-death course up to a horizon, by draw.

    Parameters
    ----------
    fit, regimes, landmark, population, by
        As for `state_occupancy`.
    horizon
        Time from the origin to which time is counted; after the landmark, and within follow-up.

    Returns
    -------
    xarray.Dataset
        ``time`` over (chain, draw, [subgroup,] regime, state), in the cohort's unit, of the states
        in remission and alive after relapse: the integrals of `state_occupancy`, exactly.

    Raises
    ------
    EstimandError
        As for `state_occupancy`, or if the horizon lies outside follow-up.
    """
    _require_courses(fit)

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        require_horizon(horizon, averages.window)
        values = _collect(
            part,
            averages,
            lambda courses: courses.average_at(
                np.array(horizon),
                lambda course: (course.time_in_remission, course.time_after_relapse),
            ),
            ("state",),
        )
        values = values.assign_coords(state=list(STATES[:2]))
        return described(part, {"time": values}, averages, horizon=float(horizon))

    return in_blocks(
        fit, estimate, regimes=regimes, landmark=landmark, population=population, by=by
    )


def _require_courses(fit: Fit) -> None:
    require_kind(fit, Fit, "fit")
    if fit.person_time.courses is None:
        raise EstimandError(
            f"Model '{fit.definition.name}' has no states: relapse and death are told apart by the "
            "model 'illness_death'."
        )


def _collect(
    fit: Fit, averages: Averages, evaluate: Callable[[RegimeCourses], Floats], dims: tuple[str, ...]
) -> xr.DataArray:
    """Evaluate all courses; (chain, draw, [subgroup,] regime, *dims)."""

    def of_average(average: Average) -> Floats:
        assert isinstance(average, StateAverage)
        return evaluate(average.courses)

    # Overall and relapse-free survival are of the same courses.
    first = replace(averages, members=averages.members[:1], endpoints=averages.endpoints[:1])
    return collect(fit, first, of_average, dims).isel(endpoint=0, drop=True)


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

    def fraction(group: Group, endpoint: str) -> Floats:
        terms = design.standardised(group.terms)
        log_odds = cured_log_odds(posterior, design, terms, endpoint=endpoint)
        assert log_odds is not None
        return np.asarray(cured_given_survival(log_odds) @ group.weight)

    fractions = [
        np.stack([fraction(group, endpoint) for group in of_endpoint], axis=1)
        for endpoint, of_endpoint in zip(person_time.endpoints, groups, strict=True)
    ]
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
    require_kind(fit, Fit, "fit")
    if fit.definition.cure is None:
        raise EstimandError(
            f"Model '{fit.definition.name}' has no cured patients: fit 'mixture_cure'."
        )
