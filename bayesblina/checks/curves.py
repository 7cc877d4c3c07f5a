"""How far the baseline moves survival curves: against a baseline that jumps at the event times."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.estimands.curves import survival
from bayesblina.estimands.regimes import Regime
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.parts import Free, Independent, ProportionalPhases
from bayesblina.inference.convergence import sampler_settings
from bayesblina.inference.fitting import Fit, fit_person_time, weights_of
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort

# Draws of the free baseline: what is compared are means.
DRAWS, CHAINS = 250, 4
# Survival that is known better than this has not begun to fall.
LEAST_SD = 0.01
COLUMNS = ("endpoint", "regime", "largest", "time", "survival", "survival_free", "sd_free")


def free_model(definition: ModelDefinition) -> ModelDefinition:
    """Give a model a baseline that jumps at the event times, and leave the rest."""
    plain = (
        isinstance(definition.phases, ProportionalPhases)
        and isinstance(definition.endpoints, Independent)
        and definition.groups is None
        and definition.borrowing is None
        and definition.cure is None
        and not definition.roles
        and not getattr(definition.baseline, "shared", False)
    )
    if not plain:
        raise EstimandError(
            f"Model '{definition.name}' has no counterpart with a free baseline: model 'free' has "
            "proportional phases and independent endpoints"
        )
    parts = {"phases": definition.phases, "covariates": definition.covariates}
    return load_model("free").model_copy(update=parts)


def curve_shift(
    fit: Fit, cohort: Cohort, curves: xr.Dataset, *, regimes: Sequence[Regime]
) -> pd.DataFrame:
    """Say how far the baseline moves curves.

    Parameters
    ----------
    fit
        The fit.
    cohort
        Its patients.
    curves
        What `bayesblina.survival` gives of it.
    regimes
        Their regimes.

    Returns
    -------
    pandas.DataFrame
        One row per endpoint and regime: ``endpoint``, ``regime``; ``largest``, the largest absolute
        difference of mean survival from that of model ``free`` with the same priors, in sds of the
        latter, and ``time``, where it is; ``survival``, ``survival_free`` and ``sd_free`` there.
        Times at which that sd is below 0.01 do not count.

    Raises
    ------
    EstimandError
        If the model has no counterpart with a free baseline.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> curves = bb.survival(fit, landmark=8.0)
    >>> list(bb.checks.curve_shift(fit, cohort, curves, regimes=[bb.Never()])["regime"])
    ['never', 'never']
    """
    require_kind(fit, Fit, "fit")
    require_kind(cohort, Cohort, "cohort")
    require_kind(curves, xr.Dataset, "curves")
    definition = free_model(fit.definition)
    if isinstance(fit.definition.baseline, Free):
        raise EstimandError("Its baseline is free itself")
    person_time = person_time_for(definition, cohort, fit.question, weights=weights_of(fit, cohort))
    seed = fit.provenance.seed
    settings = sampler_settings(DRAWS, 1, CHAINS, 1, seed)
    free = fit_person_time(
        definition, person_time, fit.question, seed=seed, settings=settings, complete=False
    )
    other = survival(
        free,
        regimes=regimes,
        landmark=float(curves.attrs["landmark"]),
        times=curves["time"].values,
    )["survival"]
    over = ("chain", "draw")
    mean = curves["survival"].mean(over)
    middle, sd = other.mean(over), other.std(over, ddof=1)
    apart = (abs(mean - middle) / sd).where(sd >= LEAST_SD)
    known = apart.notnull().any("time")
    furthest = apart.fillna(-1.0).argmax("time")
    columns = {
        "largest": apart.isel(time=furthest),
        "time": apart["time"].isel(time=furthest).where(known),
        "survival": mean.isel(time=furthest),
        "survival_free": middle.isel(time=furthest),
        "sd_free": sd.isel(time=furthest),
    }
    bare = {name: values.drop_vars("time", errors="ignore") for name, values in columns.items()}
    table = xr.Dataset(bare).transpose("endpoint", "regime").to_dataframe().reset_index()
    return table[list(COLUMNS)]
