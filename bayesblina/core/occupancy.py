"""Illness-death courses with piecewise-constant hazards, exactly; numpy only.

From remission a patient relapses (hazard ``r``) or dies (``m``), and after a relapse dies (``p``).
Within a piece of length ``d`` the matrix exponential of the triangular generator is closed:
``exp(-(r + m) d)`` stay in remission, and those who relapse and live to its end are ``r`` times
the divided difference of ``exp(-x d)`` between ``r + m`` and ``p``. The divided differences here
have no cancellation, whether the two are equal, nearly so or 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Floats

# Relative distance of two hazards below which a Taylor series is more exact than a difference.
CLOSE = 1e-3
# Exponents up to which the quadrature of the series' terms is exact to rounding.
QUADRATURE_LIMIT = 12.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)
_NODES, _WEIGHTS = (_NODES + 1.0) / 2.0, _WEIGHTS / 2.0


def mean_survival(x: Floats) -> Floats:
    """Mean of ``exp(-x u)`` over u from 0 to 1.

    `x`: cumulative hazards, not negative.
    """
    return np.divide(-np.expm1(-x), x, out=np.ones(x.shape), where=x > 0)


def passing(x: Floats, y: Floats) -> Floats:
    """Integral over u from 0 to 1 of ``exp(-x u) exp(-y (1 - u))``.

    ``(exp(-y) - exp(-x)) / (x - y)``, which is ``exp(-x)`` where they are equal.

    `x`, `y`: cumulative hazards before and after passing; not negative.
    """
    return np.asarray(np.exp(-np.minimum(x, y)) * mean_survival(np.abs(x - y)))


def time_after(x: Floats, y: Floats) -> Floats:
    """Integral over t from 0 to 1 of `passing` up to t.

    ``(mean_survival(y) - mean_survival(x)) / (x - y)``, in the limit where they are equal.

    `x`, `y`: cumulative hazards before and after passing; not negative.
    """
    x, y = np.broadcast_arrays(x, y)
    apart = x - y
    middle = (x + y) / 2.0
    close = np.abs(apart) <= CLOSE * (1.0 + middle)
    difference = np.divide(
        mean_survival(y) - mean_survival(x), apart, out=np.zeros(x.shape), where=~close
    )
    if close.any():
        here = middle[close]
        # Derivatives of mean_survival: minus the means of u exp(-x u) and u^3 exp(-x u).
        difference[close] = _moment(here, 1) + _moment(here, 3) * apart[close] ** 2 / 24.0
    return difference


def _moment(x: Floats, power: int) -> Floats:
    """Integral of ``u ** power * exp(-x u)`` over u from 0 to 1; power 1 or 3."""
    small = x <= QUADRATURE_LIMIT
    out = np.empty(x.shape)
    out[small] = np.exp(-np.multiply.outer(x[small], _NODES)) @ (_WEIGHTS * _NODES**power)
    large = x[~small]
    gone = np.exp(-large)
    if power == 1:
        out[~small] = (1.0 - gone * (1.0 + large)) / large**2
    else:
        rest = 6.0 + large * (6.0 + large * (3.0 + large))
        out[~small] = (6.0 - gone * rest) / large**4
    return out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StateCourse:
    """State probabilities and times at the knots of a course, given remission at the first.

    `remission`, shape (..., knot): probability of being alive in remission.
    `relapsed`, shape (..., epoch, knot): probability of being alive after a relapse, by the
    treatment epoch in which it happened.
    `dead_in_remission`, `dead_after_relapse`, shape (..., knot): probability of having died.
    `time_in_remission`, `time_after_relapse`, shape (..., knot): mean time in each state since the
    first knot.
    """

    remission: Floats
    relapsed: Floats
    dead_in_remission: Floats
    dead_after_relapse: Floats
    time_in_remission: Floats
    time_after_relapse: Floats

    @property
    def alive_after_relapse(self) -> Floats:
        """Probability of being alive after a relapse, shape (..., knot)."""
        return np.asarray(self.relapsed.sum(axis=-2))


def step(
    stay: Floats, begun: Floats, fail: Floats, die: Floats, after: Floats, width: Floats, here: int
) -> tuple[Floats, Floats, Floats]:
    """Advance by one piece.

    `stay`, shape (...,): probability of remission at its beginning.
    `begun`, shape (..., epoch): probability of being alive after a relapse, by the epoch of the
    relapse.
    `fail`, `die`, shape (...,): hazards of relapse and of death in remission.
    `after`, shape (..., epoch): hazards of death after relapse.
    Result: `remission`, shape (...,): probability of remission at its end.
    `relapsed`, shape (..., epoch): probability of being alive after a relapse at its end.
    `fresh`, shape (...,): those among them who relapsed in the piece.
    """
    leave = (fail + die) * width
    living = begun * np.exp(-after * np.asarray(width)[..., None])
    fresh = stay * fail * passing(leave, after[..., here] * width) * width
    living[..., here] += fresh
    return np.asarray(stay * np.exp(-leave)), living, np.asarray(fresh)


def probabilities(
    knots: Floats,
    relapse: Floats,
    death_in_remission: Floats,
    death_after_relapse: Floats,
    epoch: NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Probabilities of being alive at knots, given remission at the first.

    Result: `remission`, shape (..., knot): alive in remission.
    `relapsed`, shape (..., epoch, knot): alive after a relapse, by the treatment epoch in which it
    happened.
    """
    shape, count = relapse.shape[:-1], knots.size
    remission = np.empty((*shape, count))
    relapsed = np.zeros((*shape, death_after_relapse.shape[-2], count))
    remission[..., 0] = 1.0
    for piece, width in enumerate(np.diff(knots)):
        remission[..., piece + 1], relapsed[..., piece + 1], _ = step(
            remission[..., piece],
            relapsed[..., piece],
            relapse[..., piece],
            death_in_remission[..., piece],
            death_after_relapse[..., piece],
            width,
            int(epoch[piece]),
        )
    return remission, relapsed


