"""Patients in a table of a query engine: declared, checked and described, never read whole.

Every engine that ibis speaks is spoken to in the same expressions. Files are read by DuckDB, inside
this process; nothing is fetched, and nothing that a table holds is executed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesblina.cohort import Endpoint, Phases
from bayesblina.errors import NAMED_PATIENTS, DataError, Problem, SpecError, nearest
from bayesblina.readers.columns import DECIMAL, LONGEST_TEXT, MOST_LEVELS, CovariateKind
from bayesblina.readers.wide import check_call, roles_of_columns
from bayesblina.rules import (
    DAYS_PER_UNIT,
    LONGEST_MEDIAN_FOLLOW_UP_YEARS,
    SHORTEST_MEDIAN_FOLLOW_UP_DAYS,
    Broken,
    Columns,
    rules,
    unit_words,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir
    import pyarrow as pa

MEMORY_LIMIT = "1GB"
FILES = (".parquet", ".csv")


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

    Made by `scan_cohort`; `bayesblina.expose` and `bayesblina.fit` take it in place of a `Cohort`.

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
    synthetic
        Whether the patients are simulated.
    source
        Where the table came from (never its content).
    embedded
        Whether the engine is DuckDB in this process, started for this table.
    """

    table: ir.Table = field(repr=False)
    unit: str
    endpoints: Mapping[str, Endpoint]
    phases: tuple[str, ...]
    phase_ends_known: bool
    transplant: str | None
    covariates: tuple[ScannedCovariate, ...]
    size: int
    synthetic: bool
    source: str
    embedded: bool

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
        return self.table[_name(kind, name)]

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
    phases: Phases,
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
        Ordered treatment phases.
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
        If the call itself is impossible, or the extra ``scale`` is not installed.

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
    if isinstance(endpoints, Endpoint):
        endpoints = {"survival": endpoints}
    check_call(endpoints, Endpoint, phases, covariates)
    if unit not in DAYS_PER_UNIT:
        raise SpecError(f"unit must be one of {', '.join(DAYS_PER_UNIT)}, got {unit!r}.")
    if not endpoints:
        raise SpecError("Declare at least one endpoint.")
    raw, source, embedded = _open(table, memory_limit)
    roles = roles_of_columns(patient, endpoints, phases, transplant)
    _require_columns(raw, [*roles.values(), *covariates], source)
    reading = _Reading(raw, patient)
    kinds = _kinds(raw, covariates)
    columns = {_name("patient"): reading.key}
    for name, endpoint in endpoints.items():
        columns[_name("time", name)] = reading.number(endpoint.time)
        entry = reading.zero() if endpoint.entry is None else reading.number(endpoint.entry)
        columns[_name("entry", name)] = entry
        columns[_name("event", name)] = reading.event(endpoint.event, entry)
    for name, phase in phases.items():
        columns[_name("start", name)] = reading.number(phase.start)
        columns[_name("end", name)] = (
            reading.nothing() if phase.end is None else reading.number(phase.end)
        )
    if transplant is not None:
        columns[_name("transplant")] = reading.number(transplant)
    for name, kind in kinds.items():
        one = reading.number(name) if kind == "continuous" else reading.words(name)
        columns[_name("covariate", name)] = one
    problems = _problems(reading, columns, endpoints, phases, kinds, roles, unit)
    found = raw.select(**columns)
    levels, more = _levels(found, kinds)
    problems += more
    size = int(_run(found.count(), source))
    if not size:
        problems = [
            Problem(column="patient", found="no rows", expected="Expected one row per patient.")
        ]
    if problems:
        raise DataError(problems, source=source)
    return CohortScan(
        table=settled(found, embedded=embedded),
        embedded=embedded,
        unit=unit,
        endpoints=dict(endpoints),
        phases=phases.names,
        phase_ends_known=any(phase.end is not None for _, phase in phases.items()),
        transplant=transplant,
        covariates=tuple(
            ScannedCovariate(name=name, kind=kind, levels=levels.get(name, ()))
            for name, kind in kinds.items()
        ),
        size=size,
        synthetic=synthetic,
        source=source,
    )


def _name(kind: str, name: str = "") -> str:
    """Name a column by what it holds; users' names never meet."""
    return f"{kind}:{name}" if name else kind


