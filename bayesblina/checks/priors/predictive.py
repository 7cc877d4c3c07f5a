"""What the priors say before any data: hazard ratios, and curves given the pooled hazard."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from bayesblina.checks.agreement import weighted_time
from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import (
    EstimandError,
    require_at_least,
    require_choice,
    require_kind,
    require_seed,
)
from bayesblina.estimands.draws import blocks
from bayesblina.hazards.build import build_model, draw_prior
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.likelihood import cured_given_survival
from bayesblina.hazards.log_hazards import LogHazard, log_hazard
from bayesblina.hazards.parts import Free
from bayesblina.person_time.cells import PersonTime

GRID = 51
# Patients over whom curves are averaged: of more, so many spread evenly over the table.
MOST_PATTERNS = 500
# Numbers held at once.
BLOCK = 20_000_000
# A hazard beyond all measure kills at once: its survival is 0, and no overflow is needed.
LARGEST_LOG = 300.0


def prior_predictive(
    definition: ModelDefinition,
    person_time: PersonTime,
    *,
    seed: int,
    draws: int = 1000,
    times: ArrayLike | None = None,
    baseline: Literal["pooled", "prior"] = "pooled",
) -> xr.Dataset:
    """Draw what the priors say before any data: hazard ratios, and curves by phase.

    The prior of the baseline is vague on purpose, so that the baseline does not move the hazard
    ratio; alone it draws curves under which nobody or everybody lives. What the priors that matter
    (of phases, covariates, groups) imply is shown given the level and shape of the pooled hazard:
    in each draw the baseline is such that the events expected of all patients together are, in
    each interval, those observed. That says nothing of who is in which phase has them.

    Parameters
    ----------
    definition
        The hazard model.
    person_time
        Events and person-time.
    seed
        Seed of the draws.
    draws
        Number of draws.
    times : array_like, shape (time,), optional
        Times from the origin; by default 51 up to the end of follow-up.
    baseline
        ``"pooled"``, or ``"prior"``: the baseline is drawn from its prior too, which takes of the
        data the crude rate (where its level is centred) and the cut points.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` of the exposed phase against the reference, and ``hazard`` in the
        reference phase at mean covariates, over (draw, endpoint, interval), per time unit, of the
        first stratum and subgroup; ``survival`` over (draw, endpoint, phase, time), from the origin
        to those who are in one phase throughout, averaged over the covariates of the patients; and
        ``pooled_survival`` over (endpoint, time), of the pooled hazard. Where the effect varies
        by step, such as with time since entry, the exposed phase's is that of the first. With cured
        patients the pooled hazard is taken for that of the others.

    Raises
    ------
    SpecError
        If there are no draws, or there is no such baseline.
    EstimandError
        If the model has no prior of the baseline.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> prior = bb.priors.prior_predictive(
    ...     bb.load_model("primary"), bb.person_time(cohort, question), seed=1
    ... )
    >>> prior["survival"].dims
    ('draw', 'endpoint', 'phase', 'time')
    """
    require_kind(definition, ModelDefinition, "definition")
    require_kind(person_time, PersonTime, "person_time")
    require_seed(seed)
    require_at_least(draws, 1, "draws")
    require_choice(baseline, ("pooled", "prior"), "baseline")
    if isinstance(definition.baseline, Free):
        raise EstimandError(
            f"Model '{definition.name}' has no prior of the baseline, so that no curve follows "
            "before any data; its priors of hazard ratios are those that its file states."
        )
    built = build_model(definition, person_time)
    prior = draw_prior(built, seed=seed, draws=draws)
    states = person_time.table["role"].values
    first, exposed = (int(np.flatnonzero(states == role)[0]) for role in ("reference", "exposed"))
    last = float(person_time.table["last_exit"].values.max())
    grid = np.linspace(0.0, last, GRID) if times is None else np.asarray(times, dtype=np.float64)
    start, stop = np.concatenate([[0.0], person_time.cuts]), np.append(person_time.cuts, np.inf)
    inside = np.clip(grid[:, None], start, stop) - start
    chosen, weight = _patients(person_time)
    by_endpoint = []
    for index, name in enumerate(person_time.endpoints):
        log_hazards = log_hazard(prior, built.design, endpoint=name)
        log_shared = log_hazards.shared[:, :, :, first]
        if baseline == "pooled":
            log_shared = _pooled(person_time, log_hazards, index)
        hazard = np.exp(np.minimum(log_shared, LARGEST_LOG))
        relative = np.exp(np.minimum(log_hazards.ratio, LARGEST_LOG))
        alive = [
            _average(log_hazards, hazard * relative[:, :, :, state], inside, chosen, weight)
            for state in (first, exposed)
        ]
        ratio = relative[:, 0, :, exposed] / relative[:, 0, :, first]
        pooled = np.exp(-inside @ _rates(person_time, index))
        by_endpoint.append((ratio, hazard[:, 0], np.stack(alive, axis=1), pooled))
    ratios, hazards, curves, pooled_curves = map(np.stack, zip(*by_endpoint, strict=True))
    per_interval = ("endpoint", "draw", "interval")
    return xr.Dataset(
        {
            "hazard_ratio": (per_interval, ratios),
            "hazard": (per_interval, hazards),
            "survival": (("endpoint", "draw", "phase", "time"), curves),
            "pooled_survival": (("endpoint", "time"), pooled_curves),
        },
        coords={
            "draw": np.arange(draws),
            "endpoint": list(person_time.endpoints),
            "interval": person_time.table["interval"].values,
            "phase": [str(person_time.table["phase"].values[state]) for state in (first, exposed)],
            "time": grid,
        },
        attrs={
            "model": definition.name,
            "synthetic": int(person_time.synthetic),
            "unit": person_time.unit,
            "baseline": baseline,
        },
    ).transpose("draw", "endpoint", ...)


def _rates(person_time: PersonTime, endpoint: int) -> Floats:
    """Events over time at risk by interval, of all phases and patients; 0 where nobody is."""
    table = person_time.table
    events, time = (
        table[name].values[endpoint].sum(axis=(1, 2)) for name in ("events", "person_time")
    )
    return np.asarray(np.divide(events, time, out=np.zeros(time.shape), where=time > 0))


def _pooled(person_time: PersonTime, found: LogHazard, endpoint: int) -> Floats:
    """Log hazards of the reference under which as many events are expected as there were.

    Over (draw, class, interval); minus infinity where an interval has no event.
    """
    table = person_time.table
    # (interval, state, pattern)
    time = table["person_time"].values[endpoint]
    events = table["events"].values[endpoint].sum(axis=(1, 2))
    expected = np.empty((found.ratio.shape[0], time.shape[0]))
    for rows in blocks(found.pattern.shape[0], time.shape[2], most=BLOCK):
        relative = np.exp(np.minimum(found.pattern[rows], LARGEST_LOG))
        ratio = np.exp(np.minimum(found.ratio[rows], LARGEST_LOG))
        expected[rows] = weighted_time(relative, found.class_of, time, ratio).sum(axis=2)
    rate = np.divide(events, expected, out=np.zeros(expected.shape), where=expected > 0)
    with np.errstate(divide="ignore"):
        logs = np.log(rate)
    return np.repeat(logs[:, None, :], found.ratio.shape[1], axis=1)


def _patients(person_time: PersonTime) -> tuple[Ints, Floats]:
    """Patterns over which curves are averaged, and the shares of patients in them.

    Where no single patient is known, shares of the time at risk.
    """
    if person_time.complete:
        people, count = person_time.people, person_time.table.sizes["pattern"]
        weight = np.bincount(people["pattern"].values, people["weight"].values, minlength=count)
    else:
        weight = person_time.table["person_time"].values.sum(axis=(0, 1, 2))
    chosen = np.flatnonzero(weight)
    if chosen.size > MOST_PATTERNS:
        passed = np.cumsum(weight[chosen]) / weight.sum()
        even = (np.arange(MOST_PATTERNS) + 0.5) / MOST_PATTERNS
        places, counts = np.unique(np.searchsorted(passed, even), return_counts=True)
        return chosen[places], counts / MOST_PATTERNS
    return chosen, weight[chosen] / weight.sum()


def _average(
    found: LogHazard, hazard: Floats, inside: Floats, chosen: Ints, weight: Floats
) -> Floats:
    """Survival averaged over patients, over (draw, time); `hazard` over (draw, class, interval)."""
    alive = np.zeros((hazard.shape[0], inside.shape[0]))
    for rows in blocks(hazard.shape[0], chosen.size * inside.shape[0], most=BLOCK):
        passed = hazard[rows] @ inside.T
        relative = np.exp(np.minimum(found.pattern[rows][:, chosen], LARGEST_LOG))
        survival = np.exp(-relative[:, :, None] * passed[:, found.class_of[chosen]])
        if found.cured is not None:
            never = cured_given_survival(found.cured[rows][:, chosen])[:, :, None]
            survival = never + (1.0 - never) * survival
        alive[rows] = np.einsum("dpt,p->dt", survival, weight)
    return alive
