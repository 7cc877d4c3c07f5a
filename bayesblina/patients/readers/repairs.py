"""Repairs that a reader makes where they are asked for; each counts whom it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats
from bayesblina.core.errors import SpecError
from bayesblina.patients.cohort import Repair
from bayesblina.patients.outcomes import Outcome, last_seen
from bayesblina.patients.rules import is_after


def repair_zero_times(
    outcomes: Mapping[str, Outcome],
    starts: Floats,
    ends: Floats,
    instead: float,
    ids: NDArray[np.str_],
    unit: str,
) -> tuple[dict[str, Outcome], Floats, list[Repair]]:
    """Make follow-up without length longer, and let what ends at its end end with it."""
    _require_small(outcomes, instead, unit)
    at_zero, at_entry = np.zeros((2, ids.size), dtype=bool)
    longer = {name: outcome.time for name, outcome in outcomes.items()}
    # A phase in whose place another starts at that moment ends there.
    later = np.triu(np.ones((starts.shape[1],) * 2, dtype=bool), k=1)
    replaced = (_are_one(ends[:, :, None], starts[:, None, :]) & later).any(axis=2)
    moved = ends
    for outcome in outcomes.values():
        time = outcome.time
        zero = time == 0
        without = zero | (_are_one(time, outcome.entry) & (time > 0))
        at_zero |= zero
        at_entry |= without & ~zero
        for name, other in outcomes.items():
            ending = without & _are_one(other.time, time)
            longer[name] = np.where(ending, other.time + instead, longer[name])
        ended = without[:, None] & _are_one(ends, time[:, None]) & ~replaced
        moved = np.where(ended, ends + instead, moved)
    repaired = {
        name: replace(outcome, time=longer[name], last_negative=_longer_free(outcome, longer[name]))
        for name, outcome in outcomes.items()
    }
    done = [_made(f"times of 0 became {instead:g}", ids, at_zero)]
    if at_entry.any():
        rule = f"follow-up that ended at its entry lasts {instead:g}"
        done.append(_made(rule, ids, at_entry))
    return repaired, moved, done


def _longer_free(outcome: Outcome, longer: Floats) -> Floats | None:
    """Let a last visit without the event at the end of follow-up stay there."""
    if outcome.last_negative is None:
        return None
    at_end = _are_one(outcome.last_negative, outcome.time)
    return np.where(at_end, longer, outcome.last_negative)


def _made(rule: str, ids: NDArray[np.str_], rows: Bools) -> Repair:
    return Repair(rule=rule, patients=tuple(map(str, ids[rows])))


def _require_small(outcomes: Mapping[str, Outcome], instead: float, unit: str) -> None:
    """Refuse a small time that is longer than follow-up that is known."""
    shortest = np.inf
    for outcome in outcomes.values():
        entry = np.nan_to_num(outcome.entry)
        with np.errstate(invalid="ignore"):  # infinite times are told by the rules
            length = (outcome.time - entry)[(outcome.time > 0) & is_after(outcome.time, entry)]
        shortest = min(shortest, float(length.min(initial=np.inf)))
    if is_after(instead, shortest):
        raise SpecError(
            f"zero_times = {instead:g} {unit} is longer than the shortest follow-up of the table "
            f"that is longer than 0: expected less than that, in {unit}."
        )


def _are_one(left: Floats, right: Floats) -> Bools:
    """Say which finite times are the same, up to floating-point noise."""
    known = np.isfinite(left) & np.isfinite(right)
    return np.asarray(known & ~is_after(left, right) & ~is_after(right, left))


def drop_late_phases(
    outcomes: Mapping[str, Outcome],
    starts: Floats,
    ends: Floats,
    transplant: Floats | None,
    ids: NDArray[np.str_],
) -> tuple[Floats, Floats, Floats | None, Repair]:
    """Take phases and transplants after the end of follow-up for such as never started."""
    last = last_seen(outcomes)
    late = is_after(starts, last[:, None])
    changed = late.any(axis=1)
    if transplant is not None:
        late_transplant = is_after(transplant, last)
        changed |= late_transplant
        transplant = np.where(late_transplant, np.nan, transplant)
    repair = _made("phases after the end of follow-up count as never started", ids, changed)
    return np.where(late, np.nan, starts), np.where(late, np.nan, ends), transplant, repair
