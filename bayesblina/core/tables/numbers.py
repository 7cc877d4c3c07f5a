"""How numbers are written in tables and figures, and what must not be overlooked beside them.

Each rule of writing once; three gates, three marks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pandas as pd
import xarray as xr

from bayesblina.core.errors import SpecError

# What a number is, and so how it is written.
Kind = Literal["ratio", "probability", "percent", "time", "log density", "number"]
MISSING = "–"
MINUS = "−"
NOT_REACHED = "not reached"
# Decimals of times: about a day in each unit, or a tenth of a month.
TIME_DECIMALS = {"days": 0, "weeks": 1, "months": 1, "years": 2}
SIGNIFICANT = 3
RATIO_DECIMALS = 2
# From here on two decimals of a ratio say nothing.
LARGE_RATIO = 100.0
# Probabilities nearer to 0 or 1 than this have three decimals, others two.
EDGE = 0.1
SMALLEST_PROBABILITY = 0.001
# Of sums of probabilities.
ROUNDING = 1e-9

SYNTHETIC = "Synthetic patients."
NOT_CONVERGED = "NOT CONVERGED: do not use these numbers."
BASELINE_MOVES = "THE BASELINE MOVES THE HAZARD RATIO: do not use these numbers."
VISITS = "EVENT TIMES ARE THOSE OF VISITS: declare them, and do not use these numbers."
CONVERGED, BASELINE, EVENT_TIMES = "converged", "baseline", "event_times"
FAILED = "failed"
# The last rungs of a ladder, whose prior, covariates and baseline tell no count to the unit.
BAYESIAN, COMPANION = "Bayesian", "Cox, same priors, same covariates"
OWN = (BAYESIAN, COMPANION)
# Beside a number, where there is little room.
SHORT: Mapping[str, str] = {
    CONVERGED: "NOT CONVERGED",
    BASELINE: "BASELINE MOVES IT",
    EVENT_TIMES: "EVENT TIMES OF VISITS",
}
# Below a table.
LONG: Mapping[str, str] = {
    CONVERGED: NOT_CONVERGED,
    BASELINE: BASELINE_MOVES,
    EVENT_TIMES: VISITS,
}
# Columns beside an answer that are no estimates and no labels of it.
BESIDE = frozenset(
    {
        BASELINE,
        "baseline_shift",
        "baseline_pull",
        "companion_median",
        "companion_lower",
        "companion_upper",
        "companion_probability_below_1",
        "prior_pull",
        "covariate_prior_pull",
        EVENT_TIMES,
        "supported",
    }
)


def ratio(value: float) -> str:
    """Write a ratio: two decimals; three significant digits from 100 on.

    The text; ``"<0.01"`` for what would be 0.00.

    >>> ratio(0.4567), ratio(0.001), ratio(250.4)
    ('0.46', '<0.01', '250')
    """
    if math.isnan(value):
        return MISSING
    if 0 < value < 0.5 * 10.0**-RATIO_DECIMALS:
        return f"<{10.0**-RATIO_DECIMALS:g}"
    if abs(value) >= LARGE_RATIO:
        return number(value)
    return _signed(f"{value:.{RATIO_DECIMALS}f}")


def probability(value: float) -> str:
    """Write a probability: two decimals, three below 0.1 and above 0.9.

    Result: the text; ``"<0.001"`` and ``">0.999"`` at the ends: draws never prove certainty.
    """
    if math.isnan(value):
        return MISSING
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise SpecError(f"A probability lies between 0 and 1, got {value!r}.")
    if value < SMALLEST_PROBABILITY:
        return f"<{SMALLEST_PROBABILITY:g}"
    if value > 1 - SMALLEST_PROBABILITY:
        return f">{1 - SMALLEST_PROBABILITY:g}"
    return f"{value:.{2 if EDGE <= value <= 1 - EDGE else 3}f}"


def p_value(value: float) -> str:
    """Write a p-value with its sign of relation.

    >>> p_value(0.0312), p_value(0.0), p_value(1.0)
    ('p = 0.031', 'p < 0.001', 'p > 0.999')
    """
    text = probability(value)
    return f"p {text[0]} {text[1:]}" if text[0] in "<>" else f"p = {text}"


def percent(value: float) -> str:
    """Write a share as a percentage with one decimal.

    The text, without the sign.

    >>> percent(0.9722)
    '97.2'
    """
    return MISSING if math.isnan(value) else _signed(f"{100 * value:.1f}")


def time(value: float, unit: str) -> str:
    """Write a time: whole days, tenths of weeks and months, hundredths of years.

    `value`: the time; infinite if it is not reached.
    Result: the text, without the unit.
    """
    if unit not in TIME_DECIMALS:
        raise SpecError(f"Unknown unit {unit!r}; expected one of {', '.join(TIME_DECIMALS)}.")
    if math.isnan(value):
        return MISSING
    if value == math.inf:
        return NOT_REACHED
    return _signed(f"{value:.{TIME_DECIMALS[unit]}f}")


def log_density(value: float) -> str:
    """Write a log predictive density, or a difference of two: one decimal.

    >>> log_density(-172.04)
    '−172.0'
    """
    return MISSING if math.isnan(value) else _signed(f"{value:.1f}")


def number(value: float) -> str:
    """Write any other number: three significant digits, never with an exponent's letter.

    The text; whole numbers as they stand.

    >>> number(1234.6), number(0.012345), number(-7.0)
    ('1235', '0.0123', '−7')
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if float(value).is_integer():
        return _signed(f"{value:.0f}")
    # Rounding may add a digit: 9.999 has no two decimals but one.
    size = math.floor(math.log10(abs(float(f"{value:.{SIGNIFICANT - 1}e}"))))
    return _signed(f"{value:.{max(0, SIGNIFICANT - 1 - size)}f}")


