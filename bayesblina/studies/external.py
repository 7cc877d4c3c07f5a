"""What was borrowed from external patients, and whether they agree with the current ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, require_kind, tail_of
from bayesblina.estimands.ratios import answer
from bayesblina.estimands.sources import Difference, differences
from bayesblina.hazards.build import build_model, survivors, with_tables
from bayesblina.hazards.effects import levels_of
from bayesblina.hazards.log_hazards import flat_draws, log_hazard
from bayesblina.hazards.parts import Part, PowerPrior
from bayesblina.inference.convergence import assess_convergence, mcse_mean
from bayesblina.inference.fitting import Fit
from bayesblina.inference.sampling import sample

# At least so long are the current patients alone sampled: their model is a fast one.
DRAWS, TUNE, CHAINS = 4000, 1000, 4
# What of an endpoint: the part, and the phase or the covariate's term.
Quantity = tuple[str, Part, str]
# What external patients add to one quantity of the current ones: events of current patients, those
# gained, and the median hazard ratio with external patients and without.
NOTHING = dict.fromkeys(
    ("current_events", "effective_events", "effective_events_error", "current", "alone"), np.nan
)


def borrowing(fit: Fit, *, mass: float = 0.95) -> pd.DataFrame:
    """Say how much was borrowed from external patients, of what, and where they conflict.

    The effective number of events is the gain in precision of what is reported of the *current*
    patients, in units of their own events: with D current events and the posterior variance V with
    external patients and W without them it is ``D (W / V - 1)``. W is that of the same model, cuts
    and priors on the current patients alone, from which this function draws. The baseline's
    quantity is the log hazard in the reference phase, averaged over the current patients' events
    (over their times and covariates); of phases and covariates it is the log hazard ratio. It is
    negative where external patients make the answer less precise, as those may who conflict with
    the current ones but could be like them.

    Parameters
    ----------
    fit
        A fit of a model with external patients.
    mass
        Probability of the interval.

    Returns
    -------
    pandas.DataFrame
        One row per endpoint, part, name and source: ``endpoint``, ``part`` (``"baseline"``,
        ``"phases"`` or ``"covariates"``), ``name`` (of the phase or the covariate's term),
        ``source``, its ``patients`` and ``events``. ``hazard_ratio`` of external against current
        patients, or the ratio of their hazard ratios (posterior median), with ``lower`` and
        ``upper``; ``conflict``, whether its central 95 % exclude 1; and ``probability_apart`` with
        ``prior_probability_apart``, of the part of a robust mixture that lies far from 1: missing,
        or false, where the model has it shared in full. Of all sources together, and the same for
        each: ``current_events``, ``effective_events`` with its Monte-Carlo error
        ``effective_events_error``, and ``current`` and ``alone``, the current patients' hazard
        ratio (posterior median) with external patients and without them; missing for the baseline.
        The four are missing where the draws of the current patients alone did not converge
        (attribute ``alone_converged``), or there is no current event. ``converged`` is the fit's.

    Raises
    ------
    EstimandError
        If the model has no external patients, or its baseline is free.
    SpecError
        If `mass` is impossible.

    Notes
    -----
    The events gained follow the expected local-information-ratio effective sample size of
    Neuenschwander, Weber, Schmidli and O'Hagan (2020), doi:10.1111/biom.13252, in that information
    gained and information per event are of one posterior; for normal posteriors they are the
    difference of precisions over the current precision per event. The variance with external
    patients is that over all draws, so that it holds what is not known of how far they lie apart:
    averaging ``1 / (1 / D + v)`` over the posterior of that variance v does not, and gives too
    much. Power prior: Ibrahim and Chen (2000), doi:10.1214/ss/1009212673. Commensurate prior:
    Hobbs et al. (2011), doi:10.1111/j.1541-0420.2011.01564.x. Robust mixture: Schmidli et al.
    (2014), doi:10.1111/biom.12242.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> model = bb.load_model("power_prior").with_covariates(source="prior_salvage")
    >>> fit = bb.fit(cohort, question, model=model, seed=1, progress=False)
    >>> table = bb.borrowing(fit)
    >>> [str(name) for name in table[table["part"] == "phases"]["name"]]
    ['maintenance', 'maintenance']
    """
    require_kind(fit, Fit, "fit")
    kind = fit.definition.borrowing
    if kind is None:
        raise EstimandError(
            f"Model '{fit.definition.name}' has no external patients: see the models power_prior, "
            "commensurate and robust_mixture."
        )
    tail_of(mass)
    fit.definition.require_hazard("What was borrowed")
    alone, converged = _alone(fit)
    gained = _gained(fit, alone) if converged else {}
    apart = {(d.endpoint, d.part, d.name, d.source): d for d in differences(fit)}
    person_time = fit.person_time
    sources, source_of = levels_of(person_time, kind.source, person_time.table["design"].values)
    member = source_of[person_time.people["category"].values]
    events = person_time.people["event"].values
    used = np.isfinite(person_time.people["exit"].values)
    rows = []
    for endpoint, part, name in _quantities(fit):
        index = person_time.endpoints.index(endpoint)
        for code, source in enumerate(sources[1:], start=1):
            inside = (member == code) & used[index]
            rows.append(
                {
                    "endpoint": endpoint,
                    "part": part,
                    "name": name,
                    "source": source,
                    "patients": np.unique(person_time.persons.of[inside]).size,
                    "events": int(events[index, inside].sum()),
                    **_compared(apart.get((endpoint, part, name, source)), mass),
                    **gained.get((endpoint, part, name), NOTHING),
                    "converged": fit.converged,
                }
            )
    table = pd.DataFrame(rows)
    table.attrs |= {
        "model": fit.definition.name,
        "converged": int(fit.converged),
        "alone_converged": int(converged),
        "synthetic": int(person_time.synthetic),
    }
    return table


def _quantities(fit: Fit) -> list[Quantity]:
    """Everything of current patients of which something may be borrowed."""
    names: dict[Part, Sequence[str]] = {
        "baseline": [""],
        "phases": fit.design.effects,
        "covariates": fit.design.term_names,
    }
    return [
        (endpoint, part, name)
        for endpoint in fit.person_time.endpoints
        for part, own in names.items()
        for name in own
    ]


def _compared(difference: Difference | None, mass: float) -> dict[str, object]:
    """Columns of external against current patients."""
    lower, middle, upper = (np.nan,) * 3 if difference is None else difference.interval(mass)
    apart = None if difference is None else difference.apart
    return {
        "hazard_ratio": middle,
        "lower": lower,
        "upper": upper,
        "conflict": difference is not None and difference.conflicts,
        "probability_apart": np.nan if apart is None else float(apart.mean()),
        "prior_probability_apart": np.nan if difference is None else difference.prior_apart,
    }


def _alone(fit: Fit) -> tuple[Fit, bool]:
    """Draw from the posterior of the current patients alone, and say whether it converged.

    Cuts, priors and standardised covariates are those of the fit.
    """
    plain, kind = fit.definition, fit.definition.borrowing
    assert kind is not None
    # Without differences the graph knows no sources; external patients are taken out of its tables.
    if not isinstance(kind, PowerPrior):
        plain = plain.model_copy(update={"borrowing": kind.model_copy(update={"covers": ()})})
    person_time, current = fit.person_time, fit.design.is_current
    built = build_model(plain, person_time)
    with_tables(
        built,
        person_time.table["events"].values.astype(np.float64) * current,
        person_time.table["person_time"].values * current,
        survived=survivors(person_time) * current[person_time.people["category"].values],
    )
    given = fit.provenance.settings
    longer = replace(
        given, draws=max(given.draws, DRAWS), tune=max(given.tune, TUNE), chains=CHAINS
    )
    tree, _ = sample(built, seed=fit.provenance.seed, settings=longer)
    return replace(fit, draws=tree), assess_convergence(tree).passed


def _gained(fit: Fit, alone: Fit) -> Mapping[Quantity, Mapping[str, float]]:
    """Compare the variances of everything of current patients, with and without external ones."""
    events = fit.person_time.table["events"].sum("phase").values * fit.design.is_current
    gained = {}
    joint, single = (_values(own, events) for own in (fit, alone))
    for quantity, draws in joint.items():
        count = float(events[fit.person_time.endpoints.index(quantity[0])].sum())
        if count == 0.0:
            continue
        (wide, wide_error), (narrow, narrow_error) = map(_variance, (single[quantity], draws))
        ratio = wide / narrow
        error = ratio * np.hypot(wide_error / wide, narrow_error / narrow)
        gained[quantity] = NOTHING | {
            "current_events": count,
            "effective_events": count * (ratio - 1.0),
            "effective_events_error": count * float(error),
        }
        if quantity[1] != "baseline":
            gained[quantity] |= {
                "current": float(np.exp(np.median(draws))),
                "alone": float(np.exp(np.median(single[quantity]))),
            }
    return gained


def _values(fit: Fit, events: Floats) -> dict[Quantity, Floats]:
    """Draws, shape (chain, draw), of everything of current patients."""
    posterior, design = fit.posterior, fit.design
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    ratios = answer(fit)
    values: dict[Quantity, Floats] = {}
    for index, endpoint in enumerate(fit.person_time.endpoints):
        values[endpoint, "baseline", ""] = _level(posterior, fit, endpoint, events[index])
        own = posterior.sel(endpoint=endpoint)
        effects = flat_draws(own, "log_hazard_ratio", "effect")
        effects = np.concatenate([ratios[:, index : index + 1], effects[:, 1:]], axis=1)
        values |= {
            (endpoint, "phases", name): column
            for name, column in zip(design.effects, effects.T, strict=True)
        }
        if design.term_names:
            slopes = flat_draws(own, "coefficient", "term")
            values |= {
                (endpoint, "covariates", name): column
                for name, column in zip(design.term_names, slopes.T, strict=True)
            }
    return {quantity: draws.reshape(shape) for quantity, draws in values.items()}


def _level(posterior: xr.Dataset, fit: Fit, endpoint: str, events: Floats) -> Floats:
    """Log hazard in the reference phase, averaged over events, (interval, pattern); by draw."""
    hazard = log_hazard(posterior, fit.design, endpoint=endpoint)
    # (draws, class, interval)
    baseline = (hazard.shared - hazard.ratio)[..., 0]
    by_class = np.einsum("jp,cp->cj", events, fit.design.member)
    total = np.einsum("dcj,cj->d", baseline, by_class)
    pattern = np.broadcast_to(hazard.pattern, (total.size, hazard.class_of.size))
    return np.asarray((total + pattern @ events.sum(axis=0)) / max(float(events.sum()), 1e-300))


def _variance(values: Floats) -> tuple[float, float]:
    """Variance and its Monte-Carlo standard error."""
    squares = (values - values.mean()) ** 2
    return float(values.var(ddof=1)), float(mcse_mean(squares[..., None])[0])
