"""Events and person-time by cell: the sufficient statistics of a piecewise-exponential model.

A cell is an endpoint x interval x phase x covariate pattern. Treatment phase is a time-varying
state of each patient, so no time before a phase's start can count as time in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from bayesblina.cohort import Cohort
from bayesblina.errors import DataError, Problem
from bayesblina.intervals import (
    TIE_TOLERANCE,
    default_cuts,
    exposure_by_group,
    interval_of,
    snap,
    split,
    validate_cuts,
)
from bayesblina.question import ENTRY, Question, bind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

OFF_TREATMENT = "off treatment"
TRANSPLANT = "transplant"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Patients who do not contribute to an endpoint, and why.

    Attributes
    ----------
    endpoint
        The endpoint.
    reason
        Why they do not contribute.
    patients
        Their ids.
    """

    endpoint: str
    reason: str
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episodes:
    """One endpoint's time at risk, cut at changes of phase.

    Attributes
    ----------
    endpoint
        The endpoint.
    patient : ndarray of int, shape (episode,)
        Row of the cohort.
    phase : ndarray of int, shape (episode,)
        Position in `phases`.
    start, stop : ndarray, shape (episode,)
        The episode ``(start, stop]``; never empty.
    event : ndarray of bool, shape (episode,)
        Whether it ends with the endpoint's event.
    phases
        Names of all possible states.
    left_out
        Who does not contribute, by reason.
    time_at_risk, events
        Totals over the patients who contribute, taken before their time was cut.
    """

    endpoint: str
    patient: Ints
    phase: Ints
    start: Floats
    stop: Floats
    event: Bools
    phases: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    time_at_risk: float
    events: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """Events and person-time by cell, and the sparse parts that belong to single patients.

    Attributes
    ----------
    table : xarray.Dataset
        ``events`` and ``exposure`` over (endpoint, interval, phase, pattern); ``interval_start``
        and ``interval_stop`` over interval (the last is infinite); ``role`` over phase
        (``"exposed"``, ``"reference"`` or ``"other"``); ``design`` over (pattern, term), the raw
        covariate terms of each pattern.
    people : xarray.Dataset
        Over patient: ``pattern``; over (endpoint, patient): ``begin``, ``exit`` (NaN where the
        patient does not contribute) and ``event``. Patients who contribute to no endpoint are
        not in it.
    episodes : xarray.Dataset
        Over episode: ``endpoint``, ``patient`` and ``phase`` as positions, ``start``, ``stop``.
    left_out
        Who does not contribute, by endpoint and reason.
    unit
        Time unit.
    synthetic
        Whether the patients are simulated.
    """

    table: xr.Dataset
    people: xr.Dataset
    episodes: xr.Dataset
    left_out: tuple[LeftOut, ...]
    unit: str
    synthetic: bool

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Endpoint names."""
        return tuple(str(name) for name in self.table["endpoint"].values)

    @property
    def cuts(self) -> Floats:
        """Inner cut points, shape (n_intervals - 1,)."""
        return np.asarray(self.table["interval_start"].values[1:], dtype=np.float64)

    def __repr__(self) -> str:
        """Show counts, never patients."""
        events = self.table["events"].sum(("interval", "phase", "pattern"))
        time = self.table["exposure"].sum(("interval", "phase", "pattern"))
        parts = ", ".join(
            f"{name}: {int(events.sel(endpoint=name))} events in "
            f"{float(time.sel(endpoint=name)):.6g} person-{self.unit}"
            for name in self.endpoints
        )
        sizes = self.table.sizes
        kind = "synthetic " if self.synthetic else ""
        return (
            f"Exposure({self.people.sizes['patient']} {kind}patients; {parts}; "
            f"{sizes['interval']} intervals x {sizes['phase']} phases x "
            f"{sizes['pattern']} patterns)"
        )

    def patient_cells(self, endpoint: str) -> sparse.csr_array:
        """Time at risk by patient and cell of one endpoint, sparse.

        Parameters
        ----------
        endpoint
            Endpoint name.

        Returns
        -------
        scipy.sparse.csr_array, shape (patient, interval * phase)
            Time at risk; rows sum to each patient's time at risk. Columns run over intervals,
            phases fastest.
        """
        rows = self.episodes["endpoint"].values == self.endpoints.index(endpoint)
        patient, phase, start, stop = (
            self.episodes[name].values[rows] for name in ("patient", "phase", "start", "stop")
        )
        episode, interval, length = split(start, stop, self.cuts)
        phases = self.table.sizes["phase"]
        cell = interval * phases + phase[episode]
        shape = (self.people.sizes["patient"], self.table.sizes["interval"] * phases)
        return sparse.csr_array((length, (patient[episode], cell)), shape=shape)

    def event_cells(self, endpoint: str) -> tuple[Ints, Ints]:
        """Return who has the event, and in which cell.

        Parameters
        ----------
        endpoint
            Endpoint name.

        Returns
        -------
        patient : ndarray of int, shape (n_events,)
            Position of the patient.
        cell : ndarray of int, shape (n_events,)
            Cell, numbered as the columns of `patient_cells`.
        """
        index = self.endpoints.index(endpoint)
        stop = self.episodes["stop"].values
        patient = self.episodes["patient"].values
        event = self.people["event"].values[index]
        rows = (
            (self.episodes["endpoint"].values == index)
            & event[patient]
            & (stop == self.people["exit"].values[index][patient])
        )
        interval = interval_of(stop[rows], self.cuts)
        cell = interval * self.table.sizes["phase"] + self.episodes["phase"].values[rows]
        return patient[rows], cell


def find_episodes(cohort: Cohort, question: Question) -> dict[str, Episodes]:
    """Cut each endpoint's time at risk at changes of phase.

    Near-ties of times are made exact first (relative 1e-9). A phase that starts exactly at the
    end of follow-up contributes nothing, and the event stays in the earlier phase.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is at risk, from when, in which state.

    Returns
    -------
    dict of Episodes
        By endpoint.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort.
    """
    names = bind(question, cohort)
    bounds, phases, state = _state_bounds(cohort, question)
    eligible = (
        np.zeros(cohort.size)
        if question.eligible_from == ENTRY
        else cohort.phase_start[:, cohort.phases.index(question.eligible_from)]
    )
    transplant = np.full(cohort.size, np.inf)
    if cohort.transplant is not None and question.transplant == "censor":
        transplant = np.where(np.isnan(cohort.transplant), np.inf, cohort.transplant)
    landmark = np.array([question.landmark or 0.0])
    arrays = [bounds, eligible, transplant, landmark]
    for name in names:
        arrays += [cohort.endpoints[name].time, cohort.endpoints[name].entry]
    bounds, eligible, transplant, landmark, *rest = snap(arrays)
    found = {}
    for position, name in enumerate(names):
        time, entry = rest[2 * position], rest[2 * position + 1]
        stop = np.fmin(time, transplant)
        event = cohort.endpoints[name].event & (time <= transplant)
        begin = np.fmax(np.fmax(entry, eligible), landmark[0])
        reasons = [
            ("never under observation for this endpoint", np.isnan(entry)),
            (f"never reached {question.eligible_from}", np.isnan(eligible)),
            ("follow-up ended by the start of eligibility", time <= np.fmax(entry, eligible)),
            ("follow-up ended by the landmark", time <= landmark[0]),
            ("transplanted by the start of eligibility or the landmark", stop <= begin),
        ]
        in_play = np.ones(cohort.size, dtype=bool)
        left_out = []
        for reason, affected in reasons:
            out = in_play & affected
            in_play &= ~affected
            if out.any():
                ids = tuple(str(patient) for patient in cohort.patients[out])
                left_out.append(LeftOut(endpoint=name, reason=reason, patients=ids))
        rows = np.flatnonzero(in_play)
        lower = np.clip(bounds[rows, :-1], begin[rows, None], stop[rows, None])
        upper = np.clip(bounds[rows, 1:], begin[rows, None], stop[rows, None])
        who, segment = np.nonzero(upper > lower)
        ends = upper[who, segment]
        found[name] = Episodes(
            endpoint=name,
            patient=rows[who],
            phase=state[segment],
            start=lower[who, segment],
            stop=ends,
            event=event[rows[who]] & (ends == stop[rows[who]]),
            phases=phases,
            left_out=tuple(left_out),
            time_at_risk=float((stop[rows] - begin[rows]).sum()),
            events=int(event[rows].sum()),
        )
    return found


def _state_bounds(cohort: Cohort, question: Question) -> tuple[Floats, tuple[str, ...], Ints]:
    """Find when each patient enters each state.

    Returns
    -------
    bounds : ndarray, shape (patient, segment + 1)
        Segment s of a patient is ``(bounds[s], bounds[s + 1]]``; empty if it never happened.
    phases : tuple of str
        State names.
    state : ndarray of int, shape (segment,)
        State of each segment.
    """
    current = question.phase_end == "current"
    phases = [f"before {cohort.phases[0]}", *cohort.phases]
    if current:
        phases.append(OFF_TREATMENT)
    if question.transplant == "phase":
        phases.append(TRANSPLANT)
    lower = [np.zeros(cohort.size)]
    state = [0]
    for index, name in enumerate(cohort.phases):
        lag = question.lag if name == question.exposed else 0.0
        lower.append(cohort.phase_start[:, index] + lag)
        state.append(1 + index)
        if current:
            lower.append(cohort.phase_end[:, index])
            state.append(phases.index(OFF_TREATMENT))
    if question.transplant == "phase" and cohort.transplant is not None:
        lower.append(cohort.transplant)
        state.append(phases.index(TRANSPLANT))
    lower.append(np.full(cohort.size, np.inf))
    starts = np.stack(lower, axis=1)
    starts = np.where(np.isnan(starts), np.inf, starts)
    # A state lasts until the next one that is entered, whatever lies between them in the order.
    bounds = np.minimum.accumulate(starts[:, ::-1], axis=1)[:, ::-1]
    return bounds, tuple(phases), np.asarray(state)


def expose(cohort: Cohort, question: Question, *, cuts: ArrayLike | None = None) -> Exposure:
    """Sum events and person-time by endpoint, interval, phase and covariate pattern.

    Parameters
    ----------
    cohort
        The patients.
    question
        The question asked of them.
    cuts : array_like, shape (n_intervals - 1,), optional
        Inner cut points in the cohort's unit; by default quantiles of the event times, their
        number growing with the events.

    Returns
    -------
    Exposure
        Checked for conservation: its person-time is the eligible cohort's, its events are the
        eligible cohort's, and every patient is used or left out for a reason.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or the cuts are impossible.
    DataError
        If there is nothing to compare: no eligible patients, no events, nobody exposed or
        nobody unexposed.

    Examples
    --------
    >>> import pandas as pd
    >>> import bayesblina as bb
    >>> table = pd.DataFrame(
    ...     {"id": ["a", "b"], "months": [4.0, 9.0], "died": [1, 1], "start": [2.0, None]}
    ... )
    >>> cohort = bb.read_cohort(
    ...     table,
    ...     patient="id",
    ...     unit="months",
    ...     endpoints={"os": bb.Endpoint(time="months", event="died")},
    ...     phases=bb.Phases(maintenance="start"),
    ... )
    >>> question = bb.Question(exposed="maintenance", eligible_from="entry")
    >>> exposure = bb.expose(cohort, question, cuts=[3.0])
    >>> exposure.table["exposure"].sel(endpoint="os").isel(pattern=0).values
    array([[5., 1.],
           [6., 1.]])
    """
    episodes = find_episodes(cohort, question)
    _require_comparison(episodes, question)
    if cuts is None:
        event_times = [found.stop[found.event] for found in episodes.values()]
        inner = default_cuts(np.concatenate(event_times), endpoints=len(episodes))
    else:
        inner = _snap_cuts(validate_cuts(cuts), episodes)
    used = np.unique(np.concatenate([found.patient for found in episodes.values()]))
    new_position = np.full(cohort.size, -1, dtype=np.int64)
    new_position[used] = np.arange(used.size)
    pattern, design, terms = _patterns(cohort, used)
    all_phases = next(iter(episodes.values())).phases
    seen = np.unique(np.concatenate([found.phase for found in episodes.values()]))
    new_phase = np.full(len(all_phases), -1, dtype=np.int64)
    new_phase[seen] = np.arange(seen.size)
    phases = [all_phases[index] for index in seen]
    intervals, patterns = inner.size + 1, design.shape[0]
    exposure = np.zeros((len(episodes), intervals, len(phases), patterns))
    events = np.zeros(exposure.shape, dtype=np.int64)
    begin = np.full((len(episodes), used.size), np.nan)
    end = np.full(begin.shape, np.nan)
    died = np.zeros(begin.shape, dtype=bool)
    parts_by_name: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("endpoint", "patient", "phase", "start", "stop")
    }
    for index, found in enumerate(episodes.values()):
        who, phase = new_position[found.patient], new_phase[found.phase]
        group = phase * patterns + pattern[who]
        by_group = exposure_by_group(
            found.start, found.stop, group, groups=len(phases) * patterns, cuts=inner
        )
        exposure[index] = by_group.T.reshape(intervals, len(phases), patterns)
        cell = interval_of(found.stop[found.event], inner) * by_group.shape[0]
        cell += group[found.event]
        counts = np.bincount(cell, minlength=by_group.size)
        events[index] = counts.reshape(exposure.shape[1:])
        first = np.concatenate([[True], np.diff(found.patient) != 0])
        last = np.concatenate([first[1:], [True]])
        begin[index, who[first]] = found.start[first]
        end[index, who[last]] = found.stop[last]
        died[index, who[last]] = found.event[last]
        columns = (np.full(who.size, index), who, phase, found.start, found.stop)
        for part, values in zip(parts_by_name.values(), columns, strict=True):
            part.append(values)
    table = xr.Dataset(
        {
            "events": (("endpoint", "interval", "phase", "pattern"), events),
            "exposure": (("endpoint", "interval", "phase", "pattern"), exposure),
            "interval_start": ("interval", np.concatenate([[0.0], inner])),
            "interval_stop": ("interval", np.concatenate([inner, [np.inf]])),
            "role": ("phase", _roles(phases, question)),
            "design": (("pattern", "term"), design),
        },
        coords={
            "endpoint": list(episodes),
            "interval": np.arange(intervals),
            "phase": phases,
            "pattern": np.arange(patterns),
            "term": np.asarray(terms, dtype=str),
        },
    )
    people = xr.Dataset(
        {
            "pattern": ("patient", pattern),
            "begin": (("endpoint", "patient"), begin),
            "exit": (("endpoint", "patient"), end),
            "event": (("endpoint", "patient"), died),
        },
        coords={"endpoint": list(episodes), "patient": cohort.patients[used]},
    )
    parts = xr.Dataset(
        {name: ("episode", np.concatenate(values)) for name, values in parts_by_name.items()}
    )
    result = Exposure(
        table=table,
        people=people,
        episodes=parts,
        left_out=tuple(item for found in episodes.values() for item in found.left_out),
        unit=cohort.unit,
        synthetic=cohort.synthetic,
    )
    _check_conservation(result, cohort, episodes)
    return result


def _require_comparison(episodes: Mapping[str, Episodes], question: Question) -> None:
    problems = []
    for name, found in episodes.items():
        exposed = found.phase == found.phases.index(question.exposed)
        compared = ~exposed
        against = f"time outside {question.exposed}"
        if question.reference is not None:
            compared = found.phase == found.phases.index(question.reference)
            against = f"time in {question.reference}"
        elif TRANSPLANT in found.phases:
            compared &= found.phase != found.phases.index(TRANSPLANT)
        checks = (
            (found.patient.size, "no patient is ever eligible"),
            (found.event.sum(), "no event among the eligible patients"),
            (exposed.sum(), f"no eligible patient has time in {question.exposed}"),
            (compared.sum(), f"no eligible patient has {against}"),
        )
        for count, message in checks:
            if not count:
                problems.append(
                    Problem(
                        column=name,
                        found=message,
                        expected="There is nothing to compare: check the endpoint's columns and "
                        "the Question's eligible_from, landmark, lag and reference.",
                    )
                )
                break
    if problems:
        raise DataError(problems, source="the question asked of this cohort")


def _snap_cuts(cuts: Floats, episodes: Mapping[str, Episodes]) -> Floats:
    """Move cuts onto times that differ from them only by floating-point noise."""
    times = np.unique(
        np.concatenate([part for found in episodes.values() for part in (found.start, found.stop)])
    )
    after = np.clip(np.searchsorted(times, cuts), 0, times.size - 1)
    before = np.clip(after - 1, 0, times.size - 1)
    near = np.where(
        np.abs(times[after] - cuts) <= np.abs(times[before] - cuts), times[after], times[before]
    )
    close = np.abs(near - cuts) <= TIE_TOLERANCE * np.maximum(near, cuts)
    return np.where(close, near, cuts)


def _patterns(cohort: Cohort, used: Ints) -> tuple[Ints, Floats, list[str]]:
    """Group the patients used by their covariates.

    Returns
    -------
    pattern : ndarray of int, shape (patient,)
        Pattern of each patient used.
    design : ndarray, shape (pattern, term)
        Terms of each pattern: numbers, and indicators of levels other than the first that occurs.
    terms : list of str
        Term names; terms that do not vary among the patients used are left out.
    """
    columns: list[Floats] = []
    terms: list[str] = []
    for name, covariate in cohort.covariates.items():
        values = covariate.values[used]
        if covariate.kind == "continuous":
            columns.append(values)
            terms.append(name)
            continue
        present = [index for index in range(len(covariate.levels)) if (values == index).any()]
        for index in present[1:]:
            columns.append((values == index).astype(np.float64))
            terms.append(f"{name}[{covariate.levels[index]}]")
    varying = [index for index, column in enumerate(columns) if np.ptp(column) > 0]
    terms = [terms[index] for index in varying]
    if not varying:
        return np.zeros(used.size, dtype=np.int64), np.zeros((1, 0)), terms
    matrix = np.stack([columns[index] for index in varying], axis=1)
    design, pattern = np.unique(matrix, axis=0, return_inverse=True)
    return pattern.reshape(-1).astype(np.int64), design, terms


def _roles(phases: list[str], question: Question) -> list[str]:
    roles = []
    for name in phases:
        if name == question.exposed:
            roles.append("exposed")
        elif question.reference is None:
            roles.append("other" if name == TRANSPLANT else "reference")
        else:
            roles.append("reference" if name == question.reference else "other")
    return roles


def _check_conservation(
    exposure: Exposure, cohort: Cohort, episodes: Mapping[str, Episodes]
) -> None:
    """Raise unless person-time, events and patients are all accounted for."""
    cells = ("interval", "phase", "pattern")
    time = exposure.table["exposure"].sum(cells).values
    events = exposure.table["events"].sum(cells).values
    exits = exposure.people["exit"].values
    used, scale = np.isfinite(exits).sum(axis=1), np.nansum(exits, axis=1)
    failures = []
    for index, name in enumerate(exposure.endpoints):
        found = episodes[name]
        out = sum(len(item.patients) for item in exposure.left_out if item.endpoint == name)
        if abs(time[index] - found.time_at_risk) > 1e-9 * scale[index]:
            failures.append((name, f"person-time {time[index]:.17g} of {found.time_at_risk:.17g}"))
        if events[index] != found.events:
            failures.append((name, f"{events[index]} events of {found.events}"))
        if used[index] + out != cohort.size:
            failures.append(
                (name, f"{used[index]} patients used and {out} left out of {cohort.size}")
            )
        if (exposure.table["exposure"].values[index] < 0).any():
            failures.append((name, "negative person-time in a cell"))
    if failures:
        raise DataError(
            [
                Problem(
                    column=name,
                    found=f"conservation failed: {found}",
                    expected="This is an error in bayesblina, not in the data; please report it.",
                )
                for name, found in failures
            ],
            source="the exposure table",
        )
