"""Tables without what tells small counts; what is hidden of an account hides the rest with it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from bayesblina.core.masking.accounts import MaskedAccount
from bayesblina.core.masking.counts import MASK, Masked, is_small

# Digits of times: curves end with somebody's follow-up, whose own date is no finer.
TIME_DIGITS = 4
TIMES = ("time", "horizon", "interval_start", "interval_stop")
# Decimals of observed survival: a jump is one over the number at risk.
OBSERVED_DECIMALS = 2
# Digits of estimates that follow from events and risk sets alone, as far as they are shown.
RATIO_DIGITS = 3
_SAFETY = {
    "share": ("share", "incidence_median", "incidence_lower", "incidence_upper"),
    "rate": ("rate_per_year_median", "rate_per_year_lower", "rate_per_year_upper"),
}
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w]|\.\d)")


def _columns(table: pd.DataFrame, changed: dict[str, list[Any]]) -> pd.DataFrame:
    """Replace columns by cells of which some are hidden."""
    shown = table.copy()
    for name, cells in changed.items():
        shown[name] = pd.Series(cells, index=table.index, dtype=object)
    return shown


def digits(value: float, count: int) -> float:
    """Round a number to significant digits.

    `value`: the number; what is not finite stays as it is.

    >>> digits(35.70473, 4), digits(0.0123456, 3)
    (35.7, 0.0123)
    """
    return float(f"{value:.{count}g}") if math.isfinite(value) else value


def coarse_times(table: pd.DataFrame, landmarks: Collection[float] = ()) -> pd.DataFrame:
    """Round the times of a table; landmarks are the study's own, and stay."""
    kept = set(landmarks)
    shown = table.copy()
    for name in TIMES:
        if name in shown:
            shown[name] = [
                float(time) if time in kept else digits(float(time), TIME_DIGITS)
                for time in shown[name]
            ]
    return shown


def without_counts(text: str, masked: Masked) -> str:
    """Take small counts, and exact times, out of a text such as the reason of an error.

    The text. Whole numbers that are small or hidden are masked, whatever they count; other numbers
    have at most four digits.
    """

    def shown(match: re.Match[str]) -> str:
        word = match.group()
        value = float(word.replace(",", ""))
        if "." not in word:
            return word if masked.shows(int(value)) else MASK
        decimals = len(word.partition(".")[2])
        return word if decimals < TIME_DIGITS - 1 else f"{digits(value, TIME_DIGITS):.10g}"

    return _NUMBER.sub(shown, text)


def mask_flow(table: pd.DataFrame, account: MaskedAccount) -> pd.DataFrame:
    """Hide counts and person-times of an account.

    The same columns; hidden cells hold the mask, and person-time is whole.
    """
    if account.masked.minimum <= 1:
        return table
    changed: dict[str, list[Any]] = {
        name: [
            cell
            if pd.isna(cell)
            else MASK
            if f"{index}.{name}" in account.masked.hidden
            else int(cell)
            for index, cell in enumerate(table[name])
        ]
        for name in ("patients", "events")
    }
    changed["person_time"] = [
        cell if pd.isna(cell) else MASK if index in account.times else round(float(cell))
        for index, cell in enumerate(table["person_time"])
    ]
    return _columns(table, changed)


def mask_at_risk(table: pd.DataFrame, account: MaskedAccount) -> pd.DataFrame:
    """Hide numbers at risk.

    The same columns; hidden cells hold the mask.
    """
    masked = account.masked
    cells = [
        MASK
        if f"{index}.at_risk" in masked.hidden or not masked.shows(round(cell))
        # Weighted patients are told to the patient only.
        else round(cell)
        for index, cell in enumerate(table["at_risk"].astype(float))
    ]
    return _columns(table, {"at_risk": cells})


