"""Events that were missed, and recorded events that were none."""

from __future__ import annotations

import numpy as np
import xarray as xr

from bayesblina.core.arrays import Floats
from bayesblina.core.errors import SpecError
from bayesblina.inference.fitting import Fit
from bayesblina.studies.bias.uncertain import Uncertain, without_bias


def adjust_for_misclassification(
    fit: Fit,
    *,
    seen_exposed: Uncertain = 1.0,
    seen_unexposed: Uncertain = 1.0,
    false_exposed: Uncertain = 0.0,
    false_unexposed: Uncertain = 0.0,
    seed: int,
) -> xr.Dataset:
    """Take events that were missed, and events that were none, out of the hazard ratio.

    Parameters
    ----------
    fit
        The fit.
    seen_exposed, seen_unexposed
        Share of true events that were recorded, in exposed and unexposed patient-time.
    false_exposed, false_unexposed
        Share of recorded events that were none.
    seed
        Seed of what is uncertain.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint), of true events. Patients whose event was
        missed count as at risk afterwards, which is neglected: it matters only where many are.

    Raises
    ------
    SpecError
        If a share is impossible.

    Notes
    -----
    Greenland (1996), doi:10.1093/ije/25.6.1107.
    """
    return without_bias(
        fit,
        seed,
        {
            "seen_exposed": ("share", seen_exposed),
            "seen_unexposed": ("share", seen_unexposed),
            "false_exposed": ("share", false_exposed),
            "false_unexposed": ("share", false_unexposed),
        },
        _misclassification,
    )


def _misclassification(
    seen_exposed: Floats, seen_unexposed: Floats, false_exposed: Floats, false_unexposed: Floats
) -> Floats:
    """Factor by which missed and false events bias a rate ratio."""
    if min(seen_exposed.min(), seen_unexposed.min()) <= 0 or (
        max(false_exposed.max(), false_unexposed.max()) >= 1
    ):
        raise SpecError("Some true events must be seen, and some recorded events must be true.")
    return np.asarray(
        (seen_exposed / (1.0 - false_exposed)) / (seen_unexposed / (1.0 - false_unexposed))
    )
