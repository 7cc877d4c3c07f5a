"""The results in a page of Markdown; counts only, never patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bayesblina.account import Account
from bayesblina.fitting import Fit
from bayesblina.report.answer import (
    compared,
    curves_in_words,
    event_times_in_words,
    pulled,
    weak_points,
)
from bayesblina.report.wording import (
    estimand_of,
    plain,
    prior_sentence,
    prior_weight,
    sentence,
)
from bayesblina.tables.marks import BASELINE, EVENT_TIMES, LONG
from bayesblina.tables.table import markdown
from bayesblina.tables.table import plain as one_line


def summary(
    fit: Fit,
    ratios: pd.DataFrame,
    *,
    title: str,
    source: str,
    size: int,
    account: Account,
    curves: pd.DataFrame | None = None,
    loo: pd.DataFrame | None = None,
) -> str:
    """Word the results.

    Parameters
    ----------
    fit
        The fit.
    ratios
        Table of the hazard ratios.
    title
        Title of the study.
    source
        Name of the patients' table.
    size
        Number of patients in it.
    account
        What happened to every patient.
    curves
        How far the baseline moves curves (``curve_shift`` of the results), if it is known.
    loo
        How patients are predicted from the others (``leave_one_out`` of the results), if it is.

    Returns
    -------
    str
        Markdown.
    """
    rows: Sequence[Mapping[str, Any]] = [
        {str(key): value for key, value in row.items()} for row in ratios.to_dict("records")
    ]
    lines = [f"# {_cell(title)}", ""]
    if fit.exposure.synthetic:
        lines += ["> **SYNTHETIC**: the patients are simulated. This is never evidence.", ""]
    if not fit.converged:
        lines += ["> **NOT CONVERGED**: do not use these numbers. What failed:", ">"]
        lines += [f"> - {_cell(failure)}" for failure in fit.convergence.failures()]
        lines += [""]
    for name, failures in _failed(fit).items():
        lines += [f"> **{LONG[name]}** What failed:", ">"]
        lines += [f"> - {_cell(failure)}" for failure in failures]
        lines += [""]
    lines += ["## Answer", ""]
    for row in rows:
        lines += [f"- {_cell(sentence(row, fit))}"]
        beside = (compared(row, fit), pulled(row))
        lines += [f"  - {_cell(plain(words))}" for words in beside if words]
    lines += [""]
    weak = weak_points(fit, loo=loo)
    if weak:
        lines += ["### What weakens it", "", *(f"- {_cell(one)}." for one in weak), ""]
    kind = "conditional on the covariates" if fit.design.term_names else "without covariates"
    if fit.design.sources:
        kind += ", and of the current patients"
    lines += [f"The hazard ratios are {kind}; each interval is central (equal-tailed).", ""]
    lines += ["## Prior and posterior", "", _cell(prior_sentence(fit)), ""]
    lines += [f"- {_cell(plain(prior_weight(row, fit)))}" for row in rows]
    lines += ["", "## Question", "", "| attribute | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(words)} |" for name, words in estimand_of(fit).items()]
    lines += ["", "## Patients", ""]
    lines += [f"{size} patients in {_cell(source)}, times in {fit.exposure.unit}.", ""]
    lines += [account.to_markdown()]
    lines += ["", "## Checks", "", "| criterion | value | must be | passed |", "|---|---|---|---|"]
    lines += [
        f"| {row['criterion']} | {row['value']:.4g} | {row['limit']} | "
        f"{'yes' if row['passed'] else '**NO**'} |"
        for row in fit.convergence.criteria.to_dict("records")
    ]
    lines += ["", f"- Baseline: {_cell(fit.gate.words())}."]
    lines += [f"- Curves: {_cell(one)}." for one in curves_in_words(curves, fit.exposure.unit)]
    lines += [f"- Event times: {_cell(one)}." for one in event_times_in_words(fit)]
    lines += [f"- {_cell(note)}" for note in fit.provenance.notes]
    lines += ["", "## Provenance", "", *_provenance(fit, source), ""]
    return "\n".join(lines)


def _failed(fit: Fit) -> dict[str, list[str]]:
    """Word what failed of the gates other than convergence."""
    coarse = () if fit.event_times is None else fit.event_times.messages
    words = {BASELINE: fit.gate.failures(), EVENT_TIMES: list(coarse)}
    return {name: failures for name, failures in words.items() if name in fit.failed}


def _provenance(fit: Fit, source: str) -> list[str]:
    provenance, settings = fit.provenance, fit.provenance.settings
    versions = ", ".join(f"{name} {number}" for name, number in provenance.versions.items())
    return [
        f"- data: {_cell(source)}, SHA-256 of events and person-time `{provenance.data_hash}`",
        f"- model: {_cell(f'{fit.definition.name} ({fit.definition.title})')}",
        f"- sampling: seed {provenance.seed}, {settings.chains} chains of {settings.draws} draws "
        f"after {settings.tune} for adaptation, engine {provenance.engine}",
        f"- versions: {versions}",
    ]


def _cell(text: str) -> str:
    """Write a text in one line of Markdown: nothing that stands in data is markup or HTML."""
    return markdown(one_line(text))
