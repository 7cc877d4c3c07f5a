"""What people look at.

Figures, results in a folder, the report.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"plots"})
