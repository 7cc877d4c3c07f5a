"""Run scenarios: on this machine's cores or an existing cluster; what is finished stays."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bayesblina.cohort import Cohort
from bayesblina.errors import BayesblinaError, DataError, SpecError, StorageError
from bayesblina.estimands import hazard_ratio
from bayesblina.files import reason_of, write_bytes
from bayesblina.fitting import LIBRARIES, Fit, fit_exposure, sampler_settings
from bayesblina.sampling import SamplerSettings
from bayesblina.summaries import summarise
from bayesblina.what_if.reading import SUMMARY, Sensitivity
from bayesblina.what_if.scenarios import Scenario
from bayesblina.what_if.store import Store

Engine = Literal["local", "dask"]
DRAWS = "draws"
# Scenarios that wait at each worker: enough to keep it busy, few enough to stop soon.
QUEUE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every scenario needs besides itself.

    Attributes
    ----------
    cohort
        The patients of the base case.
    seed
        Seed of the study.
    settings
        How long each fit is sampled.
    draws
        Whether draws of the hazard ratios come back with the summaries.
    """

    cohort: Cohort
    seed: int
    settings: SamplerSettings
    draws: bool


def run_scenario(work: Work, scenario: Scenario) -> tuple[dict[str, Any], Any]:
    """Run one scenario; whatever goes wrong with it becomes a record.

    Parameters
    ----------
    work
        What every scenario needs.
    scenario
        The scenario.

    Returns
    -------
    record : dict
        ``key``, ``label``, ``settings``, ``status`` (``"converged"``, ``"not converged"`` or
        ``"failed"``), ``reason`` and ``results``, one entry per endpoint.
    draws : ndarray, shape (chain, draw, endpoint), or None
        Log hazard ratios.
    """
    record: dict[str, Any] = {
        "key": scenario.key,
        "label": scenario.label,
        "settings": dict(scenario.settings),
        "seed": scenario.seed(work.seed),
    }
    try:
        exposure = scenario.expose(work.cohort, seed=work.seed)
        fitted = fit_exposure(
            scenario.model,
            exposure,
            scenario.question,
            seed=record["seed"],
            settings=work.settings,
            complete=False,
        )
        results, draws = _results(fitted)
    except (BayesblinaError, ArithmeticError, ValueError) as error:
        return {**record, "status": "failed", "reason": _reason(error), "results": []}, None
    failures = fitted.convergence.failures()
    status = "not converged" if failures else "converged"
    record |= {"status": status, "reason": "; ".join(failures), "results": results}
    return record, draws if work.draws else None


def _reason(error: Exception) -> str:
    """Say why a scenario failed, without naming patients: the store may be shown to others."""
    if isinstance(error, DataError):
        return "; ".join(f"{one.column}: {one.found}" for one in error.problems)
    return " ".join(str(error).split())


