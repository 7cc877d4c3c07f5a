"""Bayesian survival analysis of treatment phases that patients enter later.

Every public name is loaded when it is first used, so that importing the package is cheap.
"""

import lazy_loader

from bayesblina.inference.code_cache import shelter_pytensor

# Before anything can import PyTensor.
shelter_pytensor()

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
