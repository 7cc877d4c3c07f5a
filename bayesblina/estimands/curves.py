"""Curves and times under treatment regimes, by draw, averaged over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.estimands.averages import (
    Average,
    Averages,
    collect,
    described,
    in_blocks,
    require_horizon,
)
from bayesblina.estimands.draws import with_support
from bayesblina.estimands.populations import Population
from bayesblina.estimands.regimes import Never, Regime
from bayesblina.inference.fitting import Fit


def survival(
    fit: Fit,
    *,
    regimes: Sequence[Regime] = (Never(),),
    times: ArrayLike | None = None,
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Survival under treatment regimes, given event-free at a landmark, by draw.

    Exact: the cumulative hazard is piecewise linear with the cut points, the landmark and the
    regimes' starts among its knots. The curves are averaged over the covariates of the same
    patients under every regime, by default those at risk at the landmark.

    Parameters
    ----------
    fit
        The fit.
    regimes
        `Never`, `From` and `WithPhases` values.
    times : array_like, shape (time,), optional
        Times from the origin, none before the landmark or after follow-up; by default 51 from the
        landmark to the end of follow-up, of the endpoint whose follow-up ends first.
    landmark
        Time at which patients are event-free. By default the question's landmark; without one
        the median time at which the eligible patients came under observation, rounded up to two
        digits (0 when all do at the origin).
    population
        Whose covariates the curves are averaged over: by default those of the eligible patients
        at risk at the landmark; a `Cohort` (all its patients, such as those of a target trial);
        or the covariates of one patient, as a mapping of all that are in the model. Patients of a
        cohort or a mapping are event-free at the landmark; where effects of patients or groups are
        averaged over, or some are cured, that says something of them: they came under observation
        when those of the fit did, and were in the reference state until the landmark. Covariates
        outside the range of the patients fitted are counted in the attribute ``population``.
    by
        Categorical covariate: one curve for each of its levels in the population.

    Returns
    -------
    xarray.Dataset
        ``survival`` over (chain, draw, endpoint, regime, time); with `by` over (chain, draw,
        endpoint, subgroup, regime, time). The coordinate ``supported`` over (endpoint, regime,
        time) says whether anybody is at risk in the regime's state then; where nobody is, the curve
        is the model's alone.

    Raises
    ------
    EstimandError
        If a regime is not defined, nobody is at risk at the landmark, times lie before it or after
        follow-up, the population's covariates are not those of the model, or averages over
        compressed covariates may be off by more than 0.001.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> curves = bb.survival(
    ...     fit, regimes=[bb.Never(), bb.From(8.0)], times=[8.0, 12.0], landmark=8.0
    ... )
    >>> curves["survival"].dims
    ('chain', 'draw', 'endpoint', 'regime', 'time')
    """
    curves = _over_time(
        fit,
        "survival",
        lambda average, at: average.survival(at),
        times=times,
        regimes=regimes,
        landmark=landmark,
        population=population,
        by=by,
    )
    return with_support(fit, curves, regimes)


