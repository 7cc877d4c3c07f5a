"""Synthetic cohorts with a known truth: nothing in here is, or stems from, patient data.

`blinatumomab_cohort` draws a study shaped like the published blinatumomab arm of NCT02013167
(Blood Advances 2020;4(7):1518). The numbers of patients per treatment phase are exactly the
published ones, and the Simon-Makuch medians are calibrated to the published medians, for patients
who reached consolidation, from its start, with transplant censored
(``docs/validation/synthetic_study.md``). The truth comes with it.

How a patient is made (time in months from the first dose; hazards as `Truth` has them):

1. Until remission everybody dies at the hazard without remission. A responder who is alive at the
   candidate remission month is in remission from then on; the others keep that hazard.
2. Remission ends by a relapse or, in about one of seven, by a death. Most who relapse die within
   months, sooner the earlier the relapse came; some reach a second remission.
3. Consolidation is handed out by lottery among those who reach their candidate month in
   remission, alive, relapse-free, followed and not transplanted; maintenance by a second lottery
   among those in consolidation who reach theirs. A few places in consolidation go to patients who
   have relapsed and are in second remission; so may places in maintenance, which the trial gave to
   those in continued remission (`Truth.retreated_share`). No lottery knows the future, covariates
   play no part in it, and consolidation itself changes no hazard.
4. A first transplant comes at a constant hazard in remission, while not maintained, and at another
   in second remission, also after maintenance that a relapse ended. Who has been transplanted
   begins no treatment phase.
5. Follow-up ends at the data cut-off: accrual is uniform, so censoring is uniform too.

So relapse is a confounder of maintenance and survival that changes over time (see `Truth`): those
in remission are treated, and those who have relapsed are at risk of death without maintenance.

Times are exact draws by inversion of cumulative hazards. Where a lottery or a transplant changes a
hazard, the path up to that moment is drawn without the change, and what remains is drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arguments import require_kind, require_seed
from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.episodes import cut_follow_up, state_bounds
from bayesblina.core.errors import SpecError
from bayesblina.core.log_linear_hazard import LogLinearHazard
from bayesblina.patients.cohort import Cohort, Endpoint, Phases
from bayesblina.patients.readers import read_cohort
from bayesblina.patients.rules import DAYS_PER_UNIT
from bayesblina.person_time.onsets import observation
from bayesblina.studies.synthetic_truth import (
    AGE_GROUPS,
    BLASTS_RANGE,
    BLASTS_SHAPE,
    PRIOR_SALVAGE,
    REMISSION_RANGE,
    Truth,
    design,
)

__all__ = [
    "LogLinearHazard",
    "SyntheticStudy",
    "Truth",
    "adverse_events",
    "blinatumomab_cohort",
    "blinatumomab_table",
    "treatment_stays",
]


# Months. Consolidation, and maintenance after it, come after a shortest time and an exponential
# delay, given by its mean. In second remission, consolidation is to start so long after its start.
CONSOLIDATION_DELAY = (2.7, 0.4)
MAINTENANCE_DELAY = (3.3, 0.8)
RETREATMENT_DELAY = (2.0, 0.4)

# With the default sizes, fewer than one draw in a hundred has too few patients for a lottery.
MAX_DRAWS = 200


class SyntheticStudy(NamedTuple):
    """A synthetic cohort, never patient data, and the truth that generated it.

    Attributes
    ----------
    cohort : Cohort
        The validated synthetic cohort, marked as synthetic.
    truth : Truth
        Its hazards, and the true log hazard ratios and curves that follow from them.
    """

    cohort: Cohort
    truth: Truth


def blinatumomab_cohort(
    seed: int,
    *,
    n_patients: int = 267,
    n_consolidation: int = 86,
    n_maintenance: int = 36,
    truth: Truth | None = None,
) -> SyntheticStudy:
    """Draw the synthetic blinatumomab study as a cohort; this is never patient data.

    Parameters
    ----------
    seed
        Non-negative; the same seed gives the same study, within rounding on another processor.
    n_patients, n_consolidation, n_maintenance
        Exact numbers of patients in all, in consolidation and in maintenance. The defaults are
        those of NCT02013167.
    truth
        What generates the study; by default the calibrated `Truth`.

    Returns
    -------
    SyntheticStudy
        The cohort in months, with endpoints ``"os"`` (from the first dose) and ``"rfs"`` (delayed
        entry at remission), phases ``consolidation`` and ``maintenance``, three baseline
        covariates and the transplant; and the truth.

    Raises
    ------
    SpecError
        As for `blinatumomab_table`.

    See Also
    --------
    blinatumomab_table : the same study as a table, with the full account.

    Examples
    --------
    >>> study = blinatumomab_cohort(1)
    >>> round(float(np.exp(study.truth.log_hazard_ratio["rfs"])), 2)
    0.7
    """
    truth = Truth() if truth is None else truth
    table = blinatumomab_table(
        seed,
        n_patients=n_patients,
        n_consolidation=n_consolidation,
        n_maintenance=n_maintenance,
        truth=truth,
    )
    cohort = read_cohort(
        table,
        patient="patient_id",
        unit="months",
        endpoints={
            "os": Endpoint(time="os_months", event="died"),
            "rfs": Endpoint(
                time="rfs_months",
                event="relapse_or_death",
                entry="remission_month",
                includes=["os"],
            ),
        },
        phases=Phases(consolidation="consolidation_month", maintenance="maintenance_month"),
        covariates=["age_group", "prior_salvage", "marrow_blasts"],
        transplant="transplant_month",
        synthetic=True,
    )
    return SyntheticStudy(cohort=cohort, truth=truth)


def blinatumomab_table(
    seed: int,
    *,
    n_patients: int = 267,
    n_consolidation: int = 86,
    n_maintenance: int = 36,
    truth: Truth | None = None,
) -> pd.DataFrame:
    """Draw the synthetic blinatumomab study as a table, one row per synthetic patient.

    No row is, or stems from, a patient. The module's text says how a patient is made.

    If fewer patients reach a lottery than it has places, the whole table is drawn again from the
    next substream of the same seed. With the default sizes and truth this is rare.

    Parameters
    ----------
    seed
        Non-negative; the same seed gives the same table, within rounding on another processor.
    n_patients, n_consolidation, n_maintenance
        Exact numbers of patients in all, in consolidation and in maintenance.
    truth
        What generates the study; by default the calibrated `Truth`.

    Returns
    -------
    pandas.DataFrame
        ``attrs["synthetic"]`` is True. All times are months from the first dose; NaN means never.

        - ``patient_id``: ``"SYN-0001"`` and so on.
        - ``os_months``, ``died``: end of follow-up, and whether by death (0/1).
        - ``rfs_months``, ``relapse_or_death``: end of relapse-free follow-up, and whether by
          relapse or death (0/1); at risk from ``remission_month`` on. NaN if never in remission.
        - ``remission_month``, ``consolidation_month``, ``maintenance_month``,
          ``transplant_month``: the phases and the transplant may come after a relapse.
        - ``relapse_month``, ``second_remission_month``.
        - ``age_group``, ``prior_salvage``, ``marrow_blasts`` (percent).

    Raises
    ------
    SpecError
        If the seed is not a non-negative integer, if the numbers are not
        0 <= maintenance <= consolidation <= all, or if too few patients reach a lottery in every
        one of many draws.

    References
    ----------
    Published counts and medians: Blood Advances 2020;4(7):1518 (NCT02013167).

    Examples
    --------
    >>> table = blinatumomab_table(1)
    >>> table.attrs["synthetic"]
    True
    >>> table[["consolidation_month", "maintenance_month"]].notna().sum().tolist()
    [86, 36]
    """
    require_seed(seed)
    whole: dict[str, object] = {
        "n_maintenance": n_maintenance,
        "n_consolidation": n_consolidation,
        "n_patients": n_patients,
    }
    for name, number in whole.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise SpecError(f"{name} must be an integer from 0 on, got {number!r}.")
    if not n_maintenance <= n_consolidation <= n_patients or n_patients == 0:
        raise SpecError(
            "expected n_maintenance <= n_consolidation <= n_patients and at least one patient, "
            f"got {n_maintenance}, {n_consolidation}, {n_patients}."
        )
    truth = Truth() if truth is None else truth
    best = (0, 0)
    for attempt in range(MAX_DRAWS):
        rng = np.random.default_rng(np.random.SeedSequence(int(seed), spawn_key=(attempt,)))
        drawn = _draw(rng, n_patients, n_consolidation, n_maintenance, truth)
        if isinstance(drawn, pd.DataFrame):
            return drawn
        best = max(best, drawn)
    raise SpecError(
        f"in {MAX_DRAWS} draws of {n_patients} patients, at best {best[0]} reached the start of "
        f"consolidation ({n_consolidation} wanted) and {best[1]} that of maintenance "
        f"({n_maintenance} wanted): ask for fewer or draw more patients."
    )


# Events per month of a synthetic patient, by phase in order; falling as treatment goes on.
ADVERSE_EVENT_RATES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "cytopenia": (0.30, 0.12, 0.06),
        "fever": (0.45, 0.10, 0.04),
        "headache": (0.25, 0.08, 0.05),
        "infection": (0.20, 0.15, 0.12),
        "neurologic event": (0.15, 0.04, 0.01),
        "raised liver enzymes": (0.12, 0.08, 0.08),
    }
)
# Months for which adverse events are reported after the start of each phase.
REPORTED_MONTHS = 4.0
GRADE_SHARES = (0.40, 0.30, 0.20, 0.08, 0.02)


def adverse_events(cohort: Cohort, *, seed: int) -> pd.DataFrame:
    """Draw synthetic adverse events for a cohort, more of them in earlier phases.

    Parameters
    ----------
    cohort
        The patients, with phases in order; from the third phase on rates stay as in the third.
    seed
        Non-negative; the same seed gives the same table, within rounding on another processor.

    Returns
    -------
    pandas.DataFrame
        One row per event: ``patient_id``, ``term``, ``grade`` (1 to 5) and ``month`` from the
        origin. ``attrs["synthetic"]`` is True. Events happen at constant rates within 4 months of
        the start of each phase, while the patient is in it and observed.

    Raises
    ------
    SpecError
        If the seed is negative, or the cohort is not in months.

    Examples
    --------
    >>> cohort, truth = blinatumomab_cohort(seed=1)
    >>> list(adverse_events(cohort, seed=1).columns)
    ['patient_id', 'term', 'grade', 'month']
    """
    require_kind(cohort, Cohort, "cohort")
    require_seed(seed)
    if cohort.unit != "months":
        raise SpecError(f"The rates are per month, but the cohort is in {cohort.unit}.")
    rng = np.random.default_rng(seed)
    bounds, _, state = state_bounds(cohort.phases, cohort.phase_start)
    row, segment, begin, end = cut_follow_up(bounds, *observation(cohort))
    length = np.minimum(end - begin, REPORTED_MONTHS)
    parts = []
    for term, rates in ADVERSE_EVENT_RATES.items():
        rate = np.asarray(rates)[np.minimum(state[segment], len(rates) - 1)]
        episode = np.repeat(np.arange(row.size), rng.poisson(rate * length))
        month = begin[episode] + rng.random(episode.size) * length[episode]
        parts.append(
            pd.DataFrame(
                {
                    "patient_id": cohort.patients[row[episode]].astype(str),
                    "term": term,
                    "grade": rng.choice(5, size=episode.size, p=GRADE_SHARES) + 1,
                    "month": month,
                }
            )
        )
    table = pd.concat(parts).sort_values(["patient_id", "month"], kind="stable", ignore_index=True)
    table.attrs["synthetic"] = True
    return table


# Days of infusion in a cycle, days from one start to the next, and the most cycles, by phase.
CYCLES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"induction": (28, 42, 2), "consolidation": (28, 42, 3), "maintenance": (28, 84, 4)}
)
# Shares of the cycles after a phase's first that start late or are left out, and of all cycles
# whose infusion is interrupted; mean days of a delay and of an interruption.
DELAYED_SHARE, DELAY_DAYS = 0.20, 7.0
LEFT_OUT_SHARE = 0.04
INTERRUPTED_SHARE, INTERRUPTION_DAYS = 0.15, 4.0


def treatment_stays(table: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Draw when each patient of the synthetic study is on infusion: cycles with interruptions.

    Cycles of induction and consolidation are 28 days on and 14 off, those of maintenance 28 on and
    56 off. Some start late, some are left out, and some infusions are interrupted for days. A
    phase's treatment ends when the next phase starts, at relapse, transplant, or the end of
    follow-up. Infusion has no effect of its own on any hazard: the effect of maintenance is that of
    having started it.

    Parameters
    ----------
    table
        As `blinatumomab_table` gives it.
    seed
        Non-negative; the same seed gives the same stays, within rounding on another processor.

    Returns
    -------
    pandas.DataFrame
        One row per uninterrupted stay: ``patient_id``, ``phase`` (``"induction"``,
        ``"consolidation"`` or ``"maintenance"``), ``cycle`` (from 1 in each phase), ``start`` and
        ``stop`` in months from the first dose. A phase's first stay starts with the phase.
        ``attrs["synthetic"]`` is True.

    Raises
    ------
    SpecError
        If the seed is negative, or the table lacks one of the columns.

    Examples
    --------
    >>> stays = treatment_stays(blinatumomab_table(1), seed=1)
    >>> list(stays.columns)
    ['patient_id', 'phase', 'cycle', 'start', 'stop']
    """
    require_kind(table, pd.DataFrame, "table")
    require_seed(seed)
    months = [f"{name}_month" for name in ("consolidation", "maintenance", "relapse", "transplant")]
    needed = ["patient_id", "os_months", *months]
    missing = [name for name in needed if name not in table]
    if missing:
        raise SpecError(
            f"the table lacks {', '.join(missing)}: give one that blinatumomab_table made."
        )
    rng = np.random.default_rng(seed)
    consolidation, maintenance, relapse, transplant = table[months].to_numpy(float).T
    last = table["os_months"].to_numpy(float)
    starts = (np.zeros(last.size), consolidation, maintenance)
    parts = []
    for index, (phase, cycles) in enumerate(CYCLES.items()):
        begin = starts[index]
        ends = [np.where(one > begin, one, np.nan) for one in (*starts, relapse, transplant)]
        row, cycle, start, stop = _stays(rng, begin, np.fmin.reduce([last, *ends]), cycles)
        parts.append(
            pd.DataFrame(
                {
                    "patient_id": table["patient_id"].to_numpy()[row],
                    "phase": phase,
                    "cycle": cycle + 1,
                    "start": start,
                    "stop": stop,
                }
            )
        )
    stays = pd.concat(parts).sort_values(["patient_id", "start"], kind="stable", ignore_index=True)
    stays.attrs["synthetic"] = True
    return stays


