"""How far the baseline moves an answer and its curves: a fit against others with a freer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, require_kind
from bayesblina.core.intervals import (
    ENTRY_SHARES,
    TIE_TOLERANCE,
    cuts_between,
    number_of_entry_cuts,
)
from bayesblina.estimands.curves import survival
from bayesblina.estimands.regimes import Regime
from bayesblina.hazards.build import CAREFUL
from bayesblina.hazards.definition import ModelDefinition, load_model
from bayesblina.hazards.parts import Free, Independent, ProportionalPhases
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.baseline_gate import BaselineGate, gate_of, not_compared
from bayesblina.inference.convergence import sampler_settings
from bayesblina.inference.fitting import Fit, fit_person_time, weights_of
from bayesblina.inference.model_data import person_time_for
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import PersonTime

STEP_SD = 3.0
# Draws of the free baseline: what is compared are means.
DRAWS, CHAINS = 250, 4
# Survival that is known better than this has not begun to fall.
LEAST_SD = 0.01
COLUMNS = ("endpoint", "regime", "largest", "time", "survival", "survival_free", "sd_free")


def with_refit(fit: Fit, cohort: Cohort) -> Fit:
    """Hold a fit against itself with a freer baseline, where there is no companion.

    Parameters
    ----------
    fit
        The fit.
    cohort
        Its patients.

    Returns
    -------
    Fit
        The same, with the outcome in its baseline gate; a fit that has a companion stays as it is.

    Raises
    ------
    DataError, SpecError
        As for `bayesblina.fit`.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> with_refit(fit, cohort) is fit
    True
    """
    require_kind(fit, Fit, "fit")
    require_kind(cohort, Cohort, "cohort")
    # Of events found at visits the gate has compared with other intervals already.
    if fit.companion.draws is not None or fit.person_time.visits is not None:
        return fit
    return replace(fit, gate=compare_with_refit(fit, cohort))


def compare_with_refit(fit: Fit, cohort: Cohort) -> BaselineGate:
    """Fit again with more cuts where patients enter and a step sd of 3, and compare.

    Result: the log hazard ratios against those of the second fit, which has the same priors of
    them, the same seed and twice the draws. A baseline whose steps have no known sd stays as smooth
    as it is.
    """
    definition, settings = fit.definition, fit.provenance.settings
    words = "itself with twice the cuts where patients enter"
    if hasattr(definition.baseline, "step"):
        definition = definition.with_priors(step=HazardRatioPrior.from_sd(STEP_SD))
        words += f" and a step sd of {STEP_SD:g}"
    again = fit_person_time(
        definition,
        person_time_for(
            definition,
            cohort,
            fit.question,
            cuts=more_cuts(fit.person_time),
            phase_cuts=fit.person_time.phase_cuts,
            weights=weights_of(fit, cohort),
            compress=None if fit.person_time.compression is None else True,
        ),
        fit.question,
        seed=fit.provenance.seed,
        # Steps so wide leave hazards of short intervals far from normal: chains mix more slowly.
        settings=replace(settings, draws=2 * settings.draws, target_accept=CAREFUL),
        complete=False,
    )
    if not again.converged:
        words += " (which did not converge)"
    gate = gate_of(fit.posterior, again.posterior, against=words)
    if not again.converged and gate.passed:
        # Draws that cannot be read clear nobody.
        return not_compared(f"{words} is what it would be compared with", fit.person_time.endpoints)
    return gate


def more_cuts(person_time: PersonTime) -> Floats:
    """Add cuts where patients enter states or come under observation late.

    Beside the cuts there are, twice as many quantiles of each kind of entry as by default.
    """
    episodes, people, persons = person_time.episodes, person_time.people, person_time.persons
    endpoint, patient, phase, start = (
        episodes[name].values for name in ("endpoint", "patient", "phase", "start")
    )
    first = start == persons.follow_up(people)[0][endpoint, persons.of[patient]]
    kinds = [start[first & (start > 0)]]
    kinds += [start[~first & (phase == one)] for one in np.unique(phase[~first])]
    ends = people["exit"].values[people["event"].values]
    pooled = np.unique(np.concatenate([ends, *kinds]))
    before = np.concatenate([[-np.inf], pooled])
    shares = np.linspace(
        *ENTRY_SHARES, 2 * number_of_entry_cuts(person_time.table.sizes["interval"])
    )
    quantiles = [
        np.unique(np.quantile(times, shares, method="inverted_cdf"))
        for times in kinds
        if times.size
    ]
    if not quantiles:
        return person_time.cuts
    entries = np.concatenate(quantiles)
    pairs = np.stack([before[np.searchsorted(pooled, entries)], entries])
    joined = np.unique(np.concatenate([person_time.cuts, cuts_between(pairs, float(ends.max()))]))
    return joined[np.diff(joined, prepend=0.0) > 2.0 * TIE_TOLERANCE * joined]


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
    other = survival(
        fit_person_time(
            definition, person_time, fit.question, seed=seed, settings=settings, complete=False
        ),
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
