"""Any kind of table to one kind: a frame in which nothing is guessed, each column in one role."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.errors import DataError, Problem, SpecError, nearest, unquoted
from bayesblina.core.files import readable, trouble_of

# More rows than these, of which each takes less than a tenth of a byte, are no patients.
MOST_ROWS, ROWS_PER_BYTE = 1_000_000, 10
ENGINE = 'Patients in files larger than memory are added up by a query engine: engine = "duckdb".'
# A decimal number, or an ISO date.
_LIKE_A_CELL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|\d{4}-\d\d(?:-\d\d)?")
FORMATS = ".csv, .parquet, .arrow, .feather, .xpt or .sas7bdat"
# Kinds of roles that one column may have for two endpoints, two phases, or one of each: a date
# that ends both, remission as entry and as the start of a phase, the first dose as the origin.
SHARED = frozenset(
    frozenset(pair)
    for pair in (
        ("time",),
        ("event",),
        ("entry",),
        ("end",),
        ("last_negative",),
        ("entry", "start"),
        ("entry", "end"),
        ("entry", "transplant"),
        ("origin", "entry"),
        ("origin", "start"),
    )
)
# So many values that are all 0 or 1 are a flag.
FEWEST_FLAGS = 5


def load_table(table: Any) -> tuple[pd.DataFrame, str]:
    """Load a table and name it; the cells of a CSV file stay text, so that nothing is guessed.

    The caller's own frame is never changed.
    """
    if isinstance(table, str | PathLike):
        path = Path(table)
        frame, source = _load_file(path), readable(path.name)
    else:
        frame, source = _load_frame(table), "the table"
    repeated = frame.columns[frame.columns.duplicated()].unique()
    raise_problems([duplicate_column(str(name)) for name in repeated], source)
    return frame, source


def sha256_of(path: str | PathLike[str]) -> str:
    """Hash the bytes of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Sequence[str | PathLike[str]]) -> str:
    """Hash the names and bytes of several files."""
    folder = os.path.commonpath([Path(path).parent for path in paths])
    names = sorted(Path(os.path.relpath(path, folder)).as_posix() for path in paths)
    lines = [f"{sha256_of(Path(folder) / name)}  {name}\n" for name in names]
    return hashlib.sha256(os.fsencode("".join(lines))).hexdigest()


