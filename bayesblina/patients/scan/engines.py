"""Tables of query engines: opened, and read piece by piece.

Every engine that ibis speaks is asked for columns in the same way. Files are read by DuckDB, inside
this process; nothing is fetched, and nothing that a table holds is executed.
"""

from __future__ import annotations

import atexit
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.errors import SpecError
from bayesblina.core.files import readable, trouble_of
from bayesblina.patients.readers.sources import (
    duplicate_column,
    file_error,
    load_table,
    raise_problems,
    unreadable,
)

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are read at a time.
ROWS = 262_144
FILES = (".parquet", ".csv")
# Text stays text, so that nothing is guessed; no line is a comment, since ids may begin with "#";
# folders called "column=value" say nothing of the patients.
CSV = {
    "all_varchar": True,
    "quote": '"',
    "escape": '"',
    "comment": "",
    "hive_partitioning": False,
}


@cache
def _edges() -> str:
    """Match what Python strips in memory: engines know fewer blanks, each its own."""
    # A second's fraction, which only those who read out of an engine wait for.
    blanks = "".join(letter for letter in map(chr, range(sys.maxunicode + 1)) if letter.isspace())
    return f"^[{blanks}]+|[{blanks}]+$"


def stripped(text: Any) -> Any:
    """Strip texts of the blanks that are stripped in memory."""
    return text.re_replace(_edges(), "")


def ibis_module() -> Any:
    """Import ibis."""
    try:
        import ibis
    except ImportError:
        raise SpecError(
            "Tables in a query engine need ibis and DuckDB: install bayesblina[scale], or read the "
            "patients into memory with read_cohort."
        ) from None
    return ibis


def open_table(table: Any, memory_limit: str) -> tuple[Any, str, bool]:
    """Make an ibis table of anything."""
    if isinstance(table, ibis_module().expr.types.Table):
        return table, "the table", False
    opened, source = _opened(table, partial(_embedded, memory_limit), "patients")
    return opened, source, True


def open_beside(table: Any, patients: Any, *, embedded: bool) -> tuple[Any, str]:
    """Make an ibis table of stays in the engine that holds their patients.

    `patients`: an ibis table.
    `embedded`: whether their engine was started for them.
    """
    engine = patients.get_backend()
    held = isinstance(table, ibis_module().expr.types.Table)
    if held == embedded or (held and table.get_backend() is not engine):
        raise SpecError(
            "Courses: the table of stays must be in the engine that holds the patients: give paths "
            "or DataFrames of both, or ibis tables of one connection."
        )
    return (table, "the table of stays") if held else _opened(table, lambda: engine, "stays")


def _opened(table: Any, connect: Callable[[], Any], registered: str) -> tuple[Any, str]:
    """Open a DataFrame or files in DuckDB.

    `registered`: name that a DataFrame gets there.
    """
    if not isinstance(table, str | PathLike):
        import pyarrow as pa

        frame, source = load_table(table)
        categories = frame.select_dtypes("category").columns
        plain = frame.astype(dict.fromkeys(categories, object))
        connection = connect()
        try:
            held = pa.Table.from_pandas(plain, preserve_index=False)
        except pa.ArrowException as error:  # columns that hold values of several kinds
            raise unreadable(error, source) from None
        connection.con.register(registered, held)
        return connection.table(registered), source
    path = str(table)
    name = readable(Path(path).name)
    if "://" in path:
        raise SpecError(
            f"'{path}' is no path of this machine: open it with the engine that holds it, and give "
            "its ibis table."
        )
    suffix = Path(path).suffix.lower()
    if suffix not in FILES:
        raise SpecError(f"Expected a path or glob of {' or '.join(FILES)} files, got '{path}'.")
    connection = connect()
    for file in _files(connection, path):
        trouble = trouble_of(file)
        if trouble is not None:
            raise file_error(f"it is {trouble}", "Expected a file.", name)
    path = pattern_of(path)
    repeated: list[str] = []
    try:
        if suffix == ".csv":
            repeated = _repeated_names(connection, path)
            opened = connection.read_csv(path, header=True, null_padding=False, **CSV)
        else:
            opened = _parquet(connection, path)
    except Warning:
        # Raised where Python was told to, and says nothing of the files.
        raise
    except Exception as error:  # whatever DuckDB says of files that are not there, or damaged
        raise unreadable(error, name) from None
    raise_problems([duplicate_column(column) for column in repeated], name)
    return opened, name


class BlockTable:
    """A table of DuckDB in this process, written block by block; on disk where memory ends.

    `engine`: the embedded engine; None for one of its own.
    """

    def __init__(self, engine: Any, memory_limit: str) -> None:
        self._engine = _embedded(memory_limit) if engine is None else engine
        # The engine itself may be reading what is written here.
        self._writer = self._engine.con.cursor()
        self._name = ibis_module().util.gen_name("bayesblina")
        self._made = False

    def add(self, block: pa.RecordBatch) -> None:
        """Write a block."""
        self._writer.register("block", block)
        how = f"INSERT INTO {self._name}" if self._made else f"CREATE TABLE {self._name} AS"
        self._writer.execute(f"{how} SELECT * FROM block")
        self._writer.unregister("block")
        self._made = True

    def table(self) -> Any:
        """Return what was written."""
        self._writer.close()
        return self._engine.table(self._name)


