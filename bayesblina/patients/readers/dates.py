"""Calendar dates read strictly: what is known of each, and what a rule makes of partial ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError
from bayesblina.patients.calendar import EARLIEST_YEAR, LATEST_YEAR

PartialDates = Literal["refuse", "first", "middle", "last"]

ISO = "ISO 8601"
# Numbers that SAS stores for dates, and for dates with times; both from 1960 on.
SAS_DAYS, SAS_SECONDS = "SAS", "SAS datetime"
SAS_ORIGIN = float(np.datetime64("1960-01-01", "D").astype(np.int64))
ISO_DATE = (
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:[T ](?P<time>[0-9:.,]*)(?P<offset>Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?)?)?"
)
NUMBER = r"[+-]?[0-9]+\.?[0-9]*"
# What is wrong with study days, and what they are.
STUDY_DAYS_FOUND = "study days of 0, or with fractions"
STUDY_DAYS_EXPECTED = (
    "Day 1 is the day of the origin and day -1 the one before: study days have no 0."
)
# The days, since 1970, between which dates are plausible.
EARLIEST, LATEST = (
    float(np.datetime64(f"{year}-01-01", "D").astype(np.int64))
    for year in (EARLIEST_YEAR, LATEST_YEAR)
)
DAY = 24 * 60 * 60
# Rows that must agree before a time of day is taken for local midnight in another zone; and from
# which hour on, so that the day is another one. A single time may be that of visits.
MIDNIGHTS, EASTERN, EASTERN_ALONE = 4, 11, 15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Days:
    """Dates of one column as days since 1970; NaN where there is none or it cannot be read.

    `first`, `middle`, `last`, shape (row,): first, middle (the 15th, or 1 July) and last possible
    day; all the same where the date is known.
    `unreadable`, shape (row,): rows that hold something which is no date.
    `numbers`, shape (row,): rows that hold numbers, for which no format was stated.
    `shifted`: whether all times of day are those of local midnights stored in UTC, on the day
    before.
    """

    first: Floats
    middle: Floats
    last: Floats
    unreadable: Bools
    numbers: Bools
    shifted: bool = False

    @property
    def partial(self) -> Bools:
        """Rows of which only the year or the month is known."""
        return np.asarray(self.first < self.last)

    @property
    def known(self) -> Floats:
        """The days that are known; NaN for partial dates."""
        return np.where(self.partial, np.nan, self.first)

    def within(
        self, rule: PartialDates, *, after: Floats | None = None, before: Floats | None = None
    ) -> Floats:
        """Complete partial dates by a rule, within known dates where they leave a day.

        `after`, `before`, shape (row,): days before which, and after which, a date cannot lie; NaN
        for no bound.
        Result, shape (row,): the days; NaN for partial dates under ``"refuse"``.
        """
        if rule == "refuse":
            return self.known
        chosen = {"first": self.first, "middle": self.middle, "last": self.last}[rule]
        low = self.first if after is None else np.fmax(self.first, after)
        high = self.last if before is None else np.fmin(self.last, before)
        inside = np.minimum(np.maximum(chosen, low), high)
        return np.where(self.partial & (low <= high), inside, chosen)


def from_study_days(values: Floats) -> tuple[Floats, Bools]:
    """Count study days, which have no 0, from the origin's day.

    Result, both of shape (row,): days from the origin, and which are no study days.

    >>> from_study_days(np.array([1.0, 2.0, -1.0, 0.0]))
    (array([ 0.,  1., -1.,  0.]), array([False, False, False,  True]))
    """
    wrong = (np.isfinite(values) & (values != np.round(values))) | (values == 0)
    return np.where(values > 0, values - 1, values), wrong


def require_date_format(date_format: str) -> None:
    """Refuse a format of dates that is unknown, or leaves the century open."""
    if date_format in (ISO, SAS_DAYS, SAS_SECONDS):
        return
    text = isinstance(date_format, str)
    year = text and "%Y" in date_format and "%y" not in date_format
    month = text and any(code in date_format for code in ("%m", "%b", "%B"))
    if not (year and month and "%d" in date_format):
        raise SpecError(
            f"date_format must be '{ISO}', '{SAS_DAYS}', '{SAS_SECONDS}' or a pattern with day, "
            f"month and a year of four digits, such as '%d%b%Y' for 03JAN2014, got {date_format!r}."
        )


def read_days(series: pd.Series, text: NDArray[np.str_], *, date_format: str = ISO) -> Days:
    """Read a column of dates.

    What was read. The time of day is not used, but for local midnights stored in UTC.
    """
    if pd.api.types.is_datetime64_any_dtype(series):
        stamps = series.dt.tz_localize(None).to_numpy(dtype="datetime64[s]")
        missing, days = np.isnat(stamps), stamps.astype("datetime64[D]")
        seconds = np.where(missing, np.nan, (stamps - days).astype(np.float64))
        utc = str(series.dt.tz) in ("None", "UTC", "UTC+00:00", "+00:00")
        return _complete(
            np.where(missing, np.nan, days.astype(np.float64)),
            np.zeros_like(missing),
            shifted=utc and _are_midnights(seconds),
        )
    cells = pd.Series(text)
    filled = (cells != "").to_numpy()
    if pd.api.types.is_numeric_dtype(series) or (
        date_format in (SAS_DAYS, SAS_SECONDS)
        and bool((cells.str.fullmatch(NUMBER) | ~filled).all())
    ):
        return _from_numbers(cells, filled, date_format)
    return _from_text(cells, filled, date_format)


def _complete(
    days: Floats, unreadable: Bools, *, shifted: bool = False, numbers: Bools | None = None
) -> Days:
    """Lay out days of which none is partial."""
    none = np.zeros(days.size, dtype=bool)
    return Days(
        first=days,
        middle=days,
        last=days,
        unreadable=unreadable,
        numbers=none if numbers is None else numbers,
        shifted=shifted,
    )


def _from_numbers(cells: pd.Series, filled: Bools, date_format: str) -> Days:
    if date_format == ISO:
        return _complete(np.full(filled.size, np.nan), np.zeros_like(filled), numbers=filled)
    if date_format not in (SAS_DAYS, SAS_SECONDS):
        days = _by_pattern(cells, date_format)
        return _complete(days, filled & np.isnan(days))
    values = pd.to_numeric(cells.where(filled), errors="coerce").to_numpy(dtype=np.float64)
    if date_format == SAS_SECONDS:
        days = np.floor(values / DAY) + SAS_ORIGIN
        return _complete(days, filled & np.isnan(values), shifted=_are_midnights(values % DAY))
    is_whole = values == np.round(values)
    return _complete(np.where(is_whole, values, np.nan) + SAS_ORIGIN, filled & ~is_whole)


def _by_pattern(cells: pd.Series, pattern: str) -> Floats:
    parsed = pd.to_datetime(cells.where(cells != ""), format=pattern, errors="coerce")
    days = parsed.to_numpy(dtype="datetime64[D]")
    return np.where(np.isnat(days), np.nan, days.astype(np.float64))


def _from_text(cells: pd.Series, filled: Bools, date_format: str) -> Days:
    parts = cells.str.extract(f"^{ISO_DATE}$")
    year, month, day = (_numbers(parts[name]) for name in ("year", "month", "day"))
    known = np.isfinite(year)
    first, middle, last = (np.full(len(cells), np.nan) for _ in range(3))
    first[known], middle[known], last[known] = _possible(year[known], month[known], day[known])
    if date_format not in (ISO, SAS_DAYS, SAS_SECONDS):
        other = filled & ~known
        days = _by_pattern(cells[other], date_format)
        first[other], middle[other], last[other] = days, days, days
    clock = parts["time"].str.extract(r"^([0-9]{2})(?::?([0-9]{2}))?(?::?([0-9]{2}))?")
    hours, minutes, seconds = (_numbers(clock[index]) for index in range(3))
    offset = parts["offset"].fillna("Z").str.fullmatch(r"Z|[+-]00:?(00)?").to_numpy(dtype=bool)
    time = hours * 3600 + np.nan_to_num(minutes) * 60 + np.nan_to_num(seconds)
    return Days(
        first=first,
        middle=middle,
        last=last,
        unreadable=filled & np.isnan(first),
        numbers=np.zeros(len(cells), dtype=bool),
        shifted=_are_midnights(np.where(offset, time, np.nan)),
    )


def _numbers(text: pd.Series) -> Floats:
    return np.asarray(text.astype("Float64").to_numpy(na_value=np.nan), dtype=np.float64)


def _possible(year: Floats, month: Floats, day: Floats) -> tuple[Floats, Floats, Floats]:
    """First, middle and last possible days since 1970; NaN for a day that does not exist."""
    whole_year = np.isnan(month)
    middle = np.where(whole_year, 1.0, 15.0)
    possible = []
    for instead, usual in ((1.0, 1.0), (7.0, middle), (12.0, np.inf)):
        filled_month = np.where(whole_year, instead, month)
        legal = (filled_month >= 1) & (filled_month <= 12)
        months = ((year - 1970) * 12 + np.where(legal, filled_month, 1) - 1).astype(np.int64)
        first, following = (
            begin.astype("datetime64[M]").astype("datetime64[D]").astype(np.float64)
            for begin in (months, months + 1)
        )
        length = following - first
        filled = np.where(np.isnan(day), np.minimum(usual, length), day)
        legal &= (filled >= 1) & (filled <= length)
        possible.append(np.where(legal, first + filled - 1, np.nan))
    return possible[0], possible[1], possible[2]


def _are_midnights(seconds: Floats) -> bool:
    """Whether all times of day are midnight east of Greenwich, where the day is the one before."""
    known = seconds[np.isfinite(seconds)]
    times = np.unique(known)
    if known.size < MIDNIGHTS or times.size > 2 or not times.any() or (times % 900).any():
        return False
    if times.size == 1:
        return bool(times[0] >= EASTERN_ALONE * 3600)
    # Summer and winter time.
    apart = (times[1] - times[0]) % DAY
    eastern = bool(((times >= EASTERN * 3600) | (times == 0)).all())
    return eastern and apart in (3600, DAY - 3600)


def within_follow_up(own: Floats, starts: Floats, ends: Sequence[Floats], index: int) -> Floats:
    """Find the day before which one endpoint's partial date of its end cannot lie.

    `own`, shape (row,): day on which its observation begins.
    `starts`, shape (phase, row): known dates of phases and transplants; they lie before the end of
    all follow-up.
    `ends`, shape (row,): known ends of follow-up, by endpoint.
    Result, shape (row,): the day; NaN for none.
    """
    last = np.fmax.reduce(starts, axis=0)
    covered = np.any([end >= last for other, end in enumerate(ends) if other != index], axis=0)
    return np.fmax(own, np.where(covered, np.nan, last))


def ends_of_days(starts: Floats, ends: Floats) -> Floats:
    """Let phases end a day later, but for those in whose place another starts on that day."""
    later = np.triu(np.ones((starts.shape[1],) * 2, dtype=bool), k=1)
    replaced = ((ends[:, :, None] == starts[:, None, :]) & later).any(axis=2)
    return np.where(replaced, ends, ends + 1.0)
