"""The Bayesian bootstrap: the spread of an estimate whose patients have weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from bayesblina.core.errors import require_at_least, require_kind, require_seed
from bayesblina.core.tables.numbers import CONVERGED, FAILED
from bayesblina.hazards.build import build_model, with_weights
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import Fit
from bayesblina.inference.sampling import sample

QUICK = SamplerSettings(draws=300, tune=400, chains=1)


def bayesian_bootstrap(
    fit: Fit,
    *,
    seed: int,
    replicates: int = 200,
    settings: SamplerSettings = QUICK,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Refit under random weights of the patients.

    The posterior of a weighted likelihood does not have the spread of the estimate. Here every
    replicate multiplies the patients' own weights by Dirichlet weights of mean 1, and takes the
    posterior mean; their spread is that of the estimate, whatever the weights. All pieces and
    copies of a patient share one Dirichlet weight. The patients' own weights are taken for known:
    where they come from a model of starting, `weighted_effect` makes them again in every draw.

    Parameters
    ----------
    fit
        The fit, usually one with weights.
    seed
        Seed of the weights and the draws.
    replicates
        Number of replicates.
    settings
        How long each is sampled; its noise adds to the spread.
    progress
        Called with the number of replicates done and that of all.

    Returns
    -------
    xarray.Dataset
        ``log_hazard_ratio`` over (replicate, endpoint, effect), of each replicate's posterior mean,
        and ``hazard_ratio``, its exponential; cut points and what the prior takes from data are
        those of the fit.

    Raises
    ------
    SpecError
        If there are fewer than two replicates.

    Notes
    -----
    Rubin (1981), doi:10.1214/aos/1176345338; for posteriors of weighted likelihoods Lyddon, Holmes
    and Walker (2019), doi:10.1093/biomet/asz006.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.bayesian_bootstrap(fit, seed=1, replicates=4)["hazard_ratio"].sizes["replicate"]
    4
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    require_at_least(replicates, 2, "replicates")
    built = build_model(fit.definition, fit.person_time)
    people = fit.person_time.people
    ids = people["person" if "person" in people else "patient"]
    persons, of = np.unique(ids.values, return_inverse=True)
    generator = np.random.default_rng(seed)
    means = []
    for index in range(replicates):
        weights = generator.dirichlet(np.ones(persons.size)) * persons.size
        with_weights(built, fit.person_time, weights[of])
        draws, _ = sample(built, seed=int(generator.integers(2**31)), settings=settings)
        means.append(draws["posterior"].to_dataset()["log_hazard_ratio"].mean(("chain", "draw")))
        if progress is not None:
            progress(index + 1, replicates)
    log_ratio = xr.concat(means, dim="replicate")
    return xr.Dataset(
        {
            "log_hazard_ratio": log_ratio,
            "hazard_ratio": (log_ratio.dims, np.exp(log_ratio.values)),
        },
        attrs={
            "model": fit.definition.name,
            "synthetic": int(fit.person_time.synthetic),
            "replicates": replicates,
            # What the fit's own hazard ratios are marked with, these are too.
            **{name: FAILED for name in fit.failed if name != CONVERGED},
        },
    )
