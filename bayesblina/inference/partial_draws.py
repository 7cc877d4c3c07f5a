"""Draws from posteriors of a normal prior and a partial likelihood, by importance sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.breslow import PartialLikelihood
from bayesblina.inference.hamiltonian import hamiltonian
from bayesblina.inference.importance import pareto_smoothed, resample, student_proposals
from bayesblina.inference.laplace import Node, Posterior
from bayesblina.inference.mixing import ess_mean

# Degrees of freedom of proposals: at least this, and more in many dimensions.
FEWEST_DEGREES = 6.0
# Above this Pareto k draws are made by Hamiltonian Monte Carlo.
LARGEST_K = 0.5
CHAINS = 200
WARM_UP = 100
# Products of draws, event times and groups beyond which times are grouped for the draws ...
BUDGET = 4e8
# ... or where they are grouped already.
BUDGET_GROUPED = 1e8
FEWEST_TIMES = 256
# Products beyond which fewer draws are taken.
MOST_PRODUCTS = 2e10
FEWEST_DRAWS = 256
# Event times are grouped so much less finely to see what grouping does.
COARSER = (0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Equally weighted draws.

    `parameters`, shape (draw, parameter): the draws.
    `method`: ``"importance"`` or ``"hmc"``.
    `pareto_k`: Pareto k of the importance weights.
    `effective_draws`: number of independent draws that say as much of means.
    `error`: error of the means of the first parameters that comes from grouping event times.
    """

    parameters: Floats
    method: str
    pareto_k: float
    effective_draws: float
    error: float


def draw(
    problem: Posterior,
    nodes: list[Node],
    *,
    count: int,
    seed: tuple[int, ...],
    grouped: bool = False,
    rougher: Sequence[PartialLikelihood] = (),
    told: Sequence[int] = (0,),
) -> Drawn:
    """Draw from a posterior by importance sampling around the modes at the nodes.

    `rougher`: likelihoods with times grouped less finely; by default they are worked out.
    """
    finest = problem.likelihood
    shares = np.array([node.log_weight + node.laplace.log_evidence for node in nodes])
    middle = nodes[int(shares.argmax())]
    point = middle.target.parameters(middle.laplace.mode[None])[0]
    affordable = (BUDGET_GROUPED if grouped else BUDGET) / (max(finest.cost(), 1) * count)
    share = max(affordable, FEWEST_TIMES / max(finest.times, 1))
    likelihood = finest
    if share < 1.0:
        # Near the mode all is as with the finest groups, far from it the density's shape is.
        likelihood = finest.coarser(share).corrected(finest, point)
    wanted = int(min(count, max(FEWEST_DRAWS, MOST_PRODUCTS / max(likelihood.cost(), 1))))
    coordinates, node_of, log_proposal = _proposals(nodes, shares, wanted, seed)
    parameters, log_prior = np.empty((node_of.size, problem.origin.size)), np.empty(node_of.size)
    for number, node in enumerate(nodes):
        mine = node_of == number
        parameters[mine] = node.target.parameters(coordinates[mine])
        log_prior[mine] = node.log_weight
    log_prior -= 0.5 * (coordinates - problem.mean) ** 2 @ problem.precision
    known = likelihood.value(parameters)
    weights, pareto_k = pareto_smoothed(known + log_prior - log_proposal)
    error = 0.0
    if grouped:
        coarse = rougher or [finest.coarser(part) for part in COARSER]
        error += max(_mode_error(finest, one, middle, told) for one in coarse)
    if share < 1.0:
        away = finest.coarser(share / 2.0).corrected(finest, point).value(parameters) - known
        tilted = weights * np.exp(away - away.max())
        shift = (tilted / tilted.sum() - weights) @ parameters[:, told]
        error += float(np.abs(shift).max())
    rng = np.random.default_rng((*seed, 1))
    taken = resample(weights, wanted, key=parameters[:, 0], rng=rng)
    if pareto_k <= LARGEST_K or problem.mixed is not None:
        return Drawn(
            parameters=parameters[taken],
            method="importance",
            pareto_k=pareto_k,
            effective_draws=float(1.0 / (weights**2).sum()),
            error=error,
        )
    chained = _chains(
        replace(problem, likelihood=likelihood),
        middle,
        coordinates[taken],
        np.array([node.spreads for node in nodes])[node_of[taken]],
        seed=(*seed, 2),
    )
    return Drawn(
        parameters=rng.permutation(chained.reshape(-1, chained.shape[2]))[:wanted],
        method="hmc",
        pareto_k=pareto_k,
        effective_draws=float(ess_mean(chained[:, :, told]).min()),
        error=error,
    )