def ibis_module() -> Any:
    """Import ibis.

    Returns
    -------
    module
        It.

    Raises
    ------
    SpecError
        If it is not installed.
    """
    try:
        import ibis
    except ImportError:
        raise SpecError(
            "Tables in a query engine need ibis and DuckDB: install bayesblina[scale], or read the "
            "patients into memory with read_cohort."
        ) from None
    return ibis


def coded(scan: CohortScan) -> Any:
    """Give each patient the number of the combination of categorical covariates.

    Parameters
    ----------
    scan
        The patients.

    Returns
    -------
    ibis table expression
        ``id``, ``code``; ``x0`` and so on, the continuous covariates; ``start0``, ``end0`` and so
        on, the bounds of phases; ``transplant`` where it is known; ``time:name``, ``event:name``
        and ``entry:name`` of each endpoint.
    """
    ibis = ibis_module()
    code = ibis.literal(0, type="int64")
    for one in scan.covariates:
        if one.kind == "continuous":
            continue
        place = scan.column("covariate", one.name).cases(
            *((level, index) for index, level in enumerate(one.levels)), else_=0
        )
        code = code * len(one.levels) + place.cast("int64")
    columns = {"id": scan.column("patient"), "code": code}
    continuous = [one.name for one in scan.covariates if one.kind == "continuous"]
    for index, name in enumerate(continuous):
        columns[f"x{index}"] = scan.column("covariate", name)
    for index, name in enumerate(scan.phases):
        columns[f"start{index}"] = scan.column("start", name)
        columns[f"end{index}"] = scan.column("end", name)
    if scan.transplant is not None:
        columns["transplant"] = scan.column("transplant")
    for name in scan.endpoints:
        for kind in ("time", "event", "entry"):
            columns[f"{kind}:{name}"] = scan.column(kind, name)
    return scan.table.select(**columns)


def settled(expression: Any, *, embedded: bool) -> Any:
    """Compile an expression once, so that what is built on it need not compile it again.

    Parameters
    ----------
    expression : ibis table expression
        Any.
    embedded
        Whether the engine is the one that `scan_cohort` started, in which views may be made.

    Returns
    -------
    ibis table expression
        The same table, as the engine's own query; tables that ibis itself holds stay as they are.
    """
    ibis = ibis_module()
    if expression.op().find(ibis.expr.operations.InMemoryTable):
        return expression
    backend = expression.get_backend()
    if embedded:
        view = backend.create_view(ibis.util.gen_name("bayesblina"), expression)
        # The engine has its own idea of the types of constants.
        return view.cast(dict(expression.schema().items()))
    return backend.sql(str(backend.compile(expression)), schema=expression.schema())


def number(value: float) -> Any:
    """Write a constant that every engine takes as just this floating-point number.

    Digits alone are a decimal number in SQL, of a precision and a range of its own.

    Parameters
    ----------
    value
        Any finite number.

    Returns
    -------
    ibis scalar
        The constant.
    """
    return ibis_module().literal(repr(float(value))).cast("float64")


def batches(expression: Any, rows: int) -> Iterator[pa.RecordBatch]:
    """Read a table of the embedded engine piece by piece, in the order of its files.

    Parameters
    ----------
    expression : ibis table expression
        The table; nothing else may be asked of the engine until all of it is read.
    rows
        Rows of each piece.

    Yields
    ------
    pyarrow.RecordBatch
        The pieces, none of them empty.
    """
    backend = expression.get_backend()
    query = str(backend.compile(expression))
    for batch in backend.con.sql(query).to_arrow_reader(rows):
        if batch.num_rows:
            yield batch


class InEngine:
    """`bayesblina.rules.Arithmetic` of columns of an engine."""

    def missing(self, values: Any) -> Any:
        """Say which values are missing."""
        return values.isnull()

    def infinite(self, values: Any) -> Any:
        """Say which values are infinite."""
        return values.abs() == float("inf")

    def known(self, values: Any) -> Any:
        """Say which values are neither missing nor infinite."""
        return values.notnull() & (values.abs() < float("inf"))

    def latest(self, columns: Sequence[Any]) -> Any:
        """Take the latest finite time of each patient; infinite where there is none."""
        ibis = ibis_module()
        times = [self._finite(column).fill_null(-1.0) for column in columns]
        last = times[0] if len(times) == 1 else ibis.greatest(*times)
        return ibis.ifelse(last < 0, float("inf"), last)

    def _finite(self, column: Any) -> Any:
        ibis = ibis_module()
        return ibis.ifelse(column.abs() < float("inf"), column, None).cast("float64")


