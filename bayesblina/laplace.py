"""Posteriors of a normal prior and a partial likelihood: modes, sds integrated over, draws.

What spreads parameters (an sd that is estimated, a correlation) is integrated over on the nodes of
a quadrature. At each node the rest is a normal prior times a partial likelihood, whose logarithm is
concave: its mode and curvature give a proposal, and the share of the node. Importance weights make
the draws exact, up to the quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import log, pi, prod

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky

from bayesblina.breslow import PartialLikelihood
from bayesblina.hamiltonian import hamiltonian
from bayesblina.importance import pareto_smoothed, resample, student_proposals
from bayesblina.mixing import ess_mean

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Degrees of freedom of proposals: at least this, and more in many dimensions.
FEWEST_DEGREES = 6.0
# Above this Pareto k draws are made by Hamiltonian Monte Carlo.
LARGEST_K = 0.5
CHAINS = 200
WARM_UP = 100
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
# A node is unlikely if its log density is this much below the largest.
UNLIKELY = 12.0
# Products of draws, event times and groups beyond which times are grouped for the draws ...
BUDGET = 4e8
# ... or where they are grouped already.
BUDGET_GROUPED = 1e8
FEWEST_TIMES = 256
# Products beyond which fewer draws are taken.
MOST_PRODUCTS = 2e10
FEWEST_DRAWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Something that is integrated over, from 0 on.

    Attributes
    ----------
    high
        End of its range.
    precision
        Of its prior, a half-normal one; 0 for a uniform one.
    """

    high: float
    precision: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A posterior: parameters with a normal prior, given what spreads them.

    Attributes
    ----------
    likelihood
        The partial likelihood of the parameters.
    mean, precision : ndarray, shape (coordinate,)
        Prior of the coordinates, independent normals; a precision of 0 is a flat prior.
    origin : ndarray, shape (parameter,)
        Parameters at coordinates of 0.
    base : ndarray, shape (parameter, coordinate)
        Takes coordinates to parameters.
    spreads
        What is integrated over.
    axis : ndarray of int, shape (coordinate,)
        The spread by which a coordinate is multiplied; -1 for none.
    mixed
        Gives the base where it depends on the spreads, which then multiply nothing.
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
        if self.mixed is None:
            linear = self.base * np.append(spreads, 1.0)[self.axis]
        else:
            linear = self.mixed(spreads)
        return Target(
            likelihood=self.likelihood,
            mean=self.mean,
            precision=self.precision,
            linear=linear,
            origin=self.origin,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A normal prior times a partial likelihood.

    Attributes
    ----------
    likelihood
        The partial likelihood of the parameters.
    mean, precision : ndarray, shape (coordinate,)
        Prior of the coordinates; a precision of 0 is a flat prior.
    linear : ndarray, shape (parameter, coordinate)
        Takes coordinates to parameters.
    origin : ndarray, shape (parameter,)
        Parameters at coordinates of 0.
    """

    likelihood: PartialLikelihood
    mean: Floats
    precision: Floats
    linear: Floats
    origin: Floats

    def parameters(self, coordinates: Floats) -> Floats:
        """Parameters, (draw, parameter)."""
        return np.asarray(self.origin + coordinates @ self.linear.T)

    def value(self, coordinates: Floats) -> Floats:
        """Log densities, up to a constant, (draw,)."""
        away = coordinates - self.mean
        prior = -0.5 * away**2 @ self.precision
        return np.asarray(self.likelihood.value(self.parameters(coordinates)) + prior)

    def derivatives(self, coordinate: Floats) -> tuple[float, Floats, Floats]:
        """Log density at one point, its gradient and its curvature, with the sign changed."""
        value, gradient, curvature = self.likelihood.derivatives(
            self.origin + self.linear @ coordinate
        )
        away = coordinate - self.mean
        value -= 0.5 * float(away**2 @ self.precision)
        gradient = self.linear.T @ gradient - away * self.precision
        curvature = self.linear.T @ curvature @ self.linear + np.diag(self.precision)
        return value, gradient, curvature


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Laplace:
    """The normal approximation at the mode.

    Attributes
    ----------
    mode : ndarray, shape (coordinate,)
        Where the density is largest.
    root : ndarray, shape (coordinate, coordinate)
        Lower Cholesky factor of the curvature.
    value
        Log density at the mode.
    """

    mode: Floats
    root: Floats
    value: float

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

    Attributes
    ----------
    spreads : tuple of float
        Coordinates of the spreads.
    log_weight
        Log weight of the quadrature times the prior density.
    target, laplace
        The density given them, and its normal approximation.
    """

    spreads: tuple[float, ...]
    log_weight: float
    target: Target
    laplace: Laplace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Equally weighted draws.

    Attributes
    ----------
    parameters : ndarray, shape (draw, parameter)
        The draws.
    method
        ``"importance"`` or ``"hmc"``.
    pareto_k
        Pareto k of the importance weights.
    effective_draws
        Number of independent draws that say as much of means.
    error
        Error of the means of the first parameters that comes from grouping event times.
    """

    parameters: Floats
    method: str
    pareto_k: float
    effective_draws: float
    error: float


def find_mode(target: Target, start: Floats | None = None) -> Laplace | None:
    """Find the mode by Newton's method with halved steps.

    Parameters
    ----------
    target
        The density; its logarithm is concave.
    start : ndarray, shape (coordinate,), optional
        Where to start; by default at the prior's mean.

    Returns
    -------
    Laplace or None
        None where there is no finite mode.
    """
    flat = target.precision == 0.0
    place = np.where(flat, 0.0, target.mean) if start is None else start
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
        if np.abs(place[flat]).max(initial=0.0) > FARTHEST:
            return None
        if float(np.abs(step).max(initial=0.0)) < PRECISION:
            root = _root(curvature)
            return None if root is None else Laplace(mode=place, root=root, value=value)
    return None


def _root(curvature: Floats) -> Floats | None:
    try:
        return np.asarray(cholesky(curvature, lower=True, check_finite=False))
    except np.linalg.LinAlgError:
        return None


def find_nodes(problem: Problem) -> list[Node] | None:
    """Find the nodes of the quadrature over what spreads the parameters.

    Parameters
    ----------
    problem
        The posterior.

    Returns
    -------
    list of Node or None
        One where nothing is integrated over; None where there is no finite mode.
    """
    if not problem.spreads:
        return _at_nodes(problem, np.zeros((1, 0)), np.zeros(1))
    box = [(0.0, one.high) for one in problem.spreads]
    scanned = _at_nodes(problem, *_gauss_legendre(box, SCAN_NODES))
    if scanned is None:
        return None
    likely = _likely(scanned)
    places = np.array([one.spreads for one in scanned])
    closer = []
    for axis, (low, high) in enumerate(box):
        known = np.unique(places[:, axis])
        inside = places[likely, axis]
        below, above = known[known < inside.min()], known[known > inside.max()]
        closer.append((below[-1] if below.size else low, above[0] if above.size else high))
    start = scanned[int(np.argmax(likely))].laplace.mode
    return _at_nodes(problem, *_gauss_legendre(closer, NODES), start=start)


def _likely(nodes: Sequence[Node]) -> NDArray[np.bool_]:
    share = np.array([one.log_weight + one.laplace.log_evidence for one in nodes])
    return np.asarray(share > share.max() - UNLIKELY)


def _gauss_legendre(box: Sequence[tuple[float, float]], size: int) -> tuple[Floats, Floats]:
    """Nodes, (node, axis), and log weights of a product of Gauss-Legendre rules."""
    # Fewer on each of several axes.
    size = round(size * (1.0, 0.6, 0.33)[len(box) - 1])
    unit, weight = np.polynomial.legendre.leggauss(size)
    axes = [low + (unit + 1.0) / 2.0 * (high - low) for low, high in box]
    volume = prod(high - low for low, high in box) / 2.0 ** len(box)
    grid = np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")], axis=1)
    logs = sum(one.ravel() for one in np.meshgrid(*[np.log(weight)] * len(box), indexing="ij"))
    return grid, np.asarray(logs + log(volume))


def _at_nodes(
    problem: Problem, places: Floats, log_weights: Floats, *, start: Floats | None = None
) -> list[Node] | None:
    found = []
    for place, log_weight in zip(places, log_weights, strict=True):
        spreads = tuple(float(one) for one in place)
        target = problem.at(spreads)
        laplace = find_mode(target, start)
        if laplace is None:
            return None
        start = laplace.mode
        prior = sum(
            -0.5 * spread.precision * one**2
            for spread, one in zip(problem.spreads, spreads, strict=True)
        )
        found.append(
            Node(
                spreads=spreads,
                log_weight=float(log_weight) + prior,
                target=target,
                laplace=laplace,
            )
        )
    return found


def draw(
    problem: Problem,
    nodes: list[Node],
    *,
    count: int,
    seed: tuple[int, ...],
    grouped: bool = False,
    told: Sequence[int] = (0,),
) -> Drawn:
    """Draw from a posterior by importance sampling around the modes at the nodes.

    Parameters
    ----------
    problem
        The posterior.
    nodes
        As `find_nodes` gives them.
    count
        Number of draws.
    seed
        Seed of the draws.
    grouped
        Whether event times are grouped.
    told
        Parameters for which the error is stated.

    Returns
    -------
    Drawn
        The draws.
    """
    finest = problem.likelihood
    shares = np.array([one.log_weight + one.laplace.log_evidence for one in nodes])
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
    for number, one in enumerate(nodes):
        mine = node_of == number
        parameters[mine] = one.target.parameters(coordinates[mine])
        log_prior[mine] = one.log_weight
    log_prior -= 0.5 * (coordinates - problem.mean) ** 2 @ problem.precision
    known = likelihood.value(parameters)
    weights, pareto_k = pareto_smoothed(known + log_prior - log_proposal)
    error = 0.0
    if grouped:
        error += _mode_error(finest, middle, told)
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
        np.array([one.spreads for one in nodes])[node_of[taken]],
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
    for number, one in enumerate(nodes):
        mine = node_of == number
        size = int(mine.sum())
        if size:
            coordinates[mine] = one.laplace.mode + standard[mine] @ one.laplace.inverse
            log_proposal[mine] += one.laplace.log_determinant + log(size / proposed)
    return coordinates, node_of, log_proposal


def _mode_error(likelihood: PartialLikelihood, node: Node, told: Sequence[int]) -> float:
    """How far the mode moves if event times are grouped half as finely."""
    point = node.target.parameters(node.laplace.mode[None])[0]
    _, gradient, _ = likelihood.derivatives(point)
    _, other, _ = likelihood.coarser(0.5).derivatives(point)
    linear = node.target.linear
    shift = linear @ node.laplace.covariance @ linear.T @ (other - gradient)
    return float(np.abs(shift[list(told)]).max())


def _chains(
    problem: Problem, middle: Node, coordinates: Floats, spreads: Floats, *, seed: tuple[int, ...]
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
    precision = np.array([one.precision for one in problem.spreads])
    none = problem.axis.max(initial=-1) + 1
    of_spread = (problem.axis[:, None] == np.arange(len(problem.spreads))).astype(np.float64)

    def parameters(point: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        place, spread = mode + point[:, :size] @ inverse, np.exp(centre + scale * point[:, size:])
        factor = np.concatenate([spread, np.ones((point.shape[0], 1))], axis=1)
        factor = factor[:, np.where(problem.axis < 0, none, problem.axis)]
        return place, spread, factor, problem.origin + (factor * place) @ problem.base.T

    def density(point: Floats) -> tuple[Floats, Floats]:
        place, spread, factor, values = parameters(point)
        value, gradient = problem.likelihood.gradients(values)
        away = place - problem.mean
        value = value - 0.5 * away**2 @ problem.precision - 0.5 * spread**2 @ precision
        value = value + np.log(spread).sum(axis=1)
        by_coordinate = (gradient @ problem.base) * factor
        slope = np.empty(point.shape)
        slope[:, :size] = (by_coordinate - away * problem.precision) @ inverse.T
        by_spread = (by_coordinate * place) @ of_spread - spread**2 * precision + 1.0
        slope[:, size:] = by_spread * scale
        return value, slope

    chains = min(CHAINS, white.shape[0])
    length = max(-(-white.shape[0] // chains), 4)
    kept = hamiltonian(density, white[:chains], draws=length, warm_up=WARM_UP, seed=seed)
    found = parameters(kept.reshape(-1, white.shape[1]))[3]
    return np.asarray(found.reshape(chains, length, -1))
