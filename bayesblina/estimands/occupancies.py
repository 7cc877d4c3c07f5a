"""States of illness-death courses: who is in which, when, and for how long."""

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
from bayesblina.estimands.populations import Population
from bayesblina.estimands.regimes import Never, Regime
from bayesblina.estimands.states import RegimeCourses, StateAverage
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
    require_kind(fit, Fit, "fit")

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

        def evaluate(courses: RegimeCourses) -> Floats:
            knots = courses.knots(grid)
            knot_of = np.searchsorted(knots, grid)
            out = np.empty((courses.draws, grid.size, len(STATES)))
            for rows, course in courses.follow(knots):
                states = (
                    course.remission,
                    course.alive_after_relapse,
                    course.dead_in_remission,
                    course.dead_after_relapse,
                )
                for index, values in enumerate(states):
                    out[rows, :, index] = courses.average(values[..., knot_of], rows)
            return out

        values = _collect(part, averages, evaluate, ("time", "state"))
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
    require_kind(fit, Fit, "fit")

    _require_courses(fit)

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        require_horizon(horizon, averages.window)

        def evaluate(courses: RegimeCourses) -> Floats:
            knots = courses.knots(np.array([horizon]))
            knot = int(np.searchsorted(knots, horizon))
            out = np.empty((courses.draws, 2))
            for rows, course in courses.follow(knots):
                for index, values in enumerate(
                    (course.time_in_remission, course.time_after_relapse)
                ):
                    out[rows, index] = courses.average(values[..., knot], rows)
            return out

        values = _collect(part, averages, evaluate, ("state",))
        values = values.assign_coords(state=list(STATES[:2]))
        return described(part, {"time": values}, averages, horizon=float(horizon))

    return in_blocks(
        fit, estimate, regimes=regimes, landmark=landmark, population=population, by=by
    )


def _require_courses(fit: Fit) -> None:
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
    one = replace(averages, members=averages.members[:1], endpoints=averages.endpoints[:1])
    return collect(fit, one, of_average, dims).isel(endpoint=0, drop=True)