def _stays(
    rng: np.random.Generator, begin: Floats, end: Floats, cycles: tuple[int, int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats]:
    """Patient, cycle, start and stop of the stays of one phase, in ``(begin, end)``."""
    month = DAYS_PER_UNIT["months"]
    infusion, period, most = cycles[0] / month, cycles[1] / month, cycles[2]
    shape = (begin.size, most)
    late = (rng.random(shape) < DELAYED_SHARE) * rng.exponential(DELAY_DAYS / month, shape)
    given = rng.random(shape) >= LEFT_OUT_SHARE
    late[:, 0], given[:, 0] = 0.0, True
    start = begin[:, None] + period * np.arange(most) + np.cumsum(late, axis=1)
    stop = start + infusion
    # An interruption lies somewhere in the infusion, and cuts its rest off if it is long.
    broken = rng.random(shape) < INTERRUPTED_SHARE
    halt = np.where(broken, start + rng.random(shape) * infusion, stop)
    resume = np.where(broken, halt + rng.exponential(INTERRUPTION_DAYS / month, shape), stop)
    starts, stops = np.stack([start, resume], axis=2), np.stack([halt, stop], axis=2)
    stops = np.minimum(stops, end[:, None, None])
    row, cycle, part = np.nonzero((starts < stops) & given[..., None])
    return row, cycle, starts[row, cycle, part], stops[row, cycle, part]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What happens to each patient, in months, NaN where it never does; arrays (patient,)."""

    failure: Floats
    relapse: Floats
    second_remission: Floats
    transplant: Floats
    death: Floats

    def replaced(self, rows: Bools, other: _Course) -> _Course:
        """Take the course of some patients from another."""
        return _Course(
            **{
                item.name: np.where(rows, getattr(other, item.name), getattr(self, item.name))
                for item in fields(self)
            }
        )


def _draw(
    rng: np.random.Generator,
    n_patients: int,
    n_consolidation: int,
    n_maintenance: int,
    truth: Truth,
) -> pd.DataFrame | tuple[int, int]:
    """Draw one table, or return how many reached the lotteries if these are too few."""
    covariates = _draw_covariates(rng, n_patients)
    terms = design(covariates)
    censoring = rng.uniform(*truth.follow_up, n_patients)
    early_death = _next_event(
        rng,
        truth.baseline["no_remission"],
        np.zeros(n_patients),
        truth.relative_hazard("no_remission", terms),
    )
    responder = rng.random(n_patients) < truth.remission_share(terms)
    remission = rng.uniform(*REMISSION_RANGE, n_patients)
    in_remission = responder & (remission < early_death)
    remission = np.where(in_remission, remission, np.nan)
    course = _draw_course(rng, truth, terms, remission)

    # Consolidation changes no hazard: the course goes on as it is.
    leaves = np.fmin.reduce([course.failure, course.transplant, censoring])
    leaves_again = np.fmin.reduce([course.death, course.transplant, censoring])
    first = np.where(in_remission, _delayed(rng, CONSOLIDATION_DELAY, n_patients), np.nan)
    again = course.second_remission + _delayed(rng, RETREATMENT_DELAY, n_patients)
    consolidated, retreated = _lotteries(
        rng,
        truth.retreated_share["consolidation"],
        n_consolidation,
        first < leaves,
        again < leaves_again,
    )
    n_reached = int((consolidated | retreated).sum())
    if n_reached < n_consolidation:
        return n_reached, 0
    consolidation = np.where(consolidated, first, np.where(retreated, again, np.nan))

    # Who relapses after consolidation goes through it again before maintenance.
    delay = _delayed(rng, MAINTENANCE_DELAY, n_patients)
    first = first + delay
    again = np.where(consolidated | retreated, again + delay, np.nan)
    maintained, remaintained = _lotteries(
        rng,
        truth.retreated_share["maintenance"],
        n_maintenance,
        consolidated & (first < leaves),
        again < leaves_again,
    )
    n_again = int((maintained | remaintained).sum())
    if n_again < n_maintenance:
        return n_reached, n_again
    maintenance = np.where(maintained, first, np.where(remaintained, again, np.nan))
    begun = np.where(maintained, maintenance, np.nan)
    course = course.replaced(maintained, _draw_course(rng, truth, terms, begun, maintained=True))
    course = course.replaced(remaintained, _remaintained(rng, truth, terms, course, maintenance))

    course = replace(course, death=np.where(in_remission, course.death, early_death))
    table = _tabulate(course, censoring, remission, consolidation, maintenance)
    table = pd.concat([table, covariates], axis=1)
    table.attrs["synthetic"] = True
    return table


def _tabulate(
    course: _Course,
    censoring: Floats,
    remission: Floats,
    consolidation: Floats,
    maintenance: Floats,
) -> pd.DataFrame:
    """Write down what is seen of each course before follow-up ends."""
    failed = np.where(np.isfinite(remission), course.failure <= censoring, np.nan)
    seen = {
        "transplant": course.transplant,
        "relapse": course.relapse,
        "second_remission": course.second_remission,
    }
    return pd.DataFrame(
        {
            "patient_id": [f"SYN-{number:04d}" for number in range(1, censoring.size + 1)],
            "os_months": np.minimum(course.death, censoring),
            "died": (course.death <= censoring).astype(int),
            "rfs_months": np.minimum(course.failure, censoring),
            "relapse_or_death": failed,
            "remission_month": remission,
            "consolidation_month": consolidation,
            "maintenance_month": maintenance,
            **{
                f"{name}_month": np.where(month < censoring, month, np.nan)
                for name, month in seen.items()
            },
        }
    )


def _draw_course(
    rng: np.random.Generator,
    truth: Truth,
    terms: Floats,
    start: Floats,
    *,
    maintained: bool = False,
) -> _Course:
    """Draw the course from a month in first remission on, maintained from then on or never."""
    hazard = truth.baseline["in_remission"]
    relative = truth.relative_hazard("in_remission", terms)
    if maintained:
        relative = relative * np.exp(truth.maintenance_log_hazard_ratio["in_remission"])
    failure = _next_event(rng, hazard, start, relative)
    transplant = _waiting(rng, start, truth.transplant_hazard["in_remission"])
    transplant = np.where(~np.bool_(maintained) & (transplant < failure), transplant, np.nan)
    transplanted = np.isfinite(transplant)
    relative = relative * np.exp(truth.transplant_log_hazard_ratio["in_remission"])
    failure = np.where(transplanted, _next_event(rng, hazard, transplant, relative), failure)
    dies = rng.random(start.size) < truth.death_share(terms, transplanted=transplanted)

    relapse = np.where(dies, np.nan, failure)
    hazard = truth.baseline["after_relapse"]
    relative = truth.after_relapse(terms, relapse, maintained=maintained)
    death = _next_event(rng, hazard, relapse, relative)
    second = _waiting(rng, relapse, truth.second_remission_hazard)
    second = np.where(second < death, second, np.nan)
    relative = relative * np.exp(truth.second_remission_log_hazard_ratio)
    death = np.where(np.isfinite(second), _next_event(rng, hazard, second, relative), death)
    later = _waiting(rng, second, truth.transplant_hazard["after_relapse"])
    later = np.where(~transplanted & (later < death), later, np.nan)
    relative = relative * np.exp(truth.transplant_log_hazard_ratio["after_relapse"])
    death = np.where(np.isfinite(later), _next_event(rng, hazard, later, relative), death)
    return _Course(
        failure=failure,
        relapse=relapse,
        second_remission=second,
        transplant=np.fmin(transplant, later),
        death=np.where(dies, failure, death),
    )


def _remaintained(
    rng: np.random.Generator, truth: Truth, terms: Floats, course: _Course, start: Floats
) -> _Course:
    """Draw what remains of a course, in second remission, from the start of maintenance on."""
    relative = truth.after_relapse(terms, course.relapse, maintained=True)
    relative = relative * np.exp(truth.second_remission_log_hazard_ratio)
    death = _next_event(rng, truth.baseline["after_relapse"], start, relative)
    return replace(course, transplant=np.full(start.size, np.nan), death=death)


def _draw_covariates(rng: np.random.Generator, n_patients: int) -> pd.DataFrame:
    age = rng.choice(len(AGE_GROUPS), n_patients, p=list(AGE_GROUPS.values()))
    salvage = rng.random(n_patients) < PRIOR_SALVAGE["yes"]
    low, high = BLASTS_RANGE
    return pd.DataFrame(
        {
            "age_group": np.array(list(AGE_GROUPS), dtype=object)[age],
            "prior_salvage": np.array(list(PRIOR_SALVAGE), dtype=object)[salvage.astype(int)],
            "marrow_blasts": low + (high - low) * rng.beta(*BLASTS_SHAPE, n_patients),
        }
    )


def _next_event(
    rng: np.random.Generator, hazard: LogLinearHazard, start: Floats, relative: Floats
) -> Floats:
    """First event after `start` by inversion of the cumulative hazard; NaN where that is NaN."""
    gone = hazard.cumulative(start)
    return hazard.inverse(gone + rng.exponential(size=start.size) / relative)


def _waiting(rng: np.random.Generator, start: Floats, hazard: float) -> Floats:
    """First event after `start` at a constant hazard, infinite if that is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(start + np.divide(rng.exponential(size=start.size), hazard))


def _delayed(rng: np.random.Generator, delay: tuple[float, float], size: int) -> Floats:
    """Shortest time plus an exponential delay of given mean."""
    return delay[0] + rng.exponential(delay[1], size)


def _lotteries(
    rng: np.random.Generator, share: float, places: int, first: Bools, again: Bools
) -> tuple[Bools, Bools]:
    """Hand out places among those who get there in first and in second remission.

    The second have a share of the places, as far as there are any; the first have the others.
    """
    kept = round(share * places)
    early = _lottery(rng, first, places - kept)
    late = _lottery(rng, again & ~early, kept)
    missing = places - int(early.sum() + late.sum())
    return early | _lottery(rng, first & ~early & ~late, missing), late


def _lottery(rng: np.random.Generator, reached: Bools, places: int) -> Bools:
    chosen = np.zeros(reached.size, dtype=bool)
    candidates = np.flatnonzero(reached)
    chosen[rng.choice(candidates, min(places, candidates.size), replace=False)] = True
    return chosen
