"""What if: hundreds of scenarios of one analysis, resumable, on one machine or a cluster."""

import lazy_loader

# `__init__.pyi` names them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