def hashes(frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Take the hash of the file that a table was read from, by name; none of one in memory."""
    digest = frame.attrs.get(SHA256)
    return {} if digest is None else {name: str(digest)}


def refuse(*faults: tuple[bool, str]) -> None:
    """Raise the first of the faults that a call may have, each with its message, if it has any."""
    for wrong, message in faults:
        if wrong:
            raise SpecError(message)


def raise_problems(problems: Sequence[Problem], source: str) -> None:
    """Raise all that is wrong with a table at once, if anything is."""
    if problems:
        raise DataError(problems, source=source)


def require_columns(columns: Iterable[Any], wanted: Iterable[str], source: str) -> None:
    """Refuse a table that lacks columns."""
    raise_problems(missing_columns(columns, wanted), source)


def missing_columns(columns: Iterable[Any], wanted: Iterable[str]) -> list[Problem]:
    """Find the columns that a table lacks, by the names of those that it has.

    One for each that is missing. A header in which numbers or dates stand is taken for a patient's
    row, and not quoted.
    """
    present = list(columns)
    headless = any(_LIKE_A_CELL.fullmatch(str(name).strip()) for name in present)
    return [
        Problem(
            column=name,
            found="no such column",
            expected="The names of the table's columns look like a patient's values: is the line "
            "of names missing?"
            if headless
            else nearest(name, present),
        )
        for name in dict.fromkeys(wanted)
        if name not in present
    ]


def _load_frame(table: Any) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table
    import narwhals as nw

    try:
        known = nw.from_native(table, eager_only=True)
    except TypeError:
        raise SpecError(
            "Expected a DataFrame that is held in memory or a path, got "
            f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}; call .collect() "
            "on a lazy frame."
        ) from None
    frame: pd.DataFrame = known.to_arrow().to_pandas()
    return frame


def file_error(found: str, expected: str, source: str) -> DataError:
    """Say what is wrong with a file as such."""
    return DataError([Problem(column="file", found=found, expected=expected)], source=source)


def unreadable(
    error: Exception, source: str, expected: str = "Check it, or export it again."
) -> DataError:
    """Word what a library or an engine says of a file: the first line, without what it quotes."""
    reason = unquoted((str(error).splitlines() or [type(error).__name__])[0])[:200]
    return file_error(f"it cannot be read ({reason})", expected, source)


def _load_file(path: Path) -> pd.DataFrame:
    trouble, source = trouble_of(path), readable(path.name or path)
    if trouble is not None:
        raise file_error(f"'{readable(path)}' is {trouble}", f"Expected a file: {FORMATS}.", source)
    read = READERS.get(path.suffix.lower())
    if read is None:
        found = f"files of type '{path.suffix}' are not read"
        raise file_error(found, f"Expected {FORMATS}.", source)
    if path.stat().st_size == 0:
        raise file_error("it is empty", "Export it again.", source)
    try:
        before = sha256_of(path)
        frame = read(path)
        if sha256_of(path) != before:
            raise file_error("it changed while it was read", "Read it again.", source)
        frame.attrs[SHA256] = before
        return frame
    except (DataError, SpecError, Warning):
        # A warning is raised where Python was told to, and says nothing of the file.
        raise
    except UnicodeDecodeError:
        raise file_error("not UTF-8 text", "Save the file as UTF-8.", source) from None
    except MemoryError:
        raise file_error(
            "it asks for more memory than there is",
            f"Is it damaged? Export it again. {ENGINE}",
            source,
        ) from None
    except Exception as error:  # whatever a library says of a damaged file
        raise unreadable(error, source, "Export it again.") from None


def _read_csv(path: Path) -> pd.DataFrame:
    if b"\0" in path.read_bytes():
        raise ValueError("it is no text file")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = next((line for line in lines if line), [])
        # pandas fills lines that are too short and cuts those that are too long.
        uneven = [lines.line_num for line in lines if line and len(line) != len(header)]
    repeated = [name for name in dict.fromkeys(header) if header.count(name) > 1]
    raise_problems([duplicate_column(name) for name in repeated], readable(path.name))
    if uneven:
        raise file_error(
            f"lines with too few or too many cells ({len(uneven)}; first: "
            f"{', '.join(map(str, uneven[:10]))})",
            f"Expected {len(header)} cells in each line, as in the header; is the file cut short, "
            "or a comma not quoted?",
            readable(path.name),
        )
    return pd.read_csv(
        path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
    )


def _read_arrow(path: Path) -> pd.DataFrame:
    """Read an Arrow file; one that is damaged may name memory that is not its own."""
    import pyarrow as pa
    import pyarrow.feather

    table = pyarrow.feather.read_table(pa.BufferReader(path.read_bytes()), memory_map=False)
    # Before anything follows the offsets that stand in it.
    table.validate(full=True)
    _require_plausible(table.num_rows, path)
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        _require_plausible(pq.read_metadata(file).num_rows, path)
        file.seek(0)
        return pd.read_parquet(file)


def _require_plausible(rows: int, path: Path) -> None:
    """Refuse a file that unpacks to far more rows than it can say anything of."""
    size = path.stat().st_size
    if rows > MOST_ROWS and rows > ROWS_PER_BYTE * size:
        raise file_error(
            f"{rows} rows in {size} bytes",
            "Expected patients, whose ids alone take more: it holds next to nothing but missing "
            "or repeated values. Export it again.",
            readable(path.name),
        )


def _read_sas(path: Path) -> pd.DataFrame:
    try:
        import pyreadstat
    except ImportError:
        raise SpecError(
            "Reading SAS files needs pyreadstat: install bayesblina[sas], or export to CSV."
        ) from None
    read = pyreadstat.read_xport if path.suffix.lower() == ".xpt" else pyreadstat.read_sas7bdat
    frame, _ = read(str(path))
    return frame


# Attribute of a frame: the SHA-256 of the file that it was read from.
SHA256 = "bayesblina: SHA-256 of the file"
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
    ".xpt": _read_sas,
    ".sas7bdat": _read_sas,
}


def duplicate_column(name: str) -> Problem:
    """Say that several columns have one name."""
    return Problem(
        column=name, found="more than one column has this name", expected="Rename one of them."
    )


def require_roles(
    roles: Mapping[str, str], covariates: Iterable[str], phases: Sequence[str] = ()
) -> None:
    """Refuse columns in two roles, and covariates that have another role.

    `phases`: phases in order: one may end where a later one starts.
    """
    names = list(covariates)
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"covariates names '{twice[0]}' twice.")
    for (role, column), (other, same) in combinations(roles.items(), 2):
        if column == same and not _may_share(role, other, phases):
            if role.endswith(".start") and other.endswith(".start"):
                early, late = (name.removesuffix(".start") for name in (role, other))
                raise SpecError(f"'{early}' and '{late}' both start with the column '{column}'.")
            raise SpecError(
                f"The column '{column}' is declared as {role} and as {other}: expected a column of "
                "its own for each."
            )
    held = {column: role for role, column in reversed(list(roles.items()))}
    for name in names:
        if name in held:
            raise SpecError(
                f"The covariate '{name}' is also declared as {held[name]}: expected what is known "
                "of patients at the origin. Leave it out of covariates."
            )


def _may_share(role: str, other: str, phases: Sequence[str]) -> bool:
    """Say whether one column may have two roles."""
    (name, kind), (other_name, other_kind) = (each.rpartition(".")[::2] for each in (role, other))
    if {kind, other_kind} == {"start", "end"}:
        ends, starts = (name, other_name) if kind == "end" else (other_name, name)
        return ends in phases and starts in phases and phases.index(ends) < phases.index(starts)
    return frozenset((kind, other_kind)) in SHARED


def flag_problem(column: str) -> Problem:
    """Say that a column of times holds a flag."""
    return Problem(
        column=column,
        found="a flag (nothing but 0 and 1, or true and false) where times were expected",
        expected="Expected the time at which it happened, empty where it did not; if these are "
        "times, give all times in a finer unit.",
    )


def is_flag(values: NDArray[np.float64]) -> bool:
    """Say whether times are a flag: at least five that are 0 or 1, and not all one of these.

    Where 1 stands beside missing values only, it is a flag too.

    `values`, shape (patient,): times, NaN where there is none.
    """
    zeros, ones = int((values == 0.0).sum()), int((values == 1.0).sum())
    known = values.size - int(np.isnan(values).sum())
    return counts_of_flag(known, zeros, ones, values.size)


def counts_of_flag(known: int, zeros: int, ones: int, size: int) -> bool:
    """Say whether times are a flag, where they are counted already."""
    return bool(known >= FEWEST_FLAGS and zeros + ones == known and 0 < ones < size)
