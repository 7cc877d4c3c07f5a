"""Numbers of which only an interval is known, and hazard ratios without a bias made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import xarray as xr
from scipy.special import expit, logit, ndtri

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError, require_kind, require_seed
from bayesblina.estimands.ratios import hazard_ratio
from bayesblina.inference.fitting import Fit

# A number that is known, or the ends of the interval that holds 95 % of what it may be.
Uncertain = float | tuple[float, float]
Kind = Literal["share", "ratio"]


def without_bias(
    fit: Fit,
    seed: int,
    given: Mapping[str, tuple[Kind, Uncertain]],
    bias: Callable[..., Floats],
) -> xr.Dataset:
    """Divide a fit's hazard ratios by a bias, draw by draw; what is uncertain is drawn in order."""
    require_kind(fit, Fit, "fit")
    require_seed(seed)
    ratios = hazard_ratio(fit)
    values = ratios["hazard_ratio"].transpose("chain", "draw", ...)
    generator = np.random.default_rng(seed)
    drawn = [
        draw_uncertain(kind, name, value, values.shape[:2], generator)
        for name, (kind, value) in given.items()
    ]
    factor = xr.DataArray(
        bias(*drawn), dims=("chain", "draw"), coords={k: values[k] for k in ("chain", "draw")}
    )
    return xr.Dataset({"hazard_ratio": values / factor}, attrs=ratios.attrs)


def draw_uncertain(
    kind: Kind,
    name: str,
    value: Uncertain,
    shape: tuple[int, ...],
    generator: np.random.Generator,
) -> Floats:
    """Draw a number: fixed, or a share normal in its log odds, or a ratio normal in its log."""
    share = kind == "share"
    if isinstance(value, int | float):
        if not (0 <= value <= 1 if share else 0 < value < math.inf):
            expected = "a share from 0 to 1" if share else "a ratio greater than 0"
            raise SpecError(f"{name} must be {expected}, got {value!r}.")
        return np.full(shape, float(value))
    try:
        lower, upper = (float(end) for end in value)
    except (TypeError, ValueError):
        raise SpecError(f"{name} must be a number or (lower, upper), got {value!r}.") from None
    if not 0 < lower < upper < (1 if share else math.inf):
        expected = "a share must lie inside 0 to 1" if share else "a ratio must be positive"
        raise SpecError(f"{name}: an interval of {expected}, got {value!r}.")
    scale, back = (logit, expit) if share else (np.log, np.exp)
    ends = scale(np.array([lower, upper]))
    sd = (ends[1] - ends[0]) / (2.0 * ndtri(0.975))
    return np.asarray(back(generator.normal(ends.mean(), sd, shape)))
