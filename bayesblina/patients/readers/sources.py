"""Any kind of table to one kind: a pandas frame in which nothing has been guessed."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from bayesblina.core.errors import DataError, Problem, SpecError, nearest, unquoted
from bayesblina.core.files import readable, trouble_of

# More rows than these, of which each takes less than a tenth of a byte, are no patients.
MOST_ROWS, ROWS_PER_BYTE = 1_000_000, 10
ENGINE = 'Patients in files larger than memory are added up by a query engine: engine = "duckdb".'
# A decimal number, or an ISO date.
_LIKE_A_CELL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|\d{4}-\d\d(?:-\d\d)?")
FORMATS = ".csv, .parquet, .arrow, .feather, .xpt or .sas7bdat"


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
    if len(repeated):
        raise DataError([duplicate_column(str(name)) for name in repeated], source=source)
    return frame, source


def sha256_of(path: str | PathLike[str]) -> str:
    """Hash the bytes of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(paths: Sequence[str | PathLike[str]]) -> str:
    """Hash the names and bytes of several files."""
    folder = os.path.commonpath([Path(path).parent for path in paths])
    digest = hashlib.sha256()
    for name in sorted(Path(os.path.relpath(path, folder)).as_posix() for path in paths):
        line = f"{sha256_of(Path(folder) / name)}  {name}\n"
        digest.update(os.fsencode(line))
    return digest.hexdigest()


def hashes(frame: pd.DataFrame, name: str) -> dict[str, str]:
    """Take the hash of the file that a table was read from, by name; none of one in memory."""
    digest = frame.attrs.get(SHA256)
    return {} if digest is None else {name: str(digest)}


def missing_columns(frame: pd.DataFrame, wanted: Sequence[str]) -> list[Problem]:
    """Find the columns that a table lacks."""
    return absent_columns(list(frame.columns), wanted)


def absent_columns(present: Sequence[str], wanted: Sequence[str]) -> list[Problem]:
    """Find the names that are not among those of a table's columns.

    One for each that is missing. A header in which numbers or dates stand is taken for a patient's
    row, and not quoted.
    """
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
        kind = f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"
        raise SpecError(
            f"Expected a DataFrame that is held in memory or a path, got {kind}; call .collect() "
            "on a lazy frame."
        ) from None
    frame: pd.DataFrame = known.to_arrow().to_pandas()
    return frame


def _load_file(path: Path) -> pd.DataFrame:
    def unreadable(found: str, expected: str) -> DataError:
        problem = Problem(column="file", found=found, expected=expected)
        return DataError([problem], source=readable(path.name or path))

    trouble = trouble_of(path)
    if trouble is not None:
        raise unreadable(f"'{readable(path)}' is {trouble}", f"Expected a file: {FORMATS}.")
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise unreadable(f"files of type '{path.suffix}' are not read", f"Expected {FORMATS}.")
    if path.stat().st_size == 0:
        raise unreadable("it is empty", "Export it again.")
    try:
        before = sha256_of(path)
        frame = read(path)
        if sha256_of(path) != before:
            raise unreadable("it changed while it was read", "Read it again.")
        frame.attrs[SHA256] = before
        return frame
    except (DataError, SpecError, Warning):
        # A warning is raised where Python was told to, and says nothing of the file.
        raise
    except UnicodeDecodeError:
        raise unreadable("not UTF-8 text", "Save the file as UTF-8.") from None
    except MemoryError:
        raise unreadable(
            "it asks for more memory than there is",
            f"Is it damaged? Export it again. {ENGINE}",
        ) from None
    except Exception as error:  # whatever a library says of a damaged file
        reason = unquoted((str(error).splitlines() or [type(error).__name__])[0])[:200]
        raise unreadable(f"it cannot be read ({reason})", "Export it again.") from None


def _read_csv(path: Path) -> pd.DataFrame:
    if b"\0" in path.read_bytes():
        raise ValueError("it is no text file")
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = next((line for line in lines if line), [])
        # pandas fills lines that are too short and cuts those that are too long.
        uneven = [lines.line_num for line in lines if line and len(line) != len(header)]
    problems = [duplicate_column(name) for name in dict.fromkeys(header) if header.count(name) > 1]
    if problems:
        raise DataError(problems, source=readable(path.name))
    if uneven:
        first = ", ".join(str(number) for number in uneven[:10])
        problem = Problem(
            column="file",
            found=f"lines with too few or too many cells ({len(uneven)}; first: {first})",
            expected=f"Expected {len(header)} cells in each line, as in the header; is the file "
            "cut short, or a comma not quoted?",
        )
        raise DataError([problem], source=readable(path.name))
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
        problem = Problem(
            column="file",
            found=f"{rows} rows in {size} bytes",
            expected="Expected patients, whose ids alone take more: it holds next to nothing but "
            "missing or repeated values. Export it again.",
        )
        raise DataError([problem], source=readable(path.name))


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
