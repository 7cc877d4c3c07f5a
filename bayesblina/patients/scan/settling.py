"""Stays of blocks of patients: judged and settled by the rules of memory, and what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.courses import Stays
from bayesblina.core.errors import NAMED_PATIENTS, Problem
from bayesblina.patients.declarations import Courses
from bayesblina.patients.rules import InMemory
from bayesblina.patients.scan.engines import array_of
from bayesblina.patients.scan.passes import State
from bayesblina.patients.scan.reading import column_name
from bayesblina.patients.stay_rules import (
    AFTER,
    UNLISTED,
    StayRows,
    kept_rows,
    settled_stays,
)
from bayesblina.patients.stays import (
    ends_by_unit,
    far_ends,
    faults_of_stays,
    first_starts,
    stays_by_phase,
    unit_problem,
)

if TYPE_CHECKING:
    import pyarrow as pa

# The column that holds each patient's stays, by time.
STAYS = "stays"
_COLUMNS = ("start", "stop", "phase", "cycles", "dose")


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
    unit: str
    ordered: bool
    unlisted: tuple[str, ...]

    def settle(self, batch: pa.RecordBatch) -> tuple[Stays, _Found]:
        """Settle the stays of a block, and say what was found; no stays if that is a problem."""
        rows = self._rows(batch)
        found = _Found(patient=rows.patient, unlisted=self.unlisted)
        last: Floats = InMemory().latest(
            [array_of(batch, name).astype(np.float64, copy=False) for name in self.times]
        )
        kept = kept_rows(rows, self.courses, last, found)
        stays = _no_stays(doses=rows.dose is not None)
        if not found.problems:
            settled = settled_stays(rows, kept, self.courses, last, found)
            stays = settled.stays
            found.patients["overlapping"] = np.unique(settled.overlapping)
            found.patients["bridged"] = np.unique(settled.bridged)
            found.patients["prolonged"] = np.unique(settled.prolonged)
            ended, far = far_ends(stays.patient, stays.stop, last)
            found.counts["far"] = np.array(
                [np.unique(stays.patient[far]).size, far.sum(), ended.sum()]
            )
        elif any(what == AFTER for _, what, _ in found.problems):
            found.counts["ends"] = ends_by_unit(rows.patient, rows.stop, last, self.unit)
        if not found.problems:
            faults = faults_of_stays(stays, self.names, ordered=self.ordered)
            for column, bad, what, expected in faults:
                found.note(f"stays.{column}", np.unique(stays.patient[bad]), what, expected)
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
            nameless=np.zeros(start.size, dtype=bool),
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
    `patients`: patients by what was done: a kind of stays left out, overlaps settled, gaps bridged.
    `counts`: further numbers, by what they are of.
    """

    def __init__(self, *, patient: Ints, unlisted: tuple[str, ...]) -> None:
        self._patient, self._unlisted = patient, unlisted
        self.problems: dict[tuple[str, str, str], Ints] = {}
        self.patients: dict[str, Ints] = {}
        self.counts: dict[str, Ints] = {}

    def note(self, column: str, patients: Ints, found: str, expected: str) -> None:
        """Note a problem of some patients, if there are any."""
        if patients.size:
            self.problems[column, found, expected] = patients

    def report(
        self,
        column: str,
        rows: Bools,
        found: str,
        expected: str,
        examples: tuple[str, ...] = (),  # noqa: ARG002 - those of all rows are told
    ) -> None:
        """Note a problem with some rows, if there are any."""
        self.note(column, np.unique(self._patient[rows]), found, expected)

    def change(self, kind: str, rows: Bools) -> None:
        """Note which rows are left out or clipped."""
        self.patients[kind] = np.unique(self._patient[rows])

    def unlisted(self, rows: Bools) -> tuple[str, ...]:  # noqa: ARG002 - examples are of all rows
        """Give examples of texts of phases that are not listed."""
        return self._unlisted


class Judging:
    """Counts what is wrong with stays, and what was done: a `passes.Partial`.

    `counts`: patients by what was done; ``"stays PHASE"``: those who have any, and more than one;
    ``"far"``: those with stays that end far beyond follow-up, such stays, and all that end.
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
        counts |= found.counts
        for index, (_, often) in enumerate(stays_by_phase(stays, len(self._settling.names))):
            counts[f"stays {index}"] = np.array([often.size, (often > 1).sum()])
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
            examples = self._settling.unlisted if found == UNLISTED else ()
            quoted = f" ({', '.join(map(repr, examples))})" if examples else ""
            problems.append(
                Problem(
                    column=", ".join(names),
                    found=f"{found}{quoted}",
                    expected=expected,
                    patients=tuple(map(str, ids)),
                    count=count,
                    examples=examples,
                )
            )
        ends = self.counts.get("ends")
        unit = None if ends is None else unit_problem(ends, self._settling.unit)
        if unit is not None:
            columns = f"{courses.start}, {courses.stop}"
            problems.append(Problem(column=columns, found=unit[0], expected=unit[1]))
        return problems
