"""Classical companions of the Bayesian answer: Mantel-Byar and Simon-Makuch.

Both let a patient change groups when the phase changes, so both are free of immortal time. All
numbers come from the same episodes as the models, and none depends on the time unit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from bayesblina.cohort import Cohort
from bayesblina.errors import SpecError
from bayesblina.follow_up import Episodes, find_episodes, roles_of
from bayesblina.question import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LABEL = (
    "The Mantel-Byar odds ratio approximates the hazard ratio; Peto's one-step estimate is less "
    "biased than Pike's where membership varies with time."
)


def mantel_byar(cohort: Cohort, question: Question) -> xr.Dataset:
    """Compare exposed with reference by the Mantel-Byar test.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.

    Returns
    -------
    xarray.Dataset
        Over endpoint: ``observed``, ``expected``, ``observed_reference``, ``expected_reference``,
        ``variance``, ``chi2`` (one degree of freedom), ``p_value``, ``peto_odds_ratio`` with
        ``peto_lower`` and ``peto_upper`` (95 %), ``pike_odds_ratio``. NaN where there is no
        event time with both groups at risk.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort.

    Notes
    -----
    Mantel and Byar (1974), doi:10.2307/2285644. It is the score test of the Cox model with the
    phase as a time-varying covariate.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> bool((bb.mantel_byar(cohort, question)["peto_odds_ratio"] < 1).all())
    True
    """
    columns: dict[str, list[float]] = {}
    episodes = find_episodes(cohort, question)
    for found in episodes.values():
        for name, value in _mantel_byar(found, question).items():
            columns.setdefault(name, []).append(value)
    return xr.Dataset(
        {name: ("endpoint", values) for name, values in columns.items()},
        coords={"endpoint": list(episodes)},
        attrs={"note": LABEL, "synthetic": int(cohort.synthetic)},
    )


def _mantel_byar(found: Episodes, question: Question) -> dict[str, float]:
    exposed, reference = _groups(found, question)
    times = np.unique(found.stop[found.event & (exposed | reference)])
    at_risk = [_at_risk(found, rows, times) for rows in (exposed, reference)]
    events = [_events_at(found, rows, times) for rows in (exposed, reference)]
    n, d = at_risk[0] + at_risk[1], events[0] + events[1]
    share = at_risk[0] / n
    rest = np.divide(n - d, n - 1, out=np.zeros(n.size), where=n > 1)
    variance = float((d * share * (1 - share) * rest).sum())
    observed, expected = float(events[0].sum()), float((d * share).sum())
    other, other_expected = float(events[1].sum()), float((d * (1 - share)).sum())
    excess = observed - expected
    comparable = variance > 0
    nan = float("nan")
    log_ratio = excess / variance if comparable else nan
    half = float(norm.isf(0.025)) / np.sqrt(variance) if comparable else nan
    statistic = excess**2 / variance if comparable else nan
    pike = nan
    if other > 0 and expected > 0 and other_expected > 0:
        pike = (observed / expected) / (other / other_expected)
    return {
        "observed": observed,
        "expected": expected,
        "observed_reference": other,
        "expected_reference": other_expected,
        "variance": variance,
        "chi2": statistic,
        "p_value": float(chi2.sf(statistic, 1)),
        "peto_odds_ratio": float(np.exp(log_ratio)),
        "peto_lower": float(np.exp(log_ratio - half)),
        "peto_upper": float(np.exp(log_ratio + half)),
        "pike_odds_ratio": pike,
    }


def simon_makuch(
    cohort: Cohort,
    question: Question,
    *,
    landmark: float | None = None,
    minimum_at_risk: int = 1,
    mass: float = 0.95,
) -> pd.DataFrame:
    """Survival curves of the exposed and the reference group by Simon and Makuch.

    At each event time the patients at risk in a group are those who are in its phase just before;
    changing phase is neither event nor censoring error.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    landmark
        Where the curves start: survival is given event-free there. By default the question's
        landmark, else the start of observation. Other than the question's, it leaves nobody out
        who comes under observation later.
    minimum_at_risk
        Events of a group are not counted until its risk set has once reached this size: while
        it is tiny a single event can send the curve to 0 for good. 1 counts all.
    mass
        Probability of the pointwise confidence band (Greenwood, on the log-log scale).

    Returns
    -------
    pandas.DataFrame
        Columns ``endpoint``, ``group`` (the exposed phase, and ``no <phase>`` or the reference),
        ``time``, ``survival``, ``lower``, ``upper`` (NaN where Greenwood's variance is
        undefined: at survival 1 or 0), ``at_risk`` (just before the time), ``events``. Each
        group starts with a row at the start of the curve; further rows are its event times and
        the end of its follow-up.

    Raises
    ------
    SpecError
        If the question cannot be asked of the cohort, or an argument is impossible.

    Notes
    -----
    Simon and Makuch (1984), doi:10.1002/sim.4780030106.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> sorted(bb.simon_makuch(cohort, question, landmark=8.0)["group"].unique())
    ['maintenance', 'no maintenance']
    """
    if not 0 < mass < 1:
        raise SpecError(f"mass must lie between 0 and 1, got {mass!r}.")
    if minimum_at_risk < 1:
        raise SpecError(f"minimum_at_risk must be at least 1, got {minimum_at_risk!r}.")
    begin = question.landmark if landmark is None else landmark
    if begin is not None and not 0 <= begin < np.inf:
        raise SpecError(f"landmark must be a time from 0 on, got {begin!r}.")
    tables = []
    for name, found in find_episodes(cohort, question).items():
        after = found.stop > (-np.inf if begin is None else begin)
        for label, group in zip(_labels(question), _groups(found, question), strict=True):
            rows = group & after
            if rows.any():
                curve = _product_limit(found, rows, begin, minimum_at_risk, mass)
                tables.append(curve.assign(endpoint=name, group=label))
    columns = ["endpoint", "group", "time", "survival", "lower", "upper", "at_risk", "events"]
    if not tables:
        return pd.DataFrame(columns=columns)
    result = pd.concat(tables, ignore_index=True)[columns]
    result.attrs["synthetic"] = cohort.synthetic
    return result


def _product_limit(
    found: Episodes, rows: Bools, begin: float | None, minimum: int, mass: float
) -> pd.DataFrame:
    if begin is None:
        begin = float(found.start[rows].min())
    times = np.unique(found.stop[found.event & rows])
    at_risk = _at_risk(found, rows, times)
    events = _events_at(found, rows, times)
    counted = np.maximum.accumulate(at_risk) >= minimum if times.size else np.zeros(0, dtype=bool)
    times, at_risk, events = times[counted], at_risk[counted], events[counted]
    survival = np.cumprod(1.0 - events / at_risk)
    left = at_risk - events
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(events / (at_risk * np.where(left > 0, left, 0).astype(float)))
        width = norm.isf((1.0 - mass) / 2.0) * np.sqrt(greenwood) / np.abs(np.log(survival))
        lower = survival ** np.exp(width)
        upper = survival ** np.exp(-width)
    defined = (survival > 0) & (survival < 1) & np.isfinite(greenwood)
    lower, upper = np.where(defined, lower, np.nan), np.where(defined, upper, np.nan)
    end = float(found.stop[rows].max())
    last = survival[-1] if survival.size else 1.0
    tail = end > (times[-1] if times.size else begin)
    nan = np.full(1, np.nan)

    def join(first: ArrayLike, middle: ArrayLike, final: ArrayLike) -> NDArray[np.float64]:
        parts = [np.atleast_1d(first), np.asarray(middle)]
        return np.concatenate([*parts, np.atleast_1d(final)] if tail else parts)

    return pd.DataFrame(
        {
            "time": join(begin, times, end),
            "survival": join(1.0, survival, last),
            "lower": join(nan, lower, lower[-1] if lower.size else nan),
            "upper": join(nan, upper, upper[-1] if upper.size else nan),
            "at_risk": join(
                _occupancy(found, rows, np.array([begin])),
                at_risk,
                _at_risk(found, rows, np.array([end])),
            ).astype(np.int64),
            "events": join(0, events, 0).astype(np.int64),
        }
    )


def numbers_at_risk(cohort: Cohort, question: Question, times: ArrayLike) -> pd.DataFrame:
    """Count the patients at risk in each group, by current phase.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    times : array_like, shape (time,)
        Times at which to count.

    Returns
    -------
    pandas.DataFrame
        Columns ``endpoint``, ``group``, ``time``, ``at_risk``: the patients under observation in
        the group's phase just after the time.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> list(bb.numbers_at_risk(cohort, question, [12.0]).columns)
    ['endpoint', 'group', 'time', 'at_risk']
    """
    grid = np.asarray(times, dtype=np.float64)
    tables = [
        pd.DataFrame(
            {
                "endpoint": name,
                "group": label,
                "time": grid,
                "at_risk": _occupancy(found, rows, grid),
            }
        )
        for name, found in find_episodes(cohort, question).items()
        for label, rows in zip(_labels(question), _groups(found, question), strict=True)
    ]
    return pd.concat(tables, ignore_index=True)


def median_time(curve: pd.DataFrame) -> float | None:
    """Read the median off a step curve.

    Parameters
    ----------
    curve
        Rows of one endpoint and group of `simon_makuch`.

    Returns
    -------
    float or None
        First time at which survival is at most one half; None if that is not reached.
    """
    reached = curve.loc[curve["survival"] <= 0.5, "time"]
    return None if reached.empty else float(reached.iloc[0])


def _labels(question: Question) -> tuple[str, str]:
    return question.exposed, question.reference or f"no {question.exposed}"


def _groups(found: Episodes, question: Question) -> tuple[Bools, Bools]:
    """Rows of the exposed and of the reference group; other states belong to neither."""
    role = np.asarray(roles_of(found.phases, question))[found.phase]
    return role == "exposed", role == "reference"


def _at_risk(found: Episodes, rows: Bools, times: Floats) -> Ints:
    """Count episodes with start < time <= stop."""
    started = np.searchsorted(np.sort(found.start[rows]), times, side="left")
    stopped = np.searchsorted(np.sort(found.stop[rows]), times, side="left")
    return np.asarray(started - stopped, dtype=np.int64)


def _occupancy(found: Episodes, rows: Bools, times: Floats) -> Ints:
    """Count episodes with start <= time < stop."""
    started = np.searchsorted(np.sort(found.start[rows]), times, side="right")
    stopped = np.searchsorted(np.sort(found.stop[rows]), times, side="right")
    return np.asarray(started - stopped, dtype=np.int64)


def _events_at(found: Episodes, rows: Bools, times: Floats) -> Ints:
    """Count events at each of the times."""
    happened = found.stop[found.event & rows]
    position = np.searchsorted(times, happened)
    return np.bincount(position, minlength=times.size).astype(np.int64)
