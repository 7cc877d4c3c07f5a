"""PyMC models to draws: compiled once per structure, sampled by nutpie.

The density, its gradient and the map to the reported variables come from the PyMC model alone.
They are compiled as functions of three flat vectors - the point, the data and the sizes - so one
compiled function serves any data and any sizes of its structure. Its machine code is kept on disk,
named by everything that it depends on, and serves later processes (`code_cache`). Where all this
does not fit the installed libraries, PyMC's own `pymc.sample` takes over.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pymc as pm
import pytensor
import pytensor.tensor as pt
import xarray as xr
from pymc.distributions.transforms import LogOddsTransform, LogTransform
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph import clone_replace, rewrite_graph
from pytensor.graph.traversal import graph_inputs

from bayesblina.core.arrays import Floats
from bayesblina.hazards.build import BuiltModel
from bayesblina.hazards.kernel import Kernel
from bayesblina.inference.code_cache import read_entry, write_entry
from bayesblina.inference.machine_code import Callback, callback_of, extract, load, processor
from bayesblina.inference.sampler_settings import SamplerSettings

Progress = Callable[[int, int, int], None]

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Compiled:
    log_density: Callback
    expand: Callback
    dims: tuple[str, ...]
    data_names: tuple[str, ...]
    extra_names: tuple[str, ...]
    # numba's compiled code lives only as long as these do.
    keep: tuple[Any, ...] = ()


_COMPILED: dict[str, _Compiled] = {}


def compiled_structures() -> tuple[str, ...]:
    """Structures that this process has compiled."""
    return tuple(_COMPILED)


def sample(
    built: BuiltModel,
    *,
    seed: int,
    settings: SamplerSettings,
    progress: Progress | None = None,
) -> tuple[xr.DataTree, dict[str, float | str]]:
    """Draw from the posterior.

    Parameters
    ----------
    seed
        Seed; the same seed gives the same draws on the same machine.
    progress
        Called now and then with (draws finished, draws in all, divergences).

    Returns
    -------
    draws : xarray.DataTree
        Groups ``posterior`` and ``sample_stats``.
    """
    began = time.perf_counter()
    try:
        compiled = _compile(built)
        bound = _bind(compiled, built)
    except Exception as error:  # any change of the libraries' inside ends here
        _log.warning("bayesblina's compiled path is not available (%s); using pymc.sample", error)
        return _sample_with_pymc(built, seed=seed, settings=settings)
    ready = time.perf_counter()

    def report(chains: Any) -> None:
        if progress is not None:
            progress(
                sum(chain.finished_draws for chain in chains),
                sum(chain.total_draws for chain in chains),
                sum(chain.divergences for chain in chains),
            )

    trace = _nutpie().sample(
        bound,
        draws=settings.draws,
        tune=settings.tune,
        chains=settings.chains,
        cores=settings.cores,
        seed=seed,
        target_accept=settings.target_accept or built.target_accept,
        progress_bar=False,
        progress_callback=report,
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
        values = {}
        for name in names:
            parts = []
            for batch, after in zip(batches, kept, strict=True):
                column = pyarrow.array(batch.column(name))
                flat = column.flatten() if hasattr(column, "flatten") else column
                part = flat.to_numpy(zero_copy_only=False).reshape(after.size, -1)
                parts.append(part[after])
            values[name] = np.stack(parts)
        return values

    names = [name for name in draws[0].column_names if not name.endswith("__")]
    posterior = {}
    for name, values in columns(draws, names).items():
        dims = tuple(bound.dims[name])
        shape = tuple(len(bound.coords[dim]) for dim in dims)
        posterior[name] = (("chain", "draw", *dims), values.reshape(chains, count, *shape))
    used = {dim for dims, _ in posterior.values() for dim in dims[2:]}
    labels = {dim: bound.coords[dim] for dim in bound.coords if dim in used}
    stats = {
        name: (("chain", "draw"), values[:, :, 0])
        for name, values in columns(statistics, STATISTICS).items()
    }
    return xr.DataTree.from_dict(
        {
            "/posterior": xr.Dataset(posterior, coords={**coords, **labels}),
            "/sample_stats": xr.Dataset(stats, coords=coords),
        }
    )


def _sample_with_pymc(
    built: BuiltModel, *, seed: int, settings: SamplerSettings
) -> tuple[xr.DataTree, dict[str, float | str]]:
    _register_kernels()
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
    groups = {}
    for name in ("posterior", "sample_stats"):
        kept = trace[name].to_dataset()
        kept = kept if name == "posterior" else kept[STATISTICS]
        # Attributes hold the date and the like, which differ from run to run.
        kept.attrs = {}
        for variable in kept.variables.values():
            variable.attrs = {}
        groups[f"/{name}"] = kept
    tree = xr.DataTree.from_dict(groups)
    return tree, {"engine": "pymc", "compile": 0.0, "sample": time.perf_counter() - began}


def _compile(built: BuiltModel) -> _Compiled:
    found = _COMPILED.get(built.structure)
    if found is None:
        key = _key(built.structure)
        found = _recall(key)
        if found is None:
            found = _compile_structure(built, key)
        _COMPILED[built.structure] = found
    return found


def _key(structure: str) -> str:
    """Say all that the compiled functions of a structure depend on."""
    libraries = ("pymc", "pytensor", "numba", "llvmlite", "numpy")
    digest = hashlib.sha256()
    here = Path(__file__)
    for source in (
        here,
        here.with_name("machine_code.py"),
        *sorted(here.parents[1].glob("hazards/*")),
    ):
        if source.suffix == ".py":
            digest.update(source.read_bytes())
    settings = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"
    }
    return json.dumps(
        {
            "structure": structure,
            "versions": {name: version(name) for name in libraries},
            "python": sys.version,
            "processor": processor(),
            "numba": settings,
            "float": pytensor.config.floatX,
            "sources": digest.hexdigest(),
        }
    )


def _recall(key: str) -> _Compiled | None:
    """Load the functions of a structure from the cache on disk, if all is there."""
    found = read_entry(key)
    if found is None:
        return None
    header, parts = found
    try:
        log_density = load(parts[0], header["symbols"][0], _DENSITY_ARGUMENTS)
        expand = load(parts[1], header["symbols"][1], _EXPAND_ARGUMENTS)
        names = {name: tuple(header[name]) for name in ("dims", "data_names", "extra_names")}
    except Exception as error:  # numba's or LLVM's inside changed: compile
        _log.debug("What an earlier process compiled is not used (%s).", error)
        return None
    return _Compiled(log_density=log_density, expand=expand, **names)


def _compile_structure(built: BuiltModel, key: str) -> _Compiled:
    """Compile a structure: its kernel where it has one, else PyMC's graph; and keep it on disk."""
    import numba

    # PyTensor's cache on disk, which holds pickles, is neither read nor written. Without fast-math
    # the result of an expression does not depend on how it was inlined, so that a fresh compilation
    # and one read from disk draw the same.
    with (
        pytensor.config.change_flags(numba__fastmath=False, numba__cache=False),
        _operations_shared(),
    ):
        functions, names, keep = (
            _graph_functions(built) if built.make_kernel is None else _kernel_functions(built)
        )
        types = numba.types
        double, size = types.CPointer(types.double), types.uint64
        signatures = (
            types.int64(size, double, double, double, types.voidptr),
            types.int64(size, size, double, double, types.voidptr),
        )
        compiled = [
            numba.cfunc(signature)(function)
            for signature, function in zip(signatures, functions, strict=True)
        ]
    try:
        codes, symbols = zip(*(extract(one) for one in compiled), strict=True)
        write_entry(key, {**names, "symbols": symbols}, codes)
    except Exception as error:  # numba's inside changed: this process does without
        _log.debug("What was compiled is not kept on disk (%s).", error)
    return _Compiled(
        log_density=callback_of(compiled[0], _DENSITY_ARGUMENTS),
        expand=callback_of(compiled[1], _EXPAND_ARGUMENTS),
        keep=keep,
        **names,
    )


