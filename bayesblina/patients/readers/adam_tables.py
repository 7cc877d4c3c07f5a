"""What the datasets of CDISC ADaM have in common: who is in them, and which rows count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Ints
from bayesblina.core.errors import DataError, Problem, SpecError, nearest
from bayesblina.patients.cohort import Exclusion, Repair
from bayesblina.patients.readers.columns import Columns
from bayesblina.patients.readers.dates import PartialDates
from bayesblina.patients.readers.sources import hashes, load_table, missing_columns

# The flag of the records that are analysed, Y or empty.
ANALYSED = "ANL01FL"

Dataset = Literal["ADSL", "ADTTE", "ADEX"]
Filters = Mapping[Dataset, Mapping[str, str | Sequence[str]]]


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
        self.file_hashes.update(_hashes(frame, source, name))
        return frame, source

    def open(self, table: pd.DataFrame) -> Columns:
        """Read another dataset with the same rules for dates."""
        mine = self.columns
        return Columns(
            table, "USUBJID", partial_dates=mine.partial_dates, date_format=mine.date_format
        )

    def took(self, columns: Columns) -> None:
        """Remember the partial dates of another dataset."""
        self.columns.imputed |= columns.imputed
        self.columns.imputed_columns |= columns.imputed_columns

    def note(self, rule: str, who: Bools) -> None:
        """Count patients for whom something was done."""
        ids = tuple(map(str, self.columns.ids[who]))
        self.made.append(Repair(rule=rule, patients=ids))


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
        if dataset not in ("ADSL", "ADTTE", "ADEX"):
            raise SpecError(f"filters: no dataset '{dataset}'; there are ADSL, ADTTE and ADEX.")
        good = isinstance(wanted, Mapping) and all(
            isinstance(values, list | tuple | str)
            and values
            and all(isinstance(value, str) for value in values)
            for values in wanted.values()
        )
        if not good:
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
    flags = [population] if population else []
    missing = missing_columns(subjects, ["USUBJID", origin, *wanted, *flags, *filters])
    if missing:
        raise DataError(missing, source=source)
    everybody = Columns(subjects, "USUBJID", numbers=np.arange(1, len(subjects) + 1))
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
    frame = subjects.loc[keep].reset_index(drop=True)
    frame.attrs = dict(subjects.attrs)
    people = Columns(
        frame,
        "USUBJID",
        partial_dates=partial_dates,
        date_format=date_format,
        numbers=np.flatnonzero(keep) + 1,
    )
    people.problems = everybody.problems
    excluded = frozenset(patient for exclusion in exclusions for patient in exclusion.patients)
    return People(
        columns=people,
        excluded=excluded,
        source=source,
        exclusions=tuple(exclusions),
        file_hashes=_hashes(subjects, source, "ADSL"),
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
        rule = f"{dataset} rows whose {column} is not {_words(values)} are left out"
        who = np.isin(people.columns.ids, columns.ids[out])
        people.note(f"{rule} ({int(out.sum())} rows)", who)
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
        who = np.isin(people.columns.ids, columns.ids[out])
        instead = f"filters={{'{dataset}': {{'{ANALYSED}': 'Y'}}}}"
        rows = int(out.sum())
        people.note(f"{dataset} rows whose {ANALYSED} is not Y count ({rows} rows; {instead})", who)


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


def _hashes(frame: pd.DataFrame, source: str, name: Dataset) -> dict[str, str]:
    return hashes(frame, f"{source} ({name})")


def _words(values: str | Sequence[str]) -> str:
    return values if isinstance(values, str) else " or ".join(values)
