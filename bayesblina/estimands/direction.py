"""What is concluded of the exposed phase's hazard: that it is lower, or that it is higher."""

from __future__ import annotations

from typing import Literal, get_args

from bayesblina.core.errors import SpecError

Direction = Literal["lower", "higher"]
# Whose conclusion it is: the analysis's own, or what was said of it.
OWN, GIVEN = "base case", "given"


def require_direction(direction: object) -> None:
    """Refuse what is no direction of a conclusion.

    >>> require_direction("benefit")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: direction must be 'lower' or 'higher', got 'benefit'.
    """
    if direction is not None and direction not in get_args(Direction):
        raise SpecError(f"direction must be 'lower' or 'higher', got {direction!r}.")


def sign_of(direction: str) -> str:
    """Give the sign of a hazard ratio against 1 that a direction means.

    >>> sign_of("higher")
    '>'
    """
    return "<" if direction == "lower" else ">"


def whose_conclusion(source: str) -> str:
    """Say whose conclusion it is.

    >>> whose_conclusion("base case")
    "the base case's conclusion"
    """
    return "the base case's conclusion" if source == OWN else "the conclusion"
