"""What was borrowed from external patients, and whether they agree with the current ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from bayesblina.errors import EstimandError, SpecError
from bayesblina.fitting import Fit
from bayesblina.hazards.definition import Commensurate, PowerPrior, RobustMixture
from bayesblina.hazards.effects import levels_of
from bayesblina.hazards.likelihood import flat_draws

Floats = NDArray[np.float64]


def borrowing(fit: Fit, *, mass: float = 0.95) -> pd.DataFrame:
    """Say how much was borrowed from external patients.

    The effective number of events is that of current events that would say as much about the
    current patients' log hazard. D external events tell their own log hazard with variance 1 / D;
    with a difference of variance v between the two it is 1 / (1 / D + v), averaged over the
    posterior of v. A power prior has its weight times D.

    Parameters
    ----------
    fit
        A fit of a model with external patients.
    mass
        Probability of the interval.

    Returns
    -------
    pandas.DataFrame
        One row per endpoint and source: ``endpoint``, ``source``, ``patients``, ``events``,
        ``effective_events`` and their ``share`` of the events; ``hazard_ratio`` of external against
        current patients (posterior median) with ``lower`` and ``upper``; and ``probability_apart``
        with ``prior_probability_apart``, of the part of a robust mixture that lies far from the
        current patients. What a model does not have is missing.

    Raises
    ------
    EstimandError
        If the model has no external patients.
    SpecError
        If `mass` is impossible.

    Notes
    -----
    Power prior: Ibrahim and Chen (2000), doi:10.1214/ss/1009212673. Commensurate prior: Hobbs et
    al. (2011), doi:10.1111/j.1541-0420.2011.01564.x. Robust mixture: Schmidli et al. (2014),
    doi:10.1111/biom.12242.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> model = bb.load_model("robust_mixture").with_covariates(source="prior_salvage")
    >>> fit = bb.fit(cohort, question, model=model, seed=1, progress=False)
    >>> bb.borrowing(fit)["source"].tolist()
    ['yes', 'yes']
    """
    kind = fit.definition.borrowing
    if kind is None:
        raise EstimandError(
            f"Model '{fit.definition.name}' has no external patients: see the models power_prior, "
            "commensurate and robust_mixture."
        )
    if not 0 < mass < 1:
        raise SpecError(f"mass must lie between 0 and 1, got {mass!r}.")
    exposure = fit.exposure
    sources, source_of = levels_of(exposure, kind.source, exposure.table["design"].values)
    member = source_of[exposure.people["category"].values]
    events = exposure.people["event"].values
    used = np.isfinite(exposure.people["exit"].values)
    tail = (1.0 - mass) / 2.0
    rows = []
    for index, name in enumerate(exposure.endpoints):
        for place, source in enumerate(sources[1:], start=1):
            inside = (member == place) & used[index]
            count = float(events[index, inside].sum())
            row: dict[str, object] = {
                "endpoint": name,
                "source": source,
                "patients": int(inside.sum()),
                "events": int(count),
            }
            if isinstance(kind, PowerPrior):
                effective = kind.weight * count
            else:
                effective = _effective(fit, kind, count, name, source)
            row |= {
                "effective_events": effective,
                "share": effective / count if count else np.nan,
                "hazard_ratio": np.nan,
                "lower": np.nan,
                "upper": np.nan,
                "probability_apart": np.nan,
                "prior_probability_apart": np.nan,
            }
            if not isinstance(kind, PowerPrior):
                one = fit.posterior.sel(endpoint=name, source=source)
                effect = flat_draws(one, "source_effect")
                ends = np.quantile(np.exp(effect), [tail, 0.5, 1.0 - tail])
                row |= dict(zip(("lower", "hazard_ratio", "upper"), map(float, ends), strict=True))
            if isinstance(kind, RobustMixture):
                row["probability_apart"] = float(probability_apart(kind, effect).mean())
                row["prior_probability_apart"] = 1.0 - kind.probability
            rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs |= {
        "model": fit.definition.name,
        "converged": int(fit.converged),
        "synthetic": int(exposure.synthetic),
    }
    return table


def probability_apart(kind: RobustMixture, effect: Floats) -> Floats:
    """Probability that a difference comes from the far part of a robust mixture.

    Parameters
    ----------
    kind
        The mixture.
    effect : ndarray
        Log hazard ratios of external against current patients.

    Returns
    -------
    ndarray
        Probabilities given the differences.
    """
    close, far = (
        np.log(share) - np.log(part.sd) - 0.5 * ((effect - part.mean) / part.sd) ** 2
        for share, part in ((kind.probability, kind.close), (1.0 - kind.probability, kind.apart))
    )
    return np.asarray(expit(far - close))


def _effective(
    fit: Fit, kind: Commensurate | RobustMixture, events: float, endpoint: str, source: str
) -> float:
    """Effective number of external events."""
    if not events:
        return 0.0
    if isinstance(kind, Commensurate):
        variance = flat_draws(fit.posterior.sel(endpoint=endpoint), "source_sd") ** 2
        return float((1.0 / (1.0 / events + variance)).mean())
    one = fit.posterior.sel(endpoint=endpoint, source=source)
    apart = probability_apart(kind, flat_draws(one, "source_effect"))
    close, far = (1.0 / (1.0 / events + part.sd**2) for part in (kind.close, kind.apart))
    return float(((1.0 - apart) * close + apart * far).mean())
