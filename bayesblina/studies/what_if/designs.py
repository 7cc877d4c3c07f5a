"""Grids of study designs, run and kept as scenarios are."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from bayesblina.core.arguments import require_kind, require_seed
from bayesblina.core.errors import SpecError, nearest
from bayesblina.hazards.definition import ModelDefinition
from bayesblina.hazards.priors import HazardRatioPrior
from bayesblina.inference.fitting import LIBRARIES
from bayesblina.inference.sampler_settings import SamplerSettings
from bayesblina.studies.planning import CHARACTERISTICS, operating_characteristics, planned_model
from bayesblina.studies.study_designs import StudyDesign
from bayesblina.studies.what_if.engine import (
    Engine,
    Progress,
    Workers,
    reason_of_failure,
    run_stored,
)
from bayesblina.studies.what_if.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is asked of every design."""

    seed: int
    replications: int
    success: float
    effect: HazardRatioPrior | None
    analysis: Literal["companion", "model"]
    model: ModelDefinition
    settings: SamplerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """One design of a grid."""

    design: StudyDesign
    varied: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> str:
        """Hash of the design."""
        text = json.dumps(asdict(self.design), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
    combinations = [dict(zip(axes, one, strict=True)) for one in product(*axes.values())]
    planned = [
        _Planned(design=replace(design, **one), varied=tuple(one.items())) for one in combinations
    ]
    definition = planned_model(model, prior)
    asked = _Asked(
        seed=int(seed),
        replications=replications,
        success=success,
        effect=effect,
        analysis=analysis,
        model=definition,
        settings=settings or SamplerSettings(),
    )
    where = Workers(engine=engine, scheduler=scheduler, count=workers)
    tasks = {one.key: one for one in planned}
    if out is None:
        records = {}
        for record, _ in where.run(_run_design, asked, list(tasks.values())):
            records[str(record["key"])] = record
            if progress is not None:
                progress(len(records), len(tasks))
    else:
        header = {
            "what": "designs",
            "seed": asked.seed,
            "replications": replications,
            "success": success,
            "effect": None if effect is None else effect.model_dump(mode="json"),
            "analysis": analysis,
            "model": definition.model_dump(mode="json", by_alias=True),
            "sampler": {k: v for k, v in asdict(asked.settings).items() if k != "cores"},
            "versions": {name: version(name) for name in LIBRARIES},
        }
        stored = run_stored(
            Store(folder=Path(out)),
            header,
            tasks,
            _run_design,
            asked,
            workers=where,
            resume=resume,
            progress=progress,
        )
        records = {str(record["key"]): record for record in stored}
    rows = []
    for one in planned:
        record = records[one.key]
        shown = {name: str(v) if isinstance(v, tuple | list) else v for name, v in one.varied}
        results = {name: record["results"].get(name) for name in CHARACTERISTICS}
        rows.append({**shown, **results, "reason": record["reason"]})
    return pd.DataFrame(rows)


def _run_design(asked: _Asked, planned: _Planned) -> tuple[dict[str, Any], None]:
    """Simulate and analyse one design; whatever goes wrong with it becomes its record."""
    record: dict[str, Any] = {"key": planned.key, "reason": "", "results": {}}
    try:
        found = operating_characteristics(
            planned.design,
            replications=asked.replications,
            seed=asked.seed,
            success=asked.success,
            effect=asked.effect,
            analysis=asked.analysis,
            model=asked.model,
            settings=asked.settings,
        )
    except Exception as error:
        return {**record, "reason": reason_of_failure(error)}, None
    row = found.iloc[0].to_dict()
    # JSON has no missing numbers.
    record["results"] = {
        str(name): None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
    return record, None
