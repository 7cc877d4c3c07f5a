"""What if.

Scenarios, designs, weights, bias, external patients, simulation, calibration; study files.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules={"bias", "planning", "simulate", "weighting"}
)
