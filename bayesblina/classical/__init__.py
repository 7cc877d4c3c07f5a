"""The classical methods.

Product limits, Simon-Makuch, Mantel-Byar, Cox, the ladder of methods, published numbers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
