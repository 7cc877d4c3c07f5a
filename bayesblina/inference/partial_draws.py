"""Posteriors of a normal prior and a partial likelihood: modes, sds integrated over, draws.

What spreads parameters (an sd that is estimated, a correlation) is integrated over on the nodes of
a quadrature. At each node the rest is a normal prior times a partial likelihood, whose logarithm is
concave: its mode and curvature give a proposal, and the share of the node. Importance weights make
the draws exact, up to the quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import log, pi, prod

import numpy as np
from scipy.linalg import cho_solve, cholesky

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.breslow import PartialLikelihood
from bayesblina.inference.convergence import ess_mean
from bayesblina.inference.monte_carlo import (
    hamiltonian,
    pareto_smoothed,
    resample,
    student_proposals,
)

NEWTON_STEPS = 60
HALVINGS = 30
PRECISION = 1e-7
# A mode farther out than this in a direction without a prior is none.
FARTHEST = 20.0
# Nodes to find where an sd is likely, and nodes there.
SCAN_NODES = 12
NODES = 16
# More than this are not integrated over.
MOST_SPREADS = 3
# Products for one mode beyond which event times are grouped while modes are looked for ...
LIGHT = 2e6
# ... into no fewer groups than this.
FEWEST_TIMES = 256
# A node is unlikely if its log density is this much below the largest.
UNLIKELY = 12.0
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
# Products beyond which fewer draws are taken.
MOST_PRODUCTS = 2e10
FEWEST_DRAWS = 256
# Event times are grouped so much less finely to see what grouping does.
COARSER = (0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Something that is integrated over, from 0 on.

    `high`: end of its range.
    `precision`: of its prior, a half-normal one; 0 for a uniform one.
    """

    high: float
    precision: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Posterior:
    """A posterior: parameters with a normal prior, given what spreads them.

    `likelihood`: the partial likelihood of the parameters.
    `mean`, `precision`, shape (coordinate,): prior of the coordinates, independent normals; a
    precision of 0 is a flat prior.
    `origin`, shape (parameter,): parameters at coordinates of 0.
    `base`, shape (parameter, coordinate): takes coordinates to parameters.
    `spreads`: what is integrated over.
    `axis`, shape (coordinate,): the spread by which a coordinate is multiplied; -1 for none.
    `mixed`: gives the base where it depends on the spreads, which then multiply nothing.
    """

    likelihood: PartialLikelihood
    mean: Floats
    precision: Floats
    origin: Floats
    base: Floats
    spreads: tuple[Spread, ...]
    axis: Ints
    mixed: Callable[[Sequence[float]], Floats] | None = None

    def at(self, spreads: Sequence[float]) -> Target:
        """Give the density of the coordinates, given what spreads them."""
        return Target(
            problem=self,
            linear=self.base * np.append(spreads, 1.0)[self.axis]
            if self.mixed is None
            else self.mixed(spreads),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A normal prior times a partial likelihood: a problem, given what spreads its parameters.

    `linear`, shape (parameter, coordinate): takes coordinates to parameters.
    """

    problem: Posterior
    linear: Floats

    def parameters(self, coordinates: Floats) -> Floats:
        """Parameters, (draw, parameter)."""
        return np.asarray(self.problem.origin + coordinates @ self.linear.T)

    def derivatives(self, coordinate: Floats) -> tuple[float, Floats, Floats]:
        """Log density at one point, its gradient and its curvature, with the sign changed."""
        problem = self.problem
        value, gradient, curvature = problem.likelihood.derivatives(
            problem.origin + self.linear @ coordinate
        )
        away = coordinate - problem.mean
        value -= 0.5 * float(away**2 @ problem.precision)
        gradient = self.linear.T @ gradient - away * problem.precision
        curvature = self.linear.T @ curvature @ self.linear + np.diag(problem.precision)
        return value, gradient, curvature


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Laplace:
    """The normal approximation at the mode.

    `target`: the density.
    `mode`, shape (coordinate,): where the density is largest.
    `root`, shape (coordinate, coordinate): lower Cholesky factor of the curvature.
    `value`: log density at the mode.
    """

    target: Target
    mode: Floats
    root: Floats
    value: float

    @property
    def parameters(self) -> Floats:
        """The parameters at the mode."""
        return np.asarray(self.target.parameters(self.mode[None])[0])

    @property
    def inverse(self) -> Floats:
        """Inverse of the root, lower triangular."""
        return np.asarray(np.linalg.inv(self.root))

    @property
    def covariance(self) -> Floats:
        """Inverse of the curvature."""
        inverse = self.inverse
        return np.asarray(inverse.T @ inverse)

    @property
    def log_determinant(self) -> float:
        """Log determinant of the root."""
        return float(np.log(np.diag(self.root)).sum())

    @property
    def log_evidence(self) -> float:
        """Log of the density's integral, approximately."""
        return self.value + self.mode.size / 2.0 * log(2.0 * pi) - self.log_determinant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A value of what is integrated over, and the rest given it.

    `spreads`: coordinates of the spreads.
    `log_weight`: log weight of the quadrature times the prior density.
    `laplace`: normal approximation of the density given them.
    """

    spreads: tuple[float, ...]
    log_weight: float
    laplace: Laplace

    @property
    def log_share(self) -> float:
        """Log of the node's part of the integral, approximately."""
        return self.log_weight + self.laplace.log_evidence


def find_mode(target: Target, start: Floats | None = None) -> Laplace | None:
    """Find the mode by Newton's method with halved steps.

    None where there is no finite mode.

    `target`: the density; its logarithm is concave.
    `start`, shape (coordinate,): where to start; by default at the prior's mean.
    """
    flat = target.problem.precision == 0.0
    point = np.where(flat, 0.0, target.problem.mean) if start is None else start
    value, gradient, curvature = target.derivatives(point)
    # Where the curvature has no Cholesky root there is no maximum.
    with suppress(np.linalg.LinAlgError):
        for _ in range(NEWTON_STEPS):
            step = cho_solve((_root(curvature), True), gradient, check_finite=False)
            size = 1.0
            for _ in range(HALVINGS):
                moved = target.derivatives(point + size * step)
                if moved[0] >= value - 1e-9 * abs(value):
                    break
                size /= 2.0
            point = point + size * step
            value, gradient, curvature = moved
            if np.abs(point[flat]).max(initial=0.0) > FARTHEST:
                return None
            if float(np.abs(step).max(initial=0.0)) < PRECISION:
                return Laplace(target=target, mode=point, root=_root(curvature), value=value)
    return None


def _root(curvature: Floats) -> Floats:
    return np.asarray(cholesky(curvature, lower=True, check_finite=False))


def find_nodes(problem: Posterior) -> list[Node] | None:
    """Find the nodes of the quadrature over what spreads the parameters.

    One where nothing is integrated over; None where there is no finite mode.
    """
    if not problem.spreads:
        return _at_nodes(problem, np.zeros((1, 0)), np.zeros(1))
    box = [(0.0, spread.high) for spread in problem.spreads]
    scanned = _at_nodes(problem, *_gauss_legendre(box, SCAN_NODES))
    if scanned is None:
        return None
    shares = np.array([node.log_share for node in scanned])
    likely = shares > shares.max() - UNLIKELY
    scanned_at = np.array([node.spreads for node in scanned])
    closer = []
    for axis, (low, high) in enumerate(box):
        known = np.unique(scanned_at[:, axis])
        inside = scanned_at[likely, axis]
        below, above = known[known < inside.min()], known[known > inside.max()]
        closer.append((below[-1] if below.size else low, above[0] if above.size else high))
    first_likely = scanned[int(np.argmax(likely))]
    return _at_nodes(problem, *_gauss_legendre(closer, NODES), start=first_likely.laplace.mode)


def lightened(problem: Posterior) -> Posterior:
    """Group event times where modes are wanted at many nodes of a large problem.

    Nearly the same, good enough for proposals: gradient and information are those of the finest
    times at the mode where the spreads have the scales of their priors.
    """
    likelihood = problem.likelihood
    share = max(
        LIGHT / max(likelihood.cost() * likelihood.dimension, 1),
        FEWEST_TIMES / max(likelihood.times, 1),
    )
    if not problem.spreads or share >= 1.0:
        return problem
    coarse = likelihood.coarser(share)
    scales = [spread.high / 5.0 for spread in problem.spreads]
    middle = find_mode(replace(problem, likelihood=coarse).at(scales))
    if middle is None:
        return problem
    return replace(problem, likelihood=coarse.corrected(likelihood, middle.parameters))


def _gauss_legendre(box: Sequence[tuple[float, float]], size: int) -> tuple[Floats, Floats]:
    """Nodes, (node, axis), and log weights of a product of Gauss-Legendre rules."""
    # Fewer on each of several axes.
    size = round(size * (1.0, 0.6, 0.33)[len(box) - 1])
    unit, weight = np.polynomial.legendre.leggauss(size)
    axes = [low + (unit + 1.0) / 2.0 * (high - low) for low, high in box]
    volume = prod(high - low for low, high in box) / 2.0 ** len(box)
    grid = np.stack([values.ravel() for values in np.meshgrid(*axes, indexing="ij")], axis=1)
    logs = sum(
        values.ravel() for values in np.meshgrid(*[np.log(weight)] * len(box), indexing="ij")
    )
    return grid, np.asarray(logs + log(volume))


def _at_nodes(
    problem: Posterior, grid: Floats, log_weights: Floats, *, start: Floats | None = None
) -> list[Node] | None:
    nodes = []
    for spreads, log_weight in zip(map(tuple, grid.tolist()), log_weights.tolist(), strict=True):
        laplace = find_mode(problem.at(spreads), start)
        if laplace is None:
            return None
        start = laplace.mode
        log_prior = sum(
            -0.5 * spread.precision * value**2
            for spread, value in zip(problem.spreads, spreads, strict=True)
        )
        nodes.append(Node(spreads=spreads, log_weight=log_weight + log_prior, laplace=laplace))
    return nodes


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
    effects: Sequence[int] = (0,),
) -> Drawn:
    """Draw from a posterior by importance sampling around the modes at the nodes.

    `effects`: the parameters whose error, and number of effective draws, are given.
    `rougher`: likelihoods with times grouped less finely; by default they are worked out.
    """
    finest = problem.likelihood
    middle = max(nodes, key=lambda node: node.log_share)
    point = middle.laplace.parameters
    share = max(
        (BUDGET_GROUPED if grouped else BUDGET) / (max(finest.cost(), 1) * count),
        FEWEST_TIMES / max(finest.times, 1),
    )
    # Near the mode all is as with the finest groups, far from it the density's shape is.
    likelihood = finest.coarser(share).corrected(finest, point) if share < 1.0 else finest
    wanted = int(min(count, max(FEWEST_DRAWS, MOST_PRODUCTS / max(likelihood.cost(), 1))))
    coordinates, node_of, log_proposal = _proposals(nodes, wanted, seed)
    parameters, log_prior = np.empty((node_of.size, problem.origin.size)), np.empty(node_of.size)
    for number, node in enumerate(nodes):
        mine = node_of == number
        parameters[mine] = node.laplace.target.parameters(coordinates[mine])
        log_prior[mine] = node.log_weight
    log_prior -= 0.5 * (coordinates - problem.mean) ** 2 @ problem.precision
    known = likelihood.value(parameters)
    weights, pareto_k = pareto_smoothed(known + log_prior - log_proposal)
    error = 0.0
    if grouped:
        coarser = rougher or [finest.coarser(part) for part in COARSER]
        error += max(_mode_error(finest, other, middle.laplace, effects) for other in coarser)
    if share < 1.0:
        away = finest.coarser(share / 2.0).corrected(finest, point).value(parameters) - known
        tilted = weights * np.exp(away - away.max())
        shift = (tilted / tilted.sum() - weights) @ parameters[:, effects]
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
        effective_draws=float(ess_mean(chained[:, :, effects]).min()),
        error=error,
    )


