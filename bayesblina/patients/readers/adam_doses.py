"""ADEX: the first dose of each phase."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import DataError, Problem, SpecError, nearest
from bayesblina.patients.readers.adam_tables import (
    Filters,
    People,
    note_unchosen,
    rows_that_count,
)
from bayesblina.patients.readers.sources import missing_columns

ZeroDoses = Literal["leave out", "count"]

# "Cycle 3 Day 1", "CYCLE_03", "C3D1"; neither "Bicycle 3" nor "Cycle 3.5".
CYCLE = re.compile(
    r"(?<![a-z])(?:cycle[\s_-]*0*(\d+)(?!\d|\.\d)|c0*(\d+)d\d+(?!\d))", flags=re.IGNORECASE
)
CYCLE_COLUMNS = ("AVISIT", "VISIT", "EPOCH", "AVISITN", "CYCLE")


class Doses:
    """Doses of ADEX, and the phases that they belong to.

    `cycle`: column that names cycles; None for the first known one.
    """

    def __init__(
        self,
        adex: Any,
        people: People,
        phases: Mapping[str, int | str],
        *,
        cycle: str | None,
        zero_doses: ZeroDoses | None,
        filters: Filters,
    ) -> None:
        table, self.source = people.load(adex, "ADEX")
        if cycle is None:
            known = (name for name in CYCLE_COLUMNS if name in table.columns)
            cycle = next(known, CYCLE_COLUMNS[0])
        self.date = "ASTDT" if "ASTDT" in table.columns else "EXSTDTC"
        wanted = filters.get("ADEX", {})
        missing = missing_columns(table, ["USUBJID", cycle, self.date, *wanted])
        if missing:
            raise DataError(missing, source=self.source)
        written = {*map(str.strip, table[cycle].dropna().astype(str))}
        table, problems = rows_that_count(table, people, "ADEX", wanted)
        if wanted:  # a text of rows that are left out names no phase
            written = {*map(str.strip, table[cycle].dropna().astype(str))}
        self.people = people
        self.rows = people.open(table)
        self.rows.problems += problems
        note_unchosen(people, self.rows, "ADEX", wanted)
        self.row = people.rows_of(self.rows)
        self.chosen = self._phases(phases, cycle, written)
        self._zero_doses(zero_doses)

    def _phases(
        self, phases: Mapping[str, int | str], cycle: str, written: set[str]
    ) -> list[Bools]:
        """Choose the rows of each phase."""
        rows = self.rows
        text = pd.Series(rows.text(cycle))
        numbered = [start for start in phases.values() if isinstance(start, int)]
        if numbered != sorted(set(numbered)):
            raise SpecError(f"phases: the cycles must rise, got {dict(phases)!r}.")
        named = text.str.extract(CYCLE)
        number = named[0].where(named[0].notna(), named[1])
        number = number.where(number.notna(), text.where(text.str.fullmatch(r"\d+")))
        cycles = number.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        texts = [start for start in phases.values() if not isinstance(start, int)]
        present = set(text.tolist()) - {""}
        rows.problems += [
            Problem(column=cycle, found=f"no row with {start!r}", expected=nearest(start, written))
            for start in texts
            if start not in present and start not in written
        ]
        if numbered:
            rows.report(
                cycle,
                np.isnan(cycles) & ~text.isin(texts).to_numpy(),
                "rows that name no cycle",
                "Expected texts such as 'Cycle 3 Day 1' or 'C3D1', or numbers; give the column "
                "with cycle=, and leave rows that are no doses out with filters=.",
            )
        chosen = []
        for start in phases.values():
            if isinstance(start, int):
                later = [other for other in numbered if other > start]
                mine = (cycles >= start) & (cycles < (later[0] if later else np.inf))
            else:
                mine = (text == start).to_numpy()
            chosen.append(mine & (self.row >= 0))
        return chosen

    def _zero_doses(self, said: ZeroDoses | None) -> None:
        """Leave doses of 0 out or count them, as is said."""
        rows = self.rows
        if "EXDOSE" not in rows.frame.columns or not self.chosen:
            return
        dose = rows.numbers("EXDOSE")
        used = np.logical_or.reduce(self.chosen)
        rows.report("EXDOSE", used & (dose < 0), "negative doses", "Expected amounts.")
        zero = used & (dose == 0)
        if said is None:
            rows.report(
                "EXDOSE",
                zero,
                "doses of 0",
                "Say what they are: zero_doses='leave out' (skipped), or 'count' (placebo).",
            )
            return
        who = np.zeros(self.people.size, dtype=bool)
        who[self.row[zero]] = True
        done = "are left out" if said == "leave out" else "count as doses"
        self.people.note(f"ADEX doses of 0 {done} ({int(zero.sum())} rows)", who)
        if said == "leave out":
            self.chosen = [mine & ~zero for mine in self.chosen]

    def known(self) -> Floats:
        """First doses whose day is known, shape (phase, patient)."""
        return self._first(self.rows.known_dates(self.date)[0])

    def starts(self, zero: Floats, last: Floats) -> Floats:
        """Find each patient's first dose in each phase; partial dates within follow-up.

        `zero`, `last`, shape (patient,): day of the origin, and of the end of all follow-up.
        Result, shape (phase, patient): days; NaN without a dose.
        """
        rows, inside = self.rows, np.maximum(self.row, 0)
        days = rows.dates(self.date, after=zero[inside], before=last[inside])
        rows.report(
            self.date, rows.text(self.date) == "", "missing dates of doses", "Every dose needs one."
        )
        self.people.took(rows)
        if rows.problems:
            raise DataError(rows.problems, source=self.source)
        return self._first(days)

    def _first(self, days: Floats) -> Floats:
        first = np.full((len(self.chosen), self.people.size), np.inf)
        for index, mine in enumerate(self.chosen):
            np.fmin.at(first[index], self.row[mine], days[mine])
        return np.where(np.isfinite(first), first, np.nan)
