"""Patients as validated values: endpoints, ordered treatment phases, covariates, time unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesblina.core.arrays import Floats
from bayesblina.core.endpoint_order import (
    Courses,
    find_breaches,
    order_of_endpoints,
    require_includes,
)
from bayesblina.core.episodes import POSITIONS, cut_follow_up, state_bounds
from bayesblina.core.errors import NAMED_PATIENTS, DataError, Problem, SpecError, nearest
from bayesblina.core.intervals import snap, split, validate_cuts
from bayesblina.patients.account import (
    BRIEF,
    DECLARED,
    NOT_BRIEF,
    UNDECLARED,
    Account,
    Line,
    to_html,
)
from bayesblina.patients.rules import (
    DAYS_PER_UNIT,
    NEAR_TIES,
    SHORT_EXPECTED,
    SHORT_FOUND,
    Columns,
    InMemory,
    any_of,
    is_brief,
    lost_to_short_numbers,
    most_are_brief,
    rules,
    settle,
    tie_of,
    unit_words,
)

RESERVED_PHASES = frozenset({"entry", "off treatment", "transplant"})

Recorded = Literal["exact", "visits"]
VISITS = (
    "recorded = 'visits': an event that is found at a visit happened at some time since the visit "
    "before, which takes a likelihood of its own, and that is not part of bayesblina yet: it is to "
    "come. Until then declare recorded = 'exact', which takes the day of the visit for that of the "
    "event, and read what check says of event times before the hazard ratio"
)


def require_recorded(recorded: object) -> None:
    """Refuse what cannot be said of how an endpoint's events are recorded."""
    if recorded == "visits":
        raise SpecError(f"{VISITS}.")
    if recorded not in (None, "exact"):
        raise SpecError(f"recorded must be 'exact' or 'visits', got {recorded!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Columns of one time-to-event endpoint.

    Parameters
    ----------
    time
        Column with the time of the event or of censoring, from the common origin.
    event
        Column with 1 (event) or 0 (censored).
    entry
        Column with the time at which the patient came under observation for this endpoint
        (delayed entry); a missing value means that the patient never did. Without it, everybody
        enters at time 0.
    recorded
        How events are recorded: ``"exact"``, on the day on which they happened, or ``"visits"``,
        on that of the visit at which they were found, as relapses are. Without it they are taken
        as exact, and results say so. Whatever is declared, event times are looked at:
        `bayesblina.person_time.event_times`.
    includes
        Names of the endpoints whose every event is an event of this one too, as every death is
        one of relapse-free survival: ``("os",)``. Patients who contradict it are then refused, and
        without it only counted (`bayesblina.Cohort.account`).

    Raises
    ------
    SpecError
        If `recorded` is ``"visits"``, for which there is no likelihood yet, or unknown; or
        `includes` is no list of names.

    Examples
    --------
    >>> Endpoint(time="rfs_months", event="relapse_or_death", entry="remission_month").entry
    'remission_month'
    >>> Endpoint(time="os_months", event="died", recorded="exact").recorded
    'exact'
    >>> Endpoint(time="rfs_months", event="relapse_or_death", includes=["os"]).includes
    ('os',)
    """

    time: str
    event: str
    entry: str | None = None
    recorded: Recorded | None = None
    includes: Sequence[str] = ()

    def __post_init__(self) -> None:
        require_recorded(self.recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Columns of one treatment phase.

    Parameters
    ----------
    start
        Column with the time at which the phase starts; missing if it never did.
    end
        Column with the time at which it ends, if ends are known; missing if it went on.
    """

    start: str
    end: str | None = None


class Phases:
    """Ordered treatment phases and the columns that hold their starts.

    Parameters
    ----------
    **phases
        Phase names in the order in which patients pass through them, each with its start column
        or a `Phase`.

    Examples
    --------
    >>> Phases(consolidation="c_month", maintenance=Phase(start="m_month", end="m_end")).names
    ('consolidation', 'maintenance')
    """

    __slots__ = ("_phases",)

    def __init__(self, /, **phases: str | Phase) -> None:
        self._phases = MappingProxyType(
            {
                name: phase if isinstance(phase, Phase) else Phase(start=phase)
                for name, phase in phases.items()
            }
        )
        if not phases:
            raise SpecError("Name at least one phase: Phases(maintenance='maintenance_month').")
        for name in phases:
            if name in RESERVED_PHASES or name.startswith("before "):
                raise SpecError(f"'{name}' has a meaning of its own; give the phase another name.")

    @classmethod
    def from_dict(cls, phases: Mapping[str, str | Phase]) -> Phases:
        """Make phases from a mapping, for names that are no Python identifiers.

        Parameters
        ----------
        phases
            Phase names in order, each with its start column or a `Phase`.

        Returns
        -------
        Phases
            The same as ``Phases(**phases)``.
        """
        return cls(**phases)

    @property
    def names(self) -> tuple[str, ...]:
        """Phase names in order."""
        return tuple(self._phases)

    def items(self) -> tuple[tuple[str, Phase], ...]:
        """Names and columns, in order."""
        return tuple(self._phases.items())

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process by being made there again."""
        return Phases.from_dict, (dict(self._phases),)

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return f"Phases({', '.join(f'{name}={phase!r}' for name, phase in self.items())})"

    def __eq__(self, other: object) -> bool:
        """Compare names, order and columns."""
        return isinstance(other, Phases) and self.items() == other.items()

    def __hash__(self) -> int:
        """Hash names, order and columns."""
        return hash(self.items())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """One endpoint of all patients.

    Attributes
    ----------
    time : ndarray, shape (patient,)
        Time of event or censoring; NaN where the patient never came under observation.
    event : ndarray of bool, shape (patient,)
        Whether the time is that of an event.
    entry : ndarray, shape (patient,)
        Time of entry into observation; NaN where there was none.
    recorded
        ``"exact"`` if events are declared to be recorded on their day; None if nothing is
        declared, and they are taken as such.
    includes
        Names of the endpoints whose every event is declared to be an event of this one. One that
        the cohort does not have says nothing.
    """

    time: Floats
    event: NDArray[np.bool_]
    entry: Floats
    recorded: Recorded | None = None
    includes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_recorded(self.recorded)
        object.__setattr__(self, "includes", require_includes(self.includes))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Covariate:
    """One baseline covariate of all patients.

    Attributes
    ----------
    kind
        ``"categorical"`` or ``"continuous"``.
    values : ndarray, shape (patient,)
        Numbers, or for a categorical covariate the position of each patient's level.
    levels
        Levels of a categorical covariate, the reference first; empty for a continuous one.
    """

    kind: Literal["categorical", "continuous"]
    values: Floats
    levels: tuple[str, ...] = ()


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
        Start and end of each phase, NaN where there was none.
    phase_ends_known
        Whether any phase has an end column.
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
        weighted follow-up has them; None where every row is a person. Whatever leaves patients out
        takes all rows of a person.
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
    transplant: Floats | None = None
    covariates: Mapping[str, Covariate] = field(default_factory=dict)
    synthetic: bool = False
    source: str = "a table"
    repairs: tuple[Repair, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    persons: NDArray[np.str_] | None = None
    file_hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = _problems_of_shape(self)
        if not problems:
            problems = _short_numbers(self)
            self._settle()
            problems += find_problems(self)
        if problems:
            raise DataError(problems, source=self.source)
        freeze = object.__setattr__
        freeze(self, "endpoints", MappingProxyType(dict(self.endpoints)))
        freeze(self, "covariates", MappingProxyType(dict(self.covariates)))
        freeze(self, "file_hashes", MappingProxyType(dict(self.file_hashes)))
        arrays = [self.patients, self.phase_start, self.phase_end]
        arrays += [covariate.values for covariate in self.covariates.values()]
        for outcome in self.endpoints.values():
            arrays += [outcome.time, outcome.event, outcome.entry]
        arrays += [one for one in (self.transplant, self.persons) if one is not None]
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
        rows = any_of(moved, np.zeros(self.size, dtype=bool))
        if rows.any():
            who = tuple(str(patient) for patient in self.patients[rows])
            freeze(self, "repairs", (*self.repairs, Repair(rule=NEAR_TIES, patients=who)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process by being made there again."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values["endpoints"] = dict(self.endpoints)
        values["covariates"] = dict(self.covariates)
        values["file_hashes"] = dict(self.file_hashes)
        return _made, (values,)

    @property
    def size(self) -> int:
        """Number of patients."""
        return int(self.patients.size)

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
            lines say so.

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
        out = tuple(patient for one in self.exclusions for patient in one.patients)
        whole = (*map(str, self.patients), *out)
        lines = [Line(step="read", what=f"patients in {self.source}", patients=whole)]
        lines += [
            Line(step="excluded", what=one.reason, patients=one.patients) for one in self.exclusions
        ]
        lines += [
            Line(step="repaired", what=one.rule, patients=one.patients) for one in self.repairs
        ]
        for name in self.endpoints:
            lines += self._account_of(name, validate_cuts(cuts))
        lines += self._order()
        return Account(lines=tuple(lines), unit=self.unit, synthetic=self.synthetic)

    def _order(self) -> list[Line]:
        """Say how endpoints lie to each other's events."""
        seen = order_of_endpoints(courses_of(self.endpoints, unit=self.unit))
        return [
            Line(
                step="order",
                endpoint=one.endpoint,
                what=one.what,
                patients=tuple(str(patient) for patient in self.patients[one.rows]),
                events=int(one.events.sum()),
            )
            for one in seen
            if one.rows.any()
        ]

    def _account_of(self, name: str, cuts: Floats) -> list[Line]:
        outcome = self.endpoints[name]
        time, entry, starts, cuts = snap([outcome.time, outcome.entry, self.phase_start, cuts])
        seen = np.isfinite(entry)

        def line(rows: NDArray[np.bool_], **what: Any) -> Line:
            ids = tuple(str(patient) for patient in self.patients[rows])
            return Line(endpoint=name, patients=ids, **what)

        lines = [
            line(
                seen,
                step="observed",
                what="under observation",
                events=int(outcome.event[seen].sum()),
                person_time=float((time[seen] - entry[seen]).sum()),
            )
        ]
        brief = seen & is_brief(time, entry, self.unit)
        if most_are_brief(int(brief.sum()), int(seen.sum())):
            lines.append(line(brief, step="follow-up", what=BRIEF))
            lines.append(line(seen & ~brief, step="follow-up", what=NOT_BRIEF))
        if not seen.all():
            lines.append(line(~seen, step="observed", what="never under observation"))
        happened = seen & outcome.event
        lines.append(
            line(
                happened,
                step="recorded",
                what=DECLARED if outcome.recorded == "exact" else UNDECLARED,
                events=int(happened.sum()),
            )
        )
        for index, phase in enumerate(self.phases):
            start = starts[:, index]
            inside = (start > entry) & (start < time)
            met = np.isin(start, cuts)
            for other in range(index):
                met |= start == starts[:, other]
            where = {
                "early": start < entry,
                "leading": start == entry,
                "within": inside & ~met,
                "boundary": inside & met,
                "trailing": start == time,
                "late": start > time,
            }
            lines += [
                line(rows, step="phase start", phase=phase, what=POSITIONS[position])
                for position, rows in where.items()
                if rows.any() or position == "within"
            ]
        return lines

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
            with `cuts` also ``interval``; then the covariates and ``transplant``, if known.
            `bayesblina.read_counting_process` reads it back.

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
        taken = [name for name in (*columns, "transplant") if name in self.covariates]
        if taken:
            raise SpecError(f"Rename the covariate '{taken[0]}': a column has that name.")
        ends = self.phase_end if self.phase_ends_known else None
        bounds, states, state = state_bounds(self.phases, self.phase_start, ends=ends)
        wanted = validate_cuts(() if cuts is None else cuts)
        tables = []
        for name in names:
            if name not in self.endpoints:
                raise SpecError(
                    f"The cohort has no endpoint '{name}'. {nearest(name, self.endpoints)}"
                )
            outcome = self.endpoints[name]
            edges, time, entry, inner = snap([bounds, outcome.time, outcome.entry, wanted])
            seen = np.flatnonzero(np.isfinite(entry))
            row, segment, start, stop = cut_follow_up(edges[:, seen], entry[seen], time[seen])
            who = seen[row]
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
                        "patient": self.patients[who],
                        "endpoint": name,
                        "start": start,
                        "stop": stop,
                        "event": (outcome.event[who] & final).astype(np.int64),
                        "phase": np.asarray(states)[state[segment]],
                        **extra,
                        **{
                            key: _shown(covariate, who)
                            for key, covariate in self.covariates.items()
                        },
                        **({} if self.transplant is None else {"transplant": self.transplant[who]}),
                    }
                )
            )
        result = pd.concat(tables, ignore_index=True)
        result.attrs["synthetic"] = self.synthetic
        return result

    def __repr__(self) -> str:
        """Show counts, never patients."""
        ends = ", ".join(
            f"{name}: {int(outcome.event.sum())} events" for name, outcome in self.endpoints.items()
        )
        started = ", ".join(
            f"{name}: {int(np.isfinite(self.phase_start[:, index]).sum())}"
            for index, name in enumerate(self.phases)
        )
        kind = "synthetic " if self.synthetic else ""
        return f"Cohort({self.size} {kind}patients, {self.unit}; {ends}; phases {started})"

    def _repr_html_(self) -> str:
        kind = "synthetic " if self.synthetic else ""
        rows = [
            (
                f"{name}: events",
                f"{int(outcome.event.sum())} of {int(np.isfinite(outcome.entry).sum())}",
            )
            for name, outcome in self.endpoints.items()
        ]
        rows += [
            (f"{name}: started", str(int(np.isfinite(self.phase_start[:, index]).sum())))
            for index, name in enumerate(self.phases)
        ]
        rows += [(f"covariate {name}", one.kind) for name, one in self.covariates.items()]
        return to_html(("Cohort", f"{self.size} {kind}patients, times in {self.unit}"), rows)


