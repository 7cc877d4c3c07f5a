"""The results in a page of Markdown; counts only, never patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bayesblina.account import Account
from bayesblina.fitting import Fit
from bayesblina.report.wording import plain, prior_sentence, prior_weight, sentence
from bayesblina.tables.table import markdown
from bayesblina.tables.table import plain as one_line


def summary(
    fit: Fit, ratios: pd.DataFrame, *, title: str, source: str, size: int, account: Account
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
    lines += ["## Answer", "", *(f"- {_cell(sentence(row, fit))}" for row in rows), ""]
    kind = "conditional on the covariates" if fit.design.term_names else "without covariates"
    lines += [f"The hazard ratios are {kind}; each interval is central (equal-tailed).", ""]
    lines += ["## Prior and posterior", "", _cell(prior_sentence(fit)), ""]
    lines += [f"- {_cell(plain(prior_weight(row, fit)))}" for row in rows]
    lines += ["", "## Question", "", "| attribute | |", "|---|---|"]
    lines += [
        f"| {_cell(name)} | {_cell(words)} |" for name, words in fit.question.estimand().items()
    ]
    lines += ["", "## Patients", ""]
    lines += [f"{size} patients in {_cell(source)}, times in {fit.exposure.unit}.", ""]
    lines += [account.to_markdown()]
    lines += ["", "## Checks", "", "| criterion | value | must be | passed |", "|---|---|---|---|"]
    lines += [
        f"| {row['criterion']} | {row['value']:.4g} | {row['limit']} | "
        f"{'yes' if row['passed'] else '**NO**'} |"
        for row in fit.convergence.criteria.to_dict("records")
    ]
    lines += [f"- {_cell(note)}" for note in fit.provenance.notes]
    lines += ["", "## Provenance", "", *_provenance(fit, source), ""]
    return "\n".join(lines)


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