def pattern_of(path: str) -> str:
    """Write a path or glob in which names that exist mean themselves, whatever their letters."""
    begun, parts, literal = Path(), [], True
    for part in Path(path).parts:
        begun /= part
        literal = literal and begun.exists()
        parts.append(re.sub(r"([*?\[])", r"[\1]", part) if literal else part)
    return str(Path(*parts))


def files_of(table: Any, connection: Any) -> list[str]:
    """List the files that a path or glob stands for.

    Sorted names; none of what is no path.
    """
    if not isinstance(table, str | PathLike):
        return []
    return sorted(_files(connection, pattern_of(str(table))))


def _files(connection: Any, path: str) -> list[str]:
    """List the files of a glob."""
    return [
        file for (file,) in connection.con.execute("SELECT file FROM glob(?)", [path]).fetchall()
    ]


def stamps(table: Any, connection: Any) -> tuple[tuple[str, int, int], ...]:
    """Say which files a path or glob stands for now, and in which state they are.

    Name, size and time of the last change of each; nothing of what is no path.
    """
    states = []
    for file in files_of(table, connection):
        with suppress(OSError):
            state = Path(file).stat()
            states.append((file, state.st_size, state.st_mtime_ns))
    return tuple(states)


def _repeated_names(connection: Any, path: str) -> list[str]:
    """Find names that several columns of a CSV file have; DuckDB would rename all but one."""
    found: dict[str, None] = {}
    names: tuple[str, ...] | None = None
    for file in _files(connection, path):
        options = ", ".join(f"{name} = {value!r}" for name, value in CSV.items())
        query = f"SELECT * FROM read_csv(?, header = false, {options}) LIMIT 1"
        for header in connection.con.execute(query, [file]).fetchall():
            # A file without names, which begins with cells, is told by the engine.
            names = header if names is None else names
            found |= {name: None for name in header if name in names and header.count(name) > 1}
    return [name for name in found if name]


def _parquet(connection: Any, path: str) -> Any:
    """Open Parquet files with the columns that all of them have.

    Whole numbers in one file and others in the next are numbers: DuckDB by itself makes all of them
    what they are in the first file, rounded if need be. Taken together by name it would leave empty
    what a file lacks.
    """
    import pyarrow.parquet as pq

    files = _files(connection, path)
    if len(files) < 2:
        return connection.read_parquet(path, hive_partitioning=False)
    present = set.intersection(*({*map(str.lower, pq.read_schema(file).names)} for file in files))
    opened = connection.read_parquet(path, union_by_name=True, hive_partitioning=False)
    return opened.select(*(name for name in opened.columns if name.lower() in present))


def _embedded(memory_limit: str) -> Any:
    """Start DuckDB in this process; it fetches nothing and loads no extensions."""
    ibis = ibis_module()
    if not isinstance(memory_limit, str):
        raise SpecError(f"memory_limit must be text such as '1GB', got {memory_limit!r}.")
    # What does not fit goes where only this user can read it, until the process ends; DuckDB's
    # own place is the working directory.
    folder = tempfile.mkdtemp(prefix="bayesblina-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        connection = ibis.duckdb.connect(
            memory_limit=memory_limit,
            temp_directory=folder,
            # So that sums are made in one order, whoever reads first.
            preserve_insertion_order=True,
            autoinstall_known_extensions=False,
            autoload_known_extensions=False,
        )
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise SpecError(f"memory_limit must be text such as '1GB' ({reason}).") from None
    # So that the next blocks are read while one is summed.
    connection.con.sql("SET streaming_buffer_size = '100MB'")
    return connection


def settled(expression: Any) -> Any:
    """Compile an expression of the embedded engine once, for all that is built on it.

    The same table, as a view.
    """
    view = expression.get_backend().create_view(
        ibis_module().util.gen_name("bayesblina"), expression
    )
    # The engine has its own idea of the types of constants.
    return view.cast(dict(expression.schema().items()))


def number(value: float) -> Any:
    """Write a constant that every engine takes as just this floating-point number.

    Digits alone are a decimal number in SQL, of a precision and a range of its own.
    """
    return ibis_module().literal(repr(float(value))).cast("float64")


def batches(expression: Any, source: str) -> Iterator[pa.RecordBatch]:
    """Read a table piece by piece: of files in their order, else as the engine returns rows.

    `expression`: the table; nothing else may be asked of the engine until all of it is read.
    """
    backend = expression.get_backend()
    try:
        if backend.name == "duckdb":
            # What ibis itself holds goes to the engine when rows are asked for by ibis.
            if expression.op().find(ibis_module().expr.operations.InMemoryTable):
                expression.limit(0).to_pyarrow()
            reader = backend.con.sql(str(backend.compile(expression))).to_arrow_reader(ROWS)
        else:
            reader = expression.to_pyarrow_batches(chunk_size=ROWS)
        yield from (batch for batch in reader if batch.num_rows)
    except Exception as error:
        raise unreadable(error, source) from None


def array_of(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    """Take a column of a piece as an array; numbers that are missing are NaN."""
    return np.asarray(batch.column(name).to_numpy(zero_copy_only=False))


def run(expression: Any, source: str) -> Any:
    """Let the engine work; what it says of damaged files becomes one clear error."""
    try:
        return expression.execute()
    except Exception as error:
        raise unreadable(error, source) from None
