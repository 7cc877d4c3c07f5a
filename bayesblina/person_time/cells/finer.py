"""Parts of intervals on which the partial likelihood of a scan rests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Floats
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.person_time.segments import Course

# Parts of intervals on which partial likelihoods rest, and most cells of their sums.
FINER = 400
LARGEST_FINER = 4_000_000
# Times are taken as multiples of a unit if they are as near to them, in units, and the longest is
# no more of them.
NEAR_MULTIPLE = 1e-6
MOST_MULTIPLES = 20 * FINER


def recorded_times(frame: pd.DataFrame, course: Course) -> Floats:
    """Take all times of some patients at which follow-up or a state may begin or end."""
    times = frame.filter(regex=r"^(time:|entry:|start\d|end\d|transplant$)")
    later = {
        f"start{mark.phase} later by {mark.offset}": frame[f"start{mark.phase}"] + mark.offset
        for mark in course.marks
        if mark.offset > 0.0
    }
    return times.assign(**later).to_numpy(dtype=np.float64, na_value=np.nan)


def spacing(times: Floats) -> float:
    """Find the unit by which times are recorded.

    The smallest distance between two times, if all are multiples of it; 0 if they are not, or if it
    is so short that short intervals hold very many multiples of it.

    `times`: times from 0 on, any shape; missing and infinite ones are left out.

    >>> spacing(np.array([0.1, 0.3, 0.4, 1.0])), spacing(np.array([0.13, 0.3, 0.4, 1.0]))
    (0.1, 0.0)
    """
    known = np.unique(times[np.isfinite(times) & (times > 0.0)])
    if not known.size:
        return 0.0
    gaps = np.diff(known, prepend=0.0)
    gaps = gaps[gaps > TIE_TOLERANCE * known[-1]]
    step = float(gaps.min())
    if known[-1] > MOST_MULTIPLES * step:
        return 0.0
    # Rounding of the smallest distance adds up over the multiples.
    step = float(known[-1] / np.rint(known[-1] / step))
    away = np.abs(known - np.rint(known / step) * step)
    return step if away.max() <= NEAR_MULTIPLE * step else 0.0


def finer_cuts(cuts: Floats, last: float, *, most: int, step: float = 0.0) -> Floats:
    """Cut every interval into equal parts.

    Result, shape (part - 1,): inner cut points, those given among them.

    >>> finer_cuts(np.array([2.0]), 6.0, most=4)
    array([1., 2., 4.])
    >>> finer_cuts(np.array([2.5]), 6.0, most=6, step=1.0)
    array([1. , 2. , 2.5, 3. , 5. ])
    """
    edges = np.concatenate([[0.0], cuts, [last]])
    pieces = min(FINER, most) // (edges.size - 1)
    if pieces < 2 or not last > edges[-2]:
        return cuts
    if step > 0.0:
        return _at_multiples(edges, pieces, step)
    share = np.arange(pieces) / pieces
    return np.asarray((edges[:-1, None] + np.diff(edges)[:, None] * share).ravel()[1:])


def _at_multiples(edges: Floats, pieces: int, step: float) -> Floats:
    """Cut every interval at multiples of a unit, into no more than so many parts."""
    first = np.floor(edges[:-1] / step * (1.0 + TIE_TOLERANCE)).astype(np.int64) + 1
    after = np.ceil(edges[1:] / step * (1.0 - TIE_TOLERANCE)).astype(np.int64)
    each = np.maximum(-(-(after - first) // max(pieces - 1, 1)), 1)
    inside = [np.arange(*ends) * step for ends in zip(first, after, each, strict=True)]
    joined = np.concatenate([edges[1:-1], *inside])
    return np.asarray(np.sort(joined))
