"""Run many tasks, on this machine's cores or an existing cluster, and keep on disk what is done.

A line of the store is a JSON object and the SHA-256 of it, appended as soon as its task is done.
Whatever ends the process, every line that was finished can be read; half a line at the end is what
a kill left, and is cut off. When all tasks are done the lines are put into their order, so that the
file does not tell which came first. One process writes at a time; of lines with one key, however
they came there, the first counts.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from bayesblina.core.errors import (
    BayesblinaError,
    DataError,
    SpecError,
    StorageError,
    require_at_least,
    require_choice,
)
from bayesblina.core.files import read_whole, reason_of, write_text

Engine = Literal["local", "dask"]
# Of a task: a record with its key, and what else there is.
Result = tuple[dict[str, Any], Any]
Function = Callable[[Any], Result]
Progress = Callable[[int, int], None]
# Tasks that wait at each worker: enough to keep it busy, few enough to stop soon.
QUEUE = 2

NAME = "scenarios.jsonl"
LOCK = "scenarios.lock"
# What results do not depend on, and another run may say otherwise.
FREE = frozenset({"direction"})
FORMAT = "bayesblina scenarios"
SCHEMA = 1
_SEPARATOR = " sha256 "


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Where tasks run.

    `count`: number of local processes; None for one for each core.
    """

    engine: Engine = "local"
    scheduler: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        require_choice(self.engine, ("local", "dask"), "engine")
        if (self.engine == "dask") != (self.scheduler is not None):
            raise SpecError("Give the scheduler's address with engine 'dask', and only there.")
        if self.count is not None:
            require_at_least(self.count, 1, "workers")

    def run(self, function: Function, tasks: Sequence[Any]) -> Iterator[Result]:
        """Run tasks, and give what they give as they finish."""
        if self.scheduler is not None:
            return _on_cluster(function, tasks, self.scheduler)
        count = min(self.count or os.cpu_count() or 1, len(tasks))
        return map(function, tasks) if count <= 1 else _on_this_machine(function, tasks, count)


def reason_of_failure(error: Exception) -> str:
    """Say why a task failed, without naming patients: its record may be shown to others."""
    if isinstance(error, DataError):
        return "; ".join(f"{problem.column}: {problem.found}" for problem in error.problems)
    words = " ".join(str(error).split())
    return words if isinstance(error, BayesblinaError) else f"{type(error).__name__}: {words}"


def run_stored(
    store: Store,
    header: Mapping[str, Any],
    tasks: Mapping[str, Any],
    function: Function,
    *,
    workers: Workers,
    resume: bool,
    progress: Progress | None = None,
    keep: Callable[[dict[str, Any], Any], None] = lambda *_: None,
    lacks: Callable[[dict[str, Any]], bool] = lambda _: False,
) -> list[dict[str, Any]]:
    """Run tasks, and put each record on disk as soon as it is there.

    `keep`: is given each record with what else there is of its task.
    `lacks`: says of a stored record whether its task must run again, for what it gives besides.
    """
    show: Progress = progress or (lambda *_: None)
    with store.locked():
        done = store.begin(header, resume=resume)
        wanted = [task for key, task in tasks.items() if key not in done or lacks(done[key])]
        finished = len(tasks) - len(wanted)
        show(finished, len(tasks))
        for record, extra in workers.run(function, wanted):
            keep(record, extra)
            if record["key"] not in done:
                store.append(record)
                done[record["key"]] = record
            finished += 1
            show(finished, len(tasks))
        store.finish(list(tasks), header)
    return [done[key] for key in tasks]


