"""ADSL and ADEX of CDISC ADaM: the patients, which rows count, and the first dose of each phase."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import Problem, SpecError, nearest
from bayesblina.patients.cohort import Exclusion, Repair
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.dates import PartialDates
from bayesblina.patients.readers.sources import (
    hashes,
    load_table,
    raise_problems,
    require_columns,
)

# The flag of the records that are analysed, Y or empty.
ANALYSED = "ANL01FL"

Dataset = Literal["ADSL", "ADTTE", "ADEX", "ADRS"]
Filters = Mapping[Dataset, Mapping[str, str | Sequence[str]]]
ZeroDoses = Literal["leave out", "count"]

# "Cycle 3 Day 1", "CYCLE_03", "C3D1"; neither "Bicycle 3" nor "Cycle 3.5".
CYCLE = re.compile(
    r"(?<![a-z])(?:cycle[\s_-]*0*(\d+)(?!\d|\.\d)|c0*(\d+)d\d+(?!\d))", flags=re.IGNORECASE
)
CYCLE_COLUMNS = ("AVISIT", "VISIT", "EPOCH", "AVISITN", "CYCLE")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """The patients of ADSL.

    `columns`: ADSL, of those who are in.
    `excluded`: ids of those who are left out.
    `made`: what was done to other datasets' rows, in the order in which it was done.
    `file_hashes`: SHA-256 of the file of each dataset read so far, by its name.
    """

    columns: Columns
    excluded: frozenset[str]
    source: str
    exclusions: tuple[Exclusion, ...]
    made: list[Repair] = field(default_factory=list)
    file_hashes: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of patients."""
        return int(self.columns.ids.size)

    def rows_of(self, columns: Columns) -> Ints:
        """Find the row of ADSL of each row; -1 for strangers, who are reported."""
        row = pd.Index(self.columns.ids).get_indexer(pd.Index(columns.ids))
        columns.report(
            "USUBJID",
            row < 0,
            "patients who are not in ADSL",
            "Every USUBJID must have a row in ADSL.",
        )
        return row.astype(np.int64)

    def load(self, table: Any, name: Dataset) -> tuple[pd.DataFrame, str]:
        """Load another dataset, and remember the hash of its file."""
        frame, source = load(table, name)
        self.file_hashes.update(hashes(frame, f"{source} ({name})"))
        return frame, source

    def open(self, table: pd.DataFrame) -> Columns:
        """Read another dataset with the same rules for dates."""
        return Columns(
            table,
            "USUBJID",
            partial_dates=self.columns.partial_dates,
            date_format=self.columns.date_format,
        )

    def took(self, columns: Columns) -> None:
        """Remember the partial dates of another dataset."""
        self.columns.imputed += columns.imputed

    def zero_doses(self, rows: Columns, used: Bools, said: ZeroDoses | None) -> Bools:
        """Find the rows of ADEX that are left out, as is said of doses of 0.

        `used`, shape (row,): rows that count as doses.
        """
        none = np.zeros(used.size, dtype=bool)
        if "EXDOSE" not in rows.frame.columns:
            return none
        dose = rows.numbers("EXDOSE")
        rows.report("EXDOSE", used & (dose < 0), "negative doses", "Expected amounts.")
        zero = used & (dose == 0)
        if said is None:
            rows.report(
                "EXDOSE",
                zero,
                "doses of 0",
                "Say what they are: zero_doses='leave out' (skipped), or 'count' (placebo).",
            )
            return none
        done = "are left out" if said == "leave out" else "count as doses"
        who = np.isin(self.columns.ids, rows.ids[zero])
        self.note(f"ADEX doses of 0 {done} ({int(zero.sum())} rows)", who)
        return zero if said == "leave out" else none

    def note(self, rule: str, who: Bools) -> None:
        """Count patients for whom something was done."""
        self.made.append(Repair(rule=rule, patients=tuple(map(str, self.columns.ids[who]))))


def cycles_of(text: pd.Series) -> pd.Series:
    """Read the numbers of cycles off texts; missing where a text names none."""
    named = text.str.extract(CYCLE)
    number = named[0].combine_first(named[1])
    return number.combine_first(text.where(text.str.fullmatch(r"\d+")))


def load(table: Any, name: str) -> tuple[pd.DataFrame, str]:
    """Load a dataset; one in memory is called by its name in ADaM."""
    frame, source = load_table(table)
    return frame, name if source == "the table" else source


def require_filters(filters: Any) -> None:
    """Refuse filters of datasets that there are not, or that are no texts."""
    example = "{'ADTTE': {'ANL01FL': 'Y'}, 'ADEX': {'PARAMCD': ['DOSE']}}"
    if not isinstance(filters, Mapping):
        raise SpecError(f"filters must map datasets to columns and values, such as {example}.")
    for dataset, wanted in filters.items():
        if dataset not in get_args(Dataset):
            raise SpecError(
                f"filters: no dataset '{dataset}'; there are ADSL, ADTTE, ADEX and ADRS."
            )
        if not isinstance(wanted, Mapping) or not all(
            isinstance(values, list | tuple | str)
            and values
            and all(isinstance(value, str) for value in values)
            for values in wanted.values()
        ):
            raise SpecError(f"filters: give each column a text, or a list of them: {example}.")


