"""Averages over patients under regimes: whose, from when on, of how many draws at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.estimands.draws import attributes_of, blocks, by_draw
from bayesblina.estimands.paths import PathMixture, PathPart, make_path
from bayesblina.estimands.populations import Group, Members, Population, groups_of
from bayesblina.estimands.regimes import Regime, states_under
from bayesblina.estimands.states import RegimeCourses, Route, StateAverage
from bayesblina.estimands.windows import Observation, Window, observation_of, require_curves
from bayesblina.hazards.log_hazards import NODES, group_sd, log_hazard
from bayesblina.inference.drawing import swings
from bayesblina.inference.fitting import Fit
from bayesblina.patients.cohort import Cohort

DEFAULT_TIMES = 51
# Numbers held at once: draws x patterns of covariates.
LARGEST = 20_000_000
# Compressed covariates may change survival averaged over patients by this much at most.
LARGEST_SURVIVAL_ERROR = 1e-3

# The average over patients of one endpoint's courses under one regime.
Average = PathMixture | StateAverage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Averages:
    """Courses by endpoint, subgroup and regime.

    `members`: by endpoint, subgroup and regime.
    `endpoints`, `regimes`: what they are.
    `subgroups`: labels of the subgroups; None where there are none.
    `description`: who the patients are.
    `window`: the landmark, and the end of follow-up.
    `error`: bound of what compressed covariates change in survival averaged over them; 0 where the
    covariates are the patients' own.
    """

    members: list[list[list[Average]]]
    endpoints: tuple[str, ...]
    regimes: tuple[Regime, ...]
    subgroups: tuple[str, ...] | None
    description: str
    window: Window
    error: float

    def grid(self, times: ArrayLike | None) -> Floats:
        """Take the times asked for, or equal steps from the landmark to the end of follow-up."""
        window = self.window
        if times is None:
            return np.linspace(window.start, window.last, DEFAULT_TIMES)
        try:
            grid = np.asarray(times, dtype=np.float64)
        except (TypeError, ValueError):
            raise EstimandError(f"times must be numbers, got {times!r}.") from None
        if grid.ndim != 1 or not np.isfinite(grid).all():
            raise EstimandError("times must be a flat sequence of finite numbers.")
        return grid


def in_blocks(
    fit: Fit,
    estimate: Callable[[Fit, Averages], xr.Dataset],
    *,
    regimes: Sequence[Regime],
    landmark: float | None,
    population: Population | None,
    by: str | None,
) -> xr.Dataset:
    """Estimate for some draws at a time, so that memory does not grow with the population.

    `estimate`: estimates draw by draw: from the fit with some of its draws, and averages of these.
    """
    require_kind(fit, Fit, "fit")
    sizes, patterns = fit.posterior.sizes, fit.person_time.table.sizes["pattern"]
    if population is not None:
        patterns = population.size if isinstance(population, Cohort) else 1
        if group_sd(fit.posterior, endpoint=fit.person_time.endpoints[0]) is not None:
            patterns *= NODES
    slices = list(blocks(sizes["draw"], sizes["chain"] * patterns, most=LARGEST))
    if len(slices) == 1:
        return estimate(fit, averages_of(fit, regimes, landmark, population, by))
    parts = []
    # Draws without numbers get theirs before they are taken apart.
    posterior = fit.posterior.assign_coords(draw=fit.posterior["draw"].values)
    for rows in slices:
        part = replace(fit, draws=xr.DataTree.from_dict({"/posterior": posterior.isel(draw=rows)}))
        parts.append(estimate(part, averages_of(part, regimes, landmark, population, by)))
    joined = xr.concat(parts, dim="draw", data_vars="all", join="exact", combine_attrs="override")
    if not any("survival_error" in part.attrs for part in parts):
        return joined
    # Several covariates need not swing furthest in the same draws.
    return joined.assign_attrs({"survival_error": _survival_error(fit, population)})


def _survival_error(fit: Fit, population: Population | None) -> float:
    """Bound what compressed covariates change in survival averaged over them; refuse too much."""
    person_time = fit.person_time
    compression = person_time.compression
    if compression is None or population is not None:
        return 0.0
    largest = swings(person_time, fit.posterior, fit.design)
    error = compression.survival_error(largest, courses=person_time.courses is not None)
    if error > LARGEST_SURVIVAL_ERROR:
        raise EstimandError(
            "Log hazard ratios of the continuous covariates are so large that survival averaged "
            f"over the patients may be off by {error:.1g}, since the covariates are compressed: "
            "fit with compress=False, or pass the patients (or a sample of them) as population."
        )
    return error


def averages_of(
    fit: Fit,
    regimes: Sequence[Regime],
    landmark: float | None,
    population: Population | None,
    by: str | None,
) -> Averages:
    """Work out the courses under regimes of the patients to average over."""
    given: object = regimes
    if not isinstance(given, list | tuple):
        raise EstimandError(f"regimes must be a list, such as [Never(), From(6.0)]; got {given!r}.")
    regimes = tuple(regimes)
    person_time, courses = fit.person_time, fit.person_time.courses
    window = require_curves(
        observed_by(fit),
        fit.question,
        regimes=regimes,
        landmark=landmark,
        layout=person_time.layout,
    )
    error = _survival_error(fit, population)
    # All transitions of a course are of the same patients.
    names = person_time.endpoints if courses is None else person_time.endpoints[:1]
    own = ", with their own groups' effects" if fit.design.groups else ""
    groups, description = groups_of(
        fit,
        population,
        by=by,
        at_risk=None if population is not None else person_time.at_risk(window.start)[: len(names)],
        who=f"eligible patients at risk at the landmark{own}",
    )
    first = int(np.flatnonzero(person_time.table["role"].values == "reference")[0])
    routes = [
        Route(
            changes=tuple(changes_of(fit, regime)), first=first, start=window.start, end=window.last
        )
        for regime in regimes
    ]
    if courses is None:
        members = [
            _of_endpoint(fit, name, of_name, routes)
            for name, of_name in zip(names, groups, strict=True)
        ]
    else:
        followed = [
            [RegimeCourses.of(fit, group, route) for route in routes] for group in groups[0]
        ]
        members = [
            [[StateAverage(courses=each, of_death=of_death) for each in row] for row in followed]
            for of_death in (True, False)
        ]
    return Averages(
        members=members,
        endpoints=courses or names,
        regimes=regimes,
        subgroups=None if by is None else tuple(group.label for group in groups[-1]),
        description=description,
        window=window,
        error=error,
    )


def _of_endpoint(
    fit: Fit, name: str, groups: list[Group], routes: list[Route]
) -> list[list[Average]]:
    """Averages of one endpoint, by group and regime."""
    hazards = np.exp(log_hazard(fit.posterior, fit.design, endpoint=name).shared)
    # By route and class.
    paths = [
        [
            make_path(
                hazards[:, class_],
                fit.person_time.cuts,
                list(route.changes),
                first=route.first,
                start=route.start,
                end=route.end,
            )
            for class_ in range(fit.design.current_classes)
        ]
        for route in routes
    ]

    def mixture(of_route: list[PiecewiseHazard], members: list[Members]) -> Average:
        parts = (PathPart(path=of_route[member.class_], members=member) for member in members)
        return PathMixture(parts=tuple(parts))

    of_groups = [group.members(fit, endpoint=name, landmark=routes[0].start) for group in groups]
    return [[mixture(of_route, members) for of_route in paths] for members in of_groups]


def changes_of(fit: Fit, regime: Regime) -> list[tuple[float, int]]:
    """When a regime enters which states, in the order of time."""
    table, question, layout = fit.person_time.table, fit.question, fit.person_time.layout
    if layout is not None:
        seen = table["phase"].values.tolist()
        entered = states_under(regime, layout)
        unseen = next((state for _, state in entered if state not in seen), None)
        if unseen is not None:
            raise EstimandError(
                f"'{regime.label}': no eligible patient is ever in '{unseen}', so that its hazard "
                "is not known. Choose steps that patients reach, or a regime that stays within "
                "what was observed."
            )
        return [(time, seen.index(state)) for time, state in entered]
    treatment = table["treatment"].values.astype(str)
    since = table["since"].values
    entries = []
    for phase, time in regime.changes(question.exposure):
        lag = question.lag if phase == question.exposure else 0.0
        states = np.flatnonzero(treatment == phase).tolist()
        # A piece that ends before the lag is never entered.
        begun = [state for state in states if since[state] <= lag] or states[:1]
        entries.append((time + lag, begun[-1]))
        entries += [(time + float(since[state]), state) for state in states if since[state] > lag]
    # A phase ends where the next one is entered, whatever its pieces.
    return [
        (time, state)
        for index, (time, state) in enumerate(entries)
        if all(time < later for later, _ in entries[index + 1 :])
    ]


def observed_by(fit: Fit) -> Observation:
    """Say when the patients of a fit were under observation.

    Of every endpoint; of an illness-death course that of remission, where courses begin.
    """
    person_time = fit.person_time
    names = person_time.endpoints if person_time.courses is None else person_time.endpoints[:1]
    count, table = len(names), person_time.table
    treatment, first_in = table["treatment"].values, table["first_in"].values[:count].min(axis=0)
    firsts = {
        phase: float(first_in[treatment == phase].min())
        for phase in dict.fromkeys(treatment.tolist())
    }
    earliest = {phase: first for phase, first in firsts.items() if first < np.inf}
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
    begin, end, _ = person_time.persons.follow_up(person_time.people)
    return observation_of(
        dict(zip(names, begin[:count], strict=True)),
        dict(zip(names, end[:count], strict=True)),
        earliest,
        unit=person_time.unit,
    )


def collect(
    fit: Fit,
    averages: Averages,
    evaluate: Callable[[Average], Floats],
    dims: tuple[str, ...] = (),
) -> xr.DataArray:
    """Evaluate all; (chain, draw, endpoint, [subgroup,] regime, *dims)."""
    stacked = np.array(
        [
            [[evaluate(average) for average in of_group] for of_group in of_endpoint]
            for of_endpoint in averages.members
        ]
    )
    values = by_draw(
        fit,
        np.moveaxis(stacked, 3, 0),
        ("endpoint", "subgroup", "regime", *dims),
        endpoint=list(averages.endpoints),
        regime=[regime.label for regime in averages.regimes],
    )
    if averages.subgroups is None:
        return values.isel(subgroup=0)
    return values.assign_coords(subgroup=list(averages.subgroups))


def described(
    fit: Fit, variables: dict[str, xr.DataArray], averages: Averages, **more: object
) -> xr.Dataset:
    """Make estimates a dataset that says what they are.

    With the attributes that every estimate has; where covariates are compressed also
    ``survival_error``, the bound of what that changes in averaged survival.
    """
    return xr.Dataset(
        variables,
        attrs={
            **attributes_of(fit),
            "landmark": averages.window.start,
            "unit": fit.person_time.unit,
            "population": averages.description,
            "kind": "marginal: averaged over the covariates of the population",
            **({"survival_error": averages.error} if averages.error else {}),
            **more,
        },
    )


def require_horizon(horizon: object, window: Window) -> None:
    """Refuse a horizon outside follow-up."""
    if isinstance(horizon, bool) or not isinstance(horizon, int | float | np.number):
        kind = "None" if horizon is None else type(horizon).__name__
        raise EstimandError(
            "horizon must be the time up to which time is counted, in the cohort's unit: a number "
            f"after the landmark {window.start:g} and within follow-up, such as horizon="
            f"{window.last:g}, where that ends; got {kind}."
        )
    if not window.start < horizon <= window.last * (1 + 1e-9):
        raise EstimandError(
            f"horizon must lie after the landmark {window.start:g} and within follow-up, "
            f"which ends at {window.last:g}; got {horizon!r}."
        )
