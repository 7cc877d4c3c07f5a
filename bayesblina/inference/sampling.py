"""PyMC models to draws: compiled once per structure, sampled by nutpie.

What is compiled of a structure (`compiling`) is joined with one model's data and sizes. Where all
this does not fit the installed libraries, PyMC's own `pymc.sample` takes over.
"""

from __future__ import annotations

import importlib
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pymc as pm
import xarray as xr
from pymc.distributions.transforms import LogOddsTransform, LogTransform

from bayesblina.core.arrays import Floats
from bayesblina.hazards.build import BuiltModel
from bayesblina.hazards.log_hazards import flat_draws
from bayesblina.inference.compiling import Compiled, compiled_of
from bayesblina.inference.convergence import SamplerSettings

# What is kept of nutpie's statistics.
STATISTICS = [
    "diverging",
    "energy",
    "logp",
    "n_steps",
    "depth",
    "maxdepth_reached",
    "step_size",
    "mean_tree_accept",
]
_log = logging.getLogger("bayesblina")


def sample(
    built: BuiltModel,
    *,
    seed: int,
    settings: SamplerSettings,
    progress: Callable[[Sequence[Any]], None] | None = None,
) -> tuple[xr.DataTree, dict[str, float | str]]:
    """Draw from the posterior.

    `progress`: called now and then with nutpie's progress of each chain.
    Result: `draws`: groups ``posterior`` and ``sample_stats``.
    """
    began = time.perf_counter()
    try:
        bound = bind(compiled_of(built), built)
    except Exception as error:  # any change of the libraries' inside ends here
        _log.warning("bayesblina's compiled path is not available (%s); using pymc.sample", error)
        return _sample_with_pymc(built, seed=seed, settings=settings)
    ready = time.perf_counter()

    trace = _nutpie().sample(
        bound,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        seed=seed,
        target_accept=settings.target_accept or built.target_accept,
        progress_bar=False,
        progress_callback=progress,
        return_raw_trace=True,
    )
    tree = _gather(trace, bound)
    done = time.perf_counter()
    return tree, {"engine": "compiled", "compile": ready - began, "sample": done - ready}


class _Later(ModuleType):
    """Stand for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def _nutpie() -> Any:
    """Import nutpie without ArviZ, which takes longer to import than a fit takes.

    nutpie needs ArviZ for draws that it converts itself, and these are not. Only nutpie holds the
    stand-in, and gets the module itself when it uses it.
    """
    if "nutpie" in sys.modules or "arviz" in sys.modules:
        return importlib.import_module("nutpie")
    sys.modules["arviz"] = _Later("arviz")
    try:
        return importlib.import_module("nutpie")
    finally:
        del sys.modules["arviz"]


def _gather(trace: Any, bound: Any) -> xr.DataTree:
    """Take draws and statistics after adaptation from what the sampler stored, by chain."""
    draws, statistics = trace.get_arrow_trace()
    kept = [~np.asarray(pyarrow.array(batch.column("tuning"))) for batch in statistics]
    chains, count = len(kept), int(kept[0].sum())
    coords = {"chain": np.arange(chains), "draw": np.arange(count)}

    def columns(batches: Any, names: list[str]) -> dict[str, Any]:
        return {
            name: np.stack(
                [
                    _rows(batch.column(name), after.size)[after]
                    for batch, after in zip(batches, kept, strict=True)
                ]
            )
            for name in names
        }

    names = [name for name in draws[0].column_names if not name.endswith("__")]
    posterior = _labelled(columns(draws, names), bound)
    stats = {
        name: (("chain", "draw"), values[:, :, 0])
        for name, values in columns(statistics, STATISTICS).items()
    }
    return xr.DataTree.from_dict(
        {
            "/posterior": posterior.assign_coords(coords),
            "/sample_stats": xr.Dataset(stats, coords=coords),
        }
    )


def _rows(column: Any, count: int) -> Floats:
    """Lay a column of numbers, or of lists of them, out as (draw, number)."""
    values = pyarrow.array(column)
    flat = values.flatten() if hasattr(values, "flatten") else values
    return np.asarray(flat.to_numpy(zero_copy_only=False).reshape(count, -1))


def _labelled(flat: Mapping[str, Floats], bound: Any) -> xr.Dataset:
    """Lay variables, (chain, draw, ...) and flat behind that, out by their dimensions."""
    variables = {}
    for name, values in flat.items():
        dims = tuple(bound.dims[name])
        shape = (len(bound.coords[dim]) for dim in dims)
        variables[name] = (("chain", "draw", *dims), values.reshape(*values.shape[:2], *shape))
    used = {dim for dims, _ in variables.values() for dim in dims[2:]}
    return xr.Dataset(
        variables, coords={dim: names for dim, names in bound.coords.items() if dim in used}
    )


def _sample_with_pymc(
    built: BuiltModel, *, seed: int, settings: SamplerSettings
) -> tuple[xr.DataTree, dict[str, float | str]]:
    # PyTensor's compiler must know the operations' kernels before it meets one.
    importlib.import_module("bayesblina.hazards.op_kernels")
    began = time.perf_counter()
    trace = pm.sample(
        settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        model=built.model,
        nuts_sampler="nutpie",
        nuts={"target_accept": settings.target_accept or built.target_accept},
        random_seed=seed,
        progressbar=False,
        quiet=True,
        compute_convergence_checks=False,
    )
    # Attributes hold the date and the like, which differ from run to run.
    posterior, stats = (
        trace[name].to_dataset().drop_attrs() for name in ("posterior", "sample_stats")
    )
    return (
        xr.DataTree.from_dict({"/posterior": posterior, "/sample_stats": stats[STATISTICS]}),
        {"engine": "pymc", "compile": 0.0, "sample": time.perf_counter() - began},
    )


def bind(compiled: Compiled, built: BuiltModel) -> Any:
    """Join a compiled structure with one model's data, sizes and labels."""
    model = built.model
    lengths = {
        dim: int(np.asarray(variable.get_value())) for dim, variable in model.dim_lengths.items()
    }
    parts = [
        np.asarray(model[name].get_value(), dtype=np.float64)
        for name in compiled.names["data_names"]
    ]
    data = np.concatenate([np.ravel(part) for part in parts])
    starts = np.cumsum([0, *(part.size for part in parts[:-1])])
    shapes = (size for part in parts for size in part.shape)
    sizes = np.array(
        [*(lengths[dim] for dim in compiled.names["dims"]), *starts, *shapes], dtype=np.int64
    )
    coordinates = [variable.name for variable in model.free_RVs]
    extras = compiled.names["extra_names"]
    names = [*(model.rvs_to_values[variable].name for variable in model.free_RVs), *extras]
    dimensions = [
        tuple(lengths[dim] for dim in model.named_vars_to_dims[name])
        for name in (*coordinates, *extras)
    ]
    middle = np.concatenate(
        [
            np.broadcast_to(built.start.get(name, np.zeros(())), shape).ravel()
            for name, shape in zip(coordinates, dimensions, strict=False)
        ]
    )

    def initial_point(seed: int) -> Floats:
        return middle + np.random.default_rng(seed).uniform(-0.5, 0.5, middle.size)

    return _nutpie().compile_pymc.CompiledPyMCModel(
        dims=dict(model.named_vars_to_dims),
        reparameterized_names=[name for name in names if name.endswith("__")],
        compiled_logp_func=compiled.functions["log_density"],
        compiled_expand_func=compiled.functions["expand"],
        initial_point_func=initial_point,
        shared_data={"data": data, "sizes": sizes},
        shared_var_keys={},
        user_data=np.array(
            [data.ctypes.data, data.size, sizes.ctypes.data, sizes.size], dtype=np.uint64
        ),
        n_expanded=sum(math.prod(shape) for shape in dimensions),
        shape_info=(names, None, dimensions),
        logp_func=None,
        expand_func=None,
        _n_dim=middle.size,
        _shapes=dict(zip(names, dimensions, strict=True)),
        _coords={dim: pd.Index(list(labels)) for dim, labels in model.coords.items()},
    )


