"""Hazards by pieces, constant or log-linear, which are inverted exactly; checks of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PiecewiseHazard:
    """Hazards that are constant between common times: of draws, of patients, or of one of them.

    `starts`, shape (piece,): where the pieces begin, rising; the first is where time is counted
    from. The last piece goes on for ever.
    `rates`, shape (row, piece): hazards, none negative.
    """

    starts: Floats
    rates: Floats

    @property
    def at_starts(self) -> Floats:
        """Cumulative hazard where the pieces begin, shape (row, piece)."""
        steps = self.rates[:, :-1] * np.diff(self.starts)
        return np.concatenate([np.zeros((steps.shape[0], 1)), np.cumsum(steps, axis=1)], axis=1)

    def rate(self, times: Floats) -> Floats:
        """Hazard at times, shape (row, time); where a piece begins that of the one before."""
        return np.asarray(self.rates[:, self._piece(times)])

    def cumulative(self, times: Floats) -> Floats:
        """Cumulative hazard up to times, shape (row, time)."""
        piece = self._piece(times)
        return self._reached(self.at_starts[:, piece], self.rates[:, piece], times, piece)

    def cumulative_of_each(self, times: Floats) -> Floats:
        """Cumulative hazard of each row up to a time of its own, shape (row,)."""
        piece, row = self._piece(times), np.arange(times.size)
        return self._reached(self.at_starts[row, piece], self.rates[row, piece], times, piece)

    def inverse(self, levels: Floats) -> Floats:
        """Find when cumulative hazards first reach levels.

        `levels`, shape (row,) or any shape where there is one row: levels, from 0 on.
        Result, shape of `levels`: the times; infinite where a level is never reached.
        """
        reached = self.at_starts
        last = self.starts.size - 1
        # Pieces wholly below the level; one with hazard 0 at the level itself is never entered.
        if self.rates.shape[0] == 1:
            row: Ints | int = 0
            piece = np.searchsorted(reached[0, 1:], levels, side="left")
        else:
            row = np.arange(levels.size)
            piece = (reached[:, 1:] < levels[:, None]).sum(axis=1)
        piece = np.minimum(piece, last)
        rest = levels - reached[row, piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = rest / self.rates[row, piece]
        return np.asarray(self.starts[piece] + np.where(rest > 0, beyond, 0.0))

    def _piece(self, times: Floats) -> Ints:
        """Piece in which each time lies."""
        return np.maximum(np.searchsorted(self.starts, times, side="left") - 1, 0)

    def _reached(self, before: Floats, rate: Floats, times: Floats, piece: Ints) -> Floats:
        """Add what passes within a piece; nothing where its hazard is 0, even in infinite time."""
        with np.errstate(invalid="ignore"):
            inside = rate * (times - self.starts[piece])
        return np.asarray(before + np.where(rate == 0, 0.0, inside))


def named(what: str, given: Mapping[str, Any], expected: tuple[str, ...]) -> dict[str, Any]:
    """Take a mapping's values in an order of names."""
    if not isinstance(given, Mapping):
        raise SpecError(f"{what} must map {', '.join(expected)}, got {given!r}.")
    missing = [name for name in expected if name not in given]
    unknown = [str(name) for name in given if name not in expected]
    if missing or unknown:
        raise SpecError(
            f"{what} must name exactly {', '.join(expected)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    return {name: given[name] for name in expected}


def finite(what: str, values: Iterable[Any]) -> tuple[float, ...]:
    """Make plain numbers of values."""
    try:
        plain = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        raise SpecError(f"{what} must be made of numbers, got {values!r}.") from None
    if not np.isfinite(plain).all():
        raise SpecError(f"{what} must be finite, got {plain!r}.")
    return plain


def numbers(what: str, given: Mapping[str, Any], expected: tuple[str, ...]) -> Mapping[str, float]:
    """Make a read-only mapping of names to plain finite numbers."""
    values = named(what, given, expected)
    return MappingProxyType(dict(zip(values, finite(what, values.values()), strict=True)))


def over_argument(z: Floats, function: Callable[[Floats], Floats]) -> Floats:
    """Divide a function's value by its argument, where it is the argument near 0.

    `z`: arguments, any shape.
    """
    near = np.abs(z) < 1e-12
    safe = np.where(near, 1.0, z)
    return np.where(near, 1.0, function(safe) / safe)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinearHazard:
    """A continuous hazard whose logarithm is linear between knots.

    Before the first knot and after the last it is constant.

    Parameters
    ----------
    knots
        Months from the first dose: not negative, strictly increasing, at least one.
    hazards
        Events per patient-month at the knots, positive.

    Raises
    ------
    SpecError
        If the knots are negative or do not increase, if a hazard is not positive and finite, or
        if there is not exactly one hazard for each knot.

    Notes
    -----
    The cumulative hazard from a knot with hazard h and slope b of its logarithm is
    ``h (exp(b d) - 1) / b`` after d months, which is inverted exactly.

    Examples
    --------
    >>> hazard = LogLinearHazard(knots=(2.0, 4.0), hazards=(0.1, 0.2))
    >>> hazard.at([0.0, 3.0, 9.0]).round(3).tolist()
    [0.1, 0.141, 0.2]
    >>> float(hazard.inverse(hazard.cumulative(5.0)))
    5.0
    """

    knots: tuple[float, ...]
    hazards: tuple[float, ...]

    def __post_init__(self) -> None:
        knots = finite("knots", self.knots)
        hazards = finite("hazards", self.hazards)
        if len(hazards) != len(knots) or not knots:
            raise SpecError(
                f"{len(knots)} knots and {len(hazards)} hazards were given: give at least one "
                "knot, and one hazard for each."
            )
        if knots[0] < 0 or not (np.diff(knots) > 0).all():
            raise SpecError(f"knots must not be negative and strictly increase, got {knots!r}.")
        if min(hazards) <= 0:
            raise SpecError(f"hazards must be positive, got {hazards!r}.")
        object.__setattr__(self, "knots", knots)
        object.__setattr__(self, "hazards", hazards)

    def at(self, times: ArrayLike) -> Floats:
        """Hazard at each time.

        Parameters
        ----------
        times
            Months from the first dose, any shape.

        Returns
        -------
        ndarray
            Events per patient-month, of the same shape.
        """
        return np.asarray(
            np.exp(np.interp(np.asarray(times, float), self.knots, np.log(self.hazards)))
        )

    def cumulative(self, times: ArrayLike) -> Floats:
        """Cumulative hazard from the first dose to each time.

        Parameters
        ----------
        times
            Months from the first dose, any shape.

        Returns
        -------
        ndarray
            Cumulative hazards, of the same shape.
        """
        starts, levels, slopes, reached = self._pieces()
        at = np.asarray(times, float)
        piece = np.searchsorted(starts, at, side="right") - 1
        length = at - starts[piece]
        return np.asarray(
            reached[piece]
            + levels[piece] * length * over_argument(slopes[piece] * length, np.expm1)
        )

    def inverse(self, cumulative: ArrayLike) -> Floats:
        """Time at which the cumulative hazard reaches each value.

        Parameters
        ----------
        cumulative
            Cumulative hazards, not negative, any shape.

        Returns
        -------
        ndarray
            Months from the first dose, of the same shape.
        """
        starts, levels, slopes, reached = self._pieces()
        target = np.asarray(cumulative, float)
        piece = np.searchsorted(reached, target, side="right") - 1
        length = (target - reached[piece]) / levels[piece]
        return np.asarray(starts[piece] + length * over_argument(slopes[piece] * length, np.log1p))

    def scaled(self, factor: float) -> LogLinearHazard:
        """Multiply the hazard at all times.

        Parameters
        ----------
        factor
            Positive.

        Returns
        -------
        LogLinearHazard
            With the same knots.
        """
        return replace(self, hazards=tuple(factor * hazard for hazard in self.hazards))

    def _pieces(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Start of each piece, hazard there, slope of its logarithm, cumulative hazard there."""
        knots, hazards = np.array(self.knots), np.array(self.hazards)
        slopes = np.append(np.diff(np.log(hazards)) / np.diff(knots), 0.0)
        if knots[0] > 0:
            knots, hazards = np.append(0.0, knots), np.append(hazards[0], hazards)
            slopes = np.append(0.0, slopes)
        length = np.diff(knots)
        gained = hazards[:-1] * length * over_argument(slopes[:-1] * length, np.expm1)
        return knots, hazards, slopes, np.append(0.0, np.cumsum(gained))
