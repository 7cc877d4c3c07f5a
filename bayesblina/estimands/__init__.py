"""What is read off a fit.

Regimes, hazard ratios, curves, times and occupancies by draw; summaries; adverse events.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"safety"})
