"""Replicated events and curves, within the time at risk that was observed; and histories drawn.

Events are replicated given who was at risk, when and in which phase. Nothing has to be assumed
about when patients who died would have been censored, or would have changed phases: given the past,
the events of the next moment are those of a Poisson process whose rate is the sum of the hazards of
the patients at risk. Observed less expected events form a martingale.

Events of patients with weights count as often as these say. Their sum is no Poisson variable, but
close to a multiple of one that has its mean and variance. Where rows are copies of persons,
followed at the same time in several groups, they have no joint distribution, and sums over groups
no probability.

Histories are drawn patient by patient, from the hazards of a model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc

from bayesblina.checks.agreement import (
    expected_in_segments,
    read_steps,
    require_exact_times,
    risk_sets,
    variance_over_mean,
    weighted_time,
)
from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.endpoint_order import DEATH_AFTER_RELAPSE, DEATH_IN_REMISSION, RELAPSE
from bayesblina.core.errors import EstimandError, SpecError, require_kind, require_seed
from bayesblina.core.intervals import TIE_TOLERANCE, split
from bayesblina.estimands.draws import by_draw, episodes_of, state_of
from bayesblina.hazards.build import BuiltModel
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.gaps import gap_terms
from bayesblina.hazards.likelihood import cured_given_survival, segments_of
from bayesblina.hazards.log_hazards import LogHazard, hazards_of_patients, log_hazard, sums
from bayesblina.hazards.parts import IllnessDeath
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
        ``p_value_interval`` is NaN where copies of a person are at risk at the same time. Events
        found at visits count where the model says that they lie within their gaps, on average over
        draws, with the hazard expected until then: intervals that are shorter than gaps show
        little, and p-values are cautious.

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
    exact = person_time.counted[0].sum(axis=3)
    sides = [_expected(fit, name) for name in person_time.endpoints]
    expected = np.stack([each for each, _ in sides], axis=1)
    counts = exact + np.stack([found for _, found in sides])
    if person_time.visits is None:
        counts = table["events"].sum("pattern").transpose("endpoint", "interval", "phase").values
    mean, spread = _moments(fit)
    unit = variance_over_mean(spread, mean)
    drawn = unit * np.random.default_rng(seed).poisson(expected / unit)
    if not person_time.weighted:
        drawn = drawn.astype(np.int64)
    over_phases = variance_over_mean(spread.sum(axis=2), mean.sum(axis=2))
    by_interval = _more_than(counts.sum(axis=2), expected.sum(axis=3), over_phases)
    by_interval[[_overlapping(person_time, name) for name in person_time.endpoints]] = np.nan
    cells = ("endpoint", "interval", "phase")
    return xr.Dataset(
        {
            "observed": (cells, counts),
            "person_time": (cells, table["person_time"].sum("pattern").transpose(*cells).values),
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


def _expected(fit: Fit, endpoint: str) -> tuple[Floats, Floats]:
    """Events that the model expects, (draws, interval, phase), and those found, (interval, phase).

    Events that were found at visits lie where the model says; exact ones are not among the second.
    """
    person_time = fit.person_time
    hazard = log_hazard(fit.posterior, fit.design, endpoint=endpoint)
    index = person_time.endpoints.index(endpoint)
    time = person_time.counted[1][index]
    found = np.zeros(time.shape[:2])
    if hazard.cured is None:
        expected = weighted_time(
            np.exp(hazard.pattern), hazard.class_of, time, np.exp(hazard.shared)
        )
        gaps = gap_terms(fit.posterior, person_time, fit.design, endpoint)
        if gaps is not None:
            weight = person_time.people["weight"].values[gaps.patient][gaps.event][:, None]
            inside, passed = gaps.moments()
            shape, cells = expected.shape, found.size
            expected = expected + sums(passed * weight, gaps.cell, cells).T.reshape(shape)
            mean = (inside * weight).mean(axis=1, keepdims=True)
            found = sums(mean, gaps.cell, cells).reshape(found.shape)
        return expected, found
    segments = segments_of(person_time, endpoint)
    cell = segments.interval * time.shape[1] + segments.state
    weight = person_time.people["weight"].values[segments.patient, None]
    expected = np.zeros((hazard.pattern.shape[0], time.shape[0] * time.shape[1]))
    for rows, events in expected_in_segments(fit, hazard, segments):
        expected[rows] = sums(events * weight, cell, expected.shape[1]).T
    return expected.reshape(-1, *time.shape[:2]), found


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
    mean, spread = np.ones((2, *shape))
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
    order = np.lexsort((start, persons.of[patient]))
    who, start, stop = persons.of[patient][order], start[order], stop[order]
    return bool(((who[1:] == who[:-1]) & (start[1:] < stop[:-1] * (1.0 - TIE_TOLERANCE))).any())


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
    require_exact_times(fit, "Replicated Simon-Makuch curves")
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
    role, exposed = table["role"].values, fit.question.exposure
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
        for column, (label, states) in enumerate(groups.items()):
            risk = risk_sets(fit, name, chosen, keep=states[None, :], begin=begin, at=grid)
            if risk is None:
                raise EstimandError(f"{name}: '{label}' has no time at risk after {begin:g}.")
            mean = risk.hazard * np.diff(risk.knots)
            dead = np.minimum(risk.unit * generator.poisson(mean / risk.unit), risk.at_risk)
            share = np.divide(dead, risk.at_risk, out=np.zeros(dead.shape), where=risk.at_risk > 0)
            curve = np.cumprod(1.0 - share, axis=1)
            survival[:, index, column] = read_steps(curve, 1.0, risk.knots, grid)
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PotentialTime:
    """Potential time at risk, patient by patient, in parts within which nothing changes.

    `patient`, shape (part,): whose, together and in order of time.
    `first`, shape (part,): whether it is the patient's first part.
    `interval`, `state`, shape (part,): where it lies.
    """

    patient: Ints
    first: Bools
    interval: Ints
    state: Ints
    length: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histories:
    """Events and time at risk that were drawn.

    `events`, `time`, shape (endpoint, interval, state, pattern): sums.
    `survived`, shape (endpoint, patient): 1 for patients who are event-free at the end of their own
    follow-up.
    """

    events: Floats
    time: Floats
    survived: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawer:
    """Draws event histories of the patients of a person-time, from hazards given by draw.

    `person_time`: whose time at risk and phases are taken.
    `hazards`: by endpoint, over draws.
    `flows`: potential time at risk: of each endpoint; of illness-death courses one, in remission or
    after relapse.
    `course`: whether the endpoints are the transitions of illness-death courses.
    """

    person_time: PersonTime
    hazards: tuple[LogHazard, ...]
    flows: tuple[PotentialTime, ...]
    course: bool

    @classmethod
    def of(
        cls,
        definition: ModelDefinition,
        person_time: PersonTime,
        built: BuiltModel,
        truth: xr.Dataset,
    ) -> Drawer:
        """Take a model, its patients, and draws of its parameters."""
        course, names = isinstance(definition.endpoints, IllnessDeath), person_time.endpoints
        parts = [names] if course else [(name,) for name in names]
        return cls(
            person_time=person_time,
            hazards=tuple(log_hazard(truth, built.design, endpoint=name) for name in names),
            flows=tuple(flow_of(person_time, each) for each in parts),
            course=course,
        )

    def draw(self, index: int, generator: np.random.Generator) -> Histories:
        """Draw histories from one draw of the parameters."""
        shape = tuple(self.person_time.table["person_time"].shape)
        events, time = np.zeros(shape), np.zeros(shape)
        of = self.person_time.people["pattern"].values
        survived = np.isfinite(self.person_time.people["exit"].values).astype(np.float64)
        drawn = []
        if self.course:
            (flow,), names = self.flows, (RELAPSE, DEATH_IN_REMISSION, DEATH_AFTER_RELAPSE)
            order = [self.person_time.endpoints.index(name) for name in names]
            relapse, die, after = (self._rate(endpoint, index, flow) for endpoint in order)
            courses = draw_courses(flow, relapse, die, after, generator)
            drawn = [(endpoint, flow, *each) for endpoint, each in zip(order, courses, strict=True)]
        else:
            for endpoint, flow in enumerate(self.flows):
                rate = self._rate(endpoint, index, flow)
                log_odds = self.hazards[endpoint].cured
                if log_odds is not None:
                    never = generator.random(of.size) < cured_given_survival(log_odds[index])[of]
                    rate = np.where(never[flow.patient], 0.0, rate)
                drawn.append((endpoint, flow, *first_event(flow, rate, generator)))
        for endpoint, flow, died, length in drawn:
            cell = (flow.interval, flow.state, of[flow.patient])
            np.add.at(time[endpoint], cell, length)
            np.add.at(events[endpoint], cell, died)
            survived[endpoint, flow.patient[died == 1.0]] = 0.0
        return Histories(events=events, time=time, survived=survived)

    def _rate(self, endpoint: int, index: int, flow: PotentialTime) -> Floats:
        """Hazard of an endpoint in each part."""
        hazard = self.hazards[endpoint]
        pattern = self.person_time.people["pattern"].values[flow.patient]
        shared = hazard.shared[index][hazard.class_of[pattern], flow.interval, flow.state]
        relative = hazard.pattern[index]
        return np.asarray(np.exp(shared + relative[np.minimum(pattern, relative.size - 1)]))


def flow_of(person_time: PersonTime, endpoints: tuple[str, ...]) -> PotentialTime:
    """Cut the time at risk for any of some endpoints into parts.

    Of an illness-death course remission comes first and the time after relapse follows: together
    they are the calendar of a patient's phases, whenever a relapse is drawn.
    """
    # The two transitions out of remission have the same time at risk: one of them counts.
    parts = [episodes_of(person_time, name) for name in endpoints if name != DEATH_IN_REMISSION]
    patient, state, start, stop = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((start, patient))
    patient, state, start, stop = patient[order], state[order], start[order], stop[order]
    episode, interval, length = split(start, stop, person_time.cuts)
    who = patient[episode]
    return PotentialTime(
        patient=who,
        first=np.concatenate([[True], np.diff(who) != 0]),
        interval=interval,
        state=state[episode],
        length=length,
    )


def first_event(
    flow: PotentialTime, rate: Floats, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw one event per patient at most.

    `rate`, shape (part,): hazard in each part.
    Result: `died`, `length`, shape (part,): events, and time at risk: none after a patient's event.
    """
    hazard, group = rate * flow.length, np.cumsum(flow.first) - 1
    passed = np.cumsum(hazard) - hazard
    begun = passed - passed[flow.first][group]
    target = generator.exponential(size=int(group[-1]) + 1)[group]
    died = (begun < target) & (target <= begun + hazard)
    length = np.divide(target - begun, rate, out=flow.length.copy(), where=died)
    return died.astype(np.float64), np.where(target <= begun, 0.0, np.minimum(length, flow.length))


def draw_courses(
    flow: PotentialTime,
    relapse: Floats,
    death_in_remission: Floats,
    death_after_relapse: Floats,
    generator: np.random.Generator,
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Draw courses of remission, relapse and death: at risk after relapse from the one drawn.

    `relapse`, `death_in_remission`, `death_after_relapse`, shape (part,): hazards.
    """
    leaving = relapse + death_in_remission
    ended, remission = first_event(flow, leaving, generator)
    share = np.divide(relapse, leaving, out=np.zeros(leaving.shape), where=leaving > 0)
    relapsed = ended * (generator.random(ended.size) < share)
    group = np.cumsum(flow.first) - 1
    with_relapse = np.bincount(group, relapsed)[group] > 0
    later = replace(flow, length=np.where(with_relapse, flow.length - remission, 0.0))
    died, after = first_event(later, death_after_relapse, generator)
    return (relapsed, remission), (ended - relapsed, remission), (died, after)