def _stacked(columns: Mapping[str, Floats], like: Floats) -> Floats:
    """Put columns side by side."""
    return np.stack(list(columns.values()), axis=1) if columns else like


def _made(values: dict[str, Any]) -> Cohort:
    return Cohort(**values)


def _shown(covariate: Covariate, rows: NDArray[np.int64]) -> Any:
    """Give a covariate's values as the table had them."""
    values = covariate.values[rows]
    if covariate.kind == "continuous":
        return values
    dtype = pd.CategoricalDtype(list(covariate.levels))
    return pd.Categorical(np.asarray(covariate.levels)[values.astype(np.int64)], dtype=dtype)


def find_problems(cohort: Cohort) -> list[Problem]:
    """Find everything that is inconsistent in a cohort's arrays.

    Parameters
    ----------
    cohort
        The cohort, possibly not valid.
    """
    problems = _problems_of_shape(cohort)
    if problems:
        return problems
    ids = cohort.patients

    def report(role: str, rows: NDArray[np.bool_], found: str, expected: str) -> None:
        if rows.any():
            who = tuple(dict.fromkeys(str(patient) for patient in ids[rows]))
            numbers = _numbers_of(rows)
            problems.append(
                Problem(column=role, found=found, expected=expected, patients=who, rows=numbers)
            )

    missing = np.flatnonzero(ids == "")
    if missing.size:
        rows = ", ".join(str(row + 1) for row in missing[:NAMED_PATIENTS])
        more = f" and {missing.size - NAMED_PATIENTS} more" if missing.size > 10 else ""
        problems.append(
            Problem(
                column="patient",
                found=f"missing ids in rows {rows}{more}",
                expected="Every patient needs an id.",
            )
        )
    unique, counts = np.unique(ids, return_counts=True)
    report(
        "patient",
        np.isin(ids, unique[(counts > 1) & (unique != "")]),
        "ids that stand in more than one row",
        "Expected one row per patient; merge or rename them.",
    )
    for broken in rules(columns_of(cohort), InMemory(), unit=cohort.unit):
        report(broken.role, broken.rows, broken.found, broken.expected)
    for breach in find_breaches(courses_of(cohort.endpoints, unit=cohort.unit)):
        report(breach.role, breach.rows, breach.found, breach.expected)
    problems += _check_unit(cohort)
    return problems


