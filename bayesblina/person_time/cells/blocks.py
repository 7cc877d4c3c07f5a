"""Blocks of the patients of a scan: which columns are read of whom, and who of them is at risk.

No more than a block of patients is held at a time, in this process or on an executor of Spark. Who
is at risk, when, and in which state is what `bayesblina.person_time.tabulation` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.course_marks import CourseMarks, course_marks
from bayesblina.core.courses import CourseLayout, stays_of_phases
from bayesblina.core.episodes import AT_RISK
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.scan import CohortScan, coded
from bayesblina.patients.scan.engines import array_of
from bayesblina.patients.scan.passes import Partial, summed
from bayesblina.patients.scan.settling import STAYS, stays_of_lists
from bayesblina.person_time.cells.ordered import Moment, moments
from bayesblina.person_time.segments import Course
from bayesblina.person_time.tabulation import AtRisk, at_risk, entries_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Some patients: `bayesblina.person_time.tabulation.Block`, and their other columns.

    `courses`: how their own states follow from stays; None where the course's marks are theirs.
    """

    size: int
    endpoints: Mapping[str, Outcome]
    phase_start: Floats
    phase_end: Floats
    transplant: Floats | None
    courses: CourseLayout | None
    batch: pa.RecordBatch

    @cached_property
    def marks(self) -> CourseMarks | None:
        """Marks of patients' own states, made when they are asked for: not every pass does."""
        if self.courses is None:
            return None
        stays = (
            stays_of_lists(self.batch.column(STAYS))
            if STAYS in self.batch.schema.names
            else stays_of_phases(self.phase_start, self.phase_end)
        )
        return course_marks(stays, self.courses, self.size, self.transplant)

    def column(self, name: str) -> NDArray[Any]:
        """Take a column as an array."""
        return array_of(self.batch, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of each patient.

    `course`: states and their marks.
    `phases`: number of phases.
    `effects`: number of each state's effect; empty where entries are not looked for.
    """

    course: Course
    names: tuple[str, ...]
    phases: int
    effects: tuple[int, ...]

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """Lay out a block; times that were not read are missing."""
        read, size = set(batch.schema.names), batch.num_rows

        def times(name: str) -> Floats:
            if name not in read:
                return np.full(size, np.nan)
            return array_of(batch, name).astype(np.float64, copy=False)

        def matrix(kind: str) -> Floats:
            return np.stack([times(f"{kind}{index}") for index in range(self.phases)], axis=1)

        def event(name: str) -> Bools:
            if name not in read:
                return np.zeros(size, dtype=np.bool_)
            return array_of(batch, name).astype(np.bool_, copy=False)

        starts, ends = matrix("start"), matrix("end")
        transplant = times("transplant") if "transplant" in read else None
        return Rows(
            size=size,
            endpoints={
                name: Outcome(
                    time=times(f"time:{name}"),
                    event=event(f"event:{name}"),
                    entry=times(f"entry:{name}"),
                )
                for name in self.names
            },
            phase_start=starts,
            phase_end=ends,
            transplant=transplant,
            courses=self.course.courses,
            batch=batch,
        )

    def risks(self, rows: Rows) -> Iterator[tuple[AtRisk, Bools]]:
        """Find, endpoint by endpoint, who is at risk and when, and whether they contribute."""
        for name in self.names:
            risk = at_risk(rows, self.course, name)
            yield risk, risk.reason == AT_RISK

    def entered(self, rows: Rows, risk: AtRisk) -> dict[Moment, Floats]:
        """Find when patients of a block enter states of each effect."""
        if not self.effects:
            return {}
        times = entries_of(rows, risk, self.course, self.effects)
        return {moment: times[effect] for moment, effect in moments(self.effects).items()}


class Blocks:
    """Reads the patients of a scan.

    `effects`: number of each state's effect; empty where entries are not looked for.
    """

    def __init__(
        self, scan: CohortScan, course: Course, names: Sequence[str], effects: tuple[int, ...]
    ) -> None:
        self.scan = scan
        self.asked = Asked(
            course=course, names=tuple(names), phases=len(scan.phases), effects=effects
        )
        self._coded = coded(scan)

    def columns(self) -> list[str]:
        """Name all columns: of `bayesblina.patients.scan.coded`."""
        return list(self._coded.columns)

    def times(self) -> list[str]:
        """Name the columns that say who is at risk, when, and when they enter states."""
        course, scan = self.asked.course, self.scan
        columns = dict.fromkeys(
            f"{kind}:{name}" for name in self.asked.names for kind in ("time", "event", "entry")
        )
        if course.eligible_phase is not None:
            columns[f"start{course.eligible_phase}"] = None
        marks = course.marks if self.asked.effects else ()
        for mark in marks:
            columns[mark.kind if mark.kind == "transplant" else f"{mark.kind}{mark.phase}"] = None
        if course.courses is not None and self.asked.effects:
            if scan.recurring:
                columns[STAYS] = None
            else:
                for index in range(self.asked.phases):
                    columns[f"start{index}"] = columns[f"end{index}"] = None
            if course.courses.transplant:
                columns["transplant"] = None
        if course.censor_at_transplant and scan.transplant is not None:
            columns["transplant"] = None
        return list(columns)

    def eligible(self, columns: Sequence[str], *, hashed: bool = False) -> Any:
        """Pick columns of those who may become eligible."""
        table, first = self._coded, self.asked.course.eligible_phase
        if first is not None:
            table = table.filter(table[f"start{first}"].notnull())
        picked = {name: table[name] for name in columns}
        if hashed:
            picked["hash"] = table["id"].hash()
        return table.select(**picked)

    def never_eligible(self) -> list[Any]:
        """Pick ids and entries of those who never reach the phase of eligibility, if there is one.

        A list of one table, or of none.
        """
        table, first = self._coded, self.asked.course.eligible_phase
        if first is None:
            return []
        columns = ["id", *(f"entry:{name}" for name in self.asked.names)]
        return [table.filter(table[f"start{first}"].isnull()).select(*columns)]

    def summed[P: Partial](self, make: Callable[[], P], *tables: Any, in_order: bool = False) -> P:
        """Add up tables of the patients.

        `in_order`: whether sums depend on the order of patients: that of files, elsewhere that of
        ids.
        """
        by = "id" if in_order and not self.scan.embedded else None
        return summed(make, tables, self.scan.source, by=by)
