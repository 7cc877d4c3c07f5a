"""Synthetic courses of treatment as it really runs: cycles with gaps and early stops, and effects.

Patients start treatment at some time, if ever, and get it in cycles. What interrupts it has a
cause: a gap at random, a toxicity, after which they recover, or an early stop. The hazard of the
event is constant, times what treatment does to it: an effect while on it, which wanes after each
stay, and one that grows with each cycle up to some number. Treatment does not look ahead, and
depends on nothing but frailty, which also raises the hazard of the event: a confounder, in the data
as a covariate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.errors import SpecError, require_kind, require_seed
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Courses, Endpoint
from bayesblina.patients.readers import read_cohort
from bayesblina.person_time.follow_up import find_episodes
from bayesblina.person_time.question import Question

PHASE = "treatment"
# Patients of whom the truth of a step is taken.
CROWD = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseTruth:
    """What generates synthetic courses with interruptions; times in months.

    Parameters
    ----------
    hazard
        Events per patient and month, of one who is not frail and not treated.
    log_hazard_ratio
        On treatment against before any.
    carry_over
        Time over which that effect wanes after a stay: its log hazard ratio goes to 0 in a
        straight line. With 0 it ends with the stay.
    log_hazard_ratio_per_cycle
        For each cycle begun so far, for good.
    saturates_at
        Number of cycles beyond which that effect does not grow.
    frail_share, frail_log_hazard_ratio, frail_log_toxicity_ratio
        Share of frail patients; what frailty does to the hazards of the event and of a toxicity.
    treated_share, starts
        Share of patients who start unless follow-up ends before, and the earliest and latest time
        at which they do.
    on, off, cycles
        How long each cycle is given, how long it pauses after that, and their planned number.
    gap_share, gap
        Share of the later cycles that start late for no reason, and by how much in the mean.
    toxicity, recovery
        Toxicities per month on treatment: each ends its cycle, and delays the next one by so much
        in the mean.
    stop_share, stop_share_after_toxicity
        Shares of cycles after which treatment is stopped early: planned ends, and toxicities.
    follow_up
        Shortest and longest potential follow-up; uniform.

    Raises
    ------
    SpecError
        If a number is impossible.

    Examples
    --------
    >>> truth = CourseTruth(log_hazard_ratio=-1.0, carry_over=2.0)
    >>> truth.log_hazard_ratio_at(since_end=[0.0, 1.0, 3.0], cycles=[1, 1, 1]).tolist()
    [-1.0, -0.5, 0.0]
    """

    hazard: float = 0.05
    log_hazard_ratio: float = float(np.log(0.5))
    carry_over: float = 0.0
    log_hazard_ratio_per_cycle: float = 0.0
    saturates_at: int = 4
    frail_share: float = 0.4
    frail_log_hazard_ratio: float = 0.0
    frail_log_toxicity_ratio: float = 0.0
    treated_share: float = 0.8
    starts: tuple[float, float] = (0.5, 8.0)
    on: float = 1.0
    off: float = 1.0
    cycles: int = 6
    gap_share: float = 0.2
    gap: float = 1.0
    toxicity: float = 0.15
    recovery: float = 1.5
    stop_share: float = 0.05
    stop_share_after_toxicity: float = 0.3
    follow_up: tuple[float, float] = (12.0, 36.0)

    def __post_init__(self) -> None:
        for item in fields(self):
            given = getattr(self, item.name)
            values = np.asarray(given, dtype=object).ravel()
            numbers = (int, float, np.integer, np.floating)
            if any(isinstance(value, bool) or not isinstance(value, numbers) for value in values):
                raise SpecError(f"{item.name}: expected numbers, got {given!r}.")
            plain = np.asarray(given, dtype=np.float64)
            if not np.isfinite(plain).all():
                raise SpecError(f"{item.name} must be finite, got {given!r}.")
            if "log" not in item.name and (plain < 0).any():
                raise SpecError(f"{item.name} must be at least 0, got {given!r}.")
            if "share" in item.name and plain > 1:
                raise SpecError(f"{item.name} must be a share from 0 to 1, got {given!r}.")
        for name in ("hazard", "on"):
            if getattr(self, name) == 0:
                raise SpecError(f"{name} must be greater than 0.")
        for name in ("cycles", "saturates_at"):
            if getattr(self, name) != round(getattr(self, name)) or getattr(self, name) < 1:
                raise SpecError(f"{name} must be a whole number from 1 on.")
        for name in ("starts", "follow_up"):
            pair = getattr(self, name)
            if np.shape(pair) != (2,) or pair[0] > pair[1] or pair[1] == 0:
                raise SpecError(f"{name} must be an earliest and a latest time, got {pair!r}.")
            object.__setattr__(self, name, tuple(map(float, pair)))

    def log_hazard_ratio_at(self, *, since_end: ArrayLike, cycles: ArrayLike) -> Floats:
        """Log hazard ratio of a history, against no treatment so far.

        Parameters
        ----------
        since_end : array_like
            Time since the last stay ended: 0 while on treatment, infinite before any.
        cycles : array_like
            Number of cycles begun so far.

        Returns
        -------
        ndarray
            Log hazard ratios.
        """
        since = np.asarray(since_end, dtype=np.float64)
        left = (since == 0).astype(np.float64)
        if self.carry_over:
            left = np.clip(1.0 - since / self.carry_over, 0.0, 1.0)
        counted = np.minimum(np.asarray(cycles, dtype=np.float64), self.saturates_at)
        return np.asarray(self.log_hazard_ratio * left + self.log_hazard_ratio_per_cycle * counted)

    def log_hazard_ratio_by_step(
        self, question: Question, *, seed: int = 1, patients: int = CROWD
    ) -> pd.DataFrame:
        """Find what an effect by step stands for: the mean hazard ratio of the time in each.

        Within a step the ratio varies. What a model with one ratio for each step estimates is the
        events in the step over those that the same time at risk would have had without treatment.
        The latter is the sum over the events of one over their hazard ratio, here of a crowd.

        Parameters
        ----------
        question
            A question of ``"treatment"`` with its steps, for `interrupted_cohort`.
        seed, patients
            The crowd.

        Returns
        -------
        pandas.DataFrame
            One row per state in which there are events: ``state``, ``log_hazard_ratio`` and its
            Monte-Carlo error ``mcse``.
        """
        require_kind(question, Question, "question")
        table, stays = interrupted_tables(seed, patients=patients, truth=self)
        episodes = find_episodes(_read(table, stays), question)["os"]
        rows = np.flatnonzero(episodes.event)
        start, stop = _by_patient(stays, patients)
        effect = _effect_at(self, start, stop, episodes.patient[rows], episodes.stop[rows])
        without = np.exp(-effect)
        lines = []
        for state in np.unique(episodes.phase[rows]):
            own = without[episodes.phase[rows] == state]
            spread = own.std() / own.mean() / np.sqrt(own.size)
            lines.append((episodes.phases[state], -np.log(own.mean()), spread))
        return pd.DataFrame(lines, columns=["state", "log_hazard_ratio", "mcse"])


class SyntheticCourses(NamedTuple):
    """A synthetic cohort known by stays, never patient data, and the truth that generated it.

    Attributes
    ----------
    cohort : Cohort
        The validated synthetic cohort, marked as synthetic.
    truth : CourseTruth
        What generated it.
    """

    cohort: Cohort
    truth: CourseTruth


def interrupted_cohort(
    seed: int, *, patients: int = 300, truth: CourseTruth | None = None
) -> SyntheticCourses:
    """Draw synthetic patients with interrupted treatment as a cohort; this is never patient data.

    Parameters
    ----------
    seed
        Non-negative; the same seed gives the same cohort, within rounding on another processor.
    patients
        Number of patients.
    truth
        What generates it; by default `CourseTruth`.

    Returns
    -------
    SyntheticCourses
        The cohort in months, with the endpoint ``"os"``, the phase ``"treatment"`` in stays, and
        the covariate ``frail``; and the truth.

    Raises
    ------
    SpecError
        As for `interrupted_tables`.

    Examples
    --------
    >>> cohort, truth = interrupted_cohort(1)
    >>> cohort.recurring, cohort.size
    (True, 300)
    """
    truth = CourseTruth() if truth is None else truth
    table, stays = interrupted_tables(seed, patients=patients, truth=truth)
    return SyntheticCourses(cohort=_read(table, stays), truth=truth)


def interrupted_tables(
    seed: int, *, patients: int = 300, truth: CourseTruth | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw synthetic patients with interrupted treatment as two tables.

    Parameters
    ----------
    seed, patients, truth
        As for `interrupted_cohort`.

    Returns
    -------
    table : pandas.DataFrame
        One row per patient: ``patient_id``, ``months``, ``died`` and ``frail``.
    stays : pandas.DataFrame
        One row per stay: ``patient_id``, ``phase``, ``cycle``, ``start``, ``stop``, and why it
        ended, ``ended_by``: ``"plan"`` (the pause between cycles, or the last cycle),
        ``"toxicity"``, or ``"end of follow-up"``; and why treatment did not go on as planned
        after it, ``then``: ``"gap"`` (the next cycle is late for no reason), ``"recovery"``,
        ``"early stop"``, or nothing.

    Raises
    ------
    SpecError
        If the seed is negative or the number of patients impossible.

    Examples
    --------
    >>> table, stays = interrupted_tables(1)
    >>> sorted(stays["ended_by"].unique())
    ['end of follow-up', 'plan', 'toxicity']
    """
    require_seed(seed)
    if isinstance(patients, bool) or patients < 2:
        raise SpecError(f"patients must be a whole number of at least 2, got {patients!r}.")
    truth = CourseTruth() if truth is None else truth
    require_kind(truth, CourseTruth, "truth")
    random = np.random.default_rng(seed)
    frail = random.random(patients) < truth.frail_share
    stays = _treatment(truth, frail, random)
    start, stop = _by_patient(stays, patients)
    died = _events(truth, frail, start, stop, random)
    censored = random.uniform(*truth.follow_up, patients)
    last = np.minimum(died, censored)
    ids = np.array([f"SYN-{number:06d}" for number in range(1, patients + 1)])
    end = last[stays["patient"]]
    stays = stays[stays["start"].to_numpy() < end]
    end = last[stays["patient"]]
    cut = stays["stop"].to_numpy() >= end
    stays = stays.assign(
        patient_id=ids[stays["patient"]],
        phase=PHASE,
        stop=np.minimum(stays["stop"], end),
        ended_by=np.where(cut, "end of follow-up", stays["ended_by"]),
        then=np.where(cut, "", stays["then"]),
    )
    columns = ["patient_id", "phase", "cycle", "start", "stop", "ended_by", "then"]
    stays = stays[columns].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "patient_id": ids,
            "months": last,
            "died": (died <= censored).astype(int),
            "frail": np.where(frail, "yes", "no"),
        }
    )
    table.attrs["synthetic"] = stays.attrs["synthetic"] = True
    return table, stays


