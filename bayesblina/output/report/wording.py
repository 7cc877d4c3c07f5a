"""Answers and priors in words; numbers come from the tables, and know where they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bayesblina.core.tables.marks import BASELINE, CONVERGED, EVENT_TIMES, LONG, beside, failed
from bayesblina.core.tables.numbers import MISSING, probability
from bayesblina.core.tables.table import BASELINE_MOVES, VISITS
from bayesblina.hazards.parts import PowerPrior
from bayesblina.inference.baseline_gate import WORDS
from bayesblina.inference.fitting import Fit

HALF_NORMAL_WIDTH = 1.959963984540054
NOT_CONVERGED = "NOT CONVERGED: do not use this number."
SYNTHETIC = "SYNTHETIC PATIENTS."
MARKS: Mapping[str, str] = {BASELINE: BASELINE_MOVES, EVENT_TIMES: VISITS}
# Columns that are read off the companion.
WITHOUT = ("companion_", "without_")
# In place of a format: the number is a probability.
PROBABILITY = "probability"
# And one that is 1 by definition at the landmark.
SURVIVAL = "survival"
HASH = "SHA-256 of events and person-time"
INTERVAL = ("median", "lower", "upper")
# Why nothing can be read off an answer, by the gate that failed first.
UNREADABLE: Mapping[str, str] = {
    CONVERGED: "The draws did not converge, so nothing can be read off them.",
    BASELINE: "The baseline moves this hazard ratio, so nothing can be read off it.",
    EVENT_TIMES: "Its event times are those of visits, so nothing can be read off it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as it is shown: nothing finer goes with it.

    `text`: what is shown.
    `key`: where it comes from: table, row and column.
    `estimate`: whether it was read off the draws, and so hangs on their convergence.
    `mark`: other gates that its row failed, in words.
    """

    text: str
    key: str = ""
    estimate: bool = True
    mark: str = ""

    @property
    def rounded(self) -> float:
        """The number that is shown; of one below or above what is shown, that; NaN for none."""
        try:
            return float(self.text.lstrip("<>"))
        except ValueError:
            return math.nan

    def __str__(self) -> str:
        """Show it."""
        return self.text


Words = Sequence[str | Number]
Row = dict[str, Any]


def records(table: pd.DataFrame) -> list[Row]:
    """Take the rows of a table."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def endpoints_of(table: pd.DataFrame) -> list[str]:
    """Name the endpoints of a table, in its order."""
    return list(map(str, table["endpoint"].unique()))


def known(row: Mapping[Any, Any], column: str) -> bool:
    """Say whether a row has a number.

    False where the column or its number is missing.

    >>> known({"prior_pull": float("nan")}, "prior_pull"), known({}, "prior_pull")
    (False, False)
    """
    return column in row and math.isfinite(float(row[column]))


def mark_of(gate: str) -> str:
    """Name the mark of a gate that was failed."""
    return LONG[gate].partition(":")[0]


def count(cell: object, shape: str = ",.0f") -> str:
    """Write a count, or the mask in its place."""
    return cell if isinstance(cell, str) else format(float(str(cell)), shape)


def estimand_of(fit: Fit) -> dict[str, str]:
    """Give the question's attributes of ICH E9(R1), and whose answer it is.

    One sentence for each attribute; with external patients the population says that the answer is
    the current patients', or that it is that of both.
    """
    attributes = dict(fit.question.estimand())
    borrowing = fit.definition.borrowing
    if fit.design.sources:
        attributes["population"] = (
            f"current patients ({attributes['population']}); external patients "
            f"({', '.join(fit.design.sources)}) only inform about them"
        )
    elif isinstance(borrowing, PowerPrior):
        attributes["population"] += (
            f"; current and external patients together, of whom each external one counts "
            f"{borrowing.weight:g}"
        )
    return attributes


def provenance_of(fit: Fit) -> dict[str, str]:
    """Say where a fit came from."""
    provenance, settings = fit.provenance, fit.provenance.settings
    return {
        HASH: provenance.data_hash,
        "model": f"{fit.definition.name} ({fit.definition.title})",
        "sampling": f"seed {provenance.seed}, {settings.chains} chains of {settings.draws} draws "
        f"after {settings.tune} for adaptation, engine {provenance.engine}",
        "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions.items()),
    }


def number(
    row: Mapping[Any, Any], column: str, shape: str, *, table: str = "", estimate: bool = True
) -> Number:
    """Take a number out of a row of a table.

    `shape`: how it is shown, as in a format string.

    >>> str(number({"endpoint": "os", "median": 0.4536}, "median", ".2f", table="hazard_ratios"))
    '0.45'
    """
    value = float(row[column])
    without = column.startswith(WITHOUT)
    # What has no baseline and no chain depends on neither.
    gates = {
        name: row[name] for name in (EVENT_TIMES, *(() if without else (BASELINE,))) if name in row
    }
    # A curve may end with somebody's follow-up: no time is finer than it is shown.
    labels = [
        f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name])
        for name in ("endpoint", "landmark", "regime", "time")
        if name in row
    ]
    return Number(
        text=shown(value, shape),
        key="/".join([table, *labels, column]),
        estimate=estimate,
        mark=beside(gates),
    )


def numbers_of(
    row: Mapping[Any, Any], shapes: Mapping[str, str], *, table: str, estimate: bool = True
) -> dict[str, Number]:
    """Take several numbers out of a row, each as it is to be shown."""
    return {
        column: number(row, column, shape, table=table, estimate=estimate)
        for column, shape in shapes.items()
    }


def interval(row: Row, table: str, *, prefix: str = "", signed: bool = False) -> dict[str, Number]:
    """Take a posterior median with its interval, in the digits of the row's own interval."""
    shape = shape_of(row, signed=signed)
    return {name: number(row, f"{prefix}{name}", shape, table=table) for name in INTERVAL}


