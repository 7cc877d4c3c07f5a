"""Curves and times under treatment regimes, by draw, averaged over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesblina.errors import EstimandError
from bayesblina.estimands.paths import (
    Part,
    make_path,
    mixed_hazard,
    mixed_survival,
    quantile_time,
    restricted_mean,
)
from bayesblina.estimands.populations import (
    Group,
    Population,
    eligible_groups,
    supplied_groups,
)
from bayesblina.estimands.ratios import attributes_of
from bayesblina.fitting import Fit
from bayesblina.hazards.likelihood import log_hazard
from bayesblina.regimes import Never, Observation, Regime, require_curves

Floats = NDArray[np.float64]

DEFAULT_TIMES = 51


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
        the median time at which the eligible patients came under observation (0 when all do at
        the origin).
    population
        Whose covariates the curves are averaged over: by default those of the eligible patients
        at risk at the landmark; a `Cohort` (all its patients, such as those of a target trial);
        or the covariates of one patient, as a mapping of all that are in the model. Covariates
        outside the range of the patients fitted are counted in the attribute ``population``.
    by
        Categorical covariate: one curve for each of its levels in the population.

    Returns
    -------
    xarray.Dataset
        ``survival`` over (chain, draw, endpoint, regime, time); with `by` over (chain, draw,
        endpoint, subgroup, regime, time).

    Raises
    ------
    EstimandError
        If a regime is not defined, nobody is at risk at the landmark, times lie before it or after
        follow-up, or the population's covariates are not those of the model.

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
    return _over_time(
        fit,
        "survival",
        regimes,
        times,
        landmark,
        (population, by),
        mixed_survival,
    )


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

    def evaluate(parts: tuple[Part, ...], at: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(np.abs(np.log(mixed_survival(parts, at))))

    return _over_time(
        fit, "cumulative_hazard", regimes, times, landmark, (population, by), evaluate
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
        As for `survival`.
    """
    return _over_time(fit, "hazard", regimes, times, landmark, (population, by), mixed_hazard)


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
    populations = _populations(fit, regimes, landmark, (population, by))
    _check_horizon(horizon, populations)

    def evaluate(parts: tuple[Part, ...]) -> Floats:
        means = [
            one.share * restricted_mean(one.path, one.relative, one.weight, horizon=horizon)
            for one in parts
        ]
        return np.asarray(sum(means))

    values = _collect(fit, populations, evaluate)
    return _dataset(fit, {"rmst": values}, populations, horizon=float(horizon))


def life_years_lost(
    fit: Fit,
    *,
    horizon: float,
    regimes: Sequence[Regime] = (Never(),),
    landmark: float | None = None,
    population: Population | None = None,
    by: str | None = None,
) -> xr.Dataset:
    """Mean time lost to the event between the landmark and a horizon, by draw.

    Parameters
    ----------
    fit, horizon, regimes, landmark, population, by
        As for `rmst`.

    Returns
    -------
    xarray.Dataset
        ``time_lost`` over (chain, draw, endpoint, regime), in the cohort's unit: the length of the
        window less `rmst`.

    Raises
    ------
    EstimandError
        As for `rmst`.
    """
    kept = rmst(
        fit, horizon=horizon, regimes=regimes, landmark=landmark, population=population, by=by
    )
    lost = (horizon - float(kept.attrs["landmark"])) - kept["rmst"]
    return xr.Dataset({"time_lost": lost}, attrs=kept.attrs)


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
        ``quantile`` is the horizon, a lower bound.

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
    populations = _populations(fit, regimes, landmark, (population, by))
    limit = populations.last if horizon is None else float(horizon)
    _check_horizon(limit, populations)

    def evaluate(parts: tuple[Part, ...]) -> Floats:
        return np.stack(quantile_time(parts, survival=survival, horizon=limit), axis=1)

    both = _collect(fit, populations, evaluate, ("part",))
    return _dataset(
        fit,
        {
            "quantile": both.isel(part=0),
            "reached": both.isel(part=1).astype(bool),
        },
        populations,
        horizon=limit,
        survival=float(survival),
    )


