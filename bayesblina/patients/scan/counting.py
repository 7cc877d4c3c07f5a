"""Who breaks the rules, counted block by block: an engine reads, the rules are those of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.patients.readers.columns import NOT_NUMBERS
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
)
from bayesblina.patients.scan.engines import array_of
from bayesblina.patients.scan.passes import State
from bayesblina.patients.short_numbers import digits_of

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
    `transplant`: whether anything is known of transplants.
    `times`: roles of the columns of times.
    `told`: what may have broken while columns were read: each column, and what was found in it.
    """

    unit: str
    roles: Mapping[str, str]
    ends: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    transplant: bool
    times: tuple[str, ...]
    told: tuple[tuple[str, str], ...]

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
        return asked | ({"transplant": columns.transplant} if self.transplant else {})

    def read(self, batch: pa.RecordBatch) -> PatientColumns:
        """Lay out the numbers of a block as `PatientColumns`."""

        def numbers(name: str) -> Floats:
            return array_of(batch, name).astype(np.float64, copy=False)

        kinds: dict[str, Any] = {
            kind: {name: numbers(f"{kind}{index}") for index, name in enumerate(names)}
            for kind, names in self.names.items()
        }
        return PatientColumns(
            **kinds, transplant=numbers("transplant") if self.transplant else None
        )

    def times_of(self, columns: PatientColumns) -> list[Any]:
        """Pick the columns of times, each once."""
        by_role = columns.marks() | {f"{name}.time": one for name, one in columns.time.items()}
        by_role |= {f"{name}.entry": one for name, one in columns.entry.items()}
        return [by_role[role] for role in self.times]

    def rules(
        self, columns: PatientColumns, arithmetic: Arithmetic, told: Sequence[Any]
    ) -> list[Broken]:
        """Go through the rules, of columns of the engine or of arrays.

        `told`: rows of what broke while columns were read: who has been told so is not told again.
        """
        unread = {
            column: rows
            for (column, found), rows in zip(self.told, told, strict=True)
            if found == NOT_NUMBERS
        }
        broken = []
        for one in rules(columns, arithmetic, unit=self.unit):
            column = self.roles.get(one.role, one.role)
            rows = one.rows & ~unread[column] if column in unread else one.rows
            expected = one.expected.replace(REPAIR, REPAIR_ELSEWHERE)
            broken.append(Broken(role=column, rows=rows, found=one.found, expected=expected))
        return broken


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
        ruled = [one.rows for one in declared.rules(settled, InMemory(), told)]
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
