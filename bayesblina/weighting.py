"""Confounding by indication: weights from a model of who starts the exposed phase, and when.

Patients who start maintenance differ from those who do not, and what they are like when they start
may also decide how they fare. A model of the hazard of starting, given covariates that may change
over time, gives every moment of follow-up the weight that it would need if starting did not depend
on them. Weighted follow-up is a cohort of pieces, each with one weight, so that the exposure and
the hazard models take it as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from bayesblina.cohort import Cohort, Covariate, Outcome
from bayesblina.errors import DataError, Problem, SpecError, nearest
from bayesblina.follow_up import find_episodes
from bayesblina.intervals import split, validate_cuts
from bayesblina.question import ENTRY, Question
from bayesblina.tables import build as tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Regular points at which follow-up is cut, so that weights are almost constant in between.
POINTS = 80
START_INTERVALS = 4
NEWTON_STEPS = 60
# Keeps a covariate that decides everything from having no finite estimate.
RIDGE = 1e-4
CAVEAT = (
    "a fit with these weights is a weighted pseudo-posterior: it takes the weights for known and "
    "the pieces of a patient for independent, so that its spread is not that of the estimate; and "
    "it corrects for the confounders in the model of starting only"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weighted:
    """Follow-up in pieces, each with its weight.

    Attributes
    ----------
    cohort
        One row per piece of a patient's follow-up, to be fitted with `weights`.
    weights : ndarray, shape (row,)
        Weights, after truncation.
    question
        The question to ask of the pieces.
    of : ndarray of int, shape (row,)
        Row of the original cohort that each piece belongs to.
    balance : pandas.DataFrame
        One row per covariate of the model of starting: ``covariate``, ``log_hazard_ratio`` of
        starting with its ``se``, and the standardised mean differences between patients who start
        and those at risk of starting in the same interval, ``unweighted`` and ``weighted``.
    summary : pandas.DataFrame
        One row: ``starts``, ``mean``, ``smallest`` and ``largest`` weight, ``truncated`` (share of
        the pieces) and ``effective_share``, what is left of the person-time's information:
        (sum of weights)^2 over the sum of squares, as a share.
    caveat
        What a fit with these weights is, in words.
    """

    cohort: Cohort
    weights: Floats
    question: Question
    of: Ints
    balance: pd.DataFrame
    summary: pd.DataFrame
    caveat: str = CAVEAT

    def __repr__(self) -> str:
        """Show counts, never patients."""
        row = self.summary.iloc[0]
        return (
            f"Weighted({np.unique(self.of).size} patients in {self.weights.size} pieces; "
            f"{row['starts']:.0f} starts; weights {row['smallest']:.2f} to {row['largest']:.2f}, "
            f"mean {row['mean']:.2f})"
        )

    def _repr_html_(self) -> str:
        balance = self.balance.copy()
        balance.attrs["synthetic"] = self.cohort.synthetic
        return tables.publish(balance, title=repr(self), notes=[self.caveat]).to_html()


def starting_weights(
    cohort: Cohort,
    question: Question,
    *,
    endpoint: str,
    confounders: Sequence[str] | None = None,
    history: pd.DataFrame | None = None,
    adjust: Sequence[str] = (),
    truncate: tuple[float, float] = (0.01, 0.99),
    cuts: ArrayLike | None = None,
) -> Weighted:
    """Weight follow-up by the inverse probability of starting the exposed phase when it was.

    The weights are stabilised: by what they would be if starting depended on time, and on the
    covariates in `adjust`, alone.

    Parameters
    ----------
    cohort
        The patients.
    question
        The question, of the exposed phase against all else, without a landmark and a lag.
    endpoint
        The endpoint; patients are at risk of starting while event-free for it.
    confounders
        Covariates of the cohort in the model of starting; by default all.
    history
        Covariates that change over time: columns ``patient``, ``time`` and one for each covariate
        (numbers), whose value holds from that time on. Every eligible patient needs values at or
        before becoming eligible.
    adjust
        Covariates that stay in the hazard model of the endpoint.
    truncate
        Shares of the pieces' weights beyond which they are set to the quantile; (0, 1) for none.
    cuts : array_like, shape (n_intervals - 1,), optional
        Times since becoming eligible at which the hazard of starting may change; by default
        quartiles of the starts.

    Returns
    -------
    Weighted
        Pieces, weights and balance: ``bb.fit(w.cohort, w.question, weights=w.weights, ...)``.

    Raises
    ------
    SpecError
        If an argument is impossible, or nobody starts while under observation.
    DataError
        If the history does not cover a patient.

    Notes
    -----
    Marginal structural models: Robins, Hernán and Brumback (2000),
    doi:10.1097/00001648-200009000-00011; in continuous time Røysland (2011), doi:10.3150/10-BEJ303.
    Truncation: Cole and Hernán (2008), doi:10.1093/aje/kwn164.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> weighted = bb.starting_weights(cohort, question, endpoint="os")
    >>> list(weighted.balance["covariate"])
    ['age_group[35-54]', 'age_group[55+]', 'prior_salvage[yes]', 'marrow_blasts']
    """
    course = _course(cohort, question, endpoint, confounders, history, adjust, cuts)
    every = _fit_starts(course, np.ones(len(course.names), dtype=bool))
    # Adjusted covariates are in both models, so that their part of the weights cancels.
    time_only = _fit_starts(course, course.kept)
    log_weight = _log_weights(course, every) - _log_weights(course, time_only)
    weights, truncated = _truncated(np.exp(log_weight), truncate)
    asked = replace(question, endpoints=(endpoint,), eligible_from=ENTRY, transplant=None)
    asked = replace(asked, phase_end=None, reference=None)
    start = np.where(course.started[course.patient], course.start[course.patient], np.nan)
    return _weighted(
        course,
        weights,
        truncated=truncated,
        fitted=every,
        question=asked,
        phase=question.exposed,
        phase_start=start,
        clock=np.zeros(course.patient.size),
        rows=np.arange(course.patient.size),
        balance_weights=weights,
    )


def clone_censor_weight(
    cohort: Cohort,
    question: Question,
    *,
    endpoint: str,
    grace: float,
    confounders: Sequence[str] | None = None,
    history: pd.DataFrame | None = None,
    adjust: Sequence[str] = (),
    truncate: tuple[float, float] = (0.01, 0.99),
    cuts: ArrayLike | None = None,
) -> Weighted:
    """Emulate a trial of starting within a grace period against never starting.

    Every eligible patient is in both arms, from becoming eligible on, until what is done departs
    from the arm; what is left is weighted by the inverse probability of not having departed. In
    the first arm the phase is started at a time that is uniform over the grace period, so that
    every start within it is as the arm has it.

    Parameters
    ----------
    cohort, question, endpoint, confounders, history, adjust, truncate, cuts
        As for `starting_weights`.
    grace
        Length of the grace period, from becoming eligible on.

    Returns
    -------
    Weighted
        Pieces of both arms' copies, on the time since becoming eligible; the exposed phase of its
        question is the first arm, from time 0 on. The balance is that of the copies that stay
        against those that depart by starting, in the second arm.

    Raises
    ------
    SpecError
        If an argument is impossible, or nobody starts within the grace period.
    DataError
        If the history does not cover a patient.

    Notes
    -----
    Cain et al. (2010), doi:10.2202/1557-4679.1212; Hernán (2018), doi:10.1136/bmj.k182.
    """
    if not 0 < grace < np.inf:
        raise SpecError(f"grace must be greater than 0 and finite, got {grace!r}.")
    course = _course(
        cohort, question, endpoint, confounders, history, adjust, cuts, points=[float(grace)]
    )
    every = _fit_starts(course, np.ones(len(course.names), dtype=bool))
    time_only = _fit_starts(course, course.kept)
    who, begun = course.patient, course.after
    since = course.start[who] - course.begin[who]
    middle = (course.since + course.until) / 2.0
    # Never: as long as nothing has been started.
    log_never = _log_weights(course, every) - _log_weights(course, time_only)
    never = np.flatnonzero(~begun & ~course.prevalent[who])
    # Within the grace period: the density of a uniform start over that of the start made.
    in_time = np.where(begun, since <= grace, course.until <= grace * (1 + 1e-12))
    starts = np.flatnonzero(in_time & ~course.prevalent[who])
    if not (begun & (since <= grace) & ~course.prevalent[who]).any():
        raise SpecError(f"Nobody starts {question.exposed} within {grace:g} of becoming eligible.")
    left = np.where(begun, 1.0 / grace, np.maximum(grace - middle, 0.0) / grace)
    with np.errstate(divide="ignore"):
        log_starts = np.log(left) + _log_weights(course, every)
    rows = np.concatenate([starts, never])
    log_weight = np.concatenate([log_starts[starts], log_never[never]])
    weights, truncated = _truncated(np.exp(log_weight), truncate)
    kept = weights > 0
    arm = np.concatenate([np.zeros(starts.size), np.full(never.size, np.nan)])
    balance = np.exp(log_never)
    asked = Question(exposed=f"{question.exposed} within {grace:g}", eligible_from=ENTRY)
    return _weighted(
        course,
        weights[kept],
        truncated=truncated,
        fitted=every,
        question=replace(asked, endpoints=(endpoint,)),
        phase=asked.exposed,
        phase_start=arm[kept],
        clock=course.begin[who[rows[kept]]],
        rows=rows[kept],
        balance_weights=balance,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Course:
    """Follow-up in pieces within which nothing changes; patients by their row in the cohort."""

    cohort: Cohort
    endpoint: str
    adjust: tuple[str, ...]
    # By patient of the cohort.
    begin: Floats
    start: Floats
    started: Bools
    prevalent: Bools
    # By piece: times on the cohort's clock, and since becoming eligible.
    patient: Ints
    first: Floats
    last: Floats
    since: Floats
    until: Floats
    after: Bools
    event: Bools
    interval: Ints
    intervals: int
    # Covariates of the model of starting, standardised; and which of them stay in the numerator.
    names: tuple[str, ...]
    values: Floats
    scale: Floats
    kept: Bools

    @property
    def at_risk(self) -> Bools:
        """Pieces in which the phase could be started."""
        return ~self.after & ~self.prevalent[self.patient]

    @property
    def starts(self) -> Bools:
        """Pieces at whose end it is."""
        return np.asarray(self.at_risk & (self.last == self.start[self.patient]))


def _course(
    cohort: Cohort,
    question: Question,
    endpoint: str,
    confounders: Sequence[str] | None,
    history: pd.DataFrame | None,
    adjust: Sequence[str],
    cuts: ArrayLike | None,
    *,
    points: Sequence[float] = (),
) -> _Course:
    for name, value in (("landmark", question.landmark), ("reference", question.reference)):
        if value is not None:
            raise SpecError(f"Weights are for a question without a {name}: leave it out.")
    if question.lag:
        raise SpecError("Weights are for a question without a lag: leave it out.")
    if question.transplant == "phase":
        raise SpecError("Weights know of no state after transplant: choose 'censor' or 'ignore'.")
    if endpoint not in cohort.endpoints:
        raise SpecError(f"No endpoint '{endpoint}'. {nearest(endpoint, list(cohort.endpoints))}")
    chosen = list(cohort.covariates) if confounders is None else list(confounders)
    for name in (*chosen, *adjust):
        if name not in cohort.covariates:
            known = list(cohort.covariates)
            raise SpecError(f"No covariate '{name}'. {nearest(name, known)}")
    chosen += [name for name in adjust if name not in chosen]
    found = find_episodes(cohort, replace(question, endpoints=(endpoint,)))[endpoint]
    size = cohort.size
    begin, end = np.full(size, np.nan), np.full(size, np.nan)
    died = np.zeros(size, dtype=bool)
    begin[found.patient[::-1]] = found.start[::-1]
    end[found.patient] = found.stop
    died[found.patient[found.event]] = True
    used = np.flatnonzero(np.isfinite(begin))
    index = cohort.phases.index(question.exposed)
    start = np.where(np.isnan(cohort.phase_start[:, index]), np.inf, cohort.phase_start[:, index])
    start = np.where(start < end, start, np.inf)
    prevalent = start <= begin
    started = np.isfinite(start)
    incident = used[started[used] & ~prevalent[used]]
    if not incident.size:
        raise SpecError(f"Nobody starts {question.exposed} while under observation.")
    since_start = start[incident] - begin[incident]
    if cuts is None:
        ranks = np.arange(1, START_INTERVALS) / START_INTERVALS
        quantiles = np.unique(np.quantile(since_start, ranks, method="inverted_cdf"))
        inner = quantiles[(quantiles > 0) & (quantiles < since_start.max())]
    else:
        inner = validate_cuts(cuts)
    changes = _history(cohort, history, used, begin)
    # Points at which something of a patient changes: entry, start, covariates.
    who = np.concatenate([used, incident, changes.patient])
    when = np.concatenate([begin[used], start[incident], changes.time])
    inside = (when >= begin[who]) & (when < end[who])
    who, when = who[inside], when[inside]
    order = np.lexsort((when, who))
    who, when = who[order], when[order]
    fresh = np.concatenate([[True], (np.diff(who) != 0) | (np.diff(when) > 0)])
    who, when = who[fresh], when[fresh]
    next_of = np.concatenate([who[1:] == who[:-1], [False]])
    stop = np.where(next_of, np.concatenate([when[1:], [0.0]]), end[who])
    longest = float((end[used] - begin[used]).max())
    grid = np.unique(np.concatenate([inner, points, np.linspace(0.0, longest, POINTS + 1)[1:-1]]))
    part, cell, length = split(when - begin[who], stop - begin[who], grid)
    patient = who[part]
    opens = np.concatenate([[0.0], grid])[cell]
    since = np.maximum(when[part] - begin[patient], opens)
    until = since + length
    # Ends are taken from the data where they are ends of the data, so that ties stay exact.
    final = np.concatenate([part[1:] != part[:-1], [True]])
    last = np.where(final, stop[part], begin[patient] + until)
    opening = np.concatenate([[True], part[1:] != part[:-1]])
    first = np.where(opening, when[part], np.concatenate([[0.0], last[:-1]]))
    names, values, kept = _covariates(cohort, chosen, adjust, changes, patient, first)
    after = first >= start[patient]
    mean = values[~after].mean(axis=0) if values.size else values.mean(axis=0)
    spread = values[~after].std(axis=0)
    constant = [name for name, sd in zip(names, spread, strict=True) if not sd > 0]
    if constant:
        raise SpecError(f"{constant[0]} is the same for everybody at risk: leave it out.")
    return _Course(
        cohort=cohort,
        endpoint=endpoint,
        adjust=tuple(adjust),
        begin=begin,
        start=start,
        started=started,
        prevalent=prevalent,
        patient=patient,
        first=first,
        last=last,
        since=since,
        until=until,
        after=after,
        event=died[patient] & (last == end[patient]),
        interval=np.searchsorted(inner, since, side="right"),
        intervals=inner.size + 1,
        names=names,
        values=(values - mean) / spread,
        scale=spread,
        kept=kept,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Changes:
    """Values of covariates that change over time, by patient and in the order of time."""

    names: tuple[str, ...]
    patient: Ints
    time: Floats
    values: Floats


def _history(cohort: Cohort, history: pd.DataFrame | None, used: Ints, begin: Floats) -> _Changes:
    if history is None:
        return _Changes(
            names=(), patient=np.empty(0, np.int64), time=np.empty(0), values=np.empty((0, 0))
        )
    names = tuple(str(name) for name in history.columns if name not in ("patient", "time"))
    if not {"patient", "time"} <= set(history.columns) or not names:
        raise SpecError("history needs the columns patient, time and at least one covariate.")
    clash = [name for name in names if name in cohort.covariates]
    if clash:
        raise SpecError(f"'{clash[0]}' is a covariate of the cohort and of the history.")
    row = {str(patient): index for index, patient in enumerate(cohort.patients)}
    ids = history["patient"].astype(str)
    unknown = ids[~ids.isin(row)]
    columns = history[["time", *names]].to_numpy(dtype=np.float64)
    wrong = ids[~np.isfinite(columns).all(axis=1)]
    problems = [
        Problem(
            column=column,
            patients=tuple(dict.fromkeys(patients)),
            found=found,
            expected=expected,
        )
        for column, patients, found, expected in (
            ("patient", unknown, "patients who are not in the cohort", "Leave them out."),
            (
                "time",
                wrong,
                "times or values that are missing or infinite",
                "Every row needs a time and a number for each covariate.",
            ),
        )
        if len(patients)
    ]
    if problems:
        raise DataError(problems, source="the history")
    patient = np.array([row[one] for one in ids], dtype=np.int64)
    order = np.lexsort((columns[:, 0], patient))
    patient, time, values = patient[order], columns[order, 0], columns[order, 1:]
    covered = np.zeros(cohort.size, dtype=bool)
    covered[patient[time <= begin[patient]]] = True
    missing = used[~covered[used]]
    if missing.size:
        raise DataError(
            [
                Problem(
                    column="time",
                    patients=tuple(str(one) for one in cohort.patients[missing]),
                    found="no values at or before the patient becomes eligible",
                    expected="Give every eligible patient a row at or before that time.",
                )
            ],
            source="the history",
        )
    return _Changes(names=names, patient=patient, time=time, values=values)


def _covariates(
    cohort: Cohort,
    chosen: Sequence[str],
    adjust: Sequence[str],
    changes: _Changes,
    patient: Ints,
    first: Floats,
) -> tuple[tuple[str, ...], Floats, Bools]:
    """Values of all covariates at the beginning of each piece, and which are adjusted for."""
    names: list[str] = []
    columns: list[Floats] = []
    kept: list[bool] = []
    for name in chosen:
        covariate = cohort.covariates[name]
        if covariate.kind == "continuous":
            names.append(name)
            columns.append(covariate.values[patient])
            kept.append(name in adjust)
            continue
        present = [
            level for level in range(len(covariate.levels)) if (covariate.values == level).any()
        ]
        for level in present[1:]:
            names.append(f"{name}[{covariate.levels[level]}]")
            columns.append((covariate.values[patient] == level).astype(np.float64))
            kept.append(name in adjust)
    if changes.names:
        # The last change at or before the piece begins, by one sorted key for patient and time.
        span = float(max(changes.time.max(), first.max())) + 1.0
        low = min(0.0, float(changes.time.min()))
        key = changes.patient * (2.0 * span) + (changes.time - low)
        place = np.searchsorted(key, patient * (2.0 * span) + (first - low), side="right") - 1
        names += changes.names
        columns += list(changes.values[place].T)
        kept += [False] * len(changes.names)
    if not names:
        raise SpecError("There are no confounders: name covariates, or give a history.")
    return tuple(names), np.stack(columns, axis=1), np.array(kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Starts:
    """A fitted model of the hazard of starting."""

    log_rate: Floats
    coefficient: Floats
    se: Floats


def _fit_starts(course: _Course, columns: Bools) -> _Starts:
    """Fit a piecewise-exponential model of starting: pooled over patients and their pieces."""
    rows = course.at_risk
    dummies = np.eye(course.intervals)[course.interval]
    # Intervals that nobody at risk reaches have no rate.
    reached = dummies[rows].sum(axis=0) > 0
    design = np.concatenate([dummies[:, reached], course.values[:, columns]], axis=1)
    time = (course.until - course.since)[rows]
    starts = course.starts[rows].astype(np.float64)
    inside = design[rows]
    point = np.zeros(design.shape[1])
    point[: int(reached.sum())] = np.log(starts.sum() / time.sum())
    penalty = np.zeros(point.size)
    penalty[int(reached.sum()) :] = RIDGE
    # Intervals without a start have a rate that is small, not 0.
    penalty[: int(reached.sum())] = RIDGE
    middle = point.copy()
    for _ in range(NEWTON_STEPS):
        expected = time * np.exp(np.clip(inside @ point, -50.0, 50.0))
        gradient = inside.T @ (starts - expected) - penalty * (point - middle)
        curvature = (inside * expected[:, None]).T @ inside + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        # Steps are held short, which keeps Newton's method from overshooting.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        point = point + step
        if np.abs(step).max() < 1e-10:
            break
    se = np.sqrt(np.diag(np.linalg.inv(curvature)))
    count = int(reached.sum())
    return _Starts(log_rate=design @ point, coefficient=point[count:], se=se[count:])


def _log_weights(course: _Course, fitted: _Starts) -> Floats:
    """Give by piece minus the log probability of not having started, or the log density of it."""
    hazard = np.where(course.at_risk, np.exp(fitted.log_rate) * (course.until - course.since), 0.0)
    opens = np.concatenate([[True], np.diff(course.patient) != 0])
    passed = np.cumsum(hazard)
    entry = (passed - hazard)[opens][np.cumsum(opens) - 1]
    # Pieces in which it could be started count from their middle.
    middle = passed - hazard / 2.0 - entry
    at_start = np.zeros(course.cohort.size)
    at_start[course.patient[course.starts]] = -fitted.log_rate[course.starts]
    return np.asarray(middle + np.where(course.after, at_start[course.patient], 0.0))


def _truncated(weights: Floats, shares: tuple[float, float]) -> tuple[Floats, float]:
    try:
        low, high = (float(one) for one in shares)
    except (TypeError, ValueError):
        raise SpecError(f"truncate must be two shares, got {shares!r}.") from None
    if not 0 <= low < high <= 1:
        raise SpecError(f"truncate must be two shares from 0 to 1 in order, got {shares!r}.")
    lower, upper = np.quantile(weights, [low, high])
    inside = np.clip(weights, lower, upper)
    return inside, float((inside != weights).mean())


def _weighted(
    course: _Course,
    weights: Floats,
    *,
    truncated: float,
    fitted: _Starts,
    question: Question,
    phase: str,
    phase_start: Floats,
    clock: Floats,
    rows: Ints,
    balance_weights: Floats,
) -> Weighted:
    """Make pieces patients of their own: each enters late, and leaves at its end."""
    of = course.patient[rows]
    cohort = course.cohort
    pieces = Cohort(
        patients=np.array([f"piece {index}" for index in range(rows.size)]),
        unit=cohort.unit,
        endpoints={
            course.endpoint: Outcome(
                time=course.last[rows] - clock,
                event=course.event[rows],
                entry=np.maximum(course.first[rows] - clock, 0.0),
                recorded=cohort.endpoints[course.endpoint].recorded,
            )
        },
        phases=(phase,),
        phase_start=np.where(phase_start >= course.last[rows] - clock, np.nan, phase_start)[
            :, None
        ],
        phase_end=np.full((rows.size, 1), np.nan),
        covariates={
            name: Covariate(
                kind=cohort.covariates[name].kind,
                values=cohort.covariates[name].values[of],
                levels=cohort.covariates[name].levels,
            )
            for name in course.adjust
        },
        synthetic=cohort.synthetic,
        source=cohort.source,
        persons=cohort.patients[of],
    )
    summary = pd.DataFrame(
        {
            "starts": [int(course.starts.sum())],
            "mean": [float(np.average(weights, weights=(course.until - course.since)[rows]))],
            "smallest": [float(weights.min())],
            "largest": [float(weights.max())],
            "truncated": [truncated],
            "effective_share": [_effective(weights, (course.until - course.since)[rows])],
        }
    )
    return Weighted(
        cohort=pieces,
        weights=weights,
        question=question,
        of=of,
        balance=_balance(course, fitted, balance_weights),
        summary=summary,
    )


def _effective(weights: Floats, time: Floats) -> float:
    return float((weights * time).sum() ** 2 / ((weights**2 * time).sum() * time.sum()))


def _balance(course: _Course, fitted: _Starts, weights: Floats) -> pd.DataFrame:
    """Compare who starts with who could have, interval by interval of the model of starting."""
    time = course.until - course.since
    risk, starts = course.at_risk, course.starts
    # The weight of a patient who starts is that after the start.
    beyond = np.zeros(course.cohort.size)
    later = course.after & (course.first == course.start[course.patient])
    beyond[course.patient[later]] = weights[later]
    columns = {}
    for name, risk_weight, start_weight in (
        ("unweighted", time[risk], np.ones(int(starts.sum()))),
        ("weighted", time[risk] * weights[risk], beyond[course.patient[starts]]),
    ):
        dims = (course.intervals, len(course.names))
        sums, total = np.zeros(dims), np.zeros(course.intervals)
        np.add.at(sums, course.interval[risk], risk_weight[:, None] * course.values[risk])
        np.add.at(total, course.interval[risk], risk_weight)
        means = np.divide(sums, total[:, None], out=np.zeros(dims), where=total[:, None] > 0)
        apart = course.values[starts] - means[course.interval[starts]]
        columns[name] = (start_weight[:, None] * apart).sum(axis=0) / start_weight.sum()
    return pd.DataFrame(
        {
            "covariate": list(course.names),
            "log_hazard_ratio": fitted.coefficient / course.scale,
            "se": fitted.se / course.scale,
            **columns,
        }
    )