class _Reading:
    """Reads columns strictly: what cannot be read is missing, and remembered as a problem."""

    def __init__(self, raw: Any, patient: str) -> None:
        self.raw = raw
        self.broken: dict[tuple[str, str], Broken] = {}
        self.ids = self._text(patient)
        whole = raw[patient].type().is_integer()
        # Numbers are compared as numbers: a hundred million texts take long.
        self.key = raw[patient] if whole else self.ids.nullif("")
        if not whole:
            self._refuse_long(patient, self.ids)

    def zero(self) -> Any:
        """Give the time 0 to everybody."""
        return self._constant(ibis_module().literal(0.0, type="float64"))

    def nothing(self) -> Any:
        """Give no time to anybody."""
        return self._constant(ibis_module().null("float64"))

    def _constant(self, value: Any) -> Any:
        """Make a column of a constant."""
        return ibis_module().ifelse(self.ids.isnull(), value, value)

    def report(self, column: str, rows: Any, found: str, expected: str) -> None:
        """Remember who breaks a rule."""
        self.broken[column, found] = Broken(role=column, rows=rows, found=found, expected=expected)

    def _text(self, column: str) -> Any:
        values = self.raw[column]
        if values.type().is_floating():
            ibis = ibis_module()
            whole = ibis.ifelse(
                (values == values.floor()) & (values.abs() < 2.0**53),
                values.cast("int64").cast("string"),
                values.cast("string"),
            )
            return ibis.ifelse(values.isnan(), None, whole).fill_null("")
        return values.cast("string").strip().fill_null("")

    def _refuse_long(self, column: str, text: Any) -> None:
        self.report(
            column,
            text.length() > LONGEST_TEXT,
            f"texts of more than {LONGEST_TEXT} characters",
            "Expected an id or a short name; is a quotation mark missing?",
        )

    def number(self, column: str) -> Any:
        """Read numbers; missing where there is none."""
        ibis = ibis_module()
        values = self.raw[column]
        kind = values.type()
        if kind.is_floating():
            wide = values.cast("float64")
            return ibis.ifelse(wide.isnan(), None, wide).cast("float64")
        if kind.is_numeric():
            return values.cast("float64")
        if kind.is_boolean():
            return values.cast("int8").cast("float64")
        text = self._text(column)
        readable = text.re_search(f"^(?:{DECIMAL})$")
        dates = "; for dates there is read_dated_cohort" if kind.is_temporal() else ""
        self.report(
            column,
            (text != "") & ~readable,
            "values that are not numbers",
            f"Expected plain decimal numbers such as 12.5; leave missing values empty{dates}.",
        )
        return ibis.ifelse(readable, text, None).cast("string").cast("float64")

    def event(self, column: str, entry: Any) -> Any:
        """Read 1 (event) and 0 (censored), which everybody under observation must have."""
        event = self.number(column)
        self.report(
            column,
            (entry.notnull() & (entry.abs() < float("inf")))
            & ~((event == 0.0) | (event == 1.0)).fill_null(False),
            "values other than 0 and 1",
            "Expected 1 for an event and 0 for censoring.",
        )
        return (event == 1.0).fill_null(False)

    def words(self, column: str) -> Any:
        """Read levels; missing where there is none."""
        text = self._text(column)
        self._refuse_long(column, text)
        return text.nullif("")


def _open(table: Any, memory_limit: str) -> tuple[Any, str, bool]:
    """Make an ibis table of anything, name it, and say whether its engine was started for it."""
    ibis = ibis_module()
    if isinstance(table, ibis.expr.types.Table):
        return table, "the table", False
    if not isinstance(table, str | PathLike):
        import pandas as pd
        import pyarrow as pa

        from bayesblina.readers.sources import load_table

        frame, source = load_table(table)
        plain = frame.copy(deep=False)
        for name in plain.columns:
            if isinstance(plain[name].dtype, pd.CategoricalDtype):
                plain[name] = plain[name].astype(object)
        connection = _embedded(memory_limit)
        connection.con.register("patients", pa.Table.from_pandas(plain, preserve_index=False))
        return connection.table("patients"), source, True
    path = str(table)
    name = Path(path).name
    if "://" in path:
        raise SpecError(
            f"'{path}' is no path of this machine: open it with the engine that holds it, and give "
            "its ibis table."
        )
    suffix = Path(path).suffix.lower()
    if suffix not in FILES:
        raise SpecError(f"Expected a path or glob of {' or '.join(FILES)} files, got '{path}'.")
    connection = _embedded(memory_limit)
    try:
        if suffix == ".csv":
            # Text stays text, so that nothing is guessed.
            opened = connection.read_csv(path, all_varchar=True, header=True, null_padding=False)
            return opened, name, True
        return connection.read_parquet(path), name, True
    except Exception as error:  # whatever DuckDB says of files that are not there, or damaged
        raise DataError([_unreadable(error)], source=name) from None


