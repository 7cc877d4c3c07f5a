"""PyMC models to machine code, once per structure.

The density, its gradient and the map to the reported variables come from the PyMC model alone.
They are compiled as functions of three flat vectors - the point, the data and the sizes - so one
compiled function serves any data and any sizes of its structure. Its machine code is kept on disk,
named by everything that it depends on, and serves later processes (`code_cache`).
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph import clone_replace, rewrite_graph
from pytensor.graph.traversal import graph_inputs

from bayesblina.hazards.build import BuiltModel
from bayesblina.inference.code_cache import read_entry, write_entry
from bayesblina.inference.machine_code import Callback, callback_of, extract, load, processor

_log = logging.getLogger("bayesblina")
# Python functions to compile, names of what the flat vectors hold, and what must stay alive.
_Functions = tuple[list[Any], dict[str, tuple[str, ...]], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compiled:
    """The functions of a structure, and the names of what they take and give.

    `functions`: ``log_density``, with its gradient, and ``expand``: all reported variables of a
    point.
    `names`: what the sizes and the data hold, and what ``expand`` adds to the point, in their
    order: ``dims``, ``data_names``, ``extra_names``.
    `keep`: numba's compiled code lives only as long as these do.
    """

    functions: Mapping[str, Callback]
    names: Mapping[str, tuple[str, ...]]
    keep: tuple[Any, ...] = ()


_COMPILED: dict[str, Compiled] = {}


def compiled_structures() -> tuple[str, ...]:
    """Structures that this process has compiled."""
    return tuple(_COMPILED)


def compiled_of(built: BuiltModel) -> Compiled:
    """Compile a model's structure, unless this process or an earlier one has."""
    if built.structure not in _COMPILED:
        key = _key(built.structure)
        _COMPILED[built.structure] = _recall(key) or _compile_structure(built, key)
    return _COMPILED[built.structure]


def _key(structure: str) -> str:
    """Say all that the compiled functions of a structure depend on."""
    libraries = ("pymc", "pytensor", "numba", "llvmlite", "numpy")
    digest = hashlib.sha256()
    here = Path(__file__)
    own = (here, here.with_name("machine_code.py"), here.with_name("sampling.py"))
    for source in (*own, *sorted(here.parents[1].glob("hazards/*.py"))):
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


def _recall(key: str) -> Compiled | None:
    """Load the functions of a structure from the cache on disk, if all is there."""
    entry = read_entry(key)
    if entry is None:
        return None
    header, codes = entry
    try:
        functions = {
            name: load(code, symbols, _ARGUMENTS[name])
            for name, code, symbols in zip(_ARGUMENTS, codes, header["symbols"], strict=True)
        }
        names = {name: tuple(header[name]) for name in ("dims", "data_names", "extra_names")}
    except Exception as error:  # numba's or LLVM's inside changed: compile
        _log.debug("What an earlier process compiled is not used (%s).", error)
        return None
    return Compiled(functions=functions, names=names)


def _compile_structure(built: BuiltModel, key: str) -> Compiled:
    """Compile a structure: its kernel where it has one, else PyMC's graph; and keep it on disk."""
    import numba

    types = numba.types
    kinds = {"uint64": types.uint64, "double*": types.CPointer(types.double)}
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
        compiled = [
            numba.cfunc(types.int64(*(kinds.get(name, types.voidptr) for name in arguments)))(
                function
            )
            for arguments, function in zip(_ARGUMENTS.values(), functions, strict=True)
        ]
    try:
        codes, symbols = zip(*(extract(one) for one in compiled), strict=True)
        write_entry(key, {**names, "symbols": symbols}, codes)
    except Exception as error:  # numba's inside changed: this process does without
        _log.debug("What was compiled is not kept on disk (%s).", error)
    callbacks = {
        name: callback_of(one, arguments)
        for one, (name, arguments) in zip(compiled, _ARGUMENTS.items(), strict=True)
    }
    return Compiled(functions=callbacks, names=names, keep=keep)


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


def _kernel_functions(built: BuiltModel) -> _Functions:
    """Wrap a structure's kernel, which must take exactly the data and sizes that the model has."""
    assert built.make_kernel is not None
    kernel, names = built.make_kernel(), _names_of(built.model)
    for name, wanted in names.items():
        if sorted(wanted) != sorted(getattr(kernel, name)):
            raise RuntimeError(f"the kernel '{kernel.name}' does not fit the model's {name}")
    functions = [
        _wrapper(_KERNEL_SOURCE, "log_density", kernel.function),
        _wrapper(_KERNEL_EXPAND_SOURCE, "expand", kernel.expand),
    ]
    return functions, {name: getattr(kernel, name) for name in names}, ()


def _graph_functions(built: BuiltModel) -> _Functions:
    """Wrap the functions that PyTensor makes of a model's graph."""
    register_kernels()
    model = built.model
    values = [model.rvs_to_values[variable] for variable in model.free_RVs]
    log_density = rewrite_graph(
        model.logp(), include=["canonicalize", "stabilize", "local_remove_check_parameter"]
    )
    gradient = pt.concatenate([part.ravel() for part in pt.grad(log_density, values)])
    extras = pt.concatenate([part.ravel() for part in _extras(model)])
    names = _names_of(model)
    inputs, (log_density, gradient, expanded) = _flat(
        model, names["dims"], names["data_names"], [log_density, gradient, extras]
    )
    density, expand = (
        pytensor.function(inputs, outputs, mode="NUMBA", on_unused_input="ignore")
        for outputs in ([log_density, gradient], [pt.concatenate([inputs[0], expanded])])
    )
    functions = [
        _wrapper(_DENSITY_SOURCE, "log_density", density.vm.jit_fn),
        _wrapper(_EXPAND_SOURCE, "expand", expand.vm.jit_fn),
    ]
    return functions, names, (density, expand)


def register_kernels() -> None:
    """Tell PyTensor's compiler of the operations' kernels, before it meets one."""
    importlib.import_module("bayesblina.hazards.op_kernels")


def _extras(model: Any) -> list[Any]:
    """Find the variables that are reported, and no coordinates of the point."""
    coordinates = set(model.rvs_to_values.values())
    return [variable for variable in model.unobserved_value_vars if variable not in coordinates]


def _names_of(model: Any) -> dict[str, tuple[str, ...]]:
    """Names of a model's dimensions, data and reported variables, in the order of flat vectors."""
    return {
        "dims": tuple(model.dim_lengths),
        "data_names": tuple(sorted(variable.name for variable in model.data_vars)),
        "extra_names": tuple(variable.name for variable in _extras(model)),
    }


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
# Types of the arguments of both.
_ARGUMENTS = {
    "log_density": ("uint64", "double*", "double*", "double*", "void*"),
    "expand": ("uint64", "uint64", "double*", "double*", "void*"),
}


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
