"""The definition of time at risk and states, on columns and on one patient's numbers."""

from typing import Any

import numpy as np
import pytest

from bayesblina.core.episodes import (
    AT_RISK,
    NEVER_ELIGIBLE,
    NEVER_OBSERVED,
    OFF_TREATMENT,
    OVER_BY_LANDMARK,
    OVER_BY_START,
    TOO_LATE,
    TRANSPLANT,
    TRANSPLANTED,
    cut_follow_up,
    lay_out,
    near,
    order_bounds,
    segment_times,
    state_bounds,
    tie_width,
    time_at_risk,
)

NONE = -np.inf
# time, event, entry, eligible, transplant, landmark: begin, stop, event, reason.
PATIENTS: dict[tuple[float, bool, float, float, float, float], tuple[float, float, bool, int]] = {
    (9.0, True, 0.0, NONE, np.inf, NONE): (0.0, 9.0, True, AT_RISK),
    (9.0, True, 1.0, 2.0, np.inf, NONE): (2.0, 9.0, True, AT_RISK),
    (9.0, True, 3.0, 2.0, 8.0, 4.0): (4.0, 8.0, False, AT_RISK),
    (9.0, True, 3.0, 2.0, 9.0 * (1.0 - 1e-12), NONE): (3.0, 9.0, True, AT_RISK),
    (9.0, True, 0.0, 2.0, np.inf, 2.0 * (1.0 - 1e-12)): (2.0, 9.0, True, AT_RISK),
    (9.0, True, np.nan, 2.0, np.inf, NONE): (np.nan, np.nan, False, NEVER_OBSERVED),
    (9.0, True, 0.0, np.nan, np.inf, NONE): (np.nan, np.nan, False, NEVER_ELIGIBLE),
    (9.0, True, np.nan, np.nan, np.inf, NONE): (np.nan, np.nan, False, NEVER_OBSERVED),
    (2.0, True, 0.0, 2.0, np.inf, NONE): (np.nan, np.nan, False, OVER_BY_START),
    (2.0, True, 0.0, 2.0 * (1 - 1e-12), np.inf, NONE): (np.nan, np.nan, False, OVER_BY_START),
    (4.0, True, 0.0, 1.0, np.inf, 4.0): (np.nan, np.nan, False, OVER_BY_LANDMARK),
    (9.0, True, 5.0, 1.0, np.inf, 4.0): (np.nan, np.nan, False, TOO_LATE),
    (9.0, True, 0.0, 4.0, 4.0, NONE): (np.nan, np.nan, False, TRANSPLANTED),
    (9.0, True, 0.0, 2.0, 3.0, 4.0): (np.nan, np.nan, False, TRANSPLANTED),
}


@pytest.mark.parametrize(("patient", "expected"), PATIENTS.items())
def test_one_patient(patient: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    time, event, entry, eligible, transplant, landmark = patient
    found = time_at_risk(time, event, entry, eligible, transplant, landmark)
    assert [np.asarray(value).item() for value in found] == pytest.approx(expected, nan_ok=True)


def test_columns_are_patients() -> None:
    time, event, entry, eligible, transplant, landmark = np.array(list(PATIENTS), dtype=float).T
    found = time_at_risk(time, event.astype(bool), entry, eligible, transplant, landmark)
    for values, expected in zip(found, zip(*PATIENTS.values(), strict=True), strict=True):
        np.testing.assert_allclose(values.astype(float), np.array(expected, dtype=float))


def test_noise_is_relative_to_the_time() -> None:
    assert near(3.0 * (1.0 + 9e-10), 3.0)
    assert not near(3.0 * (1.0 + 2e-9), 3.0)
    assert near(0.0, 0.0)
    assert not near(1e-12, 0.0)
    assert not near(np.inf, 3.0)


def test_ties_are_wider_later() -> None:
    times = np.array([1.0, 10.0, 99.0, 100.0])
    assert tie_width(times, [10.0, 100.0], [0.1, 0.2, 0.3]).tolist() == [0.1, 0.2, 0.2, 0.3]


def test_ends_and_transplants_begin_states() -> None:
    starts = np.array([[1.0, 5.0], [1.0, np.nan]])
    bounds, names, state = state_bounds(
        ["a", "b"], starts, ends=starts + 2.0, transplant=np.array([6.0, np.nan])
    )
    assert names == ("before a", "a", "b", OFF_TREATMENT, TRANSPLANT)
    assert state.tolist() == [0, 1, 3, 2, 3, 4]
    # The transplant comes before the second phase would have ended.
    assert bounds.T.tolist() == [
        [0.0, 1.0, 3.0, 5.0, 6.0, 6.0, np.inf],
        [0.0, 1.0, 3.0, np.inf, np.inf, np.inf, np.inf],
    ]
    patient, number, start, stop = cut_follow_up(bounds, np.array([0.0, 2.0]), np.array([9.0, 8.0]))
    assert patient.tolist() == [0] * 5 + [1] * 2
    assert state[number].tolist() == [0, 1, 3, 2, 4, 1, 3]
    assert start.tolist() == [0.0, 1.0, 3.0, 5.0, 6.0, 2.0, 3.0]
    assert stop.tolist() == [1.0, 3.0, 5.0, 6.0, 9.0, 3.0, 8.0]


def test_marks_that_differ_by_rounding_leave_no_state_between_them() -> None:
    bounds = np.array([[0.0], [0.3], [0.1 + 0.2], [np.inf]])
    assert bounds[2] > bounds[1]
    with np.errstate(invalid="ignore"):
        order_bounds(bounds, 2)
    assert bounds.ravel().tolist() == [0.0, 0.3, 0.3, np.inf]
    lower, upper = segment_times(bounds, np.zeros(1), np.ones(1))
    assert (upper - lower).ravel().tolist() == [0.3, 0.0, 0.7]


def test_no_phases_leave_one_state() -> None:
    layout = lay_out([])
    assert (layout.states, layout.marks) == (("all follow-up",), ())
    bounds, _, state = state_bounds([], np.empty((2, 0)))
    assert bounds.tolist() == [[0.0, 0.0], [np.inf, np.inf]]
    assert state.tolist() == [0]
