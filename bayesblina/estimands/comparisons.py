"""Estimates compared between regimes: differences, ratios, numbers needed to treat."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from bayesblina.core.errors import EstimandError, require_choice, require_kind
from bayesblina.estimands.averages import (
    Averages,
    changes_of,
    collect,
    described,
    in_blocks,
    require_horizon,
)
from bayesblina.estimands.curves import survival
from bayesblina.estimands.populations import Population
from bayesblina.estimands.regimes import Never, Regime
from bayesblina.inference.fitting import Fit

NEVER = Never()
NODES = 5


def contrast(
    estimate: xr.Dataset,
    regime: Regime,
    against: Regime,
    *,
    kind: Literal["difference", "ratio"] = "difference",
) -> xr.Dataset:
    """Compare an estimate between two regimes, draw by draw.

    Parameters
    ----------
    estimate
        What one of the estimand functions gives for both regimes.
    regime, against
        The regimes; the result is the first less, or over, the second.
    kind
        ``"difference"`` or ``"ratio"``.

    Returns
    -------
    xarray.Dataset
        ``<variable>_difference`` or ``<variable>_ratio``, without the regime.

    Raises
    ------
    EstimandError
        If the estimate has no such regimes, is a quantile that some draws do not reach, or, for a
        ratio, is 0 under the second.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> both = [bb.From(8.0), bb.Never()]
    >>> gain = bb.contrast(bb.rmst(fit, horizon=24.0, regimes=both, landmark=8.0), *both)
    >>> list(gain.data_vars)
    ['rmst_difference']
    """
    require_kind(estimate, xr.Dataset, "estimate")
    require_kind(regime, Regime, "regime")
    require_kind(against, Regime, "against")
    require_choice(kind, ("difference", "ratio"), "kind", error=EstimandError)
    known = [str(label) for label in estimate["regime"].values] if "regime" in estimate.dims else []
    for label in (regime.label, against.label):
        if label not in known:
            raise EstimandError(
                f"The estimate has no regime '{label}'; it has {', '.join(known) or 'none'}."
            )
    if "reached" in estimate and not bool(estimate["reached"].all()):
        share = 1.0 - float(estimate["reached"].mean())
        raise EstimandError(
            f"{share:.1%} of the draws do not reach the quantile by {estimate.attrs['horizon']:g}: "
            "its difference is not known there. Compare survival at a time, or rmst."
        )
    name = next(iter(estimate.data_vars))
    first, second = (estimate[name].sel(regime=side.label, drop=True) for side in (regime, against))
    if kind == "ratio" and bool((second == 0).any()):
        raise EstimandError(f"{name} is 0 under '{against.label}' in some draws: no ratio.")
    return xr.Dataset(
        {f"{name}_{kind}": first - second if kind == "difference" else first / second},
        attrs={**estimate.attrs, "regime": regime.label, "against": against.label},
    )


def number_needed_to_treat(
    fit: Fit,
    *,
    time: float,
    regime: Regime,
    against: Regime = NEVER,
    landmark: float | None = None,
    population: Population | None = None,
    mass: float = 0.95,
) -> xr.Dataset:
    """Patients to treat so that one more is event-free at a time.

    It is 1 over the difference of survival. The difference may be 0, so the number has neither a
    mean nor an interval of its own: what is reported are the ends of the difference's interval,
    turned over. An interval of the difference that includes 0 makes one of the number that runs
    through infinity, from benefit to harm.

    Parameters
    ----------
    fit, landmark, population
        As for `survival`.
    time
        Time from the origin, after the landmark.
    regime, against
        The regimes compared.
    mass
        Probability of the central interval.

    Returns
    -------
    xarray.Dataset
        ``survival_difference`` over (chain, draw, endpoint); and over endpoint
        ``number_needed_to_treat`` (1 over the median difference; negative for harm),
        ``number_at_lower`` and ``number_at_upper`` (1 over the ends of the difference's interval;
        the first negative and the second positive where it includes 0),
        ``probability_of_benefit`` and ``statement``, all of it in words.

    Raises
    ------
    EstimandError
        As for `survival`; or if the time is not after the landmark, the regimes do not differ by
        then, or `mass` is impossible.

    Notes
    -----
    Altman (1998), doi:10.1136/bmj.317.7168.1309, for intervals through infinity.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> needed = bb.number_needed_to_treat(fit, time=24.0, regime=bb.From(8.0), landmark=8.0)
    >>> float(needed["number_needed_to_treat"].sel(endpoint="os")) > 1
    True
    """
    if not 0 < mass < 1:
        raise EstimandError(f"mass must lie between 0 and 1, got {mass!r}.")
    curves = survival(
        fit, regimes=[regime, against], times=[time], landmark=landmark, population=population
    )
    difference = contrast(curves, regime, against)["survival_difference"].isel(time=0, drop=True)
    if not bool((difference != 0).any()):
        raise EstimandError(
            f"'{regime.label}' and '{against.label}' do not differ by {time:g}: there is no number "
            "needed to treat. Ask for a later time."
        )
    over = ("chain", "draw")
    tail = (1.0 - mass) / 2.0
    lower, middle, upper = (
        difference.quantile(part, over).drop_vars("quantile") for part in (tail, 0.5, 1.0 - tail)
    )
    statements = [
        _statement(*ends, mass)
        for ends in zip(
            middle.values.tolist(), lower.values.tolist(), upper.values.tolist(), strict=True
        )
    ]
    with np.errstate(divide="ignore"):
        return xr.Dataset(
            {
                "survival_difference": difference,
                "number_needed_to_treat": 1.0 / middle,
                "number_at_lower": 1.0 / lower,
                "number_at_upper": 1.0 / upper,
                "probability_of_benefit": (difference > 0).mean(over),
                "statement": ("endpoint", statements),
            },
            attrs={
                **curves.attrs,
                "time": float(time),
                "regime": regime.label,
                "against": against.label,
                "mass": mass,
            },
        )


def average_hazard_ratio(
    fit: Fit,
    *,
    regime: Regime,
    against: Regime = NEVER,
    landmark: float | None = None,
    horizon: float | None = None,
    population: Population | None = None,
) -> xr.Dataset:
    """Marginal hazard ratio between two regimes, averaged over the events of both, by draw.

    The hazards are those of `hazard`: of the patients still event-free, so that their ratio varies
    over time even where a model's own ratios do not, and in an illness-death model has no other
    form. Its logarithm is averaged over time with the mean of the two regimes' event densities.

    Parameters
    ----------
    fit, landmark, population
        As for `survival`.
    regime, against
        The regimes compared.
    horizon
        End of the average; by default that of follow-up.

    Returns
    -------
    xarray.Dataset
        ``hazard_ratio`` over (chain, draw, endpoint).

    Raises
    ------
    EstimandError
        As for `survival`; or if the horizon is not after the landmark and within follow-up.

    Notes
    -----
    Kalbfleisch and Prentice (1981), doi:10.1093/biomet/68.1.105. Between knots the integrals are
    those of a Gauss-Legendre rule of 5 points.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> fit = bb.fit(cohort, question, seed=1, progress=False)
    >>> ratio = bb.average_hazard_ratio(fit, regime=bb.From(8.0), landmark=8.0)
    >>> ratio["hazard_ratio"].dims
    ('chain', 'draw', 'endpoint')
    """
    both = [regime, against]

    def estimate(part: Fit, averages: Averages) -> xr.Dataset:
        start = averages.window.start
        end = averages.window.last if horizon is None else float(horizon)
        require_horizon(end, averages.window)
        entered = (time for side in both for time, _ in changes_of(part, side))
        inner = [*part.person_time.cuts, *entered]
        knots = np.unique([start, *(point for point in inner if start < point < end), end])
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        width = np.diff(knots)[:, None]
        times = (knots[:-1, None] + width * (nodes + 1.0) / 2.0).ravel()
        spread = xr.DataArray((width * weights / 2.0).ravel(), dims="time")
        hazards = collect(part, averages, lambda average: average.hazard(times), ("time",))
        alive = collect(part, averages, lambda average: average.survival(times), ("time",))
        weight: xr.DataArray = (hazards * alive).mean("regime") * spread
        logs: xr.DataArray = xr.apply_ufunc(np.log, hazards)
        log_ratio: xr.DataArray = logs.isel(regime=0, drop=True) - logs.isel(regime=1, drop=True)
        average: xr.DataArray = (log_ratio * weight).sum("time") / weight.sum("time")
        return described(
            part,
            {"hazard_ratio": xr.apply_ufunc(np.exp, average)},
            averages,
            horizon=end,
            exposed=regime.label,
            reference=against.label,
        )

    return in_blocks(fit, estimate, regimes=both, landmark=landmark, population=population, by=None)


def _statement(middle: float, lower: float, upper: float, mass: float) -> str:
    def worded(difference: float) -> str:
        if difference == 0:
            return "infinity"
        return f"{'benefit' if difference > 0 else 'harm'} {1.0 / abs(difference):.3g}"

    first, last = sorted([lower, upper], key=abs, reverse=True)
    ends = [upper, 0.0, lower] if lower < 0 < upper else [first, last]
    interval = " to ".join(map(worded, ends))
    return f"{worded(middle)} ({mass:.0%} interval {interval})"
