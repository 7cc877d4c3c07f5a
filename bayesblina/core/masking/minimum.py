"""The smallest count that is shown."""

from __future__ import annotations

from numbers import Integral

from bayesblina.core.errors import SpecError


def require_minimum(given: object, argument: str = "minimum") -> int:
    """Require a smallest count that is shown: a whole number from 1 on.

    >>> require_minimum(5)
    5
    >>> require_minimum(0)
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: minimum must be a whole number from 1 on, got 0.
    """
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise SpecError(f"{argument} must be a whole number from 1 on, got {given!r}.")
    return int(given)
