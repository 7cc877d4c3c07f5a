"""Patients of files added up block by block, as in memory; no more than a block of them is held.

The columns that are needed come from the engine in the order of the files, so that sums, and with
them the draws of a seed, do not depend on how many threads read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesblina.core.arrays import Bools, Floats, Ints
from bayesblina.core.episodes import AT_RISK, NEVER_ELIGIBLE, NEVER_OBSERVED
from bayesblina.core.errors import NAMED_PATIENTS
from bayesblina.core.intervals import TIE_TOLERANCE
from bayesblina.patients.outcomes import Outcome
from bayesblina.patients.scan import CohortScan, coded, combinations
from bayesblina.patients.scan.engines import array_of, batches
from bayesblina.person_time.cells.ordered import bins_to_read, look_up, moments
from bayesblina.person_time.cells.summing import (
    BEGIN,
    EVENT,
    SAMPLE,
    Grouping,
    GroupSums,
    Moment,
    Survey,
    endpoint_columns,
)
from bayesblina.person_time.passes import constant, run_compiled
from bayesblina.person_time.segments import Course
from bayesblina.person_time.tabulation import (
    AtRisk,
    Bounds,
    Tallying,
    at_risk,
    bounds_of,
    entries_of,
    merged_bounds,
    moments_by_group,
)

if TYPE_CHECKING:
    import pyarrow as pa


# Times are counted by the leading bits of their binary form: 1024 bins for each factor of 2.
SHIFT = 42
BINS = 1 << (63 - SHIFT)
# More values than this are kept as different values and their counts.
HELD = 4_000_000
# More combinations of levels than this are looked up by bisection.
LISTED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Some patients: `bayesblina.person_time.tabulation.Block`, and their groups and covariates."""

    size: int
    endpoints: Mapping[str, Outcome]
    phase_start: Floats
    phase_end: Floats
    transplant: Floats | None
    batch: pa.RecordBatch

    def column(self, name: str) -> NDArray[Any]:
        """Take a column as an array."""
        return array_of(self.batch, name)


