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

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.breslow import PartialLikelihood

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
        if self.mixed is None:
            linear = self.base * np.append(spreads, 1.0)[self.axis]
        else:
            linear = self.mixed(spreads)
        return Target(problem=self, linear=linear)


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

    `mode`, shape (coordinate,): where the density is largest.
    `root`, shape (coordinate, coordinate): lower Cholesky factor of the curvature.
    `value`: log density at the mode.
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

    `spreads`: coordinates of the spreads.
    `log_weight`: log weight of the quadrature times the prior density.
    `target`, `laplace`: the density given them, and its normal approximation.
    """

    spreads: tuple[float, ...]
    log_weight: float
    target: Target
    laplace: Laplace


def find_mode(target: Target, start: Floats | None = None) -> Laplace | None:
    """Find the mode by Newton's method with halved steps.

    None where there is no finite mode.

    `target`: the density; its logarithm is concave.
    `start`, shape (coordinate,): where to start; by default at the prior's mean.
    """
    flat = target.problem.precision == 0.0
    point = np.where(flat, 0.0, target.problem.mean) if start is None else start
    value, gradient, curvature = target.derivatives(point)
    for _ in range(NEWTON_STEPS):
        root = _root(curvature)
        if root is None:
            return None
        step = cho_solve((root, True), gradient, check_finite=False)
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
            root = _root(curvature)
            return None if root is None else Laplace(mode=point, root=root, value=value)
    return None


def _root(curvature: Floats) -> Floats | None:
    try:
        return np.asarray(cholesky(curvature, lower=True, check_finite=False))
    except np.linalg.LinAlgError:
        return None


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


def lightened(problem: Posterior) -> Posterior:
    """Group event times where modes are wanted at many nodes of a large problem.

    Nearly the same, good enough for proposals: gradient and information are those of the finest
    times at the mode where the spreads have the scales of their priors.
    """
    likelihood = problem.likelihood
    share = LIGHT / max(likelihood.cost() * likelihood.dimension, 1)
    share = max(share, FEWEST_TIMES / max(likelihood.times, 1))
    if not problem.spreads or share >= 1.0:
        return problem
    coarse = likelihood.coarser(share)
    middle = replace(problem, likelihood=coarse).at(
        [spread.high / 5.0 for spread in problem.spreads]
    )
    mode = find_mode(middle)
    if mode is None:
        return problem
    point = middle.parameters(mode.mode[None])[0]
    return replace(problem, likelihood=coarse.corrected(likelihood, point))


def _likely(nodes: Sequence[Node]) -> NDArray[np.bool_]:
    share = np.array([node.log_weight + node.laplace.log_evidence for node in nodes])
    return np.asarray(share > share.max() - UNLIKELY)


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
    problem: Posterior, places: Floats, log_weights: Floats, *, start: Floats | None = None
) -> list[Node] | None:
    nodes = []
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
        nodes.append(
            Node(
                spreads=spreads,
                log_weight=float(log_weight) + prior,
                target=target,
                laplace=laplace,
            )
        )
    return nodes
