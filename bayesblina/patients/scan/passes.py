"""One pass over the patients of an engine: added up in this process, or by the executors of Spark.

Whatever is summed is a `Partial`: it takes patients block by block, and what other parts of them
came to. An engine's blocks stream into one `Partial` of this process. Spark makes one for each
partition where the partition is; only its arrays and short tables travel, and are merged in the
order of the partitions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.errors import SpecError
from bayesblina.core.version import __version__
from bayesblina.patients.readers.sources import unreadable
from bayesblina.patients.scan.engines import batches

if TYPE_CHECKING:
    import pyarrow as pa

# Parts in which Spark sums, where the order of patients matters: as many whatever the cluster.
PARTS = 32
_TABLE = ".arrow"

State = Mapping[str, "NDArray[Any] | pa.Table"]


class Partial(Protocol):
    """What some of the patients come to."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the patients of a block."""
        ...

    def state(self) -> State:
        """Lay out what they come to, for another process."""
        ...

    def merge(self, state: State) -> None:
        """Add what other patients came to."""
        ...


def on_executors(table: Any) -> bool:
    """Say whether patients are added up where an engine has them."""
    return bool(table.get_backend().name == "pyspark")


def summed[P: Partial](
    make: Callable[[], P], tables: Sequence[Any], source: str, *, by: str | None = None
) -> P:
    """Add up the patients of tables, one table after the other.

    `make`: makes a sum over nobody; it can be pickled, without patients.
    `tables`: the patients.
    `by`: a column that differs between all patients, which says in which order they are added up;
    None where sums do not depend on it, or the engine has an order.
    """
    total = make()
    for table in tables:
        if on_executors(table):
            for state in _states(make, table, source, by):
                total.merge(state)
        else:
            for batch in batches(table if by is None else table.order_by(by), source):
                total.add(batch)
    return total


def _states(
    make: Callable[[], Partial], table: Any, source: str, by: str | None
) -> Iterator[State]:
    """Let Spark add up each partition, and read what it came to."""
    backend = table.get_backend()
    try:
        rows = backend.raw_sql(backend.compile(table))
        if by is not None:
            rows = rows.repartition(PARTS, by).sortWithinPartitions(by)
        summing = partial(_sum_partition, make, __version__)
        partials = rows.mapInArrow(summing, "part int, sums binary").toArrow().sort_by("part")
    except Exception as error:
        lacking = re.search(r"(?:ModuleNotFound|Import)Error: (.+)", str(error))
        if lacking is None:
            raise unreadable(error, source) from None
        raise SpecError(
            f"The executors of Spark cannot add up patients ({lacking[1]}): install bayesblina "
            f"{__version__} in the Python that they run, on every node."
        ) from None
    for sums in partials.column("sums"):
        yield unpacked(sums.as_py())


def _sum_partition(
    make: Callable[[], Partial], version: str, blocks: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Add up the patients of a partition, on an executor."""
    import pyarrow as pa
    from pyspark import TaskContext

    if version != __version__:
        raise ImportError(f"there is bayesblina {__version__}, here {version}")
    total, rows = make(), 0
    for batch in blocks:
        if batch.num_rows:
            total.add(batch)
            rows += batch.num_rows
    if rows:
        context = TaskContext.get()
        assert context is not None  # there is one on an executor
        part = context.partitionId()
        content = {"part": pa.array([part], pa.int32()), "sums": [packed(total.state())]}
        yield pa.RecordBatch.from_pydict(content)


def packed(state: State) -> bytes:
    """Write arrays and tables as bytes: of numpy's archives, and in them of Arrow's streams."""
    import pyarrow as pa

    arrays = {}
    for name, value in state.items():
        if isinstance(value, pa.Table):
            stream = pa.BufferOutputStream()
            with pa.ipc.new_stream(stream, value.schema) as writer:
                writer.write_table(value)
            arrays[name + _TABLE] = np.frombuffer(stream.getvalue(), dtype=np.uint8)
        else:
            arrays[name] = value
    archive = io.BytesIO()
    np.savez_compressed(archive, allow_pickle=False, **arrays)
    return archive.getvalue()


def unpacked(content: bytes) -> dict[str, NDArray[Any] | pa.Table]:
    """Read what `packed` wrote."""
    import pyarrow as pa

    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {
            name.removesuffix(_TABLE): pa.ipc.open_stream(archive[name].tobytes()).read_all()
            if name.endswith(_TABLE)
            else archive[name]
            for name in archive.files
        }
