"""Hazard ratios between phases or covariate values, what stands beside them, and conclusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import EstimandError, nearest, require_choice, require_kind
from bayesblina.estimands.draws import attributes_of, by_draw
from bayesblina.estimands.populations import supplied_groups
from bayesblina.hazards.effects import Design
from bayesblina.hazards.log_hazards import phase_ratios, relative_of
from bayesblina.hazards.parts import PatientFrailty
from bayesblina.inference.baseline_gate import RATIOS, judge, stated_of
from bayesblina.inference.companion import Companion
from bayesblina.inference.fitting import Fit

SIDES = ("exposed", "reference")
INTERVAL_ENDS = ("interval_start", "interval_stop")
# The companion's interval that stands beside the answer.
TAIL = 0.025
# Over what a hazard ratio is given.
Over = Literal["average", "interval", "step"]
# A phase, several phases, or values of covariates.
Side = str | Sequence[str] | Mapping[str, str | float]
# What is concluded of the exposed phase's hazard: that it is lower, or that it is higher.
Direction = Literal["lower", "higher"]
# Whose conclusion it is: the analysis's own, or what was said of it.
OWN, GIVEN = "base case", "given"


def hazard_ratio(
    fit: Fit,
    *,
    exposed: Side | None = None,
    reference: Side | None = None,
    over: Over = "average",
    by: str | None = None,
) -> xr.Dataset:
    """Hazard ratio between phases, sets of phases, or covariate values, by draw.

    A set of phases has the mean of its phases' hazards, weighted in each interval by the
    person-time spent in them (where there is none, by that of all intervals). So a ratio of sets
    may change over time although the phases' own ratios do not. A phase that the model cuts by time
    since entering it is such a set, of its pieces.

    Parameters
    ----------
    fit
        The fit.
    exposed, reference
        What is compared, both of one kind: a phase; a list of phases; or a mapping of covariates
        to values, others being equal. By default the question's exposed phase against its
        reference, which may be all other phases together.
    over
        ``"average"``: one ratio, the geometric mean over intervals weighted by the endpoint's
        events, which is the average over the event times of those at risk. ``"interval"``: the
        ratio in each interval. ``"step"``: the exposed phase's ratio by step of the question's
        measure (time since entering it, without one), in a model in which it varies so, averaged
        over intervals by the events in the step.
    by
        Covariate by whose levels the phase's effect differs in the model (its subgroup): one ratio
        for each level. Without it the ratio is averaged over levels, too, by their events.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint), or (chain, draw, endpoint, interval) with
        the coordinates ``interval_start`` and ``interval_stop``, or (chain, draw, endpoint, step)
        with the names of the steps, and with the coordinate ``begins``: the time, amount or number
        from which on the measure is in the step (missing where time since the end has not begun,
        since the patient is in the phase); the attribute ``scale`` names what it counts, and
        ``measure`` and ``amount`` are the question's. With `by` over
        (..., subgroup). It is conditional on the
        covariates in the model; the attributes say so. For the marginal ratio, which fades over
        time, compare `hazard` between regimes. In a model with cured patients it is the ratio
        among those who are not; `average_hazard_ratio` is that of all.

    Raises
    ------
    EstimandError
        If phases or covariates are unknown, the two sides are of different kinds or equal, or a
        side has a part only of the phases that share the reference's hazard in the model.

    Notes
    -----
    Average hazard ratios: Kalbfleisch and Prentice (1981), doi:10.1093/biomet/68.1.105.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.hazard_ratio(fit)["hazard_ratio"].dims
    ('chain', 'draw', 'endpoint')
    >>> older = bb.hazard_ratio(fit, exposed={"age_group": "55+"}, reference={"age_group": "18-34"})
    >>> older.attrs["exposed"]
    'age_group 55+'
    """
    require_kind(fit, Fit, "fit")
    ratio = _ratio(fit, exposed, reference, over=over, by=by)
    bare = without_baseline(fit)
    other = None if bare is None else _ratio(bare, exposed, reference, over=over, by=by).values
    return _dataset(fit, ratio, other)


def _dataset(fit: Fit, own: xr.DataArray, companion: Floats | None) -> xr.Dataset:
    dims = tuple(str(dim) for dim in own.dims[2:])
    kind = "conditional on covariates" if fit.design.term_names else "without covariates"
    whose = "patient" if isinstance(fit.definition.groups, PatientFrailty) else "group"
    conditions = {
        f", given the {whose}'s own effect": fit.design.groups,
        ", among patients who are not cured": fit.definition.cure is not None,
        ", of current patients": fit.design.sources,
    }
    kind += "".join(words for words, holds in conditions.items() if holds)
    return xr.Dataset(
        {"hazard_ratio": (own.dims, np.exp(own.values))},
        coords={
            **own.coords,
            **beside(fit, own.values, companion, dims, list(fit.person_time.endpoints)),
        },
        attrs={**attributes_of(fit), **own.attrs, "kind": kind, "unit": fit.person_time.unit},
    )


def answer(fit: Fit) -> Floats:
    """Log hazard ratio (draws, endpoint) of the question's phase, as `hazard_ratio` averages."""
    ratio = _ratio(fit, None, None, over="average", by=None)
    return np.asarray(ratio.values.reshape(-1, ratio.sizes["endpoint"]))


