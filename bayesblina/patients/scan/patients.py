"""Patients in a table of a query engine: declared, checked and described, never read whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from bayesblina.core.endpoint_order import order_of_endpoints
from bayesblina.core.errors import Problem
from bayesblina.patients.account import BRIEF, NOT_BRIEF, Account, Line
from bayesblina.patients.declarations import Courses, Endpoint, Phases
from bayesblina.patients.readers.columns import CovariateKind
from bayesblina.patients.readers.roles import roles_of_columns
from bayesblina.patients.readers.sources import (
    file_error,
    raise_problems,
    refuse,
    require_columns,
    require_roles,
    sha256_of,
    sha256_of_all,
)
from bayesblina.patients.readers.wide import check_call
from bayesblina.patients.rules import (
    NEAR_TIES,
    NearTies,
    PatientColumns,
    is_brief,
    most_are_brief,
    unit_fault,
)
from bayesblina.patients.scan.checks import (
    KINDS,
    Declared,
    count_rows,
    courses_of,
    find_contradictions,
    find_problems,
    levels_of,
    settled_columns,
)
from bayesblina.patients.scan.engines import open_table, settled, stamps
from bayesblina.patients.scan.reading import (
    InEngine,
    Reading,
    column_name,
    kinds_of,
    numbers_of,
    read_columns,
)
from bayesblina.patients.scan.stays import ScannedStays, join_stays

if TYPE_CHECKING:
    import ibis.expr.types as ir

MEMORY_LIMIT = "1GB"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedCovariate:
    """A covariate of the patients of a scan.

    Attributes
    ----------
    name, kind
        Its name; ``"categorical"`` or ``"continuous"``.
    levels
        Levels of a categorical covariate, sorted.
    """

    name: str
    kind: CovariateKind
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CohortScan:
    """Validated patients in a table of a query engine.

    Made by `scan_cohort`; `bayesblina.person_time` and `bayesblina.fit` take it in place of a
    `Cohort`.

    Attributes
    ----------
    table : ibis table expression
        One row per patient, with the columns that `column` names.
    unit
        Time unit.
    endpoints
        Endpoints by name, with the columns that they were read from.
    phases
        Phase names in order.
    phase_ends_known
        Whether any phase has an end column.
    transplant
        Column of the time of transplant; None if nothing is known of transplants.
    covariates
        The covariates.
    size
        Number of patients.
    near_ties
        Number of patients of whom a phase or a transplant lay less than a hundredth of a day from
        the end of follow-up, which counts as at it.
    synthetic
        Whether the patients are simulated.
    source
        Where the table came from (never its content).
    embedded
        Whether the engine is DuckDB in this process, started for this table.
    path
        Path or glob of the files; None for other tables.
    files
        Their names, sizes and times of the last change when they were checked.
    stays
        What is known of the table of stays; None where each phase starts and ends once.
    """

    table: ir.Table = field(repr=False)
    unit: str
    endpoints: Mapping[str, Endpoint]
    phases: tuple[str, ...]
    phase_ends_known: bool
    transplant: str | None
    covariates: tuple[ScannedCovariate, ...]
    size: int
    near_ties: int
    synthetic: bool
    source: str
    embedded: bool
    path: str | None = field(default=None, repr=False)
    files: tuple[tuple[str, int, int], ...] = field(default=(), repr=False)
    stays: ScannedStays | None = field(default=None, repr=False)

    @property
    def recurring(self) -> bool:
        """Whether patients are known by stays, so that phases may recur."""
        return self.stays is not None

    @property
    def ordered(self) -> bool:
        """Whether phases come in the order given."""
        return self.stays is None or self.stays.ordered

    @property
    def combinations(self) -> Mapping[str, tuple[str, ...]]:
        """Phases that overlapping stays were in, by the name of their combination."""
        return {} if self.stays is None else self.stays.combinations

    @property
    def doses_known(self) -> bool:
        """Whether it is known how much was given in each stay."""
        return self.stays is not None and self.stays.doses_known

    def __reduce__(self) -> NoReturn:
        """Refuse to go to another process: an engine's connection cannot."""
        raise TypeError(
            "A CohortScan cannot be pickled: its patients stay in their query engine, which other "
            "processes do not share. Call bayesblina.scan_cohort there, or send a Fit or an "
            "PersonTime."
        )

    @property
    def continuous(self) -> list[str]:
        """Names of the continuous covariates."""
        return [covariate.name for covariate in self.covariates if covariate.kind == "continuous"]

    def require_unchanged(self) -> None:
        """Raise if files are others than those that were checked.

        Raises
        ------
        DataError
            If so.
        """
        for held in (self, self.stays):
            if held is None or held.path is None:
                continue
            if stamps(held.path, self.table.get_backend()) != held.files:
                raise file_error(
                    "it is not as it was when it was scanned",
                    "Files must stay as they are while they are used; scan them again.",
                    held.source,
                )

    def hash_files(self) -> dict[str, str]:
        """Hash the bytes of the files, which are those that were checked.

        Returns
        -------
        dict of str
            SHA-256 by the name of the file. Several files have one hash, by the glob and their
            number: what ``sha256sum part1.parquet part2.parquet | sha256sum`` gives, in the order
            of their names from the folder that holds them all. Empty for other tables.

        Raises
        ------
        DataError
            If the file has changed.
        """
        digests = _digests(self.files, self.source)
        if self.stays is not None:
            of_stays = _digests(self.stays.files, self.stays.source)
            digests |= {f"{name} (stays)": digest for name, digest in of_stays.items()}
        self.require_unchanged()
        return digests

    def account(self) -> Account:
        """Count the patients read, whose times were settled, and whose follow-up is how.

        Most patients' follow-up of less than a day is told, as by `Cohort.account`, and how
        endpoints lie to each other.

        Returns
        -------
        Account
            Without ids; patients are gone through once.

        Raises
        ------
        DataError
            If files have changed.
        """
        self.require_unchanged()
        line = partial(Line, patients=())
        lines = [line(step="read", what=f"patients in {self.source}", count=self.size)]
        of_stays = () if self.stays is None else self.stays.lines
        lines += [own for own in of_stays if own.step == "repaired"]
        if self.near_ties:
            lines.append(line(step="repaired", what=NEAR_TIES, count=self.near_ties))
        courses = courses_of(self.endpoints, self.column, unit=self.unit)
        orders = list(order_of_endpoints(courses))
        observed, brief, ordered, events = count_rows(
            self.table,
            self.source,
            [entry.notnull() for entry in courses.entry.values()],
            [is_brief(courses.time[name], courses.entry[name], self.unit) for name in courses.time],
            [order.rows for order in orders],
            [order.events for order in orders],
        )
        for name, seen, short in zip(self.endpoints, observed, brief, strict=True):
            if most_are_brief(short, seen):
                lines += [
                    line(step="follow-up", endpoint=name, what=what, count=count)
                    for what, count in ((BRIEF, short), (NOT_BRIEF, seen - short))
                ]
        lines += [own for own in of_stays if own.step != "repaired"]
        lines += [
            line(step="order", endpoint=order.endpoint, what=order.what, count=count, events=number)
            for order, count, number in zip(orders, ordered, events, strict=True)
            if count
        ]
        return Account(lines=tuple(lines), unit=self.unit, synthetic=self.synthetic)

    def column(self, kind: str, name: str = "") -> Any:
        """Pick a column of the table by what it holds.

        Parameters
        ----------
        kind
            ``"patient"``, ``"transplant"``; or with a name ``"time"``, ``"event"``, ``"entry"``,
            ``"start"``, ``"end"`` or ``"covariate"``.
        name
            The endpoint, phase or covariate.

        Returns
        -------
        ibis column
            Times are numbers, missing where there is none; events are booleans; categorical
            covariates are text.
        """
        return self.table[column_name(kind, name)]

    def __repr__(self) -> str:
        """Show counts, never patients."""
        kind = "synthetic " if self.synthetic else ""
        return (
            f"CohortScan({self.size} {kind}patients in {self.source}, {self.unit}; "
            f"{', '.join(self.endpoints)}; phases {', '.join(self.phases)})"
        )


