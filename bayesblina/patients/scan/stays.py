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
from types import MappingProxyType
from typing import Any

import numpy as np

from bayesblina.core.arrays import Ints
from bayesblina.core.errors import NAMED_PATIENTS, Problem, SpecError
from bayesblina.patients.account import Line
from bayesblina.patients.declarations import CLIPPED_STAYS, LEFT_OUT_STAYS, Courses, Endpoint
from bayesblina.patients.readers.sources import (
    flag_problem,
    missing_columns,
    raise_problems,
    require_roles,
)
from bayesblina.patients.readers.texts import examples_of
from bayesblina.patients.scan.checks import count_rows, named
from bayesblina.patients.scan.engines import (
    BlockTable,
    batches,
    ibis_module,
    open_beside,
    run,
    stamps,
)
from bayesblina.patients.scan.passes import on_executors, summed
from bayesblina.patients.scan.reading import Reading, column_name
from bayesblina.patients.scan.settling import STAYS, Judging, Settling, type_of_lists
from bayesblina.patients.stay_rules import (
    NAMELESS,
    STRANGERS,
    are_ordered,
    bridged_words,
    grace_words,
    names_of_phases,
    overlap_words,
    phases_by_combination,
    positions_of_texts,
)
from bayesblina.patients.stays import FAR_ENDS, SEEN_IN, most_are_far

# Stays that DuckDB collects at a time: its lists, unlike all else, must fit into memory.
COLLECTED = 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScannedStays:
    """What is known of the stays of a scan.

    `ordered`, `combinations`, `doses_known`: as of a `Cohort`.
    `lines`: what an account says of them.
    `source`, `path`, `files`: as of a `CohortScan`.
    """

    ordered: bool
    combinations: Mapping[str, tuple[str, ...]]
    doses_known: bool
    lines: tuple[Line, ...]
    source: str
    path: str | None
    files: tuple[tuple[str, int, int], ...]


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
    unit: str,
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
    names = names_of_phases(courses)
    settling = Settling(
        courses=_without_table(courses),
        times=tuple(column_name("time", name) for name in endpoints),
        names=names,
        unit=unit,
        ordered=are_ordered(courses),
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
        store = BlockTable(backend if embedded else None, memory_limit)
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
        combinations=MappingProxyType(phases_by_combination(courses)),
        doses_known=courses.dose is not None,
        lines=_lines(judged.counts, courses, names, unit),
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
    nameless = int(run(rows.filter(rows.key.isnull()).count(), source))
    problems = []
    if nameless:
        found, expected = NAMELESS
        problems.append(
            Problem(column=courses.patient, found=found, expected=expected, patients=("",))
        )
    other = rows.filter(rows.key.notnull()).anti_join(patients, "key").select("key").distinct()
    count = int(run(other.count(), source))
    if not count or "strangers" in courses.leave_out:
        return problems, count
    first = run(other.order_by("key").limit(NAMED_PATIENTS), source)["key"]
    found, expected = STRANGERS
    return [
        *problems,
        Problem(
            column=courses.patient,
            found=found,
            expected=f"{expected}, or leave_out=['strangers'] of Courses.",
            patients=tuple(map(str, first)),
            count=count,
        ),
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


def _lines(
    counts: Mapping[str, Ints], courses: Courses, names: Sequence[str], unit: str
) -> tuple[Line, ...]:
    """Say what was left out, settled and bridged, and who has stays in each phase."""
    done = {kind: LEFT_OUT_STAYS[kind] for kind in LEFT_OUT_STAYS if kind in courses.leave_out}
    done |= CLIPPED_STAYS if courses.before_origin == "clip" else {}
    lines = [
        Line(step="repaired", what=what, patients=(), count=int(counts[kind][0]))
        for kind, what in done.items()
        if kind in counts and counts[kind][0]
    ]
    changed = {"overlapping": overlap_words(courses)} if courses.overlap != "refuse" else {}
    changed |= {"bridged": bridged_words(courses.bridge, unit)} if courses.bridge else {}
    changed |= {"prolonged": grace_words(courses.grace, unit)} if courses.grace else {}
    lines += [
        Line(step="repaired", what=what, patients=(), count=int(counts.get(kind, np.zeros(1))[0]))
        for kind, what in changed.items()
    ]
    who, far, ended = counts.get("far", np.zeros(3, dtype=np.int64)).tolist()
    if most_are_far(far, ended):
        lines.append(Line(step="stays", what=FAR_ENDS, patients=(), count=who))
    for index, phase in enumerate(names):
        patients = counts.get(f"stays {index}", np.zeros(2, dtype=np.int64)).tolist()
        lines += [
            Line(step="stays", phase=phase, what=what, patients=(), count=count)
            for what, count in zip(SEEN_IN, patients, strict=True)
            if count
        ]
    return tuple(lines)