def _ratio(
    fit: Fit,
    exposed: Side | None,
    reference: Side | None,
    *,
    over: Over,
    by: str | None,
) -> xr.DataArray:
    """Work out the logarithm of what `hazard_ratio` gives; its attributes say what is compared."""
    require_choice(over, get_args(Over), "over", error=EstimandError)
    if by is not None and fit.definition.roles.get("subgroup") != by:
        raise EstimandError(
            f"The hazard ratio does not differ by '{by}' in model '{fit.definition.name}'. Fit the "
            "model 'by_subgroup' with that covariate as its subgroup."
        )
    question, table = fit.question, fit.person_time.table
    default = exposed is None and reference is None
    if exposed is None:
        exposed = question.exposure
    if reference is None:
        if isinstance(exposed, Mapping):
            raise EstimandError("Give the reference's covariates too.")
        reference = table["treatment"].values[table["role"].values == "reference"].tolist()
    if isinstance(exposed, Mapping) and isinstance(reference, Mapping):
        if over == "step" or by is not None:
            raise EstimandError("A ratio between covariate values varies with neither.")
        labels = [
            ", ".join(f"{name} {value}" for name, value in side.items())
            for side in (exposed, reference)
        ]
        between = _between_covariates(fit, exposed, reference)
        return _over_time(fit, between, over, by).assign_attrs(zip(SIDES, labels, strict=True))
    if isinstance(exposed, Mapping) or isinstance(reference, Mapping):
        raise EstimandError("Compare phases with phases, or covariates with covariates.")
    sides = [_phases(fit, side) for side in (exposed, reference)]
    both = set(sides[0]) & set(sides[1])
    if both:
        raise EstimandError(f"{' and '.join(sorted(both))} stands on both sides.")
    labels = [" or ".join(side) for side in sides]
    if default:
        labels[1] = question.reference or f"no {question.exposure}"
    else:
        _require_apart(fit, sides)
    if over == "step":
        ratio = _by_step(fit, sides, by=by)
    else:
        treatment = table["treatment"].values.astype(str)
        states = [np.flatnonzero(np.isin(treatment, side)) for side in sides]
        ratio = _over_time(fit, _between_states(fit, *states), over, by)
    return ratio.assign_attrs(zip(SIDES, labels, strict=True))


