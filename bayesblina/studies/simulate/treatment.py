"""What happens on treatment: adverse events, and cycles of infusion with interruptions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats, Ints
from bayesblina.core.course_marks import bounds_of_stays
from bayesblina.core.episodes import OFF_TREATMENT, cut_follow_up, state_bounds
from bayesblina.core.errors import SpecError, require_kind, require_seed
from bayesblina.patients.cohort import Cohort
from bayesblina.patients.rules import DAYS_PER_UNIT
from bayesblina.person_time.onsets import observation

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
# Days of infusion in a cycle, days from one start to the next, and the most cycles, by phase.
CYCLES: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"induction": (28, 42, 2), "consolidation": (28, 42, 3), "maintenance": (28, 84, 4)}
)
# Shares of the cycles after a phase's first that start late or are left out, and of all cycles
# whose infusion is interrupted; mean days of a delay and of an interruption.
DELAYED_SHARE, DELAY_DAYS = 0.20, 7.0
LEFT_OUT_SHARE = 0.04
INTERRUPTED_SHARE, INTERRUPTION_DAYS = 0.15, 4.0


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
        the start of each phase, or of each stay in it where it may recur, while the patient is in
        it and observed; off treatment there are none.

    Raises
    ------
    SpecError
        If the seed is negative, or the cohort is not in months.

    Examples
    --------
    >>> import bayesblina as bb
    >>> cohort, truth = bb.simulate.blinatumomab_cohort(seed=1)
    >>> list(adverse_events(cohort, seed=1).columns)
    ['patient_id', 'term', 'grade', 'month']
    """
    require_kind(cohort, Cohort, "cohort")
    require_seed(seed)
    if cohort.unit != "months":
        raise SpecError(f"The rates are per month, but the cohort is in {cohort.unit}.")
    rng = np.random.default_rng(seed)
    off = -1
    if cohort.stays is None:
        bounds, _, state = state_bounds(cohort.phases, cohort.phase_start)
    else:
        bounds, names, state = bounds_of_stays(
            cohort.stays, cohort.phases, patients=cohort.size, ordered=cohort.ordered
        )
        off = names.index(OFF_TREATMENT)
    row, segment, begin, end = cut_follow_up(bounds, *observation(cohort))
    position = state[segment] if state.ndim == 1 else state[segment, row]
    length = np.minimum(end - begin, REPORTED_MONTHS)
    parts = []
    for term, rates in ADVERSE_EVENT_RATES.items():
        rate = np.asarray(rates)[np.minimum(position, len(rates) - 1)]
        rate = np.where(position == off, 0.0, rate)
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
    return _in_order(parts, "month")


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
    >>> import bayesblina as bb
    >>> stays = treatment_stays(bb.simulate.blinatumomab_table(1), seed=1)
    >>> list(stays.columns)
    ['patient_id', 'phase', 'cycle', 'start', 'stop']
    """
    require_kind(table, pd.DataFrame, "table")
    require_seed(seed)
    months = [f"{name}_month" for name in ("consolidation", "maintenance", "relapse", "transplant")]
    missing = [name for name in ("patient_id", "os_months", *months) if name not in table]
    if missing:
        raise SpecError(
            f"the table lacks {', '.join(missing)}: give one that blinatumomab_table made."
        )
    rng = np.random.default_rng(seed)
    consolidation, maintenance, relapse, transplant = table[months].to_numpy(float).T
    last = table["os_months"].to_numpy(float)
    starts = (np.zeros(last.size), consolidation, maintenance)
    parts = []
    for begin, (phase, cycles) in zip(starts, CYCLES.items(), strict=True):
        later = [np.where(end > begin, end, np.nan) for end in (*starts, relapse, transplant)]
        row, cycle, start, stop = _stays(rng, begin, np.fmin.reduce([last, *later]), cycles)
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
    return _in_order(parts, "start")


def _in_order(parts: list[pd.DataFrame], time: str) -> pd.DataFrame:
    """Put rows in the order of patients and time, and mark them as synthetic."""
    table = pd.concat(parts).sort_values(["patient_id", time], kind="stable", ignore_index=True)
    table.attrs["synthetic"] = True
    return table


def _stays(
    rng: np.random.Generator, begin: Floats, end: Floats, cycles: tuple[int, int, int]
) -> tuple[Ints, Ints, Floats, Floats]:
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
