"""Answers and priors in words; numbers come from the tables, and know where they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bayesblina.checks.weaknesses import unreliable, weaknesses
from bayesblina.core.tables.numbers import (
    BASELINE,
    CONVERGED,
    EVENT_TIMES,
    FAILED,
    LONG,
    MISSING,
    beside,
    failed,
    probability,
)
from bayesblina.hazards.parts import PowerPrior
from bayesblina.inference.baseline_gate import WORDS, worst
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.event_times import DECLARE, UNSEEN

HALF_NORMAL_WIDTH = 1.959963984540054
NOT_CONVERGED = "NOT CONVERGED: do not use this number."
SYNTHETIC = "SYNTHETIC PATIENTS."
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


def count(cell: Any, shape: str = ",.0f") -> str:
    """Write a count, or the mask in its place; nothing where there is none."""
    empty = isinstance(cell, str) or pd.isna(cell)
    return (cell if isinstance(cell, str) else "") if empty else format(float(cell), shape)


def estimand_of(fit: Fit) -> dict[str, str]:
    """Give the question's attributes of ICH E9(R1), and whose answer it is.

    One sentence for each attribute; with external patients the population says that the answer is
    the current patients', or that it is that of both.
    """
    attributes = dict(fit.question.estimand(period=fit.person_time.period))
    borrowing = fit.definition.borrowing
    if fit.design.sources:
        attributes["population"] = (
            f"current patients ({attributes['population']}); external patients "
            f"({', '.join(fit.design.sources)}) only inform about them"
        )
    elif isinstance(borrowing, PowerPrior):
        attributes["population"] += (
            f"; together with external patients, of whom each counts {borrowing.weight:g}"
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
        for name in ("endpoint", "landmark", "regime", "time", "step")
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
    asked = fit.question
    exposed = f"{asked.exposure}{', averaged over its steps,' * asked.stepped}"
    return (
        f"{str(row['endpoint']).upper()}: hazard ratio of {exposed} against {asked.against} ",
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
    exposed = fit.question.exposure
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
    marks = [LONG[name] for name in failed(row) if name != CONVERGED]
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
    low, high = (math.exp(prior.mean + sign * HALF_NORMAL_WIDTH * prior.sd) for sign in (-1, 1))
    return (
        f"Before the data, {fit.question.exposure}'s hazard ratio lay between {low:.2f} and "
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


TABLE = "hazard_ratios"
WITHOUT_PRIOR, WITHOUT_COVARIATE_PRIORS = "without_prior_median", "without_covariate_priors_median"
# What pulls an answer: the column that is known where it does, and from and to which one it does.
PULLS = (
    (WITHOUT_PRIOR, "the prior of the hazard ratio", WITHOUT_PRIOR, "companion_median"),
    (
        WITHOUT_COVARIATE_PRIORS,
        "the priors of the covariates",
        WITHOUT_COVARIATE_PRIORS,
        "companion_median",
    ),
    ("baseline_pull", "the baseline", "companion_median", "median"),
)


def compared(row: Mapping[Any, Any], fit: Fit) -> Words:
    """Set the answer beside the one without a baseline, in a sentence."""
    without = companion(dict(row))
    if without is None:
        why = fit.companion.reason.removeprefix("not compared: ")
        words = f"Not compared with a model without a baseline: {why}"
        if fit.gate.against:
            words += f". Compared with {fit.gate.against}: {WORDS[fit.gate.state]}"
        return (f"{words}.",)
    state, apart = str(row[BASELINE]), abs(float(row["baseline_shift"]))
    size = "" if state == "passed" else f", by {apart:.1f} standard deviations"
    then = ": do not use the number with a baseline" if state == FAILED else ""
    return (
        "With a baseline hazard the hazard ratio is ",
        number(row, "median", shape_of(row), table=TABLE),
        "; without one, by Cox's partial likelihood with the same priors and covariates, it is ",
        without["median"],
        " (",
        without["lower"],
        " to ",
        without["upper"],
        "; probability below 1: ",
        number(row, "companion_probability_below_1", PROBABILITY, table=TABLE),
        f"): {WORDS[state]}{size}{then}.",
    )


def pulled(row: Mapping[Any, Any]) -> Words:
    """Say how far the priors and the baseline pull the answer, in a sentence.

    The sentence; none where nothing is known.
    """
    shape = shape_of(row)
    words: list[str | Number] = []
    for column, what, start, end in PULLS:
        if known(row, column):
            ends = [number(row, name, shape, table=TABLE) for name in (start, end)]
            words += [f"; {what} from " if words else f"What pulls it: {what} from "]
            words += [ends[0], " to ", ends[1]]
    return (*words, ".") if words else ()


def visits_in_words(fit: Fit, *, coarse: bool = False) -> tuple[str, ...]:
    """Say of which endpoints event times are those of visits.

    Sentences without their full stops.
    """
    event_times = fit.event_times
    if event_times is None or not coarse:
        return () if event_times is None else event_times.messages
    rows = records(event_times.table[event_times.table["state"].isin(["told", FAILED])])
    return tuple(
        f"{row['endpoint']}: {DECLARE}. More of them than by chance are multiples of "
        f"{row['unit']}; what that may do to the hazard ratio is, in posterior standard "
        f"deviations, {row['index']:.1f}"
        for row in rows
    )


def event_times_in_words(fit: Fit, *, coarse: bool = False) -> tuple[str, ...]:
    """Say whether event times are those of visits.

    Sentences without their full stops.
    """
    if fit.event_times is None:
        return ("whether event times are those of visits was not looked at",)
    return (*visits_in_words(fit, coarse=coarse), *fit.event_times.notes, UNSEEN.rstrip("."))


def weak_points(
    fit: Fit, *, loo: pd.DataFrame | None = None, coarse: bool = False
) -> tuple[str, ...]:
    """Say what weakens the answer, event times that are told among it.

    Sentences without their full stops.
    """
    predicted = () if loo is None else unreliable(loo, coarse=coarse)
    return (*weaknesses(fit, coarse=coarse), *visits_in_words(fit, coarse=coarse), *predicted)


def curves_in_words(table: pd.DataFrame | None, unit: str, *, coarse: bool = False) -> list[str]:
    """Say how far the baseline moves curves.

    One text for each endpoint and regime, without its full stop.
    """
    rows = [] if table is None else records(table)
    shape = ".2f" if coarse else SURVIVAL
    return [
        f"{row['endpoint']}, {row['regime']}: furthest from a baseline that jumps at the event "
        f"times at {row['time']:.1f} {unit}, survival {shown(row['survival'], shape)} "
        f"against {shown(row['survival_free'], shape)}, {row['largest']:.1f} standard "
        "deviations"
        for row in rows
        if math.isfinite(row["largest"])
    ]


def banners(fit: Fit, gate: pd.DataFrame, *, coarse: bool = False) -> list[dict[str, Any]]:
    """Word what must stand above everything else, of the gates other than convergence.

    `gate`: the baseline gate as it may be shown.
    """
    # Ratios that the baseline moves have no more digits than the answer.
    moved = [
        f"{row['endpoint']}, {row['effect']}: hazard ratio {row['own']} with a baseline, "
        f"{row['other']} without one, {row['shift']} sds apart"
        for row in gate_rows(gate)
        if row["state"] == FAILED
    ]
    failures = {BASELINE: moved, EVENT_TIMES: list(visits_in_words(fit, coarse=coarse))}
    return [
        {"title": LONG[name], "failures": words}
        for name, words in failures.items()
        if name in fit.failed
    ]


def gate_words(fit: Fit) -> str:
    """Say how the baseline gate came out, in a sentence."""
    gate, words = fit.gate, WORDS[fit.gate.state]
    if gate.state == "not compared":
        return f"{words.capitalize()}: {gate.reason}."
    return f"{words[0].upper()}{words[1:]}, compared with {gate.against}."


def gate_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Write the baseline gate for a page that may hide counts."""

    def written(value: object, shape: str) -> str:
        number = float(str(value))
        return format(number, shape) if math.isfinite(number) else "–"

    return [
        {
            "endpoint": str(row["endpoint"]),
            "effect": str(row["effect"]),
            "own": written(math.exp(row["mean"]), ".2f"),
            "other": written(math.exp(row["companion_mean"]), ".2f"),
            "shift": written(row["shift"], "+.1f"),
            "sd_ratio": written(row["sd_ratio"], ".2f"),
            "state": str(row["state"]),
            "reason": str(row["reason"]),
        }
        for row in _furthest(table)
    ]


def _furthest(table: pd.DataFrame) -> list[Row]:
    """Rows of the gate; of an endpoint's many intervals the one whose ratios are furthest apart.

    Where these are hidden it is the first of those whose state is worst.
    """
    rows = table.reset_index(drop=True)
    many = rows["effect"].str.startswith("interval ")
    kept = rows[~many]
    for _, inside in rows[many].groupby("endpoint", sort=False):
        known = inside["shift"].notna().any()
        candidates = inside if known else inside[inside["state"] == worst(inside["state"])]
        row = candidates.loc[[candidates["shift"].abs().fillna(0.0).idxmax()]]
        label = f", {'the furthest' if known else 'one'} of {len(inside)}"
        kept = pd.concat([kept, row.assign(effect=row["effect"] + label)])
    return records(kept)
