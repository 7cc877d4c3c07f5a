"""Patients as validated values: endpoints, ordered treatment phases, covariates, time unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.course_marks import bounds_of_stays
from bayesblina.core.courses import Stays
from bayesblina.core.episodes import cut_follow_up, state_bounds
from bayesblina.core.errors import DataError, Problem, SpecError, nearest
from bayesblina.core.frozen import remade
from bayesblina.core.intervals import snap, split, validate_cuts
from bayesblina.patients.account import Account, Line, lines_of_endpoint, lines_of_order, to_html
from bayesblina.patients.covariates import Covariate
from bayesblina.patients.outcomes import Outcome, courses_of, with_exact_events
from bayesblina.patients.persons import joint_of, lines_of_periods
from bayesblina.patients.problems import find_problems, find_short_numbers
from bayesblina.patients.rules import (
    DAYS_PER_UNIT,
    NEAR_TIES,
    InMemory,
    PatientColumns,
    any_of,
    settle,
)
from bayesblina.patients.stays import find_problems_of_stays, first_starts, lines_of_stays


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """A repair that was asked for, or near ties that were settled, and whom it changed.

    Attributes
    ----------
    rule
        What was done, in words.
    patients
        Ids of the patients whose data it changed.
    """

    rule: str
    patients: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of patients changed."""
        return len(self.patients)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Patients whom a reader left out, and why.

    Attributes
    ----------
    reason
        Why, in words.
    patients
        Their ids.
    """

    reason: str
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cohort:
    """Validated patients: one row each, arrays read-only.

    Built by `bayesblina.read_cohort`; validated completely when made.

    Attributes
    ----------
    patients : ndarray of str, shape (patient,)
        Patient ids.
    unit
        Time unit: ``"days"``, ``"weeks"``, ``"months"`` or ``"years"``.
    endpoints
        An `Outcome` by endpoint name.
    phases
        Phase names in order.
    phase_start, phase_end : ndarray, shape (patient, phase)
        Start and end of each phase, NaN where there was none; of stays the first start, and no
        end.
    phase_ends_known
        Whether any phase has an end column, or patients are known by stays.
    stays : Stays, or None
        Stays in phases, where these may recur; None where each phase starts and ends once.
    ordered
        Whether phases come in the order of `phases`.
    combinations
        Phases that overlapping stays were in, by the name of their combination, a phase too.
    transplant : ndarray, shape (patient,), or None
        Time of transplant, NaN without one; None if the table says nothing of transplants.
    covariates
        A `Covariate` by name.
    synthetic
        Whether the patients are simulated; carried into everything that is made of them.
    source
        Where the table came from (a file's name, never its content).
    repairs
        Repairs that were asked for, with the patients changed; and those of whom a phase or a
        transplant lay less than a hundredth of a day from the end of follow-up, which counts as
        at it.
    exclusions
        Patients of the table who are not in the cohort, by reason.
    persons : ndarray of str, shape (patient,), or None
        Id of the person to whom each row belongs, where rows are pieces or copies of persons, as
        weighted follow-up and calendar periods have them; None where every row is a person.
        Whatever leaves patients out takes all rows of a person.
    period
        Name of the covariate that says in which calendar period each row lies, where follow-up is
        cut by a `Calendar`; None where it is not.
    file_hashes : mapping of str
        SHA-256 of the bytes that were read of each file, by the file's name; of ADaM's, with that
        of the dataset. Empty where tables were in memory.

    Raises
    ------
    DataError
        If anything is inconsistent; the error carries all problems at once.
    """

    patients: NDArray[np.str_]
    unit: str
    endpoints: Mapping[str, Outcome]
    phases: tuple[str, ...]
    phase_start: Floats
    phase_end: Floats
    phase_ends_known: bool = False
    stays: Stays | None = None
    ordered: bool = True
    combinations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    transplant: Floats | None = None
    covariates: Mapping[str, Covariate] = field(default_factory=dict)
    synthetic: bool = False
    source: str = "a table"
    repairs: tuple[Repair, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    persons: NDArray[np.str_] | None = None
    period: str | None = None
    file_hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze = object.__setattr__
        problems = _problems_of_shape(self)
        if self.stays is not None and not problems:
            problems = find_problems_of_stays(
                self.patients, self.stays, self.phases, ordered=self.ordered
            )
            if not problems:
                starts = first_starts(self.stays, patients=self.size, phases=len(self.phases))
                freeze(self, "phase_start", starts)
                freeze(self, "phase_end", np.full(starts.shape, np.nan))
                freeze(self, "phase_ends_known", True)
        if not problems:
            problems = find_short_numbers(self.patients, columns_of(self), self.unit)
            self._settle()
            courses = courses_of(self.endpoints, unit=self.unit)
            problems += find_problems(self.patients, columns_of(self), courses, self.unit)
        if problems:
            raise DataError(problems, source=self.source)
        for name in ("endpoints", "covariates", "combinations", "file_hashes"):
            freeze(self, name, MappingProxyType(dict(getattr(self, name))))
        arrays = [self.patients, self.phase_start, self.phase_end]
        arrays += [covariate.values for covariate in self.covariates.values()]
        for outcome in self.endpoints.values():
            arrays += [outcome.time, outcome.event, outcome.entry]
        held = [self.transplant, self.persons]
        held += [outcome.last_negative for outcome in self.endpoints.values()]
        if self.stays is not None:
            held += [getattr(self.stays, item.name) for item in fields(self.stays)]
        arrays += [values for values in held if isinstance(values, np.ndarray)]
        for array in arrays:
            array.flags.writeable = False

    def _settle(self) -> None:
        """Let phases and transplants that all but meet the end of follow-up meet it."""
        with np.errstate(invalid="ignore"):  # infinite times are told by the rules
            settled, moved = settle(columns_of(self), InMemory(), unit=self.unit)
        freeze = object.__setattr__
        freeze(self, "phase_start", _stacked(settled.start, self.phase_start))
        freeze(self, "phase_end", _stacked(settled.end, self.phase_end))
        freeze(self, "transplant", settled.transplant)
        freeze(self, "endpoints", with_exact_events(self.endpoints, unit=self.unit))
        rows = any_of(moved, np.zeros(self.size, dtype=bool))
        if rows.any():
            who = tuple(str(patient) for patient in self.patients[rows])
            freeze(self, "repairs", (*self.repairs, Repair(rule=NEAR_TIES, patients=who)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process by being made there again."""
        return remade(self)

    @property
    def size(self) -> int:
        """Number of rows: of patients, or of their pieces."""
        return int(self.patients.size)

    def whole(self) -> Cohort:
        """Put patients together again whose follow-up is cut at calendar dates.

        Returns
        -------
        Cohort
            One row per patient, without the covariate of periods; the cohort itself where nothing
            is cut.

        Examples
        --------
        >>> import bayesblina as bb
        >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
        >>> cohort.whole() is cohort
        True
        """
        if self.period is None or self.persons is None:
            return self
        joint = joint_of(self.persons, self.endpoints)
        last, covariates = joint.last, self.covariates.items()
        return replace(
            self,
            patients=self.persons[last],
            endpoints={name: joint.outcome(own) for name, own in self.endpoints.items()},
            phase_start=self.phase_start[last],
            phase_end=self.phase_end[last],
            stays=None if self.stays is None else self.stays.of_patients(last),
            transplant=None if self.transplant is None else self.transplant[last],
            covariates={
                name: replace(own, values=own.values[joint.first])
                for name, own in covariates
                if name != self.period
            },
            persons=None,
            period=None,
        )

    @property
    def recurring(self) -> bool:
        """Whether patients are known by stays, so that phases may recur."""
        return self.stays is not None

    @property
    def doses_known(self) -> bool:
        """Whether it is known how much was given in each stay."""
        return self.stays is not None and self.stays.dose is not None

    def account(self, *, cuts: ArrayLike = ()) -> Account:
        """Say what happened to every patient of the table.

        Parameters
        ----------
        cuts : array_like, shape (n_cuts,)
            Cut points, to count phases that start exactly at one.

        Returns
        -------
        Account
            Patients read, excluded and repaired; for each endpoint those under observation, their
            events and time, and whether these events are declared to be recorded on their day or
            taken as such; and where in follow-up each phase starts, counted as R's
            ``survival::tmerge`` does. With several endpoints, how each lies to the events of the
            others: whether anybody is followed after them, or censored at them or before. Where
            it is not declared which endpoint includes which (``includes`` of `Endpoint`), the
            lines say so. Where follow-up is cut by a `Calendar`, patients are counted, not rows,
            and at last those followed up in each period, with their events and time.

        See Also
        --------
        bayesblina.PersonTime.account : what a question then makes of them.

        Examples
        --------
        >>> import bayesblina as bb
        >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
        >>> table = cohort.account().table
        >>> int(table.loc[table["step"] == "read", "patients"].iloc[0])
        267
        """
        if self.period is not None and self.persons is not None:
            whole, period = self.whole().account(cuts=cuts), self.covariates.get(self.period)
            # A scenario may know nothing of the periods themselves.
            more = [] if period is None else lines_of_periods(period, self.persons, self.endpoints)
            return replace(whole, lines=(*whole.lines, *more))
        excluded = [
            Line(step="excluded", what=left_out.reason, patients=left_out.patients)
            for left_out in self.exclusions
        ]
        read = (*map(str, self.patients), *(who for line in excluded for who in line.patients))
        lines = [Line(step="read", what=f"patients in {self.source}", patients=read), *excluded]
        lines += [
            Line(step="repaired", what=repair.rule, patients=repair.patients)
            for repair in self.repairs
        ]
        inner, starts = validate_cuts(cuts), self.phase_start
        for name, outcome in self.endpoints.items():
            lines += lines_of_endpoint(
                name, outcome, self.patients, self.phases, starts, inner, self.unit
            )
        if self.stays is not None:
            last = InMemory().latest([outcome.time for outcome in self.endpoints.values()])
            lines += lines_of_stays(self.stays, self.patients, self.phases, last)
        lines += lines_of_order(self.endpoints, self.patients, self.unit)
        return Account(lines=tuple(lines), unit=self.unit, synthetic=self.synthetic)

    def to_counting_process(
        self, *, endpoint: str | None = None, cuts: ArrayLike | None = None
    ) -> pd.DataFrame:
        """Write one row per patient and state, ready for R's ``survival`` or lifelines.

        Parameters
        ----------
        endpoint
            One endpoint; by default all, below each other.
        cuts : array_like, shape (n_cuts,), optional
            Cut points at which rows are split too.

        Returns
        -------
        pandas.DataFrame
            Columns ``patient``, ``endpoint``, ``start``, ``stop``, ``event`` (0 or 1), ``phase``;
            with `cuts` also ``interval``; then the covariates and ``transplant``, if known, and
            ``last_negative`` of endpoints whose events are found at visits, if any is.
            `bayesblina.read_counting_process` reads it back. Rows of periods of a `Calendar` are
            rows of their patient; to be read back, their covariate is left out and the calendar
            given again.

        Raises
        ------
        SpecError
            If there is no such endpoint, the cuts are impossible, or a covariate has the name of
            one of the columns.

        Examples
        --------
        >>> import bayesblina as bb
        >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
        >>> rows = cohort.to_counting_process(endpoint="os")
        >>> int(rows["event"].sum()) == int(cohort.endpoints["os"].event.sum())
        True
        """
        names = list(self.endpoints) if endpoint is None else [endpoint]
        columns = ["patient", "endpoint", "start", "stop", "event", "phase", "interval"]
        visited = any(own.last_negative is not None for own in self.endpoints.values())
        columns += ["transplant", *(["last_negative"] if visited else [])]
        taken = [name for name in columns if name in self.covariates]
        if taken:
            raise SpecError(f"Rename the covariate '{taken[0]}': a column has that name.")
        bounds, states, state = self._bounds()
        ids = self.patients if self.period is None or self.persons is None else self.persons
        wanted = validate_cuts(() if cuts is None else cuts)
        tables = []
        for name in names:
            if name not in self.endpoints:
                raise SpecError(
                    f"The cohort has no endpoint '{name}'. {nearest(name, self.endpoints)}"
                )
            outcome = self.endpoints[name]
            last = outcome.last_negative
            negative = np.full(self.size, np.nan) if last is None else last
            edges, time, entry, inner, negative = snap(
                [bounds, outcome.time, outcome.entry, wanted, negative]
            )
            seen = np.flatnonzero(np.isfinite(entry))
            row, number, start, stop = cut_follow_up(edges[:, seen], entry[seen], time[seen])
            who = seen[row]
            segment = state[number] if state.ndim == 1 else state[number, who]
            extra = {}
            if cuts is not None:
                piece, interval, _ = split(start, stop, inner)
                first = np.concatenate([[True], piece[1:] != piece[:-1]])
                last = np.concatenate([first[1:], [True]])
                knots = np.concatenate([[0.0], inner, [np.inf]])
                start = np.where(first, start[piece], knots[interval])
                stop = np.where(last, stop[piece], knots[interval + 1])
                who, segment = who[piece], segment[piece]
                extra["interval"] = interval
            final = np.concatenate([who[1:] != who[:-1], [True]]) if who.size else np.zeros(0, bool)
            tables.append(
                pd.DataFrame(
                    {
                        "patient": ids[who],
                        "endpoint": name,
                        "start": start,
                        "stop": stop,
                        "event": (outcome.event[who] & final).astype(np.int64),
                        "phase": np.asarray(states)[segment],
                        **extra,
                        **{key: covariate.shown(who) for key, covariate in self.covariates.items()},
                        **({} if self.transplant is None else {"transplant": self.transplant[who]}),
                        **({"last_negative": negative[who]} if visited else {}),
                    }
                )
            )
        result = pd.concat(tables, ignore_index=True)
        result.attrs["synthetic"] = self.synthetic
        return result

    def _bounds(self) -> tuple[Floats, tuple[str, ...], Ints]:
        """Find when patients enter each state: `state_bounds`, of stays by patient."""
        if self.stays is None:
            ends = self.phase_end if self.phase_ends_known else None
            return state_bounds(self.phases, self.phase_start, ends=ends)
        return bounds_of_stays(self.stays, self.phases, patients=self.size, ordered=self.ordered)

    def __repr__(self) -> str:
        """Show counts, never patients."""
        ends = ", ".join(
            f"{name}: {int(outcome.event.sum())} events" for name, outcome in self.endpoints.items()
        )
        whole = self.whole()
        started = ", ".join(
            f"{name}: {int(np.isfinite(whole.phase_start[:, index]).sum())}"
            for index, name in enumerate(self.phases)
        )
        return f"Cohort({self._subjects(whole)}, {self.unit}; {ends}; phases {started})"

    def _subjects(self, whole: Cohort) -> str:
        kind = "synthetic " if self.synthetic else ""
        pieces = "" if self.period is None else f" in {self.size} rows by {self.period}"
        return f"{whole.size} {kind}patients{pieces}"

    def _repr_html_(self) -> str:
        whole = self.whole()
        rows = [
            (
                f"{name}: events",
                f"{int(outcome.event.sum())} of {int(np.isfinite(outcome.entry).sum())}",
            )
            for name, outcome in whole.endpoints.items()
        ]
        rows += [
            (f"{name}: started", str(int(np.isfinite(whole.phase_start[:, index]).sum())))
            for index, name in enumerate(self.phases)
        ]
        rows += [(f"covariate {name}", own.kind) for name, own in self.covariates.items()]
        return to_html(("Cohort", f"{self._subjects(whole)}, times in {self.unit}"), rows)


def _stacked(columns: Mapping[str, Floats], like: Floats) -> Floats:
    """Put columns side by side."""
    return np.stack(list(columns.values()), axis=1) if columns else like


def _problems_of_shape(cohort: Cohort) -> list[Problem]:
    size, known = cohort.size, ", ".join(DAYS_PER_UNIT)
    empty = (
        (cohort.unit not in DAYS_PER_UNIT, "unit", f"'{cohort.unit}'", f"Expected one of {known}."),
        (not cohort.endpoints, "endpoints", "none", "Declare at least one endpoint."),
        (size == 0, "patient", "no rows", "Expected one row per patient."),
    )
    problems = [
        Problem(column=column, found=found, expected=expected)
        for wrong, column, found, expected in empty
        if wrong
    ]
    sized: dict[str, Any] = {
        f"{name}.{kind}": getattr(outcome, kind)
        for kind in ("time", "event", "entry", "last_negative")
        for name, outcome in cohort.endpoints.items()
    }
    sized |= {name: covariate.values for name, covariate in cohort.covariates.items()}
    sized |= {"transplant": cohort.transplant, "persons": cohort.persons}
    phases = {"phase_start": cohort.phase_start, "phase_end": cohort.phase_end}
    expected = dict.fromkeys(sized, (size,)) | dict.fromkeys(phases, (size, len(cohort.phases)))
    return problems + [
        Problem(column=name, found=f"shape {array.shape}", expected=f"Expected {expected[name]}.")
        for name, array in (sized | phases).items()
        if array is not None and array.shape != expected[name]
    ]


def columns_of(cohort: Cohort) -> PatientColumns:
    """Lay out the columns of a cohort, possibly not valid, for `bayesblina.patients.rules`."""
    return PatientColumns(
        time={name: outcome.time for name, outcome in cohort.endpoints.items()},
        entry={name: outcome.entry for name, outcome in cohort.endpoints.items()},
        last_negative={
            name: outcome.last_negative
            for name, outcome in cohort.endpoints.items()
            if outcome.last_negative is not None
        },
        start={name: cohort.phase_start[:, index] for index, name in enumerate(cohort.phases)},
        end={name: cohort.phase_end[:, index] for index, name in enumerate(cohort.phases)},
        transplant=cohort.transplant,
        covariates={name: covariate.values for name, covariate in cohort.covariates.items()},
        ordered=cohort.ordered,
    )
