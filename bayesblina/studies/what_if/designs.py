"""Grids of study designs, run and kept as scenarios are."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bayesblina.core.errors import SpecError, nearest, require_kind, require_seed
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.convergence import SamplerSettings
from bayesblina.inference.fitting import LIBRARIES
from bayesblina.studies.planning.characteristics import (
    CHARACTERISTICS,
    operating_characteristics,
    planned_model,
)
from bayesblina.studies.planning.designs import StudyDesign
from bayesblina.studies.what_if.engine import (
    Engine,
    Progress,
    Workers,
    reason_of_failure,
    run_stored,
)
from bayesblina.studies.what_if.store import Store


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
    asked: dict[str, Any] = {
        "seed": int(seed),
        "replications": replications,
        "success": success,
        "effect": effect,
        "analysis": analysis,
        "model": definition,
    }
    sampler = settings or SamplerSettings()
    work = partial(operating_characteristics, **asked, settings=sampler)
    where = Workers(engine=engine, scheduler=scheduler, count=workers)
    if out is None:
        records = {}
        for record, _ in where.run(_run_design, work, list(tasks.values())):
            records[str(record["key"])] = record
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
        stored = run_stored(
            Store(folder=Path(out)),
            header,
            tasks,
            _run_design,
            work,
            workers=where,
            resume=resume,
            progress=progress,
        )
        records = {str(record["key"]): record for record in stored}
    rows = []
    for chosen, varied in zip(combinations, designs, strict=True):
        record = records[_key(varied)]
        shown = {k: str(v) if isinstance(v, tuple | list) else v for k, v in chosen.items()}
        results = {name: record["results"].get(name) for name in CHARACTERISTICS}
        rows.append({**shown, **results, "reason": record["reason"]})
    return pd.DataFrame(rows)


def _key(design: StudyDesign) -> str:
    """Hash a design."""
    return hashlib.sha256(json.dumps(asdict(design), sort_keys=True).encode()).hexdigest()


def _run_design(
    work: Callable[[StudyDesign], pd.DataFrame], design: StudyDesign
) -> tuple[dict[str, Any], None]:
    """Simulate and analyse one design; whatever goes wrong with it becomes its record."""
    record: dict[str, Any] = {"key": _key(design), "reason": "", "results": {}}
    try:
        row = work(design).iloc[0].to_dict()
    except Exception as error:
        return {**record, "reason": reason_of_failure(error)}, None
    # JSON has no missing numbers.
    record["results"] = {
        str(name): None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
    return record, None
