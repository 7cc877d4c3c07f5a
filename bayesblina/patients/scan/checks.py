"""What is wrong with a table of an engine: all of it at once, in the words of tables in memory.

One pass counts who breaks the rules, block by block: an engine reads, the rules are those of
arrays. Patients are looked up for each problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.endpoint_order import Breach, EndpointOrder, find_breaches, find_shortfalls
from bayesblina.core.errors import NAMED_PATIENTS, Problem
from bayesblina.patients.declarations import Endpoint
from bayesblina.patients.readers.columns import MOST_LEVELS, NOT_NUMBERS
from bayesblina.patients.readers.sources import counts_of_flag, flag_problem
from bayesblina.patients.rules import (
    DAYS_PER_UNIT,
    LONGEST_MEDIAN_FOLLOW_UP_YEARS,
    REPAIR,
    SHORT_EXPECTED,
    SHORT_FOUND,
    SHORTEST_MEDIAN_FOLLOW_UP_DAYS,
    Arithmetic,
    InMemory,
    NearTies,
    PatientColumns,
    any_of,
    are_short,
    digits_of,
    lost_at_the_end,
    rules,
    settle,
    tie_of,
    unit_words,
)
from bayesblina.patients.scan.engines import array_of, run
from bayesblina.patients.scan.passes import State, summed
from bayesblina.patients.scan.reading import InEngine, Reading

if TYPE_CHECKING:
    import pyarrow as pa

# What is known of patients in numbers, as attributes of `bayesblina.patients.rules.PatientColumns`.
KINDS = ("time", "entry", "start", "end", "covariates")
# In place of how a repair is asked for: a table in an engine is not changed.
REPAIR_ELSEWHERE = "read the patients with read_cohort and its repair"


def settled_columns(
    columns: PatientColumns,
    arithmetic: Arithmetic,
    unit: str,
    ends: Sequence[str],
    *,
    only: NearTies | None = None,
) -> tuple[PatientColumns, dict[tuple[str, str], Any]]:
    """Settle near ties; ends of which nothing is known stay as they are."""
    known = {name: columns.end[name] for name in ends}
    with np.errstate(invalid="ignore"):  # infinite times are told by the rules
        settled, moved = settle(replace(columns, end=known), arithmetic, unit=unit, only=only)
    return replace(settled, end={**columns.end, **settled.end}), moved


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What was declared of a table.

    `roles`: columns by role, such as ``"os.time"``.
    `ends`: phases whose ends are known.
    `names`: endpoints, phases or covariates, by the kind of number that is known of each.
    `times`: roles of the columns of times.
    `told`: what may have broken while columns were read: each column, and what was found in it.
    `ordered`: whether phases come in the order given.
    """

    unit: str
    roles: Mapping[str, str]
    ends: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    times: tuple[str, ...]
    told: tuple[tuple[str, str], ...]
    ordered: bool = True

    def marks(self, columns: PatientColumns) -> dict[str, Any]:
        """Pick the columns of times at which states may begin, by role."""
        return {role: mark for role, mark in columns.marks().items() if role in self.roles}

    def asked(self, columns: PatientColumns) -> dict[str, Any]:
        """Name the columns of numbers for a query."""
        asked = {
            f"{kind}{index}": getattr(columns, kind)[name]
            for kind, names in self.names.items()
            for index, name in enumerate(names)
        }
        return asked | ({"transplant": columns.transplant} if "transplant" in self.roles else {})

    def read(self, batch: pa.RecordBatch) -> PatientColumns:
        """Lay out the numbers of a block as `PatientColumns`."""

        def numbers(name: str) -> Floats:
            return array_of(batch, name).astype(np.float64, copy=False)

        kinds: dict[str, Any] = {
            kind: {name: numbers(f"{kind}{index}") for index, name in enumerate(names)}
            for kind, names in self.names.items()
        }
        return PatientColumns(
            **kinds,
            transplant=numbers("transplant") if "transplant" in self.roles else None,
            ordered=self.ordered,
        )

    def times_of(self, columns: PatientColumns) -> list[Any]:
        """Pick the columns of times, each once."""
        by_role = columns.marks() | {
            f"{name}.{kind}": values
            for kind in ("time", "entry")
            for name, values in getattr(columns, kind).items()
        }
        return [by_role[role] for role in self.times]

    def rules(
        self, columns: PatientColumns, arithmetic: Arithmetic, told: Sequence[Any]
    ) -> list[Breach]:
        """Go through the rules, of columns of the engine or of arrays.

        `told`: rows of what broke while columns were read: who has been told so is not told again.
        """
        unread = {
            column: rows
            for (column, found), rows in zip(self.told, told, strict=True)
            if found == NOT_NUMBERS
        }
        breaches = []
        for breach in rules(columns, arithmetic, unit=self.unit):
            column = self.roles.get(breach.role, breach.role)
            rows = breach.rows & ~unread[column] if column in unread else breach.rows
            expected = breach.expected.replace(REPAIR, REPAIR_ELSEWHERE)
            breaches.append(replace(breach, role=column, rows=rows, expected=expected))
        return breaches