_OPERATIONS: dict[Any, Any] = {}
_PATCHING = threading.Lock()


@contextmanager
def _operations_shared() -> Iterator[None]:
    """Let structures of this process share the compiled forms of their operations.

    PyTensor names what it generates for an operation by a key, for a cache on disk that is not used
    here. The same key with the same kinds of arguments gets the same function, which numba compiles
    once. Where PyTensor's inside is another, nothing is shared.
    """
    from pytensor.link.numba.dispatch import basic

    keyed = getattr(basic, "numba_funcify_and_cache_key", None)
    if keyed is None or not hasattr(basic, "numba_funcify_ensure_cache"):
        yield
        return

    def shared(op: Any, node: Any = None, **options: Any) -> tuple[Any, str | None]:
        function, key = keyed(op, node=node, **options)
        if key is None:
            return function, None
        owner = op if node is None else node
        kinds = tuple(
            (type(one.type), getattr(one.type, "dtype", ""), getattr(one.type, "ndim", 0))
            for one in owner.inputs
        )
        name = (key, kinds, len(owner.outputs), pytensor.config.numba__fastmath)
        return _OPERATIONS.setdefault(name, function), key

    # One at a time: what stands in PyTensor's place must be put back.
    with _PATCHING:
        original = basic.numba_funcify_ensure_cache
        basic.numba_funcify_ensure_cache = shared
        try:
            yield
        finally:
            basic.numba_funcify_ensure_cache = original