def mask_safety(
    table: pd.DataFrame,
    masked: Masked,
    *,
    timeless: Collection[str] = (),
    untold: Collection[str] = (),
) -> pd.DataFrame:
    """Hide small counts of adverse events by phase, and the estimates that would tell them.

    The same columns; hidden counts hold the mask, hidden estimates are missing.

    `timeless`: phases whose person-time is hidden elsewhere.
    `untold`: phases whose patients are hidden elsewhere: those observed for adverse events are
    about as many.
    """
    changed: dict[str, list[Any]] = {
        name: list(table[name])
        for name in ("patients", "with_event", "events", "person_time", *sum(_SAFETY.values(), ()))
        if name in table
    }
    for index, row in enumerate(table.to_dict("records")):
        patients, hit, events = (int(row[name]) for name in ("patients", "with_event", "events"))
        few = not masked.shows(patients) or str(row["phase"]) in untold
        # Estimates are functions of the counts.
        share = not few and masked.shows_part(hit, patients)
        # Few more events than patients with one are those of few patients.
        rate = share and masked.shows(events) and masked.shows_part(hit, events)
        timed = not few and str(row["phase"]) not in timeless
        for name, known in (("patients", not few), ("with_event", share), ("events", rate)):
            if not known:
                changed[name][index] = MASK
        if "person_time" in changed:
            time = changed["person_time"]
            time[index] = round(float(time[index])) if timed else MASK
        for kind, known in (("share", share), ("rate", rate and timed)):
            for name in _SAFETY[kind]:
                if name in changed:
                    value = float(changed[name][index])
                    changed[name][index] = digits(value, RATIO_DIGITS) if known else math.nan
    if "person_time" in changed:
        # The account has that of all phases together: none is hidden alone.
        time = changed["person_time"]
        shown_rows = [index for index, value in enumerate(time) if not isinstance(value, str)]
        if len(shown_rows) == len(time) - 1 and shown_rows:
            least = min(shown_rows, key=lambda index: float(time[index]))
            time[least] = MASK
            for name in _SAFETY["rate"]:
                if name in changed:
                    changed[name][least] = math.nan
    return _columns(table, changed)


def mask_ladder(
    ladder: pd.DataFrame,
    minimum: int,
    *,
    closed: Collection[str] = (),
    few: Collection[str] = (),
    own: Collection[str] = (),
) -> pd.DataFrame:
    """Take the numbers out of rungs that would tell how many events there are.

    The ladder with the truth value ``masked``; estimates of masked rungs are missing, others that
    follow from events and risk sets alone have three digits. Of all rungs the counts hold the mask:
    two of them differ by those before a landmark.

    `own`: methods whose prior, covariates and baseline tell no count to the unit.
    """
    sides = [name for name in ("events_exposed", "events_reference") if name in ladder]
    masked = []
    for row in ladder.to_dict("records"):
        one_side = any(is_small(row[name], minimum) for name in sides)
        other = row["method"] not in own
        masked.append(row["endpoint"] in few or one_side or (other and row["endpoint"] in closed))
    shown = ladder.assign(masked=masked)
    for name in ("estimate", "lower", "upper"):
        shown[name] = [
            math.nan
            if hidden
            else float(value)
            if method in own
            else digits(float(value), RATIO_DIGITS)
            for value, hidden, method in zip(ladder[name], masked, ladder["method"], strict=True)
        ]
    # What is said of an estimate may tell it.
    shown["note"] = [
        "masked: it would tell how many events there were" if hidden else note
        for note, hidden in zip(ladder["note"], masked, strict=True)
    ]
    counts = [name for name in ("patients", "events", *sides) if name in ladder]
    return _columns(shown, {name: [MASK] * len(ladder) for name in counts})


def mask_loo(table: pd.DataFrame, masked: Masked) -> pd.DataFrame:
    """Hide small counts of a table of leave-one-out predictions.

    The same columns; hidden counts hold the mask, densities have one decimal.
    """
    if masked.minimum <= 1:
        return table
    shown = table.copy()
    for name, decimals in (("elpd", 1), ("se", 1), ("p_loo", 1), ("largest_pareto_k", 2)):
        if name in shown:
            shown[name] = shown[name].astype(float).round(decimals)
    counts = [name for name in ("patients", "evaluated", "patients_above_limit") if name in table]
    return _columns(
        shown,
        {
            name: [
                int(count) if masked.shows_part(int(count), int(patients)) else MASK
                for count, patients in zip(table[name], table["patients"], strict=True)
            ]
            for name in counts
        },
    )


