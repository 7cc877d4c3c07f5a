"""Hazard ratios between phases, sets of phases, or covariate values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesblina.errors import EstimandError, nearest
from bayesblina.estimands.populations import supplied_groups
from bayesblina.fitting import Fit
from bayesblina.hazards.likelihood import log_parts

Floats = NDArray[np.float64]

# A phase, several phases, or values of covariates.
Side = str | Sequence[str] | Mapping[str, str | float]


def hazard_ratio(
    fit: Fit,
    *,
    exposed: Side | None = None,
    reference: Side | None = None,
    over: Literal["average", "interval"] = "average",
) -> xr.Dataset:
    """Hazard ratio between phases, sets of phases, or covariate values, by draw.

    A set of phases has the mean of its phases' hazards, weighted in each interval by the
    person-time spent in them (where there is none, by that of all intervals). So a ratio of sets
    may change over time although the phases' own ratios do not.

    Parameters
    ----------
    fit
        The fit.
    exposed, reference
        What is compared, both of one kind: a phase; a list of phases; or a mapping of covariates
        to values, others being equal. By default the question's exposed phase against its
        reference, which may be all other phases together.
    over
        ``"average"``: one ratio, the geometric mean over intervals weighted by the endpoint's
        events, which is the average over the event times of those at risk. ``"interval"``: the
        ratio in each interval.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint), or (chain, draw, endpoint, interval) with
        the coordinates ``interval_start`` and ``interval_stop``. It is conditional on the
        covariates in the model; the attributes say so. For the marginal ratio, which fades over
        time, compare `hazard` between regimes.

    Raises
    ------
    EstimandError
        If phases or covariates are unknown, or the two sides are of different kinds or equal.

    Notes
    -----
    Average hazard ratios: Kalbfleisch and Prentice (1981), doi:10.1093/biomet/68.1.105.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> bb.hazard_ratio(fit)["hazard_ratio"].dims
    ('chain', 'draw', 'endpoint')
    >>> older = bb.hazard_ratio(fit, exposed={"age_group": "55+"}, reference={"age_group": "18-34"})
    >>> older.attrs["exposed"]
    'age_group 55+'
    """
    if over not in ("average", "interval"):
        raise EstimandError(f"over must be 'average' or 'interval', got {over!r}.")
    question = fit.question
    default = exposed is None and reference is None
    if exposed is None:
        exposed = question.exposed
    if reference is None:
        if isinstance(exposed, Mapping):
            raise EstimandError("Give the reference's covariates too.")
        role = fit.exposure.table["role"].values
        reference = [
            str(name)
            for name, one in zip(fit.exposure.table["phase"].values, role, strict=True)
            if one == "reference"
        ]
    if isinstance(exposed, Mapping) and isinstance(reference, Mapping):
        log_ratio = _between_covariates(fit, exposed, reference)
        labels = [
            ", ".join(f"{name} {value}" for name, value in side.items())
            for side in (exposed, reference)
        ]
    elif not isinstance(exposed, Mapping) and not isinstance(reference, Mapping):
        sets = [_phases(fit, side) for side in (exposed, reference)]
        if set(sets[0]) & set(sets[1]):
            raise EstimandError(
                f"{' and '.join(sorted(set(sets[0]) & set(sets[1])))} stands on both sides."
            )
        log_ratio = _between_phases(fit, sets[0], sets[1])
        labels = [" or ".join(side) for side in sets]
        if default:
            labels[1] = question.reference or f"no {question.exposed}"
    else:
        raise EstimandError("Compare phases with phases, or covariates with covariates.")
    attrs = {
        **attributes_of(fit),
        "exposed": labels[0],
        "reference": labels[1],
        "kind": "conditional on covariates" if fit.design.term_names else "without covariates",
    }
    dims: tuple[str, ...] = ("chain", "draw", "endpoint")
    sizes = fit.posterior.sizes
    coords: dict[str, object] = {
        "chain": fit.posterior["chain"],
        "draw": fit.posterior["draw"],
        "endpoint": list(fit.exposure.endpoints),
    }
    table = fit.exposure.table
    if over == "average":
        events = table["events"].sum(("phase", "pattern")).values
        share = events / events.sum(axis=1, keepdims=True)
        constant = np.ptp(log_ratio, axis=2) == 0
        mean = np.einsum("dej,ej->de", log_ratio, share)
        # Shares add up to 1 only within rounding.
        log_ratio = np.where(constant, log_ratio[:, :, 0], mean)
    else:
        dims = (*dims, "interval")
        coords |= {
            "interval": table["interval"].values,
            "interval_start": ("interval", table["interval_start"].values),
            "interval_stop": ("interval", table["interval_stop"].values),
        }
    shape = (sizes["chain"], sizes["draw"], *log_ratio.shape[1:])
    values = (dims, np.exp(log_ratio).reshape(shape))
    return xr.Dataset({"hazard_ratio": values}, coords=coords, attrs=attrs)


def _phases(fit: Fit, side: str | Sequence[str]) -> list[str]:
    given: object = side
    if not isinstance(given, str | list | tuple):
        raise EstimandError(f"Expected a phase, a list of phases or covariates, got {given!r}.")
    known = [str(name) for name in fit.exposure.table["phase"].values]
    names = [side] if isinstance(side, str) else list(side)
    if len(set(names)) != len(names):
        raise EstimandError(f"A phase stands twice in {names!r}.")
    if not names:
        raise EstimandError("An empty set of phases has no hazard.")
    for name in names:
        if name not in known:
            raise EstimandError(
                f"No eligible patient is ever in '{name}'. {nearest(str(name), known)}"
            )
    return names


def _between_phases(fit: Fit, exposed: Sequence[str], reference: Sequence[str]) -> Floats:
    """Log ratio, shape (draws, endpoint, interval)."""
    table = fit.exposure.table
    names = [str(name) for name in table["phase"].values]
    time = table["exposure"].sum("pattern").transpose("endpoint", "interval", "phase").values
    out = []
    for index, endpoint in enumerate(fit.exposure.endpoints):
        _, phase, _ = log_parts(fit.posterior, fit.design, endpoint=endpoint)
        sides = []
        for side in (exposed, reference):
            columns = [names.index(name) for name in side]
            log_hazard = phase[:, columns]
            if np.ptp(log_hazard, axis=1).max() == 0:
                # Phases that share a hazard have it, however time divides between them.
                sides.append(np.repeat(log_hazard[:, :1], time.shape[1], axis=1))
                continue
            spent = time[index][:, columns]
            spent = np.where(spent.sum(axis=1, keepdims=True) > 0, spent, spent.sum(axis=0))
            share = spent / spent.sum(axis=1, keepdims=True)
            sides.append(np.log(np.exp(log_hazard) @ share.T))
        out.append(sides[0] - sides[1])
    return np.stack(out, axis=1)


def _between_covariates(
    fit: Fit, exposed: Mapping[str, str | float], reference: Mapping[str, str | float]
) -> Floats:
    """Log ratio, shape (draws, endpoint, interval)."""
    if set(exposed) != set(reference):
        raise EstimandError(
            "Give both sides the same covariates: others are equal, whatever they are."
        )
    if dict(exposed) == dict(reference):
        raise EstimandError("The two sides are equal.")
    equal = {
        one.name: one.levels[0] if one.kind == "categorical" else one.low
        for one in fit.exposure.covariates
    }
    (first,), _ = supplied_groups(fit.exposure, {**equal, **exposed}, by=None)
    (second,), _ = supplied_groups(fit.exposure, {**equal, **reference}, by=None)
    intervals = fit.exposure.table.sizes["interval"]
    ratios = []
    for endpoint in fit.exposure.endpoints:
        one, other = (
            group.relative(fit.posterior, fit.design, endpoint=endpoint)
            for group in (first, second)
        )
        ratios.append(np.repeat(np.log(one / other), intervals, axis=1))
    return np.stack(ratios, axis=1)


def attributes_of(fit: Fit) -> dict[str, object]:
    """Say what every estimate must carry with it.

    Parameters
    ----------
    fit
        The fit.

    Returns
    -------
    dict
        ``model``, ``converged`` and ``synthetic``.
    """
    return {
        "model": fit.definition.name,
        "converged": int(fit.converged),
        "synthetic": int(fit.exposure.synthetic),
    }