def _unreadable(error: Exception) -> Problem:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return Problem(
        column="file",
        found=f"it cannot be read ({reason})",
        expected="Check it, or export it again.",
    )


def _embedded(memory_limit: str) -> Any:
    """Start DuckDB in this process; it fetches nothing and loads no extensions."""
    ibis = ibis_module()
    if not isinstance(memory_limit, str):
        raise SpecError(f"memory_limit must be text such as '1GB', got {memory_limit!r}.")
    try:
        return ibis.duckdb.connect(
            memory_limit=memory_limit,
            # So that sums are made in one order, whoever reads first.
            preserve_insertion_order=True,
            autoinstall_known_extensions=False,
            autoload_known_extensions=False,
        )
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise SpecError(f"memory_limit must be text such as '1GB' ({reason}).") from None


def _require_columns(raw: Any, wanted: Sequence[str], source: str) -> None:
    present = list(raw.columns)
    missing = [
        Problem(column=name, found="no such column", expected=nearest(name, present))
        for name in dict.fromkeys(wanted)
        if name not in present
    ]
    if missing:
        raise DataError(missing, source=source)


def _kinds(
    raw: Any, covariates: Sequence[str] | Mapping[str, CovariateKind]
) -> dict[str, CovariateKind]:
    """Take the kinds of covariates from their columns, unless they are given."""
    given = covariates if isinstance(covariates, Mapping) else dict.fromkeys(covariates)
    kinds: dict[str, CovariateKind] = {}
    for name, kind in given.items():
        if kind not in (None, "categorical", "continuous"):
            raise SpecError(
                f"covariate '{name}': unknown type '{kind}'; expected 'categorical' or "
                "'continuous'."
            )
        if kind is not None:
            kinds[name] = kind
            continue
        column = raw[name]
        numeric = column.type().is_numeric()
        if column.type().is_string():
            text = column.strip().fill_null("")
            other = raw.filter((text != "") & ~text.re_search(f"^(?:{DECIMAL})$"))
            numeric = int(other.limit(1).count().execute()) == 0
        kinds[name] = "continuous" if numeric else "categorical"
    return kinds


def _run(expression: Any, source: str) -> Any:
    """Let the engine work; what it says of damaged files becomes one clear error."""
    try:
        return expression.execute()
    except Exception as error:
        raise DataError([_unreadable(error)], source=source) from error


