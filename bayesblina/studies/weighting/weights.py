"""Weights of follow-up: of who starts when it was, and of an emulated trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core import tables
from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.outcomes import Outcome
from bayesblina.person_time.question import ENTRY, Question
from bayesblina.studies.weighting.course import make_course
from bayesblina.studies.weighting.pieces import StartingCourse
from bayesblina.studies.weighting.starts import balance_of, balance_of_switches, log_weights

CAVEAT = (
    "a fit with these weights is a weighted pseudo-posterior: it takes the weights for known and "
    "the pieces of a patient for independent, so that its interval is not that of the estimate "
    "(weighted_effect gives that); and it corrects for the confounders in the model of starting "
    "only"
)
CAVEAT_OF_ARMS = (
    "; the arms share one baseline in such a fit, so that its curves are those of proportional "
    "hazards (weighted_effect gives each arm its own)"
)

CAVEAT_OF_LEAVING = (
    "; that patients leave the phase is taken to depend on nothing that tells what follows"
)
CAVEAT_OF_SWITCHES = (
    "; weights of leaving the phase and of entering it again take both to depend on time since the "
    "last change and on the confounders only"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Basis:
    """What weights are made of, so that they can be made again for other weights of the patients.

    `course`: follow-up in pieces.
    `rows`, shape (row,): pieces of the course; in an emulated trial some are in both arms.
    `exposed`, shape (row,): whether a row is exposed, or in the arm that starts.
    `begin`, `end`, shape (row,): ends of the row on the clock of the weighted cohort.
    `log_offset`, shape (row,): what is added to minus the log probability of not having started, or
    the log density.
    `stabilised`: whether the same of a model without the confounders is taken off.
    `lower`, `upper`, shape (row,): limits of the weights.
    `grace`: grace period of an emulated trial.
    """

    course: StartingCourse
    rows: Ints
    exposed: Bools
    begin: Floats
    end: Floats
    log_offset: Floats
    stabilised: bool
    lower: Floats
    upper: Floats
    grace: float | None

    @property
    def patient(self) -> Ints:
        """Row of the patient in the original cohort, shape (row,)."""
        return np.asarray(self.course.patient[self.rows])

    def weights(self, patients: Floats) -> Floats:
        """Fit the model of starting to weighted patients and give its weights.

        Result, shape (row, weighting): weights of the rows, not multiplied by those of the
        patients.
        """
        course = self.course
        logs = log_weights(course, np.ones(len(course.names), dtype=bool), patients, self.rows)
        if self.stabilised:
            # Adjusted covariates are in both models, so that their part of the weights cancels.
            logs -= log_weights(course, course.kept, patients, self.rows)
        logs += self.log_offset[:, None]
        weights = np.exp(logs, out=logs)
        if self.lower.any() or np.isfinite(self.upper).any():
            np.clip(weights, self.lower[:, None], self.upper[:, None], out=weights)
        return weights

    def only(self, rows: Ints) -> Basis:
        """Keep some of the rows."""
        names = ("rows", "exposed", "begin", "end", "log_offset", "lower", "upper")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


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
        the person-time) and ``effective_share``, what is left of the person-time's information:
        (sum of weights)^2 over the sum of squares, as a share. Where leaving is weighed, also
        ``stops`` and ``starts_again``.
    basis
        What the weights are made of: `weighted_effect` makes them again in every draw.
    caveat
        What a fit with these weights is, in words.
    """

    cohort: Cohort
    weights: Floats
    question: Question
    of: Ints
    balance: pd.DataFrame
    summary: pd.DataFrame
    basis: Basis
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
    covariates in `adjust`, alone. The hazard ratio of the weighted patients is that of the state
    patients are in, started against not started yet, if starting depended on nothing else.

    Parameters
    ----------
    cohort
        The patients.
    question
        The question, of the exposed phase against all else, without a landmark and a lag, by the
        measure ``"ever"`` or ``"current"``. With ``"ever"`` no later phase may be entered from it.
        With ``"current"`` patients who leave the phase are without it from then on. Where the phase
        starts and ends once, their weights stay those of having started, which is right where
        leaving depends on nothing that tells what follows. Of patients who are known by stays, or
        of several exposed phases, weights are of leaving, too, and of entering again: hazards of
        both by time since the last change and the confounders, as that of starting is by time since
        becoming eligible.
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
        Shares of the person-time's weights beyond which they are set to the quantile; (0, 1) for
        none.
    cuts : array_like, shape (n_intervals - 1,), optional
        Times since becoming eligible at which the hazard of starting may change; by default
        quartiles of the starts.

    Returns
    -------
    Weighted
        Pieces, weights and balance: ``bb.fit(w.cohort, w.question, weights=w.weights, ...)`` gives
        the middle of the estimate, ``bb.weighting.weighted_effect(w, seed=1)`` also its interval.

    Raises
    ------
    SpecError
        If an argument is impossible, nobody starts while under observation, or patients leave the
        phase for a later one.
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
    >>> weighted = bb.weighting.starting_weights(cohort, question, endpoint="os")
    >>> list(weighted.balance["covariate"])
    ['age_group[35-54]', 'age_group[55+]', 'prior_salvage[yes]', 'marrow_blasts']
    """
    course = make_course(
        cohort,
        question,
        endpoint,
        confounders=confounders,
        history=history,
        adjust=adjust,
        cuts=cuts,
    )
    size = course.patient.size
    basis = Basis(
        course=course,
        rows=np.arange(size),
        exposed=course.inside,
        begin=course.first,
        end=course.last,
        log_offset=np.zeros(size),
        stabilised=True,
        lower=np.zeros(size),
        upper=np.full(size, np.inf),
        grace=None,
    )
    return _weighted(
        basis,
        truncate,
        question=Question(exposed=question.exposure, eligible_from=ENTRY, endpoints=(endpoint,)),
        phase_start=np.where(course.after & ~course.inside, np.inf, course.start[course.patient]),
        caveat=CAVEAT
        + (CAVEAT_OF_SWITCHES if course.switches else CAVEAT_OF_LEAVING if course.current else ""),
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
    truncate: tuple[float, float] = (0.0, 1.0),
    cuts: ArrayLike | None = None,
) -> Weighted:
    """Emulate a trial of starting within a grace period against never starting.

    Every eligible patient who has not started yet is in both arms, from becoming eligible on,
    until what is done departs from the arm; what is left is weighted by the inverse probability of
    not having departed. In the first arm the phase is started at a time that is uniform over the
    grace period, in those event-free then; a start made counts by the density of such starts over
    that of this one, and who waits by the share of starts still to come over the probability of
    waiting. In the second arm it is never started; who waits counts by the inverse probability of
    waiting. No weight is stabilised: each arm stands for all eligible patients, all the time.

    Parameters
    ----------
    cohort, question, endpoint, confounders, history, adjust, cuts
        As for `starting_weights`.
    grace
        Length of the grace period, from becoming eligible on.
    truncate
        Shares of the person-time's weights in each arm beyond which they are set to the quantile;
        by default none. Truncation narrows the interval, and brings part of the confounding back.

    Returns
    -------
    Weighted
        Pieces of both arms' copies, on the time since becoming eligible; the exposed phase of its
        question is the first arm, from time 0 on. ``bb.weighting.weighted_effect(w, seed=1)`` gives
        the curves of both arms, their differences, and the average hazard ratio. The balance is
        that of those who start against those who could have.

    Raises
    ------
    SpecError
        If an argument is impossible, nobody starts within the grace period, or patients leave the
        phase: for a later one, or where the question has phases end.
    DataError
        If the history does not cover a patient.

    Notes
    -----
    Cain et al. (2010), doi:10.2202/1557-4679.1212; Hernán (2018), doi:10.1136/bmj.k182; Maringe et
    al. (2020), doi:10.1093/ije/dyaa057.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> question = bb.Question(
    ...     exposed="maintenance", eligible_from="consolidation", transplant="censor"
    ... )
    >>> trial = bb.weighting.clone_censor_weight(cohort, question, endpoint="os", grace=6.0)
    >>> trial.question.exposure
    'maintenance within 6'
    """
    course = make_course(
        cohort,
        question,
        endpoint,
        confounders=confounders,
        history=history,
        adjust=adjust,
        cuts=cuts,
        grace=grace,
    )
    who, begun = course.patient, course.after
    # Never: as long as nothing has been started.
    never = np.flatnonzero(~begun & ~course.prevalent[who])
    # Within the grace period: the share of uniform starts to come, or their density.
    since = (course.start - course.begin)[who]
    in_time = np.where(begun, since <= grace, course.until <= grace * (1 + 1e-12))
    starts = np.flatnonzero(in_time & ~course.prevalent[who])
    if not begun[starts].any():
        raise SpecError(f"Nobody starts {question.exposure} within {grace:g} of becoming eligible.")
    left = np.where(begun, 1.0, np.maximum(grace - course.middle, 0.0))[starts] / grace
    rows = np.concatenate([starts, never])
    clock = course.begin[who[rows]]
    basis = Basis(
        course=course,
        rows=rows,
        exposed=np.arange(rows.size) < starts.size,
        begin=np.maximum(course.first[rows] - clock, 0.0),
        end=course.last[rows] - clock,
        log_offset=np.concatenate([np.log(left), np.zeros(never.size)]),
        stabilised=False,
        lower=np.zeros(rows.size),
        upper=np.full(rows.size, np.inf),
        grace=float(grace),
    )
    return _weighted(
        basis,
        truncate,
        question=Question(
            exposed=f"{question.exposure} within {grace:g}",
            eligible_from=ENTRY,
            endpoints=(endpoint,),
        ),
        phase_start=np.where(basis.exposed, 0.0, np.inf),
        caveat=CAVEAT + CAVEAT_OF_ARMS,
    )


def _limits(basis: Basis, weights: Floats, shares: tuple[float, float]) -> tuple[Floats, Floats]:
    """Find limits of the weights by row: quantiles over person-time, in each arm of a trial."""
    try:
        low, high = (float(share) for share in shares)
    except (TypeError, ValueError):
        raise SpecError(f"truncate must be two shares, got {shares!r}.") from None
    if not 0 <= low < high <= 1:
        raise SpecError(f"truncate must be two shares from 0 to 1 in order, got {shares!r}.")
    limits = np.stack([np.zeros(weights.size), np.full(weights.size, np.inf)])
    arm = basis.exposed if basis.grace is not None else np.zeros(weights.size, dtype=bool)
    time = basis.end - basis.begin
    for index, share in ((0, low), (1, high)):
        if 0 < share < 1:
            for own in np.unique(arm):
                rows = arm == own
                limits[index, rows] = np.quantile(
                    weights[rows], share, method="inverted_cdf", weights=time[rows]
                )
    return limits[0], limits[1]


def _weighted(
    basis: Basis,
    truncate: tuple[float, float],
    *,
    question: Question,
    phase_start: Floats,
    caveat: str,
) -> Weighted:
    """Make pieces patients of their own: each enters late, and leaves at its end."""
    course, cohort, of = basis.course, basis.course.cohort, basis.patient
    untruncated = basis.weights(np.ones((cohort.size, 1)))[:, 0]
    lower, upper = _limits(basis, untruncated, truncate)
    basis = replace(basis, lower=lower, upper=upper)
    weights = np.clip(untruncated, lower, upper)
    time = basis.end - basis.begin
    phase_start = np.where(phase_start >= basis.end, np.nan, phase_start)
    pieces = Cohort(
        patients=np.array([f"piece {index}" for index in range(of.size)]),
        unit=cohort.unit,
        endpoints={
            course.endpoint: Outcome(
                time=basis.end,
                event=course.event[basis.rows],
                entry=basis.begin,
                recorded=cohort.endpoints[course.endpoint].recorded,
            )
        },
        phases=(question.exposure,),
        phase_start=phase_start[:, None],
        phase_end=np.full((of.size, 1), np.nan),
        covariates={
            name: replace(cohort.covariates[name], values=cohort.covariates[name].values[of])
            for name in course.adjust
        },
        synthetic=cohort.synthetic,
        source=cohort.source,
        persons=cohort.patients[of],
    )
    made = {switch.kind: int(switch.cells.start.sum()) for switch in course.switches}
    summary = pd.DataFrame(
        {
            "starts": [made.get("starting", 0) if made else int(course.cells.start.sum())],
            "mean": [float(np.average(weights, weights=time))],
            "smallest": [float(weights.min())],
            "largest": [float(weights.max())],
            "truncated": [float(time[weights != untruncated].sum() / time.sum())],
            "effective_share": [
                float((weights * time).sum() ** 2 / ((weights**2 * time).sum() * time.sum()))
            ],
        }
    )
    if made:
        summary["stops"] = made.get("leaving", 0)
        summary["starts_again"] = made.get("entering again", 0)
    return Weighted(
        cohort=pieces,
        weights=weights,
        question=question,
        of=of,
        balance=balance_of_switches(course) if course.switches else balance_of(course),
        summary=summary,
        basis=basis,
        caveat=caveat,
    )