def median(
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Populations:
    # By endpoint, subgroup and regime.
    members: list[list[list[tuple[Part, ...]]]]
    regimes: tuple[Regime, ...]
    # Labels of the subgroups; None where there are none.
    subgroups: tuple[str, ...] | None
    description: str
    start: float
    last: float


def _populations(
    fit: Fit,
    regimes: Sequence[Regime],
    landmark: float | None,
    whom: tuple[Population | None, str | None],
) -> _Populations:
    given: object = regimes
    if not isinstance(given, list | tuple):
        raise EstimandError(f"regimes must be a list, such as [Never(), From(6.0)]; got {given!r}.")
    regimes = tuple(regimes)
    seen = _observation(fit)
    window = require_curves(seen, fit.question, regimes=regimes, landmark=landmark)
    start, last = window.start, window.last
    people = fit.exposure.people
    at_risk = (people["begin"].values <= start) & (people["exit"].values > start)
    posterior, design, exposure = fit.posterior, fit.design, fit.exposure
    population, by = whom
    description = "eligible patients at risk at the landmark"
    supplied: list[Group] = []
    if population is not None:
        group = fit.definition.roles.get("group")
        supplied, description = supplied_groups(exposure, population, by=by, group=group)
    elif design.groups:
        description += ", with their own groups' effects"
    found, groups = [], supplied
    changes = [_changes(fit, regime) for regime in regimes]
    first = int(np.flatnonzero(exposure.table["role"].values == "reference")[0])
    for index, name in enumerate(exposure.endpoints):
        if population is None:
            groups = eligible_groups(exposure, at_risk[index], by=by, endpoint=name)
        hazards = np.exp(log_hazard(posterior, design, endpoint=name).shared)
        paths = {
            (class_, regime): make_path(
                hazards[:, class_],
                exposure.cuts,
                entered,
                first=first,
                start=start,
                end=last,
            )
            for class_ in range(design.classes)
            for regime, entered in enumerate(changes)
        }
        members = [
            group.members(posterior, exposure, fit.definition, design, endpoint=name)
            for group in groups
        ]
        found.append(
            [
                [
                    tuple(
                        Part(
                            path=paths[one.class_, regime],
                            relative=one.relative,
                            weight=one.weight,
                            share=one.share,
                        )
                        for one in group
                    )
                    for regime in range(len(regimes))
                ]
                for group in members
            ]
        )
    return _Populations(
        members=found,
        regimes=regimes,
        subgroups=None if by is None else tuple(group.label for group in groups),
        description=description if by is None else f"{description}, by {by}",
        start=start,
        last=last,
    )


def _changes(fit: Fit, regime: Regime) -> list[tuple[float, int]]:
    """When a regime enters which states, in the order of time."""
    table, question = fit.exposure.table, fit.question
    treatment = table["treatment"].values.astype(str)
    since = table["since"].values
    found = []
    for phase, time in regime.changes(question.exposed):
        lag = question.lag if phase == question.exposed else 0.0
        states = np.flatnonzero(treatment == phase)
        # A piece that ends before the lag is never entered.
        begun = [state for state in states if since[state] <= lag] or [states[0]]
        found.append((time + lag, int(begun[-1])))
        found += [
            (time + float(since[state]), int(state)) for state in states if since[state] > lag
        ]
    later = [time for time, _ in found]
    # A phase ends where the next one is entered, whatever its pieces.
    return [
        (time, state)
        for index, (time, state) in enumerate(found)
        if all(time < other for other in later[index + 1 :])
    ]


def _observation(fit: Fit) -> Observation:
    people, spent = fit.exposure.people, fit.exposure.episodes
    names = fit.exposure.endpoints
    earliest: dict[str, float] = {}
    for index, phase in enumerate(fit.exposure.table["treatment"].values):
        begun = float(spent["start"].values[spent["phase"].values == index].min())
        earliest[str(phase)] = min(begun, earliest.get(str(phase), np.inf))
    return Observation(
        begin=dict(zip(names, people["begin"].values, strict=True)),
        end=dict(zip(names, people["exit"].values, strict=True)),
        earliest=earliest,
        unit=fit.exposure.unit,
    )


def _over_time(
    fit: Fit,
    name: str,
    regimes: Sequence[Regime],
    times: ArrayLike | None,
    landmark: float | None,
    whom: tuple[Population | None, str | None],
    evaluate: Callable[[tuple[Part, ...], Floats], Floats],
) -> xr.Dataset:
    populations = _populations(fit, regimes, landmark, whom)
    start = populations.start
    if times is None:
        times = np.linspace(start, populations.last, DEFAULT_TIMES)
    try:
        grid = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise EstimandError(f"times must be numbers, got {times!r}.") from None
    if grid.ndim != 1 or not np.isfinite(grid).all():
        raise EstimandError("times must be a flat sequence of finite numbers.")
    if grid.size:
        seen, asked = _observation(fit), populations.regimes
        require_curves(seen, fit.question, regimes=asked, landmark=start, times=grid.tolist())
    values = _collect(fit, populations, lambda one: evaluate(one, grid), ("time",))
    return _dataset(fit, {name: values.assign_coords(time=grid)}, populations)


def _collect(
    fit: Fit,
    populations: _Populations,
    evaluate: Callable[[tuple[Part, ...]], Floats],
    dims: tuple[str, ...] = (),
) -> xr.DataArray:
    """Evaluate all; (chain, draw, endpoint, [subgroup,] regime, *dims)."""
    sizes = fit.posterior.sizes
    stacked = np.stack(
        [
            np.stack([np.stack([evaluate(one) for one in row]) for row in groups])
            for groups in populations.members
        ]
    )
    values = np.moveaxis(stacked, 3, 0)
    coords = {
        "chain": fit.posterior["chain"],
        "draw": fit.posterior["draw"],
        "endpoint": list(fit.exposure.endpoints),
        "regime": [regime.label for regime in populations.regimes],
    }
    over: tuple[str, ...] = ("chain", "draw", "endpoint", "subgroup", "regime", *dims)
    if populations.subgroups is None:
        values = values[:, :, 0]
        over = tuple(dim for dim in over if dim != "subgroup")
    else:
        coords["subgroup"] = list(populations.subgroups)
    shape = (sizes["chain"], sizes["draw"], *values.shape[1:])
    return xr.DataArray(np.ascontiguousarray(values).reshape(shape), dims=over, coords=coords)


def _dataset(
    fit: Fit, variables: dict[str, xr.DataArray], populations: _Populations, **more: float
) -> xr.Dataset:
    return xr.Dataset(
        variables,
        attrs={
            **attributes_of(fit),
            "landmark": populations.start,
            "unit": fit.exposure.unit,
            "population": populations.description,
            "kind": "marginal: averaged over the covariates of the population",
            **more,
        },
    )


def _check_horizon(horizon: float, populations: _Populations) -> None:
    if not populations.start < horizon <= populations.last * (1 + 1e-9):
        raise EstimandError(
            f"horizon must lie after the landmark {populations.start:g} and within follow-up, "
            f"which ends at {populations.last:g}; got {horizon!r}."
        )