def _kernel_functions(
    built: BuiltModel,
) -> tuple[list[Any], dict[str, tuple[str, ...]], tuple[Any, ...]]:
    assert built.make_kernel is not None
    kernel = built.make_kernel()
    _require_layout(built.model, kernel)
    functions = [
        _wrapper(_KERNEL_SOURCE, "log_density", kernel.function),
        _wrapper(_KERNEL_EXPAND_SOURCE, "expand", kernel.expand),
    ]
    names = {
        "dims": kernel.dims,
        "data_names": kernel.data_names,
        "extra_names": kernel.extra_names,
    }
    return functions, names, ()


def _graph_functions(
    built: BuiltModel,
) -> tuple[list[Any], dict[str, tuple[str, ...]], tuple[Any, ...]]:
    _register_kernels()
    model = built.model
    extras = _extras(model)
    values = [model.rvs_to_values[variable] for variable in model.free_RVs]
    log_density = rewrite_graph(
        model.logp(), include=["canonicalize", "stabilize", "local_remove_check_parameter"]
    )
    gradient = pt.concatenate(_ravelled(pt.grad(log_density, values)))
    names = {
        "dims": tuple(model.dim_lengths),
        "data_names": tuple(sorted(variable.name for variable in model.data_vars)),
        "extra_names": tuple(variable.name for variable in extras),
    }
    outputs = [log_density, gradient, pt.concatenate(_ravelled(extras))]
    inputs, (log_density, gradient, expanded) = _flat(
        model, names["dims"], names["data_names"], outputs
    )
    density = _function(inputs, [log_density, gradient])
    expand = _function(inputs, [pt.concatenate([inputs[0], expanded])])
    functions = [
        _wrapper(_DENSITY_SOURCE, "log_density", density.vm.jit_fn),
        _wrapper(_EXPAND_SOURCE, "expand", expand.vm.jit_fn),
    ]
    return functions, names, (density, expand)


def _register_kernels() -> None:
    """Tell PyTensor's compiler of the operations' kernels, before it meets one."""
    importlib.import_module("bayesblina.hazards.op_kernels")


def _extras(model: Any) -> list[Any]:
    """Find the variables that are reported, and no coordinates of the point."""
    coordinates = set(model.rvs_to_values.values())
    return [one for one in model.unobserved_value_vars if one not in coordinates]


def _require_layout(model: Any, kernel: Kernel) -> None:
    """Raise unless a kernel takes exactly the data and dimensions that the model has."""
    names = tuple(sorted(variable.name for variable in model.data_vars))
    extras = tuple(variable.name for variable in _extras(model))
    if (names, extras) != (kernel.data_names, kernel.extra_names) or set(model.dim_lengths) != set(
        kernel.dims
    ):
        raise RuntimeError(f"the kernel '{kernel.name}' does not fit the model's data")


def _ravelled(parts: list[Any]) -> list[Any]:
    return [part.ravel() for part in parts]


def _function(inputs: list[Any], outputs: list[Any]) -> Any:
    return pytensor.function(inputs, outputs, mode="NUMBA", on_unused_input="ignore")


