"""Predicted against observed: the events of each patient, survival by predicted risk, risk sets.

Hazards are summed over the patients at risk between all times at which anything changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import (
    EstimandError,
    SpecError,
    require_at_least,
    require_kind,
    tail_of,
)
from bayesblina.core.intervals import interval_of, round_up
from bayesblina.core.product_limit import product_limit, weigh_at_risk
from bayesblina.estimands.draws import blocks, draws_of, episodes_of, state_of
from bayesblina.hazards.gaps import gap_terms
from bayesblina.hazards.likelihood import (
    Segments,
    expected_events,
    hazard_of_segments,
    log_survival,
    segments_of,
)
from bayesblina.hazards.log_hazards import LogHazard, hazards_of_patients, sums
from bayesblina.inference.fitting import Fit
from bayesblina.person_time.cells import PersonTime

# Numbers held at once: draws x patients.
BLOCK = 20_000_000
COLUMNS = (
    "endpoint",
    "group",
    "time",
    "patients",
    "predicted",
    "predicted_lower",
    "predicted_upper",
    "observed",
    "observed_lower",
    "observed_upper",
    "events",
    "expected",
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
        observed less expected, which the model's level keeps near 0. Of an event that was found at
        a visit, what is expected is the mean of the cumulative hazard at the event, given the gap
        in which it lies (Farrington 2000, doi:10.1111/j.0006-341X.2000.00473.x).

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
    >>> bool((bb.checks.martingale_residuals(fit)["residual"] <= 1).any())
    True
    """
    require_kind(fit, Fit, "fit")
    person_time, persons = fit.person_time, fit.person_time.persons
    weight = person_time.people["weight"].values
    by_endpoint = []
    for name in person_time.endpoints:
        outcome = person_time.people.sel(endpoint=name)
        cells = person_time.patient_cells(name)
        hazards, who = hazards_of_patients(fit.posterior, person_time, fit.design, endpoint=name)
        shared = np.exp(hazards.shared).reshape(*hazards.shared.shape[:2], -1)
        mean, square = np.zeros(persons.size), np.zeros(persons.size)
        for rows in blocks(shared.shape[0], who.size, most=BLOCK):
            expected = np.empty((who.size, shared[rows].shape[0]))
            for class_ in range(shared.shape[1]):
                inside = hazards.class_of[who] == class_
                expected[inside] = cells[inside] @ shared[rows, class_].T
            expected *= np.exp(hazards.pattern[rows]).T[who]
            gaps = gap_terms(draws_of(fit, rows), person_time, fit.design, name)
            if gaps is not None:
                passed = np.add.reduceat(gaps.moments()[1], gaps.opens, axis=0)
                expected[gaps.patient] += passed
            if hazards.cured is not None:
                expected = np.abs(log_survival(hazards.cured[rows].T[who], expected))
            expected *= weight[:, None]
            if persons.in_pieces:
                expected = sums(expected, persons.of, persons.size)
            mean += expected.sum(axis=1)
            square += (expected**2).sum(axis=1)
        mean /= shared.shape[0]
        spread = np.sqrt(np.maximum(square / shared.shape[0] - mean**2, 0.0))
        seen = np.bincount(persons.of, np.isfinite(outcome["exit"].values), minlength=persons.size)
        events = np.bincount(persons.of, weight * outcome["event"].values, minlength=persons.size)
        values = np.stack([events - mean, events, mean, spread])
        by_endpoint.append(np.where(seen > 0, values, np.nan))
    quantities = ("residual", "events", "expected", "sd")
    return xr.Dataset(
        {
            name: (("endpoint", "patient"), values)
            for name, values in zip(quantities, np.stack(by_endpoint, axis=1), strict=True)
        },
        coords={"endpoint": list(person_time.endpoints), "patient": persons.ids},
        attrs=state_of(fit),
    )


