"""Time at risk cut at changes of state; arrays in, arrays out.

A state lasts until the next one that is entered. Treatment phase is such a state, so no time before
a phase's start can count as time in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayesblina.core.arrays import Floats, Ints

# Where a phase can start within a patient's follow-up, in the terms of R's `survival::tmerge`.
POSITIONS: Mapping[str, str] = {
    "early": "before entry",
    "leading": "exactly at entry",
    "within": "during follow-up",
    "boundary": "exactly at the start of another phase or at a cut",
    "trailing": "exactly at the end of follow-up: no time at risk in the phase",
    "late": "after the end of follow-up",
}


OFF_TREATMENT = "off treatment"
TRANSPLANT = "transplant"
# The one state of patients without phases.
ALL_FOLLOW_UP = "all follow-up"


def before_first(phases: Sequence[str]) -> str:
    """Name the state before the first phase.

    Examples
    --------
    >>> before_first(["consolidation", "maintenance"])
    'before consolidation'
    """
    return f"before {phases[0]}" if phases else ALL_FOLLOW_UP


def state_bounds(
    phases: Sequence[str],
    starts: Floats,
    *,
    ends: Floats | None = None,
    lags: Sequence[float] | None = None,
    transplant: Floats | None = None,
) -> tuple[Floats, tuple[str, ...], Ints]:
    """Find when each patient enters each state.

    Parameters
    ----------
    starts : ndarray, shape (patient, phase)
        Start of each phase, NaN where there was none.
    ends : ndarray, shape (patient, phase), optional
        End of each phase, after which the patient is off treatment; None if phases do not end.
    transplant : ndarray, shape (patient,), optional
        Start of a last state of its own.

    Returns
    -------
    bounds : ndarray, shape (patient, segment + 1)
        Segment s of a patient is ``(bounds[s], bounds[s + 1]]``; empty if it never happened.
    state : ndarray of int, shape (segment,)
        Position in `names` of each segment's state.

    Examples
    --------
    >>> bounds, names, state = state_bounds(["maintenance"], np.array([[2.0], [np.nan]]))
    >>> bounds
    array([[ 0.,  2., inf],
           [ 0., inf, inf]])
    >>> names
    ('before maintenance', 'maintenance')
    """
    names = [before_first(phases), *phases]
    if ends is not None:
        names.append(OFF_TREATMENT)
    if transplant is not None:
        names.append(TRANSPLANT)
    lower, state = [np.zeros(starts.shape[0])], [0]
    for index in range(len(phases)):
        lag = 0.0 if lags is None else lags[index]
        lower.append(starts[:, index] + lag)
        state.append(1 + index)
        if ends is not None:
            lower.append(ends[:, index])
            state.append(names.index(OFF_TREATMENT))
    if transplant is not None:
        lower.append(transplant)
        state.append(names.index(TRANSPLANT))
    lower.append(np.full(starts.shape[0], np.inf))
    entered = np.stack(lower, axis=1)
    entered = np.where(np.isnan(entered), np.inf, entered)
    # A state lasts until the next one that is entered, whatever lies between them in the order.
    bounds = np.minimum.accumulate(entered[:, ::-1], axis=1)[:, ::-1]
    return bounds, tuple(names), np.asarray(state)


def cut_follow_up(bounds: Floats, begin: Floats, stop: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Cut each patient's follow-up at changes of state.

    Parameters
    ----------
    bounds : ndarray, shape (patient, segment + 1)
        Segments, as `state_bounds` gives them.
    begin, stop : ndarray, shape (patient,)
        Follow-up ``(begin, stop]``.

    Returns
    -------
    patient : ndarray of int, shape (episode,)
        Whose episode it is, in order.
    segment : ndarray of int, shape (episode,)
        The segment that it lies in.
    start, end : ndarray, shape (episode,)
        The episode ``(start, end]``; none is empty.

    Examples
    --------
    >>> cut_follow_up(np.array([[0.0, 2.0, np.inf]]), np.array([1.0]), np.array([5.0]))
    (array([0, 0]), array([0, 1]), array([1., 2.]), array([2., 5.]))
    """
    lower = np.clip(bounds[:, :-1], begin[:, None], stop[:, None])
    upper = np.clip(bounds[:, 1:], begin[:, None], stop[:, None])
    patient, segment = np.nonzero(upper > lower)
    return patient, segment, lower[patient, segment], upper[patient, segment]
