"""Adverse events by treatment phase: incidence, rates, and rates of each term with shrinkage."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import (
    EstimandError,
    SpecError,
    nearest,
    require_choice,
    require_kind,
    require_seed,
)
from bayesblina.inference.convergence import Convergence, assess_convergence
from bayesblina.patients.rules import DAYS_PER_UNIT
from bayesblina.person_time.onsets import AdverseEvents, adverse_events

__all__ = [
    "AdverseEvents",
    "adverse_events",
    "event_rate",
    "event_rates_by_term",
    "incidence",
    "paired_incidence",
    "phase_contrast",
]

CHAINS = 4
# Jeffreys' priors of a probability and of a rate.
JEFFREYS_INCIDENCE = (0.5, 0.5)
JEFFREYS_RATE = (0.5, 0.0)


def __dir__() -> list[str]:
    return __all__


def incidence(
    events: AdverseEvents,
    *,
    seed: int,
    among: str | None = None,
    prior: tuple[float, float] = JEFFREYS_INCIDENCE,
    draws: int = 1000,
) -> xr.Dataset:
    """Probability that a patient in a phase has at least one event in it.

    Parameters
    ----------
    events
        The events.
    seed
        Seed of the draws.
    among
        Only patients who were ever in this phase.
    prior
        Parameters of the beta prior; by default Jeffreys'.
    draws
        Draws per chain, of 4; they are independent.

    Returns
    -------
    xarray.Dataset
        ``incidence`` over (chain, draw, phase), with the counts ``patients`` and ``with_event``
        beside the phases. The same patients are in several phases: to compare phases take
        `paired_incidence`.

    Raises
    ------
    EstimandError
        If the phase is unknown.
    SpecError
        If the prior is impossible.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> table = bb.simulate.adverse_events(cohort, seed=1)
    >>> columns = {"patient": "patient_id", "term": "term", "start": "month"}
    >>> events = bb.safety.adverse_events(table, cohort, **columns, transplant="ignore")
    >>> found = bb.safety.incidence(events, seed=1, among="maintenance")
    >>> found["patients"].values
    array([36, 36, 36])
    """
    require_kind(events, AdverseEvents, "events")
    require_seed(seed)
    if min(prior) <= 0:
        raise SpecError(f"prior must be two numbers greater than 0, got {prior!r}.")
    patients, hit = (values.sum(axis=0) for values in _affected(events, among))
    size = (CHAINS, draws, len(events.phases))
    values = np.random.default_rng(seed).beta(prior[0] + hit, prior[1] + patients - hit, size=size)
    counts = {"patients": patients, "with_event": hit}
    return _by_phase(events, "incidence", values, counts, among=among)


def paired_incidence(
    events: AdverseEvents,
    phase: str,
    against: str,
    *,
    seed: int,
    kind: Literal["difference", "ratio"] = "difference",
    draws: int = 1000,
) -> xr.Dataset:
    """Compare the incidence in two phases, within the patients who were in both.

    Parameters
    ----------
    events
        The events.
    phase, against
        The phases; the result is the first less, or over, the second.
    seed
        Seed of the draws.
    kind
        ``"difference"`` or ``"ratio"``.
    draws
        Draws per chain, of 4; they are independent.

    Returns
    -------
    xarray.Dataset
        ``incidence_difference`` or ``incidence_ratio`` over (chain, draw); the attributes ``both``,
        ``only_first``, ``only_second`` and ``neither`` are the patients with events in these
        phases. Their shares have a Dirichlet posterior; the prior's four parameters are 1/4, so
        that each phase's incidence has Jeffreys' prior.

    Raises
    ------
    EstimandError
        If a phase is unknown, or nobody was in both.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> table = bb.simulate.adverse_events(cohort, seed=1)
    >>> columns = {"patient": "patient_id", "term": "term", "start": "month"}
    >>> events = bb.safety.adverse_events(table, cohort, **columns, transplant="ignore")
    >>> found = bb.safety.paired_incidence(events, "maintenance", "consolidation", seed=1)
    >>> sum(found.attrs[name] for name in ("both", "only_first", "only_second", "neither"))
    36
    """
    require_kind(events, AdverseEvents, "events")
    require_seed(seed)
    require_choice(kind, ("difference", "ratio"), "kind")
    first, second = events.position(phase), events.position(against)
    if first == second:
        raise EstimandError(f"'{phase}' stands on both sides.")
    present, affected = _affected(events, None)
    rows = present[:, first] & present[:, second]
    if not rows.any():
        raise EstimandError(f"Nobody was in both '{phase}' and '{against}'.")
    in_first, in_second = affected[rows, first], affected[rows, second]
    cells = {
        "both": int((in_first & in_second).sum()),
        "only_first": int((in_first & ~in_second).sum()),
        "only_second": int((~in_first & in_second).sum()),
        "neither": int((~in_first & ~in_second).sum()),
    }
    share = np.random.default_rng(seed).dirichlet(
        np.array(list(cells.values())) + 0.25, size=(CHAINS, draws)
    )
    high, low = share[..., 0] + share[..., 1], share[..., 0] + share[..., 2]
    values = high - low if kind == "difference" else high / low
    return xr.Dataset(
        {f"incidence_{kind}": (("chain", "draw"), values)},
        coords=_coords(draws),
        attrs={**_attributes(events), "phase": phase, "against": against, **cells},
    )


def event_rate(
    events: AdverseEvents,
    *,
    seed: int,
    per: str = "years",
    among: str | None = None,
    prior: tuple[float, float] = JEFFREYS_RATE,
    draws: int = 1000,
) -> xr.Dataset:
    """Events per patient-time in a phase, all terms together.

    Parameters
    ----------
    events
        The events.
    seed
        Seed of the draws.
    per
        Unit of the patient-time: ``"days"``, ``"weeks"``, ``"months"`` or ``"years"``.
    among
        Only patients who were ever in this phase.
    prior
        Shape and rate of the gamma prior, the rate in units of `per`; by default Jeffreys'.
    draws
        Draws per chain, of 4; they are independent.

    Returns
    -------
    xarray.Dataset
        ``event_rate`` over (chain, draw, phase), with ``events`` and ``person_time`` (in `per`)
        beside the phases. Events are taken as Poisson: where some patients have many, the interval
        is too narrow.

    Raises
    ------
    EstimandError
        If the phase is unknown.
    SpecError
        If the unit or the prior is impossible.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> table = bb.simulate.adverse_events(cohort, seed=1)
    >>> columns = {"patient": "patient_id", "term": "term", "start": "month"}
    >>> events = bb.safety.adverse_events(table, cohort, **columns, transplant="ignore")
    >>> bb.safety.event_rate(events, seed=1)["event_rate"].dims
    ('chain', 'draw', 'phase')
    """
    require_kind(events, AdverseEvents, "events")
    require_seed(seed)
    if prior[0] <= 0 or prior[1] < 0:
        raise SpecError(f"prior must be a shape above 0 and a rate from 0 on, got {prior!r}.")
    rows = _rows(events, among)
    time = events.person_time[rows].sum(axis=0) * _in_units(events, per)
    count = events.counts[rows].sum(axis=0)
    if prior[1] == 0 and (time == 0).any():
        raise EstimandError("A phase without patient-time needs a prior with a rate above 0.")
    size = (CHAINS, draws, len(events.phases))
    values = np.random.default_rng(seed).gamma(prior[0] + count, 1.0 / (prior[1] + time), size=size)
    counts = {"events": count, "person_time": time}
    return _by_phase(events, "event_rate", values, counts, among=among).assign_attrs(per=per)


def phase_contrast(
    rates: xr.Dataset,
    phase: str,
    against: str,
    *,
    kind: Literal["difference", "ratio"] = "ratio",
) -> xr.Dataset:
    """Compare event rates between two phases, draw by draw.

    Parameters
    ----------
    rates
        What `event_rate` or `event_rates_by_term` gives.
    phase, against
        The phases; the result is the first less, or over, the second.
    kind
        ``"difference"`` or ``"ratio"``.

    Returns
    -------
    xarray.Dataset
        ``event_rate_difference`` or ``event_rate_ratio``, without the phase.

    Raises
    ------
    EstimandError
        If a phase is not there, or the estimate is an incidence, whose phases share patients.
    """
    require_kind(rates, xr.Dataset, "rates")
    require_choice(kind, ("difference", "ratio"), "kind")
    if "event_rate" not in rates:
        raise EstimandError("Only rates are compared here; for incidences take paired_incidence.")
    known = [str(name) for name in rates["phase"].values]
    for name in (phase, against):
        if name not in known:
            raise EstimandError(f"No phase '{name}'. {nearest(str(name), known)}")
    rate = rates["event_rate"].reset_coords(drop=True)
    first, second = (rate.sel(phase=name, drop=True) for name in (phase, against))
    return xr.Dataset(
        {f"event_rate_{kind}": first - second if kind == "difference" else first / second},
        attrs={**rates.attrs, "phase": phase, "against": against},
    )


def event_rates_by_term(
    events: AdverseEvents,
    *,
    seed: int,
    per: str = "years",
    term_sd: float = 1.5,
    deviation_sd: float = 0.5,
    draws: int = 2000,
    tune: int = 1000,
) -> xr.Dataset:
    """Rate of each event term in each phase, rare ones drawn towards the others.

    The log rate is a phase's mean, plus a term's effect, plus a deviation of the term in the phase;
    the spreads of both are learnt from all terms together. So a term with a handful of events is
    not believed to be ten times as frequent in one phase, and many terms may be looked at.

    Parameters
    ----------
    events
        The events.
    seed
        Seed of the draws.
    per
        Unit of the patient-time.
    term_sd, deviation_sd
        Scales of the half-normal priors of the two spreads, on the log scale.
    draws, tune
        Draws kept and draws for adaptation, per chain, of 4. Of hundreds of rates the largest R-hat
        of 1000 draws may lie above the gate by chance.

    Returns
    -------
    xarray.Dataset
        ``event_rate`` over (chain, draw, term, phase), events of the term per patient-time; the
        attribute ``converged`` says whether all rates, the phases' means and the spreads passed the
        convergence gate.

    Raises
    ------
    EstimandError
        If there are fewer than two terms, or no events.
    SpecError
        If the unit or a scale is impossible.

    Notes
    -----
    Berry and Berry (2004), doi:10.1111/j.0006-341X.2004.00186.x, for borrowing between event terms.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> table = bb.simulate.adverse_events(cohort, seed=1)
    >>> columns = {"patient": "patient_id", "term": "term", "start": "month"}
    >>> events = bb.safety.adverse_events(table, cohort, **columns, transplant="ignore")
    >>> rates = bb.safety.event_rates_by_term(events, seed=1)
    >>> rates["event_rate"].dims
    ('chain', 'draw', 'term', 'phase')
    """
    require_kind(events, AdverseEvents, "events")
    require_seed(seed)
    tree = sample_rates(
        events,
        seed=seed,
        per=per,
        term_sd=term_sd,
        deviation_sd=deviation_sd,
        draws=draws,
        tune=tune,
    )
    values = tree["posterior"]["event_rate"].transpose("chain", "draw", "term", "phase")
    return xr.Dataset(
        {"event_rate": (values.dims, values.values)},
        coords={**_coords(draws), "term": list(events.terms), "phase": list(events.phases)},
        attrs={
            **_attributes(events),
            "converged": int(assess_rates(tree).passed),
            "per": per,
        },
    )


def sample_rates(
    events: AdverseEvents,
    *,
    seed: int,
    per: str = "years",
    term_sd: float = 1.5,
    deviation_sd: float = 0.5,
    draws: int = 2000,
    tune: int = 1000,
) -> xr.DataTree:
    """Sample the model of `event_rates_by_term`, with all its parameters."""
    import pymc as pm
    from scipy.linalg import helmert

    if len(events.terms) < 2:
        raise EstimandError("Shrinkage needs at least two event terms; take event_rate.")
    if not (term_sd > 0 and deviation_sd > 0):
        raise SpecError("term_sd and deviation_sd must be greater than 0.")
    time = events.person_time.sum(axis=0) * _in_units(events, per)
    cell = events.term * len(events.phases) + events.phase
    shape = (len(events.terms), len(events.phases))
    count = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    # Where the data put log rates, and how well they know them: for the sampler's coordinates.
    observed, error = np.log((count + 0.5) / time), 1.0 / (count + 0.5)
    level = np.log((count.sum(axis=0) + 0.5) / shape[0] / time)
    coords = {"term": list(events.terms), "phase": list(events.phases)}
    with pm.Model(coords=coords):
        # The phases' means have independent priors of one sd, so in any rotation; all of them move
        # together with the terms.
        turned = pm.Normal("phase_innovation", 0.0, 1.0, dims="phase")
        rotation = helmert(shape[1], full=True).T
        mean = pm.Deterministic("phase_mean", level + 1.5 * (rotation @ turned), dims="phase")
        spread = pm.HalfNormal("term_sd", term_sd)
        deviation_spread = pm.HalfNormal("deviation_sd", deviation_sd)
        # A term's effect given the means, then its deviations given both.
        known = 1.0 / (deviation_spread**2 + error)
        total = known.sum(axis=1)
        likely = ((observed - mean) * known).sum(axis=1) / total
        term = _effects("term", spread, likely, 1.0 / pm.math.sqrt(total), ("term",))
        rest = observed - mean - term[:, None]
        deviation = _effects("deviation", deviation_spread, rest, np.sqrt(error), ("term", "phase"))
        log_rate = mean + term[:, None] + deviation
        rate = pm.Deterministic("event_rate", pm.math.exp(log_rate), dims=("term", "phase"))
        pm.Poisson("count", rate * time[None, :], observed=count, dims=("term", "phase"))
        tree: xr.DataTree = pm.sample(
            draws,
            tune=tune,
            chains=CHAINS,
            nuts_sampler="nutpie",
            nuts={"target_accept": 0.95},
            random_seed=seed,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
        )
    return tree


def assess_rates(draws: xr.DataTree) -> Convergence:
    """Hold rates, means and spreads against the convergence gate; no coordinates of the sampler."""
    kept = draws["posterior"].to_dataset()[["event_rate", "phase_mean", "term_sd", "deviation_sd"]]
    parts = {"/posterior": kept, "/sample_stats": draws["sample_stats"].to_dataset()}
    return assess_convergence(xr.DataTree.from_dict(parts))


def _effects(name: str, sd: Any, likely: Any, unit: Any, dims: tuple[str, ...]) -> Any:
    """Draw Normal(0, sd) effects in coordinates that are near independent standard normals.

    The change of coordinates is exact whatever `likely` and `unit` are (see
    `bayesblina.hazards.baseline`): where the data put an effect, about, given all parameters before
    it, and how well they know it.
    """
    import pymc as pm

    ratio = sd / unit
    wide = pm.math.sqrt(1.0 + ratio**2)
    shrink = ratio / wide
    centre = likely / unit
    innovation = pm.Normal(f"{name}_innovation", -centre * shrink, wide, dims=dims)
    return unit * shrink * (shrink * centre + innovation)


def _rows(events: AdverseEvents, among: str | None) -> Bools:
    if among is None:
        return np.ones(events.person_time.shape[0], dtype=bool)
    return np.asarray(events.person_time[:, events.position(among)] > 0)


def _affected(events: AdverseEvents, among: str | None) -> tuple[Bools, Bools]:
    """Who was in each phase, and who had an event in it; shape (patient, phase)."""
    present = (events.person_time > 0) & _rows(events, among)[:, None]
    return present, present & (events.counts > 0)


def _in_units(events: AdverseEvents, per: str) -> float:
    if per not in DAYS_PER_UNIT:
        raise SpecError(f"per must be one of {', '.join(DAYS_PER_UNIT)}, got {per!r}.")
    return DAYS_PER_UNIT[events.unit] / DAYS_PER_UNIT[per]


def _coords(draws: int) -> dict[str, object]:
    return {"chain": np.arange(CHAINS), "draw": np.arange(draws)}


def _attributes(events: AdverseEvents) -> dict[str, object]:
    grade = {} if events.minimum_grade is None else {"minimum_grade": events.minimum_grade}
    return {"synthetic": int(events.synthetic), **grade}


def _by_phase(
    events: AdverseEvents,
    name: str,
    values: Floats,
    counts: dict[str, Any],
    *,
    among: str | None,
) -> xr.Dataset:
    return xr.Dataset(
        {name: (("chain", "draw", "phase"), values)},
        coords={
            **_coords(values.shape[1]),
            "phase": list(events.phases),
            **{key: ("phase", value) for key, value in counts.items()},
        },
        attrs={**_attributes(events), "among": among or "everybody"},
    )
