"""What if: hundreds of scenarios of one analysis, resumable, on one machine or a cluster."""

from bayesblina.studies.what_if.layout import Scenario, scenarios
from bayesblina.studies.what_if.reading import Sensitivity, load_sensitivity
from bayesblina.studies.what_if.running import design_grid, sensitivity

__all__ = [
    "Scenario",
    "Sensitivity",
    "design_grid",
    "load_sensitivity",
    "scenarios",
    "sensitivity",
]