def _results(fitted: Fit) -> tuple[list[dict[str, Any]], Any]:
    ratios = hazard_ratio(fitted)
    table = summarise(ratios).set_index("endpoint")
    logs = np.log(ratios["hazard_ratio"].transpose("chain", "draw", "endpoint").values)
    counts = fitted.exposure.table[["events", "exposure"]]
    exposed = fitted.exposure.table["role"].values == "exposed"
    people = fitted.exposure.people
    results = []
    for index, name in enumerate(fitted.exposure.endpoints):
        row = table.loc[name]
        events = counts["events"].sel(endpoint=name).values
        results.append(
            {
                "endpoint": name,
                **{column: float(row[column]) for column in SUMMARY},
                "mean_log": float(logs[:, :, index].mean()),
                "sd_log": float(logs[:, :, index].std(ddof=1)),
                "patients": int(np.isfinite(people["exit"].sel(endpoint=name).values).sum()),
                "events": float(events.sum()),
                "events_exposed": float(events[:, exposed].sum()),
            }
        )
    for one in results:
        unusable = [
            key
            for key, value in one.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        if unusable:
            raise ArithmeticError(f"{one['endpoint']}: {', '.join(unusable)} is not finite")
    return results, logs


def sensitivity(
    cohort: Cohort,
    scenarios: Sequence[Scenario],
    *,
    out: str | PathLike[str],
    seed: int,
    resume: bool = False,
    engine: Engine = "local",
    scheduler: str | None = None,
    workers: int | None = None,
    keep_draws: bool = False,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Run scenarios, and keep each on disk as soon as it is finished.

    Scenarios whose models differ only in data, sizes and priors share one compiled density. Seeds
    come from the scenarios' content, so that results do not depend on their order, on the number
    of workers or the engine, or on interruptions.

    Parameters
    ----------
    cohort
        The patients of the base case.
    scenarios
        What `bayesblina.scenarios` gives.
    out
        Folder of the results. Each finished scenario is one line of ``scenarios.jsonl``.
    seed
        Seed of the whole study.
    resume
        Whether to go on from what an earlier run left in the folder.
    engine
        ``"local"``: processes of this machine. ``"dask"``: an existing cluster (needs the extra
        ``cluster``).
    scheduler
        Address of the cluster's scheduler.
    workers
        Number of local processes; by default one for each core.
    keep_draws
        Whether draws of the log hazard ratios are kept, in ``draws/KEY.npy``; by default they stay
        with the workers.
    draws, tune, chains
        As for `bayesblina.fit`.
    progress
        Called with the number of scenarios done and that of all.

    Returns
    -------
    Sensitivity
        All scenarios; those that failed or did not converge with their reason.

    Raises
    ------
    SpecError
        If an argument is impossible.
    StorageError
        If the folder cannot be written to, or holds results of another study; finished scenarios
        stay readable (`bayesblina.load_sensitivity`).

    Examples
    --------
    >>> import tempfile
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> what_if = bb.scenarios(cohort, question, {"lag": [1.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = bb.sensitivity(cohort, what_if, out=folder, seed=1, workers=1)
    >>> found
    Sensitivity(2 scenarios; 2 converged; synthetic patients)
    """
    settings = sampler_settings(draws, tune, chains, 1, seed)
    if engine not in ("local", "dask"):
        raise SpecError(f"engine must be 'local' or 'dask', got {engine!r}.")
    if (engine == "dask") != (scheduler is not None):
        raise SpecError("Give the scheduler's address with engine 'dask', and only there.")
    if workers is not None and (isinstance(workers, bool) or workers < 1):
        raise SpecError(f"workers must be at least 1, got {workers!r}.")
    if not scenarios:
        raise SpecError("There are no scenarios to run.")
    keys = [one.key for one in scenarios]
    if len(set(keys)) != len(keys):
        raise SpecError("A scenario stands twice: lay scenarios out with bayesblina.scenarios.")
    store = Store(folder=Path(out))
    header = {
        "seed": int(seed),
        "sampler": {k: v for k, v in asdict(settings).items() if k != "cores"},
        "data": hash_of_cohort(cohort),
        "unit": cohort.unit,
        "synthetic": cohort.synthetic,
        "versions": {name: version(name) for name in LIBRARIES},
    }
    done = store.begin(header, resume=resume)
    folder = store.folder / DRAWS
    if keep_draws:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot make the folder '{folder}': {reason_of(error)}.") from None
    wanted = [
        one
        for one in scenarios
        if one.key not in done
        or (keep_draws and done[one.key]["results"] and not (folder / f"{one.key}.npy").exists())
    ]
    work = Work(cohort=cohort, seed=int(seed), settings=settings, draws=keep_draws)
    finished = len(scenarios) - len(wanted)
    if progress is not None:
        progress(finished, len(scenarios))
    if engine == "dask":
        assert scheduler is not None
        outcomes = _on_cluster(work, wanted, scheduler)
    else:
        outcomes = _on_this_machine(work, wanted, min(workers or os.cpu_count() or 1, len(wanted)))
    for record, found in outcomes:
        if keep_draws and found is not None:
            write_bytes(folder / f"{record['key']}.npy", _as_bytes(found))
        if record["key"] not in done:
            store.append(record)
            done[str(record["key"])] = record
        finished += 1
        if progress is not None:
            progress(finished, len(scenarios))
    store.finish(keys)
    return Sensitivity.of(header, [done[key] for key in keys])


def _on_this_machine(
    work: Work, wanted: Sequence[Scenario], workers: int
) -> Iterator[tuple[dict[str, Any], Any]]:
    if workers <= 1:
        for one in wanted:
            yield run_scenario(work, one)
        return
    # Threads of a fork would be lost in its child; a fresh interpreter reads the compiled cache.
    context = multiprocessing.get_context("spawn")
    waiting = iter(wanted)
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(work,)
    ) as pool:
        running: set[Future[tuple[dict[str, Any], Any]]] = set()
        try:
            for one in waiting:
                running.add(pool.submit(_run_here, one))
                if len(running) < workers * QUEUE:
                    continue
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
            while running:
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


_WORK: list[Work] = []


def _begin(work: Work) -> None:
    """Keep in a worker process what every scenario needs."""
    _WORK[:] = [work]


def _run_here(scenario: Scenario) -> tuple[dict[str, Any], Any]:
    return run_scenario(_WORK[0], scenario)


def _on_cluster(
    work: Work, wanted: Sequence[Scenario], scheduler: str
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
        shared = client.scatter(work, broadcast=True, hash=False)
        # A worker that dies takes its scenario back to the queue, up to the cluster's own limit.
        futures = client.map(_run_there, wanted, work=shared, pure=False, retries=3)
        try:
            for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
                yield future.result()
        finally:
            client.cancel(futures)


def _run_there(scenario: Scenario, *, work: Work) -> tuple[dict[str, Any], Any]:
    return run_scenario(work, scenario)


def _as_bytes(values: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def hash_of_cohort(cohort: Cohort) -> str:
    """Hash all that is known of the patients.

    Parameters
    ----------
    cohort
        The patients.

    Returns
    -------
    str
        SHA-256.
    """
    import hashlib

    digest = hashlib.sha256()
    arrays = [cohort.patients.astype(str), cohort.phase_start, cohort.phase_end]
    arrays += [] if cohort.transplant is None else [cohort.transplant]
    digest.update(repr((cohort.unit, cohort.phases, cohort.phase_ends_known)).encode())
    for name, one in sorted(cohort.endpoints.items()):
        digest.update(name.encode())
        arrays += [one.time, one.event, one.entry]
    for name, covariate in sorted(cohort.covariates.items()):
        digest.update(repr((name, covariate.kind, covariate.levels)).encode())
        arrays.append(covariate.values)
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