class Counting:
    """Counts over all rows: a `bayesblina.patients.scan.passes.Partial`.

    `rising`: whether every id is larger than the one before, and so none stands twice.
    """

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._counts: dict[str, Ints] = {}
        self._last: Any = None
        self.rising = True

    def __getitem__(self, name: str) -> Ints:
        """Return what is counted, in the order of what was declared; 0 where there are no rows."""
        return self._counts.get(name, np.zeros((), dtype=np.int64))

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a block."""
        declared, ids = self._declared, batch.column("id")
        read = declared.read(batch)
        settled, near = settled_columns(read, InMemory(), declared.unit, declared.ends)
        told = [array_of(batch, f"told{index}") for index in range(len(declared.told))]
        ruled = [breach.rows for breach in declared.rules(settled, InMemory(), told)]
        from_time = tie_of(declared.unit).from_time
        self._absorb(
            {
                "size": np.array(batch.num_rows),
                "nameless": np.array(ids.null_count),
                "broken": _counted([*told, *ruled]),
                "follow-up": self._follow_up(settled),
                "near": _counted(near.values()),
                "moved": _counted([any_of(near, np.zeros(batch.num_rows, dtype=np.bool_))]),
                "far": _counted(time >= from_time for time in read.time.values()),
                "flags": self._flags(declared.times_of(read)),
                "digits": self._digits(list(declared.marks(read).values())),
            }
        )
        self.rising = self.rising and self._rises(ids.drop_null())

    def state(self) -> State:
        """Lay out the counts, for another process."""
        return dict(self._counts)

    def merge(self, state: State) -> None:
        """Add the counts of other rows, which may come before or after these."""
        self.rising = False
        self._absorb(state)

    def _absorb(self, counts: State) -> None:
        for name, values in counts.items():
            self._counts[name] = self[name] + values

    def _follow_up(self, columns: PatientColumns) -> Ints:
        """Count lengths of follow-up by endpoint: all, implausibly short and long ones."""
        days = DAYS_PER_UNIT[self._declared.unit]
        short = SHORTEST_MEDIAN_FOLLOW_UP_DAYS / days
        long = LONGEST_MEDIAN_FOLLOW_UP_YEARS * DAYS_PER_UNIT["years"] / days
        counts = []
        for name, time in columns.time.items():
            known = np.isfinite(time) & np.isfinite(columns.entry[name])
            seen = time[known] - columns.entry[name][known]
            good = seen[seen > 0]
            counts.append(_counted([good > 0, good < short, good > long]))
        return np.array(counts)

    def _flags(self, times: Sequence[Floats]) -> Ints:
        """Count values, 0 and 1 of columns of times, until one has another value."""
        counts = np.zeros((len(times), 3), dtype=np.int64)
        before = np.broadcast_to(self["flags"], counts.shape)
        for index, values in enumerate(times):
            if before[index, 0] == before[index, 1:].sum():
                counts[index] = _counted([~np.isnan(values), values == 0.0, values == 1.0])
        return counts

    def _digits(self, marks: Sequence[Floats]) -> Ints:
        """Count longer numbers and fractions of columns of times, until one has a longer number."""
        counts = np.zeros((len(marks), 2), dtype=np.int64)
        before = np.broadcast_to(self["digits"], counts.shape)
        for index, mark in enumerate(marks):
            if not before[index, 0]:
                with np.errstate(invalid="ignore", over="ignore"):  # such times are told elsewhere
                    counts[index] = _counted(digits_of(mark, InMemory()))
        return counts

    def _rises(self, ids: pa.Array) -> bool:
        """Whether ids rise from row to row, and from those before them."""
        import pyarrow.compute as pc

        if not len(ids):
            return True
        last, self._last = self._last, ids[-1]
        inside = pc.all(pc.less(ids[:-1], ids[1:])).as_py() is not False
        return inside and (last is None or bool(pc.less(last, ids[0]).as_py()))


def _counted(rows: Iterable[Bools]) -> Ints:
    """Count for how many patients each of several conditions holds."""
    return np.array([np.count_nonzero(row) for row in rows], dtype=np.int64)


def find_problems(
    reading: Reading,
    declared: Declared,
    columns: PatientColumns,
    told: Sequence[Breach],
    source: str,
) -> tuple[list[Problem], int, NearTies]:
    """Find all problems: one pass that counts, and a look-up of patients for each problem.

    `told`: who broke what while columns were read.
    Result: the problems; the number of rows; the near ties.
    """
    asked = {"id": reading.key, **declared.asked(columns)}
    asked |= {f"told{index}": breach.rows.fill_null(False) for index, breach in enumerate(told)}
    counts = summed(partial(Counting, declared), [reading.raw.select(**asked)], source)
    size = int(counts["size"])
    settled, near = settled_columns(columns, InEngine(), declared.unit, declared.ends)
    if not size:
        return [], 0, NearTies(patients=0, pairs=frozenset(), far=False)
    problems = _lost(reading, declared, columns, counts, source)
    breaches = [*told, *declared.rules(settled, InEngine(), [breach.rows for breach in told])]
    problems += named(reading, zip(breaches, counts["broken"].tolist(), strict=True), source)
    for role, (known, zeros, ones) in zip(declared.times, counts["flags"].tolist(), strict=True):
        column = declared.roles[role]
        if counts_of_flag(known, zeros, ones, size) or reading.raw[column].type().is_boolean():
            problems.append(flag_problem(column))
    patient, nameless = declared.roles["patient"], int(counts["nameless"])
    if nameless:
        found = f"missing ids in {nameless} rows"
        problems.append(Problem(column=patient, found=found, expected="Every patient needs an id."))
    if not counts.rising:
        problems += _repeated(reading, patient, source)
    problems += _implausible(reading, declared, settled, counts, source)
    ties = NearTies(
        patients=int(counts["moved"].sum()),
        pairs=frozenset(pair for pair, count in zip(near, counts["near"], strict=True) if count),
        far=bool(counts["far"].any()),
    )
    return problems, size, ties


def _implausible(
    reading: Reading, declared: Declared, columns: PatientColumns, counts: Counting, source: str
) -> list[Problem]:
    """Find endpoints most of whose follow-up is implausibly short or long."""
    problems = []
    for (name, time), (timed, short, long) in zip(
        columns.time.items(), counts["follow-up"].tolist(), strict=True
    ):
        if not timed or max(short, long) <= timed / 2:
            continue
        seen = reading.raw.select(seen=time - columns.entry[name])
        seen = seen.filter((seen.seen > 0) & (seen.seen < float("inf")))
        lengths = run(seen.aggregate(middle=seen.seen.median(), most=seen.seen.max()), source)
        words = unit_words(declared.unit, *map(float, lengths.iloc[0]))
        if words is not None:
            problems.append(
                Problem(column=declared.roles[f"{name}.time"], found=words[0], expected=words[1])
            )
    return problems


def _lost(
    reading: Reading, declared: Declared, columns: PatientColumns, counts: Counting, source: str
) -> list[Problem]:
    """Find times of too few digits to be told from the end of follow-up."""
    times, tie = list(columns.time.values()), tie_of(declared.unit)
    lost = [
        Breach(
            role=declared.roles[role],
            rows=lost_at_the_end(mark, times, tie, InEngine()),
            found=SHORT_FOUND,
            expected=SHORT_EXPECTED,
        )
        for (role, mark), digits in zip(
            declared.marks(columns).items(), counts["digits"].tolist(), strict=True
        )
        if are_short(*digits)
    ]
    (patients,) = count_rows(reading.raw, source, [breach.rows for breach in lost])
    return named(reading, zip(lost, patients, strict=True), source)


def count_rows(table: Any, source: str, *conditions: Sequence[Any]) -> list[list[int]]:
    """Count for how many patients each condition holds, in one pass; by groups of conditions."""
    rows = [row for group in conditions for row in group]
    if not rows:
        return [[] for _ in conditions]
    totals = {
        f"total{index}": row.fill_null(False).cast("int64").sum() for index, row in enumerate(rows)
    }
    # There is no sum over no rows.
    counts = iter(run(table.aggregate(**totals), source).astype("float64").fillna(0.0).iloc[0])
    return [[int(next(counts)) for _ in group] for group in conditions]


def named(reading: Reading, breaches: Iterable[tuple[Breach, int]], source: str) -> list[Problem]:
    """Name the first patients who break each rule that is broken, with how many do."""
    problems = []
    for breach, count in breaches:
        if not count:
            continue
        rows = reading.raw.select(id=reading.key, broken=breach.rows.fill_null(False))
        ids = rows.filter(rows.broken & rows.id.notnull()).select("id").distinct()
        first = run(ids.order_by("id").limit(NAMED_PATIENTS), source)["id"]
        problems.append(
            Problem(
                column=breach.role,
                found=breach.found,
                expected=breach.expected,
                patients=tuple(map(str, first)),
                count=count,
            )
        )
    return problems


def _repeated(reading: Reading, column: str, source: str) -> list[Problem]:
    """Find ids that stand in more than one row."""
    ids = reading.raw.select(id=reading.key)
    ids = ids.filter(ids.id.notnull())
    times = ids.group_by("id").aggregate(rows=ids.count())
    twice = times.filter(times.rows > 1)
    first = run(twice.order_by("id").limit(NAMED_PATIENTS + 1), source)
    if not len(first):
        return []
    count = len(first) if len(first) <= NAMED_PATIENTS else int(run(twice.count(), source))
    return [
        Problem(
            column=column,
            found="ids that stand in more than one row",
            expected="Expected one row per patient; merge or rename them.",
            patients=tuple(map(str, first["id"].iloc[:NAMED_PATIENTS])),
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
        levels[name] = tuple(sorted(map(str, run(different, source)["level"].dropna())))
        if len(levels[name]) > MOST_LEVELS:
            problems.append(
                Problem(
                    column=name,
                    found=f"more than {MOST_LEVELS} different texts",
                    expected=f"A categorical covariate has at most {MOST_LEVELS} levels; group "
                    "them, or say 'continuous' if it is a number.",
                )
            )
    return levels, problems


def courses_of(
    endpoints: Mapping[str, Endpoint], column: Callable[[str, str], Any], *, unit: str
) -> EndpointOrder:
    """Lay out the endpoints of a table for `bayesblina.core.endpoint_order`.

    `unit`: time unit, which says what times are one.
    """
    arithmetic = InEngine()
    return EndpointOrder(
        time={name: column("time", name) for name in endpoints},
        event={name: column("event", name) for name in endpoints},
        entry={name: column("entry", name) for name in endpoints},
        includes={name: tuple(endpoint.includes) for name, endpoint in endpoints.items()},
        known=arithmetic.known,
        near=partial(tie_of(unit).near, arithmetic=arithmetic),
    )


def find_contradictions(
    reading: Reading, courses: EndpointOrder, roles: Mapping[str, str], source: str
) -> list[Problem]:
    """Find what contradicts the declarations of which endpoint includes which.

    Where any is declared this is a pass of its own, and a look-up of patients for each problem.
    """
    breaches, shortfalls = list(find_breaches(courses)), list(find_shortfalls(courses))
    counts, *of_shortfalls = count_rows(
        reading.raw,
        source,
        [breach.rows for breach in breaches],
        [short.rows for short in shortfalls],
        [short.events for short in shortfalls],
        [short.included for short in shortfalls],
    )
    told = list(zip(breaches, counts, strict=True))
    for short, rows, events, included in zip(shortfalls, *of_shortfalls, strict=True):
        breach = short.breach(rows=rows, events=events, included=included)
        if breach is not None:
            told.append((breach, rows))
    return named(
        reading,
        ((replace(breach, role=roles.get(breach.role, breach.role)), n) for breach, n in told),
        source,
    )
