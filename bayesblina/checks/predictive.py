"""Predictive checks: does the model say what happened, within the time at risk that was observed.

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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import gammainc

from bayesblina.core.arguments import require_kind, require_seed
from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.errors import EstimandError, SpecError
from bayesblina.core.intervals import TIE_TOLERANCE, interval_of
from bayesblina.core.product_limit import count_at_risk, product_limit, weigh_at_risk
from bayesblina.hazards.likelihood import (
    LogHazard,
    hazard_of_segments,
    hazards_of_patients,
    log_hazard,
)
from bayesblina.hazards.survivors import (
    Segments,
    expected_events,
    log_survival,
    segments_of,
    sums,
)
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import PersonTime

GRID = 51
# Numbers held at once while hazards are added up over patients.
BLOCK = 20_000_000


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
    >>> events = bb.replicated_events(fit, seed=1)
    >>> events["p_value"].dims
    ('endpoint', 'interval', 'phase')
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    fit.definition.require_hazard("Replicated events")
    table = fit.person_time.table
    observed = table["events"].sum("pattern").transpose("endpoint", "interval", "phase")
    time = table["person_time"].transpose("endpoint", "interval", "phase", "pattern").values
    parts = []
    for index, name in enumerate(fit.person_time.endpoints):
        found = log_hazard(fit.posterior, fit.design, endpoint=name)
        if found.cured is not None:
            part = segments_of(fit.person_time, name)
            cell = part.interval * time.shape[2] + part.state
            weight = fit.person_time.people["weight"].values[part.patient]
            awaited = np.zeros((time.shape[1] * time.shape[2], found.pattern.shape[0]))
            for rows, values in _expected(fit, found, part):
                awaited[:, rows] = sums(values * weight[:, None], cell, awaited.shape[0])
            parts.append(awaited.T.reshape(-1, *time.shape[1:3]))
            continue
        flat = time[index].reshape(-1, time.shape[3])
        relative, total = np.exp(found.pattern), np.zeros(())
        for one in range(found.shared.shape[1]):
            inside = found.class_of == one
            adjusted = (relative[:, inside] @ flat[:, inside].T).reshape(-1, *time.shape[1:3])
            total = total + adjusted * np.exp(found.shared[:, one])
        parts.append(total)
    expected = np.stack(parts, axis=1)
    counts = observed.values
    cells = ("endpoint", "interval", "phase")
    sizes = fit.posterior.sizes
    shape = (sizes["chain"], sizes["draw"], *counts.shape)
    mean, spread = _moments(fit)
    unit = _ratio(spread, mean)
    drawn = unit * np.random.default_rng(seed).poisson(expected / unit)
    over_phases = _ratio(spread.sum(axis=2), mean.sum(axis=2))
    by_interval = _more_than(counts.sum(axis=2), expected.sum(axis=3), over_phases)
    by_interval[[_overlapping(fit.person_time, name) for name in fit.person_time.endpoints]] = (
        np.nan
    )
    if not fit.person_time.weighted:
        drawn = drawn.astype(np.int64)
    by_draw = ("chain", "draw", *cells)
    return xr.Dataset(
        {
            "observed": (cells, counts),
            "person_time": (cells, time.sum(axis=3)),
            "expected": (by_draw, expected.reshape(shape)),
            "replicated": (by_draw, drawn.reshape(shape)),
            "p_value": (cells, _more_than(counts, expected, unit)),
            "p_value_interval": (cells[:2], by_interval),
        },
        coords={
            "chain": fit.posterior["chain"],
            "draw": fit.posterior["draw"],
            "endpoint": list(fit.person_time.endpoints),
            "interval": table["interval"].values,
            "interval_start": ("interval", table["interval_start"].values),
            "interval_stop": ("interval", table["interval_stop"].values),
            "phase": table["phase"].values,
        },
        attrs=_attributes(fit),
    )


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
        found, who = hazards_of_patients(fit.posterior, person_time, fit.design, endpoint=name)
        relative = np.exp(found.pattern).mean(axis=0)[who]
        hazard = np.exp(found.shared).mean(axis=0).reshape(found.shared.shape[1], -1)
        time = person_time.patient_cells(name)
        sums_of = np.zeros((2, hazard.shape[1]))
        for class_ in range(hazard.shape[0]):
            inside = found.class_of[who] == class_
            each = (relative * inside)[:, None] * np.stack([weight, weight**2], axis=1)
            sums_of += (time.T @ each).T * hazard[class_]
        mean[index], spread[index] = sums_of.reshape(2, *shape[1:])
    return mean, spread


def _ratio(spread: Floats, mean: Floats) -> Floats:
    """Variance over mean: the multiple of a Poisson variable that has both; 1 without any."""
    return np.divide(spread, mean, out=np.ones(mean.shape), where=mean > 0)


def _overlapping(person_time: PersonTime, endpoint: str) -> bool:
    """Say whether anybody is at risk twice at the same time."""
    persons = person_time.persons
    if not persons.in_pieces:
        return False
    rows = person_time.episodes["endpoint"].values == person_time.endpoints.index(endpoint)
    patient, start, stop = (
        person_time.episodes[name].values[rows] for name in ("patient", "start", "stop")
    )
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
    >>> bb.replicated_simon_makuch(fit, seed=1, draws=20)["survival"].sizes["replicate"]
    20
    """
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    fit.definition.require_hazard("A replicated curve")
    begin = fit.question.landmark if landmark is None else landmark
    if begin is not None and not 0 <= begin < np.inf:
        raise SpecError(f"landmark must be a time from 0 on, got {begin!r}.")
    fit.question.require_landmark(begin)
    sizes = fit.posterior.sizes
    total = sizes["chain"] * sizes["draw"]
    if not 1 <= draws <= total:
        raise SpecError(f"draws must be from 1 to the {total} posterior draws, got {draws!r}.")
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(total, draws, replace=False))
    last = float(fit.person_time.table["last_exit"].values.max())
    role = fit.person_time.table["role"].values
    exposed, against = fit.question.exposed, fit.question.reference
    groups = {exposed: role == "exposed", against or f"no {exposed}": role == "reference"}
    first = begin if begin is not None else float(fit.person_time.table["first_begin"].values.min())
    grid = np.linspace(first, last, GRID) if times is None else np.asarray(times, dtype=np.float64)
    values = np.full((draws, len(fit.person_time.endpoints), len(groups), grid.size), np.nan)
    for index, name in enumerate(fit.person_time.endpoints):
        for place, (label, states) in enumerate(groups.items()):
            risk = _risk_sets(
                fit, name, chosen, keep_phase=states, keep_patient=None, begin=begin, at=grid
            )
            if risk is None:
                raise EstimandError(f"{name}: '{label}' has no time at risk after {begin:g}.")
            mean = risk.hazard * np.diff(risk.knots)
            dead = risk.unit * generator.poisson(mean / risk.unit)
            share = np.divide(
                np.minimum(dead, risk.at_risk),
                risk.at_risk,
                out=np.zeros(dead.shape),
                where=risk.at_risk > 0,
            )
            curve = np.cumprod(1.0 - share, axis=1)
            values[:, index, place] = _read(curve, 1.0, risk.knots, grid)
    return xr.Dataset(
        {"survival": (("replicate", "endpoint", "group", "time"), values)},
        coords={
            "replicate": np.arange(draws),
            "endpoint": list(fit.person_time.endpoints),
            "group": list(groups),
            "time": grid,
        },
        attrs={**_attributes(fit), "unit": fit.person_time.unit},
    )