def _problems(
    reading: _Reading,
    columns: Mapping[str, Any],
    endpoints: Mapping[str, Endpoint],
    phases: Phases,
    kinds: Mapping[str, CovariateKind],
    roles: Mapping[str, str],
    unit: str,
) -> list[Problem]:
    """Find all problems: one pass that counts, and a look-up of patients for each problem."""
    ibis = ibis_module()
    broken = list(reading.broken.values())
    declared = Columns(
        time={name: columns[_name("time", name)] for name in endpoints},
        entry={name: columns[_name("entry", name)] for name in endpoints},
        start={name: columns[_name("start", name)] for name in phases.names},
        end={name: columns[_name("end", name)] for name in phases.names},
        transplant=columns.get(_name("transplant")),
        covariates={
            name: columns[_name("covariate", name)] for name in kinds if kinds[name] == "continuous"
        },
    )
    unread = {column for column, found in reading.broken if found == "values that are not numbers"}
    for one in rules(declared, InEngine(), unit=unit):
        column = roles.get(one.role, one.role)
        rows = one.rows
        if column in unread:
            # Whoever's value could not be read has been told so.
            rows = rows & ~reading.broken[column, "values that are not numbers"].rows
        broken.append(Broken(role=column, rows=rows, found=one.found, expected=one.expected))
    for name, kind in kinds.items():
        if kind == "categorical":
            broken.append(
                Broken(
                    role=name,
                    rows=columns[_name("covariate", name)].isnull(),
                    found="missing or infinite values",
                    expected="Every patient needs a value; impute before, or leave the covariate "
                    "out.",
                )
            )
    days = {name: DAYS_PER_UNIT[unit] * columns[_name("time", name)] for name in endpoints}
    longest = LONGEST_MEDIAN_FOLLOW_UP_YEARS * DAYS_PER_UNIT["years"]
    counts = {
        f"n{index}": one.rows.fill_null(False).cast("int64").sum()
        for index, one in enumerate(broken)
    }
    for index, name in enumerate(endpoints):
        time = columns[_name("time", name)]
        good = (time > 0) & (time.abs() < float("inf"))
        counts[f"all{index}"] = good.fill_null(False).cast("int64").sum()
        counts[f"short{index}"] = (
            (good & (days[name] < SHORTEST_MEDIAN_FOLLOW_UP_DAYS))
            .fill_null(False)
            .cast("int64")
            .sum()
        )
        counts[f"long{index}"] = (
            (good & (days[name] > longest)).fill_null(False).cast("int64").sum()
        )
    counts["nameless"] = reading.key.isnull().cast("int64").sum()
    source = "the table"
    row = _run(reading.raw.aggregate(**counts), source).iloc[0].fillna(0).astype("int64")
    problems = []
    for index, one in enumerate(broken):
        if row[f"n{index}"]:
            problems.append(_named(reading, one, int(row[f"n{index}"])))
    if row["nameless"]:
        count = int(row["nameless"])
        problems.append(
            Problem(
                column=roles["patient"],
                found=f"missing ids in {count} rows",
                expected="Every patient needs an id.",
            )
        )
    problems += _repeated(reading, roles["patient"])
    for index, name in enumerate(endpoints):
        half = row[f"all{index}"] / 2
        if half and (row[f"short{index}"] > half or row[f"long{index}"] > half):
            time = columns[_name("time", name)]
            middle = _run(
                reading.raw.select(time=time).filter(ibis._.time > 0).time.median(), source
            )
            words = unit_words(unit, float(middle))
            if words is not None:
                problems.append(
                    Problem(column=roles[f"{name}.time"], found=words[0], expected=words[1])
                )
    return problems


def _named(reading: _Reading, broken: Broken, count: int) -> Problem:
    """Name the first patients who break a rule."""
    found = reading.raw.select(id=reading.ids, broken=broken.rows.fill_null(False))
    first = found.filter(found.broken).select("id").distinct().order_by("id").limit(NAMED_PATIENTS)
    ids = [str(one) for one in first.execute()["id"]]
    return Problem(
        column=broken.role,
        found=broken.found,
        expected=broken.expected,
        patients=tuple(ids),
        count=count,
    )


def _repeated(reading: _Reading, column: str) -> list[Problem]:
    """Find ids that stand in more than one row."""
    found = reading.raw.select(id=reading.key)
    found = found.filter(found.id.notnull())
    found = found.group_by("id").aggregate(rows=found.count())
    twice = found.filter(found.rows > 1)
    first = twice.order_by("id").limit(NAMED_PATIENTS + 1).execute()
    if not len(first):
        return []
    count = len(first) if len(first) <= NAMED_PATIENTS else int(twice.count().execute())
    return [
        Problem(
            column=column,
            found="ids that stand in more than one row",
            expected="Expected one row per patient; merge or rename them.",
            patients=tuple(str(one) for one in first["id"].iloc[:NAMED_PATIENTS]),
            count=count,
        )
    ]


def _levels(
    found: Any, kinds: Mapping[str, CovariateKind]
) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """Look up the levels of categorical covariates."""
    levels: dict[str, tuple[str, ...]] = {}
    problems = []
    for name, kind in kinds.items():
        if kind != "categorical":
            continue
        column = _name("covariate", name)
        present = found.select(level=found[column]).distinct().limit(MOST_LEVELS + 2).execute()
        names = sorted(str(one) for one in present["level"].dropna())
        levels[name] = tuple(names)
        if len(names) > MOST_LEVELS:
            problems.append(
                Problem(
                    column=name,
                    found=f"more than {MOST_LEVELS} different texts",
                    expected=f"A categorical covariate has at most {MOST_LEVELS} levels; group "
                    "them, or say 'continuous' if it is a number.",
                )
            )
    return levels, problems
