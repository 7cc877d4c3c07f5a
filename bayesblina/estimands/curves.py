"""Curves and times under treatment regimes, by draw, averaged over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arguments import require_kind
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError
from bayesblina.estimands.paths import Mixture, Part, make_path
from bayesblina.estimands.populations import (
    Group,
    Population,
    eligible_groups,
    supplied_groups,
)
from bayesblina.estimands.ratios import attributes_of
from bayesblina.estimands.regimes import Never, Observation, Regime, observation_of, require_curves
from bayesblina.estimands.states import Courses, Route, StateAverage
from bayesblina.estimands.support import with_support
from bayesblina.hazards.likelihood import NODES, group_sd, log_hazard
from bayesblina.inference.drawing import swings
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort

DEFAULT_TIMES = 51
# Numbers held at once: draws x patterns of covariates.
LARGEST = 20_000_000
# Compressed covariates may change survival averaged over patients by this much at most.
LARGEST_SURVIVAL_ERROR = 1e-3

# The average over patients of one endpoint's courses under one regime.
Average = Mixture | StateAverage


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
    require_kind(fit, Fit, "fit")
    curves = _over_time(
        fit,
        "survival",
        regimes,
        times,
        landmark,
        (population, by),
        lambda one, at: one.survival(at),
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
    require_kind(fit, Fit, "fit")

    def evaluate(one: Average, at: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(np.abs(np.log(one.survival(at))))

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
        As for `survival`; or if the model has jumps in place of a hazard.
    """
    require_kind(fit, Fit, "fit")
    fit.definition.require_hazard("A hazard at a time")
    return hazard_of_average(
        fit, regimes=regimes, times=times, landmark=landmark, population=population, by=by
    )


