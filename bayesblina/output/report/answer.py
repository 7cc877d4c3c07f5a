"""The answer beside the one without a baseline, what pulls it and what weakens it, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bayesblina.checks.weaknesses import unreliable, weaknesses
from bayesblina.core.tables.numbers import BASELINE, BASELINE_MOVES, EVENT_TIMES, FAILED, VISITS
from bayesblina.inference.baseline_gate import WORDS, worst
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.wording import (
    PROBABILITY,
    SURVIVAL,
    Number,
    Row,
    Words,
    number,
    records,
    shape_of,
    shown,
)
from bayesblina.person_time.event_times import DECLARE, UNSEEN

WITHOUT = "; without one, by Cox's partial likelihood with the same priors and covariates, it is "
TABLE = "hazard_ratios"
# What follows how far the answers are apart.
THEN: Mapping[str, str] = {"failed": ": do not use the number with a baseline"}


def known(row: Mapping[Any, Any], column: str) -> bool:
    """Say whether a row has a number.

    False where the column or its number is missing.

    >>> known({"prior_pull": float("nan")}, "prior_pull"), known({}, "prior_pull")
    (False, False)
    """
    return column in row and math.isfinite(float(row[column]))


def compared(row: Mapping[Any, Any], fit: Fit) -> Words:
    """Set the answer beside the one without a baseline, in a sentence."""
    if not known(row, "companion_median"):
        why = fit.companion.reason.removeprefix("not compared: ")
        words = f"Not compared with a model without a baseline: {why}"
        if fit.gate.against:
            words += f". Compared with {fit.gate.against}: {WORDS[fit.gate.state]}"
        return (f"{words}.",)
    shape = shape_of(row)

    def companion(column: str, form: str = shape) -> Number:
        return number(row, f"companion_{column}", form, table=TABLE)

    probability = companion("probability_below_1", PROBABILITY)
    state = str(row[BASELINE])
    apart = abs(float(row["baseline_shift"]))
    size = "" if state == "passed" else f", by {apart:.1f} standard deviations"
    return (
        "With a baseline hazard the hazard ratio is ",
        number(row, "median", shape, table=TABLE),
        WITHOUT,
        companion("median"),
        " (",
        companion("lower"),
        " to ",
        companion("upper"),
        "; probability below 1: ",
        probability,
        f"): {WORDS[state]}{size}{THEN.get(state, '')}.",
    )


def pulled(row: Mapping[Any, Any]) -> Words:
    """Say how far the priors and the baseline pull the answer, in a sentence.

    The sentence; none where nothing is known.
    """
    shape = shape_of(row)

    def shown_as(column: str) -> Number:
        return number(row, column, shape, table=TABLE)

    parts: list[Words] = []
    if known(row, "without_prior_median"):
        parts.append(
            (
                "the prior of the hazard ratio from ",
                shown_as("without_prior_median"),
                " to ",
                shown_as("companion_median"),
            )
        )
    if known(row, "without_covariate_priors_median"):
        parts.append(
            (
                "the priors of the covariates from ",
                shown_as("without_covariate_priors_median"),
                " to ",
                shown_as("companion_median"),
            )
        )
    if known(row, "baseline_pull"):
        parts.append(
            ("the baseline from ", shown_as("companion_median"), " to ", shown_as("median"))
        )
    if not parts:
        return ()
    joined: list[str | Number] = ["What pulls it: "]
    for index, part in enumerate(parts):
        joined += [*(["; "] if index else []), *part]
    return (*joined, ".")


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
    above = []
    if BASELINE in fit.failed:
        above.append({"title": BASELINE_MOVES, "failures": _failing(gate)})
    if EVENT_TIMES in fit.failed:
        above.append({"title": VISITS, "failures": list(visits_in_words(fit, coarse=coarse))})
    return above


def _failing(gate: pd.DataFrame) -> list[str]:
    """Ratios that the baseline moves, with no more digits than the answer has."""
    return [
        f"{row['endpoint']}, {row['effect']}: hazard ratio {row['own']} with a baseline, "
        f"{row['other']} without one, {row['shift']} sds apart"
        for row in gate_rows(gate)
        if row["state"] == FAILED
    ]


def gate_words(fit: Fit) -> str:
    """Say how the baseline gate came out, in a sentence."""
    gate = fit.gate
    if gate.state == "not compared":
        return f"{WORDS[gate.state].capitalize()}: {gate.reason}."
    words = WORDS[gate.state]
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
        which = "the furthest" if known else "one"
        label = f"{row['effect'].iloc[0]}, {which} of {len(inside)}"
        kept = pd.concat([kept, row.assign(effect=label)])
    return records(kept)
