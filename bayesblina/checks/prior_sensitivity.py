"""What the priors do to an answer, without fitting again: power-scaling, and reverse Bayes."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from bayesblina.checks.pointwise import log_likelihood_of
from bayesblina.core.arguments import require_kind
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.core.escaping import html
from bayesblina.estimands.direction import (
    GIVEN,
    OWN,
    Direction,
    require_direction,
    sign_of,
    whose_conclusion,
)
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.definition import Correlated
from bayesblina.hazards.likelihood import flat_draws
from bayesblina.inference.fitting import Fit
from bayesblina.inference.importance import smooth_tails

LIKELIHOOD = "likelihood"
ALPHAS = (0.5, 0.8, 1.25, 2.0)
# Steps of the derivative that the index takes.
NEAR = (0.99, 1.01)
# Above this index the quantity follows the component.
SENSITIVE = 0.05
# The sceptical prior is searched between these shares of the model's own sd.
NARROWEST = 0.01
STEPS = 200
GOOD_K = 0.7
# Effective draws below which weights are not smoothed.
FEWEST = 10.0
ALMOST = 1e-9


def power_scaling(
    fit: Fit, estimate: xr.Dataset | None = None, *, alphas: Sequence[float] = ALPHAS
) -> pd.DataFrame:
    """Raise the priors, or the likelihood, to powers, and watch an estimate.

    Parameters
    ----------
    fit
        The fit.
    estimate
        What an estimand function gives, of one variable over (chain, draw, ...); by default the
        hazard ratio, whose logarithm is then looked at.
    alphas
        Powers: below 1 the component counts less, above 1 more.

    Returns
    -------
    pandas.DataFrame
        One row per quantity, component and power: the estimate's coordinates; ``component``
        (``"phases"``, the prior of the phases' log hazard ratios; ``"covariates"``;
        ``"likelihood"``); ``alpha``; ``mean``, ``lower``, ``upper`` (95 %) and
        ``probability_below_null`` (of a hazard ratio below 1, else of a value below 0) under it;
        ``pareto_k`` of its weights, above 0.7 not to be relied on; ``sensitivity``, the index
        that counts from 0.05 on, and ``reading`` in words: ``"prior-data conflict"`` where both
        the component and the likelihood move the quantity, ``"strong prior or weak likelihood"``
        where only the prior does.

    Raises
    ------
    EstimandError
        If the fit keeps no likelihood by patient and is too large to compute it, or its priors
        are not of a kind that can be scaled.
    SpecError
        If a power is impossible, or the estimate is not one variable.

    Notes
    -----
    Kallioinen, Paananen, Bürkner and Vehtari (2024), doi:10.1007/s11222-023-10366-5.
    The prior of the baseline is not scaled: one so stiff that it moves the hazard ratio is hardly
    less stiff at a power near 1, so that the index stays small. ``fit.gate`` says whether the
    baseline moves the hazard ratio, against a model that has none.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> table = bb.power_scaling(fit, alphas=[0.5, 2.0])
    >>> sorted(table["component"].unique())
    ['covariates', 'likelihood', 'phases']
    """
    require_kind(fit, Fit, "fit")
    if not alphas or not all(0 < alpha < math.inf for alpha in alphas):
        raise SpecError(f"alphas must be powers greater than 0, got {list(alphas)!r}.")
    name, values = _quantity(fit, estimate)
    components = {**_log_priors(fit), LIKELIHOOD: _log_likelihood(fit)}
    over = ["chain", "draw"]
    indices = {key: sensitivity_index(values, density) for key, density in components.items()}
    rows = []
    dims = [str(dim) for dim in values.dims if dim not in over]
    for place in np.ndindex(*(values.sizes[dim] for dim in dims)):
        at = dict(zip(dims, place, strict=True))
        one = values.isel(at)
        draws = one.transpose(*over).values.ravel()
        labels = {dim: one[dim].values[()] for dim in dims if dim in one.coords}
        follows = {
            component: float(index.isel(at)) if dims else float(index)
            for component, index in indices.items()
        }
        for component, log_density in components.items():
            for alpha in alphas:
                weights, pareto_k = _weights(log_density, alpha)
                flat = weights.transpose(*over).values.ravel()
                lower, upper = _weighted_quantiles(draws, flat, (0.025, 0.975))
                scale = np.exp if name == "hazard_ratio" else np.asarray
                rows.append(
                    {
                        **labels,
                        "component": component,
                        "alpha": float(alpha),
                        "mean": float((scale(draws) * flat).sum()),
                        "lower": float(scale(lower)),
                        "upper": float(scale(upper)),
                        "probability_below_null": float(flat[draws < 0].sum()),
                        "pareto_k": pareto_k,
                        "sensitivity": follows[component],
                        "reading": _reading(follows, component),
                    }
                )
    return pd.DataFrame(rows)


def sensitivity_index(values: xr.DataArray, log_density: xr.DataArray) -> xr.DataArray:
    """Say how fast a quantity's distribution moves as a component is raised to powers near 1.

    The index, over the quantity's other dimensions; it counts from 0.05 on.

    Parameters
    ----------
    values : DataArray
        The quantity, over (chain, draw, ...).
    log_density : DataArray
        The component's log density, over (chain, draw).
    """
    near = [_weights(log_density, alpha)[0] for alpha in NEAR]
    moved = _statistics(values.to_dataset(name="quantity")).power_scale_sense(
        lower_w=near[0],
        upper_w=near[1],
        lower_alpha=NEAR[0],
        upper_alpha=NEAR[1],
        sample_dims=["chain", "draw"],
    )
    index: xr.DataArray = moved["quantity"]
    return index


def power_scaling_draws(fit: Fit, estimate: xr.Dataset | None = None) -> xr.DataTree:
    """Put together what power-scaling takes: draws, log prior densities and log-likelihood.

    Parameters
    ----------
    fit
        The fit.
    estimate
        What an estimand function gives, of one variable over (chain, draw, ...); by default the
        hazard ratio, of which the logarithm is taken.

    Returns
    -------
    xarray.DataTree
        As ArviZ wants it: ``posterior`` with the estimate; ``log_prior`` with one variable per part
        of the prior (``phases``, ``covariates``); ``log_likelihood`` with that of all
        patients together. All over (chain, draw). For `bayesblina.output.plots.power_scaling`, and
        for ArviZ's ``psense_summary``.

    Raises
    ------
    EstimandError
        If the fit's priors are not of a kind that can be scaled.
    SpecError
        If the estimate is not one variable.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> draws = bb.power_scaling_draws(bb.fit(cohort, question, seed=1, progress=False))
    >>> list(draws.children)
    ['posterior', 'log_prior', 'log_likelihood']
    """
    require_kind(fit, Fit, "fit")
    name, values = _quantity(fit, estimate)
    name = "log_hazard_ratio" if name == "hazard_ratio" else name
    kept = [dim for dim in values.dims if dim in values.coords]
    posterior = values.reset_coords(drop=True).assign_coords({dim: values[dim] for dim in kept})
    tree = xr.DataTree.from_dict(
        {
            "/posterior": posterior.to_dataset(name=name),
            "/log_prior": xr.Dataset(_log_priors(fit)),
            "/log_likelihood": _log_likelihood(fit).to_dataset(name="survival"),
        }
    )
    tree.attrs |= {"synthetic": int(fit.person_time.synthetic), "converged": int(fit.converged)}
    tree.attrs |= dict.fromkeys((name for name in fit.failed if name != "converged"), "failed")
    return tree


def _reading(follows: dict[str, float], component: str) -> str:
    if component == LIKELIHOOD:
        return "" if follows[LIKELIHOOD] >= SENSITIVE else "weak likelihood"
    if follows[component] < SENSITIVE:
        return ""
    if follows[LIKELIHOOD] >= SENSITIVE:
        return "prior-data conflict"
    return "strong prior or weak likelihood"


def _quantity(fit: Fit, estimate: xr.Dataset | None) -> tuple[str, xr.DataArray]:
    """Take the quantity looked at, hazard ratios by their logarithms."""
    found = hazard_ratio(fit) if estimate is None else estimate
    require_kind(found, xr.Dataset, "estimate")
    names = [str(one) for one in found.data_vars]
    if len(names) != 1 or not {"chain", "draw"} <= set(found[names[0]].dims):
        raise SpecError(
            "estimate must be a Dataset of one variable over (chain, draw, ...), as the estimand "
            f"functions give; this one has {', '.join(names) or 'none'}."
        )
    (name,) = names
    values = found[name]
    return name, xr.apply_ufunc(np.log, values) if name == "hazard_ratio" else values


def _weights(log_density: xr.DataArray, alpha: float) -> tuple[xr.DataArray, float]:
    """Smoothed importance weights of a component raised to a power, and their Pareto k."""
    return _smoothed((alpha - 1.0) * log_density)


def _smoothed(log_weights: xr.DataArray) -> tuple[xr.DataArray, float]:
    """Pareto-smoothed weights that add up to 1, and their k; infinite where there is no tail."""
    raw = xr.apply_ufunc(np.exp, log_weights - log_weights.max())
    raw = raw / raw.sum()
    effective = 1.0 / float((raw**2).sum())
    # Weights almost all equal have no tail; where one draw has nearly all, nothing can be smoothed.
    if effective > (1.0 - ALMOST) * raw.size:
        return raw, 0.0
    if effective < FEWEST:
        return raw, math.inf
    found, shape = smooth_tails(log_weights.values.reshape(1, -1))
    weights = np.exp(found[0]).reshape(log_weights.shape)
    return log_weights.copy(data=weights), float(shape[0])


def _weighted_quantiles(values: Floats, weights: Floats, parts: Sequence[float]) -> list[float]:
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return [float(values[order][np.searchsorted(passed, part * passed[-1])]) for part in parts]


def _by_draw(fit: Fit, values: Floats) -> xr.DataArray:
    posterior = fit.posterior
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    coords = {"chain": posterior["chain"], "draw": posterior["draw"]}
    return xr.DataArray(values.reshape(shape), dims=("chain", "draw"), coords=coords)


def _log_likelihood(fit: Fit) -> xr.DataArray:
    if "log_likelihood" in fit.draws.children:
        found: xr.DataArray = fit.draws["log_likelihood"].to_dataset()["survival"].sum("patient")
        return found
    return _by_draw(fit, log_likelihood_of(fit))


def _log_priors(fit: Fit) -> dict[str, xr.DataArray]:
    """Log prior densities of the parameters that have a meaning of their own, by part."""
    definition = fit.definition
    if isinstance(definition.endpoints, Correlated) and len(fit.person_time.endpoints) > 1:
        raise EstimandError(
            "Power-scaling takes the phases' priors one by one: the endpoints' are correlated in "
            f"model '{definition.name}'. Fit 'primary'."
        )
    found = {"phases": _normal(fit, "log_hazard_ratio", definition.phases.prior)}
    if fit.design.term_names:
        found["covariates"] = _normal(fit, "coefficient", definition.covariates.prior)
    return found


def _others(values: xr.DataArray) -> list[str]:
    return [str(dim) for dim in values.dims if dim not in ("chain", "draw")]


def _normal(fit: Fit, name: str, prior: object) -> xr.DataArray:
    values = fit.posterior[name]
    flat = flat_draws(fit.posterior, name, *_others(values)).reshape(
        values.sizes["chain"] * values.sizes["draw"], -1
    )
    mean, sd = prior.mean, prior.sd  # type: ignore[attr-defined]
    return _by_draw(fit, np.asarray(norm.logpdf(flat, mean, sd).sum(axis=1)))


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
    for endpoint in fit.person_time.endpoints:
        effect = _exposed_effect(fit, endpoint)
        for end in intervals:
            sd = math.log(end) / norm.ppf(0.975)
            weights, pareto_k = _resceptic(fit, effect, sd)
            values = effect.values.ravel()
            lower, middle, upper = _weighted_quantiles(values, weights, (0.025, 0.5, 0.975))
            rows.append(
                {
                    "endpoint": endpoint,
                    "prior_lower": 1.0 / end,
                    "prior_upper": float(end),
                    "sd": float(sd),
                    "median": math.exp(middle),
                    "lower": math.exp(lower),
                    "upper": math.exp(upper),
                    "probability_below_1": (below := float(weights[values < 0].sum())),
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
    >>> 0 < bb.most_sceptical_prior(fit, endpoint="os", probability=0.95).sd < 1
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
    concluded: Direction = "lower" if float((values < 0).mean()) >= 0.5 else "higher"
    concluded = direction or concluded
    side = values < 0 if concluded == "lower" else values > 0
    # A harm is a benefit in the mirror, where the logarithms have the other sign.
    mirror = 1.0 if concluded == "lower" else -1.0

    def certain(sd: float) -> float:
        weights, _ = _resceptic(fit, effect, sd)
        return float(weights[side].sum())

    # Wider priors convince more, but for noise: the crossing is found on a fine grid.
    grid = np.geomspace(NARROWEST * prior.sd, prior.sd, STEPS)
    enough = np.array([certain(sd) for sd in grid]) >= probability
    normal = _normal_limit(mirror * values, mirror * prior.mean, prior.sd, probability)
    half = norm.ppf(0.975)

    def interval(sd: float) -> tuple[float, float]:
        return (math.exp(-half * sd), math.exp(half * sd))

    sd = float(grid[-1])
    if enough[-1]:
        sd = float(grid[int(np.flatnonzero(~enough)[-1]) + 1 if not enough.all() else 0])
    _, pareto_k = _resceptic(fit, effect, sd)
    if not enough[-1]:
        sd = float("nan")
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
    if isinstance(fit.definition.endpoints, Correlated) and len(fit.person_time.endpoints) > 1:
        raise EstimandError(
            "Priors are put in place one endpoint at a time: those of model "
            f"'{fit.definition.name}' are correlated. Fit 'primary'."
        )
    values = fit.posterior["log_hazard_ratio"].sel(endpoint=endpoint).isel(effect=0, drop=True)
    return values.transpose("chain", "draw")


def _resceptic(fit: Fit, effect: xr.DataArray, sd: float) -> tuple[Floats, float]:
    """Weights that put a normal prior with mean 0 in place of the model's own."""
    prior = fit.definition.phases.prior
    values = effect.values
    change = norm.logpdf(values, 0.0, sd) - norm.logpdf(values, prior.mean, prior.sd)
    raw = effect.copy(data=change)
    weights, pareto_k = _smoothed(raw)
    return np.asarray(weights.transpose("chain", "draw").values.ravel()), pareto_k


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


def _statistics(values: Any) -> Any:
    """Give ArviZ's accessor, which there is once ArviZ is imported."""
    importlib.import_module("arviz_stats")
    return values.azstats