def _on_this_machine(function: Function, tasks: Sequence[Any], count: int) -> Iterator[Result]:
    # Threads of a fork would be lost in its child; a fresh interpreter reads the compiled cache.
    context = multiprocessing.get_context("spawn")
    waiting = iter(tasks)
    with ProcessPoolExecutor(
        count, mp_context=context, initializer=_begin, initargs=(function,)
    ) as pool:
        running: set[Future[Result]] = set()
        try:
            while True:
                free = count * QUEUE - len(running)
                running |= {pool.submit(_run_here, task) for task in islice(waiting, free)}
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ended)
        except BrokenProcessPool:
            raise BayesblinaError(
                "A worker process ended abruptly (out of memory, or killed). Finished scenarios "
                "are kept: continue with resume, perhaps with fewer workers. A script must call it "
                "under if __name__ == '__main__', for its workers start by reading the script."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


# In a worker process: what it runs, with all that the tasks share.
_HERE: list[Function] = []


def _begin(function: Function) -> None:
    """Keep in a worker process what every task needs."""
    _HERE[:] = [function]


def _run_here(task: Any) -> Result:
    return _HERE[0](task)


def _on_cluster(function: Function, tasks: Sequence[Any], scheduler: str) -> Iterator[Result]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise SpecError(
            "engine 'dask' needs the extra 'cluster': install bayesblina[cluster]."
        ) from None
    try:
        client: Any = Client(scheduler, set_as_default=False, timeout="20s")  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise SpecError(f"No Dask scheduler answers at '{scheduler}' ({error}).") from None
    with client:
        there = client.scatter(function, broadcast=True, hash=False)
        # A worker that dies takes its task back to the queue, up to the cluster's own limit.
        futures = client.map(_run_there, tasks, function=there, pure=False, retries=3)
        try:
            for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
                yield future.result()
        finally:
            client.cancel(futures)


def _run_there(task: Any, *, function: Function) -> Result:
    return function(task)


@contextmanager
def refused(what: str, advice: str = "") -> Iterator[None]:
    """Word what the system refuses to do, and why."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{what}: {reason_of(error)}.{advice}") from None


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, allow_nan=False)
    return f"{text}{_SEPARATOR}{hashlib.sha256(text.encode()).hexdigest()}\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    """Read a line; None if it is damaged, or has no end."""
    text, separator, digest = line.decode("utf-8", errors="replace").rpartition(_SEPARATOR)
    if not separator or f"{hashlib.sha256(text.encode()).hexdigest()}\n" != digest:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A folder with the results of one study of sensitivity."""

    folder: Path

    @property
    def path(self) -> Path:
        """The file of lines."""
        return self.folder / NAME

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing to the store, as long as this one lives."""
        with refused(f"Cannot make the folder '{self.folder}'"):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / LOCK).open("a+b")
        with file:
            try:
                _lock(file.fileno())
            except OSError:
                raise StorageError(
                    f"Another process is writing into '{self.folder}': wait until it is done, and "
                    "continue with resume, or give another folder."
                ) from None
            # The system lets go of it when the file is closed, however the process ends.
            yield

    def begin(self, header: Mapping[str, Any], *, resume: bool) -> dict[str, dict[str, Any]]:
        """Make the store, or read what an earlier run left in it."""
        head = {"format": FORMAT, "schema": SCHEMA, **header}
        with refused(f"Cannot make the folder '{self.folder}'"):
            self.folder.mkdir(parents=True, exist_ok=True)
            exists = self.path.exists()
        if not exists:
            write_text(self.path, _line(head))
            return {}
        if not resume:
            raise StorageError(
                f"'{self.folder}' holds results of an earlier run: continue it with resume (on the "
                "command line --resume), or give another folder."
            )
        stored, records, size = self.read()
        differs = [name for name in head if name not in FREE and stored.get(name) != head[name]]
        if differs:
            raise StorageError(
                f"'{self.folder}' holds results of another study: {', '.join(differs)} differ. "
                "Give another folder."
            )
        if size < self.path.stat().st_size:
            # What a kill left of a line that was being written.
            with refused(f"Cannot open '{self.path}'"), self.path.open("r+b") as file:
                file.truncate(size)
        return {str(record["key"]): record for record in records}

    def append(self, record: Mapping[str, Any]) -> None:
        """Put one finished record on disk."""
        advice = " Finished scenarios are kept; continue with resume."
        with refused(f"Cannot write to '{self.path}'", advice), self.path.open("ab") as file:
            file.write(_line(record).encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
        """Read all records."""
        lines = read_whole(self.path).splitlines(keepends=True)
        parsed = [_parse(line) for line in lines]
        if parsed and parsed[-1] is None:
            # What a kill left of a line that was being written.
            del parsed[-1]
        if None in parsed:
            raise StorageError(
                f"'{self.path}': line {parsed.index(None) + 1} is damaged (its checksum is wrong). "
                "Remove that line; resume then computes its scenario again."
            )
        records = [record for record in parsed if record is not None]
        if not records or records[0].get("format") != FORMAT:
            raise StorageError(f"'{self.path}' is not a store of scenarios.")
        if records[0].get("schema") != SCHEMA:
            raise StorageError(f"'{self.path}' was written by another version of bayesblina.")
        finished: dict[str, dict[str, Any]] = {}
        for record in records[1:]:
            finished.setdefault(str(record["key"]), record)
        return records[0], list(finished.values()), sum(map(len, lines[: len(records)]))

    def finish(self, keys: Sequence[str], header: Mapping[str, Any]) -> None:
        """Put the lines into the order of the scenarios."""
        head, records, _ = self.read()
        rank = {key: index for index, key in enumerate(keys)}
        ordered = sorted(records, key=lambda record: rank.get(str(record["key"]), len(rank)))
        write_text(self.path, "".join(_line(record) for record in ({**head, **header}, *ordered)))


def _lock(descriptor: int) -> None:
    """Lock an open file against other processes; raises OSError where one has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
