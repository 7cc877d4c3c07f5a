"""Can the numbers be believed.

Checks of a fit, predictions, patients left out, comparison, influence, priors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
