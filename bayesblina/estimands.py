"""What is read off a fit: hazard ratios and standardised survival curves, by draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesblina.errors import EstimandError
from bayesblina.fitting import Fit
from bayesblina.hazard.likelihood import log_parts
from bayesblina.intervals import interval_of
from bayesblina.regimes import From, Never, Regime, require_defined

Floats = NDArray[np.float64]

DEFAULT_TIMES = 51
# Numbers held at once while curves are averaged over patients: they should stay in the cache.
BLOCK = 200_000


def hazard_ratio(fit: Fit) -> xr.Dataset:
    """Hazard ratio of the exposed phase against the reference, by draw.

    Parameters
    ----------
    fit
        The fit.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint). It is conditional on the covariates in
        the model; the attributes say so.

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
    """
    log_ratio = fit.posterior["log_hazard_ratio"].sel(effect=fit.question.exposed, drop=True)
    ratio = np.exp(log_ratio.transpose("chain", "draw", "endpoint"))
    reference = fit.question.reference or f"no {fit.question.exposed}"
    conditional = "conditional on covariates" if fit.design.term_names else "without covariates"
    return xr.Dataset(
        {"hazard_ratio": ratio},
        attrs={
            **_attributes(fit),
            "exposed": fit.question.exposed,
            "reference": reference,
            "kind": conditional,
        },
    )


def survival(
    fit: Fit,
    *,
    regimes: Sequence[Regime] = (Never(),),
    times: ArrayLike | None = None,
    landmark: float | None = None,
) -> xr.Dataset:
    """Survival under treatment regimes, given event-free at a landmark, by draw.

    Exact: the cumulative hazard is piecewise linear with the cut points, the landmark and the
    regimes' starts among its knots. The curves are averaged over the covariates of the patients
    at risk at the landmark, the same patients under every regime.

    Parameters
    ----------
    fit
        The fit.
    regimes
        `Never` and `From` values.
    times : array_like, shape (time,), optional
        Times from the origin, none before the landmark; by default 51 from the landmark to the
        end of follow-up.
    landmark
        Time at which patients are event-free. By default the question's landmark; without one
        the median time at which the eligible patients came under observation (0 when all do at
        the origin).

    Returns
    -------
    xarray.Dataset
        ``survival`` over (chain, draw, endpoint, regime, time).

    Raises
    ------
    EstimandError
        If a regime is not defined, nobody is at risk at the landmark, or times lie before it.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> curves = bb.survival(
    ...     fit, regimes=[bb.Never(), bb.From(8.0)], times=[8.0, 12.0], landmark=8.0
    ... )
    >>> curves["survival"].dims
    ('chain', 'draw', 'endpoint', 'regime', 'time')
    """
    regimes = tuple(regimes)
    people = fit.exposure.people
    begin, end = people["begin"].values, people["exit"].values
    start = _landmark(fit, landmark)
    role = fit.exposure.table["role"].values
    in_exposed = role[fit.exposure.episodes["phase"].values] == "exposed"
    earliest = float(fit.exposure.episodes["start"].values[in_exposed].min())
    require_defined(regimes, landmark=start, earliest=earliest, exposed=fit.question.exposed)
    last = float(np.nanmax(end))
    if times is None:
        times = np.linspace(start, last, DEFAULT_TIMES)
    grid = np.asarray(times, dtype=np.float64)
    if grid.ndim != 1 or not np.isfinite(grid).all():
        raise EstimandError("times must be a flat sequence of finite numbers.")
    if (grid < start).any():
        raise EstimandError(
            f"Survival is asked for before the landmark {start:g}: it is conditional on being "
            "event-free there. Give a landmark at or before the first time."
        )
    at_risk = (begin <= start) & (end > start)
    posterior = fit.posterior
    endpoints = fit.exposure.endpoints
    sizes = posterior.sizes
    shape = (sizes["chain"] * sizes["draw"], len(endpoints), len(regimes), grid.size)
    curves = np.empty(shape)
    exposed = int(np.flatnonzero(role == "exposed")[0])
    for index, name in enumerate(endpoints):
        if not at_risk[index].any():
            raise EstimandError(
                f"{name}: nobody is at risk at the landmark {start:g}; patients are under "
                f"observation between {np.nanmin(begin[index]):g} and {np.nanmax(end[index]):g}."
            )
        baseline, phase, pattern = log_parts(posterior, fit.design, endpoint=name)
        weight = np.bincount(
            people["pattern"].values[at_risk[index]], minlength=pattern.shape[1]
        ).astype(np.float64)
        used = np.flatnonzero(weight)
        weight = weight[used] / weight.sum()
        relative = np.exp(pattern[:, used])
        hazard = np.exp(baseline)
        ratio = np.exp(phase[:, exposed])
        for position, regime in enumerate(regimes):
            cumulative = cumulative_hazard(
                hazard, ratio, fit.exposure.cuts, grid, start=start, regime=regime
            )
            curves[:, index, position] = _average(cumulative, relative, weight)
    return xr.Dataset(
        {
            "survival": (
                ("chain", "draw", "endpoint", "regime", "time"),
                curves.reshape(sizes["chain"], sizes["draw"], *shape[1:]),
            )
        },
        coords={
            "chain": posterior["chain"],
            "draw": posterior["draw"],
            "endpoint": list(endpoints),
            "regime": [regime.label for regime in regimes],
            "time": grid,
        },
        attrs={**_attributes(fit), "landmark": start, "unit": fit.exposure.unit},
    )


def cumulative_hazard(
    hazard: Floats,
    ratio: Floats,
    cuts: Floats,
    times: Floats,
    *,
    start: float,
    regime: Regime,
) -> Floats:
    """Cumulative hazard from a start time under a regime, exactly.

    Parameters
    ----------
    hazard : ndarray, shape (draws, interval)
        Hazards in the reference phase.
    ratio : ndarray, shape (draws,)
        Hazard ratio of the exposed phase.
    cuts : ndarray, shape (interval - 1,)
        Inner cut points.
    times : ndarray, shape (time,)
        Times, none before `start`.
    start
        Where the integral begins.
    regime
        The regime.

    Returns
    -------
    ndarray, shape (draws, time)
        The integral of the hazard over ``(start, time]``.

    Examples
    --------
    >>> cumulative_hazard(
    ...     np.array([[0.1, 0.2]]),
    ...     np.array([0.5]),
    ...     np.array([2.0]),
    ...     np.array([1.0, 4.0]),
    ...     start=0.0,
    ...     regime=From(3.0),
    ... )
    array([[0.1, 0.5]])
    """
    entered = regime.start if isinstance(regime, From) else np.inf
    inner = [point for point in (*cuts, entered) if start < point < np.inf]
    knots = np.unique(np.concatenate([[start], inner, times]))
    width = np.diff(knots)
    rate = hazard[:, interval_of(knots[1:], cuts)]
    rate = np.where(knots[:-1] >= entered, rate * ratio[:, None], rate)
    total = np.concatenate(
        [np.zeros((hazard.shape[0], 1)), np.cumsum(rate * width, axis=1)], axis=1
    )
    return np.asarray(total[:, np.searchsorted(knots, times)])


def _average(cumulative: Floats, relative: Floats, weight: Floats) -> Floats:
    """Average exp(-cumulative x relative) over patterns; (draws, time) from (draws, pattern)."""
    draws, times = cumulative.shape
    out = np.empty((draws, times))
    step = max(1, BLOCK // (times * weight.size))
    for first in range(0, draws, step):
        rows = slice(first, first + step)
        each = np.multiply(cumulative[rows, :, None], -relative[rows, None, :])
        np.exp(each, out=each)
        # Weights add up to 1 only within rounding; survival at the landmark is exactly 1.
        out[rows] = np.where(cumulative[rows] == 0, 1.0, each @ weight)
    return out


def _landmark(fit: Fit, landmark: float | None) -> float:
    if landmark is None:
        landmark = fit.question.landmark
    if landmark is None:
        begin = fit.exposure.people["begin"].values
        return float(np.nanmedian(begin))
    if not 0 <= landmark < np.inf:
        raise EstimandError(f"landmark must be a time from 0 on, got {landmark!r}.")
    return float(landmark)


def _attributes(fit: Fit) -> dict[str, object]:
    return {
        "model": fit.definition.name,
        "converged": int(fit.converged),
        "synthetic": int(fit.exposure.synthetic),
    }