def martingale_residuals(fit: Fit) -> xr.Dataset:
    """Each patient's events less those expected of the patient's own follow-up.

    Parameters
    ----------
    fit
        The fit.

    Returns
    -------
    xarray.Dataset
        Over (endpoint, patient): ``residual`` (posterior mean), ``events``, ``expected`` (posterior
        mean of the cumulative hazard) and ``sd`` (its posterior sd); NaN for patients who do not
        contribute to the endpoint. All are times the patient's weight, and sums over all pieces of
        the follow-up: residuals are at most the events, and their sum is the weighted events
        observed less expected, which the model's level keeps near 0.

    Notes
    -----
    Therneau, Grambsch and Fleming (1990), doi:10.1093/biomet/77.1.147; with weights, and pieces
    summed by patient, Binder (1992), doi:10.1093/biomet/79.1.139.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bool((bb.martingale_residuals(fit)["residual"] <= 1).any())
    True
    """
    require_kind(fit, Fit, "fit")
    people, persons = fit.person_time.people, fit.person_time.persons
    weight = people["weight"].values
    columns: dict[str, list[Floats]] = {"residual": [], "events": [], "expected": [], "sd": []}
    for name in fit.person_time.endpoints:
        one = people.sel(endpoint=name)
        cells = fit.person_time.patient_cells(name)
        found, who = hazards_of_patients(fit.posterior, fit.person_time, fit.design, endpoint=name)
        hazard = np.exp(found.shared).reshape(*found.shared.shape[:2], -1)
        mean, square = np.zeros(persons.size), np.zeros(persons.size)
        step = max(1, BLOCK // who.size)
        for at in range(0, hazard.shape[0], step):
            part = slice(at, at + step)
            expected = np.empty((who.size, hazard[part].shape[0]))
            for class_ in range(hazard.shape[1]):
                inside = found.class_of[who] == class_
                expected[inside] = cells[inside] @ hazard[part, class_].T
            expected *= np.exp(found.pattern[part]).T[who]
            if found.cured is not None:
                expected = np.abs(log_survival(found.cured[part].T[who], expected))
            expected *= weight[:, None]
            if persons.in_pieces:
                expected = sums(expected, persons.of, persons.size)
            mean += expected.sum(axis=1)
            square += (expected**2).sum(axis=1)
        mean /= hazard.shape[0]
        spread = np.sqrt(np.maximum(square / hazard.shape[0] - mean**2, 0.0))
        seen = np.bincount(persons.of, np.isfinite(one["exit"].values), minlength=persons.size)
        events = np.bincount(persons.of, weight * one["event"].values, minlength=persons.size)
        found_here = {"residual": events - mean, "events": events, "expected": mean, "sd": spread}
        for key, values in found_here.items():
            columns[key].append(np.where(seen > 0, values, np.nan))
    return xr.Dataset(
        {key: (("endpoint", "patient"), np.stack(values)) for key, values in columns.items()},
        coords={"endpoint": list(fit.person_time.endpoints), "patient": persons.ids},
        attrs=_attributes(fit),
    )


def predicted_against_observed(
    fit: Fit,
    *,
    times: Sequence[float],
    groups: int = 4,
    landmark: float | None = None,
    mass: float = 0.95,
) -> pd.DataFrame:
    """Predicted against observed survival of patients grouped by their predicted risk.

    Delayed entry and changes of phase are those observed: at each moment the predicted hazard of a
    group is the mean of its patients at risk then, each in the current phase. It is compared with
    the group's Kaplan-Meier estimate with delayed entry.

    Parameters
    ----------
    fit
        The fit.
    times
        Times from the origin, after the landmark.
    groups
        Groups of about equal size, by the posterior mean of the log relative hazard of the
        patients' covariates; 1 where the model has no covariates.
    landmark
        Survival is given event-free there. By default the question's landmark, else the median
        time at which the eligible patients came under observation.
    mass
        Probability of the intervals.

    Returns
    -------
    pandas.DataFrame
        ``endpoint``, ``group`` (1 has the lowest risk), ``time``, ``patients``, ``predicted``
        with ``predicted_lower`` and ``predicted_upper`` (posterior), ``observed`` with
        ``observed_lower`` and ``observed_upper`` (Greenwood), ``events`` and ``expected``
        (posterior mean) between landmark and time. A group has no rows for times after its own
        follow-up.
        Weights count in all of them but ``patients``; pieces of a patient are grouped one by one,
        by their covariates.

    Raises
    ------
    SpecError
        If an argument is impossible, or a time lies after the end of all follow-up.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.predicted_against_observed(fit, times=[12.0, 18.0], groups=2)["group"].unique().tolist()
    [1, 2]
    """
    require_kind(fit, Fit, "fit")
    if groups < 1:
        raise SpecError(f"groups must be at least 1, got {groups!r}.")
    if not 0 < mass < 1:
        raise SpecError(f"mass must lie between 0 and 1, got {mass!r}.")
    people = fit.person_time.people
    weight = people["weight"].values
    begin = fit.question.landmark if landmark is None else landmark
    if begin is None:
        begin = float(np.nanmedian(people["begin"].values))
    fit.question.require_landmark(begin)
    grid = np.asarray(times, dtype=np.float64)
    if grid.ndim != 1 or not grid.size or not (grid > begin).all() or not np.isfinite(grid).all():
        raise SpecError(f"times must be finite and after the landmark {begin:g}, got {times!r}.")
    last = float(np.nanmax(people["exit"].values))
    if (grid > last).any():
        raise SpecError(
            f"times {', '.join(f'{one:g}' for one in grid[grid > last])} lie after the end of "
            f"follow-up, {last:.3g} {fit.person_time.unit}: nothing was observed there to compare "
            "with."
        )
    sizes = fit.posterior.sizes
    everyone = np.arange(sizes["chain"] * sizes["draw"])
    tail = (1.0 - mass) / 2.0
    rows = []
    for name in fit.person_time.endpoints:
        one = people.sel(endpoint=name)
        entry, stop, event = (one[key].values for key in ("begin", "exit", "event"))
        used = np.flatnonzero(stop > begin)
        found, who = hazards_of_patients(
            fit.posterior, fit.person_time, fit.design, endpoint=name, rows=used
        )
        pattern = found.pattern
        score = pattern.mean(axis=0)[who]
        number = 1 if np.ptp(pattern) == 0 else min(groups, used.size)
        rank = np.argsort(np.argsort(score, kind="stable"), kind="stable")
        member = rank * number // used.size
        for group in range(number):
            inside = np.zeros(entry.size, dtype=bool)
            inside[used[member == group]] = True
            risk = _risk_sets(
                fit, name, everyone, keep_phase=None, keep_patient=inside, begin=begin, at=grid
            )
            if risk is None:
                continue
            knots, at_risk, hazard = risk.knots, risk.at_risk, risk.hazard
            expected = np.cumsum(hazard * np.diff(knots), axis=1)
            mean = np.divide(hazard, at_risk, out=np.zeros(hazard.shape), where=at_risk > 0)
            total = np.cumsum(mean * np.diff(knots), axis=1)
            curve = product_limit(
                np.maximum(entry[inside], begin),
                stop[inside],
                event[inside],
                begin=begin,
                minimum=1,
                mass=mass,
                weight=weight[inside] if fit.person_time.weighted else None,
            )
            end = float(stop[inside].max())
            dead = inside & event
            for time in grid[grid <= end]:
                here = curve[curve["time"] <= time].iloc[-1]
                alive = np.exp(-_read(total, 0.0, knots, np.array([time]))[:, 0])
                lower, middle, upper = np.quantile(alive, [tail, 0.5, 1.0 - tail])
                awaited = _read(expected, 0.0, knots, np.array([time]))[:, 0].mean()
                rows.append(
                    {
                        "endpoint": name,
                        "group": group + 1,
                        "time": float(time),
                        "patients": int(np.unique(fit.person_time.persons.of[inside]).size),
                        "predicted": middle,
                        "predicted_lower": lower,
                        "predicted_upper": upper,
                        "observed": here["survival"],
                        "observed_lower": here["lower"],
                        "observed_upper": here["upper"],
                        "events": float(weight[dead & (stop <= time)].sum()),
                        "expected": float(awaited),
                    }
                )
    columns = ["endpoint", "group", "time", "patients", "predicted", "predicted_lower"]
    columns += ["predicted_upper", "observed", "observed_lower", "observed_upper", "events"]
    table = pd.DataFrame(rows, columns=[*columns, "expected"])
    if not fit.person_time.weighted:
        table["events"] = table["events"].astype(np.int64)
    table.attrs |= {**_attributes(fit), "unit": fit.person_time.unit, "landmark": float(begin)}
    return table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _RiskSets:
    """Patients at risk between all times at which anything changes.

    Times (knot); sums of the weights at risk (piece) and of the hazards times them (draw, piece);
    and the unit of which the events are Poisson numbers (draw, piece), 1 without weights.
    """

    knots: Floats
    at_risk: Floats
    hazard: Floats
    unit: Floats


def _risk_sets(
    fit: Fit,
    endpoint: str,
    draws: Ints,
    *,
    keep_phase: NDArray[np.bool_] | None,
    keep_patient: NDArray[np.bool_] | None,
    begin: float | None,
    at: Floats,
) -> _RiskSets | None:
    """Add up hazards over patients at risk; None if nobody is after the beginning."""
    person_time = fit.person_time
    rows = person_time.episodes["endpoint"].values == person_time.endpoints.index(endpoint)
    patient, state, start, stop = (
        person_time.episodes[name].values[rows] for name in ("patient", "phase", "start", "stop")
    )
    found, pattern_of = hazards_of_patients(
        fit.posterior, person_time, fit.design, endpoint=endpoint
    )
    kept = np.ones(patient.size, dtype=bool)
    if keep_phase is not None:
        kept &= keep_phase[state]
    if keep_patient is not None:
        kept &= keep_patient[patient]
    if begin is not None:
        kept &= stop > begin
        start = np.maximum(start, begin)
    if not kept.any():
        return None
    patient, state, start, stop = patient[kept], state[kept], start[kept], stop[kept]
    weight = person_time.people["weight"].values
    first, last = float(start.min()) if begin is None else begin, float(stop.max())
    inner = np.concatenate([start, stop, person_time.cuts, at])
    knots = np.unique(np.append(inner[(inner > first) & (inner < last)], [first, last]))
    pieces = knots.size - 1
    at_risk = np.where(
        count_at_risk(start, stop, knots[1:]) > 0,
        weigh_at_risk(start, stop, weight[patient], knots[1:]),
        0.0,
    )
    if found.cured is not None:
        totals = _of_uncured(
            fit, endpoint, found, draws, knots, keep_phase=keep_phase, keep_patient=keep_patient
        )
        return _of_totals(knots, at_risk, totals)
    episode = np.arange(patient.size)
    changes = sparse.csr_array(
        (
            np.repeat([1.0, -1.0], patient.size),
            (
                np.concatenate([episode, episode]),
                np.concatenate([np.searchsorted(knots, start), np.searchsorted(knots, stop)]),
            ),
        ),
        shape=(patient.size, pieces + 1),
    )
    relative, shared = found.pattern[draws], found.shared[draws]
    middle = interval_of((knots[:-1] + knots[1:]) / 2.0, person_time.cuts)
    who = pattern_of[patient]
    powers = _powers(person_time)
    totals = [np.zeros((draws.size, pieces)) for _ in powers]
    step = max(1, BLOCK // max(patient.size, pieces))
    for place in range(0, draws.size, step):
        part = slice(place, place + step)
        for class_, one in product(range(shared.shape[1]), range(shared.shape[3])):
            here = (state == one) & (found.class_of[who] == class_)
            if not here.any():
                continue
            present = np.rint(np.cumsum(changes[here].sum(axis=0))[:-1])
            each = np.exp(relative[part][:, who[here]])
            hazard = np.exp(shared[part, class_][:, middle, one])
            for power, total in zip(powers, totals, strict=True):
                counted = each * weight[patient[here]] ** power
                summed = np.cumsum((changes[here].T @ counted.T).T, axis=1)[:, :-1]
                # Sums of differences leave rounding where nobody is at risk.
                total[part] += np.where(present > 0, np.maximum(summed, 0.0), 0.0) * hazard
    return _of_totals(knots, at_risk, totals)


def _of_uncured(
    fit: Fit,
    endpoint: str,
    found: LogHazard,
    draws: Ints,
    knots: Floats,
    *,
    keep_phase: NDArray[np.bool_] | None,
    keep_patient: NDArray[np.bool_] | None,
) -> list[Floats]:
    """Hazards summed where some are cured: who is, shows in the time since entry."""
    person_time = fit.person_time
    # Knots before the first are needed too.
    points = np.unique(np.concatenate([person_time.cuts, knots]))
    follow_up = segments_of(person_time, endpoint, points=points)
    opens = np.concatenate([[0.0], points])[follow_up.piece]
    piece, pieces = np.searchsorted(knots, opens), knots.size - 1
    mine = (opens >= knots[0]) & (opens < knots[-1])
    if keep_phase is not None:
        mine &= keep_phase[follow_up.state]
    if keep_patient is not None:
        mine &= keep_patient[follow_up.patient]
    weight = person_time.people["weight"].values[follow_up.patient[mine]][:, None]
    totals = [np.empty((draws.size, pieces)) for _ in _powers(person_time)]
    for chosen, values in _expected(fit, found, follow_up, draws=draws):
        for power, total in zip(_powers(person_time), totals, strict=True):
            total[chosen] = sums(values[mine] * weight**power, piece[mine], pieces).T
    return [total / np.diff(knots) for total in totals]


def _powers(person_time: PersonTime) -> tuple[int, ...]:
    """Powers of the weights that are needed: squares where there are any."""
    return (1, 2) if person_time.weighted else (1,)


def _of_totals(knots: Floats, at_risk: Floats, totals: Sequence[Floats]) -> _RiskSets:
    """Take hazards summed with weights, and with their squares where there are any."""
    unit = _ratio(totals[-1], totals[0])
    return _RiskSets(knots=knots, at_risk=at_risk, hazard=totals[0], unit=unit)


def _expected(
    fit: Fit, found: LogHazard, part: Segments, *, draws: Ints | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Events expected in segments of follow-up, of shape (segment, draws), some draws at a time."""
    assert found.cured is not None
    pattern_of = fit.person_time.people["pattern"].values
    chosen = np.arange(found.pattern.shape[0]) if draws is None else draws
    step = max(1, BLOCK // max(part.patient.size, 1))
    for place in range(0, chosen.size, step):
        rows = slice(place, place + step)
        one = replace(
            found,
            shared=found.shared[chosen[rows]],
            pattern=found.pattern[chosen[rows]],
        )
        passed = hazard_of_segments(one, part, pattern_of).T
        log_odds = found.cured[chosen[rows]][:, pattern_of[part.patient]].T
        yield rows, expected_events(passed, part.patient, log_odds)


def _read(curve: Floats, first: float, knots: Floats, times: Floats) -> Floats:
    """Read step curves, given after each piece, at times that are knots or outside them."""
    whole = np.concatenate([np.full((curve.shape[0], 1), first), curve], axis=1)
    place = np.searchsorted(knots, times, side="right") - 1
    values = whole[:, np.clip(place, 0, None)]
    values[:, (times > knots[-1]) | (times < knots[0])] = np.nan
    return values


def _attributes(fit: Fit) -> dict[str, object]:
    return {
        "model": fit.definition.name,
        "converged": int(fit.converged),
        "synthetic": int(fit.person_time.synthetic),
    }