def read_people(
    table: Any,
    *,
    wanted: Sequence[str],
    origin: str,
    population: str | None,
    filters: Mapping[str, str | Sequence[str]],
    partial_dates: PartialDates,
    date_format: str,
) -> People:
    """Read ADSL: its patients, and who is left out.

    The patients; what is wrong with them is still to be raised.
    """
    subjects, source = load(table, "ADSL")
    flag = [population] if population else []
    require_columns(subjects, ["USUBJID", origin, *wanted, *flag, *filters], source)
    everybody = Columns(
        subjects,
        "USUBJID",
        partial_dates=partial_dates,
        date_format=date_format,
        numbers=np.arange(1, len(subjects) + 1),
    )
    everybody.report(
        "USUBJID",
        pd.Series(everybody.ids).duplicated(keep=False).to_numpy(),
        "ids that stand in more than one row",
        "ADSL has one row per patient.",
    )
    keep = np.ones(everybody.ids.size, dtype=bool)
    exclusions = []

    def leave(out: Bools, reason: str) -> None:
        ids = tuple(dict.fromkeys(str(patient) for patient in everybody.ids[keep & out]))
        if ids:
            exclusions.append(Exclusion(reason=reason, patients=ids))
        keep[out] = False

    if population is not None:
        text = everybody.text(population)
        everybody.report(
            population,
            ~np.isin(text, ("Y", "N", "")),
            "flags other than Y and N",
            "A population flag is Y, N or empty.",
        )
        leave(text != "Y", f"{population} is not Y")
    for column, values in filters.items():
        leave(~_chosen(everybody, column, values), f"{column} is not {_words(values)}")
    return People(
        columns=everybody.narrowed(np.flatnonzero(keep)),
        excluded=frozenset(who for exclusion in exclusions for who in exclusion.patients),
        source=source,
        exclusions=tuple(exclusions),
        file_hashes=hashes(subjects, f"{source} (ADSL)"),
    )


def rows_that_count(
    table: pd.DataFrame,
    people: People,
    dataset: Dataset,
    filters: Mapping[str, str | Sequence[str]],
) -> tuple[pd.DataFrame, list[Problem]]:
    """Leave out rows of patients who are left out, whatever is in them, and rows by filters."""
    columns = Columns(table, "USUBJID")
    keep = ~pd.Series(columns.ids).isin(people.excluded).to_numpy()
    for column, values in filters.items():
        chosen = _chosen(columns, column, values)
        out = keep & ~chosen
        people.note(
            f"{dataset} rows whose {column} is not {_words(values)} are left out "
            f"({int(out.sum())} rows)",
            np.isin(people.columns.ids, columns.ids[out]),
        )
        keep &= chosen
    return table.loc[keep].reset_index(drop=True), columns.problems


def note_unchosen(
    people: People, columns: Columns, dataset: Dataset, filters: Mapping[str, str | Sequence[str]]
) -> None:
    """Tell of rows that count although the dataset's own flag says that they are not analysed."""
    if ANALYSED not in columns.frame.columns or ANALYSED in filters:
        return
    text = columns.text(ANALYSED)
    out = text != "Y"
    # A column that nobody filled in says nothing.
    if out.any() and (text != "").any():
        people.note(
            f"{dataset} rows whose {ANALYSED} is not Y count ({int(out.sum())} rows; "
            f"filters={{'{dataset}': {{'{ANALYSED}': 'Y'}}}})",
            np.isin(people.columns.ids, columns.ids[out]),
        )


def _chosen(columns: Columns, column: str, values: str | Sequence[str]) -> Bools:
    """Find the rows with one of the values; a value that no row has is reported."""
    text = columns.text(column)
    wanted = [values] if isinstance(values, str) else list(values)
    known = sorted(set(text.tolist()) - {""})
    columns.problems += [
        Problem(column=column, found=f"no row with {value!r}", expected=nearest(value, known))
        for value in wanted
        if value not in known
    ]
    return np.isin(text, wanted)


def _words(values: str | Sequence[str]) -> str:
    return values if isinstance(values, str) else " or ".join(values)


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
            cycle = next((name for name in CYCLE_COLUMNS if name in table), CYCLE_COLUMNS[0])
        self.date = "ASTDT" if "ASTDT" in table.columns else "EXSTDTC"
        wanted = filters.get("ADEX", {})
        require_columns(table, ["USUBJID", cycle, self.date, *wanted], self.source)
        counted, problems = rows_that_count(table, people, "ADEX", wanted)
        # A text of rows that filters leave out names no phase.
        texts = (counted if wanted else table)[cycle]
        written = {*map(str.strip, texts.dropna().astype(str))}
        self.people = people
        self.rows = people.open(counted)
        self.rows.problems += problems
        note_unchosen(people, self.rows, "ADEX", wanted)
        self.row = people.rows_of(self.rows)
        self.chosen = self._phases(phases, cycle, written)
        if self.chosen:
            zero = people.zero_doses(self.rows, np.logical_or.reduce(self.chosen), zero_doses)
            self.chosen = [mine & ~zero for mine in self.chosen]

    def _phases(
        self, phases: Mapping[str, int | str], cycle: str, written: set[str]
    ) -> list[Bools]:
        """Choose the rows of each phase."""
        rows = self.rows
        text = pd.Series(rows.text(cycle))
        numbered = [start for start in phases.values() if isinstance(start, int)]
        if numbered != sorted(set(numbered)):
            raise SpecError(f"phases: the cycles must rise, got {dict(phases)!r}.")
        cycles = cycles_of(text).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
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
        following = dict(pairwise([*numbered, np.inf]))
        return [
            (
                (cycles >= start) & (cycles < following[start])
                if isinstance(start, int)
                else (text == start).to_numpy()
            )
            & (self.row >= 0)
            for start in phases.values()
        ]

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
        raise_problems(rows.problems, self.source)
        return self._first(days)

    def _first(self, days: Floats) -> Floats:
        first = np.full((len(self.chosen), self.people.size), np.inf)
        for index, mine in enumerate(self.chosen):
            np.fmin.at(first[index], self.row[mine], days[mine])
        return np.where(np.isfinite(first), first, np.nan)
