"""The results in a page of Markdown; counts only, never patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bayesblina.core.escaping import markdown
from bayesblina.core.escaping import plain as one_line
from bayesblina.core.masking import MASK
from bayesblina.core.tables.numbers import BASELINE, EVENT_TIMES, LONG
from bayesblina.inference.baseline_gate import WORDS
from bayesblina.inference.fitting import Fit
from bayesblina.output.report.answer import (
    compared,
    curves_in_words,
    event_times_in_words,
    pulled,
    visits_in_words,
    weak_points,
)
from bayesblina.output.report.hiding import FEW, Shown, about_others
from bayesblina.output.report.wording import (
    HASH,
    estimand_of,
    plain,
    prior_sentence,
    prior_weight,
    provenance_of,
    records,
    sentence,
)
from bayesblina.patients.account import COLUMNS, to_markdown

# What no masking of one folder can prevent.
ONE_MINIMUM = (
    "Hand on one version only: whoever has two of the same patients, with different minimums or "
    "questions, can subtract one from the other."
)


def summary(left: Shown, *, stays: Sequence[str] = ()) -> str:
    """Word the results.

    `stays`: files of the folder that hold patients, or counts that are not shown.
    """
    fit, tables = left.results.fit, left.results.tables
    title, source = str(left.results.record["title"]), str(left.results.record["source"])
    rows = records(tables["hazard_ratios"])
    lines = [f"# {_cell(title)}", ""]
    if left.minimum > 1:
        lines += [f"> {_cell(words)}" for words in masking_in_words(left, stays)] + [""]
    if fit.person_time.synthetic:
        lines += ["> **SYNTHETIC**: the patients are simulated. This is never evidence.", ""]
    if not fit.converged:
        lines += ["> **NOT CONVERGED**: do not use these numbers. What failed:", ">"]
        lines += [f"> - {_cell(failure)}" for failure in fit.convergence.failures()]
        lines += [""]
    for name, failures in _failed(left).items():
        lines += [f"> **{LONG[name]}** What failed:", ">"]
        lines += [f"> - {_cell(failure)}" for failure in failures]
        lines += [""]
    lines += ["## Answer", ""]
    for row in rows:
        lines += [f"- {_cell(sentence(row, fit))}"]
        beside = (compared(row, fit), pulled(row))
        lines += [f"  - {_cell(plain(words))}" for words in beside if words]
    if left.withheld:
        lines += [f"- {_cell(', '.join(left.withheld))}: masked. {FEW}."]
    lines += [""]
    weak = about_others(
        weak_points(fit, loo=tables.get("leave_one_out"), coarse=left.coarse), left.withheld
    )
    if weak:
        lines += ["### What weakens it", "", *(f"- {_cell(words)}." for words in weak), ""]
    kind = "conditional on the covariates" if fit.design.term_names else "without covariates"
    if fit.design.sources:
        kind += ", and of the current patients"
    lines += [f"The hazard ratios are {kind}; each interval is central (equal-tailed).", ""]
    lines += ["## Prior and posterior", "", _cell(prior_sentence(fit)), ""]
    lines += [f"- {_cell(plain(prior_weight(row, fit)))}" for row in rows]
    lines += ["", "## Question", "", "| attribute | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(words)} |" for name, words in estimand_of(fit).items()]
    lines += ["", "## Patients", ""]
    lines += [f"{_read(left)}patients in {_cell(source)}, times in {fit.person_time.unit}.", ""]
    lines += [_account(left)]
    lines += ["", "## Checks", "", "| criterion | value | must be | passed |", "|---|---|---|---|"]
    lines += [
        f"| {row['criterion']} | {row['value']:.4g} | {row['limit']} | "
        f"{'yes' if row['passed'] else '**NO**'} |"
        for row in fit.convergence.criteria.to_dict("records")
    ]
    lines += ["", *(f"- Baseline: {_cell(words)}." for words in _baseline(left))]
    moved = curves_in_words(tables.get("curve_shift"), fit.person_time.unit, coarse=left.coarse)
    lines += [f"- Curves: {_cell(words)}." for words in moved]
    times = about_others(event_times_in_words(fit, coarse=left.coarse), left.withheld)
    lines += [f"- Event times: {_cell(words)}." for words in times]
    lines += [f"- {_cell(note)}" for note in left.fit_notes]
    lines += ["", "## Provenance", "", *_provenance(fit, source), ""]
    return "\n".join(lines)


def masking_in_words(left: Shown, stays: Sequence[str]) -> tuple[str, ...]:
    """Say what is masked, and what must not be handed on.

    `stays`: files of the folder that hold patients, or counts that are not shown.
    """
    if left.minimum <= 1:
        return ("Nothing is masked: small counts stand in every file.",)
    words = [
        f"Masked: counts of patients or events from 1 to {left.minimum - 1}, and what would tell "
        f"them, are hidden in the report, tables and figures ({MASK}).",
        ONE_MINIMUM,
    ]
    if stays:
        words.append(
            f"Not to be handed on: {', '.join(stays)}, and the study's own data, which hold single "
            "patients or what is masked."
        )
    return tuple(words)


def _read(left: Shown) -> str:
    """Say how many patients were read."""
    table = left.results.tables.get("patient_flow")
    rows = [] if table is None else table.loc[table["step"] == "read", "patients"].tolist()
    return f"{rows[0]} " if rows else ""


def _account(left: Shown) -> str:
    """Write the account of patients."""
    table = left.results.tables.get("patient_flow")
    if table is None:
        return "No account of the patients is there."
    shapes = {"patients": ".0f", "events": ".0f", "person_time": ".6g"}

    def cell(value: Any, shape: str) -> str:
        if isinstance(value, str):
            return value
        return "" if pd.isna(value) else format(float(value), shape)

    cells = [
        [cell(line[name], shapes.get(name, "")) for name in COLUMNS]
        for line in table.to_dict("records")
    ]
    return to_markdown((*COLUMNS[:-1], f"person-{left.results.fit.person_time.unit}"), cells)


def _baseline(left: Shown) -> tuple[str, ...]:
    """Word the gate of the baseline, without the endpoints that are withheld."""
    fit, shown = left.results.fit, left.gate
    told, own = ("failed", "told"), fit.gate.table
    marked = shown["state"].isin(told)
    # Words have numbers of what is marked.
    if not left.withheld and shown[marked].equals(own[own["state"].isin(told)]):
        return (left.words(fit.gate.words()),)
    named = shown[marked | (shown["effect"] == fit.question.exposed)]
    return tuple(_state_of(row) for row in named.to_dict("records"))


def _state_of(row: Mapping[Any, Any]) -> str:
    """Word a row of the baseline gate without its numbers."""
    return f"{row['endpoint']}, {row['effect']}: {WORDS[row['state']]}"


def _failed(left: Shown) -> dict[str, list[str]]:
    """Word what failed of the gates other than convergence."""
    fit = left.results.fit
    visits = visits_in_words(fit, coarse=left.coarse)
    gate = left.gate
    moved = (
        fit.gate.failures()
        if gate.equals(fit.gate.table)
        else [_state_of(row) for row in gate[gate["state"] == "failed"].to_dict("records")]
    )
    words = {BASELINE: moved, EVENT_TIMES: visits}
    return {
        name: list(about_others(failures, left.withheld))
        for name, failures in words.items()
        if name in fit.failed
    }


def _provenance(fit: Fit, source: str) -> list[str]:
    of_fit = provenance_of(fit)
    return [
        f"- data: {_cell(source)}, {HASH} `{of_fit[HASH]}`",
        f"- model: {_cell(of_fit['model'])}",
        *(f"- {name}: {of_fit[name]}" for name in ("sampling", "versions")),
    ]


def _cell(text: str) -> str:
    """Write a text in one line of Markdown: nothing that stands in data is markup or HTML."""
    return markdown(one_line(text))