def _proposals(
    nodes: list[Node], shares: Floats, wanted: int, seed: tuple[int, ...]
) -> tuple[Floats, Ints, Floats]:
    """Draw coordinates at nodes, in proportion to their shares."""
    proposed = 1 << (wanted - 1).bit_length()
    dimension = nodes[0].laplace.mode.size
    degrees = max(FEWEST_DEGREES, float(dimension))
    standard, log_density = student_proposals(proposed, dimension, degrees=degrees, seed=seed)
    share = np.exp(shares - shares.max())
    ends = np.round(np.cumsum(share) / share.sum() * proposed).astype(np.int64)
    node_of = np.searchsorted(ends, np.arange(proposed), side="right")
    coordinates, log_proposal = np.empty(standard.shape), log_density
    for number, node in enumerate(nodes):
        mine = node_of == number
        size = int(mine.sum())
        if size:
            coordinates[mine] = node.laplace.mode + standard[mine] @ node.laplace.inverse
            log_proposal[mine] += node.laplace.log_determinant + log(size / proposed)
    return coordinates, node_of, log_proposal


def _mode_error(
    likelihood: PartialLikelihood,
    rougher: PartialLikelihood,
    node: Node,
    told: Sequence[int],
) -> float:
    """How far the mode moves if event times are grouped less finely."""
    point = node.target.parameters(node.laplace.mode[None])[0]
    _, gradient, _ = likelihood.derivatives(point)
    _, other, _ = rougher.derivatives(point)
    linear = node.target.linear
    shift = linear @ node.laplace.covariance @ linear.T @ (other - gradient)
    return float(np.abs(shift[list(told)]).max())


def _chains(
    problem: Posterior, middle: Node, coordinates: Floats, spreads: Floats, *, seed: tuple[int, ...]
) -> Floats:
    """Draw by Hamiltonian Monte Carlo from where importance sampling leads, (chain, draw, ...).

    Spreads move along with the coordinates, by their logarithms.
    """
    inverse, mode, size = middle.laplace.inverse, middle.laplace.mode, middle.laplace.mode.size
    logs = np.log(spreads)
    centre, scale = logs.mean(axis=0), np.maximum(logs.std(axis=0), 1e-3)
    white = np.concatenate(
        [(coordinates - mode) @ middle.laplace.root, (logs - centre) / scale], axis=1
    )
    precision = np.array([each.precision for each in problem.spreads])
    none = problem.axis.max(initial=-1) + 1
    of_spread = (problem.axis[:, None] == np.arange(len(problem.spreads))).astype(np.float64)

    def parameters(point: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        moved, spread = (
            mode + point[:, :size] @ inverse,
            np.exp(centre + scale * point[:, size:]),
        )
        factor = np.concatenate([spread, np.ones((point.shape[0], 1))], axis=1)
        factor = factor[:, np.where(problem.axis < 0, none, problem.axis)]
        return (
            moved,
            spread,
            factor,
            problem.origin + (factor * moved) @ problem.base.T,
        )

    def density(point: Floats) -> tuple[Floats, Floats]:
        moved, spread, factor, values = parameters(point)
        value, gradient = problem.likelihood.gradients(values)
        away = moved - problem.mean
        value = value - 0.5 * away**2 @ problem.precision - 0.5 * spread**2 @ precision
        value = value + np.log(spread).sum(axis=1)
        by_coordinate = (gradient @ problem.base) * factor
        slope = np.empty(point.shape)
        slope[:, :size] = (by_coordinate - away * problem.precision) @ inverse.T
        by_spread = (by_coordinate * moved) @ of_spread - spread**2 * precision + 1.0
        slope[:, size:] = by_spread * scale
        return value, slope

    chains = min(CHAINS, white.shape[0])
    length = max(-(-white.shape[0] // chains), 4)
    kept = hamiltonian(density, white[:chains], draws=length, warm_up=WARM_UP, seed=seed)
    drawn = parameters(kept.reshape(-1, white.shape[1]))[3]
    return np.asarray(drawn.reshape(chains, length, -1))