class StreamedSums:
    """`bayesblina.person_time.cells.summing.Summing` for an engine within this process."""

    def __init__(
        self, scan: CohortScan, course: Course, names: Sequence[str], effects: tuple[int, ...]
    ) -> None:
        self._scan, self._course, self._names = scan, course, list(names)
        self._effects, self._entries = effects, moments(effects)
        self._earliest = np.inf
        self._coded = coded(scan)
        self._bins: dict[Moment, Ints] = {}
        self._named: dict[tuple[int, int], pa.Array] = {}
        self._sample: pd.DataFrame | None = None

    def _never_eligible(self) -> Iterator[pa.RecordBatch]:
        """Read ids and entries of those who never reach the phase of eligibility."""
        table, first = self._coded, self._course.eligible_phase
        if first is not None:
            table = table.filter(table[f"start{first}"].isnull())
            columns = ["id", *(f"entry:{name}" for name in self._names)]
            yield from batches(table.select(*columns), self._scan.source)

    def _blocks(self, columns: Sequence[str], *, hashed: bool = False) -> Iterator[_Rows]:
        """Read columns of those who may become eligible, block by block."""
        table, scan = self._coded, self._scan
        first = self._course.eligible_phase
        if first is not None:
            table = table.filter(table[f"start{first}"].notnull())
        asked = {name: table[name] for name in columns}
        if hashed:
            asked["hash"] = table["id"].hash()
        for batch in batches(table.select(**asked), scan.source):

            def numbers(name: str, batch: Any = batch) -> Floats:
                return array_of(batch, name).astype(np.float64, copy=False)

            def matrix(kind: str, numbers: Any = numbers, batch: Any = batch) -> Floats:
                found = np.full((batch.num_rows, len(scan.phases)), np.nan)
                for index in range(len(scan.phases)):
                    if f"{kind}{index}" in asked:
                        found[:, index] = numbers(f"{kind}{index}")
                return found

            yield _Rows(
                size=batch.num_rows,
                endpoints={
                    name: Outcome(
                        time=numbers(f"time:{name}"),
                        event=array_of(batch, f"event:{name}").astype(np.bool_, copy=False),
                        entry=numbers(f"entry:{name}"),
                    )
                    for name in self._names
                },
                phase_start=matrix("start"),
                phase_end=matrix("end"),
                transplant=numbers("transplant") if "transplant" in asked else None,
                batch=batch,
            )

    def _risks(self, block: _Rows) -> list[AtRisk]:
        return [at_risk(block, self._course, name) for name in self._names]

    def survey(self) -> Survey:
        """Look at all patients once."""
        endpoints = range(len(self._names))
        counts = np.zeros((len(self._names), AT_RISK + 1), dtype=np.int64)
        bounds: list[list[Bounds]] = [[] for _ in endpoints]
        bins: dict[Moment, Ints] = {
            moment: np.zeros(BINS, dtype=np.int64) for moment in (EVENT, BEGIN, *self._entries)
        }
        at_first = _AtFirst()
        spread = [_Spread() for _ in self._scan.continuous]
        codes = _Codes(combinations(self._scan))
        chosen = _Chosen()
        for batch in self._never_eligible():
            for e, name in enumerate(self._names):
                missing = batch.column(f"entry:{name}").is_null().to_numpy(zero_copy_only=False)
                for reason, rows in ((NEVER_OBSERVED, missing), (NEVER_ELIGIBLE, ~missing)):
                    counts[e, reason] += np.count_nonzero(rows)
                    self._name(e, reason, batch.column("id"), rows)
        for block in self._blocks(self._coded.columns, hashed=True):
            anywhere = np.zeros(block.size, dtype=np.bool_)
            ids = block.batch.column("id")
            for e, risk in enumerate(self._risks(block)):
                inside = risk.reason == AT_RISK
                anywhere |= inside
                here = bounds_of(risk)
                counts[e] += here.reasons
                bounds[e].append(here)
                at_first.add(risk.begin[inside])
                _count_bins(risk.begin, inside, bins[BEGIN])
                _count_bins(risk.stop, risk.event, bins[EVENT])
                for moment, times in self._entered(block, risk).items():
                    _count_bins(times, np.ones(times.size, dtype=np.bool_), bins[moment])
                for reason in range(AT_RISK):
                    if here.reasons[reason]:
                        self._name(e, reason, ids, risk.reason == reason)
            codes.add(block.column("code")[anywhere])
            for index, one in enumerate(spread):
                one.add(block.column(f"x{index}")[anywhere])
            chosen.add(block.batch, block.column("hash"), anywhere)
        self._bins, self._earliest = bins, at_first.time
        self._sample = chosen.frame(self._coded.columns)
        whole = [merged_bounds(parts) for parts in bounds]
        return Survey(
            codes=codes.present(),
            reasons=counts,
            first_begin=np.array([one.first_begin for one in whole]),
            last_begin=np.array([one.last_begin for one in whole]),
            last_exit=np.array([one.last_exit for one in whole]),
            time_at_risk=np.array([one.time_at_risk for one in whole]),
            events=np.array([round(one.events) for one in whole], dtype=np.int64),
            low=np.array([one.low for one in spread]),
            high=np.array([one.high for one in spread]),
            sd=np.array([one.sd for one in spread]),
            earliest=at_first.count,
        )

    def _entered(self, block: _Rows, risk: AtRisk) -> dict[Moment, Floats]:
        """Find when patients of a block enter states of each effect."""
        if not self._entries:
            return {}
        times = entries_of(block, risk, self._course, self._effects)
        return {moment: times[effect] for moment, effect in self._entries.items()}

    def entries(self) -> dict[Moment, int]:
        """Count the entries into states of each effect, all endpoints together."""
        return {moment: int(self._bins[moment].sum()) for moment in self._entries}

    def _name(self, endpoint: int, reason: int, ids: pa.Array, rows: Bools) -> None:
        """Keep the first few ids of those who do not contribute."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = ids.filter(pa.array(rows))
        known = self._named.get((endpoint, reason))
        if known is not None and len(known) == NAMED_PATIENTS:
            found = found.filter(pc.less(found, known[-1]))
        if len(found):
            merged = found if known is None else pa.concat_arrays([known, found])
            first = pc.select_k_unstable(merged, NAMED_PATIENTS, [("", "ascending")])
            self._named[endpoint, reason] = merged.take(first)

    def left_out(self, endpoint: int, reason: int) -> tuple[str, ...]:
        """Name the first few patients who do not contribute to an endpoint, for a reason."""
        known = self._named.get((endpoint, reason))
        return () if known is None else tuple(str(one) for one in known.to_pylist())

    def order_statistics(self, ranks: Mapping[Moment, Ints]) -> dict[Moment, Floats]:
        """Look up times at given ranks, all endpoints together, and their neighbours."""
        wanted = bins_to_read(self._bins, ranks)
        held = {moment: _Values() for moment in self._bins}
        for block in self._blocks(self._times()):
            for risk in self._risks(block):
                at = {
                    EVENT: risk.stop[risk.event],
                    BEGIN: risk.begin[risk.reason == AT_RISK],
                    **self._entered(block, risk),
                }
                for moment, times in at.items():
                    held[moment].add(times[wanted[moment][_bins_of(times)]])
        return look_up(
            self._bins,
            {moment: one.counts() for moment, one in held.items()},
            ranks,
            bin_of=_bins_of,
            earliest=self._earliest,
        )

    def _times(self) -> list[str]:
        """Name the columns that say who is at risk, when, and in which state."""
        columns = dict.fromkeys(endpoint_columns(self._names))
        if self._course.eligible_phase is not None:
            columns[f"start{self._course.eligible_phase}"] = None
        marks = self._course.marks if self._entries else ()
        for mark in marks:
            if mark.kind != "transplant":
                columns[f"{mark.kind}{mark.phase}"] = None
        by_transplant = any(mark.kind == "transplant" for mark in marks)
        censors = self._course.censor_at_transplant and self._scan.transplant is not None
        if censors or by_transplant:
            columns["transplant"] = None
        return list(columns)

    def sums(self, grouping: Grouping, cuts: Floats, landmarks: Floats) -> GroupSums:
        """Sum events and person-time."""
        continuous = self._scan.continuous
        axes = () if grouping.compression is None else grouping.compression.axes
        degrees = tuple(axis.nodes for axis in axes)
        tallies = [
            Tallying(self._course, cuts=cuts, groups=grouping.groups, degrees=degrees)
            for _ in self._names
        ]
        patients = np.zeros((grouping.groups, grouping.moments))
        present = np.zeros((len(self._names), landmarks.size, *patients.shape))
        later = landmarks * (1.0 + TIE_TOLERANCE)
        number = combinations(self._scan)
        listed = grouping.group_of(np.arange(number)) if number <= LISTED else None
        unread = {"id"}
        if not self._scan.phase_ends_known:
            unread |= {f"end{index}" for index in range(len(self._scan.phases))}
        columns = [one for one in self._coded.columns if one not in unread]
        for block in self._blocks(columns):
            code = block.column("code")
            group = (grouping.group_of(code) if listed is None else listed[code]).astype(np.int32)
            scaled = None
            if axes:
                values = [block.column(f"x{continuous.index(axis.name)}") for axis in axes]
                parts = [axis.scaled(one) for axis, one in zip(axes, values, strict=True)]
                scaled = np.stack(parts, axis=1)
            anywhere = np.zeros(block.size, dtype=np.bool_)
            for e, risk in enumerate(self._risks(block)):
                inside = risk.reason == AT_RISK
                anywhere |= inside
                tallies[e].add(block, risk, group, scaled=scaled)
                for index, time in enumerate(later):
                    now = inside & (risk.begin <= time) & (risk.stop > time)
                    present[e, index] += moments_by_group(
                        now, group, groups=grouping.groups, scaled=scaled, degrees=degrees
                    )
            patients += moments_by_group(
                anywhere, group, groups=grouping.groups, scaled=scaled, degrees=degrees
            )
        summed = [one.tally() for one in tallies]
        return GroupSums(
            events=np.stack([one.events for one in summed]),
            person_time=np.stack([one.person_time for one in summed]),
            first=np.stack([one.first for one in summed]),
            longest=np.stack([one.longest for one in summed]),
            visitors=np.stack([one.visitors for one in summed]),
            patients=patients,
            at_risk=present,
        )

    def sample(self) -> pd.DataFrame:
        """Read `SAMPLE` contributors chosen by a hash of their ids: columns of `coded`."""
        assert self._sample is not None
        return self._sample


def _bins_of(times: Floats) -> Ints:
    """Take the leading bits of times from 0 on; a larger time has no smaller ones."""
    # A negative zero becomes a positive one.
    return np.asarray((times + 0.0).view(np.int64) >> SHIFT)


class _Values:
    """Values with their counts, in little memory where many are the same."""

    def __init__(self) -> None:
        self._parts: list[Floats] = []
        self._waiting = 0
        self._values = np.empty(0)
        self._counts = np.empty(0, dtype=np.int64)

    def add(self, values: Floats) -> None:
        """Add values."""
        self._parts.append(values)
        self._waiting += values.size
        if self._waiting > HELD:
            self._settle()

    def _settle(self) -> None:
        merged = np.concatenate([self._values, *self._parts])
        weight = np.ones(merged.size, dtype=np.int64)
        weight[: self._counts.size] = self._counts
        self._values, place = np.unique(merged, return_inverse=True)
        counts = np.zeros(self._values.size, dtype=np.int64)
        np.add.at(counts, place, weight)
        self._counts, self._parts, self._waiting = counts, [], 0

    def counts(self) -> tuple[Floats, Ints]:
        """Return the different values, rising, and how often each was added."""
        self._settle()
        return self._values, self._counts


class _AtFirst:
    """The smallest of all times, and how many there are of it."""

    def __init__(self) -> None:
        self.time, self.count = np.inf, 0

    def add(self, times: Floats) -> None:
        """Add times."""
        if not times.size:
            return
        smallest = float(times.min())
        if smallest * (1.0 + TIE_TOLERANCE) < self.time:
            self.time, self.count = smallest, 0
        self.count += int(np.count_nonzero(times <= self.time * (1.0 + TIE_TOLERANCE)))


class _Codes:
    """Combinations of levels that occur."""

    def __init__(self, combinations: int) -> None:
        self._listed = np.zeros(combinations, dtype=np.bool_) if combinations <= LISTED else None
        self._found = np.empty(0, dtype=np.int64)

    def add(self, codes: Ints) -> None:
        """Add patients."""
        if self._listed is None:
            self._found = np.union1d(self._found, codes)
        else:
            self._listed[codes] = True

    def present(self) -> Ints:
        """Return the codes that occur, rising."""
        return self._found if self._listed is None else np.flatnonzero(self._listed)


class _Spread:
    """Range and standard deviation of a covariate."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self._count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, values: Floats) -> None:
        """Add values."""
        if not values.size:
            return
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        mean, count = float(values.mean()), self._count + values.size
        apart = mean - self._mean
        self._squares += float(((values - mean) ** 2).sum())
        self._squares += apart**2 * self._count * values.size / count
        self._mean += apart * values.size / count
        self._count = count

    @property
    def sd(self) -> float:
        """Standard deviation of the values added."""
        return float(np.sqrt(self._squares / self._count)) if self._count else 0.0


