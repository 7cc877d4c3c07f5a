"""Marks of courses: some patients at a time, or all at once, are the same."""

import numpy as np
import pytest

from bayesblina.core import course_marks
from bayesblina.core.courses import Exposure, Measure, Stays, lay_out_courses


def stays_of(patients: int) -> Stays:
    """Up to five stays of each patient in three phases, some of which follow at once."""
    random = np.random.default_rng(5)
    counts = random.integers(0, 6, patients)
    # Patients with no stays stand at the begin and end, too.
    counts[[0, patients - 1]] = 0
    who = np.repeat(np.arange(patients), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    number = np.arange(who.size) - first
    stop = number + random.choice([0.5, 1.0], who.size)
    return Stays(
        patient=who,
        phase=random.integers(0, 3, who.size),
        start=number.astype(float),
        stop=stop,
        cycles=random.integers(0, 2, who.size).astype(float),
        dose=random.uniform(0.0, 3.0, who.size),
    )


@pytest.mark.parametrize(
    ("measure", "steps"),
    [
        ("current", ()),
        ("ever", ()),
        ("since_entry", (1.25,)),
        ("since_end", (0.25,)),
        ("cumulative", (1.2, 2.6)),
        ("episode", (2.0, 3.0)),
    ],
)
@pytest.mark.parametrize("at_a_time", [1, 7, 50])
def test_some_patients_at_a_time(
    measure: Measure, steps: tuple[float, ...], at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, patients = stays_of(50), 50
    exposure = Exposure(phases=(0, 2), label="x", measure=measure, steps=steps, lag=0.125)
    layout = lay_out_courses(["a", "b", "c"], exposure, ordered=False, transplant=True)
    moved = np.where(np.arange(patients) % 3 == 0, 1.75, np.nan)
    at_once = course_marks.course_marks(stays, layout, patients, moved)
    monkeypatch.setattr(course_marks, "AT_A_TIME", at_a_time)
    parts = course_marks.course_marks(stays, layout, patients, moved)
    assert at_once.time.size > patients
    for name in ("first", "time", "state"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(at_once, name))


def test_nobody() -> None:
    exposure = Exposure(phases=(0,), label="x", measure="current")
    layout = lay_out_courses(["a"], exposure, ordered=True, transplant=False)
    marks = course_marks.course_marks(stays_of(2), layout, 0)
    assert (marks.first.tolist(), marks.time.size, marks.state.size) == ([0], 0, 0)
