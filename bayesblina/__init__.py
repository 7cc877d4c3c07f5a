"""Bayesian survival analysis of treatment phases that patients enter later.

Every public name is loaded when it is first used, so that importing the package is cheap.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import lazy_loader

from bayesblina.inference.code_cache import shelter_pytensor

# Before anything can import PyTensor.
shelter_pytensor()

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _PublicModules:
    """Let ``import bayesblina.safety`` give what ``bayesblina.safety`` is: a module of a room."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find a public module that no file of that name holds."""
        package, _, public = name.rpartition(".")
        known = package == __name__ and public in __all__
        is_module = known and isinstance(__getattr__(public), ModuleType)
        # Not of importlib.abc, which is slow to load.
        return ModuleSpec(name, self) if is_module else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of an empty module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the room in its place."""
        sys.modules[module.__name__] = __getattr__(module.__name__.rpartition(".")[2])


# After the finders of files: the room `person_time` stays a room, beside a function of that name.
sys.meta_path.append(_PublicModules())
