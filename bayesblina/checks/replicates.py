"""Replicated events and curves, within the time at risk that was observed.

Events are replicated given who was at risk, when and in which phase. Nothing has to be assumed
about when patients who died would have been censored, or would have changed phases: given the past,
the events of the next moment are those of a Poisson process whose rate is the sum of the hazards of
the patients at risk. Observed less expected events form a martingale.

Events of patients with weights count as often as these say. Their sum is no Poisson variable, but
close to a multiple of one that has its mean and variance. Where rows are copies of persons,
followed at the same time in several groups, they have no joint distribution, and sums over groups
no probability.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc

from bayesblina.checks.risk_sets import (
    expected_in_segments,
    read_steps,
    risk_sets,
    variance_over_mean,
    weighted_time,
)
from bayesblina.core.arrays import Floats
from bayesblina.core.errors import EstimandError, SpecError, require_kind, require_seed
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.estimands.draws import by_draw, state_of
from bayesblina.estimands.support import episodes_of
from bayesblina.hazards.likelihood import hazards_of_patients, log_hazard, segments_of, sums
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import PersonTime

GRID = 51


def replicated_events(fit: Fit, *, seed: int) -> xr.Dataset:
    """Events that the model expects by interval and phase, beside those observed.

    Parameters
    ----------
    fit
        The fit.
    seed
        Seed of the replicates.

    Returns
    -------
    xarray.Dataset
        ``observed`` and ``person_time`` over (endpoint, interval, phase); ``expected`` and
        ``replicated`` over (chain, draw, endpoint, interval, phase); and Bayesian p-values
        ``p_value`` over (endpoint, interval, phase) and ``p_value_interval`` over (endpoint,
        interval): the probability of more events than observed, plus half that of as many.
        Near 0: more events than the model expects; near 1: fewer. They are averages over draws of
        exact Poisson probabilities, without noise from the replicates. The same data have been
        fitted, so they vary less than uniformly. A cell without person-time has 0.5. With weights
        events are sums of weights, and probabilities those of a multiple of a Poisson variable;
        ``p_value_interval`` is NaN where copies of a person are at risk at the same time.

    Notes
    -----
    Gelman, Meng and Stern (1996), Statistica Sinica 6, 733-760. Weighted events: Bohm and Zech
    (2014), doi:10.1016/j.nima.2014.02.021.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> events = bb.checks.replicated_events(fit, seed=1)
    >>> events["p_value"].dims
    ('endpoint', 'interval', 'phase')
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    fit.definition.require_hazard("Replicated events")
    person_time, table = fit.person_time, fit.person_time.table
    counts = table["events"].sum("pattern").transpose("endpoint", "interval", "phase").values
    expected = np.stack([_expected(fit, name) for name in person_time.endpoints], axis=1)
    mean, spread = _moments(fit)
    unit = variance_over_mean(spread, mean)
    drawn = unit * np.random.default_rng(seed).poisson(expected / unit)
    if not person_time.weighted:
        drawn = drawn.astype(np.int64)
    over_phases = variance_over_mean(spread.sum(axis=2), mean.sum(axis=2))
    by_interval = _more_than(counts.sum(axis=2), expected.sum(axis=3), over_phases)
    by_interval[[_overlapping(person_time, name) for name in person_time.endpoints]] = np.nan
    cells = ("endpoint", "interval", "phase")
    time = table["person_time"].sum("pattern").transpose(*cells).values
    return xr.Dataset(
        {
            "observed": (cells, counts),
            "person_time": (cells, time),
            "expected": by_draw(fit, expected, cells),
            "replicated": by_draw(fit, drawn, cells),
            "p_value": (cells, _more_than(counts, expected, unit)),
            "p_value_interval": (cells[:2], by_interval),
        },
        coords={
            "endpoint": list(person_time.endpoints),
            "interval": table["interval"].values,
            "interval_start": ("interval", table["interval_start"].values),
            "interval_stop": ("interval", table["interval_stop"].values),
            "phase": table["phase"].values,
        },
        attrs=state_of(fit),
    )


def _expected(fit: Fit, endpoint: str) -> Floats:
    """Events that the model expects, shape (draws, interval, phase)."""
    person_time = fit.person_time
    hazard = log_hazard(fit.posterior, fit.design, endpoint=endpoint)
    cells = person_time.table["person_time"].sel(endpoint=endpoint)
    time = cells.transpose("interval", "phase", "pattern").values
    if hazard.cured is None:
        return weighted_time(np.exp(hazard.pattern), hazard.class_of, time, np.exp(hazard.shared))
    segments = segments_of(person_time, endpoint)
    cell = segments.interval * time.shape[1] + segments.state
    weight = person_time.people["weight"].values[segments.patient, None]
    expected = np.zeros((hazard.pattern.shape[0], time.shape[0] * time.shape[1]))
    for rows, events in expected_in_segments(fit, hazard, segments):
        expected[rows] = sums(events * weight, cell, expected.shape[1]).T
    return expected.reshape(-1, *time.shape[:2])


def _more_than(observed: NDArray[Any], expected: Floats, unit: Floats) -> Floats:
    """Average over draws of P(more) + P(equal) / 2, of a multiple of a Poisson variable.

    Distribution functions of Poisson variables are incomplete gamma functions of the number, which
    need not be whole.
    """
    number, mean = (observed / unit)[None], expected / unit
    at_least = np.where(number > 0, gammainc(np.maximum(number, 1e-300), mean), 1.0)
    return np.asarray(((at_least + gammainc(number + 1.0, mean)) / 2.0).mean(axis=0))


