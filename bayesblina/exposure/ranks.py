"""Exact order statistics of a column in a query engine, in two passes over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesblina.scan.engines import ibis_module

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 8192


def order_statistics(columns: Sequence[Any], ranks: Ints, *, last: float) -> Floats:
    """Look up the values at given ranks, exactly.

    The first pass counts values in bins, the second fetches the different values of those bins that
    hold a rank.

    Parameters
    ----------
    columns
        Tables with one column, ``value``: numbers from 0 to `last`, all taken together.
    ranks : ndarray of int, shape (rank,)
        Ranks from 0 on.
    last
        Largest value.

    Returns
    -------
    ndarray, shape (rank,)
        The values.
    """
    ibis = ibis_module()
    scale = BINS / last
    values = columns[0]
    for column in columns[1:]:
        values = values.union(column)
    binned = values.mutate(
        bin=ibis.least((values["value"] * scale).floor().cast("int64"), BINS - 1)
    )
    found = binned.group_by("bin").aggregate(n=binned.count()).execute()
    counts = np.zeros(BINS, dtype=np.int64)
    counts[found["bin"].to_numpy(dtype=np.int64)] = found["n"].to_numpy(dtype=np.int64)
    until = np.cumsum(counts)
    wanted = np.unique(np.searchsorted(until, ranks, side="right"))
    inside = binned.filter(binned["bin"].isin([int(one) for one in wanted]))
    different = inside.group_by(["bin", "value"]).aggregate(n=inside.count()).execute()
    different = different.sort_values("value")
    value = different["value"].to_numpy(dtype=np.float64)
    place = different["bin"].to_numpy(dtype=np.int64)
    count = different["n"].to_numpy(dtype=np.int64)
    before = (until - counts)[place]
    # Rank of the last of each value: those in earlier bins, and those of its own bin up to it.
    passed = np.cumsum(count)
    earlier = passed - count
    starts = np.concatenate([[True], place[1:] != place[:-1]])
    base = np.repeat(earlier[starts], np.diff(np.append(np.flatnonzero(starts), place.size)))
    upto = before + passed - base
    return np.asarray(value[np.searchsorted(upto, ranks, side="right")])
