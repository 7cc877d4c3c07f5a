"""The companion of a fit: log hazard ratios by partial likelihood, with the fit's own priors.

The partial likelihood has no baseline that could be wrong. A fit whose baseline is free enough has
the same posterior of the log hazard ratios: Breslow's treatment of ties is its limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import log, pi

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky

from bayesblina.errors import SpecError
from bayesblina.exposure import Exposure
from bayesblina.hamiltonian import hamiltonian
from bayesblina.hazards.definition import (
    Commensurate,
    Correlated,
    HazardRatioPrior,
    ModelDefinition,
    PatientFrailty,
    RobustMixture,
)
from bayesblina.hazards.effects import Design, make_design
from bayesblina.importance import pareto_smoothed, resample, student_proposals
from bayesblina.mixing import ess_mean
from bayesblina.risk_sets import Block, PartialLikelihood, RiskSets, find_risk_sets, same_states

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLAT = ("phases", "covariates")
DEGREES = 6.0
# Above this Pareto k draws are made by Hamiltonian Monte Carlo.
LARGEST_K = 0.5
CHAINS = 200
NEWTON_STEPS = 60
HALVINGS = 30
PRECISION = 1e-7
# A mode farther out than this in a direction without a prior is none.
FARTHEST = 20.0
# Products of draws, event times and groups beyond which times are grouped for the draws ...
BUDGET = 4e8
# ... or where they are grouped already.
BUDGET_GROUPED = 1e8
FEWEST_TIMES = 256
# Products beyond which fewer draws are taken.
MOST_PRODUCTS = 2e10
FEWEST_DRAWS = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Companion:
    """The posterior of the log hazard ratios by partial likelihood.

    Attributes
    ----------
    draws : xarray.Dataset or None
        Equally weighted draws over (chain, draw, ...), one chain, named as in the fit's posterior:
        ``log_hazard_ratio`` over (endpoint, effect), ``coefficient`` over (endpoint, term), and
        what makes the effect vary. None where there is no partial likelihood to compare with.
    table : pandas.DataFrame
        One row per endpoint: ``endpoint``; ``method``, ``"importance"`` or ``"hmc"``, or ``"none"``
        where nothing is compared; ``pareto_k``, the Pareto k of the importance weights;
        ``effective_draws``; ``error``, the error of posterior means of log hazard ratios that
        comes from grouping event times, 0 where they are not grouped.
    reason
        Why nothing is compared, in a sentence; empty where it is.
    """

    draws: xr.Dataset | None
    table: pd.DataFrame
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A normal prior times a partial likelihood.

    Attributes
    ----------
    likelihood
        The partial likelihood.
    mean, precision : ndarray, shape (parameter,)
        Of the prior; a precision of 0 is a flat prior.
    """

    likelihood: PartialLikelihood
    mean: Floats
    precision: Floats

    def value(self, parameters: Floats) -> Floats:
        """Log densities, up to a constant, (draw,)."""
        away = parameters - self.mean
        return self.likelihood.value(parameters) - 0.5 * away**2 @ self.precision

    def derivatives(self, parameter: Floats) -> tuple[float, Floats, Floats]:
        """Log density at one point, its gradient and its curvature, with the sign changed."""
        value, gradient, curvature = self.likelihood.derivatives(parameter)
        away = parameter - self.mean
        value -= 0.5 * float(away**2 @ self.precision)
        return value, gradient - away * self.precision, curvature + np.diag(self.precision)

    def gradients(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Log densities, (draw,), and gradients, (draw, parameter)."""
        value, gradient = self.likelihood.gradients(parameters)
        away = parameters - self.mean
        return value - 0.5 * away**2 @ self.precision, gradient - away * self.precision


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Laplace:
    """The normal approximation at the mode.

    Attributes
    ----------
    mode : ndarray, shape (parameter,)
        Where the density is largest.
    root : ndarray, shape (parameter, parameter)
        Lower Cholesky factor of the curvature.
    """

    mode: Floats
    root: Floats

    def unwhitened(self, standard: Floats) -> Floats:
        """Take coordinates whose sds are about 1 to parameters, (draw, parameter)."""
        return np.asarray(self.mode + standard @ self.inverse)

    @property
    def inverse(self) -> Floats:
        """Inverse of the root, lower triangular."""
        return np.asarray(np.linalg.inv(self.root))

    @property
    def log_determinant(self) -> float:
        """Log determinant of the root of the curvature."""
        return float(np.log(np.diag(self.root)).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Draws of the parameters of one endpoint.

    Attributes
    ----------
    parameters : ndarray, shape (draw, parameter)
        Equally weighted.
    method, pareto_k, effective_draws, error
        As in the table of a `Companion`.
    """

    parameters: Floats
    method: str
    pareto_k: float
    effective_draws: float
    error: float = field(default=0.0)


def partial_posterior(
    definition: ModelDefinition,
    exposure: Exposure,
    *,
    seed: int,
    draws: int = 4000,
    flat: tuple[str, ...] = (),
) -> Companion:
    """Draw log hazard ratios from Breslow's partial likelihood and the model's own priors.

    Phases, covariates, strata, delayed entry and weights are those of the fit. The mode is found
    by Newton's method; draws from a Student t distribution around it are weighted, and resampled.
    Where the weights cannot be relied on, draws are made by Hamiltonian Monte Carlo.

    Parameters
    ----------
    definition
        The hazard model.
    exposure
        Events and person-time, with single patients.
    seed
        Seed of the draws.
    draws
        Number of draws; fewer are made where there are very many groups of patients.
    flat
        Priors to leave out: ``"phases"``, ``"covariates"``.

    Returns
    -------
    Companion
        The draws, and how they were made; or why there are none. Without a prior there may be no
        posterior: the reason then names what nothing identifies.

    Raises
    ------
    SpecError
        If there is no such prior, or the model needs a covariate that is not there.

    Notes
    -----
    Kalbfleisch (1978), doi:10.1111/j.2517-6161.1978.tb01666.x; Sinha, Ibrahim and Chen (2003),
    doi:10.1093/biomet/90.3.629.

    Examples
    --------
    >>> import bayesblina as bb
    >>> from bayesblina.companion import partial_posterior
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> found = partial_posterior(bb.load_model("primary"), bb.expose(cohort, question), seed=1)
    >>> found.draws["log_hazard_ratio"].sizes
    Frozen({'chain': 1, 'draw': 4000, 'endpoint': 2, 'effect': 1})
    """
    unknown = [name for name in flat if name not in FLAT]
    if unknown:
        raise SpecError(f"flat: no prior '{unknown[0]}'; expected some of {', '.join(FLAT)}.")
    reason = reason_for_none(definition, exposure)
    if reason:
        return _not_compared(exposure, reason)
    design = make_design(exposure, definition)
    same = same_states(design.contrast, design.exposed, design.pieces)
    strata = design.class_of // len(design.subgroups) if len(design.strata) > 1 else None
    found = []
    for index, name in enumerate(exposure.endpoints):
        sets, grouped = find_risk_sets(exposure, index, same=same, stratum_of=strata)
        target = _target(definition, design, sets, flat)
        laplace = find_mode(target)
        if laplace is None:
            without = " and ".join(flat)
            return _not_compared(
                exposure,
                f"without the prior of {without} nothing identifies a log hazard ratio of {name}: "
                "its posterior is improper",
            )
        found.append(
            draw_from(
                target,
                laplace,
                count=draws,
                seed=(seed, index),
                grouped=grouped,
                effects=len(design.effects),
            )
        )
    return Companion(
        draws=_dataset(exposure, design, found), table=_table(exposure, found), reason=""
    )


def reason_for_none(definition: ModelDefinition, exposure: Exposure) -> str:
    """Say why there is no partial likelihood with which a model can be compared.

    Parameters
    ----------
    definition
        The hazard model.
    exposure
        Events and person-time.

    Returns
    -------
    str
        A sentence without its full stop; empty where there is one.
    """
    if not exposure.complete:
        return "not compared: the patients are in a query engine, and their risk sets are not known"
    if definition.cure is not None:
        return (
            "not compared: with cured patients hazards are not proportional, and there is no "
            "partial likelihood"
        )
    if isinstance(definition.groups, PatientFrailty):
        return (
            "not compared: each patient has an effect of its own, and the partial likelihood says "
            "next to nothing of their sd"
        )
    if isinstance(definition.borrowing, Commensurate | RobustMixture):
        return (
            "not compared: how far external patients are borrowed from is estimated together with "
            "their baseline"
        )
    if isinstance(definition.endpoints, Correlated) and len(exposure.endpoints) > 1:
        return "not compared: the prior ties the endpoints' log hazard ratios to each other"
    return ""


def _not_compared(exposure: Exposure, reason: str) -> Companion:
    missing = float("nan")
    rows = [
        {
            "endpoint": name,
            "method": "none",
            "pareto_k": missing,
            "effective_draws": 0.0,
            "error": missing,
        }
        for name in exposure.endpoints
    ]
    return Companion(draws=None, table=pd.DataFrame(rows), reason=reason)


def _target(
    definition: ModelDefinition, design: Design, sets: list[RiskSets], flat: tuple[str, ...]
) -> Target:
    blocks = [
        Block.of(one, np.concatenate([design.contrast[one.state], design.terms[one.pattern]], 1))
        for one in sets
    ]
    parts: tuple[tuple[str, HazardRatioPrior, int], ...] = (
        ("phases", definition.phases.prior, len(design.effects)),
        ("covariates", definition.covariates.prior, len(design.term_names)),
    )
    mean = np.concatenate([np.full(size, prior.mean) for _, prior, size in parts])
    precision = np.concatenate(
        [np.full(size, 0.0 if name in flat else prior.sd**-2) for name, prior, size in parts]
    )
    return Target(
        likelihood=PartialLikelihood(blocks=tuple(blocks), dimension=mean.size),
        mean=mean,
        precision=precision,
    )


def find_mode(target: Target, start: Floats | None = None) -> Laplace | None:
    """Find the mode by Newton's method with halved steps.

    Parameters
    ----------
    target
        The density; its logarithm is concave.
    start : ndarray, shape (parameter,), optional
        Where to start; by default at the prior's mean.

    Returns
    -------
    Laplace or None
        None where there is no finite mode.
    """
    place = np.where(target.precision > 0.0, target.mean, 0.0) if start is None else start
    value, gradient, curvature = target.derivatives(place)
    for _ in range(NEWTON_STEPS):
        root = _root(curvature)
        if root is None:
            return None
        step = cho_solve((root, True), gradient, check_finite=False)
        size = 1.0
        for _ in range(HALVINGS):
            moved = target.derivatives(place + size * step)
            if moved[0] >= value - 1e-9 * abs(value):
                break
            size /= 2.0
        place = place + size * step
        value, gradient, curvature = moved
        if np.abs(place[target.precision == 0.0]).max(initial=0.0) > FARTHEST:
            return None
        if float(np.abs(step).max(initial=0.0)) < PRECISION:
            root = _root(curvature)
            return None if root is None else Laplace(mode=place, root=root)
    return None


def _root(curvature: Floats) -> Floats | None:
    try:
        return np.asarray(cholesky(curvature, lower=True, check_finite=False))
    except np.linalg.LinAlgError:
        return None


def draw_from(
    target: Target,
    laplace: Laplace,
    *,
    count: int,
    seed: tuple[int, ...],
    grouped: bool = False,
    effects: int = 1,
) -> Drawn:
    """Draw from a density by importance sampling around its mode.

    Parameters
    ----------
    target
        The density.
    laplace
        Its normal approximation.
    count
        Number of draws.
    seed
        Seed of the draws.
    grouped
        Whether event times are grouped.
    effects
        Number of parameters, the first ones, for which the error is stated.

    Returns
    -------
    Drawn
        Equally weighted draws.
    """
    finest = target.likelihood
    affordable = (BUDGET_GROUPED if grouped else BUDGET) / (finest.cost() * count)
    share = max(affordable, FEWEST_TIMES / max(finest.times, 1))
    if share < 1.0:
        # Far from the mode the shape of the density matters, near it what is exact.
        rough = finest.coarser(share).corrected(finest, laplace.mode)
        target = replace(target, likelihood=rough)
    wanted = int(min(count, max(FEWEST_DRAWS, MOST_PRODUCTS / max(target.likelihood.cost(), 1))))
    proposed = 1 << (wanted - 1).bit_length()
    standard, log_proposal = student_proposals(
        proposed, target.mean.size, degrees=DEGREES, seed=seed
    )
    parameters = laplace.unwhitened(standard)
    log_weights = target.value(parameters) - log_proposal
    weights, pareto_k = pareto_smoothed(log_weights)
    error = 0.0
    if grouped:
        error += _mode_error(finest, laplace, effects)
    if share < 1.0:
        rougher = finest.coarser(share / 2.0).corrected(finest, laplace.mode)
        away = rougher.value(parameters) - target.likelihood.value(parameters)
        tilted = weights * np.exp(away - away.max())
        shift = (tilted / tilted.sum() - weights) @ parameters[:, :effects]
        error += float(np.abs(shift).max())
    rng = np.random.default_rng((*seed, 1))
    taken = resample(weights, wanted, key=parameters[:, 0], rng=rng)
    if pareto_k <= LARGEST_K:
        return Drawn(
            parameters=parameters[taken],
            method="importance",
            pareto_k=pareto_k,
            effective_draws=float(1.0 / (weights**2).sum()),
            error=error,
        )
    chains, inverse = min(CHAINS, wanted), laplace.inverse

    def density(point: Floats) -> tuple[Floats, Floats]:
        value, gradient = target.gradients(laplace.mode + point @ inverse)
        return value, gradient @ inverse.T

    length = -(-wanted // chains)
    chain_draws = hamiltonian(
        density, standard[taken[:chains]], draws=length, warm_up=50, seed=(*seed, 2)
    )
    found = laplace.unwhitened(chain_draws.reshape(chains * length, -1))
    whole = found.reshape(chains, length, -1)
    return Drawn(
        parameters=rng.permutation(found)[:wanted],
        method="hmc",
        pareto_k=pareto_k,
        effective_draws=float(ess_mean(whole).min()) if length >= 4 else float(chains),
        error=error,
    )


def _mode_error(likelihood: PartialLikelihood, laplace: Laplace, effects: int) -> float:
    """How far the mode moves if event times are grouped half as finely."""
    _, gradient, _ = likelihood.derivatives(laplace.mode)
    _, other, _ = likelihood.coarser(0.5).derivatives(laplace.mode)
    shift = cho_solve((laplace.root, True), other - gradient, check_finite=False)
    return float(np.abs(shift[:effects]).max())


def log_evidence(target: Target, laplace: Laplace) -> float:
    """Approximate the log of a density's integral by Laplace's method.

    Parameters
    ----------
    target
        The density.
    laplace
        Its normal approximation.

    Returns
    -------
    float
        The logarithm.
    """
    peak = float(target.value(laplace.mode[None])[0])
    return peak + laplace.mode.size / 2.0 * log(2.0 * pi) - laplace.log_determinant


def _table(exposure: Exposure, found: list[Drawn]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "endpoint": list(exposure.endpoints),
            "method": [one.method for one in found],
            "pareto_k": [one.pareto_k for one in found],
            "effective_draws": [one.effective_draws for one in found],
            "error": [one.error for one in found],
        }
    )


def _dataset(exposure: Exposure, design: Design, found: list[Drawn]) -> xr.Dataset:
    count = min(one.parameters.shape[0] for one in found)
    values = np.stack([one.parameters[:count] for one in found], axis=1)[None]
    effects = len(design.effects)
    variables = {
        "log_hazard_ratio": (("chain", "draw", "endpoint", "effect"), values[..., :effects])
    }
    coords: dict[str, list[str] | Ints] = {
        "chain": np.arange(1),
        "draw": np.arange(count),
        "endpoint": list(exposure.endpoints),
        "effect": list(design.effects),
    }
    if design.term_names:
        variables["coefficient"] = (
            ("chain", "draw", "endpoint", "term"),
            values[..., effects : effects + len(design.term_names)],
        )
        coords["term"] = list(design.term_names)
    return xr.Dataset(variables, coords=coords)
