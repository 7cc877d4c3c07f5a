"""Continuous covariates of many patients, exactly enough, at a cost that does not grow with them.

With a continuous covariate every patient is a covariate pattern of its own. The likelihood needs
only sums over patients of time at risk times ``exp(x b)``, which are smooth functions of ``x``. A
patient is therefore spread over a few fixed values of the covariate, the Chebyshev nodes of its
range, with the weights of polynomial interpolation. These weights reproduce polynomials exactly, so
that person-time, events, means and variances stay as they are; for the exponential they converge
faster than any power of the number of nodes, with the error bounds below. Weights may be negative,
sums are not (up to the bound). What comes out has the form of any other table of patterns.

Trefethen (2019), Approximation Theory and Approximation Practice, doi:10.1137/1.9781611975949,
chapters 2 to 8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import ive

from bayesblina.core.arrays import Floats, Ints

# Sums of hazards are at most this far from the exact ones, relative to them.
TOLERANCE = 1e-9
# For log hazard ratios per sd of a covariate up to this ...
LARGEST_COEFFICIENT = 1.5
# ... and between the middle and the ends of its range at least up to this.
SMALLEST_SWING = 6.0
# Fewer patterns than this are kept as they are.
FEWEST_PATTERNS = 1000
# Different values of a covariate are counted up to this many.
DIFFERENT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The nodes that stand for one continuous covariate.

    `low`, `high`: its range.
    `swing`: largest log hazard ratio between the middle and the ends of the range for which sums of
    hazards are within `TOLERANCE`.
    """

    name: str
    low: float
    high: float
    nodes: int
    swing: float

    def scaled(self, values: Floats) -> Floats:
        """Take values to the interval from -1 to 1."""
        middle, half = (self.low + self.high) / 2.0, (self.high - self.low) / 2.0
        return np.asarray(np.clip((values - middle) / half, -1.0, 1.0))

    @property
    def values(self) -> Floats:
        """The covariate at the nodes, shape (node,), rising."""
        middle, half = (self.low + self.high) / 2.0, (self.high - self.low) / 2.0
        return np.asarray(middle + half * nodes(self.nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """How continuous covariates are compressed."""

    axes: tuple[Axis, ...]

    @property
    def degrees(self) -> tuple[int, ...]:
        """Numbers of nodes, and so of polynomials, by axis."""
        return tuple(axis.nodes for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of nodes of all axes together."""
        return math.prod(self.degrees)

    @property
    def values(self) -> Floats:
        """Covariates at the nodes, shape (node, covariate), the last covariate fastest."""
        grids = np.meshgrid(*(axis.values for axis in self.axes), indexing="ij")
        return np.stack([grid.ravel() for grid in grids], axis=1)

    def projection(self, covariates: Floats) -> Floats:
        """Spread patients over the nodes.

        `covariates`, shape (patient, covariate): their covariates, in the order of the axes.
        Result, shape (patient, node): weights; each row sums to 1 and reproduces the patient's
        covariates.
        """
        weights = np.ones((covariates.shape[0], 1))
        for index, axis in enumerate(self.axes):
            along = interpolation(axis.scaled(covariates[:, index]), axis.nodes)
            weights = (weights[:, :, None] * along[:, None, :]).reshape(weights.shape[0], -1)
        return weights

    def from_moments(self, sums: Floats) -> Floats:
        """Turn sums of products of Chebyshev polynomials into sums at the nodes.

        `sums`, shape (..., node): sums over patients of the products of the axes' polynomials, the
        last axis fastest.
        Result, shape (..., node): sums over patients of their weights at the nodes.
        """
        values = sums.reshape(*sums.shape[:-1], *self.degrees)
        for index, axis in enumerate(self.axes):
            position = sums.ndim - 1 + index
            values = np.moveaxis(
                np.tensordot(values, _from_polynomials(axis.nodes), axes=(position, 1)),
                -1,
                position,
            )
        return np.asarray(values.reshape(sums.shape))

    def hazard_error(self, swings: Sequence[float]) -> float:
        """Bound the relative error of sums of hazards over patients.

        `swings`: for each axis the absolute log hazard ratio between the middle and an end of its
        range.
        """
        # Products of 1 + error, less 1, without losing errors below the rounding of 1.
        logs = [
            math.log1p(exponential_error(axis.nodes, swing) + rounding(axis.nodes, swing))
            for axis, swing in zip(self.axes, swings, strict=True)
        ]
        total = math.fsum(logs)
        return math.expm1(total) if total < 700.0 else math.inf

    def survival_error(self, swings: Sequence[float], *, courses: bool = False) -> float:
        """Bound the error of survival averaged over patients.

        `courses`: whether it is survival with or without a relapse, of an illness-death course.
        """
        total, lebesgue = 0.0, 1.0
        for axis, swing in zip(self.axes, swings, strict=True):
            error = double_exponential_error(axis.nodes, swing, courses=courses)
            total += lebesgue * (error + rounding(axis.nodes, 0.0))
            lebesgue *= lebesgue_constant(axis.nodes)
        return min(total, 1.0)

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps([asdict(axis) for axis in self.axes])

    @classmethod
    def from_json(cls, text: str) -> Compression | None:
        """Read what `to_json` wrote.

        `text`: JSON; of an empty list where nothing is compressed.
        """
        axes = tuple(Axis(**axis) for axis in json.loads(text))
        return cls(axes=axes) if axes else None


def plan(
    names: Sequence[str],
    low: Floats,
    high: Floats,
    sd: Floats,
    *,
    patterns: int,
    groups: int,
    always: bool = False,
) -> Compression | None:
    """Decide whether to compress.

    None where there are few patterns, or compressing would not make them half as many.

    `low`, `high`, `sd`, shape (covariate,): their ranges and standard deviations over patients.
    """
    if not names or (patterns < FEWEST_PATTERNS and not always):
        return None
    compression = compress(names, low, high, sd)
    return compression if always or 2 * groups * compression.size <= patterns else None


def number_of_patterns(groups: int, different: Sequence[int], patients: int) -> int:
    """Bound the number of covariate patterns from what is quickly counted."""
    bound = groups
    for count in different:
        bound *= min(count, DIFFERENT)
    return min(bound, patients)


def compress(names: Sequence[str], low: Floats, high: Floats, sd: Floats) -> Compression:
    """Choose the nodes."""
    axes = []
    for index, name in enumerate(names):
        half = float(high[index] - low[index]) / 2.0
        swing = max(SMALLEST_SWING, LARGEST_COEFFICIENT * half / float(sd[index]))
        count = 2
        while exponential_error(count, swing) > TOLERANCE / len(names):
            count += 1
        axes.append(
            Axis(
                name=name, low=float(low[index]), high=float(high[index]), nodes=count, swing=swing
            )
        )
    return Compression(axes=tuple(axes))


def nodes(count: int) -> Floats:
    """Chebyshev nodes of the first kind within -1 to 1, rising."""
    return np.asarray(-np.cos(np.pi * (np.arange(count) + 0.5) / count))


def _polynomials(x: Floats, count: int) -> Floats:
    """Chebyshev polynomials of degrees below `count`, shape (..., degree)."""
    return np.asarray(np.polynomial.chebyshev.chebvander(x, count - 1), dtype=np.float64)


def _from_polynomials(count: int) -> Floats:
    """Lagrange polynomials of the nodes in terms of Chebyshev's, shape (node, degree)."""
    basis = _polynomials(nodes(count), count) * (2.0 / count)
    basis[:, 0] /= 2.0
    return np.asarray(basis)


def interpolation(x: Floats, count: int) -> Floats:
    """Weights with which a polynomial's values at the nodes give its value elsewhere.

    `x`, shape (n,): places within -1 to 1.
    Result, shape (n, node): weights.
    """
    return np.asarray(_polynomials(x, count) @ _from_polynomials(count).T)


def exponential_error(count: int, swing: float) -> float:
    """Bound the error of interpolating ``exp(a x)`` on -1 to 1, relative to its value."""
    if swing == 0.0:
        return 0.0
    if swing > 300.0:
        return math.inf
    # Terms fall faster than geometrically once m exceeds the swing.
    degrees = np.arange(count, count + 60 + int(2 * swing))
    return float(4.0 * ive(degrees, swing).sum() * math.exp(2.0 * swing))


def rounding(count: int, swing: float) -> float:
    """Bound what floating-point rounding adds to the error of interpolating ``exp(a x)``."""
    return float(2 * count * np.finfo(np.float64).eps * math.exp(min(2.0 * swing, 700.0)))


def lebesgue_constant(count: int) -> float:
    """Bound how much interpolation enlarges: the largest sum of absolute weights.

    The bound; of Chebyshev nodes it grows with the logarithm of their number.
    """
    return 1.0 + 2.0 / math.pi * math.log(count)


def double_exponential_error(count: int, swing: float, *, courses: bool = False) -> float:
    """Bound the error of interpolating ``exp(-h exp(a x))`` on -1 to 1, for any ``h`` from 0 on."""
    if swing == 0.0:
        return 0.0
    angle, largest = (math.pi / 3.0, 3.0) if courses else (math.pi / 2.0, 1.0)
    # The ellipse's parameter is the exponential of this.
    log_rho = math.asinh(angle / swing)
    return 4.0 * largest * math.exp(-count * log_rho) / -math.expm1(-log_rho)


def node_grid(groups: int, compression: Compression) -> tuple[Ints, Floats]:
    """Lay out the patterns that stand for groups of patients with continuous covariates.

    Result: `group`, shape (group * node,): group of each pattern, nodes fastest.
    `values`, shape (group * node, covariate): continuous covariates of each pattern.
    """
    group = np.repeat(np.arange(groups, dtype=np.int64), compression.size)
    return group, np.tile(compression.values, (groups, 1))