class _Chosen:
    """Patients with the smallest hashes."""

    def __init__(self) -> None:
        self._batches: list[pa.Table] = []
        self._rows = 0
        self._largest: Any = None

    def add(self, batch: pa.RecordBatch, hashes: NDArray[Any], rows: Bools) -> None:
        """Look for patients to keep."""
        import pyarrow as pa

        kept = rows if self._largest is None else rows & (hashes <= self._largest)
        places = np.flatnonzero(kept)
        if places.size:
            self._batches.append(pa.Table.from_batches([batch]).take(pa.array(places)))
            self._rows += places.size
        if self._rows > 10 * SAMPLE:
            self._prune()

    def _prune(self) -> None:
        import pyarrow as pa

        whole = pa.concat_tables(self._batches)
        whole = whole.sort_by([("hash", "ascending"), ("id", "ascending")]).slice(0, SAMPLE)
        self._batches, self._rows = [whole], whole.num_rows
        if self._rows == SAMPLE:
            self._largest = whole.column("hash")[-1].as_py()

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return the patients kept."""
        if not self._batches:
            return pd.DataFrame({name: [] for name in columns})
        self._prune()
        found: pd.DataFrame = self._batches[0].select(list(columns)).to_pandas()
        return found


def _count_bins(times: Floats, rows: Bools, counts: Ints) -> None:
    """Add some times to the counts of their bins."""
    run_compiled(_add_to_bins, constant(_bins_of(times)), constant(rows), counts)


def _add_to_bins(bins: Any, rows: Any, counts: Any) -> None:
    for i in range(bins.size):
        if rows[i]:
            counts[bins[i]] += 1