def mask_borrowing(table: pd.DataFrame, masked: Masked) -> pd.DataFrame:
    """Leave out sources of external patients of whom few have, or have not, the event.

    The rest of the table. Where a source is left out the current patients' events, which with the
    account would tell it, are missing, and what is counted in them.
    """
    if masked.minimum <= 1:
        return table
    few = pd.Series(
        [
            not (masked.shows(int(patients)) and masked.shows_part(int(events), int(patients)))
            for patients, events in zip(table["patients"], table["events"], strict=True)
        ],
        index=table.index,
        dtype=bool,
    )
    current = table["current_events"].map(lambda events: is_small(events, masked.minimum))
    of_few = few.groupby(table["endpoint"]).transform("any")
    shown = table.copy()
    for name in ("current_events", "effective_events", "effective_events_error"):
        shown[name] = shown[name].mask(of_few)
    left_out = few | current.astype(bool).groupby(table["endpoint"]).transform("any")
    return shown[~left_out].reset_index(drop=True)


def join_rows(diagnostics: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Join rows of diagnostics: the worst of those that are given one name.

    The table; joined rows have no value of their own.

    `names`, shape (row,): what rows are to be called; those that keep their name stay.
    """
    renamed = diagnostics["name"].astype(str) != names
    kept = [diagnostics[~renamed]]
    for (_, name), rows in diagnostics[renamed].groupby([diagnostics["kind"], names], sort=False):
        # The first that was not passed, or the first.
        first = rows["passed"].astype(str).ne("True").idxmax()
        worst = rows.loc[[first]].assign(name=str(name), value=np.nan, r_hat=rows["r_hat"].max())
        for column in ("ess_bulk", "ess_tail"):
            worst[column] = rows[column].min()
        if "pareto_k" in rows:
            worst["pareto_k"] = rows["pareto_k"].max()
        kept.append(worst)
    return pd.concat(kept).sort_index().reset_index(drop=True)


def read_observed(rows: pd.DataFrame, times: Floats, *, minimum: int) -> tuple[Floats, Floats]:
    """Read an observed curve where it tells of no few patients.

    It ends before fewer than `minimum` are at risk, and before it would leave few events to the
    rest. It is read where at least `minimum` events have come since the last reading (none, at
    the end, if none came), and goes straight between: no step is that of a few events.

    The curve; empty where nothing of it may be shown. Survival has two decimals.

    `times`: times at which it may be read, in order: never those of single events.
    `minimum`: smallest count that is shown; 1 reads the curve wherever it goes.
    """
    rows = rows.sort_values("time", kind="stable")
    few = rows.loc[rows["at_risk"] < max(minimum, 1), "time"]
    last = float(rows["time"].max())
    at = times[times < float(few.min())] if len(few) else times[times <= last]
    row = np.searchsorted(rows["time"].to_numpy(float), at, side="right") - 1
    at, row = at[row >= 0], row[row >= 0]
    survival = rows["survival"].to_numpy(float)[row]
    if minimum <= 1:
        return at, survival.round(OBSERVED_DECIMALS)
    events = rows["events"].to_numpy(float).cumsum()
    seen, total = events[row], float(events[-1]) if len(events) else 0.0
    ends = [
        index
        for index, count in enumerate(seen)
        if not is_small(count, minimum) and not is_small(round(total - count, 6), minimum)
    ]
    if not ends or not ends[-1]:
        return at[:0], survival[:0]
    end, knots = ends[-1], [0]
    for index in range(1, end + 1):
        if seen[index] - seen[knots[-1]] >= minimum:
            knots.append(index)
    if knots[-1] != end:
        if seen[end] > seen[knots[-1]] and len(knots) > 1:
            # What is left joins the part before it.
            knots.pop()
        knots.append(end)
    kept = slice(0, end + 1)
    values = np.interp(at[kept], at[knots], survival[knots])
    return at[kept], values.round(OBSERVED_DECIMALS)
