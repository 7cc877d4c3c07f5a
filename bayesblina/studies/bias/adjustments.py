"""Confounders nobody measured and events recorded wrongly: how strong, and what is left without."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import expit, logit, ndtri

from bayesblina.core.arrays import Floats, require_numbers
from bayesblina.core.errors import SpecError, require_kind, require_seed
from bayesblina.estimands.ratios import GIVEN, OWN, Direction, hazard_ratio, require_direction
from bayesblina.inference.fitting import Fit

# A number that is known, or the ends of the interval that holds 95 % of what it may be.
Uncertain = float | tuple[float, float]
Kind = Literal["share", "ratio"]


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
    >>> found = bb.bias.e_values(fit)
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
    sides = (lower.dims, np.where(lower.values, "lower", "higher"))
    return xr.Dataset(
        {"e_value": values.assign_coords(direction=sides)},
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
    exposure = require_numbers(exposure_ratio, "exposure_ratio")
    event = require_numbers(event_ratio, "event_ratio")
    if not ((exposure >= 1).all() and (event >= 1).all()):
        raise SpecError("Ratios must be at least 1: take the inverse of one that is below.")
    return np.asarray(exposure * event / (exposure + event - 1.0))


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
    >>> adjusted = bb.bias.adjust_for_confounder(
    ...     fit,
    ...     prevalence_exposed=0.2,
    ...     prevalence_unexposed=(0.3, 0.5),
    ...     confounder_ratio=(1.5, 3.0),
    ...     seed=1,
    ... )
    >>> bool(adjusted["hazard_ratio"].median() > bb.hazard_ratio(fit)["hazard_ratio"].median())
    True
    """
    return without_bias(
        fit,
        seed,
        {
            "prevalence_exposed": ("share", prevalence_exposed),
            "prevalence_unexposed": ("share", prevalence_unexposed),
            "confounder_ratio": ("ratio", confounder_ratio),
        },
        confounding,
    )


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
    exposed = require_numbers(prevalence_exposed, "prevalence_exposed")
    unexposed = require_numbers(prevalence_unexposed, "prevalence_unexposed")
    extra = require_numbers(ratio, "ratio") - 1.0
    return np.asarray((1.0 + exposed * extra) / (1.0 + unexposed * extra))


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
        if not values or not all(low <= value <= high and math.isfinite(value) for value in values):
            raise SpecError(f"{name}: expected numbers from {low:g} to {high:g}, got {values!r}.")
    if min(ratios) <= 0:
        raise SpecError("ratios must be greater than 0.")
    estimated = hazard_ratio(fit)
    logs = np.log(estimated["hazard_ratio"].transpose("endpoint", "chain", "draw").values)
    draws = logs.reshape(logs.shape[0], -1)
    bias = np.log(confounding(prevalence_exposed, np.array(prevalences)[:, None], np.array(ratios)))
    # The median moves with the factor; so does the place at which the draws are counted.
    below = np.stack([np.searchsorted(np.sort(own), bias) / own.size for own in draws])
    middle = np.median(draws, axis=1)[:, None, None] - bias
    dims = ("endpoint", "prevalence", "ratio")
    return xr.Dataset(
        {"probability_below_1": (dims, below), "median": (dims, np.exp(middle))},
        coords={
            "endpoint": list(fit.person_time.endpoints),
            "prevalence": list(prevalences),
            "ratio": list(ratios),
        },
        attrs={**estimated.attrs, "prevalence_exposed": float(prevalence_exposed)},
    )


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
    return without_bias(
        fit,
        seed,
        {
            "seen_exposed": ("share", seen_exposed),
            "seen_unexposed": ("share", seen_unexposed),
            "false_exposed": ("share", false_exposed),
            "false_unexposed": ("share", false_unexposed),
        },
        _misclassification,
    )


def _misclassification(
    seen_exposed: Floats, seen_unexposed: Floats, false_exposed: Floats, false_unexposed: Floats
) -> Floats:
    """Factor by which missed and false events bias a rate ratio."""
    if min(seen_exposed.min(), seen_unexposed.min()) <= 0 or (
        max(false_exposed.max(), false_unexposed.max()) >= 1
    ):
        raise SpecError("Some true events must be seen, and some recorded events must be true.")
    return np.asarray(
        (seen_exposed / (1.0 - false_exposed)) / (seen_unexposed / (1.0 - false_unexposed))
    )


def without_bias(
    fit: Fit,
    seed: int,
    given: Mapping[str, tuple[Kind, Uncertain]],
    bias: Callable[..., Floats],
) -> xr.Dataset:
    """Divide a fit's hazard ratios by a bias, draw by draw; what is uncertain is drawn in order."""
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    ratios = hazard_ratio(fit)
    values = ratios["hazard_ratio"].transpose("chain", "draw", ...)
    generator = np.random.default_rng(seed)
    drawn = [
        draw_uncertain(kind, name, value, values.shape[:2], generator)
        for name, (kind, value) in given.items()
    ]
    unbiased = values / xr.DataArray(bias(*drawn), dims=("chain", "draw"))
    return xr.Dataset({"hazard_ratio": unbiased}, attrs=ratios.attrs)


def draw_uncertain(
    kind: Kind,
    name: str,
    value: Uncertain,
    shape: tuple[int, ...],
    generator: np.random.Generator,
) -> Floats:
    """Draw a number: fixed, or a share normal in its log odds, or a ratio normal in its log."""
    share = kind == "share"
    if isinstance(value, int | float):
        if not (0 <= value <= 1 if share else 0 < value < math.inf):
            raise SpecError(
                f"{name} must be {'a share from 0 to 1' if share else 'a ratio greater than 0'}, "
                f"got {value!r}."
            )
        return np.full(shape, float(value))
    try:
        lower, upper = (float(end) for end in value)
    except (TypeError, ValueError):
        raise SpecError(f"{name} must be a number or (lower, upper), got {value!r}.") from None
    if not 0 < lower < upper < (1 if share else math.inf):
        raise SpecError(
            f"{name}: an interval of "
            f"{'a share must lie inside 0 to 1' if share else 'a ratio must be positive'}, "
            f"got {value!r}."
        )
    scale, back = (logit, expit) if share else (np.log, np.exp)
    ends = scale(np.array([lower, upper]))
    sd = (ends[1] - ends[0]) / (2.0 * ndtri(0.975))
    return np.asarray(back(generator.normal(ends.mean(), sd, shape)))