def _over_time(fit: Fit, log_ratio: Floats, over: str, by: str | None) -> xr.DataArray:
    """Average a log ratio of shape (draws, endpoint, class or 1, interval), weighted by events."""
    design, table = fit.design, fit.person_time.table
    strata, subgroups = design.current_classes, [""]
    if by is not None:
        strata, subgroups = len(design.strata), list(design.subgroups)
    # Events of current patients, (endpoint, class, interval).
    events = table["events"].sum("phase").values.astype(np.float64)
    events = np.einsum("ejp,cp->ecj", events, _current_members(design))
    weights = events.reshape(events.shape[0], strata, len(subgroups), -1)
    by_class = np.broadcast_to(log_ratio, (log_ratio.shape[0], *events.shape))
    values = _averaged(by_class.reshape(-1, *weights.shape), weights, axis=2)[:, :, 0]
    dims: tuple[str, ...] = ("endpoint", "subgroup")
    coords: dict[str, object] = {"endpoint": table["endpoint"].values, "subgroup": subgroups}
    if over == "average":
        values = _averaged(values, weights.sum(axis=1), axis=3)[..., 0]
    else:
        dims = (*dims, "interval")
        ends = {name: ("interval", table[name].values) for name in INTERVAL_ENDS}
        coords |= {"interval": table["interval"].values, **ends}
    ratio = by_draw(fit, values, dims, **coords)
    return ratio.isel(subgroup=0, drop=True) if by is None else ratio


def _current_members(design: Design) -> NDArray[np.bool_]:
    """Say which patterns are of current patients of which class, shape (class, pattern)."""
    member = design.member[: design.current_classes]
    return np.asarray(member & design.is_current if design.sources else member)


def _averaged(values: Floats, weights: Floats, *, axis: int) -> Floats:
    """Average over an axis that stays, with length 1; shape (draws, endpoint, ...).

    Weights have the shape of the values without the draws. Where values do not differ, their
    average is exactly they.
    """
    if values.shape[axis] == 1:
        return values
    broadcast = np.broadcast_to(weights, values.shape[1:])
    total = broadcast.sum(axis=axis - 1, keepdims=True)
    # Where there are no events at all, everything counts alike.
    even = np.full(broadcast.shape, 1.0 / values.shape[axis])
    share = np.divide(broadcast, total, out=even, where=total > 0)
    mean = (values * share).sum(axis=axis, keepdims=True)
    constant = np.ptp(values, axis=axis, keepdims=True) == 0
    return np.where(constant, np.take(values, [0], axis=axis), mean)


def _by_step(fit: Fit, sides: list[list[str]], *, by: str | None) -> xr.DataArray:
    table, (exposed, reference) = fit.person_time.table, sides
    treatment = table["treatment"].values.astype(str)
    states = np.flatnonzero(treatment == exposed[0])
    if len(exposed) > 1 or by is not None or "log_hazard_ratio_by_piece" not in fit.posterior:
        raise EstimandError(
            "Only the exposed phase of a model in which its effect varies by step, such as with "
            "time since entering it, has a ratio by step: fit the model 'since_entry'."
        )
    others = np.flatnonzero(np.isin(treatment, reference))
    events = table["events"].sum("pattern").values.astype(np.float64)
    by_step = []
    for state in states:
        ratio = _between_states(fit, np.array([state]), others)
        weights = np.broadcast_to(events[:, None, :, state], ratio.shape[1:])
        averaged = _averaged(ratio, weights, axis=2)
        by_step.append(_averaged(averaged, weights[:, :1], axis=3)[:, :, 0, 0])
    begins = table["since"].values[states]
    return by_draw(
        fit,
        np.stack(by_step, axis=2),
        ("endpoint", "step"),
        endpoint=table["endpoint"].values,
        step=[str(name) for name in table["phase"].values[states]],
        # While a patient is in the phase, time since its end has not begun.
        begins=("step", np.where(begins < 0, np.nan, begins)),
    ).assign_attrs(
        scale=fit.question.scale(fit.person_time.unit),
        measure=fit.question.measure or "since_entry",
        amount=fit.question.amount,
    )


