"""ADEX of CDISC ADaM as a table of stays, in which phases may recur."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.patients.declarations import BeforeOrigin, Courses, LeaveOutStays
from bayesblina.patients.readers.adam_tables import (
    CYCLE_COLUMNS,
    Filters,
    People,
    ZeroDoses,
    cycles_of,
    note_unchosen,
    rows_that_count,
)
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.sources import raise_problems, require_columns
from bayesblina.patients.readers.stays import Dated, StaysRead, read_stays
from bayesblina.patients.rules import DAYS_PER_UNIT

# Where the cycles that were read off texts stand; no column of ADaM has a blank in its name.
CYCLE_OF_STAY = "ADEX cycle"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdamCourses:
    """Rows of ADEX as stays, in which phases may recur.

    Takes the place of phases where `bayesblina.read_adam` reads ADEX: each row is a stay from
    ASTDT to the end of AENDT (else EXSTDTC, EXENDTC), or, where another stay of the patient begins
    on that day, to its beginning.

    Parameters
    ----------
    phases
        Phases: their names as the column gives them, or a mapping from the names wanted to the
        text, or the texts, in the column.
    phase
        ADEX's column with the treatment.
    dose
        ADEX's column with the dose, such as EXDOSE.
    dose_per
        What `dose` is: given in the whole ``"stay"``, or on each ``"day"`` of it, as of a
        continuous infusion. Must be said with `dose`.
    bridge, grace, overlap, order, leave_out, before_origin
        As for `bayesblina.Courses`; the unit is that of `read_adam`.

    Raises
    ------
    SpecError
        If a value is impossible in itself.

    Examples
    --------
    >>> AdamCourses(phases={"treatment": "BLINATUMOMAB"}, dose="EXDOSE", dose_per="day").names
    ('treatment',)
    """

    phases: Sequence[str] | Mapping[str, str | Sequence[str]]
    phase: str = "EXTRT"
    dose: str | None = None
    dose_per: Literal["stay", "day"] | None = None
    bridge: float = 0.0
    grace: float = 0.0
    overlap: Literal["refuse"] | Sequence[str] | Mapping[str, str] = "refuse"
    order: Literal["listed", "any"] = "listed"
    leave_out: Sequence[LeaveOutStays] = ()
    before_origin: BeforeOrigin = "refuse"

    def __post_init__(self) -> None:
        if self.dose_per not in (None, "stay", "day"):
            raise SpecError(f"dose_per must be 'stay' or 'day', got {self.dose_per!r}.")
        if (self.dose is None) != (self.dose_per is None):
            raise SpecError(
                "dose and dose_per go together: dose='EXDOSE' is given in the whole stay "
                "(dose_per='stay'), or on each day of it ('day')."
            )
        self.of(None, start="ASTDT", stop="AENDT", cycle=None)

    @property
    def names(self) -> tuple[str, ...]:
        """Phase names in order, without those of combinations."""
        return tuple(self.phases)

    def of(self, table: Any, *, start: str, stop: str, cycle: str | None) -> Courses:
        """Declare the stays of a table.

        Parameters
        ----------
        table
            Rows of ADEX.
        start, stop, cycle
            Its columns.

        Returns
        -------
        Courses
            The declaration.
        """
        own = {item.name: getattr(self, item.name) for item in fields(self)}
        del own["dose_per"]
        return Courses(table=table, patient="USUBJID", start=start, stop=stop, cycle=cycle, **own)


def read_exposure(
    adex: Any,
    people: People,
    courses: AdamCourses,
    *,
    cycle: str | None,
    zero_doses: ZeroDoses | None,
    filters: Filters,
) -> tuple[Courses, str]:
    """Choose the rows of ADEX that are stays.

    `cycle`: column that names cycles; None for the first known one, if its texts name cycles.
    Result: the declaration of these rows, and what the dataset is called.
    """
    table, source = people.load(adex, "ADEX")
    start, stop = (
        named if named in table.columns else written
        for named, written in (("ASTDT", "EXSTDTC"), ("AENDT", "EXENDTC"))
    )
    wanted = filters.get("ADEX", {})
    named = [courses.phase, *([] if courses.dose is None else [courses.dose])]
    named += [] if cycle is None else [cycle]
    require_columns(table, ["USUBJID", start, stop, *named, *wanted], source)
    counted, problems = rows_that_count(table, people, "ADEX", wanted)
    rows = people.open(counted)
    rows.problems += problems
    note_unchosen(people, rows, "ADEX", wanted)
    kept = rows.frame.assign(**{CYCLE_OF_STAY: _cycles(rows, people, cycle)})
    declared = courses.of(kept, start=start, stop=stop, cycle=CYCLE_OF_STAY)
    texts = [text for held in declared.texts.values() for text in held]
    used = np.isin(rows.text(courses.phase), texts)
    kept = kept.loc[~people.zero_doses(rows, used, zero_doses)].reset_index(drop=True)
    raise_problems(rows.problems, source)
    return courses.of(kept, start=start, stop=stop, cycle=CYCLE_OF_STAY), source


def _cycles(rows: Columns, people: People, cycle: str | None) -> pd.Series:
    """Name the cycle of each row; empty where each row is one."""
    who = np.isin(people.columns.ids, rows.ids)
    known = [name for name in CYCLE_COLUMNS if name in rows.frame.columns]
    for name in known if cycle is None else [cycle]:
        text = pd.Series(rows.text(name), index=rows.frame.index)
        number = cycles_of(text)
        if cycle is not None or (number.notna() & (text != "")).all():
            people.note(f"ADEX rows of one {name} that follow each other are one cycle", who)
            return number.fillna(text)
    people.note("ADEX rows are a cycle each", who)
    return pd.Series("", index=rows.frame.index)


def read_stays_of_exposure(
    courses: AdamCourses,
    declared: Courses,
    people: People,
    *,
    source: str,
    zero: Floats,
    unit: str,
    last: Floats,
) -> StaysRead:
    """Read the stays.

    `zero`, `last`, shape (patient,): day of the origin, and time at which all follow-up ends.
    """
    columns = people.columns
    dated = Dated(
        zero=zero,
        days_per_unit=DAYS_PER_UNIT[unit],
        ends_of_days=True,
        date_format=columns.date_format,
        partial_dates=columns.partial_dates,
        dose_per_day=courses.dose_per == "day",
    )
    return read_stays(declared, columns.ids, last, unit, dated, part_of=source)
