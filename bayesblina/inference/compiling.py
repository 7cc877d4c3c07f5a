"""PyMC models to machine code, once per structure.

The density, its gradient and the map to the reported variables come from the PyMC model alone.
They are compiled as functions of three flat vectors - the point, the data and the sizes - so one
compiled function serves any data and any sizes of its structure. Its machine code is kept on disk,
named by everything that it depends on, and serves later processes (`code_cache`).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import json
import logging
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph import clone_replace, rewrite_graph

from bayesblina.hazards.build import BuiltModel
from bayesblina.inference.code_cache import read_entry, write_entry

_log = logging.getLogger("bayesblina")
# Python functions to compile, names of what the flat vectors hold, and what must stay alive.
_Functions = tuple[list[Any], dict[str, tuple[str, ...]], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Callback:
    """A function in machine code.

    `address`: where it is.
    `ctypes`: for calls from Python.
    `keep`: what the code lives in.
    """

    address: int
    ctypes: Any
    keep: Any


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


def compiled_of(built: BuiltModel) -> Compiled:
    """Compile a model's structure, unless this process or an earlier one has."""
    if built.structure not in _COMPILED:
        key = _key(built.structure)
        _COMPILED[built.structure] = _recall(key) or _compile_structure(built, key)
    return _COMPILED[built.structure]


def _key(structure: str) -> str:
    """Say all that the compiled functions of a structure depend on."""
    libraries = ("pymc", "pytensor", "numba", "llvmlite", "numpy")
    here = Path(__file__)
    sources = (here, here.with_name("sampling.py"), *sorted(here.parents[1].glob("hazards/*.py")))
    settings = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"
    }
    # Code for one processor may not run on another.
    features = llvm.get_host_cpu_features().flatten()
    return json.dumps(
        {
            "structure": structure,
            "versions": {name: version(name) for name in libraries},
            "python": sys.version,
            "processor": f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}",
            "numba": settings,
            "float": pytensor.config.floatX,
            "sources": hashlib.sha256(b"".join(map(Path.read_bytes, sources))).hexdigest(),
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
            name: _load(code, symbols, _ARGUMENTS[name])
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
        codes, symbols = zip(*map(_extract, compiled), strict=True)
        write_entry(key, {**names, "symbols": symbols}, codes)
    except Exception as error:  # numba's inside changed: this process does without
        _log.debug("What was compiled is not kept on disk (%s).", error)
    return Compiled(
        functions={
            name: _callback(int(function.address), arguments, function)
            for function, (name, arguments) in zip(compiled, _ARGUMENTS.items(), strict=True)
        },
        names=names,
        keep=keep,
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
            (type(given.type), getattr(given.type, "dtype", ""), getattr(given.type, "ndim", 0))
            for given in owner.inputs
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
    return (
        [
            _wrapper(_KERNEL_SOURCE, "log_density", kernel.function),
            _wrapper(_KERNEL_EXPAND_SOURCE, "expand", kernel.expand),
        ],
        {name: getattr(kernel, name) for name in names},
        (),
    )


def _graph_functions(built: BuiltModel) -> _Functions:
    """Wrap the functions that PyTensor makes of a model's graph."""
    # PyTensor's compiler must know the operations' kernels before it meets one.
    importlib.import_module("bayesblina.hazards.op_kernels")
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
    shared = {variable.name: variable for variable in model.data_vars}
    replacements: dict[Any, Any] = {
        variable: length[dim].astype(variable.dtype) for dim, variable in model.dim_lengths.items()
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

    environment: dict[str, Any] = {
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
    exec(source, environment)
    return environment[name]


# Machine code is taken out as bytes, and loaded without numba's compiler. Loading takes
# milliseconds, where numba's own cache first sets up its compiler, for half a second. All of
# numba that this rests on is below, and a change of it ends as a miss of the cache.
_POINTERS: dict[str, Any] = {
    "double*": ctypes.POINTER(ctypes.c_double),
    "uint64": ctypes.c_uint64,
    "void*": ctypes.c_void_p,
}


def _callback(address: int, arguments: Sequence[str], keep: Any) -> Callback:
    """Hold a callback with arguments of these types; it returns an integer."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(_POINTERS[name] for name in arguments))
    return Callback(address=address, ctypes=kind(address), keep=keep)


def _extract(compiled: Any) -> tuple[bytes, dict[str, Any]]:
    """Take the machine code of a callback that numba compiled.

    Result: `symbols`: ``name``: of the callback; ``needs``: names that the code finds outside
    itself.
    """
    library = compiled._library
    if library.has_dynamic_globals:
        raise RuntimeError("the code refers to addresses of this process")
    _, kind, (code, _) = library.serialize_using_object_code()
    if kind != "object":
        raise RuntimeError(f"numba gave {kind}, not an object file")
    module = library._final_module
    declared = {
        symbol.name
        for symbol in (*module.functions, *module.global_variables)
        if symbol.is_declaration and not symbol.name.startswith("llvm.")
    }
    return bytes(code), {"name": compiled.native_name, "needs": sorted(declared)}


def _load(code: bytes, symbols: Mapping[str, Any], arguments: Sequence[str]) -> Callback:
    """Load machine code."""
    from numba import _dynfunc, _helperlib
    from numba.core.runtime import _nrt_python

    helpers = {
        f"numba_{name}": address
        for module in (_helperlib, _dynfunc)
        for name, address in module.c_helpers.items()
    }
    for name, address in _nrt_python.c_helpers.items():
        helpers[name if name.startswith("_") else f"NRT_{name}"] = address
    process = ctypes.CDLL(None)
    for name in symbols["needs"]:
        # LLVM ends the process when it finds a name nowhere, so it is not asked to look.
        if name in helpers:
            llvm.add_symbol(name, helpers[name])
        elif not hasattr(process, name):
            raise RuntimeError(f"the code needs '{name}', which is not there")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, use_lmm=True)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = int(engine.get_function_address(symbols["name"]))
    if not address:
        raise RuntimeError(f"the code has no '{symbols['name']}'")
    return _callback(address, arguments, engine)
