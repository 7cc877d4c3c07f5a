"""The answer beside the one without a baseline, what pulls it and what weakens it, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bayesblina.checks.weaknesses import unreliable, weaknesses
from bayesblina.core.tables.marks import BASELINE, EVENT_TIMES, FAILED
from bayesblina.core.tables.table import BASELINE_MOVES, VISITS
from bayesblina.inference.baseline_gate import WORDS, worst
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.wording import (
    PROBABILITY,
    SURVIVAL,
    Number,
    Row,
    Words,
    companion,
    known,
    number,
    records,
    shape_of,
    shown,
)
from bayesblina.person_time.event_times import DECLARE, UNSEEN

WITHOUT = "; without one, by Cox's partial likelihood with the same priors and covariates, it is "
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
        WITHOUT,
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
