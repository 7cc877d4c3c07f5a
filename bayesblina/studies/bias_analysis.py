"""What could be wrong with an answer: confounders nobody measured, events nobody saw, dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtri

from bayesblina.core.arguments import require_kind, require_numbers, require_seed
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.core.piecewise import PiecewiseHazard
from bayesblina.estimands.direction import GIVEN, OWN, Direction, require_direction
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.likelihood import hazards_of_patients
from bayesblina.hazards.parts import Free
from bayesblina.inference.convergence import ESS, R_HAT
from bayesblina.inference.fitting import Fit, fit_person_time, weights_of
from bayesblina.inference.mixing import ess_bulk, ess_tail, rhat
from bayesblina.inference.model_data import person_time_for
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import in_cohort_order

# A number that is known, or the ends of the interval that holds 95 % of what it may be.
Uncertain = float | tuple[float, float]


def e_value(ratio: ArrayLike, *, common: bool = False) -> Floats:
    """Smallest strength of an unmeasured confounder that explains a ratio away.

    Parameters
    ----------
    ratio : array_like
        Risk ratios; or hazard ratios, for which `common` decides.
    common
        Whether they are hazard ratios of an event that is common (more than about 15 % have it by
        the end of follow-up), and are first turned into approximate risk ratios.

    Returns
    -------
    ndarray
        E-values, at least 1: the confounder needs a risk ratio of at least this with both the
        exposure and the event. Ratios below 1 count as their inverse.

    Raises
    ------
    SpecError
        If a ratio is not positive and finite.

    Notes
    -----
    VanderWeele and Ding (2017), doi:10.7326/M16-2607.

    Examples
    --------
    >>> e_value([3.9, 1.0]).round(2)
    array([7.26, 1.  ])
    """
    values = require_numbers(ratio, "ratio")
    if not (np.isfinite(values) & (values > 0)).all():
        raise SpecError("Ratios must be finite numbers greater than 0.")
    if common:
        values = (1.0 - 0.5 ** np.sqrt(values)) / (1.0 - 0.5 ** np.sqrt(1.0 / values))
    away = np.maximum(values, 1.0 / values)
    return np.asarray(away + np.sqrt(away * (away - 1.0)))


def e_values(
    fit: Fit, *, common: bool = True, null: float = 1.0, direction: Direction | None = None
) -> xr.Dataset:
    """Say by draw what a confounder must be to undo the conclusion, of a benefit or of a harm.

    Parameters
    ----------
    fit
        The fit.
    common
        Whether the event is common, as for `e_value`.
    null
        Hazard ratio to which the conclusion is to be explained away.
    direction
        The conclusion: that the hazard ratio is ``"lower"`` than `null`, or ``"higher"``. By
        default that of the fit, by estimate: where half of the draws or more lie.

    Returns
    -------
    xarray.Dataset
        ``e_value`` over (chain, draw, endpoint): that of the draw's hazard ratio over `null`; 1
        in draws on the other side, which need no confounder to be undone. Its lower quantile is
        the E-value of that end of the hazard ratio's interval that is nearer to `null`. The
        coordinate ``direction``, which `summary` keeps, says what is undone, and the attribute
        ``direction_of`` whose conclusion that is: the ``"base case"``'s, or ``"given"``.

    Raises
    ------
    SpecError
        If `null` is not positive, or the direction is neither.

    Notes
    -----
    VanderWeele and Ding (2017), doi:10.7326/M16-2607.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> found = bb.e_values(fit)
    >>> float(found["e_value"].median()) > 1
    True
    >>> found["direction"].values.tolist()
    ['lower', 'lower']
    """
    require_kind(fit, Fit, "fit")
    if not 0 < null < math.inf:
        raise SpecError(f"null must be a hazard ratio greater than 0, got {null!r}.")
    require_direction(direction)
    ratios = hazard_ratio(fit)
    relative = ratios["hazard_ratio"] / null
    below = (relative < 1.0).mean(("chain", "draw")) >= 0.5
    lower = below if direction is None else xr.full_like(below, direction == "lower")
    concluded = relative.where((relative < 1.0) == lower, 1.0).transpose(
        *ratios["hazard_ratio"].dims
    )
    values = ratios["hazard_ratio"].copy(data=e_value(concluded.values, common=common))
    sides = np.where(lower.values, "lower", "higher")
    return xr.Dataset(
        {"e_value": values.assign_coords(direction=(lower.dims, sides))},
        attrs={
            **ratios.attrs,
            "null": float(null),
            "direction_of": OWN if direction is None else GIVEN,
        },
    )


def bounding_factor(exposure_ratio: ArrayLike, event_ratio: ArrayLike) -> Floats:
    """Largest factor by which a confounder can bias a risk ratio.

    Parameters
    ----------
    exposure_ratio, event_ratio : array_like
        The confounder's risk ratios with the exposure and with the event, at least 1.

    Returns
    -------
    ndarray
        The factor.

    Raises
    ------
    SpecError
        If a ratio is below 1.

    Notes
    -----
    Ding and VanderWeele (2016), doi:10.1097/EDE.0000000000000457.

    Examples
    --------
    >>> float(bounding_factor(2.0, 1.5))
    1.2
    """
    one = require_numbers(exposure_ratio, "exposure_ratio")
    other = require_numbers(event_ratio, "event_ratio")
    if not ((one >= 1).all() and (other >= 1).all()):
        raise SpecError("Ratios must be at least 1: take the inverse of one that is below.")
    return np.asarray(one * other / (one + other - 1.0))


def adjust_for_confounder(
    fit: Fit,
    *,
    prevalence_exposed: Uncertain,
    prevalence_unexposed: Uncertain,
    confounder_ratio: Uncertain,
    seed: int,
) -> xr.Dataset:
    """Take an unmeasured confounder out of the hazard ratio, draw by draw.

    Parameters
    ----------
    fit
        The fit.
    prevalence_exposed, prevalence_unexposed
        Share of patients with the confounder among exposed and unexposed patient-time: a number,
        or the interval that holds 95 % of it (normal on the log-odds scale).
    confounder_ratio
        Hazard ratio of the event with the confounder: a number, or an interval (normal on the log
        scale).
    seed
        Seed of what is uncertain.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint), as it would be without the confounder.

    Raises
    ------
    SpecError
        If a number or an interval is impossible.

    Notes
    -----
    Lin, Psaty and Kronmal (1998), doi:10.2307/2533848; approximate where the event is common and
    the confounder strong.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> adjusted = bb.adjust_for_confounder(
    ...     fit,
    ...     prevalence_exposed=0.2,
    ...     prevalence_unexposed=(0.3, 0.5),
    ...     confounder_ratio=(1.5, 3.0),
    ...     seed=1,
    ... )
    >>> bool(adjusted["hazard_ratio"].median() > bb.hazard_ratio(fit)["hazard_ratio"].median())
    True
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    ratios = hazard_ratio(fit)
    generator = np.random.default_rng(seed)
    shape = ratios["hazard_ratio"].transpose("chain", "draw", ...).shape[:2]
    exposed = _shares("prevalence_exposed", prevalence_exposed, shape, generator)
    unexposed = _shares("prevalence_unexposed", prevalence_unexposed, shape, generator)
    strength = _ratios("confounder_ratio", confounder_ratio, shape, generator)
    return _divided(ratios, confounding(exposed, unexposed, strength))


