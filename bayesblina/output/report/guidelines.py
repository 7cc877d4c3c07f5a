"""Where the report answers each item of the Bayesian Analysis Reporting Guidelines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from bayesblina.hazards.parts import Free
from bayesblina.inference.fitting import Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of the guidelines.

    Attributes
    ----------
    step
        Step of the guidelines.
    item
        What is to be reported.
    section
        Section of the report that does; empty where none does.
    words
        How, or why not.
    """

    step: str
    item: str
    section: str
    words: str


def checklist(fit: Fit, *, shown: Collection[str], sensitivity: bool) -> list[Item]:
    """Go through the guidelines.

    Notes
    -----
    Kruschke (2021), doi:10.1038/s41562-021-01177-7. The wording of the items is our own.
    """
    preamble, model, computation, posterior, decisions, priors, again = (
        "Preamble",
        "1 Model",
        "2 Computation",
        "3 Posterior",
        "4 Decisions",
        "5 Sensitivity",
        "6 Reproducibility",
    )
    ask = "to be written by whoever reports the study"

    def there(table: str, section: str, words: str) -> tuple[str, str]:
        if table in shown:
            return section, words
        return "", "not computed for this model or folder"

    rows: list[tuple[str, str, tuple[str, str]]] = [
        (preamble, "A. Why a Bayesian analysis", ("", ask)),
        (preamble, "B. Goals of the analysis", ("estimand", "the estimand")),
        (model, "A. Data and variables", ("flow", "patients, events and time at risk")),
        (model, "B. Likelihood and parameters", ("methods", "in words and formulas")),
        (model, "C. Prior distribution", ("prior", "stated through intervals; all in Methods")),
        (model, "D. Formal specification", ("methods", "formulas")),
        (
            model,
            "E. Prior predictive check",
            there(
                "prior_predictive",
                "prior",
                "what the priors of effects imply, given the level and shape of the pooled hazard: "
                "the baseline's own prior is vague on purpose",
            ),
        ),
        (computation, "A. Software", ("provenance", "versions")),
        (computation, "B. Convergence of the chains", ("convergence", "pass or fail by criterion")),
        (
            computation,
            "C. Resolution of the chains",
            ("convergence", "effective sample sizes and Monte-Carlo errors"),
        ),
        (
            computation,
            "D. If not by Markov chains",
            ("convergence", "importance sampling, with the Pareto k of its weights")
            if isinstance(fit.definition.baseline, Free)
            else ("", "does not apply: Markov chains were used"),
        ),
        (
            posterior,
            "A. Posterior predictive check",
            there("predictive", "predictive", "events and curves, replicated and observed"),
        ),
        (
            posterior,
            "B. Summaries of the posterior",
            ("ratios", "medians, intervals and densities"),
        ),
        (
            posterior,
            "C. Bayes factors, posterior model probabilities",
            ("", "does not apply: no models were compared by them"),
        ),
        (
            decisions,
            "A. Why a decision, with what criterion",
            ("", "does not apply: the report decides nothing; probabilities are given"),
        ),
        (decisions, "B. Loss function", ("", "does not apply: no decision")),
        (
            decisions,
            "C. Limits of a region of practical equivalence",
            (
                ("ratios", "probabilities of hazard ratios below the study's thresholds")
                if _thresholds(shown)
                else ("", "does not apply: no decision")
            ),
        ),
        (decisions, "D. Estimates besides decisions", ("answer", "given for every endpoint")),
        (
            priors,
            "A. Broad and narrow priors",
            there(
                "prior_sensitivity",
                "prior",
                "priors of effects at half and at twice their weight; the baseline against none",
            ),
        ),
        (
            priors,
            "B. Other priors, models and choices",
            (
                ("sensitivity", "scenarios")
                if sensitivity
                else ("", "not there: run bayesblina sensitivity into the same folder")
            ),
        ),
        (
            priors,
            "C. What it does to decisions",
            (
                ("sensitivity", "in how many scenarios the conclusion holds")
                if sensitivity
                else ("", "does not apply: no decision, no scenarios")
            ),
        ),
        (again, "A. Software and how to get it", ("provenance", "versions and command")),
        (
            again,
            "B. Data and scripts",
            ("provenance", "the table's hash; the data themselves are not in this report"),
        ),
        (
            again,
            "C. The same draws again",
            ("provenance", f"seed {fit.provenance.seed}, same machine and versions"),
        ),
    ]
    return [
        Item(step=step, item=item, section=section, words=words)
        for step, item, (section, words) in rows
    ]


def _thresholds(shown: Collection[str]) -> bool:
    return "thresholds" in shown
