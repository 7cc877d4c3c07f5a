"""Where the report answers each item of the Bayesian Analysis Reporting Guidelines.

Kruschke (2021), doi:10.1038/s41562-021-01177-7. The wording of the items is our own.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from bayesblina.hazards.parts import Free
from bayesblina.inference.fitting import Fit

NOT_COMPUTED = "not computed for this model or folder"
NO_DECISION = "does not apply: no decision"
# What an item may need besides a table of results.
THRESHOLDS, SCENARIOS, WEIGHTS = "thresholds", "scenarios", "weights of independent draws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item of the guidelines.

    `step`: step of the guidelines.
    `section`: section of the report that does; empty where none does.
    `words`: how, or why not.
    """

    step: str
    item: str
    section: str
    words: str


def _items(step: str, *rows: tuple[str, ...]) -> tuple[tuple[Item, str, str], ...]:
    """Make the items of a step: each with what it needs, and what is said without it."""
    items = []
    for item, section, words, *rest in rows:
        needs, otherwise = [*rest, NOT_COMPUTED][:2] if rest else ("", "")
        items.append((Item(step=step, item=item, section=section, words=words), needs, otherwise))
    return tuple(items)


ITEMS = (
    *_items(
        "Preamble",
        ("A. Why a Bayesian analysis", "", "to be written by whoever reports the study"),
        ("B. Goals of the analysis", "estimand", "the estimand"),
    ),
    *_items(
        "1 Model",
        ("A. Data and variables", "flow", "patients, events and time at risk"),
        ("B. Likelihood and parameters", "methods", "in words and formulas"),
        ("C. Prior distribution", "prior", "stated through intervals; all in Methods"),
        ("D. Formal specification", "methods", "formulas"),
        (
            "E. Prior predictive check",
            "prior",
            "what the priors of effects imply, given the level and shape of the pooled hazard: the "
            "baseline's own prior is vague on purpose",
            "prior_predictive",
        ),
    ),
    *_items(
        "2 Computation",
        ("A. Software", "provenance", "versions"),
        ("B. Convergence of the chains", "convergence", "pass or fail by criterion"),
        (
            "C. Resolution of the chains",
            "convergence",
            "effective sample sizes and Monte-Carlo errors",
        ),
        (
            "D. If not by Markov chains",
            "convergence",
            "importance sampling, with the Pareto k of its weights",
            WEIGHTS,
            "does not apply: Markov chains were used",
        ),
    ),
    *_items(
        "3 Posterior",
        (
            "A. Posterior predictive check",
            "predictive",
            "events and curves, replicated and observed",
            "predictive",
        ),
        ("B. Summaries of the posterior", "ratios", "medians, intervals and densities"),
        (
            "C. Bayes factors, posterior model probabilities",
            "",
            "does not apply: no models were compared by them",
        ),
    ),
    *_items(
        "4 Decisions",
        (
            "A. Why a decision, with what criterion",
            "",
            "does not apply: the report decides nothing; probabilities are given",
        ),
        ("B. Loss function", "", NO_DECISION),
        (
            "C. Limits of a region of practical equivalence",
            "ratios",
            "probabilities of hazard ratios below the study's thresholds",
            THRESHOLDS,
            NO_DECISION,
        ),
        ("D. Estimates besides decisions", "answer", "given for every endpoint"),
    ),
    *_items(
        "5 Sensitivity",
        (
            "A. Broad and narrow priors",
            "prior",
            "priors of effects at half and at twice their weight; the baseline against none",
            "prior_sensitivity",
        ),
        (
            "B. Other priors, models and choices",
            "sensitivity",
            "scenarios",
            SCENARIOS,
            "not there: run bayesblina sensitivity into the same folder",
        ),
        (
            "C. What it does to decisions",
            "sensitivity",
            "in how many scenarios the conclusion holds",
            SCENARIOS,
            f"{NO_DECISION}, no scenarios",
        ),
    ),
    *_items(
        "6 Reproducibility",
        ("A. Software and how to get it", "provenance", "versions and command"),
        (
            "B. Data and scripts",
            "provenance",
            "the table's hash; the data themselves are not in this report",
        ),
        ("C. The same draws again", "provenance", "seed {seed}, same machine and versions"),
    ),
)


def checklist(fit: Fit, *, shown: Collection[str], sensitivity: bool) -> list[Item]:
    """Go through the guidelines.

    `shown`: names of the tables of results that are there.
    """
    there = {"", *shown, *([SCENARIOS] if sensitivity else [])}
    there |= {WEIGHTS} if isinstance(fit.definition.baseline, Free) else set()
    return [
        replace(item, words=item.words.format(seed=fit.provenance.seed))
        if needs in there
        else replace(item, section="", words=otherwise)
        for item, needs, otherwise in ITEMS
    ]
