"""Phase contrasts and standardised covariates: numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesblina.exposure import Exposure

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """What multiplies the log hazard ratios.

    Attributes
    ----------
    effects : tuple of str
        Phases that have an effect, the exposed one first.
    contrast : ndarray, shape (phase, effect)
        Indicators; the reference has none.
    term_names : tuple of str
        Covariate terms.
    terms : ndarray, shape (pattern, term)
        Standardised terms of each pattern.
    centre, scale : ndarray, shape (term,)
        What was subtracted from the raw terms and what they were divided by.
    """

    effects: tuple[str, ...]
    contrast: Floats
    term_names: tuple[str, ...]
    terms: Floats
    centre: Floats
    scale: Floats


def make_design(exposure: Exposure) -> Design:
    """Work out phase contrasts and standardised covariates.

    Continuous terms are centred at their mean over patients and divided by their sd; indicators
    of levels are centred only, so that their coefficient stays that of the level.

    Parameters
    ----------
    exposure
        Events and person-time.

    Returns
    -------
    Design
        The design.
    """
    role = exposure.table["role"].values
    phases = exposure.table["phase"].values
    order = [*np.flatnonzero(role == "exposed"), *np.flatnonzero(role == "other")]
    contrast = np.zeros((phases.size, len(order)))
    contrast[order, np.arange(len(order))] = 1.0
    raw = exposure.table["design"].values
    names = tuple(str(name) for name in exposure.table["term"].values)
    patients = np.bincount(exposure.people["pattern"].values, minlength=raw.shape[0])
    centre = np.average(raw, axis=0, weights=patients)
    spread = np.sqrt(np.average((raw - centre) ** 2, axis=0, weights=patients))
    indicator = np.array([bool(((column == 0) | (column == 1)).all()) for column in raw.T])
    scale = np.where(indicator, 1.0, spread) if names else spread
    return Design(
        effects=tuple(str(phases[index]) for index in order),
        contrast=contrast,
        term_names=names,
        terms=(raw - centre) / scale,
        centre=centre,
        scale=scale,
    )