def require_exact_times(fit: Fit, what: str) -> None:
    """Refuse what compares events with hazards at the times at which they happened."""
    if fit.person_time.visits is not None:
        visited = [name for name, said in fit.person_time.recorded.items() if said == "visits"]
        raise EstimandError(
            f"{what}: events of {', '.join(visited)} are found at visits, so that nobody knows "
            "when they happened; replicated_events compares what visits find."
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
        time at which the eligible patients came under observation, rounded up to two digits.
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
    >>> bb.checks.predicted_against_observed(fit, times=[12.0, 18.0], groups=2)[
    ...     "group"
    ... ].unique().tolist()
    [1, 2]
    """
    require_kind(fit, Fit, "fit")
    require_exact_times(fit, "Predicted against observed survival")
    require_at_least(groups, 1, "groups")
    tail_of(mass)
    person_time = fit.person_time
    people, persons = person_time.people, person_time.persons
    begin = fit.question.landmark if landmark is None else landmark
    begin = round_up(float(np.nanmedian(people["begin"].values))) if begin is None else begin
    fit.question.require_landmark(begin)
    grid = np.asarray(times, dtype=np.float64)
    if grid.ndim != 1 or not grid.size or not (grid > begin).all() or not np.isfinite(grid).all():
        raise SpecError(f"times must be finite and after the landmark {begin:g}, got {times!r}.")
    last = float(np.nanmax(people["exit"].values))
    if (grid > last).any():
        raise SpecError(
            f"times {', '.join(f'{time:g}' for time in grid[grid > last])} lie after the end of "
            f"follow-up, {last:.3g} {person_time.unit}: nothing was observed there to compare "
            "with."
        )
    tables = []
    for name in person_time.endpoints:
        for number, inside in enumerate(_groups_by_risk(fit, name, groups, begin), start=1):
            table = _of_group(fit, name, inside, grid, begin=begin, mass=mass)
            if table is not None:
                patients = np.unique(persons.of[inside]).size
                tables.append(table.assign(endpoint=name, group=number, patients=patients))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    if not person_time.weighted:
        table["events"] = table["events"].astype(np.int64)
    table.attrs |= {**state_of(fit), "unit": person_time.unit, "landmark": float(begin)}
    return table[list(COLUMNS)]


def _groups_by_risk(fit: Fit, endpoint: str, groups: int, begin: float) -> list[Bools]:
    """Patients followed after a landmark, by the posterior mean of their log relative hazard."""
    person_time = fit.person_time
    stop = person_time.people["exit"].sel(endpoint=endpoint).values
    used = np.flatnonzero(stop > begin)
    hazards, who = hazards_of_patients(
        fit.posterior, person_time, fit.design, endpoint=endpoint, rows=used
    )
    number = 1 if np.ptp(hazards.pattern) == 0 else min(groups, used.size)
    rank = np.argsort(np.argsort(hazards.pattern.mean(axis=0)[who], kind="stable"), kind="stable")
    member = np.full(stop.size, -1)
    member[used] = rank * number // used.size
    return [member == group for group in range(number)]


def _of_group(
    fit: Fit, endpoint: str, inside: Bools, grid: Floats, *, begin: float, mass: float
) -> pd.DataFrame | None:
    """Rows of one group of patients; None where nobody of it is at risk."""
    everyone = np.arange(fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"])
    risk = risk_sets(fit, endpoint, everyone, keep=inside[:, None], begin=begin, at=grid)
    if risk is None:
        return None
    outcome = fit.person_time.people.sel(endpoint=endpoint).isel(patient=inside)
    stop, event, weight = (outcome[name].values for name in ("exit", "event", "weight"))
    times = grid[grid <= float(stop.max())]
    mean = np.divide(
        risk.hazard, risk.at_risk, out=np.zeros(risk.hazard.shape), where=risk.at_risk > 0
    )
    passed, expected = (
        read_steps(np.cumsum(hazard * np.diff(risk.knots), axis=1), 0.0, risk.knots, times)
        for hazard in (mean, risk.hazard)
    )
    tail = tail_of(mass)
    lower, middle, upper = np.quantile(np.exp(-passed), [tail, 0.5, 1.0 - tail], axis=0)
    curve = product_limit(
        np.maximum(outcome["begin"].values, begin),
        stop,
        event,
        begin=begin,
        minimum=1,
        mass=mass,
        weight=weight if fit.person_time.weighted else None,
    )
    seen = curve.iloc[np.searchsorted(curve["time"], times, side="right") - 1]
    return pd.DataFrame(
        {
            "time": times,
            "predicted": middle,
            "predicted_lower": lower,
            "predicted_upper": upper,
            "observed": seen["survival"].to_numpy(),
            "observed_lower": seen["lower"].to_numpy(),
            "observed_upper": seen["upper"].to_numpy(),
            "events": [float(weight[event & (stop <= time)].sum()) for time in times],
            "expected": expected.mean(axis=0),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightsAtRisk:
    """Patients at risk between all times at which anything changes.

    Times (knot); sums of the weights at risk (piece) and of the hazards times them (draw, piece);
    and the unit of which the events are Poisson numbers (draw, piece), 1 without weights.
    """

    knots: Floats
    at_risk: Floats
    hazard: Floats
    unit: Floats


def risk_sets(
    fit: Fit, endpoint: str, draws: Ints, *, keep: Bools, begin: float | None, at: Floats
) -> WeightsAtRisk | None:
    """Add up hazards over patients at risk; None if nobody is after the beginning.

    `keep`, shape (patient or 1, state or 1): whose time at risk counts, and in which states.
    `at`: times that are to be among the knots.
    """
    person_time = fit.person_time
    people, states = person_time.people.sizes["patient"], person_time.table.sizes["phase"]
    keep = np.broadcast_to(keep, (people, states))
    patient, state, start, stop = episodes_of(person_time, endpoint)
    kept = keep[patient, state]
    if begin is not None:
        kept &= stop > begin
        start = np.maximum(start, begin)
    if not kept.any():
        return None
    patient, state, start, stop = patient[kept], state[kept], start[kept], stop[kept]
    first, last = float(start.min()) if begin is None else begin, float(stop.max())
    inner = np.concatenate([start, stop, person_time.cuts, at])
    knots = np.unique(np.append(inner[(inner > first) & (inner < last)], [first, last]))
    weight = person_time.people["weight"].values
    hazards, who = hazards_of_patients(fit.posterior, person_time, fit.design, endpoint=endpoint)
    if hazards.cured is not None:
        totals = _of_uncured(fit, endpoint, hazards, draws, knots, keep)
    else:
        episode = np.arange(patient.size)
        totals = _of_everyone(
            replace(hazards, shared=hazards.shared[draws], pattern=hazards.pattern[draws]),
            who[patient],
            state,
            [weight[patient] ** power for power in _powers(person_time)],
            sparse.csr_array(
                (
                    np.repeat([1.0, -1.0], patient.size),
                    (np.tile(episode, 2), np.searchsorted(knots, np.concatenate([start, stop]))),
                ),
                shape=(patient.size, knots.size),
            ),
            interval_of((knots[:-1] + knots[1:]) / 2.0, person_time.cuts),
        )
    return WeightsAtRisk(
        knots=knots,
        at_risk=weigh_at_risk(start, stop, weight[patient], knots[1:]),
        hazard=totals[0],
        # Of hazards summed with the weights and with their squares; 1 where there are none.
        unit=variance_over_mean(totals[-1], totals[0]),
    )


def _of_everyone(
    hazards: LogHazard,
    pattern: Ints,
    state: Ints,
    weights: Sequence[Floats],
    changes: sparse.csr_array,
    interval: Ints,
) -> list[Floats]:
    """Hazards summed where nobody is cured, once for each kind of weights; (draws, piece).

    `pattern`, `state`, shape (episode,): of each episode.
    `changes`, shape (episode, knot): 1 where an episode begins, -1 where it ends.
    `interval`, shape (piece,): the model's interval of each piece between knots.
    """
    draws = hazards.pattern.shape[0]
    totals = [np.zeros((draws, interval.size)) for _ in weights]
    classes, states = hazards.shared.shape[1], hazards.shared.shape[3]
    for rows in blocks(draws, max(pattern.size, interval.size), most=BLOCK):
        for class_, current in product(range(classes), range(states)):
            here = (state == current) & (hazards.class_of[pattern] == class_)
            if not here.any():
                continue
            present = np.rint(np.cumsum(changes[here].sum(axis=0))[:-1])
            relative = np.exp(hazards.pattern[rows][:, pattern[here]])
            hazard = np.exp(hazards.shared[rows, class_][:, interval, current])
            for weight, total in zip(weights, totals, strict=True):
                counted = relative * weight[here]
                summed = np.cumsum((changes[here].T @ counted.T).T, axis=1)[:, :-1]
                # Sums of differences leave rounding where nobody is at risk.
                total[rows] += np.where(present > 0, np.maximum(summed, 0.0), 0.0) * hazard
    return totals


def _of_uncured(
    fit: Fit, endpoint: str, hazards: LogHazard, draws: Ints, knots: Floats, keep: Bools
) -> list[Floats]:
    """Hazards summed where some are cured: who is, shows in the time since entry."""
    person_time = fit.person_time
    # Knots before the first are needed too.
    points = np.unique(np.concatenate([person_time.cuts, knots]))
    segments = segments_of(person_time, endpoint, points=points)
    opens = np.concatenate([[0.0], points])[segments.piece]
    piece, pieces = np.searchsorted(knots, opens), knots.size - 1
    mine = keep[segments.patient, segments.state] & (opens >= knots[0]) & (opens < knots[-1])
    weight = person_time.people["weight"].values[segments.patient[mine]][:, None]
    totals = [np.empty((draws.size, pieces)) for _ in _powers(person_time)]
    for rows, events in expected_in_segments(fit, hazards, segments, draws=draws):
        for power, total in zip(_powers(person_time), totals, strict=True):
            total[rows] = sums(events[mine] * weight**power, piece[mine], pieces).T
    return [total / np.diff(knots) for total in totals]


def _powers(person_time: PersonTime) -> tuple[int, ...]:
    """Powers of the weights that are needed: squares where there are any."""
    return (1, 2) if person_time.weighted else (1,)


def variance_over_mean(spread: Floats, mean: Floats) -> Floats:
    """Find the multiple of a Poisson variable that has this variance and mean; 1 without any."""
    return np.divide(spread, mean, out=np.ones(mean.shape), where=mean > 0)


def expected_in_segments(
    fit: Fit, hazards: LogHazard, segments: Segments, *, draws: Ints | None = None
) -> Iterator[tuple[slice, Floats]]:
    """Events expected in segments of follow-up, of shape (segment, draws), some draws at a time."""
    assert hazards.cured is not None
    pattern_of = fit.person_time.people["pattern"].values
    chosen = np.arange(hazards.pattern.shape[0]) if draws is None else draws
    for rows in blocks(chosen.size, segments.patient.size, most=BLOCK):
        some = replace(
            hazards,
            shared=hazards.shared[chosen[rows]],
            pattern=hazards.pattern[chosen[rows]],
        )
        passed = hazard_of_segments(some, segments, pattern_of).T
        log_odds = hazards.cured[chosen[rows]][:, pattern_of[segments.patient]].T
        yield rows, expected_events(passed, segments.patient, log_odds)


def weighted_time(relative: Floats, class_of: Ints, time: Floats, by_class: Floats) -> Floats:
    """Sum time at risk over patterns, times their hazards.

    `relative`, shape (draws, pattern): relative hazards.
    `class_of`, shape (pattern,): class of each pattern.
    `time`, shape (interval, state, pattern): time at risk.
    `by_class`, shape (draws, class, interval, state): what the patterns of a class share.
    Result, shape (draws, interval, state): sums.
    """
    total = np.zeros((relative.shape[0], *time.shape[:2]))
    for class_ in range(by_class.shape[1]):
        inside = class_of == class_
        flat = time[:, :, inside].reshape(total[0].size, -1)
        total += (relative[:, inside] @ flat.T).reshape(total.shape) * by_class[:, class_]
    return total


def read_steps(curve: Floats, first: float, knots: Floats, times: Floats) -> Floats:
    """Read step curves, given after each piece, at times that are knots or outside them."""
    steps = np.concatenate([np.full((curve.shape[0], 1), first), curve], axis=1)
    values = steps[:, np.clip(np.searchsorted(knots, times, side="right") - 1, 0, None)]
    values[:, (times > knots[-1]) | (times < knots[0])] = np.nan
    return values