def _treatment(truth: CourseTruth, frail: Bools, random: np.random.Generator) -> pd.DataFrame:
    """Draw all stays, as if nobody died: in the order of patients and time."""
    size = frail.size
    treated = random.random(size) < truth.treated_share
    due = random.uniform(*truth.starts, size)
    rate = truth.toxicity * np.exp(truth.frail_log_toxicity_ratio * frail)
    parts = []
    for cycle in range(truth.cycles):
        with np.errstate(divide="ignore"):
            toxic = random.exponential(size=size) / rate
        hit = toxic < truth.on
        stop = due + np.minimum(toxic, truth.on)
        share = np.where(hit, truth.stop_share_after_toxicity, truth.stop_share)
        ends = random.random(size) < share
        late = random.random(size) < truth.gap_share
        waits = random.exponential(size=(2, size))
        is_last = cycle + 1 == truth.cycles
        then = np.select([ends, hit, late], ["early stop", "recovery", "gap"], "")
        parts.append(
            pd.DataFrame(
                {
                    "patient": np.arange(size),
                    "cycle": cycle + 1,
                    "start": due,
                    "stop": stop,
                    "ended_by": np.where(hit, "toxicity", "plan"),
                    "then": np.where(is_last, "", then),
                }
            )[treated]
        )
        due = stop + truth.off + np.where(hit, waits[0] * truth.recovery, 0.0)
        due = due + np.where(late & ~hit, waits[1] * truth.gap, 0.0)
        treated = treated & ~ends
    return pd.concat(parts).sort_values(["patient", "cycle"], kind="stable", ignore_index=True)