def _phases(fit: Fit, side: object) -> list[str]:
    if not isinstance(side, str | list | tuple):
        raise EstimandError(f"Expected a phase, a list of phases or covariates, got {side!r}.")
    known = list(dict.fromkeys(str(name) for name in fit.person_time.table["treatment"].values))
    names = [side] if isinstance(side, str) else list(side)
    if len(set(names)) != len(names):
        raise EstimandError(f"A phase stands twice in {names!r}.")
    if not names:
        raise EstimandError("An empty set of phases has no hazard.")
    for name in names:
        if name not in known:
            raise EstimandError(
                f"No eligible patient is ever in '{name}'. {nearest(str(name), known)}"
            )
    return names


def _require_apart(fit: Fit, sides: Sequence[Sequence[str]]) -> None:
    """Refuse phases that the model tells from others on no side, having given all one hazard."""
    table = fit.person_time.table
    treatment, role = table["treatment"].values.astype(str), table["role"].values.astype(str)
    shared = list(dict.fromkeys(treatment[role == "reference"].tolist()))
    for side in sides:
        mixed = [name for name in side if name in shared]
        others = [name for name in shared if name not in mixed]
        # Without others: the reference's own hazard, together with that of more phases.
        if mixed and others:
            named = next(name for names in sides for name in names if name in shared)
            raise EstimandError(
                f"The fit has one hazard for {', '.join(shared)} together, the reference of its "
                f"question, so that it cannot tell {' or '.join(mixed)} from {others[0]}: the "
                "ratio would be diluted. Fit a question that names the reference, which gives "
                "every other phase an effect of its own: "
                f"Question(exposed={fit.question.exposure!r}, reference={named!r}, ...)."
            )


def _between_states(fit: Fit, exposed: Ints, reference: Ints) -> Floats:
    """Log ratio of sets of states for current patients, (draws, endpoint, class, interval)."""
    table, design, posterior = fit.person_time.table, fit.design, fit.posterior
    intervals = table.sizes["interval"]
    # (endpoint, class, interval, state)
    time = np.einsum("ejkp,cp->ecjk", table["person_time"].values, _current_members(design))
    by_endpoint = []
    for index, endpoint in enumerate(fit.person_time.endpoints):
        ratio = phase_ratios(posterior, design, endpoint=endpoint, intervals=intervals)
        sides = []
        for states in (exposed, reference):
            logs = ratio[:, : design.current_classes][..., states]
            if np.ptp(logs, axis=-1).max() == 0:
                # Phases that share a hazard have it, however time divides between them.
                sides.append(logs[..., 0])
                continue
            weight = time[index][..., states]
            everywhere = weight.sum(axis=1, keepdims=True)
            even = np.broadcast_to(np.where(everywhere > 0, everywhere, 1.0), weight.shape)
            weight = np.where(weight.sum(axis=-1, keepdims=True) > 0, weight, even)
            share = weight / weight.sum(axis=-1, keepdims=True)
            sides.append(np.log((np.exp(logs) * share).sum(axis=-1)))
        by_endpoint.append(sides[0] - sides[1])
    return np.stack(by_endpoint, axis=1)


def _between_covariates(
    fit: Fit, exposed: Mapping[str, str | float], reference: Mapping[str, str | float]
) -> Floats:
    """Log ratio, shape (draws, endpoint, 1, 1): the same in all classes and intervals."""
    if set(exposed) != set(reference):
        raise EstimandError(
            "Give both sides the same covariates: others are equal, whatever they are."
        )
    if dict(exposed) == dict(reference):
        raise EstimandError("The two sides are equal.")
    apart = [name for name in fit.definition.roles.values() if name in exposed]
    if apart:
        raise EstimandError(
            f"{apart[0]} has a part of its own in model '{fit.definition.name}', not one hazard "
            "ratio. Compare curves of its levels: survival(..., by=...)."
        )
    equal = {
        covariate.name: covariate.levels[0] if covariate.kind == "categorical" else covariate.low
        for covariate in fit.person_time.covariates
    }
    sides = [
        supplied_groups(fit.person_time, {**equal, **side}, by=None)[0][0].terms
        for side in (exposed, reference)
    ]
    first, second = (
        np.stack(
            [
                relative_of(fit.posterior, fit.design, standardised, endpoint=endpoint)
                for endpoint in fit.person_time.endpoints
            ],
            axis=1,
        )
        for standardised in map(fit.design.standardised, sides)
    )
    return np.asarray((first - second)[..., None])