def _proposals(
    nodes: list[Node], wanted: int, seed: tuple[int, ...]
) -> tuple[Floats, Ints, Floats]:
    """Draw coordinates at nodes, in proportion to their shares."""
    proposed = 1 << (wanted - 1).bit_length()
    dimension = nodes[0].laplace.mode.size
    standard, log_proposal = student_proposals(
        proposed, dimension, degrees=max(FEWEST_DEGREES, float(dimension)), seed=seed
    )
    shares = np.array([node.log_share for node in nodes])
    share = np.exp(shares - shares.max())
    ends = np.round(np.cumsum(share) / share.sum() * proposed).astype(np.int64)
    node_of = np.searchsorted(ends, np.arange(proposed), side="right")
    coordinates = np.empty(standard.shape)
    for number, node in enumerate(nodes):
        mine = node_of == number
        if mine.any():
            coordinates[mine] = node.laplace.mode + standard[mine] @ node.laplace.inverse
            log_proposal[mine] += node.laplace.log_determinant + log(mine.mean())
    return coordinates, node_of, log_proposal


def _mode_error(
    likelihood: PartialLikelihood,
    rougher: PartialLikelihood,
    laplace: Laplace,
    effects: Sequence[int],
) -> float:
    """How far the mode moves if event times are grouped less finely."""
    _, gradient, _ = likelihood.derivatives(laplace.parameters)
    _, other, _ = rougher.derivatives(laplace.parameters)
    linear = laplace.target.linear
    shift = linear @ laplace.covariance @ linear.T @ (other - gradient)
    return float(np.abs(shift[list(effects)]).max())


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
        moved = mode + point[:, :size] @ inverse
        spread = np.exp(centre + scale * point[:, size:])
        factor = np.concatenate([spread, np.ones((point.shape[0], 1))], axis=1)
        factor = factor[:, np.where(problem.axis < 0, none, problem.axis)]
        return moved, spread, factor, problem.origin + (factor * moved) @ problem.base.T

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