def companion(row: Row) -> dict[str, Number] | None:
    """Take the answer without a baseline, if there is one."""
    there = known(row, "companion_median")
    return interval(row, "hazard_ratios", prefix="companion_") if there else None


def shown(value: float, shape: str) -> str:
    """Word a number; one that rounding would turn into 0 is said to be below what is shown.

    `shape`: how it is shown, as in a format string; or `PROBABILITY` or `SURVIVAL`.

    >>> shown(0.4536, ".2f"), shown(0.0004, ".3f"), shown(float("nan"), ".2f")
    ('0.45', '<0.001', '–')
    >>> shown(0.9999, PROBABILITY)
    '>0.999'
    """
    if not math.isfinite(value):
        return MISSING
    if shape == SURVIVAL and value == 1:
        return "1"
    if shape in (PROBABILITY, SURVIVAL):
        return probability(value)
    text = format(value, shape)
    if shape.startswith(".") and shape.endswith("f") and float(text) == 0:
        return f"<{10.0 ** -int(shape[1:-1]):{shape}}" if value > 0 else format(0.0, shape)
    return text


def shape_of(row: Mapping[Any, Any], *, least: int = 2, signed: bool = False) -> str:
    """Choose digits that tell the ends of an interval apart.

    >>> shape_of({"lower": 0.23, "upper": 0.93}), shape_of({"lower": 0.4475, "upper": 0.4487})
    ('.2f', '.4f')
    """
    width = float(row["upper"]) - float(row["lower"])
    more = math.ceil(-math.log10(width)) + 1 if 0 < width < math.inf else least
    return f"{'+' if signed else ''}.{min(max(more, least), 6)}f"


def plain(words: Words) -> str:
    """Join words and numbers to a text."""
    return "".join(map(str, words))


def answer(row: Mapping[Any, Any], fit: Fit) -> tuple[str | Number, ...]:
    """Answer for one endpoint, in a sentence."""
    numbers = interval(dict(row), "hazard_ratios")
    return (
        f"{str(row['endpoint']).upper()}: hazard ratio of {fit.question.exposed} against "
        f"{fit.question.against} ",
        numbers["median"],
        " (posterior median; 95 % interval ",
        numbers["lower"],
        " to ",
        numbers["upper"],
        "; probability that it is below 1: ",
        number(row, "probability_below_1", PROBABILITY, table="hazard_ratios"),
        ").",
    )


def reading(row: Mapping[Any, Any], fit: Fit) -> str:
    """Say what an answer means and what it does not."""
    exposed = fit.question.exposed
    gates = failed({**row, CONVERGED: fit.converged})
    if gates:
        return UNREADABLE[gates[0]]
    below, above = row["upper"] < 1, row["lower"] > 1
    if below or above:
        return (
            f"Given the model and its prior, the hazard in {exposed} is "
            f"{'lower' if below else 'higher'}: the 95 % interval lies "
            f"{'below' if below else 'above'} 1."
        )
    return (
        f"Whether {exposed} lowers or raises the hazard is left open: the 95 % interval holds "
        "values on both sides of 1."
    )


def sentence(row: Mapping[Any, Any], fit: Fit) -> str:
    """Answer for one endpoint as plain text, with what must not be overlooked.

    Result: the sentence, whether patients are synthetic, whether the draws converged, which other
    gates were failed, and what the baseline gate has to tell: for a model of curves always.
    """
    checks = "The convergence checks passed." if fit.converged else NOT_CONVERGED
    synthetic = f"{SYNTHETIC} " if fit.person_time.synthetic else ""
    marks = [long for name, long in MARKS.items() if name in failed(row)]
    return " ".join([f"{plain(answer(row, fit))} {synthetic}{checks}", *marks, *_told(row, fit)])


def _told(row: Mapping[Any, Any], fit: Fit) -> list[str]:
    """Say how the baseline gate came out, unless it was failed, or passed as it should."""
    state = str(row.get(BASELINE, ""))
    if state == "not compared":
        reason = fit.companion.reason.removeprefix("not compared: ")
        return [f"Not compared with a model without a baseline{f': {reason}' if reason else ''}."]
    if state == "told" or (state == "passed" and fit.definition.purpose == "curves"):
        return [f"{WORDS[state][0].upper()}{WORDS[state][1:]}."]
    return []


def prior_sentence(fit: Fit) -> str:
    """Say what was believed of the hazard ratio before the data."""
    prior = fit.definition.phases.prior
    half = HALF_NORMAL_WIDTH * prior.sd
    low, high = math.exp(prior.mean - half), math.exp(prior.mean + half)
    return (
        f"Before the data, {fit.question.exposed}'s hazard ratio lay between {low:.2f} and "
        f"{high:.2f} with probability 95 %, around {math.exp(prior.mean):.2f}."
    )


def _percent(share: float) -> str:
    return "less than 1%" if share < 0.005 else f"{share:.0%}"


def prior_weight(row: Mapping[Any, Any], fit: Fit) -> tuple[str | Number, ...]:
    """Say how much of an answer the prior is."""
    half = HALF_NORMAL_WIDTH * fit.definition.phases.prior.sd
    share = math.log(row["upper"] / row["lower"]) / (2 * half)
    numbers = interval(dict(row), "hazard_ratios")
    # In a normal approximation the prior's share of the precision is the width's square.
    return (
        f"{str(row['endpoint']).upper()}: the posterior interval, ",
        numbers["lower"],
        " to ",
        numbers["upper"],
        f", has {_percent(share)} of the prior's width on the log scale; the prior carries "
        f"{'' if share**2 < 0.005 else 'about '}{_percent(share**2)} of what is known.",
    )
