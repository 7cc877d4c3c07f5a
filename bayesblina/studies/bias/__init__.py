"""What could be wrong with an answer: confounders nobody measured, events nobody saw, dropout."""

import lazy_loader

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
