"""Before the study: designs, how they would do, and how many patients they need."""

import lazy_loader

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