def _by_patient(stays: pd.DataFrame, patients: int) -> tuple[Floats, Floats]:
    """Lay out starts and stops, shape (patient, cycle); infinite where there was none."""
    if "patient" in stays:
        who = stays["patient"].to_numpy()
    else:
        who = stays["patient_id"].str.removeprefix("SYN-").astype(int).to_numpy() - 1
    cycle = stays["cycle"].to_numpy() - 1
    start, stop = np.full((2, patients, int(cycle.max(initial=0)) + 1), np.inf)
    start[who, cycle], stop[who, cycle] = stays["start"], stays["stop"]
    return start, stop


def _effect_at(truth: CourseTruth, start: Floats, stop: Floats, who: Ints, time: Floats) -> Floats:
    """Log hazard ratio of some patients' histories, just before their times."""
    begun = start[who] < time[:, None]
    inside = (begun & (time[:, None] <= stop[who])).any(axis=1)
    ended = np.where(begun, stop[who], -np.inf).max(axis=1)
    since = np.where(inside, 0.0, time - ended)
    return truth.log_hazard_ratio_at(since_end=since, cycles=begun.sum(axis=1))


def _events(
    truth: CourseTruth, frail: Bools, start: Floats, stop: Floats, random: np.random.Generator
) -> Floats:
    """Draw events by thinning: exact, whatever shape the hazard has. Infinite after follow-up."""
    horizon = truth.follow_up[1]
    most = max(truth.log_hazard_ratio, 0.0)
    most += max(truth.log_hazard_ratio_per_cycle * truth.saturates_at, 0.0)
    rate = truth.hazard * np.exp(most + truth.frail_log_hazard_ratio * frail)
    counts = random.poisson(rate * horizon)
    who = np.repeat(np.arange(frail.size), counts)
    time = random.uniform(0.0, horizon, who.size)
    kept = np.log(random.random(who.size)) < _effect_at(truth, start, stop, who, time) - most
    first = np.full(frail.size, np.inf)
    np.minimum.at(first, who[kept], time[kept])
    return first


def _read(table: pd.DataFrame, stays: pd.DataFrame) -> Cohort:
    """Read both tables as a user would."""
    return read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={"os": Endpoint(time="months", event="died", recorded="exact")},
        phases=Courses(
            table=stays,
            patient="patient_id",
            start="start",
            stop="stop",
            phase="phase",
            phases=[PHASE],
            cycle="cycle",
            leave_out=["empty"],
        ),
        covariates=["frail"],
        synthetic=True,
    )
