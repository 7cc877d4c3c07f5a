"""Whose event would be in another phase by the other value of its day."""

from __future__ import annotations

import numpy as np

from bayesblina.core.arrays import Floats
from bayesblina.core.course_marks import runs_of
from bayesblina.patients.readers.adam_outcomes import (
    Followed,
)
from bayesblina.patients.readers.adam_tables import (
    People,
)
from bayesblina.patients.readers.stays import StaysRead


def note_moved(
    people: People,
    followed: Followed,
    days: Floats,
    read: StaysRead | None,
    zero: Floats,
    per_unit: float,
) -> None:
    """Note whose event would be in another phase by the other value of its day."""
    if not followed.other:
        return
    who, changes = np.tile(np.arange(zero.size), len(days)), days.ravel()
    if read is not None:
        runs = runs_of(read.stays, np.arange(len(read.names)))
        who = np.tile(runs.patient, 2)
        changes = np.concatenate([runs.start, runs.stop]) * per_unit
        changes = np.round(changes, 6) + zero[who]
    other = "AVAL" if followed.value == "dates" else "ADT"
    people.note(f"the event would be in another phase by {other}", followed.moved(who, changes))
