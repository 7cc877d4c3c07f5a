"""Run scenarios of one analysis, and keep what is finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bayesblina.core.errors import SpecError, StorageError, require_kind
from bayesblina.core.files import reason_of, write_bytes
from bayesblina.estimands.ratios import Direction, hazard_ratio, require_direction
from bayesblina.estimands.summaries import summary
from bayesblina.inference.convergence import SamplerSettings, sampler_settings
from bayesblina.inference.fitting import LIBRARIES, Fit, fit_person_time
from bayesblina.patients.cohort import Cohort
from bayesblina.studies.what_if.engine import Engine, Workers, reason_of_failure, run_stored
from bayesblina.studies.what_if.layout import Scenario
from bayesblina.studies.what_if.reading import BESIDE_RATIO, SUMMARY, Sensitivity
from bayesblina.studies.what_if.store import Store

DRAWS = "draws"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every scenario needs besides itself.

    `draws`: whether draws of the hazard ratios come back with the summaries.
    """

    cohort: Cohort
    seed: int
    settings: SamplerSettings
    draws: bool


def run_scenario(work: Work, scenario: Scenario) -> tuple[dict[str, Any], Any]:
    """Run one scenario; whatever goes wrong with it becomes a record.

    Result: `record`: ``key``, ``label``, ``settings``, ``status`` (``"converged"``,
    ``"not converged"`` or ``"failed"``), ``reason`` and ``results``, one entry per endpoint.
    `draws`, shape (chain, draw, endpoint): log hazard ratios.
    """
    record: dict[str, Any] = {
        "key": scenario.key,
        "label": scenario.label,
        "settings": dict(scenario.settings),
        "seed": scenario.seed(work.seed),
    }
    try:
        person_time = scenario.person_time(work.cohort, seed=work.seed)
        fitted = fit_person_time(
            scenario.model,
            person_time,
            scenario.question,
            seed=record["seed"],
            settings=work.settings,
            complete=False,
            compared=True,
        )
        results, draws = _results(fitted)
    except Exception as error:
        reason = reason_of_failure(error)
        return {**record, "status": "failed", "reason": reason, "results": []}, None
    failures = fitted.convergence.failures()
    status = "not converged" if failures else "converged"
    record |= {"status": status, "reason": "; ".join(failures), "results": results}
    return record, draws if work.draws else None


def _results(fitted: Fit) -> tuple[list[dict[str, Any]], Any]:
    ratios = hazard_ratio(fitted)
    table = {str(row["endpoint"]): row for row in summary(ratios).to_dict("records")}
    logs = np.log(ratios["hazard_ratio"].transpose("chain", "draw", "endpoint").values)
    counts = fitted.person_time.table[["events", "person_time"]]
    exposed = fitted.person_time.table["role"].values == "exposed"
    people = fitted.person_time.people
    results = []
    for index, name in enumerate(fitted.person_time.endpoints):
        row = table[name]
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
                **_beside(row),
            }
        )
    for result in results:
        unusable = [
            key
            for key, value in result.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        if unusable:
            raise ArithmeticError(f"{result['endpoint']}: {', '.join(unusable)} is not finite")
    return results, logs


def _beside(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Take what stands beside a hazard ratio; what is missing is left out."""
    beside = {name: row[name] for name in BESIDE_RATIO if row.get(name) is not None}
    return {
        name: value if isinstance(value, str) else float(value)
        for name, value in beside.items()
        if isinstance(value, str) or math.isfinite(value)
    }


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
    direction: Direction | None = None,
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
    direction
        What the study concludes, to be held against the scenarios: ``"lower"`` or ``"higher"``
        hazard of the exposed; by default what the base case says.
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
    require_kind(cohort, Cohort, "cohort")
    require_kind(scenarios, list | tuple, "scenarios")
    settings = sampler_settings(draws, tune, chains, 1, seed)
    where = Workers(engine=engine, scheduler=scheduler, count=workers)
    if not scenarios:
        raise SpecError("There are no scenarios to run.")
    require_direction(direction)
    tasks = {scenario.key: scenario for scenario in scenarios}
    if len(tasks) != len(scenarios):
        raise SpecError("A scenario stands twice: lay scenarios out with bayesblina.scenarios.")
    store = Store(folder=Path(out))
    header = {
        "what": "scenarios",
        "seed": int(seed),
        "sampler": {k: v for k, v in asdict(settings).items() if k != "cores"},
        "data": hash_of_cohort(cohort),
        "unit": cohort.unit,
        "synthetic": cohort.synthetic,
        "versions": {name: version(name) for name in LIBRARIES},
        "direction": direction,
    }
    folder = store.folder / DRAWS

    def keep(record: dict[str, Any], logs: Any) -> None:
        if logs is None:
            return
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"Cannot make the folder '{folder}': {reason_of(error)}.") from None
        write_bytes(folder / f"{record['key']}.npy", _as_bytes(logs))

    def lacks(record: dict[str, Any]) -> bool:
        wanted = keep_draws and bool(record["results"])
        return wanted and not (folder / f"{record['key']}.npy").exists()

    records = run_stored(
        store,
        header,
        tasks,
        run_scenario,
        Work(cohort=cohort, seed=int(seed), settings=settings, draws=keep_draws),
        workers=where,
        resume=resume,
        progress=progress,
        keep=keep,
        lacks=lacks,
    )
    return Sensitivity.of(header, records)


def _as_bytes(values: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def hash_of_cohort(cohort: Cohort) -> str:
    """Hash all that is known of the patients."""
    import hashlib

    digest = hashlib.sha256()
    arrays = [cohort.patients.astype(str), cohort.phase_start, cohort.phase_end]
    arrays += [] if cohort.transplant is None else [cohort.transplant]
    digest.update(repr((cohort.unit, cohort.phases, cohort.phase_ends_known)).encode())
    for name, outcome in sorted(cohort.endpoints.items()):
        digest.update(name.encode())
        arrays += [outcome.time, outcome.event, outcome.entry]
    for name, covariate in sorted(cohort.covariates.items()):
        digest.update(repr((name, covariate.kind, covariate.levels)).encode())
        arrays.append(covariate.values)
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