def _moments(fit: Fit) -> tuple[Floats, Floats]:
    """Mean and variance of events by (endpoint, interval, phase), at mean hazards.

    All 1 without weights, of which only the ratio is needed.
    """
    person_time = fit.person_time
    sizes = person_time.table.sizes
    shape = (len(person_time.endpoints), sizes["interval"], sizes["phase"])
    mean, spread = np.ones(shape), np.ones(shape)
    if not person_time.weighted:
        return mean, spread
    weight = person_time.people["weight"].values
    for index, name in enumerate(person_time.endpoints):
        hazards, who = hazards_of_patients(fit.posterior, person_time, fit.design, endpoint=name)
        relative = np.exp(hazards.pattern).mean(axis=0)[who]
        shared = np.exp(hazards.shared).mean(axis=0).reshape(hazards.shared.shape[1], -1)
        time = person_time.patient_cells(name)
        both = np.zeros((2, shared.shape[1]))
        for class_, hazard in enumerate(shared):
            inside = hazards.class_of[who] == class_
            each = (relative * inside)[:, None] * np.stack([weight, weight**2], axis=1)
            both += (time.T @ each).T * hazard
        mean[index], spread[index] = both.reshape(2, *shape[1:])
    return mean, spread


def _overlapping(person_time: PersonTime, endpoint: str) -> bool:
    """Say whether anybody is at risk twice at the same time."""
    persons = person_time.persons
    if not persons.in_pieces:
        return False
    patient, _, start, stop = episodes_of(person_time, endpoint)
    who = persons.of[patient]
    order = np.lexsort((start, who))
    who, start, stop = who[order], start[order], stop[order]
    inside = start[1:] < stop[:-1] * (1.0 - TIE_TOLERANCE)
    return bool(((who[1:] == who[:-1]) & inside).any())


def replicated_simon_makuch(
    fit: Fit,
    *,
    seed: int,
    draws: int = 200,
    times: ArrayLike | None = None,
    landmark: float | None = None,
) -> xr.Dataset:
    """Simon-Makuch curves of replicated events, to be laid over the observed one.

    Between any two times at which the risk set changes, the number of events is drawn from its
    Poisson distribution given the patients at risk then; with weights from that of a multiple of a
    Poisson variable, to be laid over the curve with the same weights.

    Parameters
    ----------
    fit
        The fit.
    seed
        Seed of the replicates, and of which draws are used.
    draws
        Number of replicates, at most the number of posterior draws.
    times : array_like, shape (time,), optional
        Times from the origin; by default 51 from the start to the end of follow-up.
    landmark
        Where the curves start, as in `simon_makuch`.

    Returns
    -------
    xarray.Dataset
        ``survival`` over (replicate, endpoint, group, time), with the groups of `simon_makuch`.
        NaN after the end of a group's follow-up.

    Raises
    ------
    SpecError
        If the number of draws or the landmark is impossible.
    EstimandError
        If a group has no time at risk after the landmark.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.checks.replicated_simon_makuch(fit, seed=1, draws=20)["survival"].sizes["replicate"]
    20
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    fit.definition.require_hazard("A replicated curve")
    begin = fit.question.landmark if landmark is None else landmark
    if begin is not None and not 0 <= begin < np.inf:
        raise SpecError(f"landmark must be a time from 0 on, got {begin!r}.")
    fit.question.require_landmark(begin)
    person_time, table = fit.person_time, fit.person_time.table
    total = fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"]
    if not 1 <= draws <= total:
        raise SpecError(f"draws must be from 1 to the {total} posterior draws, got {draws!r}.")
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(total, draws, replace=False))
    role, exposed = table["role"].values, fit.question.exposed
    groups = {
        exposed: role == "exposed",
        fit.question.reference or f"no {exposed}": role == "reference",
    }
    grid = np.asarray(times, dtype=np.float64)
    if times is None:
        first = float(table["first_begin"].values.min()) if begin is None else begin
        grid = np.linspace(first, float(table["last_exit"].values.max()), GRID)
    survival = np.full((draws, len(person_time.endpoints), len(groups), grid.size), np.nan)
    for index, name in enumerate(person_time.endpoints):
        for place, (label, states) in enumerate(groups.items()):
            risk = risk_sets(fit, name, chosen, keep=states[None, :], begin=begin, at=grid)
            if risk is None:
                raise EstimandError(f"{name}: '{label}' has no time at risk after {begin:g}.")
            mean = risk.hazard * np.diff(risk.knots)
            dead = np.minimum(risk.unit * generator.poisson(mean / risk.unit), risk.at_risk)
            share = np.divide(dead, risk.at_risk, out=np.zeros(dead.shape), where=risk.at_risk > 0)
            curve = np.cumprod(1.0 - share, axis=1)
            survival[:, index, place] = read_steps(curve, 1.0, risk.knots, grid)
    return xr.Dataset(
        {"survival": (("replicate", "endpoint", "group", "time"), survival)},
        coords={
            "replicate": np.arange(draws),
            "endpoint": list(person_time.endpoints),
            "group": list(groups),
            "time": grid,
        },
        attrs={**state_of(fit), "unit": person_time.unit},
    )
