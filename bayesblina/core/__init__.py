"""What knows no patients.

Errors, files, tables, masking, intervals and episodes, product limits, hazards as arithmetic.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"errors", "tables"})
