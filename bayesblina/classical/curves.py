"""Product limits, Simon-Makuch curves and numbers at risk, from the same episodes as the models.

By Simon and Makuch a patient changes groups when the phase changes: no time is immortal. Nothing
here depends on the time unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.classical.comparison import Comparison, levels_of_patients
from bayesblina.core.errors import (
    SpecError,
    require_choice,
    require_kind,
    require_number,
    require_seed,
)
from bayesblina.core.intervals import snap, snap_to
from bayesblina.core.product_limit import (
    bootstrap_band,
    count_at_risk,
    product_limit,
    sum_of_hazards,
)
from bayesblina.patients.cohort import Cohort
from bayesblina.person_time.cells import valid_weights
from bayesblina.person_time.question import Question


def simon_makuch(
    cohort: Cohort,
    question: Question,
    *,
    landmark: float | None = None,
    weights: ArrayLike | None = None,
    minimum_at_risk: int = 1,
    mass: float = 0.95,
    band: Literal["greenwood", "bootstrap"] = "greenwood",
    seed: int | None = None,
    replicates: int = 1000,
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
    weights : array_like, shape (patient,), optional
        Weights of the cohort's patients, in its order or as a pandas Series whose index holds the
        ids, such as those of `bayesblina.weighting.starting_weights`: risk sets and events are then
        sums of weights, and so are ``at_risk`` and ``events``.
    minimum_at_risk
        Events of a group are not counted until its risk set has once reached this size: while
        it is tiny a single event can send the curve to 0 for good. 1 counts all.
    mass
        Probability of the pointwise confidence band.
    band
        ``"greenwood"`` (on the log-log scale; with weights for risk sets of their effective sizes)
        or ``"bootstrap"`` (percentiles over replicates in which whole patients, with all their
        changes of group and pieces, are drawn again). Neither knows how weights were estimated.
    seed, replicates
        Seed and number of the bootstrap's replicates.

    Returns
    -------
    pandas.DataFrame
        Columns ``endpoint``, ``group`` (the exposed phase, and ``no <phase>`` or the reference),
        ``time``, ``survival``, ``lower``, ``upper`` (NaN at survival 1 or 0, where Greenwood's
        variance is undefined), ``at_risk`` (just before the time), ``events``. Each
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
    return simon_makuch_of(
        Comparison.of(cohort, question),
        landmark=landmark,
        weights=weights,
        minimum_at_risk=minimum_at_risk,
        mass=mass,
        band=band,
        seed=seed,
        replicates=replicates,
    )


def simon_makuch_of(
    comparison: Comparison,
    *,
    landmark: float | None = None,
    weights: ArrayLike | None = None,
    minimum_at_risk: int = 1,
    mass: float = 0.95,
    band: Literal["greenwood", "bootstrap"] = "greenwood",
    seed: int | None = None,
    replicates: int = 1000,
) -> pd.DataFrame:
    """Draw up the curves of `simon_makuch` for a comparison."""
    cohort, question = comparison.cohort, comparison.question
    asked = question.landmark if landmark is None else landmark
    _check(asked, minimum_at_risk, mass, question)
    require_choice(band, ("greenwood", "bootstrap"), "band")
    if band == "bootstrap" and (seed is None or replicates < 2):
        raise SpecError("A bootstrap band needs a seed, and replicates of at least 2.")
    if seed is not None:
        require_seed(seed)
    tables = []
    weight = valid_weights(weights, cohort)
    person = np.arange(cohort.size) if cohort.persons is None else cohort.persons
    for name, episodes in comparison.episodes.items():
        known = np.concatenate([episodes.start, episodes.stop])
        begin = None if asked is None else snap_to(asked, known)
        after = episodes.stop > (-np.inf if begin is None else begin)
        for label, group in zip(comparison.labels, comparison.groups(episodes), strict=True):
            rows = group & after
            if not rows.any():
                continue
            times = (episodes.start[rows], episodes.stop[rows], episodes.event[rows])
            own = None if weight is None else weight[episodes.patient[rows]]
            curve = product_limit(
                *times, begin=begin, minimum=minimum_at_risk, mass=mass, weight=own
            )
            if band == "bootstrap":
                # The same patients are drawn for both groups: a replicate is a whole study.
                patients, who = np.unique(person[episodes.patient], return_inverse=True)
                lower, upper = bootstrap_band(
                    *times,
                    who[rows],
                    times=curve["time"].to_numpy()[1:],
                    patients=patients.size,
                    minimum=minimum_at_risk,
                    mass=mass,
                    generator=np.random.default_rng(seed),
                    replicates=replicates,
                    weight=own,
                )
                curve = curve.assign(lower=[1.0, *lower], upper=[1.0, *upper])
            tables.append(curve.assign(endpoint=name, group=label))
    return _join(tables, "survival", cohort)


def kaplan_meier(
    cohort: Cohort,
    *,
    by: str | None = None,
    landmark: float | None = None,
    weights: ArrayLike | None = None,
    minimum_at_risk: int = 1,
    mass: float = 0.95,
) -> pd.DataFrame:
    """Survival of all patients, or by a baseline covariate, by Kaplan and Meier.

    Patients are at risk from their entry on. Treatment phases and transplants play no part; for
    curves by phase see `simon_makuch`.

    Parameters
    ----------
    cohort
        The patients.
    by
        Categorical covariate: one curve for each of its levels.
    landmark
        Where the curves start: survival is given event-free there. By default the first entry.
    weights : array_like, shape (patient,), optional
        Weights of the cohort's patients, in its order or as a pandas Series whose index holds the
        ids, such as those of `bayesblina.weighting.starting_weights`: risk sets and events are then
        sums of weights, and so are ``at_risk`` and ``events``.
    minimum_at_risk, mass
        As for `simon_makuch`; the band is Greenwood's, on the log-log scale.

    Returns
    -------
    pandas.DataFrame
        The columns of `simon_makuch`; ``group`` is the level, or ``all``.

    Raises
    ------
    SpecError
        If the covariate is not a categorical one, or an argument is impossible.

    Notes
    -----
    Kaplan and Meier (1958), doi:10.1080/01621459.1958.10501452; with delayed entry Tsai, Jewell
    and Wang (1987), doi:10.1093/biomet/74.4.883.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> list(bb.kaplan_meier(cohort, by="age_group")["group"].unique())
    ['18-34', '35-54', '55+']
    """
    return _of_everybody(
        product_limit, "survival", cohort, by, landmark, weights, minimum_at_risk, mass
    )


def nelson_aalen(
    cohort: Cohort,
    *,
    by: str | None = None,
    landmark: float | None = None,
    weights: ArrayLike | None = None,
    minimum_at_risk: int = 1,
    mass: float = 0.95,
) -> pd.DataFrame:
    """Cumulative hazard of all patients, or by a baseline covariate, by Nelson and Aalen.

    Parameters
    ----------
    cohort, by, landmark, weights, minimum_at_risk
        As for `kaplan_meier`.
    mass
        Probability of the pointwise confidence band (Aalen's variance, on the log scale).

    Returns
    -------
    pandas.DataFrame
        Columns ``endpoint``, ``group``, ``time``, ``cumulative_hazard``, ``lower``, ``upper``
        (NaN before the first event), ``at_risk``, ``events``.

    Raises
    ------
    SpecError
        As for `kaplan_meier`.

    Notes
    -----
    Aalen (1978), doi:10.1214/aos/1176344198.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> "cumulative_hazard" in bb.classical.nelson_aalen(cohort)
    True
    """
    return _of_everybody(
        sum_of_hazards, "cumulative_hazard", cohort, by, landmark, weights, minimum_at_risk, mass
    )


def _check(
    begin: float | None,
    minimum_at_risk: int = 1,
    mass: float = 0.5,
    question: Question | None = None,
) -> None:
    landmark = 0.0 if begin is None else require_number(begin, "landmark")
    for possible, words in (
        (0 < mass < 1, f"mass must lie between 0 and 1, got {mass!r}."),
        (minimum_at_risk >= 1, f"minimum_at_risk must be at least 1, got {minimum_at_risk!r}."),
        (0 <= landmark < np.inf, f"landmark must be a time from 0 on, got {begin!r}."),
    ):
        if not possible:
            raise SpecError(words)
    if question is not None:
        question.require_landmark(begin)


def _of_everybody(
    estimate: Callable[..., pd.DataFrame],
    value: str,
    cohort: Cohort,
    by: str | None,
    landmark: float | None,
    weights: ArrayLike | None,
    minimum_at_risk: int,
    mass: float,
) -> pd.DataFrame:
    """Estimate a step curve of the patients of each endpoint and group that has any."""
    require_kind(cohort, Cohort, "cohort")
    _check(landmark, minimum_at_risk, mass)
    weight = valid_weights(weights, cohort)
    number, labels = levels_of_patients(cohort, [] if by is None else [by])
    tables = []
    for name, endpoint in cohort.endpoints.items():
        entry, time = snap([endpoint.entry, endpoint.time])
        begin = -np.inf if landmark is None else snap_to(landmark, np.concatenate([entry, time]))
        used = ~np.isnan(entry) & (time > begin)
        for index, label in enumerate(labels):
            rows = used & (number == index)
            if rows.any():
                curve = estimate(
                    entry[rows],
                    time[rows],
                    endpoint.event[rows],
                    begin=landmark,
                    minimum=minimum_at_risk,
                    mass=mass,
                    weight=None if weight is None else weight[rows],
                )
                tables.append(curve.assign(endpoint=name, group=label or "all"))
    return _join(tables, value, cohort)


def _join(tables: list[pd.DataFrame], value: str, cohort: Cohort) -> pd.DataFrame:
    columns = ["endpoint", "group", "time", value, "lower", "upper", "at_risk", "events"]
    if not tables:
        return pd.DataFrame(columns=columns)
    result = pd.concat(tables, ignore_index=True)[columns]
    result.attrs["synthetic"] = cohort.synthetic
    return result


def numbers_at_risk(
    cohort: Cohort, question: Question, times: ArrayLike, *, landmark: float | None = None
) -> pd.DataFrame:
    """Count the patients at risk in each group, by current phase.

    Who has the event at a time is still counted then, as in every table below a survival curve. At
    the start of the curve, before which nobody is looked at, those are counted who are under
    observation just after it.

    Parameters
    ----------
    cohort
        The patients.
    question
        Who is compared.
    times : array_like, shape (time,)
        Times at which to count.
    landmark
        Where the curve starts; by default the question's landmark, else 0.

    Returns
    -------
    pandas.DataFrame
        Columns ``endpoint``, ``group``, ``time``, ``at_risk``: the patients in the group's phase
        with start < time <= stop.

    Raises
    ------
    SpecError
        If the times are no numbers, one lies before the curve's start, or the question cannot be
        asked of the cohort.

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
    return numbers_at_risk_of(Comparison.of(cohort, question), times, landmark=landmark)


def numbers_at_risk_of(
    comparison: Comparison, times: ArrayLike, *, landmark: float | None = None
) -> pd.DataFrame:
    """Count the patients at risk in a comparison, as `numbers_at_risk` does."""
    try:
        grid = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        raise SpecError(f"times must be numbers, got {times!r}.") from None
    if grid.ndim != 1:
        raise SpecError(f"times must be a flat sequence of numbers, got {times!r}.")
    begin = comparison.question.landmark if landmark is None else landmark
    _check(begin, question=comparison.question)
    begin = 0.0 if begin is None else float(begin)
    if (grid < begin).any():
        raise SpecError(f"times must not lie before {begin:g}, where the curve starts.")
    tables = []
    for name, episodes in comparison.episodes.items():
        known = np.concatenate([episodes.start, episodes.stop])
        here = np.array([snap_to(time, known) for time in grid])
        first = here <= snap_to(begin, known)
        for label, rows in zip(comparison.labels, comparison.groups(episodes), strict=True):
            start, stop = episodes.start[rows], episodes.stop[rows]
            count = np.where(
                first,
                count_at_risk(start, stop, here, just="after"),
                count_at_risk(start, stop, here),
            )
            tables.append(
                pd.DataFrame({"endpoint": name, "group": label, "time": grid, "at_risk": count})
            )
    return pd.concat(tables, ignore_index=True)


def median_time(curve: pd.DataFrame) -> float:
    """Read the median off a step curve.

    First time at which survival is at most one half; infinite if that is not reached.
    """
    # The product of the steps may miss one half by a rounding error.
    reached = curve.loc[curve["survival"] <= 0.5 * (1 + 1e-9), "time"]
    return np.inf if reached.empty else float(reached.iloc[0])
