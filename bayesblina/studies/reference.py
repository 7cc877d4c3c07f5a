"""Reference posteriors: what a model must give on a fixed synthetic cohort.

A long run is stored beside each model's file; a normal run is held against it.

    python -m bayesblina.studies.reference NAME --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesblina.core.errors import ConvergenceError, SpecError
from bayesblina.core.files import write_text
from bayesblina.hazards.build import build_model
from bayesblina.inference.convergence import SamplerSettings, assess_convergence
from bayesblina.inference.fitting import LIBRARIES
from bayesblina.inference.sampling import sample
from bayesblina.person_time.cells import PersonTime
from bayesblina.studies.calibration import has_meaning, labels_of, synthetic_setting

LONG = SamplerSettings(draws=10_000, tune=2000, chains=4, target_accept=0.98)
SEED = 20_261_124


def moments(posterior: xr.Dataset) -> pd.DataFrame:
    """Means and sds of the parameters that have a meaning, with Monte-Carlo errors.

    `posterior`: draws over (chain, draw, ...).
    Result: one row per parameter: ``parameter``, ``mean``, ``sd``, ``mcse_mean``, ``mcse_sd``.
    """
    kept = posterior[[name for name in map(str, posterior.data_vars) if has_meaning(name)]]
    errors = {method: az.mcse(kept, method=method) for method in ("mean", "sd")}
    rows = []
    for name in map(str, kept.data_vars):
        values = kept[name]
        columns = [
            np.ravel(values.mean(("chain", "draw")).values),
            np.ravel(values.std(("chain", "draw"), ddof=1).values),
            *(np.ravel(errors[method][name].values) for method in ("mean", "sd")),
        ]
        rows += [
            dict(zip(("parameter", "mean", "sd", "mcse_mean", "mcse_sd"), row, strict=True))
            for row in zip(labels_of(name, values), *columns, strict=True)
        ]
    return pd.DataFrame(rows)


def compute_reference(
    name: str, *, settings: SamplerSettings = LONG, seed: int = SEED
) -> dict[str, Any]:
    """Sample a model for long."""
    definition, person_time = synthetic_setting(name)
    built = build_model(definition, person_time)
    tree, _ = sample(built, seed=seed, settings=settings)
    convergence = assess_convergence(tree)
    if not convergence.passed:
        raise ConvergenceError(f"{name}: {'; '.join(convergence.failures())}")
    table = moments(tree["posterior"].to_dataset())
    return {
        "model": name,
        "command": f"python -m bayesblina.studies.reference {name}",
        "definition": definition.model_dump(mode="json", by_alias=True),
        "data": totals(person_time),
        "draws": settings.draws * settings.chains,
        "seed": seed,
        "versions": {library: version(library) for library in LIBRARIES},
        "moments": table.set_index("parameter").T.to_dict("list"),
    }


def totals(person_time: PersonTime) -> dict[str, list[float]]:
    """Sum up the data of a reference posterior, plainly and with weights that tell places apart.

    The synthetic patients' times differ in their last bits between processors, so their hash would.
    Sums whose weights are those of the place in the order are the same everywhere up to rounding,
    and others as soon as cells or patients are exchanged.

    By endpoint: events and person-time; both weighted by the place of the cell; times of entry and
    exit, events, weights and patterns weighted by the place of the patient.
    """
    people = person_time.people
    patterns = people["category"].values.astype(np.float64) + 1.0
    sums = {}
    for index, name in enumerate(person_time.endpoints):
        cells = [person_time.table[key].values[index].ravel() for key in ("events", "person_time")]
        single = [
            *(np.nan_to_num(people[key].values[index], nan=-1.0) for key in ("begin", "exit")),
            people["event"].values[index].astype(np.float64),
            people["weight"].values,
            patterns,
        ]
        weighted = [float(values @ _places(values.size)) for values in (*cells, *single)]
        sums[name] = [*(float(values.sum()) for values in cells), *weighted]
    return sums


def _places(size: int) -> NDArray[np.float64]:
    """Weights between 0 and 1, no two alike: multiples of the golden ratio without their wholes."""
    return np.asarray(np.arange(1, size + 1) * ((np.sqrt(5.0) - 1.0) / 2.0) % 1.0)


def load_reference(name: str) -> dict[str, Any]:
    """Load the reference posterior of a shipped model."""
    path = files("bayesblina.models").joinpath(f"{name}.reference.json")
    if not path.is_file():
        raise SpecError(f"No reference posterior of '{name}'.")
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def compare_with_reference(posterior: xr.Dataset, reference: dict[str, Any]) -> pd.DataFrame:
    """Hold draws against a reference.

    `posterior`: draws over (chain, draw, ...).
    Result: one row per parameter: ``parameter``, ``distance_mean`` and ``distance_sd``, the
    differences of means and of sds in combined Monte-Carlo standard errors.
    """
    own = moments(posterior).set_index("parameter")
    stored = pd.DataFrame.from_dict(reference["moments"], orient="index", columns=own.columns)
    if list(own.index) != list(stored.index):
        raise SpecError("The parameters are not those of the reference posterior.")
    distances = {
        f"distance_{name}": (own[name] - stored[name]).abs()
        / np.hypot(own[f"mcse_{name}"], stored[f"mcse_{name}"])
        for name in ("mean", "sd")
    }
    return pd.DataFrame(distances).rename_axis("parameter").reset_index()


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute reference posteriors from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bayesblina.studies.reference")
    parser.add_argument("names", nargs="+", help="shipped models")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.reference.json")
    given = parser.parse_args(arguments)
    for name in given.names:
        content = compute_reference(name)
        for values in content["moments"].values():
            values[:] = [float(f"{value:.8g}") for value in values]
        write_text(given.out / f"{name}.reference.json", json.dumps(content, indent=1) + "\n")
        sys.stderr.write(f"{name}: done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
