"""Run many tasks: on this machine's cores or an existing cluster; what is finished stays."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from bayesblina.core.errors import BayesblinaError, DataError, SpecError
from bayesblina.studies.what_if.store import Store

Engine = Literal["local", "dask"]
# Takes what all tasks share and one of them; gives a record with its key, and what else there is.
Function = Callable[[Any, Any], tuple[dict[str, Any], Any]]
Progress = Callable[[int, int], None]
# Tasks that wait at each worker: enough to keep it busy, few enough to stop soon.
QUEUE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Where tasks run.

    `count`: number of local processes; None for one for each core.
    """

    engine: Engine = "local"
    scheduler: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("local", "dask"):
            raise SpecError(f"engine must be 'local' or 'dask', got {self.engine!r}.")
        if (self.engine == "dask") != (self.scheduler is not None):
            raise SpecError("Give the scheduler's address with engine 'dask', and only there.")
        if self.count is not None and (isinstance(self.count, bool) or self.count < 1):
            raise SpecError(f"workers must be at least 1, got {self.count!r}.")

    def run(
        self, function: Function, shared: Any, tasks: Sequence[Any]
    ) -> Iterator[tuple[dict[str, Any], Any]]:
        """Run tasks, and give what they give as they finish."""
        if self.engine == "dask":
            assert self.scheduler is not None
            yield from _on_cluster(function, shared, tasks, self.scheduler)
            return
        count = min(self.count or os.cpu_count() or 1, len(tasks))
        if count <= 1:
            yield from (function(shared, task) for task in tasks)
            return
        yield from _on_this_machine(function, shared, tasks, count)


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
    shared: Any,
    *,
    workers: Workers,
    resume: bool,
    progress: Progress | None = None,
    keep: Callable[[dict[str, Any], Any], None] | None = None,
    lacks: Callable[[dict[str, Any]], bool] | None = None,
) -> list[dict[str, Any]]:
    """Run tasks, and put each record on disk as soon as it is there.

    `lacks`: says of a stored record whether its task must run again, for what it gives besides.
    """
    with store.locked():
        done = store.begin(header, resume=resume)
        wanted = [
            task
            for key, task in tasks.items()
            if key not in done or (lacks is not None and lacks(done[key]))
        ]
        finished = len(tasks) - len(wanted)
        if progress is not None:
            progress(finished, len(tasks))
        for record, extra in workers.run(function, shared, wanted):
            if keep is not None:
                keep(record, extra)
            key = str(record["key"])
            if key not in done:
                store.append(record)
                done[key] = record
            finished += 1
            if progress is not None:
                progress(finished, len(tasks))
        store.finish(list(tasks), header)
    return [done[key] for key in tasks]


def _on_this_machine(
    function: Function, shared: Any, tasks: Sequence[Any], count: int
) -> Iterator[tuple[dict[str, Any], Any]]:
    # Threads of a fork would be lost in its child; a fresh interpreter reads the compiled cache.
    context = multiprocessing.get_context("spawn")
    waiting = iter(tasks)
    with ProcessPoolExecutor(
        count, mp_context=context, initializer=_begin, initargs=(function, shared)
    ) as pool:
        running: set[Future[tuple[dict[str, Any], Any]]] = set()
        try:
            while True:
                free = count * QUEUE - len(running)
                running |= {pool.submit(_run_here, task) for task in islice(waiting, free)}
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        except BrokenProcessPool:
            raise BayesblinaError(
                "A worker process ended abruptly (out of memory, or killed). Finished scenarios "
                "are kept: continue with resume, perhaps with fewer workers. A script must call it "
                "under if __name__ == '__main__', for its workers start by reading the script."
            ) from None
        finally:
            for future in running:
                future.cancel()


_HERE: list[tuple[Function, Any]] = []


def _begin(function: Function, shared: Any) -> None:
    """Keep in a worker process what every task needs."""
    _HERE[:] = [(function, shared)]


def _run_here(task: Any) -> tuple[dict[str, Any], Any]:
    function, shared = _HERE[0]
    return function(shared, task)


def _on_cluster(
    function: Function, shared: Any, tasks: Sequence[Any], scheduler: str
) -> Iterator[tuple[dict[str, Any], Any]]:
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
        there = client.scatter((function, shared), broadcast=True, hash=False)
        # A worker that dies takes its task back to the queue, up to the cluster's own limit.
        futures = client.map(_run_there, tasks, work=there, pure=False, retries=3)
        try:
            for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
                yield future.result()
        finally:
            client.cancel(futures)


def _run_there(task: Any, *, work: tuple[Function, Any]) -> tuple[dict[str, Any], Any]:
    function, shared = work
    return function(shared, task)