def _short_numbers(cohort: Cohort) -> list[Problem]:
    """Find columns of too few digits, before near ties of them are settled."""
    times = [outcome.time for outcome in cohort.endpoints.values()]
    problems = []
    for role, mark in marks_of(cohort).items():
        rows = lost_to_short_numbers(mark, times, tie_of(cohort.unit))
        if rows.any():
            problems.append(
                Problem(
                    column=role,
                    found=SHORT_FOUND,
                    expected=SHORT_EXPECTED,
                    patients=tuple(str(patient) for patient in cohort.patients[rows]),
                    rows=_numbers_of(rows),
                )
            )
    return problems


def _numbers_of(rows: NDArray[np.bool_]) -> tuple[int, ...]:
    """List the numbers of the first of some rows, one more than are shown."""
    return tuple((np.flatnonzero(rows)[: NAMED_PATIENTS + 1] + 1).tolist())


def marks_of(cohort: Cohort) -> dict[str, Floats]:
    """Lay out all times at which states may begin, by role.

    Parameters
    ----------
    cohort
        The cohort, possibly not valid.

    Returns
    -------
    dict of ndarray, shape (patient,)
        Starts and ends of phases, and times of transplants.
    """
    return columns_of(cohort).marks()


def _problems_of_shape(cohort: Cohort) -> list[Problem]:
    problems = []
    if cohort.unit not in DAYS_PER_UNIT:
        known = ", ".join(DAYS_PER_UNIT)
        problems.append(
            Problem(column="unit", found=f"'{cohort.unit}'", expected=f"Expected one of {known}.")
        )
    if not cohort.endpoints:
        problems.append(
            Problem(column="endpoints", found="none", expected="Declare at least one endpoint.")
        )
    if cohort.size == 0:
        problems.append(
            Problem(column="patient", found="no rows", expected="Expected one row per patient.")
        )
    size = cohort.size
    shape = (size, len(cohort.phases))
    sized = {
        **{f"{name}.time": outcome.time.shape for name, outcome in cohort.endpoints.items()},
        **{f"{name}.event": outcome.event.shape for name, outcome in cohort.endpoints.items()},
        **{f"{name}.entry": outcome.entry.shape for name, outcome in cohort.endpoints.items()},
        **{name: covariate.values.shape for name, covariate in cohort.covariates.items()},
    }
    if cohort.transplant is not None:
        sized["transplant"] = cohort.transplant.shape
    if cohort.persons is not None:
        sized["persons"] = cohort.persons.shape
    problems += [
        Problem(column=name, found=f"shape {found}", expected=f"Expected ({size},).")
        for name, found in sized.items()
        if found != (size,)
    ]
    problems += [
        Problem(column=name, found=f"shape {array.shape}", expected=f"Expected {shape}.")
        for name, array in (("phase_start", cohort.phase_start), ("phase_end", cohort.phase_end))
        if array.shape != shape
    ]
    return problems