def cumulative_hazard(
    fit: Fit,
    *,
    regimes: Sequence[Regime] = (Never(),),
    times: ArrayLike | None = None,
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Cumulative hazard from the landmark on, of the average over patients, by draw.

    It is minus the logarithm of `survival`: the marginal one, not that of average covariates.

    Parameters
    ----------
    fit, regimes, times, landmark, population, by
        As for `survival`.

    Returns
    -------
    xarray.Dataset
        ``cumulative_hazard`` over (chain, draw, endpoint, regime, time).

    Raises
    ------
    EstimandError
        As for `survival`.
    """

    def evaluate(average: Average, at: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(np.abs(np.log(average.survival(at))))

    return _over_time(
        fit,
        "cumulative_hazard",
        evaluate,
        times=times,
        regimes=regimes,
        landmark=landmark,
        population=population,
        by=by,
    )


def hazard(
    fit: Fit,
    *,
    regimes: Sequence[Regime] = (Never(),),
    times: ArrayLike | None = None,
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Hazard of the average over patients, by draw.

    It is the average of the hazards of those still event-free under the regime, per unit of time:
    marginal over covariates. Its ratio between regimes is not the conditional hazard ratio, and
    fades as those at high risk leave first.

    Parameters
    ----------
    fit, regimes, times, landmark, population, by
        As for `survival`.

    Returns
    -------
    xarray.Dataset
        ``hazard`` over (chain, draw, endpoint, regime, time); at a cut point that of the interval
        which ends there.

    Raises
    ------
    EstimandError
        As for `survival`; or if the model has jumps in place of a hazard.
    """
    require_kind(fit, Fit, "fit")
    fit.definition.require_hazard("A hazard at a time")
    return _over_time(
        fit,
        "hazard",
        lambda average, at: average.hazard(at),
        times=times,
        regimes=regimes,
        landmark=landmark,
        population=population,
        by=by,
    )


def rmst(
    fit: Fit,
    *,
    horizon: float,
    regimes: Sequence[Regime] = (Never(),),
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Mean time event-free between the landmark and a horizon, by draw.

    The integral of `survival`, exactly: each piece's is closed, for hazards of 0 too.

    Parameters
    ----------
    fit, regimes, landmark, population, by
        As for `survival`.
    horizon
        Time from the origin to which time is counted; after the landmark, and within follow-up.

    Returns
    -------
    xarray.Dataset
        ``rmst`` over (chain, draw, endpoint, regime), in the cohort's unit.

    Raises
    ------
    EstimandError
        As for `survival`, or if the horizon lies outside follow-up.

    Notes
    -----
    Royston and Parmar (2013), doi:10.1186/1471-2288-13-152.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.rmst(fit, horizon=24.0, regimes=[bb.From(8.0)], landmark=8.0)["rmst"].dims
    ('chain', 'draw', 'endpoint', 'regime')
    """

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        require_horizon(horizon, averages.window)
        means = collect(part, averages, lambda average: average.restricted_mean(horizon))
        return described(part, {"rmst": means}, averages, horizon=float(horizon))

    return in_blocks(
        fit, estimate, regimes=regimes, landmark=landmark, population=population, by=by
    )


def restricted_mean_time_lost(
    fit: Fit,
    *,
    horizon: float,
    regimes: Sequence[Regime] = (Never(),),
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Restricted mean time lost to the event between the landmark and a horizon, by draw.

    Parameters
    ----------
    fit, horizon, regimes, landmark, population, by
        As for `rmst`.

    Returns
    -------
    xarray.Dataset
        ``restricted_mean_time_lost`` over (chain, draw, endpoint, regime), in the cohort's unit,
        which is an attribute: the length of the window less `rmst`.

    Raises
    ------
    EstimandError
        As for `rmst`.
    """
    kept = rmst(
        fit, horizon=horizon, regimes=regimes, landmark=landmark, population=population, by=by
    )
    lost = (horizon - float(kept.attrs["landmark"])) - kept["rmst"]
    return xr.Dataset({"restricted_mean_time_lost": lost}, attrs=kept.attrs)


def survival_quantile(
    fit: Fit,
    *,
    survival: float = 0.5,
    regimes: Sequence[Regime] = (Never(),),
    landmark: float | None = None,
    horizon: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Time at which average survival falls to a level, by draw; the median for 0.5.

    Parameters
    ----------
    fit, regimes, landmark, population, by
        As for `survival`.
    survival
        The level, between 0 and 1.
    horizon
        Time from the origin up to which is searched; by default the end of follow-up. Beyond it
        there are no data, and nothing is extrapolated.

    Returns
    -------
    xarray.Dataset
        ``quantile`` over (chain, draw, endpoint, regime), the time from the origin, and
        ``reached``: where a draw's curve is still above the level at the horizon it is False, and
        ``quantile`` is infinite: not reached. Quantiles over draws are right with it, means are
        not. The horizon is an attribute.

    Raises
    ------
    EstimandError
        As for `survival`, or if the level or the horizon is impossible.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> median = bb.survival_quantile(fit, regimes=[bb.Never(), bb.From(8.0)], landmark=8.0)
    >>> sorted(median.data_vars)
    ['quantile', 'reached']
    """
    if not 0 < survival < 1:
        raise EstimandError(f"survival must lie between 0 and 1, got {survival!r}.")

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        if survival <= averages.error:
            raise EstimandError(
                f"survival of {survival!r} is not told from 0: averages over compressed covariates "
                f"are known within {averages.error:.1g}. Fit with compress=False, or pass the "
                "patients as population."
            )
        limit = averages.window.last if horizon is None else float(horizon)
        require_horizon(limit, averages.window)
        both = collect(
            part,
            averages,
            lambda average: np.stack(average.quantile(survival, horizon=limit), axis=1),
            ("part",),
        )
        reached = both.isel(part=1) == 1
        return described(
            part,
            {"quantile": both.isel(part=0).where(reached, np.inf), "reached": reached},
            averages,
            horizon=limit,
            survival=float(survival),
        )

    return in_blocks(
        fit, estimate, regimes=regimes, landmark=landmark, population=population, by=by
    )


def median_survival(
    fit: Fit,
    *,
    regimes: Sequence[Regime] = (Never(),),
    landmark: float | None = None,
    horizon: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Time at which average survival falls to one half, by draw.

    Parameters
    ----------
    fit, regimes, landmark, horizon, population, by
        As for `survival_quantile`.

    Returns
    -------
    xarray.Dataset
        What `survival_quantile` gives for a level of 0.5.

    Raises
    ------
    EstimandError
        As for `survival_quantile`.
    """
    return survival_quantile(
        fit, regimes=regimes, landmark=landmark, horizon=horizon, population=population, by=by
    )


def _over_time(
    fit: Fit,
    name: str,
    evaluate: Callable[[Average, Floats], Floats],
    *,
    times: ArrayLike | None,
    regimes: Sequence[Regime],
    landmark: float | None,
    population: Population | None,
    by: str | None,
) -> xr.Dataset:
    """Evaluate averages at times."""

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        grid = averages.grid(times)
        averages.window.require_times(grid)
        values = collect(part, averages, lambda average: evaluate(average, grid), ("time",))
        return described(part, {name: values.assign_coords(time=grid)}, averages)

    return in_blocks(
        fit, estimate, regimes=regimes, landmark=landmark, population=population, by=by
    )
