"""What is wrong with a table of an engine: all of it at once, in the words of tables in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bayesblina.core.errors import NAMED_PATIENTS, Problem
from bayesblina.patients.readers.columns import MOST_LEVELS
from bayesblina.patients.readers.roles import counts_of_flag, flag_problem
from bayesblina.patients.rules import Broken, NearTies, PatientColumns, tie_of, unit_words
from bayesblina.patients.scan.counting import Counting, Declared, settled_columns
from bayesblina.patients.scan.engines import run
from bayesblina.patients.scan.passes import summed
from bayesblina.patients.scan.reading import InEngine, Reading
from bayesblina.patients.short_numbers import (
    SHORT_EXPECTED,
    SHORT_FOUND,
    are_short,
    lost_at_the_end,
)


def find_problems(
    reading: Reading,
    declared: Declared,
    columns: PatientColumns,
    told: Sequence[Broken],
    source: str,
) -> tuple[list[Problem], int, NearTies]:
    """Find all problems: one pass that counts, and a look-up of patients for each problem.

    `told`: who broke what while columns were read.
    Result: the problems; the number of rows; the near ties.
    """
    asked = {"id": reading.key, **declared.asked(columns)}
    asked |= {f"told{index}": one.rows.fill_null(False) for index, one in enumerate(told)}
    counts = summed(partial(Counting, declared), [reading.raw.select(**asked)], source)
    size = int(counts["size"])
    settled, near = settled_columns(columns, InEngine(), declared.unit, declared.ends)
    if not size:
        return [], 0, NearTies(patients=0, pairs=frozenset(), far=False)
    problems = _lost(reading, declared, columns, counts, source)
    broken = [*told, *declared.rules(settled, InEngine(), [one.rows for one in told])]
    problems += [
        named(reading, one, count, source)
        for one, count in zip(broken, counts["broken"].tolist(), strict=True)
        if count
    ]
    for role, (known, zeros, ones) in zip(declared.times, counts["flags"].tolist(), strict=True):
        column = declared.roles[role]
        if counts_of_flag(known, zeros, ones, size) or reading.raw[column].type().is_boolean():
            problems.append(flag_problem(column))
    patient = declared.roles["patient"]
    nameless = int(counts["nameless"])
    if nameless:
        problems.append(
            Problem(
                column=patient,
                found=f"missing ids in {nameless} rows",
                expected="Every patient needs an id.",
            )
        )
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
        found = run(seen.aggregate(middle=seen.seen.median(), most=seen.seen.max()), source)
        words = unit_words(declared.unit, *map(float, found.iloc[0]))
        if words is not None:
            column = declared.roles[f"{name}.time"]
            problems.append(Problem(column=column, found=words[0], expected=words[1]))
    return problems


def _lost(
    reading: Reading, declared: Declared, columns: PatientColumns, counts: Counting, source: str
) -> list[Problem]:
    """Find times of too few digits to be told from the end of follow-up."""
    times, tie = list(columns.time.values()), tie_of(declared.unit)
    problems = []
    for (role, mark), digits in zip(
        declared.marks(columns).items(), counts["digits"].tolist(), strict=True
    ):
        if not are_short(*digits):
            continue
        rows = lost_at_the_end(mark, times, tie, InEngine())
        found = reading.raw.aggregate(lost=rows.fill_null(False).cast("int64").sum())
        count = int(run(found, source).iloc[0].fillna(0).iloc[0])
        if count:
            broken = Broken(
                role=declared.roles[role], rows=rows, found=SHORT_FOUND, expected=SHORT_EXPECTED
            )
            problems.append(named(reading, broken, count, source))
    return problems


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
