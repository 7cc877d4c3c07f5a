"""The first look at the patients of a scan: who contributes, when, and with which covariates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.episodes import AT_RISK
from bayesblina.core.errors import NAMED_PATIENTS
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.scan import combinations
from bayesblina.patients.scan.passes import State
from bayesblina.person_time.cells.blocks import Asked, Blocks, Rows
from bayesblina.person_time.cells.ordered import BEGIN, BINS, EVENT, Moment, bins_of, moments
from bayesblina.person_time.passes import constant, run_compiled
from bayesblina.person_time.tabulation import Bounds, bounds_of, merged_bounds

if TYPE_CHECKING:
    import pyarrow as pa

# Patients who are looked at singly, for what can be estimated from a sample.
SAMPLE = 2000
# More combinations of levels than this are looked up by bisection.
LISTED = 1_000_000


class Survey:
    """What one look at all patients tells; contributors are those at risk for any endpoint.

    A `bayesblina.patients.scan.passes.Partial`.
    """

    def __init__(self, asked: Asked, *, continuous: int, combinations: int) -> None:
        self._asked, self._combinations = asked, combinations
        self.bounds = [merged_bounds([]) for _ in asked.names]
        self.bins: dict[Moment, Ints] = {
            moment: np.zeros(BINS, dtype=np.int64)
            for moment in (EVENT, BEGIN, *moments(asked.effects))
        }
        self._state: dict[str, Any] = {
            "low": np.full(continuous, np.inf),
            "high": np.full(continuous, -np.inf),
            "spread": np.zeros((3, continuous)),
            "earliest": np.array([np.inf, 0.0]),
        }

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the patients of a block."""
        import pyarrow as pa

        rows = self._asked.rows(batch)
        anywhere = np.zeros(rows.size, dtype=np.bool_)
        for e, (risk, inside) in enumerate(self._asked.risks(rows)):
            anywhere |= inside
            bounds = bounds_of(risk)
            self.bounds[e] = merged_bounds([self.bounds[e], bounds])
            for reason in np.flatnonzero(bounds.reasons[:AT_RISK]):
                ids = batch.column("id").filter(pa.array(risk.reason == reason))
                self._absorb({f"named {e} {reason}": pa.table({"id": ids})})
            if not bounds.reasons[AT_RISK]:
                continue
            self._absorb({"earliest": _earliest_of(risk.begin[inside])})
            _count_bins(risk.begin, inside, self.bins[BEGIN])
            _count_bins(risk.stop, risk.event, self.bins[EVENT])
            for moment, times in self._asked.entered(rows, risk).items():
                _count_bins(times, np.ones(times.size, dtype=np.bool_), self.bins[moment])
        if anywhere.any():
            self._absorb(self._covariates(rows, anywhere))

    def _covariates(self, rows: Rows, anywhere: Bools) -> dict[str, Any]:
        """Describe the covariates of contributors of a block, and choose some of the patients."""
        import pyarrow as pa

        values = [rows.column(f"x{index}")[anywhere] for index in range(self.low.size)]
        codes = rows.column("code")[anywhere]
        if self._combinations <= LISTED:
            present = np.zeros(self._combinations, dtype=np.bool_)
            present[codes] = True
            codes = np.flatnonzero(present)
        chosen = anywhere
        if "sample" in self._state and self._state["sample"].num_rows == SAMPLE:
            largest = self._state["sample"].column("hash")[-1].as_py()
            chosen = anywhere & (rows.column("hash") <= largest)
        sample = pa.Table.from_batches([rows.batch]).take(pa.array(np.flatnonzero(chosen)))
        return {
            "low": np.array([value.min() for value in values]),
            "high": np.array([value.max() for value in values]),
            "spread": np.array([spread_of(value) for value in values]).reshape(-1, 3).T,
            "codes": np.unique(codes),
            "sample": sample,
        }

    def _absorb(self, state: State) -> None:
        """Put what some patients come to beside what others came to."""
        for name, value in state.items():
            merge, known = _MERGES[name.split()[0]], self._state.get(name)
            if known is None:  # of tables not all rows are kept
                known = value[:0]
            self._state[name] = merge(known, value)

    def state(self) -> State:
        """Lay out what the patients come to, for another process."""
        state = dict(self._state)
        for moment, counts in self.bins.items():
            filled = np.flatnonzero(counts)
            state[f"bins {moment}"] = np.stack([filled, counts[filled]])
        for field in fields(Bounds):
            values = [getattr(bound, field.name) for bound in self.bounds]
            state[f"bounds {field.name}"] = np.array(values)
        return state

    def merge(self, state: State) -> None:
        """Add what other patients came to."""
        rest = dict(state)
        for moment, counts in self.bins.items():
            filled, often = rest.pop(f"bins {moment}")
            counts[filled] += often
        columns = {field.name: rest.pop(f"bounds {field.name}") for field in fields(Bounds)}
        for e, known in enumerate(self.bounds):
            other = Bounds(**{name: values[e] for name, values in columns.items()})
            self.bounds[e] = merged_bounds([known, other])
        self._absorb(rest)

    @property
    def codes(self) -> Ints:
        """Combinations of categorical covariates that contributors have, rising."""
        return np.asarray(self._state.get("codes", np.empty(0)), dtype=np.int64)

    @property
    def low(self) -> Floats:
        """Least value of each continuous covariate among contributors."""
        return np.asarray(self._state["low"])

    @property
    def high(self) -> Floats:
        """Largest value of each continuous covariate among contributors."""
        return np.asarray(self._state["high"])

    @property
    def sd(self) -> Floats:
        """Standard deviation of each continuous covariate among contributors."""
        count, _, squares = self._state["spread"]
        return np.asarray(np.sqrt(squares / np.maximum(count, 1.0)))

    @property
    def earliest(self) -> tuple[float, int]:
        """When time at risk begins first of all, and how often, all endpoints together."""
        time, count = self._state["earliest"]
        return float(time), int(count)

    def left_out(self, endpoint: int, reason: int) -> tuple[str, ...]:
        """Name the first few patients who do not contribute to an endpoint, for a reason."""
        named = self._state.get(f"named {endpoint} {reason}")
        return () if named is None else tuple(map(str, named.column("id").to_pylist()))

    def sample(self, columns: list[str]) -> pd.DataFrame:
        """Read `SAMPLE` contributors chosen by a hash of their ids."""
        sample = self._state.get("sample")
        if sample is None:
            return pd.DataFrame({name: [] for name in columns})
        frame: pd.DataFrame = sample.select(columns).to_pandas()
        return frame