def scan_cohort(
    table: Any,
    *,
    patient: str,
    unit: str,
    endpoints: Mapping[str, Endpoint] | Endpoint,
    phases: Phases | Courses,
    covariates: Sequence[str] | Mapping[str, CovariateKind] = (),
    transplant: str | None = None,
    synthetic: bool = False,
    memory_limit: str = MEMORY_LIMIT,
) -> CohortScan:
    """Declare and check one row per patient in a table that need not fit into memory.

    The same arguments as for `read_cohort`, the same rules, the same words for what breaks them.
    All of it runs in the engine, which names the first patients of each problem and counts the
    rest.

    Parameters
    ----------
    table
        Path or glob of Parquet or CSV files (``"patients/*.parquet"``); a DataFrame; or an ibis
        table expression of any engine.
    patient
        Column with patient ids; unique, none missing.
    unit
        Unit of all times: ``"days"``, ``"weeks"``, ``"months"`` or ``"years"``.
    endpoints
        Endpoints by name, or a single one (then called ``"survival"``).
    phases
        Ordered treatment phases; or `Courses`, a table of stays in the same engine: DuckDB or
        Spark.
    covariates
        Baseline covariates, as for `read_cohort`.
    transplant
        Column with the time of transplant, if there is one.
    synthetic
        Whether the patients are simulated.
    memory_limit
        What DuckDB may use, for files and DataFrames; it goes on with a temporary folder beyond.

    Returns
    -------
    CohortScan
        The patients, where they are.

    Raises
    ------
    DataError
        If anything in the table is wrong, with all problems at once.
    SpecError
        If the call itself is impossible (events recorded at visits need patients in memory), or
        the extra ``scale`` is not installed.

    See Also
    --------
    read_cohort : patients in memory, for everything that looks at single patients.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {"id": ["a", "b"], "months": [4.0, 9.0], "died": [1, 0], "start": [2.0, None]}
    ... )
    >>> scan_cohort(
    ...     table,
    ...     patient="id",
    ...     unit="months",
    ...     endpoints={"os": Endpoint(time="months", event="died")},
    ...     phases=Phases(maintenance="start"),
    ... )
    CohortScan(2 patients in the table, months; os; phases maintenance)
    """
    endpoints = check_call(endpoints, Endpoint, phases, covariates)
    visited = any(endpoint.recorded == "visits" for endpoint in endpoints.values())
    refuse(
        unit_fault(unit),
        (not endpoints, "Declare at least one endpoint."),
        (visited, "Events recorded at visits need patients in memory: read them with read_cohort."),
    )
    raw, source, embedded = open_table(table, memory_limit)
    files = stamps(table, raw.get_backend()) if embedded else ()
    roles = roles_of_columns(patient, endpoints, phases, transplant)
    require_roles(roles, covariates, phases.names)
    require_columns(raw.columns, [*roles.values(), *covariates], source)
    reading = Reading(raw, patient)
    kinds = kinds_of(raw, covariates, source)
    columns = read_columns(reading, endpoints, phases, transplant, kinds)
    as_read = numbers_of(columns, endpoints, phases, kinds)
    categorical = {
        name: columns[column_name("covariate", name)]
        for name, kind in kinds.items()
        if kind == "categorical"
    }
    told = list(reading.broken.values())
    role_of = {column: role for role, column in roles.items()}
    declared = Declared(
        unit=unit,
        roles=roles,
        ends=tuple(name for name, phase in phases.items() if phase.end is not None),
        names={kind: tuple(getattr(as_read, kind)) for kind in KINDS},
        times=tuple(role_of[column] for column in reading.times),
        told=tuple(reading.broken),
    )
    problems, size, near = find_problems(reading, declared, as_read, told, source)
    levels, more = levels_of(reading, categorical, source)
    problems += more
    courses = courses_of(endpoints, lambda kind, name: columns[column_name(kind, name)], unit=unit)
    problems += find_contradictions(reading, courses, roles, source)
    if not size:
        problems = [
            Problem(column="patient", found="no rows", expected="Expected one row per patient.")
        ]
    raise_problems(problems, source)
    read, names, stays = raw.select(**columns), phases.names, None
    if isinstance(phases, Courses):
        joined = join_stays(
            read,
            phases,
            endpoints,
            unit=unit,
            source=source,
            embedded=embedded,
            memory_limit=memory_limit,
        )
        read, embedded, names, stays = joined.table, joined.embedded, joined.names, joined.stays
        declared, as_read = _of_settled(read, declared, as_read, names, stays.ordered)
        problems, _, near = find_problems(Reading(read, "patient"), declared, as_read, (), source)
        raise_problems(problems, source)
    if near.patients:  # which costs time in every pass
        read = _with_near_ties(read, as_read, unit, declared.ends, near)
    return CohortScan(
        table=settled(read) if embedded else read,
        embedded=embedded,
        unit=unit,
        endpoints=dict(endpoints),
        phases=names,
        phase_ends_known=stays is not None or bool(declared.ends),
        stays=stays,
        transplant=transplant,
        covariates=tuple(
            ScannedCovariate(name=name, kind=kind, levels=levels.get(name, ()))
            for name, kind in kinds.items()
        ),
        size=size,
        near_ties=near.patients,
        synthetic=synthetic,
        source=source,
        path=str(table) if files else None,
        files=files,
    )


