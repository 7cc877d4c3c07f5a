"""Priors centred at no effect in place of the model's own, without fitting again: reverse Bayes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Real

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from bayesblina.checks.priors.scaling import (
    GOOD_K,
    require_independent,
    reweighted,
    weighted_quantiles,
)
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError, require_kind
from bayesblina.core.escaping import html
from bayesblina.estimands.ratios import (
    GIVEN,
    OWN,
    Direction,
    require_direction,
    sign_of,
    whose_conclusion,
)
from bayesblina.inference.fitting import Fit

# The sceptical prior is searched between these shares of the model's own sd.
NARROWEST = 0.01
STEPS = 200
# Half of a central 95 % interval, in sds.
HALF = float(norm.ppf(0.975))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scepticism:
    """The most sceptical prior under which a conclusion stands.

    Attributes
    ----------
    endpoint
        Endpoint.
    direction
        The conclusion: that the exposed phase's hazard is ``"lower"`` or ``"higher"``.
    source
        Whose it is: the ``"base case"``'s, or ``"given"``.
    probability
        From when on it is concluded: P(HR < 1), or P(HR > 1), is at least this.
    sd
        Sd of the sceptical prior of the log hazard ratio, which is normal with mean 0; NaN where
        no such prior is wide enough.
    interval : (float, float)
        Its central 95 % interval of the hazard ratio.
    pareto_k
        Of the weights from which it was found; above 0.7 fit again under it (`bayesblina.scenarios`
        with ``prior.phases``).
    by_normal : (float, float)
        The same interval where posterior and prior are taken for normal, in closed form.
    """

    endpoint: str
    direction: Direction
    source: str
    probability: float
    sd: float
    interval: tuple[float, float]
    pareto_k: float
    by_normal: tuple[float, float]

    @property
    def reliable(self) -> bool:
        """Whether the weights can be relied on."""
        return self.pareto_k <= GOOD_K

    def __str__(self) -> str:
        """Say it in a sentence."""
        concluded = (
            f"{self.endpoint}: {whose_conclusion(self.source)}, that the hazard is "
            f"{self.direction} (P(HR {sign_of(self.direction)} 1) at least {self.probability:g}),"
        )
        if math.isnan(self.sd):
            return f"{concluded} stands under no prior centred at a hazard ratio of 1."
        lower, upper = self.interval
        doubt = "" if self.reliable else " (Pareto k is too high: fit again under it)"
        return (
            f"{concluded} stands unless a sceptic is sure that the hazard ratio lies within "
            f"{lower:.2f} to {upper:.2f} (95 %){doubt}."
        )

    def _repr_html_(self) -> str:
        return f"<p>{html(str(self))}</p>"


def sceptical_priors(
    fit: Fit, *, intervals: Sequence[float] = (1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
) -> pd.DataFrame:
    """Put priors centred at a hazard ratio of 1 in place of the model's own, by reweighting.

    Parameters
    ----------
    fit
        The fit.
    intervals
        Upper ends of the priors' central 95 % intervals of the hazard ratio.

    Returns
    -------
    pandas.DataFrame
        One row per endpoint and prior: ``endpoint``, ``prior_lower``, ``prior_upper``, ``sd`` (of
        the log hazard ratio), ``median``, ``lower``, ``upper`` (of the posterior hazard ratio),
        ``probability_below_1`` with its ``mcse``, and ``pareto_k`` (above 0.7 not to be relied on:
        fit again).

    Raises
    ------
    EstimandError
        If the phases' priors are not independent.
    SpecError
        If an interval is impossible.
    """
    require_kind(fit, Fit, "fit")
    if not intervals or not all(1 < end < math.inf for end in intervals):
        raise SpecError(f"intervals must be upper ends greater than 1, got {list(intervals)!r}.")
    rows = []
    for endpoint, end in product(fit.person_time.endpoints, intervals):
        effect, sd = _exposed_effect(fit, endpoint), math.log(end) / HALF
        values = effect.values.ravel()
        weights, pareto_k = _resceptic(fit, effect, sd)
        quantiles = weighted_quantiles(values, weights, (0.025, 0.5, 0.975))
        lower, middle, upper = np.exp(quantiles).tolist()
        below = float(weights[values < 0].sum())
        rows.append(
            {
                "endpoint": endpoint,
                "prior_lower": 1.0 / end,
                "prior_upper": float(end),
                "sd": sd,
                "median": middle,
                "lower": lower,
                "upper": upper,
                "probability_below_1": below,
                "mcse": float(np.sqrt((weights**2 * ((values < 0) - below) ** 2).sum())),
                "pareto_k": pareto_k,
            }
        )
    return pd.DataFrame(rows)


def most_sceptical_prior(
    fit: Fit,
    *,
    endpoint: str,
    probability: float = 0.975,
    direction: Direction | None = None,
) -> Scepticism:
    """Find the narrowest prior centred at a hazard ratio of 1 under which a conclusion stands.

    Whoever holds a narrower one, being sure of almost no effect before the study, is not convinced
    by it: reverse Bayes.

    Parameters
    ----------
    fit
        The fit.
    endpoint
        Endpoint.
    probability
        From when on it is concluded: P(HR < 1), or P(HR > 1), is at least this.
    direction
        The conclusion: that the exposed phase's hazard is ``"lower"`` or ``"higher"``. By default
        that of the fit, by estimate: where half of the draws or more lie.

    Returns
    -------
    Scepticism
        The prior, and what conclusion it takes away.

    Raises
    ------
    EstimandError
        If the endpoint is unknown, or the phases' priors are not independent.
    SpecError
        If the probability does not lie between 0.5 and 1, or the direction is neither.

    Notes
    -----
    Matthews (2001), doi:10.1016/S0378-3758(00)00232-9; Held, Matthews, Ott and Pawel (2022),
    doi:10.1002/jrsm.1538.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> 0 < bb.priors.most_sceptical_prior(fit, endpoint="os", probability=0.95).sd < 1
    True
    """
    require_kind(fit, Fit, "fit")
    if not 0.5 < probability < 1:
        raise SpecError(f"probability must lie between 0.5 and 1, got {probability!r}.")
    if endpoint not in fit.person_time.endpoints:
        known = ", ".join(fit.person_time.endpoints)
        raise EstimandError(f"No endpoint '{endpoint}'; there are {known}.")
    require_direction(direction)
    effect = _exposed_effect(fit, endpoint)
    values = effect.values.ravel()
    prior = fit.definition.phases.prior
    concluded = direction or ("lower" if float((values < 0).mean()) >= 0.5 else "higher")
    # A harm is a benefit in the mirror, where the logarithms have the other sign.
    mirror = 1.0 if concluded == "lower" else -1.0
    side = mirror * values < 0

    def interval(sd: float) -> tuple[float, float]:
        return (math.exp(-HALF * sd), math.exp(HALF * sd))

    # Wider priors convince more, but for noise: the crossing is found on a fine grid.
    grid = np.geomspace(NARROWEST * prior.sd, prior.sd, STEPS)
    certain = np.array([_resceptic(fit, effect, sd)[0][side].sum() for sd in grid])
    # The one after the last that does not convince.
    first = int(np.flatnonzero(certain < probability).max(initial=-1)) + 1
    _, pareto_k = _resceptic(fit, effect, float(grid[min(first, STEPS - 1)]))
    sd = float(grid[first]) if first < STEPS else float("nan")
    normal = _normal_limit(mirror * values, mirror * prior.mean, prior.sd, probability)
    return Scepticism(
        endpoint=endpoint,
        direction=concluded,
        source=OWN if direction is None else GIVEN,
        probability=probability,
        sd=sd,
        interval=interval(sd),
        pareto_k=pareto_k,
        by_normal=interval(normal),
    )


def scepticism_limit(lower: float, upper: float) -> float:
    """Turn a published 95 % interval of a ratio into the prior that would undo it.

    Parameters
    ----------
    lower, upper
        Ends of the interval; both on one side of 1.

    Returns
    -------
    float
        The scepticism limit s: under a normal prior of the log ratio whose central 95 % interval
        is 1/s to s the posterior interval just reaches 1.

    Raises
    ------
    SpecError
        If the interval holds 1 or is not in order.

    Notes
    -----
    Matthews (2001), doi:10.1016/S0378-3758(00)00232-9.

    Examples
    --------
    >>> round(scepticism_limit(0.5, 0.9), 3)
    1.377
    """
    for name, end in (("lower", lower), ("upper", upper)):
        require_kind(end, Real, name)
    if not 0 < lower < upper < math.inf or (lower - 1.0) * (upper - 1.0) <= 0:
        raise SpecError(
            f"The interval must lie on one side of 1, lower end first, got {lower!r} to {upper!r}."
        )
    low, high = math.log(lower), math.log(upper)
    return math.exp((high - low) ** 2 / (4.0 * math.sqrt(low * high)))


def _exposed_effect(fit: Fit, endpoint: str) -> xr.DataArray:
    """Log hazard ratio of the exposed phase, over (chain, draw)."""
    require_independent(
        fit,
        "Priors are put in place one endpoint at a time: those of model '{model}' are correlated",
    )
    values = fit.posterior["log_hazard_ratio"].sel(endpoint=endpoint).isel(effect=0, drop=True)
    return values.transpose("chain", "draw")


def _resceptic(fit: Fit, effect: xr.DataArray, sd: float) -> tuple[Floats, float]:
    """Weights that put a normal prior with mean 0 in place of the model's own."""
    prior = fit.definition.phases.prior
    change = norm.logpdf(effect, 0.0, sd) - norm.logpdf(effect, prior.mean, prior.sd)
    return reweighted(effect.copy(data=change))


def _normal_limit(values: Floats, mean: float, sd: float, probability: float) -> float:
    """Sd of the limiting prior where posterior and prior are normal; NaN without one."""
    posterior, spread = float(values.mean()), float(values.std(ddof=1))
    precision = 1.0 / spread**2 - 1.0 / sd**2
    if precision <= 0:
        return float("nan")
    # What the data alone say.
    alone = (posterior / spread**2 - mean / sd**2) / precision
    needed = norm.ppf(probability)
    # Under N(0, s^2): z = -alone x precision / sqrt(precision + 1 / s^2) = needed.
    rest = (alone * precision / needed) ** 2 - precision
    return 1.0 / math.sqrt(rest) if rest > 0 and alone < 0 else float("nan")
