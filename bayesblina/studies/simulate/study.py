"""The synthetic study: a table, or a cohort with the truth that generated it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError, require_seed
from bayesblina.core.piecewise import LogLinearHazard
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.declarations import Endpoint, Phases
from bayesblina.patients.readers import read_cohort
from bayesblina.studies.simulate.parameters import (
    AGE_GROUPS,
    BLASTS_RANGE,
    BLASTS_SHAPE,
    PRIOR_SALVAGE,
    REMISSION_RANGE,
    design,
)
from bayesblina.studies.simulate.truth import Truth

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
    numbers: dict[str, object] = {
        "n_maintenance": n_maintenance,
        "n_consolidation": n_consolidation,
        "n_patients": n_patients,
    }
    for name, number in numbers.items():
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
    course = course.replaced(
        remaintained, _after_second_start(rng, truth, terms, course, maintenance)
    )

    course = replace(course, death=np.where(in_remission, course.death, early_death))
    seen = _tabulate(course, censoring, remission, consolidation, maintenance)
    table = pd.concat([seen, covariates], axis=1)
    table.attrs["synthetic"] = True
    return table


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


def _tabulate(
    course: SyntheticCourse,
    censoring: Floats,
    remission: Floats,
    consolidation: Floats,
    maintenance: Floats,
) -> pd.DataFrame:
    """Write down what is seen of each course before follow-up ends."""
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
            "relapse_or_death": np.where(
                np.isfinite(remission), course.failure <= censoring, np.nan
            ),
            "remission_month": remission,
            "consolidation_month": consolidation,
            "maintenance_month": maintenance,
            **{
                f"{name}_month": np.where(month < censoring, month, np.nan)
                for name, month in seen.items()
            },
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticCourse:
    """What happens to each patient, in months, NaN where it never does; arrays (patient,)."""

    failure: Floats
    relapse: Floats
    second_remission: Floats
    transplant: Floats
    death: Floats

    def replaced(self, rows: Bools, other: SyntheticCourse) -> SyntheticCourse:
        """Take the course of some patients from another."""
        return SyntheticCourse(
            **{
                item.name: np.where(rows, getattr(other, item.name), getattr(self, item.name))
                for item in fields(self)
            }
        )


def _draw_course(
    rng: np.random.Generator,
    truth: Truth,
    terms: Floats,
    start: Floats,
    *,
    maintained: bool = False,
) -> SyntheticCourse:
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
    return SyntheticCourse(
        failure=failure,
        relapse=relapse,
        second_remission=second,
        transplant=np.fmin(transplant, later),
        death=np.where(dies, failure, death),
    )


def _after_second_start(
    rng: np.random.Generator, truth: Truth, terms: Floats, course: SyntheticCourse, start: Floats
) -> SyntheticCourse:
    """Draw what remains of a course, in second remission, from the start of maintenance on."""
    relative = truth.after_relapse(terms, course.relapse, maintained=True)
    relative = relative * np.exp(truth.second_remission_log_hazard_ratio)
    death = _next_event(rng, truth.baseline["after_relapse"], start, relative)
    return replace(course, transplant=np.full(start.size, np.nan), death=death)


def _next_event(
    rng: np.random.Generator, hazard: LogLinearHazard, start: Floats, relative: Floats
) -> Floats:
    """First event after `start` by inversion of the cumulative hazard; NaN where that is NaN."""
    return hazard.inverse(hazard.cumulative(start) + rng.exponential(size=start.size) / relative)


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
