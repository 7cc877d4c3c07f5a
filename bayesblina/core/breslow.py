"""Breslow's partial likelihood of risk sets whose log hazard ratios are linear in parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bayesblina.core.arrays import Floats

# Numbers at once in a table by draw: what stays in a processor's cache.
BLOCK = 50_000
FEWEST_AT_ONCE = 64
# Products at once up to which BLAS uses one thread: waking others takes longer than small products.
ONE_THREAD = 260_000
SMALLEST = 1e-300
# Products that take as long as a logarithm.
LOGARITHM = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FailureBlock:
    """Risk sets whose groups have log hazard ratios that are linear in the parameters.

    `events`, shape (time,): weighted numbers of events.
    `at_risk`, shape (time, group): weighted numbers at risk.
    `design`, shape (group, parameter): what the parameters are multiplied by.
    `score`, shape (parameter,): design summed over the events.
    """

    events: Floats
    at_risk: Floats
    design: Floats
    score: Floats

    def coarser(self, times: int) -> FailureBlock:
        """Group neighbouring event times into at most that many groups."""
        size = min(times, self.events.size)
        first = np.arange(size) * self.events.size // size
        events = np.add.reduceat(self.events, first)
        at_risk = np.add.reduceat(self.at_risk * self.events[:, None], first, axis=0)
        return replace(self, events=events, at_risk=at_risk / events[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correction:
    """A quadratic function.

    `point`, `gradient`, shape (parameter,): where it is 0, and its gradient there.
    `information`, shape (parameter, parameter): its curvature, with the sign changed.
    """

    point: Floats
    gradient: Floats
    information: Floats

    def value(self, parameters: Floats) -> Floats:
        """Values, shape (draw,), at parameters of shape (draw, parameter)."""
        away = parameters - self.point
        square = np.einsum("np,pq,nq->n", away, self.information, away, optimize=True)
        return np.asarray(away @ self.gradient - 0.5 * square)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartialLikelihood:
    """Breslow's log partial likelihood.

    `correction`: quadratic function that is added.

    Breslow (1974), doi:10.2307/2529620; with weights as in Binder (1992),
    doi:10.1093/biomet/79.1.139.
    """

    blocks: tuple[FailureBlock, ...]
    dimension: int
    correction: Correction | None = None

    def value(self, parameters: Floats) -> Floats:
        """Log partial likelihood, shape (draw,), of parameters of shape (draw, parameter)."""
        total = np.zeros(parameters.shape[0])
        for block in self.blocks:
            for some in _parts(parameters.shape[0], block.at_risk):
                linear = block.design @ parameters[some].T
                top = linear.max(axis=0)
                at_risk = block.at_risk @ np.exp(linear - top)
                np.maximum(at_risk, SMALLEST, out=at_risk)
                total[some] -= _weighted_logs(block.events, at_risk) + block.events.sum() * top
            total += parameters @ block.score
        if self.correction is not None:
            total += self.correction.value(parameters)
        return total

    def derivatives(self, parameter: Floats) -> tuple[float, Floats, Floats]:
        """Log partial likelihood at one parameter vector, its gradient and its information."""
        value, gradient = 0.0, np.zeros(self.dimension)
        information = np.zeros((self.dimension, self.dimension))
        for block in self.blocks:
            linear = block.design @ parameter
            top = float(linear.max())
            weight = np.exp(linear - top)
            total = np.maximum(block.at_risk @ weight, SMALLEST)
            mean = (block.at_risk @ (weight[:, None] * block.design)) / total[:, None]
            share = weight * (block.at_risk.T @ (block.events / total))
            value += float(block.score @ parameter)
            value -= float(block.events @ np.log(total)) + float(block.events.sum()) * top
            gradient += block.score - share @ block.design
            information += block.design.T @ (share[:, None] * block.design)
            information -= mean.T @ (block.events[:, None] * mean)
        if self.correction is not None:
            away = parameter - self.correction.point
            value += float(self.correction.value(parameter[None])[0])
            gradient += self.correction.gradient - self.correction.information @ away
            information += self.correction.information
        return value, gradient, information

    def gradients(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Log partial likelihoods, (draw,), and their gradients, (draw, parameter)."""
        value, gradient = np.zeros(parameters.shape[0]), np.zeros(parameters.shape)
        for block in self.blocks:
            for some in _parts(parameters.shape[0], block.at_risk):
                linear = block.design @ parameters[some].T
                top = linear.max(axis=0)
                weight = np.exp(linear - top)
                total = np.maximum(block.at_risk @ weight, SMALLEST)
                value[some] -= block.events @ np.log(total) + block.events.sum() * top
                share = weight * (block.at_risk.T @ (block.events[:, None] / total))
                gradient[some] -= share.T @ block.design
            value += parameters @ block.score
            gradient += block.score
        if self.correction is not None:
            value += self.correction.value(parameters)
            away = parameters - self.correction.point
            gradient += self.correction.gradient - away @ self.correction.information
        return value, gradient

    @property
    def times(self) -> int:
        """Number of event times, over all blocks."""
        return sum(block.events.size for block in self.blocks)

    def cost(self) -> int:
        """Products that one evaluation takes, about; a logarithm counts as many."""
        return sum(
            block.events.size * (block.at_risk.shape[1] + LOGARITHM) for block in self.blocks
        )

    def coarser(self, share: float) -> PartialLikelihood:
        """Group event times, to about a share of their number."""
        return replace(
            self,
            blocks=tuple(
                block.coarser(max(1, round(share * block.events.size))) for block in self.blocks
            ),
        )

    def corrected(self, finer: PartialLikelihood, point: Floats) -> PartialLikelihood:
        """Add what makes gradient and information at a point those of finer groups of times."""
        _, gradient, information = self.derivatives(point)
        _, exact, exact_information = finer.derivatives(point)
        return replace(
            self,
            correction=Correction(
                point=point,
                gradient=exact - gradient,
                information=exact_information - information,
            ),
        )


def _parts(draws: int, at_risk: Floats) -> Iterator[slice]:
    """Cut draws into parts that are worked on at once."""
    few = ONE_THREAD // at_risk.size
    step = min(few, BLOCK // sum(at_risk.shape)) if few >= FEWEST_AT_ONCE // 4 else FEWEST_AT_ONCE
    step = max(step, FEWEST_AT_ONCE // 4)
    for begin in range(0, draws, step):
        yield slice(begin, min(begin + step, draws))


def _weighted_logs(events: Floats, at_risk: Floats) -> Floats:
    """Sum events times logs over times, (draw,); logs of products where every time has one."""
    fold = 8
    complete = at_risk.shape[0] // fold * fold
    if (
        complete
        and (events[:complete] == 1.0).all()
        and at_risk.min() > 1e-35
        and at_risk.max() < 1e35
    ):
        products = np.prod(at_risk[:complete].reshape(fold, complete // fold, -1), axis=0)
        return np.asarray(
            np.log(products).sum(axis=0) + events[complete:] @ np.log(at_risk[complete:])
        )
    return np.asarray(events @ np.log(at_risk))
