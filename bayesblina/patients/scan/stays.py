"""A table of stays beside the patients of a scan: joined, judged and settled block by block.

Both tables stay in their engine, which collects each patient's stays. The rules are those of a
table in memory (`bayesblina.patients.stay_rules`), run on blocks of patients: of DuckDB's in this
process, into a store of its own that is held on disk where memory ends; of Spark's on the
executors, in each pass anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.errors import NAMED_PATIENTS, Problem, SpecError
from bayesblina.patients.account import Line
from bayesblina.patients.declarations import LEFT_OUT_STAYS, Courses, Endpoint
from bayesblina.patients.readers.columns import examples_of
from bayesblina.patients.readers.sources import (
    flag_problem,
    missing_columns,
    raise_problems,
    require_roles,
)
from bayesblina.patients.rules import InMemory
from bayesblina.patients.scan.checks import count_rows, named
from bayesblina.patients.scan.engines import (
    Store,
    array_of,
    batches,
    ibis_module,
    open_beside,
    run,
    stamps,
)
from bayesblina.patients.scan.passes import State, on_executors, summed
from bayesblina.patients.scan.reading import Reading, column_name
from bayesblina.patients.stay_rules import (
    STRANGERS,
    StayRows,
    bridged_words,
    kept_rows,
    positions_of_texts,
    settled_stays,
    words_of_unlisted,
)
from bayesblina.patients.stays import (
    faults_of_stays,
    first_starts,
    stays_by_phase,
    words_of_stays,
)

if TYPE_CHECKING:
    import pyarrow as pa

# Stays that DuckDB collects at a time: its lists, unlike all else, must fit into memory.
COLLECTED = 3_000_000
# The column that holds each patient's stays, by time.
STAYS = "stays"
_COLUMNS = ("start", "stop", "phase", "cycles", "dose")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScannedStays:
    """What is known of the stays of a scan.

    `ordered`, `doses_known`: as of a `Cohort`.
    `lines`: what an account says of them.
    `source`, `path`, `files`: as of a `CohortScan`.
    """

    ordered: bool
    doses_known: bool
    lines: tuple[Line, ...]
    source: str
    path: str | None
    files: tuple[tuple[str, int, int], ...]


def stays_of_lists(lists: Any) -> Stays:
    """Take the stays of a block of patients off its lists; they are in order.

    `lists`: an Arrow array of lists of stays, those of each patient by time.
    """
    values = lists.flatten()
    names = {field.name for field in values.type}
    held = {
        name: values.field(name).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        for name in _COLUMNS
        if name in names and name != "phase"
    }
    counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return Stays(
        patient=np.repeat(np.arange(len(lists), dtype=np.int64), counts),
        phase=values.field("phase").to_numpy(zero_copy_only=False).astype(np.int64),
        start=held["start"],
        stop=held["stop"],
        cycles=held["cycles"],
        dose=held.get("dose"),
    )


def type_of_lists(*, doses: bool) -> pa.DataType:
    """Name the type of a column of patients' stays."""
    import pyarrow as pa

    kinds = dict.fromkeys(_COLUMNS, pa.float64()) | {"phase": pa.int8(), "cycles": pa.int8()}
    names = _COLUMNS if doses else _COLUMNS[:-1]
    return pa.list_(pa.struct([pa.field(name, kinds[name]) for name in names]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Judges and settles the stays of blocks of patients. It can be pickled, without patients.

    `courses`: what was declared, without the table.
    `times`: columns of the ends of follow-up.
    `names`: phases, those of combinations last.
    `unlisted`: examples of texts of phases that are not listed.
    """

    courses: Courses
    times: tuple[str, ...]
    names: tuple[str, ...]
    ordered: bool
    unlisted: tuple[str, ...]

    def settle(self, batch: pa.RecordBatch) -> tuple[Stays, _Found]:
        """Settle the stays of a block, and say what was found; no stays if that is a problem."""
        rows = self._rows(batch)
        found = _Found(patient=rows.patient, words=words_of_unlisted(self.unlisted, self.courses))
        last: Floats = InMemory().latest(
            [array_of(batch, name).astype(np.float64, copy=False) for name in self.times]
        )
        kept = kept_rows(rows, self.courses, last, found)
        bridged = np.empty(0, dtype=np.int64)
        stays = _no_stays(doses=rows.dose is not None)
        if not found.problems:
            stays, bridged = settled_stays(rows, kept, self.courses, found)
        if not found.problems:
            faults = faults_of_stays(stays, self.names, ordered=self.ordered)
            for column, bad, what, expected in faults:
                found.note(f"stays.{column}", np.unique(stays.patient[bad]), what, expected)
        found.patients["bridged"] = np.unique(bridged)
        return (_no_stays(doses=rows.dose is not None) if found.problems else stays), found

    def settled(self, batch: pa.RecordBatch, stays: Stays) -> pa.RecordBatch:
        """Put settled stays, and when phases first start, into a block."""
        import pyarrow as pa

        starts = first_starts(stays, patients=batch.num_rows, phases=len(self.names))
        columns = {name: batch.column(name) for name in batch.schema.names if name != STAYS} | {
            column_name("start", phase): pa.array(starts[:, index], from_pandas=True)
            for index, phase in enumerate(self.names)
        }
        kind = type_of_lists(doses=stays.dose is not None)
        held = [pa.array(getattr(stays, field.name)).cast(field.type) for field in kind.value_type]
        offsets = np.searchsorted(stays.patient, np.arange(batch.num_rows + 1))
        columns[STAYS] = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()),
            pa.StructArray.from_arrays(held, fields=list(kind.value_type)),
        )
        return pa.RecordBatch.from_pydict(columns)

    def blocks(self, batches_: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Settle blocks, on an executor of Spark."""
        for batch in batches_:
            if batch.num_rows:
                yield self.settled(batch, self.settle(batch)[0])

    def _rows(self, batch: pa.RecordBatch) -> StayRows:
        """Take the rows of a block's patients off its lists."""
        lists = batch.column(STAYS)
        values = lists.flatten()

        def numbers(name: str) -> Floats:
            column = values.field(name).to_numpy(zero_copy_only=False)
            return np.asarray(column.astype(np.float64, copy=False))

        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        start = numbers("start")
        cycle = None
        if self.courses.cycle is not None:
            texts = values.field("cycle").dictionary_encode()
            codes = texts.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            empty = [code for code, text in enumerate(texts.dictionary.to_pylist()) if not text]
            cycle = np.where(np.isin(codes, empty), -1, codes)
        return StayRows(
            patient=np.repeat(np.arange(len(lists), dtype=np.int64), counts),
            phase=values.field("phase").to_numpy(zero_copy_only=False).astype(np.int64),
            start=start,
            stop=numbers("stop"),
            unread=np.zeros(start.size, dtype=bool),
            dose=None if self.courses.dose is None else numbers("dose"),
            cycle=cycle,
        )


def _no_stays(*, doses: bool) -> Stays:
    none, nobody = np.empty(0), np.empty(0, dtype=np.int64)
    return Stays(
        patient=nobody,
        phase=nobody,
        start=none,
        stop=none,
        cycles=none,
        dose=none if doses else None,
    )


class _Found:
    """What was found in a block: `bayesblina.patients.stay_rules.Findings`.

    `problems`: patients by column, what was found and what was expected.
    `patients`: patients by what was done: a kind of stays left out, or gaps bridged.
    """

    def __init__(self, *, patient: Ints, words: tuple[str, str]) -> None:
        self._patient, self._words = patient, words
        self.problems: dict[tuple[str, str, str], Ints] = {}
        self.patients: dict[str, Ints] = {}

    def note(self, column: str, patients: Ints, found: str, expected: str) -> None:
        """Note a problem of some patients, if there are any."""
        if patients.size:
            self.problems[column, found, expected] = patients

    def report(self, column: str, rows: Bools, found: str, expected: str) -> None:
        """Note a problem with some rows, if there are any."""
        self.note(column, np.unique(self._patient[rows]), found, expected)

    def leave_out(self, kind: str, rows: Bools) -> None:
        """Note which rows are left out."""
        self.patients[kind] = np.unique(self._patient[rows])

    def unlisted(self, rows: Bools) -> tuple[str, str]:  # noqa: ARG002 - examples are of all rows
        """Word which phases are not listed, and which listed one is near."""
        return self._words


class Judging:
    """Counts what is wrong with stays, and what was done: a `passes.Partial`.

    `counts`: patients by what was done, and ``"stays PHASE"``: stays, patients, and those who have
    more than one.
    `problems`: ids of the first patients, and how many there are.
    """

    def __init__(self, settling: Settling, key: str) -> None:
        self._settling, self._key = settling, key
        self._names: dict[tuple[str, str, str], pa.Table] = {}
        self.problems: dict[tuple[str, str, str], int] = {}
        self.counts: dict[str, Ints] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Judge a block."""
        self.settle(batch)

    def settle(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Judge a block, and settle its stays."""
        import pyarrow as pa

        stays, found = self._settling.settle(batch)
        for problem, patients in found.problems.items():
            ids = pa.table({"id": batch.column(self._key).take(pa.array(patients))})
            self._absorb(problem, ids, patients.size)
        counts = {name: np.array([who.size]) for name, who in found.patients.items()}
        for index, (_, often) in enumerate(stays_by_phase(stays, len(self._settling.names))):
            counts[f"stays {index}"] = np.array([often.sum(), often.size, (often > 1).sum()])
        self._count(counts)
        return self._settling.settled(batch, stays)

    def _count(self, counts: Mapping[str, Any]) -> None:
        for name, values in counts.items():
            self.counts[name] = self.counts.get(name, 0) + values

    def _absorb(self, problem: tuple[str, str, str], ids: pa.Table, count: int) -> None:
        import pyarrow as pa

        both = pa.concat_tables([self._names.get(problem, ids[:0]), ids]).sort_by("id")
        self._names[problem] = both[:NAMED_PATIENTS]
        self.problems[problem] = self.problems.get(problem, 0) + count

    def state(self) -> State:
        """Lay out what was found, for another process."""
        state: dict[str, Any] = {f"count {name}": held for name, held in self.counts.items()}
        for number_, (problem, ids) in enumerate(self._names.items()):
            state[f"problem {number_}"] = np.array([*problem, str(self.problems[problem])])
            state[f"ids {number_}"] = ids
        return state

    def merge(self, state: State) -> None:
        """Add what was found elsewhere."""
        begins = "count "
        self._count({name[len(begins) :]: state[name] for name in state if name[:6] == begins})
        for name in state:
            if name.startswith("problem "):
                column, found, expected, count = map(str, state[name])
                ids = state[name.replace("problem", "ids")]
                self._absorb((column, found, expected), ids, int(count))

    def told(self, courses: Courses) -> list[Problem]:
        """Say what is wrong."""
        problems = []
        for (column, found, expected), count in self.problems.items():
            names = [courses.columns.get(role, role) for role in column.split(", ")]
            ids = self._names[column, found, expected].column("id").to_pylist()
            problems.append(
                Problem(
                    column=", ".join(names),
                    found=found,
                    expected=expected,
                    patients=tuple(map(str, ids)),
                    count=count,
                )
            )
        return problems


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Joined:
    """Patients with their settled stays.

    `table`: the patients' columns, starts of phases among them, and `STAYS`.
    `embedded`: as of a `CohortScan`.
    """

    table: Any
    embedded: bool
    names: tuple[str, ...]
    stays: ScannedStays


def join_stays(
    patients: Any,
    courses: Courses,
    endpoints: Mapping[str, Endpoint],
    *,
    source: str,
    embedded: bool,
    memory_limit: str,
) -> Joined:
    """Read, judge and settle the stays of a scan's patients, or raise all problems at once.

    `patients`: the table of patients, whose columns were read and are in order.
    `source`, `embedded`: of that table.
    """
    backend = patients.get_backend()
    if backend.name not in ("duckdb", "pyspark"):
        raise SpecError(
            "Stays are collected by DuckDB or Spark, and this engine is another: give files, or "
            "read the patients with read_cohort."
        )
    table, beside = open_beside(courses.table, patients, embedded=embedded)
    declared, files = courses.columns, stamps(courses.table, backend) if embedded else ()
    require_roles({f"stay's {role}": column for role, column in declared.items()}, ())
    raise_problems(missing_columns(table.columns, list(declared.values())), beside)
    rows, unlisted = _read(table, courses, beside)
    patients, rows = _with_keys(patients, rows)
    strangers, count = _strangers(patients, rows, courses, beside)
    names = (*courses.names, *dict.fromkeys(courses.combinations.values()))
    settling = Settling(
        courses=_without_table(courses),
        times=tuple(column_name("time", name) for name in endpoints),
        names=names,
        ordered=courses.order == "listed" and not courses.combinations,
        unlisted=unlisted,
    )
    if on_executors(patients):
        collected = _collected(patients, rows)
        make = partial(Judging, settling, column_name("patient"))
        judged = summed(make, [collected], source)
        raise_problems([*strangers, *judged.told(courses)], beside)
        settled, own = _on_executors(collected, settling), False
    else:
        judged = Judging(settling, column_name("patient"))
        store = Store(backend if embedded else None, memory_limit)
        for part in _parts(patients, rows, beside):
            for batch in batches(part, source):
                store.add(judged.settle(batch))
        raise_problems([*strangers, *judged.told(courses)], beside)
        settled, own = store.table(), True
    nothing = ibis_module().null("float64")
    settled = settled.mutate(**{column_name("end", name): nothing for name in names})
    judged.counts["strangers"] = np.array([count])
    stays = ScannedStays(
        ordered=settling.ordered,
        doses_known=courses.dose is not None,
        lines=_lines(judged.counts, courses, names),
        source=beside,
        path=str(courses.table) if files else None,
        files=files,
    )
    return Joined(table=settled, embedded=own, names=names, stays=stays)


def _without_table(courses: Courses) -> Courses:
    """Leave the table itself out, for other processes."""
    return replace(courses, table=None)


def _read(table: Any, courses: Courses, source: str) -> tuple[Any, tuple[str, ...]]:
    """Read the columns of the stays strictly, and find texts of phases that are not listed."""
    reading = Reading(table, courses.patient)
    flags = [
        flag_problem(column)
        for column in (courses.start, courses.stop)
        if table[column].type().is_boolean()
    ]
    columns = {
        "key": reading.key,
        "start": reading.number(courses.start),
        "stop": reading.number(courses.stop),
        "phase": reading.text(courses.phase),
    }
    if courses.dose is not None:
        columns["dose"] = reading.number(courses.dose)
    if courses.cycle is not None:
        columns["cycle"] = reading.text(courses.cycle)
    broken = list(reading.broken.values())
    (counts,) = count_rows(table, source, [breach.rows for breach in broken])
    raise_problems([*flags, *named(reading, zip(broken, counts, strict=True), source)], source)
    rows = table.select(**columns)
    position = positions_of_texts(courses)
    other = rows.filter(rows.phase.notin(list(position))).select("phase").distinct()
    unlisted = run(other.order_by("phase").limit(3), source)["phase"]
    phase = rows.phase.cases(*position.items(), else_=-1).cast("int8")
    return rows.mutate(phase=phase), examples_of(unlisted)


def _with_keys(patients: Any, rows: Any) -> tuple[Any, Any]:
    """Give both tables a key of one type: numbers where both have these, else texts."""
    key = patients[column_name("patient")]
    if key.type().is_integer() and rows.key.type().is_integer():
        return patients.mutate(key=key.cast("int64")), rows.mutate(key=rows.key.cast("int64"))
    return patients.mutate(key=key.cast("string")), rows.mutate(key=rows.key.cast("string"))


def _strangers(
    patients: Any, rows: Any, courses: Courses, source: str
) -> tuple[list[Problem], int]:
    """Find patients with stays who are not in the table of patients, and how many there are."""
    other = rows.anti_join(patients, "key").select("key").distinct()
    count = int(run(other.count(), source))
    if not count or "strangers" in courses.leave_out:
        return [], count
    first = run(other.order_by("key").limit(NAMED_PATIENTS), source)["key"]
    found, expected = STRANGERS
    return [
        Problem(
            column=courses.patient,
            found=found,
            expected=f"{expected}, or leave_out=['strangers'] of Courses.",
            patients=tuple("" if who is None else str(who) for who in first),
            count=count,
        )
    ], count


def _collected(patients: Any, rows: Any) -> Any:
    """Collect each patient's stays, by time, beside the patient."""
    fields = {name: rows[name] for name in rows.columns if name != "key"}
    ibis = ibis_module()
    lists = rows.group_by(of=rows.key).aggregate(**{STAYS: ibis.struct(fields).collect().sort()})
    return patients.left_join(lists, patients.key == lists.of).drop("of")


def _parts(patients: Any, rows: Any, source: str) -> Iterator[Any]:
    """Collect the stays of some of the patients at a time, in an order that is always the same."""
    parts = min(-(-int(run(rows.count(), source)) // COLLECTED) or 1, 1024)
    for part in range(parts):
        some = [
            table if parts == 1 else table.filter((table.key.hash() & 1023) % parts == part)
            for table in (patients, rows)
        ]
        collected = _collected(*some)
        yield collected.order_by("key").drop("key")


def _on_executors(collected: Any, settling: Settling) -> Any:
    """Let Spark settle stays wherever they are read."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import from_arrow_schema

    backend, kinds = collected.get_backend(), collected.drop("key", STAYS).schema().to_pyarrow()
    starts = [pa.field(column_name("start", name), pa.float64()) for name in settling.names]
    lists = type_of_lists(doses=settling.courses.dose is not None)
    schema = pa.schema([*kinds, *starts, pa.field(STAYS, lists)])
    rows = backend.raw_sql(backend.compile(collected.drop("key")))
    name = ibis_module().util.gen_name("bayesblina")
    rows.mapInArrow(settling.blocks, from_arrow_schema(schema)).createOrReplaceTempView(name)
    return backend.table(name)


def _lines(counts: Mapping[str, Ints], courses: Courses, names: Sequence[str]) -> tuple[Line, ...]:
    """Say what was left out and bridged, and who has stays in each phase."""
    done = {kind: LEFT_OUT_STAYS[kind] for kind in LEFT_OUT_STAYS if kind in courses.leave_out}
    lines = [
        Line(step="repaired", what=what, patients=(), count=int(counts[kind][0]))
        for kind, what in done.items()
        if kind in counts and counts[kind][0]
    ]
    if courses.bridge:
        what, bridged = bridged_words(courses.bridge), counts.get("bridged", np.zeros(1))
        lines.append(Line(step="repaired", what=what, patients=(), count=int(bridged[0])))
    for index, phase in enumerate(names):
        stays, *patients = counts.get(f"stays {index}", np.zeros(3, dtype=np.int64)).tolist()
        lines += [
            Line(step="stays", phase=phase, what=what, patients=(), count=count)
            for what, count in zip(words_of_stays(stays), patients, strict=True)
            if count
        ]
    return tuple(lines)
