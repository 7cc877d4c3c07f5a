"""The geometry of a random-walk baseline: what its prior says, and good sampling coordinates.

The walk's prior is an intrinsic Gaussian field: steps have variances proportional to the distance
between interval midpoints, measured half in time and half in events (`distances`), and the
event-weighted mean of the log hazard has a prior of its own.
In the basis that diagonalises the walk's precision and the events together, coefficient k has
prior ``Normal(0, walk_sd / roughness_k)`` and, to a second-order approximation, a likelihood
``Normal(centre_k, 1)``. Sampling ``(coefficient - mean given walk_sd) / (sd given walk_sd)``
therefore leaves coordinates that are close to independent standard normals, whether the data are
few (where a centred walk mixes badly) or many (where a non-centred one does). The change of
coordinates is exact for any `centre`: only the sampler's speed depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from bayesblina.exposure import Exposure
from bayesblina.hazards.effects import Design

Floats = NDArray[np.float64]

NEWTON_STEPS = 30
LARGEST_STEP = 2.0
# Half an event in each interval keeps weights and crude rates finite where there is none.
PSEUDO_EVENTS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WalkGeometry:
    """Basis and scales of the random walk.

    Attributes
    ----------
    level_centre : ndarray, shape (endpoint,)
        Crude log rate, the prior mean of the level.
    basis : ndarray, shape (endpoint, interval, component)
        Log-hazard deviation of each coefficient; its event-weighted mean is zero.
    roughness : ndarray, shape (endpoint, component)
        Prior sd of a coefficient is ``walk_sd / roughness``.
    centre : ndarray, shape (endpoint, component)
        Approximate maximum-likelihood coefficients, for the sampler's coordinates only.
    """

    level_centre: Floats
    basis: Floats
    roughness: Floats
    centre: Floats


def midpoints(exposure: Exposure) -> Floats:
    """Midpoints of the intervals; the open one ends with follow-up.

    Parameters
    ----------
    exposure
        Events and person-time.

    Returns
    -------
    ndarray, shape (interval,)
        Times.
    """
    start = exposure.table["interval_start"].values
    last = float(np.nanmax(exposure.people["exit"].values))
    if last <= start[-1]:
        last = start[-1] + (start[-1] - start[-2])
    return np.asarray((start + np.append(start[1:], last)) / 2.0)


def distances(exposure: Exposure) -> Floats:
    """Distances between the midpoints of neighbouring intervals, on the walk's own clock.

    The clock runs from 0 to 1 over follow-up, at half its speed with time and at half its speed
    with the endpoint's events, which are taken as spread evenly within an interval. Hazards often
    change fastest where events are dense and intervals short, early in follow-up; a clock of time
    alone would hold them equal there. One of events alone would hold the hazard equal over a long
    stretch without any. Neither depends on how finely follow-up is cut.

    Parameters
    ----------
    exposure
        Events and person-time.

    Returns
    -------
    ndarray, shape (endpoint, interval - 1)
        Distances, greater than 0; their sum is below 1.
    """
    middle = midpoints(exposure)
    span = float(np.nanmax(exposure.people["exit"].values))
    events = exposure.table["events"].sum(("phase", "pattern")).values.astype(np.float64)
    share = events / events.sum(axis=1, keepdims=True)
    passed = np.cumsum(share, axis=1) - share / 2.0
    return np.asarray((np.diff(middle) / span + np.diff(passed, axis=1)) / 2.0)


def walk_geometry(exposure: Exposure, design: Design, *, prior_sd: Floats) -> WalkGeometry:
    """Work out the walk's basis for the events at hand.

    Parameters
    ----------
    exposure
        Events and person-time.
    design
        Phase contrasts and standardised covariates.
    prior_sd : ndarray, shape (effect + term,)
        Prior sds of the log hazard ratios, which keep the approximation finite.

    Returns
    -------
    WalkGeometry
        Basis, scales and centres by endpoint.
    """
    events = exposure.table["events"].values.astype(np.float64)
    time = exposure.table["exposure"].values
    endpoints, intervals = events.shape[:2]
    by_interval = events.sum((2, 3))
    level_centre = np.log((by_interval.sum(1) + PSEUDO_EVENTS) / time.sum((1, 2, 3)))
    basis = np.zeros((endpoints, intervals, intervals - 1))
    roughness = np.ones((endpoints, intervals - 1))
    centre = np.zeros((endpoints, intervals - 1))
    if intervals > 1:
        step = np.diff(np.eye(intervals), axis=0)
        apart = distances(exposure)
        effects = np.concatenate(
            [
                np.repeat(design.contrast, design.terms.shape[0], axis=0),
                np.tile(design.terms, (design.contrast.shape[0], 1)),
            ],
            axis=1,
        )
        for index in range(endpoints):
            precision = step.T @ (step / apart[index][:, None])
            adjusted = _adjusted_time(
                events[index].reshape(intervals, -1),
                time[index].reshape(intervals, -1),
                effects,
                prior_sd,
            )
            weight = by_interval[index] + PSEUDO_EVENTS
            value, vector = eigh(precision, np.diag(weight))
            prior_time = PSEUDO_EVENTS / np.exp(level_centre[index])
            crude = np.log(weight / (adjusted + prior_time)) - level_centre[index]
            basis[index] = vector[:, 1:]
            roughness[index] = np.sqrt(value[1:])
            centre[index] = vector[:, 1:].T @ (weight * crude)
    return WalkGeometry(level_centre=level_centre, basis=basis, roughness=roughness, centre=centre)


def _adjusted_time(events: Floats, time: Floats, effects: Floats, prior_sd: Floats) -> Floats:
    """Person-time by interval, weighted by relative hazards fitted with the baseline profiled out.

    Parameters
    ----------
    events, time : ndarray, shape (interval, cell)
        Events and person-time.
    effects : ndarray, shape (cell, parameter)
        Covariate values of each cell.
    prior_sd : ndarray, shape (parameter,)
        Ridge.

    Returns
    -------
    ndarray, shape (interval,)
        Adjusted person-time.
    """
    parameter = np.zeros(effects.shape[1])
    by_interval = events.sum(1)
    ridge = 1.0 / prior_sd**2
    for _ in range(NEWTON_STEPS if effects.shape[1] else 0):
        weighted = time * np.exp(effects @ parameter)
        total = weighted.sum(1)
        rate = np.divide(by_interval, total, out=np.zeros_like(total), where=total > 0)
        mean = np.divide(
            weighted @ effects,
            total[:, None],
            out=np.zeros((total.size, parameter.size)),
            where=total[:, None] > 0,
        )
        expected = rate @ weighted
        gradient = (events.sum(0) - expected) @ effects - ridge * parameter
        curvature = effects.T @ (expected[:, None] * effects)
        curvature += np.diag(ridge) - (by_interval[:, None] * mean).T @ mean
        step = np.linalg.solve(curvature, gradient)
        parameter += step * min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray((time * np.exp(effects @ parameter)).sum(1))