def interval(
    middle: float, lower: float, upper: float, *, kind: Kind = "number", unit: str = "months"
) -> str:
    """Write an estimate with its interval.

    The text; a dash where there is no estimate.
    """
    write = writer(kind, unit=unit)
    if math.isnan(middle):
        return MISSING
    return f"{write(middle)} ({write(lower)} to {write(upper)})"


def writer(kind: Kind, *, unit: str = "months") -> Callable[[float], str]:
    """Choose how to write numbers of a kind."""
    known: dict[str, Callable[[float], str]] = {
        "ratio": ratio,
        "probability": probability,
        "percent": percent,
        "time": lambda value: time(value, unit),
        "log density": log_density,
        "number": number,
    }
    if kind not in known:
        raise SpecError(f"kind must be one of {', '.join(known)}, got {kind!r}.")
    return known[kind]


def _signed(text: str) -> str:
    """Write a true minus, and none before a zero."""
    if text.startswith("-"):
        return text[1:] if float(text) == 0 else f"{MINUS}{text[1:]}"
    return text


def failed(values: Mapping[Any, Any]) -> tuple[str, ...]:
    """Name the gates that a row, or what an estimate carries with it, says were failed.

    Of ``"converged"``, ``"baseline"``, ``"event_times"``; those that are not there passed.
    """
    gates = [] if bool(values.get(CONVERGED, True)) else [CONVERGED]
    gates += [name for name in (BASELINE, EVENT_TIMES) if str(values.get(name, "")) == FAILED]
    return tuple(gates)


def failed_in(source: pd.DataFrame | xr.Dataset) -> tuple[str, ...]:
    """Name the gates that any row of a table failed, or that its attributes say were failed."""
    gates = set(failed(source.attrs))
    for name in (BASELINE, EVENT_TIMES):
        if name in (source if isinstance(source, pd.DataFrame) else source.coords):
            # What stands beside each number knows better than what stands beside all.
            gates.discard(name)
            if (source[name].to_numpy().astype(str) == FAILED).any():
                gates.add(name)
    if (
        isinstance(source, pd.DataFrame)
        and CONVERGED in source
        and not source[CONVERGED].astype(bool).all()
    ):
        gates.add(CONVERGED)
    return tuple(name for name in SHORT if name in gates)


def beside(row: Mapping[Any, Any]) -> str:
    """Word what must not be overlooked beside one number."""
    return ", ".join(SHORT[name] for name in failed(row))
