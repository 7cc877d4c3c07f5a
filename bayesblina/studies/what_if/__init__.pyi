"""The public names, and the modules that define them."""

from .layout import Scenario as Scenario
from .layout import scenarios as scenarios
from .reading import Sensitivity as Sensitivity
from .reading import load_sensitivity as load_sensitivity
from .running import design_grid as design_grid
from .running import sensitivity as sensitivity