def hazard_of_average(
    fit: Fit,
    *,
    regimes: Sequence[Regime],
    times: ArrayLike | None,
    landmark: float | None,
    population: Population | None,
    by: str | None = None,
) -> xr.Dataset:
    """Work out the hazard of the average over patients, of jumps too, for integrals over time."""
    return _over_time(
        fit,
        "hazard",
        regimes,
        times,
        landmark,
        (population, by),
        lambda one, at: one.hazard(at),
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
    require_kind(fit, Fit, "fit")

    def estimate(part: Fit) -> xr.Dataset:
        populations = populations_of(part, regimes, landmark, (population, by))
        require_horizon(horizon, populations)
        values = _collect(part, populations, lambda one: one.restricted_mean(horizon))
        return described(part, {"rmst": values}, populations, horizon=float(horizon))

    return in_blocks(fit, population, estimate)


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
    require_kind(fit, Fit, "fit")
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
    require_kind(fit, Fit, "fit")
    if not 0 < survival < 1:
        raise EstimandError(f"survival must lie between 0 and 1, got {survival!r}.")

    def estimate(part: Fit) -> xr.Dataset:
        populations = populations_of(part, regimes, landmark, (population, by))
        if survival <= populations.error:
            raise EstimandError(
                f"survival of {survival!r} is not told from 0: averages over compressed covariates "
                f"are known within {populations.error:.1g}. Fit with compress=False, or pass the "
                "patients as population."
            )
        limit = populations.last if horizon is None else float(horizon)
        require_horizon(limit, populations)
        both = _collect(
            part,
            populations,
            lambda one: np.stack(one.quantile(survival, horizon=limit), axis=1),
            ("part",),
        )
        return described(
            part,
            {
                "quantile": both.isel(part=0).where(both.isel(part=1) == 1, np.inf),
                "reached": both.isel(part=1).astype(bool),
            },
            populations,
            horizon=limit,
            survival=float(survival),
        )

    return in_blocks(fit, population, estimate)


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
    require_kind(fit, Fit, "fit")
    return survival_quantile(
        fit, regimes=regimes, landmark=landmark, horizon=horizon, population=population, by=by
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Populations:
    """Courses by endpoint, subgroup and regime.

    Attributes
    ----------
    members : list of list of list of Average
        By endpoint, subgroup and regime.
    endpoints, regimes
        What they are.
    subgroups
        Labels of the subgroups; None where there are none.
    description
        Who the patients are.
    start, last
        The landmark, and the end of follow-up.
    error
        Bound of what compressed covariates change in survival averaged over them; 0 where the
        covariates are the patients' own.
    """

    members: list[list[list[Average]]]
    endpoints: tuple[str, ...]
    regimes: tuple[Regime, ...]
    subgroups: tuple[str, ...] | None
    description: str
    start: float
    last: float
    error: float


def in_blocks(
    fit: Fit, population: Population | None, estimate: Callable[[Fit], xr.Dataset]
) -> xr.Dataset:
    """Estimate for some draws at a time, so that memory does not grow with the population.

    Parameters
    ----------
    estimate
        Estimates from a fit, draw by draw: it gets the fit with some of its draws.
    """
    sizes = fit.posterior.sizes
    patterns = fit.person_time.table.sizes["pattern"]
    if population is not None:
        patterns = population.size if isinstance(population, Cohort) else 1
        if group_sd(fit.posterior, endpoint=fit.person_time.endpoints[0]) is not None:
            patterns *= NODES
    step = max(1, LARGEST // (sizes["chain"] * max(patterns, 1)))
    if step >= sizes["draw"]:
        return estimate(fit)
    parts = []
    # Draws without numbers get theirs before they are taken apart.
    posterior = fit.posterior.assign_coords(draw=fit.posterior["draw"].values)
    for begin in range(0, sizes["draw"], step):
        some = posterior.isel(draw=slice(begin, begin + step))
        parts.append(estimate(replace(fit, draws=xr.DataTree.from_dict({"/posterior": some}))))
    whole = xr.concat(parts, dim="draw", data_vars="all", join="exact", combine_attrs="override")
    if not any("survival_error" in part.attrs for part in parts):
        return whole
    # Several covariates need not swing furthest in the same draws.
    return whole.assign_attrs({"survival_error": _survival_error(fit, population)})


def _survival_error(fit: Fit, population: Population | None) -> float:
    """Bound what compressed covariates change in survival averaged over them; refuse too much."""
    person_time = fit.person_time
    found = person_time.compression
    if found is None or population is not None:
        return 0.0
    largest = swings(person_time, fit.posterior, fit.design)
    error = found.survival_error(largest, courses=person_time.courses is not None)
    if error > LARGEST_SURVIVAL_ERROR:
        raise EstimandError(
            "Log hazard ratios of the continuous covariates are so large that survival averaged "
            f"over the patients may be off by {error:.1g}, since the covariates are compressed: "
            "fit with compress=False, or pass the patients (or a sample of them) as population."
        )
    return error


def populations_of(
    fit: Fit,
    regimes: Sequence[Regime],
    landmark: float | None,
    whom: tuple[Population | None, str | None],
) -> Populations:
    """Work out the courses under regimes of the patients to average over."""
    given: object = regimes
    if not isinstance(given, list | tuple):
        raise EstimandError(f"regimes must be a list, such as [Never(), From(6.0)]; got {given!r}.")
    regimes = tuple(regimes)
    seen = observed_by(fit)
    window = require_curves(seen, fit.question, regimes=regimes, landmark=landmark)
    start, last = window.start, window.last
    design, person_time = fit.design, fit.person_time
    population, by = whom
    error = _survival_error(fit, population)
    description = "eligible patients at risk at the landmark"
    supplied: list[Group] = []
    at_risk = person_time.at_risk(start) if population is None else np.zeros((0, 0))
    if population is not None:
        roles = fit.definition.roles
        supplied, description = supplied_groups(
            person_time, population, by=by, group=roles.get("group"), source=roles.get("source")
        )
    elif design.groups:
        description += ", with their own groups' effects"
    current = None
    if fit.definition.borrowing is not None and population is None:
        current = design.is_current
        description = description.replace("eligible", "current eligible")
    changes = [_changes(fit, regime) for regime in regimes]
    first = int(np.flatnonzero(person_time.table["role"].values == "reference")[0])
    routes = [Route(changes=tuple(one), first=first, start=start, end=last) for one in changes]
    found: list[list[list[Average]]] = []
    groups = supplied
    endpoints = person_time.endpoints
    if person_time.courses is not None:
        if population is None:
            groups = eligible_groups(
                person_time, at_risk[0], by=by, endpoint=endpoints[0], current=current
            )
        courses = [Courses.of(fit, group, route) for group in groups for route in routes]
        for of_death in (True, False):
            averages = [StateAverage(courses=one, of_death=of_death) for one in courses]
            size = len(routes)
            found.append([list(averages[at : at + size]) for at in range(0, len(courses), size)])
        endpoints = person_time.courses
    else:
        for index, name in enumerate(endpoints):
            if population is None:
                groups = eligible_groups(
                    person_time, at_risk[index], by=by, endpoint=name, current=current
                )
            found.append(_of_endpoint(fit, name, groups, routes))
    return Populations(
        members=found,
        endpoints=endpoints,
        regimes=regimes,
        subgroups=None if by is None else tuple(group.label for group in groups),
        description=description if by is None else f"{description}, by {by}",
        start=start,
        last=last,
        error=error,
    )


def _of_endpoint(
    fit: Fit, name: str, groups: list[Group], routes: list[Route]
) -> list[list[Average]]:
    """Averages of one endpoint, by group and regime."""
    hazards = np.exp(log_hazard(fit.posterior, fit.design, endpoint=name).shared)
    paths = {
        (class_, index): make_path(
            hazards[:, class_],
            fit.person_time.cuts,
            list(route.changes),
            first=route.first,
            start=route.start,
            end=route.end,
        )
        for class_ in range(fit.design.current_classes)
        for index, route in enumerate(routes)
    }
    found: list[list[Average]] = []
    for group in groups:
        members = group.members(
            fit.posterior,
            fit.person_time,
            fit.definition,
            fit.design,
            endpoint=name,
            landmark=routes[0].start,
        )
        found.append(
            [
                Mixture(parts=tuple(Part.of(paths[one.class_, index], one) for one in members))
                for index in range(len(routes))
            ]
        )
    return found


def _changes(fit: Fit, regime: Regime) -> list[tuple[float, int]]:
    """When a regime enters which states, in the order of time."""
    table, question = fit.person_time.table, fit.question
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


def observed_by(fit: Fit) -> Observation:
    """Say when the patients of a fit were under observation.

    Of every endpoint; of an illness-death course that of remission, where courses begin.
    """
    person_time = fit.person_time
    names = person_time.endpoints if person_time.courses is None else person_time.endpoints[:1]
    count = len(names)
    table = person_time.table
    earliest: dict[str, float] = {}
    first_in = table["first_in"].values[:count].min(axis=0)
    for phase, first in zip(table["treatment"].values.tolist(), first_in.tolist(), strict=True):
        if first < np.inf:
            earliest[phase] = min(first, earliest.get(phase, np.inf))
    if person_time.risk_sets is not None:
        return Observation(
            first=dict(zip(names, table["first_begin"].values.tolist(), strict=True)),
            last=dict(zip(names, table["last_exit"].values.tolist(), strict=True)),
            median=float(person_time.risk_sets.attrs["median_begin"]),
            times=np.asarray(person_time.risk_sets["landmark"].values),
            anybody=lambda name, time: bool(
                np.abs(person_time.at_risk(time)[names.index(name)]).any()
            ),
            earliest=earliest,
            unit=person_time.unit,
        )
    people = person_time.people
    return observation_of(
        dict(zip(names, people["begin"].values[:count], strict=True)),
        dict(zip(names, people["exit"].values[:count], strict=True)),
        earliest,
        unit=person_time.unit,
    )


def _over_time(
    fit: Fit,
    name: str,
    regimes: Sequence[Regime],
    times: ArrayLike | None,
    landmark: float | None,
    whom: tuple[Population | None, str | None],
    evaluate: Callable[[Average, Floats], Floats],
) -> xr.Dataset:
    def estimate(part: Fit) -> xr.Dataset:
        populations = populations_of(part, regimes, landmark, whom)
        start = populations.start
        try:
            grid = np.asarray(
                np.linspace(start, populations.last, DEFAULT_TIMES) if times is None else times,
                dtype=np.float64,
            )
        except (TypeError, ValueError):
            raise EstimandError(f"times must be numbers, got {times!r}.") from None
        if grid.ndim != 1 or not np.isfinite(grid).all():
            raise EstimandError("times must be a flat sequence of finite numbers.")
        if grid.size:
            seen, asked = observed_by(part), populations.regimes
            require_curves(seen, part.question, regimes=asked, landmark=start, times=grid.tolist())
        values = _collect(part, populations, lambda one: evaluate(one, grid), ("time",))
        return described(part, {name: values.assign_coords(time=grid)}, populations)

    return in_blocks(fit, whom[0], estimate)


def _collect(
    fit: Fit,
    populations: Populations,
    evaluate: Callable[[Average], Floats],
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
        "endpoint": list(populations.endpoints),
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


def described(
    fit: Fit, variables: dict[str, xr.DataArray], populations: Populations, **more: object
) -> xr.Dataset:
    """Make estimates a dataset that says what they are.

    With the attributes that every estimate has; where covariates are compressed also
    ``survival_error``, the bound of what that changes in averaged survival.
    """
    return xr.Dataset(
        variables,
        attrs={
            **attributes_of(fit),
            "landmark": populations.start,
            "unit": fit.person_time.unit,
            "population": populations.description,
            "kind": "marginal: averaged over the covariates of the population",
            **({"survival_error": populations.error} if populations.error else {}),
            **more,
        },
    )


def require_horizon(horizon: float, populations: Populations) -> None:
    """Refuse a horizon outside follow-up.

    Parameters
    ----------
    populations
        Where curves begin and end.
    """
    given: object = horizon
    if isinstance(given, bool) or not isinstance(given, int | float | np.number):
        kind = "None" if given is None else type(given).__name__
        raise EstimandError(
            "horizon must be the time up to which time is counted, in the cohort's unit: a number "
            f"after the landmark {populations.start:g} and within follow-up, such as horizon="
            f"{populations.last:g}, where that ends; got {kind}."
        )
    if not populations.start < horizon <= populations.last * (1 + 1e-9):
        raise EstimandError(
            f"horizon must lie after the landmark {populations.start:g} and within follow-up, "
            f"which ends at {populations.last:g}; got {horizon!r}."
        )
