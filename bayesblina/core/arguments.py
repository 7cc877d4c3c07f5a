"""Arguments of the wrong kind are told at once, with the function that makes the right one."""

from __future__ import annotations

from numbers import Integral, Real
from types import UnionType
from typing import TYPE_CHECKING

from bayesblina.core.errors import SpecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What fits into 64 bits: seeds are kept with results, and handed to samplers that take no more.
LARGEST_SEED = 2**63 - 1

# The protocol that both kinds of cohorts fulfil has a name that nobody calls.
NAMES = {"Enrolled": "Cohort", "Real": "a number"}
# What to call for a value of each kind.
MADE_BY = {
    "Account": "cohort.account()",
    "AdverseEvents": "bayesblina.safety.adverse_events",
    "Cohort": "bayesblina.read_cohort",
    "CohortScan": "bayesblina.scan_cohort",
    "DataTree": "bayesblina.priors.power_scaling_draws",
    "Dataset": "bayesblina.hazard_ratio or another of the estimands",
    "PersonTime": "bayesblina.person_time",
    "Fit": "bayesblina.fit",
    "ModelDefinition": "bayesblina.load_model",
    "Prediction": "bayesblina.loo",
    "Mapping": "bayesblina.fit or bayesblina.loo, by name,",
    "Question": "bayesblina.Question",
    "Sensitivity": "bayesblina.sensitivity",
    "StudyDesign": "bayesblina.planning.StudyDesign",
    "tuple": "bayesblina.scenarios",
    "Weighted": "bayesblina.weighting.starting_weights",
}


def require_kind(
    value: object, kind: type | UnionType, argument: str, *, made_by: str | None = None
) -> None:
    """Refuse an argument of the wrong kind.

    `made_by`: what to call for it, where the kind alone does not tell.

    >>> require_kind("text", int, "count")
    Traceback (most recent call last):
    TypeError: count: expected int, got str.
    """
    if isinstance(value, kind):
        return
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    names = [NAMES.get(one.__name__, one.__name__) for one in kinds]
    first = [MADE_BY[name] for name in names if name in MADE_BY] if made_by is None else [made_by]
    hint = f": call {' or '.join(first)} first" if first else ""
    raise TypeError(f"{argument}: expected {' or '.join(names)}, got {type(value).__name__}{hint}.")


def require_number(value: object, argument: str) -> float:
    """Read one number.

    >>> require_number("8", "landmark")
    Traceback (most recent call last):
    bayesblina.core.errors.SpecError: landmark must be a number, got '8'.
    """
    # Python counts true as 1; numpy's truth values are no numbers to it.
    if isinstance(value, bool) or not isinstance(value, Real):
        raise SpecError(f"{argument} must be a number, got {value!r}.")
    return float(value)


def require_numbers(values: object, argument: str) -> NDArray[np.float64]:
    """Read numbers, or an array of them."""
    import numpy as np

    numbers = None
    if values is not None and not isinstance(values, str):
        try:
            numbers = np.asarray(values)
        except (TypeError, ValueError):  # rows of unlike lengths, or what is no array
            numbers = None
    if numbers is None or numbers.dtype.kind not in "iuf":
        raise TypeError(f"{argument}: expected numbers, got {type(values).__name__}.")
    return numbers.astype(np.float64)


def require_seed(seed: object) -> None:
    """Refuse what is no seed."""
    # True and false are integral, too, and no seeds.
    if not isinstance(seed, bool) and isinstance(seed, Integral):
        if 0 <= int(seed) <= LARGEST_SEED:
            return
        # Thousands of digits are nothing to read, and Python does not write so many.
        got = str(seed) if int(seed).bit_length() < 128 else "one of many more digits"
    else:
        got = repr(seed) if isinstance(seed, str | float | bool | None) else type(seed).__name__
    raise SpecError(f"seed must be a whole number from 0 to 2^63 - 1, got {got}.")


def no_boolean(value: object) -> object:
    """Refuse true and false where a number belongs: Python counts them as 1 and 0.

    >>> no_boolean(True)
    Traceback (most recent call last):
    ValueError: expected a number, got true
    """
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value