def columns_of(cohort: Cohort) -> Columns:
    """Lay out a cohort's times for `bayesblina.patients.rules`.

    Parameters
    ----------
    cohort
        The cohort, possibly not valid.
    """
    return Columns(
        time={name: outcome.time for name, outcome in cohort.endpoints.items()},
        entry={name: outcome.entry for name, outcome in cohort.endpoints.items()},
        start={name: cohort.phase_start[:, index] for index, name in enumerate(cohort.phases)},
        end={name: cohort.phase_end[:, index] for index, name in enumerate(cohort.phases)},
        transplant=cohort.transplant,
        covariates={name: covariate.values for name, covariate in cohort.covariates.items()},
    )


def courses_of(endpoints: Mapping[str, Outcome], *, unit: str) -> Courses:
    """Lay out endpoints for `bayesblina.core.endpoint_order`.

    Parameters
    ----------
    unit
        Time unit, which says what times are one.
    """
    arithmetic = InMemory()
    return Courses(
        time={name: outcome.time for name, outcome in endpoints.items()},
        event={name: outcome.event for name, outcome in endpoints.items()},
        entry={name: outcome.entry for name, outcome in endpoints.items()},
        includes={name: outcome.includes for name, outcome in endpoints.items()},
        known=arithmetic.known,
        near=partial(tie_of(unit).near, arithmetic=arithmetic),
    )


def last_seen(endpoints: Mapping[str, Outcome]) -> Floats:
    """Find the end of follow-up over all endpoints.

    Returns
    -------
    ndarray, shape (patient,)
        The latest time of each patient; infinite where none is known.
    """
    found: Floats = InMemory().latest([outcome.time for outcome in endpoints.values()])
    return found


def _check_unit(cohort: Cohort) -> list[Problem]:
    problems = []
    for name, outcome in cohort.endpoints.items():
        # With delayed entry, or age as the time scale, follow-up is not the time of its end.
        known = np.isfinite(outcome.time) & np.isfinite(outcome.entry)
        seen = outcome.time[known] - outcome.entry[known]
        seen = seen[seen > 0]
        if not seen.size:
            continue
        words = unit_words(cohort.unit, float(np.median(seen)), float(seen.max()))
        if words is not None:
            found, expected = words
            problems.append(Problem(column=f"{name}.time", found=found, expected=expected))
    return problems