def _digests(files: Sequence[tuple[str, int, int]], source: str) -> dict[str, str]:
    """Hash the bytes of some files together, by what they are called."""
    names = [name for name, _, _ in files]
    if not names:
        return {}
    try:
        digest = sha256_of(names[0]) if len(names) == 1 else sha256_of_all(names)
    except OSError:  # a file that is gone is told as one that changed
        digest = ""
    return {source if len(names) == 1 else f"{source} ({len(names)} files)": digest}


def _of_settled(
    table: Any, declared: Declared, columns: PatientColumns, names: Sequence[str], ordered: bool
) -> tuple[Declared, PatientColumns]:
    """Declare the starts of phases that were taken from stays, beside all else.

    `table`: patients with their settled stays.
    """
    declared = replace(
        declared,
        roles={**declared.roles, **{f"{name}.start": f"{name}.start" for name in names}},
        names={**declared.names, "start": tuple(names), "end": tuple(names)},
        times=(),
        told=(),
        ordered=ordered,
    )
    own = {
        kind: {name: table[column_name(kind, name)] for name in held}
        for kind, held in declared.names.items()
        if kind != "covariates"
    }
    covariates = {name: table[column_name("covariate", name)] for name in columns.covariates}
    transplant = None if columns.transplant is None else table[column_name("transplant")]
    return declared, PatientColumns(
        **own, covariates=covariates, transplant=transplant, ordered=ordered
    )


def _with_near_ties(
    table: Any, read: PatientColumns, unit: str, ends: Sequence[str], near: NearTies
) -> Any:
    """Settle near ties of a table whose columns are read, where there are any."""
    ties, _ = settled_columns(
        PatientColumns(
            time={name: table[column_name("time", name)] for name in read.time},
            entry={},
            start={name: table[column_name("start", name)] for name in read.start},
            end={name: table[column_name("end", name)] for name in read.end},
            transplant=None if read.transplant is None else table[column_name("transplant")],
        ),
        InEngine(),
        unit,
        ends,
        only=near,
    )
    columns = {
        column_name(kind, name): values
        for kind in ("start", "end")
        for name, values in getattr(ties, kind).items()
    }
    if ties.transplant is not None:
        columns[column_name("transplant")] = ties.transplant
    return table.mutate(**columns)
