"""Patient-level log-likelihood from draws; a sparse matrix product, never one term per row."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.exposure import Exposure
from bayesblina.hazards.effects import Design

Floats = NDArray[np.float64]


def flat_draws(posterior: xr.Dataset, name: str, *dims: str) -> Floats:
    """Take a variable's draws as one array with all draws in front.

    Parameters
    ----------
    posterior
        Dataset over (chain, draw, ...).
    name
        Variable.
    *dims
        Its other dimensions, in the order wanted.

    Returns
    -------
    ndarray, shape (chain * draw, ...)
        The draws, chain by chain.
    """
    values = posterior[name].transpose("chain", "draw", *dims).values
    return np.asarray(values.reshape(-1, *values.shape[2:]), dtype=np.float64)


def log_parts(
    posterior: xr.Dataset, design: Design, *, endpoint: str
) -> tuple[Floats, Floats, Floats]:
    """Parts of the log hazard of one endpoint, by draw.

    Parameters
    ----------
    posterior
        Draws.
    design
        Phase contrasts and standardised covariates.
    endpoint
        Endpoint.

    Returns
    -------
    baseline : ndarray, shape (draws, interval)
        Log baseline hazard.
    phase : ndarray, shape (draws, phase)
        Log hazard ratio of each phase against the reference.
    pattern : ndarray, shape (draws, pattern)
        Log hazard ratio of each pattern against mean covariates.
    """
    one = posterior.sel(endpoint=endpoint)
    baseline = flat_draws(one, "log_baseline", "interval")
    phase = flat_draws(one, "log_hazard_ratio", "effect") @ design.contrast.T
    pattern = np.zeros((baseline.shape[0], design.terms.shape[0]))
    if design.term_names:
        pattern = flat_draws(one, "coefficient", "term") @ design.terms.T
    return baseline, phase, pattern


def patient_log_likelihood(
    posterior: xr.Dataset, exposure: Exposure, design: Design, *, endpoint: str
) -> xr.DataArray:
    """Log-likelihood of each patient's follow-up for one endpoint.

    It is the sum over cells of events x log hazard - time at risk x hazard, without terms that
    depend on how follow-up was cut; redundant cuts leave it as it is.

    Parameters
    ----------
    posterior
        Draws.
    exposure
        Events and person-time.
    design
        Phase contrasts and standardised covariates.
    endpoint
        Endpoint.

    Returns
    -------
    xarray.DataArray
        Over (chain, draw, patient); 0 for patients who do not contribute to the endpoint.
    """
    baseline, phase, pattern = log_parts(posterior, design, endpoint=endpoint)
    # Draws run along rows, so that picking cells and patients picks whole rows.
    log_hazard = np.ascontiguousarray(
        (baseline[:, :, None] + phase[:, None, :]).reshape(baseline.shape[0], -1).T
    )
    by_pattern = np.ascontiguousarray(pattern.T)
    who = exposure.people["pattern"].values
    values = exposure.patient_cells(endpoint) @ np.exp(log_hazard)
    values *= -np.exp(by_pattern)[who]
    patient, cell = exposure.event_cells(endpoint)
    values[patient] += log_hazard[cell] + by_pattern[who[patient]]
    sizes = posterior.sizes
    shaped = values.T.reshape(sizes["chain"], sizes["draw"], -1)
    return xr.DataArray(
        shaped,
        dims=("chain", "draw", "patient"),
        coords={
            "chain": posterior["chain"],
            "draw": posterior["draw"],
            "patient": exposure.people["patient"],
        },
        name="survival",
    )
