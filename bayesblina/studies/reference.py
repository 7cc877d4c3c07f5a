"""Reference posteriors: what a model must give on a fixed synthetic cohort.

A long run is stored beside each model's file; tests hold a normal run against it.

    python -m bayesblina.studies.reference NAME --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import ConvergenceError
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
    moments_of = {
        "mean": kept.mean(("chain", "draw")),
        "sd": kept.std(("chain", "draw"), ddof=1),
        "mcse_mean": az.mcse(kept, method="mean"),
        "mcse_sd": az.mcse(kept, method="sd"),
    }
    columns = {
        column: np.concatenate([np.ravel(values[name].values) for name in kept.data_vars])
        for column, values in moments_of.items()
    }
    labels = [label for name, values in kept.items() for label in labels_of(str(name), values)]
    return pd.DataFrame({"parameter": labels, **columns})


def compute_reference(
    name: str, *, settings: SamplerSettings = LONG, seed: int = SEED
) -> dict[str, Any]:
    """Sample a model for long."""
    definition, person_time = synthetic_setting(name)
    tree, _ = sample(build_model(definition, person_time), seed=seed, settings=settings)
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
    people, sums = person_time.people, {}
    for index, name in enumerate(person_time.endpoints):
        cells = [person_time.table[key].values[index].ravel() for key in ("events", "person_time")]
        single = [
            *(np.nan_to_num(people[key].values[index], nan=-1.0) for key in ("begin", "exit")),
            people["event"].values[index].astype(np.float64),
            people["weight"].values,
            people["category"].values.astype(np.float64) + 1.0,
        ]
        sums[name] = [float(values.sum()) for values in cells]
        sums[name] += [float(values @ _places(values.size)) for values in (*cells, *single)]
    return sums


def _places(size: int) -> Floats:
    """Weights between 0 and 1, no two alike: multiples of the golden ratio without their wholes."""
    return np.asarray(np.arange(1, size + 1) * ((np.sqrt(5.0) - 1.0) / 2.0) % 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute reference posteriors from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bayesblina.studies.reference")
    parser.add_argument("names", nargs="+", help="shipped models")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.reference.json")
    given = parser.parse_args(arguments)
    for name in given.names:
        content = compute_reference(name)
        content["moments"] = {
            parameter: [float(f"{value:.8g}") for value in values]
            for parameter, values in content["moments"].items()
        }
        write_text(given.out / f"{name}.reference.json", json.dumps(content, indent=1) + "\n")
        sys.stderr.write(f"{name}: done\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
