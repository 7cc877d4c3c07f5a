"""Events and person-time by cell: the sufficient statistics of a piecewise-exponential model.

A cell is an endpoint x interval x phase x covariate pattern. Treatment phase is a time-varying
state of each patient, so no time before a phase's start can count as time in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from bayesblina.account import Account, to_html
from bayesblina.cohort import Cohort
from bayesblina.errors import DataError, Problem, SpecError
from bayesblina.follow_up import (
    Episodes,
    LeftOut,
    account_of,
    cut_since_entry,
    find_episodes,
    require_comparison,
    roles_of,
)
from bayesblina.intervals import (
    TIE_TOLERANCE,
    default_cuts,
    exposure_by_group,
    interval_of,
    split,
    validate_cuts,
)
from bayesblina.question import Question
from bayesblina.transitions import find_transitions

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class CovariateTerms:
    """A covariate of the patients used.

    Attributes
    ----------
    name, kind
        Its name; ``"categorical"`` or ``"continuous"``.
    levels
        Levels that occur among them, the reference first; each other has the term
        ``name[level]``. Empty for a continuous covariate.
    low, high
        Range of a continuous covariate; 0 for a categorical one.
    """

    name: str
    kind: Literal["categorical", "continuous"]
    levels: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """Events and person-time by cell, and the sparse parts that belong to single patients.

    Attributes
    ----------
    table : xarray.Dataset
        ``events`` and ``exposure`` over (endpoint, interval, phase, pattern); ``interval_start``
        and ``interval_stop`` over interval (the last is infinite); over phase ``role``
        (``"exposed"``, ``"reference"`` or ``"other"``), ``treatment`` (the phase's name) and
        ``since`` (time since entering it at which the entry begins: the exposed phase has an
        entry for each piece of that time where it is cut); ``design`` over (pattern, term), the
        raw covariate terms of each pattern.
    people : xarray.Dataset
        Over patient: ``pattern`` and ``weight`` (1 without weights); over (endpoint, patient):
        ``begin``, ``exit`` (NaN where the patient does not contribute) and ``event``. Patients who
        contribute to no endpoint are not in it.
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

    @property
    def by_patient(self) -> bool:
        """Whether every patient has a pattern of its own."""
        return bool(self.table.attrs["by_patient"])

    @property
    def courses(self) -> tuple[str, str] | None:
        """Endpoints death and relapse-free survival, where the endpoints here are transitions."""
        found = json.loads(self.table.attrs["courses"])
        return None if found is None else (str(found[0]), str(found[1]))

    @property
    def weighted(self) -> bool:
        """Whether patients have weights other than 1."""
        return bool((self.people["weight"].values != 1.0).any())

    @property
    def covariates(self) -> tuple[CovariateTerms, ...]:
        """Covariates of the patients used, and how they became terms."""
        return tuple(
            CovariateTerms(**{**one, "levels": tuple(one["levels"])})
            for one in json.loads(self.table.attrs["covariates"])
        )

    def account(self) -> Account:
        """Say who is in the analysis, who is not and why, and where their time was spent.

        Returns
        -------
        Account
            For each endpoint the patients left out by reason, those eligible with their events
            and time, and the same in each phase.

        See Also
        --------
        bayesblina.Cohort.account : what happened before.
        """
        ids = self.people["patient"].values
        roles = [str(role) for role in self.table["role"].values]
        lines = [
            line
            for name in self.endpoints
            for line in account_of(self._episodes_of(name), ids, roles)
        ]
        return Account(lines=tuple(lines), unit=self.unit, synthetic=self.synthetic)

    def _episodes_of(self, endpoint: str) -> Episodes:
        index = self.endpoints.index(endpoint)
        rows = self.episodes["endpoint"].values == index
        patient, phase, start, stop = (
            self.episodes[name].values[rows] for name in ("patient", "phase", "start", "stop")
        )
        last = stop == self.people["exit"].values[index][patient]
        event = last & self.people["event"].values[index][patient]
        return Episodes(
            endpoint=endpoint,
            patient=patient,
            phase=phase,
            start=start,
            stop=stop,
            event=event,
            phases=tuple(str(name) for name in self.table["phase"].values),
            phase_names=tuple(str(name) for name in self.table["treatment"].values),
            since=tuple(float(time) for time in self.table["since"].values),
            left_out=tuple(one for one in self.left_out if one.endpoint == endpoint),
            time_at_risk=float((stop - start).sum()),
            events=int(event.sum()),
        )

    def _totals(self) -> tuple[tuple[str, float, float], ...]:
        """Events and person-time of each endpoint."""
        total = self.table[["events", "exposure"]].sum(("interval", "phase", "pattern"))
        return tuple(
            (name, float(total["events"].values[index]), float(total["exposure"].values[index]))
            for index, name in enumerate(self.endpoints)
        )

    def _cells(self) -> str:
        sizes = self.table.sizes
        return (
            f"{sizes['interval']} intervals x {sizes['phase']} phases x {sizes['pattern']} patterns"
        )

    def _subjects(self) -> str:
        kind = ("weighted " if self.weighted else "") + ("synthetic " if self.synthetic else "")
        return f"{self.people.sizes['patient']} {kind}patients"

    def __repr__(self) -> str:
        """Show counts, never patients."""
        parts = ", ".join(
            f"{name}: {events:.6g} events in {time:.6g} person-{self.unit}"
            for name, events, time in self._totals()
        )
        return f"Exposure({self._subjects()}; {parts}; {self._cells()})"

    def _repr_html_(self) -> str:
        rows = [
            (name, f"{events:.6g} events in {time:.6g} person-{self.unit}")
            for name, events, time in self._totals()
        ]
        return to_html(("Exposure", self._subjects()), [*rows, ("cells", self._cells())])

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
        found = self._episodes_of(endpoint)
        episode, interval, length = split(found.start, found.stop, self.cuts)
        phases = self.table.sizes["phase"]
        cell = interval * phases + found.phase[episode]
        shape = (self.people.sizes["patient"], self.table.sizes["interval"] * phases)
        return sparse.csr_array((length, (found.patient[episode], cell)), shape=shape)

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
        found = self._episodes_of(endpoint)
        interval = interval_of(found.stop[found.event], self.cuts)
        cell = interval * self.table.sizes["phase"] + found.phase[found.event]
        return found.patient[found.event], cell


def expose(
    cohort: Cohort,
    question: Question,
    *,
    cuts: ArrayLike | None = None,
    phase_cuts: ArrayLike | None = None,
    by_patient: bool = False,
    weights: ArrayLike | None = None,
    courses: tuple[str, str] | None = None,
) -> Exposure:
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
    phase_cuts : array_like, shape (n_pieces - 1,), optional
        Times since entering the exposed phase, in the cohort's unit, at which time in it is cut
        into pieces.
    by_patient
        Whether every patient is a pattern of its own.
    weights : array_like, shape (patient,), optional
        Weights of the cohort's patients, in its order, such as those of inverse probabilities:
        events and time at risk of a patient count as many times.
    courses : tuple of (str, str), optional
        Names of the endpoints death and relapse-free survival: events and time at risk are then
        those of the transitions of an illness-death course (`bayesblina.transitions`).

    Returns
    -------
    Exposure
        Checked for conservation: its person-time is the eligible cohort's, its events are the
        eligible cohort's, and every patient is used or left out for a reason.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or the cuts or weights are impossible.
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
    if courses is None:
        episodes = find_episodes(cohort, question)
        require_comparison(episodes, question)
    else:
        death, relapse_free = courses
        both = replace(question, endpoints=(death, relapse_free))
        require_comparison(find_episodes(cohort, both), question)
        episodes = find_transitions(cohort, question, death=death, relapse_free=relapse_free)
    weight = _valid_weights(weights, cohort)
    if phase_cuts is not None:
        pieces = validate_cuts(phase_cuts)
        entered = cohort.phase_start[:, cohort.phases.index(question.exposed)]
        episodes = {
            name: cut_since_entry(found, entered, pieces, phase=question.exposed)
            for name, found in episodes.items()
        }
    if cuts is None:
        event_times = [found.stop[found.event] for found in episodes.values()]
        inner = default_cuts(np.concatenate(event_times), endpoints=len(episodes))
    else:
        inner = _snap_cuts(validate_cuts(cuts), episodes)
    used = np.unique(np.concatenate([found.patient for found in episodes.values()]))
    new_position = np.full(cohort.size, -1, dtype=np.int64)
    new_position[used] = np.arange(used.size)
    pattern, design, terms = covariate_patterns(cohort, used, by_patient=by_patient)
    described = [asdict(covariate) for covariate in describe_covariates(cohort, used)]
    labelled = next(iter(episodes.values()))
    all_phases = labelled.phases
    seen = np.unique(np.concatenate([found.phase for found in episodes.values()]))
    new_phase = np.full(len(all_phases), -1, dtype=np.int64)
    new_phase[seen] = np.arange(seen.size)
    phases = [all_phases[index] for index in seen]
    intervals, patterns = inner.size + 1, design.shape[0]
    exposure = np.zeros((len(episodes), intervals, len(phases), patterns))
    events = np.zeros(exposure.shape, dtype=np.int64 if weight is None else np.float64)
    begin = np.full((len(episodes), used.size), np.nan)
    end = np.full(begin.shape, np.nan)
    died = np.zeros(begin.shape, dtype=bool)
    parts_by_name: dict[str, list[NDArray[np.generic]]] = {
        name: [] for name in ("endpoint", "patient", "phase", "start", "stop")
    }
    for index, found in enumerate(episodes.values()):
        who, phase = new_position[found.patient], new_phase[found.phase]
        group = phase * patterns + pattern[who]
        if weight is None:
            by_group = exposure_by_group(
                found.start, found.stop, group, groups=len(phases) * patterns, cuts=inner
            )
        else:
            of, interval, length = split(found.start, found.stop, inner)
            by_group = np.zeros((len(phases) * patterns, intervals))
            np.add.at(by_group, (group[of], interval), length * weight[found.patient[of]])
        exposure[index] = by_group.T.reshape(intervals, len(phases), patterns)
        cell = interval_of(found.stop[found.event], inner) * by_group.shape[0]
        cell += group[found.event]
        counted = None if weight is None else weight[found.patient[found.event]]
        counts = np.bincount(cell, weights=counted, minlength=by_group.size)
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
            "role": ("phase", roles_of([labelled.phase_names[i] for i in seen], question)),
            "treatment": ("phase", [labelled.phase_names[i] for i in seen]),
            "since": ("phase", [labelled.since[i] for i in seen]),
            "design": (("pattern", "term"), design),
        },
        coords={
            "endpoint": list(episodes),
            "interval": np.arange(intervals),
            "phase": phases,
            "pattern": np.arange(patterns),
            "term": np.asarray(terms, dtype=str),
        },
        attrs={
            "covariates": json.dumps(described),
            "by_patient": int(by_patient),
            "courses": json.dumps(courses),
        },
    )
    people = xr.Dataset(
        {
            "pattern": ("patient", pattern),
            "weight": ("patient", np.ones(used.size) if weight is None else weight[used]),
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
    _check_conservation(result, cohort, episodes, weight)
    return result


def _valid_weights(weights: ArrayLike | None, cohort: Cohort) -> Floats | None:
    if weights is None:
        return None
    try:
        values = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise SpecError("weights must be numbers, one for each patient of the cohort.") from None
    if values.shape != (cohort.size,):
        raise SpecError(
            f"weights must be {cohort.size} numbers, one for each patient in the cohort's order; "
            f"got an array of shape {values.shape}."
        )
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        raise DataError(
            [
                Problem(
                    column="weights",
                    patients=tuple(str(patient) for patient in cohort.patients[wrong]),
                    found="weights that are missing, infinite, 0 or negative",
                    expected="Every weight must be a finite number greater than 0; leave "
                    "patients out of the cohort instead of giving them no weight.",
                )
            ],
            source="the weights",
        )
    return values


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


def covariate_patterns(
    cohort: Cohort, used: Ints, *, by_patient: bool = False
) -> tuple[Ints, Floats, list[str]]:
    """Group patients by their covariates.

    Parameters
    ----------
    cohort
        The patients.
    used : ndarray of int, shape (used,)
        Rows of those to group.
    by_patient
        Whether every patient is a pattern of its own.

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
    if by_patient:
        rows = np.arange(used.size, dtype=np.int64)
        chosen = [columns[index] for index in varying]
        return rows, np.stack(chosen, axis=1) if chosen else np.zeros((used.size, 0)), terms
    if not varying:
        return np.zeros(used.size, dtype=np.int64), np.zeros((1, 0)), terms
    matrix = np.stack([columns[index] for index in varying], axis=1)
    design, pattern = np.unique(matrix, axis=0, return_inverse=True)
    return pattern.reshape(-1).astype(np.int64), design, terms


def describe_covariates(cohort: Cohort, used: Ints) -> list[CovariateTerms]:
    """Say what values the covariates have among the patients used.

    Parameters
    ----------
    cohort
        The patients.
    used : ndarray of int, shape (used,)
        Rows of those used.

    Returns
    -------
    list of CovariateTerms
        In the cohort's order.
    """
    found = []
    for name, covariate in cohort.covariates.items():
        values = covariate.values[used]
        if covariate.kind == "continuous":
            low, high = float(values.min()), float(values.max())
            found.append(CovariateTerms(name=name, kind="continuous", low=low, high=high))
        else:
            levels = tuple(covariate.levels[int(index)] for index in np.unique(values))
            found.append(CovariateTerms(name=name, kind="categorical", levels=levels))
    return found


def _check_conservation(
    exposure: Exposure,
    cohort: Cohort,
    episodes: Mapping[str, Episodes],
    weight: Floats | None,
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
        at_risk, expected, rounding = found.time_at_risk, float(found.events), 0.0
        largest = scale[index]
        if weight is not None:
            at_risk = float((weight[found.patient] * (found.stop - found.start)).sum())
            expected = float(weight[found.patient[found.event]].sum())
            rounding, largest = 1e-9 * expected, scale[index] * float(weight.max())
        if abs(time[index] - at_risk) > 1e-9 * largest:
            failures.append((name, f"person-time {time[index]:.17g} of {at_risk:.17g}"))
        if abs(events[index] - expected) > rounding:
            failures.append((name, f"{events[index]} events of {expected}"))
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