def without_baseline(fit: Fit, companion: Companion | None = None) -> Fit | None:
    """Put the companion's draws in place of a fit's, so that ratios can be read off them.

    Without a baseline it has hazard ratios and no hazards. None where there is no companion.
    """
    draws = (fit.companion if companion is None else companion).draws
    posterior = fit.posterior
    if draws is None or any(name in posterior and name not in draws for name in RATIOS):
        return None
    return replace(fit, draws=xr.DataTree.from_dict({"/posterior": draws}))


def beside(
    fit: Fit, own: Floats, companion: Floats | None, dims: tuple[str, ...], endpoints: list[str]
) -> dict[str, tuple[tuple[str, ...], NDArray[np.generic]]]:
    """Work out what stands beside each hazard ratio.

    Coordinates: ``baseline`` (its state), ``baseline_shift`` (in sds of the companion), and
    ``companion_median``, ``companion_lower``, ``companion_upper`` (95 %) and
    ``companion_probability_below_1`` of the hazard ratio, where there is a companion; and
    ``event_times`` (its state) over the endpoints.

    `own`, shape (chain, draw, endpoint, ...): its log hazard ratios.
    `companion`, shape (1, draw, endpoint, ...): the companion's.
    """
    shape = own.shape[2:]
    columns: dict[str, NDArray[np.generic]]
    if companion is None:
        states = np.array([fit.gate.state_of(name) for name in endpoints], dtype=str)
        columns = {"baseline": np.repeat(states, own[0, 0, 0].size)}
    else:
        labels = [{"endpoint": endpoints[index]} for index in np.indices(shape)[0].ravel()]
        errors = stated_of(fit.companion.table, labels, "error")
        flat = companion.reshape(*companion.shape[:2], -1)
        judged = judge(
            own.reshape(*own.shape[:2], -1),
            flat,
            effective=stated_of(fit.companion.table, labels, "effective_draws"),
            error=0.0 if errors is None else np.nan_to_num(errors),
        )
        low, middle, high = np.exp(np.quantile(flat, [TAIL, 0.5, 1.0 - TAIL], axis=(0, 1)))
        columns = {
            "companion_median": middle,
            "companion_lower": low,
            "companion_upper": high,
            "companion_probability_below_1": (flat < 0.0).mean(axis=(0, 1)),
            "baseline": judged["state"].to_numpy(dtype=str),
            "baseline_shift": judged["shift"].to_numpy(),
        }
    coords: dict[str, tuple[tuple[str, ...], NDArray[np.generic]]] = {
        name: (dims, values.reshape(shape)) for name, values in columns.items()
    }
    if fit.event_times is not None:
        state = fit.event_times.table.set_index("endpoint")["state"]
        coords["event_times"] = (dims[:1], state.loc[endpoints].to_numpy(dtype=str))
    return coords


def require_direction(direction: object) -> None:
    """Refuse what is no direction of a conclusion.

    >>> require_direction("benefit")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: direction must be 'lower' or 'higher', got 'benefit'.
    """
    if direction is not None:
        require_choice(direction, get_args(Direction), "direction")


def sign_of(direction: str) -> str:
    """Give the sign of a hazard ratio against 1 that a direction means.

    >>> sign_of("higher")
    '>'
    """
    return "<" if direction == "lower" else ">"


def whose_conclusion(source: str) -> str:
    """Say whose conclusion it is.

    >>> whose_conclusion("base case")
    "the base case's conclusion"
    """
    return "the base case's conclusion" if source == OWN else "the conclusion"