def unconstrain(built: BuiltModel, posterior: xr.Dataset) -> Floats:
    """Take draws over (chain, draw, ...) to the sampler's own coordinates, a row each."""
    model, parts = built.model, []
    for variable in model.free_RVs:
        draws = flat_draws(posterior, variable.name, *model.named_vars_to_dims[variable.name])
        flat = draws.reshape(draws.shape[0], -1)
        transform = model.rvs_to_transforms[variable]
        if isinstance(transform, LogTransform):
            flat = np.log(flat)
        elif isinstance(transform, LogOddsTransform):
            flat = np.log(flat) - np.log1p(-flat)
        elif transform is not None:
            raise RuntimeError(f"no way back through {type(transform).__name__}")
        parts.append(flat)
    return np.concatenate(parts, axis=1)


def evaluate(built: BuiltModel, points: Floats) -> tuple[Floats, xr.Dataset]:
    """Evaluate the density, and all reported variables, at points.

    Result: `log_density`, shape (point,): log density of the sampler's coordinates, up to a
    constant; minus infinity where it is not finite.
    `variables`: over (chain, draw, ...), with one chain and a draw for each point.
    """
    bound = bind(compiled_of(built), built)
    count, dimension = points.shape
    points = np.ascontiguousarray(points)
    values, gradient = np.empty(count), np.empty(dimension)
    names, _, shapes = bound.shape_info
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    total = int(ends[-1])
    expanded = np.empty((count, total))
    address = bound.user_data.ctypes.data
    pointer = bound.compiled_logp_func.ctypes.argtypes[1]
    slope = gradient.ctypes.data_as(pointer)
    for index in range(count):
        point = points[index].ctypes.data_as(pointer)
        density = values[index : index + 1].ctypes.data_as(pointer)
        if bound.compiled_logp_func.ctypes(dimension, point, slope, density, address):
            values[index] = -np.inf
        out = expanded[index].ctypes.data_as(pointer)
        bound.compiled_expand_func.ctypes(dimension, total, point, out, address)
    named = zip(names, np.split(expanded[None], ends[:-1], axis=2), strict=True)
    reported = {name: part for name, part in named if not name.endswith("__")}
    return values, _labelled(reported, bound)
