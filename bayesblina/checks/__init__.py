"""Can the numbers be believed: checks of a fit, and of the models themselves."""

from bayesblina.checks.cure import cure_identifiability
from bayesblina.checks.posterior import ALL_ENDPOINTS, Checks, check

__all__ = ["ALL_ENDPOINTS", "Checks", "check", "cure_identifiability"]
