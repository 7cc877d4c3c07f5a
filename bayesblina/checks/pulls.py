"""How far the priors and the baseline pull an answer, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from bayesblina.estimands.companions import without_baseline
from bayesblina.estimands.ratios import answer
from bayesblina.inference.companion import partial_posterior
from bayesblina.inference.fitting import Fit

# In sds of the companion: from here on a pull is told.
PULL_TOLD = 0.25
COLUMNS = (
    "baseline_pull",
    "prior_pull",
    "without_prior_median",
    "covariate_prior_pull",
    "without_covariate_priors_median",
)
PHASES, COVARIATES = "phases", "covariates"


def pulls(fit: Fit) -> pd.DataFrame:
    """Say how far the priors and the baseline pull the hazard ratio of a fit.

    Result: one row per endpoint, of differences of median log hazard ratios: ``endpoint``,
    ``baseline_pull`` (the fit against its companion), ``prior_pull`` (the companion with the prior
    of the hazard ratio against the one without), ``without_prior_median`` (the hazard ratio without
    it), ``covariate_prior_pull`` and ``without_covariate_priors_median`` (the same for the priors
    of the covariates), ``companion_sd`` (of the log hazard ratio) and ``reason``, why something is
    missing. Missing where there is no companion, no covariate, or without the prior no posterior.
    """
    names = list(fit.person_time.endpoints)
    missing = np.full(len(names), np.nan)
    columns: dict[str, Sequence[object] | Floats] = {"endpoint": names}
    columns |= dict.fromkeys([*COLUMNS, "companion_sd"], missing)
    bare = without_baseline(fit)
    if bare is None:
        return pd.DataFrame(columns | {"reason": [fit.gate.reason] * len(names)})
    own, companion = answer(fit), answer(bare)
    middle = np.median(companion, axis=0)
    columns["baseline_pull"] = np.median(own, axis=0) - middle
    columns["companion_sd"] = companion.std(axis=0, ddof=1)
    reasons = []
    parts = [(PHASES, "prior_pull", "without_prior_median")]
    if fit.design.term_names:
        parts.append((COVARIATES, "covariate_prior_pull", "without_covariate_priors_median"))
    for prior, pull, without in parts:
        flat = partial_posterior(
            fit.definition, fit.person_time, seed=fit.provenance.seed, flat=(prior,)
        )
        free = without_baseline(fit, flat)
        if free is None:
            reasons.append(flat.reason.removeprefix("not compared: "))
            continue
        other = np.median(answer(free), axis=0)
        columns[pull], columns[without] = middle - other, np.exp(other)
    return pd.DataFrame(columns | {"reason": ["; ".join(reasons)] * len(names)})


def told_pulls(table: pd.DataFrame, *, exposed: str) -> list[str]:
    """Word the priors that pull an answer far.

    Sentences: of priors that move the hazard ratio by more than a quarter of an sd, and of those
    without which nothing identifies it.
    """
    words = (
        ("prior_pull", "without_prior_median", "the prior of the hazard ratio moves it"),
        (
            "covariate_prior_pull",
            "without_covariate_priors_median",
            f"the priors of the covariates move the hazard ratio of {exposed}",
        ),
    )
    sentences = []
    for row in table.to_dict("records"):
        for pull, without, said in words:
            if abs(row[pull]) > PULL_TOLD * row["companion_sd"]:
                sentences.append(
                    f"{row['endpoint']}: {said} from {row[without]:.2f} to "
                    f"{row[without] * np.exp(row[pull]):.2f} "
                    f"({abs(row[pull]) / row['companion_sd']:.1f} standard deviations)"
                )
    return [
        *sentences,
        *dict.fromkeys(one for one in table["reason"] if one.startswith("without the")),
    ]
