"""What is wrong with a table of an engine: all of it at once, in the words of tables in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Ints
from bayesblina.core.errors import NAMED_PATIENTS, Problem, SpecError
from bayesblina.patients.readers.columns import (
    DECIMAL,
    LONGEST_TEXT,
    MOST_LEVELS,
    NOT_NUMBERS,
    CovariateKind,
)
from bayesblina.patients.readers.roles import counts_of_flag, flag_problem
from bayesblina.patients.rules import (
    DAYS_PER_UNIT,
    LONGEST_MEDIAN_FOLLOW_UP_YEARS,
    REPAIR,
    SHORTEST_MEDIAN_FOLLOW_UP_DAYS,
    Arithmetic,
    Broken,
    InMemory,
    NearTies,
    PatientColumns,
    any_of,
    rules,
    settle,
    tie_of,
    unit_words,
)
from bayesblina.patients.scan.engines import array_of, batches, ibis_module, number, run, stripped
from bayesblina.patients.short_numbers import (
    SHORT_EXPECTED,
    SHORT_FOUND,
    are_short,
    digits_of,
    lost_at_the_end,
)

if TYPE_CHECKING:
    import pyarrow as pa


# In place of how a repair is asked for: a table in an engine is not changed.
REPAIR_ELSEWHERE = "read the patients with read_cohort and its repair"


class InEngine:
    """`bayesblina.patients.rules.Arithmetic` of columns of an engine."""

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

    def choose(self, condition: Any, yes: Any, no: Any) -> Any:
        """Take one value where a condition holds, and another where it does not."""
        ibis = ibis_module()
        yes, no = (number(one) if isinstance(one, float) else one for one in (yes, no))
        return ibis.ifelse(condition, yes, no)

    def number(self, value: float) -> Any:
        """Write a number that is just this one."""
        return number(value)

    def _finite(self, column: Any) -> Any:
        ibis = ibis_module()
        return ibis.ifelse(column.abs() < float("inf"), column, None).cast("float64")


class Reading:
    """Reads columns strictly: what cannot be read is missing, and remembered as a problem."""

    def __init__(self, raw: Any, patient: str) -> None:
        self.raw = raw
        self.patient = patient
        self.broken: dict[tuple[str, str], Broken] = {}
        # Columns of times, by name.
        self.times: dict[str, Any] = {}
        self.ids = self._text(patient)
        whole = raw[patient].type().is_integer()
        # Numbers are compared as numbers: a hundred million texts take long.
        self.key = raw[patient] if whole else self.ids.nullif("")
        if not whole:
            self._refuse_long(patient, self.ids)

    def zero(self) -> Any:
        """Give the time 0 to everybody."""
        return self._constant(number(0.0))

    def nothing(self) -> Any:
        """Give no time to anybody."""
        return self._constant(ibis_module().null("float64"))

    def _constant(self, value: Any) -> Any:
        """Make a column of a constant."""
        return ibis_module().ifelse(self.raw[self.patient].isnull(), value, value)

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
        return stripped(values.cast("string")).fill_null("")

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
            NOT_NUMBERS,
            f"Expected plain decimal numbers such as 12.5; leave missing values empty{dates}.",
        )
        return ibis.ifelse(readable, text, None).cast("string").cast("float64")

    def time(self, column: str) -> Any:
        """Read times; missing where there is none."""
        self.times[column] = self.number(column)
        return self.times[column]

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


def kinds_of(
    raw: Any, covariates: Sequence[str] | Mapping[str, CovariateKind], source: str
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
            text = stripped(column).fill_null("")
            other = raw.filter((text != "") & ~text.re_search(f"^(?:{DECIMAL})$"))
            numeric = int(run(other.limit(1).count(), source)) == 0
        kinds[name] = "continuous" if numeric else "categorical"
    return kinds


def settled_columns(
    columns: PatientColumns,
    arithmetic: Arithmetic,
    unit: str,
    ends: Sequence[str],
    *,
    only: NearTies | None = None,
) -> tuple[PatientColumns, dict[tuple[str, str], Any]]:
    """Settle near ties; ends of which nothing is known stay as they are.

    Parameters
    ----------
    columns, arithmetic, unit, only
        As for `bayesblina.patients.rules.settle`.
    """
    known = {name: columns.end[name] for name in ends}
    with np.errstate(invalid="ignore"):  # infinite times are told by the rules
        settled, moved = settle(replace(columns, end=known), arithmetic, unit=unit, only=only)
    return replace(settled, end={**columns.end, **settled.end}), moved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Declared:
    """What was declared of a table, and read from it.

    Attributes
    ----------
    raw, columns
        By what they hold, as in `bayesblina.patients.rules.PatientColumns`: as read, and settled.
    moved
        Who had near ties, by the mark's role and the endpoint.
    ends
        Phases whose ends are known.
    roles
        Columns by role, such as ``"os.time"``.
    categorical
        Categorical covariates, as texts.
    unit
        Time unit.
    """

    raw: PatientColumns
    columns: PatientColumns
    moved: Mapping[tuple[str, str], Any]
    ends: tuple[str, ...]
    roles: Mapping[str, str]
    categorical: Mapping[str, Any]
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Counts:
    """Counts over all rows.

    Attributes
    ----------
    broken : ndarray of int, shape (rule,)
        Who breaks each rule.
    timed, short, long : ndarray of int, shape (endpoint,)
        Lengths of follow-up; those that are implausibly short, and long.
    known, zeros, ones : ndarray of int, shape (column of times,)
        Values of each column of times, and how many of them are 0, and 1.
    near
        Near ties.
    short_roles
        Roles of columns of times that hold nothing but numbers of few digits.
    nameless
        Rows without an id.
    size
        Rows.
    rising
        Whether every id is larger than the one before, and so none stands twice.
    """

    broken: Ints
    timed: Ints
    short: Ints
    long: Ints
    known: Ints
    zeros: Ints
    ones: Ints
    near: NearTies
    short_roles: tuple[str, ...]
    nameless: int
    size: int
    rising: bool


def find_problems(
    reading: Reading, declared: Declared, *, embedded: bool, source: str
) -> tuple[list[Problem], int, NearTies]:
    """Find all problems: one pass that counts, and a look-up of patients for each problem."""
    told = _told(reading, declared)
    unread = _unread(told, [one.rows for one in told])
    broken = [*told, *_rules(declared, declared.columns, InEngine(), unread)]
    count = _count_here if embedded else _count_there
    counts = count(reading, declared, broken, source)
    problems = _lost(reading, declared, counts.short_roles, source)
    problems += [
        named(reading, one, int(found), source)
        for one, found in zip(broken, counts.broken.tolist(), strict=True)
        if found
    ]
    for index, column in enumerate(reading.times):
        known, zeros, ones = (int(one[index]) for one in (counts.known, counts.zeros, counts.ones))
        if (
            counts_of_flag(known, zeros, ones, counts.size)
            or reading.raw[column].type().is_boolean()
        ):
            problems.append(flag_problem(column))
    patient = declared.roles["patient"]
    if counts.nameless:
        problems.append(
            Problem(
                column=patient,
                found=f"missing ids in {counts.nameless} rows",
                expected="Every patient needs an id.",
            )
        )
    if not counts.rising:
        problems += _repeated(reading, patient, source)
    for index, (name, time) in enumerate(declared.columns.time.items()):
        half = counts.timed[index] / 2
        if half and (counts.short[index] > half or counts.long[index] > half):
            seen = reading.raw.select(seen=time - declared.columns.entry[name])
            seen = seen.filter((seen.seen > 0) & (seen.seen < float("inf")))
            found = run(seen.aggregate(middle=seen.seen.median(), most=seen.seen.max()), source)
            words = unit_words(declared.unit, *map(float, found.iloc[0]))
            if words is not None:
                problems.append(
                    Problem(
                        column=declared.roles[f"{name}.time"], found=words[0], expected=words[1]
                    )
                )
    return problems, counts.size, counts.near


def _marks(declared: Declared) -> dict[str, Any]:
    """Pick the columns of times at which states may begin, by role."""
    return {role: mark for role, mark in declared.raw.marks().items() if role in declared.roles}


def _lost(
    reading: Reading, declared: Declared, short_roles: Sequence[str], source: str
) -> list[Problem]:
    """Find times of too few digits to be told from the end of follow-up."""
    times, tie = list(declared.raw.time.values()), tie_of(declared.unit)
    problems = []
    for role in short_roles:
        rows = lost_at_the_end(_marks(declared)[role], times, tie, InEngine())
        found = reading.raw.aggregate(lost=rows.fill_null(False).cast("int64").sum())
        count = int(run(found, source).iloc[0].fillna(0).iloc[0])
        if count:
            broken = Broken(
                role=declared.roles[role], rows=rows, found=SHORT_FOUND, expected=SHORT_EXPECTED
            )
            problems.append(named(reading, broken, count, source))
    return problems


def _told(reading: Reading, declared: Declared) -> list[Broken]:
    """List what broke while columns were read, then who lacks a categorical covariate."""
    return [
        *reading.broken.values(),
        *(
            Broken(
                role=name,
                rows=values.isnull(),
                found="missing or infinite values",
                expected="Every patient needs a value; impute before, or leave the covariate out.",
            )
            for name, values in declared.categorical.items()
        ),
    ]


def _rules(
    declared: Declared, columns: PatientColumns, arithmetic: Arithmetic, unread: Mapping[str, Any]
) -> list[Broken]:
    """Go through the rules, of columns of the engine or of arrays."""
    found = []
    for one in rules(columns, arithmetic, unit=declared.unit):
        column = declared.roles.get(one.role, one.role)
        # Whoever's value could not be read has been told so.
        rows = one.rows & ~unread[column] if column in unread else one.rows
        expected = one.expected.replace(REPAIR, REPAIR_ELSEWHERE)
        found.append(Broken(role=column, rows=rows, found=one.found, expected=expected))
    return found


def _unread(told: Sequence[Broken], rows: Sequence[Any]) -> dict[str, Any]:
    """Pick, by column, the rows whose values are no numbers."""
    return {
        one.role: values for one, values in zip(told, rows, strict=True) if one.found == NOT_NUMBERS
    }


def _limits(unit: str) -> tuple[float, float]:
    """Implausibly short and long times, in the unit."""
    longest = LONGEST_MEDIAN_FOLLOW_UP_YEARS * DAYS_PER_UNIT["years"]
    return SHORTEST_MEDIAN_FOLLOW_UP_DAYS / DAYS_PER_UNIT[unit], longest / DAYS_PER_UNIT[unit]


def _count_there(
    reading: Reading, declared: Declared, broken: Sequence[Broken], source: str
) -> _Counts:
    """Count in the engine."""

    def total(rows: Any) -> Any:
        return rows.fill_null(False).cast("int64").sum()

    wanted = {f"n{index}": total(one.rows) for index, one in enumerate(broken)}
    short, long = _limits(declared.unit)
    for index, (name, time) in enumerate(declared.columns.time.items()):
        seen = time - declared.columns.entry[name]
        good = (seen > 0) & (seen.abs() < float("inf"))
        wanted[f"timed{index}"] = total(good)
        wanted[f"short{index}"] = total(good & (seen < number(short)))
        wanted[f"long{index}"] = total(good & (seen > number(long)))
    for index, values in enumerate(reading.times.values()):
        wanted[f"known{index}"] = total(values.notnull())
        wanted[f"zeros{index}"] = total(values == 0.0)
        wanted[f"ones{index}"] = total(values == 1.0)
    pairs = list(declared.moved)
    for index, rows in enumerate(declared.moved.values()):
        wanted[f"pair{index}"] = total(rows)
    nobody = reading.key.isnull() & False
    wanted["moved"] = total(any_of(declared.moved, nobody))
    times, tie = declared.raw.time, tie_of(declared.unit)
    wanted["far"] = total(
        any_of({name: time >= tie.from_time for name, time in times.items()}, nobody)
    )
    marks = _marks(declared)
    for index, mark in enumerate(marks.values()):
        longer, fractions = digits_of(mark, InEngine())
        wanted[f"longer{index}"], wanted[f"fraction{index}"] = total(longer), total(fractions)
    wanted["nameless"] = reading.key.isnull().cast("int64").sum()
    wanted["size"] = reading.raw.count()
    row = run(reading.raw.aggregate(**wanted), source).iloc[0].fillna(0).astype("int64")

    def counts(name: str, many: int) -> Ints:
        return np.array([row[f"{name}{index}"] for index in range(many)], dtype=np.int64)

    endpoints = len(declared.columns.time)
    return _Counts(
        broken=counts("n", len(broken)),
        timed=counts("timed", endpoints),
        short=counts("short", endpoints),
        long=counts("long", endpoints),
        known=counts("known", len(reading.times)),
        zeros=counts("zeros", len(reading.times)),
        ones=counts("ones", len(reading.times)),
        near=NearTies(
            patients=int(row["moved"]),
            pairs=frozenset(pair for index, pair in enumerate(pairs) if row[f"pair{index}"]),
            far=bool(row["far"]),
        ),
        short_roles=tuple(
            role
            for index, role in enumerate(marks)
            if are_short(int(row[f"longer{index}"]), int(row[f"fraction{index}"]))
        ),
        nameless=int(row["nameless"]),
        size=int(row["size"]),
        rising=False,
    )


def _count_here(
    reading: Reading, declared: Declared, broken: Sequence[Broken], source: str
) -> _Counts:
    """Count block by block: the engine reads, the rules are those of arrays."""
    told = broken[: len(reading.broken) + len(declared.categorical)]
    table = declared.raw
    groups = {
        "time": table.time,
        "entry": table.entry,
        "start": table.start,
        "end": table.end,
        "covariate": table.covariates,
    }
    asked: dict[str, Any] = {"id": reading.key}
    asked |= {f"told{index}": one.rows.fill_null(False) for index, one in enumerate(told)}
    for kind, columns in groups.items():
        asked |= {f"{kind}{index}": column for index, column in enumerate(columns.values())}
    if table.transplant is not None:
        asked["transplant"] = table.transplant
    short, long = _limits(declared.unit)
    counts = np.zeros(len(broken), dtype=np.int64)
    timed = np.zeros((3, len(table.time)), dtype=np.int64)
    nameless, size, moved = 0, 0, 0
    pairs: set[tuple[str, str]] = set()
    far, tie = False, tie_of(declared.unit)
    short_numbers = _Short(list(_marks(declared)))
    order = _Order()
    flags = _Flags(list(reading.times), declared.roles)
    for batch in batches(reading.raw.select(**asked), source):

        def numbers(kind: str, batch: Any = batch) -> dict[str, NDArray[Any]]:
            return {
                name: array_of(batch, f"{kind}{index}").astype(np.float64, copy=False)
                for index, name in enumerate(groups[kind])
            }

        as_read = PatientColumns(
            time=numbers("time"),
            entry=numbers("entry"),
            start=numbers("start"),
            end=numbers("end"),
            transplant=None
            if table.transplant is None
            else array_of(batch, "transplant").astype(np.float64, copy=False),
            covariates=numbers("covariate"),
        )
        flags.add(as_read)
        here, near = settled_columns(as_read, InMemory(), declared.unit, declared.ends)
        short_numbers.add(as_read)
        pairs |= {pair for pair, rows in near.items() if rows.any()}
        moved += int(np.count_nonzero(any_of(near, np.zeros(batch.num_rows, dtype=bool))))
        far = far or any(bool((time >= tie.from_time).any()) for time in as_read.time.values())
        rows = [array_of(batch, f"told{index}") for index in range(len(told))]
        ruled = _rules(declared, here, InMemory(), _unread(told, rows))
        counts += [int(np.count_nonzero(one)) for one in (*rows, *(one.rows for one in ruled))]
        for index, (name, time) in enumerate(here.time.items()):
            known = np.isfinite(time) & np.isfinite(here.entry[name])
            seen = time[known] - here.entry[name][known]
            good = seen[seen > 0]
            timed[:, index] += [good.size, (good < short).sum(), (good > long).sum()]
        ids = batch.column("id")
        nameless += ids.null_count
        size += batch.num_rows
        order.add(ids)
    return _Counts(
        broken=counts,
        timed=timed[0],
        short=timed[1],
        long=timed[2],
        known=flags.counts[0],
        zeros=flags.counts[1],
        ones=flags.counts[2],
        near=NearTies(patients=moved, pairs=frozenset(pairs), far=far),
        short_roles=short_numbers.roles(),
        nameless=nameless,
        size=size,
        rising=order.rising,
    )


class _Flags:
    """Counts the values 0 and 1 of columns of times, until one has another value."""

    def __init__(self, columns: Sequence[str], roles: Mapping[str, str]) -> None:
        self.counts = np.zeros((3, len(columns)), dtype=np.int64)
        self._left = {columns.index(roles[role]): role for role in roles if roles[role] in columns}

    def add(self, read: PatientColumns) -> None:
        """Look at the next patients."""
        groups = {"time": read.time, "entry": read.entry, "start": read.start, "end": read.end}
        for index, role in list(self._left.items()):
            name, _, kind = role.rpartition(".")
            values = read.transplant if role == "transplant" else groups[kind][name]
            zeros, ones = np.count_nonzero(values == 0.0), np.count_nonzero(values == 1.0)
            known = values.size - np.count_nonzero(np.isnan(values))
            self.counts[:, index] += [known, zeros, ones]
            if known > zeros + ones:
                del self._left[index]


class _Short:
    """Looks for columns of times that are stored with few digits, until one has a longer number."""

    def __init__(self, roles: Sequence[str]) -> None:
        self._fractions = dict.fromkeys(roles, 0)

    def add(self, read: PatientColumns) -> None:
        """Look at the next patients."""
        marks = read.marks()
        for role in list(self._fractions):
            with np.errstate(invalid="ignore", over="ignore"):  # such times are told by the rules
                longer, fractions = digits_of(marks[role], InMemory())
            if longer.any():
                del self._fractions[role]
            else:
                self._fractions[role] += int(np.count_nonzero(fractions))

    def roles(self) -> tuple[str, ...]:
        """List the roles of columns that hold nothing else."""
        return tuple(role for role, count in self._fractions.items() if are_short(0, count))


class _Order:
    """Whether ids rise from row to row, so that none stands twice."""

    def __init__(self) -> None:
        self.rising = True
        self._last: Any = None

    def add(self, ids: pa.Array) -> None:
        """Look at the next ids."""
        import pyarrow.compute as pc

        if not self.rising:
            return
        known = ids.drop_null()
        if not len(known):
            return
        self.rising = bool(pc.all(pc.less(known[:-1], known[1:])).as_py() is not False)
        if self._last is not None:
            self.rising = self.rising and bool(pc.less(self._last, known[0]).as_py())
        self._last = known[-1]


def named(reading: Reading, broken: Broken, count: int, source: str) -> Problem:
    """Name the first patients who break a rule."""
    found = reading.raw.select(id=reading.key, broken=broken.rows.fill_null(False))
    first = (
        found.filter(found.broken & found.id.notnull())
        .select("id")
        .distinct()
        .order_by("id")
        .limit(NAMED_PATIENTS)
    )
    first = first.order_by("id").limit(NAMED_PATIENTS)
    ids = [str(one) for one in run(first, source)["id"]]
    return Problem(
        column=broken.role,
        found=broken.found,
        expected=broken.expected,
        patients=tuple(ids),
        count=count,
    )


def _repeated(reading: Reading, column: str, source: str) -> list[Problem]:
    """Find ids that stand in more than one row."""
    found = reading.raw.select(id=reading.key)
    found = found.filter(found.id.notnull())
    found = found.group_by("id").aggregate(rows=found.count())
    twice = found.filter(found.rows > 1)
    first = run(twice.order_by("id").limit(NAMED_PATIENTS + 1), source)
    if not len(first):
        return []
    count = len(first) if len(first) <= NAMED_PATIENTS else int(run(twice.count(), source))
    return [
        Problem(
            column=column,
            found="ids that stand in more than one row",
            expected="Expected one row per patient; merge or rename them.",
            patients=tuple(str(one) for one in first["id"].iloc[:NAMED_PATIENTS]),
            count=count,
        )
    ]


def levels_of(
    reading: Reading, categorical: Mapping[str, Any], source: str
) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """Look up the levels of categorical covariates."""
    levels: dict[str, tuple[str, ...]] = {}
    problems = []
    for name, column in categorical.items():
        different = reading.raw.select(level=column).distinct().limit(MOST_LEVELS + 2)
        present = run(different, source)
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