def follow(
    knots: Floats,
    relapse: Floats,
    death_in_remission: Floats,
    death_after_relapse: Floats,
    epoch: NDArray[np.int64],
) -> StateCourse:
    """Follow courses from remission at the first knot to every later one.

    Probabilities and mean times at the knots; the probabilities add up to 1.

    `knots`, shape (piece + 1,): rising times.
    `relapse`, `death_in_remission`, shape (..., piece): hazards in remission.
    `death_after_relapse`, shape (..., epoch, piece): hazard of dying after a relapse, by the
    treatment epoch in which the relapse happened.
    `epoch`, shape (piece,): treatment epoch of each piece.
    """
    shape, count = relapse.shape[:-1], knots.size
    remission = np.empty((*shape, count))
    relapsed = np.zeros((*shape, death_after_relapse.shape[-2], count))
    dead = [np.zeros((*shape, count)) for _ in range(2)]
    times = [np.zeros((*shape, count)) for _ in range(2)]
    remission[..., 0] = 1.0
    for piece, width in enumerate(np.diff(knots)):
        fail, die = relapse[..., piece], death_in_remission[..., piece]
        stay, begun = remission[..., piece], relapsed[..., piece]
        leave = (fail + die) * width
        staying = stay * mean_survival(leave) * width
        here, hazard = int(epoch[piece]), death_after_relapse[..., piece]
        after = hazard * width
        remission[..., piece + 1], relapsed[..., piece + 1], fresh = step(
            stay, begun, fail, die, hazard, width, here
        )
        dead[0][..., piece + 1] = dead[0][..., piece] + die * staying
        times[0][..., piece + 1] = times[0][..., piece] + staying
        died = (begun * -np.expm1(-after)).sum(axis=-1)
        time = (begun * mean_survival(after)).sum(axis=-1) * width
        dead[1][..., piece + 1] = dead[1][..., piece] + died + (fail * staying - fresh)
        entered = stay * fail * time_after(leave, after[..., here]) * width**2
        times[1][..., piece + 1] = times[1][..., piece] + time + entered
    return StateCourse(
        remission=remission,
        relapsed=relapsed,
        dead_in_remission=dead[0],
        dead_after_relapse=dead[1],
        time_in_remission=times[0],
        time_after_relapse=times[1],
    )
