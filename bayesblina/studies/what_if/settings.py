"""How the settings of scenarios are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from bayesblina.core.errors import (
    SpecError,
)
from bayesblina.core.intervals import validate_cuts


def _parts(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"intervals must be a whole number of at least 1, got {value!r}.")
    return value


def _cut_points(value: Any) -> tuple[float, ...]:
    return tuple(validate_cuts(value).tolist())


def _pair(value: Any) -> tuple[str, str]:
    covariate, level = value
    return str(covariate), str(level)


def _time(value: Any, *, axis: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise SpecError(f"{axis} must be a finite number, got {value!r}.")
    if axis in ("phase_jitter", "bridge", "grace", "visit_jitter") and value < 0:
        raise SpecError(f"{axis} must not be negative.")
    return float(value)


# How settings of a scenario's own attributes are read.
READ: Mapping[str, Callable[[Any], Any]] = {
    "intervals": _parts,
    "cuts": _cut_points,
    "covariates": lambda value: tuple(map(str, value)),
    "only": _pair,
    "without": _pair,
    "phase_shift": partial(_time, axis="phase_shift"),
    "phase_jitter": partial(_time, axis="phase_jitter"),
    "bridge": partial(_time, axis="bridge"),
    "grace": partial(_time, axis="grace"),
    "visit_jitter": partial(_time, axis="visit_jitter"),
}
