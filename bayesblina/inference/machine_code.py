"""Machine code of numba's callbacks: taken out as bytes, and loaded without numba's compiler.

Loading takes milliseconds, where numba's own cache first sets up its compiler, for half a second.
All of numba that this rests on is in this module, and a change of it ends as a miss of the cache.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

POINTER = ctypes.POINTER(ctypes.c_double)
_CPOINTERS: dict[str, Any] = {
    "double*": POINTER,
    "uint64": ctypes.c_uint64,
    "void*": ctypes.c_void_p,
}


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


def callback_of(compiled: Any, arguments: Sequence[str]) -> Callback:
    """Hold a callback that numba compiled.

    `arguments`: types of its arguments: ``"double*"``, ``"uint64"`` or ``"void*"``; it returns an
    integer.
    """
    return _callback(int(compiled.address), arguments, compiled)


def extract(compiled: Any) -> tuple[bytes, dict[str, Any]]:
    """Take a callback's machine code.

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
    declared = [
        one.name
        for group in (module.functions, module.global_variables)
        for one in group
        if one.is_declaration and not one.name.startswith("llvm.")
    ]
    return bytes(code), {"name": compiled.native_name, "needs": sorted(set(declared))}


def load(code: bytes, symbols: Mapping[str, Any], arguments: Sequence[str]) -> Callback:
    """Load machine code."""
    import llvmlite.binding as llvm
    from numba import _dynfunc, _helperlib
    from numba.core.runtime import _nrt_python

    helpers: dict[str, int] = {}
    for module in (_helperlib, _dynfunc):
        helpers |= {f"numba_{name}": address for name, address in module.c_helpers.items()}
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


def processor() -> str:
    """Name the processor for which code is made.

    Triple, processor and features: code for one may not run on another.
    """
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features().flatten()
    return f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"


def _callback(address: int, arguments: Sequence[str], keep: Any) -> Callback:
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *(_CPOINTERS[name] for name in arguments))
    return Callback(address=address, ctypes=kind(address), keep=keep)
