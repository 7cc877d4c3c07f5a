"""Exact order statistics of times in a query engine, and their neighbours, in two passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesblina.core.arrays import Floats, Ints
from bayesblina.patients.scan.engines import ibis_module
from bayesblina.person_time.cells.ordered import bins_to_read, look_up
from bayesblina.person_time.cells.summing import Moment

BINS = 8192


def order_statistics(
    sets: Mapping[Moment, Sequence[Any]],
    ranks: Mapping[Moment, Ints],
    *,
    last: float,
    earliest: float,
) -> dict[Moment, Floats]:
    """Look up times at given ranks, exactly, and their neighbours.

    A first query of each kind of moment counts times in bins, a second one fetches the different
    times of those bins that hold a rank or a neighbour.

    Parameters
    ----------
    ranks : mapping of ndarray of int, shape (rank,)
        Ranks from 0 on.

    Returns
    -------
    dict of ndarray, shape (3, rank)
        As of `bayesblina.person_time.cells.ordered.look_up`.
    """
    ibis = ibis_module()
    scale = BINS / last
    binned, counts = {}, {}
    for moment, columns in sets.items():
        values = columns[0]
        for column in columns[1:]:
            values = values.union(column)
        binned[moment] = values.mutate(
            bin=ibis.least((values["value"] * scale).floor().cast("int64"), BINS - 1)
        )
        found = binned[moment].group_by("bin").aggregate(n=binned[moment].count()).execute()
        counts[moment] = np.zeros(BINS, dtype=np.int64)
        counts[moment][found["bin"].to_numpy(dtype=np.int64)] = found["n"].to_numpy(dtype=np.int64)
    values_of = {}
    places: dict[float, int] = {}
    for moment, wanted in bins_to_read(counts, ranks).items():
        inside = binned[moment].filter(
            binned[moment]["bin"].isin([int(one) for one in np.flatnonzero(wanted)])
        )
        found = inside.group_by(["bin", "value"]).aggregate(n=inside.count()).execute()
        found = found.sort_values("value")
        value = found["value"].to_numpy(dtype=np.float64)
        # The engine's own bins: rounding may put a time at an edge elsewhere.
        places |= dict(zip(value.tolist(), found["bin"].tolist(), strict=True))
        values_of[moment] = (value, found["n"].to_numpy(dtype=np.int64))

    def bin_of(times: Floats) -> Ints:
        return np.array([places[time] for time in times.tolist()], dtype=np.int64)

    return look_up(counts, values_of, ranks, bin_of=bin_of, earliest=earliest)