def _flat(
    model: Any, dims: tuple[str, ...], data_names: tuple[str, ...], outputs: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Rewrite outputs as functions of the point, the data and the sizes, each a flat vector."""
    point, data, sizes = pt.dvector("point"), pt.dvector("data"), pt.lvector("sizes")
    length = {dim: sizes[index] for index, dim in enumerate(dims)}
    length_names = {shared: dim for dim, shared in model.dim_lengths.items()}
    shared = {variable.name: variable for variable in model.data_vars}
    replacements: dict[Any, Any] = {
        variable: length[length_names[variable]].astype(variable.dtype)
        for variable in graph_inputs(outputs)
        if isinstance(variable, SharedVariable) and variable in length_names
    }
    cursor = len(dims) + len(data_names)
    for index, name in enumerate(data_names):
        variable = shared[name]
        shape = [sizes[cursor + axis] for axis in range(variable.ndim)]
        cursor += variable.ndim
        start = sizes[len(dims) + index]
        flat = data[start : start + math.prod(shape[1:], start=shape[0])]
        replacements[variable] = variable.type.filter_variable(flat.reshape(shape))
    offset = pt.constant(0, dtype="int64")
    for variable in model.free_RVs:
        value = model.rvs_to_values[variable]
        shape = [length[dim] for dim in model.named_vars_to_dims[variable.name]]
        count = math.prod(shape[1:], start=shape[0])
        flat = point[offset : offset + count]
        replacements[value] = value.type.filter_variable(flat.reshape(shape))
        offset = offset + count
    return [point, data, sizes], clone_replace(outputs, replacements)


# What nutpie calls: addresses and lengths of the data and the sizes come in `user`.
_DENSITY_SOURCE = """
def log_density(dimension, point_, gradient_, value_, user_):
    user = carray(user_, (4,), dtype=uint64)
    point = carray(point_, (dimension,))
    gradient = carray(gradient_, (dimension,))
    value = carray(value_, (1,))
    data = carray(as_doubles(user[0]), (user[1],))
    sizes = carray(as_integers(user[2]), (user[3],))
    result, slope = inner(point, data, sizes)
    value[0] = result.item()
    finite = np.isfinite(value[0])
    for i in range(dimension):
        gradient[i] = slope[i]
        finite = finite and np.isfinite(slope[i])
    return 0 if finite else 3
"""
_EXPAND_SOURCE = """
def expand(dimension, expanded, point_, out_, user_):
    user = carray(user_, (4,), dtype=uint64)
    point = carray(point_, (dimension,))
    out = carray(out_, (expanded,))
    data = carray(as_doubles(user[0]), (user[1],))
    sizes = carray(as_integers(user[2]), (user[3],))
    (values,) = inner(point, data, sizes)
    for i in range(expanded):
        out[i] = values[i]
    return 0
"""

_KERNEL_SOURCE = """
def log_density(dimension, point, gradient, value, user_):
    user = as_words(user_)
    value[0] = inner(dimension, point, as_doubles(user[0]), as_integers(user[2]), gradient)
    finite = isfinite(value[0])
    for i in range(dimension):
        finite = finite and isfinite(gradient[i])
    return 0 if finite else 3
"""
_KERNEL_EXPAND_SOURCE = """
def expand(dimension, expanded, point, out, user_):
    user = as_words(user_)
    for i in range(dimension):
        out[i] = point[i]
    inner(point, as_doubles(user[0]), as_integers(user[2]), behind(out, dimension))
    return 0
"""
_DENSITY_ARGUMENTS = ("uint64", "double*", "double*", "double*", "void*")
_EXPAND_ARGUMENTS = ("uint64", "uint64", "double*", "double*", "void*")


def _wrapper(source: str, name: str, inner: Any) -> Any:
    """Make the Python form of what nutpie calls around a compiled function."""
    import numba
    from numba.extending import intrinsic

    types = numba.types

    def pointer_to(element: Any) -> Any:
        @intrinsic
        def as_pointer(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
            signature = types.CPointer(element)(address)

            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                kind = context.get_value_type(signature.return_type)
                if signature.args[0] == types.voidptr:
                    return builder.bitcast(arguments[0], kind)
                return builder.inttoptr(arguments[0], kind)

            return signature, generate

        return as_pointer

    @intrinsic
    def behind(typing_context: Any, pointer: Any, count: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
            return builder.gep(arguments[0], [arguments[1]])

        return pointer(pointer, count), generate

    environment = {
        "__name__": __name__,
        "np": np,
        "isfinite": math.isfinite,
        "carray": numba.carray,
        "uint64": np.uint64,
        "as_words": pointer_to(types.uint64),
        "as_doubles": pointer_to(types.float64),
        "as_integers": pointer_to(types.int64),
        "behind": behind,
        "inner": inner,
    }
    made: dict[str, Any] = {}
    exec(source, environment, made)
    return made[name]


def _bind(compiled: _Compiled, built: BuiltModel) -> Any:
    """Join a compiled structure with one model's data, sizes and labels."""
    model = built.model
    values = {variable.name: variable.get_value() for variable in model.data_vars}
    lengths = {
        dim: int(np.asarray(variable.get_value())) for dim, variable in model.dim_lengths.items()
    }
    parts = [np.asarray(values[name], dtype=np.float64) for name in compiled.data_names]
    data = np.concatenate([np.ravel(part) for part in parts])
    starts = np.cumsum([0, *(part.size for part in parts[:-1])])
    shapes = [size for part in parts for size in part.shape]
    sizes = np.array([*(lengths[dim] for dim in compiled.dims), *starts, *shapes], dtype=np.int64)
    names, dimensions, start = [], [], []
    for variable in model.free_RVs:
        shape = tuple(lengths[dim] for dim in model.named_vars_to_dims[variable.name])
        names.append(model.rvs_to_values[variable].name)
        dimensions.append(shape)
        start.append(np.broadcast_to(built.start.get(variable.name, np.zeros(())), shape).ravel())
    dimension = sum(math.prod(shape) for shape in dimensions)
    for name in compiled.extra_names:
        names.append(name)
        dimensions.append(tuple(lengths[dim] for dim in model.named_vars_to_dims[name]))
    middle = np.concatenate(start)

    def initial_point(seed: int) -> Floats:
        jitter: Floats = np.random.default_rng(seed).uniform(-0.5, 0.5, dimension)
        return middle + jitter

    addresses = [data.ctypes.data, data.size, sizes.ctypes.data, sizes.size]
    return _nutpie().compile_pymc.CompiledPyMCModel(
        dims=dict(model.named_vars_to_dims),
        reparameterized_names=[name for name in names if name.endswith("__")],
        compiled_logp_func=compiled.log_density,
        compiled_expand_func=compiled.expand,
        initial_point_func=initial_point,
        shared_data={"data": data, "sizes": sizes},
        shared_var_keys={},
        user_data=np.array(addresses, dtype=np.uint64),
        n_expanded=sum(math.prod(shape) for shape in dimensions),
        shape_info=(names, None, dimensions),
        logp_func=None,
        expand_func=None,
        _n_dim=dimension,
        _shapes=dict(zip(names, dimensions, strict=True)),
        _coords={dim: pd.Index(list(labels)) for dim, labels in model.coords.items()},
    )


def unconstrain(built: BuiltModel, posterior: xr.Dataset) -> Floats:
    """Take draws to the sampler's own coordinates.

    Parameters
    ----------
    posterior
        Its draws over (chain, draw, ...).

    Returns
    -------
    ndarray, shape (chain * draw, dimension)
        The points.
    """
    model, parts = built.model, []
    for variable in model.free_RVs:
        dims = model.named_vars_to_dims[variable.name]
        values = posterior[variable.name].transpose("chain", "draw", *dims).values
        flat = values.reshape(values.shape[0] * values.shape[1], -1).astype(np.float64)
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

    Parameters
    ----------
    points : ndarray, shape (point, dimension)
        Points in the sampler's coordinates.

    Returns
    -------
    log_density : ndarray, shape (point,)
        Log density of the sampler's coordinates, up to a constant; minus infinity where it is not
        finite.
    variables : xarray.Dataset
        Over (chain, draw, ...), with one chain and a draw for each point.
    """
    bound = _bind(_compile(built), built)
    count, dimension = points.shape
    points = np.ascontiguousarray(points)
    values, gradient = np.empty(count), np.empty(dimension)
    total = sum(math.prod(shape) for shape in bound.shape_info[2])
    expanded = np.empty((count, total))
    address = bound.user_data.ctypes.data
    pointer = bound.compiled_logp_func.ctypes.argtypes[1]
    slope = gradient.ctypes.data_as(pointer)
    for index in range(count):
        place = points[index].ctypes.data_as(pointer)
        density = values[index : index + 1].ctypes.data_as(pointer)
        status = bound.compiled_logp_func.ctypes(dimension, place, slope, density, address)
        if status:
            values[index] = -np.inf
        out = expanded[index].ctypes.data_as(pointer)
        bound.compiled_expand_func.ctypes(dimension, total, place, out, address)
    variables, offset = {}, 0
    used: set[str] = set()
    for name, shape in zip(bound.shape_info[0], bound.shape_info[2], strict=True):
        size = math.prod(shape)
        if not name.endswith("__"):
            dims = tuple(bound.dims[name])
            part = expanded[:, offset : offset + size].reshape(1, count, *shape)
            variables[name] = (("chain", "draw", *dims), part)
            used |= set(dims)
        offset += size
    labels = {dim: names for dim, names in bound.coords.items() if dim in used}
    return values, xr.Dataset(variables, coords=labels)