def survey(blocks: Blocks) -> Survey:
    """Look at all patients once."""
    make = partial(
        Survey,
        blocks.asked,
        continuous=len(blocks.scan.continuous),
        combinations=combinations(blocks.scan),
    )
    everyone = blocks.eligible(blocks.columns(), hashed=True)
    return blocks.summed(make, *blocks.never_eligible(), everyone)


def spread_of(values: Floats) -> Floats:
    """Take the number of values, their mean and their sum of squares around it."""
    return np.array([values.size, values.mean(), ((values - values.mean()) ** 2).sum()])


def merged_spread(known: Floats, other: Floats) -> Floats:
    """Pool numbers, means and sums of squares, which are rows.

    Sums of squares around the means of parts, and the means' own around the whole's.
    """
    (one_count, one_mean, one_squares), (count, mean, squares) = known, other
    both, apart = np.maximum(one_count + count, 1.0), mean - one_mean
    return np.stack(
        [
            one_count + count,
            one_mean + apart * count / both,
            one_squares + squares + apart**2 * one_count * count / both,
        ]
    )


def _earliest_of(times: Floats) -> Floats:
    """Take the least time, and how many there are of it."""
    least = times.min()
    return np.array([least, np.count_nonzero(times <= least * (1.0 + TIE_TOLERANCE))])


def _merged_earliest(known: Floats, other: Floats) -> Floats:
    first, second = (known, other) if known[0] <= other[0] else (other, known)
    if second[0] <= first[0] * (1.0 + TIE_TOLERANCE):
        return np.array([first[0], first[1] + second[1]])
    return first


def _first_ids(known: pa.Table, new: pa.Table) -> pa.Table:
    """Keep the first few ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if known.num_rows == NAMED_PATIENTS:
        new = new.filter(pc.less(new.column("id"), known.column("id")[-1]))
    both = pa.concat_tables([known, new])
    return both.take(pc.select_k_unstable(both, NAMED_PATIENTS, [("id", "ascending")]))


def _smallest_hashes(known: pa.Table, new: pa.Table) -> pa.Table:
    """Keep the patients with the smallest hashes."""
    import pyarrow as pa

    both = pa.concat_tables([known, new])
    return both.sort_by([("hash", "ascending"), ("id", "ascending")]).slice(0, SAMPLE)


_MERGES: dict[str, Callable[[Any, Any], Any]] = {
    "low": np.minimum,
    "high": np.maximum,
    "spread": merged_spread,
    "earliest": _merged_earliest,
    "codes": np.union1d,
    "named": _first_ids,
    "sample": _smallest_hashes,
}


def _count_bins(times: Floats, rows: Bools, counts: Ints) -> None:
    """Add some times to the counts of their bins."""
    run_compiled(_add_to_bins, constant(bins_of(times)), constant(rows), counts)


def _add_to_bins(bins: Any, rows: Any, counts: Any) -> None:
    for i in range(bins.size):
        if rows[i]:
            counts[bins[i]] += 1
