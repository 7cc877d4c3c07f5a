"""Periods of calendar time: what is declared of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError

# Dates are plausible from the first of these years on, and before the last.
EARLIEST_YEAR, LATEST_YEAR = 1900, 2100
# As many as a categorical covariate has levels at most.
MOST_PERIODS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Dates at which follow-up is cut, so that hazards may differ by calendar period.

    Parameters
    ----------
    cuts
        Dates in order, each a ``datetime.date`` or ISO 8601 text (``"2012-01-01"``): the first days
        of all periods but the first. A time at risk ``(start, stop]`` is open on the left, so that
        what happens at the very beginning of that day belongs to the period before.
    origin
        Column with the calendar date of each patient's time origin. Readers of dates know it, and
        take no other: leave it out there.
    name
        Name of the covariate that says in which period a row lies.

    Raises
    ------
    SpecError
        If there is no cut, one is no date, or they are not in order; or a name is empty.

    Examples
    --------
    >>> calendar = Calendar(origin="diagnosed", cuts=["2012-01-01", "2016-01-01"])
    >>> calendar.levels
    ('before 2012-01-01', '2012-01-01 to 2016-01-01', 'from 2016-01-01')
    """

    cuts: Sequence[str | date]
    origin: str | None = None
    name: str = "period"

    def __post_init__(self) -> None:
        _require_name("name", self.name)
        if self.origin is not None:
            _require_name("origin", self.origin)
        days = [_day_of(cut) for cut in _listed(self.cuts)]
        if any(later <= earlier for earlier, later in pairwise(days)):
            raise SpecError(
                f"calendar.cuts must be in order, each once, got {', '.join(map(str, days))}."
            )
        if len(days) >= MOST_PERIODS:
            raise SpecError(
                f"calendar.cuts: {len(days)} cuts make {len(days) + 1} periods, and there may be "
                f"{MOST_PERIODS}: name fewer."
            )
        object.__setattr__(self, "cuts", tuple(day.isoformat() for day in days))

    @property
    def days(self) -> Floats:
        """The cuts as days since 1970, shape (cut,)."""
        return np.array(self.cuts, dtype="datetime64[D]").astype(np.float64)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the periods, in order."""
        cuts = tuple(map(str, self.cuts))
        between = (f"{first} to {last}" for first, last in pairwise(cuts))
        return (f"before {cuts[0]}", *between, f"from {cuts[-1]}")


def _require_name(argument: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise SpecError(f"calendar.{argument} must be a name, got {value!r}.")


def _listed(cuts: object) -> Sequence[object]:
    """Require a list of cuts."""
    if isinstance(cuts, str) or not isinstance(cuts, Sequence) or not cuts:
        raise SpecError(
            "calendar.cuts must list at least one date, such as ['2012-01-01', '2016-01-01'], got "
            f"{cuts!r}."
        )
    return cuts


def _day_of(cut: object) -> date:
    """Read one cut."""
    day = cut
    if isinstance(cut, str):
        try:
            day = date.fromisoformat(cut)
        except ValueError:
            day = None
        # Other ways to write ISO dates, such as 2012-W01-1, are not read in columns either.
        day = day if day is None or day.isoformat() == cut else None
    if not isinstance(day, date) or isinstance(day, datetime):
        raise SpecError(
            "calendar.cuts must be whole dates, such as '2012-01-01' (in TOML 2012-01-01), got "
            f"{cut!r}."
        )
    if not EARLIEST_YEAR <= day.year < LATEST_YEAR:
        raise SpecError(
            f"calendar.cuts must lie from {EARLIEST_YEAR} to {LATEST_YEAR - 1}, got {day}."
        )
    return day


def require_calendar(calendar: object, *, origin: str | None = None) -> None:
    """Refuse what is no calendar, or one whose origin is not named, or named twice.

    `origin`: the column with the date of the time origin, where the reader knows it.
    """
    if calendar is None:
        return
    if not isinstance(calendar, Calendar):
        raise SpecError(f"calendar must be a Calendar value, got {type(calendar).__name__}.")
    if origin is None and calendar.origin is None:
        raise SpecError(
            "calendar.origin: name the column with the calendar date of each patient's time "
            "origin; times alone do not say when in the calendar they lie."
        )
    if origin is not None and calendar.origin not in (None, origin):
        raise SpecError(
            f"calendar.origin: times count from '{origin}' here, got '{calendar.origin}': leave it "
            "out."
        )
