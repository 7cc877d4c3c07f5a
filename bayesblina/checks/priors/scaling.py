"""Priors, and the likelihood, raised to powers, without fitting again: power-scaling."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from bayesblina.checks.pointwise import log_likelihood_of
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError, require_kind
from bayesblina.estimands.draws import by_draw
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.hazards.parts import Correlated
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.fitting import Fit
from bayesblina.inference.monte_carlo import smooth_tails

LIKELIHOOD = "likelihood"
ALPHAS = (0.5, 0.8, 1.25, 2.0)
# Steps of the derivative that the index takes.
NEAR = (0.99, 1.01)
# Above this index the quantity follows the component.
SENSITIVE = 0.05
# Above it weights are not to be relied on.
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
    >>> table = bb.priors.power_scaling(fit, alphas=[0.5, 2.0])
    >>> sorted(table["component"].unique())
    ['covariates', 'likelihood', 'phases']
    """
    require_kind(fit, Fit, "fit")
    if not alphas or not all(0 < alpha < np.inf for alpha in alphas):
        raise SpecError(f"alphas must be powers greater than 0, got {list(alphas)!r}.")
    name, values = _quantity(fit, estimate)
    components = {**_log_priors(fit), LIKELIHOOD: _log_likelihood(fit)}
    indices = {key: sensitivity_index(values, density) for key, density in components.items()}
    weighted = {
        (component, alpha): reweighted((alpha - 1.0) * density)
        for component, density in components.items()
        for alpha in alphas
    }
    scale = np.exp if name == "hazard_ratio" else np.asarray
    rows = []
    dims = [str(dim) for dim in values.dims if dim not in ("chain", "draw")]
    for indexes in np.ndindex(*(values.sizes[dim] for dim in dims)):
        at = dict(zip(dims, indexes, strict=True))
        quantity = values.isel(at)
        draws = quantity.transpose("chain", "draw").values.ravel()
        labels = {dim: quantity[dim].values[()] for dim in dims if dim in quantity.coords}
        follows = {component: float(index.isel(at)) for component, index in indices.items()}
        for (component, alpha), (weights, pareto_k) in weighted.items():
            lower, upper = weighted_quantiles(draws, weights, (0.025, 0.975))
            rows.append(
                {
                    **labels,
                    "component": component,
                    "alpha": float(alpha),
                    "mean": float((scale(draws) * weights).sum()),
                    "lower": float(scale(lower)),
                    "upper": float(scale(upper)),
                    "probability_below_null": float(weights[draws < 0].sum()),
                    "pareto_k": pareto_k,
                    "sensitivity": follows[component],
                    "reading": _reading(follows, component),
                }
            )
    return pd.DataFrame(rows)


def sensitivity_index(values: xr.DataArray, log_density: xr.DataArray) -> xr.DataArray:
    """Say how fast a quantity's distribution moves as a component is raised to powers near 1.

    The index, over the quantity's other dimensions; it counts from 0.05 on.
    """
    # ArviZ's accessor is there once it is imported.
    importlib.import_module("arviz_stats")
    near = [
        log_density.copy(data=reweighted((alpha - 1.0) * log_density)[0].reshape(log_density.shape))
        for alpha in NEAR
    ]
    quantity: Any = values.to_dataset(name="quantity")
    index: xr.DataArray = quantity.azstats.power_scale_sense(
        lower_w=near[0],
        upper_w=near[1],
        lower_alpha=NEAR[0],
        upper_alpha=NEAR[1],
        sample_dims=["chain", "draw"],
    )["quantity"]
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
    >>> draws = bb.priors.power_scaling_draws(bb.fit(cohort, question, seed=1, progress=False))
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
    tree.attrs |= {
        "synthetic": int(fit.person_time.synthetic),
        "converged": int(fit.converged),
        **{gate: "failed" for gate in fit.failed if gate != "converged"},
    }
    return tree


def _reading(follows: dict[str, float], component: str) -> str:
    strong = follows[LIKELIHOOD] >= SENSITIVE
    if component == LIKELIHOOD:
        return "" if strong else "weak likelihood"
    if follows[component] < SENSITIVE:
        return ""
    return "prior-data conflict" if strong else "strong prior or weak likelihood"


def _quantity(fit: Fit, estimate: xr.Dataset | None) -> tuple[str, xr.DataArray]:
    """Take the quantity looked at, hazard ratios by their logarithms."""
    ratios = hazard_ratio(fit) if estimate is None else estimate
    require_kind(ratios, xr.Dataset, "estimate")
    names = [str(variable) for variable in ratios.data_vars]
    if len(names) != 1 or not {"chain", "draw"} <= set(ratios[names[0]].dims):
        raise SpecError(
            "estimate must be a Dataset of one variable over (chain, draw, ...), as the estimand "
            f"functions give; this one has {', '.join(names) or 'none'}."
        )
    values = ratios[names[0]]
    return names[0], xr.apply_ufunc(np.log, values) if names == ["hazard_ratio"] else values


def _log_likelihood(fit: Fit) -> xr.DataArray:
    if "log_likelihood" in fit.draws.children:
        kept: xr.DataArray = fit.draws["log_likelihood"].to_dataset()["survival"].sum("patient")
        return kept
    return by_draw(fit, log_likelihood_of(fit))


def _log_priors(fit: Fit) -> dict[str, xr.DataArray]:
    """Log prior densities of the parameters that have a meaning of their own, by part."""
    definition = fit.definition
    require_independent(
        fit,
        "Power-scaling takes the phases' priors one by one: the endpoints' are correlated in model "
        "'{model}'",
    )
    priors = {"phases": _normal(fit, "log_hazard_ratio", definition.phases.prior)}
    if fit.design.term_names:
        priors["covariates"] = _normal(fit, "coefficient", definition.covariates.prior)
    return priors


def _normal(fit: Fit, name: str, prior: HazardRatioPrior) -> xr.DataArray:
    values = fit.posterior[name].transpose("chain", "draw", ...)
    flat = values.values.reshape(values.sizes["chain"] * values.sizes["draw"], -1)
    return by_draw(fit, norm.logpdf(flat, prior.mean, prior.sd).sum(axis=1))


def reweighted(log_weights: xr.DataArray) -> tuple[Floats, float]:
    """Pareto-smoothed weights that add up to 1, and their k; infinite where there is no tail.

    `log_weights` are over (chain, draw), the weights over (chain * draw,).
    """
    flat = log_weights.transpose("chain", "draw").values.ravel()
    raw = np.exp(flat - flat.max())
    raw /= raw.sum()
    effective = 1.0 / float((raw**2).sum())
    # Weights almost all equal have no tail; where one draw has nearly all, nothing can be smoothed.
    if effective > (1.0 - ALMOST) * raw.size:
        return raw, 0.0
    if effective < FEWEST:
        return raw, np.inf
    smooth, shape = smooth_tails(flat[None])
    return np.exp(smooth[0]), float(shape[0])


def weighted_quantiles(values: Floats, weights: Floats, parts: Sequence[float]) -> Floats:
    """Quantiles of draws with weights, each one of the draws."""
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return np.asarray(values[order][np.searchsorted(passed, np.multiply(parts, passed[-1]))])


def require_independent(fit: Fit, words: str) -> None:
    """Refuse a model in which the endpoints' hazard ratios are correlated before any data.

    `words`: what is said then, with ``{model}`` where the model's name belongs.
    """
    if isinstance(fit.definition.endpoints, Correlated) and len(fit.person_time.endpoints) > 1:
        raise EstimandError(f"{words.format(model=fit.definition.name)}. Fit 'primary'.")