def confounding(
    prevalence_exposed: ArrayLike, prevalence_unexposed: ArrayLike, ratio: ArrayLike
) -> Floats:
    """Factor by which a binary confounder biases a rate ratio.

    Parameters
    ----------
    prevalence_exposed, prevalence_unexposed : array_like
        Share of patients with the confounder.
    ratio : array_like
        Rate ratio of the event with the confounder.

    Returns
    -------
    ndarray
        Observed over true ratio.

    Notes
    -----
    Bross (1966), doi:10.1016/0021-9681(66)90062-2; Schlesselman (1978),
    doi:10.1093/oxfordjournals.aje.a112581.

    Examples
    --------
    >>> round(1.76 / float(confounding(0.7, 0.5, 5.0)), 2)
    1.39
    """
    with_it = require_numbers(prevalence_exposed, "prevalence_exposed")
    without = require_numbers(prevalence_unexposed, "prevalence_unexposed")
    extra = require_numbers(ratio, "ratio") - 1.0
    return np.asarray((1.0 + with_it * extra) / (1.0 + without * extra))


def adjust_for_misclassification(
    fit: Fit,
    *,
    seen_exposed: Uncertain = 1.0,
    seen_unexposed: Uncertain = 1.0,
    false_exposed: Uncertain = 0.0,
    false_unexposed: Uncertain = 0.0,
    seed: int,
) -> xr.Dataset:
    """Take events that were missed, and events that were none, out of the hazard ratio.

    Parameters
    ----------
    fit
        The fit.
    seen_exposed, seen_unexposed
        Share of true events that were recorded, in exposed and unexposed patient-time.
    false_exposed, false_unexposed
        Share of recorded events that were none.
    seed
        Seed of what is uncertain.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint), of true events. Patients whose event was
        missed count as at risk afterwards, which is neglected: it matters only where many are.

    Raises
    ------
    SpecError
        If a share is impossible.

    Notes
    -----
    Greenland (1996), doi:10.1093/ije/25.6.1107.
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    ratios = hazard_ratio(fit)
    generator = np.random.default_rng(seed)
    shape = ratios["hazard_ratio"].transpose("chain", "draw", ...).shape[:2]
    seen = [
        _shares(name, value, shape, generator)
        for name, value in (("seen_exposed", seen_exposed), ("seen_unexposed", seen_unexposed))
    ]
    false = [
        _shares(name, value, shape, generator)
        for name, value in (("false_exposed", false_exposed), ("false_unexposed", false_unexposed))
    ]
    if not all((one > 0).all() for one in seen) or not all((one < 1).all() for one in false):
        raise SpecError("Some true events must be seen, and some recorded events must be true.")
    bias = (seen[0] / (1.0 - false[0])) / (seen[1] / (1.0 - false[1]))
    return _divided(ratios, bias)


def tipping_points(
    fit: Fit,
    *,
    prevalences: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    ratios: Sequence[float] = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0),
    prevalence_exposed: float = 0.0,
) -> xr.Dataset:
    """Map what a confounder must be to change the answer.

    Parameters
    ----------
    fit
        The fit.
    prevalences
        Shares of unexposed patient-time with the confounder.
    ratios
        Its hazard ratios with the event.
    prevalence_exposed
        Share of exposed patient-time with it.

    Returns
    -------
    xarray.Dataset
        Over (endpoint, prevalence, ratio): ``probability_below_1`` and ``median`` of the hazard
        ratio without the confounder.

    Raises
    ------
    SpecError
        If a number is impossible.
    """
    require_kind(fit, Fit, "fit")
    for name, values, low, high in (
        ("prevalences", prevalences, 0.0, 1.0),
        ("ratios", ratios, 0.0, math.inf),
        ("prevalence_exposed", [prevalence_exposed], 0.0, 1.0),
    ):
        if not values or not all(low <= one <= high and math.isfinite(one) for one in values):
            raise SpecError(f"{name}: expected numbers from {low:g} to {high:g}, got {values!r}.")
    if min(ratios) <= 0:
        raise SpecError("ratios must be greater than 0.")
    found = hazard_ratio(fit)
    log = np.log(found["hazard_ratio"].transpose("endpoint", "chain", "draw").values)
    flat = log.reshape(log.shape[0], -1)
    bias = np.log(confounding(prevalence_exposed, np.array(prevalences)[:, None], np.array(ratios)))
    # The median moves with the factor; so does the place at which the draws are counted.
    below = np.stack([np.searchsorted(np.sort(one), bias, side="left") / one.size for one in flat])
    middle = np.median(flat, axis=1)[:, None, None] - bias
    dims = ("endpoint", "prevalence", "ratio")
    return xr.Dataset(
        {"probability_below_1": (dims, below), "median": (dims, np.exp(middle))},
        coords={
            "endpoint": list(fit.person_time.endpoints),
            "prevalence": list(prevalences),
            "ratio": list(ratios),
        },
        attrs={**found.attrs, "prevalence_exposed": float(prevalence_exposed)},
    )


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
    if fit.person_time.courses is not None or fit.definition.cure is not None:
        raise EstimandError(
            f"Dropout is imputed for endpoints of their own: '{fit.definition.name}' has other "
            "hazards after dropping out. Fit 'primary'."
        )
    if cohort.persons is not None:
        raise EstimandError(
            "Dropout is imputed for whole patients, and these are pieces of them, most of which "
            "end where they were cut. Impute it in a fit of the patients themselves, with one "
            "weight for each or none."
        )
    for name, value in (
        ("horizon", horizon),
        ("hazard_ratio_exposed", hazard_ratio_exposed),
        ("hazard_ratio_unexposed", hazard_ratio_unexposed),
    ):
        if not 0 < value < math.inf:
            raise SpecError(f"{name} must be greater than 0 and finite, got {value!r}.")
    if imputations < 2:
        raise SpecError(f"imputations must be at least 2, got {imputations!r}.")
    out = np.ones(cohort.size, dtype=bool)
    if dropped is not None:
        out = np.asarray(in_cohort_order(dropped, cohort, name="dropped"))
        if out.shape != (cohort.size,) or out.dtype != bool:
            raise SpecError(f"dropped must be {cohort.size} truth values, one for each patient.")
    death = _death_of(fit, death)
    settings = settings or SamplerSettings(draws=250, tune=500, chains=2)
    weights = weights_of(fit, cohort)
    factors = (hazard_ratio_exposed, hazard_ratio_unexposed)
    generator = np.random.default_rng(seed)
    sizes = fit.posterior.sizes
    chosen = generator.choice(sizes["chain"] * sizes["draw"], imputations, replace=False)
    found = []
    converged = fit.converged
    for draw in chosen:
        completed = _completed(
            cohort, fit, int(draw), out, factors, horizon, generator, death=death
        )
        # A baseline of jumps has them at the events of the patients at hand.
        cuts = None if isinstance(fit.definition.baseline, Free) else fit.person_time.cuts
        person_time = person_time_for(
            fit.definition, completed, fit.question, cuts=cuts, weights=weights
        )
        again = fit_person_time(
            fit.definition,
            person_time,
            fit.question,
            seed=int(generator.integers(2**31)),
            settings=settings,
            weighted=weights is not None,
            complete=False,
        )
        converged &= again.convergence.sampled_well
        # Without what is known of one imputation's baseline and event times.
        found.append(hazard_ratio(again)["hazard_ratio"].reset_coords(drop=True))
    converged &= _mixed(found)
    pooled = xr.concat(found, dim="chain").assign_coords(
        chain=np.arange(imputations * settings.chains)
    )
    return xr.Dataset(
        {"hazard_ratio": pooled},
        attrs={
            **hazard_ratio(fit).attrs,
            "converged": int(converged),
            "imputations": imputations,
            "horizon": float(horizon),
        },
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


def _mixed(found: Sequence[xr.DataArray]) -> bool:
    """Whether draws of all imputations mix within them: each is taken less its own mean."""
    logs = [np.log(one.transpose("chain", "draw", "endpoint").values) for one in found]
    centred = np.concatenate([one - one.mean(axis=(0, 1)) for one in logs])
    enough = (ess_bulk(centred) > ESS) & (ess_tail(centred) > ESS)
    return bool((enough & (rhat(centred) < R_HAT)).all())


def _completed(
    cohort: Cohort,
    fit: Fit,
    draw: int,
    dropped: NDArray[np.bool_],
    factors: tuple[float, float],
    horizon: float,
    generator: np.random.Generator,
    *,
    death: str | None,
) -> Cohort:
    """Impute what happened to dropouts of all endpoints, from one draw; death first."""
    person_time, design = fit.person_time, fit.design
    people, spent = person_time.people, person_time.episodes
    row = {str(patient): index for index, patient in enumerate(cohort.patients)}
    place = np.array([row[str(patient)] for patient in people["patient"].values])
    exposed = person_time.table["role"].values == "exposed"
    outcomes = dict(cohort.endpoints)
    # Hazards of death are not higher than those of death or relapse: with one number for both the
    # order of a patient's times is kept, and each has its own distribution.
    shared = generator.exponential(size=people.sizes["patient"])
    for name in sorted(person_time.endpoints, key=lambda one: one != death):
        index = person_time.endpoints.index(name)
        found, pattern_of = hazards_of_patients(fit.posterior, person_time, design, endpoint=name)
        stop = people["exit"].values[index]
        free = np.isfinite(stop) & ~people["event"].values[index] & (stop < horizon)
        # Whoever's follow-up was ended by the question, as at a transplant, has not dropped out.
        free &= stop == cohort.endpoints[name].time[place]
        who = np.flatnonzero(free & dropped[place])
        inside = spent["endpoint"].values == index
        last = np.zeros(people.sizes["patient"], dtype=np.int64)
        last[spent["patient"].values[inside]] = spent["phase"].values[inside]
        state, pattern = last[who], pattern_of[who]
        factor = np.where(exposed[state], *factors)
        # (patient, interval)
        rate = np.exp(
            found.shared[draw][found.class_of[pattern], :, state]
            + found.pattern[draw][pattern][:, None]
        )
        rate *= factor[:, None]
        course = PiecewiseHazard(starts=np.concatenate([[0.0], person_time.cuts]), rates=rate)
        time = course.inverse(course.cumulative_of_each(stop[who]) + shared[who])
        dies = time < horizon
        one = cohort.endpoints[name]
        new_time, new_event = one.time.copy(), one.event.copy()
        new_time[place[who]] = np.minimum(time, horizon)
        new_event[place[who]] = dies
        if death is not None and name != death:
            # Whoever is dead by then had the event at death at the latest.
            end = outcomes[death]
            late = place[who][end.event[place[who]] & (new_time > end.time)[place[who]]]
            new_time[late], new_event[late] = end.time[late], True
        # What is declared to include what holds of data: courses are drawn for each endpoint.
        outcomes[name] = replace(
            one, time=new_time, event=new_event, entry=one.entry.copy(), includes=()
        )
    return replace(cohort, endpoints=outcomes)


def _divided(ratios: xr.Dataset, bias: Floats) -> xr.Dataset:
    values = ratios["hazard_ratio"].transpose("chain", "draw", ...)
    factor = xr.DataArray(
        bias, dims=("chain", "draw"), coords={k: values[k] for k in ("chain", "draw")}
    )
    return xr.Dataset({"hazard_ratio": values / factor}, attrs=ratios.attrs)


def _shares(
    name: str, value: Uncertain, shape: tuple[int, ...], generator: np.random.Generator
) -> Floats:
    """Draw a share: fixed, or normal in its log odds."""
    if isinstance(value, int | float):
        if not 0 <= value <= 1:
            raise SpecError(f"{name} must be a share from 0 to 1, got {value!r}.")
        return np.full(shape, float(value))
    lower, upper = _ends(name, value)
    if not 0 < lower < upper < 1:
        raise SpecError(f"{name}: an interval of a share must lie inside 0 to 1, got {value!r}.")
    ends = logit(np.array([lower, upper]))
    return np.asarray(expit(_normal(ends, shape, generator)))


def _ratios(
    name: str, value: Uncertain, shape: tuple[int, ...], generator: np.random.Generator
) -> Floats:
    """Draw a ratio: fixed, or normal in its logarithm."""
    if isinstance(value, int | float):
        if not 0 < value < math.inf:
            raise SpecError(f"{name} must be a ratio greater than 0, got {value!r}.")
        return np.full(shape, float(value))
    lower, upper = _ends(name, value)
    if not 0 < lower < upper < math.inf:
        raise SpecError(f"{name}: an interval of a ratio must be positive, got {value!r}.")
    return np.asarray(np.exp(_normal(np.log(np.array([lower, upper])), shape, generator)))


def _ends(name: str, value: tuple[float, float]) -> tuple[float, float]:
    try:
        lower, upper = (float(end) for end in value)
    except (TypeError, ValueError):
        raise SpecError(f"{name} must be a number or (lower, upper), got {value!r}.") from None
    return lower, upper


def _normal(ends: Floats, shape: tuple[int, ...], generator: np.random.Generator) -> Floats:
    sd = (ends[1] - ends[0]) / (2.0 * ndtri(0.975))
    return generator.normal(ends.mean(), sd, shape)
