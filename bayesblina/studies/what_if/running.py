"""Run scenarios of one analysis, and grids of study designs, and keep what is finished."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bayesblina.core.errors import SpecError, nearest, require_kind, require_seed
from bayesblina.core.files import write_bytes
from bayesblina.estimands.ratios import Direction, hazard_ratio, require_direction
from bayesblina.estimands.summaries import summary
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.convergence import SamplerSettings, sampler_settings
from bayesblina.inference.fitting import LIBRARIES, Fit, fit_person_time
from bayesblina.patients.cohort import Cohort
from bayesblina.studies.planning.characteristics import (
    CHARACTERISTICS,
    operating_characteristics,
    planned_model,
)
from bayesblina.studies.planning.designs import StudyDesign
from bayesblina.studies.what_if.engine import (
    Engine,
    Progress,
    Result,
    Store,
    Workers,
    reason_of_failure,
    refused,
    run_stored,
)
from bayesblina.studies.what_if.layout import Scenario
from bayesblina.studies.what_if.reading import BESIDE_RATIO, SUMMARY, Sensitivity

DRAWS = "draws"


def run_scenario(
    scenario: Scenario, *, cohort: Cohort, seed: int, settings: SamplerSettings, draws: bool
) -> Result:
    """Run one scenario; whatever goes wrong with it becomes a record.

    `draws`: whether draws of the hazard ratios come back with the summaries.

    Result: `record`: ``key``, ``label``, ``settings``, ``status`` (``"converged"``,
    ``"not converged"`` or ``"failed"``), ``reason`` and ``results``, one entry per endpoint.
    `draws`, shape (chain, draw, endpoint): log hazard ratios.
    """
    record: dict[str, Any] = {
        "key": scenario.key,
        "label": scenario.label,
        "settings": dict(scenario.settings),
        "seed": scenario.seed(seed),
    }
    try:
        fitted = fit_person_time(
            scenario.model,
            scenario.person_time(cohort, seed=seed),
            scenario.question,
            seed=record["seed"],
            settings=settings,
            complete=False,
            compared=True,
        )
        results, logs = _results(fitted)
    except Exception as error:
        reason = reason_of_failure(error)
        return {**record, "status": "failed", "reason": reason, "results": []}, None
    failures = fitted.convergence.failures()
    status = "not converged" if failures else "converged"
    record |= {"status": status, "reason": "; ".join(failures), "results": results}
    return record, logs if draws else None


def _results(fitted: Fit) -> tuple[list[dict[str, Any]], Any]:
    ratios, person_time = hazard_ratio(fitted), fitted.person_time
    table = {str(row["endpoint"]): row for row in summary(ratios).to_dict("records")}
    logs = np.log(ratios["hazard_ratio"].transpose("chain", "draw", "endpoint").values)
    exposed = person_time.table["role"].values == "exposed"
    results = []
    for index, name in enumerate(person_time.endpoints):
        events = person_time.table["events"].sel(endpoint=name).values
        result = {
            "endpoint": name,
            **{column: float(table[name][column]) for column in SUMMARY},
            "mean_log": float(logs[:, :, index].mean()),
            "sd_log": float(logs[:, :, index].std(ddof=1)),
            "patients": int(person_time.table["contributors"].sel(endpoint=name)),
            "events": float(events.sum()),
            "events_exposed": float(events[:, exposed].sum()),
            **_beside(table[name]),
        }
        unusable = [
            key
            for key, value in result.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        if unusable:
            raise ArithmeticError(f"{name}: {', '.join(unusable)} is not finite")
        results.append(result)
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
    progress: Progress | None = None,
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
        if logs is not None:
            with refused(f"Cannot make the folder '{folder}'"):
                folder.mkdir(exist_ok=True)
            content = io.BytesIO()
            np.save(content, logs, allow_pickle=False)
            write_bytes(folder / f"{record['key']}.npy", content.getvalue())

    def lacks(record: dict[str, Any]) -> bool:
        wanted = keep_draws and bool(record["results"])
        return wanted and not (folder / f"{record['key']}.npy").exists()

    records = run_stored(
        store,
        header,
        tasks,
        partial(run_scenario, cohort=cohort, seed=int(seed), settings=settings, draws=keep_draws),
        workers=where,
        resume=resume,
        progress=progress,
        keep=keep,
        lacks=lacks,
    )
    return Sensitivity.of(header, records)


def hash_of_cohort(cohort: Cohort) -> str:
    """Hash all that is known of the patients."""
    digest = hashlib.sha256(repr((cohort.unit, cohort.phases, cohort.phase_ends_known)).encode())
    arrays = [cohort.patients.astype(str), cohort.phase_start, cohort.phase_end]
    arrays += [] if cohort.transplant is None else [cohort.transplant]
    if cohort.stays is not None:
        stays = cohort.stays
        digest.update(repr(("stays", cohort.ordered, stays.bridged, stays.grace)).encode())
        arrays += [stays.patient, stays.phase, stays.start, stays.stop, stays.cycles]
        arrays += [] if stays.dose is None else [stays.dose]
    for name, outcome in sorted(cohort.endpoints.items()):
        digest.update(name.encode())
        arrays += [outcome.time, outcome.event, outcome.entry]
        if outcome.last_negative is not None:
            digest.update(outcome.event_free_until.encode())
            arrays.append(outcome.last_negative)
    for name, covariate in sorted(cohort.covariates.items()):
        digest.update(repr((name, covariate.kind, covariate.levels)).encode())
        arrays.append(covariate.values)
    for array in arrays:
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def design_grid(
    design: StudyDesign,
    axes: Mapping[str, Sequence[Any]],
    *,
    seed: int,
    out: str | PathLike[str] | None = None,
    replications: int = 1000,
    success: float = 0.975,
    prior: HazardRatioPrior | None = None,
    effect: HazardRatioPrior | None = None,
    analysis: Literal["companion", "model"] = "companion",
    model: str | ModelDefinition = "primary",
    settings: SamplerSettings | None = None,
    resume: bool = False,
    engine: Engine = "local",
    scheduler: str | None = None,
    workers: int | None = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Vary a design: all combinations of settings of its attributes.

    Parameters
    ----------
    design
        The design.
    axes
        By attribute of `StudyDesign` the settings to try.
    seed, replications, success, prior, effect, analysis, model, settings
        As for `operating_characteristics`. Designs share the seed, so that they differ by what
        was varied and less by chance.
    out
        Folder in which every finished design is kept at once, as scenarios of `sensitivity` are;
        by default none.
    resume
        Whether to go on from what an earlier run left in the folder.
    engine, scheduler, workers
        Where designs are run, as for `sensitivity`; by default in this process.
    progress
        Called with the number of designs done and that of all.

    Returns
    -------
    pandas.DataFrame
        One row per combination: its settings, what `operating_characteristics` gives, and
        ``reason``, empty unless the design failed.

    Raises
    ------
    SpecError
        If an attribute is unknown or a setting impossible.
    StorageError
        If the folder cannot be written to, or holds something else.
    """
    require_kind(design, StudyDesign, "design")
    require_seed(seed)
    if effect is not None and "hazard_ratio" in axes:
        raise SpecError("The hazard ratio is drawn from `effect`, so it cannot be varied too.")
    known = [name for name in StudyDesign.__dataclass_fields__ if name != "unit"]
    for name, values in axes.items():
        if name not in known:
            raise SpecError(f"A design has no '{name}'. {nearest(name, known)}")
        if isinstance(values, str) or not isinstance(values, list | tuple) or not values:
            raise SpecError(f"{name}: give a list of settings, got {values!r}.")
    combinations = [dict(zip(axes, chosen, strict=True)) for chosen in product(*axes.values())]
    designs = [replace(design, **chosen) for chosen in combinations]
    tasks = {_key(varied): varied for varied in designs}
    definition = planned_model(model, prior)
    sampler = settings or SamplerSettings()
    asked = {
        "seed": int(seed),
        "replications": replications,
        "success": success,
        "analysis": analysis,
    }
    work = partial(
        _run_design, {**asked, "effect": effect, "model": definition, "settings": sampler}
    )
    where = Workers(engine=engine, scheduler=scheduler, count=workers)
    records = {}
    if out is None:
        for record, _ in where.run(work, list(tasks.values())):
            records[record["key"]] = record
            if progress is not None:
                progress(len(records), len(tasks))
    else:
        header = {
            "what": "designs",
            **asked,
            "effect": None if effect is None else effect.model_dump(mode="json"),
            "model": definition.model_dump(mode="json", by_alias=True),
            "sampler": {k: v for k, v in asdict(sampler).items() if k != "cores"},
            "versions": {name: version(name) for name in LIBRARIES},
        }
        store = Store(folder=Path(out))
        stored = run_stored(
            store, header, tasks, work, workers=where, resume=resume, progress=progress
        )
        records = {record["key"]: record for record in stored}
    rows = []
    for chosen, varied in zip(combinations, designs, strict=True):
        record = records[_key(varied)]
        shown = {k: str(v) if isinstance(v, tuple | list) else v for k, v in chosen.items()}
        results = {name: record["results"].get(name) for name in CHARACTERISTICS}
        rows.append({**shown, **results, "reason": record["reason"]})
    return pd.DataFrame(rows)


def _key(design: StudyDesign) -> str:
    """Hash a design."""
    content = {
        name: value
        for name, value in asdict(design).items()
        if value is not None or name not in ("cycles", "visits", "starts_until")
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _run_design(asked: Mapping[str, Any], design: StudyDesign) -> Result:
    """Simulate and analyse one design; whatever goes wrong with it becomes its record."""
    record: dict[str, Any] = {"key": _key(design), "reason": "", "results": {}}
    try:
        row = operating_characteristics(design, **asked).iloc[0].to_dict()
    except Exception as error:
        return {**record, "reason": reason_of_failure(error)}, None
    # JSON has no missing numbers.
    record["results"] = {
        str(name): None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
    return record, None
